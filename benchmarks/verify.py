r"""Verdicts per second of one verifier, and those of a named baseline on the same completions in the same run.

    python benchmarks/verify.py gsm8k | math500 | countdown | sudoku [--file REAL.jsonl.gz] [--rows 20000]
    python benchmarks/verify.py alone [--rows 100] [--characters 2600]
    python benchmarks/verify.py files [--rows 1000000] [--workers 1]

Everything alternates on one core; medians of processor time. The baselines are written here from the description of
what is published: gsm8k, the parser of d1's evaluation, which SPG carries on; countdown and sudoku, the rewards that
d1 and SPG train with; math500, math-verify as its documentation uses it. `--file` adds real completions, one JSON
object a line with `completion`, the fields of the problem and `correct`, and counts the errors of both against that.
`alone` judges answers to MATH one by one that all differ, since an answer that comes again is remembered; with
`--file`, behind what real completions say before their answer.
`files` runs `python -m verifiers sudoku` over a file and a tenth of it: peak memory must not grow with the file, and a
plain loop of json.loads, the published Sudoku reward and json.dumps is the baseline of its speed.
"""

import argparse
import gzip
import json
import random
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from measuring import hardware, medians, one_core, print_head, print_row, seconds

from verifiers import verify, verify_batch

BLOCK = re.compile(r"<answer>(.*?)</answer>", re.DOTALL)
WORDS = "we add 9 eggs so that each row and column is once 2 dollars then 30 - 7 is near the target".split()
Row = dict[str, object]
"""A completion and the fields of its problem."""


def column(rows: list[Row], name: str) -> list:
    return [row[name] for row in rows]


# The baselines: each says of every row whether it is right.


def d1_gsm8k(rows: list[Row]) -> list[bool]:
    """The first box with a number, else the `<answer>` block, else what follows an open `<answer>`; as floats."""
    right = []
    for row in rows:
        text, number = row["completion"], None
        for content in re.findall(r"\\boxed{(.*?)}", text):
            content = content.strip()
            if content and not re.match(r"^\.+$", content):
                number = number_in(content, 0)
                if number is not None:
                    break
        if number is None and (block := re.search(BLOCK, text)):
            number = number_in(block.group(1).strip(), -1)
        if number is None and "<answer>" in text:
            number = number_in(text.split("<answer>")[-1].split("</answer>")[0].strip(), -1)
        right.append(number is not None and number == float(row["answer"].replace(",", "")))
    return right


def number_in(text: str, place: int) -> float | None:
    """The whole text as a float, else the number at this place among those in it."""
    try:
        return float(text)
    except ValueError:
        numbers = re.findall(r"-?\d+\.?\d*", text)
        return float(numbers[place]) if numbers else None


def math_verify(rows: list[Row]) -> list[bool]:
    """Both texts parsed, then compared; its time-outs are off."""
    import math_verify as library

    reference = [library.LatexExtractionConfig()]
    both = [library.LatexExtractionConfig(boxed_match_priority=0), library.ExprExtractionConfig()]
    right = []
    for row in rows:
        gold = library.parse(f"${row['answer']}$", reference, parsing_timeout=None)
        answer = library.parse(row["completion"], both, parsing_timeout=None)
        right.append(bool(library.verify(gold, answer, timeout_seconds=None)))
    return right


def d1_countdown(rows: list[Row]) -> list[bool]:
    """The last block's digits are the given numbers, and `eval` of a text of allowed characters gives the target."""
    allowed = re.compile(r"^[\d+\-*/().\s]+$")
    right = []
    for row in rows:
        blocks = BLOCK.findall(row["completion"])
        equation = re.sub(r"^\\boxed\{(.*)\}$", r"\1", blocks[-1].strip()) if blocks else ""
        value = float("nan")
        used = sorted(int(digits) for digits in re.findall(r"\d+", equation))
        if used == sorted(row["numbers"]) and allowed.match(equation) and "**" not in equation:
            try:
                value = eval(equation, {"__builtins__": None}, {})
            except (SyntaxError, ZeroDivisionError, TypeError, OverflowError):
                pass
        right.append(abs(value - row["target"]) < 1e-5)
    return right


