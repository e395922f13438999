"""What the model is shown when a completion is scored: one `Masking` per estimator of its log-likelihood.

A new one is a class derived from `Masking` and a line of `MASKINGS` below; `masking=NAME` chooses it.

Axes: B completions, M masks, L prompt tokens, T completion tokens; n is the number of tokens of a completion, up to and
including its first end token. All randomness comes from the streams that the caller hands in, so a draw depends neither
on the padded width of the prompt nor on the other rows.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from spg_trainer.batch import Rollouts, Rows
from spg_trainer.errors import ConfigError

Streams = Callable[[int, int], np.random.Generator]
"""(row, mask) -> that mask's private stream; mask -1 is the stream shared by all masks of the row."""


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
    weight: float


@dataclass(frozen=True)
class Masking(ABC):
    """How completions are masked for scoring; its fields are set by the algorithm's fields of the same names.

    num_masks: M, >= 1. p_mask_prompt: the chance that a real prompt token is masked, 0 up to but not 1.
    """

    num_masks: int = 2
    p_mask_prompt: float = 0.0

    @property
    def varies_context(self) -> bool:
        """Whether different masks show the same token in different contexts."""
        return True

    @property
    def has_eubo(self) -> bool:
        """Whether an upper bound can be formed: it compares at least two contexts of one token."""
        return self.varies_context and self.num_masks > 1

    def check(self, size: int) -> None:
        """Raises ConfigError if completions of `size` tokens cannot be masked this way; by default all can."""
        return

    def draw(self, rollouts: Rollouts, streams: Streams) -> Masks:
        """Masks M copies of every completion; the masks lie on the device of the rollouts."""
        prompt = rollouts.prompt_mask.cpu().numpy()
        lengths = rollouts.completion_mask.sum(-1).tolist()
        unmask_step = rollouts.unmask_step.cpu().numpy()
        (rows, width), size = prompt.shape, unmask_step.shape[1]
        self.check(size)
        masked = np.zeros((rows, self.num_masks, width + size), dtype=bool)
        scored = np.zeros((rows, self.num_masks, size), dtype=bool)
        weight = np.zeros((rows, self.num_masks, size))
        scale, part = np.ones(rows), np.zeros((rows, size), dtype=bool)
        for row in range(rows):
            plan = self.plan(lengths[row], unmask_step[row], partial(streams, row, -1))
            scale[row], part[row, plan.part] = plan.scale, True
            for mask in range(self.num_masks):
                stream = streams(row, mask)
                copy = self.copy(plan, mask, stream)
                masked[row, mask, width:], scored[row, mask] = copy.masked, copy.scored
                weight[row, mask, copy.scored] = copy.weight
                if self.p_mask_prompt > 0:
                    real = np.flatnonzero(prompt[row])
                    masked[row, mask, real] = stream.random(len(real)) < self.p_mask_prompt
        device = rollouts.completion_ids.device
        return Masks(*(torch.from_numpy(array).to(device) for array in (masked, scored, weight, scale, part)))

    def plan(self, length: int, unmask_step: np.ndarray, shared: Callable[[], np.random.Generator]) -> Plan:
        """What is drawn once for all masks of a completion; here nothing."""
        return Plan(length, slice(0, length), unmask_step)

    @abstractmethod
    def copy(self, plan: Plan, mask: int, stream: np.random.Generator) -> MaskedCopy:
        """One masked copy of a completion."""


@dataclass(frozen=True)
class RandomMasking(Masking):
    """Masks k of the n tokens, k uniform on 1..n, each weighing n/k (SPG's `random` baseline).

    Mean over all masks: the any-order ELBO of the completion.
    """

    def copy(self, plan: Plan, mask: int, stream: np.random.Generator) -> MaskedCopy:
        return _copy(_random_subset(plan, 0, plan.length, stream), plan.length, plan.length)


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
        return _copy(scored, plan.length, plan.length)


