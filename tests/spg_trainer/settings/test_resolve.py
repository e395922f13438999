"""Where a setting comes from, and what may change when a run goes on."""

import importlib
import json
import re
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import yaml

import envs
from spg_trainer import EvalSampling, Sampling, cli, evaluate, generate, load_model
from spg_trainer.algorithms import build
from spg_trainer.algorithms.registry import find_algorithm
from spg_trainer.errors import ConfigError
from spg_trainer.runs.resume import MAY_CHANGE, refuse_other_settings
from spg_trainer.settings.check import check, check_algorithm
from spg_trainer.settings.configs import Config, EvalCommand, OptimizerConfig
from spg_trainer.settings.model import ModelConfig, settle_adapters
from spg_trainer.settings.recorded import (
    CONFIG,
    lengths_left_out,
    other_lengths,
    read_config,
    task_record,
    to_yaml,
)
from spg_trainer.settings.resolve import FLAG, defaults, note_on_missing_recipe, resolve
from spg_trainer.settings.types import overlay
from spg_trainer.settings.weights import models_folder
from tests.common.trainer_cases import ENV as LETTERS
from tests.common.trainer_cases import Letters, tiny_folder

LLADA = "GSAI-ML/LLaDA-8B-Instruct"
SUDOKU = defaults(Config)


def record_of(config: Config) -> dict[str, object]:
    """What environment.json says of a model that was made with these settings."""
    return task_record(config.env, config.env_args, config.model, config.rollout)


def typed(*words: str, cls: type = Config):
    """The settings of a command line."""
    return resolve(cls, words).config


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
        "env_args": {"blanks": "4-11", "prompt_style": "instruct"},
        "preset": "tiny",
        "rollout": {"max_completion_length": 40, "block_length": 10},
    }
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "environment.json").write_text(json.dumps(environment))
    return tmp_path / "model"


# Precedence.


@pytest.mark.parametrize(
    ("env", "level", "length"),
    [
        ("countdown", 2, 40),
        ("spg/Countdown-v0", 2, 40),
        ("sudoku", None, 40),  # there twice, with other arguments
        ("sorting", None, 40),  # a task without lengths of its own
        ("math500", None, 18),  # one with lengths
    ],
)
def test_one_of_the_tasks_that_a_model_was_made_for_has_its_arguments_and_all_have_their_length(
    folder: Path, env: str, level: int | None, length: int
) -> None:
    made = json.loads((folder / "environment.json").read_text())
    own = {"sudoku.level": 1, "countdown.level": 2, "countdown.weight": 3, "sudoku-2.level": 3}
    made |= {"env": "sudoku + countdown + sudoku", "env_args": own}
    (folder / "environment.json").write_text(json.dumps(made))
    command = defaults(EvalCommand, env, str(folder))
    assert command.env_args.get("level") == level and "weight" not in command.env_args
    assert command.rollout.max_completion_length == (length,)


def test_a_recipe_lies_over_the_defaults_and_the_algorithms_own_over_it() -> None:
    assert (SUDOKU.algorithm, SUDOKU.max_steps, SUDOKU.rollout.max_completion_length) == ("spg", 40, 20)
    assert SUDOKU.optimizer.adam_beta2 == Config().optimizer.adam_beta2
    assert (SUDOKU.batch.num_iterations, SUDOKU.rollout.temperature) == (1, 1.0)
    raft = defaults(Config, algorithm="raft")
    assert (raft.batch.num_iterations, raft.rollout.temperature, raft.algorithm_args) == (3, 1.5, {})
    assert raft.optimizer == replace(SUDOKU.optimizer, learning_rate=6e-4, lr_schedule="linear"), (
        "Sudoku's for raft"
    )
    llada = defaults(Config, model=LLADA)
    assert llada.model == ModelConfig(
        model=LLADA, lora_r=128, lora_targets=("q_proj", "k_proj", "v_proj", "up_proj"), float32_logits=True
    )
    dream = defaults(Config, model="Dream-org/Dream-v0-Instruct-7B")
    taught = defaults(Config, model=LLADA, source="demonstrations")
    agrpo = defaults(Config, model=LLADA, algorithm="agrpo")
    assert {made.model.lora_targets for made in (dream, taught, agrpo)} == {("all",)}
    assert (llada.env_args, llada.rollout.temperature) == ({"prompt_style": "instruct"}, 0.3)
    assert defaults(Config, algorithm="./mine.py:Mine").algorithm_args == {}


