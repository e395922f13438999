"""Who attends to whom in a masked diffusion model: everybody to everybody, or blocks from left to right.

Axes: B rows, S columns of a row, Q of them that ask and K that are asked.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor


@dataclass(frozen=True)
class Pattern:
    """What a model family attends to, which is also what its completions are decoded by."""

    block_size: int = 0
    """0 = every token sees every other; n = a token sees those of its own block of n tokens and of all earlier ones."""
    origin: Literal["sequence", "completion"] = "sequence"
    """Where blocks begin: at the prompt's first real token, so that a block may hold the prompt's tail and the
    completion's head, or at the completion's first token, so that the prompt's first block may be shorter."""

    @property
    def is_full(self) -> bool:
        return self.block_size == 0

    def blocks(self, real: Tensor, start: int | None = None) -> Tensor:
        """The number of each column's block (B, S) int64, -1 on padding; in a full pattern all real columns are in 0.

        real: (B, S) bool, false on padding, which stands on the left. start: the completion's first column; only
        needed where blocks begin there.
        """
        if self.is_full:
            return real.long() - 1
        if self.origin == "sequence":
            number = (real.long().cumsum(-1) - 1) // self.block_size
        else:
            if start is None:
                raise ValueError("blocks that begin at the completion need its first column")
            first = -(-start // self.block_size)  # counted from one that is at or before the first column
            columns = torch.arange(real.shape[1], device=real.device) - start
            number = (columns // self.block_size + first).expand(real.shape)
        return number.masked_fill(~real, -1)


def visible(asking: Tensor, asked: Tensor) -> Tensor:
    """Which columns attend to which, (B, 1, Q, K) bool, from block numbers (B, Q) and (B, K), -1 on padding.

    Padding sees all that is real: its states are read by nobody, but attention to nothing at all is no number.
    """
    asking, asked = asking[:, :, None], asked[:, None, :]
    return ((asked >= 0) & ((asked <= asking) | (asking < 0))).unsqueeze(1)
