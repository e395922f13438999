"""Completions against references: what is extracted, in which format, and what the tiers say about it."""

from __future__ import annotations

import logging
from functools import lru_cache
from typing import TYPE_CHECKING

from verifiers import batch, verdicts
from verifiers.errors import invalid_reference
from verifiers.extract import is_alone, last_box, locate, strip
from verifiers.math500 import normal_text
from verifiers.math500.exact import Undefined
from verifiers.math500.lexer import LETTERS, TEXT_LIMIT, Malformed, Unsupported
from verifiers.math500.parser import Parser
from verifiers.math500.probe import NO, UNSURE, YES
from verifiers.math500.tree import Node
from verifiers.math500.typed import Comparison
from verifiers.verdicts import GRAMMAR, MALFORMED, OK, PROBE, RATIONAL, TEXT, TYPED, WRONG, cut, encoded

if TYPE_CHECKING:
    from collections.abc import Sequence

CACHE_LIMIT = 1 << 16  # pairs remembered within one batch
CHOICES = "ABCDEFGH"

Outcome = tuple[int, int] | None  # reason and tier; None: only a computer algebra system can tell


class Reference:
    """A parsed reference: its text, its normal text, its tree (None: opaque to our parser), its letters.

    Raises `Malformed` or `Undefined`, also where it is not equal to itself.
    """

    def __init__(self, answer: str) -> None:
        self.text = answer
        self.is_integer = is_short_integer(answer)
        self.key = normal_text.key(answer)
        parser = Parser(answer, None)
        self.variables = frozenset(value for kind, value, _ in parser.tokens if kind == LETTERS)
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
    exact = batch.as_text(answer)
    problem = f"is a {type(answer).__name__}; an answer is a string such as '\\\\frac{{3}}{{56}}'"
    parsed = problem if exact is None else _parsed(exact)
    if isinstance(parsed, Reference):
        return parsed
    raise invalid_reference("answer", answer, parsed, index)


def judge(answer: str, gold: Reference, lenient: bool) -> Outcome:
    """(reason, tier) of an extracted answer by all tiers but the last, cheapest first. Never raises."""
    if answer == gold.text:
        return OK, TEXT
    if gold.is_integer and is_short_integer(answer):
        return (OK if int(answer) == int(gold.text) else WRONG), RATIONAL
    if len(answer) > TEXT_LIMIT:
        return MALFORMED, TEXT
    if normal_text.key(answer) == gold.key:
        return OK, TEXT
    if lenient:
        answer = normal_text.unwrapped(answer)
        if len(gold.key) == 1 and gold.key in CHOICES and leading_choice(answer) == gold.key:
            return OK, TYPED
    comparison = Comparison(len(answer) + len(gold.text), not lenient)
    try:
        parser = Parser(answer, gold.variables)
        node = parser.answer()
        if gold.node is None:
            return None
        if parser.mixed and not (lenient or gold.mixed):
            return MALFORMED, TYPED
        verdict = comparison.same(node, gold.node)
    except Unsupported:
        return None if lenient or gold.node is None else (MALFORMED, GRAMMAR)
    except Malformed:
        return MALFORMED, GRAMMAR
    except (Undefined, ArithmeticError, RecursionError):
        return WRONG, PROBE
    return None if verdict == UNSURE else (OK if verdict == YES else WRONG, comparison.tier)


def leading_choice(answer: str) -> str:
    r"""The letter of an answer such as `\textbf{(C)}\ 12`: one choice and what it says; "" if it names another."""
    before, _, behind = answer.partition("(")
    if behind[1:2] != ")" or before.strip() not in ("", "\\text{", "\\textbf{", "\\mathrm{"):
        return ""
    rest = behind[2:].lstrip("}")
    if rest and not rest.startswith((" ", ".", ":", "~", "\\ ", "\\,", "\\;", "\\q")):
        return ""
    words = "".join(c if c.isalnum() else " " for c in rest).split()
    others = any(word in CHOICES or word.lower() in ("or", "not") for word in words[words[:1] == ["A"] :])
    return "" if others else behind[0]


def ask_cas(pairs: Sequence[tuple[str, str]], patient: bool = True) -> list[tuple[int, int]]:
    """What the computer algebra system says about (answer, reference) pairs; logs what keeps it from answering."""
    from verifiers.math500 import cas

    codes = {"equal": OK, "different": WRONG, "timeout": verdicts.TIMEOUT, "error": verdicts.ERROR}
    outcomes = cas.equal_many(pairs, patient)
    problem = next((detail for name, detail in outcomes if name == "error"), None)
    if problem is not None:
        logging.getLogger("verifiers").warning("math500: some answers end as reason=error: %s", problem)
    return [(codes[name], verdicts.CAS) for name, _ in outcomes]


def format_of(data: bytes, low: int, high: int, boxed: bool) -> int:
    """Strict mode: OK if the block holds one box and nothing else; another box before it is a HEDGE."""
    if not boxed:
        return MALFORMED
    start = data.rfind(b"<answer>", 0, low) + 8
    _, other, other_end = last_box(data, start, data.rfind(b"\\boxed", start, low))
    if other >= 0 and data[slice(*strip(data, other, other_end))] != data[low:high]:
        return verdicts.HEDGE
    return OK if is_alone(data, start - 8, len(data), low, high, False) else MALFORMED


def _judge(data: bytes, lenient: bool, row: int | None, answer: object) -> batch.Judged:
    gold = reference_of(answer, row)
    reason, low, high, boxed = locate(data, 0, len(data), lenient)
    tier = TEXT
    if reason == OK and not lenient:
        reason = format_of(data, low, high, boxed)
    if reason == OK:
        extracted = data[low:high].decode("utf-8", "surrogatepass")
        reason, tier = judge(extracted, gold, lenient) or ask_cas([(extracted, gold.text)], patient=False)[0]
    return reason, tier, float(reason == OK), low, high


def _judge_all(texts: list[str], lenient: bool, answers: list[object]) -> batch.Columns:
    import numpy as np

    golds = [reference_of(text, row) for row, text in enumerate(answers)]
    statuses, boxed, spans = batch.locate_all(texts, lenient)
    judge_once = lru_cache(CACHE_LIMIT)(judge)
    outcomes: list[Outcome] = []
    undecided: dict[tuple[str, str], list[int]] = {}
    columns = zip(texts, golds, statuses.tolist(), boxed.tolist(), spans.tolist(), strict=True)
    for row, (text, gold, reason, from_box, (low, high)) in enumerate(columns):
        if reason == OK and not lenient:
            reason = format_of(encoded(text), low, high, from_box)
        if reason != OK:
            outcomes.append((reason, TEXT))
            continue
        extracted = cut(text, low, high)
        outcomes.append(judge_once(extracted, gold, lenient))
        if outcomes[-1] is None:
            undecided.setdefault((extracted, gold.text), []).append(row)
    if undecided:
        for rows, outcome in zip(undecided.values(), ask_cas(list(undecided)), strict=True):
            for row in rows:
                outcomes[row] = outcome
    reasons, tiers = np.array(outcomes, np.int8).reshape(-1, 2).T.copy()
    return reasons, tiers, (reasons == OK).astype(np.float64), spans


TASK = batch.text_task("math500", ("answer",), _judge, _judge_all)
