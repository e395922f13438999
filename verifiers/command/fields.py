"""Finds the columns of a file: by the task's own names, by those of a tool, or by those that flags give."""

from __future__ import annotations

import json
from argparse import Namespace
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Any

from verifiers.command.read import Names, has, has_completion
from verifiers.d1 import fields as rules_fields
from verifiers.errors import CommandError, LineError, did_you_mean
from verifiers.files import Block, Line, read_line
from verifiers.registry import Task

Columns = dict[str, Names]
"""{"completion", then each field of the reference: the possible names of its column}."""
# {tool: its names for the completion, for each reference ({} = the field of the task), for a task's only reference}.
PRESETS: dict[str, tuple[Names, Names, Names]] = {
    "lm-eval": (("resps",), ("doc.{}",), ("target",)),
    "trl": (("completion",), ("{}",), ("solution", "ground_truth")),
    "verl": (
        ("output", "responses"),
        ("{}", "extra_info.{}", "gts.{}", "reward_model.ground_truth.{}", "ground_truth.{}"),
        ("gts", "reward_model.ground_truth", "ground_truth"),
    ),
    "qa": (("response",), ("{}",), ()),
    "openai": (("response.body.choices.*.message.content",), ("{}",), ("solution", "ground_truth")),
    "opencompass": (("prediction",), ("gold.{}",), ("gold",)),
    "d1": (("generations",), (), ("ground_truth",)),
}
# The task's own names, in the form of PRESETS.
_OWN: tuple[Names, Names, Names] = (("completion",), ("{}",), ())
# {field: its names in evaluation files of d1 and of code that follows it, where they are not ground_truth}.
_D1: dict[str, Names] = {
    "numbers": ("ground_truth.0",),
    "target": ("ground_truth.1",),
    "puzzle": ("question",),
}
OF_AN_ANSWER = ("answer", "solution", "target")
"""Names of columns with a right answer, and so never with a reference of another kind, such as a puzzle."""
REFERENCES = "--references"
"""The column that a row of a file gets from the row with its key in the file of references: {field: reference}."""


def candidates(task: Task, flags: Namespace) -> dict[str, Columns]:
    """{preset: its names of the columns}, first "" for the task's own names, then a preset for each known tool.

    If a flag names a preset or the column of the completion, there is only that preset, or "" if none is named. Flags
    that name columns count for each preset. Raises CommandError for a flag with a field that the task has not.
    """
    is_decided = flags.preset is not None or flags.completion_field is not None
    presets = (flags.preset or "",) if is_decided else ("", *PRESETS)
    return {preset: {**_names_of(preset, task, flags.rules), **_named(task, flags)} for preset in presets}


def _names_of(preset: str, task: Task, rules: str | None) -> Columns:
    """The names of the columns by a preset. Other rules, such as d1's, may need references that ours do not need."""
    completion, forms, only_reference = PRESETS.get(preset, _OWN)
    columns = {"completion": completion}
    if preset == "lm-eval" and task.name == "code":  # its column holds a row of the published problems
        return columns | dict.fromkeys(("entry_point", "cases", "prompt"), ("doc",))
    if len(task.fields) > 1 and preset != "d1":
        only_reference = ()
    elif task.fields != ("answer",):
        only_reference = tuple(name for name in only_reference if name not in OF_AN_ANSWER)
    for field in (*task.fields, *(rules_fields(task.name) if rules else ())):
        columns[field] = (*(form.format(field) for form in forms), *only_reference)
        if preset == "d1" and field in _D1:
            columns[field] = _D1[field]
    return columns


def _named(task: Task, flags: Namespace) -> Columns:
    """The columns that flags name."""
    columns: Columns = {}
    if flags.completion_field is not None:
        columns["completion"] = (flags.completion_field,)
    fields = (*task.fields, *(rules_fields(task.name) if flags.rules else ()), *task.optional)
    of_problem = [f"problem={flags.problem_field}"] if flags.problem_field else []
    for text in (*flags.answer_field, *of_problem):
        # FIELD=NAME, or NAME alone if there is only one field.
        field, _, column = text.partition("=")
        if field == text and len(task.fields) == 1:
            field, column = task.fields[0], text
        if not column or field not in fields:
            usage = " ".join(f"--answer-field {known}=NAME" for known in task.fields)
            near = did_you_mean(field, fields)
            raise CommandError(
                f'--answer-field {text}: "{task.name}" has no reference "{field}". {near}Use {usage}.'
            )
        columns[field] = (column,)
    return columns


def advice(columns: Columns, lacks: Sequence[int]) -> str:
    """A sentence on the flags for the columns that a line lacks. lacks: their places in `columns`."""
    flags = {
        "completion": "--completion-field",
        "problem": "--problem-field NAME, or --problem-field '' to leave problems out",
    }
    answers = [name for name in columns if name not in flags]
    flags |= {
        name: f"--answer-field {name}=NAME" if len(answers) > 1 else "--answer-field" for name in answers
    }
    return f"Give {' and '.join(flags[list(columns)[place]] for place in lacks)}."


