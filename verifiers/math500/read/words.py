"""The vocabulary of answers: words that change the value beside them, numbers in words, and words of no weight.

For texts such as "twice 5", which is not 5, and "the prime number 97", which is 97.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

from verifiers.amounts import MAGNITUDES

# Words that say another number is meant than the one beside them, or none: before it (as in "the square of 5") ...
NEGATING = frozenset(  # ... also of the thing that "is 5"
    "not no non never none nor neither incorrect wrong false unknown impossible cannot except excluding instead "
    "fail fails unless if doubt suppose maybe perhaps possibly probably would could might approximately "
    "approximate approx roughly near nearly almost estimated twice half double triple thrice negative opposite minus "
    "undefined infinite infinity imaginary isn't aren't wasn't doesn't don't can't won't".split()
)
COMPARING = frozenset(
    "less more fewer than least most about around between over under above below plus".split()
)
CHANGING = (
    NEGATING
    | COMPARING
    | frozenset(
        "greater smaller larger bigger positive third quarter dozens hundreds thousands lakh crore up down through "
        "either but within until after before difference".split()
    )
)
SCALES = {"dozen": 12} | {
    word: 10 ** MAGNITUDES[word]
    for word in "hundred thousand million mln mio billion bn bln trillion".split()
}
CHANGING |= {*SCALES, "millions", "billions"}
CHANGING_BEFORE = CHANGING | frozenset(
    "times multiple multiples square squares squared cube cubes cubed root roots factor factors power powers divisor "
    "divisors inverse reciprocal factorial logarithm log sine cosine tangent divisible divided multiplied added "
    "subtracted modulo percent percentage fraction digit digits prime some without one any".split()
)
# ... unless they say which number it is: "the prime 97", "the prime number 97"
KINDS = frozenset("prime factor divisor digit multiple fraction root square cube power percentage".split())
APPROXIMATING = frozenset("approximately approximate approx about roughly around nearly".split())
SHORT_WORDS = frozenset("we so to be of on an as at by he it if my do us up am go".split())
_NUMERAL_PARTS = frozenset(
    "tenth tenths hundredth hundredths thousandth thousandths halves thirds fourth fourths quarters fifth fifths sixth "
    "sixths seventh sevenths eighth eighths ninth ninths".split()
)
_UP_TO_NINETEEN = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
).split()
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()
NUMBER_WORDS = {word: number for number, word in enumerate(_UP_TO_NINETEEN)}
NUMBER_WORDS |= {word: 10 * number for number, word in enumerate(_TENS, 2)}
COMPOUND = {
    f"{ten}-{one}": NUMBER_WORDS[ten] + NUMBER_WORDS[one] for ten in _TENS for one in _UP_TO_NINETEEN[1:10]
}
SPELLED = NUMBER_WORDS | COMPOUND | SCALES  # a dozen
CHANGING_BEHIND = (  # ... and behind it
    CHANGING
    | (SHORT_WORDS - {"of", "on", "at"})
    | _NUMERAL_PARTS
    | frozenset(NUMBER_WORDS)
    | frozenset(COMPOUND)
    | frozenset(
        "doubled tripled quadrupled halved reciprocal reciprocals inverse tens quadrillion itself".split()
    )
    | frozenset("pi factorial root choose mod modulo power score pair pairs gross".split())
)
SPANNING = frozenset("in within after for every".split())  # behind a unit: a number then counts another thing
JOINING = frozenset({"and", "or"})
IS = frozenset("is are was be equals".split())
ORDINALS = frozenset("st nd rd th".split())
ARTICLES = frozenset(["a", "an", "the"])
OPENING = frozenset("so thus therefore hence then finally consequently answer yes ok okay".split())
CONCLUDING = frozenset("so thus therefore hence then".split())
EXPLAINING = frozenset("since because".split())
# Before the place at which a value is taken: "2, attained at x = 1".
OCCASIONS = frozenset("where attained achieved reached when at equality occurs occurring".split())
ATTAINED = frozenset("attained achieved reached occurs occurring".split())  # for a range of numbers, too
# Words that say in brackets which of several values one is.
DESCRIBING = frozenset(
    "only smaller larger greater bigger positive prime digit digits factor root roots".split()
)
TOLD_BY_THE = frozenset(NUMBER_WORDS) | {"least", "most", "third"}  # behind "the": the least, of the three
NO_REMARK = (CHANGING_BEFORE | CHANGING_BEHIND | JOINING) - DESCRIBING - SHORT_WORDS
REAL_WORDS = frozenset("all the set of every any real reals numbers number".split())
SPOKEN_OF = frozenset(  # what a word may be said of: "the series converges", "an odd function"
    "the it on group function series sequence integral limit matrix number relation statement triangle".split()
)
QUALIFIERS = frozenset("for forall where".split())  # before what a value holds for
QUANTIFIERS = frozenset("all any every each forall some integer integers".split())
NO_QUALIFIER = NEGATING | JOINING | frozenset("otherwise divisible multiple multiples odd even prime".split())
MONTHS = {
    spelling: number
    for number, names in enumerate(
        "january jan,february feb,march mar,april apr,may,june jun,july jul,august aug,september sept sep,october oct,"
        "november nov,december dec".split(",")
    )
    for spelling in names.split()
}


VOWELS = frozenset("aeiou")


def is_short_word(run: str) -> bool:
    """Whether three letters that stand alone are a word, and no product: red, Yes, odd, but not abc, xyz or lwh.

    A product has its letters in order, and none twice; a word has vowels and consonants.
    """
    lower = run.lower()
    if len(run) != 3 or run not in (lower, run.title()):
        return False
    has_both = not VOWELS.isdisjoint(lower) and not VOWELS.issuperset(lower)
    return has_both and (run.istitle() or any(a >= b for a, b in pairwise(lower)))


def is_reals(words: Iterable[str]) -> bool:
    """True for "all real numbers" in other words, too."""
    lower = {word.lower() for word in words}
    return lower <= REAL_WORDS and not lower.isdisjoint(("real", "reals"))


def changes(words: list[str]) -> bool:
    """True if words right before a value say that another one is meant: "twice", "the square of"."""
    found = [word for word in words if word in CHANGING_BEFORE]
    kind = words[-2] if words[-1] == "number" and words[1:] else words[-1]
    return bool(found) and not (words[0] == "the" and found == [kind] and kind in KINDS)
