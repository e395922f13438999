r"""Normalises the text of an answer without reading it as mathematics, and compares texts and times of day.

Two texts with the same key are the same answer: `\left( 3, 4 \right)` and `(3,4)`. A space between two letters or
digits stays, because 1 2 is not 12.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import pairwise
from math import gcd
from string import ascii_uppercase
from unicodedata import normalize

from verifiers.math500.read.lexer import WORD, Malformed, tokens_of

# ((hours, minutes, ...), "day" if the hours are those of a whole day, else ""): see `time_of`.
Time = tuple[tuple[int, ...], str]
LETTERS_IN_BRACKETS = frozenset(f"({letter})" for letter in ascii_uppercase)

# (a command, the text for it). The sign of a price becomes a command, because `key` takes all dollars away.
_REPLACED = (
    ("\\$", "\\dollar "), ("\\left", ""), ("\\right", ""), ("\\!", ""), ("\\;", " "), ("\\:", " "), ("\\ ", " "),
    ("\\quad", " "), ("\\dfrac", "\\frac"), ("\\tfrac", "\\frac"), ("\\displaystyle", ""),
    ("\\textbf", "\\text"), ("\\mbox", "\\text"), ("\\textrm", "\\text"), ("\\mathrm", "\\text"),
    ("\\mathbf", "\\text"),
)  # fmt: skip
# {first character of a command's name: the pairs of _REPLACED whose command begins with it}. `key` tries only commands
# that begin like a command of the text.
_BY_START: dict[str, list[tuple[str, str]]] = {}
for _pair in _REPLACED:
    _BY_START.setdefault(_pair[0][1], []).append(_pair)


def key(text: str) -> str:
    """The normal form of an answer, in time linear in its length."""
    text = without_thin_spaces(text if text.isascii() else normalize("NFC", text))
    if "\\" in text:
        _, *commands = text.split("\\")
        for first_character in dict.fromkeys(command[:1] for command in commands):
            for old, new in _BY_START.get(first_character, ()):
                text = text.replace(old, new)
    text = text.replace("~", " ").replace("$", " ")
    return joined(without_text_command(text.strip().removesuffix(".")))


def without_thin_spaces(text: str) -> str:
    r"""The text with a space for each `\,`, but without those that group the digits of a number: 10\,000 is 10000.

    A `\,` groups digits if one to three digits stand right before it, and exactly three right behind it.
    """
    if "\\," not in text:
        return text
    parts = text.split("\\,")
    result = parts[0]
    for before, part in pairwise(parts):
        has_three_digits = len(part) > 2 and part[:3].isdigit() and not part[3:4].isdigit()
        last_four = before[-4:]  # a fourth digit would be one too many
        digits_before = len(last_four) - len(last_four.rstrip("0123456789"))
        groups_digits = has_three_digits and 1 <= digits_before <= 3
        result += part if groups_digits else " " + part
    return result


def without_text_command(text: str) -> str:
    r"""The text without `\text{...}` or the brackets of a choice around it: east for `\text{East}`, E for `(E)`.

    Words are returned in lower case.
    """
    if text.startswith("\\text{") and text[-1:] == "}" and text.count("{") == 1:
        text = text[len("\\text{") : -1].strip()
    text = text[1] if text in LETTERS_IN_BRACKETS else text
    # Up to three letters may be variables or points, such as AB and ABC, and keep their capitals.
    is_in_words = len(text) > 3 and text.replace(" ", "").isalpha()
    return text.lower() if is_in_words else text


def joined(text: str) -> str:
    """The text without white space, except one space between two letters, digits or points: 1 2 does not become 12.

    A space beside a comma stays, too, so that 10, 080 does not become 10,080. In a text with brackets, that space is
    left out, because the comma divides values there: (3, 4) becomes (3,4).
    """
    words = text.split()
    marks = "." if "(" in text or "[" in text else ".,"
    result = words[:1]
    for before, word in pairwise(words):
        last, first = before[-1], word[0]
        last_may_join = last.isalnum() or last in marks
        first_may_join = first.isalnum() or first in marks
        result.append(" " + word if last_may_join and first_may_join else word)
    return "".join(result)


# For numbers that have letters among their digits.
_DIGITS = "0123456789ABCDEF"
_BASES = ("", *map(str, range(11, 17)))  # all that have such digits; "" if none is told
_LAYOUT = str.maketrans("", "", "{}()$ ")  # what is dropped around the digits and the base


def digits_of(text: str) -> tuple[str, str] | None:
    """("FE", "16") for a number with letters among its digits, such as FE_{16}; ("FE", "") for FE; else None."""
    for mark in ("\\text", "\\mathrm"):
        text = text.replace(mark, "")
    digits, _, base = text.translate(_LAYOUT).upper().partition("_")
    has_letters = set(digits).issubset(_DIGITS) and not set(digits).issubset("0123456789")
    return (digits.lstrip("0"), base) if has_letters and base in _BASES else None


# References that no grammar reads are compared as text: `\text{4:30 p.m.}` or a sentence.


def same_text(answer: str, gold: str) -> bool:
    """True for the same text in two layouts, and for the same time: 4:30 p.m. and 16:30."""
    answer, gold = token_text(answer), token_text(gold)
    return answer == gold or is_same_time(answer, gold)


def is_same_time(answer: str, gold: str) -> bool:
    """True if an answer is the time of a reference. Both 2:30 a.m. and 2:30 p.m. are right for 2:30.

    2:30 p.m. is wrong for 02:30, which is on a clock of 24 hours. 2:3 p.m. is wrong for 2:3, which is a ratio. A name
    with `half` in it is about the half of the day, a.m. or p.m.
    """
    time, wanted = time_of(answer), time_of(gold)
    if time is None or wanted is None:
        return False
    (hour, *rest), _ = time
    (wanted_hour, *wanted_rest), wanted_day = wanted
    wanted_half_is_open = wanted_day == ""
    answer_adds_half = wanted_half_is_open and names_half(answer)
    if not answer_adds_half:
        return time == wanted
    digits = gold.replace(" ", "")
    hours_on_clock = 24 if digits.startswith("0") else 12
    is_same_hour = hour % hours_on_clock == wanted_hour % hours_on_clock
    return is_same_hour and rest == wanted_rest and has_minutes(digits)


def names_half(text: str) -> bool:
    """True if a text ends in a.m. or p.m., in any spelling."""
    return text.lower().replace(".", "").replace(" ", "").endswith(("am", "pm"))


@lru_cache(8192)
def token_text(text: str) -> str:
    """The values of a text's tokens with spaces between them, or the `key` of a text that the lexer refuses."""
    try:
        # None stands for a reference. Answers are read as references, too, so that equal texts have equal tokens.
        tokens = tokens_of(text, variables=None)
    except Malformed:
        return key(text)
    values: list[str] = []
    for kind, value, _ in tokens:
        values.append(value.lower() if kind == WORD and len(value) > 1 else value)
    return " ".join(values)