def d1_sudoku(rows: list[Row]) -> list[bool]:
    """The digits of the last block, padded with zeros or cut to 16, equal the stored solution in every blank cell."""
    right = []
    for row in rows:
        tail = row["completion"].rsplit("<answer>", 1)
        answer = tail[1].split("</answer>", 1)[0] if len(tail) == 2 else ""
        digits = "".join(character for character in answer if character.isdigit())[:16].ljust(16, "0")
        blanks = [i for i, cell in enumerate(row["puzzle"]) if cell == "0"]
        right.append(all(digits[i] == row["solution"][i] for i in blanks))
    return right


# Problems with an answer, a third or more of them right.


def make_gsm8k(rng: random.Random) -> tuple[str, Row]:
    number = rng.randrange(10 ** rng.randrange(1, 5))
    unit = rng.choice(["", "", "", "", " dollars", r"\%", r"\text{ hours}", ".00"])
    shown = rng.choice([number, number, f"{number:,}", number + 1])
    return rf"\boxed{{{shown}{unit}}}", {"answer": str(number)}


def make_math500(rng: random.Random) -> tuple[str, Row]:
    a, b, c = (rng.randrange(2, 40) for _ in range(3))
    answer, same, other = rng.choice(
        [
            (rf"\frac{{{a}}}{{{b}}}", rf"\dfrac{{{a}}}{{{b}}}", f"{a}"),
            (rf"{a}\sqrt{{{b}}}", rf"\sqrt{{{a * a * b}}}", rf"\sqrt{{{a * b}}}"),
            (f"x^2+{a}x+{b}", f"{b} + {a}x + x^2", f"x^2+{b}x+{a}+1"),
            (rf"\left({a},{b}\right)", f"({a}, {b})", f"({b + 1}, {a})"),
            (f"{a}{b}{c}", rf"{a}{b}{c}\text{{ cm}}", f"{a}{b}"),
        ]
    )
    return rf"\boxed{{{rng.choice([answer, same, other])}}}", {"answer": answer}


def make_countdown(rng: random.Random) -> tuple[str, Row]:
    a, b, c = numbers = [rng.randrange(1, 101) for _ in range(3)]
    x, y, z = rng.sample(numbers, 3)
    answers = [
        f"{a} + {b} - {c}",
        f"({x} {rng.choice('+-*/')} {y}) {rng.choice('+-*')} {z}",
        f"{a} + {b} - {c + 1}",
    ]
    return rng.choice(answers), {"numbers": numbers, "target": a + b - c}


def make_sudoku(rng: random.Random) -> tuple[str, Row]:
    names = rng.sample("1234", 4)
    solution = "".join(names[int(cell) - 1] for cell in "1234341221434321")
    blanks = set(rng.sample(range(16), 8))
    puzzle = "".join("0" if i in blanks else cell for i, cell in enumerate(solution))
    place = rng.randrange(16)
    wrong = solution[:place] + str(int(solution[place]) % 4 + 1) + solution[place + 1 :]
    answer = rng.choice([solution, solution, wrong, puzzle, solution[:15], solution + "4"])
    return answer, {"puzzle": puzzle, "solution": solution}


@dataclass(frozen=True)
class Task:
    """A verifier and what it is held against."""

    make: Callable[[random.Random], tuple[str, Row]]
    """An answer, and the fields of its problem."""
    baseline: Callable[[list[Row]], list[bool]]
    fields: tuple[str, ...]
    """What `verify_batch` needs to know of a problem."""
    baseline_rows: int = 20_000
    """At most so many completions are given to a slow baseline in each round."""


TASKS = {
    "gsm8k": Task(make_gsm8k, d1_gsm8k, ("answer",)),
    "math500": Task(make_math500, math_verify, ("answer",), 200),
    "countdown": Task(make_countdown, d1_countdown, ("numbers", "target")),
    "sudoku": Task(make_sudoku, d1_sudoku, ("puzzle",)),
}


