"""Units of answers: their spellings, one name for each, and how they are converted.

For texts such as "15 square centimeters", which is "cm^2", and "120 minutes" for 2 hours.
"""

from __future__ import annotations

from collections.abc import Sequence

from verifiers.amounts import CODES, NAMES, currencies_of
from verifiers.math500.read.words import JOINING, ORDINALS

_SPELLINGS = {
    "degree": "deg degs degree degrees",
    "percent": "percent percents percentage % pct",
    "celsius": "celsius centigrade",
    "fahrenheit": "fahrenheit",
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
    "quart": "qt quart quarts",
    "pint": "pint pints",
    "cup": "cup cups",
    "tablespoon": "tablespoon tablespoons tbsp",
    "teaspoon": "teaspoon teaspoons tsp",
    "pascal": "pascal pascals pa",
    "kpa": "kpa kilopascal kilopascals",
    "radian": "rad radian radians",
    "kelvin": "kelvin kelvins",
    "watt": "watt watts",
    "milliwatt": "milliwatt milliwatts",
    "kilowatt": "kilowatt kilowatts",
    "megawatt": "megawatt megawatts",
    "gigawatt": "gigawatt gigawatts",
    "volt": "volt volts",
    "millivolt": "millivolt millivolts",
    "kilovolt": "kilovolt kilovolts",
    "megavolt": "megavolt megavolts",
    "ampere": "amps ampere amperes",
    "milliampere": "milliamp milliamps milliampere milliamperes",
    "ohm": "ohms",
    "hertz": "hertz",
    "kilohertz": "kilohertz",
    "megahertz": "megahertz",
    "gigahertz": "gigahertz",
    "joule": "joule joules",
    "kilojoule": "kilojoule kilojoules",
    "millijoule": "millijoule millijoules",
    "megajoule": "megajoule megajoules",
    "watt-hour": "watt-hour watt-hours",
    "kilowatt-hour": "kilowatt-hour kilowatt-hours",
    "calorie": "calorie calories",
    "kilocalorie": "kilocalorie kilocalories",
    "newton": "newton newtons",
    "kilonewton": "kilonewton kilonewtons",
    "mole": "mole moles",
    "byte": "byte bytes",
    "kilobyte": "kilobyte kilobytes",
    "megabyte": "megabyte megabytes",
    "gigabyte": "gigabyte gigabytes",
    "terabyte": "terabyte terabytes",
    "tonne": "tonne tonnes",
    "ton": "tons",
    "acre": "acre acres",
    "hectare": "hectare hectares",
    "knot": "knot knots",
    "decade": "decade decades",
    "century": "century centuries",
    "unit": "unit units total each",  # which say nothing, but with a power
    "/": "/ per",
}
_SYMBOLS = {
    "kelvin": "K",
    "watt": "W",
    "milliwatt": "mW",
    "kilowatt": "kW kw",
    "megawatt": "MW",
    "gigawatt": "GW",
    "volt": "V",
    "kilovolt": "kV",
    "millivolt": "mV",
    "megavolt": "MV",
    "ampere": "A amp",
    "milliampere": "mA",
    "ohm": "ohm",
    "hertz": "Hz hz",
    "kilohertz": "kHz",
    "megahertz": "MHz",
    "gigahertz": "GHz",
    "joule": "J",
    "millijoule": "mJ",
    "kilojoule": "kJ",
    "megajoule": "MJ",
    "watt-hour": "Wh",
    "kilowatt-hour": "kWh kwh",
    "calorie": "cal",
    "kilocalorie": "kcal",
    "newton": "N",
    "kilonewton": "kN",
    "mole": "mol",
    "kilobyte": "kB KB",
    "megabyte": "MB",
    "gigabyte": "GB",
    "terabyte": "TB",
    "ton": "ton",
}
SYMBOLS = {symbol: unit for unit, symbols in _SYMBOLS.items() for symbol in symbols.split()}
"""{spelling: unit} of those that are units right behind a number, and may be letters elsewhere; capitals count."""
_SCALES = (
    {"second": 1, "minute": 60, "hour": 3600, "day": 86400, "week": 604800},
    {"mm": 10, "cm": 100, "m": 10**4, "km": 10**7, "inch": 254, "foot": 3048, "yard": 9144, "mile": 16093440},
    {"mg": 1, "g": 1000, "kg": 10**6, "tonne": 10**9},
    {"ounce": 1, "pound": 16, "ton": 32000},
    {"cent": 1, "dollar": 100, "usd": 100},
    {"ml": 1, "l": 1000},
    {"teaspoon": 1, "tablespoon": 3, "cup": 48, "pint": 96, "quart": 192, "gallon": 768},
    {"pascal": 1, "kpa": 1000},
    {"month": 1, "year": 12, "decade": 120, "century": 1200},
    {"milliwatt": 1, "watt": 1000, "kilowatt": 10**6, "megawatt": 10**9, "gigawatt": 10**12},
    {"millivolt": 1, "volt": 1000, "kilovolt": 10**6, "megavolt": 10**9},
    {"milliampere": 1, "ampere": 1000},
    {"hertz": 1, "kilohertz": 1000, "megahertz": 10**6, "gigahertz": 10**9},
    {
        "millijoule": 1,
        "joule": 10**3,
        "kilojoule": 10**6,
        "megajoule": 10**9,
        "watt-hour": 3600 * 10**3,
        "kilowatt-hour": 3600 * 10**6,
    },
    {"calorie": 1, "kilocalorie": 1000},
    {"newton": 1, "kilonewton": 1000},
)
UNITS = NAMES | {spelling: unit for unit, spellings in _SPELLINGS.items() for spelling in spellings.split()}
_KNOWN_PARTS = frozenset(part for unit in (*_SPELLINGS, *NAMES.values()) for part in unit.split())
POWERS = {"square": "^2", "sq": "^2", "squared": "^2", "cubic": "^3", "cubed": "^3"}
GENERIC = frozenset({"unit", "units", "total", "each", "of"})
TEMPERATURES = frozenset({"degree", *(f"degree {scale}" for scale in ("c", "celsius", "f", "fahrenheit"))})
UNIT_LETTERS = frozenset("m s h g l L".split())
"""Letters that are units without `\\text`. N, V, A and the like are more often variables."""
KNOWN_WORDS = (
    (frozenset(UNITS) - frozenset("%$msghl") - {"min", "cup", "pa"} - (CODES - {"usd"}))
    | GENERIC
    | {*POWERS}
    | JOINING
    | {"is", "no", "per", "yes"}
)
ABBREVIATED = frozenset(
    "sq cu ft in yd mi oz lb lbs sec min hr hrs approx jan feb mar apr jun jul aug sept oct nov dec".split()
)


