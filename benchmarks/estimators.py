"""Bias, deviation and cost of every masking and bound against the exact likelihood and the true policy gradient.

Trains a model of 21,000 weights for seconds on a task that can be enumerated (estimator_errors.py says which), then
measures every masking of `spg_trainer.likelihood.MASKINGS` at every number of masks. Some minutes on one core:

    python benchmarks/estimators.py --page docs/estimators.md --plot docs/images/estimators.png
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from estimator_errors import Row

BEGIN, END = "<!-- table: benchmarks/estimators.py -->\n", "<!-- end of table -->\n"
COLUMNS: dict[str, Callable[[Row], str]] = {
    "passes": lambda row: str(row.passes or "-"),
    "bias, any order": lambda row: f"{row.bias_any_order:+.2f}",
    "bias, decoder": lambda row: f"{row.bias_decoder:+.2f}",
    "s.d.": lambda row: f"{row.deviation:.2f}",
    "cosine, mean": lambda row: "-" if math.isnan(row.cosine_mean) else f"{row.cosine_mean:.2f}",
    "cosine, one step": lambda row: f"{row.cosine_step:.2f}",
}


def table(found: Sequence[Row]) -> str:
    """Markdown: a row per masking and bound, in each cell the numbers of masks side by side."""
    counts = sorted({row.num_masks for row in found if row.num_masks})
    lines = [f"| masking | bound | {' | '.join(COLUMNS)} |", "|---" * (len(COLUMNS) + 2) + "|"]
    for key in dict.fromkeys((row.masking, row.bound) for row in found):
        rows = {row.num_masks: row for row in found if (row.masking, row.bound) == key}
        shown = list(rows) if 0 in rows else counts
        cells = [" · ".join(cell(rows[c]) if c in rows else "-" for c in shown) for cell in COLUMNS.values()]
        lines.append(f"| {' | '.join([*key, *cells])} |")
    return "\n".join(lines) + "\n"


def write_page(page: Path, text: str) -> None:
    """Puts the table between the marks of a page."""
    before, _, rest = page.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not end:
        raise SystemExit(f"{page} has no line {BEGIN.strip()!r} with {END.strip()!r} after it; add both.")
    page.write_text(before + BEGIN + text + END + after)


def plot(found: Sequence[Row], output: Path) -> None:
    """Deviation and cosine over forward passes: a colour per masking, the ELBO solid, the mixture dashed."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    names = dict.fromkeys(row.masking for row in found if row.num_masks)
    for number, name in enumerate(names):
        for bound, style in (("elbo", "o-"), ("mix", "s--")):
            rows = [row for row in found if (row.masking, row.bound) == (name, bound)]
            if not rows:
                continue
            passes = [row.passes for row in rows]
            look = {"color": f"C{number}", "label": f"{name}, {bound}", "ms": 4}
            left.plot(passes, [row.deviation for row in rows], style, **look)
            right.plot(passes, [row.cosine_step for row in rows], style, **look)
    for row in (row for row in found if row.masking == "exact" and row.bound.startswith("log p")):
        right.axhline(row.cosine_step, color="black", lw=0.8, ls=":")
        place = {"xy": (0.01, row.cosine_step), "xycoords": ("axes fraction", "data"), "va": "bottom"}
        right.annotate(f"exact {row.bound}", fontsize=8, **place)
    ticks = sorted({row.passes for row in found if row.num_masks})
    for axes in (left, right):
        axes.set_xscale("log", base=2)
        axes.set_xticks(ticks, [str(tick) for tick in ticks])
        axes.set_xlabel("forward passes per completion")
        axes.grid(alpha=0.3)
    left.set(ylabel="nats", ylim=(0, None), title="standard deviation of the bound over masks")
    right.set(ylim=(0, 1), title="cosine of one step's gradient with the policy gradient")
    left.legend(fontsize=8, ncols=2, loc="upper right")
    figure.savefig(output, dpi=110)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--masks", type=int, nargs="+", default=[1, 2, 4, 8], help="numbers of masks M")
    parser.add_argument("--completions", type=int, default=32, help="per prompt, to score")
    parser.add_argument("--repeats", type=int, default=128, help="draws of the masks of each of them")
    parser.add_argument("--steps", type=int, default=256, help="steps whose gradient is taken")
    parser.add_argument("--oracle-steps", type=int, default=64, help="the same for exact likelihoods")
    parser.add_argument("--training-steps", type=int, default=1200, help="supervised steps before")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--page", type=Path, help="Markdown file with the marks between which the table goes")
    parser.add_argument("--plot", type=Path, help="PNG to write")
    return parser.parse_args()


def main() -> None:
    given = arguments()
    import torch
    from estimator_errors import find_truth, measure, train_model

    torch.set_num_threads(given.threads)
    policy = train_model(given.training_steps, given.seed)
    found = []
    for row in measure(
        policy,
        find_truth(policy),
        num_masks=given.masks,
        completions=given.completions,
        repeats=given.repeats,
        steps=given.steps,
        oracle_steps=given.oracle_steps,
        seed=given.seed,
    ):
        found.append(row)
        print(f"{row.masking}, {row.bound}, M = {row.num_masks}", file=sys.stderr, flush=True)
    if given.page:
        write_page(given.page, table(found))
    if given.plot:
        plot(found, given.plot)
    print(table(found), end="")


if __name__ == "__main__":
    main()
