"""Countdown: does this expression use each given number exactly once and evaluate to the target, exactly?

Reference: `numbers`, a sequence of integers, and `target`, any rational number: an int, `Fraction`,
`Decimal`, a finite float (read as the decimal it prints as) or a string such as "21/2". See
docs/verifiers/countdown.md.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import cache

from verifiers import batch, characters
from verifiers.countdown import evaluate, tokens
from verifiers.countdown.evaluate import (
    MAX_DEPTH,
    MAX_NUMBERS,
    STATE_SIZE,
    UNDECIDED,
    Given,
    Memory,
    evaluate_expression,
)
from verifiers.countdown.reference import Reference, read_reference, reference_columns
from verifiers.countdown.tokens import skip_words, unwrap
from verifiers.extract import FOUND, Bytes, is_alone, locate
from verifiers.registry import Task
from verifiers.verdicts import GRAMMAR, MALFORMED, OK, RATIONAL, RULE_BROKEN, TEXT, Verdict, Verdicts

_COMPILE_ABOVE = 1 << 18  # characters
_REFERENCE = "int64[::1], int64[::1], int64[::1], int64[::1]"
_SIGNATURE = f"void({batch.TEXTS}, {_REFERENCE}, boolean, {batch.COLUMNS}, int64[::1])"


def judge_completion(
    data: Bytes, start: int, end: int, lenient: bool, exact: bool, given: Given, memory: Memory
) -> tuple[int, int, int, int]:
    """(reason or UNDECIDED, tier, span start, span end) for the completion data[start:end].

    Compiled by numba as it stands.
    """
    status, low, high, boxed = locate(data, start, end, lenient)
    if status != FOUND:
        return status, TEXT, low, high
    begin, finish = low, high
    if lenient:
        begin, finish = unwrap(data, low, high)
        begin = skip_words(data, begin, finish)
        if begin > low:
            begin, finish = unwrap(data, begin, finish)
    elif boxed and not is_alone(data, start, end, low, high, False):
        begin = -1
    if begin < 0:
        return MALFORMED, GRAMMAR, low, high
    reason = evaluate_expression(data, begin, finish, lenient, exact, given, memory)
    tier = GRAMMAR if reason == MALFORMED or reason == RULE_BROKEN else RATIONAL
    return reason, tier, low, high


def _memory() -> Memory:
    stack = [0] * (MAX_DEPTH + 1)
    return stack, stack[:], stack[:], [0] * MAX_NUMBERS, [0] * STATE_SIZE


def _judge(data: bytes, reference: Reference, lenient: bool, memory: Memory) -> batch.Judged:
    """One completion without numba, on 64 bits and, where these are too few, on integers of any size."""
    numbers, numerator, denominator = reference
    given = (numbers, 0, len(numbers), numerator, denominator)
    judged = judge_completion(data, 0, len(data), lenient, False, given, memory)
    if judged[0] == UNDECIDED:
        judged = judge_completion(data, 0, len(data), lenient, True, given, memory)
    reason, tier, low, high = judged
    return reason, tier, float(reason == OK), low, high


def _verify(completion: object, *, mode: str, numbers: object, target: object) -> Verdict:
    reference = read_reference(numbers, target, None)
    return batch.verify_one(completion, lambda data: _judge(data, reference, mode == "lenient", _memory()))


def _verify_batch(
    completions: list[object], *, mode: str, numbers: list[object], target: list[object]
) -> Verdicts:
    import numpy as np

    lenient, memory = mode == "lenient", _memory()

    def judge_row(data: bytes, row: int) -> batch.Judged:
        return _judge(data, read_reference(numbers[row], target[row], row), lenient, memory)

    def judge_all(kernel: Callable, texts: list[str], columns: batch.Columns) -> None:
        values, starts, numerators, denominators = reference_columns(numbers, target)

        def rest(rows: slice) -> tuple:
            reference = starts[rows.start : rows.stop + 1], numerators[rows], denominators[rows]
            room = np.zeros(3 * (MAX_DEPTH + 1) + MAX_NUMBERS + STATE_SIZE, np.int64)
            return values, *reference, lenient, *(column[rows] for column in columns), room

        batch.for_each_slice(texts, rest, kernel)
        reason, tier, score, spans = columns
        for row in np.flatnonzero(reason == UNDECIDED).tolist():
            judged = judge_row(texts[row].encode("utf-8", "surrogatepass"), row)
            reason[row], tier[row], score[row], spans[row, 0], spans[row, 1] = judged

    return batch.verify_many(completions, judge_row, judge_all, _kernel, _COMPILE_ABOVE)


def _make_kernel(checksum: int) -> Callable[..., None]:
    depth = MAX_DEPTH + 1
    behind = 3 * depth + MAX_NUMBERS

    def judge_rows(  # type: ignore[no-untyped-def]
        data, starts, numbers, firsts, numerators, denominators, lenient, reason, tier, score, spans, room
    ):
        if checksum < 0:
            return
        tops, bottoms, operators = room[:depth], room[depth : 2 * depth], room[2 * depth : 3 * depth]
        memory = (tops, bottoms, operators, room[3 * depth : behind], room[behind:])
        for row in range(len(reason)):
            start, end, first, last = starts[row], starts[row + 1], firsts[row], firsts[row + 1]
            if first == last:  # the reference does not fit 64 bits
                reason[row] = UNDECIDED
                continue
            given = (numbers, first, last, numerators[row], denominators[row])
            reason[row], tier[row], low, high = judge_completion(
                data, start, end, lenient, False, given, memory
            )
            score[row] = reason[row] == OK
            shift = start if low >= 0 else 0
            spans[row, 0], spans[row, 1] = low - shift, high - shift

    return judge_rows


@cache
def _kernel() -> Callable[..., None] | None:
    return batch.compile_loop(_make_kernel, _SIGNATURE, characters, tokens, evaluate, sys.modules[__name__])


TASK = Task("countdown", ("numbers", "target"), _verify, _verify_batch)
