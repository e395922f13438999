"""Lengths, steps and blocks: what divides, what each step reveals, and what the errors say."""

import subprocess
import sys

import pytest

from spg_trainer.config import Sampling
from spg_trainer.errors import ConfigError
from spg_trainer.sampler import unmask_counts


@pytest.mark.parametrize(
    ("hidden", "steps", "counts"),
    [(8, 5, [2, 2, 2, 1, 1]), (8, 4, [2, 2, 2, 2]), (32, 32, [1] * 32), (7, 2, [4, 3]), (5, 1, [5])],
)
def test_the_remainder_goes_to_the_first_steps(hidden, steps, counts):
    assert unmask_counts(hidden, steps) == counts


def test_defaults_are_valid_and_greedy():
    sampling = Sampling()
    sampling.check()
    assert (sampling.num_blocks, sampling.steps_per_block) == (8, 16)
    assert not sampling.draws_noise
    assert Sampling(remasking="random").draws_noise
    assert Sampling(temperature=0.1).draws_noise


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (
            dict(max_completion_length=256, block_length=48),
            ["block_length=48 does not divide max_completion_length=256", "256 / 48 = 5.33", "=64", "=288"],
        ),
        (
            dict(max_completion_length=256, block_length=32, diffusion_steps=100),
            ["diffusion_steps=100", "8 blocks (256 tokens / 32 per block)", "100 / 8 = 12.50", "=104"],
        ),
        (
            dict(max_completion_length=64, block_length=32, diffusion_steps=128),
            ["128 over 2 blocks is 64 steps per block", "only 32 tokens", "diffusion_steps=64"],
        ),
        (dict(max_completion_length=0), ["max_completion_length=0", "at least 1"]),
        (dict(block_length=-4), ["block_length=-4"]),
        (dict(diffusion_steps=12.5), ["diffusion_steps=12.5", "whole number"]),
        (dict(temperature=-0.1), ["temperature=-0.1", "0 (greedy)"]),
        (dict(temperature=float("nan")), ["temperature=nan"]),
    ],
)
def test_settings_that_cannot_decode_are_explained(settings, words):
    with pytest.raises(ConfigError) as error:
        Sampling(**settings).check()
    for word in words:
        assert word in str(error.value)


def test_what_the_errors_propose_works():
    Sampling(max_completion_length=256, block_length=64, diffusion_steps=128).check()
    Sampling(max_completion_length=288, block_length=48, diffusion_steps=126).check()
    Sampling(max_completion_length=256, block_length=32, diffusion_steps=104).check()


def test_sampling_is_had_without_torch():
    code = "import sys; from spg_trainer.config import Sampling; Sampling(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0
