"""Maskings against exact enumeration and the real sampler: what they show, score and weigh, and what they refuse."""

import itertools
import math
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from spg_trainer.algorithms.spg import SPG
from spg_trainer.errors import ConfigError, written
from spg_trainer.likelihood import elbo, token_logps
from spg_trainer.likelihood.masking import KeyedStreams
from spg_trainer.likelihood.path_masks import AutoregressiveMasking, StepMergeMasking
from spg_trainer.likelihood.random_masks import ActiveBlockMasking, BlockMasking, InformedMasking
from spg_trainer.rollout.sampler import sample_completions
from tests.common.likelihood_cases import (
    Branching,
    ToyModel,
    every_draw,
    make_masking,
    make_rollouts,
    one_stream,
    seeded,
    seeded_stream,
    streams_from,
)
from tests.common.rollout_cases import SAMPLING, make_policy, make_prompts, pad, streams

WIDTH = 4
ALL_MASKED = make_masking("all", 2, 0.15)
ALL = [
    make_masking("random", 2, 0.15),
    BlockMasking(2, 0.15, 4),
    BlockMasking(2, 0.15, 4, modulo=True),
    ActiveBlockMasking(2, 0.15, 4),
    make_masking("trajectory", 2, 0.15),
    ALL_MASKED,
    make_masking("bernoulli", 2, 0.15),
    make_masking("gauss", 2, 0.15),
    make_masking("rising", 2, 0.15),
    StepMergeMasking(2, 0.15, 2, "entropy"),
]
each = pytest.mark.parametrize(
    "masking", ALL, ids=lambda masking: getattr(masking, "law", type(masking).__name__)
)


def noting(asked):
    """Streams that note which masks they are asked for."""
    return streams_from(lambda row, mask: asked.append(mask) or seeded_stream(0, row, mask))


def draws_of(masking, rollouts):
    """(probability, masks, path) of every draw."""
    return every_draw(lambda stream: masking.draw(rollouts, one_stream(stream)))


def mean_elbo(masking, rollouts, model):
    """Exact mean of the ELBO over every draw."""
    found = [(p, float(elbo(model.logps(m, WIDTH), m))) for p, m, _ in draws_of(masking, rollouts)]
    assert sum(p for p, _ in found) == pytest.approx(1, abs=1e-12)
    return sum(p * value for p, value in found)


def any_order(model, tokens, later=()):
    """Mean over all orders of the sum of log p(token | what comes before it); `later` stays masked."""
    orders = list(itertools.permutations(tokens))
    return sum(model(o[j], [*o[j:], *later]) for o in orders for j in range(len(o))) / len(orders)


# The mean over all masks.


@pytest.mark.parametrize("length, size", [(1, 3), (3, 3), (4, 5)])
def test_random_masks_average_to_the_any_order_elbo(length, size):
    model = ToyModel()
    expected = any_order(model, range(length), later=range(length, size))
    found = mean_elbo(make_masking("random", 1), make_rollouts([length], size), model)
    assert found == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("length, block_length", [(5, 3), (3, 3), (2, 4)])
def test_active_block_masks_average_to_the_block_elbo(length, block_length):
    model, size, expected = ToyModel(1), 7, 0.0
    for start in range(0, length, block_length):
        stop = min(start + block_length, length)
        expected += any_order(model, range(start, stop), later=range(stop, size))
    found = mean_elbo(ActiveBlockMasking(1, block_length=block_length), make_rollouts([length], size), model)
    assert found == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("num_masks", [1, 3, 5])
def test_trajectory_masks_average_to_the_path_that_was_taken(num_masks):
    model, length = ToyModel(2), 6
    rollouts, step = make_rollouts([length], 8), [3, 0, 1, 1, 0, 2, 2, -1]
    rollouts.unmask_step[0] = torch.tensor(step)
    masked_at = {s: [i for i, r in enumerate(step) if r < 0 or r >= s] for s in range(4)}
    expected = sum(model(i, masked_at[step[i]]) for i in range(length))
    assert mean_elbo(make_masking("trajectory", num_masks), rollouts, model) == pytest.approx(
        expected, abs=1e-12
    )


