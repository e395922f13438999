"""Any task as a reward function of the kind that TRL's trainers call."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

from verifiers.errors import ArgumentError, InvalidReferenceError, did_you_mean, shown
from verifiers.registry import Mode, Task, check_mode, find, verify_batch


def reward_function(
    task: str, *, mode: Mode = "lenient", partial: bool = False, **columns: Any
) -> Callable[..., list[float | None]]:
    """A function that pays 1.0 for each right completion and 0.0 for any other.

    Call it with `completions`, N strings or N lists of chat messages, and each reference field of the task as
    a sequence of N values; a row without a usable reference gets None, as in data of several tasks. A task that takes
    the problem (math500) reads it from a column `problem`, never from `prompts`, which may hold instructions and
    examples; without it an unfinished value such as `2+3` still gets 0. Other keywords (`completion_ids`,
    `trainer_state`, other columns) are ignored. `partial` pays the task's partial credit in [0, 1]
    instead. `columns` says under which keyword a reference field comes, if not under its own name:
    `reward_function("math500", answer="solution")`. A setting of the task that names no keyword of a call is the value
    for all rows: `reward_function("gsm8k", decimal=",")`.

    Its `__name__` is the task, with "_strict", "_flexible" and "_partial" where they apply. Raises `UnknownTaskError`
    and `ArgumentError`. The returned function raises what `verify_batch` raises, except for invalid references: it logs
    the first one that is not None.
    """
    entry = find(task)
    check_mode(mode, entry)
    if not isinstance(partial, bool):
        message = f"partial={shown(partial)} should be True or False."
        raise ArgumentError(message, argument="partial", value=partial)
    fields = (*entry.fields, *entry.optional)
    for field in columns:
        if field not in fields:
            near = did_you_mean(field, fields, shown_as="{}")
            message = f'Task "{task}" has no reference field {field}. {near}It has {", ".join(fields)}.'
            raise ArgumentError(message, argument=field, value=columns[field])
    return _Reward(task, mode, partial, columns)


class _Reward:
    """What `reward_function` returns; it is a class because a function within a function cannot be pickled."""

    def __init__(self, task: str, mode: Mode, partial: bool, columns: dict[str, Any]) -> None:
        self.task, self.mode, self.partial, self.columns = task, mode, partial, columns
        self.__name__ = task
        if mode != "lenient":
            self.__name__ += f"_{mode}"
        if partial:
            self.__name__ += "_partial"
        self.reported = False

    def __call__(self, completions: Any, **columns: Any) -> list[float | None]:
        task, mode, entry = self.task, self.mode, find(self.task)
        settings = {
            field: value
            for field, value in self.columns.items()
            if field in entry.settings and not (isinstance(value, str) and value in columns)
        }
        # {reference field: the keyword under which it comes}.
        names = {field: self.columns.get(field, field) for field in (*entry.fields, *self.columns)}
        names = {field: name for field, name in names.items() if field not in settings}
        for field, name in names.items():
            if name not in columns:
                message = (
                    f'The reward of task "{task}" needs {name}=, one {field} per completion: add such a column, or '
                    f'name yours: reward_function("{task}", {field}="your_column").'
                )
                raise ArgumentError(message, argument=name, value=sorted(columns))
        references = {field: columns[name] for field, name in names.items()}
        references |= {field: [value] * len(completions) for field, value in settings.items()}
        texts = completions
        if isinstance(completions, list | tuple):  # `verify_batch` takes or refuses anything else as it is
            texts = [unwrap(completion) for completion in completions]
        if "problem" in entry.optional:  # an empty problem asks for a finished value, but for no form
            # First a column that `columns` of `reward_function` names, then a column `problem`.
            no_problems = [""] * len(texts)
            problems = references.get("problem", columns.get("problem", no_problems))
            unwrapped = [unwrap(problem, role="user") for problem in problems]
            references["problem"] = [text if isinstance(text, str) else "" for text in unwrapped]
        try:
            verdicts = verify_batch(task, texts, mode=mode, **references)
            usable: Sequence[int] = range(len(texts))
        except InvalidReferenceError:
            errors = [_error_of(entry, mode, references, row) for row in range(len(texts))]
            usable = [row for row, error in enumerate(errors) if error is None]
            # A reference None is no error: the row may be of another task.
            with_value = [error for error in errors if error is not None and error.value is not None]
            if with_value and not self.reported:
                logging.getLogger("verifiers").warning("Reward None, here and later: %s", with_value[0])
                self.reported = True
            kept = {field: [values[row] for row in usable] for field, values in references.items()}
            verdicts = verify_batch(task, [texts[row] for row in usable], mode=mode, **kept)
        rewards: list[float | None] = [None] * len(texts)
        values = verdicts.score if self.partial else verdicts.correct
        for row, value in zip(usable, values.tolist(), strict=True):
            rewards[row] = float(value)
        return rewards


def _error_of(task: Task, mode: Mode, references: dict[str, Any], row: int) -> InvalidReferenceError | None:
    """The error of the reference in a row; None if the reference is valid."""
    try:
        task.verify("", mode=mode, **{field: values[row] for field, values in references.items()})
    except InvalidReferenceError as error:
        return error
    return None


def unwrap(message: object, role: str = "assistant") -> object:
    """The text of the last message of a role, from a completion (or a prompt) that is given as chat messages.

    If no message has the role, the last message counts. Its content may be a text, or a list of parts; parts without a
    text are left out. Anything but chat messages comes back as it is; `verify` judges it.
    """
    if type(message) not in (list, tuple) or not message:
        return message
    if not all(type(part) is dict and "content" in part for part in message):  # type: ignore[attr-defined]
        return message
    messages: list[dict] = list(message)  # type: ignore[call-overload]
    of_role = [one for one in messages if type(one.get("role")) is str and one["role"] == role]
    content = (of_role or messages)[-1]["content"]
    if type(content) not in (list, tuple):
        return content
    texts = [part.get("text") for part in content if type(part) is dict]
    return "".join(text for text in texts if type(text) is str)
