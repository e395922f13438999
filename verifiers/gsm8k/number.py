r"""Reads one number as people write it, and compares two: digits, groups, fractions, mixed numbers, powers of ten.

`symbol` reads a character, a word or a TeX command; `read_number` reads a number that is made of symbols. What stands
around a number, such as "dollars", is read by answer.py, with the words of `verifiers/amounts.py`.

Everything but `equal_exactly` is plain Python over UTF-8 bytes, and numba also compiles it as it stands. Mantissas stay
below MANTISSA_LIMIT; a longer one is LONG_MANTISSA, and `equal_exactly` reads it again in Python integers of any size.
"""

from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction
from unicodedata import numeric

from verifiers import characters as ch
from verifiers.extract import (
    ANY_CASE,
    OVER_LONG,
    Bytes,
    is_ascii_letter,
    matches,
    read_word,
    word_key,
    word_keys,
)

# The kinds of symbols. An ASCII sign has its code as its kind, so these are codes of no sign. Letters are gathered into
# words, and `\name` into a command. FOREIGN signs change a value in ways that are not read; a MARK says nothing.
# THIN is a thin space, VULGAR a character such as one half, and POWER one such as a raised 2.
NOTHING, THIN, WORD, COMMAND, FOREIGN, MARK = range(1, 7)
TIMES, VULGAR, POWER, RELATION, APPROX, PLUS_MINUS = range(7, 13)

# (code point, numerator, denominator) of the characters that are fractions, such as one half.
_FRACTION_SIGNS = tuple(
    (code, *Fraction(numeric(chr(code))).limit_denominator(10).as_integer_ratio())
    for code in (0xBC, 0xBD, 0xBE, *range(0x2150, 0x215F))
)

# (first, last, kind) of characters beyond ASCII; the first row that holds a character counts.
_WIDE = (
    *ch.rows(ch.MINUS, *ch.MINUS_SIGNS),
    *ch.rows(ch.SLASH, *ch.DIVISION_SIGNS),
    *ch.rows(TIMES, *ch.TIMES_SIGNS),
    *ch.rows(THIN, *ch.THIN_SPACES),
    *ch.rows(ch.SPACE, *ch.SPACES),
    *ch.rows(NOTHING, *ch.ZERO_WIDTH, 0x200E, 0x200F),
    (0x202A, 0x202E, NOTHING), (0x2066, 0x2069, NOTHING), (0xFE00, 0xFE0F, NOTHING),
    *ch.rows(ch.POINT, 0x66B, ch.IDEOGRAPHIC_STOP),
    *ch.rows(ch.COMMA, 0x66C),
    *ch.rows(MARK, 0x2026, 0x22EF),
    *ch.rows(MARK, 0xB0, 0xBA, 0x2218, 0x2103, 0x2109),
    *ch.rows(VULGAR, *(code for code, _, _ in _FRACTION_SIGNS)),
    *ch.rows(POWER, 0xB9, 0xB2, 0xB3), (0x2070, 0x207B, POWER),
    *ch.rows(APPROX, 0x223C, 0x2243, 0x2245, 0x2248, 0x2261),
    *ch.rows(RELATION, 0x2260, 0x2264, 0x2265, 0x226A, 0x226B, 0x2A7D, 0x2A7E),
    *ch.rows(PLUS_MINUS, 0xB1, 0x2213),
    *ch.rows(FOREIGN, 0x2030, 0x2031),  # per thousand, per ten thousand
    # Signs that say nothing about a value: quotes, dashes, bullets, arrows, currencies, stops.
    *ch.rows(MARK, 0xAB, 0xBB, 0xA1, 0xBF, 0x2192, 0x21D2, 0x2234),
    *ch.rows(MARK, 0x58F, 0x60B, 0x9F2, 0x9F3, 0xE3F, 0x17DB, 0xFDFC, 0xFE69),
    (0xA2, 0xA5, MARK), (0x20A0, 0x20CF, MARK), (0x2012, 0x2027, MARK), (0x2032, 0x203A, MARK),
    (0xFF01, 0xFF5E, MARK), (0xFFE0, 0xFFE6, MARK), (0x3001, 0x3006, MARK), (0x3008, 0x3020, MARK),
    *ch.rows(MARK, 0x2713, 0x2714),
    # Ideographs that multiply, halve or negate the number beside them, and other numerals and operators.
    *ch.rows(FOREIGN, 0x4E07, 0x4EBF, 0x5104, 0x5146, 0x5341, 0x5343, 0x534A, 0x767E, 0x842C, 0x8CA0, 0x8D1F),
    (0x3C0, 0x3C0, FOREIGN), (0x2776, 0x2793, FOREIGN), (0x1F100, 0x1F10C, FOREIGN),
    (0x2600, 0x27BF, MARK), (0x1F300, 0x1FAFF, MARK),
    (0x300, 0x36F, FOREIGN), (0x2070, 0x209F, FOREIGN), (0x20D0, 0x20FF, FOREIGN),
    (0x2150, 0x218F, FOREIGN), (0x2200, 0x25FF, FOREIGN), (0x27C0, 0x2BFF, FOREIGN),
    (0x3007, 0x3007, FOREIGN), (0x3021, 0x3029, FOREIGN), (0x3220, 0x32CF, FOREIGN), (0xA0, 0xBF, FOREIGN),
    (0x2E80, 0xD7FF, MARK),  # scripts without spaces between words
)  # fmt: skip
_ASCII_KINDS = {
    **dict.fromkeys(b"\t\n\v\f\r~", ch.SPACE),
    **{byte: byte for byte in range(ch.SPACE, ch.TILDE)},
}
_ASCII = bytes(_ASCII_KINDS.get(byte, FOREIGN) for byte in range(ch.BEYOND_ASCII))
_ESCAPED_KINDS = {
    **{ord(","): THIN, ord("!"): NOTHING, ord("$"): ord("$"), ord("%"): ord("%")},
    **dict.fromkeys(b":;> \t\n\r\\", ch.SPACE),
    **dict.fromkeys(b"()[].#&{}\"'", MARK),
}
_ESCAPED_LIMIT = ch.BEYOND_ASCII
_ESCAPED = bytes(_ESCAPED_KINDS.get(byte, FOREIGN) for byte in range(_ESCAPED_LIMIT))  # behind a backslash

