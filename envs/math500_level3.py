"""Level 3 of the generated problems: pairs, intervals, roots, residues, probabilities, complex numbers, bases."""

from fractions import Fraction

import numpy as np

from envs.math500_item import Item, choose, frac, pick, root, term


def system(rng: np.random.Generator) -> Item:
    """Two linear equations. Slip: y before x."""
    x, y, a, b = pick(rng, -9, 9), pick(rng, -9, 9), pick(rng, 1, 6), pick(rng, 1, 6)
    text = f"${a}x+{b}y={a * x + b * y}$ and ${a}x-{b}y={a * x - b * y}$"
    sums = f"Sum and difference give ${2 * a}x={2 * a * x}$ and ${2 * b}y={2 * b * y}$"
    return Item(
        "Algebra",
        f"Find the pair $(x,y)$ with {text}.",
        f"{sums}, so $x={x}$, $y={y}$.",
        f"({x},{y})",
        f"{sums}, so $y={y}$, $x={x}$.",
        f"({y},{x})",
    )


def inequality(rng: np.random.Generator) -> Item:
    """An inequality with a negative factor, as an interval. Slip: its sign is not turned."""
    a, b, edge = pick(rng, 2, 9), pick(rng, 1, 30), pick(rng, -9, 9)
    c = b - a * edge
    divided = rf"$-{a}x<{c - b}$, so "
    return Item(
        "Algebra",
        rf"Solve ${b}-{a}x<{c}$. Write the solution as an interval.",
        f"{divided}$x>{edge}$.",
        rf"({edge},\infty)",
        f"{divided}$x<{edge}$.",
        rf"(-\infty,{edge})",
    )


def radical(rng: np.random.Generator) -> Item:
    """Simplify a root. Slip: what stays inside and what comes out change places."""
    outside, inside = pick(rng, 2, 15), choose(rng, (2, 3, 5, 6, 7, 10, 11, 13, 14, 15, 17, 19, 21))
    n = outside * outside * inside
    work = rf"${n}={outside}^2\cdot{inside}$."
    return Item(
        "Intermediate Algebra",
        rf"Simplify $\sqrt{{{n}}}$.",
        work,
        rf"{outside}\sqrt{{{inside}}}",
        work,
        rf"{inside}\sqrt{{{outside}}}",
    )


def residue(rng: np.random.Generator) -> Item:
    """A power modulo m. Slip: multiplied instead of raised."""
    a, n, m = pick(rng, 2, 12), pick(rng, 3, 30), pick(rng, 5, 23)
    return Item(
        "Number Theory",
        f"What is the remainder when ${a}^{{{n}}}$ is divided by ${m}$?",
        rf"Squares and products modulo ${m}$: ${a}^{{{n}}}\equiv{pow(a, n, m)}$.",
        str(pow(a, n, m)),
        rf"${a}\cdot{n}={a * n}\equiv{a * n % m}$ modulo ${m}$.",
        str(a * n % m),
    )


def base(rng: np.random.Generator) -> Item:
    """A number in another base. Slip: the remainders are read from the first to the last."""
    n, b = pick(rng, 50, 999), pick(rng, 3, 9)
    digits, rest = "", n
    while rest:
        digits, rest = digits + str(rest % b), rest // b
    work = f"The remainders by ${b}$ are {', '.join(digits)}"
    return Item(
        "Number Theory",
        f"Write ${n}$ in base ${b}$.",
        f"{work}; from the last to the first.",
        f"{digits[::-1]}_{{{b}}}",
        f"{work}; from the first to the last.",
        f"{digits}_{{{b}}}",
    )


def balls(rng: np.random.Generator) -> Item:
    """Two balls without putting back. Slip: as if the first were put back."""
    red, blue = pick(rng, 2, 20), pick(rng, 2, 20)
    n = red + blue
    return Item(
        "Counting & Probability",
        f"A bag holds ${red}$ red and ${blue}$ blue balls. Two are drawn at once. What is the probability that "
        "both are red?",
        rf"$\frac{{{red}}}{{{n}}}\cdot\frac{{{red - 1}}}{{{n - 1}}}$.",
        frac(Fraction(red * (red - 1), n * (n - 1))),
        rf"$\frac{{{red}}}{{{n}}}\cdot\frac{{{red}}}{{{n}}}$.",
        frac(Fraction(red * red, n * n)),
    )


