"""Reads an answer: lists, relations and quantities of what the parser makes of each expression in it.

What stands in no bracket is split at commas, then at relation signs, before anything is parsed; so each side is read by
itself, and one that no grammar reads is a name for what stands behind it.
"""

from __future__ import annotations

from collections.abc import Sequence

from verifiers.math500.read import prose
from verifiers.math500.read.commands import MATRICES
from verifiers.math500.read.lexer import COMMAND, LETTERS, NUMBER, SIGN, WORD, Lexer, Malformed, Unsupported
from verifiers.math500.read.parser import held, released
from verifiers.math500.read.prose import RELATIONS, Brackets, is_word
from verifiers.math500.read.quantities import Quantities
from verifiers.math500.read.tree import MINUS_ONE, Node, symbols
from verifiers.math500.read.units import canonical_unit
from verifiers.math500.read.values import (
    REALS,
    Builder,
    Date,
    Matrix,
    Name,
    Quantity,
    Ratio,
    Relation,
    Row,
    Set,
    Several,
    Union,
    Value,
    Words,
    is_expression,
)
from verifiers.math500.read.words import (
    ARTICLES,
    CHANGING_BEHIND,
    COMPARING,
    CONCLUDING,
    EXPLAINING,
    IS,
    JOINING,
    MONTHS,
    NEGATING,
    OCCASIONS,
    OPENING,
    QUALIFIERS,
    QUANTIFIERS,
    SPELLED,
    changes,
    is_reals,
)

INTEGERS = tuple(("sym", name) for name in ("mathbb Z", "mathbb N", "Z", "N"))
INDICES = tuple(("sym", name) for name in "nmkcC")
BRACKETS = frozenset(["(", "[", "{", "\\{", "langle", *(f"begin {name}" for name in MATRICES)])
TRIGGERS = OPENING | CONCLUDING | EXPLAINING | OCCASIONS | QUALIFIERS | QUANTIFIERS | IS | JOINING
SPEAKING = frozenset(["Rightarrow", "therefore", "forall"])
SPLITTING = frozenset([",", ";", ":", "\\\\", "pmod", "setminus", "|", *RELATIONS])
SIDE_LIMIT = 40  # of one chain of equations


