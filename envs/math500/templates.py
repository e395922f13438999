r"""The generated problems by level: one function for each template, drawing one problem with a solution and a slip.

Level 1 has one rule each, one-digit numbers, no arithmetic and at most 26 characters. Right and slip differ in the rule
alone: a sign, an order, a factor. In each template every number has the same place. So a model of a million weights
learns in minutes to do both without a mistake, and what is left to learn is which rule is the right one. A completion
has at most 14 characters and two tags; answers need no more than +, - and ().
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import comb, gcd, isqrt, lcm, perm
from typing import TypeVar

import numpy as np

T = TypeVar("T")
OPPOSITE = {"+": "-", "-": "+"}
LETTERS = "abckmnpt"
WARES = ("hats", "ties", "caps", "bags", "pens", "mugs", "keys", "toys")


Solution = tuple[str, str]
"""(one line of working, the exact answer)."""
Draft = tuple[str, Solution, Solution]
"""(problem, right, slip): what a template draws; see MathProblem."""


@dataclass(frozen=True)
class MathProblem:
    """A problem, its solution and, of generated problems, a wrong one; all of it short LaTeX or ASCII."""

    subject: str
    """One of the seven subjects of MATH."""
    problem: str
    right: Solution
    slip: Solution = ("", "")
    """The solution by one fixed wrong rule."""


TEMPLATES: dict[int, list[Callable[[np.random.Generator], MathProblem]]] = {1: [], 2: [], 3: []}


def template(level: int, subject: str) -> Callable:
    """Adds a function to the templates of a level, at the end: their order is part of every problem's number."""

    def add(draw: Callable[[np.random.Generator], Draft]) -> Callable[[np.random.Generator], Draft]:
        TEMPLATES[level].append(lambda rng: MathProblem(subject, *draw(rng)))
        return draw

    return add


def pick(rng: np.random.Generator, low: int, high: int) -> int:
    """A whole number from `low` to `high`, both included, each equally likely."""
    return int(rng.integers(low, high + 1))


def choose(rng: np.random.Generator, options: Sequence[T]) -> T:
    """One of the options, each equally likely."""
    return options[int(rng.integers(len(options)))]


def frac(value: Fraction | int, unit: str = "") -> str:
    """An exact rational as LaTeX: 3, -\\frac{1}{2}; with a unit such as "\\pi" its multiple: 3\\pi, \\pi, 0."""
    value = Fraction(value)
    sign, top, bottom = "-" if value < 0 else "", abs(value.numerator), value.denominator
    if bottom > 1:
        return f"{sign}\\frac{{{top}}}{{{bottom}}}{unit}"
    return f"{sign}{unit}" if unit and top == 1 else f"{sign}{top}{unit if top else ''}"


def root(square: int) -> str:
    """The square root of a whole number >= 0 as LaTeX, simplified: 4, 2\\sqrt{3}, \\sqrt{5}."""
    outside = next(k for k in range(isqrt(square), 0, -1) if square % (k * k) == 0) if square else 0
    inside = square // (outside * outside) if outside else 1
    return str(outside) if inside == 1 else f"{outside if outside > 1 else ''}\\sqrt{{{inside}}}"


def term(factor: int, letter: str) -> str:
    """A term that follows another one: +3x, -x, nothing for 0."""
    if factor == 0:
        return ""
    size = "" if abs(factor) == 1 and letter else str(abs(factor))
    return f"{'-' if factor < 0 else '+'}{size}{letter}"


# Level 1


def _two(rng: np.random.Generator, options: str | tuple[str, ...]) -> tuple[str, str]:
    first, second = rng.permutation(len(options))[:2].tolist()
    return options[first], options[second]


def _signed(sign: str, digit: int) -> str:
    """With its sign only where that is a minus."""
    return f"-{digit}" if sign == "-" else str(digit)


@template(1, "Algebra")
def zero_product(rng: np.random.Generator) -> Draft:
    """A product that is zero. Slip: the roots get the signs that they have in the factors."""
    a, b = (int(digit) for digit in _two(rng, "23456789"))
    s, t = choose(rng, "+-"), choose(rng, "+-")
    x, y, u, v = _signed(OPPOSITE[s], a), _signed(OPPOSITE[t], b), _signed(s, a), _signed(t, b)
    return f"Solve $(x{s}{a})(x{t}{b})=0$.", (f"x={x} x={y}", f"{x},{y}"), (f"x={u} x={v}", f"{u},{v}")


