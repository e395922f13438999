"""What an environment is: problems, scores, and the class that a task author derives from."""

import inspect
import re
import sys
import traceback
from abc import abstractmethod
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import gymnasium
import numpy as np

from envs.awaiting import Limits, Outcome, call_all, reason_of
from envs.errors import EnvError
from envs.halves import half_character

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
    task: str = ""
    """In an environment of several tasks the one that it belongs to, which that environment sets."""


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
    turns: list[str] = field(default_factory=list)
    replies: list[str] = field(default_factory=list)
    ended: bool = False
    result: str = ""


class TextEnv(gymnasium.Env[Prompt, str]):
    """A task over text: every episode shows one problem's prompt, takes one completion and pays for it.

    An author writes `__len__`, `problem` and `score` (or `score_batch`), sets `reward_weights`, and calls
    `envs.register`. `__init__` is free: it need not call `super().__init__()` nor take `render_mode`. An environment
    that answers back also sets `max_turns`, and writes `reply`.

    `score`, `score_turns`, `score_batch` and `reply` may be `async`, as where another model judges. Calls for many
    completions are then awaited side by side, `score_concurrency` at once, each for at most `score_timeout` seconds,
    and their results are in the order of the completions. They must not block: a client that is not `async` is called
    by `await asyncio.to_thread(...)`. Completions for which a method, `async` or not, raises earn 0 with the reason
    "error", of a TimeoutError "timeout"; a run counts them, and more than 5% of a step end it.
    """

    reward_weights: Mapping[str, float] = {}
    """{component: weight}; the reward is the weighted sum, weight 0 measures only; "correct" is a must."""
    reward_ranges: Mapping[str, tuple[float, float]] = {}
    """{component: (lowest, highest)} where that is not 0 to 1; `python -m envs check` looks at it."""
    max_turns: int = 1
    """The most completions of an episode, its turns; `reply` answers all but the last."""
    score_concurrency: int = 16
    """Where methods are `async`: how many calls each process awaits at once."""
    score_timeout: float = 60.0
    """Where methods are `async`: the seconds that a call may take; a longer one fails with the reason "timeout"."""
    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["ansi"], "render_fps": 1}
    observation_space = PromptText()
    action_space = Unicode()

    notice: str = ""
    """What a run should say about this environment before it starts; "" for nothing."""
    origin: Mapping[str, str] = {}
    """Where its data really came from, e.g. {"openai/gsm8k": "the commit"}; a run writes it down."""
    parts: Mapping[str, "TextEnv"] = {}
    """{task: its environment} where several are mixed."""
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

    def score(
        self, problem: Problem, completion: str
    ) -> Score | Mapping[str, float] | Awaitable[Score | Mapping[str, float]]:
        """What `completion` earns, component by component. Write this or `score_batch`; either may be `async`."""
        scores = self.score_batch([problem], [completion])
        return _only_later(scores) if inspect.isawaitable(scores) else _only(scores)

    def score_batch(
        self, problems: Sequence[Problem], completions: Sequence[str]
    ) -> Scores | Awaitable[Scores]:
        """What n completions earn, each for its own problem. Override it where a batch is faster.

        An `async` one has `score_timeout` seconds for the batch; where it fails, each completion is scored alone.
        """
        pairs = zip(problems, completions, strict=True)
        outcomes = _call_all(self, [partial(self.score_turns, problem, [text]) for problem, text in pairs])
        return _stacked(self, [_as_score(_value(outcome)) for outcome in outcomes])

    def reply(self, problem: Problem, turns: Sequence[str]) -> str | Awaitable[str | None] | None:
        """What answers the completions so far, or None where the episode is over: a pure function, as `problem` is."""
        return None

    def score_turns(
        self, problem: Problem, turns: Sequence[str]
    ) -> Score | Mapping[str, float] | Awaitable[Score | Mapping[str, float]]:
        """What an episode of these completions earns; by default what its last one does."""
        return self.score(problem, turns[-1])

    def feedback(self, problem: Problem, score: Score) -> str:
        """What `tries` says of a wrong completion: what was found, in a sentence that does not give the answer away."""
        if score.extracted is None:
            return "There is no answer between <answer> and </answer>."
        said = {"malformed": "The answer cannot be read.", "rule_broken": "The answer breaks a rule."}
        short = len(score.extracted) <= 40 and score.extracted.isprintable()
        wrong = f"The answer is not {score.extracted}." if short else "The answer is not right."
        return said.get(score.reason, wrong)

    def demonstration(self, problem: Problem) -> str | list[str]:
        """A completion that solves the problem, or one for each turn; raises EnvError where the author gave none."""
        raise EnvError(
            f"{self.spec_name} has no demonstrations. Write demonstration(self, problem) -> str: "
            "a completion that scores 1; `sft` and few-shot prompts are made from it."
        )

    def habits(self, problem: Problem) -> Mapping[str, str | list[str]]:
        """Named plausible completions of other quality, {"careless": "..."}; none by default.

        A text is written at every turn, a list from turn to turn.
        """
        return {}

    def render_text(self, problem: Problem, completion: str | None) -> str:
        """The problem and, if there is one, its completion, as text for a terminal, maybe in colours."""
        prompt = problem.prompt
        if not isinstance(prompt, str):
            prompt = "\n".join(f"{message['role']}: {message['content']}" for message in prompt)
        return prompt if completion is None else f"{prompt}\n{problem.completion_prefix}{completion}"

    # What Gymnasium and the trainer call.

    def part_of(self, problem: Problem) -> "TextEnv":
        """The environment that knows what a problem is worth: that of its task where several are mixed."""
        return self.parts.get(problem.task, self)

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
        """Takes a completion; returns (reply, 0.0, False, False, {"index": i}) while the environment answers.

        At the end it scores the episode and returns ("", reward, True, False, info), or ("", reward, False, True, info)
        where the environment would go on after `max_turns`. info: {"index", "rewards": {component: float}, "correct":
        bool, "reason": str, "extracted": str | None}. If the author's `reply` or `score` raises, the episode ends, all
        rewards are 0, the reason is "error" or "timeout" and info["traceback"] says where. Raises EnvError before
        `reset`, after the end, if `action` is not a string, or if reply or score is not valid.
        """
        episode = self._episode
        indices = [] if episode is None else [episode.index]
        check_step(self, indices, [action], ended=bool(indices) and episode.ended)
        turns = [*episode.turns, action]
        (reply,), raised = reply_all(self, indices, [episode.problem], [turns])
        goes_on = reply is not None
        if goes_on and len(turns) < self.max_turns:
            episode.turns, episode.replies = turns, [*episode.replies, reply]
            return reply, 0.0, False, False, {"index": episode.index}
        scored = score_all(self, indices, [episode.problem], [turns], raised)
        reward, reason = float(scored.total[0]), scored.reason[0]
        rewards = {name: float(values[0]) for name, values in scored.rewards.items()}
        info = {"index": episode.index, "rewards": rewards, "correct": rewards["correct"] == 1.0}
        info |= {"reason": reason, "extracted": scored.extracted[0]}
        if scored.traceback[0] is not None:
            info["traceback"] = scored.traceback[0]
        episode.turns, episode.ended = turns, True
        episode.result = f"reward {reward:g}, {reason or 'no reason given'}"
        return "", reward, not goes_on, goes_on, info

    def render(self) -> str | None:
        """The current problem, its completions and replies as text (`render_mode="ansi"`), otherwise None."""
        if self.render_mode is None:
            return None
        if self._episode is None:
            raise EnvError(f"{self.spec_name}: render() before reset(). Call reset() first.")
        episode = self._episode
        result = f"\n{episode.result}" if episode.result else ""
        return render_turns(self, episode.problem, episode.turns, episode.replies) + result


