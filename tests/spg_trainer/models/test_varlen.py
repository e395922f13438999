"""Rows with padding attend without a mask by torch's kernel for variable lengths, which a CPU does not have."""

from dataclasses import replace
from functools import partial
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F

from spg_trainer.algorithms.base import loss_of_values
from spg_trainer.algorithms.spg import SPG
from spg_trainer.errors import ConfigError
from spg_trainer.likelihood import accumulate, token_logps
from spg_trainer.models import varlen
from spg_trainer.models.load import open_policy
from spg_trainer.models.varlen import VARLEN_DTYPES, check_varlen, sequence_ends
from spg_trainer.rollout.sampler import sample_completions
from spg_trainer.settings.model import ModelConfig
from tests.common.algorithm_cases import make_batch, prepare
from tests.common.block_cases import PATTERNS, with_pattern
from tests.common.likelihood_cases import make_masking, make_rollouts, policy_of, seeded, tiny_model
from tests.common.rollout_cases import SAMPLING, make_policy, make_prompts, pad, streams

MASK = 257


def plain_varlen(query, key, value, query_ends, key_ends, most_queries, most_keys, *, scale, enable_gqa):
    """torch's `varlen_attn` by one call a sequence. It refuses what the real one leaves undefined."""
    assert query_ends.dtype == key_ends.dtype == torch.int32
    spans = [list(pairwise(ends)) for ends in (query_ends.tolist(), key_ends.tolist())]
    outputs = []
    for (first, end), (first_key, end_key) in zip(*spans, strict=True):
        assert 0 <= end - first <= most_queries and 0 <= end_key - first_key <= most_keys
        assert end > first or end_key == first_key or not key.requires_grad
        parts = (
            x.transpose(0, 1) for x in (query[first:end], key[first_key:end_key], value[first_key:end_key])
        )
        output = F.scaled_dot_product_attention(*parts, scale=scale, enable_gqa=enable_gqa)
        outputs.append(output.transpose(0, 1))
    assert end == len(query) and end_key == len(key)
    return torch.cat(outputs)


@pytest.fixture
def calls(monkeypatch):
    """How many calls of the kernel there were: one item each."""
    found = []

    def counted(*args, **kwargs):
        found.append(1)
        return plain_varlen(*args, **kwargs)

    monkeypatch.setattr("torch.nn.attention.varlen.varlen_attn", counted)
    return found


def by_length(model):
    """The same model without masks, in float64."""
    model.base_model.varlen_dtypes = frozenset({torch.float64})
    return model


def test_padding_and_the_rest_of_a_row_are_two_sequences():
    seen = torch.tensor([[0, 0, 1], [1, 1, 1]], dtype=torch.bool)[:, None, None]
    assert sequence_ends(seen).tolist() == sequence_ends(seen.double().log()).tolist() == [0, 2, 3, 3, 6]


def test_heads_may_share_keys(calls):
    draw = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(2, h, 5, 4, generator=draw, dtype=torch.float64) for h in (4, 2, 2))
    seen = torch.tensor([[0, 0, 1, 1, 1], [1] * 5], dtype=torch.bool)[:, None, None]
    for queries in (query, query[:, :, -3:]):
        output, _ = varlen.attend_by_length(queries, key, value, sequence_ends(seen), None, dropout=0.0)
        expected = F.scaled_dot_product_attention(queries, key, value, seen, enable_gqa=True).transpose(1, 2)
        assert torch.allclose(output[:, -3:], expected[:, -3:], atol=1e-12)
    assert calls


@pytest.mark.parametrize("shift", [0, 1])
def test_log_probabilities_and_gradients_are_those_of_a_mask(shift, calls):
    rollouts, algorithm = make_rollouts([9, 4] * 2, 9, [4, 2, 3, 4]), SPG(num_masks=3)
    masks = algorithm.make_masking().draw(rollouts, seeded())
    rewards = torch.tensor([[1.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
    rollouts = prepare(algorithm, rewards, rollouts)
    batch = make_batch(rollouts.completion_mask, place=rollouts, scored=13.0)
    loss_fn = partial(loss_of_values, algorithm, masks, batch)
    found = []
    for change in (lambda model: model, by_length):
        model = change(tiny_model())
        model.shift = shift
        policy = policy_of(model, MASK)
        logps = token_logps(policy, rollouts, masks, masks_at_once=2)
        accumulate(policy, rollouts, masks, loss_fn, masks_at_once=2)
        found.append((logps, [p.grad for p in model.parameters()]))
        assert bool(calls) == (change is by_length)
    (logps, gradients), (logps_by_length, gradients_by_length) = found
    assert (logps - logps_by_length).abs().max() < 1e-12 and logps.any()
    for one, other in zip(gradients, gradients_by_length, strict=True):
        assert (one - other).abs().max() <= 1e-12 * one.abs().max()


@pytest.mark.parametrize("cache", ["none", "prefix", "dual", "window"])
def test_tokens_are_those_of_a_mask(cache, calls):
    policy = make_policy(torch.float64)
    prompts = pad(policy, make_prompts(policy))
    decode = partial(sample_completions, policy, *prompts, replace(SAMPLING, cache=cache))
    masked = decode(streams(len(prompts[0])))
    assert not calls
    by_length(policy.model)
    out = decode(streams(len(prompts[0])))
    assert calls and torch.equal(out.completion_ids, masked.completion_ids)
    assert torch.equal(out.unmask_step, masked.unmask_step)


def test_rows_of_one_length_and_of_blocks_are_not_concerned(calls):
    masks = make_masking("random", 2, 0.0)
    for model, prompts in (
        (tiny_model(), [4, 4]),
        (with_pattern(tiny_model(), *PATTERNS["sequence"]), [4, 2]),
    ):
        rollouts = make_rollouts([9, 4], 9, prompts)
        token_logps(policy_of(by_length(model), MASK), rollouts, masks.draw(rollouts, seeded()))
    assert not calls


def test_it_is_refused_where_torch_has_no_kernel_for_it(monkeypatch):
    gpu, full = torch.device("cuda"), tiny_model().pattern
    check_varlen(full, gpu, torch.bfloat16)
    for pattern, device, dtype, told in (
        (PATTERNS["sequence"][0], gpu, torch.bfloat16, "in blocks"),
        (full, torch.device("cpu"), torch.bfloat16, "for a GPU, not for cpu"),
        (full, gpu, torch.float32, "computes in float32"),
    ):
        with pytest.raises(ConfigError, match=told):
            check_varlen(pattern, device, dtype)
    monkeypatch.setattr(varlen, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"Install torch 2\.13"):
        check_varlen(full, gpu, torch.bfloat16)
    monkeypatch.undo()
    for model in ("tiny", "new"):
        with pytest.raises(ConfigError, match="not for cpu"):
            open_policy(ModelConfig(model=model, device="cpu", varlen_attention=True), env="sudoku", seed=0)


@pytest.mark.gpu
def test_the_flash_kernel_computes_rows_with_padding():
    rollouts = make_rollouts([9, 4], 9, [4, 2]).to("cuda")
    masks = make_masking("random", 2, 0.0).draw(rollouts, seeded())
    policy = policy_of(tiny_model(torch.bfloat16).cuda(), MASK)
    masked = token_logps(policy, rollouts, masks)
    policy.model.base_model.varlen_dtypes = VARLEN_DTYPES
    with torch.profiler.profile() as profile:
        found = token_logps(policy, rollouts, masks)
    attention = {event.name for event in profile.events() if "attention_forward" in event.name}
    assert attention == {"aten::_flash_attention_forward"}
    assert (found - masked).abs().max() < 0.05 * masked.abs().max()
