"""The chunked output layer against a plain softmax over the whole vocabulary, and logps of a real model."""

import weakref

import pytest
import torch

from spg_trainer.architecture import head
from spg_trainer.architecture.head import head_logits
from spg_trainer.likelihood import logps as module
from spg_trainer.likelihood import token_logps
from spg_trainer.likelihood.logps import (
    HeadLogps,
    Measured,
    chunks_to_keep,
    head_gradient,
    head_logps,
    head_logps_and_gradient,
    path_logps,
    softmax,
)
from spg_trainer.models.forward import base_model
from spg_trainer.models.load import open_policy
from spg_trainer.rollout.draw import sample_tokens
from spg_trainer.rollout.sampler import sample_completions
from spg_trainer.settings.decoding import Sampling
from spg_trainer.settings.model import ModelConfig
from tests.common.likelihood_cases import (
    make_masking,
    make_rollouts,
    naive_logps,
    policy_of,
    seeded,
    tiny_model,
)

MASK = 257


def case(n=11, size=5, vocabulary=13, dtype=torch.float64, scale=3.0):
    generator = torch.Generator().manual_seed(0)
    states = torch.randn(n, size, generator=generator, dtype=torch.float64) * scale
    weight = torch.randn(vocabulary, size, generator=generator, dtype=torch.float64)
    targets = torch.randint(vocabulary, (n,), generator=generator)
    return states.to(dtype), weight.to(dtype), targets


def plain(states, weight, targets):
    return (states @ weight.T).log_softmax(-1).gather(-1, targets[:, None]).squeeze(-1)


@pytest.mark.parametrize("size", [1, 4, 11, 100])
def test_logps_and_both_gradients_are_those_of_a_plain_softmax(size):
    states, weight, targets = case()
    coefficients = torch.linspace(-2, 3, len(targets), dtype=torch.float64)
    s, w = states.clone().requires_grad_(), weight.clone().requires_grad_()
    expected = plain(s, w, targets)
    (coefficients * expected).sum().backward()
    logps = head_logps(states, weight, targets, size)
    assert torch.allclose(logps, expected, atol=1e-13)
    total = torch.full_like(weight, 0.5)
    found = head_gradient(states, weight, targets, coefficients, size, total)
    assert torch.allclose(found, s.grad, atol=1e-13)
    assert torch.allclose(total, w.grad + 0.5, atol=1e-13), "added to what was there"
    assert torch.equal(head_gradient(states, weight, targets, coefficients, size), found)
    again, unit = head_logps_and_gradient(states, weight, targets, size)
    assert torch.equal(again, logps)
    assert torch.allclose(coefficients[:, None] * unit, found, atol=1e-13)


@pytest.mark.parametrize(
    "dtype, result", [("bfloat16", "float32"), ("float32", "float32"), ("float64", "float64")]
)
def test_probabilities_are_float32_or_better_whatever_the_model(dtype, result):
    states, weight, targets = case(n=40, vocabulary=300, dtype=getattr(torch, dtype))
    logps = head_logps(states, weight, targets, 7)
    assert logps.dtype == getattr(torch, result)
    logits = (states @ weight.T).double()  # the product is the model's own; everything after it is exact
    expected = logits.log_softmax(-1).gather(-1, targets[:, None]).squeeze(-1)
    assert torch.allclose(logps.double(), expected, atol=1e-5)


def of_width(size=1024, vocabulary=700, dtype=torch.bfloat16):
    states, weight, targets = case(32, size, vocabulary, torch.float32, scale=1.0)
    return states.to(dtype), (weight * 3 / size**0.5).to(dtype), targets


@pytest.mark.parametrize("at_once", [1000, 2**24], ids=["in parts", "at once"])
def test_float32_logits_of_a_bfloat16_head_are_thousands_of_times_as_exact(at_once, monkeypatch):
    monkeypatch.setattr(head, "WEIGHTS_AT_ONCE", at_once)
    states, weight, targets = of_width()
    exact = plain(states.double(), weight.double(), targets)

    def error(in_float32):
        logps = HeadLogps.apply(states, weight, targets, 1, None, None, None, in_float32)
        drawn = sample_tokens(states, weight, 0, 0.0, None, [len(states)], in_float32=in_float32)
        tokens, logps_of_drawn, _ = drawn
        of_drawn = plain(states.double(), weight.double(), tokens)
        return [float((a - b).abs().max()) for a, b in ((logps, exact), (logps_of_drawn, of_drawn))]

    for rounded, in_float32 in zip(error(False), error(True), strict=True):
        assert rounded > 2e-3 and in_float32 < min(1e-5, rounded / 1000)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_logits_are_the_models_own_unless_asked_and_the_same_in_float32_and_float64(dtype):
    states, weight, _ = of_width(dtype=dtype)
    own = (states @ weight.T).to(torch.promote_types(dtype, torch.float32))
    assert torch.equal(head_logits(states, weight), own)
    assert torch.equal(head_logits(states, weight, in_float32=True), own) == (dtype != torch.bfloat16)


