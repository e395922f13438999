"""Layers that torch compiles: few compilations, and the numbers of layers that it does not compile."""

import pytest
import torch
from torch._dynamo.testing import CompileCounterWithBackend

from spg_trainer.errors import ConfigError
from spg_trainer.models import load
from spg_trainer.models.body import one_kernel, rotated
from spg_trainer.models.forward import base_model, hidden_states
from spg_trainer.models.lora import add_lora
from spg_trainer.rollout.sampler import sample_completions
from spg_trainer.settings import check
from spg_trainer.settings.decoding import Sampling
from tests.common.likelihood_cases import relative
from tests.common.marks import slow_if
from tests.common.model_cases import give_effect
from tests.common.rollout_cases import make_policy, make_prompts, pad

WEIGHTS = ("all", "adapters", "adapters, checkpointing")


@pytest.fixture(autouse=True)
def nothing_compiled():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def adapted_or_whole(weights: str) -> torch.nn.Module:
    """A model of five layers that trains all weights, or adapters, with or without gradient checkpointing."""
    model = make_policy(torch.float32, layers=5).model
    if weights == "all":
        return model
    model = give_effect(add_lora(model, r=4, alpha=8, dropout=0.0, seed=0, base="some")).train()
    if weights == "adapters, checkpointing":
        model.activation_checkpointing_enable()
    return model


def gradients(model: torch.nn.Module, ids, mask) -> torch.Tensor:
    states = hidden_states(model, ids, mask)
    # Not the sum of squares, which the last norm fixes.
    (states * torch.randn(states.shape, generator=torch.Generator().manual_seed(1))).sum().backward()
    found = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
    model.zero_grad(set_to_none=True)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("backend", ["eager", "aot_eager", "inductor"])
def test_compiled_layers_have_the_gradient_of_others(backend: str, weights: str) -> None:
    model, plain = adapted_or_whole(weights), adapted_or_whole(weights)
    noted = torch._dynamo.utils.counters
    noted.clear()
    load.compile_layers(model, backend)
    # Not as many rows as heads at first: torch would take the two for one number.
    for rows, columns in ((3, 20), (5, 31), (4, 26)):
        ids = torch.randint(0, 200, (rows, columns), generator=torch.Generator().manual_seed(rows))
        padded = torch.arange(columns).expand(rows, -1) >= 3
        for mask in (padded, None):
            found, expected = (gradients(each, ids, mask) for each in (model, plain))
            assert relative(found, expected) < 1e-5
            with torch.no_grad():
                states, others = (hidden_states(each, ids, mask) for each in (model, plain))
            assert relative(states, others) < 1e-5
    assert noted["frames"]["ok"] == noted["frames"]["total"] == 4 and not noted["graph_break"]


@pytest.mark.parametrize(
    "cache", slow_if(["none", "prefix", "dual", "window"], lambda cache: cache in ("prefix", "window"))
)
def test_a_rollout_with_a_cache_compiles_nothing_and_without_one_no_more_than_an_update(cache: str) -> None:
    """An update compiles twice with autograd, so that a whole run compiles at most four times."""
    policy, counter = make_policy(torch.float32, layers=4), CompileCounterWithBackend("eager")
    prompts = pad(policy, make_prompts(policy, (6, 9)))
    sampling = Sampling(max_completion_length=8, block_length=4, diffusion_steps=4, cache=cache)
    plain = sample_completions(policy, *prompts, sampling, None)
    load.compile_layers(policy.model, counter)
    found = sample_completions(policy, *prompts, sampling, None)
    assert torch.equal(found.completion_ids, plain.completion_ids)
    assert counter.frame_count <= (2 if cache == "none" else 0)


def test_layers_of_one_kind_have_one_class() -> None:
    layers = base_model(make_policy(torch.float32, layers=4).model).base_model.layers
    assert len({type(layer.self_attn) for layer in layers}) == 1


def test_a_missing_compiler_is_named(monkeypatch) -> None:
    monkeypatch.setattr(check, "missing_compiler", lambda device: "a C++ compiler on a CPU")
    with pytest.raises(ConfigError, match=r"--compile needs a C\+\+ compiler on a CPU, and there is none"):
        load.compile_layers(make_policy(torch.float32).model)


@pytest.mark.slow  # half a minute: the compiler starts
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_the_compiled_rotation_rounds_as_the_plain_one(dtype):
    def states_and_gradient(rotation):
        stream = torch.Generator().manual_seed(0)
        x = torch.randn(3, 7, 2, 16, generator=stream).to(dtype).transpose(1, 2).requires_grad_()
        angles = torch.randn(3, 7, 16, generator=stream)
        found = rotation(x, angles.cos(), angles.sin())
        (found.float() * torch.randn(found.shape, generator=stream)).sum().backward()
        return found.detach(), x.grad

    for found, expected in zip(states_and_gradient(one_kernel()), states_and_gradient(rotated), strict=True):
        assert torch.equal(found, expected)


def test_the_compiler_takes_the_rotation_whole():
    found = []

    def backend(graph, inputs):
        found.append(graph)
        return graph.forward

    x, angles = torch.ones(2, 2, 3, 4), torch.ones(2, 3, 4)
    torch.compile(rotated, fullgraph=True, backend=backend)(x, angles, angles)
    assert len(found) == 1
