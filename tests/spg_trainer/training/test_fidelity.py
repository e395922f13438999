"""How far fast decoding is from exact: figures that are right where both are, and where they are not."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from spg_trainer import train
from spg_trainer.likelihood.logps import path_logps
from spg_trainer.rollout.player import Player
from spg_trainer.settings.decoding import Decoding
from spg_trainer.tensors import Rows
from spg_trainer.training.fidelity import decoding_fidelity, fidelity_means, fidelity_sums
from tests.common.marks import slow_if
from tests.common.process_cases import dynamic_config
from tests.common.rollout_cases import SAMPLING, make_policy, make_prompts, pad
from tests.common.trainer_cases import rows, small_config, start


def rolled(policy, sampling, seed=3, step=5):
    prompts = make_prompts(policy) * 2
    keys = [("rollout", step, number, 0) for number in range(len(prompts))]
    rollouts = Player(policy, sampling, seed).sample(pad(policy, prompts, 2), keys)
    count = len(prompts)
    none = [None] * count
    judged = {"rewards": np.zeros(count), "components": {}, "correct": np.zeros(count, bool)}
    judged |= {"reason": [""] * count, "truncated": np.zeros(count, bool)}
    texts = {"completions": [""] * count, "extracted": none, "traceback": none, "replies": none}
    return rollouts, Rows.full_groups(count, 1, **vars(rollouts), **judged, **texts)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_exact_decoding_agrees_with_itself(temperature):
    policy, sampling = make_policy(torch.float64), replace(SAMPLING, temperature=temperature)
    rollouts, scored = rolled(policy, sampling)
    recorded = rollouts.unmask_logps.masked_fill(~rollouts.completion_mask, 0)
    assert torch.allclose(path_logps(policy, rollouts), recorded, atol=1e-10)
    means = fidelity_means([fidelity_sums(Player(policy, sampling, seed=3), scored, step=5)])
    assert means["decoding/equal_tokens"] == 1.0
    assert means["decoding/logp"] == pytest.approx(means["decoding/logp_exact"], abs=1e-10)


def test_a_cache_shows_in_both_figures():
    policy, sampling = make_policy(torch.float64), replace(SAMPLING, cache="dual", temperature=1.0)
    rollouts, scored = rolled(policy, sampling)
    eight = rollouts.select(torch.arange(8))
    means = fidelity_means([fidelity_sums(Player(policy, sampling, seed=3), scored, step=5)])
    written = eight.completion_mask
    assert means["decoding/logp"] == pytest.approx(float(eight.unmask_logps[written].mean()))
    assert means["decoding/logp_exact"] == pytest.approx(float(path_logps(policy, eight)[written].mean()))
    assert abs(means["decoding/logp"] - means["decoding/logp_exact"]) > 0.01
    assert 0 < means["decoding/equal_tokens"] < 1


EXACT_CACHE = {"cache": "window", "window_tokens": 99}
"""A cache that changes nothing, since a window of 99 tokens reaches from any block over the whole completion."""


def looked_at(config):
    """The completions of a run's first step, and what is recorded of their decoding."""
    run = start(config, quiet=True)
    scored = run.source.collect(0)
    run.folder.release()
    return scored, decoding_fidelity(run, scored)


@pytest.mark.parametrize(
    "law",
    slow_if(
        [{"top_p": 0.5}, {"top_k": 3}, {"eos_penalty": 2.0}, {"min_completion_length": 6}],
        lambda law: "top_p" not in law and "eos_penalty" not in law,
    ),
    ids=lambda law: next(iter(law)),
)
def test_a_setting_of_what_is_drawn_is_no_approximation_and_its_logps_are_not_mixed_with_the_models(
    law, tmp_path
):
    assert looked_at(small_config(tmp_path / "plain", **law))[1] == {}
    _, metrics = looked_at(small_config(tmp_path / "cache", **law, **EXACT_CACHE))
    assert metrics == {"decoding/equal_tokens": 1.0}


def test_a_cut_changes_nothing_of_greedy_decoding():
    policy, sampling = make_policy(torch.float64), replace(SAMPLING, top_p=0.5, temperature=0.0)
    _, scored = rolled(policy, sampling)
    means = fidelity_means([fidelity_sums(Player(policy, sampling, seed=3), scored, step=5)])
    assert means["decoding/logp"] == pytest.approx(means["decoding/logp_exact"], abs=1e-10)


def test_only_the_first_batch_of_a_step_is_looked_at(tmp_path):
    nothing_pays = {"size": 8, "dull": ",".join(map(str, range(8)))}
    config = dynamic_config(
        tmp_path, prompts_per_step=1, num_generations=2, env_args=nothing_pays, **EXACT_CACHE
    )
    scored, metrics = looked_at(config)
    assert scored.batches == 8 and len(scored) == 16
    assert metrics["decoding/equal_tokens"] == 1.0


def test_a_run_records_them_with_its_samples(tmp_path):
    config = small_config(tmp_path / "run", cache="dual", sample_steps=2)
    train(config, quiet=True)
    metrics = rows(tmp_path / "run" / "metrics.jsonl")
    assert ["decoding/logp" in row for row in metrics] == [False, True, True]
    by_schedule = config.rollout.tokens_per_step
    assert [row["completions/tokens_per_pass"] for row in metrics] == pytest.approx([by_schedule] * 3)


def test_the_name_of_an_evaluation_says_a_cut_which_is_no_approximation():
    decoding = Decoding(top_p=0.9, cache="dual", eos_penalty=1.0)
    assert decoding.shortcuts == ["cache dual"] and decoding.unusual == ["top_p 0.9", "cache dual"]
