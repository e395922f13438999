"""Completions against references: what is extracted, in which format, and what the tiers say about it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from verifiers import _batch
from verifiers._extract import FOUND, HEDGE, MALFORMED, NO_ANSWER, last_box, locate, strip
from verifiers.math500.judge import Outcome, judge, reference_of
from verifiers.registry import Task
from verifiers.verdicts import Reason, Tier, Verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from verifiers.verdicts import Verdicts

CACHE_LIMIT = 1 << 16  # pairs remembered within one batch
_FOUND = {
    FOUND: Reason.OK,
    NO_ANSWER: Reason.NO_ANSWER,
    MALFORMED: Reason.MALFORMED,
    HEDGE: Reason.HEDGE,
}
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


def status_of(found: int, text: str, low: int, high: int, boxed: bool, lenient: bool) -> Reason:
    """OK if there is an answer to judge, else why not."""
    status = _FOUND[found]
    return status if lenient or found != FOUND else strict_format(_encoded(text), low, high, boxed)


def strict_format(data: bytes, low: int, high: int, boxed: bool) -> Reason:
    """OK if the block holds one box and nothing else; another box before it is a hedge."""
    if not boxed:
        return Reason.MALFORMED
    start, end = data.rfind(b"<answer>", 0, low) + 8, data.find(b"</answer>", high)
    box = data.rfind(b"\\boxed", start, low)
    _, other, other_end = last_box(data, start, box)
    if other >= 0 and data[slice(*strip(data, other, other_end))] != data[low:high]:
        return Reason.HEDGE
    alone = strip(data, start, end)[0] == box and data[high:end].strip() == b"}"
    return Reason.OK if alone else Reason.MALFORMED


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def cut(text: str, low: int, high: int) -> str:
    """The answer's text from its place in UTF-8 bytes."""
    return text[low:high] if text.isascii() else _encoded(text)[low:high].decode("utf-8", "surrogatepass")


def _verify(completion: object, *, mode: str, answer: object) -> Verdict:
    gold = reference_of(answer, None)
    text = _batch.as_text(completion)
    if text is None:
        return Verdict(False, 0.0, None, Reason.MALFORMED, Tier.TEXT)
    lenient = mode == "lenient"
    data = _encoded(text)
    found, low, high, boxed = locate(data, 0, len(data), lenient)
    reason, tier = status_of(found, text, low, high, boxed, lenient), Tier.TEXT
    extracted = cut(text, low, high) if low >= 0 else None
    if reason == Reason.OK:
        reason, tier = judge(extracted, gold, lenient) or ask_cas([(extracted, gold.text)], patient=False)[0]
    return Verdict(reason == Reason.OK, float(reason == Reason.OK), extracted, reason, tier)


def _verify_batch(completions: list[object], *, mode: str, answer: list[object]) -> Verdicts:
    import numpy as np

    from verifiers._locate import locate_all
    from verifiers.verdicts import Verdicts

    texts, no_texts = _batch.as_texts(completions)
    golds = [reference_of(text, row) for row, text in enumerate(answer)]
    lenient = mode == "lenient"
    found, boxed, spans = locate_all(texts, lenient)
    judged: dict[tuple[str, str], Outcome] = {}
    outcomes: list[Outcome] = []
    undecided: dict[tuple[str, str], list[int]] = {}
    columns = zip(texts, golds, found.tolist(), boxed.tolist(), spans.tolist(), strict=True)
    for row, (text, gold, code, from_box, (low, high)) in enumerate(columns):
        reason = status_of(code, text, low, high, from_box, lenient)
        if reason != Reason.OK:
            outcomes.append((reason, Tier.TEXT))
            continue
        pair = cut(text, low, high), gold.text
        if pair in judged:
            outcome = judged[pair]
        else:
            outcome = judge(pair[0], gold, lenient)
            if len(judged) < CACHE_LIMIT:
                judged[pair] = outcome
        if outcome is None:
            undecided.setdefault(pair, []).append(row)
        outcomes.append(outcome)
    if undecided:
        for rows, outcome in zip(undecided.values(), ask_cas(list(undecided)), strict=True):
            for row in rows:
                outcomes[row] = outcome
    for row in no_texts:
        outcomes[row] = Reason.MALFORMED, Tier.TEXT
        spans[row] = -1
    reasons = np.array([_REASON_CODES[reason] for reason, _ in outcomes], np.int8)
    tiers = np.array([_TIER_CODES[tier] for _, tier in outcomes], np.int8)
    correct = reasons == Reason.OK.code
    return Verdicts(correct, correct.astype(np.float64), reasons, tiers, spans, texts)


TASK = Task("math500", ("answer",), _verify, _verify_batch)
