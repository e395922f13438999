"""What the model is shown when a completion is scored: one `Masking` for each way to estimate its log-likelihood.

A new one is a class derived from `Masking` that says all `copies` of a completion, and a line of `MASKINGS` below;
`masking=NAME` chooses it.

Axes: B completions, M masks, L prompt tokens, T completion tokens; n is the number of tokens of a completion, up to and
including its first end token. All randomness comes from the streams that the caller hands in, so a draw depends neither
on the padded width of the prompt nor on the other rows.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import TYPE_CHECKING, ClassVar, NamedTuple, Protocol

import numpy as np
import torch

from spg_trainer.errors import ConfigError
from spg_trainer.seeding import numpy_generator
from spg_trainer.tensors import GIVEN, Masks, Rollouts, Where

if TYPE_CHECKING:
    from spg_trainer.architecture.pattern import Pattern

Drawn = tuple[np.ndarray, np.ndarray]
"""Which of the n tokens each of M copies masks, (M, n) bool, and what each weighs, (M, 1) or (M, n)."""
_leggauss = cache(np.polynomial.legendre.leggauss)


class Streams(Protocol):
    """Where the masks of some rows take their randomness from; asked for the same stream again, it begins anew."""

    def of_mask(self, row: int, mask: int) -> np.random.Generator:
        """For one masked copy of a row alone."""

    def of_row(self, row: int) -> np.random.Generator:
        """For what all copies of a row have in common."""

    def of_iterations(self, row: int) -> np.random.Generator:
        """For what the copies of a row have in common in all updates of a step."""

    def of_everyone(self, mask: int) -> np.random.Generator:
        """For what this copy of each row of the step has in common."""


@dataclass(frozen=True)
class KeyedStreams:
    """`Streams` that depend on what they are for, as all of `spg_trainer.seeding`, and not on where a row stands."""

    seed: int
    purpose: tuple[int | str, ...]
    """What all masks of a step are for, e.g. ("masks", step)."""
    rows: Sequence[tuple[int | str, ...]]
    """B, what tells the rows apart, e.g. `Place.keys`."""
    update: tuple[int, ...] = ()
    """The number of the update in its step; empty where there is one only."""

    def of_mask(self, row: int, mask: int) -> np.random.Generator:
        return numpy_generator(self.seed, *self.purpose, *self.rows[row], *self.update, mask)

    def of_row(self, row: int) -> np.random.Generator:
        return numpy_generator(self.seed, *self.purpose, *self.rows[row], *self.update, -1)

    def of_iterations(self, row: int) -> np.random.Generator:
        return numpy_generator(self.seed, *self.purpose, *self.rows[row], -2)

    def of_everyone(self, mask: int) -> np.random.Generator:
        return numpy_generator(self.seed, *self.purpose, "all", *self.update, mask)


class RowStreams:
    """The streams of one row. Asked for again, each goes on where it was; only that of everyone begins anew."""

    def __init__(self, streams: Streams, row: int) -> None:
        self.of_mask = cache(partial(streams.of_mask, row))
        self.of_row = cache(partial(streams.of_row, row))
        self.of_iterations = cache(partial(streams.of_iterations, row))
        self.of_everyone = streams.of_everyone


class Completion(NamedTuple):
    """One completion, and where its randomness comes from.

    length, size, prompt_length: its tokens n, all T of them, and the real ones of its prompt. place: (T,) where each
    stands on the canvas: 0..T-1, but where a template was filled. The n tokens are then what was written up to the end
    of each hole, in order; behind them come what stands behind these ends, and what was given, which is shown whatever
    a masking says. unmask_step: (T,).
    surprise: (T,) minus the log-probability of each token when it was unmasked, nats. progress: of the iterations, from
    0 to 1. quantile: the row's number over that of all rows. iteration: of the rollout's updates, from 0. entropy: (T,)
    that of the law that each token was drawn from, if known. branched: whether its first half is another completion's,
    of whose node it is a leaf. fill_step: the denoising step before which one pass filled all masks, -1 = the sampler
    wrote all of it.
    """

    length: int
    size: int
    prompt_length: int
    place: np.ndarray
    unmask_step: np.ndarray
    surprise: np.ndarray
    streams: RowStreams
    progress: float
    quantile: float
    iteration: int = 0
    entropy: np.ndarray | None = None
    branched: bool = False
    fill_step: int = -1

    def blocks(self, block_length: int, before: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """First token and end of each block of the canvas that holds any of the n tokens, (blocks,) each.

        before: tokens of the prompt that the first block begins with.
        """
        number = (self.place[: self.length] + before) // block_length
        starts = np.flatnonzero(np.diff(number, prepend=-1))
        return starts, np.append(starts[1:], self.length)


class Copies(NamedTuple):
    """All masked copies of one completion.

    masked, scored: (M, T) bool. weight: of a scored token, anything that broadcasts to (M, T). part, scale: the tokens
    that the masks are about, up to the end, and 1 / probability of that part. measured, ref_masked: (M, T) bool, as in
    `Masks`.
    """

    masked: np.ndarray
    scored: np.ndarray
    weight: np.ndarray | float
    part: slice = slice(None)
    scale: float = 1.0
    measured: np.ndarray | None = None
    ref_masked: np.ndarray | None = None


@dataclass(frozen=True)
class Masking(ABC):
    """How completions are masked for scoring; its fields are set by the algorithm's fields of the same names.

    num_masks: M, >= 1. p_mask_prompt: the chance that a real prompt token is masked, 0 up to but not 1.
    """

    num_masks: int = 2
    p_mask_prompt: float = 0.0

    varies_context: ClassVar[bool] = True
    """Whether different masks show the same token in different contexts."""
    is_likelihood: ClassVar[bool] = True
    """Whether the ELBO is in the mean over all masks a log-likelihood or a bound on one, as a ratio of sequences asks
    for. A masking whose mean is none says False, and those algorithms refuse it."""
    measure: ClassVar[str] = ""
    """The figure of `MEASURES` that `Copies.measured` asks for, "" = none."""
    hints: ClassVar[bool] = False
    """Whether the reference is shown more than the model: `Copies.ref_masked`."""

    @property
    def has_eubo(self) -> bool:
        """Whether an upper bound can be formed: it compares at least two contexts of one token."""
        return self.varies_context and self.num_masks > 1

    def check(self, size: int) -> None:
        """Raises ConfigError if completions of `size` tokens cannot be masked this way; by default all can."""
        return

    def check_pattern(self, pattern: "Pattern") -> None:
        """Raises ConfigError for a model whose attention it does not suit; by default it suits any."""
        return

    def count(self, size: int) -> int:
        """M for completions of `size` tokens."""
        return self.num_masks

    @abstractmethod
    def copies(self, row: Completion) -> Copies:
        """All masked copies of a completion, `count(T)` of them."""

    def draw(self, rollouts: Rollouts, streams: Streams, where: Where | None = None) -> Masks:
        """Masks M copies of every completion; the masks lie on the device of the rollouts.

        where: by default these rows are a whole step of one iteration. Raises ConfigError if a position would be scored
        that was never unmasked: training on it would raise the probability of [MASK] itself.
        """
        prompt = rollouts.prompt_mask.cpu().numpy()
        (rows, width), size = prompt.shape, rollouts.completion_ids.shape[1]
        self.check(size)
        num_masks = self.count(size)
        masked = np.zeros((rows, num_masks, width + size), dtype=bool)
        scored = np.zeros((rows, num_masks, size), dtype=bool)
        weight = np.zeros((rows, num_masks, size))
        scale, part = np.ones(rows), np.zeros((rows, size), dtype=bool)
        measured = np.zeros_like(scored) if self.measure else None
        ref_masked = np.zeros_like(masked) if self.hints else None
        where = where or Where(0, 1, [row / rows for row in range(rows)])
        for row, shown in enumerate(_completions(rollouts, streams, where)):
            place = shown.place
            copies = self.copies(shown) if shown.fill_step < 0 else _refill(shown, num_masks)
            masked[row][:, width + place], scored[row][:, place] = copies.masked, copies.scored
            weight[row][:, place] = np.where(copies.scored, copies.weight, 0.0)
            scale[row], part[row, place[: shown.length][copies.part]] = copies.scale, True
            if self.p_mask_prompt > 0:
                real = np.flatnonzero(prompt[row])
                for mask in range(num_masks):
                    noise = shown.streams.of_mask(mask).random(len(real))
                    masked[row, mask, real] = noise < self.p_mask_prompt
            if measured is not None:
                measured[row][:, place] = copies.measured
            if ref_masked is not None:
                ref_masked[row][:, :width] = masked[row][:, :width]
                ref_masked[row][:, width + place] = copies.ref_masked
        unmask_step = rollouts.unmask_step.cpu().numpy()
        for shown_as_mask in (masked, ref_masked):
            if shown_as_mask is not None:
                shown_as_mask[:, :, width:] &= (unmask_step != GIVEN)[:, None]
        if (scored & (unmask_step < 0)[:, None]).any():
            raise ConfigError(
                f"{type(self).__name__} scores positions that were never unmasked, which would train the probability "
                "of [MASK]. Score up to the first end token (completion_mask), or set score_tail=true."
            )
        device = rollouts.completion_ids.device
        masks = Masks(
            *(torch.from_numpy(array).to(device) for array in (masked, scored, weight, scale, part))
        )
        more = {"measured": measured, "ref_masked": ref_masked}
        more = {name: torch.from_numpy(a).to(device) for name, a in more.items() if a is not None}
        return replace(masks, measure=self.measure, **more)


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
        return _hide(row, *self.subsets(row))


@dataclass(frozen=True)
class RandomMasking(SubsetMasking):
    """So many tokens as a uniform draw from 1..n says."""

    def subsets(self, row: Completion) -> Drawn:
        return _of_size(row, [None] * self.num_masks)


@dataclass(frozen=True)
class BernoulliMasking(SubsetMasking):
    """Each token with a probability that is uniform on 0..1."""

    def subsets(self, row: Completion) -> Drawn:
        scored, weight = np.zeros((self.num_masks, row.length), bool), np.zeros((self.num_masks, 1))
        # A copy without masked tokens would be worth nothing: they are drawn given that at least one is masked, and the
        # weight is multiplied by the probability of that, which bounds it by n and changes no mean.
        for mask, stream in enumerate(map(row.streams.of_mask, range(self.num_masks))):
            clean, u = stream.random(2)  # the ratio is 1 - clean, so that it is never 0
            some = 1 - clean**row.length
            # The first masked token follows a geometric law cut at n; those behind it are masked independently.
            first = min(int(np.log(1 - u * some) / np.log(clean)), row.length - 1) if clean > 0 else 0
            scored[mask, first], weight[mask] = True, some / (1 - clean)
            scored[mask, first + 1 :] = stream.random(row.length - first - 1) >= clean
        return scored, weight


@dataclass(frozen=True)
class CoupledMasking(SubsetMasking):
    """Pairs: k tokens, uniform on 0..n, then the others. The k of the rows of a step are spread evenly over 0..n from
    one common random start.
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
        scored, sizes = np.zeros((self.num_masks, row.length), bool), row.length + 1
        for mask in range(0, self.num_masks, 2):
            count = (row.streams.of_everyone(mask).integers(sizes) + int(row.quantile * sizes)) % sizes
            scored[mask] = _subset(row.streams.of_mask(mask), row.length, count)
            scored[mask + 1] = ~scored[mask]
        return scored, sizes / _count(scored)


