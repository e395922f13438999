r"""Reads what stands behind an expression: its unit, and a remark in brackets.

For texts such as `15\mbox{ cm}^2` and `36 \text{ (by Vieta's formulas)}`.
"""

from __future__ import annotations

from collections.abc import Sequence

from verifiers.math500.read import prose, units
from verifiers.math500.read.commands import Commands
from verifiers.math500.read.lexer import COMMAND, LETTERS, NUMBER, SIGN, WORD, Malformed
from verifiers.math500.read.values import Quantity, Value, is_expression
from verifiers.math500.read.words import CHANGING_BEHIND, JOINING, NUMBER_WORDS, ORDINALS, SCALES, SPANNING

UNIT_SIGNS = frozenset("/ ^ { } 1 2 3".split())


class Quantities(Commands):
    """A parser that reads units, too.

    `letters` are the letters of the reference, by which a run of letters is a product of them or a word; None where
    the text is the reference.
    """

    letters: frozenset[str] | None
    is_reference: bool
    in_units = False  # if a value is in "units", of which nobody says what they are

    def with_unit(self, value: Value) -> Value:
        """The value with the unit that follows it, from words, a per cent or degree sign, or a currency."""
        value, unit = lift_unit(value) if self.marks else (value, "")
        if not unit and self.accept("\\$"):
            unit = "dollar"  # 4.50$
        words = [unit or self.currency] if unit or self.currency else []
        if not words or words == [self.currency]:
            value = self.scaled(value)
        if words and self.kind == WORD and units.UNITS.get(self.value.lower()) == words[0]:
            self.advance()  # $2 dollars, 25% percent
        self.unit_words(words)
        if not words:
            return value
        unit = units.canonical_unit(words)
        self.in_units |= unit == "" and words[0] in ("unit", "units")
        if unit is None:
            raise Malformed("the power of no unit")
        return self.with_smaller_unit(value, unit, words)

    def with_smaller_unit(self, value: Value, unit: str, words: Sequence[str]) -> Value:
        """2 hours 15 minutes as 135 minutes."""
        behind = self.position + (self.value == "and")
        smaller = units.UNITS.get(self.peek(1 + (self.value == "and"))[1].lower(), "")
        times = units.conversion(unit, smaller) if smaller else None
        if times and self.tokens[behind][0] == NUMBER and times[0] > times[1]:
            self.go(behind)
            rest = self.with_unit(self.literal())
            literal = is_expression(value) and value[0] == "num" and value[1] >= 0
            if not literal or type(rest) is not Quantity or rest.unit != smaller:
                raise Malformed("two quantities side by side")
            return Quantity(("+", (("*", (value, ("num", *times))), rest.value)), rest.unit)
        return Quantity(value, unit) if unit or words[0].lower() not in ORDINALS else value

    def scaled(self, value: Value) -> Value:
        """The literal times what a word such as "million" behind it stands for."""
        is_scale = self.kind == WORD and self.value.lower() in SCALES
        if is_scale and is_expression(value) and value[0] == "num":
            self.mixed = True
            return ("num", value[1] * SCALES[self.advance().lower()], value[2])
        return value

    def unit_words(self, words: list[str]) -> None:
        """Read the words and letters of a unit, and a remark in brackets at the end, into a list."""
        while self.kind != "end":
            if self.is_remark(bool(words)):
                self.go(self.end)
                return
            if self.is_unit_fraction():
                self.advance()
                words += self.unit_fraction()
            elif (
                (self.kind == WORD and self.value.lower() not in JOINING)
                or self.is_unit_letter(words)
                or self.value == "%"
            ):
                self.unit_word(words)
            elif words and self.accept("/"):
                words.append("/")
            else:
                return

    def unit_word(self, words: list[str]) -> None:
        word = self.value
        unknown_letter = self.kind == WORD and len(word) == 1 and word.islower() and word not in units.UNITS
        behind = self.peek()
        of_noun = word in ("more", "fewer", "positive", "negative")  # 15 more people, 24 positive divisors
        counted = of_noun and behind[0] == WORD and behind[1] not in ("than", "or")
        counted |= word == "pairs" and bool(words)  # 55 different pairs
        count = self.peek(-1)[1] if word == "quarters" else ""
        counted |= count.isdigit() and len(count) < 9 and int(count) > 4  # 14 quarters are coins, 3 a number
        counted |= words[-1:] == ["the"] and behind[0] == WORD  # 94 on the fourth test
        spanned = len(words) > 1 and words[-1] in SPANNING  # 18 miles in three days, not 1 in three
        counted |= spanned and word.lower() in NUMBER_WORDS and behind[0] == WORD
        second = words and (word == "%" or (words[-1][0] == "^" and word in units.UNITS))  # m^3 m
        if second or (word.lower() in CHANGING_BEHIND and not counted) or unknown_letter:
            raise Malformed("words")
        words.append(self.advance())
        if self.value == "^":
            words += self.unit_power()

    def is_behind(self) -> bool:
        if self.kind == LETTERS:
            return self.is_unit_letter() and self.is_unit_to_the_end()
        if self.value == "(":
            return self.is_remark() or self.peek()[1] in ("mod", "bmod")
        return self.value == "frac" and self.is_unit_fraction()

    def is_remark(self, counted: bool = False) -> bool:
        """True at words or a condition in brackets that end a side: "16 (simplified)", "3 (when x = 1)".

        Behind what is `counted` also at what it is: "3 integers (2, 5, 8)".
        """
        close = self.match.get(self.position, -1)
        if self.value != "(" or close != self.end - 1 or self.is_reference:
            return False
        inside = self.tokens[self.position + 1 : close]
        return prose.is_remark(inside, self.peek(-1)) or (
            counted and bool(inside) and not prose.hedges(inside)
        )

    def is_unit_fraction(self) -> bool:
        braced = self.peek()[1] == "{" and self.peek(2)[0] == WORD
        return braced and (self.kind, self.value) == (COMMAND, "frac")

    def unit_fraction(self) -> list[str]:
        r"""The words of `\frac{\text{miles}}{\text{hour}}`."""
        above, below = (self.label().replace("^ ", "^").split() for _ in range(2))
        return [*above, "/", *below]

    def unit_power(self) -> list[str]:
        """`^2` or `^{2}` as one word, if it stands here."""
        return ["^" + self.braced(self.digits)] if self.accept("^") else []

    def is_unit_letter(self, before: Sequence[str] = ()) -> bool:
        """True for the m of 5 m and m/s; where nothing stands in brackets and the reference has no letters, of 5m."""
        if self.kind != LETTERS or self.value not in units.UNIT_LETTERS or self.is_reference:
            return False
        run_in = self.peek(-1)[0] == NUMBER and not (self.match or self.letters)
        return (self.spaced or before[-1:] == ["/"] or run_in) and self.value not in self.letters

    def is_unit_to_the_end(self) -> bool:
        """True if nothing but units, powers and a slash follows: m, m^3, m/s^2."""
        return all(
            value in units.UNIT_LETTERS or (kind in (NUMBER, SIGN) and value in UNIT_SIGNS)
            for kind, value, _ in self.tokens[self.position : self.end]
        )


def lift_unit(value: Value) -> tuple[Value, str]:
    """A degree or per cent sign taken off the whole of an expression: (expression, unit or "")."""
    if type(value) is not tuple or value[0] == "num":
        return value, ""
    kind = value[0]
    if kind in ("deg", "pct"):
        return value[1], "degree" if kind == "deg" else "percent"
    if kind in ("*", "+"):
        lifted = [lift_unit(part) for part in value[1]]
        signs = [unit for _, unit in lifted]
        is_angle = set(signs) == {"degree"} if kind == "+" else signs[-1] == "degree" and not any(signs[:-1])
        if is_angle:
            return (kind, tuple(inner for inner, _ in lifted)), "degree"
    return value, ""
