"""Level 2 of the generated problems: fractions, quadratics, divisors, areas, sequences, choices."""

from fractions import Fraction
from math import comb, gcd, lcm, perm

import numpy as np

from envs.math500_item import Item, choose, frac, pick, term


def fractions(rng: np.random.Generator) -> Item:
    """a/b+c/d. Slip: tops and bottoms are added."""
    a, b, c, d = pick(rng, 1, 9), pick(rng, 2, 9), pick(rng, 1, 9), pick(rng, 2, 9)
    bottom = lcm(b, d)
    total = Fraction(a, b) + Fraction(c, d)
    return Item(
        "Prealgebra",
        rf"Compute $\frac{{{a}}}{{{b}}}+\frac{{{c}}}{{{d}}}$.",
        rf"Over {bottom}: ${a * bottom // b}+{c * bottom // d}={total * bottom}$ parts.",
        frac(total),
        rf"${a}+{c}={a + c}$ over ${b}+{d}={b + d}$.",
        frac(Fraction(a + c, b + d)),
    )


def discount(rng: np.random.Generator) -> Item:
    """The price before a discount. Slip: the discount is added to the lower price."""
    percent, hundreds = choose(rng, (5, 10, 15, 20, 25, 30, 40, 50, 60)), pick(rng, 1, 60)
    before = 20 * hundreds
    after = before * (100 - percent) // 100
    wrong = Fraction(after * (100 + percent), 100)
    return Item(
        "Prealgebra",
        rf"After a discount of ${percent}\%$ a coat costs ${after}$ dollars. How many dollars did it cost before?",
        rf"${after}$ is ${100 - percent}\%$ of the price, so it was $\frac{{{after}\cdot100}}{{{100 - percent}}}$.",
        str(before),
        rf"${percent}\%$ more than ${after}$ is $\frac{{{after}\cdot{100 + percent}}}{{100}}$.",
        frac(wrong),
    )


def larger_root(rng: np.random.Generator) -> Item:
    """The larger root of a quadratic. Slip: the roots get the signs of the factors."""
    p, q = pick(rng, -12, 12), pick(rng, -12, 12)
    factors = f"(x{term(-p, '') or '-0'})(x{term(-q, '') or '-0'})"
    return Item(
        "Algebra",
        f"What is the larger root of $x^2{term(-p - q, 'x')}{term(p * q, '')}=0$?",
        f"${factors}=0$, so $x={p}$ or $x={q}$.",
        str(max(p, q)),
        f"${factors}=0$, so $x={-p}$ or $x={-q}$.",
        str(max(-p, -q)),
    )


def slope(rng: np.random.Generator) -> Item:
    """The slope through two points. Slip: run over rise."""
    x, y, dx, dy = (
        pick(rng, -9, 9),
        pick(rng, -9, 9),
        pick(rng, 1, 9),
        choose(rng, [-7, -5, -4, -3, 2, 3, 6, 8]),
    )
    return Item(
        "Algebra",
        f"What is the slope of the line through $({x},{y})$ and $({x + dx},{y + dy})$?",
        f"The rise is ${dy}$ and the run is ${dx}$: rise over run.",
        frac(Fraction(dy, dx)),
        f"The run is ${dx}$ and the rise is ${dy}$: run over rise.",
        frac(Fraction(dx, dy)),
    )


def composition(rng: np.random.Generator) -> Item:
    """f(g(x)) at a number. Slip: g(f(x))."""
    a, b, c, x = pick(rng, 2, 6), pick(rng, -9, 9), pick(rng, -9, 9), pick(rng, -5, 5)
    inner, first = x * x + c, a * x + b
    return Item(
        "Algebra",
        f"Let $f(x)={a}x{term(b, '')}$ and $g(x)=x^2{term(c, '')}$. Find $f(g({x}))$.",
        f"$g({x})={inner}$, then $f({inner})={a * inner + b}$.",
        str(a * inner + b),
        f"$f({x})={first}$, then $g({first})={first * first + c}$.",
        str(first * first + c),
    )


