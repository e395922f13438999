"""Books of answers judged by hand, in tests/verifiers/casebook.

A verdict on text changes for a completion that a model wrote (named: data set, model, row), for a guard against a
reward that a policy would learn to take unearned, or for a bound of time and size. A sentence that a reviewer, a user
or we make up is no reason.

A line `= reference` comes before answers to it: `!` right, also in strict mode; `+` right; `-` wrong. `? problem` names
the problem of the references below it, and `?` ends it. `@ source` says where the answers below it come from, up to the
next `@`: they were published, reported, written blind, or stand guard against what a policy would learn. ⏎ is a line
end, and <U+200B> the character of that number. A book has the name of its task. The answers stand in an answer block;
of MATH's, strict mode judges those below `% strict` alone. Those below `% whole` are whole completions, and those below
`% flexible` whole completions that this mode judges; `% block` goes back to the first.
"""

import re
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

BOOKS = Path(__file__).resolve().parents[1] / "verifiers" / "casebook"


class Case(NamedTuple):
    """An answer, and what it is."""

    reference: dict[str, Any]
    answer: str
    right: bool
    strict: bool
    source: str = ""
    kind: str = "block"
    """Or "strict", "whole" or "flexible"."""


def read_reference(task: str, text: str) -> dict[str, Any]:
    if task == "countdown":  # 3 5 7 = 22
        numbers, _, target = text.partition(" = ")
        return {"numbers": [int(number) for number in numbers.split()], "target": target}
    return {"puzzle" if task == "sudoku" else "answer": text}


@cache
def cases(book: str) -> tuple[Case, ...]:
    """Every answer of a book, which has the name of its task."""
    found, reference, problem, source, kind = [], {}, "", "", "block"
    for line in (BOOKS / f"{book}.txt").read_text(encoding="utf-8").splitlines():
        mark, _, text = line.partition(" ")
        text = re.sub(r"<U\+([0-9A-F]+)>", lambda match: chr(int(match[1], 16)), text.replace("⏎", "\n"))
        if mark == "?":
            problem = {"problem": text} if text else {}
        elif mark == "=":
            reference = read_reference(book, text) | (problem or {})
        elif mark == "@":
            source = text
        elif mark == "%":
            kind = text
        elif mark in ("!", "+", "-"):
            found.append(Case(reference, text, mark != "-", mark == "!", source, kind))
    return tuple(found)


def completions(case: Case) -> list[str]:
    """The answer in its block, and in a box there where it is no sentence that holds one; or as it stands."""
    answer = case.answer
    if case.kind not in ("block", "strict"):
        return [answer]
    texts = [f"so\n</reasoning>\n<answer>\n{answer}\n</answer>"]
    if "box{" not in answer and answer.count("{") == answer.count("}"):
        texts.append(f"so\n</reasoning>\n<answer>\n\\boxed{{{answer}}}\n</answer><|eot_id|>")
    return texts


def pairs(table: str) -> list[tuple[str, str]]:
    """Every (answer, reference) of lines of `reference <- answer ;; answer || reference <- answer ...`."""
    entries = [entry.split(" <- ", 1) for line in table.strip().splitlines() for entry in line.split(" || ")]
    return [(answer, gold) for gold, answers in entries for answer in answers.split(" ;; ")]
