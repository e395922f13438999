"""HTML of environments: colours survive, markup in a completion does not."""

import re
from html import unescape

import pytest

import envs
from envs.rendering import MASK, from_ansi, masked

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


def test_a_board_that_is_coming_to_be_shows_what_is_unmasked():
    env = envs.make("sudoku", split="test")
    problem = env.problem(0)
    text, puzzle = env.demonstration(problem), problem.reference["puzzle"]
    first = text.index(problem.metadata["solution"])
    blanks, every = puzzle.count("0"), set(range(len(text)))
    for hidden in (every, every - {first + i for i in range(16)}, set()):
        html = env.render_partial(problem, text, hidden)
        done = not hidden & set(range(first, first + 16))
        assert html.count('title="right"') == (blanks if done else 0)
        assert html.count('title="blank"') == (0 if done else blanks)
        assert html.count('title="unwritten"') == (0 if done else 16 - blanks)
    html = env.render_partial(
        problem, text, every - {first + puzzle.index("0")}
    )  # the tags are unmasked last
    assert html.count('title="right"') == 1 and html.count('title="given"') == 0
    unread = env.render_partial(problem, "none", set())
    assert (
        unread.count('title="blank"') == blanks and "no grid" not in unread
    )  # that is said of the whole text


def test_a_countdown_number_counts_once_all_beside_it_is_unmasked():
    env = envs.make("countdown")
    problem = envs.Problem("", {"numbers": [12, 7, 5], "target": 24})
    text = "<answer>12+7+5</answer>"
    first = text.index("12+7+5")
    for hidden, line, marks in (
        ({first + 2}, "12\u25917+5", ".12 .7 (5)"),
        ({0, first + 5}, "12+7+\u2591", "(12) (7) .5"),
        (set(), "12+7+5", "(12) (7) (5)"),
    ):
        shown = unescape(re.sub("<[^>]*>", "", env.render_partial(problem, text, hidden))).splitlines()
        assert shown[1] == line and shown[2].startswith(marks)
    assert "none" not in env.render_partial(problem, "none", set())


@pytest.mark.parametrize("task", ["gsm8k", "queens"])
def test_a_text_that_is_coming_to_be_keeps_its_places_and_has_no_verdict(task):
    env = envs.make(task, split="test", **TASKS[task])
    problem = env.problem(0)
    text = env.demonstration(problem)
    shown = unescape(env.render_partial(problem, text, {1, 3}))
    assert f"{text[0]}{MASK}{text[2]}{MASK}{text[4:]}" in shown and "#1f9d55" not in shown


def test_line_ends_are_not_masked():
    assert masked("a\nb", {0, 1}) == f"{MASK}\nb"


def test_render_mode_html_gives_what_render_html_makes_and_the_result():
    env = envs.make("sudoku", split="test", render_mode="html")
    env.reset(options={"index": 0})
    completion = env.demonstration(env.problem(0))
    env.step(completion)
    assert env.render() == f"{env.render_html(env.problem(0), completion)}<p>reward 1, ok</p>"
    many = envs.make_vec("sudoku", 2, split="test", render_mode="html")
    many.reset(options={"index": [0, 1]})
    assert many.render() == tuple(env.render_html(env.problem(i), None) for i in (0, 1))
