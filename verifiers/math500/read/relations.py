"""Reads the text outside of brackets: a list, the relations in it, and their sides (words, an expression, a unit).

A text is split at commas, then at relation signs, before anything is parsed. So each side is read by itself; a side
that cannot be read is taken as a name of the side behind it.

A token is (kind, value, True if white space stands before it).
"""

from __future__ import annotations

from collections.abc import Sequence

from verifiers.math500.read import prose
from verifiers.math500.read.cursor import MODULUS, WORDED, Cursor
from verifiers.math500.read.expressions import read_argument, read_expression, read_primary, read_sum
from verifiers.math500.read.lexer import COMMAND, LETTERS, NUMBER, SIGN, WORD, Malformed, Unsupported
from verifiers.math500.read.prose import RELATIONS
from verifiers.math500.read.quantities import sum_of_units, with_unit
from verifiers.math500.read.tree import MINUS_ONE, Node, symbols
from verifiers.math500.read.units import canonical_unit
from verifiers.math500.read.values import (
    REALS,
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
    as_node,
    as_value,
    is_expression,
)
from verifiers.math500.read.words import (
    ARTICLES,
    CHANGING_BEHIND,
    COMPARING,
    IS,
    JOINING,
    MONTHS,
    NEGATING,
    SPELLED_NUMBERS,
    changes,
    is_reals,
)

SIDE_LIMIT = 40  # sides of one chain of equations


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
        is_joining = kind == WORD and value.lower() in JOINING
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
    total = None if join == "or" else sum_of_units(items, join)
    return total or Several(tuple(items), join)


def read_relation(cursor: Cursor, places: Sequence[int] = ()) -> Value:
    """Reads a chain of relations, or one side. `places`: the places outside of brackets, if they are known."""
    low, high, tokens = cursor.position, cursor.end, cursor.tokens
    places = places or cursor.text.top_level(low, high)
    verb = prose.place_of_last_is(tokens, places) if cursor.text.may_be_sentence else -1
    if verb >= low and not all(token[0] == WORD for token in tokens[low:high]):
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
    starts, ends = bounds[::2], bounds[1::2]  # the last side has only a start
    sides = [
        read_side_or_name(cursor, start, end, is_equation=operator == "=")
        for start, end, operator in zip(starts, ends, operators, strict=False)
    ]
    sides.append(read_side(cursor.between(bounds[-1], high)))
    first = sides[0]
    if is_expression(first) and first[0] == "^" and type(as_value(first[1])) is Matrix:
        # A^{-1} = B: the inverse is not computed, but taken as a name of the matrix behind it.
        return sides[-1]
    if MODULUS in cursor.marks:
        operators[-1] = "mod"
    return Relation(tuple(operators), tuple(sides))


def read_predicate(cursor: Cursor, verb: int) -> Value:
    """Reads a sentence whose verb is at the place `verb`: 5 for "The answer is 5", x = 5 for "x is 5"."""
    low, high, tokens = cursor.position, cursor.end, cursor.tokens
    if verb + 1 == high or prose.negates(tokens[low:verb]):
        raise Malformed("words")
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
    if is_equation and len(tokens) > 2 and tokens[0][0] == WORD and tokens[1][1] == "(":
        if prose.is_only_name(tokens):
            return as_name(tokens)
    attempt = Cursor(cursor.text, low, high, cursor.depth, marks=[])
    try:
        value = read_side(attempt)
    except Malformed as error:
        is_work = type(error) is Unsupported and not cursor.text.is_reference  # a limit, and then its value
        if not (is_work or prose.is_only_name(tokens)):
            raise
        return as_name(tokens)
    cursor.marks += attempt.marks
    return value


def as_name(tokens: prose.Tokens) -> Name:
    """The tokens as a name."""
    return Name(" ".join(value for _, value, _ in tokens))


def read_side(cursor: Cursor) -> Value:
    """Reads one side: words, then an expression with its unit; either may be missing."""
    words = []
    while cursor.kind == WORD:
        words.append(cursor.advance())
    value = value_of_words_alone(cursor, words) if words else None
    if value is None:
        if words:
            cursor.marks.append(WORDED)
        node = read_expression(cursor)
        value = as_value(node)
        if cursor.kind != "end" or cursor.currency or cursor.has_sign:
            value = with_unit(cursor, read_compound(cursor, value))
    if cursor.kind != "end":
        raise Malformed("rest")
    months = [MONTHS[word.lower()] for word in words if word.lower() in MONTHS]
    is_date = bool(months) and type(value) is not Words  # May 5
    return Date(months[0], value) if is_date else value