def divisor(rng: np.random.Generator) -> Item:
    """The greatest common divisor. Slip: the least common multiple."""
    g, a, b = pick(rng, 2, 15), pick(rng, 2, 12), pick(rng, 2, 12)
    m, n = g * a, g * b
    return Item(
        "Number Theory",
        f"What is the greatest common divisor of ${m}$ and ${n}$?",
        f"The largest number that divides both ${m}$ and ${n}$.",
        str(gcd(m, n)),
        f"The smallest number that both ${m}$ and ${n}$ divide.",
        str(lcm(m, n)),
    )


def remainder(rng: np.random.Generator) -> Item:
    """A remainder. Slip: the quotient."""
    n, m = pick(rng, 50, 999), pick(rng, 3, 13)
    work = rf"${n}={n // m}\cdot{m}+{n % m}$."
    return Item(
        "Number Theory",
        f"What is the remainder when ${n}$ is divided by ${m}$?",
        work,
        str(n % m),
        work,
        str(n // m),
    )


def triangle(rng: np.random.Generator) -> Item:
    """The area of a triangle. Slip: without the half."""
    base, height = pick(rng, 2, 40), pick(rng, 2, 40)
    return Item(
        "Geometry",
        f"A triangle has base ${base}$ and height ${height}$. What is its area?",
        rf"Half of ${base}\cdot{height}={base * height}$.",
        frac(Fraction(base * height, 2)),
        rf"${base}\cdot{height}={base * height}$.",
        str(base * height),
    )


def sector(rng: np.random.Generator) -> Item:
    """The area of a sector. Slip: its arc."""
    r, angle = pick(rng, 2, 20), choose(rng, (30, 36, 40, 45, 60, 72, 90, 120, 135, 150, 240, 270))
    part = Fraction(angle, 360)
    return Item(
        "Geometry",
        rf"What is the area of a sector of ${angle}^\circ$ of a circle of radius ${r}$?",
        rf"${frac(part)}$ of the circle's area ${r * r}\pi$.",
        frac(part * r * r, r"\pi"),
        rf"${frac(part)}$ of the circle's length ${2 * r}\pi$.",
        frac(part * 2 * r, r"\pi"),
    )


def committee(rng: np.random.Generator) -> Item:
    """A choice without order. Slip: the order is counted."""
    n, k = pick(rng, 5, 30), pick(rng, 2, 4)
    what = ("committee", "team", "group", "jury", "crew")[pick(rng, 0, 4)]
    return Item(
        "Counting & Probability",
        f"In how many ways can a {what} of ${k}$ be chosen from ${n}$ people?",
        rf"The order does not matter: $\binom{{{n}}}{{{k}}}$.",
        str(comb(n, k)),
        rf"${k}$ choices one after another, from ${n}$ down.",
        str(perm(n, k)),
    )


def sequence(rng: np.random.Generator) -> Item:
    """A term of an arithmetic sequence. Slip: one step too many."""
    a, d, n = pick(rng, -20, 40), choose(rng, [-7, -5, -3, -2, 2, 3, 4, 6, 9]), pick(rng, 8, 40)
    return Item(
        "Intermediate Algebra",
        rf"What is term number ${n}$ of the arithmetic sequence ${a},{a + d},{a + 2 * d},\dots$?",
        rf"${a}$ and ${n - 1}$ steps of ${d}$.",
        str(a + (n - 1) * d),
        rf"${a}$ and ${n}$ steps of ${d}$.",
        str(a + n * d),
    )


def powers(rng: np.random.Generator) -> Item:
    """A product of powers. Slip: the exponents are multiplied."""
    a, b, c = pick(rng, 2, 12), pick(rng, 2, 12), pick(rng, 2, 9)
    letter = "xyzntw"[pick(rng, 0, 5)]
    return Item(
        "Prealgebra",
        rf"Simplify ${c}{letter}^{{{a}}}\cdot {letter}^{{{b}}}$.",
        rf"The exponents add: ${a}+{b}={a + b}$.",
        rf"{c}{letter}^{{{a + b}}}",
        rf"The exponents multiply: ${a}\cdot{b}={a * b}$.",
        rf"{c}{letter}^{{{a * b}}}",
    )


TEMPLATES = (
    fractions,
    discount,
    larger_root,
    slope,
    composition,
    divisor,
    remainder,
    triangle,
    sector,
    committee,
    sequence,
    powers,
)
