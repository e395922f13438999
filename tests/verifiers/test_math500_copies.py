"""Copies of the problem and unfinished answers: refused where the problem is given, and nothing else is."""

import gzip
import json
import re
from pathlib import Path

import pytest

from tests.common.casebook import Case, cases
from verifiers import InvalidReferenceError, verify_batch
from verifiers.math500.copies import plain


def reasons(found: tuple[Case, ...], *, asked: bool) -> list[tuple[str, str]]:
    """Each answer with what came of it, with its problem or without."""
    texts = [f"\\boxed{{{case.answer}}}" for case in found]
    given = {name: [case.reference[name] for case in found] for name in ("answer", "problem")[: 1 + asked]}
    judged = verify_batch("math500", texts, **given).reasons
    return [(case.answer, reason) for case, reason in zip(found, judged, strict=True)]


def test_a_copy_of_the_problem_breaks_the_rule():
    copies = cases("math_copies")
    assert [row for row in reasons(copies, asked=True) if row[1] != "rule_broken"] == []
    assert [row for row in reasons(copies, asked=False) if row[1] != "ok"] == []  # graders get what they got


@pytest.mark.parametrize("problem", [7, ["x"], b"x"])
def test_a_problem_that_is_no_text_is_refused(problem):
    with pytest.raises(InvalidReferenceError, match=r"problem\[0\]=.* None"):
        verify_batch("math500", ["\\boxed{5}"], answer=["5"], problem=[problem])


FORMULAS = re.compile(r"\$\$(.+?)\$\$|\\\[(.+?)\\\]|\$(.+?)\$", re.DOTALL)
SIDES = re.compile(r"=|\\le|\\ge|<|>|,")


def formulas(problem: str) -> set[str]:
    """The formulas of a problem and their parts, whatever of them may stand in a box."""
    found = {next(filter(None, match)) for match in FORMULAS.findall(problem.replace("\\$", ""))}
    parts = {part for formula in found for part in SIDES.split(formula)} | found
    return {part.strip(" .,") for part in parts if part.strip(" .,") and part.count("{") == part.count("}")}


@pytest.mark.parametrize("split", ["test", pytest.param("train", marks=pytest.mark.slow)])
def test_no_formula_of_a_published_problem_is_paid(shared_data: Path, split: str):
    with gzip.open(shared_data / "math500" / f"{split}.jsonl.gz", "rt", encoding="utf-8") as file:
        rows = [row for row in map(json.loads, file) if row["answer"].strip()]
    copies = [(part, row["answer"], row["problem"]) for row in rows for part in formulas(row["problem"])]
    texts, golds, problems = zip(*((f"\\boxed{{{part}}}", *rest) for part, *rest in copies), strict=True)
    before = verify_batch("math500", texts, answer=golds)
    paid = [case for case, right in zip(copies, before.correct, strict=True) if right]
    assert len(paid) > (30 if split == "test" else 1000)
    texts, golds, problems = zip(*((f"\\boxed{{{part}}}", *rest) for part, *rest in paid), strict=True)
    after = verify_batch("math500", texts, answer=golds, problem=problems)
    number = re.compile(
        r"[-\d.,]+(\^\{\\\w+\{(st|nd|rd|th)\}\}|\^\\circ|\^\{\\circ\}|\\%)?"
    )  # a bare number is no copy
    left = [
        (part, gold)
        for (part, gold, _), verdict in zip(paid, after, strict=True)
        if verdict.correct and verdict.decided_by != "text" and not number.fullmatch(part)
        if plain(part) != plain(gold)
    ]
    assert left == []


def test_no_right_completion_of_a_model_is_lost(shared_data: Path):
    with gzip.open(shared_data / "llada_generations" / "math500.jsonl.gz", "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    columns = {"answer": [row["answer"] for row in rows], "problem": [row["question"] for row in rows]}
    verdicts = verify_batch("math500", [row["completion"] for row in rows], **columns)
    assert verdicts.correct.tolist() == [row["correct"] for row in rows]
