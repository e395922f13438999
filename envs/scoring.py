"""Scores completions: calls the scoring methods of an author's class, and checks what they return."""

import inspect
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from envs.authoring.async_calls import TIMED_OUT, call_all, reason_of
from envs.combining.wrapper import author_task
from envs.errors import EnvError, JudgeFailed, with_flags
from envs.problem import Problem, Score, Scores, broken, stacked
from envs.task import Task, call_scores, defines, limits_of, own_problems

LARGEST = 1e15
"""The largest size of a reward or a weight. Sums beyond it lose differences of 1, and squares of gradients overflow."""


@dataclass(frozen=True)
class ScoredBatch:
    """The checked scores of n episodes.

    total: (n,) float64, the weighted sum of the components. rewards: {component: (n,) float64}, in the order of
    `reward_weights`. reason, extracted: as in `envs.problem.Score`. traceback: of each episode in which the author's
    code raised, None for the others.
    """

    total: np.ndarray
    rewards: dict[str, np.ndarray]
    reason: list[str]
    extracted: list[str | None]
    traceback: list[str | None]

    @classmethod
    def filled(cls, components: Mapping[str, Any], count: int, value: float) -> "ScoredBatch":
        """`count` episodes that are not scored yet: the total is 0 and each component is `value`, e.g. NaN."""
        rewards = {name: np.full(count, value) for name in components}
        no_reason, none = [""] * count, [None] * count
        return cls(np.zeros(count), rewards, no_reason, extracted=none, traceback=none[:])

    def copy(self) -> "ScoredBatch":
        """The same scores, in arrays and lists of their own."""
        rewards = {name: values.copy() for name, values in self.rewards.items()}
        return ScoredBatch(self.total.copy(), rewards, self.reason[:], self.extracted[:], self.traceback[:])

    def with_more(self, more: "ScoredBatch") -> "ScoredBatch":
        """These scores with further components of the same episodes; one that failed in `more` earns nothing."""
        both = ScoredBatch(
            self.total + more.total,
            {**self.rewards, **more.rewards},
            self.reason[:],
            self.extracted[:],
            self.traceback[:],
        )
        for i, trace in enumerate(more.traceback):
            if trace is not None:
                both.total[i], both.reason[i], both.traceback[i] = 0.0, more.reason[i], trace
                for values in both.rewards.values():
                    values[i] = 0.0
        return both

    def put(self, indices: Sequence[int], scored: "ScoredBatch") -> None:
        """Overwrites the scores at `indices` by those of `scored`; components that `scored` lacks stay as they are."""
        self.total[indices] = scored.total
        for name, values in scored.rewards.items():
            self.rewards[name][indices] = values
        for column in ("reason", "extracted", "traceback"):
            for index, value in zip(indices, getattr(scored, column), strict=True):
                getattr(self, column)[index] = value


def score_all(
    task: Task,
    indices: Sequence[int],
    problems: Sequence[Problem],
    completions: Sequence[str | Sequence[str]],
    raised: Sequence[str | None] = (),
) -> ScoredBatch:
    """Scores n episodes, with one call of `score_batch` for each author's environment that has this method.

    completions: for each episode its only completion, or the completions of all turns; `score_turns` gets all of them,
    the other methods the last one. raised: for each episode the traceback of the author's `reply` if it raised, else
    None; () = it raised in none.

    If the author's code raises for a completion, all rewards of this completion are 0, and its reason is "error", or
    "timeout" for a TimeoutError. If a `score_batch` that is not `async` raises TimeoutError, this happens to all
    completions of its call. In a mixture, components that a problem's own task does not have are NaN.

    Raises EnvError, naming environment and problem, for scores that break the contract: a component that is missing,
    unknown, not finite or not a number, a "correct" that is neither 0 nor 1, or a reason or extracted part that is no
    text.
    """
    raised = raised or [None] * len(problems)
    authors = [author_task(task, problem) for problem in problems]
    # {id of an author's environment: the numbers of the episodes that it scores}
    numbers_of_author: dict[int, list[int]] = {}
    for number, author in enumerate(authors):
        numbers_of_author.setdefault(id(author), []).append(number)
    is_mixture = bool(task.parts)  # in a mixture, components that only other tasks have are NaN
    if len(numbers_of_author) == 1 and not is_mixture:
        return _score_part(authors[0], indices, problems, completions, raised)
    scored = ScoredBatch.filled(task.reward_weights, len(problems), value=np.nan)
    columns = (indices, problems, completions, raised)
    for numbers in numbers_of_author.values():
        columns_of_author = [entries_at(numbers, column) for column in columns]
        scored.put(numbers, _score_part(authors[numbers[0]], *columns_of_author))
    return scored


def entries_at(numbers: Sequence[int], column: Sequence[Any]) -> list[Any]:
    """The entries of a column that stand at these numbers."""
    return [column[number] for number in numbers]


