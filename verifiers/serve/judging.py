"""The work of a worker of `python -m verifiers serve`: it judges the requests of a task together, and answers them."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any

from verifiers import batch
from verifiers.errors import VerifierError
from verifiers.limit import time_limit
from verifiers.registry import verify_batch
from verifiers.serve.request_forms import FORMS, Asked, Refused, form_of, nemo_gym_metrics
from verifiers.serve.workers import Answer, Question
from verifiers.verdicts import Verdicts

# {task: a reference by which completions are judged before the first request}
_WARMING = {
    "gsm8k": {"answer": "18"},
    "math500": {"answer": "18"},
    "countdown": {"numbers": [3, 6], "target": 18},
    "sudoku": {"puzzle": "4320004330100004"},
}


def prepare(settings: dict[str, Any]) -> Callable[[list[Question]], list[Answer]]:
    """Gets ready to judge; returns the function that answers questions.

    settings: the most `seconds` and `completions` of a request; whether kernels are loaded now (`prepare`) and not when
    that pays. The other settings of the server are not used here.
    """
    batch.MAX_THREADS = 1  # batches are small, and other processes use the other cores
    batch.MAY_COMPILE = False  # a request must not wait for it
    for task, reference in _WARMING.items():  # which imports what a first request would wait for
        verify_batch(task, ["<answer>18</answer>"], **{field: [value] for field, value in reference.items()})
    if settings["prepare"]:
        batch.prepare_kernels()
    seconds, max_completions = settings["seconds"], settings["completions"]
    return lambda questions: answers(questions, seconds, max_completions)


def answers(questions: Sequence[Question], seconds: float, max_completions: int) -> list[Answer]:
    """The answer to each question. Questions about the same task are judged in one batch, within `seconds`."""
    result: list[Answer | None] = [None] * len(questions)
    # {(task, mode, reference fields): the requests that have these, each with its place among the questions}
    alike: dict[tuple[Any, ...], list[tuple[int, Asked]]] = {}
    for place, question in enumerate(questions):
        try:
            content = _read(question, max_completions)
        except Refused as refusal:
            result[place] = refused(refusal)
            continue
        if isinstance(content, Asked):
            kind = (content.task, content.mode, *sorted(content.references))
            alike.setdefault(kind, []).append((place, content))
        else:
            result[place] = Answer(200, _json(content), verdicts={})
    for group in alike.values():
        answers_of_group = _judged([asked for _, asked in group], seconds)
        for (place, _), answer in zip(group, answers_of_group, strict=True):
            result[place] = answer
    return [answer for answer in result if answer is not None]  # none is None by now


def refused(refusal: Refused) -> Answer:
    """A refusal as an answer."""
    return Answer(refusal.status, _json({"error": str(refusal)}), verdicts={})


def read_object(body: bytes) -> dict[str, Any]:
    """The JSON object in a body; raises `Refused`."""
    try:
        value = _parsed(body)
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


_EXACT = frozenset({str, int, bool, type(None)})  # a value of one of these types has not been rounded
_DECODER = json.JSONDecoder(parse_constant=_refuse_constant)


def _parsed(body: bytes) -> Any:
    """The JSON value of a body. orjson reads most bodies, in a tenth of the time; Python's decoder reads the others.

    These are bodies with integers of more than 64 bits, which orjson rounds, and bodies that orjson refuses, such as
    those with lone surrogates or deep nesting. Raises ValueError or RecursionError if Python's decoder does.
    """
    try:
        import orjson

        value = orjson.loads(body)
        if not _may_be_rounded(value):
            return value
    except (ImportError, ValueError):  # orjson is not installed, or refuses the body
        pass
    return _DECODER.decode(body.decode())


def _may_be_rounded(value: Any) -> bool:
    """Whether a value of orjson may hold a rounded integer: a large float, which may have been a long integer."""
    if type(value) is float:
        return abs(value) >= 2**63
    if type(value) is list:
        items = value
    elif type(value) is dict:
        items = value.values()
    else:
        return False
    # Most lists have only texts, so that the types of the items decide.
    return not _EXACT.issuperset(map(type, items)) and any(map(_may_be_rounded, items))


def _read(question: Question, max_completions: int) -> Asked | dict[str, Any]:
    """The content of a request, or its answer if nothing is to be judged; raises `Refused`."""
    body = read_object(question.body)
    if question.address == "/aggregate_metrics":
        return nemo_gym_metrics(body)
    form = form_of(question.address)
    assert form is not None, question.address  # no other address is sent to a worker
    form_name, task_or_data_source = form
    try:
        asked = FORMS[form_name](task_or_data_source, body)
    except VerifierError as error:
        raise Refused(422, str(error)) from error
    if len(asked.completions) > max_completions:
        number = f"{len(asked.completions):,} completions are more than the {max_completions:,} of a request"
        raise Refused(
            413, f"{number}; send several requests, or start the server with a larger --max-completions."
        )
    return asked


def _judged(group: Sequence[Asked], seconds: float) -> list[Answer]:
    """The answers to requests of one task, mode and set of reference fields.

    If an invalid reference or a user's own task raises an error, each request is judged alone, so that the error only
    affects the request that caused it.
    """
    first = group[0]
    columns = {
        field: list(chain.from_iterable(asked.references[field] for asked in group))
        for field in first.references
    }
    completions = list(chain.from_iterable(asked.completions for asked in group))
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
            text = str(error)
            if first.is_one:  # as `verify` says it: answer='x', not answer[0]='x'
                text = text.replace(f"{error.argument}[0]=", f"{error.argument}=", 1).removeprefix("Row 0: ")
            return [refused(Refused(422, text))]
        logging.getLogger("verifiers.serve").exception("The task %s failed", first.task)
        text = f'The task "{first.task}" failed on this request ({type(error).__name__}); the server\'s log says more.'
        return [refused(Refused(500, text))]
    result, start = [], 0
    for asked in group:
        end = start + len(asked.completions)
        part: Verdicts = verdicts[start:end]
        result.append(Answer(200, asked.write(part).encode() + b"\n", {asked.task: part.counts()}))
        start = end
    return result


def _json(value: Any) -> bytes:
    """A value as JSON, with a line end."""
    return json.dumps(value).encode() + b"\n"
