"""What an answer can be: the kinds of values around expressions, with named fields.

An expression is a tuple (see `tree`). A value is an expression or one of the classes below, which hold expressions and
one another. What is read is made canonical by `meaning`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from verifiers.math500.read.tree import INFINITY, NEGATIVE_INFINITY, Node


@dataclass(frozen=True, slots=True)
class Words:
    """Words alone, without articles; in lower case but for a single letter."""

    words: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Name:
    """The side of an equation that is no mathematics of ours: what a value is called, as its text."""

    text: str


@dataclass(frozen=True, slots=True)
class Quantity:
    """A value with its unit in one spelling, such as "cm^2" or "mile / hour"."""

    value: Value
    unit: str


@dataclass(frozen=True, slots=True)
class Several:
    """Values side by side, without brackets; `join` is what stands between them: a comma, "and", "or"."""

    items: tuple[Value, ...]
    join: str = ","


@dataclass(frozen=True, slots=True)
class Row:
    """Two values or more in brackets: a tuple, a vector or an interval."""

    opening: str
    closing: str
    items: tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class Set:
    """Values in braces; the empty set has none."""

    items: tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class Union:
    """Intervals joined by cups."""

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
    """A set by its conditions on one variable, joined by a comma, "and" or "or"."""

    conditions: tuple[Value, ...]
    join: str
    name: Node


@dataclass(frozen=True, slots=True)
class Based:
    """Digits, perhaps behind a minus, and the base they are in."""

    digits: str
    base: str


@dataclass(frozen=True, slots=True)
class Ratio:
    """7 : 3"""

    parts: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Date:
    """A month from 1 to 12, and a day."""

    month: int
    day: Value


Value = (
    Node
    | Words
    | Name
    | Quantity
    | Several
    | Row
    | Set
    | Union
    | Matrix
    | Relation
    | Builder
    | Based
    | Ratio
    | Date
)
REALS = Row("(", ")", (NEGATIVE_INFINITY, INFINITY))


def is_expression(value: Value) -> bool:
    return type(value) is tuple


def inside(value: Value) -> tuple[Value, ...]:
    """The values that a value holds, those of an expression apart."""
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
        case Date():
            return (value.day,)
    return ()


def expressions(value: Value) -> Iterator[Node]:
    """The expressions in a value, from left to right."""
    if is_expression(value):
        yield value
    for part in inside(value):
        yield from expressions(part)


def held(value: Value) -> Node:
    """A value as a part of an expression."""
    return value if type(value) is tuple else ("held", value)


def released(node: Node) -> Value:
    """The value that an expression is, where it is one and nothing else."""
    return node[1] if node[0] == "held" else node
