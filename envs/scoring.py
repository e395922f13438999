"""What completions earn: how an author's class is asked for scores, and the check of what it returns."""

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from envs.awaiting import TIMED_OUT, Limits, Outcome, call_all, reason_of
from envs.errors import EnvError, JudgeFailed
from envs.problem import Problem, Score, Scores, broken

if TYPE_CHECKING:
    from envs.core import TextEnv


@dataclass(frozen=True)
class ScoredBatch:
    """The checked scores of n episodes.

    total: (n,) float64, the weighted sum of the components. rewards: {component: (n,) float64}, in the order of
    `reward_weights`. traceback: where the author's code raised, None where it did not.
    """

    total: np.ndarray
    rewards: dict[str, np.ndarray]
    reason: list[str]
    extracted: list[str | None]
    traceback: list[str | None]

    @classmethod
    def filled(cls, components: Mapping[str, Any], count: int, value: float) -> "ScoredBatch":
        """`count` rows without a score yet: each component is `value`, e.g. NaN."""
        rewards = {name: np.full(count, value) for name in components}
        return cls(np.zeros(count), rewards, [""] * count, [None] * count, [None] * count)

    def copy(self) -> "ScoredBatch":
        """The same scores, in arrays and lists of their own."""
        rewards = {name: values.copy() for name, values in self.rewards.items()}
        return ScoredBatch(self.total.copy(), rewards, self.reason[:], self.extracted[:], self.traceback[:])

    def put(self, rows: Sequence[int], scored: "ScoredBatch") -> None:
        """Writes scores into some rows; a component that they do not have stays as it is."""
        self.total[rows] = scored.total
        for name, values in scored.rewards.items():
            self.rewards[name][rows] = values
        for column in ("reason", "extracted", "traceback"):
            for row, value in zip(rows, getattr(scored, column), strict=True):
                getattr(self, column)[row] = value


def score_all(
    env: "TextEnv",
    indices: Sequence[int],
    problems: Sequence[Problem],
    completions: Sequence[str | Sequence[str]],
    raised: Sequence[str | None] = (),
) -> ScoredBatch:
    """Scores n episodes, with one `score_batch` call for each author's class that has it.

    completions: a text each, or those of all turns; the author's `score_turns` sees all of them, else the last one is
    scored. raised: the traceback of each episode in which `reply` raised, None for the others; () where it raised in
    none. An exception in the author's code marks only the completions that cause it, with reason "error", of a
    TimeoutError "timeout", and all rewards 0. In a mixture, a component that a problem's own task does not have is NaN.
    Raises EnvError, naming environment and problem, for scores that break the contract: a component that is missing,
    unknown, not finite or not a number, a "correct" that is neither 0 nor 1, or a reason or extracted part that is no
    text.
    """
    raised = raised or [None] * len(problems)
    rows_of: dict[int, list[int]] = {}
    authors = [env.author_of(problem) for problem in problems]
    for row, author in enumerate(authors):
        rows_of.setdefault(id(author), []).append(row)
    if len(rows_of) == 1 and not env.parts:
        return _score_part(authors[0], indices, problems, completions, raised)
    scored = ScoredBatch.filled(env.reward_weights, len(problems), np.nan)
    for rows in rows_of.values():
        columns = [[column[row] for row in rows] for column in (indices, problems, completions, raised)]
        scored.put(rows, _score_part(authors[rows[0]], *columns))
    return scored


def _score_part(
    env: "TextEnv",
    indices: Sequence[int],
    problems: Sequence[Problem],
    completions: Sequence[str | Sequence[str]],
    raised: Sequence[str | None],
) -> ScoredBatch:
    """`score_all` of problems that all belong to one author's environment."""
    scores, traces = _ask(env, indices, problems, list(map(as_turns, completions)))
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


def as_turns(text: str | Sequence[str]) -> tuple[str, ...]:
    """One completion, or those of all turns, as those of all turns."""
    return (text,) if isinstance(text, str) else tuple(text)


# How an author's class is asked.

ARGUMENTS = {
    "score": ("problem", "completion"),
    "score_batch": ("problems", "completions"),
    "score_turns": ("problem", "turns"),
}
"""What each way to score is called with, by position."""


def default(method: Callable[..., Any]) -> Callable[..., Any]:
    """Marks a method of TextEnv that stands in for one which the author did not write."""
    method.is_default = True  # type: ignore[attr-defined]
    return method


