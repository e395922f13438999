"""Countdown verdicts per second from a list of Python strings, against the reward that published code pays.

The baseline is written from its description: the last `<answer>` block; its digits as a multiset against the
given numbers, 0.1 if they differ; then `eval` of a text that passes a character filter, 1 within 1e-5 of the
target, else 0.1. Both judge the same completions in one run, alternating, on one core, and the median of the
rounds counts (processor time). Completions are written here; `--file` takes real ones (.jsonl.gz with
`completion`, `numbers`, `target` and, for the errors of both, `correct`).

    python benchmarks/verify_countdown.py [--rows 20000] [--characters 900] [--rounds 5] [--file FILE]
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import random
import re
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

from verifiers import verify_batch

_BLOCK = re.compile(r"<answer>(.*?)</answer>", re.DOTALL)
_BOXED = re.compile(r"(<answer>\s*)\\boxed\{([^<]*)\}(\s*</answer>)")
_ALLOWED = re.compile(r"^[\d+\-*/().\s]+$")
_WORDS = "we try the numbers once each 12 so that 30 - 7 is not yet near the target and then add".split()


def baseline(completions: list[str], numbers: list[list[int]], targets: list[int]) -> list[float]:
    """The published reward; its `eval` runs only on the texts this benchmark writes or is given."""
    rewards = []
    for completion, given, target in zip(completions, numbers, targets, strict=True):
        found = _BLOCK.findall(completion)
        if not found:
            rewards.append(0.0)
            continue
        equation = found[-1].strip()
        reward = 0.1
        if sorted(int(digits) for digits in re.findall(r"\d+", equation)) == sorted(given):
            try:
                if _ALLOWED.match(equation):
                    value = eval(equation, {"__builtins__": None}, {})
                    reward = 1.0 if abs(value - target) < 1e-5 else 0.1
            except (SyntaxError, ZeroDivisionError, TypeError, OverflowError):
                pass
        rewards.append(reward)
    return rewards


def expression(rng: random.Random, numbers: list[int]) -> str:
    """Three numbers in a random order under two random operators."""
    a, b, c = rng.sample(numbers, 3)
    first, second = rng.choice("+-*/"), rng.choice("+-*")
    return rng.choice(
        [f"{a} {first} {b} {second} {c}", f"({a} {second} {b}) {first} {c}", f"{a}{second}{b}{first}{c}"]
    )


def problem(rng: random.Random, characters: int) -> tuple[str, list[int], int]:
    """(completion, numbers, target): a third of the answers are right, a third wrong, a third misuse a number."""
    numbers = [rng.randrange(1, 101) for _ in range(3)]
    a, b, c = numbers
    target, right = a + b - c, f"{a} + {b} - {c}"
    kind = rng.randrange(3)
    answer = right if kind == 0 else expression(rng, numbers) if kind == 1 else f"{a} + {b} - {c + 1}"
    text = " ".join(rng.choices(_WORDS, k=max(1, characters // 4)))[:characters]
    return f"\n{text}\n</reasoning>\n<answer>\n{answer}\n</answer><|eot_id|>", numbers, target


def seconds(work: Callable[[], object]) -> float:
    """Processor time of one call, which other processes do not lengthen."""
    start = time.process_time()
    work()
    return time.process_time() - start


def read(file: Path, rows: int) -> tuple[list[tuple[str, list[int], int]], list[bool]]:
    """(completion, numbers, target) of a file, repeated up to `rows` as strings of their own, and verdicts.

    A box that fills a block is taken off, because the published reward knows none; a line with a power in it
    is left out, because the published reward might never end on it.
    """
    with gzip.open(file, "rt", encoding="utf-8") as lines:
        given = [row for row in map(json.loads, lines) if "**" not in row["completion"]]
    triples = [(_BOXED.sub(r"\1\2\3", row["completion"]), row["numbers"], row["target"]) for row in given]
    repeated = (triples[i % len(triples)] for i in range(rows))
    many = [(text + " " * (i // len(triples)), n, t) for i, (text, n, t) in enumerate(repeated)]
    return many, [row["correct"] for row in given]


def measure(name: str, triples: list[tuple[str, list[int], int]], rounds: int) -> str:
    """One row of the table."""
    texts, numbers, targets = (list(column) for column in zip(*triples, strict=True))
    ours = lambda: verify_batch("countdown", texts, numbers=numbers, target=targets)  # noqa: E731
    theirs = lambda: baseline(texts, numbers, targets)  # noqa: E731
    ours()  # compiles, or reads the compiled code from disk
    times = [(seconds(theirs), seconds(ours)) for _ in range(rounds)]
    slow, fast = (statistics.median(column) for column in zip(*times, strict=True))
    return f"| {name} | {len(texts) / slow:,.0f} | {len(texts) / fast:,.0f} | {slow / fast:.1f}x |"


def errors(triples: list[tuple[str, list[int], int]], truth: list[bool]) -> str:
    """Wrongly accepted and wrongly refused completions of both, one for each line of the file."""
    texts, numbers, targets = (list(column) for column in zip(*triples[: len(truth)], strict=True))
    judges = {
        "published reward": [reward == 1.0 for reward in baseline(texts, numbers, targets)],
        "verify_batch": verify_batch("countdown", texts, numbers=numbers, target=targets).correct.tolist(),
    }
    rows = [f"\n{sum(truth)} right of {len(truth)}"]
    for name, said in judges.items():
        accepted = sum(yes and not right for yes, right in zip(said, truth, strict=True))
        refused = sum(right and not yes for yes, right in zip(said, truth, strict=True))
        rows.append(f"{name}: {accepted} wrongly accepted, {refused} wrongly refused")
    return "\n".join(rows)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description="Countdown verdicts per second against the published reward."
    )
    parser.add_argument("--rows", type=int, default=20_000, help="completions per call (20000)")
    parser.add_argument("--characters", type=int, default=900, help="length of the reasoning (900)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds, of which the median counts (5)")
    parser.add_argument("--file", type=Path, help="real completions, .jsonl.gz")
    args = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})  # figures are for one core
    rng = random.Random(0)
    written = [problem(rng, args.characters) for _ in range(args.rows)]
    bare = [(text[text.index("<answer>") :], numbers, target) for text, numbers, target in written]
    rows = ["| completions | published reward, /s | verify_batch, /s | ratio |", "|---|---:|---:|---:|"]
    truth: list[bool] = []
    if args.file:
        real, truth = read(args.file, args.rows)
        rows.append(
            measure(f"real, {sum(len(t) for t, _, _ in real) // len(real)} characters", real, args.rounds)
        )
    rows.append(measure(f"{args.characters} characters", written, args.rounds))
    rows.append(measure("bare answers", bare, args.rounds))
    if truth:
        rows.append(errors(real, truth))
    sys.stdout.write("\n".join(rows) + "\n")


if __name__ == "__main__":
    main()
