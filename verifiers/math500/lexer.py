r"""The tokens of a mathematical answer, LaTeX or plain text, in one pass.

A token is (kind, value, if white space stands before it). Kinds: NUMBER (digits with at most one point,
thousands groups already joined), LETTERS (one variable), WORD (text), COMMAND (`frac`), SIGN (anything else).
There is no Unicode normalisation: one explicit map turns characters into LaTeX, and what is not in it is refused.
"""

from __future__ import annotations

from decimal import Decimal
from itertools import groupby
from string import ascii_letters
from unicodedata import decimal

from verifiers.characters import DIVISION_SIGNS, FULLWIDTH, THIN_SPACES, ZERO_WIDTH
from verifiers.math500.units import ABBREVIATED, KNOWN_WORDS
from verifiers.math500.words import JOINING, ORDINALS, SHORT_WORDS

NUMBER, LETTERS, WORD, COMMAND, SIGN = "number", "letters", "word", "command", "sign"
Token = tuple[str, str, bool]

TEXT_LIMIT = 4096  # characters that are parsed; longer answers are compared as text and as numbers only
TOKEN_LIMIT = 1500
DIGIT_LIMIT = 1000  # of one number

SUPERSCRIPTS = dict(zip("⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺ⁿ", "0123456789-+n", strict=True))
SUBSCRIPTS = dict(zip("₀₁₂₃₄₅₆₇₈₉", "0123456789", strict=True))
SMALL = SUPERSCRIPTS | SUBSCRIPTS
TABLE = str.maketrans({
    **{code: chr(code - FULLWIDTH) for code in range(0xFF01, 0xFF5F)},
    **dict.fromkeys((*THIN_SPACES, 0x2002, 0x2003, 0x2004, 0x2005, 0x205F, 0x3000), r"\,"),
    **dict.fromkeys(ZERO_WIDTH, ""),
    **dict.fromkeys(DIVISION_SIGNS, "/"),
    **dict.fromkeys("\u2212\u2010\u2011\u2013", "-"),
    **dict.fromkeys("×∙⋅·", r"\times "),
    **dict.fromkeys("°º˚", r"^\circ "), **dict.fromkeys("“”", '"'),
    "√": r"\sqrt ", "π": r"\pi ", "∞": r"\infty ", "∪": r"\cup ",
    "∩": r"\cap ", "∈": r"\in ", "≤": r"\le ", "≥": r"\ge ", "≠": r"\ne ", "≈": r"\approx ", "±": r"\pm ",
    "∓": r"\mp ", "∅": r"\emptyset ", "∠": r"\angle ", "′": "'", "″": "''", "’": "'", "…": r"\dots ", "θ": r"\theta ",
    "α": r"\alpha ", "β": r"\beta ", "γ": r"\gamma ", "λ": r"\lambda ", "φ": r"\phi ", "ω": r"\omega ",
    "½": r"\frac{1}{2}", "¼": r"\frac{1}{4}", "¾": r"\frac{3}{4}", "⅓": r"\frac{1}{3}", "⅔": r"\frac{2}{3}",
    "。": ".", "、": ",", "ℝ": r"\mathbb{R}", "ℤ": r"\mathbb{Z}", "€": r"\text{ euros}", "¢": r"\text{ cents}",
})  # fmt: skip

