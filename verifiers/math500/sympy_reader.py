"""LaTeX into sympy expressions by math-verify's reader, with its numbers made exact. Runs in the worker only.

math-verify hands every number to sympy as text, which sympy evaluates as Python code, and reads `2(3)` as a
mixed number. Here numbers become sympy numbers directly, decimals included, and only an integer before a
fraction is a mixed number.
"""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache

import sympy
from latex2sympy2_extended.latex2sympy2 import ConversionConfig, _Latex2Sympy
from latex2sympy2_extended.math_normalization import NormalizationConfig, normalize_latex
from latex2sympy2_extended.sets import FiniteSet

NUMBER_LIMIT = 1000  # characters of one number
PERCENT = sympy.UnevaluatedExpr(sympy.Rational(1, 100))
_NORMALIZATION = NormalizationConfig(
    basic_latex=True, units=False, malformed_operators=True, nits=False, boxed="none", equations=False
)
_CONVERSION = ConversionConfig(lowercase_symbols=False)
_ANGLES = ("\\sin", "\\cos", "\\tan", "\\cot", "\\sec", "\\csc", "\\cis")
_FRACTIONS = ("\\frac", "\\dfrac", "\\tfrac", "\\cfrac")


class Unreadable(Exception):
    """This text is not an expression."""


def number(text: str) -> sympy.Rational:
    """A decimal literal as the rational number that it is."""
    text = text.replace(",", "").replace(" ", "")
    if len(text) > NUMBER_LIMIT:
        raise Unreadable(f"a number of {len(text)} characters")
    value = Fraction(text)
    return sympy.Rational(value.numerator, value.denominator)


class Reader(_Latex2Sympy):
    """math-verify's reader with exact numbers, letters told apart by case, and no hidden additions."""

    def __init__(self, real: bool | None, degrees: bool) -> None:
        super().__init__(is_real=real, convert_degrees=degrees, config=_CONVERSION)

    def parse_number(self, text: str) -> sympy.Rational:
        return number(text)

    def convert_postfix_list(self, arr: list, i: int = 0) -> object:
        """Factors side by side: a product, unless they are an integer and a fraction."""
        first = self.convert_postfix(arr[i])
        if not isinstance(first, sympy.Expr | sympy.MatrixBase) or i == len(arr) - 1:
            return super().convert_postfix_list(arr, i)
        following = arr[i + 1].getText()
        if arr[i].getText().isdecimal() and following.lstrip("{")[:1].isdecimal():
            raise Unreadable("two numbers side by side")
        rest = self.convert_postfix_list(arr, i + 1)
        if (
            i == len(arr) - 2
            and arr[i].getText().isdecimal()
            and following.startswith(_FRACTIONS)
            and isinstance(rest, sympy.Rational)
        ):
            return first + rest
        if getattr(first, "is_Matrix", False) or getattr(rest, "is_Matrix", False):
            return self.mat_mul_flat(first, rest)
        return self.mul_flat(first, rest)


def read(text: str, real: bool) -> object:
    """What the LaTeX `text` says: an expression, a relation, a set, a tuple or a matrix.

    Raises:
        Unreadable: it says nothing.
    """
    try:
        return _read(text, real)
    except Unreadable:
        if "\\pm" not in text and "\\mp" not in text:
            raise
        signs = (("+", "-"), ("-", "+"))  # the reader knows a sign pair at the top level only
        return FiniteSet(*(_read(text.replace("\\pm", a).replace("\\mp", b), real) for a, b in signs))


@lru_cache(maxsize=1024)  # a gold answer is compared with many
def _read(text: str, real: bool) -> object:
    if not text.strip():
        raise Unreadable("no text")
    text = normalize_latex(text, _NORMALIZATION)
    degrees = "\\circ" in text and any(name in text for name in _ANGLES)
    try:
        groups = text.lstrip("-").split(",")
        if len(groups) > 1 and all(map(str.isdecimal, groups)) and _are_thousands(groups):
            return number(text)
        parsed = Reader(real or None, degrees).parse(text)
    except (MemoryError, RecursionError):
        raise
    except Exception as error:  # the reader raises bare Exceptions, and what its helpers stumble over
        raise Unreadable(str(error)[:100]) from error
    if not isinstance(parsed, sympy.Basic | sympy.MatrixBase):
        raise Unreadable(f"a {type(parsed).__name__}")
    return parsed


def _are_thousands(groups: list[str]) -> bool:
    return 1 <= len(groups[0]) <= 3 and all(len(group) == 3 for group in groups[1:])


def check_reader() -> None:
    """See that this version of math-verify reads as the code above needs it; raises `Unreadable` if not."""
    cases = {"2(3)": sympy.Integer(6), "2\\frac{1}{2}": sympy.Rational(5, 2), "0.25": sympy.Rational(1, 4)}
    for text, value in cases.items():
        parsed = read(text, True)
        if not isinstance(parsed, sympy.Expr) or parsed.doit() != value:
            raise Unreadable(f"{text} is read as {parsed}")
