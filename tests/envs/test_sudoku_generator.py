"""Sudoku puzzles: one solution each, grids in one split each, released ones unchanged, compiled equal to plain."""

import json
import time
from collections import Counter
from functools import cache
from math import isqrt

import numpy as np
import pytest

import envs
from envs.splits import SPLITS, SUDOKU_9X9
from envs.sudoku import solver
from envs.sudoku.dataset import test_puzzles as committed_puzzles
from envs.sudoku.generator import (
    LEVELS,
    PAPER_BLANKS,
    TEST_RANKS,
    draw_9x9,
    fixed_set,
    grids,
    renamed,
    split_ranks,
)

HARD = "800000000003600000070090200050007000000045700000100030001000068008500010090000400"
HARD_SOLVED = "812753649943682175675491283154237896369845721287169534521974368438526917796318452"


@cache
def peers(size: int) -> list[set[int]]:
    """For each cell all cells of its row, column and box."""
    box = isqrt(size)
    places = [(i // size, i % size, i // size // box * box + i % size // box) for i in range(size * size)]
    return [{j for j, b in enumerate(places) if any(map(int.__eq__, a, b))} for a in places]


def count_solutions(puzzle: str, limit: int = 300) -> int:
    """Solutions up to `limit`, by another method than ours: every digit tried in the tightest blank."""
    size = isqrt(len(puzzle))
    blanks = [i for i, cell in enumerate(puzzle) if cell == "0"]
    if not blanks:
        return 1
    left = {i: set("123456789"[:size]).difference(puzzle[j] for j in peers(size)[i]) for i in blanks}
    cell = min(blanks, key=lambda i: len(left[i]))
    count = 0
    for digit in sorted(left[cell]):
        if count < limit:
            count += count_solutions(puzzle[:cell] + digit + puzzle[cell + 1 :], limit - count)
    return count


def solved(split: str, count: int = 5000, **arguments) -> list[str]:
    """The solution grids of the first problems."""
    env = envs.make("sudoku", split=split, **arguments)
    return [env.problem(i).metadata["solution"] for i in range(min(len(env), count))]


def is_solved(grid: str) -> bool:
    size = isqrt(len(grid))
    return (
        all(sum(grid[j] == grid[i] for j in peers(size)[i]) == 1 for i in range(len(grid)))
        and "0" not in grid
    )


def test_there_are_288_grids_and_each_is_legal():
    assert len(set(grids())) == 288 and list(grids()) == sorted(grids()) and all(map(is_solved, grids()))
    assert count_solutions("0" * 16) == 288


def test_splits_never_share_a_solution_grid():
    ranks = {split: split_ranks(split) for split in SPLITS}
    assert [len(ranks[split]) for split in SPLITS] == [180, 20, 88]
    assert sorted(sum(ranks.values(), ())) == list(range(288))
    for arguments in ({}, {"blanks": "4-11"}, {"prompt_style": "paper"}):
        for split in SPLITS:
            assert set(solved(split, **arguments)) == {grids()[rank] for rank in ranks[split]}


def test_9x9_splits_never_share_a_grid_even_with_other_names_for_the_digits():
    seen = {split: solved(split, 300, size=9) for split in SPLITS}
    for split, found in seen.items():
        assert {SUDOKU_9X9(renamed(grid)) for grid in found} == {split}
        assert len(set(map(renamed, found))) == len(found)
    other = seen["test"][0].translate(str.maketrans("123456789", "987654321"))
    assert renamed(other) == renamed(seen["test"][0]) != other


def test_all_splits_get_their_share_of_the_9x9_grids():
    rng = np.random.default_rng(0)
    found = [SUDOKU_9X9(renamed(solver.random_grid(rng, 9, compiled=True))) for _ in range(1000)]
    assert [round(found.count(split) / 1000, 1) for split in SPLITS] == [0.8, 0.1, 0.1]
    corner = [solver.random_grid(rng, 9, compiled=True)[0] for _ in range(900)]
    assert all(60 < corner.count(digit) < 140 for digit in "123456789")


def test_the_papers_grids_are_exactly_the_test_grids(shared_data):
    rows = [json.loads(line) for line in (shared_data / "sudoku/test.jsonl").read_text().splitlines()]
    solutions = {row["solution"] for row in rows}
    assert {grids().index(grid) for grid in solutions} == set(TEST_RANKS)
    assert solutions.isdisjoint(solved("train") + solved("validation"))
    assert not {row["puzzle"] for row in rows} & {puzzle for puzzle, _ in committed_puzzles()}
    assert Counter(row["puzzle"].count("0") for row in rows) == PAPER_BLANKS


def check_problem(problem: envs.Problem) -> int:
    """Asserts that it has one solution, the stored one; returns the number of its blanks."""
    puzzle, solution = problem.reference["puzzle"], problem.metadata["solution"]
    assert (
        is_solved(solution) and count_solutions(puzzle, 2) == 1 and solver.solve(puzzle, 2) == (1, solution)
    )
    assert all(given in ("0", cell) for given, cell in zip(puzzle, solution, strict=True))
    assert puzzle.count("0") == problem.metadata["blanks"]
    return puzzle.count("0")


@pytest.mark.parametrize("blanks", [None, "4-11", 12])
@pytest.mark.parametrize("split", SPLITS)
def test_every_4x4_puzzle_has_one_solution_and_the_blanks_asked_for(split, blanks):
    env = envs.make("sudoku", split=split, blanks=blanks)
    allowed = {None: set(PAPER_BLANKS), "4-11": set(range(4, 12)), 12: {12}}[blanks]
    problems = [env.problem(i) for i in range(256)]
    assert set(map(check_problem, problems)) == allowed
    if split != "train":
        assert len(env) == 256 == len({problem.reference["puzzle"] for problem in problems})


@pytest.mark.parametrize("level", LEVELS[9])
@pytest.mark.parametrize("split", SPLITS)
def test_every_9x9_puzzle_has_one_solution_and_the_blanks_of_its_level(split, level):
    env = envs.make("sudoku", split=split, size=9, level=level)
    low, high = LEVELS[9][level]
    assert all(low <= check_problem(env.problem(i)) <= high for i in range(3))
    assert len(env) == (1_000_000 if split == "train" else 256)


def test_a_second_solution_is_seen():
    swapped = "123456789456789123789123456231674895875912364694538217317265948542897631968341572"
    puzzle = "".join("0" if cell in "12" else cell for cell in swapped)  # 1 and 2 may change places
    assert is_solved(swapped) and count_solutions(puzzle, 2) == solver.solve(puzzle, 2)[0] == 2
    assert solver.solve("11" + "0" * 79) == (0, "")
    assert solver.solve(HARD, 2) == (1, HARD_SOLVED)


def test_blanks_come_in_the_papers_proportions():
    for split in ("validation", "test"):
        assert Counter(puzzle.count("0") for puzzle, _ in fixed_set(split)) == PAPER_BLANKS
        uses = Counter(grid for _, grid in fixed_set(split)).values()
        assert max(uses) - min(uses) <= 2 and len(uses) == len(split_ranks(split))
    env = envs.make("sudoku")
    drawn = Counter(env.problem(i).metadata["blanks"] for i in range(8000))
    for number, count in PAPER_BLANKS.items():
        expected = 8000 * count / 256
        assert abs(drawn[number] - expected) < 5 * expected**0.5


def test_plain_and_compiled_make_the_same_problems():
    for level, blanks in LEVELS[9].items():
        for split in ("train", "validation"):
            draw = [draw_9x9(split, 1000 + level, blanks, frozenset(), compiled=way) for way in (False, True)]
            assert draw[0] == draw[1]
    for puzzle in (HARD, "0" * 81, "11" + "0" * 79):
        cells, starts = [int(cell) for cell in puzzle], list(range(9)) * 9
        plain, compiled = (solver._count(cells, 3, 100_000, starts, compiled=way) for way in (False, True))
        assert plain[0] == compiled[0] and list(plain[1]) == list(compiled[1])
    assert solver._count([int(c) for c in HARD], 2, 10, [0] * 81, compiled=True)[0] == -1


def test_a_problem_does_not_depend_on_what_was_asked_before():
    plain, paper = envs.make("sudoku"), envs.make("sudoku", prompt_style="paper")
    backwards = [plain.problem(i) for i in reversed(range(50))][::-1]
    assert backwards == [plain.problem(i) for i in range(50)]
    assert [p.reference for p in backwards] == [paper.problem(i).reference for i in range(50)]
    nine = envs.make("sudoku", size=9)
    first = [nine.problem(i).prompt for i in range(10)]
    for i in range(100, 150):  # from now on compiled
        nine.problem(i)
    assert [nine.problem(i).prompt for i in range(10)] == first


def test_problems_are_cheap():
    env = envs.make("sudoku")
    env.problem(0)
    times = []
    for start in range(1000, 6000, 1000):
        begun = time.process_time()
        for i in range(start, start + 200):
            env.problem(i)
        times.append((time.process_time() - begun) / 200)
    assert sorted(times)[2] < 150e-6
