"""The commands that the pages and `--help` show, run as they stand; and files of other tools, read and misread."""

import json
import shlex
from functools import partial
from pathlib import Path

import pytest

from tests.common.command_cases import PUZZLE, RIGHT, call, write
from verifiers import __main__ as command

ROOT = Path(__file__).parents[2]
PAGES = [*sorted(ROOT.glob("docs/verifiers/*.md")), ROOT / "README.md"]
# Of each task a right sample, with each field under every name that the examples use.
GSM8K = {"completion": r"<answer>\boxed{18}</answer>", "answer": "18", "solution": "18", "custom_id": "a"}
NUMBERS = {"numbers": [3, 5, 7], "target": 22, "nums": [3, 5, 7], "goal": 22}
SAMPLES = {
    "gsm8k": GSM8K,
    "math500": GSM8K,
    "sudoku": {"completion": RIGHT, "puzzle": PUZZLE},
    "countdown": {"completion": r"<answer>\boxed{3*5+7}</answer>"} | NUMBERS,
}


def examples() -> list[str]:
    """Every command line that is shown, without what a shell does with its output."""
    texts = [page.read_text(encoding="utf-8") for page in PAGES if page.exists()] + [command._EPILOG]
    lines = [line.strip().removeprefix("$ ") for text in texts for line in text.splitlines()]
    # serve runs until it is stopped: test_serve.py; test_pages.py has the file parity.py.
    others = ("TASK", "_generations.json", "verifiers serve", "parity.py")
    shown = [line.partition(" >")[0] for line in lines if line.startswith("python -m verifiers ")]
    return sorted({line for line in shown if not any(word in line for word in others)})


