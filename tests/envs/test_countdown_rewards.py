"""What Countdown pays for, and its rendering."""

import numpy as np
import pytest

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
    assert found == pytest.approx({"correct": correct, "format": form, "numbers_used": used})


def test_numbers_given_twice_may_be_used_twice():
    for expression, used in (("7+7+5", 1), ("7+5", 2 / 3), ("7+7+7+5", 1 / 3)):
        assert rewards(f"<answer>{expression}</answer>", TWICE)["numbers_used"] == pytest.approx(used)
    assert share_used([7, 7, 5], "07 + 7") == pytest.approx(2 / 3)
    assert share_used([3, 5], "3.5") == share_used([3, 5], "3,5") == share_used([3], "9" * 9999) == 0


def test_the_papers_reward_reads_plain_expressions_only():
    env = envs.make("countdown", reward_preset="paper")
    assert env.reward_weights == {"correct": 0, "format": 0, "numbers_used": 0, "paper": 1}
    problem = Problem("", {"numbers": [38, 30, 15], "target": 23})
    right = ("38-30+15", " 38 - 30 + 15\n", "38\u2003-30+15")
    wrong = ("", "23", "38-30-15", "38-30", "nothing", "9**9**9", "38**1-30+15", "the answer is 38-30+15")
    not_plain = ("$38-30+15$", "23=38-30+15", "38-30+15 = 23", "38\N{MINUS SIGN}30+15")
    no_block = ("38-30+15", "<answer>38-30+15", "</answer>38-30+15<answer>")
    for paid, completions in (
        (1, [f"so <answer>{text}</answer>" for text in right]),
        (0.1, [f"<answer>{text}</answer>" for text in wrong + not_plain]),
        (0, [*no_block, "<|endoftext|><answer>38-30+15</answer>"]),
    ):
        scores = env.score_batch([problem] * len(completions), completions)
        assert scores.rewards["paper"].tolist() == [paid] * len(completions)
    assert "paper" not in rewards("<answer>12+7+5</answer>")


def test_the_vector_form_scores_as_the_single_one_and_in_one_call(monkeypatch):
    import verifiers

    vector = envs.make_vec("countdown", 200, split="test", source="generated", level=2)
    single = envs.make("countdown", split="test", level=2)
    vector.reset(options={"index": np.arange(200)})
    problems = [single.problem(i) for i in range(200)]
    texts = [single.demonstration(p) if i % 3 else single.habits(p)["adder"] for i, p in enumerate(problems)]
    texts[::7] = ["<answer>1+1</answer>"] * len(texts[::7])
    calls = []
    real = verifiers.verify_batch
    monkeypatch.setattr(verifiers, "verify_batch", lambda *a, **k: calls.append(1) or real(*a, **k))
    reward = vector.step(texts)[1]
    assert len(calls) == 1 and 0 < reward.mean() < 1
    rows = zip(problems, texts, strict=True)
    assert reward.tolist() == [single.score(p, text).rewards["correct"] for p, text in rows]


def test_rendering_shows_value_used_and_missing_numbers(monkeypatch):
    env = envs.make("countdown")
    assert env.render_text(PROBLEM, None, color=False) == "numbers 7 12 5   target 24"
    lines = env.render_text(PROBLEM, "<answer>12*7/5-8</answer>", color=False).splitlines()
    assert lines[1] == "12*7/5-8 = 44/5   (wrong: rule_broken)"
    assert lines[2] == "(7) (12) (5) x8   (n) used  .n missing  xn not given"
    lines = env.render_text(PROBLEM, "<answer>12+5+5</answer>", color=False).splitlines()
    assert lines[1].startswith("12+5+5 = 22 ") and lines[2].startswith(".7 (12) (5) x5 ")
    right = "<answer>12+7+5</answer>"
    assert "(right)" in env.render_text(PROBLEM, right, color=False)
    assert "no expression in the answer (no_answer)" in env.render_text(PROBLEM, "well", color=False)
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert "\x1b[32m" in env.render_text(PROBLEM, right)
    monkeypatch.setenv("NO_COLOR", "1")
    for completion in (right, "<answer>\x1b[2J+1</answer>"):
        assert "\x1b" not in env.render_text(PROBLEM, completion)


@pytest.mark.parametrize("text", ["9**9**9**9", "7//2", "f(1)", "07", "1/0", "(" * 199, "1.5", ""])
def test_what_is_no_expression_has_no_value_and_takes_no_time(text):
    assert compute(text) is None
    assert compute("-" * 199 + "1") in (None, -1)
