"""One factor at a time on Sudoku level 4, from the main job's model, by `python -m spg_trainer compare`.

    python benchmarks/factors.py FOLDER --model RUN [--only rate masks ...] [--seeds 3] [--steps 20]

Most rows are RAFT with one setting changed; other algorithms change more. All have equal rollouts and are evaluated on
validation puzzles, as results are reported on others. Finished runs are not repeated.
"""

import argparse
import subprocess
import sys

from measuring import hardware

SHARED = (
    "--eval-split validation --temperature 1.5 --num-iterations 3 --learning-rate 6e-4 --lr-schedule linear"
)
FACTORS = {
    "rate": [
        "raft:learning_rate=2e-4",
        "raft:lr_schedule=constant",
        "raft:learning_rate=2e-4,lr_schedule=constant",
    ],
    "adam": [
        "raft:adam_beta2=0.9",
        "raft:adam_beta2=0.999",
        "raft:max_grad_norm=0.002",
        "raft:weight_decay=0.1",
    ],
    "temperature": ["raft:temperature=1", "raft:temperature=2"],
    "masks": ["raft:num_masks=2", "raft:num_masks=8"],
    "batch": [
        "raft:prompts_per_step=16,num_generations=16",
        "raft:prompts_per_step=64,num_generations=4",
        "raft:prompts_per_step=96,max_steps=7",  # as many completions as 20 steps of 32 prompts
    ],
    "updates": [
        "raft:num_iterations=1",
        "raft:num_iterations=1,num_masks=12",
        "raft:num_iterations=6,num_masks=2",
    ],
    "adapters": ["raft:lora_r=32", "raft:lora_r=32,learning_rate=2e-3"],
    "algorithm": ["spg", "spg:negatives=elbo", "gdpo", "espo"],
    "published": ["spg:num_masks=2,num_iterations=1,temperature=1,learning_rate=2e-4,lr_schedule=constant"],
}
"""What is varied -> settings as `compare` reads them."""


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("folder", help="where the runs are")
    parser.add_argument("--model", required=True, help="the folder of `python -m spg_trainer --env sudoku`")
    parser.add_argument("--only", nargs="+", choices=FACTORS, default=[*FACTORS], help="some factors")
    parser.add_argument("--seeds", type=int, default=3, help="runs of each setting (3)")
    parser.add_argument("--steps", type=int, default=20, help="steps of a run (20)")
    parser.add_argument("--jobs", type=int, default=0, help="processes at once; 0 = one for each core")
    args, training = parser.parse_known_args()
    algorithms = ["raft", *(row for name in args.only for row in FACTORS[name])]
    words = ["--env", "sudoku:level=4", "--model", args.model, "--algorithms", *algorithms]
    words += ["--seeds", str(args.seeds), "--jobs", str(args.jobs), "--output-dir", args.folder]
    words += ["--", *SHARED.split(), "--max-steps", str(args.steps), *training]
    print(f"{hardware()}\n", flush=True)
    return subprocess.call([sys.executable, "-m", "spg_trainer", "compare", *words])


if __name__ == "__main__":
    sys.exit(main())
