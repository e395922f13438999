"""What a person sees of a run: one live line on a terminal, plain lines anywhere else, warnings in words.

Only rank 0 prints. Nothing shown can stop a run: a closed pipe or terminal ends the output, not the training.
Of escape codes in a text only colours reach the terminal, since completions may hold any bytes.
"""

import os
import re
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from rich.console import Console as RichConsole
from rich.markup import escape
from rich.progress import Progress, ProgressColumn, Task, TaskID
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
_BARS = "▁▂▃▄▅▆▇█"
"""The solved rates of the last steps, from 0 to 1."""


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
        self._every_seconds = every_seconds
        self._every_steps = every_steps
        self._on_terminal = live = not self._quiet and _is_terminal(self._file)
        self._terminal = RichConsole(file=self._file, force_terminal=live, highlight=False, emoji=False)
        own = self._file is sys.stdout
        self._progress = Progress(
            _LiveLine(),
            console=self._terminal,
            refresh_per_second=2,
            transient=True,
            redirect_stdout=own,
            redirect_stderr=own,
            get_time=lambda: time.monotonic(),
            disable=not live,
        )
        self._training: TaskID | None = None
        self._solved: deque[float] = deque(maxlen=24)

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
        done = int(metrics["step"])
        values = {
            key: value for key in _FIGURES if (value := metrics.get(key)) is not None and value == value
        }
        figures = "".join(_FIGURES[key].format(value) for key, value in values.items())
        self._solved.extend(value for key, value in values.items() if key == "correct")
        curve = "  " + "".join(_BARS[round(7 * min(1.0, max(0.0, rate)))] for rate in self._solved)
        if self._training is None:
            self._training = self._start("step", total, first=done)
        task = self._update(self._training, done, figures, seconds_left, curve)
        if done >= total:
            self._end(self._training)
            self._training = None
            self.say(_line(task).plain)
        elif not self._on_terminal and self._due(task, self._every_steps):
            self.say(_line(task).plain)

    @contextmanager
    def progress(self, total: int, what: str, first: int = 0) -> Iterator[Callable[..., None]]:
        """Shows how far the task `what` of `total` items is, `first` of them done before.

        Yields `advance(done=1, text="", total=total)`, whose total is that of the items as far as is known by then.
        """
        number, completed = self._start(what, total, first, shown=(first, time.monotonic())), first

        def advance(done: int = 1, text: str = "", total: int = total) -> None:
            nonlocal completed
            completed = min(completed + done, total)
            self._progress.update(number, total=total)
            task = self._update(number, completed, f"  [cyan]{escape(text)}[/]" if text else "")
            if not self._on_terminal and self._due(task):
                self.say(_line(task).plain)

        try:
            yield advance
        finally:
            self._end(number)

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
        for number in self._progress.task_ids:
            self._progress.remove_task(number)
        self._training = None
        self._guarded(self._progress.stop)

    def _start(self, what: str, total: int, first: int = 0, shown: tuple[int, float] | None = None) -> TaskID:
        """Gives the live line to a new task."""
        for number in self._progress.task_ids:
            self._progress.update(number, visible=False)
        fields = {"first": first, "shown": shown, "figures": "", "curve": "", "end": None}
        number = self._progress.add_task(what, total=total, completed=first, **fields)
        self._guarded(self._progress.start)
        return number

    def _update(
        self, number: TaskID, done: int, figures: str, seconds_left: float | None = None, curve: str = ""
    ) -> Task:
        task = next(task for task in self._progress.tasks if task.id == number)
        now, first = time.monotonic(), task.fields["first"]
        ends = [] if seconds_left is None else [now + seconds_left]
        if done > first:
            ends.append(now + task.elapsed / (done - first) * (task.total - done))
        fields = {"figures": figures, "curve": curve, "end": min(ends, default=None)}
        self._progress.update(number, completed=done, **fields)
        self._guarded(self._progress.refresh)
        return task

    def _end(self, number: TaskID) -> None:
        """Gives the live line back to the task before; without one, it goes."""
        if number in self._progress.task_ids:
            self._progress.remove_task(number)
        if self._progress.task_ids:
            self._progress.update(self._progress.task_ids[-1], visible=True)
        else:
            self._guarded(self._progress.stop)

    def _due(self, task: Task, steps: float = float("inf")) -> bool:
        """Whether a plain line should be printed now: the first, then by steps or seconds."""
        now, shown = time.monotonic(), task.fields["shown"]
        if shown and task.completed - shown[0] < steps and now - shown[1] < self._every_seconds:
            return False
        task.fields["shown"] = (task.completed, now)
        return True

    def _guarded(self, action: Callable[[], Any]) -> None:
        try:
            action()
        except (OSError, ValueError) as error:  # nobody is watching any more, and the run continues
            if isinstance(error, ValueError) and not self._file.closed:
                raise
            self._quiet, self._on_terminal, self._progress.disable = True, False, True


