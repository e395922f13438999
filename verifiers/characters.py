"""Names of ASCII characters, and tables of what characters beyond ASCII stand for, which all verifiers of text share.

There is no Unicode normalisation: a superscript is a power, and a circled digit is no digit. The functions are plain
Python over UTF-8 bytes, and numba also compiles them as they stand.
"""

from verifiers.extract import ANY_CASE, Bytes, read_word

# The codes of ASCII characters.
TAB, NEWLINE, RETURN, SPACE, BANG, QUOTE, DOLLAR, APOSTROPHE = tuple(b"\t\n\r !\"$'")
LEFT_PAREN, RIGHT_PAREN, STAR, PLUS, COMMA, MINUS, POINT, SLASH = tuple(b"()*+,-./")
ZERO, ONE, NINE, COLON, LESS, EQUALS, GREATER, UPPER_A, UPPER_Z = tuple(b"019:<=>AZ")
LEFT_BRACKET, BACKSLASH, RIGHT_BRACKET, CARET, UNDERSCORE, BACKTICK = tuple(b"[\\]^_`")
LOWER_A, LOWER_Z, LEFT_BRACE, RIGHT_BRACE, TILDE, QUESTION = tuple(b"az{}~?")
BEYOND_ASCII = 0x80

# The zero of every run of ten Unicode decimal digits (category Nd) beyond ASCII, Unicode 16.
DIGIT_ZEROS = (
    0x660, 0x6F0, 0x7C0, 0x966, 0x9E6, 0xA66, 0xAE6, 0xB66, 0xBE6, 0xC66, 0xCE6, 0xD66, 0xDE6, 0xE50,
    0xED0, 0xF20, 0x1040, 0x1090, 0x17E0, 0x1810, 0x1946, 0x19D0, 0x1A80, 0x1A90, 0x1B50, 0x1BB0, 0x1C40,
    0x1C50, 0xA620, 0xA8D0, 0xA900, 0xA9D0, 0xA9F0, 0xAA50, 0xABF0, 0xFF10, 0x104A0, 0x10D30, 0x10D40,
    0x11066, 0x110F0, 0x11136, 0x111D0, 0x112F0, 0x11450, 0x114D0, 0x11650, 0x116C0, 0x116D0, 0x116DA,
    0x11730, 0x118E0, 0x11950, 0x11BF0, 0x11C50, 0x11D50, 0x11DA0, 0x11F50, 0x16130, 0x16A60, 0x16AC0,
    0x16B50, 0x16D70, 0x1CCF0, 0x1D7CE, 0x1D7D8, 0x1D7E2, 0x1D7EC, 0x1D7F6, 0x1E140, 0x1E2F0, 0x1E4F0,
    0x1E5F1, 0x1E950, 0x1FBF0,
)  # fmt: skip

# Each table has the signs that all tasks read alike. A task that reads more signs in this way adds them itself.
PLUS_SIGNS = (0xFE62, 0xFF0B)
MINUS_SIGNS = (0x2010, 0x2011, 0x2012, 0x2013, 0x2212, 0xFE63, 0xFF0D)
TIMES_SIGNS = (0xB7, 0xD7, 0x2217, 0x2219, 0x22C5, 0x2715, 0x2716)
DIVISION_SIGNS = (0xF7, 0x2044, 0x2215, 0xFF0F)
THIN_SPACES = (0xA0, 0x2006, 0x2007, 0x2008, 0x2009, 0x200A, 0x202F)
SPACES = (0x85, 0x1680, 0x2000, 0x2001, 0x2002, 0x2003, 0x2004, 0x2005, 0x2028, 0x2029, 0x205F, 0x3000)
ZERO_WIDTH = (0xAD, 0x200B, 0x200C, 0x200D, 0x2060, 0xFEFF)
FULLWIDTH = 0xFEE0  # the code of a fullwidth form, 0xFF01 to 0xFF5E, minus the code of its ASCII character
IDEOGRAPHIC_STOP = 0x3002


def decode(data: Bytes, i: int) -> tuple[int, int]:
    """(code point, position after it) of the well-formed UTF-8 character that begins at i."""
    byte = data[i] + 0  # in compiled code an int64, since the item itself is a uint8
    if byte < 0x80:
        return byte, i + 1
    if byte < 0xE0:
        return (byte & 31) << 6 | (data[i + 1] & 63), i + 2
    if byte < 0xF0:
        return (byte & 15) << 12 | (data[i + 1] & 63) << 6 | (data[i + 2] & 63), i + 3
    high = (byte & 7) << 18 | (data[i + 1] & 63) << 12
    return high | (data[i + 2] & 63) << 6 | (data[i + 3] & 63), i + 4


def is_ascii_digit(code: int) -> bool:
    """True for the codes of 0 to 9."""
    return ZERO <= code <= NINE


def decimal_digit(code: int) -> int:
    """The value of a decimal digit of any script beyond ASCII, 3 for "３"; -1 for any other character."""
    for zero in DIGIT_ZEROS:
        if zero <= code < zero + 10:
            return code - zero
    return -1


def is_one_of(code: int, codes: tuple[int, ...]) -> bool:
    """True if `code` is among `codes`. This is a loop, because numba unrolls `in` and takes long to compile it."""
    for other in codes:
        if other == code:
            return True
    return False


def rows(kind: int, *codes: int) -> tuple[tuple[int, int, int], ...]:
    """A row (first, last, kind) for each code. Such rows are a table of characters, which functions read in a loop."""
    return tuple((code, code, kind) for code in codes)


def is_wide_space(code: int) -> bool:
    """True for a space beyond ASCII, wide or thin."""
    return is_one_of(code, SPACES) or is_one_of(code, THIN_SPACES)


def says_one_of(data: Bytes, start: int, end: int, keys: tuple[int, ...]) -> bool:
    """True if data[start:end] has a word, in small or capital letters, whose `word_key` is among `keys`."""
    while start < end:
        key, after = read_word(data, start, end, ANY_CASE)
        if is_one_of(key, keys):
            return True
        start = max(after, start + 1)
    return False
