"""The answer of a generated MATH problem, found again from its text alone, where possible by trying all values."""

import re
from fractions import Fraction
from math import comb

import numpy as np

N, S = r"(\d+)", r"(-?\d+)"
TERM = r"([+-]\d*)"


def number(sign_and_digits: str) -> int:
    """A coefficient: "+3" -> 3, "-" -> -1, "" (no such term) -> 0."""
    return int(sign_and_digits + "1") if sign_and_digits in ("+", "-") else int(sign_and_digits or 0)


def zeros(b: str, c: str) -> list[int]:
    b, c = number(b), number(c)
    return [x for x in range(-40, 41) if x * x + b * x + c == 0]


def factors(a: str, b: str) -> str:
    return ",".join(str(x) for x in range(-20, 21) if (x + int(a)) * (x + int(b)) == 0)


def pair(a, b, c, d, e, f) -> str:
    every = [(x, y) for x in range(-9, 10) for y in range(-9, 10)]
    return next(f"({x},{y})" for x, y in every if a * x + b * y == c and d * x - e * y == f)


def lowest(b: str | int, c: str | int) -> str:
    values = {x: x * x + number(str(b)) * x + number(str(c)) for x in range(-40, 41)}
    x = min(values, key=values.get)
    return f"({x},{values[x]})"


def product(a: int, b: str, c: int, d: str) -> str:
    value = complex(a, number(b)) * complex(c, number(d))
    return f"{int(value.real)}{int(value.imag):+d}i"


def whole(function):
    return lambda *texts: str(function(*map(int, texts)))


def quotient(first: str, second: str) -> Fraction:
    top, bottom = re.fullmatch(r"\\frac\{(\d+)\}\{(\d+)\}|(\d+)", second).group(1, 2)
    return (Fraction(int(top), int(bottom)) if top else Fraction(second)) / int(first)


