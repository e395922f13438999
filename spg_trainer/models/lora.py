"""LoRA adapters: adds new ones, loads saved ones, merges them into their base, and multiplies by them in few products.

In compiled layers, the adapters of queries, keys and values multiply their common input in one product. One product
rounds differently from three. So a pass without `--compile` makes three, and is rounded as if the layers were not
joined.

This module imports peft, which is slow, so it is imported lazily.
"""

import copy
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from peft import (
    LoraConfig,
    PeftConfig,
    PeftModel,
    get_peft_model,
    get_peft_model_state_dict,
    set_peft_model_state_dict,
)
from peft.tuners.lora.layer import Linear
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils import ModulesToSaveWrapper
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import linear
from transformers import PreTrainedModel

from spg_trainer.architecture.layers import EXPERTS, check_lora, lora_layers
from spg_trainer.errors import ModelError, first_line
from spg_trainer.models.body import mix_in
from spg_trainer.models.forward import base_model
from spg_trainer.models.policy import REFERENCE_ADAPTER, TRAINED
from spg_trainer.models.shard import keep_wider, working_copy
from spg_trainer.models.weight_files import base_name, base_weights, is_adapter
from spg_trainer.seeding import generator, gpus


def add_lora(
    model: PreTrainedModel,
    *,
    r: int,
    alpha: int,
    dropout: float,
    seed: int,
    base: str,
    targets: Sequence[str] = ("all",),
    experts: bool = False,
) -> PeftModel:
    """Freezes the model and puts new adapters of rank `r` on the linear layers of attention and feed-forward networks.

    In a mixture of experts, only the four linear layers of attention get adapters; with `experts`, each expert gets its
    own, too. The router never gets one. Equal seeds give equal adapters on any device.

    base: the name of the base model in a saved adapter folder. targets: as `lora_layers`. Raises ConfigError for a
    target that is no layer, for `experts` in a model without experts, and for `experts` with dropout.
    """

    check_lora(model.config, targets, experts=experts, dropout=dropout)
    layers = lora_layers(model.config, targets, experts=experts)
    path = getattr(model.config, "lora_path", None)
    settings = LoraConfig(
        r=r,
        lora_alpha=alpha,
        lora_dropout=dropout,
        target_modules=[*layers] if path is None else rf"{path}\.({'|'.join(layers)})",
        target_parameters=[f"mlp{name}" for name in EXPERTS] if experts else None,
    )
    # All layers draw from one stream on the CPU and are copied, so that the adapters are equal on any device.
    stream = generator(seed, "lora")
    with torch.random.fork_rng(gpus(model.device)):
        with _without_deprecation():
            adapted = get_peft_model(model, settings)
    make_real(adapted)
    share_adapters(adapted)
    with torch.no_grad():
        for name, weight in adapted.named_parameters():
            if ".lora_A." in name:
                # The distribution is peft's own. The second factor, lora_B, stays zero, as peft makes it.
                fresh = torch.empty(weight.shape, dtype=torch.float32)
                weight.copy_(nn.init.kaiming_uniform_(fresh, a=5**0.5, generator=stream))
    adapted.peft_config[TRAINED].base_model_name_or_path = base
    multiply_in_16_bits(adapted)
    return adapted


