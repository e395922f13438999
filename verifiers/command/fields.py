"""Finds the columns of a file: by the task's own names, by those of a tool, or by those that flags give."""

from __future__ import annotations

import json
from argparse import Namespace
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Any

from verifiers.command.read import Columns, Names, fits, has
from verifiers.d1 import fields as rules_fields
from verifiers.errors import CommandError, LineError, did_you_mean
from verifiers.files import Block, read_line
from verifiers.registry import Task

_VERL = ("gts", "reward_model.ground_truth", "ground_truth")
# {tool: its names for the completion, for each reference ({} = the field of the task), for a task's only reference};
# "" = the task's own names.
PRESETS: dict[str, tuple[Names, Names, Names]] = {
    "": (("completion",), ("{}",), ()),
    "lm-eval": (("resps",), ("doc.{}",), ("target",)),
    "trl": (("completion",), ("{}",), ("solution", "ground_truth")),
    "verl": (("output", "responses"), ("{}", "extra_info.{}", *(f"{name}.{{}}" for name in _VERL)), _VERL),
    "qa": (("response",), ("{}",), ()),
    "openai": (("response.body.choices.*.message.content",), ("{}",), ("solution", "ground_truth")),
    "opencompass": (("prediction",), ("gold.{}",), ("gold",)),
    "d1": (("generations",), ("ground_truth",), ()),
}
# {field: its names in evaluation files of d1 and of code that follows it, where they are not ground_truth}.
_D1: Columns = {"numbers": ("ground_truth.0",), "target": ("ground_truth.1",), "puzzle": ("question",)}
OF_AN_ANSWER = ("answer", "solution", "target")
"""Names of columns with a right answer, and so never with a reference of another kind, such as a puzzle."""
REFERENCE = "--references {}"
"""The column in which a completion gets a field of its reference from another file."""
Table = dict[str, dict[str, Any]]
"""{key as text: the columns that a completion with this key gets from the file of references}."""


def candidates(task: Task, flags: Namespace) -> dict[str, Columns]:
    """{preset: its names of the columns}, first "" for the task's own names, then a preset for each known tool.

    If a flag names a preset or the column of the completion, there is only that preset, or "" if none is named. Flags
    that name columns count for each preset. Raises CommandError for a flag with a field that the task has not.
    """
    # Other rules, such as d1's, may need references that ours do not need.
    needed = [*dict.fromkeys((*task.fields, *(rules_fields(task.name) if flags.rules else ())))]
    # FIELD=NAME, or NAME alone if there is only one field.
    only = f"{task.fields[0]}=" if len(task.fields) == 1 else ""
    words = [word if "=" in word else only + word for word in flags.answer_field]
    words += [f"problem={flags.problem_field}"] if flags.problem_field else []
    named = _given(task, "--answer-field", "reference", words, [*needed, *task.optional])
    if flags.completion_field is not None:
        named["completion"] = (flags.completion_field,)
    presets = (flags.preset or "",) if flags.preset or flags.completion_field is not None else PRESETS
    return {preset: _names_of(preset, task, needed) | named for preset in presets}


def _names_of(preset: str, task: Task, needed: Sequence[str]) -> Columns:
    """The names of the columns by a preset. needed: the fields of the reference."""
    completion, forms, only_reference = PRESETS[preset]
    columns = {"completion": completion}
    if preset == "lm-eval" and task.name == "code":  # its column holds a row of the published problems
        return columns | dict.fromkeys(("entry_point", "cases", "prompt"), ("doc",))
    if len(task.fields) > 1:
        only_reference = ()
    elif task.fields != ("answer",):
        only_reference = tuple(name for name in only_reference if name not in OF_AN_ANSWER)
    special = _D1 if preset == "d1" else {}
    for field in needed:
        columns[field] = special.get(field, (*(form.format(field) for form in forms), *only_reference))
    return columns


def _given(task: Task, flag: str, noun: str, words: Iterable[str], fields: Sequence[str]) -> Columns:
    """{field: the column that a flag gives it}, of words FIELD=COLUMN. noun: what the fields are."""
    given: Columns = {}
    for word in words:
        field, _, column = word.partition("=")
        if field not in fields or not column:
            usage = " ".join(f"{flag} {known}=NAME" for known in fields)
            what = f"{field} is given nothing. "
            if field not in fields:
                what = f'"{task.name}" has no {noun} "{field}". {did_you_mean(field, fields)}'
            raise CommandError(f"{flag} {word}: {what}" + (f"Use {usage}." if fields else "It has none."))
        given[field] = (column,)
    return given


