"""A small DiffusionGemma is taught, trained by RL, evaluated and resumed by the commands that the page has."""

import json

import pytest
import torch

from spg_trainer import Config, defaults, train
from spg_trainer.checking.checks import check_algorithm
from spg_trainer.errors import ConfigError
from spg_trainer.likelihood.random_masks import MASKINGS
from spg_trainer.models import load_model
from spg_trainer.settings.resolve import resolve
from spg_trainer.settings.weights import Canvases, canvases_of
from spg_trainer.training.plan import settle
from tests.common.canvases import FOLDER
from tests.common.trainer_cases import ENV

SIZES = {"hidden_size": 16, "num_layers": 2, "num_heads": 2, "intermediate_size": 32}
SMALL = {
    "model": "new:gemma",
    "env": "sudoku",
    **SIZES,
    "max_steps": 2,
    "prompts_per_step": 2,
    "eval_problems": 2,
    "eval_steps": 0,
    "device": "cpu",
    "report": False,
}


def config_of(folder, **more):
    return defaults(Config, **{**SMALL, "output_dir": str(folder), **more})


def test_a_new_model_takes_its_own_decoding_and_masks():
    config = defaults(Config, env="sudoku", model="new:gemma")
    rollout = config.rollout
    assert (rollout.unmasking, rollout.block_length, rollout.max_completion_length) == (
        "entropy_bound",
        8,
        24,
    )
    assert rollout.diffusion_steps == 24  # 8 in each canvas
    assert config.algorithm == "spg" and config.algorithm_args["negatives"] == "elbo"
    assert config.algorithm_args["masking"] == "flat"
    taught = defaults(Config, env="sudoku", model="new:gemma", source="demonstrations")
    assert (
        taught.algorithm_args["masking"] == "flat_canvas" and taught.algorithm_args["context_weight"] == 1.0
    )
    assert taught.rollout.unmasking == "entropy_bound"
    origin = resolve(Config, env="sudoku", model="new:gemma").origins["rollout.block_length"]
    assert origin == "new:gemma: canvases"
    assert canvases_of(str(FOLDER)) == Canvases(8, 6) and canvases_of("tiny") is None


@pytest.mark.parametrize(
    "algorithm",
    ["espo", *(pytest.param(name, marks=pytest.mark.slow) for name in ("tracerl", "d2_stepmerge"))],
)
def test_a_run_is_the_same_if_it_is_resumed(tmp_path, algorithm):
    args = {"algorithm": algorithm, "num_generations": 2, "num_iterations": 2, "save_steps": 1, "force": True}
    args |= {
        "env": ENV,
        "max_completion_length": 16,
        "diffusion_steps": 6,
        "block_length": 8,
        "eval_problems": 0,
    }
    train(config_of(tmp_path / "whole", **args), quiet=True)
    train(config_of(tmp_path / "parts", **args, max_steps=1), quiet=True)
    train(defaults(Config, resume=str(tmp_path / "parts"), max_steps=2), quiet=True)
    whole, parts = (load_model(str(tmp_path / name)).model.state_dict() for name in ("whole", "parts"))
    assert all((whole[name] == parts[name]).all() for name in whole)
    first, _ = map(json.loads, (tmp_path / "whole" / "metrics.jsonl").read_text().splitlines())
    assert first["grad_norm"] > 0
    name, other = ("surrogate/flat", "bound/elbo") if algorithm == "espo" else ("trace/logps", "logps")
    assert first[name] < 0 and other not in first


@pytest.mark.parametrize(
    ("algorithm", "args", "said"),
    [
        ("espo", {"masking": "flat"}, "flat: a surrogate"),
        ("raft", {"masking": "elbo_eps", "num_masks": 4}, "elbo_eps: a lower bound"),
        ("tracerl", {"masking": "trace", "steps_per_segment": 1}, "trace: the log-probability of what"),
        ("d2_stepmerge", {"masking": "trace"}, "trace: the log-probability of what"),
    ],
)
def test_the_check_of_an_algorithm_says_what_stands_for_a_bound(algorithm, args, said):
    findings = {finding.name: finding for finding in check_algorithm(algorithm, args)}
    assert [finding for finding in findings.values() if not finding.ok] == []
    assert findings["target"].figure.startswith(said)