@contextmanager
def _without_deprecation() -> Iterator[None]:
    """Silences peft's warning about a property that transformers has renamed; a user could do nothing about it."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing", category=FutureWarning)
        yield


def load_adapter(model: PreTrainedModel, folder: Path, *, dropout: float, base: str) -> PeftModel:
    """Puts the adapter in `folder` on its base model, trainable, with `dropout`. Raises ModelError if it does not fit.

    base: the base model that the adapter will name wherever it is saved. Adapters with LLaDA's own tensor names (from
    the code of d1 or SPG) are understood too. A target module without weights in the file starts without effect.
    """

    try:
        settings = PeftConfig.from_pretrained(str(folder))
        settings.inference_mode, settings.lora_dropout = False, dropout
        settings.base_model_name_or_path = base
        _refuse_biases_before_base(model, settings, folder)
        with torch.random.fork_rng(gpus(model.device)):
            with _without_deprecation():
                adapted = PeftModel(model, settings)
            make_real(adapted)
            share_adapters(adapted)
            report = adapted.load_adapter(str(folder), TRAINED, is_trainable=True)
        weights = {name for name, _ in adapted.named_parameters() if ".lora_" in name}
        fits_nothing = weights <= set(report.missing_keys)
        # If the vocabulary has grown, peft saves the embeddings a second time under the names of its wrappers.
        unknown = [
            key
            for key in report.unexpected_keys
            if ".modules_to_save." not in key and ".original_module." not in key
        ]
        if unknown:
            raise ValueError(f"its weight {unknown[0]} is for no layer of the base")
        if fits_nothing:
            raise ValueError("it has no weight for the base")
    except (ValueError, RuntimeError, OSError, KeyError, TypeError) as error:
        text = f"the adapter in {folder} does not fit its base model: {first_line(error)}"
        raise ModelError(f"{text}; correct base_model_name_or_path in its adapter_config.json") from error
    multiply_in_16_bits(adapted)
    return adapted


def _refuse_biases_before_base(model: PreTrainedModel, settings: PeftConfig, folder: Path) -> None:
    """Raises ModelError if an adapter's file holds biases of its base, and the base's own weights are not read yet.

    The weights of the base, read later, would overwrite these biases.
    """
    has_biases = getattr(settings, "bias", "none") != "none"
    base_is_unread = any(weight.is_meta for weight in model.parameters())
    if has_biases and base_is_unread:
        # In a message, `$name` is a setting: it is shown as a flag or as a keyword (`errors.py`).
        raise ModelError(
            f"the adapter in {folder} has trained biases of its base (bias={settings.bias}), which neither merge nor "
            "$shard can read; open it with load_model(...), and merge it with peft: policy.model.merge_and_unload()"
        )


def share_adapters(model: PeftModel) -> None:
    """In a model with an encoder, makes it use the adapters of the decoder, with which it shares its weights."""
    base = base_model(model)
    if base.pattern.has_encoder:
        base.share_adapters()


def make_real(model: PeftModel) -> None:
    """Puts zeros on the CPU in place of adapter weights on the device `meta` (`--shard` reads weights later)."""
    for name, weight in list(model.named_parameters()):
        if is_adapter(name) and weight.is_meta:
            owner, _, leaf = name.rpartition(".")
            zeros = torch.zeros_like(weight, device="cpu")
            setattr(model.get_submodule(owner), leaf, nn.Parameter(zeros, weight.requires_grad))


def add_reference(model: PeftModel) -> None:
    """Copies the trained adapter, as it is now, into a second adapter, which stays frozen."""

    settings = copy.deepcopy(model.peft_config[TRAINED])
    settings.inference_mode = True
    with torch.random.fork_rng(gpus(model.device)):  # peft draws the new adapter, which is then overwritten
        model.add_adapter(REFERENCE_ADAPTER, settings)
    make_real(model)
    weights = get_peft_model_state_dict(model, adapter_name=TRAINED, save_embedding_layers=False)
    set_peft_model_state_dict(model, weights, adapter_name=REFERENCE_ADAPTER)
    model.eval()


def merged_layers(
    model: PeftModel, layers: Iterable[dict[str, Tensor]], dtype: torch.dtype
) -> Iterator[tuple[str, Tensor]]:
    """Yields (name, weight in `dtype`): the weights of `layers` with the trained adapter added, in the same order.

    model: its base has no weights yet (it is on the device `meta`). layers: the base's weights (of any shapes), a layer
    at a time, by their names without adapters. Sums are made in float32, with one layer in memory at a time. Weights
    that the adapter holds whole (`modules_to_save`) replace the base's.
    """

    base = model.get_base_model()
    adapted = {name: module for name, module in base.named_modules() if isinstance(module, BaseTunerLayer)}
    owners = {}  # {name of a weight without adapters: (the module that holds it, its name there)}
    for module_name, module in base.named_modules():
        for leaf, _ in module.named_parameters(recurse=False):
            owners[base_name(f"{module_name}.{leaf}")] = module, leaf
    whole = whole_weights(model)
    # Each layer is put into the model, merged by peft with its adapters, and taken out again.
    for layer in layers:
        for name in layer.keys() & owners.keys():  # all but buffers, such as the bias of a router
            owner, leaf = owners[name]
            setattr(owner, leaf, nn.Parameter(layer[name].float(), requires_grad=False))
        for name, module in adapted.items():
            inside = f"{base_name(name)}."
            if any(weight.startswith(inside) for weight in layer):
                module.merge()
        for name, weight in layer.items():
            # The adapter replaces the weights of `whole`; buffers have no owner, since they were not put in.
            if name in whole or name not in owners:
                yield name, whole.get(name, weight).detach().to(dtype)
                continue
            owner, leaf = owners[name]
            yield name, getattr(owner, leaf).detach().to(dtype)
            setattr(owner, leaf, nn.Parameter(torch.empty(0), requires_grad=False))


def merged_weights(model: PreTrainedModel | PeftModel) -> Iterator[tuple[str, Tensor]]:
    """Yields (name, weight) of a model in memory, with the trained adapter added if there is one; it stays as it is.

    The names are those without adapters, in the order of the model's files. Sums are made in float32, a layer at a
    time, and have the type of the weight.
    """

    base = base_model(model)
    whole = whole_weights(model) if isinstance(model, PeftModel) else {}
    adapted = {
        base_name(name): module for name, module in base.named_modules() if isinstance(module, BaseTunerLayer)
    }
    for name, weight in base_weights(base).items():
        owner, _, leaf = name.rpartition(".")
        if owner in adapted and name not in whole:
            layer = copy.deepcopy(adapted[owner]).float()
            layer.merge(adapter_names=[TRAINED])
            yield name, getattr(layer.get_base_layer(), leaf).detach().to(weight.dtype)
        else:
            yield name, whole.get(name, weight).detach().to(weight.dtype)


def whole_weights(model: PeftModel) -> dict[str, Tensor]:
    """{name of a base weight: the whole weight that the trained adapter has in its place (`modules_to_save`)}.

    Raises ModelError if one tensor of the base is both embedding and head, and the adapter changes one of them: by a
    whole weight, by low-rank factors, or by rows of its own.
    """

    base = model.get_base_model()
    whole, changed = {}, set()
    for name, module in base.named_modules():
        if isinstance(module, ModulesToSaveWrapper):
            for leaf, weight in module.modules_to_save[TRAINED].named_parameters():
                whole[f"{base_name(name)}.{leaf}"] = weight
        elif isinstance(module, BaseTunerLayer):
            changed.add(f"{base_name(name)}.weight")
    tied = base.all_tied_weights_keys  # {name of a weight: name of the weight that it is tied to}
    if (
        base.pattern.has_encoder
    ):  # whose layers have the decoder's weights and its adapters (`share_adapters`)
        tied = {name: other for name, other in tied.items() if ".layers." not in other}
    if tied_changes := (whole.keys() | changed) & {*tied, *tied.values()}:
        raise ModelError(
            f"the adapter changes {min(tied_changes)}, which is embedding and head in one (tie_word_embeddings), so "
            "that no file of the base can hold the result; go on with the adapter as it is"
        )
    return whole


class MixedLinear(Linear):
    """peft's layer, except that an adapter in float32 beside weights in 16 bits multiplies in 16 bits.

    The papers' code does so, too, because it trains under autocast. Without autocast peft multiplies in float32, which
    on an H100 took as long as the layer itself, and keeps a second, wider copy of the input for the backward pass.
    """

    is_merged = False
    """Whether the base has the adapter multiplied in (`merged_for_rollouts`), so that the base alone is computed."""

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """x (..., in) to (..., out) in the type of x."""
        if self.is_merged:
            return self.base_layer(x)
        narrow_adapter = self.narrow_factors(x.dtype)
        if narrow_adapter is None or args or kwargs:
            return super().forward(x, *args, **kwargs)
        down, up, scale = narrow_adapter
        adapter_input = self.lora_dropout[self.active_adapters[0]](x)
        base, has_graph = self.base_layer, torch.is_grad_enabled() and not torch.compiler.is_compiling()
        if has_graph and adapter_input is x and type(base) is nn.Linear and not base.weight.requires_grad:
            return AdaptedProduct.apply(x, base.weight, base.bias, down, up, scale)
        return add_product(base(x), torch.mm(adapter_input.flatten(0, -2), down), up, scale)

    def narrow_factors(self, dtype: torch.dtype) -> tuple[Tensor, Tensor, float] | None:
        """The transposed factors (in, r) and (r, out) of the one active adapter, in `dtype`, and its scale.

        None if peft should multiply in its own way: if `factors` returns None, or if `dtype` and the adapter are both
        wide. In a phase (see `working_copy`) the factors have `dtype` already; outside of one, every pass casts them.
        """
        if (adapter := self.factors()) is None:
            return None
        down, up, scale = adapter
        both_are_wide = dtype == down.dtype and dtype.itemsize > 2
        return None if both_are_wide else (down.to(dtype).T, up.to(dtype).T, scale)

    def factors(self) -> tuple[Tensor, Tensor, float] | None:
        """The weights A (r, in) and B (out, r) of the one active adapter, and its scale.

        None if no adapter or several are active, or if the active one is more than two factors.
        """
        active = [name for name in self.active_adapters if name in self.lora_A]
        is_plain = not (self.disable_adapters or self.merged or self.lora_variant or self.is_merged)
        if len(active) != 1 or not is_plain:
            return None
        (name,) = active
        if self.lora_B[name].bias is not None:
            return None
        return self.lora_A[name].weight, self.lora_B[name].weight, self.scaling[name]


class AdaptedProduct(torch.autograd.Function):
    """x @ weight.T + bias + scale * x @ down @ up of a frozen layer (out, in) under an adapter (in, r), (r, out).

    The backward pass is written out, so that its products take the scale and add to each other in their own kernels:
    autograd would multiply twice by the scale and add the input's two gradients, each in a kernel of its own.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, down: Tensor, up: Tensor, scale: float
    ) -> Tensor:
        """x: (..., in); returns (..., out), rounded as `add_product` rounds."""
        low = torch.mm(x.flatten(0, -2), down)
        ctx.scale = scale
        ctx.save_for_backward(x, weight, down, up, low)
        return add_product(linear(x, weight, bias), low, up, scale)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """gradient: (..., out); returns that of each input of `forward`, or None."""
        x, weight, down, up, low = ctx.saved_tensors
        of_x, of_weight, of_bias, of_down, of_up = (None,) * 5
        rows = gradient.flatten(0, -2)

        def scaled(a: Tensor, b: Tensor) -> Tensor:
            """scale * a @ b; with beta=0, what stood in the new tensor is not read."""
            return a.new_empty(len(a), b.shape[1]).addmm_(a, b, beta=0, alpha=ctx.scale)

        of_low = scaled(rows, up.T)
        if ctx.needs_input_grad[0]:
            of_x = torch.addmm(rows @ weight, of_low, down.T).view_as(x)
        if ctx.needs_input_grad[3]:
            of_down = (of_low.T @ x.flatten(0, -2)).T  # laid out as the factor itself
        if ctx.needs_input_grad[4]:
            of_up = scaled(rows.T, low).T
        return of_x, of_weight, of_bias, of_down, of_up, None