class _LiveLine(ProgressColumn):
    def render(self, task: Task) -> Text:
        return _line(task).append(task.fields["curve"], "green")


def _line(task: Task) -> Text:
    """`step 3/9  reward 0.25  1:00 left`: where the task is, how it does, how long it will take."""
    end, figures = task.fields["end"], task.fields["figures"]
    line = f"[bold]{escape(task.description)} {task.completed:.0f}/{task.total:.0f}[/]{figures}"
    if end is not None and task.completed < task.total:
        minutes, seconds = divmod(int(max(0.0, end - time.monotonic())), 60)
        hours, minutes = divmod(minutes, 60)
        clock = f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
        line += f"  {clock}[dim] left[/]"
    return Text.from_markup(line, emoji=False)


def processes_line(devices: Sequence[str]) -> str:
    """`2 processes on cuda:0, cuda:1`, from the device of each process; a name that several hosts have comes once."""
    count = len(devices)
    return f"{count} process{'es' * (count > 1)} on {', '.join(dict.fromkeys(devices))}"


def closing_lines(summary: Mapping[str, Any]) -> list[str]:
    """What was gained, where everything lies, and what to type next, from the content of summary.json."""
    before, after, folder = summary["eval_before"], summary["eval_after"], Path(summary["model"]).parent
    temperature = after["settings"]["temperature"]
    decoding = f"temperature {temperature:g}" if temperature else "greedy"
    more = max(2 * summary["steps"], summary["max_steps"]) or 100
    return [
        *validation_lines(summary),
        f"{summary['env']}: solved rate on {after['n']} {after['settings']['split']} problems never trained on, "
        f"{decoding}: {before['correct']:.3f} -> {after['correct']:.3f} [{after['low']:.3f}, {after['high']:.3f}] "
        f"after {summary['steps']} steps, {summary['seconds'] / 60:.1f} minutes.",
        *changed_lines(folder),
        f"Everything is in {folder}: {', '.join(written(folder))}.",
        f"Next:  python -m spg_trainer eval --model {folder}",
        f"       python -m spg_trainer --resume {folder} --max-steps {more}",
    ]


def changed_lines(folder: Path) -> list[str]:
    """How many of the evaluated problems were won and lost, and whether chance explains that it is more of these."""
    places = [folder / "eval" / f"{name}.jsonl" for name in ("before", "after")]
    if not all(place.is_file() for place in places):  # another process writes them
        return []
    before, after = ([row["correct"] for row in read_lines(place)] for place in places)
    lost, won = changed(before, after)
    line = f"Of these problems {won} were won and {lost} lost"
    chances = {"better": sign_test(won, lost), "worse": sign_test(lost, won)}
    found = [f"{what} than before (p = {p:.1g})" for what, p in chances.items() if p <= 0.025]
    return [f"{line}: {found[0] if found else 'no more than chance explains'}."]


def written(folder: Path) -> list[str]:
    """What a reader should look at, of what a run folder holds."""
    files = [name for name in ("model/", "metrics.jsonl", "samples/", "eval/") if (folder / name).exists()]
    return [*files, "summary.json"]  # which the run writes at this moment


def validation_lines(summary: Mapping[str, Any]) -> list[str]:
    """Which step model/ is, and what the validations said of it, of the last step and of the start."""
    found = summary["validation"]
    if found is None:
        return []
    line = f"model/ is step {found['best_step']}, chosen on {found['problems']} validation problems: "
    line += f"{found['best']:.3f}; the last, step {found['last_step']}, {found['last']:.3f}"
    return [line + ("" if found["start"] is None else f"; the start {found['start']:.3f}") + "."]


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
