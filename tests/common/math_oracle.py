r"""A slow grader for the answers of `math_cases`, written apart from the verifier: what `math_oracle_reader` reads is
evaluated at random points with 60 digits, and compared kind by kind."""

import random
import re
from itertools import chain, permutations
from typing import Any

import mpmath

from tests.common.math_oracle_reader import Reader, Unreadable
from tests.common.math_oracle_text import cleaned, is_near

_UNITS = {
    "degree": "degree degrees", "percent": "percent", "dollar": "dollar dollars", "cent": "cent cents",
    "cm2": "cm^2 squarecentimeter squarecentimeters", "cm": "cm centimeters", "m": "m meters", "m2": "m^2",
    "cm3": "cm^3",
}  # fmt: skip
_UNIT_OF = {spelling: unit for unit, spellings in _UNITS.items() for spelling in spellings.split()}
_SCALES = ("dozen", "hundred", "thousand", "million", "billion", "half", "not", "less", "more", "or")
_CLOSE = mpmath.mpf(10) ** -40


def points() -> list[dict[str, Any]]:
    """Three random points, each with a value for every letter."""
    found = []
    for seed in range(3):
        rng = random.Random(seed)
        letters = map(chr, range(65, 123))
        found.append(
            {a: mpmath.mpf(rng.randrange(10**9, 10**10)) / rng.randrange(10**9, 10**10) for a in letters}
        )
    return found


POINTS = points()


def is_right(answer: str, gold: str) -> bool:
    """True if this grader takes `answer` for `gold`, a reference of `math_cases`."""
    with mpmath.workdps(60):
        letters = set(re.findall(r"[A-Za-z]", re.sub(r"\\[A-Za-z]+(\{[^{}\d]*\})?", "", gold))) | {"i"}
        reference, reader = Reader(gold, letters), Reader(answer, letters)
        wanted = reference.whole()
        if not callable(wanted) and wanted[0] == "text":
            return same_words(answer, wanted[1])
        try:
            found = reader.whole()
            wanted, found = spread(wanted, reference.signs), spread(found, reader.signs)
            return same(found, wanted)
        except (Unreadable, ZeroDivisionError, ValueError, OverflowError, RecursionError, TypeError):
            return False


def same_words(answer: str, wanted: str) -> bool:
    """Words in any case; one letter is a choice with or without its brackets."""
    text = re.sub(r"\\(text|mbox|textbf|mathrm)(?![a-z])|[{}~$]", "", cleaned(answer)).strip(" .,:%").lower()
    wanted = wanted.strip().lower()
    inner = re.fullmatch(r"\(\s*(\w)\s*\)(?:\s.*)?|(\w)", text)
    return text == wanted or (inner is not None and wanted == f"({inner[1] or inner[2]})")


def spread(node: Any, signs: int) -> Any:
    """A node with plus-minus signs as the list of both."""
    if signs == 0:
        return node
    if signs > 1 and not (not callable(node) and node[0] in ("list", "set")):
        raise Unreadable("two signs")
    if not callable(node) and node[0] == "rel":
        if node[1] != ["="]:
            raise Unreadable("relation")
        node = node[2][1]
    node = node[1] if not callable(node) and node[0] == "unit" else node
    items = [node] if callable(node) else node[1] if node[0] in ("list", "set") else []
    if not items:
        raise Unreadable("signs")
    return ("list", [at_sign(item, sign) for item in items for sign in ((1, -1) if has_sign(item) else (1,))])


def has_sign(item: Any) -> bool:
    try:
        item(POINTS[0])
    except KeyError:
        return True
    return False


def at_sign(item: Any, sign: int) -> Any:
    return lambda p: item({**p, "±": sign})


def equal(a: Any, b: Any) -> bool:
    """Two values, at every point."""
    for point in POINTS:
        x, y = a(point), b(point)
        if not (mpmath.isfinite(x) and mpmath.isfinite(y)) or abs(x - y) > _CLOSE * (1 + abs(y)):
            return False
    return True


def is_name(node: Any, letters: str = "abcdfghjklmnopqrstuvwxyzABCDFGHKLMNPQRSTVWXYZ") -> bool:
    """True for one letter alone."""
    if not callable(node):
        return node[0] == "text"
    return any(equal(node, lambda p, name=name: p[name]) for name in letters)


