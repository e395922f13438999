"""Every algorithm trains a model of every family: blocks of attention, shifted logits, mixtures of experts."""

import itertools

import pytest
import torch

from spg_trainer import cli
from spg_trainer.algorithms import build, get
from spg_trainer.errors import ConfigError, ModelError, in_flags, written
from spg_trainer.likelihood.path_masks import PositionMasking
from spg_trainer.models import load_model, save_model
from spg_trainer.models.forward import base_model
from spg_trainer.training.loop import train_step
from spg_trainer.training.plan import settle
from tests.common.family_cases import UNTRAINED, family_folder, untrained
from tests.common.likelihood_cases import relative
from tests.common.marks import slow_if
from tests.common.process_cases import DIVIDED, FAMILIES, family_config, is_default, one_step
from tests.common.trainer_cases import LORA, PUBLISHED, small_config, start
from tests.common.two_processes import left_by

ALGORITHMS = (*PUBLISHED, "raft")
MIXTURES = ("llada2", "lladamoe", "sdar_moe")
ALL = {"lora_r": 0, "ref_copy": True}
"""All weights are trained; a copy of them is the reference, for those algorithms that ask for one."""


def config_of(family, output, algorithm, **changes):
    """One step of two updates, of as many as the algorithm may have, in blocks of 5 tokens, two a pass."""
    one_by_one = {"block_length": 1, "diffusion_steps": 10}
    own = one_by_one if get(algorithm).left_to_right else {"num_iterations": 2}
    settings = {"algorithm": algorithm, "algorithm_args": {}, "max_steps": 1, **own, **changes}
    needs = build(algorithm).needs
    if "reference" not in needs:
        settings["ref_copy"] = False
    if "fallback" in build(algorithm).records:
        settings |= {"unmasking": "threshold", "fallback": "leftmost"}
    return small_config(output, model=untrained(family), **settings)


def family_pattern(config):
    """Who attends to whom in the model of a run."""
    return base_model(load_model(config.model.model, device="cpu").model).pattern


def refused(config):
    """How a model that attends in blocks is refused, if it is: first blocks may be shorter."""
    pattern = family_pattern(config)
    if pattern.is_full:
        return ""
    sees_later_blocks = isinstance(build(config.algorithm).make_masking(), PositionMasking)
    return "attends in blocks" if sees_later_blocks else ""


def assert_trained(config):
    """A step whose first update moves nothing, so that its second one has ratios of 1, and whose second one moves."""
    if refusal := refused(config):
        with pytest.raises(ConfigError, match=refusal):
            start(config, quiet=True)
        return None
    run = start(config, quiet=True)
    before = {name: value.clone() for name, value in run.policy.model.state_dict().items()}
    named = run.policy.model.named_parameters(remove_duplicate=False)  # a tied head has two names
    trained = {name for name, p in named if p.requires_grad}
    step, updates = run.optimizer.step, itertools.count(config.batch.num_iterations)
    run.optimizer.step = lambda: None if next(updates) == 2 else step()
    train_step(run)
    run.folder.release()
    (row,) = run.state.history
    assert all(value == value and abs(value) < float("inf") for value in row.values())
    assert row["grad_norm"] > 0
    assert row.get("ratio/mean", 1.0) == pytest.approx(1, abs=1e-6)
    after = run.policy.model.state_dict()
    moved = {name for name, value in before.items() if not torch.equal(after[name], value)}
    assert moved and moved <= trained
    return moved


@pytest.mark.parametrize("algorithm", slow_if(ALGORITHMS, lambda name: name not in ALGORITHMS[:9:2]))
def test_an_algorithm_trains_a_model_of_another_kind(tmp_path, algorithm):
    """Kinds, families of a kind, adapters and all weights take turns; with --slow each goes with each."""
    turn, kind = divmod(ALGORITHMS.index(algorithm), 3)
    names = (("sdar", "fastdllm_v2"), ("dream", "fastdllm_v2"), MIXTURES)[kind]  # blocks, shift, mixtures
    weights = ALL if turn // len(names) % 2 else LORA
    assert_trained(config_of(names[turn % len(names)], tmp_path / "run", algorithm, **weights))


@pytest.mark.parametrize("algorithm", ["spg", "justgrpo", "forkgrpo"])
def test_an_algorithm_trains_all_weights_in_a_causal_context(tmp_path, algorithm):
    assert_trained(config_of("nemotron_labs", tmp_path / "run", algorithm, **ALL))


@pytest.mark.slow
@pytest.mark.parametrize("weights", [ALL, LORA], ids=["all weights", "adapters"])
@pytest.mark.parametrize("family", UNTRAINED)
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_an_algorithm_trains_a_model_of_each_family(tmp_path, algorithm, family, weights):
    assert_trained(config_of(family, tmp_path / "run", algorithm, **weights))


