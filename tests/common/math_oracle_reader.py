"""Reads an answer for `math_oracle`: a value becomes a function of a point, anything else a tuple."""

import re
from collections.abc import Callable
from typing import Any

import mpmath

from tests.common.math_oracle_text import ALIASES, BARE, TEXT, TOKEN, cleaned, is_near

Value = Callable[[dict[str, Any]], Any]


class Unreadable(Exception):
    """No answer, or none that this grader knows."""


def combined(a: Any, b: Any, work: Callable[[Any, Any], Any]) -> Any:
    """Two values as one; a value times a matrix cell by cell."""
    if callable(a) and callable(b):
        return lambda p: work(a(p), b(p))
    if callable(a) and b[0] == "mat":
        return ("mat", [[combined(a, cell, work) for cell in row] for row in b[1]])
    raise Unreadable("no values")


class Reader:
    """Recursive descent; `letters` are the variables of the reference."""

    def __init__(self, text: str, letters: set[str]) -> None:
        text = cleaned(text)
        self.letters, self.at, self.signs, self.mark = letters, 0, 0, ""
        found = list(TOKEN.finditer(text))
        texts = ["\\" + match[0] if match[0] in BARE else match[0] for match in found]
        texts = [re.sub(r"\s", "", text) if text[:4] in ("\\beg", "\\end") else text for text in texts]
        self.tokens = [ALIASES.get(text, text) for text in texts]
        self.spaced = [text[match.start() - 1 : match.start()] == " " for match in found] + [False]

    def now(self, offset: int = 0) -> str:
        return self.tokens[self.at + offset] if self.at + offset < len(self.tokens) else ""

    def take(self, *wanted: str) -> str:
        token = self.now()
        self.at += token in wanted and token != ""
        return token if token in wanted else ""

    def need(self, *wanted: str) -> str:
        if self.now() not in wanted:
            raise Unreadable(f"{wanted} at {self.now()!r}")
        return self.take(*wanted)

    def word(self) -> str | None:
        """The raw text of a word or a `text` command that stands here."""
        token = self.now()
        if re.match(TEXT, token):
            return re.sub(r"^\\[a-z]+\s*", "", token).strip("{}")
        return token if token.isalpha() and len(token) > 1 and not set(token) <= self.letters else None

    def joins(self) -> bool:
        return (self.word() or "").strip() in ("and", "or")

    def whole(self) -> Any:
        """The answer; a list of several without brackets is ("list", items)."""
        items = self.items()
        if self.now():
            raise Unreadable(self.now())
        return items[0] if len(items) == 1 else ("list", items)

    def items(self) -> list[Any]:
        found = [self.relation()]
        while self.now() in (",", ";") or self.joins():
            comma = self.now() == ","
            self.at += 1
            self.at += comma and self.joins()
            found.append(self.relation())
        return found

    def relation(self) -> Any:
        sides, operators = [self.side()], []
        while operator := self.take("=", "<", ">", r"\le", r"\in"):
            operators.append(operator)
            sides.append(self.side())
        return ("rel", operators, sides) if operators else sides[0]

    def side(self) -> Any:
        said = ""
        while (word := self.word()) is not None and not self.joins():
            said += word
            self.at += 1
        if said and (self.now() in ("", ",", ";", "=", ")", "]") or self.joins()):
            return ("text", said)
        if said and not is_near(said.replace(" ", ""), "theansweris"):
            raise Unreadable(said)
        parts = [self.sum()]
        while self.take(r"\cup"):
            parts.append(self.sum())
        node = parts[0] if len(parts) == 1 else ("union", parts)
        unit = self.mark + self.unit()
        self.mark = ""
        return ("unit", node, unit) if unit else node

    def unit(self) -> str:
        raw = ""
        while True:
            word = self.word()
            if word is not None and not self.joins():
                raw += word
                self.at += 1
                while re.fullmatch("[A-Za-z]", self.now()) and (
                    not self.spaced[self.at] or self.now() == "s"
                ):
                    raw += self.take(self.now())
                if self.now() == "/" and self.now(1).isalpha():
                    raw += self.take("/") + self.take(self.now(1))
                if self.take("^"):
                    raw += "^" + str(self.exponent_digits())
            elif self.now() == "^" and r"\circ" in (self.now(1), self.now(2)):
                self.at += 1
                braces = self.take("{")
                self.need(r"\circ")
                self.need("}") if braces else None
                raw += "degrees"
            elif self.take(r"\%", "%"):
                raw += "percent"
            else:
                return raw.replace(" ", "").lower()

    def exponent_digits(self) -> str:
        braces, digits = self.take("{"), self.now()
        self.at += 1
        return digits if not braces or self.need("}") else ""

    def sign(self) -> Value | None:
        """The signs here as a factor; None where there is none."""
        factors = []
        while operator := self.take("+", "-", r"\pm", r"\mp"):
            self.signs += operator in (r"\pm", r"\mp")
            step = -1 if operator in ("-", r"\mp") else 1
            factors.append(
                lambda p, o=operator, s=step: s * p["±"] if o in (r"\pm", r"\mp") else mpmath.mpf(s)
            )
        return (lambda p: mpmath.fprod(factor(p) for factor in factors)) if factors else None

    def sum(self) -> Any:
        total, sign = None, self.sign()
        while True:
            term = self.product()
            if sign is not None and not callable(term) and term[0] == "inf":
                term = ("inf", term[1] * int(sign({"±": 0})))
            elif sign is not None:
                term = combined(sign, term, lambda a, b: a * b)
            total = term if total is None else combined(total, term, lambda a, b: a + b)
            sign = self.sign()
            if sign is None:
                return total

    def product(self) -> Any:
        value = self.power()
        while True:
            if operator := self.take("*", "/"):
                sign, right = self.sign(), self.power()
                right = combined(sign, right, lambda a, b: a * b) if sign else right
                value = combined(
                    value, right, (lambda a, b: a * b) if operator == "*" else lambda a, b: a / b
                )
            elif self.starts_factor():
                value = combined(value, self.power(), lambda a, b: a * b)
            else:
                return value

    def starts_factor(self) -> bool:
        token = self.now()
        if not token or self.word() is not None:
            return False
        return token.isalpha() or token in ("(", "{", r"\frac", r"\sqrt", r"\pi") or token[:4] == "\\beg"

    def power(self) -> Any:
        base = self.primary()
        while True:
            if self.now() == "^" and r"\circ" in (self.now(1), self.now(2)):
                if not re.match(r"\^ \{? ?\\circ \}? ?[*/]", " ".join(self.tokens[self.at : self.at + 5])):
                    return base  # degrees behind all of it
                self.mark, self.at = "degrees", self.at + (4 if self.now(1) == "{" else 2)
            elif self.take("^"):
                sign = self.sign()
                exponent = self.argument(whole=True)
                exponent = combined(sign, exponent, lambda a, b: a * b) if sign else exponent
                base = combined(base, exponent, lambda a, b: mpmath.mpmathify(a) ** b)
            elif self.take("!"):
                base = combined(base, base, lambda a, _: mpmath.factorial(a))
            elif self.now() == "%" and not re.match(
                r"[,=;A-Za-z]|$|\)$", "".join(self.tokens[self.at + 1 :])
            ):
                base = combined(base, base, lambda a, _: a / 100) if self.take("%") else base
            else:
                return base

    def argument(self, whole: bool = False) -> Any:
        """What a command takes: a group, a letter, or a digit, as TeX reads it (an exponent: a whole number)."""
        token = self.now()
        if token == "{" or token in (r"\frac", r"\pi"):
            return self.primary()
        digits = re.match(r"\d*\.?\d+" if whole else r"\d", token)
        if digits:
            self.tokens[self.at] = token[digits.end() :]
            self.at += not self.tokens[self.at]
            return lambda p: mpmath.mpf(digits[0])
        if token.isalpha() and len(token) == 1:
            return self.primary()
        raise Unreadable(f"argument {token!r}")

    def primary(self) -> Any:
        token = self.now()
        self.at += 1
        if re.fullmatch(r"\d*\.?\d+(e[+-]?\d{1,3})?", token):
            return self.number(token)
        if token.isalpha():
            if len(token) > 1:
                self.tokens[self.at - 1 : self.at] = list(token)
                self.spaced[self.at - 1 : self.at] = [False] * len(token)
            name = token[0]
            return {"i": lambda p: mpmath.mpc(0, 1), "e": lambda p: mpmath.e}.get(name, lambda p: p[name])
        if token == r"\$":
            self.mark = "dollars"
            return self.primary()
        if token == "{":
            value = self.sum()
            if self.take(r"\over"):
                value = combined(value, self.sum(), lambda a, b: a / b)
            self.need("}")
            return value
        if token == r"\frac":
            return combined(self.argument(), self.argument(), lambda a, b: a / b)
        if token == r"\sqrt":
            return self.root()
        if token == r"\pi":
            return lambda p: mpmath.pi
        if token == r"\infty":
            return ("inf", 1)
        return self.container(token)

    def number(self, digits: str) -> Any:
        """A number, a mixed number, or one with a base."""
        if self.take("_"):
            return ("base", digits.lstrip("0"), self.exponent_digits().lstrip("0"))
        value = mpmath.mpf("0" + digits)
        following, slash, below = self.now(), self.now(1), self.now(2)
        if re.fullmatch(r"\d*\.?\d+", following):
            good = (
                self.spaced[self.at]
                and slash == "/"
                and digits.isdigit()
                and following.isdigit()
                and below.isdigit()
            )
            if not good or not 0 < int(following) < int(below):
                raise Unreadable("two numbers side by side")
            self.at += 3
            return lambda p: value + mpmath.mpf(int(following)) / int(below)
        if following in (r"\frac", "{"):
            start = self.at
            part = self.primary()
            inside = "".join(self.tokens[start : self.at])
            if re.fullmatch(r"\{\d+\}", inside):
                raise Unreadable("digits in braces")
            if not re.fullmatch(r"\\frac[\d{}+]*|\{\d+\\over\d+\}", inside):
                return lambda p: value * part(p)
            if not (digits.isdigit() and 0 < part({}) < 1):
                raise Unreadable("no mixed number")
            return lambda p: value + part(p)
        return lambda p: value

    def root(self) -> Value:
        degree = 2
        if self.take("["):
            degree = int(self.now()) if self.now().isdigit() else 0
            self.at += 1
            self.need("]")
        value = self.argument()
        return lambda p: mpmath.mpc(value(p)) ** (mpmath.mpf(1) / degree)

    def container(self, token: str) -> Any:
        if token in ("(", "["):
            items = self.items()
            closing = self.need(")", "]")
            if len(items) > 1:
                return ("seq", token, closing, items)
            if (token, closing) != ("(", ")") or not (callable(items[0]) or items[0][0] == "unit"):
                raise Unreadable("brackets")
            return items[0]
        if token == r"\{":
            items = self.items()
            self.need(r"\}")
            return ("set", items)
        if token in (r"\begin{pmatrix}", r"\begin{bmatrix}"):
            rows = [[self.relation()]]
            while mark := self.take("&", "\\\\"):
                rows[-1].append(self.relation()) if mark == "&" else rows.append([self.relation()])
            self.need(token.replace("begin", "end"))
            return ("mat", rows)
        raise Unreadable(f"{token!r} where a value belongs")
