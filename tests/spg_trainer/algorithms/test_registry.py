"""Algorithms by name, their hyper-parameters as people type them, published defaults and values that are refused."""

from dataclasses import dataclass
from math import inf, nan

import pytest
import torch

from spg_trainer.algorithms import ALGORITHMS, Algorithm, build, get
from spg_trainer.algorithms.spg import SPG
from spg_trainer.errors import ConfigError


def test_every_name_leads_to_an_algorithm():
    for name in ALGORITHMS:
        assert issubclass(get(name), Algorithm)
        assert get(name).end_tokens == ("eos" if name.endswith("_repro") and name != "gdpo_repro" else "any")
        advantages = build(name).compute_advantages(torch.tensor([[1.0, 0.0]], dtype=torch.float64))
        assert advantages.shape == (2,)


DEFAULTS = {  # masking, num_masks, p_mask_prompt, advantage of the paper, and what else it sets
    "spg": ("block", 2, 0.15, "mean", {"negatives": "mix", "eubo_beta": 1.5, "mix_weight": 0.5}),
    "diffu_grpo": ("all", 1, 0.15, "mean", {"epsilon": 0.5, "beta": 0.04}),
    "wd1": ("all", 1, 0.15, "mean", {"psi": 1.0}),
    "unigrpo": ("rising", 1, 0.0, "mean_std", {"epsilon": 0.2, "beta": 0.01}),
    "gdpo": ("gauss", 3, 0.0, "mean", {"epsilon": 0.5, "beta": 0.0}),
    "bgpo": ("bernoulli", 16, 0.0, "mean_std", {}),
    "espo": ("coupled", 4, 0.0, "mean", {"epsilon": 0.2, "epsilon_high": None, "beta": 1e-3 / 256}),
    "justgrpo": ("autoregressive", 256, 0.0, "mean_std", {}),
}


@pytest.mark.parametrize("name", DEFAULTS)
def test_defaults_are_the_paper_s(name):
    algorithm = build(name)
    *shared, own = DEFAULTS[name]
    assert [algorithm.masking, algorithm.num_masks, algorithm.p_mask_prompt, algorithm.advantage] == shared
    assert {key: getattr(algorithm, key) for key in own} == own


@pytest.mark.parametrize(
    "name, args, hint",
    [
        ("spgg", {}, "'spg'"),
        ("SPG-repro", {}, "'spg_repro'"),
        ("ppo", {}, "Known: spg"),
        # Types.
        ("spg", {"num_masks": 2.5}, "a whole number"),
        ("spg", {"num_masks": True}, "a whole number"),
        ("spg", {"eubo_beta": "inf"}, "a number"),
        ("spg", {"mix_weight": None}, "a number"),
        ("spg", {"score_tail": "maybe"}, "true or false"),
        (f"{__name__}:Typed", {"steps": "1,x"}, "a whole number"),
        # Ranges.
        ("spg", {"num_masks": 0}, "at least 1"),
        ("spg", {"p_mask_prompt": 1.0}, "from 0 up to"),
        ("spg", {"block_length": 0}, "at least 1"),
        ("spg", {"mix_weight": 2}, "from 0 to 1"),
        ("spg", {"eubo_beta": 0.5}, "1 or more"),
        ("diffu_grpo", {"epsilon": 1.0}, "from 0 up to"),
        ("diffu_grpo", {"beta": -0.1}, "0 or more"),
        ("espo", {"epsilon_high": -1.0}, "0 or more"),
        ("gdpo_repro", {"beta": 0.1}, "should be 0"),
        ("justgrpo", {"p_mask_prompt": 0.15}, "should be 0"),
        ("unigrpo_repro", {"min_ratio": 0.5, "max_ratio": 0.4}, "at least min_ratio"),
        ("unigrpo_repro", {"max_ratio": 1.1}, "from 0 to 1"),
        ("vrpo", {"beta": 0.0}, "above 0"),
        ("wd1", {"psi": 0.0}, "above 0"),
        # Words.
        ("spg", {"advantage": "median"}, "leave_one_out"),
        ("spg", {"masking": "blocks"}, "block_active"),
        ("spg", {"normalizer": "sum"}, "completions"),
        ("spg_repro", {"masking": "block_active"}, "random, block"),
        ("spg_repro", {"normalizer": "length"}, "tokens"),
        ("raft", {"masking": "block"}, "random"),
        ("raft", {"advantage": "mean"}, "no setting advantage"),
        ("bgpo", {"masking": "block"}, "bernoulli"),
        ("diffu_grpo_repro", {"masking": "random"}, "all"),
        ("espo", {"masking": "rising"}, "coupled"),
        ("espo_repro", {"masking": "random"}, "coupled"),
        ("justgrpo", {"masking": "random"}, "autoregressive"),
        ("vrpo", {"advantage": "mean"}, "best_worst"),
        # What does not go together.
        ("spg", {"negatives": "mix", "masking": "trajectory", "p_mask_prompt": 0.0}, "negatives=elbo"),
        ("spg", {"negatives": "eubo", "num_masks": 1}, "num_masks=2"),
        ("spg", {"p_mask_prompt": 0.15, "masking": "trajectory"}, "0 for masking=trajectory"),
        (
            "spg",
            {"score_tail": True, "masking": "trajectory", "p_mask_prompt": 0.0},
            "false for masking=trajectory",
        ),
        ("diffu_grpo", {"num_masks": 2, "p_mask_prompt": 0.0}, "num_masks=1"),
        ("diffu_grpo", {"num_masks": 3, "masking": "coupled"}, "num_masks=4"),
    ],
    ids=str,
)
def test_a_wrong_name_or_setting_says_what_would_be_right(name, args, hint):
    with pytest.raises(ConfigError) as caught:
        build(name, args).make_masking()
    assert hint in str(caught.value) and any(key in str(caught.value) for key in args or [name])


@pytest.mark.parametrize("bad", [nan, inf])
def test_numbers_that_are_none_are_refused_from_python_too(bad):
    """`build` refuses all that are not finite."""
    for name, field in (("spg", "eubo_beta"), ("diffu_grpo", "beta"), ("wd1", "psi"), ("vrpo", "beta")):
        with pytest.raises(ConfigError, match=field):
            get(name)(**{field: bad})


@dataclass(frozen=True)
class Typed(SPG):
    """Settings of every type."""

    clip: float | None = 0.2
    steps: tuple[int, ...] = (1, 2)


@pytest.mark.parametrize(
    "args, expected",
    [
        ({"score_tail": "true", "num_masks": "4", "clip": "none", "steps": "3,4"}, (True, None, (3, 4))),
        ({"score_tail": False, "clip": 0.5, "steps": [5]}, (False, 0.5, (5,))),
        ({"clip": None, "steps": 7}, (False, None, (7,))),
    ],
)
def test_flags_and_lists_may_be_left_out_or_several(args, expected):
    algorithm = build(f"{__name__}:Typed", args)
    assert (algorithm.score_tail, algorithm.clip, algorithm.steps) == expected
