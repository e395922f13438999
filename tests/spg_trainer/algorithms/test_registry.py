"""Algorithms by name, their hyper-parameters as people type them, published defaults and values that are refused."""

import re
from math import inf, nan

import pytest
import torch

from spg_trainer.algorithms import ALGORITHMS, Algorithm, build, get
from spg_trainer.algorithms.registry import FOR_USE
from spg_trainer.cli import main
from spg_trainer.errors import ConfigError, written
from spg_trainer.settings.configs import Config
from spg_trainer.settings.types import docstrings


@pytest.mark.parametrize("name", [*ALGORITHMS])
def test_an_algorithm_says_whether_groups_that_are_all_right_teach(name):
    algorithm, beside = build(name), torch.tensor([[1.0, 1.0], [0.0, 0.0]], dtype=torch.float64)
    assert algorithm.right_groups_teach == bool(algorithm.compute_advantages(beside)[:2].any())


def test_every_name_leads_to_an_algorithm():
    for name in ALGORITHMS:
        assert issubclass(get(name), Algorithm)
        assert build(name).end_tokens == (
            "eos" if name.endswith("_repro") and name != "gdpo_repro" else "any"
        )
        advantages = build(name).compute_advantages(torch.tensor([[1.0, 0.0]], dtype=torch.float64))
        assert advantages.shape == (2,)


def test_help_and_list_say_which_algorithms_are_for_use(capsys):
    """The help names exactly these, and the list has the others under a heading of their own."""
    assert set(FOR_USE) <= set(ALGORITHMS)
    told = docstrings(Config)["algorithm"].partition("; for comparison")[0]
    assert re.findall(r"\w+", told.partition(": ")[2].replace(" or ", " ")) == [*FOR_USE]
    assert main(["algorithms", "list"]) == 0
    use, comparison = capsys.readouterr().out.removeprefix("For use:").split("For comparison:")
    assert use.split() == [*FOR_USE]
    assert comparison.split() == [name for name in ALGORITHMS if name not in FOR_USE]


DEFAULTS = {  # masking, num_masks, p_mask_prompt, advantage of the paper, and what else it sets
    "spg": ("block", 2, 0.15, "mean", {"negatives": "mix", "eubo_beta": 1.5, "mix_weight": 0.5}),
    "spg_eubo": ("random", 8, 0.0, "mean", {"negatives": "eubo", "eubo_beta": 1.0}),
    "diffu_grpo": ("all", 1, 0.15, "mean", {"epsilon": 0.5, "beta": 0.04}),
    "wd1": ("all", 1, 0.15, "mean", {"psi": 1.0}),
    "unigrpo": ("rising", 1, 0.0, "mean_std", {"epsilon": 0.2, "beta": 0.01}),
    "gdpo": ("gauss", 3, 0.0, "mean", {"epsilon": 0.5, "beta": 0.0}),
    "bgpo": ("bernoulli", 16, 0.0, "mean_std", {}),
    "espo": ("coupled", 4, 0.0, "mean", {"epsilon": 0.2, "epsilon_high": None, "beta": 1e-3 / 256}),
    "justgrpo": ("autoregressive", 256, 0.0, "mean_std", {}),
    "agrpo": ("step_merge", 24, 0.0, "mean", {"epsilon": 0.2, "beta": 0.0}),
    "d2_stepmerge": ("step_merge", 16, 0.15, "mean", {"epsilon": 0.5, "beta": 0.04}),
    "cj_grpo": ("step_merge", 256, 0.0, "mean", {"epsilon": 0.5, "beta": 0.04}),
    "slim_rl": ("gauss_blocks", 3, 0.0, "mean", {"epsilon": 0.1, "beta": 0.01, "spread": 0.2}),
    "forkgrpo": ("step_merge", 32, 0.0, "mean_std", {"epsilon": 0.2, "beta": 0.0}),
    "tracerl": (
        "step_merge",
        64,
        0.0,
        "z_score",
        {"epsilon": 0.2, "beta": 0.01, "steps_per_segment": 8},
    ),
    "coupled_grpo": ("coupled_full", 3, 0.0, "leave_one_out", {"epsilon": 0.5, "beta": 0.01}),
    "stabledrl": ("block", 2, 0.15, "mean", {"negatives": "mix", "eubo_beta": 1.5, "ceiling": 5.0}),
}


