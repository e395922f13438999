"""Exact decoding against a plain LLaDA sampler: one row at a time, all logits, no padding, no early exit."""

from collections import Counter
from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor, nn

from spg_trainer.models import Policy, new_tiny, tiny_tokenizer
from spg_trainer.rollout import Sampling, rollout
from spg_trainer.seeding import generator

LENGTHS = (9, 3, 14, 1, 9, 6)
SAMPLING = Sampling(max_completion_length=24, block_length=8, diffusion_steps=15)
MODES = [(t, r) for t in (0.0, 0.3, 1.0) for r in ("low_confidence", "random")]
CLOSE = 1e-5


@dataclass
class Plain:
    """What the plain sampler did with one row."""

    tokens: list[int]
    steps: list[int]
    logps: list[float]
    margins: list[float]  # per step: how close the closest decision was

    def end(self, ends: tuple[int, ...]) -> int:
        """How many tokens count: up to and including the first end token."""
        return next((i + 1 for i, token in enumerate(self.tokens) if token in ends), len(self.tokens))

    def done_at(self, ends: tuple[int, ...]) -> int:
        """The step after which nothing up to the first end token is hidden."""
        return max(self.steps[: self.end(ends)])


def plain_sampler(
    model: nn.Module, prompt: list[int], sampling: Sampling, mask_id: int, noise: torch.Generator
) -> Plain:
    length, block_length = sampling.max_completion_length, sampling.block_length
    steps_per_block = sampling.diffusion_steps // (length // block_length)
    x = torch.tensor([prompt + [mask_id] * length])
    out = Plain([mask_id] * length, [-1] * length, [0.0] * length, [])
    for block in range(length // block_length):
        stop = len(prompt) + (block + 1) * block_length
        to_share = block_length
        for step in range(steps_per_block):
            left = steps_per_block - step
            count = -(-to_share // left)  # the remainder goes to the first steps
            to_share -= count
            with torch.no_grad():
                logits = model(input_ids=x).logits[0]
            hidden = [i for i in range(len(prompt), stop) if x[0, i] == mask_id]
            score = logits.clone()
            if sampling.temperature > 0:
                e = torch.empty(len(hidden), logits.shape[-1]).exponential_(generator=noise)
                score[hidden] -= sampling.temperature * e.log()
            score[:, mask_id] = float("-inf")
            choice = score.argmax(-1)
            logps = logits.log_softmax(-1).gather(-1, choice[:, None])[:, 0]
            if sampling.remasking == "random":
                confidence = torch.rand(len(hidden), generator=noise).tolist()
            else:
                confidence = logps[hidden].tolist()
            ranked = sorted(range(len(hidden)), key=lambda j: (-confidence[j], j))
            best = score[hidden].topk(2, -1).values
            margin = (best[:, 0] - best[:, 1]).min().item()
            if count < len(ranked):
                margin = min(margin, confidence[ranked[count - 1]] - confidence[ranked[count]])
            out.margins.append(margin)
            for j in ranked[:count]:
                place = hidden[j] - len(prompt)
                x[0, hidden[j]] = choice[hidden[j]]
                out.tokens[place] = int(choice[hidden[j]])
                out.steps[place] = block * steps_per_block + step
                out.logps[place] = float(logps[hidden[j]])
    return out


def make_policy(dtype: torch.dtype, seed: int = 0, ends: int = 12) -> Policy:
    """A random model, sharpened so that contexts matter, in which several token ids end a text."""
    tokenizer = tiny_tokenizer()
    model = new_tiny(hidden_size=32, layers=2, heads=2, ffn=48, max_length=64, seed=seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 2:
                parameter.mul_(6)
        model.get_output_embeddings().weight.mul_(4)
    return Policy(
        model=model.to(dtype),
        tokenizer=tokenizer,
        mask_id=tokenizer.mask_token_id,
        pad_id=tokenizer.pad_token_id,
        end_token_ids=tuple(range(ends)),
        source="test",
    )


def make_prompts(policy: Policy, lengths: tuple[int, ...] = LENGTHS) -> list[list[int]]:
    stream = torch.Generator().manual_seed(5)
    return [torch.randint(0, policy.mask_id, (n,), generator=stream).tolist() for n in lengths]


def pad(policy: Policy, prompts: list[list[int]], extra: int = 0) -> tuple[Tensor, Tensor]:
    width = max(map(len, prompts)) + extra
    ids = torch.tensor([[policy.pad_id] * (width - len(p)) + p for p in prompts])
    mask = torch.tensor([[False] * (width - len(p)) + [True] * len(p) for p in prompts])
    return ids, mask


def streams(rows: int, seed: int = 0) -> list[torch.Generator]:
    return [generator(seed, "test", row) for row in range(rows)]


def plain_rows(policy: Policy, prompts: list[list[int]], sampling: Sampling) -> list[Plain]:
    pairs = zip(prompts, streams(len(prompts)), strict=True)
    return [plain_sampler(policy.model, prompt, sampling, policy.mask_id, noise) for prompt, noise in pairs]


@pytest.mark.parametrize(("temperature", "remasking"), MODES)
@pytest.mark.parametrize(
    ("order", "extra", "rows_per_forward"),
    [([0, 1, 2, 3, 4, 5], 0, None), ([4, 2, 5, 0, 3, 1], 3, 2), ([3], 0, None), ([1, 2], 7, 1)],
)
def test_float64_tokens_equal_the_plain_sampler(temperature, remasking, order, extra, rows_per_forward):
    policy = make_policy(torch.float64)
    sampling = replace(SAMPLING, temperature=temperature, remasking=remasking)
    prompts = make_prompts(policy)
    expected = plain_rows(policy, prompts, sampling)
    noises = streams(len(prompts))
    ids, mask = pad(policy, [prompts[i] for i in order], extra)
    out = rollout(policy, ids, mask, sampling, [noises[i] for i in order], rows_per_forward=rows_per_forward)
    assert out.reveal_logps.dtype == torch.float64
    for row, i in enumerate(order):
        end = expected[i].end(policy.end_token_ids)
        assert out.completion_mask[row].tolist() == [place < end for place in range(24)]
        assert out.completion_ids[row, :end].tolist() == expected[i].tokens[:end]
        assert out.reveal_step[row, :end].tolist() == expected[i].steps[:end]
        assert out.reveal_logps[row, :end].tolist() == pytest.approx(expected[i].logps[:end], abs=1e-6)


def test_float32_tokens_differ_only_at_close_calls():
    tally = Counter()
    for seed in range(3):
        policy = make_policy(torch.float32, seed=seed)
        prompts = make_prompts(policy)
        for temperature, remasking in MODES:
            sampling = replace(SAMPLING, temperature=temperature, remasking=remasking)
            out = rollout(policy, *pad(policy, prompts), sampling, streams(len(prompts)))
            assert out.reveal_logps.dtype == torch.float32
            for row, expected in enumerate(plain_rows(policy, prompts, sampling)):
                end = expected.end(policy.end_token_ids)
                ours = list(zip(out.completion_ids[row].tolist(), out.reveal_step[row].tolist(), strict=True))
                theirs = list(zip(expected.tokens, expected.steps, strict=True))
                wrong = [i for i in range(end) if ours[i] != theirs[i]]
                if not wrong:
                    tally["equal"] += 1
                    continue
                first = min(step for i in wrong for step in (ours[i][1], theirs[i][1]) if step >= 0)
                assert expected.margins[first] <= CLOSE, f"step {first} of row {row} was no close call"
                tally["close calls"] += 1
    assert tally["equal"] >= 0.95 * tally.total(), tally


def test_tokens_do_not_depend_on_the_batch():
    policy = make_policy(torch.float64)
    prompts = make_prompts(policy)
    sampling = replace(SAMPLING, temperature=1.0)
    together = rollout(policy, *pad(policy, prompts), sampling, streams(len(prompts)))
    for row, prompt in enumerate(prompts):
        noise = streams(len(prompts))[row : row + 1]
        alone = rollout(policy, *pad(policy, [prompt], extra=row), sampling, noise)
        shown = together.completion_mask[row]
        assert torch.equal(alone.completion_mask[0], shown)
        assert torch.equal(alone.completion_ids[0], together.completion_ids[row])
        assert torch.equal(alone.reveal_step[0], together.reveal_step[row])


def test_padding_matters_to_this_model():
    """Guards the tests above: with the padding shown to the model as text, tokens change."""
    policy = make_policy(torch.float64)
    ids, mask = pad(policy, make_prompts(policy))
    right = rollout(policy, ids, mask, SAMPLING, None)
    wrong = rollout(policy, ids, torch.ones_like(mask), SAMPLING, None)
    assert not torch.equal(right.completion_ids, wrong.completion_ids)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_every_step_reveals_what_the_schedule_says(temperature):
    policy = replace(make_policy(torch.float32), end_token_ids=())
    ids, mask = pad(policy, make_prompts(policy))
    out = rollout(policy, ids, mask, replace(SAMPLING, temperature=temperature), streams(len(ids)))
    per_block = [2, 2, 2, 1, 1]  # 8 tokens in 5 steps, the remainder first
    for row in out.reveal_step:
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
    out = rollout(policy, *pad(policy, prompts), sampling, streams(len(prompts)))
    handle.remove()
    last = [row.done_at(policy.end_token_ids) for row in expected]
    assert min(last) < sampling.diffusion_steps - 1, "no row ends early: this test would show nothing"
    assert any((done + 1) % 5 for done in last), "no row ends inside a block"
    assert out.reveal_step.amax(-1).tolist() == last
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
    out = rollout(policy, *pad(policy, make_prompts(policy)), SAMPLING, None)
    hidden = out.completion_ids == policy.mask_id
    assert hidden.any()
    assert not (hidden & out.completion_mask).any()
    assert torch.equal(hidden, out.reveal_step == -1)
    assert (out.reveal_logps[hidden] == 0).all()
    assert (out.reveal_logps[~hidden] < 0).all()


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
        out = rollout(policy, *pad(policy, make_prompts(policy)), sampling, streams(len(LENGTHS)))
        assert not (out.completion_ids == policy.mask_id).any()
        assert (out.reveal_step >= 0).all()


def test_a_broken_model_neither_crashes_nor_samples_the_mask():
    policy = replace(make_policy(torch.float32), end_token_ids=())
    with torch.no_grad():
        policy.model.get_output_embeddings().weight.fill_(float("nan"))
    for temperature in (0.0, 1.0):
        out = rollout(policy, *pad(policy, [[5, 6]]), replace(SAMPLING, temperature=temperature), streams(1))
        assert not (out.completion_ids == policy.mask_id).any()
        assert out.reveal_logps.isnan().all()


def test_the_forbidden_mask_still_counts_in_the_probabilities():
    policy = replace(make_policy(torch.float64), end_token_ids=())
    with torch.no_grad():
        policy.model.get_output_embeddings().weight.zero_()
    out = rollout(policy, *pad(policy, [[5, 6]]), SAMPLING, None)
    vocabulary = policy.model.config.vocab_size
    assert torch.allclose(out.reveal_logps, -torch.tensor(float(vocabulary), dtype=torch.float64).log())


def test_ties_go_to_the_first_token_and_the_first_position():
    policy = replace(make_policy(torch.float32), end_token_ids=())
    with torch.no_grad():
        policy.model.get_output_embeddings().weight.zero_()
    out = rollout(policy, *pad(policy, [[5, 6]]), SAMPLING, None)
    assert (out.completion_ids == 0).all()
    assert out.reveal_step[0].tolist() == sorted(out.reveal_step[0].tolist())


def test_one_generator_of_each_row_is_used_and_no_global_one():
    policy = make_policy(torch.float32)
    prompts = [make_prompts(policy)[0]] * 3
    sampling = replace(SAMPLING, temperature=1.0)
    before = torch.get_rng_state()
    same = rollout(policy, *pad(policy, prompts), sampling, [generator(1, "row") for _ in prompts])
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(same.completion_ids[0], same.completion_ids[1])
    other = rollout(policy, *pad(policy, prompts), sampling, streams(3))
    assert not torch.equal(other.completion_ids[0], other.completion_ids[1])


def test_large_heads_are_computed_in_pieces(monkeypatch):
    policy = make_policy(torch.float64)
    prompts = make_prompts(policy)
    sampling = replace(SAMPLING, temperature=1.0, remasking="random")
    whole = rollout(policy, *pad(policy, prompts), sampling, streams(len(prompts)))
    monkeypatch.setattr("spg_trainer.rollout.sample._MAX_LOGITS", 2 * 8 * 266)
    pieces = rollout(policy, *pad(policy, prompts), sampling, streams(len(prompts)))
    assert torch.equal(whole.completion_ids, pieces.completion_ids)
    assert torch.equal(whole.reveal_step, pieces.reveal_step)
