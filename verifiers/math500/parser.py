r"""Reads the tokens of an answer into a tree of tuples; nothing in it is ever executed.

Expressions: ("num", n, d), ("sym", name), ("const", "pi" | "e" | "i" | "inf"), ("+", terms), ("*", factors),
("/", a, b), ("^", a, b), ("fn", name, args), ("pm", 1 | -1), ("deg", a), ("pct", a), ("paren", number).
Around them: ("list", items), ("seq", open, close, items), ("set", items), ("union", items), ("mat", rows),
("rel", operators, sides), ("unit", a, unit), ("base", digits, base), ("text", words), ("words", a): an
expression with words before it.
"""

from __future__ import annotations

from verifiers.math500.lexer import (
    COMMAND,
    LETTERS,
    NUMBER,
    SIGN,
    WORD,
    Malformed,
    Token,
    Unsupported,
    tokenize,
)
from verifiers.math500.tree import INFINITY, MINUS_ONE, Node
from verifiers.math500.units import CHANGING, GENERIC, JOINING, UNIT_LETTERS, UNITS, canonical_unit

DEPTH_LIMIT = 40
END: Token = ("end", "", False)

RELATIONS = {
    "=": "=", "<": "<", ">": ">", "le": "<=", "ge": ">=", "in": "in", "ne": "!=", "equiv": "=", "approx": "approx",
}  # fmt: skip
GREEK = frozenset(
    "alpha beta gamma delta epsilon varepsilon zeta eta theta vartheta iota kappa lambda mu nu xi rho sigma tau "
    "upsilon phi chi psi omega Gamma Delta Theta Lambda Xi Sigma Phi Psi Omega ell emptyset hbar "
    "triangle angle".split()
)
CONSTANTS = {"pi": ("const", "pi"), "infty": INFINITY}
FUNCTIONS = frozenset(
    "sin cos tan cot sec csc asin acos atan ln log lg exp sinh cosh tanh gcd lcm max min det".split()
)
UNSUPPORTED = frozenset(
    "int iint oint sum prod lim limits partial cases cap setminus equiv pmod bmod mod to mapsto Rightarrow iff wedge "
    "vee neg forall exists subset subseteq det max min gcd lcm".split()
) | {"begin cases", "begin aligned", "begin align*", "begin vmatrix"}
MATRICES = frozenset("matrix pmatrix bmatrix Bmatrix smallmatrix array".split())
NO_FACTOR = (
    frozenset("pm mp cup deg over rfloor rceil".split()) | RELATIONS.keys()
)  # commands that begin none
CLOSING = {"(": ")", "[": "]"}
ENDS_SIDE = frozenset([*")]}&", "\\}", "\\\\"])


def parse(text: str, variables: frozenset[str] | None = None) -> Node:
    """The tree of an answer; raises `Malformed` or `Unsupported`.

    `variables` are the letters of the reference, by which a run of letters is a product of them or a word; None
    where the text is the reference.
    """
    return Parser(tokenize(text, variables), variables).answer()


