"""Exact decoding against the plain LLaDA sampler of rollout_cases, settings that divide, and rigged models."""

from collections import Counter
from dataclasses import replace
from functools import cache

import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from spg_trainer.errors import ConfigError, ModelError
from spg_trainer.rollout.draw import log_exponential
from spg_trainer.rollout.sampler import sample_completions
from spg_trainer.rollout.unmasking import unmask_counts
from spg_trainer.seeding import generator
from spg_trainer.settings.decoding import Sampling
from tests.common.marks import slow_if
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
modes = pytest.mark.parametrize(("temperature", "remasking"), MODES)


@cache
def plain_in_float64(sampling: Sampling) -> list[Plain]:
    policy = make_policy(torch.float64)
    return plain_rows(policy, make_prompts(policy), sampling)


# Against the plain sampler.


BATCHES = [([0, 1, 2, 3, 4, 5], 0, None), ([4, 2, 5, 0, 3, 1], 3, 2), ([3], 0, None), ([1, 2], 7, 1)]


def other_batch(temperature, remasking, *batch):
    """By default modes take turns with the first two batches, so that each meets each temperature and remasking."""
    turn = [0, 1, 1, 0, 0, 1][MODES.index((temperature, remasking))]
    return BATCHES.index(batch) != turn


@pytest.mark.parametrize(
    ("temperature", "remasking", "order", "extra", "rows_per_forward"),
    slow_if(((*mode, *batch) for batch in BATCHES for mode in MODES), other_batch),
)
def test_float64_tokens_equal_the_plain_sampler(temperature, remasking, order, extra, rows_per_forward):
    policy = make_policy(torch.float64)
    sampling = replace(SAMPLING, temperature=temperature, remasking=remasking)
    prompts, expected = make_prompts(policy), plain_in_float64(sampling)
    noises = streams(len(prompts))
    inputs = pad(policy, [prompts[i] for i in order], extra)
    chosen = [noises[i] for i in order]
    out = sample_completions(policy, *inputs, sampling, chosen, rows_per_forward=rows_per_forward)
    assert out.unmask_logps.dtype == torch.float64
    for row, i in enumerate(order):
        end = expected[i].end(policy.end_token_ids)
        assert out.completion_mask[row].tolist() == [place < end for place in range(24)]
        assert out.completion_ids[row, :end].tolist() == expected[i].tokens[:end]
        assert out.unmask_step[row, :end].tolist() == expected[i].steps[:end]
        assert out.unmask_logps[row, :end].tolist() == pytest.approx(expected[i].logps[:end], abs=1e-10)


def test_float32_tokens_differ_only_at_close_calls(at_length):
    tally = Counter()
    policy = make_policy(torch.float32)
    prompts = make_prompts(policy)
    for temperature, remasking in MODES if at_length else MODES[::3]:
        sampling = replace(SAMPLING, temperature=temperature, remasking=remasking)
        out = sample_completions(policy, *pad(policy, prompts), sampling, streams(len(prompts)))
        assert out.unmask_logps.dtype == torch.float32
        for row, expected in enumerate(plain_rows(policy, prompts, sampling)):
            ours = list(zip(out.completion_ids[row].tolist(), out.unmask_step[row].tolist(), strict=True))
            theirs = list(zip(expected.tokens, expected.steps, strict=True))
            wrong = [i for i in range(expected.end(policy.end_token_ids)) if ours[i] != theirs[i]]
            tally["close calls" if wrong else "equal"] += 1
            if wrong:
                first = min(step for i in wrong for step in (ours[i][1], theirs[i][1]) if step >= 0)
                assert expected.margins[first] <= CLOSE, f"step {first} of row {row} was no close call"
    assert tally["equal"] >= 0.95 * tally.total(), tally


def test_tokens_do_not_depend_on_the_batch(device):
    policy = make_policy(torch.float64, device=device)
    prompts, sampling = make_prompts(policy), replace(SAMPLING, temperature=1.0)
    noises = streams(len(prompts), device=device)
    together = sample_completions(policy, *pad(policy, prompts), sampling, noises)
    for row, prompt in enumerate(prompts):
        noise = streams(len(prompts), device=device)[row : row + 1]
        alone = sample_completions(policy, *pad(policy, [prompt], extra=row), sampling, noise)
        for name in ("completion_mask", "completion_ids", "unmask_step"):
            assert torch.equal(getattr(alone, name)[0], getattr(together, name)[row]), name


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_every_step_unmasks_what_the_schedule_says(temperature, device):
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
    assert torch.equal(out.prompt_ids, ids) and torch.equal(out.prompt_mask, mask)


