"""Level 1 of the generated problems: two steps with small numbers, at most 30 characters each.

Right and slip are each at most two steps that the working spells out, so that every token of a completion needs
one small step: this is what a model of a million weights can learn. A completion has at most 18 characters and
two tags.
"""

import numpy as np

from envs.math500_item import Item, choose, pick


def brackets(rng: np.random.Generator) -> Item:
    """a-(b-c). Slip: the minus before the bracket reaches its first number only."""
    a, b, c = pick(rng, 1, 9), pick(rng, 1, 9), pick(rng, 1, 9)
    b, c = (b, c) if a - b - c > -10 else (10 - b, 10 - c)  # no slip below -9
    inner, left = b - c, a - b
    outer = f"{a}-{inner}" if inner >= 0 else f"{a}+{-inner}"
    return Item(
        "Prealgebra",
        f"Evaluate ${a}-({b}-{c})$.",
        f"{b}-{c}={inner} {outer}={a - inner}",
        str(a - inner),
        f"{a}-{b}={left} {left}-{c}={left - c}",
        str(left - c),
    )


def order(rng: np.random.Generator) -> Item:
    """a+b(c). Slip: from left to right, the sum first."""
    total, c = pick(rng, 2, 11), pick(rng, 2, 9)
    a = pick(rng, max(1, total - 9), min(9, total - 1))
    b = total - a
    return Item(
        "Prealgebra",
        f"Evaluate ${a}+{b}({c})$.",
        f"{b}*{c}={b * c} {a}+{b * c}={a + b * c}",
        str(a + b * c),
        f"{a}+{b}={total} {total}*{c}={total * c}",
        str(total * c),
    )


def solve(rng: np.random.Generator) -> Item:
    """ax+b=c or ax-b=c. Slip: b changes sides and keeps its sign."""
    a = pick(rng, 2, 6)
    x = pick(rng, -(-10 // a), 12)
    b = choose(rng, [b for b in range(1, 10) if 2 * b % a == 0])
    sign, other = "-+" if a * x >= b + 10 and rng.random() < 0.5 else "+-"
    c = a * x + b if sign == "+" else a * x - b
    kept = c + b if sign == "+" else c - b
    return Item(
        "Algebra",
        f"Solve ${a}x{sign}{b}={c}$.",
        f"{c}{other}{b}={a * x} {a * x}/{a}={x}",
        str(x),
        f"{c}{sign}{b}={kept} {kept}/{a}={kept // a}",
        str(kept // a),
    )


def distribute(rng: np.random.Generator) -> Item:
    """a(x+b) at a value of x. Slip: only the first term is multiplied."""
    total, a = pick(rng, 2, 11), pick(rng, 2, 9)
    x = pick(rng, max(1, total - 9), min(9, total - 1))
    b = total - x
    return Item(
        "Algebra",
        f"Find ${a}(x+{b})$ if $x={x}$.",
        f"{x}+{b}={total} {a}*{total}={a * total}",
        str(a * total),
        f"{a}*{x}={a * x} {a * x}+{b}={a * x + b}",
        str(a * x + b),
    )


def negative(rng: np.random.Generator) -> Item:
    """a+bx at a negative x. Slip: its sign is lost."""
    b, x = choose(rng, ((2, 9), (3, 6), (4, 4), (5, 3), (6, 3), (7, 2), (8, 2), (9, 2)))
    x = pick(rng, 1, x)
    a = pick(rng, max(1, b * x - 9), 9)
    return Item(
        "Algebra",
        f"Find ${a}+{b}x$ if $x=-{x}$.",
        f"{b}*{x}={b * x} {a}-{b * x}={a - b * x}",
        str(a - b * x),
        f"{b}*{x}={b * x} {a}+{b * x}={a + b * x}",
        str(a + b * x),
    )


def absolute(rng: np.random.Generator) -> Item:
    """|a-b|+c with a < b. Slip: the bars are read as plain brackets."""
    b, c = pick(rng, 2, 9), pick(rng, 1, 9)
    a = pick(rng, 1, b - 1)
    less = b - a
    return Item(
        "Intermediate Algebra",
        f"Evaluate $|{a}-{b}|+{c}$.",
        f"{a}-{b}=-{less} {less}+{c}={less + c}",
        str(less + c),
        f"{a}-{b}=-{less} -{less}+{c}={c - less}",
        str(c - less),
    )


def perimeter(rng: np.random.Generator) -> Item:
    """Around a rectangle. Slip: only two of its four sides."""
    a, b = choose(rng, (2, 3, 4, 5, 6, 7, 9)), pick(rng, 10, 40)
    return Item(
        "Geometry",
        f"Perimeter of a {a} by {b} field?",
        f"{a}+{b}={a + b} 2*{a + b}={2 * (a + b)}",
        str(2 * (a + b)),
        f"{a}+{b}={a + b}",
        str(a + b),
    )


def integers(rng: np.random.Generator) -> Item:
    """How many integers from a to b. Slip: one end is not counted."""
    a, b = pick(rng, 1, 9), pick(rng, 11, 60)
    return Item(
        "Counting & Probability",
        f"Count integers from {a} to {b}.",
        f"{b}-{a}={b - a} {b - a}+1={b - a + 1}",
        str(b - a + 1),
        f"{b}-{a}={b - a}",
        str(b - a),
    )


def units_digit(rng: np.random.Generator) -> Item:
    """The last digit of a product. Slip: the last digits are added."""
    a, b = pick(rng, 11, 99), pick(rng, 11, 99)
    p, q = a % 10, b % 10
    return Item(
        "Number Theory",
        rf"Units digit of ${a}\cdot{b}$?",
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
    units_digit,
)
