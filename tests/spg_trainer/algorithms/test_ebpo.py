"""EBPO: the published formula through a real model, its clip of whole texts by hand."""

import math

import pytest
import torch

from spg_trainer.algorithms.ebpo import EBPO
from spg_trainer.likelihood.masks import AllBlocksMasking
from tests.common.algorithm_cases import (
    ADVANTAGES,
    largest_error,
    logps_gradient,
    make_batch,
    surrogate,
    two_tokens,
)


@pytest.mark.parametrize("off_policy", [0.0, 0.5])
@pytest.mark.parametrize(
    "settings",
    [
        {"num_masks": 5},
        {"beta": 0.3, "num_masks": 3},
        {"masking": "all_blocks", "num_masks": 4, "block_origin": "completion"},
    ],
)
def test_loss_and_gradient_are_those_of_the_published_formula(settings, off_policy):
    algorithm, held = EBPO(block_length=4, **settings), []

    def formula(row):
        def bound(logps):
            """Mean over copies of n_b/k times the sum of each block's masked tokens."""
            total = 0.0
            for m in range(len(logps)):
                for start in range(0, row.length, 4):
                    stop = min(start + 4, row.length)
                    chosen = row.scored[m, start:stop]
                    if chosen.any():
                        total = (
                            total + (stop - start) / int(chosen.sum()) * logps[m, start:stop][chosen].sum()
                        )
            return row.scale * total / len(logps)

        current = bound(row.logps)
        term = -surrogate(current - bound(row.old), row.advantage, 0.2, 0.2, held)
        return (term + algorithm.beta * (current - bound(row.ref)) ** 2 / 2) / row.completions

    error = largest_error(algorithm, formula, off_policy=off_policy, advantages=ADVANTAGES)
    assert error < 1e-10
    assert set(held) == ({True, False} if off_policy else {False})


def test_the_clip_acts_on_the_ratio_of_the_whole_text():
    """Two tokens, each 10% likelier: 1.21 is beyond 1.2, where ESPO's ratio by the token is 1.1."""
    masks, old = two_tokens(), torch.full((1, 1, 2), -3.0, dtype=torch.float64)
    batch = make_batch(masks.part, [1.0], 1, old_logps=old)
    loss, gradient = logps_gradient(EBPO(num_masks=1), masks, batch, old + math.log(1.1))
    assert float(loss.loss) == pytest.approx(-1.2) and not gradient.any()
    assert float(loss.metrics["ratio/mean"].total) == pytest.approx(1.21)


def test_the_masking_for_block_causal_models_knows_where_their_blocks_begin():
    chosen = EBPO(masking="all_blocks", block_length=8, num_masks=2).make_masking()
    assert chosen == AllBlocksMasking(2, 0.0, 8, "sequence")
    assert EBPO(masking="all_blocks", block_origin="completion").make_masking().block_origin == "completion"
