"""Rational expressions in every form of brackets, fractions, mixed numbers and products, with the value of each.

A value is computed beside its text, never from it. What two readers could take for two values is left out: a whole
number before an improper fraction, a number right behind a fraction, `a/b(c)`.
"""

import random
from fractions import Fraction
from typing import NamedTuple

SIGNS = (r" \cdot ", r"\cdot", r" \times ", r"\times ", "*", " * ", r" \cdot\,")


class Written(NamedTuple):
    """A text and its value; `kind` says what may stand beside it: a number, fraction, mixed, bracket, product or sum.

    `misread` are values that a careless reader would give it.
    """

    text: str
    value: Fraction
    kind: str
    misread: tuple[Fraction, ...] = ()


def whole(rng: random.Random, least: int = 0) -> Written:
    value = rng.randint(least, rng.choice((9, 30, 400)))
    return Written(str(value), Fraction(value), "number")


def decimal(rng: random.Random) -> Written:
    tenths = rng.randint(1, 999)
    return Written(f"{tenths // 10}.{tenths % 10}", Fraction(tenths, 10), "number")


def fraction(rng: random.Random, proper: bool = False) -> Written:
    below = rng.randint(2, rng.choice((9, 40)))
    above = rng.randint(1, below - 1 if proper else 3 * below)
    forms = [
        rf"\frac{{{above}}}{{{below}}}",
        rf"\dfrac{{{above}}}{{{below}}}",
        rf"\tfrac{{{above}}}{{{below}}}",
    ]
    forms += [rf"\frac {{{above}}} {{{below}}}", rf"{{{above} \over {below}}}"]
    if above < 10 and below < 10:
        forms += [rf"\frac{above}{below}", rf"\frac {above} {below}", rf"\dfrac{above}{below}"]
    return Written(rng.choice(forms), Fraction(above, below), "fraction")


def slashed(rng: random.Random) -> Written:
    below, above = rng.randint(2, 12), rng.randint(1, 30)
    return Written(f"{above}/{below}", Fraction(above, below), "product")


def mixed(rng: random.Random) -> Written:
    units, part = whole(rng, 1), fraction(rng, proper=True)
    text = rng.choice(
        (f"{units.text}{part.text}", f"{units.text} {part.text}", rf"{units.text}\,{part.text}")
    )
    if rng.random() < 0.25:
        text = f"{units.text} {part.value.numerator}/{part.value.denominator}"
    return Written(text, units.value + part.value, "mixed", (units.value * part.value,))


def bracketed(rng: random.Random, inside: Written) -> Written:
    left, right = rng.choice(
        (("(", ")"), (r"\left(", r"\right)"), ("( ", " )"), (r"\bigl(", r"\bigr)"), ("[", "]"))
    )
    if left == "[" and inside.kind == "number":
        left, right = "(", ")"
    return Written(left + inside.text + right, inside.value, "bracket", inside.misread)


def negative(rng: random.Random, inside: Written) -> Written:
    if inside.kind == "sum":
        inside = bracketed(rng, inside)
    return Written("-" + inside.text, -inside.value, "sum", (inside.value,))


def atom(rng: random.Random) -> Written:
    return rng.choice((whole, whole, decimal, fraction, fraction, mixed, slashed))(rng)


def factor(rng: random.Random, depth: int) -> Written:
    """What may stand beside a multiplication sign."""
    one = expression(rng, depth - 1) if depth else atom(rng)
    return bracketed(rng, one) if one.kind in ("sum", "product") or rng.random() < 0.3 else one


def signed_product(rng: random.Random, depth: int) -> Written:
    first, second = factor(rng, depth), factor(rng, depth)
    return Written(
        first.text + rng.choice(SIGNS) + second.text,
        first.value * second.value,
        "product",
        (first.value + second.value,),
    )


