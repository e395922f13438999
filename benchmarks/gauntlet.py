"""What training gains on eleven tasks, on nine of which nothing was tuned.

    python benchmarks/gauntlet.py FOLDER [--half tune | report] [--tasks NAME ...] [--seeds 3] [flags of training]

Settings may be chosen on the half `tune` alone. Bases are made first, once for a folder: a short `sft` with two habits
(reasoning-gym has none: its bases are stopped while they know part of the task), or the main job's model. Then
`python -m spg_trainer compare` trains, tabulates and draws. All of it can be killed and started again.
"""

import argparse
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from measuring import hardware, print_head, print_row

ROMAN = f"{Path(__file__).resolve().parent / 'roman.py'}:bench/Roman-v0"
TRAINER = (sys.executable, "-m", "spg_trainer")


class Task(NamedTuple):
    """A task, and what makes its base."""

    half: str
    env: str
    """As `compare` reads it."""
    base: str
    """Behind `python -m spg_trainer`."""

    @property
    def name(self) -> str:
        return self.env.rpartition("/")[2].replace(":", "_")


def two_habits(half: str, env: str, habit: str, length: int, steps: int = 800) -> Task:
    """A base that is right in 40% of its demonstrations and follows a habit of the task in the others."""
    flags = f"--max-steps {steps} --prompts-per-step 96 --mix right=0.4 {habit}=0.6 --max-completion-length {length}"
    return Task(half, env, f"sft --env {env} {flags}")


def reasoning_gym(half: str, name: str, arguments: str, length: int, steps: int) -> Task:
    """A base of right demonstrations alone, and of few updates."""
    env = f"reasoning_gym:{name}"
    flags = (
        f"--env-args {arguments} --max-steps {steps} --prompts-per-step 64 --max-completion-length {length}"
    )
    return Task(half, f"{env}:{arguments.replace(' ', ',')}", f"sft --env {env} {flags}")


TASKS = [
    Task("tune", "sudoku:level=4", "--env sudoku --seed 0"),
    Task("tune", "countdown:level=2", "--env countdown --seed 0"),
    two_habits("tune", ROMAN, "additive", 21),
    two_habits("tune", "sorting", "alphabetical", 16, steps=1600),
    two_habits("tune", "coloring", "forgetful", 10),
    reasoning_gym("tune", "spell_backward", "min_word_len=3 max_word_len=6", 10, steps=400),
    two_habits("report", "arithmetic", "hasty", 12, steps=6400),
    two_habits("report", "queens", "rooks", 12),
    two_habits("report", "satisfiability", "first", 8),
    two_habits("report", "edits", "once", 10),
    # 15,656 different questions; of the usual 10,000 items only 4,501 differ, and a base learns those by heart.
    reasoning_gym(
        "report", "chain_sum", "min_terms=2 max_terms=2 min_digits=1 max_digits=2 size=100000", 8, steps=800
    ),
]


def make_base(bases: Path, task: Task) -> Path:
    """The folder of its base, which is made, or gone on with, where it is not finished."""
    folder = bases / task.name
    if not (folder / "summary.json").is_file():
        with (bases / f"{task.name}.log").open("a") as log:
            words = (*TRAINER, *task.base.split(), "--output-dir", str(folder), "--resume", "auto")
            environment = {**os.environ, "OMP_NUM_THREADS": "1"}
            subprocess.run(words, stdout=log, stderr=log, env=environment, check=True)
    return folder


def print_ends(folder: Path) -> None:
    """How many runs of each task and setting ended above and below their start by more than their own interval."""
    ends: dict[str, list[int]] = {}
    for summary in sorted(folder.glob("*/summary.json")):
        before, after = (
            [json.loads(line)["correct"] for line in (summary.parent / "eval" / f"{name}.jsonl").open()]
            for name in ("before", "after")
        )
        gain = np.array(after, float) - np.array(before, float)
        clear = abs(gain.mean()) > 1.96 * gain.std() / len(gain) ** 0.5
        ends.setdefault(summary.parent.name.rpartition("-s")[0], []).append(int(clear * np.sign(gain.mean())))
    print(f"\n{hardware()}\n")
    print_head(["by more than a run's own interval", "runs", "above their start", "below"])
    for name, signs in ends.items():
        print_row([name, len(signs), signs.count(1), signs.count(-1)])


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("folder", type=Path, help="where bases and runs are")
    parser.add_argument("--half", choices=("tune", "report"), help="one half of the tasks; unset = all")
    parser.add_argument("--tasks", nargs="+", default=[""], help="some of them, by a part of their name")
    parser.add_argument("--algorithms", nargs="+", default=["raft"], help="settings, as `compare` reads them")
    parser.add_argument("--seeds", type=int, default=3, help="runs of each setting on each task (3)")
    parser.add_argument("--jobs", type=int, default=0, help="processes at once; 0 = one for each core")
    args, training = parser.parse_known_args()
    tasks = [task for task in TASKS if args.half in (None, task.half)]
    tasks = [task for task in tasks if any(name in task.name for name in args.tasks)]
    if not tasks:
        parser.error(f"--tasks: none is named so. There are {', '.join(task.name for task in TASKS)}.")
    bases = args.folder / "bases"
    bases.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(args.jobs or os.cpu_count()) as pool:
        models = list(pool.map(partial(make_base, bases), tasks))
    words = ["--env", *(task.env for task in tasks), "--model", *map(str, models)]
    words += ["--algorithms", *args.algorithms, "--seeds", str(args.seeds), "--jobs", str(args.jobs)]
    words += ["--output-dir", str(args.folder), "--", *training]
    status = subprocess.call([*TRAINER, "compare", *words])
    print_ends(args.folder)
    return status


if __name__ == "__main__":
    sys.exit(main())
