"""The task MATH: judges the answers of completions by tiers, from the comparison of texts to the algebra system."""

from __future__ import annotations

import logging
import os
import re
from concurrent.futures import ThreadPoolExecutor
from functools import cache, lru_cache, partial
from itertools import chain, count
from typing import TYPE_CHECKING

from verifiers import batch, verdicts
from verifiers.errors import invalid_reference
from verifiers.extract import BOX, is_alone, last_box, strip
from verifiers.flexible.answer import flexible_answer
from verifiers.limit import deadline
from verifiers.math500.asked.finished import is_finished
from verifiers.math500.asked.form import NO_FORM, Form, form_of, formulas_of
from verifiers.math500.asked.question import asks_for_ratio, asks_for_time
from verifiers.math500.compare.exact import Undefined
from verifiers.math500.compare.meaning import meaning
from verifiers.math500.compare.probe import NO, UNSURE, YES, compare
from verifiers.math500.compare.same import Comparison
from verifiers.math500.read import markup, prose, text, units
from verifiers.math500.read.lexer import (
    LETTERS,
    TEXT_LIMIT,
    WORD,
    Malformed,
    Token,
    Unsupported,
    tokens_of,
    with_price_marked,
    with_unit_marked,
)
from verifiers.math500.read.plain_english import CHEERS, value_in_english, without_reason
from verifiers.math500.read.reader import Reading, read
from verifiers.math500.read.tree import INFINITIES, Node
from verifiers.math500.read.values import Quantity, Relation, Several, Value, Words, inside, is_expression
from verifiers.math500.reference import Reference, is_short_integer, reference_of
from verifiers.on_bytes import on_text, rereading
from verifiers.sentence import find_answer
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
    cut,
    encoded,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from verifiers.worker import Workers

_DIGITS = "([0-9]{1,18})"
# The groups: minus; whole number and decimals of 12 and 1.5; both parts of \frac{3}{4}; both parts of 3/4.
_LITERAL = re.compile(
    rf"(-?)(?:{_DIGITS}(?:[.]{_DIGITS})?|\\[dt]?frac *{{{_DIGITS}}} *{{{_DIGITS}}}|{_DIGITS}/{_DIGITS})",
    re.ASCII,
)
SECOND_TIME = re.compile("which is|approx|about|roughly")
"""Words with which an answer may say its value a second time: "3/4, which is 75%", "2/3, about 0.667"."""
CACHE_LIMIT = 1 << 16  # pairs remembered
SHORT = 100  # characters; the verdict on an answer up to this length is remembered
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
    outcome = judge_as_written(answer, gold, problem, lenient)
    if outcome is None or is_ok(outcome) or len(answer) > TEXT_LIMIT:
        return outcome
    if gold.noun and has_noun_or_unit(gold, answer, problem):
        return judge(answer, reference_of(gold.counted, index=None), problem, lenient)
    if gold.is_list and outcome[0] == WRONG:
        outcome = judge_as_list(answer, gold, problem, lenient)
    if outcome is None or is_ok(outcome) or not lenient:
        return outcome
    # The answer is not right as it is written. Lenient mode tries other readings of it.
    if problem and "=" in answer:
        if rest := form_of(problem).text_behind_asked(answer):
            return judge_as_written(rest, gold, problem, lenient)
    # English has spaces, and a list in lines has characters that are not printable.
    may_be_english = " " in answer or not answer.isprintable() or answer[-1:] in CHEERS
    if may_be_english:
        value = value_in_english(markup.plain(answer), gold.is_list, gold.takes_reason)
        judged = judge_as_written(value, gold, problem, lenient) if value != answer else None
        if is_ok(judged):
            return judged
    if gold.is_one_value and (result := markup.last_result(answer)):
        judged = judge_as_written(result, gold, problem, lenient)
        if is_ok(judged):
            return judged
    ends_in_bracket = " (" in answer and answer.rstrip(" .$}").endswith(")")
    if gold.is_one_value and (ends_in_bracket or SECOND_TIME.search(answer)):
        judged = judge_as_written(answer, gold, problem, lenient, said_twice=True)
        if is_ok(judged):
            return judged
    return outcome


_judge_short = lru_cache(CACHE_LIMIT)(judge)
"""`judge` with a memory, for short answers: many completions of a group give their problem the same answer."""


