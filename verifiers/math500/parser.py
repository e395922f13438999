r"""Reads the value that an answer says last from its tokens, without the words around it.

A text is split at commas, then at relation signs, before anything is parsed, so that each side is read by itself:
words, an expression by recursive descent (a sum of products of powers, see tree.py), a unit, a remark. A side that
cannot be read is taken as a name of the side behind it. Words beside a value do not change it, unless there is a
number, a negation, an "or" or a comparison among them. Nothing is ever executed; all functions raise `Malformed` for
what no notation has, and `Unsupported` for mathematics that is not judged.

A token is (kind, value, True if white space stands before it).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import NamedTuple, Never, TypeVar

from verifiers.math500 import words as w
from verifiers.math500.tree import (
    BOUND,
    INFINITY,
    MINUS_ONE,
    ONE,
    TRIGONOMETRIC,
    Node,
    holds_repeated,
    is_whole,
    period,
    repeating,
    substituted,
    symbols,
)
from verifiers.math500.values import (
    REALS,
    Based,
    Builder,
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
    as_node,
    as_value,
    is_expression,
)
from verifiers.reading import units
from verifiers.reading.amounts import CODES, MONEY_MAGNITUDES, NAMES, SIGNS, currencies_of
from verifiers.reading.tokens import (
    COMMAND,
    LETTERS,
    NUMBER,
    SIGN,
    WORD,
    Malformed,
    Token,
    Unsupported,
)

DEPTH_LIMIT = 40  # nested brackets and arguments
SIDE_LIMIT = 40  # sides of one chain of equations
END: Token = ("end", "", False)
T = TypeVar("T")
Tokens = Sequence[Token]

MATRICES = frozenset("cases matrix pmatrix bmatrix Bmatrix smallmatrix array".split())
"""The environments of LaTeX that are read as a matrix."""
RELATIONS = {  # {token: the operator of a `Relation`}
    "=": "=", "<": "<", ">": ">", "le": "<=", "ge": ">=", "in": "in", "ne": "!=", "equiv": "=", "approx": "approx",
}  # fmt: skip
BOUNDS = frozenset(["<", ">", "le", "ge", "ne", "in"])  # relations that bound a letter: n > 2
CLOSING_OF = {"(": (")", "]"), "[": (")", "]"), "{": ("}",), "\\{": ("\\}",), "langle": ("rangle",)}
"""{opening bracket: what may close it}; round and square ones close each other, as in (2, 5]."""
_CLOSING = frozenset(sign for signs in CLOSING_OF.values() for sign in signs)
_OPENING = frozenset([*CLOSING_OF, *(f"begin {name}" for name in MATRICES)])
_SPLITTING = frozenset([",", ";", ":", "\\\\", "pmod", "setminus", "|", *RELATIONS])
"""Signs and commands that may part a text into several sides: the comma of "1, 2", the = of "x = 5"."""
_SENTENCE = (
    w.OPENING_WORDS
    | w.CONCLUDING
    | w.EXPLAINING
    | w.OCCASIONS
    | w.QUALIFIERS
    | w.QUANTIFIERS
    | w.IS
    | w.JOINING
)
"""Words by which a text may be a sentence around a value: "so", "because", "for", "is", "and"."""

MIXED = "mixed"  # a mixed number was read, or a number with a word such as "million"
WORDED = "worded"  # words stood before a value
MODULUS = "modulus"  # a modulus stood behind a value: 3 (mod 7)


class Brackets(dict[int, int]):
    """{place of an opening bracket: place of its closing one}; raises `Malformed` for one that nothing closes."""

    def __missing__(self, place: int) -> int:
        raise Malformed("a bracket that nothing closes")


def matched(tokens: Tokens) -> Brackets:
    """The places of all pairs of brackets; an environment such as `\\begin{matrix}` counts as a pair."""
    match, places = Brackets(), list[int]()
    for place, (kind, value, _) in enumerate(tokens):
        is_environment = kind == COMMAND and value[:6] == "begin "
        if is_environment or (value in CLOSING_OF and kind != WORD):
            places.append(place)
        elif kind == COMMAND and value[:4] == "end ":
            if places and tokens[places[-1]][1] == "begin " + value[4:]:
                match[places.pop()] = place
        elif value in _CLOSING and kind != WORD:
            if places and value in CLOSING_OF.get(tokens[places[-1]][1], ()):
                match[places.pop()] = place
            else:
                places.append(place)  # has no opening bracket, so nothing will close it
    return match


class Text:
    """The tokens of one answer, and what is known of them before any is read as mathematics.

    `letters`: the variables of the reference, which tell letters of the answer from words and units; None where this
    text is the reference itself. `match`: {the place of an opening bracket: the place of its closing one}.
    `may_be_sentence`: True if a word such as "so" or "is" or an arrow stands in the text. `is_one_side`: True if
    nothing may part the text.
    """

    def __init__(self, tokens: list[Token], letters: frozenset[str] | None) -> None:
        self.tokens, self.letters = tokens, letters
        self.is_reference = letters is None
        values = {value for _, value, _ in tokens}
        self.match = Brackets() if _OPENING.isdisjoint(values) else matched(tokens)
        words = words_among(tokens)
        self.may_be_sentence = not (
            values.isdisjoint(("Rightarrow", "therefore", "forall")) and _SENTENCE.isdisjoint(words)
        )
        may_be_parted = self.may_be_sentence or (words and ")" in values) or not _SPLITTING.isdisjoint(values)
        self.is_one_side = not may_be_parted

    def top_level(self, low: int, high: int) -> Sequence[int]:
        """The places in [low, high) that stand outside of all brackets; an opening bracket is outside itself."""
        if not self.match:
            return range(low, high)
        places = []
        while low < high:
            places.append(low)
            low = self.match.get(low, low) + 1
        return places


class Cursor:
    """A place in a part of a text; `kind`, `value` and `spaced` describe the token at that place.

    What stands in brackets is read by a new cursor. Where one reading fails and another is tried, the cursor of the
    first and its marks are dropped. A COMMAND and a WORD may have the same value (`\\deg` and "deg").
    """

    open_bars = 0  # how many bars | of absolute values are open, their closing bars still to come
    currency = ""  # the unit of the currency sign that was read: "dollar"
    has_sign = False  # True once a degree or per cent sign was read
    temperature = ""  # the scale of temperature whose letter stood behind degrees: "celsius" for 5°C

    def __init__(self, text: Text, low: int, high: int, depth: int, marks: list[str]) -> None:
        self.text, self.tokens, self.end, self.marks = text, text.tokens, high, marks
        self.depth = depth  # how many brackets and arguments are around this part
        self.go(low)

    def between(self, low: int, high: int) -> Cursor:
        """A cursor for the places [low, high) of the text; it adds to the marks of this cursor."""
        return Cursor(self.text, low, high, self.depth, self.marks)

    def go(self, position: int) -> None:
        """Goes to a place, before or behind this one."""
        self.position = position
        self.kind, self.value, self.spaced = self.tokens[position] if position < self.end else END

    def advance(self, count: int = 1) -> str:
        """Reads `count` tokens, and returns the value of the first of them."""
        value = self.value
        position = self.position = self.position + count
        self.kind, self.value, self.spaced = self.tokens[position] if position < self.end else END
        return value

    def peek(self, offset: int = 1) -> Token:
        """The token `offset` places from here, without reading it; `END` where there is none."""
        place = self.position + offset
        return self.tokens[place] if 0 <= place < self.end else END

    def accept(self, value: str, kind: str | None = None) -> bool:
        """Reads the token here if it has this value (and kind, if given), and returns whether it has."""
        if self.value == value and (kind is None or kind == self.kind):
            self.advance()
            return True
        return False

    def expect(self, sign: str) -> None:
        """Reads the token of this value; raises `Malformed` if another one stands here."""
        if not self.accept(sign):
            raise Malformed(f"{sign} expected")

    def in_last_brackets(self) -> list[Token]:
        """The tokens in (...) if these brackets begin here and end the text; else no tokens."""
        last_place = self.end - 1
        are_last = self.value == "(" and self.text.match.get(self.position) == last_place
        return self.tokens[self.position + 1 : last_place] if are_last else []


class Reading(NamedTuple):
    """The value that a text says, and what was noticed on the way: see `MIXED` and `WORDED`."""

    value: Value
    mixed: bool = False
    worded: bool = False


def read(tokens: list[Token], letters: frozenset[str] | None) -> Reading:
    """The value that an answer says last. `letters`: the variables of the reference; None if this is the reference."""
    text, marks = Text(tokens, letters), list[str]()
    low, high = start_of_answer(tokens), len(tokens)
    while low < high and tokens[high - 1][1] == "\\\\":
        high -= 1
    start = low
    if text.may_be_sentence and not text.is_reference:
        start = start_of_last_claim(tokens, text.top_level(low, high), low, high)
    value = read_whole(text, start, high, marks)
    if start > low:
        marks.append(WORDED)
    if text.is_reference and type(value) is Several and marks.count(WORDED) > 1:
        raise Malformed("words that tell values apart")
    return Reading(value, MIXED in marks, WORDED in marks)


# ---- words around values ----


def is_word(token: Token, words: frozenset[str]) -> bool:
    """True if a token is one of the words, in any case."""
    return token[0] == WORD and token[1].lower() in words


def words_among(tokens: Tokens) -> list[str]:
    """The words among the tokens, in lower case."""
    return [value.lower() for kind, value, _ in tokens if kind == WORD]


def negates(tokens: Tokens) -> bool:
    """True if a word among the tokens denies, doubts or changes a value: "not", "perhaps", "twice"."""
    return not w.NEGATING.isdisjoint(words_among(tokens))


def start_of_answer(tokens: Tokens) -> int:
    """The first place of the answer itself: "So,", arrows and equals signs before it are left out."""
    low = 0
    while low < len(tokens):
        kind, value, _ = tokens[low]
        following = tokens[low + 1][1] if low + 1 < len(tokens) else ""
        if value == "=" or (kind == COMMAND and value in ("therefore", "Rightarrow")):
            low += 1
        elif is_word(tokens[low], w.OPENING_WORDS) and following in (",", "."):
            low += 2
        else:
            break
    return low


def start_of_last_claim(tokens: Tokens, places: Sequence[int], low: int, high: int) -> int:
    """The place behind the last arrow or word such as "so", where an answer says its result; `low` if there is none."""
    for place in places:
        kind, value, _ = tokens[place]
        is_arrow = kind == COMMAND and value in ("Rightarrow", "therefore")
        if place > low and (is_arrow or is_word(tokens[place], w.CONCLUDING)):
            low = place + 1
            if low < high and tokens[low][1] == ",":
                low += 1
    return low


def end_of_values(text: Text, low: int, high: int) -> int:
    """The place where the values end, before "at x = 6, y = 4" or "for all n > 2"; `high` if nothing explains them."""
    tokens = text.tokens
    for place in text.top_level(low, high):
        if place <= low:
            continue
        # start: where an explanation may begin. end: where the values before it end, without a comma between them.
        start = place + 1 if tokens[place][1] == "," and place + 1 < high else place
        end = place - 1 if start == place and tokens[place - 1][1] == "," else place
        if tokens[start][1].lower() == "at" and all(token[0] == WORD for token in tokens[low:place]):
            continue  # "The focus is at (0, 2)": the value comes only here
        behind = tokens[start:high]
        if qualifies(behind, start > place, text.is_reference):
            return end
        if not text.is_reference and is_word(behind[0], w.OCCASIONS) and says_where(behind):
            return end
    return high


def qualifies(behind: Tokens, has_comma: bool, is_reference: bool) -> bool:
    """True if tokens behind a value only say where it holds: "for all n > 2", but not "for even n"."""
    values = [value.lower() if kind == WORD else value for kind, value, _ in behind]
    if not (w.CASES | w.IS).isdisjoint(values):
        return False
    if has_comma and len(values) == 3 and behind[2][0] == LETTERS and values[0] in w.QUANTIFIERS:
        return True  # ", any integer n"
    first, second, third = (*values, "", "")[:3]
    is_for_all = first == "forall" or second in w.QUANTIFIERS or (not is_reference and third in BOUNDS)
    return first in w.QUALIFIERS and is_for_all


def says_where(behind: Tokens) -> bool:
    """True if tokens behind a value say where it is reached: "attained at x = 1", "at (1, 2)"; not "at least 5"."""
    values = [value for _, value, _ in behind]
    if negates(behind) or "or" in values or values[:2] in (["at", "least"], ["at", "most"]):
        return False
    return "=" in values or "(" in values or not any(kind == NUMBER for kind, _, _ in behind)


def is_remark(inside: Tokens) -> bool:
    """True if brackets behind a value hold words that leave the value alone: "(simplified)", "(where n is even)"."""
    words = words_among(inside)
    if words and words[0] in w.EXPLAINING:
        return not hedges(inside)
    has_words_alone = all(kind in (WORD, LETTERS) or value in (",", "'", "-") for kind, value, _ in inside)
    return (
        has_words_alone and any(len(word) > 1 for word in words) and w.FORBIDDEN_IN_REMARK.isdisjoint(words)
    )


def hedges(tokens: Tokens) -> bool:
    """True if a word among the tokens may take back or change a value: "or", "not", "about", "base"."""
    return not (w.NEGATING | w.COMPARING | {"or", "and", "base", "mod", "to"}).isdisjoint(words_among(tokens))


_FUNCTION_NAMES = frozenset(
    "sin cos tan cot sec csc asin acos atan ln log lg exp sinh cosh tanh sech csch coth cis gcd lcm max min det".split()
)
_NAME_SIGNS = _FUNCTION_NAMES | {  # signs and commands that may stand in a name, as in P(A|B) and \angle ABC
    *"( ) [ ] { } | ' + - * / : _ ^ , # overline widehat cap cup perp deg dim ker arg Pr Re Im frac partial".split(),
    *"nabla circ triangle angle alpha beta gamma delta epsilon theta lambda mu nu rho sigma tau phi chi psi".split(),
    *"omega Delta ell".split(), "mathbb P", "mathbb E",
}  # fmt: skip
_OPERATORS = frozenset(  # signs for an operation that a problem defines: 3 \star 5
    "odot star oplus otimes ominus diamond Diamond clubsuit spadesuit heartsuit diamondsuit bigstar Box @".split()
)


def is_only_name(tokens: Tokens) -> bool:
    """True if a side of an equation can be nothing but a name: `P(A|B)`, `[ABC]`, words.

    Numbers in a name are indices or stand in brackets.
    """
    if not tokens or negates(tokens):
        return False
    values = [value for _, value, _ in tokens]
    if not _OPERATORS.isdisjoint(values):
        return True
    # Anything may stand in brackets, 3 in f(3), unless the side begins with a bracket or a fraction.
    takes_brackets = (tokens[0][0] != SIGN or values[0] in ("_", "^", "#")) and values[0] != "frac"
    depth = 0
    for place, (kind, value, _) in enumerate(tokens):
        if kind == SIGN:
            depth += (value in CLOSING_OF) - (value in _CLOSING)
        is_index = place > 0 and values[place - 1] in ("_", "^")
        may_be_in_name = kind in (LETTERS, WORD) or value in _NAME_SIGNS or is_index
        if (not may_be_in_name or (value == "," and depth <= 0)) and not (takes_brackets and depth > 0):
            return False
    kind, value, _ = tokens[-1]
    return kind != SIGN or value in _CLOSING or value == "|"


# ---- lists, relations and their sides ----


def read_whole(text: Text, low: int, high: int, marks: list[str]) -> Value:
    """The value of the tokens in [low, high), without an explanation behind it."""
    tokens = text.tokens
    while low < high and tokens[low][1] == "{" and text.match.get(low) == high - 1:
        low, high = low + 1, high - 1
    if text.may_be_sentence:
        high = end_of_values(text, low, high)
    cursor = Cursor(text, low, high, depth=0, marks=marks)
    if text.is_one_side:
        return read_side(cursor)
    if text.may_be_sentence and low < high and tokens[low][0] == WORD:
        verbs = [place for place in text.top_level(low, high) if is_word(tokens[place], w.IS)]
        if len(verbs) == 1 and not all(token[0] == WORD for token in tokens[low:high]):
            return read_predicate(cursor, verbs[0])  # The answer is 5
    items, join = read_items(cursor)
    while len(items) > 1 and is_domain(items[-1], text.is_reference):
        del items[-1]  # 2 k \pi, k \in \mathbb{Z}
    return as_one(items, join)


_INTEGERS = (*(("sym", name) for name in ("mathbb Z", "mathbb N", "Z", "N")), REALS)


def is_domain(value: Value, of_reference: bool) -> bool:
    r"""True if a value only says which values a letter takes: `k \in \mathbb{Z}`, and in an answer `n \ge 1`."""
    if type(value) is not Relation or len(value.sides) != 2:
        return False
    if (
        not is_expression(value.sides[0])
        or value.sides[0][0] != "sym"
        or value.sides[0][1] not in tuple("nmkcC")
    ):
        return False
    return value.sides[1] in _INTEGERS or (value.operators[0] in (">", ">=") and not of_reference)


def read_items(cursor: Cursor) -> tuple[list[Value], str]:
    """Reads a list, and returns (its items, what stands between them).

    The second is ",", ";", "and" or "or"; "" if there is one item. Signs that differ give ",", but a comma gives way to
    a sign between later items: "and" for "1, 2 and 3".
    """
    items: list[Value] = []
    low, high, tokens = cursor.position, cursor.end, cursor.tokens
    join, start, last_sign = "", low, ""
    places = cursor.text.top_level(low, high)
    for place in places:
        kind, value, _ = tokens[place]
        is_joining = kind == WORD and value.lower() in w.JOINING
        if not is_joining and (kind != SIGN or value not in (",", ";")):
            continue
        sign = value.lower()
        # True at the "and" of "1, 2, and 3".
        is_behind_comma = start == place and is_joining and last_sign in (",", ";")
        if not is_behind_comma:
            items.append(read_relation(cursor.between(start, place)))
            join = sign if join in ("", ",", sign) else ","
        elif len(items) == 1:
            join = sign  # "1, or 2"
        start, last_sign = place + 1, sign
    if start == low:
        return [read_relation(cursor, places)], join
    return [*items, read_relation(cursor.between(start, high))], join


def as_one(items: list[Value], join: str) -> Value:
    """The items as one value: the only one, a sum such as 2 hours and 30 minutes, or a list."""
    if len(items) == 1:
        return items[0]
    total = None if join == "or" else sum_of_units(items)
    return total or Several(tuple(items), join)


def read_relation(cursor: Cursor, places: Sequence[int] = ()) -> Value:
    """Reads a chain of relations, or one side. `places`: the places outside of brackets, if they are known."""
    low, high, tokens = cursor.position, cursor.end, cursor.tokens
    places = places or cursor.text.top_level(low, high)
    if cursor.text.may_be_sentence and not all(token[0] == WORD for token in tokens[low:high]):
        verb = next((place for place in reversed(places) if is_word(tokens[place], w.IS)), -1)
        if verb >= 0:
            return read_predicate(cursor, verb)
    operators: list[str] = []
    bounds = [low]  # where the first side begins and ends, where the second does, ...
    for place in places:
        kind, value, _ = tokens[place]
        if kind not in (SIGN, COMMAND) or value not in RELATIONS:
            continue
        if value == "=" and bounds[-1] == place and operators and operators[-1] in ("<", ">"):
            operators[-1] += "="  # >=
            bounds[-1] = place + 1
            continue
        operators.append(RELATIONS[value])
        bounds += [place, place + 1]
    if not operators:
        return read_side(cursor)
    if len(operators) > SIDE_LIMIT:
        raise Malformed("too many sides")
    sides = [
        read_side_or_name(cursor, start, end, is_equation=operator == "=")
        for start, end, operator in zip(bounds[::2], bounds[1::2], operators, strict=False)
    ]
    sides.append(read_side(cursor.between(bounds[-1], high)))
    first = sides[0]
    if is_expression(first) and first[0] == "^" and type(as_value(first[1])) is Matrix:
        return sides[
            -1
        ]  # A^{-1} = B: the inverse is not computed, but taken as a name of the matrix behind it
    if MODULUS in cursor.marks:
        operators[-1] = "mod"
    return Relation(tuple(operators), tuple(sides))


def read_predicate(cursor: Cursor, verb: int) -> Value:
    """Reads a sentence whose verb is at the place `verb`: 5 for "The answer is 5", x = 5 for "x is 5"."""
    low, high, tokens = cursor.position, cursor.end, cursor.tokens
    if verb + 1 == high or negates(tokens[low:verb]):
        raise Malformed("words")
    stop = next((place for place in range(low, verb) if tokens[place][:2] == (SIGN, ".")), low)
    if any(kind == NUMBER for kind, _, _ in tokens[low:stop]):
        raise Malformed("a value in the sentence before")  # 92. The subtotal was 84
    value = as_one(*read_items(cursor.between(verb + 1, high)))
    words = [place for place in range(low, verb) if tokens[place][0] == WORD]
    if words:
        cursor.marks.append(WORDED)
    start_of_name = words[-1] + 1 if words else low
    if start_of_name == verb or type(value) is Several:
        return value
    name = read_side_or_name(cursor, start_of_name, verb)
    is_letter = is_expression(name) and name[0] == "sym"
    return value if words and not is_letter else Relation(("=",), (name, value))


def read_side_or_name(cursor: Cursor, low: int, high: int, is_equation: bool = False) -> Value:
    """Reads a side of a relation, but not its last one; such a side may be a name: the words before an equals sign.

    `is_equation`: True if an equals sign follows, so that LCM(12, 18) is a name.
    """
    tokens = cursor.tokens[low:high]
    name = Name(" ".join(value for _, value, _ in tokens))
    if (
        is_equation
        and len(tokens) > 2
        and tokens[0][0] == WORD
        and tokens[1][1] == "("
        and is_only_name(tokens)
    ):
        return name
    attempt = Cursor(cursor.text, low, high, cursor.depth, marks=[])
    try:
        value = read_side(attempt)
    except Malformed as error:
        is_work = type(error) is Unsupported and not cursor.text.is_reference  # a limit, and then its value
        if not (is_work or is_only_name(tokens)):
            raise
        return name
    cursor.marks += attempt.marks
    return value


def read_side(cursor: Cursor) -> Value:
    """Reads one side: words, then an expression with its unit; either may be missing."""
    words = []
    while cursor.kind == WORD:
        words.append(cursor.advance())
    value = value_of_words_alone(cursor, words) if words else None
    if value is None:
        if words:
            cursor.marks.append(WORDED)
        value = as_value(read_expression(cursor))
        if cursor.kind != "end" or cursor.currency or cursor.has_sign:
            value = with_unit(cursor, read_compound(cursor, value))
    if cursor.kind != "end":
        raise Malformed("rest")
    return value


def value_of_words_alone(cursor: Cursor, words: list[str]) -> Value | None:
    """The value that words say by themselves; None if an expression follows, which is the value.

    Raises `Malformed` if the words change that value: "twice 5".
    """
    if cursor.kind == "end":
        return words_as_value(words)
    lower = [word.lower() for word in words]
    if lower[-1] == "except" and w.is_reals(words[:-1]):
        return difference_of_sets(REALS, Set((read_sum(cursor),)))
    has_colon = cursor.accept(":")
    if has_colon and cursor.value == "emptyset" and lower[0] == "no":
        return read_primary(cursor)  # No solution: \emptyset
    # A colon divides the words from the value, so that only a comparison right before it changes the value.
    are_changing = lower[-1] in w.COMPARING if has_colon else w.changes(lower)
    if are_changing or not w.NEGATING.isdisjoint(lower):
        raise Malformed("words")
    is_apart = cursor.spaced or has_colon
    if not is_apart and (cursor.kind == NUMBER or cursor.value in ("-", "(", "[", "{", "\\{")):
        raise Malformed("a word run into a number or used as a function")
    return None


def words_as_value(words: list[str]) -> Value:
    """The value of words without an expression: a number ("twelve", "eight days"), one letter as it is, or `Words`.

    An article before them is left out, and so is the subject of a sentence: "even" for "The function is even".
    """
    verbs = [k for k, word in enumerate(words) if word.lower() in w.IS]
    if verbs and 0 < verbs[-1] < len(words) - 1 and w.NEGATING.isdisjoint(map(str.lower, words[: verbs[-1]])):
        words = words[verbs[-1] + 1 :]
    if len(words) > 1 and words[0].lower() in w.ARTICLES:
        words = words[1:]
    plain = tuple(word.lower() for word in words)
    if plain[0] in w.SPELLED_NUMBERS and w.CHANGING_BEHIND.isdisjoint(plain[1:]):
        number = ("num", w.SPELLED_NUMBERS[plain[0]], 1)
        unit = units.canonical_unit(plain[1:])
        if unit is not None:
            return Quantity(number, unit) if unit else number  # eight days
    is_letter = len(words) == 1 and len(words[0]) == 1
    return Words(tuple(words) if is_letter else plain)


def read_compound(cursor: Cursor, first: Value) -> Value:
    """Reads on behind `first`: a union, an interval without some points, or a ratio. Skips a modulus behind them."""
    parts = [first]
    # A union sign, or the letter U behind an interval.
    while (cursor.kind, cursor.value) == (COMMAND, "cup") or (cursor.value == "U" and type(parts[-1]) is Row):
        cursor.advance()
        parts.append(as_value(read_sum(cursor)))
    while cursor.value == "setminus" and type(parts[-1]) is Row:
        cursor.advance()
        parts[-1] = difference_of_sets(parts[-1], as_value(read_sum(cursor)))
    if is_expression(first):
        of_numbers = first[0] == "num" and cursor.value in (":", "to") and cursor.peek()[0] == NUMBER
        if of_numbers or (cursor.value == ":" and not symbols(first)):  # 7 to 3, \pi : 4
            while cursor.accept(":") or cursor.accept("to", WORD):
                parts.append(read_sum(cursor))
            parts = [Ratio(tuple(parts))]
    if cursor.value == "pmod" or (cursor.value == "(" and cursor.peek()[1] in ("mod", "bmod")):
        if cursor.text.is_reference:
            raise Malformed("a modulus")
        if cursor.accept("pmod"):
            read_argument(cursor)
        else:
            cursor.advance(2)
            read_sum(cursor)
            cursor.expect(")")
        cursor.marks.append(MODULUS)
    return parts[0] if len(parts) == 1 else Union(tuple(parts))


def difference_of_sets(interval: Row, removed: Value) -> Node:
    """An interval minus the numbers that are removed from it, as an expression."""
    return ("+", (as_node(interval), ("*", (MINUS_ONE, as_node(removed)))))


# ---- units behind a value, and remarks ----

_UNIT_SIGNS = frozenset("/ ^ { } 1 2 3".split())  # what may stand between the letters of a unit: m/s^2


def with_unit(cursor: Cursor, value: Value) -> Value:
    """Reads the unit behind a value, signs (%, degrees, money) or words, and returns the value with this unit."""
    value, unit = without_sign(value) if cursor.has_sign else (value, "")
    if not unit and cursor.kind == SIGN and cursor.value.removeprefix("\\") in SIGNS:
        unit = SIGNS[cursor.advance().removeprefix("\\")]  # 4.50$
    words = [word for word in (unit or cursor.currency, cursor.temperature) if word]
    if at_money_letter(cursor) and value[0] == "num":  # $5k
        cursor.marks.append(MIXED)
        value = ("num", value[1] * 10 ** MONEY_MAGNITUDES[cursor.advance().lower()], value[2])
    is_part = is_expression(value) and value[0] == "/"
    if is_part and not words and cursor.value == "of" and cursor.peek()[1].lower() in ("a", "an", "one"):
        cursor.advance(2)  # 3/4 of an hour
    if (
        cursor.kind == WORD
        and cursor.value.lower() in w.SCALE_WORDS
        and (not words or words == [cursor.currency])
    ):
        if is_expression(value) and value[0] == "num":  # 3 million, $3 million
            cursor.marks.append(MIXED)
            value = ("num", value[1] * w.SCALE_WORDS[cursor.advance().lower()], value[2])
    if words and cursor.kind == WORD:
        named = units.UNITS.get(cursor.value.lower(), "")
        if words[0] == named or currencies_of(words[0]) & currencies_of(named):
            cursor.advance()  # $2 dollars, 25% percent
    read_unit_words(cursor, words)
    if not words:
        return value
    unit = units.canonical_unit(words)
    if unit is None:
        raise Malformed("the power of no unit")
    if unit == "" and words[0].lower() in units.ORDINALS:
        return value  # 12th is the number 12
    whole = Quantity(value, unit)
    # A part in a smaller unit: 2 hours 15 minutes.
    smaller = units.UNITS.get(cursor.peek()[1].lower(), "") if cursor.kind == NUMBER else ""
    ratio = units.conversion(unit, smaller) if smaller else None
    if ratio and ratio[0] > ratio[1]:
        return sum_of_units([whole, with_unit(cursor, read_number(cursor))]) or whole
    return whole


def sum_of_units(items: Sequence[Value]) -> Quantity | None:
    """150 minutes for 2 hours and 30 minutes; None for items that are no such quantities, the largest unit first.

    Each item must be less than one unit of the item before it. A sum of money is in the larger unit: 12 dollars and 45
    cents are 12.45 dollars, with nothing left to calculate; any other sum is a calculation in the smallest unit.
    """
    whole: Quantity | None = None  # the sum of the items so far, from the last one on
    smaller = Fraction(0)  # the item that was added last, in the unit of `whole`
    for item in reversed(items):
        if type(item) is not Quantity or not is_expression(item.value) or item.value[0] != "num":
            return None
        ratio = units.conversion(item.unit, whole.unit) if whole else (1, 1)
        if item.value[1] < 0 or not ratio or (whole and smaller >= Fraction(*ratio)):
            return None
        smaller = Fraction(*item.value[1:]) * Fraction(*ratio)
        if whole is None:
            whole = item
        elif units.is_money(item.unit) or units.is_money(whole.unit):
            total = Fraction(*item.value[1:]) + Fraction(*whole.value[1:]) / Fraction(*ratio)
            whole = Quantity(("num", *total.as_integer_ratio()), item.unit)
        else:
            terms = whole.value[1] if whole.value[0] == "+" else (whole.value,)
            whole = Quantity(("+", (("*", (item.value, ("num", *ratio))), *terms)), whole.unit)
    return whole


def read_unit_words(cursor: Cursor, words: list[str]) -> None:
    """Reads the words and letters of a unit, and adds them to `words`; skips a remark in brackets at the end."""
    while cursor.kind != "end":
        if at_remark(cursor, counted=bool(words)):
            cursor.go(cursor.end)
        elif at_unit_fraction(cursor):
            cursor.advance()
            words += [*unit_words(read_label(cursor)), "/", *unit_words(read_label(cursor))]
        elif at_unit_letter(cursor, words) or cursor.value == "%" or is_noun(cursor):
            read_unit_word(cursor, words)
        elif words and cursor.kind == LETTERS and cursor.value in units.DEGREE_LETTERS:
            if units.UNITS.get(words[-1].lower()) != "degree" or cursor.value in (cursor.text.letters or ()):
                return
            words.append(units.DEGREE_LETTERS[cursor.advance()])  # 20 degrees C
        elif cursor.value == "/" and (words or at_rate(cursor)):
            words.append("/")
            cursor.advance()
        else:
            return


def is_noun(cursor: Cursor) -> bool:
    """True at any word but "and" and "or"."""
    return cursor.kind == WORD and cursor.value.lower() not in w.JOINING


def at_rate(cursor: Cursor) -> bool:
    """True at the slash of a rate: $5/hour."""
    kind, value, _ = cursor.peek()
    return cursor.value == "/" and kind == WORD and value.lower() in units.UNITS


def read_unit_word(cursor: Cursor, words: list[str]) -> None:
    """Reads a word of a unit, with its power, and adds both to `words`; `Malformed` if the word changes the value."""
    word = cursor.value
    is_unknown_letter = cursor.kind == WORD and len(word) == 1 and word.islower() and word not in units.UNITS
    is_second_unit = bool(words) and word == "%"
    kind, following, _ = cursor.peek()
    # 24 positive divisors, 15 more people; but not 5 more than 3
    is_harmless = (
        word in ("more", "fewer", "positive", "negative") and kind == WORD and following not in ("than", "or")
    )
    changes_value = word.lower() in w.CHANGING_BEHIND and not is_harmless
    # 15 March and 15th of March, but not 5 jars of mayo, nor 15 Mars bars
    is_date = word.lower() in w.MONTHS and kind != WORD and (units.ORDINALS | {"of"}).issuperset(words)
    if is_second_unit or is_unknown_letter or changes_value or is_date:
        raise Malformed("words")
    words.append(cursor.advance())
    if cursor.accept("^"):
        words.append("^" + braced(cursor, read_digits))


def expression_ends(cursor: Cursor) -> bool:
    """True if a unit or a remark begins here, and no factor: the m of 5 m, "(simplified)"."""
    if cursor.kind == LETTERS:
        if at_money_letter(cursor):
            return True
        if not at_unit_letter(cursor):
            return False
        if cursor.peek()[0] == NUMBER and cursor.peek(2)[0] == WORD:
            return True  # 2 h 30 min
        return all(
            value in units.UNIT_LETTERS or (kind in (NUMBER, SIGN) and value in _UNIT_SIGNS)
            for kind, value, _ in cursor.tokens[cursor.position : cursor.end]
        )
    if cursor.value == "(":
        return at_remark(cursor) or cursor.peek()[1] in ("mod", "bmod")
    return cursor.value == "frac" and at_unit_fraction(cursor)


def at_remark(cursor: Cursor, counted: bool = False) -> bool:
    """True if brackets with a remark begin here and end the text: "16 (simplified)", "3 (where n is even)".

    `counted`: True behind a noun; the brackets may then also list what is counted: "3 integers (2, 5, 8)".
    """
    inside = cursor.in_last_brackets()
    if not inside or cursor.text.is_reference:
        return False
    return is_remark(inside) or (counted and not hedges(inside))


def at_money_letter(cursor: Cursor) -> bool:
    """True at the k of $5k and the M of $5M."""
    is_behind_price = cursor.currency and cursor.kind == LETTERS and not cursor.spaced
    if not is_behind_price or cursor.peek(-1)[0] != NUMBER:
        return False
    return cursor.value.lower() in MONEY_MAGNITUDES and cursor.peek()[0] in ("end", WORD)


def at_unit_fraction(cursor: Cursor) -> bool:
    r"""True if a fraction of units stands here: `\frac{\text{miles}}{\text{hour}}`."""
    is_fraction = (cursor.kind, cursor.value) == (COMMAND, "frac") and cursor.peek()[1] == "{"
    return is_fraction and cursor.peek(2)[0] == WORD


def unit_words(label: str) -> list[str]:
    """The words of a unit with their powers: ["s", "^2"] for `s ^ { 2 }`."""
    return label.replace("{ ", "").replace(" }", "").replace("^ ", "^").split()


def at_unit_letter(cursor: Cursor, before: Sequence[str] = ()) -> bool:
    """True if the letter here is a unit: the m of 5 m, the s of m/s; never a letter of the reference.

    Right behind a number, as in 5m, a letter is a unit only if the answer has no brackets and the reference no letters.
    `before`: the words of the unit so far.
    """
    text = cursor.text
    if cursor.kind != LETTERS or cursor.value not in units.UNIT_LETTERS:
        return False
    if text.is_reference:  # here a letter is a unit only if it can be no factor: km/h, 50 sq m, 5 m
        is_below = before[-1:] == ["/"] and len(before) > 1
        if cursor.peek(-1)[0] == NUMBER == cursor.peek()[0] and cursor.peek(2)[0] == WORD:
            return True  # 2 h 30 min
        return is_below or (bool(before) and before[-1].lower() in units.POWERS) or at_only_unit(cursor)
    may_touch_number = cursor.peek(-1)[0] == NUMBER and not (text.match or text.letters)
    return (cursor.spaced or before[-1:] == ["/"] or may_touch_number) and cursor.value not in text.letters


def at_only_unit(cursor: Cursor) -> bool:
    """True if a reference is nothing but a number, a space and the unit that begins here: 5 m, 3 m/s."""
    if not cursor.spaced or cursor.peek(-1)[0] != NUMBER or cursor.peek()[0] == LETTERS:
        return False
    return all(
        kind in (NUMBER, SIGN)
        or (place >= cursor.position and kind == LETTERS and value in units.UNIT_LETTERS)
        for place, (kind, value, _) in enumerate(cursor.text.tokens)
    )


def without_sign(value: Value) -> tuple[Value, str]:
    """(the expression without its degree or per cent sign, the unit of that sign); the unit is "" if there is none.

    30° -> (30, "degree");  10° + 20° -> (10 + 20, "degree");  10° + 2 -> (10° + 2, ""), where not all is in degrees.
    """
    if not is_expression(value):
        return value, ""
    kind = value[0]
    if kind in ("deg", "pct"):
        return value[1], "degree" if kind == "deg" else "percent"
    if kind in ("*", "+"):
        parts = [without_sign(part) for part in value[1]]
        signs = [unit for _, unit in parts]
        is_angle = set(signs) == {"degree"} if kind == "+" else signs[-1] == "degree" and not any(signs[:-1])
        if is_angle:
            return (kind, tuple(inner for inner, _ in parts)), "degree"
    return value, ""


# ---- expressions ----

GREEK = frozenset(
    "alpha beta gamma delta epsilon varepsilon zeta eta theta vartheta iota kappa lambda mu nu xi rho sigma tau "
    "upsilon phi chi psi omega Gamma Delta Theta Lambda Xi Sigma Phi Psi Omega ell emptyset hbar "
    "triangle angle dots".split()
)
_ARGUMENTS = {"frac", "pi", "infty", *GREEK}  # commands that may be an argument without braces: \sqrt\pi
_NO_FACTOR = frozenset(  # commands that end a product
    "pm mp cup deg over choose rfloor rceil bmod pmod forall rangle le ge in ne equiv approx".split()
)
FUNCTIONS = (
    frozenset("asin acos atan ln log exp cis abs sinh cosh tanh sech csch coth".split()) | TRIGONOMETRIC
)
_CONSTANTS = {"pi": ("const", "pi"), "infty": INFINITY, "mathbb R": REALS}
_UNSUPPORTED = frozenset(  # commands of mathematics that is not judged
    "iint oint lim limits partial cap setminus equiv pmod bmod mod to mapsto Rightarrow iff wedge "
    "vee neg forall exists subset subseteq det".split()
) | {"begin aligned", "begin align*", "begin vmatrix"}
_POSTFIX = frozenset("deg ^ ! %".split())  # what may stand behind a number or a name: 5!, 30^\circ
_PLUS_MINUS = frozenset("+ - pm mp".split())  # signs before a term


def read_expression(cursor: Cursor) -> Node:
    r"""Reads a sum, or two sums with \over, \choose or \bmod between them."""
    node = read_sum(cursor)
    if cursor.kind != COMMAND or cursor.value not in ("over", "choose", "bmod"):
        return node
    operator, other = cursor.advance(), read_sum(cursor)
    if operator == "over":
        return ("/", node, other)
    return ("fn", "mod" if operator == "bmod" else "binom", (node, other))


def read_sum(cursor: Cursor) -> Node:
    """Reads products with +, -, \\pm or \\mp between them."""
    terms = [read_signed(cursor, read_product)]
    while at_sign(cursor):
        terms.append(read_signed(cursor, read_product))
    return terms[0] if len(terms) == 1 else ("+", tuple(terms))


def at_sign(cursor: Cursor) -> bool:
    """True if +, -, \\pm or \\mp stands here; not at the word "pm" of 5 pm."""
    value = cursor.value
    return value in _PLUS_MINUS and (value in ("+", "-") or cursor.kind == COMMAND)


def read_signed(cursor: Cursor, read: Callable[[Cursor], Node]) -> Node:
    """Reads signs, and with `read` what follows them. The sign becomes the first factor, or part of a number: -5."""
    if cursor.value not in _PLUS_MINUS:
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
    if sign is MINUS_ONE and type(as_value(node)) is Based:
        return as_node(replace(node[1], digits=f"-{node[1].digits}"))  # -221_3
    return ("*", (sign, *(node[1] if node[0] == "*" else (node,))))


def read_product(cursor: Cursor) -> Node:
    """Reads powers with a times sign, a slash, "of" or nothing between them: 2x/3, "25% of 40"."""
    factors = [read_power(cursor)]
    while cursor.kind != "end":
        if cursor.value in ("*", "/"):
            if at_rate(cursor):
                break  # the slash of 5/hour belongs to the unit
            operator = cursor.advance()
            right = read_signed(cursor, read_power)
            factors = [quotient(product(factors), right)] if operator == "/" else [*factors, right]
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
    behind_number = cursor.peek(-1)[0] == NUMBER and cursor.value not in ("(", "[")  # 4(1/2) is a product
    factor = read_power(cursor)
    factors.append(("paren", factor) if is_called and factor[0] == "num" else factor)
    if behind_number:
        join_mixed(cursor, factors)


def join_mixed(cursor: Cursor, factors: list[Node]) -> None:
    r"""Replaces a whole number and a fraction at the end of the factors by one mixed number: `2\frac{1}{2}`.

    Any other factors stay. Raises `Malformed` for `2\frac{3}{2}` and `2.5\frac{1}{2}`.
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
    node: Node = ("num", n * below + (above if n >= 0 else -above), below)
    factors[-2:] = [(sign, node) if sign else node]


