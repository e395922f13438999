"""Maskings of a random subset of all tokens of a completion."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import ClassVar

import numpy as np

from spg_trainer.errors import ConfigError
from spg_trainer.likelihood.masking import (
    Completion,
    Copies,
    Masking,
    copies_of_scored,
    count_scored,
    random_subset,
)

Drawn = tuple[np.ndarray, np.ndarray]
"""Which of the n tokens each of M copies masks, (M, n) bool, and what each weighs, (M, 1) or (M, n)."""
_leggauss = cache(np.polynomial.legendre.leggauss)


class SubsetMasking(Masking):
    """Masks a random subset of the n tokens in each copy. Those of the package, of which `MASKINGS` has the names:

    name          tokens masked                                      weight    mean over all masks
    random        k, uniform on 1..n (SPG's `random`)                n/k       any-order ELBO
    bernoulli     each with t, uniform on 0..1 (LLaDA, VRPO, BGPO)   1/t       any-order ELBO
    coupled       k, uniform on 0..n, then the others (ESPO)         (n+1)/k   any-order ELBO
    gauss         k = t n for each of M nodes t of weight w (GDPO)   M w n/k   quadrature of the ELBO's integrand
    all           all (d1)                                           1         mean-field log-likelihood, no bound
    coupled_full  all, then pairs: each with t, or else the others   below     no likelihood: token weights sum to 3/2
    rising        k = t n, t from a draw to 1 as iterations go by    n/k       no likelihood (UniGRPO)
    `RatioMasking`, each with t, uniform on min..max_ratio (dLLM-RL) n/k       no likelihood; a copy may score nothing

    t n is rounded down, and at least 1.
    """

    @abstractmethod
    def subsets(self, row: Completion) -> Drawn:
        """Which of the n tokens each of the M copies masks, and what each of these weighs."""

    def copies(self, row: Completion) -> Copies:
        return copies_of_scored(row, *self.subsets(row))


@dataclass(frozen=True)
class RandomMasking(SubsetMasking):
    """A random subset of k tokens, k uniform on 1..n."""

    def subsets(self, row: Completion) -> Drawn:
        return random_subsets(row, [None] * self.num_masks)


@dataclass(frozen=True)
class BernoulliMasking(SubsetMasking):
    """Each token with a probability that is uniform on 0..1."""

    def subsets(self, row: Completion) -> Drawn:
        scored, weight = np.zeros((self.num_masks, row.length), bool), np.zeros((self.num_masks, 1))
        # A copy without masked tokens would be worth nothing. So the tokens are drawn on condition that at least one is
        # masked, and the weight is multiplied by the probability of that, which bounds it by n and changes no mean.
        for mask, stream in enumerate(map(row.streams.of_mask, range(self.num_masks))):
            p_clean, u = stream.random(2)  # the ratio t is 1 - p_clean, so that it is never 0
            p_any = 1 - p_clean**row.length
            # The first masked token follows a geometric law cut at n; those behind it are masked independently.
            first = min(int(np.log(1 - u * p_any) / np.log(p_clean)), row.length - 1) if p_clean > 0 else 0
            scored[mask, first], weight[mask] = True, p_any / (1 - p_clean)
            scored[mask, first + 1 :] = stream.random(row.length - first - 1) >= p_clean
        return scored, weight


@dataclass(frozen=True)
class CoupledMasking(SubsetMasking):
    """Pairs of copies: the first masks k tokens, k uniform on 0..n, the second all others.

    The k of the rows of a step are spread evenly over 0..n from one common random start.
    """

    def __post_init__(self) -> None:
        if self.num_masks % 2:
            even = self.num_masks + 1
            raise ConfigError(
                f"num_masks={self.num_masks}: masking=coupled draws pairs; set num_masks={even}"
            )

    @property
    def has_eubo(self) -> bool:  # a pair shows each token once
        return self.num_masks > 2

    def subsets(self, row: Completion) -> Drawn:
        scored, sizes = np.zeros((self.num_masks, row.length), bool), row.length + 1  # 0..n are n + 1 sizes
        for mask in range(0, self.num_masks, 2):
            common_start = row.streams.of_everyone(mask).integers(sizes)
            count = (common_start + int(row.quantile * sizes)) % sizes
            scored[mask] = random_subset(row.streams.of_mask(mask), row.length, count)
            scored[mask + 1] = ~scored[mask]
        return scored, sizes / count_scored(scored)


@dataclass(frozen=True)
class GaussMasking(SubsetMasking):
    """As many tokens as the nodes t of Gauss's and Legendre's quadrature say, one copy for each node.

    The quadrature is exact where the ELBO's integrand is a polynomial in t of degree up to 2M - 1. by_ratio: whether a
    masked token weighs M w/t, as in NeMo-RL, and not M w n/k.
    """

    by_ratio: bool = False

    def subsets(self, row: Completion) -> Drawn:
        nodes, weights = _leggauss(self.num_masks)
        ratios, weights = (1 + nodes) / 2, weights / 2
        counts = np.maximum(1, (ratios * row.length + 1e-9).astype(int))  # a node at 1/2 may lie just below
        weights = self.num_masks * weights / (ratios if self.by_ratio else counts / row.length)
        return random_subsets(row, counts)[0], weights[:, None]


@dataclass(frozen=True)
class FullMasking(SubsetMasking):
    """All tokens; copies differ by the noise of the prompt alone."""

    num_masks: int = 1

    varies_context: ClassVar[bool] = False
    is_likelihood: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.num_masks > 1 and self.p_mask_prompt == 0:
            equal = "with masking=all and p_mask_prompt=0 all copies are equal; set num_masks=1"
            raise ConfigError(f"num_masks={self.num_masks}: {equal}")

    def subsets(self, row: Completion) -> Drawn:
        return np.ones((self.num_masks, row.length), bool), np.ones((1, 1))


@dataclass(frozen=True)
class FullCoupledMasking(SubsetMasking):
    """One copy that masks all tokens, then pairs: the first of a pair masks each token with t, the second all others.

    t is uniform on min_ratio..max_ratio and the same for all rows of a step. In the mean over copies a token weighs 1/2
    in the full copy, and 1/(2t) or 1/(2(1-t)) in one of a pair (coupled-GRPO).
    """

    num_masks: int = 3
    min_ratio: float = 0.2
    max_ratio: float = 0.8

    varies_context: ClassVar[bool] = False
    is_likelihood: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.num_masks < 3 or self.num_masks % 2 == 0:
            pairs = "masking=coupled_full is one full mask and pairs; set num_masks=3"
            raise ConfigError(f"num_masks={self.num_masks}: {pairs}")

    def subsets(self, row: Completion) -> Drawn:
        pairs = self.num_masks // 2
        weight = np.full((self.num_masks, row.length), self.num_masks / 2)
        for pair in range(pairs):
            ratio = row.streams.of_everyone(pair).uniform(self.min_ratio, self.max_ratio)
            subset = row.streams.of_mask(2 * pair + 1).random(row.length) < ratio
            weight[2 * pair + 1] *= subset / (ratio * pairs)
            weight[2 * pair + 2] *= ~subset / ((1 - ratio) * pairs)
        return weight > 0, weight


@dataclass(frozen=True)
class RatioMasking(SubsetMasking):
    """Each token with t, uniform on min_ratio..max_ratio; as in dLLM-RL, the draw is over all T places."""

    min_ratio: float = 0.1
    max_ratio: float = 0.9

    is_likelihood: ClassVar[bool] = False

    def subsets(self, row: Completion) -> Drawn:
        streams = map(row.streams.of_mask, range(self.num_masks))
        low, high = self.min_ratio, self.max_ratio
        masked = np.stack([stream.uniform(low, high) > stream.random(row.size) for stream in streams])
        scored = masked[:, : row.length]
        return scored, row.length / count_scored(scored)


@dataclass(frozen=True)
class RisingMasking(SubsetMasking):
    """A share of the tokens: drawn from 0..1 for a step's first iteration, it rises to 1 in the last (UniGRPO)."""

    is_likelihood: ClassVar[bool] = False

    def subsets(self, row: Completion) -> Drawn:
        first_share = row.streams.of_iterations().random()
        share = 1 - (1 - row.progress) * (1 - first_share)
        count = max(1, int(share * row.length))
        return random_subsets(row, [count] * self.num_masks)


def random_subsets(row: Completion, counts: Sequence[int | None]) -> Drawn:
    """A random subset of the n tokens for each of M copies, and weights (M, 1): n/k where it has k tokens.

    counts: (M,) how many tokens, None = drawn uniformly from 1..n.
    """
    scored = np.stack(
        [random_subset(row.streams.of_mask(mask), row.length, count) for mask, count in enumerate(counts)]
    )
    return scored, row.length / count_scored(scored)
