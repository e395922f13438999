"""`MASKINGS`, the package's maskings by name, and those that mask a random subset of a completion or of its blocks.

To add one, write a subclass of `masking.Masking` whose `copies` returns the masked copies of a completion, and add a
line to `MASKINGS` at the end.

Axes: M masks (copies); T places of a completion, of which the first n are its tokens.
"""

import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import ClassVar, Literal

import numpy as np

from spg_trainer.architecture.pattern import Pattern
from spg_trainer.errors import ConfigError
from spg_trainer.likelihood.masking import (
    Completion,
    Copies,
    Masking,
    copies_of_scored,
    count_scored,
    random_subset,
)
from spg_trainer.likelihood.path_masks import AutoregressiveMasking, StepMergeMasking
from spg_trainer.tensors import Record

Subsets = tuple[np.ndarray, np.ndarray]
"""(scored, weight): which of the n tokens each copy masks, (M, n) bool, and what each weighs, (M, 1) or (M, n)."""


class SubsetMasking(Masking):
    """Masks a random subset of the n tokens in each copy, and scores it. k is the number of tokens in the subset.

    The package has these, by their names in `MASKINGS`:

    name          tokens masked                                      weight    mean over all masks
    random        k, uniform on 1..n (SPG's `random`)                n/k       any-order ELBO
    bernoulli     each with t, uniform on 0..1 (LLaDA, VRPO, BGPO)   1/t       any-order ELBO
    coupled       k, uniform on 0..n, then the others (ESPO)         (n+1)/k   any-order ELBO
    gauss         k = t n for each of M nodes t of weight w (GDPO)   M w n/k   quadrature of the ELBO's integrand
    all           all (d1)                                           1         mean-field log-likelihood, no bound
    coupled_full  all, then pairs: each with t, or else the others   see class no likelihood: token weights sum to 3/2
    informed      k, uniform on 1..n; dependent tokens more often    n/k       no likelihood (Informed Masking)
    rising        k = t n; t rises from a random number to 1         n/k       no likelihood (UniGRPO)

    "each with t" means that each token is masked with probability t. k = t n is rounded down, and is at least 1.
    `RatioMasking` has no name; only `unigrpo_repro` uses it.
    """

    @abstractmethod
    def subsets(self, row: Completion) -> Subsets:
        """(scored, weight): which of the n tokens each copy masks and scores, and what each of these weighs."""

    def copies(self, row: Completion) -> Copies:
        return copies_of_scored(row, *self.subsets(row))


class RandomMasking(SubsetMasking):
    """A random subset of k tokens, k uniform on 1..n."""

    target: ClassVar[str] = "any_order"

    def subsets(self, row: Completion) -> Subsets:
        return random_subsets(row, [None] * self.num_masks)


@dataclass(frozen=True)
class InformedMasking(SubsetMasking):
    """A random subset of k tokens, k uniform on 1..n; tokens that depended on others are in it more often.

    How much a token depended on others is measured by how much the model's highest probability at its place changed
    when the sampler wrote tokens near it (`Rows.confidence_change`). z is this figure, standardised over the n tokens.
    The k tokens are drawn one after the other, in proportion to exp(sharpness * z) among those that are left. Tokens
    that are masked more often count more, so the mean is no likelihood.

    sharpness: 0 draws as `random` does; below 0, tokens that depended on others are masked less often.

    Source: Informed Masking (2026), whose code is not public. That z is standardised is our choice.
    """

    sharpness: float = 1.5

    is_likelihood: ClassVar[bool] = False
    records: ClassVar[frozenset[Record]] = frozenset({"confidence_change"})
    follows_path: ClassVar[bool] = True

    def subsets(self, row: Completion) -> Subsets:
        change = row.recorded["confidence_change"][: row.length]
        deviation = change.std()
        z = np.zeros(row.length)
        if deviation > 0:
            z = (change - change.mean()) / deviation
        scored = np.zeros((self.num_masks, row.length), bool)
        for mask, subset in enumerate(scored):  # a row of `scored`, which is written in place
            stream = row.streams.of_mask(mask)
            count = stream.integers(1, row.length + 1)
            # The `count` largest of these sums with Gumbel noise are a draw as the docstring describes.
            keys = self.sharpness * z + stream.gumbel(size=row.length)
            subset[np.argsort(-keys)[:count]] = True
        return scored, row.length / count_scored(scored)


