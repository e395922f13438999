"""MATH verdicts per second on real completions, against math-verify on the same texts, one core, one run.

Rounds alternate and the median counts (processor time, so that other processes do not lengthen it). A second
row repeats no (answer, reference) pair, so that remembering pairs within a batch does not help.

    python benchmarks/verify_math500.py COMPLETIONS.jsonl.gz [--rounds 5] [--baseline-rows 200]
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable

from verifiers import verify_batch


def seconds(work: Callable[[], object]) -> float:
    """Processor time of one call, that of ended child processes left out."""
    start = time.process_time()
    work()
    return time.process_time() - start


def math_verify_baseline(completions: list[str], answers: list[str]) -> list[bool]:
    """math-verify as its documentation uses it: parse both texts, then compare; its time-outs off."""
    import math_verify

    gold = [math_verify.LatexExtractionConfig()]
    both = [math_verify.LatexExtractionConfig(boxed_match_priority=0), math_verify.ExprExtractionConfig()]
    verdicts = []
    for completion, answer in zip(completions, answers, strict=True):
        parsed = math_verify.parse(f"${answer}$", gold, parsing_timeout=None)
        found = math_verify.parse(completion, both, parsing_timeout=None)
        verdicts.append(bool(math_verify.verify(parsed, found, timeout_seconds=None)))
    return verdicts


def without_repeats(rows: list[dict]) -> list[dict]:
    """The first row of every (answer, reference) pair."""
    verdicts = verify_batch(
        "math500", [row["completion"] for row in rows], answer=[row["answer"] for row in rows]
    )
    first: dict[tuple[str | None, str], dict] = {}
    for text, row in zip(verdicts.extracted, rows, strict=True):
        first.setdefault((text, row["answer"]), row)
    return list(first.values())


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="MATH verdicts per second against math-verify.")
    parser.add_argument("file", help="JSONL, gzipped or not, with completion, answer and correct")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--baseline-rows", type=int, default=200, help="rows that math-verify judges each round"
    )
    arguments = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    opening = gzip.open if arguments.file.endswith(".gz") else open
    with opening(arguments.file, "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    sets = {"all": rows, "distinct pairs": without_repeats(rows)}
    columns = {
        name: ([row["completion"] for row in part], [row["answer"] for row in part])
        for name, part in sets.items()
    }
    step = max(1, len(rows) // arguments.baseline_rows)
    sample = [column[::step] for column in columns["all"]]
    math_verify_baseline(sample[0][:20], sample[1][:20])  # imports and warm-up
    times: dict[str, list[float]] = {name: [] for name in (*columns, "math-verify")}
    for _ in range(arguments.rounds):
        for name, (completions, answers) in columns.items():
            times[name].append(seconds(lambda c=completions, a=answers: verify_batch("math500", c, answer=a)))
        times["math-verify"].append(seconds(lambda: math_verify_baseline(*sample)))
    baseline = len(sample[0]) / statistics.median(times["math-verify"])
    lines = ["| judged by | rows | /s | ratio |", "|---|---:|---:|---:|"]
    lines.append(f"| math-verify | {len(sample[0]):,} | {baseline:,.0f} | 1 |")
    for name, part in sets.items():
        rate = len(part) / statistics.median(times[name])
        lines.append(f"| verify_batch, {name} | {len(part):,} | {rate:,.0f} | {rate / baseline:.0f}x |")
    verdicts = verify_batch("math500", *columns["all"][:1], answer=columns["all"][1])
    ours, theirs = Counter(), Counter()
    for row, verdict in zip(rows, verdicts.correct.tolist(), strict=True):
        ours[bool(row["correct"]), verdict] += 1
    for row, verdict in zip(rows[::step], math_verify_baseline(*sample), strict=True):
        theirs[bool(row["correct"]), verdict] += 1
    for name, counts in (("verify_batch", ours), ("math-verify", theirs)):
        lines.append(f"\n{name}: {counts[False, True]} wrong accepted, {counts[True, False]} right refused")
    lines.append(f"\ntiers: {dict(Counter(verdicts.tiers))}")
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
