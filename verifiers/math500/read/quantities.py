r"""Reads the unit behind an expression, and a remark in brackets behind that.

For texts such as `15\mbox{ cm}^2` and `36 \text{ (by Vieta's formulas)}`.
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
    """The value with its unit, which is a sign of per cent, degrees or money, or the words that follow, and is read."""
    value, unit = without_sign(value) if cursor.has_sign else (value, "")
    if not unit and cursor.kind == SIGN and cursor.value.removeprefix("\\") in SIGNS:
        unit = SIGNS[cursor.advance().removeprefix("\\")]  # 4.50$
    words = [unit or cursor.currency] if unit or cursor.currency else []
    words += [cursor.temperature] if cursor.temperature else []
    if not words or words == [cursor.currency]:
        value = scaled(cursor, value)
    if words and cursor.kind == WORD and names_again(words[0], units.UNITS.get(cursor.value.lower(), "")):
        cursor.advance()  # $2 dollars, 25% percent
    read_unit_words(cursor, words)
    if not words:
        return value
    unit = units.canonical_unit(words)
    if unit is None:
        raise Malformed("the power of no unit")
    if unit == "" and words[0] in ("unit", "units"):
        cursor.marks.append(UNITS)
    return with_smaller_unit(cursor, value, unit, words)


def names_again(unit: str, other: str) -> bool:
    """True if two units may be one that is written twice: $ and USD of "$2 USD", % and "percent"."""
    return unit == other or bool(currencies_of(unit) & currencies_of(other))


def with_smaller_unit(cursor: Cursor, value: Value, unit: str, words: Sequence[str]) -> Value:
    """A value with its unit, and with a part in a smaller unit if one follows: 135 minutes for 2 hours 15 minutes."""
    has_and = cursor.value == "and"
    (kind, _, _), (_, word, _) = cursor.peek(has_and), cursor.peek(1 + has_and)
    smaller = units.UNITS.get(word.lower(), "")
    times = units.conversion(unit, smaller) if smaller else None
    if times and kind == NUMBER and times[0] > times[1]:
        cursor.go(cursor.position + has_and)
        rest = with_unit(cursor, read_number(cursor))
        literal = is_expression(value) and value[0] == "num" and value[1] >= 0
        times = units.conversion(unit, rest.unit) if type(rest) is Quantity else None
        if not literal or not times:
            raise Malformed("two quantities side by side")
        return with_part(Quantity(value, unit), times, rest)
    return Quantity(value, unit) if unit or words[0].lower() not in ORDINALS else value


def with_part(whole: Quantity, times: tuple[int, int], part: Quantity) -> Quantity:
    """The sum of a quantity and a part, in the smaller unit of the part. `times`: how many of it are one larger unit.

    Of money in the larger one: 12 dollars and 45 cents are 12.45 dollars, in which nothing is left to calculate.
    """
    value, inner = whole.value, part.value
    if units.is_money(whole.unit) and is_expression(inner) and inner[0] == value[0] == "num":
        number = Fraction(*value[1:]) + Fraction(*inner[1:]) / Fraction(*times)
        return Quantity(("num", *number.as_integer_ratio()), whole.unit)
    terms = inner[1] if is_expression(inner) and inner[0] == "+" else (inner,)
    return Quantity(("+", (("*", (value, ("num", *times))), *terms)), part.unit)


def sum_of_units(items: Sequence[Value], join: str) -> Quantity | None:
    """150 minutes for 2 hours and 30 minutes; None if an item is not less than one unit of the item before it.

    Items joined by "and" may stand in any order: 30 minutes and 2 hours.
    """
    if join == "and":
        items = largest_unit_first(items)
    whole: Quantity | None = None
    bound = 0, 1  # one unit of the next larger item must be more than this fraction, in units of `whole`
    for item in reversed(items):
        if type(item) is not Quantity or not is_expression(item.value) or item.value[0] != "num":
            return None
        times = units.conversion(item.unit, whole.unit) if whole else (1, 1)
        if item.value[1] < 0 or not times or (whole and bound[0] * times[1] >= times[0] * bound[1]):
            return None
        bound = item.value[1] * times[0], item.value[2] * times[1]
        whole = with_part(item, times, whole) if whole else item
    return whole


def largest_unit_first(items: Sequence[Value]) -> Sequence[Value]:
    """Quantities of one kind, those with the largest units first; any other items as they stand."""
    if any(type(item) is not Quantity for item in items):
        return items
    sizes = [units.conversion(item.unit, items[0].unit) for item in items]
    if None in sizes:
        return items
    order = sorted(range(len(items)), key=lambda place: sizes[place][0] / sizes[place][1], reverse=True)
    return [items[place] for place in order]


def scaled(cursor: Cursor, value: Value) -> Value:
    """A number times the word such as "million" behind it, which is read: 3,000,000 for 3 million."""
    is_scale = cursor.kind == WORD and cursor.value.lower() in SCALE_WORDS
    if is_scale and is_expression(value) and value[0] == "num":
        cursor.marks.append(MIXED)
        return ("num", value[1] * SCALE_WORDS[cursor.advance().lower()], value[2])
    return value


def read_unit_words(cursor: Cursor, words: list[str]) -> None:
    """Reads the words and letters of a unit into a list; reads over a remark in brackets at the end."""
    while cursor.kind != "end":
        if at_remark(cursor, bool(words)):
            cursor.go(cursor.end)
        elif at_unit_fraction(cursor):
            cursor.advance()
            above, below = (unit_words(read_label(cursor)) for _ in range(2))
            words += [*above, "/", *below]
        elif at_rate(cursor) or at_article_of_time(cursor):
            words.append("/")
            cursor.advance()
        elif (
            (cursor.kind == WORD and cursor.value.lower() not in JOINING)
            or at_unit_letter(cursor, words)
            or cursor.value == "%"
        ):
            read_unit_word(cursor, words)
        elif at_scale_of_degrees(cursor, words):
            words.append(units.DEGREE_LETTERS[cursor.advance()])
        elif words and cursor.accept("/"):
            words.append("/")
        else:
            return


def at_rate(cursor: Cursor) -> bool:
    """True if the slash of a rate stands here: that of 5/hour, and of $5/h where the reference has no such letter."""
    kind, value, _ = cursor.peek()
    if cursor.value != "/":
        return False
    text = cursor.text
    of_number = cursor.peek(-1)[0] == NUMBER and not text.is_reference and not (text.match or text.letters)
    of_letter = kind == LETTERS and value in units.UNIT_LETTERS and value not in (text.letters or ())
    return (kind == WORD and value.lower() in units.UNITS) or (
        of_letter and (of_number or bool(cursor.currency))
    )


def at_article_of_time(cursor: Cursor) -> bool:
    """True if the article of a rate stands here: $5 an hour. Not if the reference has a letter a."""
    kind, value, _ = cursor.peek()
    is_time = kind == WORD and units.kind_of(units.UNITS.get(value.lower(), "")) in ("second", "month")
    return (
        is_time
        and cursor.kind in (WORD, LETTERS)
        and cursor.value.lower() in DISTRIBUTING - (cursor.text.letters or set())
    )


def at_scale_of_degrees(cursor: Cursor, words: Sequence[str]) -> bool:
    """True if the letter of a scale of temperature stands here: the C of 20 degrees C. Not if the reference has it."""
    is_letter = cursor.kind == LETTERS and cursor.value in units.DEGREE_LETTERS
    behind_degrees = is_letter and words and units.UNITS.get(words[-1].lower()) == "degree"
    return bool(behind_degrees) and cursor.value not in (cursor.text.letters or ())


def read_unit_word(cursor: Cursor, words: list[str]) -> None:
    """Reads one word of a unit, with its power, into a list. Raises `Malformed` if the word changes the value."""
    word = cursor.value
    unknown_letter = cursor.kind == WORD and len(word) == 1 and word.islower() and word not in units.UNITS
    behind = cursor.peek()
    before_noun = word in ("more", "fewer", "positive", "negative")  # 15 more people, 24 positive divisors
    harmless = before_noun and behind[0] == WORD and behind[1] not in ("than", "or")
    harmless |= word == "pairs" and bool(words)  # 55 different pairs
    count = cursor.peek(-1)[1] if word == "quarters" else ""
    harmless |= count.isdigit() and len(count) < 9 and int(count) > 4  # 14 quarters: coins, no fraction
    harmless |= words[-1:] == ["the"] and behind[0] == WORD  # 94 on the fourth test
    # 18 miles in three days, not 1 in three.
    has_second_count = len(words) > 1 and words[-1] in BEFORE_SECOND_COUNT
    harmless |= has_second_count and word.lower() in NUMBER_WORDS and behind[0] == WORD
    is_second_unit = words and (word == "%" or (words[-1][0] == "^" and word in units.UNITS))  # m^3 m
    if is_second_unit or (word.lower() in CHANGING_BEHIND and not harmless) or unknown_letter:
        raise Malformed("words")
    words.append(cursor.advance())
    if cursor.accept("^"):
        words.append("^" + braced(cursor, read_digits))


def expression_ends(cursor: Cursor) -> bool:
    """True if a unit or a remark begins here, although a factor could begin so, too: the m of 5 m, "(simplified)"."""
    if cursor.kind == LETTERS:
        return (
            at_article_of_time(cursor)
            or (
                at_unit_letter(cursor)
                and (cursor.peek()[0] == NUMBER and cursor.peek(2)[0] == WORD)  # 2 h 30 min
            )
            or (
                at_unit_letter(cursor)
                and all(  # m, m^3, m/s^2
                    value in units.UNIT_LETTERS or (kind in (NUMBER, SIGN) and value in UNIT_SIGNS)
                    for kind, value, _ in cursor.tokens[cursor.position : cursor.end]
                )
            )
        )
    if cursor.value == "(":
        return at_remark(cursor) or cursor.peek()[1] in ("mod", "bmod")
    return cursor.value == "frac" and at_unit_fraction(cursor)


def at_remark(cursor: Cursor, counted: bool = False) -> bool:
    """True if brackets with a remark begin here and end the text: "16 (simplified)", "3 (where n is even)".

    `counted`: True behind a noun, whose things the brackets may list, too: "3 integers (2, 5, 8)".
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
    match = cursor.text.match
    close = match.get(cursor.position + 1, cursor.end)
    end = match.get(close + 1, 0)
    before = cursor.peek(-1)
    if cursor.text.is_reference or not end or (before[0] != NUMBER and before[1] != "}"):
        return False
    if not is_plain(cursor.tokens[: cursor.position]):
        return False  # x^2+1\frac{m}{s}
    inside = (*cursor.tokens[cursor.position + 2 : close], *cursor.tokens[close + 2 : end])
    own = cursor.text.letters
    return all(
        (kind == LETTERS and value in units.UNIT_LETTERS and value not in own) or value in UNIT_SIGNS
        for kind, value, _ in inside
    ) and all(cursor.tokens[place][0] == LETTERS for place in (cursor.position + 2, close + 2))