class BernoulliMasking(SubsetMasking):
    """Each token with a probability that is uniform on 0..1."""

    target: ClassVar[str] = "any_order"

    def subsets(self, row: Completion) -> Subsets:
        scored = np.zeros((self.num_masks, row.length), bool)
        weight = np.zeros((self.num_masks, 1))
        # A copy without masked tokens would be worth nothing. So the tokens are drawn on condition that at least one is
        # masked, and the weight is multiplied by the probability of this condition. That bounds the weight by n and
        # changes no mean.
        for mask in range(self.num_masks):
            stream = row.streams.of_mask(mask)
            # The probability that a token is not masked, 1 - t. A draw may be 0 but never 1, so t is never 0.
            p_clean, u = stream.random(2)
            p_any = 1 - p_clean**row.length  # that at least one token is masked
            # The place of the first masked token has a geometric distribution, cut at n. It is taken at the quantile u.
            first = 0
            if p_clean > 0:
                first = min(int(np.log(1 - u * p_any) / np.log(p_clean)), row.length - 1)
            scored[mask, first] = True
            # The tokens after it are masked independently.
            scored[mask, first + 1 :] = stream.random(row.length - first - 1) >= p_clean
            weight[mask] = p_any / (1 - p_clean)
        return scored, weight


@dataclass(frozen=True)  # without it, `__post_init__` would not be called
class CoupledMasking(SubsetMasking):
    """Pairs of copies: the first masks k tokens, k uniform on 0..n, the second all others.

    The k of the rows of a step are spread evenly over 0..n from one common random start.
    """

    target: ClassVar[str] = "any_order"

    def __post_init__(self) -> None:
        if self.num_masks % 2:
            even = self.num_masks + 1
            raise ConfigError(
                f"num_masks={self.num_masks}: masking=coupled draws pairs; set num_masks={even}"
            )

    @property
    def has_eubo(self) -> bool:
        # A pair masks each token once, in one context. An upper bound compares contexts, so it takes two pairs.
        return self.num_masks > 2

    def subsets(self, row: Completion) -> Subsets:
        scored = np.zeros((self.num_masks, row.length), bool)
        num_counts = row.length + 1  # k is one of 0..n
        for mask in range(0, self.num_masks, 2):
            common_start = row.streams.of_everyone(mask).integers(num_counts)
            count = (common_start + int(row.quantile * num_counts)) % num_counts
            scored[mask] = random_subset(row.streams.of_mask(mask), row.length, count)
            scored[mask + 1] = ~scored[mask]
        return scored, num_counts / count_scored(scored)


@dataclass(frozen=True)
class GaussMasking(SubsetMasking):
    """A random subset of k = t n tokens for each of the M nodes t of Gauss-Legendre quadrature on 0..1.

    The quadrature is exact where the ELBO's integrand is a polynomial in t of degree up to 2M - 1. w is the weight of a
    node. by_ratio: whether a masked token weighs M w/t, as in NeMo-RL, and not M w n/k.
    """

    by_ratio: bool = False

    target: ClassVar[str] = "quadrature"

    def subsets(self, row: Completion) -> Subsets:
        ratios, weights = gauss_nodes(self.num_masks)
        # Rounding may put the node at 1/2 just below 1/2, hence the 1e-9.
        counts = np.maximum(1, (ratios * row.length + 1e-9).astype(int))
        shares = ratios if self.by_ratio else counts / row.length
        scored, _ = random_subsets(row, counts)
        return scored, (self.num_masks * weights / shares)[:, None]