@dataclass(frozen=True)
class GaussMasking(SubsetMasking):
    """As many tokens as the nodes of Gauss's and Legendre's quadrature say, which would be the ELBO for polynomials of
    degree up to 2M - 1 in t. by_ratio: a copy weighs M w/t (NeMo-RL), not M w n/k.
    """

    by_ratio: bool = False

    def subsets(self, row: Completion) -> Drawn:
        nodes, weights = _leggauss(self.num_masks)
        ratios, weights = (1 + nodes) / 2, weights / 2
        counts = np.maximum(1, (ratios * row.length + 1e-9).astype(int))  # a node at 1/2 may lie just below
        weights = self.num_masks * weights / (ratios if self.by_ratio else counts / row.length)
        return _of_size(row, counts)[0], weights[:, None]


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
    """All tokens, then pairs: each token with t, uniform on min..max_ratio and that of all rows, or else the others.

    In the mean over copies a token weighs 1/2 in the first and 1/(2t) or 1/(2(1-t)) in one of a pair (coupled-GRPO).
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
    """Each of the T tokens with t, uniform on min..max_ratio, as dLLM-RL draws them."""

    min_ratio: float = 0.1
    max_ratio: float = 0.9

    is_likelihood: ClassVar[bool] = False

    def subsets(self, row: Completion) -> Drawn:
        low, high, streams = self.min_ratio, self.max_ratio, map(row.streams.of_mask, range(self.num_masks))
        scored = np.stack([s.uniform(low, high) > s.random(row.size) for s in streams])[:, : row.length]
        return scored, row.length / _count(scored)


@dataclass(frozen=True)
class RisingMasking(SubsetMasking):
    """A share of the tokens that rises from a draw to 1 as the iterations of a step go by (UniGRPO)."""

    is_likelihood: ClassVar[bool] = False

    def subsets(self, row: Completion) -> Drawn:
        count = max(
            1, int((1 - (1 - row.progress) * (1 - row.streams.of_iterations().random())) * row.length)
        )
        return _of_size(row, [count] * self.num_masks)


@dataclass(frozen=True)
class BlockMasking(Masking):
    """SPG's block-wise masking: a random subset of one block, everything after it, and noise p before it.

    Every masked token up to the end is scored and weighs n/K, K of them being masked, as in SPG's code. Biased: later
    blocks are masked more often than earlier ones, so the mean over all masks is no likelihood but a mixture that
    weighs late blocks more. Each mask draws its own block, uniformly among those that hold a scored token.
    block_length: tokens, >= 1. modulo: blocks are drawn as SPG's code draws them, by a permutation of all blocks of the
    T tokens, modulo those in use; that is not uniform where a completion ends early, and masks may share a block.
    """

    block_length: int = 32
    modulo: bool = False

    is_likelihood: ClassVar[bool] = False

    def check(self, size: int) -> None:
        """Raises ConfigError where `size` completion tokens hold fewer blocks than `modulo` draws."""
        if self.modulo and (blocks := len(range(0, size, self.block_length))) < self.num_masks:
            text = f"num_masks={self.num_masks} needs as many blocks; {size} completion tokens hold {blocks}"
            remedy = f"lower --block-length {self.block_length}, or use --algorithm-args num_masks={blocks}"
            raise ConfigError(f"{text}: {remedy}")

    def copies(self, row: Completion) -> Copies:
        starts, stops = row.blocks(self.block_length)
        scored = np.zeros((self.num_masks, row.length), bool)
        if self.modulo:
            order = row.streams.of_row().permutation(len(range(0, row.size, self.block_length))) % len(starts)
        for mask, subset in enumerate(scored):
            stream = row.streams.of_mask(mask)
            block = order[mask] if self.modulo else stream.integers(len(starts))
            start, stop = starts[block], stops[block]
            subset[start:stop] = _subset(stream, stop - start)
            subset[stop:] = True
            if self.p_mask_prompt > 0:
                subset[:start] = stream.random(start) < self.p_mask_prompt
        return _hide(row, scored, row.length / _count(scored))


@dataclass(frozen=True)
class ActiveBlockMasking(Masking):
    """Masks k of the n_b tokens of one block, k uniform, and all later blocks; only the block's are scored.

    Mean over all masks: the block ELBO of semi-autoregressive decoding. All M masks of a completion share the block, so
    that they see its tokens in different contexts; a token weighs n_b/k inside the block, and the bounds are scaled by
    the number of blocks. block_length: tokens, >= 1; with 1 a token is always masked alone, without an upper bound.
    """

    block_length: int = 32

    @property
    def varies_context(self) -> bool:
        return self.block_length > 1

    def copies(self, row: Completion) -> Copies:
        starts, stops = row.blocks(self.block_length)
        scored = np.zeros((self.num_masks, row.length), bool)
        block = row.streams.of_row().integers(len(starts))
        start, stop = starts[block], stops[block]
        for mask, subset in enumerate(scored):
            subset[start:stop] = _subset(row.streams.of_mask(mask), stop - start)
        copies = _hide(row, scored, (stop - start) / _count(scored))
        copies.masked[:, stop:] = True
        return copies._replace(part=slice(start, stop), scale=float(len(starts)))


@dataclass(frozen=True)
class StepMergeMasking(Masking):
    """Replays the sampler's steps in segments: shows what it saw when one began, scores all it unmasked there.

    Segments are `steps_per_segment` denoising steps each, up to the last that unmasked a scored token; those that
    unmasked none are left out. segment_draw: `all` of them, one a copy: at most num_masks, of nearly equal numbers of
    steps where they would be more; `uniform`: num_masks of them, different ones as far as there are as many; `entropy`:
    with probability in proportion to the surprise of their tokens, spread evenly. Each weighs 1 over its probability.
    `top`: those of the greatest mean entropy in order, num_masks of them in each iteration of a rollout, of weight 1.
    `surprise`: num_masks of them, without replacement as far as there are as many, with probability in proportion to
    exp(mean surprise of their tokens), of weight 1. score_rest: whether all that was still masked is scored.
    Positions behind the first end token are shown as the sampler saw them, too, and never scored. Mean over all masks:
    the log-probability of writing the tokens of each segment at once, with segments of one step that of the path that
    the sampler took.
    """

    steps_per_segment: int = 1
    segment_draw: str = "all"
    score_rest: bool = False

    varies_context: ClassVar[bool] = False

    def count(self, size: int) -> int:
        return min(self.num_masks, size) if self.segment_draw == "all" else self.num_masks

    def copies(self, row: Completion) -> Copies:
        starts, stops, of_token = self.segments(row.unmask_step[: row.length])
        if not len(starts):
            raise ConfigError("this masking needs the sampler's steps (unmask_step); use masking=random")
        count, copies = len(starts), self.count(row.size)
        chosen, weights = np.arange(count), np.full(count, copies)
        if self.segment_draw == "uniform":
            chosen, weights = (
                np.resize(row.streams.of_row().permutation(count), copies),
                np.full(count, count),
            )
        elif self.segment_draw == "entropy":
            unmasked = row.unmask_step[: row.length] >= 0
            surprise = np.bincount(of_token, row.surprise[: row.length][unmasked]) + 1e-8
            weights = surprise.sum() / surprise
            quantiles = (np.arange(copies) + row.streams.of_row().random(1)) / copies
            chosen = np.searchsorted((1 / weights).cumsum(), quantiles, side="right").clip(max=count - 1)
        elif self.segment_draw == "top":
            if row.entropy is None:
                raise ConfigError(
                    "segment_draw=top needs the sampler's entropies (an algorithm that needs `entropy`)"
                )
            order = self.by_entropy(row.unmask_step[: row.length], row.entropy[: row.length])[1]
            chosen, weights = order[row.iteration * copies :][:copies], np.ones(count)
        elif self.segment_draw == "surprise":
            unmasked, stream = row.unmask_step[: row.length] >= 0, row.streams.of_row()
            mean = np.bincount(of_token, row.surprise[: row.length][unmasked]) / np.bincount(of_token)
            once = np.argsort(-(mean + stream.gumbel(size=count)))[:copies]
            odds = np.exp(mean - mean.max())
            again = stream.choice(count, copies - len(once), p=odds / odds.sum())
            chosen, weights = np.concatenate([once, again]), np.ones(count)
        drawn = np.zeros((3, copies, 1))  # a copy for which no segment is left scores nothing
        drawn[:, : len(chosen), 0] = np.stack([starts, stops, weights])[:, chosen]
        start, stop, weight = drawn
        if self.score_rest:
            stop = np.where(stop > start, np.inf, stop)
        step, inside = row.unmask_step, np.arange(row.size) < row.length
        return Copies((step < 0) | (step >= start), (step >= start) & (step < stop) & inside, weight)

    def by_entropy(self, steps: np.ndarray, entropy: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """First step of the S segments in the order of their mean entropy, the greatest first, and their numbers."""
        starts, _, of_token = self.segments(steps)
        mean = np.bincount(of_token, entropy[steps >= 0]) / np.bincount(of_token)
        order = np.argsort(-mean, kind="stable")
        return starts[order], order

    def segments(self, steps: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """First step and step after the last of the S segments, and the number of that of each unmasked token.

        steps: (n,), -1 where a token was never unmasked.
        """
        steps = steps[steps >= 0]
        total = int(steps.max(initial=-1)) + 1
        edges = np.arange(0, total + self.steps_per_segment, self.steps_per_segment)
        if self.segment_draw == "all" and len(edges) > self.num_masks + 1:
            edges = np.arange(self.num_masks + 1) * total // self.num_masks
        used, of_token = np.unique(np.searchsorted(edges, steps, side="right") - 1, return_inverse=True)
        return edges[used], edges[used + 1], of_token


@dataclass(frozen=True)
class HalvesMasking(Masking):
    """Masks everything, then the second half: what the sampler saw at the root and at the node of a tree of rollouts.

    The first copy scores the first half, but of branches, which took theirs over from the first leaf of their node; the
    second scores the second half. Mean over both copies: the log-probability of writing each half at once.
    """

    varies_context: ClassVar[bool] = False

    def check_pattern(self, pattern: "Pattern") -> None:
        """Raises ConfigError for blocks of attention: one of them may lie across the middle."""
        if not pattern.is_full:
            raise ConfigError(
                "masking=halves: a tree branches in the middle of its completions, and in this model, which attends in "
                "blocks, that lies inside a block behind some prompts. Use --algorithm d2_stepmerge."
            )

    def count(self, size: int) -> int:
        return 2

    def copies(self, row: Completion) -> Copies:
        place = np.arange(row.size)
        second, inside = place >= row.size // 2, place < row.length
        masked = np.stack([np.ones_like(second), second])
        scored = np.stack([~second & inside & (not row.branched), second & inside])
        return Copies(masked, scored, 2.0)


@dataclass(frozen=True)
class AutoregressiveMasking(Masking):
    """Masks everything from a token on and scores that token (JustGRPO).

    With num_masks >= T every token of every completion, once: the exact log-likelihood of decoding left to right, one
    token at a time. With fewer masks, so many tokens drawn without replacement, each weighing n/num_masks: the same on
    average. Copies that score nothing cost nothing.
    """

    varies_context: ClassVar[bool] = False

    def count(self, size: int) -> int:
        return min(self.num_masks, size)

    def copies(self, row: Completion) -> Copies:
        tokens, copies = np.arange(row.length), self.count(row.size)
        if row.length > self.num_masks:
            tokens = np.sort(row.streams.of_row().permutation(row.length)[: self.num_masks])
        token = np.full((copies, 1), row.size)  # where none is left for a copy
        token[: len(tokens), 0] = tokens
        place = np.arange(row.size)
        return Copies(place >= token, place == token, copies * row.length / len(tokens))


@dataclass(frozen=True)
class AllBlocksMasking(Masking):
    """Masks k of the n_b tokens of every block, each weighing n_b/k: all blocks in one copy, for block-causal models.

    k is uniform on 1..n_b, spread evenly over blocks and copies from one random start (EBPO). Mean over all masks: the
    block ELBO, where a token is predicted from clean earlier blocks and what its own shows, as a block-causal model
    does. One that attends to everything would see the masks of other blocks, and the mean is no likelihood.
    block_length: tokens, that of the attention. block_origin: whether blocks begin at the `completion`, or at the
    `sequence`, that is, the prompt's first token.
    """

    block_length: int = 32
    block_origin: str = "sequence"

    def check_pattern(self, pattern: "Pattern") -> None:
        """Raises ConfigError unless its blocks are those of the model's attention."""
        if pattern.is_full:
            raise ConfigError(
                "masking=all_blocks: every token of this model attends to every other, so that a block would be shown "
                "the masks of the others. Use --algorithm-args masking=block_active."
            )
        mine, wanted = (self.block_length, self.block_origin), (pattern.block_size, pattern.origin)
        if mine != wanted:
            raise ConfigError(
                f"masking=all_blocks with block_length={mine[0]} and block_origin={mine[1]}: the model attends to "
                f"other blocks. Use --algorithm-args block_length={wanted[0]} block_origin={wanted[1]}."
            )

    def copies(self, row: Completion) -> Copies:
        before = row.prompt_length % self.block_length if self.block_origin == "sequence" else 0
        starts, stops = row.blocks(self.block_length, before)
        sizes, stream = stops - starts, row.streams.of_row()
        block = np.repeat(np.arange(len(sizes)), sizes)
        spread = np.arange(self.num_masks * len(sizes)).reshape(self.num_masks, -1)
        count = 1 + ((stream.random(1) + spread / spread.size) % 1 * sizes).astype(int)
        # A token's place in a random order of its block: halved, so that a sum never reaches the next block's number.
        order = (block + stream.random((self.num_masks, row.length)) / 2).argsort(-1).argsort(-1)
        place = order - (sizes.cumsum() - sizes)[block]
        return _hide(row, place < count[:, block], (sizes / count)[:, block])


