"""What the model is shown when a completion is scored: one `Masking` per estimator of its log-likelihood.

A new one is a class derived from `Masking` and a line of `MASKINGS` below; `masking=NAME` chooses it.

Axes: B completions, M masks, L prompt tokens, T completion tokens; n is the number of tokens of a completion, up to and
including its first end token. All randomness comes from the streams that the caller hands in, so a draw depends neither
on the padded width of the prompt nor on the other rows.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import TYPE_CHECKING, ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor

from spg_trainer.errors import ConfigError
from spg_trainer.tensors import Rollouts, Rows

if TYPE_CHECKING:
    from spg_trainer.models.pattern import Pattern

Streams = Callable[[int, int], np.random.Generator]
"""(row, mask) -> that mask's private stream. Mask -1: shared by all masks of the row; mask -2: by those of all
iterations, too. Row -1: the stream that all rows of an iteration share for that mask."""


class Where(NamedTuple):
    """The place of some rows in their training step."""

    iteration: int
    """0 .. num_iterations - 1."""
    num_iterations: int
    rows: Sequence[int]
    """(B,) number of each row among all completions of the step, on all processes."""
    total: int
    """How many completions the step has."""


@dataclass(frozen=True)
class Masks(Rows):
    """The masked copies of some completions, and what each scored token weighs."""

    masked: Tensor
    """(B, M, L+T) bool, shown as [MASK]: prompt noise, masked tokens, what lies behind the end."""
    scored: Tensor
    """(B, M, T) bool, the masked completion tokens whose log-probability counts."""
    weight: Tensor
    """(B, M, T) float64, importance weight of a token inside the drawn part; 0 where not scored."""
    scale: Tensor
    """(B,) float64, 1 / probability of the part drawn once for all M masks; 1 if that is everything."""
    part: Tensor
    """(B, T) bool, the tokens of that part."""


class Row(NamedTuple):
    """One completion, and where its randomness comes from."""

    length: int
    """Its tokens n."""
    prompt_length: int
    """Real tokens of its prompt."""
    unmask_step: np.ndarray
    """(T,)."""
    surprise: np.ndarray
    """(T,) minus the log-probability of each token when it was unmasked, nats."""
    stream: Callable[[int], np.random.Generator]
    """mask -> stream, as in `Streams`; asked twice for the same, it gives the same, further on."""
    shared: Callable[[int], np.random.Generator]
    """mask -> the stream that all rows share, each from its start."""
    progress: float
    """iteration / (num_iterations - 1), from 0 to 1; 0 if there is only one."""
    quantile: float
    """The row's number over the number of rows, from 0 up to, but not, 1."""


class Plan(NamedTuple):
    """What all masked copies of one completion share: its length n, its unmask_step (T,), and what is drawn once."""

    length: int
    part: slice
    """The tokens that the masks are about."""
    unmask_step: np.ndarray
    choice: np.ndarray | None = None
    """What was drawn once for all masks, e.g. the active block of each."""
    scale: float = 1.0
    """1 / probability of the part."""


class MaskedCopy(NamedTuple):
    """One copy of one completion: what is masked and what is scored, (T,) bool each, and each scored token's weight."""

    masked: np.ndarray
    scored: np.ndarray
    weight: float | np.ndarray


