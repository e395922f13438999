"""How far fast decoding is from exact: figures that are right where both are, and where they are not."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from spg_trainer import train
from spg_trainer.rollout.scored import Scored
from spg_trainer.rollout.tokens import sample
from spg_trainer.tensors import Place
from spg_trainer.training.fidelity import exact_logps, fidelity_means, fidelity_sums
from tests.common.rollout_cases import SAMPLING, make_policy, make_prompts, pad
from tests.common.trainer_cases import rows, small_config


def rolled(policy, sampling, seed=3, step=5):
    prompts = make_prompts(policy) * 2
    keys = [("rollout", step, number, 0) for number in range(len(prompts))]
    rollouts = sample(policy, pad(policy, prompts, 2), sampling, seed, keys, None)
    count = len(prompts)
    none = [None] * count
    judged = {"rewards": np.zeros(count), "components": {}, "correct": np.zeros(count, bool)}
    judged |= {"reason": [""] * count, "truncated": np.zeros(count, bool)}
    texts = {"completions": [""] * count, "extracted": none, "traceback": none, "replies": none}
    return rollouts, Scored(Place.of_groups(count, 1), [], rollouts=rollouts, **judged, **texts)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_exact_decoding_agrees_with_itself(temperature):
    policy, sampling = make_policy(torch.float64), replace(SAMPLING, temperature=temperature)
    rollouts, scored = rolled(policy, sampling)
    recorded = rollouts.unmask_logps.masked_fill(~rollouts.completion_mask, 0)
    assert torch.allclose(exact_logps(policy, rollouts), recorded, atol=1e-10)
    means = fidelity_means([fidelity_sums(policy, scored, sampling, 3, 5, None)])
    assert means["decoding/equal_tokens"] == 1.0
    assert means["decoding/logp"] == pytest.approx(means["decoding/logp_exact"], abs=1e-10)


def test_a_cache_shows_in_both_figures():
    policy, sampling = make_policy(torch.float64), replace(SAMPLING, cache="dual", temperature=1.0)
    rollouts, scored = rolled(policy, sampling)
    eight = rollouts.select(torch.arange(8))
    means = fidelity_means([fidelity_sums(policy, scored, sampling, 3, 5, None)])
    written = eight.completion_mask
    assert means["decoding/logp"] == pytest.approx(float(eight.unmask_logps[written].mean()))
    assert means["decoding/logp_exact"] == pytest.approx(float(exact_logps(policy, eight)[written].mean()))
    assert abs(means["decoding/logp"] - means["decoding/logp_exact"]) > 0.01
    assert 0 < means["decoding/equal_tokens"] < 1


def test_a_run_records_them_with_its_samples(tmp_path):
    train(small_config(tmp_path / "run", cache="dual", sample_steps=2), quiet=True)
    metrics = rows(tmp_path / "run" / "metrics.jsonl")
    assert ["decoding/logp" in row for row in metrics] == [False, True, True]
    assert all(row["completions/tokens_per_pass"] > 0 for row in metrics)