def test_a_limit_below_the_schedules_number_takes_more_steps_than_the_schedule():
    policy = replace(make_policy(torch.float32), end_token_ids=())
    ids, mask = pad(policy, make_prompts(policy))
    held = replace(SAMPLING, unmasking="dynamic", threshold=1.0, max_tokens_per_step=1)
    for row in sample_completions(policy, ids, mask, held, [None] * len(ids)).unmask_step:
        assert row.sort().values.tolist() == list(range(24))  # 8 tokens in 8 passes, not in the schedule's 5


def test_finished_rows_leave_at_once_and_equal_rows_are_computed_once():
    policy, sampling = make_policy(torch.float64), replace(SAMPLING, temperature=1.0)
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
    states = set()
    for prompt, row in zip(prompts, expected, strict=True):
        for step in range(row.done_at(policy.end_token_ids) + 1):
            seen = [t if s < step else -1 for t, s in zip(row.tokens, row.steps, strict=True)]
            states.add((step, tuple(prompt), tuple(seen)))
    distinct = [sum(key[0] == step for key in states) for step in range(max(last) + 1)]
    assert distinct[0] == len(LENGTHS)
    assert rows_seen == distinct


def test_what_was_not_unmasked_is_marked():
    policy = make_policy(torch.float32)
    out = sample_completions(policy, *pad(policy, make_prompts(policy)), SAMPLING, None)
    masked = out.completion_ids == policy.mask_id
    assert masked.any() and not (masked & out.completion_mask).any()
    assert torch.equal(masked, out.unmask_step == -1)
    assert (out.unmask_logps[masked] == 0).all() and (out.unmask_logps[~masked] < 0).all()


def test_one_generator_of_each_row_is_used_and_no_global_one(device):
    policy = make_policy(torch.float32, device=device)
    inputs, sampling = pad(policy, [make_prompts(policy)[0]] * 3), replace(SAMPLING, temperature=1.0)
    state = torch.cuda.get_rng_state if device == "cuda" else torch.get_rng_state
    before = state()
    equal = [generator(1, "row", device=device) for _ in range(3)]
    same = sample_completions(policy, *inputs, sampling, equal)
    assert torch.equal(state(), before)
    assert torch.equal(same.completion_ids[0], same.completion_ids[1])
    other = sample_completions(policy, *inputs, sampling, streams(3, device=device))
    assert not torch.equal(other.completion_ids[0], other.completion_ids[1])


def test_large_heads_are_computed_in_pieces(monkeypatch):
    policy, results = make_policy(torch.float64), []
    prompts, sampling = make_prompts(policy), replace(SAMPLING, temperature=1.0, remasking="random")
    for limit in (2**26, 2 * 8 * 266):
        monkeypatch.setattr("spg_trainer.rollout.draw.MAX_LOGITS", limit)
        results.append(sample_completions(policy, *pad(policy, prompts), sampling, streams(len(prompts))))
    assert torch.equal(results[0].completion_ids, results[1].completion_ids)
    assert torch.equal(results[0].unmask_step, results[1].unmask_step)


PARTS = [
    pytest.param(*mode, width, marks=[] if width == one else [pytest.mark.slow])
    for mode, one in zip(MODES, (265, 7, 7, 265, 1, 7), strict=True)
    for width in (1, 7, 265)
]


@pytest.mark.parametrize(("temperature", "remasking", "width"), PARTS)
def test_the_vocabulary_is_computed_in_parts(temperature, remasking, width, monkeypatch):
    """The last part may be shorter, and one may hold the mask alone."""
    policy, results = make_policy(torch.float64), []
    prompts, sampling = make_prompts(policy), replace(SAMPLING, temperature=temperature, remasking=remasking)
    for columns in (policy.model.config.vocab_size, width):
        monkeypatch.setattr("spg_trainer.likelihood.logps.CPU_COLUMNS", columns)
        results.append(sample_completions(policy, *pad(policy, prompts), sampling, streams(len(prompts))))
    assert torch.equal(results[0].completion_ids, results[1].completion_ids)
    assert torch.equal(results[0].unmask_step, results[1].unmask_step)
    assert torch.allclose(results[0].unmask_logps, results[1].unmask_logps, rtol=0, atol=1e-12)


