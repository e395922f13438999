"""Every algorithm starts, trains and is the same in two processes, with the presets it ships with."""

import functools
import inspect
import re
from dataclasses import replace
from pathlib import Path

import pytest

from spg_trainer.algorithms import ALGORITHMS, CoupledAlgorithm, get
from spg_trainer.cli import main
from spg_trainer.models import load_model, save_model
from spg_trainer.settings.configs import Config
from spg_trainer.settings.resolve import defaults
from spg_trainer.training.loop import train, train_step
from tests.common.likelihood_cases import relative
from tests.common.marks import few_algorithms, slow_if
from tests.common.process_cases import ALGORITHMS_OF_TWO, algorithm_config, half_dull, one_step
from tests.common.trainer_cases import PROBLEMS, PUBLISHED, change, rows, session_folder, start, steps_of
from tests.common.two_processes import left_by

TASKS = ["sudoku", "countdown", "gsm8k", "math500"]


def small(env: str, name: str, output: Path, model: str = "tiny", **changes) -> Config:
    """Two steps of two updates with the shipped settings of an algorithm, at the lengths that the tiny model knows."""
    config = defaults(Config, env=env, model=model, algorithm=name)
    tiny = defaults(Config, env=env, model="tiny", algorithm=name)
    config = replace(config, env_args=tiny.env_args, rollout=tiny.rollout)
    sizes = {"prompts_per_step": 12, "num_generations": 6, "num_iterations": 2, "max_steps": 2}
    sizes["num_minibatches"] = min(2, config.batch.num_minibatches)
    if get(name).left_to_right:  # every token is a mask
        sizes |= {"prompts_per_step": 8, "num_iterations": 1}
    quick = {"eval_problems": 2, "eval_steps": 0, "report": False, "device": "cpu"}
    return change(config, output_dir=str(output), **{**sizes, **quick, **changes})


def assert_trained(folder: Path) -> None:
    assert steps_of(folder) == [1, 2]
    found = rows(folder / "metrics.jsonl")
    assert any(row["grad_norm"] > 0 for row in found)
    assert all(value is not None and value == value for row in found for value in row.values())


ROLLOUTS = ("spg", "vrpo", "justgrpo", "mapg")
"""Algorithms that ask for different rollouts: any, pairs, single tokens, drawn positions."""


@pytest.mark.parametrize("algorithm", slow_if(PUBLISHED, lambda name: name not in ROLLOUTS))
def test_it_trains_from_a_tiny_model(algorithm, tmp_path):
    one_by_one = get(algorithm).left_to_right
    # Of the first twenty problems few are solved by one of four completions; this seed has such a one in each step.
    fewer = {"seed": 8, "prompts_per_step": 3, "num_generations": 4}
    fewer |= {} if one_by_one else {"diffusion_steps": 5}
    train(small("sudoku", algorithm, tmp_path / "run", **fewer), quiet=True)
    assert_trained(tmp_path / "run")


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    """Task -> a folder of the Hub's shape, under LLaDA's own tensor names, that knows the task."""
    made: dict[str, str] = {}

    def folder(env: str) -> str:
        if env not in made:
            path = tmp_path_factory.mktemp("hub") / env
            save_model(load_model("tiny", env=env, device="cpu"), path)
            (path / "environment.json").unlink()
            made[env] = str(path)
        return made[env]

    return folder


