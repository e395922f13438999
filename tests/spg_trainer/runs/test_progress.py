"""What a person sees: no escape codes off a terminal, one live line on it, warnings that name a flag."""

import contextlib
import io
import re

import pytest

from spg_trainer.runs import progress as module
from spg_trainer.runs.progress import Console, clean

ROW = {"step": 3, "reward": 0.25, "correct": 0.5, "tokens_per_second": 1234.5}


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


@pytest.fixture
def terminal(monkeypatch):
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "100")
    return Terminal()


@pytest.fixture
def clock(monkeypatch):
    """A clock that only moves when told."""
    now = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    return now


def test_plain_lines_carry_every_figure_and_no_escape_codes(clock):
    out = io.StringIO()
    with Console(file=out) as console:
        for step in range(1, 5):
            clock[0] += 30
            console.step({**ROW, "step": step}, total=4)
        console.say("\x1b[1;32m1\x1b[0m 2\n3 4\x1b[2J")
        console.warn("raise --temperature")
    lines = out.getvalue().splitlines()
    assert lines[0] == "step 1/4  reward 0.25  solved 0.50  1,234 tokens/s"
    assert lines[1] == "step 2/4  reward 0.25  solved 0.50  1,234 tokens/s  0:01:00 left"
    assert lines[3] == "step 4/4  reward 0.25  solved 0.50  1,234 tokens/s"
    assert lines[4:] == ["1 2", "3 4", "warning: raise --temperature"]


def test_plain_lines_come_first_last_and_when_it_is_time(clock):
    out = io.StringIO()
    console = Console(file=out, every_seconds=60)
    for step in range(1, 36):
        clock[0] += 5 if step <= 25 else 25
        console.step({"step": step}, total=35)
    shown = [int(number) for number in re.findall(r"step (\d+)/35", out.getvalue())]
    assert shown == [1, 13, 25, 28, 31, 34, 35]


def test_a_run_that_ends_early_shows_its_newest_step_once(clock):
    for ends in ("by the loop", "by an error", "where it was shown"):
        out = io.StringIO()
        with contextlib.suppress(RuntimeError), Console(file=out) as console:
            for step in range(1, 4):
                clock[0] += 10 * (step == 3 and ends == "where it was shown")
                console.step({**ROW, "step": step}, total=9)
            if ends == "by an error":
                raise RuntimeError
            console.end_steps()
            console.say("Stopped")
        shown = [line.partition("  ")[0] for line in out.getvalue().splitlines()]
        assert shown == ["step 1/9", "step 3/9", *["Stopped"] * (ends != "by an error")]


def test_a_long_name_gives_way_in_its_middle_and_all_figures_stay(terminal):
    arguments = "verifier=gsm8k,prompt=the_question_of_the_row,answer=the_solution_of_the_row"
    with Console(file=terminal) as console:
        for name, split in (("first", "test"), ("second", "validation")):
            with console.progress(8, f"eval {name}[{arguments}] {split}") as advance:
                advance(6, "solved 0.500 [0.188, 0.812] after a while")
    text = clean(terminal.getvalue(), colours=False)
    for name, split in (("first", "test"), ("second", "validation")):
        shown = rf"eval {name}\[[^ ]*…[^ ]*\] {split} 6/8  solved 0\.500 \[0\.188, 0\.812\] after a while"
        (line,) = re.findall(shown, text)
        assert len(line) <= 100


def test_live_lines_are_redrawn_below_what_is_printed_and_go_at_the_end(terminal):
    with Console(file=terminal) as console:
        console.step(ROW, total=9)
        console.say("\x1b[32mgrid\x1b[0m")
        with console.progress(8, "evaluating") as advance:
            advance(6, "solved 0.50")
            advance(8)
        console.say("evaluated")
        console.step({**ROW, "step": 9, "correct": 1.0}, total=9)
    assert "\x1b[32mgrid" in terminal.getvalue() and "\x1b[?25h" in terminal.getvalue()
    text = clean(terminal.getvalue(), colours=False)
    order = ["step 3/9", "grid", "evaluating 6/8  solved 0.50", "evaluating 8/8", "evaluated", "step 9/9"]
    places = [text.index(part) for part in order]
    assert places == sorted(places)
    assert text.rstrip().endswith("step 9/9  reward 0.25  solved 1.00  1,234 tokens/s"), "the last step stays"


def test_an_error_inside_gives_the_terminal_back(terminal):
    with pytest.raises(RuntimeError), Console(file=terminal) as console, console.progress(3, "evaluating"):
        raise RuntimeError
    assert terminal.getvalue().rindex("\x1b[?25h") > terminal.getvalue().rindex("\x1b[?25l")


HOSTILE = "\x1b[31mred\x1b[0m\x1b[2J\x1b]0;title\x07\x1bc\x9b2J\x00\x07\r\b[bold]x[/bold]\ty"


def test_only_colours_of_a_text_reach_the_terminal(terminal):
    assert clean(HOSTILE, colours=False) == "redc2J[bold]x[/bold]\ty"
    with Console(file=terminal) as console:
        console.say(HOSTILE)
    text = terminal.getvalue()
    assert "\x1b[31mred\x1b[0m" in text and "[bold]x[/bold]" in text
    for part in ("\x1b[2J", "\x1b]0", "\x1bc", "\x9b", "\x00", "\x07"):
        assert part not in text


class Gone(io.StringIO):
    def write(self, text: str) -> int:
        raise BrokenPipeError(32, "Broken pipe")


def test_a_closed_pipe_ends_the_output_and_not_the_run():
    raw = io.BytesIO()
    Console(file=io.TextIOWrapper(raw, encoding="ascii")).say("solved → yes")
    assert raw.getvalue() == b"solved ? yes\n"
    console = Console(file=Gone())
    console.say("x")
    console.step(ROW, total=9)
    closed = io.StringIO()
    console = Console(file=closed)
    closed.close()
    console.say("x")
    console.close()


@pytest.mark.parametrize("how", ["quiet", "rank", "dumb"])
def test_quiet_other_ranks_and_dumb_terminals(terminal, monkeypatch, how):
    if how == "rank":
        monkeypatch.setenv("RANK", "1")
    if how == "dumb":
        monkeypatch.setenv("TERM", "dumb")
    with Console(file=terminal, quiet=how == "quiet") as console:
        console.step(ROW, total=9)
        console.say("text")
    expected = "step 3/9  reward 0.25  solved 0.50  1,234 tokens/s\ntext\n" if how == "dumb" else ""
    assert terminal.getvalue() == expected