def add_number(cursor: Cursor, factors: list[Node]) -> None:
    """Reads a number and adds it to `factors`; or the fraction of a mixed number such as `1 1/2`.

    The number may be a factor behind a bracket, or with a power or a factorial, as in x 2^3, but never right behind
    another number.
    """
    top, (kind_before, before, _), (_, following, _) = cursor.value, cursor.peek(-1), cursor.peek()
    kind_of_bottom, bottom, _ = cursor.peek(2)
    is_fraction = following == "/" and kind_of_bottom == NUMBER and top.isdigit() and bottom.isdigit()
    if is_fraction and cursor.spaced and kind_before == NUMBER and factors[-1][0] == "num":
        cursor.advance(3)
        node: Node = ("/", number(top), number(bottom))
        factors.append(("deg", node) if accept_degree(cursor) else node)
        return join_mixed(cursor, factors)
    if kind_before == NUMBER or not (before in (")", "]") or following in ("^", "!")):
        raise Malformed("two numbers side by side")
    factors.append(read_power(cursor))


def starts_factor(cursor: Cursor) -> bool:
    """True if a factor begins here without a times sign: the x of 2x; not the m of 5 m, which is a unit."""
    kind, value = cursor.kind, cursor.value
    if kind == LETTERS:
        is_union = value == "U" and cursor.peek()[1] in ("(", "[")  # [0, 1) U (2, 3)
        return not expression_ends(cursor) and not is_union
    if kind == COMMAND:
        if value in _NO_FACTOR or value.startswith("end "):
            return False
        if value == "setminus":  # ends the product only behind what may be a set
            return cursor.peek(-1)[1] not in ("}", ")", "]", "mathbb R")
        return not expression_ends(cursor)
    if value == "(":
        return not expression_ends(cursor)
    return value in ("[", "{", "\\{") or (value == "|" and not cursor.open_bars)


