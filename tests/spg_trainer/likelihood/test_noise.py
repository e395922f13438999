"""Log-probabilities under uniform noise, and the gradients of all losses of them, are those of plain autograd."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch

from spg_trainer import algorithms
from spg_trainer.algorithms.base import loss_of_values, prepare_columns
from spg_trainer.algorithms.registry import WITH_RANDOM_TOKENS, check_algorithm_noise
from spg_trainer.errors import ConfigError
from spg_trainer.likelihood import MASKINGS, KeyedStreams, accumulate, elbo, token_logps
from spg_trainer.likelihood.bounds import penalty
from spg_trainer.likelihood.logps import rate
from spg_trainer.likelihood.noise import check_masking, with_uniform_noise
from spg_trainer.likelihood.random_masks import ContextMasking
from spg_trainer.tensors import Rows
from tests.common.canvases import SIZE, VOCABULARY, open_fixture, plain_logps, rows_of_fixture
from tests.common.likelihood_cases import policy_of

FLAT = {name: replace(MASKINGS[name], num_masks=3) for name in ("flat", "flat_canvas")}
FLAT["flat_canvas"] = replace(FLAT["flat_canvas"], block_length=SIZE)


def streams_of(rows, seed=0):
    return KeyedStreams(seed, ("masks", 1), [(row, 0) for row in range(len(rows))])


def masks_of(rows, masking, seed=0):
    streams = streams_of(rows, seed)
    return with_uniform_noise(masking.draw(rows, streams), streams, VOCABULARY)


@pytest.mark.parametrize("name", FLAT)
@torch.no_grad()
def test_the_log_probabilities_are_those_of_plain_passes(name):
    model, rows = open_fixture("float64").model, rows_of_fixture()
    masks = masks_of(rows, FLAT[name])
    assert masks.conditioned.any() and not masks.conditioned.all()
    expected = plain_logps(model, rows, masks)
    for at_once in (1, 2, 9):
        found = token_logps(policy_of(model, None), rows, masks, at_once)
        assert (found - expected).abs().max() < 1e-9


@torch.no_grad()
def test_the_encoder_predicts_the_next_token_beside_the_noise():
    model, rows = open_fixture("float64").model, rows_of_fixture()
    masking = ContextMasking(num_masks=3, masked_copies=FLAT["flat"], context_weight=0.5)
    masks = masks_of(rows, masking)
    assert masks.from_context.tolist() == [[False, False, False, True]] * 3
    found = token_logps(policy_of(model, None), rows, masks, 4)
    assert (found - plain_logps(model, rows, masks)).abs().max() < 1e-9
    of_noise, of_context = found[:, :3].sum(-1).mean(-1), found[:, 3].sum(-1)
    torch.testing.assert_close(elbo(found, masks), of_noise + 0.5 * of_context)


def test_every_place_of_a_canvas_may_be_hidden_and_every_token_is_scored():
    rows = rows_of_fixture()
    masks = masks_of(rows, replace(FLAT["flat"], num_masks=400))
    hidden = masks.masked[:, :, rows.prompt_ids.shape[1] :]
    assert not masks.masked[:, :, : rows.prompt_ids.shape[1]].any()
    assert (masks.scored == rows.completion_mask[:, None]).all() and (masks.weight == masks.scored).all()
    assert (hidden.double().mean((0, 1)) - 0.5).abs().max() < 0.06  # t is uniform; also behind the end
    assert (masks.shown.double().mean() / (VOCABULARY - 1) - 0.5).abs() < 0.02
    assert (masks.conditioned.double().mean() - 0.5).abs() < 0.06


def test_one_canvas_weighs_for_all_in_the_mean():
    rows = rows_of_fixture()
    masks = masks_of(rows, replace(FLAT["flat_canvas"], num_masks=2000))
    terms = torch.arange(rows.completion_ids.shape[1]).double().expand_as(masks.scored) * masks.scored
    expected = (torch.arange(rows.completion_ids.shape[1]) * rows.completion_mask).sum(-1).double()
    assert (elbo(terms, masks) / expected - 1).abs().max() < 0.06
    assert masks.scored.view(3, 2000, 2, SIZE).any(-1).sum(-1).unique().tolist() == [1]


def test_the_noise_of_a_row_depends_on_its_key_alone():
    rows = rows_of_fixture()
    masks = masks_of(rows, FLAT["flat"])
    chosen = torch.tensor([2, 0])
    streams = KeyedStreams(0, ("masks", 1), [(2, 0), (0, 0)])
    some = with_uniform_noise(FLAT["flat"].draw(rows.select(chosen), streams), streams, VOCABULARY)
    assert torch.equal(some.shown, masks.shown[chosen]) and torch.equal(some.masked, masks.masked[chosen])
    assert not torch.equal(masks_of(rows, FLAT["flat"], seed=1).shown, masks.shown)
    # The tokens are drawn from a stream of their own: not from that of the places.
    assert not np.array_equal(
        streams_of(rows).of_noise(0, 0).random(4), streams_of(rows).of_mask(0, 0).random(4)
    )


def arguments_of(name):
    """The hyper-parameters with which an algorithm's recipe starts it on such a model."""
    own = {"masking": "flat_canvas" if name == "mle" else "flat", "num_masks": 2, "block_length": SIZE}
    own |= {"negatives": "elbo"} if name == "spg" else {}
    own |= {"context_weight": 1.0} if name == "mle" else {}
    return own | ({} if name == "mle" else {"p_mask_prompt": 0.0})


