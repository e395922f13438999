"""What the words of a problem ask for: a form, a unit, a measure, a base, a noun.

For problems such as "Express 6/8 in lowest terms." and "What is its area, in square feet?". The phrases and words by
which this is told are data at the top.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

from verifiers.amounts import NATIONS
from verifiers.math500.read import units
from verifiers.math500.read.words import NUMBER_WORDS

# {form: the phrases of problems that ask for it, with | between them}. They are plain texts: $ begins a formula.
_PHRASES = {
    "expanded": "expand $|expand the|expand and|expand:|expand \\|expanded form|expanded poly|multiply out|"
    "as a polynomial",
    "factored": "factored form|factoriz|factoris|factor completely|factored completely|as a product of",
    "primes": "prime factor|product of prime",
    "simplified": "simplify|simplified|simplest",
    "ordered": "order from|in order of|from least|from smallest|from shortest|in increasing order|in ascending order|"
    "in decreasing order|in descending order|alphabetical|chronological|numerical order|reverse order|correct order|"
    "right order|backwards",
    "lowest": "lowest terms|simplest form|simplest fraction|reduced f|fully reduced|simplified fraction|reduce $|"
    "reduce the fraction",
    "common fraction": "common fraction",
    "fraction": "as a fraction in |lowest terms|fractional form|simplified fraction|simplest fraction|reduced fraction|"
    "reduce the fraction|proper or improper|improper fraction",
    "mixed": "mixed number|mixed fraction",
    "decimal": "as a decimal|to a decimal|terminating decimal|decimal form|decimal place|in decimal|nearest tenth|"
    "nearest hundredth|nearest thousandth|dollars and cents",
    "repeating": "repeating decimal",
    "parts": "partial fraction",
    "radical": "simplest radical|simplified radical|simplify the radical",
    "scientific": "scientific notation",
    "one fraction": "single fraction|one fraction",
    "slope": "slope-intercept|slope intercept|$y = mx|$y=mx",
    "power": "as a power|as a single power|power of a single|exponential notation|using exponents|in exponent form",
    "single": "single log|single trig|single term|single radical|single root",
}
NAMED_PHRASES = [(phrase, name) for name, phrases in _PHRASES.items() for phrase in phrases.split("|")]
"""(a phrase of a problem in lower case, the form that it asks for)."""
ORDERING = frozenset("sort order rank arrange reverse".split())
"""Verbs that ask for an order at the beginning of a sentence, "Sort 3, 1, 2.", or as in "find them and sort them"."""
_NO_LISTS = frozenset("of equation equations expression polynomial matrix digits".split())
"""Words for what is arranged, reversed or ranked, but is no list: "Arrange the equation in standard form"."""
_BEFORE_VERB = frozenset("please now then first can could would you and".split())
"""Words that may stand before the verb at the beginning of a sentence: "Now please sort"."""
_OBJECTS = frozenset("the these those them it all your".split())
"""Words behind a verb that begin its object: the second "them" of "find them and sort them"."""
_SEQUENTIAL = frozenset(
    "term terms number numbers letter letters element elements value values entries".split()
)
"""Words for the items of a sequence: "the next two terms"."""
_LISTING = frozenset("give list write put place name state enter predict which".split())
"""Words that ask for a list, as the words of `_ASKING_WORDS` also do: "List them in order."."""
_NO_ORDER = ("any order", "either order", "order does not matter", "order doesn't matter")
"""Phrases by which a problem leaves the order open: "in any order"."""
FACTOR = ("factor $", "factor \\(", "factor the ", "factor over ", "factored as ", "factor:")
"""Phrases that ask to factor where they begin a sentence or follow a word of `BEFORE_FACTOR`: "Factor $x^2-1$."."""
BEFORE_FACTOR = ("to", "completely", "and", "then", "be", "please")
"""Words behind which a phrase of `FACTOR` asks to factor: "please factor the", not "by a factor of"."""
POINTS = (
    "ordered pair",
    "ordered triple",
    "coordinates",
    "(x,y)",
    "(x, y)",
    "vector",
    "the point",
    "vertex",
    "midpoint",
)
"""Phrases by which a problem asks for a point, so that (2, 5) is no interval."""
INTERVALS = tuple(
    "interval|domain|range|inequalit|all values of|all real values|solution set|values of $|satisf|for which|\\le|"
    "\\ge".split("|")
)
"""Phrases by which a problem asks for an interval, so that (2, 5) is no point."""
ASKING = tuple(
    "find,value of,values of,compute,evaluate,determine,calculate,simplify,expression,what is".split(",")
)
"""Phrases right before the formula that is asked for: "Find $x + y$."."""
_ASKING_WORDS = frozenset("find what compute determine calculate evaluate".split())
"""Words that begin a question: "What is the area of the circle?"."""
_DIMENSIONS = {
    **dict.fromkeys("length perimeter circumference radius diameter height width distance".split(), 1),
    "area": 2,
    "volume": 3,
}
"""{a measure: its dimension}: "find the area" asks for a value in square units."""
_ASIDE = frozenset(
    "is the total are its their side of surface lateral exact greatest least maximum minimum largest smallest shortest "
    "longest possible combined approximate shaded in cubic square inches feet meters centimeters units".split()
)
"""Words that may stand between "find" and what is to be found."""
WITHOUT_PERCENT = ("fraction", "common fraction", "decimal")
"""Notations that a problem asks for, in which an answer has no per cent sign."""
_LENGTHS = frozenset(
    "perimeter circumference length lengths radius diameter height width distance area volume".split()
)
"""Words by which a problem speaks of a length: "its perimeter"."""
_ANGLES = frozenset(
    "circ angle angles arc rotation rotated triangle polygon parallel temperature "
    "asin acos atan arcsin arccos".split()
)
"""Words by which a problem speaks of an angle: "the triangle"."""
KIND_WORDS = {
    "mm": _LENGTHS
    | frozenset(
        "long longer far farther tall taller high higher deep deeper wide wider thick thickness depth "
        "dimension dimensions side sides edge edges hypotenuse segment square cube".split()
    ),
    "degree": _ANGLES,
    "radian": _ANGLES,
    "second": frozenset("time long old age when clock".split()),
    "cent": frozenset(
        "cost costs price prices pay pays paid earn earns earned money spend spends bill worth win profit salary wage "
        "savings save saves tax value charge fee income discount".split()
    ),
}
"""{a unit, which stands for all of its kind: the words by which a problem speaks of such a quantity}."""
RATIO_WORDS = frozenset("ratio ratios proportion proportions odds scale".split())
"""Words by which a problem asks for a ratio, where 14:30 is no time."""
TIME_WORDS = frozenset(
    "time clock watch o'clock noon midnight morning afternoon evening am pm hour hours minute minutes".split()
)
"""Words by which a problem asks for a time. If it also asks for a ratio, 10:20 is the ratio."""
_PLURAL = {
    *"feet cm mm km ft mph kg".split(),
    *(spelling for spelling in units.UNITS if spelling.endswith("s") and len(spelling) > 2),
}
"""Names of units as a problem asks for them, in the plural or short: "how many feet", "in cm"."""
_NO_UNIT = frozenset("percents percent percentage in second".split())
"""Names of units that mostly mean something else in a problem: "in" is inch only in "5 in"."""
# {character: the text in its place}: marks of mathematics are left out, and marks of a sentence become words.
_MARKS = str.maketrans({**dict.fromkeys("$\\{}()~*", " "), **{mark: f" {mark} " for mark in ".,?;:-"}})


def words_of(text: str) -> list[str]:
    """The words of a text in lower case, without the marks of mathematics; each mark of a sentence is a word."""
    return text.translate(_MARKS).split()


def asks_for_ratio(words: Sequence[str]) -> bool:
    """True for a problem that asks for a ratio or a scale, or has one in letters, a:b. Its 14:30 is then no time."""
    if not RATIO_WORDS.isdisjoint(words):
        return True
    around_colons = [
        (before, behind)
        for before, mark, behind in zip(words, words[1:], words[2:], strict=False)
        if mark == ":"
    ]
    return any(is_letter(before) and is_letter(behind) for before, behind in around_colons)


def is_letter(word: str) -> bool:
    return len(word) == 1 and word.isalpha()


def asks_for_time(words: Sequence[str]) -> bool:
    """True for a problem in which 10:20 is a time and no ratio."""
    return not TIME_WORDS.isdisjoint(words) and not asks_for_ratio(words)


def asks_for_order(lower: str) -> bool:
    """True for a problem that asks to sort a list or to continue one: "Rank them, largest first", "the next two terms".

    False where these words mean something else: "in order to win", "in that order", "of rank 2". `lower`: its text in
    lower case.
    """
    if any(phrase in lower for phrase in _NO_ORDER):
        return False
    return any(sentence_asks_for_order(words_of(sentence)) for sentence in sentences_of(lower))


def sentences_of(text: str) -> list[str]:
    """The sentences of a text. A sentence also ends where its line does, at a colon and at a semicolon."""
    for mark in "?!:;":
        text = text.replace(mark, ". ")
    return [sentence for line in text.splitlines() for sentence in line.split(". ")]


def sentence_asks_for_order(words: Sequence[str]) -> bool:
    """`asks_for_order` for the words of one sentence."""
    begin = next((k for k, word in enumerate(words) if word not in _BEFORE_VERB), 0)
    if begin < len(words) and words[begin] in ORDERING:
        return _NO_LISTS.isdisjoint(words[begin + 1 : begin + 4])
    asks = False
    padded = ["", *words, "", ""]  # so that each word has one before it and two behind it
    for before, word, following, next_but_one in zip(padded, words, padded[2:], padded[3:], strict=False):
        if word in _ASKING_WORDS or word in _LISTING:
            asks = True
        if word in ORDERING and before in ("and", "then") and following in _OBJECTS:
            return True  # find them and sort them
        if word == "first" and is_superlative(before) and following in ("", ",", "and", "then"):
            return True  # largest first
        if word == "to" and is_superlative(before) and is_superlative(following):
            return True  # from least to greatest
        if asks and word == "order" and before == "in" and following not in ("to", "that", "for"):
            return True  # list them in order
        is_count = following == "few" or following.isdigit() or following in NUMBER_WORDS
        if asks and word in ("next", "first") and is_count and next_but_one in _SEQUENTIAL:
            return True  # what are the next two terms
    return False


def is_superlative(word: str) -> bool:
    """True for "most", "least", and any other word of five letters or more in -est: "largest".

    "interest" does no harm, since an order is asked for only by two such words around "to", or by one before "first".
    """
    return word in ("most", "least") or (word.endswith("est") and len(word) > 4)


def units_in(words: Sequence[str]) -> tuple[set[str], set[str]]:
    """(the units that a problem asks for, all units that it mentions). "How many feet" and "in feet" ask for feet."""
    asked_units, mentioned = set(), set()
    for k, word in enumerate(words):
        if word in units.UNITS and len(word) > 1 and word not in _NO_UNIT:
            full_name = national_currency(units.UNITS[word], words[:k])
            name, _, _ = full_name.partition(" ")  # the mile of "mile / hour"
            mentioned.add(name)
        unit, words_behind = None, words[k + 1 : k + 6]
        if word == "many" and words[k - 1] == "how":
            unit = unit_at(words_behind, skip=2)
        elif word in ("in", "to"):
            unit = unit_at(words_behind, skip=0)
        if unit:
            asked_units.add(unit)
    return asked_units, mentioned


def has_number_with_unit(words: Sequence[str]) -> bool:
    """True if a unit stands behind a number: the volts of "12 volts", the kg of "2 kg"."""
    behind_numbers = [
        word for before, word in pairwise(words) if before[-1].isdigit() and word not in _NO_UNIT
    ]
    return any(units.is_in_symbols(word) or units.has_unit_name([word]) for word in behind_numbers)


def unit_at(words: Sequence[str], skip: int) -> str | None:
    """The first unit among some words, with at most `skip` other words before it: "foot^2" for "square feet".

    None if there is no such unit.
    """
    begins_with_nation = len(words) > 1 and words[0] in NATIONS and words[1] == "dollars"
    words_before = skip + 1 if begins_with_nation else skip  # "Canadian" is part of the unit
    for k in range(min(words_before + 1, len(words))):
        has_power = words[k] in units.POWERS and k + 1 < len(words)  # "square"
        at = k + 1 if has_power else k
        name = words[at]
        if name in _NO_UNIT or name not in units.UNITS or name not in _PLURAL:
            continue
        unit = units.canonical_unit([*words[k:at], name])
        return national_currency(unit, words[:at]) if unit else unit
    return None


def national_currency(unit: str, before: Sequence[str]) -> str:
    """The currency for dollars with the words `before` them: "cad" for "Canadian dollars"; any other unit as it is."""
    return NATIONS.get(before[-1], unit) if unit == "dollar" and before else unit


def dimension_in(words: Sequence[str]) -> int:
    """1, 2 or 3 if the last question asks for a length, an area ("find the area") or a volume; else 0."""
    dimension = 0
    for k, word in enumerate(words):
        if word not in _ASKING_WORDS:
            continue
        dimension = 0  # the last question counts
        for following in words[k + 1 : k + 7]:
            if following in _DIMENSIONS:
                dimension = _DIMENSIONS[following]
            if following in _DIMENSIONS or following not in _ASIDE:
                break
    return dimension


def base_in(words: Sequence[str]) -> str:
    """The digits of the last base that is named, "8" for "in base 8" and "in base eight"; "" if none is."""
    base, padded = "", [*words, "", ""]
    for k, word in enumerate(words):
        if word == "base":
            following = padded[k + 2] if padded[k + 1] == "-" else padded[k + 1]
            number = str(NUMBER_WORDS.get(following, following))
            base = number if number.isdigit() else base
    return base


def nouns_in(words: Sequence[str]) -> Iterator[str]:
    """The five words behind each "which" and "what". One of them names what is asked for: "Which property is it?"."""
    for k, word in enumerate(words):
        if word in ("which", "what"):
            yield from words[k + 1 : k + 6]
