r"""Reads the commands of LaTeX in an expression: fractions, roots, functions, matrices, Greek letters.

For texts such as `\frac12` and `\begin{pmatrix} 1 \\ 2 \end{pmatrix}`.
"""

from __future__ import annotations

from collections.abc import Callable

from verifiers.math500.read.lexer import LETTERS, Malformed, Unsupported
from verifiers.math500.read.parser import GREEK, Parser, product, released
from verifiers.math500.read.tree import (
    BOUND,
    INFINITY,
    MINUS_ONE,
    ONE,
    TRIGONOMETRIC,
    Node,
    holds_repeated,
    substituted,
)
from verifiers.math500.read.values import REALS, Matrix, Row, Set, Value, is_expression

SELECTING = frozenset("gcd lcm max min".split())  # one of several numbers in brackets, or made of them
HYPERBOLIC = frozenset("sinh cosh tanh sech csch coth".split())
FUNCTIONS = frozenset("asin acos atan ln log exp cis abs".split()) | TRIGONOMETRIC | HYPERBOLIC
ACCENTS = frozenset("tilde dot ddot overline".split())  # over a name
CONSTANTS = {"pi": ("const", "pi"), "infty": INFINITY, "mathbb R": REALS}
NUMBER_SETS = frozenset(f"mathbb {name}" for name in "NZQC")
MATRICES = frozenset("cases matrix pmatrix bmatrix Bmatrix smallmatrix array".split())
CONDITIONAL = frozenset(["&", "if", "for", "when"])  # before a condition
UNSUPPORTED = frozenset(
    "iint oint lim limits partial cap setminus equiv pmod bmod mod to mapsto Rightarrow iff wedge "
    "vee neg forall exists subset subseteq det".split()
) | {"begin aligned", "begin align*", "begin vmatrix"}
TWO: Node = ("num", 2, 1)
TEN: Node = ("num", 10, 1)


