"""The gradient of one step, and what two gloo processes make of the same settings."""

import itertools
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any
from unittest.mock import patch

import safetensors
import torch
from torch.nn.modules.module import register_module_forward_pre_hook

from spg_trainer import distributed
from spg_trainer.algorithms.registry import ALGORITHMS, build, get
from spg_trainer.distributed import is_part, whole
from spg_trainer.errors import TrainingError
from spg_trainer.evaluation.command import run_eval
from spg_trainer.evaluation.evaluate import evaluate
from spg_trainer.models import load_model, weight_files
from spg_trainer.models.body import KeepingLayer
from spg_trainer.models.forward import base_model
from spg_trainer.rollout.collect import gather_groups
from spg_trainer.rollout.problems import choose_problems
from spg_trainer.settings.configs import Config, EvalCommand
from spg_trainer.settings.model import LoadConfig, ModelConfig
from spg_trainer.training import supervised
from spg_trainer.training.loop import train, train_step
from spg_trainer.training.optimize import sum_gradients
from tests.common.family_cases import untrained
from tests.common.marks import REPRESENTATIVES
from tests.common.pretend_cuda import pretend_cuda
from tests.common.sft_cases import SMALL, before_step, sft
from tests.common.trainer_cases import (
    ENV,
    EVALUATION,
    LORA,
    PROBE,
    PROBLEMS,
    REFERENCE_PROBE,
    SELF_NORMALISED,
    Letters,
    Probe,
    change,
    child_environment,
    small_config,
    start,
    tiny_folder,
)


def run_processes(module: str, *arguments: str, count: int = 2, timeout: float = 240) -> list[str]:
    """What each process said when torchrun runs `python -m module` in `count` of them; RuntimeError if one fails."""
    with tempfile.TemporaryDirectory() as logs, tempfile.TemporaryFile("w+") as log:
        launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
        options = ["--nproc-per-node", str(count), "--log-dir", logs, "--redirects", "3", "-m", module]
        command = [*launcher, *options, *arguments]
        started = subprocess.Popen(command, env=child_environment(), stdout=log, stderr=log)
        try:
            code = started.wait(timeout)
        except subprocess.TimeoutExpired:
            code = "none, they were still running"
        finally:
            started.terminate()  # it ends its processes, in half a minute those that wait for one another
            started.wait()
        kinds = ("stdout", "stderr")
        files = [[*Path(logs).glob(f"*/attempt_0/{r}/{kind}.log")] for r in range(count) for kind in kinds]
        texts = ["".join(file.read_text() for file in found) for found in files]
        log.seek(0)
        launcher_said = log.read()
    said = [texts[2 * r] + texts[2 * r + 1] for r in range(count)]
    if code:
        raise RuntimeError(f"exit code of torchrun: {code}\n" + "\n---\n".join([*said, launcher_said]))
    return said


MOVED = 1.0
"""Length of a step of the weights."""


def one_step(config: Config) -> tuple[torch.Tensor, dict[str, Any]]:
    """The whole gradients that the optimizer would be given in the first step, and the step's metrics.

    With a large max_grad_norm they are not clipped. After each the weights take a step of `MOVED` along it, so that a
    second update has ratios other than 1, and fresh adapters another model than their reference.
    """
    run = start(config, quiet=True)
    found: list[torch.Tensor] = []

    def move() -> None:
        found.append(torch.cat([whole(p.grad).flatten() for p in run.parameters]))
        with torch.no_grad():
            for p in run.parameters:
                p.sub_(p.grad, alpha=MOVED / float(found[-1].norm()))

    run.optimizer.step = move
    (train_step if config.samples else supervised.train_step)(run)
    run.folder.release()
    return torch.cat(found), run.state.history[-1]


ALGORITHMS_OF_TWO = tuple(name for name in REPRESENTATIVES if name not in ("spg", "justgrpo_repro"))
"""What two processes do by default: the first is in `KINDS`, the second shares out its tokens as justgrpo does."""


KINDS = (("float64", "tokens"), ("float64", "completions"), ("float64", "length"), ("float32", "tokens"))
"""Type of the weights, and what SPG's loss is divided by."""


def half_dull() -> str:
    """The second half of the first step's problems."""
    return ",".join(str(index) for index in choose_problems(0, 0, 4, PROBLEMS)[2:])