def test_informed_masks_draw_tokens_in_proportion_to_what_changed_them():
    """The share of each subset is that of drawing one token after the other; 0 draws all subsets of a size alike."""
    rollouts, change = make_rollouts([3], 5), torch.tensor([0.1, 0.4, 0.7, 9.0, 9.0])
    rollouts = rollouts.with_columns(confidence_change=change[None])
    z = (change[:3] - change[:3].mean()) / change[:3].std(correction=0)
    for sharpness in (1.5, -1.0, 0.0):
        weight = (sharpness * z).exp().tolist()
        expected = dict.fromkeys(itertools.product([False, True], repeat=3), 0.0)
        for order in itertools.permutations(range(3)):
            chance = math.prod(weight[i] / sum(weight[j] for j in order[at:]) for at, i in enumerate(order))
            for count in (1, 2, 3):
                expected[tuple(i in order[:count] for i in range(3))] += chance / 3
        draws = 4000
        masking = InformedMasking(draws, sharpness=sharpness)
        masks = masking.draw(rollouts, seeded(3))
        found = {subset: 0 for subset in expected}
        for scored, masked, weights in zip(
            masks.scored[0].tolist(), masks.masked[0].tolist(), masks.weight[0].tolist(), strict=True
        ):
            found[tuple(scored[:3])] += 1
            assert masked[-5:] == [*scored[:3], True, True] and not any(scored[3:])
            assert weights == [3 / sum(scored) if s else 0.0 for s in scored]
        for subset, chance in expected.items():
            deviation = math.sqrt(chance * (1 - chance) / draws)
            assert abs(found[subset] / draws - chance) <= 4 * deviation, (sharpness, subset)


def test_informed_masks_need_the_record_and_bear_equal_changes():
    with pytest.raises(ConfigError, match="only a rollout records"):
        InformedMasking().draw(make_rollouts([3], 5), seeded())
    rollouts = make_rollouts([3], 5)
    same = rollouts.with_columns(confidence_change=torch.zeros(rollouts.unmask_step.shape))
    uniform = rollouts.with_columns(confidence_change=torch.rand(rollouts.unmask_step.shape))
    found = InformedMasking(64).draw(same, seeded()).scored
    assert torch.equal(found, InformedMasking(64, sharpness=0.0).draw(uniform, seeded()).scored)
    assert (found[0, :, 1] & ~found[0, :, 0]).any(), "not only the first tokens are drawn"


STEPS = [3, 0, 1, 1, 0, 2, 5, 4, 4, -1]
"""Of 10 positions, 6 of them scored: their steps are 0 to 3, and what lies behind the end is unmasked later."""


def path_rollouts(steps=STEPS, length=6, surprise=None):
    """One completion that was unmasked in these steps."""
    rollouts = make_rollouts([length], len(steps))
    rollouts.unmask_step[0] = torch.tensor(steps)
    if surprise:
        rollouts.unmask_logps[0] = -torch.tensor(surprise)
    return rollouts


def merged_path(model, edges, steps=STEPS, length=6):
    """The log-probability of writing at once what was unmasked from each edge up to the next one."""
    total = 0.0
    for start, stop in itertools.pairwise(edges):
        masked = [i for i, step in enumerate(steps) if step < 0 or step >= start]
        total += sum(model(i, masked) for i in range(length) if start <= steps[i] < stop)
    return total


@pytest.mark.parametrize(
    "settings, edges",
    [
        ((8, 0.0, 1, "all"), range(5)),  # the path
        ((4, 0.0, 1, "all"), range(5)),
        ((3, 0.0, 1, "all"), [0, 1, 2, 4]),  # d2: cut at the whole parts of 4/3 and 8/3
        ((2, 0.0, 1, "all"), [0, 2, 4]),
        ((1, 0.0, 1, "all"), [0, 4]),
        ((9, 0.0, 3, "all"), [0, 3, 6]),  # TraceRL: three steps at a time
        ((1, 0.0, 1, "uniform"), range(5)),
        ((3, 0.0, 2, "uniform"), [0, 2, 4]),
    ],
    ids=str,
)
def test_merged_steps_average_to_writing_each_segment_at_once(settings, edges):
    model, masking = ToyModel(3), StepMergeMasking(*settings)
    expected = merged_path(model, edges)
    assert mean_elbo(masking, path_rollouts(), model) == pytest.approx(expected, abs=1e-12)
    if settings[3] == "all":
        masks = masking.draw(path_rollouts(), seeded())
        assert masks.scored[0].any(-1).sum() == len(edges) - 1, "copies that score nothing cost nothing"
        assert masks.scored[0].sum(0).tolist() == [1] * 6 + [0] * 4


