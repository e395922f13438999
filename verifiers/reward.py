"""Any task as a reward function of the kind that TRL's trainers call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from verifiers.errors import ArgumentError
from verifiers.registry import Mode, check_mode, find, verify_batch


def reward_function(
    task: str, *, mode: Mode = "lenient", partial: bool = False, **columns: str
) -> Callable[..., list[float]]:
    """A function that pays 1.0 for each right completion and 0.0 for any other.

    Call it with `completions`, N strings or N lists of chat messages, and each reference field of the task as
    a sequence of N values; other keywords (`prompts`, `completion_ids`, `trainer_state`, other columns) are
    ignored. `partial` pays the task's partial credit in [0, 1] instead. `columns` says under which keyword a
    reference field comes, where that is another: `reward_function("math500", answer="solution")`.

    Its `__name__` is the task, with "_strict" and "_partial" where they apply. Raises `UnknownTaskError` and
    `ArgumentError` here, and what `verify_batch` raises when it is called.
    """
    fields = find(task).fields
    check_mode(mode)
    for field in columns:
        if field not in fields:
            message = f'Task "{task}" has no reference field {field}; it has {", ".join(fields)}.'
            raise ArgumentError(message, argument=field, value=columns[field])
    names = {field: columns.get(field, field) for field in fields}

    def reward(completions: Any, **given: Any) -> list[float]:
        for field, name in names.items():
            if name not in given:
                message = (
                    f'The reward of task "{task}" needs {name}=, a sequence with one {field} per completion. '
                    f"Add a column {name} to the data set, or name yours: "
                    f'reward_function("{task}", {field}="your_column").'
                )
                raise ArgumentError(message, argument=name, value=sorted(given))
        references = {field: given[name] for field, name in names.items()}
        texts = list(map(unwrap, completions)) if isinstance(completions, list | tuple) else completions
        verdicts = verify_batch(task, texts, mode=mode, **references)
        return [float(value) for value in (verdicts.score if partial else verdicts.correct).tolist()]

    reward.__name__ = task + "_strict" * (mode == "strict") + "_partial" * partial
    reward.__qualname__ = reward.__name__
    keywords = ", ".join(f"{name}=[...]" for name in names.values())
    reward.__doc__ = f"Rewards of task {task!r}: completions=[...], {keywords}"
    return reward


def unwrap(completion: object) -> object:
    """The text of a completion given as chat messages: the last one of role "assistant", else the last one.

    The content may be text or a list of parts of which those with a text count. Anything else comes back as
    it is; `verify` judges it.
    """
    if type(completion) not in (list, tuple) or not completion:
        return completion
    if not all(type(message) is dict and "content" in message for message in completion):  # type: ignore[attr-defined]
        return completion
    messages: list[dict] = list(completion)  # type: ignore[call-overload]
    answers = [m for m in messages if type(m.get("role")) is str and m["role"] == "assistant"]
    content = (answers or messages)[-1]["content"]
    if type(content) not in (list, tuple):
        return content
    texts = [part.get("text") for part in content if type(part) is dict]
    return "".join(text for text in texts if type(text) is str)
