"""The ranges of numbers in settings, as parts of a field's type (`learning_rate: Positive`), and their check."""

import math
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from numbers import Integral, Real
from typing import Annotated, Any, NamedTuple, get_args, get_type_hints

from spg_trainer.errors import ConfigError


class Range(NamedTuple):
    """The values that a number may have."""

    expected: str
    """What an error says would be right: "0 or more"."""
    holds: Callable[[Any], bool]
    """Whether a value is in the range."""
    advice: str = ""
    """What an error adds to `expected`, with the punctuation before it: why, or a value to try (". Try 1")."""


NOT_NEGATIVE = Range("0 or more", lambda v: 0 <= v < math.inf)
Count = Annotated[int, Range("at least 1", lambda v: v >= 1)]
CountOrZero = Annotated[int, NOT_NEGATIVE]
LengthOrZero = Annotated[int, Range("from 0 to 1000000", lambda v: 0 <= v <= 10**6)]
Seed = Annotated[int, Range("from 0 to 2**63 - 1", lambda v: 0 <= v < 2**63)]
NotNegative = Annotated[float, NOT_NEGATIVE]
Positive = Annotated[float, Range("above 0", lambda v: 0 < v < math.inf)]
Temperature = Annotated[float, Range("from 0 to 100", lambda v: 0 <= v <= 100, ". Try 1")]
Rate = Annotated[float, Range("above 0 and at most 1", lambda v: 0 < v <= 1, ". Try 1e-5")]
Share = Annotated[float, Range("from 0 to 1", lambda v: 0 <= v <= 1)]
Weight = Annotated[float, Range("from 0.01 to 1", lambda v: 0.01 <= v <= 1)]
Probability = Annotated[float, Range("above 0 and at most 1", lambda v: 0 < v <= 1)]
Below1 = Annotated[float, Range("from 0 up to, but not, 1", lambda v: 0 <= v < 1)]
AtLeast1 = Annotated[float, Range("1 or more", lambda v: 1 <= v < math.inf)]
Zero = Annotated[float, Range("0", lambda v: v == 0)]


def setting_with_value(name: str, value: object) -> str:
    """A setting with its value, as a message writes it (`errors.py`)."""
    return f"${name}={value}"


def argument_with_value(name: str, value: object) -> str:
    """A hyper-parameter with its value, as a message writes it (`errors.py`)."""
    return f"$algorithm_args {name}={value}"


def check_ranges(settings: Any, shown: Callable[[str, object], str] = setting_with_value) -> None:
    """Raises ConfigError for a number outside the `Range` of its annotation, in a dataclass and the dataclasses in it.

    shown: how the error writes the name and the value.
    """
    hints = get_type_hints(type(settings), include_extras=True)
    for field in fields(settings):
        name, value = field.name, getattr(settings, field.name)
        if is_dataclass(value):
            check_ranges(value, shown)
        check_number(hints[name], name, value, shown)  # a type such as `Count`
        # The range may be in a part of the type, as in `Count | None` and `Count | str`. There None or a word may stand
        # in place of a number, so only a number is checked.
        if isinstance(value, Real):
            for part in get_args(hints[name]):
                check_number(part, name, value, shown)


def check_number(hint: Any, name: str, value: Any, shown: Callable[[str, object], str]) -> None:
    """Raises ConfigError if `hint` is a type with a range, such as `Positive`, and the value is no number in it."""
    for allowed in ranges_of(hint):
        expected = f"{allowed.expected}{allowed.advice}"
        kind, number = (Integral, "whole number") if hint.__origin__ is int else (Real, "number")
        if not isinstance(value, kind):
            raise ConfigError(f"{shown(name, repr(value))}: should be a {number}, {expected}.")
        if not allowed.holds(value):
            raise ConfigError(f"{shown(name, value)}: should be {expected}.")


def ranges_of(hint: Any) -> list[Range]:
    """The ranges of an `Annotated` type such as `Positive`; [] for any other type, also for `Positive | None`."""
    return [part for part in getattr(hint, "__metadata__", ()) if isinstance(part, Range)]