def test_a_single_segment_is_the_one_pass_of_all_masks():
    """Also where something behind the end was unmasked first."""
    rollouts = path_rollouts([3, 2, 1, 0, 0])
    rollouts.completion_mask[0, 3:] = False
    one, full = (make_masking(name, 1).draw(rollouts, seeded()) for name in ("step_merge", "all"))
    for name, value in vars(one).items():
        other = getattr(full, name)
        if name == "host":
            assert value.keys() == other.keys() and all((value[key] == other[key]).all() for key in value)
            continue
        assert torch.equal(value, other) if torch.is_tensor(value) else value == other, name
    first = StepMergeMasking(9).draw(rollouts, seeded())
    assert first.masked[0, 0, WIDTH:].tolist() == [True, True, True, False, False], "as the sampler saw it"


@pytest.mark.parametrize("num_masks", [1, 2, 5])
def test_segments_drawn_by_surprise_weigh_one_over_their_probability(num_masks):
    """Steps of surprise 1, 4, 2 and 1 of 8: 64 starts of the quantiles, each the middle of equally many."""
    surprise = [1.0, 0.5, 1.5, 2.5, 0.5, 2.0, 9.0, 9.0, 9.0, 0.0]
    rollouts, model, found, seen = path_rollouts(surprise=surprise), ToyModel(4), 0.0, np.zeros(4)
    masking = StepMergeMasking(num_masks, 0.0, 1, "entropy")
    for start in (np.arange(64) + 0.5) / 64:
        stream = SimpleNamespace(random=lambda size, start=start: np.full(size, start))
        masks = masking.draw(rollouts, one_stream(stream))
        found += float(elbo(model.logps(masks, WIDTH), masks)) / 64
        drawn = torch.tensor(STEPS)[masks.scored[0].int().argmax(-1)]
        seen += np.bincount(drawn.numpy(), minlength=4) / (64 * num_masks)
    assert seen == pytest.approx([1 / 8, 4 / 8, 2 / 8, 1 / 8], abs=1e-12)
    assert found == pytest.approx(
        merged_path(model, range(5)), abs=1e-6
    )  # its 1e-8 keeps every step possible


def test_steps_of_equal_surprise_are_drawn_alike_and_certain_ones_still_can_be():
    sure = path_rollouts(surprise=[0.0] * 10)
    masks = StepMergeMasking(4, 0.0, 1, "entropy").draw(sure, seeded())
    assert masks.scored[0].sum(0).tolist() == [1] * 6 + [0] * 4
    assert masks.weight[0][masks.scored[0]].tolist() == pytest.approx([4.0] * 6)


@pytest.mark.parametrize("num_masks, at_once", [(24, 4), (256, 1)])
def test_many_segments_ask_for_no_stream_of_their_own(num_masks, at_once):
    asked = []
    for draw in ("all", "uniform", "entropy"):
        masking = StepMergeMasking(num_masks, 0.0, at_once, draw)
        masking.draw(path_rollouts(), noting(asked))
    assert set(asked) == {"row"}


@pytest.mark.parametrize("length, p", [(1, 0.0), (3, 0.0), (3, 0.2)])
def test_full_and_coupled_masks_average_to_half_the_mean_field_and_the_ratios_mean(length, p):
    """Over nodes of the ratio, exact for these polynomials, and every subset of the tokens."""
    model, size, found = ToyModel(6), length + 1, 0.0
    rollouts, tail = make_rollouts([length], size), [length]
    nodes, weights = np.polynomial.legendre.leggauss(8)
    expected = 0.5 * sum(model(i, range(size)) for i in range(length))
    for t, w in zip(0.5 + 0.3 * nodes, weights / 2, strict=True):
        for kept in itertools.product([False, True], repeat=length):
            hidden = [i for i in range(length) if kept[i]]
            chance = math.prod(t if masked else 1 - t for masked in kept)
            expected += w * chance / t * sum(model(i, [*hidden, *tail]) for i in hidden)
            stream = SimpleNamespace(
                uniform=lambda low, high, t=t: t if (low, high) == (0.2, 0.8) else math.nan,
                random=lambda count, kept=kept: (
                    np.where(kept, 0.0, 1.0) if count == length else np.ones(count)
                ),
            )
            masks = make_masking("coupled_full", 3, p).draw(rollouts, one_stream(stream))
            found += w * chance * float(elbo(model.logps(masks, WIDTH), masks))
    assert found == pytest.approx(expected, abs=1e-12)


