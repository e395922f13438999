r"""The symbols of a worded answer: characters, words and TeX commands, each with what it stands for.

Plain Python over UTF-8 bytes that numba also compiles as it stands.
"""

from verifiers.characters import (
    DIVISION_SIGNS,
    FULLWIDTH,
    IDEOGRAPHIC_STOP,
    MINUS_SIGNS,
    SPACES,
    THIN_SPACES,
    TIMES_SIGNS,
    ZERO_WIDTH,
    decimal_digit,
    decode,
    is_one_of,
)
from verifiers.extract import Bytes

# What `symbol` answers beyond ASCII codes. Letters are gathered into words, `\name` into commands.
NOTHING, THIN, WORD, COMMAND, FOREIGN, MARK, ELLIPSIS = 1, 2, 3, 4, 5, 6, 7
TIMES, DEGREE, VULGAR, POWER, RELATION, APPROX, PLUS_MINUS = 8, 14, 15, 16, 17, 18, 19
SPACE, STAR, PLUS, COMMA, MINUS, POINT, SLASH, EQUALS, CARET, LEFT, RIGHT = tuple(b" *+,-./=^{}")
OVER_LONG = 1 << 60  # the key of a word of more than 12 letters, and of letters beyond ASCII

_INVISIBLE = (*ZERO_WIDTH, 0x200E, 0x200F, 0x2066, 0x2067, 0x2068, 0x2069)
_APPROX = (0x223C, 0x2243, 0x2245, 0x2248, 0x2261)
_RELATIONS = (0x2260, 0x2264, 0x2265, 0x226A, 0x226B, 0x2A7D, 0x2A7E)
_MARKS = (0xAB, 0xBB, 0xA1, 0xBF, 0x2022, 0x2030, 0x2192, 0x21D2, 0x2234, 0x2713, 0x2714)
_MONEY = (0x58F, 0x60B, 0x9F2, 0x9F3, 0xE3F, 0x17DB, 0xFDFC, 0xFE69)
# Ideographs that multiply, halve or negate the number beside them.
_NUMERALS = (0x4E07, 0x4EBF, 0x5104, 0x5146, 0x5341, 0x5343, 0x534A, 0x767E, 0x842C, 0x8CA0, 0x8D1F)
# Vulgar fractions: code point, numerator, denominator.
_VULGAR = (
    (0xBC, 1, 4), (0xBD, 1, 2), (0xBE, 3, 4), (0x2150, 1, 7), (0x2151, 1, 9), (0x2152, 1, 10), (0x2153, 1, 3),
    (0x2154, 2, 3), (0x2155, 1, 5), (0x2156, 2, 5), (0x2157, 3, 5), (0x2158, 4, 5), (0x2159, 1, 6),
    (0x215A, 5, 6), (0x215B, 1, 8), (0x215C, 3, 8), (0x215D, 5, 8), (0x215E, 7, 8),
)  # fmt: skip
VULGAR_CODES = tuple(row[0] for row in _VULGAR)
VULGAR_TOPS = tuple(row[1] for row in _VULGAR)
VULGAR_BOTTOMS = tuple(row[2] for row in _VULGAR)
SUPERSCRIPTS = (0x2070, 0xB9, 0xB2, 0xB3, 0x2074, 0x2075, 0x2076, 0x2077, 0x2078, 0x2079)


def map_wide(code: int) -> int:
    """What a character beyond ASCII stands for: an ASCII code, or one of the kinds above."""
    digit = decimal_digit(code)
    if digit >= 0:
        return 48 + digit
    if 0xFF01 <= code <= 0xFF5E:
        return code - FULLWIDTH
    if is_one_of(code, MINUS_SIGNS):
        return MINUS
    if is_one_of(code, DIVISION_SIGNS):
        return SLASH
    if is_one_of(code, TIMES_SIGNS):
        return TIMES
    if is_one_of(code, THIN_SPACES):
        return THIN
    if is_one_of(code, SPACES):
        return SPACE
    if is_one_of(code, _INVISIBLE) or 0x202A <= code <= 0x202E or 0xFE00 <= code <= 0xFE0F:
        return NOTHING
    if code == 0x66B or code == IDEOGRAPHIC_STOP:
        return POINT
    if code == 0x66C:
        return COMMA
    if code == 0x2026 or code == 0x22EF:
        return ELLIPSIS
    if code == 0xB0 or code == 0xBA or code == 0x2218 or code == 0x2103 or code == 0x2109:
        return DEGREE
    if code in VULGAR_CODES:
        return VULGAR
    if is_one_of(code, SUPERSCRIPTS) or code == 0x207B:
        return POWER
    if is_one_of(code, _APPROX):
        return APPROX
    if is_one_of(code, _RELATIONS):
        return RELATION
    if code == 0xB1 or code == 0x2213:
        return PLUS_MINUS
    return map_rest(code)


