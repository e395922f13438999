r"""The last tier, in a worker process: a computer algebra system says whether two LaTeX texts have the same value.

verifiers/worker.py runs the process and ends it when its time is up. The seconds are set in task.py (`cas_workers`),
the memory here (`MEMORY`).

math-verify's reader hands numbers to sympy as text, which sympy evaluates as Python code; here they become sympy
numbers directly. Where sympy still evaluates text, it is given numeric literals alone. No code here may start a program
or open a connection. A number of too many digits is refused before anything is computed.
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
from sympy.core.function import AppliedUndef
from sympy.parsing import sympy_parser

MEMORY = 1 << 30  # bytes
LENGTH_LIMIT = 1000  # characters of a text
DEPTH_LIMIT = 24  # brackets in one another
SIZE_LIMIT = 20_000  # decimal digits of any exact number on the way
FACTORIAL_LIMIT = 2_000  # the largest n of n!
DIGITS = 50  # to which two numbers must agree
NAMES = sympy.Symbol | AppliedUndef  # the kinds of names that a value may have: x, f(x)

_DOTS = ("\\ldots", "\\dots", "\\cdots", "\\vdots", "\\ddots", "...", "…", "\\approx", "~=", "\\sim", "≈")
"""Signs of a sum that goes on, or of an approximation. A text with one of them is not read: "1 + 2 + \\ldots"."""
_ANGLES = ("\\sin", "\\cos", "\\tan", "\\cot", "\\sec", "\\csc", "\\cis")
"""Functions for whose sake degrees are converted: \\sin 30^\\circ is 1/2."""
_NORMALIZATION = NormalizationConfig(
    basic_latex=True, units=False, malformed_operators=True, nits=False, boxed="none", equations=False
)
_CONVERSION = ConversionConfig(lowercase_symbols=False)
_PERCENT = sympy.UnevaluatedExpr(sympy.Rational(1, 100))  # what the reader makes of a per cent sign
_POINTS = ((3, 7), (11, 5), (-2, 9), (-13, 4), (1, 6), (17, 3))
"""(n, d) of fractions n/d, the values of variables at which two expressions are compared."""
_NO_NUMBER = (ValueError, TypeError, ArithmeticError, NotImplementedError, AttributeError)
"""What sympy's evalf raises if an expression has no value."""
_REFUSED_EVENTS = frozenset(
    "os.system os.exec os.fork os.forkpty os.posix_spawn os.startfile subprocess.Popen pty.spawn socket.connect "
    "socket.bind os.remove os.rename os.rmdir shutil.rmtree".split()
)
"""Audit events of Python that the process refuses: starting a program, a connection, removing a file."""
_WARM_UP = ((r"\sin^2 x + \cos^2 x", "1"), (r"-\frac{\sqrt{3}}{2}x^{2}", "(x+1)(x-1)"))
"""(answer, reference) of the questions that `prepare` asks, so that sympy has loaded what it needs."""


class Unreadable(Exception):
    """Raised for a text that is no expression, or that has a number of too many digits."""


def prepare() -> Callable[[dict], dict]:
    """Loads what sympy loads on first use, locks the process, and returns the function that answers jobs."""
    for answer, gold in _WARM_UP:
        judge(answer, gold)
    sympy.simplify(sympy.sin(sympy.Symbol("x")) ** 2)
    evaluate = sympy_parser.eval_expr

    def evaluate_literal(code: str, local_dict: dict, global_dict: dict) -> object:
        if not is_numeric_literal(code):
            raise PermissionError(f"{code[:100]} is not a number")
        return evaluate(code, local_dict, global_dict)

    def judge_job(job: dict) -> dict:
        outcome, detail = judge(job["answer"], job["gold"])
        return {"outcome": outcome, "detail": detail}

    def refuse(event: str, _: tuple) -> None:
        if event in _REFUSED_EVENTS:
            raise PermissionError(f"{event} in a verifier's worker")

    sympy_parser.eval_expr = evaluate_literal
    sys.addaudithook(refuse)
    return judge_job


def is_numeric_literal(code: str) -> bool:
    """True for the code that sympy makes of a number: `Integer (2 )`, `Float ('0.5' )`, or one of them over another."""
    return all(map(is_call_of_digits, code.split("/", 1)))


