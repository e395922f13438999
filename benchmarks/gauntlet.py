"""What `python -m spg_trainer --env TASK --model BASE` learns on eleven tasks, on nine of which nothing was tuned.

    python benchmarks/gauntlet.py FOLDER [--half tune | report] [--tasks NAME ...] [--seeds 3] [-- flags of training]

Settings may be chosen on the half `tune` alone: RL's were on Sudoku level 4, the optimizer of `sft` on Roman numerals.
Bases are made first, once for a folder: a short `sft` with two habits (reasoning-gym has none: its bases are stopped
while they know part of the task), or the main job's model. A base that `sft` calls none yet is trained as it advises:
twice as long, up to eight times. Then `python -m spg_trainer compare` trains, tabulates and draws. All of it can be
killed and started again.
"""

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

from spg_trainer.errors import SpgError
from spg_trainer.reporting.compare import compare, plan
from spg_trainer.reporting.jobs import Job, run_jobs
from spg_trainer.reporting.statistics import mean_over
from spg_trainer.runs.console import Console
from spg_trainer.settings.fields import CompareCommand
from spg_trainer.settings.sources import SFT, read_sft
from spg_trainer.sft.habits import NO_BASE

ROMAN = f"{Path(__file__).resolve().parent / 'roman.py'}:bench/Roman-v0"


@dataclass(frozen=True)
class Task:
    """A task of the gauntlet."""

    half: str
    env: str
    """As `compare` reads it."""
    base: tuple[str, ...]
    """What makes its base, after `python -m spg_trainer`."""

    @property
    def name(self) -> str:
        return self.env.rpartition("/")[2].replace(":", "_")

    def folder(self, bases: Path) -> Path:
        return bases / self.name

    def is_made(self, bases: Path) -> bool:
        return (self.model(bases) / "COMPLETE").is_file()

    def model(self, bases: Path) -> Path:
        """`sft` writes a model, a training a run folder with one."""
        return self.folder(bases) if self.base[0] == "sft" else self.folder(bases) / "model"

    def job(self, bases: Path) -> Job | None:
        """What makes its base, or a weak one longer, up to eight times the updates; None when it is finished."""
        folder, made = self.folder(bases), self.is_made(bases)
        words = (*self.base, "--output-dir", str(folder), "--resume", "auto")
        if self.base[0] == "sft" and (folder / SFT).is_file():
            words = ("sft", "--resume", str(folder))
            if made:
                if NO_BASE not in (folder / "README.md").read_text(encoding="utf-8"):
                    return None
                steps = 2 * read_sft(folder / SFT).steps
                if steps > 8 * int(self.base[self.base.index("--steps") + 1]):
                    return None
                words = (*words, "--steps", str(steps))
        elif made:
            return None
        return Job(f"base of {self.env}", words, bases / f"{self.name}.log")


def two_habits(env: str, habit: str, length: int) -> tuple[str, ...]:
    """A base that is right in 40% of its demonstrations and follows a habit of the task in the others."""
    words = f"--steps 800 --batch-size 96 --mix right=0.4 {habit}=0.6 --max-completion-length {length}"
    return ("sft", "--env", env, *words.split())


def unfinished(env: str, arguments: str, length: int) -> tuple[str, ...]:
    """A base of right demonstrations alone, and of few updates; prompts are long."""
    words = f"--env-args {arguments} --steps 400 --batch-size 64 --max-completion-length {length}"
    return ("sft", "--env", env, *words.split())


def reasoning_gym(half: str, name: str, arguments: str, length: int) -> Task:
    env = f"reasoning_gym:{name}"
    return Task(half, f"{env}:{arguments.replace(' ', ',')}", unfinished(env, arguments, length))


TASKS = [
    Task("tune", "sudoku:level=4", ("--env", "sudoku", "--seed", "0")),
    Task("tune", "countdown:level=2", ("--env", "countdown", "--seed", "0")),
    Task("tune", ROMAN, two_habits(ROMAN, "additive", 21)),
    Task("tune", "sorting", two_habits("sorting", "alphabetical", 16)),
    Task("tune", "coloring", two_habits("coloring", "forgetful", 10)),
    reasoning_gym("tune", "spell_backward", "min_word_len=3 max_word_len=6", 10),
    Task("report", "arithmetic", two_habits("arithmetic", "hasty", 12)),
    Task("report", "queens", two_habits("queens", "rooks", 12)),
    Task("report", "satisfiability", two_habits("satisfiability", "first", 8)),
    Task("report", "edits", two_habits("edits", "once", 10)),
    # 15,656 different questions; of the usual 10,000 items only 4,501 differ, and a base learns those by heart.
    reasoning_gym("report", "chain_sum", "min_terms=2 max_terms=2 min_digits=1 max_digits=2 size=100000", 8),
]


def run(folder: Path, tasks: list[Task], seeds: int, jobs: int, more: list[str]) -> int:
    """Bases, then runs, table and curves; returns 1 if one of them failed."""
    bases = folder / "bases"
    console = Console(file=sys.stderr, every_seconds=60.0)
    while missing := [job for task in tasks if (job := task.job(bases))]:
        if run_jobs(missing, jobs, console):
            return 1
    command = CompareCommand(
        env=tuple(task.env for task in tasks),
        model=tuple(str(task.model(bases)) for task in tasks),
        seeds=seeds,
        jobs=jobs,
        output_dir=str(folder),
    )
    status = compare(command, more)
    results = [result for planned in plan(command, more) if (result := planned.result)]
    gains = [mean_over((result.after - result.before)[None]).gain_interval for result in results]
    above, below = sum(low > 0 for low, _ in gains), sum(high < 0 for _, high in gains)
    sys.stdout.write(
        f"\nOf {len(gains)} runs, {above} end above their start by more than their own interval, {below} below.\n"
    )
    return status


def main() -> int:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="where bases and runs are")
    parser.add_argument("--half", choices=("tune", "report"), help="one half of the tasks; unset = all")
    parser.add_argument("--tasks", nargs="+", help="some of them, by what their environment's name holds")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=0, help="processes at once; 0 = one for each core")
    end = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    words = parser.parse_args(sys.argv[1:end])
    tasks = [task for task in TASKS if words.half in (None, task.half)]
    if words.tasks:
        tasks = [task for task in tasks if any(name in task.name for name in words.tasks)]
    if not tasks:
        parser.error(f"--tasks: none is named so. There are {', '.join(task.name for task in TASKS)}.")
    try:
        return run(words.folder, tasks, words.seeds, words.jobs, sys.argv[end + 1 :])
    except SpgError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    except KeyboardInterrupt:
        sys.stderr.write("\nStopped. The same command goes on.\n")
        return 130


if __name__ == "__main__":
    sys.exit(main())
