"""Maskings that look first: what a pass without a graph says of the tokens decides which ones are masked.

The first pass shows the copies of another masking, the `pilot`. What it finds is in `row.recorded["pilot"]`. Source of
both maskings: LIFT (arXiv 2605.22939) and its code (github.com/divelab/LIFT), as docs/algorithms/mle.md
says. Axes: M masks (copies); n tokens of a completion.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from spg_trainer.likelihood.masking import Completion, Copies, Masking, count_scored, random_subset
from spg_trainer.likelihood.maskings import FullMasking, SubsetMasking, Subsets

LEAST_SHARE = 1e-6
"""The least beta of a token, divided by the mean: a token without entropy is masked before all others are shown."""


@dataclass(frozen=True)
class EntropyMasking(FullMasking):
    """The pilot of `GiftMasking`: one copy that masks all tokens, in which their entropy is measured."""

    measure: ClassVar[str] = "entropy"

    def copies(self, row: Completion) -> Copies:
        copies = super().copies(row)
        return copies._replace(measured=copies.scored)


class GiftMasking(SubsetMasking):
    """Masks a token the more often, the less sure the model is of it when all tokens are masked (GIFT).

    With b_i = beta_i / mean beta, beta_i the square root of a token's entropy then, a token is masked at time t with
    probability t_i = 1 - (1 - t)^b_i. A uniformly drawn token sets t: the time at which it is masked itself. A masked
    token weighs n h_i / (sum of h over the masked tokens), with h_i = t_i'(t) / t_i(t). Mean over all masks: the ELBO
    of writing the tokens one by one, in a random order in which the next token to mask is drawn in proportion to b_i.
    The order depends on the prompt and on the length, but not on the tokens, so that this is a bound.
    """

    target: ClassVar[str] = "own"

    @property
    def pilot(self) -> Masking:  # type: ignore[override]
        return EntropyMasking()

    def subsets(self, row: Completion) -> Subsets:
        beta = np.sqrt(row.recorded["pilot"][0, : row.length].clip(min=0))
        b = (beta / max(beta.mean(), 1e-12)).clip(min=LEAST_SHARE)
        scored = np.zeros((self.num_masks, row.length), bool)
        weight = np.zeros((self.num_masks, row.length))
        for mask in range(self.num_masks):
            stream = row.streams.of_mask(mask)
            first = stream.integers(row.length)
            # -log(1 - t) at which each token is masked, and now.
            times = stream.exponential(size=row.length).clip(min=1e-12) / b
            now = times[first]
            scored[mask] = times <= now
            with np.errstate(over="ignore"):
                rate = b / np.expm1(now * b)  # h, but for a factor that all tokens share
            weight[mask] = row.length * rate / rate[scored[mask]].sum()
        return scored, weight


class LiftPilot(SubsetMasking):
    """The pilot of `LiftMasking`: K random tokens, or none where the k tokens to mask are drawn without it."""

    is_likelihood: ClassVar[bool] = False

    def subsets(self, row: Completion) -> Subsets:
        scored = np.zeros((self.num_masks, row.length), bool)
        for mask in range(self.num_masks):
            stream = row.streams.of_mask(mask)
            count, candidates = lift_counts(stream, row.length)
            if not 1 / 3 <= count / row.length <= 2 / 3:
                scored[mask] = random_subset(stream, row.length, candidates)
        return scored, 1.0 * scored


class LiftMasking(SubsetMasking):
    """Masks hard tokens where few are masked, and easy ones where many are (LIFT, with its three components).

    k tokens are masked, k uniform on 1..n. They are chosen out of K random tokens, K uniform on about k + n/10 to n, by
    their log-probability where all K are masked: the k lowest for k < n/3, the k highest for k > 2n/3, and random ones
    in between. Each weighs n/k. The choice depends on the text, so the mean over all masks is no bound: it is the
    any-order ELBO only if all tokens are equally hard.
    """

    is_likelihood: ClassVar[bool] = False

    @property
    def pilot(self) -> Masking:  # type: ignore[override]
        return LiftPilot(self.num_masks)

    def subsets(self, row: Completion) -> Subsets:
        scored = np.zeros((self.num_masks, row.length), bool)
        for mask in range(self.num_masks):
            stream = row.streams.of_mask(mask)
            count, _ = lift_counts(stream, row.length)  # as the pilot drew them
            logps = row.recorded["pilot"][mask, : row.length]
            candidates = np.flatnonzero(np.isfinite(logps))
            if not len(candidates):
                scored[mask] = random_subset(stream, row.length, count)
                continue
            hardest_first = candidates[np.argsort(logps[candidates], kind="stable")]
            is_hard = count / row.length < 1 / 3
            scored[mask, hardest_first[:count] if is_hard else hardest_first[-count:]] = True
        return scored, row.length / count_scored(scored)


def lift_counts(stream: np.random.Generator, length: int) -> tuple[int, int]:
    """(k, K): how many of `length` tokens are masked, and among how many they are chosen; the first draws of a stream.

    K is k plus rho n, rounded. rho is uniform on 0.1 to the share of the others (from 0 if that is at most 0.1).
    """
    count = int(stream.integers(1, length + 1))
    others = 1 - count / length
    least = 0.1 if others > 0.1 else 0.0
    return count, min(length, count + round((least + (others - least) * stream.random()) * length))
