"""The work of a worker of `python -m verifiers serve`: it reads requests, and judges those that are alike in one batch.

Requests and their answers have a form: ours, verl's, OpenRLHF's or NeMo-Gym's. A form is a function of the name in an
address and the JSON object of a body. It returns an `Asked`, which also writes the answer, or an `Answer` that needs no
verdict. A name is that of a task or of a data source (verl's word for a set of problems);
`verifiers.score.DATA_SOURCES` says which task judges a data source.
"""

import json
import logging
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from statistics import fmean
from typing import Any, NamedTuple, NoReturn

from starlette.exceptions import HTTPException

from verifiers import batch
from verifiers.errors import UnknownTaskError, VerifierError, shown, text_of_one
from verifiers.limit import time_limit
from verifiers.registry import Mode, find, verify_batch
from verifiers.score import references_of, task_of
from verifiers.serve.queue import Answer
from verifiers.verdicts import Outcome, outcomes_of

MEMORY = None  # the address space of a worker has no limit
MAX_COMPLETIONS = 1 << 16  # of a request: the answer has more bytes for each than the request may have


class Asked(NamedTuple):
    """The content of a request: N completions of one task, N values of each reference field, the form of the answer."""

    task: str
    completions: list[Any]
    references: dict[str, list[Any]]
    write: Callable[[Sequence[Outcome]], dict[str, Any]]
    """Makes the answer."""
    mode: Mode = "lenient"


class Body(dict[str, Any]):
    """The fields of a request; raises HTTPException for one that is missing."""

    def __missing__(self, field: str) -> NoReturn:
        raise HTTPException(422, f'"{field}" is missing.')


def ours(name: str, body: Body) -> Asked:
    """`POST /verify/TASK`, with the arguments of `verify` (`completion`) or of `verify_batch` (`completions`)."""
    task, mode = task_of(name), body.pop("mode", "lenient")
    if "completions" not in body:
        references = {field: [value] for field, value in body.items() if field != "completion"}
        return Asked(task, [body["completion"]], references, lambda outcomes: _fields(outcomes[0]), mode)
    completions = _list(body, "completions")
    del body["completions"]
    for field, value in body.items():
        is_for_all = field in find(task).settings and isinstance(value, str)
        body[field] = [value] * len(completions) if is_for_all else _list(body, field, len(completions))
    return Asked(task, completions, body, lambda outcomes: {"verdicts": [*map(_fields, outcomes)]}, mode)


def verl(_: str, body: Body) -> Asked:
    """`POST /verl`, with the arguments that verl passes to `compute_score`; answers with a dict that verl accepts."""
    task, completion, truth = task_of(body["data_source"]), body["solution_str"], body["ground_truth"]
    references = references_of(task, truth, body.get("extra_info"))

    def write(outcomes: Sequence[Outcome]) -> dict[str, Any]:
        correct, score, extracted, reason, *_ = outcomes[0]
        rewards = {"score": float(correct), "acc": correct, "partial": score}
        return rewards | {"reason": reason, "extracted": extracted or ""}

    return Asked(task, [completion], _columns([references]), write)


def openrlhf(name: str, body: Body) -> Asked:
    """`POST /openrlhf/TASK`, with what OpenRLHF sends to its `--reward.remote_url`: query, prompts and labels."""
    task, queries = task_of(name), _list(body, "query")
    prompts, labels = (_list(body, field, len(queries)) for field in ("prompts", "labels"))
    has_all_fields = len(find(task).fields) > 1  # a label, as JSON text
    completions, references = [], []
    for index, (query, prompt, label) in enumerate(zip(queries, prompts, labels, strict=True)):
        start = query.find(prompt) if isinstance(query, str) and isinstance(prompt, str) else -1
        if start < 0:
            text = f"query[{index}] does not contain prompts[{index}], as if OpenRLHF had cut a prompt that is too "
            raise HTTPException(422, text + "long; give shorter prompts or a larger --data.max_len.")
        completions.append(query[start + len(prompt) :])
        truth = read_object(label, f"labels[{index}]") if has_all_fields else label
        references.append(references_of(task, truth, extra_info=None))

    def write(outcomes: Sequence[Outcome]) -> dict[str, Any]:
        rewards, scores = [float(one.correct) for one in outcomes], [one.score for one in outcomes]
        return {"rewards": rewards, "scores": rewards, "extra_logs": {"partial": scores}}

    return Asked(task, completions, _columns(references), write)


def nemo_gym(_: str, body: Body) -> Asked:
    """`POST /verify`, with NeMo-Gym's request: a row of its data, and a `response` of the Responses API.

    The row names its task as `data_source`. The reference is `expected_answer` or, if there is none, stands under the
    names of the task's fields. The answer is the request again, as from NeMo-Gym's own servers, with the reward and the
    verdict added.
    """
    task = find(task_of(body["data_source"]))
    own_fields = {field: body[field] for field in (*task.fields, *task.optional) if field in body}
    truth = body.get("expected_answer", own_fields)
    problem = body.get("problem", body.get("question"))
    reference = references_of(task.name, truth, {"problem": problem} if isinstance(problem, str) else None)
    try:
        items = body["response"]["output"]
        parts = [part for item in items if item["type"] == "message" for part in item["content"]]
        completion = "".join(part["text"] for part in parts if part["type"] == "output_text")
    except (KeyError, TypeError) as error:
        text = '"response" must have a list "output" of messages, as in the Responses API.'
        raise HTTPException(422, text) from error

    def write(outcomes: Sequence[Outcome]) -> dict[str, Any]:
        correct, score, extracted, reason, *_ = outcomes[0]
        verdict = {"correct": correct, "score": score, "reason": reason, "extracted_answer": extracted}
        return body | verdict | {"reward": float(correct)}  # ours replace fields of the same names

    return Asked(task.name, [completion], _columns([reference]), write)


