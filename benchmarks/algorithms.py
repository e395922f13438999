"""What every algorithm learns on every task from equal rollouts: solved rate before and after, and the time it took.

    python benchmarks/algorithms.py FOLDER [--algorithms spg wd1 ...] [--envs sudoku ...] [--seeds 0 1 2] [--steps 40]
    python benchmarks/algorithms.py FOLDER --table

Each run is `python -m spg_trainer --env ENV --algorithm ALGORITHM --seed SEED` with its shipped preset, in a folder
below FOLDER; finished ones are not run again. The table is Markdown: the solved rate of the test split after training,
its mean over seeds and the farthest of them, and the seconds that training and both evaluations took.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

ALGORITHMS = ["spg", "diffu_grpo", "wd1", "unigrpo", "gdpo", "bgpo", "espo", "justgrpo", "vrpo"]
TASKS = ["sudoku", "countdown", "gsm8k", "math500"]


def train(folder: Path, env: str, algorithm: str, seed: int, steps: int, more: list[str]) -> str:
    """Runs one training in `folder` unless it has finished; returns a line that says how it went."""
    if (folder / "summary.json").is_file():
        return "is there"
    words = ["--env", env, "--algorithm", algorithm, "--seed", seed, "--max-steps", steps, "--resume", "auto"]
    command = [sys.executable, "-m", "spg_trainer", *map(str, words), "--output-dir", str(folder), *more]
    folder.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    with (folder.parent / f"{folder.name}.log").open("w") as log:
        code = subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, check=False).returncode
    return f"exit {code}, {time.monotonic() - started:.0f} s"


def cell(summaries: list[dict]) -> str:
    """Mean rate after training, the distance of the farthest seed, seconds."""
    if not summaries:
        return "-"
    after = [s["eval_after"]["correct"] for s in summaries]
    seconds = statistics.mean(s["seconds"] for s in summaries)
    spread = f" ± {max(abs(rate - statistics.mean(after)) for rate in after):.3f}" if len(after) > 1 else ""
    return f"{statistics.mean(after):.3f}{spread} ({seconds:.0f} s)"


def table(folder: Path, algorithms: list[str], tasks: list[str]) -> str:
    """Markdown: a row for each algorithm, a column for each task, the untrained model first."""
    found: dict[tuple[str, str], list[dict]] = {}
    for file in sorted(folder.glob("*/summary.json")):
        env, algorithm, _ = file.parent.name.split("-")
        found.setdefault((algorithm, env), []).append(json.loads(file.read_text()))
    lines = [f"| algorithm | {' | '.join(tasks)} | seeds |", "|---" * (len(tasks) + 2) + "|"]
    before = []
    for task in tasks:
        rates = [s["eval_before"]["correct"] for (_, env), runs in found.items() if env == task for s in runs]
        before.append(f"{rates[0]:.3f}" if rates else "-")
    lines.append(f"| untrained | {' | '.join(before)} | |")
    for algorithm in algorithms:
        runs = [found.get((algorithm, task), []) for task in tasks]
        seeds = "/".join(str(len(each)) for each in runs)
        lines.append(f"| {algorithm} | {' | '.join(cell(each) for each in runs)} | {seeds} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="where the runs are")
    parser.add_argument("--algorithms", nargs="+", default=ALGORITHMS)
    parser.add_argument("--envs", nargs="+", default=TASKS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument(
        "--table", action="store_true", help="train nothing, print the table of what is there"
    )
    parser.add_argument(
        "--more", nargs=argparse.REMAINDER, default=[], help="further flags of every training"
    )
    words = parser.parse_args()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    for seed in [] if words.table else words.seeds:
        for env in words.envs:
            for algorithm in words.algorithms:
                folder = words.folder / f"{env}-{algorithm}-s{seed}"
                said = train(folder, env, algorithm, seed, words.steps, words.more)
                sys.stderr.write(f"{folder.name}: {said}\n")
    sys.stdout.write(table(words.folder, words.algorithms, words.envs))


if __name__ == "__main__":
    main()
