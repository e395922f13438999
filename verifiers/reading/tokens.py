r"""The tokens of an answer in mathematics, LaTeX or plain text: one pattern, and a table of what commands are.

A token is (kind, value, True if white space stands before it). Kinds: NUMBER (digits with at most one point; thousands
groups are joined already), LETTERS (one variable), WORD (text), COMMAND (`frac`), SIGN (anything else).
There is no Unicode normalisation: `LATEX_OF` has LaTeX for some characters beyond ASCII; all others are refused.
"""

from __future__ import annotations

import re
from decimal import Decimal
from itertools import pairwise
from string import ascii_letters
from unicodedata import decimal

from verifiers.reading.amounts import CODES, SIGNS
from verifiers.reading.units import ORDINALS, SYMBOLS, UNIT_WORDS, takes_power

NUMBER, LETTERS, WORD, COMMAND, SIGN = "number", "letters", "word", "command", "sign"
Token = tuple[str, str, bool]  # (kind, value, True if white space stands before it)

TEXT_LIMIT = 4096  # characters; longer answers are not parsed, but compared as text and as numbers
TOKEN_LIMIT = 1500  # tokens of an answer
DIGIT_LIMIT = 1000  # digits of one number

_SUPERSCRIPTS = dict(zip("⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺ⁿ", "0123456789-+n", strict=True))
_SCRIPTS = _SUPERSCRIPTS | dict(zip("₀₁₂₃₄₅₆₇₈₉", "0123456789", strict=True))
_SCRIPT_RUN = re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺ⁿ]++|[₀₁₂₃₄₅₆₇₈₉]++")
_DIGIT = re.compile(r"(?![0-9])\d")
LATEX_OF = str.maketrans({  # {a character beyond ASCII: LaTeX or ASCII for it}
    **{code: chr(code - 0xFEE0) for code in range(0xFF01, 0xFF5F)},  # the full-width forms of ASCII characters
    **dict.fromkeys("\u00a0\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f\u3000", r"\,"),
    **dict.fromkeys("\u00ad\u200b\u200c\u200d\u2060\ufeff", ""),
    **dict.fromkeys("÷\u2044\u2215", "/"), **dict.fromkeys("\u2212\u2010\u2011\u2013", "-"),
    **dict.fromkeys("×∙⋅·", r"\times "), **dict.fromkeys("°º˚", r"^\circ "), **dict.fromkeys("“”", '"'),
    "√": r"\sqrt ", "π": r"\pi ", "∞": r"\infty ", "∪": r"\cup ", "∩": r"\cap ", "∈": r"\in ", "≤": r"\le ",
    "≥": r"\ge ", "≠": r"\ne ", "≈": r"\approx ", "±": r"\pm ", "∓": r"\mp ", "∅": r"\emptyset ", "∠": r"\angle ",
    "′": "'", "″": "''", "’": "'", "…": r"\dots ", "θ": r"\theta ", "α": r"\alpha ", "β": r"\beta ", "γ": r"\gamma ",
    "λ": r"\lambda ", "μ": r"\mu ", "φ": r"\phi ", "ω": r"\omega ", "½": r"\frac{1}{2}", "¼": r"\frac{1}{4}",
    "¾": r"\frac{3}{4}", "⅓": r"\frac{1}{3}", "⅔": r"\frac{2}{3}", "。": ".", "、": ",", "ℝ": r"\mathbb{R}",
    "ℤ": r"\mathbb{Z}", "℃": r"^\circ C", "℉": r"^\circ F", "Ω": r"\Omega ", "\u2126": r"\Omega ",
})  # fmt: skip

