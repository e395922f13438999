"""EBPO: its clip of whole texts by hand."""

import math

import pytest
import torch

from spg_trainer.algorithms.ebpo import EBPO
from spg_trainer.likelihood.block_masks import AllBlocksMasking
from tests.common.algorithm_cases import (
    logps_gradient,
    make_batch,
    two_tokens,
)


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
