"""What every algorithm has in common: hyper-parameters, a masking strategy and two pure methods.

Axes: P prompts, G generations, B completions, M masks, T completion tokens.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, get_args, get_type_hints

from spg_trainer.errors import ConfigError

if TYPE_CHECKING:
    from torch import Tensor

    from spg_trainer.batch import Batch
    from spg_trainer.likelihood.masks import Masks, Strategy


@dataclass(frozen=True)
class Loss:
    """A loss and what to show of it."""

    loss: Tensor
    """Scalar to minimise: a sum over the completions at hand, divided by totals over the whole update."""
    metrics: dict[str, Tensor]
    """Scalars without a graph. Each is a sum over the completions at hand, divided by
    `totals["completions"]`, so that adding up micro-batches and processes gives the mean over all
    completions of the update; completions without a signal are never scored and count as zero."""


@dataclass(frozen=True)
class Algorithm(ABC):
    """Hyper-parameters that say how completions are masked; the defaults are those of the SPG paper."""

    masking: Literal["random", "block", "block_active", "trajectory"] = "block"
    """What the model is shown when a completion is scored."""
    num_masks: int = 2
    """M, masked copies of each completion, >= 1."""
    p_mask_prompt: float = 0.15
    """Chance that a prompt token is hidden (`block`: a token of an earlier block, too), 0 up to but not 1."""
    block_length: int = 32
    """Tokens of a block for `block` and `block_active`, >= 1; usually that of the rollout."""

    ends: ClassVar[Literal["any", "eos"]] = "any"
    """Which tokens end a completion: any of the model's end tokens, or only the one its tokenizer calls eos."""
    needs_old_logps: ClassVar[bool] = False
    needs_ref_logps: ClassVar[bool] = False

    def __post_init__(self) -> None:
        for name, kind in get_type_hints(type(self)).items():
            value, words = getattr(self, name), get_args(kind)
            if words and str in map(type, words) and value not in words:
                raise ConfigError(f"{name}={value!r}: expected one of {', '.join(words)}")
        self.require("num_masks", self.num_masks >= 1, "1 or more, e.g. 2")
        if self.masking == "trajectory":
            exact = self.p_mask_prompt == 0
            self.require("p_mask_prompt", exact, "0 for masking=trajectory, which shows what the sampler saw")
        self.require("p_mask_prompt", 0 <= self.p_mask_prompt < 1, "from 0 up to, but not, 1, e.g. 0.15")
        self.require("block_length", self.block_length >= 1, "1 or more, e.g. 32")

    def require(self, name: str, fine: bool, expected: str) -> None:
        """Raises ConfigError unless the field's value is fine."""
        if not fine:
            raise ConfigError(
                f"{name}={getattr(self, name)} should be {expected}; set it with --algorithm-args {name}=..."
            )

    @property
    def strategy(self) -> Strategy:
        """The masking strategy these hyper-parameters ask for."""
        from spg_trainer.likelihood import masks

        common = {"num_masks": self.num_masks, "p_mask_prompt": self.p_mask_prompt}
        match self.masking:
            case "random":
                return masks.RandomMasks(**common)
            case "trajectory":
                return masks.TrajectoryMasks(**common)
            case "block":
                return masks.BlockMasks(**common, block_length=self.block_length)
            case _:
                return masks.ActiveBlockMasks(**common, block_length=self.block_length)

    @abstractmethod
    def prepare(self, rewards: Tensor) -> dict[str, Tensor]:
        """What a whole rollout says about each completion, `advantages` among it.

        rewards: (P, G) float64, one row per group. Every result is (P*G,), group after group.
        """

    def active(self, signal: dict[str, Tensor]) -> Tensor:
        """(B,) bool, the completions that change the loss; the others need not be scored."""
        return signal["advantages"] != 0

    @abstractmethod
    def loss(self, logps: Tensor, masks: Masks, batch: Batch) -> Loss:
        """The loss of B completions, differentiable in logps (B, M, T), which are zero where not scored."""
