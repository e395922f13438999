r"""Reads brackets and what stands in them: part of an expression, a tuple, a vector, an interval, a set, a matrix.

For texts such as `(2, \infty)`, `\{x \mid x > 2\}` and `\begin{pmatrix} 1 \\ 2 \end{pmatrix}`.

A token is (kind, value, True if white space stands before it); `peek` returns one without reading it.
"""

from __future__ import annotations

from verifiers.math500.read.atoms import subscripted, with_base
from verifiers.math500.read.cursor import MATRICES, Cursor, Readers
from verifiers.math500.read.lexer import COMMAND, LETTERS, NUMBER, Malformed
from verifiers.math500.read.relations import read_items, read_relation
from verifiers.math500.read.values import (
    REALS,
    Builder,
    Matrix,
    Quantity,
    Relation,
    Row,
    Set,
    Value,
    is_expression,
)

CLOSING = {"(": ")", "[": "]"}  # {opening bracket: its partner}; the ] of (2, 5] is no partner of its (
CONDITIONAL = frozenset(["&", "if", "for", "when"])
"""What may stand before the condition of a case in a `cases` environment: "x, if x > 0"."""


def in_brackets(cursor: Cursor) -> tuple[str, list[Value], str]:
    """Reads brackets, and returns (opening bracket, the values in the brackets, closing bracket)."""
    opening, close = cursor.value, cursor.text.match[cursor.position]
    items, _ = read_items(cursor.between(cursor.position + 1, close))
    cursor.go(close)
    return opening, items, cursor.advance()


def read_bracket(cursor: Cursor) -> Value:
    """Reads `(...)` or `[...]`: a group if it holds one value, else a tuple or an interval."""
    if cursor.peek()[0] == NUMBER and cursor.peek(2)[1] == ")" and cursor.peek(3)[1] == "_":
        cursor.advance()
        digits = cursor.advance(2)  # reads the closing bracket, too
        return with_base(cursor, digits)  # (52)_8
    opening, items, closing = in_brackets(cursor)
    if len(items) > 1:
        return Row(opening, closing, tuple(items))
    if closing != CLOSING[opening]:
        raise Malformed("brackets")
    (value,) = items
    if type(value) is Quantity and value.unit == "degree":
        cursor.has_sign = True  # as if the degree were written as a sign: 30°
        return ("deg", value.value)  # sin(30 degrees)
    is_number = is_expression(value) and value[0] == "num"
    return ("paren", value) if opening == "[" and is_number else value


def read_group(cursor: Cursor) -> Value:
    """Reads a group in braces, with a subscript behind it if it is a name: `{v}_1`.

    Several values in it are a set whose backslashes were forgotten: {1, 2}.
    """
    _, items, _ = in_brackets(cursor)
    if cursor.value == "_" and is_expression(items[0]) and items[0][0] == "sym":
        return ("sym", subscripted(cursor, items[0][1]))  # \mathbf{v}_1
    return items[0] if len(items) == 1 else Set(tuple(items))


def read_vector(cursor: Cursor) -> Row:
    r"""Reads `\langle 1, 2 \rangle`."""
    _, items, _ = in_brackets(cursor)
    if len(items) < 2:
        raise Malformed("a vector")
    return Row("<", ">", tuple(items))


def read_set(cursor: Cursor) -> Value:
    r"""Reads a set, given by its elements or by conditions: `\{x \mid x > 2\}`, `\{x \in \mathbb{R} : x \ne 3\}`."""
    low, close, tokens = cursor.position + 1, cursor.text.match[cursor.position], cursor.tokens
    if close == low:
        cursor.go(close + 1)
        return Set(())
    (kind, name, _), (mark_kind, mark, _) = cursor.peek(), cursor.peek(2)
    has_condition = mark in ("|", ":") or (mark_kind, mark) == (COMMAND, "in")
    if kind != LETTERS or not has_condition:
        _, elements, _ = in_brackets(cursor)
        return Set(tuple(elements))
    bar = next((k for k in cursor.text.top_level(low, close) if tokens[k][1] in ("|", ":")), close)
    domain = read_relation(cursor.between(low, bar))
    conditions, join = read_items(cursor.between(bar + 1, close))
    cursor.go(close + 1)
    # Neither the x of {x | ...} nor "x is a real number" is a condition.
    if type(domain) is Relation and domain.sides[-1] != REALS:
        conditions.insert(0, domain)
    return Builder(tuple(conditions), join or ",", ("sym", name))


def read_matrix(cursor: Cursor) -> Matrix:
    """Reads a matrix. A `cases` environment is read as a matrix, too: a value and its condition in each row."""
    start, close, tokens = cursor.position + 1, cursor.text.match[cursor.position], cursor.tokens
    signs = ("&", "\\\\", "hline", ",") if cursor.value == "begin cases" else ("&", "\\\\", "hline")
    rows: list[list[Value]] = [[]]
    for place in [*cursor.text.top_level(start, close), close]:
        mark = tokens[place][1]
        if place < close and mark not in signs:
            continue
        while start < place and tokens[start][1] in CONDITIONAL:
            start += 1
        if start < place:
            items, _ = read_items(cursor.between(start, place))
            rows[-1] += items
        if mark == "\\\\":
            rows.append([])
        start = place + 1
    cursor.go(close + 1)
    rows = [row for row in rows if row]
    if len(set(map(len, rows))) != 1:
        raise Malformed("rows of several lengths")
    return Matrix(tuple(map(tuple, rows)))


BRACKETS: Readers = {
    "(": read_bracket,
    "[": read_bracket,
    "{": read_group,
    "\\{": read_set,
    "langle": read_vector,
    **dict.fromkeys((f"begin {name}" for name in MATRICES), read_matrix),
}