def dull_for_the_second() -> str:
    """Those of the first step's problems that the second of two processes has: neither the longest nor the shortest."""
    env = Letters()
    index = sorted(choose_problems(0, 0, 4, PROBLEMS), key=lambda i: -len(env.problem(int(i)).prompt))
    return f"{index[1]},{index[2]}"


def dynamic_config(output: Path, **changes: Any) -> Config:
    """Dynamic sampling where three of four problems pay nothing, so that a batch of four has about one that teaches."""
    size = 40
    dull = {"dull": ",".join(str(i) for i in range(size) if i % 4), "size": size}
    settings = {"env_args": dull, "max_rollout_batches": 10, "eval_steps": 0, "max_steps": 2}
    return small_config(output, **{**settings, **changes})


def pools_config(output: Path, **changes: Any) -> Config:
    """Eight problems, half of which pay nothing, four a step: soon these are drawn less often."""
    dull = {"dull": ",".join(str(i) for i in range(PROBLEMS) if i % 2)}
    settings = {"env_args": dull, "pools": True, "eval_steps": 0, "max_steps": 5, "save_steps": 1}
    return small_config(output, **{**settings, "all_wrong_weight": 0.1, **changes})


def pools_steps(output: Path) -> list[Any]:
    """The problems of four steps, and what is known of each then; the weights stay as they are."""
    run, drawn = start(pools_config(output / "pools"), quiet=True), []
    for step in range(4):
        scored = run.source.collect(step)
        problems, correct = gather_groups(scored, scored.problem.numpy(), scored.correct)
        drawn.append(sorted(problems[:, 0].tolist()))
        run.source.pools.note(problems[:, 0], correct)
    run.folder.release()
    return [*drawn, sorted(run.source.pools.streaks.items())]


PROBE_CONFIG = {
    "algorithm": PROBE,
    "algorithm_args": {},
    "num_iterations": 2,
    "env_args": {"dull": dull_for_the_second()},
}
"""Two updates with old logps, in which one process has nothing to do."""


def gradient_config(
    output: Path, dtype: str, normalizer: str, *, model: Path | None = None, **changes: Any
) -> Config:
    """A step whose second half changes no weights, with lengths and prompts that differ, unclipped."""
    config = small_config(output, model=model, dtype=dtype, max_grad_norm=1e9, env_args={"dull": half_dull()})
    arguments = {**config.algorithm_args, "normalizer": normalizer}
    return change(config, **{"algorithm_args": arguments, **changes})


def algorithm_config(output: Path, algorithm: str, **changes: Any) -> Config:
    """A step of an algorithm with its own defaults and a reference, for the small task: two updates if it may."""
    one_by_one = (
        {"block_length": 1, "diffusion_steps": 10} if get(algorithm).left_to_right else {"num_iterations": 2}
    )
    settings = {"algorithm": algorithm, "algorithm_args": {}, "env_args": {}, **LORA, **one_by_one}
    if "fallback" in build(algorithm).records:
        settings |= {"unmasking": "threshold", "fallback": "leftmost"}
    config = gradient_config(output, "float64", "", algorithm_args={})
    return change(config, **{**settings, **changes})


def loop_config(output: Path, **changes: Any) -> Config:
    """A whole run in float64 that two processes can share."""
    settings = {"dtype": "float64", "num_iterations": 2, "num_minibatches": 2, "max_steps": 2}
    return small_config(output, **settings, eval_steps=1, **changes)


REFERENCED: dict[str, Any] = {
    "algorithm": REFERENCE_PROBE,
    "algorithm_args": {},
    "env_args": {},
    "num_iterations": 2,
}
SHARDED: dict[str, dict[str, Any]] = {
    "all weights": {},
    "recomputed": {"gradient_checkpointing": True, "per_device_batch_size": 1},
    "adapters": LORA,
    "a reference": {**REFERENCED, "ref_copy": True},
    "adapters and a reference": {**REFERENCED, **LORA},
}
"""Steps of a model divided among two processes, whose second one has no signal without a reference."""


DIVIDED = ("phase", "layer")
"""How weights are divided: gathered for a phase, or in each pass."""
FAMILIES = ("sdar", "llada2")
"""Blocks of attention, and a mixture of experts with them."""


def is_default(name: str, divided: str) -> bool:
    """Whether a case runs without --slow: by default each way to divide and each case comes once."""
    of_layers = ("recomputed", "a reference", "adapters and a reference", "sdar")
    return divided == ("layer" if name in of_layers else "phase")


