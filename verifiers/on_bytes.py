"""Readers of UTF-8 bytes, as functions of text."""

from __future__ import annotations

from collections.abc import Callable

from verifiers import batch
from verifiers.verdicts import MALFORMED, NO_ANSWER, encoded


def on_text(judge: Callable[..., batch.Judged]) -> Callable[..., batch.Judged]:
    """`judge` of `batch.text_task`, from a function of the bytes of the completion."""

    def judge_text(text: str, lenient: bool, row: int | None, *reference: object) -> batch.Judged:
        *judged, start, end = judge(encoded(text), lenient, row, *reference)
        return *judged, *batch.in_characters(text, start, end)  # type: ignore[return-value]

    return judge_text


def rereading(
    judge: Callable[..., batch.Judged], find: Callable[..., tuple[int, int]]
) -> Callable[..., batch.Judged]:
    """`flexible` of `batch.text_task`: `judge`, in a block of its own, on the text that `find` finds in the bytes."""

    def judge_again(text: str, judged: batch.Judged, *reference: object) -> batch.Judged:
        data = encoded(text)
        low, high = find(data, judged[0], *batch.in_bytes(text, *judged[3:]))
        if low < 0:
            return judged
        reason, tier, score, _, _ = judge(b"<answer>" + data[low:high] + b"</answer>", True, None, *reference)
        if reason in (MALFORMED, NO_ANSWER):
            return judged
        return reason, tier, score, *batch.in_characters(text, low, high)

    return judge_again
