"""Files of settings that earlier versions wrote."""

import pytest
import yaml

from spg_trainer.errors import ConfigError
from spg_trainer.settings.fields import Config, EvalCommand, SftCommand
from spg_trainer.settings.recorded import RETIRED, read_config, to_yaml
from spg_trainer.settings.resolve import resolve


@pytest.mark.parametrize("name", RETIRED)
def test_retired_settings_of_decoding_are_read_at_their_defaults_and_refused_otherwise(tmp_path, name):
    file, settings = tmp_path / "config.yaml", yaml.safe_load(to_yaml(Config()))
    settings["rollout"][name] = RETIRED[name]
    file.write_text(yaml.safe_dump(settings))
    assert read_config(file) == Config()
    settings["rollout"][name] = 3
    file.write_text(yaml.safe_dump(settings))
    with pytest.raises(ConfigError, match=rf"{name}=3 is a setting of an earlier version"):
        read_config(file)
    file.write_text(f"{name}: 3\n")
    with pytest.raises(ConfigError, match=rf"{name}=3 is a setting of an earlier version"):
        resolve(EvalCommand, env="sudoku", config=str(file))


@pytest.mark.parametrize(
    ("steps", "rate", "expected"),
    [(0, 1.0, "length/1"), ([], 2.5, "length/2.5"), (12, 2.0, 12), (None, "2", "length/2")],
)
def test_settings_of_sft_on_one_level_are_read_into_their_groups(tmp_path, steps, rate, expected):
    file = tmp_path / "sft.yaml"
    flat = {
        "env": "count",
        "model": {"model": "new"},
        "optimizer": "muon",
        "learning_rate": 0.1,
        "patience": 2,
    }
    flat |= {"block_length": 4, "diffusion_steps": steps, "tokens_per_step": rate, "output_dir": "here"}
    file.write_text(yaml.safe_dump(flat))
    read = read_config(file, SftCommand)
    assert (read.optimizer.optimizer, read.optimizer.learning_rate, read.eval.patience) == ("muon", 0.1, 2)
    assert (read.rollout.block_length, read.rollout.diffusion_steps) == (4, expected)
    assert (read.env, read.model.model, read.output.output_dir) == ("count", "new", "here")
    assert resolve(SftCommand, env="sudoku", config=str(file)).config.rollout.diffusion_steps == expected
    file.write_text("rollout: 3\nblock_length: 4\n")
    with pytest.raises(ConfigError, match="rollout should hold"):
        read_config(file, SftCommand)


def test_settings_that_only_another_command_has_are_read_where_they_said_nothing(tmp_path):
    """Earlier versions wrote them into every config.yaml and sft.yaml, and refused them at other values."""
    for cls, part, name, nothing, something in (
        (Config, "rollout", "editing_threshold", None, 0.5),
        (SftCommand, "model", "ref_copy", False, True),
    ):
        file, settings = tmp_path / "settings.yaml", yaml.safe_load(to_yaml(cls()))
        assert name not in settings[part]
        settings[part][name] = nothing
        file.write_text(yaml.safe_dump(settings))
        assert read_config(file, cls) == cls()
        settings[part][name] = something
        file.write_text(yaml.safe_dump(settings))
        with pytest.raises(ConfigError, match=f"{part}.{name}={something}: no such setting"):
            read_config(file, cls)
    file.write_text("editing_threshold: 0.5\n")
    assert resolve(EvalCommand, env="sudoku", config=str(file)).config.rollout.editing_threshold == 0.5
