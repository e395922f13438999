"""How often the small models follow the right rule, unmasked by confidence and in random order.

    python benchmarks/mixes.py [--tasks sudoku countdown ...] [--models tiny ...] [--problems 24] [--seed 0]

Eight completions of each validation problem are sampled; what counts is the share of `right` among those that follow
one rule alone. Random order shows what a model has learned of the mix that `sft --mix` taught it; by confidence is what
RL samples.
"""

import argparse
import sys
import tempfile

from measuring import hardware, print_head, print_row

from spg_trainer.evaluation.command import run_eval
from spg_trainer.evaluation.habits import count_habits
from spg_trainer.settings.configs import EvalCommand
from spg_trainer.settings.resolve import resolve
from spg_trainer.settings.task import make_env
from spg_trainer.training.advice import share_of_right

WAYS = {
    "by confidence, temperature 1.5": ("low_confidence", 1.5),
    "by confidence, temperature 1": ("low_confidence", 1.0),
    "random order, temperature 1": ("random", 1.0),
}
"""Column -> --remasking and --temperature."""


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--tasks", nargs="+", default=["sudoku", "countdown", "gsm8k", "math500"])
    parser.add_argument("--models", nargs="+", default=["tiny"], help="one for each task, or one for all")
    parser.add_argument("--problems", type=int, default=24)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    models = args.models * len(args.tasks) if len(args.models) == 1 else args.models
    print(f"{hardware()}\n", flush=True)
    print_head(["task", *WAYS])
    for task, model in zip(args.tasks, models, strict=True):
        row = [share(task, model, *way, args) for way in WAYS.values()]
        print_row([task, *(f"{one:.3f}" for one in row)])
    return 0


def share(task: str, model: str, remasking: str, temperature: float, args: argparse.Namespace) -> float:
    """The share of `right` among the sampled completions that follow one rule alone."""
    words = f"--split validation --num-generations 8 --num-problems {args.problems} --seed {args.seed}"
    words += f" --remasking {remasking} --temperature {temperature}"
    with tempfile.TemporaryDirectory() as folder:  # a run's own eval/ is left as it is
        words += f" --output-dir {folder}"
        command = resolve(EvalCommand, ["--env", task, "--model", model, *words.split()])
        (result,) = run_eval(command, quiet=True)
    asked = command.config
    env = make_env(asked.env, asked.env_args, asked.reward_weights, "validation")
    return share_of_right(count_habits(env, result.rows))


if __name__ == "__main__":
    sys.exit(main())
