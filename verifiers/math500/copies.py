r"""Is an answer that equals the reference finished, or is it the problem said again?

Leniently `513^2 - 487^2` is 26000, and so copying the problem would solve it. With the problem at hand an equal
answer is refused where nothing in it is finished. That is a side that equals the reference by itself, neither stands
in the problem (as text, or as a tree in normal form) nor holds a formula of it of the reference's value, and asks for
no work (`\gcd(10,15)`, `8!`, `2 + 3`) that the reference does not ask for. Bare numbers and words, and what has the
reference's own text, are finished, unless the problem states the very equation.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import combinations
from math import isqrt
from typing import TYPE_CHECKING

from verifiers.math500.exact import Undefined
from verifiers.math500.lexer import COMMAND, Malformed, Unsupported, to_latex
from verifiers.math500.normal_form import normal
from verifiers.math500.parser import Parser
from verifiers.math500.probe import NO
from verifiers.math500.tree import MINUS_ONE, ONE, TRIGONOMETRIC, ZERO, Node, has_product_of_sums, symbols
from verifiers.math500.typed import Comparison

if TYPE_CHECKING:
    from verifiers.math500.task import Reference

PROBLEMS_REMEMBERED = 4096

# Commands that ask for work by their kind, whatever they are of, and functions that do where they are of a number.
_COMMANDS = {
    **{name: name for name in "gcd lcm max min det sum prod lim".split()},
    **{"begin vmatrix": "det", "cap": "cap", "setminus": "cap"},
    **dict.fromkeys(["int", "iint", "oint"], "int"),
    **dict.fromkeys(["bmod", "pmod", "mod"], "mod"),
}
_FUNCTIONS = frozenset([*TRIGONOMETRIC, *"asin acos atan log ln ! binom abs floor ceil".split()])
_SEPARATORS = ("\\\\", "\\le", "\\ge", "\\text", "=", "<", ">", ",", "&")  # between the parts of a formula
PLUS_MINUS = ("pm", 1)
_FACTORED = ("factored form", "factoriz", "factoris", "factor completely", "factored completely")
_FACTOR = ("factor $", "factor \\(", "factor the ", "factor over ", "factored as ")
_VERB = ("to", "completely", "and", "then", "be")  # words before "factor" as a verb
_ASKING = ("find", "valueof", "compute", "evaluate", "determine", "calculate", "whatis")
_ENDING = ("if", "when", "given", "where", "for", "in")
NUMERIC = "numbers"  # the kind of work that is arithmetic and functions of numbers

_MARKS = (
    "\\\\", "\\left", "\\right", "\\displaystyle", "\\qquad", "\\quad", "\\cdot", "\\times", "\\!", "\\,", "\\;", "\\:",
)  # fmt: skip
_UNSEEN = str.maketrans("", "", " \t\r\n\\{}()[]$~&*")


@lru_cache(4096)
def is_copy(answer: str, gold: Reference, problem: str) -> bool:
    """True for an answer, equal to `gold`, of which no side that equals it is finished."""
    node, _ = _read(answer, gold.variables)
    node = node[1] if node is not None and node[0] == "words" else node
    parts = node[2] if node is not None and node[0] == "rel" else (node,)
    if None not in parts and gold.node and is_of_other_form(parts, gold.node, problem):
        return True
    if "=" in gold.text or not _is_chain(node):
        first, *others = sides_of(answer)
        answer = f"{first}={others[-1]}" if len(others) > 1 and _is_chain(node) else answer
        return not _is_finished(answer, gold, problem, False)
    sides = sides_of(answer)
    nodes_of_sides = node[2] if node is not None else [_read(side, gold.variables)[0] for side in sides]
    if all(map(is_bare, nodes_of_sides)):
        return False  # a value and its names
    if len(sides) > 1:
        if stands_in(plain(answer), _plain_problem(problem)):
            return True
        pairs = [("rel", ("=",), pair) for pair in combinations(nodes_of_sides, 2) if None not in pair]
        stated = _stated(problem, gold.variables)
        if any(normal(pair, cancelled) in stated for pair in pairs for cancelled in (False, True)):
            return True
    return not any(_is_finished(side, gold, problem, len(sides) > 1) for side in sides)


def _is_finished(side: str, gold: Reference, problem: str, one_of_several: bool) -> bool:
    """True for a side that equals `gold`, as the only one is known to, and is no copy and no work left to do."""
    node, work = _read(side, gold.variables)
    if node is not None and node[0] == "rel" and node[2][0][0] in ("text", "words"):
        node = node[2][-1]  # "The answer is 5"
    if one_of_several and not _may_equal(node, gold):
        return False
    text = plain(side)
    if is_bare(node) or text == plain(gold.text):
        return True
    if not work <= _read(gold.text, None)[1]:
        return False
    own = normal(gold.node) if gold.node else ()
    form = normal(node) if node else None
    if form == own or stands_in(text, _plain_problem(problem)):
        return form == own
    if node is None:
        return True
    stated = _stated(problem, gold.variables) - {*nodes(own)}
    copied = stated & {normal(part, cancelled) for part in nodes(node) for cancelled in (False, True)}
    return not any(part == form or _may_equal(part, gold) for part in copied)


def is_of_other_form(sides: Sequence[Node], gold: Node, problem: str) -> bool:
    """True where no side is in the form that the problem asks for: factored, a product of primes, expanded."""
    text = problem.lower()
    if ("prime factor" in text or "product of prime" in text) and is_product_of_primes(gold):
        return not any(map(is_product_of_primes, sides))
    if symbols(gold) and asks_to_factor(text):
        return max(map(count_factors, sides)) < count_factors(gold)
    expand = "expand" in text.replace("$", " ").split() and not has_product_of_sums(gold)
    return expand and all(map(has_product_of_sums, sides))


def asks_to_factor(text: str) -> bool:
    """True for "Factor $x^2-1$." and "in factored form"; not for a factor that something has or grows by."""
    if any(mark in text for mark in _FACTORED):
        return True
    before = [text.partition(mark)[0].split() for mark in _FACTOR if mark in text]
    return any(not words or words[-1][-1] in ".:;,?" or words[-1] in _VERB for words in before)


def count_factors(node: Node) -> int:
    """How many factors with variables a product has."""
    if node[0] == "*":
        return sum(map(count_factors, node[1]))
    if node[0] == "^" and node[2][0] == "num" and node[2][2] == 1:
        return node[2][1] * count_factors(node[1])
    if node[0] == "/":
        return count_factors(node[1])
    return int(node[0] in ("sym", "+") and bool(symbols(node)))


def is_product_of_primes(node: Node) -> bool:
    if node[0] == "*":
        return all(map(is_product_of_primes, node[1]))
    if node[0] == "^" and node[2][0] == "num":
        return is_product_of_primes(node[1])
    n = node[1] if node[0] == "num" and node[2] == 1 and 1 < node[1] < 10**6 else 4
    return all(n % k for k in range(2, isqrt(n) + 1))


def is_asked(name: str, problem: str) -> bool:
    """True for a formula that the problem asks for: "find $x^3+y^3$."."""
    name, asked = plain(name), _plain_problem(problem)
    start = asked.find(name) if len(name) > 2 else -1
    while start >= 0:
        before, behind = asked[:start].lower(), asked[start + len(name) :].lower()
        if before.endswith(_ASKING) and (not behind or behind[0] in ".,;?:" or behind.startswith(_ENDING)):
            return True
        start = asked.find(name, start + 1)
    return False


def _is_chain(node: Node | None) -> bool:
    """True for `a = b`, and for what cannot be read."""
    return node is None or (node[0] == "rel" and {"=", "approx"}.issuperset(node[1]))


def _may_equal(node: Node | None, gold: Reference) -> bool:
    if node is None or gold.node is None:
        return True
    try:
        comparison = Comparison(len(gold.text), False)
        return (comparison.same(node, gold.node) or comparison.renamed(node, gold.node, True)) != NO
    except (Malformed, Unsupported, Undefined, ArithmeticError):
        return False


def sides_of(equation: str) -> list[str]:
    r"""What stands around `=` and `\approx`; the `=` of an index, `\sum_{i=1}^5 i`, belongs to its side."""
    sides, depth = [""], 0
    for mark in equation.replace("\\approx", "=").replace("≈", "="):
        depth += (mark == "{") - (mark == "}")
        if mark == "=" and depth <= 0:
            sides.append("")
        else:
            sides[-1] += mark
    return sides


# ---- its text ----


def stands_in(text: str, problem: str) -> bool:
    """True if a text occurs in the problem other than as a part of a longer number; both as `plain` gives them."""
    start = problem.find(text) if text else -1
    while start >= 0:
        ends = problem[max(start - 1, 0) : start + 1], problem[start + len(text) - 1 : start + len(text) + 1]
        if start == 0:
            ends = ends[1:]
        if not any(len(end) == 2 and end.isdigit() for end in ends):
            return True
        start = problem.find(text, start + 1)
    return False


def plain(text: str) -> str:
    r"""The text without layout, `\text{...}`, brackets, backslashes and multiplication signs."""
    text = text if text.isascii() else to_latex(text)
    for mark in _MARKS:
        text = text.replace(mark, "")
    first, *rest = text.split("\\text{")
    text = first + "".join(part.partition("}")[2] for part in rest)
    return text.translate(_UNSEEN).rstrip(".,;:")


_plain_problem = lru_cache(PROBLEMS_REMEMBERED)(plain)


# ---- what it asks for ----


def is_number(node: Node | None) -> bool:
    """True for digits with what may stand around them: a sign, a unit, a base, words.

    Mixed numbers and repeating decimals are none: they may have to be turned into something.
    """
    if node is None:
        return False
    if node[0] == "num":
        return str(node[2]).strip("0") == "1"
    if node[0] in ("unit", "words", "deg", "pct", "paren"):
        return is_number(node[1])
    if node[0] == "*":
        return len(node[1]) == 2 and node[1][0] in (MINUS_ONE, PLUS_MINUS) and is_number(node[1][1])
    return node[0] == "base"


def is_bare(node: Node | None) -> bool:
    """True for a number, words, a constant, a variable, or letters in a row."""
    if node is not None and node[0] == "*" and all(part[0] == "sym" for part in node[1]):
        return True
    return is_number(node) or (node is not None and node[0] in ("text", "sym", "const"))


@lru_cache(4096)
def _read(text: str, variables: frozenset[str] | None) -> tuple[Node | None, frozenset[str]]:
    """The tree of a text (None where it has none), and the kinds of work it asks for."""
    try:
        parser = Parser(text, variables)
    except Malformed:
        return None, frozenset()
    called = {value for kind, value, _ in parser.tokens if kind == COMMAND}
    work = {_COMMANDS[name] for name in called & _COMMANDS.keys()}
    try:
        node = parser.answer()
    except Unsupported:
        node = None
        work |= {NUMERIC for name in called if name in _FUNCTIONS}
    except (Malformed, RecursionError):
        node = None
    if node is not None:
        work -= {"cap", "mod"} if node[0] == "mod" else {"cap"}  # 4 (mod 7), R without 2
        work |= {NUMERIC} if any(map(asks, nodes(node))) else set()
    return node, frozenset(work)


@lru_cache(PROBLEMS_REMEMBERED)
def _stated(problem: str, variables: frozenset[str]) -> frozenset[Node]:
    """The formulas of a problem and their parts, in normal form, but for bare numbers and names."""
    found: set[Node] = set()
    for mark in ("$$", "\\[", "\\]", "\\(", "\\)"):
        problem = problem.replace(mark, "$")
    for formula in problem.replace("\\$", "").split("$")[1::2]:
        formula = formula.strip(" .,;\n")
        node = _read(formula, variables)[0]
        parts = [formula]
        for separator in _SEPARATORS if node is None else ():
            parts = [piece for part in parts for piece in part.split(separator)]
        for part in [node] if node else [_read(part, variables)[0] for part in parts]:
            found.update((*nodes(normal(part)), *nodes(normal(part, cancelled=True))) if part else ())
    return frozenset(part for part in found if not is_bare(part))


def nodes(node: Node) -> Iterator[Node]:
    """The tree's nodes, the outermost first."""
    if not node or node[0] == "text":
        return
    if isinstance(node[0], str):
        yield node
    for part in node:
        if isinstance(part, tuple):
            yield from nodes(part)