@dataclass(frozen=True)
class FullMasking(SubsetMasking):
    """Masks all tokens; copies differ only by the prompt tokens that are masked (p_mask_prompt)."""

    num_masks: int = 1

    varies_context: ClassVar[bool] = False
    is_likelihood: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.num_masks > 1 and self.p_mask_prompt == 0:
            reason = "with masking=all and p_mask_prompt=0 all copies are equal; set num_masks=1"
            raise ConfigError(f"num_masks={self.num_masks}: {reason}")

    def subsets(self, row: Completion) -> Subsets:
        return np.ones((self.num_masks, row.length), bool), np.ones((1, 1))


@dataclass(frozen=True)
class FullCoupledMasking(SubsetMasking):
    """One copy masks all tokens, then pairs follow: the first of a pair masks each token with t, the second all others.

    t is uniform on min_ratio..max_ratio, drawn for each pair and the same for all rows of a step. In the mean over the
    copies a token weighs

    - 1/2 in the full copy;
    - in each pair, divided by the number of pairs: 1/(2t) if the first copy masks it, 1/(2(1-t)) if the second does.

    Source: coupled-GRPO.
    """

    num_masks: int = 3
    min_ratio: float = 0.2
    max_ratio: float = 0.8

    varies_context: ClassVar[bool] = False  # so that no EUBO is formed: the weights of a token sum to 3/2
    is_likelihood: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.num_masks < 3 or self.num_masks % 2 == 0:
            reason = "masking=coupled_full is one full mask and pairs; set num_masks=3"
            raise ConfigError(f"num_masks={self.num_masks}: {reason}")

    def subsets(self, row: Completion) -> Subsets:
        num_pairs = self.num_masks // 2
        weight = np.full((self.num_masks, row.length), self.num_masks / 2)
        for pair in range(num_pairs):
            first, second = 2 * pair + 1, 2 * pair + 2  # copy 0 is the full one
            ratio = row.streams.of_everyone(pair).uniform(self.min_ratio, self.max_ratio)
            subset = row.streams.of_mask(first).random(row.length) < ratio
            weight[first] *= subset / (ratio * num_pairs)
            weight[second] *= ~subset / ((1 - ratio) * num_pairs)
        return weight > 0, weight


@dataclass(frozen=True)
class RatioMasking(SubsetMasking):
    """Masks each token with probability t, uniform on min_ratio..max_ratio, as dLLM-RL does; each weighs n/k.

    The mean over all masks is no likelihood, and a copy may score nothing.
    """

    min_ratio: float = 0.1
    max_ratio: float = 0.9

    is_likelihood: ClassVar[bool] = False

    def subsets(self, row: Completion) -> Subsets:
        # All T places are drawn, as in dLLM-RL; only the first n places hold tokens that can be scored.
        masked = np.zeros((self.num_masks, row.size), bool)
        for mask in range(self.num_masks):
            stream = row.streams.of_mask(mask)
            ratio = stream.uniform(self.min_ratio, self.max_ratio)
            masked[mask] = stream.random(row.size) < ratio
        scored = masked[:, : row.length]
        return scored, row.length / count_scored(scored)


class RisingMasking(SubsetMasking):
    """A random subset of k = t n tokens, with a t that rises during a step (UniGRPO).

    In a step's first iteration t is drawn from 0..1. From there it rises linearly to 1, in the last iteration.
    """

    is_likelihood: ClassVar[bool] = False

    def subsets(self, row: Completion) -> Subsets:
        first_ratio = row.streams.of_iterations().random()
        ratio = 1 - (1 - row.progress) * (1 - first_ratio)
        count = max(1, int(ratio * row.length))
        return random_subsets(row, [count] * self.num_masks)


@cache
def gauss_nodes(count: int) -> tuple[np.ndarray, np.ndarray]:
    """(nodes, weights) of Gauss-Legendre quadrature on 0..1, (count,) each."""
    nodes, weights = np.polynomial.legendre.leggauss(count)
    return (1 + nodes) / 2, weights / 2  # from -1..1 to 0..1


