r"""Reads the tokens of an answer into a tree of tuples; nothing in it is ever executed.

Expressions: ("num", n, d), ("sym", name), ("const", "pi" | "e" | "i" | "inf"), ("+", terms), ("*", factors),
("/", a, b), ("^", a, b), ("fn", name, args), ("pm", 1 | -1), ("deg", a), ("pct", a).
Around them: ("list", items), ("seq", open, close, items), ("set", items), ("union", items), ("mat", kind, rows),
("rel", operators, sides), ("unit", a, unit), ("base", digits, base), ("text", words), ("words", a).
"""

from __future__ import annotations

from verifiers._latex_atoms import DEPTH_LIMIT, RELATIONS, signed
from verifiers._latex_commands import Commands
from verifiers._latex_tokens import COMMAND, LETTERS, NUMBER, SIGN, Malformed
from verifiers._trees import MINUS_ONE, Node


class Expressions(Commands):
    """Sums, products and powers, by recursive descent."""

    def sum(self) -> Node:
        self.depth += 1
        if self.depth > DEPTH_LIMIT:
            raise Malformed("too deep")
        terms = []
        while True:
            plus = self.is_sign("+")
            sign = self.sign()
            term = self.term()
            if plus and term[0] in ("seq", "set", "text"):
                raise Malformed("sign before brackets")
            terms.append(term if sign is None else signed(sign, term))
            if not self.starts_sign():
                break
        self.depth -= 1
        return terms[0] if len(terms) == 1 else ("+", tuple(terms))

    def starts_sign(self) -> bool:
        if self.kind == SIGN:
            return self.value in "+-"
        return self.kind == COMMAND and self.value in ("pm", "mp")

    def sign(self) -> Node | None:
        """The signs before a term: None for plus, else a factor."""
        factor: Node | None = None
        count = 0
        while self.starts_sign():
            count += 1
            if count > 4:
                raise Malformed("signs")
            if self.value == "-":
                factor = MINUS_ONE if factor is None else ("*", (MINUS_ONE, factor))
            elif self.value in ("pm", "mp"):
                pm = ("pm", 1 if self.value == "pm" else -1)
                factor = pm if factor is None else ("*", (factor, pm))
            self.next()
        if factor == ("*", (MINUS_ONE, MINUS_ONE)):
            return None
        return factor

    def term(self) -> Node:
        factors = [self.power()]
        while True:
            if self.kind == SIGN and self.value in "*/":
                operator = self.value
                self.next()
                if operator == "*" and self.is_sign("*"):
                    raise Malformed("**")
                sign = self.sign()
                right = self.power()
                if sign is not None:
                    right = signed(sign, right)
                if operator == "/":
                    factors = [_divide(factors, right)]
                else:
                    factors.append(right)
            elif self.kind == NUMBER:
                factors.append(self.mixed_number(factors))
            elif self.starts_factor():
                self.check_neighbours(factors)
                called = factors[-1][0] == "sym" and self.is_sign("(")
                literal = self.tokens[self.at - 1][0] == NUMBER
                factor = self.power()
                factors.append(("paren", factor) if called and factor[0] == "num" else factor)
                if literal:
                    self.join_mixed(factors)
            else:
                break
        return factors[0] if len(factors) == 1 else ("*", tuple(factors))

    def join_mixed(self, factors: list[Node]) -> None:
        r"""Make a whole number and the proper fraction behind it one number; no `2\frac{3}{2}`."""
        mark = factors[-1][0] if factors[-1][0] in ("deg", "pct") else ""
        whole, part = factors[-2], factors[-1][1] if mark else factors[-1]
        if whole[0] == "num" and _is_quotient(part):
            if whole[2] != 1 or not 0 < part[1][1] < part[2][1]:
                raise Malformed("neither a mixed number nor clearly a product")
            self.mixed = True
            top = part[1][1] if whole[1] >= 0 else -part[1][1]
            node: Node = ("num", whole[1] * part[2][1] + top, part[2][1])
            factors[-2:] = [(mark, node) if mark else node]

    def mixed_number(self, factors: list[Node]) -> Node:
        """The fraction of a mixed number written as `1 1/2`; two numbers side by side are nothing else."""
        slash, below = self.peek(), self.peek(2)
        whole = factors[-1]
        if not (
            len(factors) == 1
            and whole[0] == "num"
            and whole[2] == 1
            and self.spaced
            and slash[:2] == (SIGN, "/")
            and below[0] == NUMBER
            and self.value.isdigit()
            and below[1].isdigit()
            and 0 < int(self.value) < int(below[1])
        ):
            raise Malformed("two numbers side by side")
        top, bottom = int(self.value), int(below[1])
        self.next()
        self.next()
        self.next()
        factors.pop()
        self.mixed = True
        node = ("num", whole[1] * bottom + top, bottom)
        return ("deg", node) if self.takes_degree() else node

    def check_neighbours(self, factors: list[Node]) -> None:
        """A group of digits straight behind a number, as in `4{10}`, is no product."""
        if self.is_sign("{") and self.peek()[0] == NUMBER and self.peek(2)[:2] == (SIGN, "}"):
            raise Malformed("digits in braces")

    def starts_factor(self) -> bool:
        if self.kind == LETTERS:
            return not (self.is_unit_letter() and self.peek()[0] in ("end",)) and not (
                self.value == "U" and self.peek()[0] == SIGN and self.peek()[1] in "(["
            )
        if self.kind == SIGN:
            return self.value in ("(", "[", "{", "\\{") or (self.value == "|" and not self.bars)
        if self.kind == COMMAND:
            name = self.value
            return not (
                name in RELATIONS
                or name in ("pm", "mp", "cup", "deg", "over", "rfloor", "rceil")
                or name.startswith("end ")
            )
        return False

    def power(self) -> Node:
        """A primary with what stands behind it: powers, factorials, degree and per cent signs."""
        node = self.primary()
        while True:
            if self.takes_degree():
                node = ("deg", node)
            elif self.take("^"):
                node = ("^", node, self.exponent())
            elif self.take("!"):
                node = ("fn", "!", (node,))
            elif self.take("%"):
                node = ("pct", node)
            else:
                return node

    def takes_degree(self) -> bool:
        """True behind a degree sign in any of its forms, which is then read."""
        if self.is_command("deg"):
            self.next()
            return True
        braces = self.peek()[:2] == (SIGN, "{")
        sign = self.peek(2 if braces else 1)
        if not self.is_sign("^") or sign[0] != COMMAND or sign[1] not in ("circ", "deg"):
            return False
        for _ in range(3 if braces else 2):
            self.next()
        if braces:
            self.expect("}")
        return True


def _divide(factors: list[Node], right: Node) -> Node:
    return ("/", factors[0] if len(factors) == 1 else ("*", tuple(factors)), right)


def _is_quotient(node: Node) -> bool:
    r"""True for a quotient of two whole numbers: `\frac{1}{2}`."""
    return node[0] == "/" and node[1][0] == node[2][0] == "num" and node[1][2] == node[2][2] == 1
