"""Adapters in float32 beside layers in 16 bits: their products, their gradients and their casts."""

import copy
import json
from collections.abc import Callable

import pytest
import torch
from peft.tuners.lora.layer import Linear
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from spg_trainer.architecture.layers import lora_layers
from spg_trainer.errors import ConfigError, ModelError
from spg_trainer.models import llada_config
from spg_trainer.models.families import BY_ARCHITECTURE
from spg_trainer.models.lora import AdaptedProduct, MixedLinear, add_lora, merged_for_rollouts
from spg_trainer.models.shard import computing_with_copy, reduce_gradients, unsharded
from tests.common.model_cases import give_effect, small, some_ids


def adapted(dtype: torch.dtype, dropout: float = 0.0, by_peft: bool = False) -> nn.Module:
    """A small model in a type, under adapters that do something."""
    model = give_effect(add_lora(small(5).to(dtype), r=4, alpha=8, dropout=dropout, seed=0, base="some"))
    for module in model.modules():
        if by_peft and type(module) is MixedLinear:
            module.__class__ = Linear
    return model


def logits_and_gradient(model: nn.Module) -> tuple[Tensor, Tensor]:
    found = model(input_ids=some_ids(2, 9)).logits
    found.double().log_softmax(-1)[..., 3].sum().backward()
    gradient = [weight.grad.double().flatten() for weight in model.parameters() if weight.requires_grad]
    return found.detach().double(), torch.cat(gradient)


def error(found: Tensor, exact: Tensor) -> float:
    return float((found - exact).norm() / exact.norm())


def test_in_one_type_all_is_as_peft_has_it_to_the_bit() -> None:
    ours, theirs = (logits_and_gradient(adapted(torch.float32, by_peft=plain)) for plain in (False, True))
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_in_16_bits_values_and_gradients_are_as_exact_as_under_autocast() -> None:
    model = adapted(torch.bfloat16)
    assert {weight.dtype for weight in model.parameters() if weight.requires_grad} == {torch.float32}
    exact = logits_and_gradient(adapted(torch.bfloat16).double())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        theirs = logits_and_gradient(adapted(torch.bfloat16, by_peft=True))
    ours = logits_and_gradient(model)
    for found, cast, right in zip(ours, theirs, exact, strict=True):
        assert error(found, right) < 1.2 * error(cast, right) < 0.03


def products(model: nn.Module) -> list[tuple[torch.dtype, ...]]:
    """The types that the products of a pass multiply, without a graph."""
    seen: list[tuple[torch.dtype, ...]] = []

    class Spy(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, function: Callable, types: object, args: tuple = (), kwargs=None):
            if function in (torch.mm, torch.addmm, torch.nn.functional.linear):
                seen.append(tuple(x.dtype for x in args if isinstance(x, Tensor)))
            return function(*args, **kwargs or {})

    with torch.no_grad(), Spy():
        model(input_ids=some_ids(2, 9))
    return seen


def test_no_product_is_in_float32() -> None:
    assert {kind for kinds in products(adapted(torch.bfloat16)) for kind in kinds} == {torch.bfloat16}
    assert torch.float32 in {k for kinds in products(adapted(torch.bfloat16, by_peft=True)) for k in kinds}


def test_a_working_copy_is_multiplied_in_the_same_products_as_a_cast() -> None:
    model = adapted(torch.bfloat16)
    by_cast = products(model)
    with computing_with_copy(model):
        assert products(model) == by_cast


def test_a_working_copy_of_adapters_changes_nothing_and_ends_with_the_rollout() -> None:
    model, ids = adapted(torch.bfloat16).eval(), some_ids(2, 9)

    def logits() -> Tensor:
        with torch.no_grad():
            return model(input_ids=ids).logits

    before = logits()
    with computing_with_copy(model):
        assert {weight.dtype for weight in model.parameters()} == {torch.bfloat16}
        assert torch.equal(logits(), before)
    assert {weight.dtype for weight in model.parameters() if weight.requires_grad} == {torch.float32}
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if ".lora_B." in name:
                weight.mul_(2)
    after = logits()
    assert not torch.equal(after, before)
    with model.disable_adapter():
        plain = logits()
        with computing_with_copy(model):
            assert torch.equal(logits(), plain)
    assert torch.equal(logits(), after)


