"""Sudoku puzzles from a person's file, and the arguments that choose them."""

import json

import pytest

import envs
from envs import EnvError

GOOD = {"puzzle": "4003000414303240", "solution": "4123231414323241"}


def write(path, *rows) -> str:
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return str(path)


def test_the_papers_file_is_the_test_split(shared_data):
    path = shared_data / "sudoku/test.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    env = envs.make("sudoku", split="test", source=str(path))
    assert len(env) == 256 and env.spec_name == "sudoku[test.jsonl]"
    assert [env.problem(i).reference["puzzle"] for i in range(256)] == [row["puzzle"] for row in rows]
    env.reset(options={"index": 9})
    assert env.step(env.demonstration(env.problem(9)))[1] == 1.0
    assert envs.make("sudoku", source=str(path)).problem(0) == envs.make("sudoku").problem(0)


def test_a_file_without_solutions_and_with_ambiguous_puzzles(tmp_path):
    ambiguous = "0" * 16
    path = write(tmp_path / "mine.jsonl", {"puzzle": ambiguous}, "", GOOD)
    env = envs.make("sudoku", split="test", source=path)
    assert len(env) == 2 and env.problem(0).metadata["solution"] == "1234341221434321"
    env.reset(options={"index": 0})
    assert env.step("<answer>4123231414323241</answer>")[1] == 1.0
    assert "x" not in env.picture(env.problem(0), "<answer>4123231414323241</answer>", color=False)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("{", "line 2 is not JSON"),
        ("[1, 2]", 'an object with the key "puzzle"'),
        ({"solution": GOOD["solution"]}, 'an object with the key "puzzle"'),
        ({"puzzle": "40030004"}, "the puzzle '40030004'; it must be 16 digits"),
        ({"puzzle": 4003000414303240}, "must be 16 digits"),
        ({"puzzle": "5003000414303240"}, "16 digits from 0 to 4"),
        ({"puzzle": "4403000414303240"}, "which no grid solves"),
        (GOOD | {"solution": "4123231414323214"}, "which does not solve"),
        (GOOD | {"solution": 7}, "which does not solve"),
    ],
)
def test_a_bad_line_is_named_by_its_number(tmp_path, row, message):
    path = write(tmp_path / "bad.jsonl", GOOD, row)
    for split in ("train", "test"):  # told at once, not after the training
        with pytest.raises(EnvError, match=f"bad.jsonl, line 2 .*{message}" if row != "{" else message):
            envs.make("sudoku", split=split, source=path)


def test_a_file_that_is_missing_empty_or_no_text(tmp_path):
    with pytest.raises(EnvError, match=r"cannot be read.*--env-args source=generated"):
        envs.make("sudoku", source=str(tmp_path / "none.jsonl"))
    with pytest.raises(EnvError, match="holds no puzzle; each line must be like"):
        envs.make("sudoku", source=write(tmp_path / "empty.jsonl", ""))
    (tmp_path / "binary.jsonl").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(EnvError, match="cannot be read"):
        envs.make("sudoku", source=str(tmp_path / "binary.jsonl"))


@pytest.mark.parametrize("blanks", ["x", 0, "0-3", "13", "9-8", "4-13", 2.5, "", "-4", True])
def test_wrong_numbers_of_blanks_are_refused(blanks):
    with pytest.raises(EnvError, match=r'is not a number or a range such as "4-11"'):
        envs.make("sudoku", blanks=blanks)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"split": "tets"}, r'split="tets" is unknown\. Did you mean "test"'),
        ({"prompt_style": "papers"}, 'Did you mean "paper"'),
    ],
)
def test_wrong_choices_answer_with_the_nearest(arguments, message):
    with pytest.raises(EnvError, match=message):
        envs.make("sudoku", **arguments)


def test_the_shown_name_tells_the_task_and_not_the_split():
    assert envs.make("sudoku", split="test", prompt_style="plain", source="generated").spec_name == "sudoku"
    assert (
        envs.make("sudoku", prompt_style="paper", blanks=8).spec_name == "sudoku[prompt_style=paper,blanks=8]"
    )