@contextmanager
def merged_for_rollouts(model: PeftModel) -> Iterator[None]:
    """Inside, the adapters are multiplied into the weights below them; afterwards these are what they were, to the bit.

    Products and sums are made in float32 at least, from the trained numbers, and rounded once. Weights keep their place
    in memory. Raises ModelError for adapters that are more than two factors, and for a model with an encoder.
    """
    base = base_model(model)
    layers = [module for module in base.modules() if isinstance(module, BaseTunerLayer)]
    if base.pattern.has_encoder or not all(
        isinstance(layer, MixedLinear) and layer.factors() for layer in layers
    ):
        raise ModelError(
            "$merge_for_rollouts is for adapters of two factors on linear layers of a model without an encoder. Leave "
            "it out."
        )
    copy_in_use = working_copy(base)
    trained = {} if copy_in_use is None else copy_in_use.trained  # those that a phase has narrowed
    kept: list[tuple[MixedLinear, Tensor]] = []
    try:
        with torch.no_grad():
            for layer in layers:
                down, up, scale = layer.factors()
                weight = layer.base_layer.weight
                kept.append((layer, weight.clone()))
                wide = torch.promote_types(weight.dtype, torch.float32)
                a, b = (trained.get(factor, factor).to(wide) for factor in (down, up))
                weight.copy_(torch.addmm(weight.to(wide), b, a, alpha=scale))
                layer.is_merged = True
        yield
    finally:
        with torch.no_grad():
            for layer, numbers in kept:
                layer.base_layer.weight.copy_(numbers)
                layer.is_merged = False


