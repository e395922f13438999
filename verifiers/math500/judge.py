"""One answer against one reference by all tiers but the last, cheapest first."""

from __future__ import annotations

from functools import lru_cache

from verifiers import batch
from verifiers.errors import InvalidReferenceError, shown
from verifiers.math500 import normal_text
from verifiers.math500.exact import Undefined
from verifiers.math500.lexer import LETTERS, TEXT_LIMIT, Malformed, Unsupported, tokenize
from verifiers.math500.parser import Parser
from verifiers.math500.probe import NO, UNSURE, YES
from verifiers.math500.tree import Node
from verifiers.math500.typed import Comparison
from verifiers.verdicts import Reason, Tier

CHOICES = "ABCDEFGH"
_NEEDS_CAS = None

Outcome = tuple[Reason, Tier] | None  # None: only a computer algebra system can tell


class Reference:
    """A parsed reference: its text, its normal text, its tree (None: opaque to our parser), its letters.

    Raises `Malformed` or `Undefined`, also where it is not equal to itself.
    """

    def __init__(self, answer: str) -> None:
        self.text = answer
        self.is_integer = is_short_integer(answer)
        self.key = normal_text.key(answer)
        tokens = tokenize(answer, None)
        self.variables = frozenset(value for kind, value, _ in tokens if kind == LETTERS)
        parser = Parser(tokens, None)
        self.mixed = False
        self.node: Node | None = None
        try:
            self.node = parser.answer()
            self.mixed = parser.mixed
            if Comparison(2 * len(answer), False).same(self.node, self.node) == NO:
                raise Malformed("it is not equal to itself")
        except Unsupported:
            pass


def is_short_integer(answer: str) -> bool:
    """True for at most 18 ASCII digits, with or without a minus before them."""
    digits = answer.removeprefix("-")
    return len(digits) <= 18 and digits.isdigit() and digits.isascii()


@lru_cache(maxsize=8192)
def _parsed(answer: str) -> Reference | str:
    """The reference, or what is wrong with it."""
    if not answer.strip():
        return "is empty; give the answer as LaTeX, such as '\\\\frac{3}{56}'"
    if len(answer) > TEXT_LIMIT:
        return f"has more than {TEXT_LIMIT} characters; give the answer alone, not the solution"
    try:
        return Reference(answer.strip())
    except (Malformed, Undefined, RecursionError) as error:
        problem = str(error) or "it is no expression"
        return f"does not parse ({problem}); give the answer alone as LaTeX, such as '\\\\frac{{3}}{{56}}'"


def reference_of(answer: object, index: int | None) -> Reference:
    """The parsed reference; raises `InvalidReferenceError`."""
    exact = batch.as_text(answer)
    if exact is None:
        parsed = f"is a {type(answer).__name__}; an answer is a string such as '\\\\frac{{3}}{{56}}'"
    else:
        parsed = _parsed(exact)
    if isinstance(parsed, Reference):
        return parsed
    where = "answer" if index is None else f"answer[{index}]"
    raise InvalidReferenceError(
        f"{where}={shown(answer)} {parsed}.", argument="answer", index=index, value=answer
    )


def judge(answer: str, gold: Reference, lenient: bool) -> Outcome:
    """(reason, tier) of an extracted answer; None if a computer algebra system has to be asked. Never raises."""
    if answer == gold.text:
        return Reason.OK, Tier.TEXT
    if gold.is_integer and is_short_integer(answer):
        return (Reason.OK if int(answer) == int(gold.text) else Reason.WRONG), Tier.RATIONAL
    if len(answer) > TEXT_LIMIT:
        return Reason.MALFORMED, Tier.TEXT
    if normal_text.key(answer) == gold.key:
        return Reason.OK, Tier.TEXT
    if lenient and len(gold.key) == 1 and gold.key in CHOICES and leading_choice(answer) == gold.key:
        return Reason.OK, Tier.TYPED
    comparison = Comparison(len(answer) + len(gold.text), not lenient)
    try:
        parser = Parser(tokenize(answer, gold.variables), gold.variables)
        node = parser.answer()
        if gold.node is None:
            return _NEEDS_CAS
        if parser.mixed and not (lenient or gold.mixed):
            return Reason.MALFORMED, Tier.TYPED
        verdict = comparison.same(node, gold.node)
    except Unsupported:
        return _NEEDS_CAS if lenient or gold.node is None else (Reason.MALFORMED, Tier.GRAMMAR)
    except Malformed:
        return Reason.MALFORMED, Tier.GRAMMAR
    except (Undefined, ArithmeticError, RecursionError):
        return Reason.WRONG, Tier.PROBE
    if verdict == UNSURE:
        return _NEEDS_CAS
    return (Reason.OK if verdict == YES else Reason.WRONG), comparison.tier


def leading_choice(answer: str) -> str:
    r"""The letter of an answer such as `\textbf{(C)}\ 12`: one choice and what it says; "" if it names another."""
    before, _, behind = answer.partition("(")
    if behind[1:2] != ")" or before.strip() not in ("", "\\text{", "\\textbf{", "\\mathrm{"):
        return ""
    rest = behind[2:].lstrip("}")
    if rest and not rest.startswith((" ", ".", ":", "~", "\\ ", "\\,", "\\;", "\\q")):
        return ""
    others = any(f"({other})" in rest or f"{{{other}}}" in rest for other in CHOICES)
    return "" if others or "or" in rest.replace("}", " ").split() else behind[0]
