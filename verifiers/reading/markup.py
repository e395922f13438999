r"""The text of an answer in mathematics before it is read: its normal form, and what is written around its value.

For texts such as `**36**`, `\left( 3, 4 \right)`, `\approx 3.14` and the rows of an `aligned` environment.
"""

from __future__ import annotations

import re
from unicodedata import normalize

from verifiers.reading.signs import ORNAMENT
from verifiers.reading.tokens import is_command

_LOOKS = re.compile(r"\\(?:left|right|displaystyle|!)")
_GAPS = re.compile(r"\\(?:[;: ]|quad)|[~$]")
_TEXTS = re.compile(r"\\(?:textbf|mbox|textrm|mathrm|mathbf)")
_FRACTIONS = re.compile(r"\\[dt]frac")
_GROUP = re.compile(
    r"(?:(?<=\A\d)|(?<=\A\d\d)|(?<=\A\d\d\d)|(?<=\D\d)|(?<=\D\d\d)|(?<=\D\d\d\d))\\,(?=\d\d\d(?!\d))"
)
_WHOLE_TEXT = re.compile(r"\\text\{\s*+([^{}]*+)\}")
_APART = re.compile(r"(?<=[\w.,])\s++(?=[\w.,])|(\s++)")
_APART_IN_BRACKETS = re.compile(r"(?<=[\w.])\s++(?=[\w.])|(\s++)")


def key(text: str) -> str:
    r"""The normal form of an answer: two texts with one key are the same answer, `\left( 3, 4 \right)` and `(3,4)`.

    One space between two letters, digits or points stays, so that 1 2 does not become 12; beside a comma, too, but in
    brackets, where the comma divides values.
    """
    text = text if text.isascii() else normalize("NFC", text)
    if "\\" in text:
        text = _GROUP.sub("", text).replace("\\,", " ").replace("\\$", "\\dollar ")
        text = _TEXTS.sub(r"\\text", _FRACTIONS.sub(r"\\frac", _LOOKS.sub("", text)))
        text = _GAPS.sub(" ", text)
    text = text.replace("~", " ").replace("$", " ").strip().removesuffix(".")
    if whole := _WHOLE_TEXT.fullmatch(text):
        text = whole[1].strip()
    if len(text) == 3 and text[0] == "(" and text[2] == ")" and "A" <= text[1] <= "Z":
        text = text[1]
    # Up to three letters may be variables or points, such as AB and ABC, and keep their capitals.
    if len(text) > 3 and text.replace(" ", "").isalpha():
        text = text.lower()
    apart = _APART_IN_BRACKETS if "(" in text or "[" in text else _APART
    return apart.sub(lambda space: "" if space[1] else " ", text.strip())


_AROUND_WORDS = re.compile(
    r"\\(?:text|mathrm|[,!;: ])|[{}$~]|\s(?!\d)|(?<!\d)\s|(?<=[ap])\.(?=m)|(?<=[ap]m)\.|(?<=[ap]\.m)\."
)


def bare(text: str) -> str:
    r"""A text that is compared as text: in small letters, without white space and LaTeX around words, `\text{...}`.

    The points of p.m. do not count.
    """
    return _AROUND_WORDS.sub("", key(text).lower())


GROUPED = re.compile(r"-?[1-9]\d{0,2}(?:,\d{3})++", re.ASCII)
"""A number in groups of digits, or a list: 70,110."""
LIST = re.compile(r"\d[^\d,;]{0,12}(?:,\s|;|\band\b)[^\d]{0,12}\d")
"""What parts two values of an answer, beside a comma alone, which may group digits."""
_WRAPPING = frozenset("*`<\"“'!")  # only a text with one of these or with __ needs `plain`
_EMPHASIS = re.compile(r"(?<!\w)(\*\*|__)(?=[^\s*_])([^*_]++)(?<!\s)(?:\*\*|__)(?!\w)")
_CALL = re.compile(r"(?<=[A-Za-z]{2})!++\Z")  # of "Paris!"
_TAG = re.compile(r"</?(?:b|strong|i|em|u|p)>")
_QUOTED = re.compile(r"\*([^*]++)\*|\"([^\"]++)\"|“([^”]++)”|'([^']++)'")


def plain(text: str) -> str:
    """An answer without the marks of Markdown, tags of HTML and quotes around it or a part of it: 36 for **36**."""
    if not text.isascii():
        text = ORNAMENT.sub(" ", text)
    if _WRAPPING.isdisjoint(text) and "__" not in text:
        return text.strip()
    text = _EMPHASIS.sub(r"\2", text).replace("`", "")
    if "</" in text:
        text = _TAG.sub("", text)
    text = _CALL.sub("", text.strip())
    quoted = _QUOTED.fullmatch(text)
    return quoted[quoted.lastindex].strip() if quoted else text


_DOUBLED = re.compile(r"\\\\([A-Za-z]*+)")


def undoubled(text: str) -> str:
    r"""An answer with one backslash in place of two if all its commands have two, as in JSON: `\\\\frac{1}{2}`."""
    names = [name for name in _DOUBLED.findall(text) if name]
    are_doubled = "\\" not in _DOUBLED.sub("", text) and names and all(map(is_command, names))
    return text.replace("\\\\", "\\") if are_doubled else text


