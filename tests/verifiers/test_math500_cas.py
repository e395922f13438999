"""The computer algebra tier: what it calls equal, what it refuses, and what it says where it cannot be had."""

import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.common.math500_pairs import pairs
from verifiers import verify_batch
from verifiers.math500 import cas
from verifiers.workers import Workers

pytest.importorskip("sympy")
pytest.importorskip("math_verify")


@pytest.fixture(scope="module", autouse=True)
def _patient() -> Iterator[None]:
    """Verdicts that do not depend on how busy the machine is: one second of processor time, and patience."""
    usual = cas.workers
    cas.workers = Workers("verifiers.math500.cas_worker", size=2, hard=60.0)
    yield
    for workers in (cas.workers, usual):
        workers.close()
    cas.workers = usual


class Scripted:
    """In the place of the workers: replies from a function."""

    def __init__(self, reply) -> None:
        self.size, self.reply, self.asked = 2, reply, []

    def ask(self, job: dict, patient: bool) -> dict:
        self.asked.append((job["answer"], job["gold"]))
        return {"outcome": self.reply(job), "detail": ""}


@pytest.fixture
def replace(monkeypatch: pytest.MonkeyPatch):
    """Other workers, and nothing remembered."""

    def replaced(workers):
        monkeypatch.setattr(cas, "workers", workers)
        monkeypatch.setattr(cas, "_known", {})
        return workers

    return replaced


EQUAL = pairs(r"""
\sqrt{2} <- 2^{1/2} || 256 <- \sqrt{2^{16}} || \frac{1}{\sqrt{3}} <- \frac{\sqrt{3}}{3}
\sqrt{2}+\sqrt{3} <- \sqrt{5+2\sqrt{6}} || \sqrt[3]{32} <- 2\sqrt[3]{4} || 1 <- \int_0^1 2x dx ;; \sin^2 x+\cos^2 x
3 <- \log_2 8 || \frac{\pi}{4} <- \tan^{-1} 1 || \frac{1}{2} <- \cos 60^\circ || x^2+2x+1 <- (x+1)^2
x+1 <- \frac{x^2-1}{x-1} || \sqrt{x^2} <- |x| || -2+7i <- 7i-2 || -1 <- i^2 ;; e^{i\pi} || 6 <- 2(3) ;; 3!
12 <- 2\binom{4}{2} || 2.5 <- 2\frac{1}{2} || 10080 <- 10,080 || \frac{1}{4} <- 0.25 || 2^{-99} <- \frac{1}{2^{99}}
50 <- 50\% || \infty <- \infty || 1,2 <- 2,1 || 2,1,2 <- 1,2,2 || 1+\sqrt{2}, 1-\sqrt{2} <- 1 \pm \sqrt{2}
\frac{3+\sqrt{5}}{2},\frac{3-\sqrt{5}}{2} <- \frac{3 \pm \sqrt{5}}{2} || (0,1)\cup(3,5) <- (3,5)\cup(0,1)
\left( 3, \frac{\pi}{2} \right) <- 3, \frac{\pi}{2}
\begin{pmatrix} 1 & 2 \\ 3 & \sqrt{16} \end{pmatrix} <- \begin{bmatrix}1&2\\3&4\end{bmatrix} || 5 <- x=5
-1,3 <- x = 3, -1 || y = 2x+1 <- 2x - y + 1 = 0 || x<2 <- 2x<4 || (2,\infty) <- x>2 || (1,2] <- 1<x\le 2
2516_8 <- 2516_{8} ;; 2516 || 10_2 <- (10)_{2} || e^{-x^{2}} <- e^{-x^2}
""")
DIFFERENT = pairs(r"""
5 <- \infty ;; 5t ;; 2(3) ;; 2 3 || \infty <- -\infty || \frac{1}{2^{98}} <- \frac{1}{2^{99}}
1 <- 1+10^{-99} ;; 1.0000001 || \pi <- \pi+10^{-99} ;; 3.141593 ;; \frac{21053343141}{6701487259}
\sqrt{2}+10^{-61}x <- \sqrt{2}+10^{-60}x || \frac{1}{3} <- 0.3333333333333333 ;; 0.33
\sqrt{2} <- \frac{6625109}{4684659} ;; 1.4142135623730951 || 2516_8 <- 2516_9 || 2 <- 10_2 ;; 2c || 1010 <- 1010_2
1,2 <- 1,2,2 ;; 1,2,\ldots || 1,2,2 <- 1,2 || 0.5 <- 50\% || 2x <- x+X || 40 <- 4{10} || 8 <- 2\binom{4}{2}
x=5 <- y=5 || y=2x+1 <- y=2x || x<-2 <- -x<2 || x \le 2 <- x<2 || (2,5) <- [2,5] || (1,2) <- (2,1) ;; (1,2,3)
\left( 3, \frac{\pi}{2} \right) <- \{3, \frac{\pi}{2}\} || x^2+2x+1 <- y^2+2y+1 || Evelyn <- Evenly
\text{Evelyn} <- Evenly || 0 <- \frac{0}{0} || \frac{2}{0} <- \frac{1}{0} || \pm 2 <- 2 || x <- \sqrt{x^2}
3.14 <- 3.14 \approx \pi || \frac{1}{2} <- \frac{1}{2} @
""")


