"""Experts divided among processes: the gradient, the run and its checkpoints are those of one process with all experts.

The router of a mixture computes in float32, also in a float64 model.
"""

import shutil

import pytest
import torch

from spg_trainer.errors import ConfigError
from spg_trainer.models import load_model, open_policy
from spg_trainer.models.forward import base_model
from spg_trainer.models.shard import divide_experts
from spg_trainer.settings.model import ModelConfig
from spg_trainer.settings.recorded import to_yaml
from spg_trainer.training.loop import train
from spg_trainer.training.plan import settle
from tests.common import expert_runs
from tests.common.family_cases import untrained
from tests.common.likelihood_cases import relative
from tests.common.marks import slow_if
from tests.common.process_cases import (
    EXPERTS,
    ONLY_SLOW,
    experts_config,
    family_config,
    one_step,
    run_processes,
)
from tests.common.trainer_cases import change, rows, small_config, step, tiny_folder, weights
from tests.common.two_processes import left_by, two_processes


def assert_same_run(folder, expected):
    """The same steps, and evaluations to the byte."""
    assert_same_steps(folder, expected)
    for name in ("after", "step-000002"):
        assert (folder / f"eval/{name}.jsonl").read_bytes() == (expected / f"eval/{name}.jsonl").read_bytes()


def assert_same_steps(folder, expected):
    """Equal completions; metrics and weights equal up to the order of sums."""
    for found, row in zip(rows(folder / "metrics.jsonl"), rows(expected / "metrics.jsonl"), strict=True):
        assert found == pytest.approx(row, rel=1e-6, abs=1e-7)
    for file in sorted((expected / "samples").iterdir()):
        found = [row["completion"] for row in rows(folder / "samples" / file.name)]
        assert found == [row["completion"] for row in rows(file)], file.name
    assert_same_weights(weights(folder / "model"), weights(expected / "model"))


def assert_same_weights(found, expected):
    """Up to the order of sums; the bias of the router's choice is 0 in both."""
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert float((found[name] - value).norm()) <= 1e-5 * float(value.norm()), name


@pytest.fixture(scope="module")
def undivided(tmp_path_factory):
    """The run that one process makes of the same settings."""
    folder = tmp_path_factory.mktemp("undivided") / "run"
    train(experts_config(folder, experts_of=1), quiet=True)
    return folder


@pytest.mark.parametrize("name", slow_if(EXPERTS, lambda name: name in ONLY_SLOW))
def test_a_step_of_two_processes_has_the_gradient_of_one(tmp_path, name):
    expected, metrics = one_step(family_config(tmp_path / "one", "llada2", **EXPERTS[name]))
    for rank in (0, 1):
        found, metrics_of_process = left_by(rank)[name]
        assert found.shape == expected.shape and float(expected.norm()) > 1e-3
        assert relative(found, expected) < 1e-5
        assert metrics_of_process == pytest.approx(metrics, rel=1e-6, abs=1e-7)


@pytest.mark.slow
def test_a_run_of_two_processes_is_that_of_one(undivided):
    """With clipped gradients, whose norm counts each weight once."""
    assert rows(undivided / "metrics.jsonl")[0]["grad_norm"] > 0
    assert_same_run(two_processes() / "experts run", undivided)


@pytest.mark.slow
def test_each_of_two_processes_has_half_of_the_experts_and_of_all_else():
    """Of the weights and of the optimizer's moments, as a resumed run has read them: no other experts are read."""
    for rank, own in enumerate(({0, 1, 2, 3}, {4, 5, 6, 7})):
        experts, others, numbers = left_by(rank)["resumed experts"]
        assert experts == {0.5} and max(others) < 0.51 and numbers == own


@pytest.mark.slow
def test_one_process_goes_on_from_what_two_have_divided(tmp_path, undivided):
    folder = shutil.copytree(two_processes() / "experts run", tmp_path / "run")
    shutil.rmtree(step(folder, 2))
    train(experts_config(folder, experts_of=1, resume="auto"), quiet=True)
    assert_same_run(folder, undivided)


