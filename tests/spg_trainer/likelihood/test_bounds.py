"""ELBO and EUBO against enumeration and closed forms; by hand and with their gradients: test_algorithms_spg."""

import itertools
import math

import pytest
import torch

from spg_trainer.likelihood import Masks, elbo, eubo
from spg_trainer.likelihood.random_masks import ActiveBlockMasking
from tests.common.likelihood_cases import (
    Branching,
    ToyModel,
    every_draw,
    make_masking,
    make_rollouts,
    seeded,
    seeded_stream,
    streams_from,
)

WIDTH = 4


def subsets(tokens):
    return [s for k in range(1, len(tokens) + 1) for s in itertools.combinations(tokens, k)]


def exact_eubo(model, tokens, later, beta):
    """(1/beta) sum_i log E[w p^beta] over subsets of `tokens`, k uniform on 1..n; w = n/k where masked."""
    n, result = len(tokens), 0.0
    for i in tokens:
        mean = sum(
            n / len(s) / (n * math.comb(n, len(s))) * math.exp(beta * model(i, [*s, *later]))
            for s in subsets(tokens)
            if i in s
        )
        result += math.log(mean) / beta
    return result


def all_draws_as_masks(masking, rollouts, shared=(), **settings):
    """Masks whose M samples are all equally likely draws of a masking, once each."""

    def draw(num_masks, stream_of):
        def stream(row, mask):
            return Branching(shared) if mask == "row" else stream_of(mask)

        return make_masking(masking, num_masks, **settings).draw(rollouts, streams_from(stream))

    draws = every_draw(lambda stream: draw(1, lambda mask: stream))
    paths, odds = zip(*[(path, p) for p, _, path in draws], strict=True)
    assert max(odds) == pytest.approx(min(odds))
    return draw(len(paths), lambda mask: Branching(paths[mask]))


@pytest.mark.parametrize("beta", [pytest.param(1.0, marks=pytest.mark.slow), 2.5])
@pytest.mark.parametrize(
    "masking, settings, blocks",
    [("random", {}, [range(5)]), ("block_active", {"block_length": 3}, [range(3), range(3, 5)])],
)
def test_the_eubo_at_large_m_is_the_enumerated_one(beta, masking, settings, blocks):
    """Of active blocks, the mean over the shared block is the sum over blocks; here two of unequal size."""
    model, size = ToyModel(5), 6
    rollouts, found, expected = make_rollouts([5], size), 0.0, 0.0
    for number, block in enumerate(blocks):
        masks = all_draws_as_masks(masking, rollouts, shared=[number], **settings)
        found += float(eubo(model.logps(masks, WIDTH), masks, beta)) / len(blocks)
        expected += exact_eubo(model, block, range(block.stop, size), beta)
    assert found == pytest.approx(expected, abs=1e-12)


def gradients(logps, masks, beta):
    leaf = logps.clone().requires_grad_()
    lower = torch.autograd.grad(elbo(leaf, masks).sum(), leaf)[0]
    upper = torch.autograd.grad(eubo(leaf, masks, beta).sum(), leaf)[0]
    return lower, upper


@pytest.mark.parametrize("num_masks", [1, 3])
@pytest.mark.parametrize("masking", ["random", "block"])
def test_gradient_mass_of_both_bounds_is_the_length(masking, num_masks):
    lengths = [9, 4, 1]
    settings = {} if masking == "random" else {"block_length": 4}
    masks = make_masking(masking, num_masks, 0.2, **settings).draw(make_rollouts(lengths, 9), seeded(1))
    logps = torch.randn(masks.scored.shape, dtype=torch.float64) * masks.scored - 2.0 * masks.scored
    for gradient in gradients(logps, masks, 1.5):
        assert gradient.sum((1, 2)).tolist() == pytest.approx(lengths, abs=1e-12)


