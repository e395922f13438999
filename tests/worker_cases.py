"""A worker for tests, which does what its job asks it to: answer, hang, swell, die."""

import os
import sys
import time

from verifiers._worker_child import Unavailable, serve


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
        case "sink":
            return answer(job)
    return {"outcome": "equal", "detail": str(job.get("say", ""))}


def prepare() -> object:
    if os.environ.get("WORKER_CASES") == "unavailable":
        raise Unavailable("nothing here; run: pip install something")
    return answer


def main() -> None:
    serve(prepare, 1 << 30)
