"""The forms of requests for verdicts, and of their answers: ours, verl's, OpenRLHF's and NeMo-Gym's.

A form is a function of the name in an address and the JSON object of a body. It returns an `Asked`, which also writes
the answer. A name is that of a task or of a data source (verl's word for a set of problems);
`verifiers.score.DATA_SOURCES` says which task judges a data source.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from verifiers.errors import ArgumentError, VerifierError, did_you_mean, shown
from verifiers.registry import Mode, check_mode, find, tasks
from verifiers.score import DATA_SOURCES, references_of, task_of
from verifiers.verdicts import Verdicts


class Refused(Exception):
    """A request that cannot be judged: an HTTP status, and a sentence that says why and what would be right.

    The attributes are those of starlette's HTTPException, which workers need not import.
    """

    headers: None = None

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status_code, self.detail = status, text


@dataclass
class Asked:
    """The content of a request: N completions of one task, N values of each reference field, the form of the answer."""

    task: str
    completions: list[Any]
    references: dict[str, list[Any]]
    write: Callable[[Verdicts], str]
    """Writes the answer, as JSON."""
    mode: Mode = "lenient"
    is_one: bool = False
    """Whether the request is about one completion, and not about a list of them."""


def ours(name: str, body: dict[str, Any]) -> Asked:
    """`POST /verify/TASK`, with the arguments of `verify` (`completion`) or of `verify_batch` (`completions`)."""
    task = task_name(name)
    arguments = dict(body)
    mode = arguments.pop("mode", "lenient")
    try:
        check_mode(mode, find(task))
    except ArgumentError as error:
        raise Refused(422, str(error)) from error
    has_both_or_neither = ("completion" in body) == ("completions" in body)
    if has_both_or_neither:
        needs = ", ".join(f'"{field}"' for field in find(task).fields)
        raise Refused(422, f'Give either "completion" or a list "completions", and the reference: {needs}.')
    if isinstance(body.get("completion"), list):
        text = '"completion" is a list; give a list of completions as "completions", and of a chat the last content.'
        raise Refused(422, text)
    if "completion" in arguments:
        completions = [arguments.pop("completion")]
        columns = {field: [value] for field, value in arguments.items()}  # only references are left
        return Asked(
            task,
            completions,
            columns,
            lambda verdicts: json.dumps(_fields_of(verdicts)[0]),
            mode,
            is_one=True,
        )
    completions = arguments.pop("completions")
    references = arguments  # nothing else is left
    if not isinstance(completions, list):
        raise Refused(422, f'"completions" is {shown(completions)}, not a list; one goes into "completion".')
    for field, values in references.items():
        if field in find(task).settings and isinstance(values, str):  # one for all
            references[field] = [values] * len(completions)
        elif not isinstance(values, list):
            raise Refused(
                422, f'"{field}" is {shown(values)}, not a list with one value for each completion.'
            )
    return Asked(
        task, completions, references, lambda verdicts: json.dumps({"verdicts": _fields_of(verdicts)}), mode
    )


def verl(_: str, body: dict[str, Any]) -> Asked:
    """`POST /verl`, with the arguments that verl passes to `compute_score`; answers with a dict that verl accepts."""
    needed = ("data_source", "solution_str", "ground_truth")
    given = {field: body.get(field) for field in (*needed, "extra_info")}
    if missing := [field for field in needed if field not in body]:
        raise Refused(
            422, f'"{missing[0]}" is missing; {", ".join(given)} are the arguments of compute_score.'
        )
    task = task_name(given["data_source"])
    reference = references_of(task, given["ground_truth"], _object(given["extra_info"], "extra_info"))

    def write(verdicts: Verdicts) -> str:
        verdict = verdicts[0]
        answer = {
            "score": float(verdict.correct),
            "acc": verdict.correct,
            "partial": verdict.score,
            "reason": verdict.reason,
            "extracted": verdict.extracted or "",
        }
        return json.dumps(answer)

    columns = {field: [value] for field, value in reference.items()}
    return Asked(task, [given["solution_str"]], columns, write, is_one=True)


def openrlhf(name: str, body: dict[str, Any]) -> Asked:
    """`POST /openrlhf/TASK`, with what OpenRLHF sends to its `--reward.remote_url`: query, prompts and labels."""
    task = task_name(name)
    columns = [body.get(field) for field in ("query", "prompts", "labels")]
    are_lists = all(isinstance(column, list) for column in columns)
    if not are_lists or len(set(map(len, columns))) != 1:
        raise Refused(422, '"query", "prompts" and "labels" must be three lists of one length.')
    completions, references = [], []
    for index, (query, prompt, label) in enumerate(zip(*columns, strict=True)):
        if not isinstance(query, str) or not isinstance(prompt, str):
            raise Refused(422, f"query[{index}] and prompts[{index}] must be texts.")
        completion = query
        if prompt:
            _, prompt_found, completion = query.partition(prompt)
            if not prompt_found:
                why = "as OpenRLHF cuts a prompt that is too long; give shorter prompts or a larger --data.max_len"
                raise Refused(422, f"query[{index}] does not contain prompts[{index}], {why}.")
        completions.append(completion)
        ground_truth = label
        if len(find(task).fields) > 1 and isinstance(label, str):  # the label has all fields, as JSON text
            ground_truth = _value_in(label, f"labels[{index}]")
        references.append(references_of(task, ground_truth, extra_info=None))
    fields = dict.fromkeys(field for reference in references for field in reference)
    if any(reference.keys() != fields.keys() for reference in references):
        raise Refused(422, "All labels must have the same fields.")

    def write(verdicts: Verdicts) -> str:
        rewards = verdicts.correct.astype(float).tolist()
        logged = {"partial": verdicts.score.tolist()}
        return json.dumps({"rewards": rewards, "scores": rewards, "extra_logs": logged})

    values = {field: [reference[field] for reference in references] for field in fields}
    return Asked(task, completions, values, write)


def nemo_gym(_: str, body: dict[str, Any]) -> Asked:
    """`POST /verify`, with NeMo-Gym's request: a row of its data, and a `response` of the Responses API.

    The row names its task as `data_source`. The reference stands under the names of the task's fields or, if one of
    these is missing, under `expected_answer`. The answer is the request again, as from NeMo-Gym's own servers, with the
    reward and the verdict added.
    """
    if "data_source" not in body:
        known = ", ".join([*tasks(), *DATA_SOURCES])
        raise Refused(422, f'"data_source" is missing; each row of the data names its task: {known}.')
    task = task_name(body["data_source"])
    entry = find(task)
    given = {field: body[field] for field in (*entry.fields, *entry.optional) if field in body}
    ground_truth: Any = given
    if not set(entry.fields) <= set(given) and "expected_answer" in body:
        ground_truth = body["expected_answer"]
    # If there is neither, the error of the verifier names the missing fields.
    problem = body["problem"] if "problem" in body else body.get("question")
    extra_info = {"problem": problem} if isinstance(problem, str) else None
    reference = references_of(task, ground_truth, extra_info)

    def write(verdicts: Verdicts) -> str:
        verdict = verdicts[0]
        verdict_fields = {"correct": verdict.correct, "score": verdict.score, "reason": verdict.reason}
        reward_fields = {"reward": float(verdict.correct), "extracted_answer": verdict.extracted}
        return json.dumps(body | verdict_fields | reward_fields)  # ours replace fields of the same names

    completion = _output_text(_object(body.get("response"), "response"))
    columns = {field: [value] for field, value in reference.items()}
    return Asked(task, [completion], columns, write, is_one=True)


def nemo_gym_metrics(body: dict[str, Any]) -> dict[str, Any]:
    """The answer to NeMo-Gym's `POST /aggregate_metrics`: the mean reward over all responses, and over each group.

    A group is the responses with the same `_ng_task_index`, which is 0 if it is missing.
    """
    rewards_by_index: dict[int, list[float]] = {}
    responses = body.get("verify_responses")
    if not isinstance(responses, list):
        raise Refused(422, '"verify_responses" must be a list of the answers of /verify.')
    for response in responses:
        fields = _object(response, "verify_responses[]")
        reward, index = fields.get("reward"), fields.get("_ng_task_index", 0)
        if type(reward) not in (int, float) or type(index) is not int:
            raise Refused(422, 'Each of "verify_responses" must have a number as its "reward".')
        rewards_by_index.setdefault(index, []).append(float(reward))
    all_rewards = [reward for rewards in rewards_by_index.values() for reward in rewards]
    overall = {"mean/reward": fmean(all_rewards)} if all_rewards else {}
    groups = [
        {"_ng_task_index": index, "mean/reward": fmean(rewards)}
        for index, rewards in sorted(rewards_by_index.items())
    ]
    return {"group_level_metrics": groups, "agent_metrics": overall, "key_metrics": overall}


def task_name(source: object) -> str:
    """The name of the task that judges `source`, a data source or itself a task; raises `Refused` for anything else."""
    try:
        return task_of(source)
    except VerifierError as error:
        known = [*tasks(), *DATA_SOURCES]
        near = did_you_mean(source, known)
        raise Refused(404, f"There is no task {shown(source)}. {near}Known: {', '.join(known)}.") from error


def _object(value: object, name: str) -> dict[str, Any]:
    """`value` if it is a JSON object; an empty one for null; raises `Refused` for anything else."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise Refused(422, f'"{name}" is {shown(value)}; it must be an object.')
    return value


