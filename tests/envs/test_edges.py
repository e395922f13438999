"""Edges of the environments: files that take too much, names that mislead, classes that hide things."""

import pytest

import envs
from envs.countdown import generator
from envs.countdown.generator import key


def test_a_file_that_leaves_countdown_too_little_is_told_and_does_not_hang(monkeypatch) -> None:
    monkeypatch.setattr(generator, "_MAX_DRAWS", 2_000)
    first = frozenset(key(*problem) for problem in generator.fixed_set("validation", 1))
    with pytest.raises(
        envs.EnvError, match="found no further problem of validation outside the 256 that are taken"
    ):
        generator.fixed_set("validation", 1, first)


@pytest.mark.parametrize(
    ("answer", "paid"),
    [
        ("38-30+15", 1.0),
        (" 38 - 30 + 15\n", 1.0),
        ("38-30-15", 0.1),
        ("38-30", 0.1),
        ("the answer is 38-30+15", 0.1),
        ("23=38-30+15", 0.1),
        ("38-30+15 = 23", 0.1),
        ("$38-30+15$", 0.1),
        ("38\N{MINUS SIGN}30+15", 0.1),
        ("38**1-30+15", 0.1),
        ("", 0.1),
    ],
)
def test_the_papers_countdown_reward_reads_plain_expressions_only(answer: str, paid: float) -> None:
    env = envs.make("countdown", reward_preset="paper")
    problem = envs.Problem("", {"numbers": [38, 30, 15], "target": 23})
    assert env.score(problem, f"so <answer>{answer}</answer>").rewards["paper"] == paid
    assert env.score(problem, answer).rewards["paper"] == 0


def test_the_picture_of_a_copied_task_says_what_its_score_says() -> None:
    env = envs.make("math500", source="generated", level=2)
    copied = (env.problem(i) for i in range(400))
    for problem in copied:
        text = f"<answer>{problem.prompt.partition('$')[2].partition('$')[0]}</answer>"
        score = env.score(problem, text)
        if score.reason == "rule_broken":
            assert score.rewards["correct"] == 0 and "wrong (rule_broken" in env.render_text(
                problem, text, color=False
            )
            return
    pytest.fail("no copy of a task was refused")
