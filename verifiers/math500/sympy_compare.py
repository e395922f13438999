"""Reads two LaTeX texts as sympy objects and says whether they are the same answer. Runs in the worker only.

math-verify's reader hands every number to sympy as text, which sympy evaluates as Python code, and reads `2(3)` as a
mixed number. Here numbers become sympy numbers directly, decimals included, and only an integer before a fraction is
a mixed number.

What is compared: values exactly (decimals are the rationals they spell), by 50 digits relative to their size to tell
them apart and by simplification to show them equal; relations up to a factor; sets as multisets; tuples and matrices
entry by entry; intervals with their brackets.
"""

from __future__ import annotations

import math
from fractions import Fraction
from functools import lru_cache

import sympy
from latex2sympy2_extended.latex2sympy2 import ConversionConfig, _Latex2Sympy
from latex2sympy2_extended.math_normalization import NormalizationConfig, normalize_latex
from latex2sympy2_extended.sets import FiniteSet
from math_verify.grader import should_treat_as_complex
from sympy.core.function import AppliedUndef
from sympy.core.relational import Relational

NUMBER_LIMIT = 1000  # characters of one number
PERCENT = sympy.UnevaluatedExpr(sympy.Rational(1, 100))
_NORMALIZATION = NormalizationConfig(
    basic_latex=True, units=False, malformed_operators=True, nits=False, boxed="none", equations=False
)
_CONVERSION = ConversionConfig(lowercase_symbols=False)
_ANGLES = ("\\sin", "\\cos", "\\tan", "\\cot", "\\sec", "\\csc", "\\cis")
_FRACTIONS = ("\\frac", "\\dfrac", "\\tfrac", "\\cfrac")
DIGITS = 50
SIZE_LIMIT = 20_000  # decimal digits of any exact number on the way
FACTORIAL_LIMIT = 2_000
_POINTS = ((3, 7), (11, 5), (-2, 9), (-13, 4), (1, 6), (17, 3))
_COLLECTIONS = sympy.Set | sympy.Tuple


class Unreadable(Exception):
    """This text is not an expression, or one with a number of too many digits."""


def number(text: str) -> sympy.Rational:
    """A decimal literal as the rational number that it is."""
    text = text.replace(",", "").replace(" ", "")
    if len(text) > NUMBER_LIMIT:
        raise Unreadable(f"a number of {len(text)} characters")
    value = Fraction(text)
    return sympy.Rational(value.numerator, value.denominator)


class Reader(_Latex2Sympy):
    """math-verify's reader with exact numbers, letters told apart by case, and no hidden additions."""

    def parse_number(self, text: str) -> sympy.Rational:
        return number(text)

    def convert_postfix_list(self, arr: list, i: int = 0) -> object:
        """Factors side by side: a product, unless they are an integer and a fraction."""
        first = self.convert_postfix(arr[i])
        if not isinstance(first, sympy.Expr | sympy.MatrixBase) or i == len(arr) - 1:
            return super().convert_postfix_list(arr, i)
        whole, following = arr[i].getText().isdecimal(), arr[i + 1].getText()
        if whole and following.lstrip("{")[:1].isdecimal():
            raise Unreadable("two numbers side by side")
        rest = self.convert_postfix_list(arr, i + 1)
        mixed = i == len(arr) - 2 and whole and following.startswith(_FRACTIONS)
        if mixed and isinstance(rest, sympy.Rational):
            return first + rest
        if getattr(first, "is_Matrix", False) or getattr(rest, "is_Matrix", False):
            return self.mat_mul_flat(first, rest)
        return self.mul_flat(first, rest)


def read(text: str, real: bool) -> object:
    """What the LaTeX `text` says: an expression, relation, set, tuple or matrix; raises `Unreadable`."""
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
        first, *groups = text.lstrip("-").split(",")
        thousands = bool(groups) and all(len(group) == 3 and group.isdecimal() for group in groups)
        if thousands and len(first) <= 3 and first.isdecimal():
            return number(text)
        parsed = Reader(is_real=real or None, convert_degrees=degrees, config=_CONVERSION).parse(text)
    except (MemoryError, RecursionError):
        raise
    except Exception as error:  # the reader raises bare Exceptions, and what its helpers stumble over
        raise Unreadable(str(error)[:100]) from error
    if not isinstance(parsed, sympy.Basic | sympy.MatrixBase):
        raise Unreadable(f"a {type(parsed).__name__}")
    return parsed


