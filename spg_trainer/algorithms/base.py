"""What every algorithm has in common: hyper-parameters, a masking, advantages and a pure loss.

Axes: P prompts, G generations, B completions, M masks, T completion tokens.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, ClassVar, Literal, get_args, get_type_hints

from spg_trainer.errors import ConfigError

if TYPE_CHECKING:
    from torch import Tensor

    from spg_trainer.batch import Batch
    from spg_trainer.likelihood.masks import Masking, Masks

AdvantageForm = Literal["mean", "mean_std", "leave_one_out"]

STD_FLOOR = 1e-4
"""Added to the standard deviation, as in TRL's GRPO."""


@dataclass(frozen=True)
class Loss:
    """A loss and what to show of it."""

    loss: Tensor
    """Scalar to minimise: a sum over the completions at hand, divided by totals over the whole update."""
    metrics: dict[str, Tensor]
    """Scalars without a graph. Each is a sum over the completions at hand, divided by
    `totals["completions"]`, so that adding up micro-batches and processes gives the mean over all
    completions of the update; completions that are not scored count as zero."""


@dataclass(frozen=True)
class Algorithm(ABC):
    """Hyper-parameters, each settable by `--algorithm-args`; the defaults are those of the SPG paper.

    A subclass is a frozen dataclass with a `loss`, and with fields of its own: words, numbers or a Literal.
    """

    masking: str = "block"
    """What the model is shown when a completion is scored: a name of `MASKINGS`."""
    num_masks: int = 2
    """M, masked copies of each completion, >= 1."""
    p_mask_prompt: float = 0.15
    """Chance that a prompt token is masked (`block`: a token of an earlier block, too), 0 up to but not 1."""
    block_length: int = 32
    """Tokens of a block for `block` and `block_active`, >= 1; usually that of the rollout."""
    advantage: AdvantageForm = "mean"
    """What a reward is compared with: group mean, the same over the group's deviation, mean of the others."""

    end_tokens: ClassVar[Literal["any", "eos"]] = "any"
    """Which tokens end a completion: any of the model's end tokens, or only the one its tokenizer calls eos."""
    needs_old_logps: ClassVar[bool] = False
    """Whether `loss` reads `batch.old_logps`."""
    needs_ref_logps: ClassVar[bool] = False
    """Whether `loss` reads `batch.ref_logps`; the reference is the model below its LoRA adapters."""

    def __post_init__(self) -> None:
        choices = {name: get_args(kind) for name, kind in get_type_hints(type(self)).items()}
        choices["masking"] = tuple(self.maskings())
        for name, words in choices.items():
            value = getattr(self, name)
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

    @classmethod
    def maskings(cls) -> Mapping[str, type[Masking]]:
        """What `masking` chooses from."""
        from spg_trainer.likelihood.masks import MASKINGS

        return MASKINGS

    def make_masking(self) -> Masking:
        """The masking these hyper-parameters ask for; it takes those that it has fields for."""
        cls = self.maskings()[self.masking]
        return cls(**{f.name: getattr(self, f.name) for f in fields(cls) if hasattr(self, f.name)})

    def compute_advantages(self, rewards: Tensor) -> Tensor:
        """(P*G,) advantages of rewards (P, G), group after group; exactly zero where all rewards are equal.

        mean: reward - group mean (SPG, Dr. GRPO). mean_std: the same over the group's standard deviation (GRPO).
        leave_one_out: reward - mean of the others (RLOO). Raises ConfigError for groups of one.
        """
        size = rewards.shape[1]
        if size < 2:
            raise ConfigError(
                "a group of 1 completion has nothing to be compared with; set --num-generations 2 or more"
            )
        # Measured from the group's first reward: rounding in the mean cannot make equal rewards differ from it.
        shifted = rewards - rewards[:, :1]
        advantages = shifted - shifted.mean(1, keepdim=True)
        if self.advantage == "mean_std":
            advantages = advantages / (shifted.std(1, keepdim=True) + STD_FLOOR)
        elif self.advantage == "leave_one_out":
            advantages = advantages * (size / (size - 1))
        return advantages.reshape(-1)

    def active(self, advantages: Tensor) -> Tensor:
        """(B,) bool, the completions that change the loss; the others need not be scored."""
        return advantages != 0

    @abstractmethod
    def loss(self, logps: Tensor, masks: Masks, batch: Batch) -> Loss:
        """The loss of B completions, differentiable in logps (B, M, T), which are zero where not scored.

        Pure: no randomness, no logging, no model.
        """
