"""Where a setting comes from, what a wrong line says, and what may change when a run goes on."""

import json
from dataclasses import replace
from importlib import resources
from pathlib import Path

import pytest
import yaml

from spg_trainer import cli
from spg_trainer.algorithms import ALGORITHMS, build
from spg_trainer.errors import CheckpointError, ConfigError
from spg_trainer.settings import sources as settings
from spg_trainer.settings.fields import (
    Config,
    EvalCommand,
    ModelConfig,
    Sampling,
    SftCommand,
    check,
    check_sft,
)
from spg_trainer.settings.recipes import load_preset
from spg_trainer.settings.sources import (
    MAY_CHANGE,
    defaults,
    flatten,
    overlay,
    read_yaml,
    refuse_changes,
    to_yaml,
)

SUDOKU = load_preset("sudoku", "tiny")
SPG_ARGS = SUDOKU["algorithms"]["spg"]["algorithm_args"]


def typed(*words: str, cls: type = Config):
    """The settings of a command line."""
    return cli.parse(cls, words, "python -m spg_trainer")


@pytest.fixture
def file(tmp_path: Path):
    """Writes a YAML file and returns its path."""

    def write(text: str) -> str:
        (tmp_path / "settings.yaml").write_text(text)
        return str(tmp_path / "settings.yaml")

    return write


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model folder that says what it was made for."""
    environment = {
        "env": "spg/Sudoku-v0",
        "env_args": {"blanks": "4-11", "prompt_style": "paper"},
        "preset": "tiny",
        "rollout": {"max_completion_length": 40, "block_length": 10},
    }
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "environment.json").write_text(json.dumps(environment))
    return tmp_path / "model"


# Precedence.


def test_without_a_preset_of_its_own_an_environment_gets_the_default() -> None:
    default = load_preset("nobodys-task", "tiny")
    assert defaults(Config, env="nobodys-task").rollout.block_length == default["rollout"]["block_length"]
    assert load_preset("another", "tiny") == default != SUDOKU
    for name in ("sudoku", "Sudoku", "spg/Sudoku-v0", "spg/Sudoku-v12", "envs:spg/Sudoku-v0"):
        assert load_preset(name, "tiny") == SUDOKU
    for name in ("./my.py:my/Sudoku-v0", "my/Sudoku-v0", "reasoning_gym:sudoku"):
        assert load_preset(name, "tiny") != SUDOKU, "of the same name, but another task"


def test_math_has_the_preset_of_math500() -> None:
    assert load_preset("math", "tiny") == load_preset("math500", "tiny") != load_preset("another", "tiny")


def test_a_preset_lies_over_the_defaults() -> None:
    config = defaults(Config, env="sudoku")
    assert config.rollout.max_completion_length == SUDOKU["rollout"]["max_completion_length"] != 256
    assert config.optimizer.adam_beta2 == Config().optimizer.adam_beta2
    assert config.algorithm_args == SPG_ARGS
    llada = defaults(Config, env="sudoku", model="GSAI-ML/LLaDA-8B-Instruct")
    preset = load_preset("sudoku", "llada")
    assert llada.model == ModelConfig(model="GSAI-ML/LLaDA-8B-Instruct", **preset["model"])
    assert llada.env_args == {"prompt_style": "paper"}
    assert llada.rollout.temperature == preset["rollout"]["temperature"]


def test_a_models_environment_lies_over_the_preset_of_its_task_only(folder: Path) -> None:
    for model in (folder, folder.parent):  # the model, and a run folder that holds it as model/
        config = defaults(Config, model=str(model))
        assert config.env == "spg/Sudoku-v0" and config.model.lora_r == 0
        assert config.env_args == {"blanks": "4-11", "prompt_style": "paper"}
        assert (config.rollout.max_completion_length, config.rollout.block_length) == (40, 10)
        assert config.rollout.diffusion_steps == SUDOKU["rollout"]["diffusion_steps"]
    evaluation = defaults(EvalCommand, model=str(folder))
    assert evaluation.env_args["blanks"] == "4-11" and evaluation.max_completion_length == (40,)
    assert evaluation.block_length == 10
    other = defaults(Config, env="nobodys-task", model=str(folder))
    assert other.env_args == {} and other.rollout.max_completion_length != 40


def test_a_file_lies_over_the_models_environment_and_flags_over_it(folder: Path, file) -> None:
    path = file(
        f"model: {{model: {folder}, dtype: float64}}\n"
        "env_args: {blanks: 8, source: generated}\n"
        "rollout: {block_length: 20, temperature: 0.5}\n"
        "optimizer: {learning_rate: 1e-3}\n"
        "max_steps: 5\n"
    )
    config = typed("--config", path, "--env-args", "blanks=9", "--max-steps=6", "--device", "cpu")
    assert config.env_args == {"blanks": 9, "prompt_style": "paper", "source": "generated"}
    assert config.rollout.block_length == 20 and config.rollout.max_completion_length == 40
    assert config.rollout.temperature == 0.5 and config.optimizer.learning_rate == 1e-3
    assert config.max_steps == 6 and config.config == path
    assert config.model == ModelConfig(model=str(folder), dtype="float64", device="cpu")


def test_a_temperature_is_a_number_or_auto_in_a_file_and_a_flag(file) -> None:
    path = file("rollout: {temperature: auto}\n")
    assert (
        typed("--config", path).rollout.temperature
        == typed("--temperature", "auto").rollout.temperature
        == "auto"
    )
    assert typed("--config", path, "--temperature", "0.5").rollout.temperature == 0.5
    config = typed("--temperature", "auto")
    check(config, build("spg", config.hyper_parameters))
    with pytest.raises(ConfigError, match="temperature=auto must be 0"):
        config.rollout.check()  # where something is to be sampled


def test_the_file_chooses_the_preset_and_a_flag_before_it(file) -> None:
    path = file("env: tests.common.trainer_cases:test/Letters-v0\nmodel: {model: some/hub-id}\n")
    assert typed("--config", path).model.lora_r == load_preset("", "llada")["model"]["lora_r"]
    assert typed("--config", path, "--model", "tiny").model.lora_r == 0
    assert typed("--config", path, "--env", "sudoku").env_args == {"prompt_style": "paper"}
    assert typed("--config", path, "--env=sudoku").env == "sudoku"


def test_pairs_merge_by_key_through_every_layer(file) -> None:
    path = file("algorithm_args: {num_masks: 3, eubo_beta: 2}\nreward_weights: {cells: 0.5}\n")
    config = typed("--config", path, "--algorithm-args", "eubo_beta=4", "--reward-weights", "correct=2")
    assert config.algorithm_args == {**SPG_ARGS, "num_masks": 3, "eubo_beta": 4}
    assert config.reward_weights == {"cells": 0.5, "correct": 2}


def test_each_algorithm_has_its_own_section_of_the_preset(file) -> None:
    repro = SUDOKU["algorithms"]["spg_repro"]["algorithm_args"]
    assert repro["negatives"] == "mix" and not {"advantage", "merge"} & repro.keys(), "as published"
    assert typed("--algorithm", "spg").algorithm_args == SPG_ARGS
    assert typed("--algorithm", "spg_repro").algorithm_args == repro
    words = ("--algorithm", "spg_repro", "--algorithm-args", "num_masks=4")
    assert typed(*words).algorithm_args == {**repro, "num_masks": 4}
    path = file("algorithm: spg_repro\nalgorithm_args: {num_masks: 3}\n")
    assert typed("--config", path).algorithm_args == {**repro, "num_masks": 3}
    assert typed("--algorithm", "./mine.py:Mine").algorithm_args == {}


@pytest.mark.parametrize("env", ["sudoku", "countdown", "gsm8k", "math500", "./mine.py:my/Mine-v0"])
def test_tiny_models_validate_unless_published_settings_are_asked_for(env: str, folder: Path) -> None:
    (folder / "environment.json").write_text('{"preset": "llada"}')
    kinds = {"tiny": "spg", "tiny ": "spg_repro", str(folder): "spg"}
    found = [
        defaults(Config, env=env, model=m.strip(), algorithm=a).eval.eval_steps for m, a in kinds.items()
    ]
    assert found == [10, 0, 0]


def test_the_reproduction_keeps_the_paper_s_beta_on_sudoku() -> None:
    """With 1.5 instead of 1.0 the paper's average falls from 90.0 to 84.6."""
    config = defaults(Config, env="sudoku", model="GSAI-ML/LLaDA-8B-Instruct", algorithm="spg_repro")
    assert config.algorithm_args["eubo_beta"] == 1.0 and config.batch.num_iterations == 4


