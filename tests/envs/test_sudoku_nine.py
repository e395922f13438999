"""9x9 Sudoku: unique puzzles, grids in one split each, and plain Python equal to compiled code."""

import hashlib
import json
import subprocess
import sys
from importlib import resources

import numpy as np
import pytest

import envs
from envs import EnvError
from envs.splits import SUDOKU_9X9
from envs.sudoku import solver
from envs.sudoku.dataset import test_file as committed_again
from envs.sudoku.generator import LEVELS, draw_9x9, renamed

HARD_SOLVED = "812753649943682175675491283154237896369845721287169534521974368438526917796318452"
SPLITS = ("train", "validation", "test")
HARD = "800000000003600000070090200050007000000045700000100030001000068008500010090000400"


def boxes(grid: str) -> list[str]:
    """The 27 rows, columns and boxes of 81 cells."""
    rows = [grid[9 * r : 9 * r + 9] for r in range(9)]
    columns = [grid[c::9] for c in range(9)]
    squares = ["".join(rows[r + k][c : c + 3] for k in range(3)) for r in (0, 3, 6) for c in (0, 3, 6)]
    return rows + columns + squares


PEERS = [
    [
        j
        for j in range(81)
        if j // 9 == i // 9 or j % 9 == i % 9 or (j // 27, j % 9 // 3) == (i // 27, i % 9 // 3)
    ]
    for i in range(81)
]


def others_fit(puzzle: str, solution: str) -> bool:
    """Whether a grid other than `solution` fits the givens: every digit tried in the tightest blank."""
    blanks = [i for i, cell in enumerate(puzzle) if cell == "0"]
    if not blanks:
        return puzzle != solution
    left = {i: set("123456789").difference(puzzle[j] for j in PEERS[i]) for i in blanks}
    cell = min(blanks, key=lambda i: len(left[i]))
    return any(others_fit(puzzle[:cell] + d + puzzle[cell + 1 :], solution) for d in sorted(left[cell]))


@pytest.mark.parametrize("level", LEVELS[9])
@pytest.mark.parametrize("split", SPLITS)
def test_every_puzzle_has_one_solution_and_the_blanks_of_its_level(split, level):
    env = envs.make("sudoku", split=split, size=9, level=level)
    low, high = LEVELS[9][level]
    for i in range(3):
        problem = env.problem(i)
        puzzle, solution = problem.reference["puzzle"], problem.metadata["solution"]
        assert low <= puzzle.count("0") == problem.metadata["blanks"] <= high
        assert all(sorted(unit) == list("123456789") for unit in boxes(solution))
        assert all(given in ("0", cell) for given, cell in zip(puzzle, solution, strict=True))
        assert not others_fit(puzzle, solution) and solver.solve(puzzle, 2) == (1, solution)
    assert len(env) == (1_000_000 if split == "train" else 256)


def test_a_second_solution_is_seen():
    swapped = "123456789456789123789123456231674895875912364694538217317265948542897631968341572"
    assert all(sorted(unit) == list("123456789") for unit in boxes(swapped))
    puzzle = "".join("0" if cell in "12" else cell for cell in swapped)  # 1 and 2 may change places
    assert others_fit(puzzle, swapped) and solver.solve(puzzle, 2)[0] == 2
    assert solver.solve("11" + "0" * 79) == (0, "")
    assert solver.solve(HARD, 2) == (1, HARD_SOLVED)


def test_splits_never_share_a_grid_even_with_other_names_for_the_digits():
    seen = {}
    for split in SPLITS:
        env = envs.make("sudoku", split=split, size=9)
        grids = [env.problem(i).metadata["solution"] for i in range(300 if split == "train" else 256)]
        assert {SUDOKU_9X9(renamed(grid)) for grid in grids} == {split}
        seen[split] = set(map(renamed, grids))
        assert len(seen[split]) == len(grids)
    assert not seen["train"] & seen["validation"] and not seen["test"] & (seen["train"] | seen["validation"])
    other = grids[0].translate(str.maketrans("123456789", "987654321"))
    assert renamed(other) == renamed(grids[0]) and SUDOKU_9X9(renamed(other)) == split


def test_all_splits_get_their_share_of_the_grids():
    rng = np.random.default_rng(0)
    found = [SUDOKU_9X9(renamed(solver.random_grid(rng, 9, compiled=True))) for _ in range(1000)]
    assert [round(found.count(split) / 1000, 1) for split in SPLITS] == [0.8, 0.1, 0.1]
    corner = [solver.random_grid(rng, 9, compiled=True)[0] for _ in range(900)]
    assert all(60 < corner.count(digit) < 140 for digit in "123456789")


def test_plain_and_compiled_make_the_same_problems():
    for level, blanks in LEVELS[9].items():
        for split in ("train", "validation"):
            index = 1000 + level
            plain = draw_9x9(split, index, blanks, frozenset(), compiled=False)
            assert plain == draw_9x9(split, index, blanks, frozenset(), compiled=True)
    for puzzle in (HARD, "0" * 81, "11" + "0" * 79):
        cells, starts = [int(cell) for cell in puzzle], list(range(9)) * 9
        plain, compiled = (solver._count(cells, 3, 100_000, starts, compiled=way) for way in (False, True))
        assert plain[0] == compiled[0] and list(plain[1]) == list(compiled[1])
    assert solver._count([int(c) for c in HARD], 2, 10, [0] * 81, compiled=True)[0] == -1


