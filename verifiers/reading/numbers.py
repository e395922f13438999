r"""The one number of an answer among its words, signs, currency and units: `x = \$1,250 \text{ a day}`.

An answer is cut at its equals signs. Each side is a number, an expression, or words; the sides that are numbers must
all be the same one.
"""

from __future__ import annotations

import re
from fractions import Fraction
from functools import lru_cache
from typing import NamedTuple

from verifiers.reading import words
from verifiers.reading.amounts import (
    GLUED_MAGNITUDES,
    MAGNITUDES,
    MONEY_MAGNITUDES,
    NAMES,
    NATIONS,
    currencies_of,
)
from verifiers.reading.signs import ORNAMENT
from verifiers.reading.tokens import COMMAND, LETTERS, NUMBER, SIGN, WORD, Malformed, Token, tokens_of
from verifiers.verdicts import HEDGE, MALFORMED

POWER_LIMIT = 1000  # of ten, behind a number
TERM_LIMIT = 100  # numbers of a calculation


class Amount(NamedTuple):
    """A number, and the currencies that it may be in, as bits (see `amounts.currencies_of`); 0 if none is named."""

    value: Fraction | int
    currencies: int


_PLAIN = re.compile(r"-?(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?+")
_TAG = re.compile(r"</?[A-Za-z]{1,10}+\s?/?>|</[A-Za-z]{0,10}+[^\w\s]?\Z")
_EMPHASIS = re.compile(  # but not the star of 5* 1/3 and 5 *1/3
    r"(?:(?<=\A)|(?<=[\s(:]))(?:\*\*|__|\*(?!\*)(?:(?<!\d\s\*)|(?![\d½¼¾⅓⅔]|\\?[dt]?frac)))(?=\S)"
    r"|(?<=\S)(?:\*\*|__|\*(?!\s*+[\d½¼¾⅓⅔]))(?=[\s.,;:)!]|\Z)"
)
_NUMERALS_CJK = frozenset("万亿億兆十千半百萬負负零一二两三四五六七八九")
_ACCENTED = re.compile(  # a word with an accent behind a number: 18 dólares; but not 18 milhões
    r"(?<=\d)\s?(?!\s?mil)[A-Za-z]{0,15}+[À-ÖØ-öø-ɏ][A-Za-zÀ-ÖØ-öø-ɏ]*+"
)
_GROUPS = re.compile(r"(?<![\d.,])[1-9]\d{0,2}+(?:,\d{3})++(?![\d,])")
_O_CLOCK = re.compile(r"(?<=\d):00(?=\s?[ap]\.?m\b)", re.IGNORECASE)
_LEADING = re.compile(
    r"(-?[^\w\s(-]{0,3}+\d[\d,.]*+[^\d\n+*/=]{0,200}?)\s(?:after|before|by|during|for|from|in|on|over|until|with(?:in)?)\s"
)
_PRICE = re.compile(r"(?<![\\$])\$(?=\d[\d,.]*+(?:[^$\d]|\Z))|(?<=\d)\s?\$(?!\d)")
_EQUALITIES = frozenset("= approx sim simeq cong equiv doteq".split())
_SILENT = frozenset("circ deg dots Rightarrow therefore dollar dollars percent because".split())
_RELATIONS = frozenset("ne le ge in subset".split())
_ORDINALS = frozenset("th st nd rd circ o deg".split())


def is_plain(text: str) -> bool:
    """True for a number as strict mode wants it: `18`, `-0.5`, but not `1,250` or `+5`."""
    return _PLAIN.fullmatch(text) is not None


def amount(text: str) -> Amount | int:
    """The one number of an answer; or MALFORMED, or HEDGE for several, as the reason why it has none."""
    if text.isdigit() and text.isascii() and len(text) <= 18:
        return Amount(int(text), 0)
    return _short_amount(text) if len(text) <= 100 else _amount(text)


