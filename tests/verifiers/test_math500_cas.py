"""The computer algebra tier: what it calls equal, what it refuses, what it may evaluate, and how it fails."""

import json
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.common.casebook import pairs
from tests.common.command_cases import environment, python
from verifiers import Reason, Tier, VerifierError, time_limit, verify, verify_batch
from verifiers.math500 import task
from verifiers.worker import Workers

pytestmark = pytest.mark.skipif(
    not (find_spec("sympy") and find_spec("math_verify")), reason="needs sympy and math-verify"
)
EQUAL, DIFFERENT, UNREAD = (Reason.OK, Tier.CAS), (Reason.WRONG, Tier.CAS), (Reason.WRONG, Tier.TEXT)


@pytest.fixture(scope="module")
def patient() -> Iterator[Workers]:
    """Verdicts that do not depend on how busy the machine is.

    A worker's first tower of powers takes 0.7 s of processor time here, and more beside a busy neighbour; a text that
    is not refused takes far more than the ten seconds.
    """
    workers = Workers("verifiers.math500.cas", size=1, soft=10.0, hard=60.0)
    yield workers
    workers.close()


@pytest.fixture(autouse=True)
def _workers(patient: Workers, monkeypatch: pytest.MonkeyPatch) -> None:
    replace(monkeypatch, patient)


def replace(monkeypatch: pytest.MonkeyPatch, workers: object) -> None:
    """Other workers, and nothing remembered."""
    monkeypatch.setattr(task, "cas_workers", lambda: workers)
    monkeypatch.setattr(task, "_judged_by_cas", {})


def judged(pairs: list[tuple[str, str]]) -> dict[tuple[str, str], tuple[Reason, Tier]]:
    outcomes = [(list(Reason)[reason], list(Tier)[tier]) for reason, tier in task.ask_cas(pairs)]
    return dict(zip(pairs, outcomes, strict=True))


SAME = pairs(r"""
\sqrt{2} <- 2^{1/2} || \sqrt{2}+\sqrt{3} <- \sqrt{5+2\sqrt{6}} || 1 <- \int_0^1 2x dx ;; \sin^2 x+\cos^2 x
3 <- \log_2 8 || \frac{\pi}{4} <- \tan^{-1} 1 || \frac{1}{2} <- \cos 60^\circ || x^2+2x+1 <- (x+1)^2
x+1 <- \frac{x^2-1}{x-1} || \sqrt{x^2} <- |x| || -2+7i <- 7i-2 || -1 <- i^2 ;; e^{i\pi} || 6 <- 2(3) ;; 3!
12 <- 2\binom{4}{2} || 2.5 <- 2\frac{1}{2} || \frac{1}{4} <- 0.25 || 2^{-99} <- \frac{1}{2^{99}} || 50 <- 50\%
\infty <- \infty || 1,2 <- 2,1 || 2,1,2 <- 1,2,2 || 1+\sqrt{2}, 1-\sqrt{2} <- 1 \pm \sqrt{2}
(0,1)\cup(3,5) <- (3,5)\cup(0,1) || 5 <- x=5 || e^{-x^{2}} <- e^{-x^2} || \frac{n(n+1)}{2} <- \sum_{k=1}^{n} k
\begin{pmatrix} 1 & 2 \\ 3 & \sqrt{16} \end{pmatrix} <- \begin{bmatrix}1&2\\3&4\end{bmatrix} || 2 <- \gcd(4,6)
-2 <- \det\begin{pmatrix}1&2\\3&4\end{pmatrix} || 26 <- \lfloor 2.5 \rfloor + \Gamma(5)
""")
NOT_SAME = pairs(r"""
5 <- \infty ;; 5t ;; 2(3) ;; 2 3 || \infty <- -\infty || \frac{1}{2^{98}} <- \frac{1}{2^{99}}
1 <- 1+10^{-99} ;; 1.0000001 || \pi <- \pi+10^{-99} ;; 3.141593 ;; \frac{21053343141}{6701487259}
\sqrt{2}+10^{-61}x <- \sqrt{2}+10^{-60}x || \frac{1}{3} <- 0.3333333333333333 ;; 0.33 || 2 <- 10_2 ;; 2c
\sqrt{2} <- \frac{6625109}{4684659} ;; 1.4142135623730951 || 1,2 <- 1,2,2 ;; 1,2,\ldots || 1,2,2 <- 1,2
0.5 <- 50\% || 2x <- x+X || 40 <- 4{10} || 8 <- 2\binom{4}{2} || x=5 <- y=5 || x<-2 <- -x<2 || x \le 2 <- x<2
(2,5) <- [2,5] || (1,2) <- (2,1) ;; (1,2,3) || x^2+2x+1 <- y^2+2y+1 || 0 <- \frac{0}{0} || \frac{2}{0} <- \frac{1}{0}
\pm 2 <- 2 || x <- \sqrt{x^2} || 3.14 <- 3.14 \approx \pi || \frac{1}{2} <- \frac{1}{2} @
1+10^{-80} <- \int_0^\infty e^{-x} dx ;; \lim_{x \to 0} \frac{\sin x}{x} || 1.001 <- \int_0^1 2x dx
""")