def read_power(cursor: Cursor) -> Node:
    """Reads a number, a name or a bracket with the powers, factorials, degree and per cent signs behind it."""
    node = read_primary(cursor)
    while cursor.value in _POSTFIX:
        if accept_degree(cursor):
            node = ("deg", node)
            if cursor.value in units.DEGREE_LETTERS and cursor.peek()[0] == "end":
                cursor.temperature = units.DEGREE_LETTERS[cursor.advance()]
        elif cursor.value == "^" and accept_raised(cursor, WORD, units.ORDINALS):
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
        read = READERS.get(cursor.value)
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
    if cursor.value == "(" or (cursor.kind == COMMAND and cursor.value in _ARGUMENTS):
        return read_primary(cursor)
    raise Malformed("argument")


def read_two_arguments(cursor: Cursor) -> tuple[Node, Node]:
    r"""Reads a command such as \frac, and returns its two arguments."""
    cursor.advance()
    return read_digit_or_argument(cursor), read_digit_or_argument(cursor)


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


# ---- numbers and names ----

_BASE_SIGNS = {"_": "", "in": "", "base": "", "{": "}", "(": ")"}
"""{what may stand between digits and their base: what then closes it, or ""}: 52_{(8)}, 52 in base 8."""


def number(digits: str) -> Node:
    """A decimal as an exact fraction, not in lowest terms: ("num", 5, 10) for 0.5."""
    whole, _, part = digits.partition(".")
    return ("num", int(whole + part), 10 ** len(part))