def add_product(result: Tensor, low: Tensor, up: Tensor, scale: float) -> Tensor:
    """result (..., out) + scale * low (rows, r) @ up (r, out): one product, rounded once.

    low: the input times the adapter's first factor. up: its second factor.
    """
    return torch.addmm(result.flatten(0, -2), low, up, alpha=scale).view_as(result)


def multiply_in_16_bits(model: PeftModel) -> None:
    """Makes each of peft's linear layers a `MixedLinear`; a phase has a working copy of their adapters.

    Linear layers in 4 bits are of another class, and stay as they are.
    """
    for module in model.modules():
        if type(module) is Linear:
            module.__class__ = MixedLinear
    base = base_model(model)
    if base.dtype.itemsize == 2:
        keep_wider(base, base.dtype, partial(_wider_adapters, base))


def _wider_adapters(base: nn.Module) -> Iterator[nn.Parameter]:
    """The adapters that are kept in a wider type than the layers below them."""
    for module in base.modules():
        if isinstance(module, MixedLinear):
            for weight in (*module.lora_A.parameters(), *module.lora_B.parameters()):
                if weight.dtype.itemsize > module.base_layer.weight.dtype.itemsize:
                    yield weight


PARTS = ("q_proj", "k_proj", "v_proj")


class InputWithProducts:
    """An input x (B, S, in), and its products, (B * S, r) each, with the first factors of the adapters of `PARTS`."""

    def __init__(self, x: Tensor, products: tuple[Tensor, ...]) -> None:
        self.x, self.products = x, products

    def __getattr__(self, name: str) -> Any:  # attention asks for the input's shape and device
        return getattr(self.x, name)