def is_call_of_digits(call: str) -> bool:
    """True for a single call such as `Integer (2 )`."""
    name, _, rest = call.strip().removesuffix(")").partition("(")
    literal = set(rest.strip().strip("'\""))
    numeric = literal <= set("0123456789.,eE+- ") and any(map(str.isdigit, literal))
    return numeric and name.strip() in ("Integer", "Float", "Rational")


def judge(answer: str, gold: str) -> tuple[str, str]:
    """("equal" | "different" | "unread", why) for two LaTeX texts; "unread" if the reference `gold` cannot be read.

    The reason is "" if both texts can be read.
    """
    real = not any(map(should_treat_as_complex, (gold, answer)))
    sides = [answer] if "=" in gold else sides_of(answer)  # x and 3 of x = 3, if the reference is 3
    try:
        values = [read(side, real) for side in sides]
    except Unreadable as error:
        return "different", f"the answer cannot be judged: {error}"
    try:
        expected = read(gold, real)
    except Unreadable as error:
        return "unread", f"the gold answer cannot be read: {error}"
    if len(values) > 1 and is_name_of_value(values[0], expected):
        del values[0]
    are_equal = all(same(expected, side) for side in values)
    return ("equal" if are_equal else "different"), ""


def is_name_of_value(side: sympy.Basic, expected: sympy.Basic) -> bool:
    """True if a side is the name of a value, as the A of A = 5: letters or a function that the reference lacks."""
    letters = side.free_symbols | side.atoms(AppliedUndef)
    is_function = isinstance(side, AppliedUndef) and side not in expected.atoms(AppliedUndef)
    return is_function or (bool(letters) and letters.isdisjoint(expected.free_symbols))


# ---- reading ----


def change_of_depth(mark: str) -> int:
    """1 for an opening bracket, -1 for a closing one, 0 for any other character."""
    if mark in "({[":
        return 1
    return -1 if mark in ")}]" else 0


_UNREAD: dict[str, Callable[[str], bool]] = {
    f"empty, or more than {LENGTH_LIMIT} characters": lambda text: (
        not text.strip() or len(text) > LENGTH_LIMIT
    ),
    "dots or an approximation": lambda text: any(mark in text for mark in _DOTS),
    "a number with a base": lambda text: any(
        before.isdigit() and mark == "_" for before, mark in pairwise(text.replace(" ", ""))
    ),
    f"nested more than {DEPTH_LIMIT} deep": lambda text: (
        max(accumulate(map(change_of_depth, text))) > DEPTH_LIMIT
    ),
}
"""{a fault for which a text is not read: whether a text has it}; the faults are looked for in this order."""


def sides_of(equation: str) -> list[str]:
    r"""The texts between the signs `=` and `\approx`; an `=` in braces, `\sum_{i=1}^5 i`, is no such sign."""
    sides, depth = [""], 0
    for mark in equation.replace("\\approx", "=").replace("≈", "="):
        if mark in "{}":
            depth += change_of_depth(mark)
        if mark == "=" and depth <= 0:
            sides.append("")
        else:
            sides[-1] += mark
    return sides


class Reader(_Latex2Sympy):
    """math-verify's reader with exact numbers, letters told apart by case, and no hidden additions."""

    def parse_number(self, text: str) -> sympy.Rational:
        """A decimal literal as the rational number that it is."""
        value = Fraction(text.replace(",", "").replace(" ", ""))
        return sympy.Rational(value.numerator, value.denominator)

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


def read(text: str, real: bool) -> object:
    """The expression, relation, set, tuple or matrix that a LaTeX text stands for; raises `Unreadable`."""
    for why, has in _UNREAD.items():
        if has(text):
            raise Unreadable(why)
    try:
        return _read(text, real)
    except Unreadable:
        if "\\pm" not in text and "\\mp" not in text:
            raise
        # math-verify's reader takes \pm at the top level only.
        signs_for_pm_and_mp = (("+", "-"), ("-", "+"))
        texts = [text.replace("\\pm", pm).replace("\\mp", mp) for pm, mp in signs_for_pm_and_mp]
        return FiniteSet(*(_read(side, real) for side in texts))


