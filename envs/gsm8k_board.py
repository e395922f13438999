"""A GSM8K problem with its completion and verdict for the terminal, readable with colours and without."""

import os
import textwrap

from envs.core import Problem

_RESET = "\x1b[0m"
_COLORS = {"head": "\x1b[2m", "question": "\x1b[1m", "right": "\x1b[32m", "wrong": "\x1b[31m"}
_WIDTH = 90


def draw(problem: Problem, completion: str | None, *, color: bool | None = None) -> str:
    """The question, what was answered, the gold answer and the verdict, each on lines of its own.

    The part that was judged is green or red. color: None = coloured unless the environment variable NO_COLOR
    is set. Characters that a terminal would act on are shown as U+FFFD.
    """
    colored = "NO_COLOR" not in os.environ if color is None else color

    def paint(kind: str, text: str) -> str:
        return f"{_COLORS[kind]}{text}{_RESET}" if colored else text

    def block(head: str, lines: list[str]) -> list[str]:
        return [
            f"{paint('head', head if i == 0 else ' ' * len(head))}  {line}" for i, line in enumerate(lines)
        ]

    question = textwrap.wrap(_visible(problem.metadata["question"]), _WIDTH)
    shown = block("question", [paint("question", line) for line in question])
    gold = block("gold    ", [problem.reference["answer"]])
    if completion is None:
        return "\n".join([*shown, *gold])
    from verifiers import verify

    verdict = verify("gsm8k", completion, answer=problem.reference["answer"])
    kind = "right" if verdict.correct else "wrong"
    text = _visible(completion)
    read = _visible(verdict.extracted or "")
    at = text.rfind(read) if read else -1
    if at >= 0:
        text = text[:at] + "\n".join(paint(kind, line) for line in read.split("\n")) + text[at + len(read) :]
    word = kind if verdict.reason in ("ok", "wrong") else f"{kind} ({verdict.reason})"
    return "\n".join(
        [*shown, *block("answer  ", text.split("\n")), *gold, *block("verdict ", [paint(kind, word)])]
    )


def _visible(text: str) -> str:
    return "".join(c if c == "\n" or c.isprintable() else "\ufffd" for c in text)