@dataclass(frozen=True)
class Masking(ABC):
    """How completions are masked for scoring; its fields are set by the algorithm's fields of the same names.

    num_masks: M, >= 1. p_mask_prompt: the chance that a real prompt token is masked, 0 up to but not 1.
    """

    num_masks: int = 2
    p_mask_prompt: float = 0.0

    varies_context: ClassVar[bool] = True
    """Whether different masks show the same token in different contexts."""

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

    def draw(self, rollouts: Rollouts, streams: Streams, where: Where | None = None) -> Masks:
        """Masks M copies of every completion; the masks lie on the device of the rollouts.

        where: by default these rows are a whole step of one iteration. Raises ConfigError if a position would be scored
        that was never unmasked: training on it would raise the probability of [MASK] itself.
        """
        prompt = rollouts.prompt_mask.cpu().numpy()
        lengths, prompts = rollouts.completion_mask.sum(-1).tolist(), prompt.sum(-1).tolist()
        unmask_step = rollouts.unmask_step.cpu().numpy()
        surprise = -rollouts.unmask_logps.double().cpu().numpy()
        (rows, width), size = prompt.shape, unmask_step.shape[1]
        where = where or Where(0, 1, range(rows), rows)
        self.check(size)
        num_masks = self.count(size)
        masked = np.zeros((rows, num_masks, width + size), dtype=bool)
        scored = np.zeros((rows, num_masks, size), dtype=bool)
        weight = np.zeros((rows, num_masks, size))
        scale, part = np.ones(rows), np.zeros((rows, size), dtype=bool)
        for row in range(rows):
            stream = cache(partial(streams, row))
            progress = where.iteration / max(1, where.num_iterations - 1)
            share = where.rows[row] / where.total
            written = lengths[row], prompts[row], unmask_step[row], surprise[row]
            plan = self.plan(Row(*written, stream, partial(streams, -1), progress, share))
            scale[row], part[row, plan.part] = plan.scale, True
            copies = self.copies(plan, num_masks, stream)
            masked[row, :, width:], scored[row] = copies.masked, copies.scored
            weight[row] = np.where(copies.scored, copies.weight, 0.0)
            if self.p_mask_prompt > 0:
                real = np.flatnonzero(prompt[row])
                for mask in range(num_masks):
                    masked[row, mask, real] = stream(mask).random(len(real)) < self.p_mask_prompt
        if (scored & (unmask_step < 0)[:, None]).any():
            raise ConfigError(
                f"{type(self).__name__} scores positions that were never unmasked, which would train the probability "
                "of [MASK]. Score up to the first end token (completion_mask), or set score_tail=true."
            )
        device = rollouts.completion_ids.device
        return Masks(*(torch.from_numpy(array).to(device) for array in (masked, scored, weight, scale, part)))

    def plan(self, row: Row) -> Plan:
        """What is drawn once for all masks of a completion; here nothing."""
        return Plan(row.length, slice(0, row.length), row.unmask_step)

    def copies(self, plan: Plan, num_masks: int, stream: Callable[[int], np.random.Generator]) -> MaskedCopy:
        """All masked copies of a completion, stacked: masked and scored (M, T), weight (M, 1) or (M, T)."""
        drawn = [self.copy(plan, mask, stream(mask)) for mask in range(num_masks)]
        masked, scored, weight = zip(*drawn, strict=True)
        return MaskedCopy(np.stack(masked), np.stack(scored), np.array(weight).reshape(num_masks, -1))

    @abstractmethod
    def copy(self, plan: Plan, mask: int, stream: np.random.Generator) -> MaskedCopy:
        """One masked copy of a completion."""


@dataclass(frozen=True)
class ManyMasking(Masking):
    """One whose copies are many and drawn at once: a subclass says all of them, `copies`."""

    @abstractmethod
    def copies(self, plan: Plan, num_masks: int, stream: Callable[[int], np.random.Generator]) -> MaskedCopy:
        """As in `Masking`; the weight is anything that broadcasts to (M, T)."""

    def copy(self, plan: Plan, mask: int, stream: np.random.Generator) -> MaskedCopy:
        masked, scored, weight = self.copies(plan, self.count(len(plan.unmask_step)), lambda _: stream)
        return MaskedCopy(masked[mask], scored[mask], np.broadcast_to(weight, scored.shape)[mask])


@dataclass(frozen=True)
class RandomMasking(Masking):
    """Masks k of the n tokens, k uniform on 1..n, each weighing n/k (SPG's `random` baseline).

    Mean over all masks: the any-order ELBO of the completion.
    """

    def copy(self, plan: Plan, mask: int, stream: np.random.Generator) -> MaskedCopy:
        scored = _random_subset(plan, 0, plan.length, stream)
        return _copy(scored, plan.length, plan.length / scored.sum())


