"""GSM8K: is the number in this completion the right one, exactly?

Reference: `answer`, a number such as "1,250", "-10", "3/4" or 18, or a solution whose last line is
`#### number`. See docs/verifiers/gsm8k.md.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import cache

from verifiers import batch, characters
from verifiers.errors import InvalidReferenceError, invalid_reference
from verifiers.extract import ANSWER_LIMIT, FOUND, Bytes, is_alone, last_line, locate, strip
from verifiers.gsm8k import answer as answers
from verifiers.gsm8k import number as numbers
from verifiers.gsm8k.answer import (
    HEDGED,
    NUMBERS,
    REFUSED,
    STATE,
    UNIT,
    WORDS,
    is_number,
    read_plain,
    read_side,
)
from verifiers.gsm8k.number import FIELDS, SCALE, Fields, equal, equal_exactly, is_zero_below
from verifiers.registry import Task
from verifiers.verdicts import GRAMMAR, HEDGE, MALFORMED, OK, RATIONAL, TEXT, WRONG, Verdict, Verdicts

_SIGNATURE = f"void({batch.TEXTS}, {batch.TEXTS}, boolean, {batch.COLUMNS}, int64[::1])"
# The gold, the first number of an answer, another one, a spare one, and the state of the side that is being read.
Scratch = tuple[Fields, Fields, Fields, Fields, Fields]
UNDECIDED, BAD_GOLD = -1, -2  # instead of a reason: too large for 64 bits; no number to compare with
_GOLD_POWER = 10**6  # powers of ten in an answer saturate far above


def read_gold(data: Bytes, start: int, end: int, number: Fields, spare: Fields, state: Fields) -> bool:
    """Read the one number of a reference into `number`; False if it is anything else."""
    if end - start > ANSWER_LIMIT:
        return False
    start, end = strip(data, start, end)
    if read_plain(data, start, end, number):
        return True
    low, high = last_line(data, start, end)
    if low >= 0:
        start, end = strip(data, low, high)
    _, more = read_side(data, start, end, number, spare, state)
    if more or not is_number(state) or state[NUMBERS] > 1 or state[WORDS] or state[UNIT]:
        return False
    if abs(number[SCALE]) > _GOLD_POWER or is_zero_below(number):
        return False
    return state[HEDGED] == 0 and state[REFUSED] == 0


def is_strict_number(data: Bytes, start: int, end: int) -> bool:
    """True for `-?(0|[1-9][0-9]*)(.[0-9]+)?`."""
    if start < end and data[start] == 45:
        start += 1
    first = start
    while start < end and 48 <= data[start] <= 57:
        start += 1
    if start == first or (data[first] == 48 and start > first + 1):
        return False
    if start == end:
        return True
    if data[start] != 46 or start + 1 == end:
        return False
    for i in range(start + 1, end):
        if not 48 <= data[i] <= 57:
            return False
    return True


def compare(data: Bytes, low: int, high: int, scratch: Scratch) -> tuple[int, int]:
    """(reason or UNDECIDED, tier) of the answer in data[low:high], read with all notations."""
    gold, first, number, spare, state = scratch
    has_number = False
    more = True
    while more:
        low, more = read_side(data, low, high, number, spare, state)
        if state[REFUSED]:
            return MALFORMED, GRAMMAR
        if state[HEDGED]:
            return HEDGE, GRAMMAR
        if not is_number(state):
            continue
        if is_zero_below(number):
            return MALFORMED, GRAMMAR
        if not has_number:
            has_number = True
            for k in range(FIELDS):
                first[k] = number[k]
            continue
        same = equal(first, number)
        if same != 1:
            return UNDECIDED if same < 0 else HEDGE, RATIONAL
    if not has_number:
        return MALFORMED, GRAMMAR
    same = equal(first, gold)
    if same < 0:
        return UNDECIDED, RATIONAL
    return OK if same else WRONG, RATIONAL


def judge_completion(
    data: Bytes, start: int, end: int, golds: Bytes, first: int, last: int, lenient: bool, scratch: Scratch
) -> tuple[int, int, int, int]:
    """(reason, UNDECIDED or BAD_GOLD; tier, span start, span end) for data[start:end] and golds[first:last].

    Compiled by numba as it stands.
    """
    gold, _, number, spare, state = scratch
    if not read_gold(golds, first, last, gold, spare, state):
        return BAD_GOLD, TEXT, -1, -1
    status, low, high, boxed = locate(data, start, end, lenient)
    if status != FOUND:
        return status, TEXT, low, high
    if not lenient:
        strict = boxed and is_strict_number(data, low, high) and is_alone(data, start, end, low, high, True)
        if not strict:
            return MALFORMED, GRAMMAR, low, high
    if read_plain(data, low, high, number):
        same = equal(number, gold)
        reason, tier = UNDECIDED if same < 0 else (OK if same else WRONG), RATIONAL
    else:
        reason, tier = compare(data, low, high, scratch)
    return reason, tier, low, high


def compare_exactly(data: bytes, low: int, high: int, raw: bytes) -> int:
    """The reason `compare` could not give: the same sides, in integers of any size."""
    gold, first, number, spare, state = _scratch()
    read_gold(raw, 0, len(raw), gold, spare, state)
    has_number, more = False, True
    while more:
        low, more = read_side(data, low, high, number, spare, state)
        if state[REFUSED]:
            return MALFORMED
        if state[HEDGED]:
            return HEDGE
        if not is_number(state):
            continue
        if is_zero_below(number):
            return MALFORMED
        if has_number and not equal_exactly(data, first, data, number):
            return HEDGE
        if not has_number:
            has_number, first = True, list(number)
    return OK if equal_exactly(data, first, raw, gold) else WRONG


def _scratch() -> Scratch:
    return [0] * FIELDS, [0] * FIELDS, [0] * FIELDS, [0] * FIELDS, [0] * STATE


def _gold_text(answer: object, index: int | None) -> str:
    """The reference as text; raises for what is neither text nor an integer."""
    if isinstance(answer, str):
        return str.__str__(answer)
    if isinstance(answer, int) and not isinstance(answer, bool) and answer.bit_length() < 2000:
        return str(int(answer))
    if hasattr(answer, "dtype") and getattr(answer, "shape", None) == () and answer.dtype.kind in "iu":
        return str(int(answer))  # type: ignore[call-overload]
    raise _invalid(answer, f"is a {type(answer).__name__}", index)


def _invalid(answer: object, problem: str, index: int | None) -> InvalidReferenceError:
    advice = (
        "; an answer is one number without words, such as '18', '1,250', '-10' or '3/4', or a solution that ends "
        "in '#### 18'"
    )
    return invalid_reference("answer", answer, problem + advice, index)


def _judge(data: bytes, answer: object, lenient: bool, index: int | None, scratch: Scratch) -> batch.Judged:
    """One completion without numba; raises for an invalid answer."""
    gold = _gold_text(answer, index).encode("utf-8", "surrogatepass")
    reason, tier, low, high = judge_completion(data, 0, len(data), gold, 0, len(gold), lenient, scratch)
    if reason == BAD_GOLD:
        raise _invalid(answer, "is not one number", index)
    if reason == UNDECIDED:
        reason = compare_exactly(data, low, high, gold)
    return reason, tier, float(reason == OK), low, high


def _verify(completion: object, *, mode: str, answer: object) -> Verdict:
    return batch.verify_one(
        completion, lambda data: _judge(data, answer, mode == "lenient", None, _scratch())
    )


def _verify_batch(completions: list[object], *, mode: str, answer: list[object]) -> Verdicts:
    import numpy as np

    lenient, scratch = mode == "lenient", _scratch()

    def judge_row(data: bytes, row: int) -> batch.Judged:
        return _judge(data, answer[row], lenient, row, scratch)

    def judge_all(kernel: Callable, texts: list[str], columns: batch.Columns) -> None:
        golds = answer
        if set(map(type, answer)) != {str}:
            golds = [_gold_text(value, row) for row, value in enumerate(answer)]
        packed, starts = batch.pack(golds)  # type: ignore[arg-type]

        def rest(rows: slice) -> tuple:
            memory = np.zeros(4 * FIELDS + STATE, np.int64)
            return packed, starts[rows.start : rows.stop + 1], lenient, *(c[rows] for c in columns), memory

        batch.for_each_slice(texts, rest, kernel)
        reason, _, score, _ = columns
        for row in np.flatnonzero(reason < 0).tolist():  # invalid, or too large for 64 bits
            reason[row], _, score[row], *_ = judge_row(texts[row].encode("utf-8", "surrogatepass"), row)

    return batch.verify_many(completions, judge_row, judge_all, _kernel)


def _make_kernel(checksum: int) -> Callable[..., None]:
    def judge_rows(data, starts, golds, firsts, lenient, reason, tier, score, spans, memory):  # type: ignore[no-untyped-def]
        if checksum < 0:
            return
        gold, first = memory[:FIELDS], memory[FIELDS : 2 * FIELDS]
        number, spare = memory[2 * FIELDS : 3 * FIELDS], memory[3 * FIELDS : 4 * FIELDS]
        scratch = (gold, first, number, spare, memory[4 * FIELDS :])
        for row in range(len(reason)):
            start, end, low, high = starts[row], starts[row + 1], firsts[row], firsts[row + 1]
            reason[row], tier[row], low, high = judge_completion(
                data, start, end, golds, low, high, lenient, scratch
            )
            score[row] = reason[row] == OK
            shift = start if low >= 0 else 0
            spans[row, 0], spans[row, 1] = low - shift, high - shift

    return judge_rows


@cache
def _kernel() -> Callable[..., None] | None:
    parts = (characters, numbers, answers, sys.modules[__name__])
    return batch.compile_loop(_make_kernel, _SIGNATURE, *parts)


TASK = Task("gsm8k", ("answer",), _verify, _verify_batch)
