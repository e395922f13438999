"""Reward functions of the user's own, with the signature of TRL: `--reward ./mine.py:brevity`, several `a+b`."""

import inspect
import math
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from envs.errors import EnvError
from envs.own_files import import_file
from envs.problem import Problem

RewardFunction = Callable[..., Sequence[float | None]]
"""`f(completions, prompts, COLUMN, ..., **kwargs)` -> a number for each completion; None counts as 0.

It is called with names alone: `prompts` and `completions`, which are chat messages where the prompts are, and a list
for each column of the rows that it has a parameter of the same name for. Source: TRL, "Using a custom reward function".
"""
GIVEN = ("prompts", "completions", "completion_ids", "trainer_state", "log_extra", "log_metric")
"""Parameters that no column is for; the last four are TRL's, and are not passed."""


def load_functions(reward: str) -> dict[str, RewardFunction]:
    """The functions that `./mine.py:one+two` names. Raises EnvError for a file or a name that is not there."""
    file, _, names = reward.rpartition(":")
    if not file.endswith(".py"):
        raise EnvError(f"--reward {reward}: should be ./FILE.py:FUNCTION, several as ./FILE.py:ONE+TWO.")
    if not Path(file).is_file():
        raise EnvError(f"--reward {reward}: there is no file {file} (looked in {Path.cwd()}).")
    try:
        module, found = import_file(file), {}
    except Exception as error:  # whatever an author's file can raise
        raise EnvError(
            f"--reward {reward}: importing {file} raised {type(error).__name__}: {error}"
        ) from error
    for name in names.split("+"):
        function = getattr(module, name, None)
        if not callable(function):
            public = [n for n, f in vars(module).items() if inspect.isfunction(f) and not n.startswith("_")]
            raise EnvError(
                f"--reward {reward}: {file} has no function {name!r}; it has {', '.join(public) or 'none'}."
            )
        if name in ("correct", "format", "score"):
            raise EnvError(
                f"--reward {reward}: {name!r} is a component of every file of rows. Rename the function."
            )
        found[name] = function
    return found


def columns_of(functions: Mapping[str, RewardFunction]) -> list[str]:
    """The columns that the functions have parameters for."""
    names = [
        name
        for function in functions.values()
        for name, parameter in inspect.signature(function).parameters.items()
        if name not in GIVEN and parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
    ]
    return list(dict.fromkeys(names))


def takes_all(function: RewardFunction) -> bool:
    """Whether a function has `**kwargs`, and so takes any column."""
    parameters = inspect.signature(function).parameters.values()
    return any(parameter.kind == parameter.VAR_KEYWORD for parameter in parameters)


def call(
    name: str, function: RewardFunction, problems: Sequence[Problem], completions: Sequence[str]
) -> np.ndarray:
    """(n,) what a function pays for the completions. Raises EnvError where it raises, or returns something else."""
    parameters = inspect.signature(function).parameters
    names = problems[0].reference if problems else ()
    columns = {key: [problem.reference[key] for problem in problems] for key in names}
    chats = [isinstance(problem.prompt, list) for problem in problems]
    keywords = {
        "prompts": [problem.prompt for problem in problems],
        "completions": [
            [{"role": "assistant", "content": text}] if chat else text
            for chat, text in zip(chats, completions, strict=True)
        ],
        **columns,
    }
    try:
        paid = function(
            **{key: value for key, value in keywords.items() if key in parameters or takes_all(function)}
        )
    except Exception as error:  # whatever an author's code can raise
        place = traceback.extract_tb(error.__traceback__)[-1]
        raised = f"{type(error).__name__}: {error} ({place.filename}, line {place.lineno})"
        text = f"the reward function {name} raised {raised}."
        if isinstance(error, TypeError | KeyError):  # perhaps it asks for what it was not given
            known = ", ".join(["prompts", "completions", *columns])
            text += (
                f" It can have {known}; a column of the rows is passed where it has a parameter of that name."
            )
        raise EnvError(text) from error
    if not isinstance(paid, Sequence | np.ndarray) or len(paid) != len(completions):
        raise EnvError(
            f"the reward function {name} must return {len(completions)} numbers, and returned {paid!r:.80}."
        )
    numbers = [0.0 if value is None else value for value in paid]
    for value in numbers:
        if not isinstance(value, int | float | np.number) or not math.isfinite(value):
            raise EnvError(
                f"the reward function {name} must return finite numbers or None, and returned {value!r:.80}."
            )
    return np.array(numbers, dtype=np.float64)