REPLAYED = {"tracerl", "d2_stepmerge"}  # test_trace.py


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name in ("spg", "mle", "unigrpo") else pytest.mark.slow)
        for name in sorted(WITH_RANDOM_TOKENS - REPLAYED)
    ],
)
def test_the_gradient_of_each_algorithm_is_that_of_plain_autograd(name):
    check_gradient(name, arguments_of(name))


def test_the_penalty_is_a_power_mean_over_the_copies_that_hide_a_token():
    arguments = {**arguments_of("spg"), "negatives": "penalty", "num_masks": 3}
    check_gradient("spg", arguments)
    rows = rows_of_fixture()
    masks = masks_of(rows, replace(FLAT["flat"], num_masks=3))
    logps = (
        -torch.rand(masks.scored.shape, dtype=torch.float64, generator=torch.manual_seed(1)) * masks.scored
    )
    hidden = masks.masked[:, :, rows.prompt_ids.shape[1] :]
    expected = []
    for row, length in enumerate(rows.completion_mask.sum(-1).tolist()):
        of_seen = [
            np.log(np.mean(np.exp(2.0 * logps[row, hidden[row, :, i], i].numpy()))) / 2.0
            for i in range(length)
            if hidden[row, :, i].any()
        ]
        expected.append(sum(of_seen) * length / len(of_seen))
    assert penalty(logps, masks, 2.0).tolist() == pytest.approx(expected, abs=1e-12)
    assert (~hidden & masks.scored).any()
    for more in ({"masking": "random"}, {**arguments, "masking": "elbo_eps"}):
        with pytest.raises(ConfigError, match=r"negatives=penalty is for masking=flat .*negatives=elbo"):
            algorithms.build("spg", {**more, "negatives": "penalty"})


