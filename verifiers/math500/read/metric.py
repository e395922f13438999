"""The metric system: units with their prefixes, by words and symbols, and how many of one another they are.

For texts such as "250 milliseconds", `3 kΩ` and `5 µm`.
"""

from __future__ import annotations

from typing import NamedTuple


class Base(NamedTuple):
    """A unit that takes prefixes: the words and symbols for it, and the letters of prefixes that stand before those.

    With other letters its symbol would mostly be something else: 5 pm is a time of day, and MN a segment.
    """

    words: str
    symbols: str
    letters: str


BASES = {
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
PREFIXES = {  # with their letters and powers of ten
    "pico": ("p", -12), "nano": ("n", -9), "micro": ("µ", -6), "milli": ("m", -3), "centi": ("c", -2),
    "deci": ("d", -1), "hecto": ("h", 2), "kilo": ("k", 3), "mega": ("M", 6), "giga": ("G", 9), "tera": ("T", 12),
}  # fmt: skip


class Forms(NamedTuple):
    """A unit with its prefix: the unit without, its words and symbols, and its size as a power of ten."""

    base: str
    words: list[str]
    symbols: list[str]
    power: int


SMALLEST = 12  # the power of ten of how many of the smallest are one without a prefix


def prefixed(unit: str) -> dict[str, Forms]:
    """A unit of `BASES` with each prefix, by its name."""
    words, symbols, letters = (BASES[unit].words.split(), BASES[unit].symbols.split(), BASES[unit].letters)
    return {
        prefix + words[0]: Forms(
            unit,
            [f"{prefix}{word}{plural}" for word in words for plural in ("", "s")],
            [letter + symbol for symbol in symbols if letter in letters],
            power,
        )
        for prefix, (letter, power) in PREFIXES.items()
    }
