"""The work of a worker of `python -m verifiers serve`: it judges requests, those that are alike in one batch."""

from __future__ import annotations

import json
import logging
from collections import defaultdict
from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any

from starlette.exceptions import HTTPException

from verifiers import batch
from verifiers.errors import VerifierError, text_of_one
from verifiers.limit import time_limit
from verifiers.registry import verify_batch
from verifiers.serve.queue import Answer, refusal
from verifiers.serve.request_forms import FORMS, Asked, read_object

MEMORY = None  # the address space of a worker has no limit


def prepare(seconds: float) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Gets ready to judge; returns the function that answers jobs, which `verifiers.worker` calls.

    seconds: the most that a job may take.
    """
    batch.MAX_THREADS = 1  # batches are small, and other processes use the other cores
    batch.MAY_COMPILE = False  # a request must not wait for it
    # A request need not wait for imports.
    verify_batch("math500", [r"<answer>\frac{36}{2}</answer>"], answer=["18"])
    return lambda job: {"answers": answers(job["requests"], seconds)}


def answers(requests: Sequence[tuple[str, bytes]], seconds: float) -> list[Answer]:
    """The answers to requests, each the address FORM/TASK and a body, within `seconds`."""
    answers = [_read(address, body) for address, body in requests]
    alike: dict[tuple[Any, ...], list[int]] = defaultdict(list)  # {what is judged together: places}
    for place, asked in enumerate(answers):
        if isinstance(asked, Asked):
            alike[asked.task, asked.mode, *sorted(asked.references)].append(place)
    with time_limit(seconds):
        for places in alike.values():
            for place, answer in zip(places, _judged([answers[place] for place in places]), strict=True):
                answers[place] = answer
    return answers


def _read(address: str, body: bytes) -> Any:
    """What a request asks; an `Answer` if nothing is to be judged."""
    form, _, name = address.partition("/")
    try:
        asked = FORMS[form](name, read_object(body, "The body"))
    except Exception as error:
        return _refused(error)
    return asked if isinstance(asked, Asked) else Answer(200, json.dumps(asked) + "\n", {})


def _judged(group: Sequence[Asked]) -> list[Answer]:
    """The answers to requests of one task, mode and set of reference fields.

    If an error is raised, each request is judged alone, so that only the one with the wrong reference is refused.
    """
    task, mode = group[0].task, group[0].mode
    completions = list(chain.from_iterable(asked.completions for asked in group))
    columns: dict[str, Any] = {
        field: list(chain.from_iterable(asked.references[field] for asked in group))
        for field in group[0].references
    }
    answers, start = [], 0
    try:
        verdicts = verify_batch(task, completions, mode=mode, **columns)
        for asked in group:
            part = verdicts[start : start + len(asked.completions)]
            answers.append(Answer(200, json.dumps(asked.write(part)) + "\n", {task: part.counts()}))
            start += len(asked.completions)
        return answers
    except Exception as error:
        if len(group) > 1:
            return [answer for asked in group for answer in _judged([asked])]
        return [_refused(error, is_one=len(completions) == 1)]


def _refused(error: Exception, is_one: bool = False) -> Answer:
    """The answer to a request that raised an error. is_one: whether it has one completion, whose row is not named."""
    if isinstance(error, HTTPException):
        return refusal(error.status_code, error.detail)
    if isinstance(error, VerifierError):
        return refusal(422, text_of_one(error) if is_one else str(error))
    logging.getLogger("verifiers.serve").error("A request failed", exc_info=error)
    return refusal(500, f"The server failed on this request ({type(error).__name__}); its log says more.")