def check_gradient(name, arguments, rows=None):
    """Compares `accumulate` with one graph through passes canvas by canvas. rows: three; None = the fixture's."""
    model = open_fixture("float64").model
    algorithm = algorithms.build(name, arguments)
    rows = (
        (rows_of_fixture() if rows is None else rows)
        .select(torch.tensor([0, 1, 0, 2]))
        .with_columns(
            episode=torch.arange(4),
            group=torch.tensor([0, 0, 1, 1]),
            generation=torch.tensor([0, 1, 0, 1]),
            turn=torch.zeros(4).long(),
        )
    )
    figures = {"rewards": torch.tensor([1.0, 0.0, 0.2, 1.0]).double()}
    if "correct" in algorithm.needs:
        figures["correct"] = torch.tensor([True, False, True, True])
    prepared = prepare_columns(algorithm, rows.with_columns(**figures, share_done=0.5))
    totals = {"completions": 4.0, "scored_completions": 4.0, "rewarded_completions": 4.0, "tokens": 40.0}
    masking = algorithm.make_masking()
    masks = masking.draw(rows, streams_of(rows)) if masking.records else masks_of(rows, masking)
    with torch.no_grad():
        near = 0.05 * torch.randn(masks.scored.shape, dtype=torch.float64, generator=torch.manual_seed(1))
        current = token_logps(policy_of(model, None), rows, masks, 2)
    batch = rows.with_columns(**prepared, totals=totals)
    batch = batch.with_columns(old_logps=current + near, ref_logps=current - near)
    if algorithm.compares == "update":
        batch = batch.with_columns(coefficients=torch.tensor([0.3, -0.2, 0.0, 0.1]).double())

    def loss_of(values):
        return loss_of_values(algorithm, masks, batch, values)

    expected_loss = loss_of(plain_logps(model, rows, masks)).loss
    expected_loss.backward()
    expected = {key: p.grad.clone() for key, p in model.named_parameters() if p.grad is not None}
    assert max(gradient.abs().max() for gradient in expected.values()) > 1e-4
    for at_once in (1, 4):
        model.zero_grad()
        result = accumulate(
            policy_of(model, None), batch, masks, loss_of, masks_at_once=at_once, compares=algorithm.compares
        )
        assert abs(float(result.loss - expected_loss)) <= 1e-9
        for key, p in model.named_parameters():
            if key in expected:
                assert (p.grad - expected[key]).abs().max() <= 1e-9, key


def test_what_does_not_go_with_the_noise_is_refused():
    with pytest.raises(ConfigError, match=r"masking=random: this model has no \[MASK\].*masking=flat"):
        check_masking("uniform", MASKINGS["random"], "random")
    with pytest.raises(ConfigError, match=r"masking=flat: this model hides a token by \[MASK\]"):
        check_masking("mask", MASKINGS["flat"], "flat")
    with pytest.raises(ConfigError, match=r"p_mask_prompt=0.15: this model's prompt is read by its encoder"):
        check_masking("uniform", replace(MASKINGS["flat"], p_mask_prompt=0.15), "flat")
    with pytest.raises(ConfigError, match=r"negatives=mix: SPG's upper bound holds only .* negatives=elbo"):
        algorithms.build("spg", {"masking": "flat", "p_mask_prompt": 0.0})
    others = {name for name in algorithms.ALGORITHMS if name not in WITH_RANDOM_TOKENS}
    assert {"justgrpo", "coupled_grpo", "spg_eubo"} <= others
    for name in others:
        with pytest.raises(
            ConfigError, match=f"algorithm.{name}: its loss is about tokens that are shown as"
        ):
            check_algorithm_noise(name, "uniform")
        check_algorithm_noise(name, "mask")


def test_behind_the_end_stand_end_tokens():
    rows = Rows(
        completion_ids=torch.tensor([[5, 1, 9, 9]]),
        completion_mask=torch.tensor([[True, True, False, False]]),
        unmask_step=torch.zeros(1, 4).long(),
    )
    filled = rows.fill_tail(1)
    assert filled.completion_ids.tolist() == [[5, 1, 1, 1]] and filled.completion_mask is rows.completion_mask


WORDS, PLACES, T = 3, 2, 4096  # tokens of the vocabulary and places of the completion in what is enumerated
CANVASES = [(a, b) for a in range(WORDS) for b in range(WORDS)]


def chances(x, t):
    """{canvas: its probability at noise t}: each place keeps the token of x, or with probability t draws any."""
    keep = [[t / WORDS + (1 - t) * (x[i] == v) for v in range(WORDS)] for i in range(PLACES)]
    return {z: keep[0][z[0]] * keep[1][z[1]] for z in CANVASES}