@dataclass(frozen=True)
class BlockMasking(Masking):
    """SPG's block-wise masking: a random subset of one block, everything after it, and noise p before it.

    Every masked token up to the end is scored and weighs n/K, K of them being masked, as in SPG's code. Biased: later
    blocks are masked more often than earlier ones, so the mean over all masks is no likelihood but a mixture that
    weighs late blocks more. Each mask draws its own block, uniformly among those that hold a scored token.
    block_length: tokens, >= 1.
    """

    block_length: int = 32

    def copy(self, plan: Plan, mask: int, stream: np.random.Generator) -> MaskedCopy:
        blocks = _blocks(plan.length, self.block_length)
        block = int(stream.integers(blocks) if plan.choice is None else plan.choice[mask])
        start, stop = _span(block, plan.length, self.block_length)
        scored = _random_subset(plan, start, stop, stream)
        scored[stop : plan.length] = True
        if self.p_mask_prompt > 0:
            scored[:start] = stream.random(start) < self.p_mask_prompt
        return _copy(scored, plan.length, plan.length / scored.sum())


@dataclass(frozen=True)
class BlockModuloMasking(BlockMasking):
    """`block` as SPG's code draws it: a permutation of all T/block_length blocks, modulo those in use.

    The draw is not uniform where a completion ends early, and masks may share a block.
    """

    def check(self, size: int) -> None:
        """Raises ConfigError where `size` completion tokens hold fewer blocks than there are masks."""
        if (blocks := _blocks(size, self.block_length)) < self.num_masks:
            text = f"num_masks={self.num_masks} needs as many blocks; {size} completion tokens hold {blocks}"
            remedy = f"lower --block-length {self.block_length}, or use --algorithm-args num_masks={blocks}"
            raise ConfigError(f"{text}: {remedy}")

    def plan(self, row: Row) -> Plan:
        blocks = _blocks(len(row.unmask_step), self.block_length)
        order = row.stream(-1).permutation(blocks)[: self.num_masks] % _blocks(row.length, self.block_length)
        return super().plan(row)._replace(choice=order)


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

    def plan(self, row: Row) -> Plan:
        blocks = _blocks(row.length, self.block_length)
        part = slice(*_span(row.stream(-1).integers(blocks), row.length, self.block_length))
        return Plan(row.length, part, row.unmask_step, scale=float(blocks))

    def copy(self, plan: Plan, mask: int, stream: np.random.Generator) -> MaskedCopy:
        start, stop = plan.part.start, plan.part.stop
        scored = _random_subset(plan, start, stop, stream)
        return _copy(scored, stop, (stop - start) / scored.sum())


