"""Files of the user for Countdown and Sudoku: read, checked, and kept out of training and validation."""

import json

import pytest

import envs
from envs import EnvError
from envs.countdown.problems import key
from envs.sudoku.problems import fixed_set, grids, renamed, split_ranks
from tests.common.env_cases import SPLITS, make_splits

GIVENS, SOLUTION = "4003000414303240", "4123231414323241"
GOOD = {"puzzle": GIVENS, "solution": SOLUTION}
EMPTY = {"puzzle": "0" * 81, "solution": "1" * 81}
NINE = dict.fromkeys(
    ("puzzle", "solution"),
    "123456789456789123789123456231674895875912364694538217317265948542897631968341572",
)
NUMBERS, SQUARE = "2 to 6 whole numbers", "which does not solve"


def write(path, *rows) -> str:
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows))
    return str(path)


@pytest.mark.parametrize(
    ("task", "size", "first", "row", "message"),
    [
        *(
            ("countdown", {}, {"numbers": [1, 2], "target": 3}, *case)
            for case in (
                ({"numbers": [1, 2]}, ".*must be an object"),
                ({"numbers": [1], "target": 1}, f".*{NUMBERS}"),
                ({"numbers": [1, 2.0], "target": 3}, f".*{NUMBERS}"),
                ({"numbers": [1, True], "target": 2}, f".*{NUMBERS}"),
                ({"numbers": [1, 2], "target": "3"}, ".*target '3'"),
                ({"numbers": [1, 2], "target": 0}, ".*target 0"),
                ({"numbers": [1, 2], "target": 99}, ".*cannot make 99"),
            )
        ),
        *(
            ("sudoku", {}, GOOD, *case)
            for case in (
                ({"solution": SOLUTION}, ".*an object with puzzle"),
                ({"puzzle": GIVENS}, ".*an object with puzzle, solution"),
                (GOOD | {"puzzle": "40030004"}, ".*the puzzle '40030004'; it must be 16 digits"),
                (GOOD | {"puzzle": 4003000414303240}, ".*must be 16 digits"),
                (EMPTY, ".*must be 16 digits from 0 to 4, 0 = blank; see also size=9"),
                (GOOD | {"puzzle": "4403000414303240"}, f".*{SQUARE}"),
                (GOOD | {"solution": "4123231414323214"}, f".*{SQUARE}"),
                (GOOD | {"solution": 7}, ".*the solution 7"),
            )
        ),
        *(("sudoku", {"size": 9}, NINE, *case) for case in ((GOOD, ".*size=4"), (EMPTY, f".*{SQUARE}"))),
    ],
)
def test_a_bad_line_is_named_whatever_split_is_opened(tmp_path, task, size, first, row, message):
    path = write(tmp_path / "bad.jsonl", first, row)
    for split in ("train", "test"):  # at once, not after the training
        with pytest.raises(EnvError, match=f"bad.jsonl, line 2 {message}"):
            envs.make(task, split=split, source=path, **size)
    assert len(envs.make(task, split="test", source=write(tmp_path / "good.jsonl", first), **size)) == 1


@pytest.mark.parametrize("task", ["countdown", "sudoku"])
def test_a_file_that_is_missing_empty_or_no_text(tmp_path, task):
    (tmp_path / "binary.jsonl").write_bytes(b"\xff\xff\x00")
    for path, message in (
        (str(tmp_path / "none.jsonl"), "No file .*none.jsonl. Give a file that may be read"),
        (write(tmp_path / "empty.jsonl", "\n"), "empty.jsonl holds no rows"),
        (str(tmp_path / "binary.jsonl"), "binary.jsonl, line 1 is not UTF-8"),
    ):
        with pytest.raises(EnvError, match=message):
            envs.make(task, source=path)


def keys(env, count: int = 2000) -> set:
    """What identifies the first problems of a split of Countdown."""
    problems = [env.problem(i).reference for i in range(min(len(env), count))]
    return {key(p["numbers"], p["target"]) for p in problems}


def test_countdowns_source_is_the_test_and_kept_out_of_train_and_validation(tmp_path):
    own = make_splits("countdown")
    taken = [own[split].problem(i).reference for split in ("train", "validation") for i in range(30)]
    rows = [{"numbers": p["numbers"][::-1], "target": p["target"], "extra": 1} for p in taken]
    path = write(tmp_path / "mine.jsonl", rows[0], "", *rows[1:])
    splits = make_splits("countdown", source=path)
    shown = [splits["test"].problem(i).reference for i in range(len(splits["test"]))]
    assert shown == [{"numbers": row["numbers"], "target": row["target"]} for row in rows]
    assert splits["test"].spec_name == "countdown[mine.jsonl]"
    removed = {key(p["numbers"], p["target"]) for p in taken}
    for split in ("train", "validation"):
        assert removed & keys(own[split], 30) and not removed & keys(splits[split], 3000)
    # Elsewhere the training stream stays what it was.
    assert sum(splits["train"].problem(i) == own["train"].problem(i) for i in range(1000)) >= 960