@pytest.mark.parametrize("cls", [Config, EvalCommand])
def test_how_a_model_decodes_holds_for_a_task_that_says_nothing_of_it(folder: Path, cls: type) -> None:
    """Separate files for `sft` and RL are the normal case; the origin of the lengths is shown."""
    made = json.loads((folder / "environment.json").read_text())
    lengths = {"max_completion_length": 7, "block_length": 7, "diffusion_steps": 7, "remasking": "entropy"}
    made |= {"env": "clean.csv", "env_args": {}, "rollout": lengths}
    (folder / "environment.json").write_text(json.dumps(made))

    def decoding(*words: str) -> tuple[list[object], list[str]]:
        resolved = resolve(cls, ["--model", str(folder), *words])
        own = [getattr(resolved.config.rollout, name) for name in lengths]
        shown = [resolved.origins.get(f"rollout.{name}", "default") for name in lengths]
        return [value[0] if isinstance(value, tuple) else value for value in own], shown

    steps, record = {Config: 7, EvalCommand: "length/1"}[cls], f"{folder}/environment.json"
    for env in ("renamed.csv", "clean.csv", "./mine.py:my/Task-v0"):
        assert decoding("--env", env) == ([7, 7, steps, "entropy"], [record] * 4)
    (length, block, _, order), shown = decoding("--env", "sudoku")
    assert (length, block, order) == (20, 20, "entropy"), "its recipe says lengths, and no order"
    assert record not in shown[:3] and shown[3] == record
    assert decoding("--env", "renamed.csv", "--max-completion-length", "14")[0][0] == 14
    if cls is Config:
        ordered, _ = decoding("--env", "renamed.csv", "--algorithm", "diffu_grpo")
        assert ordered == [7, 7, 7, "entropy"], "the lengths of an algorithm are not the model's"


def test_other_lengths_than_the_model_was_taught_are_said(folder: Path, capsys) -> None:
    made = json.loads((folder / "environment.json").read_text())
    made["rollout"] = {"max_completion_length": 40, "block_length": 10, "diffusion_steps": 20}
    (folder / "environment.json").write_text(json.dumps(made))
    as_taught = defaults(Config, "sudoku", str(folder)).rollout
    assert other_lengths(as_taught, str(folder)) == other_lengths(as_taught, "tiny") == ""
    words = (
        f"{folder} was taught to write 40 tokens in blocks of 10 and 20 steps (environment.json); here it writes 60 in "
        "blocks of 10 and 30 steps."
    )
    longer = replace(as_taught, max_completion_length=60, diffusion_steps=30)
    assert other_lengths(longer, str(folder)) == words
    for file in tiny_folder().iterdir():
        if file.name != "environment.json":
            (folder / file.name).write_bytes(file.read_bytes())
    lengths = ["--max-completion-length", "60", "--diffusion-steps", "30", "--env-args", "prompt_style=plain"]
    assert cli.main(["--env", "sudoku", "--model", str(folder), *lengths, "--dry-run"]) == 0
    assert f"# lengths: {words}" in capsys.readouterr().out


def test_a_models_environment_lies_over_recipes_of_its_task(folder: Path) -> None:
    for model in (folder, folder.parent):  # the model, and a run folder that holds it as model/
        config = defaults(Config, model=str(model))
        assert config.env == "sudoku" and config.model.lora_r == 0
        assert config.env_args == {"blanks": "4-11", "prompt_style": "instruct"}
        lengths = (
            config.rollout.max_completion_length,
            config.rollout.block_length,
            config.rollout.diffusion_steps,
        )
        assert lengths == (40, 10, SUDOKU.rollout.diffusion_steps)
    evaluation = defaults(EvalCommand, model=str(folder))
    assert evaluation.env_args["blanks"] == "4-11" and evaluation.rollout.max_completion_length == (40,)
    assert evaluation.rollout.block_length == 10
    assert defaults(Config, model=str(folder), source="demonstrations").rollout.max_completion_length == 40
    other = defaults(Config, env="sorting", model=str(folder))
    assert other.env_args == {}, "but it decodes as it was taught"
    assert (other.rollout.max_completion_length, other.rollout.block_length) == (40, 10)


def test_a_file_lies_over_the_models_environment_and_flags_over_it(folder: Path, file) -> None:
    path = file(
        f"model: {{model: {folder}, dtype: float64}}\n"
        "env_args: {blanks: 8, source: generated}\n"
        "rollout: {block_length: 20, temperature: 0.5}\n"
        "optimizer: {learning_rate: 1e-3}\n"
        "max_steps: 5\n"
    )
    config = typed("--config", path, "--env-args", "blanks=9", "--max-steps=6", "--device", "cpu")
    assert config.env_args == {"blanks": 9, "prompt_style": "instruct", "source": "generated"}
    assert config.rollout.block_length == 20 and config.rollout.max_completion_length == 40
    assert config.rollout.temperature == 0.5 and config.optimizer.learning_rate == 1e-3
    assert config.max_steps == 6 and config.config == path
    assert config.model == ModelConfig(model=str(folder), dtype="float64", device="cpu")