def test_full_and_coupled_masks_at_one_half_are_the_full_one_and_twice_each_half():
    masks = make_masking("coupled_full", 3, min_ratio=0.5, max_ratio=0.5).draw(
        make_rollouts([7, 9], 9), seeded()
    )
    for row, length in enumerate([7, 9]):
        full, one, other = masks.scored[row, :, :length]
        assert full.all() and torch.equal(one, ~other)
        assert (masks.weight[row, 0, :length] / 3).unique().tolist() == [0.5]
        assert (masks.weight[row, 1:, :length].sum(0) / 3).unique().tolist() == [1.0]
    several = make_masking("coupled_full", 5, 0.0).draw(make_rollouts([40] * 3, 40), seeded())
    shares = several.weight[:, 1:].amax(-1)
    assert torch.equal(shares[0], shares[1]) and len(shares[0].unique()) == 4, (
        "each pair's ratio is that of all rows"
    )
    for few in (1, 2, 4):
        with pytest.raises(ConfigError, match="num_masks=3"):
            make_masking("coupled_full", few)


def test_bernoulli_masks_average_to_the_any_order_elbo():
    """Over nodes of the ratio, exact for these polynomials, every first masked token and all that follow."""
    model, n, size, found = ToyModel(5), 4, 5, 0.0
    nodes, weights = np.polynomial.legendre.leggauss(12)
    for clean, w in zip((1 - nodes) / 2, weights / 2, strict=True):
        some = 1 - clean**n
        for first in range(n):
            middle = (1 - clean ** (first + 0.5)) / some  # where among the quantiles this first token lies
            for later in itertools.product([True, False], repeat=n - first - 1):
                chance = clean**first * (1 - clean) / some
                chance *= math.prod((1 - clean) if masked else clean for masked in later)
                values = iter([np.array([clean, middle]), np.where(later, 1.0, 0.0)])
                stream = SimpleNamespace(random=lambda count, values=values: next(values))
                masks = make_masking("bernoulli", 1).draw(make_rollouts([n], size), one_stream(stream))
                assert masks.scored[0, 0, :n].tolist() == [*[False] * first, True, *later]
                found += w * chance * float(elbo(model.logps(masks, WIDTH), masks))
    assert found == pytest.approx(any_order(model, range(n), later=[4]), abs=1e-12)


@pytest.mark.parametrize("length", [1, 3, 4])
@pytest.mark.parametrize("row, total", [(0, 1), (2, 5)])
def test_coupled_masks_average_to_the_any_order_elbo(length, row, total):
    """Wherever the row stands in its step; each token is scored once in a pair."""
    model, rollouts, mean = ToyModel(6), make_rollouts([length], 5), 0.0
    rollouts = rollouts.with_columns(quantile=torch.tensor([row / total], dtype=torch.float64))
    for chance, masks, _ in every_draw(
        lambda stream: make_masking("coupled", 2).draw(rollouts, one_stream(stream))
    ):
        assert (masks.scored[0].sum(0)[:length] == 1).all() and masks.masked[0, :, WIDTH + length :].all()
        mean += chance * float(elbo(model.logps(masks, WIDTH), masks))
    assert mean == pytest.approx(any_order(model, range(length), later=range(length, 5)), abs=1e-12)


def test_coupled_sizes_are_spread_evenly_over_a_step():
    rollouts = make_rollouts([9] * 10, 9)
    for seed in range(3):
        masks = make_masking("coupled", 2).draw(rollouts, seeded(seed))
        assert sorted(masks.scored[:, 0].sum(-1).tolist()) == list(range(10))
    with pytest.raises(ConfigError, match="num_masks=4"):
        make_masking("coupled", 3)


