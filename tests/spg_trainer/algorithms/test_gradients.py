"""What an algorithm says that its loss compares saves passes through the model, and changes no gradient."""

from dataclasses import replace
from functools import cache, partial
from itertools import product

import pytest
import torch

from spg_trainer.algorithms import ALGORITHMS, build
from spg_trainer.algorithms.base import loss_of_values
from spg_trainer.likelihood import accumulate
from spg_trainer.likelihood import logps as likelihood_logps
from tests.common.algorithm_cases import (
    MASK,
    coefficients,
    declared,
    prepare,
    sampled,
)
from tests.common.likelihood_cases import (
    naive_logps,
    policy_of,
    relative,
    seeded,
    tiny_model,
    whole_gradient,
)
from tests.common.marks import REPRESENTATIVES, slow_if

LENGTHS, SIZE, PROMPTS = [9, 4, 1, 7], 9, [4, 2, 3, 1]
ADVANTAGES = torch.tensor([1.0, -1.0, 0.6, -0.7], dtype=torch.float64)
MANY = {"num_masks": 4, "block_length": 2}
WITH_PENALTY = (
    "diffu_grpo",
    "espo",
    "unigrpo",
    "d2_stepmerge",
    "cj_grpo",
    "coupled_grpo",
)
"""By default, to a reference."""
OTHER_BETA = dict.fromkeys(WITH_PENALTY, 0.0) | dict.fromkeys(("gdpo", "agrpo"), 0.1)
CASES = [(name, on_policy) for name in ALGORITHMS for on_policy in (True, False)]


@cache
def case(name: str, on_policy: bool, **arguments):
    """The algorithm and four completions in two groups, with old logps beside the current ones or none."""
    given = {"p_mask_prompt": 0.2, **MANY, **arguments}
    if name in (
        "justgrpo",
        "justgrpo_repro",
        "vrpo",
        "agrpo",
        "cj_grpo",
        "forkgrpo",
        "slim_rl",
        "tracerl",
        "mapg",
    ):
        given["p_mask_prompt"] = 0.0
    if name == "coupled_grpo":
        given["num_masks"] = 5
    algorithm, model = build(name, given), tiny_model(layers=1)
    rewards = torch.tensor([[1.0, 0.0], [1.0, 0.0]], dtype=torch.float64)
    rollouts = prepare(algorithm, rewards, sampled())
    masks = algorithm.make_masking().draw(rollouts, seeded())
    with torch.no_grad():
        logps = naive_logps(model, rollouts, masks, MASK)
    noise = torch.randn(2, *logps.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    (old, old_measured), (ref, _) = map(masks.split, (logps + 0.4 * noise) * masks.valued)
    totals = {"completions": 8.0, "tokens": 50.0, "scored_completions": 4.0, "rewarded_completions": 4.0}
    batch = rollouts.with_columns(advantages=ADVANTAGES, totals=totals, ref_logps=ref)
    if not on_policy:
        batch = batch.with_columns(old_logps=old, old_measured=old_measured)
    if algorithm.compares == "update":
        batch = batch.with_columns(coefficients=coefficients(algorithm, masks, batch, logps))
    return algorithm, model, rollouts, masks, batch


@pytest.mark.parametrize(
    "name, on_policy", slow_if(CASES, lambda name, on_policy: on_policy and name not in REPRESENTATIVES)
)
def test_the_gradient_is_that_of_plain_autograd_and_the_metrics_are_those_of_all_logps(
    name, on_policy, monkeypatch, at_length
):
    """In chunks that hold completions, copies, or parts of them, and in few or many passes."""
    for arguments in ({}, {"beta": OTHER_BETA[name]}) if name in OTHER_BETA else ({},):
        algorithm, model, rollouts, masks, batch = case(name, on_policy, **arguments)
        loss_fn = partial(loss_of_values, algorithm, masks, batch)
        naive = naive_logps(model, rollouts, masks, MASK)
        expected = loss_fn(naive)
        model.zero_grad(set_to_none=True)
        expected.loss.backward()
        gradient = whole_gradient(model)
        assert float(gradient.norm()) > 1e-6
        chunks, passes = (10, 1000, 3), (1, 2, masks.scored.shape[1])
        for chunk_rows, masks_at_once in (product if at_length else zip)(chunks, passes):
            monkeypatch.setattr(likelihood_logps, "rows_per_chunk", lambda vocabulary, rows=chunk_rows: rows)
            model.zero_grad(set_to_none=True)
            options = {"masks_at_once": masks_at_once, **declared(algorithm)}
            found = accumulate(policy_of(model, MASK), rollouts, masks, loss_fn, **options)
            assert relative(whole_gradient(model), gradient) < 1e-10
            for key, metric in expected.metrics.items():
                assert float(found.metrics[key].total) == pytest.approx(float(metric.total), rel=1e-10)
            assert float(found.loss) == pytest.approx(float(expected.loss), rel=1e-10)


@pytest.mark.parametrize("name", ["raft", "vrpo"])
@pytest.mark.parametrize("head", ["learns", "frozen"])
def test_logits_are_computed_again_only_for_a_head_that_learns(monkeypatch, name, head):
    """And there only those before the last chunk, which is kept."""
    algorithm, model, rollouts, masks, batch = case(name, True, masking="random")
    model.get_output_embeddings().weight.requires_grad_(head == "learns")
    rows, original = [], likelihood_logps.softmax
    monkeypatch.setattr(likelihood_logps, "rows_per_chunk", lambda vocabulary: 30)
    monkeypatch.setattr(
        likelihood_logps,
        "softmax",
        lambda states, *others: rows.append(len(states)) or original(states, *others),
    )
    options = {"masks_at_once": 4, **declared(algorithm)}
    accumulate(
        policy_of(model, MASK), rollouts, masks, partial(loss_of_values, algorithm, masks, batch), **options
    )
    positions = int(masks.scored.sum())
    assert 30 < positions < 60
    assert rows == ([30, positions - 30, 30] if head == "learns" else [30, positions - 30])


def test_the_last_layer_computes_scored_columns_only(monkeypatch):
    import spg_trainer.models.forward as states

    widths, original = [], states.hidden_states

    def watched(model, ids, keep, **more):
        widths.append(keep.shape[1])
        return original(model, ids, keep=keep, **more)

    monkeypatch.setattr(states, "hidden_states", watched)
    algorithm, model, rollouts, masks, batch = case("justgrpo", True)
    options = {"masks_at_once": 1, **declared(algorithm)}
    accumulate(
        policy_of(model, MASK), rollouts, masks, partial(loss_of_values, algorithm, masks, batch), **options
    )
    assert set(widths) == {1}, "one token of each copy is scored"
    many = replace(masks, scored=masks.scored.any(1, keepdim=True), masked=masks.masked[:, :1])
    likelihood_logps.token_logps(policy_of(model, MASK), rollouts, replace(many, weight=masks.weight[:, :1]))
    assert widths[-1] == int(many.scored.sum(-1).max())
