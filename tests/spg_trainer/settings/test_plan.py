"""What settings allow: a reference where one is asked for, updates that a ratio corrects, files of pairs."""

import re
from dataclasses import dataclass, replace

import pytest

from spg_trainer.algorithms import ALGORITHMS, Algorithm, build
from spg_trainer.algorithms.justgrpo import JustGRPO
from spg_trainer.algorithms.spg import SPG
from spg_trainer.algorithms.vrpo import VRPO
from spg_trainer.errors import ConfigError
from spg_trainer.settings.check import check, check_algorithm
from spg_trainer.settings.configs import BatchConfig, Config
from spg_trainer.settings.decoding import Sampling
from spg_trainer.settings.model import ModelConfig
from spg_trainer.settings.resolve import defaults


def check_both(config: Config, algorithm: Algorithm) -> None:
    """What a start refuses of settings, with an algorithm."""
    check(config)
    check_algorithm(config, algorithm)


def test_a_reference_needs_adapters_or_a_copy(tmp_path) -> None:
    config = defaults(Config, algorithm="vrpo")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "adapter_config.json").write_text('{"base_model_name_or_path": "org/base"}')
    for change in (
        {"lora_r": 8},
        {"model": str(tmp_path)},
        {"model": str(tmp_path / "model")},
        {"ref_copy": True},
    ):
        check_both(replace(config, model=replace(ModelConfig(), **change)), VRPO())
    with pytest.raises(ConfigError, match=r"--algorithm vrpo .*--lora-r.*--model PATH.*--ref-copy"):
        check_both(replace(config, model=ModelConfig()), VRPO())
    with pytest.raises(ConfigError, match="--ref-copy: --algorithm spg"):
        check_both(Config(model=ModelConfig(ref_copy=True)), SPG())


@pytest.mark.parametrize(
    ("change", "remedy"),
    [
        ({"batch": BatchConfig(num_iterations=2)}, "--num-iterations 1"),
        ({"batch": BatchConfig(num_minibatches=2)}, "--num-minibatches 1"),
        ({"rollout": Sampling(20, 20, 20)}, "--block-length 1 --diffusion-steps 20"),
    ],
)
def test_exact_likelihoods_left_to_right_are_on_policy(change, remedy) -> None:
    config = defaults(Config, algorithm="justgrpo")
    check_both(config, JustGRPO())
    with pytest.raises(ConfigError, match=remedy):
        check_both(replace(config, **change), JustGRPO())


@pytest.mark.parametrize(
    ("change", "remedy"),
    [
        ({"source": "pairs", "pairs": "a.jsonl"}, "--algorithm vrpo"),
        ({"pairs": "a.jsonl"}, "pairs is for --source pairs"),
        ({"batch": BatchConfig(prompts_per_step=2, num_minibatches=3)}, "2 or fewer"),
        ({"model": ModelConfig(lora_alpha=8)}, "--lora-r"),
        ({"model": ModelConfig(model="new", lora_r=8)}, "--model PATH"),
        ({"rollout": Sampling(64, 24, 64)}, "--block-length 32 or --max-completion-length 72"),
        ({"rollout": Sampling(64, 16, 30)}, "--diffusion-steps 32"),
        ({"rollout": Sampling(64, 16, 128)}, "--diffusion-steps 64"),
        ({"rollout": Sampling(64, 0, 64)}, "--block-length 0: should be at least 1"),
        ({"rollout": Sampling(unmasking="threshold", threshold=0.9)}, r"threshold 0\.9: .*--force"),
        ({"rollout": Sampling(unmasking="threshold", threshold=0.99)}, "--max-tokens-per-step 4"),
        ({"rollout": Sampling(unmasking="dynamic", threshold=0.9)}, r"dynamic, threshold 0\.9: .*--force"),
        ({"rollout": Sampling(unmasking="dynamic")}, "dynamic or budget, .* --max-tokens-per-step 4"),
        (
            {"rollout": Sampling(unmasking="budget", factor=2.0, max_tokens_per_step=4)},
            "a --factor of 1 or less",
        ),
        (
            {"rollout": Sampling(unmasking="./f.py:rule")},
            r"py:rule: .* your own rule .*Use --max-tokens-per-step 4",
        ),
        (
            {"rollout": Sampling(unmasking="factor", max_tokens_per_step=2)},
            "--unmasking threshold.*--force",
        ),
    ],
)
def test_settings_that_do_not_go_together_name_what_would(change, remedy) -> None:
    with pytest.raises(ConfigError, match=remedy):
        check_both(replace(Config(), **change), SPG())


READ_THE_PATH = "agrpo cj_grpo d2_stepmerge forkgrpo justgrpo justgrpo_repro mapg tracerl".split()


@pytest.mark.parametrize("name", [*ALGORITHMS, "mle"])
def test_algorithms_that_read_how_a_completion_was_written(name) -> None:
    assert build(name).reads_path == (name in READ_THE_PATH)


def test_a_masking_of_the_path_refuses_editing() -> None:
    config = replace(Config(), rollout=Sampling(editing_threshold=0.5, temperature=0.9))
    check_both(config, SPG())
    for masking in ("trajectory", "informed"):
        arguments = {"masking": masking, "negatives": "elbo", "p_mask_prompt": 0.0}
        with pytest.raises(ConfigError, match=rf"threshold 0\.5: .*spg with masking={masking} learns.*raft"):
            check_both(config, build("spg", arguments))


@pytest.mark.parametrize("by", ["phase", "layer"])
def test_weights_in_4_bits_are_not_divided(by) -> None:
    config = replace(Config(), model=ModelConfig(lora_r=8, load_4bit=True, shard=by))
    with pytest.raises(ConfigError, match=r"4 bits are not divided\. Leave out --shard or --load-4bit"):
        check(config)


@pytest.mark.parametrize("rule", ["threshold", "dynamic", "budget"])
def test_decoding_by_confidence_trains_if_it_is_careful_or_insisted_on(rule) -> None:
    careful = Sampling(unmasking=rule, threshold=0.95, max_tokens_per_step=4, temperature=0.9)
    check_both(replace(Config(), rollout=careful), SPG())
    check_both(replace(Config(), rollout=Sampling(unmasking=rule, threshold=0.5), force=True), SPG())
    check_both(replace(Config(), rollout=Sampling(unmasking="factor"), force=True), SPG())


def test_settings_of_a_users_own_class_are_checked_as_those_they_inherit_from() -> None:
    @dataclass(frozen=True)
    class Mine(Config):
        note: str = ""

    check(Mine(note="x"))
    with pytest.raises(ConfigError, match="--num-minibatches 17"):
        check(Mine(batch=BatchConfig(num_minibatches=17)))


def test_the_number_of_generations_that_is_advised_is_one_that_the_algorithm_takes() -> None:
    config = defaults(Config, env="sudoku", algorithm="spg", num_generations=1)
    with pytest.raises(
        ConfigError, match=r"--num-generations 1: should be at least 2, .* Try (\d+)\."
    ) as refused:
        check(config)
    advised = int(re.search(r"Try (\d+)", str(refused.value))[1])
    batch = replace(config.batch, num_generations=advised)
    check_algorithm(replace(config, batch=batch), build("spg", config.hyper_parameters))
