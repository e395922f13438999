"""Weights in the type that is computed, beside the same weights in the type that is trained (mixed precision).

In bfloat16 most steps of a usual learning rate round to nothing. So where all weights are trained, they are kept and
stepped in float32, and a phase (`shard.unsharded`: a rollout, an evaluation, an update) computes with a copy of them in
16 bits, which is made when the phase begins. Gradients of passes are added up in float32.

`--shard` does the same with weights that are divided among processes; this is for weights that each process has whole.
"""

from typing import Any

import torch
from torch import Tensor, nn


class WorkingCopy:
    """What a phase swaps into a model's parameters, and out of them again; the parameters stay the same objects."""

    def __init__(self, model: nn.Module, computed: torch.dtype) -> None:
        """computed: the type of a pass, narrower than that of the parameters."""
        self.model, self.computed = model, computed
        self.trained: dict[nn.Parameter, Tensor] = {}
        """Each parameter's numbers as they are trained, while a phase computes with others."""
        self.gradients: dict[nn.Parameter, Tensor] = {}
        """The sums of the phase's gradients, in the type that is trained."""
        self._hooks: list[Any] = []

    def begin(self) -> None:
        """Makes the copy, unless a phase has begun already."""
        if self.trained:
            return
        for p in self.model.parameters():
            self.trained[p] = p.data
            p.data = p.data.to(self.computed)
            if p.requires_grad:
                self._hooks.append(p.register_post_accumulate_grad_hook(self._add))

    def end(self) -> None:
        """Puts the trained numbers back, with the sums of the gradients as theirs; drops the copy."""
        for hook in self._hooks:
            hook.remove()
        for p, numbers in self.trained.items():
            p.data = numbers
            if (gradient := self.gradients.get(p)) is not None:
                p.grad = gradient
        self._hooks, self.trained, self.gradients = [], {}, {}

    def _add(self, p: nn.Parameter) -> None:
        """Adds the gradient that a backward pass has just made, which is rounded to the type of the pass."""
        gradient, p.grad = p.grad, None
        if p in self.gradients:
            self.gradients[p].add_(gradient)
        else:
            self.gradients[p] = gradient.to(self.trained[p].dtype)


def working_copy(base: nn.Module) -> WorkingCopy | None:
    """The working copy of a model; None where it computes with the weights that it keeps."""
    return getattr(base, "working_copy", None)


def keep_wider(base: Any, computed: torch.dtype) -> None:
    """Makes phases of a model compute in a narrower type than its weights are kept in."""
    base.working_copy = WorkingCopy(base, computed)
