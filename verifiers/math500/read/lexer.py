r"""The tokens of a mathematical answer, LaTeX or plain text, in one pass.

A token is (kind, value, True if white space stands before it). Kinds: NUMBER (digits with at most one point; thousands
groups are joined already), LETTERS (one variable), WORD (text), COMMAND (`frac`), SIGN (anything else).
There is no Unicode normalisation: `LATEX_OF` has LaTeX for some characters beyond ASCII; all others are refused.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal
from itertools import groupby
from string import ascii_letters
from unicodedata import decimal

from verifiers.amounts import CODES, SIGNS
from verifiers.characters import DIVISION_SIGNS, FULLWIDTH, THIN_SPACES, ZERO_WIDTH
from verifiers.math500.read.units import ABBREVIATED, KNOWN_WORDS, SYMBOLS, UNITS, power_of
from verifiers.math500.read.words import JOINING, ORDINALS, SHORT_NOUNS, SHORT_WORDS, is_short_word

NUMBER, LETTERS, WORD, COMMAND, SIGN = "number", "letters", "word", "command", "sign"
Token = tuple[str, str, bool]  # (kind, value, True if white space stands before it)

TEXT_LIMIT = 4096  # characters; longer answers are not parsed, but compared as text and as numbers
TOKEN_LIMIT = 1500  # tokens of an answer
DIGIT_LIMIT = 1000  # digits of one number

MICRO = "µ"  # the prefix of a unit: 5 µm
OMEGA = "\\Omega"  # a variable, or the unit ohm
METRIC_LETTERS = frozenset("kMm")  # prefixes before \\Omega: 5 k\\Omega
SUPERSCRIPTS = dict(zip("⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺ⁿ", "0123456789-+n", strict=True))
SUBSCRIPTS = dict(zip("₀₁₂₃₄₅₆₇₈₉", "0123456789", strict=True))
SCRIPTS = SUPERSCRIPTS | SUBSCRIPTS
LATEX_OF = str.maketrans({  # {a character beyond ASCII: LaTeX or ASCII for it}
    **{code: chr(code - FULLWIDTH) for code in range(0xFF01, 0xFF5F)},  # the full-width forms of ASCII characters
    **dict.fromkeys((*THIN_SPACES, 0x2002, 0x2003, 0x2004, 0x2005, 0x205F, 0x3000), r"\,"),  # spaces of other widths
    **dict.fromkeys(ZERO_WIDTH, ""),
    **dict.fromkeys(DIVISION_SIGNS, "/"),
    **dict.fromkeys("\u2212\u2010\u2011\u2013", "-"),  # the minus sign, two hyphens and a dash
    **dict.fromkeys("×∙⋅·", r"\times "),
    **dict.fromkeys("°º˚", r"^\circ "), **dict.fromkeys("“”", '"'),
    "√": r"\sqrt ", "π": r"\pi ", "∞": r"\infty ", "∪": r"\cup ",
    "∩": r"\cap ", "∈": r"\in ", "≤": r"\le ", "≥": r"\ge ", "≠": r"\ne ", "≈": r"\approx ", "±": r"\pm ",
    "∓": r"\mp ", "∅": r"\emptyset ", "∠": r"\angle ", "′": "'", "″": "''", "’": "'", "…": r"\dots ", "θ": r"\theta ",
    "α": r"\alpha ", "β": r"\beta ", "γ": r"\gamma ", "λ": r"\lambda ", "φ": r"\phi ", "ω": r"\omega ",
    "½": r"\frac{1}{2}", "¼": r"\frac{1}{4}", "¾": r"\frac{3}{4}", "⅓": r"\frac{1}{3}", "⅔": r"\frac{2}{3}",
    "Ω": r"\Omega ", "\u2126": r"\Omega ", "μ": MICRO,
    "。": ".", "、": ",", "ℝ": r"\mathbb{R}", "ℤ": r"\mathbb{Z}", "℃": r"^\circ C",
    "℉": r"^\circ F",
})  # fmt: skip

SPACES = frozenset(
    {"", ",", ";", ":", " ", "quad", "qquad", "enspace", "thinspace", ">", "\n", "space", "hfill"}
)
"""Commands that are white space: the `\\quad` of `1 \\quad 2`. "" is a backslash at the end of the text."""
DROPPED = frozenset(
    "! left right big Big bigg Bigg bigl bigr Bigl Bigr biggl biggr displaystyle textstyle scriptstyle limits "
    "nolimits mathbf boldsymbol mathcal vec overrightarrow hat bm bf rm it boxed fbox ( ) [ ] "
    "underline tiny small normalsize large Large LARGE huge Huge mathsf mathtt mathit ensuremath "
    "vphantom checkmark blacksquare".split()
)
"""Commands that change nothing but the looks: `\\left(` is `(`."""
WITH_ARGUMENT = frozenset("color textcolor phantom hphantom hspace".split())
"""Commands that are dropped with their argument: `\\color{red} 5` is 5."""
TEXTS = frozenset("text textbf textit textrm texttt textsf mbox mathrm operatorname textnormal emph".split())
"""Commands whose argument is words: `\\text{east}`."""
UPRIGHT_IN = frozenset("operatorname mathrm text".split())
"""Those of `TEXTS` that may hold a function or a constant, too: `\\mathrm{e}`, `\\operatorname{lcm}`."""
ALIASES = {  # {name of a command: the name under which it is read}
    "dfrac": "frac", "tfrac": "frac", "cfrac": "frac", "leq": "le", "leqslant": "le", "geq": "ge",
    "geqslant": "ge", "neq": "ne", "lt": "<", "gt": ">", "lvert": "|", "rvert": "|", "vert": "|", "mid": "|",
    "lbrace": "\\{", "rbrace": "\\}", "{": "\\{", "}": "\\}", "times": "*", "cdot": "*", "ast": "*", "div": "/",
    "degree": "deg", "degrees": "deg", "dbinom": "binom", "tbinom": "binom", "colon": ":", "lbrack": "[",
    "rbrack": "]", "arccos": "acos", "arcsin": "asin", "arctan": "atan", "\\": "\\\\", "newline": "\\\\",
    "cr": "\\\\", "%": "%", "$": "\\$", "&": "and", "varnothing": "emptyset", "ldots": "dots", "cdots": "dots",
    "land": "and", "lor": "or", "wedge": "and", "vee": "or", "backslash": "setminus", "prime": "'", "varphi": "phi",
    "implies": "Rightarrow", "rightarrow": "Rightarrow", "Longrightarrow": "Rightarrow", "longrightarrow": "Rightarrow",
    "bigcup": "cup", "bar": "overline", "#": "#", "_": "_", "oslash": "emptyset", "mod": "bmod", "oo": "infty",
    "infinity": "infty",
    "lg": "log",
}  # fmt: skip
SIGN_ALIASES = frozenset("< > | \\{ \\} * / : [ ] \\\\ % \\$ ' # _".split())
"""Values of `ALIASES` that are a SIGN and no COMMAND: `\\lt` is <."""
BARE_COMMANDS = frozenset(
    "sin cos tan cot sec csc asin acos atan arcsin arccos arctan log ln lg exp sqrt pi gcd lcm max min det "
    "infty infinity binom frac sinh cosh tanh sech csch coth cis deg cup abs oo".split()
)
"""Runs of letters that are commands without their backslash, too: "sqrt(2)" is `\\sqrt(2)`."""
BEHIND_FUNCTION = ("(", "{", "[", "|", "_", "\\")
"""Signs behind "min" that make it the function: min(3, 5). Without one of them it means minutes: 5 min."""
LETTERS_OF_TWO_KINDS = frozenset(["min", "cup", "a", "A"])
"""Runs of letters that are a word only by what stands behind them: the cup of "3/4 cup", the a of "a dog"."""
FORGOTTEN_BACKSLASH = {"boxed": "{", "left": tuple("([|)]"), "right": tuple("([|)]")}
"""{letters: the signs behind them by which they are a command without its backslash}: "boxed{5}" is 5."""
UPRIGHT = (BARE_COMMANDS - {"min", "max", "deg"}) | {"e", "i"}
"""What `\\mathrm{...}` may hold as a function or a constant: `\\mathrm{gcd}`. Its min, max and deg are words."""
PRIMES = (  # LaTeX for one or two primes
    r"^{\prime\prime}",
    r"^{\prime \prime}",
    r"^{\prime}",
    r"^\prime",
)
CONTINUING = frozenset(".,{\\eE")
"""Characters that may continue a number behind its first digits: 1,000 or 1.5 or 2e3."""
THOUSANDS_SEPARATORS = {
    "{": ("{,}",),
    "\\": ("\\,",),
    ",": (",\\!", ","),
}
"""{first character: the separators of thousands groups that begin with it}: 10{,}000 is 10000."""
POINT_AND_BAR = ".\\overline"  # a point and the bar over all digits behind it: 0.\overline{6}
LENGTHS = ("pt", "em", "ex", "mm", "cm")  # units of TeX, as in \\[2pt]
ASCII_DIGITS = frozenset("0123456789")
LATIN = frozenset(ascii_letters)
BEFORE_ITEM = frozenset({"", ",", ";", *JOINING})  # before an item of a list; "" at the start


class Malformed(Exception):
    """The text is no answer in any accepted notation."""


class Unsupported(Malformed):
    """The text is mathematics that is not judged, such as a limit or a double integral."""


def is_plain(tokens: Sequence[Token]) -> bool:
    """True if no letter, sum or difference stands behind the last equals sign: for R = 5 and -5, not for x-5."""
    value_before = ""
    plain = True
    for kind, value, _ in tokens:
        # At the start and behind one of these signs, a minus only makes a number negative.
        is_difference = value == "-" and value_before not in ("", "=", "{", "(")
        if value == "=":
            plain = True
        elif kind == LETTERS or value == "+" or is_difference:
            plain = False
        value_before = value
    return plain


def tokens_of(text: str, variables: frozenset[str] | None) -> list[Token]:
    """The tokens of a text. `variables`: the letters of the reference; None if the text is the reference."""
    return Lexer(text, variables).run()


class Lexer:
    """Splits one answer into tokens; `position` is the next character to read.

    A method that takes `c`, the character at `position`, reads on from there and adds the tokens that it finds. Methods
    that take `name` read on behind this command. Which method reads which character or command is told below the class,
    in `READERS` and `COMMAND_READERS`. `Malformed` is raised for what no notation has.
    """

    def __init__(self, text: str, variables: frozenset[str] | None) -> None:
        if len(text) > TEXT_LIMIT:
            raise Malformed("too long")
        is_reference = variables is None
        if is_reference and "$" in text and "\\$" not in text:
            text = with_price_marked(text)
            has_price = "\\$" in text
            if not has_price:
                text = with_words_marked(text)
        self.text = text if text.isascii() else to_latex(text)
        self.text = self.text.replace("...", "\\dots ").replace("{:}", ":").replace("\\not=", "\\ne ")
        if "prime" in self.text:
            for primes in PRIMES:
                self.text = self.text.replace(primes, "'" * primes.count("\\"))  # one ' for each \prime
        self.variables = variables
        # A reference may have any letter.
        self.letters_of_reference = LATIN if variables is None else variables
        self.tokens: list[Token] = []
        self.position = 0
        self.spaced = False  # True if white space stands before the next token
        self.depth = 0  # how many brackets are open; in them a comma never groups digits
        self.braces: list[bool] = []  # for each open brace, True if it belongs to a \text

    def run(self) -> list[Token]:
        """The tokens of the whole text."""
        text, size, tokens = self.text, len(self.text), self.tokens
        while self.position < size:
            c = text[self.position]
            READERS.get(c, Lexer.unknown)(self, c)
        if len(tokens) > TOKEN_LIMIT:
            raise Malformed("too many tokens")
        if self.braces:
            raise Malformed("brace")
        if tokens and tokens[-1][1] in (".", ",", ";"):
            tokens.pop()
        return tokens

    def add(self, kind: str, value: str) -> None:
        """Adds a token."""
        self.tokens.append((kind, value, self.spaced))
        self.spaced = False

    # ---- signs ----

    def unknown(self, c: str) -> None:
        """Refuses a character that no answer has."""
        raise Malformed(f"character {c!r}")

    def sign(self, c: str) -> None:
        """Adds the character as a SIGN."""
        self.position += 1
        self.tokens.append((SIGN, c, self.spaced))
        self.spaced = False

    def opening(self, c: str) -> None:
        self.depth += 1
        self.sign(c)

    def closing(self, c: str) -> None:
        self.depth -= 1
        self.sign(c)

    def space(self, c: str) -> None:
        self.position += 1
        self.spaced = True

    def dollar(self, c: str) -> None:
        """Drops a dollar sign, which only begins or ends a formula."""
        self.position += 1

    def star(self, c: str) -> None:
        """A product sign, or the power sign of programs: x**2."""
        if self.text.startswith("**", self.position):
            self.position += 1
            self.sign("^")
        else:
            self.sign(c)

    def exclamation(self, c: str) -> None:
        """A factorial, or behind a space the != of programs."""
        if self.spaced and self.text.startswith("!=", self.position):  # 5!=120 is a factorial
            self.position += 2
            self.add(COMMAND, "ne")
        else:
            self.sign(c)

    def quote(self, c: str) -> None:
        """A prime; in a \\text a quotation mark, which counts as white space."""
        if True in self.braces:
            self.space(c)
        else:
            self.sign(c)

    def point(self, c: str) -> None:
        """A point: of a number such as .5, of an abbreviation, or at the end of a sentence."""
        following = self.text[self.position + 1 : self.position + 2]
        if following in ASCII_DIGITS or self.text.startswith(POINT_AND_BAR, self.position):
            self.number(c)
        elif self.tokens and self.tokens[-1][1].lower() in ABBREVIATED and not self.spaced:
            self.position += 1  # sq. ft.
        else:
            self.sign(c)

    def opening_brace(self, c: str) -> None:
        self.braces.append(False)
        self.sign(c)

    def closing_brace(self, c: str) -> None:
        """A closing brace, which counts as white space if it ends a \\text."""
        if not self.braces:
            raise Malformed("brace")
        ends_text = self.braces.pop()
        if ends_text:
            self.space(c)
        else:
            self.sign(c)

    # ---- numbers ----

    def skip_digits(self, start: int) -> int:
        """The place behind the digits that begin at `start`."""
        text, end, size = self.text, start, len(self.text)
        while end < size and text[end] in ASCII_DIGITS:
            end += 1
        return end

    def number(self, c: str) -> None:
        """A number: its digits, thousands groups, decimal part, and an exponent as in 1.5e3."""
        text, start = self.text, self.position
        self.position = end = self.skip_digits(start)
        value = text[start:end]
        if text[end : end + 1] in CONTINUING:
            value = self.continued(value)
        if len(value) > DIGIT_LIMIT:
            raise Malformed("too many digits")
        if not self.spaced and value in ("2", "3") and self.is_behind_unit():
            self.add(SIGN, "^")  # 5 m2
        self.tokens.append((NUMBER, value, self.spaced))
        self.spaced = False

    def continued(self, value: str) -> str:
        """The number whose first digits are `value`, with the groups, decimal part and exponent behind them."""
        text, end = self.text, self.position
        if 1 <= len(value) <= 3 and value[0] != "0":
            # The separators of a number are alike, with a backslash or without: 10\,000,000 is a list.
            has_backslash = text.startswith("\\", end)
            while (start := self.group_start(end)) >= 0 and text.startswith("\\", end) == has_backslash:
                value, end = value + text[start : start + 3], start + 3
        if text.startswith(".", end) and (stop := self.skip_digits(end + 1)) > end + 1:
            value, end = value + text[end:stop], stop
        elif text.startswith(POINT_AND_BAR, end):
            value, end = (value or "0") + ".", end + 1  # the bar is a command, which is read later
        if text.startswith(("e", "E"), end):
            value, end = self.scientific(value, end)
        self.position = end
        return value

    def scientific(self, value: str, end: int) -> tuple[str, int]:
        """(the number, its end) with the exponent at `end`, if there is one: 1500 for 1.5e3.

        An exponent is an e with a whole number of at most three digits right behind it.
        """
        start = end + 2 if self.text.startswith(("+", "-"), end + 1) else end + 1
        stop = self.skip_digits(start)
        has_exponent = 1 <= stop - start <= 3 and not self.text.startswith(".", stop)
        return (f"{Decimal(value + self.text[end:stop]):f}", stop) if has_exponent else (value, end)

    def group_start(self, at: int) -> int:
        """Where the three digits of a thousands group begin if a separator and such digits stand at `at`; else -1."""
        for separator in THOUSANDS_SEPARATORS.get(self.text[at : at + 1], ()):
            if self.text.startswith(separator, at) and not (separator == "," and self.depth):
                at += len(separator)
                while separator == ",\\!" and self.text.startswith(" ", at):
                    at += 1
                return at if self.skip_digits(at) == at + 3 else -1
        return -1

    # ---- letters ----

    def letters(self, c: str) -> None:
        """A run of letters: one word, a function written without its backslash, or a product of variables."""
        text, end, size = self.text, self.position + 1, len(self.text)
        while end < size and text[end] in LATIN:
            end += 1
        run, self.position = text[self.position : end], end
        signs_behind = FORGOTTEN_BACKSLASH.get(run)
        if signs_behind and text.startswith(signs_behind, end):
            return  # nothing is added for left and right in left(3, 4right)
        if run in METRIC_LETTERS and text.startswith(OMEGA, end) and self.may_be_in_ohms(run):
            self.position = end + len(OMEGA)
            return self.add(WORD, f"{run}ohm")  # 5 k\\Omega
        if run == "x" and self.is_times_sign(end):
            return self.add(SIGN, "*")
        if run == "Rs" and text.startswith(".", end):
            end = self.position = end + 1  # Rs. 5
        if (run.isupper() or run == "Rs") and run.lower() in CODES:
            if text[end:].lstrip()[:1] in ASCII_DIGITS:
                return self.add(SIGN, run.lower())  # EUR 5
            if self.tokens and self.tokens[-1][0] == NUMBER and not self.is_factor(run):
                return self.add(WORD, run)  # 5 EUR
        if run in SYMBOLS and len(run) > 1 and self.tokens and self.is_behind_number():
            are_variables = all(letter in (self.variables or ()) for letter in run)
            if not self.is_factor(run) and not are_variables:
                return self.add(WORD, run)  # 5 kW
        behind = text[end:].lstrip()[:4] if run in LETTERS_OF_TWO_KINDS else ""
        is_in_text = True in self.braces
        if is_in_text or run.lower() in KNOWN_WORDS or self.is_word(run, behind):
            self.word(run)
        elif run in BARE_COMMANDS:
            self.add(COMMAND, ALIASES.get(run, run))
        elif self.is_product(run):
            for letter in run:
                self.add(LETTERS, letter)
        else:
            self.word(run)

    def micro(self, c: str) -> None:
        """µ before the symbol of a unit: 5 µm."""
        end = self.position + 1
        while self.text[end : end + 1] in LATIN:
            end += 1
        run, self.position = self.text[self.position : end], end
        if run not in SYMBOLS:
            raise Malformed(f"character {c!r}")
        self.add(WORD, run)

    def is_behind_unit(self) -> bool:
        """True behind a unit that takes a power: a unit of length, or the s of m/s. Not at the 2 of 5ft2in."""
        if not self.tokens or self.tokens[-1][0] not in (LETTERS, WORD):
            return False
        unit = UNITS.get(self.tokens[-1][1], "")
        is_per_second = unit == "second" and len(self.tokens) > 1 and self.tokens[-2][1] == "/"
        takes_power = power_of(unit) == 1 or is_per_second
        has_number = takes_power and any(kind == NUMBER for kind, _, _ in self.tokens)
        before_letter = self.text[self.position : self.position + 1] in LATIN  # the i of 5ft2in
        return has_number and not before_letter

    def is_behind_number(self) -> bool:
        """True if the last token is a number or a closing brace: behind 5, behind \\frac{1}{2}."""
        return self.tokens[-1][0] == NUMBER or self.tokens[-1][1] == "}"

    def may_be_in_ohms(self, prefix: str = "") -> bool:
        r"""True at the \Omega of 5 \Omega; not behind a letter or a sum, nor if the reference has \Omega as a letter.

        The \Omega of a reference is a letter if no space stands before it: 5\Omega. `prefix`: the k of 5 k\Omega.
        """
        if not self.tokens or not self.is_behind_number():
            return False
        if self.variables is None:
            return self.spaced and is_plain(self.tokens)
        return self.variables.isdisjoint({OMEGA, prefix}) and is_plain(self.tokens)

    def is_factor(self, run: str) -> bool:
        """True if letters touch the number before them, 2CAD, and may be variables of the reference."""
        return not self.spaced and self.letters_of_reference.issuperset(run)

    def is_times_sign(self, end: int) -> bool:
        """True if the x that ends at `end` is a times sign: 3 x 10^8, if the reference has no variable x."""
        follows_number = bool(self.tokens) and self.tokens[-1][0] == NUMBER
        is_variable = "x" in (self.variables or ())
        if not follows_number or is_variable:
            return False
        power = self.text[end:].lstrip(" ")[:6]  # up to the first digit of 10^{-8}
        return power.startswith("10^") and power[3:].lstrip("{+-")[:1] in ASCII_DIGITS

    def word(self, run: str) -> None:
        """Adds a word with all that hyphens and apostrophes join to it: two-digit, isn't, Vieta's."""
        text, end = self.text, self.position
        while len(run) > 1 and text[end : end + 1] in ("-", "'") and text[end + 1 : end + 2] in LATIN:
            stop = end + 1
            while text[stop : stop + 1] in LATIN:
                stop += 1
            run, end = run + text[end:stop], stop
        self.position = end
        self.add(WORD, run)

    def is_word(self, run: str, behind: str) -> bool:
        """True if letters are a word because of what is beside them: the min of 5 min, the th of 12th and 12^{th}.

        An `a` is a word in two cases. In the first, the reference has no variables at all, and nothing but words
        follows, which begins with three small letters: "a dog". In the second, the reference has no variable a, and
        four small letters follow: "a circle".
        `behind`: the next four characters for `LETTERS_OF_TWO_KINDS`, else "".
        """
        if run == "min":
            return not behind.startswith(BEHIND_FUNCTION)
        if run == "cup":
            is_counted = bool(self.tokens) and self.is_behind_number()
            ends_text = not behind.strip(" .,$}")
            return is_counted and (ends_text or behind.startswith(("of ", "and ")))
        if run in ORDINALS:
            behind_number = self.tokens and not self.spaced and self.tokens[-1][0] == NUMBER  # 12th
            is_raised = [value for _, value, _ in self.tokens[-2:]] == ["^", "{"]  # 12^{th}
            may_end_number = bool(behind_number or is_raised)
            return may_end_number and not all(letter in self.letters_of_reference for letter in run)
        if run not in ("a", "A") or not self.text.startswith(" ", self.position):
            return False
        # From here on, the letter is an "a" with a space behind it: an article or a variable.
        is_before_three_letters = len(behind) > 2 and behind[:3].isalpha() and behind[:3].islower()
        if not self.variables and is_before_three_letters:
            words = self.text[self.position :].rstrip(" .!)").split()
            is_reference = self.variables is None
            # A reference may still have variables in its next words, so there only one known word will do: "a dog".
            may_be_nouns = not is_reference or (len(words) == 1 and is_short_word(words[0]))
            if may_be_nouns and all(map(str.isalpha, words)):
                return True
        is_before_four_letters = len(behind) == 4 and behind.isalpha() and behind.islower()
        return is_before_four_letters and run not in self.letters_of_reference

    def is_product(self, run: str) -> bool:
        """True if letters are a product of variables: xy, and abc if the reference has a, b and c; not "my"."""
        if self.tokens and self.tokens[-1][0] == NUMBER and not self.spaced:
            return True  # 5abc; a known unit, such as the cm of 5cm, never comes here
        if run.lower() in SHORT_WORDS and not all(letter in self.letters_of_reference for letter in run):
            return False
        if self.variables is None:
            is_noun = is_short_word(run) or run in SHORT_NOUNS
            return len(run) <= 3 and not (is_noun and self.stands_alone())
        return len(run) <= 2 or all(letter in self.variables for letter in run)

    def stands_alone(self) -> bool:
        """True if the letters that end here are a whole text or a whole item of a list: the red of "red, blue".

        A number or an article may stand before them: the men of "4 men", the dog of "a dog".
        """
        kind, before, _ = self.tokens[-1] if self.tokens else ("", "", False)
        behind = self.text[self.position :].lstrip(" $.")
        is_article = kind == WORD and before in ("a", "A", "an", "An")
        begins_item = before in BEFORE_ITEM or kind == NUMBER or is_article
        ends_item = behind[:1] in ("", ",", ";") or behind.startswith(("and ", "or "))
        return begins_item and ends_item

    # ---- commands ----

    def command(self, c: str) -> None:
        """A command: a backslash with letters or with one other character behind it."""
        text, start = self.text, self.position + 1
        end = start
        while text[end : end + 1] in LATIN:
            end += 1
        name = text[start : max(end, start + 1)]
        self.position = start + len(name)
        COMMAND_READERS.get(name, Lexer.add_command)(self, name)

    def add_command(self, name: str) -> None:
        """Adds a command under its name in `ALIASES`; \\Omega at the end, behind a number, is the unit ohm."""
        if not (name.isalpha() or name in ALIASES or name in ("|", "'")):
            raise Malformed(f"\\{name}")
        name = ALIASES.get(name, name)
        is_omega_at_end = name == "Omega" and not self.text[self.position :].strip(" $.}")
        if is_omega_at_end and self.may_be_in_ohms():
            return self.add(WORD, "ohm")  # 5 \\Omega
        if name in JOINING:
            return self.add(WORD, name)
        self.add(SIGN if name in SIGN_ALIASES else COMMAND, name)

    def opening_command(self, name: str) -> None:
        self.depth += 1
        self.add_command(name)

    def closing_command(self, name: str) -> None:
        self.depth -= 1
        self.add_command(name)

    def spacing(self, name: str) -> None:
        self.spaced = True

    def dropped(self, name: str) -> None:
        """Adds nothing for a command that changes nothing but the looks."""

    def dropped_with_argument(self, name: str) -> None:
        """Drops the argument of a command, which is itself dropped."""
        self.braced(limit=80)

    def line_end(self, name: str) -> None:
        """The end of a row; the space between rows, as in `\\\\[2pt]`, is dropped."""
        self.add_command(name)
        if self.text.startswith("[", self.position):
            length = self.text[self.position : self.position + 12].partition("]")[0]
            if length.endswith(LENGTHS):
                self.position += len(length) + 1

    def text_command(self, name: str) -> None:
        """Opens `\\text{...}`, whose letters are words, or reads the function or constant that is all of it."""
        if name in UPRIGHT_IN and self.accept_upright(name):
            return
        while self.text.startswith(" ", self.position):
            self.position += 1
        if self.text.startswith("{", self.position):
            self.position += 1
            self.braces.append(True)
            self.spaced = True

    def accept_upright(self, name: str) -> bool:
        r"""Reads the argument of \operatorname, \mathrm or \text if it is a function or a constant; True if it is.

        In \text, a function is a word unless its argument follows in brackets: \text{lcm}(4, 6).
        """
        close = self.text.find("}", self.position, self.position + 12)
        inside = self.text[self.position : close].strip("{ ")
        allowed = UPRIGHT if name == "mathrm" else BARE_COMMANDS
        if close < 0 or inside not in allowed:
            return False
        if name == "text" and not self.text.startswith(("(", "\\left", "\\{", "\\big"), close + 1):
            return False
        self.position = close + 1
        self.add(LETTERS if len(inside) == 1 else COMMAND, ALIASES.get(inside, inside))
        return True

    def begin(self, name: str) -> None:
        """The begin of an environment, as a command such as "begin cases"."""
        kind = self.braced(limit=20)
        if kind == "array" and self.text.startswith("{", self.position):
            self.braced(limit=40)  # the columns of the array: {cc}
        self.depth += 1
        self.add(COMMAND, f"begin {kind}")

    def end(self, name: str) -> None:
        self.depth -= 1
        self.add(COMMAND, f"end {self.braced(limit=20)}")

    def number_set(self, name: str) -> None:
        """A set of numbers with its letter: \\mathbb{R}."""
        while self.text.startswith(" ", self.position):
            self.position += 1
        if self.text.startswith("{", self.position):
            letter = self.braced(limit=8)
        else:
            letter, self.position = self.text[self.position : self.position + 1], self.position + 1
        self.add(COMMAND, f"mathbb {letter}")

    def braced(self, limit: int) -> str:
        """Reads braces with at most `limit` characters in them, and returns what stands in them."""
        close = self.text.find("}", self.position, self.position + limit)
        if not self.text.startswith("{", self.position) or close < 0:
            raise Malformed("environment")
        inside, self.position = self.text[self.position + 1 : close].strip(), close + 1
        return inside


# {character: the method that reads what begins with it}
READERS: dict[str, Callable[[Lexer, str], None]] = {
    **dict.fromkeys(ASCII_DIGITS, Lexer.number),
    **dict.fromkeys(LATIN, Lexer.letters),
    **dict.fromkeys("+-/^_=<>|,;:%&?@#", Lexer.sign),
    **dict.fromkeys("([", Lexer.opening),
    **dict.fromkeys(")]", Lexer.closing),
    **dict.fromkeys(" ~\t\n\r\f\v", Lexer.space),
    **dict.fromkeys("\"'`", Lexer.quote),
    **dict.fromkeys((sign for sign in SIGNS if sign != "$"), Lexer.sign),
    "*": Lexer.star,
    "\\": Lexer.command,
    "{": Lexer.opening_brace,
    "}": Lexer.closing_brace,
    ".": Lexer.point,
    "!": Lexer.exclamation,
    MICRO: Lexer.micro,
    "$": Lexer.dollar,
}
# {name of a command: the method that reads it}
COMMAND_READERS: dict[str, Callable[[Lexer, str], None]] = {
    **dict.fromkeys(SPACES, Lexer.spacing),
    **dict.fromkeys(DROPPED, Lexer.dropped),
    **dict.fromkeys(WITH_ARGUMENT, Lexer.dropped_with_argument),
    **dict.fromkeys(TEXTS, Lexer.text_command),
    **dict.fromkeys(("{", "lbrace", "lbrack"), Lexer.opening_command),
    **dict.fromkeys(("}", "rbrace", "rbrack"), Lexer.closing_command),
    **dict.fromkeys(("\\", "newline", "cr"), Lexer.line_end),
    "mathbb": Lexer.number_set,
    "begin": Lexer.begin,
    "end": Lexer.end,
}


KNOWN_COMMANDS = (  # two backslashes stand for one if these names follow them
    BARE_COMMANDS
    | SPACES
    | DROPPED
    | WITH_ARGUMENT
    | TEXTS
    | {*ALIASES, "circ", "begin", "end", "mathbb", "le", "ge", "ne", "pm", "in", "lfloor", "lceil", "approx"}
)


def is_command(name: str) -> bool:
    """True if a name of two letters or more is a known command of LaTeX: frac, but not fraq."""
    return len(name) > 1 and name in KNOWN_COMMANDS


def with_price_marked(text: str) -> str:
    r"""A text with `\$` for its one dollar sign, if a digit follows the sign: the price `$25.00` is no formula."""
    before, _, behind = text.partition("$")
    is_price = "$" not in behind and not before.endswith("\\") and behind[:1] in ASCII_DIGITS
    return f"{before}\\${behind}" if is_price else text


def with_unit_marked(text: str, letter: str) -> str:
    r"""A text that ends in a number and `letter`, with the letter in \text: 5 W if the reference is 5 watts."""
    number = text.removesuffix(letter).rstrip(" ")
    is_unit = text.endswith(letter) and (number[-1:] in ASCII_DIGITS or number.endswith("}"))
    return f"{number}\\text{{ {letter}}}" if is_unit else text


def with_words_marked(text: str) -> str:
    r"""A reference such as `Yes. $f(x)=3x^2$` with \text around its words, which stand outside of the dollars."""
    pieces = text.replace("$$", "$").split("$")
    # The first piece stands outside of the dollars, the second between them, and so on.
    pieces[::2] = [f"\\text{{{words}}}" for words in pieces[::2]]
    return "".join(pieces)


def script_mark(c: str) -> str:
    """ "^" for a superscript such as ², "_" for a subscript such as ₂, "" for any other character."""
    if c in SUPERSCRIPTS:
        return "^"
    return "_" if c in SUBSCRIPTS else ""


def to_latex(text: str) -> str:
    """The text in ASCII: known characters as LaTeX, a run of superscripts as a power, of subscripts as an index."""
    parts = []
    for mark, run in groupby(text, script_mark):
        # Digits of other scripts, such as Arabic ones, become ASCII digits.
        plain = "".join(str(decimal(c)) if c > "\x7f" and c.isdecimal() else SCRIPTS.get(c, c) for c in run)
        parts.append(f"{mark}{{{plain}}}" if mark else plain)
    return "".join(parts).translate(LATEX_OF)