class Parser:
    """Recursive descent over the tokens of one answer; `depth` bounds how far it nests.

    The value of a SIGN alone tells it from any other token, that of a COMMAND or a WORD does not.
    """

    def __init__(self, tokens: list[Token], variables: frozenset[str] | None) -> None:
        self.tokens = [*tokens, END, END, END]
        self.variables = variables
        self.position = 0
        self.depth = 0
        self.open_bars = 0
        self.mixed = False  # if a mixed number was read
        self.currency = ""  # unit of the side being read, from a currency sign before it
        self.kind, self.value, self.spaced = self.tokens[0]

    def advance(self) -> None:
        self.position += 1
        self.kind, self.value, self.spaced = self.tokens[self.position]

    def peek(self, offset: int = 1) -> Token:
        return self.tokens[self.position + offset]

    def is_command(self, name: str) -> bool:
        return self.kind == COMMAND and self.value == name

    def accept(self, sign: str) -> bool:
        if self.value == sign:
            self.advance()
            return True
        return False

    def expect(self, sign: str) -> None:
        if not self.accept(sign):
            raise Malformed(f"{sign} expected")

    # ---- lists, relations, words and units ----

    def answer(self) -> Node:
        """The whole answer: one item, or a list of items without brackets."""
        items = self.items()
        if self.kind != "end":
            raise Malformed("rest")
        return items[0] if len(items) == 1 else ("list", tuple(items))

    def items(self) -> list[Node]:
        items = [self.relation()]
        while self.is_separator():
            comma = self.kind == SIGN
            self.advance()
            if comma and self.kind == WORD and self.is_separator():
                self.advance()  # "1, 2, and 3"
            items.append(self.relation())
        return items

    def is_separator(self) -> bool:
        return self.value in (",", ";") or (self.kind == WORD and self.value.lower() in JOINING)

    def relation(self) -> Node:
        sides = [self.side()]
        operators: list[str] = []
        while (self.kind in (SIGN, COMMAND) and self.value in RELATIONS) or self.is_equals_word():
            operator = RELATIONS.get(self.value, "=")
            self.advance()
            if self.accept("=") and operator != "=":
                operator += "="
            operators.append(operator)
            sides.append(self.side())
        return ("rel", tuple(operators), tuple(sides)) if operators else sides[0]

    def is_equals_word(self) -> bool:
        """True at the word "is" behind a value: x is 5."""
        return self.kind == WORD and self.value.lower() in ("is", "equals")

    def side(self) -> Node:
        """One side of a relation: words before it, a union of sums, a unit behind it."""
        outer, self.currency = self.currency, ""
        words = []
        while self.kind == WORD and self.value.lower() not in JOINING:
            words.append(self.value)
            self.advance()
        if self.ends_side():
            if not words:
                raise Malformed("empty")
            self.currency = outer
            return ("text", tuple(word.lower() for word in words))
        if any(word.lower() in CHANGING for word in words):
            raise Malformed("words")
        if words:
            if any(len(word) == 1 and (word not in "aAI" or len(words) == 1) for word in words):
                raise Malformed("a letter before the value")
            if self.value in ("(", "[", "{", "\\{") and not self.spaced:
                raise Malformed("a word as a function")
            self.accept(":")
        parts = [self.sum()]
        while self.is_command("cup") or (
            self.kind == LETTERS and self.value == "U" and parts[-1][0] == "seq"
        ):
            self.advance()
            parts.append(self.sum())
        node = self.with_unit(parts[0] if len(parts) == 1 else ("union", tuple(parts)))
        self.currency = outer
        return ("words", node) if words else node

    def ends_side(self) -> bool:
        if self.kind == COMMAND:
            return self.value in RELATIONS or self.value.startswith("end ")
        if self.kind == SIGN and self.value in RELATIONS:
            return True
        return self.kind == "end" or self.is_separator() or self.value in ENDS_SIDE

    def with_unit(self, node: Node) -> Node:
        """The node with the unit that follows it, from words, a per cent or degree sign, or a currency."""
        node, unit = lift_unit(node)
        follows = self.kind == WORD and not self.is_equals_word() and not self.is_separator()
        if node[0] == "text" and (unit or follows):
            raise Malformed("words behind words")
        words = [unit or self.currency] if unit or self.currency else []
        while (
            (self.kind == WORD and not self.is_equals_word() and self.value.lower() not in JOINING)
            or self.is_unit_letter(words)
            or (words and self.value == "/")
            or self.value == "%"
        ):
            word = self.value
            unknown_letter = self.kind == WORD and len(word) == 1 and word.islower() and word not in UNITS
            if (word == "%" and words) or word.lower() in CHANGING or unknown_letter:
                raise Malformed("words")
            words.append(word)
            self.advance()
            if word == "/":
                if self.kind == WORD or (self.kind == LETTERS and self.value in UNIT_LETTERS):
                    continue
                raise Malformed("unit")
            if self.value == "^":
                if word.lower() not in UNITS and word.lower() not in GENERIC:
                    raise Malformed("the power of a word")
                self.advance()
                braces = self.accept("{")
                if self.kind != NUMBER or len(self.value) > 1:
                    raise Malformed("unit")
                words.append("^" + self.value)
                self.advance()
                if braces:
                    self.expect("}")
        return ("unit", node, canonical_unit(words)) if words else node

    def is_unit_letter(self, before: list[str] | None = None) -> bool:
        return (
            self.kind == LETTERS
            and (self.spaced or (before is not None and before[-1:] == ["/"]))
            and self.variables is not None
            and self.value in UNIT_LETTERS
            and self.value not in self.variables
        )

    # ---- sums, products and powers ----

    def sum(self) -> Node:
        self.depth += 1
        if self.depth > DEPTH_LIMIT:
            raise Malformed("too deep")
        terms = []
        while not terms or self.starts_sign():
            plus = self.value == "+"
            sign = self.sign()
            term = self.term()
            if plus and term[0] in ("seq", "set", "text"):
                raise Malformed("sign before brackets")
            terms.append(term if sign is None else signed(sign, term))
        self.depth -= 1
        return terms[0] if len(terms) == 1 else ("+", tuple(terms))

    def starts_sign(self) -> bool:
        return self.value in ("+", "-") or (self.kind == COMMAND and self.value in ("pm", "mp"))

    def sign(self) -> Node | None:
        """The signs before a term: None for plus, else a factor."""
        factor: Node | None = None
        count = 0
        while self.starts_sign():
            count += 1
            if count > 4:
                raise Malformed("signs")
            if self.value != "+":
                step = MINUS_ONE if self.value == "-" else ("pm", 1 if self.value == "pm" else -1)
                factor = (
                    step
                    if factor is None
                    else ("*", (MINUS_ONE, factor) if step is MINUS_ONE else (factor, step))
                )
            self.advance()
        return None if factor == ("*", (MINUS_ONE, MINUS_ONE)) else factor

    def term(self) -> Node:
        factors = [self.power()]
        while True:
            if self.value in ("*", "/"):
                operator = self.value
                self.advance()
                if operator == "*" and self.value == "*":
                    raise Malformed("**")
                sign = self.sign()
                right = self.power()
                if sign is not None:
                    right = signed(sign, right)
                factors = [("/", product(factors), right)] if operator == "/" else [*factors, right]
            elif self.kind == NUMBER:
                factors.append(self.mixed_number(factors))
            elif self.starts_factor():
                if self.value == "{" and self.peek()[0] == NUMBER and self.peek(2)[1] == "}":
                    raise Malformed("digits in braces")  # 4{10} is no product
                called = factors[-1][0] == "sym" and self.value == "("
                literal = self.peek(-1)[0] == NUMBER
                factor = self.power()
                factors.append(("paren", factor) if called and factor[0] == "num" else factor)
                if literal:
                    self.join_mixed(factors)
            else:
                return product(factors)

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

    def mixed_number(self, factors: list[Node]) -> Node:
        """The fraction of a mixed number written as `1 1/2`; two numbers side by side are nothing else."""
        whole, top, bottom = factors[-1], self.value, self.peek(2)[1]
        if not (
            len(factors) == 1
            and whole[0] == "num"
            and whole[2] == 1
            and self.spaced
            and self.peek()[1] == "/"
            and self.peek(2)[0] == NUMBER
            and top.isdigit()
            and bottom.isdigit()
            and 0 < int(top) < int(bottom)
        ):
            raise Malformed("two numbers side by side")
        for _ in range(3):
            self.advance()
        factors.pop()
        self.mixed = True
        node = ("num", whole[1] * int(bottom) + int(top), int(bottom))
        return ("deg", node) if self.accept_degree() else node

    def starts_factor(self) -> bool:
        if self.kind == LETTERS:
            if self.is_unit_letter() and self.peek() is END:
                return False
            return not (self.value == "U" and self.peek()[1] in ("(", "["))
        if self.kind == COMMAND:
            return self.value not in NO_FACTOR and not self.value.startswith("end ")
        return self.value in ("(", "[", "{", "\\{") or (self.value == "|" and not self.open_bars)

    def power(self) -> Node:
        """A primary with what stands behind it: powers, factorials, degree and per cent signs."""
        node = self.primary()
        while True:
            if self.accept_degree():
                node = ("deg", node)
            elif self.accept("^"):
                node = ("^", node, self.exponent())
            elif self.accept("!"):
                node = ("fn", "!", (node,))
            elif self.accept("%"):
                node = ("pct", node)
            else:
                return node

    def accept_degree(self) -> bool:
        """True if a degree sign stood here, in any of its forms; it is read."""
        if self.is_command("deg"):
            self.advance()
            return True
        if self.value != "^":
            return False
        braces = self.peek()[1] == "{"
        sign = self.peek(2 if braces else 1)
        if sign[0] != COMMAND or sign[1] not in ("circ", "deg"):
            return False
        for _ in range(3 if braces else 2):
            self.advance()
        if braces:
            self.expect("}")
        return True

    # ---- what an expression is made of ----

    def exponent(self) -> Node:
        if self.accept("-"):
            return signed(MINUS_ONE, self.exponent())
        return self.argument()

    def group(self) -> Node:
        r"""`{...}`: an expression, or a quotient written with \over."""
        self.expect("{")
        node = self.sum()
        if self.is_command("over"):
            self.advance()
            node = quotient(node, self.sum())
        self.expect("}")
        return node

    def argument(self) -> Node:
        r"""What a command such as \frac or \sqrt takes: a group, or one sign."""
        if self.value == "{":
            return self.group()
        if self.kind == NUMBER:
            node = number(self.value)
            self.advance()
            return node
        if self.kind == LETTERS:
            return self.symbol()
        if self.value == "(" or (
            self.kind == COMMAND and (self.value in CONSTANTS or self.value in GREEK or self.value == "frac")
        ):
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
            node = self.group()
        elif self.accept("\\{"):
            node = ("set", () if self.value == "\\}" else tuple(self.items()))
            self.expect("\\}")
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
        return node

    def bracket(self) -> Node:
        """`(...)`, `[...]`: a group if it holds one expression, else a tuple or an interval."""
        opening = self.value
        self.advance()
        bars, self.open_bars = self.open_bars, 0
        items = self.items()
        self.open_bars = bars
        closing = self.value
        if closing not in (")", "]"):
            raise Malformed("bracket")
        self.advance()
        if len(items) > 1:
            return ("seq", opening, closing, tuple(items))
        if closing != CLOSING[opening]:
            raise Malformed("brackets")
        kind = items[0][0]
        if kind == "unit" and items[0][2] in ("degree", "percent"):
            return ("deg" if items[0][2] == "degree" else "pct", items[0][1])
        if kind in ("rel", "list", "words"):
            raise Malformed("relation in brackets")
        return ("paren", items[0]) if opening == "[" and kind == "num" else items[0]

    def literal(self) -> Node:
        r"""A number, a repeating decimal such as `0.1\overline{6}`, or digits with their base as in `2516_8`."""
        digits = self.value
        self.advance()
        if self.is_command("overline") and "." in digits:
            self.advance()
            self.expect("{")
            repeated = self.digits("overline")
            self.expect("}")
            nines = 10 ** len(repeated) - 1
            above, below = int(digits.replace(".", "")), 10 ** (len(digits) - digits.index(".") - 1)
            return ("num", above * nines + int(repeated), below * nines)
        if not self.accept("_"):
            return number(digits)
        braces = self.accept("{")
        base = self.digits("base")
        if not digits.isdigit():
            raise Malformed("base")
        if braces:
            self.expect("}")
        return ("base", digits.lstrip("0") or "0", base.lstrip("0"))

    def digits(self, place: str) -> str:
        digits = self.value
        if self.kind != NUMBER or not digits.isdigit():
            raise Malformed(place)
        self.advance()
        return digits

    def symbol(self) -> Node:
        name = self.value
        self.advance()
        name = self.subscripted(name)
        return ("const", name) if name in ("i", "e") else ("sym", name)

    def subscripted(self, name: str) -> str:
        while True:
            if self.accept("'"):
                name += "'"
            elif not self.accept("_"):
                return name
            elif self.accept("{"):
                inside = []
                while not self.accept("}"):
                    if self.kind == "end" or len(inside) > 12:
                        raise Malformed("subscript")
                    inside.append(self.value)
                    self.advance()
                name += "_" + " ".join(inside)
            elif self.kind in (NUMBER, LETTERS, COMMAND):
                name += "_" + self.value
                self.advance()
            else:
                raise Malformed("subscript")

    # ---- commands ----

    def command(self) -> Node:
        name = self.value
        if name == "frac":
            return quotient(*self.two_arguments())
        if name == "binom":
            return ("fn", "binom", self.two_arguments())
        if name == "sqrt":
            return self.root()
        if name in UNSUPPORTED:
            raise Unsupported(name)
        if name in FUNCTIONS:
            return self.function()
        if name.startswith("begin ") and name[6:] in MATRICES:
            return self.matrix(name[6:])
        self.advance()
        if name in CONSTANTS:
            return CONSTANTS[name]
        if name in GREEK:
            return ("sym", self.subscripted("\\" + name))
        if name in ("lfloor", "lceil"):
            node = self.sum()
            if not self.is_command("r" + name[1:]):
                raise Malformed("floor")
            self.advance()
            return ("fn", name[1:], (node,))
        raise Malformed(f"\\{name}")

    def root(self) -> Node:
        self.advance()
        degree: Node = ("num", 2, 1)
        if self.accept("["):
            degree = self.sum()
            self.expect("]")
        if self.kind == NUMBER and len(self.value) > 1 and self.value.isdigit() and not self.spaced:
            raise Malformed("digits behind a root")
        return ("fn", "root", (self.argument(), degree))

    def function(self) -> Node:
        name = self.value
        self.advance()
        base: Node | None = None
        exponent: Node | None = None
        for _ in range(2):
            if self.accept("_"):
                base = self.argument()
            elif self.accept("^"):
                exponent = self.exponent()
        bracketed = self.value == "("
        factors = [self.power()]
        while (
            not bracketed
            and self.starts_factor()
            and self.value != "("
            and not (self.kind == COMMAND and self.value in FUNCTIONS)
        ):
            factors.append(self.power())
        arguments = (product(factors),)
        if name == "log":
            arguments = (*arguments, ("num", 10, 1) if base is None else base)
        elif base is not None:
            raise Malformed("subscript of a function")
        if exponent != MINUS_ONE:
            node = ("fn", name, arguments)
            return node if exponent is None else ("^", node, exponent)
        if name not in ("sin", "cos", "tan"):
            raise Malformed("inverse")
        return ("fn", "a" + name, arguments)

    def matrix(self, kind: str) -> Node:
        rows: list[tuple[Node, ...]] = []
        self.advance()
        while True:
            while self.is_command("hline"):
                self.advance()
            if self.is_command(f"end {kind}"):
                break
            row = [self.sum()]
            while self.accept("&"):
                row.append(self.sum())
            rows.append(tuple(row))
            if not self.accept("\\\\"):
                break
        if not self.is_command(f"end {kind}") or len({len(row) for row in rows}) != 1:
            raise Malformed("matrix")
        self.advance()
        return ("mat", tuple(rows))


