"""HTML of what environments render: every text escaped, colours that read on a light and on a dark page."""

import re
from collections.abc import Collection
from html import escape

from envs.terminal import printable

STYLES = {
    "1": "font-weight:600",
    "2": "opacity:.6",
    "32": "color:#1f9d55;font-weight:600",
    "31": "color:#e5484d;font-weight:600",
    "1;37;41": "background:#c62a2f;color:#fff;font-weight:600",
}
"""The codes of `envs.terminal.STYLES` as CSS."""
MASK = "\u2591"
"""What stands for a character that is not unmasked yet: a light shade."""
_PAINTED = re.compile(r"\x1b\[([\d;]*)m(.*?)\x1b\[0m", re.DOTALL)


def text(plain: str) -> str:
    """The text as HTML: escaped, and U+FFFD for characters that are not printed."""
    return escape(printable(plain))


def masked(plain: str, hidden: Collection[int]) -> str:
    """The text with `MASK` for the characters at `hidden`, so that every other one stays where it is; lines too."""
    return "".join(MASK if i in hidden and c != "\n" else c for i, c in enumerate(plain))


def from_ansi(shown: str) -> str:
    """A terminal's text as HTML, its colours as `envs.terminal` writes them; nothing in it can become markup."""
    parts, end = [], 0
    for match in _PAINTED.finditer(shown):
        style = STYLES.get(match[1])
        inner = text(match[2])
        parts += [
            text(shown[end : match.start()]),
            f'<span style="{style}">{inner}</span>' if style else inner,
        ]
        end = match.end()
    parts.append(text(shown[end:]))
    return f'<pre style="white-space:pre-wrap;overflow-wrap:anywhere;margin:0">{"".join(parts)}</pre>'