@pytest.mark.parametrize("is_trained", [False, True], ids=["frozen head", "trained head"])
@pytest.mark.parametrize("kind", ["logps", "measure"])
def test_gradients_of_float32_logits_are_those_of_a_plain_softmax(kind, is_trained):
    def gradients(dtype):
        states, weight, targets = (x.to(dtype) if x.is_floating_point() else x for x in of_width(64, 50))
        trained = [states.requires_grad_(), *([weight.requires_grad_()] if is_trained else [])]
        if dtype == torch.float64:
            logps = (states @ weight.T).log_softmax(-1)
            values = plain(states, weight, targets) if kind == "logps" else -(logps.exp() * logps).sum(-1)
        elif kind == "logps":
            values = HeadLogps.apply(states, weight, targets, 1, None, None, None, True)
        else:
            values = Measured.apply(states, weight, targets, "entropy", 7, None, True)
        return torch.autograd.grad((values * torch.linspace(-2, 3, len(targets))).sum(), trained)

    for found, exact in zip(gradients(torch.bfloat16), gradients(torch.float64), strict=True):
        assert (found.double() - exact).norm() < 0.01 * exact.norm()


@pytest.mark.parametrize("asks", [False, True])
def test_rollout_and_update_agree_in_how_they_make_logits(asks):
    """The log-probabilities that the sampler records in bfloat16 are those of an update to float32's rounding."""
    settings = ModelConfig(dtype="bfloat16", lora_r=2, lora_alpha=1, lora_dropout=0.0, float32_logits=asks)
    policy = open_policy(settings, env="sudoku", seed=0)
    base = base_model(policy.model)
    assert base.float32_logits is asks and base.dtype == torch.bfloat16
    prompts = make_rollouts([5, 5], 8, [4, 4])
    sampling = Sampling(max_completion_length=8, block_length=8, diffusion_steps=8, temperature=1.0)
    generators = [torch.Generator().manual_seed(row) for row in range(2)]
    out = sample_completions(policy, prompts.prompt_ids, prompts.prompt_mask, sampling, generators)
    own, found = out.unmask_logps[out.completion_mask], path_logps(policy, out)[out.completion_mask]
    assert torch.allclose(found, own, atol=1e-5)
    base.float32_logits = not asks
    assert not torch.allclose(path_logps(policy, out)[out.completion_mask], own, atol=1e-4)


def test_the_weight_gradient_of_a_bfloat16_head_is_summed_in_float32():
    states, weight, targets = case(n=64, dtype=torch.bfloat16, scale=1.0)
    total = torch.zeros_like(weight, dtype=torch.float32)
    head_gradient(states, weight, targets, torch.ones(len(targets)), 1, total)
    exact = weight.double().requires_grad_()
    plain(states.double(), exact, targets).sum().backward()
    assert (total.double() - exact.grad).norm() / exact.grad.norm() < 0.01


@pytest.mark.parametrize("n", [0, 5, 16, 17])
def test_the_weight_gradient_of_one_chunk_is_rounded_once_as_that_of_several(n, monkeypatch):
    monkeypatch.setattr(module, "rows_per_chunk", lambda vocabulary: 16)
    states, weight, targets = case(n=n, dtype=torch.bfloat16, scale=1.0)
    coefficients = torch.linspace(-2, 3, n)
    w = weight.clone().requires_grad_()
    HeadLogps.apply(states, w, targets, 1).backward(coefficients)
    total = torch.zeros_like(weight, dtype=torch.float32)
    head_gradient(states, weight, targets, coefficients, 16, total)
    assert torch.equal(w.grad, total.bfloat16()) and w.grad.any() == (n > 0)