def random_subsets(row: Completion, counts: Sequence[int | None]) -> Subsets:
    """(scored, weight): for each copy a random subset of k of the n tokens, and the weight n/k of these, (M, 1).

    counts: (M,), k for each copy, None = it is drawn uniformly from 1..n.
    """
    scored = np.stack(
        [random_subset(row.streams.of_mask(mask), row.length, count) for mask, count in enumerate(counts)]
    )
    return scored, row.length / count_scored(scored)


@dataclass(frozen=True)
class ContextMasking(Masking):
    """The copies of another masking, and one more that masks nothing and scores each token from the text before it.

    Mean over all masks: the mean of the other masking, plus `context_weight` times the log-likelihood from left to
    right under the attention of the context. Source: the training pass of Nemotron-Labs-Diffusion.
    """

    masked_copies: Masking = field(default_factory=RandomMasking)
    context_weight: float = 1.0

    is_likelihood: ClassVar[bool] = False

    @property
    def pilot(self) -> Masking | None:  # type: ignore[override]
        return self.masked_copies.pilot

    @property
    def noise(self) -> str:  # type: ignore[override]
        return self.masked_copies.noise

    def check(self, size: int) -> None:
        self.masked_copies.check(size)

    def check_pattern(self, pattern: Pattern) -> None:
        """Raises ConfigError for attention in which no token is predicted from clean text before it alone."""
        if not pattern.predicts_next:
            raise ConfigError(
                f"context_weight={self.context_weight}: only a model with a causal context, such as "
                "Nemotron-Labs-Diffusion or DiffusionGemma, predicts tokens from the text before them. Leave out "
                "$algorithm_args context_weight."
            )
        self.masked_copies.check_pattern(pattern)

    def count(self, size: int) -> int:
        return self.masked_copies.count(size) + 1

    def sequences(self, size: int, pattern: Pattern) -> int:
        return self.masked_copies.sequences(size, pattern) + 1

    def copies(self, row: Completion) -> Copies:
        copies = self.masked_copies.copies(row)
        masked, num_copies = copies.masked, len(copies.masked)
        is_token = np.arange(row.size) < row.length
        # A bound is `scale` times the mean over all copies. The factors (num_copies + 1) make up for the copy more in
        # that mean, and the clean copy stands for all tokens, so that it must not be scaled.
        weight = np.broadcast_to(copies.weight, masked.shape) * (num_copies + 1) / num_copies
        clean_weight = np.full((1, row.size), self.context_weight * (num_copies + 1) / copies.scale)
        is_clean = np.append(np.zeros(num_copies, bool), True)
        more = {
            name: np.append(values, False)
            for name in ("conditioned", "rated")
            if (values := getattr(copies, name)) is not None
        }
        return copies._replace(
            **more,
            from_context=is_clean,
            masked=np.concatenate([masked, np.zeros_like(is_token)[None]]),
            scored=np.concatenate([copies.scored, is_token[None]]),
            weight=np.concatenate([weight, clean_weight]),
            part=slice(None),  # all tokens
        )


