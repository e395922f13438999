r"""Numbers as people write them: symbols (characters, words, TeX commands), and one number made of them.

Digits, groups, points, fractions, mixed numbers and powers of ten; and whether two numbers are equal. Everything but
`equal_exactly` is plain Python over UTF-8 bytes that numba also compiles as it stands. Mantissas stay below LIMIT; a
longer one is OVERFLOW, and `equal_exactly` reads it again in Python integers of any size.
"""

from decimal import Decimal

from verifiers import characters
from verifiers.characters import OVER_LONG, decimal_digit, decode, is_one_of, read_word, rows
from verifiers.extract import Bytes, word_key, word_keys

# What `symbol` answers beyond ASCII codes. Letters are gathered into words, `\name` into commands.
NOTHING, THIN, WORD, COMMAND, FOREIGN, MARK, ELLIPSIS = 1, 2, 3, 4, 5, 6, 7
TIMES, DEGREE, VULGAR, POWER, RELATION, APPROX, PLUS_MINUS = 8, 14, 15, 16, 17, 18, 19
SPACE, STAR, PLUS, COMMA, MINUS, POINT, SLASH, EQUALS, CARET, LEFT, RIGHT = tuple(b" *+,-./=^{}")

# Vulgar fractions: code point, numerator, denominator.
_FRACTION_SIGNS = (
    (0xBC, 1, 4), (0xBD, 1, 2), (0xBE, 3, 4), (0x2150, 1, 7), (0x2151, 1, 9), (0x2152, 1, 10), (0x2153, 1, 3),
    (0x2154, 2, 3), (0x2155, 1, 5), (0x2156, 2, 5), (0x2157, 3, 5), (0x2158, 4, 5), (0x2159, 1, 6),
    (0x215A, 5, 6), (0x215B, 1, 8), (0x215C, 3, 8), (0x215D, 5, 8), (0x215E, 7, 8),
)  # fmt: skip
SUPERSCRIPTS = (0x2070, 0xB9, 0xB2, 0xB3, 0x2074, 0x2075, 0x2076, 0x2077, 0x2078, 0x2079)
_RAISED_MINUS = 0x207B

# What characters beyond ASCII stand for, in rows (first, last, kind); the first row that holds one counts.
_WIDE = (
    *rows(MINUS, *characters.MINUS_SIGNS),
    *rows(SLASH, *characters.DIVISION_SIGNS),
    *rows(TIMES, *characters.TIMES_SIGNS),
    *rows(THIN, *characters.THIN_SPACES),
    *rows(SPACE, *characters.SPACES),
    *rows(NOTHING, *characters.ZERO_WIDTH, 0x200E, 0x200F),
    (0x202A, 0x202E, NOTHING), (0x2066, 0x2069, NOTHING), (0xFE00, 0xFE0F, NOTHING),
    *rows(POINT, 0x66B, characters.IDEOGRAPHIC_STOP),
    *rows(COMMA, 0x66C),
    *rows(ELLIPSIS, 0x2026, 0x22EF),
    *rows(DEGREE, 0xB0, 0xBA, 0x2218, 0x2103, 0x2109),
    *rows(VULGAR, *(code for code, _, _ in _FRACTION_SIGNS)),
    *rows(POWER, *SUPERSCRIPTS, _RAISED_MINUS),
    *rows(APPROX, 0x223C, 0x2243, 0x2245, 0x2248, 0x2261),
    *rows(RELATION, 0x2260, 0x2264, 0x2265, 0x226A, 0x226B, 0x2A7D, 0x2A7E),
    *rows(PLUS_MINUS, 0xB1, 0x2213),
    *rows(FOREIGN, 0x2030, 0x2031),  # per thousand, per ten thousand
    # Signs that say nothing about a value: quotes, dashes, bullets, arrows, currencies, stops.
    *rows(MARK, 0xAB, 0xBB, 0xA1, 0xBF, 0x2192, 0x21D2, 0x2234),
    *rows(MARK, 0x58F, 0x60B, 0x9F2, 0x9F3, 0xE3F, 0x17DB, 0xFDFC, 0xFE69),
    (0xA2, 0xA5, MARK), (0x20A0, 0x20CF, MARK), (0x2012, 0x2027, MARK), (0x2032, 0x203A, MARK),
    (0xFFE0, 0xFFE6, MARK), (0x3001, 0x3006, MARK), (0x3008, 0x3020, MARK), *rows(MARK, 0x2713, 0x2714),
    # Ideographs that multiply, halve or negate the number beside them, and other numerals and operators.
    *rows(FOREIGN, 0x4E07, 0x4EBF, 0x5104, 0x5146, 0x5341, 0x5343, 0x534A, 0x767E, 0x842C, 0x8CA0, 0x8D1F),
    (0x3C0, 0x3C0, FOREIGN), (0x2776, 0x2793, FOREIGN), (0x1F100, 0x1F10C, FOREIGN),
    (0x2600, 0x27BF, MARK), (0x1F300, 0x1FAFF, MARK),
    (0x300, 0x36F, FOREIGN), (0x2070, 0x209F, FOREIGN), (0x20D0, 0x20FF, FOREIGN),
    (0x2150, 0x218F, FOREIGN), (0x2200, 0x25FF, FOREIGN), (0x27C0, 0x2BFF, FOREIGN),
    (0x3007, 0x3007, FOREIGN), (0x3021, 0x3029, FOREIGN), (0x3220, 0x32CF, FOREIGN), (0xA0, 0xBF, FOREIGN),
    (0x2E80, 0xD7FF, MARK),  # scripts without spaces between words
)  # fmt: skip
_ESCAPED_KINDS = {
    **{ord(","): THIN, ord("!"): NOTHING, ord("$"): ord("$"), ord("%"): ord("%")},
    **dict.fromkeys(b":;> \t\n\r\\", SPACE),
    **dict.fromkeys(b"()[].#&{}\"'", MARK),
}
_ESCAPED = bytes(_ESCAPED_KINDS.get(byte, FOREIGN) for byte in range(128))  # of ASCII behind a backslash

