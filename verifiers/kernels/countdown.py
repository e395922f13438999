"""Countdown: whole numbers, `+ - * /`, brackets and equality signs, computed as fractions of 64 bits; else READ."""

import numba

from verifiers.kernels.plain import ALONE, LOCATED, MARKS_ONLY, NO_ANSWER, READ, helper, is_space, locate

OK, WRONG, RULE_BROKEN = 0, 1, 4  # as in `verifiers.verdicts`
NUMBERS = 60  # the most given numbers, which are bits of an integer
DEPTH = 60  # the most values, or operators, that wait for their right side
LIMIT = 10**9  # numbers of an answer and of a reference are smaller
_BIG = 3 * 10**9  # the product of two such integers fits 64 bits, and so does the sum of two products
_PLUS, _MINUS, _TIMES, _DIVIDE, _OPEN, _CLOSE, _EQUALS = tuple(b"+-*/()=")


@helper
def combine(operator, tops, bottoms, last):
    """Replaces the last two values by their result: 0, 1 for a division by zero, 2 if it may not fit 64 bits."""
    a, b, c, d = tops[last - 1], bottoms[last - 1], tops[last], bottoms[last]
    if max(abs(a), abs(c)) > _BIG or max(abs(b), abs(d)) > _BIG:
        return 2
    fault = 0
    if operator == _PLUS:
        a, b = a * d + c * b, b * d
    elif operator == _MINUS:
        a, b = a * d - c * b, b * d
    elif operator == _TIMES:
        a, b = a * c, b * d
    elif c == 0:
        a, b, fault = 0, 1, 1
    else:
        a, b = a * d, b * c
    tops[last - 1], bottoms[last - 1] = a, b
    return fault


@helper
def judge_one(data, i, end, lenient, numbers, low, high, target, stacks):
    """The reason, or READ, for the expression data[i:end] with the given numbers[low:high]."""
    tops, bottoms, operators = stacks[0], stacks[1], stacks[2]
    values = pending = used = 0
    # known: whether this side has only given numbers, each once. found: whether a side has them all.
    known, found, unequal, fault = True, False, False, 0
    operand = True  # an operand comes next
    while True:
        while i < end and (data[i] == 32 or data[i] == 9 or (lenient and is_space(data[i]))):
            i += 1
        byte = data[i] + 0 if i < end else _EQUALS + 0
        if operand:
            if byte == _OPEN:
                if pending == DEPTH:
                    return READ
                operators[pending] = byte
                pending += 1
                i += 1
                continue
            value, begin = 0, i
            while i < end and 48 <= data[i] <= 57 and value < LIMIT:
                value = value * 10 + data[i] - 48
                i += 1
            is_plain = i > begin and value < LIMIT and (data[begin] != 48 or i == begin + 1)
            if not is_plain or values == DEPTH:
                return READ
            tops[values], bottoms[values] = value, 1
            values += 1
            place = low
            while place < high and (numbers[place] != value or used >> (place - low) & 1):
                place += 1
            if place < high:
                used |= 1 << (place - low)
            else:
                known = False
            operand = False
            continue
        level = 2 if byte == _TIMES or byte == _DIVIDE else 1
        if not (level == 2 or byte == _PLUS or byte == _MINUS or byte == _CLOSE or byte == _EQUALS):
            return READ
        while pending > 0 and operators[pending - 1] != _OPEN:
            operator = operators[pending - 1]
            if level == 2 and (operator == _PLUS or operator == _MINUS):
                break
            pending -= 1
            values -= 1
            new_fault = combine(operator, tops, bottoms, values)
            if new_fault == 2:
                return READ
            fault |= new_fault
        if byte == _CLOSE:
            if pending == 0:
                return READ
            pending -= 1
            i += 1
            continue
        if byte != _EQUALS:
            if pending == DEPTH:
                return READ
            operators[pending] = byte
            pending += 1
            operand = True
            i += 1
            continue
        if pending > 0 or (i < end and not lenient):
            return READ
        if abs(tops[0]) > _BIG or abs(bottoms[0]) > _BIG:
            return READ
        unequal = unequal or tops[0] != target * bottoms[0]
        found = found or (known and used == (1 << (high - low)) - 1)
        if i >= end:
            break
        values = used = 0
        known, operand = True, True
        i += 1
    if not found:
        return RULE_BROKEN
    return WRONG if fault or unequal else OK


@numba.njit(nogil=True)
def judge(data, starts, first, lenient, numbers, number_starts, targets, reason, score, spans, scratch):
    """Fills reason, score and spans of the rows whose completions are data[starts[i]:starts[i + 1]].

    first: the row of the first completion in the batch. numbers, number_starts: the given numbers of all rows, all of
    them 0 to LIMIT, and where those of each row begin; a row without any is for the reader. targets: whole numbers.
    """
    stacks = scratch.reshape(3, -1)
    for i in range(len(starts) - 1):
        reason[i] = READ
        row = first + i
        count = number_starts[row + 1] - number_starts[row]
        if not 0 < count <= NUMBERS:
            continue
        low, high, kind = locate(data, starts[i], starts[i + 1], MARKS_ONLY)
        if kind < 0 or not (lenient or kind & ALONE):
            continue
        if low < 0:
            reason[i], score[i], spans[i, 0], spans[i, 1] = NO_ANSWER, 0.0, -1, -1
            continue
        spans[i, 0], spans[i, 1] = low - starts[i], high - starts[i]
        judged = judge_one(
            data,
            low,
            high,
            lenient,
            numbers,
            number_starts[row],
            number_starts[row + 1],
            targets[row],
            stacks,
        )
        reason[i], score[i] = LOCATED if judged == READ else judged, 1.0 if judged == OK else 0.0
