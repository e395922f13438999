"""Calls an author's methods: plain ones one after the other, `async` ones awaited side by side.

Each process has one event loop for all `async` methods, in a separate thread. It lives as long as the process, so that
a client that an environment keeps (e.g. of HTTP) can be used again in the next batch.
"""

import asyncio
import inspect
import logging
import math
import os
import sys
import threading
import time
import traceback
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent import futures
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from typing import Any, NamedTuple

from envs.errors import EnvError
from verifiers.user_code import exit_is_error

FAILED = "error"
"""The reason of a call that raised anything but a TimeoutError."""
TIMED_OUT = "timeout"
"""The reason of a call that took too long, or raised a TimeoutError itself, as the author's own client may do."""
SLACK = 10.0
"""Seconds behind the end of all time limits. If calls are still not done then, the event loop counts as blocked."""
NOTICE = 10.0
"""Seconds after which a log line first says what is awaited; it is said again after 20, 40, 80 and so on."""
_log = logging.getLogger(__name__)


class Outcome(NamedTuple):
    """The outcome of a call: its value, or the error that it raised and the traceback as text."""

    value: Any = None
    error: BaseException | None = None
    traceback: str | None = None

    @property
    def reason(self) -> str:
        """`FAILED` or `TIMED_OUT` of a call that raised, else ""."""
        if self.error is None:
            return ""
        return TIMED_OUT if isinstance(self.error, TimeoutError) else FAILED


def reason_of(trace: str) -> str:
    """`FAILED` or `TIMED_OUT`, read from the traceback of a call that raised: its last line names the error."""
    return TIMED_OUT if trace.rstrip().rpartition("\n")[2].startswith("TimeoutError") else FAILED


class Limits(NamedTuple):
    """How many awaited calls run at once in this process, and the seconds that each may take."""

    concurrency: int
    seconds: float


def value_of(outcome: Outcome) -> Any:
    """The value of a call; raises what it raised."""
    if outcome.error is not None:
        raise outcome.error
    return outcome.value


@exit_is_error()
def call_all(name: Callable[[], str], calls: Sequence[Callable[[], Any]], limits: Limits) -> list[Outcome]:
    """Makes the calls one after the other, then awaits the `async` ones side by side; returns the outcome of each.

    name: gives the environment's name, for messages; it is called only if there is anything to await. If there is,
    EnvError is raised for impossible limits, and if an `async` method blocks the event loop, so that no time limit can
    end it.
    """
    outcomes = [_call(call) for call in calls]
    to_await = [i for i, outcome in enumerate(outcomes) if inspect.isawaitable(outcome.value)]
    if to_await:
        awaited = _await_all(name(), [outcomes[i].value for i in to_await], limits)
        for i, outcome in zip(to_await, awaited, strict=True):
            outcomes[i] = outcome
    return outcomes


def _call(call: Callable[[], Any]) -> Outcome:
    try:
        return Outcome(call())
    except (Exception, SystemExit) as error:  # whatever an author's code can raise
        return _failed(error)


def _failed(error: BaseException) -> Outcome:
    return Outcome(error=error, traceback="".join(traceback.format_exception(error)))


def _await_all(name: str, awaitables: Sequence[Awaitable[Any]], limits: Limits) -> list[Outcome]:
    """Awaits all in the event loop, and logs from time to time which are not done; raises EnvError as `call_all`."""
    loop, thread = _loop(os.getpid())
    wrong = _wrong_limits(limits)
    # Waiting for the event loop in its own thread would never end.
    if threading.get_ident() == thread.ident:
        wrong = (
            "an `async` method called the plain scoring of a task, which would wait for this very event loop; await "
            "the methods of that task instead"
        )
    if wrong:
        for awaitable in awaitables:
            if inspect.iscoroutine(awaitable):
                awaitable.close()  # else Python warns that it was never awaited
        raise EnvError(f"{name}: {wrong}.")
    function_names = [_name_of(awaitable) for awaitable in awaitables]
    not_done = Counter(function_names)  # counted down in the event loop's thread
    all_outcomes = _await_within(awaitables, function_names, not_done, limits)
    future = asyncio.run_coroutine_threadsafe(all_outcomes, loop)
    rounds = math.ceil(len(awaitables) / limits.concurrency)
    limit = rounds * limits.seconds + SLACK  # seconds after which all must be done
    notice = NOTICE  # seconds after which the next log line is written
    began = time.monotonic()
    try:
        while True:
            waited = time.monotonic() - began
            done, _ = futures.wait([future], timeout=max(0.0, min(notice, limit) - waited))
            if done:
                return future.result()
            if notice >= limit:  # that wait was the last: `limit` seconds have passed
                raise TimeoutError
            _say_awaited(name, not_done.copy(), notice, limits)
            notice *= 2
    except TimeoutError as error:
        # The message shows the line at which the thread of the event loop is blocked.
        frame = sys._current_frames().get(thread.ident or 0)
        place = "".join(traceback.format_stack(frame)[-1:]).strip() if frame else ""
        _loop.cache_clear()  # the thread may never come back: the next calls get another loop
        raise EnvError(
            f"{name}: an `async` method blocks the event loop, so no time limit can end it ({place}). Await what takes "
            "time; of a client that is not `async`: await asyncio.to_thread(function, ...)."
        ) from error
    except BaseException:  # Ctrl-C, for example
        future.cancel()
        raise


