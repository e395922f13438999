"""Weights in the type that is computed, beside the same weights in the type that is trained (mixed precision).

In bfloat16 most steps of a usual learning rate round to nothing. So what is trained is kept and stepped in float32, and
a phase (`shard.unsharded`: a rollout, an evaluation, an update) computes with a copy of it in 16 bits, which is made
when the phase begins. Gradients of passes are added up in float32.

`--shard` does the same with weights that are divided among processes; this is for weights that each process has whole,
and so for adapters on any model.
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
    """What a phase swaps into a model's parameters, and out of them again; the parameters stay the same objects."""

    def __init__(self, parameters: Callable[[], Iterable[nn.Parameter]], computed: torch.dtype) -> None:
        """parameters: what returns those that are copied. computed: the type of a pass, narrower than theirs."""
        self.parameters, self.computed = parameters, computed
        self.trained: dict[nn.Parameter, Tensor] = {}
        """Each parameter's numbers as they are trained, while a phase computes with others."""
        self.gradients: dict[nn.Parameter, Tensor] = {}
        """The sums of the phase's gradients, in the type that is trained."""
        self._hooks: list[Any] = []

    def begin(self) -> None:
        """Makes the copy, unless a phase has begun already."""
        if self.trained:
            return
        for p in self.parameters():
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


def working_copy(model: "PreTrainedModel | PeftModel") -> WorkingCopy | None:
    """The working copy of a model; None where it computes with the weights that it keeps."""
    return getattr(base_model(model), "working_copy", None)


@contextmanager
def computing_with_copy(model: "PreTrainedModel | PeftModel") -> Iterator[None]:
    """Inside, the model computes with its working copy if it has one; an outer phase goes on with that of its own."""
    copy = working_copy(model)
    if copy is None or copy.trained:
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
    model: Any, computed: torch.dtype, parameters: Callable[[], Iterable[nn.Parameter]] | None = None
) -> None:
    """Makes phases of a model compute in a narrower type than its weights are kept in; parameters: None = all."""
    base = base_model(model)
    base.working_copy = WorkingCopy(parameters or base.parameters, computed)