SPACES = frozenset({",", ";", ":", " ", "quad", "qquad", "enspace", "thinspace", ">", "\n", "space", "hfill"})
DROPPED = frozenset(
    "! left right big Big bigg Bigg bigl bigr Bigl Bigr biggl biggr displaystyle textstyle scriptstyle limits "
    "nolimits mathbf boldsymbol mathcal vec overrightarrow hat bm bf rm it boxed fbox ( ) [ ] "
    "underline tiny small normalsize large Large LARGE huge Huge mathsf mathtt mathit ensuremath "
    "vphantom checkmark blacksquare".split()
)
WITH_ARGUMENT = frozenset("color textcolor phantom hphantom hspace".split())  # dropped with what they take
TEXTS = frozenset("text textbf textit textrm texttt textsf mbox mathrm operatorname textnormal emph".split())
PLAIN = frozenset("frac sqrt pi".split())  # the most frequent commands, of which nothing is to be said
ALIASES = {
    "dfrac": "frac", "tfrac": "frac", "cfrac": "frac", "leq": "le", "leqslant": "le", "geq": "ge",
    "geqslant": "ge", "neq": "ne", "lt": "<", "gt": ">", "lvert": "|", "rvert": "|", "vert": "|", "mid": "|",
    "lbrace": "\\{", "rbrace": "\\}", "{": "\\{", "}": "\\}", "times": "*", "cdot": "*", "ast": "*", "div": "/",
    "degree": "deg", "degrees": "deg", "dbinom": "binom", "tbinom": "binom", "colon": ":", "lbrack": "[",
    "rbrack": "]", "arccos": "acos", "arcsin": "asin", "arctan": "atan", "\\": "\\\\", "newline": "\\\\",
    "cr": "\\\\", "%": "%", "$": "\\$", "&": "and", "varnothing": "emptyset", "ldots": "dots", "cdots": "dots",
    "land": "and", "lor": "or", "wedge": "and", "vee": "or", "backslash": "setminus", "prime": "'", "varphi": "phi",
    "implies": "Rightarrow", "rightarrow": "Rightarrow", "Longrightarrow": "Rightarrow", "longrightarrow": "Rightarrow",
    "bigcup": "cup", "bar": "overline", "#": "#", "_": "_", "oslash": "emptyset", "mod": "bmod", "oo": "infty",
    "lg": "log",
}  # fmt: skip
SIGN_ALIASES = frozenset("< > | \\{ \\} * / : [ ] \\\\ % \\$ ' # _".split())
BARE_COMMANDS = frozenset(  # read as commands without their backslash, too
    "sin cos tan cot sec csc asin acos atan arcsin arccos arctan log ln lg exp sqrt pi gcd lcm max min det "
    "infty binom frac sinh cosh tanh sech csch coth cis deg cup abs oo".split()
)
OPENS = ("(", "{", "[", "|", "_", "\\")  # after `min` the function, else minutes
VARIABLES = frozenset(ascii_letters) - frozenset("aA")  # letters that are no words
NO_WORD_BEFORE = {"boxed": "{", "left": tuple("([|)]"), "right": tuple("([|)]")}
UPRIGHT = BARE_COMMANDS - {"min", "max", "deg"} | {"e", "i"}
PRIMES = (r"^{\prime\prime}", r"^{\prime \prime}", r"^{\prime}", r"^\prime")
HYPHENS = ("-", "$-", "$$-", "\\text{-")
HYPHENATED = tuple(f"-{word}" for word in "intercept axis axes coordinate asymptote".split())  # x-intercept
CONTINUING = frozenset(".,{\\eE")  # what may go on with a number
BAR = ".\\overline"  # over what repeats behind the point
LENGTHS = ("pt", "em", "ex", "mm", "cm")
ASCII_DIGITS = frozenset("0123456789")
PLAIN_SIGNS = frozenset("()[]+-*/^_=<>|,:%&?@#")
SPECIAL_SIGNS = frozenset("!;'.\"`")


class Malformed(Exception):
    """The text is no answer in any accepted notation."""


class Unsupported(Malformed):
    """Mathematics that is not judged, such as an integral or a sum with a sign."""


