"""The possible names of a file's columns: the task's own names, those of a tool, or those that flags give."""

from __future__ import annotations

import json
from argparse import Namespace
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from hashlib import blake2b
from typing import Any, NamedTuple

from verifiers.command.read import Names, has, has_completion
from verifiers.d1 import fields as rules_fields
from verifiers.errors import CommandError, LineError, did_you_mean
from verifiers.files import Block, read_line
from verifiers.registry import Task

# {tool: its names for the completion, for each reference ({} = the field of the task), for a task's only reference}.
PRESETS: dict[str, tuple[Names, Names, Names]] = {
    "lm-eval": (("resps",), ("doc.{}",), ("target",)),
    "trl": (("completion",), ("{}",), ("solution", "answer", "ground_truth")),
    "verl": (
        ("output", "responses"),
        ("{}", "extra_info.{}", "gts.{}", "reward_model.ground_truth.{}", "ground_truth.{}"),
        ("gts", "reward_model.ground_truth", "ground_truth"),
    ),
    "qa": (("response",), ("{}",), ("answer",)),
    "openai": (("response.body.choices.*.message.content",), ("{}",), ("solution", "ground_truth")),
    "opencompass": (("prediction",), ("gold.{}",), ("gold",)),
    "d1": (("generations",), (), ()),
}
# {field: its names in evaluation files of d1 and of code that follows it}.
_D1: dict[str, Names] = {
    "numbers": ("ground_truth.0",),
    "target": ("ground_truth.1",),
    "puzzle": ("question",),
    "solution": ("ground_truth",),
    "answer": ("ground_truth",),
}
# {(tool, task): (column, fields)}: the tool's column holds a row of the published problems, which has all these fields.
_ROWS = {("lm-eval", "code"): ("doc", ("entry_point", "cases", "prompt"))}
OF_AN_ANSWER = ("answer", "solution", "target")
"""Names of columns with a right answer, and so never with a reference of another kind, such as a puzzle."""
# The task's own names, in the form of PRESETS.
_OWN: tuple[Names, Names, Names] = (("completion",), ("{}",), ())


class Fields(NamedTuple):
    """The possible names of a file's columns."""

    completion: Names
    references: dict[str, Names]
    """{field of the task: possible names of its column}."""

    def names(self) -> list[Names]:
        """The names of the completion, then those of each reference."""
        return [self.completion, *self.references.values()]

    def advice(self, lacks: Sequence[int]) -> str:
        """A sentence on the flags for the fields that a line lacks. lacks: their numbers in `names`."""
        answers = [field for field in self.references if field != "problem"]
        flags = ["--completion-field"]
        for field in self.references:
            if field == "problem":
                flags.append("--problem-field NAME, or --problem-field '' to leave problems out")
            else:
                flags.append(f"--answer-field {field}=NAME" if len(answers) > 1 else "--answer-field")
        flag_names = " and ".join(flags[number] for number in lacks)
        needed = ""
        lacks_reference = lacks[-1] > 0  # 0 is the completion
        if len(answers) > 1 and lacks_reference:
            needed = f"; the references are {', '.join(answers[:-1])} and {answers[-1]}"
        return f"Give {flag_names}{needed}."

    def fit(self, row: dict[str, Any]) -> bool:
        """Whether a row has all the columns, and its completion is a text or a list."""
        return has_completion(row, self.completion) and all(
            has(row, names) for names in self.references.values()
        )


def candidates(task: Task, flags: Namespace) -> dict[str, Fields]:
    """{preset: its names of the columns}, first "" for the task's own names, then a preset for each known tool.

    If a flag names a preset or the column of the completion, there is only that preset, or "" if none is named.
    """
    is_decided = flags.preset is not None or flags.completion_field is not None
    presets = (flags.preset or "",) if is_decided else ("", *PRESETS)
    return {preset: _fields(task, flags, preset) for preset in presets}


def _fields(task: Task, flags: Namespace, preset: str) -> Fields:
    """The names of the columns by one preset, or those that flags give in their place."""
    completion, reference_forms, only_reference_names = PRESETS.get(preset, _OWN)
    if flags.completion_field is not None:
        completion = (flags.completion_field,)
    # Only a task with one reference has these names, and the names of an answer only if this reference is an answer.
    only_reference_names = only_reference_names if len(task.fields) == 1 else ()
    if tuple(task.fields) != ("answer",):
        only_reference_names = tuple(name for name in only_reference_names if name not in OF_AN_ANSWER)
    # Other rules, such as d1's, may need references that ours do not need.
    fields_of_rules = rules_fields(task.name) if flags.rules else ()
    wanted = list(dict.fromkeys((*task.fields, *fields_of_rules)))
    names: dict[str, Names] = {}
    for field in wanted:
        own_names = [form.format(field) for form in reference_forms]
        names[field] = tuple(dict.fromkeys([*own_names, *only_reference_names]))
    if preset == "d1":
        names = {field: _D1.get(field, ("ground_truth",)) for field in wanted}
    if (preset, task.name) in _ROWS:
        column, fields = _ROWS[preset, task.name]
        names = dict.fromkeys(fields, (column,))
    for text in flags.answer_field:
        # FIELD=NAME, or NAME alone if there is only one field.
        field, equals, name = text.partition("=")
        known_fields = (*names, *task.optional)
        usage = " ".join(f"--answer-field {known}=NAME" for known in names)
        if equals and field in known_fields and name:
            names[field] = (name,)
        elif equals and field:
            near = did_you_mean(field, known_fields)
            raise CommandError(
                f'--answer-field {text}: "{task.name}" has no reference "{field}". {near}Use {usage}.'
            )
        elif len(names) == 1:
            names = dict.fromkeys(names, (text,))
        else:
            raise CommandError(f'--answer-field {text}: "{task.name}" has {len(names)} fields; use {usage}.')
    if flags.problem_field:
        if "problem" not in task.optional:
            raise CommandError(f'--problem-field {flags.problem_field}: task "{task.name}" takes no problem.')
        names["problem"] = (flags.problem_field,)
    return Fields(completion, names)


