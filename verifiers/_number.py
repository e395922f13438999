"""One number as people write it: digits, groups, points, fractions, mixed numbers and powers of ten.

Plain Python over UTF-8 bytes that numba also compiles as it stands. Mantissas stay below LIMIT; a longer one
is OVERFLOW, and `_rational` reads it again in Python integers of any size.
"""

from verifiers._extract import Bytes, word_key
from verifiers._powers import read_power_of_ten
from verifiers._symbols import (
    COMMA,
    COMMAND,
    LEFT,
    MINUS,
    NOTHING,
    PLUS,
    POINT,
    RIGHT,
    SLASH,
    THIN,
    VULGAR,
    VULGAR_BOTTOMS,
    VULGAR_CODES,
    VULGAR_TOPS,
    skip_spaces,
    symbol,
)

Fields = list[int]  # or, where compiled, an array of int64

LIMIT = 10**18
OVERFLOW = -1  # a mantissa that has to be read again

# The fields of a number: four for each literal, and where it lies for whoever needs it exactly.
SIGN, SHAPE, SCALE = 0, 1, 2
WHOLE, TOP, BOTTOM = 3, 7, 11  # first of: mantissa, exponent, start, end
FIELDS = 15
LITERAL, FRACTION, MIXED, NO_NUMBER = 0, 1, 2, 3


_FRACTIONS = tuple(word_key(word) for word in ("frac", "dfrac", "tfrac", "cfrac", "sfrac", "nicefrac"))


def is_digit(data: Bytes, i: int, end: int) -> bool:
    """True if a digit of any script stands at i."""
    if i >= end:
        return False
    byte = data[i] + 0
    return 48 <= byte <= 57 if byte < 0x80 else 48 <= symbol(data, i, end)[0] <= 57


def separator(data: Bytes, i: int, end: int) -> tuple[int, int]:
    r"""(COMMA, THIN or 0, position behind it) of the thousands separator at i: `,` `{,}` `,\!` `\,` thin."""
    kind, after, _ = symbol(data, i, end)
    if kind == LEFT and after + 1 < end and data[after] == COMMA and data[after + 1] == RIGHT:
        return COMMA, after + 2
    if kind == COMMA:
        if after + 1 < end and data[after] == 92 and data[after + 1] == 33:
            after += 2
        return COMMA, after
    return (THIN, after) if kind == THIN else (0, i)


def is_group(data: Bytes, i: int, end: int) -> tuple[bool, int]:
    """(if exactly three digits stand at i, position behind them)."""
    count = 0
    while i < end and count < 4:
        kind, after, _ = symbol(data, i, end)
        if not 48 <= kind <= 57:
            if kind != NOTHING:
                break
        else:
            count += 1
        i = after
    return count == 3, i


def read_literal(data: Bytes, i: int, end: int, fields: Fields, slot: int) -> int:
    """Read the digits that start at i, with thousands groups and a decimal point, into four fields.

    Returns the position behind them. The mantissa is OVERFLOW from 10^18 on.
    """
    start = last = i
    mantissa = exponent = digits = 0
    groups = 0  # the separator in use, once there is one
    pointed = leading_zero = False
    while i < end:
        kind, after, _ = symbol(data, i, end)
        if 48 <= kind <= 57:
            if digits == 0 and kind == 48:
                leading_zero = True
            digits += 1
            if pointed:
                exponent -= 1
            if mantissa >= 0:
                mantissa = mantissa * 10 + kind - 48 if mantissa < LIMIT // 10 else OVERFLOW
            i = last = after
            continue
        if kind == NOTHING:
            i = after
            continue
        if kind == POINT and not pointed and is_digit(data, after, end):
            pointed = True
            i = after
            continue
        mark, after = separator(data, i, end)
        if mark == 0 or pointed or leading_zero or (groups == 0 and digits > 3):
            break
        if groups != 0 and groups != mark:
            break
        good, _ = is_group(data, after, end)
        if not good:
            break
        groups = mark
        i = after
    fields[slot], fields[slot + 1], fields[slot + 2], fields[slot + 3] = mantissa, exponent, start, last
    return last


def set_vulgar(code: int, fields: Fields) -> None:
    """Fill the numerator and the denominator from a character such as one half."""
    for k in range(len(VULGAR_CODES)):
        if VULGAR_CODES[k] == code:
            fields[TOP], fields[BOTTOM] = VULGAR_TOPS[k], VULGAR_BOTTOMS[k]
    fields[TOP + 1] = fields[BOTTOM + 1] = 0


