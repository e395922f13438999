"""The task MATH: judges the answers of completions by tiers, from the comparison of texts to the algebra system."""

from __future__ import annotations

import logging
import os
import re
from concurrent.futures import ThreadPoolExecutor
from functools import cache, lru_cache
from itertools import chain, repeat
from typing import TYPE_CHECKING

from verifiers import batch, verdicts
from verifiers.errors import invalid_reference
from verifiers.limit import deadline
from verifiers.math500 import choices
from verifiers.math500.asked.finished import is_finished
from verifiers.math500.asked.form import NO_FORM, Form, form_of, formulas_of
from verifiers.math500.compare.exact import Undefined
from verifiers.math500.compare.meaning import meaning
from verifiers.math500.compare.probe import NO, UNSURE, YES, compare
from verifiers.math500.compare.same import Comparison
from verifiers.math500.parser import Reading, read
from verifiers.math500.reference import Reference, is_short_integer, reference_of, references_of
from verifiers.math500.tree import INFINITIES, Node
from verifiers.math500.values import Quantity, Relation, Several, Value, is_expression
from verifiers.reading import markup, units
from verifiers.reading.answer import Found, find_answer, last_box
from verifiers.reading.decimals import has_comma, swapped, with_point
from verifiers.reading.tokens import TEXT_LIMIT, WORD, Malformed, Unsupported, tokens_of, with_price_marked
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


def problem_of(problem: object, index: int | None) -> str | None:
    """The text of a problem, or None if none is given; raises `InvalidReferenceError` for anything else."""
    if problem is None or type(problem) is str:
        return problem
    exact = batch.as_text(problem)
    if exact is None:
        raise invalid_reference(
            "problem", problem, "is no problem; give its text, or None where there is none", index
        )
    return exact


def is_ok(outcome: Outcome) -> bool:
    """True for the outcome of an answer that is right."""
    return outcome is not None and outcome[0] == OK


def judge(answer: str, gold: Reference, problem: str | None, lenient: bool) -> Outcome:
    """(reason, tier) of an extracted answer by the cheapest tier that can tell; None if only algebra software can.

    Never raises.
    """
    if outcome := outcome_by_digits(answer, gold):
        return outcome
    if not lenient and not answer.isascii() and answer != gold.text:
        return MALFORMED, GRAMMAR  # the strict format is LaTeX, which is ASCII
    if lenient and "\\\\" in answer:
        answer = markup.undoubled(answer)
    if gold.has_logarithm and problem and form_of(problem).has_natural_logs:
        gold = reference_of(markup.with_natural_logs(gold.text), index=None)
        answer = markup.with_natural_logs(answer)
    if gold.with_unit and not (problem and form_of(problem).has_letters(gold.variables)):
        kind = units.kind_of(units.SYMBOLS[gold.text[-1]])
        if any(units.kind_of(unit) == kind for unit in units.named_in(answer)):
            gold = reference_of(gold.with_unit, index=None)  # 5 watts says what 5 W is
    outcome = judge_as_written(answer, gold, problem, lenient)
    if outcome is None or is_ok(outcome) or not lenient or len(answer) > TEXT_LIMIT:
        return outcome
    said = _YES_OR_NO.fullmatch(answer)
    if said and said[1].lower() == gold.key.lower():
        return OK, TEXT
    # The answer is not right as it is written. What it says last may be.
    if problem and "=" in answer:
        if rest := form_of(problem).text_behind_asked(answer):
            return judge_as_written(rest, gold, problem, lenient)
    if gold.is_one_value and (result := markup.last_result(answer)):
        judged = judge_as_written(result, gold, problem, lenient)
        if is_ok(judged):
            return judged
    if (head := markup.said_twice(answer)) and is_ok(judge_as_written(head[0], gold, problem, lenient)):
        second, is_about = head[1:]
        again = f"{head[0]} \\approx {second}" if is_about else second
        if is_right(again, gold):
            return OK, TYPED
    return outcome


