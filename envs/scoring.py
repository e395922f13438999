"""The boundary round an author's scoring: what it returns is checked, what it raises becomes data."""

import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from envs.errors import EnvError
from envs.records import Problem, Score, Scores

if TYPE_CHECKING:
    from envs.core import TextEnv


class ContractError(EnvError):
    """A score that is none: raised on, where other exceptions of an author's `score` are counted."""


@dataclass(frozen=True)
class Judged:
    """The checked scores of n completions."""

    total: np.ndarray
    """(n,) float64, the weighted sum of the components."""
    rewards: dict[str, np.ndarray]
    """{component: (n,) float64}, in the order of `reward_weights`."""
    reason: list[str]
    extracted: list[str | None]
    traceback: list[str | None]
    """Where the author's `score` raised; None where it did not."""


def as_score(value: Any) -> Score:
    """What `score` returned, as a Score: a plain dict of rewards is allowed."""
    return Score(dict(value)) if isinstance(value, Mapping) else value


def as_single(scores: Any) -> Score:
    """What `score_batch` returned for one completion, as a Score; raises ContractError if it is not that."""
    _check_scores(scores, 1)
    first = {name: values[0] for name, values in scores.rewards.items()}
    plain = {name: value.item() if isinstance(value, np.generic) else value for name, value in first.items()}
    return Score(plain, scores.reason[0], scores.extracted[0])


def score_all(
    env: "TextEnv",
    indices: Sequence[int],
    problems: Sequence[Problem],
    completions: Sequence[str],
    *,
    batched: bool = True,
) -> Judged:
    """Scores n completions, with one `score_batch` call if `batched`.

    An exception in the author's code marks only the completions that cause it, with reason "error" and all
    rewards 0. Raises EnvError, naming environment and problem, for scores that break the contract: a
    component that is missing, unknown, not finite or not a number, a "correct" that is neither 0 nor 1, or a
    reason or extracted part that is no text.
    """
    traces: list[str | None] = [None] * len(problems)
    failure: Exception | None = None
    if batched:
        try:
            scores = env.score_batch(problems, completions)
        except Exception as error:
            failure = error
    if failure is not None or not batched:
        # A batch that raises does not say for which completion: judging each alone does.
        scores = _one_by_one(env, indices, problems, completions, traces)
    if failure is not None and not any(traces):
        raise EnvError(
            f"{env.spec_name}: score_batch raised {failure!r:.200} for {len(problems)} completions, but "
            "scores each of them when alone. Both must agree; try score_batch on a list of several."
        ) from failure
    rewards = _checked(env, indices, scores)
    total = np.zeros(len(problems))
    for name, weight in env.reward_weights.items():
        total += weight * rewards[name]
    return Judged(total, rewards, [str(r) for r in scores.reason], list(scores.extracted), traces)


def _one_by_one(
    env: "TextEnv",
    indices: Sequence[int],
    problems: Sequence[Problem],
    completions: Sequence[str],
    traces: list[str | None],
) -> Scores:
    rows = []
    for i, (problem, completion) in enumerate(zip(problems, completions, strict=True)):
        try:
            score = as_score(env.score(problem, completion))
        except ContractError as error:
            raise ContractError(f"{_where(env, indices[i])}: {error}") from error
        except Exception:
            traces[i] = traceback.format_exc()
            score = Score(dict.fromkeys(env.reward_weights, 0.0), "error")
        if not isinstance(score, Score) or not isinstance(score.rewards, Mapping):
            raise ContractError(
                f"{_where(env, indices[i])}: score returned {score!r:.80}; it must return envs.Score or a "
                f"dict {{component: number}} with {_names(env)}."
            )
        _check_names(env, indices[i], score.rewards)
        rows.append(score)
    rewards = {}
    for name in env.reward_weights:
        rewards[name] = np.empty(len(rows), dtype=object)
        for i, row in enumerate(rows):
            rewards[name][i] = row.rewards[name]
    return Scores(rewards, [row.reason for row in rows], [row.extracted for row in rows])


