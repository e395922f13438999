"""Which tokens attend to which in a masked diffusion model: all to all, or block by block from left to right.

Axes: B rows, S columns of a row; in attention, Q query columns and K key columns.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor


@dataclass(frozen=True)
class Pattern:
    """Which tokens attend to which in a model family; completions are decoded in the same blocks."""

    block_size: int = 0
    """0 = every token sees every other; n = a token sees its own block of n tokens and all earlier blocks."""
    origin: Literal["sequence", "completion"] = "sequence"
    """Where blocks begin. `sequence`: at the prompt's first real token, so that a block may hold the prompt's tail and
    the completion's head. `completion`: at the completion's first token, so that the prompt's first block may be
    shorter."""
    context: Literal["blocks", "causal", "whole", "encoder"] = "blocks"
    """What a token of the prompt or of a finished block sees of its own block. (The tokens of the block that is being
    written always see all of it.)

    - `blocks`: all of it
    - `causal`: only the tokens up to itself. A block's first token is then predicted from the token before it, and
      written alone before the others
    - `whole`: all of it, and the prompt is one block, however long; only with the origin `completion`
    - `encoder`: only the tokens up to itself, in an encoder of its own; all tokens of a block are written together by a
      decoder, which reads what the encoder found; only with the origin `completion`
    """

    @property
    def is_full(self) -> bool:
        """Whether every token sees every other."""
        return self.block_size == 0

    @property
    def has_causal_context(self) -> bool:
        """Whether only the block that is being written sees all of itself."""
        return not self.is_full and self.context == "causal"

    @property
    def has_encoder(self) -> bool:
        """Whether an encoder reads the prompt and the finished blocks, and a decoder computes a block."""
        return not self.is_full and self.context == "encoder"

    @property
    def predicts_next(self) -> bool:
        """Whether a token can be predicted from the clean text before it alone."""
        return self.has_causal_context or self.has_encoder

    def blocks(self, real: Tensor, start: int | None = None) -> Tensor:
        """(B, S) int64, the number of each column's block, -1 on padding; in a full pattern real columns have 0.

        real: (B, S) bool, false on padding, which stands on the left. start: the completion's first column; only needed
        if blocks begin there.
        """
        if self.is_full:
            return real.long() - 1  # 0 on real columns, -1 on padding
        if self.origin == "sequence":
            number = (real.long().cumsum(-1) - 1) // self.block_size
        else:
            if start is None:
                raise ValueError("blocks that begin at the completion need its first column")
            blocks_before = math.ceil(start / self.block_size)  # added, so that no number is negative
            columns = torch.arange(real.shape[1], device=real.device) - start
            number = columns // self.block_size + blocks_before
            if self.context == "whole":
                number = number.where(columns >= 0, blocks_before - 1)
            number = number.expand(real.shape)
        return number.masked_fill(~real, -1)

    def causal_ranks(self, blocks: Tensor, active_block: Tensor) -> Tensor:
        """(B, S) int64, the ranks to pass to `block_causal_mask` in place of block numbers, in a causal context.

        A column sees ranks up to its own. Each column has a rank of its own, except that all columns of a row's active
        block share one rank. blocks: (B, S) int64, the number of each column's block, -1 on padding. active_block:
        (B, 1) int64, the number of the block that each row decodes now.
        """
        column = torch.arange(blocks.shape[1], device=blocks.device).expand_as(blocks)
        is_active = blocks == active_block
        last = column.masked_fill(~is_active, 0).amax(1, keepdim=True)
        return torch.where(is_active, last, column).masked_fill(blocks < 0, -1)

    def spans(self, prompt_length: int, length: int, block_length: int) -> Sequence[tuple[int, int]]:
        """(first token, end) of each span of a completion, that is, of tokens that are decoded together.

        A span is block_length tokens long, counted from the start of attention's blocks (in a full pattern, of the
        completion). The first span is shorter if its first tokens belong to the prompt; the last one ends with the
        completion. prompt_length: tokens of the prompt. length: T, places of the completion. block_length: divides the
        size of attention's blocks.
        """
        # How many of the first block_length tokens belong to the prompt.
        tail = self.prompt_tail(prompt_length) % block_length
        starts = [0, *range(block_length - tail, length, block_length)]
        stops = [*starts[1:], length]
        return list(zip(starts, stops, strict=True))

    def block_of(self, token: int, prompt_length: int) -> tuple[int, int]:
        """(first token, end) of the block of a completion's token; negative numbers are tokens of the prompt."""
        tail = self.prompt_tail(prompt_length)
        start = (token + tail) // self.block_size * self.block_size - tail
        return start, start + self.block_size

    def prompt_tail(self, prompt_length: int) -> int:
        """How many tokens of the prompt lie in the same block as the completion's first token."""
        return 0 if self.is_full or self.origin == "completion" else prompt_length % self.block_size

    def copy_width(self, prompt_length: int, length: int) -> int:
        """How many columns each masked copy of a completion has for itself, at most.

        In a full pattern these are prompt and completion, else the blocks that the completion touches. The copies also
        see the clean columns that all of them share (`text_width`).
        """
        return prompt_length + length if self.is_full else self.prompt_tail(prompt_length) + length

    def text_width(self, prompt_length: int, length: int) -> int:
        """How many clean columns all masked copies of a completion share: those before its last block; 0 if full."""
        return 0 if self.is_full else prompt_length + self.block_of(length - 1, prompt_length)[0]


def block_causal_mask(query_blocks: Tensor, key_blocks: Tensor) -> Tensor:
    """(B, 1, Q, K) bool, which columns attend to which, from block numbers (B, Q) and (B, K), -1 on padding.

    Padding sees all real columns. Nothing reads its states, but a softmax over no column would be nan.
    """
    query_blocks, key_blocks = query_blocks[:, :, None], key_blocks[:, None, :]
    key_is_real, query_is_padding = key_blocks >= 0, query_blocks < 0
    is_visible = key_is_real & ((key_blocks <= query_blocks) | query_is_padding)
    return is_visible.unsqueeze(1)
