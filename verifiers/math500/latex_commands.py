r"""Reads the commands of LaTeX in an expression: fractions, roots, functions, matrices, Greek letters.

For texts such as `\frac12` and `\begin{pmatrix} 1 \\ 2 \end{pmatrix}`.
"""

from __future__ import annotations

from verifiers.math500.lexer import COMMAND, LETTERS, NUMBER, Malformed, Unsupported
from verifiers.math500.parser import GREEK, Parser, product, quotient, released
from verifiers.math500.tree import (
    BOUND,
    INFINITY,
    MINUS_ONE,
    ONE,
    REPEATED,
    TRIGONOMETRIC,
    Node,
    holds_repeated,
    substituted,
)
from verifiers.math500.values import REALS, Matrix, Relation, Row, Set, Several, Value, is_expression

SELECTING = frozenset("gcd lcm max min".split())  # one of several numbers in brackets, or made of them
HYPERBOLIC = frozenset("sinh cosh tanh sech csch coth cis".split())
FUNCTIONS = frozenset("asin acos atan ln log lg exp det abs".split()) | TRIGONOMETRIC | HYPERBOLIC | SELECTING
ACCENTS = frozenset("tilde dot ddot overline".split())  # over a name
CONSTANTS = {"pi": ("const", "pi"), "infty": INFINITY, "mathbb R": REALS}
MATRICES = frozenset("cases matrix pmatrix bmatrix Bmatrix smallmatrix array".split())
CONDITIONAL = frozenset(["&", "if", "for", "when"])  # before a condition
UNSUPPORTED = frozenset(
    "iint oint lim limits partial cap setminus equiv pmod bmod mod to mapsto Rightarrow iff wedge "
    "vee neg forall exists subset subseteq det max min gcd lcm".split()
) | {"begin aligned", "begin align*", "begin vmatrix"}


