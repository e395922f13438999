"""Likelihoods of what was written into a template: every masking shows what is given, and scores what was written only.

A pattern such as `gww-gw` says of each place whether it was given, written, or stands behind its hole's end.
"""

import pytest
import torch

from spg_trainer.likelihood import elbo, token_logps
from spg_trainer.likelihood.logps import path_logps
from spg_trainer.likelihood.path_masks import StepMergeMasking
from spg_trainer.likelihood.random_masks import MASKINGS, ActiveBlockMasking, BlockMasking
from spg_trainer.rollout.sampler import sample_completions
from spg_trainer.settings.decoding import Sampling
from spg_trainer.tensors import GIVEN, Rows
from tests.common.block_cases import PATTERNS, with_pattern
from tests.common.exact_likelihood import any_order_elbo, context_logps, predictor
from tests.common.likelihood_cases import ToyModel, make_masking, make_rollouts, seeded
from tests.common.rollout_cases import make_policy, make_prompts, pad, streams
from tests.spg_trainer.likelihood.test_exact_likelihood import MASK, PROMPT
from tests.spg_trainer.likelihood.test_exact_likelihood import make_policy as few_words
from tests.spg_trainer.likelihood.test_masks import any_order, mean_elbo

WIDTH = 4


def rollouts_of(*patterns: str) -> Rows:
    """Completions behind a prompt of four tokens, written in the random order of `make_rollouts`."""
    out = make_rollouts([len(patterns[0])] * len(patterns), len(patterns[0]))
    marks = torch.tensor([[ord(mark) for mark in pattern] for pattern in patterns])
    return out.with_columns(
        completion_mask=marks == ord("w"),
        unmask_step=out.unmask_step.masked_fill(marks == ord("g"), GIVEN),
        confidence_change=torch.rand(marks.shape, generator=torch.Generator().manual_seed(0)),
    )


def places(pattern: str, mark: str) -> list[int]:
    return [place for place, own in enumerate(pattern) if own == mark]


# The mean over all masks.


@pytest.mark.parametrize("pattern", ["gwwgw", "w-gww", "g-wg-w", "wggggggw"])
def test_random_masks_average_to_the_any_order_elbo_of_what_was_written(pattern):
    model = ToyModel()
    expected = any_order(model, places(pattern, "w"), later=places(pattern, "-"))
    found = mean_elbo(make_masking("random", 1), rollouts_of(pattern), model)
    assert found == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("pattern", ["gwwgggwgw", "w-ggwgggw", "gggggwwgw", "wwwgg-wgg"])
