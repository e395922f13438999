"""MAPG: its loss is the published one on every text and path of a small vocabulary, and what it cannot score."""

import itertools
from collections import Counter

import pytest
import torch

from spg_trainer.algorithms.base import loss_of_values
from spg_trainer.algorithms.mapg import MAPG
from spg_trainer.architecture.pattern import Pattern
from spg_trainer.errors import ConfigError
from spg_trainer.tensors import Rows
from tests.common.algorithm_cases import make_batch
from tests.common.likelihood_cases import seeded

END, MASK, SIZE = 1, 2, 5
"""The words are 0 and the end token."""
PATHS = [
    [*first, *last]
    for first in ([0, 1, 2], [2, 0, 1], [1, 1, 0])
    for last in ([3, 4], [4, 3], [3, 3], [-1, -1])
]
"""Steps of the places, in a block of three and one of two; the sampler may leave the last block out."""


def rollouts_of(words: tuple[int, ...], steps: list[int]) -> Rows:
    end = words.index(END) if END in words else SIZE
    is_token = (torch.arange(SIZE)[None] <= end) & (torch.tensor([steps]) >= 0)
    return Rows(
        prompt_ids=torch.zeros(1, 1, dtype=torch.int64),
        prompt_mask=torch.ones(1, 1, dtype=torch.bool),
        completion_ids=torch.tensor([words]).where(torch.tensor([steps]) >= 0, MASK),
        completion_mask=is_token,
        unmask_step=torch.tensor([steps]),
        unmask_logps=torch.zeros(1, SIZE),
    )


def published(logits, rows: Rows, segments: list[tuple[int, int]]):
    """(mean log-probability of tokens, of positions) of the segments (first, last step), from `logits`.

    logits: canvas -> (T, 2). As the published code computes it; a place that is written after the completion has ended,
    or never, counts as written last.
    """
    words, steps = rows.completion_ids[0].tolist(), rows.unmask_step[0].tolist()
    ended = max(
        (step for step, token in zip(steps, rows.completion_mask[0], strict=True) if token), default=-1
    )
    steps = [step if 0 <= step <= ended else 99 for step in steps]
    tokens, places = [], []
    for first, last in segments:
        canvas = tuple(w if step < first else MASK for w, step in zip(words, steps, strict=True))
        z = logits[canvas]
        later = [z[j].max() for j in range(SIZE) if steps[j] > last]
        for i in range(SIZE):
            if first <= steps[i] <= last and rows.completion_mask[0, i]:
                tokens.append(z[i].log_softmax(-1)[words[i]])
                places.append(z[i, words[i]] - torch.stack([z[i, words[i]], *later]).logsumexp(0))
    zero = logits.sum() * 0
    return (sum(tokens) / len(tokens), sum(places) / len(places)) if tokens else (zero, zero)


@pytest.mark.parametrize("size", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_loss_and_gradient_are_the_published_ones_on_every_text_and_path(size, at_length):
    stream = torch.Generator().manual_seed(3)
    new, old = (torch.randn((*[3] * SIZE, SIZE, 2), generator=stream, dtype=torch.float64) for _ in range(2))
    logits = (new * 2).requires_grad_()
    algorithm = MAPG(num_masks=2, steps_per_segment=size, epsilon=0.3, epsilon_high=0.4, position_weight=0.5)
    drawn, clips = Counter(), 0
    cases = [*enumerate(itertools.product(itertools.product((0, END), repeat=SIZE), PATHS))]
    for number, (words, steps) in cases[:: 1 if at_length else 5]:
        rows = rollouts_of(words, steps)
        masks = algorithm.make_masking().draw(rows, seeded(number))

        def values(table, masks=masks, rows=rows):
            """What a pass returns: log-probabilities, then raw logits, of the token where it is scored."""
            found = table.sum() * 0 + table.new_zeros(masks.valued.shape)
            for _, m, at in masks.valued.nonzero().tolist():
                seen = rows.completion_ids[0].masked_fill(masks.masked[0, m, 1:], MASK)
                z, word = table[tuple(seen.tolist())][at % SIZE], int(rows.completion_ids[0, at % SIZE])
                if at < SIZE:
                    value = z.log_softmax(-1)[word]
                else:
                    value = z[word] if masks.scored[0, m, at - SIZE] else z.max()
                found = found.index_put(tuple(map(torch.tensor, (0, m, at))), value)
            return found

        firsts = {
            (step - 1) // size * size + 1
            for step, token in zip(steps, rows.completion_mask[0], strict=True)
            if token and step > 0
        }
        shown = [
            {(steps[i] - 1) // size * size + 1 for i in copy.nonzero()[:, 0].tolist()}
            for copy in masks.scored[0]
        ]
        chosen = [first for copy in shown for first in copy]
        assert all(len(copy) <= 1 for copy in shown) and set(chosen) <= firsts
        assert len(chosen) == len(set(chosen)) == min(2, len(firsts))
        if len(firsts) == 3:
            drawn[sorted(firsts).index(*firsts - set(chosen))] += 1
        for worth in (1.0, -1.0):
            logps, measured = masks.split(values(old))
            batch = make_batch(rows.completion_mask, [worth], 8, old_logps=logps, old_measured=measured)
            loss = loss_of_values(algorithm, masks, batch, values(logits)).loss
            (found,) = torch.autograd.grad(loss, logits)
            segments = [(first, first + size - 1) for first in chosen]
            terms = []
            for now, before in zip(
                published(logits, rows, segments), published(old, rows, segments), strict=True
            ):
                ratio = (now - before).exp()
                terms.append(torch.minimum(ratio * worth, ratio.clamp(0.7, 1.4) * worth))
                clips += not 0.7 <= float(ratio.detach()) <= 1.4
            expected = -(terms[0] + 0.5 * terms[1]) / 8
            (gradient,) = torch.autograd.grad(expected, logits)
            assert loss.item() == pytest.approx(expected.item(), rel=1e-10, abs=1e-14)
            assert torch.allclose(found, gradient, rtol=1e-10, atol=1e-14)
    assert clips > 100
    assert size > 1 or max(drawn.values()) - min(drawn.values()) < 4 * sum(drawn.values()) ** 0.5, "uniform"


def test_what_a_sampler_writes_after_the_end_changes_no_competition():
    """`--cache none` stops at once when a completion has ended, and other caches write its block to the end."""
    words, written, stopped = (0, END, 0, 0, 0), [0, 1, 2, 3, 4], [0, 1, -1, -1, -1]
    masking = MAPG(num_masks=2, steps_per_segment=2).make_masking()
    masks = [masking.draw(rollouts_of(words, steps), seeded(0)) for steps in (written, stopped)]
    assert torch.equal(masks[0].measured, masks[1].measured) and int(masks[0].measured.sum()) == 4
    assert torch.equal(masks[0].masked[0, 0], masks[1].masked[0, 0])


def test_settings_that_mean_nothing_and_models_that_attend_in_blocks_are_refused():
    with pytest.raises(
        ConfigError, match=r"--algorithm-args position_temperature=0\.0: expected a number, above 0"
    ):
        MAPG(position_temperature=0.0)
    for pattern in (Pattern(4), Pattern(4, "completion")):
        with pytest.raises(ConfigError, match=r"attends in blocks.*d2_stepmerge"):
            MAPG().make_masking().check_pattern(pattern)
    MAPG().make_masking().check_pattern(Pattern())
