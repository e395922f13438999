"""What an environment is: problems, scores, and the class that a task author derives from."""

import re
import sys
import traceback
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import gymnasium
import numpy as np

from envs.errors import EnvError

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
    """Text with which every completion begins, written for the model."""
    metadata: dict[str, Any] = field(default_factory=dict)
    """Whatever else is worth knowing: a solution, a level; never shown to the model."""


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


_SAMPLES = "abcdefghijklmnopqrstuvwxyz 0123456789<>/\\{}=+-é±中"


class Unicode(gymnasium.Space[str]):
    """Every string. (`gymnasium.spaces.Text` knows only a fixed set of characters.)"""

    is_np_flattenable = False

    def sample(self, mask: None = None, probability: None = None) -> str:
        """A short random text; there are no masks or probabilities of texts."""
        picks = self.np_random.integers(len(_SAMPLES), size=int(self.np_random.integers(40)))
        return "".join(_SAMPLES[i] for i in picks)

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


@dataclass
class _Episode:
    index: int
    problem: Problem
    completion: str | None = None
    result: str = ""


class TextEnv(gymnasium.Env[Prompt, str]):
    """A task over text: every episode shows one problem's prompt, takes one completion and pays for it.

    An author writes `__len__`, `problem` and `score` (or `score_batch`), sets `reward_weights`, and calls
    `envs.register`. `__init__` is free: it need not call `super().__init__()` nor take `render_mode`.
    """

    reward_weights: Mapping[str, float] = {}
    """{component: weight}; the reward is the weighted sum, weight 0 measures only; "correct" is a must."""
    reward_ranges: Mapping[str, tuple[float, float]] = {}
    """{component: (lowest, highest)} where that is not 0 to 1; `python -m envs check` looks at it."""
    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["ansi"], "render_fps": 1}
    observation_space = PromptText()
    action_space = Unicode()

    notice: str = ""
    """What a run should say about this environment before it starts; "" for nothing."""
    origin: Mapping[str, str] = {}
    """Where its data really came from, e.g. {"openai/gsm8k": "the commit"}; a run writes it down."""
    _env_id: str | None = None
    _env_arguments: Mapping[str, Any] = {}
    _episode: "_Episode | None" = None

    # What an author writes.

    @abstractmethod
    def __len__(self) -> int:
        """How many problems this split has."""

    @abstractmethod
    def problem(self, index: int) -> Problem:
        """Problem number `index` (0 <= index < len(self)), a pure function of arguments and index."""

    def score(self, problem: Problem, completion: str) -> Score | Mapping[str, float]:
        """What `completion` earns, component by component. Write this or `score_batch`."""
        scores = self.score_batch([problem], [completion])
        rewards = {name: float(values[0]) for name, values in scores.rewards.items()}
        return Score(rewards, scores.reason[0], scores.extracted[0])

    def score_batch(self, problems: Sequence[Problem], completions: Sequence[str]) -> Scores:
        """What n completions earn, each for its own problem. Override it where a batch is faster."""
        return _stacked(
            self, [_as_score(self.score(*pair)) for pair in zip(problems, completions, strict=True)]
        )

    def demonstration(self, problem: Problem) -> str:
        """A completion that solves the problem; raises EnvError where the author gave none."""
        raise EnvError(
            f"{self.spec_name} has no demonstrations. Write demonstration(self, problem) -> str: "
            "a completion that scores 1; `sft` and few-shot prompts are made from it."
        )

    def habits(self, problem: Problem) -> dict[str, str]:
        """Named plausible completions of other quality, {"careless": "..."}; none by default."""
        return {}

    def render_text(self, problem: Problem, completion: str | None) -> str:
        """The problem and, if there is one, its completion, as text for a terminal, maybe in colours."""
        prompt = problem.prompt
        if not isinstance(prompt, str):
            prompt = "\n".join(f"{message['role']}: {message['content']}" for message in prompt)
        return prompt if completion is None else f"{prompt}\n{problem.completion_prefix}{completion}"

    # What Gymnasium and the trainer call.

    @property
    def spec_name(self) -> str:
        """The name under which results are shown: the short name and the arguments that shape the task."""
        id = self._env_id
        base = id.rpartition("/")[2].rpartition("-v")[0].lower() if id else type(self).__name__
        given = {name: value for name, value in self._env_arguments.items() if name != "split"}
        arguments = [Path(v).name if name == "source" else f"{name}={v}" for name, v in given.items()]
        return f"{base}[{','.join(arguments)}]" if arguments else base

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Prompt, dict[str, Any]]:
        """Starts an episode; returns (prompt, {"index": i}).

        options: {"index": i} picks the problem; without it a random one is drawn from `np_random` (see
        `seed`). Raises EnvError for an index outside 0 .. len(self) - 1.
        """
        super().reset(seed=seed)
        index = check_index(self, choose_index(self, self.np_random, options))
        self._episode = _Episode(index, read_problem(self, index))
        return self._episode.problem.prompt, {"index": index}

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        """Scores the completion and ends the episode; returns ("", reward, True, False, info).

        info: {"index", "rewards": {component: float}, "correct": bool, "reason": str, "extracted": str |
        None}. If the author's `score` raises, all rewards are 0, the reason is "error" and info["traceback"]
        says where. Raises EnvError before `reset`, on a second step, if `action` is not a string, or if the
        score is not valid.
        """
        episode = self._episode
        indices = [] if episode is None else [episode.index]
        check_step(self, indices, [action], ended=bool(indices) and episode.completion is not None)
        scored = score_all(self, indices, [episode.problem], [action])
        reward, reason = float(scored.total[0]), scored.reason[0]
        rewards = {name: float(values[0]) for name, values in scored.rewards.items()}
        info = {"index": episode.index, "rewards": rewards, "correct": rewards["correct"] == 1.0}
        info |= {"reason": reason, "extracted": scored.extracted[0]}
        if scored.traceback[0] is not None:
            info["traceback"] = scored.traceback[0]
        episode.completion, episode.result = action, f"reward {reward:g}, {reason or 'no reason given'}"
        return "", reward, True, False, info

    def render(self) -> str | None:
        """The current problem and completion as text (`render_mode="ansi"`), otherwise None."""
        if self.render_mode is None:
            return None
        if self._episode is None:
            raise EnvError(f"{self.spec_name}: render() before reset(). Call reset() first.")
        episode = self._episode
        result = f"\n{episode.result}" if episode.result else ""
        return self.render_text(episode.problem, episode.completion) + result


