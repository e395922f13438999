"""A run folder as `train` leaves it, without training: Sudoku, two steps' samples, evaluations before and after."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import envs
from spg_trainer.runs.folder import RunFolder
from spg_trainer.settings.configs import Config
from spg_trainer.settings.recorded import to_yaml
from spg_trainer.settings.resolve import defaults

HOSTILE = [
    "</script><script>document.title='owned'</script>",
    "<img src=x onerror=\"document.title='owned'\">",
    "<!--<script>",
    "]]>&lt;b&gt; \" ' ` ${1}",
    "\x1b[32m\u2028\u202egreen\x1b[0m\x00",
]
"""What a model might write."""
LENGTH = 20


def write_run(
    folder: Path, *, seed: int = 0, steps: int = 4, problems: int = 8, finished: bool = True, **changes: Any
) -> Path:
    """Makes the folder. Before training every second problem is solved and the others hold `HOSTILE`; after it all but
    the last are. changes: settings of the run by name."""
    config = replace(defaults(Config, env="sudoku"), seed=seed, max_steps=steps, **changes)
    run = RunFolder(folder)
    record = {"env": config.env, "env_args": config.env_args, "versions": {"python": "3.11"}}
    run.create(to_yaml(config), record)
    run.release()
    shares = {"rewards/cells/mean": 0.5, "frac_reward_zero_std": 0.5, "bound/elbo": -0.2, "bound/eubo": -0.1}
    parts = {"all_correct": 0.25, "all_wrong": 0.5, "identical": 0.25, "wrong_identical": 0.125}
    shares |= {f"frac_groups_{name}": share for name, share in parts.items()}
    for step in range(1, steps + 1):
        done = step / steps
        rates = {"reward": done, "correct": done + 0.01 * seed, "rewards/correct/mean": done}
        run.append_metrics({"step": step, **rates, **shares, "grad_norm": 0.1 * step, "num_tokens": 100})
        run.append_timings({"step": step, "rollout": 2.0, "update": 1.0, "tokens_per_second": 50.0})
    for step in (steps // 2, steps):
        run.write_samples(step, completions(problems, "train", step, solved=lambda i: i % 2 == 0))
    before = evaluation(run, "before", completions(problems, "test", -1, solved=lambda i: i % 2 == 0), 0)
    if finished:
        half = completions(problems, "validation", -1, solved=lambda i: i > 2)
        evaluation(run, f"step-{steps // 2:06d}", half, steps // 2)
        last = completions(problems, "test", -1, solved=lambda i: i < problems - 1)
        after = evaluation(run, "after", last, steps)
        steps_of = {"best_step": steps // 2, "last_step": steps, "highest_step": steps // 2}
        steps_of["chosen"] = f"step {steps // 2}, by a rule"
        kept = {"problems": problems, "start": 0.1, "best": 0.625, "highest": 0.625, "last": 0.5, **steps_of}
        machine = {"processes": 1, "device": "cpu", "threads": 2}
        names = {"env": config.env, "algorithm": config.algorithm, "seed": seed, "steps": steps}
        figures = {"eval_before": before, "eval_after": after, "validation": kept, "kept_step": steps // 2}
        run.write_summary({"seconds": 3723.0, **machine, **names, **figures})
    return folder


def completions(count: int, split: str, step: int, solved: Any) -> list[dict[str, Any]]:
    """`count` rows of one completion each, unmasked from the left, right where `solved(i)`."""
    env, rows = envs.make("sudoku", split=split), []
    for i in range(count):
        problem, right = env.problem(i), bool(solved(i))
        text = env.demonstration(problem) if right else HOSTILE[i // 2 % len(HOSTILE)]
        pieces = [text[:3], *text[3 : LENGTH + 1], text[LENGTH + 1 :]][:LENGTH]
        asked = {"step": step, "env": "sudoku", "index": i, "generation": 0, "prompt": problem.prompt}
        judged = {
            "rewards": {"correct": float(right), "cells": 0.5},
            "reward": float(right),
            "correct": right,
        }
        shown = {"tokens": pieces, "reveal_step": [*range(len(pieces))], "confidence": [0.9] * len(pieces)}
        row = {**asked, "completion": text, **judged, "reason": "ok" if right else "no_answer", **shown}
        rows.append({**row, "length": len(pieces), "ended": True, **problem.reference})
    return rows


def evaluation(run: RunFolder, name: str, rows: list[dict[str, Any]], step: int) -> dict[str, Any]:
    """Writes an evaluation with these rows and returns its figures."""
    rate = sum(row["correct"] for row in rows) / len(rows)
    figures = {
        **{"correct": rate, "n": len(rows), "low": rate / 2, "high": (1 + rate) / 2, "mean_length": 20.0},
        **{"rewards": {"correct": rate, "cells": 0.5}, "step": step, "follows": {"right": 3, "careless": 5}},
        "settings": {
            **{"split": "validation" if name.startswith("step") else "test", "temperature": 0.0},
            **{"max_completion_length": LENGTH, "diffusion_steps": LENGTH, "block_length": LENGTH},
        },
    }
    run.write_evaluation(name, figures, rows)
    return figures
