"""Weights divided among processes: the gradient, the run and its checkpoints are those of one process that has all."""

import itertools
import json
import shutil
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from spg_trainer.errors import ConfigError, ModelError
from spg_trainer.evaluation.command import run_eval
from spg_trainer.models import load_model, open_policy, shard
from spg_trainer.models.forward import base_model
from spg_trainer.settings.model import ModelConfig
from spg_trainer.training.loop import train
from tests.common.likelihood_cases import relative
from tests.common.marks import slow_if
from tests.common.process_cases import (
    DIVIDED,
    SHARDED,
    eval_command,
    gradient_config,
    half_config,
    is_default,
    loop_config,
    one_step,
)
from tests.common.trainer_cases import adam_state, change, rows, small_config, step, tiny_folder, weights
from tests.common.two_processes import left_by, two_processes


def all_weights(folder):
    """The tensors of a model's files, one or several."""
    return {name: value for file in folder.glob("*.safetensors") for name, value in load_file(file).items()}


def assert_same_run(folder, expected, tolerance=1e-10):
    """Equal completions; metrics and weights equal up to the order of sums."""
    for found, row in zip(rows(folder / "metrics.jsonl"), rows(expected / "metrics.jsonl"), strict=True):
        assert found == pytest.approx(row, rel=1e-8, abs=1e-10)
    for name in ("after", "step-000002"):
        assert (folder / f"eval/{name}.jsonl").read_bytes() == (expected / f"eval/{name}.jsonl").read_bytes()
    found, saved = all_weights(folder / "model"), weights(expected / "model")
    assert found.keys() == saved.keys()
    for name, value in saved.items():
        assert found[name].dtype == value.dtype and relative(found[name], value) < tolerance


@pytest.fixture(scope="module")
def undivided(tmp_path_factory):
    """The run that one process makes of the same settings."""
    folder = tmp_path_factory.mktemp("undivided") / "run"
    train(loop_config(folder, save_steps=1), quiet=True)
    return folder


@pytest.mark.parametrize(
    "name, by", slow_if(itertools.product(SHARDED, DIVIDED), lambda *case: not is_default(*case))
)
def test_a_step_of_two_processes_has_the_gradient_of_one(tmp_path, name, by):
    config = change(gradient_config(tmp_path / "run", "float64", "tokens"), **SHARDED[name])
    expected, metrics = one_step(config)
    for rank in (0, 1):
        found, metrics_of_process = left_by(rank)[f"{by}-{name}"]
        assert found.shape == expected.shape and float(expected.norm()) > 1e-3
        assert relative(found, expected) < 1e-10
        assert metrics_of_process == pytest.approx(metrics, rel=1e-9, abs=1e-10)


@pytest.mark.parametrize("folder", ["sharded", "layers"])
def test_a_run_of_two_processes_is_that_of_one(undivided, folder):
    assert_same_run(two_processes() / folder, undivided)


@pytest.mark.parametrize("by", DIVIDED)
def test_a_divided_model_is_evaluated_as_a_whole_one(by):
    (whole,) = run_eval(eval_command(), quiet=True)
    assert len(whole.rows) == 5 and any(row["completion"] for row in whole.rows)
    for rank in (0, 1):
        assert left_by(rank)[f"eval-{by}"] == whole.rows


def test_a_process_makes_the_passes_of_another_and_adds_nothing():
    """The second has no completion that teaches, and so no pass of its own in the updates."""
    (expected, metrics), *_ = (left_by(rank)["probe"] for rank in (0, 1))
    for rank in (0, 1):
        found, metrics_of_process = left_by(rank)["layer-probe"]
        assert relative(found, expected) < 1e-10
        assert metrics_of_process == pytest.approx(metrics, rel=1e-9, abs=1e-10)
    first, second = (left_by(rank)["for others"] for rank in (0, 1))
    assert first == 0 and second >= 4  # old log-probabilities and gradients of two updates
    (row,) = rows(two_processes() / "layer-probe" / "timings.jsonl")
    assert row["passes_for_others"] == second


def test_an_update_without_a_pass_has_gradients_all_the_same():
    """As without --shard; or the optimizer would leave its momentum and its decay out."""
    assert [left_by(rank)["without a pass"] for rank in (0, 1)] == [True, True]


def test_neither_embedding_nor_head_is_whole_beside_a_layer():
    """The one is let go before the first layer, the other before the last one's backward pass."""
    assert [left_by(rank)["whole ends"] for rank in (0, 1)] == [[(False, False)]] * 2


