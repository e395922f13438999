"""One generated competition-style problem: its text, its answer, and what a common slip makes of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import isqrt
from typing import TypeVar

import numpy as np

T = TypeVar("T")


@dataclass(frozen=True)
class Item:
    """A problem with a worked solution and a worked slip; all fields are short LaTeX or ASCII texts.

    subject: one of the seven subjects of MATH. problem: its text. work, answer: one line of right working and
    the exact answer. slip_work, slip: the same of one fixed wrong rule.
    """

    subject: str
    problem: str
    work: str
    answer: str
    slip_work: str
    slip: str


def pick(rng: np.random.Generator, low: int, high: int) -> int:
    """A whole number from `low` to `high`, both included, each equally likely."""
    return int(rng.integers(low, high + 1))


def choose(rng: np.random.Generator, options: Sequence[T]) -> T:
    """One of the options, each equally likely."""
    return options[int(rng.integers(len(options)))]


def frac(value: Fraction | int, unit: str = "") -> str:
    """An exact rational as LaTeX: 3, -\\frac{1}{2}; with a unit such as "\\pi" its multiple: 3\\pi, \\pi, 0."""
    value = Fraction(value)
    sign, top, bottom = "-" if value < 0 else "", abs(value.numerator), value.denominator
    if bottom > 1:
        return f"{sign}\\frac{{{top}}}{{{bottom}}}{unit}"
    return f"{sign}{unit}" if unit and top == 1 else f"{sign}{top}{unit if top else ''}"


def root(square: int) -> str:
    """The square root of a whole number >= 0 as LaTeX, simplified: 4, 2\\sqrt{3}, \\sqrt{5}."""
    outside = next(k for k in range(isqrt(square), 0, -1) if square % (k * k) == 0) if square else 0
    inside = square // (outside * outside) if outside else 1
    return str(outside) if inside == 1 else f"{outside if outside > 1 else ''}\\sqrt{{{inside}}}"


def term(factor: int, letter: str) -> str:
    """A term that follows another one: +3x, -x, nothing for 0."""
    if factor == 0:
        return ""
    size = "" if abs(factor) == 1 and letter else str(abs(factor))
    return f"{'-' if factor < 0 else '+'}{size}{letter}"
