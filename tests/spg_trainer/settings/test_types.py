"""Values as people type them: KEY=VALUE words, and YAML laid over a dataclass."""

import inspect

import pytest
import yaml

from spg_trainer.algorithms import build
from spg_trainer.errors import ConfigError
from spg_trainer.settings.configs import BatchConfig, Config, EvalConfig, OptimizerConfig, OutputConfig
from spg_trainer.settings.decoding import EvalSampling, Sampling
from spg_trainer.settings.model import ModelConfig
from spg_trainer.settings.types import check_values, flatten, overlay, parse_pairs


def test_values_of_pairs_keep_the_type_they_were_typed_in() -> None:
    read = parse_pairs(["a=1", "b=1e-3", "c=4-11", "d=true", "e=None", "f=x=y", "g=", "h=4:11"], "--x")
    assert read == {"a": 1, "b": 1e-3, "c": "4-11", "d": True, "e": None, "f": "x=y", "g": "", "h": "4:11"}
    assert type(read["a"]) is int


def test_nested_settings_become_dotted_names() -> None:
    tree = {"a": 1, "b": {"a": 2, "c": {"d": (3,)}}, "e": {}}
    assert flatten(tree) == {"a": 1, "b.a": 2, "b.c.d": (3,)}
    assert flatten(tree, ignore={"a", "b.c"}) == {"b.a": 2}, "a name alone is that of the top level"


def test_numbers_written_as_yaml_1_1_text_are_read() -> None:
    config = overlay(Config(), yaml.safe_load("optimizer: {learning_rate: 1e-3, weight_decay: 0}"), "x")
    assert config.optimizer.learning_rate == 1e-3 and config.optimizer.weight_decay == 0.0
    assert isinstance(config.optimizer.weight_decay, float)
    assert overlay(Config(), {"output": {"track": "wandb"}}, "x").output.track == ("wandb",)
    assert overlay(Config(), {"model": {"lora_alpha": None}}, "x").model.lora_alpha is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("max_step: 3", ["max_step", "Did you mean 'max_steps'?"]),
        ("rollout: {blok_length: 3}", ["rollout.blok_length", "Did you mean 'block_length'?"]),
        ("learning_rate: 1", ["learning_rate", "Did you mean 'optimizer.learning_rate'?"]),
        ("output: {board_steps: 1}", ["output.board_steps", "Known:", "sample_steps"]),
        ("max_steps: many", ["max_steps='many'", "whole number"]),
        ("max_steps: 2.5", ["max_steps=2.5: expected a whole number, at least 0."]),
        ("max_steps: true", ["max_steps=True", "whole number"]),
        ("dry_run: 1", ["dry_run=1", "true or false"]),
        ("optimizer: {learning_rate: fast}", ["optimizer.learning_rate='fast'", "a number"]),
        ("optimizer: {learning_rate: .nan}", ["optimizer.learning_rate=nan", "a number"]),
        ("rollout: {temperature: null}", ["rollout.temperature=None", "a number"]),
        ("model: {dtype: low}", ["model.dtype='low'", "auto, float32"]),
        ("output: {track: [wandb, mlflow]}", ["output.track='mlflow'", "tensorboard, wandb"]),
        ("env: 5", ["env=5", "text"]),
        ("model: tiny", ["model", "'tiny'", "name: value", "Did you mean model: {model: tiny}?"]),
        ("algorithm_args: 3", ["algorithm_args=3", "names with values"]),
        ("env_args: [a, b]", ["env_args", "names with values"]),
    ],
)
def test_a_wrong_line_is_named_with_its_file_and_value(text: str, words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        overlay(Config(), yaml.safe_load(text), "some.yaml")
    assert all(word in str(caught.value) for word in ("some.yaml", *words))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"optimizer": OptimizerConfig(optimizer="sgd")}, "--optimizer 'sgd': expected one of adamw, muon."),
        ({"optimizer": OptimizerConfig(lr_schedule="Cosine")}, "--lr-schedule 'Cosine': .* mean 'cosine'"),
        (
            {"optimizer": OptimizerConfig(learning_rate="1e-4")},
            "--learning-rate '1e-4': expected a number, above 0",
        ),
        ({"batch": BatchConfig(pools="false")}, "--pools 'false': expected true or false"),
        ({"batch": BatchConfig(pools=1)}, "--pools 1: expected true or false"),
        (
            {"batch": BatchConfig(prompts_per_step=True)},
            "--prompts-per-step True: expected a whole number, at least 1.",
        ),
        (
            {"batch": BatchConfig(per_device_batch_size="8")},
            "size '8': expected a whole number, at least 1, or auto.",
        ),
        ({"output": OutputConfig(report=None)}, "--report None: expected true or false"),
        ({"output": OutputConfig(keep="3")}, "--keep '3': expected a whole number, at least 1, or none."),
        (
            {"output": OutputConfig(track="wandb")},
            "--track 'wandb': expected a tuple, each item one of tensorboard",
        ),
        (
            {"output": OutputConfig(track=("mlflow",))},
            r"--track \('mlflow',\): expected a tuple, each item one of tensorboard, wandb",
        ),
        ({"eval": EvalConfig(eval_split="train")}, "--eval-split 'train': expected one of test, validation"),
        ({"model": ModelConfig(dtype="float16")}, "--dtype 'float16': expected one of auto, float32"),
        ({"overlong": "drop"}, "--overlong 'drop': expected one of error, skip"),
        ({"force": "no"}, "--force 'no': expected true or false"),
    ],
)
def test_a_value_of_settings_made_in_python_is_one_that_its_type_allows(settings, words) -> None:
    check_values(Config())
    with pytest.raises(ConfigError, match=words):
        check_values(Config(**settings))


def test_pairs_that_are_joined_by_commas_are_told_how_to_separate_them() -> None:
    with pytest.raises(
        ConfigError, match=r"num_masks='2,p_mask_prompt=0.1': .* Separate several KEY=VALUE by spaces"
    ):
        build("spg", {"num_masks": "2,p_mask_prompt=0.1"})


def test_the_help_of_sampling_shows_types_and_no_functions() -> None:
    for cls in (Sampling, EvalSampling):
        shown = str(inspect.signature(cls))
        assert "lambda" not in shown and "Annotated" not in shown
        assert "max_completion_length: int = 256" in shown and "top_p: float = 1.0" in shown
    with pytest.raises(ConfigError, match="--temperature 101: expected a number, at least 0 and at most 100"):
        Sampling(8, 8, 8, 101).check()
