"""The trajectory masks joined with the real sampler: they put together again what the sampler said of its path."""

from dataclasses import fields, replace

import pytest
import torch

from spg_trainer.batch import Rollouts
from spg_trainer.config import Sampling
from spg_trainer.likelihood import Masks, elbo, token_logps
from spg_trainer.likelihood.masks import TrajectoryMasking
from spg_trainer.models import Policy
from spg_trainer.sampler import sample_completions
from tests.common.likelihood_cases import seeded
from tests.common.rollout_cases import SAMPLING, make_policy, make_prompts, pad, streams

MODES = [(t, r) for t in (0.0, 1.0) for r in ("low_confidence", "random")]


def sampled(sampling: Sampling) -> tuple[Policy, Rollouts]:
    """Rollouts of a small float64 model; the first row ends at its first token, others later or never."""
    policy = replace(make_policy(torch.float64), end_token_ids=())
    prompts = make_prompts(policy)
    ids, mask = pad(policy, prompts, extra=2)
    endless = sample_completions(policy, ids, mask, sampling, streams(len(prompts)))
    ends = {int(endless.completion_ids[0, 0]), int(endless.completion_ids[1, 10])}
    policy = replace(policy, end_token_ids=tuple(ends))
    return policy, sample_completions(policy, ids, mask, sampling, streams(len(prompts)))


def every_step(masks: Masks, row: int) -> Masks:
    """The masks of one row that cover each of its S steps once; several masks take different steps."""
    steps = int(masks.weight[row].max())
    parts = {f.name: getattr(masks, f.name)[row : row + 1] for f in fields(Masks)}
    return Masks(
        **{name: x[:, :steps] if name in ("masked", "scored", "weight") else x for name, x in parts.items()}
    )


@pytest.mark.parametrize(("temperature", "remasking"), MODES)
def test_the_elbo_over_all_steps_is_what_the_sampler_said_of_its_path(temperature, remasking):
    sampling = replace(SAMPLING, temperature=temperature, remasking=remasking)
    policy, out = sampled(sampling)
    lengths = out.completion_mask.sum(-1)
    assert lengths.min() == 1 and lengths.max() > 8, "one text ends at once, one goes over several blocks"
    masks = TrajectoryMasking(sampling.diffusion_steps).draw(out, seeded())
    logps = token_logps(policy.model, out, masks, policy.mask_id)
    expected = out.unmask_logps * out.completion_mask
    for row in range(len(out)):
        whole = every_step(masks, row)
        steps = whole.scored.shape[1]
        assert steps == len(out.unmask_step[row, : lengths[row]].unique())
        bound = float(elbo(logps[row : row + 1, :steps], whole))
        assert bound == pytest.approx(float(expected[row].sum()), abs=1e-10)
        assert torch.allclose(logps[row, :steps].sum(0), expected[row], rtol=0, atol=1e-10)
