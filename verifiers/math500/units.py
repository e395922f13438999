"""Words of answers: units and their spellings, and the words that change a value and so may not be skipped."""

from __future__ import annotations

_SPELLINGS = {
    "degree": "deg degs degree degrees",
    "percent": "percent percents % pct",
    "dollar": "dollar dollars usd $ buck bucks",
    "cent": "cent cents",
    "mm": "mm millimeter millimeters millimetre millimetres",
    "cm": "cm cms centimeter centimeters centimetre centimetres",
    "km": "km kms kilometer kilometers kilometre kilometres",
    "m": "m meter meters metre metres",
    "inch": "in inch inches",
    "foot": "ft foot feet",
    "yard": "yd yds yard yards",
    "mile": "mi mile miles",
    "mph": "mph",
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
UNITS = {spelling: unit for unit, spellings in _SPELLINGS.items() for spelling in spellings.split()}
GENERIC = frozenset({"unit", "units", "sq", "square", "squared", "cubic", "cubed", "total", "each", "of"})
UNIT_LETTERS = frozenset("m s h g l L".split())

# A word before or after a number that says another number is meant, or none.
CHANGING = frozenset(
    "not no non never none less more greater fewer smaller larger than least most about approximately approx "
    "around nearly almost roughly between over under above below minus plus negative positive times half twice "
    "double triple third quarter dozen dozens hundred hundreds thousand thousands million millions billion "
    "billions trillion up down through either neither both except unless if but "
    "undefined infinite infinity imaginary false wrong unknown impossible cannot".split()
)
JOINING = frozenset({"and", "or"})
KNOWN_WORDS = (frozenset(UNITS) - frozenset("%$msghl") - {"min"}) | JOINING | {"is", "no", "per"}


def canonical_unit(words: list[str]) -> str:
    """One spelling for a unit read from its words and exponents, e.g. ["square", "centimeters"] -> "cm^2"."""
    power = ""
    names: list[str] = []
    for word in words:
        lower = word.lower()
        if lower in ("square", "squared", "sq"):
            power = "^2"
        elif lower in ("cubic", "cubed"):
            power = "^3"
        elif word[0] == "^":
            power = word if word != "^1" else ""
        elif lower not in GENERIC:
            names.append(UNITS.get(lower, lower))
    return " ".join(names) + power if names else ""


def conflict(answer: str, gold: str) -> bool:
    """True if both units are known and say different things."""
    return bool(answer and gold and answer != gold and is_known(answer) and is_known(gold))


def is_known(unit: str) -> bool:
    """True if every part of a unit is in the table."""
    return all(part.partition("^")[0] in _SPELLINGS for part in unit.split())
