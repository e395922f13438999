r"""The one number of an answer among its words, signs, currency, units and TeX: `x = \$1,250 \text{ a day}`.

An answer is cut at `=`; each side is a number, words, or something else (an expression, several numbers).
Plain Python over UTF-8 bytes that numba also compiles as it stands; one pass.
"""

from verifiers._extract import Bytes
from verifiers._number import (
    LITERAL,
    SCALE,
    SHAPE,
    SIGN,
    WHOLE,
    Fields,
    is_digit,
    starts_number,
)
from verifiers._powers import read_exponent
from verifiers._symbols import (
    APPROX,
    CARET,
    COMMAND,
    DEGREE,
    ELLIPSIS,
    EQUALS,
    LEFT,
    MINUS,
    NOTHING,
    PLUS,
    POINT,
    RIGHT,
    SLASH,
    SPACE,
    STAR,
    THIN,
    WORD,
    skip_spaces,
    symbol,
)
from verifiers._words import (
    APPROXES,
    AT_MARK,
    AT_NUMBER,
    AT_START,
    AT_WORD,
    GAP,
    KEY,
    NUMBERS,
    OPAQUE,
    PREVIOUS,
    REFUSED,
    SIGNED,
    STATE,
    UNIT,
    WRAPPERS,
    has,
    keys_of,
    take_command,
    take_gap,
    take_mark,
    take_number,
    take_sign,
    take_word,
)

_VARIABLES = keys_of("x y z n")
_ORDINALS = keys_of("th st nd rd o circ degree degrees")
_OPENERS = tuple(b" \t\n\r([{$~>")
_CLOSERS = tuple(b" \t\n\r)]}$:;,.!?\"'`~<")


def take_caret(data: Bytes, i: int, end: int, state: Fields) -> int:
    """Read what is raised: `18^{th}`, `18^\\circ`, `18 cm^2`; any other power is opaque."""
    if state[PREVIOUS] == AT_NUMBER and state[GAP] == 0:
        while i < end:
            kind, after, key = symbol(data, i, end)
            if kind != LEFT and kind != SPACE and not (kind == COMMAND and has(WRAPPERS, key)):
                if kind == DEGREE or ((kind == WORD or kind == COMMAND) and has(_ORDINALS, key)):
                    state[UNIT] = 1
                    return after
                break
            i = after
    elif state[UNIT] and not has(_VARIABLES, state[KEY]):
        power, behind = read_exponent(data, i, end, True)
        if behind >= 0 and 1 <= abs(power) <= 3:
            state[KEY] = 0
            return behind
    state[OPAQUE] = 1
    return i


def take_star(data: Bytes, i: int, end: int, state: Fields) -> int:
    """Read the run of stars at i: bold type if exactly one side of it is open, else an operator."""
    before = state[PREVIOUS] == AT_START or state[GAP] == 1 or data[i - 1] in _OPENERS
    while i < end and data[i] == STAR:
        i += 1
    behind = i >= end or data[i] in _CLOSERS
    either = i < end and (data[i] == 36 or data[i] == 92)  # `$` and a backslash open and close
    if (before == behind and not either) or state[SIGNED]:
        state[OPAQUE] = 1
    return i


def take_less(data: Bytes, i: int, end: int, state: Fields) -> int:
    """Read a tag such as `<b>` or what is left of one (`</answer`); any other `<` compares."""
    closing = i < end and data[i] == SLASH
    if closing:
        i += 1
    kind, after, _ = symbol(data, i, end) if i < end else (0, i, 0)
    if kind != WORD:
        state[REFUSED] = 1
        return i
    if after < end and data[after] == 62:
        return after + 1
    if not closing:
        state[REFUSED] = 1
    return after


def take_greater(data: Bytes, i: int, end: int, state: Fields) -> int:
    r"""Read a `>` that only closing signs follow (`\boxed{36>`); any other compares."""
    while i < end and (data[i] in _CLOSERS or data[i] == 62):
        i += 1
    if i < end or state[NUMBERS] == 0:
        state[REFUSED] = 1
    return i


def take_punctuation(data: Bytes, i: int, kind: int, after: int, end: int, state: Fields) -> int:
    """Note an ASCII sign at i that may mean more than itself; position behind it."""
    following = data[after] + 0 if after < end else 0
    if kind == LEFT or kind == RIGHT:
        if kind == LEFT and state[PREVIOUS] == AT_WORD:
            state[PREVIOUS] = AT_MARK
        return after
    if kind == CARET:
        return take_caret(data, after, end, state)
    if kind == STAR:
        return take_star(data, i, end, state)
    if kind == 60:
        return take_less(data, after, end, state)
    if kind == 62:
        return take_greater(data, after, end, state)
    if kind == 33 and following == EQUALS:
        state[REFUSED] = 1
    elif kind == POINT and following == POINT and state[PREVIOUS] == AT_NUMBER:
        kind = ELLIPSIS
    elif kind == 40 and state[PREVIOUS] == AT_WORD and state[GAP] == 0 and state[NUMBERS] == 0:
        if is_digit(data, after, end) or following == MINUS:
            state[OPAQUE] = 1  # f(18)
    elif kind == SLASH:
        start = skip_spaces(data, after, end)
        unit, _, _ = symbol(data, start, end) if start < end else (0, 0, 0)
        if unit != WORD and unit != COMMAND and unit != LEFT:
            state[OPAQUE] = 1
    take_mark(kind, state)
    return after


def read_side(
    data: Bytes, i: int, end: int, number: Fields, spare: Fields, state: Fields
) -> tuple[int, bool]:
    """Read up to the next `=` into `number` and `state`; (position behind it, if there was one)."""
    for k in range(STATE):
        state[k] = 0
    while i < end:
        kind, after, key = symbol(data, i, end)
        if starts_number(data, kind, after, end, key):
            after = take_number(data, i, end, number, spare, state)
        elif kind == SPACE or kind == THIN:
            take_gap(state)
        elif kind == WORD:
            take_word(key, number, state)
        elif kind == EQUALS or kind == APPROX or (kind == COMMAND and has(APPROXES, key)):
            return after, True
        elif kind == COMMAND:
            take_command(key, state)
        elif kind == PLUS or kind == MINUS:
            take_sign(data, kind, after, end, state)
        elif 32 < kind < 128:
            after = take_punctuation(data, i, kind, after, end, state)
        elif kind != NOTHING:
            take_mark(kind, state)
        i = after
    return i, False


def is_number(state: Fields) -> bool:
    """True if the side that was read last is one number."""
    return state[NUMBERS] > 0 and state[OPAQUE] == 0


def read_plain(data: Bytes, start: int, end: int, number: Fields) -> bool:
    """Read `-12.50`, ASCII and at most 17 digits, into `number`; False if it is anything else."""
    i = start
    number[SIGN], number[SHAPE], number[SCALE] = 1, LITERAL, 0
    if i < end and data[i] == MINUS:
        number[SIGN] = -1
        i += 1
    if not 0 < end - i <= 18:
        return False
    mantissa = 0
    digits = 0
    point = end - 1
    while i < end:
        digit = data[i] - 48
        if 0 <= digit <= 9:
            mantissa = mantissa * 10 + digit
            digits += 1
        elif data[i] == POINT and digits and point == end - 1 and i < end - 1:
            point = i
        else:
            return False
        i += 1
    number[WHOLE], number[WHOLE + 1] = mantissa, point + 1 - end
    return digits < 18


COMPILED = (
    take_caret,
    take_star,
    take_less,
    take_greater,
    take_punctuation,
    read_side,
    is_number,
    read_plain,
)
