"""What the settings allow: KEY=VALUE pairs, lengths that divide, adapters for a reference."""

import pydoc
from dataclasses import replace

import pytest

from spg_trainer.algorithms.justgrpo import JustGRPO
from spg_trainer.algorithms.spg import SPG
from spg_trainer.errors import ConfigError
from spg_trainer.settings.fields import Config, ModelConfig, SftCommand, check, check_sft, parse_pairs
from spg_trainer.settings.sources import defaults


def test_values_of_pairs_keep_the_type_they_were_typed_in() -> None:
    read = parse_pairs(["a=1", "b=1e-3", "c=4-11", "d=true", "e=None", "f=x=y", "g=", "h=4:11"])
    assert read == {"a": 1, "b": 1e-3, "c": "4-11", "d": True, "e": None, "f": "x=y", "g": "", "h": "4:11"}
    assert type(read["a"]) is int


class Asks(SPG):
    """An algorithm with a KL term."""

    needs_ref_logps = True


def test_a_reference_needs_adapters_or_a_copy(tmp_path) -> None:
    config = defaults(Config)

    with pytest.raises(ConfigError, match=r"--algorithm spg .* Set --lora-r.*--model PATH.*--ref-copy"):
        check(config, Asks())
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "adapter_config.json").write_text("{}")
    for change in (
        {"lora_r": 8},
        {"model": str(tmp_path)},
        {"model": str(tmp_path / "model")},
        {"ref_copy": True},
    ):
        check(replace(config, model=replace(config.model, **change)), Asks())


def test_a_copy_of_all_weights_is_refused_where_it_has_no_use() -> None:
    config = Config(model=ModelConfig(lora_r=8, ref_copy=True))
    with pytest.raises(ConfigError, match=r"--ref-copy .* adapters are trained"):
        check(config, SPG())
    with pytest.raises(ConfigError, match="--ref-copy: sft"):
        check_sft(SftCommand(model=ModelConfig(ref_copy=True)))
    with pytest.raises(ConfigError, match=r"--ref-copy: --algorithm spg .* asks for no reference"):
        check(Config(model=ModelConfig(ref_copy=True)), SPG())


@pytest.mark.parametrize("change", [{"num_iterations": 2}, {"num_minibatches": 2}])
def test_an_algorithm_without_a_ratio_uses_a_rollout_once(change) -> None:
    config = defaults(Config, algorithm="justgrpo")
    check(config, JustGRPO())
    with pytest.raises(ConfigError, match=r"no ratio .* 2 updates per rollout"):
        check(replace(config, batch=replace(config.batch, **change)), JustGRPO())
    with pytest.raises(ConfigError, match="--block-length 1"):
        check(replace(config, rollout=defaults(Config).rollout), JustGRPO())


def test_help_shows_what_every_field_means_and_no_internals():
    text = " ".join(pydoc.render_doc(Config, renderer=pydoc.plaintext).replace("|", " ").split())
    assert "max_steps: Steps in all; a step is one rollout" in text and "model: Which weights" in text
    assert not any(internal in text for internal in ("tyro", "lambda", "Primitive", "0x"))
    assert "revision: Hub revision" in str(ModelConfig.__doc__)  # inherited
