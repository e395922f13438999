r"""Where values begin and end in a text that marks no answer: `-$2 1/2`, `$5 million`, `\frac{14}{3}`, `(3, -2)`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from verifiers.amounts import CODES, MONEY_MAGNITUDES, SIGNS
from verifiers.flexible.denial import words_of
from verifiers.flexible.words import AMOUNTS, BEING, DEGREES, FUNCTIONS

LEAD_LIMIT = 40  # the most characters between two values of a list, or read before a value
BOUNDS = ("<", ">", "\\le ", "\\leq", "\\ge", "\\ne", "\\in ")
"""Signs by which a formula bounds a variable and gives it no value, `$x > 3$`; `lists` and `sentences` use them."""
_OPENINGS = (("\\[", "\\]"), ("\\(", "\\)"), ("$$", "$$"))
"""(opening, closing) marks of formulas; those in single dollars are read apart."""
_GLUE = frozenset("\\([{)]}√π^_/,:=+*xyz")
"""A number right beside one of these is part of an expression, as the 3 behind the bracket of `(3, -2)`."""
_PLUS_OR_MINUS = (" + ", " - ")
_CONSTANTS = ("pi", "infty")
r"""Names that are values by themselves: `$\pi$`."""
_EXPRESSION_LIMIT = 80  # characters before and behind a number that may belong to its expression
_BELOW_ZERO = "below zero"
_BELOW_LIMIT = 40  # the most characters between a number and the end of these words
_FORMULA_LIMIT = 1024  # characters of one formula; a longer one is no answer
VALUE, NAME, WORD, SIGN = range(4)  # kinds of pieces; see `Piece`


class Piece(NamedTuple):
    """The smallest part of a text that says something: text[low:high]."""

    kind: int
    """VALUE for a number or a formula with a value, NAME for a formula without one, `$ABC$`; WORD or SIGN."""
    low: int
    high: int


def pieces(text: str, is_gsm8k: bool) -> Iterator[Piece]:
    r"""The pieces of a text in their order.

    If the task is MATH, not GSM8K, the beginning of an expression may also come as a piece before the expression: the
    `frac` of `\frac{3}{4}`.
    """
    closings = last_closings(text)
    i = 0
    while i < len(text):
        c, start = text[i], i
        formula = formula_end(text, i, closings) if c in "\\$" else -1
        if formula > 0:
            i = formula
            yield Piece(VALUE if has_value(text[start:i]) else NAME, start, i)
        elif is_gsm8k and (minutes := minutes_at(text, i)):
            i = text.index(":", i)
            # 5:00 may be the number 5; 5:30 is no number.
            yield Piece(VALUE if minutes == "00" else NAME, start, i)
            i += 1 + len(minutes)
        elif c.isdecimal():
            start, i = number_at(text, i)
            i = amount_end(text, start, i, is_gsm8k)
            if not is_gsm8k:
                start, i = expression_around(text, start, i)
            yield Piece(VALUE, start, i)
        elif c.isalpha():
            i = word_end(text, i)
            yield Piece(WORD, start, i)
        else:
            is_bold_type = text.startswith("**", i)
            i += 2 if is_bold_type else 1
            is_sign = c == "\n" or not (c.isspace() or c in "\\$-")
            if is_sign and not is_bold_type:
                yield Piece(SIGN, start, i)


def minutes_at(text: str, i: int) -> str:
    """The minutes of the time of day that begins at i, the "30" of 5:30; "" if none does."""
    hour, _, rest = text[i : i + 6].partition(":")
    minutes, behind = rest[:2], rest[2:3]
    is_hour = 0 < len(hour) < 3 and hour.isdecimal() and not text[i - 1 : i].isdecimal()
    are_minutes = len(minutes) == 2 and minutes.isdecimal() and minutes < "60"
    goes_on = behind.isdecimal() or ":" in (text[i - 1 : i], behind)  # 5:300, 1:02:03
    return minutes if is_hour and are_minutes and not goes_on else ""


def word_end(text: str, i: int) -> int:
    """Where the word that begins at i ends. A word such as "Q2" has its digit; the command of `\\frac34` has none."""
    is_command = text[i - 1 : i] == "\\"
    while text[i : i + 1].isalpha() or (text[i : i + 1].isdecimal() and text[i].isascii() and not is_command):
        i += 1
    return i


def last_closings(text: str) -> dict[str, int]:
    """{opening mark of formulas: the place of its last closing mark}."""
    return {opening: text.rfind(closing) for opening, closing in _OPENINGS}


def formula_end(text: str, i: int, closings: dict[str, int]) -> int:
    """Where the formula that begins at i ends, or -1. closings: {opening mark: place of the last closing mark}."""
    for opening, closing in _OPENINGS:
        if text.startswith(opening, i):
            begin = i + len(opening)
            end = text.find(closing, begin, begin + _FORMULA_LIMIT) if closings[opening] >= begin else -1
            return end + len(closing) if end > 0 else -1
    if text[i] != "$" or text[i - 1 : i] == "\\" or not text[i + 1 : i + 2].strip():
        return -1
    end = text.find("$", i + 1, i + _FORMULA_LIMIT)
    while end > 0 and text[end - 1] == "\\":  # the currency in $\$5$
        end = text.find("$", end + 1, i + _FORMULA_LIMIT)
    if end < 0:
        return -1
    inside = text[i + 1 : end]
    is_currency = text[end + 1 : end + 2].isdecimal() or inside[-1:].isspace() or "\n" in inside
    return -1 if is_currency else end + 1


def is_formula(text: str, low: int, high: int) -> bool:
    """True if the value text[low:high] is a formula, `$3$`, and not a number such as `\\$3`."""
    return text.startswith(("\\(", "\\["), low) or (text[low] == text[high - 1] == "$")


def has_value(formula: str) -> bool:
    """True if a formula says more than a name: `$x = 3$`, not `$x$` or `$ABC$`."""
    inside = formula.strip("$\\[]() .\n")
    return inside in _CONSTANTS or not (inside.isalpha() and inside.isascii())


def variable_of(text: str, low: int, high: int) -> str:
    """The variable with the value text[low:high]: "x" for `$x = 2$`, `$x_1 = 2$` or the 2 of `x = 2`; else ""."""
    if is_formula(text, low, high):
        left, equals, _ = text[low:high].strip("$\\[]() ").partition("=")
        letter = left.strip().partition("_")[0]
        return letter if equals and len(letter) == 1 and letter.isalpha() else ""
    start = name_start(text, low)
    return text[start] if start < low else ""


def name_start(text: str, low: int) -> int:
    """Where the variable before the number at `low` begins: at the x of `x = 2`; `low` if none stands there."""
    left, equals, between = text[max(low - LEAD_LIMIT, 0) : low].rpartition("=")
    name = left.rstrip().rpartition(" ")[2] if equals and not between.strip() else ""
    if len(name.partition("_")[0]) != 1 or not name[0].isalpha():
        return low
    before_equals = low - len(between) - len(equals)
    name_end = before_equals - (len(left) - len(left.rstrip()))
    return name_end - len(name)


def number_at(text: str, i: int) -> tuple[int, int]:
    """(start, end) of the number whose first digit stands at i, with sign, currency and fraction: all of `-$2 1/2`."""
    start = end = i
    while end < len(text):
        c, after = text[end], text[end + 1 : end + 2]
        if c.isdecimal() or (c in ",./" and after.isdecimal()):
            end += 1
        elif c == " " and "/" not in text[i:end] and is_fraction(text, end + 1):
            end += 1
        elif text.startswith("\\,", end) and text[end + 2 : end + 5].isdecimal():  # 385\,000
            end += 2
        else:
            break
    if text[end : end + 1] == "%":
        end += 1
    if text[start - 1 : start] == "." and not text[start - 2 : start - 1].isalnum():
        start -= 1
    if start and text[start - 1] in SIGNS:
        is_escaped = text[start - 2 : start - 1] == "\\"
        start -= 2 if is_escaped else 1
    if text[start - 1 : start] in ("-", "−") and not is_operand(text[start - 2 : start - 1]):
        start -= 1
    return max(start, 0), end


def expression_around(text: str, start: int, end: int) -> tuple[int, int]:
    """(start, end) of the expression outside of dollars with the number text[start:end]: `\\frac{3}{4}`, `(3, -2)`.

    Such an expression has spaces only in brackets and around the signs of a sum, and no words but functions such as
    sqrt. If the number belongs to no such expression, the result is the number alone.
    """
    opening = text.rfind("\\left", max(start - _EXPRESSION_LIMIT, 0), start)
    if opening >= 0 and "\\right" not in text[opening:start]:  # \left( 3, \frac{\pi}{2} \right)
        command = text.find("\\right", end, end + _EXPRESSION_LIMIT)
        closing = command + len("\\right")  # the place of the closing bracket: `)`, or `\}` of two characters
        is_union = text[closing + 1 : closing + 8].lstrip().startswith("\\cup")  # only a part of the value
        if command >= 0 and not is_union:
            return opening, closing + (2 if text[closing : closing + 1] == "\\" else 1)
    before, behind = text[start - 1 : start], text[end : end + 1]
    is_glued = behind in _GLUE and (behind not in ".,:" or not text[end + 1 : end + 2].isspace())
    if not (before in _GLUE or before.isalpha() or is_glued):
        return with_terms(text, start, end)
    left, right = text[max(start - _EXPRESSION_LIMIT, 0) : start], text[end : end + _EXPRESSION_LIMIT]
    # What stands beside the number up to the next spaces.
    glued_left = left.rsplit(None, 1)[-1] if left.strip() and not left[-1].isspace() else ""
    glued_right = right.split(None, 1)[0] if right.strip() and not right[0].isspace() else ""
    if max(len(glued_left), len(glued_right)) == _EXPRESSION_LIMIT:  # too long for an expression
        return start, end
    low, high = start - len(glued_left), end + len(glued_right)
    if count_open(text[low:high]) > 0:  # (3, -2), of which "(3," has been found
        # Several brackets may be open: of the next closing bracket of each kind, the furthest ends the expression.
        ends = [text.find(sign, high, high + _EXPRESSION_LIMIT) + 1 for sign in ")]}"]  # 0 if there is none
        high = max(high, *ends)
    while high > end and text[high - 1] in ".,;:!?*`_":
        high -= 1
    while low < start and text[low] in "*`_":
        low += 1
    expression = text[low:high]
    return with_terms(text, low, high) if is_closed(expression) else (start, end)


def is_closed(expression: str) -> bool:
    """True if a text has as many closing brackets as opening ones, and no words but commands and functions."""
    words = [word for word in words_of(expression) if word.isalpha() and len(word) > 1]
    has_words = any(word not in FUNCTIONS and "\\" + word not in expression for word in words)
    return not has_words and count_open(expression) == 0


def with_terms(text: str, start: int, end: int) -> tuple[int, int]:
    """(start, end) of the sum to which the term text[start:end] belongs, or of the term alone if there is no such sum.

    A sum has blanks around its signs, and a letter: `6 - 5i`. Without a letter it is a calculation, not a value.
    """
    size = len(" + ")
    has_sign_before = text[max(start - size, 0) : start] in _PLUS_OR_MINUS
    has_sign_behind = text[end : end + size] in _PLUS_OR_MINUS
    # The letter may be the last character before a sign: the x of `x - 5`.
    has_letter_near = has_letter(text[max(start - size - 1, 0) : end + _EXPRESSION_LIMIT])
    if not ((has_sign_before or has_sign_behind) and has_letter_near):
        return start, end
    low, high = start, end
    is_last = False  # whether a stop follows the term that was read last
    while text[high : high + size] in _PLUS_OR_MINUS and not is_last and high - end < _EXPRESSION_LIMIT:
        token = text[high + size : high + _EXPRESSION_LIMIT].partition(" ")[0].partition("\n")[0]
        next_term = token.rstrip(".,;:!?*")
        if not is_term(next_term):
            break
        high += size + len(next_term)
        is_last = next_term != token
    # In "It is x - 5", the first term is "x", and "It is" stands before it.
    text_before = text[max(start - _EXPRESSION_LIMIT, 0) : start - size].replace("\n", " ")
    before, _, first_term = text_before.rpartition(" ")
    begins_value = before == "" or before.lower().rpartition(" ")[2] in BEING  # not "Part b - 5"
    if has_sign_before and is_term(first_term) and first_term.isalpha() and begins_value:
        low -= size + len(first_term)
    return (low, high) if has_letter(text[low:high]) else (start, end)


def has_letter(text: str) -> bool:
    """True if a text has a letter or the sign of a root."""
    return any(c.isalpha() or c == "√" for c in text)


def is_term(text: str) -> bool:
    """True for a term of a sum: `5i`, `2\\sqrt{3}`, `x^2`."""
    is_plain = all(c.isalnum() or c in "\\^_{}()√/." for c in text)
    return text not in ("", "a", "I") and is_plain and is_closed(text)  # not "3 - a prime"


def count_open(text: str) -> int:
    """How many brackets are open at the end of a text; below 0 if more are closed than opened."""
    return sum(map(text.count, "([{")) - sum(map(text.count, ")]}"))


def amount_end(text: str, start: int, end: int, is_gsm8k: bool) -> int:
    """Where the amount with the number text[start:end] ends: behind `5 million dollars`, `$5M`.

    In GSM8K also behind `5M`, `5 EUR`, `5 degrees below zero`. The first letter of a name is no part: `$5 T-shirts`.
    """
    has_currency_sign = is_price(text[start:end])
    if is_gsm8k and not has_currency_sign:
        words, below, _ = text[end : end + _BELOW_LIMIT].partition(_BELOW_ZERO)
        if below and DEGREES.issuperset(words.lower().replace("°", " ").split()):
            return end + len(words) + len(below)
    while True:  # each word that belongs to the amount moves `end` behind it
        low = end + 1 if text[end : end + 1] == " " else end
        high = low
        while text[high : high + 1].isalpha():
            high += 1
        if text[low : low + 1] in SIGNS and text[low] != "$":
            high = low + 1  # a sign such as €; a dollar may open a formula
        word = text[low:high].lower()
        if word in MONEY_MAGNITUDES:
            begins_name = low > end and text.startswith(("-", "&", "\\&"), high)  # "$5 T-shirts"
            is_amount = (has_currency_sign or (is_gsm8k and low == end)) and not begins_name
        else:
            is_amount = word in AMOUNTS and (has_currency_sign or is_gsm8k or word not in CODES)
        if not is_amount:
            return end
        end = high


def is_price(amount: str) -> bool:
    """True if an amount has the sign of a currency: `$5`."""
    return not SIGNS.keys().isdisjoint(amount)


def is_operand(before: str) -> bool:
    """True if a minus right behind this character is no sign of a number, but subtracts or joins: `5-3`, `x-3`."""
    return before.isalnum() or before in (")", "]", "}", "-")


def is_fraction(text: str, i: int) -> bool:
    """True if digits, a slash and a digit stand at i: the `1/2` of `2 1/2`."""
    end = i
    while end < i + 18 and text[end : end + 1].isdecimal():
        end += 1
    return end > i and text[end : end + 1] == "/" and text[end + 1 : end + 2].isdecimal()