def render_turns(env: TextEnv, problem: Problem, turns: Sequence[str], replies: Sequence[str]) -> str:
    """An episode as text for a terminal: as `render_text` where there is one turn, else turn by turn."""
    env = env.part_of(problem)
    if len(turns) < 2 and not replies:
        return env.render_text(problem, turns[0] if turns else None)
    own = overrides(env, "render_text")
    lines = [] if own else [env.render_text(problem, None)]
    for number, turn in enumerate(turns):
        lines.append(env.render_text(problem, turn) if own else f"assistant: {turn}")
        lines += [f"user: {reply}" for reply in replies[number : number + 1]]
    return "\n".join(lines)


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
            if env.max_turns == 1
            else f"{env.spec_name}: step() after the end of problem {numbers}. Call reset() for the next problem."
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
    """env.problem(index); raises EnvError if it raises, is no Problem with a text or a chat as its prompt, or if that
    has half of a character."""
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
    if half := half_character([problem.prompt, problem.completion_prefix]):
        raise _broken(env, index, f"the prompt {half}")
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


def reply_all(
    env: TextEnv, indices: Sequence[int], problems: Sequence[Problem], turns: Sequence[Sequence[str]]
) -> tuple[list[str | None], list[str | None]]:
    """What the environment answers n episodes so far, None where one is over, and where the author's `reply` raised.

    An episode in which it raised is over. Raises EnvError, naming environment and problem, for a reply that is no text.
    """
    pairs = zip(problems, turns, strict=True)
    outcomes = _call_all(env, [partial(env.reply, problem, tuple(so_far)) for problem, so_far in pairs])
    for index, (reply, *_) in zip(indices, outcomes, strict=True):
        if not isinstance(reply, str | None):
            raise _broken(env, index, f"reply returned {reply!r:.80}; it must be a str, or None at the end.")
    return [outcome.value for outcome in outcomes], [outcome.traceback for outcome in outcomes]


