"""A worker for tests, which does what its job asks it to: answer, hang, swell, die; and how tests look at it."""

import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from verifiers.worker import Unavailable, serve

if TYPE_CHECKING:
    from verifiers.workers import Workers

SLOW = 60.0  # seconds that a loaded machine may take for what should be immediate


def answer(job: dict) -> dict:
    """Do what `job["do"]` says."""
    match job["do"]:
        case "echo":
            time.sleep(job.get("after", 0))
        case "hang in C":
            return {"outcome": "equal", "detail": str(9**9**9)[:1]}
        case "hang in Python":
            while True:
                pass
        case "sleep":
            time.sleep(600)
        case "swell":
            return {"outcome": "equal", "detail": str(len(bytearray(1 << 34)))}
        case "die":
            os._exit(7)
        case "die once":
            if not os.path.exists(job["mark"]):
                open(job["mark"], "w").close()
                os._exit(7)
        case "shout":
            sys.stdout.write("noise\n" * 1000)
            sys.stdout.flush()
            os.write(1, b"more noise\n")
        case "stumble":
            raise KeyError("a bug")
        case "return":
            return {"payload": job["payload"]}
    return {"outcome": "equal", "detail": str(job.get("say", ""))}


def prepare() -> object:
    case, _, seconds = os.environ.get("WORKER_CASES", "").partition(" ")
    if case == "unavailable":
        raise Unavailable("nothing here; run: pip install something")
    if case == "late":
        time.sleep(float(seconds))
    return answer


def main() -> None:
    serve(prepare, 1 << 30)


def is_there(pid: int) -> bool:
    """True while the process lives; one that only waits to be collected is dead."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        return state not in "ZX"
    except OSError:
        pass
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return not Path("/proc/self/stat").exists()


def ends(pid: int, seconds: float = SLOW) -> bool:
    """True if the process is gone before so many seconds have passed."""
    until = time.monotonic() + seconds
    while is_there(pid):
        if time.monotonic() > until:
            return False
        time.sleep(0.02)
    return True


def say(pool: "Workers", text: object) -> dict:
    return pool.ask({"do": "echo", "say": text}, patient=True)
