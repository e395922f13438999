"""Sudoku: prompts, arguments, rewards (quick forms equal slow ones) and rendering."""

import hashlib
import re
import time

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import envs
from envs import EnvError
from envs.splits import SUDOKU_9X9
from envs.sudoku import solver
from envs.sudoku.env import paper_prompt
from envs.sudoku.generator import LEVELS, grids, renamed, split_ranks
from envs.sudoku.rewards import has_format, paper_cells
from verifiers import verify

PUZZLE, SOLUTION = "4003000414303240", "4123231414323241"
PIECES = (
    "<answer>",
    "</answer>",
    "<answer",
    SOLUTION,
    "4123",
    " ",
    "\n",
    "0",
    "٣",
    "<|eot_id|>",
    "<|endoftext|>",
)
TEXTS = st.one_of(
    st.text(),
    st.lists(st.sampled_from(PIECES), max_size=8).map("".join),
    st.binary().map(lambda raw: raw.decode("latin-1")),
)


@pytest.fixture
def known(tmp_path):
    """The arguments that open an environment of one puzzle."""
    file = tmp_path / "known.jsonl"
    file.write_text(f'{{"puzzle": "{PUZZLE}", "solution": "{SOLUTION}"}}\n')
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
    for shown in examples:
        puzzle = shown.partition("Puzzle: ")[2][: size * size]
        completion = shown.partition("\n")[2].partition("\n")[2].partition("Now solve")[0]
        solution = completion.partition("<answer>\n")[2][: size * size]
        assert solver.solve(puzzle, 2) == (1, solution)
        assert solution in train if size == 4 else SUDOKU_9X9(renamed(solution)) == "train"
        assert verify("sudoku", completion, puzzle=puzzle).correct


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


def test_the_habit_looks_at_rows_only_and_cells_pay_for_part_of_a_grid_and_not_for_overwritten_givens(known):
    env = envs.make("sudoku", **known, reward_weights={"correct": 1, "cells": 0.2})
    problem = env.problem(0)
    assert problem.prompt == f"sudoku {PUZZLE}"
    assert env.habits(problem) == {"careless": "<answer>4123123414323241</answer>"}

    def reward(grid: str) -> float:
        env.reset(options={"index": 0})
        _, reward, _, _, info = env.step(f"<answer>{grid}</answer>")
        assert reward == pytest.approx(info["rewards"]["correct"] + 0.2 * info["rewards"]["cells"])
        return reward

    assert reward("4123231414323241") == pytest.approx(1.2)
    assert 0 < reward("4123231414323242") < 0.2
    assert reward("1123231414323241") == 0


def test_the_board_is_readable_without_colours(known):
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
    assert "\x1b[32m(1)\x1b[0m" in env.render_text(problem, env.demonstration(problem), color=True)


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


def test_levels_blanks_and_the_name_that_shows_them():
    shown = envs.make("sudoku", prompt_style="paper", blanks=8).spec_name
    assert shown == "sudoku[prompt_style=paper,blanks=8]"
    standard = envs.make("sudoku", split="test", prompt_style="plain", source="generated")
    assert standard.spec_name == "sudoku"
    assert envs.make("sudoku", level=1).problem(5) == envs.make("sudoku").problem(5)
    for size, levels in LEVELS.items():
        for level, blanks in levels.items():
            env = envs.make("sudoku", size=size, level=level)
            low, high = blanks or (7, 12)
            assert all(low <= env.problem(i).metadata["blanks"] <= high for i in range(8))
    assert envs.make("sudoku", size=9, level=4, blanks=7).problem(0).metadata["blanks"] == 7
    by_blanks = envs.make("sudoku", blanks="4-11")
    assert envs.make("sudoku", level=3, blanks="4-11").problem(0) == by_blanks.problem(0)


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