def test_what_is_equal_is_called_equal_both_ways_around_and_nothing_else_is() -> None:
    both = [*SAME, *((gold, answer) for answer, gold in SAME), ("1" * 990, "1" * 990)]
    assert {pair: outcome for pair, outcome in judged(both).items() if outcome != EQUAL} == {}
    others = [*NOT_SAME, ("", "5"), ("1" * 989 + "2", "1" * 990)]  # a long number is read exactly
    assert {pair: outcome for pair, outcome in judged(others).items() if outcome != DIFFERENT} == {}


BOMBS = [
    "9^{9^{9^{9}}}", "9^9^9", "x^{x^{x^{x^{x^{x^x}}}}}", r"2^{2^{100}}", r"\int_0^1 x^{x^{x^{x}}} dx", "(1+x)^{100000}",
    "(1+x)^{100 000 00}", r"\int_0^1 x^{x^{x^{x}}},x", "1e99999", "1000000!", "(10^{6})!", "((9!)!)!", "9!!!",
    r"(999 \cdot 999 \cdot 999)!",
    "((9^{999})^{999})^{999}", r"\left(\left(9^{999}\right)^{999}\right)^{999}", "(a+b+c+d+e+f+g)^{60}",
    "(" * 60 + "5" + ")" * 60, "{" * 500 + "5" + "}" * 499, "1" * 5000, "1" * 990, "5\ud800", "5\0",
]  # fmt: skip


def test_endless_work_is_refused_at_once() -> None:
    outcomes = judged([(bomb, "5") for bomb in BOMBS])
    assert set(outcomes.values()) == {DIFFERENT}


@pytest.mark.parametrize("gold", ["@@", "9^{9^{9}}", r"\frac{1}{2004!}"])
def test_against_a_gold_that_cannot_be_read_the_text_decides(gold: str) -> None:
    assert judged([("5", gold)]) == {("5", gold): UNREAD}


class Scripted:
    """In the place of the workers: replies from a function."""

    def __init__(self, reply) -> None:
        self.reply, self.asked = reply, []

    def ask(self, job: dict, until: float) -> dict:
        self.asked.append((job["answer"], job["gold"]))
        return {"outcome": self.reply(job), "detail": ""}


def test_order_is_kept_and_identical_pairs_are_judged_once(monkeypatch) -> None:
    workers = Scripted(lambda job: "equal" if job["answer"] == job["gold"] else "different")
    replace(monkeypatch, workers)
    many = [(str(i % 7), str(i % 3)) for i in range(200)]
    for _ in range(2):
        assert [reason == 0 for reason, _ in task.ask_cas(many)] == [a == b for a, b in many]
    assert sorted(workers.asked) == sorted(set(many))


def test_no_more_is_remembered_than_the_limit_says(monkeypatch) -> None:
    replace(monkeypatch, Scripted(lambda job: "equal"))
    monkeypatch.setattr(task, "CACHE_LIMIT", 3)
    assert len(task.ask_cas([(str(i), "0") for i in range(9)])) == 9 and len(task._judged_by_cas) == 3


def test_one_question_in_many_layouts_is_asked_once(monkeypatch) -> None:
    workers = Scripted(lambda job: "equal")
    replace(monkeypatch, workers)
    sums = (
        r"\sum_{k=1}^{n}2k", r"\sum_{k=1}^{n} 2k", r" \sum_{k=1}^{n}  2k ", r"\displaystyle\sum_{k=1}^{n} 2k.",
    )  # fmt: skip
    layouts = [rf"\boxed{{{text}}}" for text in sums] * 10
    assert verify_batch("math500", layouts, answer=["n(n+1)"] * 40).correct.all()
    assert len(workers.asked) == 1