@lru_cache(maxsize=1024)  # a gold answer is compared with many
def _read(text: str, real: bool) -> object:
    """What `read` returns for a text without a plus-minus sign inside another expression."""
    text = normalize_latex(text, _NORMALIZATION)
    degrees = "\\circ" in text and any(name in text for name in _ANGLES)
    try:
        parsed = Reader(is_real=real or None, convert_degrees=degrees, config=_CONVERSION).parse(text)
        for entry in parsed.flat() if isinstance(parsed, sympy.MatrixBase) else [parsed]:
            digits(entry)  # raises before anything with too many digits is computed
    except (MemoryError, RecursionError):
        raise
    except Exception as error:  # the reader raises bare Exceptions, and its helpers any others
        raise Unreadable(str(error)[:100]) from error
    return parsed


def digits(expr: sympy.Basic) -> float:
    """How many digits a value may have, before or behind its point; a letter counts as the number 1.

    More exactly, a bound of the absolute value of its decimal logarithm. Raises `Unreadable` if it is above SIZE_LIMIT.
    """
    if isinstance(expr, sympy.Rational):
        return math.log10(max(abs(expr.p), expr.q, 1))
    parts = [digits(part) for part in expr.args if isinstance(part, sympy.Basic)]
    largest = max(parts, default=0.0)
    if isinstance(expr, sympy.Pow | sympy.exp):
        powers_in_exponent = expr.exp.atoms(sympy.Pow, sympy.exp)
        if any(power.exp.has(sympy.Pow, sympy.exp) for power in powers_in_exponent):
            raise Unreadable("a tower of powers")
        digits_of_exponent = parts[-1]
        digits_of_base = parts[0] if isinstance(expr, sympy.Pow) else 0.0
        # log10 |b^e| = e log10 |b|, where |e| is at most 10**digits_of_exponent. The base of exp is Euler's number, and
        # log10(2.718) < 0.5. 10.0**300 is far above the limit, and still a float.
        has_digits = bool(digits_of_exponent or digits_of_base)
        largest = 10.0 ** min(digits_of_exponent, 300.0) * max(digits_of_base, 0.5) if has_digits else 0.0
    elif isinstance(expr, sympy.Add | sympy.Mul | sympy.MatMul | sympy.MatAdd):
        largest = sum(parts) + len(parts)
    elif isinstance(expr, sympy.factorial | sympy.gamma):
        n = 10.0 ** min(largest, 300.0)
        largest = n * math.log10(n + 1) if n <= FACTORIAL_LIMIT else math.inf
    if largest > SIZE_LIMIT:
        raise Unreadable("a number of too many digits")
    return largest


# ---- comparing ----


def same(gold: object, answer: object) -> bool:
    """True if the two say the same. `x = 5` counts as its value 5; a list is a set with repeated elements."""
    names = [name_before_equals(side) for side in (gold, answer)]
    have_same_name = None not in names and names[0] == names[1]
    if have_same_name or isinstance(gold, sympy.Eq) != isinstance(answer, sympy.Eq):
        gold, answer = (
            side if name is None else side.rhs for side, name in zip((gold, answer), names, strict=True)
        )
    if isinstance(gold, sympy.Expr) and isinstance(answer, sympy.Expr):
        return same_value(gold, answer)
    are_lists = isinstance(gold, sympy.FiniteSet) and isinstance(answer, sympy.FiniteSet)
    return same_elements(gold, answer) if are_lists else gold.doit() == answer.doit()


def name_before_equals(side: object) -> str | None:
    """The y of y = 5 and of y(x) = 5; None for anything else."""
    if isinstance(side, sympy.Eq) and isinstance(side.lhs, NAMES):
        return str(side.lhs).partition("(")[0]
    return None


def same_elements(gold: sympy.FiniteSet, answer: sympy.FiniteSet) -> bool:
    """True if both were written with the same elements, each equally often."""
    # `args` has each element once; `_unsorted_args`, if it is there, has them as they were written.
    elements, unmatched = (list(getattr(side, "_unsorted_args", side.args)) for side in (gold, answer))
    for element in elements:
        match = next((i for i, other in enumerate(unmatched) if same(element, other)), None)
        if match is None:
            return False
        del unmatched[match]
    return not unmatched


