"""Draws runs: `python -m spg_trainer.figures curve RUN [RUN ...] -o curve.svg`, `... board RUN -o board.svg`.

curve: the solved rate of the sampled completions at every step, and of each evaluation, one line a run.
board: a completion of the first and of the last samples file, as the terminal shows them.
"""

import argparse
import io
import json
import re
from collections.abc import Sequence
from pathlib import Path

from spg_trainer.files import read_lines, without_folders


def curve(runs: list[Path], output: Path) -> None:
    """One line a run, a moving mean of five steps; marks where it was evaluated."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 3.6), layout="constrained")
    for number, run in enumerate(runs):
        summary = json.loads((run / "summary.json").read_text())
        rows = read_lines(run / "metrics.jsonl")
        solved = [row["correct"] for row in rows]
        smooth = [
            sum(solved[max(0, i - 4) : i + 1]) / len(solved[max(0, i - 4) : i + 1])
            for i in range(len(solved))
        ]
        colour = f"C{number}"
        steps = [row["step"] for row in rows]
        axes.plot(
            steps,
            smooth,
            color=colour,
            label=f"{without_folders(summary['env'])}, {summary['algorithm']}, seed {summary['seed']}",
        )
        points = {0: "before", steps[-1]: "after"} | {
            int(f.stem[5:]): f.stem for f in (run / "eval").glob("step-*.json") if int(f.stem[5:]) < steps[-1]
        }
        for step, name in sorted(points.items()):
            found = json.loads((run / "eval" / f"{name}.json").read_text())
            low, high = found["correct"] - found["low"], found["high"] - found["correct"]
            axes.errorbar(
                step, found["correct"], yerr=[[low], [high]], fmt="o", color=colour, markersize=4, capsize=2
            )
    axes.set(xlabel="step", ylabel="solved", ylim=(-0.02, 1.02))
    axes.set_title(
        "lines: completions sampled in training (mean of 5 steps); dots: greedy, 95% interval", fontsize=9
    )
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, loc="lower right")
    figure.savefig(output)


def board(run: Path, output: Path) -> None:
    """The same problem's completion before and after training."""
    from rich.console import Console
    from rich.text import Text

    from spg_trainer.packages import envs

    recorded = json.loads((run / "environment.json").read_text())
    env = envs.make(recorded["env"], split="test", **recorded["env_args"])
    before, after = (read_lines(run / "eval" / f"{name}.jsonl") for name in ("before", "after"))
    index = next(
        (a["index"] for b, a in zip(before, after, strict=True) if a["correct"] and not b["correct"]), 0
    )
    console = Console(record=True, width=60, file=io.StringIO(), force_terminal=True)
    for name, rows in (("before", before), ("after", after)):
        console.print(f"[b]{name} training[/b], problem {index}:")
        console.print(Text.from_ansi(env.render_text(env.problem(index), rows[index]["completion"])))
        console.print()
    svg = console.export_svg(title=f"{recorded['env']}: greedy completion")
    output.write_text(re.sub(r"@font-face \{.*?\}", "", svg, flags=re.S))  # no font from the network


def main(argv: Sequence[str] | None = None) -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m spg_trainer.figures",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("what", choices=("curve", "board"))
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN")
    parser.add_argument("-o", "--output", type=Path, required=True)
    args = parser.parse_args(argv)
    if args.what == "curve":
        curve(args.runs, args.output)
    else:
        board(args.runs[0], args.output)


if __name__ == "__main__":
    main()