Fields = list[int]  # or, where compiled, an array of int64

LIMIT = 10**18
OVERFLOW = -1  # a mantissa that has to be read again

# The fields of a number: four for each literal, and where it lies for whoever needs it exactly.
SIGN, SHAPE, SCALE = 0, 1, 2
WHOLE, TOP, BOTTOM = 3, 7, 11  # first of: mantissa, exponent, start, end
FIELDS = 15
LITERAL, FRACTION, MIXED, NO_NUMBER = 0, 1, 2, 3
PLAIN, BRACED, RAISED = 0, 1, 2  # how an exponent is written

_FRACTIONS = word_keys("frac dfrac tfrac cfrac sfrac nicefrac")
_X, _E, _TIMES_WORD, _CDOT = word_key("x"), word_key("e"), word_key("times"), word_key("cdot")


def map_wide(code: int) -> int:
    """What a character beyond ASCII stands for: an ASCII code, or one of the kinds above."""
    digit = decimal_digit(code)
    if digit >= 0:
        return 48 + digit
    if 0xFF01 <= code <= 0xFF5E:
        return code - characters.FULLWIDTH
    for first, last, kind in _WIDE:
        if first <= code <= last:
            return kind
    return WORD


def symbol(data: Bytes, i: int, end: int) -> tuple[int, int, int]:
    """(kind or ASCII code, position of the next symbol, key of a word or command or the code point)."""
    byte = data[i] + 0
    if byte >= 0x80:
        code, after = decode(data, i)
        kind = map_wide(code)
        return kind, after, OVER_LONG if kind == WORD else code  # letters beyond ASCII make no known word
    if 97 <= byte | 32 <= 122 and byte >= 65:
        key, after = read_word(data, i, end, True)
        return WORD, after, key
    if byte == 92:
        return escape(data, i + 1, end)
    if byte == 126 or 9 <= byte <= 13:
        return SPACE, i + 1, byte
    if byte < 32:
        return FOREIGN, i + 1, byte
    return byte, i + 1, byte


def escape(data: Bytes, i: int, end: int) -> tuple[int, int, int]:
    r"""`symbol` after a backslash: a command, or one character such as `\%` or `\,`."""
    if i >= end:
        return MARK, i, 0
    key, after = read_word(data, i, end, True)
    if key:
        return COMMAND, after, key
    byte = data[i] + 0
    if byte >= 0x80:
        return FOREIGN, i, 0
    return _ESCAPED[byte] + 0, i + 1, byte


