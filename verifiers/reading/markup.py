r"""The text of an answer in mathematics before it is read: its normal form, and what is written around its value.

For texts such as `**36**`, `\left( 3, 4 \right)`, `\approx 3.14` and the rows of an `aligned` environment.
"""

from __future__ import annotations

import re
from typing import NamedTuple
from unicodedata import normalize

from verifiers.reading import words
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


_ITEM = re.compile(r"\s*+(?:[-*•]|\d\d?\.)\s++")


def joined_lines(answer: str) -> str:
    """The list "2, 3, 5" for one with a line for each value, bare, with bullets or numbered."""
    lines = [line.strip().rstrip(",;") for line in answer.splitlines() if line.strip()]
    if len(lines) < 2 or max(map(len, lines)) > 60:
        return answer
    items = [_ITEM.match(line) for line in lines]
    values = (line[item.end() :] if item else line for line, item in zip(lines, items, strict=True))
    return ", ".join(values).replace(", or, ", " or ").replace(", and, ", " and ")


_TIME = re.compile(r"(\d\d?+):?+((?<=:)[0-5]?+\d)?(?:(?P<half>[ap])\.?m\.?)?", re.ASCII)
_DATE = re.compile(r"(\d{1,4}+)[-/](\d\d?+)[-/](\d{1,4}+)", re.ASCII)
_MONTH = "|".join(words.MONTHS)
_DATE_IN_WORDS = re.compile(
    rf"(?:the )?(?P<day>\d\d?+)(?:st|nd|rd|th|er|\.)? ?(?:(?:of|de) )?(?P<month>{_MONTH})\.?"
    r"(?:,? (?:de )?(?P<year>\d{4}))?"
    rf"|(?P<month2>{_MONTH})\.? ?(?P<day2>\d\d?+)(?:st|nd|rd|th)?(?:,? (?P<year2>\d{{4}}))?"
)
MOMENT = re.compile(r"\d:[0-5]\d|\d[-/]\d\d?+[-/]\d|[ap]\.?m\b", re.IGNORECASE | re.ASCII)
_LAYOUT = re.compile(r"\\(?:text|mathrm|[,!;: ])|[{}$~\s]")


class Moment(NamedTuple):
    """A time of day or a date, as numbers that are equal for the same one."""

    parts: tuple[int, ...]
    """(minutes since midnight), the three numbers of a date, or (year or 0, 100 * month + day) of one in words."""
    is_open: bool = False
    """Whether it may be before or after noon."""


def moment_of(text: str) -> Moment | None:
    """The time of day or date that an answer is as a whole: 2:30 p.m., 14:30, 2/1/2024, 15 March; None for others."""
    if len(text) > 60:
        return None
    in_words = " ".join(_LAYOUT.sub(" ", text).lower().split())
    text = in_words.replace(" ", "")
    if date := _DATE.fullmatch(text):
        return Moment(tuple(int(part) for part in date.groups()))
    if date := _DATE_IN_WORDS.fullmatch(in_words):
        year, month, day = (date[part] or date[part + "2"] for part in ("year", "month", "day"))
        return Moment((int(year or 0), 100 * words.MONTHS[month] + int(day)))
    time = _TIME.fullmatch(text)
    if not time or not (time[2] or time["half"]) or int(time[1]) > (12 if time["half"] else 24):
        return None
    hour = int(time[1]) % 12 + 12 * (time["half"] == "p") if time["half"] else int(time[1])
    is_open = not time["half"] and hour <= 12 and not text.startswith("0")
    return Moment((60 * hour + int(time[2] or 0),), is_open)


def is_same_moment(answer: Moment, gold: Moment) -> bool:
    """True for the same date or time; 2:30 p.m. is right for 2:30, but not the reverse."""
    if gold.is_open and not answer.is_open and len(answer.parts) == 1:
        return (answer.parts[0] - gold.parts[0]) % 720 == 0
    return answer.parts == gold.parts


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


