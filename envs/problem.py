"""A problem, the score of a completion, and how a problem is picked from a task and read."""

import copy
import sys
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from envs.errors import EnvError
from envs.text.surrogates import half_character
from envs.text.template import read_holes
from verifiers.user_code import exit_is_error, own_copy

Prompt = str | list[dict[str, str]]
"""A user's text, or a chat: [{"role": "user", "content": "..."}, ...]."""


@dataclass(frozen=True)
class Problem:
    """One problem of a task: what the model is shown, and what its answer is judged by."""

    prompt: Prompt
    """The text or chat that the model reads."""
    reference: dict[str, Any]
    """The keyword fields that `verifiers.verify` takes for this task, e.g. {"puzzle": "0310..."}."""
    completion_prefix: str = ""
    """The text with which every completion begins; the model continues it."""
    metadata: dict[str, Any] = field(default_factory=dict)
    """Anything else about the problem, e.g. a solution or a level; never shown to the model."""
    task: str = ""
    """The name of the problem's task in a mixture of tasks (the mixture sets it); "" in any other environment."""
    completion_template: str = ""
    """A text with holes; filled in by the model, it is the completion. `[MASK]` is a hole for one token, `[MASK*8]` for
    eight, `[MASK*]` for all that there is room for (`envs.text.template`). "" = no template: the model writes
    everything."""

    def copy(self) -> "Problem":
        """The problem with lists and dicts of its own, which an author's method may change without an effect."""
        other = copy.copy(self)
        for name in ("prompt", "reference", "metadata"):
            object.__setattr__(other, name, own_copy(getattr(self, name)))
        return other


_ROUNDING = 1e-6  # also of parts that are summed in float32


def is_full(reward: Any) -> Any:
    """Whether a reward has full marks, 1 but for rounding, as 0.7 + 0.2 + 0.1 has; of an array, elementwise."""
    return reward >= 1 - _ROUNDING


@dataclass(frozen=True)
class Score:
    """The verdict on one completion, component by component."""

    rewards: dict[str, float]
    """One finite number for each name in the environment's `reward_weights`; "correct" is 0 or 1."""
    reason: str = ""
    """The outcome in a word: "ok", "wrong", "no_answer", ...; "" = none is given."""
    extracted: str | None = None
    """The part of the completion that was scored; None if no such part was found, or if it is not known."""


@dataclass(frozen=True)
class Scores:
    """The verdicts on n completions at once."""

    rewards: dict[str, np.ndarray]
    """{component: (n,) float}, one for each name in `reward_weights`."""
    reason: Sequence[str]
    """n words, as in `Score.reason`."""
    extracted: Sequence[str | None]
    """n texts, as in `Score.extracted`."""

    def __len__(self) -> int:
        return len(self.reason)


def as_score(value: Any) -> Any:
    """The result of an author's code for one episode, unchecked: a dict becomes a Score, all else stays as it is."""
    return Score(dict(value)) if isinstance(value, Mapping) else value


def stacked(scores: Sequence[Score], components: Iterable[str]) -> Scores:
    """n single scores as one Scores."""
    rewards = {name: [score.rewards[name] for score in scores] for name in components}
    return Scores(rewards, [score.reason for score in scores], [score.extracted for score in scores])


def is_prompt(x: Any) -> bool:
    """Whether `x` is a text, or a chat: a list of {"role": str, "content": str}."""
    return isinstance(x, str) or (isinstance(x, list) and all(map(_is_message, x)))


def _is_message(x: Any) -> bool:
    return isinstance(x, dict) and all(isinstance(x.get(key), str) for key in ("role", "content"))


class HasProblems(Protocol):
    """Anything with a name and numbered problems; every task is (`envs.task`)."""

    @property
    def spec_name(self) -> str: ...
    def __len__(self) -> int: ...
    def problem(self, index: int) -> Problem: ...