def _check_scores(scores: Any, n: int) -> None:
    """Raises ContractError unless `scores` is a Scores of n entries in every column."""
    if not isinstance(scores, Scores) or not isinstance(scores.rewards, Mapping):
        raise ContractError(f"score_batch returned {scores!r:.80}; it must return envs.Scores.")
    columns = {**scores.rewards, "reason": scores.reason, "extracted": scores.extracted}
    wrong = {name: length for name, values in columns.items() if (length := _length(values)) != n}
    if wrong:
        raise ContractError(f"score_batch got {n} completions but returned {wrong} entries.")


def _length(values: Any) -> int | None:
    """len(values), or None for what is no sequence of entries."""
    try:
        return None if isinstance(values, str) else len(values)
    except TypeError:
        return None


def _checked(env: "TextEnv", indices: Sequence[int], scores: Any) -> dict[str, np.ndarray]:
    try:
        _check_scores(scores, len(indices))
    except ContractError as error:
        raise ContractError(f"{_where(env, indices[0] if len(indices) else -1)}: {error}") from error
    if len(indices):
        _check_names(env, indices[0], scores.rewards)
    _check_texts(env, indices, "reason", scores.reason, (str,))
    _check_texts(env, indices, "extracted", scores.extracted, (str, type(None)))
    return {name: _numbers(env, indices, name, scores.rewards[name]) for name in env.reward_weights}


def _check_texts(
    env: "TextEnv", indices: Sequence[int], name: str, values: Sequence[Any], kinds: tuple[type, ...]
) -> None:
    if set(map(type, values)) <= set(kinds):
        return
    for i, value in enumerate(values):
        if not isinstance(value, kinds):
            wanted = " or ".join("None" if kind is not str else "a str" for kind in kinds)
            raise ContractError(f"{_where(env, indices[i])}: {name} is {value!r:.80}; it must be {wanted}.")


def _numbers(env: "TextEnv", indices: Sequence[int], name: str, values: Any) -> np.ndarray:
    """`values` as (n,) float64, every one finite; "correct" 0 or 1."""
    if isinstance(values, np.ndarray) and values.dtype.kind in "biuf" and values.ndim == 1:
        numbers = values.astype(np.float64)
    else:
        numbers = np.array([_number(value) for value in values], np.float64)
    good = ((numbers == 0) | (numbers == 1)) if name == "correct" else np.isfinite(numbers)
    if not good.all():
        i = int(np.flatnonzero(~good)[0])
        wanted = "0 or 1" if name == "correct" else "a finite number"
        raise ContractError(
            f'{_where(env, indices[i])}: the component "{name}" is {values[i]!r:.80}; it must be {wanted}.'
        )
    return numbers


def _number(value: Any) -> float:
    """`value` as a float, nan if it is no number."""
    if not isinstance(value, int | float | np.integer | np.floating | np.bool_):
        return float("nan")
    try:
        return float(value)
    except OverflowError:  # an int beyond the range of floats
        return float("inf")


def _check_names(env: "TextEnv", index: int, rewards: Mapping[str, Any]) -> None:
    missing = [name for name in env.reward_weights if name not in rewards]
    unknown = [name for name in rewards if name not in env.reward_weights]
    if missing or unknown:
        parts = [f"misses {', '.join(map(repr, missing))}"] if missing else []
        parts += [f"has the unknown {', '.join(map(repr, unknown))}"] if unknown else []
        raise ContractError(
            f"{_where(env, index)}: the score {' and '.join(parts)}; its components must be {_names(env)}."
        )


def _where(env: "TextEnv", index: int) -> str:
    return f"{env.spec_name}, problem {index}"


def _names(env: "TextEnv") -> str:
    return ", ".join(env.reward_weights)