def test_the_file_chooses_the_recipe_and_a_flag_before_it(file) -> None:
    path = file("env: countdown\nalgorithm: raft\nmodel: {model: some/hub-id}\n")
    assert typed("--config", path).max_steps == 1500 and typed("--config", path).model.lora_r == 128
    tiny = typed("--config", path, "--model", "tiny")
    assert (tiny.model.lora_r, tiny.rollout.max_completion_length, tiny.rollout.temperature) == (0, 12, 1.5)
    assert (
        typed("--config", path, "--env=sudoku", "--model", "tiny", "--algorithm", "spg").rollout
        == SUDOKU.rollout
    )


def test_the_file_may_name_the_verifier_of_rows_as_flags_do(file) -> None:
    path = file("env: rows.jsonl\nverifier: gsm8k\nreward: ./mine.py:f\nenv_args: {answer: solution}\n")
    judged = {"verifier": "gsm8k", "reward": "./mine.py:f", "answer": "solution"}
    assert typed("--config", path).env_args == judged
    with pytest.raises(ConfigError, match="sudoku judges its answers itself"):
        typed("--config", file("env: sudoku\nverifier: gsm8k\n"))


def test_a_file_of_another_ending_is_told_which_are_read(tmp_path) -> None:
    for name in ("rows.ndjson", "rows.txt"):  # neither judges its answers itself
        (tmp_path / name).write_text('{"prompt": "2+2?", "answer": "4"}\n')
        assert typed("--env", str(tmp_path / name), "--verifier", "gsm8k").env_args == {"verifier": "gsm8k"}
    with pytest.raises(envs.EnvError, match=r"rows.txt: files of rows end in .jsonl, .ndjson, .json"):
        envs.resolve(str(tmp_path / "rows.txt"))
    (tmp_path / "sums.jsonl").touch()
    for name, said in (
        (f"{tmp_path}/sums.jsnl", r"Did you mean \S+/sums\.jsonl\?"),
        ("sudko", 'mean "sudoku"'),
    ):
        with pytest.raises(envs.EnvError, match=said):
            typed("--env", name, "--verifier", "gsm8k")
    with pytest.raises(envs.EnvError, match=r"\./mine\.pyy is no name of a module"):
        envs.resolve("./mine.pyy:Task")


def test_pairs_merge_by_key_through_every_layer(file) -> None:
    path = file("algorithm_args: {num_masks: 3, eubo_beta: 2}\nreward_weights: {cells: 0.5}\n")
    config = typed("--config", path, "--algorithm-args", "eubo_beta=4", "--reward-weights", "correct=2")
    assert config.algorithm_args == {**SUDOKU.algorithm_args, "num_masks": 3, "eubo_beta": 4}
    assert config.reward_weights == {**SUDOKU.reward_weights, "cells": 0.5, "correct": 2}


def test_what_a_recipe_says_of_the_model_is_for_models_whose_weights_are_all_trained(tmp_path) -> None:
    vrpo = typed("--algorithm", "vrpo")
    assert vrpo.model.ref_copy and settle_adapters(vrpo.model).ref_copy, "vrpo compares with a reference"
    lora = typed("--algorithm", "vrpo", "--lora-r=4")
    check_algorithm(lora, build("vrpo", lora.hyper_parameters))
    assert not settle_adapters(lora.model).ref_copy, "it is below the adapters"
    (tmp_path / "adapter_config.json").write_text('{"r": 4, "lora_alpha": 2, "lora_dropout": 0.0}')
    adapter = defaults(Config, model=str(tmp_path))
    assert adapter.model.lora_r == 0 and settle_adapters(adapter.model).lora_r == 4, "trained as it is"
    assert defaults(Config, model=str(tmp_path), source="demonstrations").model.lora_r == 0


def test_a_recipe_says_nothing_of_adapters_if_all_weights_are_trained(file) -> None:
    mapg = ("--algorithm", "mapg", "--model", LLADA)
    assert typed(*mapg).model.load_4bit and typed(*mapg).model.lora_alpha == 64
    settings_file = file("model: {lora_r: 0}")
    for words in (["--lora-r", "0"], ["--config", settings_file]):
        config = typed(*mapg, *words)
        model = config.model
        assert (model.load_4bit, model.lora_alpha, model.lora_dropout) == (False, None, None)
        check(config)
    with pytest.raises(ConfigError, match="stores a base that is not trained"):
        check(typed(*mapg, "--lora-r", "0", "--load-4bit"))


