"""A worker of a server whose answers take as long as a request says, for tests of the server."""

import os
import time
from collections.abc import Callable
from typing import Any

from verifiers.serve.workers import Answer, Question


def prepare(settings: dict[str, Any]) -> Callable[[list[Question]], list[Answer]]:
    if settings.get("unavailable"):
        raise RuntimeError("no such engine here; run: pip install engine")
    return answers


def answers(questions: list[Question]) -> list[Answer]:
    """Each body is a number of seconds, or "die"; the answer says how many questions came together."""
    for question in questions:
        if question.body == b"die":
            os._exit(9)
        time.sleep(float(question.body))
    return [
        Answer(200, f"{question.body.decode()} of {len(questions)}".encode(), {}) for question in questions
    ]