@pytest.mark.parametrize("num_masks, counts", [(1, [2]), (2, [1, 3]), (3, [1, 2, 4])])
def test_gauss_masks_average_to_their_quadrature(num_masks, counts):
    model, n = ToyModel(7), 5
    weights = np.polynomial.legendre.leggauss(num_masks)[1] / 2
    expected = 0.0
    for weight, count in zip(weights, counts, strict=True):
        subsets = list(itertools.combinations(range(n), count))
        expected += weight * n / count * sum(model(i, s) for s in subsets for i in s) / len(subsets)
    one = make_masking("gauss", num_masks)
    mean = 0.0
    for mask in range(num_masks):  # the masks are drawn apart, so that each can be enumerated by itself
        for chance, masks, _ in every_draw(
            lambda stream, mask=mask: one.draw(
                make_rollouts([n], n),
                streams_from(lambda row, m, mask=mask: stream if m == mask else seeded_stream(0, 0, m)),
            )
        ):
            alone = masks.weight[0, mask] * model.logps(masks, WIDTH)[0, mask]
            mean += chance * float(alone.sum()) / num_masks
    assert mean == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("num_masks", [1, 3, 256])
def test_autoregressive_masks_average_to_the_chain_from_left_to_right(num_masks):
    model, length, size = ToyModel(8), 4, 5
    masking, rollouts = AutoregressiveMasking(num_masks), make_rollouts([length], size)
    expected = sum(model(i, range(i, size)) for i in range(length))
    assert mean_elbo(masking, rollouts, model) == pytest.approx(expected, abs=1e-12)
    masks = masking.draw(rollouts, seeded())
    assert masks.scored.shape == (1, min(num_masks, size), size)
    assert int(masks.scored.sum()) == min(num_masks, length)
    assert not masking.has_eubo and masking.count(3) == min(num_masks, 3)


@pytest.mark.parametrize("num_masks", [3, 256])
def test_autoregressive_masks_ask_for_no_stream_of_their_own_as_they_are_many(num_masks):
    asked = []
    rollouts = make_rollouts([4, 9, 1], 9)
    masks = AutoregressiveMasking(num_masks).draw(rollouts, noting(asked))
    assert set(asked) <= {"row"}
    for row, n in enumerate([4, 9, 1]):
        scored = masks.scored[row].nonzero()
        assert scored[:, 0].tolist() == list(range(min(n, num_masks))), (
            "one token of each of the first copies"
        )
        for mask, token in scored.tolist():
            shown = ~masks.masked[row, mask, -9:]
            assert shown.nonzero().squeeze(-1).tolist() == list(range(token))
            weight = masks.weight[row, mask]
            expected = min(num_masks, 9) * n / min(num_masks, n)
            assert float(weight[token]) == expected and int((weight != 0).sum()) == 1


def test_all_masks_score_every_token_from_the_prompt_alone():
    model, rollouts = ToyModel(9), make_rollouts([3], 5)
    expected = sum(model(i, range(5)) for i in range(3))
    assert mean_elbo(make_masking("all", 1), rollouts, model) == pytest.approx(expected, abs=1e-12)


