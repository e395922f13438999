"""The task MATH: judges the answers of completions by tiers, from the comparison of texts to the algebra system."""

from __future__ import annotations

import logging
import os
from concurrent.futures import ThreadPoolExecutor
from functools import cache, lru_cache, partial
from itertools import chain, repeat
from typing import TYPE_CHECKING

from verifiers import batch, verdicts
from verifiers.choice import judge_choice, label_of, options_of
from verifiers.errors import invalid_reference
from verifiers.limit import deadline
from verifiers.math500.asked.copies import is_copy
from verifiers.math500.asked.finished import is_finished
from verifiers.math500.asked.form import allows_unit, has_form
from verifiers.math500.cleanup import cleaned
from verifiers.math500.compare.exact import Undefined
from verifiers.math500.compare.meaning import meaning
from verifiers.math500.compare.probe import NO, UNSURE, YES
from verifiers.math500.compare.same import compared
from verifiers.math500.parser import Reading, read
from verifiers.math500.reference import Reference, is_short_integer, reference_of, references_of
from verifiers.math500.values import Value
from verifiers.reading import markup
from verifiers.reading.answer import Found, find_answer, last_box
from verifiers.reading.decimals import has_comma, swapped, with_point
from verifiers.reading.problem import PROBLEMS_REMEMBERED, Problem, problem_of
from verifiers.reading.tokens import Malformed, Unsupported, tokens_of
from verifiers.verdicts import (
    CAS,
    GRAMMAR,
    MALFORMED,
    OK,
    PROBE,
    RATIONAL,
    RULE_BROKEN,
    TEXT,
    TYPED,
    WRONG,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from verifiers.worker import Workers

CACHE_LIMIT = 1 << 16  # pairs remembered
SHORT = 256  # characters; the verdict on an answer up to this length is remembered
MAX_WORKERS = 4
CAS_SOFT_SECONDS = 1.0  # of processor time, after which a worker gives a pair up by itself
CAS_HARD_SECONDS = 3.0  # within which the reply to a pair comes, because a worker that is late is killed

Outcome = tuple[int, int] | None  # (reason, tier); None if this cannot be told so far
_CAS_OUTCOMES = {
    "equal": (OK, CAS),
    "different": (WRONG, CAS),
    "unread": (WRONG, TEXT),  # the reference cannot be read, and `judge` has found that the texts differ
    "timeout": (verdicts.TIMEOUT, CAS),
    "error": (verdicts.ERROR, CAS),
}
# {(normal text of an answer, reference): (reason, tier)}
_judged_by_cas: dict[tuple[str, str], tuple[int, int]] = {}


def text_of(problem: object, index: int | None) -> str | None:
    """The text of a problem, or None if none is given; raises `InvalidReferenceError` for anything else."""
    if problem is None or type(problem) is str:
        return problem
    exact = batch.as_text(problem)
    if exact is None:
        raise invalid_reference(
            "problem", problem, "is no problem; give its text, or None where there is none", index
        )
    return exact


def judge(answer: str, gold: Reference, problem: str | None, lenient: bool) -> Outcome:
    """(reason, tier) of an extracted answer by the cheapest tier that can tell; None if only algebra software can.

    Never raises.
    """
    if outcome := outcome_by_digits(answer, gold):
        return outcome
    if answer == gold.text:
        return OK, TEXT
    if not lenient and not answer.isascii():
        return MALFORMED, GRAMMAR  # the strict format is LaTeX, which is ASCII
    about = problem_of(problem or "")
    if gold.with_commas_apart and (about.is_listed or markup.LIST.search(answer)):
        gold = reference_of(gold.with_commas_apart, index=None)
    if gold.has_logarithm and about.has_natural_logs:
        gold = reference_of(markup.with_natural_logs(gold.text), index=None)
        answer = markup.with_natural_logs(answer)
    answer = cleaned(answer, gold, about, lenient)
    if markup.key(answer) == gold.key:
        return OK, TEXT
    if lenient and (outcome := outcome_by_choice(answer, gold, about)):
        return outcome
    if outcome := outcome_by_base(answer, gold, about):
        return outcome
    if gold.is_text:
        return (OK if markup.bare(answer) == markup.bare(gold.text) else WRONG), TEXT
    return outcome_by_meaning(answer, gold, problem, lenient)


_judge_short = lru_cache(CACHE_LIMIT)(judge)
"""`judge` with a memory, for short answers: many completions of a group give their problem the same answer."""


def outcome_by_digits(answer: str, gold: Reference) -> Outcome:
    """The verdict if answer and reference are short whole numbers, as most are; else None."""
    if not gold.is_integer or not is_short_integer(answer):
        return None
    tier = TEXT if answer == gold.text else RATIONAL
    return (OK if int(answer) == int(gold.text) else WRONG), tier


def outcome_by_base(answer: str, gold: Reference, problem: Problem) -> Outcome:
    """The verdict by the digits of a number with a base above ten, such as FE_{16}; None for any other reference."""
    if not gold.digits:
        return None
    digits, base = gold.digits
    base = base or problem.base
    found = markup.digits_of(answer) if base and len(answer) < 40 else None
    return found and ((OK if found[0] == digits and found[1] in ("", base) else WRONG), TYPED)


def outcome_by_choice(answer: str, gold: Reference, problem: Problem) -> Outcome:
    """The verdict on an answer to a multiple choice: a letter, a value, or both, which must then both be right.

    None if the answer must be read like any other: it is no choice, or its letter does not decide.
    """
    options, right = choices_of(gold, problem.text)
    says = partial(says_option, problem=problem)
    reason = judge_choice(answer, right, options, says) if right else None
    return None if reason is None else (reason, TYPED)


def says_option(answer: str, option: str, problem: Problem) -> bool:
    """True if an answer says the value of an option, finished and as the problem asks: no copy of its formula."""
    gold = reference_of(option, index=None)
    if gold.is_text or markup.key(answer) == gold.key:
        return is_right(answer, option)
    outcome = outcome_by_meaning(answer, gold, problem.text, lenient=True)
    return outcome is not None and outcome[0] == OK


@lru_cache(PROBLEMS_REMEMBERED)
def choices_of(gold: Reference, problem: str) -> tuple[dict[str, str], str]:
    """({letter: option}, the letters that are right) of a problem; right is "" where nothing is to be chosen.

    The reference is a letter, an option, or both: `C`, `7` or `(C) 7`.
    """
    options = options_of(problem)
    if not options:
        return options, gold.key if len(gold.key) == 1 and gold.key in "ABCDEFGH" else ""
    letter, value = label_of(gold.text, "".join(options))
    if letter and (not value or is_right(value, options[letter])):
        return options, letter
    return options, "".join(
        letter for letter, option in options.items() if option and is_right(option, gold.text)
    )


def is_right(answer: str, reference: str) -> bool:
    """True if an answer is right, whatever its form."""
    outcome = judge(answer, reference_of(reference, index=None), problem=None, lenient=True)
    return outcome is not None and outcome[0] == OK


def outcome_by_meaning(answer: str, gold: Reference, problem: str | None, lenient: bool) -> Outcome:
    """The verdict by the value of an answer; with a problem, also by its form, and by whether it is finished."""
    try:
        if gold.meaning is None:
            tokens_of(answer, gold.variables)  # raises for what no notation has
            return None
        number = markup.literal(answer)
        reading = Reading(number) if number else read(tokens_of(answer, gold.variables), gold.variables)
        if not lenient and ((reading.mixed and not gold.mixed) or (reading.worded and not gold.worded)):
            return MALFORMED, TYPED
        value, about = meaning(reading.value), problem_of(problem or "")
        found = compared(value, gold.meaning, about, strict=not lenient, length=len(answer) + len(gold.text))
        verdict = found.verdict
        if verdict == YES and not allows_unit(value, gold.meaning, about):
            verdict = NO
        if verdict != NO and problem is not None and not is_accepted(value, found.sides, gold, about):
            return RULE_BROKEN, found.tier
        return None if verdict == UNSURE else ((OK if verdict == YES else WRONG), found.tier)
    except Unsupported:
        if problem is not None:  # the answer leaves an integral or a sum, which the reference has worked out
            return RULE_BROKEN, GRAMMAR
        return None if lenient else (MALFORMED, GRAMMAR)
    except Malformed:
        return MALFORMED, GRAMMAR
    except Undefined:
        return WRONG, PROBE
    except (ArithmeticError, ValueError, RecursionError) as error:  # one answer must not end a whole batch
        logging.getLogger("verifiers").warning(
            "math500: %.200r counts as wrong, as judging it failed: %r", answer, error
        )
        return WRONG, PROBE


def is_accepted(value: Value, sides: Sequence[Value], gold: Reference, problem: Problem) -> bool:
    """True if a side of an equal answer is finished, has the form asked for, and is no formula of the problem."""
    if sides and is_copy(value, gold.meaning, problem, gold.variables):
        return False
    return any(
        is_finished(side, gold.meaning)
        and has_form(side, gold.meaning, problem)
        and not is_copy(side, gold.meaning, problem, gold.variables)
        for side in sides or [value]
    )


@cache
def cas_workers() -> Workers:
    """The processes of the computer algebra system."""
    from verifiers.worker import Workers

    size = max(1, min(MAX_WORKERS, os.cpu_count() or 1))
    return Workers("verifiers.math500.cas", size=size, soft=CAS_SOFT_SECONDS, hard=CAS_HARD_SECONDS)


def ask_cas(pairs: Sequence[tuple[str, str]]) -> list[tuple[int, int]]:
    """(reason, tier) by the computer algebra system for each (answer, reference); logs what keeps it from answering.

    Pairs whose answers have the same normal text are judged once, also across calls.
    """
    from verifiers.worker import WorkerUnavailable

    until = deadline()

    def ask(pair: tuple[str, str]) -> dict[str, str]:
        try:
            return cas_workers().ask({"answer": pair[0], "gold": pair[1]}, until)
        except WorkerUnavailable as error:
            return {"outcome": "error", "detail": str(error)}

    keys = [(markup.key(answer), gold) for answer, gold in pairs]
    judged = {key: _judged_by_cas[key] for key in keys if key in _judged_by_cas}
    todo = {key: pair for key, pair in zip(keys, pairs, strict=True) if key not in judged}
    with ThreadPoolExecutor(MAX_WORKERS, thread_name_prefix="verifiers-cas") as threads:
        replies = list(threads.map(ask, todo.values()))
    for key, reply in zip(todo, replies, strict=True):
        judged[key] = _CAS_OUTCOMES[reply["outcome"]]
        if reply["outcome"] in ("equal", "different", "unread") and len(_judged_by_cas) < CACHE_LIMIT:
            _judged_by_cas[key] = judged[key]
    for detail in {reply["detail"] for reply in replies if reply["outcome"] == "error"}:
        logging.getLogger("verifiers").warning("math500: some answers end as reason=error: %s", detail)
    return [judged[key] for key in keys]


def gold_of(answer: object, decimal: object, row: int | None) -> tuple[Reference, bool]:
    """(a reference, whether it and its answers have a decimal comma); raises if the reference has not."""
    comma = has_comma(decimal, row)
    if comma and isinstance(answer, str):
        with_comma, answer = answer, with_point(answer)
        if answer is None:
            problem = "is not written with a decimal comma, as 1.250,5 is"
            raise invalid_reference("answer", with_comma, problem, row)
    return reference_of(answer, row), comma


def judge_with_comma(answer: str, gold: Reference, problem: str | None, lenient: bool) -> Outcome:
    """`judge` for an answer with a decimal comma, 1.250,5."""
    pointed = with_point(answer)
    return (MALFORMED, GRAMMAR) if pointed is None else judge(pointed, gold, problem, lenient)


def located(
    text: str, lenient: bool, gold: Reference, problem: str | None, comma: bool
) -> tuple[Outcome, Found]:
    """(what `judge` says of a completion's answer, where this answer stands)."""
    found = find_answer(text, lenient)
    if found.reason == OK and not lenient and not found.alone:
        # In strict mode, the block has the one box of the answer alone.
        before = last_box(text, text.rfind("<answer>", 0, found.start), text.rfind("\\boxed", 0, found.start))
        is_hedge = before is not None and text[slice(*before[1:])].strip() != found.read(text)
        return (verdicts.HEDGE if found.mark == "box" and is_hedge else MALFORMED, TEXT), found
    if found.reason != OK:
        return (found.reason, TEXT), found
    judge_once = _judge_short if found.end - found.start <= SHORT else judge
    if comma:
        judge_once = judge_with_comma
    return judge_once(found.read(text, comma), gold, problem, lenient), found


def _judge(
    text: str, lenient: bool, row: int | None, answer: object, problem: object, decimal: object
) -> batch.Judged:
    """The verdict on one completion; it asks the computer algebra system if no other tier can tell."""
    gold, comma = gold_of(answer, decimal, row)
    outcome, found = located(text, lenient, gold, text_of(problem, row), comma)
    if outcome is None:
        said = found.read(text, comma)
        outcome = ask_cas([(with_point(said) if comma else said, gold.text)])[0]
    return *outcome, float(outcome[0] == OK), found.start, found.end


def _judge_unmarked(
    text: str, judged: batch.Judged, answer: object, problem: object, decimal: object
) -> batch.Judged:
    """The verdict in mode flexible on a completion whose verdict in lenient mode, `judged`, is not right."""
    from verifiers.reading.last_value import last_value  # its patterns take 7 ms to compile

    is_open = judged[0] in (MALFORMED, verdicts.NO_ANSWER)
    span = last_value(swapped(text) if decimal == "," else text, formulas=True) if is_open else None
    if span is None:
        return judged
    marked = f"<answer>{text[slice(*span)]}</answer>"
    reason, tier, score, _, _ = _judge(marked, True, None, answer, problem, decimal)
    if reason in (MALFORMED, verdicts.NO_ANSWER):
        return judged
    return reason, tier, score, *span


def _judge_all(
    texts: list[str],
    lenient: bool,
    answers: list[object],
    problems: list[object] | None,
    decimals: list[object] | None,
) -> batch.Columns:
    """The columns of the verdicts on all texts; the computer algebra system is asked about all open pairs at once."""
    import numpy as np

    if decimals is None:
        golds, commas = references_of(answers), [False] * len(texts)
    else:
        pairs = zip(answers, decimals, strict=True)
        golds, commas = (
            zip(*(gold_of(*pair, row) for row, pair in enumerate(pairs)), strict=True) if texts else ((), ())
        )
    asked = [text_of(problem, row) for row, problem in enumerate(problems or ())] or repeat(None)
    found_by_kernel, spans = batch.locate_answers(texts, lenient)
    columns = zip(texts, golds, asked, commas, found_by_kernel, *spans.T.tolist(), strict=False)
    judge_long = lru_cache(CACHE_LIMIT)(judge)  # remembers within this batch
    outcomes: list[Outcome] = []
    undecided: dict[tuple[str, str], list[int]] = {}  # {(answer, reference): the places of its completions}
    for row, (text, gold, problem, comma, reason, start, end) in enumerate(columns):
        if reason == batch.LOCATED:
            extracted = text[start:end] if text.isascii() else verdicts.cut(text, start, end)
            judge_once = _judge_short if end - start <= SHORT else judge_long
            judge_once = judge_with_comma if comma else judge_once
            outcome = judge_once(extracted, gold, problem, lenient)
        else:
            outcome, found = located(text, lenient, gold, problem, comma)
            extracted = found.read(text, comma)
            spans[row] = batch.in_bytes(text, found.start, found.end)
        if outcome is None:
            undecided.setdefault((with_point(extracted) if comma else extracted, gold.text), []).append(row)
        outcomes.append(outcome)
    for rows, outcome in zip(undecided.values(), ask_cas(list(undecided)), strict=True):
        for row in rows:
            outcomes[row] = outcome
    codes = np.fromiter(chain.from_iterable(outcomes), np.int8, 2 * len(outcomes))
    reasons, tiers = codes.reshape(-1, 2).T.copy()
    return reasons, tiers, (reasons == OK).astype(np.float64), spans


TASK = batch.text_task(
    "math500",
    ("answer",),
    _judge,
    judge_all=_judge_all,
    optional=("problem", "decimal"),
    settings=("decimal",),
    flexible=_judge_unmarked,
)
