"""The work of a worker of `python -m verifiers serve`: it judges the requests of a task together, and answers them."""

from __future__ import annotations

import json
import logging
from collections import defaultdict
from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any

from verifiers import batch
from verifiers.errors import VerifierError, text_of_one
from verifiers.limit import time_limit
from verifiers.registry import find, verify_batch
from verifiers.serve.queue import Answer, refusal
from verifiers.serve.request_forms import FORMS, Asked, Refused, nemo_gym_metrics

MEMORY = None  # the address space of a worker has no limit


def prepare(
    seconds: float, max_completions: int, load_kernels: bool
) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Gets ready to judge; returns the function that answers jobs, which `verifiers.worker` calls.

    seconds, max_completions: the most of a request. load_kernels: whether kernels are loaded now, and not when that
    pays.
    """
    batch.MAX_THREADS = 1  # batches are small, and other processes use the other cores
    batch.MAY_COMPILE = False  # a request must not wait for it
    for task in ("gsm8k", "math500", "countdown", "sudoku"):  # imports what a first request would wait for
        find(task)
    verify_batch("math500", [r"<answer>\frac{36}{2}</answer>"], answer=["18"])
    if load_kernels:
        batch.prepare_kernels()
    return lambda job: {"answers": answers(job["address"], job["bodies"], seconds, max_completions)}


def answers(address: str, bodies: Sequence[bytes], seconds: float, max_completions: int) -> list[Answer]:
    """The answers to requests of one address, FORM/TASK. What is alike is judged in one batch, within `seconds`."""
    answers_or_asked = [_read(address, body, max_completions) for body in bodies]
    # {(task, mode, reference fields): the places of the requests that have these}
    alike: dict[tuple[Any, ...], list[int]] = defaultdict(list)
    for place, asked in enumerate(answers_or_asked):
        if isinstance(asked, Asked):
            alike[asked.task, asked.mode, *sorted(asked.references)].append(place)
    for places in alike.values():
        group = [answers_or_asked[place] for place in places]
        for place, answer in zip(places, _judged(group, seconds), strict=True):  # type: ignore[arg-type]
            answers_or_asked[place] = answer
    return answers_or_asked  # type: ignore[return-value]


def read_object(body: bytes) -> dict[str, Any]:
    """The JSON object in a body; raises `Refused`."""
    try:
        value = json.loads(body.decode(), parse_constant=_refuse_constant)
    except UnicodeDecodeError as error:
        raise Refused(422, f"The body is not UTF-8 from its byte {error.start} on.") from error
    except RecursionError as error:
        raise Refused(422, "The body is nested too deeply.") from error
    except ValueError as error:  # malformed, cut short, or an integer with thousands of digits
        raise Refused(422, f"The body is not JSON: {str(error).partition(';')[0]}.") from error
    if not isinstance(value, dict):
        raise Refused(422, f"The body must be a JSON object, and is a {type(value).__name__}.")
    return value


def _refuse_constant(text: str) -> float:
    """Refuses NaN and Infinity, which are not JSON, though Python's decoder would read them."""
    raise ValueError(f"{text} is no number there")


def _read(address: str, body: bytes, max_completions: int) -> Asked | Answer:
    """The content of a request, or its answer if nothing is to be judged."""
    form, _, name = address.partition("/")
    try:
        content = read_object(body)
        if form == "aggregate_metrics":
            return Answer(200, json.dumps(nemo_gym_metrics(content)) + "\n", {})
        asked = FORMS[form](name, content)
    except Refused as error:
        return refusal(error.status_code, str(error))
    except VerifierError as error:
        return refusal(422, str(error))
    if len(asked.completions) > max_completions:
        number = f"{len(asked.completions):,} completions are more than the {max_completions:,} of a request"
        return refusal(
            413, f"{number}; send several requests, or start the server with a larger --max-completions."
        )
    return asked


def _judged(group: Sequence[Asked], seconds: float) -> list[Answer]:
    """The answers to requests of one task, mode and set of reference fields.

    If an invalid reference or a user's own task raises an error, each request is judged alone, so that the error only
    affects the request that caused it.
    """
    first = group[0]
    completions = list(chain.from_iterable(asked.completions for asked in group))
    columns = {
        field: list(chain.from_iterable(asked.references[field] for asked in group))
        for field in first.references
    }
    lengths_agree = all(
        len(column) == len(asked.completions) for asked in group for column in asked.references.values()
    )
    try:
        if not lengths_agree and len(group) > 1:
            # Caught below, where each request is then judged alone; the error of the one at fault names the list.
            raise VerifierError("some lists are of different lengths")
        with time_limit(seconds):
            verdicts = verify_batch(first.task, completions, mode=first.mode, **columns)
    except Exception as error:
        if len(group) > 1:
            return [answer for asked in group for answer in _judged([asked], seconds)]
        if isinstance(error, VerifierError):
            return [refusal(422, text_of_one(error) if first.is_one else str(error))]
        logging.getLogger("verifiers.serve").exception("The task %s failed", first.task)
        text = f'The task "{first.task}" failed on this request ({type(error).__name__}); the server\'s log says more.'
        return [refusal(500, text)]
    result, start = [], 0
    for asked in group:
        part = verdicts[start : start + len(asked.completions)]
        result.append(Answer(200, asked.write(part) + "\n", {asked.task: part.counts()}))
        start += len(asked.completions)
    return result
