"""Sudoku's puzzles, splits, prompts and pictures."""

import hashlib
import json
import time
from collections import Counter
from importlib import resources

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import envs
from envs import EnvError
from envs.sudoku.dataset import test_file as committed_again
from envs.sudoku.dataset import test_puzzles as committed_puzzles
from envs.sudoku.generator import PAPER_BLANKS, TEST_RANKS, fixed_set, grids, split_ranks

SPLITS = ("train", "validation", "test")


def count_solutions(puzzle: str) -> int:
    """By trying: every digit in the first blank that no cell of its row, column or box holds."""
    cell = puzzle.find("0")
    if cell < 0:
        return 1
    row, column = divmod(cell, 4)
    seen = {
        puzzle[i]
        for i in range(16)
        if i // 4 == row or i % 4 == column or (i // 8, i % 4 // 2) == (row // 2, column // 2)
    }
    return sum(count_solutions(puzzle[:cell] + d + puzzle[cell + 1 :]) for d in "1234" if d not in seen)


def solved(split: str, **arguments) -> set[str]:
    """The solution grids of the first 5,000 problems."""
    env = envs.make("sudoku", split=split, **arguments)
    return {env.problem(i).metadata["solution"] for i in range(min(len(env), 5000))}


def test_there_are_288_grids_and_each_is_legal():
    assert len(set(grids())) == 288 and list(grids()) == sorted(grids())
    assert all(count_solutions(grid) == 1 and count_solutions("0" + grid[1:]) == 1 for grid in grids())
    assert count_solutions("0" * 16) == 288


def test_splits_never_share_a_solution_grid():
    ranks = {split: split_ranks(split) for split in ("train", "validation", "test")}
    assert {split: len(ranks[split]) for split in SPLITS} == {"train": 180, "validation": 20, "test": 88}
    assert sorted(ranks["train"] + ranks["validation"] + ranks["test"]) == list(range(288))
    for arguments in ({}, {"blanks": "4-11"}, {"prompt_style": "paper"}):
        for split in SPLITS:
            assert solved(split, **arguments) == {grids()[rank] for rank in ranks[split]}


def test_the_papers_grids_are_exactly_the_test_grids(shared_data):
    rows = [json.loads(line) for line in (shared_data / "sudoku/test.jsonl").read_text().splitlines()]
    assert {grids().index(row["solution"]) for row in rows} == set(TEST_RANKS)
    assert not {row["solution"] for row in rows} & (solved("train") | solved("validation"))
    assert not {row["puzzle"] for row in rows} & {puzzle for puzzle, _ in committed_puzzles()}
    assert Counter(row["puzzle"].count("0") for row in rows) == PAPER_BLANKS


@pytest.mark.parametrize("blanks", [None, "4-11", 12])
@pytest.mark.parametrize("split", SPLITS)
def test_every_puzzle_has_one_solution_and_the_blanks_asked_for(split, blanks):
    env = envs.make("sudoku", split=split, blanks=blanks)
    allowed = {None: set(PAPER_BLANKS), "4-11": set(range(4, 12)), 12: {12}}[blanks]
    problems = [env.problem(i) for i in range(256)]
    for problem in problems:
        puzzle, solution = problem.reference["puzzle"], problem.metadata["solution"]
        assert count_solutions(puzzle) == 1 and puzzle.count("0") == problem.metadata["blanks"] in allowed
        assert all(p in ("0", s) for p, s in zip(puzzle, solution, strict=True)) and solution in grids()
    if split != "train":
        assert len(env) == 256 == len({problem.reference["puzzle"] for problem in problems})
    assert {problem.metadata["blanks"] for problem in problems} == allowed


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


def test_the_committed_test_file_is_what_its_function_makes():
    text = resources.files("spg_data").joinpath("sudoku/test.jsonl").read_bytes()
    assert text == committed_again().encode("ascii")
    assert (
        hashlib.sha256(text).hexdigest() == "5a015b519f29fed7377cc5bda2628fead679a4ddc6facc36ee9b421788b26011"
    )


