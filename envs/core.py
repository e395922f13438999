"""The environment a task author derives from: Gymnasium's words, a prompt, a completion, one step."""

import inspect
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import gymnasium
import numpy as np

from envs.errors import EnvError, nearest
from envs.records import Problem, Prompt, Score, Scores
from envs.scoring import as_score, as_single, score_all
from envs.spaces import PromptText, Unicode


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

    def __len__(self) -> int:
        """How many problems this split has."""
        raise EnvError(
            f"{type(self).__name__} does not say how many problems it has: write __len__(self) -> int."
        )

    def problem(self, index: int) -> Problem:
        """Problem number `index` (0 <= index < len(self)), a pure function of arguments and index."""
        raise EnvError(f"{type(self).__name__} has no problems: write problem(self, index) -> envs.Problem.")

    def score(self, problem: Problem, completion: str) -> Score | Mapping[str, float]:
        """What `completion` earns, component by component. Write this or `score_batch`."""
        if not self._batched:
            raise EnvError(f"{type(self).__name__} cannot judge: write score(self, problem, completion).")
        return as_single(self.score_batch([problem], [completion]))

    def score_batch(self, problems: Sequence[Problem], completions: Sequence[str]) -> Scores:
        """What n completions earn, each for its own problem. Override it where a batch is faster."""
        rows = [as_score(self.score(p, c)) for p, c in zip(problems, completions, strict=True)]
        names = rows[0].rewards if rows else self.reward_weights
        rewards = {name: np.array([row.rewards[name] for row in rows], np.float64) for name in names}
        return Scores(rewards, [row.reason for row in rows], [row.extracted for row in rows])

    def demonstration(self, problem: Problem) -> str:
        """A completion that solves the problem; raises EnvError where the author gave none."""
        raise EnvError(
            f"{self.spec_name} has no demonstrations. Write demonstration(self, problem) -> str: "
            "a completion that scores 1; `sft` and few-shot prompts are made from it."
        )

    def habits(self, problem: Problem) -> dict[str, str]:
        """Named plausible completions of other quality, {"careless": "..."}; none by default."""
        return {}

    def picture(self, problem: Problem, completion: str | None) -> str:
        """The problem and, if there is one, its completion, as text for a terminal, maybe in colours."""
        prompt = problem.prompt
        if not isinstance(prompt, str):
            prompt = "\n".join(f"{message['role']}: {message['content']}" for message in prompt)
        return prompt if completion is None else f"{prompt}\n{problem.completion_prefix}{completion}"

    # What Gymnasium and the trainer call.

    @property
    def _batched(self) -> bool:
        """Whether the author wrote `score_batch`."""
        return type(self).score_batch is not TextEnv.score_batch

    @property
    def spec_name(self) -> str:
        """The name under which results are shown: the short name and the arguments that shape the task."""
        base = (
            self._env_id.rpartition("/")[2].rpartition("-v")[0].lower()
            if self._env_id
            else type(self).__name__
        )
        told = [
            _source_name(str(value)) if name == "source" else f"{name}={value}"
            for name, value in self._env_arguments.items()
            if name not in ("split", "reward_weights")
        ]
        return f"{base}[{','.join(told)}]" if told else base

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Prompt, dict[str, Any]]:
        """Starts an episode; returns (prompt, {"index": i}).

        options: {"index": i} picks the problem; without it a random one is drawn from `np_random` (see
        `seed`). Raises EnvError for an index outside 0 .. len(self) - 1.
        """
        super().reset(seed=seed)
        index = read_options(self, options)
        if index is None:
            index = self.np_random.integers(check_length(self))
        index = check_index(self, index)
        self._episode = _Episode(index, read_problem(self, index))
        return self._episode.problem.prompt, {"index": index}

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        """Judges the completion and ends the episode; returns ("", reward, True, False, info).

        info: {"index", "rewards": {component: float}, "correct": bool, "reason": str, "extracted": str |
        None}. If the author's `score` raises, all rewards are 0, the reason is "error" and info["traceback"]
        says where. Raises EnvError before `reset`, on a second step, if `action` is not a string, or if the
        score is not valid.
        """
        episode = self._episode
        if episode is None:
            raise EnvError(
                f"{self.spec_name}: step() before reset(). Call reset() first; it returns the prompt."
            )
        if episode.completion is not None:
            raise EnvError(
                f"{self.spec_name}: a second step() on problem {episode.index}; an episode is one step. "
                "Call reset() for the next problem."
            )
        if not isinstance(action, str):
            raise EnvError(
                f"{self.spec_name}, problem {episode.index}: the action is {action!r:.80} "
                f"({type(action).__name__}), but it must be the completion as a str."
            )
        judged = score_all(self, [episode.index], [episode.problem], [action], batched=False)
        rewards = {name: float(values[0]) for name, values in judged.rewards.items()}
        info = {
            "index": episode.index,
            "rewards": rewards,
            "correct": rewards["correct"] == 1.0,
            "reason": judged.reason[0],
            "extracted": judged.extracted[0],
        }
        if judged.traceback[0] is not None:
            info["traceback"] = judged.traceback[0]
        reward = float(judged.total[0])
        episode.completion = action
        episode.result = f"reward {reward:g}, {judged.reason[0] or 'no reason given'}"
        return "", reward, True, False, info

    def render(self) -> str | None:
        """The current problem and completion as text if `render_mode="ansi"`, otherwise None."""
        if self.render_mode != "ansi":
            return None
        if self._episode is None:
            raise EnvError(f"{self.spec_name}: render() before reset(). Call reset() first.")
        shown = self.picture(self._episode.problem, self._episode.completion)
        return f"{shown}\n{self._episode.result}" if self._episode.result else shown


