"""The tasks that can be verified, and the two functions through which every one of them is reached.

A task of our own is one file that ends in a `Task`, and one line in `_BUILT_IN`. Others come from `register`, which a
file may call that is named with the task, "./mine.py:parity", or from installed packages through the entry-point group
`spg.verifiers` (its value is the path of a `Task`).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from functools import partial
from importlib import import_module
from typing import Any, Literal

from verifiers.errors import ArgumentError, UnknownTaskError, VerifierError, did_you_mean, shown
from verifiers.user_code import exit_is_error, own_copy, run_file
from verifiers.verdicts import Verdict, Verdicts

Mode = Literal["lenient", "strict", "flexible"]
MODES = ("lenient", "strict", "flexible")
Rules = Literal["ours", "d1"]
RULES = ("ours", "d1")
ENTRY_POINTS = "spg.verifiers"


@dataclass(frozen=True)
class Task:
    """What `verify` needs to know about a task.

    `verify(completion, *, mode, **reference)` must return a `Verdict` for any Python object, and may raise
    only `VerifierError`, about its reference. `verify_batch(completions, *, mode, **references)` gets lists
    of equal length. `optional` fields of the reference may be left out. `settings` are those of them that are mostly
    the same for all completions: a batch may have one text of them in place of a list. `prepare` does what is done
    once, before the first use, and raises `VerifierError` if the task cannot be judged here. `explain(extracted,
    reason, **reference)` says in a sentence what is wrong with an answer, "" if the reason says everything. `modes`:
    the modes that `verify` accepts.
    """

    name: str
    fields: tuple[str, ...]
    verify: Callable[..., Verdict]
    verify_batch: Callable[..., Verdicts] | None = None
    optional: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()
    prepare: Callable[[], None] | None = None
    explain: Callable[..., str] | None = None
    modes: tuple[str, ...] = ("lenient", "strict")


_BUILT_IN = {
    "choice": "verifiers.choice:TASK",
    "code": "verifiers.code.task:TASK",
    "gsm8k": "verifiers.gsm8k:TASK",
    "countdown": "verifiers.countdown:TASK",
    "json": "verifiers.json_value:TASK",
    "math": "verifiers.math500.task:TASK",
    "math500": "verifiers.math500.task:TASK",
    "sudoku": "verifiers.sudoku:TASK",
    "text": "verifiers.text:TASK",
}
_PUBLISHED = {"d1": "verifiers.d1:task_of"}
"""{rules that are not ours: the path of a function from the name of a task to the `Task` with these rules}."""
# {name: task} of the tasks that are registered, and of others that were used already.
_tasks: dict[str, Task] = {}
own_files: dict[str, tuple[str, ...]] = {}
"""{path of a Python file that was named with a task: the tasks that it registered}."""


def register(
    task: str,
    *,
    fields: Sequence[str],
    verify: Callable[..., Verdict],
    verify_batch: Callable[..., Verdicts] | None = None,
) -> Task:
    """Add a task of your own under the name `task`, with `fields` as the keyword arguments of its reference.

    Without `verify_batch` a batch is judged one by one. A task is replaced if its file is loaded anew, perhaps after an
    edit, or if a later cell of the notebook registers the name again. Raises `ArgumentError` if the name is taken by
    any other task, or if what should be a function is none.
    """
    for argument, function in (("verify", verify), ("verify_batch", verify_batch)):
        if not callable(function) and (argument == "verify" or function is not None):
            message = f"{argument}={shown(function)} should be a function."
            raise ArgumentError(message, argument=argument, value=function)
    entry = Task(task, tuple(_as_list("fields", fields)), verify, verify_batch)
    known = _tasks.get(task, entry)
    if task in _BUILT_IN or (known != entry and not _is_newer(verify, known.verify)):
        message = f'A task "{task}" is already registered. Choose another name; known: {", ".join(tasks())}.'
        raise ArgumentError(message, argument="task", value=task)
    _tasks[task] = entry
    return entry


def _is_newer(function: Callable[..., Verdict], known: Callable[..., Verdict]) -> bool:
    """Whether a function takes the place of a known one: from a later notebook cell, or from a file that was edited."""
    if function is known:
        return False
    module, known_module = getattr(function, "__module__", ""), getattr(known, "__module__", "")
    if module == "__main__" and known_module == "__main__":
        return True
    file, known_file = (getattr(sys.modules.get(name), "__file__", None) for name in (module, known_module))
    if file is None or file != known_file:
        return False
    # The defaults differ, so that two functions without names have not the same name.
    has_same_name = getattr(function, "__qualname__", "") == getattr(known, "__qualname__", None)
    is_loaded_anew = module != known_module  # a file that is loaded anew has another module name
    return is_loaded_anew or has_same_name


def tasks() -> tuple[str, ...]:
    """The names of all tasks, those of installed packages included, sorted."""
    return tuple(sorted({*_BUILT_IN, *_tasks, *_installed()}))


def find(task: str, rules: Rules = "ours") -> Task:
    """The `Task` named `task`; raises `UnknownTaskError`, with the nearest known name, if there is none.

    Raises `ArgumentError` for rules that do not exist or do not have the task.
    """
    if rules not in RULES:
        message = f"rules={shown(rules)} are not known; use {' or '.join(RULES)}."
        raise ArgumentError(message, argument="rules", value=rules)
    if rules in _PUBLISHED:
        return _loaded(_PUBLISHED[rules])(find(task).name)
    if isinstance(task, str) and task in _tasks:
        return _tasks[task]
    if isinstance(task, str) and task in _BUILT_IN:
        return _tasks.setdefault(task, _loaded(_BUILT_IN[task]))
    entry = _installed().get(task) if isinstance(task, str) else None
    if entry is None:
        known = tasks()
        message = (
            f"No task {shown(task)}. {did_you_mean(task, known)}Known: {', '.join(known)}. "
            f"Add yours with verifiers.register(...), and name it on a command line with its file: ./FILE.py:{task}."
        )
        raise UnknownTaskError(message, argument="task", value=task)
    with exit_is_error():
        loaded = entry.load()
    if not isinstance(loaded, Task):
        message = (
            f'The entry point "{task}" of group {ENTRY_POINTS} gives {shown(loaded)}, not a verifiers.Task; '
            f"point {entry.value!r} at a Task."
        )
        raise VerifierError(message, argument="task", value=loaded)
    return _tasks.setdefault(task, loaded)


def tasks_of_file(path: str) -> tuple[str, ...]:
    """The names of the tasks that a Python file registers; the file is run once."""
    resolved = os.path.realpath(path)
    if resolved not in own_files:
        before = dict(_tasks)
        run_file(resolved)
        own_files[resolved] = tuple(task for task, entry in _tasks.items() if before.get(task) is not entry)
    return own_files[resolved]


def name_in_file(name: str) -> str:
    """The name of the task that a Python file registers, of "./mine.py:parity", or "./mine.py" if it is the only one.

    Any other name is returned as it is. Who lets strangers name a task must not call this.
    """
    path, _, task = name.rpartition(":")
    if name.endswith(".py"):
        path, task = name, ""
    elif not path.endswith(".py"):
        return name
    added = tasks_of_file(path)
    if task in added or (not task and len(added) == 1):
        return task or added[0]
    registers = f"It registers {', '.join(added)}" if added else "It calls no verifiers.register(...)"
    message = f"{path} has no task {shown(task)}. {did_you_mean(task, added)}{registers}; write {path}:TASK."
    raise UnknownTaskError(message, argument="task", value=name)


def verify(
    task: str, completion: object, *, mode: Mode = "lenient", rules: Rules = "ours", **reference: Any
) -> Verdict:
    """Judge one completion of `task`, e.g. `verify("sudoku", text, puzzle="0310200404001043")`.

    Any object is accepted as a completion and gets a `Verdict`. `mode="strict"` accepts exactly the prompt's
    format, "lenient" any accepted notation of the same value. "flexible" is for judging other people's files, not for
    a reward: it is as lenient, and if no answer is marked (gsm8k, math500), it takes the last number or formula of the
    last sentence that has one. `rules="d1"` gives the verdict of d1's published evaluation code instead
    (`verifiers.d1`; Sudoku then needs `solution=` too). Raises `VerifierError` for an unknown task or mode, for missing
    or unexpected reference fields and for an invalid reference.
    """
    entry = find(task, rules)
    _check(entry, mode, reference)
    verdict = _judged_alone(entry, completion, mode, reference)
    if entry.explain is None or verdict.correct or verdict.explain is not None:
        return verdict
    return replace(verdict, explain=partial(entry.explain, verdict.extracted, verdict.reason, **reference))


def verify_batch(
    task: str,
    completions: Sequence[object],
    *,
    mode: Mode = "lenient",
    rules: Rules = "ours",
    **references: Sequence[Any],
) -> Verdicts:
    """Judge N completions against N references, in order; each reference field is a sequence of N values.

    A setting of the task, such as decimal="," or unit="ml", may be one text for all. Raises what `verify` raises, with
    the index of the first invalid reference, and for anything else that is not a sequence, is a bare string, or has
    another length than `completions`.
    """
    entry = find(task, rules)
    _check(entry, mode, references)
    texts = _as_list("completions", completions)
    columns = {
        name: [values] * len(texts)
        if name in entry.settings and isinstance(values, str)
        else _as_list(name, values)
        for name, values in references.items()
    }
    for name, values in columns.items():
        if len(values) != len(texts):
            message = (
                f"{name} has {len(values)} values for {len(texts)} completions; "
                f"give one {name} for each completion, in the same order."
            )
            raise ArgumentError(message, argument=name, value=len(values))
    if entry.verify_batch is not None:
        if entry.name in _BUILT_IN:
            verdicts = entry.verify_batch(texts, mode=mode, **columns)
        else:
            with exit_is_error():
                verdicts = entry.verify_batch(texts, mode=mode, **own_copy(columns))
        return verdicts if entry.explain is None else verdicts.explained_by(entry.explain, columns)
    judged = []
    for row, text in enumerate(texts):
        try:
            reference = {name: values[row] for name, values in columns.items()}
            judged.append(_judged_alone(entry, text, mode, reference))
        except VerifierError as error:
            error.index, error.args = row, (f"Row {row}: {error}",)
            raise
    return Verdicts.of(judged)


def _judged_alone(task: Task, completion: object, mode: Mode, reference: Mapping[str, Any]) -> Verdict:
    """The verdict of a task's `verify`; that of a user gets a reference of its own, and its exit is an error."""
    if task.name in _BUILT_IN:
        verdict = task.verify(completion, mode=mode, **reference)
    else:
        with exit_is_error():
            verdict = task.verify(completion, mode=mode, **own_copy(dict(reference)))
    if not isinstance(verdict, Verdict):
        raise _no_verdict(task, verdict)
    return verdict


