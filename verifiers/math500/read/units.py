"""Units of answers: the spellings of each, its one name, and how units are converted.

For texts such as "15 square centimeters", which is "cm^2", and "120 minutes" for 2 hours.
"""

from __future__ import annotations

from collections.abc import Sequence

from verifiers.amounts import CODES, NAMES, currencies_of
from verifiers.math500.read.metric import BASES, SMALLEST_POWER, prefixed
from verifiers.math500.read.words import JOINING, ORDINALS

_SPELLINGS = {  # {name of a unit: its spellings in any case}
    "degree": "deg degs degree degrees",
    "percent": "percent percents percentage % pct",
    "degree celsius": "celsius centigrade",
    "degree fahrenheit": "fahrenheit",
    "mm": "mm millimeter millimeters millimetre millimetres",
    "cm": "cm cms centimeter centimeters centimetre centimetres",
    "km": "km kms kilometer kilometers kilometre kilometres",
    "m": "m meter meters metre metres",
    "inch": "in inch inches",
    "foot": "ft foot feet",
    "yard": "yd yds yard yards",
    "mile": "mi mile miles",
    "mile / hour": "mph",
    "pound / inch^2": "psi",
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
    "volt": "volt volts",
    "ampere": "amps ampere amperes",
    "ohm": "ohms",
    "hertz": "hertz",
    "joule": "joule joules",
    "watt-hour": "watt-hour watt-hours",
    "calorie": "calorie calories",
    "newton": "newton newtons",
    "mole": "mole moles",
    "byte": "byte bytes",
    "tonne": "tonne tonnes",
    "ton": "tons",
    "acre": "acre acres",
    "hectare": "hectare hectares",
    "stone": "stone stones",
    "quintal": "quintal quintals",
    "bar": "bar bars",
    "atmosphere": "atm atmosphere atmospheres",
    "torr": "torr mmhg",
    "bit": "bit bits",
    "electronvolt": "electronvolt electronvolts",
    "horsepower": "horsepower",
    "barrel": "barrel barrels",
    "furlong": "furlong furlongs",
    "fortnight": "fortnight fortnights",
    "basis-point": "basis-point basis-points",
    "light-year": "light-year light-years lightyear lightyears",
    "knot": "knot knots",
    "decade": "decade decades",
    "century": "century centuries",
    "eurocent": "eurocent eurocents euro-cent euro-cents",
    "m^2": "sqm",
    "foot^2": "sqft",
    "unit": "unit units total each",  # dropped, unless with a power: square units
    "/": "/ per",
}
_SYMBOLS = {  # {name of a unit: its symbols, in which capitals count}
    "kelvin": "K",
    "watt": "W",
    "kilowatt": "kw",
    "volt": "V",
    "ampere": "A amp",
    "ohm": "ohm",
    "hertz": "Hz hz",
    "joule": "J",
    "watt-hour": "Wh",
    "kilowatt-hour": "kwh",
    "calorie": "cal",
    "electronvolt": "eV",
    "newton": "N",
    "pascal": "Pa",
    "mole": "mol",
    "kilobyte": "KB",
    "ton": "ton",
    "horsepower": "hp",
    "bar": "bar",
    "bit": "bit",
    "pence": "p",
    "celsius": "C",
    "fahrenheit": "F",
}
# {spelling: its unit}
_SPELLED = {spelling: unit for unit, spellings in _SPELLINGS.items() for spelling in spellings.split()}
# {name of a unit with a prefix: its forms}. A unit that _SPELLINGS has keeps its name: "mg", not "milligram".
_METRIC = {_SPELLED.get(name, name): forms for base in BASES for name, forms in prefixed(base).items()}
SYMBOLS = {symbol: unit for unit, symbols in _SYMBOLS.items() for symbol in symbols.split()}
SYMBOLS |= {symbol: unit for unit, forms in _METRIC.items() for symbol in forms.symbols}
"""{symbol: its unit} of symbols that are units right behind a number and may be variables elsewhere: W in 5 W.

Capitals count: K is kelvin, and k a variable.
"""


def with_prefixes(scale: dict[str, int]) -> dict[str, int]:
    """{unit: its size} for the units of a scale, and for the same units with a prefix.

    `scale`: {unit: its size in some measure}. The sizes that are returned are in 10**SMALLEST_POWER of that measure, so
    that all of them are whole.
    """
    sizes = {unit: size * 10**-SMALLEST_POWER for unit, size in scale.items()}
    with_prefix = {
        unit: scale[forms.base] * 10 ** (forms.power - SMALLEST_POWER)
        for unit, forms in _METRIC.items()
        if forms.base in scale
    }
    return sizes | with_prefix