def bound_of_process(table, x, eps):
    """The ELBO of a process of T steps: from noise t to s, a place draws from the model with probability (t - s)/t.

    table: {canvas: (PLACES, WORDS) predictions}. The true reverse process draws the token of x instead.
    """
    grid, bound = np.concatenate([[0.0], np.linspace(eps, 1, T)]), 0.0
    for s, t in pairwise(grid):
        redrawn = (t - s) / t
        for z, chance in chances(x, t).items():
            for place in range(PLACES):
                p, q = redrawn * table[z][place], np.zeros(WORDS)
                p[z[place]] += 1 - redrawn
                q[x[place]] += redrawn
                q[z[place]] += 1 - redrawn
                is_possible = q > 0
                bound -= chance * (q * np.log(np.where(is_possible, q / p, 1.0)))[is_possible].sum()
    return bound


@pytest.mark.parametrize("eps", [0.1, pytest.param(0.01, marks=pytest.mark.slow)])
def test_elbo_eps_is_the_bound_of_the_process_that_it_names(eps):
    """All canvases at each t, weighed and valued by the masking and the measure; the mean over t by quadrature."""
    table = {z: np.random.default_rng(z).dirichlet(np.full(WORDS, 0.7), size=PLACES) for z in CANVASES}
    x, masking = (2, 0), replace(MASKINGS["elbo_eps"], num_masks=2, eps=eps)
    rows = Rows(
        prompt_ids=torch.zeros(1, 0).long(),
        prompt_mask=torch.zeros(1, 0).bool(),
        completion_ids=torch.tensor([x]),
        completion_mask=torch.ones(1, PLACES).bool(),
        unmask_step=torch.zeros(1, PLACES).long(),
        unmask_logps=torch.zeros(1, PLACES),
    )
    masks = masking.draw(rows, streams_of(rows))
    assert masks.rated.tolist() == [[True, False]]

    def values(z, rated):
        logits = torch.from_numpy(table[z]).log()
        pairs = torch.stack([torch.tensor(x), torch.tensor(z)], -1)
        return rate(logits, pairs) if rated else logits.gather(-1, pairs[:, :1]).squeeze(-1)

    def mean_at(t, rated):
        return sum(chance * values(z, rated) for z, chance in chances(x, t).items())

    nodes, weights = np.polynomial.legendre.leggauss(60)
    # The masking draws t = eps ** u, u uniform on 0..1.
    of_integral = sum(
        w / 2 * mean_at(eps ** ((u + 1) / 2), True) for u, w in zip(nodes, weights, strict=True)
    )
    found = float(elbo(torch.stack([of_integral, mean_at(eps, False)])[None], masks))
    assert found == pytest.approx(bound_of_process(table, x, eps), abs=6e-4 if eps == 0.1 else 6e-3)


def test_copies_of_elbo_eps_have_its_noise():
    rows = rows_of_fixture()
    masks = masks_of(rows, replace(MASKINGS["elbo_eps"], num_masks=400, eps=0.1))
    hidden = masks.masked[:, :, rows.prompt_ids.shape[1] :].double()
    # The mean of t is (1 - eps) / log(1/eps).
    assert abs(hidden[:, :-1].mean() - 0.9 / np.log(10)) < 0.02
    assert not masks.conditioned.any() and masks.rated[:, :-1].all() and not masks.rated[:, -1].any()
    many = [masks_of(rows, replace(MASKINGS["elbo_eps"], num_masks=2), seed) for seed in range(40)]
    last = torch.stack([m.masked[:, -1, rows.prompt_ids.shape[1] :] for m in many])
    assert abs(last.double().mean() - 0.1) < 0.03
    with pytest.raises(ConfigError, match=r"num_masks=1: masking=elbo_eps"):
        replace(MASKINGS["elbo_eps"], num_masks=1)
    with pytest.raises(ConfigError, match="masking=elbo_eps"):
        algorithms.build("diffu_grpo", {"masking": "elbo_eps", "p_mask_prompt": 0.0})


@pytest.mark.parametrize(
    "name", [*(pytest.param(name, marks=pytest.mark.slow) for name in ("espo", "raft")), "spg"]
)
def test_the_gradient_of_the_bound_is_that_of_plain_autograd(name):
    check_gradient(name, arguments_of(name) | {"masking": "elbo_eps", "num_masks": 3})