def judge(answer: str, gold: str) -> tuple[str, str]:
    """("equal" | "different" | "unread", why) for two LaTeX texts; "unread" if the gold cannot be read."""
    real = not any(map(should_treat_as_complex, (gold, answer)))
    try:
        expected = read(gold, real)
    except Unreadable as error:
        return "unread", f"the gold answer cannot be read: {error}"
    sides = [answer] if "=" in gold else sides_of(answer)
    try:
        for k, side in enumerate(sides):
            given = read(side, real)
            called = is_name(given) or side.strip() == "I"  # which is read as i
            if k == 0 < len(sides) - 1 and called and given not in expected.free_symbols:
                continue
            for part in (expected, given):
                for entry in part.flat() if isinstance(part, sympy.MatrixBase) else [part]:
                    digits(entry)  # before anything is computed that has too many
            explicit = "\\{" in side or "\\lbrace" in side
            if not same(expected, given, explicit):
                return "different", ""
    except Unreadable as error:
        return "different", f"the answer cannot be judged: {error}"
    return "equal", ""


def sides_of(text: str) -> list[str]:
    r"""The sides of `\int_0^1 x \, dx = \frac{1}{2}`, each of which must be the value."""
    sides, depth = [""], 0
    for character in text:
        depth += (character in "{([") - (character in "})]")
        if character == "=" and depth == 0 and sides[-1][-1:] not in ("<", ">", "!", ":"):
            sides.append("")
        else:
            sides[-1] += character
    return sides


def digits(expr: sympy.Basic) -> float:
    """An upper bound of log10 |value| (and of 1/|value|) of the numbers in `expr`, letters counting as 1.

    Raises `Unreadable` above SIZE_LIMIT.
    """
    if isinstance(expr, sympy.Rational):
        return math.log10(max(abs(expr.p), expr.q, 1))
    parts = [digits(part) for part in expr.args if isinstance(part, sympy.Basic)]
    largest = max(parts, default=0.0)
    if isinstance(expr, sympy.Pow | sympy.exp):
        exponent = parts[-1]
        base = parts[0] if isinstance(expr, sympy.Pow) else 0.0
        largest = 10.0 ** min(exponent, 300.0) * max(base, 0.5) if exponent or base else 0.0
    elif isinstance(expr, sympy.Add | sympy.Mul | sympy.MatMul | sympy.MatAdd):
        largest = sum(parts) + len(parts)
    elif isinstance(expr, sympy.factorial | sympy.gamma):
        n = 10.0 ** min(largest, 300.0)
        if n > FACTORIAL_LIMIT:
            raise Unreadable("a factorial of a large number")
        largest = n * math.log10(n + 1)
    if largest > SIZE_LIMIT:
        raise Unreadable("a number of too many digits")
    return largest


def same(gold: object, answer: object, explicit: bool = False) -> bool:
    """Do the two say the same? `explicit`: the answer wrote braces around its elements."""
    gold, answer = _unwrapped(gold, answer)
    if isinstance(gold, sympy.MatrixBase | sympy.MatrixExpr):
        return _same_matrix(gold, answer)
    if isinstance(gold, Relational) and isinstance(answer, Relational):
        return _same_relation(gold, answer)
    if isinstance(gold, sympy.And) and isinstance(answer, sympy.And):
        return _same_multiset(_elements(gold), _elements(answer))
    if isinstance(gold, sympy.Set) and isinstance(answer, Relational | sympy.And):
        answer = _as_set(answer)
    elif isinstance(answer, sympy.Set) and isinstance(gold, Relational | sympy.And):
        gold = _as_set(gold)
    if isinstance(gold, _COLLECTIONS) or isinstance(answer, _COLLECTIONS):
        return _same_collection(gold, answer, explicit)
    if isinstance(gold, sympy.Expr) and isinstance(answer, sympy.Expr):
        return same_value(gold, answer)
    return type(gold) is type(answer) and gold == answer


def is_name(value: object) -> bool:
    """True for what a value may be called: x, f(x)."""
    return isinstance(value, sympy.Symbol | AppliedUndef)


def _is_assignment(value: object) -> bool:
    return isinstance(value, sympy.Eq) and is_name(value.lhs)


