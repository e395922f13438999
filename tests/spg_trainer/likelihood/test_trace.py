"""The steps of a rollout that redraws: what is scored is the law of what was drawn, with the gradient of autograd."""

import copy
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch

from spg_trainer import algorithms
from spg_trainer.errors import ConfigError
from spg_trainer.likelihood import KeyedStreams, token_logps
from spg_trainer.likelihood.noise import check_masking
from spg_trainer.likelihood.path_masks import TraceMasking
from spg_trainer.rollout.redraw import sample_canvases
from spg_trainer.rollout.sampler import sample_completions
from spg_trainer.settings.decoding import Sampling
from tests.common.canvases import SIZE, changes_of_generation, open_fixture, stored
from tests.common.likelihood_cases import policy_of
from tests.spg_trainer.likelihood.test_noise import check_gradient

RECORDS = TraceMasking.records
# Tokens of the vocabulary, places of a canvas and its steps in what is enumerated.
WORDS, PLACES, STEPS = 3, 2, 2


def masks_of(rows, masking):
    streams = KeyedStreams(0, ("masks", 1), [(row, 0) for row in range(len(rows))])
    return masking.draw(rows, streams)


def recorded_rows(dtype="float64", records=RECORDS):
    """Three rows of two canvases that the fixture wrote, of which some end in the first."""
    kept, policy = stored(), open_fixture(dtype)
    policy.model.generation_config = copy.deepcopy(policy.model.generation_config)
    for key, value in changes_of_generation("stops").items():
        setattr(policy.model.generation_config, key, value)
    policy = replace(policy, end_token_ids=tuple(policy.model.generation_config.eos_token_id))
    sampling = Sampling(
        max_completion_length=2 * SIZE, block_length=SIZE, diffusion_steps=12, unmasking="entropy_bound"
    )
    seeds = [torch.Generator().manual_seed(200 + row) for row in range(3)]
    return sample_completions(policy, kept["prompt"], kept["prompt_mask"], sampling, seeds, records=records)


class EveryDraw:
    """One row for each way in which the draws of a canvas may fall; a place uses one draw in each step.

    Each row counts its own draws: how many rows are decoded at once depends on the machine.
    """

    def __init__(self):
        self.digits = torch.tensor(list(product(range(WORDS), repeat=PLACES * (1 + STEPS))))
        self.next = torch.zeros(len(self.digits), dtype=torch.int64)

    def uniform(self, rows):
        part = torch.stack([self.tokens(None, row) for row in rows])
        self.next[rows] += PLACES
        return part

    def tokens(self, probabilities, row):
        return self.digits[row, self.next[row] : self.next[row] + PLACES]


def small_model(bound):
    """A DiffusionGemma of three tokens and canvases of two, float64, that no canvas ends early."""
    policy = open_fixture("float64")
    config = copy.deepcopy(policy.model.config)
    config.text_config.vocab_size, config.canvas_length = WORDS, PLACES
    torch.manual_seed(0)
    model = type(policy.model)(config).double().eval()
    with torch.no_grad():
        model.lm_head.weight.mul_(4)
    model.generation_config = copy.deepcopy(policy.model.generation_config)
    model.generation_config.confidence_threshold = 0.0
    model.generation_config.sampler_config.entropy_bound = bound
    return replace(policy_of(model, None), pad_id=0, end_token_ids=(99,))


@pytest.mark.parametrize(
    "bound", [0.1, pytest.param(0.0, marks=pytest.mark.slow), pytest.param(9.0, marks=pytest.mark.slow)]
)
@torch.no_grad()
def test_the_probabilities_of_all_traces_sum_to_one(bound):
    policy, draws = small_model(bound), EveryDraw()
    count = len(draws.digits)
    prompt = torch.tensor([[1, 0, 2]]).expand(count, -1)
    sampling = Sampling(
        max_completion_length=PLACES,
        block_length=PLACES,
        diffusion_steps=STEPS,
        unmasking="entropy_bound",
    )
    mask = torch.ones_like(prompt, dtype=torch.bool)
    rows = sample_canvases(policy, prompt, mask, sampling, draws, None, lambda _: None, RECORDS)
    masks = masks_of(rows, TraceMasking(num_masks=STEPS, block_length=PLACES))
    logps = token_logps(policy, rows, masks, 2)
    accepted = masks.scored.sum((1, 2))
    assert (accepted >= STEPS).all() and (bound != 9.0 or (accepted == STEPS * PLACES).all())
    if bound == 0.1:
        assert 1 < accepted.unique().numel()  # the number that a step accepts depends on the canvas
    # The first canvas and all that is redrawn are uniform.
    log_chance = logps.sum((1, 2)) - (PLACES + STEPS * PLACES - accepted).double() * np.log(WORDS)
    assert logps.exp().std() > 0.1
    assert abs(log_chance.exp().sum() - 1) < 1e-10
    # Each trace by itself: what the model predicts of the canvas before, at the temperature of the step.
    seen, temperatures = rows.canvases.long(), torch.tensor(rows.temperatures, dtype=torch.float64)
    assert torch.equal(seen.transpose(1, 2)[:, 0, 0], draws.digits[:, 0])
    expected = torch.zeros(count, dtype=torch.float64)
    for step in range(STEPS):
        cached = policy.model.encode(prompt, mask)[1]
        column = torch.full((count, 1), prompt.shape[1])
        logits = policy.model.logits(policy.model.decode(seen[:, step][:, None], column, mask, cached))
        of_drawn = (logits / temperatures[step]).log_softmax(-1).gather(-1, seen[:, step + 1, :, None])
        is_accepted = (rows.accepted[:, 0] >> step & 1).bool()
        expected += (of_drawn.squeeze(-1) * is_accepted).sum(-1)
    assert (logps.sum((1, 2)) - expected).abs().max() < 1e-10