def _source_name(source: str) -> str:
    """`generated`, `hub`, or the last part of a path, which is told from those two: a folder `./hub` stays `./hub`."""
    last = source.replace("\\", "/").rstrip("/").rpartition("/")[2]
    return f"./{last}" if last != source and last in ("generated", "hub") else last


def read_options(env: TextEnv, options: Mapping[str, Any] | None) -> Any:
    """options["index"], or None; raises EnvError for options that do not exist."""
    for name in options or {}:
        if name != "index":
            raise EnvError(f'{env.spec_name}: reset() knows no option "{name}"; the only one is "index".')
    return (options or {}).get("index")


def check_length(env: TextEnv) -> int:
    """len(env), at least 1; raises EnvError if there is no problem to draw."""
    if (length := len(env)) < 1:
        raise EnvError(
            f"{env.spec_name} has no problems (its length is {length}); __len__ must be at least 1."
        )
    return length


def check_index(env: TextEnv, index: Any) -> int:
    """`index` as an int; raises EnvError unless it is a whole number from 0 to len(env) - 1."""
    whole = isinstance(index, int | np.integer) and not isinstance(index, bool)
    if not whole or not 0 <= index < len(env):
        raise EnvError(
            f"{env.spec_name}: no problem {index!r:.80}; indices are whole numbers, 0 to {len(env) - 1}."
        )
    return int(index)


def read_problem(env: TextEnv, index: int) -> Problem:
    """env.problem(index); raises EnvError if it raises, or is no Problem with a text or a chat as its prompt."""
    try:
        problem = env.problem(index)
    except EnvError:
        raise
    except Exception as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        words = ", ".join(repr(argument) for argument in error.args)
        raise EnvError(
            f"problem {index} of {env._env_id or env.spec_name}: {type(error).__name__} {words:.200}\n"
            f"{last.filename}:{last.lineno}, in {last.name}: {last.line}"
        ) from error
    if not isinstance(problem, Problem) or not env.observation_space.contains(problem.prompt):
        raise EnvError(
            f"{env.spec_name}, problem {index}: problem() returned {problem!r:.200}; it must return "
            'envs.Problem with a str or a list of {"role", "content"} as its prompt.'
        )
    return problem


def merged_weights(
    name: str, weights: Mapping[str, float], changes: Mapping[str, float] | None
) -> dict[str, float]:
    """`weights` with `changes` laid over them; raises EnvError for an unknown component or a bad weight."""
    if "correct" not in weights:
        raise EnvError(
            f'{name}: reward_weights has {sorted(weights)}, but a component "correct" is required.'
        )
    if changes is not None and not isinstance(changes, Mapping):
        raise EnvError(f"{name}: reward_weights={changes!r:.80} is not a dict such as {dict(weights)}.")
    for component in changes or {}:
        if component not in weights:
            raise EnvError(
                f'{name}: no reward component "{component}". {nearest(str(component), weights)}'
                f"Known: {', '.join(weights)}."
            )
    merged = {**weights, **(changes or {})}
    for component, weight in merged.items():
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not np.isfinite(weight):
            raise EnvError(
                f"{name}: the weight of {component} is {weight!r:.80}; it must be a finite number."
            )
    return {component: float(weight) for component, weight in merged.items()}


def check_class(cls: Any, id: str) -> None:
    """Raises EnvError unless `cls` is a TextEnv class that has all an environment needs."""
    if not (inspect.isclass(cls) and issubclass(cls, TextEnv)):
        raise EnvError(f"{id}: {cls!r:.80} is not a class derived from envs.TextEnv.")
    missing = [name for name in ("__len__", "problem") if getattr(cls, name) is getattr(TextEnv, name)]
    if cls.score is TextEnv.score and cls.score_batch is TextEnv.score_batch:
        missing.append("score")
    if missing:
        raise EnvError(f"{id}: {cls.__name__} lacks {', '.join(missing)}; an environment must define it.")
    merged_weights(id, cls.reward_weights, None)
