"""Masking strategies against exact enumeration, and what they show to the model."""

import itertools
import math
from dataclasses import fields

import numpy as np
import pytest
import torch

from spg_trainer.errors import ConfigError
from spg_trainer.likelihood import elbo
from spg_trainer.likelihood.masks import (
    ActiveBlockMasking,
    BlockMasking,
    BlockModuloMasking,
    RandomMasking,
    TrajectoryMasking,
)
from tests.common.likelihood_cases import Branching, ToyModel, every_draw, make_rollouts, seeded

ALL = [
    RandomMasking(2, 0.15),
    BlockMasking(2, 0.15, 4),
    BlockModuloMasking(2, 0.15, 4),
    ActiveBlockMasking(2, 0.15, 4),
    TrajectoryMasking(2, 0.15),
]
WIDTH = 4


def names(strategy):
    return type(strategy).__name__


def any_order(model, tokens, later=()):
    """Mean over all orders of the sum of log p(token | what comes before it); `later` stays hidden."""
    orders = list(itertools.permutations(tokens))
    return sum(model(o[j], [*o[j:], *later]) for o in orders for j in range(len(o))) / len(orders)


def mean_elbo(strategy, rollouts, model):
    """Exact mean of the ELBO over every draw."""
    draws = every_draw(lambda stream: strategy.draw(rollouts, lambda row, mask: stream))
    found = [(p, float(elbo(model.logps(masks, WIDTH), masks))) for p, masks, _ in draws]
    assert sum(p for p, _ in found) == pytest.approx(1, abs=1e-12)
    return sum(p * value for p, value in found)


@pytest.mark.parametrize("length, size", [(1, 3), (3, 3), (4, 5)])
def test_random_masks_average_to_the_any_order_elbo(length, size):
    model = ToyModel()
    expected = any_order(model, range(length), later=range(length, size))
    rollouts = make_rollouts([length], size)
    assert mean_elbo(RandomMasking(1), rollouts, model) == pytest.approx(expected, abs=1e-12)


def test_the_four_forms_of_the_elbo_agree():
    """Bernoulli masks at 1/t, k masks at n/k, any order, and token by token: one number."""
    model, n = ToyModel(3), 4
    nodes, weights = np.polynomial.legendre.leggauss(12)
    times, weights = (nodes + 1) / 2, weights / 2
    subsets = [s for k in range(1, n + 1) for s in itertools.combinations(range(n), k)]
    bernoulli = sum(
        w / t * t ** len(s) * (1 - t) ** (n - len(s)) * sum(model(i, s) for i in s)
        for t, w in zip(times, weights, strict=True)
        for s in subsets
    )
    by_token = sum(
        w * t ** (len(s) - 1) * (1 - t) ** (n - len(s)) * model(i, s)
        for t, w in zip(times, weights, strict=True)
        for s in subsets
        for i in s
    )
    counted = mean_elbo(RandomMasking(1), make_rollouts([n], n), model)
    ordered = any_order(model, range(n))
    assert [bernoulli, by_token, counted] == pytest.approx([ordered] * 3, abs=1e-12)


@pytest.mark.parametrize("length, block_length", [(5, 3), (4, 2), (3, 3), (6, 2), (2, 4)])
def test_active_block_masks_average_to_the_block_elbo(length, block_length):
    model, size = ToyModel(1), 7
    expected = sum(
        any_order(model, range(start, stop := min(start + block_length, length)), later=range(stop, size))
        for start in range(0, length, block_length)
    )
    rollouts = make_rollouts([length], size)
    found = mean_elbo(ActiveBlockMasking(1, block_length=block_length), rollouts, model)
    assert found == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("num_masks", [1, 2, 3, 5])
def test_trajectory_masks_average_to_the_path_that_was_taken(num_masks):
    model, length = ToyModel(2), 6
    rollouts = make_rollouts([length], 8)
    step = [3, 0, 1, 1, 0, 2, 2, -1]
    rollouts.unmask_step[0] = torch.tensor(step)
    hidden_at = {s: [i for i, r in enumerate(step) if r < 0 or r >= s] for s in range(4)}
    expected = sum(model(i, hidden_at[step[i]]) for i in range(length))
    assert mean_elbo(TrajectoryMasking(num_masks), rollouts, model) == pytest.approx(expected, abs=1e-12)