_YES_OR_NO = re.compile(
    r"(?:\\text\{)?+[\s*]*+(yes|no|true|false)\**(?:,?\s(?:because|since)\b|,(?!.*(?:n['’]t|\b(?:not|if|unless|probably|maybe|perhaps)\b)))"
    r"(?!.*(?:\b(?:but|however|or|wait|wrong|incorrect)\b|\b(?:yes|no|true|false)\W*+\Z|[.!?]\s))[^{}\n]*\}?",
    re.IGNORECASE,
)
"""A word that answers by itself, with a reason: "Yes, because 7 is prime."."""
_judge_short = lru_cache(CACHE_LIMIT)(judge)
"""`judge` with a memory, for short answers: many completions of a group give their problem the same answer."""


def judge_as_written(answer: str, gold: Reference, problem: str | None, lenient: bool) -> Outcome:
    """`judge` for an answer all of which says the value."""
    if outcome := outcome_by_digits(answer, gold) or outcome_by_equal_text(answer, gold):
        return outcome
    if lenient:
        answer = markup.plain(answer)
        if chosen := judge_choice(answer, gold, problem):
            return chosen
    if outcome := outcome_by_text(answer, gold, problem):
        return outcome
    if lenient:
        answer = without_words(answer, gold)
        if type(gold.meaning) is Several:
            answer = markup.joined_lines(answer)
        if (letter := _CAPITAL.search(answer)) and names_unit(letter[1], gold, problem):
            answer = f"{answer[: letter.start()]} \\text{{{letter[1]}}}"
    if "$" in answer and (gold.is_money or answer[-1] in "kM"):
        answer = with_price_marked(answer)
    try:
        number = markup.literal(answer)
        tokens = [] if number else tokens_of(answer, gold.variables)
        if gold.meaning is None:
            raise Unsupported("the reference")
        if number and (outcome := outcome_by_number(number, gold, len(answer) + len(gold.text))):
            return outcome
        reading = Reading(number) if number else read(tokens, gold.variables)
        if gold.is_no_ratio and "ratio" not in (problem or "").lower() and not markup.MOMENT.search(answer):
            return WRONG, TYPED  # 9/5 and 1.8 are no time
        return compared(reading, gold, problem, lenient, len(answer) + len(gold.text))
    except Unsupported:
        if problem is not None and gold.meaning is not None:
            # The answer leaves an integral or a sum, which the reference has worked out.
            return RULE_BROKEN, GRAMMAR
        return None if lenient or gold.meaning is None else (MALFORMED, GRAMMAR)
    except Malformed:
        return MALFORMED, GRAMMAR
    except Undefined:
        return WRONG, PROBE
    except (ArithmeticError, ValueError, RecursionError) as error:  # one answer must not end a whole batch
        logging.getLogger("verifiers").warning(
            "math500: %.200r counts as wrong, as judging it failed: %r", answer, error
        )
        return WRONG, PROBE


_CAPITAL = re.compile(r"(?<=[\d}])\s?([WVANJKCF])[\s.$]*+\Z")


def names_unit(letter: str, gold: Reference, problem: str | None) -> bool:
    """True if a capital letter behind a number is a unit: the reference or the problem has one of its kind."""
    known = {gold.meaning.unit} if type(gold.meaning) is Quantity else set()
    asked = form_of(problem).units if problem and not gold.variables else set()
    kind = units.kind_of(units.SYMBOLS[letter])
    return any(unit != "degree" and units.kind_of(unit) == kind for unit in known | asked)


def outcome_by_digits(answer: str, gold: Reference) -> Outcome:
    """The verdict if answer and reference are short whole numbers, as most are; else None."""
    if not gold.is_integer or not is_short_integer(answer):
        return None
    tier = TEXT if answer == gold.text else RATIONAL
    return (OK if int(answer) == int(gold.text) else WRONG), tier


def outcome_by_equal_text(answer: str, gold: Reference) -> Outcome:
    """(OK, TEXT) if answer and reference have the same normal text; else None."""
    return (OK, TEXT) if answer == gold.text or markup.key(answer) == gold.key else None