def test_a_model_that_will_be_divided_is_not_read_before(tmp_path):
    """Nor are its adapters other than those of a model that is read whole."""
    for changes in ({}, {"lora_r": 4}):
        m = ModelConfig(model=str(tiny_folder()), device="cpu", **changes)
        policy, read = (open_policy(replace(m, shard=by), env="sudoku", seed=3) for by in ("layer", "none"))
        assert policy.unread == tiny_folder() and read.unread is None
        for (name, value), (same, other) in zip(
            policy.model.named_parameters(), read.model.named_parameters(), strict=True
        ):
            assert name == same and value.is_meta == (".lora_" not in name)
            assert value.is_meta or torch.equal(value, other)


def test_weights_that_do_not_fit_are_named_before_anything_is_trained(tmp_path):
    folder = shutil.copytree(tiny_folder(), tmp_path / "model")
    held = load_file(folder / "model.safetensors")
    missing = held.pop(sorted(held)[0])
    save_file(held, folder / "model.safetensors", {"format": "pt"})
    policy = open_policy(ModelConfig(str(folder), shard="layer", device="cpu"), env="sudoku", seed=3)
    assert missing.numel()
    with pytest.raises(ModelError, match=r"cannot be read in parts.*safetensors under the Hub's names"):
        shard._read_parts(base_model(policy.model), torch.device("cpu"), policy.unread)


def test_what_is_written_opens_like_any_model(undivided):
    runs = (two_processes() / "sharded", undivided)
    for place in ("model", "checkpoints/step-000001"):
        names = [{path.name for path in (run / place).iterdir() if "model" not in path.name} for run in runs]
        assert names[0] - names[1] <= {"optimizer"} and names[1] - names[0] <= {"training.pt"}
        configs = [json.loads((run / place / "config.json").read_text()) for run in runs]
        assert configs[0] == configs[1]
        assert len([*(runs[0] / place).glob("model-*.safetensors")]) > 2
    found, expected = (load_model(str(run), device="cpu", dtype="float64").model.state_dict() for run in runs)
    assert found.keys() == expected.keys()
    assert all(relative(found[name], value) < 1e-10 for name, value in expected.items())


def test_two_processes_put_weights_and_optimizer_back(undivided):
    saved = load_model(str(step(undivided, 2)), device="cpu", dtype="float64").model
    expected = [*saved.state_dict().values(), *adam_state(step(undivided, 2))]
    for rank in (0, 1):
        found = left_by(rank)["put back"]
        assert len(found) == len(expected) == 4 * len(saved.state_dict())
        for value, whole in zip(found, expected, strict=True):
            assert value.shape == whole.shape and relative(value, whole) < 1e-8


def test_each_of_two_processes_holds_half_of_the_weights_and_of_the_optimizer():
    shares = [left_by(rank)["share"] for rank in (0, 1)]
    assert sum(shares) == 1 and max(shares) < 0.51


def test_one_process_goes_on_from_what_two_have_divided(tmp_path, undivided):
    """Weights and optimizer are those of the checkpoint: the second step is that of the run never interrupted."""
    folder = shutil.copytree(two_processes() / "sharded", tmp_path / "run")
    shutil.rmtree(step(folder, 2))
    config = loop_config(folder, save_steps=1, resume="auto")
    train(config, quiet=True)
    assert_same_run(folder, undivided)


@pytest.mark.slow
def test_what_is_computed_in_bfloat16_is_trained_in_float32(tmp_path):
    """Steps of 1e-5 would vanish in weights of 1e-2 and more, of which bfloat16 keeps eight bits.

    One process that has all weights takes the same steps.
    """
    train(half_config(tmp_path / "run", shard="none"), quiet=True)
    found, alone = (weights(folder / "model") for folder in (two_processes() / "half", tmp_path / "run"))
    for name, value in weights(tiny_folder()).items():
        moved = found[name] - value
        assert found[name].dtype == torch.float32 and 0 < float(moved.abs().max()) < 9e-5, name
        assert torch.equal(found[name].bfloat16(), value.bfloat16()) or value.dim() > 1
        assert alone[name].dtype == torch.float32 and relative(alone[name], found[name]) < 1e-6
    both = [rows(folder / "metrics.jsonl") for folder in (two_processes() / "half", tmp_path / "run")]
    for row, other in zip(*both, strict=True):
        assert row["grad_norm"] > 0 and row == pytest.approx(other, rel=1e-5)


def test_a_single_process_has_nobody_to_divide_with(tmp_path):
    with pytest.raises(ConfigError, match=r"shard.*only one.*torchrun.*--shard none --expert-parallel 1"):
        train(small_config(tmp_path / "run", shard="phase"), quiet=True)
    with pytest.raises(ConfigError, match=r"shard.*only one.*torchrun"):
        run_eval(eval_command("layer"), quiet=True)
