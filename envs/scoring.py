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
    component that is missing, unknown, not finite or not a number, or a "correct" that is neither 0 nor 1.
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
        except Exception:
            traces[i] = traceback.format_exc()
            score = Score(dict.fromkeys(env.reward_weights, 0.0), "error")
        if not isinstance(score, Score) or not isinstance(score.rewards, Mapping):
            raise EnvError(
                f"{_where(env, indices[i])}: score returned {score!r:.80}; it must return envs.Score or a "
                f"dict {{component: number}} with {_names(env)}."
            )
        _check_names(env, indices[i], score.rewards)
        rows.append(score)
    names = list(env.reward_weights)
    rewards = {name: np.array([row.rewards[name] for row in rows], dtype=object) for name in names}
    return Scores(rewards, [row.reason for row in rows], [row.extracted for row in rows])


def _checked(env: "TextEnv", indices: Sequence[int], scores: Any) -> dict[str, np.ndarray]:
    n = len(indices)
    first = indices[0] if n else -1
    if not isinstance(scores, Scores):
        raise EnvError(
            f"{_where(env, first)}: score_batch returned {scores!r:.80}; it must return envs.Scores."
        )
    _check_names(env, first, scores.rewards)
    lengths = {name: len(values) for name, values in scores.rewards.items()}
    lengths |= {"reason": len(scores.reason), "extracted": len(scores.extracted)}
    if wrong := {name: length for name, length in lengths.items() if length != n}:
        raise EnvError(f"{_where(env, first)}: score_batch got {n} completions but returned {wrong} entries.")
    return {name: _numbers(env, indices, name, scores.rewards[name]) for name in env.reward_weights}


def _numbers(env: "TextEnv", indices: Sequence[int], name: str, values: Any) -> np.ndarray:
    """`values` as (n,) float64, every one finite; "correct" 0 or 1."""
    array = np.asarray(values)
    if array.dtype.kind in "biuf":
        good = np.ones(len(array), bool)
    else:
        good = np.array([isinstance(value, int | float | np.number | np.bool_) for value in values], bool)
    numbers = np.where(good, array, 0).astype(np.float64)
    good &= ((numbers == 0) | (numbers == 1)) if name == "correct" else np.isfinite(numbers)
    if not good.all():
        i = int(np.flatnonzero(~good)[0])
        wanted = "0 or 1" if name == "correct" else "a finite number"
        raise EnvError(
            f'{_where(env, indices[i])}: the component "{name}" is {values[i]!r:.80}; it must be {wanted}.'
        )
    return numbers


def _check_names(env: "TextEnv", index: int, rewards: Mapping[str, Any]) -> None:
    missing = [name for name in env.reward_weights if name not in rewards]
    unknown = [name for name in rewards if name not in env.reward_weights]
    if missing or unknown:
        parts = [f"misses {', '.join(map(repr, missing))}"] if missing else []
        parts += [f"has the unknown {', '.join(map(repr, unknown))}"] if unknown else []
        raise EnvError(
            f"{_where(env, index)}: the score {' and '.join(parts)}; its components must be {_names(env)}."
        )


def _where(env: "TextEnv", index: int) -> str:
    return f"{env.spec_name}, problem {index}"


def _names(env: "TextEnv") -> str:
    return ", ".join(env.reward_weights)
