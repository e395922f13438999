"""GSM8K: is the number in this completion the right one, exactly?

Reference: `answer`, a number such as "1,250", "-10", "3/4" or 18, perhaps with its unit, "32 oz", or a solution whose
last line is `#### number`. Optional: `decimal`, "," for numbers such as 1.250,5; `unit`, the only unit that an answer
may name. See docs/verifiers/gsm8k.md.
"""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache

from verifiers import batch
from verifiers.errors import invalid_reference
from verifiers.reading import stated_units
from verifiers.reading.amounts import NAMES, currencies_of
from verifiers.reading.answer import HASHES, Found, find_answer, last_hashes
from verifiers.reading.decimals import has_comma, swapped, with_point
from verifiers.reading.numbers import Amount, amount, is_plain, leading_amount
from verifiers.verdicts import GRAMMAR, HEDGE, MALFORMED, NO_ANSWER, OK, RATIONAL, TEXT, TYPED, WRONG, Reason

_NO_GOLD = (
    "is not one number, such as '18', '1,250', '-10' or '3/4', nor a solution that ends in '#### 18'. Labels and codes "
    "are for the task text, options for choice, JSON for json, mathematics for math500, numbers such as 1.250,5 for "
    "gsm8k with decimal=',', and all else for a reward function of your own (--reward)"
)


@lru_cache(maxsize=1 << 14)
def _number_of(reference: str, comma: bool) -> Amount | None:
    """The one number of a reference, with which it begins; None for any other text. comma: it has a decimal comma."""
    marked = last_hashes(reference, 0, len(reference))
    text = (reference[slice(*marked)] if marked else reference).strip()
    text = (with_point(text) or "") if comma else text
    first_word = text.split(" ", 1)[0].rstrip("0123456789.,").lower()
    is_currency = first_word in NAMES or first_word in ("minus", "negative")
    number = text[len(first_word) if is_currency else 0 :].lstrip("-+$\\ €£¥₹.")
    if "=" in text or not (number[:1].isdigit() or number.startswith("frac")):
        return None
    found = amount(text)
    return found if isinstance(found, Amount) else None


def value_of(reference: str, decimal: object) -> tuple[Fraction | int | None, str]:
    """(the number of a reference, None if it has none; the unit behind it, "" if there is none, or a currency)."""
    gold = _number_of(reference, decimal == ",")
    return (None, "") if gold is None else (gold.value, stated_units.unit_of(reference))


def _gold(answer: object, decimal: object, unit: object, row: int | None) -> Amount:
    """The number of a reference; raises if it has none, or for a wrong `decimal` or `unit`."""
    comma = has_comma(decimal, row) and isinstance(answer, str)  # a number itself has no comma
    text = answer if type(answer) is str else batch.as_reference(answer)
    gold = _number_of(text, comma) if text is not None else None
    if gold is None and text is not None and isinstance(unit, str):
        gold = _number_of(_without_unit(text, unit.strip()), comma)
    if gold is None and comma and amount(text) != MALFORMED:
        raise invalid_reference("answer", answer, "is not written with a decimal comma, as 1.250,5 is", row)
    if gold is None:
        raise invalid_reference("answer", answer, _NO_GOLD, row)
    if unit is None:
        return gold
    if not isinstance(unit, str) or not unit.strip():
        raise invalid_reference("unit", unit, "is no unit; give one such as 'ml', or leave it out", row)
    gold = gold._replace(currencies=gold.currencies or currencies_of(unit.strip().lower()))
    if _compared(text, gold, decimal, unit)[0] == WRONG and not last_hashes(text, 0, len(text)):
        raise invalid_reference("answer", answer, f"has another unit than unit={unit!r}", row)
    return gold