def cause(env: TextEnv, trace: str) -> str:
    """An exception of the author's code with its file and line, of its traceback: the last one in his own file."""
    lines, file = trace.rstrip().splitlines(), getattr(sys.modules.get(type(env).__module__), "__file__", "")
    frames = [line.strip() for line in lines if line.startswith('  File "')]
    return f"{lines[-1]} ({next((frame for frame in reversed(frames) if str(file) in frame), frames[-1])})"


def chat(problem: Problem, turns: Sequence[str], replies: Sequence[str]) -> Prompt:
    """What the model reads after some completions, each with its reply: the problem's prompt, or the chat so far."""
    if not turns:
        return problem.prompt
    prompt = problem.prompt
    messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else list(prompt)
    for turn, reply in zip(turns, replies, strict=True):
        messages += [{"role": "assistant", "content": turn}, {"role": "user", "content": reply}]
    return messages


def play(
    env: TextEnv, index: int, problem: Problem, text: str | Sequence[str] | Callable[[int], str]
) -> tuple[list[str], list[str]]:
    """(completions, replies) of an episode in which the model writes `text`.

    text: the same at every turn, or one for each, or what makes it from the number of the turn. The episode ends where
    the environment ends it, at `max_turns`, or with the last text. Raises EnvError where texts are left after the end,
    or `reply` raises.
    """
    write = (
        text if callable(text) else ([text] * env.max_turns if isinstance(text, str) else text).__getitem__
    )
    most = len(text) if isinstance(text, Sequence) and not isinstance(text, str) else env.max_turns
    turns, replies = [], []
    for turn in range(most):
        turns.append(write(turn))
        (reply,), (trace,) = reply_all(env, [index], [problem], [turns])
        if trace is not None:
            raise _broken(env, index, f"reply raised after {turns!r:.200}: {cause(env, trace)}")
        if reply is None or len(turns) == env.max_turns:
            break
        replies.append(reply)
    if len(turns) < most and isinstance(text, Sequence) and not isinstance(text, str):
        why = (
            "" if reply is None else f", as max_turns of the class is {env.max_turns} (1 unless it says more)"
        )
        raise _broken(env, index, f"the episode is over after turn {len(turns)} of {text!r:.200}{why}")
    return turns, replies[: len(turns) - 1]


