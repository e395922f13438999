"""Likelihoods under block-causal attention and shifted logits: one doubled pass against one for each block."""

import itertools

import pytest
import torch
from transformers import AutoModelForMaskedLM

from spg_trainer.algorithms import Loss
from spg_trainer.algorithms.mle import MLE
from spg_trainer.architecture.pattern import Pattern
from spg_trainer.errors import ConfigError
from spg_trainer.likelihood import accumulate, elbo, token_logps
from spg_trainer.likelihood.path_masks import AutoregressiveMasking, StepMergeMasking
from spg_trainer.likelihood.random_masks import ActiveBlockMasking
from spg_trainer.models.forward import head_weight, hidden_states
from tests.common.block_cases import PATTERNS, block_numbers, logps_by_blocks, plain_logits, with_pattern
from tests.common.exact_likelihood import (
    any_order_elbo,
    any_order_log_likelihood,
    block_elbo,
    context_logps,
    order_log_likelihood,
    path_log_likelihood,
    predictor,
)
from tests.common.likelihood_cases import (
    every_draw,
    make_masking,
    make_rollouts,
    one_stream,
    policy_of,
    relative,
    seeded,
    tiny_model,
    whole_gradient,
)

MASK = 257
each_pattern = pytest.mark.parametrize("name", PATTERNS)
BLOCKS = [name for name in PATTERNS if not name.startswith("full")]


def case(name, lengths=(9, 4, 1, 7), prompts=(7, 2, 3, 1), size=9, masking=None):
    rollouts = make_rollouts(list(lengths), size, list(prompts), width=7)
    masks = (masking or make_masking("random", 2, 0.2)).draw(rollouts, seeded())
    return with_pattern(tiny_model(), *PATTERNS[name]), rollouts, masks


@each_pattern
@pytest.mark.parametrize(
    "masking",
    [make_masking("random", 2, 0.2), ActiveBlockMasking(2, 0.2, block_length=3)],
    ids=["random", "active"],
)
def test_one_doubled_pass_is_a_pass_for_each_block(name, masking):
    """Ragged prompts and lengths, prompt noise in both halves: logps, and gradients by plain autograd."""
    model, rollouts, masks = case(name, masking=masking)
    weight = torch.linspace(-1, 2, masks.scored.numel(), dtype=torch.float64).view(masks.scored.shape)
    expected = logps_by_blocks(model, rollouts, masks, MASK)
    (weight * expected).sin().sum().backward()
    gradient = whole_gradient(model)
    found = token_logps(policy_of(model, MASK), rollouts, masks)
    torch.testing.assert_close(found, expected.detach(), rtol=0, atol=1e-10)
    for masks_at_once in (1, 2):
        model.zero_grad(set_to_none=True)
        loss_fn = lambda logps: Loss((weight * logps).sin().sum(), {})  # noqa: E731
        accumulate(policy_of(model, MASK), rollouts, masks, loss_fn, masks_at_once=masks_at_once)
        assert relative(whole_gradient(model), gradient) < 1e-10


@pytest.mark.parametrize("family", ["dream", "fastdllm_v2", "llada2", "sdar"])
def test_a_doubled_pass_of_a_published_family_is_a_pass_for_each_block(published, family):
    folder = published / "models" / family
    options = {"block_size": 8} if family == "llada2" else {}
    model = AutoModelForMaskedLM.from_pretrained(folder, **options).double().eval()
    rollouts = make_rollouts([9, 4, 7], 9, [7, 2, 1], width=7, tokens=140)
    masks = make_masking("random", 2, 0.2).draw(rollouts, seeded())
    expected = logps_by_blocks(model, rollouts, masks, 154).detach()
    torch.testing.assert_close(
        token_logps(policy_of(model, 154), rollouts, masks), expected, rtol=0, atol=1e-9
    )


@each_pattern
def test_demonstrations_are_learned_as_they_are_scored(name):
    model, rollouts, masks = case(name, lengths=[9, 9], prompts=[7, 2], masking=make_masking("random", 1))
    right, totals = torch.ones(2, dtype=torch.float64), {"completions": 2.0}
    batch = rollouts.with_columns(advantages=right, totals=totals)
    found = MLE().loss(token_logps(policy_of(model, MASK), rollouts, masks), masks, batch).loss
    logps = logps_by_blocks(model, rollouts, masks, MASK).sum((1, 2))
    expected = -(logps / masks.scored.sum((1, 2))).mean()
    assert float(found) == pytest.approx(float(expected), rel=1e-6)


