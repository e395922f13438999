"""The methods and attributes that a task author writes: problems, scores, demonstrations, weights of rewards."""

import hashlib
import inspect
import re
from abc import abstractmethod
from collections.abc import Awaitable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from envs.authoring.async_calls import Limits, Outcome, call_all, value_of
from envs.errors import EnvError, NoDemonstration
from envs.problem import Problem, Score, Scores, as_score, stacked


class Task:
    """A task over text, without a way to play it: `envs.core.TextEnv`, which authors derive from, adds that.

    A wrapper around tasks (`envs.combining.wrapper`) is a task, too.
    """

    reward_weights: Mapping[str, float] = {}
    """{component: weight}. The reward is the weighted sum of all components. One of them must be called "correct". A
    component with weight 0 is computed and shown, but not paid."""
    reward_ranges: Mapping[str, tuple[float, float]] = {}
    """{component: (lowest, highest)} of components that may leave 0 to 1; `python -m envs check` checks the ranges."""
    max_turns: int = 1
    """The most turns (completions) of an episode; `reply` answers all but the last."""
    score_concurrency: int = 16
    """For `async` methods: how many calls each process awaits at once."""
    score_timeout: float = 60.0
    """For `async` methods: the seconds that a call may take; a longer call fails with the reason "timeout"."""
    score_while_decoding: bool = False
    """Whether a run may score finished completions in another thread, in several calls, while the model writes the
    others; for tasks of one turn whose scores take seconds, and do not depend on the other completions of a call."""
    notice: str = ""
    """What a run should say about this task before it starts; "" for nothing."""
    origin: Mapping[str, str] = {}
    """Where the data came from, e.g. {"openai/gsm8k": "the commit"}; a run records it."""
    parts: Mapping[str, "Task"] = {}
    """In a mixture {name of a task: the task}; empty in any other task."""
    own_rewards: "Task | None" = None
    """What a user's reward functions pay beside the task's own components (`envs.combining.own_rewards`)."""
    _env_id: str | None = None
    """The id under which `make` opened the task, e.g. "spg/GSM8K-v0"; None if the class was called directly."""
    _env_arguments: Mapping[str, Any] = {}
    """The arguments that `make` was given, without those that are the default."""
    _scoring: ClassVar[Any]
    """Which of the methods below scores episodes; `envs.scoring` decides it once for each class."""

    # The methods that an author writes. The defaults of `score` and `score_batch` call each other; `register` makes
    # sure that one of them is overridden.

    @abstractmethod
    def __len__(self) -> int:
        """How many problems this split has."""

    @abstractmethod
    def problem(self, index: int) -> Problem:
        """Problem number `index` (0 <= index < len(self)), a pure function of arguments and index."""

    def problems_at(self, step: int) -> range:
        """The problems from which a step of a training draws, for a curriculum; by default all of them.

        step: how many steps are done. A pure function of arguments and step, so that a resumed run draws as one that
        was never stopped. Evaluations ask for any problem.
        """
        return range(len(self))

    def score(
        self, problem: Problem, completion: str
    ) -> Score | Mapping[str, float] | Awaitable[Score | Mapping[str, float]]:
        """The rewards of `completion`, component by component. Write this or `score_batch`; either may be `async`."""
        scores = self.score_batch([problem], [completion])
        return _awaited_score_of_one(scores) if inspect.isawaitable(scores) else _score_of_one(scores)

    def score_batch(
        self, problems: Sequence[Problem], completions: Sequence[str]
    ) -> Scores | Awaitable[Scores]:
        """The rewards of n completions, each for its own problem. Override this method if a batch is faster.

        An `async` method has `score_timeout` seconds for the batch; if the method fails, each completion is scored
        alone.
        """
        outcomes = call_scores(self, problems, [[text] for text in completions])
        return stacked([value_of(outcome) for outcome in outcomes], self.reward_weights)

    def reply(self, problem: Problem, turns: Sequence[str]) -> str | Awaitable[str | None] | None:
        """The environment's reply to the completions so far; None ends the episode. A pure function, like `problem`."""
        return None

    def score_turns(
        self, problem: Problem, turns: Sequence[str]
    ) -> Score | Mapping[str, float] | Awaitable[Score | Mapping[str, float]]:
        """The rewards of an episode with these completions; by default, the rewards of the last completion."""
        return self.score(problem, turns[-1])

    def feedback(self, problem: Problem, score: Score) -> str:
        """A sentence on what is wrong with a completion that earned `score`; it must not give the right answer away.

        An environment that was opened with `tries=N` replies with this sentence and lets the model try again
        (`envs.combining.several_tries`).
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
        """A completion that solves the problem, or a list with one for each turn.

        Raises NoDemonstration if there is none, as this default does.
        """
        raise NoDemonstration(
            f"{self.spec_name} has no demonstrations. Write demonstration(self, problem) -> str: "
            "a completion that scores 1; `sft` and few-shot prompts are made from it."
        )

    def habits(self, problem: Problem) -> Mapping[str, str | list[str]]:
        """{name: completion} of plausible but often wrong ways to solve the problem, {"careless": "..."}; default {}.

        In an episode of several turns, a text is written in every turn; a list has one text for each turn.
        """
        return {}

    def completion_template(self, problem: Problem) -> str:
        """The answer as a text with holes for the model to fill in.

        With `infill=True` this text becomes `Problem.completion_template`. Raises EnvError if a task has none, as this
        default does.
        """
        raise EnvError(
            f"{self.spec_name} takes no infill, as it has no text with holes. Write completion_template(self, problem) "
            "-> str: the completion with [MASK] in place of each token that the model fills in."
        )

    def render_text(self, problem: Problem, completion: str | None) -> str:
        """The problem and its completion, if there is one, as text for a terminal; it may have colours."""
        prompt = problem.prompt
        if not isinstance(prompt, str):
            prompt = "\n".join(f"{message['role']}: {message['content']}" for message in prompt)
        return prompt if completion is None else f"{prompt}\n{problem.completion_prefix}{completion}"

    @property
    def spec_name(self) -> str:
        """The name under which results are shown: the short name and the arguments that shape the task.

        E.g. "gsm8k[generated,level=2]". The argument `source` is shown by its value alone, an absolute path by its last
        part, and a long text by its beginning and a few digits of its hash.
        """
        id = self._env_id
        short_name = type(self).__name__
        if id:  # "spg/GSM8K-v0" -> "gsm8k"
            short_name = id.rpartition("/")[2].rpartition("-v")[0].lower()
        shown = {name: value for name, value in self._env_arguments.items() if name != "split"}
        # "/home/ada/mine.py:one" is shown as "mine.py:one", and "@/home/ada/system.txt" as "@system.txt".
        shown = {name: re.sub(r"(^@?|(?<=\+))/[^:+]*/", r"\1", str(value)) for name, value in shown.items()}
        arguments = [Path(v).name if name == "source" else f"{name}={short(v)}" for name, v in shown.items()]
        return f"{short_name}[{','.join(arguments)}]" if arguments else short_name


def limits_of(task: Task) -> Limits:
    """The limits that a task sets for its `async` methods."""
    return Limits(task.score_concurrency, task.score_timeout)


def call_scores(task: Task, problems: Sequence[Problem], turns: Sequence[Sequence[str]]) -> list[Outcome]:
    """What the author's scoring returns or raises for each episode; `async` calls are awaited side by side."""
    pairs = zip(own_problems(task, problems), turns, strict=True)
    calls = [partial(task.score_turns, *pair) for pair in pairs]
    outcomes = call_all(lambda: task.spec_name, calls, limits_of(task))
    return [outcome._replace(value=as_score(outcome.value)) for outcome in outcomes]