# What commands are. Those in none of these tables are a COMMAND of their own name.
SPACES = frozenset([*",;: >\n", "", "quad", "qquad", "enspace", "thinspace", "space", "hfill"])
DROPPED = frozenset(  # commands that change nothing but the looks: `\left(` is `(`
    "! left right big Big bigg Bigg bigl bigr Bigl Bigr biggl biggr displaystyle textstyle scriptstyle limits "
    "nolimits mathbf boldsymbol mathcal vec overrightarrow hat bm bf rm it boxed fbox ( ) [ ] underline tiny small "
    "normalsize large Large LARGE huge Huge mathsf mathtt mathit ensuremath vphantom checkmark square "
    "blacksquare".split()
)
DROPPED_WITH_ARGUMENT = frozenset("color textcolor phantom hphantom hspace".split())  # `\color{red} 5` is 5
TEXTS = frozenset("text textbf textit textrm texttt textsf mbox mathrm operatorname textnormal emph".split())
"""Commands whose argument is words: `\\text{east}`."""
ALIASES = {  # {name of a command: the name under which it is read}
    "dfrac": "frac", "tfrac": "frac", "cfrac": "frac", "leq": "le", "leqslant": "le", "geq": "ge",
    "geqslant": "ge", "neq": "ne", "degree": "deg", "degrees": "deg", "dbinom": "binom", "tbinom": "binom",
    "arccos": "acos", "arcsin": "asin", "arctan": "atan", "varnothing": "emptyset", "oslash": "emptyset",
    "ldots": "dots", "cdots": "dots", "backslash": "setminus", "varphi": "phi", "implies": "Rightarrow",
    "rightarrow": "Rightarrow", "Longrightarrow": "Rightarrow", "longrightarrow": "Rightarrow", "bigcup": "cup",
    "bar": "overline", "mod": "bmod", "infinity": "infty", "oo": "infty", "lg": "log",
}  # fmt: skip
SIGN_OF = {  # {name of a command: its SIGN}
    "lt": "<", "gt": ">", "lvert": "|", "rvert": "|", "vert": "|", "mid": "|", "|": "|", "lbrace": "\\{",
    "rbrace": "\\}", "{": "\\{", "}": "\\}", "times": "*", "cdot": "*", "ast": "*", "div": "/", "colon": ":",
    "lbrack": "[", "rbrack": "]", "\\": "\\\\", "newline": "\\\\", "cr": "\\\\", "%": "%", "$": "\\$",
    "prime": "'", "'": "'", "#": "#", "_": "_",
}  # fmt: skip
WORD_OF = {"&": "and", "land": "and", "wedge": "and", "lor": "or", "vee": "or"}
BARE_COMMANDS = frozenset(
    "sin cos tan cot sec csc asin acos atan arcsin arccos arctan log ln lg exp sqrt pi gcd lcm max min det "
    "infty infinity binom frac sinh cosh tanh sech csch coth cis deg cup abs oo".split()
)
"""Runs of letters that are commands without their backslash, too: "sqrt(2)" is `\\sqrt(2)`."""
UPRIGHT = (BARE_COMMANDS - {"min", "max", "deg"}) | {"e", "i"}
"""What `\\mathrm{...}` may hold as a function or a constant: `\\mathrm{gcd}`. Its min, max and deg are words."""
KNOWN_COMMANDS = frozenset().union(
    BARE_COMMANDS, SPACES, DROPPED, DROPPED_WITH_ARGUMENT, TEXTS, ALIASES, SIGN_OF, WORD_OF,
    "circ begin end mathbb le ge ne pm in lfloor lceil approx".split(),
)  # fmt: skip

_WORDS = UNIT_WORDS | frozenset("and or is no yes".split())
"""Runs of letters that are always read as one word, and never as a product of variables."""
_SHORT_WORDS = frozenset("we so to be of on an as at by he it if my do us up am go".split())
"""Words of two letters. "my" is the product of m and y only right behind a number, or if the reference has both."""
_ABBREVIATED = frozenset("sq cu ft in yd mi oz lb lbs sec min hr hrs approx".split())
"""Abbreviations behind which a point is no end of the text: the point of "sq. ft."."""
_VOWELS = frozenset("aeiou")
_LATIN = frozenset(ascii_letters)

