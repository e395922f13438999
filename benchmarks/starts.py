"""Where wrong completions start to hurt on Sudoku level 4: the gain of 20 steps from starts of every solved rate.

    python benchmarks/starts.py FOLDER [--seeds 3] [--steps 20] [--jobs 0] [--figure FILE.svg]

One run of raft makes the starts: of its checkpoints those whose greedy solved rates on 128 validation puzzles are
nearest to five rates. From each `python -m spg_trainer compare` trains SPG, SPG without its negative half, and raft. A
gain is that of the last step on the test puzzles: no step is chosen, so that a loss shows. Finished runs are not
repeated.
"""

import argparse
import subprocess
import sys
from pathlib import Path

import numpy as np
from measuring import hardware, print_head, print_row

from spg_trainer.evaluation.statistics import Mean, mean_over
from spg_trainer.reporting.curves import METADATA, STYLE
from spg_trainer.reporting.runs import Recorded, read_run

TRAINER = (sys.executable, "-m", "spg_trainer")
TASK = ("--env", "sudoku", "--env-args", "level=4")
START = (
    "--algorithm raft --num-iterations 1 --warmup-steps 60 --lr-schedule constant --max-steps 150 --seed 20 "
    "--eval-steps 1 --validation-problems 128 --save-steps 1 --keep 150"
)
"""At a rate that rises, or the model goes from nothing to two thirds in two updates. The seed is none of the others."""
RATES = (0.05, 0.95, 0.5, 0.725, 0.275)
"""In the order in which they are run."""
SETTINGS = {
    "spg": "spg",
    "spg without its negative half": "spg:negatives=zero,masking=random,temperature=1.5",
    "raft": "raft",
}
"""What tables call a setting -> the setting as `compare` reads it."""


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("folder", type=Path, help="where the runs are")
    parser.add_argument("--seeds", type=int, default=3, help="runs of each setting from each start (3)")
    parser.add_argument("--steps", type=int, default=20, help="steps of a run (20)")
    parser.add_argument("--jobs", type=int, default=0, help="processes at once; 0 = one for each core")
    parser.add_argument("--figure", type=Path, help="where to draw the gains, as an SVG")
    args = parser.parse_args()
    print(f"{hardware()}\n", flush=True)
    start = args.folder / "start"
    if not (start / "summary.json").is_file():
        words = (*TASK, *START.split(), "--output-dir", str(start), "--resume", "auto")
        subprocess.run([*TRAINER, *words], stdout=sys.stderr, check=True)
    found = {}
    for step, rate in choose_starts(read_run(start)):
        folder = args.folder / f"from-{step:06}"
        words = ["--env", "sudoku:level=4", "--model", str(start / "checkpoints" / f"step-{step:06}")]
        words += ["--algorithms", *SETTINGS.values(), "--seeds", str(args.seeds)]
        words += ["--jobs", str(args.jobs), "--output-dir", str(folder)]
        words += ["--", "--max-steps", str(args.steps), "--eval-steps", "0"]
        subprocess.run([*TRAINER, "compare", *words], stdout=sys.stderr, check=True)
        found[step, rate] = {name: gain_of(folder, setting) for name, setting in SETTINGS.items()}
    print_head(["start (step), validation", "start, test", *SETTINGS])
    for (step, rate), of_start in sorted(found.items()):
        before = next(iter(of_start.values()))[0]
        print_row([f"{rate:.3f} ({step})", f"{before:.3f}", *(said(gain) for _, gain in of_start.values())])
    if args.figure:
        draw([found[start] for start in sorted(found)], args.figure)
    return 0


def choose_starts(run: Recorded) -> list[tuple[int, float]]:
    """(step, solved rate on validation puzzles) of the checkpoints nearest to `RATES`, none twice."""
    rates = {one.step: float(one.correct.mean()) for one in run.evaluations if one.split == "validation"}
    chosen = {}
    for rate in RATES:
        left = [step for step in rates if step and step not in chosen]
        step = min(left, key=lambda step: abs(rates[step] - rate))
        chosen[step] = rates[step]
    return [*chosen.items()]


def gain_of(folder: Path, setting: str) -> tuple[float, Mean]:
    """The solved rate before training, and the gain of a setting's runs, over seeds and problems."""
    changes, before = [], 0.0
    for run in sorted(folder.glob(f"sudoku_level=4-{setting.replace(':', '_')}-s*")):
        first, last = (one.correct for one in read_run(run).before_after)
        changes.append(last - first)
        before = float(first.mean())
    return before, mean_over(np.stack(changes))


def said(gain: Mean) -> str:
    """A gain with its interval."""
    low, high = gain.gain_interval
    return f"{gain.value:+.3f} [{low:+.3f}, {high:+.3f}]"


def draw(found: list[dict[str, tuple[float, Mean]]], path: Path) -> None:
    """Writes the gains by the start's solved rate on test puzzles, with their intervals; equal runs, equal bytes."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context({**STYLE, "svg.hashsalt": "starts"}):
        figure = Figure(figsize=(6.4, 3.8), layout="constrained")
        axes = figure.subplots()
        axes.axhline(0, color="#808080", linewidth=1)
        for number, name in enumerate(SETTINGS):
            gains = [of_start[name] for of_start in found]
            shift = 0.006 * (number - 1)  # so that the intervals of one start stand beside each other
            x, y = [start + shift for start, _ in gains], np.array([gain.value for _, gain in gains])
            low, high = np.array([gain.gain_interval for _, gain in gains]).T
            axes.errorbar(x, y, [y - low, high - y], color=f"C{number}", marker="o", capsize=3, label=name)
        axes.set(xlabel="solved rate of the start", ylabel="gain of 20 steps", xlim=(0, 1))
        axes.grid(alpha=0.3)
        axes.set_frame_on(False)
        axes.legend(frameon=False)
        figure.savefig(path, metadata=METADATA, transparent=True)


if __name__ == "__main__":
    sys.exit(main())
