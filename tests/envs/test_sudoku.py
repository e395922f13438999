"""Sudoku's prompts, rewards, arguments and rendering."""

import pytest

import envs
from envs import EnvError
from envs.splits import SUDOKU_9X9
from envs.sudoku import solver
from envs.sudoku.env import paper_prompt
from envs.sudoku.generator import LEVELS, grids, renamed, split_ranks
from verifiers import verify


@pytest.fixture
def known(tmp_path):
    """An environment of one puzzle, and the arguments that open it."""
    file = tmp_path / "known.jsonl"
    file.write_text('{"puzzle": "4003000414303240"}\n')
    return {"split": "test", "source": str(file)}


@pytest.mark.parametrize("size", [4, 9])
def test_plain_prompts_are_short_and_ascii(size):
    env = envs.make("sudoku", size=size)
    for i in range(40):
        prompt = env.problem(i).prompt
        assert prompt == f"sudoku {env.problem(i).reference['puzzle']}" and prompt.isascii()
        assert len(prompt) == 7 + size * size


@pytest.mark.parametrize(("size", "count", "words"), [(4, 3, "2x2 corner"), (9, 1, "nine 3x3 boxes")])
def test_paper_prompts_show_the_tags_and_solved_examples_of_train(size, count, words):
    problem = envs.make("sudoku", size=size, prompt_style="paper").problem(3)
    for part in ("<reasoning>", "</reasoning>", "<answer>", "</answer>", "row", "column", words):
        assert part in problem.prompt
    puzzle = problem.reference["puzzle"]
    assert problem.prompt.endswith(
        f"Now solve this one.\nPuzzle: {puzzle}"
    ) and problem.prompt == paper_prompt(puzzle)
    train = {grids()[rank] for rank in split_ranks("train")}
    examples = problem.prompt.split("Example ")[1:]
    assert len(examples) == count
    for example in examples:
        puzzle = example.partition("Puzzle: ")[2][: size * size]
        completion = example.partition("\n")[2].partition("\n")[2].partition("Now solve")[0]
        solution = completion.partition("<answer>\n")[2][: size * size]
        assert solver.solve(puzzle, 2) == (1, solution)
        assert solution in train if size == 4 else SUDOKU_9X9(renamed(solution)) == "train"
        assert verify("sudoku", completion, puzzle=puzzle).correct


def test_careless_looks_at_rows_only(known):
    env = envs.make("sudoku", **known)
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
def test_correct_and_format_are_scored_apart(known, completion, correct, form):
    env = envs.make("sudoku", **known)
    rewards = env.score(env.problem(0), completion).rewards
    assert (rewards["correct"], rewards["format"]) == (correct, form)


def test_cells_pay_for_part_of_a_grid_and_not_for_overwritten_givens(known):
    env = envs.make("sudoku", **known, reward_weights={"correct": 1, "cells": 0.2})

    def reward(grid: str) -> float:
        env.reset(options={"index": 0})
        _, reward, _, _, info = env.step(f"<answer>{grid}</answer>")
        assert reward == pytest.approx(info["rewards"]["correct"] + 0.2 * info["rewards"]["cells"])
        return reward

    assert reward("4123231414323241") == pytest.approx(1.2)
    assert 0 < reward("4123231414323242") < 0.2
    assert reward("1123231414323241") == 0


def test_the_board_is_readable_without_colours(known, monkeypatch):
    env = envs.make("sudoku", **known)
    problem = env.problem(0)
    assert env.render_text(problem, None, color=False).splitlines() == [
        " 4  . | .  3 ",
        " .  . | .  4 ",
        "------+------",
        " 1  4 | 3  . ",
        " 3  2 | 4  . ",
    ]
    rendered = env.render_text(problem, "<answer>4122 2314 3432 3241</answer>", color=False)
    assert rendered.splitlines() == [
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
    assert "\x1b[32m(1)\x1b[0m" in env.render_text(problem, env.demonstration(problem))
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in env.render_text(problem, env.demonstration(problem))


def test_the_9x9_board_has_nine_rows_and_boxes():
    env = envs.make("sudoku", size=9, split="test")
    problem = env.problem(0)
    lines = env.render_text(problem, None, color=False).splitlines()
    assert len(lines) == 11 and lines[3] == lines[7] == "+".join(["-" * 9] * 3)
    cells = "".join(c for c in "".join(lines) if c.isdigit() or c == ".")
    assert cells == problem.reference["puzzle"].replace("0", ".")
    done = env.render_text(problem, env.demonstration(problem), color=False)
    assert done.count("(") == problem.metadata["blanks"] + 1 and "(n) right" in done
    assert "no grid of 81 digits" in env.render_text(problem, "<answer>12</answer>", color=False)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size": 5}, 'size="5" is unknown.*Known: 4, 9'),
        ({"size": True}, 'size="True" is unknown'),
        ({"size": 9, "blanks": 55}, "within 1 to 54"),
        *(
            ({"blanks": blanks}, r'is not a number or a range such as "4-11"')
            for blanks in ["x", 0, "0-3", "13", "9-8", "4-13", 2.5, "", "-4", True]
        ),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    with pytest.raises(EnvError, match=message):
        envs.make("sudoku", **arguments)


def test_levels_and_blanks():
    assert envs.make("sudoku", level=1).problem(5) == envs.make("sudoku").problem(5)
    for size, levels in LEVELS.items():
        for level, blanks in levels.items():
            env = envs.make("sudoku", size=size, level=level)
            low, high = blanks or (7, 12)
            assert all(low <= env.problem(i).metadata["blanks"] <= high for i in range(8))
    assert envs.make("sudoku", size=9, level=4, blanks=7).problem(0).metadata["blanks"] == 7
    by_blanks = envs.make("sudoku", blanks="4-11")
    assert envs.make("sudoku", level=3, blanks="4-11").problem(0) == by_blanks.problem(0)


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"split": "test", "prompt_style": "plain", "source": "generated"}, "sudoku"),
        ({"prompt_style": "paper", "blanks": 8}, "sudoku[prompt_style=paper,blanks=8]"),
        ({"size": 9, "level": 2}, "sudoku[size=9,level=2]"),
    ],
)
def test_the_shown_name_has_the_arguments_and_not_the_split(arguments, name):
    assert envs.make("sudoku", **arguments).spec_name == name