def choose_index(
    task: HasProblems, rng: np.random.Generator, options: Mapping[str, Any] | None, size: int | None = None
) -> Any:
    """The "index" in the `options` of `reset`, as it is given; without one, a random index, or (size,) random ones."""
    for name in options or {}:
        if name != "index":
            raise EnvError(f'{task.spec_name}: reset() knows no option "{name}"; the only one is "index".')
    index = (options or {}).get("index")
    if index is not None:
        return index
    if (length := len(task)) < 1:
        raise EnvError(f"{task.spec_name} has no problems (length {length}); __len__ must be at least 1.")
    return rng.integers(length, size=size)


def read_seed(task: HasProblems, seed: Any) -> int | None:
    """The seed of a `reset` as an int; raises EnvError for anything but a whole number from 0 on, or None."""
    is_integer = isinstance(seed, int | np.integer) and not isinstance(seed, bool)
    if seed is not None and not (is_integer and seed >= 0):
        raise EnvError(
            f"{task.spec_name}: reset(seed={seed!r:.60}): a seed is one whole number, 0 or more, also where several "
            "environments are reset together."
        )
    return None if seed is None else int(seed)


def check_index(task: HasProblems, index: Any) -> int:
    """`index` as an int; raises EnvError unless it is a whole number from 0 to len(task) - 1."""
    last = len(task) - 1
    is_integer = isinstance(index, int | np.integer) and not isinstance(index, bool)
    if not is_integer or not 0 <= index <= last:
        raise EnvError(f"{task.spec_name}: no problem {index!r:.80}; indices are whole numbers, 0 to {last}.")
    return int(index)


def read_problem(task: HasProblems, index: int) -> Problem:
    """Calls `task.problem(index)` and checks what it returns.

    Raises EnvError, which names task and problem,

    - if the call raises
    - if it returns no Problem with a text or a chat as its prompt
    - if prompt, prefix or template has half of a character (a lone surrogate, see `envs.text.surrogates`)
    - if the completion template cannot be read
    """
    problem = call_author(task, index, lambda: task.problem(index))
    if not isinstance(problem, Problem) or not is_prompt(problem.prompt):
        wanted = 'envs.Problem with a str or a list of {"role", "content"} as its prompt'
        raise broken(task, index, f"problem() returned {problem!r:.200}, not {wanted}.")
    texts = {
        "prompt": problem.prompt,
        "completion prefix": problem.completion_prefix,
        "completion template": problem.completion_template,
    }
    for name, text in texts.items():
        if flaw := half_character(text):
            raise broken(task, index, f"the {name} {flaw}")
    if problem.completion_template:
        try:
            read_holes(problem.completion_template)
        except ValueError as error:
            raise broken(task, index, f"the template {error}") from error
    return problem


def call_author(task: HasProblems, index: int, call: Callable[[], Any]) -> Any:
    """The result of `call`, which runs the author's code for one problem.

    EnvError is passed on, and any other error becomes the EnvError of `broken`.
    """
    try:
        with exit_is_error():
            return call()
    except EnvError:
        raise
    except Exception as error:
        # The message shows the innermost frame in the file of the task's class, which its author can mend; if there is
        # none, the innermost frame of all.
        frames = traceback.extract_tb(error.__traceback__)
        own_file = getattr(sys.modules.get(type(task).__module__), "__file__", None)
        shown = next((frame for frame in reversed(frames) if frame.filename == own_file), frames[-1])
        where = f"{shown.filename}:{shown.lineno}, in {shown.name}: {shown.line}"
        raise broken(task, index, f"{type(error).__name__} {error!s:.200}\n{where}") from error


def broken(task: HasProblems, index: int, why: str) -> EnvError:
    """The error that names a task and one of its problems."""
    return EnvError(f"{task.spec_name}, problem {index}: {why}")


def name_of(index: int, problem: Problem) -> str:
    """A problem's name in messages: "problem 3", or "problem 3 (rows.jsonl, line 4)" for a row of a file."""
    where = problem.metadata.get("where")
    return f"problem {index} ({where})" if isinstance(where, str) else f"problem {index}"