def _wrong_limits(limits: Limits) -> str:
    """The fault in limits that an author set; "" if there is none."""
    count, seconds = limits
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        return f"score_concurrency={count!r:.80} must be a whole number, at least 1"
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds < float("inf"):
        return f"score_timeout={seconds!r:.80} must be a number of seconds above 0"
    return ""


def _name_of(awaitable: Awaitable[Any]) -> str:
    """The author's name for an awaitable: a coroutine has the name of its function, e.g. "MyTask.score"."""
    return getattr(awaitable, "__qualname__", type(awaitable).__name__)


def _say_awaited(name: str, not_done: Mapping[str, int], seconds: float, limits: Limits) -> None:
    """Logs which calls have been awaited for `seconds`.

    not_done: {name of a function: how many of its calls have not ended}.
    """
    calls = [(function, count) for function, count in not_done.items() if count]
    listed = ", ".join(
        f"{function} ({count:,} {'call' if count == 1 else 'calls'})" for function, count in calls
    )
    if listed:
        limit = f"a call fails as {TIMED_OUT} after {limits.seconds:g} s"
        _log.warning("%s: still awaiting %s after %g s; %s.", name, listed, seconds, limit)


async def _await_within(
    awaitables: Sequence[Awaitable[Any]],
    function_names: Sequence[str],
    not_done: Counter[str],
    limits: Limits,
) -> list[Outcome]:
    """Awaits all within the limits; returns the outcome of each.

    function_names: of the called function, for each awaitable. not_done: {name of a function: how many of its calls
    have not ended}; the counts go down as calls end.
    """
    free_slots = asyncio.Semaphore(limits.concurrency)  # a slot for each call that may be awaited at once

    async def await_and_count(awaitable: Awaitable[Any], function_name: str) -> Outcome:
        """As `await_in_time`; then counts the call as ended."""
        try:
            return await await_in_time(awaitable)
        finally:
            not_done[function_name] -= 1

    async def await_in_time(awaitable: Awaitable[Any]) -> Outcome:
        """Awaits a call when a slot is free, for at most `limits.seconds`."""
        async with free_slots:
            outcome = asyncio.ensure_future(_outcome_of(awaitable))
            try:
                # Not `wait_for`, which would keep waiting for a call that cannot be cancelled.
                done, _ = await asyncio.wait({outcome}, timeout=limits.seconds)
            except asyncio.CancelledError:
                outcome.cancel()
                raise
            if done:
                return outcome.result()
            error = TimeoutError(f"it took more than score_timeout={limits.seconds:g} seconds")
            # Nothing was raised, so a traceback is made from the place at which the call is waiting.
            where = "".join(_stack(awaitable))
            outcome.cancel()
            trace = f"Traceback (most recent call last):\n{where}TimeoutError: {error}\n"
            return Outcome(error=error, traceback=trace)

    return await asyncio.gather(*map(await_and_count, awaitables, function_names))


async def _outcome_of(awaitable: Awaitable[Any]) -> Outcome:
    """The outcome of an awaitable: its value, or the error that it raises."""
    try:
        return Outcome(await awaitable)
    except GeneratorExit:  # Python raises it to close a coroutine, which must let it pass
        raise
    # SystemExit is caught, too: it would end the loop's thread and leave all others waiting.
    except BaseException as error:
        return _failed(error)


def _stack(awaitable: Any) -> list[str]:
    """The lines at which a coroutine waits, down to the innermost coroutine that it awaits."""
    frames = []
    while (frame := getattr(awaitable, "cr_frame", None)) is not None:
        frames.append((frame, frame.f_lineno))
        awaitable = awaitable.cr_await
    return traceback.StackSummary.extract(iter(frames)).format()


class _DaemonThreads(ThreadPoolExecutor):
    """The executor of `asyncio.to_thread`: a daemon thread for each call, so that a process can end while one hangs."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()

        def work() -> None:
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(fn(*args, **kwargs))
                except BaseException as error:
                    future.set_exception(error)

        threading.Thread(target=work, daemon=True).start()
        return future


@cache
def _loop(pid: int) -> tuple[asyncio.AbstractEventLoop, threading.Thread]:
    """The event loop of a process and its thread; the first call makes and starts them.

    pid: the id of the process, as the key of the cache. A forked process has a copy of its parent's cache, but none of
    the parent's threads, and so needs a loop of its own.
    """
    loop = asyncio.new_event_loop()
    loop.set_default_executor(_DaemonThreads())
    thread = threading.Thread(target=loop.run_forever, daemon=True, name="envs-awaiting")
    thread.start()
    return loop, thread