@dataclass(frozen=True)
class BlockModuloMasking(BlockMasking):
    """`block` as SPG's code draws it: a permutation of all T/block_length blocks, modulo those in use.

    The draw is not uniform where a completion ends early, and masks may share a block.
    """

    def check(self, size: int) -> None:
        """Raises ConfigError where `size` completion tokens hold fewer blocks than there are masks."""
        blocks = _blocks(size, self.block_length)
        if blocks >= self.num_masks:
            return
        fitting = [n for n in range(1, size + 1) if size % n == 0 and size // n >= self.num_masks]
        remedies = [f"--algorithm-args num_masks={blocks}"] if blocks > 1 or not fitting else []
        if fitting:  # a step per token can be shared by any blocks
            remedies.insert(0, f"--block-length {fitting[-1]} --diffusion-steps {size}")
        raise ConfigError(
            f"num_masks={self.num_masks}: each mask takes a block of its own, but {size} completion tokens hold only "
            f"{blocks} of block_length={self.block_length}; use {' or '.join(remedies)}"
        )

    def plan(self, length: int, unmask_step: np.ndarray, shared: Callable[[], np.random.Generator]) -> Plan:
        blocks = _blocks(len(unmask_step), self.block_length)
        order = shared().permutation(blocks)[: self.num_masks] % _blocks(length, self.block_length)
        return Plan(length, slice(0, length), unmask_step, order)


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

    def plan(self, length: int, unmask_step: np.ndarray, shared: Callable[[], np.random.Generator]) -> Plan:
        blocks = _blocks(length, self.block_length)
        part = slice(*_span(shared().integers(blocks), length, self.block_length))
        return Plan(length, part, unmask_step, scale=float(blocks))

    def copy(self, plan: Plan, mask: int, stream: np.random.Generator) -> MaskedCopy:
        start, stop = plan.part.start, plan.part.stop
        return _copy(_random_subset(plan, start, stop, stream), stop, stop - start)


@dataclass(frozen=True)
class TrajectoryMasking(Masking):
    """Shows the model what the sampler saw at a denoising step and scores the tokens unmasked there.

    Mean over all masks: the log-probability of the path that the sampler took. The step is uniform among the S steps
    that unmasked a scored token, and each token weighs S. Several masks take different steps, as far as there are as
    many. Positions behind the first end token are shown as the sampler saw them, too, and never scored.
    """

    @property
    def varies_context(self) -> bool:
        return False

    def plan(self, length: int, unmask_step: np.ndarray, shared: Callable[[], np.random.Generator]) -> Plan:
        steps = np.unique(unmask_step[:length])
        steps = steps[steps >= 0]
        if not len(steps):
            raise ConfigError(
                "masking=trajectory needs the step at which each token was unmasked, but a completion has none; score "
                "these completions with masking=random instead"
            )
        order = np.resize(shared().permutation(len(steps)), max(len(steps), self.num_masks))
        return Plan(length, slice(0, length), unmask_step, steps[order])

    def copy(self, plan: Plan, mask: int, stream: np.random.Generator) -> MaskedCopy:
        step = plan.choice[mask]
        scored = plan.unmask_step == step
        scored[plan.length :] = False
        masked = (plan.unmask_step < 0) | (plan.unmask_step >= step)
        return MaskedCopy(masked, scored, float(len(np.unique(plan.choice))))


MASKINGS: dict[str, type[Masking]] = {
    "random": RandomMasking,
    "block": BlockMasking,
    "block_active": ActiveBlockMasking,
    "trajectory": TrajectoryMasking,
}
"""What `--algorithm-args masking=NAME` chooses from."""


def _random_subset(plan: Plan, start: int, stop: int, stream: np.random.Generator) -> np.ndarray:
    """(T,) bool, a uniformly drawn subset of start..stop-1 whose size is uniform on 1..stop-start."""
    chosen = np.zeros(len(plan.unmask_step), dtype=bool)
    count = stream.integers(1, stop - start + 1)
    chosen[start + stream.permutation(stop - start)[:count]] = True
    return chosen


def _copy(scored: np.ndarray, stop: int, tokens: int) -> MaskedCopy:
    """Shows neither the scored tokens nor anything from `stop` on; each of the k scored weighs tokens/k."""
    masked = scored.copy()
    masked[stop:] = True
    return MaskedCopy(masked, scored, tokens / scored.sum())


def _blocks(length: int, block_length: int) -> int:
    """The number of blocks that hold at least one of `length` tokens."""
    return -(-length // block_length)


def _span(block: int, length: int, block_length: int) -> tuple[int, int]:
    """First token of a block and the one after its last token of the completion."""
    return block * block_length, min((block + 1) * block_length, length)
