"""Models rigged to go wrong: a mask that wants to be sampled, ties, nonsense, noise from the wrong place."""

from dataclasses import replace

import pytest
import torch

from spg_trainer.sampler import log_exponential, sample_completions
from spg_trainer.seeding import generator
from tests.common.rollout_cases import LENGTHS, MODES, SAMPLING, make_policy, make_prompts, pad, streams


@pytest.mark.parametrize(("temperature", "remasking"), MODES)
def test_the_mask_is_never_sampled(temperature, remasking):
    policy = replace(make_policy(torch.float32), end_token_ids=())
    head = policy.model.get_output_embeddings()
    features = torch.zeros(32)
    features[0] = 1.0
    with torch.no_grad():
        policy.model.model.norm.weight.copy_(features)
        head.weight[:, 0] = 0.0
    # The last norm leaves one feature; its sign decides, so a row and its negative catch both.
    for sign in (40.0, -40.0):
        with torch.no_grad():
            head.weight[policy.mask_id, 0] = sign
        sampling = replace(SAMPLING, temperature=temperature, remasking=remasking)
        out = sample_completions(policy, *pad(policy, make_prompts(policy)), sampling, streams(len(LENGTHS)))
        assert not (out.completion_ids == policy.mask_id).any()
        assert (out.unmask_step >= 0).all()


def test_a_broken_model_neither_crashes_nor_samples_the_mask():
    policy = replace(make_policy(torch.float32), end_token_ids=())
    with torch.no_grad():
        policy.model.get_output_embeddings().weight.fill_(float("nan"))
    for temperature in (0.0, 1.0):
        out = sample_completions(
            policy, *pad(policy, [[5, 6]]), replace(SAMPLING, temperature=temperature), streams(1)
        )
        assert not (out.completion_ids == policy.mask_id).any()
        assert out.unmask_logps.isnan().all()


def test_the_forbidden_mask_still_counts_in_the_probabilities():
    policy = replace(make_policy(torch.float64), end_token_ids=())
    with torch.no_grad():
        policy.model.get_output_embeddings().weight.zero_()
    out = sample_completions(policy, *pad(policy, [[5, 6]]), SAMPLING, None)
    vocabulary = policy.model.config.vocab_size
    assert torch.allclose(out.unmask_logps, -torch.tensor(float(vocabulary), dtype=torch.float64).log())


def test_ties_go_to_the_first_token_and_the_first_position():
    policy = replace(make_policy(torch.float32), end_token_ids=())
    with torch.no_grad():
        policy.model.get_output_embeddings().weight.zero_()
    out = sample_completions(policy, *pad(policy, [[5, 6]]), SAMPLING, None)
    assert (out.completion_ids == 0).all()
    assert out.unmask_step[0].tolist() == sorted(out.unmask_step[0].tolist())


def test_one_generator_of_each_row_is_used_and_no_global_one(device):
    policy = make_policy(torch.float32, device=device)
    prompts = [make_prompts(policy)[0]] * 3
    sampling = replace(SAMPLING, temperature=1.0)
    state = torch.cuda.get_rng_state if device == "cuda" else torch.get_rng_state
    before = state()
    twins = [generator(1, "row", device=device) for _ in prompts]
    same = sample_completions(policy, *pad(policy, prompts), sampling, twins)
    assert torch.equal(state(), before)
    assert torch.equal(same.completion_ids[0], same.completion_ids[1])
    other = sample_completions(policy, *pad(policy, prompts), sampling, streams(3, device=device))
    assert not torch.equal(other.completion_ids[0], other.completion_ids[1])


def test_only_an_exact_zero_is_kept_from_the_logarithm(monkeypatch):
    """Real draws are as small as 2**-31 and smaller; clipping them would change the law of rare tokens."""
    draws = torch.tensor([0.0, 2.0**-100, 2.0**-31, 1.0])
    monkeypatch.setattr(torch.Tensor, "exponential_", lambda self, generator: self.copy_(draws))
    noise = log_exponential((4,), [None, None], torch.device("cpu"))
    assert noise.shape == (2, 4) and noise.isfinite().all()
    assert torch.allclose(noise[0, 1:], draws[1:].log())
    assert noise[0, 0] < noise[0, 1]


def test_large_heads_are_computed_in_pieces(monkeypatch):
    policy = make_policy(torch.float64)
    prompts = make_prompts(policy)
    sampling = replace(SAMPLING, temperature=1.0, remasking="random")
    whole = sample_completions(policy, *pad(policy, prompts), sampling, streams(len(prompts)))
    monkeypatch.setattr("spg_trainer.sampler._MAX_LOGITS", 2 * 8 * 266)
    pieces = sample_completions(policy, *pad(policy, prompts), sampling, streams(len(prompts)))
    assert torch.equal(whole.completion_ids, pieces.completion_ids)
    assert torch.equal(whole.unmask_step, pieces.unmask_step)
