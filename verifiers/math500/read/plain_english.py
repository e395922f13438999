"""Rewrites a value with plain English around it: a clause behind it, a word for its sign, a list in lines.

Each function returns the answer as it is if it finds nothing to leave out or to rewrite.
"""

from __future__ import annotations

from verifiers.math500.read.markup import HEDGES
from verifiers.math500.read.units import UNITS
from verifiers.math500.read.words import SPELLED_NUMBERS

_TAKING_BACK = frozenset("or maybe perhaps if unless wait actually unsure guess".split())
"""Words behind a value and "because" that may take the value back: "Paris, because I guess"."""
_TURNING = frozenset("but however so therefore thus hence sure".split())
"""Words of a reason that another value may follow: "Paris, because it is large, so the answer is London"."""
CLAUSES = (" because ", " since ", ", as ", ", so ", ", which ", " which ", "; ", " by ", " after ")
"""Beginnings of a clause that may stand behind a value: "96, which is even" is 96."""
_DOUBTS = HEDGES | _TAKING_BACK | frozenset("no not never cannot t".split())
"""Words, and the t of "isn't", by which a clause may take the value back: "96, which is not right" stays as it is."""
_SIGNS = ("negative ", "minus ")  # words for a minus: "negative 3" is -3
_BULLETS = ("- ", "* ", "• ")  # what each line of a list may begin with
_TERMS = "0123456789 .+-*/()×·^$"  # characters of a calculation: 4*24 of 4*24 = 96
_NO_UNITS = frozenset("a as in is so total".split())
"""Words that are units behind a number, but not in a clause: "in" is inch in "5 in", and none in "in total"."""
_TICKS = " \ufe0f✅✓✔☑🎉🎊👍👏💯😊🙂😀😄"  # signs behind an answer that is held to be right; no crosses
_SMILES = (":)", ":-)")
CHEERS = frozenset("!" + _TICKS)
"""Characters behind an answer that say nothing of its value."""
_LONGEST_LINE = 60  # characters of a line that may be an item of a list


def without_reason(answer: str) -> str:
    """Paris for "Paris, because it is the capital"; the whole answer if the reason may take it back."""
    for mark in (" because ", ", since "):
        value, _, reason = answer.partition(mark)
        words = "".join(c if c.isalpha() else " " for c in reason.lower()).split()
        value = value.rstrip(" ,.;:-–—")
        _, *later_sentences = reason.split(". ")
        is_one_sentence = not any(map(str.strip, later_sentences))
        if words and value and is_one_sentence and (_TAKING_BACK | _TURNING).isdisjoint(words):
            open_braces = value.count("{") - value.count("}")  # one in \text{Paris, because it is ...}
            return value + "}" * max(open_braces, 0)
    return answer


def value_in_english(answer: str, is_list: bool, is_words: bool) -> str:
    """The answer without a clause or cheers, with a minus for a word, and in one line if it is a list in lines.

    `is_list`: True if the reference is a list. `is_words`: True if it is in words.
    """
    answer = with_sign(without_clause(without_cheers(answer, is_words)))
    return joined_lines(answer) if is_list else answer


def without_cheers(answer: str, is_words: bool) -> str:
    """5 for "5 ✅" and "5 :)"; and Paris for "Paris!" if the reference is in words, as 5! is a factorial."""
    value = answer.rstrip(_TICKS)
    for smile in _SMILES:
        value = value.removesuffix(smile).rstrip(_TICKS)
    word = value.rstrip("!")
    return word if is_words and len(word) > 1 and word[-1].isalpha() else value


def without_clause(answer: str) -> str:
    """96 for "96, which is even" and for "96 because 4*24 = 96".

    A clause stays if it has a number, mathematics, a unit or a word that may take the value back. An equation at its
    end does not count if the last side is the value.
    """
    places = [place for mark in CLAUSES if mark in answer and (place := answer.find(mark)) > 0]
    if not places:
        return answer
    start = min(places)  # of the clause
    value, clause = answer[:start].rstrip(" ,"), answer[start:].lower()
    if value.count("{") != value.count("}") or not any(c.isdigit() or c == "\\" for c in value):
        return answer
    before, equals, last_side = clause.rpartition("=")
    if equals and last_side.strip(" .$") == value.strip(" $"):
        clause = before.rstrip(_TERMS)
    words = "".join(c if c.isalpha() else " " for c in clause).split()
    has_mathematics = any(c.isdigit() or c in "\\$=" for c in clause)
    has_number = any(word in SPELLED_NUMBERS for word in words)
    has_doubt = any(word in _DOUBTS for word in words)
    has_unit = any(word in UNITS and word not in _NO_UNITS for word in words)
    return answer if has_mathematics or has_number or has_doubt or has_unit else value


def with_sign(answer: str) -> str:
    """-3 for "negative 3", "minus 3" and "negative three"."""
    for word in _SIGNS:
        if answer[: len(word)].lower() == word:
            behind = answer[len(word) :].strip()
            value = str(SPELLED_NUMBERS.get(behind.lower(), behind))
            may_be_number = value[:1].isdigit() or value.startswith(("$", "\\", "."))
            return f"-{value}" if may_be_number else answer
    return answer


def joined_lines(answer: str) -> str:
    """The list "2, 3, 5" for one with a line for each value, bare, with bullets or numbered; "2 and 3" for "2 & 3"."""
    lines = [line.strip().rstrip(",;") for line in answer.splitlines() if line.strip()]
    if len(lines) < 2 or max(map(len, lines)) > _LONGEST_LINE:
        return answer if "\\" in answer else answer.replace(" & ", " and ")
    for bullet in _BULLETS:
        if all(line.startswith(bullet) for line in lines):
            return ", ".join(line.removeprefix(bullet) for line in lines)
    numbers = [f"{number}. " for number in range(1, len(lines) + 1)]
    if all(map(str.startswith, lines, numbers)):  # each line begins with its number
        lines = list(map(str.removeprefix, lines, numbers))
    return ", ".join(lines)
