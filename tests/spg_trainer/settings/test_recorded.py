"""Files of settings that earlier versions wrote."""

import pytest
import yaml

from spg_trainer.errors import ConfigError
from spg_trainer.settings.fields import Config, EvalCommand
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