_TOKEN = r"""(?P<space>[\s~]++)
|(?P<number>(?:
     \d++(?![,\\{{])
    |[1-9]\d?\d?(?:(?:\\,\d\d\d(?!\d))++|(?:(?:,\\!\ ?|\{{,\}})\d\d\d(?!\d))++{comma})
    |\d++)(?:\.\d++|\.(?=\\overline))?+(?:[eE][+-]?\d\d?\d?(?!\d|\.\d))?+
  |\.(?:\d++|(?=\\overline))(?:[eE][+-]?\d\d?\d?(?!\d|\.\d))?+)
|(?P<letters>[A-Za-z]++)
|\\(?P<command>[A-Za-z]++|.|\Z)
|(?P<power>\*\*)
|(?P<sign>[+\-/^_=<>|,;:%&?@\#*.!"'`()\[\]{{}}{money}])
|(?P<dollar>\$)
"""
_MONEY = re.escape("".join(sign for sign in SIGNS if sign != "$"))
_GROUPS = r"|(?<!\d,\d)(?<!\d,\d\d)(?<!\d,\d\d\d)(?:(?:,|,\\!\ ?|\{,\})\d\d\d(?!\d))++(?!,\d)"
"""Commas that group digits; where one of several cannot, as in 27,54,108, none does."""
_OUTSIDE = re.compile(_TOKEN.format(comma=_GROUPS, money=_MONEY), re.X | re.S | re.A)
_INSIDE = re.compile(
    _TOKEN.format(comma="", money=_MONEY), re.X | re.S | re.A
)  # no comma groups digits in brackets
_PLAIN_SIGNS = frozenset("+-/^_=<>|,;:*%&?@#")
_PRIMES = re.compile(r"\^(?:\{\\prime(?:\ ?\\prime)?\}|\\prime)")
_BRACED = re.compile(r"\{([^{}]{0,80})\}")
_ROW_SPACE = re.compile(r"\[[^\[\]]{0,12}(?:pt|em|ex|mm|cm)\]")
_SEPARATORS = str.maketrans("", "", ",{}\\! ")
_POWER_OF_TEN = re.compile(r" *+10\^\{?[+-]?\d")
_MORE_OF_WORD = re.compile(r"[-'][A-Za-z]++")
_COUNTED = re.compile(r" *+(?:of |and |[ .,$}]*+\Z)")
_BEFORE_PRICE = re.compile(r"\.?+(?= *+\}? *+\d)")
_ARGUMENT = re.compile(r" *+[({\[|_\\]")


class Malformed(Exception):
    """The text is no answer in any accepted notation."""


class Unsupported(Malformed):
    """The text is mathematics that is not judged, such as a limit or a double integral."""


def tokens_of(text: str, variables: frozenset[str] | None) -> list[Token]:
    """The tokens of a text. `variables`: the letters of the reference; None if the text is the reference."""
    return Lexer(text, variables).run()


