r"""MATH: is this answer the same mathematical object as the reference, whatever its notation?

Reference: `answer`, LaTeX as in the MATH data set: `\frac{3}{56}`, `(-\infty, 2) \cup (3, \infty)`, `2516_8`. Tiers,
cheapest first: normalised text, exact rationals, typed comparison, a numeric probe that proves or refutes, and a
computer algebra system behind a process wall. See docs/verifiers/math500.md.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from verifiers import _math_text, batch
from verifiers._exact import Undefined
from verifiers._latex_answer import Parser
from verifiers._latex_tokens import LETTERS, TEXT_LIMIT, Malformed, Unsupported, tokenize
from verifiers._probe import NO, YES
from verifiers._trees import Node
from verifiers._typed import Comparison
from verifiers._units import KNOWN_WORDS
from verifiers.errors import InvalidReferenceError, shown
from verifiers.extract import FOUND, HEDGE, NO_ANSWER, last_box, locate, strip
from verifiers.registry import Task
from verifiers.verdicts import Reason, Tier, Verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from verifiers.verdicts import Verdicts

CACHE_LIMIT = 1 << 16  # pairs remembered within one batch
_NEEDS_CAS = None
_REASON_CODES = {reason: reason.code for reason in Reason}
_TIER_CODES = {tier: tier.code for tier in Tier}

Outcome = tuple[Reason, Tier] | None  # None: only a computer algebra system can tell


class Reference:
    """A parsed reference: its text, its normal text, its tree (None: opaque to our parser), its letters."""

    __slots__ = ("is_whole", "key", "mixed", "node", "text", "variables")

    def __init__(self, text: str) -> None:
        self.text = text
        self.is_whole = is_plain_whole(text)
        self.key = _math_text.key(text)
        tokens = tokenize(text, None, KNOWN_WORDS)
        self.variables = frozenset(value for kind, value, _ in tokens if kind == LETTERS)
        parser = Parser(tokens, None)
        self.mixed = False
        self.node: Node | None = None
        try:
            self.node = parser.answer()
            self.mixed = parser.mixed
        except Unsupported:
            pass


def is_plain_whole(text: str) -> bool:
    """True for at most 18 ASCII digits, with or without a minus before them."""
    digits = text[1:] if text[:1] == "-" else text
    return len(digits) <= 18 and digits.isdigit() and digits.isascii()


@lru_cache(maxsize=8192)
def _parsed(text: str) -> Reference | str:
    """The reference, or what is wrong with it."""
    if not text.strip():
        return "is empty; give the answer as LaTeX, such as '\\\\frac{3}{56}'"
    if len(text) > TEXT_LIMIT:
        return f"has more than {TEXT_LIMIT} characters; give the answer alone, not the solution"
    try:
        reference = Reference(text.strip())
        if reference.node is not None:
            self_check(reference)
        return reference
    except (Malformed, Undefined, RecursionError) as error:
        problem = str(error) or "it is no expression"
        return f"does not parse ({problem}); give the answer alone as LaTeX, such as '\\\\frac{{3}}{{56}}'"


def self_check(reference: Reference) -> None:
    """A reference must be equal to itself; raises where it is not even defined."""
    try:
        verdict = Comparison(2 * len(reference.text), False).same(reference.node, reference.node)  # type: ignore[arg-type]
    except Unsupported:
        return
    if verdict == NO:
        raise Malformed("it is not equal to itself")


def reference_of(answer: object, index: int | None) -> Reference:
    """The parsed reference; raises `InvalidReferenceError`."""
    text = batch.as_text(answer)
    if text is None:
        problem = f"is a {type(answer).__name__}; an answer is a string such as '\\\\frac{{3}}{{56}}'"
    else:
        found = _parsed(text)
        if isinstance(found, Reference):
            return found
        problem = found
    where = "answer" if index is None else f"answer[{index}]"
    raise InvalidReferenceError(
        f"{where}={shown(answer)} {problem}.", argument="answer", index=index, value=answer
    )


def judge(answer: str, gold: Reference, lenient: bool) -> Outcome:
    """(reason, tier) of an extracted answer; None if a computer algebra system has to be asked. Never raises."""
    if answer == gold.text:
        return Reason.OK, Tier.TEXT
    if gold.is_whole and is_plain_whole(answer):
        return (Reason.OK if int(answer) == int(gold.text) else Reason.WRONG), Tier.RATIONAL
    if len(answer) <= TEXT_LIMIT and _math_text.key(answer) == gold.key:
        return Reason.OK, Tier.TEXT
    if len(answer) > TEXT_LIMIT:
        return Reason.MALFORMED, Tier.TEXT
    if lenient and gold.key in "ABCDEFGH" and len(gold.key) == 1 and leading_choice(answer) == gold.key:
        return Reason.OK, Tier.TYPED
    comparison = Comparison(len(answer) + len(gold.text), not lenient)
    try:
        tokens = tokenize(answer, gold.variables, KNOWN_WORDS)
        parser = Parser(tokens, gold.variables)
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
    if verdict not in (YES, NO):
        return _NEEDS_CAS
    return (Reason.OK if verdict == YES else Reason.WRONG), comparison.tier


def leading_choice(answer: str) -> str:
    r"""The letter of an answer such as `\textbf{(C)}\ 12`: one choice and what it says; "" if it names another."""
    position = answer.find("(")
    letter = answer[position + 1 : position + 3]
    before = answer[:position].strip()
    if (
        position < 0
        or len(letter) < 2
        or letter[1] != ")"
        or before not in ("", "\\text{", "\\textbf{", "\\mathrm{")
    ):
        return ""
    rest = answer[position + 3 :].lstrip("}")
    if rest and not (rest[0] in " .:~" or rest[:2] in ("\\ ", "\\,", "\\;", "\\q")):
        return ""
    others = any(f"({other})" in rest or f"{{{other}}}" in rest for other in "ABCDEFGH")
    return "" if others or "or" in rest.replace("}", " ").split() else letter[0]


def ask(pairs: Sequence[tuple[str, str]], patient: bool = True) -> list[tuple[Reason, Tier]]:
    """What the computer algebra system says about (answer, reference) pairs, asked once for each.

    One pair may be asked impatiently: within the hard deadline, the start of a worker included. What keeps it
    from answering (a package that is missing, say) is logged once for each call.
    """
    try:
        from verifiers import _cas
    except ImportError as error:
        _log(str(error))
        return [(Reason.ERROR, Tier.CAS)] * len(pairs)
    names = {"equal": Reason.OK, "different": Reason.WRONG, "timeout": Reason.TIMEOUT}
    found = _cas.equal_many(pairs) if patient else [_cas.equal(*pairs[0])]
    problems = [outcome.detail for outcome in found if str(outcome) == "error"]
    if problems:
        _log(problems[0])
    return [(names.get(str(outcome), Reason.ERROR), Tier.CAS) for outcome in found]


def _log(problem: str) -> None:
    import logging

    logging.getLogger("verifiers").warning("math500: some answers end as reason=error: %s", problem)


def status_of(found: int, text: str, low: int, high: int, boxed: bool, lenient: bool) -> Reason:
    """OK if there is an answer to judge, else why not."""
    if found == NO_ANSWER:
        return Reason.NO_ANSWER
    if found == HEDGE:
        return Reason.HEDGE
    if found != FOUND:
        return Reason.MALFORMED
    if lenient:
        return Reason.OK
    return strict_format(text.encode("utf-8", "surrogatepass"), low, high, boxed)


def cut(text: str, low: int, high: int) -> str:
    """The answer's text from its place in UTF-8 bytes."""
    if text.isascii():
        return text[low:high]
    return text.encode("utf-8", "surrogatepass")[low:high].decode("utf-8", "surrogatepass")


