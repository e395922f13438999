"""Decoding under block-causal attention and shifted logits: against every rule spelled out, and what is refused."""

from dataclasses import replace
from itertools import product

import pytest
import torch

from spg_trainer.architecture.pattern import Pattern
from spg_trainer.errors import ConfigError
from spg_trainer.models import Policy, llada_config
from spg_trainer.rollout.sampler import check_sampling, sample_completions
from spg_trainer.settings.decoding import EvalSampling, Sampling
from tests.common.block_cases import PATTERNS, plain_block_sampler, with_pattern
from tests.common.marks import slow_if
from tests.common.rollout_cases import make_policy, make_prompts, pad, streams

BASE = Sampling(24, 8, 15)
PATTERNS = PATTERNS | {
    "blocks of 8": (Pattern(8), 0),
    "blocks of 8, shifted": (Pattern(8), 1),
    "blocks of 8 of the completion": (Pattern(8, "completion"), 1),
}
WAYS = {
    "whole blocks": Sampling(24, 4, 18),
    "sub-blocks": Sampling(24, 2, 12, temperature=1.0),
    "one step a block": Sampling(24, 4, 6, temperature=0.5),
    "random": Sampling(24, 4, 18, temperature=1.0, remasking="random"),
    "threshold": Sampling(24, 4, 24, unmasking="threshold", threshold=0.3),
    "short": Sampling(4, 4, 4, temperature=1.0),
    "longer than blocks": Sampling(24, 8, 15, temperature=1.0),
}
CACHES = ("none", "blocks")


def policy_of(name, ends=12):
    policy = make_policy(torch.float64, ends=ends)
    with_pattern(policy.model, *PATTERNS[name])
    return policy


def check_rows(out, expected, policy):
    for row, plain in enumerate(expected):
        end = plain.end(policy.end_token_ids)
        assert out.completion_ids[row, :end].tolist() == plain.tokens[:end]
        assert out.unmask_step[row, :end].tolist() == plain.steps[:end]
        assert out.unmask_logps[row, :end].tolist() == pytest.approx(plain.logps[:end], abs=1e-9)


def fits(name, way):
    """Every way for two patterns, two for the others."""
    size = PATTERNS[name][0].block_size
    every = name in ("sequence, shifted", "blocks of 8")
    return size % WAYS[way].block_length == 0 and (every or way in ("sub-blocks", "threshold"))


CASES = [(name, way) for name in PATTERNS for way in WAYS if fits(name, way)]
# Of the two patterns that have every way, each keeps a third of them.
SLOW = [case for number, case in enumerate(CASES) if number % 3]


@pytest.mark.parametrize("name, way", slow_if(CASES, lambda *case: case in SLOW))
def test_tokens_steps_and_logps_are_those_of_a_row_decoded_alone(name, way, at_length):
    """In one batch and where rows enter when others leave; without a cache and with the exact one."""
    policy, sampling = policy_of(name), WAYS[way]
    prompts = [*make_prompts(policy), make_prompts(policy)[0]]
    expected = [
        plain_block_sampler(policy.model, prompt, sampling, policy.mask_id, noise)
        for prompt, noise in zip(prompts, streams(len(prompts)), strict=True)
    ]
    assert sampling.max_completion_length < 9 or len({p.end(policy.end_token_ids) for p in expected}) > 1
    if PATTERNS[name][0].is_full:
        tried = [("none", None), ("none", 3)]
    else:
        tried = [*product(CACHES, (None, 3))] if at_length else [("none", None), ("blocks", 3)]
    for cache, rows_per_forward in tried:
        s, noises = replace(sampling, cache=cache), streams(len(prompts))
        inputs = pad(policy, prompts, 2)
        out = sample_completions(policy, *inputs, s, noises, rows_per_forward=rows_per_forward)
        check_rows(out, expected, policy)


