"""The value of an answer that plain English stands around: a clause behind it, a word for its sign, lines of a list.

Each function returns the answer itself if there is nothing of its kind to leave out or to rewrite.
"""

from __future__ import annotations

from verifiers.math500.read.markup import HEDGES, TAKING_BACK
from verifiers.math500.read.units import UNITS
from verifiers.math500.read.words import SPELLED_NUMBERS

CLAUSES = (" because ", " since ", ", as ", ", so ", ", which ", " which ", "; ", " by ", " after ")
"""What a clause behind a value begins with: "96, which is even"."""
_DOUBTS = HEDGES | TAKING_BACK | frozenset("no not never cannot t".split())
"""Words of a clause that may take the value back: "96, which is not right"."""
_SIGNS = ("negative ", "minus ")
_BULLETS = ("- ", "* ", "• ")
_TERMS = "0123456789 .+-*/()×·^$"
_NO_UNITS = frozenset("a as in is so total".split())
"""Words of a clause that are no units there, though a number may have them as one."""
_LONGEST_LINE = 60


def value_in_english(answer: str, is_list: bool) -> str:
    """The answer without a clause, with a sign for its word, and as one list if it has a line for each value.

    is_list: whether the reference is a list.
    """
    answer = with_sign(without_clause(answer))
    return in_one_line(answer) if is_list else answer


def without_clause(answer: str) -> str:
    """96 of "96, which is even" and of "96 because 4*24 = 96".

    A clause stays if it may say something else: a number, mathematics, a unit, or a word that takes the value back. An
    equation is left out if its last side is the value.
    """
    places = [place for mark in CLAUSES if (place := answer.find(mark)) > 0]
    if not places:
        return answer
    value, clause = answer[: min(places)].rstrip(" ,"), answer[min(places) :].lower()
    if value.count("{") != value.count("}") or not any(c.isdigit() or c == "\\" for c in value):
        return answer
    before, equals, last_side = clause.rpartition("=")
    if equals and last_side.strip(" .$") == value.strip(" $"):
        clause = before.rstrip(_TERMS)
    words = "".join(c if c.isalpha() else " " for c in clause).split()
    is_plain = not any(c.isdigit() or c in "\\$=" for c in clause)
    says_more = not (_DOUBTS.isdisjoint(words) and SPELLED_NUMBERS.keys().isdisjoint(words))
    has_unit = any(word in UNITS and word not in _NO_UNITS for word in words)
    return answer if says_more or has_unit or not is_plain else value


def with_sign(answer: str) -> str:
    """-3 of "negative 3", "minus 3" and "negative three"."""
    for word in _SIGNS:
        if answer.lower().startswith(word):
            value = answer[len(word) :].strip()
            value = str(SPELLED_NUMBERS.get(value.lower(), value))
            return f"-{value}" if value[:1].isdigit() or value[:1] in ("$", "\\", ".") else answer
    return answer


def in_one_line(answer: str) -> str:
    """The list "2, 3, 5" of one with a line for each value, with bullets, with numbers or bare, and of "2, 3 & 5"."""
    lines = [line.strip().rstrip(",;") for line in answer.splitlines() if line.strip()]
    if len(lines) < 2 or max(map(len, lines)) > _LONGEST_LINE:
        return answer if "\\" in answer else answer.replace(" & ", " and ")
    for bullet in _BULLETS:
        if all(line.startswith(bullet) for line in lines):
            return ", ".join(line.removeprefix(bullet) for line in lines)
    numbers = [f"{number}. " for number in range(1, len(lines) + 1)]
    if all(map(str.startswith, lines, numbers)):
        lines = list(map(str.removeprefix, lines, numbers))
    return ", ".join(lines)
