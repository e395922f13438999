"""Mode flexible: the value that a completion ends with, where nothing marks or names its answer.

It is the value behind the last "=" or "is" of the last sentence that has a value, else the last value of this sentence
that does not stand behind a word such as "in", "for" or "per". A value that is denied, asked for or left open is none.
"""

from __future__ import annotations

import re

from verifiers.reading import words
from verifiers.reading.answer import BOLD, NAMED, find_answer, regions
from verifiers.verdicts import NO_ANSWER

_FORMULA = (
    r"\$\$.{1,400}?\$\$|\\\[.{1,400}?\\\]|\\\(.{1,400}?\\\)|(?<![\\$\w])\$\s?(?=[^\s$])[^$\n]{1,400}+\$(?!\d)"
)
_NUMBER = (
    r"(?<![\w.])(?:(?<![\d)\]}]\s)(?<![\w)\]}])[-−])?\\?[$€£¥]?(?:\d{1,3}(?:(?:,|\{,\})\d{3}(?!\d))++|\d++)(?:\.\d++)?+(?:/\d++)?+(?:\\?%)?+"
    r"(?:\s(?:million|billion|thousand|hundred|cents?|dollars?)\b|[kmb]\b)?"
)
_BARE = (
    r"\\[dt]?frac\{[^{}]*+\}\{[^{}]*+\}|-?\\sqrt\{[^{}]*+\}|\([-\d][^()\n,]{0,40}+,[^()\n]{0,40}+\)"
    r"|-?\d{0,20}+\\(?:sqrt|pi)[^\s.,]*+"
)
_VALUE = {True: re.compile(f"{_FORMULA}|{_BARE}|{_NUMBER}", re.DOTALL), False: re.compile(_NUMBER, re.DOTALL)}
_HAS_VALUE = re.compile(r"\d|\\(?!(?:black)?square|qed|checkmark|[\[\]()])")
_SENTENCE_END = re.compile(r"(?<=[.!?])(?=\s|\*|\Z)|\n")
_SAYS = re.compile(r"(?:=|≈|\b(?:is|are|was|were|be|equals|becomes))[\s*]*+\Z")
_ASIDE = re.compile(
    r"\b(?:in|for|per|every|each|over|during|within|after|of|than|from|by|at|both|all)\s(?:\w{1,12}\s)?[*$]*+\Z"
)
_STATES = re.compile(r"(?:=|\b(?:is|are|was|were))[\s*$]*+\Z")
_DENIED = re.compile(r"\b(?:not|never|cannot|wrong|incorrect|or|almost|nearly)\b|n['’]t\b|±")
_CALCULATES = re.compile(r"\s?(?:[+*^×÷=]\s?[\w($\\]|[-/]\s?[\d($\\])|\s-\s[a-z]\b")
_CALCULATED = re.compile(r"(?:(?:[\d)}]|\b[a-z])\s?[-+*/×÷^]|\d\s?x)\s?[$(]*+\Z")
_LETTER = re.compile(r"[\s*]*+\(?([A-J])\)?[\s*.]*+\Z")
_WORDS = re.compile(r"(?:[^\W\d_]{2,}+(?!\()|\b[aAI]\b|[\s,.;:!'\"*$-]|(?<![^\W\d_])\(|\))*+")


def last_value(text: str, formulas: bool) -> tuple[int, int] | None:
    r"""(start, end) of the value that a completion ends with; None if it has none, or if its answer is marked.

    Of an answer that a sentence names, its one value counts if only words stand beside it. formulas: formulas are
    values, `$x + 1$`, as in MATH; else numbers alone are.
    """
    found, where = find_answer(text), regions(text)
    if found.mark in (NAMED, BOLD):
        values = _values(text, found.start, found.end, formulas)
        if len(values) != 1:
            return None
        low, high = values[0].span()
        is_alone = _WORDS.fullmatch(text, found.start, low) and _WORDS.fullmatch(text, high, found.end)
        return (low, high) if is_alone and not _is_denied(text, found.start, low, high) else None
    if found.reason != NO_ANSWER or where.unended >= 0:
        return None
    start, end = where.begin, where.cut
    last = text[:end].rstrip().rpartition("\n")[2]
    if formulas and (letter := _LETTER.match(last)):
        low = text[:end].rindex(last) + letter.start(1)
        return low, low + 1
    cuts = [start, *(stop.end() for stop in _SENTENCE_END.finditer(text, start, end)), end]
    for low, high in zip(cuts[-2::-1], cuts[:0:-1], strict=True):
        values = _values(text, low, high, formulas)
        if values:
            best = max(values, key=lambda value: (_rank(text, low, value.start()), value.start()))
            return None if text[high - 1] == "?" or _is_denied(text, low, *best.span()) else best.span()
    return None


def _values(text: str, start: int, end: int, formulas: bool) -> list[re.Match[str]]:
    """The values in text[start:end]."""
    return [value for value in _VALUE[formulas].finditer(text, start, end) if _HAS_VALUE.search(value[0])]


def _is_denied(text: str, start: int, low: int, high: int) -> bool:
    """True if the sentence that begins at `start` denies its value text[low:high] or calculates with it."""
    if _CALCULATES.match(text, high) or _CALCULATED.search(text, max(start, low - 20), low):
        return True
    if _STATES.search(text, max(start, low - 20), low):
        start = low  # the hens not in the yard are 18
    before = re.findall(r"[^\W\d_]+", text[max(start, low - 60) : low].lower())
    is_denied = _DENIED.search(text, start, low) or _DENIED.search(text, high, high + 12)
    return bool(is_denied) or words.changes_number(before)


def _rank(text: str, start: int, at: int) -> int:
    """2 or more for a value at `at` behind "=" or "is", 0 for one that only says what another is for, else 1."""
    near = max(start, at - 20)
    return 2 * bool(_SAYS.search(text, near, at)) + (not _ASIDE.search(text, near, at))
