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
