"""A MATH problem with its completion and verdict for the terminal, readable with colours and without."""

from envs.core import Problem, Score
from envs.terminal import highlight_last, labelled, painter, printable


def render(
    problem: Problem, completion: str | None, score: Score | None, *, color: bool | None = None
) -> str:
    """The problem, the completion with the part that was judged in green or red, the gold answer and the verdict.

    score: what the environment gave the completion, which may refuse what the verifier alone would accept.
    """
    paint = painter(color)
    lines = [labelled(paint, "problem", paint("bold", printable(problem.metadata["problem"])))]
    if problem.metadata["subject"]:
        lines.insert(0, labelled(paint, "subject", printable(problem.metadata["subject"])))
    gold = labelled(paint, "gold", printable(problem.reference["answer"]))
    if completion is None or score is None:
        return "\n".join([*lines, gold])
    from verifiers import verify

    verdict = verify("math500", completion, answer=problem.reference["answer"])
    style, word = ("green", "right") if score.rewards["correct"] else ("red", "wrong")
    answer = highlight_last(paint, style, printable(completion), printable(verdict.extracted or ""))
    summary = f"{word} ({score.reason}, {verdict.decided_by})"
    lines += [labelled(paint, "answer", answer), gold, labelled(paint, "verdict", paint(style, summary))]
    return "\n".join(lines)
