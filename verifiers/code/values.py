"""Cases as they are given, calls as the guest gets them, and returned values against expected ones.

A value of a case is plain Python (None, bool, int, float, complex, str, list, tuple, set, dict) or the JSON of it, in
which one-key objects stand for what JSON lacks: {"$tuple": [...]}, {"$set": [...]}, {"$dict": [[key, value], ...]},
{"$float": "inf" | "-inf" | "nan"}, {"$complex": [real, imaginary]}. A value that comes back is JSON with the tags of
`guest`: t, s, d, i and f (hexadecimal), c, and o for the truth of anything else.
"""

from __future__ import annotations

import json
import math
from typing import Any, NamedTuple

COMPARISONS = ("equal", "close", "truthy", "falsy")
REL, ABS = 1e-9, 1e-12  # within which a float is met
DEPTH = 40
NOTHING = object()  # in place of a value that did not come
NO_VALUE = (
    TypeError,
    ValueError,
    AttributeError,
    ArithmeticError,
    LookupError,
    RecursionError,
)  # of foreign JSON
_TAGS = {"$tuple", "$set", "$dict", "$float", "$complex"}


class Case(NamedTuple):
    """One call and what it must return; `view` is what the test takes of the result first, "", "set" or "tuple"."""

    call: str
    expected: Any
    compare: str
    view: str
    rel: float | None
    abs: float | None


def read_cases(cases: Any) -> list[Case]:
    """The cases of a reference, also as one JSON text; raises ValueError, which ends the sentence "cases=... "."""
    if isinstance(cases, str):
        try:
            cases = json.loads(cases)
        except ValueError as error:
            raise ValueError(f"is no JSON ({error})") from error
    if not isinstance(cases, list | tuple) or not cases:
        raise ValueError('is no list of cases such as [{"args": [1, 2], "expected": 3}]')
    return [_read_case(case, place) for place, case in enumerate(cases)]


def _read_case(case: Any, place: int) -> Case:
    if not isinstance(case, dict) or not {"expected", "compare"} & set(case):
        raise ValueError(
            f'has no "expected" in case {place}; a case is such as {{"args": [1, 2], "expected": 3}}'
        )
    if unknown := set(case) - {"args", "kwargs", "expected", "compare", "via", "rel", "abs"}:
        raise ValueError(f"has {min(map(str, unknown))!r} in case {place}, which no case has")
    compare, view = case.get("compare") or "equal", case.get("via") or ""
    if compare not in COMPARISONS or view not in ("", "set", "tuple"):
        known = f"{', '.join(COMPARISONS)} and set, tuple"
        raise ValueError(f"has compare={compare!r}, via={view!r} in case {place}; known are {known}")
    args, kwargs = read_value(case.get("args") or []), read_value(case.get("kwargs") or {})
    if type(args) not in (list, tuple) or type(kwargs) is not dict:
        raise ValueError(f"has args that are no list, or kwargs that are no object, in case {place}")
    call = f"({expression(tuple(args))}, {expression(kwargs)})"
    tolerances = [None if case.get(name) is None else float(case[name]) for name in ("rel", "abs")]
    return Case(call, read_value(case.get("expected")), compare, view, *tolerances)


def read_value(value: Any, depth: int = DEPTH) -> Any:
    """The value that plain Python or its JSON stands for; sets become frozen; raises ValueError."""
    if value is None or type(value) in (bool, int, float, str, complex):
        return value
    if not depth:
        raise ValueError(f"has a value nested deeper than {DEPTH}")
    kind = type(value)
    if kind is dict and len(value) == 1 and next(iter(value)) in _TAGS:
        ((tag, inside),) = value.items()
        if tag == "$float":
            return float(inside)
        if tag == "$complex":
            return complex(*map(float, inside))
        if tag == "$dict":
            return {read_value(key, depth - 1): read_value(item, depth - 1) for key, item in inside}
        value, kind = inside, tuple if tag == "$tuple" else frozenset
    if kind is dict:
        return {read_value(key, depth - 1): read_value(item, depth - 1) for key, item in value.items()}
    if kind in (list, tuple, set, frozenset):
        return (frozenset if kind is set else kind)(read_value(item, depth - 1) for item in value)
    raise ValueError(f"has a value of type {kind.__name__}; plain Python data can be compared")


def expression(value: Any, hashed: bool = False) -> str:
    """Python source of a plain value; `hashed`: it is in a set, or a key."""
    kind = type(value)
    if kind is int and value.bit_length() > 64:  # Python prints no integer of more than 4,300 digits
        return hex(value)
    if kind is float and not math.isfinite(value):
        return f"float('{value}')"
    if kind is complex:
        return f"complex({expression(value.real)}, {expression(value.imag)})"
    if kind is list:
        return f"[{', '.join(map(expression, value))}]"
    if kind is tuple:
        return "(" + "".join(f"{expression(item, hashed)}, " for item in value) + ")"
    if kind is frozenset:
        return f"{'frozenset' if hashed else 'set'}([{', '.join(expression(item, True) for item in value)}])"
    if kind is dict:
        return (
            "{"
            + ", ".join(f"{expression(key, True)}: {expression(item)}" for key, item in value.items())
            + "}"
        )
    return repr(value)


