"""Turns a value that was read into its meaning, a canonical form, once, before anything is compared.

A plus-minus sign becomes two values; conditions on a variable become a region; sums and products of matrices become
one matrix; "no solution" becomes the empty set, and "all real numbers" the real line.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction

from verifiers.math500 import tree
from verifiers.math500.compare.normal_form import folded, without_sign
from verifiers.math500.compare.regions import Region, forwards, region_of, without_points
from verifiers.math500.compare.value_names import is_name
from verifiers.math500.tree import MINUS_ONE, ONE, Node
from verifiers.math500.values import (
    REALS,
    Builder,
    Matrix,
    Quantity,
    Relation,
    Row,
    Set,
    Several,
    Union,
    Value,
    Words,
    as_value,
    inside,
    is_expression,
)
from verifiers.math500.words import is_reals
from verifiers.reading.tokens import Malformed, Unsupported

_EMPTY_IN_WORDS = {  # texts for the empty set, as tuples of their words
    tuple(words.split())
    for words in (
        "no solution,no solutions,no real solution,no real solutions,empty set,none,"
        "there are none,no solution exists,no solutions exist".split(",")
    )
}
# {\pm or \mp: the factor in its place}; _UPPER gives the first of the two values, _LOWER the second.
_UPPER = {("pm", 1): ONE, ("pm", -1): MINUS_ONE}
_LOWER = {("pm", 1): MINUS_ONE, ("pm", -1): ONE}
EMPTY_SET = Set(())


def meaning(value: Value) -> Value:
    """The canonical form of a value; raises `Malformed` and `Unsupported` where it has none."""
    find_meaning = MEANINGS.get(type(value))
    return find_meaning(value) if find_meaning else value


def meaning_of_expression(node: Node) -> Value:
    """The meaning of an expression; most expressions are returned as they are.

    A plus-minus sign gives two values, a sum of matrices one matrix, [0, 3) without {1} a region, and \\emptyset a set.
    """
    if node[0] == "num":
        return node
    kinds = tree.kinds_of_atoms(node)
    if kinds.isdisjoint(("held", "pm")):  # no matrix or set (see `tree`), no plus-minus sign
        return EMPTY_SET if node == ("sym", "\\emptyset") else node
    # A difference of sets, [0, 3) without {1}, is read as a sum of two terms, in which `as_value` finds the sets.
    if node[0] == "+" and len(node[1]) == 2 and is_interval(as_value(node[1][0])):
        first, second = node[1]
        return Region(without_points(as_value(first), second), name=None)
    is_call = node[0] == "*" and is_name(node)  # P(10, 3) is written like a product of P and a pair
    if "held" in kinds and not is_call:
        return matrix_of(node)
    if "pm" not in kinds:
        return node
    if tree.leaves(node, "pm").count(1) > 1:
        raise Unsupported("two plus-minus signs")
    return Several((added(tree.substituted(node, _UPPER)), added(tree.substituted(node, _LOWER))))


def added(node: Node) -> Node:
    r"""A sum of two numbers as one, 10 for the 3 + 7 of `3 \pm 7`; any other expression as it is."""
    if node[0] != "+" or len(node[1]) != 2:
        return node
    (first, is_first_negative), (second, is_second_negative) = map(without_sign, map(folded, node[1]))
    if not first[0] == second[0] == "num":
        return node
    total = (-1) ** is_first_negative * Fraction(*first[1:]) + (-1) ** is_second_negative * Fraction(
        *second[1:]
    )
    return ("num", *total.as_integer_ratio())


def is_interval(value: Value) -> bool:
    """True for two values in round or square brackets, which may be an interval: (2, 5), [2, 5)."""
    return type(value) is Row and value.opening in ("(", "[") and len(value.items) == 2


def meaning_of_words(value: Words) -> Value:
    """The empty set for "no solution", the real line for "all real numbers"; other words as they are."""
    words = tuple(word.lower() for word in value.words)
    if words in _EMPTY_IN_WORDS:
        return EMPTY_SET
    return REALS if is_reals(words) else value


def meaning_of_relation(value: Relation) -> Value:
    """The region that an inequality says; else the relation, with the meanings of its sides."""
    is_equation = {"=", "mod"}.issuperset(value.operators)
    region = None if is_equation else region_of(value)
    if region is not None:
        return region
    first, *others = value.sides
    sides = [first if is_name(first) else meaning_of_side(first), *map(meaning_of_side, others)]
    value = Relation(value.operators, tuple(sides))
    return value if is_equation else forwards(value)


def both_signs(value: Value) -> tuple[Value, ...]:
    """The two relations of `x = \\pm 2` or `x \\ne \\pm 2`; any other value alone."""
    if type(value) is not Relation or value.operators not in (("=",), ("!=",)):
        return (value,)
    name, last = value.sides
    last = meaning(last) if is_expression(last) and tree.leaves(last, "pm") else last
    if type(last) is not Several:
        return (value,)
    return tuple(Relation(value.operators, (name, side)) for side in last.items)


def meaning_of_side(side: Value) -> Value:
    """The meaning of a side of a relation. A side without a meaning stays as it is, since it may be a name."""
    try:
        return meaning(side)
    except Malformed:
        return side


def meaning_of_list(value: Several | Builder) -> Value:
    """The region that a list of conditions says; else the list of the meanings of its items."""
    if type(value) is Builder:
        return region_of(value) or value
    items = tuple(one for item in value.items for one in both_signs(item))
    return region_of(Several(items, value.join)) or Several(flattened(items), value.join)


def flattened(items: Sequence[Value]) -> tuple[Value, ...]:
    """The meanings of the items; an item with a plus-minus sign gives two."""
    elements: list[Value] = []
    for item in map(meaning, items):
        elements.extend(item.items if type(item) is Several else (item,))
    return tuple(elements)


def union_of_sets(union: Union) -> Set | Union:
    r"""A union of sets as one set, each element once; beside intervals, {-1} becomes the interval [-1, -1]."""
    elements = [item for part in union.parts if type(part) is Set for item in flattened(part.items)]
    if all(type(part) is Set for part in union.parts):
        return Set(tuple(dict.fromkeys(elements)))
    intervals = tuple(part for part in union.parts if type(part) is not Set)
    return Union((*intervals, *(Row("[", "]", (item, item)) for item in elements)))


def both_rows(row: Row) -> Value:
    r"""A row, or two where one of its items has a plus-minus sign: (0, \pm 2)."""
    items = [meaning(item) for item in row.items]
    double = [k for k, item in enumerate(items) if type(item) is Several]
    if len(double) != 1:
        return Row(row.opening, row.closing, tuple(items))
    (k,) = double
    rows = (replace(row, items=(*items[:k], value, *items[k + 1 :])) for value in items[k].items)
    return Several(tuple(rows))


# ---- matrices ----


def is_vector(value: Value) -> bool:
    """True for a row in round or pointed brackets and a matrix of one row or column: (1, 2), <1, 2>."""
    if type(value) is Matrix:
        return len(value.rows) == 1 or len(value.rows[0]) == 1
    return type(value) is Row and (value.opening, value.closing) in (("(", ")"), ("<", ">"))


def as_matrix(node: Node) -> Matrix:
    """A matrix as it is, a vector as a matrix of one row, an expression of matrices as the matrix that it gives."""
    value = as_value(node)
    if type(value) is Matrix:
        return value
    return Matrix((value.items,)) if is_vector(value) else matrix_of(node)


def matrix_of(node: Node) -> Matrix:
    """The matrix that an expression gives: a sum of matrices of one shape, or one matrix times scalars.

    Raises `Malformed` for any other expression, such as a product of two matrices.
    """
    kind, parts = node[0], tree.parts(node)
    scalars = tuple(part for part in parts if not tree.holds_container(part))
    matrices = [as_matrix(part) for part in parts if part not in scalars]
    cells = [cell for matrix in matrices for cell in inside(matrix)]
    are_numeric = all(map(is_expression, cells))
    if kind == "*" and are_numeric and len(matrices) == 1:
        multiples = []
        for row in matrices[0].rows:
            multiples.append(tuple(multiple((*scalars, cell)) for cell in row))
        return Matrix(tuple(multiples))
    shapes = {tuple(map(len, matrix.rows)) for matrix in matrices}
    if kind == "+" and are_numeric and not scalars and len(shapes) == 1:
        sums = []
        for rows in zip(*(matrix.rows for matrix in matrices), strict=True):  # the same row of each matrix
            sums.append(tuple(("+", terms) for terms in zip(*rows, strict=True)))
        return Matrix(tuple(sums))
    raise Malformed("brackets that do not fit, or hold no numbers")


def multiple(factors: Sequence[Node]) -> Node:
    """The product of `factors`, which are scalars and, last, a cell of a matrix: 6 for 2 and 3, 2x for 2 and x.

    The product is one number if all factors are numbers or fractions of numbers.
    """
    above = below = 1
    *scalars, cell = factors
    has_minus = cell[0] == "*" and cell[1][0] == MINUS_ONE
    factors_of_cell = cell[1] if has_minus else (cell,)
    for factor in (*scalars, *factors_of_cell):
        over, under = factor[1:] if factor[0] == "/" else (factor, ONE)
        are_numbers = over[0] == "num" and under[0] == "num"
        if not are_numbers or under[1] == 0:
            return ("*", tuple(factors))
        above, below = above * over[1] * under[2], below * over[2] * under[1]
    return ("num", above, 1) if below == 1 or above == 0 else ("/", ("num", above, 1), ("num", below, 1))


# {kind of value: what returns its meaning}; values of other kinds are their meaning
MEANINGS: dict[type, Callable[..., Value]] = {
    tuple: meaning_of_expression,
    Words: meaning_of_words,
    Relation: meaning_of_relation,
    Several: meaning_of_list,
    Builder: meaning_of_list,
    Row: both_rows,
    Union: union_of_sets,
    Set: lambda value: Set(flattened(value.items)),
    Quantity: lambda value: replace(value, value=meaning(value.value)),
}
