"""GSM8K: is the number in this completion the right one, exactly?

Reference: `answer`, a number such as "1,250", "-10", "3/4" or 18, or a solution whose last line is
`#### number`. See docs/verifiers/gsm8k.md.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from verifiers import (
    _batch,
    _compile,
    _extract,
    _notation,
    _number,
    _number_answer,
    _powers,
    _quantity,
    _rational,
    _symbols,
    _words,
)
from verifiers._number import FIELDS
from verifiers._number_answer import BAD_GOLD, UNDECIDED, compare_exactly, judge_answer, scratch
from verifiers._words import STATE
from verifiers.errors import InvalidReferenceError, shown
from verifiers.registry import Task
from verifiers.verdicts import REASONS, TIERS, Reason, Tier, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable

    from verifiers.verdicts import Verdicts

_OK, _MALFORMED, _TEXT = Reason.OK.code, Reason.MALFORMED.code, Tier.TEXT.code
_PLAIN_CHARACTERS = 1 << 20
_SIGNATURE = (
    "void(Array(uint8, 1, 'C', readonly=True), int64[::1], Array(uint8, 1, 'C', readonly=True), int64[::1], "
    "boolean, int8[::1], int8[::1], int64[:, ::1], int64[::1])"
)


def _as_gold(answer: object, index: int | None) -> str:
    """The reference as text; raises for what is neither text nor an integer."""
    if isinstance(answer, str):
        return str.__str__(answer)
    if isinstance(answer, int) and not isinstance(answer, bool) and answer.bit_length() < 2000:
        return str(int(answer))
    if hasattr(answer, "dtype") and getattr(answer, "shape", None) == () and answer.dtype.kind in "iu":
        return str(int(answer))  # type: ignore[call-overload]
    raise _invalid(answer, f"is a {type(answer).__name__}", index)


def _invalid(answer: object, problem: str, index: int | None) -> InvalidReferenceError:
    where = "answer" if index is None else f"answer[{index}]"
    return InvalidReferenceError(
        f"{where}={shown(answer)} {problem}; an answer is one number without words, such as '18', '1,250', '-10' "
        "or '3/4', or a solution that ends in '#### 18'.",
        argument="answer",
        index=index,
        value=answer,
    )


def _judge_plain(text: str, answer: object, lenient: bool, index: int | None, lists: tuple) -> tuple:
    """(reason, tier, span start, span end) without numba; raises for an invalid answer."""
    data = text.encode("utf-8", "surrogatepass")
    raw = _as_gold(answer, index).encode("utf-8", "surrogatepass")
    reason, tier, low, high = judge_answer(data, 0, len(data), raw, 0, len(raw), lenient, *lists)
    if reason == BAD_GOLD:
        raise _invalid(answer, "is not one number", index)
    if reason == UNDECIDED:
        reason = compare_exactly(data, low, high, raw)
    return reason, tier, low, high


def _verify(completion: object, *, mode: str, answer: object) -> Verdict:
    text = _batch.as_text(completion)
    reason, tier, start, end = _judge_plain(text or "", answer, mode == "lenient", None, scratch())
    if text is None:
        return Verdict(False, 0.0, None, Reason.MALFORMED, Tier.TEXT)
    extracted = None
    if start >= 0:
        extracted = text.encode("utf-8", "surrogatepass")[start:end].decode("utf-8", "surrogatepass")
    return Verdict(reason == _OK, float(reason == _OK), extracted, REASONS[reason], TIERS[tier])


def _verify_batch(completions: list[object], *, mode: str, answer: list[object]) -> Verdicts:
    import numpy as np

    from verifiers.verdicts import Verdicts

    texts, strangers = _batch.as_texts(completions)
    n = len(texts)
    reason, tier, spans = np.empty(n, np.int8), np.empty(n, np.int8), np.empty((n, 2), np.int64)
    kernel = None
    if _compile.is_worthwhile(texts, _PLAIN_CHARACTERS):
        kernel = _kernel()
    if kernel is None:
        lists = scratch()
        for row in range(n):
            verdict = _judge_plain(texts[row], answer[row], mode == "lenient", row, lists)
            reason[row], tier[row], spans[row, 0], spans[row, 1] = verdict
    else:
        _run(kernel, texts, answer, mode == "lenient", (reason, tier, spans))
    reason[strangers], tier[strangers] = _MALFORMED, _TEXT
    correct = reason == _OK
    return Verdicts(correct, correct.astype(np.float64), reason, tier, spans, texts)


def _run(kernel: Callable, texts: list[str], answers: list[object], lenient: bool, out: tuple) -> None:
    """Fill the columns `out` through the compiled kernel; raises for the first invalid answer."""
    import numpy as np

    golds = answers
    if set(map(type, answers)) != {str}:
        golds = [_as_gold(answer, row) for row, answer in enumerate(answers)]

    raw, firsts = _batch.pack(golds)  # type: ignore[arg-type]

    def rest(rows: slice) -> tuple:
        room = np.zeros(4 * FIELDS + STATE, np.int64)
        return raw, firsts[rows.start : rows.stop + 1], lenient, *(column[rows] for column in out), room

    _batch.for_each_slice(texts, rest, kernel)
    left = np.flatnonzero(out[0] < 0)
    if len(left):
        lists = scratch()
    for row in left.tolist():
        # what does not fit in 64 bits, and the errors, are the plain path's
        out[0][row], *_ = _judge_plain(texts[row], answers[row], lenient, row, lists)


def _make_kernel(mark: int) -> Callable[..., None]:
    """The loop over rows, to be compiled; it closes over `mark` for the sake of numba's cache."""

    def judge_rows(data, starts, golds, firsts, lenient, reason, tier, spans, room):  # type: ignore[no-untyped-def]
        if mark < 0:
            return
        gold, first = room[:FIELDS], room[FIELDS : 2 * FIELDS]
        number, spare = room[2 * FIELDS : 3 * FIELDS], room[3 * FIELDS : 4 * FIELDS]
        state = room[4 * FIELDS :]
        for row in range(len(reason)):
            start, end, low, high = starts[row], starts[row + 1], firsts[row], firsts[row + 1]
            reason[row], tier[row], low, high = judge_answer(
                data, start, end, golds, low, high, lenient, gold, first, number, spare, state
            )
            shift = start if low >= 0 else 0
            spans[row, 0], spans[row, 1] = low - shift, high - shift

    return judge_rows


@cache
def _kernel() -> Callable[..., None] | None:
    """The compiled row loop, or None where numba cannot be imported."""
    if not _compile.numba_is_there():
        return None
    import sys

    parts = (_symbols, _powers, _number, _words, _quantity, _rational, _number_answer)
    helpers = [helper for part in parts for helper in part.COMPILED]
    mark = _compile.stamp(_extract, _notation, *parts, sys.modules[__name__])
    return _compile.compile_rows(_make_kernel, _SIGNATURE, helpers, mark)


TASK = Task("gsm8k", ("answer",), _verify, _verify_batch)