def skip_spaces(data: Bytes, i: int, end: int) -> int:
    """Position of the first symbol from i on that is not a space."""
    while i < end:
        kind, after, _ = symbol(data, i, end)
        if kind != SPACE and kind != THIN and kind != NOTHING:
            break
        i = after
    return i


def is_digit(data: Bytes, i: int, end: int) -> bool:
    if i >= end:
        return False
    byte = data[i] + 0
    return 48 <= byte <= 57 if byte < 0x80 else 48 <= symbol(data, i, end)[0] <= 57


def separator(data: Bytes, i: int, end: int) -> tuple[int, int]:
    r"""(COMMA, THIN or 0, position after it) of the thousands separator at i: `,` `{,}` `,\!` `\,` thin."""
    kind, after, _ = symbol(data, i, end)
    if kind == LEFT and after + 1 < end and data[after] == COMMA and data[after + 1] == RIGHT:
        return COMMA, after + 2
    if kind == COMMA:
        if after + 1 < end and data[after] == 92 and data[after + 1] == 33:
            after += 2
        return COMMA, after
    return (THIN, after) if kind == THIN else (0, i)


def is_group(data: Bytes, i: int, end: int) -> tuple[bool, int]:
    """(if exactly three digits stand at i, position after them)."""
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

    Returns the position after them. The mantissa is OVERFLOW from 10^18 on.
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
        grouped, _ = is_group(data, after, end)
        if not grouped:
            break
        groups = mark
        i = after
    fields[slot], fields[slot + 1], fields[slot + 2], fields[slot + 3] = mantissa, exponent, start, last
    return last


def set_vulgar(code: int, fields: Fields) -> None:
    """Fill the numerator and the denominator from a character such as one half."""
    for sign, top, bottom in _FRACTION_SIGNS:
        if sign == code:
            fields[TOP], fields[BOTTOM] = top, bottom
    fields[TOP + 1] = fields[BOTTOM + 1] = 0


def read_signed(data: Bytes, i: int, end: int, fields: Fields, slot: int) -> int:
    """Read a literal with a sign, which goes into the sign of the number; position after it, or -1."""
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
    r"""Read `{number}`, or one digit, as an argument of `\frac`; position after it, or -1."""
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
    i = read_argument(data, i, end, fields, TOP)
    return read_argument(data, i, end, fields, BOTTOM) if i >= 0 else -1


def starts_number(data: Bytes, kind: int, after: int, end: int, key: int) -> bool:
    """True if the symbol (kind, key), with `after` after it, begins a number."""
    if 48 <= kind <= 57 or kind == VULGAR:
        return True
    if kind == POINT:
        return is_digit(data, after, end)
    return kind == COMMAND and is_one_of(key, _FRACTIONS)