def said_twice(answer: str) -> tuple[str, str, bool] | None:
    r"""(what stands before a bracket at the end, what stands in it, whether it is the value rounded), or None.

    For 160 minutes (2 hours and 40 minutes), `\frac12 \text{ (or } 0.5)` and `8\pi (\approx 25.13)`.
    """
    answer = answer.rstrip(" .$}")
    head, _, inside = answer.rpartition("(")
    if not answer.endswith(")") or not head.endswith((" ", "{")) or inside.count(")") > 1:
        return None
    inside = inside[:-1]
    if head.rstrip().endswith("\\text{"):
        head, inside = head.rstrip().removesuffix("\\text{"), inside.replace("}", "", 1)
    inside = inside[_THAT_IS.match(inside).end() :]  # type: ignore[union-attr]
    second = without_approximation(inside)
    head, second = head.strip(" $\\~"), second.strip(" $")
    is_value = any(map(str.isalnum, second)) and (
        second == inside.strip(" $") or any(map(str.isdigit, second))
    )
    return (
        None
        if head in (second, f"({second})") or not is_value
        else (head, second, second != inside.strip(" $"))
    )


_THAT_IS = re.compile(r"\s*+(?:(?:or|i\.e\.,?|that is|which is)\s|=)?+\s*+")
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


_PRICE = re.compile(r"\\\$|\$\.?\d[\d,.]*+(?:\s++[A-Za-z]{2}|/[a-z]{3}|[?!]|\s*+\Z)")


def has_price(problem: str) -> bool:
    r"""True if a problem has an amount of dollars, `\$5` or "$4.50 and"; a formula such as `$5$` is none."""
    return _PRICE.search(problem) is not None


SORTING = re.compile(
    r"(?:(?:\A|[.?!:;\n])\s{0,9}+(?:(?:please|now|then|first)\s)?+(?:sort|rank|arrange|order|reverse)\b(?!:?\s(?:the\s)?(?:\w++\s)?"
    r"(?:of|equations?|expressions?|polynomial|matrix|digits|letters)\b)"
    r"|(?:and|then)\s(?:sort|rank|arrange|order|reverse)\s(?:the|these|those|them|it|all)\b"
    r"|\bnext\s(?:few|two|three|four|five|\d++)\s(?:terms|numbers|letters|elements|values)\b|\w{2}est,? first\b)"
)
"""Words by which a problem asks for things in an order: "Sort 3, 1, 2", "the next three terms"."""
COPRIME = re.compile(r"g(?:cd|reatest common (?:divisor|factor))[^.]{0,80}?(?:=|\bis|\bof|\bto)\s?\$?1\b")
"""Words by which a problem asks for coefficients without a common divisor: "whose greatest common divisor is 1"."""
BOLD_OR_DELIMITER = re.compile(r"\*\*|__|\\(?:left|right)\.")
CODE = re.compile(r"[A-Za-z]{2,}+(?:[-/](?!0\d)\w++)*+[-/]0\d", re.ASCII)
"""How a code begins that has a number with a zero before it, which no number of mathematics has: INV-2024-007."""
NAMED = re.compile(r"[A-Za-z]{2,}+|(?<=\d[ ~{$])[mshglL]\b(?!&)|(?<=m/)[hs]\b")
"""A word of a problem that may be a unit, the kg of 70kg, or a letter that is one by its place: 3 m, the h of km/h."""
SCALE_LETTER = re.compile(r"(?:°|\\circ)(?:\\,|[\s~{}])*+(?:\\(?:text|mathrm|mbox)\{\s*+)?+([CF])\b")
"""A letter that says the scale of degrees: the F of 98.6°F."""
TIME_OF_DAY = re.compile(r"\b\d{1,2}+:[0-5]\d\b")
"""A time of day: 2:15."""
CONVERSION = re.compile(
    r"\b(?:convert|express)\b[^?!\n]{0,80}?\b(?:in)?to\s([A-Za-z]++(?:/[A-Za-z]++)?+)(?=[.?!,]|\s*+\Z|\s(?:at|using)\b)",
    re.IGNORECASE,
)
"""The unit of "Convert 5 km to m."."""
_MEASURES = "(area|volume|length|perimeter|circumference|radius|diameter|height|width|distance)"
MEASURE = re.compile(rf"\b{_MEASURES}\b")
ASKED_MEASURE = re.compile(
    r"\b(?:what (?:is|was|are)|find|compute|determine|calculate) "
    r"(?:(?!(?:of|per|and|if|when|where|whose|with|that|for) )[a-z]{2,}+ ){0,4}?" + rf"{_MEASURES}\b"
)
"""A question for a measure: "What is its area?", but not for the ratio of an area to a perimeter."""