def read_reply(reply: bytes) -> Any:
    """The tagged JSON of a returned value, NOTHING where there is none."""
    if reply[:1] != b"V":
        return NOTHING
    try:
        return json.loads(reply[1:], parse_int=_refuse, parse_float=_refuse, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return NOTHING


def _refuse(text: str) -> Any:
    raise ValueError(text[:20])


def meets(case: Case, given: Any, lenient: bool) -> bool:
    """True if what came back is what the case expects; whatever came back, there is an answer."""
    if given is NOTHING:
        return False
    try:
        if case.compare in ("truthy", "falsy"):
            return truth(given) == (case.compare == "truthy")
        if case.view:
            given = {case.view[0]: items(given)}
        return equal(case.expected, given, lenient, case)
    except NO_VALUE:
        return False  # the guest did not keep to the tags


def truth(given: Any) -> bool:
    value = number(given)
    if value is not None:
        return bool(value)
    return bool(next(iter(given.values())) if type(given) is dict else given)


def items(given: Any) -> list:
    """The items of what can be gone through: those of a sequence or set, the keys of a dict, the letters of a text."""
    if type(given) is dict:
        ((tag, inside),) = given.items()
        if tag == "d":
            return [key for key, _ in inside]
        return inside if tag in ("t", "s") else _refuse(tag)
    return list(given) if type(given) in (list, str) else _refuse("no items")


def number(given: Any) -> int | float | complex | None:
    """The number that came back, also a bool; None for anything else."""
    if type(given) is bool:
        return given
    if type(given) is not dict:
        return None
    ((tag, inside),) = given.items()
    if tag == "i":
        return int(inside, 16)
    if tag == "c":
        return complex(*map(float.fromhex, inside))
    return float.fromhex(inside) if tag == "f" else None


def equal(expected: Any, given: Any, lenient: bool, case: Case) -> bool:
    """Python's == on plain data, except: a bool is no number (strict), NaN equals NaN, floats have tolerances."""
    if isinstance(expected, bool | int | float | complex):
        value = number(given)
        if value is None or (not lenient and isinstance(expected, bool) != isinstance(value, bool)):
            return False
        return _near(expected, value, case)
    if expected is None or isinstance(expected, str):
        return type(given) is type(expected) and given == expected
    if isinstance(expected, list):
        return type(given) is list and _pairwise(expected, given, lenient, case)
    ((tag, inside),) = given.items() if type(given) is dict else (("", None),)
    if isinstance(expected, tuple):
        return tag == "t" and _pairwise(expected, inside, lenient, case)
    if isinstance(expected, frozenset):
        return tag == "s" and _keys(expected, lenient) == _keys(map(built, inside), lenient)
    found = {key(built(name), lenient): value for name, value in inside} if tag == "d" else {}
    wanted = {key(name, lenient): value for name, value in expected.items()}
    return (
        tag == "d"
        and found.keys() == wanted.keys()
        and all(equal(value, found[name], lenient, case) for name, value in wanted.items())
    )


def _pairwise(expected: Any, given: list, lenient: bool, case: Case) -> bool:
    return len(expected) == len(given) and all(
        equal(one, other, lenient, case) for one, other in zip(expected, given, strict=True)
    )


def _near(expected: complex, value: complex, case: Case) -> bool:
    if expected == value or (expected != expected and value != value):
        return True
    if case.compare == "equal" and not isinstance(expected, float | complex):
        return False
    rel, absolute = (REL, ABS) if case.compare == "equal" else (case.rel or 0.0, case.abs or 0.0)
    difference = abs(value - expected)
    return math.isfinite(difference) and difference <= max(rel * abs(expected), absolute)


def built(given: Any) -> Any:
    """What came back as a Python value; raises one of `NO_VALUE` where it is none."""
    value = number(given)
    if value is not None or given is None or type(given) is str:
        return given if value is None else value
    if type(given) is list:
        return list(map(built, given))
    ((tag, inside),) = given.items()
    if tag == "d":
        return {built(name): built(item) for name, item in inside}
    return {"t": tuple, "s": frozenset}[tag](map(built, inside))


def key(value: Any, lenient: bool) -> Any:
    """Equal for equal values; text, whose hashes nobody can make collide."""
    if isinstance(value, bool) and not lenient:
        return str(value), "bool"
    if isinstance(value, complex) and not value.imag:
        value = value.real
    if isinstance(value, int | float):
        whole = isinstance(value, int) or value.is_integer()
        return hex(int(value)) if whole else value.hex(), "number"
    if isinstance(value, tuple):
        return "tuple", *(key(item, lenient) for item in value)
    return (
        ("set", _keys(value, lenient)) if isinstance(value, frozenset) else (str(value), type(value).__name__)
    )


def _keys(values: Any, lenient: bool) -> frozenset:
    return frozenset(key(value, lenient) for value in values)