_SCALES = tuple(  # one for each kind of units: {unit: its size in the measure of the scale}
    with_prefixes(scale)
    for scale in (
        {"second": 1, "minute": 60, "hour": 3600, "day": 86400, "week": 604800, "fortnight": 1209600},
        {"mm": 10, "m": 10**4, "inch": 254, "foot": 3048, "yard": 9144, "furlong": 2011680, "mile": 16093440},
        {"g": 1, "quintal": 10**5, "tonne": 10**6},
        {"ounce": 1, "pound": 16, "stone": 224, "ton": 32000},
        {"cent": 1, "dollar": 100, "usd": 100},
        {"cent": 1, "eurocent": 1, "euro": 100},
        {"pence": 1, "sterling": 100},
        {"pence": 1, "pound": 100},  # apart from sterling, since a pound may be a weight
        {"l": 1},
        {"percent": 100, "basis-point": 1},
        {"teaspoon": 1, "tablespoon": 3, "cup": 48, "pint": 96, "quart": 192, "gallon": 768},
        {"pascal": 1, "bar": 10**5},
        {"month": 1, "year": 12, "decade": 120, "century": 1200},
        {"joule": 1, "watt-hour": 3600},
        *({unit: 1} for unit in "watt volt ampere ohm hertz calorie newton mole electronvolt".split()),
    )
)
_LENGTHS = frozenset([*_SCALES[1], "unit"])  # the second scale has the lengths
UNITS = NAMES | _SPELLED | {word: unit for unit, forms in _METRIC.items() for word in forms.words}
"""{spelling in lower case: the name of its unit}: "metres" is "m", "$" is "dollar"."""
# Parts of the names of known units: "mile" and "/" of "mile / hour".
_KNOWN_PARTS = frozenset(part for unit in (*_SPELLINGS, *_METRIC, *NAMES.values()) for part in unit.split())
POWERS = {"square": "^2", "sq": "^2", "squared": "^2", "cubic": "^3", "cubed": "^3"}
"""{word beside a unit: the power that it gives to the unit}: "square cm" is "cm^2"."""
SAY_NOTHING = frozenset({"unit", "units", "total", "each", "of"})
"""Words in the place of a unit that tell no unit: "5 units" is 5."""
DEGREE_LETTERS = {"C": "celsius", "F": "fahrenheit"}
"""{letter behind degrees: its scale of temperature}: 5°C is in degrees celsius."""
TEMPERATURES = frozenset({"degree", *(f"degree {scale}" for scale in ("c", "celsius", "f", "fahrenheit"))})
"""Units in degrees of some scale, or of none that is told: "20 degrees" may be "20 degrees celsius"."""
UNIT_LETTERS = frozenset("m s h g l L".split())
"""Letters that are units even without `\\text`: m in 5 m. N, V, A and the like are more often variables."""
KNOWN_WORDS = (
    # Left out are signs and single letters, words that may be functions or products, and codes such as EUR (see lexer).
    (frozenset(UNITS) - frozenset("%$msghl") - {"min", "cup", "pa", "bar", "bit"} - (CODES - {"usd"}))
    | SAY_NOTHING
    | {*POWERS}
    | JOINING
    | {"is", "no", "per", "yes"}
)
"""Runs of letters that are always read as one word, and never as a product of variables: "cm", "square", "and"."""
ABBREVIATED = frozenset(
    "sq cu ft in yd mi oz lb lbs sec min hr hrs approx jan feb mar apr jun jul aug sept oct nov dec".split()
)
"""Abbreviations behind which a point is no end of the text: the point of "sq. ft." or "Jan. 5"."""


def canonical_unit(words: Sequence[str]) -> str | None:
    """The one name of a unit that was read as words and exponents: "cm^2" for ["square", "centimeters"].

    None if a power belongs to no unit, ["squared"] of "5 squared", or if a negative power stands beside a slash.
    """
    names: list[str] = []
    power = ""  # ^2 once "square" was read, until its unit comes
    has_unit = False  # True once a unit was met
    text = " ".join(SYMBOLS.get(word, word) for word in words).lower()
    for two_words in ("watt hour", "light year", "basis point", "euro cent"):
        text = text.replace(two_words, two_words.replace(" ", "-"))
    unread = text.replace("per cent", "percent").split()
    while unread:
        word = unread.pop(0)
        is_behind_unit = names and names[-1] != "/" and is_known(names[-1])
        is_in_phrase = word == "in" and unread and not has_unit_name(unread)
        if is_behind_unit and (word == "of" or is_in_phrase):
            break  # cups of sugar, dollars in total
        if word in POWERS or word[0] == "^":
            power = POWERS.get(word, word)
            if has_unit and names[-1] != "/":  # the power stands behind its unit
                if power != "^1":
                    names[-1] += power
                power = ""
        elif word not in ORDINALS:
            names.append(UNITS.get(word, word) + power)
            has_unit, power = True, ""
    if below := [name.replace("^-", "^").removesuffix("^1") for name in names if "^-" in name]:
        above = [name for name in names if "^-" not in name]
        if "/" in " ".join(names):
            return None  # m/s^-1
        names = [*above, "/", *below]  # m s^-1
    if names[:1] == ["/"]:
        names.insert(0, "")  # 5/hour, where nobody says what is counted
    if len(names) > 4:
        slash, below_first, second_slash, below_second = names[-4:]  # those of m/s/s, which is m/s^2
        if slash == second_slash == "/" and below_first == below_second:
            names[-3:] = [f"{below_second}^2"]
    unit = " ".join(name for name in names if name != "unit")
    is_power_of_nothing = bool(power)  # no unit has come that takes the power
    return None if is_power_of_nothing else unit.replace("degree degree", "degree")


