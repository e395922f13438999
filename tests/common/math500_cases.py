"""MATH answers by construction: a random value, a reference for it, and the same value in any accepted notation.

`CASES` maps a name to a function of a random generator that gives (reference, right answer, wrong answers). Nothing
here uses the verifier: what is right or wrong follows from how the texts were made.
"""

import random
from collections.abc import Callable
from fractions import Fraction
from math import gcd

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


def with_unit(rng: random.Random) -> Case:
    value = abs(rational(rng)) + 1
    gold = fraction_text(rng, value).rstrip(".")
    names = [
        ("", ["\\text{ apples}", " widgets", "\\mbox{ units}"]),
        ("\\text{ cm}^2", ["", " cm^2", "\\text{ square centimeters}", "\\,\\mathrm{cm}^2"]),
        ("^\\circ", ["", "^{\\circ}", "°", " degrees", "\\text{ degrees}"]),
        ("\\%", ["", "\\%", "%", " percent", "\\text{ percent}"]),
        ("\\text{ cents}", ["", " cents", "\\text{ cents}"]),
    ]  # fmt: skip
    unit, forms = rng.choice(names)
    answer = fraction_text(rng, value).rstrip(".")
    wrong = [fraction_text(rng, other(rng, value)).rstrip(".") + rng.choice(forms)]
    if unit == "\\%":
        wrong.append(fraction_text(rng, value / 100))
    if unit == "\\text{ cents}":
        wrong.append(answer + " dollars")
    if unit == "\\text{ cm}^2":
        wrong += [answer + "\\text{ cm}^3", answer + "\\text{ m}^2"]
    return gold + unit, answer + rng.choice(forms), wrong


def surd(rng: random.Random) -> Case:
    """a sqrt(b) / c and its rationalised, squared and split forms."""
    a, b, c = rng.randint(1, 12), rng.choice((2, 3, 5, 6, 7, 10, 11, 13)), rng.randint(1, 9)
    g = gcd(a, c)
    a, c = a // g, c // g
    top = f"{a}\\sqrt{{{b}}}" if a > 1 else f"\\sqrt{{{b}}}"
    gold = f"\\frac{{{top}}}{{{c}}}" if c > 1 else top
    forms = [
        gold, f"\\sqrt{{{a * a * b}}}" + (f"/{c}" if c > 1 else ""), f"\\frac{{{a * b}}}{{{c}\\sqrt{{{b}}}}}",
        f"\\frac{{{a}}}{{{c}}}\\cdot{{{b}}}^{{1/2}}",
        f"{a} \\times \\sqrt{b if b < 10 else '{' + str(b) + '}'} / {c}",
        f"\\sqrt{{\\frac{{{a * a * b}}}{{{c * c}}}}}",
    ]  # fmt: skip
    value = a * b**0.5 / c
    wrong = [
        f"\\frac{{{a}\\sqrt{{{b + 1}}}}}{{{c}}}", f"\\frac{{{a + 1}\\sqrt{{{b}}}}}{{{c}}}", f"-{gold}",
        f"{value:.6f}", f"{value:.15f}", f"\\sqrt[3]{{{a * a * b}}}",
    ]  # fmt: skip
    return gold, rng.choice(forms), wrong


def circle(rng: random.Random) -> Case:
    value = abs(rational(rng)) + Fraction(1, 7)
    n, d = value.numerator, value.denominator
    gold = f"\\frac{{{n}\\pi}}{{{d}}}" if d > 1 else f"{n}\\pi"
    forms = [f"\\frac{{{n}}}{{{d}}}\\pi", f"\\pi\\cdot\\frac{{{n}}}{{{d}}}", f"{n}\\pi/{d}", f"{n}π / {d}"]
    wrong = [f"\\frac{{{n}\\pi}}{{{d + 1}}}", f"\\frac{{{n}}}{{{d}}}", f"\\frac{{{n}\\pi^2}}{{{d}}}"]
    return gold, rng.choice(forms), [*wrong, f"{float(value) * 3.141592653589793:.8f}"]


def polynomial(rng: random.Random) -> Case:
    r, s, letter = rng.randint(-9, 9), rng.randint(1, 9), rng.choice("xkn")
    b, c = r + s, r * s
    terms = [f"{letter}^2"]
    if b:
        terms.append(f"{b}{letter}" if abs(b) != 1 else letter if b > 0 else f"-{letter}")
    if c:
        terms.append(str(c))
    gold = "+".join(terms).replace("+-", " - ")
    shuffled = rng.sample(terms, len(terms))
    forms = [
        "+".join(shuffled).replace("+-", "-"), f"({letter}+{r})({letter}+{s})".replace("+-", "-"),
        f"{letter}({letter} + {b}) + {c}".replace("+ -", "- "), gold.replace("^2", "²"),
        gold.replace(f"{letter}^2", f"{letter} \\cdot {letter}"),
    ]  # fmt: skip
    another = "y" if letter != "y" else "z"
    wrong = [gold.replace(letter, another), gold.replace("^2", "^3"), gold + " + 1", f"{gold} + {letter}"]
    return gold, rng.choice(forms), wrong


def line(rng: random.Random) -> Case:
    m, c, k = rng.randint(2, 9), rng.randint(1, 9), rng.choice((2, 3, -1))
    gold = f"y = {m}x + {c}"
    forms = [
        f"y={m}x+{c}", f"{m}x - y + {c} = 0", f"y - {m}x = {c}",
        f"{k}y = {k * m}x + {k * c}".replace("+ -", "- "),
    ]  # fmt: skip
    forms += [f"{m}x+{c}", f"y = {c} + {m}x"]
    wrong = [f"y = {m}x - {c}", f"y = {m + 1}x + {c}", f"x = {m}y + {c}", f"y = {m}x", f"z = {m}x + {c}"]
    return gold, rng.choice(forms), wrong


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
        text(changed, "pmatrix"), text(half, "pmatrix") if any(map(any, cells)) else "0",
        text(cells[1:], "pmatrix"),
    ]  # fmt: skip
    if turned != cells:
        wrong.append(text(turned, "pmatrix"))
    return text(cells, "pmatrix"), rng.choice(forms), wrong


CASES: dict[str, Callable[[random.Random], Case]] = {
    function.__name__: function
    for function in (
        number, with_unit, surd, circle, polynomial, point, interval, union, numbers, plus_minus, matrix, line,
    )
}  # fmt: skip