def score_all(
    env: TextEnv,
    indices: Sequence[int],
    problems: Sequence[Problem],
    completions: Sequence[str | Sequence[str]],
    raised: Sequence[str | None] = (),
) -> ScoredBatch:
    """Scores n completions, with one `score_batch` call where the author wrote it; one by his `score`, if there is one.

    completions: a text each, or those of all turns; the author's `score_turns` sees all of them, else the last is
    scored. raised: where `reply` raised in an episode, None where it did not; none are given where none did. An
    exception in the author's code marks only the completions that cause it, with reason "error", of a TimeoutError
    "timeout", and all rewards 0. Raises EnvError, naming environment and problem, for scores that break the contract: a
    component that is missing, unknown, not finite or not a number, a "correct" that is neither 0 nor 1, or a reason or
    extracted part that is no text.
    """
    if env.parts:
        return _score_parts(env, indices, problems, completions, raised)
    turns = list(map(as_turns, completions))
    last = [texts[-1] for texts in turns]
    traces: list[str | None] = [None] * len(problems)
    alone = len(problems) == 1 and overrides(env, "score")
    if alone or overrides(env, "score_turns") or not overrides(env, "score_batch"):
        scores, traces = _score_each(env, indices, problems, turns)
    else:
        (outcome,) = _call_all(env, [partial(env.score_batch, problems, last)])
        scores, error = outcome.value, outcome.error
        if error is not None:  # it does not say for which completion: scoring each alone does
            scores, traces = _score_each(env, indices, problems, turns)
            if not any(traces) and not inspect.iscoroutinefunction(env.score_batch):  # a service may recover
                raise EnvError(
                    f"{env.spec_name}: score_batch raised {error!r:.200} for {len(problems)} completions, but "
                    "scores each of them when alone; both must agree."
                ) from error
    _check_form(env, indices, scores)
    rewards = {name: _numbers(env, indices, name, scores.rewards[name]) for name in env.reward_weights}
    reason = [str(r) for r in scores.reason]
    for row in [row for row, trace in enumerate(raised) if trace is not None]:
        reason[row], traces[row] = reason_of(raised[row]), raised[row]
        for values in rewards.values():
            values[row] = 0.0
    total = np.zeros(len(traces))
    for name, weight in env.reward_weights.items():
        total += weight * rewards[name]
    return ScoredBatch(total, rewards, reason, list(scores.extracted), traces)


def _score_parts(
    env: TextEnv,
    indices: Sequence[int],
    problems: Sequence[Problem],
    completions: Sequence[str | Sequence[str]],
    raised: Sequence[str | None],
) -> ScoredBatch:
    """`score_all` where several tasks are mixed, each by its own; a component that a task does not have is NaN."""
    count = len(problems)
    rewards = {name: np.full(count, np.nan) for name in env.reward_weights}
    whole = ScoredBatch(np.zeros(count), rewards, [""] * count, [None] * count, [None] * count)
    for task, part in env.parts.items():
        rows = [row for row, problem in enumerate(problems) if problem.task == task]
        if not rows:
            continue
        mine = [[column[row] for row in rows] for column in (indices, problems, completions)]
        scored = score_all(part, *mine, [raised[row] for row in rows] if raised else ())
        whole.total[rows] = scored.total
        for name, values in scored.rewards.items():
            rewards[name][rows] = values
        for column in ("reason", "extracted", "traceback"):
            for row, value in zip(rows, getattr(scored, column), strict=True):
                getattr(whole, column)[row] = value
    return whole


def as_turns(text: str | Sequence[str]) -> tuple[str, ...]:
    """One completion, or those of all turns, as those of all turns."""
    return (text,) if isinstance(text, str) else tuple(text)


def overrides(env: TextEnv, method: str) -> bool:
    """Whether the author wrote this method himself."""
    return getattr(getattr(env, method), "__func__", None) is not getattr(TextEnv, method)


def _score_each(
    env: TextEnv, indices: Sequence[int], problems: Sequence[Problem], turns: Sequence[Sequence[str]]
) -> tuple[Scores, list[str | None]]:
    """(the scores, the traceback of each that raised)."""
    pairs = zip(problems, turns, strict=True)
    outcomes = _call_all(env, [partial(env.score_turns, problem, texts) for problem, texts in pairs])
    rows = []
    for index, outcome in zip(indices, outcomes, strict=True):
        row = _as_score(outcome.value)
        if outcome.error is not None:
            row = Score(dict.fromkeys(env.reward_weights, 0.0), outcome.reason)
        if not isinstance(row, Score) or not isinstance(row.rewards, Mapping):
            raise _broken(env, index, f"score returned {row!r:.80}, not envs.Score or {{component: number}}.")
        _check_names(env, index, row.rewards)
        rows.append(row)
    return _stacked(env, rows), [outcome.traceback for outcome in outcomes]


def _call_all(env: TextEnv, calls: Sequence[Callable[[], Any]]) -> list[Outcome]:
    return call_all(env.spec_name, calls, Limits(env.score_concurrency, env.score_timeout))


def _value(outcome: Outcome) -> Any:
    if outcome.error is not None:
        raise outcome.error
    return outcome.value


async def _only_later(scores: Awaitable[Scores]) -> Score:
    return _only(await scores)


def _only(scores: Scores) -> Score:
    """The score of a batch of one."""
    rewards = {name: float(values[0]) for name, values in scores.rewards.items()}
    return Score(rewards, scores.reason[0], scores.extracted[0])


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
