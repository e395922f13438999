"""Completions against references: what is extracted, in which format, and what the tiers say about it."""

from __future__ import annotations

import logging
from functools import lru_cache
from typing import TYPE_CHECKING

from verifiers import batch
from verifiers.errors import invalid_reference
from verifiers.extract import is_alone, last_box, locate, strip
from verifiers.math500 import normal_text
from verifiers.math500.exact import Undefined
from verifiers.math500.lexer import LETTERS, TEXT_LIMIT, Malformed, Unsupported
from verifiers.math500.parser import Parser
from verifiers.math500.probe import NO, UNSURE, YES
from verifiers.math500.tree import Node
from verifiers.math500.typed import Comparison
from verifiers.registry import Task
from verifiers.verdicts import REASONS, TIERS, Reason, Tier, Verdict, Verdicts

if TYPE_CHECKING:
    from collections.abc import Sequence

CACHE_LIMIT = 1 << 16  # pairs remembered within one batch
CHOICES = "ABCDEFGH"
REASON_CODES = {reason: code for code, reason in enumerate(REASONS)}
TIER_CODES = {tier: code for code, tier in enumerate(TIERS)}

Outcome = tuple[Reason, Tier] | None  # None: only a computer algebra system can tell


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
    """The parsed reference; raises `InvalidReferenceError`."""
    exact = batch.as_text(answer)
    problem = f"is a {type(answer).__name__}; an answer is a string such as '\\\\frac{{3}}{{56}}'"
    parsed = problem if exact is None else _parsed(exact)
    if isinstance(parsed, Reference):
        return parsed
    raise invalid_reference("answer", answer, parsed, index)


def judge(answer: str, gold: Reference, lenient: bool) -> Outcome:
    """(reason, tier) of an extracted answer by all tiers but the last, cheapest first. Never raises."""
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
        parser = Parser(answer, gold.variables)
        node = parser.answer()
        if gold.node is None:
            return None
        if parser.mixed and not (lenient or gold.mixed):
            return Reason.MALFORMED, Tier.TYPED
        verdict = comparison.same(node, gold.node)
    except Unsupported:
        return None if lenient or gold.node is None else (Reason.MALFORMED, Tier.GRAMMAR)
    except Malformed:
        return Reason.MALFORMED, Tier.GRAMMAR
    except (Undefined, ArithmeticError, RecursionError):
        return Reason.WRONG, Tier.PROBE
    return None if verdict == UNSURE else (Reason.OK if verdict == YES else Reason.WRONG, comparison.tier)


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


def ask_cas(pairs: Sequence[tuple[str, str]], patient: bool = True) -> list[tuple[Reason, Tier]]:
    """What the computer algebra system says about (answer, reference) pairs; logs what keeps it from answering."""
    from verifiers.math500 import cas

    names = {"equal": Reason.OK, "different": Reason.WRONG, "timeout": Reason.TIMEOUT, "error": Reason.ERROR}
    outcomes = cas.equal_many(pairs, patient)
    problem = next((detail for name, detail in outcomes if name == "error"), None)
    if problem is not None:
        logging.getLogger("verifiers").warning("math500: some answers end as reason=error: %s", problem)
    return [(names[name], Tier.CAS) for name, _ in outcomes]


def format_of(data: bytes, low: int, high: int, boxed: bool) -> Reason:
    """Strict mode: OK if the block holds one box and nothing else; another box before it is a hedge."""
    if not boxed:
        return Reason.MALFORMED
    start = data.rfind(b"<answer>", 0, low) + 8
    _, other, other_end = last_box(data, start, data.rfind(b"\\boxed", start, low))
    if other >= 0 and data[slice(*strip(data, other, other_end))] != data[low:high]:
        return Reason.HEDGE
    return Reason.OK if is_alone(data, start - 8, len(data), low, high, False) else Reason.MALFORMED


def encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def cut(text: str, low: int, high: int) -> str:
    """The text at these places of its UTF-8 bytes."""
    return text[low:high] if text.isascii() else encoded(text)[low:high].decode("utf-8", "surrogatepass")


def _verify(completion: object, *, mode: str, answer: object) -> Verdict:
    gold = reference_of(answer, None)
    text = batch.as_text(completion)
    if text is None:
        return Verdict(False, 0.0, None, Reason.MALFORMED, Tier.TEXT)
    lenient, data = mode == "lenient", encoded(text)
    status, low, high, boxed = locate(data, 0, len(data), lenient)
    extracted = cut(text, low, high) if low >= 0 else None
    reason, tier = REASONS[status], Tier.TEXT
    if reason is Reason.OK and not lenient:
        reason = format_of(data, low, high, boxed)
    if reason == Reason.OK:
        reason, tier = judge(extracted, gold, lenient) or ask_cas([(extracted, gold.text)], patient=False)[0]
    return Verdict(reason == Reason.OK, float(reason == Reason.OK), extracted, reason, tier)


def _verify_batch(completions: list[object], *, mode: str, answer: list[object]) -> Verdicts:
    import numpy as np

    texts, no_texts = batch.as_texts(completions)
    golds = [reference_of(text, row) for row, text in enumerate(answer)]
    lenient = mode == "lenient"
    statuses, boxed, spans = batch.locate_all(texts, lenient)
    judge_once = lru_cache(CACHE_LIMIT)(judge)
    outcomes: list[Outcome] = []
    undecided: dict[tuple[str, str], list[int]] = {}
    columns = zip(texts, golds, statuses.tolist(), boxed.tolist(), spans.tolist(), strict=True)
    for row, (text, gold, status, from_box, (low, high)) in enumerate(columns):
        reason = REASONS[status]
        if reason is Reason.OK and not lenient:
            reason = format_of(encoded(text), low, high, from_box)
        if reason is not Reason.OK:
            outcomes.append((reason, Tier.TEXT))
            continue
        extracted = cut(text, low, high)
        outcomes.append(judge_once(extracted, gold, lenient))
        if outcomes[-1] is None:
            undecided.setdefault((extracted, gold.text), []).append(row)
    for row in no_texts:
        outcomes[row] = Reason.MALFORMED, Tier.TEXT
        spans[row] = -1
    if undecided:
        for rows, outcome in zip(undecided.values(), ask_cas(list(undecided)), strict=True):
            for row in rows:
                outcomes[row] = outcome
    reasons = np.array([REASON_CODES[reason] for reason, _ in outcomes], np.int8)
    tiers = np.array([TIER_CODES[tier] for _, tier in outcomes], np.int8)
    correct = reasons == REASON_CODES[Reason.OK]
    return Verdicts(correct, correct.astype(np.float64), reasons, tiers, spans, texts)


TASK = Task("math500", ("answer",), _verify, _verify_batch)
