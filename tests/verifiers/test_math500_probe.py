"""The numeric probe: digits against mpmath, and what points tell apart."""

import random
import sys
from fractions import Fraction

import pytest

from tests.common.casebook import pairs
from verifiers.math500.compare.exact import BIT_LIMIT, Point, TooBig, Undefined
from verifiers.math500.compare.probe import NO, UNSURE, YES, compare
from verifiers.math500.parser import read
from verifiers.math500.tree import Node
from verifiers.reading.tokens import tokens_of


def parse(text: str) -> Node:
    return read(tokens_of(text, None), None).value


CONSTANTS = [
    (r"\sin 1", "sin(1)"), (r"\cos 5", "cos(5)"), (r"\tan 100", "tan(100)"), (r"\sec 2", "sec(2)"),
    (r"\cot(-3)", "cot(-3)"), (r"\csc\frac{1}{7}", "csc(mpf(1)/7)"), (r"\sqrt{2}+\sqrt[3]{5}", "sqrt(2)+cbrt(5)"),
    (r"\arctan 3", "atan(3)"), (r"\arcsin(-0.7)", "asin(-mpf(7)/10)"), (r"\arccos 0.3", "acos(mpf(3)/10)"),
    (r"e^{\pi}", "exp(pi)"), (r"\log_2 7", "log(7,2)"), (r"\log 7", "log10(7)"), (r"2^{\sqrt 2}", "2**sqrt(2)"),
    (r"\ln\frac{1}{3}", "log(mpf(1)/3)"), (r"\sin 1000000", "sin(1000000)"), (r"10^{-40}\pi", "pi/mpf(10)**40"),
    (r"\frac{1}{\sqrt{5}-\sqrt{4.99}}", "1/(sqrt(5)-sqrt(mpf(499)/100))"), (r"7^{2/3}", "cbrt(49)"),
    (r"\sin 37^\circ", "sin(37*pi/180)"), (r"|{-\sqrt 3}|", "sqrt(3)"), (r"20!\cdot e", "factorial(20)*e"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "oracle"), CONSTANTS)
@pytest.mark.parametrize("digits", [40, 120])
def test_intervals_hold_the_true_value(text: str, oracle: str, digits: int) -> None:
    mpmath, flint = pytest.importorskip("mpmath"), pytest.importorskip("flint")
    from verifiers.math500.compare.enclosures import Evaluation, precision

    names = "sin cos tan sec cot csc sqrt cbrt atan asin acos exp log log10 factorial pi e mpf"
    with mpmath.workdps(3 * digits), precision(digits):
        true = eval(oracle, {name: getattr(mpmath, name) for name in names.split()})
        value = Evaluation({}).evaluate(parse(text))
        with flint.ctx.workdps(3 * digits):
            assert value.overlaps(flint.arb(str(true), flint.arb(10) ** (2 - 3 * digits) * abs(value)))
        assert value.rad() < abs(value) * flint.arb(10) ** (14 - digits)


def verdict(answer: str, gold: str) -> int:
    return compare(parse(answer), parse(gold), len(answer + gold))[0]


EQUAL = pairs(r"""
1+\sqrt{2} <- \sqrt{3+2\sqrt{2}} || \sqrt{2}-1 <- \frac{1}{\sqrt{2}+1} || \frac12 <- \sin 30^\circ
\frac{1+\sqrt5}{4} <- \cos\frac{\pi}{5} || 4 <- \log_2 8 + \ln e || -4 <- (1+i)^4 || -1 <- e^{i\pi}
2i <- \sqrt{-4} || \pi <- 4\arctan 1 || 1 <- \sin^2 x + \cos^2 x || 2\sin x\cos x <- \sin 2x
\sqrt2 x + \frac{2}{\sqrt{2}} <- \sqrt{2}(x+1) || (x-y)(x^2+xy+y^2) <- x^3-y^3
\frac{x+y}{xy} <- \frac{1}{x}+\frac1y || 2 \cdot 2^x <- 2^{x} \cdot 2 || 300 <- \ln(e^{300})
2\sqrt{x} <- \sqrt{4x} || x^{5/6} <- \sqrt[6]{x^5} || \sqrt{xy} <- \sqrt{x}\sqrt{y} || |x| <- \sqrt{x^2}
(n+1)! <- (n+1)n! || x^{2/3} <- \sqrt[3]{x^2} || x^x <- e^{x\ln x}
2^{n-1} <- \frac{2^n}{2} || \frac{n(n+1)}{2} <- \binom{n+1}{2} || i\pi <- \ln(-1)
1 <- \int_0^1 2x\,dx || 2 <- \int_0^{\pi} \sin t\,dt || \ln 2 <- \int_1^2 \frac1x\,dx
15 <- \sum_{k=1}^5 k || 120 <- \prod_{i=1}^5 i || 7 <- \sum_{k=1}^3 k + 1 || 5 <- \int_0^5 dx
""")