def read_number(data: Bytes, i: int, end: int, fields: Fields) -> int:
    """Read the number that begins at i into `fields`; position after what was read.

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
    """Read the fraction at `start` after a whole number that ends at i; position after the number."""
    if fields[WHOLE + 1] != 0:
        return i
    kind, after, key = symbol(data, start, end)
    behind = -1
    if kind == VULGAR:
        set_vulgar(key, fields)
        behind = after
    elif kind == COMMAND and is_one_of(key, _FRACTIONS):
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


def read_power_of_ten(data: Bytes, i: int, end: int) -> tuple[int, int]:
    r"""(exponent, position after) of `\times 10^{3}` or `e3` at i; the position is -1 if there is none."""
    after_spaces = skip_spaces(data, i, end)
    if after_spaces >= end:
        return 0, -1
    kind, after, key = symbol(data, after_spaces, end)
    if kind == WORD and key == _E and after_spaces == i:
        return read_exponent(data, after, end, PLAIN)
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
        return read_exponent(data, after, end, BRACED)
    return read_exponent(data, i, end, RAISED)


def raised(code: int) -> int:
    """The ASCII digit or minus sign of a superscript."""
    for digit in range(10):
        if SUPERSCRIPTS[digit] == code:
            return 48 + digit
    return MINUS


def read_exponent(data: Bytes, i: int, end: int, style: int) -> tuple[int, int]:
    """(value, position after) of `3` or `-3` that is PLAIN, also `{3}` if BRACED, or RAISED; saturates at 10^9."""
    braced = style == BRACED and i < end and data[i] == LEFT
    i = i + 1 if braced else i
    sign, value, digits, signs = 1, 0, 0, 0
    while i < end:
        kind, after, code = symbol(data, i, end)
        if style == RAISED:
            kind = raised(code) if kind == POWER else FOREIGN
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


def magnitude(fields: Fields) -> tuple[int, int, int]:
    """(numerator, denominator, power of ten) of a number without its sign; OVERFLOW where too large."""
    if fields[SHAPE] == LITERAL:
        return fields[WHOLE], 1, fields[WHOLE + 1] + fields[SCALE]
    top, bottom = fields[TOP], fields[BOTTOM]
    if fields[SHAPE] == FRACTION:
        return top, bottom, fields[TOP + 1] - fields[BOTTOM + 1] + fields[SCALE]
    whole = fields[WHOLE]
    if whole < 0 or whole >= LIMIT // bottom - 1:
        return OVERFLOW, 1, 0
    return whole * bottom + top, bottom, fields[SCALE]


def strip_zeros(value: int, power: int) -> tuple[int, int]:
    """The same value * 10^power with as many zeros as possible in the power; value > 0."""
    while value % 10 == 0:
        value //= 10
        power += 1
    return value, power


def equal(first_data: Bytes, first: Fields, second_data: Bytes, second: Fields) -> int:
    """1 if two numbers are the same rational, 0 if not, OVERFLOW if 64 bits cannot tell.

    The data, which the numbers were read from, are for `equal_exactly`.
    """
    a, b, power = magnitude(first)
    c, d, other = magnitude(second)
    if a < 0 or b < 0 or c < 0 or d < 0:
        return OVERFLOW
    if a == 0 or c == 0:
        return 1 if a == c else 0
    if first[SIGN] != second[SIGN]:
        return 0
    if b != d:
        if a > LIMIT // d or c > LIMIT // b:
            return OVERFLOW
        a, c = a * d, c * b
    a, power = strip_zeros(a, power)
    c, other = strip_zeros(c, other)
    return 1 if a == c and power == other else 0


def is_zero_below(fields: Fields) -> bool:
    """True if a number has a denominator and that is zero."""
    return fields[SHAPE] != LITERAL and fields[BOTTOM] == 0


def equal_exactly(first_data: Bytes, first: Fields, second_data: Bytes, second: Fields) -> int:
    """`equal` for numbers of any size: 1 or 0."""
    a, b, power = _magnitude(first_data, first)
    c, d, other = _magnitude(second_data, second)
    if a == 0 or c == 0:
        return int(a == c)
    if first[SIGN] != second[SIGN]:
        return 0
    left, right, power = a * d, c * b, power - other
    if power < 0:
        left, right, power = right, left, -power
    # 10^power > 2^(3 * power), so the left side would be the larger one, and is not worked out.
    return int(3 * power <= right.bit_length() and left * 10**power == right)


def _magnitude(data: Bytes, fields: Fields) -> tuple[int, int, int]:
    if fields[SHAPE] == LITERAL:
        return _mantissa(data, fields, WHOLE), 1, fields[WHOLE + 1] + fields[SCALE]
    top, bottom = _mantissa(data, fields, TOP), _mantissa(data, fields, BOTTOM)
    if fields[SHAPE] == FRACTION:
        return top, bottom, fields[TOP + 1] - fields[BOTTOM + 1] + fields[SCALE]
    return _mantissa(data, fields, WHOLE) * bottom + top, bottom, fields[SCALE]


def _mantissa(data: Bytes, fields: Fields, slot: int) -> int:
    """The digits of a literal as one integer."""
    if fields[slot] != OVERFLOW:
        return fields[slot]
    digits = []
    i = fields[slot + 2]
    while i < fields[slot + 3]:
        kind, i, _ = symbol(data, i, fields[slot + 3])
        if 48 <= kind <= 57:
            digits.append(chr(kind))
    return int(Decimal("".join(digits)))  # which takes more digits than `int` does
