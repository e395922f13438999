"""SPG's reference code, written down again step by step from its description, against `spg_repro`."""

import json
from functools import partial

import pytest
import torch

from spg_trainer.algorithms.spg import SPG
from spg_trainer.algorithms.spg_repro import SPGRepro
from spg_trainer.batch import Batch
from spg_trainer.likelihood import accumulate
from spg_trainer.likelihood.masks import BlockModuloMasking
from spg_trainer.settings.sources import ENVIRONMENT
from spg_trainer.training.setup import start
from tests.common.likelihood_cases import (
    make_rollouts,
    naive_logps,
    relative,
    seeded,
    tiny_model,
    whole_gradient,
)
from tests.common.trainer_cases import small_config

MASK = 257
LENGTHS, SIZE = [12, 5, 1, 9], 12
ADVANTAGES = torch.tensor([0.75, -0.25, 0.0, -0.9], dtype=torch.float64)


def case(negatives="mix", num_masks=2, masking="block", beta=1.5):
    algorithm = SPGRepro(masking, num_masks, 0.15, 4, negatives=negatives, eubo_beta=beta, mix_weight=0.3)
    rollouts = make_rollouts(LENGTHS, SIZE, [4, 2, 3, 1])
    masks = algorithm.make_masking().draw(rollouts, seeded(7))
    totals = {"completions": 4.0, "tokens": float(sum(LENGTHS))}
    return algorithm, rollouts, masks, Batch(rollouts.completion_mask, ADVANTAGES, totals)


def as_the_code_does(logps, rollouts, masks, beta, omega, mode):
    """Token by token, in probabilities, from what the model was shown; divided by the tokens at hand."""
    width, total = rollouts.prompt_ids.shape[1], 0.0
    for b in range(len(rollouts)):
        n, samples = int(rollouts.completion_mask[b].sum()), masks.masked.shape[1]
        shown = masks.masked[b, :, width:] & rollouts.completion_mask[b]
        masked = [shown[s].nonzero().squeeze(-1).tolist() for s in range(samples)]
        means = [sum(logps[b, s, i] for i in masked[s]) / len(masked[s]) for s in range(samples)]
        elbo_bar = sum(means) / samples
        y = {}
        for s in range(samples):
            t_hat = len(masked[s]) / n
            for i in masked[s]:
                y[i] = y.get(i, 0.0) + logps[b, s, i].exp() ** beta / t_hat / samples
        eubo_bar = sum(value.log() for value in y.values()) / len(y) / beta
        mix_bar = omega * eubo_bar + (1 - omega) * elbo_bar
        negative = {"elbo": elbo_bar, "eubo": eubo_bar, "mix": mix_bar, "zero": 0.0 * elbo_bar}[mode]
        advantage = float(ADVANTAGES[b])
        total = total - advantage * (elbo_bar if advantage > 0 else negative) * n
    return total / float(rollouts.completion_mask.sum())


@pytest.mark.parametrize("masking", ["block", "random"])
@pytest.mark.parametrize("negatives", ["zero", "elbo", "eubo", "mix"])
@pytest.mark.parametrize("num_masks", [2, 3])
def test_loss_and_gradient_are_those_of_the_reference(negatives, masking, num_masks):
    algorithm, rollouts, masks, batch = case(negatives, num_masks, masking)
    model = tiny_model()
    logps = naive_logps(model, rollouts, masks, MASK)
    direct = as_the_code_does(logps, rollouts, masks, 1.5, 0.3, negatives)
    direct.backward()
    expected = whole_gradient(model)
    model.zero_grad(set_to_none=True)
    loss_fn = partial(algorithm.loss, masks=masks, batch=batch)
    found = accumulate(model, rollouts, masks, loss_fn, mask_id=MASK, masks_at_once=1)
    assert float(found.loss) == pytest.approx(float(direct.detach()), rel=1e-12)
    assert relative(whole_gradient(model), expected) < 1e-10


def test_it_is_spg_with_block_masks_but_for_the_draw_of_blocks():
    """3.4.1 and 3.4.3: means times length over all tokens are the sums that `normalizer=tokens` divides."""
    algorithm, _, masks, batch = case()
    same = SPG("block", 2, 0.15, 4, eubo_beta=1.5, mix_weight=0.3, normalizer="tokens")
    logps = -3 * torch.rand(masks.scored.shape, dtype=torch.float64) * masks.scored
    losses = [float(form.loss(logps, masks, batch).loss) for form in (algorithm, same)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-12)
    assert isinstance(algorithm.make_masking(), BlockModuloMasking)


def test_improbable_tokens_are_kept_where_the_reference_loses_them():
    """Its powers underflow and the token counts as not masked; here loss and gradient stay finite and count it."""
    algorithm, _, masks, batch = case("eubo")
    logps = (-200.0 * masks.scored).requires_grad_()
    loss = algorithm.loss(logps, masks, batch).loss
    (gradient,) = torch.autograd.grad(loss, logps)
    assert loss.isfinite() and gradient.isfinite().all()
    assert torch.equal(gradient[1] != 0, masks.scored[1])


def test_the_reproduction_ends_completions_with_eos_only(tmp_path):
    assert SPG.end_tokens == "any"
    run = start(small_config(tmp_path / "run", algorithm="spg_repro", algorithm_args={}), quiet=True)
    assert run.policy.end_token_ids == (run.policy.tokenizer.eos_token_id,)
    run.folder.release()
    assert json.loads((tmp_path / "run" / ENVIRONMENT).read_text())["ends"] == "eos"
