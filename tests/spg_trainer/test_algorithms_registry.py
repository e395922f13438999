"""Algorithms by name, and settings as people type them."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import spg_trainer.algorithms
from spg_trainer.algorithms import ALGORITHMS, Algorithm, build, get
from spg_trainer.errors import ConfigError


def test_every_name_leads_to_an_algorithm():
    assert {"spg", "spg_repro"} <= set(ALGORITHMS)
    for name in ALGORITHMS:
        assert issubclass(get(name), Algorithm)
        advantages = build(name).compute_advantages(torch.tensor([[1.0, 0.0]], dtype=torch.float64))
        assert advantages.shape == (2,)


@pytest.mark.parametrize(
    "typed, near", [("spgg", "'spg'"), ("SPG-repro", "'spg_repro'"), ("ppo", "Known: spg")]
)
def test_an_unknown_name_answers_with_the_nearest(typed, near):
    with pytest.raises(ConfigError) as caught:
        build(typed)
    assert typed in str(caught.value) and near in str(caught.value)


def test_text_becomes_the_type_of_the_field():
    algorithm = build("spg", {"negatives": "eubo", "eubo_beta": "2", "num_masks": "4", "p_mask_prompt": 0})
    assert (algorithm.negatives, algorithm.eubo_beta, algorithm.num_masks) == ("eubo", 2.0, 4)
    assert isinstance(algorithm.num_masks, int) and isinstance(algorithm.p_mask_prompt, float)
    assert build("spg", {"num_masks": 4.0}).num_masks == 4


@pytest.mark.parametrize(
    "args, hint",
    [
        ({"eubo_bta": 2}, "'eubo_beta'"),
        ({"negatives": "elbow"}, "'elbo'"),
        ({"num_masks": "two"}, "a whole number"),
        ({"num_masks": 2.5}, "a whole number"),
        ({"num_masks": True}, "a whole number"),
        ({"eubo_beta": "inf"}, "a number"),
        ({"mix_weight": None}, "a number"),
        ({"mix_weight": 2}, "from 0 to 1"),
    ],
)
def test_a_wrong_setting_says_what_would_be_right(args, hint):
    with pytest.raises(ConfigError) as caught:
        build("spg", args)
    assert hint in str(caught.value) and next(iter(args)) in str(caught.value)


def test_names_cost_no_heavy_import():
    code = (
        "import sys; from spg_trainer.algorithms.registry import ALGORITHMS; "
        "sys.exit(int(any(m in sys.modules for m in ('torch', 'transformers', 'numba'))))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_algorithms_import_torch_and_their_siblings_only():
    allowed = {
        "torch",
        "spg_trainer.algorithms",
        "spg_trainer.likelihood",
        "spg_trainer.batch",
        "spg_trainer.errors",
    }
    for file in Path(spg_trainer.algorithms.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            names = [node.module] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            for name in names:
                root = name.split(".")[0]
                fine = root in sys.stdlib_module_names or any(
                    name == a or name.startswith(f"{a}.") for a in allowed
                )
                assert fine, f"{file.name} imports {name}"
