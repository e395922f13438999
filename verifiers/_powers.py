"""Powers of ten behind a number: `\\times 10^{3}`, `e3`, raised digits.

Plain Python over UTF-8 bytes that numba also compiles as it stands. Exponents saturate at 10^9.
"""

from verifiers._extract import Bytes, word_key
from verifiers._symbols import (
    CARET,
    COMMAND,
    LEFT,
    MINUS,
    PLUS,
    POWER,
    RIGHT,
    SPACE,
    STAR,
    SUPERSCRIPTS,
    TIMES,
    WORD,
    skip_spaces,
    symbol,
)

_X, _E, _TIMES_WORD, _CDOT = word_key("x"), word_key("e"), word_key("times"), word_key("cdot")


def read_power_of_ten(data: Bytes, i: int, end: int) -> tuple[int, int]:
    r"""(exponent, position behind) of `\times 10^{3}` or `e3` at i; the position is -1 if there is none."""
    after_spaces = skip_spaces(data, i, end)
    if after_spaces >= end:
        return 0, -1
    kind, after, key = symbol(data, after_spaces, end)
    if kind == WORD and key == _E and after_spaces == i:
        return read_exponent(data, after, end, False)
    times = kind == TIMES or kind == STAR or (kind == WORD and key == _X)
    if not times and not (kind == COMMAND and (key == _TIMES_WORD or key == _CDOT)):
        return 0, -1
    i = skip_spaces(data, after, end)
    for digit in (49, 48):
        if i >= end:
            return 0, -1
        kind, i, _ = symbol(data, i, end)
        if kind != digit:
            return 0, -1
    i = skip_spaces(data, i, end)
    if i >= end:
        return 0, -1
    kind, after, _ = symbol(data, i, end)
    if kind == CARET:
        return read_exponent(data, after, end, True)
    return read_superscript(data, i, end) if kind == POWER else (0, -1)


def read_exponent(data: Bytes, i: int, end: int, braces: bool) -> tuple[int, int]:
    """(value, position behind) of `3`, `-3` or, where allowed, `{3}`; saturates at 10^9."""
    braced = braces and i < end and data[i] == LEFT
    i = i + 1 if braced else i
    sign, value, digits, signs = 1, 0, 0, 0
    while i < end:
        kind, after, _ = symbol(data, i, end)
        if 48 <= kind <= 57:
            digits += 1
            value = min(value * 10 + kind - 48, 10**9)
        elif (kind == MINUS or kind == PLUS) and digits == 0 and signs == 0:
            sign, signs = -1 if kind == MINUS else 1, 1
        elif not (braced and kind == SPACE):
            break
        i = after
    if digits == 0 or (braced and (i >= end or data[i] != RIGHT)):
        return 0, -1
    return sign * value, i + 1 if braced else i


def read_superscript(data: Bytes, i: int, end: int) -> tuple[int, int]:
    """(value, position behind) of raised digits such as those of 10 to the 3; saturates at 10^9."""
    sign, value, digits = 1, 0, 0
    while i < end:
        kind, after, code = symbol(data, i, end)
        if kind != POWER:
            break
        if code == 0x207B:
            if digits or sign < 0:
                return 0, -1
            sign = -1
        else:
            digits += 1
            for digit in range(10):
                if SUPERSCRIPTS[digit] == code:
                    value = min(value * 10 + digit, 10**9)
        i = after
    return sign * value, i if digits else -1


COMPILED = (read_power_of_ten, read_exponent, read_superscript)