def leading_amount(text: str) -> Amount | int:
    """The number with which a text begins, if words go on with a time or a place: 92 of "92 after 36 months"."""
    head = _LEADING.match(text)
    return amount(head[1]) if head else MALFORMED


def _amount(text: str) -> Amount | int:
    """`amount` of what is not digits alone."""
    if "<" in text:
        text = _TAG.sub(" ", text)
    if "*" in text or "__" in text:
        text = _EMPHASIS.sub("", text.removeprefix("* "))
    if not text.isascii():
        # The words of scripts without spaces; a pattern of so many characters takes longer to compile than all others.
        foreign = {sign for sign in text if "\u3005" <= sign <= "\ud7ff"} - _NUMERALS_CJK
        text = text.translate(dict.fromkeys(map(ord, foreign), " "))
        text = _ACCENTED.sub("", ORNAMENT.sub(" ", text))
    if "," in text:
        text = _GROUPS.sub(lambda groups: groups[0].replace(",", ""), text)
    if ":00" in text:
        text = _O_CLOCK.sub("", text)
    if text.count("$") % 2:
        text = _PRICE.sub(r"\\$", text)
    try:
        tokens = _with_whole_words(tokens_of(text, frozenset()))
    except Malformed:
        return MALFORMED
    sides: list[list[Token]] = [[]]
    for token in tokens:
        if token[1] in _EQUALITIES and token[0] in (SIGN, COMMAND):
            before = sides[-1][-1] if sides[-1] else token
            if before[1] == "not" or (before[1] == "!" and (before[2] or len(sides[-1]) == 1)):
                return MALFORMED  # != 18
            sides.append([])
        else:
            sides[-1].append(token)
    found: Amount | None = None
    is_first = True  # no side with numbers stands before
    for number, tokens in enumerate(sides):
        side = Side(tokens, is_last=number == len(sides) - 1)
        side.read()
        if side.fault:
            return side.fault
        # The 5 of "5, because 5 * 20 = 100" must equal the 100; of "60 - 20 = 40. 40 - 10 = 30", only the 30 counts.
        leads = is_first and not side.is_last and side.reason != "" and side.numbers > 1
        is_first &= not side.numbers
        if side.value is None or (side.is_opaque and not leads):
            continue
        if found and found.value != side.value:
            return HEDGE
        found = Amount(side.value, side.currencies or (found.currencies if found else 0))
    if found and found.value.denominator == 1:
        return Amount(int(found.value), found.currencies)
    return found or MALFORMED


_short_amount = lru_cache(maxsize=1 << 13)(_amount)


def _with_whole_words(tokens: list[Token]) -> list[Token]:
    """The letters that touch each other as one word, since there are no variables: the b, n of $5 bn."""
    merged: list[Token] = []
    for kind, text, spaced in tokens:
        if kind == LETTERS and merged and merged[-1][0] == LETTERS and not spaced:
            merged[-1] = (LETTERS, merged[-1][1] + text, merged[-1][2])
        else:
            merged.append((kind, text, spaced))
    return merged