def adapted(env: str, algorithm: str, output: Path, hub) -> Config:
    """Adapters with the settings for LLaDA, which mask in blocks: two of them, unless tokens are written one by one."""
    config = small(env, algorithm, output, hub(env), lora_r=4, lora_alpha=8, dtype="float32", ref_copy=False)
    length = config.rollout.max_completion_length
    return change(config, block_length=1 if get(algorithm).left_to_right else length // 2)


@pytest.mark.slow
@pytest.mark.parametrize("env", TASKS)
@pytest.mark.parametrize("algorithm", sorted(ALGORITHMS))
def test_it_trains_on_every_task(algorithm, env, tmp_path, hub):
    for name, config in (
        ("tiny", small(env, algorithm, tmp_path / "tiny")),
        ("lora", adapted(env, algorithm, tmp_path / "lora", hub)),
    ):
        train(config, quiet=True)
        assert_trained(tmp_path / name)


CUT_OTHERWISE = ("spg", "vrpo", "justgrpo", "rspo")
"""Completions, pairs, tokens one by one, and a loss of all: what a step cuts into micro-batches. How the others' losses
divide is in `test_formulas.py`."""


@functools.cache
def whole_step(algorithm):
    """The gradient and the metrics of a step in one process and one micro-batch."""
    return one_step(algorithm_config(session_folder("whole-") / "run", algorithm, per_device_batch_size=999))


@pytest.mark.parametrize("algorithm", slow_if(sorted(ALGORITHMS), lambda name: name not in ALGORITHMS_OF_TWO))
def test_two_processes_give_the_gradient_of_one(algorithm):
    """Two updates with old and reference logps where it asks for them; completions and prompts of unequal lengths."""
    expected, metrics_of_one = whole_step(algorithm)
    assert float(expected.norm()) > 1e-6
    assert abs(metrics_of_one.get("ratio/mean", 0) - 1) > 1e-3 and metrics_of_one.get("kl", 1) > 1e-3
    for rank in (0, 1):
        found, metrics = left_by(rank)[algorithm]
        assert relative(found, expected) < 1e-10
        for name, value in metrics_of_one.items():
            assert metrics[name] == pytest.approx(value, rel=1e-9, abs=1e-10), name


@pytest.mark.parametrize("algorithm", slow_if(sorted(ALGORITHMS), lambda name: name not in CUT_OTHERWISE))
def test_micro_batches_give_the_gradient_of_the_whole(algorithm, tmp_path):
    found, _ = one_step(algorithm_config(tmp_path / "parts", algorithm, per_device_batch_size=3))
    assert relative(found, whole_step(algorithm)[0]) < 1e-10


@pytest.mark.parametrize("algorithm", few_algorithms(sorted(ALGORITHMS)))
def test_equal_rewards_have_no_gradient(algorithm, tmp_path):
    """Of no problem, also where a penalty has all completions scored: the model still is its reference."""
    every = ",".join(map(str, range(PROBLEMS)))
    run = start(algorithm_config(tmp_path, algorithm, env_args={"dull": every}, num_iterations=1), quiet=True)
    train_step(run)
    run.folder.release()
    assert run.state.history[-1]["frac_reward_zero_std"] == 1 and run.state.history[-1]["grad_norm"] == 0


@pytest.mark.parametrize("algorithm", ["diffu_grpo", "espo"])
def test_completions_scored_for_the_penalty_alone_do_not_dilute_the_clip_fraction(algorithm, tmp_path):
    """Half of the groups have no advantage; a negligible penalty has them scored, none leaves them out."""
    found = {}
    for beta in (0.0, 1e-9):
        chosen = {"algorithm_args": {"beta": beta, "epsilon": 0.01}, "env_args": {"dull": half_dull()}}
        _, found[beta] = one_step(algorithm_config(tmp_path / str(beta), algorithm, **chosen))
    assert found[0.0]["ratio/clip_fraction"] > 0.01
    assert found[1e-9]["ratio/clip_fraction"] == pytest.approx(found[0.0]["ratio/clip_fraction"], rel=1e-4)


@pytest.mark.parametrize("name", ["Mine", "SelfNormalised"])
def test_the_examples_of_an_own_algorithm_train(tmp_path, monkeypatch, name):
    """What `algorithms new` writes, and the example in the docstring of `CoupledAlgorithm`."""
    monkeypatch.chdir(tmp_path)
    if name == "Mine":
        assert main(["algorithms", "new", "mine.py"]) == 0
    else:
        (example,) = re.findall(r"```python\n(.*?)```", inspect.getdoc(CoupledAlgorithm), flags=re.S)
        (tmp_path / "mine.py").write_text(example)
    own = {"algorithm": f"./mine.py:{name}", "algorithm_args": {}}
    train(small("sudoku", "spg", tmp_path / "run", **own, diffusion_steps=5, prompts_per_step=6), quiet=True)
    assert_trained(tmp_path / "run")
