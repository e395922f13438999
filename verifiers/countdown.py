"""Countdown: does this expression use each given number exactly once and evaluate to the target, exactly?

Reference: `numbers`, a sequence of integers, and `target`, any rational number: an int, `Fraction`,
`Decimal`, a finite float (read as the decimal it prints as) or a string such as "21/2". See
docs/verifiers/countdown.md.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from verifiers import _batch, _compile, _expression, _extract, _notation, _yard
from verifiers._countdown_reference import columns, read_reference
from verifiers._expression import skip_words, unwrap
from verifiers._extract import FOUND, HEDGE, NO_ANSWER, is_space, locate, matches, strip
from verifiers._yard import (
    MALFORMED,
    MAX_DEPTH,
    MAX_NUMBERS,
    NEEDS_EXACT,
    NOT_GIVEN,
    RIGHT,
    STATE_SIZE,
    judge_expression,
)
from verifiers.registry import Task
from verifiers.verdicts import REASONS, TIERS, Reason, Tier, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable

    from verifiers._countdown_reference import Reference
    from verifiers._extract import Bytes
    from verifiers._yard import Given, Room
    from verifiers.verdicts import Verdicts

_OK, _WRONG, _NO_ANSWER = Reason.OK.code, Reason.WRONG.code, Reason.NO_ANSWER.code
_MALFORMED, _RULE_BROKEN, _HEDGE = Reason.MALFORMED.code, Reason.RULE_BROKEN.code, Reason.HEDGE.code
_TEXT, _GRAMMAR, _RATIONAL = Tier.TEXT.code, Tier.GRAMMAR.code, Tier.RATIONAL.code
_UNDECIDED = -1  # in place of a reason: to be judged again without a limit on integers
_PLAIN_CHARACTERS = 1 << 18
_SIGNATURE = (
    "void(Array(uint8, 1, 'C', readonly=True), int64[::1], int64[::1], int64[::1], int64[::1], int64[::1], "
    "boolean, int8[::1], int8[::1], int64[:, ::1], int64[::1])"
)
_OPEN, _CLOSE, _BOX = tuple(b"<answer>"), tuple(b"</answer>"), tuple(b"\\boxed")


def is_alone(data: Bytes, start: int, end: int, low: int, high: int) -> bool:
    """True if the box around data[low:high] is all that its `<answer>` block holds."""
    while low > start and is_space(data[low - 1]):
        low -= 1
    low -= 1
    while low > start and is_space(data[low - 1]):
        low -= 1
    low -= len(_BOX)
    if low < start or not matches(data, low, end, _BOX):
        return False
    while low > start and is_space(data[low - 1]):
        low -= 1
    low -= len(_OPEN)
    high, _ = strip(data, high, end)
    high, _ = strip(data, high + 1, end)
    return low >= start and matches(data, low, end, _OPEN) and matches(data, high, end, _CLOSE)


def judge_answer(
    data: Bytes, start: int, end: int, lenient: bool, exact: bool, given: Given, room: Room
) -> tuple[int, int, int, int]:
    """(reason or _UNDECIDED, tier, span start, span end) for the completion data[start:end].

    Compiled by numba as it stands.
    """
    found, low, high, boxed = locate(data, start, end, lenient)
    if found == NO_ANSWER:
        return _NO_ANSWER, _TEXT, low, high
    if found == HEDGE:
        return _HEDGE, _TEXT, low, high
    if found != FOUND:
        return _MALFORMED, _TEXT, low, high
    begin, finish = low, high
    if lenient:
        begin, finish = unwrap(data, low, high)
        begin = skip_words(data, begin, finish)
        if begin > low:
            begin, finish = unwrap(data, begin, finish)
    elif boxed and not is_alone(data, start, end, low, high):
        begin = -1
    if begin < 0:
        return _MALFORMED, _GRAMMAR, low, high
    said = judge_expression(data, begin, finish, lenient, exact, given, room)
    if said == RIGHT:
        return _OK, _RATIONAL, low, high
    if said == MALFORMED:
        return _MALFORMED, _GRAMMAR, low, high
    if said == NOT_GIVEN:
        return _RULE_BROKEN, _GRAMMAR, low, high
    return (_UNDECIDED if said == NEEDS_EXACT else _WRONG), _RATIONAL, low, high


def _room() -> Room:
    stack = [0] * (MAX_DEPTH + 1)
    return stack, stack[:], stack[:], [0] * MAX_NUMBERS, [0] * STATE_SIZE


def _judge_plain(text: str, reference: Reference, lenient: bool, room: Room) -> tuple[int, int, int, int]:
    """(reason, tier, span start, span end) without numba."""
    numbers, top, bottom = reference
    data = text.encode("utf-8", "surrogatepass")
    given = (numbers, 0, len(numbers), top, bottom)
    verdict = judge_answer(data, 0, len(data), lenient, False, given, room)
    return (
        verdict if verdict[0] != _UNDECIDED else judge_answer(data, 0, len(data), lenient, True, given, room)
    )


def _verify(completion: object, *, mode: str, numbers: object, target: object) -> Verdict:
    text = _batch.as_text(completion)
    reference = read_reference(numbers, target, None)
    reason, tier, start, end = _judge_plain(text or "", reference, mode == "lenient", _room())
    if text is None:
        return Verdict(False, 0.0, None, Reason.MALFORMED, Tier.TEXT)
    extracted = None
    if start >= 0:
        extracted = text.encode("utf-8", "surrogatepass")[start:end].decode("utf-8", "surrogatepass")
    return Verdict(reason == _OK, float(reason == _OK), extracted, REASONS[reason], TIERS[tier])


def _verify_batch(
    completions: list[object], *, mode: str, numbers: list[object], target: list[object]
) -> Verdicts:
    import numpy as np

    from verifiers.verdicts import Verdicts

    texts, strangers = _batch.as_texts(completions)
    n, lenient = len(texts), mode == "lenient"
    reason, tier, spans = np.empty(n, np.int8), np.empty(n, np.int8), np.empty((n, 2), np.int64)
    kernel = None
    if _compile.is_worthwhile(texts, _PLAIN_CHARACTERS):
        kernel = _kernel()
    if kernel is None:
        references = [read_reference(numbers[row], target[row], row) for row in range(n)]
        undecided = range(n)
    else:
        given, references = columns(numbers, target)

        def rest(rows: slice) -> tuple:
            values, starts, tops, bottoms = given
            reach = slice(rows.start, rows.stop + 1)
            out = (reason[rows], tier[rows], spans[rows])
            room = np.zeros(3 * (MAX_DEPTH + 1) + MAX_NUMBERS + STATE_SIZE, np.int64)
            return values, starts[reach], tops[rows], bottoms[rows], lenient, *out, room

        _batch.for_each_slice(texts, rest, kernel)
        undecided = np.flatnonzero(reason == _UNDECIDED).tolist()
    room = _room()
    for row in undecided:
        reference = references[row] if references else read_reference(numbers[row], target[row], row)
        verdict = _judge_plain(texts[row], reference, lenient, room)
        reason[row], tier[row], spans[row, 0], spans[row, 1] = verdict
    reason[strangers], tier[strangers] = _MALFORMED, _TEXT
    correct = reason == _OK
    return Verdicts(correct, correct.astype(np.float64), reason, tier, spans, texts)


def _make_kernel(mark: int) -> Callable[..., None]:
    """The loop over rows, to be compiled; it closes over `mark` for the sake of numba's cache."""
    depth = MAX_DEPTH + 1
    behind = 3 * depth + MAX_NUMBERS

    def judge_rows(  # type: ignore[no-untyped-def]
        data, starts, numbers, firsts, target_tops, target_bottoms, lenient, reason, tier, spans, memory
    ):
        if mark < 0:
            return
        tops, bottoms, operators = memory[:depth], memory[depth : 2 * depth], memory[2 * depth : 3 * depth]
        room = (tops, bottoms, operators, memory[3 * depth : behind], memory[behind:])
        for row in range(len(reason)):
            start, end, first, last = starts[row], starts[row + 1], firsts[row], firsts[row + 1]
            if first == last:  # the reference does not fit 64 bits
                reason[row] = _UNDECIDED
                continue
            given = (numbers, first, last, target_tops[row], target_bottoms[row])
            reason[row], tier[row], low, high = judge_answer(data, start, end, lenient, False, given, room)
            shift = start if low >= 0 else 0
            spans[row, 0], spans[row, 1] = low - shift, high - shift

    return judge_rows


@cache
def _kernel() -> Callable[..., None] | None:
    """The compiled row loop, or None where numba cannot be imported."""
    if not _compile.numba_is_there():
        return None
    import sys

    mark = _compile.stamp(_extract, _notation, _expression, _yard, sys.modules[__name__])
    helpers = (*_notation.COMPILED, *_expression.COMPILED, *_yard.COMPILED, is_alone, judge_answer)
    return _compile.compile_rows(_make_kernel, _SIGNATURE, helpers, mark)


TASK = Task("countdown", ("numbers", "target"), _verify, _verify_batch)
