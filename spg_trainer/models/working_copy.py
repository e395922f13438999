"""Mixed precision: a model computes with a copy of its weights in 16 bits, and trains the weights in float32.

In bfloat16 most steps of a usual learning rate round to nothing. So trained weights are kept and stepped in float32. A
phase (`shard.unsharded`: a rollout, an evaluation, an update) computes with a copy of them in 16 bits, which is made
when the phase begins. Gradients are added up in float32.

FSDP does the same for weights that `--shard` divides. This file is for weights that each process has whole, and so also
for adapters on a divided model.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from spg_trainer.models.states import base_model

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel


class WorkingCopy:
    """Swaps numbers in a narrower type into a model's parameters for a phase; the parameters stay the same objects."""

    def __init__(self, parameters: Callable[[], Iterable[nn.Parameter]], compute_dtype: torch.dtype) -> None:
        """parameters: returns the parameters to copy. compute_dtype: the type of a pass, narrower than theirs."""
        self.parameters, self.compute_dtype = parameters, compute_dtype
        self.trained: dict[nn.Parameter, Tensor] = {}
        """{parameter: its trained numbers}, while a phase computes with the copy."""
        self.gradients: dict[nn.Parameter, Tensor] = {}
        """{parameter: the sum of the phase's gradients}, in the type of the trained numbers."""
        self._hooks: list[Any] = []

    def begin(self) -> None:
        """Makes the copy, unless a phase has begun already."""
        if self.trained:
            return
        for p in self.parameters():
            self.trained[p] = p.data
            p.data = p.data.to(self.compute_dtype)
            if p.requires_grad:
                self._hooks.append(p.register_post_accumulate_grad_hook(self._add))

    def end(self) -> None:
        """Puts the trained numbers back, with the sums of the gradients as `.grad`; drops the copy."""
        for hook in self._hooks:
            hook.remove()
        for p, numbers in self.trained.items():
            p.data = numbers
            if (gradient := self.gradients.get(p)) is not None:
                p.grad = gradient
        self._hooks, self.trained, self.gradients = [], {}, {}

    def _add(self, p: nn.Parameter) -> None:
        """Adds a gradient that a backward pass has just made, in the type of the pass, to the sum."""
        gradient, p.grad = p.grad, None
        if p in self.gradients:
            self.gradients[p].add_(gradient)
        else:
            self.gradients[p] = gradient.to(self.trained[p].dtype)


def working_copy(model: "PreTrainedModel | PeftModel") -> WorkingCopy | None:
    """The working copy of a model; None if the model computes with its trained weights."""
    return getattr(base_model(model), "working_copy", None)


@contextmanager
def computing_with_copy(model: "PreTrainedModel | PeftModel") -> Iterator[None]:
    """A phase: inside, a model with a working copy computes with it.

    Inside a phase that has begun already, nothing happens: that phase's copy is used until that phase ends.
    """
    copy = working_copy(model)
    phase_has_begun = copy is not None and bool(copy.trained)
    if copy is None or phase_has_begun:
        yield
        return
    copy.begin()
    try:
        yield
    finally:
        copy.end()


def drop_gradients(model: "PreTrainedModel | PeftModel") -> None:
    """Forgets the gradients of a model, also those that its working copy has added up in this phase."""
    model.zero_grad(set_to_none=True)
    if (copy := working_copy(model)) is not None:
        copy.gradients.clear()


def keep_wider(
    model: Any, compute_dtype: torch.dtype, parameters: Callable[[], Iterable[nn.Parameter]] | None = None
) -> None:
    """Keeps a model's weights in the wide type that they have, while its phases compute in `compute_dtype`.

    Nothing is converted here: each phase makes a copy of the weights in `compute_dtype`, and drops it at its end.
    compute_dtype: a narrower type than that of the weights. parameters: returns the parameters that phases copy; None =
    all.
    """
    base = base_model(model)
    base.working_copy = WorkingCopy(parameters or base.parameters, compute_dtype)
