"""How the characters of a lenient answer are read: one explicit map, and the TeX that may stand around a
grid.

There is no Unicode normalisation: a superscript or a circled digit is not a digit. Like `_extract`, this is
plain Python over UTF-8 bytes that numba also compiles as it stands.
"""

from verifiers._extract import Bytes, word_key

FOREIGN, SEPARATOR, NOTHING, POINT = -1, 10, 11, 12  # classes of characters; 0..9 is a digit

_TEX_WORDS = tuple(
    word_key(word)
    for word in (
        "boxed fbox mbox text textbf textrm textsf texttt mathbf mathrm mathsf mathtt "
        "left right quad qquad hline begin end"
    ).split()
)
_TEX_BEGIN, _TEX_END = word_key("begin"), word_key("end")
_TEX_TABLES = (word_key("array"), word_key("tabular"))
_TEX_FRAMES = tuple(
    word_key(word) for word in "matrix pmatrix bmatrix vmatrix smallmatrix aligned gathered".split()
)
_TEX_SIGNS = tuple(b"\\,;:! ()[]\n")

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

# Separators beyond ASCII: spaces, line ends, dashes, quotes, fullwidth forms of the ASCII ones.
_WIDE_SEPARATORS = (
    0x85, 0xA0, 0xAB, 0xBB, 0x1680, 0x2028, 0x2029, 0x202F, 0x205F, 0x2212, 0x3000, 0x3001, 0xFF02,
    0xFF07, 0xFF0B, 0xFF0C, 0xFF0D, 0xFF3B, 0xFF3D, 0xFF40, 0xFF5C,
)  # fmt: skip
_ZERO_WIDTH = (0xAD, 0x200B, 0x200C, 0x200D, 0x2060, 0xFEFF)
_ASCII_SEPARATORS = tuple(b" \t\n\v\f\r|+-,[]`\"'${}&~")


def decode(data: Bytes, i: int) -> tuple[int, int]:
    """(code point, position of the next) at the start of a well-formed UTF-8 character."""
    byte = data[i] + 0
    if byte < 0x80:
        return byte, i + 1
    if byte < 0xE0:
        return (byte & 31) << 6 | (data[i + 1] & 63), i + 2
    if byte < 0xF0:
        return (byte & 15) << 12 | (data[i + 1] & 63) << 6 | (data[i + 2] & 63), i + 3
    high = (byte & 7) << 18 | (data[i + 1] & 63) << 12
    return high | (data[i + 2] & 63) << 6 | (data[i + 3] & 63), i + 4


def classify(code: int) -> int:
    """The class of a character in a lenient answer: its digit, or SEPARATOR, NOTHING, POINT, FOREIGN."""
    if code < 0x80:
        if 48 <= code <= 57:
            return code - 48
        if code == 46:
            return POINT
        return SEPARATOR if code in _ASCII_SEPARATORS else FOREIGN
    if code == 0x3002 or code == 0xFF0E:
        return POINT
    if code in _ZERO_WIDTH:
        return NOTHING
    if (
        code in _WIDE_SEPARATORS
        or 0x2000 <= code <= 0x200A
        or 0x2010 <= code <= 0x201F
        or 0x2500 <= code <= 0x257F
    ):
        return SEPARATOR
    for zero in DIGIT_ZEROS:
        if zero <= code < zero + 10:
            return code - zero
    return FOREIGN


def read_word(data: Bytes, i: int, end: int) -> tuple[int, int]:
    """(key of the lower-case word that starts at i, position behind it); over-long words share a key."""
    key = 0
    while i < end and 97 <= data[i] <= 122:
        key = key * 32 + data[i] - 96 if key < 1 << 55 else 1 << 60
        i += 1
    return key, i


def skip_tex(data: Bytes, i: int, end: int) -> int:
    """Position behind the TeX wrapper whose backslash stands at i, or -1 if a grid may not wear it."""
    i += 1
    if i >= end:
        return -1
    key, after = read_word(data, i, end)
    if key == 0:
        return i + 1 if data[i] in _TEX_SIGNS else -1
    if key not in _TEX_WORDS or (after < end and 65 <= data[after] <= 90):
        return -1
    if key != _TEX_BEGIN and key != _TEX_END:
        return after
    if after >= end or data[after] != 123:
        return -1
    name, after = read_word(data, after + 1, end)
    if after >= end or data[after] != 125 or not (name in _TEX_TABLES or name in _TEX_FRAMES):
        return -1
    after += 1
    if key == _TEX_BEGIN and name in _TEX_TABLES and after < end and data[after] == 123:
        after += 1
        while after < end and (data[after] in (99, 108, 114, 124, 32)):  # c, l, r, |, space
            after += 1
        if after >= end or data[after] != 125:
            return -1
        after += 1
    return after


COMPILED = (decode, classify, read_word, skip_tex)
