r"""Names of values. A side of an equation is a name if it only says which value stands on the other side.

`f(2)` is a name in `f(2) = 36`, and `\gcd(a, b)` in `\gcd(a, b) = 36`. `x + 1` is none in `x + 1 = 36`.

An expression is a tuple, such as ("num", n, d) for the number n/d or ("*", factors) for a product (see tree.py).
"""

from __future__ import annotations

from verifiers.math500 import tree
from verifiers.math500.tree import MINUS_ONE, Node
from verifiers.math500.values import Matrix, Name, Quantity, Row, Value, Words, is_expression
from verifiers.reading.amounts import currencies_of
from verifiers.reading.units import is_known

NAMED_FUNCTIONS = [("sym", name) for name in "fghF"]  # letters that are read as functions: f(2)
UNSOLVED = [
    ("fn", "abs", (("sym", name),)) for name in "xy"
]  # |x|; but |z| is a length, and |S| a number of things
EULER = ("const", "e")  # Euler's number, or a letter such as an eccentricity
INVERSE_FUNCTIONS = [("^", name, MINUS_ONE) for name in NAMED_FUNCTIONS]


def is_name(value: Value) -> bool:
    """True for what has the form of a name: x, f(x), f^{-1}(3), AB, P(A), a word, an angle; no sum or number."""
    if type(value) is Row:
        return all(map(is_name, value.items))
    if not is_expression(value):
        return type(value) in (Words, Name)
    if value[0] == "fn":
        _, function, (argument, *_) = value
        may_be_named = function == "ln" or function in tree.TRIGONOMETRIC  # sin A
        return may_be_named and is_name(argument)
    if value[0] != "*":
        # A node "held" holds a value that is no expression, such as a tuple.
        return value[0] == "sym" or (value[0] == "held" and is_name(value[1]))
    first, *others = value[1]
    is_call = first[0] == "sym" and all(part[0] in ("paren", "held") for part in others)  # f(2), P(10, 3)
    is_inverse = first in INVERSE_FUNCTIONS and len(others) == 1  # f^{-1}(3)
    return is_call or is_inverse or all(map(is_name, value[1]))


def names_value(side: Value, gold: Value) -> bool:
    r"""True if a side only names the value that stands on another side: m + n, |z|, \gcd(a, b), 357_8 + 264_8.

    A side with a letter of the reference or with a number is no name: 2x = 10, x + 1 = 6 and |x| = 3 still have to be
    solved.
    """
    node = side.value if type(side) is Quantity and not has_unit(side) else side
    if is_name(node):
        return True
    if not is_expression(node):
        return False
    letters = tree.symbols(node)
    letters_of_gold = tree.symbols(gold) if is_expression(gold) else ()
    # An equation cannot be solved for each letter if its value is a matrix, or if the side has several letters. Numbers
    # beside the letters are then no sign of work left, unless the value is 0: x - 2y = 0 still has to be solved.
    is_unsolvable = type(gold) is Matrix or (len(letters) > 1 and gold != tree.ZERO)
    has_dots = "\\dots" in letters  # 1 + 2 + \dots + n
    has_open_sum = bool(letters) and tree.holds_repeated(node)  # \sum_{k=1}^n k
    if has_dots or has_open_sum or tree.holds_container(node):  # a container: a tuple, set or matrix
        return True
    if node in UNSOLVED:
        return False
    return bool(letters) and letters.isdisjoint(letters_of_gold) and not has_number(node, is_unsolvable)


def has_unit(side: Quantity) -> bool:
    r"""True if the unit is in the tables: 5 cm, x cm; not for \angle CAD, where CAD are points and no dollars."""
    has_letters = is_expression(side.value) and bool(tree.symbols(side.value))
    return is_known(side.unit) and not (has_letters and currencies_of(side.unit))


def is_multiple(node: Node) -> bool:
    """True for a whole number above 0 times a letter: 2c, which is a name if the problem has no c."""
    if node[0] != "*" or [part[0] for part in node[1]] != ["num", "sym"]:
        return False
    number = node[1][0]
    return tree.is_whole(number) and number[1] > 0


def has_number(node: Node, is_unsolvable: bool) -> bool:
    """True if a number stands in an expression. The degree of a root and the base of a logarithm do not count.

    `is_unsolvable`: True if the equation cannot be solved for each letter. Then exponents and the factors of a term of
    a sum do not count either: (r + s)^2 - 2rs is a name, but 2ab = 10 still has to be solved for ab.
    """
    kind = node[0]
    if kind == "*" and is_name(node):
        return False  # f(2)
    if kind == "fn" and node[1] in ("root", "log"):
        radicand_or_argument = node[2][0]
        return has_number(radicand_or_argument, is_unsolvable)
    if is_unsolvable and kind == "^":
        base = node[1]
        return has_number(base, is_unsolvable)
    inside = tree.parts(node)
    if is_unsolvable and kind == "+":
        inside = map(without_factor, inside)
    elif is_unsolvable and kind == "*":
        inside = (part for part in inside if part != MINUS_ONE)
    if is_unsolvable and node == EULER:
        return False  # a + d + e
    return kind in ("num", "pct", "const") or any(has_number(part, is_unsolvable) for part in inside)


def without_factor(term: Node) -> Node:
    """A term of a sum without its numeric factors: ab for 2ab."""
    rest = tuple(part for part in term[1] if part[0] != "num") if term[0] == "*" else ()
    return ("*", rest) if rest else term


def base_of(name: Value) -> str:
    """The letter of a name without its index: x for x_1; "" for anything else."""
    return name[1].partition("_")[0] if is_expression(name) and name[0] == "sym" else ""


def named_value(relation: Value) -> Value | None:
    """The value behind a name: 5 for x = 5, [2, 7] for x in [2, 7], 2x + 3 for y = 2x + 3; None if there is no name."""
    name, *values = relation.sides
    return (
        values[0] if relation.operators in (("=",), ("in",)) and (is_name(name) or is_measure(name)) else None
    )


def is_measure(value: Value) -> bool:
    r"""True for a length and a quotient of lengths between points, which are capitals: |AB|, \frac{NO}{BO}."""
    if not is_expression(value) or not (value[0] == "/" or value[:2] == ("fn", "abs")):
        return False
    lengths = value[2] if value[0] == "fn" else value[1:]
    return all(
        length[0] == "*" and all(p[0] == "sym" and p[1].isupper() for p in length[1]) for length in lengths
    )
