"""What the settings allow: KEY=VALUE pairs, lengths that divide, adapters for a reference."""

from dataclasses import replace

import pytest

from spg_trainer.algorithms.spg import SPG
from spg_trainer.config import Config, check, parse_pairs
from spg_trainer.errors import ConfigError
from spg_trainer.settings import defaults


def test_values_of_pairs_keep_the_type_they_were_typed_in() -> None:
    read = parse_pairs(["a=1", "b=1e-3", "c=4-11", "d=true", "e=None", "f=x=y", "g=", "h=4:11"])
    assert read == {"a": 1, "b": 1e-3, "c": "4-11", "d": True, "e": None, "f": "x=y", "g": "", "h": "4:11"}
    assert type(read["a"]) is int


def test_a_reference_model_needs_adapters() -> None:
    config = defaults(Config)

    class Asks(SPG):
        needs_ref_logps = True

    with pytest.raises(ConfigError, match=r"--algorithm spg .* Set --lora-r"):
        check(config, Asks())
    check(replace(config, model=replace(config.model, lora_r=8)), Asks())