@dataclass(frozen=True)
class BlockMasking(Masking):
    """SPG's block-wise masking: it masks a random subset of one block, everything after it, and some tokens before it.

    Each token before the block is masked with probability p_mask_prompt, as prompt tokens are. Every masked token of
    the n is scored, and if K are masked, each weighs n/K, as in SPG's code. Each mask draws its own block,
    uniformly among those that hold a token. Later blocks are masked more often than earlier ones, so the mean over all
    masks is no likelihood: tokens of late blocks weigh more in it.

    block_length: tokens, >= 1. modulo: whether blocks are drawn as SPG's code draws them. That code puts the numbers of
    all blocks of the T places in a random order, takes each modulo the number of blocks that hold a token, and gives
    the first M results to the masks. If all blocks hold a token, the masks get different blocks. If not, masks may
    share one, and blocks are not equally likely: if 3 of 8 blocks hold a token, the first is drawn 3 times in 8 (as 0,
    3 or 6), the third 2 times.
    """

    block_length: int = 32
    modulo: bool = False

    is_likelihood: ClassVar[bool] = False

    def check(self, size: int) -> None:
        """Raises ConfigError if `modulo` has fewer blocks to draw from, in `size` places, than there are masks."""
        blocks = math.ceil(size / self.block_length)
        if self.modulo and blocks < self.num_masks:
            # The longest block_length that still gives `num_masks` blocks; these are 2 or more here.
            longest = (size - 1) // (self.num_masks - 1)
            or_shorter_blocks = f" or block_length={longest}" if longest else ""
            raise ConfigError(
                f"num_masks={self.num_masks} needs as many blocks, but {size} completion tokens have only {blocks} of "
                f"block_length={self.block_length}. Use $algorithm_args num_masks={blocks}{or_shorter_blocks}."
            )

    def copies(self, row: Completion) -> Copies:
        starts, stops = row.blocks(self.block_length)
        scored = np.zeros((self.num_masks, row.length), bool)
        if self.modulo:
            all_blocks = math.ceil(row.size / self.block_length)  # also those after the end
            # One draw for all masks of the completion, from a stream that they share.
            block_of_mask = row.streams.of_row().permutation(all_blocks) % len(starts)
        for mask, scored_by_mask in enumerate(scored):  # a row of `scored`, which is written in place
            stream = row.streams.of_mask(mask)
            block = block_of_mask[mask] if self.modulo else stream.integers(len(starts))
            start, stop = starts[block], stops[block]
            scored_by_mask[start:stop] = random_subset(stream, stop - start)
            scored_by_mask[stop:] = True
            if self.p_mask_prompt > 0:
                scored_by_mask[:start] = stream.random(start) < self.p_mask_prompt
        # Scored tokens are masked, and so are the places after the end (`copies_of_scored`).
        return copies_of_scored(row, scored, row.length / count_scored(scored))


@dataclass(frozen=True)
class ActiveBlockMasking(Masking):
    """Masks k of the n_b tokens of one block, k uniform on 1..n_b, and all later blocks; only the k tokens are scored.

    Mean over all masks: the block ELBO of semi-autoregressive decoding. All M masks of a completion share the
    block, so that they show its tokens in different contexts. A scored token weighs n_b/k, and the bounds are scaled by
    the number of blocks. block_length: tokens, >= 1; with 1, a token has one context only, and there is no upper bound.
    """

    block_length: int = 32

    target: ClassVar[str] = "blocks"

    @property
    def varies_context(self) -> bool:
        return self.block_length > 1

    def copies(self, row: Completion) -> Copies:
        starts, stops = row.blocks(self.block_length)
        scored = np.zeros((self.num_masks, row.length), bool)
        # All masks of the completion share this stream.
        block = row.streams.of_row().integers(len(starts))
        start, stop = starts[block], stops[block]
        for mask, scored_by_mask in enumerate(scored):  # a row of `scored`, which is written in place
            scored_by_mask[start:stop] = random_subset(row.streams.of_mask(mask), stop - start)
        # So far the copies mask what they score. They also mask the later blocks, without scoring them.
        copies = copies_of_scored(row, scored, (stop - start) / count_scored(scored))
        copies.masked[:, stop:] = True
        return copies._replace(part=slice(start, stop), scale=float(len(starts)))


@dataclass(frozen=True)
class GaussBlocksMasking(Masking):
    """Masks each token with a chance near a node of a quadrature; the chance falls from first block to last (SLIM-RL).

    Each of the M copies has a node t of Gauss-Legendre quadrature on 0..1, of weight w. Of the K blocks that hold a
    token, block j = 0, 1, ... masks each of its tokens with the chance t + s/2 cos(pi j / (K-1)). s is `spread`, or
    twice the distance of t from 0 or 1 if that is less. The mean of the chances over the blocks is t, and a single
    block has the chance t. Each of the k masked tokens is scored and weighs M w/k, so that a completion counts by the
    mean over its masked tokens; a copy that masks none scores nothing. In one block of n tokens, the mean over all
    masks is 1/(n+1) times the any-order ELBO, for M > n/2.

    block_length: tokens, >= 1. spread: 0 to 1.
    """

    num_masks: int = 3
    block_length: int = 32
    spread: float = 0.2

    is_likelihood: ClassVar[bool] = False

    def copies(self, row: Completion) -> Copies:
        starts, stops = row.blocks(self.block_length)
        nodes, weights = gauss_nodes(self.num_masks)
        late = np.arange(len(starts)) / max(1, len(starts) - 1)  # 0 in the first block, 1 in the last
        tilt = np.cos(np.pi * late) / 2 if len(starts) > 1 else np.zeros(1)
        spread = np.minimum(self.spread, 2 * np.minimum(nodes, 1 - nodes))
        chances = (nodes[:, None] + spread[:, None] * tilt).repeat(stops - starts, axis=1)  # (M, n)
        drawn = np.stack([row.streams.of_mask(mask).random(row.length) for mask in range(self.num_masks)])
        scored = drawn < chances
        return copies_of_scored(row, scored, self.num_masks * weights[:, None] / count_scored(scored))