def asks(node: Node) -> bool:
    """True for a sum or product of numbers or matrices, a function of one, and what adds 0 or multiplies by 1."""
    kind = node[0]
    if kind == "fn":
        return node[1] in _FUNCTIONS and not any(map(symbols, node[2]))
    if kind in ("/", "^"):
        return node[2] == ONE
    if kind in ("+", "*") and sum(part[0] == "mat" for part in node[1]) > 1:
        return True
    if kind == "+":
        imaginary = any(("const", "i") in (part, *part[1]) for part in node[1] if part[0] != "num")
        return sum(map(is_rational, node[1])) > 1 or (ZERO in node[1] and not imaginary)
    if kind == "*":
        factors = [part for part in node[1] if part not in (MINUS_ONE, PLUS_MINUS)]
        sums = [part for part in factors if part[0] == "+" and not symbols(part)]
        numbers = [part for part in factors if is_rational(part)]
        scientific = len(numbers) == 2 and numbers[1][:2] == ("^", ("num", 10, 1))
        return (
            (len(numbers) > 1 and not scientific)
            or len(sums) > 1
            or (ONE in factors[:-1] or ONE in factors[1:])
        )
    return False


def is_rational(node: Node) -> bool:
    """True for rational numbers, and for sums, products, quotients and powers of them."""
    kind = node[0]
    if kind in ("+", "*"):
        return all(map(is_rational, node[1]))
    if kind in ("/", "^"):
        return all(map(is_rational, node[1:])) and (kind == "/" or node[2][0] != "/")
    return is_rational(node[1]) if kind in ("deg", "pct", "paren") else kind in ("num", "pm")
