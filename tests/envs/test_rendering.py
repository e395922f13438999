"""What every task shows in a terminal: colours of ours, and nothing of a completion that a terminal acts on."""

import pytest

import envs
from tests.common.env_cases import plain

TASKS = {"sudoku": {}, "countdown": {}, "gsm8k": {"source": "generated"}, "math500": {"source": "generated"}}
HOSTILE = "<answer>\x1b[31m\x1b]0;x\x07 1+\x1b[2J</answer>"


@pytest.mark.parametrize(("task", "arguments"), TASKS.items())
def test_right_is_green_and_escapes_of_a_completion_are_not_shown(task, arguments):
    env = envs.make(task, split="test", **arguments)
    problem = env.problem(0)
    assert "\x1b[32m" in env.render_text(problem, env.demonstration(problem))
    for completion in (HOSTILE, "\x1b[2J"):
        shown = env.render_text(problem, completion)
        assert "\x1b[32m" not in shown and not {"\x1b", "\x07"} & set(plain(shown))


@pytest.mark.parametrize(
    ("task", "head", "verdicts"),
    [
        ("gsm8k", ["question  {question}"], ["wrong", "wrong (no_answer)", "right"]),
        ("math500", ["subject   {subject}", "problem   {problem}"], ["wrong", "wrong (no_answer)", "right"]),
    ],
)
def test_question_answer_gold_and_verdict(task, head, verdicts):
    env = envs.make(task, source="generated", split="test")
    problem = env.problem(0)
    gold = problem.reference["answer"]
    wrong, unread, right = verdicts
    head = [line.format(**problem.metadata) for line in head]
    assert plain(env.render_text(problem, None)).splitlines() == [*head, f"gold      {gold}"]
    assert plain(env.render_text(problem, "I say\x1b[2J\n<answer>997</answer>")).splitlines() == [
        *head,
        "answer    I say\ufffd[2J",
        "          <answer>997</answer>",
        f"gold      {gold}",
        f"verdict   {wrong}",
    ]
    assert plain(env.render_text(problem, "none")).endswith(f"verdict   {unread}")
    shown = env.render_text(problem, env.demonstration(problem))
    assert f"\x1b[32m{gold}\x1b[0m</answer>" in shown and shown.endswith(f"\x1b[32m{right}\x1b[0m")
