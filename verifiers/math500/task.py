"""Completions against references: what is extracted, in which format, and what the tiers say about it."""

from __future__ import annotations

import logging
from functools import lru_cache
from typing import TYPE_CHECKING

from verifiers import batch
from verifiers.extract import HEDGE, MALFORMED, NO_ANSWER, last_box, locate, strip
from verifiers.math500.judge import Outcome, judge, reference_of
from verifiers.registry import Task
from verifiers.verdicts import Reason, Tier, Verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from verifiers.verdicts import Verdicts

CACHE_LIMIT = 1 << 16  # pairs remembered within one batch
_NOT_FOUND = {NO_ANSWER: Reason.NO_ANSWER, MALFORMED: Reason.MALFORMED, HEDGE: Reason.HEDGE}
_REASON_CODES = {reason: reason.code for reason in Reason}
_TIER_CODES = {tier: tier.code for tier in Tier}


def ask_cas(pairs: Sequence[tuple[str, str]], patient: bool = True) -> list[tuple[Reason, Tier]]:
    """What the computer algebra system says about (answer, reference) pairs, asked once for each.

    What keeps it from answering (a package that is missing, say) is logged once for each call.
    """
    from verifiers.math500 import cas

    names = {"equal": Reason.OK, "different": Reason.WRONG, "timeout": Reason.TIMEOUT, "error": Reason.ERROR}
    outcomes = cas.equal_many(pairs, patient)
    problems = [detail for name, detail in outcomes if name == "error"]
    if problems:
        message = "math500: some answers end as reason=error: %s"
        logging.getLogger("verifiers").warning(message, problems[0])
    return [(names[name], Tier.CAS) for name, _ in outcomes]


def format_of(data: bytes, low: int, high: int, boxed: bool) -> Reason:
    """Strict mode: OK if the block holds one box and nothing else; another box before it is a hedge."""
    if not boxed:
        return Reason.MALFORMED
    start, end = data.rfind(b"<answer>", 0, low) + 8, data.find(b"</answer>", high)
    box = data.rfind(b"\\boxed", start, low)
    _, other, other_end = last_box(data, start, box)
    if other >= 0 and data[slice(*strip(data, other, other_end))] != data[low:high]:
        return Reason.HEDGE
    alone = strip(data, start, end)[0] == box and data[high:end].strip() == b"}"
    return Reason.OK if alone else Reason.MALFORMED


def encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def cut(text: str, low: int, high: int) -> str:
    """The text at these places of its UTF-8 bytes."""
    return text[low:high] if text.isascii() else encoded(text)[low:high].decode("utf-8", "surrogatepass")


def _verify(completion: object, *, mode: str, answer: object) -> Verdict:
    gold = reference_of(answer, None)
    text = batch.as_text(completion)
    if text is None:
        return Verdict(False, 0.0, None, Reason.MALFORMED, Tier.TEXT)
    lenient, data = mode == "lenient", encoded(text)
    status, low, high, boxed = locate(data, 0, len(data), lenient)
    extracted = cut(text, low, high) if low >= 0 else None
    reason = _NOT_FOUND.get(status) or (Reason.OK if lenient else format_of(data, low, high, boxed))
    tier = Tier.TEXT
    if reason == Reason.OK:
        reason, tier = judge(extracted, gold, lenient) or ask_cas([(extracted, gold.text)], patient=False)[0]
    return Verdict(reason == Reason.OK, float(reason == Reason.OK), extracted, reason, tier)


def _verify_batch(completions: list[object], *, mode: str, answer: list[object]) -> Verdicts:
    import numpy as np

    from verifiers.batch import locate_all
    from verifiers.verdicts import Verdicts

    texts, no_texts = batch.as_texts(completions)
    golds = [reference_of(text, row) for row, text in enumerate(answer)]
    lenient = mode == "lenient"
    statuses, boxed, spans = locate_all(texts, lenient)
    judge_once = lru_cache(CACHE_LIMIT)(judge)
    outcomes: list[Outcome] = []
    undecided: dict[tuple[str, str], list[int]] = {}
    columns = zip(texts, golds, statuses.tolist(), boxed.tolist(), spans.tolist(), strict=True)
    for row, (text, gold, status, from_box, (low, high)) in enumerate(columns):
        reason = _NOT_FOUND.get(status)
        if reason is None and not lenient:
            reason = format_of(encoded(text), low, high, from_box)
        if reason and reason != Reason.OK:
            outcomes.append((reason, Tier.TEXT))
            continue
        extracted = cut(text, low, high)
        outcomes.append(judge_once(extracted, gold, lenient))
        if outcomes[-1] is None:
            undecided.setdefault((extracted, gold.text), []).append(row)
    for row in no_texts:
        outcomes[row] = Reason.MALFORMED, Tier.TEXT
        spans[row] = -1
    if undecided:
        for rows, outcome in zip(undecided.values(), ask_cas(list(undecided)), strict=True):
            for row in rows:
                outcomes[row] = outcome
    reasons = np.array([_REASON_CODES[reason] for reason, _ in outcomes], np.int8)
    tiers = np.array([_TIER_CODES[tier] for _, tier in outcomes], np.int8)
    correct = reasons == Reason.OK.code
    return Verdicts(correct, correct.astype(np.float64), reasons, tiers, spans, texts)


TASK = Task("math500", ("answer",), _verify, _verify_batch)
