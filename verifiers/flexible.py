r"""The value that a completion ends with where it marks no answer: "So, the ladders cost 96 dollars.", `= 18 eggs`.

Mode `flexible` judges it, for files of other people's models: the last number or closed formula (`$...$`, `\(...\)`,
`\[...\]`) of the last sentence that has one. In such a sentence a number behind "=" or "is" goes first, and one behind
a word such as "every" or "in" says only of what it speaks. What is denied, asked, left open ("18 or 19", "±18") or not
computed (`2*9`) is no value. Nothing here is compiled; every scan is linear.
"""

from __future__ import annotations

from typing import NamedTuple

from verifiers.amounts import CODES, MAGNITUDES, MONEY_MAGNITUDES, NAMES, SIGNS
from verifiers.extract import read_tags
from verifiers.verdicts import HEDGE, MALFORMED, NO_ANSWER

UNREAD = (NO_ANSWER, MALFORMED, HEDGE)
"""Reasons for which another reading is looked for."""
_OPENINGS = (("\\[", "\\]"), ("\\(", "\\)"), ("$$", "$$"))
_SIDE_WORDS = frozenset("in within during after over per every each all both these those".split())
_BEING = frozenset("= is are was were be equals".split())
_JOINING = frozenset("or ± + * × · ÷ / ^ x times to".split())
_DENYING = frozenset("not between ±".split())
_AMOUNTS = frozenset([*MAGNITUDES, *NAMES]) - {"pound", "pounds"}
"""Words of an amount of money, which belong to the number before them."""
_BELOW_ZERO = "below zero"
_BELOW_LIMIT = 40  # characters from a number to these words: "degrees Celsius"
_DEGREES = frozenset("degree degrees c f celsius fahrenheit".split())
_FORMULA_LIMIT = 1024  # characters of one formula; a longer one is no answer


class Item(NamedTuple):
    """A number or a formula of a sentence; the rank says what stands before it.

    `is_value` is False where the words around it deny it, ask for it or leave it open.
    """

    low: int
    high: int
    rank: int
    is_value: bool


def flexible_answer(data: bytes, reason: int, low: int, high: int, is_gsm8k: bool = False) -> tuple[int, int]:
    """(start, end) of the value in a completion of which lenient mode says `reason` about data[low:high], or -1s.

    For GSM8K it goes on through `5k`, `5 EUR` and `5 degrees below zero`, which MATH does not read.
    Where an answer is marked, the value is looked for in it; what a box holds stays as it is.
    """
    if reason not in UNREAD or (low > 0 and data[low - 1 : low] == b"{"):
        return -1, -1
    if low < 0:
        high, low = read_tags(data, 0, len(data))[:2]
    text = data[low:high].decode("utf-8", "surrogatepass")
    value = last_value(text, is_gsm8k)
    if value is None:
        return -1, -1
    start = low + len(text[: value.low].encode("utf-8", "surrogatepass"))
    return start, start + len(text[value.low : value.high].encode("utf-8", "surrogatepass"))


def last_value(text: str, is_gsm8k: bool) -> Item | None:
    """The last number or formula of the last sentence that has one; None where there is none."""
    sentence: list[Item] = []
    last: list[Item] = []

    def add(low: int, high: int) -> None:
        before = sentence[-1] if sentence else None
        joins = before is not None and (word in _JOINING or (word == "and" and not before.is_value))
        if joins:
            sentence[-1] = before._replace(is_value=False)
        sentence.append(Item(low, high, rank_behind(word), not (joins or word in _DENYING)))

    closings = {opening: text.rfind(closing) for opening, closing in _OPENINGS}
    i, word = 0, ""
    while i < len(text):
        c = text[i]
        formula = formula_end(text, i, closings) if c in "\\$" else -1
        if formula > 0:
            if has_value(text[i:formula]):
                add(i, formula)
            i, word = formula, ""
        elif c.isdecimal():
            start, i = number_at(text, i)
            i = amount_end(text, start, i, is_gsm8k)
            add(start, i)
            word = ""
        elif c.isalpha():
            start = i
            while i < len(text) and (text[i].isalpha() or (text[i].isdecimal() and text[i].isascii())):
                i += 1
            word = text[start:i].lower()
            if word == "or" and "," in text[max(start - 2, 0) : start]:
                word = ""  # "$5 a day, or $35 in 7 days" says one thing twice
        else:
            if text.startswith("**", i):
                i += 1  # bold, no product
            elif not (c.isspace() or c in "\\$-"):
                word = c
            if c in "\n。" or (c in ".!?" and not text[i + 1 : i + 2].strip()):
                if c == "?":
                    sentence = [item._replace(is_value=False) for item in sentence]
                last, sentence = sentence or last, []
            i += 1
    found = max(reversed(sentence or last), key=lambda item: item.rank, default=None)
    return found if found and found.is_value else None