def _compared(
    answer: str, gold: Amount, decimal: object, unit: object, goes_on: bool = False
) -> tuple[int, int]:
    """(reason, tier) of an answer in lenient mode; goes_on: further words may follow its number, as behind ####."""
    text = with_point(answer) if decimal == "," else answer
    found = MALFORMED if text is None else amount(text)
    if goes_on and text and isinstance(found, int):
        found = leading_amount(text)
    if isinstance(found, int) and text and isinstance(unit, str):
        found = amount(_without_unit(text, unit.strip()))
    if isinstance(found, int):
        return found, GRAMMAR
    if found.currencies and gold.currencies and not found.currencies & gold.currencies:
        return WRONG, TYPED
    is_same = found.value == gold.value
    if unit is not None and is_same and not stated_units.fits(text, found.value, unit, found.currencies > 0):
        return WRONG, TYPED
    return (OK if is_same else WRONG), RATIONAL


def _without_unit(text: str, unit: str) -> str:
    """The text without the unit at its end: "5 " for "5 N", whose letter is else no word behind a number."""
    rest = text.rstrip().removesuffix(unit)
    return rest if rest[-1:].isdigit() or rest[-1:].isspace() else text


def _is_as_in_prompt(text: str, start: int, end: int) -> bool:
    r"""True if the box around text[start:end] is written `\boxed{`, with nothing but blanks beside its content."""
    before, behind = text[max(start - 40, 0) : start].rstrip(" "), text[end : end + 40].lstrip(" ")
    return before.endswith("\\boxed{") and behind.startswith("}")


def judge(
    text: str,
    lenient: bool,
    row: int | None,
    answer: object,
    decimal: object,
    unit: object,
    found: Found | None = None,
) -> batch.Judged:
    """The verdict on one completion; raises for an invalid reference. found: where its answer stands, if known."""
    gold = _gold(answer, decimal, unit, row)
    found = found or find_answer(text, lenient)
    if found.reason != OK:
        return found.reason, TEXT, 0.0, -1, -1
    inside = found.read(text, decimal == ",")
    if not lenient and not (
        found.alone and _is_as_in_prompt(text, found.start, found.end) and _is_plain(inside, decimal)
    ):
        return MALFORMED, GRAMMAR, 0.0, found.start, found.end
    reason, tier = _compared(inside, gold, decimal, unit, found.mark == HASHES)
    return reason, tier, float(reason == OK), found.start, found.end


def _is_plain(inside: str, decimal: object) -> bool:
    """Whether an answer is a number as strict mode wants it, with the sign that stands before its decimals."""
    return is_plain(swapped(inside) if decimal == "," else inside)


def judge_unmarked(
    text: str, judged: batch.Judged, answer: object, decimal: object, unit: object
) -> batch.Judged:
    """The verdict in mode flexible on a completion that `judged`, the verdict of lenient mode, does not call right."""
    from verifiers.reading.last_value import last_value  # its patterns take 7 ms to compile

    is_open = judged[0] in (NO_ANSWER, MALFORMED, HEDGE)
    span = last_value(swapped(text) if decimal == "," else text, formulas=False) if is_open else None
    if span is None:
        return judged
    reason, tier = _compared(text[slice(*span)], _gold(answer, decimal, unit, None), decimal, unit)
    return judged if reason == MALFORMED else (reason, tier, float(reason == OK), *span)


def explain(
    extracted: str | None, reason: str, answer: object, decimal: object = None, unit: object = None
) -> str:
    """A sentence on an answer that is wrong for its unit alone; else ""."""
    if reason != Reason.WRONG or unit is None or not extracted:
        return ""
    without_unit = _compared(extracted, _gold(answer, decimal, None, None), decimal, None)
    return f"The answer names another unit than {unit}." if without_unit[0] == OK else ""


TASK = batch.text_task(
    "gsm8k",
    ("answer",),
    judge,
    optional=("decimal", "unit"),
    settings=("decimal", "unit"),
    explain=explain,
    flexible=judge_unmarked,
    kernel=batch.PLAIN_NUMBER,
)
