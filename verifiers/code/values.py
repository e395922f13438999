"""Reads the cases of references, and compares returned values with expected ones.

A value of a case is plain Python (None, bool, int, float, complex, str, list, tuple, set, dict) or its JSON, in which
one-key objects stand for types that JSON lacks: {"$tuple": [...]}, {"$set": [...]}, {"$dict": [[key, value], ...]},
{"$float": "inf" | "-inf" | "nan"}, {"$complex": [real, imaginary]}. A returned value is JSON of this form, too, with
{"$int": hexadecimal}, and {"$other": true} for the truth value of anything else.
"""

from __future__ import annotations

import json
import math
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple

COMPARISONS = ("equal", "close", "truthy", "falsy")
PRINTED = "printed"
"""The comparison of a case that has a standard input: what the program prints is compared."""
REL, ABS = 1e-9, 1e-12  # the relative and the absolute tolerance of floats
DEPTH = 40  # how deep values may be nested
NOTHING = object()  # stands for a value that was not returned


class Set(tuple):
    """The items of a set in the order received. No Python set is made: a program could make hashes collide."""


class Dict(tuple):
    """The pairs of a dict in the order received."""


class Other:
    """A value that is not plain data: only its truth value is known, and it equals nothing."""

    def __init__(self, truth: Any) -> None:
        self.truth = bool(truth)

    def __bool__(self) -> bool:
        return self.truth


VIEWS = {"set": Set, "tuple": tuple, "list": list}  # {`via` of a case: the type as which values are compared}
# {key of a one-key object of JSON: the type that holds its items}, and {such a key: the function that makes its value}
_CONTAINERS = {"$tuple": tuple, "$set": Set, "$dict": Dict}
_OTHERS = {
    "$int": lambda digits: int(digits, 16),
    "$float": float,
    "$complex": lambda parts: complex(*map(float, parts)),
    "$other": Other,
}


class Case(NamedTuple):
    """One call and its expected value.

    call: the Python source of (args, kwargs). compare: one of COMPARISONS, or PRINTED. rel, abs: the relative and the
    absolute tolerance.

    via: what the test converts the result to before it compares it: "set", "tuple", or "" for nothing. With "list" the
    result is not converted, but every tuple counts as a list: the result itself, and those in it.
    """

    call: str
    expected: Any
    compare: str
    via: str
    rel: float
    abs: float


def read_cases(cases: Any) -> list[Case]:
    """The cases of a reference, which may be one JSON text.

    Raises ValueError, whose text goes on in a sentence that begins with "cases=...": "is no list of cases".
    """
    if isinstance(cases, str):
        try:
            cases = json.loads(cases)
        except ValueError as error:
            raise ValueError(f"is no JSON ({error})") from error
    if not isinstance(cases, list | tuple) or not cases:
        raise ValueError('is no list of cases such as [{"args": [1, 2], "expected": 3}]')
    return [_read_case(case, place) for place, case in enumerate(cases)]


def _read_case(case: Any, place: int) -> Case:
    """The case at a place of the list; raises ValueError as `read_cases` does."""
    if isinstance(case, dict) and "stdin" in case:
        return _read_program_case(case, place)
    if not isinstance(case, dict) or not {"expected", "compare"} & set(case):
        example = '{"args": [1, 2], "expected": 3}'
        raise ValueError(f'has no "expected" in case {place}; a case is such as {example}')
    if unknown := set(case) - {"args", "kwargs", "expected", "compare", "via", "rel", "abs"}:
        raise ValueError(f"has {min(map(str, unknown))!r} in case {place}, which no case has")
    compare, via = case.get("compare") or "equal", case.get("via") or ""
    if compare not in COMPARISONS or via not in ("", *VIEWS):
        known = f"{', '.join(COMPARISONS)} and {', '.join(VIEWS)}"
        raise ValueError(f"has compare={compare!r}, via={via!r} in case {place}; known are {known}")
    args, kwargs = arguments(case)
    if type(args) not in (list, tuple) or type(kwargs) is not dict:
        raise ValueError(f"has args that are no list, or kwargs that are no object, in case {place}")
    rel, absolute = REL, ABS
    if compare != "equal":  # "close" has only the tolerances that the case gives
        rel, absolute = float(case.get("rel") or 0), float(case.get("abs") or 0)
    expected = _viewed(read_value(case.get("expected")), via)
    return Case(python_source((args, kwargs)), expected, compare, via, rel, absolute)


