"""The task `code` for whole programs: cases of standard input and output, and methods of a class."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.verifiers.test_code import BOOK, attacks, both_modes, judge_all, judge_rows, needed, programs
from verifiers import verify
from verifiers.code.task import first_failure, job_of, run
from verifiers.code.values import read_cases, same_print

pytestmark = needed


def printing(outputs: dict[str, str], **more: float) -> list[dict]:
    """Cases of {standard input: output}."""
    return [{"stdin": text, "expected": output, **more} for text, output in outputs.items()]


SUM = printing({"2\n3 4\n": "7\n", "3\n1 -1 5": "5", "0\n\n": "0"})
LINES = printing({"ab\ncd\n": "ba\ndc\n", "x y\n": "y x", "é\n": "é\n"})
MEAN = printing({"1 2": "1.5", "1 1 2": "1.3333333333"}, float_tolerance=1e-6)
YES = printing({"0": "YES", "2": "YES", "1": "NO", "7": "NO", "100": "YES"})
CASES = {"sum": SUM, "lines": LINES, "mean": MEAN, "yes": YES}


@both_modes
def test_forty_right_programs_are_paid_and_forty_wrong_ones_are_not(mode):
    book = programs(BOOK.with_name("programs.txt"))
    found = judge_rows([("", CASES[name], f"```python\n{text}```") for name, *_, text in book], mode)
    truth = [word == "right" for _, word, *_ in book]
    assert sum(truth) == 40 and found.correct.tolist() == truth


def test_no_hostile_function_made_a_program_is_paid(shared_data):
    wrong = [(a, problem) for a, problem in attacks(shared_data) if not a["correct"] and not a.get("lenient")]
    asked = []
    for attack, problem in wrong:
        cases = [{"stdin": repr(c["args"]), "expected": repr(c["expected"])} for c in problem["cases"]]
        call = f"print(repr({problem['entry_point']}(*eval(input()))))"
        asked.append(("", cases, f"{attack['program']}\n{call}\n"))
    paid = judge_rows(asked).correct
    assert len(wrong) > 25 and [a["id"] for (a, _), right in zip(wrong, paid, strict=True) if right] == []


def test_the_fuel_of_a_program_is_the_same_in_five_processes():
    source = "import sys\nprint(sum(i * i for i in range(20000)) + int(sys.stdin.read() or 0))"
    cases = read_cases(printing({"1": str(sum(i * i for i in range(20000)) + 1)}))
    job = job_of(0, entry="", sources=[source], cases=cases, lenient=True)
    with ThreadPoolExecutor(5) as threads:
        replies = list(threads.map(lambda _: run([job])[0], range(5)))
    assert len({reply["fuel"] for reply in replies}) == 1 and replies[0]["score"] == 1.0


def test_a_method_of_a_class_is_called_on_an_object_of_its_own():
    code = "class Solution:\n    def __init__(self):\n        self.seen = 0\n\n"
    code += "    def add(self, a, b):\n        self.seen += 1\n        return a + b * self.seen\n"
    cases = [{"args": [1, 2], "expected": 3}, {"args": [2, 2], "expected": 4}]
    text = f"Here it is.\n```python\nprint('no')\n```\n```python\n{code}```\nDone."
    assert verify("code", text, entry_point="Solution.add", cases=cases).correct
    assert not verify("code", text, entry_point="Solution.sub", cases=cases).correct
    assert not verify("code", code.replace("a + b", "a - b"), entry_point="Solution.add", cases=cases).correct


def test_output_is_compared_line_by_line_and_numbers_by_their_tolerance():
    assert same_print("1 2\n3\n\n", "1 2  \n3", 0)
    assert not same_print("1 2\n3", "1  2\n3", 0) and same_print("1 2\n3", "1  2\n3", 1e-6)
    assert not same_print("1 2 3", "1 2\n3", 1e-6)
    assert same_print("1e9", "1000000001", 1e-6) and not same_print("1e9", "1000100000", 1e-6)
    assert not same_print("x 1.0", "y 1.0", 1e-6) and not same_print("1.0", "nan", 1e-6)


def test_a_model_is_told_what_its_program_prints():
    reference = {"entry_point": "", "cases": YES}
    assert first_failure("print('YES')", reference, 3) == "With the input '1' the program prints 'YES\\n'."
    assert first_failure("print(1 / 0)", reference, 3) == "With the input '0' the program ends in an error."


def test_prose_before_a_program_is_left_out():
    programs = (
        "import sys\nprint(sum(map(int, sys.stdin.read().split()[1:])))",
        "n = int(input())\nprint(sum(map(int, input().split())) if n else 0)",
        "print(7)",
    )
    texts = [f"This reads all numbers and adds them:\n\n{program}" for program in programs]
    assert judge_all(texts, entry_point="", cases=SUM).reasons == ["ok", "ok", "wrong"]
    assert not judge_all(texts, "strict", entry_point="", cases=SUM).correct.any()


READERS = [
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
]


@pytest.mark.parametrize(("function", "reason"), [("sum", "ok"), ("max", "wrong")])
def test_a_program_may_read_and_write_by_descriptor_and_in_a_thread(function, reason):
    texts = [f"total = lambda text: {function}(map(int, text.split()))\n{program}" for program in READERS]
    cases = printing({"3 4\n": "7", "10 -4\n": "6"})
    assert judge_all(texts, entry_point="", cases=cases).reasons == [reason] * len(READERS)
    lacking = verify("code", "import requests\nprint(1)", entry_point="", cases=cases)
    assert lacking.reason == "error" and "requests" in lacking.detail
