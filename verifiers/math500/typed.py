"""Are two parsed answers equal, kind by kind: lists, tuples, intervals, sets, matrices, equations, units, bases.

The reference decides the reading: what it leaves open (a unit, the name before an equals sign, the base) the answer
may leave out or add; what it says must not be contradicted.
"""

from __future__ import annotations

from collections.abc import Sequence

from verifiers.math500.lexer import Malformed, Unsupported
from verifiers.math500.probe import NO, UNSURE, YES, compare
from verifiers.math500.tree import (
    EXPRESSIONS,
    INFINITY,
    MINUS_ONE,
    ONE,
    TRIGONOMETRIC,
    Node,
    holds_container,
    keeps_form,
    leaves,
    substituted,
    symbols,
)
from verifiers.math500.units import conflict, is_known
from verifiers.verdicts import PROBE, RATIONAL, TYPED

ITEM_LIMIT = 40  # of a list whose order is free
_FLIPPED = {"<": ">", ">": "<", "<=": ">=", ">=": "<="}
NEGATIVE_INFINITY: Node = ("*", (MINUS_ONE, INFINITY))
INFINITIES = (INFINITY, NEGATIVE_INFINITY)


class Comparison:
    """One answer against one reference, of so many characters together.

    `rational` stays True while only exact rational numbers decided, `structured` False while no container was met.
    """

    def __init__(self, length: int, strict: bool) -> None:
        self.length = length
        self.strict = strict
        self.rational = True
        self.structured = False

    @property
    def tier(self) -> int:
        if self.structured:
            return TYPED
        return RATIONAL if self.rational else PROBE

    def same(self, answer: Node, gold: Node) -> int:
        """NO, YES or UNSURE for two trees of any kind."""
        answer, gold = spread(simplified(answer)), spread(simplified(gold))
        if answer[0] == "words" != gold[0] and self.strict:
            return NO
        answer = answer[1] if answer[0] == "words" else answer
        gold = gold[1] if gold[0] == "words" else gold
        if answer[0] == "list" and gold[0] == "union" and not self.strict:
            answer = union_of(answer) or answer
        kinds = answer[0], gold[0]
        if "rel" in kinds:
            return self.same_relation(answer, gold)
        if "unit" in kinds:
            return self.same_quantity(answer, gold)
        if answer[0] in EXPRESSIONS and gold[0] in EXPRESSIONS:
            infinite = same_infinity(answer, gold)
            if infinite is not None:
                self.rational = False
                return infinite
            if self.strict and not keeps_form(answer, gold):
                return NO
            verdict, rational = compare(answer, gold, self.length)
            self.rational &= rational
            return verdict
        self.structured = True
        return self.same_container(answer, gold)

    def same_container(self, answer: Node, gold: Node) -> int:
        kinds = kind, answer_kind = gold[0], answer[0]
        if "base" in kinds:
            return self.same_base(answer, gold)
        if kind in ("list", "set") and answer_kind in ("list", "set"):
            if self.strict and (kind, answer_kind) == ("set", "list"):
                return NO
            return self.any_order(answer[1], gold[1])
        if kind == "seq" == answer_kind:
            return self.in_order(answer[3], gold[3]) if answer[1:3] == gold[1:3] else NO
        if kind == "union" == answer_kind:
            return self.any_order(answer[1], gold[1])
        if kind == "mat" == answer_kind and list(map(len, answer[1])) == list(map(len, gold[1])):
            return self.in_order(sum(answer[1], ()), sum(gold[1], ()))
        if kind == "text" == answer_kind:
            return YES if answer[1] == gold[1] else NO
        if self.strict:
            return NO
        if answer_kind == "list" and gold[:3] == ("seq", "(", ")"):
            return self.in_order(answer[1], gold[3])
        if kind == "set" and answer_kind in EXPRESSIONS and len(gold[1]) == 1:
            return self.same(answer, gold[1][0])
        if kind in EXPRESSIONS and answer_kind == "set" and len(answer[1]) == 1:
            return self.same(answer[1][0], gold)
        return NO

    def in_order(self, answer: Sequence[Node], gold: Sequence[Node]) -> int:
        if len(answer) != len(gold):
            return NO
        verdict = YES
        for a, g in zip(answer, gold, strict=True):
            one = self.element(a, g)
            if one == NO:
                return NO
            verdict = max(verdict, one)
        return verdict

    def element(self, answer: Node, gold: Node) -> int:
        """Elements of containers: infinite ends of intervals compare by their sign."""
        if answer[0] == "unit" and answer[2] == "percent" and gold[0] != "unit":
            return NO
        infinite = same_infinity(answer, gold)
        return self.same(answer, gold) if infinite is None else infinite

    def any_order(self, answer: Sequence[Node], gold: Sequence[Node]) -> int:
        """As multisets: every element of one is an element of the other, as often."""
        answer, gold = expanded(answer), expanded(gold)
        if len(answer) != len(gold):
            return NO
        if len(gold) > ITEM_LIMIT:
            return self.in_order(answer, gold)
        verdict = YES
        for g in gold:
            unsure = False
            for k, a in enumerate(answer):
                one = self.element(a, g)
                if one == YES:
                    del answer[k]
                    break
                unsure |= one == UNSURE
            else:
                if not unsure:
                    return NO
                verdict = UNSURE
        return verdict

    def same_quantity(self, answer: Node, gold: Node) -> int:
        (a, unit), (g, gold_unit) = (node[1:] if node[0] == "unit" else (node, "") for node in (answer, gold))
        return NO if conflict(unit, gold_unit) else self.same(a, g)

    def same_base(self, answer: Node, gold: Node) -> int:
        """Numbers with a base: the same digits in the same base; the answer may leave the base out."""
        if gold[0] != "base":  # then it is decimal
            return self.same(("num", int(answer[1]), 1), gold) if answer[2] == "10" else NO
        if answer[0] == "base":
            return YES if answer[1:] == gold[1:] else NO
        if self.strict or answer[0] != "num" or answer[2] != 1:
            return NO
        return YES if str(answer[1]) == gold[1] else NO

    def same_relation(self, answer: Node, gold: Node) -> int:
        self.structured = True
        if answer[0] == "rel" and gold[0] == "rel":
            return self.same_relations(answer, gold)
        if gold[0] != "rel":
            value = self.value_of_chain(answer, gold)
            return NO if value is None else self.same(value, gold)
        value = named_value(gold)
        return NO if value is None or (self.strict and symbols(value)) else self.same(answer, value)

    def value_of_chain(self, answer: Node, gold: Node) -> Node | None:
        """What `a = b = c` says where the reference is a value: the side that is one; two of them must agree."""
        operators, sides = answer[1], answer[2]
        if operators == ("in",) and is_name(sides[0]) and sides[0][0] != "*":
            return sides[1]
        if operators[-1] == "approx" and len(sides) > 1 and not is_name(sides[-2]) and not self.strict:
            operators, sides = operators[:-1], sides[:-1]  # the exact value stands before its approximation
        if any(operator != "=" for operator in operators):
            return as_interval(answer) if gold[0] in ("seq", "union") and not self.strict else None
        values = [side for side in sides if not is_name(side)] or [sides[-1]]
        agree = all(self.same(value, values[-1]) == YES for value in values[:-1])
        return values[-1] if agree else None

    def same_relations(self, answer: Node, gold: Node) -> int:
        if gold[1] == ("in",) and answer[1] != ("in",) and not self.strict:
            names = [side for side in answer[2] if is_name(side)]
            interval = as_interval(answer) if names == [gold[2][0]] else None
            return NO if interval is None else self.same(interval, gold[2][1])
        if any(side[0] == "unit" and is_name(side[1]) and is_known(side[2]) for side in answer[2]):
            return NO  # a name has no unit
        a, g = normal_relation(answer), normal_relation(gold)
        if a[1] != g[1]:
            return NO
        if self.in_order(a[2], g[2]) == YES or (a[1] == ("=",) and self.in_order(a[2][::-1], g[2]) == YES):
            return YES
        value = named_value(gold)
        if value is not None and not symbols(value):
            return NO  # 2x = 10 is not solved
        if self.strict or a[1] != ("=",) or not all(side[0] in EXPRESSIONS for side in (*a[2], *g[2])):
            return NO
        a, g = (("+", (left, ("*", (MINUS_ONE, right)))) for left, right in (a[2], g[2]))
        return self.proportional(a, g)

    def proportional(self, a: Node, g: Node) -> int:
        """YES if a = c * g for a constant c: the same line."""
        names = symbols(g)
        if symbols(a) != names or not names:
            return NO
        point = {
            ("sym", name): ("num", 1009 + 89 * k * k + 7 * k, 113) for k, name in enumerate(sorted(names))
        }
        here_a, here_g = substituted(a, point), substituted(g, point)
        verdict, _ = compare(("*", (a, here_g)), ("*", (g, here_a)), self.length)
        zero = ("num", 0, 1)
        nonzero = all(compare(here, zero, self.length)[0] == NO for here in (here_g, here_a))
        return verdict if nonzero else NO


