"""Lets Ctrl-C, a launcher's signal or a closed terminal end a run at the next good moment, and a second Ctrl-C at once.

`kill` and schedulers send SIGTERM, Slurm's `--signal` sends SIGUSR1 as a warning, a closing terminal sends SIGHUP.
"""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

WARNINGS = tuple(getattr(signal, name) for name in ("SIGUSR1", "SIGHUP") if hasattr(signal, name))
"""Signals that, when repeated, still ask only once: a terminal that closes sends several. Windows has none of them."""
SIGNALS = (signal.SIGINT, signal.SIGTERM, *WARNINGS)
"""The signals that ask a process to end."""


@dataclass
class StopRequest:
    """Whether the user, or a launcher, has asked this process to end."""

    requested: bool = False
    by: int = 0
    """The signal that asked; 0 = none has."""
    at_once: bool = False
    """Whether the first signal ends the work at once, as if it were the second."""

    @property
    def how_at_once(self) -> str:
        """A hint for the message about the first signal if a user waits at the terminal, else ""."""
        return "" if self.by_launcher else " Press Ctrl-C again to stop at once."

    @property
    def by_launcher(self) -> bool:
        """Whether the signal came from a launcher or a closing terminal, so that no user waits for the end."""
        return self.requested and self.by != signal.SIGINT


@contextmanager
def stopping(stop: StopRequest, tell: Callable[[], None]) -> Iterator[None]:
    """Inside, the first of `SIGNALS` is noted in `stop`, and `tell` is called; a second one raises KeyboardInterrupt.

    With `stop.at_once`, the first signal raises it already. A signal of `WARNINGS` that follows another signal changes
    nothing. Signals that `nohup` has set to be ignored stay ignored.
    """

    def ask(number: int, frame: object) -> None:
        """Handles the signal `number`."""
        if stop.requested and number in WARNINGS:
            return
        ends_now = stop.at_once or stop.requested
        stop.requested, stop.by = True, number
        if ends_now:
            raise KeyboardInterrupt
        tell()

    if threading.current_thread() is not threading.main_thread():  # signals belong to the main thread
        yield
        return
    ignored = [number for number in WARNINGS if signal.getsignal(number) is signal.SIG_IGN]
    before = {number: signal.signal(number, ask) for number in SIGNALS if number not in ignored}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