# Models rigged to go wrong.


@modes
def test_the_mask_is_never_sampled(temperature, remasking):
    policy = replace(make_policy(torch.float32), end_token_ids=())
    head, features = policy.model.get_output_embeddings(), torch.zeros(32)
    features[0] = 1.0
    # The last norm leaves one feature; its sign decides, so a row and its negative catch both.
    for sign in (40.0, -40.0):
        with torch.no_grad():
            policy.model.model.norm.weight.copy_(features)
            head.weight[:, 0] = 0.0
            head.weight[policy.mask_id, 0] = sign
        sampling = replace(SAMPLING, temperature=temperature, remasking=remasking)
        inputs = pad(policy, make_prompts(policy))
        out = sample_completions(policy, *inputs, sampling, streams(len(LENGTHS)))
        assert not (out.completion_ids == policy.mask_id).any()
        assert (out.unmask_step >= 0).all()


def with_head(value: float, temperature: float = 0.0):
    """Whatever the model sees, all logits are `value` times the same sum."""
    policy = replace(make_policy(torch.float64), end_token_ids=())
    with torch.no_grad():
        policy.model.get_output_embeddings().weight.fill_(value)
    sampling = replace(SAMPLING, temperature=temperature)
    return policy, sample_completions(policy, *pad(policy, [[5, 6]]), sampling, streams(1))


@pytest.mark.parametrize("width", [2048, 7])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_broken_model_is_named_as_such(temperature, width, monkeypatch):
    monkeypatch.setattr("spg_trainer.likelihood.logps.CPU_COLUMNS", width)
    with pytest.raises(ModelError, match="logits are not finite"):
        with_head(float("nan"), temperature)


def test_ties_go_to_the_first_token_and_position_and_the_mask_counts():
    policy, out = with_head(0.0)
    assert (out.completion_ids == 0).all()
    assert out.unmask_step[0].tolist() == sorted(out.unmask_step[0].tolist())
    whole_vocabulary = torch.tensor(float(policy.model.config.vocab_size), dtype=torch.float64)
    assert torch.allclose(out.unmask_logps, -whole_vocabulary.log())


def test_only_an_exact_zero_is_kept_from_the_logarithm(monkeypatch):
    """Real draws are as small as 2**-31 and smaller; clipping them would change the law of rare tokens."""
    draws = torch.tensor([0.0, 2.0**-100, 2.0**-31, 1.0])
    monkeypatch.setattr(torch.Tensor, "exponential_", lambda self, generator: self.copy_(draws))
    noise = torch.empty(2, 4)
    log_exponential(noise, list(noise), [None, None])
    assert noise.isfinite().all()
    assert torch.allclose(noise[0, 1:], draws[1:].log())
    assert noise[0, 0] < noise[0, 1]


# Settings.


@pytest.mark.parametrize(
    ("masked", "steps", "counts"),
    [(8, 5, [2, 2, 2, 1, 1]), (8, 4, [2, 2, 2, 2]), (32, 32, [1] * 32), (7, 2, [4, 3]), (5, 1, [5])],
)
def test_the_remainder_goes_to_the_first_steps(masked, steps, counts):
    assert unmask_counts(masked, steps) == counts


@pytest.mark.parametrize(
    ("settings", "fits"),
    [
        ({"block_length": 48}, ["--block-length 64", "--max-completion-length 288"]),
        ({"diffusion_steps": 100}, ["--diffusion-steps 104"]),
        ({"max_completion_length": 64}, ["--diffusion-steps 64"]),
        ({"max_completion_length": 0}, ["--max-completion-length 0", "at least 1"]),
        ({"block_length": -4}, ["--block-length -4", "at least 0"]),
        ({"diffusion_steps": 12.5}, ["12.5"]),
        ({"block_length": "32", "diffusion_steps": "length/2"}, ["--block-length '32'", "a whole number"]),
        ({"temperature": -0.1}, ["-0.1"]),
        ({"temperature": float("nan")}, ["nan"]),
    ],
)
def test_settings_that_cannot_decode_are_answered_by_some_that_can(settings, fits):
    Sampling().check()
    with pytest.raises(ConfigError) as error:
        Sampling(**settings).check()
    assert all(words in str(error.value) for words in fits)


