"""Level 1 of the generated problems: two steps within the tables of one-digit numbers, at most 24 characters.

Right and slip are each at most two steps that the working spells out, and nearly every step takes two digits from 1
to 9, so that every token of a completion needs one small fact out of some three hundred: this is what a model of a
million weights learns in minutes. In each template a number always has the same place. A completion has at most
15 characters and two tags.
"""

import numpy as np

from envs.math500_item import Item, choose, pick

SMALL_PRODUCTS = tuple((p, q) for p in range(2, 10) for q in range(1, 10) if p * q < 10)
"""The 14 pairs with a product of one digit, the first factor not 1."""
VERBS = ("Evaluate", "Compute", "Find")
LETTERS = "xyztnk"
PLACES = ("room", "yard", "park", "lawn", "hall", "farm")
THINGS = ("integers", "pages", "seats", "days", "rooms")


def brackets(rng: np.random.Generator) -> Item:
    """a-(b-c) with a > b. Slip: the minus before the bracket reaches its first number only."""
    b, c = pick(rng, 1, 8), pick(rng, 1, 9)
    a = pick(rng, b + 1, 9)
    inner, left = b - c, a - b
    outer = f"{a}-{inner}" if inner >= 0 else f"{a}+{-inner}"
    return Item(
        "Prealgebra",
        f"{choose(rng, VERBS)} ${a}-({b}-{c})$.",
        f"{b}-{c}={inner} {outer}={a - inner}",
        str(a - inner),
        f"{a}-{b}={left} {left}-{c}={left - c}",
        str(left - c),
    )


def order(rng: np.random.Generator) -> Item:
    """a+b(c). Slip: from left to right, the sum first."""
    c, b = choose(rng, SMALL_PRODUCTS)
    a = pick(rng, 1, 9 - b)
    return Item(
        "Prealgebra",
        f"{choose(rng, VERBS)} ${a}+{b}({c})$.",
        f"{b}*{c}={b * c} {a}+{b * c}={a + b * c}",
        str(a + b * c),
        f"{a}+{b}={a + b} {a + b}*{c}={(a + b) * c}",
        str((a + b) * c),
    )


def solve(rng: np.random.Generator) -> Item:
    """x+a=b(c) or x-a=b(c). Slip: a changes sides and keeps its sign."""
    b, c = choose(rng, SMALL_PRODUCTS)
    a, product = pick(rng, 1, 9), b * c
    sign, other = choose(rng, ("+-", "-+"))
    more, less = product + a, product - a
    right, wrong = (less, more) if sign == "+" else (more, less)
    return Item(
        "Algebra",
        f"Solve ${choose(rng, LETTERS)}{sign}{a}={b}({c})$.",
        f"{b}*{c}={product} {product}{other}{a}={right}",
        str(right),
        f"{b}*{c}={product} {product}{sign}{a}={wrong}",
        str(wrong),
    )


def distribute(rng: np.random.Generator) -> Item:
    """a(x+b) at a value of x. Slip: only the first term is multiplied."""
    a, x = choose(rng, SMALL_PRODUCTS)
    b, letter = pick(rng, 1, 9 - x), choose(rng, LETTERS)
    return Item(
        "Algebra",
        f"Find ${a}({letter}+{b})$ if ${letter}={x}$.",
        f"{x}+{b}={x + b} {a}*{x + b}={a * (x + b)}",
        str(a * (x + b)),
        f"{a}*{x}={a * x} {a * x}+{b}={a * x + b}",
        str(a * x + b),
    )


def negative(rng: np.random.Generator) -> Item:
    """a+bx or a-bx at a negative x. Slip: the sign of x is lost."""
    b, x = choose(rng, SMALL_PRODUCTS)
    a, product = pick(rng, 1, 9), b * x
    sign, other = choose(rng, ("+-", "-+"))
    letter = choose(rng, LETTERS)
    more, less = a + product, a - product
    right, wrong = (less, more) if sign == "+" else (more, less)
    return Item(
        "Algebra",
        f"Find ${a}{sign}{b}{letter}$ if ${letter}=-{x}$.",
        f"{b}*{x}={product} {a}{other}{product}={right}",
        str(right),
        f"{b}*{x}={product} {a}{sign}{product}={wrong}",
        str(wrong),
    )


def absolute(rng: np.random.Generator) -> Item:
    """|a-b|+c with a < b. Slip: the bars are read as plain brackets."""
    b, c = pick(rng, 2, 9), pick(rng, 1, 9)
    a = pick(rng, 1, b - 1)
    less = b - a
    return Item(
        "Intermediate Algebra",
        f"{choose(rng, VERBS)} $|{a}-{b}|+{c}$.",
        f"{a}-{b}=-{less} {less}+{c}={less + c}",
        str(less + c),
        f"{a}-{b}=-{less} {c}-{less}={c - less}",
        str(c - less),
    )


def perimeter(rng: np.random.Generator) -> Item:
    """Around a rectangle. Slip: only two of its four sides."""
    a, b = pick(rng, 1, 9), pick(rng, 1, 9)
    return Item(
        "Geometry",
        f"Perimeter: {a} by {b} {choose(rng, PLACES)}?",
        f"{a}+{b}={a + b} 2*{a + b}={2 * (a + b)}",
        str(2 * (a + b)),
        f"{a}+{b}={a + b}",
        str(a + b),
    )


def integers(rng: np.random.Generator) -> Item:
    """How many integers from a to b. Slip: one end is not counted."""
    a, b = pick(rng, 1, 9), pick(rng, 11, 19)
    return Item(
        "Counting & Probability",
        f"Count {choose(rng, THINGS)} {a} to {b}.",
        f"{b}-{a}={b - a} {b - a}+1={b - a + 1}",
        str(b - a + 1),
        f"{b}-{a}={b - a}",
        str(b - a),
    )


def last_digit(rng: np.random.Generator) -> Item:
    """The last digit of a product. Slip: the last digits are added."""
    tens, p, q = pick(rng, 1, 9), pick(rng, 2, 9), pick(rng, 2, 9)
    return Item(
        "Number Theory",
        f"Last digit of ${tens}{p}({q})$?",
        f"{p}*{q}={p * q}",
        str(p * q % 10),
        f"{p}+{q}={p + q}",
        str((p + q) % 10),
    )


TEMPLATES = (
    brackets,
    order,
    solve,
    distribute,
    negative,
    absolute,
    perimeter,
    integers,
    last_digit,
)