def test_gradients_with_a_working_copy_are_those_of_casts_at_every_pass_to_the_bit() -> None:
    by_cast, by_copy = adapted(torch.bfloat16), copy.deepcopy(adapted(torch.bfloat16))
    for _ in range(3):
        logits_and_gradient(by_cast)
    with unsharded(by_copy), unsharded(by_copy):  # the inner phase ends nothing
        for _ in range(3):
            assert by_copy.get_base_model().working_copy.trained
            found = by_copy(input_ids=some_ids(2, 9)).logits
            found.double().log_softmax(-1)[..., 3].sum().backward()
        reduce_gradients(by_copy)
    pairs = list(zip(by_cast.parameters(), by_copy.parameters(), strict=True))
    trained = [(a, b) for a, b in pairs if a.requires_grad]
    assert trained and all(b.grad.dtype == torch.float32 and torch.equal(a.grad, b.grad) for a, b in trained)
    assert all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("has_bias", [False, True])
@pytest.mark.parametrize("scale", [0.5, 1.7])
def test_the_written_backward_pass_is_that_of_autograd(has_bias: bool, scale: float) -> None:
    stream = torch.Generator().manual_seed(0)
    shapes = ((2, 3, 5), (7, 5), (7,), (4, 5), (7, 4), (2, 3, 7))
    x, weight, bias, a, b, coefficients = (
        torch.randn(shape, generator=stream, dtype=torch.float64) for shape in shapes
    )
    trained = [tensor.requires_grad_() for tensor in (x, a, b)]
    plain = x @ weight.T + (bias if has_bias else 0.0) + scale * (x @ a.T @ b.T)
    expected = torch.autograd.grad((plain * coefficients).sum(), trained)
    found = AdaptedProduct.apply(x, weight, bias if has_bias else None, a.T, b.T, scale)
    assert torch.allclose(found, plain, rtol=0, atol=1e-12)
    gradients = torch.autograd.grad((found * coefficients).sum(), trained)
    for gradient, exact in zip(gradients, expected, strict=True):
        assert torch.allclose(gradient, exact, rtol=0, atol=1e-12) and gradient.is_contiguous()


