"""Prints a Markdown table of finished runs: `python docs/table.py RUN [RUN ...]`."""

import json
import statistics
import sys
from pathlib import Path


def row(run: Path) -> tuple[list[str], float]:
    """The cells of a run, and what it gained."""
    s = json.loads((run / "summary.json").read_text())
    before, after = s["eval_before"], s["eval_after"]
    rates = [f"{e['correct']:.3f} [{e['low']:.3f}, {e['high']:.3f}]" for e in (before, after)]
    return [run.name, str(s["seed"]), str(s["steps"]), *rates, f"{s['gain']:+.3f}", f"{s['seconds']:.0f}"], s[
        "gain"
    ]


def main() -> None:
    """Reads the command line."""
    rows = [row(Path(name)) for name in sys.argv[1:]]
    sys.stdout.write(
        "| run | seed | steps | before | after | gain | seconds |\n|---|---|---|---|---|---|---|\n"
    )
    for cells, _ in rows:
        sys.stdout.write("| " + " | ".join(cells) + " |\n")
    gains = [gain for _, gain in rows]
    if len(gains) > 1:
        spread = statistics.stdev(gains)
        sys.stdout.write(
            f"\nMean gain {statistics.mean(gains):+.3f} (s.d. {spread:.3f}, n = {len(gains)}).\n"
        )


if __name__ == "__main__":
    main()