DIGITS_LIMIT = 18  # the most digits that 64 bits hold
MANTISSA_LIMIT = 10**DIGITS_LIMIT
LONG_MANTISSA = MANTISSA_LIMIT + 1  # stands for every mantissa of more digits; `widen` reads it again
UNDECIDED = -1  # the result of a comparison for which 64 bits do not suffice; else the result is 1 or 0
LITERAL, FRACTION, MIXED, NO_NUMBER = range(4)  # shapes of numbers

_FRACTIONS = word_keys("frac dfrac tfrac cfrac sfrac nicefrac")
_X, _E, _TIMES_WORD, _CDOT = word_key("x"), word_key("e"), word_key("times"), word_key("cdot")
_BRACED_COMMA, _NEGATIVE_SPACE = b",}", b"\\!"


@dataclass(slots=True)
class Literal:
    """A number in digits, `mantissa * 10**exponent`, read from data[start:end]; it may have a point and groups.

    A mantissa of MANTISSA_LIMIT or more is LONG_MANTISSA.
    """

    mantissa: int = 0
    exponent: int = 0
    start: int = 0
    end: int = 0


@dataclass(slots=True)
class Number:
    """A number by its shape: `sign * value * 10**scale`.

    The value is `whole` (LITERAL), `whole / bottom` (FRACTION) or `whole + top / bottom` (MIXED).
    """

    sign: int = 1
    shape: int = 0
    scale: int = 0
    whole: Literal = field(default_factory=Literal)
    top: Literal = field(default_factory=Literal)
    bottom: Literal = field(default_factory=Literal)


def map_wide(code: int) -> int:
    """The kind of a character beyond ASCII: an ASCII code, as "3" for "３", or one of the kinds above."""
    digit = ch.decimal_digit(code)
    if digit >= 0:
        return ch.ZERO + digit
    for first, last, kind in _WIDE:
        if first <= code <= last:
            return kind
    return WORD


def symbol(data: Bytes, i: int, end: int) -> tuple[int, int, int]:
    """(kind, position of the next symbol, key) of the symbol at i; the key of a character is its code point."""
    byte = data[i] + 0  # + 0 makes an int64 of numba's uint8, here and below
    if byte >= ch.BEYOND_ASCII:
        code, after = ch.decode(data, i)
        kind = map_wide(code)
        return kind, after, OVER_LONG if kind == WORD else code  # letters beyond ASCII make no known word
    if is_ascii_letter(byte):
        key, after = read_word(data, i, end, ANY_CASE)
        return WORD, after, key
    if byte == ch.BACKSLASH:
        return escape(data, i + 1, end)
    return _ASCII[byte] + 0, i + 1, byte


