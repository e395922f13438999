"""What a person sees of a run: one live line on a terminal, plain lines anywhere else, warnings in words.

Only rank 0 prints. Nothing shown can stop a run: a closed pipe or terminal ends the output, not the training.
Of escape codes in a text only colours reach the terminal, since completions may hold any bytes.
"""

import os
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from rich.console import Console as RichConsole
from rich.live import Live
from rich.markup import escape
from rich.text import Text

from spg_trainer.distributed import rank
from spg_trainer.runs.files import read_lines
from spg_trainer.training.validation import changed, sign_test

_CONTROL = re.compile(
    r"(\x1b\[[0-9;:]*m)"  # colours
    r"|\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|[\x00-\x08\x0b-\x1f\x7f-\x9f]"
)
_FIGURES = {
    "reward": "  [dim]reward[/] [cyan]{:.2f}[/]",
    "correct": "  [dim]solved[/] [green]{:.2f}[/]",
    "validation": "  [dim]validation[/] [green]{:.3f}[/]",
    "tokens_per_second": "  {:,.0f}[dim] tokens/s[/]",
}
"""The figures of a step that are shown if they are there, in rich's markup."""


@dataclass
class _Task:
    """Something that takes a while: how far it is, and what its line says."""

    what: str
    total: int
    first: int
    """Items done before it began."""
    shown: tuple[int, float] | None
    """Items and moment of its last plain line."""
    done: int = 0
    figures: str = ""
    end: float | None = None
    """When it will be over."""
    started: float = field(default_factory=lambda: time.monotonic())

    def update(self, done: int, figures: str, seconds_left: float | None = None) -> None:
        """seconds_left: to a time limit, None = there is none."""
        now = time.monotonic()
        ends = [] if seconds_left is None else [now + seconds_left]
        if done > self.first:
            ends.append(now + (now - self.started) / (done - self.first) * (self.total - done))
        self.done, self.figures, self.end = done, figures, min(ends, default=None)

    def line(self) -> Text:
        """`step 3/9  reward 0.25  1:00 left`."""
        line = f"[bold]{escape(self.what)} {self.done}/{self.total}[/]{self.figures}"
        if self.end is not None and self.done < self.total:
            minutes, seconds = divmod(int(max(0.0, self.end - time.monotonic())), 60)
            hours, minutes = divmod(minutes, 60)
            clock = f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
            line += f"  {clock}[dim] left[/]"
        return Text.from_markup(line, emoji=False)


class Console:
    """Shows a run on a stream, by default standard output; as a context manager it gives the terminal back.

    quiet: show nothing. every_seconds, every_steps: how often a plain line appears off a terminal, whichever is first.
    """

    def __init__(
        self,
        *,
        quiet: bool = False,
        file: TextIO | None = None,
        every_seconds: float = 10.0,
        every_steps: int = 10,
    ) -> None:
        self._file = file or sys.stdout
        self._quiet = quiet or rank() > 0
        self._every_seconds, self._every_steps = every_seconds, every_steps
        self._on_terminal = live = not self._quiet and _is_terminal(self._file)
        self._terminal = RichConsole(file=self._file, force_terminal=live, highlight=False, emoji=False)
        self._tasks: list[_Task] = []
        self._training: _Task | None = None
        shared = dict.fromkeys(("redirect_stdout", "redirect_stderr"), self._file is sys.stdout)
        options = {"console": self._terminal, "refresh_per_second": 2, "transient": True, **shared}
        self._live = Live(get_renderable=self._live_line, **options)

    def __enter__(self) -> "Console":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def step(self, metrics: Mapping[str, Any], *, total: int, seconds_left: float | None = None) -> None:
        """Shows a finished step of `total`; the first call starts the live line and the last step ends it.

        metrics: `step` and what is there of `_FIGURES`. seconds_left: to a time limit, None = there is none.
        """
        if self._quiet:
            return
        step = int(metrics["step"])
        values = {name: v for name in _FIGURES if (v := metrics.get(name)) is not None and v == v}
        if self._training is None:
            self._training = self._begin(_Task("step", total, step, None))
        task = self._training
        task.update(step, "".join(_FIGURES[name].format(v) for name, v in values.items()), seconds_left)
        if step < total:
            self._show(task, self._every_steps)
        else:
            self._end(task)
            self._training = None
            self.say(task.line().plain)

    @contextmanager
    def progress(self, total: int, what: str, first: int = 0) -> Iterator[Callable[..., None]]:
        """Shows how far the task `what` of `total` items is, `first` of them done before.

        Yields `advance(done=1, text="", total=total)`, whose total is that of the items as far as is known by then.
        """
        task = self._begin(_Task(what, total, first, (first, time.monotonic()), first))

        def advance(done: int = 1, text: str = "", total: int = total) -> None:
            task.total = total
            task.update(min(task.done + done, total), f"  [cyan]{escape(text)}[/]" if text else "")
            self._show(task)

        try:
            yield advance
        finally:
            self._end(task)

    def say(self, text: str) -> None:
        """Prints a line, or several, above the live line; colours included where the terminal has them."""
        if self._quiet:
            return
        if self._on_terminal:
            shown = Text.from_ansi(clean(text, colours=True))
            self._guarded(lambda: self._terminal.print(shown, soft_wrap=True))
        else:
            self._guarded(lambda: _write(self._file, clean(text, colours=False) + "\n"))

    def warn(self, text: str) -> None:
        self.say(f"\x1b[1;33mwarning:\x1b[0m {text}")

    def close(self) -> None:
        """Removes the live line and gives the terminal back; safe to call twice."""
        self._tasks.clear()
        self._training = None
        self._guarded(self._live.stop)

    def _begin(self, task: _Task) -> _Task:
        """Gives the live line to a task."""
        self._tasks.append(task)
        if self._on_terminal:
            self._guarded(self._live.start)
        return task

    def _end(self, task: _Task) -> None:
        """Gives the live line back to the task before; without one, it goes."""
        if task in self._tasks:
            self._tasks.remove(task)
        if not self._tasks:
            self._guarded(self._live.stop)

    def _show(self, task: _Task, steps: float = float("inf")) -> None:
        """Redraws the live line, or prints a plain one if it is time: by steps or seconds."""
        now = time.monotonic()
        if self._on_terminal:
            self._guarded(self._live.refresh)
        elif (
            task.shown is None
            or task.done - task.shown[0] >= steps
            or now - task.shown[1] >= self._every_seconds
        ):
            task.shown = task.done, now
            self.say(task.line().plain)

    def _live_line(self) -> Text:
        line = self._tasks[-1].line() if self._tasks else Text()
        line.truncate(self._terminal.width, overflow="ellipsis")
        return line

    def _guarded(self, action: Callable[[], Any]) -> None:
        try:
            action()
        except (OSError, ValueError) as error:  # nobody is watching any more, and the run continues
            if isinstance(error, ValueError) and not self._file.closed:
                raise
            self._quiet, self._on_terminal = True, False