MASKINGS: dict[str, Masking] = {
    "random": RandomMasking(),
    "block": BlockMasking(),
    "block_active": ActiveBlockMasking(),
    "trajectory": StepMergeMasking(segment_draw="uniform"),
    "all": FullMasking(),
    "bernoulli": BernoulliMasking(),
    "coupled": CoupledMasking(),
    "gauss": GaussMasking(),
    "rising": RisingMasking(),
    "autoregressive": AutoregressiveMasking(),
    "step_merge": StepMergeMasking(),
    "coupled_full": FullCoupledMasking(),
    "all_blocks": AllBlocksMasking(),
}
"""What `--algorithm-args masking=NAME` chooses from, each before an algorithm's fields are put in."""


def _completions(rollouts: Rollouts, streams: Streams, where: Where) -> Iterator[Completion]:
    """The rows of rollouts as maskings see them."""
    unmask_step, counted = (x.cpu().numpy() for x in (rollouts.unmask_step, rollouts.completion_mask))
    lengths, prompt_lengths = counted.sum(-1).tolist(), rollouts.prompt_mask.sum(-1).tolist()
    # The n tokens, what is behind the ends, what was given; without a template that is the order of the canvas.
    places = np.argsort(np.where(unmask_step == GIVEN, 2, ~counted), axis=-1, kind="stable")
    surprise, entropy = -rollouts.unmask_logps.double().cpu().numpy(), None
    if rollouts.unmask_entropy is not None:
        entropy = rollouts.unmask_entropy.double().cpu().numpy()
    fill_steps = None if rollouts.fill_step is None else rollouts.fill_step.tolist()
    branched = None if rollouts.branched is None else rollouts.branched.tolist()
    for row, place in enumerate(places):
        yield Completion(
            length=lengths[row],
            size=unmask_step.shape[1],
            prompt_length=prompt_lengths[row],
            place=place,
            unmask_step=unmask_step[row][place],
            surprise=surprise[row][place],
            streams=RowStreams(streams, row),
            progress=where.iteration / max(1, where.num_iterations - 1),
            quantile=where.quantile[row],
            iteration=where.iteration,
            entropy=None if entropy is None else entropy[row][place],
            branched=branched is not None and branched[row],
            fill_step=-1 if fill_steps is None else fill_steps[row],
        )


