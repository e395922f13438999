"""Draws the figures at the top of pages of docs/experiments from tables of these pages.

    python benchmarks/page_figures.py level4 docs/images/level4.svg
    python benchmarks/page_figures.py speed docs/images/speed.svg

A figure cannot differ from its table: it has no numbers of its own.
"""

import argparse
import re
from pathlib import Path

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt

EXPERIMENTS = Path(__file__).resolve().parents[1] / "docs" / "experiments"
STYLE = {"svg.fonttype": "none", "svg.hashsalt": "page", "font.size": 9}
STYLE |= dict.fromkeys(
    ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), "#808080"
)
BLUE, ORANGE, GREY = "#4477aa", "#ee7733", "#999999"
METADATA = dict.fromkeys(("Date", "Creator"))


def table_rows(page: str, header: str) -> list[list[str]]:
    """The cells of the rows of the table whose first line begins with `header`."""
    lines = (EXPERIMENTS / page).read_text(encoding="utf-8").splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith(header))
    rows = []
    for line in lines[start + 2 :]:  # below the header and its rule
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return rows


def draw_level4(file: Path) -> None:
    """The gain of each algorithm on Sudoku level 4, with its 95% interval."""
    gains = []
    for name, _, _, gain, _ in table_rows("algorithms.md", "| algorithm | seeds 0, 1, ... | mean | gain |"):
        middle, low, high = map(float, re.findall(r"[+-]\d\.\d+", gain))
        gains.append((name.replace("`", ""), middle, low, high))
    figure, axes = plt.subplots(figsize=(6.4, 5.6))
    for place, (_, middle, low, high) in enumerate(reversed(gains)):
        color = BLUE if low > 0 else ORANGE if high < 0 else GREY
        axes.plot([low, high], [place, place], color=color, linewidth=1.5)
        axes.plot([middle], [place], "o", color=color, markersize=4)
    axes.set_yticks(range(len(gains)), [name for name, *_ in reversed(gains)])
    axes.axvline(0, color="#808080", linewidth=0.8)
    axes.set_xlabel("gain in the solved rate after 40 steps, with its 95% interval")
    save(figure, axes, file)


def draw_speed(file: Path) -> None:
    """How many times as fast as a named baseline, on a logarithmic axis."""
    bars = []
    for name, _, _, ratio in table_rows("speed.md", "| ours, against | theirs, s | ours, s | ratio |"):
        bars.append(
            (f"decoding: {' against '.join(name.rsplit(', ', 1))}", float(ratio.partition("x")[0]), BLUE)
        )
    for task, real, *_ in table_rows("verdicts.md", "| task | real | 900 characters |"):
        bars.append((f"verdicts: {task.strip('`')}", float(re.findall(r"\(([\d.]+)x\)", real)[0]), ORANGE))
    figure, axes = plt.subplots(figsize=(6.4, 2.8))
    for place, (_, ratio, color) in enumerate(reversed(bars)):
        axes.barh(place, ratio - 1, left=1, color=color, height=0.6)
        axes.annotate(f"{ratio:g}x", (ratio, place), xytext=(3, 0), textcoords="offset points", va="center")
    axes.set_xscale("log")
    axes.set_xlim(1, 600)
    axes.set_xticks([1, 10, 100], ["1", "10", "100"])
    axes.set_yticks(range(len(bars)), [name for name, *_ in reversed(bars)])
    axes.set_xlabel("times as fast as the baseline that is named")
    save(figure, axes, file)


def save(figure: plt.Figure, axes: plt.Axes, file: Path) -> None:
    """Writes a figure that is the same on each machine, and can be read on a light page and on a dark one."""
    axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(file, transparent=True, metadata=METADATA)


FIGURES = {"level4": draw_level4, "speed": draw_speed}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("figure", choices=FIGURES)
    parser.add_argument("file", type=Path, help="where to write the SVG")
    args = parser.parse_args()
    with plt.rc_context(STYLE):
        FIGURES[args.figure](args.file)


if __name__ == "__main__":
    main()
