"""Countdown: does this expression use each given number exactly once and evaluate to the target, exactly?

Reference: `numbers`, a sequence of integers, and `target`, any rational number: an int, `Fraction`,
`Decimal`, a finite float (read as the decimal it prints as) or a string such as "21/2". See
docs/verifiers/countdown.md.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import suppress
from itertools import chain
from typing import TYPE_CHECKING, Any

from verifiers import batch, characters
from verifiers.countdown import expression
from verifiers.countdown.expression import (
    DIGITS_LIMIT,
    INTEGER_LIMIT,
    NUMBERS_LIMIT,
    OVER_LIMIT,
    Memory,
    Puzzle,
)
from verifiers.countdown.flaw import explain, given_integers, target_text
from verifiers.countdown.unmarked import last_expression
from verifiers.errors import invalid_reference
from verifiers.extract import FOUND, Bytes, is_alone, locate
from verifiers.verdicts import GRAMMAR, MALFORMED, OK, RATIONAL, RULE_BROKEN, TEXT

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Column = npt.NDArray[np.int64]
    Columns = tuple[Column, Column, Column, Column]

# The smallest integer with too many digits; it is computed once, because that takes long.
_TOO_LONG = 10**DIGITS_LIMIT
_TARGET_SIGNS = frozenset("0123456789+-./ ")


def _read_numbers(numbers: Any, row: int | None) -> list[int]:
    """The given numbers as a list of exact integers; raises for anything else."""
    exact = []
    if isinstance(numbers, set | frozenset):
        problem = "is a set, which keeps only one of equal numbers; give a list, such as [3, 3, 5]"
        raise invalid_reference("numbers", numbers, problem, row)
    if hasattr(numbers, "__len__") and not isinstance(numbers, str | bytes | bytearray | dict):
        with suppress(TypeError):
            exact = given_integers(numbers)
    if not 1 <= len(exact) <= NUMBERS_LIMIT or any(abs(value) >= _TOO_LONG for value in exact):
        problem = f"is no list of 1 to {NUMBERS_LIMIT} integers, such as [3, 5, 7]"
        raise invalid_reference("numbers", numbers, problem, row)
    return exact


def _read_target(target: Any, row: int | None) -> tuple[int, int]:
    """(numerator, denominator) of the target; raises for anything but a rational number."""
    if type(target) is int and abs(target) < _TOO_LONG:  # the usual case
        return target, 1
    from decimal import Decimal  # only now: slow to import, and most targets are small integers
    from fractions import Fraction

    value = None
    if isinstance(target, str):
        # It may have a numerator and a denominator.
        is_readable = len(target) < 2 * DIGITS_LIMIT and _TARGET_SIGNS.issuperset(target)
    else:
        is_readable = not isinstance(target, Decimal) or abs(target.adjusted()) < DIGITS_LIMIT
    with suppress(ValueError, ZeroDivisionError):
        # From its text, 0.1 is one tenth and not the double next to it.
        value = Fraction(target_text(target)) if is_readable else None
    if value is None or max(abs(value.numerator), value.denominator) >= _TOO_LONG:
        problem = 'is no rational number; give one such as 22, Fraction(21, 2), 10.5 or "21/2"'
        raise invalid_reference("target", target, problem, row)
    return value.numerator, value.denominator


def _plain_columns(numbers: Sequence[Any], targets: Sequence[Any]) -> Columns | None:
    """`reference_columns` of lists of integers that fit 64 bits, all at once; None if a row is anything else."""
    import numpy as np

    if not set(map(type, numbers)) <= {list, tuple} or not set(map(type, targets)) <= {int}:
        return None
    flat = list(chain.from_iterable(numbers))
    if not set(map(type, flat)) <= {int}:
        return None
    starts = batch.starts_of(numbers)
    try:
        values = np.fromiter(flat, np.int64, len(flat))
        numerators = np.fromiter(targets, np.int64, len(targets))
    except OverflowError:
        return None
    fit = all(((-INTEGER_LIMIT < column) & (column < INTEGER_LIMIT)).all() for column in (values, numerators))
    sizes = np.diff(starts)
    fit = fit and 1 <= sizes.min(initial=1) and sizes.max(initial=1) <= NUMBERS_LIMIT
    return (values, starts, numerators, np.ones(len(numerators), np.int64)) if fit else None


def reference_columns(numbers: Sequence[Any], targets: Sequence[Any]) -> Columns:
    """The references of N rows as arrays for the compiled loop.

    The arrays hold: all numbers; where the numbers of each row begin, and the last ones end (N + 1,); the numerators of
    the targets (N,); their denominators (N,). A row that does not fit 64 bits has no numbers in these arrays, and a
    target that makes every well-formed answer UNDECIDED. Raises `InvalidReferenceError` for the first invalid
    reference.
    """
    return _plain_columns(numbers, targets) or _read_columns(numbers, targets)


def _read_columns(numbers: Sequence[Any], targets: Sequence[Any]) -> Columns:
    """`reference_columns` of numbers and targets of any type, row by row."""
    import numpy as np

    references = [
        (_read_numbers(puzzle_numbers, row), *_read_target(target, row))
        for row, (puzzle_numbers, target) in enumerate(zip(numbers, targets, strict=True))
    ]
    for row, (puzzle_numbers, top, bottom) in enumerate(references):
        if any(abs(value) >= INTEGER_LIMIT for value in (*puzzle_numbers, top, bottom)):
            references[row] = [], OVER_LIMIT, 1
    starts = batch.starts_of([reference[0] for reference in references])
    flat = chain.from_iterable(puzzle_numbers for puzzle_numbers, _, _ in references)
    values = np.fromiter(flat, np.int64, int(starts[-1]))
    numerators = np.array([top for _, top, _ in references], np.int64)
    denominators = np.array([bottom for _, _, bottom in references], np.int64)
    return values, starts, numerators, denominators


def judge_exactly(
    data: Bytes, start: int, end: int, lenient: bool, exact: bool, puzzle: Puzzle, memory: Memory
) -> batch.Judged:
    """The verdict on data[start:end]. exact: on integers of any size; otherwise in 64 bits, maybe UNDECIDED."""
    status, low, high, boxed = locate(data, start, end, lenient)
    if status != FOUND:
        return status, TEXT, 0.0, low, high
    as_in_prompt = False
    begin, finish = low, high
    if lenient:
        begin, finish = expression.without_words(data, low, high)
    elif boxed and not is_alone(data, start, end, low, high, as_in_prompt):
        begin = -1  # `evaluate_expression` then says MALFORMED
    reason = expression.evaluate_expression(data, begin, finish, lenient, exact, puzzle, memory)
    tier = GRAMMAR if reason == MALFORMED or reason == RULE_BROKEN else RATIONAL
    return reason, tier, 1.0 if reason == OK else 0.0, low, high


def judge_completion(
    data: Bytes, start: int, end: int, lenient: bool, references: Columns, row: int, memory: Memory
) -> batch.Judged:
    """`judge_exactly` in 64 bits, as `batch.RowLoop` calls it."""
    numbers, firsts, numerators, denominators = references
    puzzle = Puzzle(numbers, firsts[row], firsts[row + 1], numerators[row], denominators[row])
    exact = False
    return judge_exactly(data, start, end, lenient, exact, puzzle, memory)


def _judge(
    data: bytes, lenient: bool, row: int | None, memory: Memory, numbers: object, target: object
) -> batch.Judged:
    """One completion without numba, on integers of any size."""
    values = _read_numbers(numbers, row)
    top, bottom = _read_target(target, row)
    puzzle = Puzzle(values, first=0, last=len(values), top=top, bottom=bottom)
    return judge_exactly(data, 0, len(data), lenient, exact=True, puzzle=puzzle, memory=memory)


_LOOP = batch.RowLoop(
    judge_completion,
    references="int64[::1], int64[::1], int64[::1], int64[::1]",
    scratch=Memory,
    modules=(characters, expression, sys.modules[__name__]),
)
TASK = batch.compiled_task(
    "countdown", ("numbers", "target"), _LOOP, _judge, reference_columns, explain, flexible=last_expression
)
