"""The kinds of values that an answer can be.

A value is an expression, which is a tuple (see tree.py), or one of the classes below, which hold expressions and one
another. compare/meaning.py makes a value that was read canonical.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from verifiers.math500.tree import INFINITY, NEGATIVE_INFINITY, Node


@dataclass(frozen=True, slots=True)
class Words:
    """Words alone, without articles; in lower case, except that a single letter stays as it is."""

    words: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Name:
    """A side of an equation that is not read as mathematics but kept as text: the P(A|B) of P(A|B) = 1/2."""

    text: str


@dataclass(frozen=True, slots=True)
class Quantity:
    """A value with its unit in one spelling, such as "cm^2" or "mile / hour"."""

    value: Value
    unit: str


@dataclass(frozen=True, slots=True)
class Several:
    """A list of values without brackets; `join` is what stands between them: ",", ";", "and" or "or"."""

    items: tuple[Value, ...]
    join: str = ","


@dataclass(frozen=True, slots=True)
class Row:
    """Two values or more, with the brackets around them: a tuple, a vector or an interval."""

    opening: str
    closing: str
    items: tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class Set:
    """Values in braces; the empty set has none."""

    items: tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class Union:
    """Intervals and sets with \\cup between them."""

    parts: tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class Matrix:
    """Rows of equal length."""

    rows: tuple[tuple[Value, ...], ...]


@dataclass(frozen=True, slots=True)
class Relation:
    """Sides with =, <, <=, >, >=, !=, "in" or "approx" between them."""

    operators: tuple[str, ...]
    sides: tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class Builder:
    """A set given by conditions on the variable `name`; `join` is what stands between them: a comma, "and" or "or"."""

    conditions: tuple[Value, ...]
    join: str
    name: Node


@dataclass(frozen=True, slots=True)
class Based:
    """The digits of a number and the base that is written with them: 345_6."""

    digits: str
    base: str


@dataclass(frozen=True, slots=True)
class Ratio:
    """A ratio of two numbers or more: 7 : 3."""

    parts: tuple[Node, ...]


Value = (
    Node | Words | Name | Quantity | Several | Row | Set | Union | Matrix | Relation | Builder | Based | Ratio
)
REALS = Row("(", ")", (NEGATIVE_INFINITY, INFINITY))


def is_expression(value: Value) -> bool:
    """True for an expression, False for a value of one of the classes."""
    return type(value) is tuple


def inside(value: Value) -> tuple[Value, ...]:
    """The values that a value directly holds; none for an expression."""
    match value:
        case Quantity():
            return (value.value,)
        case Several() | Row() | Set():
            return value.items
        case Union() | Ratio():
            return value.parts
        case Matrix():
            return sum(value.rows, ())
        case Relation():
            return value.sides
        case Builder():
            return value.conditions
    return ()


def quotient(value: Value) -> Value:
    """7/3 for the ratio 7 : 3; any other value as it is."""
    return ("/", *value.parts) if type(value) is Ratio and len(value.parts) == 2 else value


def expressions(value: Value) -> Iterator[Node]:
    """The expressions in a value, from left to right."""
    if is_expression(value):
        yield value
    for part in inside(value):
        yield from expressions(part)


def as_node(value: Value) -> Node:
    """A value as a part of an expression."""
    return value if type(value) is tuple else ("held", value)


def as_value(node: Node) -> Value:
    """The value that `as_node` wrapped into an expression; any other expression as it is."""
    return node[1] if node[0] == "held" else node
