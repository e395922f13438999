"""A user's own reward functions, with the signature of TRL: `--reward ./mine.py:brevity`, or `:brevity+tone`."""

import inspect
import math
import re
import traceback
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from envs.answer_block import until_end
from envs.authoring.async_calls import TIMED_OUT, Limits, call_all
from envs.errors import EnvError, JudgeFailed, with_flags
from envs.own_files import import_file, name_in_file
from envs.problem import Problem
from verifiers.errors import plural
from verifiers.user_code import own_copy

RewardFunction = Callable[..., Sequence[float | None] | Awaitable[Sequence[float | None]]]
"""`f(completions, prompts, COLUMN, ..., **kwargs)` -> a number for each completion; None counts as 0. May be `async`.

The numbers are in a list, an array or a tensor.

Every argument is passed by name, as a list with an entry for each completion: `prompts`, `completions`, and the columns
of the file of rows that have the name of a parameter. A function with `**kwargs` gets every column. A parameter with a
default keeps the default if the file has no such column. If a prompt is a chat, its completion is a chat, too.
`trainer_state`, `log_metric` and `log_extra` are those of `reports`. Source: TRL, "Using a custom reward function".
"""
NO_COLUMNS = (
    "prompt",
    "completion",
    "prompts",
    "completions",
    "completion_ids",
    "trainer_state",
    "log_extra",
    "log_metric",
)
"""Names of arguments that are never columns of the rows, as in TRL."""


@dataclass
class TrainerState:
    """What a reward function is told of the run: how many steps are done, and how many it has.

    Outside a training run both are 1, so that a schedule (`global_step / max_steps`) has its last weight.
    """

    global_step: int = 1
    max_steps: int = 1


@dataclass
class Reports:
    """What the reward functions of a process report besides rewards; a training run reads this after each rollout."""

    state: TrainerState = field(default_factory=TrainerState)
    metrics: dict[str, list[float]] = field(default_factory=dict)
    """{name: the values that `log_metric(name, value)` was given}."""
    columns: dict[tuple[int, str], dict[str, Any]] = field(default_factory=dict)
    """{(Python's id of the problem, completion): {column: the value that `log_extra(column, values)` has for both}}."""

    @contextmanager
    def during(self, step: int, max_steps: int) -> Iterator[None]:
        """Inside, functions are told that `step` steps of a run of `max_steps` are done."""
        outer = self.state
        if max_steps:  # a run without steps only evaluates
            self.state = TrainerState(step, max_steps)
        try:
            yield
        finally:
            self.state = outer

    def begin(self, step: int, max_steps: int) -> None:
        """Forgets what was reported before, at the beginning of a step's rollout."""
        self.state = TrainerState(step, max_steps)
        self.metrics, self.columns = {}, {}

    def log_metric(self, name: str, value: float) -> None:
        self.metrics.setdefault(str(name), []).append(float(value))

    def logged_for(self, problem: Problem, completion: str) -> dict[str, Any]:
        """{column: value} that functions logged for a completion of a problem."""
        return self.columns.get((id(problem), completion), {})

    def logger_of(self, problems: Sequence[Problem], completions: Sequence[str]) -> Callable[..., None]:
        """`log_extra` for a call with these completions."""

        def log_extra(column: str, values: Sequence[Any]) -> None:
            if len(values) != len(completions):
                raise ValueError(
                    f"log_extra({column!r}) has {len(values)} values for {len(completions)} completions"
                )
            for problem, completion, value in zip(problems, completions, values, strict=True):
                plain = value.item() if isinstance(value, np.generic) else value
                can_be_logged = isinstance(plain, str | int | float | list | dict | None)
                logged = self.columns.setdefault((id(problem), completion), {})
                logged[str(column)] = own_copy(plain) if can_be_logged else repr(plain)

        return log_extra


reports = Reports()
"""The reports of the functions in this process."""


def name_of(reward: Any) -> str:
    """The text that names reward functions: `FILE.py:ONE+TWO`; for several files, `A.py:ONE+B.py:TWO`.

    reward: such a text, a function in place of its name, or a list of these. Raises EnvError for anything else, and for
    a function that is not in a file.
    """
    if isinstance(reward, str):
        return reward
    names: list[str] = []
    several = reward if isinstance(reward, list | tuple) else [reward]
    for one in several:
        if not isinstance(one, str) and not callable(one):
            raise EnvError(
                f"reward={one!r:.60}: should be a function of a file, its name ./FILE.py:FUNCTION, or a list of these."
            )
        full_name = one if isinstance(one, str) else name_in_file(one, is_reward=True)
        file, _, name = full_name.rpartition(":")
        if names and names[-1].startswith(f"{file}:"):  # the file of the function before
            names[-1] += f"+{name}"
        else:
            names.append(f"{file}:{name}")
    return "+".join(names)