def outcome_by_text(answer: str, gold: Reference, problem: str | None) -> Outcome:
    """The verdict if the texts decide, or the digits of a number with a base; None if the answer must be read."""
    if gold.meaning is None and token_text(answer) == token_text(gold.text):
        return OK, TEXT
    has_half = answer.rstrip(" .}").endswith(("m", "M"))  # 7:45 p.m. is no ratio, whatever 7:45 may be
    time = markup.moment_of(gold.text) if has_half else gold.moment
    if time and "ratio" not in (problem or "") and (moment := markup.moment_of(answer)):
        return (OK if markup.is_same_moment(moment, time) else WRONG), TYPED
    # Those of a reference such as FE_{16}; two empty texts for any other.
    digits_of_gold, base = gold.digits or ("", "")
    if gold.digits and not base and problem:
        base = form_of(problem).base
    if base and len(answer) < 40 and (found := markup.digits_of(answer)):
        digits, base_of_answer = found
        return (OK if digits == digits_of_gold and base_of_answer in ("", base) else WRONG), TYPED
    return (WRONG, TEXT) if gold.is_text else None


@lru_cache(8192)
def token_text(text: str) -> str:
    """The values of a text's tokens with spaces between them, or the `key` of a text that the lexer refuses."""
    try:
        tokens = tokens_of(text, variables=None)  # as a reference, so that equal texts have equal tokens
    except Malformed:
        return markup.key(text)
    values = " ".join(v.lower() if kind == WORD and len(v) > 1 else v for kind, v, _ in tokens)
    return _ORDINAL.sub("", values)


_ORDINAL = re.compile(
    r"(?<=\d) (?:\^ (?:\{ )?+)?+(?:s ?t|n ?d|r ?d|t ?h)\b(?: \})?+"
)  # April 10^{th} is April 10


def outcome_by_number(number: Node, gold: Reference, length: int) -> Outcome:
    """The verdict on a number that differs from the reference, as most wrong answers do; None if it may be equal."""
    if type(gold.meaning) is not tuple or gold.meaning in INFINITIES:  # the reference is no finite expression
        return None
    verdict, rational = compare(number, gold.meaning, length)
    if verdict != NO:
        return None
    return WRONG, (RATIONAL if rational else PROBE)


def judge_choice(answer: str, gold: Reference, problem: str | None) -> Outcome:
    """The verdict on an answer to a multiple choice: a letter, a value, or both, which must then both be right.

    None if the answer must be read like any other: it is a value, or its letter does not decide.
    """
    letter, option, has_letter = choice_of(gold, problem or "")
    if not letter:
        return None
    whole = answer
    # A bare small c is no choice if it is a formula of the problem, or if the reference is an option's text.
    if ")" in answer or (has_letter and answer not in formulas_of(problem or "")):
        answer = choices.with_large_letter(answer)
    chosen = choices.leading_choice(answer)
    if not chosen:
        may_be_option = has_letter and option
        return (OK, TYPED) if may_be_option and is_right(answer, reference_of(option, index=None)) else None
    text_behind_letter = choices.text_behind_letter(answer, chosen) if option else ""
    if chosen != letter:
        return (WRONG, TYPED) if text_behind_letter and not has_letter else None
    # An option may itself have the words of a reason.
    texts = {text_behind_letter, choices.text_behind_letter(whole, chosen) if option else ""}
    contradicts = text_behind_letter and not any(
        is_right(text, reference_of(option, index=None)) for text in texts
    )
    return (WRONG if contradicts else OK), TYPED


@lru_cache(choices.PROBLEMS_REMEMBERED)
def choice_of(gold: Reference, problem: str) -> tuple[str, str, bool]:
    """(letter, option, True if the reference has the letter) of the right choice; "" for what is not known.

    The option is the text behind the letter. For `B`, the option is found in the problem's list of choices. `(B) 7` has
    both, if the problem agrees. For `7`, the letter is that of the only choice with this value.
    """
    options = choices.options_of(problem)
    if gold.is_choice:
        return gold.key, options.get(gold.key, ""), True
    if not options:
        return "", "", False
    labelled_text = choices.with_large_letter(gold.text)
    labelled = choices.leading_choice(labelled_text)
    if option := options.get(labelled, ""):
        value = choices.text_behind_letter(labelled_text, labelled)
        if not value or is_right(value, reference_of(option, index=None)):
            return labelled, option, True
    right = [letter for letter, option in options.items() if option and is_right(option, gold)]
    return (right[0], gold.text, False) if len(right) == 1 else ("", "", False)


