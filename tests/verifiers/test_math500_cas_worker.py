"""No text of a model is evaluated as code by the computer algebra system, whoever calls for it."""

import json
import sys
from pathlib import Path

import pytest

from tests.common.command_cases import environment, python
from verifiers.math500.cas import refusal
from verifiers.workers import Workers

pytest.importorskip("sympy")
pytest.importorskip("math_verify")


def test_hostile_texts_are_evaluated_as_numbers_only(shared_data: Path) -> None:
    from verifiers.math500.cas_worker import is_numeric_literal

    lines = (shared_data / "hostile_answers.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    texts = {row["completion"] for row in rows if isinstance(row["completion"], str)}
    answers = {text.rpartition("\\boxed{")[2].partition("\n")[0].removesuffix("}") for text in texts}
    answers |= {row["answer"] for row in rows if "answer" in row}
    assert len(answers) > 50
    pool = Workers("tests.common.cas_recorder", size=1, soft=0.3, hard=2.0)
    evaluated = []
    for answer in sorted(answers, key=len):
        if not refusal(answer) and len(answer) <= 200:
            evaluated += pool.ask({"answer": answer, "gold": "5"}).get("evaluated", [])
    pool.close()
    assert [code for code in evaluated if not is_numeric_literal(code)] == []


SPY = """
import os
from tests.common.cas_recorder import evaluated, prepare
from sympy import sympify
answer = prepare()
assert sympify("2") == 2 and evaluated[-1].startswith("Integer"), evaluated
for text in ("__import__('os').system('echo run')", "().__class__", "x", "open('/etc/passwd')"):
    try:
        sympify(text)
    except Exception as error:
        assert "NotALiteral" in repr(error), error
    else:
        raise SystemExit(f"{text} was evaluated")
reply = answer({"answer": "2^{10} + 0.5", "gold": "1024.5"})
assert reply["outcome"] == "equal" and reply["evaluated"] == [], reply
try:
    os.system("echo run")
except PermissionError:
    print("refused")
"""


def test_everything_else_is_stopped() -> None:
    done = python("-c", SPY, text=True, env=environment(*filter(None, sys.path)))
    assert (done.stdout, done.returncode) == ("refused\n", 0), done.stderr


NUMERIC = ["Integer (2 )", "Float ('0.25' )", "Rational (1 ,2 )", "Integer (3 )/Integer (2 )"]
NOT_NUMERIC = [
    "Integer (3 )/Symbol ('x' )", "Integer (3 )**Integer (2 )", "Symbol ('x' )", "Integer (2 ).__class__ ()",
    "__import__ ('os' )", "Integer (E )", "Float ('0x1F' )",
]  # fmt: skip


@pytest.mark.parametrize(("codes", "numeric"), [(NUMERIC, True), (NOT_NUMERIC, False)])
def test_what_counts_as_a_numeric_literal(codes: list[str], numeric: bool) -> None:
    from verifiers.math500.cas_worker import is_numeric_literal

    assert {code: is_numeric_literal(code) for code in codes} == dict.fromkeys(codes, numeric)
