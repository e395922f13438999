r"""What is known of a reference, such as `\boxed{\frac{3}{56}}` or `(C)`, before any answer is compared with it."""

from __future__ import annotations

from functools import lru_cache

from verifiers import batch
from verifiers.errors import invalid_reference
from verifiers.math500.compare.meaning import meaning
from verifiers.math500.compare.same import compared
from verifiers.math500.parser import read
from verifiers.math500.tree import symbols
from verifiers.math500.values import Quantity, Value, expressions, is_expression
from verifiers.reading import markup
from verifiers.reading.amounts import currencies_of
from verifiers.reading.answer import last_box, last_hashes
from verifiers.reading.problem import UNKNOWN
from verifiers.reading.tokens import LETTERS, Malformed, Unsupported, tokens_of


class Reference:
    """A reference: its text, its normal text (`key`), its letters (`variables`), its meaning, and its kind.

    The meaning is None in two cases: if only a computer algebra system can read the text; and if `is_text` is true,
    because no grammar reads the text, its value is undefined, or it is a code such as INV-2024-007.
    """

    def __init__(self, answer: str) -> None:
        self.text = answer
        self.is_integer = is_short_integer(answer)
        # Its digits and base if letters are among the digits: ("FE", "16") for FE_{16}.
        self.digits = None if self.is_integer or len(answer) > 40 else markup.digits_of(answer)
        self.key = markup.key(answer)
        self.has_logarithm = "\\log" in answer or "\\ln" in answer
        # The same text with a space behind each comma, if the commas may group digits or part values: 70,110.
        self.with_commas_apart = answer.replace(",", ", ") if markup.GROUPED.fullmatch(answer) else ""
        self.is_money = False
        self.variables: frozenset[str] = frozenset()
        self.mixed = False  # it has a mixed number, or a word such as "million"
        self.worded = False  # it has words before the value
        self.is_text = markup.CODE.match(answer) is not None  # it is compared as text
        self.meaning: Value | None = ("num", int(answer), 1) if self.is_integer else None
        if not (self.is_integer or self.is_text):
            try:
                self.read(answer)
            except Unsupported:
                pass
            except (Malformed, ArithmeticError, ValueError, RecursionError):
                self.is_text = True

    def read(self, answer: str) -> None:
        """Finds the meaning."""
        tokens = tokens_of(markup.without_approximation(answer).strip(), variables=None)
        self.variables = frozenset(value for kind, value, _ in tokens if kind == LETTERS)
        reading = read(tokens, letters=None)  # None says that the text is the reference itself
        value = meaning(reading.value)
        self.mixed, self.worded = reading.mixed, reading.worded
        compared(value, value, UNKNOWN, strict=False, length=2 * len(answer))  # raises where it is undefined
        self.meaning = value
        if type(value) is Quantity:  # the letters of a unit are no variables
            self.variables = frozenset().union(*map(symbols, expressions(value)))
            self.is_money = currencies_of(value.unit) > 0

    @property
    def is_one_value(self) -> bool:
        """True for an expression, perhaps with a unit; false for a list, an interval or words."""
        return is_expression(self.meaning.value if type(self.meaning) is Quantity else self.meaning)


def is_short_integer(answer: str) -> bool:
    """True for at most 18 ASCII digits, with or without a minus before them."""
    digits = answer.removeprefix("-")
    return len(digits) <= 18 and digits.isdigit() and digits.isascii()


def is_empty(text: str) -> bool:
    r"""True for a text of layout alone: `$$`, `\text{}`, `()`, `**`; false for a symbol and for the set `\{\}`."""
    try:
        return all(
            value in _EMPTY
            for _, value, _ in tokens_of(markup.BOLD_OR_DELIMITER.sub("", text), variables=None)
        )
    except Malformed:
        return False


_EMPTY = frozenset("{}()[]'\"`")


@lru_cache(maxsize=8192)
def _read(answer: str) -> Reference | None:
    """The reference in a text, which may stand in a box or behind ####; None if nothing but layout is in it."""
    box = last_box(answer, 0, len(answer))  # "The answer is \\boxed{5}."
    marked = box[1:] if box else last_hashes(answer, 0, len(answer))  # GSM8K's column
    inside = (answer[slice(*marked)] if marked else answer).strip()
    return None if is_empty(inside) else Reference(inside)


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


def references_of(answers: list[object]) -> list[Reference]:
    """`reference_of` for each value of a column; of texts, in a third of the time."""
    golds = list(map(_read, answers)) if set(map(type, answers)) == {str} else [None]
    if None in golds:
        return [reference_of(answer, index) for index, answer in enumerate(answers)]
    return golds