@pytest.mark.parametrize("name", BLOCKS)
def test_the_doubled_pass_leaves_out_what_nobody_reads(name, monkeypatch):
    """A mask that scores one block costs as much as that block decoded; none costs more than twice the columns."""
    model, rollouts, _ = case(name, lengths=[8], prompts=[4], size=8)
    rollouts, widths = rollouts.trim(), []
    embedding = model.get_input_embeddings()
    embedding.register_forward_hook(lambda *call: widths.append(call[2].shape[1]))
    every = ActiveBlockMasking(1, block_length=4)
    for seed in range(8):
        token_logps(policy_of(model, MASK), rollouts, every.draw(rollouts, seeded(seed)))
    assert set(widths) == {8, 12}  # the prompt and the blocks up to the scored one
    widths.clear()
    token_logps(policy_of(model, MASK), rollouts, make_masking("all", 1).draw(rollouts, seeded()))
    assert widths == [4 + 4 + 8]  # prompt and first block clean, both blocks noisy


@each_pattern
def test_without_a_clean_copy_a_pass_shows_everybody_the_canvas(name):
    """Padding on the left and absent columns change nothing; where logits are shifted, so is every state."""
    model = with_pattern(tiny_model(), *PATTERNS[name])
    rollouts = make_rollouts([6, 6, 6], 6, [5, 2, 1], width=5)
    ids = torch.cat([rollouts.prompt_ids, rollouts.completion_ids], 1)
    real = torch.cat([rollouts.prompt_mask, torch.ones(3, 6, dtype=torch.bool)], 1)
    keep = torch.tensor([[5, 10, 8], [6, 4, 9], [4, 5, 10]])
    whole = hidden_states(model, ids, real, start=5) @ head_weight(model).T
    kept = hidden_states(model, ids, real, keep, start=5) @ head_weight(model).T
    for row, prompt in enumerate([5, 2, 1]):
        expected = plain_logits(model, ids[row, 5 - prompt :].tolist(), prompt)
        torch.testing.assert_close(whole[row, 5 - prompt :], expected, rtol=0, atol=1e-9)
        torch.testing.assert_close(kept[row], expected[keep[row] - 5 + prompt], rtol=0, atol=1e-9)


def test_blocks_and_spans_are_counted_from_their_origin():
    for origin, (head, spans) in {
        "sequence": (1, [(0, 3), (3, 7), (7, 10)]),
        "completion": (0, None),
    }.items():
        pattern = Pattern(4, origin)
        assert pattern.prompt_tail(5) == head
        assert pattern.spans(5, 10, 4) == (spans or [(0, 4), (4, 8), (8, 10)])
        assert pattern.spans(5, 4, 2) == ([(0, 1), (1, 3), (3, 4)] if head else [(0, 2), (2, 4)])
        numbers = block_numbers(pattern, 5, 10)[5:]
        for token, number in enumerate(numbers):
            start, stop = pattern.block_of(token, 5)
            assert [i for i in range(10) if numbers[i] == number] == list(range(max(0, start), min(stop, 10)))
    assert Pattern().spans(5, 10, 5) == [(0, 5), (5, 10)]


# What each masking estimates, by enumeration.


def enumerated(name, masking, length=5, size=6, prompt=3, draws=every_draw):
    """The mean of a masking's ELBO over all draws, and every context of the completion by one pass for each block."""
    model = with_pattern(tiny_model(hidden_size=8), *PATTERNS[name])
    rollouts = make_rollouts([length], size, [prompt], width=prompt, tokens=9)
    rollouts.unmask_step[0] = torch.tensor([1, 0, 1, 2, 3, -1])[:size]
    mean, done = 0.0, {}
    for chance, masks, *_ in draws(lambda stream: masking.draw(rollouts, one_stream(stream))):
        key = tuple(masks.scored.flatten().tolist() + masks.masked.flatten().tolist())
        if key not in done:
            done[key] = token_logps(policy_of(model, MASK), rollouts, masks)
        mean += chance * float(elbo(done[key], masks))
    ids = rollouts.completion_ids[0]
    predict = predictor(model, rollouts.prompt_ids[0], clean=ids)
    with torch.no_grad():
        return mean, predict, context_logps(predict, ids, length, MASK), rollouts