def likelihoods() -> dict[str, Masking]:
    """Those of `MASKINGS` that say `is_likelihood`."""
    return {name: masking for name, masking in MASKINGS.items() if masking.is_likelihood}


def _subset(stream: np.random.Generator, size: int, count: int | None = None) -> np.ndarray:
    """(size,) bool, `count` of them, uniformly drawn, or so many as a draw from 1..size says."""
    count = stream.integers(1, size + 1) if count is None else count
    chosen = np.zeros(size, dtype=bool)
    chosen[stream.permutation(size)[:count]] = True
    return chosen


def _of_size(row: Completion, counts: Sequence[int | None]) -> Drawn:
    """Such a subset for each copy, k tokens weighing n/k."""
    scored = np.stack(
        [_subset(row.streams.of_mask(mask), row.length, count) for mask, count in enumerate(counts)]
    )
    return scored, row.length / _count(scored)


def _count(scored: np.ndarray) -> np.ndarray:
    """(M, 1) how many tokens a copy scores; 1 where it is none."""
    return scored.sum(-1, keepdims=True).clip(min=1)


def _hide(row: Completion, scored: np.ndarray, weight: np.ndarray | float) -> Copies:
    """Shows neither the scored tokens, (M, n) bool, nor anything behind the end; weight: as (M, n)."""
    behind = ((0, 0), (0, row.size - row.length))
    masked, weight = np.pad(scored, behind, constant_values=True), np.broadcast_to(weight, scored.shape)
    return Copies(masked, np.pad(scored, behind), np.pad(weight, behind))


def _refill(row: Completion, num_masks: int) -> Copies:
    """Shows the state that a pass filled before a step, and scores the fill, in the first copy alone."""
    unwritten = (row.unmask_step < 0) | (row.unmask_step >= row.fill_step)
    masked = np.broadcast_to(unwritten, (num_masks, row.size))
    scored = masked & (np.arange(row.size) < row.length)
    scored[1:] = False
    return Copies(masked, scored, 1.0)
