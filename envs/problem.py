"""A problem, what a completion of it earned, and how a problem is picked from an environment and read."""

import sys
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np

from envs.errors import EnvError
from envs.halves import half_character
from envs.holes import read_holes

if TYPE_CHECKING:
    from envs.core import TextEnv

Prompt = str | list[dict[str, str]]
"""A user's text, or a chat: [{"role": "user", "content": "..."}, ...]."""


@dataclass(frozen=True)
class Problem:
    """One task: what the model is shown, and what its answer is judged by."""

    prompt: Prompt
    """What the model reads."""
    reference: dict[str, Any]
    """The keyword fields that `verifiers.verify` takes for this task, e.g. {"puzzle": "0310..."}."""
    completion_prefix: str = ""
    """The text with which every completion begins: the model goes on from it."""
    metadata: dict[str, Any] = field(default_factory=dict)
    """Whatever else is worth knowing: a solution, a level; never shown to the model."""
    task: str = ""
    """The name of the problem's task in a mixture of several tasks, which sets it; "" in any other environment."""
    completion_template: str = ""
    """A text with holes; filled in by the model, it is the completion. `[MASK]` is a hole for one token, `[MASK*8]` for
    eight, `[MASK*]` for all that there is room for (`envs.holes`). "" = no template: the model writes everything."""


@dataclass(frozen=True)
class Score:
    """The verdict on one completion, component by component."""

    rewards: dict[str, float]
    """One finite number for each name in the environment's `reward_weights`; "correct" is 0 or 1."""
    reason: str = ""
    """The outcome in a word: "ok", "wrong", "no_answer", ..."""
    extracted: str | None = None
    """The part of the completion that was scored."""


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


# `Unicode.sample` makes its texts of these.
_CHARACTERS = "abcdefghijklmnopqrstuvwxyz 0123456789<>/\\{}=+-é±中"


class Unicode(gymnasium.Space[str]):
    """Every string. (`gymnasium.spaces.Text` knows only a fixed set of characters.)"""

    is_np_flattenable = False

    def sample(self, mask: None = None, probability: None = None) -> str:
        """A short random text; there are no masks or probabilities of texts."""
        picks = self.np_random.integers(len(_CHARACTERS), size=int(self.np_random.integers(40)))
        return "".join(_CHARACTERS[i] for i in picks)

    def contains(self, x: Any) -> bool:
        return isinstance(x, str)

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self)

    def __hash__(self) -> int:
        return hash(type(self))

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


class PromptText(Unicode):
    """Every string, and every chat: a list of {"role": str, "content": str}."""

    def contains(self, x: Any) -> bool:
        return isinstance(x, str) or (isinstance(x, list) and all(map(_is_message, x)))


def _is_message(x: Any) -> bool:
    return isinstance(x, dict) and all(isinstance(x.get(key), str) for key in ("role", "content"))


def choose_index(
    env: "TextEnv", rng: np.random.Generator, options: Mapping[str, Any] | None, size: int | None = None
) -> Any:
    """The "index" in the `options` of `reset`, as it is given; without one, a random index, or (size,) random ones."""
    for name in options or {}:
        if name != "index":
            raise EnvError(f'{env.spec_name}: reset() knows no option "{name}"; the only one is "index".')
    index = (options or {}).get("index")
    if index is not None:
        return index
    if (length := len(env)) < 1:
        raise EnvError(f"{env.spec_name} has no problems (length {length}); __len__ must be at least 1.")
    return rng.integers(length, size=size)


def check_index(env: "TextEnv", index: Any) -> int:
    """`index` as an int; raises EnvError unless it is a whole number from 0 to len(env) - 1."""
    last = len(env) - 1
    is_integer = isinstance(index, int | np.integer) and not isinstance(index, bool)
    if not is_integer or not 0 <= index <= last:
        raise EnvError(f"{env.spec_name}: no problem {index!r:.80}; indices are whole numbers, 0 to {last}.")
    return int(index)


def read_problem(env: "TextEnv", index: int) -> Problem:
    """Calls `env.problem(index)` and checks what it returns.

    Raises EnvError, naming environment and problem, if the call raises, if it returns no Problem with a text or a chat
    as its prompt, if the prompt, prefix or template holds half of a character (a lone surrogate, see `envs.halves`), or
    if the completion template cannot be read.
    """
    try:
        problem = env.problem(index)
    except EnvError:
        raise
    except Exception as error:
        # The message shows the innermost frame that is in the file of the environment's class, which its author can
        # mend; if no frame is, the innermost of all.
        frames = traceback.extract_tb(error.__traceback__)
        own_file = getattr(sys.modules.get(type(env).__module__), "__file__", None)
        shown = next((frame for frame in reversed(frames) if frame.filename == own_file), frames[-1])
        where = f"{shown.filename}:{shown.lineno}, in {shown.name}: {shown.line}"
        raise broken(env, index, f"{type(error).__name__} {error!s:.200}\n{where}") from error
    if not isinstance(problem, Problem) or not env.observation_space.contains(problem.prompt):
        wanted = 'envs.Problem with a str or a list of {"role", "content"} as its prompt'
        raise broken(env, index, f"problem() returned {problem!r:.200}, not {wanted}.")
    texts = {
        "prompt": problem.prompt,
        "completion prefix": problem.completion_prefix,
        "completion template": problem.completion_template,
    }
    for name, text in texts.items():
        if flaw := half_character(text):
            raise broken(env, index, f"the {name} {flaw}")
    if problem.completion_template:
        try:
            read_holes(problem.completion_template)
        except ValueError as error:
            raise broken(env, index, f"the template {error}") from error
    return problem


def broken(env: "TextEnv", index: int, why: str) -> EnvError:
    """The error that names an environment and one of its problems."""
    return EnvError(f"{env.spec_name}, problem {index}: {why}")


def name_of(index: int, problem: Problem) -> str:
    """What messages call a problem: "problem 3", or "problem 3 (rows.jsonl, line 4)" where it is a row of a file."""
    where = problem.metadata.get("where")
    return f"problem {index} ({where})" if isinstance(where, str) else f"problem {index}"
