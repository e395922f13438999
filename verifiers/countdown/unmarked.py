"""Where mode `flexible` finds an expression that no mark names: the last run of tokens of `expression` in a line.

Every scan is linear.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from verifiers.characters import FULLWIDTH, GREATER, POINT, STAR, decode
from verifiers.countdown.expression import (
    BAD,
    BLANK,
    CLOSE,
    DIVIDE,
    EQUALS,
    FRACTION,
    LEFT_BRACE,
    LITERAL,
    MINUS,
    OPEN,
    PLUS,
    RIGHT_BRACE,
    SAFE_DIGITS_LIMIT,
    Memory,
    Puzzle,
    evaluate_expression,
    token_at,
)
from verifiers.countdown.rest import goes_on_before, goes_on_behind, goes_on_in_next_line, stated_result
from verifiers.flexible.answer import searched

# The kinds of tokens with which an expression begins, but for a minus sign, and with which an expression ends.
_BEGINNINGS = (LITERAL, OPEN, FRACTION)
_ENDS = (LITERAL, CLOSE, RIGHT_BRACE)


class Token(NamedTuple):
    """A token of a line: data[start:end]; each digit of a number is a token of its own."""

    kind: int
    start: int
    end: int


def last_expression(data: bytes, reason: int, low: int, high: int) -> tuple[int, int]:
    """(start, end) of the last run of numbers, signs and brackets with an operation in it; -1, -1 if there is none.

    A run stays in one line. If its line goes on with a sign or a word that calculates, the run is only the rest of an
    expression that cannot be read, and there is no answer. reason, low, high: the reason of lenient mode, and
    where the text begins and ends that lenient mode judged (-1 = nowhere).
    """
    low, high = searched(data, reason, low, high)
    # (start, end) of: the last run so far, its line, the line above that, and the line before the present one.
    found = line = above = previous = -1, -1
    while low < high:
        end = data.find(b"\n", low, high)
        end = high if end < 0 else end
        for run in _runs(data, low, end):
            found, line, above = run, (low, end), previous
        previous, low = (low, end), end + 1

    if found[0] < 0:
        return -1, -1

    def text_between(begin: int, end: int) -> str:
        return data[begin:end].decode("utf-8", "surrogatepass")

    result, rest = stated_result(text_between(found[1], line[1]))
    before = text_between(line[0], found[0])
    if goes_on_in_next_line(text_between(*above)) or goes_on_before(before) or goes_on_behind(rest):
        return -1, -1
    if result and not _has_value(data, *found, result):
        return -1, -1
    return found


def _has_value(data: bytes, start: int, end: int, result: str) -> bool:
    """True if all sides of the expression data[start:end] equal the whole number `result`."""
    if not result.isdecimal() or len(result) > SAFE_DIGITS_LIMIT:
        return False
    puzzle, memory = Puzzle([], first=0, last=0, top=int(result), bottom=1), Memory()  # no given numbers
    evaluate_expression(data, start, end, lenient=True, exact=True, puzzle=puzzle, memory=memory)
    return not (memory.unequal or memory.fault)


def _runs(data: bytes, i: int, end: int) -> Iterator[tuple[int, int]]:
    """(start, end) of each run with an operation in data[i:end]."""
    run: list[Token] = []
    for token in _tokens(data, i, end):
        previous = run[-1] if run else token
        # A star beside an equals sign is no operator, but of bold type: "3*5+7 = **22**".
        was_star, is_star = data[previous.start] == STAR, data[token.start] == STAR
        is_bold_type = (previous.kind == EQUALS and is_star) or (was_star and token.kind == EQUALS)
        if token.kind == BAD or is_bold_type:
            yield from _trimmed(run)
            run = []
        if token.kind != BAD:
            run.append(token)
    yield from _trimmed(run)


def _tokens(data: bytes, i: int, end: int) -> Iterator[Token]:
    """The tokens of data[i:end] without blanks; BAD: whatever is no part of an expression, such as a lone brace."""
    braces: list[bool] = []  # for each open brace, whether a numerator stands in it
    # is_denominator: whether the last token closed a numerator.
    last, is_denominator = Token(BAD, i, i), False
    while i < end:
        kind, after = token_at(data, i, end, lenient=True)
        after = min(after, end)
        while after < end and data[after] & 0xC0 == 0x80:
            after += 1  # a backslash takes only the first byte of the character behind it
        if kind == BAD and last.kind == LITERAL and last.end == i and _is_point(data, i, end):
            kind = LITERAL
        elif kind in (MINUS, EQUALS) and after < end and data[after] == GREATER:
            kind, after = BAD, after + 1  # an arrow, -> or =>
        elif kind == LEFT_BRACE:
            is_of_fraction = last.kind == FRACTION or is_denominator
            if is_of_fraction:
                braces.append(last.kind == FRACTION)
            kind = LEFT_BRACE if is_of_fraction else BAD
        elif kind == RIGHT_BRACE and not braces:
            kind = BAD
        if kind != BLANK:
            is_denominator = braces.pop() if kind == RIGHT_BRACE else False
            if kind == BAD:
                braces.clear()
            last = Token(kind, i, after)
            yield last
        i = after


def _is_point(data: bytes, i: int, end: int) -> bool:
    """True if a point before a digit stands at i."""
    code, after = decode(data, i)
    if code not in (POINT, FULLWIDTH + POINT) or after == end:
        return False
    following, _ = token_at(data, after, end, lenient=True)
    return following == LITERAL


def _trimmed(run: list[Token]) -> Iterator[tuple[int, int]]:
    """(start, end) of a run without signs that begin or end no expression, if there is an operation in it.

    A minus sign right before an operand belongs to the run, `-7 + 55`; one with a space behind it may mark an item of a
    list.
    """
    first, last = 0, len(run)
    while first < last:
        token, following = run[first], run[min(first + 1, last - 1)]
        is_sign = token.kind == MINUS and token.end == following.start and following.kind in _BEGINNINGS
        if is_sign or token.kind in _BEGINNINGS:
            break
        first += 1
    while last > first and run[last - 1].kind not in _ENDS:
        last -= 1
    has_operation = any(PLUS <= token.kind <= DIVIDE for token in run[first + 1 : last])
    if first < last and (has_operation or any(token.kind == FRACTION for token in run[first:last])):
        yield run[first].start, run[last - 1].end
