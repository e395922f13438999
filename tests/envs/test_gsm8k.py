"""GSM8K: generated problems, the format, and the rewards of the papers against their published patterns."""

import os
import re
from fractions import Fraction

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import envs
from envs.gsm8k.problems import LEVELS
from envs.gsm8k.rewards import has_format, paper_rewards, soft_format, strict_format, xml_count
from tests.common.env_cases import SPLITS


def generated(split: str = "train", **arguments):
    return envs.make("gsm8k", split=split, source="generated", **arguments)


def holds(step: str) -> bool:
    """Whether "12-5=7" is true, by fractions."""
    a, sign, b, value = re.fullmatch(r"(\d+)([-+*/])(\d+)=(\d+)", step).groups()
    a, b = Fraction(a), Fraction(b)
    return Fraction(value) == {"+": a + b, "-": a - b, "*": a * b, "/": a / b if b else None}[sign]


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("level", LEVELS)
def test_every_step_is_exact_and_the_last_is_the_answer(level, split):
    env = generated(split, level=level)
    for problem in map(env.problem, range(40)):
        for name in ("right", "hasty"):
            steps, answer = problem.metadata[name]
            assert all(holds(step) for step in steps) and steps[-1].endswith(f"={answer}")
        assert problem.reference == {"answer": problem.metadata["right"][1]}
        assert len(problem.metadata["right"][0]) in {1: (2,), 2: (2, 3), 3: (4,)}[level]
        numbers = map(int, re.findall(r"\d+", problem.metadata["question"]))
        assert problem.metadata["hasty"][1] == str(sum(numbers))  # the fixed wrong rule
        if level == 1:
            a, b, c = re.findall(r"\d+", problem.prompt)
            assert re.match(rf"{a}\+{b}=\d+ \d+\+{c}=", env.habits(problem)["hasty"])


STRICT = re.compile(r"^<reasoning>\n.*?\n</reasoning>\n<answer>\n.*?\n</answer>\n$")
SOFT = re.compile(r"<reasoning>.*?</reasoning>\s*<answer>.*?</answer>")
PIECES = (
    *("<reasoning>", "</reasoning>", "<answer>", "</answer>", "\n", " ", "12", "a", "\r", "\u2028", "\x1c"),
    *("<reasoning>\n", "\n</reasoning>\n", "\n<answer>\n", "\n</answer>", "</reasoning>\n<answer>\n"),
)
TEXTS = st.lists(st.sampled_from(PIECES), max_size=12).map("".join)
GOOD = "<reasoning>\nso\n</reasoning>\n<answer>\n18\n</answer>\n"


@settings(max_examples=400 if os.environ.get("SPG_TEST_SLOW") else 100, deadline=None)
@given(TEXTS)
@example(GOOD)
@example(GOOD + "\n")
@example(GOOD + "\n\n")
@example("<reasoning>\n\n</reasoning>\n<answer>\n\n</answer>\n")
@example("<reasoning></reasoning><answer>b</reasoning><answer>c</answer>")
@example("<reasoning>a</reasoning> x</reasoning> \n <answer>c\n</answer>")
@example("<reasoning>a</reasoning> x</reasoning> \n <answer>c</answer>")
def test_both_formats_equal_the_published_patterns(text):
    assert strict_format(text) == (STRICT.match(text) is not None)
    assert soft_format(text) == (SOFT.match(text) is not None)


@settings(max_examples=200, deadline=None)
@given(TEXTS)
def test_the_tag_count_and_the_answer_equal_the_published_ones(text):
    count = 0.125 * sum(text.count(tag) == 1 for tag in ("<reasoning>\n", "\n</reasoning>\n"))
    if text.count("\n<answer>\n") == 1:
        count += 0.125 - len(text.split("\n<answer>\n")[-1]) * 0.001
    if text.count("\n</answer>") == 1:
        count += 0.125 - (len(text.split("\n</answer>")[-1]) - 1) * 0.001
    assert xml_count(text) == pytest.approx(count, abs=1e-12) and xml_count(text) <= 0.5
    answer = text.split("<answer>")[-1].split("</answer>")[0].strip()
    rewards = paper_rewards(text, "12")
    assert rewards["exact"] == (answer == "12") and rewards["integer"] == answer.isdigit()


def test_the_preset_pays_the_papers_sum_and_only_measures_correct():
    env = envs.make("gsm8k", source="generated", prompt_style="instruct", reward_preset="paper")
    env.reset(options={"index": 0})
    answer = env.problem(0).reference["answer"]
    _, reward, _, _, info = env.step(f"<reasoning>\nso\n</reasoning>\n<answer>\n{answer}\n</answer>\n")
    assert reward == pytest.approx(2 + 0.5 + 0.5 + 0.487) and info["correct"]


def test_the_format_is_one_closed_block_with_one_plain_number():
    for text in (
        "12-5=7 7+3=10<answer>10</answer>",
        "<answer> -12.50\n</answer> done",
        "<answer>1</answer><|eot_id|><answer>2</answer>",
        "<answer>1</answer><|endoftext|><answer>2",
    ):
        assert has_format(text), text
    blocks = ("1</answer><answer>2", "1</answer> or <answer>", "", "10 pens")
    numbers = ("1,250", "--1", "1.", ".5", "\u0661", "\u00b2")
    for text in ("", "<answer>1", "</answer>1<answer>", *(f"<answer>{t}</answer>" for t in blocks + numbers)):
        assert not has_format(text), text
    assert not has_format("<answer>1</answer> or <answer>")
