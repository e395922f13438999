"""Countdown: does this expression use each given number exactly once and evaluate to the target, exactly?

Reference: `numbers`, a sequence of integers, and `target`, any rational number: an int, `Fraction`,
`Decimal`, a finite float (read as the decimal it prints as) or a string such as "21/2". See
docs/verifiers/countdown.md.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from itertools import chain
from operator import index
from typing import TYPE_CHECKING, Any

from verifiers import batch, characters
from verifiers.countdown import expression
from verifiers.countdown.expression import LIMIT, MAX_DIGITS, MAX_NUMBERS, UNDECIDED, Given, Memory
from verifiers.errors import invalid_reference, shown
from verifiers.extract import FOUND, Bytes, is_alone, locate
from verifiers.verdicts import GRAMMAR, MALFORMED, OK, RATIONAL, RULE_BROKEN, TEXT

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Column = npt.NDArray[np.int64]
    Columns = tuple[Column, Column, Column, Column]

Reference = tuple[list[int], int, int]

_TARGET_SIGNS = frozenset("0123456789+-./ ")
_A_TARGET = 'give a rational number such as 22, Fraction(21, 2), 10.5 or "21/2"'


def _read_numbers(numbers: Any, row: int | None) -> list[int]:
    """The given numbers as a list of exact integers; raises for anything else."""
    sized = hasattr(numbers, "__len__") and hasattr(numbers, "__getitem__")
    if not sized or isinstance(numbers, str | bytes | bytearray | dict) or getattr(numbers, "shape", 1) == ():
        problem = f"is a {type(numbers).__name__}; give a list of integers such as [3, 5, 7]"
        raise invalid_reference("numbers", numbers, problem, row)
    values = list(numbers)
    if not 1 <= len(values) <= MAX_NUMBERS:
        problem = f"holds {len(values)} numbers; give 1 to {MAX_NUMBERS} integers such as [3, 5, 7]"
        raise invalid_reference("numbers", numbers, problem, row)
    exact = []
    for place, value in enumerate(values):
        kind = type(value).__name__
        try:
            exact.append(index(value if kind not in ("bool", "bool_") else kind))  # type: ignore[arg-type]
        except TypeError as error:
            problem = f"holds {shown(value)} at place {place}, a {kind}; give integers such as [3, 5, 7]"
            raise invalid_reference("numbers", numbers, problem, row) from error
    if any(abs(value) >= 10**MAX_DIGITS for value in exact):
        problem = f"holds a number of more than {MAX_DIGITS} digits; give smaller ones"
        raise invalid_reference("numbers", numbers, problem, row)
    return exact


def _read_target(target: Any, row: int | None) -> tuple[int, int]:
    """(numerator, denominator) of the target; raises for what is no rational number."""
    if type(target) is int and -LIMIT <= target <= LIMIT:
        return target, 1
    from decimal import Decimal  # only now: slow to import, and most targets are small integers
    from fractions import Fraction
    from numbers import Rational

    kind = type(target).__name__
    value: Fraction | None = None
    try:
        if isinstance(target, Rational) and kind != "bool":
            value = Fraction(int(target.numerator), int(target.denominator))
        elif isinstance(target, Decimal) and target.is_finite() and abs(target.adjusted()) < MAX_DIGITS:
            value = Fraction(target)
        elif isinstance(target, str) and len(target) < 2 * MAX_DIGITS and _TARGET_SIGNS.issuperset(target):
            value = Fraction(target)
        elif isinstance(target, float) or hasattr(target, "is_integer"):
            value = Fraction(str(target))  # 0.1 is one tenth here, not the double that is next to it
        elif kind not in ("bool", "bool_"):
            value = Fraction(index(target))
    except (TypeError, ValueError, ZeroDivisionError, OverflowError):
        pass
    if value is None:
        raise invalid_reference("target", target, f"is a {kind} that is no rational number; {_A_TARGET}", row)
    if max(abs(value.numerator), value.denominator) >= 10**MAX_DIGITS:
        problem = f"has more than {MAX_DIGITS} digits; give a smaller one"
        raise invalid_reference("target", target, problem, row)
    return value.numerator, value.denominator


def read_reference(numbers: object, target: object, row: int | None) -> Reference:
    """(given numbers, numerator and denominator of the target); raises `InvalidReferenceError`.

    `row` is the place in the batch that an error names, None outside one.
    """
    return (_read_numbers(numbers, row), *_read_target(target, row))


def reference_columns(numbers: Sequence[Any], targets: Sequence[Any]) -> Columns:
    """The references of N rows as arrays for the kernel; raises `InvalidReferenceError` for the first invalid one.

    All numbers, where those of a row begin (N + 1,), numerators and denominators of the targets (N,). A row that
    does not fit 64 bits has no numbers there.
    """
    import numpy as np

    only_integers = set(map(type, numbers)) <= {list, tuple} and set(map(type, targets)) <= {int}
    flat = list(chain.from_iterable(numbers)) if only_integers else []
    if only_integers and set(map(type, flat)) <= {int}:
        starts = batch.starts_of(numbers)
        try:
            values = np.fromiter(flat, np.int64, len(flat))
            numerators = np.fromiter(targets, np.int64, len(targets))
        except OverflowError:
            pass
        else:
            fit = all(((-LIMIT <= column) & (column <= LIMIT)).all() for column in (values, numerators))
            sizes = np.diff(starts)
            if fit and 1 <= sizes.min(initial=1) and sizes.max(initial=1) <= MAX_NUMBERS:
                return values, starts, numerators, np.ones(len(numerators), np.int64)
    references = [read_reference(*pair, row) for row, pair in enumerate(zip(numbers, targets, strict=True))]
    references = [reference if _fits(reference) else ([], 0, 1) for reference in references]
    starts = batch.starts_of([reference[0] for reference in references])
    values = np.fromiter(chain.from_iterable(r[0] for r in references), np.int64, int(starts[-1]))
    numerators, denominators = (np.array([r[place] for r in references], np.int64) for place in (1, 2))
    return values, starts, numerators, denominators


def _fits(reference: Reference) -> bool:
    numbers, top, bottom = reference
    return all(-LIMIT <= value <= LIMIT for value in (*numbers, top, bottom))


def judge_exactly(
    data: Bytes, start: int, end: int, lenient: bool, exact: bool, given: Given, memory: Memory
) -> batch.Judged:
    """The verdict on data[start:end], UNDECIDED only where not `exact`."""
    status, low, high, boxed = locate(data, start, end, lenient)
    if status != FOUND:
        return status, TEXT, 0.0, low, high
    begin, finish = low, high
    if lenient:
        begin, finish = expression.unwrap(data, low, high)
        begin = expression.skip_words(data, begin, finish)
        if begin > low:
            begin, finish = expression.unwrap(data, begin, finish)
    elif boxed and not is_alone(data, start, end, low, high, False):
        begin = -1
    if begin < 0:
        return MALFORMED, GRAMMAR, 0.0, low, high
    reason = expression.evaluate_expression(data, begin, finish, lenient, exact, given, memory)
    tier = GRAMMAR if reason == MALFORMED or reason == RULE_BROKEN else RATIONAL
    return reason, tier, 1.0 if reason == OK else 0.0, low, high


def judge_completion(
    data: Bytes, start: int, end: int, lenient: bool, references: Columns, row: int, memory: Memory
) -> batch.Judged:
    """`judge_exactly` in 64 bits, as `batch.RowLoop` calls it."""
    numbers, firsts, numerators, denominators = references
    first, last = firsts[row], firsts[row + 1]
    if first == last:  # the reference does not fit 64 bits
        return UNDECIDED, TEXT, 0.0, -1, -1
    given = (numbers, first, last, numerators[row], denominators[row])
    return judge_exactly(data, start, end, lenient, False, given, memory)


def _judge(
    data: bytes, lenient: bool, row: int | None, memory: Memory, numbers: object, target: object
) -> batch.Judged:
    """One completion without numba, on 64 bits and, where these are too few, on integers of any size."""
    values, numerator, denominator = read_reference(numbers, target, row)
    given = (values, 0, len(values), numerator, denominator)
    judged = judge_exactly(data, 0, len(data), lenient, False, given, memory)
    if judged[0] == UNDECIDED:
        judged = judge_exactly(data, 0, len(data), lenient, True, given, memory)
    return judged


_LOOP = batch.RowLoop(
    judge_completion,
    "int64[::1], int64[::1], int64[::1], int64[::1]",
    max(expression.MAX_DEPTH + 1, MAX_NUMBERS, expression.STATE_SIZE),
    (characters, expression, sys.modules[__name__]),
    compile_above=1 << 18,
)
TASK = batch.compiled_task("countdown", ("numbers", "target"), _LOOP, _judge, reference_columns)
