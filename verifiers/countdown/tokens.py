"""Reading arithmetic expressions, token by token, as plain Python that numba also compiles as it stands.

Strict: ASCII digits, `+ - * / ( )`, spaces and tabs. Lenient: also the operators, digits and spaces of one
explicit character map, some TeX, `=` between sides, and a wrapper or words in front. What stands for nothing
known is BAD; nothing is skipped because it was not understood.
"""

from verifiers.characters import (
    DIVISION_SIGNS,
    FULLWIDTH,
    MINUS_SIGNS,
    PLUS_SIGNS,
    TIMES_SIGNS,
    ZERO_WIDTH,
    decimal_digit,
    decode,
    is_wide_space,
    read_word,
)
from verifiers.extract import Bytes, is_space, matches, strip, word_key, word_keys

END, BAD, BLANK, LITERAL, OPEN, CLOSE, EQUALS, FRACTION, LEFT_BRACE, RIGHT_BRACE = range(10)
PLUS, MINUS, TIMES, DIVIDE, NEGATE = 11, 12, 13, 14, 15

MAX_DIGITS = 4_000  # of one literal; Python reads at most 4,300
SAFE_DIGITS = 18  # a literal of so many digits fits 64 bits with room for a carry
INTEGER, DECIMAL, BIG, BROKEN = 0, 1, 2, 3  # what `read_literal` can say of a literal

_MORE_TIMES_SIGNS = (0x2A2F, 0xFF0A)
_OPENING, _CLOSING, _EQUALITY, _POINT, _COLON = (FULLWIDTH + code for code in b"()=.:")

_TEX_TIMES = word_keys("times cdot ast")
_TEX_DIVIDE = word_key("div")
_TEX_FRACTION = word_keys("frac dfrac tfrac cfrac")
_TEX_SPACES = word_keys("quad qquad thinspace")
_TEX_LEFT, _TEX_RIGHT = word_key("left"), word_key("right")
_TEX_SIGNS = tuple(b",;:! \n")

# Words that change the value of the expression behind them, or deny it: then it is not the answer.
_CHANGING = word_keys(
    "abs absolute arent cannot cant ceil cos cube cubed decreased divided doesnt dont double exp except "
    "excluding factorial floor half impossible increased inverse isnt ln log max min minus multiplied nearly "
    "negated negation negative neither never no none nor not opposite over percent plus quarter reciprocal "
    "root round sin sqrt square squared subtract tan thrice times triple twice unlike wasnt without wont wrong"
)
_LONGEST_KEY = 12  # letters
_QUOTE = (0xE2, 0x80)  # the first two bytes of a curly quote


def next_token(data: Bytes, i: int, end: int, lenient: bool) -> tuple[int, int]:
    """(kind of the next token, position behind it; for a LITERAL: where it begins); spaces are skipped."""
    while i < end:
        byte = data[i] + 0
        if byte < 128:
            kind, after = ascii_token(data, i, end, lenient)
        elif lenient:
            code, after = decode(data, i)
            kind = wide_token(code)
        else:
            return BAD, i
        if kind == LITERAL:
            return LITERAL, i
        i = after
        if kind != BLANK:
            return kind, i
    return END, end


def ascii_token(data: Bytes, i: int, end: int, lenient: bool) -> tuple[int, int]:
    """(kind of token, position behind it) at an ASCII character."""
    byte = data[i] + 0
    kind = BAD
    if 48 <= byte <= 57:
        kind = LITERAL
    elif byte == 32 or byte == 9:
        kind = BLANK
    elif byte == 43:
        kind = PLUS
    elif byte == 45:
        kind = MINUS
    elif byte == 42:
        kind = TIMES
    elif byte == 47:
        kind = DIVIDE
    elif byte == 40:
        kind = OPEN
    elif byte == 41:
        kind = CLOSE
    elif lenient:
        if byte == 92:
            return tex_token(data, i, end)
        if byte == 61:
            kind = EQUALS
        elif byte == 123:
            kind = LEFT_BRACE
        elif byte == 125:
            kind = RIGHT_BRACE
        elif is_space(byte):
            kind = BLANK
    return kind, i + 1


def wide_token(code: int) -> int:
    """The kind of token of a character beyond ASCII; BLANK for spaces and zero-width characters."""
    if code in MINUS_SIGNS:
        return MINUS
    if code in TIMES_SIGNS or code in _MORE_TIMES_SIGNS:
        return TIMES
    if code in DIVISION_SIGNS:
        return DIVIDE
    if code in PLUS_SIGNS:
        return PLUS
    if code == _OPENING:
        return OPEN
    if code == _CLOSING:
        return CLOSE
    if code == _EQUALITY:
        return EQUALS
    if is_wide_space(code) or code in ZERO_WIDTH:
        return BLANK
    return LITERAL if decimal_digit(code) >= 0 else BAD