def dice(rng: np.random.Generator) -> Item:
    """At least one success in k tries. Slip: the chances are added."""
    sides, k = pick(rng, 4, 60), pick(rng, 2, 4)
    one = Fraction(1, sides)
    return Item(
        "Counting & Probability",
        f"A fair die with ${sides}$ sides is rolled ${k}$ times. What is the probability of at least one $1$?",
        rf"$1-\left({frac(1 - one)}\right)^{k}$.",
        frac(1 - (1 - one) ** k),
        rf"${k}\cdot{frac(one)}$.",
        frac(k * one),
    )


def complex_product(rng: np.random.Generator) -> Item:
    """A product of complex numbers. Slip: i^2 is taken as 1."""
    a, b, c, d = pick(rng, 1, 9), pick(rng, 1, 9), pick(rng, 1, 9), pick(rng, -9, -1)
    middle = a * d + b * c
    terms = f"${a * c}{term(a * d, 'i')}{term(b * c, 'i')}{term(b * d, 'i^2')}$"
    return Item(
        "Precalculus",
        f"Write $({a}{term(b, 'i')})({c}{term(d, 'i')})$ in the form $a+bi$.",
        f"{terms} with $i^2=-1$.",
        f"{a * c - b * d}{term(middle, 'i')}",
        f"{terms} with $i^2=1$.",
        f"{a * c + b * d}{term(middle, 'i')}",
    )


def distance(rng: np.random.Generator) -> Item:
    """The distance of two points. Slip: the legs are added."""
    x, y, dx, dy = pick(rng, -9, 9), pick(rng, -9, 9), pick(rng, 1, 12), pick(rng, 1, 12)
    return Item(
        "Geometry",
        f"What is the distance between $({x},{y})$ and $({x + dx},{y + dy})$?",
        rf"$\sqrt{{{dx}^2+{dy}^2}}=\sqrt{{{dx * dx + dy * dy}}}$.",
        root(dx * dx + dy * dy),
        f"${dx}+{dy}={dx + dy}$.",
        str(dx + dy),
    )


def roots(rng: np.random.Generator) -> Item:
    """Both roots of a quadratic. Slip: the roots get the signs of the factors."""
    p = pick(rng, 1, 15)
    q = p + pick(rng, 1, 15)
    factors = f"$(x-{p})(x-{q})=0$"
    return Item(
        "Intermediate Algebra",
        f"Find all roots of $x^2-{p + q}x+{p * q}$, separated by commas.",
        f"{factors}, so $x={p}$ or $x={q}$.",
        f"{p},{q}",
        f"{factors}, so $x=-{q}$ or $x=-{p}$.",
        f"-{q},-{p}",
    )


def series(rng: np.random.Generator) -> Item:
    """An infinite geometric series. Slip: the ratio's sign in the denominator."""
    a, top = pick(rng, 1, 20), pick(rng, 1, 7)
    ratio = Fraction(top, top + pick(rng, 1, 6))
    return Item(
        "Intermediate Algebra",
        rf"Find the sum of the infinite geometric series ${a}+{frac(a * ratio)}+{frac(a * ratio**2)}+\cdots$.",
        rf"${a}$ divided by $1-{frac(ratio)}$.",
        frac(a / (1 - ratio)),
        rf"${a}$ divided by $1+{frac(ratio)}$.",
        frac(a / (1 + ratio)),
    )


def determinant(rng: np.random.Generator) -> Item:
    """A 2x2 determinant. Slip: the second product is added."""
    a, b, c, d = (pick(rng, -9, 9) for _ in range(4))
    return Item(
        "Precalculus",
        rf"Compute $\begin{{vmatrix}} {a} & {b} \\ {c} & {d} \end{{vmatrix}}$.",
        rf"$({a})({d})-({b})({c})$.",
        str(a * d - b * c),
        rf"$({a})({d})+({b})({c})$.",
        str(a * d + b * c),
    )


def vertex(rng: np.random.Generator) -> Item:
    """The vertex of a parabola. Slip: the first coordinate with the other sign."""
    h, k = pick(rng, -12, 12), pick(rng, -12, 12)
    square = f"$y=(x{term(-h, '')})^2{term(k, '')}$"
    return Item(
        "Intermediate Algebra",
        f"What is the vertex of the parabola $y=x^2{term(-2 * h, 'x')}{term(h * h + k, '')}$? Answer as a pair.",
        f"{square}.",
        f"({h},{k})",
        f"{square}.",
        f"({-h},{k})",
    )


TEMPLATES = (
    system,
    inequality,
    radical,
    residue,
    base,
    balls,
    dice,
    complex_product,
    distance,
    roots,
    series,
    determinant,
    vertex,
)
