"""Inside a worker process: runs one program in one guest, and compares what the guest claims with the cases."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from verifiers.code import interpreter
from verifiers.code.values import Case, meets
from verifiers.verdicts import ERROR, MALFORMED, OK, RULE_BROKEN, TIMEOUT, WRONG

MEMORY = None
"""A worker's address space has no limit: WebAssembly reserves much of it, and the guest has a limit of its own."""
REPLY_LIMIT = 1 << 20  # bytes; a longer answer does not count
_REPORTS = {"S": MALFORMED, "Q": RULE_BROKEN, "N": RULE_BROKEN, "M": ERROR, "X": WRONG}
"""{report of `guest.load` on a program that did not load: the reason of its verdict}."""


def prepare() -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Loads the interpreter; returns the function that answers jobs. A job without a program asks if loading worked."""
    interpreter.refuse_to_compile()
    harness = interpreter.compile_in_guest(Path(__file__).with_name("guest.py").read_text(encoding="utf-8"))
    return lambda job: judge(harness, **job["program"]) if "program" in job else {"outcome": OK}


def judge(
    harness: bytes,
    entry: str,
    sources: list[str],
    cases: list[Case],
    lenient: bool,
    fuel: int,
    keep: bool = False,
    instead: Sequence[list[str]] = (),
) -> dict[str, Any]:
    """{"outcome": the reason, "score": the share of cases met, "fuel": the instructions used}.

    The fuel is None if the guest was cancelled. The guest asks for byte code and for sources, then reports how the
    program loaded and, call after call, the returned values. keep: the reply also has `met`, whether each case was
    met, and `replies`, with the returned values. instead: other lists of sources; if `sources` do not compile, the
    first list that compiles is run.
    """
    program = json.dumps([entry, sources, *instead]).encode()
    # What the guest gets for its messages, in their order; b"" ends it.
    answers = [harness, program, *(case.call.encode() for case in cases), b""]
    heard: list[str] = []  # the messages: two requests, the report, and the reply to each call
    cancel = threading.Event()

    def answer(message: bytes) -> bytes:
        """What the guest gets for its next message."""
        if len(heard) == len(answers):
            cancel.set()  # the guest has asked more often than it may
            return b""
        heard.append(message.decode("ascii", "replace") if len(message) <= REPLY_LIMIT else "")
        is_report = len(heard) == 3
        if is_report and message != b"L":  # the program did not load, so it is not called
            answers[2:] = [b""]
        return answers[len(heard) - 1]

    ended, used = interpreter.converse(answer, fuel, cancel)
    report, replies = "".join(heard[2:3]), heard[3:]  # "" and [] if the guest ended before them
    met = [meets(case, reply, lenient) for case, reply in zip(cases, replies, strict=False)]
    if sum(met) == len(cases):
        outcome = OK
    elif ended == "out of fuel":
        outcome = TIMEOUT
    elif report in _REPORTS:
        outcome = _REPORTS[report]
    elif "M" in replies:
        outcome = ERROR
    else:  # the program ended itself, by `os._exit` or with requests of its own, or a value is wrong
        ended_itself = len(replies) < len(cases) or cancel.is_set() or "Q" in replies
        outcome = RULE_BROKEN if ended_itself and ended != "stack overflow" else WRONG
    kept = {"met": met, "replies": replies} if keep else {}
    return {"outcome": outcome, "score": sum(met) / len(cases), "fuel": used, **kept}
