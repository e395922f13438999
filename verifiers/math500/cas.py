r"""The last tier, in a worker process: a computer algebra system says whether two LaTeX texts have the same value.

verifiers/worker.py runs the process and ends it when its time is up; task.py sets the seconds, `MEMORY` the bytes.
math-verify's reader hands numbers to sympy as text, which sympy evaluates as Python code. Here they become sympy
numbers directly, what sympy still evaluates are numeric literals alone, and no code may start a program or open a
connection. A number of too many digits is refused before anything is computed.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from fractions import Fraction
from functools import lru_cache
from itertools import accumulate, pairwise

import sympy
import sympy.physics.units  # names its units by evaluating text, and simplify imports it
from latex2sympy2_extended.latex2sympy2 import ConversionConfig, _Latex2Sympy
from latex2sympy2_extended.math_normalization import NormalizationConfig, normalize_latex
from latex2sympy2_extended.sets import FiniteSet
from math_verify.grader import should_treat_as_complex
from sympy.parsing import sympy_parser

MEMORY = 1 << 30  # bytes
LENGTH_LIMIT = 1000  # characters of a text
DEPTH_LIMIT = 24  # brackets in one another
SIZE_LIMIT = 20_000  # decimal digits of any exact number on the way
FACTORIAL_LIMIT = 2_000  # the largest n of n!
DIGITS = 50  # to which two numbers must agree
_DOTS = ("dots", "...", "…", "\\approx", "~=", "\\sim", "≈")  # of a sum that goes on, or of an approximation
_NORMALIZATION = NormalizationConfig(
    basic_latex=True, units=False, malformed_operators=True, nits=False, boxed="none", equations=False
)
_CONVERSION = ConversionConfig(lowercase_symbols=False)
_PERCENT = sympy.UnevaluatedExpr(sympy.Rational(1, 100))  # what the reader makes of a per cent sign
_POINTS = ((3, 7), (11, 5), (-2, 9), (-13, 4), (1, 6), (17, 3))
"""(n, d) of fractions n/d, the values of variables at which two expressions are compared."""
_REFUSED_EVENTS = frozenset(
    "os.system os.exec os.fork os.forkpty os.posix_spawn os.startfile subprocess.Popen pty.spawn socket.connect "
    "socket.bind os.remove os.rename os.rmdir shutil.rmtree".split()
)
"""Audit events of Python that the process refuses: starting a program, a connection, removing a file."""


class Unreadable(Exception):
    """Raised for a text that is no expression, or that has a number of too many digits."""


def prepare() -> Callable[[dict], dict]:
    """Loads what sympy loads on first use, locks the process, and returns the function that answers jobs."""
    judge(r"\sin^2 x + \cos^2 x", "1")
    judge(r"-\frac{\sqrt{3}}{2}x^{2}", "(x+1)(x-1)")
    sympy.simplify(sympy.sin(sympy.Symbol("x")) ** 2)
    evaluate = sympy_parser.eval_expr

    def evaluate_literal(code: str, local_dict: dict, global_dict: dict) -> object:
        if not is_numeric_literal(code):
            raise PermissionError(f"{code[:100]} is not a number")
        return evaluate(code, local_dict, global_dict)

    def refuse(event: str, _: tuple) -> None:
        if event in _REFUSED_EVENTS:
            raise PermissionError(f"{event} in a verifier's worker")

    sympy_parser.eval_expr = evaluate_literal
    sys.addaudithook(refuse)
    return lambda job: dict(zip(("outcome", "detail"), judge(job["answer"], job["gold"]), strict=True))


def is_numeric_literal(code: str) -> bool:
    """True for the code that sympy makes of a number: `Integer (2 )`, `Float ('0.5' )`, or one of them over another."""
    for call in code.split("/", 1):
        name, _, rest = call.strip().removesuffix(")").partition("(")
        digits = set(rest.strip().strip("'\""))
        is_number = digits <= set("0123456789.,eE+- ") and any(map(str.isdigit, digits))
        if not is_number or name.strip() not in ("Integer", "Float", "Rational"):
            return False
    return True


def judge(answer: str, gold: str) -> tuple[str, str]:
    """("equal" | "different" | "unread", why) for two LaTeX texts; "unread" if the reference `gold` cannot be read."""
    real = not any(map(should_treat_as_complex, (gold, answer)))
    try:
        value = read(answer, real)
    except Unreadable as error:
        return "different", f"the answer cannot be judged: {error}"
    try:
        expected = read(gold, real)
    except Unreadable as error:
        return "unread", f"the gold answer cannot be read: {error}"
    return ("equal" if same(expected, value) else "different"), ""


class Reader(_Latex2Sympy):
    """math-verify's reader with exact numbers, letters told apart by case, and no hidden additions."""

    def parse_number(self, text: str) -> sympy.Rational:
        """A decimal literal as the rational number that it is."""
        return sympy.Rational(*Fraction(text.replace(",", "").replace(" ", "")).as_integer_ratio())

    def convert_postfix_list(self, arr: list, i: int = 0) -> object:
        """The value of factors side by side: their product, but the sum of an integer and a fraction, as in 2 1/2."""
        first = self.convert_postfix(arr[i])
        if not isinstance(first, sympy.Expr) or i == len(arr) - 1:
            return super().convert_postfix_list(arr, i)
        is_whole, following = arr[i].getText().isdecimal(), arr[i + 1].getText()
        if is_whole and following.lstrip("{")[:1].isdecimal():
            raise Unreadable("two numbers side by side")
        rest = self.convert_postfix_list(arr, i + 1)
        fraction = following.startswith(("\\frac", "\\dfrac", "\\tfrac", "\\cfrac"))
        mixed = is_whole and fraction and i == len(arr) - 2 and isinstance(rest, sympy.Rational)
        return first + rest if mixed else self.mul_flat(first, rest)


