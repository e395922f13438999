"""No text of a model is evaluated as code by the computer algebra system, whoever calls for it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from verifiers import _cas
from verifiers.workers import Workers

pytest.importorskip("sympy")
pytest.importorskip("math_verify")


def test_hostile_texts_reach_sympys_evaluation_as_numbers_only(shared_data: Path) -> None:
    lines = (shared_data / "hostile_answers.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    texts = {row["completion"] for row in rows if isinstance(row["completion"], str)}
    answers = {text.rpartition("\\boxed{")[2].partition("\n")[0].removesuffix("}") for text in texts}
    answers |= {row["answer"] for row in rows if "answer" in row}
    pool = Workers("verifiers._cas_worker", size=1, soft=0.3, hard=2.0)
    try:
        seen = []
        for answer in sorted(answers, key=len):
            if _cas.refusal(answer) or len(answer) > 200:
                continue
            pool.ask({"answer": answer, "gold": "5"})
            seen += pool.ask({"what": "evaluated"}).get("evaluated", [])
        from verifiers._cas_worker import is_numeric_literal

        assert [code for code in seen if not is_numeric_literal(code)] == []
        assert len(answers) > 50
    finally:
        pool.close()


SPY = """
import sys
from verifiers import _cas_worker
answer = _cas_worker.prepare()
from sympy import sympify
assert sympify("2") == 2 and _cas_worker.evaluated[-1].startswith("Integer"), _cas_worker.evaluated
for text in ("__import__('os').system('echo run')", "().__class__", "x", "open('/etc/passwd')"):
    try:
        sympify(text)
    except Exception as error:
        assert "NotALiteral" in repr(error), error
    else:
        raise SystemExit(f"{text} was evaluated")
seen = len(_cas_worker.evaluated)
assert answer({"answer": "2^{10} + 0.5", "gold": "1024.5"})["outcome"] == "equal"
assert len(_cas_worker.evaluated) == seen, list(_cas_worker.evaluated)[seen:]
import os
try:
    os.system("echo run")
except PermissionError:
    print("refused")
"""


def test_the_spy_sees_and_stops_everything_else() -> None:
    path = os.pathsep.join(p for p in sys.path if p)
    done = subprocess.run(
        [sys.executable, "-c", SPY], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path}
    )
    assert (done.stdout, done.returncode) == ("refused\n", 0), done.stderr


@pytest.mark.parametrize(
    ("code", "numeric"),
    [
        ("Integer (2 )", True),
        ("Float ('0.25' )", True),
        ("Rational (1 ,2 )", True),
        ("Integer (3 )/Integer (2 )", True),
        ("Integer (3 )/Symbol ('x' )", False),
        ("Integer (3 )**Integer (2 )", False),
        ("Symbol ('x' )", False),
        ("Integer (2 ).__class__ ()", False),
        ("__import__ ('os' )", False),
        ("Integer (E )", False),
        ("Float ('0x1F' )", False),
    ],
)
def test_what_counts_as_a_numeric_literal(code: str, numeric: bool) -> None:
    from verifiers._cas_worker import is_numeric_literal

    assert is_numeric_literal(code) is numeric
