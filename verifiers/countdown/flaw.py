"""Explains the fault of a wrong Countdown answer, in a sentence that does not solve the problem."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import pairwise
from operator import index
from typing import TYPE_CHECKING, Any

from verifiers import characters as ch
from verifiers.batch import as_reference
from verifiers.countdown.expression import (
    SAFE_DIGITS_LIMIT,
    Memory,
    Puzzle,
    evaluate_expression,
    without_words,
)
from verifiers.verdicts import Reason, encoded

if TYPE_CHECKING:
    from fractions import Fraction

MAX_CHARACTERS = 200
"""The most characters of an answer that is explained; with a usual count of numbers, expressions are shorter."""
# {sign: the code points of characters that are read as this sign}
_SIGNS = {"*": ch.TIMES_SIGNS, "/": ch.DIVISION_SIGNS, "-": ch.MINUS_SIGNS, "+": ch.PLUS_SIGNS}
# {sign: the sign between spaces}, so that a text can be split into its tokens.
_APART = {ord(sign): f" {sign} " for sign in "+-*/()="}
_APART |= {code: f" {sign} " for sign, codes in _SIGNS.items() for code in codes}


def given_integers(numbers: Iterable[Any]) -> list[int]:
    """The given numbers as exact integers; 3.0 is 3. Raises TypeError for one that is no integer, also for a bool."""
    return [_integer(value) for value in numbers]


def _integer(value: Any) -> int:
    if type(value) is int:  # the usual case
        return value
    if isinstance(value, bool):
        raise TypeError("a truth value is no number")
    return int(value) if hasattr(value, "is_integer") and value.is_integer() else index(value)


def explain(extracted: str | None, reason: str, numbers: Sequence[Any], target: Any) -> str:
    """A sentence on the fault: which number is misused, "12 is used twice.", or which value the expression has.

    extracted, reason: of the verdict. numbers, target: the reference. Returns "" for a wrong answer with anything but
    whole numbers, signs and brackets.
    """
    if reason == Reason.MALFORMED:
        return "The answer is no expression of numbers, signs and brackets that is accepted in this mode, or too long."
    if reason not in (Reason.WRONG, Reason.RULE_BROKEN):
        return ""
    sides, numbers_given = sides_of(extracted or ""), given_integers(numbers)
    lowest = min(numbers_given)
    if lowest < 0:  # a minus sign looks like a subtraction, so the numbers in use are not counted
        return f"Each number is used once, {lowest} as ({lowest})." if reason == Reason.RULE_BROKEN else ""
    if not sides:
        return ""
    if reason == Reason.RULE_BROKEN:  # no side uses all numbers; the side with the most numbers is explained
        return misused(max(sides, key=lambda side: len(numbers_in(side))), numbers_given)
    from fractions import Fraction  # only now: slow to import

    wanted = Fraction(target_text(target))
    try:
        values = [value_of(side) for side in sides]
    except ZeroDivisionError:
        return "It divides by 0."
    what = "One side" if wanted in values else "It"  # "One side" if another side is right
    return next((f"{what} makes {value}, not {wanted}." for value in values if value != wanted), "")


def target_text(target: Any) -> str:
    """The target as text; for an array or a tensor with one number, this number."""
    is_array_of_one = getattr(target, "shape", None) == ()
    text = as_reference(target) if is_array_of_one else None
    return text or str(target)


def sides_of(answer: str) -> list[list[str]]:
    """The tokens of each side of an answer, divided at `=`; [] if it has any other tokens, or is too long."""
    tokens = plain_tokens(answer)
    if not tokens:  # perhaps because of words or quotes around it
        data = encoded(answer)
        begin, end = without_words(data, 0, len(data))
        tokens = plain_tokens(data[max(0, begin) : end].decode("utf-8", "replace"))
    if not tokens:
        return []
    equals_signs = [place for place, token in enumerate(tokens) if token == "="]
    bounds = [-1, *equals_signs, len(tokens)]  # each side stands between two of these places
    return [tokens[start + 1 : end] for start, end in pairwise(bounds)]


def plain_tokens(text: str) -> list[str]:
    """The whole numbers, signs and brackets of a text; [] if it has any other tokens, or is too long."""
    tokens = text.translate(_APART).split() if len(text) <= MAX_CHARACTERS else []
    are_plain = all(token in "+-*/()=" or (token.isascii() and token.isdecimal()) for token in tokens)
    are_short = all(len(token) <= SAFE_DIGITS_LIMIT for token in tokens)
    return tokens if are_plain and are_short else []


def numbers_in(side: Sequence[str]) -> list[int]:
    """The numbers of a side, in their order."""
    return [int(token) for token in side if token.isdecimal()]


def misused(side: Sequence[str], numbers: Sequence[int]) -> str:
    """A sentence on the first number that a side wrongly uses, uses too often, or leaves out; "" if there is none."""
    available, used = Counter(numbers), Counter(numbers_in(side))
    for number, count in used.items():
        if number not in available:
            return f"{number} is not given."
        if count > available[number]:
            return f"{number} is used {'twice' if count == 2 else f'{count} times'}."
    missing = available - used
    return f"{next(iter(missing))} is not used." if missing else ""


def value_of(side: Sequence[str]) -> Fraction:
    """The value of a side, which is an expression; ZeroDivisionError if it divides by 0."""
    from fractions import Fraction

    data, memory = " ".join(side).encode(), Memory()
    no_puzzle = Puzzle([], first=0, last=0, top=0, bottom=1)
    evaluate_expression(data, 0, len(data), lenient=True, exact=True, puzzle=no_puzzle, memory=memory)
    if memory.fault:
        raise ZeroDivisionError
    return Fraction(memory.tops[0], memory.bottoms[0])