def _unwrapped(gold: object, answer: object) -> tuple[object, object]:
    """Where one side alone is `x = value`, its value."""
    if _is_assignment(gold) and not isinstance(answer, Relational | sympy.And):
        gold = gold.rhs
    elif _is_assignment(answer) and not isinstance(gold, Relational | sympy.And):
        answer = answer.rhs
    elif _is_assignment(gold) and _is_assignment(answer) and gold.lhs == answer.lhs:
        if isinstance(gold.rhs, _COLLECTIONS) or isinstance(answer.rhs, _COLLECTIONS):
            return gold.rhs, answer.rhs
    return gold, answer


def _elements(value: sympy.Basic) -> list:
    """The elements as written, repeated ones included."""
    return list(getattr(value, "_unsorted_args", value.args))


def _as_set(relation: sympy.Basic) -> sympy.Basic:
    try:
        return relation.as_set() if len(relation.free_symbols) == 1 else relation
    except (NotImplementedError, TypeError, AttributeError, ValueError):
        return relation


def _same_multiset(gold: list, answer: list) -> bool:
    left = list(answer)
    for element in gold:
        match = next((i for i, other in enumerate(left) if same(element, other)), None)
        if match is None:
            return False
        del left[match]
    return not left


def _same_sequence(gold: list, answer: list) -> bool:
    return len(gold) == len(answer) and all(same(a, b) for a, b in zip(gold, answer, strict=True))


def _sequence(value: object) -> list | None:
    """The entries of an ordered tuple; an open interval reads the same."""
    if isinstance(value, sympy.Tuple):
        return list(value.args)
    if isinstance(value, sympy.Interval) and value.left_open and value.right_open:
        return [value.start, value.end]
    return None


def _same_collection(gold: object, answer: object, explicit: bool) -> bool:
    if isinstance(gold, sympy.Interval) and isinstance(answer, sympy.Interval):
        brackets = (gold.left_open, gold.right_open) == (answer.left_open, answer.right_open)
        return brackets and _same_sequence([gold.start, gold.end], [answer.start, answer.end])
    ordered, other = _sequence(gold), _sequence(answer)
    if ordered is not None:
        if other is None and isinstance(answer, sympy.FiniteSet) and not explicit:
            other = _elements(answer)  # a tuple without its brackets
        if other is not None:
            return _same_sequence(ordered, other)
    finite = sympy.FiniteSet | sympy.Expr
    if isinstance(gold, finite) and isinstance(answer, finite):
        one, two = ([side] if isinstance(side, sympy.Expr) else _elements(side) for side in (gold, answer))
        return _same_multiset(one, two)
    if not (isinstance(gold, sympy.Set) and isinstance(answer, sympy.Set)):
        return False
    gold, answer = gold.doit(), answer.doit()
    return gold == answer or sympy.SymmetricDifference(gold, answer).doit() == sympy.S.EmptySet


def _same_matrix(gold: object, answer: object) -> bool:
    if not isinstance(answer, sympy.MatrixBase | sympy.MatrixExpr):
        return False
    gold, answer = gold.doit(), answer.doit()
    if not (isinstance(gold, sympy.MatrixBase) and isinstance(answer, sympy.MatrixBase)):
        return gold == answer
    return gold.shape == answer.shape and _same_sequence(list(gold.flat()), list(answer.flat()))


def _same_relation(gold: Relational, answer: Relational) -> bool:
    """Equations up to a factor that is not 0, inequalities up to a positive one."""
    sides = []
    for relation in (gold, answer):
        if not (isinstance(relation.lhs, sympy.Expr) and isinstance(relation.rhs, sympy.Expr)):
            return gold == answer
        if isinstance(relation, sympy.GreaterThan | sympy.StrictGreaterThan):
            relation = relation.reversed
        sides.append((type(relation), _evaluated(relation.lhs - relation.rhs)))
    (kind, d), (other, e) = sides
    if kind is not other or d.free_symbols != e.free_symbols:
        return False
    if not d.free_symbols:
        return same_value(gold.lhs, answer.lhs) and same_value(gold.rhs, answer.rhs)
    functions = {f: sympy.Dummy(f"f{i}") for i, f in enumerate(sorted(d.atoms(AppliedUndef), key=str))}
    d, e = d.xreplace(functions), e.xreplace(functions)
    for k in range(len(_POINTS)):
        point = _point(d.free_symbols | e.free_symbols, k)
        one, two = d.subs(point), e.subs(point)
        if not (one.is_finite and two.is_finite) or one.is_zero is not False or two.is_zero is not False:
            continue
        factor = sympy.simplify(one / two)
        if kind not in (sympy.Eq, sympy.Ne) and factor.is_positive is not True:
            return False
        return same_value(d, factor * e)
    return False