@template(1, "Prealgebra")
def brackets(rng: np.random.Generator) -> Draft:
    """Minus a bracket. Slip: the minus reaches the first term of the bracket only."""
    (p, q), a, s = _two(rng, LETTERS), pick(rng, 2, 9), choose(rng, "+-")
    problem = f"Simplify ${p}-({a}{s}{q})$."
    right = (f"-{a}{OPPOSITE[s]}{q}", f"{p}-{a}{OPPOSITE[s]}{q}")
    slip = (f"-{a}{s}{q}", f"{p}-{a}{s}{q}")
    return problem, right, slip


@template(1, "Algebra")
def expand(rng: np.random.Generator) -> Draft:
    """A factor times a sum. Slip: only the first term is multiplied."""
    (p, q), a, s = _two(rng, LETTERS), pick(rng, 2, 9), choose(rng, "+-")
    problem = f"Expand ${a}({p}{s}{q})$."
    right = (f"{a}*{p} {a}*{q}", f"{a}{p}{s}{a}{q}")
    slip = (f"{a}*{p} 1*{q}", f"{a}{p}{s}{q}")
    return problem, right, slip


@template(1, "Algebra")
def slope_of_line(rng: np.random.Generator) -> Draft:
    """The slope of a line. Slip: the first number of the equation."""
    a, b, s = pick(rng, 2, 9), pick(rng, 2, 9), choose(rng, "+-")
    return f"Slope of $y={a}{s}{b}x$?", (f"{s}{b}x", _signed(s, b)), (f"y={a}", str(a))


@template(1, "Prealgebra")
def reciprocal(rng: np.random.Generator) -> Draft:
    """A fraction to the power of -1. Slip: a minus before the fraction."""
    (p, _), a, b = _two(rng, LETTERS), pick(rng, 2, 9), pick(rng, 2, 9)
    top, bottom = choose(rng, ((str(a), str(b)), (p, str(b)), (str(a), p)))
    problem = f"Find $({top}/{bottom})^{{-1}}$."
    right = (f"1/({top}/{bottom})", f"{bottom}/{top}")
    slip = (f"-({top}/{bottom})", f"-{top}/{bottom}")
    return problem, right, slip


@template(1, "Intermediate Algebra")
def vertex_of_square(rng: np.random.Generator) -> Draft:
    """The vertex of a parabola. Slip: its first coordinate gets the sign that it has in the bracket."""
    a, b, s, t = pick(rng, 2, 9), pick(rng, 2, 9), choose(rng, "+-"), choose(rng, "+-")
    x, u, y = _signed(OPPOSITE[s], a), _signed(s, a), _signed(t, b)
    return f"Vertex of $(x{s}{a})^2{t}{b}$?", (f"x={x}", f"({x},{y})"), (f"x={u}", f"({u},{y})")


@template(1, "Geometry")
def mirror(rng: np.random.Generator) -> Draft:
    """A point mirrored in the line y=x. Slip: in the y-axis."""
    a, b, s, t = pick(rng, 2, 9), pick(rng, 2, 9), choose(rng, "+-"), choose(rng, "+-")
    x, y, u = _signed(s, a), _signed(t, b), _signed(OPPOSITE[s], a)
    return f"Mirror $({x},{y})$ in $y=x$.", (f"x={y}", f"({y},{x})"), (f"x={u}", f"({u},{y})")


@template(1, "Number Theory")
def last_digit(rng: np.random.Generator) -> Draft:
    """A number modulo 10. Slip: the quotient."""
    a, b, c = pick(rng, 1, 9), pick(rng, 0, 9), pick(rng, 0, 9)
    work = f"10*{a}{b}+{c}"
    return rf"Find ${a}{b}{c}\bmod 10$.", (work, str(c)), (work, f"{a}{b}")


@template(1, "Counting & Probability")
def outfits(rng: np.random.Generator) -> Draft:
    """In how many ways one of each kind can be chosen. Slip: the numbers are added."""
    (p, _), a, (one, other) = _two(rng, LETTERS), pick(rng, 2, 9), _two(rng, WARES)
    return f"Pairs: {a} {one}, {p} {other}?", (f"{a}*{p}", f"{a}{p}"), (f"{a}+{p}", f"{a}+{p}")