class Lexer:
    """Splits one answer into tokens; raises `Malformed` for what no notation has."""

    def __init__(self, text: str, variables: frozenset[str] | None) -> None:
        if len(text) > TEXT_LIMIT:
            raise Malformed("too long")
        if "$" in text:
            text = _NATIONAL.sub(lambda m: _DOLLARS[m[1]] + " ", text)
            if variables is None and "\\$" not in text:
                text = with_price_marked(text)
                text = text if "\\$" in text else with_words_marked(text)
        text = text if text.isascii() else to_latex(text)
        text = text.replace("...", "\\dots ").replace("{:}", ":").replace("\\not=", "\\ne ")
        if "prime" in text:
            text = _PRIMES.sub(lambda m: "'" * m[0].count("\\"), text)  # one ' for each \prime
        self.text, self.variables = text, variables
        self.letters = _LATIN if variables is None else variables  # a reference may have any letter
        self.tokens: list[Token] = []
        self.spaced = False  # True if white space stands before the next token
        self.texts: list[bool] = []  # for each open brace, True if it belongs to a \text

    def run(self) -> list[Token]:
        """The tokens of the whole text."""
        text, tokens, texts = self.text, self.tokens, self.texts
        position, size, depth = 0, len(text), 0
        while position < size:
            found = (_INSIDE if depth else _OUTSIDE).match(text, position)
            if found is None:
                raise Malformed(f"character {text[position]!r}")
            kind, value, position = found.lastgroup, found.group(), found.end()
            if kind == "letters":
                position = self.read_letters(value, position)
            elif kind == "number":
                if not value.isdigit():
                    value = value.translate(_SEPARATORS)
                    if "e" in value or "E" in value:
                        value = f"{Decimal(value):f}"
                    elif value == ".":
                        value = "0."
                if len(value) > DIGIT_LIMIT:
                    raise Malformed("too many digits")
                if value in ("2", "3") and not self.spaced and self.is_behind_unit(position):
                    self.add(SIGN, "^")  # 8 m2
                tokens.append((NUMBER, value, self.spaced))
                self.spaced = False
            elif kind == "sign":
                if value in _PLAIN_SIGNS:
                    pass
                elif value == "}":
                    if not texts:
                        raise Malformed("brace")
                    if texts.pop():
                        self.spaced = True
                        continue
                elif value == "{":
                    texts.append(False)
                elif value in "([":
                    depth += 1
                elif value in ")]":
                    depth -= 1
                elif value in "\"'`" and True in texts:
                    self.spaced = True  # a quotation mark
                    continue
                elif value == "!" and self.spaced and text.startswith("=", position):  # 5!=120 is a factorial
                    self.add(COMMAND, "ne")
                    position += 1
                    continue
                elif value == "." and tokens and not self.spaced and tokens[-1][1].lower() in _ABBREVIATED:
                    continue  # sq. ft.
                tokens.append((SIGN, value, self.spaced))
                self.spaced = False
            elif kind == "command":
                position, change = self.read_command(found["command"], position)
                depth += change
            elif kind == "space":
                self.spaced = True
            elif kind == "power":
                self.add(SIGN, "^")
        if len(tokens) > TOKEN_LIMIT:
            raise Malformed("too many tokens")
        if texts:
            raise Malformed("brace")
        if tokens and tokens[-1][1] in (".", ",", ";"):
            tokens.pop()
        return tokens

    def add(self, kind: str, value: str) -> None:
        """Adds a token."""
        self.tokens.append((kind, value, self.spaced))
        self.spaced = False

    # ---- letters ----

    def read_letters(self, run: str, end: int) -> int:
        """Adds a run of letters that ends at `end`: a word, a function without backslash, or a product of variables.

        Returns where to read on.
        """
        text, tokens = self.text, self.tokens
        if (run in ("left", "right") and text[end : end + 1] in [*"([|)]"]) or (
            run == "boxed" and text.startswith("{", end)
        ):
            return end  # a forgotten backslash: boxed{5}
        behind_number = bool(tokens) and tokens[-1][0] == NUMBER
        if (
            run == "x"
            and behind_number
            and "x" not in (self.variables or ())
            and _POWER_OF_TEN.match(text, end)
        ):
            self.add(SIGN, "*")  # 3 x 10^8
        elif (
            (run.isupper() or run == "Rs")
            and run.lower() in CODES
            and (price := _BEFORE_PRICE.match(text, end))
        ):
            self.add(SIGN, run.lower())  # EUR 5
            end = price.end()
        elif run.isupper() and run.lower() in CODES and behind_number and not self.is_factor(run):
            self.add(WORD, run)  # 5 EUR
        elif (
            run in SYMBOLS
            and len(run) > 1
            and self.is_behind_number()
            and not self.is_product_of_letters(run)
        ):
            self.add(WORD, run)  # 5 kW
        elif (
            True in self.texts
            or (run.lower() in _WORDS and not self.are_points(run))
            or self.is_word(run, end)
        ):
            while (more := _MORE_OF_WORD.match(text, end)) and len(run) > 1:  # two-digit, isn't, Vieta's
                run, end = run + more[0], more.end()
            self.add(WORD, run)
        elif run in BARE_COMMANDS:
            self.add(COMMAND, ALIASES.get(run, run))
        elif self.is_product(run, end):
            for letter in run:
                self.add(LETTERS, letter)
        else:
            while (more := _MORE_OF_WORD.match(text, end)) and len(run) > 1:
                run, end = run + more[0], more.end()
            self.add(WORD, run)
        return end

    def is_behind_number(self) -> bool:
        """True if the last token is a number or a closing brace: behind 5, behind \\frac{1}{2}."""
        return bool(self.tokens) and (self.tokens[-1][0] == NUMBER or self.tokens[-1][1] == "}")

    def is_factor(self, run: str) -> bool:
        """True if letters touch the number before them, 2CAD, and may be variables of the reference."""
        return not self.spaced and self.letters.issuperset(run)

    def is_product_of_letters(self, run: str) -> bool:
        """True if letters behind a number may be variables of the reference: 2CAD, 5 ms if it has an m and an s."""
        return self.is_factor(run) or (self.variables is not None and self.variables.issuperset(run))

    def is_unit_sign(self) -> bool:
        """True behind a number that is all of the text so far, with a space in a reference, and without its letters."""
        kinds = [kind for kind, value, _ in self.tokens if value != "-"]
        return kinds == [NUMBER] and (self.spaced if self.variables is None else not self.variables)

    def is_behind_unit(self, end: int) -> bool:
        """True for the 2 of 8 m2 and 9.8 m/s2, which ends at `end`; not if m is a letter of the reference."""
        kinds = [kind for kind, _, _ in self.tokens[-2:]]
        unit, is_below = self.tokens[-1][1] if self.tokens else "", self.tokens[-2:-1] == [(SIGN, "/", False)]
        return (
            kinds[1:] in ([LETTERS], [WORD])
            and (kinds[0] == NUMBER or is_below)
            and unit not in (self.variables or ())
            and takes_power(unit, is_below)
            and not self.text[end : end + 1].isalpha()  # 5ft2in
        )

    def is_word(self, run: str, end: int) -> bool:
        """True if letters are a word because of what is beside them: the min of 5 min, the th of 12th and 12^{th}."""
        if run == "min":
            return not _ARGUMENT.match(self.text, end)
        if run == "cup":
            return self.is_behind_number() and _COUNTED.match(self.text, end) is not None
        if run in ORDINALS:
            behind_number = self.tokens and not self.spaced and self.tokens[-1][0] == NUMBER  # 12th
            is_raised = [value for _, value, _ in self.tokens[-2:]] == ["^", "{"]  # 12^{th}
            return bool(behind_number or is_raised) and not self.letters.issuperset(run)
        if run not in ("a", "A") or not self.text.startswith(" ", end):
            return False
        # An "a" with a space behind it is an article or a variable.
        following = self.text[end:].rstrip(" .!)").split()
        if not self.variables and following and following[0].islower() and len(following[0]) > 2:
            # A reference may have variables in its next words, so there only one known word will do: "a dog".
            may_be_nouns = self.variables is not None or (len(following) == 1 and is_short_word(following[0]))
            if may_be_nouns and all(map(str.isalpha, following)):
                return True
        is_before_word = bool(following) and following[0][:4].islower() and len(following[0]) > 3
        return is_before_word and following[0][:4].isalpha() and run not in self.letters

    def are_points(self, run: str) -> bool:
        r"""True for the NO of \\frac{NO}{BO}, a length between two points."""
        return run == "NO" and bool(self.tokens) and self.tokens[-1][1] == "{" and True not in self.texts

    def is_product(self, run: str, end: int) -> bool:
        """True if letters are a product of variables: xy, and abc if the reference has a, b and c; not "my"."""
        if self.tokens and self.tokens[-1][0] == NUMBER and not self.spaced:
            return True  # 5abc; a known unit, such as the cm of 5cm, never comes here
        if run.lower() in _SHORT_WORDS and not self.letters.issuperset(run):
            return False
        if self.variables is None:
            return len(run) <= 3 and not (is_short_word(run) and (run.istitle() or self.stands_alone(end)))
        return len(run) <= 2 or self.variables.issuperset(run)

    def stands_alone(self, end: int) -> bool:
        """True if the letters that end here are a whole text or a whole item of a list: the red of "red, blue".

        A number or an article may stand before them: the men of "4 men", the dog of "a dog".
        """
        kind, before, _ = self.tokens[-1] if self.tokens else ("", "", False)
        behind = self.text[end:].lstrip(" $.")
        begins_item = kind in ("", NUMBER) or before in (",", ";", "and", "or", "a", "A", "an", "An")
        return begins_item and (behind[:1] in ("", ",", ";") or behind.startswith(("and ", "or ")))

    # ---- commands ----

    def read_command(self, name: str, position: int) -> tuple[int, int]:
        """Reads the command that ends at `position`; returns (where to read on, how many brackets more are open)."""
        text = self.text
        if name in SPACES:
            self.spaced = True
        elif name in DROPPED:
            pass
        elif name in TEXTS:
            return self.read_text(name, position), 0
        elif name in SIGN_OF:
            self.add(SIGN, SIGN_OF[name])
            if name in ("\\", "newline", "cr") and (space := _ROW_SPACE.match(text, position)):
                position = space.end()  # \\[2pt]
            return position, (name in ("{", "lbrace", "lbrack")) - (name in ("}", "rbrace", "rbrack"))
        elif name in WORD_OF:
            self.add(WORD, WORD_OF[name])
        elif name in ("begin", "end") or name in DROPPED_WITH_ARGUMENT:
            argument, position = self.braced(position)
            if name not in DROPPED_WITH_ARGUMENT:
                if argument == "array" and name == "begin" and text.startswith("{", position):
                    _, position = self.braced(position)  # the columns of the array: {cc}
                self.add(COMMAND, f"{name} {argument}")
                return position, 1 if name == "begin" else -1
        elif name == "Omega" and self.is_unit_sign():
            self.add(WORD, "ohm")  # 5\ \Omega
        elif name == "mathbb":
            while text.startswith(" ", position):
                position += 1
            letter, position = (
                self.braced(position)
                if text.startswith("{", position)
                else (text[position : position + 1], position + 1)
            )
            self.add(COMMAND, f"mathbb {letter}")
        elif name.isalpha():
            self.add(COMMAND, ALIASES.get(name, name))
        else:
            raise Malformed(f"\\{name}")
        return position, 0

    def read_text(self, name: str, position: int) -> int:
        r"""Opens `\text{...}`, whose letters are words, or reads the function or constant that is all of it.

        In \text, a function is a word unless its argument follows in brackets: \text{lcm}(4, 6).
        """
        text = self.text
        while text.startswith(" ", position):
            position += 1
        if not text.startswith("{", position):
            return position
        argument = _BRACED.match(text, position)
        inside = argument[1].strip() if argument else ""
        is_function = inside in (UPRIGHT if name == "mathrm" else BARE_COMMANDS)
        if is_function and name == "text":
            is_function = text.startswith(("(", "\\left", "\\{", "\\big"), argument.end())
        if is_function and name in ("operatorname", "mathrm", "text"):
            self.add(LETTERS if len(inside) == 1 else COMMAND, ALIASES.get(inside, inside))
            return argument.end()
        self.texts.append(True)
        self.spaced = True
        return position + 1

    def braced(self, position: int) -> tuple[str, int]:
        """(what stands in the braces that begin here, the place behind them)."""
        argument = _BRACED.match(self.text, position)
        if argument is None:
            raise Malformed("environment")
        return argument[1].strip(), argument.end()


