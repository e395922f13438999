"""HTML of environments: colours survive, markup in a completion does not."""

import pytest

import envs
from envs.markup import from_ansi

TASKS = {
    "sudoku": {},
    "countdown": {},
    "gsm8k": {"source": "generated"},
    "math500": {"source": "generated"},
    "queens": {},
}
HOSTILE = "<answer><script>alert(1)</script> & \x1b[31m\x1b]0;x\x07</answer>"


def test_colours_become_spans_and_other_codes_are_replaced():
    html = from_ansi("a \x1b[32m<b>\x1b[0m \x1b[2J")
    assert html.endswith('>a <span style="color:#1f9d55;font-weight:600">&lt;b&gt;</span> \ufffd[2J</pre>')


@pytest.mark.parametrize(("task", "arguments"), TASKS.items())
def test_every_task_renders_html_without_markup_of_a_completion(task, arguments, monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")  # is the terminal's affair
    env = envs.make(task, split="test", **arguments)
    problem = env.problem(0)
    shown = [env.render_html(problem, text) for text in (None, env.demonstration(problem), HOSTILE)]
    assert len(set(shown)) == 3 and not any("<script" in html or "\x1b" in html for html in shown)
    if task != "queens":  # it has no rendering of its own
        assert "#1f9d55" in shown[1]


def test_the_sudoku_board_is_a_table_of_marked_cells():
    env = envs.make("sudoku", split="test")
    problem = env.problem(0)
    right = env.render_html(problem, env.demonstration(problem))
    blanks = problem.reference["puzzle"].count("0")
    assert (right.count("<td"), right.count('title="right"')) == (16, blanks)
    unread = env.render_html(problem, "none")
    assert unread.count('title="blank"') == blanks and "no grid of 16 digits" in unread


def test_render_mode_html_gives_what_render_html_makes_and_the_result():
    env = envs.make("sudoku", split="test", render_mode="html")
    env.reset(options={"index": 0})
    completion = env.demonstration(env.problem(0))
    env.step(completion)
    assert env.render() == f"{env.render_html(env.problem(0), completion)}<p>reward 1, ok</p>"
    many = envs.make_vec("sudoku", 2, split="test", render_mode="html")
    many.reset(options={"index": [0, 1]})
    assert many.render() == tuple(env.render_html(env.problem(i), None) for i in (0, 1))