def test_logits_far_apart_stay_finite():
    states, weight, targets = case(dtype=torch.float32, scale=1e3)
    logps = head_logps(states, weight, targets, 4)
    gradient = head_gradient(states, weight, targets, torch.ones(len(targets)), 4)
    assert logps.isfinite().all() and gradient.isfinite().all() and logps.min() < -200


@pytest.mark.parametrize(
    "dtype, result, tolerance",
    [("float64", "float64", 1e-12), ("float32", "float32", 1e-5), ("bfloat16", "float32", 0.5)],
)
def test_logps_are_those_of_the_whole_softmax_at_scored_positions_only(dtype, result, tolerance):
    rollouts = make_rollouts([9, 4, 1, 7], 9, [4, 2, 3, 1])
    masks, model = make_masking("random", 3, 0.2).draw(rollouts, seeded()), tiny_model(getattr(torch, dtype))
    found = token_logps(policy_of(model, MASK), rollouts, masks, 5)
    assert found.dtype == getattr(torch, result) and found.shape == masks.scored.shape
    assert not found.requires_grad
    assert torch.allclose(found, naive_logps(model, rollouts, masks, MASK).detach().to(found), atol=tolerance)
    assert (found[~masks.scored] == 0).all() and (found[masks.scored] < 0).all()


@pytest.mark.parametrize("keep, again", [(1, [4, 4]), (2, [4]), (3, []), (9, [])])
def test_the_last_chunks_are_kept_for_the_backward_pass_and_never_more_are_alive(monkeypatch, keep, again):
    """A head that learns is scored once more but for the chunks that are kept, in the memory of these."""
    alive, most, made = set(), [], []

    def watched(*arguments):
        chunk = softmax(*arguments)
        powers, total, *_ = chunk
        made.append(len(total))
        alive.add(id(powers))
        weakref.finalize(powers, alive.discard, id(powers))
        most.append(len(alive))
        return chunk

    monkeypatch.setattr(module, "softmax", watched)
    monkeypatch.setattr(module, "rows_per_chunk", lambda vocabulary: 4)
    states, weight, targets = case(n=11)
    s, w = states.clone().requires_grad_(), weight.clone().requires_grad_()
    coefficients = torch.linspace(-2, 3, len(targets), dtype=torch.float64)
    found = HeadLogps.apply(s, w, targets, keep)
    found.backward(coefficients, retain_graph=True)
    assert made == [4, 4, 3, *again], "all chunks, then those before the kept ones once more"
    assert max(most) == min(keep, 3)
    expected = states.clone().requires_grad_(), weight.clone().requires_grad_()
    (coefficients * plain(*expected, targets)).sum().backward()
    for ours, theirs in zip((s, w), expected, strict=True):
        assert torch.allclose(ours.grad, theirs.grad, atol=1e-13)
    found.backward(coefficients)
    assert torch.allclose(s.grad, 2 * expected[0].grad, atol=1e-13), (
        "a second pass computes the last one anew"
    )


def test_kept_chunks_take_a_fifth_of_the_memory_of_a_trained_weight_or_one_chunk():
    """LLaDA's weight has 126,464 rows of 4,096 numbers, and a chunk 265 rows of logits."""
    numbers = 126_464 * 4096
    assert [chunks_to_keep(size * numbers, 126_464) for size in (4, 2)] == [3, 1]
    assert chunks_to_keep(4 * 126_464 * 512, 126_464) == 1
    assert chunks_to_keep(8 * numbers, 126_464, 8) == 3


def test_what_is_scored_without_a_graph_keeps_one_chunk(monkeypatch):
    rollouts, model, kept = make_rollouts([9, 4], 9, [4, 2]), tiny_model(torch.float32), []
    masks, scored = make_masking("random", 3, 0.2).draw(rollouts, seeded()), module.head_logps_and_last_chunks
    monkeypatch.setattr(module, "chunks_to_keep", lambda *sizes: 3)
    monkeypatch.setattr(
        module,
        "head_logps_and_last_chunks",
        lambda states, weight, targets, size, keep, *more: (
            kept.append(keep) or scored(states, weight, targets, size, keep, *more)
        ),
    )
    token_logps(policy_of(model, MASK), rollouts, masks, 5)
    (copies,) = module.divide_into_passes(policy_of(model, MASK), rollouts, masks, 5)
    module.score(policy_of(model, MASK), rollouts, masks, copies).sum().backward()
    assert kept == [1, 3]
