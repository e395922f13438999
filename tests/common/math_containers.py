"""MATH answers by construction that hold several values: points, intervals, lists, matrices (see `math_cases`)."""

import random
from fractions import Fraction

from tests.common.math_notations import other, rational, ungrouped

Case = tuple[str, str, list[str]]


def point(rng: random.Random) -> Case:
    values = [rational(rng) for _ in range(rng.choice((2, 2, 3, 4)))]

    def text(numbers: list[Fraction]) -> str:
        return ", ".join(ungrouped(rng, value) for value in numbers)

    opening, closing = rng.choice((("(", ")"), ("\\left(", "\\right)"), ("( ", " )")))
    changed = values.copy()
    changed[0] = other(rng, values[0])
    wrong = [
        f"({text(changed)})",
        f"({text([*values, values[0]])})",
        f"[{text(values)}]",
        f"({text(values[:-1])})",
    ]
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
        f"x \\in {left}{a}, {b}{right}",
        f"{a} {less[left]} x {less[right]} {b}",
    ]
    flipped = {"(": "[", "[": "(", ")": "]", "]": ")"}
    wrong = [
        f"{flipped[left]}{a},{b}{right}",
        f"{left}{a},{b}{flipped[right]}",
        f"{left}{a},{ungrouped(rng, high + 1)}{right}",
        f"{left}{a},\\infty)",
        f"{a} {less[left]} x",
    ]
    return gold, rng.choice(forms), wrong


def union(rng: random.Random) -> Case:
    a, b, c = sorted(rng.sample(range(-30, 30), 3))
    gold = f"(-\\infty, {a}) \\cup ({b}, {c}]"
    forms = [
        f"({b},{c}]\\cup(-\\infty,{a})",
        f"(-∞,{a})∪({b},{c}]",
        f"\\left(-\\infty,{a}\\right)\\cup\\left({b},{c}\\right]",
    ]
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
        inside,
        f"\\{{{inside}\\}}",
        f"\\left\\{{ {inside} \\right\\}}",
        inside.replace(", ", ","),
        " and ".join(words),
    ]
    forms.append(", ".join(words[:-1]) + "\\text{ and }" + words[-1])
    again = ", ".join(ungrouped(rng, value) for value in [*values, values[0]])
    less = ", ".join(ungrouped(rng, value) for value in values[1:])
    gold = ", ".join(ungrouped(rng, value) for value in values)
    changed = ", ".join(ungrouped(rng, value) for value in [values[0] + 777, *values[1:]])
    return gold.replace(", ", ","), rng.choice(forms), [again, less, changed, f"({gold})"]


def plus_minus(rng: random.Random) -> Case:
    a, b = rng.randint(1, 20), rng.choice((2, 3, 5, 7, 19))
    gold = f"{a} \\pm \\sqrt{{{b}}}"
    forms = [
        f"{a}+\\sqrt{{{b}}}, {a}-\\sqrt{{{b}}}",
        f"{a}-\\sqrt{b if b < 10 else '{19}'} \\text{{ and }} {a}+\\sqrt{{{b}}}",
    ]
    forms += [f"{a}±√{{{b}}}", f"\\{{{a} \\mp \\sqrt{{{b}}}\\}}", f"x = {a} \\pm \\sqrt{{{b}}}"]
    wrong = [f"{a} + \\sqrt{{{b}}}", f"{a + 1} \\pm \\sqrt{{{b}}}", f"\\pm {a} + \\sqrt{{{b}}}"]
    return gold, rng.choice(forms), wrong


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
        text(changed, "pmatrix"),
        text(half, "pmatrix") if any(map(any, cells)) else "0",
        text(cells[1:], "pmatrix"),
    ]
    if turned != cells:
        wrong.append(text(turned, "pmatrix"))
    return text(cells, "pmatrix"), rng.choice(forms), wrong
