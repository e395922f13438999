r"""GSM8K verdicts per second from a list of Python strings, against the parser of the published evaluation.

The baseline takes the steps of the evaluation script that d1 published and SPG and d1's forks carry on
(`eval/parse_and_get_acc.py`), in words of our own and without its count of tokens: the first box with a number,
else the `<answer>` block, else what follows an open `<answer>`, compared as floats, one dict for each row. The
leaner variant beside it takes the same decisions with compiled patterns and keeps nothing but the verdict. All
judge the same completions in one run, alternating, on one core; the median of the rounds counts (processor
time).

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


def published(completions: list[str], answers: list[str]) -> list[dict]:
    """The published evaluation's steps for each row, and the record it keeps of it."""
    records = []
    for completion, answer in zip(completions, answers, strict=True):
        number = None
        for content in re.findall(r"\\boxed{(.*?)}", completion):
            content = content.strip()
            if content and content != "..." and not re.match(r"^\.+$", content):
                try:
                    number = float(content)
                    break
                except ValueError:
                    numbers = re.findall(r"-?\d+\.?\d*", content)
                    if numbers:
                        number = float(numbers[0])
                        break
        if number is None:
            block = re.search(r"<answer>(.*?)</answer>", completion, re.DOTALL)
            if block:
                number = last_number(block.group(1).strip())
        if number is None and "<answer>" in completion:
            number = last_number(completion.split("<answer>")[-1].split("</answer>")[0].strip())
        gold = float(answer.replace(",", ""))
        correct = number is not None and number == gold
        record = {
            "question": answer,
            "raw": completion,
            "extracted": number,
            "gold": gold,
            "correct": correct,
        }
        records.append(record)
    return records


def last_number(text: str) -> float | None:
    """The whole text as a float, else the last number in it."""
    try:
        return float(text)
    except ValueError:
        numbers = re.findall(r"-?\d+\.?\d*", text)
        return float(numbers[-1]) if numbers else None


_BOX, _BLOCK = re.compile(r"\\boxed{(.*?)}"), re.compile(r"<answer>(.*?)</answer>", re.DOTALL)
_NUMBER, _DOTS = re.compile(r"-?\d+\.?\d*"), re.compile(r"^\.+$")


def lean(completions: list[str], answers: list[str]) -> list[bool]:
    """The same decisions with compiled patterns and without a record; the first box that helps ends the search."""
    right = []
    for completion, answer in zip(completions, answers, strict=True):
        number = None
        for content in _BOX.findall(completion):
            content = content.strip()
            if content and not _DOTS.match(content):
                try:
                    number = float(content)
                    break
                except ValueError:
                    found = _NUMBER.search(content)
                    if found:
                        number = float(found.group())
                        break
        if number is None:
            block = _BLOCK.search(completion)
            number = last_number(block.group(1).strip()) if block else None
        if number is None and "<answer>" in completion:
            number = last_number(completion.split("<answer>")[-1].split("</answer>")[0].strip())
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
    works = (
        lambda: published(texts, answers),
        lambda: lean(texts, answers),
        lambda: verify_batch("gsm8k", texts, answer=answers),
    )
    for work in works:
        work()  # ours compiles, or reads the compiled code from disk
    times = zip(*([seconds(work) for work in works] for _ in range(rounds)), strict=True)
    theirs, leaner, ours = (statistics.median(column) for column in times)
    rates = " | ".join(f"{len(texts) / time:,.0f}" for time in (theirs, leaner, ours))
    return f"| {name} | {rates} | {theirs / ours:.2f}x | {leaner / ours:.2f}x |"


def verdicts(real: list[dict]) -> list[str]:
    """What each calls correct of completions with a given verdict, counted against it."""
    texts, answers = [record["completion"] for record in real], [record["answer"] for record in real]
    lines = []
    for name, found in (
        ("published parser", [record["correct"] for record in published(texts, answers)]),
        ("its leaner variant", lean(texts, answers)),
        ("verify_batch", verify_batch("gsm8k", texts, answer=answers).correct.tolist()),
    ):
        wrong = sum(ok and not record["correct"] for ok, record in zip(found, real, strict=True))
        missed = sum(record["correct"] and not ok for ok, record in zip(found, real, strict=True))
        lines.append(f"{name}: {wrong} accepted wrongly, {missed} refused wrongly of {len(real)}")
    return lines


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
    lines = [
        "| completions | published parser, /s | its leaner variant, /s | verify_batch, /s | ratio | to the leaner |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    if args.file:
        with (gzip.open if args.file.endswith(".gz") else open)(args.file, "rt", encoding="utf-8") as file:
            real = [json.loads(line) for line in file]
        lines = [*verdicts(real), *lines]
        times = -(-args.rows // len(real))
        texts, answers = [record["completion"] for record in real], [record["answer"] for record in real]
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