def test_tokens_one_by_one_take_a_step_each() -> None:
    rollout = defaults(Config, model=LLADA, algorithm="justgrpo").rollout
    assert (rollout.block_length, rollout.diffusion_steps, rollout.max_completion_length) == (1, 256, 256)
    made = defaults(Config, model=str(models_folder() / "tiny-sudoku"), algorithm="justgrpo").rollout
    assert (made.block_length, made.diffusion_steps, made.max_completion_length) == (1, 20, 20), (
        "made with blocks of 20"
    )


# What cannot be read.


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"a: 1\nb: [", r"line 2 .*b: \["),
        (b"a: \x07", "as YAML"),
        (b"optimizer:\n  learning_rate: 1\n  learning_rate: 2", "line 3 .* learning_rate is set twice"),
        (b'{"env": "sudoku", "env": "countdown"}', "line 1 .* env is set twice"),
        (b"- a\n- b", "name: value"),
        (b"", "name: value"),
        (b"\xff\xfe\x00", "as YAML"),
        (None, "there is no such file"),
        (b"max_steps: many", "max_steps='many'"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(tmp_path, content: bytes | None, words: str) -> None:
    path = tmp_path / "settings.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=rf"{path}.*{words}"):
        typed("--config", str(path))
    if content is not None:
        path.rename(tmp_path / CONFIG)
        with pytest.raises(ConfigError, match=rf"{tmp_path / CONFIG}.*{words}"):
            read_config(tmp_path / CONFIG)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "is not a JSON object"),
        ("[1]", "is not a JSON object"),
        ('{"preset": "huge"}', "'huge' should be one of"),
        ('{"env": "sudoku", "preset": "tiny", "rollout": {"new_key": 1}}', "new_key"),
    ],
)
def test_a_broken_environment_file_is_named(folder: Path, content: str, words: str) -> None:
    (folder / "environment.json").write_text(content)
    with pytest.raises(ConfigError, match=words) as caught:
        defaults(Config, model=str(folder))
    assert "environment.json" in str(caught.value)


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
    own = read_config(run / "config.yaml")
    own = replace(own, output=replace(own.output, output_dir=None))  # the folder may have moved
    for resume in (run, run / "checkpoints" / "step-000010"):
        config = typed("--resume", str(resume), "--max-steps", "900")
        assert config == replace(own, max_steps=900, output=replace(own.output, resume=str(resume)))
        refuse_other_settings(run, read_config(run / CONFIG), config, {})
    auto = typed("--resume", "auto", "--output_dir", str(run))
    assert auto == replace(own, output=replace(own.output, resume="auto", output_dir=str(run)))
    (tmp_path / "more.yaml").write_text("max_steps: 77\nenv_args: {blanks: 8}\n")
    later = typed("--resume", str(run), "--config", str(tmp_path / "more.yaml"))
    assert later.max_steps == 77 and later.seed == 3
    new = typed("--resume", "auto", "--output-dir", str(tmp_path / "new"))
    assert new.algorithm_args == SUDOKU.algorithm_args and new.seed == 0, "where no run is"


@pytest.mark.parametrize(
    ("gone", "instead", "more"),
    [("dpo", "vrpo", []), ("dpo", "vrpo", ["--algorithm", "vrpo"]), ("old_one", "NAME", [])],
)
def test_a_run_of_an_algorithm_that_is_gone_is_begun_anew_from_its_weights(
    run: Path, gone: str, instead: str, more: list[str]
) -> None:
    text = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(text.replace("algorithm: spg", f"algorithm: {gone}"))
    with pytest.raises(ConfigError, match=f"run of '{gone}', .* it cannot go on") as caught:
        typed("--resume", str(run), *more)
    assert str(caught.value).endswith(f"from its weights: --model {run} --algorithm {instead}.")
    for step in (3, 20):
        place = run / "checkpoints" / f"step-{step}"
        place.mkdir(parents=True)
        (place / "COMPLETE").touch()
    for folder, opened in ((None, run / "checkpoints" / "step-20"), (run / "model", run)):
        if folder:
            folder.mkdir()
        with pytest.raises(ConfigError, match=rf"its weights: --model {re.escape(str(opened))} --algorithm "):
            typed("--resume", str(run), *more)


def test_an_own_algorithm_is_not_exchanged_for_one_of_ours(run: Path) -> None:
    text = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(text.replace("algorithm: spg", "algorithm: ./mine.py:Mine"))
    with pytest.raises(ConfigError, match=r"algorithm was '\./mine\.py:Mine', now 'wd1'\. Resume it"):
        typed("--resume", str(run), "--algorithm", "wd1")
    moved = typed("--resume", str(run), "--algorithm", "./moved/mine.py:Mine")
    assert moved.algorithm == "./moved/mine.py:Mine"


