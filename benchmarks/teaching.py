"""How many steps of `sft` a new model needs until it solves a share of the validation problems, masking by masking.

    python benchmarks/teaching.py [--tasks sudoku ...] [--maskings random lift gift] [--rate 0.5] [--seeds 5]
        [--steps 1200] [--every 100] [--problems 256] [-- FLAGS OF sft]

A run saves a checkpoint every so many steps; each is measured, greedily, until one reaches the rate. `-` = none did.
"""

import argparse
import sys
import tempfile
from pathlib import Path

from measuring import hardware, print_head, print_row

from spg_trainer.evaluation.command import run_eval
from spg_trainer.settings.fields import Config, EvalCommand
from spg_trainer.settings.resolve import resolve
from spg_trainer.training.loop import train


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
    parser.add_argument("--rate", type=float, default=0.5)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=1200)
    parser.add_argument("--every", type=int, default=100)
    parser.add_argument("--problems", type=int, default=256)
    args = parser.parse_args(own)
    print(f"{hardware()}\n", flush=True)
    print_head(
        ["task", "masking", f"steps to {args.rate:g}, by seed", "solved at the last measured step, by seed"]
    )
    for task in args.tasks:
        for masking in args.maskings:
            found = [steps_to(task, masking, seed, args, flags) for seed in range(args.seeds)]
            steps = ", ".join("-" if step is None else str(step) for step, _ in found)
            print_row([task, masking, steps, ", ".join(f"{rate:.3f}" for _, rate in found)])
    return 0


def steps_to(
    task: str, masking: str, seed: int, args: argparse.Namespace, flags: list[str]
) -> tuple[int | None, float]:
    """(the first measured step that reaches the rate, None = none; the rate at the last measured step)."""
    with tempfile.TemporaryDirectory() as folder:
        words = f"--source demonstrations --env {task} --model new --seed {seed} --output-dir {folder}/run"
        words += f" --max-steps {args.steps} --save-steps {args.every} --keep {args.steps} --eval-steps 0"
        words += f" --eval-problems 0 --algorithm-args masking={masking}"
        train(resolve(Config, [*words.split(), *flags]), quiet=True)
        rate = 0.0
        for step in range(args.every, args.steps + 1, args.every):
            model = Path(folder) / "run" / "checkpoints" / f"step-{step:06d}"
            asked = f"--env {task} --model {model} --split validation --num-problems {args.problems}"
            (result,) = run_eval(
                resolve(EvalCommand, [*asked.split(), "--output-dir", f"{folder}/eval-{step}"]), quiet=True
            )
            rate = sum(row["correct"] for row in result.rows) / len(result.rows)
            if rate >= args.rate:
                return step, rate
    return None, rate


if __name__ == "__main__":
    sys.exit(main())
