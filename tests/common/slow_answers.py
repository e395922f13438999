"""A worker of a server whose answers take as long as a request says, for tests of the server."""

import os
import time
from collections.abc import Callable
from typing import Any

MEMORY = None


def prepare(unavailable: bool = False) -> Callable[[dict[str, Any]], dict[str, Any]]:
    if unavailable:
        raise RuntimeError("no such engine here; run: pip install engine")
    return answers


def answers(job: dict[str, Any]) -> dict[str, Any]:
    """Each body is a number of seconds, or "die"; the answer says how many questions came together."""
    bodies = [body for _, body in job["requests"]]
    for body in bodies:
        if body == b"die":
            os._exit(9)
        time.sleep(float(body))
    return {"answers": [(200, f"{body.decode()} of {len(bodies)}", {}) for body in bodies]}