def test_what_changed_is_listed_with_both_values(run: Path) -> None:
    words = "--seed 4 --env-args blanks=9 --learning-rate 0.5 --reward-weights cells=0.5 --max-steps 9"
    with pytest.raises(ConfigError) as caught:
        refuse_other_settings(run, read_config(run / CONFIG), typed("--resume", str(run), *words.split()), {})
    message = str(caught.value)
    changes = ["seed was 3, now 4", "env_args.blanks was 8, now 9", "reward_weights.cells was None, now 0.5"]
    for words in (str(run), *changes, "optimizer.learning_rate was", "--max-steps", "--output-dir"):
        assert words in message
    assert "max_steps was" not in message
    with pytest.raises(ConfigError, match=r"env_args.blanks was 8, now None"):
        refuse_other_settings(
            run, read_config(run / CONFIG), replace(typed("--resume", str(run)), env_args={}), {}
        )


def test_what_is_shown_kept_or_how_long_may_change_and_nothing_else(run: Path) -> None:
    other = {int: 12345, float: 12345.0, str: "other", type(None): "other", list: ["wandb"]}
    text = (run / "config.yaml").read_text()
    for name in MAY_CHANGE:
        values = yaml.safe_load(text)
        part, _, key = name.rpartition(".")
        place = values[part] if part else values
        place[key] = not place[key] if isinstance(place[key], bool) else other[type(place[key])]
        place[key] = {
            "gpu": "L4",
            "overlong": "skip",
            "keep": 5,
            "shard": "layer",
            "rollout_graphs": "none",
        }.get(key, place[key])
        config = overlay(Config(), values, "test")
        assert to_yaml(config) != text
        refuse_other_settings(run, read_config(run / CONFIG), config, {})
    fixed = "seed env algorithm batch.num_generations rollout.temperature optimizer.learning_rate"
    assert not MAY_CHANGE & set(fixed.split())


def test_a_task_has_one_name_however_it_is_typed() -> None:
    for word in ("math", "MATH500", "Math", "spg/MATH500-v0", "envs:spg/MATH500-v0"):
        assert typed("--env", word) == typed("--env", "math500"), word
    assert typed("--env", "Countdown", "math:weight=2").env == "countdown + math500"
    assert typed("--env", "./Own.py:my/Own-v0").env == "./Own.py:my/Own-v0"
    assert typed("--env", "spg/Sudoku-v9").env == "spg/Sudoku-v9", "no version that there is"


def test_a_class_names_its_task() -> None:
    config = defaults(Config, env=Letters)
    assert config.env == LETTERS and envs.resolve(config.env) == "test/Letters-v0"
    assert defaults(Config, env=envs.Countdown) == defaults(Config, env="spg/Countdown-v0")
    with pytest.raises(envs.EnvError, match=r'envs.register\("my/Unknown-v0", Unknown\) first'):
        defaults(Config, env=type("Unknown", (envs.TextEnv,), {}))


def test_pairs_are_a_source_of_their_own() -> None:
    assert typed("--algorithm", "vrpo", "--pairs", "pairs.csv").source == "pairs"
    assert typed().source == "environment"


def test_a_verifier_beside_several_tasks_is_that_of_the_files_among_them(tmp_path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(f'{{"prompt": "What is {i}+1?", "answer": "{i + 1}"}}\n' for i in range(40)))
    for words in (["countdown", str(file)], [str(file), "countdown"]):
        given = resolve(Config, ["--env", *words, "--verifier", "gsm8k"]).config.env_args
        assert (
            given["rows.verifier"] == "gsm8k"
            and "verifier" not in given
            and "countdown.verifier" not in given
        )
    assert resolve(Config, ["--env", str(file), "--verifier", "gsm8k"]).config.env_args["verifier"] == "gsm8k"


