r"""Reads the unit behind an expression, and a remark in brackets behind that.

For texts such as `15\mbox{ cm}^2` and `36 \text{ (by Vieta's formulas)}`.

A token is (kind, value, True if white space stands before it); `peek` returns one without reading it.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from verifiers.amounts import SIGNS, currencies_of
from verifiers.math500.read import prose, units
from verifiers.math500.read.atoms import braced, read_digits, read_label, read_number
from verifiers.math500.read.cursor import MIXED, UNITS, Cursor
from verifiers.math500.read.lexer import COMMAND, LETTERS, NUMBER, SIGN, WORD, Malformed, is_plain
from verifiers.math500.read.values import Quantity, Value, is_expression
from verifiers.math500.read.words import (
    BEFORE_SECOND_COUNT,
    CHANGING_BEHIND,
    DISTRIBUTING,
    JOINING,
    NUMBER_WORDS,
    ORDINALS,
    SCALE_WORDS,
)

UNIT_SIGNS = frozenset("/ ^ { } 1 2 3".split())  # what may stand between the letters of a unit: m/s^2


def with_unit(cursor: Cursor, value: Value) -> Value:
    """Reads the unit behind a value, signs (%, degrees, money) or words, and returns the value with this unit."""
    value, unit = without_sign(value) if cursor.has_sign else (value, "")
    if not unit and cursor.kind == SIGN and cursor.value.removeprefix("\\") in SIGNS:
        unit = SIGNS[cursor.advance().removeprefix("\\")]  # 4.50$
    words = [word for word in (unit or cursor.currency, cursor.temperature) if word]
    if not words or words == [cursor.currency]:
        value = scaled(cursor, value)  # 3 million, $3 million
    if words and cursor.kind == WORD and names_again(words[0], units.UNITS.get(cursor.value.lower(), "")):
        cursor.advance()  # $2 dollars, 25% percent
    read_unit_words(cursor, words)
    if not words:
        return value
    unit = units.canonical_unit(words)
    if unit is None:
        raise Malformed("the power of no unit")
    if unit == "" and words[0] in ("unit", "units"):  # the name of a unit leaves out the word "units"
        cursor.marks.append(UNITS)
    return with_smaller_unit(cursor, value, unit, words)


def names_again(unit: str, other: str) -> bool:
    """True if two units may be one that is written twice: $ and USD of "$2 USD", % and "percent"."""
    return unit == other or bool(currencies_of(unit) & currencies_of(other))


def with_smaller_unit(cursor: Cursor, value: Value, unit: str, words: Sequence[str]) -> Value:
    """A value with its unit, and with a part in a smaller unit if one follows: 135 minutes for 2 hours 15 minutes."""
    ahead = 1 if cursor.value == "and" else 0
    (kind, _, _), (_, word, _) = cursor.peek(ahead), cursor.peek(ahead + 1)  # "15" and "minutes"
    smaller = units.UNITS.get(word.lower(), "")
    ratio = units.conversion(unit, smaller) if smaller else None  # (n, d) where one unit is n/d of the other
    is_smaller = ratio is not None and ratio[0] > ratio[1]
    if is_smaller and kind == NUMBER:
        cursor.go(cursor.position + ahead)
        part = with_unit(cursor, read_number(cursor))
        is_literal = is_expression(value) and value[0] == "num" and value[1] >= 0
        ratio_to_part = units.conversion(unit, part.unit) if type(part) is Quantity else None
        if not is_literal or not ratio_to_part:
            raise Malformed("two quantities side by side")
        return with_part(Quantity(value, unit), ratio_to_part, part)
    is_ordinal = unit == "" and words[0].lower() in ORDINALS  # 12th is the number 12
    return value if is_ordinal else Quantity(value, unit)


def with_part(whole: Quantity, ratio: tuple[int, int], part: Quantity) -> Quantity:
    """The sum of a quantity and a part, in the smaller unit of the part: 2 * 60 + 15 minutes for 2 hours 15 minutes.

    `ratio`: (n, d) where one unit of the whole is n/d units of the part. A sum of money is in the larger unit, so that
    nothing is left to calculate: 12 dollars and 45 cents are 12.45 dollars.
    """
    value, added = whole.value, part.value
    # Pounds may be a weight, but their pence are money.
    is_money = units.is_money(whole.unit) or units.is_money(part.unit)
    if is_money and is_expression(added) and added[0] == "num" and value[0] == "num":
        (_, n, d), (_, added_n, added_d) = value, added
        number = Fraction(n, d) + Fraction(added_n, added_d) / Fraction(*ratio)
        return Quantity(("num", *number.as_integer_ratio()), whole.unit)
    terms = added[1] if is_expression(added) and added[0] == "+" else (added,)
    return Quantity(("+", (("*", (value, ("num", *ratio))), *terms)), part.unit)


def sum_of_units(items: Sequence[Value], join: str) -> Quantity | None:
    """150 minutes for 2 hours and 30 minutes; None for items that are no such quantities.

    Each item must be less than one unit of the item before it. Items joined by "and" may stand in any order: 30 minutes
    and 2 hours.
    """
    if join == "and":
        items = largest_unit_first(items)
    whole: Quantity | None = None  # the sum of the items so far, from the last one on
    smaller = Fraction(0)  # the item that was added last, in the unit of `whole`
    for item in reversed(items):
        if type(item) is not Quantity or not is_expression(item.value) or item.value[0] != "num":
            return None
        ratio = units.conversion(item.unit, whole.unit) if whole else (1, 1)
        if item.value[1] < 0 or not ratio:
            return None
        one_unit = Fraction(*ratio)  # one unit of this item, in the unit of `whole`
        if whole and smaller >= one_unit:
            return None
        smaller = Fraction(*item.value[1:]) * one_unit
        whole = with_part(item, ratio, whole) if whole else item
    return whole


def largest_unit_first(items: Sequence[Value]) -> Sequence[Value]:
    """Quantities of one kind with the largest unit first; any other items as they stand."""
    if any(type(item) is not Quantity for item in items):
        return items
    sizes = [units.conversion(item.unit, items[0].unit) for item in items]
    if None in sizes:
        return items
    ratios = [n / d for n, d in sizes]
    order = sorted(range(len(items)), key=ratios.__getitem__, reverse=True)
    return [items[place] for place in order]


def scaled(cursor: Cursor, value: Value) -> Value:
    """Reads a word such as "million" behind a number, and returns the product: 3,000,000 for 3 million."""
    is_scale = cursor.kind == WORD and cursor.value.lower() in SCALE_WORDS
    if is_scale and is_expression(value) and value[0] == "num":
        cursor.marks.append(MIXED)
        return ("num", value[1] * SCALE_WORDS[cursor.advance().lower()], value[2])
    return value


def read_unit_words(cursor: Cursor, words: list[str]) -> None:
    """Reads the words and letters of a unit, and adds them to `words`; skips a remark in brackets at the end."""
    while cursor.kind != "end":
        if at_remark(cursor, counted=bool(words)):
            cursor.go(cursor.end)
        elif at_unit_fraction(cursor):
            cursor.advance()
            above = unit_words(read_label(cursor))
            below = unit_words(read_label(cursor))
            words += [*above, "/", *below]
        elif at_article_behind_of(cursor, words):
            words.clear()  # the "of" says nothing
            cursor.advance()
        elif at_rate(cursor) or at_article_of_time(cursor):
            words.append("/")
            cursor.advance()
        elif at_unit_word(cursor, words):
            read_unit_word(cursor, words)
        elif at_scale_of_degrees(cursor, words):
            words.append(units.DEGREE_LETTERS[cursor.advance()])
        elif words and cursor.accept("/"):
            words.append("/")
        elif words and at_product_of_units(cursor):
            cursor.advance()
        else:
            return


def at_unit_word(cursor: Cursor, words: Sequence[str]) -> bool:
    """True at any word but "and" and "or", at the letter of a unit, and at a per cent sign."""
    if cursor.kind == WORD and cursor.value.lower() not in JOINING:
        return True
    return at_unit_letter(cursor, words) or cursor.value == "%"


def at_rate(cursor: Cursor) -> bool:
    """True at the slash of a rate: 5/hour, and 5/h or $5/h if the reference has no letter h."""
    kind, value, _ = cursor.peek()
    if cursor.value != "/":
        return False
    if kind == WORD and value.lower() in units.UNITS:
        return True
    text = cursor.text
    before_unit = kind == LETTERS and value in units.UNIT_LETTERS and value not in (text.letters or ())
    if not before_unit:
        return False
    is_plain_answer = not (text.is_reference or text.match or text.letters)  # no brackets, no variables
    is_plain_rate = is_plain_answer and cursor.peek(-1)[0] == NUMBER  # 5/h
    return is_plain_rate or bool(cursor.currency)  # $5/h


def at_article_behind_of(cursor: Cursor, words: list[str]) -> bool:
    """True at the article of "3/4 of a cup", which says the same as "3/4 cup"; the "an" of "of an hour" is no rate."""
    is_article = cursor.kind in (WORD, LETTERS) and cursor.value in ("a", "an")
    return is_article and words == ["of"] and cursor.peek()[0] == WORD


def at_product_of_units(cursor: Cursor) -> bool:
    r"""True at a times sign before the word or symbol of a unit: `\text{kg}\cdot\text{m}`."""
    kind, value, _ = cursor.peek()
    return cursor.value == "*" and kind == WORD and (value in units.SYMBOLS or value.lower() in units.UNITS)


def at_article_of_time(cursor: Cursor) -> bool:
    """True at the article of a rate: the "an" of $5 an hour. Not if the reference has a letter a."""
    kind, value, _ = cursor.peek()
    is_time = kind == WORD and units.kind_of(units.UNITS.get(value.lower(), "")) in ("second", "month")
    articles = DISTRIBUTING - (cursor.text.letters or set())
    return is_time and cursor.kind in (WORD, LETTERS) and cursor.value.lower() in articles


def at_scale_of_degrees(cursor: Cursor, words: Sequence[str]) -> bool:
    """True at the letter of a scale of temperature: the C of 20 degrees C. Not if the reference has that letter."""
    is_letter = cursor.kind == LETTERS and cursor.value in units.DEGREE_LETTERS
    behind_degrees = is_letter and words and units.UNITS.get(words[-1].lower()) == "degree"
    return bool(behind_degrees) and cursor.value not in (cursor.text.letters or ())


def read_unit_word(cursor: Cursor, words: list[str]) -> None:
    """Reads a word of a unit, with its power, and adds both to `words`; `Malformed` if the word changes the value."""
    word = cursor.value
    is_unit = word in units.UNITS or word in units.SYMBOLS
    is_unknown_letter = cursor.kind == WORD and len(word) == 1 and word.islower() and not is_unit
    is_second_unit = False
    if words:
        is_behind_power = words[-1][0] == "^" and word in units.UNITS
        is_second_unit = word == "%" or (is_behind_power and cursor.peek()[1] != "^")  # m^3 m
    changes_value = word.lower() in CHANGING_BEHIND and not is_harmless(cursor, words)
    if is_second_unit or changes_value or is_unknown_letter:
        raise Malformed("words")
    words.append(cursor.advance())
    if cursor.accept("^"):
        words.append("^" + braced(cursor, read_whole_number))


def read_whole_number(cursor: Cursor) -> str:
    """Reads digits, perhaps with a minus before them: the -1 of m s^{-1}."""
    return ("-" if cursor.accept("-") else "") + read_digits(cursor)


def is_harmless(cursor: Cursor, words: Sequence[str]) -> bool:
    """True if a word of `CHANGING_BEHIND` stands here, but does not change the value, because of the words around it.

    Examples are the "more" of 15 more people, the "pairs" of 55 different pairs and the "three" of 18 miles in three
    days.
    """
    word, following = cursor.value, cursor.peek()
    is_before_word = following[0] == WORD
    if word in ("more", "fewer", "positive", "negative"):  # 24 positive divisors, but not 5 more than 3
        if is_before_word and following[1] not in ("than", "or"):
            return True
    if word == "pairs" and words:
        return True
    if word == "quarters":  # 14 quarters are coins, and no fraction
        count = cursor.peek(-1)[1]
        if count.isdigit() and len(count) < 9 and int(count) > 4:
            return True
    if words[-1:] == ["the"] and is_before_word:
        return True  # 94 on the fourth test
    is_second_count = len(words) > 1 and words[-1] in BEFORE_SECOND_COUNT and word.lower() in NUMBER_WORDS
    return is_second_count and is_before_word  # not 1 in three


def expression_ends(cursor: Cursor) -> bool:
    """True if a unit or a remark begins here, and no factor: the m of 5 m, "(simplified)"."""
    if cursor.kind == LETTERS:
        if at_article_of_time(cursor):
            return True
        if not at_unit_letter(cursor):
            return False
        if cursor.peek()[0] == NUMBER and cursor.peek(2)[0] == WORD:
            return True  # 2 h 30 min
        return all(may_be_in_unit(cursor, place) for place in range(cursor.position, cursor.end))
    if cursor.value == "(":
        return at_remark(cursor) or cursor.peek()[1] in ("mod", "bmod")
    return cursor.value == "frac" and at_unit_fraction(cursor)


def may_be_in_unit(cursor: Cursor, place: int) -> bool:
    """True if the token at a place may be part of a unit in letters: each token of m^3, m/s^2 and m s^{-1}."""
    kind, value, _ = cursor.tokens[place]
    if value == "-":
        return cursor.tokens[place - 1][1] in ("^", "{")
    return value in units.UNIT_LETTERS or (kind in (NUMBER, SIGN) and value in UNIT_SIGNS)


def at_remark(cursor: Cursor, counted: bool = False) -> bool:
    """True if brackets with a remark begin here and end the text: "16 (simplified)", "3 (where n is even)".

    `counted`: True behind a noun; the brackets may then also list what is counted: "3 integers (2, 5, 8)".
    """
    inside = cursor.in_last_brackets()
    if not inside or cursor.text.is_reference:
        return False
    return prose.is_remark(inside) or (counted and not prose.hedges(inside))


def at_unit_fraction(cursor: Cursor) -> bool:
    r"""True if a fraction of units stands here: `\frac{\text{miles}}{\text{hour}}`, or `5 \frac{m}{s}`."""
    if (cursor.kind, cursor.value) != (COMMAND, "frac") or cursor.peek()[1] != "{":
        return False
    return cursor.peek(2)[0] == WORD or at_fraction_of_letters(cursor)


def at_fraction_of_letters(cursor: Cursor) -> bool:
    r"""True if `\frac{m}{s^2}` or the like stands here behind a number, in an answer whose reference has no m and s."""
    match, tokens = cursor.text.match, cursor.tokens
    middle = match.get(cursor.position + 1, cursor.end)  # the } between numerator and denominator
    end = match.get(middle + 1, 0)
    before = cursor.peek(-1)
    if cursor.text.is_reference or not end or (before[0] != NUMBER and before[1] != "}"):
        return False
    if not is_plain(tokens[: cursor.position]):
        return False  # x^2+1\frac{m}{s}
    above, below = tokens[cursor.position + 2 : middle], tokens[middle + 2 : end]
    letters_of_reference = cursor.text.letters
    are_units = all(
        (kind == LETTERS and value in units.UNIT_LETTERS and value not in letters_of_reference)
        or value in UNIT_SIGNS
        for kind, value, _ in (*above, *below)
    )
    begin_with_letters = all(tokens[place][0] == LETTERS for place in (cursor.position + 2, middle + 2))
    return are_units and begin_with_letters


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
    if text.is_reference:  # here a letter is a unit only if it can be no factor: km/h, 2 h 30 min
        before_part = cursor.peek()[0] == NUMBER and cursor.peek(2)[0] == WORD
        is_between = cursor.peek(-1)[0] == NUMBER and before_part
        is_power = bool(before) and before[-1].lower() in units.POWERS  # 50 sq m
        is_below = before[-1:] == ["/"] and len(before) > 1
        return is_power or is_below or is_between or at_only_unit(cursor)
    may_touch_number = cursor.peek(-1)[0] == NUMBER and not (text.match or text.letters)
    may_begin_unit = cursor.spaced or before[-1:] == ["/"] or may_touch_number
    return may_begin_unit and cursor.value not in text.letters


def at_only_unit(cursor: Cursor) -> bool:
    """True if a reference is nothing but a number, a space and the unit that begins here: 5 m, 3 m/s."""
    behind_number = cursor.spaced and cursor.peek(-1)[0] == NUMBER
    is_product = cursor.peek()[0] == LETTERS  # 5 m s
    if not behind_number or is_product:
        return False
    for place, (kind, value, _) in enumerate(cursor.text.tokens):
        is_of_unit = place >= cursor.position and kind == LETTERS and value in units.UNIT_LETTERS
        if kind not in (NUMBER, SIGN) and not is_of_unit:
            return False
    return True


def without_sign(value: Value) -> tuple[Value, str]:
    """(the expression without its degree or per cent sign, the unit of that sign); the unit is "" if there is none.

    30° -> (30, "degree");  10° + 20° -> (10 + 20, "degree");  10° + 2 -> (10° + 2, ""), where not all is in degrees.
    """
    if type(value) is not tuple or value[0] == "num":
        return value, ""
    kind = value[0]
    if kind in ("deg", "pct"):
        return value[1], "degree" if kind == "deg" else "percent"
    if kind in ("*", "+"):
        parts = [without_sign(part) for part in value[1]]
        signs = [unit for _, unit in parts]
        if kind == "+":
            is_angle = set(signs) == {"degree"}
        else:
            is_angle = signs[-1] == "degree" and not any(signs[:-1])  # 2 * 30°
        if is_angle:
            return (kind, tuple(inner for inner, _ in parts)), "degree"
    return value, ""