@pytest.mark.parametrize(
    "family, divided",
    slow_if(itertools.product(FAMILIES, ("none", *DIVIDED)), lambda *case: not is_default(*case)),
)
def test_two_processes_give_the_gradient_of_one(family, divided, tmp_path):
    """A mixture's router is computed in float32 also in a float64 model, in other batches then."""
    expected, metrics = one_step(family_config(tmp_path / "one", family))
    assert float(expected.norm()) > 1e-3 and metrics["frac_reward_zero_std"] < 1
    limit = 1e-10 if family == "sdar" else 1e-5
    for rank in (0, 1):
        found, metrics_of_process = left_by(rank)[f"{family}-{divided}"]
        assert found.shape == expected.shape and relative(found, expected) < limit
        assert metrics_of_process == pytest.approx(metrics, rel=10 * limit, abs=limit)


# What a model's attention cannot have.

SDAR, DREAM = "JetLM/SDAR-8B-Chat", "Dream-org/Dream-v0-Instruct-7B"


@pytest.mark.parametrize(
    "model, flags, value, remedy",
    [
        (SDAR, ("--block-length", "8"), "--block-length 8", "--block-length 4"),
        (SDAR, ("--cache", "dual"), "--cache dual", "--cache blocks"),
        (DREAM, ("--cache", "blocks"), "--cache blocks", "--cache none"),
        (DREAM, ("--attention-block", "32", "--cache", "prefix"), "--cache prefix", "--cache blocks"),
        ("GSAI-ML/LLaDA-8B-Instruct", ("--attention-block", "8"), "--block-length 32", "--block-length 8"),
        ("tiny", ("--cache", "blocks"), "--cache blocks", "--cache none"),
    ],
)
def test_a_dry_run_refuses_what_the_attention_of_a_known_model_cannot_have(
    capsys, model, flags, value, remedy
):
    assert cli.main(["--env", "countdown", "--model", model, *flags, "--dry-run"]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and value in said and remedy in said.partition(value)[2]


def test_a_dry_run_asks_who_attends_to_whom_as_training_does(published, tmp_path, capsys):
    """Of a folder, and of a name on the Hub whose config.json does not say it either."""
    words = ["--env", "countdown", "--algorithm", "slim_rl", "--dry-run", "--model"]
    short = "--env-args prompt_style=plain --max-completion-length 64 --diffusion-steps 32".split()
    folder = str(family_folder(published, "qwen3_diffusion", tmp_path / "hub"))
    with pytest.raises(ModelError) as asked:
        load_model(folder)
    assert cli.main([*words, folder]) == 2
    assert in_flags(written(asked.value)) in capsys.readouterr().err
    for model in (folder, "dllm-collection/Qwen3-0.6B-diffusion-mdlm-v0.1", "JetLM/SDAR-30B-A3B-Chat"):
        assert cli.main([*words, model]) == 2
        said = capsys.readouterr().err
        assert said.count("\n") == 1 and f"model {model!r}" in said and "--attention-block N" in said
        assert cli.main([*words, model, "--attention-block", "4", "--block-length", "4", *short]) == 0
        assert "weights: " in capsys.readouterr().out


@pytest.mark.parametrize(
    "family, changes, remedy",
    [
        ("sdar", {"block_length": 2, "diffusion_steps": 10}, "--block-length 1 or --block-length 5"),
        ("sdar", {"cache": "window"}, "--cache blocks"),
        ("dream", {"cache": "blocks"}, "--cache none"),
        ("dream", {"attention_block": 5, "cache": "dual"}, "--cache blocks"),
    ],
)
def test_a_training_refuses_it_before_anything_is_decoded(tmp_path, family, changes, remedy):
    config = small_config(tmp_path / "run", model=untrained(family), **changes)
    with pytest.raises(ConfigError, match=remedy):
        settle(config)
    with pytest.raises(ConfigError, match=remedy):
        start(config, quiet=True)
    assert not (tmp_path / "run").exists()


def test_an_adapter_is_checked_by_what_was_answered_for_it(tmp_path):
    """Its base says nothing of blocks where a flag has said it, and the answer lies beside the adapter."""
    save_model(
        load_model(str(untrained("dream")), lora_r=2, attention_block=5, device="cpu"), tmp_path / "adapter"
    )
    config = small_config(tmp_path / "run", model=tmp_path / "adapter", cache="dual")
    with pytest.raises(ConfigError, match="--cache blocks"):
        settle(config)


@pytest.mark.parametrize("kind, length", [("block", 8), ("shift", 20)])
def test_an_embedded_model_of_another_kind_is_decoded_as_it_was_made(kind, length, capsys):
    """Its lengths are its own, not the recipe's: blocks of 20 would not be those of its attention."""
    assert cli.main(["--env", "sudoku", "--model", f"tiny:{kind}", "--dry-run"]) == 0
    assert f"block_length: {length}  # tiny:{kind}/environment.json" in capsys.readouterr().out