@pytest.mark.slow
def test_the_callers_limit_ends_a_batch_and_is_not_remembered() -> None:
    slow = [rf"\sum_{{k=1}}^{{n}} \frac{{\sin(k^{j})\cos(k^k)}}{{\sqrt{{1+k^{j}}}}}" for j in range(3, 23)]
    texts = [rf"\boxed{{{text}}}" for text in slow]
    start = time.monotonic()
    with time_limit(1.5):
        limited = verify_batch("math500", texts, answer=["n+7"] * 20)
    assert time.monotonic() - start < 3 and "timeout" in limited.reasons
    with time_limit(0):
        assert verify("math500", r"\boxed{\sum_{k=1}^{n} 4k}", answer="2n(n+1)").reason == "timeout"
    assert verify("math500", r"\boxed{\sum_{k=1}^{n} 4k}", answer="2n(n+1)").reason == "ok"


def test_a_failure_is_not_remembered(monkeypatch) -> None:
    replies = iter(["timeout", "error", "equal"])
    replace(monkeypatch, Scripted(lambda job: next(replies)))
    assert [judged([("a", "b")])["a", "b"][0] for _ in range(4)] == ["timeout", "error", "ok", "ok"]


@pytest.mark.parametrize(("missing", "named"), [("sympy", "sympy"), ("math_verify", "math-verify")])
def test_without_its_packages_the_error_names_them(missing, named, tmp_path, monkeypatch, caplog) -> None:
    (tmp_path / "sitecustomize.py").write_text(f"import sys\nsys.modules[{missing!r}] = None\n")
    monkeypatch.syspath_prepend(tmp_path)
    replace(monkeypatch, Workers("verifiers.math500.cas", size=1))
    verdicts = verify_batch("math500", [r"\boxed{\sum_{k=1}^{n} k}"] * 2, answer=["n", "2n"])
    assert verdicts.reasons == ["error"] * 2
    assert [f"pip install {named}" in text for text in caplog.messages] == [True], "logged once for each call"


SPY = r"""
import json, os, sys
from sympy.parsing import sympy_parser
evaluated, original = [], sympy_parser.eval_expr

def recording(code, *names):
    evaluated.append(code)
    return original(code, *names)

sympy_parser.eval_expr = recording
from verifiers.math500.cas import is_numeric_literal, prepare
answer = prepare()
evaluated.clear()
from sympy import sympify
assert sympify("2") == 2 and evaluated[-1].startswith("Integer"), evaluated
for text in ("__import__('os').system('echo run')", "().__class__", "x", "open('/etc/passwd')"):
    try:
        sympify(text)
    except Exception as error:
        assert "is not a number" in repr(error), error
    else:
        raise SystemExit(f"{text} was evaluated")
assert answer({"answer": "2^{10} + 0.5", "gold": "1024.5"})["outcome"] == "equal"
for text in json.load(sys.stdin):
    answer({"answer": text, "gold": "5"})
assert all(map(is_numeric_literal, evaluated)), [code for code in evaluated if not is_numeric_literal(code)]
try:
    os.system("echo run")
except PermissionError:
    print("refused", len(evaluated))
"""


def test_hostile_texts_are_evaluated_as_numbers_only_and_start_no_program(shared_data: Path) -> None:
    rows = [json.loads(line) for line in (shared_data / "hostile_answers.jsonl").read_text().splitlines()]
    texts = {row["completion"] for row in rows if isinstance(row["completion"], str)}
    answers = {text.rpartition("\\boxed{")[2].partition("\n")[0].removesuffix("}") for text in texts}
    answers = [text for text in answers if len(text) <= 60]
    assert len(answers) > 50
    done = python("-c", SPY, text=True, env=environment(), input=json.dumps(answers))
    assert done.stdout.startswith("refused ") and done.returncode == 0, done.stderr


def test_what_counts_as_a_numeric_literal() -> None:
    from verifiers.math500.cas import is_numeric_literal

    literals = "Integer (2 ) | Float ('0.25' ) | Rational (1 ,2 ) | Integer (3 )/Integer (2 )".split(" | ")
    others = (
        "Integer (3 )/Symbol ('x' ) | Integer (3 )**Integer (2 ) | Symbol ('x' ) | Integer (2 ).__class__ ()"
    )
    others += " | __import__ ('os' ) | Integer (E ) | Float ('0x1F' )"
    assert [code for code in literals if not is_numeric_literal(code)] == []
    assert [code for code in others.split(" | ") if is_numeric_literal(code)] == []


@pytest.mark.parametrize("seconds", ["5", -1, float("nan"), None])
def test_a_limit_that_is_no_time_is_refused(seconds):
    with pytest.raises(VerifierError, match=r"time_limit\(.*should be a number of seconds, 0 or more"):
        with time_limit(seconds):
            pass
