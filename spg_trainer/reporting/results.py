"""What finished runs show together: rates and gains with their intervals, as a table and as curves."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from spg_trainer.reporting.curves import Column, draw_figure
from spg_trainer.runs.files import read_lines
from spg_trainer.runs.folder import METRICS, SUMMARY, TIMINGS
from spg_trainer.settings.packages import verifiers

Cells = Mapping[tuple[str, str], Sequence["Finished"]]
"""(task, setting) -> its finished runs, one a seed."""
Z = 1.959964
"""The normal quantile of 95% intervals."""


ENDS = ("steps", "max_steps", "seconds", "ended_by")
"""Of summary.json: how a run ended."""


@dataclass(frozen=True)
class Finished:
    """A finished run, as a table needs it."""

    summary: Mapping[str, Any]
    """At least `ENDS`; `validation`, which is None or missing where nothing was validated."""
    before: np.ndarray
    """(P,) whether each problem was solved before training, in the order of their indices."""
    after: np.ndarray
    """(P,) and after."""
    solved: np.ndarray
    """(steps,) solved rate of the completions sampled in each step."""
    seconds: np.ndarray
    """(steps,) seconds of each step: rollout and updates."""


def read_run(folder: Path) -> Finished:
    """A finished run of `train`; its curve is rounded, so that it is the same from `pack`."""
    before, after = (
        np.array([row["correct"] for row in read_lines(folder / "eval" / f"{name}.jsonl")], float)
        for name in ("before", "after")
    )
    seconds = [row["rollout"] + row["update"] for row in read_lines(folder / TIMINGS)]
    return Finished(
        json.loads((folder / SUMMARY).read_text(encoding="utf-8")),
        before,
        after,
        np.round([row["correct"] for row in read_lines(folder / METRICS)], 4),
        np.round(seconds, 3),
    )


def pack(run: Finished) -> dict[str, Any]:
    """A finished run for JSON, as `unpack` reads it: about 800 bytes and 14 for each step."""
    return {
        **{name: run.summary[name] for name in ENDS},
        "validation": run.summary.get("validation"),
        "before": "".join("01"[solved] for solved in run.before.astype(int)),
        "after": "".join("01"[solved] for solved in run.after.astype(int)),
        "curve": run.solved.tolist(),
        "step_seconds": run.seconds.tolist(),
    }


def unpack(record: Mapping[str, Any]) -> Finished:
    """What `pack` wrote."""
    return Finished(
        {**{name: record[name] for name in ENDS}, "validation": record.get("validation")},
        np.array([*record["before"]], float),
        np.array([*record["after"]], float),
        np.array(record["curve"], float),
        np.array(record["step_seconds"], float),
    )


@dataclass(frozen=True)
class Mean:
    """A mean over S seeds and P problems, its variance and its quantile of 95%."""

    value: float
    variance: float
    quantile: float
    shape: tuple[int, int]

    @property
    def interval(self) -> tuple[float, float]:
        """Of any quantity."""
        reach = self.quantile * math.sqrt(self.variance)
        return self.value - reach, self.value + reach

    @property
    def gain_interval(self) -> tuple[float, float]:
        """Of a difference of rates, which lies between -1 and 1."""
        low, high = self.interval
        return max(low, -1.0), min(high, 1.0)

    @property
    def rate_interval(self) -> tuple[float, float]:
        """Of a rate: Wilson's, of as many problems as would have this variance; one seed is Wilson's as it is."""
        seeds, problems = self.shape
        if seeds == 1 or self.variance == 0:
            return verifiers.statistics.wilson_interval(self.value * problems, problems)
        n = min(self.value * (1 - self.value) / self.variance, seeds * problems)
        return verifiers.statistics.wilson_interval(self.value * n, n, self.quantile)


def mean_over(values: np.ndarray) -> Mean:
    """The mean of `values` (S, P), of S seeds on the same P problems, as an estimate for other seeds and problems.

    Two-way analysis of variance with random seeds and problems, one value in each cell; components below zero count as
    zero; degrees of freedom by Satterthwaite (1946). One seed: its problems alone, the spread of seeds is not known.
    """
    seeds, problems = values.shape
    mean = float(values.mean())
    of_seeds, of_problems = values.mean(1, keepdims=True) - mean, values.mean(0, keepdims=True) - mean
    more = max(problems - 1, 1)
    if seeds == 1:
        return Mean(mean, float((of_problems**2).sum() / more / problems), Z, (seeds, problems))
    rest = values - mean - of_seeds - of_problems
    degrees = np.array([seeds - 1, more, (seeds - 1) * more])
    sums = [problems * (of_seeds**2).sum(), seeds * (of_problems**2).sum(), (rest**2).sum()]
    squares = np.array(sums) / degrees
    signs = max(([1, 1, -1], [1, 0, 0], [0, 1, 0]), key=lambda signs: float(squares @ signs))
    total = float(squares @ signs)
    freedom = total**2 / float((squares**2 / degrees) @ np.abs(signs)) if total else math.inf
    return Mean(mean, total / (seeds * problems), t_quantile(max(freedom, seeds - 1)), (seeds, problems))


def t_quantile(freedom: float) -> float:
    """The 97.5% quantile of Student's t with `freedom` > 0 degrees of freedom, by its incomplete beta function."""
    if math.isinf(freedom):
        return Z
    import mpmath

    def beyond(t: float) -> Any:
        return mpmath.betainc(freedom / 2, 0.5, 0, freedom / (freedom + t * t), regularized=True) - 0.05

    return float(mpmath.findroot(beyond, (Z, 13), solver="anderson"))


