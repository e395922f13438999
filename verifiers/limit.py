"""A limit to the time that a batch may take, set by whoever calls the verifiers.

The limits that hold without it are in `verifiers.code.task`, IDLE_SECONDS for a program, and in
`verifiers.math500.task`, CAS_SOFT_SECONDS and CAS_HARD_SECONDS for a question to the computer algebra system.
"""

from __future__ import annotations

import math
import numbers
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from verifiers.errors import VerifierError

_until: ContextVar[float] = ContextVar("verifiers_until", default=math.inf)


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Inside, a verdict is a `timeout` if its program or computer algebra is not done `seconds` after the block began.

    Everything else takes microseconds and is not cut short. Without this limit, each program and each question to the
    computer algebra system has only a limit of its own, so a batch takes as long as all of them. Of nested limits, the
    earliest holds. A limit holds for this thread alone (in asyncio, for this task).

    Raises VerifierError unless `seconds` is a number of 0 or more.
    """
    if not isinstance(seconds, numbers.Real) or not seconds >= 0:
        raise VerifierError(f"time_limit({seconds!r:.60}): should be a number of seconds, 0 or more.")
    until = time.monotonic() + seconds
    token = _until.set(min(_until.get(), until))  # a limit around this one may end earlier
    try:
        yield
    finally:
        _until.reset(token)


def deadline() -> float:
    """When the limit of this thread ends, by `time.monotonic`; infinity without a limit."""
    return _until.get()
