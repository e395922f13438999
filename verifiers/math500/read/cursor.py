"""A place among the tokens of an answer, and what is noticed on the way.

All that reads tokens is a function of a `Cursor`. What stands in brackets is read by a cursor between them; where a
reading fails and another is tried, the cursor and its marks are dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

from verifiers.math500.read import prose
from verifiers.math500.read.lexer import WORD, Malformed, Token
from verifiers.math500.read.prose import RELATIONS, SPEAKING, TRIGGERS, Brackets
from verifiers.math500.read.values import Value

END: Token = ("end", "", False)
MATRICES = frozenset("cases matrix pmatrix bmatrix Bmatrix smallmatrix array".split())
OPENING = frozenset(["(", "[", "{", "\\{", "langle", *(f"begin {name}" for name in MATRICES)])
SPLITTING = frozenset([",", ";", ":", "\\\\", "pmod", "setminus", "|", *RELATIONS])

MIXED = "mixed"  # a mixed number was read, or one with a word such as "million"
WORDED = "worded"  # words stood before a value
UNITS = "units"  # a value was in "units", of which nobody says what they are
MODULUS = "modulus"  # a modulus stood behind a value
Mark: TypeAlias = "str | Value"  # one of these, or what the words say in Bob (55)

Readers: TypeAlias = "Mapping[str, Callable[[Cursor], Value]]"


class Text:
    """The tokens of one answer, and what is known of them before any is read as mathematics.

    `letters` are those of the reference, by which a run of letters is a product of them or a word; None where the text
    is the reference. `match` holds the place of the closing bracket of each opening one. `readers` has for each command
    and opening sign what reads the value that begins there.
    """

    def __init__(self, tokens: list[Token], letters: frozenset[str] | None, readers: Readers) -> None:
        self.tokens, self.letters, self.readers = tokens, letters, readers
        self.is_reference = letters is None
        values = {value for _, value, _ in tokens}
        self.match = Brackets() if OPENING.isdisjoint(values) else prose.matched(tokens)
        spoken = [value.lower() for kind, value, _ in tokens if kind == WORD]
        self.speaks = not (SPEAKING.isdisjoint(values) and TRIGGERS.isdisjoint(spoken))
        self.is_plain = not (self.speaks or (spoken and ")" in values)) and SPLITTING.isdisjoint(values)

    def top_level(self, low: int, high: int) -> Sequence[int]:
        """The places between two places that stand in no bracket."""
        if not self.match:
            return range(low, high)
        places = []
        while low < high:
            places.append(low)
            low = self.match.get(low, low) + 1
        return places


class Cursor:
    """A place in a part of a text; `kind`, `value` and `spaced` are those of the token there.

    The value of a SIGN alone tells it from any other token, that of a COMMAND or a WORD does not.
    """

    open_bars = 0  # that stand before a sum and not yet behind it
    currency = ""  # the unit that a currency sign says
    has_sign = False  # if a degree or per cent sign was read
    temperature = ""  # the scale of degrees behind which its letter stands: 5°C

    def __init__(self, text: Text, low: int, high: int, depth: int, marks: list[Mark]) -> None:
        self.text, self.tokens, self.end, self.marks = text, text.tokens, high, marks
        self.depth = depth  # of nesting
        self.position = low
        self.kind, self.value, self.spaced = self.tokens[low] if low < high else END

    def between(self, low: int, high: int) -> Cursor:
        """A cursor for a part of the text, which marks what this one does."""
        return Cursor(self.text, low, high, self.depth, self.marks)

    def go(self, position: int) -> None:
        """Read on at a place."""
        self.position = position
        self.kind, self.value, self.spaced = self.tokens[position] if position < self.end else END

    def advance(self, count: int = 1) -> str:
        """Go on by one token or more; the value of the first one."""
        value = self.value
        position = self.position = self.position + count
        self.kind, self.value, self.spaced = self.tokens[position] if position < self.end else END
        return value

    def peek(self, offset: int = 1) -> Token:
        place = self.position + offset
        return self.tokens[place] if 0 <= place < self.end else END

    def accept(self, value: str, kind: str | None = None) -> bool:
        """True if a token of this value, and kind where one is given, stood here; it is read."""
        if self.value == value and (kind is None or kind == self.kind):
            self.advance()
            return True
        return False

    def expect(self, sign: str) -> None:
        if not self.accept(sign):
            raise Malformed(f"{sign} expected")

    def in_last_brackets(self) -> list[Token]:
        """What stands in the brackets that begin here and end all; else nothing."""
        last = self.value == "(" and self.text.match.get(self.position) == self.end - 1
        return self.tokens[self.position + 1 : self.end - 1] if last else []
