"""What a person sees of a run: live lines on a terminal, plain lines anywhere else, and warnings.

Only rank 0 prints. Output cannot stop a run: a closed pipe or terminal ends the output, not the training. Completions
may hold any bytes, so colours are the only escape codes of a text that reach the terminal.
"""

import math
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TextIO

from rich.console import Console as RichConsole
from rich.markup import escape
from rich.progress import Progress, ProgressColumn, Task
from rich.text import Text

from spg_trainer.distributed import rank
from spg_trainer.errors import in_flags

_CONTROL = re.compile(
    r"(\x1b\[[0-9;:]*m)"  # colours
    r"|\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)"  # other escape codes
    r"|[\x00-\x08\x0b-\x1f\x7f-\x9f]"  # single control characters, except tab and newline
)
"""What `clean` takes out of a text; only its first group, the escape codes of colours, may stay."""
_FIGURES = {
    "reward": "  [dim]reward[/] [cyan]{:.2f}[/]",
    "correct": "  [dim]solved[/] [green]{:.2f}[/]",
    "pairs/accuracy": "  [dim]pairs/accuracy[/] [cyan]{:.2f}[/]",
    "validation": "  [dim]validation[/] [green]{:.3f}[/]",
    "mean_loss": "  [dim]mean loss[/] [cyan]{:.3f}[/]",
    "best_loss": "  [dim]validation[/] [cyan]{:.3f}[/]",
    "tokens_per_second": "  {:,.0f}[dim] tokens/s[/]",
}
"""{figure of a step: how it is shown, in rich's markup}; figures that a step lacks are left out."""
_ALARMS = {"env_errors": "  [red]not scored {}[/]", "updates_skipped": "  [red]updates skipped {}[/]"}
"""Figures that are shown only if they are not 0."""


class _Line(ProgressColumn):
    """A line such as `step 3/9  reward 0.25  0:01:00 left`, cut to the width of a terminal."""

    def __init__(self, screen: RichConsole | None = None) -> None:
        """screen: the terminal; None = the line is not cut."""
        super().__init__()
        self._screen = screen

    def render(self, task: Task) -> Text:
        counts = f" {task.completed:.0f}/{task.total:.0f}"
        markup = task.fields["figures"]
        # Until the last step at the present speed, and until --max-minutes is over.
        seconds_left = [s for s in (task.time_remaining, task.fields["limit"]) if s is not None]
        if seconds_left and not task.finished:
            markup += f"  {timedelta(seconds=int(min(seconds_left)))}[dim] left[/]"
        figures = Text.from_markup(markup, emoji=False)
        title = task.description
        if self._screen is not None:
            title = shortened(title, self._screen.width - 1 - len(counts) - len(figures.plain))
        return Text.from_markup(f"[bold]{escape(title)}{counts}[/]", emoji=False) + figures