def test_adapters_need_no_copy_of_the_weights_that_a_preset_asks_for(file) -> None:
    """vrpo compares with a reference: on the embedded model a copy of all weights, unless adapters are trained."""
    vrpo = ("--env", "sudoku", "--algorithm", "vrpo")
    assert typed(*vrpo).model.ref_copy and typed(*vrpo, "--lora-r", "0").model.ref_copy
    path = file("model: {lora_r: 4}\n")
    for config in (typed(*vrpo, "--lora-r=4"), typed(*vrpo, "--config", path)):
        assert config.model.lora_r == 4 and not config.model.ref_copy
        check(config, build("vrpo", config.hyper_parameters))


def test_an_algorithms_section_lies_over_the_task_and_the_model(folder, monkeypatch) -> None:
    """A block length alone keeps the tokens per step; all else of the task stays."""
    section = {"rollout": {"block_length": 4}, "batch": {"num_iterations": 3}}
    monkeypatch.setattr(settings, "load_section", lambda name, kind: section if name == "mine" else {})
    plain, mine = (defaults(Config, model=str(folder), algorithm=name) for name in ("wd1", "mine"))
    assert (plain.rollout.block_length, plain.rollout.diffusion_steps) == (10, 20)
    assert (mine.rollout.block_length, mine.rollout.diffusion_steps) == (4, 20)
    assert (plain.batch.num_iterations, mine.batch.num_iterations) == (1, 3)
    assert mine.optimizer == plain.optimizer and mine.batch.num_generations == plain.batch.num_generations