def same(a: Any, b: Any) -> bool:
    """`a` an answer, `b` a reference, of any kind."""
    kind = "value" if callable(b) else b[0]
    if kind == "unit" or (not callable(a) and a[0] == "unit"):
        unit, wanted = (node[2] if not callable(node) and node[0] == "unit" else "" for node in (a, b))
        bare = [node[1] if not callable(node) and node[0] == "unit" else node for node in (a, b)]
        return same_unit(unit, wanted) and same(*bare)
    if kind == "rel":
        return same_equation(a, b)
    if not callable(a) and a[0] == "rel":
        value = value_of(a, b)
        return value is not None and same(value, b)
    if kind == "value":
        return callable(a) and equal(a, b)
    if kind == "inf":
        return a == b
    if kind == "base":
        return a == b if not callable(a) else equal(a, lambda p: mpmath.mpf(b[1]))
    if callable(a):
        return False
    if kind == "seq":
        if a[0] == "list" and b[1:3] == ("(", ")"):
            return in_order(a[1], b[3])
        return a[0] == "seq" and a[1:3] == b[1:3] and in_order(a[3], b[3])
    if kind == "union":
        if a[0] == "list":
            a = ("union", [as_interval(item) for item in a[1]])
        return a[0] == "union" and any_order(a[1], b[1])
    if kind in ("list", "set"):
        return a[0] in ("list", "set") and any_order(a[1], b[1])
    return (
        a[0] == "mat"
        and [*map(len, a[1])] == [*map(len, b[1])]
        and in_order([*chain(*a[1])], [*chain(*b[1])])
    )


def in_order(a: list, b: list) -> bool:
    return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))


def any_order(a: list, b: list) -> bool:
    return len(a) == len(b) and any(in_order(list(order), b) for order in permutations(a))


def same_unit(unit: str, wanted: str) -> bool:
    """Nothing contradicts: no unit, the same one, the same one with a slip; words where none is wanted."""
    if not unit or unit == wanted:
        return True
    known = _UNIT_OF.get(unit.replace("{", "").replace("}", ""))
    if not wanted:
        return unit.isalpha() and unit not in _SCALES
    spellings = [word for word, name in _UNIT_OF.items() if name == _UNIT_OF[wanted]]
    if known:
        return known == _UNIT_OF[wanted]
    return (len(unit) > 2 and unit.isalpha()) or any(is_near(unit, word) for word in spellings)


def value_of(a: Any, b: Any) -> Any:
    """The value of x = 5, 2 * 3 = 6, x in (0, 1), 0 < x < 1; None where there is none."""
    operators, sides = a[1], a[2]
    if operators == [r"\in"]:
        return sides[1] if is_name(sides[0]) else None
    if any(operator != "=" for operator in operators):
        return as_interval(a) if not callable(b) and b[0] == "seq" else None
    values = [side for side in sides if not is_name(side)]
    return values[-1] if values and all(same(value, values[-1]) for value in values[:-1]) else None


def as_interval(node: Any) -> Any:
    """0 < x <= 1 as an interval."""
    if callable(node) or node[0] != "rel" or not set(node[1]) <= {"<", r"\le"}:
        raise Unreadable("no interval")
    ends = ["(" if operator == "<" else "[" for operator in node[1]]
    right = [")" if operator == "<" else "]" for operator in node[1]]
    if len(node[2]) == 3 and is_name(node[2][1]):
        return ("seq", ends[0], right[1], [node[2][0], node[2][2]])
    if len(node[2]) == 2 and is_name(node[2][0]):
        return ("seq", "(", right[0], [("inf", -1), node[2][1]])
    if len(node[2]) == 2 and is_name(node[2][1]):
        return ("seq", ends[0], ")", [node[2][0], ("inf", 1)])
    raise Unreadable("no interval")


def same_equation(a: Any, b: Any) -> bool:
    """The reference is x = 5 or y = 2x + 3: its right side, the same name and value, or the same line."""
    name, value = b[2]
    if callable(a):
        return equal(a, value)
    if a[0] != "rel" or set(a[1]) != {"="}:
        return a[0] == "unit" and False
    sides = a[2]
    if equal(value, lambda p: value(POINTS[0])):  # a number: the name must be there as it is
        rest = [side for side in sides if not (callable(side) and equal(side, name))]
        return 0 < len(rest) and all(callable(side) and equal(side, value) for side in rest)
    if len(sides) != 2 or not all(map(callable, sides)):
        return False
    ratios = [(sides[0](p) - sides[1](p)) / (name(p) - value(p)) for p in POINTS]
    return abs(ratios[0]) > _CLOSE and all(
        abs(ratio - ratios[0]) < _CLOSE * abs(ratios[0]) for ratio in ratios
    )