def _no_verdict(task: Task, value: object) -> VerifierError:
    """The error for a task of another package whose verifier returned something else than a `Verdict`."""
    message = (
        f'The verifier of task "{task.name}" returned {shown(value)}, not a verifiers.Verdict(correct=...).'
    )
    return VerifierError(message, argument="verify", value=value)


def check_mode(mode: object, task: Task) -> None:
    """Raises `ArgumentError` for a mode that does not exist or that the task does not have."""
    if mode not in MODES:
        message = f'mode={shown(mode)} is not a mode; use "lenient", "strict" or "flexible".'
        raise ArgumentError(message, argument="mode", value=mode)
    if mode not in task.modes:
        message = f'Task "{task.name}" has no mode "{mode}"; use "lenient", which finds every answer that is marked.'
        raise ArgumentError(message, argument="mode", value=mode)


def _check(task: Task, mode: object, reference: Mapping[str, object]) -> None:
    """Raises `ArgumentError` for a mode or for reference fields that the task does not take."""
    check_mode(mode, task)
    has_usual_fields = tuple(reference) in (task.fields, task.fields + task.optional)
    if has_usual_fields:  # which saves time in nearly every call
        return
    missing = [name for name in task.fields if name not in reference]
    extra = [name for name in reference if name not in (*task.fields, *task.optional)]
    if missing or extra:
        needs = [f"needs {' and '.join(f'{name}=' for name in missing)}"] if missing else []
        takes_not = [f"does not take {' and '.join(f'{name}=' for name in extra)}"] if extra else []
        near = did_you_mean(extra[0], (*task.fields, *task.optional), shown_as="{}=") if extra else ""
        wrong = f"{' and '.join(takes_not + needs)}. {near}".rstrip()
        call = ", ".join(f"{name}=..." for name in task.fields)
        may = "".join(f" and, if you like, {name}=..." for name in task.optional)
        message = f'Task "{task.name}" {wrong} Call it with {call}{may}.'
        first_wrong = (missing or extra)[0]
        raise ArgumentError(message, argument=first_wrong, value=sorted(reference))


