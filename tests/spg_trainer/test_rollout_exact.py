"""Exact decoding against the plain LLaDA sampler of rollout_cases: tokens, steps, log-probabilities, work left out."""

from collections import Counter
from dataclasses import replace
from functools import cache

import pytest
import torch

from spg_trainer.config import Sampling
from spg_trainer.sampler import sample_completions
from tests.common.rollout_cases import (
    LENGTHS,
    MODES,
    SAMPLING,
    Plain,
    make_policy,
    make_prompts,
    pad,
    plain_rows,
    streams,
)

CLOSE = 1e-5


@cache
def plain_in_float64(sampling: Sampling) -> list[Plain]:
    policy = make_policy(torch.float64)
    return plain_rows(policy, make_prompts(policy), sampling)


@pytest.mark.parametrize(("temperature", "remasking"), MODES)
@pytest.mark.parametrize(
    ("order", "extra", "rows_per_forward"),
    [([0, 1, 2, 3, 4, 5], 0, None), ([4, 2, 5, 0, 3, 1], 3, 2), ([3], 0, None), ([1, 2], 7, 1)],
)
def test_float64_tokens_equal_the_plain_sampler(temperature, remasking, order, extra, rows_per_forward):
    policy = make_policy(torch.float64)
    sampling = replace(SAMPLING, temperature=temperature, remasking=remasking)
    prompts = make_prompts(policy)
    expected = plain_in_float64(sampling)
    noises = streams(len(prompts))
    ids, mask = pad(policy, [prompts[i] for i in order], extra)
    out = sample_completions(
        policy, ids, mask, sampling, [noises[i] for i in order], rows_per_forward=rows_per_forward
    )
    assert out.unmask_logps.dtype == torch.float64
    for row, i in enumerate(order):
        end = expected[i].end(policy.end_token_ids)
        assert out.completion_mask[row].tolist() == [place < end for place in range(24)]
        assert out.completion_ids[row, :end].tolist() == expected[i].tokens[:end]
        assert out.unmask_step[row, :end].tolist() == expected[i].steps[:end]
        assert out.unmask_logps[row, :end].tolist() == pytest.approx(expected[i].logps[:end], abs=1e-10)


def test_float32_tokens_differ_only_at_close_calls():
    tally = Counter()
    for seed in range(2):
        policy = make_policy(torch.float32, seed=seed)
        prompts = make_prompts(policy)
        for temperature, remasking in MODES:
            sampling = replace(SAMPLING, temperature=temperature, remasking=remasking)
            out = sample_completions(policy, *pad(policy, prompts), sampling, streams(len(prompts)))
            assert out.unmask_logps.dtype == torch.float32
            for row, expected in enumerate(plain_rows(policy, prompts, sampling)):
                end = expected.end(policy.end_token_ids)
                ours = list(zip(out.completion_ids[row].tolist(), out.unmask_step[row].tolist(), strict=True))
                theirs = list(zip(expected.tokens, expected.steps, strict=True))
                wrong = [i for i in range(end) if ours[i] != theirs[i]]
                if not wrong:
                    tally["equal"] += 1
                    continue
                first = min(step for i in wrong for step in (ours[i][1], theirs[i][1]) if step >= 0)
                assert expected.margins[first] <= CLOSE, f"step {first} of row {row} was no close call"
                tally["close calls"] += 1
    assert tally["equal"] >= 0.95 * tally.total(), tally


def test_tokens_do_not_depend_on_the_batch(device):
    policy = make_policy(torch.float64, device=device)
    prompts = make_prompts(policy)
    sampling = replace(SAMPLING, temperature=1.0)
    together = sample_completions(
        policy, *pad(policy, prompts), sampling, streams(len(prompts), device=device)
    )
    for row, prompt in enumerate(prompts):
        noise = streams(len(prompts), device=device)[row : row + 1]
        alone = sample_completions(policy, *pad(policy, [prompt], extra=row), sampling, noise)
        shown = together.completion_mask[row]
        assert torch.equal(alone.completion_mask[0], shown)
        assert torch.equal(alone.completion_ids[0], together.completion_ids[row])
        assert torch.equal(alone.unmask_step[0], together.unmask_step[row])


def test_padding_matters_to_this_model():
    """Guards the tests above: with the padding shown to the model as text, tokens change."""
    policy = make_policy(torch.float64)
    ids, mask = pad(policy, make_prompts(policy))
    right = sample_completions(policy, ids, mask, SAMPLING, None)
    wrong = sample_completions(policy, ids, torch.ones_like(mask), SAMPLING, None)
    assert not torch.equal(right.completion_ids, wrong.completion_ids)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_every_step_reveals_what_the_schedule_says(temperature, device):
    policy = replace(make_policy(torch.float32, device=device), end_token_ids=())
    ids, mask = (x.to(device) for x in pad(policy, make_prompts(policy)))
    noise = streams(len(ids), device=device)
    out = sample_completions(policy, ids, mask, replace(SAMPLING, temperature=temperature), noise)
    per_block = [2, 2, 2, 1, 1]  # 8 tokens in 5 steps, the remainder first
    for row in out.unmask_step:
        assert torch.bincount(row, minlength=15).tolist() == per_block * 3
        assert row.view(3, 8).div(5, rounding_mode="floor").tolist() == [[b] * 8 for b in range(3)]
    assert not (out.completion_ids == policy.mask_id).any()
    assert out.completion_mask.all()
    assert torch.equal(out.prompt_ids, ids)
    assert torch.equal(out.prompt_mask, mask)


def test_finished_rows_leave_at_once_and_equal_rows_are_computed_once():
    policy = make_policy(torch.float64)
    sampling = replace(SAMPLING, temperature=1.0)
    prompts = [p for p in make_prompts(policy) for _ in range(2)]
    expected = plain_rows(policy, prompts, sampling)
    rows_seen: list[int] = []
    embedding = policy.model.get_input_embeddings()
    handle = embedding.register_forward_hook(lambda *call: rows_seen.append(len(call[2])))
    out = sample_completions(policy, *pad(policy, prompts), sampling, streams(len(prompts)))
    handle.remove()
    last = [row.done_at(policy.end_token_ids) for row in expected]
    assert min(last) < sampling.diffusion_steps - 1, "no row ends early: this test would show nothing"
    assert any((done + 1) % 5 for done in last), "no row ends inside a block"
    assert out.unmask_step.amax(-1).tolist() == last
    states = Counter()
    for prompt, row in zip(prompts, expected, strict=True):
        for step in range(row.done_at(policy.end_token_ids) + 1):
            seen = [t if s < step else -1 for t, s in zip(row.tokens, row.steps, strict=True)]
            states[(step, tuple(prompt), tuple(seen))] += 1
    distinct = [sum(key[0] == step for key in states) for step in range(max(last) + 1)]
    assert distinct[0] == len(LENGTHS)
    assert rows_seen == distinct


def test_what_was_not_revealed_is_marked():
    policy = make_policy(torch.float32)
    out = sample_completions(policy, *pad(policy, make_prompts(policy)), SAMPLING, None)
    hidden = out.completion_ids == policy.mask_id
    assert hidden.any()
    assert not (hidden & out.completion_mask).any()
    assert torch.equal(hidden, out.unmask_step == -1)
    assert (out.unmask_logps[hidden] == 0).all()
    assert (out.unmask_logps[~hidden] < 0).all()
