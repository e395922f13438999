"""What a resumed run takes from its own folder, what may change, and what is refused and how."""

from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from spg_trainer import cli
from spg_trainer.config import Config
from spg_trainer.errors import CheckpointError, ConfigError
from spg_trainer.files import to_json
from spg_trainer.settings import MAY_CHANGE, defaults, overlay, refuse_changes, to_yaml


def typed(*words: str) -> Config:
    """The settings of a command line."""
    return cli.parse(Config, words, "python -m spg_trainer")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run folder with settings of its own."""
    path = tmp_path / "runs" / "a"
    path.mkdir(parents=True)
    config = typed(
        "--env-args", "blanks=8", "--seed", "3", "--algorithm-args", "num_masks=4", "--output-dir", str(path)
    )
    (path / "config.yaml").write_text(to_yaml(config))
    return path


def test_a_resumed_run_takes_its_own_settings_and_flags_over_them(run: Path, tmp_path: Path) -> None:
    own = overlay(Config(), yaml.safe_load((run / "config.yaml").read_text()), "run")
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


def test_what_changed_is_listed_with_both_values(run: Path) -> None:
    words = "--seed 4 --env-args blanks=9 --learning-rate 0.5 --algorithm-args eubo_beta=7 --max-steps 9"
    with pytest.raises(ConfigError) as caught:
        refuse_changes(run / "config.yaml", typed("--resume", str(run), *words.split()))
    message = str(caught.value)
    for words in (
        str(run),
        "seed was 3, now 4",
        "env_args.blanks was 8, now 9",
        "optimizer.learning_rate was",
    ):
        assert words in message
    assert "algorithm_args.eubo_beta was" in message and "now 7" in message
    assert "max_steps was" not in message and "--max-steps" in message and "--output-dir" in message


def test_a_setting_that_is_new_or_gone_counts_as_changed(run: Path) -> None:
    with pytest.raises(ConfigError, match=r"reward_weights.cells was None, now 0.5"):
        refuse_changes(run / "config.yaml", typed("--resume", str(run), "--reward-weights", "cells=0.5"))
    own = typed("--resume", str(run))
    with pytest.raises(ConfigError, match=r"env_args.blanks was 8, now None"):
        refuse_changes(run / "config.yaml", replace(own, env_args={}))


OTHER = {bool: True, int: 12345, float: 12345.0, str: "other", type(None): "other", list: ["wandb"]}


def at(values: dict, name: str, new: object = None) -> object:
    """The value under a dotted name; with `new` it is replaced."""
    *parts, last = name.split(".")
    for part in parts:
        values = values[part]
    if new is not None:
        values[last] = new
    return values[last]


@pytest.mark.parametrize("name", sorted(MAY_CHANGE))
def test_what_is_shown_kept_or_how_long_may_change(run: Path, name: str) -> None:
    values = yaml.safe_load((run / "config.yaml").read_text())
    old = at(values, name)
    at(values, name, "validation" if name == "eval.eval_split" else OTHER[type(old)])
    config = overlay(Config(), values, "test")
    assert at(to_json(yaml.safe_load(to_yaml(config))), name) != old
    refuse_changes(run / "config.yaml", config)


def test_only_what_does_not_change_the_weights_is_free() -> None:
    for name in (
        "seed",
        "env",
        "algorithm",
        "batch.num_generations",
        "rollout.temperature",
        "optimizer.learning_rate",
    ):
        assert name not in MAY_CHANGE
    assert {"max_steps", "max_minutes", "batch.per_device_batch_size"} <= MAY_CHANGE


@pytest.mark.parametrize("content", [b"a: [", b"just text", b"", b"\xff\xfe\x00"])
def test_a_run_whose_settings_cannot_be_read_is_named(run: Path, content: bytes) -> None:
    config = typed()
    (run / "config.yaml").write_bytes(content)
    words = r"config.yaml cannot be read as settings \(.*\). .* another --output-dir"
    with pytest.raises(CheckpointError, match=words):
        refuse_changes(run / "config.yaml", config)