def _loaded(path: str) -> Any:
    """The object that a path names, e.g. "verifiers.sudoku:TASK"."""
    module, _, attribute = path.partition(":")
    return getattr(import_module(module), attribute)


def _as_list(name: str, values: object) -> list[Any]:
    """A sequence as a list; raises `ArgumentError` for a single string, and for what has no length or no order.

    name: the argument, for the message.
    """
    if isinstance(values, str):
        message = (
            f"{name}={shown(values)} is one string where a sequence of strings belongs; write {name}=[...]."
        )
        raise ArgumentError(message, argument=name, value=values)
    has_methods = hasattr(values, "__len__") and hasattr(values, "__iter__")
    # The methods of an array without axes raise.
    is_sized = has_methods and getattr(values, "shape", None) != ()
    if not is_sized or isinstance(values, bytes | bytearray | Mapping | Set):
        message = (
            f"{name}={shown(values)} is a {type(values).__name__}; "
            "give a list, a tuple or an array with one value per completion."
        )
        raise ArgumentError(message, argument=name, value=values)
    return list(values)  # type: ignore[call-overload]


def _installed() -> dict[str, Any]:
    """{name of a task: its entry point} for the tasks of installed packages."""
    from importlib.metadata import entry_points

    return {entry.name: entry for entry in entry_points(group=ENTRY_POINTS)}