def bracket_product(rng: random.Random, depth: int) -> Written:
    """Factors side by side of which each two have a bracket between them."""
    inside = bracketed(rng, expression(rng, depth - 1) if depth else atom(rng))
    first = inside if rng.random() < 0.3 else rng.choice((whole, whole, whole, fraction, mixed, decimal))(rng)
    value, text = first.value * inside.value, first.text + rng.choice(("", "", " ")) + inside.text
    misread = first.value + inside.value
    if rng.random() < 0.3:
        behind = rng.choice((whole, fraction, mixed))(rng)
        behind = bracketed(rng, behind) if rng.random() < 0.6 else behind
        text, value = text + behind.text, value * behind.value
    return Written(text, value, "product", (misread,))


def fraction_product(rng: random.Random, depth: int) -> Written:
    first, second = fraction(rng), fraction(rng)
    return Written(
        first.text + second.text, first.value * second.value, "product", (first.value + second.value,)
    )


def quotient(rng: random.Random, depth: int) -> Written:
    below = factor(rng, depth)
    while not below.value:
        below = factor(rng, depth)
    if rng.random() < 0.5:
        above = expression(rng, depth - 1) if depth else atom(rng)
        return Written(rf"\frac{{{above.text}}}{{{below.text}}}", above.value / below.value, "product")
    above = factor(rng, depth)
    below = below if below.kind == "number" else bracketed(rng, below)
    sign = rng.choice(("/", " / ", r" \div ", r"\div "))
    return Written(
        above.text + sign + below.text, above.value / below.value, "product", (above.value * below.value,)
    )


def power(rng: random.Random, depth: int) -> Written:
    exponent = rng.choice((2, 2, 3, -1, -2))
    base = (
        whole(rng, 1)
        if rng.random() < 0.4
        else bracketed(rng, expression(rng, depth - 1) if depth else atom(rng))
    )
    if not base.value or abs(base.value) > 10**6:
        base = whole(rng, 1)
    form = str(exponent) if exponent > 0 and rng.random() < 0.5 else f"{{{exponent}}}"
    return Written(f"{base.text}^{form}", base.value**exponent, "product", (base.value * exponent,))


def total(rng: random.Random, depth: int) -> Written:
    text, value = "", Fraction(0)
    for k in range(rng.randint(2, 3)):
        term = factor(rng, depth) if rng.random() < 0.5 else signed_product(rng, max(depth - 1, 0))
        minus = rng.random() < 0.4
        text += (
            ("-" if minus else "+" * (k > 0)) if rng.random() < 0.7 else (" - " if minus else " + " * (k > 0))
        )
        text, value = text + term.text, value + (-term.value if minus else term.value)
    return Written(text.strip(), value, "sum")


def expression(rng: random.Random, depth: int = 2) -> Written:
    if depth <= 0 or rng.random() < 0.15:
        return atom(rng)
    forms = (signed_product, bracket_product, bracket_product, fraction_product, quotient, power, total)
    made = rng.choice(forms)(rng, depth - 1)
    return negative(rng, made) if rng.random() < 0.15 else made


def reference(rng: random.Random, value: Fraction) -> str:
    """The value as references give it."""
    sign, above, below = "-" * (value < 0), abs(value.numerator), value.denominator
    forms = (rf"{sign}\frac{{{above}}}{{{below}}}", f"{sign}{above}/{below}")
    return f"{sign}{above}" if below == 1 else rng.choice(forms)


def wrong_values(rng: random.Random, made: Written) -> list[Fraction]:
    """Values near that of a text, and those that misreading it gives; never its own."""
    near = {
        *made.misread,
        -made.value,
        made.value + 1,
        made.value * rng.randint(2, 9),
        made.value + Fraction(1, 7),
    }
    return sorted(near - {made.value})


def made(rng: random.Random, count: int) -> list[Written]:
    """Expressions of all depths, none of them long."""
    found: list[Written] = []
    while len(found) < count:
        one = expression(rng, rng.randint(1, 3))
        if len(one.text) < 300 and one.value.denominator < 10**30:
            found.append(one)
    return found