def rank_behind(word: str) -> int:
    """How much a value counts by the word or sign before it: 2 behind "=" or "is", 0 behind "every" or "in", else 1."""
    return 2 if word in _BEING else int(word not in _SIDE_WORDS)


def formula_end(text: str, i: int, closings: dict[str, int]) -> int:
    """Where the formula ends that begins at i, or -1; `closings`: where the last closing sign of each kind stands."""
    for opening, closing in _OPENINGS:
        if text.startswith(opening, i):
            begin = i + len(opening)
            end = text.find(closing, begin, begin + _FORMULA_LIMIT) if closings[opening] >= begin else -1
            return end + len(closing) if end > 0 else -1
    if text[i] != "$" or text[i - 1 : i] == "\\" or not text[i + 1 : i + 2].strip():
        return -1
    end = text.find("$", i + 1, i + _FORMULA_LIMIT)
    inside = text[i + 1 : end]
    is_currency = text[end + 1 : end + 2].isdecimal() or inside[-1:].isspace() or "\n" in inside
    return -1 if end < 0 or is_currency else end + 1


def has_value(formula: str) -> bool:
    """False for a formula that only names something: `$x$`, `$ABC$`."""
    inside = formula.strip("$\\[]() .\n")
    return not (inside.isalpha() and inside.isascii())


def number_at(text: str, i: int) -> tuple[int, int]:
    """(start, end) of the number whose first digit stands at i, with its sign, its currency and a fraction."""
    start = end = i
    while end < len(text):
        c, after = text[end], text[end + 1 : end + 2]
        if c.isdecimal() or (c in ",./" and after.isdecimal()):
            end += 1
        elif c == " " and "/" not in text[i:end] and is_fraction(text, end + 1):
            end += 1
        else:
            break
    if text[end : end + 1] == "%":
        end += 1
    if text[start - 1 : start] == "." and not text[start - 2 : start - 1].isalnum():
        start -= 1
    if start and text[start - 1] in SIGNS:
        start -= 1 + (text[start - 2 : start - 1] == "\\")
    if text[start - 1 : start] in ("-", "−") and not is_operand(text[start - 2 : start - 1]):
        start -= 1
    return max(start, 0), end


def amount_end(text: str, start: int, end: int, is_gsm8k: bool) -> int:
    """Where an amount ends of which the number is text[start:end]: `5 million dollars`, `$5M`.

    In GSM8K also `5M`, `5 EUR` and `5 degrees below zero`. A letter that begins a name (`$5 T-shirts`) is not taken.
    """
    is_price = not SIGNS.keys().isdisjoint(text[start:end])
    if is_gsm8k and not is_price:
        words, below, _ = text[end : end + _BELOW_LIMIT].partition(_BELOW_ZERO)
        if below and _DEGREES.issuperset(words.lower().replace("°", " ").split()):
            return end + len(words) + len(below)
    while True:
        low = end + (text[end : end + 1] == " ")
        high = low
        while text[high : high + 1].isalpha():
            high += 1
        if text[low : low + 1] in SIGNS and text[low] != "$":
            high = low + 1
        word = text[low:high].lower()
        if word in MONEY_MAGNITUDES:
            is_amount = is_price or (is_gsm8k and low == end)
            is_amount = is_amount and (low == end or not text.startswith(("-", "&", "\\&"), high))
        else:
            is_amount = word in _AMOUNTS and (is_price or is_gsm8k or word not in CODES)
        if not is_amount:
            return end
        end = high


def is_operand(before: str) -> bool:
    """True if a minus behind this character subtracts or joins: `5-3`, `x -3`."""
    return before.isalnum() or before in (")", "]", "}", "-")


def is_fraction(text: str, i: int) -> bool:
    """True for digits, a slash and a digit at i, as in `2 1/2`."""
    end = i
    while end < i + 18 and text[end : end + 1].isdecimal():
        end += 1
    return end > i and text[end : end + 1] == "/" and text[end + 1 : end + 2].isdecimal()