def test_a_released_puzzle_never_changes():
    digests = {}
    for split in SPLITS:
        env = envs.make("sudoku", split=split)
        text = "\n".join(env.problem(i).prompt for i in range(200))
        digests[split] = hashlib.sha256(text.encode()).hexdigest()[:16]
    assert digests == PINNED


def test_a_problem_does_not_depend_on_what_was_asked_before():
    env, other = envs.make("sudoku"), envs.make("sudoku", prompt_style="paper")
    backwards = [env.problem(i) for i in reversed(range(50))][::-1]
    assert backwards == [env.problem(i) for i in range(50)]
    assert [p.reference for p in backwards] == [other.problem(i).reference for i in range(50)]
    assert env.problem(len(env) - 1).prompt.startswith("sudoku ")
    for index in (len(env), -1):
        with pytest.raises(EnvError, match="sudoku: no problem"):
            env.problem(index)


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


def test_plain_prompts_are_short_and_ascii():
    env = envs.make("sudoku")
    for i in range(200):
        prompt = env.problem(i).prompt
        assert (
            prompt == f"sudoku {env.problem(i).reference['puzzle']}"
            and len(prompt) == 23
            and prompt.isascii()
        )


def test_paper_prompts_show_the_tags_and_three_solved_examples():
    env = envs.make("sudoku", prompt_style="paper")
    problem = env.problem(3)
    for part in ("<reasoning>", "</reasoning>", "<answer>", "</answer>", "2x2", "row", "column"):
        assert part in problem.prompt
    assert problem.prompt.endswith(f"Puzzle: {problem.reference['puzzle']}")
    train = {grids()[rank] for rank in split_ranks("train")}
    examples = problem.prompt.split("Example ")[1:]
    assert len(examples) == 3
    for example in examples:
        puzzle = example.partition("Puzzle: ")[2][:16]
        completion = example.partition("\n")[2].partition("\n")[2]
        assert completion.partition("<answer>\n")[2][:16] in train and count_solutions(puzzle) == 1
        from verifiers import verify

        assert verify("sudoku", completion.partition("Now solve")[0], puzzle=puzzle).correct


@pytest.mark.parametrize("style", ["plain", "paper"])
def test_demonstrations_score_one_and_careless_solves_few(style):
    many = envs.make_vec("sudoku", 1000, prompt_style=style)
    many.reset(options={"index": range(1000)})
    problems = [many.env.problem(i) for i in range(1000)]
    _, rewards, _, _, info = many.step([many.env.demonstration(p) for p in problems])
    assert rewards.tolist() == [1.0] * 1000
    assert all(values.tolist() == [1.0] * 1000 for values in info["rewards"].values())
    many.reset(options={"index": range(1000)})
    _, rewards, _, _, info = many.step([many.env.habits(p)["careless"] for p in problems])
    assert 0.02 <= rewards.mean() <= 0.06 and info["rewards"]["format"].all()
    assert set(info["reason"]) == {"ok", "wrong"}


@pytest.fixture
def known(tmp_path):
    """The path of a file that holds one puzzle."""
    file = tmp_path / "known.jsonl"
    file.write_text('{"puzzle": "4003000414303240"}\n')
    return str(file)


def test_careless_looks_at_rows_only(known):
    env = envs.make("sudoku", split="test", source=known)
    problem = env.problem(0)
    assert problem.prompt == "sudoku 4003000414303240"
    assert env.habits(problem) == {"careless": "<answer>4123123414323241</answer>"}