ONLY_SLOW = ("experts", "full attention", "a loss of all completions", "experts, by phase")
"""Steps of divided experts and columns whose values others have, too."""


def steps_to_run(names: Iterable[str]) -> list[str]:
    """Those of the steps that the two processes do in this session of tests."""
    return [name for name in names if os.environ.get("SPG_TEST_SLOW") or name not in ONLY_SLOW]


def cases_to_run(names: Iterable[str], ways: Iterable[str]) -> list[tuple[str, str]]:
    """The (case, way to divide) that the two processes do in this session of tests."""
    all_cases = bool(os.environ.get("SPG_TEST_SLOW"))
    return [case for case in itertools.product(names, ways) if all_cases or is_default(*case)]


def family_config(output: Path, family: str, model: Path | None = None, **changes: Any) -> Config:
    """A step of two updates of all weights of a family's small model; of SDAR's with copies that share sequences."""
    by_path = {
        "algorithm": "d2_stepmerge",
        "algorithm_args": {"num_masks": 4, "p_mask_prompt": 0.0, "beta": 0.0},
    }
    own = by_path if family == "sdar" else {}
    config = gradient_config(output, "float64", "tokens", model=model or untrained(family), num_iterations=2)
    return change(config, **{**own, **changes})


EXPERTS: dict[str, dict[str, Any]] = {"experts": {}, "experts and adapters": LORA}
"""Steps of a mixture of which each process has some whole experts."""


def experts_config(output: Path, experts_of: int = 2, **changes: Any) -> Config:
    """A whole run of a mixture whose experts so many processes share; 1 = one process has it all."""
    divided = {"shard": "layer", "expert_parallel": experts_of} if experts_of > 1 else {}
    return loop_config(output, model=untrained("llada2"), save_steps=1, **divided, **changes)


def resumed_experts(output: Path) -> tuple[set[float], set[float], set[int]]:
    """Of a run that this process resumes: the share that it has of each tensor of experts, the share of each other one,
    and the numbers of the experts that it has read from files.
    """
    read: list[str] = []
    original = safetensors.safe_open

    class Recorded:
        """A file whose tensors are noted when they are read."""

        def __init__(self, *args: Any, **options: Any) -> None:
            self.file = original(*args, **options)

        def __enter__(self) -> "Recorded":
            self.file.__enter__()
            return self

        def __exit__(self, *error: Any) -> None:
            self.file.__exit__(*error)

        def get_tensor(self, name: str) -> torch.Tensor:
            read.append(name)
            return self.file.get_tensor(name)

    with patch.object(safetensors, "safe_open", Recorded):
        run = start(experts_config(output, resume="auto"), quiet=True)
    run.folder.release()
    shares: tuple[set[float], set[float]] = set(), set()
    for name, p in run.policy.model.named_parameters():
        for value in (p, *(v for v in run.optimizer.state[p].values() if v.ndim)):
            shares[".experts." not in name].add(own(value).numel() / value.numel())
    return *shares, {int(found[1]) for name in read if (found := re.search(r"\.experts\.(\d+)\.", name))}


def half_config(output: Path, shard: str = "phase") -> Config:
    """Steps in bfloat16 on a divided model, too short for bfloat16 to hold."""
    return small_config(output, dtype="bfloat16", shard=shard, max_steps=8, learning_rate=1e-5)


def whole_inside_a_layer(output: Path) -> list[tuple[bool, ...]]:
    """Whether a process has the whole embedding, and the whole head, when a layer begins, also in a backward pass."""
    run, seen = start(gradient_config(output, "float64", "tokens", shard="layer"), quiet=True), set()
    model = base_model(run.policy.model)
    ends = model.get_input_embeddings(), model.get_output_embeddings()
    layers = model.get_submodule("model.layers")

    def see(*_: object) -> None:
        seen.add(tuple(not is_part(end.weight) for end in ends))

    layers[0].register_forward_pre_hook(see)
    layers[-1].register_full_backward_pre_hook(see)
    train_step(run)
    run.folder.release()
    return sorted(seen)


SEQUENCE_PARALLEL: dict[str, dict[str, Any]] = {
    "full attention": {},
    "adapters": {**LORA, "num_iterations": 2},
    "a loss of all completions": {
        "algorithm": SELF_NORMALISED,
        "algorithm_args": {},
        "env_args": {},
        "num_iterations": 2,
    },
    "blocks, by layer": {"family": "sdar", "shard": "layer"},
    "experts, by phase": {"family": "llada2", "shard": "phase"},
}
"""Steps whose columns two processes share."""


