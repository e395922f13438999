"""How environments show problems and completions in a terminal: in colours, and without characters that control it."""

STYLES = {"bold": "1", "dim": "2", "green": "32", "red": "31", "alarm": "1;37;41"}
"""{name: ANSI code}."""
_LABEL_WIDTH = 10  # characters


def paint(style: str, text: str) -> str:
    """The text with every line painted; style: a name in STYLES."""
    return "\n".join(f"\x1b[{STYLES[style]}m{line}\x1b[0m" for line in text.split("\n"))


def printable(text: str) -> str:
    """The text with U+FFFD in place of every character that a terminal might act on; line ends stay."""
    return "".join(c if c == "\n" or c.isprintable() else "\ufffd" for c in text)


def labelled(label: str, text: str) -> str:
    """A dim label and, in a column of its own, a text of one or several lines."""
    return paint("dim", label.ljust(_LABEL_WIDTH)) + text.replace("\n", "\n" + " " * _LABEL_WIDTH)


def highlight_last(style: str, text: str, part: str) -> str:
    """The text with the last occurrence of `part` painted; the text as it is if `part` is empty or not in it."""
    if not part or part not in text:
        return text
    before, _, after = text.rpartition(part)
    return before + paint(style, part) + after
