"""A MATH problem with its completion and verdict for the terminal, readable with colours and without."""

import os

from envs.core import Problem, Score

_RESET = "\x1b[0m"
_COLORS = {"head": "\x1b[2m", "problem": "\x1b[1m", "right": "\x1b[32m", "wrong": "\x1b[31m"}
_INDENT = " " * 10


def draw(problem: Problem, completion: str | None, score: Score | None, *, color: bool | None = None) -> str:
    """The problem, what was answered, the gold answer and the verdict, each beginning on a line of its own.

    score: what the environment gave the completion, which may refuse what the verifier alone would accept.
    The part that was judged is green or red. color: None = coloured unless the environment variable NO_COLOR
    is set. Characters that a terminal would act on are shown as U+FFFD.
    """
    colored = "NO_COLOR" not in os.environ if color is None else color

    def paint(kind: str, text: str) -> str:
        """Every line on its own, so that the indentation between two lines stays uncoloured."""
        lines = text.split("\n")
        return "\n".join(f"{_COLORS[kind]}{line}{_RESET}" for line in lines) if colored else text

    def part(head: str, text: str) -> str:
        return paint("head", head.ljust(len(_INDENT))) + text.replace("\n", "\n" + _INDENT)

    shown = [
        part("problem", paint("problem", _visible(problem.metadata["problem"]))),
        part("gold", _visible(problem.reference["answer"])),
    ]
    if problem.metadata["subject"]:
        shown.insert(0, part("subject", _visible(problem.metadata["subject"])))
    if completion is None or score is None:
        return "\n".join(shown)
    from verifiers import verify

    verdict = verify("math500", completion, answer=problem.reference["answer"])
    kind = "right" if score.rewards["correct"] else "wrong"
    text, judged = _visible(completion), _visible(verdict.extracted or "")
    before, found, behind = text.rpartition(judged) if judged else (text, "", "")
    shown.insert(-1, part("answer", before + (paint(kind, found) if found else "") + behind))
    shown.append(part("verdict", paint(kind, f"{kind} ({score.reason}, {verdict.decided_by})")))
    return "\n".join(shown)


def _visible(text: str) -> str:
    return "".join(c if c == "\n" or c.isprintable() else "\ufffd" for c in text)