def sequence_config(output: Path, name: str, **changes: Any) -> Config:
    """The settings of such a step."""
    case = dict(SEQUENCE_PARALLEL[name])
    family = case.pop("family", None)
    if family is None:
        config = gradient_config(output, "float64", "tokens")
    else:
        config = family_config(output, family, model=untrained(family, kv_heads=2))
    return change(config, **{**case, **changes})


def watched_step(config: Config) -> tuple[torch.Tensor, dict[str, Any], list[int]]:
    """What `one_step` returns, and how many columns of each copy the passes of the updates computed."""
    found: list[int] = []

    def see(module: torch.nn.Module, arguments: tuple[Any, ...]) -> None:
        if isinstance(module, KeepingLayer) and module.training:
            found.append(arguments[0].shape[1])

    handle = register_module_forward_pre_hook(see)
    try:
        return *one_step(config), found
    finally:
        handle.remove()


def without_a_pass(output: Path) -> bool:
    """Whether all weights have a gradient, of zeros, after an update in which no process has made a pass."""
    run = start(gradient_config(output, "float64", "tokens", shard="layer"), quiet=True)
    sum_gradients(run.policy.model)
    run.folder.release()
    return all(p.grad is not None and not own(p.grad).any() for p in run.parameters)


def own(value: Any) -> torch.Tensor:
    """What this process holds of a tensor."""
    return value.to_local() if hasattr(value, "to_local") else value


SFT: dict[str, dict[str, Any]] = {
    "sft": {},
    **{f"sft-{by}": {"shard": by} for by in DIVIDED},
}
"""Trainings on demonstrations by two processes, stopped and resumed."""


def sft_command(output: Path, shard: str = "none", **changes: Any) -> Config:
    """A few updates in float64, of rows that two processes cannot share evenly."""
    model = ModelConfig(str(tiny_folder()), dtype="float64", device="cpu", shard=shard)
    few = {"max_steps": 5, "prompts_per_step": 5, "eval_steps": 2, "save_steps": 2}
    return change(SMALL, output_dir=str(output), model=model, **few, **changes)


def stopped_sft(command: Config) -> None:
    """A training that ends in its fourth update, two after its last checkpoint."""

    def stop() -> None:
        raise TrainingError("stopped")

    with before_step(3, stop), suppress(TrainingError):
        sft(command)


def eval_command(shard: str = "none") -> EvalCommand:
    """Five problems, of which two processes have unequally many."""
    model = LoadConfig(model=str(tiny_folder()), dtype="float64", device="cpu", shard=shard)
    sampling = {"max_completion_length": (8,), "block_length": 4, "temperature": 1.0}
    return change(EvalCommand(env=ENV, num_problems=5, model=model), **sampling)


def failing(folder: Path, rank: int) -> str:
    """What this process says when the task of the second one fails in step 2, after one finished step."""
    count, original = itertools.count(-1), Letters.score  # -1: before anything is trained

    def broken(self: Letters, problem: Any, completion: str) -> Any:
        if rank == 1 and self.part == "train" and next(count) >= 8:
            raise ValueError("no such letter")
        return original(self, problem, completion)

    Letters.score = broken
    try:
        train(small_config(folder, save_steps=0), quiet=True)
    except TrainingError as error:
        return str(error)
    finally:
        Letters.score = original
    return ""


def pretended_config(output: Path, **changes: Any) -> Config:
    """A sharded run on a pretended GPU, decoding with a cache."""
    settings = {"shard": "phase", "device": "cuda", "cache": "dual", "save_steps": 1, "resume": "auto"}
    return change(loop_config(output), **{"num_iterations": 1, "eval_steps": 0, **settings, **changes})


