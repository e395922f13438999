"""Reads the value that an answer says last from its tokens, without the words around it."""

from __future__ import annotations

from typing import NamedTuple

from verifiers.math500.read import prose
from verifiers.math500.read.brackets import BRACKETS
from verifiers.math500.read.cursor import MIXED, UNITS, WORDED, Cursor, Mark, Text
from verifiers.math500.read.expressions import COMMANDS
from verifiers.math500.read.lexer import WORD, Malformed, Token
from verifiers.math500.read.prose import is_word
from verifiers.math500.read.relations import (
    as_one,
    read_items,
    read_predicate,
    read_side,
    read_side_or_name,
)
from verifiers.math500.read.values import REALS, Relation, Several, Value, Words
from verifiers.math500.read.words import IS, NEGATING

READERS = COMMANDS | BRACKETS
# Sets of whole numbers, as in k \in \mathbb{Z}, and letters for such numbers or for constants, which may lie in them.
INTEGERS = tuple(("sym", name) for name in ("mathbb Z", "mathbb N", "Z", "N"))
LETTERS_OF_INTEGERS = tuple(("sym", name) for name in "nmkcC")


class Reading(NamedTuple):
    """The value that a text says, and what was noticed on the way (see the marks in cursor.py).

    `subject`: the words before brackets that end the answer, Bob of "Bob (55)".
    """

    value: Value
    mixed: bool = False
    worded: bool = False
    in_units: bool = False
    subject: Value | None = None


def read(tokens: list[Token], letters: frozenset[str] | None) -> Reading:
    """The value that an answer says last. `letters`: the variables of the reference; None if the text is the reference.

    Raises `Malformed` for what no notation has, and `Unsupported` for mathematics that is not judged.
    """
    text, marks = Text(tokens, letters, READERS), []
    low, high = prose.start_of_answer(tokens, 0, len(tokens)), len(tokens)
    while low < high and tokens[high - 1][1] == "\\\\":
        high -= 1
    start = low
    if text.may_be_sentence and not text.is_reference:
        start = prose.start_of_last_claim(tokens, text.top_level(low, high), low, high)
    value = read_whole(text, start, high, marks)
    if start > low:
        marks.append(WORDED)
    if text.is_reference and type(value) is Several and marks.count(WORDED) > 1:
        raise Malformed("words that tell values apart")
    if not marks:
        return Reading(value)
    subjects = [mark for mark in marks if type(mark) is not str]
    last_subject = subjects[-1] if subjects else None
    return Reading(
        value,
        mixed=MIXED in marks,
        worded=WORDED in marks,
        in_units=UNITS in marks,
        subject=last_subject,
    )


def read_formula(tokens: list[Token]) -> Value:
    """Reads a formula as the left side of an equation, which may be a name: "P(A)"."""
    text = Text(tokens, letters=None, readers=READERS)
    cursor = Cursor(text, low=0, high=len(tokens), depth=0, marks=[])
    return read_side_or_name(cursor, 0, cursor.end)


def read_whole(text: Text, low: int, high: int, marks: list[Mark]) -> Value:
    """The value of the tokens in [low, high), without an explanation behind it."""
    tokens = text.tokens
    while low < high and tokens[low][1] == "{" and text.match.get(low) == high - 1:
        low, high = low + 1, high - 1
    verb = 0  # the place of the verb if the text is a sentence with one, else 0
    if text.may_be_sentence:
        high = prose.end_of_values(tokens, text.top_level(low, high), low, high, text.is_reference)
        verb = only_verb(text, low, high)
    cursor = Cursor(text, low, high, depth=0, marks=marks)
    if verb:
        return read_predicate(cursor, verb)
    if text.is_one_side:
        return read_side(cursor)
    items, join = read_items(cursor)
    while len(items) > 1 and join == "," and is_clause(items[0]) and type(items[-1]) is not Words:
        del items[0]  # "In the triangle, x is 16"
    while len(items) > 1 and is_domain(items[-1], text.is_reference):
        del items[-1]  # 2 k \pi, k \in \mathbb{Z}
    return as_one(items, join)


def only_verb(text: Text, low: int, high: int) -> int:
    """The place of the verb if the text begins with words and has one verb, "The answer is 5"; else 0."""
    tokens = text.tokens
    if low == high or tokens[low][0] != WORD or all(token[0] == WORD for token in tokens[low:high]):
        return 0
    verbs = [place for place in text.top_level(low, high) if is_word(tokens[place], IS)]
    return verbs[0] if len(verbs) == 1 else 0


def is_clause(value: Value) -> bool:
    """True for two words or more that may begin a sentence before its comma: "In the triangle"."""
    return type(value) is Words and len(value.words) > 1 and NEGATING.isdisjoint(value.words)


def is_domain(value: Value, of_reference: bool) -> bool:
    r"""True if a value only says which values a letter takes: `k \in \mathbb{Z}`, and in an answer `n \ge 1`."""
    if type(value) is not Relation or len(value.sides) != 2 or value.sides[0] not in LETTERS_OF_INTEGERS:
        return False
    has_lower_bound = value.operators[0] in (">", ">=")
    return value.sides[1] in (*INTEGERS, REALS) or (has_lower_bound and not of_reference)