@pytest.mark.parametrize("name", ["sequence, shifted", "blocks of 8"])
def test_the_cache_of_blocks_is_exact(name, device):
    """Tokens, steps and log-probabilities up to the end, with rows that leave and make room.

    What stands behind an end token depends on when the end is noticed, and is never read.
    """
    policy = make_policy(torch.float64, device=device)
    with_pattern(policy.model, *PATTERNS[name])
    prompts = make_prompts(policy) * 3
    inputs = [x.to(device) for x in pad(policy, prompts, 2)]
    found = []
    for cache, rows_per_forward in (("none", None), ("blocks", None), ("blocks", 5)):
        noise, s = streams(len(prompts), device=device), Sampling(24, 4, 12, temperature=1.0, cache=cache)
        found.append(sample_completions(policy, *inputs, s, noise, rows_per_forward=rows_per_forward))
    read = found[0].completion_mask
    for other in found[1:]:
        assert torch.equal(other.completion_mask, read)
        assert torch.equal(other.completion_ids[read], found[0].completion_ids[read])
        assert torch.equal(other.unmask_step[read], found[0].unmask_step[read])
        torch.testing.assert_close(other.unmask_logps[read], found[0].unmask_logps[read], rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", ["sequence", "completion, shifted"])
def test_a_cache_computes_a_block_once_it_is_final_and_then_no_more(name):
    """Columns of each pass: the prompt and the first block, then a block with the one before it, then it alone."""
    policy = replace(policy_of(name), end_token_ids=())
    widths, shift = [], policy.model.shift
    policy.model.get_input_embeddings().register_forward_hook(lambda *call: widths.append(call[2].shape[1]))
    sampling = Sampling(12, 2, 12, cache="blocks")
    sample_completions(policy, *pad(policy, [[1, 2, 3, 4, 5, 6, 7, 8]] * 2), sampling, None)
    later = [8 + shift, *[4 + shift] * 3]
    assert widths == [12, *[4 + shift] * 3, *later, *later]


@pytest.mark.parametrize("name", slow_if(["sequence", "full, shifted"], lambda name: name == "sequence"))
def test_edited_rows_do_not_depend_on_the_batch(name):
    """Rows whose blocks end after more or fewer passes over what is written, with end tokens that are replaced."""
    policy, prompts = policy_of(name), make_prompts(policy_of(name))
    editing = EvalSampling(24, 4, 12, unmasking="dynamic", threshold=0.3, editing_threshold=0.1)
    alone = [sample_completions(policy, *pad(policy, [prompt]), editing, None) for prompt in prompts]
    plain = sample_completions(policy, *pad(policy, prompts), replace(editing, editing_threshold=9.0), None)
    assert any(
        not torch.equal(one.completion_ids[0], row)
        for one, row in zip(alone, plain.completion_ids, strict=True)
    )
    assert len({int(one.unmask_step.max()) for one in alone}) > 1
    for cache in CACHES[: 1 if PATTERNS[name][0].is_full else 2]:
        for rows_per_forward in (None, 4):
            inputs, s = pad(policy, prompts, 1), replace(editing, cache=cache)
            out = sample_completions(policy, *inputs, s, None, rows_per_forward=rows_per_forward)
            for row, one in enumerate(alone):
                for field in ("completion_ids", "unmask_step", "completion_mask"):
                    assert torch.equal(getattr(out, field)[row], getattr(one, field)[0]), (row, field)


def test_rows_that_look_alike_may_be_at_different_blocks_where_tokens_are_edited():
    """Two words and many rows: one goes over its first block again, another, as long, begins its second."""
    config = llada_config(
        d_model=16, n_layers=2, n_heads=2, mlp_hidden_size=24, vocab_size=3, max_sequence_length=32
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = config.model_class(config).double().eval()
    for parameter in model.parameters():
        parameter.data.mul_(12 if parameter.ndim > 1 else 1)
    policy = Policy(model, None, 2, 0, (), "test")
    editing = EvalSampling(4, 2, 2, 1.0, unmasking="dynamic", threshold=0.5, editing_threshold=0.3)
    rows, prompt = 40, [1, 0, 1]
    together = sample_completions(policy, *pad(policy, [prompt] * rows), editing, streams(rows))
    for row, noise in enumerate(streams(rows)):
        alone = sample_completions(policy, *pad(policy, [prompt]), editing, [noise])
        assert torch.equal(alone.completion_ids[0], together.completion_ids[row]), row
        assert torch.equal(alone.unmask_step[0], together.unmask_step[row]), row


def test_caches_and_blocks_that_do_not_fit_the_attention_are_refused_with_what_would():
    full, blocks = policy_of("full, shifted"), policy_of("blocks of 8")
    for policy, settings, words in (
        (full, {"cache": "blocks"}, ["--cache blocks", "--cache none", "--cache dual"]),
        (blocks, {"cache": "dual"}, ["--cache dual", "--cache blocks"]),
        (blocks, {"cache": "prefix"}, ["--cache prefix", "--cache blocks"]),
        (
            blocks,
            {"block_length": 3, "diffusion_steps": 16},
            ["--block-length 3", "8 tokens", "--block-length 2"],
        ),
        (blocks, {"block_length": 12, "diffusion_steps": 12}, ["--block-length 12", "--block-length 8"]),
    ):
        with pytest.raises(ConfigError) as error:
            check_sampling(policy, replace(BASE, **settings))
        assert all(word in str(error.value) for word in words), error.value
    assert replace(BASE, cache="blocks").shortcuts == [] and replace(BASE, cache="dual").shortcuts
