"""What finished runs show together: a table of solved rates with their intervals, and their curves."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from spg_trainer.reporting.curves import Column, draw_figure
from spg_trainer.reporting.statistics import mean_over
from spg_trainer.runs.files import read_lines
from spg_trainer.runs.folder import METRICS, SUMMARY

HEAD = ("task", "setting", "runs", "before", "after", "gain", "trained", "below start", "steps", "seconds")
NOTE = """
before, after: greedy solved rate of the evaluated problems; gain: after - before. Brackets: 95% intervals over seeds
and problems (of one run, over problems alone). trained: mean solved rate of the completions sampled in training. below
start: runs that ended below their start. seconds: of a whole run, the mean; beside the other jobs of the machine.
"""


@dataclass(frozen=True)
class Finished:
    """A finished run, as a table needs it."""

    summary: dict[str, Any]
    before: np.ndarray
    """(P,) whether each problem was solved before training, in the order of their indices."""
    after: np.ndarray
    """(P,) and after."""
    solved: np.ndarray
    """(steps,) solved rate of the completions sampled in each step."""


def read_finished(folder: Path) -> Finished:
    """The finished run in a folder."""
    rates = {
        file: np.array([row["correct"] for row in read_lines(folder / file)], float)
        for file in ("eval/before.jsonl", "eval/after.jsonl", METRICS)
    }
    return Finished(json.loads((folder / SUMMARY).read_text(encoding="utf-8")), *rates.values())


def markdown(cells: Mapping[tuple[str, str], Sequence[Finished]], seeds: int) -> str:
    """The table of the finished runs of each task and setting, and what its columns mean."""
    lines = [HEAD, ["---"] * len(HEAD)]
    for (task, setting), runs in cells.items():
        figures = row(runs) if runs else ["-"] * (len(HEAD) - 3)
        lines.append([task, setting, f"{len(runs)}/{seeds}", *figures])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines) + NOTE


def row(runs: Sequence[Finished]) -> list[str]:
    """The figures of the runs of one cell."""
    before, after = (np.stack([getattr(run, name) for run in runs]) for name in ("before", "after"))
    rates, gain = [mean_over(before), mean_over(after)], mean_over(after - before)
    low, high = gain.gain_interval
    trained = [run.solved.mean() for run in runs if run.solved.size]  # there are runs of no step
    return [
        *(f"{rate.value:.3f} [{a:.3f}, {b:.3f}]" for rate in rates for a, b in [rate.rate_interval]),
        f"{gain.value:+.3f} [{low:+.3f}, {high:+.3f}]",
        f"{np.mean(trained):.3f}" if trained else "-",
        f"{sum(run.after.mean() < run.before.mean() for run in runs)}/{len(runs)}",
        f"{np.mean([run.summary['steps'] for run in runs]):.0f}",
        f"{np.mean([run.summary['seconds'] for run in runs]):.0f}",
    ]


def draw_curves(cells: Mapping[tuple[str, str], Sequence[Finished]], path: Path) -> None:
    """The solved rate in training, a panel for each task and a line for each setting: mean of the seeds, and range."""
    panels: dict[str, dict[str, list[Column]]] = {}
    for (task, setting), runs in cells.items():
        panels.setdefault(task, {})[setting] = [dict(enumerate(run.solved, 1)) for run in runs]
    draw_figure(panels, path)