def _read_program_case(case: dict[str, Any], place: int) -> Case:
    """A case of a whole program: what it reads, and what it must print."""
    if unknown := set(case) - {"stdin", "expected", "float_tolerance"}:
        raise ValueError(
            f"has {min(map(str, unknown))!r} in case {place}, which no case of standard input has"
        )
    text, expected, tolerance = case["stdin"], case.get("expected"), case.get("float_tolerance") or 0.0
    if not isinstance(text, str) or not isinstance(expected, str):
        raise ValueError(f'has a "stdin" or an "expected" in case {place} that is no text')
    is_number = isinstance(tolerance, int | float) and not isinstance(tolerance, bool)
    if not is_number or not 0 <= tolerance < 1:
        raise ValueError(
            f"has float_tolerance={tolerance!r} in case {place}; it is a number from 0 to below 1"
        )
    args, kwargs = [text], {}
    call = repr((args, kwargs))
    return Case(call, expected, compare=PRINTED, via="", rel=tolerance, abs=tolerance)


def arguments(case: dict[str, Any]) -> tuple[Any, Any]:
    """(args, kwargs) of the call of a case, as Python values."""
    return plain(read_value(case.get("args") or [])), plain(read_value(case.get("kwargs") or {}))


def read_value(value: Any, depth: int = DEPTH) -> Any:
    """The value that plain Python or its JSON stands for, with `Set` and `Dict` for sets and dicts.

    Raises ValueError or TypeError for anything else.
    """
    kind = type(value)
    if value is None or kind in (bool, int, float, str, complex):
        return value
    if not depth:
        raise ValueError(f"has a value nested deeper than {DEPTH}")
    tag = next(iter(value)) if kind is dict and len(value) == 1 else None
    if tag in _OTHERS:
        return _OTHERS[tag](value[tag])
    if tag in _CONTAINERS:
        value, kind = value[tag], _CONTAINERS[tag]
    elif kind is dict:
        value, kind = value.items(), Dict
    elif kind in (set, frozenset):
        kind = Set
    elif kind not in (list, tuple):
        raise ValueError(f"has a value of type {kind.__name__}; plain Python data can be compared")
    if kind is Dict:
        return Dict((read_value(name, depth - 1), read_value(item, depth - 1)) for name, item in value)
    return kind(read_value(item, depth - 1) for item in value)


def plain(value: Any, hashed: bool = False) -> Any:
    """The Python value of a result of `read_value`. hashed: the value is in a set or a key, so a set is a frozenset."""
    if isinstance(value, Other):
        raise TypeError("no plain data")
    if isinstance(value, Set):
        kind = frozenset if hashed else set
        return kind(plain(item, hashed=True) for item in value)
    if isinstance(value, Dict):
        return {plain(name, hashed=True): plain(item) for name, item in value}
    if isinstance(value, list | tuple):
        return type(value)(plain(item, hashed) for item in value)
    return value


def python_source(value: Any) -> str:
    """The Python source of plain data, even with integers that have more digits than Python prints."""
    try:
        return repr(value)
    except ValueError:
        pass
    if isinstance(value, int):
        return hex(value)
    if isinstance(value, dict):
        return f"{{{', '.join(f'{python_source(name)}: {python_source(item)}' for name, item in value.items())}}}"
    items = ", ".join(map(python_source, value))
    if isinstance(value, tuple):
        return f"({items},)"
    return f"[{items}]" if isinstance(value, list) else f"{type(value).__name__}([{items}])"


def read_reply(reply: str) -> Any:
    """The value in a guest's reply, NOTHING if there is none. Never raises, whatever the reply is.

    A guest is one run of a program in the sealed interpreter; its reply to a call is V and a value, or another letter.
    """
    try:
        return read_value(json.loads(reply[1:])) if reply[:1] == "V" else NOTHING
    except Exception:  # the guest did not keep to the form
        return NOTHING


def plain_reply(reply: str) -> Any:
    """The Python value in a guest's reply; NOTHING if there is none, or no plain data."""
    value = read_reply(reply)
    try:
        return value if value is NOTHING else plain(value)
    except TypeError:
        return NOTHING


def meets(case: Case, reply: str, lenient: bool) -> bool:
    """Whether a guest's reply has the value that the case expects; it never raises, whatever the reply is."""
    value = _viewed(read_reply(reply), case.via)
    if value is NOTHING:
        return False
    if case.compare == PRINTED:
        return isinstance(value, str) and same_print(case.expected, value, case.abs)
    if case.compare in ("truthy", "falsy"):
        return bool(value) == (case.compare == "truthy")
    return equal(case.expected, value, lenient, case)


