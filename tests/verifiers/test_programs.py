"""The task `code` for whole programs: cases of standard input and output, and methods of a class."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.verifiers.test_code import needed
from verifiers import InvalidReferenceError, verify, verify_batch
from verifiers.code.task import first_failure, job_of, run
from verifiers.code.values import same_print

SUM = [
    {"stdin": "2\n3 4\n", "expected": "7\n"},
    {"stdin": "3\n1 -1 5", "expected": "5"},
    {"stdin": "0\n\n", "expected": "0"},
]
LINES = [
    {"stdin": "ab\ncd\n", "expected": "ba\ndc\n"},
    {"stdin": "x y\n", "expected": "y x"},
    {"stdin": "é\n", "expected": "é\n"},
]
MEAN = [
    {"stdin": "1 2", "expected": "1.5", "float_tolerance": 1e-6},
    {"stdin": "1 1 2", "expected": "1.3333333333", "float_tolerance": 1e-6},
]
YES = [{"stdin": str(n), "expected": "YES" if n % 2 == 0 else "NO"} for n in (0, 2, 1, 7, 100)]
CASES = {"sum": SUM, "lines": LINES, "mean": MEAN, "yes": YES}
BOOK = Path(__file__).with_name("casebook") / "programs.txt"


def programs(verdict: str) -> list[tuple[str, str]]:
    """(problem, program) of the entries of the book with this verdict."""
    entries = [entry.partition("\n") for entry in BOOK.read_text(encoding="utf-8").split("@@ ")[1:]]
    return [(head.split()[0], text) for head, _, text in entries if head.split()[1] == verdict]


def paid(asked: list[tuple[str, str]], mode: str) -> list[tuple[str, str]]:
    """The programs of these that are paid."""
    verdicts = verify_batch(
        "code",
        [f"```python\n{program}```" for _, program in asked],
        entry_point=[""] * len(asked),
        cases=[CASES[name] for name, _ in asked],
        mode=mode,
    )
    return [one for one, right in zip(asked, verdicts.correct, strict=True) if right]


@needed
@pytest.mark.parametrize("mode", ["strict", "lenient"])
def test_forty_right_programs_are_paid_and_forty_wrong_ones_are_not(mode):
    right, wrong = programs("right"), programs("wrong")
    assert len(right) == len(wrong) == 40
    found = paid(right, mode)
    assert [one for one in right if one not in found] == []
    assert paid(wrong, mode) == []


@needed
def test_no_hostile_function_made_a_program_is_paid(shared_data):
    folder = shared_data / "code"
    problems, attacks = (
        [json.loads(line) for line in (folder / name).read_text().splitlines()]
        for name in ("attack_problems.jsonl", "attacks.jsonl")
    )
    of = {row["task_id"]: row for row in problems}
    wrong = [attack for attack in attacks if not attack["correct"] and not attack.get("lenient")]
    cases, programs = [], []
    for attack in wrong:
        problem = of[attack["task_id"]]
        cases.append([{"stdin": repr(c["args"]), "expected": repr(c["expected"])} for c in problem["cases"]])
        programs.append(f"{attack['program']}\nprint(repr({problem['entry_point']}(*eval(input()))))\n")
    verdicts = verify_batch("code", programs, entry_point=[""] * len(wrong), cases=cases)
    found = [attack["id"] for attack, right in zip(wrong, verdicts.correct, strict=True) if right]
    assert len(wrong) > 25 and found == []


@needed
def test_the_fuel_of_a_program_is_the_same_in_five_processes():
    source = "import sys\nprint(sum(i * i for i in range(20000)) + int(sys.stdin.read() or 0))"
    expected = str(sum(i * i for i in range(20000)) + 1)
    from verifiers.code.values import read_cases

    job = job_of(
        0, entry="", sources=[source], cases=read_cases([{"stdin": "1", "expected": expected}]), lenient=True
    )
    with ThreadPoolExecutor(5) as threads:
        replies = list(threads.map(lambda _: run([job])[0], range(5)))
    assert len({reply["fuel"] for reply in replies}) == 1 and replies[0]["score"] == 1.0


@needed
def test_a_method_of_a_class_is_called_on_an_object_of_its_own():
    code = "class Solution:\n    def __init__(self):\n        self.seen = 0\n\n"
    code += "    def add(self, a, b):\n        self.seen += 1\n        return a + b * self.seen\n"
    cases = [{"args": [1, 2], "expected": 3}, {"args": [2, 2], "expected": 4}]
    text = f"Here it is.\n```python\nprint('no')\n```\n```python\n{code}```\nDone."
    assert verify("code", text, entry_point="Solution.add", cases=cases).correct
    assert not verify("code", text, entry_point="Solution.sub", cases=cases).correct
    assert not verify("code", code.replace("a + b", "a - b"), entry_point="Solution.add", cases=cases).correct


@needed
@pytest.mark.parametrize(
    "text",
    [
        "Here:\n~~~python\nprint('YES' if int(input()) % 2 == 0 else 'NO')\n~~~\nIt prints YES.",
        "~~~\nprint('YES' if int(input()) % 2 == 0 else 'NO')\n~~~",
        "```python\nx = '~~~'\nprint('YES' if int(input()) % 2 == 0 else 'NO')\n```\n~~~ is another fence",
    ],
)
def test_tildes_are_fences_too(text):
    assert verify("code", text, entry_point="", cases=YES).correct


@needed
@pytest.mark.parametrize(
    ("entry", "cases", "text"),
    [
        ("f", SUM, "entry_point='f' does not go with its cases"),
        ("", [{"args": [1], "expected": 1}], "entry_point='' does not go with its cases"),
        ("a.b.c", SUM, "is no name of a function, such as 'add', or of a method"),
        ("", [SUM[0], {"args": [1], "expected": 1}], "does not go with its cases"),
        ("", [{"stdin": "1"}], 'has a "stdin" or an "expected" in case 0 that is no text'),
        (
            "",
            [{"stdin": "1", "expected": "1", "rel": 1}],
            "has 'rel' in case 0, which no case of standard input has",
        ),
        ("", [{"stdin": "1", "expected": "1", "float_tolerance": 2}], "float_tolerance=2 in case 0"),
    ],
)
def test_a_reference_of_another_kind_is_named(entry, cases, text):
    with pytest.raises(InvalidReferenceError, match=text):
        verify("code", "print(1)", entry_point=entry, cases=cases)


def test_output_is_compared_line_by_line_and_numbers_by_their_tolerance():
    assert same_print("1 2\n3\n\n", "1 2  \n3", 0)
    assert not same_print("1 2\n3", "1  2\n3", 0) and same_print("1 2\n3", "1  2\n3", 1e-6)
    assert not same_print("1 2 3", "1 2\n3", 1e-6)
    assert same_print("1e9", "1000000001", 1e-6) and not same_print("1e9", "1000100000", 1e-6)
    assert not same_print("x 1.0", "y 1.0", 1e-6) and not same_print("1.0", "nan", 1e-6)


@needed
def test_a_model_is_told_what_its_program_prints():
    reference = {"entry_point": "", "cases": YES}
    assert first_failure("print('YES')", reference, 3) == "With the input '1' the program prints 'YES\\n'."
    assert first_failure("print(1 / 0)", reference, 3) == "With the input '0' the program ends in an error."


@needed
def test_prose_before_a_program_is_left_out():
    prose = "This reads all numbers and adds them:\n\n"
    for text in (
        "import sys\nprint(sum(map(int, sys.stdin.read().split()[1:])))",
        "n = int(input())\nprint(sum(map(int, input().split())) if n else 0)",
    ):
        for mode, right in (("lenient", True), ("strict", False)):
            assert verify("code", prose + text, entry_point="", cases=SUM, mode=mode).correct == right
    assert verify("code", prose + "print(7)", entry_point="", cases=SUM).reason == "wrong"


@needed
@pytest.mark.parametrize(
    "program",
    [
        "import os\nprint(total(os.read(0, 1 << 20)))",
        "import io, os\ninput = io.BytesIO(os.read(0, os.fstat(0).st_size)).readline\nprint(total(input()))",
        "import os, sys\nprint(total(os.read(sys.stdin.fileno(), 99)))",
        "print(total(open('/dev/stdin').read()))",
        "import os\nprint(total(os.fdopen(0, 'rb').readline()))",
        "import os\nos.write(1, str(total(input())).encode())",
        "import sys\nsys.__stdout__.write(str(total(sys.__stdin__.readline())))",
        "import io, sys\nsys.stdout = io.TextIOWrapper(open(1, 'wb'))\nprint(total(input()))",
        "import atexit, sys\nout = []\natexit.register(lambda: sys.stdout.write(out[0]))\nout += [str(total(input()))]",
        "import threading\nthreading.stack_size(1 << 27)\n"
        "thread = threading.Thread(target=lambda: print(total(input())))\nthread.start()\nthread.join()",
    ],
)
def test_a_program_may_read_and_write_by_descriptor_and_in_a_thread(program):
    program = "total = lambda text: sum(map(int, text.split()))\n" + program
    cases = [{"stdin": "3 4\n", "expected": "7"}, {"stdin": "10 -4\n", "expected": "6"}]
    assert verify("code", program, entry_point="", cases=cases).reason == "ok"
    assert verify("code", program.replace("sum", "max"), entry_point="", cases=cases).reason == "wrong"