def has_noun_or_unit(gold: Reference, answer: str, problem: str | None) -> bool:
    """True if the letters behind the reference's number are a noun or a unit: the box of 1 box, the N of 10 N.

    A noun is a word of the problem, and none of its letters is a variable there. A unit has a letter that is no
    variable of the problem, and the answer has such a unit, or the problem has numbers with units.
    """
    form = form_of(problem or "")
    if not units.is_in_symbols(gold.noun):
        return any(word.startswith(gold.noun) for word in form.words) and not form.has_letters(set(gold.noun))
    are_variables = all(map(form.has_variable, gold.variables))
    return not are_variables and (form.has_quantity or names_unit(answer, gold))


def names_unit(answer: str, gold: Reference) -> bool:
    r"""True if an answer has a unit of the kind of a letter of the reference: newtons, or `\text{ N}`, for 10 N."""
    try:
        words = [value for kind, value, _ in tokens_of(answer, gold.variables) if kind == WORD]
    except Malformed:
        return False
    named = {units.SYMBOLS.get(word) or units.UNITS.get(word.lower(), "") for word in words}
    return not gold.variables.isdisjoint(map(units.letter_of, named))


def judge_as_list(answer: str, gold: Reference, problem: str | None, lenient: bool) -> Outcome:
    """`judge` for a list: `54,108` may be two numbers or 54108, so each reading of answer and reference is tried."""
    # "Ungrouped" commas divide numbers; other commas may group the digits of one number.
    answer_ungrouped, gold_text_ungrouped = markup.ungrouped(answer), markup.ungrouped(gold.text)
    gold_ungrouped = reference_of(gold_text_ungrouped, index=None)
    # {(answer, text of the reference): the reference}, so that each reading is judged once.
    readings = {
        (answer_ungrouped, gold.text): gold,
        (answer, gold_text_ungrouped): gold_ungrouped,
        (answer_ungrouped, gold_text_ungrouped): gold_ungrouped,
    }
    readings.pop((answer, gold.text), None)  # this reading has been judged already
    outcomes = [
        judge_as_written(answer_read, gold_read, problem, lenient)
        for (answer_read, _), gold_read in readings.items()
    ]
    return next(filter(is_ok, outcomes), (WRONG, TYPED))


def judge_as_written(
    answer: str, gold: Reference, problem: str | None, lenient: bool, said_twice: bool = False
) -> Outcome:
    """`judge` for one reading of an answer: all of it says the value, once or, with `said_twice`, twice: 3/4 (75%)."""
    if outcome := outcome_by_digits(answer, gold) or outcome_by_equal_text(answer, gold):
        return outcome
    if lenient:
        answer = markup.plain(answer)
        answer = without_reason(answer) if gold.takes_reason else answer
    if lenient and (chosen := judge_choice(answer, gold, problem)):
        return chosen
    if outcome := outcome_by_text(answer, gold, problem):
        return outcome
    if "$" in answer:
        is_price = gold.is_money or (not gold.variables and has_magnitude(answer))
        answer = with_price_marked(answer) if is_price else answer
    letter_asked_for = form_of(problem).unit_letter if problem and not gold.variables else ""
    if letter := gold.unit_letter or letter_asked_for:
        answer = with_unit_marked(answer, letter)
    if lenient:
        if gold.is_yes_or_no:
            answer = markup.yes_or_no(answer)
        answer = without_words(answer, gold)
    try:
        number = literal(answer)
        tokens = [] if number else tokens_of(answer, gold.variables)
        if said_twice:
            tokens = prose.as_alternatives(tokens)
        if gold.meaning is None:
            raise Unsupported("the reference")
        if lenient and gold.has_constant:
            tokens = with_constant_named(tokens)
        outcome = outcome_by_number(number, gold, len(answer) + len(gold.text)) if number else None
        reading = Reading(number) if number else read(tokens, gold.variables)
        return outcome or compared(reading, gold, problem, lenient, answer)
    except Unsupported:
        if problem is not None and gold.meaning is not None:
            # The answer leaves an integral or a sum, which the reference has worked out.
            return RULE_BROKEN, GRAMMAR
        may_ask_cas = lenient or gold.meaning is None
        return None if may_ask_cas else (MALFORMED, GRAMMAR)
    except Malformed:
        return MALFORMED, GRAMMAR
    except Undefined:
        return WRONG, PROBE
    except (ArithmeticError, ValueError, RecursionError) as error:  # one answer must not end a whole batch
        logging.getLogger("verifiers").warning(
            "math500: %.200r counts as wrong, as judging it failed: %r", answer, error
        )
        return WRONG, PROBE