def judged(pairs: list[tuple[str, str]]) -> dict[tuple[str, str], cas.Outcome]:
    return dict(zip(pairs, cas.equal_many(pairs), strict=True))


def name(answer: str, gold: str) -> str:
    return cas.equal_many([(answer, gold)])[0].name


def test_what_is_equal_is_called_equal_both_ways_around() -> None:
    one_way = pairs(
        r"2516_8 <- 2516 || \left( 3, \frac{\pi}{2} \right) <- 3, \frac{\pi}{2} || -1,3 <- x = 3, -1"
    )
    both = [
        *EQUAL,
        *((gold, answer) for answer, gold in EQUAL if (answer, gold) not in one_way),
        ("1" * 990, "1" * 990),
    ]
    assert {pair: outcome for pair, outcome in judged(both).items() if outcome.name != "equal"} == {}


MORE = [("", "5"), ("1" * 989 + "2", "1" * 990)]  # a long number is read exactly


def test_known_false_positives_of_others_are_called_different() -> None:
    assert {p: o for p, o in judged([*DIFFERENT, *MORE]).items() if o.name != "different"} == {}


BOMBS = [
    ("9^{9^{9^{9}}}", "tower"), ("9^9^9", "tower"), ("x^{x^{x^{x^{x^{x^x}}}}}", "tower"), (r"2^{2^{100}}", "tower"),
    (r"\int_0^1 x^{x^{x^{x}}} dx", "tower"), ("(1+x)^{100000}", "exponent"), ("(1+x)^{100 000 00}", ""),
    ("1e99999", "exponent"), ("1000000!", "factorial"), ("(10^{6})!", "factorial"), ("((9!)!)!", "factorial"),
    ("9!!!", "factorial"), (r"(999 \cdot 999 \cdot 999)!", "factorial"), ("((9^{999})^{999})^{999}", "digits"),
    (r"\left(\left(9^{999}\right)^{999}\right)^{999}", "digits"), ("(a+b+c+d+e+f+g)^{60}", ""),
    ("(" * 60 + "5" + ")" * 60, "deep"), ("{" * 500 + "5" + "}" * 499, "deep"), ("1" * 5000, "characters"),
    ("1" * 990, ""), ("5\ud800", "surrogate"), ("5\0", "NUL"),
]  # fmt: skip


def test_endless_work_is_refused_or_ends_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = Workers("verifiers.math500.cas_worker", size=1)
    assert (pool.soft, pool.hard) == (1.0, 3.0)
    monkeypatch.setattr(cas, "workers", pool)
    for text, why in BOMBS:
        start = time.monotonic()
        (outcome,) = cas.equal_many([(text, "5")])
        assert outcome.name in ("different", "timeout") and why in outcome.detail, (text[:50], outcome)
        assert time.monotonic() - start < 3.0 + 27.0  # on a busy machine a worker takes long to start
    pool.close()