@dataclass(frozen=True)
class StepMergeMasking(ManyMasking):
    """Replays the sampler's steps in segments: shows what it saw when one began, scores all it unmasked there.

    Segments are `steps_per_segment` denoising steps each, up to the last that unmasked a scored token; those that
    unmasked none are left out. segment_draw: `all` of them, one a copy: at most num_masks, of nearly equal numbers of
    steps where they would be more; `uniform`: num_masks of them, different ones as far as there are as many; `entropy`:
    with probability in proportion to the surprise of their tokens, spread evenly. Each weighs 1 over its probability.
    Positions behind the first end token are shown as the sampler saw them, too, and never scored.

    Mean over all masks: the log-probability of writing the tokens of each segment at once. With segments of one step
    that is the log-probability of the path that the sampler took, with a single segment that of one pass (`all`).
    """

    steps_per_segment: int = 1
    segment_draw: str = "all"

    varies_context: ClassVar[bool] = False

    def count(self, size: int) -> int:
        return min(self.num_masks, size) if self.segment_draw == "all" else self.num_masks

    def plan(self, row: Row) -> Plan:
        """Its choice is (3, C): first step, step after the last, and weight of the segments drawn."""
        steps, surprise = row.unmask_step[: row.length], row.surprise[: row.length]
        start, stop, of_token = self.segments(steps)
        if not len(start):
            raise ConfigError(
                "masking=trajectory and step_merge need completions of the sampler (unmask_step); use masking=random"
            )
        count, copies = len(start), self.count(len(row.unmask_step))
        chosen, weight = np.arange(count), np.full(count, copies)
        if self.segment_draw == "uniform":
            chosen, weight = np.resize(row.stream(-1).permutation(count), copies), np.full(count, count)
        elif self.segment_draw == "entropy":
            surprise = np.bincount(of_token, surprise[steps >= 0]) + 1e-8
            weight = surprise.sum() / surprise
            quantiles = (np.arange(copies) + row.stream(-1).random(1)) / copies
            chosen = np.searchsorted((1 / weight).cumsum(), quantiles, side="right").clip(max=count - 1)
        return super().plan(row)._replace(choice=np.stack([start, stop, weight])[:, chosen])

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

    def copies(self, plan: Plan, num_masks: int, stream: Callable[[int], np.random.Generator]) -> MaskedCopy:
        drawn = np.zeros((3, num_masks, 1))  # a copy for which no segment is left scores nothing
        drawn[:, : plan.choice.shape[1], 0] = plan.choice
        start, stop, weight = drawn
        step, inside = plan.unmask_step, np.arange(len(plan.unmask_step)) < plan.length
        return MaskedCopy((step < 0) | (step >= start), (step >= start) & (step < stop) & inside, weight)


@dataclass(frozen=True)
class TrajectoryMasking(StepMergeMasking):
    """`step_merge` of single steps, drawn uniformly: what the sampler saw at a step, and the tokens unmasked there.

    Mean over all masks: the log-probability of the path that the sampler took.
    """

    steps_per_segment: ClassVar[int] = 1
    segment_draw: ClassVar[str] = "uniform"


@dataclass(frozen=True)
class AllMasking(Masking):
    """Masks the whole completion: every token is predicted from the prompt alone (d1).

    The mean-field log-likelihood, no bound; copies differ only in the noise of the prompt.
    """

    varies_context: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.num_masks > 1 and self.p_mask_prompt == 0:
            text = f"num_masks={self.num_masks}: with masking=all and p_mask_prompt=0 all copies are equal"
            raise ConfigError(f"{text}; set num_masks=1")

    def copy(self, plan: Plan, mask: int, stream: np.random.Generator) -> MaskedCopy:
        scored = np.arange(len(plan.unmask_step)) < plan.length
        return MaskedCopy(np.ones_like(scored), scored, 1.0)


@dataclass(frozen=True)
class BernoulliMasking(Masking):
    """Masks each token with probability t, uniform on 0..1, each weighing 1/t (LLaDA, VRPO, BGPO).

    A copy without masked tokens would be worth nothing: the tokens are drawn given that at least one is masked, and the
    weight is multiplied by the probability of that, 1 - (1 - t)^n, which bounds it by n and changes no mean.
    Mean over all masks: the any-order ELBO of the completion.
    """

    def copy(self, plan: Plan, mask: int, stream: np.random.Generator) -> MaskedCopy:
        clean, u = stream.random(2)  # the ratio is 1 - clean, so that it is never 0
        some = 1 - clean**plan.length
        # The first masked token follows a geometric law cut at n; those behind it are masked independently.
        first = min(int(np.log(1 - u * some) / np.log(clean)), plan.length - 1) if clean > 0 else 0
        scored = np.zeros(len(plan.unmask_step), dtype=bool)
        scored[first] = True
        scored[first + 1 : plan.length] = stream.random(plan.length - first - 1) >= clean
        return _copy(scored, plan.length, some / (1 - clean))