def writes(cls: "type[TextEnv]", method: str) -> bool:
    """Whether the author of a class wrote this method himself."""
    return not getattr(getattr(cls, method), "is_default", False)


@dataclass(frozen=True)
class Scoring:
    """How the episodes of an author's class are scored, by the methods that it has."""

    batch: bool
    """Whether several episodes are scored in one call of `score_batch`, which sees the last turn of each."""
    alone: bool
    """Whether a single episode is scored by `score` or `score_turns`; otherwise it is scored as a batch of one."""


def decide_scoring(cls: "type[TextEnv]", name: str) -> Scoring:
    """Decides how a class is scored, and keeps that in the class; `register` calls this once.

    Raises EnvError, which begins with `name`, for a method to score that does not take the arguments of `ARGUMENTS`.
    """
    written = [method for method in ARGUMENTS if writes(cls, method)]
    for method in written:
        _check_call(cls, method, name)
    batch = "score_batch" in written and "score_turns" not in written
    cls._scoring = Scoring(batch, alone=not batch or "score" in written)
    return cls._scoring


def scoring_of(cls: "type[TextEnv]") -> Scoring:
    """How a class is scored; that of one which was never registered is decided now."""
    return cls.__dict__.get("_scoring") or decide_scoring(cls, cls.__name__)


def _check_call(cls: "type[TextEnv]", method: str, name: str) -> None:
    """Raises EnvError if a method cannot be called with its ARGUMENTS."""
    attribute = inspect.getattr_static(cls, method)
    function = getattr(attribute, "__func__", attribute)
    if not inspect.isfunction(function):  # a callable object does not always say what it takes
        return
    self = () if isinstance(attribute, staticmethod) else ("self",)
    signature = inspect.signature(function, follow_wrapped=False)
    try:
        signature.bind(*self, *ARGUMENTS[method])
    except TypeError as error:
        arguments = ", ".join((*self, *ARGUMENTS[method]))
        raise EnvError(
            f"{name}: {cls.__name__}.{method}{signature} cannot be called as {method}({arguments}): {error}. Write "
            f"def {method}({arguments}); what a problem is judged by is in its `reference`."
        ) from error


def begin_score(env: "TextEnv", problem: Problem, turns: Sequence[str]) -> Any:
    """What the author's code returns for one episode, or an awaitable of it; raises what that code raises.

    This and `call_score_batch` are the only places in which an author's scoring is called.
    """
    return env.score_turns(problem, turns)


def as_score(value: Any) -> Any:
    """What the author's code says of one episode, a plain dict of rewards as a Score."""
    return Score(dict(value)) if isinstance(value, Mapping) else value


def limits_of(env: "TextEnv") -> Limits:
    """What an environment allows where its methods are `async`."""
    return Limits(env.score_concurrency, env.score_timeout)


def call_scores(env: "TextEnv", problems: Sequence[Problem], turns: Sequence[Sequence[str]]) -> list[Outcome]:
    """What the author's code says of each episode, or raises; those that are `async` are awaited side by side."""
    calls = [partial(begin_score, env, *pair) for pair in zip(problems, turns, strict=True)]
    outcomes = call_all(env.spec_name, calls, limits_of(env))
    return [outcome._replace(value=as_score(outcome.value)) for outcome in outcomes]


def call_score_batch(env: "TextEnv", problems: Sequence[Problem], completions: Sequence[str]) -> Any:
    """What the author's code returns for n completions, unchecked, or an awaitable of it; raises what it raises."""
    return env.score_batch(problems, completions)