def own_problems(task: Task, problems: Sequence[Problem]) -> list[Problem]:
    """The problems as the methods of an author's task get them in a call: copies, which they may change.

    Tasks of this package change nothing, and share the problems.
    """
    if type(task).__module__.startswith("envs."):
        return list(problems)
    return [problem.copy() for problem in problems]


def defines(cls: type[Task], method: str) -> bool:
    """Whether a class has its own `method` instead of the default of `Task`."""
    return getattr(cls, method) is not getattr(Task, method)


def summary(cls: type[Task]) -> str:
    """The first paragraph of a task's docstring, without ids like "(`spg/Guess-v0`)"; "" without a docstring."""
    text = re.sub(r" ?\(`.*?`\)", "", (cls.__doc__ or "").strip().partition("\n\n")[0])
    return " ".join(text.split())


async def _awaited_score_of_one(scores: Awaitable[Scores]) -> Score:
    return _score_of_one(await scores)


def _score_of_one(scores: Scores) -> Score:
    """The score of the only completion of a batch."""
    rewards = {name: float(values[0]) for name, values in scores.rewards.items()}
    return Score(rewards, scores.reason[0], scores.extracted[0])


def short(value: str) -> str:
    """The value of an argument in a name; a long text is cut to its beginning and a hash."""
    if len(value) <= 40:
        return value
    return f"{value[:24].rstrip()}...{hashlib.sha256(value.encode()).hexdigest()[:6]}"
