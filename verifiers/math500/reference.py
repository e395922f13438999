r"""What is known of a reference before any answer is compared with it.

A reference is a text such as `\boxed{\frac{3}{56}}` or `\text{(C)}`. `4:45\text{ p.m.}` is only compared as text.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from verifiers import batch
from verifiers.amounts import NAMES, SIGNS, currencies_of
from verifiers.errors import invalid_reference
from verifiers.extract import BOX, last_box, last_line
from verifiers.math500.asked.form import NO_FORM
from verifiers.math500.compare.meaning import meaning
from verifiers.math500.compare.same import Comparison
from verifiers.math500.read import text
from verifiers.math500.read.lexer import COMMAND, LETTERS, OMEGA, Malformed, Unsupported, tokens_of
from verifiers.math500.read.markup import CHOICES, YES_OR_NO, without_approximation
from verifiers.math500.read.reader import read
from verifiers.math500.read.tree import symbols
from verifiers.math500.read.units import is_in_symbols, letter_of
from verifiers.math500.read.values import Quantity, Several, Value, Words, expressions, is_expression
from verifiers.verdicts import encoded

POINTS_APART = 4  # letters of the alphabet from the first point of a figure to its last


class Reference:
    """A reference: its text, its normal text (`key`), its letters (`variables`), its meaning, and its kind.

    The meaning is None in two cases: if only a computer algebra system can read the text; and if `is_text` is true,
    because no grammar reads the text, its value is undefined, or it is a name or a code.
    """

    def __init__(self, answer: str) -> None:
        self.text = answer
        self.is_integer = is_short_integer(answer)
        # Its digits and base if letters are among the digits: ("FE", "16") for FE_{16}.
        self.digits = None if self.is_integer or len(answer) > 40 else text.digits_of(answer)
        self.key = text.key(answer)
        self.is_choice = len(self.key) == 1 and self.key in CHOICES
        self.is_yes_or_no = self.key.lower() in YES_OR_NO
        self.is_time = "m" in self.key.lower() and text.is_time_of_day(answer)  # 4:30 p.m.
        self.is_money = False
        self.has_logarithm = "\\log" in answer or "\\ln" in answer
        self.is_name = is_name_of_capitals(answer.strip())
        self.unit_letter = ""  # the letter that stands for its unit: the W of 5 watts
        self.takes_reason = False  # it is in words, which "because" may follow: Paris
        self.clock: Value | None = None  # its meaning as a ratio if it may be hours and minutes: 14:30
        self.noun = ""  # the noun or unit behind its number, which may also be a product: box of 1 box
        # Its text with this noun or unit marked as text, so that it is not read as a product.
        self.counted = ""
        self.is_list = False  # it is a list, in which a comma may divide values or group digits: 27,108
        self.has_constant = answer.rstrip(" $.").endswith(("+C", "+ C"))  # it has a constant of integration
        self.variables: frozenset[str] = frozenset()
        self.mixed = False  # it has a mixed number, or a word such as "million"
        self.worded = False  # it has words before the value
        self.is_text = False  # it is compared as text
        self.meaning: Value | None = ("num", int(answer), 1) if self.is_integer else None
        if not self.is_integer:
            if is_name_or_code(answer.strip()):
                self.is_text = True
            else:
                self.read(answer)
                number, _, last = answer.rpartition(" ")
                self.noun = last if self.may_count(number, last) else ""
                self.counted = f"{number} \\text{{{last}}}" if self.noun else ""
            self.takes_reason = self.is_choice or self.is_text or self.is_name or type(self.meaning) is Words

    def read(self, answer: str) -> None:
        """Finds the meaning; sets `is_text` if no grammar reads the text."""
        try:
            # Here, None for letters says that the text is the reference itself.
            tokens = tokens_of(without_approximation(answer).strip(), variables=None)
            self.variables = frozenset(value for kind, value, _ in tokens if kind == LETTERS)
            if any(token[:2] == (COMMAND, "Omega") for token in tokens):
                self.variables |= {OMEGA}
            reading = read(tokens, letters=None)
            value = meaning(reading.value)
            self.mixed, self.worded = reading.mixed, reading.worded
            self.clock = reading.value if text.is_clock(answer) else None
            comparison = Comparison(2 * len(answer), strict=False, form=NO_FORM)
            comparison.same(value, value)  # raises where it is undefined
            self.meaning = value
            if type(value) is Quantity:  # the letters of a unit are no variables
                self.variables = frozenset().union(*map(symbols, expressions(value)))
            self.is_list = type(value) is Several
            self.unit_letter = letter_of(value.unit) if type(value) is Quantity else ""
            self.is_money = type(value) is Quantity and currencies_of(value.unit.partition(" / ")[0]) > 0
        except Unsupported:
            pass
        except (Malformed, ArithmeticError, ValueError, RecursionError):
            self.is_text = True

    @property
    def is_one_value(self) -> bool:
        """True for an expression, perhaps with a unit; false for a list, an interval or words."""
        return is_expression(self.meaning.value if type(self.meaning) is Quantity else self.meaning)

    def may_count(self, number: str, noun: str) -> bool:
        """True if the reference is read as a product, but may be a number with a unit or a noun of 2 or 3 letters."""
        is_product = is_expression(self.meaning) and self.meaning[0] in ("*", "/")
        if not (is_product and self.variables == frozenset(filter(str.isalpha, noun))):
            return False
        is_run = 2 <= len(noun) <= 3 and noun.isalpha() and noun.islower() and noun.isascii()
        ends_number = number[-1:].isdigit() or number.endswith("}")
        return ends_number and (is_run or is_in_symbols(noun))


def is_short_integer(answer: str) -> bool:
    """True for at most 18 ASCII digits, with or without a minus before them."""
    digits = answer.removeprefix("-")
    return len(digits) <= 18 and digits.isdigit() and digits.isascii()


def is_name_or_code(answer: str) -> bool:
    """True for a text that is compared as it is written, although it could be read as mathematics.

    New York is no product of letters. 2-3 and SKU-12 are no differences: digits joined by hyphens are a date, a range,
    a score or the number of a phone. ($5) may be -5, and €12,50 may be €12.50.
    """
    if is_slash_date(answer) or has_decimal_comma(answer):
        return True
    if answer.startswith("(") and answer.endswith(")") and answer[1:2] in SIGNS and "," not in answer:
        return True  # ($5)
    parts = answer.replace("-", " ").split(" ")
    if not answer.isascii() or len(parts) == 1:
        return False
    if " " not in answer and all(map(str.isalnum, parts)):  # 2-3, SKU-12
        has_letters_of_code = any(len(part) > 2 and part.isalpha() and part.isupper() for part in parts)
        has_digits = any(map(str.isdigit, parts))
        return has_digits and all(
            part.isdigit() or (has_letters_of_code and part.isupper()) for part in parts
        )
    # New York, Isle of Man.
    is_named = parts[0][:1].isupper() and parts[-1][:1].isupper() and "and" not in parts
    return is_named and all(len(part) > 1 and part.isalpha() and part[1:].islower() for part in parts)


def is_name_of_capitals(answer: str) -> bool:
    """True for US, HCl and DNA, whose letters keep their order; false for AB and BCA, which may be segments and angles.

    Letters are points if all differ and lie within five neighbours of the alphabet. Two points must also be in
    alphabetical order.
    """
    capitals = [letter for letter in answer if letter.isupper()]
    if not (answer.isascii() and answer.isalpha() and answer[0].isupper() and len(capitals) > 1):
        return False
    letters = sorted(set(answer))
    letters_of_points = capitals if len(capitals) == 2 else sorted(answer)  # two in the order of the text
    are_close = ord(letters[-1]) - ord(letters[0]) <= POINTS_APART
    return not (letters == letters_of_points and are_close)


def is_slash_date(answer: str) -> bool:
    """True for 1/31/2024 and 2024/01/31, which are no fractions."""
    parts = answer.split("/")
    return len(parts) == 3 and all(map(str.isdigit, parts)) and 4 in (len(parts[0]), len(parts[2]))


def has_decimal_comma(answer: str) -> bool:
    """True for one amount of money with one or two digits behind a comma: €12,50, which is no list of two."""
    words = [word for word in answer.split() if word.lower() not in NAMES]
    amount = " ".join(words).strip("\\ " + "".join(SIGNS))
    whole, _, cents = amount.partition(",")
    is_amount = whole.replace(".", "").isdigit() and cents.isdigit() and len(cents) <= 2
    return is_amount and amount != answer and answer.count("$") < 2


def is_compared_as_text(answer: object) -> bool:
    """True for a reference that cannot be read as mathematics, so that only its own spelling is right."""
    reference = reference_of(answer, index=None)
    return reference.is_text and not reference.is_time  # a time is compared by `is_same_time`


def compared_as_text(count: int, of: str, examples: Sequence[str]) -> str:
    """A sentence for the user on `count` references for which `is_compared_as_text` is true, with examples.

    `of`: the references among which they are, such as "500 references".
    """
    shown = ", ".join(f"{example:.40}" for example in dict.fromkeys(examples))
    return (
        f"{count:,} of {of} cannot be read as mathematics and are compared as text ({shown}): "
        "only their own spelling is right."
    )


@lru_cache(maxsize=8192)
def _read(answer: str) -> Reference | None:
    """The reference in a text, which may stand in a box or behind ####; None if there is only white space."""
    data = encoded(answer)
    _, start, end = last_box(data, 0, len(data), BOX)  # "The answer is \\boxed{5}."
    if start < 0:
        start, end = last_line(data, 0, len(data))  # GSM8K's column
    has_mark = start >= 0
    inside = data[start:end].decode("utf-8", "surrogatepass") if has_mark else answer
    return Reference(inside.strip()) if inside.strip() else None


def reference_of(answer: object, index: int | None) -> Reference:
    """The reference that a value of the column `answer` holds; raises `InvalidReferenceError` if it holds none.

    `index`: the row of the value, which the error names; None outside of a batch.
    """
    exact = answer if type(answer) is str else batch.as_reference(answer)
    reference = None if exact is None else _read(exact)
    if reference is None:
        problem = "is neither text nor a number, or empty; an answer is LaTeX such as '\\\\frac{3}{56}', or a number"
        if isinstance(answer, bool):
            problem += f'. Write a truth value as text, "{answer}"'
        elif isinstance(answer, list | tuple) and answer:
            problem += f'. Write several values as one text, "{", ".join(map(str, answer)):.60}"'
        raise invalid_reference("answer", answer, problem, index)
    return reference