def _evaluated(expr: sympy.Expr) -> sympy.Expr:
    """`expr` evaluated, and 50% as 50."""
    return expr.xreplace({PERCENT: sympy.S.One}).doit()


def _point(symbols: set, k: int) -> dict:
    """The k-th place to evaluate at: another rational number for every letter."""
    point = {}
    for j, symbol in enumerate(sorted(symbols, key=str)):
        above, below = _POINTS[(k + j) % 6]
        point[symbol] = sympy.Rational(above * (2 * j + 1) + j, below + 2 * j)
    return point


def same_value(gold: sympy.Expr, answer: sympy.Expr) -> bool:
    """Are two expressions equal wherever both are defined?"""
    imaginary = {s: sympy.I for s in gold.free_symbols | answer.free_symbols if s.name == "i"}
    gold, answer = gold.xreplace(imaginary), answer.xreplace(imaginary)
    if _integrals_differ(gold, answer):
        return False
    a, b = _evaluated(gold), _evaluated(answer)
    if a.has(sympy.nan, sympy.zoo) or b.has(sympy.nan, sympy.zoo):
        return False
    if a == b:
        return True
    if isinstance(a, sympy.Rational) and isinstance(b, sympy.Rational):
        return False
    if a.has(sympy.oo, -sympy.oo) or b.has(sympy.oo, -sympy.oo):
        return False  # not the same infinity, or not only one
    symbols = a.free_symbols | b.free_symbols
    agreed = 0
    for k in range(4 if symbols else 1):
        same_number = _compare_numbers(a, b, _point(symbols, k))
        if same_number is False:
            return False
        agreed += same_number is True
    if agreed >= (2 if symbols else 1) and _has_short_numbers(a) and _has_short_numbers(b):
        return True
    return _is_zero(a - b)


def _integrals_differ(a: sympy.Expr, b: sympy.Expr) -> bool:
    """True for two numbers far apart of which one is an integral: quadrature takes a fraction of solving it."""
    if not (a.has(sympy.Integral) or b.has(sympy.Integral)) or a.free_symbols | b.free_symbols:
        return False
    try:
        one, two = a.evalf(9, maxn=12), b.evalf(9, maxn=12)
    except (ValueError, TypeError, ArithmeticError, NotImplementedError, AttributeError):
        return False
    known = _is_number(one) and _is_number(two) and all(f._prec > 24 for f in one.atoms(sympy.Float))
    return known and bool(abs(one - two) > max(abs(one), abs(two)) / 100)


def _compare_numbers(a: sympy.Expr, b: sympy.Expr, point: dict) -> bool | None:
    """Do 50 digits relative to the larger one agree at one point? None if that cannot be told."""
    try:
        one, two = (expr.subs(point).evalf(DIGITS + 10) for expr in (a, b))
    except (ValueError, TypeError, ArithmeticError, NotImplementedError, AttributeError):
        return None
    if not (_is_number(one) and _is_number(two)):
        return None
    size = max(abs(one), abs(two))
    if size == 0:
        return True
    if not (_is_precise(one) or _is_precise(two)):
        return None
    return bool(abs(one - two) <= size * sympy.Rational(1, 10**DIGITS))


def _is_number(value: sympy.Basic) -> bool:
    parts = value.as_real_imag() if value.is_number else (value,)
    return all(isinstance(part, sympy.Float | sympy.Rational) and part.is_finite for part in parts)


def _is_precise(value: sympy.Expr) -> bool:
    """False where cancellation left no digit that is known."""
    return all(f._prec > DIGITS * 3 for f in value.atoms(sympy.Float))


def _is_zero(difference: sympy.Expr) -> bool:
    for rewrite in (sympy.expand, sympy.simplify):
        difference = rewrite(difference)
        if difference.is_number and difference.is_Rational:
            return difference == 0
        if difference.is_zero:
            return True
    return False


def _has_short_numbers(expr: sympy.Expr) -> bool:
    """True if no number in it is so long that a difference could hide behind 50 digits."""
    return all(max(abs(r.p), r.q) < 10**12 for r in expr.atoms(sympy.Rational)) and all(
        not (power.exp.is_Rational and abs(power.exp) > 12) for power in expr.atoms(sympy.Pow)
    )
