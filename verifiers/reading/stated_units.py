"""The unit that stands behind a number, 25500 ml, compared with the one that is wanted."""

from __future__ import annotations

import re
from fractions import Fraction

from verifiers.reading.amounts import MAGNITUDES, currencies_of
from verifiers.reading.units import canonical_unit

_NUMBER = re.compile(
    r"(?:\\[dt]?frac\{(\d{1,400}+)\}\{(\d{1,400}+)\}|(\d{1,400}+(?:,\d{3})*+(?:\.\d{1,400}+)?+)(?:\s?/\s?(\d{1,400}+))?)"
)
_LAYOUT = re.compile(r"\\(?:text|textbf|textit|mathrm|mbox|,|;|:|!| )|[{}$*~\\]")
_UNIT = re.compile(r"\s*+(?:[^\W\d_]++|\^?+[23²³](?!\d)|[/%°€£¥₹])")
_MONEY = "money"
"""The name of each unit of money."""
_NAMES = str.maketrans({"²": "^2", "³": "^3", "°": "degree"})


def fits(text: str, value: Fraction | int, unit: str, is_money: bool) -> bool:
    """Whether an answer of this value says no other unit than `unit`: behind its number stands that one, or none.

    One unit of money is as good as another here: currencies are compared with those of the reference. is_money: the
    answer names a currency, as `$5` does before its number.
    """
    numbers = list(_NUMBER.finditer(text))
    ends = [number.end() for number in numbers if _value_of(number) == abs(value)]
    wanted = _name_of(unit)
    allowed = (wanted,) if is_money and wanted != _MONEY else ("", wanted)
    return all(_unit_at(text, end) in allowed for end in ends or [number.end() for number in numbers[-1:]])


def unit_of(text: str) -> str:
    """The unit or noun behind the first number of a text: "ml" for 25500 millilitres; "" if there is none."""
    number = _NUMBER.search(text)
    unit = _unit_at(text, number.end()) if number else ""
    return "" if unit == _MONEY else unit


def _value_of(number: re.Match[str]) -> Fraction | None:
    above, below, digits, divisor = number.groups()
    top, bottom = Fraction((digits or above).replace(",", "")), int(below or divisor or 1)
    return top / bottom if bottom else None


def _unit_at(text: str, place: int) -> str:
    """The unit that text[place:] begins with, as `_name_of` names it; "" if it begins with none."""
    rest = _LAYOUT.sub(" ", text[place : place + 100])
    end = 0
    while part := _UNIT.match(rest, end):
        end = part.end()
    return _name_of(rest[:end])


def _name_of(unit: str) -> str:
    """The one name of a unit: "ml" for millilitres; of a noun, its singular; of each currency the same."""
    parts = [part.strip().translate(_NAMES) for part in _UNIT.findall(_LAYOUT.sub(" ", unit))]
    words = [f"^{part}" if part.isdigit() else part for part in parts if part.lower() not in MAGNITUDES]
    name = canonical_unit(words) or "" if words else ""
    return _MONEY if currencies_of(name or "".join(words)) else name.removesuffix("s").casefold()