def load_functions(
    reward: str | RewardFunction | Sequence[str | RewardFunction],
) -> dict[str, RewardFunction]:
    """{name: function} for `./mine.py:one+two`, or for functions that are given in place of names, as in `name_of`.

    Raises EnvError for a file or a name that does not exist, for two functions of one name, and for a function that is
    not in a file.
    """
    reward = name_of(reward)
    parts = [reward]
    if not Path(reward.rpartition(":")[0]).is_file():  # perhaps it names several files
        # "a.py:one+two+b.py:three" -> "a.py:one+two", "b.py:three"
        parts = re.split(r"\+(?=[^+]*\.py:)", reward)
    functions: dict[str, RewardFunction] = {}
    for part in parts:
        file, _, names = part.rpartition(":")
        found = _functions_of_file(reward, file, names.split("+"))
        twice = functions.keys() & found.keys()
        twice |= {name for name in found if names.split("+").count(name) > 1}
        if twice:
            raise EnvError(
                f"--reward {reward}: two functions are called {twice.pop()!r}, which names a component of the reward. "
                "Rename one of them, or leave out what is named twice."
            )
        functions |= found
    return functions


def _functions_of_file(reward: str, file: str, names: Sequence[str]) -> dict[str, RewardFunction]:
    """The functions of a file that have these names; EnvError as for `load_functions`. reward: what the user gave."""
    if not file.endswith(".py"):
        raise EnvError(
            f"--reward ./FILE.py:FUNCTION is the form of a reward, ./FILE.py:ONE+TWO of several; not {reward!r:.60}."
        )
    if not Path(file).is_file():
        raise EnvError(f"--reward {reward}: there is no file {file} (looked in {Path.cwd()}).")
    try:
        module = import_file(file)
    except Exception as error:  # whatever an author's file can raise
        raise EnvError(
            f"--reward {reward}: importing {file} raised {type(error).__name__}: {with_flags(error)}"
        ) from error
    functions = {}
    for name in names:
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
        functions[name] = function
    return functions


def columns_of(functions: Mapping[str, RewardFunction], with_default: bool = False) -> list[str]:
    """The names of the functions' parameters that have no default or, if `with_default`, of those that have one."""
    names: dict[str, None] = {}  # each name once, in their order
    for function in functions.values():
        for name, parameter in inspect.signature(function).parameters.items():
            has_name = parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
            has_default = parameter.default is not parameter.empty
            if has_name and has_default == with_default and name not in NO_COLUMNS:
                names[name] = None
    return list(names)


def is_async(function: RewardFunction) -> bool:
    """Whether a function is `async`, also one inside decorators, or a callable object of which `__call__` is."""
    inner = inspect.unwrap(function)
    return inspect.iscoroutinefunction(inner) or inspect.iscoroutinefunction(type(inner).__call__)


def takes_any_column(function: RewardFunction) -> bool:
    """Whether a function has `**kwargs`, and so takes any column."""
    parameters = inspect.signature(function).parameters.values()
    return any(parameter.kind == parameter.VAR_KEYWORD for parameter in parameters)


def takes_optional_columns(function: RewardFunction) -> bool:
    """Whether a function takes columns that it does not need: by `**kwargs`, or by a parameter with a default."""
    return takes_any_column(function) or bool(columns_of({"function": function}, with_default=True))


def call_functions(
    functions: Mapping[str, RewardFunction],
    problems: Sequence[Problem],
    completions: Sequence[str],
    limits: Limits,
) -> dict[str, np.ndarray]:
    """{name of a function: what it pays for the n completions, (n,) float64}.

    Functions that are `async` are awaited side by side; limits: how many of them at once, and the seconds that each may
    take. Raises TimeoutError if one takes longer; JudgeFailed, a kind of EnvError, if one raises; EnvError if one does
    not return n values, each a finite number or None.
    """
    arguments = possible_arguments(problems, completions)
    calls = [partial(function, **own_arguments(function, arguments)) for function in functions.values()]
    outcomes = call_all(lambda: "--reward", calls, limits)
    outcome_of = dict(zip(functions, outcomes, strict=True))
    # A timeout is raised before any other error. After another error `envs.scoring` asks again for each completion
    # alone, and a function that hangs would then use up its whole time limit once for each of them.
    timed_out = [name for name, outcome in outcome_of.items() if outcome.reason == TIMED_OUT]
    for name in [*timed_out, *outcome_of]:
        error = outcome_of[name].error
        if error is not None:
            raise _explained(name, functions[name], arguments, error) from error
    return {name: _numbers(name, outcome.value, len(completions)) for name, outcome in outcome_of.items()}


