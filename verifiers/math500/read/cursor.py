"""A `Cursor` is a place among the tokens of an answer, with marks for what was noticed on the way.

Every function that reads tokens takes a `Cursor`. What stands in brackets is read by a new cursor between them. Where
one reading fails and another is tried, the cursor of the first and its marks are dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

from verifiers.math500.read import prose
from verifiers.math500.read.lexer import WORD, Malformed, Token
from verifiers.math500.read.prose import RELATIONS, SENTENCE_COMMANDS, SENTENCE_WORDS, Brackets
from verifiers.math500.read.values import Value

END: Token = ("end", "", False)
MATRICES = frozenset("cases matrix pmatrix bmatrix Bmatrix smallmatrix array".split())
"""The environments of LaTeX that are read as a matrix."""
OPENING_BRACKETS = frozenset(["(", "[", "{", "\\{", "langle", *(f"begin {name}" for name in MATRICES)])
"""Signs and commands with which brackets and environments begin."""
SPLITTING = frozenset([",", ";", ":", "\\\\", "pmod", "setminus", "|", *RELATIONS])
"""Signs and commands that may part a text into several sides: the comma of "1, 2", the = of "x = 5"."""

MIXED = "mixed"  # a mixed number was read, or a number with a word such as "million"
WORDED = "worded"  # words stood before a value
UNITS = "units"  # the word "units" stood behind a value
MODULUS = "modulus"  # a modulus stood behind a value: 3 (mod 7)
# One of these four, or the words before a value in brackets: Bob of "Bob (55)".
Mark: TypeAlias = "str | Value"

# {first token of a value: what reads the value}
Readers: TypeAlias = "Mapping[str, Callable[[Cursor], Value]]"


class Text:
    """The tokens of one answer, and what is known of them before any is read as mathematics.

    `letters`: the variables of the reference, which tell letters of the answer from words and units; None where this
    text is the reference itself. `readers`: {a command or an opening bracket: what reads the value that begins with
    it}. `match`: {the place of an opening bracket: the place of its closing one}. `may_be_sentence`: True if a word
    such as "so", "is" or "for" or an arrow stands in the text. `is_one_side`: True if nothing may part the text (a
    comma, a relation, a sentence, words with brackets). All of it is then read as one value.
    """

    def __init__(self, tokens: list[Token], letters: frozenset[str] | None, readers: Readers) -> None:
        self.tokens, self.letters, self.readers = tokens, letters, readers
        self.is_reference = letters is None
        values = {value for _, value, _ in tokens}
        self.match = Brackets() if OPENING_BRACKETS.isdisjoint(values) else prose.matched(tokens)
        words = [value.lower() for kind, value, _ in tokens if kind == WORD]
        has_sentence_command = not SENTENCE_COMMANDS.isdisjoint(values)
        has_sentence_word = not SENTENCE_WORDS.isdisjoint(words)
        self.may_be_sentence = has_sentence_command or has_sentence_word
        has_words_and_brackets = bool(words) and ")" in values
        may_be_parted = self.may_be_sentence or has_words_and_brackets or not SPLITTING.isdisjoint(values)
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

    A COMMAND and a WORD may have the same value (`\\deg` and "deg"); no other token has the value of a SIGN.
    """

    open_bars = 0  # how many bars | of absolute values are open, their closing bars still to come
    currency = ""  # the unit of the currency sign that was read: "dollar"
    has_sign = False  # True once a degree or per cent sign was read
    temperature = ""  # the scale of temperature whose letter stood behind degrees: "celsius" for 5°C

    def __init__(self, text: Text, low: int, high: int, depth: int, marks: list[Mark]) -> None:
        self.text, self.tokens, self.end, self.marks = text, text.tokens, high, marks
        self.depth = depth  # how many brackets and arguments are around this part
        self.position = low
        self.kind, self.value, self.spaced = self.tokens[low] if low < high else END

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
