"""The computer algebra tier: what it calls equal, what it refuses, and that no text of a model is evaluated."""

import ast
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

import pytest

from verifiers import _cas
from verifiers.workers import Workers

pytest.importorskip("sympy")
pytest.importorskip("math_verify")


@pytest.fixture(scope="module", autouse=True)
def _patient() -> Iterator[None]:
    """Verdicts that do not depend on how busy the machine is: one second of processor time, and patience."""
    usual = _cas.workers
    _cas.workers = Workers("verifiers._cas_worker", size=2, hard=60.0)
    yield
    for workers in (_cas.workers, usual):
        workers.close()
    _cas.workers = usual


EQUAL = [
    (r"2^{1/2}", r"\sqrt{2}"),
    (r"\sqrt{2^{16}}", "256"),
    (r"\frac{\sqrt{3}}{3}", r"\frac{1}{\sqrt{3}}"),
    (r"\sqrt{5+2\sqrt{6}}", r"\sqrt{2}+\sqrt{3}"),
    (r"2\sqrt[3]{4}", r"\sqrt[3]{32}"),
    (r"\int_0^1 2x dx", "1"),
    (r"\log_2 8", "3"),
    (r"\tan^{-1} 1", r"\frac{\pi}{4}"),
    (r"\cos 60^\circ", r"\frac{1}{2}"),
    (r"\sin^2 x+\cos^2 x", "1"),
    ("(x+1)^2", "x^2+2x+1"),
    (r"\frac{x^2-1}{x-1}", "x+1"),
    ("|x|", r"\sqrt{x^2}"),
    ("7i-2", "-2+7i"),
    ("i^2", "-1"),
    (r"e^{i\pi}", "-1"),
    ("2(3)", "6"),
    (r"2\binom{4}{2}", "12"),
    (r"2\frac{1}{2}", "2.5"),
    ("10,080", "10080"),
    ("0.25", r"\frac{1}{4}"),
    (r"\frac{1}{2^{99}}", "2^{-99}"),
    (r"50\%", "50"),
    ("3!", "6"),
    (r"\infty", r"\infty"),
    ("2,1", "1,2"),
    ("1,2,2", "2,1,2"),
    (r"1 \pm \sqrt{2}", r"1+\sqrt{2}, 1-\sqrt{2}"),
    (r"\frac{3 \pm \sqrt{5}}{2}", r"\frac{3+\sqrt{5}}{2},\frac{3-\sqrt{5}}{2}"),
    (r"(3,5)\cup(0,1)", r"(0,1)\cup(3,5)"),
    (r"3, \frac{\pi}{2}", r"\left( 3, \frac{\pi}{2} \right)"),
    (r"\begin{bmatrix}1&2\\3&4\end{bmatrix}", r"\begin{pmatrix} 1 & 2 \\ 3 & \sqrt{16} \end{pmatrix}"),
    ("x=5", "5"),
    ("x = 3, -1", "-1,3"),
    ("2x - y + 1 = 0", "y = 2x+1"),
    ("2x<4", "x<2"),
    ("x>2", r"(2,\infty)"),
    (r"1<x\le 2", "(1,2]"),
    ("2516_{8}", "2516_8"),
    ("(10)_{2}", "10_2"),
    ("2516", "2516_8"),
    ("e^{-x^2}", "e^{-x^{2}}"),
]
DIFFERENT = [
    (r"\infty", "5"),
    (r"-\infty", r"\infty"),
    (r"\frac{1}{2^{99}}", r"\frac{1}{2^{98}}"),
    ("1+10^{-99}", "1"),
    (r"\pi+10^{-99}", r"\pi"),
    (r"\sqrt{2}+10^{-60}x", r"\sqrt{2}+10^{-61}x"),
    ("0.3333333333333333", r"\frac{1}{3}"),
    ("0.33", r"\frac{1}{3}"),
    ("3.141593", r"\pi"),
    (r"\frac{21053343141}{6701487259}", r"\pi"),  # 20 digits agree
    (r"\frac{6625109}{4684659}", r"\sqrt{2}"),
    ("1.4142135623730951", r"\sqrt{2}"),
    ("1.0000001", "1"),
    ("2516_9", "2516_8"),
    ("10_2", "2"),
    ("1010_2", "1010"),
    ("1,2,2", "1,2"),
    ("1,2", "1,2,2"),
    (r"50\%", "0.5"),
    ("2c", "2"),
    ("5t", "5"),
    ("x+X", "2x"),
    ("2(3)", "5"),
    ("2 3", "5"),
    ("4{10}", "40"),
    (r"2\binom{4}{2}", "8"),
    ("y=5", "x=5"),
    ("y=2x", "y=2x+1"),
    ("-x<2", "x<-2"),
    ("x<2", r"x \le 2"),
    ("[2,5]", "(2,5)"),
    ("(2,1)", "(1,2)"),
    ("(1,2,3)", "(1,2)"),
    (r"\{3, \frac{\pi}{2}\}", r"\left( 3, \frac{\pi}{2} \right)"),
    ("y^2+2y+1", "x^2+2x+1"),
    ("Evenly", "Evelyn"),
    ("Evenly", r"\text{Evelyn}"),
    (r"\frac{0}{0}", "0"),
    (r"\frac{1}{0}", r"\frac{2}{0}"),
    ("2", r"\pm 2"),
    (r"\sqrt{x^2}", "x"),
    (r"1,2,\ldots", "1,2"),
    (r"3.14 \approx \pi", "3.14"),
    (r"\frac{1}{2} @", r"\frac{1}{2}"),
    ("", "5"),
]