def same_value(gold: sympy.Expr, answer: sympy.Expr) -> bool:
    """True if two expressions are equal wherever both are defined."""
    # In both, a variable under an even root of the reference becomes a positive one, and i the imaginary unit.
    powers_of_symbols = [power for power in gold.atoms(sympy.Pow) if power.base.is_Symbol]
    under_even_roots = [power.base for power in powers_of_symbols if sympy.denom(power.exp) % 2 == 0]
    replaced = {symbol: sympy.Symbol(symbol.name, positive=True) for symbol in under_even_roots}
    all_symbols = gold.free_symbols | answer.free_symbols
    replaced |= {symbol: sympy.I for symbol in all_symbols if symbol.name == "i"}
    gold, answer = gold.xreplace(replaced), answer.xreplace(replaced)
    a, b = (side.xreplace({_PERCENT: sympy.S.One}).doit() for side in (gold, answer))  # 50% is 50
    if a == b:
        return not a.has(sympy.nan, sympy.zoo)
    symbols = sorted(a.free_symbols | b.free_symbols, key=str)
    points_agreeing = 0
    points, points_needed = (4, 2) if symbols else (1, 1)  # how many are tried, and how many must agree
    for k in range(points):
        same_number = _compare_numbers(a, b, dict(zip(symbols, _point(k, len(symbols)), strict=True)))
        if same_number is False:
            return False
        if same_number:  # it is None if this cannot be told
            points_agreeing += 1
    if points_agreeing >= points_needed and _has_short_numbers(a) and _has_short_numbers(b):
        return True
    difference = sympy.expand(a - b)
    return bool(difference.is_zero or sympy.simplify(difference).is_zero)


def _point(k: int, count: int) -> list[sympy.Rational]:
    """The values of `count` variables at the point with the number k.

    They are the fractions of `_POINTS` from the k-th on, each changed by its place j, so that none comes twice.
    """
    fractions = [_POINTS[(k + j) % len(_POINTS)] for j in range(count)]
    return [sympy.Rational(n * (2 * j + 1) + j, d + 2 * j) for j, (n, d) in enumerate(fractions)]


def _compare_numbers(a: sympy.Expr, b: sympy.Expr, point: dict) -> bool | None:
    """True if the values at a point differ by at most 10^-50 of the larger one; None if that cannot be told.

    It cannot be told if one has no value, or if no digit of either is certain. One precise value suffices.
    """
    one, two = (_number(side, point, DIGITS + 10) for side in (a, b))
    if one is None or two is None:
        return None
    are_zero = one == 0 and two == 0
    if not (are_zero or _is_precise(one) or _is_precise(two)):
        return None
    return bool(abs(one - two) <= max(abs(one), abs(two)) * sympy.Rational(1, 10**DIGITS))


def _number(expr: sympy.Expr, point: dict, precision: int) -> sympy.Expr | None:
    """The value of an expression at a point, to `precision` digits; None if it is no finite number."""
    try:
        value = expr.subs(point).evalf(precision)
    except _NO_NUMBER:
        return None
    parts = value.as_real_imag() if value.is_number else (value,)
    finite = all(isinstance(part, sympy.Float | sympy.Rational) and part.is_finite for part in parts)
    return value if finite else None


def _is_precise(value: sympy.Expr) -> bool:
    """False if cancellation has left no certain digit in a value."""
    bits = DIGITS * 3  # a digit takes a little more than three bits
    return all(number._prec > bits for number in value.atoms(sympy.Float))


def _has_short_numbers(expr: sympy.Expr) -> bool:
    """True if all numbers in an expression are so short that two values that agree to `DIGITS` digits are equal."""
    has_long_number = any(max(abs(number.p), number.q) >= 10**12 for number in expr.atoms(sympy.Rational))
    exponents = [power.exp for power in expr.atoms(sympy.Pow)]
    has_large_exponent = any(exponent.is_Rational and abs(exponent) > 12 for exponent in exponents)
    return not (has_long_number or has_large_exponent)
