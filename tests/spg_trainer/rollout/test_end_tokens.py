"""--eos-penalty and --min-completion-length: end tokens are held back before anything is drawn."""

import math
from dataclasses import replace

import pytest
import torch

from spg_trainer.errors import ConfigError
from spg_trainer.rollout.draw import sample_tokens
from spg_trainer.rollout.sampler import sample_completions
from spg_trainer.rollout.unmasking import certainty, margin
from spg_trainer.seeding import generator
from tests.common.marks import slow_if
from tests.common.rollout_cases import LENGTHS, SAMPLING, make_policy, make_prompts, pad, streams

MASK, WIDTH, ENDS = 4, 9, (2, 7)


@pytest.mark.parametrize("cut", [{}, {"top_p": 0.8}, {"top_k": 3}])
@pytest.mark.parametrize("temperature", [0.0, 1.3])
def test_tokens_and_all_that_is_known_of_them_are_those_of_the_lowered_logits(temperature, cut):
    logits = 2 * torch.randn(60, WIDTH, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    logits[:, ENDS[0]] += 3
    penalty = torch.tensor([0.0, 1.5, math.inf]).repeat(20)
    lowered = logits.clone()
    lowered[:, list(ENDS)] -= penalty[:, None]
    measures = [certainty, margin]

    def draw(of: torch.Tensor, **more: object) -> tuple:
        noise = [generator(0, row) for row in range(len(of))]
        # The weight and not the states, so that an infinity is not multiplied by the 0 of another token.
        found = sample_tokens(
            torch.eye(len(of), dtype=of.dtype),
            of.T.contiguous(),
            MASK,
            temperature,
            noise,
            [1] * len(of),
            measures,
            **more,
        )
        return found[0], found[1], *found[2]

    expected = [draw(lowered.nan_to_num(neginf=-1e4), **cut), draw(logits, ends=ENDS, penalty=penalty, **cut)]
    for values, found in zip(*expected, strict=True):
        assert torch.allclose(found, values, atol=1e-12) and found.double().isfinite().all()
    drawn = expected[1][0]
    assert not any((drawn[2::3] == end).any() for end in ENDS) and any(
        (drawn[::3] == end).any() for end in ENDS
    )


@pytest.mark.parametrize(
    "more",
    slow_if(
        [{}, {"cache": "dual"}, {"remasking": "random"}, {"unmasking": "threshold"}],
        lambda more: "cache" not in more,
    ),
)
def test_no_completion_ends_among_its_first_tokens(more):
    policy = make_policy(torch.float32)
    prompts = pad(policy, make_prompts(policy))
    ends = torch.tensor(policy.end_token_ids)

    def ends_of(**changes: object) -> list[list[int]]:
        sampling = replace(SAMPLING, temperature=1.0, **more, **changes)
        found = sample_completions(policy, *prompts, sampling, streams(len(LENGTHS)))
        return [torch.isin(ids, ends).nonzero().flatten().tolist() for ids in found.completion_ids]

    free, held = ends_of(), ends_of(min_completion_length=12)
    assert any(places and places[0] < 12 for places in free), "else this shows nothing"
    assert all(not places or places[0] >= 12 for places in held) and any(held)
    assert not any(ends_of(eos_penalty=1e4))
    assert ends_of(eos_penalty=0.0, min_completion_length=0) == free


def test_a_completion_cannot_be_longer_than_it_may_be():
    with pytest.raises(ConfigError, match="--min-completion-length 25 is longer than a completion"):
        replace(SAMPLING, min_completion_length=25).check()