# What equations, inequalities and plus-minus signs stand for.


def is_name(node: Node) -> bool:
    """True for what a value may be called: x, f(x), AB, P(A), a word, an angle; no sums, no numbers."""
    kind = node[0]
    if kind in ("sym", "text"):
        return True
    if kind == "words" or (kind == "unit" and not is_known(node[2])):
        return is_name(node[1])
    if kind == "*":
        if node[1][0][0] == "sym" and all(part[0] == "paren" for part in node[1][1:]):
            return True  # f(2)
        return all(part[0] == "seq" or is_name(part) for part in node[1]) and len(node[1]) <= 4
    if kind == "seq":
        return all(map(is_name, node[3]))
    return kind == "fn" and node[1] in TRIGONOMETRIC | {"ln"} and is_name(node[2][0])


def named_value(gold: Node) -> Node | None:
    """The value of a reference such as x = 5, x in [2, 7] or y = 2x + 3, which may stand without its name."""
    operators, sides = gold[1], gold[2]
    return sides[1] if operators in (("=",), ("in",)) and is_name(sides[0]) else None


def normal_relation(node: Node) -> Node:
    """With `<` instead of `>`, so that direction does not matter."""
    if any(operator in (">", ">=") for operator in node[1]):
        return ("rel", tuple(_FLIPPED.get(operator, operator) for operator in node[1][::-1]), node[2][::-1])
    return node


