r"""Reads the tokens of an answer into a tree of tuples; nothing in it is ever executed.

Expressions: ("num", n, d), ("sym", name), ("const", "pi" | "e" | "i" | "inf"), ("+", terms), ("*", factors),
("/", a, b), ("^", a, b), ("fn", name, args), ("pm", 1 | -1), ("deg", a), ("pct", a), ("paren", number).
Around them: ("list", items), ("seq", open, close, items), ("set", items), ("union", items), ("mat", rows),
("rel", operators, sides), ("unit", a, unit), ("base", digits, base), ("text", words), ("words", a): an
expression with words before it; ("date", month, day), ("mod", a, modulus, what it is congruent to ...), ("ratio",
parts), ("builder", items, join, name): a set by its conditions. A list says in `join` what stands between its items:
",", "and" or "or".
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from verifiers.math500 import units
from verifiers.math500.lexer import COMMAND, LETTERS, NUMBER, SIGN, WORD, Lexer, Malformed, Token, Unsupported
from verifiers.math500.tree import (
    EXPRESSIONS,
    INFINITY,
    MINUS_ONE,
    NEGATIVE_INFINITY,
    ONE,
    REALS,
    TRIGONOMETRIC,
    Node,
    symbols,
)

DEPTH_LIMIT = 40
END: Token = ("end", "", False)

RELATIONS = {
    "=": "=", "<": "<", ">": ">", "le": "<=", "ge": ">=", "in": "in", "ne": "!=", "equiv": "=", "approx": "approx",
}  # fmt: skip
GREEK = frozenset(
    "alpha beta gamma delta epsilon varepsilon zeta eta theta vartheta iota kappa lambda mu nu xi rho sigma tau "
    "upsilon phi chi psi omega Gamma Delta Theta Lambda Xi Sigma Phi Psi Omega ell emptyset hbar "
    "triangle angle dots".split()
)
SELECTING = frozenset("gcd lcm max min".split())  # one of several numbers in brackets, or made of them
HYPERBOLIC = frozenset("sinh cosh tanh sech csch coth cis".split())
ACCENTS = frozenset("tilde dot ddot overline".split())  # over a name
CONSTANTS = {"pi": ("const", "pi"), "infty": INFINITY}
ARGUMENTS = {"frac", *CONSTANTS, *GREEK}  # commands that may stand bare behind another
FUNCTIONS = frozenset(
    "sin cos tan cot sec csc asin acos atan ln log lg exp sinh cosh tanh sech csch coth cis gcd lcm max min det".split()
)
UNSUPPORTED = frozenset(
    "int iint oint sum prod lim limits partial cases cap setminus equiv pmod bmod mod to mapsto Rightarrow iff wedge "
    "vee neg forall exists subset subseteq det max min gcd lcm".split()
) | {"begin aligned", "begin align*", "begin vmatrix"}
MATRICES = frozenset("cases matrix pmatrix bmatrix Bmatrix smallmatrix array".split())
_NO_FACTORS = "pm mp cup deg over choose rfloor rceil bmod pmod forall rangle"
NO_FACTOR = {*_NO_FACTORS.split(), *RELATIONS}  # commands that begin none
CLOSING = {"(": ")", "[": "]"}
BASE_SIGNS = {"_": "", "base": "", "{": "}", "(": ")"}
NAME_KINDS = frozenset([LETTERS, WORD])
NAME_SIGNS = GREEK | FUNCTIONS | {*"( ) [ ] { } | ' + - * / : _ ^ , overline widehat cap cup perp".split()}
NAME_SIGNS |= {*"# deg dim ker arg Pr Re Im frac partial nabla circ".split(), "mathbb P", "mathbb E"}
NO_REMARK = (units.CHANGING_BEFORE | units.CHANGING_BEHIND | units.JOINING) - {"only"}
QUALIFIERS = frozenset("for forall where".split())
QUANTIFIERS = frozenset("all any every each forall some integer integers".split())
NO_QUALIFIER = (
    units.NEGATING
    | units.JOINING
    | frozenset("otherwise divisible multiple multiples odd even prime".split())
)
OCCASIONS = frozenset(
    "attained achieved reached when at equality".split()
)  # of an extreme value, in brackets
POSTFIX = frozenset("deg ^ ! %".split())
CONDITIONAL = frozenset(["&", "if", "for", "when"])  # before a condition
INTEGERS = tuple(("sym", name) for name in ("mathbb Z", "mathbb N", "Z", "N"))
INDICES = tuple(("sym", name) for name in "nmkcC")
MODULUS = ("mod", "bmod")
BOUNDS = frozenset(["<", ">", "le", "ge", "ne", "in"])
OPENS, CLOSES = frozenset(["(", "[", "{", "\\{"]), frozenset([")", "]", "}", "\\}"])
UNIT_SIGNS = frozenset("/ ^ { } 1 2 3".split())
OPENING = frozenset("so thus therefore hence then finally consequently answer yes ok okay".split())
ARTICLES = frozenset(["a", "an", "the"])
ENDS_SIDE = frozenset([*")]}&", "\\}", "\\\\", END[1]])


class Parser:
    """Recursive descent over the tokens of one answer; raises `Malformed` or `Unsupported`.

    `variables` are the letters of the reference, by which a run of letters is a product of them or a word; None where
    the text is the reference. The value of a SIGN alone tells it from any other token, that of a COMMAND or a WORD
    does not.
    """

    def __init__(self, text: str, variables: frozenset[str] | None) -> None:
        self.tokens = [*Lexer(text, variables).run(), END, END, END]
        self.variables = variables
        self.position = 0
        self.depth = 0  # of nesting
        self.open_bars = 0
        self.mixed = False  # if a mixed number was read
        self.domain = False  # if it is said which values a letter takes
        self.signs = False  # if a plus-minus sign was
        self.modulus: Node | None = None  # behind a side of the relation that is read
        self.join = ""  # what stands between the items of a list
        self.currency = ""  # unit of the side being read, from a currency sign before it
        self.kind, self.value, self.spaced = self.tokens[0]

    def advance(self, count: int = 1) -> str:
        """Go on by one token or more; the value of the first one."""
        value = self.value
        self.position += count
        self.kind, self.value, self.spaced = self.tokens[self.position]
        return value

    def peek(self, offset: int = 1) -> Token:
        return self.tokens[self.position + offset]

    def accept(self, value: str, kind: str | None = None) -> bool:
        """True if a token of this value, and kind where one is given, stood here; it is read."""
        if self.value == value and (kind is None or kind == self.kind):
            self.advance()
            return True
        return False

    def expect(self, sign: str) -> None:
        if not self.accept(sign):
            raise Malformed(f"{sign} expected")

    def enter(self) -> None:
        self.depth += 1
        if self.depth > DEPTH_LIMIT:
            raise Malformed("too deep")

    # ---- lists, relations, words and units ----

    def answer(self) -> Node:
        """The whole answer: one item, or a list of items without brackets."""
        while self.value == "=" or (self.kind == COMMAND and self.value in ("therefore", "Rightarrow")):
            self.advance()
        if self.kind == WORD and self.value.lower() in OPENING and self.peek()[1] in (",", "."):
            self.advance(2)  # "So, ..."
        start, tokens = self.position, self.tokens[:]
        try:
            return self.whole()
        except (Malformed, Unsupported):
            behind = self.end_of_name(start)
            if not behind or (self.variables is None and self.tokens[behind - 1][1] != "="):
                raise
        self.depth = self.open_bars = 0
        self.tokens, self.mixed, self.currency = tokens, False, ""
        name = ("text", tuple(token[1] for token in tokens[start : behind - 1]))
        self.position = behind - 1
        self.advance()
        node = self.whole()
        if node[0] == "list":
            raise Malformed("a list behind a name")
        operators, sides = (node[1], node[2]) if node[0] == "rel" else ((), (node,))
        return ("rel", ("=", *operators), (name, *sides))

    def whole(self) -> Node:
        items = self.items()
        if self.kind != "end" and not self.is_qualified():
            raise Malformed("rest")
        if self.variables is None and sum(item[0] == "words" for item in items) > 1:
            raise Malformed("words that tell values apart")
        while len(items) > 1 and self.join == "," and is_clause(items[0]) and items[-1][0] != "text":
            del items[0]  # "In the triangle, x is 16"
        if self.kind != "end":
            self.domain = True
        letters = [value for kind, value, _ in self.tokens if kind == LETTERS] if len(items) > 1 else []
        while len(items) > 1 and is_domain(items[-1], letters, self.variables is None):
            del items[-1]  # 2 k \pi, k \in \mathbb{Z}
            self.domain = True
        return items[0] if len(items) == 1 else ("list", tuple(items), self.join)

    def end_of_name(self, start: int) -> int:
        """Where the value begins behind what it is called, if that reads as no mathematics; else 0.

        `P(A|B) =` and `[ABC] =` hold no number but in an index or in the brackets of a name, as in `P(X > 2) =`; a
        sentence up to its one "is" may hold some, but no doubt.
        """
        depth, place, equals, plain = 0, 0, False, True
        called = self.tokens[start][0] != SIGN or self.tokens[start][1] in ("_", "^", "#")
        called &= self.tokens[start][1] != "frac"
        for k in range(start, len(self.tokens)):
            kind, value, _ = self.tokens[k]
            depth += (value in OPENS) - (value in CLOSES) if kind == SIGN else 0
            if not (place or (value == "=" and depth == 0) or (called and depth > 0)):
                named = kind in NAME_KINDS or value in NAME_SIGNS or self.tokens[k - 1][1] in ("_", "^")
                plain &= named and (value != "," or depth > 0)
            if depth == 0 and (
                (kind == SIGN and value == "=") or (kind == WORD and value.lower() in units.IS)
            ):
                if place and not equals:
                    return 0
                if not place:
                    place, equals = k, value == "="
        subject = self.tokens[start:place]
        if not subject or any(kind == WORD and value.lower() in units.NEGATING for kind, value, _ in subject):
            return 0
        if subject[0][0] == WORD:
            return place + 1
        ended = subject[-1][0] != SIGN or subject[-1][1] in CLOSES or subject[-1][1] == "|"
        return place + 1 if equals and plain and ended else 0

    def is_qualified(self) -> bool:
        """True at "for all n > 2" and "where n is an integer", up to the end: the value is for all of them."""
        behind = self.position + (self.value == ",")
        (kind, first, _), (_, second, _), (_, third, _) = self.tokens[behind : behind + 3]
        quantified = first in QUANTIFIERS and self.value == "," and self.tokens[behind + 3] is END
        quantified &= self.tokens[behind + 2][0] == LETTERS  # n \pi, any integer n
        if not (quantified or first in QUALIFIERS) or kind not in (WORD, COMMAND):
            return False
        rest = [word.lower() if kind == WORD else word for kind, word, _ in self.tokens[behind:]]
        if not NO_QUALIFIER.isdisjoint(rest):
            return False
        if first == "where":
            return "=" not in rest
        for_all = quantified or first == "forall" or second in QUANTIFIERS
        return for_all or (self.variables is not None and third in BOUNDS)

    def items(self) -> list[Node]:
        items = [self.relation()]
        while self.kind != "end" and self.is_separator() and not self.is_qualified():
            comma = self.kind == SIGN
            join = self.advance().lower()
            if comma and self.kind == WORD and self.is_separator():
                join = self.advance().lower()  # "1, 2, and 3"
            self.join = join if not self.join or join == self.join or self.join == "," else ","
            items.append(self.relation())
        return items

    def is_separator(self) -> bool:
        return self.value in (",", ";") or (self.kind == WORD and self.value.lower() in units.JOINING)

    def relation(self) -> Node:
        self.modulus = None
        sides = [self.side()]
        operators: list[str] = []
        by_word = congruent = False
        while self.kind != "end" and (self.is_relation() or self.is_equals_word()):
            by_word, congruent = self.kind == WORD, congruent or self.value == "equiv"
            operator = RELATIONS.get(self.advance(), "=")
            if self.accept("=") and operator != "=":
                operator += "="
            operators.append(operator)
            sides.append(self.side())
        if congruent and sides[-1][:2] == ("fn", "mod"):  # 8 \bmod 15
            sides[-1], self.modulus = sides[-1][2]
        if self.modulus and set(operators) <= {"="}:
            return ("mod", sides[-1], self.modulus, *sides[:-1])  # to which it is congruent
        if not operators:
            return sides[0]
        worded = sides[0][0] == "words" and not by_word  # "The solution is 1 < x"; not "The third term is 16"
        if sides[0][0] == "^" and sides[0][1][0] == "mat" and operators == ["="]:
            return sides[1]  # the inverse is not computed, but what the matrix behind it is called
        node = ("rel", tuple(operators), (sides[0][1], *sides[1:]) if worded else tuple(sides))
        return ("words", node) if worded else node

    def is_relation(self) -> bool:
        return self.kind in (SIGN, COMMAND) and self.value in RELATIONS

    def is_equals_word(self) -> bool:
        return self.kind == WORD and self.value.lower() in ("is", "equals")

    def side(self) -> Node:
        """One side of a relation: words before it, a union of sums, a unit behind it."""
        outer, self.currency = self.currency, ""
        words = []
        while self.kind == WORD and self.value.lower() not in units.JOINING:
            words.append(self.advance())
        if words and self.kind == NUMBER and words[-1].lower() in ("negative", "minus"):
            words.pop()
            self.position -= 1
            self.tokens[self.position] = (SIGN, "-", True)
            self.advance(0)
        if words:
            if self.ends_side():
                self.currency = outer
                return text_node(words)
            if words[-1].lower() == "except" and units.is_reals(words[:-1]):
                point = self.sum()
                point = self.sum() if self.accept("=") else point  # except x = 2
                return ("+", (REALS, ("*", (MINUS_ONE, ("set", (point,))))))
            colon = self.accept(":")
            if colon and self.value == "emptyset" and words[0].lower() == "no":
                return self.command()  # No solution: \emptyset
            check_words([word.lower() for word in words], colon)
            if self.kind == NUMBER and not (self.spaced or colon):
                raise Malformed("a word run into a number")
            if any(len(word) == 1 and (word not in "aAI" or len(words) == 1) for word in words):
                raise Malformed("a letter before the value")
            if self.value in ("(", "[", "{", "\\{") and not self.spaced:
                raise Malformed("a word as a function")
        node = self.infix()
        node = self.with_unit(node if self.value in ENDS_SIDE else self.joined(node))
        self.currency = outer
        if not words:
            return node
        months = [units.MONTHS[word.lower()] for word in words if word.lower() in units.MONTHS]
        return ("date", months[0], node) if months else ("words", node)

    def joined(self, first: Node) -> Node:
        """A union, all numbers but some, or a ratio that begins with `first`; a modulus behind it is read over."""
        parts = [first]
        while self.value in ("cup", "U") and (
            self.kind == COMMAND or (parts[-1][0] == "seq" and self.kind == LETTERS)
        ):
            self.advance()
            parts.append(self.sum())
        while self.value == "setminus" and parts[-1] == REALS:
            self.advance()
            parts[-1] = ("+", (REALS, signed(MINUS_ONE, self.sum())))
        counts = parts[0][0] == "num" and self.value in (":", "to") and self.peek()[0] == NUMBER
        if counts or (self.value == ":" and first[0] in EXPRESSIONS and not symbols(first)):  # \pi : 4
            while self.accept(":") or self.accept("to", WORD):
                parts.append(self.sum())
            parts = [("ratio", tuple(parts))]
        if self.value in ("pmod", "("):
            self.modulus = self.modulus_behind()
        return parts[0] if len(parts) == 1 else ("union", tuple(parts))

    def modulus_behind(self) -> Node | None:
        r"""That of `\pmod{7}` or (mod 7), if one stands here."""
        if self.accept("pmod", COMMAND):
            return self.argument()
        if self.value != "(" or self.peek()[1] not in MODULUS:
            return None
        self.advance(2)
        modulus = self.sum()
        self.expect(")")
        return modulus

    def ends_side(self) -> bool:
        return (
            self.is_separator() or self.is_relation() or self.value in ENDS_SIDE or self.value[:4] == "end "
        )

    def with_unit(self, node: Node) -> Node:
        """The node with the unit that follows it, from words, a per cent or degree sign, or a currency."""
        node, unit = lift_unit(node)
        if node[0] == "text" and (unit or self.is_unit_word()):
            raise Malformed("words behind words")
        words = [unit or self.currency] if unit or self.currency else []
        if not words and self.value in ENDS_SIDE:
            return node
        if not words or words == [self.currency]:
            node = self.scaled(node)
        while (
            self.is_unit_word()
            or self.is_unit_letter(words)
            or (words and self.value == "/")
            or self.value == "%"
            or self.is_unit_fraction()
            or self.is_remark()
        ):
            if self.is_remark():
                self.domain |= self.peek(2)[1] == "in"
                self.advance(2)
                while not self.accept(")"):
                    self.advance()
                break
            if self.accept("frac", COMMAND):
                words += self.unit_fraction()
                continue
            word = self.value
            unknown_letter = (
                self.kind == WORD and len(word) == 1 and word.islower() and word not in units.UNITS
            )
            second = words and (word == "%" or (words[-1][0] == "^" and word in units.UNITS))  # m^3 m
            if second or word.lower() in units.CHANGING_BEHIND or unknown_letter:
                raise Malformed("words")
            words.append(word)
            self.advance()
            if word == "/":
                if self.kind == WORD or (self.kind == LETTERS and self.value in units.UNIT_LETTERS):
                    continue
                raise Malformed("unit")
            if self.value == "^":
                if word.lower() not in units.UNITS and word.lower() not in units.GENERIC:
                    raise Malformed("the power of a word")
                words += self.unit_power()
                if len(words[-1]) > 2:
                    raise Malformed("unit")
        if len(words) == 1 + (words[-1:] == ["th"]) and words[0].lower() in units.MONTHS:
            return ("date", units.MONTHS[words[0].lower()], node)
        if not words:
            return node
        unit = units.canonical_unit(words)
        if unit is None:
            raise Malformed("the power of no unit")
        behind = self.position + (self.value == "and")
        smaller_unit = units.UNITS.get(self.tokens[behind + 1][1].lower(), "") if self.kind != "end" else ""
        times = units.conversion(unit, smaller_unit)
        if times and self.tokens[behind][0] == NUMBER and times[0] > times[1]:  # 2 hours 15 minutes
            self.advance(behind - self.position)
            rest = self.with_unit(self.literal())
            if node[0] != "num" or node[1] < 0 or rest[0] != "unit" or rest[2] != smaller_unit:
                raise Malformed("two quantities side by side")
            return ("unit", ("+", (("*", (node, ("num", *times))), rest[1])), rest[2])
        return ("unit", node, unit) if unit or words[0].lower() not in units.ORDINALS else node

    def scaled(self, node: Node) -> Node:
        """The literal times what a word such as "million" behind it stands for."""
        if self.kind != WORD or node[0] != "num" or self.value.lower() not in units.SCALES:
            return node
        self.mixed = True
        return ("num", node[1] * units.SCALES[self.advance().lower()], node[2])

    def is_remark(self) -> bool:
        """True at words or a condition in brackets that end the answer: "16 (simplified)", "3 (when x = 1)"."""
        if self.value != "(" or self.peek()[0] not in NAME_KINDS:
            return False
        said = units.NUMBER_WORDS.get(self.peek()[1].lower())
        if self.peek(2)[1] == ")" and self.peek(-1)[1] == str(said):
            return self.peek(3) is END  # 12 (twelve)
        end = self.position + 1
        while self.tokens[end][1] not in ("(", ")", END[1]):
            end += 1
        inside = self.tokens[self.position + 1 : end]
        if self.tokens[end][1] != ")" or self.tokens[end + 1] is not END:
            return False
        words = [value.lower() for kind, value, _ in inside if kind == WORD]
        plain = len(words) == len(inside) and min(map(len, words)) > 1
        condition = self.peek(-1)[0] != LETTERS and is_condition(inside)
        return (plain or condition or "constant" in words) and NO_REMARK.isdisjoint(words)

    def is_unit_fraction(self) -> bool:
        if (self.kind, self.value) != (COMMAND, "frac") or self.peek()[1] != "{":
            return False
        kind, value, _ = self.peek(2)
        if kind == LETTERS and value in units.UNIT_LETTERS and self.variables is not None:
            return self.variables.isdisjoint(units.UNIT_LETTERS) and self.is_unit_to_the_end(1)
        return kind == WORD

    def unit_fraction(self) -> list[str]:
        r"""The words of `\frac{\text{miles}}{\text{hour}}` and `\frac{m}{s^2}`."""
        words = []
        for slash in (False, True):
            words += ["/"] * slash
            self.expect("{")
            while not self.accept("}"):
                if self.kind not in NAME_KINDS or self.value.lower() not in units.UNITS:
                    raise Malformed("unit")
                words += [self.advance(), *self.unit_power()]
        return words

    def unit_power(self) -> list[str]:
        """`^2` or `^{2}` as one word, if it stands here."""
        if not self.accept("^"):
            return []
        braces = self.accept("{")
        power = "^" + self.digits()
        if braces:
            self.expect("}")
        return [power]

    def is_unit_word(self) -> bool:
        if self.kind != WORD or self.is_equals_word() or self.is_separator():
            return False
        return not (self.value in QUALIFIERS and self.is_qualified())

    def is_unit_letter(self, before: Sequence[str] = ()) -> bool:
        return (
            self.kind == LETTERS
            and (self.spaced or before[-1:] == ["/"])
            and self.variables is not None
            and self.value in units.UNIT_LETTERS
            and self.value not in self.variables
        )

    # ---- sums, products and powers ----

    def sum(self) -> Node:
        self.enter()
        terms = []
        while (signed_term := self.starts_sign()) or not terms:
            plus = self.value == "+"
            sign = self.sign() if signed_term else None
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
        factors: list[Node] = []
        start = self.position
        while self.starts_sign():
            if self.value != "+":
                self.signs |= self.value != "-"
                factors.append(MINUS_ONE if self.value == "-" else ("pm", 1 if self.value == "pm" else -1))
            self.advance()
        if self.position - start > 4:
            raise Malformed("signs")
        return product(factors) if factors and factors != [MINUS_ONE, MINUS_ONE] else None

    def term(self) -> Node:
        factors = [self.power()]
        while True:
            if self.value in ("*", "/"):
                operator = self.advance()
                if operator == "*" and self.value == "*":
                    raise Malformed("**")
                sign = self.sign()
                right = self.power()
                if sign is not None:
                    right = signed(sign, right)
                factors = [("/", product(factors), right)] if operator == "/" else [*factors, right]
            elif self.kind == NUMBER:
                self.number_behind(factors)
            elif (
                self.value == "of"
                and self.kind == WORD
                and factors[-1][0] in ("pct", "/")
                and self.peek()[0] == NUMBER
            ):
                self.advance()
                factors.append(self.power())
            elif self.starts_factor():
                if self.value == "{" and self.peek()[0] == NUMBER and self.peek(2)[1] == "}":
                    raise Malformed("digits in braces")  # 4{10} is no product
                called = factors[-1][0] == "sym" and self.value == "("
                literal = self.peek(-1)[0] == NUMBER and self.value not in CLOSING  # 4(1/2) is a product
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

    def number_behind(self, factors: list[Node]) -> None:
        """A number behind a factor: the fraction of a mixed number written as `1 1/2`, or a factor itself.

        A factor it is behind a bracket, and where it has a power or a factorial and no number stands right before it.
        """
        top, (_, slash, _), (kind, bottom, _) = self.value, self.peek(), self.peek(2)
        before = self.peek(-1)
        if factors[-1][0] == "deg" and slash in ("'", '"'):  # 63^\circ 45' 30"
            part = number(self.advance())
            parts = 3600 if self.accept('"') or (self.accept("'") and self.accept("'")) else 60
            factors[-1] = ("deg", ("+", (factors[-1][1], ("/", part, ("num", parts, 1)))))
            return
        if self.spaced and slash == "/" and kind == NUMBER and top.isdigit() and bottom.isdigit():
            if factors[-1][0] == "num" and before[0] == NUMBER:
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
            if self.is_unit_letter() and self.is_unit_to_the_end():
                return False
            return not (self.value == "U" and self.peek()[1] in ("(", "["))
        if self.kind == COMMAND:
            return (
                self.value not in NO_FACTOR
                and not self.value.startswith("end ")
                and not (self.value == "frac" and self.is_unit_fraction())
                and not (self.value == "setminus" and self.peek(-1)[1] in ("}", "mathbb R"))
            )
        if self.value == "(" and (self.is_remark() or self.peek()[1] in MODULUS):
            return False
        return self.value in ("(", "[", "{", "\\{") or (self.value == "|" and not self.open_bars)

    def is_unit_to_the_end(self, offset: int = 0) -> bool:
        """True if nothing but units, powers and a slash follows: m, m^3, m/s^2."""
        end = self.position + offset
        while (token := self.tokens[end]) is not END and end < self.position + 12:
            if token[1] not in units.UNIT_LETTERS and not (
                token[0] in (NUMBER, SIGN) and token[1] in UNIT_SIGNS
            ):
                return False
            end += 1
        return token is END

    def power(self) -> Node:
        """A primary with what stands behind it: powers, factorials, degree and per cent signs."""
        node = self.primary()
        while self.value in POSTFIX:
            if self.accept_degree():
                node = ("deg", node)
            elif self.value == "^" and self.raised(WORD, units.ORDINALS):
                continue  # 5^{\text{th}}
            elif self.accept("^"):
                exponent = self.exponent()
                transposed = node[0] == "mat" and exponent == ("sym", "T")
                node = ("mat", tuple(zip(*node[1], strict=True))) if transposed else ("^", node, exponent)
            elif self.accept("!"):
                node = ("fn", "!", (node,))
            elif self.accept("%"):
                node = ("pct", node)
            else:
                break
        return node

    def raised(self, kind: str, values: Collection[str]) -> bool:
        r"""True if one of the values stood behind this `^`, in braces or without: `^{\text{th}}`; it is read."""
        braces = self.peek()[1] == "{"
        here, value, _ = self.peek(2 if braces else 1)
        if here != kind or value not in values:
            return False
        self.advance(3 if braces else 2)
        if braces:
            self.expect("}")
        return True

    def accept_degree(self) -> bool:
        """True if a degree sign stood here, in any of its forms; it is read."""
        return self.accept("deg", COMMAND) or (self.value == "^" and self.raised(COMMAND, ("circ", "deg")))

    # ---- what an expression is made of ----

    def exponent(self) -> Node:
        if self.accept("-"):
            return signed(MINUS_ONE, self.exponent())
        return self.argument()

    def group(self) -> Node:
        """What stands in braces."""
        self.expect("{")
        node = self.infix()
        self.expect("}")
        return node

    def group_or_set(self) -> Node:
        """What stands in braces, or a set whose backslashes were lost: {1, 2}."""
        self.expect("{")
        node = self.infix()
        if self.value == ",":
            self.advance()
            node = ("set", (node, *self.items()))
        self.expect("}")
        return ("sym", self.subscripted(node[1])) if node[0] == "sym" and self.value == "_" else node

    def infix(self) -> Node:
        r"""A sum, or two with \over, \choose or \bmod between them."""
        node = self.sum()
        if self.kind != COMMAND or self.value not in ("over", "choose", "bmod"):
            return node
        if self.value == "bmod":
            if node[0] == "+":
                return node
            self.advance()
            return ("fn", "mod", (node, self.sum()))
        return quotient(node, self.sum()) if self.advance() == "over" else ("fn", "binom", (node, self.sum()))

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
        self.enter()
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
        elif self.accept("\\{"):
            node = self.builder() or ("set", () if self.value == "\\}" else tuple(self.items()))
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

    def builder(self) -> Node | None:
        r"""The inside of `\{x \mid x > 2\}` or `\{x \in \mathbb{R} : x \ne 3\}`, if it is a set by its conditions."""
        mark = self.peek()[1]
        if self.kind != LETTERS or (mark not in ("|", ":") and self.peek()[:2] != (COMMAND, "in")):
            return None
        name = ("sym", self.value)
        bars, self.open_bars = self.open_bars, 1
        domain = self.relation()
        self.open_bars = bars
        if not (self.accept("|") or self.accept(":")):
            raise Malformed("set")
        outer, self.join = self.join, ""
        conditions = self.items()
        join, self.join = self.join, outer
        conditions = [domain, *conditions] if domain[0] == "rel" else conditions
        return ("builder", tuple(conditions), join or ",", name)

    def bracket(self) -> Node:
        """`(...)`, `[...]`: a group if it holds one expression, else a tuple or an interval."""
        if self.peek()[0] == NUMBER and self.peek(2)[1] == ")" and self.peek(3)[1] == "_":
            self.advance()
            return self.based(self.advance(2))  # (52)_8
        opening = self.advance()
        bars, self.open_bars = self.open_bars, 0
        items = self.items()
        self.open_bars = bars
        closing = self.value
        if not (self.accept(")") or self.accept("]")):
            raise Malformed("bracket")
        if len(items) > 1:
            return ("seq", opening, closing, tuple(items))
        if closing != CLOSING[opening]:
            raise Malformed("brackets")
        (node,) = items
        if node[0] == "unit" and node[2] in ("degree", "percent"):
            return ("deg" if node[2] == "degree" else "pct", node[1])
        if node[0] in ("rel", "list", "words"):
            raise Malformed("relation in brackets")
        return ("paren", node) if opening == "[" and node[0] == "num" else node

    def literal(self) -> Node:
        r"""A number, a repeating decimal such as `0.1\overline{6}`, or digits with their base as in `2516_8`."""
        digits = self.advance()
        if "." in digits and self.accept("overline", COMMAND):
            self.expect("{")
            repeated = self.digits()
            self.expect("}")
            nines = 10 ** len(repeated) - 1
            above, below = int(digits.replace(".", "")), 10 ** (len(digits) - digits.index(".") - 1)
            return ("num", above * nines + int(repeated), below * nines)
        if self.value in ("_", "(", "base"):
            mark = self.peek() if self.value == "(" else (self.kind, self.value, False)
            said = mark[:2] == (WORD, "base") and self.peek(1 + (self.value == "("))[0] in (NUMBER, WORD)
            if self.value == "_" or said:
                return self.based(digits)
        return number(digits)

    def based(self, digits: str) -> Node:
        """Digits with the base behind them: `_8`, `_{8}`, `_{(8)}`, `base 8`, `(base eight)`."""
        closing = []
        while self.value in BASE_SIGNS and len(closing) < 3:
            closing += [BASE_SIGNS[self.advance()]]
        if self.kind == WORD and self.value.lower() in units.NUMBER_WORDS:
            base = str(units.NUMBER_WORDS[self.advance().lower()])
        else:
            base = self.digits()
        if not digits.isdigit():
            raise Malformed("base")
        for sign in filter(None, reversed(closing)):
            self.expect(sign)
        return ("base", digits.lstrip("0") or "0", base.lstrip("0"))

    def digits(self) -> str:
        if self.kind != NUMBER or not self.value.isdigit():
            raise Malformed("digits expected")
        return self.advance()

    def symbol(self) -> Node:
        name = self.subscripted(self.advance())
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
                    inside.append(self.advance())
                name += "_" + " ".join(inside)
            elif self.kind in (NUMBER, LETTERS, COMMAND):
                name += "_" + self.advance()
            else:
                raise Malformed("subscript")

    # ---- commands ----

    def command(self) -> Node:
        name = self.value
        if name == "frac":
            return quotient(*self.two_arguments())
        if name == "langle":
            self.advance()
            items = tuple(self.items())
            if len(items) < 2 or not self.accept("rangle", COMMAND):
                raise Malformed("a vector")
            return ("seq", "<", ">", items)
        if name == "binom":
            return ("fn", "binom", self.two_arguments())
        if name == "sqrt":
            return self.root()
        if name in SELECTING and self.peek()[1] in ("(", "[", "\\{"):
            return self.selection()
        if name in UNSUPPORTED:
            raise Unsupported(name)
        if name in FUNCTIONS:
            return self.function()
        if name.startswith("begin ") and name[6:] in MATRICES:
            return self.matrix(name[6:])
        self.advance()
        if name in CONSTANTS:
            return CONSTANTS[name]
        if name == "mathbb R":
            return REALS
        if name.startswith("mathbb "):
            return ("sym", self.subscripted(name))
        if name == "overline" and self.peek(-2)[0] != NUMBER and self.peek(self.value == "{")[0] == NUMBER:
            return self.argument()  # a residue class
        if name in ACCENTS:
            return ("sym", self.subscripted(f"{name} {self.argument_name()}"))
        if name in GREEK:
            return ("sym", self.subscripted("\\" + name))
        if name in ("lfloor", "lceil"):
            node = self.sum()
            if not self.accept("r" + name[1:], COMMAND):
                raise Malformed("floor")
            return ("fn", name[1:], (node,))
        raise Malformed(f"\\{name}")

    def argument_name(self) -> str:
        """The letters that an accent stands over, and what joins them."""
        braces = self.accept("{")
        values = []
        while self.value != "}" and self.kind in (LETTERS, COMMAND) and (braces or not values):
            values.append(self.advance())
        if not values or (braces and not self.accept("}")):
            raise Malformed("accent")
        return " ".join(values)

    def selection(self) -> Node:
        r"""`\gcd(10, 15)`, `\max\{3, 5\}`."""
        name, inside = self.advance(), self.primary()
        items = inside[-1] if inside[0] in ("seq", "set") else (inside,)
        if not items or any(item[0] not in EXPRESSIONS for item in items):
            raise Malformed(name)
        return ("fn", name, items)

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
        name = self.advance()
        base = exponent = None
        for _ in range(2):
            if self.accept("_"):
                base = self.argument()
            elif self.accept("^"):
                exponent = self.exponent()
        bracketed = self.value == "("
        factors = [self.power()]
        while not bracketed and self.starts_factor() and self.value != "(" and self.value not in FUNCTIONS:
            factors.append(self.power())
        arguments = (product(factors),)
        if name == "log" or (name == "lg" and base is None):
            name, arguments = "log", (*arguments, base or ("num", 10, 1))
        elif base is not None:
            raise Malformed("subscript of a function")
        if exponent != MINUS_ONE:
            node = hyperbolic(name, arguments[0]) if name in HYPERBOLIC else ("fn", name, arguments)
            return node if exponent is None else ("^", node, exponent)
        if name not in TRIGONOMETRIC | HYPERBOLIC:
            raise Malformed("inverse")
        return ("fn", "a" + name, arguments)

    def matrix(self, kind: str) -> Node:
        rows: list[tuple[Node, ...]] = []
        self.advance()
        while True:
            while self.accept("hline", COMMAND):
                pass
            if (self.kind, self.value) == (COMMAND, f"end {kind}"):
                break
            row = [self.relation()]
            while self.accept("&") or (kind == "cases" and self.accept(",")):
                while self.value in CONDITIONAL:
                    self.advance()
                row.append(self.relation())
            rows.append(tuple(row))
            if not self.accept("\\\\"):
                break
        if not self.accept(f"end {kind}", COMMAND) or len(set(map(len, rows))) != 1:
            raise Malformed("matrix")
        if all(len(row) == 1 and row[0][0] == "rel" for row in rows):
            return ("list", tuple(row[0] for row in rows), ",")
        if kind != "cases" and any(cell[0] == "rel" for row in rows for cell in row):
            raise Malformed("relations in a matrix")
        return ("mat", tuple(rows))


def text_node(words: list[str]) -> Node:
    """Words alone: a number if they are one, a letter as that letter; no articles, any case."""
    verbs = [k for k, word in enumerate(words) if word.lower() in units.IS]
    if (
        verbs
        and 0 < verbs[-1] < len(words) - 1
        and units.NEGATING.isdisjoint(word.lower() for word in words[: verbs[-1]])
    ):
        words = words[verbs[-1] + 1 :]  # "The function is even"
    if len(words) > 1 and words[0].lower() in ARTICLES:
        words = words[1:]
    plain = tuple(word.lower() for word in words)
    if plain[-1] == "infinity" and plain[:-1] in ((), ("positive",), ("negative",), ("minus",)):
        return NEGATIVE_INFINITY if plain[0] in ("negative", "minus") else INFINITY
    if len(plain) == 1 and plain[0] in units.SPELLED:
        return ("num", units.SPELLED[plain[0]], 1)
    return ("text", tuple(words) if len(words) == 1 == len(words[0]) else plain)


def is_condition(tokens: Sequence[Token]) -> bool:
    r"""True for `n \in \mathbb{Z}`, `a = b = c = 2` and "attained at x = 1"; not for x = 2, another answer perhaps."""
    values = [value for _, value, _ in tokens]
    named = all(kind == LETTERS for kind, _, _ in tokens[:-2:2])
    chain = len(values) > 4 and set(values[1::2]) == {"="}
    return (named and (chain or values[1:2] == ["in"])) or values[0].lower() in OCCASIONS


def is_clause(node: Node) -> bool:
    """True for words that a sentence may begin with, before its comma."""
    return node[0] == "text" and len(node[1]) > 1 and units.NEGATING.isdisjoint(node[1])


def is_domain(node: Node, letters: Sequence[str], of_reference: bool) -> bool:
    r"""True for what says which values one of the `letters` takes: `k \in \mathbb{Z}`, and in an answer `n \ge 1`."""
    if node[0] != "rel" or len(node[2]) != 2 or node[2][0] not in INDICES or letters.count(node[2][0][1]) < 2:
        return False
    return node[2][1] in (*INTEGERS, REALS) or (not of_reference and node[1][0] in (">", ">="))


def check_words(words: list[str], colon: bool) -> None:
    """Raise `Malformed` if words before a value say that another is meant."""
    verbs = [k for k, word in enumerate(words) if word in units.IS]
    split = len(words) if colon else verbs[-1] + 1 if verbs else 0
    if not units.NEGATING.isdisjoint(words[:split]) or not units.CHANGING_BEFORE.isdisjoint(words[split:]):
        raise Malformed("words")


def hyperbolic(name: str, argument: Node) -> Node:
    """By exponentials, of which it is known how large they get; cis of an angle, too."""
    if name == "cis":
        return ("^", ("const", "e"), ("*", (("const", "i"), argument)))
    up, down = (("^", ("const", "e"), ("*", (sign, argument))) for sign in (ONE, MINUS_ONE))
    above, below = ("+", (up, ("*", (MINUS_ONE, down)))), ("+", (up, down))
    if name in ("tanh", "coth"):
        return ("/", above, below) if name == "tanh" else ("/", below, above)
    whole, two = above if name in ("sinh", "csch") else below, ("num", 2, 1)
    return ("/", whole, two) if name in ("sinh", "cosh") else ("/", two, whole)


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
    if sign is MINUS_ONE and node[0] == "base" and node[1] != "0":
        return ("base", "-" + node[1], node[2])
    return ("*", (sign, *node[1]) if node[0] == "*" else (sign, node))


def is_quotient(node: Node) -> bool:
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
        signs = [unit for _, unit in lifted]
        whole = set(signs) == {"degree"} if kind == "+" else signs[-1] == "degree" and not any(signs[:-1])
        if whole:
            return (kind, tuple(inner for inner, _ in lifted)), "degree"
    return node, ""