def test_active_block_masks_average_to_the_elbo_of_the_blocks_of_the_canvas(pattern):
    model, expected = ToyModel(1), 0.0
    written, behind = places(pattern, "w"), places(pattern, "-")
    for block in {place // 3 for place in written}:
        own = [place for place in written if place // 3 == block]
        expected += any_order(model, own, [p for p in written if p // 3 > block] + behind)
    found = mean_elbo(ActiveBlockMasking(1, block_length=3), rollouts_of(pattern), model)
    assert found == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("pattern", ["gwwgw", "wwgw-g"])
def test_autoregressive_masks_average_to_the_chain_of_what_was_written(pattern):
    model, written = ToyModel(2), places(pattern, "w")
    behind = places(pattern, "-")
    expected = sum(model(token, [*written[i:], *behind]) for i, token in enumerate(written))
    for num_masks in (2, 64):
        found = mean_elbo(make_masking("autoregressive", num_masks), rollouts_of(pattern), model)
        assert found == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("name", ["trajectory", "step_merge"])
def test_replayed_steps_average_to_the_path_that_was_taken(name):
    model, pattern = ToyModel(3), "gwwg-wgw"
    rollouts, steps = rollouts_of(pattern), [GIVEN, 2, 0, GIVEN, 1, 1, GIVEN, 0]
    rollouts.unmask_step[0] = torch.tensor(steps)
    masked_at = [[i for i, step in enumerate(steps) if step >= at] for at in range(3)]
    expected = sum(model(i, masked_at[steps[i]]) for i in places(pattern, "w"))
    found = mean_elbo(make_masking(name, 3), rollouts, model)
    assert found == pytest.approx(expected, abs=1e-12)


def test_block_masks_hide_a_part_of_a_block_of_the_canvas_and_all_that_is_later():
    pattern = "wgwwwgggwwgw"
    for seed in range(20):
        masks = BlockMasking(2, block_length=4).draw(rollouts_of(pattern), seeded(seed))
        for scored in masks.scored[0]:
            tokens = scored.nonzero()[:, 0].tolist()
            block = tokens[0] // 4
            later = [place for place in places(pattern, "w") if place // 4 > block]
            assert set(later) <= set(tokens)


# What every masking shows and scores.

EVERY = {
    **{
        name: make_masking(name, 4 if name == "coupled" else 3)
        for name in MASKINGS
        if name != "all" and MASKINGS[name].noise == "mask"
    },
    "all": MASKINGS["all"],
    "modulo": BlockMasking(3, block_length=3, modulo=True),
    "with noise": make_masking("block", 3, 0.15, block_length=3),
    "by entropy": StepMergeMasking(3, segment_draw="entropy"),
}
BY_BLOCKS = ("block", "block_active", "modulo", "with noise")


@pytest.mark.parametrize("name", EVERY)
def test_what_is_given_is_shown_and_what_was_written_alone_is_scored(name):
    patterns = ["gwwgww-g-", "wwwwwwwww", "gggggggwg", "w-gw--gww"]
    rollouts, masking = rollouts_of(*patterns), EVERY[name]
    scored = torch.zeros(rollouts.completion_mask.shape, dtype=torch.bool)
    for seed in range(20):
        masks = masking.draw(rollouts, seeded(seed))
        masked = masks.masked[:, :, WIDTH:]
        given = rollouts.given[:, None].expand_as(masked)
        assert not masked[given].any()
        assert not (masks.scored & ~rollouts.completion_mask[:, None]).any()
        assert not (masks.scored & ~masked).any()
        assert not (masks.part & ~rollouts.completion_mask).any()
        assert torch.equal(masks.weight > 0, masks.scored)
        if not isinstance(masking, StepMergeMasking):
            behind = ~rollouts.completion_mask & ~rollouts.given
            assert masked[behind[:, None].expand_as(masked)].all()
        scored |= masks.scored.any(1)
    assert torch.equal(scored, rollouts.completion_mask), "every written token is scored by some draw"


@pytest.mark.parametrize("name", [name for name in EVERY if name not in BY_BLOCKS])
def test_holes_are_masked_as_a_completion_of_so_many_tokens_is(name):
    """The same draws as for a completion of the written tokens alone, what is behind the ends behind it."""
    pattern = "gw-gwwwg--"
    rollouts, masking = rollouts_of(pattern), EVERY[name]
    order = [*places(pattern, "w"), *places(pattern, "-"), *places(pattern, "g")]
    alone = rollouts.with_columns(
        completion_mask=torch.arange(len(order))[None] < pattern.count("w"),
        unmask_step=rollouts.unmask_step[:, order].clamp(min=-1),
        unmask_logps=rollouts.unmask_logps[:, order],
        confidence_change=rollouts.confidence_change[:, order],
    )
    found, expected = masking.draw(rollouts, seeded()), masking.draw(alone, seeded())
    assert torch.equal(found.scored[..., order], expected.scored)
    assert torch.equal(found.weight[..., order], expected.weight)
    kept = slice(0, len(order) - pattern.count("g"))
    shown = found.masked[..., WIDTH:][..., order][..., kept]
    assert torch.equal(shown, expected.masked[..., WIDTH:][..., kept])


def test_a_tail_that_counts_leaves_out_what_is_given():
    rollouts = rollouts_of("gwwg-w-g").count_tail(pad_id=7)
    assert torch.equal(rollouts.completion_mask, ~rollouts.given)
    assert rollouts.completion_ids[0, [4, 6]].tolist() == [7, 7]
    masks = make_masking("random", 4).draw(rollouts, seeded())
    assert not (masks.scored & rollouts.given[:, None]).any() and masks.scored[..., [4, 6]].any()


# With a model.


def test_the_elbo_of_a_sampled_template_is_that_of_an_enumeration():
    policy, size = few_words(), 7
    canvas = torch.tensor([[0, MASK, MASK, 1, MASK, MASK, 2]])
    drawn = Sampling(size, size, size, 1.0)
    prompt = PROMPT[None]
    seen = set()
    for seed in range(4):
        out = sample_completions(policy, prompt, prompt >= 0, drawn, streams(1, seed), canvas=canvas)
        live = out.completion_mask[0].nonzero()[:, 0]
        seen.add(len(live))

        def holes_alone(tokens, out=out, live=live):
            """Tokens of the places that count in, the law of these places out; what is behind an end stays masked."""
            whole = canvas.repeat(len(tokens), 1)
            whole[:, live] = tokens
            return predictor(policy.model, PROMPT)(whole)[:, live]

        with torch.no_grad():
            logps = context_logps(holes_alone, out.completion_ids[0, live], len(live), MASK)
        expected = float(any_order_elbo(logps))
        model = Toy(policy, out)
        found = mean_elbo(make_masking("random", 1), out, model)
        assert found == pytest.approx(expected, abs=1e-10)
        # By a Monte Carlo that is exact where the quadrature is: bernoulli and coupled masks, many of them.
        for name in ("bernoulli", "coupled"):
            masks = make_masking(name, 2000).draw(out, seeded(seed))
            values = elbo(token_logps(policy, out, masks, 500), masks)
            assert float(values) == pytest.approx(expected, rel=0.1), name
    assert len(seen) > 1, "other seeds: no hole ended early"


class Toy:
    """A model's own logps where `mean_elbo` asks for those of a toy."""

    def __init__(self, policy, rollouts):
        self.policy, self.rollouts = policy, rollouts

    def logps(self, masks, width):
        return token_logps(self.policy, self.rollouts, masks)


@pytest.mark.parametrize("pattern", ["plain", "sequence", "completion, shifted", "full, shifted"])
@pytest.mark.parametrize("masking", ["step_merge", "fidelity"])
def test_replayed_steps_give_the_log_likelihood_that_the_sampler_recorded(pattern, masking):
    policy = make_policy(torch.float64, ends=60)
    if pattern != "plain":
        with_pattern(policy.model, *PATTERNS[pattern])
    prompts, size = make_prompts(policy), 16
    stream = torch.Generator().manual_seed(3)
    canvas = torch.randint(0, policy.mask_id, (6, size), generator=stream)
    canvas[torch.rand(6, size, generator=stream) < 0.6] = policy.mask_id
    drawn = Sampling(size, 4, 8, 1.0)
    out = sample_completions(policy, *pad(policy, prompts), drawn, streams(6), canvas=canvas)
    recorded = (out.unmask_logps * out.completion_mask).sum(-1)
    if masking == "fidelity":
        found = (path_logps(policy, out) * out.completion_mask).sum(-1)
    else:
        masks = make_masking("step_merge", size).draw(out, seeded())
        found = elbo(token_logps(policy, out, masks), masks)
    torch.testing.assert_close(found, recorded, rtol=0, atol=1e-9)
