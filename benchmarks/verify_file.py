"""Peak memory and lines per second of `python -m verifiers` over a short file and a long one.

The files hold Sudoku samples as a training run writes them, generated here. Memory is the peak resident size
of the command as the system counted it; the bar is that ten times the lines need at most 1.2 times as much.

    python benchmarks/verify_file.py [--rows 1000000] [--characters 300] [--workers 1] [--folder DIR]
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

_SOLUTION = "4321124334122134"


def write_samples(path: Path, rows: int, characters: int) -> None:
    """`rows` samples with about that much text before the answer; four in ten are right."""
    rng = random.Random(0)
    words = "we fill the row column box digit so that each is once 1 2 3 4".split()
    with path.open("w") as file:
        for index in range(rows):
            text = " ".join(rng.choices(words, k=characters // 4))
            answer = _SOLUTION if rng.random() < 0.4 else "".join(rng.choices("1234", k=16))
            row = {"step": 1, "env": "sudoku", "index": index, "generation": 0, "reward": 0.0}
            row |= {"completion": f"{text}\n<answer>{answer}</answer>", "puzzle": "4320004330100004"}
            file.write(json.dumps(row) + "\n")


# The peak is asked for in the process itself: what the system reports of a child includes its parent's.
_RUN = """
import os, resource, sys
from verifiers.__main__ import main
if main(sys.argv[1:]):
    sys.exit(1)
try:
    with open("/proc/self/status") as file:
        peak = next(int(line.split()[1]) for line in file if line.startswith("VmHWM")) / 1024
except OSError:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
print(peak, sum(os.times()[:4]))
"""


def measure(path: Path, workers: int, output: Path) -> tuple[float, float, float, dict]:
    """(peak MiB, seconds, seconds of processor time of all its processes, summary) of one run of the command."""
    line = [sys.executable, "-c", _RUN, "sudoku", str(path), "--json", "--output", str(output)]
    start = time.monotonic()
    done = subprocess.run([*line, "--workers", str(workers)], stdout=subprocess.PIPE, text=True, check=True)
    facts, figures = done.stdout.splitlines()
    peak, busy = map(float, figures.split())
    return peak, time.monotonic() - start, busy, json.loads(facts)


def check(output: Path) -> tuple[bool, str]:
    """(if line numbers rise from 1 without a gap, checksum) of a file of verdicts."""
    kept, digest = True, hashlib.sha256()
    with output.open("rb") as file:
        for number, line in enumerate(file, 1):
            kept &= line.startswith(b'{"line": %d, ' % number)
            digest.update(line)
    return kept, digest.hexdigest()


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="Memory and rate of the command over files of two lengths.")
    parser.add_argument(
        "--rows", type=int, default=1_000_000, help="lines of the long file; the short has a tenth"
    )
    parser.add_argument("--characters", type=int, default=300, help="text before each answer (300)")
    parser.add_argument(
        "--workers", type=int, nargs="+", default=[1], help="processes, several for several rows"
    )
    parser.add_argument("--folder", default=None, help="where the files go for the time of the run")
    args = parser.parse_args()
    rows = [
        "| lines | MiB | workers | peak memory, MiB | against a tenth | seconds | lines/s "
        "| lines per second of processor time | order kept |",
        "|---:|---:|---:|---:|---:|---:|---:|---:|---|",
    ]
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        before: dict[int, float] = {}
        output = Path(folder) / "verdicts.jsonl"
        for count in (args.rows // 10, args.rows):
            path = Path(folder) / "samples.jsonl"
            write_samples(path, count, args.characters)
            seen = set()
            for workers in args.workers:
                peak, seconds, busy, facts = measure(path, workers, output)
                kept, digest = check(output)
                seen.add(digest)
                size = path.stat().st_size / 2**20
                order = "yes" if kept and len(seen) == 1 else "NO"
                ratio = f"{peak / before[workers]:.2f}x" if workers in before else ""
                before[workers] = peak
                rows.append(
                    f"| {count:,} | {size:,.0f} | {workers} | {peak:.0f} | {ratio} "
                    f"| {seconds:.1f} | {facts['lines_per_second']:,.0f} | {count / busy:,.0f} | {order} |"
                )
    sys.stdout.write("\n".join(rows) + "\n")


if __name__ == "__main__":
    main()
