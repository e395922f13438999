"""A worker for tests, which does what its job asks it to: answer, hang, swell, die; and how tests look at it."""

import os
import sys
import time
from pathlib import Path

from verifiers.worker import Workers

MEMORY = 1 << 30
SLOW = 60.0  # seconds that a loaded machine may take for what should be immediate


def answer(job: dict) -> dict:
    """Do what `job["do"]` says."""
    match job["do"]:
        case "echo":
            time.sleep(job.get("after", 0))
        case "hang in C":
            return {"outcome": "equal", "detail": str(sum(range(10**12)))}
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
        case "count":
            return {"detail": job["payload"].decode()}
    return {"outcome": "equal", "detail": str(job.get("say", ""))}


def prepare() -> object:
    case, _, seconds = os.environ.get("WORKER_CASES", "").partition(" ")
    if case == "unavailable":
        import nowhere  # noqa: F401
    if case == "late":
        time.sleep(float(seconds))
    return answer


def pids(pool: Workers) -> list[int]:
    """The processes that run for a pool now."""
    return [worker.process.pid for worker in pool._alive]


def ends(pid: int, seconds: float = SLOW) -> bool:
    """True if the process is gone, or only waits to be collected, before so many seconds have passed."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX":
                return True
        except OSError:
            return True
        time.sleep(0.02)
    return False


def say(pool: Workers, text: object) -> dict:
    return pool.ask({"do": "echo", "say": text})