class Side:
    """One side of an answer, as far as it has been read.

    Attributes:
        value: its first number; None before that.
        currencies: the currencies that the number may be in, as bits; 0 if none is named.
        fault: MALFORMED or HEDGE if the whole answer has none because of this side; else 0.
        is_opaque: whether the side says something else than one number, `2 * 9` or "almost 18".
        numbers: how many numbers it has.
        reason: what begins a reason behind the first number, "because", "(", or the end of a sentence; else "".
    """

    def __init__(self, tokens: list[Token], is_last: bool) -> None:
        self.tokens, self.is_last = tokens, is_last
        self.value: Fraction | None = None
        self.currencies = self.fault = self.numbers = 0
        self.is_opaque, self.reason = False, ""
        self.before: list[str] = []  # words and marks before the first number
        self.behind: list[str] = []  # words and marks behind it
        self.last = ""  # what stands last: "number", "word", "mark"
        self.price = 0  # the currency before the number
        self.sign = 0
        self.said = 0  # the sum of the number words behind the number
        self.scaled = False

    def read(self) -> None:
        """Reads the whole side."""
        i, size = 0, len(self.tokens)
        while i < size and not self.fault:
            kind, text, spaced = self.tokens[i]
            if kind == NUMBER or text == "frac":
                i = self.read_number(i)
            elif kind in (WORD, LETTERS):
                i = self.read_word(i, text, spaced)
            elif kind == COMMAND:
                self.read_command(text)
                i += 1
            else:
                i = self.read_sign(i, text, spaced)
        self.finish()

    def text_at(self, i: int) -> str:
        """The text of token i, "" behind the last one."""
        return self.tokens[i][1] if i < len(self.tokens) else ""

    def is_number_at(self, i: int) -> bool:
        """True if a number begins at token i, perhaps behind a currency."""
        i += self.text_at(i) == "\\$"
        return i < len(self.tokens) and (self.tokens[i][0] == NUMBER or self.tokens[i][1] == "frac")

    def read_number(self, i: int) -> int:
        """Reads the number at token i; returns the place behind it, as all of these functions do."""
        kind, _, spaced = self.tokens[i]
        found = number_at(self.tokens, i)
        value, after = found if found else (None, i + 1)
        self.numbers += 1
        if value is None or (self.last == "word" and not spaced and kind == NUMBER and not self.price):
            self.is_opaque = True  # 1/0, x18, CO2
        if self.numbers == 1:
            self.value = None if value is None else value * (self.sign or 1)
            self.currencies = self.price
            self.is_opaque |= (self.last == "word" or self.sign != 0) and words.changes_number(self.before)
        else:
            unit = self.tokens[after][0] in (WORD, LETTERS) if after < len(self.tokens) else False
            word = self.behind[-1] if self.last == "word" and self.behind else ""
            has_unit = self.currencies != 0 or len(self.behind) > 1
            is_span = word in words.SPANNING and has_unit and self.is_last and unit  # 18 miles in 3 days
            self.is_opaque |= not (self.numbers == 2 and (is_span or word == "per"))
        self.last, self.sign = "number", 0
        return after

    def read_word(self, i: int, text: str, spaced: bool) -> int:
        """Reads the word at token i."""
        word, is_beside = text.lower(), self.last == "number"
        if word == "x" and self.is_number_at(i + 1) and self.last in ("number", "mark"):
            return self.read_operator(i)  # 5 x 4
        if word == "or":
            self.fault = HEDGE
        elif (
            word in words.SPOILING
            or word.endswith("n't")
            or (word in ("least", "most") and self.follows("at"))
        ):
            self.is_opaque = True
        elif word in ("minus", "negative"):
            self.is_opaque |= word == "minus" and self.numbers > 0  # 72 minus tax; but 5 negative reviews
            self.sign, self.last = -1, "mark"
            return i + 1
        elif is_beside and self.numbers == 1:
            power = self.power_at(i, word, spaced)
            if power:
                self.value = None if self.value is None else self.value * 10**power
                return i + 1
            if (
                (not spaced and set(word) <= set("xyznea"))
                or word in ("x", "y", "z", "n")
                or text in ("i", "j")
            ):
                self.fault = MALFORMED  # 18x, 18 i, 18e
            self.is_opaque |= (word == "k" and spaced) or (
                text in ("M", "B", "T") and not spaced
            )  # kelvins, millions
            self.is_opaque |= word in words.CHANGING_BEHIND
        is_money = word in NAMES or (
            word in NATIONS and (self.text_at(i + 1).lower() in NAMES or self.text_at(i + 1) == "\\$")
        )
        money = currencies_of(word) if is_money else 0
        if money and not self.numbers:
            self.price = self.price & money or money
        elif money and self.numbers == 1 and not list(filter(str.isalpha, self.behind)):
            self.name_currency(money)
        if self.numbers and word in words.REASONS:
            self.reason = word
        numeral = sum(words.NUMERALS.get(part, 0) for part in word.split("-"))
        if self.numbers and numeral and (self.behind or [""])[-1] not in words.PREPOSITIONS:
            self.said += numeral
        if not money:
            (self.behind if self.numbers else self.before).append(word)
        self.last = "word"
        return i + 1

    def follows(self, word: str) -> bool:
        """True if `word` stands last."""
        return (self.behind if self.numbers else self.before)[-1:] == [word]

    def power_at(self, i: int, word: str, spaced: bool) -> int:
        """The power of ten that the word at token i, right behind the number, stands for: 6 for "million"; else 0."""
        power = MAGNITUDES.get(word, 0) or (0 if spaced else GLUED_MAGNITUDES.get(word, 0))
        begins_name = self.text_at(i + 1) in ("-", "&")  # $5 T-shirts, M&Ms
        is_money = self.currencies or self.text_at(i + 1).lower() in NAMES
        return power or (
            MONEY_MAGNITUDES.get(word, 0)
            if is_money and not begins_name and self.text_at(i + 1) != "^"
            else 0
        )

    def name_currency(self, money: int) -> None:
        """Notes a currency that stands beside the number; two that contradict each other make it no number."""
        both = self.currencies & money if self.currencies else money
        self.is_opaque |= not both
        self.currencies = both

    def read_command(self, name: str) -> None:
        """Reads a command of LaTeX: those that change a number make the side opaque."""
        if name in _RELATIONS:
            self.fault = MALFORMED
        elif name == "pm":
            self.fault = HEDGE
        elif name not in _SILENT:
            self.is_opaque = True

    def read_operator(self, i: int) -> int:
        """Reads a sign that calculates."""
        self.is_opaque, self.last = True, "mark"
        return i + 1

    def read_sign(self, i: int, text: str, spaced: bool) -> int:
        """Reads the sign at token i."""
        if text in ("+", "-"):
            return self.read_plus_or_minus(i, text, spaced)
        money = currencies_of("$" if text == "\\$" else text)
        if money and not self.numbers:
            self.price = self.price & money or money
        elif money and self.numbers == 1 and (self.last == "number" or not self.behind):
            self.name_currency(money)
        elif (
            text == "/"
            and self.last in ("number", "word")
            and not self.is_number_at(i + 1)
            and self.text_at(i + 1).isalpha()
        ):
            (self.behind if self.numbers else self.before).append("per")  # 5 miles/hour
        elif text in ("*", "/"):
            return self.read_operator(i)
        elif text == "^":
            return self.read_power(i)
        elif text == "(":
            return self.read_bracket(i, spaced)
        elif text == "<":
            self.fault = MALFORMED
        elif text == ">" and not self.numbers and self.is_number_at(i + 1):
            self.is_opaque = True
        elif (text == "!" and self.last == "number" and not spaced) or text == "_":
            self.is_opaque = True  # a factorial
        elif text not in ("%", "{", "}") and not money:
            (self.behind if self.numbers else self.before).append(text)
            if text == "." and self.numbers == 1 and self.value != 1 and i + 1 < len(self.tokens):
                self.reason = "."  # 5. Check: 5 * 20 = 100
            if text == ")" and self.reason == "(":
                self.reason = ""
            if text == ":" and not self.numbers:
                self.price = 0  # pounds: 20 euros
            self.last = "word" if text in (")", "]") and not self.numbers and self.before else "mark"
        return i + 1

    def read_plus_or_minus(self, i: int, text: str, spaced: bool) -> int:
        """Reads a sign before a number, a hyphen between words, or an operator."""
        following = self.tokens[i + 1] if i + 1 < len(self.tokens) else (SIGN, "", True)
        is_hyphen = (
            self.last == "word" and not spaced and following[0] in (WORD, LETTERS) and len(following[1]) > 1
        )
        is_unit = (
            self.last == "number" and text == "-" and following[0] == WORD and len(following[1]) > 1
        )  # 5-mile
        is_price = self.price and self.tokens[i - 1][0] == SIGN  # about £-24
        is_operator = following[2] or len((self.before or [""])[-1]) == 1  # total - 18, x +5; but "it is -18"
        if self.sign or (
            not (is_hyphen or is_unit)
            and (self.numbers or (self.last == "word" and (not spaced or is_operator) and not is_price))
        ):
            is_dash = text == "-" and following[0] == WORD and (spaced or self.last == "mark")
            self.is_opaque |= not is_dash  # 72 clips - so she has some
        elif not (is_hyphen or is_unit):
            self.sign = 1 if text == "+" else -1
        self.last = "mark"
        return i + 1

    def read_power(self, i: int) -> int:
        """Reads the power at token i: `18^{th}`, `18^\\circ` and `18 cm^2` are the number 18; `18^2` is none."""
        braces = self.text_at(i + 1) == "{"
        inside, after = self.text_at(i + 1 + braces), i + 2 + 2 * braces
        is_of_unit = self.last == "word" and self.numbers > 0 and inside in ("1", "2", "3")
        if inside in _ORDINALS or is_of_unit:
            return after
        return self.read_operator(i)

    def read_bracket(self, i: int, spaced: bool) -> int:
        """Reads an opening bracket, or all of a calculation that gives the number: 7 (3 + 4)."""
        if self.numbers == 1 and (spaced or self.last == "word"):
            end = calculation_end(self.tokens, i + 1, self.value)
            if end:
                self.last = "mark"
                return end
            self.reason = "("
        elif not self.numbers and self.before[-1:] in (["log"], ["f"], ["sqrt"]):
            self.is_opaque = True
        (self.behind if self.numbers else self.before).append("(")
        self.last = "mark"
        return i + 1

    def finish(self) -> None:
        """Notes what only the whole side says."""
        behind = self.behind
        if self.sign and (not self.numbers or self.last == "mark"):
            self.is_opaque = True  # 20-
        if self.value is None:
            return
        value = abs(self.value)
        self.is_opaque |= self.said not in (0, value) or adds_fraction(behind, value)
        spoken = [word for word in self.before if word != "("]
        named = spelled(spoken) if spoken else None
        self.is_opaque |= named is not None and named != value  # six (5)
        if "no" in behind and behind[behind.index("no") + 1 :] in ([], ["."]):
            self.is_opaque = True  # 18. Wait, no.
        cold = [word for word in behind if word not in words.DEGREES]
        if cold[:1] == ["below"] and not self.currencies and "below" in behind[:4]:
            self.is_opaque |= cold[1:2] != ["zero"] or self.value < 0
            self.value = -value


