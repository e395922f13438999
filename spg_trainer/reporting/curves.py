"""Draws learning curves: the panels of a report, and the figure of a comparison."""

import io
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING

import numpy as np

from spg_trainer.reporting.runs import Completions, Recorded, Row
from spg_trainer.runs.files import writing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Column = Mapping[int, float | None]
"""Step -> a run's value there."""
Groups = Mapping[str, Sequence[Recorded]]
"""Label -> runs of one setting; several runs are drawn as their mean and range."""
WINDOW = 5
"""How many values the moving mean of a single run spans."""
SHORT = 24
"""Labels of up to this many characters stand two in a row of the legend."""
STYLE = {
    **dict.fromkeys(
        ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), "#808080"
    ),
    "svg.fonttype": "none",
    "font.size": 11,
    "legend.fontsize": 11,
}
"""Style of all figures. Grey can be read on a light page and on a dark one. Sizes of fonts are in typographic points,
and `NARROW` is such that a point is at least a pixel on the page."""
POINTS_PER_INCH = 72
WIDE, NARROW = 4.2, 226 / POINTS_PER_INCH
"""Widths in inches: of a figure in its own file, and of a panel. The page scales a panel to the width of its place,
which is 226 pixels at least (`page.css`), so a panel of 226 points is never made smaller."""
UNTITLED = ""
"""The title of the axes in a figure of a single panel, whose title stands elsewhere, such as above it on the page."""
UNDER_AXIS = 3.8
"""How far below an axis the legend begins, in heights of the font: the axis' numbers and name stand in between."""
METADATA = dict.fromkeys(("Date", "Creator", "Format", "Type"))
"""The metadata of an SVG: none, since they would differ between equal figures."""


@dataclass(frozen=True)
class Panel:
    """Some metrics on one axis."""

    title: str
    metrics: str
    """A pattern of whole names in metrics.jsonl or timings.jsonl."""
    note: str
    low: float | None = None
    """Lower end of the axis; None = as the values are."""
    high: float | None = None
    """Upper end of the axis, in the same way."""
    parts: tuple[str, ...] = ()
    """Names of `PARTS` that add up to 1 at each step. For one setting they are drawn as areas; for several settings,
    only the first part is drawn, as lines."""


PARTS: dict[str, Callable[[Row], float]] = {
    "mixed": lambda row: 1 - row["frac_groups_all_correct"] - row["frac_groups_all_wrong"],
    "all right": lambda row: row["frac_groups_all_correct"],
    "all wrong": lambda row: row["frac_groups_all_wrong"] - row["frac_groups_wrong_identical"],
    "all wrong, the same text": lambda row: row["frac_groups_wrong_identical"],
}
"""{kind of group: its share of all groups, from a row of metrics.jsonl}."""
COLOURS = {
    "mixed": "tab:blue",
    "all right": "tab:green",
    "all wrong": "tab:orange",
    "all wrong, the same text": "tab:red",
}
"""The colours of `PARTS`: groups to learn from are blue, solved groups green, other groups without a signal orange and
red."""
SOLVED = Panel(
    "Solved",
    "correct",
    "share of sampled completions that are right; dots are evaluations, greedy",
    low=0,
    high=1,
)
PANELS = (
    SOLVED,
    Panel("Solved, by task", ".+/solved", "as above, of each task of a mixture", low=0, high=1),
    Panel("Reward", "reward", "mean of sampled completions"),
    Panel(
        "Reward components", "rewards/.+/mean", "each on its own, those of weight 0 too; dots are evaluations"
    ),
    Panel(
        "Group signal",
        "frac_groups_all_correct",
        "shares of groups; most algorithms learn from mixed ones alone",
        low=0,
        high=1,
        parts=tuple(PARTS),
    ),
    Panel(
        "Problems drawn",
        "rollout_batches|(groups|pools)/all_(right|wrong)",
        "batches of a step; groups set aside; problems that --pools draws less often",
        low=0,
    ),
    Panel(
        "Bounds",
        "bound/(elbo|eubo|elbo_eps)|surrogate/flat",
        "nats a token; an EUBO is a penalty, no certified upper bound, and flat is no bound",
    ),
    Panel("Entropy", ".*entropy.*", "nats a token, of those sampled", low=0),
    Panel("Ratio and KL", "ratio/.+|kl", "of algorithms that have them"),
    Panel(
        "Loss",
        "loss|validation/loss",
        "of demonstrations, nats a token; of RL its value means little, its jumps do",
    ),
    Panel("Learning rate", "learning_rate", "of the last update of a step", low=0),
    Panel("Gradient norm", "grad_norm", "before clipping", low=0),
    Panel("Length", "completions/mean_length", "tokens of a completion; dots are evaluations"),
    Panel(
        "Repetition",
        "completions/repeated_4grams",
        "share of runs of 4 tokens that a completion had before",
        low=0,
    ),
    Panel(
        "Reward and length",
        "completions/reward_length_correlation",
        "correlation in a step; near 1 or -1, length alone is paid",
        low=-1,
        high=1,
    ),
    Panel("Speed", "tokens_per_second", "tokens sampled a second", low=0),
)