class Reader(Quantities):
    """One answer, as tokens and what is found of it on the way.

    `letters` are the letters of the reference, by which a run of letters is a product of them or a word; None where
    the text is the reference.
    """

    worded = 0  # how many values words stood before
    modular = False  # if a modulus stands behind the value
    join = ""  # what stands between the items of a list
    subject: Value | None = None  # words before a value in brackets that ends the answer

    def __init__(self, text: str, letters: frozenset[str] | None) -> None:
        self.tokens = Lexer(text, letters).run()
        values = {value for _, value, _ in self.tokens}
        self.match = Brackets() if BRACKETS.isdisjoint(values) else prose.matched(self.tokens)
        spoken = [value.lower() for kind, value, _ in self.tokens if kind == WORD]
        self.speaks = not (SPEAKING.isdisjoint(values) and TRIGGERS.isdisjoint(spoken))
        self.is_plain = not (self.speaks or (spoken and ")" in values)) and SPLITTING.isdisjoint(values)
        self.letters = letters
        self.is_reference = letters is None
        self.end = len(self.tokens)
        self.go(0)

    def name_constant(self) -> None:
        """Call the constant of integration C, as the reference does, where the answer calls it c."""
        if not any(token[:2] == (LETTERS, "C") for token in self.tokens):
            self.tokens = [
                (LETTERS, "C", token[2]) if token[:2] == (LETTERS, "c") else token for token in self.tokens
            ]
            self.go(0)

    # ---- the whole answer ----

    def answer(self) -> Value:
        """What the answer says last; what it says before stands in `earlier`."""
        tokens = self.tokens
        low, high = prose.opening(tokens, 0, len(tokens)), len(tokens)
        while low < high and tokens[high - 1][1] == "\\\\":
            high -= 1
        start = low
        if not self.is_reference and self.speaks:
            start = prose.last_claim(tokens, self.top_level(low, high), low, high)
        value = self.whole(start, high)
        self.worded += start > low
        if self.is_reference and type(value) is Several and self.worded > 1:
            raise Malformed("words that tell values apart")
        return value

    def whole(self, low: int, high: int) -> Value:
        low, high = self.unbraced(low, high)
        cut, verb = high, 0
        if self.speaks:
            cut = prose.without_explanation(
                self.tokens, self.top_level(low, high), low, high, self.is_reference
            )
            verb = self.only_verb(low, cut)
        one = self.predicate(low, verb, cut) if verb else self.side(low, cut) if self.is_plain else None
        items = self.items(low, cut) if one is None else [one]
        while len(items) > 1 and self.join == "," and is_clause(items[0]) and type(items[-1]) is not Words:
            del items[0]  # "In the triangle, x is 16"
        while len(items) > 1 and is_domain(items[-1], self.is_reference):
            del items[-1]  # 2 k \pi, k \in \mathbb{Z}
        return items[0] if len(items) == 1 else Several(tuple(items), self.join)

    def unbraced(self, low: int, high: int) -> tuple[int, int]:
        """The bounds within braces that hold all there is."""
        while low < high and self.tokens[low][1] == "{" and self.match.get(low) == high - 1:
            low, high = low + 1, high - 1
        return low, high

    def within(self, low: int, high: int) -> list[Value]:
        outer = self.join
        items = self.items(low, high)
        self.join = outer
        return items

    def items(self, low: int, high: int) -> list[Value]:
        """What stands between commas, "and" and "or"; `join` is what they are."""
        items, self.join, start, seen = [], "", low, ""
        places = self.top_level(low, high)
        for place in places:
            kind, value, _ = self.tokens[place]
            joining = kind == WORD and value.lower() in JOINING
            if not joining and (kind != SIGN or value not in (",", ";")):
                continue
            join = value.lower()
            if start < place or not (joining and seen in (",", ";")):  # "1, 2, and 3"
                items.append(self.relation(start, place))
                self.join = join if not self.join or join == self.join or self.join == "," else ","
            else:
                self.join = join if len(items) == 1 else self.join
            start, seen = place + 1, join
        return (
            [*items, self.relation(start, high)]
            if items or start > low
            else [self.relation(low, high, places)]
        )

    # ---- relations ----

    def relation(self, low: int, high: int, places: Sequence[int] = ()) -> Value:
        places = places or self.top_level(low, high)
        verb = prose.last_is(self.tokens, places) if self.speaks else -1
        if verb >= low and not all(token[0] == WORD for token in self.tokens[low:high]):
            return self.predicate(low, verb, high)
        operators: list[str] = []
        bounds = [low]
        for place in places:
            kind, value, _ = self.tokens[place]
            if kind not in (SIGN, COMMAND) or value not in RELATIONS:
                continue
            if value == "=" and bounds[-1] == place and operators and operators[-1] in ("<", ">"):
                operators[-1] += "="  # >=
                bounds[-1] = place + 1
                continue
            operators.append(RELATIONS[value])
            bounds += [place, place + 1]
        if not operators:
            return self.side(low, high)
        if len(operators) > SIDE_LIMIT:
            raise Malformed("too many sides")
        return self.chain(operators, [*bounds, high])

    def chain(self, operators: list[str], bounds: list[int]) -> Value:
        sides: list[Value] = []
        for k in range(0, len(bounds), 2):
            low, high = bounds[k : k + 2]
            if k == len(bounds) - 2:
                sides.append(self.side(low, high))
            else:
                sides.append(self.side_or_name(low, high, operators[k // 2] == "="))
        first = sides[0]
        if is_expression(first) and first[0] == "^" and type(released(first[1])) is Matrix:
            return sides[-1]  # the inverse is not computed, but what the matrix behind it is called
        if self.modular:
            operators[-1] = "mod"
        return Relation(tuple(operators), tuple(sides))

    def predicate(self, low: int, verb: int, high: int) -> Value:
        """What is said to be something: "The answer is 5", "x is 5"."""
        if verb + 1 == high or prose.negates(self.tokens[low:verb]):
            raise Malformed("words")
        items = self.items(verb + 1, high)
        value = items[0] if len(items) == 1 else Several(tuple(items), self.join)
        words = [place for place in range(low, verb) if self.tokens[place][0] == WORD]
        self.worded += bool(words)
        subject = words[-1] + 1 if words else low
        if subject == verb or type(value) is Several:
            return value
        name = self.side_or_name(subject, verb)
        return value if words and not is_letter(name) else Relation(("=",), (name, value))

    def only_verb(self, low: int, high: int) -> int:
        """The place of the one verb of a sentence that begins with words; 0 where there is none."""
        if (
            low == high
            or self.tokens[low][0] != WORD
            or all(token[0] == WORD for token in self.tokens[low:high])
        ):
            return 0
        verbs = [place for place in self.top_level(low, high) if is_word(self.tokens[place], IS)]
        return verbs[0] if len(verbs) == 1 else 0

    def side_or_name(self, low: int, high: int, is_equation: bool = False) -> Value:
        """A side of a relation behind which there are others; words before an equals sign are a name."""
        tokens = self.tokens[low:high]
        if is_equation and len(tokens) > 2 and tokens[0][0] == WORD and tokens[1][1] == "(":  # LCM(12, 18)
            if prose.is_called(tokens):
                return Name(" ".join(token[1] for token in tokens))
        state = self.depth, self.open_bars, self.mixed, self.currency, self.worded
        try:
            return self.side(low, high)
        except Malformed as error:
            named = type(error) is Unsupported and not self.is_reference  # an integral before its value
            if not (named or prose.is_called(tokens)):
                raise
        self.depth, self.open_bars, self.mixed, self.currency, self.worded = state
        return Name(" ".join(token[1] for token in tokens))

    # ---- one side: words, an expression, a unit ----

    def side(self, low: int, high: int) -> Value:
        outer, self.currency, self.end = self.currency, "", high
        self.go(low)
        words = []
        while self.kind == WORD:
            words.append(self.advance())
        node = self.behind_words(words) if words else None
        if node is None:
            self.worded += bool(words)
            node = released(self.infix())
            if self.kind != "end" or self.marks or self.currency:
                node = self.with_unit(self.joined(node))
        self.currency = outer
        if self.kind != "end":
            raise Malformed("rest")
        months = [MONTHS[word.lower()] for word in words if word.lower() in MONTHS]
        if months and type(node) is not Words:
            return Date(months[0], node)
        return node

    def behind_words(self, words: list[str]) -> Value | None:
        """What the words say where they say it alone, else None: a value follows."""
        if self.kind == "end":
            return words_value(words)
        if words[-1].lower() == "except" and is_reals(words[:-1]):
            point = self.sum()
            return self.without(REALS, Set((point,)))
        if self.value == "(" and self.match.get(self.position) == self.end - 1:
            inside = self.tokens[self.position + 1 : self.end - 1]
            if (
                self.spaced
                and not self.is_reference
                and not prose.negates(inside)
                and "or" not in prose.words_among(inside)
            ):
                self.subject = words_value(words)  # Bob (55)
        colon = self.accept(":")
        lower = [word.lower() for word in words]
        if colon and self.value == "emptyset" and lower[0] == "no":
            return self.command()  # No solution: \emptyset
        if not NEGATING.isdisjoint(lower) or (changes(lower) if not colon else lower[-1] in COMPARING):
            raise Malformed("words")
        if not (self.spaced or colon) and (self.kind == NUMBER or self.value in ("(", "[", "{", "\\{")):
            raise Malformed("a word run into a number or used as a function")
        return None

    def joined(self, first: Value) -> Value:
        """A union, all numbers but some, or a ratio that begins with `first`; a modulus behind it is read over."""
        parts = [first]
        while self.value in ("cup", "U") and (
            self.kind == COMMAND or (type(parts[-1]) is Row and self.kind == LETTERS)
        ):
            self.advance()
            parts.append(released(self.sum()))
        while self.value == "setminus" and type(parts[-1]) is Row:
            self.advance()
            parts[-1] = self.without(parts[-1], released(self.sum()))
        if is_expression(first):
            counts = first[0] == "num" and self.value in (":", "to") and self.peek()[0] == NUMBER
            if counts or (self.value == ":" and not symbols(first)):  # \pi : 4
                while self.accept(":") or self.accept("to", WORD):
                    parts.append(self.sum())
                parts = [Ratio(tuple(parts))]
        if self.value in ("pmod", "("):
            self.modulus_behind()
        return parts[0] if len(parts) == 1 else Union(tuple(parts))

    def without(self, interval: Row, removed: Value) -> Node:
        """All numbers of an interval but some."""
        self.holds = True
        return ("+", (held(interval), ("*", (MINUS_ONE, held(removed)))))

    def modulus_behind(self) -> None:
        r"""Read over `\pmod{7}` or (mod 7); a reference that has one is no value."""
        if self.accept("pmod", COMMAND):
            self.argument()
        elif self.peek()[1] in ("mod", "bmod"):
            self.advance(2)
            self.sum()
            self.expect(")")
        else:
            return
        self.modular = True
        if self.is_reference:
            raise Malformed("a modulus")

    # ---- sets by their conditions ----

    def braces(self) -> Value:
        r"""A set, or one by its conditions: `\{x \mid x > 2\}`, `\{x \in \mathbb{R} : x \ne 3\}`."""
        low, close = self.position + 1, self.match[self.position]
        kind, mark = self.peek()[0], self.peek(2)[1]
        if kind != LETTERS or (mark not in ("|", ":") and self.peek(2)[:2] != (COMMAND, "in")):
            return Set(tuple(self.in_brackets()[1]) if close > low else self.go(close + 1) or ())
        bar = next((k for k in self.top_level(low, close) if self.tokens[k][1] in ("|", ":")), close)
        end, outer, bars = self.end, self.join, self.open_bars
        name, self.open_bars = ("sym", self.tokens[low][1]), 0
        domain = self.relation(low, bar)
        conditions = self.items(bar + 1, close)
        join, self.join, self.end, self.open_bars = self.join, outer, end, bars
        self.go(close + 1)
        conditions = [*filter(is_restriction, [domain]), *conditions]
        return Builder(tuple(conditions), join or ",", name)


def is_letter(value: Value) -> bool:
    return is_expression(value) and value[0] == "sym"


def words_value(words: list[str]) -> Value:
    """Words alone: a number if they are one, a letter as that letter; no articles, any case."""
    verbs = [k for k, word in enumerate(words) if word.lower() in IS]
    if verbs and 0 < verbs[-1] < len(words) - 1:
        if NEGATING.isdisjoint(word.lower() for word in words[: verbs[-1]]):
            words = words[verbs[-1] + 1 :]  # "The function is even"
    if len(words) > 1 and words[0].lower() in ARTICLES:
        words = words[1:]
    plain = tuple(word.lower() for word in words)
    if plain[0] in SPELLED and CHANGING_BEHIND.isdisjoint(plain[1:]):
        number, unit = ("num", SPELLED[plain[0]], 1), canonical_unit(plain[1:])
        if unit is not None:
            return Quantity(number, unit) if unit else number  # eight days
    return Words(tuple(words) if len(words) == 1 == len(words[0]) else plain)


def is_clause(value: Value) -> bool:
    """True for words that a sentence may begin with, before its comma."""
    return type(value) is Words and len(value.words) > 1 and NEGATING.isdisjoint(value.words)


def is_domain(value: Value, of_reference: bool) -> bool:
    r"""True for what says which values a letter takes: `k \in \mathbb{Z}`, and in an answer `n \ge 1`."""
    if type(value) is not Relation or len(value.sides) != 2 or value.sides[0] not in INDICES:
        return False
    return value.sides[1] in (*INTEGERS, REALS) or (not of_reference and value.operators[0] in (">", ">="))


def is_restriction(domain: Value) -> bool:
    r"""True for `x \in \mathbb{Z}` before the conditions of a set; not for a letter alone, or one that is any real."""
    return type(domain) is Relation and domain.sides[-1] != REALS