# The maskings below look first: what a pass without a graph says of the tokens decides which ones are masked. The first
# pass shows the copies of another masking, the `pilot`, and what it finds is in `row.recorded["pilot"]`. Source of
# both: LIFT (arXiv 2605.22939) and its code (github.com/divelab/LIFT), as docs/algorithms/mle.md says.

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


@dataclass(frozen=True)
class FlatMasking(Masking):
    """Corrupts each place with probability t, t uniform on eps..1, and scores all n tokens, corrupted or not.

    The mean of their log-probabilities, each with weight 1, is the objective by which DiffusionGemma was trained. It is
    a *surrogate*, and no bound on the log-likelihood in either direction: a bound has weights of about 1/t. Its minimum
    is the right one, though, since it is a proper score of the model's predictions.

    eps: the least t, above 0. conditioning: the share of copies that are conditioned on their own prediction, as each
    step of decoding after the first is on that of the step before. Source of both: NeMo Automodel's recipe.
    """

    eps: float = 1e-3
    conditioning: float = 0.5

    is_likelihood: ClassVar[bool] = False
    noise: ClassVar[Literal["mask", "uniform"]] = "uniform"
    figures: ClassVar[Mapping[str, str]] = {"bound/elbo": "surrogate/flat"}
    meaning: ClassVar[str] = (
        "flat: a surrogate, the mean log-probability of all tokens under random ones; no bound on the log-likelihood"
    )

    @property
    def has_eubo(self) -> bool:
        """No: no upper bound is known for a token that is hidden by a random one."""
        return False

    def ratio(self, stream: np.random.Generator) -> float:
        """Draws t, the noise of a copy."""
        return stream.uniform(self.eps, 1.0)

    def copies(self, row: Completion) -> Copies:
        masked = np.zeros((self.num_masks, row.size), bool)
        conditioned = np.zeros(self.num_masks, bool)
        for mask in range(self.num_masks):
            stream = row.streams.of_mask(mask)
            ratio = self.ratio(stream)
            conditioned[mask] = stream.random() < self.conditioning
            # By places, and up to the end of the canvas: behind the end stand end tokens, which are hidden, too.
            masked[mask] = (stream.random(row.size) < ratio)[row.place]
        scored = np.broadcast_to(np.arange(row.size) < row.length, masked.shape)
        return Copies(masked, scored.copy(), 1.0, conditioned=conditioned)


@dataclass(frozen=True)
class FlatCanvasMasking(FlatMasking):
    """As `FlatMasking`, of one canvas that is drawn for each copy; so it costs as much as one canvas.

    A token weighs as many times as there are canvases with tokens, so that the mean over all masks is the same. Source:
    the published trainers of DiffusionGemma. block_length: tokens of a canvas.
    """

    block_length: int = 32

    def copies(self, row: Completion) -> Copies:
        copies = super().copies(row)
        starts, stops = row.blocks(self.block_length)
        for mask, scored in enumerate(copies.scored):  # a row of `scored`, which is written in place
            canvas = row.streams.of_mask(mask).integers(len(starts))
            scored[: starts[canvas]] = False
            scored[stops[canvas] :] = False
        return copies._replace(weight=float(len(starts)))