def draw_panels(groups: Groups) -> list[dict[str, str]]:
    """{"title": ..., "note": ..., "svg": ...} of every panel that has values."""
    runs = [run for members in groups.values() for run in members]
    rows = [row for run in runs for row in run.metrics]
    recorded = list(dict.fromkeys(name for row in rows for name in row))
    # A run that learns from given completions samples none: only the dots of its evaluations are drawn.
    evaluated_steps = [evaluation.step for run in runs for evaluation in run.evaluations]
    has_dots = any(step is not None for step in evaluated_steps)
    if has_dots and "correct" not in recorded:
        recorded.append("correct")
    panels = []
    for panel in PANELS:
        metrics = [name for name in recorded if re.fullmatch(panel.metrics, name)]
        if not metrics:
            continue
        for title, names in _names_by_title(panel, metrics, has_one_setting=len(groups) == 1).items():
            panels.append({"title": title, "note": panel.note, "svg": _svg(panel, title, names, groups)})
    return panels


def _names_by_title(panel: Panel, metrics: Sequence[str], has_one_setting: bool) -> dict[str, Sequence[str]]:
    """{title: the metrics or `PARTS` that are drawn together} of a panel. metrics: those that the runs recorded."""
    if has_one_setting:
        return {panel.title: panel.parts or metrics}
    if panel.parts:  # areas of several settings would hide each other
        first_part = panel.parts[0]
        return {f"{panel.title}: {first_part}": [first_part]}
    if len(metrics) == 1:
        return {panel.title: metrics}
    # Lines of several metrics and several settings at once would need two kinds of colour.
    return {f"{panel.title}: {name}": [name] for name in metrics}


def _svg(panel: Panel, title: str, names: Sequence[str], groups: Groups) -> str:
    """The SVG of a panel, as wide as its place on the page."""
    import matplotlib

    text = io.StringIO()
    with matplotlib.rc_context({**STYLE, "svg.hashsalt": title}):  # ids that no other panel of the page has
        figure = draw_figure({UNTITLED: groups}, panel, names, NARROW)
        figure.savefig(text, format="svg", transparent=True, metadata=METADATA)
    svg = text.getvalue()
    svg = re.sub(r' (?:width|height)="[\d.]+pt"', "", svg[svg.index("<svg") :], count=2)
    return svg.replace("<svg", f'<svg role="img" aria-label="{title}"', 1)


def draw_solved(tasks: Mapping[str, Groups], path: Path) -> None:
    """Writes the solved rates as an SVG, a panel for each task. Equal runs give equal bytes."""
    import matplotlib

    style = {"svg.hashsalt": "spg-trainer", "svg.fonttype": "none", "legend.fontsize": 8.5}
    with matplotlib.rc_context(style), writing(path):
        draw_figure(tasks).savefig(path, metadata=METADATA)


