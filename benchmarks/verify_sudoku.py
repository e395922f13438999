"""Sudoku verdicts per second from a list of Python strings, against the reward that published code pays.

The baseline is written from its description: the digits of the last `<answer>` block, padded with zeros or
cut to 16, and the fraction of the blank cells that equal the one stored solution. Both judge the same
completions in one run, alternating, on one core, and the median of the rounds counts (processor time).

    python benchmarks/verify_sudoku.py [--rows 20000] [--characters 900] [--rounds 5]
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import sys
import time
from collections.abc import Callable

from verifiers import verify_batch

_ANSWERS = ("right", "given changed", "one wrong", "echo", "short", "long")


def baseline(completions: list[str], puzzles: list[str], solutions: list[str]) -> list[float]:
    """Fraction of the blank cells that equal the stored solution, for each completion."""
    rewards = []
    for completion, puzzle, solution in zip(completions, puzzles, solutions, strict=True):
        tail = completion.rsplit("<answer>", 1)
        answer = tail[1].split("</answer>", 1)[0] if len(tail) == 2 else ""
        digits = "".join(character for character in answer if character.isdigit())[:16].ljust(16, "0")
        blanks = [i for i, cell in enumerate(puzzle) if cell == "0"]
        rewards.append(sum(digits[i] == solution[i] for i in blanks) / len(blanks))
    return rewards


def problem(rng: random.Random) -> tuple[str, str]:
    """A 4 x 4 solution with its digits renamed, and a puzzle of 8 blanks on it."""
    names = rng.sample("1234", 4)
    solution = "".join(names[int(cell) - 1] for cell in "1234341221434321")
    blanks = set(rng.sample(range(16), 8))
    return "".join("0" if i in blanks else cell for i, cell in enumerate(solution)), solution


def completion(rng: random.Random, puzzle: str, solution: str, kind: str, characters: int) -> str:
    """A completion of about that length whose answer is of that kind."""
    place = rng.randrange(16)
    other = solution[:place] + str(int(solution[place]) % 4 + 1) + solution[place + 1 :]
    answers = {"right": solution, "echo": puzzle, "short": solution[:15], "long": solution + "4"}
    answer = answers.get(kind, other)
    words = (
        "we",
        "fill",
        "the",
        "row",
        "column",
        "box",
        "digit",
        "1",
        "2",
        "so",
        "that",
        "each",
        "is",
        "once.",
    )
    text = " ".join(rng.choices(words, k=max(1, characters // 5)))
    return f"\n{text[:characters]}\n</reasoning>\n<answer>\n{answer}\n</answer><|eot_id|>"


def seconds(work: Callable[[], object]) -> float:
    """Processor time of one call, which other processes do not lengthen."""
    start = time.process_time()
    work()
    return time.process_time() - start


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="Sudoku verdicts per second against the published reward.")
    parser.add_argument("--rows", type=int, default=20_000, help="completions per call (20000)")
    parser.add_argument("--characters", type=int, default=900, help="length of the reasoning (900)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds, of which the median counts (5)")
    args = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})  # figures are for one core
    rng = random.Random(0)
    pairs = [problem(rng) for _ in range(args.rows)]
    puzzles, solutions = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    texts = [completion(rng, *pair, rng.choice(_ANSWERS), args.characters) for pair in pairs]
    grids = [f"<answer>{solution}</answer>" for solution in solutions]
    rows = []
    for name, answers in ((f"{args.characters} characters", texts), ("bare answers", grids)):
        ours = lambda answers=answers: verify_batch("sudoku", answers, puzzle=puzzles)  # noqa: E731
        theirs = lambda answers=answers: baseline(answers, puzzles, solutions)  # noqa: E731
        ours()  # compiles, or reads the compiled code from disk
        times = [(seconds(theirs), seconds(ours)) for _ in range(args.rounds)]
        slow, fast = (statistics.median(column) for column in zip(*times, strict=True))
        rows.append(f"| {name} | {args.rows / slow:,.0f} | {args.rows / fast:,.0f} | {slow / fast:.1f}x |")
    header = ["| completions | published reward, /s | verify_batch, /s | ratio |", "|---|---:|---:|---:|"]
    sys.stdout.write("\n".join([*header, *rows]) + "\n")


if __name__ == "__main__":
    main()
