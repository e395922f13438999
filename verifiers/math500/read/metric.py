"""The metric system: words and symbols of units with prefixes, and the sizes of these units.

For texts such as "250 milliseconds", `3 kΩ` and `5 µm`.
"""

from __future__ import annotations

from typing import NamedTuple


class Base(NamedTuple):
    """A unit that takes prefixes: its words, its symbols, and the letters of prefixes that may stand before a symbol.

    Other letters are left out where they mostly mean something else: 5 pm is a time of day, and MN a segment.
    """

    words: str
    symbols: str
    letters: str


BASES = {  # {name of a unit: its words, its symbols, the letters of its prefixes}
    "m": Base("meter metre", "m", "nµmcdk"),
    "g": Base("gram gramme", "g", "nµmk"),
    "l": Base("liter litre", "l L", "µmcdh"),
    "second": Base("second", "s", "pnµm"),
    "watt": Base("watt", "W", "µmkMGT"),
    "volt": Base("volt", "V", "µmkM"),
    "ampere": Base("ampere amp", "A", "nµmk"),
    "ohm": Base("ohm", "ohm", "mkM"),
    "hertz": Base("hertz", "Hz", "mkMGT"),
    "joule": Base("joule", "J", "µmkMG"),
    "newton": Base("newton", "N", "mk"),
    "pascal": Base("pascal", "Pa", "hkMG"),
    "bar": Base("bar", "bar", "m"),
    "mole": Base("mole", "mol", "nµmk"),
    "watt-hour": Base("watt-hour", "Wh", "mkMGT"),
    "calorie": Base("calorie", "cal", "k"),
    "electronvolt": Base("electronvolt", "eV", "kMGT"),
    "byte": Base("byte", "B", "kMGT"),
    "bit": Base("bit", "bit", "kMGT"),
}
PREFIXES = {  # {prefix: (its letter, its power of ten)}
    "pico": ("p", -12), "nano": ("n", -9), "micro": ("µ", -6), "milli": ("m", -3), "centi": ("c", -2),
    "deci": ("d", -1), "hecto": ("h", 2), "kilo": ("k", 3), "mega": ("M", 6), "giga": ("G", 9), "tera": ("T", 12),
}  # fmt: skip


class Forms(NamedTuple):
    """A unit with a prefix: the unit without it, the words, the symbols, and the power of ten of the prefix."""

    base: str
    words: list[str]
    symbols: list[str]
    power: int


SMALLEST_POWER = min(power for _, power in PREFIXES.values())  # of pico, the smallest prefix: 10**-12


def prefixed(unit: str) -> dict[str, Forms]:
    """{name of a unit with a prefix: its forms}, with each prefix, for a unit of `BASES`: "millisecond" for second."""
    base = BASES[unit]
    words, symbols = base.words.split(), base.symbols.split()
    forms: dict[str, Forms] = {}
    for prefix, (letter, power) in PREFIXES.items():
        with_plurals = [f"{prefix}{word}{plural}" for word in words for plural in ("", "s")]
        with_letter = [letter + symbol for symbol in symbols if letter in base.letters]
        forms[prefix + words[0]] = Forms(unit, with_plurals, with_letter, power)
    return forms
