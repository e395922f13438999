"""SPG's reference code, written down again step by step from its description, against `spg_repro`."""

import json

import pytest
import torch

from spg_trainer.algorithms.spg import SPG
from spg_trainer.algorithms.spg_repro import SPGRepro
from spg_trainer.settings.sources import ENVIRONMENT
from spg_trainer.training.setup import start
from tests.common.algorithm_cases import LENGTHS, SIZE, WITH_ZERO, largest_error, make_batch
from tests.common.likelihood_cases import make_rollouts, seeded
from tests.common.trainer_cases import small_config


def as_the_code_does(mode):
    """Token by token, in probabilities, from what the model was shown; divided by the tokens of the update."""
    beta, omega = 1.5, 0.3

    def formula(row):
        n, samples = row.length, len(row.logps)
        masked = [row.scored[s].nonzero().squeeze(-1).tolist() for s in range(samples)]
        elbo_bar = (
            sum(sum(row.logps[s, i] for i in masked[s]) / len(masked[s]) for s in range(samples)) / samples
        )
        y = {}
        for s in range(samples):
            t_hat = len(masked[s]) / n
            for i in masked[s]:
                y[i] = y.get(i, 0.0) + row.logps[s, i].exp() ** beta / t_hat / samples
        eubo_bar = sum(value.log() for value in y.values()) / len(y) / beta
        mix_bar = omega * eubo_bar + (1 - omega) * elbo_bar
        negative = {"elbo": elbo_bar, "eubo": eubo_bar, "mix": mix_bar, "zero": 0.0 * elbo_bar}[mode]
        return -row.advantage * (elbo_bar if row.advantage > 0 else negative) * n / 50

    return formula


def repro(negatives="mix", masking="block", num_masks=2):
    return SPGRepro(masking, num_masks, 0.15, 4, negatives=negatives, eubo_beta=1.5, mix_weight=0.3)


@pytest.mark.parametrize("masking", ["block", "random"])
@pytest.mark.parametrize("negatives", ["zero", "elbo", "eubo", "mix"])
@pytest.mark.parametrize("num_masks", [2, 3])
def test_loss_and_gradient_are_those_of_the_reference(negatives, masking, num_masks):
    algorithm = repro(negatives, masking, num_masks)
    assert largest_error(algorithm, as_the_code_does(negatives), advantages=WITH_ZERO) < 1e-10


def drawn(algorithm):
    """Its masks of some completions, and their batch."""
    rollouts = make_rollouts(LENGTHS, SIZE)
    return algorithm.make_masking().draw(rollouts, seeded(7)), make_batch(rollouts.completion_mask, WITH_ZERO)


def test_it_is_spg_with_block_masks_but_for_the_draw_of_blocks():
    """3.4.1 and 3.4.3: means times length over all tokens are the sums that `normalizer=tokens` divides."""
    algorithm = repro()
    masks, batch = drawn(algorithm)
    same = SPG("block", 2, 0.15, 4, eubo_beta=1.5, mix_weight=0.3, normalizer="tokens")
    logps = -3 * torch.rand(masks.scored.shape, dtype=torch.float64) * masks.scored
    losses = [float(form.loss(logps, masks, batch).loss) for form in (algorithm, same)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-12)
    assert algorithm.make_masking().modulo


def test_improbable_tokens_are_kept_where_the_reference_loses_them():
    """Its powers underflow and the token counts as not masked; here loss and gradient stay finite and count it."""
    algorithm = repro("eubo")
    masks, batch = drawn(algorithm)
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