@lru_cache(maxsize=1024)  # a gold answer is compared with many
def read(text: str, real: bool) -> object:
    """The expression, relation, set, tuple or matrix that a LaTeX text stands for; raises `Unreadable`."""
    if not text.strip() or len(text) > LENGTH_LIMIT:
        raise Unreadable(f"empty, or more than {LENGTH_LIMIT} characters")
    if any(mark in text for mark in _DOTS):
        raise Unreadable("dots or an approximation")
    if any(before.isdigit() and mark == "_" for before, mark in pairwise(text.replace(" ", ""))):
        raise Unreadable("a number with a base")
    if max(accumulate((c in "({[") - (c in ")}]") for c in text)) > DEPTH_LIMIT:
        raise Unreadable(f"nested more than {DEPTH_LIMIT} deep")
    text = normalize_latex(text, _NORMALIZATION)
    try:
        parsed = Reader(is_real=real or None, convert_degrees="\\circ" in text, config=_CONVERSION).parse(
            text
        )
        for entry in parsed.flat() if isinstance(parsed, sympy.MatrixBase) else [parsed]:
            digits(entry)  # raises before anything with too many digits is computed
    except (MemoryError, RecursionError):
        raise
    except Exception as error:  # the reader raises bare Exceptions, and its helpers any others
        raise Unreadable(str(error)[:100]) from error
    return parsed


def digits(expr: sympy.Basic) -> float:
    """A bound of |log10| of a value, with 1 for letters; raises `Unreadable` if it is too large."""
    if isinstance(expr, sympy.Rational):
        return math.log10(max(abs(expr.p), expr.q, 1))
    parts = [digits(part) for part in expr.args if isinstance(part, sympy.Basic)]
    largest = max(parts, default=0.0)
    if isinstance(expr, sympy.Pow | sympy.exp):
        if any(power.exp.has(sympy.Pow, sympy.exp) for power in expr.exp.atoms(sympy.Pow, sympy.exp)):
            raise Unreadable("a tower of powers")
        of_exponent, of_base = parts[-1], parts[0] if isinstance(expr, sympy.Pow) else 0.0
        # log10 |b^e| = e log10 |b|, and log10 of Euler's number is below 0.5; 10**300 is above the limit, and a float.
        largest = 10.0 ** min(of_exponent, 300.0) * max(of_base, 0.5) if of_exponent or of_base else 0.0
    elif isinstance(expr, sympy.Add | sympy.Mul | sympy.MatMul | sympy.MatAdd):
        largest = sum(parts) + len(parts)
    elif isinstance(expr, sympy.factorial | sympy.gamma):
        n = 10.0 ** min(largest, 300.0)
        largest = n * math.log10(n + 1) if n <= FACTORIAL_LIMIT else math.inf
    if largest > SIZE_LIMIT:
        raise Unreadable("a number of too many digits")
    return largest


