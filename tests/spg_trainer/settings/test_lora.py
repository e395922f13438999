"""Rank, alpha and dropout: settled once, written down, run, and the same after a resume."""

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
import yaml

from spg_trainer.cli import main
from spg_trainer.errors import ConfigError, ModelError, as_flag
from spg_trainer.models import load_model
from spg_trainer.settings.check import check
from spg_trainer.settings.configs import Config
from spg_trainer.settings.model import ModelConfig, find_adapter, settle_adapters
from spg_trainer.settings.resolve import defaults
from spg_trainer.training.loop import train
from tests.common.trainer_cases import (
    assert_equal_runs,
    rows,
    save_adapter,
    small_config,
    step,
    tiny_folder,
)


@pytest.fixture(scope="module")
def adapter(tmp_path_factory):
    """Rank 2, alpha 3, dropout 0.05; read only."""
    return save_adapter(tmp_path_factory.mktemp("published") / "adapter")


def settled(model, **given):
    m = settle_adapters(ModelConfig(str(model), **given))
    assert settle_adapters(m) == m, "settled settings stay as they are"
    return m.lora_r, m.lora_alpha, m.lora_dropout


def test_what_is_left_open_is_settled_for_every_kind_of_model(adapter):
    whole = tiny_folder()
    assert settled(whole) == (0, None, 0.0)
    assert settled(whole, lora_r=5) == (5, 3, 0.0)
    assert settled(whole, lora_r=5, lora_alpha=7, lora_dropout=0.2) == (5, 7, 0.2)
    assert settled(adapter) == settled(adapter, lora_r=2, lora_alpha=3) == (2, 3, 0.05)
    assert settled(adapter, lora_dropout=0.0) == (2, 3, 0.0)
    assert settled(adapter, lora_dropout=0.3) == (2, 3, 0.3)


@pytest.mark.parametrize("given", [{"lora_r": 4}, {"lora_alpha": 2}])
def test_a_flag_that_the_adapter_contradicts_is_refused(adapter, tmp_path, capsys, given):
    ((name, value),) = given.items()
    words = f"{as_flag(name)} {value}: .*rank 2 and alpha 3"
    with pytest.raises(ConfigError, match=words):
        load_model(str(adapter), device="cpu", **given)
    with pytest.raises(ConfigError, match=words):
        train(small_config(tmp_path / "run", model=adapter, **given), quiet=True)
    assert not (tmp_path / "run").exists()
    assert main(["--model", str(adapter), as_flag(name), str(value), "--dry-run"]) == 2
    assert f"{as_flag(name)} {value}" in capsys.readouterr().err


def test_the_dropout_given_is_that_of_the_loaded_adapter(adapter):
    for given, expected in ((None, 0.05), (0.0, 0.0), (0.3, 0.3)):
        model = load_model(str(adapter), device="cpu", lora_dropout=given).model
        layers = [m for name, m in model.named_modules() if name.endswith(".lora_dropout.default")]
        found = {layer.p if isinstance(layer, torch.nn.Dropout) else 0.0 for layer in layers}
        assert len(layers) == 7 and found == {expected} == {model.peft_config["default"].lora_dropout}


def test_layers_are_chosen_for_new_adapters_only_and_known_before_a_model_is_read(adapter, capsys):
    for words, said in (
        (["--model", str(adapter), "--lora-targets", "q_proj"], "already is an adapter"),
        (["--lora-r", "2", "--lora-targets", "q_proj", "wte"], "'wte' is no linear layer of this model"),
        (["--lora-r", "2", "--lora-targets", "q_proj,v_proj"], "Use all, or some of q_proj k_proj v_proj"),
    ):
        assert main([*words, "--dry-run"]) == 2
        assert said in capsys.readouterr().err
    model = load_model(str(tiny_folder()), device="cpu", lora_r=2, lora_targets=["ff_out"]).model
    assert model.peft_config["default"].target_modules == {"down_proj"}


@pytest.mark.parametrize(
    ("name", "value"),
    [("lora_targets", ("q_proj",)), ("lora_alpha", 4), ("lora_dropout", 0.1), ("lora_experts", True)],
)
def test_what_adapters_get_is_refused_where_there_are_none(tmp_path, capsys, name, value):
    values = [] if value is True else value if isinstance(value, tuple) else (value,)
    words = [as_flag(name), *map(str, values)]
    assert main(["--model", str(tiny_folder()), *words, "--dry-run"]) == 2
    said = f"{as_flag(name)}\\b.*all weights would be trained. Set --lora-r"
    assert re.search(said, capsys.readouterr().err)
    with pytest.raises(ConfigError, match=said):
        train(small_config(tmp_path / "run", model=tiny_folder(), **{name: value}), quiet=True)
    with pytest.raises(ConfigError, match=said):
        load_model(str(tiny_folder()), device="cpu", **{name: value})
    assert not (tmp_path / "run").exists()
    check(Config(model=ModelConfig(lora_targets=["all"], lora_dropout=0.0)))


