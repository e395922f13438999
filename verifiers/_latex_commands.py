r"""Reads the commands of an expression: fractions, roots, functions, matrices (see `_latex`)."""

from __future__ import annotations

from verifiers._latex_atoms import CONSTANTS, GREEK, Atoms, quotient
from verifiers._latex_tokens import COMMAND, NUMBER, Malformed, Unsupported
from verifiers._trees import MINUS_ONE, Node

_FUNCTIONS = frozenset(
    "sin cos tan cot sec csc asin acos atan ln log lg exp sinh cosh tanh gcd lcm max min det".split()
)
_UNSUPPORTED = frozenset(
    "int iint oint sum prod lim limits partial begin\u0020cases cap setminus equiv pmod bmod mod to mapsto "
    "Rightarrow iff wedge vee neg forall exists subset subseteq "
    "det max min gcd lcm".split()
) | {"begin cases", "begin aligned", "begin align*", "begin vmatrix"}
_MATRICES = frozenset("matrix pmatrix bmatrix Bmatrix smallmatrix array".split())


class Commands(Atoms):
    """Everything that begins with a backslash."""

    def command(self) -> Node:
        name = self.value
        if name == "frac":
            self.next()
            above = self.digit_argument()
            return quotient(above, self.digit_argument())
        if name == "sqrt":
            return self.root()
        if name in CONSTANTS:
            self.next()
            return CONSTANTS[name]
        if name in _UNSUPPORTED:
            raise Unsupported(name)
        if name in _FUNCTIONS:
            return self.function()
        if name in GREEK:
            self.next()
            return ("sym", self.subscripted("\\" + name))
        if name == "binom":
            self.next()
            above = self.digit_argument()
            return ("fn", "binom", (above, self.digit_argument()))
        if name in ("lfloor", "lceil"):
            self.next()
            node = self.sum()
            if not self.is_command("r" + name[1:]):
                raise Malformed("floor")
            self.next()
            return ("fn", name[1:], (node,))
        if name.startswith("begin ") and name[6:] in _MATRICES:
            return self.matrix(name[6:])
        raise Malformed(f"\\{name}")

    def root(self) -> Node:
        self.next()
        degree: Node = ("num", 2, 1)
        if self.take("["):
            degree = self.sum()
            self.expect("]")
        if self.kind == NUMBER and len(self.value) > 1 and self.value.isdigit() and not self.spaced:
            raise Malformed("digits behind a root")
        return ("fn", "root", (self.argument(), degree))

    def function(self) -> Node:
        name = self.value
        self.next()
        base: Node | None = None
        exponent: Node | None = None
        for _ in range(2):
            if self.take("_"):
                base = self.argument()
            elif self.is_sign("^"):
                self.next()
                exponent = self.exponent()
        if self.is_sign("("):
            argument = self.power()
        else:
            factors = [self.power()]
            while (self.starts_factor() and not self.is_sign("(")) and not (
                self.kind == COMMAND and self.value in _FUNCTIONS
            ):
                factors.append(self.power())
            argument = factors[0] if len(factors) == 1 else ("*", tuple(factors))
        if name == "log":
            node: Node = ("fn", "log", (argument, base if base is not None else ("num", 10, 1)))
        elif base is not None:
            raise Malformed("subscript of a function")
        else:
            node = ("fn", name, (argument,))
        return node if exponent is None else self.function_power(name, node, exponent)

    def function_power(self, name: str, node: Node, exponent: Node) -> Node:
        if exponent == MINUS_ONE or exponent == ("num", -1, 1):
            if name in ("sin", "cos", "tan"):
                return ("fn", "a" + name, node[2])
            raise Malformed("inverse")
        return ("^", node, exponent)

    def matrix(self, kind: str) -> Node:
        self.next()
        rows: list[tuple[Node, ...]] = []
        while True:
            if self.is_command("hline"):
                self.next()
                continue
            if self.is_command(f"end {kind}"):
                break
            row = [self.sum()]
            while self.take("&"):
                row.append(self.sum())
            rows.append(tuple(row))
            if not self.take("\\\\"):
                break
        if not self.is_command(f"end {kind}") or not rows or len({len(row) for row in rows}) != 1:
            raise Malformed("matrix")
        self.next()
        return ("mat", tuple(rows))
