"""How often a model solves a task: the solved rate with its interval, on problems it was not trained on.

`evaluate` is one evaluation of an open model; `evaluate_lengths` is the `eval` command, one for each completion length.
"""

import json
from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from math import comb
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from spg_trainer.batch import Rollouts
from spg_trainer.config import Config, EvalCommand, Sampling, SftCommand, check_eval
from spg_trainer.console import Console
from spg_trainer.distributed import gather, raising_on_all
from spg_trainer.errors import ConfigError
from spg_trainer.files import CHOOSE_ANOTHER, check_writable
from spg_trainer.habits import habit_names
from spg_trainer.models import Policy, load_model
from spg_trainer.packages import envs, verifiers
from spg_trainer.rollouts import Failures, Scored, sample_and_score, sample_rows
from spg_trainer.run_folder import RunFolder
from spg_trainer.sampler import get_decoder
from spg_trainer.settings import (
    CONFIG,
    SFT,
    differences,
    model_environment,
    overlay,
    preset_sampling,
    read_yaml,
    task_preset,
)

if TYPE_CHECKING:
    from accelerate import Accelerator

    from envs import TextEnv

BATCH = 256
"""Completions that are written and scored at once."""


@dataclass(frozen=True)
class Evaluation:
    """The figures of one evaluation; `rows` holds every completion in the format of samples/."""

    correct: float
    """Solved rate over all completions, 0..1."""
    n: int
    """Completions judged."""
    low: float
    """Lower end of the Wilson 95% interval of `correct`; problems, not completions, are its sample size."""
    high: float
    """Upper end of that interval."""
    rewards: dict[str, float]
    """Mean of each reward component."""
    mean_length: float
    """Mean tokens of a completion, the end token included."""
    clipped_ratio: float
    """Share of completions without an end token."""
    reasons: dict[str, int]
    """Outcome -> completions."""
    pass_at: dict[int, float]
    """k -> unbiased pass@k, for every power of two up to the number of generations."""
    settings: dict[str, Any]
    """Environment, split, sampling: what must be equal for two figures to be comparable."""
    rows: list[dict[str, Any]] = field(repr=False, default_factory=list)

    def summary(self) -> dict[str, Any]:
        """Everything but the rows, ready for JSON."""
        return {k: v for k, v in asdict(self).items() if k != "rows"}

    @property
    def solved(self) -> str:
        """`solved 0.043 [0.024, 0.075] of 256`."""
        return f"solved {self.correct:.3f} [{self.low:.3f}, {self.high:.3f}] of {self.n}"


def make_env(command: Config | EvalCommand | SftCommand, split: str) -> "TextEnv":
    """The environment of a command, in one of its splits."""
    weights = dict(getattr(command, "reward_weights", {}))
    more = {"reward_weights": weights} if weights else {}
    return envs.make(command.env, split=split, **more, **command.env_args)


def mix_hint(env: "TextEnv") -> str:
    """The end of a line that tells how to make a base model for `env`: which --mix its habits allow, if any."""
    habits = habit_names(env)
    if not habits:
        return ""
    shares = " ".join(f"{name}={0.6 / len(habits):.2g}" for name in habits)
    return f"; add --mix right=0.4 {shares} for its habits"


def train_longer(model: str, name: str, env: "TextEnv") -> str:
    """The line that makes a better base of a model for `env`, called `name`: it goes on with it, or starts from it."""
    command, file = "python -m spg_trainer sft", Path(model) / SFT
    made = overlay(SftCommand(), read_yaml(file, "the model's"), str(file)) if file.is_file() else None
    if made and made.patience:
        return f"Train the base longer: {command} --resume {model} --steps {2 * made.steps}"
    return f"Train the base first: {command} --env {name} --model {model} --output-dir BASE{mix_hint(env)}"