def read_number(cursor: Cursor) -> Value:
    r"""Reads a number, a repeating decimal (`0.1\overline{6}`, `0.166\ldots`), or digits with a base (`2516_8`)."""
    digits = cursor.advance()
    if "." in digits:
        if cursor.accept("overline", COMMAND):
            return repeating(digits, braced(cursor, read_digits))
        if (cursor.kind, cursor.value) == (COMMAND, "dots") and (length := period(digits)):
            cursor.advance()
            return repeating(digits[:-length], digits[-length:])
    if cursor.value in _BASE_SIGNS and (cursor.value == "_" or base_follows(cursor)):
        return with_base(cursor, digits)
    return number(digits)


def base_follows(cursor: Cursor) -> bool:
    """True if a base in words stands here: "base 8", "in base 8", "(base 8)"."""
    ahead = 1 if cursor.value == "(" else 0
    if cursor.peek(ahead)[1] == "in":
        ahead += 1
    return cursor.peek(ahead)[:2] == (WORD, "base") and cursor.peek(ahead + 1)[0] in (NUMBER, WORD)


def with_base(cursor: Cursor, digits: str) -> Value:
    """Reads the base behind `digits`: `_8`, `_{8}`, `_{(8)}`, `base 8`, `(base eight)`; `Malformed` for 3.5_8."""
    if not digits.isdigit():
        raise Malformed("digits expected before a base")
    closing = []  # the signs that have to follow the base
    while cursor.value in _BASE_SIGNS and len(closing) < 4:  # at most "in", "base", { and (
        closing.append(_BASE_SIGNS[cursor.advance()])
    if cursor.kind == WORD and cursor.value.lower() in w.NUMBER_WORDS:
        base = str(w.NUMBER_WORDS[cursor.advance().lower()])
    elif cursor.value == "b" and not closing[1:]:
        cursor.advance()
        return number(digits)  # 100100_b, whose base is not told
    else:
        base = read_digits(cursor)
    for sign in filter(None, reversed(closing)):
        cursor.expect(sign)
    return Based(digits.lstrip("0") or "0", base.lstrip("0"))


