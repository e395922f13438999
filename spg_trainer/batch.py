"""The two records that travel through a training step. Axes: B completions, L prompt tokens, T completion tokens."""

from dataclasses import dataclass, fields

from torch import Tensor


@dataclass(frozen=True)
class Rollouts:
    """What the sampler wrote, and when it wrote each token."""

    prompt_ids: Tensor
    """(B, L) int64, left-padded."""
    prompt_mask: Tensor
    """(B, L) bool, false on padding."""
    completion_ids: Tensor
    """(B, T) int64 as sampled, also behind the first end token; the mask id where nothing was unmasked."""
    completion_mask: Tensor
    """(B, T) bool, true up to and including the first end token."""
    unmask_step: Tensor
    """(B, T) int64, the denoising step (0, 1, ... over the whole completion) that unmasked the token; -1 = never."""
    unmask_logps: Tensor
    """(B, T) float32 (float64 if the model is), un-tempered log-probability at that step; 0 where never unmasked."""

    def __len__(self) -> int:
        return self.prompt_ids.shape[0]

    def select(self, rows: Tensor) -> "Rollouts":
        """The given rows, in the given order. rows: (n,) int64, or (B,) bool."""
        return Rollouts(**{f.name: getattr(self, f.name)[rows] for f in fields(self)})


@dataclass(frozen=True)
class Batch:
    """What an algorithm's `loss` sees of some completions besides their logps and masks."""

    completion_mask: Tensor
    """(B, T) bool."""
    advantages: Tensor
    """(B,) float64."""
    totals: dict[str, float]
    """Sums over every completion of the update on all processes, skipped ones included: `completions`, `tokens`."""
    old_logps: Tensor | None = None
    """(B, M, T) float32 at scored positions, under the model that sampled; only if the algorithm asks."""
    ref_logps: Tensor | None = None
    """(B, M, T) float32 at scored positions, under the reference model; only if the algorithm asks."""

    @property
    def length(self) -> Tensor:
        """(B,) int64, scored tokens of each completion, the end token included."""
        return self.completion_mask.sum(-1)