def draw_figure(
    tasks: Mapping[str, Groups],
    panel: Panel = SOLVED,
    names: Sequence[str] = ("correct",),
    width: float = WIDE,
) -> "Figure":
    """A figure with axes for each task, and in them a line for each of `names` and each setting.

    The legend names the last value of each line.

    tasks: {title of the axes: the groups that they show}; `UNTITLED` alone for a single panel. names: metrics, or names
    of `PARTS`. width: in inches.
    """
    from matplotlib import rcParams
    from matplotlib.figure import Figure
    from matplotlib.transforms import ScaledTranslation

    # In a single panel of a single setting, the legend names metrics instead of settings.
    is_single_panel = [*tasks] == [UNTITLED]
    has_one_setting = is_single_panel and len(tasks[UNTITLED]) == 1
    labels = [*dict.fromkeys(label for groups in tasks.values() for label in groups)]
    columns, font_size, characters, legend_height = legend_layout(
        [*names] if has_one_setting else labels, width
    )
    # Without its legend, a panel is 0.62 times as high as it is wide.
    height = 0.62 * width + legend_height
    figure = Figure(figsize=(width, height * len(tasks)), layout="constrained")
    for axes, (title, groups) in zip(
        figure.subplots(len(tasks), squeeze=False).flat, tasks.items(), strict=True
    ):
        if panel.parts and len(groups) == 1:
            (runs,) = groups.values()
            stack(axes, runs, names)
            lines = []
        else:
            lines = [(label, name) for label in groups for name in names]
        for number, (label, name) in enumerate(lines):
            mean = plot(axes, [column(run, name) for run in groups[label]], f"C{number}")
            shown_name = name if has_one_setting else label
            text = f"{shown_name}, last {mean[-1]:,.4g}" if mean.size else shown_name
            # A line without points, for the legend.
            axes.plot([], [], color=f"C{number}", label="\n".join(wrap(text, characters)))
            for run in groups[label]:
                mark_evaluations(axes, run, name, f"C{number}")
        # A little room above the highest possible value, so that a line there is seen in its full width.
        top = None if panel.high is None else panel.high * 1.03
        axes.set(title=title, ylim=(panel.low, top))
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.yaxis.get_major_formatter().set_useOffset(False)
        axes.set_xlabel("step")
        axes.grid(alpha=0.3)
        axes.set_frame_on(False)
        # Below the numbers and the name of the axis, whose height depends on the font, not on the panel's height.
        inches_below = UNDER_AXIS * rcParams["font.size"] / POINTS_PER_INCH
        below = ScaledTranslation(0, -inches_below, figure.dpi_scale_trans)
        axes.legend(
            loc="upper left",
            bbox_to_anchor=(-0.1, 0),
            bbox_transform=axes.transAxes + below,
            borderaxespad=0,
            ncols=columns,
            fontsize=font_size,
            frameon=False,
            handlelength=1,
        )
    return figure


def legend_layout(labels: Sequence[str], width: float) -> tuple[int, float, int, float]:
    """(columns, font size, characters of a line, height) of the legend below a figure with these labels.

    Font size in points, height in inches. width: of the figure, in inches.
    """
    from matplotlib import rcParams

    columns = 1 if max(map(len, labels)) > SHORT or width < WIDE else 2
    size = rcParams["legend.fontsize"] if isinstance(rcParams["legend.fontsize"], float) else 8.5
    # Text gets 0.8 of the width, since margins and the mark before each label take the rest. A character is on average
    # some 0.55 times as wide as the font is high.
    characters = int(width * POINTS_PER_INCH * 0.8 / (0.55 * size))
    lines = sum(len(wrap(f"{label}, last 0.0000", characters)) for label in labels)
    # In inches; with the space between lines, this is 1.44 (72 / 50) times the height of the font.
    line_height = size / 50
    return columns, size, characters, line_height * math.ceil(lines / columns)


