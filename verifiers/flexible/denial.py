"""Whether a sentence denies a value that it says: "The total isn't 96.", "She did not pay $96.", "96 is wrong."

Two rules for mode `flexible`. A verb that is denied denies what stands behind it in its clause, unless the clause only
says which things are meant ("those who did not pay", "the hens not in the yard"). And a value is denied by what is said
of it: "96 cannot be right", "It is 96. That's wrong." Words are read once, so both are linear.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

_NOT = frozenset("not never cannot".split())
_AUXILIARIES = frozenset(
    "s is are was were be been am wo do does did can could will would shall should may might must has have had".split()
)
"""Among them is what `words_of` leaves of contracted words: "s" of "that's", "wo" of "won't"."""
_CLAUSES = frozenset(", ; : . ! ? = ( ) \n – — but so and thus therefore hence then".split())
"""Signs and words with which a new clause begins."""
_APART = frozenset(
    "who whom whose which what if unless when while where since because as although though".split()
)
"""Words that begin a clause that says which things are meant, or in which case. A denial there denies no value."""
_CHANCES = frozenset("probability chance likelihood odds".split())
"""Words behind which "that" begins such a clause, too: "The probability that it is not red is 3/5."."""
_BEING = frozenset("s is was be seems looks".split())
"""Forms of being that are said of a value. "are" is not: "4 answers are wrong" speaks of things that are counted."""
_WRONG = frozenset("wrong incorrect false impossible untrue".split())
_ANSWERS = frozenset("answer result value".split())
"""Words that name a wrong value behind one of `_WRONG`: "It is wrong to say 96.", "The wrong answer is 96."."""
_ARTICLES = frozenset("the a an".split())
_RIGHT = frozenset("right correct true possible accurate the our my what".split())
"""Words that, behind "not", deny a value: "That is not right", "not the total", "not what we want"."""
_ADVERBS = frozenset(
    "a an clearly obviously definitely certainly also probably quite just actually then".split()
)
"""Words that may stand between a form of being and the word that denies the value: "is clearly wrong"."""
_POINTING = frozenset("that this it which".split())
"""Words that mean the value: the "That" of "It is 96. That's wrong."."""


def is_denied(before: str, behind: str) -> bool:
    """True if the text denies the value that stands between `before` and `behind`.

    before: the text from the beginning of the value's sentence on. behind: all text after the value.
    """
    return is_behind_denied_verb(before) or is_called_wrong(behind)


def is_behind_denied_verb(before: str) -> bool:
    """True for "The total can't be", "She did not pay", "I see that it isn't"; not for "Those who did not pay sent"."""
    words = [".", *words_of(before)]  # with the stop, the first word has one before it, too
    # denied: whether the clause has a denied verb. apart: whether the clause only says which things are meant.
    denied = apart = False
    for place, word in enumerate(words[1:], 1):
        last = words[place - 1]
        if word in _CLAUSES:
            denied = apart = False
        elif word in _APART or (word == "that" and last in _CHANCES):
            apart = True
        elif word in _NOT and (word != "not" or last in _AUXILIARIES):
            verb = place - 1 if last in _AUXILIARIES else place
            if not apart and not is_behind_that(words, verb):
                denied = True
        elif word == "only" and last == "not":  # "did not only pay"
            denied = False
        elif word in _WRONG and last in _BEING and not apart:  # "It is wrong to say 96."
            denied = True
        elif word in _ANSWERS and last in _WRONG and is_subject(words, place - 2):
            denied = True
    return denied


def is_subject(words: Sequence[str], place: int) -> bool:
    """True if an article at `place` begins a clause: "The wrong answer", not "the penalty for a wrong answer"."""
    is_begin = not words[place - 1].isalpha() or words[place - 1] in _CLAUSES
    return words[place] in _ARTICLES and is_begin


def is_behind_that(words: Sequence[str], place: int) -> bool:
    """True if the verb at `place` tells things apart: "the eggs that were not sold", but not "That is not"."""
    return words[place - 1] == "that" and words[place - 2] not in _CLAUSES


def is_called_wrong(behind: str) -> bool:
    """True for " is wrong.", " dollars can't be right.", ". That is not the total."; not for " answers are wrong."."""
    # about: whether the clause speaks of the value, because the value stands in it, or a word such as "that".
    # being, denied: whether a form of being and "not" have come, with only auxiliaries and adverbs since then.
    about = True
    denied = being = False
    last = ""
    for word in words_of(behind):
        if word in _CLAUSES:
            about = denied = being = False
        elif {last, word} == {"wait", "no"}:  # in either order
            return True
        elif word in _POINTING:
            about = True
        elif word in _BEING:
            being = True
        elif word in _NOT:
            denied = True
        elif about and being and word in (_RIGHT if denied else _WRONG):
            return True
        elif word not in _AUXILIARIES and word not in _ADVERBS:
            denied = being = False
        if word not in _CLAUSES:
            last = word
    return False


def words_of(text: str) -> Iterator[str]:
    """The words of a text in lower case, and its signs; "can't" is two of them, "can" and "not"."""
    i = 0
    while i < len(text):
        start = i
        while i < len(text) and (text[i].isalpha() or text[i].isdecimal()):
            i += 1
        if i == start:
            is_comma_of_number = text[i] in ",." and text[i + 1 : i + 2].isdecimal()
            if text[i] != " " and not is_comma_of_number:
                yield text[i]
            i += 1
            continue
        word = text[start:i].lower()
        is_contracted = text[i : i + 1] in ("'", "’") and text[i + 1 : i + 2] in ("t", "T")
        if is_contracted and not text[i + 2 : i + 3].isalpha():
            yield word if word == "can" else word.removesuffix("n")
            word, i = "not", i + 2
        yield word
