r"""The words and signs of a mathematical answer: LaTeX or plain text as a list of tokens, in one pass.

A token is (kind, value, if white space stands before it). Kinds: NUMBER (digits with at most one point,
thousands groups already joined), LETTERS (one variable), WORD (text), COMMAND (`frac`), SIGN (anything else).
There is no Unicode normalisation: one explicit map (in `_latex_names`) turns characters into LaTeX, and
what is in no map stays foreign and is refused.
"""

from __future__ import annotations

from verifiers._latex_names import ALIASES, DROPPED, FUNCTIONS, SIGN_ALIASES, SINGLE, SPACES, TEXTS, spelt

NUMBER, LETTERS, WORD, COMMAND, SIGN = "number", "letters", "word", "command", "sign"
Token = tuple[str, str, bool]

TEXT_LIMIT = 4096  # characters that are parsed; longer answers are compared as text and as numbers only
TOKEN_LIMIT = 1500


class Malformed(Exception):
    """The text is no answer in any accepted notation."""


class Unsupported(Exception):
    """Mathematics that only a computer algebra system can judge."""


def has_letters_only(text: str) -> bool:
    """True if nothing but ASCII letters, spaces and hyphens is in the text."""
    return text.isascii() and text.replace(" ", "").replace("-", "").isalpha()