def test_the_layers_of_a_published_family_do_not_stand_where_all_weights_are_trained():
    model = "GSAI-ML/LLaDA-8B-Instruct"
    assert defaults(Config, env="gsm8k", model=model).model.lora_targets != ("all",)
    for given in (
        {"lora_r": 0},
        {"algorithm": "stabledrl"},
    ):  # from the user, and from the algorithm's recipe
        made = defaults(Config, env="gsm8k", model=model, **given).model
        assert (made.lora_r, made.lora_targets) == (0, ("all",))


@pytest.mark.parametrize("change", [{"lora_alpha": None}, {"r": "x"}, None])
def test_an_adapter_without_usable_numbers_is_named(adapter, tmp_path, change):
    folder = shutil.copytree(adapter, tmp_path / "adapter")
    file = folder / "adapter_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}) if change else "{")
    with pytest.raises(ModelError, match=str(file)):
        settle_adapters(ModelConfig(str(folder)))


def test_config_yaml_says_what_runs(adapter, tmp_path, capsys):
    for name, given, expected in (
        ("own", {}, (2, 3, 0.05)),
        ("given", {"lora_dropout": 0.3}, (2, 3, 0.3)),
    ):
        train(small_config(tmp_path / name, model=adapter, max_steps=1, **given), quiet=True)
        m = yaml.safe_load((tmp_path / name / "config.yaml").read_text())["model"]
        assert (m["lora_r"], m["lora_alpha"], m["lora_dropout"]) == expected
        saved = json.loads((tmp_path / name / "model" / "adapter_config.json").read_text())
        assert (saved["r"], saved["lora_alpha"], saved["lora_dropout"]) == expected
    first = [rows(tmp_path / name / "metrics.jsonl")[0] for name in ("own", "given")]
    assert first[0]["reward"] == first[1]["reward"] and first[0]["grad_norm"] != first[1]["grad_norm"]
    main(["--model", str(adapter), "--dry-run", "--prompts-per-step", "4"])
    assert yaml.safe_load(capsys.readouterr().out)["model"]["lora_dropout"] == 0.05


def config(folder, model, **changes):
    """Four steps of two updates, a checkpoint after each."""
    return small_config(
        folder, model=model, **{"max_steps": 4, "num_iterations": 2, "save_steps": 1, **changes}
    )


@pytest.fixture(scope="module")
def whole(adapter, tmp_path_factory):
    """A run from the adapter, never interrupted; read only."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    train(config(folder, adapter), quiet=True)
    return folder


@pytest.mark.slow
def test_a_run_from_an_adapter_with_dropout_resumes_bit_equal(adapter, whole, tmp_path):
    state = torch.manual_seed(77).get_state()
    train(config(tmp_path / "run", adapter, max_steps=2), quiet=True)
    train(config(tmp_path / "run", adapter, resume="auto"), quiet=True)
    assert torch.equal(torch.get_rng_state(), state)
    assert_equal_runs(tmp_path / "run", whole)


def test_another_dropout_is_refused_on_resume(adapter, whole, tmp_path):
    folder = shutil.copytree(whole, tmp_path / "run")
    with pytest.raises(ConfigError, match=r"model.lora_dropout was 0.05, now 0.3"):
        train(config(folder, adapter, lora_dropout=0.3, resume="auto"), quiet=True)
    assert step(folder, 4).is_dir()


def test_a_preset_puts_no_fresh_adapters_on_an_adapter(adapter, tmp_path):
    folder = shutil.copytree(adapter, tmp_path / "adapter")
    (folder / "environment.json").unlink()
    for source in ("environment", "demonstrations"):
        assert defaults(Config, env="sudoku", model="some/hub-id", source=source).model.lora_r == 128
        assert defaults(Config, env="sudoku", model=str(folder), source=source).model.lora_r == 0


@pytest.mark.parametrize("name", ["tiny", "tiny:shift", "new"])
def test_an_embedded_model_is_no_adapter_whatever_folder_has_its_name(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).mkdir()
    (tmp_path / name / "adapter_config.json").touch()
    assert find_adapter(name) is None
    assert find_adapter(f"./{name}") == Path(f"./{name}")