@pytest.mark.parametrize("gold", ["@@", "9^{9^{9}}"])
def test_an_unreadable_gold_is_named_unread(gold: str) -> None:
    (outcome,) = cas.equal_many([("5", gold)])
    assert outcome.name == "unread" and "gold" in outcome.detail


def test_order_is_kept_and_identical_pairs_are_judged_once(replace) -> None:
    workers = replace(Scripted(lambda job: "equal" if job["answer"] == job["gold"] else "different"))
    many = [(str(i % 7), str(i % 3)) for i in range(200)]
    assert [name for name, _ in cas.equal_many(many)] == ["equal" if a == b else "different" for a, b in many]
    assert sorted(workers.asked) == sorted(set(many))
    cas.equal_many(many)
    assert len(workers.asked) == len(set(many)), "remembered across calls"
    assert cas.equal_many([]) == []


def test_a_failure_is_not_remembered(replace) -> None:
    replies = iter(["timeout", "error", "equal"])
    replace(Scripted(lambda job: next(replies)))
    assert [name("a", "b") for _ in range(4)] == ["timeout", "error", "equal", "equal"]


def test_64_threads_at_once_each_get_their_own_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cas, "_known", {})
    with ThreadPoolExecutor(64) as threads:
        names = list(threads.map(lambda i: name(f"\\sqrt{{{i * i}}}", str(i + i % 2)), range(1, 65)))
    assert names == ["different" if i % 2 else "equal" for i in range(1, 65)]


LATE_IMPORTS = pairs(r"""
\sqrt{2}+10^{-61}x <- \sqrt{2}+10^{-60}x || 1+10^{-80} <- \int_0^\infty e^{-x} dx ;; \lim_{x \to 0} \frac{\sin x}{x}
\frac{n(n+1)}{2} <- \sum_{k=1}^{n} k || 2 <- \gcd(4,6) || -2 <- \det\begin{pmatrix}1&2\\3&4\end{pmatrix}
26 <- \lfloor 2.5 \rfloor + \Gamma(5) || [1,2] <- x \in [1,2] \cap \mathbb{R} || (-2,2) <- x^2 < 4
""")


def test_sympys_own_parts_load_behind_the_guard() -> None:
    outcomes = judged(LATE_IMPORTS)
    assert not {pair: o for pair, o in outcomes.items() if "NotALiteral" in o.detail or o.name == "error"}


@pytest.mark.parametrize(("missing", "named"), [("sympy", "sympy"), ("math_verify", "math-verify")])
def test_without_its_packages_the_error_says_what_to_install(
    missing, named, tmp_path, monkeypatch, caplog, replace
) -> None:
    (tmp_path / "sitecustomize.py").write_text(f"import sys\nsys.modules[{missing!r}] = None\n")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    pool = replace(Workers("verifiers.math500.cas_worker", size=1))
    said = f"{named} cannot be imported"
    for outcome in cas.equal_many([("1", "2"), ("1", "3")]):
        assert outcome.name == "error" and said in outcome.detail
        assert "pip install sympy math-verify" in outcome.detail
    assert pool.pids() == []
    verdicts = verify_batch("math500", [r"\boxed{\int_0^1 2x dx}"] * 2, answer=["1", "2"])
    assert verdicts.reasons == ["error"] * 2
    assert [said in text for text in caplog.messages] == [True], "logged once for each call"


@pytest.mark.parametrize(
    ("answer", "gold", "far"),
    [
        (r"\int_0^{3} x^2 \sin(3x) e^{-x} dx", "2", True),
        (r"\int_0^1 \frac{1}{\sqrt{x}} dx", "2", False),
        (r"\int_0^1 |x - \frac13| dx", r"\frac{5}{18}", False),
        (r"\int_0^1 2x dx", "1.001", False),
    ],
)
def test_only_an_integral_far_away_is_told_by_quadrature(answer: str, gold: str, far: bool) -> None:
    from verifiers.math500 import sympy_compare

    values = (sympy_compare.read(text, True) for text in (gold, answer))
    assert sympy_compare._integrals_differ(*values) == far
