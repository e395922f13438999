r"""Sets of real numbers: an interval, an inequality and a set by its conditions all become a `Region`.

So `2 \le x < 5` and `[2, 5)` become the same, and so do `[0, 3) \setminus \{1\}` and `[0, 1) \cup (1, 3)`. `same.py`
compares two regions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import reduce

from verifiers.math500.compare.normal_form import negative
from verifiers.math500.compare.probe import is_negative
from verifiers.math500.compare.value_names import is_name
from verifiers.math500.tree import INFINITY, NEGATIVE_INFINITY, Node
from verifiers.math500.values import (
    REALS,
    Builder,
    Relation,
    Row,
    Set,
    Several,
    Union,
    Value,
    as_value,
    is_expression,
)
from verifiers.reading.tokens import Unsupported

CONDITION_LIMIT = 40  # conditions of one region
_FUNCTIONS = (("sym", "f"), ("sym", "g"))  # a condition may bound f(x) or g(x)
_TURNED_ROUND = {  # {operator: the operator if the sides are swapped}
    "<": ">",
    ">": "<",
    "<=": ">=",
    ">=": "<=",
}
End = tuple[str, Node]  # an end of an interval: its bracket and its value, ("[", 2) of [2, 5)
LOWEST, HIGHEST = ("(", NEGATIVE_INFINITY), (")", INFINITY)  # ends of the real line


@dataclass(frozen=True, slots=True)
class Region:
    """An interval or a union of intervals, and the variable that lies there; None if no variable is named."""

    where: Row | Union
    name: Node | None
    is_written: bool = field(default=False, compare=False)  # True for "x in (2, 5)", False for 2 < x < 5


@dataclass(frozen=True, slots=True)
class Condition:
    """What an inequality says of one variable `name`: its lowest and highest value, or a value that it never has."""

    name: Node
    low: End = LOWEST
    high: End = HIGHEST
    excluded: Node | None = None


def region_of(value: Value) -> Region | None:
    """The region of a value that is one condition on a variable, or several: (2, 5) for 2 < x < 5; else None."""
    if type(value) is Relation:
        value = forwards(value)
        name, *_, where = value.sides
        if value.operators == ("in",) and is_expression(name) and is_name(name) and name[0] != "*":
            return Region(where, name, is_written=True) if type(where) in (Row, Union) else None
    items: Sequence[Value] = (value,)
    join = "or"  # for a single condition, the word makes no difference
    if type(value) is Several:
        items, join = value.items, value.join
    elif type(value) is Builder:
        items, join = value.conditions, value.join
    if len(items) > CONDITION_LIMIT or not all(type(item) is Relation for item in items):
        return None
    conditions = [condition_of(item) for item in items]
    if None in conditions or len({condition.name for condition in conditions}) != 1:
        return None
    equations = [item.operators == ("=",) for item in items]
    if all(equations):
        return None  # x = 1 or x = 2 is a list
    if any(equations) and join != "or":
        return None  # x = 1 and x > 0 is no region, but x = 1 or x > 3 is one
    where = joined(conditions, join)
    return None if where is None else Region(where, conditions[0].name)


def forwards(relation: Relation) -> Relation:
    """The relation with < in place of >, and its sides in the opposite order: 2 < x for x > 2."""
    if not any(operator in (">", ">=") for operator in relation.operators):
        return relation
    operators = tuple(_TURNED_ROUND.get(operator, operator) for operator in relation.operators[::-1])
    return Relation(operators, relation.sides[::-1])


def condition_of(relation: Relation) -> Condition | None:
    """What a relation says of the variable on one of its sides; None if it does not bound just one variable."""
    operators, sides = relation.operators, relation.sides
    first_is_letter = is_expression(sides[0]) and sides[0][0] == "sym"
    if operators == ("!=",) and first_is_letter and is_expression(sides[1]):
        return Condition(sides[0], excluded=sides[1])
    if operators == ("=",) and first_is_letter and is_expression(sides[1]):
        return Condition(sides[0], low=("[", sides[1]), high=("]", sides[1]))
    relation = forwards(relation)
    operators, sides = relation.operators, relation.sides
    if len(sides) > 3 or not {"<", "<="}.issuperset(operators) or not all(map(is_expression, sides)):
        return None
    places = [place for place, side in enumerate(sides) if is_name(side) or is_negative_name(side)]
    if len(places) != 1 or (len(sides) == 3 and places != [1]):
        return None
    place = places[0]
    name = sides[place]
    if not is_name(name):
        # 2 < -x times -1 is x < -2.
        operators, sides = operators[::-1], tuple(map(negative, reversed(sides)))
        place = len(sides) - 1 - place
        name = sides[place]
    if name[0] == "*" and name[1][0] not in _FUNCTIONS:
        return None  # a product such as x t is no name of a value
    low, high = LOWEST, HIGHEST
    if place > 0:  # the variable has a lower bound before it
        low = ("(" if operators[0] == "<" else "[", sides[0])
    if place < len(sides) - 1:
        high = (")" if operators[-1] == "<" else "]", sides[-1])
    return Condition(name, low, high)


def is_negative_name(side: Node) -> bool:
    """True for a name with a minus before it: -x."""
    return side[0] == "*" and is_name(negative(side))


def joined(conditions: Sequence[Condition], join: str) -> Row | Union | None:
    """Conditions on one variable as an interval or a union: "or" joins them, "and" keeps what all of them allow.

    A comma means "and" if anything is then left, else "or". None if the conditions give no region.
    """
    pieces: list[Row] | None = None
    if join != "or" or len(conditions) == 1:
        pieces = common(conditions)
    if not pieces and join != "and" and all(condition.excluded is None for condition in conditions):
        pieces = [interval(condition.low, condition.high) for condition in conditions]
    if not pieces:
        return None
    return pieces[0] if len(pieces) == 1 else Union(tuple(pieces))


def common(conditions: Sequence[Condition]) -> list[Row] | None:
    """The intervals that all conditions allow; None if an excluded point is not proved to lie in one of them."""
    low = reduce(higher, (condition.low for condition in conditions))
    high = reduce(lower, (condition.high for condition in conditions))
    pieces = [(low, high)]
    excluded = [condition.excluded for condition in conditions]
    for point in filter(None, excluded):
        for k, (left, right) in enumerate(pieces):
            if is_less(left[1], point) and is_less(point, right[1]):
                pieces[k : k + 1] = [(left, (")", point)), (("(", point), right)]
                break
        else:  # the point lies in none of them
            return None
    # What several conditions allow must be proved not to be empty; a single one may have letters: a < x < b.
    is_single = len(conditions) == 1
    return [interval(left, right) for left, right in pieces if is_single or is_less(left[1], right[1])]


def higher(one: End, other: End) -> End:
    """The higher of two lower ends."""
    return other if is_less(one[1], other[1]) else one


def lower(one: End, other: End) -> End:
    """The lower of two upper ends."""
    return other if is_less(other[1], one[1]) else one


def interval(low: End, high: End) -> Row:
    """The interval between two ends."""
    return Row(low[0], high[0], (low[1], high[1]))


def is_less(a: Node, b: Node) -> bool:
    """True if it is proved that a < b."""
    if a == NEGATIVE_INFINITY or b == INFINITY:
        return a != b
    return a != INFINITY and b != NEGATIVE_INFINITY and is_negative(("+", (a, negative(b))))


def without_points(base: Row, removed: Node) -> Row | Union:
    r"""An interval without some points, or the real line without an interval, as a union of intervals.

    `[0, 3) \setminus \{1\}` -> [0, 1), (1, 3);  `\mathbb{R} \setminus [1, 2]` -> (-inf, 1), (2, inf). `removed` has a
    minus before it, since a difference of sets is read as a sum.
    """
    points = as_value(negative(removed))
    if base == REALS and type(points) is Row and len(points.items) == 2 and is_less(*points.items):
        first, last = points.items
        left_end = ("]" if points.opening == "(" else ")", first)
        right_start = ("[" if points.closing == ")" else "(", last)
        return Union((interval(LOWEST, left_end), interval(right_start, HIGHEST)))
    if type(points) is not Set or not all(map(is_expression, points.items)):
        raise Unsupported("a difference of sets")
    low, high = (base.opening, base.items[0]), (base.closing, base.items[1])
    name = ("sym", "x")  # of a variable, which all these conditions need
    excluded = [Condition(name, excluded=point) for point in points.items]
    region = joined([Condition(name, low, high), *excluded], "and")
    if region is None:
        raise Unsupported("points in no order")
    return region
