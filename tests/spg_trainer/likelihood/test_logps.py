"""The chunked output layer against a plain softmax over the whole vocabulary, and logps of a real model."""

import weakref

import pytest
import torch

from spg_trainer.likelihood import logps as module
from spg_trainer.likelihood import token_logps
from spg_trainer.likelihood.logps import (
    HeadLogps,
    chunks_to_keep,
    head_gradient,
    head_logps,
    head_logps_and_gradient,
    softmax,
)
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


def test_the_weight_gradient_of_a_bfloat16_head_is_summed_in_float32():
    states, weight, targets = case(n=64, dtype=torch.bfloat16, scale=1.0)
    total = torch.zeros_like(weight, dtype=torch.float32)
    head_gradient(states, weight, targets, torch.ones(len(targets)), 1, total)
    exact = weight.double().requires_grad_()
    plain(states.double(), exact, targets).sum().backward()
    assert (total.double() - exact.grad).norm() / exact.grad.norm() < 0.01


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
