"""Log-likelihoods of texts against an enumeration of all masks, and their draws against what they promise."""

from itertools import combinations
from math import comb

import numpy as np
import pytest
import torch

from spg_trainer.evaluation.log_likelihood import draw_masks, elbo_of_ids, is_greedy
from spg_trainer.models import Policy, new_tiny
from spg_trainer.seeding import numpy_generator
from tests.common.block_cases import PATTERNS, plain_logits, with_pattern


def policy_of(name: str | None = None) -> Policy:
    """A small untrained model in float64; its contexts matter."""
    model = new_tiny(hidden_size=32, layers=2, heads=4, ffn=48).double()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.mul_(4)
    if name is not None:
        with_pattern(model, *PATTERNS[name])
    return Policy(model, None, 258, 256, (256,), "test")


def enumerated(policy: Policy, prompt: list[int], text: list[int], spans: list[tuple[int, int]]) -> float:
    """The ELBO by its definition: each block on its own, every number of masked tokens, every way to mask so many."""
    total = 0.0
    for start, stop in spans:
        size = stop - start
        for k in range(1, size + 1):
            for places in combinations(range(start, stop), k):
                shown = [*prompt, *text[:stop]]
                if policy.model.pattern.is_full:
                    shown += text[stop:]
                for place in places:
                    shown[len(prompt) + place] = policy.mask_id
                logps = plain_logits(policy.model, shown, len(prompt)).log_softmax(-1)
                chosen = sum(float(logps[len(prompt) + place, text[place]]) for place in places)
                total += chosen * size / k / size / comb(size, k)
    return total


@pytest.mark.parametrize("name", [None, "full, shifted", "sequence", "completion, shifted"])
def test_short_texts_are_exact(name):
    policy, prompt, text = policy_of(name), [5, 6, 7], [50, 60, 70, 80]
    pattern = policy.model.pattern
    spans = [(0, 4)] if pattern.is_full else list(pattern.spans(3, 4, pattern.block_size))
    for seed in (0, 1):
        found = elbo_of_ids(policy, prompt, text, numpy_generator(seed, "test"))
        assert found == pytest.approx(enumerated(policy, prompt, text, spans), rel=1e-10)


def test_without_a_prompt_all_of_a_text_is_scored():
    policy, text = policy_of(), [50, 60, 70]
    found = elbo_of_ids(policy, [], text, numpy_generator(0, "test"))
    assert found == pytest.approx(enumerated(policy, [], text, [(0, 3)]), rel=1e-10)


@pytest.mark.slow
def test_draws_are_unbiased_and_as_many_as_asked_for():
    """Of a text too long for all masks, against all of its masks, over 200 repeats."""
    policy, prompt, text = policy_of(), [5, 6], [50, 60, 70, 80, 90]
    exact = elbo_of_ids(policy, prompt, text, numpy_generator(0, "test"), num_masks=31)
    found = [
        elbo_of_ids(policy, prompt, text, numpy_generator(seed, "test"), num_masks=10) for seed in range(200)
    ]
    error = np.std(found) / np.sqrt(len(found))
    assert error > 0 and abs(np.mean(found) - exact) < 4 * error
    masked, weights = draw_masks(50, 128, numpy_generator(0, "test"))
    assert masked.shape == (128, 50) and len(weights) == 128
    assert len(set(masked.sum(1))) == 50, "every number of masked tokens is there"
    assert (weights[:, None] * masked).sum() == pytest.approx(50), "each token weighs 1 in the mean"


def test_what_greedy_decoding_writes_is_greedy_and_nothing_else_is():
    policy, prompt = policy_of(), [5, 6, 7]
    text = [policy.mask_id] * 4
    for _ in range(4):
        logps = plain_logits(policy.model, [*prompt, *text], 3).log_softmax(-1)[3:]
        logps[:, policy.mask_id] = float("-inf")
        best = [
            (float(row.max()), -i, int(row.argmax()))
            for i, row in enumerate(logps)
            if text[i] == policy.mask_id
        ]
        _, place, token = max(best)
        text[-place] = token
    assert is_greedy(policy, prompt, text)
    assert not is_greedy(policy, prompt, [*text[:3], (text[3] + 1) % 250])