_ROW_ENDS = re.compile(
    r"\\\\|\\(?:Rightarrow|implies|begin\{aligned\}|end\{aligned\})|\.(?=[ \n]|\\(?:[ ,;:!]|q?quad|text))"
)


def last_result(answer: str) -> str:
    r"""The 8 with which a working in a box ends, `\text{Its side is }2. \\ \text{Volume }=2^3=8.`; "" for no working.

    A working has words and ends with a full stop, or it has rows.
    """
    if "\\end{aligned}" not in answer and not ("\\text{" in answer and answer.rstrip(" }$").endswith(".")):
        return ""
    statements = [statement for statement in _ROW_ENDS.split(answer) if statement.strip(" .&\n")]
    last = statements[-1] if statements else ""
    _, equals, result = last.rpartition("=")
    # One chain, A = B = C, is judged as a whole: its sides must all be equal.
    is_chain = len(statements) == 1 and "," not in last
    has_several = any(sign in last for sign in ("\\pm", "\\mp", " or", "\\lor"))
    return "" if not equals or is_chain or has_several else result.strip(" .&\n")


_LOGARITHM = re.compile(r"\\log(?![_A-Za-z])")


def with_natural_logs(text: str) -> str:
    r"""`\ln 2` for `\log 2`, as calculus writes it; a logarithm with a base stays, `\log_2 3`."""
    return _LOGARITHM.sub(r"\\ln", text)


_WORDS_FOR_ABOUT = "(?:approximately|approximate|approx|about|roughly|around|nearly)"
_ABOUT = re.compile(
    rf"\s*+(?:\\approx(?![A-Za-z])|≈|\\text\{{\s*+{_WORDS_FOR_ABOUT}\s*+\}}|{_WORDS_FOR_ABOUT}\s)",
    re.IGNORECASE,
)


def without_approximation(answer: str) -> str:
    r"""An answer without `\approx` or a word such as "about" before it."""
    found = _ABOUT.match(answer)
    return answer[found.end() :] if found else answer


_ALIGNED = re.compile(r"\\begin\{(?:aligned|align\*?|gathered|split)\}")


def in_one_line(answer: str) -> str:
    r"""The rows of an `aligned` environment with commas between them; any other answer as it is."""
    found = _ALIGNED.match(answer)
    inside, _, _ = answer[found.end() :].rpartition("\\end{") if found else ("", "", "")
    if not inside or "\\begin" in inside:
        return answer
    rows = [row.strip() for row in inside.replace("&", " ").split("\\\\")]
    return ", ".join(filter(None, rows)).replace(
        ", =", " ="
    )  # a row that begins with = goes on the row before


_BASE = re.compile(r"([0-9A-F]++)(?:_(1[1-6]))?", re.IGNORECASE)


def digits_of(text: str) -> tuple[str, str] | None:
    """("FE", "16") for a number with letters among its digits, such as FE_{16}; ("FE", "") for FE; else None."""
    for mark in ("\\text", "\\mathrm", *"{}()$ "):
        text = text.replace(mark, "")
    found = _BASE.fullmatch(text)
    return (found[1].upper().lstrip("0"), found[2] or "") if found and not found[1].isdigit() else None


# The groups: minus; whole number and decimals of 12 and 1.5; both parts of \frac{3}{4}; both parts of 3/4.
_LITERAL = re.compile(
    r"(-?)(?:(\d{1,18}+)(?:\.(\d{1,18}+))?|\\[dt]?frac *+\{(\d{1,18}+)\} *+\{(\d{1,18}+)\}|(\d{1,18}+)/(\d{1,18}+))",
    re.A,
)


def literal(answer: str) -> tuple | None:
    r"""The number that an answer in plain notation is, 12, -0.5 or `\frac{3}{4}`, as a tree (see math500/tree.py)."""
    found = _LITERAL.fullmatch(answer)
    if found is None:
        return None
    minus, integer, decimals, *fraction = found.groups()
    if integer is not None:
        return ("num", int(f"{minus}{integer}{decimals or ''}"), 10 ** len(decimals or ""))
    above, below = (int(digits) for digits in fraction if digits is not None)
    return ("/", ("num", int(f"{minus}{above}"), 1), ("num", below, 1)) if below else None


BOLD_OR_DELIMITER = re.compile(r"\*\*|__|\\(?:left|right)\.")
CODE = re.compile(
    r"[A-Za-z]{2,}+(?:[-/](?!0\d)\w++)*+[-/]0\d|\d{1,4}[-/]\d\d?[-/]\d{1,4}\Z|\d\d?:0\d\Z"
    r"|\d\d?:[0-5]\d(?:[\s,~\\]|(?:text|mathrm)?\{)*+[ap]\.?m\b",
    re.ASCII,
)
"""How a code begins that has a number with a zero before it, which no number of mathematics has: INV-2024-007; and
dates and times of day: 1/1/2024, 2:30 p.m."""
