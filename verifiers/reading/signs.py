"""What characters beyond ASCII stand for, as a table for `str.translate`.

There is no Unicode normalisation: a superscript is a power, and a circled digit is no digit.
"""

import re

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
ZERO_WIDTH = "\u00ad\u200b\u200c\u200d\u2060\ufeff"
SPACES = (
    "\u0085\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005"
    "\u2006\u2007\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000"
)
_SIGNS = {
    "+": "\ufe62",
    "-": "\u2010\u2011\u2012\u2013\u2212\ufe63",
    "*": "\u00b7\u00d7\u2217\u2219\u22c5\u2715\u2716\u2a2f",
    "/": "\u00f7\u2044\u2215",
    " ": SPACES,
    "": ZERO_WIDTH,
}
ASCII = {ord(sign): ascii_sign for ascii_sign, signs in _SIGNS.items() for sign in signs}
"""{code point: the ASCII sign that all tasks read it as}: `×` is `*`, `（` is `(`, and any decimal digit is one."""
ASCII |= {0xFEE0 + code: chr(code) for code in range(0x21, 0x7F)}
ASCII |= {zero + digit: str(digit) for zero in DIGIT_ZEROS for digit in range(10)}
ORNAMENT = re.compile(
    r"[•●▪■∎☑★\u2600-\u2714\u2719-\u274b\u2753-\u275a\u2794-\u27bf\u2b50\ufe0f\u20e3\U0001f300-\U0001f44d\U0001f44f-\U0001f60f\U0001f642-\U0001f6aa\U0001f6ac-\U0001f913\U0001f915-\U0001faff]"
)
"""Pictures, bullets and check marks, but none that says that an answer is wrong: no cross, no doubtful face."""


def in_ascii(text: str) -> str:
    """A text with the ASCII sign for each character that stands for one."""
    return text if text.isascii() else text.translate(ASCII)