def flags_of(columns: Columns) -> dict[str, str]:
    """{field: the flag that names its column}."""
    answers = columns.keys() - {"completion", "problem"}
    flags = {
        name: f"--answer-field {name}=NAME" if len(answers) > 1 else "--answer-field" for name in answers
    }
    flags["problem"] = "--problem-field NAME, or --problem-field '' to leave problems out"
    return flags | {"completion": "--completion-field"}


def find_columns(
    task: Task, flags: Namespace, known: dict[str, Columns], rows: Sequence[dict[str, Any]], table: Table
) -> tuple[str, Columns, dict[str, str], list[str]]:
    """(the preset of a file, its columns, {setting of the task: its value for all lines}, what the user should know).

    known: what `candidates` returns. rows: the first ones of the file. table: what `join` adds to them, {} without
    --references. A column "problem" is used if a row has it, the task takes a problem, and no flag says otherwise. A
    setting is a column or, if no row has it, a value. Raises CommandError if several tools write such rows, and for a
    setting that the task has not.
    """
    joined = {field: (REFERENCE.format(field),) for field in next(iter(known.values()))} if table else {}
    if table:
        known = {preset: {"completion": columns["completion"]} for preset, columns in known.items()}
    preset = _recognised(known, rows)
    columns = joined | known[preset]
    notices, all_rows = [], [*rows, *table.values()]
    if preset and flags.preset is None:
        notices.append(f"Read as a file of {preset}; --preset or --completion-field would say otherwise.")
    may_have_problem = flags.problem_field is None and "problem" in task.optional and not table
    if may_have_problem and any("problem" in row for row in rows):
        columns["problem"] = ("problem",)
        notices.append("The column problem is used, see the task's page; --problem-field '' leaves it out.")
    may_go_on = task.name == "code" and "prompt" not in columns
    if may_go_on and any(f"def {row.get('entry_point')}(" in str(row.get("prompt")) for row in rows):
        flag = "If completions go on with it, give --answer-field prompt=prompt."
        notices.append(f"The column prompt has the head of the function, and is not read. {flag}")
    for flag, name in (*(("--keep", name) for name in flags.keep), ("--by", flags.by)):
        if name and rows and not any(has(row, (name,)) for row in all_rows):
            near = did_you_mean(name, {column for row in rows for column in row})
            notices.append(f"{flag} {name}: the first lines have no such column. {near}".rstrip())
    # The samples of a run have the settings by which its rewards were given, and these are used unasked.
    is_run = any(row.keys() >= {"env", "generation", "rewards"} for row in rows)
    of_run = {name: (name,) for name in task.settings if is_run and any(name in row for row in rows)}
    settings = of_run | _given(task, "--setting", "setting", flags.setting, task.settings)
    values = {
        name: names[0] for name, names in settings.items() if not any(has(row, names) for row in all_rows)
    }
    columns |= {name: names for name, names in settings.items() if name not in values}
    return preset, columns, values, notices


def _recognised(known: dict[str, Columns], rows: Iterable[dict[str, Any]]) -> str:
    """The preset of `known` that fits a file, by the first row that fits any preset; "" = the task's own names.

    A row fits if it has all the columns, and its completion is a text or a list. If no row fits, or if there is only
    one preset, the first preset of `known` is returned. Raises CommandError if several tools write such rows.
    """
    for row in rows if len(known) > 1 else ():
        fitting = [preset for preset, columns in known.items() if fits(row, columns)]
        if len(fitting) > 1 and "" not in fitting:
            flags = " or ".join(f"--preset {preset}" for preset in fitting)
            raise CommandError(f"The lines may be of {' or of '.join(fitting)}: give {flags}.")
        if fitting:
            return fitting[0]
    return next(iter(known))


def without_repeated(blocks: Iterable[Block], counts: Counter[str]) -> Iterator[Block]:
    """Blocks of samples of lm-evaluation-harness, without the samples that the harness logs again for another filter.

    A filter reads another answer from the same completion, but here the completion itself is judged. Some releases do
    not write the filter's name. counts: gets the number of lines that are left out, as `repeated`.
    """
    seen: set[int] = set()  # hashes, so that the texts need not be kept
    for block in blocks:
        kept = []
        for number, line in block.rows:
            with suppress(LineError):
                row = read_line(line)
                key = hash(json.dumps([block.label, *map(row.get, ("doc_id", "doc", "resps"))]))
                if "doc_id" in row and key in seen:
                    counts["repeated"] += 1
                    continue
                seen.add(key)
            kept.append((number, line))
        if kept:
            yield block._replace(rows=kept)