def read_digits(cursor: Cursor) -> str:
    """Reads digits without a point; raises `Malformed` for anything else."""
    if cursor.kind != NUMBER or not cursor.value.isdigit():
        raise Malformed("digits expected")
    return cursor.advance()


def read_name(cursor: Cursor) -> Node:
    """Reads a letter with its primes and indices: a variable, or one of the constants i and e."""
    name, letters = subscripted(cursor, cursor.advance()), cursor.text.letters
    if name == "I" and letters is not None and "i" in letters and "I" not in letters:
        name = "i"  # sympy writes the imaginary unit as I
    return ("const", name) if name in ("i", "e") else ("sym", name)


def subscripted(cursor: Cursor, name: str) -> str:
    """Reads the primes and indices behind a name, and returns the name with them: "x_1'"."""
    while cursor.value in ("'", "_"):
        mark = cursor.advance()
        name += mark + (read_label(cursor) if mark == "_" else "")
    return name


def read_label(cursor: Cursor) -> str:
    """Reads an index, or the name under an accent: the text of a group in braces, or one token."""
    if cursor.value == "{":
        low, close = cursor.position + 1, cursor.text.match[cursor.position]
        cursor.go(close + 1)
        return " ".join(token[1] for token in cursor.tokens[low:close])
    if cursor.kind not in (NUMBER, LETTERS, COMMAND):
        raise Malformed("label")
    return cursor.advance()


