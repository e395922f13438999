"""Evaluating an expression by Dijkstra's shunting-yard over exact rationals, and counting the numbers it uses.

Plain Python that numba also compiles as it stands. Compiled, a value is a pair of 64-bit integers that is
never reduced; what does not fit is not guessed: the outcome is UNDECIDED, and the same function then runs
as Python with `exact`, on integers without a limit. Time is linear in the answer, memory fixed.
"""

from verifiers.countdown.tokens import (
    BIG,
    BROKEN,
    CLOSE,
    DECIMAL,
    DIVIDE,
    END,
    EQUALS,
    FRACTION,
    LEFT_BRACE,
    LITERAL,
    MINUS,
    NEGATE,
    OPEN,
    PLUS,
    RIGHT_BRACE,
    TIMES,
    next_token,
    read_literal,
)
from verifiers.extract import Bytes
from verifiers.verdicts import MALFORMED, OK, RULE_BROKEN, WRONG

Integers = list[int]  # or, where compiled, an array of int64
# All numbers, where those of this problem begin and end, numerator and denominator of the target.
Given = tuple[Integers, int, int, int, int]
# Numerators, denominators and operators (MAX_DEPTH + 1 each), on which side a number was used, the state.
Memory = tuple[Integers, Integers, Integers, Integers, Integers]

MAX_NUMBERS = 256  # given ones
MAX_LITERALS = 1_024  # of one answer
MAX_DEPTH = 256  # operators and brackets that wait for their right side
LIMIT = 1 << 62
_HALF_LIMIT = 1 << 31

UNDECIDED = -1  # in place of a reason: to be judged again without a limit on integers
_TOO_BIG, _UNDEFINED = 1, 2  # faults of a value: bits
_FRACTION_TOP, _FRACTION_BOTTOM = 16, 17  # open braces on the stack of operators

# Places in `state`.
_VALUES, _OPERATORS, _FAULT, _TOTAL, _SIDE, _FOUND, _MAYBE, _UNEQUAL = range(8)
_COUNT, _UNKNOWN, _UNREAD = 8, 9, 10  # of the side that is being read
STATE_SIZE = 11


def product(a: int, b: int, exact: bool) -> tuple[int, int]:
    """(a * b, 0), or (0, _TOO_BIG) if it is beyond LIMIT and not `exact`."""
    if exact or (-_HALF_LIMIT < a < _HALF_LIMIT and -_HALF_LIMIT < b < _HALF_LIMIT):
        return a * b, 0
    if a == 0 or b == 0:
        return 0, 0
    if abs(a) > LIMIT // abs(b):
        return 0, _TOO_BIG
    return a * b, 0


def combine(operator: int, tops: Integers, bottoms: Integers, right: int, exact: bool) -> int:
    """Replace the value at `right` - 1 by itself `operator` the value at `right`; returns the fault."""
    a, b, c, d = tops[right - 1], bottoms[right - 1], tops[right], bottoms[right]
    fault = more = 0
    if operator == PLUS or operator == MINUS:
        if b != d:
            a, fault = product(a, d, exact)
            c, more = product(c, b, exact)
            fault |= more
            b, more = product(b, d, exact)
            fault |= more
        a = a + c if operator == PLUS else a - c
        if not (exact or -LIMIT <= a <= LIMIT):
            fault |= _TOO_BIG
    else:
        if operator == DIVIDE:
            if c == 0:
                tops[right - 1], bottoms[right - 1] = 0, 1
                return _UNDEFINED
            c, d = d, c
        a, fault = product(a, c, exact)
        b, more = product(b, d, exact)
        fault |= more
    if fault:
        a, b = 0, 1
    tops[right - 1], bottoms[right - 1] = a, b
    return fault


def precedence(operator: int) -> int:
    """How tightly an operator on the stack binds; 0 for an open bracket."""
    if operator == NEGATE:
        return 3
    if operator == TIMES or operator == DIVIDE:
        return 2
    return 1 if operator == PLUS or operator == MINUS else 0


def unwind(level: int, memory: Memory, exact: bool) -> None:
    """Apply every operator on the stack that binds at least as tightly as `level`."""
    tops, bottoms, operators, _, state = memory
    while state[_OPERATORS] > 0:
        operator = operators[state[_OPERATORS] - 1]
        if precedence(operator) < level:
            return
        state[_OPERATORS] -= 1
        top = state[_VALUES] - 1
        if operator == NEGATE:
            tops[top] = -tops[top]
        else:
            state[_FAULT] |= combine(operator, tops, bottoms, top, exact)
            state[_VALUES] -= 1


def use_number(value: int, given: Given, used: Integers, side: int) -> bool:
    """Mark a given number equal to `value` as used on this side; False if there is none left."""
    numbers, first, last, _, _ = given
    for j in range(first, last):
        if numbers[j] == value and used[j - first] != side:
            used[j - first] = side
            return True
    return False


