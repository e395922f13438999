"""Colours and safe text for what environments render in a terminal."""

import os
from collections.abc import Callable

STYLES = {
    "bold": "\x1b[1m",
    "dim": "\x1b[2m",
    "green": "\x1b[32m",
    "red": "\x1b[31m",
    "alarm": "\x1b[1;37;41m",
}
_RESET = "\x1b[0m"
LABEL_WIDTH = 10


def painter(color: bool | None = None) -> Callable[[str, str], str]:
    """A function `paint(style, text)` that colours every line of a text by a name from STYLES.

    color: False leaves texts as they are; None = coloured unless the environment variable NO_COLOR is set.
    """
    if not ("NO_COLOR" not in os.environ if color is None else color):
        return lambda style, text: text
    return lambda style, text: "\n".join(f"{STYLES[style]}{line}{_RESET}" for line in text.split("\n"))


def printable(text: str) -> str:
    """The text with U+FFFD for every character, line ends aside, that a terminal might act on."""
    return "".join(c if c == "\n" or c.isprintable() else "\ufffd" for c in text)


def labelled(paint: Callable[[str, str], str], label: str, text: str) -> str:
    """A dim label and, in a column of its own, a text of one or several lines."""
    return paint("dim", label.ljust(LABEL_WIDTH)) + text.replace("\n", "\n" + " " * LABEL_WIDTH)


def highlight_last(paint: Callable[[str, str], str], style: str, text: str, part: str) -> str:
    """The text with the last occurrence of a part of it painted; as it is where `part` is empty or not in it."""
    before, match, after = text.rpartition(part) if part else ("", "", text)
    return before + (paint(style, match) if match else "") + after
