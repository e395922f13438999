"""What a step leaves behind: metrics, timings, samples, the live line, the board, evaluations, checkpoints, summary."""

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate.utils import gather_object

from spg_trainer.console import diagnose
from spg_trainer.errors import CheckpointError, TrainingError
from spg_trainer.evaluate import ended, evaluate
from spg_trainer.rollouts import Scored, sample_rows
from spg_trainer.run import Run, make_env, versions


def agree(run: Run, error: Exception | None) -> None:
    """Raises on every process if any of them has met an error; else they would wait for one another for ever."""
    if run.accelerator.num_processes > 1:
        problems = [text for text in gather_object([str(error) if error else None]) if text]
        if problems and error is None:
            raise TrainingError(problems[0])
    if error is not None:
        raise error


def batch_numbers(run: Run, scored: Scored) -> tuple[np.ndarray, dict[str, float], dict[str, float]]:
    """The rewards of all processes' groups (P, G), the metrics of the rollout, and the totals losses are divided by.

    Computed from the gathered values, so that they do not depend on how the groups were shared.
    """
    mine = {
        "reward": scored.rewards,
        "correct": scored.correct.astype(float),
        "length": scored.rollouts.completion_mask.sum(-1).numpy(force=True).astype(float),
        "error": np.array([reason == "error" for reason in scored.reason], float),
        "clipped": 1.0 - np.array(ended(run.policy, scored.rollouts), float),
        **{f"rewards/{name}/mean": values for name, values in scored.components.items()},
    }
    parts = gather_object([mine]) if run.accelerator.num_processes > 1 else [mine]
    whole = {name: np.concatenate([part[name] for part in parts]) for name in mine}
    groups = whole["reward"].reshape(-1, run.config.batch.num_generations)
    spread = groups.std(axis=1)
    numbers = {
        "reward": float(whole["reward"].mean()),
        "reward_std": float(spread.mean()),
        "frac_reward_zero_std": float(
            (np.ptp(groups, axis=1) == 0).mean()
        ),  # a deviation of 0.1s is not quite 0
        "correct": float(whole["correct"].mean()),
        **{name: float(values.mean()) for name, values in whole.items() if name.startswith("rewards/")},
        "completions/mean_length": float(whole["length"].mean()),
        "completions/clipped_ratio": float(whole["clipped"].mean()),
        "num_tokens": int(whole["length"].sum()),
        "env_errors": int(whole["error"].sum()),
    }
    return groups, numbers, {"completions": float(groups.size), "tokens": float(whole["length"].sum())}


def sum_over_processes(run: Run, sums: Mapping[str, float]) -> dict[str, float]:
    """Adds up each process's share of the metrics; a process without completions has none."""
    if run.accelerator.num_processes == 1:
        return dict(sums)
    parts = gather_object([dict(sums)])
    names = sorted({name for part in parts for name in part})
    return {name: sum(part.get(name, 0.0) for part in parts) for name in names}


def per_scored(sums: dict[str, float]) -> dict[str, float]:
    """The metrics with `bound/NAME` as means over the completions that were scored, not over all of them."""
    share = sums.get("bound/share", 0.0)
    bounds = [name for name in sums if name.startswith("bound/") and name != "bound/share"]
    return sums | {name: sums[name] / share for name in bounds if share > 0}


def record(
    run: Run,
    scored: Scored,
    advantages: torch.Tensor,
    numbers: dict[str, Any],
    times: dict[str, Any],
) -> None:
    """Shows a finished step; samples and board when their turn has come."""
    output, step = run.config.output, run.step
    run.history.append(numbers)
    if due(step, output.sample_steps, run):
        rows = sample_rows(scored, env=run.env, step=step, advantages=advantages)
        rows = gather_object(rows) if run.accelerator.num_processes > 1 else rows
        run.folder.samples(step, rows)
    limit = 60 * run.config.max_minutes
    left = max(0.0, limit - (time.monotonic() - run.started)) if limit else None
    run.console.step({**numbers, **times}, total=run.config.max_steps, seconds_left=left)
    if due(step, output.board_steps, run):
        run.console.board(run.env.picture(scored.problems[0], scored.completions[0]))  # any one: not the best
    for warning in diagnose(run.history):
        run.console.warn(warning)


