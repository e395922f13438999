"""What Ctrl-C, a launcher and a closed terminal do: the first signal ends the work at the next good moment.

SIGTERM is what `kill` and schedulers send, SIGUSR1 the warning of Slurm's `--signal`, SIGHUP the end of a terminal.
"""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

WARNINGS = tuple(getattr(signal, name) for name in ("SIGUSR1", "SIGHUP") if hasattr(signal, name))
"""Signals that ask for no more than the first of them did: a terminal that closes sends several. Windows has none."""
SIGNALS = (signal.SIGINT, signal.SIGTERM, *WARNINGS)
"""What asks a process to end."""


@dataclass
class StopRequest:
    """Whether the user, or a launcher, has asked this process to end."""

    requested: bool = False
    by: int = 0
    """The signal that asked."""
    at_once: bool = False
    """Whether the first signal ends the work at once, as if it were the second."""

    @property
    def how_at_once(self) -> str:
        """What a message about the first signal adds for a user at the terminal; "" where nobody waits there."""
        return "" if self.by_launcher else " Press Ctrl-C again to stop at once."

    @property
    def by_launcher(self) -> bool:
        """Whether nobody waits at the terminal: soon the process will be killed, or nobody reads what it says."""
        return self.requested and self.by != signal.SIGINT


@contextmanager
def stopping(stop: StopRequest, tell: Callable[[], None]) -> Iterator[None]:
    """Inside, the first of `SIGNALS` is noted in `stop` and told, unless `at_once`; a second one ends all.

    A second of the `WARNINGS` says nothing new. What `nohup` ignores stays ignored.
    """

    def ask(number: int, frame: object) -> None:
        if stop.requested and number in WARNINGS:
            return
        at_once, stop.requested, stop.by = stop.requested or stop.at_once, True, number
        if at_once:
            raise KeyboardInterrupt
        tell()

    if threading.current_thread() is not threading.main_thread():  # signals belong to the main thread
        yield
        return
    heard = [n for n in SIGNALS if n not in WARNINGS or signal.getsignal(n) is not signal.SIG_IGN]
    before = {number: signal.signal(number, ask) for number in heard}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