def product(factors: list[Node]) -> Node:
    return factors[0] if len(factors) == 1 else ("*", tuple(factors))


def quotient(above: Node, below: Node) -> Node:
    """Numerator over denominator, of which the latter has no unit of its own."""
    if any(part[0] in ("deg", "pct") for part in (below, *(below[1] if below[0] == "*" else ()))):
        raise Malformed("a unit in a denominator")
    return ("/", above, below)


def number(digits: str) -> Node:
    """A decimal as an exact fraction (not reduced)."""
    whole, _, part = digits.partition(".")
    return ("num", int(whole + part), 10 ** len(part))


def signed(sign: Node, node: Node) -> Node:
    """The node with a sign as its first factor; a literal takes a minus into itself."""
    if sign is MINUS_ONE and node[0] == "num":
        return ("num", -node[1], node[2])
    return ("*", (sign, *node[1]) if node[0] == "*" else (sign, node))


def is_quotient(node: Node) -> bool:
    r"""True for a quotient of two whole numbers: `\frac{1}{2}`."""
    return node[0] == "/" and node[1][0] == node[2][0] == "num" and node[1][2] == node[2][2] == 1


def lift_unit(node: Node) -> tuple[Node, str]:
    """A degree or per cent sign taken off the whole of an expression: (expression, unit or "")."""
    kind = node[0]
    if kind in ("deg", "pct"):
        return node[1], "degree" if kind == "deg" else "percent"
    if kind == "/":
        below, unit = lift_unit(node[2])
        return (("/", node[1], below), unit) if unit else (node, "")
    if kind in ("*", "+"):
        lifted = [lift_unit(part) for part in node[1]]
        units = [unit for _, unit in lifted]
        whole = set(units) == {"degree"} if kind == "+" else units[-1] == "degree" and not any(units[:-1])
        if whole:
            return (kind, tuple(inner for inner, _ in lifted)), "degree"
    return node, ""