def braced(cursor: Cursor, read: Callable[[Cursor], T]) -> T:
    """Reads what `read` reads, with braces around it or without, and returns it."""
    if not cursor.accept("{"):
        return read(cursor)
    value = read(cursor)
    cursor.expect("}")
    return value


def accept_raised(cursor: Cursor, kind: str, values: frozenset[str]) -> bool:
    r"""Reads an exponent if it is one of the values, in braces or without: `^{\text{th}}`. True if it was read."""
    kind_of_exponent, value, _ = cursor.peek(2 if cursor.peek()[1] == "{" else 1)
    if kind_of_exponent != kind or value not in values:
        return False
    cursor.advance()
    braced(cursor, Cursor.advance)
    return True


_DEGREES = frozenset(["circ", "deg"])


def accept_degree(cursor: Cursor) -> bool:
    """Reads a degree sign, in any of its forms, if it stands here. True if it was read."""
    found = cursor.accept("deg", COMMAND) or (
        cursor.value == "^" and accept_raised(cursor, COMMAND, _DEGREES)
    )
    cursor.has_sign |= found
    return found


# ---- brackets ----


def in_brackets(cursor: Cursor) -> tuple[str, list[Value], str]:
    """Reads brackets, and returns (opening bracket, the values in the brackets, closing bracket)."""
    opening, close = cursor.value, cursor.text.match[cursor.position]
    items, _ = read_items(cursor.between(cursor.position + 1, close))
    cursor.go(close)
    return opening, items, cursor.advance()