def test_the_test_files_of_d1_are_read_as_they_are(tmp_path):
    countdown = tmp_path / "cd3_test.jsonl"
    countdown.write_text('{"input": "30,100,93", "output": "23"}\n{"input": "3, 4", "output": "7"}\n')
    env = envs.make("countdown", split="test", source=str(countdown))
    assert env.problem(0).reference == {"numbers": [30, 100, 93], "target": 23}
    broken = write(tmp_path / "broken.jsonl", {"input": "30,x", "output": "23"})
    with pytest.raises(EnvError, match="line 1 has the numbers"):
        envs.make("countdown", split="test", source=broken)
    sudoku = tmp_path / "4x4_test_sudoku.csv"
    sudoku.write_text("Puzzle,Solution\n0310200404001043,4312213434211243\n")
    env = envs.make("sudoku", split="test", source=str(sudoku))
    assert env.problem(0).reference["puzzle"] == "0310200404001043"


def test_the_papers_countdown_is_read_whole_and_solved(shared_data):
    path = str(shared_data / "countdown/test.jsonl")
    splits = make_splits("countdown", source=path, level=2)
    test = splits["test"]
    problems = [test.problem(i) for i in range(len(test))]
    assert len(problems) == 256
    assert test.score_batch(problems, [test.demonstration(p) for p in problems]).rewards["correct"].all()
    assert not (keys(splits["train"], 3000) | keys(splits["validation"])) & keys(test)
    added = test.score_batch(problems, [test.habits(p)["adder"] for p in problems])
    assert added.rewards["correct"].sum() == 12


def drawn(split: str, count: int = 3000, **arguments) -> list[tuple[str, str]]:
    """The first (puzzle, solution) pairs of a split of Sudoku."""
    env = envs.make("sudoku", split=split, **arguments)
    problems = [env.problem(i) for i in range(min(count, len(env)))]
    return [(p.reference["puzzle"], p.metadata["solution"]) for p in problems]


def test_the_papers_sudoku_is_the_test_split_and_changes_no_other(shared_data):
    path = str(shared_data / "sudoku/test.jsonl")
    with open(path) as file:
        puzzles = [json.loads(line)["puzzle"] for line in file]
    env = envs.make("sudoku", split="test", source=path)
    assert len(env) == 256 and env.spec_name == "sudoku[test.jsonl]"
    assert [puzzle for puzzle, _ in drawn("test", source=path)] == puzzles
    env.reset(options={"index": 9})
    assert env.step(env.demonstration(env.problem(9)))[1] == 1.0
    for split in ("train", "validation"):
        assert drawn(split, 500, source=path) == drawn(split, 500)


@pytest.mark.parametrize("blanks", [None, pytest.param("4-11", marks=pytest.mark.slow)])
def test_a_files_solutions_are_absent_from_training_and_validation(tmp_path, blanks):
    ranks = {split: split_ranks(split) for split in SPLITS}
    held = [grids()[rank] for rank in (*ranks["train"][:90], *ranks["validation"][:10], *ranks["test"][:5])]
    rows = [{"puzzle": grid[:3] + "0" + grid[4:], "solution": grid} for grid in held]
    path = write(tmp_path / "known.jsonl", *rows)
    for split, left in (("train", 90), ("validation", 10)):
        before, pairs = drawn(split, blanks=blanks), drawn(split, blanks=blanks, source=path)
        assert {grid for _, grid in before} & set(held)  # without the file they are there
        assert not {grid for _, grid in pairs} & set(held)
        assert len({grid for _, grid in pairs}) == left
    assert [grid for _, grid in drawn("test", source=path)] == held


def test_a_file_that_leaves_no_grid_is_refused_at_once(tmp_path):
    path = write(tmp_path / "all.jsonl", *({"puzzle": grid, "solution": grid} for grid in grids()))
    for split in ("train", "validation"):
        with pytest.raises(EnvError, match=f"all.jsonl.*{split}|{split}.*file"):
            envs.make("sudoku", split=split, source=path)
    assert len(envs.make("sudoku", split="test", source=path)) == 288
    held = frozenset(grids()[rank] for rank in split_ranks("validation")[1:])
    assert len(fixed_set("validation", None, held)) == 256
    with pytest.raises(EnvError, match=r"1 .*validation.* 256 "):
        fixed_set("validation", (1, 1), held)


def test_nine_by_nine_files_are_read_and_kept_out_of_training(tmp_path):
    train, validation = drawn("train", 3, size=9, level=2), drawn("validation", 2, size=9, level=2)
    other = train[1][1].translate(str.maketrans("123456789", "234567891"))  # the same grid in other names
    held = [train[0][1], other, validation[0][1]]
    puzzles = (train[0][0], "0" + other[1:], validation[0][0])
    rows = [{"puzzle": puzzle, "solution": grid} for puzzle, grid in zip(puzzles, held, strict=True)]
    path = write(tmp_path / "nine.jsonl", *rows)
    assert [solution for _, solution in drawn("test", source=path, size=9)] == held
    new = drawn("train", 3, size=9, level=2, source=path)
    assert new[2] == train[2] and new[0] != train[0] and new[1] != train[1]
    again = drawn("train", 100, size=9, source=path) + drawn("validation", 20, size=9, source=path)
    assert not {renamed(grid) for _, grid in again} & set(map(renamed, held))
    assert drawn("validation", 2, size=9, level=2, source=path)[1] == validation[1]