def test_an_algorithm_of_one_s_own_masks_no_prompt_unless_it_says_so():
    """As most named ones; only those that start from d1's code mask 15%."""
    assert Algorithm.p_mask_prompt == 0
    masking = {name for name in ALGORITHMS if get(name).p_mask_prompt}
    of_spg, of_d1 = {"spg", "spg_repro", "stabledrl"}, {"diffu_grpo", "wd1", "d2_stepmerge"}
    assert masking == of_spg | of_d1 | {"diffu_grpo_repro", "wd1_repro"}


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
        ("ppo", {}, "For use: spg, raft"),
        ("dpo", {}, "Did you mean 'vrpo'"),
        ("mdpo", {}, "has what was measured. The nearest one that stays is --algorithm d2_stepmerge"),
        ("DiSPO", {}, "stays is --algorithm spg"),
        # Types, ranges, words.
        ("spg", {"num_masks": 2.5}, "a whole number"),
        ("spg", {"eubo_beta": "inf"}, "a number"),
        ("spg", {"score_tail": "maybe"}, "true or false"),
        ("spg", {"num_masks": 0}, "at least 1"),
        ("spg", {"p_mask_prompt": 1.0}, "at least 0 and below 1"),
        ("spg", {"mix_weight": 2}, "at least 0 and at most 1"),
        ("spg", {"eubo_beta": 0.5}, "at least 1"),
        ("diffu_grpo", {"epsilon": 1.0}, "at least 0 and below 1"),
        ("espo", {"epsilon_high": -1.0}, "at least 0"),
        ("gdpo_repro", {"beta": 0.1}, "at most 0"),
        ("justgrpo", {"p_mask_prompt": 0.15}, "at most 0"),
        ("unigrpo_repro", {"min_ratio": 0.5, "max_ratio": 0.4}, "at least min_ratio"),
        ("vrpo", {"beta": 0.0}, "above 0"),
        ("agrpo", {"p_mask_prompt": 0.15}, "at most 0"),
        ("agrpo", {"segment_draw": "all"}, "uniform, entropy"),
        ("spg", {"sharpness": 2.0}, "left out, as only masking=informed has a sharpness"),
        ("cj_grpo", {"score_tail": True}, "false for masking=step_merge"),
        ("tracerl", {"steps_per_segment": 0}, "at least 1"),
        ("coupled_grpo", {"num_masks": 4}, "num_masks=3"),
        ("coupled_grpo", {"min_ratio": 0.9}, "at least min_ratio=0.9"),
        ("coupled_grpo", {"max_ratio": 1.0}, "below 1"),
        ("stabledrl", {"ceiling": 0.5}, "at least 1"),
        ("maxrl", {"advantage": "mean"}, "no such setting"),
        ("raft", {"masking": "step_merge"}, "expected one of"),
        ("wd1", {"psi": 0.0}, "above 0"),
        ("spg", {"advantage": "median"}, "leave_one_out"),
        ("spg", {"normalizer": "sum"}, "completions"),
        ("spg_repro", {"normalizer": "length"}, "tokens"),
        ("raft", {"advantage": "mean"}, "no such setting"),
        ("vrpo", {"advantage": "mean"}, "best_worst"),
        *((name, {"masking": "blocks"}, get(name).masking) for name in ALGORITHMS),
        # What does not go together.
        ("spg", {"negatives": "mix", "masking": "trajectory", "p_mask_prompt": 0.0}, "negatives=elbo"),
        ("spg", {"negatives": "eubo", "num_masks": 1}, "num_masks=2"),
        ("spg_eubo", {"num_masks": 1}, "set --algorithm-args num_masks=2"),
        ("spg_eubo", {"masking": "coupled", "num_masks": 2}, "num_masks=4"),
        (
            "spg_eubo",
            {"masking": "block_active", "block_length": 1},
            "set --algorithm-args masking=random",
        ),
        ("spg_eubo", {"masking": "trajectory"}, "expected one of random"),
        ("spg_eubo", {"negatives": "elbo"}, "no such setting"),
        ("diffu_grpo_repro", {"normalizer": "length", "beta": 0.0}, "expected one of tokens"),
        ("diffu_grpo_repro", {"end_tokens": "any"}, "expected one of eos"),
        ("wd1_repro", {"normalizer": "groups", "advantage": "z_score"}, "expected one of mean"),
        ("wd1_repro", {"masking": "random"}, "expected one of all"),
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
    assert hint in written(caught.value) and any(key in str(caught.value) for key in args or [name])


@pytest.mark.parametrize("name", ["diffu_grpo_repro", "wd1_repro"])
def test_a_reproduction_takes_its_own_values_and_any_of_what_its_code_leaves_open(name):
    own = {"masking": "all", "advantage": "mean", "end_tokens": "eos", "normalizer": build(name).normalizer}
    assert build(name, own) == build(name)
    assert build(name, {"p_mask_prompt": 0.0}).p_mask_prompt == 0.0


@pytest.mark.parametrize("bad", [nan, inf])
def test_numbers_that_are_none_are_refused_from_python_too(bad):
    """`build` refuses all that are not finite."""
    for name, field in (("spg", "eubo_beta"), ("diffu_grpo", "beta"), ("wd1", "psi"), ("vrpo", "beta")):
        with pytest.raises(ConfigError, match=field):
            get(name)(**{field: bad})


def test_a_file_that_was_edited_is_loaded_anew(tmp_path):
    file = tmp_path / "edited_algorithm.py"
    for masking in ("random", "block", "random"):
        file.write_text(
            "from dataclasses import dataclass\nfrom spg_trainer.algorithms.spg import SPG\n"
            f"@dataclass(frozen=True)\nclass Mine(SPG):\n    masking: str = '{masking}'\n"
        )
        assert build(f"{file}:Mine").masking == masking
    assert get(f"{file}:Mine") is get(f"{file}:Mine")


def test_what_is_no_algorithm_is_not_proposed_again(tmp_path):
    file = tmp_path / "plain_algorithm.py"
    file.write_text("class Plain: pass\n")
    with pytest.raises(ConfigError, match=r"Plain is no class derived from \S+Algorithm\.$"):
        get(f"{file}:Plain")
    with pytest.raises(
        ConfigError, match=r"plain_algorithm\.py has no class Plein\. Did you mean 'Plain'\?$"
    ):
        get(f"{file}:Plein")
