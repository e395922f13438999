"""The reward of one completion as verl calls it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from verifiers.errors import ArgumentError, UnknownTaskError, did_you_mean, shown
from verifiers.registry import find, tasks, verify

DATA_SOURCES = {
    "openai/gsm8k": "gsm8k",
    "lighteval/MATH": "math500",
    "DigitalLearningGmbH/MATH-lighteval": "math500",
    "HuggingFaceH4/MATH-500": "math500",
}
"""{name of a data source in verl's data: the task that judges it}; the name of a task may stand in its place."""


def task_of(data_source: object) -> str:
    """The name of the task that judges a data source, or that has this name; raises `UnknownTaskError`."""
    name = data_source if isinstance(data_source, str) else ""
    try:
        return find(DATA_SOURCES.get(name, name)).name
    except UnknownTaskError as error:
        known = [*tasks(), *DATA_SOURCES]
        near = did_you_mean(data_source, known)
        message = (
            f"No task judges {shown(data_source)}. {near}Known: {', '.join(known)}. "
            "Add yours with verifiers.register(...)."
        )
        raise UnknownTaskError(message, argument="data_source", value=data_source) from error


def references_of(task: str, ground_truth: Any, extra_info: Mapping[str, Any] | None) -> dict[str, Any]:
    """{reference field of a task: its value}, from verl's `ground_truth` and `extra_info`.

    The ground truth is {field: value} or, for a task with one field, its value; `ArgumentError` is raised for any other
    one, and for an `extra_info` that is no mapping. A task that takes the problem gets the `problem` of `extra_info`,
    or "", unless the ground truth has it.
    """
    entry, extra_info = find(task), extra_info or {}
    if not isinstance(extra_info, Mapping):
        message = f"extra_info={shown(extra_info)} should be a dict."
        raise ArgumentError(message, argument="extra_info", value=extra_info)
    if isinstance(ground_truth, Mapping):
        references = dict(ground_truth)
    elif len(entry.fields) == 1:
        references = {entry.fields[0]: ground_truth}
    else:
        fields = ", ".join(f"{name!r}: ..." for name in entry.fields)
        raise ArgumentError(
            f'The task "{task}" needs ground_truth={{{fields}}}, not {ground_truth!r:.60}.',
            argument="ground_truth",
            value=ground_truth,
        )
    if "problem" in entry.optional:
        references.setdefault("problem", extra_info.get("problem") or "")
    return references


def compute_score(
    data_source: str, solution_str: str, ground_truth: Any, extra_info: Mapping[str, Any] | None = None
) -> float:
    """1.0 if a completion is right, else 0.0, with the arguments that verl passes to a custom reward function.

    data_source: a name in `DATA_SOURCES`, or a task. ground_truth: the reference, or {field: value} for a task with
    several reference fields. extra_info: its `problem` is used if the task takes one. Without it, an answer may have
    any form, but must still be finished: `2+3` for 5 gets 0. Raises VerifierError for an unknown data source and for a
    reference that cannot be used.
    """
    task = task_of(data_source)
    return float(verify(task, solution_str, **references_of(task, ground_truth, extra_info)).correct)