class Console:
    """Shows a run on a stream, by default standard output; as a context manager it restores the terminal at the end.

    quiet: show nothing. every_seconds: how often a plain line reports progress if the stream is no terminal. word: how
    the live line begins.
    """

    def __init__(
        self,
        *,
        quiet: bool = False,
        file: TextIO | None = None,
        every_seconds: float = 10.0,
        word: str = "step",
    ) -> None:
        self._word = word
        self._file = file or sys.stdout
        self._quiet = quiet or rank() > 0
        self._every_seconds = every_seconds
        screen = RichConsole(file=self._file, force_jupyter=False, highlight=False, emoji=False)
        can_redraw = screen.is_terminal and not screen.is_dumb_terminal and screen.encoding == "utf-8"
        self._live = can_redraw and not self._quiet
        is_stdout = self._file is sys.stdout
        self._progress = Progress(
            _Line(screen),
            console=screen,
            transient=True,
            refresh_per_second=2,
            speed_estimate_period=600,
            redirect_stdout=is_stdout,
            redirect_stderr=is_stdout,
            get_time=lambda: time.monotonic(),
        )
        self._training: Task | None = None

    def __enter__(self) -> "Console":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def step(self, metrics: Mapping[str, Any], *, total: int, seconds_left: float | None = None) -> None:
        """Shows a finished step of `total`; the first call starts the live line and the last step ends it.

        metrics: `step`, and any of `_FIGURES`. seconds_left: until a time limit; None = there is no limit.
        """
        if self._training is None:
            # As if the last plain line were long ago: the first step is printed at once.
            self._training = self._start(self._word, total, metrics["step"] - 1, printed_at=float("-inf"))
        figures = ""
        for name, form in _FIGURES.items():
            value = metrics.get(name)
            if value is not None and not math.isnan(value):
                figures += form.format(value)
        figures += "".join(form.format(metrics[name]) for name, form in _ALARMS.items() if metrics.get(name))
        task = self._training
        is_last = metrics["step"] == total
        self._update(task, print_now=is_last, completed=metrics["step"], figures=figures, limit=seconds_left)
        if is_last:
            self.end_steps()

    def end_steps(self) -> None:
        """Ends the line of steps. If the run ends before its last step, the newest step is shown first."""
        if (task := self._training) is not None:
            self._training = None
            if not task.fields["newest_is_printed"]:
                self.say(_Line().render(task).plain)
            self._stop(task)

    @contextmanager
    def progress(self, total: int, what: str, first: int = 0) -> Iterator[Callable[..., None]]:
        """Shows the progress of the task `what` of `total` items, of which `first` were done before.

        Yields `advance(done, text="", total=total)`; done: items done so far; total: how many there are, if that has
        changed.
        """
        # As if a plain line had just been printed: a task that is over within `every_seconds` prints none.
        task = self._start(what, total, first, printed_at=time.monotonic())

        def advance(done: float, text: str = "", total: int = total) -> None:
            task.total = total
            self._update(task, completed=done, figures=f"  [cyan]{escape(text)}[/]" if text else "")

        try:
            yield advance
        finally:
            self._stop(task)

    def say(self, text: str) -> None:
        """Prints a line, or several, above the live line; colours included where the terminal has them.

        A setting that the text names as `$block_length=0` is shown as its flag, `--block-length 0`.
        """
        text = in_flags(text)
        if self._live:
            shown = Text.from_ansi(clean(text, colours=True))
            self._guarded(lambda: self._progress.console.print(shown, soft_wrap=True))
        else:
            self._guarded(lambda: _write(self._file, clean(text, colours=False) + "\n"))

    def warn(self, text: str) -> None:
        """Prints a warning."""
        self.say(f"\x1b[1;33mwarning:\x1b[0m {text}")

    def close(self) -> None:
        """Ends the line of steps, removes live lines and restores the terminal; safe to call twice."""
        self.end_steps()
        self._remove_live_lines()

    def _remove_live_lines(self) -> None:
        """Removes live lines and restores the terminal."""
        if self._live:
            self._guarded(self._progress.stop)

    def _start(self, what: str, total: int, done: int, printed_at: float) -> Task:
        """Starts a task of the live lines, and returns it.

        printed_at: the time of its last plain line, as of `time.monotonic`.
        """
        self._progress.add_task(
            what,
            total=total,
            completed=done,
            figures="",
            limit=None,
            printed_at=printed_at,
            newest_is_printed=False,
        )
        if self._live:
            self._guarded(self._progress.start)
        return self._progress.tasks[-1]

    def _update(self, task: Task, *, print_now: bool = False, **values: Any) -> None:
        """Redraws the live lines with the task's new `values`.

        A plain line is printed if `print_now`, or if there are no live lines and the last plain line is old.
        """
        self._guarded(lambda: self._progress.update(task.id, refresh=self._live, **values))
        moment = time.monotonic()
        last_is_old = moment - task.fields["printed_at"] >= self._every_seconds
        prints_line = print_now or (last_is_old and not self._live)
        task.fields["newest_is_printed"] = prints_line
        if prints_line:
            task.fields["printed_at"] = moment
            self.say(_Line().render(task).plain)

    def _stop(self, task: Task) -> None:
        """Ends a task; after the last one, the live lines are removed."""
        self._progress.remove_task(task.id)
        if not self._progress.task_ids:
            self._remove_live_lines()

    def _guarded(self, action: Callable[[], Any]) -> None:
        """Calls `action`, which writes to the stream; once the stream is closed, nothing is shown any more."""
        if self._quiet:
            return
        try:
            action()
        except (OSError, ValueError) as error:
            # Python raises ValueError for a file that is closed; any other ValueError is a bug.
            if isinstance(error, ValueError) and not self._file.closed:
                raise
            self._quiet = True


def shortened(text: str, width: int) -> str:
    """A text cut to `width` characters (9 at least) by leaving out its middle, since names differ at their ends."""
    width = max(9, width)
    if len(text) <= width:
        return text
    tail = (width - 1) // 2
    return f"{text[: width - 1 - tail]}…{text[-tail:]}"


def clean(text: str, *, colours: bool) -> str:
    """`text` without control characters except newline and tab. colours: whether escape codes of colours stay."""
    return _CONTROL.sub(lambda match: (match[1] or "") if colours else "", text)


def _write(file: TextIO, text: str) -> None:
    """Writes a text at once; a character that the stream's encoding lacks becomes "?"."""
    encoding = file.encoding or "utf-8"
    file.write(text.encode(encoding, "replace").decode(encoding))
    file.flush()