def canonical_unit(words: Sequence[str]) -> str | None:
    """One spelling for a unit read from its words and exponents, e.g. ["square", "centimeters"] -> "cm^2".

    None where a power belongs to no unit: "5 squared".
    """
    names: list[str] = []
    power, named = "", False
    text = " ".join(SYMBOLS.get(word, word) for word in words).lower()
    for word in text.replace("per cent", "percent").replace("watt hour", "watt-hour").split():
        if word == "of" and names and is_known(names[-1]):
            break  # cups of sugar
        if word in POWERS or word[0] == "^":
            power = POWERS.get(word, word)
            if named:  # it stands behind its unit
                names[-1:] = [(names or ["unit"])[-1] + power] if power != "^1" else names[-1:]
                power = ""
        elif word not in ORDINALS:
            names.append(UNITS.get(word, word) + power)
            named, power = True, ""
    return None if power else " ".join(name for name in names if name != "unit")


def conflict(answer: str, gold: str) -> bool:
    """True if both units are known and say different things; degrees may be those of any scale."""
    if not (answer and gold and answer != gold and is_known(answer) and is_known(gold)):
        return False
    of_scale = "degree" in (answer, gold) and {answer, gold} <= TEMPERATURES
    return not (of_scale or currencies_of(answer) & currencies_of(gold))


def conversion(unit: str, other: str) -> tuple[int, int] | None:
    """(numerator, denominator) of how many of the other unit one of this is; None for units of different kinds."""
    (above, per, below), (other_above, other_per, other_below) = (
        one.partition(" / ") for one in (unit, other)
    )
    if per and other_per:  # 10 m / second as 36 km / hour
        times, parts = conversion(above, other_above), conversion(below, other_below)
        return (times[0] * parts[1], times[1] * parts[0]) if times and parts else None
    unit, _, power = unit.partition("^")
    other, _, other_power = other.partition("^")
    if power != other_power or power not in ("", "2", "3"):
        return None
    for scale in _SCALES:
        if unit in scale and other in scale:
            return scale[unit] ** int(power or 1), scale[other] ** int(power or 1)
    return None


def kind_of(unit: str) -> str:
    """What a unit measures, by the smallest unit of its kind."""
    name = unit.partition("^")[0].partition(" ")[0]
    return next((min(scale, key=scale.get) for scale in _SCALES if name in scale), name)


def is_money(unit: str) -> bool:
    """True for a unit of money; a pound may be a weight."""
    return currencies_of(unit) > 0 and unit not in _SPELLINGS


def power_of(unit: str) -> int:
    """The power of a length that a unit is: 2 for "cm^2" and "unit^2"; 0 for any other."""
    name, _, power = unit.partition("^")
    lengths = (*_SCALES[1], "unit")
    return int(power or 1) if name in lengths and power in ("", "2", "3") else 0


def is_known(unit: str) -> bool:
    """True if every part of a unit is in the table."""
    return all(part.partition("^")[0] in _KNOWN_PARTS for part in unit.split())


_LETTERS = {kind_of(unit): symbol for symbol, unit in SYMBOLS.items() if len(symbol) == 1}


def letter_of(unit: str) -> str:
    """The letter read as a unit where the reference has this unit or one of its kind: W of watts and kW; else ""."""
    return _LETTERS.get(kind_of(unit), "")