def _ask(
    env: "TextEnv", indices: Sequence[int], problems: Sequence[Problem], turns: Sequence[Sequence[str]]
) -> tuple[Any, list[str | None]]:
    """The scores of some episodes as the author's class gives them, and the traceback of each in which it raised."""
    scoring = scoring_of(type(env))
    if not scoring.batch or (scoring.alone and len(problems) == 1):
        return _ask_each(env, indices, problems, turns)
    call = partial(call_score_batch, env, problems, [texts[-1] for texts in turns])
    (outcome,) = call_all(env.spec_name, [call], limits_of(env))
    if outcome.error is None:
        return outcome.value, [None] * len(problems)
    side_by_side = inspect.iscoroutinefunction(env.score_batch)
    if outcome.reason == TIMED_OUT and not side_by_side:
        # Each by itself would wait as long again, one after the other.
        zeros = [Score(dict.fromkeys(env.reward_weights, 0.0), TIMED_OUT)] * len(problems)
        return stacked(zeros, env.reward_weights), [outcome.traceback] * len(problems)
    scores, traces = _ask_each(env, indices, problems, turns)  # a batch does not say which of them raises
    may_recover = side_by_side or isinstance(outcome.error, JudgeFailed)
    if not any(traces) and not may_recover:
        if isinstance(outcome.error, EnvError):  # it says itself what is wrong, such as too few numbers
            raise EnvError(f"{env.spec_name}: {outcome.error}") from outcome.error
        raise EnvError(
            f"{env.spec_name}: score_batch raised {outcome.error!r:.200} for {len(problems)} completions, but scores "
            "each of them when alone; both must agree."
        ) from outcome.error
    return scores, traces


def _ask_each(
    env: "TextEnv", indices: Sequence[int], problems: Sequence[Problem], turns: Sequence[Sequence[str]]
) -> tuple[Scores, list[str | None]]:
    """`_ask`, each episode by itself; the score of an episode in which the author's code raised is 0."""
    outcomes, scores = call_scores(env, problems, turns), []
    for index, outcome in zip(indices, outcomes, strict=True):
        score = outcome.value
        if outcome.error is not None:
            score = Score(dict.fromkeys(env.reward_weights, 0.0), outcome.reason)
        if not isinstance(score, Score) or not isinstance(score.rewards, Mapping):
            raise broken(
                env, index, f"score returned {score!r:.80}, not envs.Score or {{component: number}}."
            )
        _check_names(env, index, score.rewards)
        scores.append(score)
    return stacked(scores, env.reward_weights), [outcome.traceback for outcome in outcomes]


def stacked(scores: Sequence[Score], components: Iterable[str]) -> Scores:
    """n single scores as those of a batch."""
    rewards = {name: [score.rewards[name] for score in scores] for name in components}
    return Scores(rewards, [score.reason for score in scores], [score.extracted for score in scores])


# What it may return.


def _check_form(env: "TextEnv", indices: Sequence[int], scores: Any) -> None:
    """Raises EnvError unless `scores` is a Scores with every component and an entry for each index in every column."""
    if not isinstance(scores, Scores) or not isinstance(scores.rewards, Mapping):
        raise broken(env, indices[0], f"score_batch returned {scores!r:.80}; it must return envs.Scores.")
    _check_names(env, indices[0], scores.rewards)
    for name, values in {**scores.rewards, "reason": scores.reason, "extracted": scores.extracted}.items():
        entries = isinstance(values, Sequence | np.ndarray) and not isinstance(values, str)
        if not entries or len(values) != len(indices):
            wrong = f"score_batch returned {name}={values!r:.80} for {len(indices)} completions"
            raise broken(env, indices[0], f"{wrong}; it must have an entry for each.")
    for index, reason, extracted in zip(indices, scores.reason, scores.extracted, strict=True):
        if not isinstance(reason, str) or not isinstance(extracted, str | None):
            wrong = f"reason={reason!r:.80} and extracted={extracted!r:.80}"
            raise broken(env, index, f"the score has {wrong}; they must be a str, and a str or None.")


def _check_names(env: "TextEnv", index: int, rewards: Mapping[str, Any]) -> None:
    if rewards.keys() != env.reward_weights.keys():
        components = f"the components {', '.join(rewards)}; they must be {', '.join(env.reward_weights)}."
        raise broken(env, index, f"the score has {components}")


def _numbers(env: "TextEnv", indices: Sequence[int], name: str, values: Any) -> np.ndarray:
    """`values` as (n,) float64, every one finite; "correct" 0 or 1."""
    kinds = int | float | np.integer | np.floating | np.bool_
    numbers = np.array([value if isinstance(value, kinds) else np.nan for value in values], np.float64)
    valid = ((numbers == 0) | (numbers == 1)) if name == "correct" else np.isfinite(numbers)
    if not valid.all():
        row = int(np.argmin(valid))
        wanted = "0 or 1" if name == "correct" else "a finite number"
        raise broken(env, indices[row], f'"{name}" is {values[row]!r:.80}; it must be {wanted}.')
    return numbers
