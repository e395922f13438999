"""Copies of the problem and unfinished answers: refused where the problem is given, and nothing else is."""

import gzip
import json
import re
from pathlib import Path

import pytest

from tests.common.casebook import cases
from tests.common.disguises import DISGUISES, NUMBER, formulas
from verifiers import InvalidReferenceError, verify_batch
from verifiers.math500 import task
from verifiers.reading.markup import key
from verifiers.verdicts import CAS, ERROR


def test_a_copy_of_the_problem_breaks_the_rule():
    copies = [case for case in cases("math") if case.source.startswith("guards: copies of the problem")]
    assert len(copies) > 50
    texts = [f"\\boxed{{{case.answer}}}" for case in copies]
    columns = {name: [case.reference[name] for case in copies] for name in ("answer", "problem")}
    paid = {"rule_broken": verify_batch("math500", texts, **columns)}
    paid["ok"] = verify_batch("math500", texts, answer=columns["answer"])  # graders get what they got
    for reason, verdicts in paid.items():
        assert [row for row in zip(texts, verdicts.reasons, strict=True) if row[1] != reason] == []


@pytest.mark.parametrize("problem", [7, ["x"], b"x"])
def test_a_problem_that_is_no_text_is_refused(problem):
    with pytest.raises(InvalidReferenceError, match=r"problem\[0\]=.* None"):
        verify_batch("math500", ["\\boxed{5}"], answer=["5"], problem=[problem])


@pytest.fixture
def rows(shared_data: Path, split: str) -> list[dict]:
    with gzip.open(shared_data / "math500" / f"{split}.jsonl.gz", "rt", encoding="utf-8") as file:
        return [row for row in map(json.loads, file) if row["answer"].strip()]


SPLITS = pytest.mark.parametrize("split", ["test", pytest.param("train", marks=pytest.mark.slow)])
# A bare value, behind a name or before a modulus, is an answer, whatever the problem says.
VALUE = re.compile(r"([\w ()\\{}^]+= *)+[-\d.]+(\^\\circ)?|\d+\\pmod\{\d+\}")
# What is finished by its shape counts, too: a fraction of whole numbers, a bare power, a number in any notation.
FINISHED = re.compile(r"\\frac\{?\d+\}?\{?\d+\}?|\d+\^\d+|[\d{},]+|\d+ \\\\")
# Left sides that name a value, as the rule has it, though here the problem states that value.
NAMED = [
    r"\begin{vmatrix} a & b \\ c & d \end{vmatrix} = 5", r"m\angle DCB = 40^{\circ}",
    r"\sin \angle RPQ = \frac{7}{25}", "a@1=0", "f(-1)=0", r"ab\equiv 17\pmod{20}",
    # The text of choice C and the letter of option E, which are right.
    "c", "e",
]  # fmt: skip


@SPLITS
def test_no_formula_of_a_published_problem_is_paid(rows: list[dict], split: str):
    copies = [(part, row["answer"], row["problem"]) for row in rows for part in formulas(row["problem"])]
    texts, golds, problems = zip(*((f"\\boxed{{{part}}}", *rest) for part, *rest in copies), strict=True)
    before = verify_batch("math500", texts, answer=golds)
    paid = [case for case, right in zip(copies, before.correct, strict=True) if right]
    assert len(paid) > (30 if split == "test" else 1000)
    texts, golds, problems = zip(*((f"\\boxed{{{part}}}", *rest) for part, *rest in paid), strict=True)
    after = verify_batch("math500", texts, answer=golds, problem=problems)
    left = [
        (part, gold)
        for (part, gold, _), verdict in zip(paid, after, strict=True)
        if verdict.correct and verdict.decided_by != "text" and not NUMBER.fullmatch(part)
        if key(part) != key(gold) and not VALUE.fullmatch(part) and not FINISHED.fullmatch(part)
    ]
    assert [part for part, _ in left if part not in NAMED] == []


@SPLITS
def test_a_formula_in_disguise_is_not_paid_either(rows: list[dict], split: str, monkeypatch):
    """Of all problems at most one in a hundred for any disguise; without computer algebra, which takes minutes."""
    monkeypatch.setattr(task, "ask_cas", lambda pairs: [(ERROR, CAS)] * len(pairs))
    found = [(part, row["answer"], row["problem"]) for row in rows for part in formulas(row["problem"])]
    found = [(part, gold, problem) for part, gold, problem in found if key(part) != key(gold)]
    right = verify_batch("math500", [f"\\boxed{{{case[0]}}}" for case in found], answer=[c[1] for c in found])
    names = [bool(NUMBER.fullmatch(part) or VALUE.fullmatch(part)) for part, _, _ in found]
    marked = zip(found, right.correct, names, strict=True)
    found = [case for case, equal, name in marked if equal and not name]
    columns = {"answer": [gold for _, gold, _ in found], "problem": [problem for *_, problem in found]}
    for name, disguise in DISGUISES.items():
        texts = [f"\\boxed{{{disguise(part)}}}" for part, _, _ in found]
        correct = verify_batch("math500", texts, **columns).correct
        paid = [text for text, is_paid in zip(texts, correct, strict=True) if is_paid]
        assert len(paid) <= 0.01 * len(rows), (name, paid[:9])


OTHER_VALUE = re.compile(r"f *\( *(?!2\))-?\d+\)|f *\^\{-1\}")  # perhaps the one that is asked for


@SPLITS
@pytest.mark.parametrize("name", ["AB", r"\text{Area}", "x", "f(2)"])
def test_a_value_behind_a_name_is_an_answer(rows: list[dict], split: str, name: str):
    whole = [row for row in rows if re.fullmatch(r"-?\d+", row["answer"])]
    if name == "f(2)":
        whole = [row for row in whole if not OTHER_VALUE.search(row["problem"])]
    columns = {"answer": [row["answer"] for row in whole], "problem": [row["problem"] for row in whole]}
    verdicts = verify_batch("math500", [rf"\boxed{{{name} = {row['answer']}}}" for row in whole], **columns)
    assert len(whole) > 300 and verdicts.correct.all()
