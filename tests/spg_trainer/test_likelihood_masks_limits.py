"""What masking strategies refuse, with a remedy that works, and where there is no upper bound."""

import pytest

from spg_trainer.algorithms.spg import SPG
from spg_trainer.config import Sampling
from spg_trainer.errors import ConfigError
from spg_trainer.likelihood.masks import (
    ActiveBlockMasking,
    BlockMasking,
    BlockModuloMasking,
    RandomMasking,
    TrajectoryMasking,
)
from tests.common.likelihood_cases import make_rollouts, seeded


@pytest.mark.parametrize(
    "size, block_length, num_masks, remedy",
    [
        (20, 20, 2, "--block-length 10 --diffusion-steps 20"),
        (20, 10, 3, "--block-length 5 --diffusion-steps 20 or --algorithm-args num_masks=2"),
        (7, 7, 2, "--block-length 1 --diffusion-steps 7"),
        (2, 1, 3, "--algorithm-args num_masks=2"),
    ],
)
def test_modulo_blocks_need_as_many_blocks_as_masks_and_say_what_works(size, block_length, num_masks, remedy):
    strategy = BlockModuloMasking(num_masks, 0.0, block_length)
    with pytest.raises(ConfigError) as caught:
        strategy.check(size)
    assert str(caught.value).endswith(f"use {remedy}") and f"num_masks={num_masks}" in str(caught.value)
    with pytest.raises(ConfigError, match="num_masks"):
        strategy.draw(make_rollouts([1, size], size), seeded())
    words = remedy.split()
    if words[0] == "--block-length":
        Sampling(size, int(words[1]), int(words[3])).check()
        BlockModuloMasking(num_masks, 0.0, int(words[1])).check(size)


@pytest.mark.parametrize(
    "strategy",
    [
        RandomMasking(9),
        BlockMasking(9, 0.0, 4),
        BlockModuloMasking(2, 0.0, 4),
        ActiveBlockMasking(9),
        TrajectoryMasking(9),
    ],
    ids=lambda strategy: type(strategy).__name__,
)
def test_completions_of_any_size_pass_where_there_are_blocks_enough(strategy):
    for size in (5, 8, 64):
        assert strategy.check(size) is None


def test_a_block_of_one_token_has_one_context_and_no_upper_bound():
    rollouts = make_rollouts([5], 6)
    masks = ActiveBlockMasking(4, 0.0, 1).draw(rollouts, seeded())
    assert (masks.masked == masks.masked[:, :1]).all() and (masks.weight.sum(-1) == 1).all()
    assert not ActiveBlockMasking(4, 0.0, 1).has_eubo and ActiveBlockMasking(4, 0.0, 2).has_eubo
    assert BlockMasking(2, 0.0, 1).has_eubo  # scores later blocks, too, so that tokens meet in other contexts
    with pytest.raises(ConfigError, match="one context only"):
        SPG(masking="block_active", block_length=1)
