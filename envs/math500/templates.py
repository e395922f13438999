r"""The generated problems by level: one function for each template, which writes a problem, its solution and a slip.

A slip is a wrong solution, by the usual mistake in such problems. `problems.draw` leaves out a problem whose solution
and slip give the same answer. The words that a prompt puts around a problem are in `envs.math500.env`.

At level 1 a template is about one rule, with one-digit numbers, no arithmetic and at most 26 characters. The right
solution and the slip differ only in that rule: a sign, an order, a factor. Each number of a template stands at a fixed
position in the text. So a model of a million weights learns in minutes to write the solution or the slip without an
error, and only has to learn which of them is right. A completion has at most 14 characters and two tags; besides
letters and digits, answers need only + - / , and ().
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import comb, gcd, isqrt, lcm, perm
from typing import Any

import numpy as np

OPPOSITE = {"+": "-", "-": "+"}
LETTERS = "abckmnpt"
WARES = ("hats", "ties", "caps", "bags", "pens", "mugs", "keys", "toys")
COMMITTEES = ("committee", "team", "group", "jury", "crew")

Solution = tuple[str, str]
"""(a line of working, the exact answer)."""


@dataclass(frozen=True)
class MathProblem:
    """A problem, its solution and, if it is generated, a wrong solution, as plain text with LaTeX."""

    subject: str
    """One of the seven subjects of MATH; "" if a published row names none."""
    problem: str
    right: Solution
    slip: Solution = ("", "")
    """The solution by one fixed wrong rule; two empty texts if the problem is not generated."""


TEMPLATES: dict[int, list[Callable[[np.random.Generator], MathProblem]]] = {1: [], 2: [], 3: []}
"""{level: its templates}, filled by the decorator `template` in the order of this file, on which problems depend."""


def template(level: int, subject: str, *sources: Sequence | Callable[[np.random.Generator], Any]) -> Callable:
    """A decorator that makes a function a template of a level.

    sources: for each of the function's arguments, in order, what it is drawn from: a sequence, or a function of the
    generator. The function returns or yields three things: the problem's text, the right solution, and the slip.
    """

    sources = tuple(source if callable(source) else tuple(source) for source in sources)

    def add(write: Callable[..., Iterable]) -> Callable[..., Iterable]:
        def draw(rng: np.random.Generator) -> MathProblem:
            arguments = [
                source(rng) if callable(source) else source[int(rng.integers(len(source)))]
                for source in sources
            ]
            problem, right, slip = write(*arguments)
            return MathProblem(subject, problem, right, slip)

        TEMPLATES[level].append(draw)
        return write

    return add


def two(options: Sequence) -> Callable[[np.random.Generator], list]:
    """A source of two different options in random order."""
    return lambda rng: [options[i] for i in rng.permutation(len(options))[:2].tolist()]


def frac(value: Fraction | int, unit: str = "") -> str:
    """An exact rational as LaTeX: 3, -\\frac{1}{2}; with a unit such as "\\pi" its multiple: 3\\pi, \\pi, 0."""
    value = Fraction(value)
    sign = "-" if value < 0 else ""
    top, bottom = abs(value.numerator), value.denominator
    if bottom > 1:
        return f"{sign}\\frac{{{top}}}{{{bottom}}}{unit}"
    if top == 0:
        return "0"
    return f"{sign}{unit}" if unit and top == 1 else f"{sign}{top}{unit}"


def root(square: int) -> str:
    """The square root of a whole number >= 0 as LaTeX, simplified: 4, 2\\sqrt{3}, \\sqrt{5}."""
    if square == 0:
        return "0"
    outside = next(k for k in range(isqrt(square), 0, -1) if square % (k * k) == 0)
    inside = square // (outside * outside)
    if inside == 1:
        return str(outside)
    return f"{outside if outside > 1 else ''}\\sqrt{{{inside}}}"


def term(factor: int, letter: str) -> str:
    """A term that is added to another one: +3x, -x, or +3 without a letter; "" if the factor is 0."""
    if factor == 0:
        return ""
    size = "" if abs(factor) == 1 and letter else str(abs(factor))
    return f"{'-' if factor < 0 else '+'}{size}{letter}"


# Level 1. In these templates s and t are signs, "+" or "-".


def _signed(sign: str, digit: int) -> str:
    """A digit with its sign, which is written only if it is a minus: -3, 3."""
    return f"-{digit}" if sign == "-" else str(digit)


@template(1, "Algebra", two(range(2, 10)), "+-", "+-")
def zero_product(digits, s, t):
    """A product that is zero. Slip: the roots get the signs that they have in the factors."""
    a, b = digits
    right_a, wrong_a = _signed(OPPOSITE[s], a), _signed(s, a)
    right_b, wrong_b = _signed(OPPOSITE[t], b), _signed(t, b)
    yield f"Solve $(x{s}{a})(x{t}{b})=0$."
    yield f"x={right_a} x={right_b}", f"{right_a},{right_b}"
    yield f"x={wrong_a} x={wrong_b}", f"{wrong_a},{wrong_b}"


@template(1, "Prealgebra", two(LETTERS), range(2, 10), "+-")
def brackets(letters, a, s):
    """Minus a bracket. Slip: the minus reaches the first term of the bracket only."""
    p, q = letters
    yield f"Simplify ${p}-({a}{s}{q})$."
    yield f"-{a}{OPPOSITE[s]}{q}", f"{p}-{a}{OPPOSITE[s]}{q}"
    yield f"-{a}{s}{q}", f"{p}-{a}{s}{q}"


@template(1, "Algebra", two(LETTERS), range(2, 10), "+-")
def expand(letters, a, s):
    """A factor times a sum. Slip: only the first term is multiplied."""
    p, q = letters
    yield f"Expand ${a}({p}{s}{q})$."
    yield f"{a}*{p} {a}*{q}", f"{a}{p}{s}{a}{q}"
    yield f"{a}*{p} 1*{q}", f"{a}{p}{s}{q}"


@template(1, "Algebra", range(2, 10), range(2, 10), "+-")
def slope_of_line(a, b, s):
    """The slope of a line. Slip: the first number of the equation."""
    return f"Slope of $y={a}{s}{b}x$?", (f"{s}{b}x", _signed(s, b)), (f"y={a}", str(a))


@template(1, "Prealgebra", two(LETTERS), range(2, 10), range(2, 10), range(3))
def reciprocal(letters, a, b, kind):
    """A fraction to the power of -1. Slip: a minus before the fraction. kind: which part is a letter, if any."""
    p = letters[0]  # a second letter is drawn, as the fixed sets depend on the draws
    top, bottom = ((a, b), (p, b), (a, p))[kind]
    yield f"Find $({top}/{bottom})^{{-1}}$."
    yield f"1/({top}/{bottom})", f"{bottom}/{top}"
    yield f"-({top}/{bottom})", f"-{top}/{bottom}"


@template(1, "Intermediate Algebra", range(2, 10), range(2, 10), "+-", "+-")
def vertex_of_square(a, b, s, t):
    """The vertex of a parabola. Slip: its first coordinate gets the sign that it has in the bracket."""
    right_x, wrong_x, y = _signed(OPPOSITE[s], a), _signed(s, a), _signed(t, b)
    yield f"Vertex of $(x{s}{a})^2{t}{b}$?"
    yield f"x={right_x}", f"({right_x},{y})"
    yield f"x={wrong_x}", f"({wrong_x},{y})"


@template(1, "Geometry", range(2, 10), range(2, 10), "+-", "+-")
def mirror(a, b, s, t):
    """A point mirrored in the line y=x. Slip: it is mirrored in the y-axis."""
    x, y, minus_x = _signed(s, a), _signed(t, b), _signed(OPPOSITE[s], a)
    yield f"Mirror $({x},{y})$ in $y=x$."
    yield f"x={y}", f"({y},{x})"
    yield f"x={minus_x}", f"({minus_x},{y})"


@template(1, "Number Theory", range(1, 10), range(0, 10), range(0, 10))
def last_digit(a, b, c):
    """A number of the digits a, b, c modulo 10. Slip: the quotient."""
    work = f"10*{a}{b}+{c}"
    return rf"Find ${a}{b}{c}\bmod 10$.", (work, str(c)), (work, f"{a}{b}")


@template(1, "Counting & Probability", two(LETTERS), range(2, 10), two(WARES))
def outfits(letters, a, wares):
    """In how many ways one of each kind can be chosen, e.g. from 4 hats and p ties. Slip: 4 + p, not 4p."""
    p = letters[0]  # a second letter is drawn, as the fixed sets depend on the draws
    one, other = wares
    return f"Pairs: {a} {one}, {p} {other}?", (f"{a}*{p}", f"{a}{p}"), (f"{a}+{p}", f"{a}+{p}")


@template(1, "Precalculus", range(2, 10), range(2, 10), "+-", "+-")
def conjugate(a, b, s, t):
    """The conjugate of a complex number. Slip: the real part changes its sign."""
    real, minus_real = _signed(s, a), _signed(OPPOSITE[s], a)
    yield f"Conjugate of ${real}{t}{b}i$?"
    yield f"{OPPOSITE[t]}{b}i", f"{real}{OPPOSITE[t]}{b}i"
    yield minus_real, f"{minus_real}{t}{b}i"


# Level 2: fractions, quadratics, divisors, areas, sequences, choices


@template(2, "Prealgebra", range(1, 10), range(2, 10), range(1, 10), range(2, 10))
def fractions(a, b, c, d):
    """The sum a/b + c/d. Slip: tops and bottoms are added."""
    bottom = lcm(b, d)
    total = Fraction(a, b) + Fraction(c, d)
    yield rf"Compute $\frac{{{a}}}{{{b}}}+\frac{{{c}}}{{{d}}}$."
    yield rf"Over {bottom}: ${a * bottom // b}+{c * bottom // d}={total * bottom}$ parts.", frac(total)
    yield rf"${a}+{c}={a + c}$ over ${b}+{d}={b + d}$.", frac(Fraction(a + c, b + d))


@template(2, "Prealgebra", (5, 10, 15, 20, 25, 30, 40, 50, 60), range(1, 61))
def discount(percent, twenties):
    """The price before a discount. Slip: the discount is added to the lower price."""
    before = 20 * twenties
    left, more = 100 - percent, 100 + percent
    after = before * left // 100
    right_work = rf"${after}$ is ${left}\%$ of the price, so it was $\frac{{{after}\cdot100}}{{{left}}}$."
    wrong_work = rf"${percent}\%$ more than ${after}$ is $\frac{{{after}\cdot{more}}}{{100}}$."
    yield rf"After a discount of ${percent}\%$ a coat costs ${after}$ dollars. How many dollars did it cost before?"
    yield right_work, str(before)
    yield wrong_work, frac(Fraction(after * more, 100))


@template(2, "Algebra", range(-12, 13), range(-12, 13))
def larger_root(p, q):
    """The larger of the roots p and q of a quadratic. Slip: the roots get the signs that they have in the factors."""
    # E.g. (x-3)(x+5); with the root 0 a factor is written (x-0).
    factors = f"(x{term(-p, '') or '-0'})(x{term(-q, '') or '-0'})"
    yield f"What is the larger root of $x^2{term(-p - q, 'x')}{term(p * q, '')}=0$?"
    yield f"${factors}=0$, so $x={p}$ or $x={q}$.", str(max(p, q))
    yield f"${factors}=0$, so $x={-p}$ or $x={-q}$.", str(max(-p, -q))


@template(2, "Algebra", range(-9, 10), range(-9, 10), range(1, 10), [-7, -5, -4, -3, 2, 3, 6, 8])
def slope_through_points(x, y, dx, dy):
    """The slope through two points, rise over run. Slip: run over rise."""
    yield f"What is the slope of the line through $({x},{y})$ and $({x + dx},{y + dy})$?"
    yield f"The rise is ${dy}$ and the run is ${dx}$: rise over run.", frac(Fraction(dy, dx))
    yield f"The run is ${dx}$ and the rise is ${dy}$: run over rise.", frac(Fraction(dx, dy))


@template(2, "Algebra", range(2, 7), range(-9, 10), range(-9, 10), range(-5, 6))
def composition(a, b, c, x):
    """f(g(x)) at a number, for f(x) = ax + b and g(x) = x^2 + c. Slip: g(f(x))."""
    g_of_x, f_of_x = x * x + c, a * x + b
    right, wrong = a * g_of_x + b, f_of_x * f_of_x + c
    yield f"Let $f(x)={a}x{term(b, '')}$ and $g(x)=x^2{term(c, '')}$. Find $f(g({x}))$."
    yield f"$g({x})={g_of_x}$, then $f({g_of_x})={right}$.", str(right)
    yield f"$f({x})={f_of_x}$, then $g({f_of_x})={wrong}$.", str(wrong)


@template(2, "Number Theory", range(2, 16), range(2, 13), range(2, 13))
def divisor(g, a, b):
    """The greatest common divisor. Slip: the least common multiple."""
    m, n = g * a, g * b
    yield f"What is the greatest common divisor of ${m}$ and ${n}$?"
    yield f"The largest number that divides both ${m}$ and ${n}$.", str(gcd(m, n))
    yield f"The smallest number that both ${m}$ and ${n}$ divide.", str(lcm(m, n))


@template(2, "Number Theory", range(50, 1000), range(3, 14))
def remainder(n, m):
    """A remainder. Slip: the quotient."""
    work = rf"${n}={n // m}\cdot{m}+{n % m}$."
    return f"What is the remainder when ${n}$ is divided by ${m}$?", (work, str(n % m)), (work, str(n // m))


@template(2, "Geometry", range(2, 41), range(2, 41))
def triangle(base, height):
    """The area of a triangle. Slip: base times height is not halved."""
    yield f"A triangle has base ${base}$ and height ${height}$. What is its area?"
    yield rf"Half of ${base}\cdot{height}={base * height}$.", frac(Fraction(base * height, 2))
    yield rf"${base}\cdot{height}={base * height}$.", str(base * height)


@template(2, "Geometry", range(2, 21), (30, 36, 40, 45, 60, 72, 90, 120, 135, 150, 240, 270))
def sector(r, angle):
    """The area of a sector. Slip: the length of its arc."""
    part = Fraction(angle, 360)
    yield rf"What is the area of a sector of ${angle}^\circ$ of a circle of radius ${r}$?"
    yield rf"${frac(part)}$ of the circle's area ${r * r}\pi$.", frac(part * r * r, r"\pi")
    yield rf"${frac(part)}$ of the circle's length ${2 * r}\pi$.", frac(part * 2 * r, r"\pi")


@template(2, "Counting & Probability", range(5, 31), range(2, 5), COMMITTEES)
def committee(n, k, what):
    """The number of choices without order. Slip: the order of a choice is counted, too."""
    yield f"In how many ways can a {what} of ${k}$ be chosen from ${n}$ people?"
    yield rf"The order does not matter: $\binom{{{n}}}{{{k}}}$.", str(comb(n, k))
    yield rf"${k}$ choices one after another, from ${n}$ down.", str(perm(n, k))


@template(2, "Intermediate Algebra", range(-20, 41), [-7, -5, -3, -2, 2, 3, 4, 6, 9], range(8, 41))
def sequence(a, d, n):
    """A term of an arithmetic sequence. Slip: one step too many."""
    yield rf"What is term number ${n}$ of the arithmetic sequence ${a},{a + d},{a + 2 * d},\dots$?"
    yield rf"${a}$ and ${n - 1}$ steps of ${d}$.", str(a + (n - 1) * d)
    yield rf"${a}$ and ${n}$ steps of ${d}$.", str(a + n * d)


@template(2, "Prealgebra", range(2, 13), range(2, 13), range(2, 10), "xyzntw")
def powers(a, b, c, letter):
    """A product of powers. Slip: the exponents are multiplied."""
    yield rf"Simplify ${c}{letter}^{{{a}}}\cdot {letter}^{{{b}}}$."
    yield rf"The exponents add: ${a}+{b}={a + b}$.", rf"{c}{letter}^{{{a + b}}}"
    yield rf"The exponents multiply: ${a}\cdot{b}={a * b}$.", rf"{c}{letter}^{{{a * b}}}"


# Level 3: pairs, intervals, roots, residues, probabilities, complex numbers, bases


@template(3, "Algebra", range(-9, 10), range(-9, 10), range(1, 7), range(1, 7))
def system(x, y, a, b):
    """Two linear equations. Slip: the pair has y before x."""
    text = f"${a}x+{b}y={a * x + b * y}$ and ${a}x-{b}y={a * x - b * y}$"
    sums = f"Sum and difference give ${2 * a}x={2 * a * x}$ and ${2 * b}y={2 * b * y}$"
    yield f"Find the pair $(x,y)$ with {text}."
    yield f"{sums}, so $x={x}$, $y={y}$.", f"({x},{y})"
    yield f"{sums}, so $y={y}$, $x={x}$.", f"({y},{x})"


@template(3, "Algebra", range(2, 10), range(1, 31), range(-9, 10))
def inequality(a, b, edge):
    """An inequality with a negative factor, solved as an interval. Slip: the sign < is not turned."""
    c = b - a * edge
    divided = rf"$-{a}x<{c - b}$, so "
    yield rf"Solve ${b}-{a}x<{c}$. Write the solution as an interval."
    yield f"{divided}$x>{edge}$.", rf"({edge},\infty)"
    yield f"{divided}$x<{edge}$.", rf"(-\infty,{edge})"


@template(3, "Intermediate Algebra", range(2, 16), (2, 3, 5, 6, 7, 10, 11, 13, 14, 15, 17, 19, 21))
def radical(outside, inside):
    """Simplify a root. Slip: what stays inside and what comes out change places."""
    n = outside * outside * inside
    work = rf"${n}={outside}^2\cdot{inside}$."
    yield rf"Simplify $\sqrt{{{n}}}$."
    yield work, rf"{outside}\sqrt{{{inside}}}"
    yield work, rf"{inside}\sqrt{{{outside}}}"


@template(3, "Number Theory", range(2, 13), range(3, 31), range(5, 24))
def power_residue(a, n, m):
    """A power modulo m. Slip: the product of base and exponent modulo m."""
    yield f"What is the remainder when ${a}^{{{n}}}$ is divided by ${m}$?"
    yield rf"Squares and products modulo ${m}$: ${a}^{{{n}}}\equiv{pow(a, n, m)}$.", str(pow(a, n, m))
    yield rf"${a}\cdot{n}={a * n}\equiv{a * n % m}$ modulo ${m}$.", str(a * n % m)


@template(3, "Number Theory", range(50, 1000), range(3, 10))
def base(n, b):
    """A number in another base. Slip: the remainders are read from the first to the last."""
    digits, rest = "", n
    while rest:
        digits += str(rest % b)
        rest //= b
    work = f"The remainders by ${b}$ are {', '.join(digits)}"
    yield f"Write ${n}$ in base ${b}$."
    yield f"{work}; from the last to the first.", f"{digits[::-1]}_{{{b}}}"
    yield f"{work}; from the first to the last.", f"{digits}_{{{b}}}"


@template(3, "Counting & Probability", range(2, 21), range(2, 21))
def balls(red, blue):
    """Two balls are drawn without putting back. Slip: as if the first were put back."""
    n = red + blue
    chance = Fraction(red * (red - 1), n * (n - 1))
    bag = f"A bag holds ${red}$ red and ${blue}$ blue balls."
    yield f"{bag} Two are drawn at once. What is the probability that both are red?"
    yield rf"$\frac{{{red}}}{{{n}}}\cdot\frac{{{red - 1}}}{{{n - 1}}}$.", frac(chance)
    yield rf"$\frac{{{red}}}{{{n}}}\cdot\frac{{{red}}}{{{n}}}$.", frac(Fraction(red * red, n * n))


@template(3, "Counting & Probability", range(4, 61), range(2, 5))
def dice(sides, k):
    """At least one success in k tries. Slip: the chances are added."""
    chance = Fraction(1, sides)
    rolls = f"A fair die with ${sides}$ sides is rolled ${k}$ times."
    yield f"{rolls} What is the probability of at least one $1$?"
    yield rf"$1-\left({frac(1 - chance)}\right)^{k}$.", frac(1 - (1 - chance) ** k)
    yield rf"${k}\cdot{frac(chance)}$.", frac(k * chance)


@template(3, "Precalculus", range(1, 10), range(1, 10), range(1, 10), range(-9, 0))
def complex_product(a, b, c, d):
    """A product of complex numbers. Slip: i^2 is taken as 1."""
    middle = a * d + b * c
    terms = f"${a * c}{term(a * d, 'i')}{term(b * c, 'i')}{term(b * d, 'i^2')}$"
    yield f"Write $({a}{term(b, 'i')})({c}{term(d, 'i')})$ in the form $a+bi$."
    yield f"{terms} with $i^2=-1$.", f"{a * c - b * d}{term(middle, 'i')}"
    yield f"{terms} with $i^2=1$.", f"{a * c + b * d}{term(middle, 'i')}"


@template(3, "Geometry", range(-9, 10), range(-9, 10), range(1, 13), range(1, 13))
def distance(x, y, dx, dy):
    """The distance of two points. Slip: the legs are added."""
    yield f"What is the distance between $({x},{y})$ and $({x + dx},{y + dy})$?"
    yield rf"$\sqrt{{{dx}^2+{dy}^2}}=\sqrt{{{dx * dx + dy * dy}}}$.", root(dx * dx + dy * dy)
    yield f"${dx}+{dy}={dx + dy}$.", str(dx + dy)


@template(3, "Intermediate Algebra", range(1, 16), range(1, 16))
def both_roots(p, more):
    """Both roots of a quadratic. Slip: the roots get the signs that they have in the factors."""
    q = p + more
    factors = f"$(x-{p})(x-{q})=0$"
    yield f"Find all roots of $x^2-{p + q}x+{p * q}$, separated by commas."
    yield f"{factors}, so $x={p}$ or $x={q}$.", f"{p},{q}"
    yield f"{factors}, so $x=-{q}$ or $x=-{p}$.", f"-{q},-{p}"


@template(3, "Intermediate Algebra", range(1, 21), range(1, 8), range(1, 7))
def series(a, top, more):
    """An infinite geometric series. Slip: the denominator is 1 plus the ratio, not 1 minus it."""
    ratio = Fraction(top, top + more)
    terms = f"{a}+{frac(a * ratio)}+{frac(a * ratio**2)}"
    yield rf"Find the sum of the infinite geometric series ${terms}+\cdots$."
    yield rf"${a}$ divided by $1-{frac(ratio)}$.", frac(a / (1 - ratio))
    yield rf"${a}$ divided by $1+{frac(ratio)}$.", frac(a / (1 + ratio))


@template(3, "Precalculus", *[range(-9, 10)] * 4)
def determinant(a, b, c, d):
    """A 2x2 determinant. Slip: the second product is added."""
    yield rf"Compute $\begin{{vmatrix}} {a} & {b} \\ {c} & {d} \end{{vmatrix}}$."
    yield rf"$({a})({d})-({b})({c})$.", str(a * d - b * c)
    yield rf"$({a})({d})+({b})({c})$.", str(a * d + b * c)


@template(3, "Intermediate Algebra", range(-12, 13), range(-12, 13))
def vertex_of_quadratic(h, k):
    """The vertex (h, k) of a parabola. Slip: the first coordinate has the other sign."""
    square = f"$y=(x{term(-h, '')})^2{term(k, '')}$"
    yield f"What is the vertex of the parabola $y=x^2{term(-2 * h, 'x')}{term(h * h + k, '')}$? Answer as a pair."
    yield f"{square}.", f"({h},{k})"
    yield f"{square}.", f"({-h},{k})"