def test_metrics_name_what_a_masking_measures():
    assert {name: masking.figures for name, masking in MASKINGS.items() if masking.figures} == {
        "flat": {"bound/elbo": "surrogate/flat"},
        "flat_canvas": {"bound/elbo": "surrogate/flat"},
        "elbo_eps": {"bound/elbo": "bound/elbo_eps"},
    }


def test_it_is_taught_by_demonstrations_and_trained_further(tmp_path):
    train(config_of(tmp_path / "taught", source="demonstrations", num_generations=1), quiet=True)
    losses = [json.loads(line) for line in (tmp_path / "taught" / "metrics.jsonl").read_text().splitlines()]
    assert all(record["loss"] > 0 for record in losses if "loss" in record)
    further = config_of(tmp_path / "further", model=str(tmp_path / "taught"), num_generations=2)
    assert further.rollout.unmasking == "entropy_bound"
    train(further, quiet=True)


def test_settings_that_are_not_there_for_the_model_are_refused():
    for more, sentence in (
        (
            {"sequence_parallel": 2, "processes": 2, "dry_run": True},
            r"--sequence-parallel.*: a diffusion_gemma has an encoder",
        ),
        ({"compile": True}, r"--compile.*: a diffusion_gemma has an encoder and a decoder"),
        (
            {"lora_r": 4, "lora_experts": True, "model": str(FOLDER)},
            r"--lora-experts.*: a diffusion_gemma has an encoder and a decoder",
        ),
        (
            {"algorithm": "cj_grpo"},
            r"--algorithm cj_grpo: its loss is about tokens that are shown as \[MASK\]",
        ),
        ({"algorithm_args": {"masking": "random"}}, r"masking=random: this model has no \[MASK\]"),
        ({"algorithm_args": {"negatives": "mix"}}, "negatives=elbo"),
        ({"max_completion_length": 20}, "--block-length 8 does not divide --max-completion-length 20"),
        ({"train_router": True, "lora_r": 4, "model": str(FOLDER)}, "--train-router: adapters are trained"),
        ({"train_router": True, "model": "new"}, "--train-router: this model has no router. Leave it out"),
    ):
        with pytest.raises(ConfigError, match=sentence):
            settings = {**SMALL, **more}
            if settings["model"] != "new:gemma":
                settings = {name: value for name, value in settings.items() if name not in SIZES}
            settle(defaults(Config, **settings))
    divided = {"shard": "layer", "expert_parallel": 2, "processes": 2, "dry_run": True}
    assert settle(defaults(Config, **SMALL, **divided)).num_processes == 2


@pytest.mark.slow
def test_an_adapter_is_taught_and_goes_on_as_it_was(tmp_path):
    args = {
        "model": str(FOLDER),
        "lora_r": 2,
        "env_args": {"prompt_style": "plain"},
        "source": "demonstrations",
    }
    args |= {"env": "sudoku", "max_steps": 1, "prompts_per_step": 2, "eval_problems": 2, "eval_steps": 0}
    args |= {
        "device": "cpu",
        "max_completion_length": 40,
        "save_steps": 1,
        "output_dir": str(tmp_path / "run"),
    }
    train(defaults(Config, **args), quiet=True)
    policy = load_model(str(tmp_path / "run"))
    changed = [name for name, weight in policy.model.named_parameters() if "lora_B" in name and weight.any()]
    assert len(changed) == 33
    train(defaults(Config, resume=str(tmp_path / "run"), max_steps=2), quiet=True)
    again = load_model(str(tmp_path / "run")).model.state_dict()
    assert any(not torch.equal(again[name], value) for name, value in policy.model.state_dict().items())