@dataclass(frozen=True)
class ElboEpsMasking(FlatMasking):
    """A lower bound under random tokens, for the law of a sampler that stops at noise `eps` and then predicts all.

    That sampler redraws each place from the model's prediction mu with probability (t - s)/t, as the noise falls from t
    to s, and else keeps it; its last step, at eps, draws every token from mu. For infinitely many steps

        log p(x) >= E log mu(x | z_eps) - integral over t from eps to 1 of 1/t E of a sum over the tokens of
                    -log mu(x_i) - mu(z_i) where z_i is not x_i, and 1 - mu(z_i) where it is,

    z at noise t. The last copy has noise eps, and its tokens the first term. All others have t in proportion to 1/t, so
    that each weighs log(1/eps), and their tokens minus what stands under the integral (`likelihood.logps.rate`). The
    model is not told t, so the bound is the looser, the smaller eps is. It is one only if every place of the canvases
    is scored, and is not the law of `--unmasking entropy_bound`. eps: above 0 and below 1.

    Source: the second coupling of arXiv 2605.22765, with the vocabulary's size cancelled.
    """

    num_masks: int = 4
    eps: float = 0.1
    conditioning: float = 0.0

    target: ClassVar[str] = "own"
    is_likelihood: ClassVar[bool] = True
    figures: ClassVar[Mapping[str, str]] = {"bound/elbo": "bound/elbo_eps"}
    meaning: ClassVar[str] = (
        "elbo_eps: a lower bound on the log-likelihood of a sampler that redraws from the prediction down to the "
        "noise eps; not of --unmasking entropy_bound"
    )

    def __post_init__(self) -> None:
        if self.num_masks < 2:
            raise ConfigError("num_masks=1: masking=elbo_eps has a copy for its last step; set num_masks=4")

    def ratio(self, stream: np.random.Generator) -> float:
        return self.eps ** stream.random()  # its density is in proportion to 1/t

    def copies(self, row: Completion) -> Copies:
        copies = super().copies(row)
        is_rated = np.arange(self.num_masks) < self.num_masks - 1
        last = row.streams.of_mask(self.num_masks - 1)
        copies.masked[-1] = (last.random(row.size) < self.eps)[row.place]
        # The bound is a mean over all copies: the others stand for the integral, and the last for the first term.
        of_others = math.log(1 / self.eps) / (self.num_masks - 1)
        weight = self.num_masks * np.where(is_rated, of_others, 1.0)[:, None]
        return copies._replace(weight=weight, rated=is_rated)


MASKINGS: dict[str, Masking] = {
    "random": RandomMasking(),
    "block": BlockMasking(),
    "block_active": ActiveBlockMasking(),
    "trajectory": StepMergeMasking(segment_draw="uniform"),
    "informed": InformedMasking(),
    "all": FullMasking(),
    "bernoulli": BernoulliMasking(),
    "coupled": CoupledMasking(),
    "gauss": GaussMasking(),
    "rising": RisingMasking(),
    "autoregressive": AutoregressiveMasking(),
    "step_merge": StepMergeMasking(),
    "coupled_full": FullCoupledMasking(),
    "gauss_blocks": GaussBlocksMasking(),
    "flat": FlatMasking(),
    "flat_canvas": FlatCanvasMasking(),
    "elbo_eps": ElboEpsMasking(),
}
"""What `--algorithm-args masking=NAME` chooses from, with default fields. An algorithm replaces the fields that it also
has, such as num_masks."""


def likelihoods() -> dict[str, Masking]:
    """The maskings for models with [MASK] whose ELBO bounds, or is, a log-likelihood in the mean (`is_likelihood`)."""
    return {name: m for name, m in MASKINGS.items() if m.is_likelihood and m.noise == "mask"}


def comparable() -> dict[str, Masking]:
    """The maskings by which whole completions may be compared: `likelihoods`, and those for models without [MASK].

    Of the latter, `flat` is a surrogate for a likelihood. These models were trained by it, and have nothing else.
    """
    return {**likelihoods(), **{name: m for name, m in MASKINGS.items() if m.noise == "uniform"}}
