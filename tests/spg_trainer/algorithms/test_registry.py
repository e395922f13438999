"""Algorithms by name, and settings as people type them."""

from dataclasses import dataclass

import pytest
import torch

from spg_trainer.algorithms import ALGORITHMS, Algorithm, build, get
from spg_trainer.algorithms.spg import SPG
from spg_trainer.errors import ConfigError


def test_every_name_leads_to_an_algorithm():
    assert {"spg", "spg_repro"} <= set(ALGORITHMS)
    for name in ALGORITHMS:
        assert issubclass(get(name), Algorithm)
        advantages = build(name).compute_advantages(torch.tensor([[1.0, 0.0]], dtype=torch.float64))
        assert advantages.shape == (2,)


@pytest.mark.parametrize(
    "name, args, hints",
    [
        ("spgg", {}, ["spgg", "'spg'"]),
        ("SPG-repro", {}, ["SPG-repro", "'spg_repro'"]),
        ("ppo", {}, ["ppo", "Known: spg"]),
        ("spg", {"num_masks": 2.5}, ["num_masks", "a whole number"]),
        ("spg", {"num_masks": True}, ["num_masks", "a whole number"]),
        ("spg", {"eubo_beta": "inf"}, ["eubo_beta", "a number"]),
        ("spg", {"mix_weight": None}, ["mix_weight", "a number"]),
        ("spg", {"mix_weight": 2}, ["mix_weight", "from 0 to 1"]),
        ("spg", {"score_tail": "maybe"}, ["score_tail", "true or false"]),
        (f"{__name__}:Typed", {"steps": "1,x"}, ["steps", "a whole number"]),
    ],
)
def test_a_wrong_name_or_setting_says_what_would_be_right(name, args, hints):
    with pytest.raises(ConfigError) as caught:
        build(name, args)
    assert all(hint in str(caught.value) for hint in hints)


@dataclass(frozen=True)
class Typed(SPG):
    """Settings of every type."""

    clip: float | None = 0.2
    steps: tuple[int, ...] = (1, 2)


@pytest.mark.parametrize(
    "args, expected",
    [
        ({"score_tail": "true", "clip": "none", "steps": "3,4"}, (True, None, (3, 4))),
        ({"score_tail": False, "clip": 0.5, "steps": [5]}, (False, 0.5, (5,))),
        ({"clip": None, "steps": 7}, (False, None, (7,))),
    ],
)
def test_flags_and_lists_may_be_left_out_or_several(args, expected):
    algorithm = build(f"{__name__}:Typed", args)
    assert (algorithm.score_tail, algorithm.clip, algorithm.steps) == expected


def test_text_becomes_the_type_of_the_field():
    algorithm = build("spg", {"negatives": "eubo", "eubo_beta": "2", "num_masks": "4", "p_mask_prompt": 0})
    assert (algorithm.negatives, algorithm.eubo_beta, algorithm.num_masks) == ("eubo", 2.0, 4)
    assert isinstance(algorithm.num_masks, int) and isinstance(algorithm.p_mask_prompt, float)