@pytest.mark.parametrize("num_masks", [1, 3])
def test_gradient_mass_of_active_blocks_has_the_length_as_its_mean(num_masks):
    n, rollouts = 8, make_rollouts([8], 9)
    mass = torch.zeros(2, dtype=torch.float64)
    for block in range(3):

        def stream(row, mask, block=block):
            return Branching([block]) if mask == "row" else seeded_stream(2, row, mask)

        masks = ActiveBlockMasking(num_masks, block_length=3).draw(rollouts, streams_from(stream))
        logps = -torch.rand(masks.scored.shape, dtype=torch.float64) * masks.scored
        mass += torch.stack([g.sum() for g in gradients(logps, masks, 2.0)]) / 3
    assert mass.tolist() == pytest.approx([n, n], abs=1e-12)


def test_with_one_mask_the_two_bounds_have_one_gradient_whatever_beta():
    masks = make_masking("random", 1).draw(make_rollouts([7, 5], 7), seeded())
    logps = -torch.rand(masks.scored.shape, dtype=torch.float64) * 5 * masks.scored
    for beta in (0.5, 1.0, 1.5, 3.0):
        lower, upper = gradients(logps, masks, beta)
        assert torch.allclose(lower, upper, atol=1e-13)
    assert lower.abs().sum() > 0


def test_where_every_mask_scores_a_token_beta_to_zero_gives_the_elbo():
    """The power mean becomes the geometric one; weights that average to 1 leave no constant."""
    scored = torch.ones(1, 3, 2, dtype=torch.bool)
    weight = torch.tensor([[[0.5, 1.0], [1.0, 1.5], [1.5, 0.5]]], dtype=torch.float64)
    masks = Masks(scored, scored, weight, torch.ones(1), torch.ones(1, 2, dtype=torch.bool))
    logps = torch.tensor([[[-1.0, -3.0], [-0.2, -0.5], [-2.0, -4.0]]], dtype=torch.float64)
    lower = float(elbo(logps, masks))
    values = [float(eubo(logps, masks, beta)) for beta in (1e-6, 0.5, 1.0, 2.0)]
    assert values[0] == pytest.approx(lower, abs=1e-5)
    assert values == sorted(values) and values[1] > lower


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_improbable_tokens_keep_bounds_and_gradients_finite(dtype):
    masks = make_masking("random", 3).draw(make_rollouts([6, 1], 8), seeded(3))
    logps = (-200.0 * masks.scored).to(dtype)
    logps[0, 0] = logps[0, 0].clamp(min=-1e-4)
    for beta in (1.0, 2.0, 8.0):
        assert eubo(logps, masks, beta).isfinite().all() and elbo(logps, masks).isfinite().all()
        lower, upper = gradients(logps, masks, beta)
        assert lower.isfinite().all() and upper.isfinite().all()
        assert upper.sum((1, 2)).tolist() == pytest.approx([6, 1], abs=1e-4)


def test_what_is_known_of_masks_alone_is_computed_where_they_are_drawn_and_changes_no_bound():
    rollouts = make_rollouts([5, 2, 4], 5, [3, 2, 1])
    masks = make_masking("random", 3).draw(rollouts, seeded())
    part = masks.select(torch.tensor([1, 2]))
    logps = torch.where(part.scored, -1.5, 0.0).requires_grad_()
    bound = eubo(logps, part, 1.5)
    (gradient,) = torch.autograd.grad(bound.sum(), logps)
    assert part.of_bounds is not None and masks.with_columns(part=masks.part).of_bounds is None
    heavier = part.with_columns(weight=2 * part.weight)
    assert torch.equal(elbo(logps, heavier), 2 * elbo(logps, part)), "of what was replaced nothing is known"
    assert not torch.equal(eubo(logps, heavier, 1.5), bound)
    plain = Masks(part.masked, part.scored, part.weight, part.scale, part.part)
    assert torch.equal(eubo(logps, plain, 1.5), bound) and torch.equal(elbo(logps, plain), elbo(logps, part))
    exact = [elbo(logps.double(), some) for some in (plain, part)]
    assert exact[0].dtype == torch.float64 and torch.equal(*exact)
    # What a mask does not score has no gradient, and a token that no mask scores none that is NaN.
    assert not part.scored.any(1).all() and gradient[~part.scored].eq(0).all()
    assert gradient[part.scored].gt(0).all()
