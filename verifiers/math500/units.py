"""Words of answers: units and their spellings, and the words that change a value and so may not be skipped."""

from __future__ import annotations

from collections.abc import Iterable

_SPELLINGS = {
    "degree": "deg degs degree degrees",
    "percent": "percent percents percentage % pct",
    "dollar": "dollar dollars usd $ buck bucks",
    "euro": "euro euros",
    "cent": "cent cents",
    "mm": "mm millimeter millimeters millimetre millimetres",
    "cm": "cm cms centimeter centimeters centimetre centimetres",
    "km": "km kms kilometer kilometers kilometre kilometres",
    "m": "m meter meters metre metres",
    "inch": "in inch inches",
    "foot": "ft foot feet",
    "yard": "yd yds yard yards",
    "mile": "mi mile miles",
    "mile / hour": "mph",
    "km / hour": "kmh kph",
    "second": "s sec secs second seconds",
    "minute": "min mins minute minutes",
    "hour": "h hr hrs hour hours",
    "day": "day days",
    "week": "week weeks",
    "month": "month months",
    "year": "yr yrs year years",
    "g": "g gram grams gm",
    "mg": "mg milligram milligrams",
    "kg": "kg kgs kilogram kilograms",
    "pound": "lb lbs pound pounds",
    "ounce": "oz ounce ounces",
    "ml": "ml milliliter milliliters millilitre millilitres",
    "l": "l liter liters litre litres",
    "gallon": "gal gallon gallons",
    "radian": "rad radian radians",
}
SCALES_OF_UNITS = (
    {"second": 1, "minute": 60, "hour": 3600, "day": 86400, "week": 604800},
    {"mm": 1, "cm": 10, "m": 1000, "km": 10**6},
    {"inch": 1, "foot": 12, "yard": 36, "mile": 63360},
    {"mg": 1, "g": 1000, "kg": 10**6},
    {"ounce": 1, "pound": 16},
    {"cent": 1, "dollar": 100},
    {"ml": 1, "l": 1000},
)
UNITS = {spelling: unit for unit, spellings in _SPELLINGS.items() for spelling in spellings.split()}
KNOWN_PARTS = frozenset(part for unit in _SPELLINGS for part in unit.split()) | {"/"}
_POWERS = {"square": "^2", "sq": "^2", "squared": "^2", "cubic": "^3", "cubed": "^3"}
GENERIC = frozenset({"unit", "units", "total", "each", "of"})
UNIT_LETTERS = frozenset("m s h g l L".split())

# Words that say another number is meant than the one beside them, or none: before it (as in "the square of 5") ...
NEGATING = frozenset(  # ... also of the thing that "is 5"
    "not no non never none nor neither incorrect wrong false unknown impossible cannot except excluding instead "
    "fail fails unless if doubt suppose maybe perhaps possibly probably would could might approximately "
    "approximate approx roughly nearly almost estimated twice half double triple thrice negative opposite minus "
    "undefined infinite infinity imaginary".split()
)
CHANGING = NEGATING | frozenset(
    "less more greater fewer smaller larger bigger than least most about around between over under above below plus "
    "positive third quarter dozen dozens hundred hundreds thousand thousands million millions billion billions "
    "trillion lakh crore up down through either but within until after before".split()
)
CHANGING_BEFORE = CHANGING | frozenset(
    "times multiple multiples square squares squared cube cubes cubed root roots factor factors power powers divisor "
    "divisors inverse reciprocal factorial logarithm log sine cosine tangent divisible divided multiplied added "
    "subtracted modulo percent percentage fraction digit digits prime only some without one any".split()
)
SHORT_WORDS = frozenset("we so to be of on an as at by he it if my do us up am go".split())
_NUMERAL_PARTS = frozenset(
    "tenth tenths hundredth hundredths thousandth thousandths halves thirds fourth fourths quarters fifth fifths sixth "
    "sixths seventh sevenths eighth eighths ninth ninths".split()
)
_UP_TO_NINETEEN = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
)
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety"
SCALES = {
    "dozen": 12,
    "hundred": 100,
    "thousand": 10**3,
    "million": 10**6,
    "billion": 10**9,
    "trillion": 10**12,
}
NUMBER_WORDS = {word: number for number, word in enumerate(_UP_TO_NINETEEN.split())}
NUMBER_WORDS |= {word: 10 * number for number, word in enumerate(_TENS.split(), 2)}
SPELLED = NUMBER_WORDS | SCALES  # a dozen
CHANGING_BEHIND = (  # ... and behind it
    CHANGING
    | (SHORT_WORDS - {"of", "on", "at"})
    | _NUMERAL_PARTS
    | frozenset(NUMBER_WORDS)
    | frozenset(
        "doubled tripled quadrupled halved reciprocal reciprocals inverse tens quadrillion itself".split()
    )
    | frozenset("pi factorial root roots choose mod modulo power score pair pairs gross".split())
)
JOINING = frozenset({"and", "or"})
IS = frozenset("is are was equals".split())
ORDINALS = frozenset("st nd rd th".split())
KNOWN_WORDS = (
    (frozenset(UNITS) - frozenset("%$msghl") - {"min"}) | GENERIC | {*_POWERS} | JOINING | {"is", "no", "per"}
)
ABBREVIATED = frozenset(
    "sq cu ft in yd mi oz lb lbs sec min hr hrs approx jan feb mar apr jun jul aug sept oct nov dec".split()
)
REAL_WORDS = frozenset("all the set of every any real reals numbers number".split())
MONTHS = {
    spelling: number
    for number, names in enumerate(
        "january jan,february feb,march mar,april apr,may,june jun,july jul,august aug,september sept sep,october oct,"
        "november nov,december dec".split(",")
    )
    for spelling in names.split()
}


def canonical_unit(words: list[str]) -> str | None:
    """One spelling for a unit read from its words and exponents, e.g. ["square", "centimeters"] -> "cm^2".

    None where a power belongs to no unit: "5 squared".
    """
    names: list[str] = []
    power, named = "", False
    for word in words:
        lower = word.lower()
        if lower in _POWERS or word[0] == "^":
            power = _POWERS.get(lower, word)
            if named:  # it stands behind its unit
                names[-1:] = [names[-1] + power] if names and power != "^1" else names[-1:]
                power = ""
        elif lower in ("per", "/"):
            names.append("/")
            named = False
        elif lower in GENERIC:
            named, power = True, ""
        elif lower not in ORDINALS:
            names.append(UNITS.get(lower, lower) + power)
            named, power = True, ""
    return None if power else " ".join(names)


def conflict(answer: str, gold: str) -> bool:
    """True if both units are known and say different things."""
    return bool(answer and gold and answer != gold and is_known(answer) and is_known(gold))


def conversion(unit: str, other: str) -> tuple[int, int] | None:
    """(numerator, denominator) of how many of the other unit one of this is; None for units of different kinds."""
    for scale in SCALES_OF_UNITS:
        if unit in scale and other in scale:
            return scale[unit], scale[other]
    return None


def is_known(unit: str) -> bool:
    """True if every part of a unit is in the table."""
    return all(part.partition("^")[0] in KNOWN_PARTS for part in unit.split())


def is_reals(words: Iterable[str]) -> bool:
    """True for "all real numbers" in other words, too."""
    lower = {word.lower() for word in words}
    return lower <= REAL_WORDS and not lower.isdisjoint(("real", "reals"))
