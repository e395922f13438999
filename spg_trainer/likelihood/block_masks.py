"""Maskings block by block: they mask a random subset of one block of a completion, or of every block.

Axes: M masks; T places of a completion (`row.size`); n <= T tokens up to its end (`row.length`), n_b of them in one
block, k masked ones among these.
"""

import math
from dataclasses import dataclass
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
from spg_trainer.likelihood.subset_masks import gauss_nodes


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
