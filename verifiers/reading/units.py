"""Units behind a number: the spellings of each, its one name, and how units of one kind are converted.

For texts such as "15 square centimeters", which is "cm^2", and "120 minutes" for 2 hours. Money is in `amounts`. A unit
that is not here is a noun, which says what is counted and changes no value.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from verifiers.reading.amounts import CODES, NAMES, currencies_of

_SPELLINGS = {  # {unit: its spellings in any case}; an s may follow those of three letters or more
    "degree": "deg degree", "percent": "percent percentage % pct", "degree celsius": "celsius centigrade",
    "degree fahrenheit": "fahrenheit", "radian": "rad radian",
    "nm": "nm", "mm": "mm", "cm": "cm cms", "m": "m", "km": "km kms", "inch": "in inch inches", "foot": "ft foot feet",
    "yard": "yd yds yard", "mile": "mi mile", "mile / hour": "mph", "km / hour": "kmh kph",
    "second": "s sec", "minute": "min minute", "hour": "h hr hrs hour", "day": "day", "week": "week",
    "month": "month", "year": "yr yrs year", "decade": "decade", "century": "century centuries",
    "mg": "mg", "g": "g gm", "kg": "kg kgs", "tonne": "tonne",
    "ounce": "oz ounce", "pound": "lb lbs pound", "ton": "tons", "acre": "acre", "hectare": "hectare",
    "ml": "ml", "l": "l", "teaspoon": "teaspoon tsp",
    "tablespoon": "tablespoon tbsp", "cup": "cup", "pint": "pint", "quart": "qt quart", "gallon": "gal gallon",
    "pound / inch^2": "psi", "atmosphere": "atm atmosphere", "torr": "torr mmhg", "knot": "knot",
    "horsepower": "hp horsepower", "m^2": "sqm", "foot^2": "sqft", "/": "/ per",
    "unit": "unit total each",  # left out, unless with a power: square units
}  # fmt: skip
_PREFIXES = {
    "p": ("pico", -12), "n": ("nano", -9), "u": ("micro", -6), "m": ("milli", -3), "c": ("centi", -2),
    "d": ("deci", -1), "k": ("kilo", 3), "M": ("mega", 6), "G": ("giga", 9), "T": ("tera", 12),
}  # fmt: skip
"""{letter of a prefix: its word, its power of ten}."""
_METRIC = {
    "m": ("meter metre", "m", "numcdk"), "g": ("gram gramme", "g", "numk"), "l": ("liter litre", "l L", "umcd"),
    "second": ("second", "s", "pnum"), "watt": ("watt", "W", "umkMGT"), "volt": ("volt", "V", "umkM"),
    "ampere": ("ampere amp", "A", "numk"), "ohm": ("ohm", "ohm", "mkM"), "hertz": ("hertz", "Hz", "mkMGT"),
    "joule": ("joule", "J", "umkMG"), "newton": ("newton", "N", "mk"), "pascal": ("pascal", "Pa", "kMG"),
    "bar": ("bar", "bar", "m"), "mole": ("mole", "mol", "num"), "watt-hour": ("watt-hour", "Wh", "mkMGT"),
    "calorie": ("calorie", "cal", "k"), "electronvolt": ("electronvolt", "eV", "kMGT"),
    "byte": ("byte", "B", "kMGT"), "bit": ("bit", "bit", "kMGT"), "kelvin": ("kelvin", "K", "m"),
}  # fmt: skip
"""{unit that takes prefixes: its words, its symbols, the letters of prefixes that may stand before a symbol}."""


def _with_prefix(letter: str, unit: str) -> str:
    """The name of a unit with a prefix: "mm" for m, "kWh" for watt-hour."""
    return letter + _METRIC[unit][1].split()[0]


SYMBOLS = {
    "C": "degree celsius",
    "F": "degree fahrenheit",
    "KB": "kB",
    "hz": "hertz",
    "kw": "kW",
    "kwh": "kWh",
}
"""{symbol behind a number: its unit}, in which capitals count: "mW" is a milliwatt, and "MW" a megawatt."""
_SPELLED = {spelling: unit for unit, spellings in _SPELLINGS.items() for spelling in spellings.split()}
for _unit, (_words, _symbols, _letters) in _METRIC.items():
    SYMBOLS |= dict.fromkeys(_symbols.split(), _unit)
    SYMBOLS |= {k + symbol: _with_prefix(k, _unit) for k in _letters for symbol in _symbols.split()}
    _SPELLED |= dict.fromkeys(_words.split(), _unit)
    _SPELLED |= {
        prefix + word: _with_prefix(k, _unit)
        for k, (prefix, _) in _PREFIXES.items()
        for word in _words.split()
    }
SYMBOLS |= {spelling: _SPELLED[spelling] for spelling in ("psi", "atm", "hp", "amp")} | {"mmHg": "torr"}
_SPELLED |= {
    f"{spelling}s": unit
    for spelling, unit in _SPELLED.items()
    if len(spelling) > 2 and not spelling.endswith("s")
}
_SCALES: tuple[dict[str, Fraction | int], ...] = (  # one for each kind of units: {unit: its size}
    {"second": 1, "minute": 60, "hour": 3600, "day": 86400, "week": 604800},
    {"mm": Fraction(1, 1000), "m": 1, "inch": Fraction(254, 10000), "foot": Fraction(3048, 10000),
     "yard": Fraction(9144, 10000), "mile": Fraction(16093440, 10000)},
    {"g": 1, "tonne": 10**6},
    {"ounce": 1, "pound": 16, "ton": 32000},
    {"cent": 1, "dollar": 100, "usd": 100},
    {"cent": 1, "euro": 100},
    {"pence": 1, "sterling": 100},
    {"pence": 1, "pound": 100},  # apart from sterling, since a pound may be a weight
    {"l": 1},
    {"teaspoon": 1, "tablespoon": 3, "cup": 48, "pint": 96, "quart": 192, "gallon": 768},
    {"month": 1, "year": 12, "decade": 120, "century": 1200},
    {"joule": 1, "watt-hour": 3600},
    {"pascal": 1, "bar": 10**5},
    *({unit: 1} for unit in "watt volt ampere ohm hertz newton mole calorie electronvolt byte bit".split()),
)  # fmt: skip
for _scale in _SCALES:
    _scale |= {
        _with_prefix(k, unit): size * Fraction(10) ** power
        for unit, size in _scale.items()
        if unit in _METRIC
        for k, (_, power) in _PREFIXES.items()
    }
_LENGTHS = frozenset(_SCALES[1])
UNITS = NAMES | _SPELLED
"""{spelling in lower case: the name of its unit}: "metres" is "m", "$" is "dollar"."""
# Parts of the names of known units: "mile" and "/" of "mile / hour".
_KNOWN_PARTS = frozenset(part for unit in (*UNITS.values(), *SYMBOLS.values()) for part in unit.split())
POWERS = {"square": "^2", "sq": "^2", "squared": "^2", "cubic": "^3", "cubed": "^3"}
"""{word beside a unit: the power that it gives to the unit}: "square cm" is "cm^2"."""
ORDINALS = frozenset("st nd rd th".split())
"""Endings of a number that say a place in an order and do not change its value: 12th is 12."""
DEGREE_LETTERS = {"C": "celsius", "F": "fahrenheit"}
"""{letter behind degrees: its scale of temperature}: 5°C is in degrees celsius."""
TEMPERATURES = frozenset(["degree", "degree celsius", "degree fahrenheit"])
"""Units in degrees of some scale, or of none that is told: "20 degrees" may be "20 degrees celsius"."""
UNIT_LETTERS = frozenset("m s h g l L".split())
r"""Letters that are units even without `\text`: m in 5 m. N, V, A and the like are more often variables."""
SMALL_CHANGE = frozenset(["cent", "pence"])
"""Small units of money. A problem may mention them although it asks for larger ones, such as dollars."""
_NOT_ALWAYS_UNITS = frozenset("min mins cup bar bit amp ohm atm hp psi".split())
UNIT_WORDS = (frozenset(UNITS) - frozenset("%$msghl") - _NOT_ALWAYS_UNITS - (CODES - {"usd"})) | {
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
    symbols = " ".join(words).replace("per cent", "percent").replace("watt hour", "watt-hour").split()
    for place, symbol in enumerate(symbols):
        word, following = symbol.lower(), symbols[place + 1 : place + 2]
        begins_phrase = word == "of" or (
            word == "in" and following and UNITS.get(following[0], "unit") == "unit"
        )
        is_total = word == "in" and following and following[0].lower() in ("total", "all")
        if is_total or (begins_phrase and names and names[-1] != "/" and is_known(names[-1])):
            break  # cups of sugar, km in total
        if word in POWERS or word[0] == "^":
            power = POWERS.get(word, word)
            if names and names[-1] != "/":  # the power stands behind its unit
                names[-1] += "" if power == "^1" else power
                power = ""
        elif word not in ORDINALS:
            names.append((SYMBOLS.get(symbol) or UNITS.get(word, word)) + power)
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
    """(n, d) where one `unit` is n/d of `other`: (60, 1) for hour and minute.

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
                return ((Fraction(scale[unit]) / scale[other]) ** int(power or 1)).as_integer_ratio()
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


def takes_power(unit: str, is_below: bool) -> bool:
    """True for a unit behind which a 2 or 3 is its power: a length, the m of 5 m2; below a slash also the s of m/s2."""
    name = UNITS.get(unit, "")
    return name in _LENGTHS or (is_below and name == "second")