def read_signed(data: Bytes, i: int, end: int, fields: Fields, slot: int) -> int:
    """Read a literal with a sign, which goes into the sign of the number; position behind it, or -1."""
    if i >= end:
        return -1
    kind, after, _ = symbol(data, i, end)
    if kind == MINUS or kind == PLUS:
        i = skip_spaces(data, after, end)
        if kind == MINUS:
            fields[SIGN] = -fields[SIGN]
        if i >= end:
            return -1
        kind, after, _ = symbol(data, i, end)
    if is_digit(data, i, end) or (kind == POINT and is_digit(data, after, end)):
        return read_literal(data, i, end, fields, slot)
    return -1


def read_argument(data: Bytes, i: int, end: int, fields: Fields, slot: int) -> int:
    r"""Read `{number}`, or one digit, as an argument of `\frac`; position behind it, or -1."""
    i = skip_spaces(data, i, end)
    if i >= end:
        return -1
    if data[i] != LEFT:
        if not is_digit(data, i, end):
            return -1
        _, after, _ = symbol(data, i, end)
        return read_literal(data, i, after, fields, slot)
    i = read_signed(data, skip_spaces(data, i + 1, end), end, fields, slot)
    if i < 0:
        return -1
    i = skip_spaces(data, i, end)
    return i + 1 if i < end and data[i] == RIGHT else -1


def read_frac(data: Bytes, i: int, end: int, fields: Fields) -> int:
    r"""Read both arguments of a `\frac`; position behind them, or -1."""
    i = read_argument(data, i, end, fields, TOP)
    return read_argument(data, i, end, fields, BOTTOM) if i >= 0 else -1


def is_fraction(key: int) -> bool:
    r"""True for `\frac` and its kin."""
    for other in _FRACTIONS:
        if other == key:
            return True
    return False


def starts_number(data: Bytes, kind: int, after: int, end: int, key: int) -> bool:
    """True if the symbol (kind, key), with `after` behind it, begins a number."""
    if 48 <= kind <= 57 or kind == VULGAR:
        return True
    if kind == POINT:
        return is_digit(data, after, end)
    return kind == COMMAND and is_fraction(key)


def read_number(data: Bytes, i: int, end: int, fields: Fields) -> int:
    """Read the number that begins at i into `fields`; position behind what was read.

    The shape is NO_NUMBER if it only began like one.
    """
    fields[SIGN], fields[SHAPE], fields[SCALE] = 1, LITERAL, 0
    kind, after, key = symbol(data, i, end)
    if kind == VULGAR:
        set_vulgar(key, fields)
        fields[SHAPE] = FRACTION
        return after
    if kind == COMMAND:
        behind = read_frac(data, after, end, fields)
        fields[SHAPE] = FRACTION if behind >= 0 else NO_NUMBER
        return behind if behind >= 0 else after
    i = read_literal(data, i, end, fields, WHOLE)
    scale, behind = read_power_of_ten(data, i, end)
    if behind >= 0:
        fields[SCALE] = scale
        return behind
    start = skip_spaces(data, i, end)
    if start >= end:
        return i
    kind, after, key = symbol(data, start, end)
    if kind == SLASH:
        behind = read_signed(data, skip_spaces(data, after, end), end, fields, BOTTOM)
        if behind < 0:
            fields[SIGN] = 1
            return i
        for k in range(4):
            fields[TOP + k] = fields[WHOLE + k]
        fields[SHAPE] = FRACTION
        return behind
    return read_mixed(data, i, start, end, fields)


def read_mixed(data: Bytes, i: int, start: int, end: int, fields: Fields) -> int:
    """Read the fraction at `start` behind a whole number that ends at i; position behind the number."""
    if fields[WHOLE + 1] != 0:
        return i
    kind, after, key = symbol(data, start, end)
    behind = -1
    if kind == VULGAR:
        set_vulgar(key, fields)
        behind = after
    elif kind == COMMAND and is_fraction(key):
        behind = read_frac(data, after, end, fields)
    elif 48 <= kind <= 57 and start > i:
        slash = read_literal(data, start, end, fields, TOP)
        if slash < end:
            kind, after, _ = symbol(data, slash, end)
            if kind == SLASH and is_digit(data, after, end):
                behind = read_literal(data, after, end, fields, BOTTOM)
    if behind < 0:
        fields[SIGN] = 1
        return i
    proper = 0 <= fields[TOP] < fields[BOTTOM] and fields[TOP + 1] == 0 and fields[BOTTOM + 1] == 0
    fields[SHAPE] = MIXED if proper and fields[SIGN] == 1 else NO_NUMBER
    return behind


COMPILED = (
    is_digit,
    separator,
    is_group,
    read_literal,
    set_vulgar,
    read_signed,
    read_argument,
    read_frac,
    is_fraction,
    starts_number,
    read_number,
    read_mixed,
)
