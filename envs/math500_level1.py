r"""Level 1 of the generated problems: one rule each, one-digit numbers, no arithmetic, at most 26 characters.

Right and slip differ in the rule alone: a sign, an order, a factor. In each template every number has the same place.
So a model of a million weights learns in minutes to do both without a mistake, and what is left to learn is which rule
is the right one. A completion has at most 14 characters and two tags; answers need no more than +, - and ().
"""

import numpy as np

from envs.math500_item import Item, choose, pick

LETTERS = "abckmnpt"
WARES = ("hats", "ties", "caps", "bags", "pens", "mugs", "keys", "toys")


def _digit(rng: np.random.Generator) -> int:
    return pick(rng, 2, 9)


def _sign(rng: np.random.Generator) -> str:
    return choose(rng, "+-")


def _two(rng: np.random.Generator, options: str | tuple[str, ...]) -> tuple[str, str]:
    first, second = rng.permutation(len(options))[:2].tolist()
    return options[first], options[second]


def _other(sign: str) -> str:
    return "-" if sign == "+" else "+"


def _number(sign: str, digit: int) -> str:
    """With its sign only where that is a minus."""
    return f"-{digit}" if sign == "-" else str(digit)


def roots(rng: np.random.Generator) -> Item:
    """A product that is zero. Slip: the roots get the signs that they have in the factors."""
    a, b = (int(digit) for digit in _two(rng, "23456789"))
    s, t = _sign(rng), _sign(rng)
    x, y, u, v = _number(_other(s), a), _number(_other(t), b), _number(s, a), _number(t, b)
    return Item(
        "Algebra",
        f"Solve $(x{s}{a})(x{t}{b})=0$.",
        f"x={x} x={y}",
        f"{x},{y}",
        f"x={u} x={v}",
        f"{u},{v}",
    )


def brackets(rng: np.random.Generator) -> Item:
    """Minus a bracket. Slip: the minus reaches the first term of the bracket only."""
    (p, q), a, s = _two(rng, LETTERS), _digit(rng), _sign(rng)
    return Item(
        "Prealgebra",
        f"Simplify ${p}-({a}{s}{q})$.",
        f"-{a}{_other(s)}{q}",
        f"{p}-{a}{_other(s)}{q}",
        f"-{a}{s}{q}",
        f"{p}-{a}{s}{q}",
    )


def expand(rng: np.random.Generator) -> Item:
    """A factor times a sum. Slip: only the first term is multiplied."""
    (p, q), a, s = _two(rng, LETTERS), _digit(rng), _sign(rng)
    return Item(
        "Algebra",
        f"Expand ${a}({p}{s}{q})$.",
        f"{a}*{p} {a}*{q}",
        f"{a}{p}{s}{a}{q}",
        f"{a}*{p} 1*{q}",
        f"{a}{p}{s}{q}",
    )


def slope(rng: np.random.Generator) -> Item:
    """The slope of a line. Slip: the first number of the equation."""
    a, b, s = _digit(rng), _digit(rng), _sign(rng)
    return Item(
        "Algebra",
        f"Slope of $y={a}{s}{b}x$?",
        f"{s}{b}x",
        _number(s, b),
        f"y={a}",
        str(a),
    )


def reciprocal(rng: np.random.Generator) -> Item:
    """A fraction to the power of -1. Slip: a minus before the fraction."""
    (p, _), a, b = _two(rng, LETTERS), _digit(rng), _digit(rng)
    top, bottom = choose(rng, ((str(a), str(b)), (p, str(b)), (str(a), p)))
    return Item(
        "Prealgebra",
        f"Find $({top}/{bottom})^{{-1}}$.",
        f"1/({top}/{bottom})",
        f"{bottom}/{top}",
        f"-({top}/{bottom})",
        f"-{top}/{bottom}",
    )


def vertex(rng: np.random.Generator) -> Item:
    """The vertex of a parabola. Slip: its first coordinate gets the sign that it has in the bracket."""
    a, b, s, t = _digit(rng), _digit(rng), _sign(rng), _sign(rng)
    x, u, y = _number(_other(s), a), _number(s, a), _number(t, b)
    return Item(
        "Intermediate Algebra",
        f"Vertex of $(x{s}{a})^2{t}{b}$?",
        f"x={x}",
        f"({x},{y})",
        f"x={u}",
        f"({u},{y})",
    )


def mirror(rng: np.random.Generator) -> Item:
    """A point mirrored in the line y=x. Slip: in the y-axis."""
    a, b, s, t = _digit(rng), _digit(rng), _sign(rng), _sign(rng)
    x, y, u = _number(s, a), _number(t, b), _number(_other(s), a)
    return Item(
        "Geometry",
        f"Mirror $({x},{y})$ in $y=x$.",
        f"x={y}",
        f"({y},{x})",
        f"x={u}",
        f"({u},{y})",
    )


def residue(rng: np.random.Generator) -> Item:
    """A number modulo 10. Slip: the quotient."""
    a, b, c = pick(rng, 1, 9), pick(rng, 0, 9), pick(rng, 0, 9)
    work = f"10*{a}{b}+{c}"
    return Item(
        "Number Theory",
        rf"Find ${a}{b}{c}\bmod 10$.",
        work,
        str(c),
        work,
        f"{a}{b}",
    )


def outfits(rng: np.random.Generator) -> Item:
    """In how many ways one of each kind can be chosen. Slip: the numbers are added."""
    (p, _), a, (one, other) = _two(rng, LETTERS), _digit(rng), _two(rng, WARES)
    return Item(
        "Counting & Probability",
        f"Pairs: {a} {one}, {p} {other}?",
        f"{a}*{p}",
        f"{a}{p}",
        f"{a}+{p}",
        f"{a}+{p}",
    )


def conjugate(rng: np.random.Generator) -> Item:
    """The conjugate of a complex number. Slip: the real part changes its sign."""
    a, b, s, t = _digit(rng), _digit(rng), _sign(rng), _sign(rng)
    x, u = _number(s, a), _number(_other(s), a)
    return Item(
        "Precalculus",
        f"Conjugate of ${x}{t}{b}i$?",
        f"{_other(t)}{b}i",
        f"{x}{_other(t)}{b}i",
        u,
        f"{u}{t}{b}i",
    )


TEMPLATES = (
    roots,
    brackets,
    expand,
    slope,
    reciprocal,
    vertex,
    mirror,
    residue,
    outfits,
    conjugate,
)
