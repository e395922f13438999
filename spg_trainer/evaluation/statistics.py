"""What is computed from verdicts: intervals, means over seeds and problems, majority votes, pass@k, the sign test."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from spg_trainer.settings.packages import envs, verifiers

Z = 1.959964
"""The normal quantile of 95% intervals."""
ALPHA = 0.005
"""Chance of a false alarm for one component."""
FALL = 0.05
"""The smallest fall of a mean that is reported."""
Row = Mapping[str, Any]


@dataclass(frozen=True)
class Mean:
    """A mean over S seeds and P problems, with what its interval needs."""

    value: float
    variance: float
    """The variance of the mean."""
    quantile: float
    """The quantile of Student's t for a 95% interval."""
    shape: tuple[int, int]
    """(S, P)."""
    freedom: float = math.inf
    """The degrees of freedom of the variance."""

    @property
    def p(self) -> float | None:
        """The two-sided p of the value against a true mean of 0, by the t-test whose quantile `gain_interval` uses.

        None if the variance is 0: too few values differ to say anything.
        """
        if not self.variance:
            return None
        return two_sided_p(abs(self.value) / math.sqrt(self.variance), self.freedom)

    @property
    def gain_interval(self) -> tuple[float, float]:
        """The interval of a difference of rates, which lies between -1 and 1."""
        reach = self.quantile * math.sqrt(self.variance)
        return max(self.value - reach, -1.0), min(self.value + reach, 1.0)

    @property
    def shown_gain(self) -> str:
        """A difference of rates as tables show it, e.g. "+0.120 [+0.031, +0.209]".

        Without the interval if the variance is 0: values that are all alike say nothing about others.
        """
        interval = " [{:+.3f}, {:+.3f}]".format(*self.gain_interval) if self.variance else ""
        return f"{self.value:+.3f}{interval}"

    @property
    def rate_interval(self) -> tuple[float, float]:
        """The interval of a rate: Wilson's for n problems, where n independent problems would have this variance."""
        seeds, problems = self.shape
        n: float = problems
        if seeds > 1 and self.variance > 0:
            n = min(self.value * (1 - self.value) / self.variance, seeds * problems)
        return verifiers.statistics.wilson_interval(self.value * n, n, self.quantile)


def mean_over(values: np.ndarray) -> Mean:
    """The mean of `values` (S, P), of S seeds on the same P problems, as an estimate for other seeds and problems.

    The variance comes from a two-way analysis of variance with random seeds and problems and one value in each cell;
    components below zero count as zero. The degrees of freedom are Satterthwaite's (1946). With one seed, the variance
    is over problems alone, since the spread of seeds is not known.
    """
    seeds, problems = values.shape
    mean = float(values.mean())
    seed_effects = values.mean(1, keepdims=True) - mean
    problem_effects = values.mean(0, keepdims=True) - mean
    problem_degrees = max(problems - 1, 1)
    if seeds == 1:
        variance = float((problem_effects**2).sum() / problem_degrees / problems)
        return Mean(mean, variance, quantile=Z, shape=(seeds, problems))
    residuals = values - mean - seed_effects - problem_effects
    degrees = np.array([seeds - 1, problem_degrees, (seeds - 1) * problem_degrees])
    sums = [problems * (seed_effects**2).sum(), seeds * (problem_effects**2).sum(), (residuals**2).sum()]
    mean_squares = np.array(sums) / degrees
    # The variance comes from the mean squares as seeds + problems - residuals. If the mean square of seeds, or of
    # problems, is below that of the residuals, its component counts as zero, and only the other mean square is left.
    # That one is then larger than the sum. So the largest of the three choices is always the right one.
    signs = max(([1, 1, -1], [1, 0, 0], [0, 1, 0]), key=lambda choice: float(mean_squares @ choice))
    total = float(mean_squares @ signs)
    freedom = total**2 / float((mean_squares**2 / degrees) @ np.abs(signs)) if total else math.inf
    freedom = max(freedom, seeds - 1)
    variance = total / (seeds * problems)
    return Mean(mean, variance, t_quantile(freedom), shape=(seeds, problems), freedom=freedom)


def t_quantile(freedom: float) -> float:
    """The 97.5% quantile of Student's t with `freedom` > 0 degrees of freedom, by its incomplete beta function."""
    if math.isinf(freedom):
        return Z
    import mpmath

    # The quantile lies between Z (infinitely many degrees) and 12.7 (one degree).
    return float(mpmath.findroot(lambda t: two_sided_p(t, freedom) - 0.05, (Z, 13), solver="anderson"))