def test_products_of_adapters_take_scale_and_sum_in_their_own_kernels() -> None:
    model = adapted(torch.bfloat16)
    layer = next(module for module in model.modules() if type(module) is MixedLinear)
    names: list[str] = []

    class Noted(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            names.append(function._schema.name.split("::")[1])
            return function(*args, **(kwargs or {}))

    x = torch.ones(3, layer.in_features, dtype=torch.bfloat16, requires_grad=True)
    with Noted():
        layer(x).sum().backward()
    assert {"mul", "add"}.isdisjoint(names) and names.count("addmm") == 2 and names.count("mm") == 4


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_merged_adapters_say_the_same_and_the_base_is_restored_to_the_bit(dtype: torch.dtype) -> None:
    model, ids = adapted(dtype).eval(), some_ids(2, 9)
    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    places = {name: weight.data_ptr() for name, weight in model.named_parameters()}
    with torch.no_grad(), unsharded(model):
        apart = model(input_ids=ids).logits
        with pytest.raises(ZeroDivisionError), merged_for_rollouts(model):
            merged = model(input_ids=ids).logits
            layers = [module for module in model.modules() if isinstance(module, MixedLinear)]
            assert layers and all(layer.is_merged and layer.factors() is None for layer in layers)
            raise ZeroDivisionError
        assert torch.equal(model(input_ids=ids).logits, apart)
    assert not torch.equal(merged, apart), "they round differently"
    assert error(merged.double(), apart.double()) < (1e-12 if dtype == torch.float64 else 0.05)
    assert all(torch.equal(weight, before[name]) for name, weight in model.named_parameters())
    assert places == {name: weight.data_ptr() for name, weight in model.named_parameters()}


def test_the_numbers_that_are_merged_are_the_trained_ones() -> None:
    """Not those of 16 bits in which a phase multiplies."""
    model = adapted(torch.bfloat16)
    layer = next(module for module in model.modules() if type(module) is MixedLinear)
    down, up, scale = layer.factors()
    exact = layer.base_layer.weight.float() + scale * up.detach() @ down.detach()
    with unsharded(model), merged_for_rollouts(model):
        assert torch.equal(layer.base_layer.weight, exact.bfloat16())


def test_a_layer_without_two_active_factors_is_not_merged() -> None:
    model = adapted(torch.float32)
    layer = next(module for module in model.modules() if type(module) is MixedLinear)
    layer._disable_adapters = True
    with pytest.raises(ModelError, match=r"-merge-for-rollouts is for adapters of two factors"):
        with merged_for_rollouts(model):
            pass
    assert not any(getattr(module, "is_merged", False) for module in model.modules())


def test_dropout_of_adapters_falls_in_training_alone() -> None:
    model, ids = adapted(torch.bfloat16, dropout=0.5), some_ids(2, 9)
    with torch.no_grad():
        still = model.eval()(input_ids=ids).logits
        assert torch.equal(model(input_ids=ids).logits, still)
        assert not torch.equal(model.train()(input_ids=ids).logits, still)


@pytest.mark.gpu
def test_attention_on_a_gpu_makes_no_plan_for_each_shape() -> None:
    """cuDNN's does, in 0.1 seconds on an H100, and few passes of a rollout or an update have equal shapes."""
    model, seen = small(5).to("cuda", torch.bfloat16), []
    plain = torch.nn.functional.scaled_dot_product_attention

    def spy(*args, **kwargs):
        seen.append(torch.backends.cuda.cudnn_sdp_enabled())
        return plain(*args, **kwargs)

    with pytest.MonkeyPatch.context() as patch, torch.no_grad():
        patch.setattr(torch.nn.functional, "scaled_dot_product_attention", spy)
        model(some_ids(2, 9).cuda())
    assert seen and not any(seen)


def test_peft_warns_of_nothing_that_a_user_could_change(recwarn) -> None:
    add_lora(small(), r=2, alpha=4, dropout=0.0, seed=0, base="base")
    assert not [str(warning.message) for warning in recwarn if "checkpointing" in str(warning.message)]


def adapted_names(config, targets, experts=False) -> str:
    """The layers that get adapters, as one text of their first letters: "q k v up"."""
    layers = lora_layers(config, tuple(targets.split()), experts=experts)
    return " ".join(name.removesuffix("_proj") for name in layers)


def test_layers_are_named_as_in_transformers_or_in_the_published_model() -> None:
    llada, llada2 = llada_config(), BY_ARCHITECTURE["LLaDA2MoeModelLM"]()
    dream = BY_ARCHITECTURE["DreamModel"]()
    assert adapted_names(llada, "all") == adapted_names(dream, "all") == "q k v o gate up down"
    assert adapted_names(llada, "attn_out ff_proj ff_out") == "o gate down"
    assert adapted_names(llada, "o_proj v_proj") == "v o"
    assert adapted_names(llada2, "all") == "q k v o"
    assert adapted_names(llada2, "query_key_value") == "q k v" and adapted_names(llada2, "dense") == "o"
    assert adapted_names(llada2, "gate_proj", experts=True) == "gate"
    for config, name, known in (
        (llada, "ff_norm", "attn_out ff_proj ff_out"),
        (llada, "lm_head", "up_proj"),
        (dream, "attn_out", "down_proj."),
        (llada2, "gate_proj", "q_proj"),
    ):
        with pytest.raises(ConfigError, match=f"{name}' is no linear layer of this model.*{known}"):
            adapted_names(config, name)


def test_only_the_chosen_layers_are_trained_and_saved(tmp_path) -> None:
    model = add_lora(small(), r=2, alpha=2, dropout=0.0, seed=0, base="b", targets=("q_proj", "attn_out"))
    trained = [name for name, weight in model.named_parameters() if weight.requires_grad]
    assert {name.split(".")[-4] for name in trained} == {"q_proj", "o_proj"}
    model.save_pretrained(tmp_path)
    assert set(json.loads((tmp_path / "adapter_config.json").read_text())["target_modules"]) == {
        "q_proj",
        "o_proj",
    }