@template(1, "Precalculus")
def conjugate(rng: np.random.Generator) -> Draft:
    """The conjugate of a complex number. Slip: the real part changes its sign."""
    a, b, s, t = pick(rng, 2, 9), pick(rng, 2, 9), choose(rng, "+-"), choose(rng, "+-")
    x, u = _signed(s, a), _signed(OPPOSITE[s], a)
    return f"Conjugate of ${x}{t}{b}i$?", (f"{OPPOSITE[t]}{b}i", f"{x}{OPPOSITE[t]}{b}i"), (u, f"{u}{t}{b}i")


# Level 2: fractions, quadratics, divisors, areas, sequences, choices


@template(2, "Prealgebra")
def fractions(rng: np.random.Generator) -> Draft:
    """a/b+c/d. Slip: tops and bottoms are added."""
    a, b, c, d = pick(rng, 1, 9), pick(rng, 2, 9), pick(rng, 1, 9), pick(rng, 2, 9)
    bottom = lcm(b, d)
    total = Fraction(a, b) + Fraction(c, d)
    problem = rf"Compute $\frac{{{a}}}{{{b}}}+\frac{{{c}}}{{{d}}}$."
    right = (rf"Over {bottom}: ${a * bottom // b}+{c * bottom // d}={total * bottom}$ parts.", frac(total))
    slip = (rf"${a}+{c}={a + c}$ over ${b}+{d}={b + d}$.", frac(Fraction(a + c, b + d)))
    return problem, right, slip


@template(2, "Prealgebra")
def discount(rng: np.random.Generator) -> Draft:
    """The price before a discount. Slip: the discount is added to the lower price."""
    percent, hundreds = choose(rng, (5, 10, 15, 20, 25, 30, 40, 50, 60)), pick(rng, 1, 60)
    before = 20 * hundreds
    after = before * (100 - percent) // 100
    wrong = Fraction(after * (100 + percent), 100)
    problem = rf"After a discount of ${percent}\%$ a coat costs ${after}$ dollars. How many dollars did it cost before?"
    right = (
        rf"${after}$ is ${100 - percent}\%$ of the price, so it was $\frac{{{after}\cdot100}}{{{100 - percent}}}$.",
        str(before),
    )
    slip = (
        rf"${percent}\%$ more than ${after}$ is $\frac{{{after}\cdot{100 + percent}}}{{100}}$.",
        frac(wrong),
    )
    return problem, right, slip


@template(2, "Algebra")
def larger_root(rng: np.random.Generator) -> Draft:
    """The larger root of a quadratic. Slip: the roots get the signs of the factors."""
    p, q = pick(rng, -12, 12), pick(rng, -12, 12)
    factors = f"(x{term(-p, '') or '-0'})(x{term(-q, '') or '-0'})"
    problem = f"What is the larger root of $x^2{term(-p - q, 'x')}{term(p * q, '')}=0$?"
    right = (f"${factors}=0$, so $x={p}$ or $x={q}$.", str(max(p, q)))
    slip = (f"${factors}=0$, so $x={-p}$ or $x={-q}$.", str(max(-p, -q)))
    return problem, right, slip


@template(2, "Algebra")
def slope_through_points(rng: np.random.Generator) -> Draft:
    """The slope through two points. Slip: run over rise."""
    x, y, dx = pick(rng, -9, 9), pick(rng, -9, 9), pick(rng, 1, 9)
    dy = choose(rng, [-7, -5, -4, -3, 2, 3, 6, 8])
    problem = f"What is the slope of the line through $({x},{y})$ and $({x + dx},{y + dy})$?"
    right = (f"The rise is ${dy}$ and the run is ${dx}$: rise over run.", frac(Fraction(dy, dx)))
    slip = (f"The run is ${dx}$ and the rise is ${dy}$: run over rise.", frac(Fraction(dx, dy)))
    return problem, right, slip


@template(2, "Algebra")
def composition(rng: np.random.Generator) -> Draft:
    """f(g(x)) at a number. Slip: g(f(x))."""
    a, b, c, x = pick(rng, 2, 6), pick(rng, -9, 9), pick(rng, -9, 9), pick(rng, -5, 5)
    inner, first = x * x + c, a * x + b
    problem = f"Let $f(x)={a}x{term(b, '')}$ and $g(x)=x^2{term(c, '')}$. Find $f(g({x}))$."
    right = (f"$g({x})={inner}$, then $f({inner})={a * inner + b}$.", str(a * inner + b))
    slip = (f"$f({x})={first}$, then $g({first})={first * first + c}$.", str(first * first + c))
    return problem, right, slip


