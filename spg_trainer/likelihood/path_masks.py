"""Maskings of the sampler's path that look at more than the tokens of a step: at its choice of positions, or ahead."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from spg_trainer.errors import ConfigError
from spg_trainer.likelihood.masks import Completion, Copies, StepMergeMasking

if TYPE_CHECKING:
    from spg_trainer.architecture.pattern import Pattern


@dataclass(frozen=True)
class PositionMasking(StepMergeMasking):
    """`StepMergeMasking` of the sampler's whole path, which measures how sure the model was of each position.

    Scored is every token that a segment unmasked, also behind the first end token: where the sampler wrote it was
    chosen, too. Measured is the confidence at each place that was still masked when the segment began, in the blocks
    that it wrote in. With segments of one step, these are all the probabilities that the path depends on.
    block_length: tokens, that of the rollout.
    """

    block_length: int = 32

    measure: ClassVar[str] = "confidence"

    def check_pattern(self, pattern: "Pattern") -> None:
        """Raises ConfigError where the rollout's first block may be shorter than the others."""
        if not pattern.is_full and pattern.origin == "sequence":
            raise ConfigError(
                "a rollout's choice of positions: this model attends in blocks that begin with the prompt, so that a "
                "completion's first block may be shorter, and is not scored here. Use --algorithm d2_stepmerge."
            )

    def copies(self, row: Completion) -> Copies:
        copies = super().copies(row._replace(length=row.size))
        block = np.arange(row.size) // self.block_length
        at = (copies.scored[:, :, None] & (block[:, None] == block)).any(1)
        return copies._replace(measured=copies.masked & at)


@dataclass(frozen=True)
class HintMasking(StepMergeMasking):
    """`StepMergeMasking` whose reference is shown some of what the sampler wrote later, as a hint.

    hint_share: of the places of the completion that the copy masks and does not score, so many are shown to the
    reference, rounded down, and drawn anew for each copy. hint: which places these are among: `blocks` = those behind
    the blocks that the segment wrote in, `steps` = all. A copy without a hint scores nothing.
    """

    hint_share: float = 0.25
    hint: str = "blocks"
    block_length: int = 32

    hints: ClassVar[bool] = True

    def check_pattern(self, pattern: "Pattern") -> None:
        """Raises ConfigError for hints that stand in blocks which no earlier one attends to."""
        if self.hint == "blocks" and not pattern.is_full:
            raise ConfigError(
                "hint=blocks: in this model a block does not attend to later ones, so that the teacher would not see "
                "its hint. Use --algorithm-args hint=steps."
            )

    def copies(self, row: Completion) -> Copies:
        copies = super().copies(row)
        place, shown = np.arange(row.size), np.zeros_like(copies.masked)
        for mask, (masked, scored) in enumerate(zip(copies.masked, copies.scored, strict=True)):
            later = masked & ~scored & (row.unmask_step >= 0)
            if self.hint == "blocks" and scored.any():
                end = (scored.nonzero()[0].max() // self.block_length + 1) * self.block_length
                later &= place >= end
            among = later.nonzero()[0] if scored.any() else np.zeros(0, dtype=int)
            count = int(self.hint_share * len(among) + 1e-9)
            shown[mask, row.streams.of_mask(mask).permutation(among)[:count]] = True
        hinted = copies.scored & shown.any(-1, keepdims=True)
        return copies._replace(scored=hinted, ref_masked=copies.masked & ~shown)


@dataclass(frozen=True)
class HorizonMasking(StepMergeMasking):
    """States of the path before some steps; scores what the steps up to the horizon write, and what later ones do.

    The reference is shown the state at the horizon: of the scored tokens it has the near ones, and not the far ones. Of
    these, only those in the blocks of near tokens are scored, and none if far_weight is 0. Measured is, at near tokens,
    how undecided the model is where it is right, unless certainty_weight is 0. horizon: denoising steps. block_length:
    tokens, that of the rollout.
    """

    horizon: int = 4
    certainty_weight: float = 2.0
    far_weight: float = 1.0
    block_length: int = 32

    hints: ClassVar[bool] = True

    @property
    def measure(self) -> str:  # type: ignore[override]
        return "right_entropy" if self.certainty_weight > 0 else ""

    def copies(self, row: Completion) -> Copies:
        copies = super().copies(row)
        step, inside = row.unmask_step, np.arange(row.size) < row.length
        block = np.arange(row.size) // self.block_length
        first = np.where(copies.scored, step, step.max(initial=0) + 1).min(-1, keepdims=True)
        near = inside & (step >= first) & (step < first + self.horizon)
        beside = (near[:, :, None] & (block[:, None] == block)).any(1)
        far = inside & (step >= first + self.horizon) & beside & (self.far_weight > 0)
        unwritten = (step < 0) | (step >= first + self.horizon)
        return copies._replace(scored=near | far, measured=near, ref_masked=unwritten)
