"""Sudoku puzzles from a file of the user: read, checked, and kept out of training."""

import json

import pytest

import envs
from envs import EnvError
from envs.sudoku.generator import fixed_set, grids, renamed, solutions, split_ranks

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
    assert "x" not in env.render_text(env.problem(0), "<answer>4123231414323241</answer>", color=False)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("{", "line 2 is not JSON"),
        ("[1, 2]", "an object with the key puzzle"),
        ({"solution": GOOD["solution"]}, "an object with the key puzzle"),
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
    for split in ("train", "test"):  # at once, not after the training
        with pytest.raises(EnvError, match=f"bad.jsonl, line 2 .*{message}" if row != "{" else message):
            envs.make("sudoku", split=split, source=path)


def test_a_file_that_is_missing_empty_or_no_text(tmp_path):
    with pytest.raises(EnvError, match=r"cannot be read.*--env-args source=generated"):
        envs.make("sudoku", source=str(tmp_path / "none.jsonl"))
    with pytest.raises(EnvError, match="holds no problem; each line must be like"):
        envs.make("sudoku", source=write(tmp_path / "empty.jsonl", ""))
    (tmp_path / "binary.jsonl").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(EnvError, match="cannot be read"):
        envs.make("sudoku", source=str(tmp_path / "binary.jsonl"))


def drawn(split: str, count: int = 3000, **arguments) -> list[tuple[str, str]]:
    """The first (puzzle, solution) pairs of a split."""
    env = envs.make("sudoku", split=split, **arguments)
    problems = [env.problem(i) for i in range(min(count, len(env)))]
    return [(p.reference["puzzle"], p.metadata["solution"]) for p in problems]


def test_the_papers_file_changes_no_training_problem(shared_data):
    path = str(shared_data / "sudoku/test.jsonl")
    for split in ("train", "validation"):
        assert drawn(split, 500, source=path) == drawn(split, 500)


@pytest.mark.parametrize("blanks", [None, "4-11"])
def test_a_files_solutions_are_absent_from_training_and_validation(tmp_path, blanks):
    ranks = {split: split_ranks(split) for split in ("train", "validation", "test")}
    held = [grids()[rank] for rank in (*ranks["train"][:90], *ranks["validation"][:10], *ranks["test"][:5])]
    rows = [{"puzzle": grid[:3] + "0" + grid[4:], "solution": grid} for grid in held]
    path = write(tmp_path / "known.jsonl", *rows)
    for split, left in (("train", 90), ("validation", 10)):
        before, pairs = drawn(split, blanks=blanks), drawn(split, blanks=blanks, source=path)
        assert {grid for _, grid in before} & set(held)  # without the file they are there
        assert not {grid for _, grid in pairs} & set(held)
        assert len({grid for _, grid in pairs}) == left and all(len(solutions(p)) == 1 for p, _ in pairs)
    assert [grid for _, grid in drawn("test", source=path)] == held


def test_a_file_that_leaves_no_grid_is_refused_at_once(tmp_path):
    ranks = {split: split_ranks(split) for split in ("train", "validation", "test")}
    whole = [{"puzzle": grid} for grid in grids()]
    path = write(tmp_path / "all.jsonl", *whole)
    for split in ("train", "validation"):
        with pytest.raises(EnvError, match=f"every grid of {split} solves a puzzle of the file"):
            envs.make("sudoku", split=split, source=path)
    assert len(envs.make("sudoku", split="test", source=path)) == 288
    held = frozenset(grids()[rank] for rank in ranks["validation"][1:])
    assert len(fixed_set("validation", None, held)) == 256
    with pytest.raises(
        EnvError, match="leaves 1 grids to validation, too few for 256 different puzzles of 1"
    ):
        fixed_set("validation", (1, 1), held)


def test_nine_by_nine_files_are_read_and_kept_out_of_training(tmp_path):
    train, validation = drawn("train", 3, size=9, level=2), drawn("validation", 2, size=9, level=2)
    other = train[1][1].translate(str.maketrans("123456789", "234567891"))  # the same grid in other names
    rows = [{"puzzle": train[0][0]}, {"puzzle": "0" + other[1:]}, {"puzzle": validation[0][0]}]
    path = write(tmp_path / "nine.jsonl", *rows)
    env = envs.make("sudoku", split="test", source=path, size=9)
    assert [env.problem(i).metadata["solution"] for i in range(3)] == [train[0][1], other, validation[0][1]]
    new = drawn("train", 3, size=9, level=2, source=path)
    assert new[2] == train[2] and new[0] != train[0] and new[1] != train[1]
    held = {renamed(grid) for grid in (train[0][1], other, validation[0][1])}
    again = drawn("train", 300, size=9, source=path) + drawn("validation", 60, size=9, source=path)
    assert not {renamed(grid) for _, grid in again} & held
    assert drawn("validation", 2, size=9, level=2, source=path)[1] == validation[1]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (GOOD, r"must be 81 digits from 0 to 9, 0 = blank. For 4x4: size=4."),
        ({"puzzle": "0" * 80}, "81 digits"),
        ({"puzzle": "11" + "0" * 79}, "which no grid solves"),
        ({"puzzle": "0" * 81, "solution": "1" * 81}, "which does not solve"),
        ({"puzzle": "0" * 81, "solution": "12"}, "which does not solve"),
    ],
)
def test_a_bad_nine_by_nine_line_is_named(tmp_path, row, message):
    path = write(tmp_path / "bad.jsonl", row)
    with pytest.raises(EnvError, match=f"bad.jsonl, line 1 .*{message}"):
        envs.make("sudoku", size=9, source=path)
    nine = write(tmp_path / "nine.jsonl", {"puzzle": "0" * 81})
    with pytest.raises(EnvError, match=r"must be 16 digits from 0 to 4, 0 = blank. For 9x9: size=9."):
        envs.make("sudoku", source=nine)
    assert len(envs.make("sudoku", source=nine, size=9, split="test")) == 1


def test_a_search_without_end_is_given_up(tmp_path):
    puzzle = "000005080000601043000000000010500000000106000300000005530000061000000004000000000"  # unsolvable
    with pytest.raises(
        EnvError, match=r'line 1 has a puzzle too hard for our search, .*; give its "solution"'
    ):
        envs.make("sudoku", size=9, source=write(tmp_path / "endless.jsonl", {"puzzle": puzzle}))