def find_columns(
    task: Task, flags: Namespace, known: dict[str, Columns], lines: Sequence[Line]
) -> tuple[str, Columns, dict[str, str], list[str]]:
    """(the preset of a file, its columns, {setting of the task: its value for all lines}, what the user should know).

    known: what `candidates` returns. lines: the first ones. A column "problem" is used if a line has it, the task takes
    a problem, and no flag says otherwise. A setting is a column or, if no line has it, a value. The samples of a run
    have the settings by which its rewards were given, and these are used unasked. Raises CommandError if several tools
    write lines of that form, and for a setting that the task has not.
    """
    rows = list(_rows_of(lines))
    notices = []
    if flags.references:  # `join` has put them there
        joined = {field: (f"{REFERENCES}.{field}",) for field in next(iter(known.values()))}
        known = {preset: {"completion": columns["completion"]} for preset, columns in known.items()}
        # A line without references shows where completions stand, too.
        preset = _recognise(known, [line.columns if isinstance(line, LineError) else line for line in lines])
        columns = {**joined, **known[preset]}
    else:
        preset = _recognise(known, rows)
        columns = dict(known[preset])
    if preset and flags.preset is None:
        notices.append(f"Read as a file of {preset}; --preset or --completion-field would say otherwise.")
    may_have_problem = flags.problem_field is None and "problem" in task.optional and not flags.references
    if may_have_problem and any("problem" in row for row in rows):
        columns["problem"] = ("problem",)
        what = "answers must be worked out, and in the form that the problem asks for"
        if task.name == "choice":
            what = "an answer may also be the text of an option that the problem lists"
        notices.append(f"The column problem is used: {what}. --problem-field '' leaves it out.")
    may_go_on = task.name == "code" and "prompt" not in columns
    if may_go_on and any(f"def {row.get('entry_point')}(" in str(row.get("prompt")) for row in rows):
        notices.append(
            "The column prompt has the head of the function, and is not read. If completions go on with it, give "
            "--answer-field prompt=prompt."
        )
    for flag, name in (*(("--keep", name) for name in flags.keep), ("--by", flags.by)):
        if name and rows and not any(has(row, (name,)) for row in rows):
            near = did_you_mean(name, {column for row in rows for column in row})
            notices.append(f"{flag} {name}: the first lines have no such column. {near}".rstrip())
    is_run = any(row.keys() >= {"env", "generation", "rewards"} for row in rows)
    given = {name: name for name in task.settings if is_run and any(name in row for row in rows)}
    for word in flags.setting:
        name, equals, value = word.partition("=")
        if not equals or name not in task.settings:
            has_these = " or ".join(f"{setting}=..." for setting in task.settings) or "none"
            near = did_you_mean(name, task.settings)
            raise CommandError(
                f'--setting {word}: "{task.name}" has no such setting. {near}It has {has_these}.'
            )
        given[name] = value
    values = {name: value for name, value in given.items() if not any(has(row, (value,)) for row in rows)}
    columns |= {name: (column,) for name, column in given.items() if name not in values}
    return preset, columns, values, notices


def _recognise(known: dict[str, Columns], rows: Sequence[dict[str, Any]]) -> str:
    """The preset of `known` that fits a file, by the first row that fits any preset; "" = the task's own names.

    A row fits if it has all the columns, and its completion is a text or a list. If no row fits, or if there is only
    one preset, the first preset of `known` is returned.
    """
    default, *others = known
    for row in rows if others else ():
        fitting = [
            name
            for name, columns in known.items()
            if has_completion(row, columns["completion"])
            and all(has(row, names) for names in columns.values())
        ]
        if default in fitting:
            return default
        if len(fitting) > 1:
            flags = " or ".join(f"--preset {name}" for name in fitting)
            raise CommandError(f"The lines may be of {' or of '.join(fitting)}: give {flags}.")
        if fitting:
            return fitting[0]
    return default


def without_repeated(blocks: Iterable[Block], counts: Counter[str]) -> Iterator[Block]:
    """Blocks of samples of lm-evaluation-harness, without the samples that the harness logs again for another filter.

    A filter reads another answer from the same completion, but here the completion itself is judged. Some releases do
    not write the filter's name. counts: gets the number of lines that are left out, as `repeated`.
    """
    seen: set[int] = set()  # hashes, so that the texts need not be kept
    for block in blocks:
        kept = []
        for number, line in zip(block.numbers, block.lines, strict=True):
            with suppress(LineError):
                row = read_line(line)
                sample = [row.get(name) for name in ("doc_id", "doc", "resps")]
                key = hash(json.dumps([block.label, *sample]))
                if "doc_id" in row and key in seen:
                    counts["repeated"] += 1
                    continue
                seen.add(key)
            kept.append((number, line))
        if kept:
            numbers, lines = zip(*kept, strict=True)
            yield block._replace(numbers=numbers, lines=lines)


def _rows_of(lines: Iterable[Line]) -> Iterator[dict[str, Any]]:
    """The objects on the lines that can be read."""
    for line in lines:
        with suppress(LineError):
            yield read_line(line)
