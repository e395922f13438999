"""Sudoku's rewards: quick forms equal slow ones, any string is scored, released scores stay."""

import hashlib
import re
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import envs
from envs.sudoku.rewards import has_format, paper_cells

PUZZLE, SOLUTION = "4003000414303240", "4123231414323241"
PIECES = [
    "<answer>",
    "</answer>",
    "<answer",
    SOLUTION,
    "4123",
    " ",
    "\n",
    "0",
    "<|eot_id|>",
    "<|endoftext|>",
    "٣",
]
TEXTS = st.one_of(
    st.text(),
    st.lists(st.sampled_from(PIECES), max_size=8).map("".join),
    st.binary().map(lambda raw: raw.decode("latin-1")),
)


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
def test_quick_rewards_equal_slow_ones(text):
    for size in (1, 2, 4, 9):
        assert has_format(text, size) == slow_format(text, size)
    texts = [text, SOLUTION, f"<answer>{text}"]
    slow = [slow_paper(one, PUZZLE, SOLUTION) for one in texts]
    assert paper_cells(texts, [PUZZLE] * 3, [SOLUTION] * 3).tolist() == slow


def test_the_pieces_reach_both_outcomes():
    assert has_format(f"x<answer> {SOLUTION}\n</answer><|eot_id|><answer>", 4)
    assert not has_format(f"</answer>{SOLUTION}<answer>", 4)
    assert not has_format("<answer>1٣12341234123412</answer>", 4)


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
def test_the_papers_reward_is_the_share_of_blanks_that_equal_the_stored_solution(tmp_path, answer, share):
    file = tmp_path / "one.jsonl"
    file.write_text(f'{{"puzzle": "{PUZZLE}", "solution": "{SOLUTION}"}}\n')
    env = envs.make("sudoku", split="test", source=str(file), reward_preset="paper")
    assert env.reward_weights == {"paper_cells": 1.0, "correct": 0.0, "format": 0.0, "cells": 0.0}
    for text in (f"<answer>{answer}</answer>", f"<answer>1</answer> no: <answer>\n{answer}\n</answer>"):
        env.reset(options={"index": 0})
        _, reward, _, _, info = env.step(text)
        assert reward == info["rewards"]["paper_cells"] == share
        assert info["correct"] == (answer in (SOLUTION, "4123 2314 1432 3241"))
    env.reset(options={"index": 0})
    assert env.step(f"<answer>{answer}")[1] == 0.0  # never closed
    assert env.spec_name == "sudoku[one.jsonl,reward_preset=paper]"


def test_the_default_preset_has_no_component_of_the_papers():
    assert envs.make("sudoku").reward_weights == {"correct": 1.0, "format": 0.0, "cells": 0.0}
    changed = envs.make("sudoku", reward_preset="paper", reward_weights={"correct": 0.5})
    assert changed.reward_weights["correct"] == 0.5 and changed.reward_weights["paper_cells"] == 1.0


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
