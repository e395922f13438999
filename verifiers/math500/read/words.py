"""The vocabulary of answers: words that change the value beside them, numbers in words, and words that change nothing.

For texts such as "twice 5", which is not 5, and "the prime number 97", which is 97.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise

from verifiers.amounts import MAGNITUDES

# ---- words that change the value beside them ----

NEGATING = frozenset(
    "not no non never none nor neither incorrect wrong false unknown impossible cannot except excluding instead "
    "fail fails unless if doubt suppose maybe perhaps possibly probably would could might approximately "
    "approximate approx roughly near nearly almost estimated twice half double triple thrice negative opposite minus "
    "undefined infinite infinity imaginary isn't aren't wasn't doesn't don't can't won't".split()
)
"""Words that deny a value ("not 5"), doubt it ("perhaps 5", "roughly 5") or replace it by another ("twice 5").

They do so before the value, behind it, and in the subject of its sentence: "twice the number is 5".
"""
COMPARING = frozenset(
    "less more fewer than least most about around between over under above below plus".split()
)
"""Words that compare with a value instead of giving it: "more than 5", "at least 5"."""
SCALE_WORDS = {"dozen": 12} | {
    word: 10 ** MAGNITUDES[word]
    for word in "hundred thousand million mln mio billion bn bln trillion".split()
}
"""{word: the factor that it stands for behind a number}: 3 million is 3,000,000."""
CHANGING_ON_EITHER_SIDE = (
    NEGATING
    | COMPARING
    | {*SCALE_WORDS, "millions", "billions"}
    | frozenset(
        "greater smaller larger bigger positive third quarter dozens hundreds thousands lakh crore up down through "
        "either but within until after before difference".split()
    )
)
"""Words before or behind a number that say that another value is meant: "greater than 5", "5 thousands"."""
CHANGING_BEFORE = CHANGING_ON_EITHER_SIDE | frozenset(
    "times multiple multiples square squares squared cube cubes cubed root roots factor factors power powers divisor "
    "divisors inverse reciprocal factorial logarithm log sine cosine tangent divisible divided multiplied added "
    "subtracted modulo percent percentage fraction digit digits prime some without one any".split()
)
"""Words before a number that say that another value is meant: "the square of 5". See `changes` for the exception."""
KINDS_OF_NUMBER = frozenset(
    "prime factor divisor digit multiple fraction root square cube power percentage".split()
)
"""Words that only say what kind of number follows, right behind "the": "the prime 97", "the prime number 97"."""
APPROXIMATING = frozenset("approximately approximate approx about roughly around nearly".split())
"""Words that say that the value behind them is rounded: "about 5"."""
SHORT_WORDS = frozenset("we so to be of on an as at by he it if my do us up am go".split())
"""Words of two letters. "my" is the product of m and y only right behind a number, or if the reference has both."""
SHORT_NOUNS = frozenset("pts pcs ppl".split())
"""Abbreviations of "points", "pieces" and "people", which have no vowel: the pts of "12 pts"."""

# ---- numbers in words ----

_NUMERAL_PARTS = frozenset(
    "tenth tenths hundredth hundredths thousandth thousandths halves thirds fourth fourths quarters fifth fifths sixth "
    "sixths seventh sevenths eighth eighths ninth ninths".split()
)
"""Words that make a fraction of the number before them: "5 tenths" is not 5."""
_PARTS = _NUMERAL_PARTS | {"eleventh", "twelfth", "twentieth"}
"""Words that make a fraction of the number behind "of": "a twelfth of 24" is not 24."""
_UP_TO_NINETEEN = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
).split()
_ONE_TO_NINE = _UP_TO_NINETEEN[1:10]
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()
NUMBER_WORDS = {word: number for number, word in enumerate(_UP_TO_NINETEEN)}
NUMBER_WORDS |= {word: 10 * number for number, word in enumerate(_TENS, 2)}
"""{word: its number}: "twelve" is 12, "forty" is 40."""
COMPOUND_NUMBERS = {
    f"{ten}-{one}": NUMBER_WORDS[ten] + NUMBER_WORDS[one] for ten in _TENS for one in _ONE_TO_NINE
}
"""{word with a hyphen: its number}: "twenty-one" is 21."""
SPELLED_NUMBERS = NUMBER_WORDS | COMPOUND_NUMBERS | SCALE_WORDS
"""{word: its number}, for all words that may be the whole answer: "twelve", "twenty-one", "a dozen"."""
CHANGING_BEHIND = (
    CHANGING_ON_EITHER_SIDE
    | (SHORT_WORDS - {"of", "on", "at"})  # these three may begin harmless words: "94 on the test"
    | _NUMERAL_PARTS
    | frozenset(NUMBER_WORDS)
    | frozenset(COMPOUND_NUMBERS)
    | frozenset(
        "doubled tripled quadrupled halved reciprocal reciprocals inverse tens quadrillion itself".split()
    )
    | frozenset("pi factorial root choose mod modulo power score pair pairs gross".split())
)
"""Words behind a number that say that another value is meant: "5 doubled", "5 or more", "5 tenths"."""
BEFORE_SECOND_COUNT = frozenset("in within after for every".split())
"""Words between a unit and a second number, which does not change the value: "18 miles in three days" is 18."""
DISTRIBUTING = frozenset("a an each every".split())
"""Words before a unit of time that say "per": "$5 an hour"."""

# ---- words of sentences ----

JOINING = frozenset({"and", "or"})
"""Words between two values of a list: "5 and 7"."""
IS = frozenset("is are was be equals".split())
"""Verbs between a name and its value: "the area is 5"."""
ORDINALS = frozenset("st nd rd th".split())
"""Endings of a number that say a place in an order and do not change its value: 12th is 12."""
DETERMINERS = frozenset("the these those all his her its their my our".split())
"""Words between a part and its whole: "a fifth of the 10"."""
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
ATTAINED = frozenset("attained achieved reached occurs occurring".split())
"""Those of `OCCASIONS` that an inequality may follow, too: "2, attained for x > 1" is 2."""
DESCRIBING = frozenset(
    "only smaller larger greater bigger positive prime digit digits factor root roots".split()
)
"""Words in brackets that say which of several values is meant: "3 (smaller root)" is 3."""
HARMLESS_BEHIND_THE = frozenset(NUMBER_WORDS) | {"least", "most", "third"}
"""Words that change a value, but not behind "the": "5 (the least of the three)" is 5, "5 (least)" may not be."""
FORBIDDEN_IN_REMARK = (CHANGING_BEFORE | CHANGING_BEHIND | JOINING) - DESCRIBING - SHORT_WORDS
"""Words that may not stand in a mere remark in brackets: "5 (simplified)" is 5, "5 (twice)" is not."""
REAL_WORDS = frozenset("all the set of every any real reals numbers number".split())
"""The words of texts for the set of all real numbers: "the set of all reals"."""
SUBJECT_WORDS = frozenset(
    "the it on group function series sequence integral limit matrix number relation statement triangle".split()
)
"""Words for the thing that an answer describes. They may be left out: "the series converges" is "converges"."""
QUALIFIERS = frozenset("for forall where".split())
"""Words that begin a clause on where a value holds: "n^2 for all n > 2" is n^2."""
QUANTIFIERS = frozenset("all any every each forall some integer integers".split())
"""Words behind one of `QUALIFIERS` that leave the value as it is: "2n for any integer n" is 2n."""
FORBIDDEN_IN_QUALIFIER = (
    NEGATING | JOINING | frozenset("otherwise divisible multiple multiples odd even prime".split())
)
"""Words of a clause that makes the value only one case of several: "n^2 for even n" is not n^2."""
MONTHS = {
    spelling: number
    for number, names in enumerate(
        "january jan,february feb,march mar,april apr,may,june jun,july jul,august aug,september sept sep,october oct,"
        "november nov,december dec".split(",")
    )
    for spelling in names.split()
}
"""{spelling: the number of its month, from 0}: "january" and "jan" are 0."""
VOWELS = frozenset("aeiou")  # a word has at least one of them, and a consonant


def is_short_word(run: str) -> bool:
    """True if three letters that stand alone are a word and no product: red, Yes, odd, but not abc, xyz or lwh.

    A word has vowels and consonants. A product has its letters in alphabetical order, and none twice.
    """
    lower = run.lower()
    if len(run) != 3 or run not in (lower, run.title()):
        return False
    has_both = not VOWELS.isdisjoint(lower) and not VOWELS.issuperset(lower)
    return has_both and (run.istitle() or any(a >= b for a, b in pairwise(lower)))


def is_reals(words: Iterable[str]) -> bool:
    """True if words stand for the set of all real numbers: "all real numbers", "the reals", "any real number"."""
    lower = {word.lower() for word in words}
    return lower <= REAL_WORDS and not lower.isdisjoint(("real", "reals"))


def names_part(words: Sequence[str]) -> bool:
    """True if words before a value name a part of it: "a fifth of", "three of the"."""
    while words[-1:] and words[-1] in DETERMINERS:
        words = words[:-1]
    return len(words) > 1 and words[-1] == "of" and (words[-2] in NUMBER_WORDS or words[-2] in _PARTS)


def changes(words: list[str]) -> bool:
    """True if words right before a value say that another value is meant: "twice", "the square of", "a fifth of".

    "the prime" and "the prime number" change nothing, because they only say what kind of number follows.
    """
    if "of" in words and names_part(words):
        return True
    changing = [word for word in words if word in CHANGING_BEFORE]
    noun = words[-2] if words[-1] == "number" and len(words) > 1 else words[-1]
    is_only_a_kind = words[0] == "the" and changing == [noun] and noun in KINDS_OF_NUMBER
    return bool(changing) and not is_only_a_kind