def test_trajectory_shows_what_the_sampler_saw_and_scores_no_token_behind_the_end():
    rollouts = make_rollouts([3], 6)
    rollouts.unmask_step[0] = torch.tensor([4, 2, 4, 0, 3, -1])
    seen = {}
    for _, masks, _ in every_draw(lambda s: TrajectoryMasking(1).draw(rollouts, lambda row, mask: s)):
        key = tuple(masks.scored[0, 0].nonzero().squeeze(-1).tolist())
        seen[key] = masks.masked[0, 0, WIDTH:].tolist()
        assert masks.weight[0, 0][masks.scored[0, 0]].unique().tolist() == [
            2.0
        ]  # steps 2 and 4 score, 0 and 3 do not
    assert seen == {
        (1,): [True, True, True, False, True, True],
        (0, 2): [True, False, True, False, False, True],
    }


def test_several_trajectory_masks_take_different_steps():
    rollouts = make_rollouts([8], 8)
    masks = TrajectoryMasking(4).draw(rollouts, seeded())
    assert masks.scored[0].sum(0).tolist() == [1] * 8
    assert not TrajectoryMasking(4).has_eubo


def test_trajectory_needs_to_know_when_tokens_were_revealed():
    rollouts = make_rollouts([3], 4)
    rollouts.unmask_step[:] = -1
    with pytest.raises(ConfigError, match="masking=random"):
        TrajectoryMasking(1).draw(rollouts, seeded())


def block_coefficients(n, block_length, p, odds):
    """Exact mean coefficient of a token of each block under `block`: sums over active block, k, and noise."""
    blocks = math.ceil(n / block_length)
    result = np.zeros(blocks)
    for active in range(blocks):
        start, stop = active * block_length, min((active + 1) * block_length, n)
        size = stop - start
        for k in range(1, size + 1):
            for noise in range(start + 1):
                share = odds[active] / size * math.comb(start, noise) * p**noise * (1 - p) ** (start - noise)
                weight = share * n / (k + noise + n - stop)
                result[active] += weight * k / size
                result[active + 1 :] += weight
                if noise:
                    result[:active] += weight * noise / start
    return result


PUBLISHED = [
    (256, [0.39, 0.51, 0.64, 0.80, 0.98, 1.22, 1.51, 1.95], [1 / 8] * 8),
    (75, [0.55, 1.08, 2.09], None),
]


@pytest.mark.parametrize("n, expected, odds", PUBLISHED)
def test_block_masks_lean_towards_late_blocks_as_published(n, expected, odds):
    """The reference figures: what each block weighs on average where an unbiased estimator would say 1."""
    modulo = [3 / 8, 3 / 8, 2 / 8]  # 8 blocks in the window, modulo the 3 in use
    exact = block_coefficients(n, 32, 0.15, odds or modulo)
    assert exact == pytest.approx(expected, abs=0.02)  # the published figures are simulated
    strategy = BlockMasking(8, 0.15, 32) if odds else BlockModuloMasking(8, 0.15, 32)
    draws = 300
    masks = strategy.draw(make_rollouts([n] * draws, 256), seeded())
    means = masks.weight.mean(1)[:, :n].T  # (n, draws)
    per_block = torch.stack([block.mean(0) for block in means.split(32)])
    error = per_block.std(1) / math.sqrt(draws)
    assert ((per_block.mean(1) - torch.tensor(exact)).abs() < 4 * error).all()


def test_each_block_mask_hides_a_subset_of_one_block_and_everything_later():
    rollouts = make_rollouts([7], 12)
    strategy = BlockMasking(1, 0.0, 4)
    starts = set()
    for _, masks, path in every_draw(lambda s: strategy.draw(rollouts, lambda row, mask: s)):
        hidden, scored = masks.masked[0, 0, WIDTH:], masks.scored[0, 0]
        stop = [4, 7][path[0]]
        assert hidden[stop:].all() and scored[stop:7].all() and not scored[7:].any()
        assert not hidden[: 4 * path[0]].any() and scored[4 * path[0] : stop].any()
        assert masks.weight[0, 0][scored].unique().tolist() == [7 / int(scored.sum())]
        starts.add(path[0])
    assert starts == {0, 1}


def test_the_noise_of_block_masks_reaches_prompt_and_earlier_blocks_and_is_scored_there():
    rollouts = make_rollouts([400], 400, prompts=[100], width=100)
    masks = BlockMasking(8, 0.3, 200).draw(rollouts, seeded())
    assert torch.equal(masks.scored, masks.masked[:, :, 100:])
    late = ~masks.scored[0, :, 200:].all(-1)  # a mask of the first block hides all of the second
    assert 0 < late.sum() < 8
    assert ((masks.scored[0, late, :200].double().mean(-1) - 0.3).abs() < 0.13).all()
    noise = masks.masked[0, :, :100].double().mean()
    assert 0.22 < noise < 0.38


