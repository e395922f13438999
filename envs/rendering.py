"""How environments show problems and completions: colours for a terminal, the same as HTML, safe text in both."""

import os
import re
from collections.abc import Callable, Collection
from html import escape

STYLES = {
    "bold": ("1", "font-weight:600"),
    "dim": ("2", "opacity:.6"),
    "green": ("32", "color:#1f9d55;font-weight:600"),
    "red": ("31", "color:#e5484d;font-weight:600"),
    "alarm": ("1;37;41", "background:#c62a2f;color:#fff;font-weight:600"),
}
"""{name: (ANSI code, CSS that reads on a light and on a dark page)}."""
MASK = "\u2591"
"""What stands for a character that is not unmasked yet: a light shade."""
LABEL_WIDTH = 10
_CSS = dict(STYLES.values())
_PAINTED = re.compile(r"\x1b\[([\d;]*)m(.*?)\x1b\[0m", re.DOTALL)


def painter(color: bool | None = None) -> Callable[[str, str], str]:
    """A function `paint(style, text)` that colours every line of a text by a name from STYLES.

    color: False leaves texts as they are; None = coloured unless the environment variable NO_COLOR is set.
    """
    if not ("NO_COLOR" not in os.environ if color is None else color):
        return lambda style, text: text
    return lambda style, text: "\n".join(
        f"\x1b[{STYLES[style][0]}m{line}\x1b[0m" for line in text.split("\n")
    )


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


def masked(text: str, hidden: Collection[int]) -> str:
    """The text with `MASK` for the characters at `hidden`, so that every other one stays where it is; lines too."""
    return "".join(MASK if i in hidden and c != "\n" else c for i, c in enumerate(text))


def as_html(text: str) -> str:
    """The text escaped, and U+FFFD for characters that are not printed."""
    return escape(printable(text))


def from_ansi(shown: str) -> str:
    """A terminal's text as HTML, its colours as `painter` writes them; nothing in it can become markup."""
    parts = _PAINTED.split(shown)  # plain, code, painted, plain, code, painted, ..., plain
    html = as_html(parts[0])
    for code, painted, plain in zip(parts[1::3], parts[2::3], parts[3::3], strict=True):
        inner = as_html(painted)
        html += f'<span style="{_CSS[code]}">{inner}</span>' if code in _CSS else inner
        html += as_html(plain)
    return f'<pre style="white-space:pre-wrap;overflow-wrap:anywhere;margin:0">{html}</pre>'