def escape(data: Bytes, i: int, end: int) -> tuple[int, int, int]:
    r"""`symbol` after a backslash: a command, or one character such as `\%` or `\,`."""
    key, after = read_word(data, i, end, ANY_CASE)
    if key:
        return COMMAND, after, key
    if i + 1 < end and data[i] == ch.BACKSLASH:  # a \\frac, in a text whose backslashes are doubled
        key, after = read_word(data, i + 1, end, ANY_CASE)
        if ch.is_one_of(key, _FRACTIONS):
            return COMMAND, after, key
    if i >= end or data[i] >= _ESCAPED_LIMIT:
        return FOREIGN, i, 0
    return _ESCAPED[data[i]] + 0, i + 1, data[i] + 0


def kind_at(data: Bytes, i: int, end: int) -> tuple[int, int]:
    """(kind of the symbol at i, position after it); the kind is NOTHING at the end."""
    if i >= end:
        return NOTHING, i
    kind, after, _ = symbol(data, i, end)
    return kind, after


def skip_spaces(data: Bytes, i: int, end: int) -> int:
    """Position of the first symbol from i on that is no space."""
    while i < end:
        kind, after, _ = symbol(data, i, end)
        if kind != ch.SPACE and kind != THIN and kind != NOTHING:
            break
        i = after
    return i


def is_digit(data: Bytes, i: int, end: int) -> bool:
    """True if a digit of any script stands at i."""
    if i >= end:
        return False
    byte = data[i] + 0
    return ch.is_ascii_digit(byte if byte < ch.BEYOND_ASCII else symbol(data, i, end)[0])


def separator(data: Bytes, i: int, end: int) -> tuple[int, int]:
    r"""(kind, position after it) of the thousands separator at i.

    The kind is COMMA for `,` `{,}` `,\!`, THIN for `\,` or a thin space, and 0 for no separator.
    """
    kind, after, _ = symbol(data, i, end)
    if kind == ch.LEFT_BRACE and matches(data, after, end, _BRACED_COMMA):
        return ch.COMMA, after + 2
    if kind == ch.COMMA:
        return ch.COMMA, after + 2 if matches(data, after, end, _NEGATIVE_SPACE) else after
    return (THIN, after) if kind == THIN else (0, i)


def is_group(data: Bytes, i: int, end: int) -> bool:
    """True if exactly three digits stand at i."""
    count = 0
    while i < end and count < 4:
        kind, i, _ = symbol(data, i, end)
        if ch.is_ascii_digit(kind):
            count += 1
        elif kind != NOTHING:
            break
    return count == 3


def read_literal(data: Bytes, i: int, end: int, literal: Literal) -> int:
    """Reads the digits that start at i, with thousands groups and a decimal point; returns the position after them."""
    start = last = i  # last: the position behind the last digit
    mantissa = exponent = digits = 0
    group_separator = 0  # COMMA or THIN, once one has been read
    pointed = leading_zero = False
    while i < end:
        kind, after = data[i] + 0, i + 1
        if not ch.is_ascii_digit(kind):  # asked first, because most symbols here are ASCII digits
            kind, after, _ = symbol(data, i, end)
        if ch.is_ascii_digit(kind):
            leading_zero = leading_zero or (digits == 0 and kind == ch.ZERO)
            digits += 1
            if pointed:
                exponent -= 1
            # A mantissa that becomes too long is LONG_MANTISSA, and stays so.
            mantissa = mantissa * 10 + kind - ch.ZERO if mantissa < MANTISSA_LIMIT // 10 else LONG_MANTISSA
            last = after
        elif kind == ch.POINT and not pointed and is_digit(data, after, end):
            pointed = True
        elif kind != NOTHING:
            found, after = separator(data, i, end)
            is_first_group = digits <= 3 and not leading_zero
            fits = found == group_separator if group_separator else is_first_group
            if found == 0 or pointed or not fits or not is_group(data, after, end):
                break
            group_separator = found
        i = after
    literal.mantissa, literal.exponent, literal.start, literal.end = mantissa, exponent, start, last
    return last


def set_vulgar(code: int, number: Number) -> None:
    """Fills the numerator and the denominator from a character such as one half."""
    for sign, top, bottom in _FRACTION_SIGNS:
        if sign == code:
            number.top.mantissa, number.bottom.mantissa = top, bottom
    number.top.exponent = number.bottom.exponent = 0


