"""Under which names a file holds the completion and the references: the task's own, a tool's, or those of the flags."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from verifiers.command.read import Block, CommandError, LineError, Names, read_line, read_sample
from verifiers.registry import Task

# How a tool names the completion and each reference ({}), and what else it calls the reference of a task with one.
PRESETS: dict[str, tuple[Names, Names, Names]] = {
    "lm-eval": (("resps",), ("doc.{}",), ("target",)),
    "trl": (("completion",), ("{}",), ("solution", "answer", "ground_truth")),
    "verl": (
        ("output", "responses"),
        ("{}", "extra_info.{}", "gts.{}", "reward_model.ground_truth.{}", "ground_truth.{}"),
        ("gts", "reward_model.ground_truth", "ground_truth"),
    ),
    "qa": (("response",), ("{}",), ("answer",)),
}
_OWN: tuple[Names, Names, Names] = (("completion",), ("{}",), ())


class Flags(NamedTuple):
    """The flags that name fields; None and [] where they were not given."""

    preset: str | None
    completion: str | None
    answers: list[str]
    problem: str | None


class Fields(NamedTuple):
    completion: Names
    references: dict[str, Names]

    def columns(self) -> set[str]:
        """The names at the top level of a line that may be needed."""
        names = {name for group in (self.completion, *self.references.values()) for name in group}
        return names | {name.partition(".")[0] for name in names}


def candidates(task: Task, flags: Flags) -> dict[str, Fields]:
    """What the fields may be called, by preset ("" is the task itself): one, unless no flag says so."""
    open_ = flags.preset is None and flags.completion is None and not flags.answers
    return {name: _fields(task, flags, name) for name in (("", *PRESETS) if open_ else (flags.preset or "",))}


def _fields(task: Task, flags: Flags, preset: str) -> Fields:
    completion, forms, others = PRESETS.get(preset, _OWN)
    if flags.completion is not None:
        completion = (flags.completion,)
    others = others if len(task.fields) == 1 else ()
    names = {field: (*(form.format(field) for form in forms), *others) for field in task.fields}
    for text in flags.answers:
        field, equals, name = text.partition("=")
        if equals and field in names and name:
            names[field] = (name,)
        elif len(names) == 1:
            names = {field: (text,) for field in names}
        else:
            usage = " ".join(f"--answer-field {field}=NAME" for field in names)
            raise CommandError(f'--answer-field {text}: "{task.name}" has {len(names)} fields; use {usage}.')
    if flags.problem is not None:
        if "problem" not in task.optional:
            raise CommandError(f'--problem-field {flags.problem}: task "{task.name}" takes no problem.')
        names["problem"] = (flags.problem,)
    return Fields(completion, names)


def recognise(known: dict[str, Fields], first: Iterable[Block]) -> str:
    """Which of the candidates fits the first object of a file; the task's own, or the only one, if none does.

    Raises CommandError where several tools write such lines.
    """
    default = next(iter(known))
    row = next((row for block in first for row in map(_object, block.lines) if row is not None), None)
    fitting = [name for name, fields in known.items() if row is not None and _fits(row, fields)]
    if len(known) == 1 or default in fitting or not fitting:
        return default
    if len(fitting) > 1:
        flags = " or ".join(f"--preset {name}" for name in fitting)
        raise CommandError(f"The first line may be of {' or of '.join(fitting)}: give {flags}.")
    return fitting[0]


def _object(line: bytes) -> dict | None:
    try:
        return read_line(line)
    except LineError:
        return None


def _fits(row: dict, fields: Fields) -> bool:
    try:
        return bool(read_sample(row, fields.completion, fields.references.values()))
    except LineError:
        return False
