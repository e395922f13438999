"""The table of rules of decoding: what it names is there, and what it says is refused or allowed."""

from dataclasses import fields

import pytest

from spg_trainer.errors import ConfigError
from spg_trainer.rollout.unmasking import function_named
from spg_trainer.settings.decoding import Decoding, Sampling
from spg_trainer.settings.rules import CACHES, REMASKING, UNMASKING


def test_a_rule_names_functions_and_settings_that_there_are():
    settings = {field.name for field in fields(Decoding)}
    assert all({*rule.reads} <= settings for rule in (*UNMASKING.values(), *CACHES.values()))
    named = [rule.function for rule in (*UNMASKING.values(), *REMASKING.values())]
    named += [rule.measure for rule in REMASKING.values()]
    assert all(callable(function_named(name)) for name in named if name)


@pytest.mark.parametrize("name", [name for name, rule in UNMASKING.items() if not rule.redraws])
def test_a_setting_has_an_effect_with_the_rules_that_read_it_alone(name):
    changed = {"threshold": 0.9, "factor": 2.0, "max_tokens_per_step": 4, "fallback": "leftmost"}
    for setting, value in changed.items():
        sampling = Sampling(16, 8, 16, unmasking=name, **{setting: value})
        if setting in UNMASKING[name].reads:
            sampling.check()
            continue
        with pytest.raises(
            ConfigError, match=f"{setting.replace('_', '-')} .* says nothing with --unmasking"
        ) as said:
            sampling.check()
        instead = str(said.value).rpartition("--unmasking ")[2].rstrip(".")
        Sampling(16, 8, 16, unmasking=instead, **{setting: value}).check()
