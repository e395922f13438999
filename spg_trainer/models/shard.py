"""How a run keeps its weights: divided among the processes (`--shard`, `--expert-parallel`), or with a working copy.

Under `--shard` each process keeps a part of every tensor, gradient and moment. `divide` does this by torch's FSDP2,
layer by layer. Completions end at different lengths, so processes make different numbers of passes. There are two ways
to handle that:

- `phase`: a pass calls no other process. The weights are gathered once for a whole phase (`unsharded`: a rollout, an
  evaluation, an update), and let go at its end; an update sums its gradients by one reduce-scatter
  (`reduce_gradients`). Inside a phase each process has all weights in the type of a pass, and in an update all
  gradients.
- `layer`: a pass gathers the embedding, then one layer at a time, then the head, and processes make their passes
  together (`lockstep`). Each process holds a layer or two, and sums a layer's gradients as soon as they are computed.

In both ways each of N processes keeps an Nth of the trained weights and of the optimizer's state. A model that is read
from a folder is divided before it has any numbers; then each process reads its part.

Adapters are not divided: they are small, and each process has them whole, as without `--shard`.

Under `--expert-parallel` each process of a group keeps and computes some of the experts. transformers does this
(`AllToAllEP`): in each mixture layer, every process sends its tokens to the processes that have the chosen experts, and
gets the results back. The backward pass takes the same way, so the gradient of an expert holds the tokens of the whole
group already, and is not summed over the group. The processes of a group therefore make their passes together
(`Lockstep`).

A *working copy* is mixed precision: a model computes with a copy of its weights in 16 bits, and trains the weights in
float32. In bfloat16 most steps of a usual learning rate round to nothing. So trained weights are kept and stepped in
float32. A phase computes with a copy of them in 16 bits, which is made when the phase begins. Gradients are added up in
float32. FSDP does the same for weights that `--shard` divides. `WorkingCopy` is for weights that each process has
whole, and so also for adapters on a divided model.
"""

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from spg_trainer import distributed
from spg_trainer.architecture.layers import EXPERTS, check_expert_parallel
from spg_trainer.distributed import is_part, local
from spg_trainer.errors import ConfigError, ModelError
from spg_trainer.models.forward import base_model
from spg_trainer.models.weight_files import is_adapter, load_parts, unreadable
from spg_trainer.seeding import gpus

if TYPE_CHECKING:
    from peft import PeftModel
    from torch.distributed.fsdp import FSDPModule
    from transformers import PreTrainedModel