def test_what_judges_rows_is_the_users_word_alone(tmp_path: Path) -> None:
    """A base that was made with a verifier would otherwise pay for it too, beside the functions that are asked for."""
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"prompt": "2 + 2?", "answer": "4"}\n')
    arguments = {"verifier": "gsm8k", "demonstration": "answer", "answer": "final"}
    made = {"env": str(rows), "env_args": arguments, "preset": "tiny"}
    (tmp_path / "environment.json").write_text(json.dumps(made))
    given = ("--env", str(rows), "--model", str(tmp_path))
    taught = (*given, "--source", "demonstrations")
    for cls, words in ((Config, given), (EvalCommand, given), (Config, taught)):
        assert typed(*words, cls=cls).env_args == arguments
        paid = typed(*words, "--reward", "mine.py:pays", cls=cls).env_args
        # The function's parameter `answer` is the column of this name, not what the verifier read as its answer.
        assert paid == {"reward": "mine.py:pays", "demonstration": "answer"}
        both = typed(*words, "--reward", "mine.py:pays", "--verifier", "math500", cls=cls).env_args
        assert both == {**arguments, "reward": "mine.py:pays", "verifier": "math500"}
    # The question's column stays, and so do columns that a function of the model may have had.
    for arguments in (
        {"verifier": "code", "prompt": "question"},
        {"reward": "old.py:pays", "answer": "final"},
    ):
        (tmp_path / "environment.json").write_text(json.dumps({**made, "env_args": arguments}))
        kept = {name: value for name, value in arguments.items() if name not in ("verifier", "reward")}
        assert typed(*given, "--reward", "mine.py:pays").env_args == {**kept, "reward": "mine.py:pays"}
    # The columns of a verifier of the user's own go as well, also if its file is not there any more.
    of_own = {
        "verifier": f"{tmp_path}/gone.py:parity",
        "prompt": "question",
        "answer": "final",
        "hint": "clue",
    }
    (tmp_path / "environment.json").write_text(json.dumps({**made, "env_args": of_own}))
    assert typed(*given, "--reward", "mine.py:pays").env_args == {
        "prompt": "question",
        "reward": "mine.py:pays",
    }


@pytest.mark.parametrize(
    "words, steps",
    [
        ("--diffusion-steps length/2", 32),
        ("--tokens-per-step 2", 32),
        ("--tokens-per-step 3", 20),  # five steps for each of four blocks of 16
        ("--diffusion-steps 16", 16),
    ],
)
def test_a_training_takes_tokens_a_step_and_records_a_number(words: str, steps: int, tmp_path: Path) -> None:
    line = f"--env sudoku --max-completion-length 64 --block-length 16 {words}"
    resolved = resolve(Config, line.split())
    assert resolved.config.rollout.diffusion_steps == steps
    assert resolved.origins["rollout.diffusion_steps"] == FLAG
    (tmp_path / CONFIG).write_text(to_yaml(resolved.config))
    assert read_config(tmp_path / CONFIG) == resolved.config


def test_a_training_refuses_steps_that_are_no_number() -> None:
    with pytest.raises(
        ConfigError, match=r"--diffusion-steps half: should be a number of steps.*Try length/2"
    ):
        resolve(Config, "--env sudoku --diffusion-steps half".split())


def test_variables_of_the_chat_template_are_the_models_on_any_task(tmp_path) -> None:
    made = defaults(Config, "sudoku", chat_template_args={"enable_thinking": True})
    (tmp_path / "environment.json").write_text(json.dumps(record_of(made)))
    for command in (Config, EvalCommand):
        read = resolve(command, ["--env", "countdown", "--model", str(tmp_path)])
        assert read.config.model.chat_template_args == {"enable_thinking": True}
        assert read.origins["model.chat_template_args.enable_thinking"] == f"{tmp_path}/environment.json"
        words = ["--model", str(tmp_path), "--chat-template-args", "enable_thinking=false"]
        assert resolve(command, words).config.model.chat_template_args == {"enable_thinking": False}


def test_defaults_refuse_a_task_that_does_not_exist() -> None:
    with pytest.raises(ConfigError, match=r"sudoko.*sudoku"):
        defaults(Config, env="sudoko")


def test_several_tasks_are_a_list() -> None:
    together = defaults(Config, env="sudoku + countdown")
    for several in (["sudoku", "countdown"], ("sudoku", "countdown"), [envs.Sudoku, "countdown"]):
        assert defaults(Config, env=several) == together
    assert [*envs.make(["sudoku", "countdown"]).parts] == ["sudoku", "countdown"]
    for text in ("sudoku countdown", "sudoku,countdown", "sudoku, countdown"):
        for opened in (lambda text=text: defaults(Config, env=text), lambda text=text: envs.make(text)):
            with pytest.raises((ConfigError, envs.EnvError), match=r"a list: \['sudoku', 'countdown'\]"):
                opened()


def test_a_misspelt_hyper_parameter_is_refused_at_once() -> None:
    with pytest.raises(ConfigError, match=r"epsilonn=0\.1: .*epsilon"):
        defaults(Config, env="countdown", algorithm="unigrpo", algorithm_args={"epsilonn": 0.1})


def test_short_flags_are_keywords_too(tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"prompt": "1+1", "answer": "2"}\n')
    by_keyword = defaults(Config, env=str(rows), verifier="gsm8k", tokens_per_step=2)
    assert by_keyword == typed("--env", str(rows), "--verifier", "gsm8k", "--tokens-per-step", "2")
    assert by_keyword.env_args == {"verifier": "gsm8k"}
    with pytest.raises(ConfigError, match="sudoku judges its answers itself"):
        defaults(Config, env="sudoku", verifier="gsm8k")
    with pytest.raises(
        ConfigError, match=r"no setting verifyer .*Did you mean.*`help\(Config\)` lists them.$"
    ):
        defaults(Config, verifyer="gsm8k")