def test_rising_masks_grow_over_the_iterations_to_everything():
    rollouts = make_rollouts([20] * 50, 20)
    counts = []
    for iteration in range(4):
        masks = make_masking("rising", 1).draw(rollouts, seeded(), iteration, 4)
        counts.append(masks.scored.sum(-1).squeeze(-1))
        assert torch.allclose(masks.weight.sum(-1), torch.tensor(20.0, dtype=torch.float64))
    counts = torch.stack(counts)
    assert (counts.diff(dim=0) >= 0).all() and (counts[-1] == 20).all()
    assert abs(float(counts[0].double().mean()) - 9.5) < 3
    bends = counts.diff(dim=0).diff(dim=0).abs()
    assert (bends <= 2).all() and float(bends.double().mean()) < 0.7, "linear but for whole tokens"


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("remasking", ["low_confidence", "random"])
def test_the_elbo_over_all_steps_is_the_samplers_own_log_likelihood(temperature, remasking):
    """With the real sampler and a float64 model; the first row ends at its first token, others later or never."""
    sampling = replace(SAMPLING, temperature=temperature, remasking=remasking)
    policy = replace(make_policy(torch.float64), end_token_ids=())
    prompts = make_prompts(policy)
    inputs = pad(policy, prompts, extra=2)
    endless = sample_completions(policy, *inputs, sampling, streams(len(prompts)))
    end_tokens = {int(endless.completion_ids[0, 0]), int(endless.completion_ids[1, 10])}
    policy = replace(policy, end_token_ids=tuple(end_tokens))
    out = sample_completions(policy, *inputs, sampling, streams(len(prompts)))
    lengths = out.completion_mask.sum(-1)
    assert lengths.min() == 1 and lengths.max() > 8, "one text ends at once, one goes over several blocks"
    masks = make_masking("trajectory", sampling.diffusion_steps).draw(out, seeded())
    logps = token_logps(policy, out, masks)
    expected = out.unmask_logps * out.completion_mask
    for row in range(len(out)):
        steps = int(masks.weight[row].max())  # the first masks take each step once
        assert steps == len(out.unmask_step[row, : lengths[row]].unique())
        one = masks.select(torch.tensor([row]))
        parts = {name: getattr(one, name)[:, :steps] for name in ("masked", "scored", "weight")}
        bound = float(elbo(logps[row : row + 1, :steps], replace(one, **parts)))
        assert bound == pytest.approx(float(expected[row].sum()), abs=1e-10)
        assert torch.allclose(logps[row, :steps].sum(0), expected[row], rtol=0, atol=1e-10)


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


@pytest.mark.parametrize(
    "modulo, n, odds, expected",
    [
        (False, 256, [1 / 8] * 8, [0.39, 0.51, 0.64, 0.80, 0.98, 1.22, 1.51, 1.95]),
        (True, 75, [3 / 8, 3 / 8, 2 / 8], [0.55, 1.08, 2.09]),  # 8 blocks modulo the 3 in use
    ],
)
def test_block_masks_lean_towards_late_blocks_as_published(modulo, n, odds, expected):
    """The reference figures: what each block weighs on average where an unbiased estimator would say 1."""
    exact = block_coefficients(n, 32, 0.15, odds)
    assert exact == pytest.approx(expected, abs=0.02)  # the published figures are simulated
    draws = 300
    masks = BlockMasking(8, 0.15, 32, modulo).draw(make_rollouts([n] * draws, 256), seeded())
    means = masks.weight.mean(1)[:, :n].T  # (n, draws)
    per_block = torch.stack([block.mean(0) for block in means.split(32)])
    error = per_block.std(1) / math.sqrt(draws)
    assert ((per_block.mean(1) - torch.tensor(exact)).abs() < 4 * error).all()


# What is shown, scored and weighed.


def test_each_block_mask_masks_a_subset_of_one_block_and_everything_later():
    starts = set()
    for _, masks, path in draws_of(BlockMasking(1, 0.0, 4), make_rollouts([7], 12)):
        masked, scored = masks.masked[0, 0, WIDTH:], masks.scored[0, 0]
        stop = [4, 7][path[0]]
        assert masked[stop:].all() and scored[stop:7].all() and not scored[7:].any()
        assert not masked[: 4 * path[0]].any() and scored[4 * path[0] : stop].any()
        assert masks.weight[0, 0][scored].unique().tolist() == [7 / int(scored.sum())]
        starts.add(path[0])
    assert starts == {0, 1}


def test_the_noise_of_block_masks_reaches_prompt_and_earlier_blocks():
    masks = BlockMasking(8, 0.3, 200).draw(make_rollouts([400], 400, prompts=[100], width=100), seeded())
    assert torch.equal(masks.scored, masks.masked[:, :, 100:])
    late = ~masks.scored[0, :, 200:].all(-1)  # a mask of the first block masks all of the second
    assert 0 < late.sum() < 8
    assert ((masks.scored[0, late, :200].double().mean(-1) - 0.3).abs() < 0.13).all()
    assert 0.22 < masks.masked[0, :, :100].double().mean() < 0.38