def column(run: Recorded, metric: str) -> Column:
    """{step: a metric of a run, or one of `PARTS`}; None where the run does not have it, e.g. groups in `sft`."""
    read = PARTS.get(metric, lambda row: row.get(metric))
    has_no_groups = metric in PARTS and not any("frac_groups_all_correct" in row for row in run.metrics)
    return {row["step"]: None if has_no_groups else read(row) for row in run.metrics}


def stack(axes: "Axes", runs: Sequence[Recorded], names: Sequence[str]) -> None:
    """Draws shares that add up to 1, in the mean of the runs, as areas on top of each other."""
    means = []
    for name in names:
        steps, values = aligned([column(run, name) for run in runs])
        means.append(np.nanmean(values, 0))
    labels = [f"{name} {mean[-1]:.2f}" for name, mean in zip(names, means, strict=True)]
    axes.stackplot(
        steps, means, labels=labels, colors=[COLOURS[name] for name in names], alpha=0.6, linewidth=0
    )


def plot(axes: "Axes", columns: Sequence[Column], colour: str) -> np.ndarray:
    """Draws mean and range of several runs, or one run's values (pale) and their moving mean. Returns the mean (N,)."""
    steps, values = aligned(columns)
    if not steps.size:
        return steps  # an empty array
    mean = line = np.nanmean(values, 0)
    if len(values) > 1:
        low, high = np.nanmin(values, 0), np.nanmax(values, 0)
        axes.fill_between(steps, low, high, color=colour, alpha=0.18, linewidth=0)
    else:
        axes.plot(steps, mean, color=colour, linewidth=0.8, alpha=0.4)
        # The mean of each value and the `WINDOW` - 1 values before it, or fewer at the start.
        line = np.array([np.nanmean(mean[max(0, i + 1 - WINDOW) : i + 1]) for i in range(len(mean))])
    axes.plot(steps, line, color=colour, linewidth=1.6)
    return mean


def mark_evaluations(axes: "Axes", run: Recorded, name: str, colour: str) -> None:
    """Draws dots where the metric was evaluated (hollow: on validation problems), and a line at the kept step."""
    if name == "correct" and run.kept_step is not None:
        axes.axvline(run.kept_step, color=colour, linewidth=1, linestyle=(0, (3, 3)))
    for evaluation in run.evaluations:
        value = evaluated(evaluation, name)
        if evaluation.step is None or value is None:
            continue
        inside = "none" if evaluation.split == "validation" else colour
        axes.plot(
            evaluation.step, value, "o", color=colour, markerfacecolor=inside, markersize=5, clip_on=False
        )
        if name == "correct":
            axes.plot(
                [evaluation.step] * 2,
                [evaluation.figures["low"], evaluation.figures["high"]],
                color=colour,
                linewidth=1.2,
            )


def evaluated(evaluation: Completions, metric: str) -> float | None:
    """An evaluation's value of a metric; None if it does not measure it."""
    values = {f"rewards/{name}/mean": value for name, value in evaluation.figures["rewards"].items()}
    values |= {
        f"{task}/solved": figures["solved"] for task, figures in evaluation.figures.get("tasks", {}).items()
    }
    values |= {
        "correct": evaluation.figures["correct"],
        "completions/mean_length": evaluation.figures["mean_length"],
    }
    return values.get(metric)


def aligned(columns: Sequence[Column]) -> tuple[np.ndarray, np.ndarray]:
    """(the steps (N,) at which any run has a value, the values (runs, N)).

    A value is NaN where a run has none, e.g. because it ended.
    """
    steps = sorted({step for values in columns for step, value in values.items() if value is not None})
    table = np.full((len(columns), len(steps)), np.nan)
    for row, values_of_run in enumerate(columns):
        for number, step in enumerate(steps):
            value = values_of_run.get(step)
            if value is not None:
                table[row, number] = value
    return np.array(steps), table