def is_right(answer: str, gold: Reference) -> bool:
    """True if an answer is right, whatever its form."""
    return is_ok(judge_as_written(answer, gold, problem=None, lenient=True))


def without_words(answer: str, gold: Reference) -> str:
    """The answer without the letter of a choice before its value, and without "about" for a rounded reference."""
    if not gold.is_choice and answer.startswith(("\\text", "\\mathrm", "\\begin")):
        answer = markup.in_one_line(choices.value_behind_choice(answer))
    return markup.without_approximation(answer) if "." in gold.text else answer


def compared(reading: Reading, gold: Reference, problem: str | None, lenient: bool, length: int) -> Outcome:
    """The verdict by meaning; with a problem, also by form, and by whether the value is finished.

    `length`: characters of both texts.
    """
    value = meaning(reading.value)
    has_other_notation = (reading.mixed and not gold.mixed) or (reading.worded and not gold.worded)
    if has_other_notation and not lenient:
        return MALFORMED, TYPED
    form = NO_FORM if problem is None else form_of(problem)
    if gold.is_choice and type(value) is Quantity:
        return WRONG, TYPED  # "A good idea" is read as A with a unit
    if (
        gold.is_name
        and is_expression(value)
        and value != gold.meaning
        and not form.has_points(gold.variables)
    ):
        return WRONG, TYPED  # SU is not US
    first = value.items[0] if type(value) is Several else value  # x = 1 of x = 1 or x = 2
    first_side = first.sides[0] if type(first) is Relation else None
    is_asked = first_side is not None and form.asks_for(first_side)
    comparison = Comparison(length, strict=not lenient, form=form, first_is_asked=is_asked)
    verdict = comparison.same(value, gold.meaning)
    if verdict == YES and not form.allows_unit(value, gold.meaning):
        verdict = NO
    if verdict != NO and problem is not None and not is_accepted(value, comparison.sides, gold, form):
        return RULE_BROKEN, comparison.tier
    if verdict == UNSURE:
        return None
    return (OK if verdict == YES else WRONG), comparison.tier


def is_refused_for_unit(answer: str, reference: object, problem: str) -> bool:
    """True if a wrong answer would be right in lenient mode, had it not a unit that the problem does not allow."""
    gold = reference_of(reference, index=None)
    try:
        value = meaning(read(tokens_of(markup.plain(answer), gold.variables), gold.variables).value)
    except Malformed:
        return False
    if type(value) is not Quantity or form_of(problem).allows_unit(value, gold.meaning):
        return False
    return is_right(answer, gold)


def is_accepted(value: Value, sides: Sequence[Value], gold: Reference, form: Form) -> bool:
    """True if a side of an equal answer is finished, has the form asked for, and is no formula of the problem."""
    if sides and form.states(value, gold.meaning, gold.variables):
        return False
    return any(
        is_finished(side, gold.meaning)
        and form.holds(side, gold.meaning)
        and not form.states(side, gold.meaning, gold.variables)
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
    return judge_once(found.read(text), gold, problem, lenient), found


def _judge(
    text: str, lenient: bool, row: int | None, answer: object, problem: object, decimal: object
) -> batch.Judged:
    """The verdict on one completion; it asks the computer algebra system if no other tier can tell."""
    gold, comma = gold_of(answer, decimal, row)
    outcome, found = located(text, lenient, gold, problem_of(problem, row), comma)
    if outcome is None:
        said = found.read(text)
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
    asked = [problem_of(problem, row) for row, problem in enumerate(problems or ())] or repeat(None)
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
        elif reason == verdicts.NO_ANSWER:
            outcome = reason, TEXT
        else:
            outcome, found = located(text, lenient, gold, problem, comma)
            extracted = found.read(text)
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