def unit_words(label: str) -> list[str]:
    """The words of a unit with their powers: ["s", "^2"] for `s ^ { 2 }`."""
    return label.replace("{ ", "").replace(" }", "").replace("^ ", "^").split()


def at_unit_letter(cursor: Cursor, before: Sequence[str] = ()) -> bool:
    """True if the letter here is a unit: the m of 5 m, the s of m/s; never a letter of the reference.

    Without a space, as in 5m, only if there are no brackets and the reference has no letters at all.
    `before`: the words of the unit so far.
    """
    text = cursor.text
    if cursor.kind != LETTERS or cursor.value not in units.UNIT_LETTERS:
        return False
    if text.is_reference:  # here a letter is a unit only if it can be no factor: km/h, 2 h 30 min
        is_between = cursor.peek(-1)[0] == NUMBER == cursor.peek()[0] and cursor.peek(2)[0] == WORD
        return (before[-1:] == ["/"] and len(before) > 1) or is_between or at_only_unit(cursor)
    run_in = cursor.peek(-1)[0] == NUMBER and not (text.match or text.letters)
    return (cursor.spaced or before[-1:] == ["/"] or run_in) and cursor.value not in text.letters


def at_only_unit(cursor: Cursor) -> bool:
    """True if a reference is only a number, a space and the unit that begins here: 5 m, 3 m/s."""
    behind_number = cursor.spaced and cursor.peek(-1)[0] == NUMBER
    is_product = cursor.peek()[0] == LETTERS  # 5 m s
    return (
        behind_number
        and not is_product
        and all(
            kind in (NUMBER, SIGN)
            or (place >= cursor.position and kind == LETTERS and value in units.UNIT_LETTERS)
            for place, (kind, value, _) in enumerate(cursor.text.tokens)
        )
    )


def without_sign(value: Value) -> tuple[Value, str]:
    """(the expression without a degree or per cent sign that holds for all of it, the unit of the sign or "")."""
    if type(value) is not tuple or value[0] == "num":
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