@dataclass(frozen=True)
class RatioMasking(Masking):
    """Masks each token with probability t, uniform on min_ratio..max_ratio; the k masked ones weigh n/k (dLLM-RL).

    No likelihood: the mean over masks of a mean over masked tokens. A copy may have none, and then scores nothing.
    """

    min_ratio: float = 0.1
    max_ratio: float = 0.9

    def copy(self, plan: Plan, mask: int, stream: np.random.Generator) -> MaskedCopy:
        ratio = stream.uniform(self.min_ratio, self.max_ratio)
        scored = stream.random(len(plan.unmask_step)) < ratio
        scored[plan.length :] = False
        return _copy(scored, plan.length, plan.length / max(1, scored.sum()))


@dataclass(frozen=True)
class CoupledMasking(Masking):
    """Pairs of complementary masks: k of the n tokens, k uniform on 0..n, then the others (coupled-GRPO, ESPO).

    They weigh (n+1)/k and (n+1)/(n-k), so that each token is scored once in a pair. The k of the rows of a step are
    spread evenly over 0..n from one common random start. num_masks is even. Mean over all masks: the any-order ELBO.
    """

    def __post_init__(self) -> None:
        if self.num_masks % 2:
            raise ConfigError(
                f"num_masks={self.num_masks}: masking=coupled draws pairs; set num_masks={self.num_masks + 1}"
            )

    @property
    def has_eubo(self) -> bool:
        return self.num_masks > 2

    def plan(self, row: Row) -> Plan:
        subsets = np.zeros((self.num_masks // 2, row.length), dtype=bool)
        for pair, subset in enumerate(subsets):
            sizes = row.length + 1
            count = (row.shared(2 * pair).integers(sizes) + int(row.quantile * sizes)) % sizes
            subset[row.stream(2 * pair).permutation(row.length)[:count]] = True
        return super().plan(row)._replace(choice=subsets)

    def copy(self, plan: Plan, mask: int, stream: np.random.Generator) -> MaskedCopy:
        scored = np.zeros(len(plan.unmask_step), dtype=bool)
        scored[: plan.length] = plan.choice[mask // 2] ^ bool(mask % 2)
        return _copy(scored, plan.length, (plan.length + 1) / max(1, scored.sum()))


@dataclass(frozen=True)
class CoupledFullMasking(Masking):
    """One copy that is all masked, and pairs of complementary ones: each token with probability t, or else the others.

    In the mean over copies a token weighs 1/2 in the first and 1/(2t) or 1/(2(1-t)) in one of a pair (coupled-GRPO). t
    is uniform on min_ratio..max_ratio and that of all rows. num_masks is odd. No likelihood: the weights of a token sum
    to 3/2 in the mean, half for predicting it from the prompt alone, and 1 for predicting it beside others.
    """

    num_masks: int = 3
    min_ratio: float = 0.2
    max_ratio: float = 0.8

    varies_context: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.num_masks < 3 or self.num_masks % 2 == 0:
            text = f"num_masks={self.num_masks}: masking=coupled_full is one full mask and pairs"
            raise ConfigError(f"{text}; set num_masks=3")

    def plan(self, row: Row) -> Plan:
        """Its choice is (M, n): what each token weighs in each copy."""
        pairs = self.num_masks // 2
        weight = np.full((self.num_masks, row.length), self.num_masks / 2)
        for pair in range(pairs):
            ratio = row.shared(pair).uniform(self.min_ratio, self.max_ratio)
            subset = row.stream(2 * pair + 1).random(row.length) < ratio
            weight[2 * pair + 1] *= subset / (ratio * pairs)
            weight[2 * pair + 2] *= ~subset / ((1 - ratio) * pairs)
        return super().plan(row)._replace(choice=weight)

    def copy(self, plan: Plan, mask: int, stream: np.random.Generator) -> MaskedCopy:
        weight = np.zeros(len(plan.unmask_step))
        weight[: plan.length] = plan.choice[mask]
        return _copy(weight > 0, plan.length, weight)


@dataclass(frozen=True)
class GaussMasking(Masking):
    """Gauss-Legendre quadrature of the masking ratio t: one mask for each of M nodes, of exactly t n tokens (GDPO).

    A node (t, w) masks k = t n tokens, rounded down, at least 1; they weigh M w n/k, or M w / t with
    node_weight=ratio. Mean over all masks: that quadrature of the ELBO's integrand, the ELBO if it were a polynomial of
    degree up to 2M - 1 in t and t n a whole number.
    """

    node_weight: str = "count"

    def plan(self, row: Row) -> Plan:
        return super().plan(row)._replace(choice=_quadrature(self.num_masks))

    def copy(self, plan: Plan, mask: int, stream: np.random.Generator) -> MaskedCopy:
        t, weight = plan.choice[:, mask]
        count = max(1, int(t * plan.length + 1e-9))  # a node at 1/2 may lie just below
        scored = _subset(plan, 0, plan.length, count, stream)
        ratio = count / plan.length if self.node_weight == "count" else t
        return _copy(scored, plan.length, self.num_masks * weight / ratio)


@dataclass(frozen=True)
class RisingMasking(Masking):
    """Masks a share of the tokens that rises over the updates of a step to all of them (UniGRPO, MMaDA's Algorithm 1).

    The share starts at t_1, uniform on 0..1 and drawn once for each completion, and grows linearly to 1 in the last
    iteration; k = t n tokens, rounded down, at least 1, weigh n/k each. No likelihood: contexts with many masks
    prevail.
    """

    def plan(self, row: Row) -> Plan:
        first = row.stream(-2).random()
        ratio = 1 - (1 - row.progress) * (1 - first)
        return super().plan(row)._replace(choice=np.array([max(1, int(ratio * row.length))]))

    def copy(self, plan: Plan, mask: int, stream: np.random.Generator) -> MaskedCopy:
        scored = _subset(plan, 0, plan.length, int(plan.choice[0]), stream)
        return _copy(scored, plan.length, plan.length / scored.sum())


@dataclass(frozen=True)
class AutoregressiveMasking(ManyMasking):
    """Masks everything from a token on and scores that token (JustGRPO).

    With num_masks >= T every token of every completion, once: the exact log-likelihood of decoding left to right, one
    token at a time. With fewer masks, so many tokens drawn without replacement, each weighing n/num_masks: the same on
    average. Copies that score nothing cost nothing.
    """

    varies_context: ClassVar[bool] = False

    def count(self, size: int) -> int:
        return min(self.num_masks, size)

    def plan(self, row: Row) -> Plan:
        tokens = np.arange(row.length)
        if row.length > self.num_masks:
            tokens = np.sort(row.stream(-1).permutation(row.length)[: self.num_masks])
        return super().plan(row)._replace(choice=tokens)

    def copies(self, plan: Plan, num_masks: int, stream: Callable[[int], np.random.Generator]) -> MaskedCopy:
        size, tokens = len(plan.unmask_step), plan.choice
        token = np.full((num_masks, 1), size)  # where none is left for a copy
        token[: len(tokens), 0] = tokens
        place = np.arange(size)
        return MaskedCopy(place >= token, place == token, self.count(size) * plan.length / len(tokens))


@dataclass(frozen=True)
class AllBlocksMasking(ManyMasking):
    """Masks k of the n_b tokens of every block, each weighing n_b/k: all blocks in one copy, for block-causal models.

    k is uniform on 1..n_b, spread evenly over blocks and copies from one random start (EBPO). Mean over all masks: the
    block ELBO, where a token is predicted from clean earlier blocks and what its own shows, as a block-causal model
    does. One that attends to everything would see the holes of other blocks, and the mean is no likelihood.
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
                "the holes of the others. Use --algorithm-args masking=block_active."
            )
        mine, wanted = (self.block_length, self.block_origin), (pattern.block_size, pattern.origin)
        if mine != wanted:
            raise ConfigError(
                f"masking=all_blocks with block_length={mine[0]} and block_origin={mine[1]}: the model attends to "
                f"other blocks. Use --algorithm-args block_length={wanted[0]} block_origin={wanted[1]}."
            )

    def plan(self, row: Row) -> Plan:
        """Its choice is (n,), the number of each token's block."""
        before = row.prompt_length % self.block_length if self.block_origin == "sequence" else 0
        return super().plan(row)._replace(choice=(before + np.arange(row.length)) // self.block_length)

    def copies(self, plan: Plan, num_masks: int, stream: Callable[[int], np.random.Generator]) -> MaskedCopy:
        block, sizes = plan.choice, np.bincount(plan.choice)
        spread = np.arange(num_masks * len(sizes)).reshape(num_masks, -1) / (num_masks * len(sizes))
        count = 1 + ((stream(-1).random(1) + spread) % 1 * sizes).astype(int)
        # A token's place in a random order of its block: halved, so that a sum never reaches the next block's number.
        order = (block + stream(-1).random((num_masks, plan.length)) / 2).argsort(-1).argsort(-1)
        place = order - (sizes.cumsum() - sizes)[block]
        scored, weight = np.zeros((2, num_masks, len(plan.unmask_step)))
        scored[:, : plan.length] = place < count[:, block]
        weight[:, : plan.length] = (sizes / count)[:, block]
        return _copy(scored > 0, plan.length, weight)


MASKINGS: dict[str, type[Masking]] = {
    "random": RandomMasking,
    "block": BlockMasking,
    "block_active": ActiveBlockMasking,
    "trajectory": TrajectoryMasking,
    "all": AllMasking,
    "bernoulli": BernoulliMasking,
    "coupled": CoupledMasking,
    "gauss": GaussMasking,
    "rising": RisingMasking,
    "autoregressive": AutoregressiveMasking,
    "step_merge": StepMergeMasking,
    "coupled_full": CoupledFullMasking,
    "all_blocks": AllBlocksMasking,
}
"""What `--algorithm-args masking=NAME` chooses from."""

LIKELIHOODS = {
    name: cls for name, cls in MASKINGS.items() if name not in ("block", "all", "rising", "coupled_full")
}
"""Those whose ELBO is in the mean over all masks a log-likelihood or a bound on one, as a sequence's ratio asks for."""


@cache
def _quadrature(count: int) -> np.ndarray:
    """(2, count) nodes and weights of Gauss and Legendre on 0..1."""
    nodes, weights = np.polynomial.legendre.leggauss(count)
    return np.stack([(1 + nodes) / 2, weights / 2])


def _random_subset(plan: Plan, start: int, stop: int, stream: np.random.Generator) -> np.ndarray:
    """(T,) bool, a uniformly drawn subset of start..stop-1 whose size is uniform on 1..stop-start."""
    return _subset(plan, start, stop, stream.integers(1, stop - start + 1), stream)


def _subset(plan: Plan, start: int, stop: int, count: int, stream: np.random.Generator) -> np.ndarray:
    """(T,) bool, `count` tokens of start..stop-1, uniformly drawn."""
    chosen = np.zeros(len(plan.unmask_step), dtype=bool)
    chosen[start + stream.permutation(stop - start)[:count]] = True
    return chosen


def _copy(scored: np.ndarray, stop: int, weight: float | np.ndarray) -> MaskedCopy:
    """Shows neither the scored tokens nor anything from `stop` on."""
    return MaskedCopy(scored | (np.arange(scored.shape[-1]) >= stop), scored, weight)


def _blocks(length: int, block_length: int) -> int:
    """The number of blocks that hold at least one of `length` tokens."""
    return -(-length // block_length)


def _span(block: int, length: int, block_length: int) -> tuple[int, int]:
    """First token of a block and the one after its last token of the completion."""
    return block * block_length, min((block + 1) * block_length, length)
