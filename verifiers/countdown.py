"""Countdown: does this expression use each given number exactly once and evaluate to the target, exactly?

Reference: `numbers`, a sequence of integers, and `target`, any rational number: an int, `Fraction`, `Decimal`, a finite
float (read as the decimal it prints as) or a string such as "21/2". See docs/verifiers/countdown.md.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from itertools import chain
from operator import index
from typing import TYPE_CHECKING, Any, NamedTuple

from verifiers import batch
from verifiers.errors import invalid_reference
from verifiers.reading.answer import Found, find_answer, regions
from verifiers.reading.expressions import expression_in, last_expression, tokens_of
from verifiers.verdicts import GRAMMAR, MALFORMED, NO_ANSWER, OK, RATIONAL, RULE_BROKEN, TEXT, WRONG, Reason

if TYPE_CHECKING:
    pass

DIGITS_LIMIT = 4_000  # the most digits of a literal; Python reads at most 4,300
NUMBERS_LIMIT = 256  # the most given numbers
LITERALS_LIMIT = 1_024  # the most literals of an answer
DEPTH_LIMIT = 256  # operators and brackets that wait for their right side
EXPLAINED_CHARACTERS = 200  # the most characters of an answer whose fault is explained
_TOO_LONG = 10**DIGITS_LIMIT  # computed once, because that takes long
_TARGET_SIGNS = frozenset("0123456789+-./ ")
_BINDING = {"+": 1, "-": 1, "*": 2, "/": 2, "negate": 3}
_FRACTIONS = frozenset(("\\frac", "\\dfrac", "\\tfrac", "\\cfrac"))


class Side(NamedTuple):
    """One side of an answer: its value as a fraction, and the literals in it.

    bottom: 0 if it divides by zero. uses: (the whole number, whether a minus sign stands before it) of each literal;
    the number is None for one with decimals.
    """

    top: int
    bottom: int
    uses: list[tuple[int | None, bool]]


def evaluate(tokens: Sequence[str]) -> list[Side] | None:
    """The sides of an expression, divided at `=`; None if it is not well formed.

    Dijkstra's shunting-yard over exact fractions, on two stacks.
    """
    sides: list[Side] = []
    values: list[tuple[int, int]] = []
    operators: list[str] = []
    uses: list[tuple[int | None, bool]] = []
    num_literals = 0
    operand = True  # an operand must come next
    wants_brace = ""  # a brace that must come next: of a "\\frac", then of its denominator
    for token in (*tokens, ""):
        if wants_brace:
            if token != "{" or len(operators) == DEPTH_LIMIT:
                return None
            operators.append(wants_brace)
            wants_brace, operand = "", True
        elif operand:
            if token and token[0].isdigit():
                literal = _literal(token)
                num_literals += 1
                if literal is None or num_literals > LITERALS_LIMIT:
                    return None
                is_negated = bool(operators) and operators[-1] == "negate"
                whole = None if literal[1] != 1 else literal[0]
                uses.append((whole, is_negated))
                values.append(literal)
                operand = False
            elif len(operators) == DEPTH_LIMIT:
                return None
            elif token == "(":
                operators.append(token)
            elif token == "-":
                operators.append("negate")
            elif token in _FRACTIONS:
                wants_brace = "top"
            else:
                return None
        elif token in _BINDING:
            _apply(operators, values, _BINDING[token])
            if len(operators) == DEPTH_LIMIT:
                return None
            operators.append(token)
            operand = True
        elif token in (")", "}"):
            _apply(operators, values, 1)
            opened = operators.pop() if operators else ""
            if token == ")" and opened == "(":
                pass
            elif token == "}" and opened == "top":
                wants_brace = "bottom"
            elif token == "}" and opened == "bottom":
                values.append(_result("/", *values.pop(-2), *values.pop()))
            else:
                return None
        elif token in ("", "="):
            _apply(operators, values, 1)
            if operators:
                return None
            sides.append(Side(*values.pop(), uses))
            operand, uses = True, []
        else:
            return None
    return None if wants_brace else sides


def _literal(token: str) -> tuple[int, int] | None:
    """(numerator, denominator) of a literal; None with leading zeros, too many digits, or a point without a digit."""
    whole, point, decimals = token.partition(".")
    if (point and not decimals.isdigit()) or len(whole) + len(decimals) > DIGITS_LIMIT:
        return None
    if len(whole) > 1 and whole[0] == "0":
        return None
    decimals = decimals.rstrip("0")
    return int(whole + decimals), 10 ** len(decimals)


def _apply(operators: list[str], values: list[tuple[int, int]], level: int) -> None:
    """Applies every operator on the stack that binds at least as tightly as `level`."""
    while operators and _BINDING.get(operators[-1], 0) >= level:
        operator = operators.pop()
        if operator == "negate":
            top, bottom = values.pop()
            values.append((-top, bottom))
        else:
            c, d = values.pop()
            values.append(_result(operator, *values.pop(), c, d))


def _result(operator: str, a: int, b: int, c: int, d: int) -> tuple[int, int]:
    """a/b OPERATOR c/d; a denominator of 0 stays."""
    if operator == "+":
        return a * d + c * b, b * d
    if operator == "-":
        return a * d - c * b, b * d
    if operator == "*":
        return a * c, b * d
    return (a * d, b * c) if d else (a, 0)


def uses_all(uses: Sequence[tuple[int | None, bool]], numbers: Sequence[int], lenient: bool) -> bool:
    """Whether literals are the given numbers, each once; `-3` is -3 or, in lenient mode, 3 with its sign changed."""
    if len(uses) != len(numbers):
        return False
    left = list(numbers)
    for value, is_negated in uses:
        if value is None:
            return False
        if is_negated and -value in left:
            left.remove(-value)
        elif value in left and (lenient or not is_negated):
            left.remove(value)
        else:
            return False
    return True


def judge_expression(expression: str, lenient: bool, numbers: Sequence[int], top: int, bottom: int) -> int:
    """The reason of the verdict on an expression, for the given numbers and the target top / bottom."""
    tokens = tokens_of(expression, lenient)
    sides = evaluate(tokens) if tokens else None
    if sides is None:
        return MALFORMED
    if not any(uses_all(side.uses, numbers, lenient) for side in sides):
        return RULE_BROKEN
    return OK if all(side.bottom and side.top * bottom == top * side.bottom for side in sides) else WRONG


def _judge(
    text: str, lenient: bool, row: int | None, numbers: object, target: object, found: Found | None = None
) -> batch.Judged:
    """The verdict on one completion; raises for an invalid reference. found: where its answer stands, if known."""
    given, fraction = _read_numbers(numbers, row), _read_target(target, row)
    found = found or find_answer(text, lenient, marks_only=True)
    span = found.start, found.end
    if found.reason != OK:
        return found.reason, TEXT, 0.0, *span
    if not lenient and found.mark == "box" and not found.alone:
        return MALFORMED, GRAMMAR, 0.0, *span
    answer = text[slice(*span)]
    reason = judge_expression(expression_in(answer) if lenient else answer, lenient, given, *fraction)
    return reason, _tier_of(reason), float(reason == OK), *span


def _tier_of(reason: int) -> int:
    return GRAMMAR if reason in (MALFORMED, RULE_BROKEN) else RATIONAL


def _judge_unmarked(text: str, judged: batch.Judged, numbers: Sequence[Any], target: Any) -> batch.Judged:
    """Mode "flexible": of a completion that marks no answer, the last expression is judged."""
    places = regions(text)
    if judged[0] != NO_ANSWER or places.unended >= 0:
        return judged
    start, end = last_expression(text, places.begin, places.cut)
    if start < 0:
        return judged
    fraction = _read_target(target, None)
    reason = judge_expression(expression_in(text[start:end]), True, given_integers(numbers), *fraction)
    if reason == MALFORMED:
        return judged
    return reason, _tier_of(reason), float(reason == OK), start, end


def given_integers(numbers: Iterable[Any]) -> list[int]:
    """The given numbers as exact integers; 3.0 is 3. Raises TypeError for one that is no integer, also for a bool."""
    return [value if type(value) is int else _integer(value) for value in numbers]


def _integer(value: Any) -> int:
    if isinstance(value, bool):
        raise TypeError("a truth value is no number")
    return int(value) if hasattr(value, "is_integer") and value.is_integer() else index(value)


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
        value = Fraction(_target_text(target)) if is_readable else None
    if value is None or max(abs(value.numerator), value.denominator) >= _TOO_LONG:
        problem = 'is no rational number; give one such as 22, Fraction(21, 2), 10.5 or "21/2"'
        raise invalid_reference("target", target, problem, row)
    return value.numerator, value.denominator


def _target_text(target: Any) -> str:
    """The target as text; for an array or a tensor with one number, this number."""
    is_array_of_one = getattr(target, "shape", None) == ()
    text = batch.as_reference(target) if is_array_of_one else None
    return text or str(target)


def explain(extracted: str | None, reason: str, numbers: Sequence[Any], target: Any) -> str:
    """A sentence on the fault: which number is misused, "12 is used twice.", or which value the expression has.

    extracted, reason: of the verdict. numbers, target: the reference. Returns "" for a wrong answer with anything but
    whole numbers, signs and brackets.
    """
    if reason == Reason.MALFORMED:
        return "The answer is no expression of numbers, signs and brackets that is accepted in this mode, or too long."
    if reason not in (Reason.WRONG, Reason.RULE_BROKEN):
        return ""
    given = given_integers(numbers)
    lowest = min(given)
    if lowest < 0:  # a minus sign looks like a subtraction, so the numbers in use are not counted
        return f"Each number is used once, {lowest} as ({lowest})." if reason == Reason.RULE_BROKEN else ""
    expression = expression_in(extracted or "")
    sides = evaluate(tokens_of(expression, lenient=True)) if len(expression) <= EXPLAINED_CHARACTERS else []
    if not sides or "." in expression or "\\" in expression:
        return ""
    if reason == Reason.RULE_BROKEN:  # no side uses all numbers; the side with the most numbers is explained
        return _misused(max(sides, key=lambda side: len(side.uses)), given)
    from fractions import Fraction  # only now: slow to import

    if not all(side.bottom for side in sides):
        return "It divides by 0."
    wanted = Fraction(*_read_target(target, None))
    values = [Fraction(side.top, side.bottom) for side in sides]
    what = "One side" if wanted in values else "It"  # "One side" if another side is right
    return next((f"{what} makes {value}, not {wanted}." for value in values if value != wanted), "")


def _misused(side: Side, numbers: Sequence[int]) -> str:
    """A sentence on the first number that a side wrongly uses, uses too often, or leaves out; "" if there is none."""
    available, used = Counter(numbers), Counter(value for value, _ in side.uses)
    for number, count in used.items():
        if number not in available:
            return f"{number} is not given."
        if count > available[number]:  # type: ignore[index]
            return f"{number} is used {'twice' if count == 2 else f'{count} times'}."
    missing = available - used  # type: ignore[operator]
    return f"{next(iter(missing))} is not used." if missing else ""


def _pack(numbers: Sequence[Any], targets: Sequence[Any]) -> tuple | None:
    """The references as the kernel reads them; None unless all are lists of whole numbers below its limit.

    The arrays hold: all numbers; where the numbers of each row begin, and the last ones end (N + 1,); targets (N,).
    """
    import numpy as np

    from verifiers.kernels.countdown import LIMIT

    flat = list(chain.from_iterable(numbers)) if set(map(type, numbers)) <= {list, tuple} else [None]
    if not set(map(type, flat)) | set(map(type, targets)) <= {int}:
        return None
    if not (
        0 <= min(flat, default=0)
        and max(flat, default=0) < LIMIT
        and max(map(abs, targets), default=0) < LIMIT
    ):
        return None
    return np.array(flat, np.int64), batch.starts_of(numbers), np.array(targets, np.int64)


TASK = batch.text_task(
    "countdown",
    ("numbers", "target"),
    _judge,
    explain=explain,
    flexible=_judge_unmarked,
    marks_only=True,
    kernel=batch.Kernel(
        "countdown",
        references="int64[::1], int64[::1], int64[::1]",
        pack=_pack,
        tiers={OK: RATIONAL, WRONG: RATIONAL, RULE_BROKEN: GRAMMAR, NO_ANSWER: TEXT},
        memory=3 * 64,
        saves=25e-6,
        compiling=4.5,
    ),
)
