"""Any notation of a rational number, as MATH answers by construction are made of."""

import random
from fractions import Fraction


def fraction_text(rng: random.Random, value: Fraction) -> str:
    """Any notation of a rational number."""
    n, d = abs(value.numerator), value.denominator
    sign = "-" if value < 0 else ""
    k = rng.choice((1, 1, 2, 3, 7))
    forms = [
        f"{sign}\\frac{{{n * k}}}{{{d * k}}}",
        f"{sign}\\dfrac{{{n}}}{{{d}}}",
        f"\\frac{{{sign}{n}}}{{{d}}}",
        f"{sign}{n}/{d}",
        f"{sign}{{{n} \\over {d}}}",
        f"{sign}\\tfrac {{{n}}} {{{d}}}",
    ]
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
