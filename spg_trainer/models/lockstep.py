"""Passes that all processes make together, because each gathers the weights a layer at a time (`--shard layer`).

1. Completions end at different lengths, so processes have different numbers of passes to make.
2. Before a pass, each process says by an all-reduce which kind of pass it has next: of which model, and with a graph of
   autograd or without.
3. The kind that most processes have is made next. A process that has such a pass makes it. Every other process makes a
   pass over a single token, whose gradient is 0.
4. A pass with a graph ends with its backward pass. If the loss has no gradient, the backward pass is made with
   gradient 0.
5. Before processes communicate in another way, and at a phase's end, each process says that it has no pass left. It
   makes the passes of others until no process has any.

Hooks on a model's body do all this, together with `drain`, which `spg_trainer.distributed` calls.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from spg_trainer import distributed
from spg_trainer.models.shard import gathers_head_separately
from spg_trainer.seeding import gpus


class Lockstep:
    """The models of a run whose passes gather weights: the trained one, and its frozen copy if there is one.

    A kind of pass is a number: 0 and 1 are passes of the first model without and with a graph, 2 and 3 of the second.
    """

    def __init__(self, models: Sequence[Any]) -> None:
        self.models = models
        self.for_others = 0
        """How many passes were made only because other processes had one."""
        self._open: tuple[int, Tensor] | None = None
        """(number of its model, last hidden states) of a pass with a graph whose backward pass has not begun; None if
        there is none."""
        self._is_for_others = False
        """Whether the present pass is one that only other processes need."""
        self.is_inside = False
        """Whether a pass or its backward pass is under way, in which all processes gather and sum together."""
        for number, model in enumerate(models):
            body = model.base_model
            if gathers_head_separately(model):
                _follow_passes(model.get_output_embeddings())
            body.register_forward_pre_hook(partial(self._before, number))
            body.register_forward_hook(partial(self._after, number))

    def drain(self) -> None:
        """Makes the passes of other processes until none has any; afterwards the weights are divided again.

        After an error inside a pass, this process makes no further pass. The others still wait for it within that pass,
        so a further one would not meet theirs.
        """
        if self.is_inside:
            return
        self._close()
        while (kind := self._agree(kind_here=None)) is not None:
            self._make_for_others(kind)
        for model in self.models:
            model.reshard()
            _let_head_go(model)

    def _before(self, number: int, *_: object) -> None:
        """Returns when it is the turn of this process's own pass."""
        if self._is_for_others:
            return
        self._close()
        kind_here = 2 * number + self._has_graph(number)
        while (kind := self._agree(kind_here)) != kind_here:
            self._make_for_others(kind)
        self.is_inside = True
        _prepare(self.models[number])

    def _after(self, number: int, body: nn.Module, arguments: object, output: Any) -> None:
        """Sends the last hidden states through the head (see `_follow_passes`), and watches for their backward pass."""
        if gathers_head_separately(self.models[number]):
            head = self.models[number].get_output_embeddings()
            output.last_hidden_state = head.follow_pass(output.last_hidden_state)
        if self._is_for_others:
            return
        self.is_inside = False
        if self._has_graph(number):
            states = output.last_hidden_state
            self._open = number, states
            states.register_hook(self._note_backward_begun)

    def _note_backward_begun(self, gradient: Tensor) -> None:
        """Called when a backward pass reaches the last hidden states; arranges the call at its end."""
        self._open, self.is_inside = None, True
        # FSDP learns of the end of a backward pass in the same way.
        torch.autograd.Variable._execution_engine.queue_callback(self._note_backward_ended)

    def _note_backward_ended(self) -> None:
        """Called when a backward pass has ended."""
        self.is_inside = False

    def _has_graph(self, number: int) -> bool:
        """Whether a pass of this model, made now, has a graph of autograd."""
        return torch.is_grad_enabled() and any(p.requires_grad for p in self.models[number].parameters())

    def _agree(self, kind_here: int | None) -> int | None:
        """The kind of pass that most processes have next, the lowest of equal ones; None if no process has any."""
        votes = [0] * (2 * len(self.models))
        if kind_here is not None:
            votes[kind_here] = 1
        counts = distributed.all_reduce_numbers(votes, self.models[0].device)
        return counts.index(max(counts)) if any(counts) else None

    def _make_for_others(self, kind: int) -> None:
        """Makes a pass over one token, and back with gradient 0, because another process has a pass of this kind."""
        number, with_graph = divmod(kind, 2)
        model = self.models[number]
        self._is_for_others = self.is_inside = True
        # Where dropout acts, a pass for others draws from the global stream.
        with torch.random.fork_rng(gpus(model.device), enabled=model.training):
            try:
                _prepare(model)
                ids = torch.zeros((1, 1), dtype=torch.int64, device=model.device)
                pairs = torch.ones_like(ids, dtype=torch.bool)[None, None]
                with torch.set_grad_enabled(bool(with_graph)):
                    embedded = model.get_input_embeddings()(ids)
                    if with_graph and not embedded.requires_grad:
                        # The weights may be frozen, and adapters off while this process is at the reference's pass.
                        embedded.requires_grad_()
                    states = model.base_model(inputs_embeds=embedded, attention_mask=pairs).last_hidden_state
                if with_graph:
                    self._send_back_nothing(number, states)
            finally:
                self._is_for_others = False
        self.is_inside = False
        self.for_others += 1

    def _close(self) -> None:
        """If a pass with a graph had no backward pass, makes one with gradient 0, since other processes wait for it."""
        if self._open is not None:
            (number, states), self._open = self._open, None
            self._send_back_nothing(number, states)

    def _send_back_nothing(self, number: int, states: Tensor) -> None:
        """Makes a backward pass with gradient 0 that reaches every trained weight."""
        with torch.enable_grad():  # this process may be about to make a pass without a graph
            nothing = states.sum() * 0
            head = self.models[number].get_output_embeddings().weight
            if head.requires_grad:
                nothing = nothing + head.sum() * 0
        nothing.backward()


def _prepare(model: Any) -> None:
    """Before a pass, gathers the weights that no layer gathers: the norm, and the embedding if it is the head too."""
    _let_head_go(model)
    model.unshard()


def _let_head_go(model: Any) -> None:
    """Frees a separate head. After a pass it has stayed gathered for what is computed from the last hidden states."""
    if gathers_head_separately(model):
        model.get_output_embeddings().reshard()


def _follow_passes(head: Any) -> None:
    """Gives a separate head the method `follow_pass`, through which the last hidden states go; it returns a copy.

    FSDP sees a module's call: it gathers the head there. When the gradient of these states is known, it sums the head's
    gradient and lets the head go, before the layers' turn.
    """
    from torch.distributed.fsdp import register_fsdp_forward_method

    head.follow_pass = torch.clone  # torch warns of a view
    register_fsdp_forward_method(head, "follow_pass")