@pytest.mark.parametrize("remasking", ["entropy", "margin", "sequential"])
def test_the_surest_or_leftmost_positions_go_first(remasking):
    """One position a step, spelled out; probabilities are over the whole vocabulary, [MASK] included."""
    policy = replace(make_policy(torch.float64), end_token_ids=())
    head = policy.model.get_output_embeddings().weight.data
    head[policy.mask_id] = head[: policy.mask_id].sum(0)  # as probable as any token
    prompt, size = make_prompts(policy)[0], 8
    x, order = torch.tensor([prompt + [policy.mask_id] * size]), []
    while (masked := (x[0] == policy.mask_id).nonzero().squeeze(-1)).numel():
        with torch.no_grad():
            p = policy.model(input_ids=x).logits[0, masked].softmax(-1)
        first = p.sort(descending=True).values
        sure = {"entropy": (p * p.log()).sum(-1), "margin": first[:, 0] - first[:, 1], "sequential": -masked}
        at = int(sure[remasking].argmax())
        p[:, policy.mask_id] = 0
        x[0, masked[at]] = p[at].argmax()
        order.append(int(masked[at]) - len(prompt))
    out = sample_completions(policy, *pad(policy, [prompt]), Sampling(8, 8, 8, remasking=remasking), None)
    assert out.unmask_step[0].argsort().tolist() == order
    assert out.completion_ids[0].tolist() == x[0, len(prompt) :].tolist()
    by_token = sample_completions(policy, *pad(policy, [prompt]), Sampling(8, 8, 8), None)
    assert not torch.equal(by_token.unmask_step, out.unmask_step)


VIEWS = set(
    "view _unsafe_view reshape expand transpose t permute slice select unsqueeze squeeze detach alias as_strided split "
    "split_with_sizes unbind empty empty_like new_empty".split()
)


class Kernels(TorchDispatchMode):
    """Counts the calls of ATen that are no views."""

    def __init__(self) -> None:
        super().__init__()
        self.names = Counter()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if (name := function._schema.name.split("::")[1]) not in VIEWS:
            self.names[name] += 1
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("cache", ["none", "dual"])
def test_a_pass_starts_few_kernels_besides_those_of_the_layers(cache):
    sampling = replace(SAMPLING, temperature=0.9, cache=cache)

    def kernels(layers, steps):
        policy = make_policy(torch.float32, ends=0, layers=layers)
        prompts = make_prompts(policy)
        with Kernels() as found:
            sample_completions(
                policy,
                *pad(policy, prompts, 0),
                replace(sampling, diffusion_steps=steps),
                streams(len(prompts)),
            )
        return found.names.total()

    # Layers of two models and passes of two rollouts are told apart.
    few, many = (2 * kernels(2, steps) - kernels(4, steps) for steps in (12, 24))
    assert (many - few) / 12 <= 65


@pytest.mark.parametrize("cache", ["none", "prefix", "dual", "window"])
def test_the_flash_kernel_decodes_prompts_of_one_length(cache, device, monkeypatch):
    """On a GPU this kernel takes no mask; with one, attention would fall to a slower kernel."""
    policy, plain, masks = make_policy(torch.bfloat16, device=device), F.scaled_dot_product_attention, []

    def spy(query, key, value, attn_mask=None, **kwargs):
        masks.append(attn_mask)
        return plain(query, key, value, attn_mask, **kwargs)

    def decode(*lengths):
        prompts = pad(policy, make_prompts(policy, lengths))
        with Kernels() as found:
            sample_completions(policy, *prompts, replace(SAMPLING, cache=cache), streams(3, device=device))
        return {name for name in found.names if name.startswith("_scaled_dot_product")}

    monkeypatch.setattr(F, "scaled_dot_product_attention", spy)
    of_cpu = "_for_cpu" if device == "cpu" else ""
    assert decode(9, 9, 9) == {f"_scaled_dot_product_flash_attention{of_cpu}"}
    assert masks and all(mask is None for mask in masks)
    decode(9, 6, 9)
    assert any(mask is not None for mask in masks), "padding is hidden by a mask"