ORACLE = {
    1: [
        (r"Solve \$\(x([+-]\d)\)\(x([+-]\d)\)=0\$\.", factors),
        (r"Simplify \$(\w-\(\d[+-]\w\))\$\.", str),
        (r"Expand \$(\d\(\w[+-]\w\))\$\.", str),
        (r"Slope of \$y=(\d)([+-]\d)x\$\?", lambda a, b: str(int(a) + int(b) - int(a))),
        (r"Find \$\((\w)/(\w)\)\^{-1}\$\.", lambda a, b: rf"\frac{{{b}}}{{{a}}}"),
        (r"Vertex of \$\(x([+-]\d)\)\^2([+-]\d)\$\?", lambda a, b: lowest(2 * int(a), int(a) ** 2 + int(b))),
        (rf"Mirror \$\({S},{S}\)\$ in \$y=x\$\.", lambda x, y: f"({y},{x})"),
        (rf"Find \${N}\\bmod 10\$\.", whole(lambda n: next(d for d in range(10) if (n - d) % 10 == 0))),
        (r"Pairs: (\d) \w+, (\w) \w+\?", lambda a, p: "+".join([p] * int(a))),
        (rf"Conjugate of \${S}{TERM}i\$\?", lambda a, b: f"{a}{-number(b):+d}i"),
    ],
    2: [
        (rf"Compute \$\\frac{{{N}}}{{{N}}}\+\\frac{{{N}}}{{{N}}}\$\.",
         whole(lambda a, b, c, d: Fraction(a, b) + Fraction(c, d))),
        (rf"After a discount of \${N}\\%\$ a coat costs \${N}\$ dollars\. .*",
         whole(lambda p, after: next(x for x in range(9999) if x * (100 - p) == 100 * after))),
        (rf"What is the larger root of \$x\^2(?:{TERM}x)?{TERM}?=0\$\?", lambda b, c: str(max(zeros(b, c)))),
        (rf"What is the slope .* \$\({S},{S}\)\$ and \$\({S},{S}\)\$\?",
         whole(lambda x, y, v, w: Fraction(w - y, v - x))),
        (rf"Let \$f\(x\)={N}x{TERM}?\$ and \$g\(x\)=x\^2{TERM}?\$\. Find \$f\(g\({S}\)\)\$\.",
         lambda a, b, c, x: str(int(a) * (int(x) ** 2 + number(c)) + number(b))),
        (rf"What is the greatest common divisor of \${N}\$ and \${N}\$\?",
         whole(lambda a, b: max(d for d in range(1, a + 1) if a % d == b % d == 0))),
        (rf"What is the remainder when \${N}\$ is divided by \${N}\$\?",
         whole(lambda n, m: n - max(range(0, n + 1, m)))),
        (rf"A triangle has base \${N}\$ and height \${N}\$\. .*",
         whole(lambda b, h: Fraction(b, 2) * h)),
        (rf"What is the area of a sector of \${N}\^\\circ\$ .* radius \${N}\$\?",
         lambda angle, r: f"{Fraction(int(angle) * int(r) ** 2, 360)} \\pi"),
        (rf"In how many ways can a \w+ of \${N}\$ be chosen from \${N}\$ people\?",
         whole(lambda k, n: comb(n, k))),
        (rf"What is term number \${N}\$ .* \${S},{S},{S},\\dots\$\?",
         whole(lambda n, a, b, c: list(range(a, a + n * (b - a), c - b))[n - 1])),
        (
            rf"Simplify \${N}(\w)\^{{{N}}}\\cdot \2\^{{{N}}}\$\.",
            lambda c, letter, a, b: (
                f"{c}{letter}^{int(a)}{letter}^{{{b}}}"
                if int(a) < 10
                else f"{c}{letter}^{{{a}}}{letter}^{{{b}}}"
            ),
        ),
    ],
    3: [
        (rf"Find the pair \$\(x,y\)\$ with \${N}x\+{N}y={S}\$ and \${N}x-{N}y={S}\$\.",
         whole(pair)),
        (rf"Solve \${N}-{N}x<{S}\$\. .*",
         whole(lambda b, a, c: f"({min(x for x in range(-99, 99) if b - a * x < c) - 1},\\infty)")),
        (rf"Simplify \$\\sqrt{{{N}}}\$\.", lambda n: rf"\sqrt{{{n}}}"),
        (rf"What is the remainder when \${N}\^{{{N}}}\$ is divided by \${N}\$\?",
         whole(lambda a, n, m: a**n - a**n // m * m)),
        (rf"Write \${N}\$ in base \${N}\$\.", whole(lambda n, b: f"{np.base_repr(n, b)}_{b}")),
        (rf"A bag holds \${N}\$ red and \${N}\$ blue balls\. .*",
         whole(lambda r, b: Fraction(comb(r, 2), comb(r + b, 2)))),
        (rf"A fair die with \${N}\$ sides is rolled \${N}\$ times\. .*",
         whole(lambda s, k: Fraction(s**k - (s - 1) ** k, s**k))),
        (rf"Write \$\({N}{TERM}i\)\({N}{TERM}i\)\$ in the form \$a\+bi\$\.",
         lambda a, b, c, d: product(int(a), b, int(c), d)),
        (rf"What is the distance between \$\({S},{S}\)\$ and \$\({S},{S}\)\$\?",
         whole(lambda x, y, v, w: rf"\sqrt{{{(v - x) ** 2 + (w - y) ** 2}}}")),
        (rf"Find all roots of \$x\^2{TERM}x{TERM}\$, separated by commas\.",
         lambda b, c: ",".join(map(str, zeros(b, c)))),
        (rf"Find the sum of the infinite geometric series \${N}\+([^+]+)\+[^+]+\+\\cdots\$\.",
         lambda a, b: str(int(a) / (1 - quotient(a, b)))),
        (rf"Compute \$\\begin{{vmatrix}} {S} & {S} \\\\ {S} & {S} \\end{{vmatrix}}\$\.",
         whole(lambda a, b, c, d: round(np.linalg.det([[a, b], [c, d]])))),
        (rf"What is the vertex of the parabola \$y=x\^2(?:{TERM}x)?{TERM}?\$\? .*", lowest),
    ],
}  # fmt: skip


def answer(level: int, text: str) -> tuple[int, str]:
    """(the template's number, the answer in some notation) of a problem's text."""
    for place, (pattern, solve) in enumerate(ORACLE[level]):
        if found := re.fullmatch(pattern, text):
            return place, solve(*(part or "" for part in found.groups()))
    raise LookupError(f"no template reads {text!r}")