def test_problems_do_not_depend_on_what_was_asked_before_or_on_the_process():
    env = envs.make("sudoku", size=9)
    first = [env.problem(i).prompt for i in range(10)]
    for i in range(100, 150):  # from now on compiled
        env.problem(i)
    assert [env.problem(i).prompt for i in range(10)] == first
    code = (
        "import envs, sys; env = envs.make('sudoku', size=9); print(*(env.problem(i).prompt for i in (9, 3)))"
    )
    there = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert there.strip() == f"{first[9]} {first[3]}"


def test_released_puzzles_never_change():
    text = resources.files("spg_data").joinpath("sudoku/test-9x9.jsonl").read_bytes()
    assert text.decode("ascii") == committed_again(9)
    assert hashlib.sha256(text).hexdigest() == FILE
    rows = [json.loads(line) for line in text.splitlines()]
    env = envs.make("sudoku", split="test", size=9)
    assert [env.problem(i).reference["puzzle"] for i in range(256)] == [row["puzzle"] for row in rows]
    for (split, level), digest in PINNED.items():
        env = envs.make("sudoku", split=split, size=9, level=level)
        text = "\n".join(env.problem(i).prompt for i in range(10))
        assert hashlib.sha256(text.encode()).hexdigest()[:16] == digest, (split, level)


@pytest.mark.parametrize("style", ["plain", "paper"])
def test_demonstrations_score_one_and_careless_solves_few(style):
    many = envs.make_vec("sudoku", 256, split="test", size=9, prompt_style=style)
    many.reset(options={"index": range(256)})
    problems = [many.env.problem(i) for i in range(256)]
    _, rewards, _, _, info = many.step([many.env.demonstration(p) for p in problems])
    assert rewards.tolist() == [1.0] * 256 == info["rewards"]["format"].tolist()
    many.reset(options={"index": range(256)})
    _, rewards, _, _, info = many.step([many.env.habits(p)["careless"] for p in problems])
    assert 0.02 < rewards.mean() < 0.12 and info["rewards"]["format"].all()
    assert set(info["reason"]) == {"ok", "wrong"}


def test_prompts():
    env = envs.make("sudoku", size=9)
    puzzle = env.problem(7).reference["puzzle"]
    assert env.problem(7).prompt == f"sudoku {puzzle}" and len(puzzle) == 81
    prompt = envs.make("sudoku", size=9, prompt_style="paper").problem(7).prompt
    assert "9x9 Sudoku as 81 digits: nine rows of nine" in prompt and "nine 3x3 boxes" in prompt
    assert prompt.endswith(f"Now solve this one.\nPuzzle: {puzzle}")
    example = prompt.partition("Puzzle: ")[2]
    solution = example.partition("<answer>\n")[2][:81]
    assert solver.solve(example[:81], 2) == (1, solution) and SUDOKU_9X9(renamed(solution)) == "train"


def test_the_board_has_nine_rows_and_boxes():
    env = envs.make("sudoku", size=9, split="test")
    problem = env.problem(0)
    lines = env.render_text(problem, None, color=False).splitlines()
    assert len(lines) == 11 and lines[3] == lines[7] == "+".join(["-" * 9] * 3)
    shown = "".join(c for c in "".join(lines) if c.isdigit() or c == ".")
    assert shown == problem.reference["puzzle"].replace("0", ".")
    done = env.render_text(problem, env.demonstration(problem), color=False)
    assert done.count("(") == problem.metadata["blanks"] + 1 and "(n) right" in done
    assert "no grid of 81 digits" in env.render_text(problem, "<answer>12</answer>", color=False)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size": 5}, 'size="5" is unknown.*Known: 4, 9'),
        ({"size": True}, 'size="True" is unknown'),
        ({"level": 5}, 'level="5" is unknown.*Known: 1, 2, 3, 4'),
        ({"size": 9, "blanks": 55}, "within 1 to 54"),
        ({"reward_preset": "papers"}, 'reward_preset="papers" is unknown. Did you mean "paper"'),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    with pytest.raises(EnvError, match=message):
        envs.make("sudoku", **arguments)


def test_levels_and_blanks():
    assert envs.make("sudoku", size=9, level=2).spec_name == "sudoku[size=9,level=2]"
    assert envs.make("sudoku", level=1).problem(5) == envs.make("sudoku").problem(5)
    for size, levels in LEVELS.items():
        for level, blanks in levels.items():
            env = envs.make("sudoku", size=size, level=level)
            low, high = blanks or (7, 12)
            assert all(low <= env.problem(i).metadata["blanks"] <= high for i in range(8))
    assert envs.make("sudoku", size=9, level=4, blanks=7).problem(0).metadata["blanks"] == 7
    assert envs.make("sudoku", level=3, blanks="4-11").problem(0) == envs.make(
        "sudoku", blanks="4-11"
    ).problem(0)


FILE = "3e75c7c132808f965c4c2572553c5c14d0218487c9537bf927f48bd8bfae821a"
PINNED = {
    ("train", 1): "f4ba1cb5453946be",
    ("train", 4): "7772e887498d5f46",
    ("validation", 1): "fe970d0fb7abaa1f",
    ("validation", 4): "fe78086e938dbf28",
    ("test", 1): "1d52c1a2feefe27d",
    ("test", 4): "9c2df5de9928232d",
}