def is_time_of_day(text: str) -> bool:
    """True for a time with a.m. or p.m.; not for 3:45 or 16:30, which may be ratios."""
    text = token_text(text)
    return time_of(text) is not None and names_half(text)


def is_clock(text: str) -> bool:
    """True for hours and minutes that are no ratio in lowest terms: 10:20, 9:00; not for 9:16, which may be a ratio."""
    hours, _, minutes = text.partition(":")
    are_digits = hours.isdigit() and minutes.isdigit() and len(hours) <= 2 and len(minutes) == 2
    return are_digits and int(hours) < 24 and int(minutes) < 60 and gcd(int(hours), int(minutes)) > 1


def has_minutes(text: str) -> bool:
    """True if two digits stand behind a colon: 5:10, which may be a time; not in 1:2, which is a ratio."""
    _, *parts_behind_colons = text.split(":")
    return any(len(part) > 1 and part[:2].isdigit() for part in parts_behind_colons)


def time_of(text: str) -> Time | None:
    """((20, 34), "day") for 8:34 p.m. and for 20:34, ((9, 0), "day") for 9 a.m.; None for what is no time.

    "day" says that the hours are those of a whole day, 0 to 23. For 8:34, which may be in either half of the day, the
    result is ((8, 34), "").
    """
    text = text.lower().replace(".", "").replace(" ", "")
    half = text[-2:] if text.endswith(("am", "pm")) else ""
    numbers = text.removesuffix(half).split(":")
    are_numbers = all(number.isascii() and number.isdigit() and len(number) <= 2 for number in numbers)
    has_colon = len(numbers) > 1
    if not are_numbers or not (half or has_colon):
        return None
    hours, *rest = map(int, numbers)
    if not rest:
        rest = [0]  # 9 a.m. is 9:00 a.m.
    if half:
        hours = hours % 12 + (12 if half == "pm" else 0)
    half_is_known = half or hours == 0 or 12 < hours < 24
    day = "day" if half_is_known else ""
    return (hours, *rest), day