def choose_index(
    env: TextEnv, rng: np.random.Generator, options: Mapping[str, Any] | None, size: int | None = None
) -> Any:
    """What `options` of `reset` give as "index", unchecked, or a random index, of shape (size,) if that is given."""
    for name in options or {}:
        if name != "index":
            raise EnvError(f'{env.spec_name}: reset() knows no option "{name}"; the only one is "index".')
    index = (options or {}).get("index")
    if index is not None:
        return index
    if (length := len(env)) < 1:
        raise EnvError(f"{env.spec_name} has no problems (length {length}); __len__ must be at least 1.")
    return rng.integers(length, size=size)


def check_step(env: TextEnv, indices: Sequence[int], actions: Sequence[Any], *, ended: bool) -> None:
    """Raises EnvError unless the problems `indices` wait for completions and `actions` are strings."""
    if not indices:
        raise EnvError(f"{env.spec_name}: step() before reset(). Call reset() first; it returns the prompt.")
    if ended:
        numbers = ", ".join(map(str, indices[:4]))
        raise EnvError(
            f"{env.spec_name}: a second step() on problem {numbers}. Call reset() for the next problem."
        )
    for index, action in zip(indices, actions, strict=True):
        if not isinstance(action, str):
            raise _broken(env, index, f"the action is {action!r:.80}; it must be the completion as a str.")


def check_index(env: TextEnv, index: Any) -> int:
    """`index` as an int; raises EnvError unless it is a whole number from 0 to len(env) - 1."""
    whole, last = isinstance(index, int | np.integer) and not isinstance(index, bool), len(env) - 1
    if not whole or not 0 <= index <= last:
        raise EnvError(f"{env.spec_name}: no problem {index!r:.80}; indices are whole numbers, 0 to {last}.")
    return int(index)


def summary(cls: type[TextEnv]) -> str:
    """What a task is, in its author's words: the first paragraph of its docstring, without ids; maybe nothing."""
    text = re.sub(r" ?\(`.*?`\)", "", (cls.__doc__ or "").strip().partition("\n\n")[0])
    return " ".join(text.split())


def read_problem(env: TextEnv, index: int) -> Problem:
    """env.problem(index); raises EnvError if it raises, or is no Problem with a text or a chat as its prompt."""
    try:
        problem = env.problem(index)
    except EnvError:
        raise
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        file = getattr(sys.modules.get(type(env).__module__), "__file__", None)
        last = next((frame for frame in reversed(frames) if frame.filename == file), frames[-1])
        where = f"{last.filename}:{last.lineno}, in {last.name}: {last.line}"
        raise _broken(env, index, f"{type(error).__name__} {error!s:.200}\n{where}") from error
    if not isinstance(problem, Problem) or not env.observation_space.contains(problem.prompt):
        wanted = 'envs.Problem with a str or a list of {"role", "content"} as its prompt'
        raise _broken(env, index, f"problem() returned {problem!r:.200}, not {wanted}.")
    return problem


@dataclass(frozen=True)
class ScoredBatch:
    """The checked scores of n completions.

    total: (n,) float64, the weighted sum of the components. rewards: {component: (n,) float64}, in the order of
    `reward_weights`. traceback: where the author's `score` raised, None where it did not.
    """

    total: np.ndarray
    rewards: dict[str, np.ndarray]
    reason: list[str]
    extracted: list[str | None]
    traceback: list[str | None]


