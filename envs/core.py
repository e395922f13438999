"""The class that a task author derives from, and its face to Gymnasium: one episode at a time."""

import hashlib
import inspect
import re
from abc import abstractmethod
from collections.abc import Awaitable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import gymnasium

from envs import shared_memory  # noqa: F401 (so that AsyncVectorEnv knows our space)
from envs.awaiting import value_of
from envs.episodes import Episodes, before_reset
from envs.errors import EnvError, NoDemonstration
from envs.problem import Problem, Prompt, PromptText, Score, Scores, Unicode, check_index, choose_index
from envs.scoring import Scoring, call_scores, default, stacked, writes


class TextEnv(gymnasium.Env[Prompt, str]):
    """A task over text: every episode shows one problem's prompt, takes one completion and pays for it.

    An author writes `__len__`, `problem` and `score` (or `score_batch`), sets `reward_weights`, and calls
    `envs.register`. `__init__` is free: it need not call `super().__init__()` nor take `render_mode`. An environment
    that answers back also sets `max_turns`, and writes `reply`.

    `score`, `score_turns`, `score_batch` and `reply` may be `async`, e.g. because they ask another model. Calls for
    many completions are then awaited side by side, `score_concurrency` at once, each for at most `score_timeout`
    seconds, and their results are in the order of the completions. An `async` method must not block: it calls a client
    that is not `async` by `await asyncio.to_thread(...)`. If a method, `async` or not, raises for a completion, that
    completion earns 0 with the reason "error" ("timeout" for a TimeoutError). A run counts these, and stops when they
    are more than 5% of a step.
    """

    reward_weights: Mapping[str, float] = {}
    """{component: weight}. The reward is the weighted sum of all components, of which one must be called "correct". A
    component with weight 0 is measured and shown, not paid."""
    reward_ranges: Mapping[str, tuple[float, float]] = {}
    """{component: (lowest, highest)} of those that may leave 0 to 1; `python -m envs check` refuses other values."""
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
    """Where the data really came from, e.g. {"openai/gsm8k": "the commit"}; a run writes it down."""
    parts: Mapping[str, "TextEnv"] = {}
    """In a mixture of tasks {task: its environment}; empty in any other environment."""
    _env_id: str | None = None
    """The id under which `make` opened it, e.g. "spg/GSM8K-v0"; None where its class was called directly."""
    _env_arguments: Mapping[str, Any] = {}
    """The arguments that `make` was given, without those that are the default."""
    _scoring: ClassVar[Scoring]
    """Which of the methods below scores episodes; `envs.scoring` decides it once for each class."""
    _episode: Episodes | None = None
    """The episode that `reset` started."""

    # What an author writes. A method that is marked `default` stands in for one that the author leaves out. The
    # defaults of `score` and `score_batch` call each other: that ends, as `register` asks the author for one of them.

    @abstractmethod
    def __len__(self) -> int:
        """How many problems this split has."""

    @abstractmethod
    def problem(self, index: int) -> Problem:
        """Problem number `index` (0 <= index < len(self)), a pure function of arguments and index."""

    @default
    def score(
        self, problem: Problem, completion: str
    ) -> Score | Mapping[str, float] | Awaitable[Score | Mapping[str, float]]:
        """What `completion` earns, component by component. Write this or `score_batch`; either may be `async`."""
        scores = self.score_batch([problem], [completion])
        return _awaited_score_of_one(scores) if inspect.isawaitable(scores) else _score_of_one(scores)

    @default
    def score_batch(
        self, problems: Sequence[Problem], completions: Sequence[str]
    ) -> Scores | Awaitable[Scores]:
        """What n completions earn, each for its own problem. Override it where a batch is faster.

        An `async` one has `score_timeout` seconds for the batch; where it fails, each completion is scored alone.
        """
        outcomes = call_scores(self, problems, [[text] for text in completions])
        return stacked([value_of(outcome) for outcome in outcomes], self.reward_weights)

    def reply(self, problem: Problem, turns: Sequence[str]) -> str | Awaitable[str | None] | None:
        """The environment's answer to the completions so far; None ends the episode. A pure function, as `problem`."""
        return None

    @default
    def score_turns(
        self, problem: Problem, turns: Sequence[str]
    ) -> Score | Mapping[str, float] | Awaitable[Score | Mapping[str, float]]:
        """What an episode of these completions earns; by default what its last one does."""
        return self.score(problem, turns[-1])

    def feedback(self, problem: Problem, score: Score) -> str:
        """A sentence on what is wrong with a completion that earned `score`; it must not give the right answer away.

        An environment that was opened with `tries=N` replies with it and lets the model try again (`envs.tries`).
        """
        if score.extracted is None:
            return "There is no answer between <answer> and </answer>."
        if score.reason == "malformed":
            return "The answer cannot be read."
        if score.reason == "rule_broken":
            return "The answer breaks a rule."
        if len(score.extracted) <= 40 and score.extracted.isprintable():
            return f"The answer is not {score.extracted}."
        return "The answer is not right."

    def demonstration(self, problem: Problem) -> str | list[str]:
        """A completion that solves the problem, or one for each turn.

        Raises NoDemonstration where there is none, as this default does.
        """
        raise NoDemonstration(
            f"{self.spec_name} has no demonstrations. Write demonstration(self, problem) -> str: "
            "a completion that scores 1; `sft` and few-shot prompts are made from it."
        )

    def habits(self, problem: Problem) -> Mapping[str, str | list[str]]:
        """Named plausible completions of other quality, {"careless": "..."}; none by default.

        In an episode of several turns a text is written at every turn; a list holds one text for each turn.
        """
        return {}

    @default
    def render_text(self, problem: Problem, completion: str | None) -> str:
        """The problem and, if there is one, its completion, as text for a terminal, maybe in colours."""
        prompt = problem.prompt
        if not isinstance(prompt, str):
            prompt = "\n".join(f"{message['role']}: {message['content']}" for message in prompt)
        return prompt if completion is None else f"{prompt}\n{problem.completion_prefix}{completion}"

    # What Gymnasium and the trainer call.

    def author_of(self, problem: Problem) -> "TextEnv":
        """The environment that scores a problem: a wrapper's is the one inside it, any other scores its own."""
        return self

    @property
    def author_class(self) -> "type[TextEnv]":
        """The class in which an author wrote the task: of a wrapper that of the environment inside, else its own."""
        return type(self)

    @property
    def spec_name(self) -> str:
        """The name under which results are shown: the short name and the arguments that shape the task.

        E.g. "gsm8k[generated,level=2]": of the argument `source` the value alone is shown, of an absolute path its last
        part, and of a long text the beginning and a few digits of its hash.
        """
        id = self._env_id
        short_name = id.rpartition("/")[2].rpartition("-v")[0].lower() if id else type(self).__name__
        shown = {name: value for name, value in self._env_arguments.items() if name != "split"}
        shown = {name: re.sub(r"(^@?|(?<=\+))/[^:+]*/", r"\1", str(value)) for name, value in shown.items()}
        arguments = [Path(v).name if name == "source" else f"{name}={short(v)}" for name, v in shown.items()]
        return f"{short_name}[{','.join(arguments)}]" if arguments else short_name

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Prompt, dict[str, Any]]:
        """Starts an episode; returns (prompt, {"index": i}).

        options: {"index": i} picks the problem; without it a random one is drawn from `np_random` (see
        `seed`). Raises EnvError for an index outside 0 .. len(self) - 1.
        """
        super().reset(seed=seed)
        index = check_index(self, choose_index(self, self.np_random, options))
        self._episode = Episodes(self, [index])
        return self._episode.prompt(0), {"index": index}

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        """Takes a completion; returns (reply, 0.0, False, False, {"index": i}) while the environment answers.

        At the end it scores the episode and returns ("", reward, True, False, info), or ("", reward, False, True, info)
        where the environment would go on after `max_turns`. info: {"index", "rewards": {component: float}, "correct":
        bool, "reason": str, "extracted": str | None}. If the author's `reply` or `score` raises, the episode ends, all
        rewards are 0, the reason is "error" or "timeout" and info["traceback"] says where. Raises EnvError before
        `reset`, after the end, if `action` is not a string, or if reply or score is not valid.
        """
        if self._episode is None:
            raise EnvError(before_reset(self))
        episode = self._episode.copy()
        # `Episodes` numbers its episodes, and the only one here is number 0.
        goes_on = bool(episode.answer({0: action}))
        info: dict[str, Any] = {"index": episode.indices[0]}
        if not goes_on:
            scores = episode.score()
            rewards = {name: float(values[0]) for name, values in scores.rewards.items()}
            info |= {"rewards": rewards, "correct": rewards["correct"] == 1.0}
            info |= {"reason": scores.reason[0], "extracted": scores.extracted[0]}
            if scores.traceback[0] is not None:
                info["traceback"] = scores.traceback[0]
        self._episode = episode  # only now, so that an error above leaves the turn to be taken again
        if goes_on:
            return episode.replies[0][-1], 0.0, False, False, info
        terminated = bool(episode.terminated[0])
        return "", float(episode.scores.total[0]), terminated, not terminated, info

    def render(self) -> str | None:
        """The current problem, its completions and replies as text (`render_mode="ansi"`), otherwise None."""
        if self.render_mode is None:
            return None
        if self._episode is None:
            raise EnvError(f"{self.spec_name}: render() before reset(). Call reset() first.")
        episode = self._episode
        shown = render_turns(self, episode.problems[0], episode.turns[0], episode.replies[0])
        if episode.ended[0] is None:
            return shown
        reason = episode.scores.reason[0] or "no reason given"
        return f"{shown}\nreward {episode.scores.total[0]:g}, {reason}"


