"""MATH answers by construction: a random value, a reference for it, and the same value in any accepted notation.

`CASES` maps a name to a function of a random generator that gives (reference, right answer, wrong answers). Nothing
here uses the verifier: what is right or wrong follows from how the texts were made.
"""

import random
from collections.abc import Callable
from fractions import Fraction

Case = tuple[str, str, list[str]]


def fraction_text(rng: random.Random, value: Fraction) -> str:
    """Any notation of a rational number."""
    n, d = abs(value.numerator), value.denominator
    sign = "-" if value < 0 else ""
    k = rng.choice((1, 1, 2, 3, 7))
    forms = [
        f"{sign}\\frac{{{n * k}}}{{{d * k}}}", f"{sign}\\dfrac{{{n}}}{{{d}}}", f"\\frac{{{sign}{n}}}{{{d}}}",
        f"{sign}{n}/{d}", f"{sign}{{{n} \\over {d}}}", f"{sign}\\tfrac {{{n}}} {{{d}}}",
    ]  # fmt: skip
    if n < 10 and d < 10:
        forms += [f"{sign}\\frac{n}{d}", f"{sign}\\frac {n} {d}"]
    if d == 1:
        forms = [f"{sign}{n}", f"{sign}{n}.0", f"{sign}{n}.", f"{sign} {n}", f"\\left({sign}{n}\\right)"]
        forms += [f"{sign}{grouped(n, mark)}" for mark in (",", "{,}", ",\\!", "\\,")]
    elif n > d:
        forms += [f"{sign}{n // d}\\frac{{{n % d}}}{{{d}}}", f"{sign}{n // d} {n % d}/{d}"]
    rest = d
    for prime in (2, 5):
        while rest % prime == 0:
            rest //= prime
    if rest == 1:
        places = 0
        while d and 10**places % d:
            places += 1
        digits = str(n * 10**places // d).rjust(places + 1, "0")
        if places:
            forms.append(f"{sign}{digits[:-places]}.{digits[-places:]}" + rng.choice(("", "0")))
    return rng.choice(forms)


def grouped(n: int, mark: str) -> str:
    return f"{n:,}".replace(",", mark)


def rational(rng: random.Random) -> Fraction:
    return Fraction(rng.randint(-60, 60), rng.randint(1, 24))


def other(rng: random.Random, value: Fraction) -> Fraction:
    """A near and different value: another sign, the reciprocal, one more, one digit more."""
    near = [-value, value + 1, value - 1, value * 10, value / 2, value + Fraction(1, 1000)]
    if value:
        near.append(1 / value)
    return rng.choice([number for number in near if number != value])


def ungrouped(rng: random.Random, value: Fraction) -> str:
    """A notation without marks that could end an element of a list."""
    while True:
        text = fraction_text(rng, value)
        if "," not in text and " " not in text.strip() and not text.endswith("."):
            return text


def number(rng: random.Random) -> Case:
    value = rational(rng) if rng.random() < 0.6 else Fraction(rng.randint(-99_999, 9_999_999))
    wrong = [fraction_text(rng, other(rng, value)) for _ in range(3)]
    return fraction_text(rng, value), fraction_text(rng, value), wrong


def point(rng: random.Random) -> Case:
    values = [rational(rng) for _ in range(rng.choice((2, 2, 3, 4)))]

    def text(numbers: list[Fraction]) -> str:
        return ", ".join(ungrouped(rng, value) for value in numbers)

    opening, closing = rng.choice((("(", ")"), ("\\left(", "\\right)"), ("( ", " )")))
    changed = values.copy()
    changed[0] = other(rng, values[0])
    wrong = [
        f"({text(changed)})", f"({text([*values, values[0]])})", f"[{text(values)}]", f"({text(values[:-1])})",
    ]  # fmt: skip
    if values != values[::-1]:
        wrong.append(f"({text(values[::-1])})")
    bare = rng.random() < 0.2
    return f"({text(values)})", text(values) if bare else f"{opening}{text(values)}{closing}", wrong


def interval(rng: random.Random) -> Case:
    low, high = sorted((rational(rng), rational(rng) + 61))
    left, right = rng.choice("(["), rng.choice(")]")
    a, b = ungrouped(rng, low), ungrouped(rng, high)
    gold = f"{left}{a},{b}{right}"
    less = {"(": "<", "[": rng.choice(("\\le", "\\leq", "≤")), ")": "<", "]": rng.choice(("\\le", "\\leq"))}
    forms = [
        f"\\left{left}{ungrouped(rng, low)}, {ungrouped(rng, high)}\\right{right}",
        f"x \\in {left}{a}, {b}{right}", f"{a} {less[left]} x {less[right]} {b}",
    ]  # fmt: skip
    flipped = {"(": "[", "[": "(", ")": "]", "]": ")"}
    wrong = [
        f"{flipped[left]}{a},{b}{right}", f"{left}{a},{b}{flipped[right]}",
        f"{left}{a},{ungrouped(rng, high + 1)}{right}", f"{left}{a},\\infty)", f"{a} {less[left]} x",
    ]  # fmt: skip
    return gold, rng.choice(forms), wrong


def union(rng: random.Random) -> Case:
    a, b, c = sorted(rng.sample(range(-30, 30), 3))
    gold = f"(-\\infty, {a}) \\cup ({b}, {c}]"
    forms = [
        f"({b},{c}]\\cup(-\\infty,{a})", f"(-∞,{a})∪({b},{c}]",
        f"\\left(-\\infty,{a}\\right)\\cup\\left({b},{c}\\right]",
    ]  # fmt: skip
    forms += [f"x < {a} \\text{{ or }} {b} < x \\le {c}"]
    wrong = [f"(-\\infty, {a}] \\cup ({b}, {c}]", f"(-\\infty, {a})", f"(\\infty, {a}) \\cup ({b}, {c}]"]
    return gold, rng.choice(forms), [*wrong, f"(-\\infty, {a}) \\cap ({b}, {c}]"]


def numbers(rng: random.Random) -> Case:
    values = rng.sample([rational(rng) for _ in range(9)], rng.randint(2, 5))
    values = list(dict.fromkeys(values))
    if len(values) < 2:
        values = [Fraction(1), Fraction(2)]
    mixed = rng.sample(values, len(values))
    inside = ", ".join(ungrouped(rng, value) for value in mixed)
    words = [ungrouped(rng, value) for value in mixed]
    forms = [
        inside, f"\\{{{inside}\\}}", f"\\left\\{{ {inside} \\right\\}}", inside.replace(", ", ","),
        " and ".join(words),
    ]  # fmt: skip
    forms.append(", ".join(words[:-1]) + "\\text{ and }" + words[-1])
    again = ", ".join(ungrouped(rng, value) for value in [*values, values[0]])
    less = ", ".join(ungrouped(rng, value) for value in values[1:])
    gold = ", ".join(ungrouped(rng, value) for value in values)
    changed = ", ".join(ungrouped(rng, value) for value in [values[0] + 777, *values[1:]])
    return gold.replace(", ", ","), rng.choice(forms), [again, less, changed, f"({gold})"]


def matrix(rng: random.Random) -> Case:
    rows, columns = rng.choice(((2, 1), (3, 1), (2, 2), (2, 3)))
    cells = [[rational(rng) for _ in range(columns)] for _ in range(rows)]

    def text(grid: list[list[Fraction]], kind: str) -> str:
        body = " \\\\ ".join(" & ".join(ungrouped(rng, cell) for cell in row) for row in grid)
        return f"\\begin{{{kind}}} {body} \\end{{{kind}}}"

    changed = [row.copy() for row in cells]
    changed[-1][-1] = other(rng, changed[-1][-1])
    turned = [list(column) for column in zip(*cells, strict=True)]
    half = [[cell * 2 for cell in row] for row in cells]
    forms = [text(cells, "pmatrix"), text(cells, "bmatrix"), "\\frac{1}{2}" + text(half, "pmatrix")]
    wrong = [
        text(changed, "pmatrix"), text(half, "pmatrix") if any(map(any, cells)) else "0",
        text(cells[1:], "pmatrix"),
    ]  # fmt: skip
    if turned != cells:
        wrong.append(text(turned, "pmatrix"))
    return text(cells, "pmatrix"), rng.choice(forms), wrong


CASES: dict[str, Callable[[random.Random], Case]] = {
    function.__name__: function for function in (number, point, interval, union, numbers, matrix)
}