def _score_part(
    task: Task,
    indices: Sequence[int],
    problems: Sequence[Problem],
    completions: Sequence[str | Sequence[str]],
    raised: Sequence[str | None],
) -> ScoredBatch:
    """`score_all` for problems of one author's environment."""
    scores, traces = _author_scores(task, indices, problems, list(map(as_turns, completions)))
    _check_form(task, indices, scores)
    rewards = {name: _numbers(task, indices, name, scores.rewards[name]) for name in task.reward_weights}
    reason = [str(r) for r in scores.reason]
    for i, trace_of_reply in enumerate(raised):
        if trace_of_reply is not None:
            reason[i], traces[i] = reason_of(trace_of_reply), trace_of_reply
            for values in rewards.values():
                values[i] = 0.0
    total = np.zeros(len(traces))
    for name, weight in task.reward_weights.items():
        total += weight * rewards[name]
    scored = ScoredBatch(total, rewards, reason, list(scores.extracted), traces)
    if task.own_rewards is None:
        return scored
    return scored.with_more(_score_part(task.own_rewards, indices, problems, completions, traces))


def as_turns(text: str | Sequence[str]) -> tuple[str, ...]:
    """The completions of all turns; a single text is the completion of the only turn."""
    return (text,) if isinstance(text, str) else tuple(text)


# Which methods of an author's class score.

SCORING_METHODS = {
    "score": ("problem", "completion"),
    "score_batch": ("problems", "completions"),
    "score_turns": ("problem", "turns"),
}
"""{method that scores: the arguments that it is called with, by position}."""


@dataclass(frozen=True)
class Scoring:
    """How the episodes of an author's class are scored, by the methods that it has."""

    batch: bool
    """Whether several episodes are scored in one call of `score_batch`, which sees the last turn of each."""
    alone: bool
    """Whether a single episode is scored by `score` or `score_turns`; otherwise it is scored as a batch of one."""


def decide_scoring(cls: type[Task], name: str) -> Scoring:
    """Decides how a class is scored, and stores the decision in the class; `register` calls this once.

    Raises EnvError, which begins with `name`, for a method of `SCORING_METHODS` that does not take its arguments.
    """
    defined = [method for method in SCORING_METHODS if defines(cls, method)]
    for method in defined:
        _check_call(cls, method, name)
    # If both are defined, `score_turns` scores, because `score_batch` only gets the last turn.
    batch = "score_batch" in defined and "score_turns" not in defined
    has_own_call = not batch or "score" in defined
    cls._scoring = Scoring(batch, alone=has_own_call)
    return cls._scoring


def scoring_of(cls: type[Task]) -> Scoring:
    """How a class is scored; decided now if the class was never registered."""
    return cls.__dict__.get("_scoring") or decide_scoring(cls, cls.__name__)


def _check_call(cls: type[Task], method: str, name: str) -> None:
    """Raises EnvError if a method cannot be called with its arguments in SCORING_METHODS."""
    attribute = inspect.getattr_static(cls, method)
    function = getattr(attribute, "__func__", attribute)  # what a static or class method wraps
    if not inspect.isfunction(function):  # a callable object does not always say what it takes
        return
    own_argument = () if isinstance(attribute, staticmethod) else ("self",)
    # If a method is decorated, its outermost function is called.
    signature = inspect.signature(function, follow_wrapped=False)
    try:
        # Any values do, since only their number is checked.
        signature.bind(*own_argument, *SCORING_METHODS[method])
    except TypeError as error:
        arguments = ", ".join((*own_argument, *SCORING_METHODS[method]))
        raise EnvError(
            f"{name}: {cls.__name__}.{method}{signature} cannot be called as {method}({arguments}): {error}. Write "
            f"def {method}({arguments}); what a problem is judged by is in its `reference`."
        ) from error


