r"""Reads tokens of pure mathematics into an expression (see `tree`); nothing in it is ever executed.

What stands in brackets may be a list, a relation or a quantity: `Reader` reads it and calls this parser for each
expression, within bounds that it knows. So no token is read twice.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import TypeVar

from verifiers.math500.read.lexer import COMMAND, LETTERS, NUMBER, WORD, Malformed, Token
from verifiers.math500.read.prose import Brackets
from verifiers.math500.read.tree import MINUS_ONE, Node, period, repeating
from verifiers.math500.read.values import Based, Quantity, Row, Set, Value, is_expression
from verifiers.math500.read.words import NUMBER_WORDS, ORDINALS

DEPTH_LIMIT = 40
END: Token = ("end", "", False)
T = TypeVar("T")

GREEK = frozenset(
    "alpha beta gamma delta epsilon varepsilon zeta eta theta vartheta iota kappa lambda mu nu xi rho sigma tau "
    "upsilon phi chi psi omega Gamma Delta Theta Lambda Xi Sigma Phi Psi Omega ell emptyset hbar "
    "triangle angle dots".split()
)
ARGUMENTS = {"frac", "pi", "infty", *GREEK}  # commands that may stand bare behind another
NO_FACTOR = frozenset(
    "pm mp cup deg over choose rfloor rceil bmod pmod forall rangle le ge in ne equiv approx".split()
)
CLOSING = {"(": ")", "[": "]"}
BASE_SIGNS = {"_": "", "in": "", "base": "", "{": "}", "(": ")"}
POSTFIX = frozenset("deg ^ ! %".split())
SIGNS = frozenset("+ - pm mp".split())


class Parser:
    """Recursive descent over the tokens of one answer; raises `Malformed` or `Unsupported`.

    `match` holds the place of the closing bracket for each opening one. A class that inherits it says what stands
    in brackets (`within`), what a command says (`command`) and where an expression ends (`is_behind`). The value of a
    SIGN alone tells it from any other token, that of a COMMAND or a WORD does not.
    """

    tokens: list[Token]
    match: Brackets
    letters: frozenset[str] | None

    depth = 0  # of nesting
    open_bars = 0
    mixed = False  # if a mixed number was read
    marks = False  # if a degree or per cent sign was
    holds = False  # if a value in an expression, a plus-minus sign or an empty set was: what `meaning` is for
    currency = ""  # unit of the side being read, from a currency sign before it

    def go(self, position: int) -> None:
        """Read on at a place."""
        self.position = position
        self.kind, self.value, self.spaced = self.tokens[position] if position < self.end else END

    def advance(self, count: int = 1) -> str:
        """Go on by one token or more; the value of the first one."""
        value = self.value
        position = self.position = self.position + count
        self.kind, self.value, self.spaced = self.tokens[position] if position < self.end else END
        return value

    def peek(self, offset: int = 1) -> Token:
        place = self.position + offset
        return self.tokens[place] if 0 <= place < self.end else END

    def accept(self, value: str, kind: str | None = None) -> bool:
        """True if a token of this value, and kind where one is given, stood here; it is read."""
        if self.value == value and (kind is None or kind == self.kind):
            self.advance()
            return True
        return False

    def expect(self, sign: str) -> None:
        if not self.accept(sign):
            raise Malformed(f"{sign} expected")

    def in_brackets(self) -> tuple[str, list[Value], str]:
        """The opening bracket that stands here, the values in it and the closing one; they are read."""
        close, end, bars = self.match[self.position], self.end, self.open_bars
        opening, self.open_bars = self.value, 0
        items = self.within(self.position + 1, close)
        self.end, self.open_bars = end, bars
        self.go(close)
        return opening, items, self.advance()

    # ---- sums, products and powers ----

    def sum(self) -> Node:
        terms = [self.behind_sign(self.term)]
        while self.starts_sign():
            terms.append(self.behind_sign(self.term))
        return terms[0] if len(terms) == 1 else ("+", tuple(terms))

    def starts_sign(self) -> bool:
        value = self.value
        return value in SIGNS and (value in "+-" or self.kind == COMMAND)

    def sign(self) -> Node | None:
        """The signs before a term: None for plus, else a factor."""
        factors: list[Node] = []
        while self.starts_sign():
            if self.value != "+":
                self.holds |= self.value != "-"
                factors.append(MINUS_ONE if self.value == "-" else ("pm", 1 if self.value == "pm" else -1))
            self.advance()
        return product(factors) if factors else None

    def behind_sign(self, read: Callable[[], Node]) -> Node:
        """What is read, with the signs that stand before it."""
        sign = self.sign() if self.value in SIGNS else None
        node = read()
        return node if sign is None else signed(sign, node)

    def term(self) -> Node:
        factors = [self.power()]
        while self.kind != "end":
            if self.value in ("*", "/"):
                operator = self.advance()
                right = self.behind_sign(self.power)
                factors = [("/", product(factors), right)] if operator == "/" else [*factors, right]
            elif self.kind == NUMBER:
                self.number_behind(factors)
            elif self.value == "of" and factors[-1][0] in ("pct", "/") and self.peek()[0] == NUMBER:
                self.advance()
                factors.append(self.power())
            elif self.starts_factor():
                self.factor_behind(factors)
            else:
                break
        return product(factors)

    def factor_behind(self, factors: list[Node]) -> None:
        """A factor right behind others; the fraction of a mixed number is made one with its whole number."""
        if self.value == "{" and self.peek()[0] == NUMBER and self.peek(2)[1] == "}":
            raise Malformed("digits in braces")  # 4{10} is no product
        called = factors[-1][0] == "sym" and self.value == "("
        literal = self.peek(-1)[0] == NUMBER and self.value not in CLOSING  # 4(1/2) is a product
        factor = self.power()
        factors.append(("paren", factor) if called and factor[0] == "num" else factor)
        if literal:
            self.join_mixed(factors)

    def join_mixed(self, factors: list[Node]) -> None:
        r"""Make a whole number and the proper fraction behind it one number; no `2\frac{3}{2}`."""
        mark = factors[-1][0] if factors[-1][0] in ("deg", "pct") else ""
        whole, part = factors[-2], factors[-1][1] if mark else factors[-1]
        if whole[0] == "num" and is_quotient(part):
            if whole[2] != 1 or not 0 < part[1][1] < part[2][1]:
                raise Malformed("neither a mixed number nor clearly a product")
            self.mixed = True
            top = part[1][1] if whole[1] >= 0 else -part[1][1]
            node: Node = ("num", whole[1] * part[2][1] + top, part[2][1])
            factors[-2:] = [(mark, node) if mark else node]

    def number_behind(self, factors: list[Node]) -> None:
        """A number behind a factor: the fraction of a mixed number written as `1 1/2`, or a factor itself.

        A factor it is behind a bracket, and where it has a power or a factorial and no number stands right before it.
        """
        top, (_, slash, _), (kind, bottom, _) = self.value, self.peek(), self.peek(2)
        before = self.peek(-1)
        mixed = self.spaced and before[0] == NUMBER and factors[-1][0] == "num" and slash == "/"
        if mixed and kind == NUMBER and top.isdigit() and bottom.isdigit():
            self.advance(3)
            node: Node = ("/", number(top), number(bottom))
            factors.append(("deg", node) if self.accept_degree() else node)
            self.join_mixed(factors)
            return
        if before[0] == NUMBER or not (before[1] in CLOSING.values() or slash in ("^", "!")):
            raise Malformed("two numbers side by side")
        factors.append(self.power())

    def starts_factor(self) -> bool:
        if self.kind == LETTERS:
            return not self.is_behind() and not (self.value == "U" and self.peek()[1] in ("(", "["))
        if self.kind == COMMAND:
            if self.value in NO_FACTOR or self.value.startswith("end "):
                return False
            if self.value == "setminus":
                return self.peek(-1)[1] not in ("}", ")", "]", "mathbb R")
            return not self.is_behind()
        if self.value == "(":
            return not self.is_behind()
        return self.value in ("[", "{", "\\{") or (self.value == "|" and not self.open_bars)

    def power(self) -> Node:
        """A primary with what stands behind it: powers, factorials, degree and per cent signs."""
        node = self.primary()
        while self.value in POSTFIX:
            if self.accept_degree():
                node = ("deg", node)
            elif self.value == "^" and self.raised(WORD, ORDINALS):
                continue  # 5^{\text{th}}
            elif self.accept("^"):
                node = ("^", node, self.exponent())
            elif self.accept("!"):
                node = ("fn", "!", (node,))
            elif self.accept("%"):
                node, self.marks = ("pct", node), True
            else:
                break
        return node

    def raised(self, kind: str, values: Collection[str]) -> bool:
        r"""True if one of the values stood behind this `^`, in braces or without: `^{\text{th}}`; it is read."""
        braces = self.peek()[1] == "{"
        here, value, _ = self.peek(2 if braces else 1)
        if here != kind or value not in values:
            return False
        self.advance()
        self.braced(self.advance)
        return True

    def braced(self, read: Callable[[], T]) -> T:
        """What is read, in braces or without."""
        if not self.accept("{"):
            return read()
        value = read()
        self.expect("}")
        return value

    def accept_degree(self) -> bool:
        """True if a degree sign stood here, in any of its forms; it is read."""
        found = self.accept("deg", COMMAND) or (self.value == "^" and self.raised(COMMAND, ("circ", "deg")))
        self.marks |= found
        return found

    # ---- what an expression is made of ----

    def exponent(self) -> Node:
        return self.behind_sign(self.argument)

    def group(self) -> Node:
        """What stands in braces."""
        self.expect("{")
        node = self.infix()
        self.expect("}")
        return node

    def group_or_set(self) -> Value:
        """What stands in braces, or a set whose backslashes were lost: {1, 2}."""
        _, items, _ = self.in_brackets()
        if self.value == "_" and is_expression(items[0]) and items[0][0] == "sym":
            return ("sym", self.subscripted(items[0][1]))  # \mathbf{v}_1
        return items[0] if len(items) == 1 else Set(tuple(items))

    def top_level(self, low: int, high: int) -> Sequence[int]:
        """The places of the tokens that stand in no bracket between two places."""
        return self.outside(low, high) if self.match else range(low, high)

    def outside(self, low: int, high: int) -> Sequence[int]:
        places = []
        while low < high:
            places.append(low)
            low = self.match.get(low, low) + 1
        return places

    def infix(self) -> Node:
        r"""A sum, or two with \over, \choose or \bmod between them."""
        node = self.sum()
        if self.kind != COMMAND or self.value not in ("over", "choose", "bmod"):
            return node
        if self.value == "bmod":
            self.advance()
            return ("fn", "mod", (node, self.sum()))
        return ("/", node, self.sum()) if self.advance() == "over" else ("fn", "binom", (node, self.sum()))

    def argument(self) -> Node:
        r"""What a command such as \frac or \sqrt takes: a group, or one sign."""
        if self.value == "{":
            return self.group()
        if self.kind == NUMBER:
            return number(self.advance())
        if self.kind == LETTERS:
            return self.symbol()
        if self.value == "(" or (self.kind == COMMAND and self.value in ARGUMENTS):
            return self.primary()
        raise Malformed("argument")

    def digit_argument(self) -> Node:
        r"""Like `argument`, but of a run of digits only the first, as TeX reads `\frac12`."""
        if self.kind == NUMBER and len(self.value) > 1 and self.value.isdigit():
            first, self.value = self.value[0], self.value[1:]
            self.tokens[self.position] = (NUMBER, self.value, False)
            return number(first)
        return self.argument()

    def two_arguments(self) -> tuple[Node, Node]:
        self.advance()
        first = self.digit_argument()
        return first, self.digit_argument()

    def primary(self) -> Node:
        self.depth += 1
        if self.depth > DEPTH_LIMIT:
            raise Malformed("too deep")
        if self.kind == NUMBER:
            node = self.literal()
        elif self.kind == LETTERS:
            node = self.symbol()
        elif self.kind == COMMAND:
            node = self.command()
        elif self.value in CLOSING:
            node = self.bracket()
        elif self.value == "{":
            node = self.group_or_set()
        elif self.value == "\\{":
            node = self.braces()
        elif self.accept("|"):
            self.open_bars += 1
            node = ("fn", "abs", (self.sum(),))
            self.open_bars -= 1
            self.expect("|")
        elif self.accept("\\$"):
            self.currency = "dollar"
            node = self.primary()
        else:
            raise Malformed(f"{self.value!r} where a value belongs")
        self.depth -= 1
        if type(node) is not tuple:
            self.holds = True
            return ("held", node)
        return node

    def braces(self) -> Value:
        return Set(tuple(self.in_brackets()[1]))

    def bracket(self) -> Value:
        """`(...)`, `[...]`: a group if it holds one expression, else a tuple or an interval."""
        if self.peek()[0] == NUMBER and self.peek(2)[1] == ")" and self.peek(3)[1] == "_":
            self.advance()
            return self.based(self.advance(2))  # (52)_8
        opening, items, closing = self.in_brackets()
        if len(items) > 1:
            return Row(opening, closing, tuple(items))
        if closing != CLOSING[opening]:
            raise Malformed("brackets")
        self.marks |= type(items[0]) is Quantity
        node = angle(items[0])
        return ("paren", node) if opening == "[" and is_expression(node) and node[0] == "num" else node

    def literal(self) -> Value:
        r"""A number, a repeating decimal (`0.1\overline{6}`, `0.166\ldots`), or digits with a base, as `2516_8`."""
        digits = self.advance()
        if "." in digits and self.accept("overline", COMMAND):
            return repeating(digits, self.braced(self.digits))
        if "." in digits and (self.kind, self.value) == (COMMAND, "dots") and (length := period(digits)):
            self.advance()
            return repeating(digits[:-length], digits[-length:])
        if self.value in BASE_SIGNS and (self.value == "_" or self.base_follows()):
            return self.based(digits)
        return number(digits)

    def base_follows(self) -> bool:
        """True at "base 8", "in base 8" and these in brackets."""
        ahead = int(self.value == "(")
        ahead += self.peek(ahead)[1] == "in"
        return self.peek(ahead)[:2] == (WORD, "base") and self.peek(ahead + 1)[0] in (NUMBER, WORD)

    def based(self, digits: str) -> Based:
        """Digits with the base behind them: `_8`, `_{8}`, `_{(8)}`, `base 8`, `(base eight)`."""
        closing = []
        while self.value in BASE_SIGNS and len(closing) < 4:
            closing += [BASE_SIGNS[self.advance()]]
        if self.kind == WORD and self.value.lower() in NUMBER_WORDS:
            base = str(NUMBER_WORDS[self.advance().lower()])
        else:
            base = self.digits()
        for sign in filter(None, reversed(closing)):
            self.expect(sign)
        return Based(digits.lstrip("0") or "0", base.lstrip("0"))

    def digits(self) -> str:
        if self.kind != NUMBER or not self.value.isdigit():
            raise Malformed("digits expected")
        return self.advance()

    def symbol(self) -> Node:
        name = self.subscripted(self.advance())
        if name == "I" and self.letters is not None and "i" in self.letters and "I" not in self.letters:
            name = "i"  # as sympy writes it
        return ("const", name) if name in ("i", "e") else ("sym", name)

    def subscripted(self, name: str) -> str:
        while self.value in ("'", "_"):
            mark = self.advance()
            name += mark if mark == "'" else "_" + self.label()
        return name

    def label(self) -> str:
        """What stands below a name or under an accent: a group in braces, or one token, as it is."""
        if self.value == "{":
            low, close = self.position + 1, self.match[self.position]
            self.go(close + 1)
            return " ".join(token[1] for token in self.tokens[low:close])
        if self.kind not in (NUMBER, LETTERS, COMMAND):
            raise Malformed("label")
        return self.advance()


def product(factors: Sequence[Node]) -> Node:
    return factors[0] if len(factors) == 1 else ("*", tuple(factors))


def number(digits: str) -> Node:
    """A decimal as an exact fraction (not reduced)."""
    whole, _, part = digits.partition(".")
    return ("num", int(whole + part), 10 ** len(part))


def angle(value: Value) -> Value:
    r"""Degrees as a part of an expression: `\sin(30^\circ)`, sin(30 degrees)."""
    return ("deg", value.value) if type(value) is Quantity and value.unit == "degree" else value


def held(value: Value) -> Node:
    """A value as a part of an expression."""
    return value if type(value) is tuple else ("held", value)


def released(node: Node) -> Value:
    """The value that an expression is, where it is one and nothing else."""
    return node[1] if node[0] == "held" else node


def signed(sign: Node, node: Node) -> Node:
    """The node with a sign as its first factor; a literal takes a minus into itself."""
    if sign is MINUS_ONE and node[0] == "num" and node[1] >= 0:
        return ("num", -node[1], node[2])
    return ("*", (sign, *node[1]) if node[0] == "*" else (sign, node))


def is_quotient(node: Node) -> bool:
    """True for one whole number over another."""
    return node[0] == "/" and all(part[0] == "num" and part[2] == 1 for part in node[1:])