def read_bracket(cursor: Cursor) -> Value:
    """Reads `(...)` or `[...]`: a group if it holds one value, else a tuple or an interval."""
    if cursor.peek()[0] == NUMBER and cursor.peek(2)[1] == ")" and cursor.peek(3)[1] == "_":
        cursor.advance()
        return with_base(cursor, cursor.advance(2))  # (52)_8
    opening, items, closing = in_brackets(cursor)
    if len(items) > 1:
        return Row(opening, closing, tuple(items))
    if (opening, closing) not in (("(", ")"), ("[", "]")):
        raise Malformed("brackets")
    (value,) = items
    if type(value) is Quantity and value.unit == "degree":
        cursor.has_sign = True  # as if the degree were written as a sign: 30°
        return ("deg", value.value)  # sin(30 degrees)
    return ("paren", value) if opening == "[" and is_expression(value) and value[0] == "num" else value


def read_group(cursor: Cursor) -> Value:
    """Reads a group in braces, with a subscript behind it if it is a name: `{v}_1`.

    Several values in it are a set whose backslashes were forgotten: {1, 2}.
    """
    _, items, _ = in_brackets(cursor)
    if cursor.value == "_" and is_expression(items[0]) and items[0][0] == "sym":
        return ("sym", subscripted(cursor, items[0][1]))  # \mathbf{v}_1
    return items[0] if len(items) == 1 else Set(tuple(items))