def same_print(expected: str, printed: str, tolerance: float) -> bool:
    """Whether two outputs are the same except for white space at the ends of lines and empty lines at the end.

    tolerance: how much a number may differ from the expected one, as a fraction of the expected one if that is above 1;
    0 = numbers are compared as text. With a tolerance, the division of words into lines counts, but not the amount of
    space between them.
    """
    wanted_lines, printed_lines = _lines_of(expected), _lines_of(printed)
    if wanted_lines == printed_lines:
        return True
    if not tolerance or len(wanted_lines) != len(printed_lines):
        return False
    return all(map(partial(_same_line, tolerance), wanted_lines, printed_lines))


def _lines_of(output: str) -> list[str]:
    """The lines of an output, without white space at their ends and without empty lines at the end."""
    return [line.rstrip() for line in output.rstrip().split("\n")]


def _same_line(tolerance: float, expected: str, printed: str) -> bool:
    """Whether two lines have the same words, except for numbers that differ by no more than the tolerance."""
    wanted, found = expected.split(), printed.split()
    return len(wanted) == len(found) and all(map(partial(_same_word, tolerance), wanted, found))


def _same_word(tolerance: float, expected: str, printed: str) -> bool:
    """Whether two words are the same text, or numbers that differ by no more than the tolerance."""
    if expected == printed:
        return True
    try:
        wanted, found = float(expected), float(printed)
    except ValueError:
        return False
    return math.isfinite(found) and abs(wanted - found) <= tolerance * max(1.0, abs(wanted))


def _viewed(value: Any, via: str) -> Any:
    """A value converted as `Case.via` says; NOTHING if it has no items to convert."""
    if not via:
        return value
    if via == "list":
        return [_viewed(item, via) for item in value] if type(value) in (list, tuple) else value
    if not isinstance(value, str | list | tuple):
        return NOTHING
    items = [name for name, _ in value] if isinstance(value, Dict) else value
    if via == "set":
        items = {key(item, lenient=False): item for item in items}.values()  # each item once
    return VIEWS[via](items)


def equal(expected: Any, value: Any, lenient: bool, case: Case) -> bool:
    """Python's == on plain data, but NaN equals NaN, floats have tolerances, and in strict mode a bool is no number."""
    if isinstance(expected, int | float | complex):
        is_number = isinstance(value, int | float | complex)
        mixes_bool = isinstance(expected, bool) != isinstance(value, bool)
        if not is_number or (mixes_bool and not lenient):
            return False
        return _near(expected, value, case)
    if type(value) is not type(expected):
        return False
    if not isinstance(expected, str | None) and len(expected) != len(value):
        return False  # a subclass of dict or set, made by the program, may hold a key or an item twice
    if isinstance(expected, Dict):
        found = {key(name, lenient): item for name, item in value}
        wanted = {key(name, lenient): item for name, item in expected}
        same = found.keys() == wanted.keys()
        return same and all(equal(item, found[name], lenient, case) for name, item in wanted.items())
    if isinstance(expected, Set):
        return key(expected, lenient) == key(value, lenient)
    if isinstance(expected, list | tuple):
        pairs = zip(expected, value, strict=True)
        return all(equal(*pair, lenient, case) for pair in pairs)
    return expected == value


def _near(expected: complex, value: complex, case: Case) -> bool:
    """Whether two numbers are equal, or as near to each other as the case allows."""
    both_are_nan = expected != expected and value != value
    if expected == value or both_are_nan:
        return True
    if case.compare == "equal" and isinstance(expected, int):
        return False
    with suppress(OverflowError):  # an integer beyond the floats
        difference = abs(value - expected)
        return math.isfinite(difference) and difference <= max(case.rel * abs(expected), case.abs)
    return False


def key(value: Any, lenient: bool) -> Any:
    """A key that is equal for equal values. It is made of texts, because nobody can make their hashes collide."""
    if isinstance(value, bool) and not lenient:
        return str(value), "bool"
    if isinstance(value, complex) and not value.imag:
        value = value.real
    if isinstance(value, int | float):
        is_whole = isinstance(value, int) or value.is_integer()
        return hex(int(value)) if is_whole else value.hex(), "number"
    if isinstance(value, list | tuple):
        collect = frozenset if isinstance(value, Set) else tuple
        return type(value), collect(key(item, lenient) for item in value)
    return str(value), type(value)