def divide(
    model: nn.Module,
    device: torch.device,
    compute_dtype: torch.dtype,
    by_layer: bool = False,
    expert_parallel: int = 1,
    folder: Path | None = None,
) -> None:
    """Divides a model's weights among the processes of the run, in place. An optimizer must be made after this.

    device: the process's device; the weights are moved there, a layer at a time.
    compute_dtype: the type in which weights are gathered; the trained weights keep their type.
    by_layer: whether each pass gathers a layer at a time, so that `lockstep` has to order passes; else a phase gathers
        all weights.
    expert_parallel: among how many processes the experts of a mixture are divided, each whole in one of them; 1 = they
        are divided like all other weights.
    folder: the folder from which to read the weights, if the model is still empty (on the device `meta`).

    Raises ModelError if torch is too old.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard

    if not hasattr(FSDPModule, "set_force_sum_reduction_for_comms"):
        raise ModelError(f"$shard needs torch 2.9 or newer, and this is {torch.__version__}; upgrade it")
    base: Any = base_model(model)
    if base.pattern.has_encoder:
        base.share_layers()
    adapters = {p for name, p in base.named_parameters() if is_adapter(name)}
    for p in adapters:
        p.data = p.data.to(device)
    experts = set() if expert_parallel == 1 else divide_experts(base, device, compute_dtype, expert_parallel)
    options: dict[str, Any] = {
        "mesh": init_device_mesh(device.type, (distributed.world_size(),)),
        # Inputs are not cast, since positions are rotated in float32 with weights of any type.
        "mp_policy": MixedPrecisionPolicy(
            param_dtype=compute_dtype, reduce_dtype=base.dtype, cast_forward_inputs=False
        ),
        "ignored_params": adapters | experts,
    }
    layers, embedding = base.get_submodule(base.layers_at), base.get_input_embeddings()
    head = base.get_output_embeddings()
    # If embedding and head are two tensors, each is needed at one end of a pass only, so they are gathered separately.
    are_separate = by_layer and embedding.weight is not head.weight
    separate_ends = [embedding, head] if are_separate else []
    for module in (*separate_ends, *layers.children(), base):
        # Norm and head stay gathered after a pass, since the head multiplies the hidden states outside of the body.
        fully_shard(module, reshard_after_forward=by_layer and module not in (base, head), **options)
    _sum_in_backward(base, sums=by_layer)
    for module in _gathered_at_once(base):
        module.set_gradient_divide_factor(1.0)  # losses are divided by global totals already
        module.set_force_sum_reduction_for_comms(True)  # gloo has no scaled sums
        # By default, a layer's backward pass gathers the layer that ran before it. If a pass without a graph came in
        # between, the processes would disagree on what is gathered, and wait for each other.
        module.set_modules_to_backward_prefetch([module])
    if folder is not None:
        with distributed.raising_on_all():
            _read_parts(base, device, folder)
    with torch.no_grad():
        # FSDP takes the module that runs first for the root; later, layers may run first.
        base.whole_pass()
    _reshard(base)


def _read_parts(base: "PreTrainedModel", device: torch.device, folder: Path) -> None:
    """Reads the numbers of a divided model on the device `meta`. Raises ModelError for files that do not fit."""
    from safetensors import SafetensorError

    saved_names = base.state_dict().keys()

    def has_unsaved_buffer(path: str, module: nn.Module) -> bool:
        buffers = module.named_buffers(recurse=False)
        return any(f"{path}.{name}" not in saved_names for name, _ in buffers)

    with_unsaved_buffers = [
        module for path, module in base.named_modules() if has_unsaved_buffer(path, module)
    ]
    base._apply(lambda value: _empty_like(value, device) if value.is_meta else value.to(device))
    base.tie_weights(recompute_mapping=False)
    with torch.no_grad():
        # These buffers, such as the frequencies of positions, are in no file.
        for module in with_unsaved_buffers:
            for p in module.parameters(recurse=False):
                p._is_hf_initialized = True  # so that transformers leaves it as it is
            base._init_weights(module)
        try:
            load_parts(base, folder)
        except (OSError, KeyError, RuntimeError, SafetensorError) as error:
            raise unreadable(folder, error) from error


def _empty_like(value: Tensor, device: torch.device) -> Tensor:
    """An empty tensor on `device` for one on the device `meta`; of a divided tensor, for this process's part."""
    from torch.distributed.tensor import DTensor

    empty = torch.empty(local(value).shape, dtype=value.dtype, device=device)
    if not isinstance(value, DTensor):
        return empty
    full_layout = {"shape": value.shape, "stride": value.stride()}
    return DTensor.from_local(empty, value.device_mesh, value.placements, run_check=False, **full_layout)


def divide_experts(
    base: "PreTrainedModel", device: torch.device, compute_dtype: torch.dtype, size: int
) -> set[nn.Parameter]:
    """Divides the experts of a model among groups of `size` processes, in place; returns their parameters.

    base: still empty (on the device `meta`), with as many experts as a multiple of `size`. compute_dtype: the type of a
    pass. Raises ConfigError if experts have adapters.
    """
    from transformers.distributed.expert_parallel import apply_expert_parallelism
    from transformers.distributed.parallel_utils import replace_layer_number_by_wildcard

    check_expert_parallel(base.config, size)
    parameters = [name for name, _ in base.named_parameters()]
    if any(".experts." in name and is_adapter(name) for name in parameters):
        raise ConfigError(
            f"$expert_parallel={size}: the adapter is on experts, which stay whole then. Leave it out, or train "
            "adapters of attention alone."
        )
    mesh, alone = (distributed.process_mesh(number, device.type) for number in (size, 1))
    # The parameters come first, since a module's new `forward` asks how many experts it has.
    names = (*parameters, *(name for name, _ in base.named_modules()))
    styles = {name: base.ep_plan.get(replace_layer_number_by_wildcard(name)) for name in names}
    for name, module in base.named_modules():
        if name.endswith(".experts") and base.dtype != compute_dtype:
            _compute_in_type_of_input(module)
    plan = {name: style for name, style in styles.items() if style}
    apply_expert_parallelism(base, mesh["group"], alone["group"], plan, ep_implementation="all_to_all")
    base.copies_of_experts = mesh["across"]
    return set(expert_parameters(base))


def expert_parameters(base: "PreTrainedModel") -> list[nn.Parameter]:
    """The parameters with the experts of a model, if they are divided."""
    if not hasattr(base, "copies_of_experts"):
        return []
    return [p for name, p in base.named_parameters() if name.endswith(EXPERTS)]


def sum_over_copies(base: "PreTrainedModel") -> None:
    """Sums the gradients of divided experts over the groups of processes, each of which has a copy of all experts."""
    experts = expert_parameters(base)
    if not experts or base.copies_of_experts.size() == 1:
        return
    group = base.copies_of_experts.get_group()
    for p in experts:
        if p.requires_grad:
            gradient = local(p.grad)
            total = gradient.contiguous()
            torch.distributed.all_reduce(total, group=group)
            gradient.copy_(total)


