"""The last tier: a computer algebra system in a process of its own, killed at its deadline.

Nothing here imports sympy. It is not asked about texts that could keep it busy for ever, or that it would misread.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import accumulate
from typing import NamedTuple

from verifiers.workers import Workers, WorkerUnavailable

MAX_WORKERS = 4
MEMORY_LIMIT = 65_536  # verdicts remembered

# Of a text that is given to it:
LENGTH_LIMIT = 1000  # characters
DEPTH_LIMIT = 24
EXPONENT_DIGITS = 4
FACTORIAL_DIGITS = 3
BASE_DIGITS = 2
_DOTS = ("\\ldots", "\\dots", "\\cdots", "\\vdots", "\\ddots", "...", "…", "\\approx", "~=", "\\sim", "≈")


class Outcome(NamedTuple):
    """One of equal, different, unread (the gold), timeout, error, and why where there is something to say."""

    name: str
    detail: str = ""


workers = Workers("verifiers.math500.cas_worker", size=max(1, min(MAX_WORKERS, os.cpu_count() or 1)))
_known: dict[tuple[str, str], Outcome] = {}


def equal_many(pairs: Sequence[tuple[str, str]], patient: bool = True) -> list[Outcome]:
    """Are the LaTeX texts of (answer, gold) pairs the same answer? In order; never raises.

    Identical pairs are judged once, also across calls. A patient caller waits for a worker to start, however long
    that takes on a busy machine; for others the deadline includes the start. "error" says what is missing or wrong.
    """
    outcomes = {pair: _known.get(pair) for pair in pairs}
    todo = [pair for pair, outcome in outcomes.items() if outcome is None]

    def judge(pair: tuple[str, str]) -> Outcome:
        return _judge(*pair, patient)

    if len(todo) > 1 and workers.size > 1:
        with ThreadPoolExecutor(min(len(todo), workers.size), thread_name_prefix="verifiers-cas") as pool:
            fresh = dict(zip(todo, pool.map(judge, todo), strict=True))
    else:
        fresh = {pair: judge(pair) for pair in todo}
    if len(_known) > MEMORY_LIMIT:
        _known.clear()
    _known.update(
        (pair, outcome) for pair, outcome in fresh.items() if outcome.name in ("equal", "different", "unread")
    )
    outcomes |= fresh
    return [outcomes[pair] for pair in pairs]


def _judge(answer: str, gold: str, patient: bool) -> Outcome:
    if why := refusal(answer):
        return Outcome("different", f"refused: {why}")
    if why := refusal(gold):
        return Outcome("unread", f"the gold answer is refused: {why}")
    (answer, bases), (gold, gold_bases) = without_bases(answer), without_bases(gold)
    if bases != gold_bases and (bases or not gold_bases):
        return Outcome("different", f"bases {bases or 'none'} and {gold_bases or 'none'}")
    if (is_word(answer) or is_word(gold)) and answer.strip() != gold.strip():
        return Outcome("different", "a word is not a product of its letters")
    try:
        reply = workers.ask({"answer": answer, "gold": gold}, patient)
    except WorkerUnavailable as error:
        return Outcome("error", str(error))
    return Outcome(reply["outcome"], reply["detail"])


def refusal(text: str) -> str:
    """Why `text` is not given to a computer algebra system, or "" if it may be."""
    if len(text) > LENGTH_LIMIT:
        return f"{len(text)} characters, at most {LENGTH_LIMIT} are read"
    if any("\ud800" <= c <= "\udfff" or c == "\0" for c in text):
        return "a lone surrogate or NUL"
    if any(mark in text for mark in _DOTS):
        return "dots or an approximation"
    depths = list(accumulate((c in "({[") - (c in ")}]") for c in text))
    if max(depths, default=0) > DEPTH_LIMIT:
        return f"nested {max(depths)} deep, at most {DEPTH_LIMIT}"
    return _exponents(text) or _factorials(text)


def _exponents(text: str) -> str:
    """Towers, and exponents of too many digits."""
    for i, c in enumerate(text):
        exponent = ""
        if c == "^":
            start, end = _argument(text, i + 1)
            exponent = text[start:end]
            nested = "^" in exponent and (exponent.count("^") > 1 or not _is_small_power(exponent))
            if nested or text[end:].lstrip().startswith("^"):
                return "a tower of powers"
        elif c in "eE" and text[i - 1 : i].isdigit():  # 1e99999
            exponent = text[i + 1 :].lstrip("+-")
            exponent = exponent[: len(exponent) - len(exponent.lstrip("0123456789"))]
        if _longest_number(exponent) > EXPONENT_DIGITS:
            return f"an exponent of more than {EXPONENT_DIGITS} digits"
    return ""


def _is_small_power(text: str) -> bool:
    """`x^2` and `-x^{2}` inside an exponent, as in a bell curve; no number to a power."""
    i = text.index("^")
    start, end = _argument(text, i + 1)
    return text[:i].rstrip()[-1:].isalpha() and text[start:end].strip("{} ").isdecimal() and end - start <= 4


def _factorials(text: str) -> str:
    for i, c in enumerate(text):
        if c != "!":
            continue
        before = text[:i].rstrip()
        if before.endswith("!"):
            return "a factorial of a factorial"
        if before.endswith((")", "}", "]")):
            inside = before[_opening(before) :]
            if "^" in inside or "!" in inside:
                return "the factorial of a power"
        else:
            inside = before[len(before.rstrip("0123456789,")) :]
        if _longest_number(inside.replace(",", "")) > FACTORIAL_DIGITS:
            return f"a factorial of a number of more than {FACTORIAL_DIGITS} digits"
    return ""


def _argument(text: str, start: int) -> tuple[int, int]:
    """Where what follows `^` begins and ends: a group in braces or parentheses, a number, or one character."""
    while text.startswith((" ", "+", "-"), start):
        start += 1
    end = start + 1
    if text.startswith(("{", "("), start):
        depth = 1
        while depth and end < len(text):
            depth += (text[end] in "{(") - (text[end] in "})")
            end += 1
    else:
        while end < len(text) and text[start:end].isdecimal() and text[end].isdecimal():
            end += 1
    return start, min(end, len(text))


def _opening(text: str) -> int:
    """Where the bracket that closes at the end of `text` opens, or 0."""
    depth = 0
    for i in range(len(text) - 1, -1, -1):
        depth += (text[i] in ")}]") - (text[i] in "({[")
        if depth == 0:
            return i
    return 0


def _longest_number(text: str) -> int:
    """How many digits the longest run of digits has."""
    return max(len(run) for run in "".join(c if c.isdigit() else " " for c in text).split(" "))


def without_bases(text: str) -> tuple[str, tuple[str, ...]]:
    """`2516_8` or `(2516)_{8}` without the base, and the bases in order."""
    bases = []
    i = text.find("_")
    while i >= 0:
        before = text[:i].rstrip()
        digits, command = before[-1:], False
        if before.endswith((")", "}")):
            opening = _opening(before)
            group = before[opening + 1 : -1].strip()
            if group.isalnum():
                digits, command = group, before[:opening].rstrip()[-1:].isalpha()
        start, end = _argument(text, i + 1)
        base = text[start:end].strip("{} ")
        if digits.isdecimal() and base.isdecimal() and len(base) <= BASE_DIGITS and not command:
            bases.append(base.lstrip("0"))
            text = before + text[end:]
            i = len(before) - 1
        i = text.find("_", i + 1)
    return text, tuple(bases)


def is_word(text: str) -> bool:
    """True for four letters or more and nothing else: reading it as a product would make anagrams equal."""
    letters = text.strip().strip("$. ")
    return len(letters) > 3 and letters.replace(" ", "").isalpha()