def nemo_gym_metrics(_: str, body: Body) -> Answer:
    """The answer to NeMo-Gym's `POST /aggregate_metrics`: the mean reward over all responses, and over each group.

    A group is the responses with the same `_ng_task_index`, which is 0 if it is missing.
    """
    groups: dict[Any, list[float]] = defaultdict(list)
    try:
        for response in body["verify_responses"]:
            groups[response.get("_ng_task_index", 0)].append(float(response["reward"]))
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
        text = '"verify_responses" must be a list of the answers of /verify, each with a "reward".'
        raise HTTPException(422, text) from error
    rewards = [reward for group in groups.values() for reward in group]
    overall = {"mean/reward": fmean(rewards)} if rewards else {}
    means = [{"_ng_task_index": index, "mean/reward": fmean(group)} for index, group in groups.items()]
    metrics = {"group_level_metrics": means, "agent_metrics": overall, "key_metrics": overall}
    return Answer(200, json.dumps(metrics) + "\n")


def read_object(text: bytes | str, name: str) -> Body:
    """The JSON object in a text; raises HTTPException."""
    try:
        value = json.loads(text)
    except (ValueError, TypeError, RecursionError) as error:
        raise HTTPException(422, f"{name} is not JSON: {error}.") from error
    if not isinstance(value, dict):
        raise HTTPException(422, f"{name} must be a JSON object, and is {shown(value)}.")
    return Body(value)


def _columns(references: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """{field: its value in each reference}; None where a reference does not have it."""
    fields = dict.fromkeys(field for reference in references for field in reference)
    return {field: [reference.get(field) for reference in references] for field in fields}


def _list(body: Body, field: str, length: int | None = None) -> list[Any]:
    """A list in a request, of that length; raises HTTPException."""
    values = body[field]
    if not isinstance(values, list):
        raise HTTPException(422, f'"{field}" is {shown(values)}, not a list of a value for each completion.')
    if len(values) > MAX_COMPLETIONS:
        raise HTTPException(
            413, f'"{field}" has more than {MAX_COMPLETIONS:,} values; send several requests.'
        )
    if length not in (None, len(values)):
        text = f'"{field}" has {len(values)} values for {length} completions; send lists of one length.'
        raise HTTPException(422, text)
    return values


def _fields(outcome: Outcome) -> dict[str, Any]:
    """The fields of a verdict; `detail` only if the completion is not right."""
    return dict(zip(Outcome._fields, outcome[:-1] if outcome.correct else outcome, strict=False))


FORMS: dict[str, tuple[str, Callable[[str, Body], Asked | Answer]]] = {
    "verify": ("/verify/{task:path}", ours),
    "openrlhf": ("/openrlhf/{task:path}", openrlhf),
    "verl": ("/verl", verl),
    "nemo_gym": ("/verify", nemo_gym),
    # NeMo-Gym opens a session before it samples; a verdict needs none.
    "seed_session": ("/seed_session", lambda _, body: Answer(200, "{}\n")),
    "aggregate_metrics": ("/aggregate_metrics", nemo_gym_metrics),
}
"""{name of a form: (its address, what reads it)}."""


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
            alike[asked.task, repr(asked.mode), *sorted(asked.references)].append(place)
    with time_limit(seconds):
        for places in alike.values():
            for place, answer in zip(places, _judged([answers[place] for place in places]), strict=True):
                answers[place] = answer
    return answers


def _read(address: str, body: bytes) -> Any:
    """What a request asks; an `Answer` if nothing is to be judged."""
    form, _, name = address.partition("/")
    _, read = FORMS[form]
    try:
        return read(name, read_object(body, "The body"))
    except Exception as error:
        return _refused(error)


def _judged(group: Sequence[Asked]) -> list[Answer]:
    """The answers to requests of one task, mode and set of reference fields.

    If an error is raised, each request is judged alone, so that only the one with the wrong reference is refused.
    """
    completions = [completion for asked in group for completion in asked.completions]
    task, _, fields, _, mode = group[0]
    columns = {field: [value for asked in group for value in asked.references[field]] for field in fields}
    answers = []
    try:
        outcomes = outcomes_of(verify_batch(task, completions, mode=mode, **columns))
        for asked in group:
            part = [*islice(outcomes, len(asked.completions))]
            verdicts = tuple((task, *count) for count in Counter(one.reason for one in part).items())
            answers.append(Answer(200, json.dumps(asked.write(part)) + "\n", verdicts))
    except Exception as error:
        if len(group) > 1:
            return [answer for asked in group for answer in _judged([asked])]
        return [_refused(error, is_one=len(completions) == 1)]
    return answers


def _refused(error: Exception, is_one: bool = False) -> Answer:
    """The answer to a request that raised an error. is_one: whether it has one completion, whose row is not named."""
    if isinstance(error, HTTPException):
        return Answer(error.status_code, error.detail)
    if isinstance(error, VerifierError):
        status = 404 if isinstance(error, UnknownTaskError) else 422
        return Answer(status, text_of_one(error) if is_one else str(error))
    logging.getLogger("verifiers.serve").error("A request failed", exc_info=error)
    return Answer(500, f"The server failed on this request ({type(error).__name__}); its log says more.")
