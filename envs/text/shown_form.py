"""The form of answer that a prompt shows, and whether a task's reward pays for a right answer in this form."""

import re
from collections.abc import Sequence

from envs.answer_block import CLOSE, OPEN
from envs.errors import EnvError
from envs.problem import Problem
from envs.scoring import ScoredBatch, score_all
from envs.task import Task

BOX = "\\boxed{"
HASHES = "####"
ANSWER_LINE = re.compile(rf"{HASHES} ?-?[\d,.]*\d")
"""The last line of a solution of GSM8K, such as `#### 1,250`."""
TRIED = 8
"""Of so many problems, a right answer must earn no more than a wrong one before a form is called unpaid."""


def unpaid_form(task: Task) -> str:
    r"""A warning if a right answer earns no more than a wrong one in the forms that the prompt shows; else "".

    The first problems are tried: what stands in a form is replaced by the right answer, taken from the problem's
    demonstration, and by that of another problem, and both are scored. "" as well if the prompts show no form, or the
    task has no demonstrations. For several tasks, the first warning.
    """
    if task.parts:
        return next(filter(None, map(unpaid_form, task.parts.values())), "")
    problems = [task.problem(index) for index in range(min(TRIED, len(task)))]
    forms = (
        shown_forms(problems[0]) if problems else []
    )  # of all problems, as a prompt differs in its values alone
    if not forms:
        return ""
    try:
        demonstrations = [task.demonstration(problem.copy()) for problem in problems]
    except EnvError:  # NoDemonstration, or one that fails, which `envs check` reports
        return ""
    answers = _scored(
        task, problems, [text if isinstance(text, str) else "" for text in demonstrations]
    ).extracted
    others = answers[1:] + answers[:1]
    if None in answers or answers == others:
        return ""
    for form in forms:
        right, wrong = (
            _scored(task, problems, [filled(form, answer) for answer in column])
            for column in (answers, others)
        )
        if any(right.total > wrong.total) or any(right.traceback) or any(wrong.traceback):
            return ""
    return (
        f"{task.spec_name}: a right answer in the form that the prompt shows, {' '.join(forms[0].split()):.80}, earns "
        f"{right.total[0]:g}, no more than a wrong one. Show what the reward pays, or choose another reward."
    )


def _scored(task: Task, problems: Sequence[Problem], completions: Sequence[str]) -> ScoredBatch:
    """The scores of one completion for each problem."""
    return score_all(task, range(len(problems)), problems, completions)


def shown_forms(problem: Problem) -> list[str]:
    r"""The forms of an answer that a problem's prompt shows; none if it has no closed answer block, no box and no ####.

    The form is the last answer block, such as `<answer>\boxed{...}</answer>`. If this block has no box, but the prompt
    shows one elsewhere, the box may be meant to stand in the block, so that there are two forms. In a prompt without a
    block, the form is its last box, or else GSM8K's ####.
    """
    prompt = problem.prompt
    text = prompt if isinstance(prompt, str) else "\n".join(message["content"] for message in prompt)
    start, end = content_of_box(text)
    boxes = [text[start - len(BOX) : end + 1]] if start >= 0 else []
    before_close, close, _ = text.rpartition(CLOSE)
    start = before_close.rfind(OPEN) if close else -1
    if start < 0:
        # At the beginning of a line they may be a heading, or a line of hashes, unless only a number follows.
        lines = map(str.strip, text.splitlines())
        is_mark = any(HASHES in line.lstrip("#") or ANSWER_LINE.fullmatch(line) for line in lines)
        return boxes or [f"{HASHES} ..."] * is_mark
    block = text[start : len(before_close) + len(close)]
    return [block] if BOX in block else [block, *(filled(block, box) for box in boxes)]


def content_of_box(text: str) -> tuple[int, int]:
    """(start, end) of what stands in the last box of a text; (-1, -1) if there is no box, or it is not closed."""
    start, depth = text.rfind(BOX) + len(BOX), 1
    for end in range(start, len(text) if BOX in text else 0):
        depth += {"{": 1, "}": -1}.get(text[end], 0)
        if not depth:
            return start, end
    return -1, -1


def filled(form: str, answer: str) -> str:
    """The form with an answer in place of what it holds: in its box, or else in its block or behind its ####."""
    if form.startswith(HASHES):
        return f"{HASHES} {answer}"
    start, end = content_of_box(form)
    if start >= 0:
        return f"{form[:start]}{answer}{form[end:]}"
    line_end = "\n" * form.startswith(f"{OPEN}\n")
    return f"{OPEN}{line_end}{answer}{line_end}{CLOSE}"