class JointLinear(MixedLinear):
    """The layer of one of `PARTS` under an adapter."""

    part: int
    """The layer's index in `PARTS`."""

    def forward(self, x: Tensor | InputWithProducts, *args: Any, **kwargs: Any) -> Tensor:
        """x (..., in) to (..., out) in the type of x."""
        if not isinstance(x, InputWithProducts):
            return super().forward(x, *args, **kwargs)
        _, up, scale = self.factors()
        return add_product(self.base_layer(x.x), x.products[self.part], up.to(x.dtype).T, scale)

    def first_factor(self) -> Tensor | None:
        """The adapter's first factor (r, in); None without an adapter, or if dropout changes its input."""
        if (adapter := self.factors()) is None:
            return None
        drops = self.training and not isinstance(self.lora_dropout[self.active_adapters[0]], nn.Identity)
        first, _, _ = adapter
        return None if drops else first


class JointAttention:
    """Attention that multiplies its input by the first factors of all adapters of `PARTS` in one product.

    The layers then get an `InputWithProducts` in place of the input.
    """

    def forward(self, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Any:
        """As the layer's own `forward`; hidden_states (B, S, in)."""
        if torch.compiler.is_compiling():
            factors = [getattr(self, name).first_factor() for name in PARTS]
            if all(factor is not None for factor in factors):
                joint = torch.cat([factor.to(hidden_states.dtype) for factor in factors])
                product = torch.mm(hidden_states.flatten(0, -2), joint.T)
                products = product.split([len(factor) for factor in factors], -1)
                hidden_states = InputWithProducts(hidden_states, products)
        return super().forward(hidden_states, *args, **kwargs)


def join_adapters(attention: nn.Module) -> None:
    """Joins the three adapter products of an attention into one, in place, if each of `PARTS` has an adapter."""
    layers = [getattr(attention, name, None) for name in PARTS]
    if all(type(layer) is MixedLinear for layer in layers):
        for part, layer in enumerate(layers):
            layer.__class__, layer.part = JointLinear, part
        mix_in(JointAttention, attention)
