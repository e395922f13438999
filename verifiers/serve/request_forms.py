"""The forms of requests for verdicts, and of their answers: ours, verl's, OpenRLHF's and NeMo-Gym's.

A form is a function of the name in an address and the JSON object of a body. It returns an `Asked`, which also writes
the answer. A name is that of a task or of a data source (verl's word for a set of problems);
`verifiers.score.DATA_SOURCES` says which task judges a data source.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from starlette.exceptions import HTTPException

from verifiers.errors import UnknownTaskError, did_you_mean, shown
from verifiers.registry import Mode, check_mode, find, tasks
from verifiers.score import DATA_SOURCES, references_of, task_of
from verifiers.verdicts import Verdicts

MAX_COMPLETIONS = 1 << 16  # of a request: the answer has more bytes for each than the request may have


@dataclass
class Asked:
    """The content of a request: N completions of one task, N values of each reference field, the form of the answer."""

    task: str
    completions: list[Any]
    references: dict[str, list[Any]]
    write: Callable[[Verdicts], Any]
    """Makes the answer, a value that JSON has."""
    mode: Mode = "lenient"

    def __post_init__(self) -> None:
        """Raises HTTPException if there are too many completions, or lists of different lengths."""
        number = len(self.completions)
        if number > MAX_COMPLETIONS:
            text = f"{number:,} completions are more than {MAX_COMPLETIONS:,}; send several requests."
            raise HTTPException(413, text)
        for field, values in self.references.items():
            if len(values) != number:
                raise HTTPException(422, f'"{field}" has {len(values)} values for {number} completions.')


def ours(name: str, body: dict[str, Any]) -> Asked:
    """`POST /verify/TASK`, with the arguments of `verify` (`completion`) or of `verify_batch` (`completions`)."""
    task, references = _task(name), dict(body)
    mode = references.pop("mode", "lenient")
    check_mode(mode, find(task))
    if "completions" not in body:
        completion = _given(body, "completion")
        del references["completion"]
        return Asked(task, [completion], _columns([references]), lambda verdicts: _fields(verdicts)[0], mode)
    completions = _list(body, "completions")
    del references["completions"]
    for field, value in references.items():
        is_for_all = field in find(task).settings and isinstance(value, str)
        references[field] = [value] * len(completions) if is_for_all else _list(body, field)
    return Asked(task, completions, references, lambda verdicts: {"verdicts": _fields(verdicts)}, mode)


def verl(_: str, body: dict[str, Any]) -> Asked:
    """`POST /verl`, with the arguments that verl passes to `compute_score`; answers with a dict that verl accepts."""
    source, completion, truth = (
        _given(body, field) for field in ("data_source", "solution_str", "ground_truth")
    )
    task, extra_info = _task(source), body.get("extra_info") or {}
    if not isinstance(extra_info, dict):
        raise HTTPException(422, f'"extra_info" is {shown(extra_info)}; it must be an object.')

    def write(verdicts: Verdicts) -> dict[str, Any]:
        verdict = verdicts[0]
        return {
            "score": float(verdict.correct),
            "acc": verdict.correct,
            "partial": verdict.score,
            "reason": verdict.reason,
            "extracted": verdict.extracted or "",
        }

    return Asked(task, [completion], _columns([references_of(task, truth, extra_info)]), write)


def openrlhf(name: str, body: dict[str, Any]) -> Asked:
    """`POST /openrlhf/TASK`, with what OpenRLHF sends to its `--reward.remote_url`: query, prompts and labels."""
    task = _task(name)
    queries, prompts, labels = (_list(body, field) for field in ("query", "prompts", "labels"))
    if not len(queries) == len(prompts) == len(labels):
        raise HTTPException(422, '"query", "prompts" and "labels" must be lists of one length.')
    completions, references = [], []
    for index, (query, prompt, label) in enumerate(zip(queries, prompts, labels, strict=True)):
        start = query.find(prompt) if isinstance(query, str) and isinstance(prompt, str) else -1
        if start < 0:
            text = f"query[{index}] does not contain prompts[{index}], as if OpenRLHF had cut a prompt that is too "
            raise HTTPException(422, text + "long; give shorter prompts or a larger --data.max_len.")
        completions.append(query[start + len(prompt) :])
        has_all_fields = len(find(task).fields) > 1  # as JSON text
        truth = read_object(label, f"labels[{index}]") if has_all_fields else label
        references.append(references_of(task, truth, extra_info=None))

    def write(verdicts: Verdicts) -> dict[str, Any]:
        rewards = verdicts.correct.astype(float).tolist()
        return {"rewards": rewards, "scores": rewards, "extra_logs": {"partial": verdicts.score.tolist()}}

    return Asked(task, completions, _columns(references), write)


def nemo_gym(_: str, body: dict[str, Any]) -> Asked:
    """`POST /verify`, with NeMo-Gym's request: a row of its data, and a `response` of the Responses API.

    The row names its task as `data_source`. The reference is `expected_answer` or, if there is none, stands under the
    names of the task's fields. The answer is the request again, as from NeMo-Gym's own servers, with the reward and the
    verdict added.
    """
    task = _task(_given(body, "data_source"))
    entry = find(task)
    own_fields = {field: body[field] for field in (*entry.fields, *entry.optional) if field in body}
    truth = body.get("expected_answer", own_fields)
    problem = body.get("problem", body.get("question"))
    reference = references_of(task, truth, {"problem": problem} if isinstance(problem, str) else None)
    try:
        messages = [item for item in body["response"]["output"] if item["type"] == "message"]
        parts = [part for message in messages for part in message["content"]]
        completion = "".join(part["text"] for part in parts if part["type"] == "output_text")
    except (KeyError, TypeError) as error:
        text = '"response" must have a list "output" of messages, as in the Responses API.'
        raise HTTPException(422, text) from error

    def write(verdicts: Verdicts) -> dict[str, Any]:
        verdict = verdicts[0]
        added = {"correct": verdict.correct, "score": verdict.score, "reason": verdict.reason}
        added |= {"reward": float(verdict.correct), "extracted_answer": verdict.extracted}
        return body | added  # ours replace fields of the same names

    return Asked(task, [completion], _columns([reference]), write)


def nemo_gym_metrics(_: str, body: dict[str, Any]) -> dict[str, Any]:
    """The answer to NeMo-Gym's `POST /aggregate_metrics`: the mean reward over all responses, and over each group.

    A group is the responses with the same `_ng_task_index`, which is 0 if it is missing.
    """
    groups: dict[Any, list[float]] = defaultdict(list)
    try:
        for response in body["verify_responses"]:
            reward = float(response["reward"])
            groups[response.get("_ng_task_index", 0)].append(reward)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        text = '"verify_responses" must be a list of the answers of /verify, each with a "reward".'
        raise HTTPException(422, text) from error
    rewards = [reward for group in groups.values() for reward in group]
    overall = {"mean/reward": fmean(rewards)} if rewards else {}
    means = [{"_ng_task_index": index, "mean/reward": fmean(group)} for index, group in groups.items()]
    return {"group_level_metrics": means, "agent_metrics": overall, "key_metrics": overall}


def read_object(text: bytes | str, name: str) -> dict[str, Any]:
    """The JSON object in a text; raises HTTPException."""
    try:
        value = json.loads(text)
    except (ValueError, TypeError, RecursionError) as error:
        raise HTTPException(422, f"{name} is not JSON: {error}.") from error
    if not isinstance(value, dict):
        raise HTTPException(422, f"{name} must be a JSON object, and is {shown(value)}.")
    return value


def _columns(references: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """{field: its value in each reference}; None where a reference does not have it."""
    fields = dict.fromkeys(field for reference in references for field in reference)
    return {field: [reference.get(field) for reference in references] for field in fields}


def _task(source: object) -> str:
    """The name of the task that judges `source`, a data source or itself a task; raises HTTPException."""
    try:
        return task_of(source)
    except UnknownTaskError as error:
        known = [*tasks(), *DATA_SOURCES]
        text = f"There is no task {shown(source)}. {did_you_mean(source, known)}Known: {', '.join(known)}."
        raise HTTPException(404, text) from error


def _given(body: Mapping[str, Any], field: str) -> Any:
    """A field of a request; raises HTTPException if it is missing."""
    if field not in body:
        raise HTTPException(422, f'"{field}" is missing.')
    return body[field]


def _list(body: Mapping[str, Any], field: str) -> list[Any]:
    """A list in a request; raises HTTPException."""
    values = _given(body, field)
    if not isinstance(values, list):
        raise HTTPException(
            422, f'"{field}" is {shown(values)}, not a list with a value for each completion.'
        )
    return values


def _fields(verdicts: Verdicts) -> list[dict[str, Any]]:
    """The fields of each verdict, as the command writes them: with `detail` only if the completion is not right."""
    names = ("correct", "score", "extracted", "reason", "decided_by", "mark")
    numbers = (verdicts.correct.tolist(), verdicts.score.tolist())
    texts = (verdicts.extracted, verdicts.reasons, verdicts.tiers, verdicts.marks)
    fields = [dict(zip(names, row, strict=True)) for row in zip(*numbers, *texts, strict=True)]
    for row in (~verdicts.correct).nonzero()[0].tolist():
        fields[row]["detail"] = verdicts.details[row]
    return fields


FORMS: dict[str, Callable[[str, dict[str, Any]], Asked | dict[str, Any]]] = {
    "verify": ours,
    "verl": verl,
    "openrlhf": openrlhf,
    "nemo_gym": nemo_gym,
    "seed_session": lambda _, body: {},  # NeMo-Gym opens a session before it samples; a verdict needs none
    "aggregate_metrics": nemo_gym_metrics,
}