def judged(pairs: list[tuple[str, str]]) -> dict[tuple[str, str], _cas.Outcome]:
    return dict(zip(pairs, _cas.equal_many(pairs), strict=True))


def test_what_is_equal_is_called_equal_both_ways_around() -> None:
    one_way = {
        ("2516", "2516_8"),
        (r"3, \frac{\pi}{2}", r"\left( 3, \frac{\pi}{2} \right)"),
        ("x = 3, -1", "-1,3"),
    }
    pairs = EQUAL + [(gold, answer) for answer, gold in EQUAL if (answer, gold) not in one_way]
    outcomes = judged(pairs)
    assert {pair: outcome for pair, outcome in outcomes.items() if outcome != "equal"} == {}


def test_known_false_positives_of_others_are_called_different() -> None:
    assert {p: o for p, o in judged(DIFFERENT).items() if o != "different"} == {}


BOMBS = [
    ("9^{9^{9^{9}}}", "tower"),
    ("9^9^9", "tower"),
    ("x^{x^{x^{x^{x^{x^x}}}}}", "tower"),
    (r"2^{2^{100}}", "tower"),
    (r"\int_0^1 x^{x^{x^{x}}} dx", "tower"),
    ("(1+x)^{100000}", "exponent"),
    ("(1+x)^{100 000 00}", ""),
    ("1e99999", "exponent"),
    ("1000000!", "factorial"),
    ("(10^{6})!", "factorial"),
    ("((9!)!)!", "factorial"),
    ("9!!!", "factorial"),
    (r"(999 \cdot 999 \cdot 999)!", "factorial"),
    ("((9^{999})^{999})^{999}", "digits"),
    (r"\left(\left(9^{999}\right)^{999}\right)^{999}", "digits"),
    ("(a+b+c+d+e+f+g)^{60}", ""),
    ("(" * 60 + "5" + ")" * 60, "deep"),
    ("{" * 500 + "5" + "}" * 499, "deep"),
    ("1" * 5000, "characters"),
    ("1" * 990, ""),
    ("5\ud800", "surrogate"),
    ("5\0", "NUL"),
]


def test_what_would_take_for_ever_is_refused_and_whatever_gets_through_ends_in_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pool = Workers("verifiers._cas_worker", size=1)
    assert (pool.soft, pool.hard) == (1.0, 3.0)
    monkeypatch.setattr(_cas, "workers", pool)
    for text, why in BOMBS:
        start = time.monotonic()
        (outcome,) = _cas.equal_many([(text, "5")])
        assert outcome in ("different", "timeout") and why in outcome.detail, (text[:50], outcome)
        assert time.monotonic() - start < 3.0 + 27.0  # on a busy machine a worker takes long to start
    pool.close()


def test_a_long_number_is_read_exactly() -> None:
    assert _cas.equal("1" * 990, "1" * 990) == "equal"
    assert _cas.equal("1" * 989 + "2", "1" * 990) == "different"


def test_a_gold_answer_that_cannot_be_read_is_an_error_that_says_so() -> None:
    for gold in ("@@", "9^{9^{9}}"):
        outcome = _cas.equal("5", gold)
        assert outcome == "error" and "gold" in outcome.detail