@template(2, "Number Theory")
def divisor(rng: np.random.Generator) -> Draft:
    """The greatest common divisor. Slip: the least common multiple."""
    g, a, b = pick(rng, 2, 15), pick(rng, 2, 12), pick(rng, 2, 12)
    m, n = g * a, g * b
    problem = f"What is the greatest common divisor of ${m}$ and ${n}$?"
    right = (f"The largest number that divides both ${m}$ and ${n}$.", str(gcd(m, n)))
    slip = (f"The smallest number that both ${m}$ and ${n}$ divide.", str(lcm(m, n)))
    return problem, right, slip


@template(2, "Number Theory")
def remainder(rng: np.random.Generator) -> Draft:
    """A remainder. Slip: the quotient."""
    n, m = pick(rng, 50, 999), pick(rng, 3, 13)
    work = rf"${n}={n // m}\cdot{m}+{n % m}$."
    return f"What is the remainder when ${n}$ is divided by ${m}$?", (work, str(n % m)), (work, str(n // m))


@template(2, "Geometry")
def triangle(rng: np.random.Generator) -> Draft:
    """The area of a triangle. Slip: without the half."""
    base, height = pick(rng, 2, 40), pick(rng, 2, 40)
    problem = f"A triangle has base ${base}$ and height ${height}$. What is its area?"
    right = (rf"Half of ${base}\cdot{height}={base * height}$.", frac(Fraction(base * height, 2)))
    slip = (rf"${base}\cdot{height}={base * height}$.", str(base * height))
    return problem, right, slip


@template(2, "Geometry")
def sector(rng: np.random.Generator) -> Draft:
    """The area of a sector. Slip: its arc."""
    r, angle = pick(rng, 2, 20), choose(rng, (30, 36, 40, 45, 60, 72, 90, 120, 135, 150, 240, 270))
    part = Fraction(angle, 360)
    problem = rf"What is the area of a sector of ${angle}^\circ$ of a circle of radius ${r}$?"
    right = (rf"${frac(part)}$ of the circle's area ${r * r}\pi$.", frac(part * r * r, r"\pi"))
    slip = (rf"${frac(part)}$ of the circle's length ${2 * r}\pi$.", frac(part * 2 * r, r"\pi"))
    return problem, right, slip


@template(2, "Counting & Probability")
def committee(rng: np.random.Generator) -> Draft:
    """A choice without order. Slip: the order is counted."""
    n, k = pick(rng, 5, 30), pick(rng, 2, 4)
    what = ("committee", "team", "group", "jury", "crew")[pick(rng, 0, 4)]
    problem = f"In how many ways can a {what} of ${k}$ be chosen from ${n}$ people?"
    right = (rf"The order does not matter: $\binom{{{n}}}{{{k}}}$.", str(comb(n, k)))
    slip = (rf"${k}$ choices one after another, from ${n}$ down.", str(perm(n, k)))
    return problem, right, slip


@template(2, "Intermediate Algebra")
def sequence(rng: np.random.Generator) -> Draft:
    """A term of an arithmetic sequence. Slip: one step too many."""
    a, d, n = pick(rng, -20, 40), choose(rng, [-7, -5, -3, -2, 2, 3, 4, 6, 9]), pick(rng, 8, 40)
    problem = rf"What is term number ${n}$ of the arithmetic sequence ${a},{a + d},{a + 2 * d},\dots$?"
    right = (rf"${a}$ and ${n - 1}$ steps of ${d}$.", str(a + (n - 1) * d))
    slip = (rf"${a}$ and ${n}$ steps of ${d}$.", str(a + n * d))
    return problem, right, slip


@template(2, "Prealgebra")
def powers(rng: np.random.Generator) -> Draft:
    """A product of powers. Slip: the exponents are multiplied."""
    a, b, c = pick(rng, 2, 12), pick(rng, 2, 12), pick(rng, 2, 9)
    letter = "xyzntw"[pick(rng, 0, 5)]
    problem = rf"Simplify ${c}{letter}^{{{a}}}\cdot {letter}^{{{b}}}$."
    right = (rf"The exponents add: ${a}+{b}={a + b}$.", rf"{c}{letter}^{{{a + b}}}")
    slip = (rf"The exponents multiply: ${a}\cdot{b}={a * b}$.", rf"{c}{letter}^{{{a * b}}}")
    return problem, right, slip


# Level 3: pairs, intervals, roots, residues, probabilities, complex numbers, bases


@template(3, "Algebra")
def system(rng: np.random.Generator) -> Draft:
    """Two linear equations. Slip: y before x."""
    x, y, a, b = pick(rng, -9, 9), pick(rng, -9, 9), pick(rng, 1, 6), pick(rng, 1, 6)
    text = f"${a}x+{b}y={a * x + b * y}$ and ${a}x-{b}y={a * x - b * y}$"
    sums = f"Sum and difference give ${2 * a}x={2 * a * x}$ and ${2 * b}y={2 * b * y}$"
    problem = f"Find the pair $(x,y)$ with {text}."
    right = (f"{sums}, so $x={x}$, $y={y}$.", f"({x},{y})")
    slip = (f"{sums}, so $y={y}$, $x={x}$.", f"({y},{x})")
    return problem, right, slip


@template(3, "Algebra")
def inequality(rng: np.random.Generator) -> Draft:
    """An inequality with a negative factor, as an interval. Slip: its sign is not turned."""
    a, b, edge = pick(rng, 2, 9), pick(rng, 1, 30), pick(rng, -9, 9)
    c = b - a * edge
    divided = rf"$-{a}x<{c - b}$, so "
    problem = rf"Solve ${b}-{a}x<{c}$. Write the solution as an interval."
    right = (f"{divided}$x>{edge}$.", rf"({edge},\infty)")
    slip = (f"{divided}$x<{edge}$.", rf"(-\infty,{edge})")
    return problem, right, slip


@template(3, "Intermediate Algebra")
def radical(rng: np.random.Generator) -> Draft:
    """Simplify a root. Slip: what stays inside and what comes out change places."""
    outside, inside = pick(rng, 2, 15), choose(rng, (2, 3, 5, 6, 7, 10, 11, 13, 14, 15, 17, 19, 21))
    n = outside * outside * inside
    work = rf"${n}={outside}^2\cdot{inside}$."
    problem = rf"Simplify $\sqrt{{{n}}}$."
    right = (work, rf"{outside}\sqrt{{{inside}}}")
    slip = (work, rf"{inside}\sqrt{{{outside}}}")
    return problem, right, slip


@template(3, "Number Theory")
def power_residue(rng: np.random.Generator) -> Draft:
    """A power modulo m. Slip: multiplied instead of raised."""
    a, n, m = pick(rng, 2, 12), pick(rng, 3, 30), pick(rng, 5, 23)
    problem = f"What is the remainder when ${a}^{{{n}}}$ is divided by ${m}$?"
    right = (rf"Squares and products modulo ${m}$: ${a}^{{{n}}}\equiv{pow(a, n, m)}$.", str(pow(a, n, m)))
    slip = (rf"${a}\cdot{n}={a * n}\equiv{a * n % m}$ modulo ${m}$.", str(a * n % m))
    return problem, right, slip


@template(3, "Number Theory")
def base(rng: np.random.Generator) -> Draft:
    """A number in another base. Slip: the remainders are read from the first to the last."""
    n, b = pick(rng, 50, 999), pick(rng, 3, 9)
    digits, rest = "", n
    while rest:
        digits, rest = digits + str(rest % b), rest // b
    work = f"The remainders by ${b}$ are {', '.join(digits)}"
    problem = f"Write ${n}$ in base ${b}$."
    right = (f"{work}; from the last to the first.", f"{digits[::-1]}_{{{b}}}")
    slip = (f"{work}; from the first to the last.", f"{digits}_{{{b}}}")
    return problem, right, slip


@template(3, "Counting & Probability")
def balls(rng: np.random.Generator) -> Draft:
    """Two balls without putting back. Slip: as if the first were put back."""
    red, blue = pick(rng, 2, 20), pick(rng, 2, 20)
    n = red + blue
    problem = (
        f"A bag holds ${red}$ red and ${blue}$ blue balls. Two are drawn at once. What is the probability that "
        "both are red?"
    )
    right = (
        rf"$\frac{{{red}}}{{{n}}}\cdot\frac{{{red - 1}}}{{{n - 1}}}$.",
        frac(Fraction(red * (red - 1), n * (n - 1))),
    )
    slip = (rf"$\frac{{{red}}}{{{n}}}\cdot\frac{{{red}}}{{{n}}}$.", frac(Fraction(red * red, n * n)))
    return problem, right, slip


@template(3, "Counting & Probability")
def dice(rng: np.random.Generator) -> Draft:
    """At least one success in k tries. Slip: the chances are added."""
    sides, k = pick(rng, 4, 60), pick(rng, 2, 4)
    one = Fraction(1, sides)
    problem = (
        f"A fair die with ${sides}$ sides is rolled ${k}$ times. What is the probability of at least one $1$?"
    )
    right = (rf"$1-\left({frac(1 - one)}\right)^{k}$.", frac(1 - (1 - one) ** k))
    slip = (rf"${k}\cdot{frac(one)}$.", frac(k * one))
    return problem, right, slip


@template(3, "Precalculus")
def complex_product(rng: np.random.Generator) -> Draft:
    """A product of complex numbers. Slip: i^2 is taken as 1."""
    a, b, c, d = pick(rng, 1, 9), pick(rng, 1, 9), pick(rng, 1, 9), pick(rng, -9, -1)
    middle = a * d + b * c
    terms = f"${a * c}{term(a * d, 'i')}{term(b * c, 'i')}{term(b * d, 'i^2')}$"
    problem = f"Write $({a}{term(b, 'i')})({c}{term(d, 'i')})$ in the form $a+bi$."
    right = (f"{terms} with $i^2=-1$.", f"{a * c - b * d}{term(middle, 'i')}")
    slip = (f"{terms} with $i^2=1$.", f"{a * c + b * d}{term(middle, 'i')}")
    return problem, right, slip


@template(3, "Geometry")
def distance(rng: np.random.Generator) -> Draft:
    """The distance of two points. Slip: the legs are added."""
    x, y, dx, dy = pick(rng, -9, 9), pick(rng, -9, 9), pick(rng, 1, 12), pick(rng, 1, 12)
    problem = f"What is the distance between $({x},{y})$ and $({x + dx},{y + dy})$?"
    right = (rf"$\sqrt{{{dx}^2+{dy}^2}}=\sqrt{{{dx * dx + dy * dy}}}$.", root(dx * dx + dy * dy))
    slip = (f"${dx}+{dy}={dx + dy}$.", str(dx + dy))
    return problem, right, slip


@template(3, "Intermediate Algebra")
def both_roots(rng: np.random.Generator) -> Draft:
    """Both roots of a quadratic. Slip: the roots get the signs of the factors."""
    p = pick(rng, 1, 15)
    q = p + pick(rng, 1, 15)
    factors = f"$(x-{p})(x-{q})=0$"
    problem = f"Find all roots of $x^2-{p + q}x+{p * q}$, separated by commas."
    right = (f"{factors}, so $x={p}$ or $x={q}$.", f"{p},{q}")
    slip = (f"{factors}, so $x=-{q}$ or $x=-{p}$.", f"-{q},-{p}")
    return problem, right, slip


@template(3, "Intermediate Algebra")
def series(rng: np.random.Generator) -> Draft:
    """An infinite geometric series. Slip: the ratio's sign in the denominator."""
    a, top = pick(rng, 1, 20), pick(rng, 1, 7)
    ratio = Fraction(top, top + pick(rng, 1, 6))
    problem = (
        rf"Find the sum of the infinite geometric series ${a}+{frac(a * ratio)}+{frac(a * ratio**2)}+\cdots$."
    )
    right = (rf"${a}$ divided by $1-{frac(ratio)}$.", frac(a / (1 - ratio)))
    slip = (rf"${a}$ divided by $1+{frac(ratio)}$.", frac(a / (1 + ratio)))
    return problem, right, slip


@template(3, "Precalculus")
def determinant(rng: np.random.Generator) -> Draft:
    """A 2x2 determinant. Slip: the second product is added."""
    a, b, c, d = (pick(rng, -9, 9) for _ in range(4))
    problem = rf"Compute $\begin{{vmatrix}} {a} & {b} \\ {c} & {d} \end{{vmatrix}}$."
    right = (rf"$({a})({d})-({b})({c})$.", str(a * d - b * c))
    slip = (rf"$({a})({d})+({b})({c})$.", str(a * d + b * c))
    return problem, right, slip


@template(3, "Intermediate Algebra")
def vertex_of_quadratic(rng: np.random.Generator) -> Draft:
    """The vertex of a parabola. Slip: the first coordinate with the other sign."""
    h, k = pick(rng, -12, 12), pick(rng, -12, 12)
    square = f"$y=(x{term(-h, '')})^2{term(k, '')}$"
    problem = f"What is the vertex of the parabola $y=x^2{term(-2 * h, 'x')}{term(h * h + k, '')}$? Answer as a pair."
    right = (f"{square}.", f"({h},{k})")
    slip = (f"{square}.", f"({-h},{k})")
    return problem, right, slip
