"""How many steps of `sft` a model needs until it solves a share of the validation problems, masking by masking.

    python benchmarks/teaching.py [--tasks sudoku ...] [--maskings random lift gift] [--model tiny] [--rate 0.5]
        [--seeds 5] [--steps 40] [--every 4] [--problems 64] [-- FLAGS OF sft]

A run saves a checkpoint every so many steps. Every fourth is measured, greedily, until one reaches the rate; then those
just before it. A run that never reaches it counts as --steps and is shown in brackets. The difference is that of the
same seeds to the first masking.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np
from measuring import hardware, print_head, print_row

from spg_trainer.evaluation.command import run_eval
from spg_trainer.evaluation.statistics import t_quantile
from spg_trainer.settings.configs import EvalCommand
from spg_trainer.settings.resolve import resolve
from spg_trainer.training.loop import train
from spg_trainer.training.plan import settle


def main() -> int:
    words = sys.argv[1:]
    own, flags = (
        (words[: words.index("--")], words[words.index("--") + 1 :]) if "--" in words else (words, [])
    )
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--tasks", nargs="+", default=["sudoku", "countdown", "gsm8k", "math500", "code"])
    parser.add_argument("--maskings", nargs="+", default=["random", "lift", "gift"])
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--rate", type=float, default=0.5)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--every", type=int, default=4)
    parser.add_argument("--problems", type=int, default=64)
    args = parser.parse_args(own)
    print(f"{hardware()}\n", flush=True)
    print_head(["task", "masking", f"steps to {args.rate:g}, by seed", "mean", "difference"])
    for task in args.tasks:
        first = None
        for masking in args.maskings:
            found = [steps_to(task, masking, seed, args, flags) for seed in range(args.seeds)]
            steps = np.array([args.steps if step is None else step for step in found])
            first = steps if first is None else first
            shown = ", ".join(f"({args.steps})" if step is None else str(step) for step in found)
            print_row([task, masking, shown, f"{steps.mean():.1f}", shown_difference(steps - first)])
    return 0


def shown_difference(differences: np.ndarray) -> str:
    """The mean with its 95% interval over seeds, by Student's t."""
    mean, seeds = differences.mean(), len(differences)
    if seeds == 1 or not differences.any():
        return f"{mean:+.1f}"
    reach = t_quantile(seeds - 1) * differences.std(ddof=1) / seeds**0.5
    return f"{mean:+.1f} [{mean - reach:+.1f}, {mean + reach:+.1f}]"


def steps_to(task: str, masking: str, seed: int, args: argparse.Namespace, flags: list[str]) -> int | None:
    """The first measured step that reaches the rate; None = none."""
    print(f"{task} {masking} seed {seed}", file=sys.stderr, flush=True)
    with tempfile.TemporaryDirectory() as folder:
        words = f"--source demonstrations --env {task} --model {args.model} --seed {seed}"
        words += f" --output-dir {folder}/run --max-steps {args.steps} --save-steps {args.every}"
        words += f" --keep {args.steps} --eval-steps 0 --eval-problems 1 --algorithm-args masking={masking}"
        train(settle([*words.split(), *flags]), quiet=True)
        fine, coarse = args.every, 4 * args.every
        for step in range(coarse, args.steps + 1, coarse):
            if solved(task, folder, step, args.problems) >= args.rate:
                before = range(step - coarse + fine, step, fine)
                return next(
                    (at for at in before if solved(task, folder, at, args.problems) >= args.rate), step
                )
    return None


def solved(task: str, folder: str, step: int, problems: int) -> float:
    """The greedy solved rate of validation problems at a checkpoint of the run."""
    model = Path(folder) / "run" / "checkpoints" / f"step-{step:06d}"
    asked = f"--env {task} --model {model} --split validation --num-problems {problems}"
    words = [*asked.split(), "--output-dir", f"{folder}/eval-{step}"]
    (result,) = run_eval(resolve(EvalCommand, words), quiet=True)
    rate = sum(row["correct"] for row in result.rows) / len(result.rows)
    print(f"    step {step}: {rate:.3f}", file=sys.stderr, flush=True)
    return rate


if __name__ == "__main__":
    sys.exit(main())