def same(gold: object, answer: object) -> bool:
    """True if the two say the same. `x = 5` counts as 5 beside a value; a list is a set with repeated elements."""
    if isinstance(gold, sympy.Eq) != isinstance(answer, sympy.Eq):
        gold, answer = (
            side.rhs if isinstance(side, sympy.Eq) and side.lhs.is_Symbol else side for side in (gold, answer)
        )
    if isinstance(gold, sympy.Expr) and isinstance(answer, sympy.Expr):
        return same_value(gold, answer)
    if not (isinstance(gold, FiniteSet) and isinstance(answer, FiniteSet)):
        return gold.doit() == answer.doit()
    unmatched = list(getattr(answer, "_unsorted_args", answer.args))  # `args` has each element once
    for element in getattr(gold, "_unsorted_args", gold.args):
        match = next((i for i, other in enumerate(unmatched) if same(element, other)), None)
        if match is None:
            return False
        del unmatched[match]
    return not unmatched


def same_value(gold: sympy.Expr, answer: sympy.Expr) -> bool:
    """True if two expressions are equal wherever both are defined."""
    # A variable under an even root of the reference is positive, and i is the imaginary unit.
    powers = [power for power in gold.atoms(sympy.Pow) if power.base.is_Symbol]
    roots = [power.base for power in powers if sympy.denom(power.exp) % 2 == 0]
    replaced = {symbol: sympy.Symbol(symbol.name, positive=True) for symbol in roots}
    replaced |= {s: sympy.I for s in gold.free_symbols | answer.free_symbols if s.name == "i"}
    a, b = (side.xreplace(replaced | {_PERCENT: sympy.S.One}).doit() for side in (gold, answer))  # 50% is 50
    if a == b:
        return not a.has(sympy.nan, sympy.zoo)
    symbols = sorted(a.free_symbols | b.free_symbols, key=str)
    points, needed = (4, 2) if symbols else (1, 1)  # how many points are tried, and how many must agree
    agreeing = 0
    for k in range(points):
        # The fractions of `_POINTS` from the k-th on, each changed by its place j, so that none comes twice.
        pairs = [_POINTS[(k + j) % len(_POINTS)] for j in range(len(symbols))]
        values = [sympy.Rational(n * (2 * j + 1) + j, d + 2 * j) for j, (n, d) in enumerate(pairs)]
        one, two = (number_at(side, dict(zip(symbols, values, strict=True))) for side in (a, b))
        if one is None or two is None or not (one == two == 0 or is_precise(one) or is_precise(two)):
            continue
        if abs(one - two) > max(abs(one), abs(two)) * sympy.Rational(1, 10**DIGITS):
            return False
        agreeing += 1
    if agreeing >= needed and has_short_numbers(a) and has_short_numbers(b):
        return True
    difference = sympy.expand(a - b)
    return bool(difference.is_zero or sympy.simplify(difference).is_zero)


def number_at(expr: sympy.Expr, point: dict) -> sympy.Expr | None:
    """The value of an expression at a point; None if it is no finite number."""
    try:
        value = expr.subs(point).evalf(DIGITS + 10)
    except (ValueError, TypeError, ArithmeticError, NotImplementedError, AttributeError):
        return None
    parts = value.as_real_imag() if value.is_number else (value,)
    return value if all(isinstance(p, sympy.Float | sympy.Rational) and p.is_finite for p in parts) else None


def is_precise(value: sympy.Expr) -> bool:
    """False if cancellation has left no certain digit in a value; a digit takes a little more than three bits."""
    return all(number._prec > DIGITS * 3 for number in value.atoms(sympy.Float))


def has_short_numbers(expr: sympy.Expr) -> bool:
    """True if all numbers are so short that two values that agree to `DIGITS` digits are equal."""
    has_long_number = any(max(abs(number.p), number.q) >= 10**12 for number in expr.atoms(sympy.Rational))
    exponents = [power.exp for power in expr.atoms(sympy.Pow)]
    return not (has_long_number or any(e.is_Rational and abs(e) > 12 for e in exponents))