def has_magnitude(answer: str) -> bool:
    """True for a number with a letter that is a power of ten behind money: the 5M of $5M."""
    amount = answer.rstrip(" .")
    number = amount.rstrip("kKmMbBtT")
    return number != amount and number[-1:].isdigit()


def outcome_by_digits(answer: str, gold: Reference) -> Outcome:
    """The verdict if answer and reference are short whole numbers, as most are; else None."""
    if not gold.is_integer or not is_short_integer(answer):
        return None
    tier = TEXT if answer == gold.text else RATIONAL
    return (OK if int(answer) == int(gold.text) else WRONG), tier


def outcome_by_equal_text(answer: str, gold: Reference) -> Outcome:
    """(OK, TEXT) if answer and reference have the same normal text; else None."""
    return (OK, TEXT) if answer == gold.text or text.key(answer) == gold.key else None


def outcome_by_text(answer: str, gold: Reference, problem: str | None) -> Outcome:
    """The verdict if the texts decide, or the digits of a number with a base; None if the answer must be read."""
    answer_has_am_or_pm = ":" in gold.text and text.names_half(text.token_text(answer))
    may_be_time = gold.is_time or gold.clock or answer_has_am_or_pm
    if may_be_time and not gold.is_time and problem and asks_for_ratio(form_of(problem).words):
        may_be_time = False
    if (gold.meaning is None or may_be_time) and text.same_text(answer, gold.text):
        return OK, TEXT
    # In small letters a name is the same name, but aa is not AA, which may be a product.
    has_different_letters = len(set(gold.key)) > 1
    if gold.is_name and has_different_letters and is_name(gold, problem):
        if text.key(answer) == gold.key.lower():
            return OK, TEXT
    # Those of a reference such as FE_{16}; two empty texts for any other.
    digits_of_gold, base = gold.digits or ("", "")
    if gold.digits and not base and problem:
        base = form_of(problem).base
    digits_and_base = text.digits_of(answer) if base and len(answer) < 40 else None
    if digits_and_base:
        digits, base_of_answer = digits_and_base
        is_same = digits == digits_of_gold and base_of_answer in ("", base)
        return (OK if is_same else WRONG), TYPED
    return (WRONG, TEXT) if gold.is_text else None


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
    # A bare small c is no choice if it is a formula of the problem, or if the reference is an option's text.
    if ")" in answer or (has_letter and answer not in formulas_of(problem or "")):
        answer = markup.with_large_letter(answer)
    chosen = markup.leading_choice(answer)
    if not chosen:
        may_be_option = has_letter and option
        return (OK, TYPED) if may_be_option and is_right(answer, reference_of(option, index=None)) else None
    text_behind_letter = markup.text_behind_letter(answer, chosen) if option else ""
    if chosen != letter:
        return (WRONG, TYPED) if text_behind_letter and not has_letter else None
    contradicts = text_behind_letter and not is_right(text_behind_letter, reference_of(option, index=None))
    return (WRONG if contradicts else OK), TYPED


@lru_cache(markup.PROBLEMS_REMEMBERED)
def choice_of(gold: Reference, problem: str) -> tuple[str, str, bool]:
    """(letter, option, True if the reference has the letter) of the right choice; "" for what is not known.

    The option is the text behind the letter. For `B`, the option is found in the problem's list of choices. `(B) 7` has
    both, if the problem agrees. For `7`, the letter is that of the only choice with this value. `B) Paris` needs no
    problem.
    """
    options = markup.options_of(problem)
    letter = gold.key if gold.is_choice else letter_of_choice(gold.text, problem, options)
    if letter:
        return letter, options.get(letter, ""), True
    labelled_text = markup.with_large_letter(gold.text)
    labelled = markup.leading_choice(labelled_text) if options else ""
    if option := options.get(labelled, ""):
        value = markup.text_behind_letter(labelled_text, labelled)
        if value and is_right(value, reference_of(option, index=None)):
            return labelled, option, True
    if not options:
        letter, value = markup.labelled_choice(labelled_text)
        return letter, value, True
    right = [letter for letter, option in options.items() if option and is_right(option, gold)]
    return (right[0], gold.text, False) if len(right) == 1 else ("", "", False)


def letter_of_choice(reference: str, problem: str, options: Mapping[str, str]) -> str:
    """The letter of a reference such as `c`, `(c)` and `C)`, as a capital; "" if the problem has no such choice."""
    label = markup.bare_label(reference)
    if not label or (options and label.upper() not in options):
        return ""
    if label.isupper() or not options:
        return label if label.isupper() and ")" in reference else ""
    is_choice = markup.has_small_label(problem, label) and label not in formulas_of(problem)
    return label.upper() if ")" in reference or is_choice else ""


