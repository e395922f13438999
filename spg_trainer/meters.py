"""The lines that tell how far a run is: pieces of text with their styles, made anew whenever shown."""

import time
from collections import deque
from collections.abc import Mapping
from typing import Any

Parts = list[tuple[str, str]]
"""Pieces of a line with their rich styles."""

_BARS = "▁▂▃▄▅▆▇█"


class Steps:
    """The training line: where the run is, how it does, how long it will take."""

    def __init__(self) -> None:
        self.done = self._total = 0
        self._metrics: Mapping[str, Any] = {}
        self._solved: deque[float] = deque(maxlen=24)
        self._times: deque[float] = deque(maxlen=21)
        self._limit: float | None = None
        self._last_shown: tuple[int, float] | None = None

    def add(self, metrics: Mapping[str, Any], total: int, seconds_left: float | None) -> None:
        """Takes in a finished step."""
        now = time.monotonic()
        self._metrics, self._total = metrics, total
        self._limit = None if seconds_left is None else now + seconds_left
        self.done = int(metrics.get("step", self.done + 1))
        self._times.append(now)
        value = _number(metrics.get("correct"))
        if value is not None:
            self._solved.append(value)

    def due(self, steps: int, seconds: float) -> bool:
        """Whether a plain line should be printed now: the first, then by steps or seconds."""
        now = time.monotonic()
        if self._last_shown is not None:
            step, moment = self._last_shown
            if self.done - step < steps and now - moment < seconds:
                return False
        self._last_shown = (self.done, now)
        return True

    def left(self) -> float | None:
        """Seconds to the end at the pace of the last twenty steps, or to the time limit."""
        now = time.monotonic()
        ends = [] if self._limit is None else [self._limit]
        if len(self._times) > 1:
            pace = (self._times[-1] - self._times[0]) / (len(self._times) - 1)
            ends.append(self._times[-1] + pace * (self._total - self.done))
        return max(0.0, min(ends) - now) if ends else None

    def parts(self) -> Parts:
        """The line."""
        parts: Parts = [(f"step {self.done}/{self._total}", "bold")]
        for name, key, style in (("reward", "reward", "cyan"), ("solved", "correct", "green")):
            value = _number(self._metrics.get(key))
            if value is not None:
                parts += [(f"  {name} ", "dim"), (f"{value:.2f}", style)]
        tokens = _number(self._metrics.get("tokens_per_second"))
        if tokens is not None:
            parts += [(f"  {tokens:,.0f}", ""), (" tokens/s", "dim")]
        left = self.left()
        if left is not None and self.done < self._total:
            parts += [(f"  {_clock(left)}", ""), (" left", "dim")]
        return parts

    def curve(self) -> Parts:
        """The line, and the solved rate of the last steps as small bars from 0 to 1."""
        bars = "".join(_BARS[round(7 * min(1.0, max(0.0, value)))] for value in self._solved)
        return [*self.parts(), (f"  {bars}", "green")]


class Progress:
    """The line of a task that only counts, such as an evaluation."""

    def __init__(self, total: int, what: str) -> None:
        self._total, self._what, self._done, self._text = total, what, 0, ""
        self._start = self._last_shown = time.monotonic()

    def add(self, done: int, text: str) -> None:
        """Counts finished items; `text` says how it goes."""
        self._done = min(self._done + done, self._total)
        self._text = text

    def due(self, seconds: float) -> bool:
        """Whether a plain line should be printed now."""
        now = time.monotonic()
        if now - self._last_shown < seconds:
            return False
        self._last_shown = now
        return True

    def parts(self) -> Parts:
        """The line."""
        parts: Parts = [(f"{self._what} ", "bold"), (f"{self._done}/{self._total}", "")]
        if self._text:
            parts.append((f"  {self._text}", "cyan"))
        if 0 < self._done < self._total:
            pace = (time.monotonic() - self._start) / self._done
            parts += [(f"  {_clock(pace * (self._total - self._done))}", ""), (" left", "dim")]
        return parts


def plain_text(parts: Parts) -> str:
    """The line without styles."""
    return "".join(text for text, _ in parts)


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and value == value else None


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
