"""Maskings block by block: of a random subset of one block of a completion, or of every block."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

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

if TYPE_CHECKING:
    from spg_trainer.architecture.pattern import Pattern


@dataclass(frozen=True)
class BlockMasking(Masking):
    """SPG's block-wise masking: a random subset of one block, everything after it, and each token before it with p.

    Every masked token up to the end is scored and weighs n/K, K of them being masked, as in SPG's code. Biased: later
    blocks are masked more often than earlier ones, so the mean over all masks is no likelihood but a mixture that
    weighs late blocks more. Each mask draws its own block, uniformly among those that hold a scored token. p is
    p_mask_prompt. block_length: tokens, >= 1. modulo: blocks are drawn as SPG's code draws them: a permutation of the
    numbers of all blocks of T tokens, each modulo the number of blocks in use. That is not uniform where a completion
    ends early, and masks may then share a block.
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
            subset[start:stop] = random_subset(stream, stop - start)
            subset[stop:] = True
            if self.p_mask_prompt > 0:
                subset[:start] = stream.random(start) < self.p_mask_prompt
        return copies_of_scored(row, scored, row.length / count_scored(scored))


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
            subset[start:stop] = random_subset(row.streams.of_mask(mask), stop - start)
        copies = copies_of_scored(row, scored, (stop - start) / count_scored(scored))
        copies.masked[:, stop:] = True
        return copies._replace(part=slice(start, stop), scale=float(len(starts)))


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
        if (self.block_length, self.block_origin) != (pattern.block_size, pattern.origin):
            raise ConfigError(
                f"masking=all_blocks with block_length={self.block_length} and block_origin={self.block_origin}: the "
                f"model attends to other blocks. Use --algorithm-args block_length={pattern.block_size} "
                f"block_origin={pattern.origin}."
            )

    def copies(self, row: Completion) -> Copies:
        before = row.prompt_length % self.block_length if self.block_origin == "sequence" else 0
        starts, stops = row.blocks(self.block_length, before)
        sizes, stream = stops - starts, row.streams.of_row()
        # k for each copy and block: quantiles that lie evenly from a random start, mapped to 1..n_b.
        number = np.arange(self.num_masks * len(sizes)).reshape(self.num_masks, -1)
        count = 1 + ((stream.random(1) + number / number.size) % 1 * sizes).astype(int)
        # The first k tokens of a block in a random order are masked. One sort orders all blocks at once: the number of
        # its block, and a random part that is halved so that their sum never reaches the next block's number.
        block = np.repeat(np.arange(len(sizes)), sizes)
        order = (block + stream.random((self.num_masks, row.length)) / 2).argsort(-1).argsort(-1)
        order_in_block = order - (sizes.cumsum() - sizes)[block]
        return copies_of_scored(row, order_in_block < count[:, block], (sizes / count)[:, block])