async def _awaited_score_of_one(scores: Awaitable[Scores]) -> Score:
    return _score_of_one(await scores)


def _score_of_one(scores: Scores) -> Score:
    """The score of the only completion of a batch."""
    rewards = {name: float(values[0]) for name, values in scores.rewards.items()}
    return Score(rewards, scores.reason[0], scores.extracted[0])


def render_turns(env: TextEnv, problem: Problem, turns: Sequence[str], replies: Sequence[str]) -> str:
    """An episode as text for a terminal: by `render_text` where there is one turn, else turn by turn."""
    env = env.author_of(problem)
    if len(turns) < 2 and not replies:
        return env.render_text(problem, turns[0] if turns else None)
    # An author's own `render_text` shows the problem with every completion, so it is not shown before the first.
    by_author = overrides(env, "render_text")
    lines = [] if by_author else [env.render_text(problem, None)]
    for number, turn in enumerate(turns):
        lines.append(env.render_text(problem, turn) if by_author else f"assistant: {turn}")
        if number < len(replies):
            lines.append(f"user: {replies[number]}")
    return "\n".join(lines)


def summary(cls: type[TextEnv]) -> str:
    """What a task is: the first paragraph of its docstring, without ids like "(`spg/Guess-v0`)"; "" without one."""
    text = re.sub(r" ?\(`.*?`\)", "", (cls.__doc__ or "").strip().partition("\n\n")[0])
    return " ".join(text.split())


def overrides(env: TextEnv, method: str) -> bool:
    """Whether the author wrote this method, which has a default in TextEnv."""
    return writes(type(env), method)


def short(value: str) -> str:
    """The value of an argument as a name has it: of a long text the beginning and a hash."""
    if len(value) <= 40:
        return value
    return f"{value[:24].rstrip()}...{hashlib.sha256(value.encode()).hexdigest()[:6]}"
