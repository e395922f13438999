"""Units behind a number: the spellings of each, its one name, and how units of one kind are converted.

For texts such as "15 square centimeters", which is "cm^2", and "120 minutes" for 2 hours. Money is in `amounts`. A unit
that is not here is a noun, which says what is counted and changes no value.
"""

from __future__ import annotations

from collections.abc import Sequence

from verifiers.reading.amounts import CODES, NAMES, currencies_of

_SPELLINGS = {  # {unit: its spellings in any case}; an s may follow those of three letters or more
    "degree": "deg degree", "percent": "percent percentage % pct", "degree celsius": "celsius centigrade",
    "degree fahrenheit": "fahrenheit", "radian": "rad radian", "kelvin": "kelvin",
    "nm": "nm nanometer nanometre", "mm": "mm millimeter millimetre", "cm": "cm cms centimeter centimetre",
    "m": "m meter metre", "km": "km kms kilometer kilometre", "inch": "in inch inches", "foot": "ft foot feet",
    "yard": "yd yds yard", "mile": "mi mile", "mile / hour": "mph", "km / hour": "kmh kph",
    "second": "s sec second", "minute": "min minute", "hour": "h hr hrs hour", "day": "day", "week": "week",
    "month": "month", "year": "yr yrs year", "decade": "decade", "century": "century centuries",
    "mg": "mg milligram", "g": "g gm gram", "kg": "kg kgs kilogram", "tonne": "tonne",
    "ounce": "oz ounce", "pound": "lb lbs pound", "ton": "tons", "acre": "acre", "hectare": "hectare",
    "ml": "ml milliliter millilitre", "l": "l liter litre", "teaspoon": "teaspoon tsp",
    "tablespoon": "tablespoon tbsp", "cup": "cup", "pint": "pint", "quart": "qt quart", "gallon": "gal gallon",
    "kilobyte": "kb kilobyte", "megabyte": "mb megabyte", "gigabyte": "gb gigabyte", "terabyte": "tb terabyte",
    **{name: name for name in "watt volt ampere ohm joule newton pascal calorie mole hertz".split()},
    "m^2": "sqm", "foot^2": "sqft", "/": "/ per",
    "unit": "unit total each",  # left out, unless with a power: square units
}  # fmt: skip
_SCALES: tuple[dict[str, int], ...] = (  # one for each kind of units: {unit: its size}
    {"second": 1, "minute": 60, "hour": 3600, "day": 86400, "week": 604800},
    {"mm": 10**6, "nm": 1, "cm": 10**7, "m": 10**9, "km": 10**12, "inch": 254 * 10**5, "foot": 3048 * 10**5,
     "yard": 9144 * 10**5, "mile": 16093440 * 10**5},
    {"mg": 1, "g": 10**3, "kg": 10**6, "tonne": 10**9},
    {"ounce": 1, "pound": 16, "ton": 32000},
    {"cent": 1, "dollar": 100, "usd": 100},
    {"cent": 1, "euro": 100},
    {"pence": 1, "sterling": 100},
    {"pence": 1, "pound": 100},  # apart from sterling, since a pound may be a weight
    {"ml": 1, "l": 1000},
    {"teaspoon": 1, "tablespoon": 3, "cup": 48, "pint": 96, "quart": 192, "gallon": 768},
    {"month": 1, "year": 12, "decade": 120, "century": 1200},
)  # fmt: skip
_SPELLED = {
    spelling + plural: unit
    for unit, spellings in _SPELLINGS.items()
    for spelling in spellings.split()
    for plural in (("", "s") if len(spelling) > 2 and not spelling.endswith("s") else ("",))
}
UNITS = NAMES | _SPELLED
"""{spelling in lower case: the name of its unit}: "metres" is "m", "$" is "dollar"."""
# Parts of the names of known units: "mile" and "/" of "mile / hour".
_KNOWN_PARTS = frozenset(part for unit in (*_SPELLINGS, *NAMES.values()) for part in unit.split())
POWERS = {"square": "^2", "sq": "^2", "squared": "^2", "cubic": "^3", "cubed": "^3"}
"""{word beside a unit: the power that it gives to the unit}: "square cm" is "cm^2"."""
ORDINALS = frozenset("st nd rd th".split())
"""Endings of a number that say a place in an order and do not change its value: 12th is 12."""
DEGREE_LETTERS = {"C": "celsius", "F": "fahrenheit"}
"""{letter behind degrees: its scale of temperature}: 5°C is in degrees celsius."""
TEMPERATURES = frozenset(["degree", "degree celsius", "degree fahrenheit"])
"""Units in degrees of some scale, or of none that is told: "20 degrees" may be "20 degrees celsius"."""
UNIT_LETTERS = frozenset("m s h g l L".split())
r"""Letters that are units even without `\text`: m in 5 m."""
SMALL_CHANGE = frozenset(["cent", "pence"])
"""Small units of money. A problem may mention them although it asks for larger ones, such as dollars."""
UNIT_WORDS = (frozenset(UNITS) - frozenset("%$msghl") - {"min", "mins", "cup"} - (CODES - {"usd"})) | {
    *POWERS,
    "of",
}
"""Runs of letters that are always one word, and never a product of variables: "cm", "square", but not EUR or m."""