def value_of_words_alone(cursor: Cursor, words: list[str]) -> Value | None:
    """The value that words say by themselves; None if an expression follows, which is the value.

    Raises `Malformed` if the words change that value: "twice 5".
    """
    if cursor.kind == "end":
        return words_as_value(words)
    if words[-1].lower() == "except" and is_reals(words[:-1]):
        return difference_of_sets(REALS, Set((read_sum(cursor),)))
    inside = cursor.in_last_brackets()
    if inside and cursor.spaced and not (cursor.text.is_reference or prose.negates(inside)):
        if "or" not in prose.words_among(inside):
            cursor.marks.append(words_as_value(words))  # the Bob of "Bob (55)" may be the answer
    has_colon = cursor.accept(":")
    lower = [word.lower() for word in words]
    if has_colon and cursor.value == "emptyset" and lower[0] == "no":
        return read_primary(cursor)  # No solution: \emptyset
    # A colon divides the words from the value, so that only a comparison right before it changes the value.
    are_changing = lower[-1] in COMPARING if has_colon else changes(lower)
    if are_changing or not NEGATING.isdisjoint(lower):
        raise Malformed("words")
    is_apart = cursor.spaced or has_colon
    if not is_apart and (cursor.kind == NUMBER or cursor.value in ("(", "[", "{", "\\{")):
        raise Malformed("a word run into a number or used as a function")
    return None


def words_as_value(words: list[str]) -> Value:
    """The value of words without an expression: a number ("twelve", "eight days"), one letter as it is, or `Words`.

    An article before them is left out, and so is the subject of a sentence: "even" for "The function is even".
    """
    verbs = [k for k, word in enumerate(words) if word.lower() in IS]
    if verbs and 0 < verbs[-1] < len(words) - 1:
        if NEGATING.isdisjoint(word.lower() for word in words[: verbs[-1]]):
            words = words[verbs[-1] + 1 :]  # "The function is even"
    if len(words) > 1 and words[0].lower() in ARTICLES:
        words = words[1:]
    plain = tuple(word.lower() for word in words)
    if plain[0] in SPELLED_NUMBERS and CHANGING_BEHIND.isdisjoint(plain[1:]):
        number = ("num", SPELLED_NUMBERS[plain[0]], 1)
        unit = canonical_unit(plain[1:])
        if unit is not None:
            return Quantity(number, unit) if unit else number  # eight days
    is_letter = len(words) == 1 and len(words[0]) == 1
    return Words(tuple(words) if is_letter else plain)


def read_compound(cursor: Cursor, first: Value) -> Value:
    """Reads on behind `first`: a union, an interval without some points, or a ratio. Skips a modulus behind them."""
    parts = [first]
    while at_union(cursor, parts[-1]):
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
    skip_modulus(cursor)
    return parts[0] if len(parts) == 1 else Union(tuple(parts))


def at_union(cursor: Cursor, before: Value) -> bool:
    r"""True at `\cup`, and at the letter U behind an interval. `before`: the value that stands before it."""
    if cursor.value not in ("cup", "U"):
        return False
    return cursor.kind == COMMAND or (cursor.kind == LETTERS and type(before) is Row)


def difference_of_sets(interval: Row, removed: Value) -> Node:
    """An interval minus the numbers that are removed from it, as an expression."""
    return ("+", (as_node(interval), ("*", (MINUS_ONE, as_node(removed)))))


def skip_modulus(cursor: Cursor) -> None:
    r"""Skips `\pmod{7}` or (mod 7) if it stands here; raises `Malformed` if the text is a reference."""
    if cursor.accept("pmod", COMMAND):
        read_argument(cursor)
    elif cursor.value == "(" and cursor.peek()[1] in ("mod", "bmod"):
        cursor.advance(2)
        read_sum(cursor)
        cursor.expect(")")
    else:
        return
    if cursor.text.is_reference:
        raise Malformed("a modulus")
    cursor.marks.append(MODULUS)
