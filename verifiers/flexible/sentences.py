"""The values of each sentence, and how much each counts by the words around it."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import takewhile
from typing import NamedTuple

from verifiers.amounts import NAMES
from verifiers.flexible.denial import words_of
from verifiers.flexible.values import BOUNDS, LEAD_LIMIT, NAME, VALUE, WORD, is_formula, pieces, variable_of
from verifiers.flexible.words import (
    ASIDE,
    BEING,
    BOUNDARIES,
    COMPARING,
    CONDITIONS,
    DENYING,
    EXPLAINING,
    JOINING,
    MOVING_ON,
    PREPOSITIONS,
    RESULTING,
    SPANNING,
)

_DASHES = ("-", "–", "—", "−")
_UNIT_LIMIT = 8  # characters behind a number in which "dollars" may stand


class Item(NamedTuple):
    """A number or a formula of a sentence: text[low:high]."""

    low: int
    high: int
    rank: int
    """How much the item counts by the word before it: 2, 1 or 0; see `rank_behind`."""
    is_value: bool
    """False if the words around the item deny it, ask for it or leave it open."""


def sentences(text: str, is_gsm8k: bool) -> Iterator[tuple[int, list[Item]]]:
    """(where the sentence begins, its numbers and formulas) for each sentence with a number or formula."""
    begin, items = 0, list[Item]()
    opened = 0  # how many items of the sentence stand before the open bracket; 0 if no bracket is open
    # Whether the sentence's last clause begins with "where", as in "6, where $a = 1$, $b = 2$".
    defines = False
    word, end = "", 0  # the word or sign of the last piece, and where that ends
    for kind, low, high in pieces(text, is_gsm8k):
        if kind == VALUE:
            # In "is \\frac{3}{4}", the last piece was "frac", which belongs to the value: the word before it is "is".
            if low < end:
                words_before = list(words_of(text[max(low - LEAD_LIMIT, begin) : low]))
                word = words_before[-1] if words_before else word
            may_be_condition = not is_gsm8k and (word in CONDITIONS | EXPLAINING or defines)
            add_value(text, items, low, high, word, may_be_condition)
            word = ""
        elif kind == NAME:
            word = ""
        elif kind == WORD:
            word = role_of(text, low, high, word)
            defines = word == "where" or (defines and word not in MOVING_ON)
        else:
            sign = text[low]
            if sign != "\n":  # a value on the line below a "=" also stands behind the "="
                word = sign
            if sign == "(":
                opened = len(items)
            elif sign == ")":
                set_aside(items, opened)
                opened = 0
            elif sign in "\n。" or (sign in ".!?" and not text[high : high + 1].strip()):
                if sign == "?":
                    items = [item._replace(is_value=False) for item in items]
                if items:
                    yield begin, items
                begin, items, opened, defines = high, [], 0, False
        end = high
    if items:
        yield begin, items


def add_value(text: str, items: list[Item], low: int, high: int, word: str, may_be_condition: bool) -> None:
    """Adds text[low:high] to `items`, the values of a sentence.

    word: the word or sign before the value. may_be_condition: whether a condition or a reason may stand here.
    """
    before = items[-1] if items else None
    # A range has no blanks: 18–20 hours, but not "Week 2 - 18 miles".
    is_range = before is not None and text[before.high : low] in _DASHES
    goes_on = before is not None and word == "and" and not before.is_value  # "between 18 and 20"
    joins = before is not None and (is_range or word in JOINING or goes_on)
    if joins:
        items[-1] = items[-1]._replace(is_value=False)
    is_aside = False
    if before is not None:
        says_aside = is_compared if word in BEING else in_phrase
        is_aside = says_aside(text, before.high, low, high)
    is_aside = is_aside or (may_be_condition and is_condition(text, low, high))
    rank = 0 if is_aside else rank_behind(word)
    if before is not None and text[before.high : low].rstrip().lower().endswith(" total of"):
        rank = 2  # "The hat is $12 and the coat is $18, for a total of $30."
    items.append(Item(low, high, rank, is_value=not (joins or word in DENYING)))


def set_aside(items: list[Item], opened: int) -> None:
    """Lets several values in a bracket count less: the 20 and 10 of "30 boxes (20 new and 10 old ones)".

    opened: how many values stand before the bracket.
    """
    inside = items[opened:]
    if opened and len(inside) > 1 and all(item.rank < 2 for item in inside):
        items[opened:] = [item._replace(rank=0) for item in inside]


def role_of(text: str, low: int, high: int, last: str) -> str:
    """The word text[low:high], by which a value behind it is ranked; "" if it says nothing about the value.

    last: the word or sign before this word. The "or" of "$5 a day, or $35 in 7 days" says nothing, and neither do
    "where" and "as" within a clause. ", not" and "instead of" give "than", since they say the same as "rather than".
    """
    word = text[low:high].lower()
    is_behind_sign = last in (",", "(")
    if (word == "not" and is_behind_sign) or (word == "of" and last == "instead"):
        return "than"
    is_said_again = word == "or" and last == ","
    return "" if is_said_again or (word in CONDITIONS and not is_behind_sign) else word


def is_condition(text: str, low: int, high: int) -> bool:
    """True for a bound or the value of a variable in a formula: `$n > 0$`, `$a = 1$`."""
    formula = text[low:high]
    return any(sign in formula for sign in BOUNDS) or variable_of(text, low, high) != ""


def is_compared(text: str, begin: int, low: int, high: int) -> bool:
    """True for the 15 of "$45, which is $15 less than the original price". begin: where the $45 ends."""
    clause = takewhile(lambda word: word not in (".", ",", ";"), words_of(text[high : high + LEAD_LIMIT]))
    return "which" in words_of(text[begin:low]) and not COMPARING.isdisjoint(clause)


def in_phrase(text: str, begin: int, low: int, high: int) -> bool:
    """True if the item text[low:high] says what the value before it is for: "$460 for working 45 hours".

    begin: where that value ends. An amount of money is the price itself: "9 eggs for $18".
    """
    words = list(words_of(text[max(begin, low - LEAD_LIMIT) : low]))
    left, equals, _ = text[low:high].partition("=")
    is_calculation = equals and any(map(str.isdecimal, left))
    results = not RESULTING.isdisjoint(words) and SPANNING.isdisjoint(words)
    if is_calculation or words[-1:] == ["by"] or results:
        return False  # "for a total of 18", "divide 64 by 8", "is left with 18"; but "30 left after buying 4"
    boundary = max((place for place, word in enumerate(words) if word in BOUNDARIES), default=-1)
    phrase = words[boundary + 1 :]
    if boundary >= 0:
        phrase = phrase[:1]  # "12 candies, with 2 left over", but not "$30, so he paid for 6 tickets"
    words_behind = words_of(text[low : high + _UNIT_LIMIT])
    is_money = not is_formula(text, low, high) and not NAMES.keys().isdisjoint(words_behind)
    is_part = words[:1] == ["of"] or words[:2] == ["out", "of"]  # "15 of the 40 boys"
    return is_part or (not PREPOSITIONS.isdisjoint(phrase) and not (is_money and "for" in phrase))


def rank_behind(word: str) -> int:
    """How much a number counts behind a word or sign: 2 behind "=" or "is", 0 behind "every" or "in", else 1."""
    if word in BEING:
        return 2
    return 0 if word in ASIDE else 1