DIFFERENT = pairs(r"""
\sqrt{5} <- \sqrt{2}+\sqrt{3} || \pi <- 3.14159265358979323846264338327950288 ;; \frac{22}{7}
\sqrt{2} <- \sqrt{2}+10^{-60} || 1 <- \sqrt{1+10^{-90}} || \frac{1}{2^{98}} <- \frac{1}{2^{99}}
x <- x + 2^{255} - 19 ;; x + 2^{61} - 1 ;; \sqrt{x} || \cos x <- \sin x || 262537412640768744 <- e^{\pi\sqrt{163}}
x^{101} <- x^{100} || x <- \sqrt{x^2} ;; |x| || |x| <- \sqrt{x}^2 || 2\ln x <- \ln x^2 || x^{1/3} <- |x|^{1/3}
x y z <- \sqrt{x^2y^2z^2} || 10-x <- \sqrt{(x-10)^2} || \ln 2 <- \int_1^2 \frac{1}{x+1}\,dx || 10 <- \sum_{k=1}^5 k
""")


UNDECIDED = pairs(
    r"\arccos 2 <- 1 || 0 <- \int_{-1}^1 \frac1x\,dx || 1 <- \int_{-1}^1 |x|\,dx || \sum_{k=1}^{x} k <- 1"
)


@pytest.mark.parametrize(("table", "outcome"), [(EQUAL, YES), (DIFFERENT, NO), (UNDECIDED, UNSURE)])
def test_equal_different_and_undecided_pairs(table: list, outcome: int) -> None:
    pytest.importorskip("flint")
    assert {pair: verdict(*pair) for pair in table} == dict.fromkeys(table, outcome)


def test_without_python_flint_roots_are_undecided(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "verifiers.math500.compare.enclosures", None)  # what imports it
    assert verdict(r"\sqrt{8}", r"2\sqrt2") == UNSURE
    assert verdict("2(x+1)", "2x+2") == YES


@pytest.mark.parametrize("text", [r"\frac{1}{0}", "0^{-1}", "0^0", r"\frac{x}{x-x}", r"\infty", r"5 \bmod 0"])
def test_undefined_values(text: str) -> None:
    with pytest.raises(Undefined):
        Point("key").evaluate(parse(text))


@pytest.mark.parametrize("text", ["9^{9999}", "(2^{999})^{999}", "2^{9999}\\cdot 2^{9999}\\cdot 2^{9999}"])
def test_too_big_is_not_computed(text: str) -> None:
    with pytest.raises(TooBig):
        Point("key").evaluate(parse(text))
    assert BIT_LIMIT < 30_000


@pytest.mark.parametrize("text", [r"\ln 0", r"\arccos 2", r"\tan(10^{20})", "(-8)^{1/4}", "(10^5)!"])
def test_what_cannot_be_bounded_is_undecided(text: str) -> None:
    pytest.importorskip("flint")
    from verifiers.math500.compare.enclosures import Evaluation, Undecided, precision

    with precision(50), pytest.raises(Undecided):
        Evaluation({}).evaluate(parse(text))


def test_exact_values_equal_fractions() -> None:
    rng = random.Random(1)
    for _ in range(300):
        a, b, c = (rng.randint(-50, 50) for _ in range(3))
        d, e = rng.randint(1, 30), rng.randint(0, 5)
        tree = parse(f"\\frac{{{a}+{abs(b)}}}{{{d}}} - ({c})^{e if c else 2} \\cdot 0.25")
        n, m = Point("key").evaluate(tree)
        assert Fraction(n, m) == Fraction(a + abs(b), d) - Fraction(c) ** (e if c else 2) / 4