def ours(name: str, rows: list[Row]) -> list[bool]:
    """What `verify_batch` says."""
    fields = {field: column(rows, field) for field in TASKS[name].fields}
    return verify_batch(name, column(rows, "completion"), **fields).correct.tolist()


def generated(name: str, count: int, characters: int, real: Sequence[str] = ()) -> list[Row]:
    """Completions of about that much text before their answer: words, or one of these texts over and over."""
    rng, rows = random.Random(0), []
    for _ in range(count):
        answer, fields = TASKS[name].make(rng)
        if real:
            text = f"{rng.choice(real)}\n" * (characters // 100 + 1)
        else:
            text = " ".join(rng.choices(WORDS, k=characters // 4))
        rows.append({"completion": f"{text[:characters]}\n<answer>\n{answer}\n</answer>", **fields})
    return rows


def measure(name: str, label: str, rows: list[Row], rounds: int) -> None:
    """One row of the table."""
    task = TASKS[name]
    sample = rows[:: -(-len(rows) // task.baseline_rows)]
    slow, fast = medians([lambda: task.baseline(sample), lambda: ours(name, rows)], rounds)
    theirs_per_second, ours_per_second = len(sample) / slow, len(rows) / fast
    print_row(
        [
            label,
            f"{theirs_per_second:,.0f}",
            f"{ours_per_second:,.0f}",
            f"{ours_per_second / theirs_per_second:.1f}x",
        ]
    )


def print_errors(name: str, rows: list[Row]) -> None:
    """What both get wrong of completions with a given verdict."""
    truth = column(rows, "correct")
    for judge, verdicts in (
        (TASKS[name].baseline.__name__, TASKS[name].baseline(rows)),
        ("verify_batch", ours(name, rows)),
    ):
        accepted = sum(yes and not right for yes, right in zip(verdicts, truth, strict=True))
        refused = sum(right and not yes for yes, right in zip(verdicts, truth, strict=True))
        print(f"{judge}: {accepted} wrongly accepted, {refused} wrongly refused of {len(rows)}")


def compare_batches(name: str, args: argparse.Namespace) -> None:
    """The table of one verifier."""
    print_head(["completions", f"{TASKS[name].baseline.__name__}, /s", "verify_batch, /s", "ratio"])
    real = read(args.file) if args.file else []
    if real:
        # Repeated as strings of their own, so that nothing is remembered of an equal one.
        many = [
            {**real[i % len(real)], "completion": real[i % len(real)]["completion"] + " " * (i // len(real))}
            for i in range(args.rows)
        ]
        measure(name, "real", many, args.rounds)
    measure(name, f"{args.characters} characters", generated(name, args.rows, args.characters), args.rounds)
    measure(name, "bare answers", generated(name, args.rows, 0), args.rounds)
    if real:
        print_errors(name, real)


def compare_alone(args: argparse.Namespace) -> None:
    """The table of answers to MATH that are judged one by one, and each of them once."""
    real = [re.split(r"<|\\boxed", row["completion"])[0] for row in read(args.file)] if args.file else []
    count = args.rows * (args.rounds + 1)
    made = generated("math500", 8 * count, args.characters, real)
    different = {(row["completion"].rpartition("<answer>")[2], row["answer"]): row for row in made}
    rows = list(different.values())[: 3 * count]
    unmarked = []
    for row in rows[2 * count :]:
        before, _, answer = row["completion"].removesuffix("}\n</answer>").rpartition("\n<answer>\n\\boxed{")
        unmarked.append({**row, "completion": f"{before}\nSo it is ${answer}$."})
    print_head(["answers", "math_verify, /s", "verify, /s", "ratio"])
    for label, mode, part in (
        ("marked, lenient", "lenient", rows[:count]),
        ("marked, flexible", "flexible", rows[count : 2 * count]),
        ("unmarked, flexible", "flexible", unmarked),
    ):
        works = [turns(math_verify, part, args.rows), turns(partial(one_by_one, mode=mode), part, args.rows)]
        slow, fast = medians(works, args.rounds)
        print_row([label, f"{args.rows / slow:,.0f}", f"{args.rows / fast:,.0f}", f"{slow / fast:.1f}x"])


def one_by_one(rows: list[Row], mode: str) -> list[bool]:
    """What `verify` says of answers to MATH."""
    return [verify("math500", row["completion"], mode=mode, answer=row["answer"]).correct for row in rows]


def turns(judge: Callable[[list[Row]], list[bool]], rows: list[Row], count: int) -> Callable[[], list[bool]]:
    """A function without arguments that gives the next `count` rows to `judge`."""
    starts = iter(range(0, len(rows), count))

    def next_rows() -> list[bool]:
        start = next(starts)
        return judge(rows[start : start + count])

    return next_rows


def read(file: Path) -> list[Row]:
    """The lines of a JSONL file, compressed or not."""
    with (gzip.open if file.suffix == ".gz" else open)(file, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


# The peak is asked for in the process itself: what the system reports of a child includes its parent's.
COMMAND = """
import os, sys
from verifiers.__main__ import main
if main(sys.argv[1:]):
    sys.exit(1)
with open("/proc/self/status") as file:
    peak = next(int(line.split()[1]) for line in file if line.startswith("VmHWM")) / 1024
print(peak, sum(os.times()[:4]))
"""


def run_command(file: Path, workers: int, output: Path) -> tuple[float, float]:
    """(peak MiB, seconds of processor time of all its processes) of `python -m verifiers` over a file."""
    words = ["sudoku", str(file), "--output", str(output), "--workers", str(workers), "--json"]
    done = subprocess.run(
        [sys.executable, "-c", COMMAND, *words], stdout=subprocess.PIPE, text=True, check=True
    )
    peak, busy = done.stdout.splitlines()[-1].split()
    return float(peak), float(busy)


def plain_loop(file: Path, output: Path) -> None:
    """Every line read, judged by the published reward, and written."""
    with file.open() as lines, output.open("w") as verdicts:
        for line in lines:
            verdicts.write(json.dumps({"correct": d1_sudoku([json.loads(line)])[0]}) + "\n")


def compare_files(args: argparse.Namespace) -> None:
    """The table of the command over two files."""
    print_head(
        ["lines", "peak memory, MiB", "of a tenth", "plain loop, lines/s", "command, lines/s", "ratio"]
    )
    with tempfile.TemporaryDirectory() as folder:
        file, output, before = Path(folder) / "samples.jsonl", Path(folder) / "verdicts.jsonl", None
        for count in (args.rows // 10, args.rows):
            with file.open("w") as lines:
                lines.writelines(
                    json.dumps(row) + "\n" for row in generated("sudoku", count, args.characters)
                )
            peak, busy = run_command(file, args.workers, output)
            slow = seconds(lambda: plain_loop(file, output))
            growth = f"{peak / before:.2f}x" if before else "-"
            rates = [f"{count / slow:,.0f}", f"{count / busy:,.0f}", f"{slow / busy:.1f}x"]
            print_row([f"{count:,}", f"{peak:.0f}", growth, *rates])
            before = peak


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("task", choices=[*TASKS, "alone", "files"])
    parser.add_argument("--file", type=Path, help="real completions, .jsonl or .jsonl.gz")
    parser.add_argument(
        "--rows", type=int, help="completions in each call (20000; alone 100), lines of the file (1000000)"
    )
    parser.add_argument("--characters", type=int, help="text before an answer (900; alone 2600; files 300)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds, of which the median counts (5)")
    parser.add_argument("--workers", type=int, default=1, help="processes of the command (1)")
    args = parser.parse_args()
    rows, characters = {"files": (1_000_000, 300), "alone": (100, 2600)}.get(args.task, (20_000, 900))
    args.rows, args.characters = args.rows or rows, args.characters or characters
    if args.task != "files":
        one_core()
    print(f"{hardware()}; {args.rows} rows, median of {args.rounds}\n")
    if args.task == "files":
        compare_files(args)
    elif args.task == "alone":
        compare_alone(args)
    else:
        compare_batches(args.task, args)


if __name__ == "__main__":
    main()