class Commands(Parser):
    """A parser that reads commands, too."""

    def command(self) -> Value:
        return READERS.get(self.value, Commands.unknown)(self)

    def unknown(self) -> Value:
        raise Malformed(f"\\{self.value}")

    def unsupported(self) -> Value:
        raise Unsupported(self.value)

    def fraction(self) -> Node:
        return ("/", *self.two_arguments())

    def binomial(self) -> Node:
        return ("fn", "binom", self.two_arguments())

    def vector(self) -> Row:
        _, items, _ = self.in_brackets()
        if len(items) < 2:
            raise Malformed("a vector")
        return Row("<", ">", tuple(items))

    def constant(self) -> Value:
        return CONSTANTS[self.advance()]

    def letter(self) -> Node:
        self.holds |= self.value == "emptyset"
        return ("sym", self.subscripted("\\" + self.advance()))

    def number_set(self) -> Node:
        return ("sym", self.advance())

    def accented(self) -> Node:
        """A name with what stands over it."""
        return ("sym", self.subscripted(f"{self.advance()} {self.label()}"))

    def rounded(self) -> Node:
        name = self.advance()[1:]  # of lfloor
        node = self.sum()
        self.expect(f"r{name}")
        return ("fn", name, (node,))

    def selection(self) -> Node:
        r"""`\gcd(10, 15)`, `\max\{3, 5\}`."""
        name = self.advance()
        if self.value not in ("(", "[", "\\{"):
            raise Unsupported(name)
        inside = released(self.primary())
        items = inside.items if type(inside) in (Row, Set) else (inside,)
        if not items or not all(map(is_expression, items)):
            raise Malformed(name)
        return ("fn", name, items)

    def root(self) -> Node:
        self.advance()
        degree: Node = TWO
        if self.accept("["):
            degree = self.sum()
            self.expect("]")
        return ("fn", "root", (self.argument(), degree))

    def integral(self) -> Node:
        r"""`\int_0^1 2x\,dx`."""
        end = self.end
        try:
            self.advance()
            self.expect("_")
            low = self.argument()
            self.expect("^")
            high = self.argument()
            places = self.top_level(self.position, end)
            self.end = next(k for k in places if self.tokens[k][:2] == (LETTERS, "d") and k + 1 < end)
            self.go(self.position)
            body = ONE if self.kind == "end" else self.infix()
            place, self.end = self.position, end
            self.go(place + 1)
            return bounded("int", low, high, body, self.symbol())
        except (Malformed, StopIteration):
            raise Unsupported("int") from None

    def repeated(self) -> Node:
        r"""`\sum_{k=1}^5 k`, `\prod_{k=1}^5 k`."""
        name = self.advance()
        try:
            self.expect("_")
            self.expect("{")
            index = self.symbol()
            self.expect("=")
            low = self.sum()
            self.expect("}")
            self.expect("^")
            high = self.argument()
            return bounded(name, low, high, self.term(), index)
        except Malformed:
            raise Unsupported(name) from None

    def function(self) -> Node:
        name = self.advance()
        base = self.argument() if name == "log" and self.accept("_") else TEN
        exponent = self.exponent() if self.accept("^") else ONE
        bracketed = self.value == "("
        factors = [self.power()]
        while not bracketed and self.starts_factor() and self.value != "(" and self.value not in FUNCTIONS:
            factors.append(self.power())
        if exponent == MINUS_ONE:
            name, exponent = "a" + name, ONE
        node = function_of(name, product(factors), base)
        return node if exponent == ONE else ("^", node, exponent)

    def matrix(self) -> Matrix:
        """A matrix, or the cases of a value; what begins here ends where `match` says."""
        close, end = self.match[self.position], self.end
        signs = ("&", "\\\\", "hline", ",") if self.value == "begin cases" else ("&", "\\\\", "hline")
        rows: list[list[Value]] = [[]]
        start = self.position + 1
        for place in [*self.top_level(start, close), close]:
            mark = self.tokens[place][1]
            if place < close and mark not in signs:
                continue
            while start < place and self.tokens[start][1] in CONDITIONAL:
                start += 1
            rows[-1] += self.within(start, place) if start < place else ()
            if mark == "\\\\":
                rows.append([])
            start = place + 1
        self.end = end
        self.go(close + 1)
        rows = [row for row in rows if row]
        if len(set(map(len, rows))) != 1:
            raise Malformed("rows of several lengths")
        return Matrix(tuple(map(tuple, rows)))


READERS: dict[str, Callable[[Commands], Value]] = {
    **dict.fromkeys(UNSUPPORTED, Commands.unsupported),
    **dict.fromkeys(FUNCTIONS, Commands.function),
    **dict.fromkeys(GREEK, Commands.letter),
    **dict.fromkeys(CONSTANTS, Commands.constant),
    **dict.fromkeys(ACCENTS, Commands.accented),
    **dict.fromkeys(SELECTING, Commands.selection),
    **dict.fromkeys(NUMBER_SETS, Commands.number_set),
    **dict.fromkeys((f"begin {name}" for name in MATRICES), Commands.matrix),
    "frac": Commands.fraction,
    "binom": Commands.binomial,
    "sqrt": Commands.root,
    "langle": Commands.vector,
    "int": Commands.integral,
    "sum": Commands.repeated,
    "prod": Commands.repeated,
    "lfloor": Commands.rounded,
    "lceil": Commands.rounded,
}


def function_of(name: str, argument: Node, base: Node) -> Node:
    """A function of an argument; `base` is that of a logarithm."""
    named = {
        "log": ("fn", "log", (argument, base)),
        "exp": ("^", ("const", "e"), argument),
        "cis": ("^", ("const", "e"), ("*", (("const", "i"), argument))),
    }
    return named.get(name, ("fn", name, (argument,)))


def bounded(name: str, low: Node, high: Node, body: Node, index: Node) -> Node:
    if any(map(holds_repeated, (low, high, body))):  # two that share one BOUND
        raise Unsupported("one in another")
    return ("fn", name, (low, high, substituted(body, {index: BOUND})))