def test_what_stands_in_a_file_may_be_given_itself(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    file = tmp_path / "given_itself.py"
    file.write_text(
        "from dataclasses import dataclass\nfrom spg_trainer.algorithms.spg import SPG\n"
        "@dataclass(frozen=True)\nclass Mine(SPG):\n    pass\n"
        "def r(completions, **kwargs):\n    return [1.0] * len(completions)\n"
        "def s(completions, **kwargs):\n    return [0.5] * len(completions)\n"
    )
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"prompt": "1+1", "answer": "2"}\n' * 30)
    own = importlib.import_module("given_itself")
    config = defaults(Config, env=str(rows), env_args={"reward": own.r}, algorithm=own.Mine)
    assert config.env_args == {"reward": f"{file}:r"} and config.algorithm == f"{file}:Mine"
    assert defaults(Config, env=str(rows), reward=own.r).env_args == config.env_args
    assert envs.make(str(rows), reward=own.r).spec_name == "rows[reward=r]"
    both = {"reward": f"{file}:r+s"}
    assert defaults(Config, env=str(rows), reward=[own.r, own.s]).env_args == both
    assert defaults(Config, env=str(rows), env_args={"reward": [own.r, f"{file}:s"]}).env_args == both
    assert envs.make(str(rows), reward=[own.r, own.s]).spec_name == "rows[reward=r+s]"
    with pytest.raises(ConfigError, match=r"reward=5: should be a function of a file, .* or a list of these"):
        defaults(Config, env=str(rows), reward=5)
    for given in ({"reward": lambda **_: []}, {"algorithm": type("Cell", (), {"__module__": "__main__"})}):
        with pytest.raises(ConfigError, match=r'Write it at the top of a file .*"./FILE.py:(NAME|Cell)"'):
            defaults(Config, env=str(rows), **given)


def test_settings_without_defaults_are_told_what_the_recipe_has():
    """`train(Config(env="sudoku"))` trains 256 tokens of a model of 20, at a rate that is some seventy times lower."""
    config = defaults(Config, env="sudoku")
    said = note_on_missing_recipe(Config(env="sudoku"))
    assert "max_completion_length 256 (20)" in said and "learning_rate 3e-06 (0.0002)" in said
    assert "defaults(Config, env='sudoku', ...) begins with the recipe" in said
    assert (
        note_on_missing_recipe(config)
        == note_on_missing_recipe(replace(config, max_steps=Config().max_steps))
        == ""
    )
    assert note_on_missing_recipe(defaults(Config, env="sudoku", warmup_steps=0, eval_steps=0)) == ""
    said = note_on_missing_recipe(replace(config, optimizer=OptimizerConfig(learning_rate=1e-3)))
    assert said.startswith("3 settings are what Config(...) has by itself") and "warmup_steps 0 (5)" in said
    assert note_on_missing_recipe(defaults(Config, env=["gsm8k", "sudoku"], algorithm="wd1")) == ""


def test_a_shell_shows_the_settings_that_are_no_defaults():
    assert repr(Config(max_steps=3, rollout=Sampling(20))) == (
        "Config(max_steps=3, rollout=Sampling(max_completion_length=20))"
    )
    assert repr(Config()) == "Config()"


def test_how_a_model_decodes_is_asked_for_with_other_settings_beside_its_own_lengths():
    asked = defaults(Sampling, env="sudoku", temperature=0.7)
    assert asked == replace(defaults(Config, env="sudoku").rollout, temperature=0.7)
    evaluated = defaults(EvalSampling, env="sudoku", editing_threshold=0.9)
    lengths = (evaluated.max_completion_length, evaluated.block_length, evaluated.diffusion_steps)
    assert (*lengths, evaluated.temperature, evaluated.editing_threshold) == (20, 20, 20, 0.0, 0.9)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (
            lambda: defaults(Sampling, env="sudoku", max_steps=3),
            r"Sampling\(max_steps=...\): no such setting. `help\(Sampling\)` lists them",
        ),
        (lambda: defaults(Sampling, temprature=3), "Did you mean 'temperature'"),
        (lambda: defaults(OptimizerConfig), "there are defaults of Config, EvalCommand, Sampling"),
        (
            lambda: defaults(Config, env="sudoku", rollout=Sampling(20)),
            "rollout is a group: give each of its settings",
        ),
        (lambda: Sampling(20.0, 20, 20).check(), "--max-completion-length 20.0: expected a whole number"),
    ],
)
def test_what_has_no_defaults_is_refused_in_a_sentence(call, words):
    with pytest.raises(ConfigError, match=words):
        call()


