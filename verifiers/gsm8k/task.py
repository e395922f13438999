"""GSM8K: is the number in this completion the right one, exactly?

Reference: `answer`, a number such as "1,250", "-10", "3/4" or 18, or a solution whose last line is
`#### number`. See docs/verifiers/gsm8k.md.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from verifiers import batch, extract
from verifiers import characters as ch
from verifiers.errors import invalid_reference
from verifiers.extract import FOUND, Bytes, strip
from verifiers.flexible.answer import flexible_answer
from verifiers.gsm8k.answer import (
    CONTRADICTED,
    HEDGED,
    REFUSED,
    Side,
    is_number,
    leads,
    read_plain,
    read_side,
)
from verifiers.gsm8k.number import UNDECIDED, Number, divides_by_zero, equal, equal_exactly, read_literal
from verifiers.on_bytes import on_text, rereading
from verifiers.sentence import find_answer
from verifiers.verdicts import GRAMMAR, HEDGE, MALFORMED, OK, RATIONAL, TEXT, TYPED, WRONG, encoded

# All references, which are called golds here, as one text, and where each begins and the last one ends.
References = tuple[Bytes, tuple[int, ...]]
# In place of a reason: BAD_GOLD, if the reference is no number, or UNDECIDED, if 64 bits cannot tell.
BAD_GOLD = -2
_NO_GOLD = (
    "is not one number, such as '18', '1,250', '-10' or '3/4', nor a solution that ends in '#### 18'; the task math500 "
    "takes answers of other kinds"
)
_GOLD_POWER_LIMIT = 10**6  # the largest power of ten in a reference; one in an answer may be larger


@dataclass(slots=True)
class Scratch:
    """What is read for one verdict: the reference, the answer's first side that is a number, and the one after that."""

    gold: Side = field(default_factory=Side)
    first: Side = field(default_factory=Side)
    next: Side = field(default_factory=Side)


def read_gold(data: Bytes, start: int, end: int, gold: Side) -> bool:
    """Reads the one number of a reference; False if the reference is anything else."""
    if end - start > extract.ANSWER_LIMIT:
        return False
    start, end = strip(data, start, end)
    number = gold.number
    if read_plain(data, start, end, number):
        gold.currency = 0
        return True
    # Not digits alone: '$1,250', or a solution with a last line '#### 18'.
    low, high = extract.last_line(data, start, end)
    if low >= 0:
        start, end = strip(data, low, high)
    _, more = read_side(data, start, start, end, gold)
    is_one = not more and is_number(gold) and gold.numbers == 1 and gold.plain_words == 0
    is_one = is_one and not (gold.currency and data[start] == ch.LEFT_PAREN)  # ($5), which may be -5
    is_one = is_one and gold.currency != CONTRADICTED
    return is_one and abs(number.scale) <= _GOLD_POWER_LIMIT and not divides_by_zero(number)


def is_strict_number(data: Bytes, start: int, end: int, number: Number) -> bool:
    r"""True for `-?(0|[1-9][0-9]*)(\.[0-9]+)?`."""
    first = start + 1 if data[start] == ch.MINUS else start
    for i in range(first, end):
        if not (ch.is_ascii_digit(data[i]) or data[i] == ch.POINT):
            return False
    if first == end or data[first] == ch.POINT or read_literal(data, first, end, number.whole) < end:
        return False
    return data[first] != ch.ZERO or first + 1 == end or data[first + 1] == ch.POINT


def reason_of(same: int) -> int:
    """OK or WRONG for the result of `equal` on an answer and its reference; UNDECIDED stays."""
    return same if same == UNDECIDED else (OK if same else WRONG)


def compare(
    data: Bytes, low: int, high: int, golds: Bytes, scratch: Scratch, same_number: Callable[..., int]
) -> tuple[int, int]:
    """(reason or UNDECIDED, tier) of the answer in data[low:high], which may be in any notation.

    same_number: `equal` or `equal_exactly`.
    """
    first, currency = scratch.first, scratch.gold.currency
    has_number = False
    behind_numbers = False  # whether an earlier side has numbers
    more = True
    begin = low  # where the answer begins; `low` becomes the beginning of its next side
    while more:
        side = scratch.next if has_number else first
        low, more = read_side(data, begin, low, high, side)
        if side.fault >= HEDGED:  # it is HEDGED or REFUSED
            return MALFORMED if side.fault == REFUSED else HEDGE, GRAMMAR
        # The 5 of `5 (5 * 20 = 100)` must equal the 100. Of `60 - 20 = 40. Then 40 - 10 = 30`, only the 30 counts.
        begins_with_value = more and not behind_numbers and leads(side)
        behind_numbers |= side.numbers > 0
        if not (is_number(side) or begins_with_value):
            continue
        if divides_by_zero(side.number):  # for which `same_number` would raise ZeroDivisionError
            return MALFORMED, GRAMMAR
        if currency and side.currency and not side.currency & currency:
            return WRONG, TYPED
        if has_number:
            same = same_number(data, first.number, data, side.number)
            if same != 1:
                return same if same == UNDECIDED else HEDGE, RATIONAL
        has_number = True
    if not has_number:
        return MALFORMED, GRAMMAR
    same = same_number(data, first.number, golds, scratch.gold.number)
    return reason_of(same), RATIONAL


def judge_completion(
    data: Bytes, start: int, end: int, lenient: bool, references: References, row: int, scratch: Scratch
) -> batch.Judged:
    """The verdict on data[start:end], with UNDECIDED or BAD_GOLD in place of a reason; see `batch.RowLoop`."""
    golds, firsts = references
    gold, number = scratch.gold, scratch.first.number
    if not read_gold(golds, firsts[row], firsts[row + 1], gold):
        return BAD_GOLD, TEXT, 0.0, -1, -1
    status, low, high, boxed = find_answer(data, start, end, lenient)
    if status != FOUND:
        return status, TEXT, 0.0, low, high
    if not lenient:
        strict = boxed and is_strict_number(data, low, high, number)
        as_in_prompt = True
        if not (strict and extract.is_alone(data, start, end, low, high, as_in_prompt)):
            return MALFORMED, GRAMMAR, 0.0, low, high
    if read_plain(data, low, high, number):
        reason, tier = reason_of(equal(data, number, golds, gold.number)), RATIONAL
    else:
        reason, tier = compare(data, low, high, golds, scratch, equal)
    return reason, tier, 1.0 if reason == OK else 0.0, low, high


def _gold_text(answer: object, index: int | None) -> str:
    """The reference as text; raises for what is neither text nor a number."""
    text = batch.as_reference(answer)
    if text is None:
        raise invalid_reference("answer", answer, _NO_GOLD, index)
    return text


def _judge(data: bytes, lenient: bool, row: int | None, answer: object) -> batch.Judged:
    """One completion without numba; raises for an invalid answer."""
    gold = encoded(_gold_text(answer, row))
    golds, only_row, scratch = (gold, (0, len(gold))), 0, Scratch()
    reason, tier, score, low, high = judge_completion(data, 0, len(data), lenient, golds, only_row, scratch)
    if reason == BAD_GOLD:
        raise invalid_reference("answer", answer, _NO_GOLD, row)
    if reason == UNDECIDED:
        reason, _ = compare(data, low, high, gold, scratch, equal_exactly)
        score = float(reason == OK)
    return reason, tier, score, low, high


TASK = batch.text_task(
    "gsm8k",
    ("answer",),
    on_text(_judge),
    flexible=rereading(_judge, partial(flexible_answer, is_gsm8k=True)),
    kernel=batch.PLAIN_NUMBER,
)