def in_each_process(here: Path) -> None:
    """What one of two processes does; it leaves gradients, metrics, an evaluation and a run in the folder."""
    rank = int(os.environ["RANK"])
    found: dict[str, Any] = {}
    for dtype, normalizer in KINDS:
        name = f"{dtype}-{normalizer}"
        found[name] = one_step(gradient_config(here / name, dtype, normalizer))
    found["probe"] = one_step(gradient_config(here / "probe", "float64", "tokens", **PROBE_CONFIG))
    found["active"] = [len(shown["logps"]) for shown in Probe.seen]
    found["dynamic"] = one_step(dynamic_config(here / "dynamic", dtype="float64", max_grad_norm=1e9))
    found["pools"] = pools_steps(here)
    coupled = {"algorithm": SELF_NORMALISED, "algorithm_args": {}, "env_args": {}, "num_iterations": 2}
    found["coupled"] = one_step(gradient_config(here / "coupled", "float64", "tokens", **coupled))
    for algorithm in sorted(ALGORITHMS if os.environ.get("SPG_TEST_SLOW") else ALGORITHMS_OF_TWO):
        found[algorithm] = one_step(algorithm_config(here / algorithm, algorithm))
    for family, divided in cases_to_run(FAMILIES, ("none", *DIVIDED)):
        name = f"{family}-{divided}"
        found[name] = one_step(family_config(here / name, family, shard=divided))
    for name in steps_to_run(EXPERTS):
        found[name] = one_step(
            family_config(here / name, "llada2", shard="layer", expert_parallel=2, **EXPERTS[name])
        )
    if os.environ.get("SPG_TEST_SLOW"):
        train(experts_config(here / "experts run"), quiet=True)
        found["resumed experts"] = resumed_experts(here / "experts run")
    train(loop_config(here / "loop"), quiet=True)
    for name, by in cases_to_run(SHARDED, DIVIDED):
        config = gradient_config(here / f"{by}-{name}", "float64", "tokens", shard=by)
        found[f"{by}-{name}"] = one_step(change(config, **SHARDED[name]))
    found["layer-probe"] = one_step(
        gradient_config(here / "layer-probe", "float64", "tokens", shard="layer", **PROBE_CONFIG)
    )
    found["for others"] = distributed.lockstep.for_others
    for name in steps_to_run(SEQUENCE_PARALLEL):
        config = sequence_config(here / name, name, sequence_parallel=2)
        found[f"sequence {name}"] = watched_step(config)
    found["whole ends"] = whole_inside_a_layer(here / "whole ends")
    found["without a pass"] = without_a_pass(here / "without a pass")
    train(loop_config(here / "layers", shard="layer"), quiet=True)
    with patch.object(weight_files, "FILE_BYTES", 20_000):  # less than the embedding
        train(loop_config(here / "sharded", shard="phase", save_steps=1), quiet=True)
    run = start(loop_config(here / "sharded", shard="phase", save_steps=1, resume="auto"), quiet=True)
    run.folder.release()
    found["put back"] = [whole(p.detach()) for p in run.parameters]
    found["put back"] += [whole(v) for p in run.parameters for _, v in sorted(run.optimizer.state[p].items())]
    tensors = [
        *run.parameters,
        *(v for state in run.optimizer.state.values() for v in state.values() if v.ndim),
    ]
    found["share"] = sum(own(v).numel() for v in tensors) / sum(v.numel() for v in tensors)
    if os.environ.get("SPG_TEST_SLOW"):
        train(half_config(here / "half"), quiet=True)
    for name, changes in SFT.items():
        if name == "sft-phase" and not os.environ.get("SPG_TEST_SLOW"):
            continue
        stopped_sft(sft_command(here / name, **changes))
        sft(sft_command(here / name, **changes, resume="auto"))
    found["failure"] = failing(here / "failing", rank)
    run = start(small_config(here / "evaluate"), quiet=True)
    run.folder.release()
    policy = load_model(str(tiny_folder()), dtype="float64", device="cpu")
    options = {"num_generations": 2, "accelerator": run.accelerator}
    result = evaluate(policy, Letters("test", size=7), EVALUATION, **options)
    found["evaluation"] = {**result.summary(), "rows": result.rows}
    found |= {f"eval-{by}": run_eval(eval_command(by), quiet=True)[0].rows for by in DIVIDED}
    if os.environ.get("SPG_TEST_SLOW"):
        train(pretended_config(here / "cached", device="cpu"), quiet=True)
        with pretend_cuda() as waits:
            for steps in (1, 2):  # the second goes on from the first
                train(pretended_config(here / "pretended", max_steps=steps), quiet=True)
        found["waits"] = [tuple(wait) for wait in waits]
        with pretend_cuda():
            train(pretended_config(here / "pretended layers", shard="layer", max_steps=1), quiet=True)
    torch.save(found, here / f"rank-{rank}.pt")
