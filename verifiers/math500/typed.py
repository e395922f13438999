"""Are two parsed answers equal, kind by kind: lists, tuples, intervals, sets, matrices, equations, units, bases.

The reference decides the reading: what it leaves open (a unit, the name before an equals sign, the base) the answer
may leave out or add; what it says must not be contradicted.
"""

from __future__ import annotations

from collections.abc import Sequence

from verifiers.math500.probe import NO, UNSURE, YES, compare
from verifiers.math500.relations import (
    as_interval,
    difference,
    expanded,
    infinity_sign,
    is_name,
    named_value,
    normal_relation,
    simplified,
    spread,
    symbols_of,
    union_of,
)
from verifiers.math500.tree import EXPRESSIONS, Node, keeps_form, substituted, symbols
from verifiers.math500.units import conflict, is_known
from verifiers.verdicts import Tier

ITEM_LIMIT = 40  # of a list whose order is free


class Comparison:
    """One answer against one reference; `plain` stays True while only exact rational numbers decided."""

    def __init__(self, length: int, strict: bool) -> None:
        self.length = length
        self.strict = strict
        self.plain = True
        self.structured = False

    @property
    def tier(self) -> Tier:
        """Which tier the verdict came from."""
        if self.structured:
            return Tier.TYPED
        return Tier.RATIONAL if self.plain else Tier.PROBE

    def same(self, answer: Node, gold: Node) -> int:
        """NO, YES or UNSURE for two trees of any kind."""
        answer, gold = spread(simplified(answer)), spread(simplified(gold))
        if answer[0] == "words":
            if self.strict and gold[0] != "words":
                return NO
            answer = answer[1]
        if gold[0] == "words":
            gold = gold[1]
        if answer[0] == "list" and gold[0] == "union" and not self.strict:
            answer = union_of(answer) or answer
        if gold[0] == "rel" or answer[0] == "rel":
            return self.same_relation(answer, gold)
        if gold[0] == "unit" or answer[0] == "unit":
            return self.same_quantity(answer, gold)
        if gold[0] in EXPRESSIONS and answer[0] in EXPRESSIONS:
            signs = infinity_sign(answer), infinity_sign(gold)
            if signs != (0, 0):
                self.plain = False
                return YES if signs[0] == signs[1] else NO
            if self.strict and not keeps_form(answer, gold):
                return NO
            verdict, plain = compare(answer, gold, self.length)
            self.plain = self.plain and plain
            return verdict
        self.plain = False
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
        if kind == "seq":
            if answer_kind == "seq":
                return self.in_order(answer[3], gold[3]) if answer[1:3] == gold[1:3] else NO
            if answer_kind == "list" and gold[1:3] == ("(", ")") and not self.strict:
                return self.in_order(answer[1], gold[3])
        elif kind == "union" == answer_kind:
            return self.any_order(answer[1], gold[1])
        elif kind == "mat" == answer_kind:
            if [len(row) for row in answer[1]] == [len(row) for row in gold[1]]:
                return self.in_order(sum(answer[1], ()), sum(gold[1], ()))
        elif kind == "text" == answer_kind:
            return YES if answer[1] == gold[1] else NO
        elif kind == "set" and answer_kind in EXPRESSIONS:
            if len(gold[1]) == 1 and not self.strict:
                return self.same(answer, gold[1][0])
        elif kind in EXPRESSIONS and answer_kind == "set":
            if len(answer[1]) == 1 and not self.strict:
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
        ends = infinity_sign(answer), infinity_sign(gold)
        if ends != (0, 0):
            return YES if ends[0] == ends[1] else NO
        return self.same(answer, gold)

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
        if gold[0] == "rel":
            value = named_value(gold)
            if value is None or (self.strict and symbols_of(value)):
                return NO
            return self.same(answer, value)
        value = self.value_of_chain(answer, gold)
        return NO if value is None else self.same(value, gold)

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
        if len(a[2]) == len(g[2]):
            if self.in_order(a[2], g[2]) == YES:
                return YES
            if a[1] == ("=",) and self.in_order(a[2][::-1], g[2]) == YES:
                return YES
        value = named_value(gold)
        if value is not None and not symbols_of(value):
            return NO  # 2x = 10 is not solved
        if self.strict or a[1] != ("=",) or not all(side[0] in EXPRESSIONS for side in (*a[2], *g[2])):
            return NO
        return self.proportional(difference(a), difference(g))

    def proportional(self, a: Node, g: Node) -> int:
        """YES if a = c * g for a constant c: the same line."""
        names = symbols(g)
        if symbols(a) != names or not names:
            return NO
        point = {name: ("num", 1009 + 89 * k * k + 7 * k, 113) for k, name in enumerate(sorted(names))}
        here_a, here_g = substituted(a, point), substituted(g, point)
        verdict, _ = compare(("*", (a, here_g)), ("*", (g, here_a)), self.length)
        zero = ("num", 0, 1)
        nonzero = all(compare(here, zero, self.length)[0] == NO for here in (here_g, here_a))
        return verdict if nonzero else NO
