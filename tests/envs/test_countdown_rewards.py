"""What Countdown pays for, its picture, and that no text as an action raises."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import envs
from envs import Problem
from envs.countdown.render import compute
from envs.countdown.rewards import share_used

PROBLEM = Problem("", {"numbers": [7, 12, 5], "target": 24})
TWICE = Problem("", {"numbers": [7, 7, 5], "target": 19})


def rewards(completion: str, problem: Problem = PROBLEM, **arguments) -> dict[str, float]:
    return dict(envs.make("countdown", **arguments).score(problem, completion).rewards)


@pytest.mark.parametrize(
    ("completion", "correct", "form", "used"),
    [
        ("<answer>12+7+5</answer>", 1, 1, 1),
        ("thinking 99 <answer>\n (12 + 7) + 5\n</answer> done", 1, 1, 1),
        ("<answer>12+7-5</answer>", 0, 1, 1),
        ("<answer>12/(7-7)+5</answer>", 0, 1, 2 / 3),
        ("<answer>12+7</answer>", 0, 1, 2 / 3),
        ("<answer>24</answer>", 0, 1, 0),
        ("<answer>12+7+5+1</answer>", 0, 1, 0),
        ("<answer>12+7+5+5</answer>", 0, 1, 2 / 3),
        ("<answer>12+7+5=24</answer>", 1, 0, 1),
        ("<answer>12 × 7 - 5</answer>", 0, 0, 1),
        ("<answer>12+7+</answer>", 0, 0, 0),
        ("<answer>12 7 5</answer>", 0, 0, 0),
        ("<answer>12**7**5</answer>", 0, 0, 0),
        ("<answer></answer>", 0, 0, 0),
        ("<answer>1</answer><answer>12+7+5</answer>", 1, 0, 1),
        ("<answer>12+7+5</answer></answer>", 1, 0, 1),
        ("<answer>12+7+5", 1, 0, 1),
        ("</answer><answer>12+7+5", 1, 0, 1),
        ("<answer>12+7+5</answer><|eot_id|><answer>", 1, 1, 1),
        ("", 0, 0, 0),
    ],
)
def test_components(completion, correct, form, used):
    found = rewards(completion)
    assert found["correct"] == correct and found["format"] == form
    assert found["numbers_used"] == pytest.approx(used)


def test_numbers_given_twice_may_be_used_twice():
    assert rewards("<answer>7+7+5</answer>", TWICE)["numbers_used"] == 1
    assert rewards("<answer>7+5</answer>", TWICE)["numbers_used"] == pytest.approx(2 / 3)
    assert rewards("<answer>7+7+7+5</answer>", TWICE)["numbers_used"] == pytest.approx(1 / 3)
    assert share_used([7, 7, 5], "07 + 7") == pytest.approx(2 / 3)
    assert share_used([3, 5], "3.5") == share_used([3, 5], "3,5") == share_used([3], "9" * 9999) == 0


@pytest.mark.parametrize(
    ("completion", "paid"),
    [
        ("12+7+5", 0),
        ("<answer>12+7+5", 0),
        ("</answer>12+7+5<answer>", 0),
        ("<|endoftext|><answer>12+7+5</answer>", 0),
        ("<answer></answer>", 0.1),
        ("<answer>24</answer>", 0.1),
        ("<answer>12-7+5</answer>", 0.1),
        ("<answer>nothing</answer>", 0.1),
        ("<answer>9**9**9</answer>", 0.1),
        ("<answer>12+7+5</answer>", 1),
    ],
)
def test_the_papers_reward(completion, paid):
    env = envs.make("countdown", reward_preset="paper")
    assert env.reward_weights == {"correct": 0, "format": 0, "numbers_used": 0, "paper": 1}
    assert env.score(PROBLEM, completion).rewards["paper"] == paid
    assert "paper" not in rewards(completion)


def test_the_vector_form_scores_as_the_single_one_and_in_one_call(monkeypatch):
    import verifiers

    vector = envs.make_vec("countdown", 200, split="test", source="generated", level=2)
    single = envs.make("countdown", split="test", level=2)
    indices = np.arange(200)
    vector.reset(options={"index": indices})
    problems = [single.problem(int(i)) for i in indices]
    texts = [single.demonstration(p) if i % 3 else single.habits(p)["adder"] for i, p in enumerate(problems)]
    texts[::7] = ["<answer>1+1</answer>"] * len(texts[::7])
    calls = []
    real = verifiers.verify_batch
    monkeypatch.setattr(verifiers, "verify_batch", lambda *a, **k: calls.append(1) or real(*a, **k))
    _, reward, _, _, _ = vector.step(texts)
    assert len(calls) == 1
    assert reward.tolist() == [
        single.score(p, t).rewards["correct"] for p, t in zip(problems, texts, strict=True)
    ]
    assert 0 < reward.mean() < 1


def test_the_picture_shows_value_used_and_missing_numbers(monkeypatch):
    env = envs.make("countdown")
    assert env.render_text(PROBLEM, None, color=False) == "numbers 7 12 5   target 24"
    lines = env.render_text(PROBLEM, "<answer>12*7/5-8</answer>", color=False).splitlines()
    assert lines[1] == "12*7/5-8 = 44/5   (wrong: rule_broken)"
    assert lines[2] == "(7) (12) (5) x8   (n) used  .n missing  xn not given"
    lines = env.render_text(PROBLEM, "<answer>12+5+5</answer>", color=False).splitlines()
    assert lines[1].startswith("12+5+5 = 22 ") and lines[2].startswith(".7 (12) (5) x5 ")
    assert "(right)" in env.render_text(PROBLEM, "<answer>12+7+5</answer>", color=False)
    assert "no expression in the answer (no_answer)" in env.render_text(PROBLEM, "well", color=False)
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert "\x1b[32m" in env.render_text(PROBLEM, "<answer>12+7+5</answer>")
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in env.render_text(PROBLEM, "<answer>12+7+5</answer>")
    assert "\x1b" not in env.render_text(PROBLEM, "<answer>\x1b[2J+1</answer>")


@pytest.mark.parametrize(
    "text", ["9**9**9**9", "7//2", "f(1)", "07", "1/0", "(" * 199, "-" * 199 + "1", "1.5", ""]
)
def test_what_is_no_expression_has_no_value_and_takes_no_time(text):
    assert compute(text) is None or text.startswith("-")


@settings(max_examples=150, deadline=None)
@given(
    st.text(max_size=60)
    | st.text("0123456789+-*/() .,=<>", max_size=60).map(lambda t: f"<answer>{t}</answer>")
    | st.lists(
        st.sampled_from(
            ["<answer>", "</answer>", "7", "12", "+", "(", ")", "\\boxed{", "<|eot_id|>", "\ud800"]
        ),
        max_size=30,
    ).map("".join)
)
def test_any_string_is_scored_and_drawn(completion):
    for env in (ENV, PAPER):
        env.reset(options={"index": 0})
        _, reward, _, _, info = env.step(completion)
        assert (
            0 <= reward <= 1 and info["reason"] != "error" and set(info["rewards"]) == set(env.reward_weights)
        )
        assert all(0 <= value <= 1 for value in info["rewards"].values())
        assert isinstance(env.render(), str)


ENV = envs.make("countdown", render_mode="ansi")
PAPER = envs.make("countdown", render_mode="ansi", reward_preset="paper", level=2)