def likely_flags(task: Task, text: str) -> list[str]:
    """Flags that would name the columns that a line lacks, e.g. ["--answer-field", "gold"].

    text: the message of `read_sample` on the line. A column is likely if some tool writes it; for a completion inside a
    column, as in `response.body`, the flag is the tool's preset. [] if there is no likely column for one of the flags.
    """
    # The message lists the columns of the line: 'lacks "answer"; it has id, gold. ...'.
    columns = text.partition("; it has ")[2].partition(". ")[0].split(", ")
    completions = [name for names, _, _ in PRESETS.values() for name in names if name in columns]
    references = [name for _, _, names in PRESETS.values() for name in names if name in columns]
    likely_of_flag = []
    if "--completion-field" in text:
        beginnings = tuple(f"{column}." for column in columns)
        presets = [preset for preset, (names, _, _) in PRESETS.items() if names[0].startswith(beginnings)]
        is_inside = bool(presets and not completions)
        likely_of_flag.append(("--preset", presets) if is_inside else ("--completion-field", completions))
    if "--answer-field" in text:
        takes_only_answer = tuple(task.fields) == ("answer",)
        likely_of_flag.append(("--answer-field", references if takes_only_answer else []))
    if not all(likely for _, likely in likely_of_flag):
        return []
    return [word for flag, likely in likely_of_flag for word in (flag, likely[0])]


def with_problem(task: Task, flags: Namespace, fields: Fields, lines: Iterable[bytes | LineError]) -> Fields:
    """The fields, with a column "problem" added if a line has it.

    It is not added if a flag says which column holds the problem, or if the task takes no problem.
    """
    is_open = flags.problem_field is None and "problem" in task.optional
    if is_open and any(has(row, ("problem",)) for row in _rows_of(lines)):
        return fields._replace(references={**fields.references, "problem": ("problem",)})
    return fields


def with_settings(
    task: Task, words: Sequence[str], fields: Fields, lines: Iterable[bytes | LineError]
) -> tuple[Fields, tuple[tuple[str, str], ...]]:
    """(the fields with the columns of settings, (setting of the task, its value for all lines) of each other one).

    words: those of --setting, FIELD=VALUE; what no line has as a column is a value. The samples of a run
    have the settings by which its rewards were given, and these are used unasked. Raises CommandError for another word.
    """
    rows = list(_rows_of(lines))
    recorded = [row for row in rows if row.keys() >= {"env", "generation", "rewards"}]
    columns = {name: name for name in task.settings if any(name in row for row in recorded)}
    values: dict[str, str] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or name not in task.settings:
            known = " or ".join(f"{setting}=..." for setting in task.settings) or "none"
            near = did_you_mean(name, task.settings)
            raise CommandError(f'--setting {word}: "{task.name}" has no such setting. {near}It has {known}.')
        columns.pop(name, None)
        is_column = any(has(row, (value,)) for row in rows)
        (columns if is_column else values)[name] = value
    named = {name: (column,) for name, column in columns.items()}
    return fields._replace(references={**fields.references, **named}), tuple(values.items())


def without_repeated(blocks: Iterable[Block], repeated: Callable[[], None]) -> Iterator[Block]:
    """Blocks of samples of lm-evaluation-harness, without the samples that the harness logs again for another filter.

    A filter reads another answer from the same completion, but here the completion itself is judged. Some releases do
    not write the filter's name. repeated: is called for each line that is left out.
    """
    seen: set[bytes] = set()
    for block in blocks:
        kept = []
        for number, line in zip(block.numbers, block.lines, strict=True):
            with suppress(LineError):
                row = read_line(line)
                sample = json.dumps([row.get(name) for name in ("doc_id", "doc", "resps")], default=str)
                key = blake2b(sample.encode(), digest_size=16).digest()
                if "doc_id" in row and key in seen:
                    repeated()
                    continue
                seen.add(key)
            kept.append((number, line))
        if kept:
            numbers, lines = zip(*kept, strict=True)
            yield block._replace(numbers=numbers, lines=lines)


def recognise(known: dict[str, Fields], lines: Iterable[bytes | LineError]) -> str:
    """The preset of `known` that fits a file, by the first line that fits any preset; "" = the task's own names.

    known: as `candidates` returns it. If no line fits, or if there is only one preset, the first preset of `known` is
    returned. Raises CommandError if several tools write lines of that form.
    """
    default, *others = known
    for row in _rows_of(lines) if others else ():
        fitting = [name for name, fields in known.items() if fields.fit(row)]
        if default in fitting:
            return default
        if len(fitting) > 1:
            flags = " or ".join(f"--preset {name}" for name in fitting)
            raise CommandError(f"The lines may be of {' or of '.join(fitting)}: give {flags}.")
        if fitting:
            return fitting[0]
    return default


def completion_of(known: dict[str, Fields], lines: Iterable[bytes | LineError]) -> Names:
    """The names of the completion's column by the first candidate that fits the first readable line, else by the first.

    known: as `candidates` returns it.
    """
    row = next(_rows_of(lines), {})
    all_names = [fields.completion for fields in known.values()]
    return next((names for names in all_names if has_completion(row, names)), all_names[0])


def _rows_of(lines: Iterable[bytes | LineError]) -> Iterator[dict[str, Any]]:
    """The objects on the lines that can be read."""
    for line in lines:
        with suppress(LineError):
            yield read_line(line)