def _author_scores(
    task: Task, indices: Sequence[int], problems: Sequence[Problem], turns: Sequence[Sequence[str]]
) -> tuple[Any, list[str | None]]:
    """The scores of some episodes by the author's class, and for each the traceback if it raised, else None."""
    scoring = scoring_of(type(task))
    # Episodes are scored one by one if `score_batch` does not score them (`Scoring.batch`), or if there is only one
    # episode and the class has `score`, too.
    if not scoring.batch or (scoring.alone and len(problems) == 1):
        return _author_scores_one_by_one(task, indices, problems, turns)
    call = partial(task.score_batch, own_problems(task, problems), [texts[-1] for texts in turns])
    (outcome,) = call_all(lambda: task.spec_name, [call], limits_of(task))
    if outcome.error is None:
        return outcome.value, [None] * len(problems)
    is_async = inspect.iscoroutinefunction(task.score_batch)
    if outcome.reason == TIMED_OUT and not is_async:
        # All completions are given up instead of being scored one by one, since each might wait as long as the batch.
        # The calls of an `async` method run side by side, and `score_timeout` ends each, so these are tried again.
        zeros = [Score(dict.fromkeys(task.reward_weights, 0.0), TIMED_OUT)] * len(problems)
        return stacked(zeros, task.reward_weights), [outcome.traceback] * len(problems)
    # The error of a batch does not tell which completions caused it, so each is scored again on its own.
    scores, traces = _author_scores_one_by_one(task, indices, problems, turns)
    # An `async` method or a judge waits for something outside, e.g. a busy server. It may work again by now, so the
    # method may be right even if no completion failed alone.
    if is_async or isinstance(outcome.error, JudgeFailed):
        failed = len(traces) - traces.count(None)
        if len(problems) > 1 or not failed:  # one that failed twice is reported as any other
            logging.getLogger("envs").warning(
                "%s: %.300s This was for %d completions at once; each was then judged alone, and %d failed again.",
                task.spec_name,
                outcome.error,
                len(problems),
                failed,
            )
    elif not any(traces):
        if isinstance(outcome.error, EnvError):  # it already says what is wrong, such as too few numbers
            raise EnvError(f"{task.spec_name}: {with_flags(outcome.error)}") from outcome.error
        raise EnvError(
            f"{task.spec_name}: score_batch raised {outcome.error!r:.200} for {len(problems)} completions, but scores "
            "each of them when alone; both must agree."
        ) from outcome.error
    return scores, traces


def _author_scores_one_by_one(
    task: Task, indices: Sequence[int], problems: Sequence[Problem], turns: Sequence[Sequence[str]]
) -> tuple[Scores, list[str | None]]:
    """As `_author_scores`, with a call for each episode. If the call raises, all rewards of the episode are 0."""
    outcomes = call_scores(task, problems, turns)
    scores: list[Score] = []
    for index, outcome in zip(indices, outcomes, strict=True):
        score = outcome.value
        if outcome.error is not None:
            score = Score(dict.fromkeys(task.reward_weights, 0.0), outcome.reason)
        if not isinstance(score, Score) or not isinstance(score.rewards, Mapping):
            raise broken(
                task, index, f"score returned {score!r:.80}, not envs.Score or {{component: number}}."
            )
        _check_names(task, index, score.rewards)
        scores.append(score)
    return stacked(scores, task.reward_weights), [outcome.traceback for outcome in outcomes]


# What an author's class may return.


def _check_form(task: Task, indices: Sequence[int], scores: Any) -> None:
    """Raises EnvError unless `scores` is a Scores with every component and an entry for each index in every column."""
    if not isinstance(scores, Scores) or not isinstance(scores.rewards, Mapping):
        raise broken(task, indices[0], f"score_batch returned {scores!r:.80}; it must return envs.Scores.")
    _check_names(task, indices[0], scores.rewards)
    for name, values in {**scores.rewards, "reason": scores.reason, "extracted": scores.extracted}.items():
        is_sequence = isinstance(values, Sequence | np.ndarray) and not isinstance(values, str)
        if not is_sequence or len(values) != len(indices):
            wrong = f"score_batch returned {name}={values!r:.80} for {len(indices)} completions"
            raise broken(task, indices[0], f"{wrong}; it must have an entry for each.")
    for index, reason, extracted in zip(indices, scores.reason, scores.extracted, strict=True):
        if not isinstance(reason, str) or not isinstance(extracted, str | None):
            wrong = f"reason={reason!r:.80} and extracted={extracted!r:.80}"
            raise broken(task, index, f"the score has {wrong}; they must be a str, and a str or None.")


def _check_names(task: Task, index: int, rewards: Mapping[str, Any]) -> None:
    """Raises EnvError unless `rewards` has exactly the components of `reward_weights`."""
    if rewards.keys() != task.reward_weights.keys():
        components = f"the components {', '.join(rewards)}; they must be {', '.join(task.reward_weights)}."
        raise broken(task, index, f"the score has {components}")


def _float_or_nan(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return np.nan


def _numbers(task: Task, indices: Sequence[int], name: str, values: Any) -> np.ndarray:
    """The values of one component, (n,) float64. Raises EnvError unless all are finite ("correct": 0 or 1)."""
    kinds = int | float | np.integer | np.floating | np.bool_
    # An array or a tensor without axes stands for the number in it.
    values = [value.item() if getattr(value, "shape", None) == () else value for value in values]
    try:
        numbers = np.array([value if isinstance(value, kinds) else np.nan for value in values], np.float64)
    except OverflowError:  # an int that is too large for a float
        numbers = np.array([_float_or_nan(value) for value in values])
    if name == "correct":
        valid, wanted = (numbers == 0) | (numbers == 1), "0 or 1"
    else:
        valid, wanted = np.abs(numbers) <= LARGEST, f"a finite number, not above {LARGEST:g} in size"
    if not valid.all():
        i = int(np.argmin(valid))  # the first that is not valid
        raise broken(task, indices[i], f'"{name}" is {values[i]!r:.80}; it must be {wanted}.')
    return numbers
