"""Is the one number of a completion the number of its reference? The judge behind the GSM8K task.

Plain Python over UTF-8 bytes that numba also compiles as it stands, but for `compare_exactly`.
"""

from verifiers._extract import (
    ANSWER_LIMIT,
    FOUND,
    MALFORMED,
    NO_ANSWER,
    Bytes,
    is_space,
    last_line,
    locate,
    matches,
    strip,
)
from verifiers._number import FIELDS, SCALE, Fields
from verifiers._quantity import is_number, read_plain, read_side
from verifiers._rational import equal, equal_exactly, is_zero_below
from verifiers._words import HEDGED, NUMBERS, REFUSED, STATE, UNIT, WORDS
from verifiers.verdicts import Reason, Tier

_OK, _WRONG, _NO_ANSWER = Reason.OK.code, Reason.WRONG.code, Reason.NO_ANSWER.code
_MALFORMED, _HEDGE = Reason.MALFORMED.code, Reason.HEDGE.code
_TEXT, _GRAMMAR, _RATIONAL = Tier.TEXT.code, Tier.GRAMMAR.code, Tier.RATIONAL.code
UNDECIDED, BAD_GOLD = -1, -2  # instead of a reason: too large for 64 bits; no number to compare with
_GOLD_POWER = 10**6  # powers of ten in an answer saturate far above
_OPEN, _CLOSE, _BOX = tuple(b"<answer>"), tuple(b"</answer>"), tuple(b"\\boxed{")


def read_gold(data: Bytes, start: int, end: int, number: Fields, spare: Fields, state: Fields) -> bool:
    """Read the one number of a reference into `number`; False if it is anything else."""
    if end - start > ANSWER_LIMIT:
        return False
    start, end = strip(data, start, end)
    if read_plain(data, start, end, number):
        return True
    low, high = last_line(data, start, end)
    if low >= 0:
        start, end = strip(data, low, high)
    _, more = read_side(data, start, end, number, spare, state)
    if more or not is_number(state) or state[NUMBERS] > 1 or state[WORDS] or state[UNIT]:
        return False
    if abs(number[SCALE]) > _GOLD_POWER or is_zero_below(number):
        return False
    return state[HEDGED] == 0 and state[REFUSED] == 0


def is_strict_number(data: Bytes, start: int, end: int) -> bool:
    """True for `-?(0|[1-9][0-9]*)(.[0-9]+)?`."""
    if start < end and data[start] == 45:
        start += 1
    first = start
    while start < end and 48 <= data[start] <= 57:
        start += 1
    if start == first or (data[first] == 48 and start > first + 1):
        return False
    if start == end:
        return True
    if data[start] != 46 or start + 1 == end:
        return False
    for i in range(start + 1, end):
        if not 48 <= data[i] <= 57:
            return False
    return True


def fills_block(data: Bytes, start: int, end: int, low: int, high: int) -> bool:
    r"""True if `<answer>`, white space, `\boxed{`, spaces, data[low:high], and the same closed, is what is there."""
    while low > start and data[low - 1] == 32:
        low -= 1
    low -= len(_BOX)
    if low < start or not matches(data, low, end, _BOX):
        return False
    while low > start and is_space(data[low - 1]):
        low -= 1
    low -= len(_OPEN)
    if low < start or not matches(data, low, end, _OPEN):
        return False
    while high < end and data[high] == 32:
        high += 1
    high += 1
    while high < end and is_space(data[high]):
        high += 1
    return matches(data, high, end, _CLOSE)


def compare(
    data: Bytes,
    low: int,
    high: int,
    gold: Fields,
    first: Fields,
    number: Fields,
    spare: Fields,
    state: Fields,
) -> tuple[int, int]:
    """(reason or UNDECIDED, tier) of the answer in data[low:high], read with all notations."""
    found = False
    more = True
    while more:
        low, more = read_side(data, low, high, number, spare, state)
        if state[REFUSED]:
            return _MALFORMED, _GRAMMAR
        if state[HEDGED]:
            return _HEDGE, _GRAMMAR
        if not is_number(state):
            continue
        if is_zero_below(number):
            return _MALFORMED, _GRAMMAR
        if not found:
            found = True
            for k in range(FIELDS):
                first[k] = number[k]
            continue
        same = equal(first, number)
        if same != 1:
            return UNDECIDED if same < 0 else _HEDGE, _RATIONAL
    if not found:
        return _MALFORMED, _GRAMMAR
    same = equal(first, gold)
    if same < 0:
        return UNDECIDED, _RATIONAL
    return _OK if same else _WRONG, _RATIONAL


def judge_answer(
    data: Bytes,
    start: int,
    end: int,
    golds: Bytes,
    gold_start: int,
    gold_end: int,
    lenient: bool,
    gold: Fields,
    first: Fields,
    number: Fields,
    spare: Fields,
    state: Fields,
) -> tuple[int, int, int, int]:
    """(reason, UNDECIDED or BAD_GOLD; tier, span start, span end) for data[start:end].

    Compiled by numba as it stands. `state` holds STATE integers, the other scratch FIELDS.
    """
    if not read_gold(golds, gold_start, gold_end, gold, spare, state):
        return BAD_GOLD, _TEXT, -1, -1
    found, low, high, boxed = locate(data, start, end, lenient)
    if found == NO_ANSWER:
        return _NO_ANSWER, _TEXT, low, high
    if found == MALFORMED:
        return _MALFORMED, _TEXT, low, high
    if found != FOUND:
        return _HEDGE, _TEXT, low, high
    if not lenient:
        strict = boxed and is_strict_number(data, low, high) and fills_block(data, start, end, low, high)
        if not strict:
            return _MALFORMED, _GRAMMAR, low, high
    if read_plain(data, low, high, number):
        same = equal(number, gold)
        reason, tier = UNDECIDED if same < 0 else (_OK if same else _WRONG), _RATIONAL
    else:
        reason, tier = compare(data, low, high, gold, first, number, spare, state)
    return reason, tier, low, high


def compare_exactly(data: bytes, low: int, high: int, raw: bytes) -> int:
    """The reason `compare` could not give: the same sides, in integers of any size."""
    gold, first, number, spare, state = scratch()
    read_gold(raw, 0, len(raw), gold, spare, state)
    found, more = False, True
    while more:
        low, more = read_side(data, low, high, number, spare, state)
        if state[REFUSED]:
            return _MALFORMED
        if state[HEDGED]:
            return _HEDGE
        if not is_number(state):
            continue
        if is_zero_below(number):
            return _MALFORMED
        if found and not equal_exactly(data, first, data, number):
            return _HEDGE
        if not found:
            found, first = True, list(number)
    return _OK if equal_exactly(data, first, raw, gold) else _WRONG


def scratch() -> tuple[list[int], ...]:
    """The five lists that `judge_answer` writes to."""
    return [0] * FIELDS, [0] * FIELDS, [0] * FIELDS, [0] * FIELDS, [0] * STATE


COMPILED = (read_gold, is_strict_number, fills_block, compare, judge_answer)