def strict_format(data: bytes, low: int, high: int, boxed: bool) -> Reason:
    """OK if the block holds one box and nothing else; another box before it is a hedge."""
    if not boxed:
        return Reason.MALFORMED
    start, end = data.rfind(b"<answer>", 0, low) + 8, data.find(b"</answer>", high)
    box = data.rfind(b"\\boxed", start, low)
    _, other, other_end = last_box(data, start, box)
    if other >= 0 and data[slice(*strip(data, other, other_end))] != data[low:high]:
        return Reason.HEDGE
    outer_low, outer_high = strip(data, start, end)
    alone = outer_low == box and data[high:outer_high].strip() == b"}"
    return Reason.OK if alone else Reason.MALFORMED


def _verify(completion: object, *, mode: str, answer: object) -> Verdict:
    gold = reference_of(answer, None)
    text = batch.as_text(completion)
    if text is None:
        return Verdict(False, 0.0, None, Reason.MALFORMED, Tier.TEXT)
    lenient = mode == "lenient"
    data = text.encode("utf-8", "surrogatepass")
    found, low, high, boxed = locate(data, 0, len(data), lenient)
    reason, tier = status_of(found, text, low, high, boxed, lenient), Tier.TEXT
    extracted = cut(text, low, high) if low >= 0 else None
    if reason == Reason.OK and extracted is not None:
        outcome = judge(extracted, gold, lenient)
        reason, tier = outcome if outcome is not None else ask([(extracted, gold.text)], patient=False)[0]
    return Verdict(reason == Reason.OK, float(reason == Reason.OK), extracted, reason, tier)


def _verify_batch(completions: list[object], *, mode: str, answer: list[object]) -> Verdicts:
    import numpy as np

    from verifiers.batch import locate_all
    from verifiers.verdicts import Verdicts

    texts, strangers = batch.as_texts(completions)
    golds = [reference_of(text, row) for row, text in enumerate(answer)]
    lenient = mode == "lenient"
    found, boxed, spans = locate_all(texts, lenient)
    seen: dict[tuple[str, str], Outcome] = {}
    outcomes: list[Outcome] = []
    waiting: dict[tuple[str, str], list[int]] = {}
    columns = zip(texts, golds, found.tolist(), boxed.tolist(), spans.tolist(), strict=True)
    for row, (text, gold, code, from_box, (low, high)) in enumerate(columns):
        reason = (
            Reason.OK if code == FOUND and lenient else status_of(code, text, low, high, from_box, lenient)
        )
        if reason != Reason.OK:
            outcomes.append((reason, Tier.TEXT))
            continue
        pair = cut(text, low, high), gold.text
        if pair in seen:
            outcome = seen[pair]
        else:
            outcome = judge(pair[0], gold, lenient)
            if len(seen) < CACHE_LIMIT:
                seen[pair] = outcome
        if outcome is None:
            waiting.setdefault(pair, []).append(row)
        outcomes.append(outcome)
    if waiting:
        for rows, answered in zip(waiting.values(), ask(list(waiting)), strict=True):
            for row in rows:
                outcomes[row] = answered
    for row in strangers:
        outcomes[row] = Reason.MALFORMED, Tier.TEXT
        spans[row] = -1
    reasons = np.array([_REASON_CODES[outcome[0]] for outcome in outcomes], np.int8)  # type: ignore[index]
    tiers = np.array([_TIER_CODES[outcome[1]] for outcome in outcomes], np.int8)  # type: ignore[index]
    correct = reasons == Reason.OK.code
    return Verdicts(correct, correct.astype(np.float64), reasons, tiers, spans, texts)


TASK = Task("math500", ("answer",), _verify, _verify_batch)