def test_what_each_step_saw_and_accepted_is_recorded():
    rows = recorded_rows()
    assert rows.canvases.shape == (3, 7, 2 * SIZE) and rows.accepted.shape == (3, 1, 2 * SIZE)
    assert (rows.canvases.dtype, rows.accepted.dtype) == (torch.int32, torch.uint8)
    assert rows.temperatures[0] == pytest.approx(0.8) and len(rows.temperatures) == 6
    ended_early = rows.unmask_step[:, SIZE] < 0
    assert ended_early.any() and not ended_early.all()
    assert not rows.accepted[ended_early, :, SIZE:].any() and not rows.canvases[ended_early, :, SIZE:].any()
    assert rows.accepted[:, :, :SIZE].any(-1).all()
    again = recorded_rows(records=frozenset())  # conditioned on the step before
    assert "canvases" in again and not torch.equal(again.completion_ids, rows.completion_ids)
    assert torch.equal(again.canvases[:, 0, :SIZE], rows.canvases[:, 0, :SIZE])


def step_of(masks):
    """(B, M), a number that tells the steps of a row apart: of what they show, and in which canvas."""
    canvas = masks.masked[:, :, -2 * SIZE :].int().argmax(-1)
    return (masks.shown * torch.arange(1, 2 * SIZE + 1)).sum(-1) * 100 + canvas


def test_copies_show_different_steps_and_weigh_for_all():
    rows = recorded_rows()
    all_steps = masks_of(rows, TraceMasking(num_masks=12, block_length=SIZE))
    shows = all_steps.scored.any(-1)
    masking = TraceMasking(num_masks=3, block_length=SIZE)
    assert masking.num_segments(rows) == 9
    assert TraceMasking(num_masks=12, block_length=SIZE).num_segments(rows) == shows.sum()
    value = torch.rand(all_steps.scored.shape, generator=torch.manual_seed(0)).double()
    key = step_of(all_steps)
    of_key = {
        (row, int(key[row, m]), round(float(all_steps.temperatures[row, m]), 6)): float(
            (value * all_steps.scored).sum(-1)[row, m]
        )
        for row, m in shows.nonzero().tolist()
    }
    expected = torch.tensor([sum(v for k, v in of_key.items() if k[0] == row) for row in range(3)])
    total = torch.zeros(3)
    for seed in range(200):
        streams = KeyedStreams(seed, ("masks", 1), [(row, 0) for row in range(3)])
        masks = masking.draw(rows, streams)
        keys = step_of(masks)
        for row in range(3):
            assert masks.scored[row].any(-1).all()
            found = [
                of_key[row, int(keys[row, m]), round(float(masks.temperatures[row, m]), 6)] for m in range(3)
            ]
            assert len({*found}) == 3
            total[row] += float(masks.weight[row].amax(-1).mean()) * sum(found) / 3
    assert (total / 200 / expected - 1).abs().max() < 0.08


@pytest.mark.parametrize("name", ["tracerl", "d2_stepmerge"])
def test_the_gradient_is_that_of_plain_autograd(name):
    arguments = {"masking": "trace", "num_masks": 3, "block_length": SIZE}
    if name == "d2_stepmerge":
        arguments["p_mask_prompt"] = 0.0
    else:
        arguments["steps_per_segment"] = 1
    check_gradient(name, arguments, recorded_rows())


def test_what_a_trace_is_not_is_refused():
    with pytest.raises(ConfigError, match=r"steps_per_segment=8: masking=trace .* set steps_per_segment=1"):
        algorithms.build("tracerl", {"masking": "trace"})
    with pytest.raises(ConfigError, match=r"score_temperature=0.8: masking=trace takes each step's own"):
        algorithms.build("d2_stepmerge", {"masking": "trace", "score_temperature": 0.8})
    with pytest.raises(ConfigError, match=r"masking=step_merge: this model has no \[MASK\].*masking=trace"):
        check_masking("uniform", algorithms.build("tracerl", {}).make_masking(), "step_merge")
    with pytest.raises(ConfigError, match=r"masking=trace: this model hides .*\[MASK\].*masking=step_merge"):
        check_masking("mask", TraceMasking(), "trace")