def by_cells(logps, numbers, block_length):
    """The any-order ELBO of every part that lies in one block of attention and one of the masking, summed."""
    tokens = range(logps.shape[1])
    cells = [list(cell) for _, cell in itertools.groupby(tokens, lambda i: (numbers[i], i // block_length))]
    total = 0.0
    for cell in cells:
        orders = [
            [*range(cell[0]), *order, *range(cell[-1] + 1, len(tokens))]
            for order in itertools.permutations(cell)
        ]
        for order in orders:
            for i in cell:
                shown = sum(1 << other for other in order[: order.index(i)])
                total += float(logps[shown, i]) / len(orders)
    return total


@pytest.mark.parametrize("name", BLOCKS)
@pytest.mark.parametrize(
    "masking", [make_masking("random", 1), make_masking("coupled", 2)], ids=["random", "coupled"]
)
def test_random_masks_average_to_the_any_order_elbo_of_each_attention_block(name, masking):
    mean, _, logps, rollouts = enumerated(name, masking, length=4, size=5)
    numbers = block_numbers(PATTERNS[name][0], 3, 4)[3:]
    assert len(set(numbers)) == (2 if "sequence" in name else 1)
    assert mean == pytest.approx(float(any_order_elbo(logps)), abs=1e-9)
    assert mean == pytest.approx(by_cells(logps, numbers, 99), abs=1e-9)
    plain = predictor(with_pattern(tiny_model(hidden_size=8), Pattern(), 0), rollouts.prompt_ids[0])
    with torch.no_grad():
        other = context_logps(plain, rollouts.completion_ids[0], 4, MASK)
    assert mean != pytest.approx(float(any_order_elbo(other)), abs=1e-3)


@pytest.mark.parametrize("name", BLOCKS)
@pytest.mark.parametrize("block_length", [2, 3])
def test_active_blocks_average_to_the_elbo_of_what_both_grids_cut(name, block_length):
    mean, _, logps, _ = enumerated(name, ActiveBlockMasking(1, block_length=block_length))
    assert mean == pytest.approx(float(block_elbo(logps, block_length)), abs=1e-9)
    numbers = block_numbers(PATTERNS[name][0], 3, 5)[3:]
    assert mean == pytest.approx(by_cells(logps, numbers, block_length), abs=1e-9)


@pytest.mark.parametrize("name", BLOCKS)
def test_all_autoregressive_and_trajectory_masks_average_to_their_paths(name):
    mean, predict, logps, rollouts = enumerated(name, AutoregressiveMasking(2))
    assert mean == pytest.approx(float(order_log_likelihood(logps, range(5))), abs=1e-9)
    mean, *_ = enumerated(name, make_masking("all", 1))
    assert mean == pytest.approx(float(logps[0].sum()), abs=1e-9)
    mean, *_ = enumerated(name, make_masking("trajectory", 1))
    with torch.no_grad():
        path = path_log_likelihood(predict, rollouts.completion_ids[0], rollouts.unmask_step[0], 5, MASK)
    assert mean == pytest.approx(float(path), abs=1e-9)


@pytest.mark.parametrize("name", BLOCKS)
def test_merged_steps_average_to_the_path_or_to_what_each_segment_writes_at_once(name):
    """Steps 0 to 3 write tokens {1}, {0, 2}, {3} and {4}; a segment shows what stood there when it began."""
    mean, predict, logps, rollouts = enumerated(name, StepMergeMasking(6))
    with torch.no_grad():
        path = path_log_likelihood(predict, rollouts.completion_ids[0], rollouts.unmask_step[0], 5, MASK)
    assert mean == pytest.approx(float(path), abs=1e-9)
    merged, *_ = enumerated(name, StepMergeMasking(6, steps_per_segment=2))
    expected = sum(logps[0, i] for i in (0, 1, 2)) + sum(logps[0b00111, i] for i in (3, 4))
    assert merged == pytest.approx(float(expected), abs=1e-9) and abs(merged - mean) > 1e-3


@pytest.mark.parametrize("name", BLOCKS)
def test_the_any_order_likelihood_is_that_of_the_blocks_in_turn(name):
    """Orders of different blocks do not matter to each other, so the log of the mean is a sum over blocks."""
    _, _, logps, _ = enumerated(name, make_masking("all", 1))
    numbers = block_numbers(PATTERNS[name][0], 3, 5)[3:]
    total = 0.0
    for number in sorted(set(numbers)):
        block = [i for i in range(5) if numbers[i] == number]
        before = list(range(block[0]))
        paths = []
        for order in itertools.permutations(block):
            shown, path = sum(1 << i for i in before), 0.0
            for i in order:
                path, shown = path + logps[shown, i], shown | 1 << i
            paths.append(path)
        total += float(torch.stack(paths).logsumexp(0)) - torch.tensor(float(len(paths))).log().item()
    assert float(any_order_log_likelihood(logps)) == pytest.approx(total, abs=1e-6)


# A causal context: prompt and finished blocks see what is before them, and a block's first token is written alone.


def causal_context_logps(model, prompt, ids, token, shown):
    """log p of a token that sees the `shown` ones of its block of 4, by a mask of pairs; a first one sees none."""
    start = token // 4 * 4
    stop = len(prompt) + (start if token == start else min(start + 4, len(ids)))
    canvas = [ids[i] if i < start or i in shown else MASK for i in range(len(ids))]
    columns = torch.arange(stop)
    block = (columns >= len(prompt) + start) & (token != start)
    mask = (columns[None] <= columns[:, None]) | (block[:, None] & block[None])
    logits = model(
        input_ids=torch.tensor([(prompt + canvas)[:stop]]),
        attention_mask=mask[None, None],
        position_ids=columns[None],
    ).logits[0]
    at = stop - 1 if token == start else len(prompt) + token
    return float(logits[at].log_softmax(-1)[ids[token]])


@torch.no_grad()
@pytest.mark.parametrize(
    "masking, num_masks", [("random", 1), ("autoregressive", 9), ("step_merge", 9)], ids=str
)
def test_in_a_causal_context_likelihoods_are_those_of_first_tokens_and_of_the_others_behind_them(
    masking, num_masks
):
    """By enumeration of masks, and of the orders of a block's other tokens: blocks of 4 and 1 tokens."""
    model = with_pattern(tiny_model(hidden_size=8), Pattern(4, "completion", "causal"), 0)
    assert model.pattern.has_causal_context
    rollouts = make_rollouts([5], 6, [3], width=3, tokens=9)
    rollouts.unmask_step[0] = torch.tensor([0, 2, 1, 2, 3, -1])
    ids, prompt = rollouts.completion_ids[0].tolist()[:5], rollouts.prompt_ids[0].tolist()
    found, done = 0.0, {}
    draw = make_masking(masking, num_masks)
    for chance, masks, *_ in every_draw(lambda stream: draw.draw(rollouts, one_stream(stream))):
        key = tuple(masks.scored.flatten().tolist())
        if key not in done:
            done[key] = float(elbo(token_logps(policy_of(model, MASK), rollouts, masks), masks))
        found += chance * done[key]
    others = (1, 2, 3)
    orders = {"random": list(itertools.permutations(others)), "autoregressive": [others]}
    expected = sum(causal_context_logps(model, prompt, ids, first, ()) for first in (0, 4))
    if masking == "step_merge":  # token 2 alone, then 1 and 3 together
        for token, shown in ((2, (0,)), (1, (0, 2)), (3, (0, 2))):
            expected += causal_context_logps(model, prompt, ids, token, shown)
    for order in orders.get(masking, ()):
        for place, token in enumerate(order):
            logp = causal_context_logps(model, prompt, ids, token, (0, *order[:place]))
            expected += logp / len(orders[masking])
    assert found == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("masks_at_once", [1, 3])
def test_in_a_causal_context_a_second_term_is_the_likelihood_from_left_to_right(masks_at_once):
    """From the clean text alone, also within a block; masked copies are as without the term. Value and gradient."""
    model = with_pattern(tiny_model(hidden_size=8), Pattern(4, "completion", "causal"), 0)
    rollouts = make_rollouts([9, 5], 9, [3, 2], width=4)
    masks, alone = (
        MLE(num_masks=2, context_weight=weight).make_masking().draw(rollouts, seeded()) for weight in (0.5, 0)
    )
    assert masks.scored.shape[1] == 3 and not masks.masked[:, 2].any()
    left_to_right = []
    for row in range(2):
        real, length = rollouts.prompt_mask[row], int(rollouts.completion_mask[row].sum())
        ids = torch.cat([rollouts.prompt_ids[row][real], rollouts.completion_ids[row][:length]])
        logps = model(ids[None]).logits[0].log_softmax(-1)[:-1].gather(1, ids[1:, None]).squeeze(1)
        left_to_right.append(logps[-length:])
    second = torch.stack([logps.sum() for logps in left_to_right])
    found = token_logps(policy_of(model, MASK), rollouts, masks)
    for row, logps in enumerate(left_to_right):
        torch.testing.assert_close(found[row, 2, : len(logps)], logps.detach(), rtol=0, atol=1e-10)
    first = elbo(token_logps(policy_of(model, MASK), rollouts, alone), alone)
    torch.testing.assert_close(elbo(found, masks), first + 0.5 * second.detach(), rtol=0, atol=1e-10)

    def add_gradient(masks):
        loss_fn = lambda logps: Loss(elbo(logps, masks).sum(), {})  # noqa: E731
        accumulate(policy_of(model, MASK), rollouts, masks, loss_fn, masks_at_once=masks_at_once)

    (0.5 * second.sum()).backward()
    add_gradient(alone)
    expected = whole_gradient(model)
    model.zero_grad(set_to_none=True)
    add_gradient(masks)
    assert relative(whole_gradient(model), expected) < 1e-10


def test_only_a_causal_context_has_a_second_term():
    for pattern in (Pattern(), Pattern(4), Pattern(4, "completion", "whole")):
        with pytest.raises(ConfigError, match="context_weight=1: only a model with a causal context"):
            MLE(context_weight=1).make_masking().check_pattern(pattern)