def number_at(tokens: list[Token], i: int) -> tuple[Fraction | int, int] | None:
    r"""(value, place behind it) of the number at token i: `1250`, `3/4`, `2 1/2`, `2\frac12`, `1.8 * 10^1`; or None."""
    kind, text, _ = tokens[i]
    if kind != NUMBER:
        return _fraction(tokens, i)
    value, i = int(text) if text.isdigit() else Fraction(text), i + 1
    following = [text for _, text, _ in tokens[i : i + 7]]
    if following[:3] == ["*", "10", "^"]:
        is_signed = following[3:4] in (["-"], ["+"])  # 3.2 * 10^-3
        power = "".join(following[3:7]).partition("}")[0]
        if following[3:4] != ["{"]:
            power = "".join(following[3 : 4 + is_signed])
        digits = power.removeprefix("{").lstrip("+-")
        if not digits.isdigit() or int(digits[:9]) >= POWER_LIMIT:
            return None
        value *= Fraction(10) ** (-int(digits) if "-" in power else int(digits))
        return value, i + 4 + (power[0] == "{") * 2 + ("-" in power or "+" in power)
    if following[:1] == ["/"] and i + 1 < len(tokens) and tokens[i + 1][0] == NUMBER:
        below = Fraction(following[1])
        return (value / below, i + 2) if below else None
    if value.denominator == 1 and i < len(tokens):
        at = i
        if following[0] == "and" and following[2:3] == ["/"]:
            at, following = i + 1, following[1:]  # 1 and 1/2 cups
        is_slashed = tokens[at][0] == NUMBER and tokens[at][2] and following[1:2] == ["/"]
        part = number_at(tokens, at) if is_slashed or following[0] == "frac" else None
        if part and 0 < part[0] < 1:
            return value + part[0], part[1]
    return value, i