@settings(max_examples=500, deadline=None)
@given(TEXTS)
@example(f"x<answer> {SOLUTION}\n</answer><|eot_id|><answer>")  # as asked, the other two not
@example(f"</answer>{SOLUTION}<answer>")
@example("<answer>1٣12341234123412</answer>")
def test_quick_rewards_equal_slow_ones(text):
    for size in (1, 2, 4, 9):
        assert has_format(text, size) == slow_format(text, size)
    texts = [text, SOLUTION, f"<answer>{text}"]
    slow = [slow_paper(one, PUZZLE, SOLUTION) for one in texts]
    assert paper_cells(texts, [PUZZLE] * 3, [SOLUTION] * 3).tolist() == slow


@pytest.mark.parametrize(
    ("answer", "share"),
    [
        (SOLUTION, 1.0),
        ("4123 2314 1432 3241", 1.0),
        ("9123231414323241", 1.0),  # an overwritten given costs nothing
        (SOLUTION + "777", 1.0),
        ("4113231414323241", 6 / 7),
        ("4123", 2 / 7),
        ("", 0.0),
        (PUZZLE, 0.0),
    ],
)
def test_the_papers_reward_is_the_share_of_blanks_that_equal_the_stored_solution(known, answer, share):
    env = envs.make("sudoku", **known, reward_preset="paper")
    for text in (f"<answer>{answer}</answer>", f"<answer>1</answer> no: <answer>\n{answer}\n</answer>"):
        env.reset(options={"index": 0})
        _, reward, _, _, info = env.step(text)
        assert reward == info["rewards"]["paper_cells"] == share
        assert info["correct"] == (answer in (SOLUTION, "4123 2314 1432 3241"))
    env.reset(options={"index": 0})
    assert env.step(f"<answer>{answer}")[1] == 0.0  # never closed
    assert env.spec_name == "sudoku[known.jsonl,reward_preset=paper]"


def test_512_rewards_take_two_milliseconds_by_the_fastest_of_many():
    many = envs.make_vec("sudoku", 512, split="test")
    index = [i % 256 for i in range(512)]
    problems = [many.env.problem(i) for i in index]
    actions = [many.env.demonstration(p) for p in problems]
    times = []
    for _ in range(60):
        many.reset(options={"index": index})
        begun = time.process_time()
        rewards = many.step(actions)[1]
        times.append(time.process_time() - begun)
    assert rewards.tolist() == [1.0] * 512
    assert min(times) < 2e-3  # the median is in benchmarks/vector_step.py; here other work may run beside


def digest(lines: list[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


@pytest.mark.parametrize("style", ["plain", "paper"])
@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_released_problems_demonstrations_and_scores_never_change(style, split):
    many = envs.make_vec("sudoku", 512, split=split, prompt_style=style)
    env, problems = many.env, [many.env.problem(i) for i in range(256)]
    lines = []
    for p in problems:
        lines += [p.prompt, p.reference["puzzle"], p.metadata["solution"], str(p.metadata["blanks"])]
    written = [text for p in problems for text in (env.demonstration(p), env.habits(p)["careless"])]
    many.reset(options={"index": np.arange(512) // 2})
    _, rewards, _, _, info = many.step([t if i % 3 else t[:-3] + " x" for i, t in enumerate(written)])
    scores = []
    for i, reward in enumerate(rewards.tolist()):
        parts = sorted((name, float(values[i])) for name, values in info["rewards"].items())
        scores.append(f"{reward} {info['reason'][i]} {info['extracted'][i]} {parts}")
    assert (digest(lines), digest(written), digest(scores)) == RELEASED[style, split]


RELEASED = {
    ("plain", "train"): ("bf1ca19b7db51bb0", "61f5ef2502514a39", "892cf0f0519aca4c"),
    ("plain", "validation"): ("f120bd5de61e5c57", "659583d025500e17", "0bd26cb405fec2c8"),
    ("plain", "test"): ("8cd10f0ff85c6a6d", "25441bb2a095a697", "872d83efa3e2dbe9"),
    ("paper", "train"): ("89f68badcdd3624b", "b1355e491e4a16dd", "a762af86f6ae7d09"),
    ("paper", "validation"): ("306b12936da7817a", "5ef1c04659bf38bb", "c39bdb78e9cb7ed0"),
    ("paper", "test"): ("c7278e998940903c", "1822779ee2a1df92", "89b859fd2bb60701"),
}
