"""A GSM8K problem with its completion and verdict for the terminal, readable with colours and without."""

import textwrap

from envs.core import Problem
from envs.terminal import highlight_last, labelled, painter, printable

_WIDTH = 90


def render(problem: Problem, completion: str | None, *, color: bool | None = None) -> str:
    """The question, the completion with the part that was judged in green or red, the gold answer and the verdict."""
    paint = painter(color)
    question = "\n".join(textwrap.wrap(printable(problem.metadata["question"]), _WIDTH))
    lines = [
        labelled(paint, "question", paint("bold", question)),
        labelled(paint, "gold", problem.reference["answer"]),
    ]
    if completion is None:
        return "\n".join(lines)
    from verifiers import verify

    verdict = verify("gsm8k", completion, answer=problem.reference["answer"])
    style, word = ("green", "right") if verdict.correct else ("red", "wrong")
    if verdict.reason not in ("ok", "wrong"):
        word = f"{word} ({verdict.reason})"
    answer = highlight_last(paint, style, printable(completion), printable(verdict.extracted or ""))
    lines.insert(1, labelled(paint, "answer", answer))
    return "\n".join([*lines, labelled(paint, "verdict", paint(style, word))])
