"""The table of a comparison: solved rates of finished runs, with their intervals."""

from collections.abc import Mapping, Sequence

import numpy as np

from spg_trainer.reporting.runs import Recorded
from spg_trainer.reporting.statistics import mean_over

HEAD = ("task", "setting", "runs", "before", "after", "gain", "trained", "below start", "steps", "seconds")
NOTE = """
before, after: greedy solved rate of the evaluated problems; gain: after - before. Brackets: 95% intervals over seeds
and problems (of one run, over problems alone). trained: mean solved rate of the completions sampled in training. below
start: runs that ended below their start. seconds: of a whole run, the mean; beside the other jobs of the machine.
"""


def markdown(cells: Mapping[tuple[str, str], Sequence[Recorded]], seeds: int) -> str:
    """The table of the finished runs of each task and setting, and what its columns mean."""
    lines = [HEAD, ["---"] * len(HEAD)]
    for (task, setting), runs in cells.items():
        figures = row(runs) if runs else ["-"] * (len(HEAD) - 3)
        lines.append([task, setting, f"{len(runs)}/{seeds}", *figures])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines) + NOTE


def row(runs: Sequence[Recorded]) -> list[str]:
    """The figures of the runs of one cell."""
    before, after = (np.stack([run.before_after[i].correct for run in runs]) for i in (0, 1))
    rates, gain = [mean_over(before), mean_over(after)], mean_over(after - before)
    low, high = gain.gain_interval
    trained = [np.mean([step["correct"] for step in run.metrics]) for run in runs if run.metrics]
    return [
        *(f"{rate.value:.3f} [{a:.3f}, {b:.3f}]" for rate in rates for a, b in [rate.rate_interval]),
        f"{gain.value:+.3f} [{low:+.3f}, {high:+.3f}]",
        f"{np.mean(trained):.3f}" if trained else "-",
        f"{(after.mean(1) < before.mean(1)).sum()}/{len(runs)}",
        f"{np.mean([run.summary['steps'] for run in runs]):.0f}",
        f"{np.mean([run.summary['seconds'] for run in runs]):.0f}",
    ]