def test_a_level_of_the_task_lies_over_its_preset(file) -> None:
    steps = SUDOKU["levels"]["4"]["max_steps"]
    assert typed("--env-args", "level=4").max_steps == steps != SUDOKU["max_steps"]
    assert typed("--config", file("env_args: {level: 4}\n")).max_steps == steps
    assert typed("--env-args", "level=4", "--max-steps", "7").max_steps == 7
    assert typed("--env-args", "level=3").max_steps == typed().max_steps == SUDOKU["max_steps"]


def test_nested_settings_become_dotted_names() -> None:
    tree = {"a": 1, "b": {"a": 2, "c": {"d": (3,)}}, "e": {}}
    assert flatten(tree) == {"a": 1, "b.a": 2, "b.c.d": (3,)}
    assert flatten(tree, ignore={"a", "b.c"}) == {"b.a": 2}, "a name alone is that of the top level"


# What a wrong setting says.


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("max_step: 3", ["'max_step'", "Did you mean 'max_steps'?"]),
        ("rollout: {blok_length: 3}", ["'rollout.blok_length'", "Did you mean 'block_length'?"]),
        ("learning_rate: 1", ["'learning_rate'", "Did you mean 'optimizer.learning_rate'?"]),
        ("zzzz: 1", ["'zzzz'", "Known:", "max_steps"]),
        ("max_steps: many", ["max_steps='many'", "type int"]),
        ("max_steps: 2.5", ["max_steps=2.5", "type int"]),
        ("max_steps: true", ["max_steps=True", "type int"]),
        ("dry_run: 1", ["dry_run=1", "type bool"]),
        ("optimizer: {learning_rate: fast}", ["optimizer.learning_rate='fast'", "type float"]),
        ("optimizer: {learning_rate: true}", ["optimizer.learning_rate=True", "type float"]),
        ("rollout: {temperature: hot}", ["rollout.temperature='hot'", "type float or auto"]),
        ("rollout: {temperature: null}", ["rollout.temperature=None", "float or auto"]),
        ("model: {dtype: low}", ["model.dtype='low'", "auto, float32"]),
        ("output: {track: [wandb, mlflow]}", ["output.track='mlflow'", "tensorboard, wandb"]),
        ("env: 5", ["env=5", "type str"]),
        ("model: tiny", ["model", "'tiny'", "name: value"]),
        ("rollout: 3", ["rollout", "name: value"]),
        ("algorithm_args: 3", ["algorithm_args", "a mapping of names to values", "3"]),
        ("env_args: [a, b]", ["env_args", "a mapping of names to values"]),
        ("- a\n- b", ["name: value"]),
        ("a: [", ["not valid YAML"]),
        ("", ["name: value"]),
    ],
)
def test_a_wrong_line_of_a_file_is_named_with_the_file(file, text: str, words: list[str]) -> None:
    path = file(text)
    with pytest.raises(ConfigError) as caught:
        typed("--config", path)
    assert "\n" not in str(caught.value) and all(word in str(caught.value) for word in (path, *words))


