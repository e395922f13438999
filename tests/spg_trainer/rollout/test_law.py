"""The law that tokens are drawn from, cut by --top-p and --top-k: against one spelled out, token by token."""

import math
from collections import Counter

import pytest
import torch

from spg_trainer.rollout.draw import log_exponential, sample_tokens
from spg_trainer.rollout.sampler import sample_completions
from spg_trainer.rollout.unmasking import certainty
from spg_trainer.seeding import generator
from spg_trainer.settings.decoding import Sampling
from tests.common.rollout_cases import SAMPLING, make_policy, make_prompts, pad, streams

MASK, WIDTH = 4, 9
CUTS = [(0, 0.9), (0, 0.3), (3, 1.0), (1, 1.0), (2, 0.8), (5, 0.5), (99, 0.999999)]


def spelled_out(logits: list[float], temperature: float, top_k: int, top_p: float) -> dict[int, float]:
    """The probability of each token that can be drawn."""
    weights = {token: math.exp(x / temperature) for token, x in enumerate(logits) if token != MASK}
    whole, law, reached = sum(weights.values()), {}, 0.0
    for token in sorted(weights, key=lambda token: -weights[token]):
        if reached >= top_p or (top_k and len(law) == top_k):
            break
        law[token] = weights[token]
        reached += weights[token] / whole
    return {token: weight / sum(law.values()) for token, weight in law.items()}


def drawn_of(logits: torch.Tensor, temperature: float, seed: int = 0, **cut: object) -> tuple:
    """What `sample_tokens` draws for rows of logits (N, V), each one masked position of a row of its own."""
    noise = [generator(seed, row) for row in range(len(logits))]
    identity = torch.eye(logits.shape[1], dtype=logits.dtype)
    return sample_tokens(logits, identity, MASK, temperature, noise, [1] * len(logits), **cut)


@pytest.mark.parametrize("temperature", [0.4, 1.0, 1.7])
@pytest.mark.parametrize("top_k, top_p", CUTS)
def test_a_token_and_its_probability_are_those_of_the_law_and_measures_see_the_model(
    top_k, top_p, temperature
):
    """The token is the first to arrive where each arrives at the rate of its probability, after its own E / rate."""
    logits = 2 * torch.randn(40, WIDTH, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    logits[:, MASK] += 2
    tokens, logps, (sure,) = drawn_of(logits, temperature, top_k=top_k, top_p=top_p, measures=[certainty])
    for row, line in enumerate(logits.tolist()):
        law = spelled_out(line, temperature, top_k, top_p)
        times = torch.empty(1, WIDTH)
        log_exponential(times, [times], [generator(0, row)])
        first = min(law, key=lambda token: times[0, token].exp().item() / law[token])
        assert int(tokens[row]) == first
        assert float(logps[row]) == pytest.approx(math.log(law[first]), abs=1e-10)
        plain = torch.tensor(line, dtype=torch.float64).log_softmax(-1)
        assert float(sure[row]) == pytest.approx(float((plain.exp() * plain).sum()), abs=1e-10)


def test_tokens_are_drawn_as_often_as_the_law_says():
    line = [1.0, 0.2, 2.0, -1.0, 3.0, 0.9, -2.0, 1.5, 0.0]
    law = spelled_out(line, 0.8, 0, 0.9)
    assert len(law) == 4
    found = Counter(drawn_of(torch.tensor([line] * 8000), 0.8, top_p=0.9)[0].tolist())
    assert set(found) == set(law)
    square = sum((found[token] - 8000 * p) ** 2 / (8000 * p) for token, p in law.items())
    assert square < 16.3  # exceeded once in a thousand, of three degrees of freedom


def test_a_cut_that_leaves_all_or_greedy_tokens_changes_nothing_but_what_is_recorded():
    policy = make_policy(torch.float64)
    inputs = pad(policy, make_prompts(policy))

    def sampled(**changes: object):
        sampling = Sampling(**{**vars(SAMPLING), **changes})
        return sample_completions(policy, *inputs, sampling, streams(len(inputs[0])))

    plain, all_left = sampled(temperature=1.0, remasking="random"), {"remasking": "random", "top_k": 10**6}
    assert torch.equal(sampled(temperature=1.0, **all_left).completion_ids, plain.completion_ids)
    greedy, cut = sampled(temperature=0.0), sampled(temperature=0.0, top_k=2, top_p=0.5)
    assert torch.equal(greedy.completion_ids, cut.completion_ids)
    assert torch.equal(greedy.unmask_logps, cut.unmask_logps)
    few = sampled(temperature=1.0, remasking="random", top_k=2)
    assert not torch.equal(few.completion_ids, plain.completion_ids)
    assert few.unmask_logps.isfinite().all() and (few.unmask_logps <= 0).all()
