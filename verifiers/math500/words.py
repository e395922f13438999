"""The vocabulary of answers: words that change the value beside them, numbers in words, and words that change nothing.

For texts such as "twice 5", which is not 5, and "the prime number 97", which is 97.
"""

from __future__ import annotations

from collections.abc import Sequence

from verifiers.reading.amounts import MAGNITUDES
from verifiers.reading.words import MONTHS, NOT_THE_NUMBER

NEGATING = frozenset(
    "not no non never none nor neither incorrect wrong false unknown impossible cannot except excluding instead "
    "fail fails unlikely unless if doubt suppose maybe perhaps possibly probably would could might approximately "
    "approximate approx roughly near nearly almost estimated twice half double triple thrice negative opposite minus "
    "undefined infinite infinity imaginary isn't aren't wasn't doesn't don't can't won't".split()
)
"""Words that deny a value ("not 5"), doubt it ("perhaps 5") or replace it by another ("twice 5"), on either side."""
COMPARING = frozenset(
    "less more fewer than least most about around between over under above below plus".split()
)
"""Words that compare with a value instead of giving it: "more than 5", "at least 5"."""
SCALE_WORDS = {"dozen": 12} | {
    word: 10 ** MAGNITUDES[word] for word in "hundred thousand million mln billion bn trillion".split()
}
"""{word: the factor that it stands for behind a number}: 3 million is 3,000,000."""
_PARTS = frozenset(
    "tenth tenths hundredth hundredths thousandth thousandths halves thirds fourth fourths quarters fifth fifths sixth "
    "sixths seventh sevenths eighth eighths ninth ninths".split()
)
"""Words that make a fraction of the number beside them: "5 tenths", "a fifth of 10"."""
_CHANGING = (
    NEGATING
    | COMPARING
    | SCALE_WORDS.keys()
    | frozenset(
        "millions billions greater smaller larger bigger positive third quarter dozens hundreds thousands lakh crore "
        "up down through either but within until after before difference".split()
    )
)
CHANGING_BEFORE = (_CHANGING | MONTHS) | frozenset(
    "times multiple multiples square squares squared cube cubes cubed root roots factor factors power powers divisor "
    "divisors inverse reciprocal factorial logarithm log sine cosine tangent divisible divided multiplied added "
    "subtracted modulo percent percentage fraction digit digits prime some without one any far unlike close".split()
)
"""Words before a number that say that another value is meant: "the square of 5", "May 5". See `changes`, too."""
KINDS_OF_NUMBER = frozenset(
    "prime factor divisor digit multiple fraction root square cube power percentage".split()
)
"""Words that only say what kind of number follows, right behind "the": "the prime 97", "the prime number 97"."""

_UP_TO_NINETEEN = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
).split()
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()
NUMBER_WORDS = {word: number for number, word in enumerate(_UP_TO_NINETEEN)}
NUMBER_WORDS |= {word: 10 * number for number, word in enumerate(_TENS, 2)}
_COMPOUND = {f"{t}-{o}": NUMBER_WORDS[t] + NUMBER_WORDS[o] for t in _TENS for o in _UP_TO_NINETEEN[1:10]}
SPELLED_NUMBERS = NUMBER_WORDS | _COMPOUND | SCALE_WORDS
"""{word: its number}, for all words that may be the whole answer: "twelve", "twenty-one", "dozen"."""
CHANGING_BEHIND = (
    (_CHANGING | _PARTS | NUMBER_WORDS.keys() | _COMPOUND.keys())
    | frozenset("we so to be an as by he it if my do us up am go".split())
    | frozenset(
        "doubled tripled quadrupled halved reciprocal reciprocals inverse tens quadrillion itself pi factorial root "
        "choose mod modulo power score pair pairs gross".split()
    )
)
"""Words behind a number that say that another value is meant: "5 doubled", "5 or more", "5 tenths"."""

JOINING = frozenset({"and", "or"})
"""Words between two values of a list: "5 and 7"."""
IS = frozenset("is are was be equals".split())
"""Verbs between a name and its value: "the area is 5"."""
ARTICLES = frozenset(["a", "an", "the"])
"""Words that say nothing before a noun: "an odd function" is "odd function"."""
OPENING_WORDS = frozenset("so thus therefore hence then finally consequently answer yes ok okay".split())
"""Words that open an answer, with a comma or a point behind them, and say nothing: "So, 5" is 5."""
CONCLUDING = frozenset("so thus therefore hence then".split())
"""Words behind which an answer says its result: "x = 2, so 5" is 5."""
EXPLAINING = frozenset("since because".split())
"""Words that begin a reason in brackets behind a value: "5 (since 2 + 3 = 5)" is 5."""
OCCASIONS = frozenset("where attained achieved reached when at equality occurs occurring".split())
"""Words behind a value that say where it is reached: "2, attained at x = 1" is 2."""
QUALIFIERS = frozenset("for forall where".split())
"""Words that begin a clause on where a value holds: "n^2 for all n > 2" is n^2."""
QUANTIFIERS = frozenset("all any every each forall some integer integers".split())
"""Words behind one of `QUALIFIERS` that leave the value as it is: "2n for any integer n" is 2n."""
CASES = NEGATING | JOINING | frozenset("otherwise divisible multiple multiples odd even prime".split())
"""Words of such a clause that make the value only one case of several: "n^2 for even n" is not n^2."""
FORBIDDEN_IN_REMARK = (CHANGING_BEFORE | CHANGING_BEHIND | JOINING) - frozenset(
    "only smaller larger greater bigger positive prime digit digits factor root roots we so to be an as by it".split()
)
"""Words that may not stand in a mere remark in brackets: "5 (simplified)" and "3 (smaller root)", not "5 (twice)"."""
REAL_WORDS = frozenset("all the set of every any real reals numbers number".split())
"""The words of texts for the set of all real numbers: "the set of all reals"."""
SUBJECT_WORDS = frozenset(
    "the it on group function series sequence integral limit matrix number relation statement triangle".split()
)
"""Words for the thing that an answer describes. They may be left out: "the series converges" is "converges"."""


def is_reals(words: Sequence[str]) -> bool:
    """True if words stand for the set of all real numbers: "all real numbers", "the reals", "any real number"."""
    lower = {word.lower() for word in words}
    return lower <= REAL_WORDS and not lower.isdisjoint(("real", "reals"))


def changes(words: Sequence[str]) -> bool:
    """True if words right before a value say that another value is meant: "twice", "the square of", "a fifth of".

    "the prime" and "the prime number" change nothing, because they only say what kind of number follows.
    """
    changing = [word for word in words if word in CHANGING_BEFORE]
    if words[-1] == "of" and not _PARTS.isdisjoint(words):
        return True
    if list(words[-2:]) in NOT_THE_NUMBER or (words[-1].endswith("ing") and "by" in words[-2:-1]):
        return True  # next to 84, found by dividing 84
    noun = words[-2] if words[-1] == "number" and len(words) > 1 else words[-1]
    is_only_a_kind = words[0] == "the" and changing == [noun] and noun in KINDS_OF_NUMBER
    return bool(changing) and not is_only_a_kind
