"""Sudoku: puzzles with one solution, splits that share no grid, prompts, rewards and rendering."""

import json
import re
from collections import Counter
from functools import cache
from math import isqrt

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import envs
from envs import EnvError
from envs.splits import SPLITS, SUDOKU_9X9
from envs.sudoku.problems import LEVELS, PAPER_BLANKS, TEST_RANKS, grids, renamed, split_ranks
from envs.sudoku.problems import test_puzzles as committed_puzzles
from envs.sudoku.rewards import has_format, paper_cells

PUZZLE, SOLUTION = "4003000414303240", "4123231414323241"
PIECES = (*"<answer> </answer> <answer 4123 0 ٣ <|eot_id|> <|endoftext|>".split(), SOLUTION, " ", "\n")
TEXTS = st.one_of(
    st.text(),
    st.lists(st.sampled_from(PIECES), max_size=8).map("".join),
    st.binary().map(lambda raw: raw.decode("latin-1")),
)


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


def test_splits_never_share_a_solution_grid(at_length):
    ranks = {split: split_ranks(split) for split in SPLITS}
    assert [len(ranks[split]) for split in SPLITS] == [180, 20, 88]
    assert sorted(sum(ranks.values(), ())) == list(range(288))
    for arguments in ({}, {"blanks": "4-11"}, {"prompt_style": "instruct"})[: None if at_length else 1]:
        for split in SPLITS:
            assert set(solved(split, **arguments)) == {grids()[rank] for rank in ranks[split]}


def test_9x9_splits_share_no_grid_even_with_digits_renamed():
    seen = {split: solved(split, 300, size=9) for split in SPLITS}
    for split, found in seen.items():
        assert {SUDOKU_9X9(renamed(grid)) for grid in found} == {split}
        assert len(set(map(renamed, found))) == len(found)
    other = seen["test"][0].translate(str.maketrans("123456789", "987654321"))
    assert renamed(other) == renamed(seen["test"][0]) != other


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
    assert is_solved(solution) and count_solutions(puzzle, 2) == 1
    assert all(given in ("0", cell) for given, cell in zip(puzzle, solution, strict=True))
    assert puzzle.count("0") == problem.metadata["blanks"]
    return puzzle.count("0")


@pytest.mark.parametrize("blanks", [None, pytest.param("4-11", marks=pytest.mark.slow), 12])
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


@pytest.fixture
def known(tmp_path):
    """The arguments that open an environment of one puzzle."""
    file = tmp_path / "known.jsonl"
    file.write_text(f'{{"puzzle": "{PUZZLE}", "solution": "{SOLUTION}"}}\n')
    return {"split": "test", "source": str(file)}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size": 5}, "Known: 4, 9"),
        ({"size": 9, "blanks": 55}, "55.*within 1 to 54"),
        *(({"blanks": blanks}, f"{blanks!r}.*4-11") for blanks in ["x", 0, "13", "9-8", "4-13", 2.5, ""]),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    with pytest.raises(EnvError, match=message):
        envs.make("sudoku", **arguments)


def test_levels_blanks_and_the_name_that_shows_them():
    shown = envs.make("sudoku", prompt_style="instruct", blanks=8).spec_name
    assert shown == "sudoku[prompt_style=instruct,blanks=8]"
    for level, blanks in LEVELS[4].items():
        env, (low, high) = envs.make("sudoku", level=level), blanks or (7, 12)
        assert all(low <= env.problem(i).metadata["blanks"] <= high for i in range(8))
    assert envs.make("sudoku", size=9, level=4, blanks=7).problem(0).metadata["blanks"] == 7


def slow_format(completion: str, size: int) -> bool:
    """The rule as the page says it: tokens by a regular expression, characters one by one."""
    text = re.split(r"<\|eot_id\|>|<\|endoftext\|>", completion, maxsplit=1)[0]
    if len(re.findall("<answer>", text)) != 1 or len(re.findall("</answer>", text)) != 1:
        return False
    found = re.search("<answer>(.*)</answer>", text, re.DOTALL)
    grid = found[1].strip() if found else ""
    return len(grid) == size * size and all(c in "123456789"[:size] for c in grid)


def slow_paper(completion: str, puzzle: str, solution: str) -> float:
    """The published steps: last match of the pattern, its digits, padded or cut, compared at the blanks."""
    completion = re.split(r"<\|eot_id\|>|<\|endoftext\|>", completion)[0]  # the trainer cuts there, so do we
    matches = re.findall(r"<answer>(.*?)</answer>", completion, re.DOTALL)
    digits = "".join(c for c in matches[-1].strip() if c.isdigit()) if matches else ""
    digits = (digits + "0" * len(puzzle))[: len(puzzle)]
    blanks = [i for i, cell in enumerate(puzzle) if cell == "0"]
    return sum(digits[i] == solution[i] for i in blanks) / len(blanks)


@settings(max_examples=200, deadline=None)
@given(TEXTS)
@example(f"x<answer> {SOLUTION}\n</answer><|eot_id|><answer>")  # as asked, the other two not
@example(f"</answer>{SOLUTION}<answer>")
@example("<answer>1٣12341234123412</answer>")
def test_quick_rewards_equal_slow_ones(text):
    for size in (1, 2, 4, 9):
        assert has_format(text, size) == slow_format(text, size)
    for one in (text, SOLUTION, f"<answer>{text}"):
        assert paper_cells(one, PUZZLE, SOLUTION) == slow_paper(one, PUZZLE, SOLUTION)


def test_the_papers_reward_pays_the_share_of_blanks_like_the_stored_solution(known):
    env = envs.make("sudoku", **known, reward_preset="paper")
    assert env.spec_name == "sudoku[known.jsonl,reward_preset=paper]"
    overwritten = "9" + SOLUTION[1:]  # a given, which costs nothing
    for answer, share in ((SOLUTION, 1.0), (overwritten, 1.0), ("4113231414323241", 6 / 7), (PUZZLE, 0.0)):
        env.reset(options={"index": 0})
        _, reward, _, _, info = env.step(f"<answer>{answer}</answer>")
        assert reward == info["rewards"]["paper_cells"] == share and info["correct"] == (answer == SOLUTION)