def as_interval(node: Node) -> Node | None:
    """An inequality of one variable as an interval: 2 < x <= 5 is (2, 5]."""
    node = normal_relation(node)
    operators, sides = node[1], node[2]
    if any(operator not in ("<", "<=") for operator in operators):
        return None
    opening = "(" if operators[0] == "<" else "["
    closing = ")" if operators[-1] == "<" else "]"
    if any(side[0] == "*" and is_name(side) for side in sides):
        return None  # x t is a product
    if len(sides) == 3 and is_name(sides[1]):
        return ("seq", opening, closing, (sides[0], sides[2]))
    if len(sides) != 2:
        return None
    if is_name(sides[0]):
        return ("seq", "(", closing, (NEGATIVE_INFINITY, sides[1]))
    return ("seq", opening, ")", (sides[0], INFINITY)) if is_name(sides[1]) else None


def union_of(node: Node) -> Node | None:
    """Inequalities of one variable joined by "or" as a union of intervals."""
    if not all(item[0] == "rel" for item in node[1]):
        return None
    names = {side for item in node[1] for side in item[2] if is_name(side)}
    intervals = [as_interval(item) for item in node[1]]
    return ("union", tuple(intervals)) if len(names) == 1 and None not in intervals else None


def same_infinity(answer: Node, gold: Node) -> int | None:
    """YES or NO where one or both are a signed infinity, else None."""
    if answer in INFINITIES or gold in INFINITIES:
        return YES if answer == gold else NO
    return None


def spread(node: Node) -> Node:
    """An expression with a plus-minus sign as the list of both values."""
    if node[0] in ("unit", "words"):
        inner = spread(node[1])
        return node if inner is node[1] else inner
    if node[0] == "rel" and node[1] == ("=",):
        left, right = node[2]
        values = spread(right)
        if values is right:
            return node
        return ("list", tuple(("rel", ("=",), (left, value)) for value in values[1]))
    if node[0] == "num" or (node[0] not in EXPRESSIONS and node[0] != "pm"):
        return node
    signs = leaves(node, "pm")
    if not signs:
        return node
    if signs.count(1) > 1:
        raise Unsupported("two plus-minus signs")
    upper = {("pm", 1): ONE, ("pm", -1): MINUS_ONE}
    lower = {("pm", 1): MINUS_ONE, ("pm", -1): ONE}
    return ("list", (substituted(node, upper), substituted(node, lower)))


def expanded(items: Sequence[Node]) -> list[Node]:
    """The elements with every plus-minus sign as two elements."""
    elements: list[Node] = []
    for item in items:
        item = spread(simplified(item))
        elements.extend(item[1] if item[0] == "list" else (item,))
    return elements


def simplified(node: Node) -> Node:
    """A scalar times a matrix as one matrix, a sign before a base number refused; else the node itself."""
    kind = node[0]
    if kind == "paren" and node[1][0] not in EXPRESSIONS:
        return simplified(node[1])
    if kind == "*" and holds_container(node):
        matrices = [part for part in node[1] if part[0] == "mat"]
        scalars = tuple(part for part in node[1] if part[0] != "mat")
        if len(matrices) == 1 and not any(holds_container(part) for part in scalars):
            rows = matrices[0][1]
            return ("mat", tuple(tuple(("*", (*scalars, cell)) for cell in row) for row in rows))
        if not is_name(node):
            raise Malformed("product of brackets")
    elif kind in ("+", "/", "^", "fn") and holds_container(node):
        raise Malformed("brackets in an expression")
    return node
