r"""Reads tokens of pure mathematics into an expression (see `tree`); nothing in it is ever executed.

Recursive descent: a sum of products of powers. What begins with a bracket is read by a function of the table `readers`
of the text; so lists, relations and quantities may stand there. Malformed and unsupported mathematics raises.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Never

from verifiers.amounts import CODES, MAGNITUDES, MONEY_MAGNITUDES, NAMES, SIGNS
from verifiers.math500.read.atoms import (
    accept_degree,
    accept_raised,
    number,
    read_label,
    read_name,
    read_number,
    subscripted,
)
from verifiers.math500.read.cursor import MIXED, Cursor, Readers
from verifiers.math500.read.lexer import COMMAND, LETTERS, NUMBER, SIGN, WORD, Malformed, Unsupported
from verifiers.math500.read.quantities import expression_ends
from verifiers.math500.read.tree import (
    BOUND,
    INFINITY,
    MINUS_ONE,
    ONE,
    TRIGONOMETRIC,
    Node,
    holds_repeated,
    is_whole,
    substituted,
)
from verifiers.math500.read.units import DEGREE_LETTERS
from verifiers.math500.read.values import REALS, Row, Set, is_expression, released
from verifiers.math500.read.words import ORDINALS

DEPTH_LIMIT = 40
GREEK = frozenset(
    "alpha beta gamma delta epsilon varepsilon zeta eta theta vartheta iota kappa lambda mu nu xi rho sigma tau "
    "upsilon phi chi psi omega Gamma Delta Theta Lambda Xi Sigma Phi Psi Omega ell emptyset hbar "
    "triangle angle dots".split()
)
ARGUMENTS = {"frac", "pi", "infty", *GREEK}  # commands that may stand bare behind another
NO_FACTOR = frozenset(
    "pm mp cup deg over choose rfloor rceil bmod pmod forall rangle le ge in ne equiv approx".split()
)
SELECTING = frozenset("gcd lcm max min".split())  # one of several numbers in brackets, or made of them
HYPERBOLIC = frozenset("sinh cosh tanh sech csch coth".split())
FUNCTIONS = frozenset("asin acos atan ln log exp cis abs".split()) | TRIGONOMETRIC | HYPERBOLIC
ACCENTS = frozenset("tilde dot ddot overline".split())  # over a name
CONSTANTS = {"pi": ("const", "pi"), "infty": INFINITY, "mathbb R": REALS}
NUMBER_SETS = frozenset(f"mathbb {name}" for name in "NZQC")
UNSUPPORTED = frozenset(
    "iint oint lim limits partial cap setminus equiv pmod bmod mod to mapsto Rightarrow iff wedge "
    "vee neg forall exists subset subseteq det".split()
) | {"begin aligned", "begin align*", "begin vmatrix"}
OPENING, CLOSING = ("(", "["), (")", "]")
POSTFIX = frozenset("deg ^ ! %".split())
PLUS_MINUS = frozenset("+ - pm mp".split())


def read_expression(cursor: Cursor) -> Node:
    r"""A sum, or two with \over, \choose or \bmod between them."""
    node = read_sum(cursor)
    if cursor.kind != COMMAND or cursor.value not in ("over", "choose", "bmod"):
        return node
    operator, other = cursor.advance(), read_sum(cursor)
    if operator == "over":
        return ("/", node, other)
    return ("fn", "mod" if operator == "bmod" else "binom", (node, other))


def read_sum(cursor: Cursor) -> Node:
    terms = [behind_sign(cursor, read_product)]
    while at_sign(cursor):
        terms.append(behind_sign(cursor, read_product))
    return terms[0] if len(terms) == 1 else ("+", tuple(terms))


def at_sign(cursor: Cursor) -> bool:
    value = cursor.value
    return value in PLUS_MINUS and (value in "+-" or cursor.kind == COMMAND)


def behind_sign(cursor: Cursor, read: Callable[[Cursor], Node]) -> Node:
    """What is read, with the signs that stand before it as its first factor; a literal takes a minus into itself."""
    if cursor.value not in PLUS_MINUS:
        return read(cursor)
    factors: list[Node] = []
    while at_sign(cursor):
        if cursor.value != "+":
            factors.append(MINUS_ONE if cursor.value == "-" else ("pm", 1 if cursor.value == "pm" else -1))
        cursor.advance()
    node = read(cursor)
    if not factors:
        return node
    sign = product(factors)
    if sign is MINUS_ONE and node[0] == "num" and node[1] >= 0:
        return ("num", -node[1], node[2])
    return ("*", (sign, *node[1]) if node[0] == "*" else (sign, node))


def read_product(cursor: Cursor) -> Node:
    factors = [read_power(cursor)]
    while cursor.kind != "end":
        if cursor.value in ("*", "/"):
            operator = cursor.advance()
            right = behind_sign(cursor, read_power)
            factors = [("/", product(factors), right)] if operator == "/" else [*factors, right]
        elif cursor.kind == NUMBER:
            number_behind(cursor, factors)
        elif cursor.value == "of" and factors[-1][0] in ("pct", "/") and cursor.peek()[0] == NUMBER:
            cursor.advance()
            factors.append(read_power(cursor))
        elif starts_factor(cursor):
            factor_behind(cursor, factors)
        else:
            break
    return product(factors)


def factor_behind(cursor: Cursor, factors: list[Node]) -> None:
    """A factor right behind others; the fraction of a mixed number is made one with its whole number."""
    if cursor.value == "{" and cursor.peek()[0] == NUMBER and cursor.peek(2)[1] == "}":
        raise Malformed("digits in braces")  # 4{10} is no product
    called = factors[-1][0] == "sym" and cursor.value == "("
    literal = cursor.peek(-1)[0] == NUMBER and cursor.value not in OPENING  # 4(1/2) is a product
    factor = read_power(cursor)
    factors.append(("paren", factor) if called and factor[0] == "num" else factor)
    if literal:
        join_mixed(cursor, factors)


def join_mixed(cursor: Cursor, factors: list[Node]) -> None:
    r"""Make a whole number and the proper fraction behind it one number; no `2\frac{3}{2}`."""
    mark = factors[-1][0] if factors[-1][0] in ("deg", "pct") else ""
    whole, part = factors[-2], factors[-1][1] if mark else factors[-1]
    if whole[0] == "num" and part[0] == "/" and all(map(is_whole, part[1:])):
        if whole[2] != 1 or not 0 < part[1][1] < part[2][1]:
            raise Malformed("neither a mixed number nor clearly a product")
        cursor.marks.append(MIXED)
        top = part[1][1] if whole[1] >= 0 else -part[1][1]
        node: Node = ("num", whole[1] * part[2][1] + top, part[2][1])
        factors[-2:] = [(mark, node) if mark else node]


def number_behind(cursor: Cursor, factors: list[Node]) -> None:
    """A number behind a factor: the fraction of a mixed number written as `1 1/2`, or a factor itself.

    A factor it is behind a bracket, and where it has a power or a factorial and no number stands right before it.
    """
    top, (_, slash, _), (kind, bottom, _) = cursor.value, cursor.peek(), cursor.peek(2)
    before = cursor.peek(-1)
    mixed = cursor.spaced and before[0] == NUMBER and factors[-1][0] == "num" and slash == "/"
    if mixed and kind == NUMBER and top.isdigit() and bottom.isdigit():
        cursor.advance(3)
        node: Node = ("/", number(top), number(bottom))
        factors.append(("deg", node) if accept_degree(cursor) else node)
        join_mixed(cursor, factors)
        return
    if before[0] == NUMBER or not (before[1] in CLOSING or slash in ("^", "!")):
        raise Malformed("two numbers side by side")
    factors.append(read_power(cursor))


def starts_factor(cursor: Cursor) -> bool:
    kind, value = cursor.kind, cursor.value
    if kind == LETTERS:
        return not expression_ends(cursor) and not (value == "U" and cursor.peek()[1] in OPENING)
    if kind == COMMAND:
        if value in NO_FACTOR or value.startswith("end "):
            return False
        if value == "setminus":
            return cursor.peek(-1)[1] not in ("}", ")", "]", "mathbb R")
        return not expression_ends(cursor)
    if value == "(":
        return not expression_ends(cursor)
    return value in ("[", "{", "\\{") or (value == "|" and not cursor.open_bars)


def read_power(cursor: Cursor) -> Node:
    """A primary with what stands behind it: powers, factorials, degree and per cent signs."""
    node = read_primary(cursor)
    while cursor.value in POSTFIX:
        if accept_degree(cursor):
            node = ("deg", node)
            if cursor.value in DEGREE_LETTERS and cursor.peek()[0] == "end":
                cursor.temperature = DEGREE_LETTERS[cursor.advance()]
        elif cursor.value == "^" and accept_raised(cursor, WORD, ORDINALS):
            continue  # 5^{\text{th}}
        elif cursor.accept("^"):
            node = ("^", node, behind_sign(cursor, read_argument))
        elif cursor.accept("!"):
            node = ("fn", "!", (node,))
        elif cursor.accept("%"):
            node, cursor.has_sign = ("pct", node), True
        else:
            break
    return node


def read_primary(cursor: Cursor) -> Node:
    """A number, a name, or what a command or an opening sign says."""
    cursor.depth += 1
    if cursor.depth > DEPTH_LIMIT:
        raise Malformed("too deep")
    if cursor.kind == NUMBER:
        value = read_number(cursor)
    elif cursor.kind == LETTERS:
        value = read_name(cursor)
    else:
        read = cursor.text.readers.get(cursor.value)
        if read is None or cursor.kind == WORD:
            raise Malformed(f"{cursor.value!r} where a value belongs")
        value = read(cursor)
    cursor.depth -= 1
    return value if type(value) is tuple else ("held", value)


def read_argument(cursor: Cursor) -> Node:
    r"""What a command such as \frac or \sqrt takes: a group, or one sign."""
    if cursor.accept("{"):
        node = read_expression(cursor)
        cursor.expect("}")
        return node
    if cursor.kind == NUMBER:
        return number(cursor.advance())
    if cursor.kind == LETTERS:
        return read_name(cursor)
    if cursor.value == "(" or (cursor.kind == COMMAND and cursor.value in ARGUMENTS):
        return read_primary(cursor)
    raise Malformed("argument")


def read_two_arguments(cursor: Cursor) -> tuple[Node, Node]:
    cursor.advance()
    first = read_digit_or_argument(cursor)
    return first, read_digit_or_argument(cursor)


def read_digit_or_argument(cursor: Cursor) -> Node:
    r"""Like `read_argument`, but of a run of digits only the first, as TeX reads `\frac12`."""
    if cursor.kind == NUMBER and len(cursor.value) > 1 and cursor.value.isdigit():
        first, cursor.value, cursor.spaced = cursor.value[0], cursor.value[1:], False
        return number(first)
    return read_argument(cursor)


def product(factors: Sequence[Node]) -> Node:
    return factors[0] if len(factors) == 1 else ("*", tuple(factors))


# ---- commands, and the signs that begin a value ----


def read_bars(cursor: Cursor) -> Node:
    cursor.advance()
    cursor.open_bars += 1
    node = read_sum(cursor)
    cursor.open_bars -= 1
    cursor.expect("|")
    return ("fn", "abs", (node,))


def read_currency(cursor: Cursor) -> Node:
    """A number behind the sign or the code of its currency; a letter behind it stands for a power of ten: $5M."""
    cursor.currency = NAMES[cursor.advance().removeprefix("\\")]
    is_number = cursor.kind == NUMBER
    node = read_primary(cursor)
    letters = [
        token[1].lower()
        for token in cursor.tokens[cursor.position : cursor.end]
        if token[0] in (LETTERS, WORD)
    ]
    for count in (3, 2, 1):
        run = "".join(letters[:count])
        power = MONEY_MAGNITUDES.get(run) or MAGNITUDES.get(run)
        alone = cursor.peek(count)[0] not in (LETTERS, SIGN) and cursor.kind in (LETTERS, WORD)
        if is_number and node[0] == "num" and power and alone and len(run) == count:
            cursor.advance(count)
            return ("num", node[1] * 10**power, node[2])
    return node


def refuse(cursor: Cursor) -> Never:
    raise Unsupported(cursor.value)


def read_accented(cursor: Cursor) -> Node:
    """A name with what stands over it."""
    accent = cursor.advance()
    return ("sym", subscripted(cursor, f"{accent} {read_label(cursor)}"))


def read_rounded(cursor: Cursor) -> Node:
    name = cursor.advance()[1:]  # of lfloor
    node = read_sum(cursor)
    cursor.expect(f"r{name}")
    return ("fn", name, (node,))


def read_selection(cursor: Cursor) -> Node:
    r"""`\gcd(10, 15)`, `\max\{3, 5\}`."""
    name = cursor.advance()
    if cursor.value not in ("(", "[", "\\{"):
        raise Unsupported(name)
    inside = released(read_primary(cursor))
    items = inside.items if type(inside) in (Row, Set) else (inside,)
    if not items or not all(map(is_expression, items)):
        raise Malformed(name)
    return ("fn", name, items)


def read_root(cursor: Cursor) -> Node:
    cursor.advance()
    degree: Node = ("num", 2, 1)
    if cursor.accept("["):
        degree = read_sum(cursor)
        cursor.expect("]")
    return ("fn", "root", (read_argument(cursor), degree))


def read_integral(cursor: Cursor) -> Node:
    r"""`\int_0^1 2x\,dx`."""
    try:
        cursor.advance()
        cursor.expect("_")
        low = read_argument(cursor)
        cursor.expect("^")
        high = read_argument(cursor)
        places, tokens = cursor.text.top_level(cursor.position, cursor.end - 1), cursor.tokens
        end = next(place for place in places if tokens[place][:2] == (LETTERS, "d"))
        inside = cursor.between(cursor.position, end)
        body = ONE if inside.kind == "end" else read_expression(inside)
        cursor.go(inside.position + 1)
        return bounded("int", low, high, body, read_name(cursor))
    except (Malformed, StopIteration):
        raise Unsupported("int") from None


def read_repeated(cursor: Cursor) -> Node:
    r"""`\sum_{k=1}^5 k`, `\prod_{k=1}^5 k`."""
    name = cursor.advance()
    try:
        cursor.expect("_")
        cursor.expect("{")
        index = read_name(cursor)
        cursor.expect("=")
        low = read_sum(cursor)
        cursor.expect("}")
        cursor.expect("^")
        high = read_argument(cursor)
        return bounded(name, low, high, read_product(cursor), index)
    except Malformed:
        raise Unsupported(name) from None


def bounded(name: str, low: Node, high: Node, body: Node, index: Node) -> Node:
    if any(map(holds_repeated, (low, high, body))):  # two that share one BOUND
        raise Unsupported("one in another")
    return ("fn", name, (low, high, substituted(body, {index: BOUND})))


def read_function(cursor: Cursor) -> Node:
    name = cursor.advance()
    base = read_argument(cursor) if name == "log" and cursor.accept("_") else ("num", 10, 1)
    exponent = behind_sign(cursor, read_argument) if cursor.accept("^") else ONE
    bracketed = cursor.value == "("
    factors = [read_power(cursor)]
    while not bracketed and starts_factor(cursor) and cursor.value != "(" and cursor.value not in FUNCTIONS:
        factors.append(read_power(cursor))
    if exponent == MINUS_ONE:
        name, exponent = "a" + name, ONE
    argument = product(factors)
    if name in ("exp", "cis"):
        node = ("^", ("const", "e"), argument if name == "exp" else ("*", (("const", "i"), argument)))
    else:
        node = ("fn", name, (argument, base) if name == "log" else (argument,))
    return node if exponent == ONE else ("^", node, exponent)


COMMANDS: Readers = {
    **dict.fromkeys(UNSUPPORTED, refuse),
    **dict.fromkeys(FUNCTIONS, read_function),
    **dict.fromkeys(GREEK, lambda cursor: ("sym", subscripted(cursor, "\\" + cursor.advance()))),
    **dict.fromkeys(CONSTANTS, lambda cursor: CONSTANTS[cursor.advance()]),
    **dict.fromkeys(ACCENTS, read_accented),
    **dict.fromkeys(SELECTING, read_selection),
    **dict.fromkeys(NUMBER_SETS, lambda cursor: ("sym", cursor.advance())),
    **dict.fromkeys(("sum", "prod"), read_repeated),
    **dict.fromkeys(("lfloor", "lceil"), read_rounded),
    "frac": lambda cursor: ("/", *read_two_arguments(cursor)),
    "binom": lambda cursor: ("fn", "binom", read_two_arguments(cursor)),
    "sqrt": read_root,
    "int": read_integral,
    "|": read_bars,
    **dict.fromkeys(("\\$", *SIGNS, *CODES), read_currency),
}
