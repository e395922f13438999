"""What a person sees of a run: one live line on a terminal, plain lines anywhere else, warnings in words.

Only rank 0 prints. Nothing shown can stop a run: a closed pipe or terminal ends the output, not the training.
Of escape codes in a text only colours reach the terminal, since completions may hold any bytes.
"""

import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TextIO

from spg_trainer.diagnose import diagnose
from spg_trainer.files import rank
from spg_trainer.meters import Parts, Progress, Steps, plain_text

__all__ = ["Console", "clean", "diagnose"]

_CODES = re.compile(
    r"(\x1b\[[0-9;:]*m)"  # colours
    r"|\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|[\x00-\x08\x0b-\x1f\x7f-\x9f]"
)


class Console:
    """Shows a run on a stream, by default standard output.

    quiet: show nothing. every_seconds, every_steps: how often a plain line appears off a terminal, whichever
    comes first. Use as a context manager, or call `close`, to give the terminal back.
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
        self._lines: list[Callable[[], Parts]] = []
        self._terminal: Any = None
        self._live: Any = None
        self._steps: Steps | None = None
        self._on_terminal = not self._quiet and _is_terminal(self._file)

    def __enter__(self) -> "Console":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def step(self, metrics: Mapping[str, Any], *, total: int, seconds_left: float | None = None) -> None:
        """Shows a finished step of `total`; the first call starts the live line and the last step ends it.

        metrics: read are `step`, `reward`, `correct` and `tokens_per_second`, each if it is there.
        seconds_left: to a time limit, None = there is none.
        """
        if self._quiet:
            return
        steps = self._steps or Steps()
        steps.add(metrics, total, seconds_left)
        if self._steps is None:
            self._steps = steps
            self._push(steps.curve)
        if steps.done >= total:
            self._steps = None
            self._pop(steps.curve)
            self._print(plain_text(steps.parts()))
        elif self._on_terminal:
            self._refresh()
        elif steps.due(self._every_steps, self._every_seconds):
            self._print(plain_text(steps.parts()))

    @contextmanager
    def progress(self, total: int, what: str) -> Iterator[Callable[..., None]]:
        """Shows how far the task `what` of `total` items is; yields `advance(done=1, text="")`."""
        meter = Progress(total, what)
        self._push(meter.parts)

        def advance(done: int = 1, text: str = "") -> None:
            meter.add(done, text)
            if self._on_terminal:
                self._refresh()
            elif meter.due(self._every_seconds):
                self._print(plain_text(meter.parts()))

        try:
            yield advance
        finally:
            self._pop(meter.parts)

    def say(self, text: str) -> None:
        """Prints a line, or several, above the live line."""
        self._print(text)

    def warn(self, text: str) -> None:
        """Prints a warning."""
        self._print(f"\x1b[1;33mwarning:\x1b[0m {text}")

    def board(self, text: str) -> None:
        """Prints an environment's picture, colours included where the terminal has them."""
        self._print(text)

    def close(self) -> None:
        """Removes the live line and gives the terminal back; safe to call twice."""
        self._lines.clear()
        self._steps = None
        live, self._live = self._live, None
        if live is not None:
            self._guarded(live.stop)

    def _push(self, line: Callable[[], Parts]) -> None:
        self._lines.append(line)
        if not self._on_terminal:
            return
        if self._live is None:
            from rich.live import Live

            own = self._file is sys.stdout
            self._live = Live(
                get_renderable=self._render,
                console=self._rich(),
                refresh_per_second=2,
                transient=True,
                redirect_stdout=own,
                redirect_stderr=own,
            )
            self._guarded(self._live.start)
        self._refresh()

    def _pop(self, line: Callable[[], Parts]) -> None:
        if line in self._lines:
            self._lines.remove(line)
        if self._live is not None and not self._lines:
            live, self._live = self._live, None
            self._guarded(live.stop)
        self._refresh()

    def _render(self) -> Any:
        from rich.text import Text

        parts = self._lines[-1]() if self._lines else []
        return Text.assemble(*parts, no_wrap=True, overflow="ellipsis", end="")

    def _refresh(self) -> None:
        if self._live is not None:
            self._guarded(self._live.refresh)

    def _print(self, text: str) -> None:
        if self._quiet:
            return
        if self._on_terminal:
            from rich.text import Text

            shown = Text.from_ansi(clean(text, colours=True))
            self._guarded(lambda: self._rich().print(shown, soft_wrap=True))
        else:
            self._guarded(lambda: _write(self._file, clean(text, colours=False) + "\n"))

    def _rich(self) -> Any:
        if self._terminal is None:
            from rich.console import Console as RichConsole

            self._terminal = RichConsole(file=self._file, force_terminal=True, highlight=False, emoji=False)
        return self._terminal

    def _guarded(self, action: Callable[[], Any]) -> None:
        try:
            action()
        except (OSError, ValueError) as error:  # nobody is watching any more: the run goes on
            if isinstance(error, ValueError) and not self._file.closed:
                raise
            self._quiet, self._on_terminal, self._live = True, False, None


def clean(text: str, *, colours: bool) -> str:
    """`text` without control characters but newline and tab; of escape codes, colours stay if wanted."""
    return _CODES.sub(lambda found: (found[1] or "") if colours else "", text)


def _is_terminal(file: TextIO) -> bool:
    try:
        terminal = file.isatty() and os.environ.get("TERM", "") not in ("dumb", "unknown")
    except ValueError:
        return False
    return terminal and (getattr(file, "encoding", None) or "utf-8").lower().replace("-", "") == "utf8"


def _write(file: TextIO, text: str) -> None:
    try:
        file.write(text)
    except UnicodeEncodeError:
        encoding = file.encoding or "ascii"
        file.write(text.encode(encoding, "replace").decode(encoding))
    file.flush()