def test_order_is_kept_and_identical_pairs_are_judged_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    class Counting:
        size = 2

        def ask(self, job: dict, patient: bool) -> dict:
            asked.append((job["answer"], job["gold"]))
            return {"outcome": "equal" if job["answer"] == job["gold"] else "different", "detail": ""}

    monkeypatch.setattr(_cas, "workers", Counting())
    monkeypatch.setattr(_cas, "_known", {})
    pairs = [(str(i % 7), str(i % 3)) for i in range(200)]
    assert _cas.equal_many(pairs) == ["equal" if a == b else "different" for a, b in pairs]
    assert sorted(asked) == sorted(set(pairs))
    _cas.equal_many(pairs)
    assert len(asked) == len(set(pairs)), "remembered across calls"
    assert _cas.equal_many([]) == []


def test_a_failure_is_not_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    replies = iter(["timeout", "error", "equal"])

    class Recovering:
        size = 1

        def ask(self, job: dict, patient: bool) -> dict:
            return {"outcome": next(replies), "detail": ""}

    monkeypatch.setattr(_cas, "workers", Recovering())
    monkeypatch.setattr(_cas, "_known", {})
    assert [_cas.equal("a", "b") for _ in range(4)] == ["timeout", "error", "equal", "equal"]


def test_64_threads_at_once_each_get_their_own_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_cas, "_known", {})
    with ThreadPoolExecutor(64) as threads:
        outcomes = list(threads.map(lambda i: _cas.equal(f"\\sqrt{{{i * i}}}", str(i + i % 2)), range(1, 65)))
    assert outcomes == ["different" if i % 2 else "equal" for i in range(1, 65)]


def test_sympys_own_parts_load_behind_the_guard() -> None:
    pairs = [
        (r"\sqrt{2}+10^{-60}x", r"\sqrt{2}+10^{-61}x"),
        (r"\int_0^\infty e^{-x} dx", "1+10^{-80}"),
        (r"\sum_{k=1}^{n} k", r"\frac{n(n+1)}{2}"),
        (r"\lim_{x \to 0} \frac{\sin x}{x}", "1+10^{-80}"),
        (r"\gcd(4,6)", "2"),
        (r"\det\begin{pmatrix}1&2\\3&4\end{pmatrix}", "-2"),
        (r"\lfloor 2.5 \rfloor + \Gamma(5)", "26"),
        (r"x \in [1,2] \cap \mathbb{R}", "[1,2]"),
        ("x^2 < 4", "(-2,2)"),
    ]
    outcomes = judged(pairs)
    assert not {pair: o for pair, o in outcomes.items() if "NotALiteral" in o.detail or o == "error"}


@pytest.mark.parametrize(("missing", "named"), [("sympy", "sympy"), ("math_verify", "math-verify")])
def test_without_its_packages_the_outcome_is_an_error_that_says_what_to_install(
    missing: str,
    named: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    (tmp_path / "sitecustomize.py").write_text(f"import sys\nsys.modules[{missing!r}] = None\n")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    pool = Workers("verifiers._cas_worker", size=1)
    monkeypatch.setattr(_cas, "workers", pool)
    monkeypatch.setattr(_cas, "_known", {})
    outcome = _cas.equal("1", "2")
    assert outcome == "error"
    assert (
        f"{named} cannot be imported" in outcome.detail and "pip install sympy math-verify" in outcome.detail
    )
    assert pool.pids() == []
    assert _cas.equal("1", "3") == "error"
    assert [f"{named} cannot be imported" in text for text in caplog.messages] == [True], "said once"


def test_importing_the_tier_imports_no_sympy_and_starts_nothing() -> None:
    root = str(Path(find_spec("verifiers").origin).parents[1])
    text = (
        "import sys; import verifiers._cas as c; assert not c.workers.pids();"
        "print([m for m in ('sympy', 'math_verify', 'numba', 'numpy') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", text], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": root}
    )
    assert done.stdout == "[]\n", done.stderr


def test_an_outcome_is_its_name_with_a_detail() -> None:
    outcome = _cas.Outcome("timeout", "killed after 3 s")
    assert outcome == "timeout" and outcome.detail == "killed after 3 s" and "killed" in repr(outcome)
    assert {"timeout": 1}[outcome] == 1
    assert ast.literal_eval(repr(str(outcome))) == "timeout"
