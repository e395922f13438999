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
"""What verl's data calls a set -> the task that judges it; a task's own name is a data source as well."""


def compute_score(
    data_source: str, solution_str: str, ground_truth: Any, extra_info: Mapping[str, Any] | None = None
) -> float:
    """1.0 if a completion is right, else 0.0, with the arguments that verl passes to a custom reward function.

    data_source: a name in `DATA_SOURCES`, or a task. ground_truth: its reference, or {field: reference} of a task with
    several. extra_info: its `problem` is used where the task takes one; without one an unfinished value such as `2+3`
    still gets 0. Raises VerifierError for an unknown data source and for a reference that cannot be used.
    """
    task = find(DATA_SOURCES.get(data_source, data_source))
    if isinstance(ground_truth, Mapping):
        references = dict(ground_truth)
    elif len(task.fields) == 1:
        references = {task.fields[0]: ground_truth}
    else:
        fields = ", ".join(f"{name!r}: ..." for name in task.fields)
        raise ArgumentError(
            f'data_source "{data_source}" needs ground_truth={{{fields}}}, not {ground_truth!r:.60}.',
            argument="ground_truth",
            value=ground_truth,
        )
    if "problem" in task.optional:
        references.setdefault("problem", (extra_info or {}).get("problem") or "")
    return float(verify(task.name, solution_str, **references).correct)
