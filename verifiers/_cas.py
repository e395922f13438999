"""The last tier of MATH: a computer algebra system behind a process wall.

`equal` and `equal_many` say whether two LaTeX texts are the same answer. Nothing here imports sympy: the
question goes to a worker that is killed at its deadline. What could make it work for long is refused before.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from verifiers.workers import Workers, WorkerUnavailable

LENGTH_LIMIT = 1000  # characters
DEPTH_LIMIT = 24
EXPONENT_DIGITS = 4
FACTORIAL_DIGITS = 3
MAX_WORKERS = 4
MEMORY_LIMIT = 65_536  # verdicts remembered

_NAMES = ("equal", "different", "timeout", "error")
_BASE_DIGITS = 2
_DOTS = ("\\ldots", "\\dots", "\\cdots", "\\vdots", "\\ddots", "...", "…", "\\approx", "~=", "\\sim", "≈")


class Outcome(str):
    """One of equal, different, timeout, error; `detail` says why where there is something to say."""

    __slots__ = ("detail",)

    def __new__(cls, name: str, detail: str = "") -> Outcome:
        outcome = super().__new__(cls, name)
        outcome.detail = detail
        return outcome

    def __repr__(self) -> str:
        return f"Outcome({str.__str__(self)!r}, {self.detail!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return Outcome, (str.__str__(self), self.detail)


workers = Workers("verifiers._cas_worker", size=max(1, min(MAX_WORKERS, os.cpu_count() or 1)))
_known: dict[tuple[str, str], Outcome] = {}
_told: set[str] = set()  # what has been logged once


def equal(answer: str, gold: str) -> Outcome:
    """Is the LaTeX text `answer` the same answer as `gold`? Never raises, whatever the texts are.

    Comes back within the hard deadline of the workers, unless other threads keep all of them busy. "error"
    says in `detail` what is missing or wrong: sympy or math-verify (logged once, too), a gold answer that
    cannot be read, a worker that died twice.
    """
    pair = answer, gold
    return _known.get(pair) or _remember({pair: _judge(pair, patient=False)})[pair]


def equal_many(pairs: Sequence[tuple[str, str]]) -> list[Outcome]:
    """`equal` for many (answer, gold), in order; identical pairs are judged once, also across calls.

    Waits for a worker to start, however long that takes on a busy machine: the deadline is one of each pair.
    """
    pairs = [(answer, gold) for answer, gold in pairs]
    todo = [pair for pair in dict.fromkeys(pairs) if pair not in _known]
    if len(todo) > 1 and workers.size > 1:
        with ThreadPoolExecutor(min(len(todo), workers.size), thread_name_prefix="verifiers-cas") as pool:
            fresh = dict(zip(todo, pool.map(_judge, todo), strict=True))
    else:
        fresh = {pair: _judge(pair) for pair in todo}
    outcomes = [fresh[pair] if pair in fresh else _known.get(pair) or _judge(pair) for pair in pairs]
    _remember(fresh)
    return outcomes


def _remember(fresh: dict[tuple[str, str], Outcome]) -> dict[tuple[str, str], Outcome]:
    if len(_known) > MEMORY_LIMIT:
        _known.clear()
    _known.update({pair: outcome for pair, outcome in fresh.items() if outcome in ("equal", "different")})
    return fresh


def _judge(pair: tuple[str, str], patient: bool = True) -> Outcome:
    answer, gold = pair
    why = refusal(answer)
    if why:
        return Outcome("different", f"refused: {why}")
    why = refusal(gold)
    if why:
        return Outcome("error", f"the gold answer is refused: {why}")
    (answer, base), (gold, gold_base) = without_bases(answer), without_bases(gold)
    if base != gold_base and (base or not gold_base):
        return Outcome("different", f"bases {base or 'none'} and {gold_base or 'none'}")
    if (is_word(answer) or is_word(gold)) and answer.strip() != gold.strip():
        return Outcome("different", "a word is not a product of its letters")
    try:
        reply = workers.ask({"answer": answer, "gold": gold}, patient)
    except WorkerUnavailable as error:
        if str(error) not in _told:
            _told.add(str(error))
            logging.getLogger("verifiers").warning("computer algebra is not available: %s", error)
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
    return _depth(text) or _exponents(text) or _factorials(text)


def _depth(text: str) -> str:
    depth = deepest = 0
    for c in text:
        depth += (c in "({[") - (c in ")}]")
        deepest = max(deepest, depth)
    return f"nested {deepest} deep, at most {DEPTH_LIMIT}" if deepest > DEPTH_LIMIT else ""


def _exponents(text: str) -> str:
    """Towers, and exponents of too many digits."""
    i = text.find("^")
    while i >= 0:
        start, end = _argument(text, i + 1)
        inside = text[start:end]
        if _longest_number(inside) > EXPONENT_DIGITS:
            return f"an exponent of more than {EXPONENT_DIGITS} digits"
        if inside.count("^") > 1 or ("^" in inside and not _is_small_power(inside)):
            return "a tower of powers"
        if text[end:].lstrip().startswith("^"):
            return "a tower of powers"
        i = text.find("^", i + 1)
    return _scientific(text)


def _is_small_power(text: str) -> bool:
    """`x^2` and `-x^{2}` inside an exponent, as in a bell curve; no number to a power."""
    i = text.index("^")
    start, end = _argument(text, i + 1)
    base = text[:i].rstrip()
    return base[-1:].isalpha() and text[start:end].strip("{} ").isdecimal() and end - start <= 4


def _scientific(text: str) -> str:
    """`1e99999`."""
    for i, c in enumerate(text):
        if c in "eE" and i and text[i - 1].isdigit():
            rest = text[i + 1 :].lstrip("+-")
            if len(rest) - len(rest.lstrip("0123456789")) > EXPONENT_DIGITS:
                return f"an exponent of more than {EXPONENT_DIGITS} digits"
    return ""


def _factorials(text: str) -> str:
    i = text.find("!")
    while i >= 0:
        before = text[:i].rstrip()
        inside = before
        if before[-1:] in (")", "}", "]"):
            inside = before[_opening(before) :]
            if any(mark in inside for mark in "^!"):
                return "the factorial of a power"
        elif before[-1:] == "!":
            return "a factorial of a factorial"
        else:
            inside = before[len(before.rstrip("0123456789,")) :]
        if _longest_number(inside.replace(",", "")) > FACTORIAL_DIGITS:
            return f"a factorial of a number of more than {FACTORIAL_DIGITS} digits"
        i = text.find("!", i + 1)
    return ""


def _argument(text: str, start: int) -> tuple[int, int]:
    """Where what follows `^` begins and ends: a group in braces or parentheses, or one token."""
    while start < len(text) and text[start] in " +-":
        start += 1
    if start < len(text) and text[start] in "{(":
        depth = 0
        for end in range(start, len(text)):
            depth += (text[end] in "{(") - (text[end] in "})")
            if depth == 0:
                return start, end + 1
        return start, len(text)
    end = start + 1
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
    longest = run = 0
    for c in text:
        run = run + 1 if c.isdigit() else 0
        longest = max(longest, run)
    return longest


def without_bases(text: str) -> tuple[str, tuple[str, ...]]:
    """`2516_8` or `(2516)_{8}` without the base, and the bases in order."""
    bases = []
    i = text.find("_")
    while i >= 0:
        before = text[:i].rstrip()
        closed = before.endswith((")", "}")) and before[_opening(before) + 1 : -1].strip().isalnum()
        digits = before[_opening(before) + 1 : -1].strip() if closed else before[-1:]
        start, end = _argument(text, i + 1)
        base = text[start:end].strip("{} ")
        command = before[: _opening(before)].rstrip()[-1:].isalpha() if closed else False
        if digits.isdecimal() and base.isdecimal() and len(base) <= _BASE_DIGITS and not command:
            bases.append(base.lstrip("0"))
            text = before + text[end:]
            i = text.find("_", len(before))
        else:
            i = text.find("_", i + 1)
    return text, tuple(bases)


def is_word(text: str) -> bool:
    """True for four letters or more and nothing else: reading it as a product would make anagrams equal."""
    letters = text.strip().strip("$. ")
    return len(letters) > 3 and letters.replace(" ", "").isalpha()