class Commands(Parser):
    """A parser that reads commands, too."""

    def command(self) -> Value:
        name = self.value
        if name == "frac":
            return quotient(*self.two_arguments())
        if name == "langle":
            _, items, _ = self.in_brackets()
            if len(items) < 2:
                raise Malformed("a vector")
            return Row("<", ">", tuple(items))
        if name == "binom":
            return ("fn", "binom", self.two_arguments())
        if name == "sqrt":
            return self.root()
        if name in SELECTING and self.peek()[1] in ("(", "[", "\\{"):
            return self.selection()
        if name in REPEATED:
            return self.repeated()
        if name in UNSUPPORTED:
            raise Unsupported(name)
        if name in FUNCTIONS:
            return self.function()
        if name.startswith("begin ") and name[6:] in MATRICES:
            return self.matrix(name[6:])
        self.advance()
        if name in CONSTANTS:
            return CONSTANTS[name]
        if name.startswith("mathbb "):
            return ("sym", self.subscripted(name))
        if name == "overline" and self.peek(-2)[0] != NUMBER and self.peek(self.value == "{")[0] == NUMBER:
            return self.argument()  # a residue class
        if name in ACCENTS:
            return ("sym", self.subscripted(f"{name} {self.argument_name()}"))
        if name in GREEK:
            return ("sym", self.subscripted("\\" + name))
        if name in ("lfloor", "lceil"):
            node = self.sum()
            if not self.accept("r" + name[1:], COMMAND):
                raise Malformed("floor")
            return ("fn", name[1:], (node,))
        raise Malformed(f"\\{name}")

    def argument_name(self) -> str:
        """The letters that an accent stands over, and what joins them."""
        braces = self.accept("{")
        values = []
        while self.value != "}" and self.kind in (LETTERS, COMMAND) and (braces or not values):
            values.append(self.advance())
        if not values or (braces and not self.accept("}")):
            raise Malformed("accent")
        return " ".join(values)

    def selection(self) -> Node:
        r"""`\gcd(10, 15)`, `\max\{3, 5\}`."""
        name, inside = self.advance(), released(self.primary())
        items = inside.items if type(inside) in (Row, Set) else (inside,)
        if not items or not all(map(is_expression, items)):
            raise Malformed(name)
        return ("fn", name, items)

    def root(self) -> Node:
        self.advance()
        degree: Node = ("num", 2, 1)
        if self.accept("["):
            degree = self.sum()
            self.expect("]")
        if self.kind == NUMBER and len(self.value) > 1 and self.value.isdigit() and not self.spaced:
            raise Malformed("digits behind a root")
        return ("fn", "root", (self.argument(), degree))

    def repeated(self) -> Node:
        r"""`\int_0^1 2x\,dx`, `\sum_{k=1}^5 k`, `\prod_{k=1}^5 k`."""
        name, end, index = self.advance(), self.end, BOUND
        try:
            self.expect("_")
            if name == "int":
                low = self.argument()
            else:
                self.expect("{")
                index = self.symbol()
                self.expect("=")
                low = self.sum()
                self.expect("}")
            self.expect("^")
            high = self.argument()
            if name != "int":
                return self.bounded(name, low, high, self.term(), index)
            places = self.top_level(self.position, end)
            self.end = next(k for k in places if self.tokens[k][:2] == (LETTERS, "d") and k + 1 < end)
            self.go(self.position)
            body = ONE if self.kind == "end" else self.infix()
            place, self.end = self.position, end
            self.go(place + 1)
            return self.bounded(name, low, high, body, self.symbol())
        except (Malformed, StopIteration):
            raise Unsupported(name) from None

    def bounded(self, name: str, low: Node, high: Node, body: Node, index: Node) -> Node:
        if any(map(holds_repeated, (low, high, body))):  # 100 terms of 100 terms of ...
            raise Unsupported("one in another")
        return ("fn", name, (low, high, substituted(body, {index: BOUND})))

    def function(self) -> Node:
        name = self.advance()
        base = exponent = None
        for _ in range(2):
            if self.accept("_"):
                base = self.argument()
            elif self.accept("^"):
                exponent = self.exponent()
        bracketed = self.value == "("
        factors = [self.power()]
        while not bracketed and self.starts_factor() and self.value != "(" and self.value not in FUNCTIONS:
            factors.append(self.power())
        arguments = (product(factors),)
        if name == "log" or (name == "lg" and base is None):
            name, arguments = "log", (*arguments, base or ("num", 10, 1))
        elif base is not None:
            raise Malformed("subscript of a function")
        if exponent != MINUS_ONE:
            node = hyperbolic(name, arguments[0]) if name in HYPERBOLIC else ("fn", name, arguments)
            return node if exponent is None else ("^", node, exponent)
        if name not in TRIGONOMETRIC | HYPERBOLIC:
            raise Malformed("inverse")
        return ("fn", "a" + name, arguments)

    def matrix(self, kind: str) -> Value:
        """A matrix, or the equations in the rows of one; what begins here ends where `match` says."""
        close, end = self.match[self.position], self.end
        rows: list[list[Value]] = [[]]
        start = self.position + 1
        for place in [*self.top_level(start, close), close]:
            mark = self.tokens[place][1]
            comma = kind == "cases" and mark == ","
            if place < close and mark not in ("&", "\\\\", "hline") and not comma:
                continue
            while start < place and self.tokens[start][1] in CONDITIONAL:
                start += 1
            if start < place:
                cells = self.within(start, place)
                if len(cells) > 1:
                    raise Malformed("two values in a cell")
                rows[-1] += cells
            elif (mark == "&" and kind != "cases") or comma:
                raise Malformed("an empty cell")
            if mark == "\\\\":
                rows.append([])
            start = place + 1
        self.end = end
        self.go(close + 1)
        return matrix_or_list(kind, [tuple(row) for row in rows if row])


def matrix_or_list(kind: str, rows: list[tuple[Value, ...]]) -> Value:
    if not rows or len(set(map(len, rows))) != 1:
        raise Malformed("matrix")
    if all(len(row) == 1 and type(row[0]) is Relation for row in rows):
        return Several(tuple(row[0] for row in rows))
    if kind != "cases" and any(type(cell) is Relation for row in rows for cell in row):
        raise Malformed("relations in a matrix")
    return Matrix(tuple(rows))


def hyperbolic(name: str, argument: Node) -> Node:
    """By exponentials, of which it is known how large they get; cis of an angle, too."""
    if name == "cis":
        return ("^", ("const", "e"), ("*", (("const", "i"), argument)))
    up, down = (("^", ("const", "e"), ("*", (sign, argument))) for sign in (ONE, MINUS_ONE))
    above, below = ("+", (up, ("*", (MINUS_ONE, down)))), ("+", (up, down))
    if name in ("tanh", "coth"):
        return ("/", above, below) if name == "tanh" else ("/", below, above)
    whole, two = above if name in ("sinh", "csch") else below, ("num", 2, 1)
    return ("/", whole, two) if name in ("sinh", "cosh") else ("/", two, whole)