def markdown(cells: Cells, seeds: int, *, by_time: bool = False) -> str:
    """The table of a comparison, a row for each cell, and what its columns mean. by_time: see `area`."""
    head = (
        "task, setting, runs, before, after, gain, verdict, trained, below start, last below, steps, seconds"
    )
    head = head.split(", ")
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for (task, setting), runs in cells.items():
        figures = row(runs, by_time) if runs else ["-"] * (len(head) - 3)
        lines.append(f"| {' | '.join([task, setting, f'{len(runs)}/{seeds}', *figures])} |")
    weight = "over time" if by_time else "over the steps"
    lines += [
        "",
        "before, after: greedy solved rate of the evaluated problems; gain: after - before. Brackets: 95% intervals",
        "over seeds and problems (of one run, over problems alone). verdict: better or worse where the interval of the",
        "gain leaves out 0. trained: mean solved rate of the completions sampled in training,",
        f"{weight} (the area under the curve). below start: runs that ended below their start; last below: whose last",
        "step solved fewer validation problems than the start (model/ is an earlier step then; - where a run has no",
        "validation, or its record none). seconds: of a whole run, the mean; beside the other jobs of the machine.",
    ]
    return "\n".join(lines) + "\n"


def row(runs: Sequence[Finished], by_time: bool) -> list[str]:
    """The figures of the runs of one cell."""
    before, after = (np.stack([getattr(run, name) for run in runs]) for name in ("before", "after"))
    gain, rates = mean_over(after - before), [mean_over(before), mean_over(after)]
    low, high = gain.gain_interval
    shown = [f"{rate.value:.3f} [{a:.3f}, {b:.3f}]" for rate in rates for a, b in [rate.rate_interval]]
    below = sum(run.after.mean() < run.before.mean() for run in runs)
    validations = [run.summary.get("validation") for run in runs]
    known = all(found and found["start"] is not None for found in validations)
    fallen = sum(found["last"] < found["start"] for found in validations) if known else 0
    areas = [area(run, by_time) for run in runs if run.solved.size]  # minutes may end before the first step
    return [
        *shown,
        f"{gain.value:+.3f} [{low:+.3f}, {high:+.3f}]",
        verdict(low, high),
        f"{np.mean(areas):.3f}" if areas else "-",
        f"{below}/{len(runs)}",
        f"{fallen}/{len(runs)}" if known else "-",
        f"{np.mean([run.summary['steps'] for run in runs]):.0f}",
        f"{np.mean([run.summary['seconds'] for run in runs]):.0f}",
    ]


def verdict(low: float, high: float) -> str:
    """What the interval of a gain says."""
    return "better" if low > 0 else "worse" if high < 0 else "-"


def area(run: Finished, by_time: bool) -> float:
    """The area under the curve of the solved rate in training, 0..1: its mean over steps, or over their time."""
    return float(np.average(run.solved, weights=run.seconds if by_time else None))


def draw_curves(cells: Cells, path: Path, *, by_time: bool = False) -> None:
    """The solved rate in training, a panel for each task and a line for each setting: mean of the seeds, and range.

    by_time: over minutes of rollouts and updates in place of steps.
    """
    panels: dict[str, dict[str, list[Column]]] = {}
    for (task, setting), runs in cells.items():
        every = [run for run in runs if run.solved.size]
        panels.setdefault(task, {})[setting] = (
            by_minute(every) if by_time else [dict(enumerate(run.solved, 1)) for run in every]
        )
    draw_figure(panels, path, x="minutes" if by_time else "step")


def by_minute(runs: Sequence[Finished]) -> list[Column]:
    """The solved rates at 60 moments of all runs; of each from the end of its first step to that of its last."""
    ends = [run.seconds.cumsum() / 60 for run in runs]
    x = np.linspace(min((end[0] for end in ends), default=0), max((end[-1] for end in ends), default=0), 60)
    inside = {"left": np.nan, "right": np.nan}
    return [
        dict(zip(x, np.interp(x, end, run.solved, **inside), strict=True))
        for end, run in zip(ends, runs, strict=True)
    ]
