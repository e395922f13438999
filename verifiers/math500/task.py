"""Completions against references: what is extracted, in which format, and what the tiers say about it."""

from __future__ import annotations

import logging
import os
from concurrent.futures import ThreadPoolExecutor
from functools import cache, lru_cache
from itertools import count
from typing import TYPE_CHECKING

from verifiers import batch, verdicts
from verifiers.errors import invalid_reference
from verifiers.extract import is_alone, is_not_text, last_box, locate, read_tags, strip
from verifiers.limit import deadline
from verifiers.math500 import normal_text
from verifiers.math500.copies import is_asked, is_copy, sides_of
from verifiers.math500.exact import Undefined
from verifiers.math500.lexer import LETTERS, NUMBER, TEXT_LIMIT, Malformed, Token, Unsupported
from verifiers.math500.parser import OPENS, Parser
from verifiers.math500.probe import NO, UNSURE, YES
from verifiers.math500.tree import CONSTANTS, INDICES, Node
from verifiers.math500.typed import Comparison
from verifiers.math500.units import NEGATING
from verifiers.verdicts import (
    CAS,
    GRAMMAR,
    MALFORMED,
    NO_ANSWER,
    OK,
    PROBE,
    RATIONAL,
    TEXT,
    TYPED,
    WRONG,
    cut,
    encoded,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from verifiers.worker import Workers

CACHE_LIMIT = 1 << 16  # pairs remembered within one batch
MAX_WORKERS = 4
CHOICES = "ABCDEFGH"
ALIGNED = tuple(f"\\begin{{{name}}}" for name in ("aligned", "align", "align*", "gathered", "split"))
_CHOOSING = frozenset("option choice answer the is".split())
_ADVICE = "an answer is LaTeX such as '\\\\frac{3}{56}', or a number"

Outcome = tuple[int, int] | None  # reason and tier; None: only a computer algebra system can tell
_CAS_OUTCOMES = {
    "equal": (OK, CAS),
    "different": (WRONG, CAS),
    "unread": (WRONG, TEXT),  # as text it is another; see `judge`
    "timeout": (verdicts.TIMEOUT, CAS),
    "error": (verdicts.ERROR, CAS),
}
_judged_by_cas: dict[tuple[str, str], tuple[int, int]] = {}


class Reference:
    """A reference: its text, as it was written and to be read, its normal text, its letters, and its tree.

    The tree is None where only a computer algebra system can read it, and where no grammar does, or it is not equal to
    itself: then `is_text`.
    """

    def __init__(self, answer: str) -> None:
        self.text = self.written = answer
        self.is_integer = is_short_integer(answer)
        self.key = normal_text.key(answer)
        self.is_choice = len(self.key) == 1 and self.key in CHOICES
        self.variables: frozenset[str] = frozenset()
        self.has_constants = False  # or letters that are called like arbitrary ones
        self.mixed = self.signs = self.domain = self.is_text = False
        self.node: Node | None = None
        try:
            parser = Parser(answer, None)
            self.variables = frozenset(value for kind, value, _ in parser.tokens if kind == LETTERS)
            self.has_constants = not (CONSTANTS | INDICES).isdisjoint(self.variables)
            node = parser.answer()
            self.mixed, self.signs, self.domain = parser.mixed, parser.signs, parser.domain
            if Comparison(2 * len(answer), False).same(node, node) == NO:
                raise Malformed("it is not equal to itself")
            self.node = node
        except Unsupported:
            pass
        except (Malformed, Undefined, ArithmeticError, RecursionError):
            self.is_text = True


def is_short_integer(answer: str) -> bool:
    """True for at most 18 ASCII digits, with or without a minus before them."""
    digits = answer.removeprefix("-")
    return len(digits) <= 18 and digits.isdigit() and digits.isascii()


@lru_cache(maxsize=8192)
def _parsed(answer: str) -> Reference | None:
    if not answer.strip():
        return None
    if "\\boxed" in answer:  # "The answer is \\boxed{5}."
        data = encoded(answer)
        box, start, end = last_box(data, 0, len(data))
        answer = data[start:end].decode("utf-8", "surrogatepass") if box >= 0 else answer
    gold = Reference(answer.strip())
    trimmed = gold.text.strip(" ,;$").removeprefix("\\approx").removeprefix("approximately").strip()
    if not gold.is_text or trimmed in ("", gold.text) or trimmed.count("$") % 2:
        return gold
    read = Reference(trimmed)
    read.written = gold.text
    return read


def reference_of(answer: object, index: int | None) -> Reference:
    exact = answer if type(answer) is str else batch.as_reference(answer)
    if exact is None:
        raise invalid_reference("answer", answer, f"is a {type(answer).__name__}; {_ADVICE}", index)
    gold = _parsed(exact)
    if gold is None:
        raise invalid_reference("answer", answer, f"is empty; {_ADVICE}", index)
    return gold


def problem_of(problem: object, index: int | None) -> str | None:
    if problem is None or type(problem) is str:
        return problem
    exact = batch.as_text(problem)
    if exact is None:
        raise invalid_reference(
            "problem", problem, "is no problem; give its text, or None where there is none", index
        )
    return exact


def judge(answer: str, gold: Reference, lenient: bool) -> Outcome:
    """(reason, tier) of an extracted answer by all tiers but the last, cheapest first. Never raises."""
    if answer == gold.text or answer == gold.written:
        return OK, TEXT
    if gold.is_integer and is_short_integer(answer):
        return (OK if int(answer) == int(gold.text) else WRONG), RATIONAL
    if len(answer) > TEXT_LIMIT:
        return MALFORMED, TEXT
    if normal_text.key(answer) == gold.key:
        return OK, TEXT
    if gold.node is None and normal_text.same_text(answer, gold.text):
        return OK, TEXT
    if gold.is_text:
        return WRONG, TEXT
    if lenient:
        answer = normal_text.unwrapped(answer)
        if gold.is_choice and leading_choice(answer) == gold.key:
            return OK, TYPED
        if len(gold.key) > 1 and gold.key.isalpha() and is_subject(gold.key, answer):
            return OK, TYPED
        if not gold.is_choice and answer.startswith(("\\text", "\\begin")):
            answer = in_one_line(behind_choice(answer))
        if "." in gold.text:  # which is rounded itself, perhaps
            answer = answer.removeprefix("\\approx").removeprefix("≈")
    try:
        parser = Parser(answer, gold.variables)
        if gold.is_choice and starts_as_a_value(parser.tokens):
            return MALFORMED, GRAMMAR
        node = parser.answer()
        if gold.node is None:
            return None
        if parser.mixed and not (lenient or gold.mixed):
            return MALFORMED, TYPED
        signs = parser.signs or gold.signs
        comparison = Comparison(len(answer) + len(gold.text), not lenient, signs)
        verdict = comparison.same(node, gold.node)
        if verdict != YES and lenient and gold.has_constants:
            verdict = comparison.renamed(node, gold.node, parser.domain or gold.domain) or verdict
    except Unsupported:
        name, *sides = sides_of(answer)
        named = "\\cap" in name or ("\\int" in name and "\\int_" not in name)  # A \cap B = C
        named &= name.isascii() and not any(c in "0123456789<>" for c in name) and "\\ne" not in name
        if lenient and named and len(sides) == 1 and gold.node is not None and gold.node[0] != "rel":
            return judge(sides[0].strip(), gold, lenient)
        return None if lenient or gold.node is None else (MALFORMED, GRAMMAR)
    except Malformed:
        return MALFORMED, GRAMMAR
    except (Undefined, ArithmeticError, RecursionError):
        return WRONG, PROBE
    return None if verdict == UNSURE else (OK if verdict == YES else WRONG, comparison.tier)


def finished(
    outcome: tuple[int, int], answer: str, gold: Reference, problem: str | None, lenient: bool
) -> tuple[int, int]:
    """The outcome, or RULE_BROKEN for an equal answer that only says the problem again; see `copies`.

    Where what the problem asks for stands before an equals sign, the value behind it is judged.
    """
    if problem is None or outcome[1] == TEXT or gold.is_choice:
        return outcome
    if outcome[0] == WRONG and lenient and "=" in answer and gold.node and gold.node[0] != "rel":
        name, *values = sides_of(answer)
        if len(values) == 1 and is_asked(name, problem):
            answer = values[0].strip()
            outcome = judge(answer, gold, True) or ask_cas([(answer, gold.text)])[0]
    reason, tier = outcome
    if reason != OK or (is_short_integer(answer) and gold.is_integer):
        return outcome
    copied = is_copy(behind_choice(normal_text.unwrapped(answer)), gold, problem)
    return (verdicts.RULE_BROKEN, tier) if copied else outcome


def is_subject(name: str, answer: str) -> bool:
    """True for "Ann is the tallest", which names Ann and denies nothing, and for "No, such an n does not exist"."""
    answer = " ".join(answer.replace("\\text{", " ").replace("}", " ").split()).lower()
    if name in ("yes", "no"):
        return answer.startswith(f"{name}, ") and not {"yes", "no"} & {*answer[len(name) :].split()}
    return answer.startswith(f"{name} is ") and NEGATING.isdisjoint(answer.split())


def leading_choice(answer: str) -> str:
    r"""The letter of an answer such as `\textbf{(C)}\ 12`, `C. 12` or `\text{Option C}`; "" if it names another."""
    for mark in ("\\text{", "\\textbf{", "\\mathrm{", "\\mathbf{", "}", "$"):
        answer = answer.replace(mark, "")
    words = answer.split()
    while len(words) > 1 and words[0].lower().rstrip(":") in _CHOOSING:
        del words[0]
    text = " ".join(words)
    letter, rest = text[:1], text[1:]
    if letter == "(":
        letter, rest = rest[:1], rest[2:] if rest[1:2] == ")" else "?"
    elif rest:
        rest = rest[1:] if rest[0] in ".):" else "?"
    if rest and not rest.startswith((" ", ".", ":", "~", "\\ ", "\\,", "\\;", "\\q")):
        return ""
    words = "".join(c if c.isalnum() else " " for c in rest).split()
    others = any(word in CHOICES or word.lower() in ("or", "not") for word in words[words[:1] == ["A"] :])
    return "" if others else letter


def behind_choice(answer: str) -> str:
    r"""The value behind a letter marked as text, `\textbf{(C)}\ 12`; without one the answer itself."""
    mark, brace, rest = answer.partition("}")
    label = mark.removeprefix("\\text").removeprefix("bf").removeprefix("{")
    marked = (
        brace
        and len(label) < len(mark)
        and label.strip(" ().:") in (*CHOICES,)
        and label.strip() not in CHOICES
    )
    value = rest.removeprefix("\\").lstrip(" ,;:~.")
    return value if marked and value else answer


def in_one_line(answer: str) -> str:
    r"""The rows of an `aligned` that is the whole answer, with commas between them; others as they are."""
    inside = answer.partition("}")[2].rpartition("\\end{")[0]
    if not (answer.startswith(ALIGNED) and inside and "\\begin" not in inside):
        return answer
    rows = [row.strip() for row in inside.replace("&", " ").split("\\\\") if row.strip()]
    return ", ".join(rows).replace(", =", " =")


def starts_as_a_value(tokens: Sequence[Token]) -> bool:
    """True for `=(C)`, `+(C)` and `1(C)`: a choice is no value, and takes no sign or factor."""
    first = next(token for token in tokens if token[1] not in OPENS)
    return first[0] == NUMBER or first[1] in ("=", "+")


@cache
def cas_workers() -> Workers:
    from verifiers.worker import Workers

    return Workers("verifiers.math500.cas", size=max(1, min(MAX_WORKERS, os.cpu_count() or 1)))


_SENTENCE, _END = "The final answer is", "I hope it is correct"


def final_sentence(data: bytes) -> tuple[int, int, int]:
    """(OK, start, end) of the answer in Minerva's "The final answer is $5$. I hope it is correct." (the last one).

    NO_ANSWER, -1, -1 where there is none.
    """
    sentence, cut = _SENTENCE.encode(), read_tags(data, 0, len(data))[0]
    high = data.rfind(_END.encode(), 0, cut)
    low = data.rfind(sentence, 0, max(high, 0))
    inside = data[low + len(sentence) : high] if low >= 0 else b""
    is_text = b"\n\n" not in inside and not is_not_text(inside, 0, len(inside))
    if not (inside.strip(b" .:\n") and is_text and len(inside) <= TEXT_LIMIT):
        return NO_ANSWER, -1, -1
    low += len(sentence) + len(inside) - len(inside.lstrip(b" :\n"))
    return OK, low, high - len(inside) + len(inside.rstrip(b" .\n"))


def ask_cas(pairs: Sequence[tuple[str, str]]) -> list[tuple[int, int]]:
    """What the computer algebra system says about (answer, reference) pairs; logs what keeps it from answering.

    Pairs of one normal text are judged once, also across calls.
    """
    from verifiers.worker import WorkerUnavailable

    until = deadline()

    def ask(pair: tuple[str, str]) -> dict[str, str]:
        try:
            return cas_workers().ask({"answer": pair[0], "gold": pair[1]}, until)
        except WorkerUnavailable as error:
            return {"outcome": "error", "detail": str(error)}

    keys = [(normal_text.key(answer), gold) for answer, gold in pairs]
    judged = {key: _judged_by_cas[key] for key in keys if key in _judged_by_cas}
    todo = {key: pair for key, pair in zip(keys, pairs, strict=True) if key not in judged}
    with ThreadPoolExecutor(MAX_WORKERS, thread_name_prefix="verifiers-cas") as threads:
        replies = list(threads.map(ask, todo.values()))
    for key, reply in zip(todo, replies, strict=True):
        judged[key] = _CAS_OUTCOMES[reply["outcome"]]
        if reply["outcome"] in ("equal", "different", "unread") and len(_judged_by_cas) < CACHE_LIMIT:
            _judged_by_cas[key] = judged[key]
    problem = next((reply["detail"] for reply in replies if reply["outcome"] == "error"), None)
    if problem is not None:
        logging.getLogger("verifiers").warning("math500: some answers end as reason=error: %s", problem)
    return [judged[key] for key in keys]


def format_of(data: bytes, low: int, high: int, boxed: bool) -> int:
    """Strict mode: OK if the block holds one box and nothing else; another box before it is a HEDGE."""
    if not boxed:
        return MALFORMED
    start = data.rfind(b"<answer>", 0, low) + 8
    _, other, other_end = last_box(data, start, data.rfind(b"\\boxed", start, low))
    if other >= 0 and data[slice(*strip(data, other, other_end))] != data[low:high]:
        return verdicts.HEDGE
    return OK if is_alone(data, start - 8, len(data), low, high, False) else MALFORMED


def _judge(data: bytes, lenient: bool, row: int | None, answer: object, problem: object) -> batch.Judged:
    gold, asked = reference_of(answer, row), problem_of(problem, row)
    reason, low, high, boxed = locate(data, 0, len(data), lenient)
    tier = TEXT
    if reason == NO_ANSWER and lenient:
        reason, low, high = final_sentence(data)
    if reason == OK and not lenient:
        reason = format_of(data, low, high, boxed)
    if reason == OK:
        extracted = data[low:high].decode("utf-8", "surrogatepass")
        outcome = judge(extracted, gold, lenient) or ask_cas([(extracted, gold.text)])[0]
        reason, tier = finished(outcome, extracted, gold, asked, lenient)
    return reason, tier, float(reason == OK), low, high


def _judge_all(
    texts: list[str], lenient: bool, answers: list[object], problems: list[object] | None
) -> batch.Columns:
    import numpy as np

    golds = [reference_of(text, row) for row, text in enumerate(answers)]
    asked = [None] * len(texts) if problems is None else list(map(problem_of, problems, count()))
    statuses, boxed, spans = batch.locate_all(texts, lenient)
    judge_once = lru_cache(CACHE_LIMIT)(judge)
    outcomes: list[Outcome] = []
    undecided: dict[tuple[str, str], list[int]] = {}
    columns = zip(texts, golds, statuses.tolist(), boxed.tolist(), spans.tolist(), strict=True)
    for row, (text, gold, reason, from_box, (low, high)) in enumerate(columns):
        if reason == NO_ANSWER and lenient and _END in text:
            reason, low, high = final_sentence(encoded(text))
            spans[row] = low, high
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
    for row, outcome in enumerate(outcomes if problems is not None else ()):
        if outcome[0] in (OK, WRONG) and outcome[1] != TEXT:
            extracted = cut(texts[row], *spans[row].tolist())
            outcomes[row] = finished(outcome, extracted, golds[row], asked[row], lenient)
    reasons, tiers = np.array(outcomes, np.int8).reshape(-1, 2).T.copy()
    return reasons, tiers, (reasons == OK).astype(np.float64), spans


TASK = batch.text_task("math500", ("answer",), _judge, _judge_all, optional=("problem",))