def has_unit_name(words: Sequence[str]) -> bool:
    """True if a word names a unit: the hour of "in an hour"; not the words of "in total"."""
    return any(word in UNITS and UNITS[word] != "unit" for word in words)  # "unit" also stands for "total"


def conflict(answer: str, gold: str) -> bool:
    """True if both units are known and differ: cm and m. Not for degrees and degrees celsius, dollars and USD.

    A rate may lack what it counts, 5/hour for 5 miles/hour; a rate of money may lack what is paid for, $5 for $5/hour.
    """
    above, per, below = answer.partition(" / ")
    gold_above, gold_per, gold_below = gold.partition(" / ")
    if per and gold_per:
        return conflict(above, gold_above) or conflict(below, gold_below)
    if not answer or not gold or answer == gold:
        return False
    if not is_known(answer) or not is_known(gold):
        return False
    is_rate = bool(per or gold_per)
    if is_rate and (is_money(above) or is_money(gold_above)):
        return conflict(above, gold_above)
    may_be_one_scale = "degree" in (answer, gold) and {answer, gold} <= TEMPERATURES
    may_be_one_currency = currencies_of(answer) & currencies_of(gold)
    return not (may_be_one_scale or may_be_one_currency)


def conversion(unit: str, other: str) -> tuple[int, int] | None:
    """(n, d) where one `unit` is n/d of `other`: (60, 1) up to a common factor for hour and minute.

    None for units of different kinds.
    """
    above, per, below = unit.partition(" / ")
    other_above, other_per, other_below = other.partition(" / ")
    if per and other_per:  # 10 m / second as 36 km / hour
        of_above, of_below = conversion(above, other_above), conversion(below, other_below)
        if not (of_above and of_below):
            return None
        (n_above, d_above), (n_below, d_below) = of_above, of_below
        return n_above * d_below, d_above * n_below
    unit, _, power = unit.partition("^")
    other, _, other_power = other.partition("^")
    if power != other_power or power not in ("", "2", "3"):
        return None
    for scale in _SCALES:
        if unit in scale and other in scale:
            exponent = int(power or 1)
            return scale[unit] ** exponent, scale[other] ** exponent
    return None


def kind_of(unit: str) -> str:
    """The first unit of a unit's scale, which stands for its kind: "mm" for km; the unit itself if it has no scale."""
    name = unit.partition("^")[0].partition(" ")[0]
    for scale in _SCALES:
        if name in scale:
            return next(iter(scale))
    return name


SMALL_CHANGE = frozenset(["cent", "eurocent", "pence"])
"""Small units of money. A problem may mention them although it asks for larger ones, such as dollars."""


def is_money(unit: str) -> bool:
    """True for a unit that can only be money: dollars, but not pounds, which may be a weight."""
    return currencies_of(unit) > 0 and unit not in _SPELLINGS


def power_of(unit: str) -> int:
    """The exponent of a unit of length, area or volume: 2 for "cm^2" and "unit^2"; 0 for any other unit."""
    name, _, power = unit.partition("^")
    return int(power or 1) if name in _LENGTHS and power in ("", "2", "3") else 0


def is_known(unit: str) -> bool:
    """True if every part of a unit is in the tables: "mile / hour", but not "apples"."""
    return all(part.partition("^")[0] in _KNOWN_PARTS for part in unit.split())


def is_in_symbols(text: str) -> bool:
    """True for a unit in symbols: N, N/m, kg/m^3."""
    names = [part.partition("^")[0] for part in text.split("/")]
    return all(name in SYMBOLS or name in UNIT_LETTERS for name in names)


# {first unit of a kind: the symbol of one letter for this kind}
_LETTER_OF_KIND = {kind_of(unit): symbol for symbol, unit in SYMBOLS.items() if len(symbol) == 1}


def letter_of(unit: str) -> str:
    """The symbol of one letter for units of this kind: W for watts and for kilowatts; "" if there is none.

    An answer's letter is read as a unit if the reference has a unit of that kind. Degrees are of the kind of their
    scale: C for degrees Celsius.
    """
    if unit in TEMPERATURES and unit != "degree":
        return unit.removeprefix("degree ")[0].upper()
    return _LETTER_OF_KIND.get(kind_of(unit), "")