def test_a_file_that_is_absent_or_no_text_is_named(file) -> None:
    path = file("")
    Path(path).write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match=r"settings.yaml: not a text file"):
        typed("--config", path)
    Path(path).unlink()
    with pytest.raises(ConfigError, match=r"settings.yaml: cannot be read \(No such file"):
        typed("--config", path)


def test_an_unknown_length_in_environment_json_is_named(folder: Path) -> None:
    recorded = json.loads((folder / "environment.json").read_text())
    recorded["rollout"]["new_key"] = 1
    (folder / "environment.json").write_text(json.dumps(recorded))
    with pytest.raises(ConfigError, match="new_key"):
        defaults(EvalCommand, env="sudoku", model=str(folder))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "is not a JSON object"),
        ("[1]", "is not a JSON object"),
        ('{"preset": "huge"}', "'huge' should be one of"),
    ],
)
def test_a_broken_environment_file_is_named(folder: Path, content: str, words: str) -> None:
    (folder / "environment.json").write_text(content)
    with pytest.raises(ConfigError, match=words) as caught:
        defaults(Config, model=str(folder))
    assert "environment.json" in str(caught.value)


def test_numbers_written_as_yaml_1_1_text_are_read() -> None:
    config = overlay(Config(), yaml.safe_load("optimizer: {learning_rate: 1e-3, weight_decay: 0}"), "x")
    assert config.optimizer.learning_rate == 1e-3 and config.optimizer.weight_decay == 0.0
    assert isinstance(config.optimizer.weight_decay, float)
    assert overlay(Config(), {"output": {"track": "wandb"}}, "x").output.track == ("wandb",)
    assert overlay(Config(), {"model": {"lora_alpha": None}}, "x").model.lora_alpha is None


# Presets.

PRESETS = sorted(
    p.name for p in resources.files("spg_trainer.settings.recipes").iterdir() if p.name.endswith(".yaml")
)


@pytest.mark.parametrize("algorithm", sorted(ALGORITHMS))
@pytest.mark.parametrize("model", ["tiny", "GSAI-ML/LLaDA-8B-Instruct"])
@pytest.mark.parametrize("name", PRESETS)
def test_every_algorithm_can_start_on_every_task(name: str, model: str, algorithm: str) -> None:
    config = defaults(Config, env=name.removesuffix(".yaml"), model=model, algorithm=algorithm)
    check(config, build(config.algorithm, config.hyper_parameters))


@pytest.mark.parametrize("model", ["tiny", "GSAI-ML/LLaDA-8B-Instruct"])
@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_loads_for_every_command_and_can_work(name: str, model: str) -> None:
    env = name.removesuffix(".yaml")
    config = defaults(Config, env=env, model=model)
    check(config, build(config.algorithm, config.algorithm_args))
    assert overlay(Config(), yaml.safe_load(to_yaml(config)), "yaml") == config
    evaluation = defaults(EvalCommand, env=env, model=model)
    (length,) = evaluation.max_completion_length
    steps = length / evaluation.tokens_per_step
    Sampling(length, evaluation.block_length, round(steps)).check()
    assert steps == config.rollout.diffusion_steps and {"default.yaml", "sudoku.yaml"} <= set(PRESETS)
    sft = defaults(SftCommand, env=env, model="new" if model == "tiny" else model)
    check_sft(sft)
    assert sft.env_args == config.env_args and sft.temperature == config.rollout.temperature
    assert sft.optimizer == ("muon" if (name, model) == ("default.yaml", "tiny") else "adamw")
    if (name, model) == ("default.yaml", "tiny"):
        assert sft.max_completion_length == 0, "as long as the task's demonstrations need"
    else:
        assert sft.max_completion_length >= config.rollout.max_completion_length