@pytest.mark.slow
def test_what_is_written_opens_like_any_model(undivided):
    found, expected = (
        load_model(str(run), device="cpu", dtype="float64").model.state_dict()
        for run in (two_processes() / "experts run", undivided)
    )
    assert_same_weights(found, expected)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"shard": "none"}, r"--expert-parallel 2.*make their passes together.*--shard layer"),
        ({"shard": "phase"}, r"--expert-parallel 2.*make their passes together.*--shard layer"),
        (
            {"lora_r": 2, "lora_experts": True},
            r"adapters of experts are not divided. Leave out --lora-experts",
        ),
        ({"expert_parallel": 3, "processes": 6}, r"--expert-parallel 3 does not divide the 8 experts"),
        ({"processes": 3}, r"--expert-parallel 2 does not divide the 3 processes"),
        (
            {"model": str(tiny_folder())},
            r"--expert-parallel 2: this model has no experts to divide. Leave it out",
        ),
    ],
)
def test_what_cannot_be_divided_is_refused(tmp_path, changes, message):
    settings = {"expert_parallel": 2, "shard": "layer", "processes": 2, "dry_run": True}
    config = small_config(tmp_path / "run", model=untrained("llada2"), **settings)
    settle(config)
    with pytest.raises(ConfigError, match=message):
        settle(change(config, **changes))


def test_an_adapter_on_experts_is_refused():
    """Before anything is divided; a loaded one, too, whose settings do not say where it is."""
    settings = ModelConfig(str(untrained("llada2")), shard="layer", device="cpu", lora_r=2, lora_experts=True)
    base = base_model(open_policy(settings, env="sudoku", seed=3).model)
    with pytest.raises(ConfigError, match=r"the adapter is on experts.*adapters of attention alone"):
        divide_experts(base, torch.device("cpu"), torch.float32, 2)


@pytest.fixture(scope="module")
def of_one_process(tmp_path_factory):
    """The folder of the runs that one process has made."""
    folder = tmp_path_factory.mktemp("one")
    expert_runs.make_all(folder, 1, 1)
    return folder


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("count, experts_of, columns_of", [(2, 2, 1), (4, 2, 1), (4, 4, 1), (4, 2, 2)])
def test_runs_of_three_algorithms_are_those_of_one(tmp_path, of_one_process, count, experts_of, columns_of):
    """With all weights and with adapters; in some steps a process has nothing to learn from."""
    expert_runs.model()
    words = (str(tmp_path), str(experts_of), str(columns_of))
    run_processes("tests.common.expert_runs", *words, count=count, timeout=1500)
    for case in expert_runs.CASES:
        found, expected = (expert_runs.place(folder, *case) for folder in (tmp_path, of_one_process))
        assert all(row["grad_norm"] > 1e-6 for row in rows(expected / "metrics.jsonl")), case
        assert_same_steps(found, expected)
        (gradient, metrics), (gradient_of_one, metrics_of_one) = (
            torch.load(folder / "first_step.pt") for folder in (found, expected)
        )
        assert relative(gradient, gradient_of_one) < 1e-5, case
        assert metrics == pytest.approx(metrics_of_one, rel=1e-6, abs=1e-7), case


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_run_goes_on_with_other_groups_of_processes(tmp_path):
    """Groups of four, of two, of none, of two again; and without groups."""
    config = experts_config(None, experts_of=1, env_args={"dull": "0,3,5"})
    (tmp_path / "settings.yaml").write_text(to_yaml(config))
    flags = ["--config", str(tmp_path / "settings.yaml"), "--resume", "auto"]
    run, layer = ["--output-dir", str(tmp_path / "run")], ["--shard", "layer"]
    parts = [(4, 4), (2, 2), (1, 1), (4, 2), (2, 1)]
    for steps, (count, size) in enumerate(parts, 1):
        divided = [*layer, "--expert-parallel", str(size)] if count > 1 else []
        said = run_processes(
            "spg_trainer", *flags, *run, *divided, "--max-steps", str(steps), count=count, timeout=600
        )
        assert steps == 1 or f"from step {steps - 1}" in said[0]
    run_processes(
        "spg_trainer", *flags, "--output-dir", str(tmp_path / "one"), "--max-steps", "5", count=1, timeout=600
    )
    assert_same_steps(tmp_path / "run", tmp_path / "one")
