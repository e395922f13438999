"""The same mistake by both doors is told in the same words, with flags; and `help` explains the settings."""

import pydoc
import re
import shlex
from dataclasses import dataclass, fields

import pytest

from spg_trainer import Config, EvalSampling, Sampling, cli
from spg_trainer.algorithms import build
from spg_trainer.errors import ConfigError, SpgError
from spg_trainer.settings.check import check, check_algorithm
from spg_trainer.settings.configs import BatchConfig, EvalConfig, OptimizerConfig, OutputConfig
from spg_trainer.settings.model import ModelConfig
from spg_trainer.settings.resolve import resolve
from spg_trainer.settings.types import docstrings, summary


@pytest.mark.parametrize(
    ("message", "flags"),
    [
        ("$block_length=0: should", "--block-length 0: should"),
        ("Set $lora_r, e.g. 64.", "Set --lora-r, e.g. 64."),
        ("$mix right=1: no ($pools).", "--mix right=1: no (--pools)."),
        ("the rows cost $x$ and $total=5", "the rows cost $x$ and $total=5"),
        (
            "$model='$model/a $seed': rows' '$env' is no \"$seed\", as $model=$model or data/$seed",
            "--model '$model/a $seed': rows' '$env' is no \"$seed\", as --model $model or data/$seed",
        ),
        ("`torchrun --nproc-per-node 8`", "`torchrun --nproc-per-node 8`"),
    ],
)
def test_a_message_names_settings_by_their_flags(message: str, flags: str) -> None:
    assert str(ConfigError(message)) == flags
    assert repr(ConfigError(message)) == f"ConfigError({flags!r})"


def from_python(line: str) -> str:
    """What Python is told of the settings that a command line would type."""
    with pytest.raises(SpgError) as refused:
        config = resolve(Config, shlex.split(line)).config
        check(config)
        algorithm = build(config.algorithm, config.hyper_parameters)
        check_algorithm(config, algorithm)
    return str(refused.value)


LINES = [
    "--prompts-per-step 0",
    "--learning-rate 2",
    "--block-length 7",
    "--env-args split=test",
    "--device gpu",
    "--learning-rate a",
    "--lr-schedule cosinus",
    "--temperature 0",
    "--algorithm grpoo",
    "--algorithm-args num_masks=0",
]


@pytest.mark.parametrize("line", LINES)
def test_a_mistake_is_told_in_the_same_words_to_python_and_to_the_command_line(
    line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    line = f"--env sudoku {line}"
    python = from_python(line)
    assert cli.main([*shlex.split(line), "--dry-run"]) == 2
    assert capsys.readouterr().err == f"error: {python}\n"
    assert shlex.split(line)[2] in python and "$" not in python


@pytest.mark.parametrize(
    "cls",
    [Config, Sampling, EvalSampling, ModelConfig, BatchConfig, OptimizerConfig, EvalConfig, OutputConfig],
)
def test_help_says_of_each_setting_what_it_means_with_type_range_and_default(cls: type) -> None:
    text = pydoc.render_doc(cls, renderer=pydoc.plaintext)
    listed = text.partition("Settings:\n")[2]
    for field in fields(cls):
        (entry,) = re.findall(rf"^ \|    {field.name}: (.+)\n \|        (\w.+)", listed, flags=re.M)
        assert len(entry[1]) > 20, field.name
    signature = text.splitlines()[3]
    assert f"{cls.__name__}(" in signature and "Annotated" not in signature


def test_help_of_a_number_has_its_range_and_default() -> None:
    assert (
        "  top_k: a whole number, at least 0 (default: 0)\n      The number of most probable tokens"
        in Sampling.__doc__
    )
    assert "  temperature: a number, at least 0 and at most 100 (default: 0.0)\n" in Sampling.__doc__
    assert "  batch: BatchConfig\n      The size of a step" in Config.__doc__


def test_a_class_of_ones_own_inherits_the_texts() -> None:
    @dataclass(frozen=True)
    class Mine(Sampling):
        """Mine."""

        note: str = ""
        top_p: float = 0.9
        """Mine as well."""

    assert Mine.__doc__ == "Mine." and summary(Sampling).startswith("How completions are sampled.")
    assert docstrings(Mine)["top_k"] == docstrings(Sampling)["top_k"]
    assert docstrings(Mine)["top_p"] == "Mine as well."