def possible_arguments(problems: Sequence[Problem], completions: Sequence[str]) -> dict[str, Any]:
    """All arguments that a function may take: {name: a value for each completion}, and the functions for reports.

    As in TRL, a function gets a completion only up to its first end token. Completions of the trainer end there anyway;
    those from `python -m envs` or a script may not.
    """
    rows = [problem.metadata.get("columns", {}) | problem.reference for problem in problems]
    texts = [until_end(completion) for completion in completions]
    is_chat = [isinstance(problem.prompt, list) for problem in problems]
    names = rows[0] if rows else ()  # all rows of a file have the same columns
    return {
        "prompts": [problem.prompt for problem in problems],
        "completions": [
            [{"role": "assistant", "content": text}] if in_chat else text
            for in_chat, text in zip(is_chat, texts, strict=True)
        ],
        **{name: [row.get(name) for row in rows] for name in names},
        "trainer_state": reports.state,
        "log_metric": reports.log_metric,
        "log_extra": reports.logger_of(problems, completions),
    }


def own_arguments(function: RewardFunction, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments for which a function has parameters, all if it has `**kwargs`; as in TRL it may change them."""
    names: Iterable[str] = arguments
    if not takes_any_column(function):
        names = [name for name in inspect.signature(function).parameters if name in arguments]
    taken = {name: own_copy(arguments[name]) for name in names}
    if "trainer_state" in taken:
        taken["trainer_state"] = replace(taken["trainer_state"])
    return taken


def _explained(
    name: str, function: RewardFunction, arguments: Mapping[str, list[Any]], error: BaseException
) -> Exception:
    """The error to raise for the user in place of `error`, which a function raised."""
    frames = traceback.extract_tb(error.__traceback__)
    # An error that `envs.authoring.async_calls` made for a passed time limit was never raised, and has no frames.
    where = f" ({frames[-1].filename}, line {frames[-1].lineno})" if frames else ""
    code = getattr(inspect.unwrap(function), "__code__", None)
    if frames and code:  # its own line that led there, e.g. to json's code
        lines = [frame.lineno for frame in frames if frame.filename == code.co_filename]
        # Without one, it does not take its arguments.
        where = f" ({code.co_filename}, line {lines[-1] if lines else code.co_firstlineno})"
    message = f": {error}" if str(error) else ""  # `raise SystemExit` has none
    text = f"the reward function {name} raised {type(error).__name__}{message}{where}."
    if isinstance(error, TypeError | KeyError):  # perhaps it uses an argument that it did not get
        known = ", ".join(arguments)
        text += f" It can have {known}."
    if isinstance(error, TimeoutError):
        return TimeoutError(
            f"{text} It was called for {len(arguments['completions'])} completions at once. Await its requests side by "
            "side (asyncio.gather), give each a time limit of its own, or raise the limit: for a file of rows "
            "by --env-args score_timeout=SECONDS, for a class of yours by its attribute score_timeout."
        )
    return JudgeFailed(text)


def _numbers(name: str, paid: Any, count: int) -> np.ndarray:
    """(count,) float64, the rewards by the function `name`; EnvError unless they are `count` finite numbers or None."""
    values = _plain(paid)
    if not isinstance(values, Sequence) or len(values) != count:
        raise EnvError(
            f"the reward function {name} must return a list of {plural(count, 'number')}, one for each completion, "
            f"and returned {paid!r:.80}."
        )
    numbers = [0.0 if value is None else _plain(value) for value in values]
    for value in numbers:
        if not isinstance(value, int | float) or not _is_finite(value):
            raise EnvError(
                f"the reward function {name} must return finite numbers or None, and returned {value!r:.80}."
            )
    return np.array(numbers, dtype=np.float64)


def _is_finite(number: float) -> bool:
    """Whether a number is finite as a float; an int may be too large for one."""
    try:
        return math.isfinite(number)
    except OverflowError:
        return False


def _plain(value: Any) -> Any:
    """An array or a tensor as Python's numbers; anything else as it is."""
    return value.tolist() if hasattr(value, "tolist") else value