def tex_token(data: Bytes, i: int, end: int) -> tuple[int, int]:
    """(kind of token, position behind it) at a backslash."""
    key, after = read_word(data, i + 1, end)
    if key == 0:
        known = after < end and data[after] in _TEX_SIGNS
        return (BLANK if known else BAD), after + 1
    if after < end and 65 <= data[after] <= 90:
        return BAD, after
    if key in _TEX_TIMES:
        return TIMES, after
    if key == _TEX_DIVIDE:
        return DIVIDE, after
    if key in _TEX_FRACTION:
        return FRACTION, after
    if key in _TEX_SPACES:
        return BLANK, after
    if key == _TEX_LEFT or key == _TEX_RIGHT:
        while after < end and is_space(data[after]):
            after += 1
        wanted = 40 if key == _TEX_LEFT else 41
        if after < end and data[after] == wanted:
            return BLANK, after
    return BAD, after


def read_literal(data: Bytes, i: int, end: int, lenient: bool, exact: bool) -> tuple[int, int, int, int]:
    """(what it is, numerator, denominator, position behind it) of the literal that begins at i.

    Without `exact` one of more than SAFE_DIGITS digits is BIG and has no value. Leading zeros, a point
    without digits on both sides, and more than MAX_DIGITS digits are BROKEN. `3.0` is an INTEGER.
    """
    numerator, scale = 0, 1
    whole = first = digits = decimals = rest = 0
    pointed = False
    while i < end:
        code, after = decode(data, i)
        digit = code - 48 if 48 <= code <= 57 else -1
        if code >= 128 and lenient:
            digit = decimal_digit(code)
        point = code == 46 or code == _POINT
        if digit >= 0:
            if digits == 0:
                first = digit
            digits += 1
            if digits > MAX_DIGITS or (digits == 2 and first == 0 and not pointed):
                return BROKEN, 0, 1, i
            if pointed:
                decimals += 1
                rest |= digit
            if exact or digits <= SAFE_DIGITS:
                numerator = numerator * 10 + digit
                if pointed:
                    scale *= 10
                else:
                    whole = numerator
        elif point and lenient and not pointed:
            pointed = True
        elif not (lenient and code in ZERO_WIDTH):
            break
        i = after
    if pointed and decimals == 0:
        return BROKEN, 0, 1, i
    if not exact and digits > SAFE_DIGITS:
        return BIG, 0, 1, i
    if rest == 0:
        return INTEGER, whole, 1, i
    return DECIMAL, numerator, scale, i


def frame_size(data: Bytes, start: int, end: int) -> int:
    """Bytes of the opening quote, backtick, brace or TeX delimiter that the end of data[start:end] closes, or 0."""
    length = end - start
    if length < 2:
        return 0
    first, last = data[start] + 0, data[end - 1] + 0
    if first == 96 or first == 36 or first == 34 or first == 39:  # ` $ " '
        return 1 if last == first else 0
    if first == 123:
        return 1 if last == 125 else 0
    if first == 92 and length >= 4 and data[end - 2] == 92:
        second = data[start + 1] + 0
        return 2 if (second == 40 and last == 41) or (second == 91 and last == 93) else 0
    quoted = first == 0xE2 and length >= 6 and matches(data, start, end, _QUOTE)
    if quoted and matches(data, end - 3, end, _QUOTE):
        third = data[start + 2] + 0
        return 3 if (third == 0x98 or third == 0x9C) and last == third + 1 else 0
    return 0


def unwrap(data: Bytes, start: int, end: int) -> tuple[int, int]:
    """data[start:end] without the pairs of quotes, backticks and TeX delimiters that surround all of it."""
    start, end = strip(data, start, end)
    size = frame_size(data, start, end)
    while size > 0:
        start, end = strip(data, start + size, end - size)
        size = frame_size(data, start, end)
    return start, end


def is_letter(code: int) -> bool:
    """True for a Latin letter."""
    if code < 128:
        return 97 <= (code | 32) <= 122
    return 0xC0 <= code <= 0x24F and code != 0xD7 and code != 0xF7


def skip_words(data: Bytes, start: int, end: int) -> int:
    """Where the expression behind leading words begins; `start` if there are none, -1 if words forbid it.

    The last word ends in white space or a colon and has two letters at least (`x - 3` is no answer), no word
    changes or denies what follows, and a minus sign behind words without a colon stands at its operand.
    """
    key = letters = words = last = 0
    gap = colon = False
    i = after = start
    while i < end:
        code, after = decode(data, i)
        if is_letter(code):
            letters += 1
            key = key * 32 + (code | 32) - 96 if code < 128 and letters <= _LONGEST_KEY else 1 << 60
            gap = colon = False
        elif not letters or (code != 39 and code != 0x2019):
            if letters:
                if key in _CHANGING:
                    return -1
                words, last = words + 1, letters
            key = letters = 0
            if code < 128 and is_space(code):
                gap = True
            elif code == 58 or code == _COLON:
                gap = colon = True
            elif code == 44 or code == 46 or code == 33:
                gap = False
            elif is_wide_space(code):
                gap = True
            else:
                break
        i = after
    if words == 0:
        return start
    if i >= end or not gap or not (colon or last > 1):
        return -1
    signed, behind = next_token(data, i, end, True)
    if signed == MINUS and not colon and (behind >= end or is_space(data[behind])):
        return -1
    return i