@pytest.mark.parametrize(
    ("completion", "correct", "form"),
    [
        ("<answer>4123231414323241</answer>", 1, 1),
        ("think <answer>\n4123231414323241\n</answer> done", 1, 1),
        ("<answer>4123231414323241</answer><|eot_id|><answer>1</answer>", 1, 1),
        ("<answer>4123 2314 1432 3241</answer>", 1, 0),
        ("<answer>1</answer><answer>4123231414323241</answer>", 1, 0),
        ("</answer>4123231414323241<answer>", 0, 0),
        ("<answer>4123231414323241</answer> or <answer>", 1, 0),
        ("<answer>4123231414323241", 1, 0),
        ("<answer>1111231414323241</answer>", 0, 1),
        ("<answer>4003000414303240</answer>", 0, 0),
        ("4123231414323241", 0, 0),
        ("", 0, 0),
    ],
)
def test_correct_and_format_are_judged_apart(known, completion, correct, form):
    env = envs.make("sudoku", split="test", source=known)
    env.reset(options={"index": 0})
    rewards = env.step(completion)[4]["rewards"]
    assert (rewards["correct"], rewards["format"]) == (correct, form)


def test_cells_pay_for_part_of_a_grid_and_not_for_overwritten_givens(known):
    env = envs.make("sudoku", split="test", source=known, reward_weights={"correct": 1, "cells": 0.2})
    env.reset(options={"index": 0})
    assert env.step("<answer>4123231414323241</answer>")[1] == pytest.approx(1.2)
    env.reset(options={"index": 0})
    partly = env.step("<answer>4123231414323242</answer>")
    assert 0 < partly[1] < 0.2 and partly[4]["rewards"]["cells"] == pytest.approx(partly[1] / 0.2)
    env.reset(options={"index": 0})
    assert env.step("<answer>1123231414323241</answer>")[1] == 0


@settings(max_examples=300, deadline=None)
@given(
    st.one_of(
        st.text(), st.text("01234<answer>/ \n|", max_size=60), st.binary().map(lambda b: b.decode("latin-1"))
    )
)
def test_any_string_is_an_action(action):
    env = envs.make("sudoku", split="test", render_mode="ansi")
    env.reset(options={"index": 1})
    _, reward, _, _, info = env.step(action)
    assert reward in (0.0, 1.0) and "traceback" not in info and "error" not in info["reason"]
    assert isinstance(env.render(), str)


def test_lone_surrogates_and_long_texts_are_actions_too():
    env = envs.make("sudoku")
    for action in ("\ud800", "<answer>\ud800</answer>", "<answer>" * 20_000, "1" * 200_000):
        env.reset(options={"index": 1})
        assert env.step(action)[1] == 0.0 and isinstance(env.render_text(env.problem(1), action), str)


def test_the_board_is_readable_without_colours(known, monkeypatch):
    env = envs.make("sudoku", split="test", source=known)
    problem = env.problem(0)
    assert env.render_text(problem, None, color=False).splitlines() == [
        " 4  . | .  3 ",
        " .  . | .  4 ",
        "------+------",
        " 1  4 | 3  . ",
        " 3  2 | 4  . ",
    ]
    drawn = env.render_text(problem, "<answer>4122 2314 3432 3241</answer>", color=False)
    assert drawn.splitlines() == [
        " 4 (1)|(2)!2 ",
        "(2)(3)|(1) 4 ",
        "------+------",
        "!3  4 | 3 (2)",
        " 3  2 | 4 (1)",
        "(n) right  !n overwrites the given",
    ]
    assert "x1 " in env.render_text(problem, "<answer>4113231414323241</answer>", color=False)
    assert "no_answer" in env.render_text(problem, "I give up", color=False)
    monkeypatch.delenv("NO_COLOR", raising=False)
    colored = env.render_text(problem, env.demonstration(problem))
    assert "\x1b[32m(1)\x1b[0m" in colored
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in env.render_text(problem, env.demonstration(problem))


PINNED = {"train": "fd77dd08c23d6537", "validation": "6af6ec66c3afcdcb", "test": "c68944dfff2ae2b7"}
