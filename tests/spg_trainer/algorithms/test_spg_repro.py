"""SPG's reference code against `spg` and `spg_repro`."""

import json

import pytest
import torch

from spg_trainer.algorithms.spg import SPG, SPGRepro
from spg_trainer.settings.recorded import ENVIRONMENT
from tests.common.algorithm_cases import LENGTHS, SIZE, WITH_ZERO, make_batch
from tests.common.likelihood_cases import make_rollouts, seeded
from tests.common.trainer_cases import small_config, start


def repro(negatives="mix", masking="block", num_masks=2):
    return SPGRepro(masking, num_masks, 0.15, 4, negatives=negatives, eubo_beta=1.5, mix_weight=0.3)


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