def _compute_in_type_of_input(module: nn.Module) -> None:
    """Makes experts compute in the type of their input, narrower than that of their weights, as FSDP does for layers.

    Gradients are converted back by autograd, and added up in the type of the weights.
    """
    forward = module.forward

    def forward_in_type(hidden_states: Tensor, *routing: Any) -> Tensor:
        kept = dict(module._parameters)
        module._parameters.update({name: weight.to(hidden_states.dtype) for name, weight in kept.items()})
        try:
            return forward(hidden_states, *routing)
        finally:
            module._parameters.update(kept)

    module.forward = forward_in_type


def is_sharded(model: nn.Module) -> bool:
    """Whether the model's weights are divided among processes, even if they are gathered at present."""
    return any(True for _ in _gathered_at_once(base_model(model)))


def gathers_head_separately(model: "PreTrainedModel") -> bool:
    """Whether a pass of a divided model gathers the head by itself, at its end."""
    return any(True for _ in _gathered_at_once(model.get_output_embeddings()))


def trains_parts(model: nn.Module) -> bool:
    """Whether the trained weights are divided: all weights of a sharded model are, adapters are not."""
    base = base_model(model)
    return is_sharded(base) and any(
        p.requires_grad for name, p in base.named_parameters() if not is_adapter(name)
    )


@contextmanager
def unsharded(model: nn.Module) -> Iterator[None]:
    """A phase. Inside, each process has the whole weights; with `--shard layer`, passes are made in lockstep instead.

    All processes enter together. Each leaves when it is ready; in lockstep, all leave together.

    A model with a `working_copy` computes with this copy inside. Nothing else happens if the model is not sharded, or
    if its weights are gathered already.
    """
    base = base_model(model)
    must_gather = distributed.lockstep is None and any(map(is_part, base.parameters()))
    with computing_with_copy(model):
        if must_gather:
            _unshard(base)
        try:
            yield
        finally:
            if must_gather:
                _reshard(base)
            elif distributed.lockstep is not None:
                distributed.end_passes()


@contextmanager
def resharded(model: nn.Module) -> Iterator[None]:
    """Divides the weights again for a while inside `unsharded`, and then gathers them, unless an error was raised.

    A working copy that is in use (`copy.trained` holds the weights that it stands for) is dropped for that while, and
    made anew afterwards.
    """
    base = base_model(model)
    if (copy := working_copy(base)) is not None and copy.trained:
        copy.end()
        yield
        copy.begin()
        return
    is_gathered = is_sharded(base) and not any(map(is_part, base.parameters()))
    if not is_gathered or distributed.lockstep is not None:
        yield
        return
    _reshard(base)
    yield
    _unshard(base)


def reduce_gradients(model: nn.Module) -> None:
    """Sums the gradients of a sharded model inside `unsharded`; each process keeps the gradient of its part.

    A process without completions takes part with zeros. Afterwards the weights are divided again. Gradients of
    adapters, and of a model that is not sharded, are not summed here. If a model has a working copy, the gradients of
    the copy become those of the trained weights.
    """
    base = base_model(model)
    if (copy := working_copy(base)) is not None:
        copy.end()
    if distributed.lockstep is not None:
        distributed.end_passes()  # each backward pass has summed its gradients already
        for p in base.parameters():
            # No process had a gradient for p. An optimizer skips a weight whose gradient is None, its momentum and
            # weight decay included; with zeros it applies both.
            if p.requires_grad and p.grad is None:
                p.grad = torch.zeros_like(p)
        sum_over_copies(base)
    elif trains_parts(base):
        # FSDP sums gradients over the processes at the end of a backward pass. The gradients are there already, so this
        # pass adds zeros to them and only brings about the sum.
        _sum_in_backward(base, sums=True)
        (base.whole_pass() * 0).backward()
        _sum_in_backward(base, sums=False)


def _gathered_at_once(base: nn.Module) -> "Iterator[FSDPModule]":
    """The modules that are each gathered as a whole: a layer; embedding, norm and head, together or separately."""
    # The module is slow to import. If anything has been divided, it has been imported.
    fsdp = sys.modules.get("torch.distributed.fsdp")
    modules = () if fsdp is None else base.modules()
    return (module for module in modules if isinstance(module, fsdp.FSDPModule))


def _unshard(base: nn.Module) -> None:
    """Gathers the weights of all modules on each process."""
    for module in _gathered_at_once(base):
        module.unshard()