def is_right(answer: str, gold: Reference) -> bool:
    """True if an answer is right, whatever its form."""
    return is_ok(judge_as_written(answer, gold, problem=None, lenient=True))


def without_words(answer: str, gold: Reference) -> str:
    """The answer without the letter of a choice before its value, and without "about" for a rounded reference."""
    if not gold.is_choice and answer.startswith(("\\text", "\\mathrm", "\\begin")):
        answer = markup.in_one_line(markup.value_behind_choice(answer))
    return markup.without_approximation(answer) if "." in gold.text else answer


def literal(answer: str) -> Node | None:
    """The number that an answer in plain notation is: 12, -0.5, 3/4, \\frac{3}{4}; None for any other answer."""
    found = _LITERAL.fullmatch(answer)
    if found is None:
        return None
    minus, integer, decimals, *fraction = found.groups()
    if integer is not None:
        return ("num", int(f"{minus}{integer}{decimals or ''}"), 10 ** len(decimals or ""))
    above, below = (int(digits) for digits in fraction if digits is not None)
    return ("/", ("num", int(f"{minus}{above}"), 1), ("num", below, 1)) if below else None


def with_constant_named(tokens: list[Token]) -> list[Token]:
    """The tokens with C for c, as the reference calls its constant of integration; unchanged if C occurs, too."""
    if any(kind == LETTERS and value == "C" for kind, value, _ in tokens):
        return tokens
    return [(LETTERS, "C", token[2]) if token[:2] == (LETTERS, "c") else token for token in tokens]


def compared(reading: Reading, gold: Reference, problem: str | None, lenient: bool, answer: str) -> Outcome:
    """The verdict by meaning; with a problem, also by form, and by whether the value is finished."""
    value = meaning(reading.value)
    has_other_notation = (reading.mixed and not gold.mixed) or (reading.worded and not gold.worded)
    if has_other_notation and not lenient:
        return MALFORMED, TYPED
    form = NO_FORM if problem is None else form_of(problem)
    if is_another_time(reading.value, gold, form, answer) or is_another_name(value, gold, form):
        return WRONG, TYPED
    first = value.items[0] if type(value) is Several else value  # x = 1 of x = 1 or x = 2
    first_side = first.sides[0] if type(first) is Relation else None
    is_asked = first_side is not None and form.asks_for(first_side)
    if type(gold.meaning) is Words and reading.subject is not None and type(value) is not Several:
        value = reading.subject
    length = len(answer) + len(gold.text)
    comparison = Comparison(length, strict=not lenient, form=form, first_is_asked=is_asked)
    verdict = comparison.same(value, gold.meaning)
    if verdict == YES:
        has_wrong_unit = not form.allows_unit(value, gold.meaning, reading.in_units)
        is_of_another = first_side is not None and form.asks_for_another(first_side)  # f(4) = 5, not f(3)
        if has_wrong_unit or is_of_another:
            verdict = NO
    if verdict != NO and problem is not None and not is_accepted(value, comparison.sides, gold, form):
        return RULE_BROKEN, comparison.tier
    if verdict == UNSURE:
        return None
    return (OK if verdict == YES else WRONG), comparison.tier


def is_another_time(value: Value, gold: Reference, form: Form, answer: str) -> bool:
    """True for 7:15 if the reference is 14:30; also for 1:2 if the problem asks for a time or the reference is 9:00."""
    if not gold.clock or asks_for_ratio(form.words) or gold.clock in (value, *inside(value)):
        return False
    return text.has_minutes(answer) or ":0" in gold.text or asks_for_time(form.words)


def is_another_name(value: Value, gold: Reference, form: Form) -> bool:
    """True for SU if the reference is US; for "A good idea" if the reference is the choice A."""
    if gold.is_choice:
        return type(value) is Quantity  # "A good idea" is read as A with a unit
    return gold.is_name and is_name(gold, form.problem) and is_expression(value) and value != gold.meaning


def is_name(gold: Reference, problem: str | None) -> bool:
    """True for a reference such as US, unless its letters stand in formulas of the problem or are points, CA of ABC."""
    if not gold.is_name:
        return False
    if not problem or not gold.variables:
        return True
    words = (word.strip(".,;:?!()$") for word in problem.split())
    points = set("".join(word for word in words if word.isupper() and len(word) <= 3))
    return not all(letter in points or form_of(problem).has_letters({letter}) for letter in gold.variables)


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