def due(step: int, every: int, run: Run) -> bool:
    """Whether something that happens every so many steps happens at this one; the last step counts."""
    return every > 0 and (step % every == 0 or step == run.config.max_steps)


def evaluate_split(run: Run, name: str, split: str) -> dict[str, Any]:
    """Evaluates on a split, greedy unless told otherwise, and writes eval/NAME."""
    env = make_env(run.config, split)
    total = min(run.config.eval.eval_problems or len(env), len(env))
    with run.console.progress(total, f"eval {name} ({split})") as advance:
        found = evaluate(
            run.policy,
            env,
            run.eval_sampling,
            split=split,
            num_problems=run.config.eval.eval_problems,
            seed=run.config.seed,
            rows_per_forward=run.rows_per_forward,
            accelerator=run.accelerator,
            advance=advance,
        )
    run.folder.evaluation(name, found.summary(), found.rows)
    run.console.say(solved_line(f"{env.spec_name} {split} {name}", found.summary()))
    return found.summary()


def read_evaluation(run: Run, name: str) -> dict[str, Any] | None:
    """The figures of an evaluation this run has made before; None if there are none.

    Raises CheckpointError if a run that has already trained lost its first evaluation: it cannot be made again.
    """
    file = run.folder.path / "eval" / f"{name}.json"
    if file.is_file():
        return json.loads(file.read_text(encoding="utf-8"))
    if run.step > 0:
        raise CheckpointError(
            f"{file} is missing, and step {run.step} is past the point where it was made. Restore the file, or start "
            "a new run with another --output-dir."
        )
    return None


def summarize(run: Run, before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """What summary.json holds."""
    keys = ("correct", "n", "low", "high", "rewards", "mean_length", "clipped_ratio", "settings")
    return {
        "env": run.env.spec_name,
        "algorithm": run.config.algorithm,
        "seed": run.config.seed,
        "steps": run.step,
        "max_steps": run.config.max_steps,
        "updates": run.updates,
        "seconds": round(run.seconds, 1),
        "eval_before": {key: before[key] for key in keys},
        "eval_after": {key: after[key] for key in keys},
        "gain": after["correct"] - before["correct"],
        "model": str(run.folder.path / "model"),
        "base_model": run.policy.source,
        "processes": run.accelerator.num_processes,
        "device": str(run.accelerator.device),
        "threads": torch.get_num_threads(),
        "versions": versions(),
    }


def last_words(summary: Mapping[str, Any]) -> list[str]:
    """What was gained, where everything lies, and what to type next."""
    before, after, folder = summary["eval_before"], summary["eval_after"], Path(summary["model"]).parent
    temperature = after["settings"]["temperature"]
    decoding = f"temperature {temperature:g}" if temperature else "greedy"
    more = max(2 * summary["steps"], summary["max_steps"])
    return [
        f"{summary['env']}: solved rate on {after['n']} {after['settings']['split']} problems never trained on, "
        f"{decoding}: "
        f"{before['correct']:.3f} -> {after['correct']:.3f} [{after['low']:.3f}, {after['high']:.3f}] "
        f"after {summary['steps']} steps, {summary['seconds'] / 60:.1f} minutes.",
        f"Everything is in {folder}: model/, metrics.jsonl, samples/, eval/, summary.json.",
        f"Next:  python -m spg_trainer eval --model {folder}",
        f"       python -m spg_trainer --resume {folder} --max-steps {more}",
    ]


def solved_line(name: str, found: Mapping[str, Any]) -> str:
    """`sudoku test before: solved 0.043 [0.024, 0.075] of 256`."""
    return f"{name}: solved {found['correct']:.3f} [{found['low']:.3f}, {found['high']:.3f}] of {found['n']}"
