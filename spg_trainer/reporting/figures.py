"""Draws runs: `python -m spg_trainer.reporting.figures curve RUN [RUN ...] -o curve.svg`, `... board RUN -o board.svg`.

curve: the solved rate of the sampled completions at every step, and of each evaluation, one line a run.
board: a completion of the first and of the last samples file, as the terminal shows them.
"""

import argparse
import io
import json
import re
from collections.abc import Sequence
from pathlib import Path

from spg_trainer.reporting.curves import column, draw_figure
from spg_trainer.reporting.runs import read_run
from spg_trainer.runs.files import read_lines, without_folders


def curve(runs: list[Path], output: Path) -> None:
    """One line a run, and the evaluations on it, that of `model/` at the step of its weights."""
    read = [read_run(run) for run in runs]
    labels = [
        f"{without_folders(run.config.env)}, {run.config.algorithm}, seed {run.config.seed}" for run in read
    ]
    if len(set(labels)) < len(labels):
        labels = [f"{label}, {run.path.name}" for label, run in zip(labels, read, strict=True)]
    lines = {label: [column(run, "correct")] for label, run in zip(labels, read, strict=True)}
    draw_figure({"": lines}, output, marks=dict(zip(labels, read, strict=True)))


def board(run: Path, output: Path) -> None:
    """The same problem's completion before and after training."""
    from rich.console import Console
    from rich.text import Text

    from spg_trainer.settings.packages import envs

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
        prog="python -m spg_trainer.reporting.figures",
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