class Lexer:
    """Splits one answer; `variables` are the letters that the reference uses, None for a reference itself."""

    def __init__(self, text: str, variables: frozenset[str] | None, known_words: frozenset[str]) -> None:
        if len(text) > TEXT_LIMIT:
            raise Malformed("too long")
        self.text = text if text.isascii() else spelt(text)
        self.variables = variables
        self.known_words = known_words
        self.prose = variables is None and has_letters_only(text)
        self.tokens: list[Token] = []
        self.at = 0
        self.spaced = False
        self.depth = 0  # of brackets, in which a comma never groups digits
        self.braces: list[bool] = []  # of each open brace: if it is of a \text

    def run(self) -> list[Token]:
        """All tokens; a final point is left out."""
        text, size = self.text, len(self.text)
        in_text = False
        while self.at < size:
            c = text[self.at]
            if c.isdigit() or (c == "." and text[self.at + 1 : self.at + 2].isdigit()):
                self.number()
            elif c.isalpha():
                self.letters(in_text)
            elif c.isspace() or c == "~":
                self.at += 1
                self.spaced = True
            elif c == "\\":
                self.command()
            elif c == "{":
                self.at += 1
                self.braces.append(False)
                self.add(SIGN, "{")
            elif c == "}":
                self.at += 1
                if not self.braces:
                    raise Malformed("brace")
                if not self.braces.pop():
                    self.add(SIGN, "}")
                else:
                    self.spaced = True
            elif c == "$":
                self.at += 1
            elif c in SINGLE and not (in_text and c == ";"):
                self.at += 1
                self.depth += (c in "([") - (c in ")]")
                self.add(SIGN, c)
            else:
                raise Malformed(f"character {c!r}")
            in_text = True in self.braces if self.braces else False
            if len(self.tokens) > TOKEN_LIMIT:
                raise Malformed("too many tokens")
        if self.braces:
            raise Malformed("brace")
        if self.tokens and self.tokens[-1][:2] == (SIGN, "."):
            self.tokens.pop()
        return self.tokens

    def add(self, kind: str, value: str) -> None:
        self.tokens.append((kind, value, self.spaced))
        self.spaced = False

    def digits(self, start: int) -> int:
        text, end = self.text, len(self.text)
        while start < end and "0" <= text[start] <= "9":
            start += 1
        return start

    def number(self) -> None:
        """Digits, thousands groups, a decimal part, an exponent as in 1.5e3."""
        start = self.at
        end = self.digits(start)
        value = self.text[start:end]
        if end == start and self.text[start] != ".":
            raise Malformed("digit")  # of another alphabet
        if 1 <= end - start <= 3 and value[0] != "0":
            thin = self.text[end : end + 1] == "\\"
            while True:
                group = self.group(end)
                if group < 0 or (self.text[end] == "\\") != thin:
                    break
                value, end = value + self.text[group : group + 3], group + 3
        if self.text[end : end + 1] == "." and self.digits(end + 1) > end + 1:
            stop = self.digits(end + 1)
            value, end = value + self.text[end:stop], stop
        elif self.text.startswith(".\\overline", end):
            value, end = value + ".", end + 1
        if self.text[end : end + 1] in ("e", "E"):
            value, end = self.scientific(value, end)
        if len(value) > 1000:
            raise Malformed("too many digits")
        self.at = end
        self.add(NUMBER, value)

    def scientific(self, value: str, end: int) -> tuple[str, int]:
        """1.5e3 as 1500: an e with a whole number of at most three digits right behind it."""
        sign = self.text[end + 1 : end + 2]
        start = end + 2 if sign in ("+", "-") else end + 1
        stop = self.digits(start)
        if not 1 <= stop - start <= 3 or "." in self.text[stop : stop + 1]:
            return value, end
        shift = int(self.text[start:stop]) * (-1 if sign == "-" else 1)
        whole, _, part = value.partition(".")
        digits = "0" * max(0, -shift) + whole + part + "0" * max(0, shift - len(part))
        point = max(0, -shift) + len(whole) + shift
        return (digits[:point] or "0") + ("." + digits[point:] if digits[point:] else ""), stop

    def group(self, at: int) -> int:
        """Where the three digits of a thousands group stand, if a separator and they follow `at`; else -1."""
        text = self.text
        if text.startswith("{,}", at):
            at += 3
        elif text.startswith("\\,", at):
            at += 2
        elif text.startswith(",\\!", at):
            at += 3
            while text[at : at + 1] == " ":
                at += 1
        elif text.startswith(",", at) and self.depth == 0:
            at += 1
        else:
            return -1
        return at if self.digits(at) == at + 3 else -1

    def letters(self, in_text: bool) -> None:
        """A run of letters: one word, a function written without its backslash, or a product of variables."""
        text, start = self.text, self.at
        end = start
        while end < len(text) and text[end].isalpha():
            end += 1
        run = text[start:end]
        self.at = end
        lower = run.lower()
        if not run.isascii():
            raise Malformed("letter")
        if run == "boxed" and text[end : end + 1] == "{":
            return  # the backslash was forgotten
        if run in ("left", "right") and text[end : end + 1] in tuple("([|)]"):
            return  # here too
        if in_text or lower in self.known_words:
            self.add(WORD, run)
        elif run in FUNCTIONS:
            self.add(COMMAND, ALIASES.get(run, run))
        elif len(run) == 1:
            self.add(LETTERS, run)
        elif self.is_product(run):
            for letter in run:
                self.add(LETTERS, letter)
        else:
            self.add(WORD, run)

    def is_product(self, run: str) -> bool:
        if self.variables is None:
            return len(run) <= 3 and not (self.prose and len(run) == 3)
        return len(run) == 2 or all(letter in self.variables for letter in run)

    def command(self) -> None:
        text, start = self.text, self.at + 1
        end = start
        while end < len(text) and text[end].isascii() and text[end].isalpha():
            end += 1
        end = max(end, start + 1)
        name = text[start:end]
        if not name:
            raise Malformed("backslash")
        self.at = end
        if name in SPACES:
            self.spaced = True
        elif name in TEXTS:
            self.open_text()
        elif name in DROPPED:
            if name in ("left", "right") and text[end : end + 1] == ".":
                self.at = end + 1
        elif name in ("begin", "end"):
            self.environment(name)
        else:
            if not name.isalpha() and name not in ALIASES and name not in "|'":
                raise Malformed(f"\\{name}")
            name = ALIASES.get(name, name)
            if name in ("\\{", "["):
                self.depth += 1
            elif name in ("\\}", "]"):
                self.depth -= 1
            if name == "and":
                self.add(WORD, name)
            else:
                self.add(SIGN if name in SIGN_ALIASES else COMMAND, name)

    def open_text(self) -> None:
        text = self.text
        while text[self.at : self.at + 1] == " ":
            self.at += 1
        if text[self.at : self.at + 1] == "{":
            self.at += 1
            self.braces.append(True)
            self.spaced = True

    def environment(self, name: str) -> None:
        text = self.text
        close = text.find("}", self.at, self.at + 20)
        if text[self.at : self.at + 1] != "{" or close < 0:
            raise Malformed("environment")
        kind = text[self.at + 1 : close].strip()
        self.at = close + 1
        if name == "begin" and kind == "array" and text[self.at : self.at + 1] == "{":
            close = text.find("}", self.at, self.at + 40)
            if close < 0:
                raise Malformed("array")
            self.at = close + 1
        self.depth += 1 if name == "begin" else -1
        self.add(COMMAND, f"{name} {kind}")


def tokenize(text: str, variables: frozenset[str] | None, known_words: frozenset[str]) -> list[Token]:
    """The tokens of an answer; raises `Malformed` for what no notation has."""
    return Lexer(text, variables, known_words).run()