def processes_line(devices: Sequence[str]) -> str:
    """`2 processes on cuda:0, cuda:1`, from the device of each process; a name that several hosts have comes once."""
    count = len(devices)
    return f"{count} process{'es' * (count > 1)} on {', '.join(dict.fromkeys(devices))}"


def closing_lines(summary: Mapping[str, Any]) -> list[str]:
    """What was gained, where everything lies, and what to type next, from the content of summary.json."""
    before, after, folder = summary["eval_before"], summary["eval_after"], Path(summary["model"]).parent
    temperature = after["settings"]["temperature"]
    decoding = f"temperature {temperature:g}" if temperature else "greedy"
    files = ("model/", "metrics.jsonl", "samples/", "eval/")
    present = [name for name in files if (folder / name).exists()] + ["summary.json"]
    steps = max(2 * summary["steps"], summary["max_steps"]) or 100
    lines = [
        f"{summary['env']}: solved rate on {after['n']} {after['settings']['split']} problems never trained on, "
        f"{decoding}: {before['correct']:.3f} -> {after['correct']:.3f} [{after['low']:.3f}, {after['high']:.3f}] "
        f"after {summary['steps']} steps, {summary['seconds'] / 60:.1f} minutes.",
        *changed_lines(folder),
        f"Everything is in {folder}: {', '.join(present)}.",
        f"Next:  python -m spg_trainer eval --model {folder}",
        f"       python -m spg_trainer --resume {folder} --max-steps {steps}",
    ]
    if (v := summary["validation"]) is None:
        return lines
    start = "" if v["start"] is None else f"; the start {v['start']:.3f}"
    kept = f"model/ is step {v['best_step']}, chosen on {v['problems']} validation problems: {v['best']:.3f}"
    return [f"{kept}; the last, step {v['last_step']}, {v['last']:.3f}{start}.", *lines]


def changed_lines(folder: Path) -> list[str]:
    """How many of the evaluated problems were won and lost, and whether chance explains that it is more of these."""
    places = [folder / "eval" / f"{name}.jsonl" for name in ("before", "after")]
    if not all(place.is_file() for place in places):  # another process writes them
        return []
    before, after = ([row["correct"] for row in read_lines(place)] for place in places)
    lost, won = changed(before, after)
    line = f"Of these problems {won} were won and {lost} lost"
    p = sign_test(max(won, lost), min(won, lost))
    if p > 0.025:
        return [f"{line}: no more than chance explains."]
    return [f"{line}: {'better' if won > lost else 'worse'} than before (p = {p:.1g})."]


def clean(text: str, *, colours: bool) -> str:
    """`text` without control characters but newline and tab; of escape codes, colours stay if wanted."""
    return _CONTROL.sub(lambda match: (match[1] or "") if colours else "", text)


def _is_terminal(file: TextIO) -> bool:
    try:
        terminal = file.isatty() and os.environ.get("TERM", "") not in ("dumb", "unknown")
    except ValueError:
        return False
    return terminal and (getattr(file, "encoding", None) or "utf-8").lower().replace("-", "") == "utf8"


def _write(file: TextIO, text: str) -> None:
    encoding = file.encoding or "utf-8"
    file.write(text.encode(encoding, "replace").decode(encoding))
    file.flush()