@pytest.fixture
def run(capfd, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return partial(call, capfd)


@pytest.mark.parametrize("mode", ["strict", "lenient"])
@pytest.mark.parametrize("example", examples())
def test_an_example_runs_as_it_stands(run, example: str, mode: str):
    task, path, *flags = shlex.split(example)[3:]
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    if path.endswith(".parquet"):
        pyarrow = pytest.importorskip("pyarrow")
        from pyarrow import parquet

        parquet.write_table(pyarrow.Table.from_pylist([SAMPLES[task]] * 3), path)
    else:
        write(Path(path), *[json.dumps(SAMPLES[task])] * 3)
    if "--references" in flags:
        Path(flags[flags.index("--references") + 1]).write_text("id,answer\na,18\n")
    status, rows, said = run(task, path, *flags, "--mode", mode)
    if "--output" in flags:
        rows = [
            json.loads(line) for line in Path(flags[flags.index("--output") + 1]).read_text().splitlines()
        ]
    assert status == 0 and "3 judged, 3 right" in said
    assert [row["correct"] for row in rows] == [True] * 3


OWN = """
import verifiers

def judge(completion, *, mode, answer):
    if mode == "strict":
        raise RuntimeError("not today")
    return verifiers.Verdict(correct=completion == answer)

verifiers.register("same", fields=["answer"], verify=judge)
"""


def test_a_task_of_a_file_is_named_with_the_file(run):
    Path("mine.py").write_text(OWN)
    path = write(Path("a.jsonl"), *[json.dumps({"completion": text, "answer": "b"}) for text in "ab"])
    for name in ("./mine.py:same", "mine.py", str(Path("mine.py").resolve())):
        for workers in ("1", "2"):
            status, rows, said = run(name, path, "--workers", workers)
            assert (
                status == 0 and [row["correct"] for row in rows] == [False, True] and "same, lenient" in said
            )
            assert [(row["score"], row["reason"], row["decided_by"]) for row in rows] == [
                (0.0, "wrong", "text"),
                (1.0, "ok", "text"),
            ]
    assert "line 1 made the task fail: RuntimeError: not today" in run("mine.py", path, "--mode", "strict")[2]
    Path("bad.py").write_text("x = 1\nx / 0\n")
    Path("none.py").write_text("")
    for name, words in (
        ("mine.py:sme", "mine.py has no task 'sme'. Did you mean \"same\"? It registers same"),
        ("none.py", "It calls no verifiers.register(...)"),
        ("bad.py", "ZeroDivisionError: division by zero"),
        ("other.py:x", "There is no file"),
        ("smae", "./FILE.py:smae"),
    ):
        status, rows, said = run(name, path)
        assert (status, rows) == (2, []) and words in said, said


def test_a_file_without_an_answer_says_what_it_saw(run):
    path = write(Path("a.jsonl"), *[json.dumps({"completion": "I am a prompt, 42", "answer": "42"})] * 3)
    status, _, said = run("gsm8k", path)
    assert status == 0 and "I am a prompt, 42'" in said and "\\boxed" in said and "another field?" in said
    write(Path(path), *[json.dumps({"completion": text, "answer": "42"}) for text in ("no", r"\boxed{41}")])
    assert "another field?" not in run("gsm8k", path)[2]


def test_minervas_sentence_is_an_answer_in_lenient_mode(run):
    text = "So it is.\nFinal Answer: The final answer is ${}$. I hope it is correct."
    rows = [
        {"resps": [[text.format(a)]], "doc": {"answer": r"\frac12"}} for a in ("0.5", r"\frac{1}{2}", "2")
    ]
    path = write(Path("samples_minerva_math_algebra.jsonl"), *map(json.dumps, rows))
    read = run("math500", path, "--preset", "lm-eval")[1]
    assert [row["correct"] for row in read] == [True, True, False]
    assert [row["extracted"] for row in read] == ["$0.5$", r"$\frac{1}{2}$", "$2$"]
    strict = run("math500", path, "--preset", "lm-eval", "--mode", "strict")[1]
    assert [row["reason"] for row in strict] == ["no_answer"] * 3


@pytest.mark.parametrize("place", ["gts", "text", "reward_model"])
def test_countdown_of_verl_is_read(run, place: str):
    truth = {"target": 22, "numbers": [3, 5, 7]}
    given = {
        "gts": {"gts": truth},
        "text": {"gts": json.dumps(truth)},
        "reward_model": {"reward_model": {"ground_truth": truth, "style": "rule"}},
    }[place]
    rows = [{"output": f"<answer>{text}</answer>"} | given for text in ("3*5+7", "3*5")]
    path = write(Path("a.jsonl"), *map(json.dumps, rows))
    assert [row["correct"] for row in run("countdown", path, "--preset", "verl")[1]] == [True, False]


def test_completions_without_a_mark_are_counted_shown_and_read_by_the_mode_that_is_named(run):
    texts = ["The total is 42.", "42 eggs", "Then 42", "So 42", "\\boxed{42}"]
    path = write(Path("a.jsonl"), *[json.dumps({"completion": text, "answer": "42"}) for text in texts])
    status, rows, said = run("gsm8k", path)
    assert status == 0 and [row["correct"] for row in rows] == [False] * 4 + [True]
    assert "4 completions without a marked answer" in said and "--mode flexible" in said
    assert "'Then 42'" in said and "'So 42'" not in said  # three are shown
    assert run("gsm8k", path, "--json")[1][-1]["unmarked"] == [repr(text) for text in texts[:3]]
    status, rows, said = run("gsm8k", path, "--mode", "flexible")
    assert status == 0 and all(row["correct"] for row in rows) and "marked" not in said
    padded = [text + "<|eot_id|>" + "<|endoftext|>" * 20 for text in texts[:2]]
    path = write(Path("a.jsonl"), *[json.dumps({"completion": text, "answer": "42"}) for text in padded])
    _, rows, said = run("gsm8k", path, "--json")
    assert rows[-1]["unmarked"] == [repr(text) for text in texts[:2]]
    choices = ["I choose the second.", "Paris"]  # which no mode reads
    path = write(Path("a.jsonl"), *[json.dumps({"completion": text, "answer": "B"}) for text in choices])
    _, _, said = run("math500", path)
    assert "no_answer 2" in said and "flexible" not in said
    choices = ["B", "The correct answer is B."]
    path = write(Path("a.jsonl"), *[json.dumps({"completion": text, "answer": "B"}) for text in choices])
    _, _, said = run("math500", path)
    assert "no_answer 1, ok 1" in said and "--mode flexible reads" in said
    status, _, said = run("code", path, "--mode", "flexible")
    assert status == 2 and said.startswith('Task "code" has no mode "flexible"')
