"""One product for the adapters of queries, keys and values: in compiled passes, and where it is the same product."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from transformers import AutoModelForMaskedLM

from spg_trainer.models.forward import base_model
from spg_trainer.models.lora import add_lora, add_reference, join_adapters
from spg_trainer.models.policy import using_reference
from tests.common.family_cases import UNTRAINED, untrained
from tests.common.likelihood_cases import relative
from tests.common.marks import slow_if
from tests.common.model_cases import give_effect, small, some_ids


@pytest.fixture(autouse=True)
def nothing_compiled():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def adapted(model: nn.Module, dtype: torch.dtype = torch.float32, dropout: float = 0.0) -> nn.Module:
    return give_effect(add_lora(model.to(dtype), r=4, alpha=8, dropout=dropout, seed=0, base="some"))


def first_attention(model: nn.Module) -> nn.Module:
    return base_model(model).base_model.layers[0].self_attn


def compile_joined(model: nn.Module) -> list[int]:
    """Compiles the first attention of a model with joint adapters; its graphs' products by first factors go there."""
    attention, products = first_attention(model), []

    def backend(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Callable[..., object]:
        products.append(sum(node.target is torch.mm for node in graph.graph.nodes))
        return graph.forward

    join_adapters(attention)
    attention.compile(backend=backend, fullgraph=True)
    return products


def logits_and_gradient(model: nn.Module) -> tuple[Tensor, Tensor]:
    model.zero_grad()
    found = model(input_ids=some_ids(2, 9)).logits
    found.double().log_softmax(-1)[..., 3].sum().backward()
    attention = first_attention(model)
    return found.detach().double(), torch.cat(
        [weight.grad.double().flatten() for weight in attention.parameters() if weight.requires_grad]
    )


@pytest.mark.parametrize("family", slow_if(["llada", *UNTRAINED], lambda name: name not in ("llada", "sdar")))
def test_a_compiled_attention_of_each_family_makes_one_product_and_computes_the_same(family: str) -> None:
    def opened() -> nn.Module:
        return adapted(
            small(5) if family == "llada" else AutoModelForMaskedLM.from_pretrained(untrained(family))
        )

    model, plain = opened(), opened()
    names = list(model.state_dict())
    products = compile_joined(model)
    for found, expected in zip(logits_and_gradient(model), logits_and_gradient(plain), strict=True):
        assert relative(found, expected) < 1e-5
    assert products == [1] and list(model.state_dict()) == names


def test_in_16_bits_one_product_stands_for_three() -> None:
    model, exact = adapted(small(5), torch.bfloat16), adapted(small(5), torch.bfloat16).double()
    apart = logits_and_gradient(model)
    products = compile_joined(model)
    joint, right = logits_and_gradient(model), logits_and_gradient(exact)
    for one, three, value in zip(joint, apart, right, strict=True):
        assert relative(one, value) < 1.2 * relative(three, value) < 0.03
    assert products == [2]  # the second is that of the output's adapter


def test_a_pass_that_is_not_compiled_keeps_its_bits() -> None:
    model, plain = (adapted(small(5)) for _ in range(2))
    join_adapters(first_attention(model))
    for found, expected in zip(logits_and_gradient(model), logits_and_gradient(plain), strict=True):
        assert torch.equal(found, expected)


@pytest.mark.slow
def test_with_dropout_each_adapter_has_an_input_of_its_own() -> None:
    model = adapted(small(5), dropout=0.5)
    products = compile_joined(model)
    model.train()(input_ids=some_ids(2, 9))
    model.eval()(input_ids=some_ids(2, 9))
    assert products == [0, 1]


def test_the_reference_and_no_adapter_at_all_are_multiplied_as_themselves() -> None:
    model, ids = adapted(small(5)), some_ids(2, 9)
    add_reference(model)
    with torch.no_grad():
        first_attention(model).k_proj.lora_B["default"].weight.zero_()
        plain = [model(input_ids=ids).logits]
        with using_reference(model):
            plain.append(model(input_ids=ids).logits)
        with model.disable_adapter():
            plain.append(model(input_ids=ids).logits)
        products = compile_joined(model)
        found = [model(input_ids=ids).logits]
        with using_reference(model):
            found.append(model(input_ids=ids).logits)
        with model.disable_adapter():
            found.append(model(input_ids=ids).logits)
    for one, expected in zip(found, plain, strict=True):
        assert relative(one, expected) < 1e-5
    assert products == [1, 1, 0] and relative(found[0], found[1]) > 1e-3


def test_attention_of_which_a_part_has_no_adapter_stays_as_it_is() -> None:
    model = adapted(small(5))
    attention = first_attention(model)
    attention.k_proj = attention.k_proj.base_layer
    kind = type(attention)
    join_adapters(attention)
    assert type(attention) is kind
