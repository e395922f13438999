"""Limits of processor time that say the same on a slow machine as on a fast one."""

import time

LOOKS = 1_000_000
SECONDS = 0.025
"""What so many turns of an empty loop took where the limits were measured."""


def here(seconds: float) -> float:
    """The processor time that takes, on this machine and now, what took `seconds` where the limits were measured."""
    began = time.process_time()
    for _ in range(LOOKS):
        pass
    return seconds * max(1.0, (time.process_time() - began) / SECONDS)
