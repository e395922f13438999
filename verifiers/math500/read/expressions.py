r"""Reads tokens of pure mathematics into an expression (see `tree`); nothing in it is ever executed.

The expression is read by recursive descent, as a sum of products of powers. The table `readers` of the text (see
`Text` in cursor.py) has a function for each bracket, so that lists, relations and quantities may stand in an
expression. All functions raise `Malformed` and `Unsupported`.

A token is (kind, value, True if white space stands before it); `peek` returns one without reading it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import takewhile
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
from verifiers.math500.read.quantities import at_rate, expression_ends
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
from verifiers.math500.read.values import REALS, Row, Set, as_node, as_value, is_expression
from verifiers.math500.read.words import ORDINALS

DEPTH_LIMIT = 40  # nested brackets and arguments
GREEK = frozenset(
    "alpha beta gamma delta epsilon varepsilon zeta eta theta vartheta iota kappa lambda mu nu xi rho sigma tau "
    "upsilon phi chi psi omega Gamma Delta Theta Lambda Xi Sigma Phi Psi Omega ell emptyset hbar "
    "triangle angle dots".split()
)
ARGUMENTS = {"frac", "pi", "infty", *GREEK}  # commands that may be an argument without braces: \sqrt\pi
NO_FACTOR = frozenset(  # commands that end a product
    "pm mp cup deg over choose rfloor rceil bmod pmod forall rangle le ge in ne equiv approx".split()
)
SELECTING = frozenset("gcd lcm max min".split())  # functions of several numbers in brackets: \gcd(10, 15)
HYPERBOLIC = frozenset("sinh cosh tanh sech csch coth".split())
FUNCTIONS = frozenset("asin acos atan ln log exp cis abs".split()) | TRIGONOMETRIC | HYPERBOLIC
ACCENTS = frozenset("tilde dot ddot overline".split())  # commands that put a sign over a name: \tilde x
CONSTANTS = {"pi": ("const", "pi"), "infty": INFINITY, "mathbb R": REALS}
NUMBER_SETS = frozenset(f"mathbb {name}" for name in "NZQC")
UNSUPPORTED = frozenset(  # commands of mathematics that is not judged
    "iint oint lim limits partial cap setminus equiv pmod bmod mod to mapsto Rightarrow iff wedge "
    "vee neg forall exists subset subseteq det".split()
) | {"begin aligned", "begin align*", "begin vmatrix"}
OPENING, CLOSING = ("(", "["), (")", "]")  # round and square brackets only
POSTFIX = frozenset("deg ^ ! %".split())  # what may stand behind a number or a name: 5!, 30^\circ
PLUS_MINUS = frozenset("+ - pm mp".split())  # signs before a term


def read_expression(cursor: Cursor) -> Node:
    r"""Reads a sum, or two sums with \over, \choose or \bmod between them."""
    node = read_sum(cursor)
    if cursor.kind != COMMAND or cursor.value not in ("over", "choose", "bmod"):
        return node
    operator, other = cursor.advance(), read_sum(cursor)
    if operator == "over":
        return ("/", node, other)
    function = "mod" if operator == "bmod" else "binom"
    return ("fn", function, (node, other))


def read_sum(cursor: Cursor) -> Node:
    """Reads products with +, -, \\pm or \\mp between them."""
    terms = [read_signed(cursor, read_product)]
    while at_sign(cursor):
        terms.append(read_signed(cursor, read_product))
    return terms[0] if len(terms) == 1 else ("+", tuple(terms))


def at_sign(cursor: Cursor) -> bool:
    """True if +, -, \\pm or \\mp stands here; not at the word "pm" of 5 pm."""
    value = cursor.value
    return value in PLUS_MINUS and (value in ("+", "-") or cursor.kind == COMMAND)


def read_signed(cursor: Cursor, read: Callable[[Cursor], Node]) -> Node:
    """Reads signs, and with `read` what follows them. The sign becomes the first factor, or part of a number: -5."""
    if cursor.value not in PLUS_MINUS:
        return read(cursor)
    factors: list[Node] = []
    while at_sign(cursor):
        if cursor.value == "-":
            factors.append(MINUS_ONE)
        elif cursor.value != "+":
            factors.append(("pm", 1 if cursor.value == "pm" else -1))
        cursor.advance()
    node = read(cursor)
    if not factors:
        return node
    sign = product(factors)
    if sign is MINUS_ONE and node[0] == "num" and node[1] >= 0:
        return ("num", -node[1], node[2])
    factors_of_node = node[1] if node[0] == "*" else (node,)
    return ("*", (sign, *factors_of_node))


def read_product(cursor: Cursor) -> Node:
    """Reads powers with a times sign, a slash, "of" or nothing between them: 2x/3, "25% of 40"."""
    factors = [read_power(cursor)]
    while cursor.kind != "end":
        if cursor.value in ("*", "/"):
            if at_rate(cursor):
                break  # the slash of 5/hour belongs to the unit
            operator = cursor.advance()
            right = read_signed(cursor, read_power)
            if operator == "/":
                factors = [quotient(product(factors), right)]
            else:
                factors.append(right)
        elif cursor.kind == NUMBER:
            add_number(cursor, factors)
        elif cursor.value == "of" and factors[-1][0] in ("pct", "/") and cursor.peek()[0] == NUMBER:
            cursor.advance()
            factors.append(read_power(cursor))
        elif starts_factor(cursor):
            add_factor(cursor, factors)
        else:
            break
    return product(factors)


def add_factor(cursor: Cursor, factors: list[Node]) -> None:
    """Reads the next factor and adds it to `factors`; or the fraction of a mixed number such as 2\\frac{1}{2}."""
    if cursor.value == "{" and cursor.peek()[0] == NUMBER and cursor.peek(2)[1] == "}":
        raise Malformed("digits in braces")  # 4{10} is no product
    is_called = factors[-1][0] == "sym" and cursor.value == "("  # f(2), which keeps its brackets
    behind_number = cursor.peek(-1)[0] == NUMBER and cursor.value not in OPENING  # 4(1/2) is a product
    factor = read_power(cursor)
    factors.append(("paren", factor) if is_called and factor[0] == "num" else factor)
    if behind_number:
        join_mixed(cursor, factors)


def join_mixed(cursor: Cursor, factors: list[Node]) -> None:
    r"""Replaces a whole number and a fraction at the end of the factors by one mixed number: `2\frac{1}{2}`.

    Any other factors stay. Raises `Malformed` for `2\frac{3}{2}`, whose fraction is not below 1, and for
    `2.5\frac{1}{2}`.
    """
    whole, last = factors[-2:]
    sign = last[0] if last[0] in ("deg", "pct") else ""  # of degrees or per cent
    part = last[1] if sign else last
    if whole[0] != "num" or part[0] != "/" or not all(map(is_whole, part[1:])):
        return
    (_, n, divisor), (_, above, _), (_, below, _) = whole, *part[1:]
    if divisor != 1 or not 0 < above < below:
        raise Malformed("neither a mixed number nor clearly a product")
    cursor.marks.append(MIXED)
    signed_above = above if n >= 0 else -above
    node: Node = ("num", n * below + signed_above, below)
    factors[-2:] = [(sign, node) if sign else node]


def add_number(cursor: Cursor, factors: list[Node]) -> None:
    """Reads a number and adds it to `factors`; or the fraction of a mixed number such as `1 1/2`.

    The number may be a factor behind a bracket, or with a power or a factorial, as in x 2^3, but never right behind
    another number.
    """
    top = cursor.value
    kind_before, before, _ = cursor.peek(-1)
    _, following, _ = cursor.peek()
    kind_of_bottom, bottom, _ = cursor.peek(2)
    follows_whole = cursor.spaced and kind_before == NUMBER and factors[-1][0] == "num"
    is_fraction = following == "/" and kind_of_bottom == NUMBER and top.isdigit() and bottom.isdigit()
    if follows_whole and is_fraction:
        cursor.advance(3)
        node: Node = ("/", number(top), number(bottom))
        factors.append(("deg", node) if accept_degree(cursor) else node)
        join_mixed(cursor, factors)
        return
    may_be_factor = before in CLOSING or following in ("^", "!")
    if kind_before == NUMBER or not may_be_factor:
        raise Malformed("two numbers side by side")
    factors.append(read_power(cursor))


def starts_factor(cursor: Cursor) -> bool:
    """True if a factor begins here without a times sign: the x of 2x; not the m of 5 m, which is a unit."""
    kind, value = cursor.kind, cursor.value
    if kind == LETTERS:
        is_union = value == "U" and cursor.peek()[1] in OPENING  # [0, 1) U (2, 3)
        return not expression_ends(cursor) and not is_union
    if kind == COMMAND:
        if value in NO_FACTOR or value.startswith("end "):
            return False
        if value == "setminus":  # ends the product only behind what may be a set
            return cursor.peek(-1)[1] not in ("}", ")", "]", "mathbb R")
        return not expression_ends(cursor)
    if value == "(":
        return not expression_ends(cursor)
    opens_bars = value == "|" and not cursor.open_bars
    return value in ("[", "{", "\\{") or opens_bars


def read_power(cursor: Cursor) -> Node:
    """Reads a number, a name or a bracket with the powers, factorials, degree and per cent signs behind it."""
    node = read_primary(cursor)
    while cursor.value in POSTFIX:
        if accept_degree(cursor):
            node = ("deg", node)
            if cursor.value in DEGREE_LETTERS and cursor.peek()[0] == "end":
                cursor.temperature = DEGREE_LETTERS[cursor.advance()]
        elif cursor.value == "^" and accept_raised(cursor, WORD, ORDINALS):
            continue  # 5^{\text{th}}
        elif cursor.accept("^"):
            node = ("^", node, read_signed(cursor, read_argument))
        elif cursor.accept("!"):
            node = ("fn", "!", (node,))
        elif cursor.accept("%"):
            node, cursor.has_sign = ("pct", node), True
        else:
            break
    return node


def read_primary(cursor: Cursor) -> Node:
    """Reads a number, a name, or what begins with a command or an opening bracket."""
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
    return as_node(value)


def read_argument(cursor: Cursor) -> Node:
    r"""Reads the argument of a command such as \sqrt: a group in braces or one token."""
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
    r"""Reads a command such as \frac, and returns its two arguments."""
    cursor.advance()
    first = read_digit_or_argument(cursor)
    return first, read_digit_or_argument(cursor)


def read_digit_or_argument(cursor: Cursor) -> Node:
    r"""Like `read_argument`, but reads only the first of several digits, as TeX does in `\frac12`."""
    if cursor.kind == NUMBER and len(cursor.value) > 1 and cursor.value.isdigit():
        first = cursor.value[0]
        cursor.value, cursor.spaced = cursor.value[1:], False  # the other digits are still to be read
        return number(first)
    return read_argument(cursor)


def product(factors: Sequence[Node]) -> Node:
    """The product of factors; a single factor as it is."""
    return factors[0] if len(factors) == 1 else ("*", tuple(factors))


def quotient(above: Node, below: Node) -> Node:
    """A quotient. A degree or per cent sign behind a fraction of two numbers belongs to the whole fraction: 3/4%."""
    has_sign = above[0] == "num" and below[0] in ("deg", "pct") and below[1][0] == "num"
    return (below[0], ("/", above, below[1])) if has_sign else ("/", above, below)


# ---- commands, and the signs that begin a value ----


def read_bars(cursor: Cursor) -> Node:
    """Reads an absolute value: |x|."""
    cursor.advance()
    cursor.open_bars += 1
    node = read_sum(cursor)
    cursor.open_bars -= 1
    cursor.expect("|")
    return ("fn", "abs", (node,))


def read_currency(cursor: Cursor) -> Node:
    """Reads the sign or code of a currency, the number behind it, and the letters of a power of ten: $5M, $5mln."""
    cursor.currency = NAMES[cursor.advance().removeprefix("\\")]
    is_number = cursor.kind == NUMBER
    node = read_primary(cursor)
    if not is_number or node[0] != "num" or cursor.kind not in (LETTERS, WORD):
        return node
    behind = takewhile(lambda token: token[0] in (LETTERS, WORD), cursor.tokens[cursor.position : cursor.end])
    letters_behind = [value.lower() for _, value, _ in behind]
    for count in (3, 2, 1):  # mln, bn, M: each letter is a token, so the first three are enough
        run = "".join(letters_behind[:count])
        power = MONEY_MAGNITUDES.get(run) or MAGNITUDES.get(run)
        ends_there = cursor.peek(count)[0] not in (LETTERS, SIGN)
        if power and ends_there and len(run) == count:
            cursor.advance(count)
            return ("num", node[1] * 10**power, node[2])
    return node


def refuse(cursor: Cursor) -> Never:
    """Raises `Unsupported` for the command here."""
    raise Unsupported(cursor.value)


def read_accented(cursor: Cursor) -> Node:
    """Reads a name with a sign over it: `\\tilde x`."""
    accent = cursor.advance()
    return ("sym", subscripted(cursor, f"{accent} {read_label(cursor)}"))


def read_rounded(cursor: Cursor) -> Node:
    r"""Reads `\lfloor x \rfloor` or `\lceil x \rceil`."""
    name = cursor.advance()[1:]  # floor of lfloor
    node = read_sum(cursor)
    cursor.expect(f"r{name}")
    return ("fn", name, (node,))


def read_selection(cursor: Cursor) -> Node:
    r"""Reads `\gcd(10, 15)` or `\max\{3, 5\}`."""
    name = cursor.advance()
    if cursor.value not in ("(", "[", "\\{"):
        raise Unsupported(name)
    inside = as_value(read_primary(cursor))
    items = inside.items if type(inside) in (Row, Set) else (inside,)
    if not items or not all(map(is_expression, items)):
        raise Malformed(name)
    return ("fn", name, items)


def read_root(cursor: Cursor) -> Node:
    r"""Reads `\sqrt{x}` or `\sqrt[3]{x}`."""
    cursor.advance()
    degree: Node = ("num", 2, 1)
    if cursor.accept("["):
        degree = read_sum(cursor)
        cursor.expect("]")
    return ("fn", "root", (read_argument(cursor), degree))


def read_integral(cursor: Cursor) -> Node:
    r"""Reads `\int_0^1 2x\,dx`; raises `Unsupported` for an integral without bounds or in another layout."""
    try:
        cursor.advance()
        cursor.expect("_")
        low = read_argument(cursor)
        cursor.expect("^")
        high = read_argument(cursor)
        places, tokens = cursor.text.top_level(cursor.position, cursor.end - 1), cursor.tokens
        place_of_d = next(place for place in places if tokens[place][:2] == (LETTERS, "d"))
        inside = cursor.between(cursor.position, place_of_d)
        is_empty = inside.kind == "end"  # \int_0^1 dx
        body = ONE if is_empty else read_expression(inside)
        if inside.kind != "end":  # more than one expression stands before the d
            raise Unsupported("int")
        cursor.go(place_of_d + 1)  # to the x of dx
        return repeated("int", low, high, body, read_name(cursor))
    except (Malformed, StopIteration):
        raise Unsupported("int") from None


def read_repeated(cursor: Cursor) -> Node:
    r"""Reads `\sum_{k=1}^5 k` or `\prod_{k=1}^5 k`; raises `Unsupported` for any other layout."""
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
        return repeated(name, low, high, read_product(cursor), index)
    except Malformed:
        raise Unsupported(name) from None


def repeated(name: str, low: Node, high: Node, body: Node, index: Node) -> Node:
    """The node of an integral, sum or product, with `BOUND` in place of its variable `index`."""
    if any(map(holds_repeated, (low, high, body))):  # both would use BOUND
        raise Unsupported("one in another")
    return ("fn", name, (low, high, substituted(body, {index: BOUND})))


def read_function(cursor: Cursor) -> Node:
    r"""Reads a function with its argument, with brackets or without: `\sin 2x`, `\log_2 8`, `\sin^{-1} x`."""
    name = cursor.advance()
    has_base = name == "log" and cursor.accept("_")
    base = read_argument(cursor) if has_base else ("num", 10, 1)
    exponent = read_signed(cursor, read_argument) if cursor.accept("^") else ONE
    bracketed = cursor.value == "("
    factors = [read_power(cursor)]
    while not bracketed and starts_factor(cursor) and cursor.value != "(" and cursor.value not in FUNCTIONS:
        factors.append(read_power(cursor))
    if exponent == MINUS_ONE:
        name, exponent = "a" + name, ONE  # \sin^{-1} is asin
    argument = product(factors)
    if name == "exp":
        node = ("^", ("const", "e"), argument)
    elif name == "cis":
        node = ("^", ("const", "e"), ("*", (("const", "i"), argument)))
    elif name == "log":
        node = ("fn", name, (argument, base))
    else:
        node = ("fn", name, (argument,))
    return node if exponent == ONE else ("^", node, exponent)


COMMANDS: Readers = {  # {a command or a sign: what reads the value that begins with it}
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