def is_short_word(run: str) -> bool:
    """True if three letters that stand alone are a word and no product: red, Yes, odd, but not abc, xyz or lwh.

    A word has vowels and consonants. A product has its letters in alphabetical order, and none twice.
    """
    lower = run.lower()
    if len(run) != 3 or run not in (lower, run.title()):
        return False
    has_both = not _VOWELS.isdisjoint(lower) and not _VOWELS.issuperset(lower)
    return has_both and (run.istitle() or any(a >= b for a, b in pairwise(lower)))


def is_command(name: str) -> bool:
    """True if a name of two letters or more is a known command of LaTeX: frac, but not fraq."""
    return len(name) > 1 and name in KNOWN_COMMANDS


def with_price_marked(text: str) -> str:
    r"""A text with `\$` for its one dollar sign, if a digit follows the sign: the price `$25.00` is no formula."""
    before, _, behind = text.partition("$")
    is_price = "$" not in behind and not before.endswith("\\") and behind[:1].isdigit()
    return f"{before}\\${behind}" if is_price else text


_DOLLARS = {
    "US": "USD",
    "A": "AUD",
    "AU": "AUD",
    "C": "CAD",
    "CA": "CAD",
    "NZ": "NZD",
    "HK": "HKD",
    "S": "SGD",
}
_MICRO = re.compile(r"[µμ](?=[mgsLlAVWJ]\b)")
_NATIONAL = re.compile(r"\b(US|AU?|CA?|NZ|HK|S)\\?\$\s?(?=\d)")


def with_words_marked(text: str) -> str:
    r"""A reference such as `Yes. $f(x)=3x^2$` with \text around its words, which stand outside of the dollars."""
    pieces = text.replace("$$", "$").split("$")
    pieces[::2] = [f"\\text{{{words}}}" for words in pieces[::2]]  # a text, a formula, a text, ...
    return "".join(pieces)


def to_latex(text: str) -> str:
    """The text in ASCII: known characters as LaTeX, a run of superscripts as a power, of subscripts as an index."""
    text = _MICRO.sub("u", text)
    text = _SCRIPT_RUN.sub(
        lambda m: ("^" if m[0][0] in _SUPERSCRIPTS else "_") + "{" + "".join(map(_SCRIPTS.get, m[0])) + "}",
        text,
    )
    return _DIGIT.sub(lambda m: str(decimal(m[0])), text).translate(LATEX_OF)