def canonical_unit(words: Sequence[str]) -> str | None:
    """The one name of a unit that was read as words and exponents: "cm^2" for ["square", "centimeters"].

    None if a power belongs to no unit, ["squared"] of "5 squared".
    """
    names: list[str] = []
    power = ""  # ^2 once "square" was read, until its unit comes
    for word in " ".join(words).lower().replace("per cent", "percent").split():
        if word == "of" and names and names[-1] != "/" and is_known(names[-1]):
            break  # cups of sugar
        if word in POWERS or word[0] == "^":
            power = POWERS.get(word, word)
            if names and names[-1] != "/":  # the power stands behind its unit
                names[-1] += "" if power == "^1" else power
                power = ""
        elif word not in ORDINALS:
            names.append(UNITS.get(word, word) + power)
            power = ""
    if names[:1] == ["/"]:
        names.insert(0, "")  # 5/hour, where nobody says what is counted
    unit = " ".join(name for name in names if name != "unit")
    return None if power else unit.replace("degree degree", "degree")


def conflict(answer: str, gold: str) -> bool:
    """True if both units are known and differ: cm and m. Not for degrees and degrees celsius, dollars and USD.

    A rate may lack what it counts: 5/hour for 5 miles/hour.
    """
    above, per, below = answer.partition(" / ")
    gold_above, gold_per, gold_below = gold.partition(" / ")
    if per and gold_per:
        return conflict(above, gold_above) or conflict(below, gold_below)
    if not answer or not gold or answer == gold or not (is_known(answer) and is_known(gold)):
        return False
    if (per or gold_per) and (is_money(above) or is_money(gold_above)):
        return conflict(above, gold_above)  # a rate of money may lack what is paid for: $5 for $5/hour
    may_be_one_scale = "degree" in (answer, gold) and {answer, gold} <= TEMPERATURES
    return not (may_be_one_scale or currencies_of(answer) & currencies_of(gold))


def conversion(unit: str, other: str) -> tuple[int, int] | None:
    """(n, d) where one `unit` is n/d of `other`: (60, 1) up to a common factor for hour and minute.

    None for units of different kinds.
    """
    above, per, below = unit.partition(" / ")
    other_above, other_per, other_below = other.partition(" / ")
    if per and other_per:  # 60 miles / hour as 88 feet / second
        of_above, of_below = conversion(above, other_above), conversion(below, other_below)
        return (of_above[0] * of_below[1], of_above[1] * of_below[0]) if of_above and of_below else None
    unit, _, power = unit.partition("^")
    other, _, other_power = other.partition("^")
    if power == other_power and power in ("", "2", "3"):
        for scale in _SCALES:
            if unit in scale and other in scale:
                return scale[unit] ** int(power or 1), scale[other] ** int(power or 1)
    return None


def kind_of(unit: str) -> str:
    """The first unit of a unit's scale, which stands for its kind: "mm" for km; the unit itself if it has no scale."""
    name = unit.partition("^")[0].partition(" ")[0]
    return next((next(iter(scale)) for scale in _SCALES if name in scale), name)


def is_money(unit: str) -> bool:
    """True for a unit that can only be money: dollars, but not pounds, which may be a weight."""
    return currencies_of(unit) > 0 and unit not in _SPELLINGS


def is_known(unit: str) -> bool:
    """True if every part of a unit is in the tables: "mile / hour", but not "apples"."""
    return all(part.partition("^")[0] in _KNOWN_PARTS for part in unit.split())