def read_argument(data: Bytes, i: int, end: int, literal: Literal) -> int:
    r"""Reads `{number}`, or one digit, as an argument of `\frac`; returns the position after it, or -1 without one.

    A minus in the braces is passed over; see `is_negative`.
    """
    i = skip_spaces(data, i, end)
    if i < end and data[i] == ch.LEFT_BRACE:
        i = skip_spaces(data, i + 1, end)
        kind, after = kind_at(data, i, end)
        if kind == ch.MINUS:
            i = skip_spaces(data, after, end)
        if not is_digit(data, i, end):
            return -1
        i = skip_spaces(data, read_literal(data, i, end, literal), end)
        return i + 1 if i < end and data[i] == ch.RIGHT_BRACE else -1
    if not is_digit(data, i, end):
        return -1
    _, after = kind_at(data, i, end)
    return read_literal(data, i, after, literal)  # without braces, the argument is one digit: \frac12


def read_frac(data: Bytes, i: int, end: int, number: Number, top: Literal) -> int:
    r"""Reads the arguments of the `\frac` that ends at i into `top` and `number.bottom`, and the sign of the fraction.

    Returns the position after the arguments, or -1 if they cannot be read.
    """
    below = read_argument(data, i, end, top)
    if below < 0:
        return -1
    if is_negative(data, i, end) != is_negative(data, below, end):
        number.sign = -1
    return read_argument(data, below, end, number.bottom)


def is_negative(data: Bytes, i: int, end: int) -> bool:
    """True for an argument such as `{-3}` at i."""
    i = skip_spaces(data, i, end)
    if i >= end or data[i] != ch.LEFT_BRACE:
        return False
    kind, _ = kind_at(data, skip_spaces(data, i + 1, end), end)
    return kind == ch.MINUS


def starts_number(data: Bytes, kind: int, after: int, end: int, key: int) -> bool:
    """True if a number begins with the symbol (kind, key) that ends at `after`."""
    if ch.is_ascii_digit(kind) or kind == VULGAR:
        return True
    if kind == ch.POINT:
        return is_digit(data, after, end)
    return kind == COMMAND and ch.is_one_of(key, _FRACTIONS)


def read_number(data: Bytes, i: int, end: int, number: Number) -> int:
    """Reads the number that begins at i; returns the position after what was read.

    The shape is NO_NUMBER if it only begins like a number: a `\\frac` without arguments.
    """
    number.sign, number.shape, number.scale = 1, LITERAL, 0
    kind, after, _ = symbol(data, i, end)
    if kind == COMMAND:
        behind = read_frac(data, after, end, number, number.whole)
        number.shape = FRACTION if behind >= 0 else NO_NUMBER
        return behind if behind >= 0 else after
    # Where no digits stand before a character such as one half, this is 0.
    i = read_literal(data, i, end, number.whole)
    scale, behind = read_power_of_ten(data, i, end)
    if behind >= 0:
        number.scale = scale
        return behind
    start = skip_spaces(data, i, end)
    kind, after = kind_at(data, start, end)
    if kind != ch.SLASH:
        return read_mixed(data, i, start, end, number) if start < end else i
    start = skip_spaces(data, after, end)
    if not is_digit(data, start, end):
        return i
    number.shape = FRACTION
    return read_literal(data, start, end, number.bottom)


def read_mixed(data: Bytes, i: int, start: int, end: int, number: Number) -> int:
    """Reads the fraction at `start` after a whole number that ends at i; returns the position after the number."""
    kind, after, key = symbol(data, start, end)
    top, bottom = number.top, number.bottom
    behind = -1
    if kind == VULGAR:
        set_vulgar(key, number)
        behind = after
    elif kind == COMMAND and ch.is_one_of(key, _FRACTIONS):
        behind = read_frac(data, after, end, number, top)
    elif ch.is_ascii_digit(kind) and start > i:
        kind, after = kind_at(data, read_literal(data, start, end, top), end)
        if kind == ch.SLASH and is_digit(data, after, end):
            behind = read_literal(data, after, end, bottom)
    if behind < 0:
        return i
    proper = top.mantissa < bottom.mantissa < MANTISSA_LIMIT
    proper = proper and number.sign > 0 and number.whole.exponent == top.exponent == bottom.exponent == 0
    number.shape = MIXED if proper else NO_NUMBER
    return behind


def read_power_of_ten(data: Bytes, i: int, end: int) -> tuple[int, int]:
    r"""(exponent, position after) of `\times 10^{3}` or `e3` at i; the position is -1 if there is none."""
    start = skip_spaces(data, i, end)
    if start >= end:
        return 0, -1
    kind, after, key = symbol(data, start, end)
    if kind == WORD and key == _E and start == i:
        may_be_braced = False
        return read_exponent(data, after, end, may_be_braced)
    times = kind == TIMES or kind == ch.STAR or (kind == WORD and key == _X)
    times = times or (kind == COMMAND and (key == _TIMES_WORD or key == _CDOT))
    one, after = kind_at(data, skip_spaces(data, after, end), end)
    zero, after = kind_at(data, after, end)
    caret, after = kind_at(data, after, end)
    if times and one == ch.ONE and zero == ch.ZERO and caret == ch.CARET:
        may_be_braced = True
        return read_exponent(data, after, end, may_be_braced)
    return 0, -1


