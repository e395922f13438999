"""A masking for a loss of two terms: it masks tokens in all copies of a completion but one, the clean copy.

It needs a model with a causal context, which predicts a token from the clean text before it alone.
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from spg_trainer.errors import ConfigError
from spg_trainer.likelihood.masking import Completion, Copies, Masking
from spg_trainer.likelihood.subset_masks import RandomMasking

if TYPE_CHECKING:
    from spg_trainer.architecture.pattern import Pattern


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

    def check(self, size: int) -> None:
        self.masked_copies.check(size)

    def check_pattern(self, pattern: "Pattern") -> None:
        """Raises ConfigError for attention in which no token is predicted from clean text before it alone."""
        if not pattern.has_causal_context:
            raise ConfigError(
                f"context_weight={self.context_weight}: only a model with a causal context, such as "
                "Nemotron-Labs-Diffusion, predicts tokens from the text before them. Leave out $algorithm_args "
                "context_weight."
            )
        self.masked_copies.check_pattern(pattern)

    def count(self, size: int) -> int:
        return self.masked_copies.count(size) + 1

    def sequences(self, size: int, pattern: "Pattern") -> int:
        return self.masked_copies.sequences(size, pattern) + 1

    def copies(self, row: Completion) -> Copies:
        copies = self.masked_copies.copies(row)
        masked, num_copies = copies.masked, len(copies.masked)
        is_token = np.arange(row.size) < row.length
        # A bound is `scale` times the mean over all copies. The factors (num_copies + 1) make up for the copy more in
        # that mean, and the clean copy stands for all tokens, so that it must not be scaled.
        weight = np.broadcast_to(copies.weight, masked.shape) * (num_copies + 1) / num_copies
        clean_weight = np.full((1, row.size), self.context_weight * (num_copies + 1) / copies.scale)
        return copies._replace(
            masked=np.concatenate([masked, np.zeros_like(is_token)[None]]),
            scored=np.concatenate([copies.scored, is_token[None]]),
            weight=np.concatenate([weight, clean_weight]),
            part=slice(None),  # all tokens
        )