def map_rest(code: int) -> int:
    """MARK for signs that say nothing about a value, WORD for letters, FOREIGN for what may change it."""
    if is_one_of(code, _MARKS) or is_one_of(code, _MONEY) or 0xA2 <= code <= 0xA5 or 0x20A0 <= code <= 0x20CF:
        return MARK
    if 0x2012 <= code <= 0x2027 or 0x2032 <= code <= 0x203A or 0xFFE0 <= code <= 0xFFE6:
        return MARK
    if 0x3001 <= code <= 0x3020 and code != 0x3007:
        return MARK
    if 0x2776 <= code <= 0x2793 or 0x1F100 <= code <= 0x1F10C or is_one_of(code, _NUMERALS):
        return FOREIGN
    if 0x2600 <= code <= 0x27BF or 0x1F300 <= code <= 0x1FAFF:
        return MARK
    if 0x300 <= code <= 0x36F or 0x2070 <= code <= 0x209F or 0x20D0 <= code <= 0x20FF:
        return FOREIGN
    if 0x2150 <= code <= 0x218F or 0x2200 <= code <= 0x25FF or 0x27C0 <= code <= 0x2BFF:
        return FOREIGN
    if 0x3021 <= code <= 0x3029 or 0x3220 <= code <= 0x32CF or code == 0x3007 or 0xA0 <= code < 0xC0:
        return FOREIGN
    return MARK if 0x2E80 <= code < 0xD800 else WORD  # scripts without spaces between words


def read_letters(data: Bytes, i: int, end: int) -> tuple[int, int]:
    """(key of the ASCII letters that start at i, in lower case; position behind them)."""
    key = 0
    while i < end:
        letter = data[i] | 32
        if not 97 <= letter <= 122 or data[i] < 65:
            break
        key = key * 32 + letter - 96 if key < 1 << 55 else OVER_LONG
        i += 1
    return key, i


def symbol(data: Bytes, i: int, end: int) -> tuple[int, int, int]:
    """(kind or ASCII code, position of the next symbol, key of a word or command or the code point)."""
    byte = data[i] + 0
    if byte >= 0x80:
        code, after = decode(data, i)
        kind = map_wide(code)
        return kind, after, OVER_LONG if kind == WORD else code
    if 97 <= byte | 32 <= 122 and byte >= 65:
        key, after = read_letters(data, i, end)
        return WORD, after, key
    if byte == 92:
        return escape(data, i + 1, end)
    if byte == 126 or 9 <= byte <= 13:
        return SPACE, i + 1, byte
    if byte < 32:
        return FOREIGN, i + 1, byte
    return byte, i + 1, byte


def escape(data: Bytes, i: int, end: int) -> tuple[int, int, int]:
    r"""`symbol` behind a backslash: a command, or one character such as `\%` or `\,`."""
    if i >= end:
        return MARK, i, 0
    key, after = read_letters(data, i, end)
    if key:
        return COMMAND, after, key
    byte = data[i] + 0
    if byte >= 0x80:
        return FOREIGN, i, 0
    if byte == 44:
        return THIN, i + 1, byte
    if byte == 33:
        return NOTHING, i + 1, byte
    if byte == 36 or byte == 37:
        return byte, i + 1, byte
    if byte in (58, 59, 62, 32, 9, 10, 13, 92):
        return SPACE, i + 1, byte
    if byte in (40, 41, 91, 93, 46, 35, 38, 123, 125, 34, 39):
        return MARK, i + 1, byte
    return FOREIGN, i + 1, byte


def skip_spaces(data: Bytes, i: int, end: int) -> int:
    """Position of the first symbol from i on that is not a space."""
    while i < end:
        kind, after, _ = symbol(data, i, end)
        if kind != SPACE and kind != THIN and kind != NOTHING:
            break
        i = after
    return i