def _fraction(tokens: list[Token], i: int) -> tuple[Fraction, int] | None:
    r"""(value, place behind it) of `\frac{3}{4}` or `\frac34` at token i."""
    parts: list[Fraction] = []
    i += 1
    while len(parts) < 2 and i < len(tokens):
        kind, text, _ = tokens[i]
        if kind == NUMBER and text.isdigit() and len(text) <= 2 - len(parts):
            parts += map(Fraction, text)
            i += 1
            continue
        i += 1
        sign = -1 if i < len(tokens) and tokens[i][1] == "-" else 1
        i += sign < 0
        if text != "{" or i + 1 >= len(tokens) or tokens[i][0] != NUMBER or tokens[i + 1][1] != "}":
            return None
        parts.append(sign * Fraction(tokens[i][1]))
        i += 2
    return (parts[0] / parts[1], i) if len(parts) == 2 and parts[1] else None


def adds_fraction(behind: list[str], value: Fraction) -> bool:
    """True if words behind a number add or say a fraction: "2 and a quarter", "1 fourth", "3 quarters of it"."""
    for place, word in enumerate(behind):
        if word in words.FRACTIONS:
            before = behind[max(place - 3, 0) : place]
            counted = before[-1:]
            has_count = counted and (counted[0] in words.ARTICLES or counted[0] in words.NUMERALS)
            joined = before[:-1] if has_count else before
            following = behind[place + 1 : place + 2]
            is_coin = word in ("quarter", "quarters")
            is_first = place == 0 and (
                (following == ["of"] and (value < 4 or not is_coin)) or (not following and not is_coin)
            )
            is_joined = (
                joined[-1:] == ["and"] and joined[-2:-1] != [","] and (counted[0] != "and" or place == 1)
            )
            if is_first or (is_joined and following != ["of"]):
                return True
    return False


