r"""Reads what an expression is made of: numbers, variables, brackets, commands, functions, matrices (see `_latex`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from verifiers._latex_cursor import Cursor
from verifiers._latex_tokens import COMMAND, LETTERS, NUMBER, SIGN, Malformed
from verifiers._trees import INFINITY, MINUS_ONE, Node

DEPTH_LIMIT = 40

RELATIONS = {
    "=": "=",
    "<": "<",
    ">": ">",
    "le": "<=",
    "ge": ">=",
    "in": "in",
    "ne": "!=",
    "equiv": "=",
    "approx": "approx",
}
GREEK = frozenset(
    "alpha beta gamma delta epsilon varepsilon zeta eta theta vartheta iota kappa lambda mu nu xi rho sigma tau "
    "upsilon phi chi psi omega Gamma Delta Theta Lambda Xi Sigma Phi Psi Omega ell emptyset hbar "
    "triangle angle".split()
)
CONSTANTS = {"pi": ("const", "pi"), "infty": INFINITY}
_MARKS = {"degree": "deg", "percent": "pct"}
_CLOSING = {"(": ")", "[": "]"}


class Atoms(Cursor):
    """Primaries; what they hold is read by the classes derived from this one."""

    if TYPE_CHECKING:

        def sum(self) -> Node: ...
        def power(self) -> Node: ...
        def items(self) -> list[Node]: ...
        def starts_factor(self) -> bool: ...
        def command(self) -> Node: ...

    def exponent(self) -> Node:
        if self.take("-"):
            return signed(MINUS_ONE, self.exponent())
        if self.is_sign("{"):
            return self.group()
        if self.is_sign("("):
            return self.primary()
        return self.argument()

    def group(self) -> Node:
        """`{...}`: an expression, or a quotient written with \\over."""
        self.expect("{")
        node = self.sum()
        if self.is_command("over"):
            self.next()
            node = quotient(node, self.sum())
        self.expect("}")
        return node

    def argument(self) -> Node:
        """What a command such as \\frac or \\sqrt takes: a group, or one sign."""
        if self.is_sign("{"):
            return self.group()
        if self.kind == NUMBER:
            node = number(self.value)
            self.next()
            return node
        if self.kind == LETTERS:
            node = self.symbol()
            return node
        if self.kind == COMMAND and (self.value in CONSTANTS or self.value in GREEK or self.value == "frac"):
            return self.primary()
        if self.is_sign("("):
            return self.primary()
        raise Malformed("argument")

    def digit_argument(self) -> Node:
        """Like `argument`, but of a run of digits only the first, as TeX reads `\\frac12`."""
        if self.kind == NUMBER and len(self.value) > 1 and self.value.isdigit():
            first, rest = self.value[0], self.value[1:]
            self.tokens[self.at] = (NUMBER, rest, False)
            self.value = rest
            return number(first)
        return self.argument()

    def primary(self) -> Node:
        self.depth += 1
        if self.depth > DEPTH_LIMIT:
            raise Malformed("too deep")
        node = self.unnested()
        self.depth -= 1
        return node

    def unnested(self) -> Node:
        kind, value = self.kind, self.value
        if kind == NUMBER:
            self.next()
            if self.is_command("overline") and "." in value:
                return self.repeating(int(value.replace(".", "")), 10 ** (len(value) - value.index(".") - 1))
            return self.with_base(value)
        if kind == LETTERS:
            return self.symbol()
        if kind == COMMAND:
            return self.command()
        if kind == SIGN:
            if value in ("(", "["):
                return self.bracket()
            if value == "{":
                return self.group()
            if value == "\\{":
                self.next()
                items = () if self.is_sign("\\}") else tuple(self.items())
                self.expect("\\}")
                return ("set", items)
            if value == "|":
                return self.absolute()
            if value == "\\$":
                self.next()
                self.unit = "dollar"
                return self.primary()
        raise Malformed(f"{value!r} where a value belongs")

    def absolute(self) -> Node:
        self.next()
        self.bars += 1
        node = self.sum()
        self.bars -= 1
        self.expect("|")
        return ("fn", "abs", (node,))

    def bracket(self) -> Node:
        """`(...)`, `[...]`: a group if it holds one expression, else a tuple or an interval."""
        opening = self.value
        self.next()
        bars, self.bars = self.bars, 0
        items = self.items()
        self.bars = bars
        if self.kind != SIGN or self.value not in (")", "]"):
            raise Malformed("bracket")
        closing = self.value
        self.next()
        if len(items) > 1:
            return ("seq", opening, closing, tuple(items))
        if closing != _CLOSING[opening]:
            raise Malformed("brackets")
        if items[0][0] == "unit" and items[0][2] in _MARKS:
            return (_MARKS[items[0][2]], items[0][1])
        if items[0][0] in ("rel", "list", "words"):
            raise Malformed("relation in brackets")
        return ("paren", items[0]) if opening == "[" and items[0][0] == "num" else items[0]

    def repeating(self, above: int, below: int) -> Node:
        """A repeating decimal behind its first digits above / below: 0.1\\overline{6} is 1/6."""
        self.next()
        self.expect("{")
        digits = self.value
        if self.kind != NUMBER or not digits.isdigit():
            raise Malformed("overline")
        self.next()
        self.expect("}")
        nines = 10 ** len(digits) - 1
        return ("num", above * nines + int(digits), below * nines)

    def with_base(self, digits: str) -> Node:
        node = number(digits)
        if not self.is_sign("_"):
            return node
        self.next()
        braces = self.take("{")
        if self.kind == NUMBER and self.value.isdigit() and digits.isdigit():
            base = self.value
            self.next()
        else:
            raise Malformed("base")
        if braces:
            self.expect("}")
        return ("base", digits.lstrip("0") or "0", base.lstrip("0"))

    def symbol(self) -> Node:
        name = self.value
        self.next()
        name = self.subscripted(name)
        if name == "i":
            return ("const", "i")
        return ("const", "e") if name == "e" else ("sym", name)

    def subscripted(self, name: str) -> str:
        while True:
            if self.take("'"):
                name += "'"
            elif self.take("_"):
                if self.take("{"):
                    inside = []
                    while not self.is_sign("}"):
                        if self.kind == "end" or len(inside) > 12:
                            raise Malformed("subscript")
                        inside.append(self.value)
                        self.next()
                    self.next()
                    name += "_" + " ".join(inside)
                elif self.kind in (NUMBER, LETTERS, COMMAND):
                    name += "_" + self.value
                    self.next()
                else:
                    raise Malformed("subscript")
            else:
                return name


def quotient(above: Node, below: Node) -> Node:
    """Numerator over denominator, of which the latter has no unit of its own."""
    if any(part[0] in ("deg", "pct") for part in (below, *(below[1] if below[0] == "*" else ()))):
        raise Malformed("a unit in a denominator")
    return ("/", above, below)


def number(digits: str) -> Node:
    """A decimal as an exact fraction (not reduced)."""
    whole, point, part = digits.partition(".")
    if not point:
        return ("num", int(whole), 1)
    return ("num", int(whole + part), 10 ** len(part))


def signed(sign: Node, node: Node) -> Node:
    """The node with a sign as its first factor; a literal takes a minus into itself."""
    if sign is MINUS_ONE and node[0] == "num":
        return ("num", -node[1], node[2])
    if node[0] == "*":
        return ("*", (sign, *node[1]))
    return ("*", (sign, node))
