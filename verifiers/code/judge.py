"""Inside a worker process: one guest for one program, and its claims held against the cases here."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path

from verifiers.code import interpreter
from verifiers.code.values import Case, meets, read_reply
from verifiers.verdicts import MALFORMED, OK, RULE_BROKEN, TIMEOUT, WRONG

MEMORY = None  # of a worker's address space: WebAssembly reserves much, and the guest has a limit of its own
REPLY_LIMIT = 1 << 20  # bytes; a longer answer counts as none
_REPORTS = {b"S": MALFORMED, b"Q": RULE_BROKEN, b"N": RULE_BROKEN}


def prepare() -> Callable[[dict], dict]:
    """Load the interpreter and return what answers a job."""
    harness = interpreter.compile_in_guest(Path(__file__).with_name("guest.py").read_text(encoding="utf-8"))
    return lambda job: judge(
        harness, **{name: value for name, value in job.items() if name not in ("soft", "hard")}
    )


class Conversation:
    """What the host answers to the guest's requests, in order: byte code, sources, then one call after the other."""

    def __init__(self, harness: bytes, sources: list[str], calls: list[str]) -> None:
        self.cancel = threading.Event()
        self.report = b""
        self.replies: list[bytes] = []
        self._answers = iter(
            [
                harness,
                json.dumps(sources).encode(),
                *(call.encode("utf-8", "surrogatepass") for call in calls),
                b"",
            ]
        )
        self._requests, self._calls = -1, len(calls)

    @property
    def is_over(self) -> bool:
        """If every call was answered, and nothing more was asked."""
        return len(self.replies) == self._calls and not self.cancel.is_set()

    def answer(self, message: bytes) -> bytes:
        self._requests += 1
        if self._requests == 2:
            self.report = message[:2]
        elif self._requests > 2 and len(self.replies) < self._calls:
            self.replies.append(message if len(message) <= REPLY_LIMIT else b"")
        if self._requests > 1 and self.report != b"L":
            self._answers = iter([b""] if self._requests == 2 else [])
        answer = next(self._answers, None)
        if answer is None:
            self.cancel.set()  # a request too many
        return answer or b""


def judge(
    harness: bytes,
    entry: str,
    sources: list[str],
    cases: list[Case],
    lenient: bool,
    fuel: int,
    keep: bool = False,
) -> dict:
    """The reason, the share of cases met, and the fuel used (None where the guest was stopped for another reason).

    keep: also which cases were met, and what came back, as it came.
    """
    talk = Conversation(harness, [entry, *sources], [case.call for case in cases])
    ended, used = interpreter.converse(talk.answer, fuel, talk.cancel)
    replies = talk.replies
    met = [meets(case, read_reply(reply), lenient) for case, reply in zip(cases, replies, strict=False)]
    right = sum(met)
    kept = {"met": met, "replies": [reply.decode(errors="replace") for reply in replies]} if keep else {}
    outcome = _reason(talk, ended, right == len(cases))
    return {"outcome": outcome, "score": right / len(cases), "fuel": used, **kept}


def _reason(talk: Conversation, ended: str, all_right: bool) -> int:
    if all_right:
        return OK
    if ended == "out of fuel":
        return TIMEOUT
    if talk.report in _REPORTS:
        return _REPORTS[talk.report]
    if talk.report == b"X" or ended == "stack overflow":
        return WRONG
    itself = not talk.is_over or b"Q" in talk.replies  # `os._exit`, or requests of its own
    return RULE_BROKEN if itself else WRONG