def _value_in(text: str, name: str) -> Any:
    """The JSON value in a text; raises `Refused` if the text is not JSON."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Refused(
            422, f"{name} is {shown(text)}; the reference of this task is an object as JSON."
        ) from error


def _output_text(response: Mapping[str, Any]) -> str:
    """The texts of a response's messages, in order and joined, as NeMo-Gym's own servers read a response."""
    output = response.get("output")
    if not isinstance(output, list):
        raise Refused(422, '"response" must have a list "output", as in the Responses API.')
    texts = []
    for item in output:
        if not isinstance(item, dict) or item.get("type") != "message":
            continue
        content = item.get("content")
        # A content that is no list of parts is taken as the text of a single part.
        parts = content if isinstance(content, list) else [{"type": "output_text", "text": content}]
        text_parts = [part for part in parts if isinstance(part, dict) and part.get("type") == "output_text"]
        texts += [part["text"] for part in text_parts if isinstance(part.get("text"), str)]
    return "".join(texts)


def _fields_of(verdicts: Verdicts) -> list[dict[str, Any]]:
    """The fields of each verdict, as the command writes them: with `detail` only if the completion is not right."""
    names = ("correct", "score", "extracted", "reason", "decided_by", "mark")
    numbers = (verdicts.correct.tolist(), verdicts.score.tolist())
    texts = (verdicts.extracted, verdicts.reasons, verdicts.tiers, verdicts.marks)
    rows = zip(*numbers, *texts, strict=True)
    fields: list[dict[str, Any]] = [dict(zip(names, row, strict=True)) for row in rows]
    for row in (~verdicts.correct).nonzero()[0].tolist():
        fields[row]["detail"] = verdicts.details[row]
    return fields


FORMS: dict[str, Callable[[str, dict[str, Any]], Asked]] = {
    "verify": ours,
    "verl": verl,
    "openrlhf": openrlhf,
    "nemo_gym": nemo_gym,
}