def read_vector(cursor: Cursor) -> Row:
    r"""Reads `\langle 1, 2 \rangle`."""
    _, items, _ = in_brackets(cursor)
    if len(items) < 2:
        raise Malformed("a vector")
    return Row("<", ">", tuple(items))


def read_set(cursor: Cursor) -> Value:
    r"""Reads a set, given by its elements or by conditions: `\{x \mid x > 2\}`, `\{x \in \mathbb{R} : x \ne 3\}`."""
    low, close, tokens = cursor.position + 1, cursor.text.match[cursor.position], cursor.tokens
    if close == low:
        cursor.go(close + 1)
        return Set(())
    (kind, name, _), (mark_kind, mark, _) = cursor.peek(), cursor.peek(2)
    if kind != LETTERS or not (mark in ("|", ":") or (mark_kind, mark) == (COMMAND, "in")):
        _, elements, _ = in_brackets(cursor)
        return Set(tuple(elements))
    bar = next((k for k in cursor.text.top_level(low, close) if tokens[k][1] in ("|", ":")), close)
    domain = read_relation(cursor.between(low, bar))
    conditions, join = read_items(cursor.between(bar + 1, close))
    cursor.go(close + 1)
    # Neither the x of {x | ...} nor "x is a real number" is a condition.
    if type(domain) is Relation and domain.sides[-1] != REALS:
        conditions.insert(0, domain)
    return Builder(tuple(conditions), join or ",", ("sym", name))


def read_matrix(cursor: Cursor) -> Matrix:
    """Reads a matrix. A `cases` environment is read as a matrix, too: a value and its condition in each row."""
    start, close, tokens = cursor.position + 1, cursor.text.match[cursor.position], cursor.tokens
    signs = ("&", "\\\\", "hline", ",") if cursor.value == "begin cases" else ("&", "\\\\", "hline")
    rows: list[list[Value]] = [[]]
    for place in [*cursor.text.top_level(start, close), close]:
        mark = tokens[place][1]
        if place < close and mark not in signs:
            continue
        while start < place and tokens[start][1] in ("&", "if", "for", "when"):  # x, if x > 0
            start += 1
        if start < place:
            rows[-1] += read_items(cursor.between(start, place))[0]
        if mark == "\\\\":
            rows.append([])
        start = place + 1
    cursor.go(close + 1)
    rows = [row for row in rows if row]
    if len(set(map(len, rows))) != 1:
        raise Malformed("rows of several lengths")
    return Matrix(tuple(map(tuple, rows)))


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
    """Reads the sign or code of a currency, and the number behind it."""
    cursor.currency = NAMES[cursor.advance().removeprefix("\\")]
    return read_primary(cursor)


def refuse(cursor: Cursor) -> Never:
    """Raises `Unsupported` for the command here."""
    raise Unsupported(cursor.value)


def read_accented(cursor: Cursor) -> Node:
    """Reads a name with a sign over it: `\\overline{CD}`."""
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
        body = ONE if inside.kind == "end" else read_expression(inside)  # \int_0^1 dx
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
    base = read_argument(cursor) if name == "log" and cursor.accept("_") else ("num", 10, 1)
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
    else:
        node = ("fn", name, (argument, base) if name == "log" else (argument,))
    return node if exponent == ONE else ("^", node, exponent)


READERS: dict[
    str, Callable[[Cursor], Value]
] = {  # {a command or a sign: what reads the value that begins with it}
    **dict.fromkeys(_UNSUPPORTED, refuse),
    **dict.fromkeys(FUNCTIONS, read_function),
    **dict.fromkeys(GREEK, lambda cursor: ("sym", subscripted(cursor, "\\" + cursor.advance()))),
    **dict.fromkeys(_CONSTANTS, lambda cursor: _CONSTANTS[cursor.advance()]),
    **dict.fromkeys("tilde overline".split(), read_accented),
    **dict.fromkeys("gcd lcm max min".split(), read_selection),
    **dict.fromkeys([f"mathbb {name}" for name in "NZQC"], lambda cursor: ("sym", cursor.advance())),
    **dict.fromkeys(("sum", "prod"), read_repeated),
    **dict.fromkeys(("lfloor", "lceil"), read_rounded),
    "frac": lambda cursor: ("/", *read_two_arguments(cursor)),
    "binom": lambda cursor: ("fn", "binom", read_two_arguments(cursor)),
    "sqrt": read_root,
    "int": read_integral,
    "|": read_bars,
    **dict.fromkeys(("\\$", *SIGNS, *CODES), read_currency),
    "(": read_bracket,
    "[": read_bracket,
    "{": read_group,
    "\\{": read_set,
    "langle": read_vector,
    **dict.fromkeys((f"begin {name}" for name in MATRICES), read_matrix),
}