def test_the_modulo_draw_of_blocks_is_that_of_the_reference():
    rollouts, masking = make_rollouts([10], 24), BlockMasking(2, 0.0, 4, modulo=True)  # 6 blocks, 3 in use

    def shared_only(stream):
        return masking.draw(
            rollouts, streams_from(lambda row, mask: stream if mask == "row" else Branching([]))
        )

    for _, masks, path in every_draw(shared_only):
        order = list(itertools.permutations(range(6)))[path[0]]
        firsts = [int(masks.scored[0, m].nonzero()[0]) // 4 for m in range(2)]
        assert firsts == [block % 3 for block in order[:2]]


def test_active_block_masks_share_the_block_and_score_nothing_else():
    masks = ActiveBlockMasking(6, 0.0, 4).draw(make_rollouts([11, 5], 12), seeded(5))
    for row, (length, blocks) in enumerate([(11, 3), (5, 2)]):
        assert masks.scale[row] == blocks
        part = masks.part[row]
        start, stop = int(part.nonzero()[0]), int(part.nonzero()[-1]) + 1
        assert part.sum() == stop - start == min(4, length - start)
        assert not (masks.scored[row] & ~part).any()
        assert masks.masked[row, :, WIDTH + stop :].all()
        assert not masks.masked[row, :, : WIDTH + start].any()


def test_trajectory_shows_what_the_sampler_saw():
    rollouts, seen = make_rollouts([3], 6), {}
    rollouts.unmask_step[0] = torch.tensor([4, 2, 4, 0, 3, -1])
    for _, masks, _ in draws_of(make_masking("trajectory", 1), rollouts):
        scored = masks.scored[0, 0]
        seen[tuple(scored.nonzero().squeeze(-1).tolist())] = masks.masked[0, 0, WIDTH:].tolist()
        assert masks.weight[0, 0][scored].unique().tolist() == [2.0]  # steps 2 and 4 score, 0 and 3 do not
    shown = {(1,): [True, True, True, False, True, True], (0, 2): [True, False, True, False, False, True]}
    assert seen == shown
    several = make_masking("trajectory", 4).draw(make_rollouts([8], 8), seeded())
    assert several.scored[0].sum(0).tolist() == [1] * 8, "each mask takes another step"
    rollouts.unmask_step[:] = -1
    with pytest.raises(ConfigError, match="masking=random"):
        make_masking("trajectory", 1).draw(rollouts, seeded())


@each
def test_what_is_shown_and_scored(masking, device):
    rollouts = make_rollouts([8, 3, 1], 8, prompts=[4, 2, 1], device=device)
    for seed in range(8):
        masks = masking.draw(rollouts, seeded(seed))
        assert {value.device.type for value in vars(masks).values() if torch.is_tensor(value)} == {device}
        masked = masks.masked[:, :, WIDTH:]
        assert masks.masked.shape == (3, 2, WIDTH + 8)
        assert not (masks.scored & ~masked).any(), "a scored token is masked"
        assert not (masks.part & ~rollouts.completion_mask).any(), "nothing behind the end is scored"
        assert not (masks.scored & ~masks.part[:, None]).any()
        assert masks.scored.any(-1).all(), "every mask scores something"
        assert torch.equal(masks.weight > 0, masks.scored)
        if not isinstance(masking, StepMergeMasking):
            assert (masked | rollouts.completion_mask[:, None]).all(), "everything behind the end is masked"


@each
def test_padding_is_never_masked_and_real_prompt_tokens_are_at_rate_p(masking):
    rollouts = make_rollouts([6] * 40, 8, prompts=[30] * 40, width=50)
    clear = replace(masking, p_mask_prompt=0.0, num_masks=1 if masking == ALL_MASKED else 2)
    masks, clean = (form.draw(rollouts, seeded()) for form in (masking, clear))
    assert not masks.masked[:, :, :20].any() and not clean.masked[:, :, :50].any()
    assert 0.12 < masks.masked[:, :, 20:50].double().mean() < 0.18
    if masking == ALL[0]:
        assert torch.equal(clean.scored, masks.scored), "noise in the prompt leaves the rest as it is"


@each
def test_draws_depend_neither_on_padding_nor_on_other_rows(masking, device):
    narrow, wide = (make_rollouts([8, 5, 6], 8, prompts=[3, 2, 4], width=w, device=device) for w in (4, 9))
    a, b = masking.draw(narrow, seeded()), masking.draw(wide, seeded())
    assert torch.equal(a.masked, b.masked[:, :, 5:]) and not b.masked[:, :, :5].any()
    assert torch.equal(a.weight, b.weight) and torch.equal(a.part, b.part)
    last = masking.draw(
        narrow.select(torch.tensor([2])), streams_from(lambda row, mask: seeded_stream(0, 2, mask))
    )
    assert torch.equal(last.masked[0], a.select(torch.tensor([2])).masked[0])


def test_streams_of_masks_rows_iterations_and_everyone_are_independent_and_that_of_iterations_stays():
    def drawn(update):
        keyed = KeyedStreams(3, ("masks", 5), [(7, 0), (7, 1)], update)
        streams = [keyed.of_everyone(0)] + [
            stream
            for row in (0, 1)
            for stream in (*map(partial(keyed.of_mask, row), range(3)), keyed.of_row(row))
        ]
        return [stream.random() for stream in streams], [keyed.of_iterations(row).random() for row in (0, 1)]

    (one, of_iterations), (first, same), (second, again) = map(drawn, [(), (0,), (1,)])
    assert of_iterations == same == again
    assert len({*one, *first, *second, *of_iterations}) == 3 * 9 + 2


# What is refused.


@each
def test_an_upper_bound_needs_two_masks_and_two_contexts(masking):
    assert masking.has_eubo is not (isinstance(masking, StepMergeMasking) or masking == ALL_MASKED)
    assert not replace(masking, num_masks=1).has_eubo


@each
def test_positions_that_were_never_unmasked_are_refused(masking):
    """Training on them would teach the model to write [MASK]."""
    rollouts = make_rollouts([6], 8)
    rollouts.unmask_step[0, 6:] = -1
    masking.draw(rollouts, seeded())
    masking.draw(rollouts.count_tail(7), seeded())
    rollouts.completion_mask[:] = True
    if isinstance(masking, StepMergeMasking):
        assert not (masking.draw(rollouts, seeded()).scored & (rollouts.unmask_step < 0)).any()
        return
    with pytest.raises(ConfigError, match=r"never unmasked.*score_tail=true"):
        for seed in range(30):
            masking.draw(rollouts, seeded(seed))


def test_a_tail_that_counts_is_padding_unmasked_last():
    rollouts = make_rollouts([3, 8], 8)
    whole = rollouts.count_tail(7)
    assert whole.completion_mask.all() and (whole.completion_ids[0, 3:] == 7).all()
    assert (whole.unmask_step[0, 3:] > rollouts.unmask_step.max()).all()
    assert torch.equal(whole.completion_ids[1], rollouts.completion_ids[1])


def test_a_block_of_one_token_has_one_context_and_no_upper_bound():
    masks = ActiveBlockMasking(4, 0.0, 1).draw(make_rollouts([5], 6), seeded())
    assert (masks.masked == masks.masked[:, :1]).all() and (masks.weight.sum(-1) == 1).all()
    assert not ActiveBlockMasking(4, 0.0, 1).has_eubo and ActiveBlockMasking(4, 0.0, 2).has_eubo
    assert BlockMasking(2, 0.0, 1).has_eubo  # scores later blocks, too, so that tokens meet in other contexts
    with pytest.raises(ConfigError, match=r"masking=block_active.*--algorithm-args negatives=elbo"):
        SPG(masking="block_active", block_length=1)


def test_modulo_blocks_need_as_many_blocks_as_masks():
    masking = BlockMasking(3, 0.0, 10, modulo=True)
    with pytest.raises(ConfigError, match=r"num_masks=3.* 20 .* 2 of block_length=10.*num_masks=2"):
        masking.draw(make_rollouts([1, 20], 20), seeded())


@pytest.mark.parametrize(
    "num_masks, remedies", [(5, {"num_masks": 3, "block_length": 2}), (13, {"num_masks": 3})]
)
def test_too_few_blocks_for_the_modulo_draw_are_refused_with_remedies_that_work(num_masks, remedies):
    masking = BlockMasking(num_masks, 0.0, 4, modulo=True)
    with pytest.raises(ConfigError) as refused:
        masking.check(12)
    advice = " or ".join(f"{name}={value}" for name, value in remedies.items())
    assert written(refused.value).endswith(f"Use --algorithm-args {advice}.")
    for name, value in remedies.items():
        replace(masking, **{name: value}).check(12)
    with pytest.raises(ConfigError):
        replace(masking, block_length=3).check(12)