def format_of(data: bytes, low: int, high: int, boxed: bool) -> int:
    """The status in strict mode: OK if the <answer> block has the one box of the answer alone.

    HEDGE if a box of another value comes first in the block, MALFORMED for any other block.
    """
    opening = data.rfind(b"<answer>", 0, low)
    start = opening + len(b"<answer>")
    _, box_before, end_of_box_before = last_box(data, start, data.rfind(bytes(BOX), start, low), BOX)
    begin, end = strip(data, box_before, end_of_box_before)
    hedged = box_before >= 0 and data[begin:end] != data[low:high]
    alone = boxed and is_alone(data, opening, len(data), low, high, as_in_prompt=False)
    if hedged:
        return verdicts.HEDGE
    return OK if alone else MALFORMED


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

    keys = [(text.key(answer), gold) for answer, gold in pairs]
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


def with_format_checked(
    data: bytes, lenient: bool, reason: int, low: int, high: int, boxed: bool
) -> tuple[int, int, int]:
    """(reason, start, end) of the answer that `find_answer` found; in strict mode OK only if it stands alone."""
    if not lenient and reason == OK:
        reason = format_of(data, low, high, boxed)
    return reason, low, high


def _judge(data: bytes, lenient: bool, row: int | None, answer: object, problem: object) -> batch.Judged:
    """The verdict on one completion; it asks the computer algebra system if no other tier can tell."""
    gold, problem_text = reference_of(answer, row), problem_of(problem, row)
    reason, low, high = with_format_checked(data, lenient, *find_answer(data, 0, len(data), lenient))
    tier = TEXT
    if reason == OK:
        extracted = data[low:high].decode("utf-8", "surrogatepass")
        judge_once = _judge_short if len(extracted) <= SHORT else judge
        reason, tier = (
            judge_once(extracted, gold, problem_text, lenient) or ask_cas([(extracted, gold.text)])[0]
        )
    return reason, tier, float(reason == OK), low, high


def _judge_all(
    texts: list[str], lenient: bool, answers: list[object], problems: list[object] | None
) -> batch.Columns:
    """The columns of the verdicts on all texts; the computer algebra system is asked about all open pairs at once."""
    import numpy as np

    golds = [reference_of(answer, row) for row, answer in enumerate(answers)]
    problem_texts = [None] * len(texts) if problems is None else list(map(problem_of, problems, count()))
    spans = np.empty((len(texts), 2), np.int64)
    statuses, boxed = np.empty((2, len(texts)), np.int8)
    for row, data in enumerate(map(encoded, texts)):
        statuses[row], *spans[row], boxed[row] = find_answer(data, 0, len(data), lenient)
    judge_long = lru_cache(CACHE_LIMIT)(judge)
    outcomes: list[Outcome] = []
    undecided: dict[tuple[str, str], list[int]] = {}  # {(answer, reference): the places of its completions}
    columns = zip(texts, golds, statuses.tolist(), spans.tolist(), boxed.tolist(), strict=True)
    for row, (completion, gold, status, span, from_box) in enumerate(columns):
        reason, low, high = status, *span
        if not lenient:
            reason, low, high = with_format_checked(encoded(completion), lenient, status, low, high, from_box)
        if reason != OK:
            outcomes.append((reason, TEXT))
            continue
        extracted = cut(completion, low, high)
        judge_once = _judge_short if len(extracted) <= SHORT else judge_long
        outcomes.append(judge_once(extracted, gold, problem_texts[row], lenient))
        if outcomes[-1] is None:
            undecided.setdefault((extracted, gold.text), []).append(row)
    for row_numbers, outcome in zip(undecided.values(), ask_cas(list(undecided)), strict=True):
        for row in row_numbers:
            outcomes[row] = outcome
    # A reason and a tier for each completion, all in one row.
    codes = np.fromiter(chain.from_iterable(outcomes), np.int8, 2 * len(outcomes))
    reasons, tiers = codes.reshape(-1, 2).T.copy()
    return reasons, tiers, (reasons == OK).astype(np.float64), spans


TASK = batch.text_task(
    "math500",
    ("answer",),
    on_text(_judge),
    judge_all=_judge_all,
    optional=("problem",),
    flexible=rereading(_judge, partial(flexible_answer, letter_of=markup.leading_choice)),
)