def push_literal(
    data: Bytes, i: int, end: int, lenient: bool, exact: bool, given: Given, memory: Memory
) -> int:
    """Read the literal at i as the next value and look for it among the given numbers.

    Returns the position behind it, or -1 if it is malformed. Behind a minus sign of its own it is looked for
    as a negative number first, and in lenient mode then as a positive one under a unary minus.
    """
    tops, bottoms, operators, used, state = memory
    kind, top, bottom, i = read_literal(data, i, end, lenient, exact)
    if state[_TOTAL] == MAX_LITERALS or kind == BROKEN:
        return -1
    tops[state[_VALUES]], bottoms[state[_VALUES]] = top, bottom
    state[_VALUES] += 1
    state[_TOTAL] += 1
    state[_COUNT] += 1
    if kind == BIG:
        state[_FAULT] |= _TOO_BIG
        state[_UNREAD] = 1
    elif kind == DECIMAL:
        state[_UNKNOWN] = 1
    elif not state[_UNKNOWN]:
        signed = state[_OPERATORS] > 0 and operators[state[_OPERATORS] - 1] == NEGATE
        known = use_number(-top if signed else top, given, used, state[_SIDE])
        if not known and not (signed and lenient and use_number(top, given, used, state[_SIDE])):
            state[_UNKNOWN] = 1
    return i


def end_side(given: Given, memory: Memory, exact: bool) -> None:
    """Compare a finished side with the target, note whether it uses all numbers, and begin the next."""
    _, first, last, target_top, target_bottom = given
    tops, bottoms, _, _, state = memory
    left, fault = product(tops[0], target_bottom, exact)
    right, more = product(bottoms[0], target_top, exact)
    state[_FAULT] |= fault | more
    if left != right:
        state[_UNEQUAL] = 1
    if state[_COUNT] == last - first and not state[_UNKNOWN]:
        state[_MAYBE if state[_UNREAD] else _FOUND] = 1
    state[_VALUES] = state[_COUNT] = state[_UNKNOWN] = state[_UNREAD] = 0
    state[_SIDE] += 1


def outcome(state: Integers) -> int:
    """What the notes in `state` make of a well-formed answer."""
    if not (state[_FOUND] or state[_MAYBE]):
        return RULE_BROKEN
    if state[_MAYBE] or state[_FAULT] & _TOO_BIG:
        return UNDECIDED
    return WRONG if state[_FAULT] or state[_UNEQUAL] else OK


def push(operator: int, memory: Memory) -> bool:
    """Put an operator or an open bracket on its stack; False if that is full."""
    _, _, operators, _, state = memory
    last = state[_OPERATORS]
    if last == MAX_DEPTH:
        return False
    operators[last] = operator
    state[_OPERATORS] = last + 1
    return True


def close_bracket(kind: int, memory: Memory, exact: bool) -> int:
    """Close a bracket or brace: 1 if an operator follows, 0 if a denominator must, -1 if it was not open."""
    tops, bottoms, operators, _, state = memory
    unwind(1, memory, exact)
    last = state[_OPERATORS] - 1
    if last < 0:
        return -1
    opened = operators[last]
    if kind == CLOSE:
        state[_OPERATORS] = last
        return 1 if opened == OPEN else -1
    if opened == _FRACTION_TOP:
        operators[last] = _FRACTION_BOTTOM
        return 0
    if opened != _FRACTION_BOTTOM:
        return -1
    state[_OPERATORS] = last
    state[_VALUES] -= 1
    state[_FAULT] |= combine(DIVIDE, tops, bottoms, state[_VALUES], exact)
    return 1


def begin_operand(data: Bytes, kind: int, i: int, end: int, lenient: bool, memory: Memory) -> int:
    """Push what may stand before an operand: a bracket, a fraction, a minus sign; position behind it, or -1.

    In strict mode a minus sign there belongs to a literal that follows at once.
    """
    if kind == OPEN:
        return i if push(OPEN, memory) else -1
    if kind == FRACTION:
        kind, i = next_token(data, i, end, lenient)
        return i if kind == LEFT_BRACE and push(_FRACTION_TOP, memory) else -1
    if kind != MINUS or not (lenient or (i < end and 48 <= data[i] <= 57)):
        return -1
    return i if push(NEGATE, memory) else -1


def evaluate_expression(
    data: Bytes, i: int, end: int, lenient: bool, exact: bool, given: Given, memory: Memory
) -> int:
    """MALFORMED, RULE_BROKEN, WRONG, OK or UNDECIDED (never with `exact`) for the expression data[i:end]."""
    _, first, last, _, _ = given
    _, _, _, used, state = memory
    for j in range(STATE_SIZE):
        state[j] = 0
    for j in range(last - first):
        used[j] = 0
    state[_SIDE] = 1
    operand = True  # one is wanted now
    while i >= 0:
        kind, i = next_token(data, i, end, lenient)
        if operand and kind == LITERAL:
            i = push_literal(data, i, end, lenient, exact, given, memory)
            operand = False
        elif operand:
            i = begin_operand(data, kind, i, end, lenient, memory)
        elif PLUS <= kind <= DIVIDE:
            unwind(precedence(kind), memory, exact)
            operand = True
            if not push(kind, memory):
                return MALFORMED
        elif kind == CLOSE or kind == RIGHT_BRACE:
            closed = close_bracket(kind, memory, exact)
            if closed == 0:
                kind, i = next_token(data, i, end, lenient)
                operand = True
            if closed < 0 or (closed == 0 and kind != LEFT_BRACE):
                return MALFORMED
        elif kind == END or kind == EQUALS:
            unwind(1, memory, exact)
            if state[_OPERATORS] > 0:
                return MALFORMED
            end_side(given, memory, exact)
            operand = True
            if kind == END:
                return outcome(state)
        else:
            return MALFORMED
    return MALFORMED