def test_active_block_masks_share_the_block_and_score_nothing_else():
    rollouts = make_rollouts([11, 5], 12)
    masks = ActiveBlockMasking(6, 0.0, 4).draw(rollouts, seeded(5))
    for row, blocks in enumerate([3, 2]):
        assert masks.scale[row] == blocks
        part = masks.part[row]
        assert part.sum() == min(4, [11, 5][row] - int(part.nonzero()[0]))
        assert not (masks.scored[row] & ~part).any()
        stop = int(part.nonzero()[-1]) + 1
        assert masks.masked[row, :, WIDTH + stop :].all()
        assert not masks.masked[row, :, : WIDTH + stop - int(part.sum())].any()


def test_modulo_block_draw_is_that_of_the_reference():
    rollouts = make_rollouts([10], 24)
    strategy = BlockModuloMasking(2, 0.0, 4)  # 6 blocks, 3 in use

    def shared_only(stream):
        return strategy.draw(rollouts, lambda row, mask: stream if mask == -1 else Branching([]))

    for _, masks, path in every_draw(shared_only):
        order = list(itertools.permutations(range(6)))[path[0]]
        active = [block % 3 for block in order[:2]]
        firsts = [int(masks.scored[0, m].nonzero()[0]) // 4 for m in range(2)]
        assert firsts == active


@pytest.mark.parametrize("strategy", ALL, ids=names)
def test_what_is_shown_and_scored(strategy, device):
    rollouts = make_rollouts([8, 3, 1], 8, prompts=[4, 2, 1], device=device)
    for seed in range(20):
        masks = strategy.draw(rollouts, seeded(seed))
        assert {getattr(masks, f.name).device.type for f in fields(masks)} == {device}
        hidden = masks.masked[:, :, WIDTH:]
        assert masks.masked.shape == (3, 2, WIDTH + 8)
        assert not (masks.scored & ~hidden).any(), "a scored token is hidden"
        assert not (masks.scored & ~rollouts.completion_mask[:, None]).any(), (
            "nothing behind the end is scored"
        )
        assert masks.scored.any(-1).all(), "every mask scores something"
        assert torch.equal(masks.weight > 0, masks.scored)
        assert not (masks.part & ~rollouts.completion_mask).any()
        assert not (masks.scored & ~masks.part[:, None]).any()
        if not isinstance(strategy, TrajectoryMasking):
            assert (hidden | rollouts.completion_mask[:, None]).all(), "everything behind the end is hidden"


@pytest.mark.parametrize("strategy", ALL, ids=names)
def test_padding_is_never_masked_and_real_prompt_tokens_are_at_rate_p(strategy):
    rollouts = make_rollouts([6] * 40, 8, prompts=[30] * 40, width=50)
    prompt = strategy.draw(rollouts, seeded()).masked[:, :, :50]
    assert not prompt[:, :, :20].any()
    assert 0.12 < prompt[:, :, 20:].double().mean() < 0.18


@pytest.mark.parametrize("strategy", ALL, ids=names)
def test_draws_depend_neither_on_padding_nor_on_other_rows(strategy, device):
    narrow = make_rollouts([8, 5, 6], 8, prompts=[3, 2, 4], width=4, device=device)
    wide = make_rollouts([8, 5, 6], 8, prompts=[3, 2, 4], width=9, device=device)
    a, b = strategy.draw(narrow, seeded()), strategy.draw(wide, seeded())
    assert torch.equal(a.masked, b.masked[:, :, 5:]) and not b.masked[:, :, :5].any()
    assert torch.equal(a.weight, b.weight) and torch.equal(a.part, b.part)
    last = strategy.draw(narrow.select(torch.tensor([2])), lambda row, mask: seeded()(2, mask))
    assert torch.equal(last.masked[0], a.select(torch.tensor([2])).masked[0])


@pytest.mark.parametrize("strategy", ALL[:4], ids=names)
def test_an_upper_bound_needs_two_masks(strategy):
    assert strategy.has_eubo
    assert not type(strategy)(1).has_eubo


def test_prompt_noise_leaves_the_completion_masks_as_they_are():
    rollouts = make_rollouts([6, 8], 8)
    clean, noisy = (RandomMasking(3, p).draw(rollouts, seeded()) for p in (0.0, 0.5))
    assert torch.equal(clean.scored, noisy.scored)
    assert noisy.masked[:, :, :WIDTH].any() and not clean.masked[:, :, :WIDTH].any()