def evaluate(
    policy: Policy,
    env: "str | TextEnv" = "sudoku",
    sampling: Sampling | None = None,
    *,
    split: str = "test",
    num_generations: int = 1,
    num_problems: int = 0,
    seed: int = 0,
    rows_per_forward: int | None = None,
    accelerator: "Accelerator | None" = None,
    advance: Callable[[int], None] | None = None,
) -> Evaluation:
    """Solves the problems of a split and counts.

    Args:
        policy: what `load_model` returns.
        env: a name for `envs.make`, opened with the arguments that suit the model, or a `TextEnv` made before.
        split: problems to solve; of a `TextEnv` that does not say its split, the name to record.
        sampling: completion length, steps, temperature; by default the model's own lengths (of its
            environment.json, else of the preset that suits it) at temperature 0.
        num_generations: completions per problem; more than 1 needs a temperature above 0.
        num_problems: problems from the start of the split; 0 = all.
        rows_per_forward: completions decoded at once; memory only. None = see `rollout`.
        accelerator: shares the problems among its processes; result and errors are the same on each of them.
        advance: called with the number of problems done since the last call.

    Raises:
        ConfigError: a number out of range, several generations at temperature 0.
        TrainingError: the environment failed on too many completions, or another process failed.
    """
    preset = task_preset(env if isinstance(env, str) else env.spec_name.partition("[")[0], policy.source)
    sampling = sampling or preset_sampling(preset)
    if num_problems < 0:
        raise ConfigError(f"num_problems={num_problems}: should be 0 (the whole split) or more.")
    if num_generations < 1:
        raise ConfigError(f"num_generations={num_generations}: should be at least 1.")
    if num_generations > 1 and sampling.temperature == 0:
        raise ConfigError(f"num_generations={num_generations} at temperature 0: set a temperature above 0.")
    world, rank = (accelerator.num_processes, accelerator.process_index) if accelerator else (1, 0)
    agreeing = raising_on_all if world > 1 else nullcontext
    with agreeing():
        if isinstance(env, str):
            env = envs.make(env, split=split, **preset.get("env_args", {}))
        count = min(num_problems or len(env), len(env))
    rows: list[dict[str, Any]] = []
    size = max(1, BATCH // num_generations)
    failures = Failures(count * num_generations, shared=world > 1)
    for start in range(0, count, size * world):  # equally often on each process: the last share may be empty
        batch = np.arange(start, min(start + size * world, count))
        mine, scored = batch[rank::world], None
        with agreeing():
            if len(mine):
                scored = sample_and_score(
                    policy,
                    env,
                    np.repeat(mine, num_generations),
                    np.tile(np.arange(num_generations), len(mine)),
                    sampling,
                    key=("eval",),
                    seed=seed,
                    rows_per_forward=rows_per_forward,
                )
                rows += evaluated_rows(policy, env, scored)
        failures.add(env, scored)
        if advance:
            advance(len(batch))
    rows = sorted(gather(rows) if world > 1 else rows, key=lambda row: (row["index"], row["generation"]))
    settings = evaluation_settings(env, sampling, num_generations, count, seed, split)
    return summarize(rows, num_generations, settings)


def evaluated_rows(policy: Policy, env: "TextEnv", scored: Scored) -> list[dict[str, Any]]:
    """The rows of an evaluation's file: those of samples/, how long each completion is and whether it ends."""
    lengths = scored.rollouts.completion_mask.sum(-1).tolist()
    ends, written = ended(policy, scored.rollouts), sample_rows(scored, policy=policy, env=env, step=-1)
    more = zip(written, lengths, ends, strict=True)
    return [{**row, "length": length, "ended": end} for row, length, end in more]


def ended(policy: Policy, rollouts: Rollouts) -> list[bool]:
    """Whether each completion has an end token."""
    is_end = np.isin(rollouts.completion_ids.numpy(force=True), policy.end_token_ids)
    return (is_end & rollouts.completion_mask.numpy(force=True)).any(-1).tolist()


def summarize(rows: list[dict[str, Any]], num_generations: int, settings: dict[str, Any]) -> Evaluation:
    """The figures of the rows of all processes, which are in the order of problems and generations."""
    correct = np.array([row["correct"] for row in rows], dtype=float)
    solved = correct.reshape(-1, num_generations).sum(axis=1)  # of each problem
    rate = float(correct.mean())
    # Completions of one problem are not independent: problems are the sample of the interval.
    successes = float(correct.sum()) if num_generations == 1 else rate * len(solved)
    low, high = verifiers.statistics.wilson_interval(successes, len(solved))
    powers = [2**i for i in range(num_generations.bit_length()) if 2**i <= num_generations]
    return Evaluation(
        correct=rate,
        n=len(rows),
        low=low,
        high=high,
        rewards={name: float(np.mean([r["rewards"][name] for r in rows])) for name in rows[0]["rewards"]},
        mean_length=float(np.mean([r["length"] for r in rows])),
        clipped_ratio=1 - float(np.mean([r["ended"] for r in rows])),
        reasons=dict(Counter(r["reason"] for r in rows).most_common()),
        pass_at={k: float(np.mean([pass_at_k(int(c), num_generations, k) for c in solved])) for k in powers},
        settings=settings,
        rows=rows,
    )


def pass_at_k(num_correct: int, n: int, k: int) -> float:
    """The chance that one of `k` completions is right, estimated without bias from `num_correct` of `n`.

    1 <= k <= n and 0 <= num_correct <= n. Source: Chen et al. (2021), equation 1.
    """
    return 1.0 - comb(n - num_correct, k) / comb(n, k)


def evaluation_settings(
    env: "TextEnv", sampling: Sampling, num_generations: int, num_problems: int, seed: int, split: str
) -> dict[str, Any]:
    """What must be equal for two evaluations to be comparable."""
    return {
        "env": env.spec_name,
        **({"origin": dict(env.origin)} if env.origin else {}),
        "split": getattr(env, "split", split),  # an author need not keep the argument
        "seed": seed,
        "num_problems": num_problems,
        "num_generations": num_generations,
        **asdict(sampling),
    }


def evaluate_lengths(command: EvalCommand, *, quiet: bool = False) -> dict[int, Evaluation]:
    """Evaluates a model at every completion length of the command; returns length -> evaluation.

    Raises:
        ConfigError: numbers that cannot work, a file of another result in the way.
        CheckpointError: the results cannot be written, which is checked before the model is opened.
    """
    check_eval(command)
    get_decoder(command.remasking)
    console = Console(quiet=quiet)
    shape = (command.block_length, command.tokens_per_step)
    more = {"temperature": command.temperature, "remasking": command.remasking}
    samplings = {n: Sampling.at_rate(n, *shape, **more) for n in command.max_completion_length}
    env, m = make_env(command, command.split), command.model
    place = command.output_dir or (m.model if (Path(m.model) / CONFIG).is_file() else None)
    folder = RunFolder(place) if place else None
    if folder is not None:
        check_writable(folder.path / "eval", CHOOSE_ANOTHER)
    policy = load_model(m.model, env=command.env, dtype=m.dtype, device=m.device, revision=m.revision)
    policy = policy.ending_with(model_environment(m.model).get("ends", "any"))
    if policy.note:
        console.warn(policy.note + mix_hint(env))
    shared = {"split": command.split, "num_generations": command.num_generations, "seed": command.seed}
    shared["num_problems"] = count = min(command.num_problems or len(env), len(env))
    for length, sampling in samplings.items() if folder else ():
        settings = evaluation_settings(env, sampling, **shared) | {"model": policy.source}
        refuse_other_result(folder.evaluation_path(result_name(command, env.spec_name, length)), settings)
    results: dict[int, Evaluation] = {}
    rows_per_forward = None if policy.device.type == "cpu" else command.rows_per_forward
    for length, sampling in samplings.items():
        with console.progress(count, f"eval {length} tokens") as advance:
            more = {"rows_per_forward": rows_per_forward, "advance": advance}
            result = results[length] = evaluate(policy, env, sampling, **shared, **more)
        console.say(f"{env.spec_name} {command.split}, {length} tokens: {figures(result)}")
        if folder is not None:
            name, content = result_name(command, env.spec_name, length), result.summary()
            content["model"] = policy.source
            console.say(f"Written: {folder.evaluation(name, content, result.rows, CHOOSE_ANOTHER)}")
    return results


def result_name(command: EvalCommand, env: str, length: int) -> str:
    """ENV-SPLIT-LENGTH, and what is unusual: -tTEMPERATURE, -gGENERATIONS, -sSEED."""
    unusual = f"-t{command.temperature:g}" if command.temperature else ""
    unusual += f"-g{command.num_generations}" if command.num_generations != 1 else ""
    unusual += f"-s{command.seed}" if command.seed else ""
    return f"{env}-{command.split}-{length}{unusual}"


def refuse_other_result(path: Path, settings: dict[str, Any]) -> None:
    """Raises ConfigError if the file to be written holds a result of other settings, or of another model."""
    if not path.exists():
        return
    try:
        content = dict(json.loads(path.read_text(encoding="utf-8")))
        before = {**content["settings"], "model": content.get("model")}
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ConfigError(f"{path} is in the way and holds no result ({error}). {CHOOSE_ANOTHER}") from error
    common = before.keys() & settings.keys()
    changed = differences({name: before[name] for name in common}, {name: settings[name] for name in common})
    if changed:
        raise ConfigError(f"{path} holds another result: {changed}. Move it, or choose another --output-dir.")


def figures(result: Evaluation) -> str:
    """The figures of one evaluation in one line."""
    more = {f"pass@{k}": f"{v:.3f}" for k, v in result.pass_at.items() if k > 1}
    more |= {name: f"{value:.3f}" for name, value in result.rewards.items() if name != "correct"}
    more |= {"mean length": f"{result.mean_length:.1f}", "no end": f"{result.clipped_ratio:.3f}"}
    return f"{result.solved}; " + ", ".join(f"{name} {value}" for name, value in more.items())