def _reshard(base: nn.Module) -> None:
    """Lets go of gathered weights, so that each process again holds its part alone."""
    for module in _gathered_at_once(base):
        module.reshard()


def _sum_in_backward(base: Any, sums: bool) -> None:
    """Sets whether a backward pass sums its gradients over the processes and then lets the weights go."""
    base.set_requires_gradient_sync(sums)
    base.set_reshard_after_backward(sums)


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


class Lockstep:
    """The models of a run whose passes gather weights: the trained one, and its frozen copy if there is one.

    A kind of pass is a number: 0 and 1 are passes of the first model without and with a graph, 2 and 3 of the second.
    A model whose passes have several forms has two numbers for each of them.
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
        self._kinds = [
            (number, form, with_graph)
            for number, model in enumerate(models)
            for form in range(model.forms)
            for with_graph in (False, True)
        ]
        for number, model in enumerate(models):
            if model.pattern.has_encoder:  # it says itself what is one pass
                model.passes = partial(self._before, number), partial(self._after, number)
                continue
            body = model.base_model
            if gathers_head_separately(model):
                _follow_passes(model.get_output_embeddings())
            body.register_forward_pre_hook(partial(self._before_body, number))
            body.register_forward_hook(partial(self._after_body, number))

    def drain(self) -> None:
        """Makes the passes of other processes until none has any; afterwards the weights are divided again.

        After an error inside a pass, this process makes no further pass. The others still wait for it within that pass,
        so a further one would not meet theirs.
        """
        if distributed.is_inside_pass:
            return
        self._close()
        while (kind := self._agree(kind_here=None)) is not None:
            self._make_for_others(kind)
        for model in self.models:
            model.reshard()
            _let_head_go(model)

    def _before_body(self, number: int, *_: object) -> None:
        """`_before` as a hook."""
        self._before(number)

    def _before(self, number: int, form: int = 0) -> None:
        """Returns when it is the turn of this process's own pass."""
        if self._is_for_others:
            return
        self._close()
        kind_here = self._kinds.index((number, form, self._has_graph(number)))
        while (kind := self._agree(kind_here)) != kind_here:
            self._make_for_others(kind)
        distributed.is_inside_pass = True
        _prepare(self.models[number])

    def _after_body(self, number: int, body: nn.Module, arguments: object, output: Any) -> None:
        """Sends the last hidden states through the head (see `_follow_passes`), and watches for their backward pass."""
        if gathers_head_separately(self.models[number]):
            head = self.models[number].get_output_embeddings()
            output.last_hidden_state = head.follow_pass(output.last_hidden_state)
        self._after(number, output.last_hidden_state)

    def _after(self, number: int, states: Tensor) -> None:
        """Watches for the backward pass from the last hidden states of a pass."""
        if self._is_for_others:
            return
        distributed.is_inside_pass = False
        if self._has_graph(number):
            self._open = number, states
            states.register_hook(self._note_backward_begun)

    def _note_backward_begun(self, gradient: Tensor) -> None:
        """Called when a backward pass reaches the last hidden states; arranges the call at its end."""
        self._open, distributed.is_inside_pass = None, True
        # FSDP learns of the end of a backward pass in the same way.
        torch.autograd.Variable._execution_engine.queue_callback(self._note_backward_ended)

    def _note_backward_ended(self) -> None:
        """Called when a backward pass has ended."""
        distributed.is_inside_pass = False

    def _has_graph(self, number: int) -> bool:
        """Whether a pass of this model, made now, has a graph of autograd."""
        return torch.is_grad_enabled() and any(p.requires_grad for p in self.models[number].parameters())

    def _agree(self, kind_here: int | None) -> int | None:
        """The kind of pass that most processes have next, the lowest of equal ones; None if no process has any."""
        votes = [0] * len(self._kinds)
        if kind_here is not None:
            votes[kind_here] = 1
        counts = distributed.all_reduce_numbers(votes, self.models[0].device)
        return counts.index(max(counts)) if any(counts) else None

    def _make_for_others(self, kind: int) -> None:
        """Makes a pass over one token, and back with gradient 0, because another process has a pass of this kind."""
        number, form, with_graph = self._kinds[kind]
        model = self.models[number]
        self._is_for_others = distributed.is_inside_pass = True
        # Where dropout acts, a pass for others draws from the global stream.
        with torch.random.fork_rng(gpus(model.device), enabled=model.training):
            try:
                _prepare(model)
                with torch.set_grad_enabled(with_graph):
                    states = model.shortest_pass(form)
                if with_graph:
                    self._send_back_nothing(number, states)
            finally:
                self._is_for_others = False
        distributed.is_inside_pass = False
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