# Going on with a run.


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run folder with settings of its own."""
    path = tmp_path / "runs" / "a"
    path.mkdir(parents=True)
    words = "--env-args blanks=8 --seed 3 --algorithm-args num_masks=4 --output-dir"
    (path / "config.yaml").write_text(to_yaml(typed(*words.split(), str(path))))
    return path


def test_a_resumed_run_takes_its_own_settings_and_flags_over_them(run: Path, tmp_path: Path) -> None:
    own = overlay(Config(), read_yaml(run / "config.yaml"), "run")
    own = replace(own, output=replace(own.output, output_dir=None))  # the folder may have moved
    for resume in (run, run / "checkpoints" / "step-000010"):
        config = typed("--resume", str(resume), "--max-steps", "900")
        assert config == replace(own, max_steps=900, output=replace(own.output, resume=str(resume)))
        refuse_changes(run / "config.yaml", config)
    auto = typed("--resume", "auto", "--output_dir", str(run))
    assert auto == replace(own, output=replace(own.output, resume="auto", output_dir=str(run)))
    (tmp_path / "more.yaml").write_text("max_steps: 77\nenv_args: {blanks: 8}\n")
    later = typed("--resume", str(run), "--config", str(tmp_path / "more.yaml"))
    assert later.max_steps == 77 and later.seed == 3


def test_resuming_where_no_run_is_starts_from_the_presets(tmp_path: Path) -> None:
    config = typed("--resume", "auto", "--output-dir", str(tmp_path / "new"))
    assert config.algorithm_args == defaults(Config).algorithm_args and config.seed == 0


def test_a_setting_is_read_by_the_name_it_had_before(run: Path) -> None:
    file = run / "config.yaml"
    file.write_text(file.read_text().replace("render_steps: 10", "board_steps: 7"))
    config = typed("--resume", str(run))
    assert config.output.render_steps == 7
    refuse_changes(file, config)


def test_what_changed_is_listed_with_both_values(run: Path) -> None:
    words = "--seed 4 --env-args blanks=9 --learning-rate 0.5 --algorithm-args eubo_beta=7 --max-steps 9"
    with pytest.raises(ConfigError) as caught:
        refuse_changes(run / "config.yaml", typed("--resume", str(run), *words.split()))
    message = str(caught.value)
    changes = ["seed was 3, now 4", "env_args.blanks was 8, now 9", "optimizer.learning_rate was", "now 7"]
    for words in (str(run), *changes, "algorithm_args.eubo_beta was", "--max-steps", "--output-dir"):
        assert words in message
    assert "max_steps was" not in message


def test_a_setting_that_is_new_or_gone_counts_as_changed(run: Path) -> None:
    with pytest.raises(ConfigError, match=r"reward_weights.cells was None, now 0.5"):
        refuse_changes(run / "config.yaml", typed("--resume", str(run), "--reward-weights", "cells=0.5"))
    own = typed("--resume", str(run))
    with pytest.raises(ConfigError, match=r"env_args.blanks was 8, now None"):
        refuse_changes(run / "config.yaml", replace(own, env_args={}))


OTHER = {int: 12345, float: 12345.0, str: "other", type(None): "other", list: ["wandb"]}


@pytest.mark.parametrize("name", sorted(MAY_CHANGE))
def test_what_is_shown_kept_or_how_long_may_change(run: Path, name: str) -> None:
    values = read_yaml(run / "config.yaml")
    part, _, key = name.rpartition(".")
    place = values[part] if part else values
    place[key] = not place[key] if isinstance(place[key], bool) else OTHER[type(place[key])]
    config = overlay(Config(), values, "test")
    assert to_yaml(config) != (run / "config.yaml").read_text()
    refuse_changes(run / "config.yaml", config)


def test_only_what_does_not_change_the_weights_may_change() -> None:
    fixed = "seed env algorithm batch.num_generations rollout.temperature optimizer.learning_rate"
    assert not MAY_CHANGE & set(fixed.split())
    assert {"max_steps", "max_minutes", "batch.per_device_batch_size"} <= MAY_CHANGE


@pytest.mark.parametrize("content", [b"a: [", b"just text", b"", b"\xff\xfe\x00"])
def test_a_run_whose_settings_cannot_be_read_is_named(run: Path, content: bytes) -> None:
    config = typed()
    (run / "config.yaml").write_bytes(content)
    words = r"config.yaml cannot be read as settings \(.*\). .* another --output-dir"
    with pytest.raises(CheckpointError, match=words):
        refuse_changes(run / "config.yaml", config)
