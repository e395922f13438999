"""GSM8K's format check and the rewards of the papers, against their published patterns."""

import re
import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import envs
from envs.gsm8k.rewards import (
    REWARD_PRESETS,
    has_format,
    paper_rewards,
    soft_format,
    strict_format,
    xml_count,
)

STRICT = re.compile(r"^<reasoning>\n.*?\n</reasoning>\n<answer>\n.*?\n</answer>\n$")
SOFT = re.compile(r"<reasoning>.*?</reasoning>\s*<answer>.*?</answer>")
PIECES = (
    *("<reasoning>", "</reasoning>", "<answer>", "</answer>", "\n", " ", "12", "a", "\r", "\u2028", "\x1c"),
    *("<reasoning>\n", "\n</reasoning>\n", "\n<answer>\n", "\n</answer>", "</reasoning>\n<answer>\n"),
)
TEXTS = st.lists(st.sampled_from(PIECES), max_size=12).map("".join)
GOOD = "<reasoning>\nso\n</reasoning>\n<answer>\n18\n</answer>\n"


@settings(max_examples=400, deadline=None)
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


@pytest.mark.parametrize(
    ("text", "gold", "rewards"),
    [
        (GOOD, "18", (1, 1, 1, 0, 0.5 - 0.013)),
        ("<reasoning>so</reasoning> <answer>18</answer>", "18", (1, 1, 0, 1, 0)),
        ("<reasoning>\nso\nthen\n</reasoning>\n<answer>\n18\n</answer>", "18", (1, 1, 0, 0, 0.5 - 0.011)),
        ("<answer>1,250</answer>", "1,250", (1, 0, 0, 0, 0)),
        ("<answer>1250</answer>", "1,250", (0, 1, 0, 0, 0)),
        ("<answer>-3</answer>", "-3", (1, 0, 0, 0, 0)),
        ("<answer>18.0</answer>", "18", (0, 0, 0, 0, 0)),
        ("18", "18", (1, 1, 0, 0, 0)),
        ("", "18", (0, 0, 0, 0, 0)),
    ],
)
def test_the_papers_rewards_by_hand(text, gold, rewards):
    names = ("exact", "integer", "strict_format", "soft_format", "xml_count")
    assert paper_rewards(text, gold) == pytest.approx(dict(zip(names, rewards, strict=True)), abs=1e-9)


def test_the_preset_pays_the_papers_sum_and_only_measures_correct():
    env = envs.make("gsm8k", source="generated", prompt_style="paper", reward_preset="paper")
    assert dict(env.reward_weights) == REWARD_PRESETS["paper"] and env.reward_weights["correct"] == 0
    env.reset(options={"index": 0})
    answer = env.problem(0).reference["answer"]
    _, reward, _, _, info = env.step(f"<reasoning>\nso\n</reasoning>\n<answer>\n{answer}\n</answer>\n")
    assert reward == pytest.approx(2 + 0.5 + 0.5 + 0.487) and info["correct"]
    own = envs.make("gsm8k", source="generated", reward_preset="paper", reward_weights={"exact": 1})
    assert own.reward_weights["exact"] == 1 and own.reward_weights["integer"] == 0.5


BAITS = (
    *("<reasoning>" * 40_000, "\n<answer>\n" * 60_000, "<answer>" * 90_000, "9" * 500_000),
    *(f"<reasoning>{text * 40_000}" for text in ("</reasoning><answer>", "</reasoning> ")),
    *("<reasoning></reasoning>" + " \n" * 200_000, f"<answer>{'9' * 500_000}x</answer>"),
)


@pytest.mark.parametrize("bait", BAITS, ids=range(len(BAITS)))
def test_long_texts_take_linear_time(bait):
    start = time.process_time()
    paper_rewards(bait, "18")
    has_format(bait)
    assert time.process_time() - start < 0.5


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