def read_exponent(data: Bytes, i: int, end: int, may_be_braced: bool) -> tuple[int, int]:
    """(value, position after) of `3`, `-3`, `+3`, `{3}`; the position is -1 if there is none.

    A value above 10^9 counts as 10^9. may_be_braced: `{3}` is read, too.
    """
    kind, after = kind_at(data, i, end)
    braced = may_be_braced and kind == ch.LEFT_BRACE
    i = after if braced else i
    kind, after = kind_at(data, i, end)
    negative = kind == ch.MINUS
    if negative or kind == ch.PLUS:
        i = after
    first = i
    value = 0
    while is_digit(data, i, end):
        kind, i = kind_at(data, i, end)
        value = min(value * 10 + kind - ch.ZERO, 10**9)
    has_digits = i > first
    is_open = braced and (i >= end or data[i] != ch.RIGHT_BRACE)
    if is_open or not has_digits:
        return 0, -1
    behind = i + 1 if braced else i
    return -value if negative else value, behind


def magnitude(number: Number, exact: bool) -> tuple[int, int, int]:
    """(numerator, denominator, power of ten) without the sign; a numerator that is too large is LONG_MANTISSA.

    exact: numbers of any size are worked out, in Python alone.
    """
    whole, top, bottom = number.whole, number.top, number.bottom
    if number.shape == LITERAL:
        return whole.mantissa, 1, whole.exponent + number.scale
    if number.shape == FRACTION:
        return whole.mantissa, bottom.mantissa, whole.exponent - bottom.exponent + number.scale
    if not exact and whole.mantissa >= MANTISSA_LIMIT // bottom.mantissa - 1:
        return LONG_MANTISSA, 1, 0
    return whole.mantissa * bottom.mantissa + top.mantissa, bottom.mantissa, number.scale


def equal(first_data: Bytes, first: Number, second_data: Bytes, second: Number) -> int:
    """1 if two numbers are the same rational, 0 if not, UNDECIDED if 64 bits cannot tell.

    The data from which the numbers were read are not used here: `equal_exactly`, which takes the same arguments, needs
    them.
    """
    exact = False
    a, b, power = magnitude(first, exact)
    c, d, other = magnitude(second, exact)
    if a == 0 or c == 0:
        return 1 if a == c else 0
    if first.sign != second.sign:
        return 0
    if a > MANTISSA_LIMIT // d or c > MANTISSA_LIMIT // b:
        return UNDECIDED
    left, right, power = a * d, c * b, power - other
    if power < 0:
        left, right, power = right, left, -power
    while power > 0 and left <= right // 10:
        left *= 10
        power -= 1
    return 1 if power == 0 and left == right else 0


def divides_by_zero(number: Number) -> bool:
    """True if a number has a denominator, which is zero."""
    return number.shape != LITERAL and number.bottom.mantissa == 0


def equal_exactly(first_data: Bytes, first: Number, second_data: Bytes, second: Number) -> int:
    """`equal` for numbers of any size: 1 or 0."""
    widen(first_data, first)
    widen(second_data, second)
    exact = True
    a, b, power = magnitude(first, exact)
    c, d, other = magnitude(second, exact)
    left, right, power = first.sign * a * d, second.sign * c * b, power - other
    if left == 0 and right == 0:
        return 1
    # 10^|power| has more than 3|power| bits. If that is more than both numbers have, the number that is multiplied by
    # 10^|power| would be larger than the other one, or 0: the two differ, and the long product is not computed.
    bits = max(left.bit_length(), right.bit_length())
    may_be_equal = 3 * abs(power) <= bits
    return int(may_be_equal and left * 10 ** max(power, 0) == right * 10 ** max(-power, 0))


def widen(data: Bytes, number: Number) -> None:
    """Reads again, as one Python integer, each literal that was too long.

    A mixed number has top < bottom < MANTISSA_LIMIT, so only its whole number can be too long.
    """
    literals = (number.whole, number.bottom) if number.shape == FRACTION else (number.whole,)
    for literal in literals:
        if literal.mantissa == LONG_MANTISSA:
            digits = "".join(filter(str.isdigit, bytes(data[literal.start : literal.end]).decode()))
            literal.mantissa = int(Decimal(digits))  # `Decimal` reads more digits than `int` does
