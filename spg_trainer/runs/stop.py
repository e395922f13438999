"""What Ctrl-C and a launcher's SIGTERM do: the first ends the work at the next good moment, the second at once."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass
class StopRequest:
    """Whether the user, or a launcher, has asked this process to end."""

    requested: bool = False
    by: int = 0
    """The signal that asked."""
    at_once: bool = False
    """Whether to end without finishing what is being done: an evaluation, which a resumed run makes again."""


@contextmanager
def stopping(stop: StopRequest, tell: Callable[[], None]) -> Iterator[None]:
    """Inside, the first Ctrl-C or SIGTERM is noted in `stop` and told, unless `at_once`; a second one ends all."""

    def ask(number: int, frame: object) -> None:
        at_once, stop.requested, stop.by = stop.requested or stop.at_once, True, number
        if at_once:
            raise KeyboardInterrupt
        tell()

    if threading.current_thread() is not threading.main_thread():  # signals belong to the main thread
        yield
        return
    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