def test_a_sampling_without_lengths_for_a_model_of_other_ones_is_told():
    tiny = str(models_folder() / "tiny-sudoku")
    said = lengths_left_out(Sampling(temperature=1.0), tiny)
    assert "was taught to write 20 tokens" in said and "defaults(Sampling, env=..., model=..., " in said
    assert lengths_left_out(Sampling(64, temperature=1.0), tiny) == lengths_left_out(Sampling(), LLADA) == ""
    policy = load_model("tiny")
    with (
        pytest.warns(UserWarning, match="here it writes 256"),
        pytest.raises(ConfigError, match="has 1 text"),
    ):
        generate(policy, ["a", "b"], Sampling(temperature=1.0), completion_prefixes=["x"])
    with pytest.warns(UserWarning, match="here it writes 256"), pytest.raises(envs.EnvError, match="split"):
        evaluate(policy, "sudoku", Sampling(), split="tset")


def first(completions):
    return [0.0] * len(completions)


def second(completions):
    return [1.0] * len(completions)


def test_classes_and_functions_stand_for_their_names(tmp_path):
    table = tmp_path / "rows.toml"
    table.write_text("")
    config = defaults(Config, env="rows.jsonl", reward=[first, second])
    assert config.env_args["reward"] == f"{Path(__file__).resolve()}:first+second"
    of_two_files = defaults(Config, env="rows.jsonl", reward=["a.py:f", "b.py:g"])
    assert of_two_files.env_args["reward"] == "a.py:f+b.py:g"
    assert isinstance(envs.make(Letters, size=3), Letters) and len(envs.make(Letters, size=3)) == 3
    for mistake, words in (
        (lambda: Sampling(8, 8, 8, remasking=first).check(), "--remasking <function first.*: expected text"),
        (lambda: find_algorithm("./mine.py"), r"--algorithm ./mine.py:MyClass"),
        (lambda: envs.make(5), "5 is no name of an environment"),
        (lambda: envs.make(__file__.replace(".py", ".txt")), "No environment"),
        (lambda: envs.make(str(table)), "files of rows end in .jsonl"),
    ):
        with pytest.raises((ConfigError, envs.EnvError), match=words):
            mistake()


@pytest.mark.parametrize("make", [Config, partial(defaults, Config)])
def test_settings_hold_values_of_python_whatever_they_are_made_of(make, tmp_path):
    """Numbers of numpy, paths and several tasks."""
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"prompt": "1 + 1", "answer": "2"}\n')
    given = {"env": rows, "env_args": {"verifier": "gsm8k", "test": rows}, "max_steps": np.int64(1)}
    given |= {"seed": np.int64(3), "reward_weights": {"format": np.float32(0.5)}}
    config = make(**given)
    assert (config.env, config.env_args["test"]) == (str(rows), str(rows))
    found = {"max_steps": config.max_steps, "seed": config.seed} | config.reward_weights
    assert found == {"max_steps": 1, "seed": 3, "format": 0.5}
    assert {type(value) for value in found.values()} == {int, float}
    assert type(replace(config, max_steps=np.int64(2)).max_steps) is int


def test_paths_name_models_and_folders_and_numbers_of_numpy_lengths(tmp_path):
    config = defaults(
        Config, env="sudoku", model=tmp_path, output_dir=tmp_path / "out", learning_rate=np.float32(0.5)
    )
    assert (config.model.model, config.output.output_dir) == (str(tmp_path), str(tmp_path / "out"))
    assert config.optimizer.learning_rate == 0.5
    sampling = Sampling(np.int64(20), np.int64(20), np.int64(10), np.float32(0.5))
    sampling.check()
    values = [value for name, value in vars(sampling).items() if name != "editing_threshold"]
    assert {type(value) for value in values} == {int, float, str} and sampling.editing_threshold is None
    with pytest.raises(ConfigError, match=r"settings hold the name of a task, or its registered class"):
        defaults(Config, env=envs.make("sudoku"))


@pytest.mark.parametrize(
    "words",
    ["--lora-r 0", "--lora-r 8 --load-4bit", "--lora-r 8 --shard phase"],
)
def test_adapters_are_merged_for_rollouts_into_a_whole_base_alone(words: str) -> None:
    with pytest.raises(
        ConfigError, match=r"--merge-for-rollouts multiplies adapters of linear layers into a whole"
    ):
        check(typed("--model", LLADA, "--merge-for-rollouts", *words.split()))
