"""The last tier: a computer algebra system in a process of its own, killed at its deadline.

Nothing here imports sympy. What could make it work for long is refused before (`cas_limits`).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from verifiers.math500.cas_limits import is_word, refusal, without_bases
from verifiers.workers import Workers, WorkerUnavailable

MAX_WORKERS = 4
MEMORY_LIMIT = 65_536  # verdicts remembered


class Outcome(NamedTuple):
    """One of equal, different, timeout, error, and why where there is something to say."""

    name: str
    detail: str = ""


workers = Workers("verifiers.math500.cas_worker", size=max(1, min(MAX_WORKERS, os.cpu_count() or 1)))
_known: dict[tuple[str, str], Outcome] = {}


def equal_many(pairs: Sequence[tuple[str, str]], patient: bool = True) -> list[Outcome]:
    """Is the LaTeX text `answer` the same answer as `gold`? For (answer, gold) pairs, in order; never raises.

    Identical pairs are judged once, also across calls. A patient caller waits for a worker to start, however long
    that takes on a busy machine: the deadline is one of each pair. For others it includes the start. "error" says
    what is missing or wrong: sympy or math-verify, a gold answer that cannot be read, a worker that died twice.
    """
    todo = [pair for pair in dict.fromkeys(pairs) if pair not in _known]

    def judge(pair: tuple[str, str]) -> Outcome:
        return _judge(*pair, patient)

    if len(todo) > 1 and workers.size > 1:
        with ThreadPoolExecutor(min(len(todo), workers.size), thread_name_prefix="verifiers-cas") as pool:
            fresh = dict(zip(todo, pool.map(judge, todo), strict=True))
    else:
        fresh = {pair: judge(pair) for pair in todo}
    outcomes = [fresh.get(pair) or _known.get(pair) or judge(pair) for pair in pairs]
    if len(_known) > MEMORY_LIMIT:
        _known.clear()
    _known.update(
        {pair: outcome for pair, outcome in fresh.items() if outcome.name in ("equal", "different")}
    )
    return outcomes


def _judge(answer: str, gold: str, patient: bool) -> Outcome:
    if why := refusal(answer):
        return Outcome("different", f"refused: {why}")
    if why := refusal(gold):
        return Outcome("error", f"the gold answer is refused: {why}")
    (answer, bases), (gold, gold_bases) = without_bases(answer), without_bases(gold)
    if bases != gold_bases and (bases or not gold_bases):
        return Outcome("different", f"bases {bases or 'none'} and {gold_bases or 'none'}")
    if (is_word(answer) or is_word(gold)) and answer.strip() != gold.strip():
        return Outcome("different", "a word is not a product of its letters")
    try:
        reply = workers.ask({"answer": answer, "gold": gold}, patient)
    except WorkerUnavailable as error:
        return Outcome("error", str(error))
    return Outcome(reply["outcome"], reply["detail"])