def spelled(parts: list[str]) -> int | None:
    """The value of number words, 105 for "one hundred and five"; None if other words are among them."""
    total = current = 0
    for word in (piece for part in parts for piece in part.split("-")):
        if word in words.NUMERALS:
            current += words.NUMERALS[word]
        elif word in MAGNITUDES and len(word) > 3:
            scale = 10 ** MAGNITUDES[word]
            total, current = (
                (total, max(current, 1) * scale) if scale == 100 else (total + max(current, 1) * scale, 0)
            )
        elif word != "and":
            return None
    return total + current


def calculation_end(tokens: list[Token], i: int, value: Fraction | None) -> int:
    """The place behind the bracket that opened before token i, if a calculation in it gives the value; else 0."""
    total, term, operator, terms = Fraction(0), Fraction(0), "+", 0
    for place in range(i, len(tokens)):
        kind, text, _ = tokens[place]
        if text == ")":
            return place + 1 if terms > 1 and not operator and total + term == value else 0
        if kind == NUMBER:
            number = Fraction(text)
            if not operator or (operator == "/" and not number) or terms == TERM_LIMIT:
                return 0
            if operator in ("+", "-"):
                total, term = total + term, number if operator == "+" else -number
            else:
                term = term * number if operator == "*" else term / number
            terms, operator = terms + 1, ""
        elif text in ("+", "-", "*", "/", "x"):
            if operator:
                return 0
            operator = "*" if text == "x" else text
        elif text != "\\$" and (not text.isalpha() or text == "or" or text.lower() in words.SPOILING):
            return 0
    return 0
