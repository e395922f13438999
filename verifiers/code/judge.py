"""Inside a worker process: one guest for one program, and its claims held against the cases here."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from verifiers.code import interpreter
from verifiers.code.values import Case, meets
from verifiers.verdicts import MALFORMED, OK, RULE_BROKEN, TIMEOUT, WRONG

MEMORY = None  # of a worker's address space: WebAssembly reserves much, and the guest has a limit of its own
REPLY_LIMIT = 1 << 20  # bytes; a longer answer counts as none
_REPORTS = {"S": MALFORMED, "Q": RULE_BROKEN, "N": RULE_BROKEN, "X": WRONG}


def prepare() -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Load the interpreter and return what answers a job."""
    harness = interpreter.compile_in_guest(Path(__file__).with_name("guest.py").read_text(encoding="utf-8"))
    return lambda job: judge(harness, **job["program"])


class Conversation:
    """What the host answers to the guest's requests, in order: byte code, sources, then one call after the other.

    The guest asks for the first two, reports how the program loaded, then what each call returned.
    """

    def __init__(self, harness: bytes, sources: list[str], calls: list[str]) -> None:
        self.cancel = threading.Event()
        self._calls = len(calls)
        self._answers = [harness, json.dumps(sources).encode(), *(call.encode() for call in calls), b""]
        self._heard: list[str] = []

    def answer(self, message: bytes) -> bytes:
        if len(self._heard) == len(self._answers):
            self.cancel.set()  # a request too many
            return b""
        self._heard.append(message.decode("ascii", "replace") if len(message) <= REPLY_LIMIT else "")
        if len(self._heard) == 3 and message != b"L":
            self._answers[2:] = [b""]
        return self._answers[len(self._heard) - 1]

    @property
    def report(self) -> str:
        return "".join(self._heard[2:3])

    @property
    def replies(self) -> list[str]:
        return self._heard[3:]

    @property
    def is_over(self) -> bool:
        """If every call was answered, and nothing more was asked."""
        return len(self.replies) == self._calls and not self.cancel.is_set()


def judge(
    harness: bytes,
    entry: str,
    sources: list[str],
    cases: list[Case],
    lenient: bool,
    fuel: int,
    keep: bool = False,
) -> dict[str, Any]:
    """The reason, the share of cases met, and the fuel used (None where the guest was stopped for another reason).

    keep: also which cases were met, and what came back.
    """
    talk = Conversation(harness, [entry, *sources], [case.call for case in cases])
    ended, used = interpreter.converse(talk.answer, fuel, talk.cancel)
    met = [meets(case, reply, lenient) for case, reply in zip(cases, talk.replies, strict=False)]
    kept = {"met": met, "replies": talk.replies} if keep else {}
    outcome = _reason(talk, ended, sum(met) == len(cases))
    return {"outcome": outcome, "score": sum(met) / len(cases), "fuel": used, **kept}


def _reason(talk: Conversation, ended: str, all_right: bool) -> int:
    if all_right:
        return OK
    if ended == "out of fuel":
        return TIMEOUT
    if talk.report in _REPORTS:
        return _REPORTS[talk.report]
    itself = not talk.is_over or "Q" in talk.replies  # `os._exit`, or requests of its own
    return RULE_BROKEN if itself and ended != "stack overflow" else WRONG
