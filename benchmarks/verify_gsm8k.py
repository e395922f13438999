r"""GSM8K verdicts per second from a list of Python strings, against the parser of a published evaluation script.

The baseline is written from its description: the first `\boxed{}` of the text that holds a number, else the
first number in the `<answer>` block, compared as floats. Both judge the same completions in one run,
alternating, on one core, and the median of the rounds counts (processor time).

    python benchmarks/verify_gsm8k.py [--file REAL.jsonl.gz] [--rows 20000] [--characters 900] [--rounds 5]
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

from verifiers import verify_batch

_UNITS = ("", "", "", "", "", "", "", "", " dollars", r"\%", r"\text{ hours}", ".00")
_WORDS = (
    "she",
    "sells",
    "9",
    "eggs",
    "for",
    "$2",
    "each,",
    "so",
    r"\(9",
    r"\times",
    "2",
    "=",
    r"18\)",
    "a",
    "day.",
)


def parsed(completion: str) -> float | None:
    """The first boxed number of a text, else the first number of its block, as a float."""
    for content in re.findall(r"\\boxed\{(.*?)\}", completion):
        content = content.strip()
        if content and content != "..." and not re.match(r"^\.+$", content):
            try:
                return float(content)
            except ValueError:
                numbers = re.findall(r"-?\d+\.?\d*", content)
                if numbers:
                    return float(numbers[0])
    block = re.search(r"<answer>(.*?)</answer>", completion, re.DOTALL)
    numbers = re.findall(r"-?\d+\.?\d*", block.group(1)) if block else []
    return float(numbers[0]) if numbers else None


def baseline(completions: list[str], answers: list[str]) -> list[bool]:
    """What the published evaluation calls correct: the two numbers are equal as floats."""
    right = []
    for completion, answer in zip(completions, answers, strict=True):
        number = parsed(completion)
        right.append(number is not None and number == float(answer.replace(",", "")))
    return right


def completion(rng: random.Random, number: int, characters: int) -> str:
    """A completion of about that length that ends in the number, one in three with a unit."""
    text = " ".join(rng.choices(_WORDS, k=max(1, characters // 5)))[:characters]
    answer = f"{number:,}" if rng.random() < 0.05 else str(number)
    return f"\n{text}\n</reasoning>\n<answer>\n\\boxed{{{answer}{rng.choice(_UNITS)}}}\n</answer><|eot_id|>"


def seconds(work: Callable[[], object]) -> float:
    """Processor time of one call, which other processes do not lengthen."""
    start = time.process_time()
    work()
    return time.process_time() - start


def row(name: str, texts: list[str], answers: list[str], rounds: int) -> str:
    """One line of the table."""
    ours = lambda: verify_batch("gsm8k", texts, answer=answers)  # noqa: E731
    theirs = lambda: baseline(texts, answers)  # noqa: E731
    ours()  # compiles, or reads the compiled code from disk
    times = [(seconds(theirs), seconds(ours)) for _ in range(rounds)]
    slow, fast = (statistics.median(column) for column in zip(*times, strict=True))
    n = len(texts)
    return f"| {name} | {n / slow:,.0f} | {n / fast:,.0f} | {slow / fast:.1f}x |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="GSM8K verdicts per second against the published parser.")
    parser.add_argument("--file", help="JSON lines with completion, answer and correct, for the real rows")
    parser.add_argument("--rows", type=int, default=20_000, help="completions per call (20000)")
    parser.add_argument("--characters", type=int, default=900, help="length of the reasoning (900)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds, of which the median counts (5)")
    args = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})  # figures are for one core
    lines = ["| completions | published parser, /s | verify_batch, /s | ratio |", "|---|---:|---:|---:|"]
    if args.file:
        with (gzip.open if args.file.endswith(".gz") else open)(args.file, "rt", encoding="utf-8") as file:
            real = [json.loads(line) for line in file]
        texts, answers = [record["completion"] for record in real], [record["answer"] for record in real]
        for name, verdicts in (
            ("published parser", baseline(texts, answers)),
            ("verify_batch", verify_batch("gsm8k", texts, answer=answers).correct.tolist()),
        ):
            wrong = sum(ok and not record["correct"] for ok, record in zip(verdicts, real, strict=True))
            missed = sum(record["correct"] and not ok for ok, record in zip(verdicts, real, strict=True))
            lines.insert(0, f"{name}: {wrong} accepted wrongly, {missed} refused wrongly of {len(real)}")
        times = -(-args.rows // len(texts))
        length = sum(map(len, texts)) // len(texts)
        lines.append(row(f"real, {length} characters", texts * times, answers * times, args.rounds))
    rng = random.Random(0)
    numbers = [rng.randrange(10 ** rng.randrange(1, 5)) for _ in range(args.rows)]
    golds = [str(number) for number in numbers]
    made = [completion(rng, number, args.characters) for number in numbers]
    bare = [f"<answer>\\boxed{{{number}}}</answer>" for number in numbers]
    lines.append(row(f"{args.characters} characters", made, golds, args.rounds))
    lines.append(row("bare answers", bare, golds, args.rounds))
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