class Lexer:
    """Splits one answer; what it reads is at `position`. Raises `Malformed` for what no notation has."""

    def __init__(self, text: str, variables: frozenset[str] | None) -> None:
        if len(text) > TEXT_LIMIT:
            raise Malformed("too long")
        self.text = text if text.isascii() else to_latex(text)
        self.text = self.text.replace("...", "\\dots ").replace("{:}", ":")
        for primes in PRIMES if "prime" in self.text else ():
            self.text = self.text.replace(primes, "'" * primes.count("\\"))
        self.variables = variables
        self.letters_of_reference = ascii_letters if variables is None else variables
        self.prose, self.in_dollars = False, True
        if variables is None:
            letters = text.replace(" ", "").replace("-", "")
            self.prose = letters.isascii() and letters.isalpha()
            dollars = text.count("$") - text.count("\\$")
            self.in_dollars = dollars == 0 or dollars % 2 == 1  # which may be a currency
        self.tokens: list[Token] = []
        self.position = 0
        self.spaced = False
        self.depth = 0  # of brackets, in which a comma never groups digits
        self.braces: list[bool] = []  # of each open brace: if it is of a \text

    def run(self) -> list[Token]:
        text, size, tokens = self.text, len(self.text), self.tokens
        while self.position < size:
            c = text[self.position]
            if c in ASCII_DIGITS:
                self.number()
            elif c == "*" and text.startswith("**", self.position):  # x**2, as a program writes it
                self.position += 2
                self.add(SIGN, "^")
            elif c in PLAIN_SIGNS:
                self.position += 1
                if c in "([)]":
                    self.depth += 1 if c in "([" else -1
                tokens.append((SIGN, c, self.spaced))
                self.spaced = False
            elif c == "\\":
                self.command()
            elif c in "{}":
                self.position += 1
                self.brace(c)
            elif c == " ":
                self.position += 1
                self.spaced = True
            elif c.isalpha():
                self.letters()
            else:
                self.other(c)
        if len(tokens) > TOKEN_LIMIT:
            raise Malformed("too many tokens")
        if self.braces:
            raise Malformed("brace")
        if tokens and tokens[-1][1] in (".", ",", ";"):
            tokens.pop()
        return tokens

    def other(self, c: str) -> None:
        """A sign that says different things in different places, white space, or what no notation has."""
        text, in_text = self.text, True in self.braces
        if c.isdigit() or (
            c == "."
            and (text[self.position + 1 : self.position + 2].isdigit() or text.startswith(BAR, self.position))
        ):
            self.number()
            return
        self.position += 1
        if c == "!" and self.spaced and text.startswith("=", self.position):  # 5!=120 is a factorial
            self.position += 1
            self.add(COMMAND, "ne")
        elif c == "." and self.tokens and self.tokens[-1][1].lower() in ABBREVIATED and not self.spaced:
            pass  # sq. ft.
        elif c in "\"`'" and in_text:
            self.spaced = True  # quotes
        elif c in SPECIAL_SIGNS and not (c == ";" and in_text):
            self.add(SIGN, c)
        elif c.isspace() or c == "~":
            self.spaced = True
        elif c != "$":
            raise Malformed(f"character {c!r}")
        elif self.variables is None and not text.startswith("$", self.position):  # of $$, the second
            self.in_dollars = not self.in_dollars

    def brace(self, c: str) -> None:
        if c == "{":
            self.braces.append(False)
            self.add(SIGN, c)
        elif not self.braces:
            raise Malformed("brace")
        elif self.braces.pop():
            self.spaced = True
        else:
            self.add(SIGN, c)

    def add(self, kind: str, value: str) -> None:
        self.tokens.append((kind, value, self.spaced))
        self.spaced = False

    def skip_digits(self, start: int) -> int:
        text, end = self.text, len(self.text)
        while start < end and text[start] in ASCII_DIGITS:
            start += 1
        return start

    def number(self) -> None:
        """Digits, thousands groups, a decimal part, an exponent as in 1.5e3."""
        text, start = self.text, self.position
        end = self.skip_digits(start)
        value = text[start:end]
        following = text[end : end + 2]
        if following[:1] not in CONTINUING or (following[:1] in "\\{" and following[1:] != ","):
            if end == start:
                raise Malformed("digit")  # of another alphabet
            if end - start > DIGIT_LIMIT:
                raise Malformed("too many digits")
            self.position = end
            self.tokens.append((NUMBER, value, self.spaced))
            self.spaced = False
            return
        if 1 <= end - start <= 3 and value[0] != "0":
            thin = text.startswith("\\", end)
            while (group := self.group(end)) >= 0 and text.startswith("\\", end) == thin:
                value, end = value + text[group : group + 3], group + 3
        if text.startswith(".", end) and (stop := self.skip_digits(end + 1)) > end + 1:
            value, end = value + text[end:stop], stop
        elif text.startswith(BAR, end):
            value, end = (value or "0") + ".", end + 1
        if end == start:
            raise Malformed("digit")  # of another alphabet
        if text.startswith(("e", "E"), end):
            value, end = self.scientific(value, end)
        if len(value) > DIGIT_LIMIT:
            raise Malformed("too many digits")
        self.position = end
        self.add(NUMBER, value)

    def scientific(self, value: str, end: int) -> tuple[str, int]:
        """1.5e3 as 1500: an e with a whole number of at most three digits right behind it."""
        start = end + 2 if self.text.startswith(("+", "-"), end + 1) else end + 1
        stop = self.skip_digits(start)
        if not 1 <= stop - start <= 3 or self.text.startswith(".", stop):
            return value, end
        return f"{Decimal(value + self.text[end:stop]):f}", stop

    def group(self, at: int) -> int:
        """Where the three digits of a thousands group stand, if a separator and they follow `at`; else -1."""
        if self.text[at : at + 1] not in ("{", "\\", ","):
            return -1
        for separator in ("{,}", "\\,", ",\\!", ","):
            if self.text.startswith(separator, at) and not (separator == "," and self.depth):
                at += len(separator)
                while separator == ",\\!" and self.text.startswith(" ", at):
                    at += 1
                return at if self.skip_digits(at) == at + 3 else -1
        return -1

    def letters(self) -> None:
        """A run of letters: one word, a function written without its backslash, or a product of variables."""
        text, end = self.text, self.position + 1
        while text[end : end + 1].isalpha():
            end += 1
        run, self.position = text[self.position : end], end
        if (
            len(run) == 1
            and run in VARIABLES
            and not text.startswith(HYPHENS, end)
            and True not in self.braces
        ):
            self.tokens.append((LETTERS, run, self.spaced))
            self.spaced = False
            return
        if not run.isascii():
            raise Malformed("letter")
        if text.startswith(NO_WORD_BEFORE.get(run, ()), end):
            return  # the backslash was forgotten
        if len(run) == 1 and text.startswith(HYPHENS, end):
            mark, hyphen, _ = text[end : end + 7].partition("-")
            if text.startswith(HYPHENATED, end + len(mark)):
                self.position = end + len(mark + hyphen)
                self.braces += [True] * mark.count("{")
                return
        behind = text[end:].lstrip()[:4] if run == "min" or run in "aA" else ""
        if True in self.braces or run.lower() in KNOWN_WORDS or self.is_word(run, behind):
            self.word(run)
        elif run in BARE_COMMANDS:
            self.add(COMMAND, ALIASES.get(run, run))
        elif self.is_product(run):
            for letter in run:
                self.add(LETTERS, letter)
        else:
            self.word(run)

    def word(self, run: str) -> None:
        """A word with what a hyphen or an apostrophe joins to it: two-digit, isn't, Vieta's."""
        text, end = self.text, self.position
        while len(run) > 1 and text[end : end + 1] in ("-", "'") and text[end + 1 : end + 2].isalpha():
            stop = end + 1
            while text[stop : stop + 1].isalpha():
                stop += 1
            if text[end] == "-" and stop - end < 4:
                break
            run, end = run + text[end:stop], stop
        self.position = end
        self.add(WORD, run)

    def is_word(self, run: str, behind: str) -> bool:
        """True for minutes, the th of 5th, and the `a` of "a circle": a word of four letters or more behind it."""
        if run == "min":
            return not behind.startswith(OPENS)
        if run in ORDINALS:
            return bool(self.tokens) and self.tokens[-1][0] == NUMBER and not self.spaced
        word = (
            run in "aA" and self.text.startswith(" ", self.position) and len(behind) == 4 and behind.isalpha()
        )
        return word and behind.islower() and (self.prose or run not in self.letters_of_reference)

    def is_product(self, run: str) -> bool:
        if self.tokens and self.tokens[-1][0] == NUMBER and not self.spaced:
            return True  # 5abc: a unit that is run into its number is one of the table
        if not self.in_dollars and (len(run) > 2 or run.lower() in SHORT_WORDS):
            return False  # the words of a reference around its mathematics
        if run.lower() in SHORT_WORDS and not all(letter in self.letters_of_reference for letter in run):
            return False
        if self.variables is None:
            return len(run) <= 3 and not (self.prose and len(run) == 3)
        return len(run) <= 2 or all(letter in self.variables for letter in run)

    def command(self) -> None:
        text, start = self.text, self.position + 1
        end = start
        while end < len(text) and text[end].isascii() and text[end].isalpha():
            end += 1
        name = text[start : max(end, start + 1)]
        self.position = end = start + len(name)
        if name in PLAIN:
            self.add(COMMAND, name)
        elif name in SPACES or (not name and end == len(text)):  # the space of a last "\\ " was stripped
            self.spaced = True
        elif name in WITH_ARGUMENT:
            self.braced(80)
        elif name == "mathbb":
            self.number_set()
        elif name in ("operatorname", "mathrm", "text") and self.upright(name):
            pass
        elif name == "not" and text.startswith("=", end):
            self.position += 1
            self.add(COMMAND, "ne")
        elif name in TEXTS:
            while text.startswith(" ", self.position):
                self.position += 1
            if text.startswith("{", self.position):
                self.position += 1
                self.braces.append(True)
                self.spaced = True
        elif name in DROPPED:
            if name in ("left", "right") and text[end : end + 1] == ".":
                self.position = end + 1
        elif name in ("begin", "end"):
            kind = self.braced(20)
            if name == "begin" and kind == "array" and text.startswith("{", self.position):
                self.braced(40)  # its columns
            self.depth += 1 if name == "begin" else -1
            self.add(COMMAND, f"{name} {kind}")
        elif name.isalpha() or name in ALIASES or name in "|'":
            name = ALIASES.get(name, name)
            self.depth += (name in ("\\{", "[")) - (name in ("\\}", "]"))
            self.add(WORD if name in JOINING else SIGN if name in SIGN_ALIASES else COMMAND, name)
            if name == "\\\\" and text.startswith("[", end):
                length = text[end : end + 12].partition("]")[0]
                self.position += len(length) + 1 if length.endswith(LENGTHS) else 0
        else:
            raise Malformed(f"\\{name}")

    def upright(self, name: str) -> bool:
        r"""True if a function or a constant stood in \operatorname or \mathrm, which is read: no word.

        In \text it is one if it has an argument in brackets.
        """
        close = self.text.find("}", self.position, self.position + 12)
        inside = self.text[self.position : close].strip("{ ")
        if close < 0 or inside not in (UPRIGHT if name == "mathrm" else BARE_COMMANDS):
            return False
        if name == "text" and not self.text.startswith(("(", "\\left", "\\{", "\\big"), close + 1):
            return False
        self.position = close + 1
        self.add(LETTERS if len(inside) == 1 else COMMAND, ALIASES.get(inside, inside))
        return True

    def number_set(self) -> None:
        """The letter of a set of numbers."""
        while self.text.startswith(" ", self.position):
            self.position += 1
        if self.text.startswith("{", self.position):
            name = self.braced(8)
        else:
            name, self.position = self.text[self.position : self.position + 1], self.position + 1
        if len(name) != 1 or not name.isalpha():
            raise Malformed("a set of numbers")
        self.add(COMMAND, f"mathbb {name}")

    def braced(self, limit: int) -> str:
        close = self.text.find("}", self.position, self.position + limit)
        if not self.text.startswith("{", self.position) or close < 0:
            raise Malformed("environment")
        name, self.position = self.text[self.position + 1 : close].strip(), close + 1
        return name


def to_latex(text: str) -> str:
    """The text with every known character beyond ASCII as its LaTeX form, and runs of superscripts as powers."""
    parts = []
    for mark, run in groupby(text, lambda c: "^" if c in SUPERSCRIPTS else "_" if c in SUBSCRIPTS else ""):
        plain = "".join(str(decimal(c)) if c > "\x7f" and c.isdecimal() else SMALL.get(c, c) for c in run)
        parts.append(f"{mark}{{{plain}}}" if mark else plain)
    return "".join(parts).translate(TABLE)
