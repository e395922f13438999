"""The reward of one completion as verl calls it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from verifiers.errors import ArgumentError
from verifiers.registry import find, verify

DATA_SOURCES = {
    "openai/gsm8k": "gsm8k",
    "lighteval/MATH": "math500",
    "DigitalLearningGmbH/MATH-lighteval": "math500",
    "HuggingFaceH4/MATH-500": "math500",
}
"""{name of a data source in verl's data: the task that judges it}; the name of a task may stand in its place."""


def task_of(data_source: object) -> str:
    """The name of the task that judges a data source; raises `UnknownTaskError`."""
    task = data_source  # a name that is not in the table is the name of a task; `find` refuses all else
    if isinstance(data_source, str) and data_source in DATA_SOURCES:
        task = DATA_SOURCES[data_source]
    return find(task).name  # type: ignore[arg-type]


def references_of(task: str, ground_truth: Any, extra_info: Mapping[str, Any] | None) -> dict[str, Any]:
    """{reference field of a task: its value}, from verl's `ground_truth` and `extra_info`.

    The ground truth is {field: value} or, for a task with one field, its value; `ArgumentError` is raised for any other
    one. A task that takes the problem gets the `problem` of `extra_info`, or "", unless the ground truth has it.
    """
    entry = find(task)
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
        references.setdefault("problem", (extra_info or {}).get("problem") or "")
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