def two_sided_p(t: Any, freedom: float) -> Any:
    """The chance that Student's t with `freedom` > 0 degrees of freedom is at least as far from 0 as `t`."""
    if math.isinf(freedom):
        return math.erfc(t / math.sqrt(2))
    import mpmath

    return mpmath.betainc(freedom / 2, 0.5, 0, freedom / (freedom + t * t), regularized=True)


def sign_test(lost: int, won: int) -> float:
    """The chance that at least `lost` of `lost + won` problems are lost, if a loss and a win are equally likely.

    Only problems count that one of two evaluations solves and the other does not.
    """
    changed = lost + won
    return sum(math.comb(changed, k) for k in range(lost, changed + 1)) / 2**changed


def reason_of(row: Mapping[str, Any]) -> str:
    """The reason of a completion's verdict; "right" or "wrong" if its task gives no reasons."""
    return row["reason"] or ("right" if row["correct"] else "wrong")


def lost_components(before: Sequence[Row], after: Sequence[Row]) -> dict[str, tuple[float, float]]:
    """{component: (mean before, mean after)} for each component, except the solved rate, that fell by more than chance.

    before, after: rows of two evaluations that ask the same problems in the same order, each with `rewards`. A
    component has fallen if its mean is lower by `FALL` or more, and if more problems fell than rose by the exact sign
    test, one-sided at `ALPHA`, on the problems whose value changed.
    """
    pairs = [(then["rewards"], now["rewards"]) for then, now in zip(before, after, strict=True)]
    names = dict.fromkeys(name for then, _ in pairs for name in then if name != "correct")
    lost = {}
    for name in names:
        values = [(then[name], now[name]) for then, now in pairs if name in then and name in now]
        mean_before = sum(then for then, _ in values) / len(values)
        mean_after = sum(now for _, now in values) / len(values)
        fell, rose = sum(now < then for then, now in values), sum(now > then for then, now in values)
        if mean_before - mean_after >= FALL and sign_test(fell, rose) <= ALPHA:
            lost[name] = (mean_before, mean_after)
    return lost


def clustered_interval(correct: np.ndarray) -> tuple[float, float]:
    """(low, high), the 95% interval of the solved rate over all problems of this kind.

    correct: (problems, generations), 1 for a right completion and 0 for a wrong one.

    This is Wilson's interval for n independent trials. With one completion of each problem, n is their number. Several
    completions of one problem are not independent, so they count as fewer: n is chosen such that the variance of n
    trials, rate * (1 - rate) / n, is the one that the means of the problems show. This n is kept between the number of
    problems and that of completions. If all problems have the same mean, n is the number of problems.
    """
    means, rate = correct.mean(axis=1), float(correct.mean())
    num_problems, num_completions = len(means), correct.size
    trials: float = num_problems
    if 1 < num_problems < num_completions:
        variance = means.var(ddof=1) / num_problems
        if variance > 0:
            trials = float(np.clip(rate * (1 - rate) / variance, num_problems, num_completions))
    return verifiers.statistics.wilson_interval(rate * trials, trials)


def majority_vote(rows: Sequence[dict[str, Any]], extracts: bool = True) -> float:
    """1 if the most frequent answer among the completions of one problem is right, else 0.

    If several answers are equally frequent, the result is the share of them that is right. Answers are equal if their
    extracted texts are equal; completions without an extracted text do not vote. extracts: whether the task says what
    it extracted; if not, the answer is the text of the last answer block, or the whole completion.
    """
    # {answer: for each completion that gives this answer, whether the completion is right}
    votes: dict[str, list[bool]] = {}
    for row in rows:
        answer = row["extracted"]
        if not extracts:
            text = row["completion"]
            answer = envs.answer_block.read_answer(text) or envs.answer_block.until_end(text).strip()
        if answer is not None:
            votes.setdefault(answer, []).append(row["correct"])
    if not votes:
        return 0.0
    most_votes = max(map(len, votes.values()))
    shares_right = [np.mean(of_answer) for of_answer in votes.values() if len(of_answer) == most_votes]
    return float(np.mean(shares_right))


def pass_at_k(num_correct: int, n: int, k: int) -> float:
    """The chance that one of `k` completions is right, estimated without bias from `num_correct` of `n`.

    1 <= k <= n and 0 <= num_correct <= n. Source: Chen et al. (2021), equation 1.
    """
    return 1.0 - math.comb(n - num_correct, k) / math.comb(n, k)