def score_all(
    env: TextEnv, indices: Sequence[int], problems: Sequence[Problem], completions: Sequence[str]
) -> ScoredBatch:
    """Scores n completions, with one `score_batch` call where the author wrote it; one by his `score`, if there is one.

    An exception in the author's code marks only the completions that cause it, with reason "error" and all
    rewards 0. Raises EnvError, naming environment and problem, for scores that break the contract: a
    component that is missing, unknown, not finite or not a number, a "correct" that is neither 0 nor 1, or a
    reason or extracted part that is no text.
    """
    traces: list[str | None] = [None] * len(problems)
    if not _overrides(env, "score_batch") or (len(problems) == 1 and _overrides(env, "score")):
        scores, traces = _score_each(env, indices, problems, completions)
    else:
        try:
            scores = env.score_batch(problems, completions)
        except Exception as error:  # it does not say for which completion: scoring each alone does
            scores, traces = _score_each(env, indices, problems, completions)
            if not any(traces):
                raise EnvError(
                    f"{env.spec_name}: score_batch raised {error!r:.200} for {len(problems)} completions, but "
                    "scores each of them when alone; both must agree."
                ) from error
    _check_form(env, indices, scores)
    rewards = {name: _numbers(env, indices, name, scores.rewards[name]) for name in env.reward_weights}
    total = np.zeros(len(traces))
    for name, weight in env.reward_weights.items():
        total += weight * rewards[name]
    return ScoredBatch(total, rewards, [str(r) for r in scores.reason], list(scores.extracted), traces)


def _overrides(env: TextEnv, method: str) -> bool:
    return getattr(getattr(env, method), "__func__", None) is not getattr(TextEnv, method)


def _score_each(
    env: TextEnv, indices: Sequence[int], problems: Sequence[Problem], completions: Sequence[str]
) -> tuple[Scores, list[str | None]]:
    """(the scores, the traceback of each that raised)."""
    rows, traces = [], []
    for index, problem, completion in zip(indices, problems, completions, strict=True):
        trace = None
        try:
            row = _as_score(env.score(problem, completion))
        except Exception:
            row, trace = Score(dict.fromkeys(env.reward_weights, 0.0), "error"), traceback.format_exc()
        if not isinstance(row, Score) or not isinstance(row.rewards, Mapping):
            raise _broken(env, index, f"score returned {row!r:.80}, not envs.Score or {{component: number}}.")
        _check_names(env, index, row.rewards)
        rows.append(row)
        traces.append(trace)
    return _stacked(env, rows), traces


def _as_score(value: Any) -> Any:
    """What `score` returned; a plain dict of rewards as a Score."""
    return Score(dict(value)) if isinstance(value, Mapping) else value


def _stacked(env: TextEnv, rows: Sequence[Score]) -> Scores:
    rewards = {name: [row.rewards[name] for row in rows] for name in env.reward_weights}
    return Scores(rewards, [row.reason for row in rows], [row.extracted for row in rows])


def _broken(env: TextEnv, index: int, why: str) -> EnvError:
    return EnvError(f"{env.spec_name}, problem {index}: {why}")


def _check_form(env: TextEnv, indices: Sequence[int], scores: Any) -> None:
    """Raises EnvError unless `scores` is a Scores with every component and an entry for each index in every column."""
    if not isinstance(scores, Scores) or not isinstance(scores.rewards, Mapping):
        raise _broken(env, indices[0], f"score_batch returned {scores!r:.80}; it must return envs.Scores.")
    _check_names(env, indices[0], scores.rewards)
    for name, values in {**scores.rewards, "reason": scores.reason, "extracted": scores.extracted}.items():
        entries = isinstance(values, Sequence | np.ndarray) and not isinstance(values, str)
        if not entries or len(values) != len(indices):
            wrong = f"score_batch returned {name}={values!r:.80} for {len(indices)} completions"
            raise _broken(env, indices[0], f"{wrong}; it must have an entry for each.")
    for index, reason, extracted in zip(indices, scores.reason, scores.extracted, strict=True):
        if not isinstance(reason, str) or not isinstance(extracted, str | None):
            wrong = f"reason={reason!r:.80} and extracted={extracted!r:.80}"
            raise _broken(env, index, f"the score has {wrong}; they must be a str, and a str or None.")


def _check_names(env: TextEnv, index: int, rewards: Mapping[str, Any]) -> None:
    if rewards.keys() != env.reward_weights.keys():
        components = f"the components {', '.join(rewards)}; they must be {', '.join(env.reward_weights)}."
        raise _broken(env, index, f"the score has {components}")


def _numbers(env: TextEnv, indices: Sequence[int], name: str, values: Any) -> np.ndarray:
    """`values` as (n,) float64, every one finite; "correct" 0 or 1."""
    kinds = int | float | np.integer | np.floating | np.bool_
    numbers = np.array([value if isinstance(value, kinds) else np.nan for value in values], np.float64)
    valid = ((numbers == 0) | (numbers == 1)) if name == "correct" else np.isfinite(numbers)
    if not valid.all():
        row = int(np.argmin(valid))
        wanted = "0 or 1" if name == "correct" else "a finite number"
        raise _broken(env, indices[row], f'"{name}" is {values[row]!r:.80}; it must be {wanted}.')
    return numbers
