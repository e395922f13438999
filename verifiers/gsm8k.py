"""GSM8K: is the number in this completion the right one, exactly?

Reference: `answer`, a number such as "1,250", "-10", "3/4" or 18, perhaps with its unit, "32 oz", or a solution whose
last line is `#### number`. See docs/verifiers/gsm8k.md.
"""

from __future__ import annotations

from functools import lru_cache

from verifiers import batch
from verifiers.errors import invalid_reference
from verifiers.reading.amounts import NAMES
from verifiers.reading.answer import HASHES, find_answer, last_hashes
from verifiers.reading.numbers import Amount, amount, is_plain, leading_amount
from verifiers.verdicts import GRAMMAR, HEDGE, MALFORMED, NO_ANSWER, OK, RATIONAL, TEXT, TYPED, WRONG

_NO_GOLD = (
    "is not one number, such as '18', '1,250', '-10' or '3/4', nor a solution that ends in '#### 18'; the task math500 "
    "takes answers of other kinds"
)


@lru_cache(maxsize=1 << 14)
def _number_of(reference: str) -> Amount | None:
    """The one number of a reference, with which it begins; None for any other text."""
    marked = last_hashes(reference, 0, len(reference))
    text = (reference[slice(*marked)] if marked else reference).strip()
    first_word = text.split(" ", 1)[0].rstrip("0123456789.,").lower()
    is_currency = first_word in NAMES or first_word in ("minus", "negative")
    number = text[len(first_word) if is_currency else 0 :].lstrip("-+$\\ €£¥₹.")
    if "=" in text or not (number[:1].isdigit() or number.startswith("frac")):
        return None
    found = amount(text)
    return found if isinstance(found, Amount) else None


def _gold(answer: object, row: int | None) -> Amount:
    """The number of a reference; raises if it has none."""
    text = answer if type(answer) is str else batch.as_reference(answer)
    gold = _number_of(text) if text is not None else None
    if gold is None:
        raise invalid_reference("answer", answer, _NO_GOLD, row)
    return gold


def _compared(answer: str, gold: Amount, goes_on: bool = False) -> tuple[int, int]:
    """(reason, tier) of an answer in lenient mode; goes_on: further words may follow its number, as behind ####."""
    found = amount(answer)
    if goes_on and isinstance(found, int):
        found = leading_amount(answer)
    if isinstance(found, int):
        return found, GRAMMAR
    if found.currencies and gold.currencies and not found.currencies & gold.currencies:
        return WRONG, TYPED
    return (OK if found.value == gold.value else WRONG), RATIONAL


def _is_as_in_prompt(text: str, start: int, end: int) -> bool:
    r"""True if the box around text[start:end] is written `\boxed{`, with nothing but blanks beside its content."""
    before, behind = text[max(start - 40, 0) : start].rstrip(" "), text[end : end + 40].lstrip(" ")
    return before.endswith("\\boxed{") and behind.startswith("}")


def judge(text: str, lenient: bool, row: int | None, answer: object) -> batch.Judged:
    """The verdict on one completion; raises for an invalid reference."""
    gold = _gold(answer, row)
    found = find_answer(text, lenient)
    if found.reason != OK:
        return found.reason, TEXT, 0.0, -1, -1
    inside = found.read(text)
    if not (lenient or (found.alone and _is_as_in_prompt(text, found.start, found.end) and is_plain(inside))):
        return MALFORMED, GRAMMAR, 0.0, found.start, found.end
    reason, tier = _compared(inside, gold, found.mark == HASHES)
    return reason, tier, float(reason == OK), found.start, found.end


def judge_answer(inside: str, lenient: bool, row: int | None, answer: object) -> tuple[int, int, float]:
    """(reason, tier, score) of an answer, in strict mode of one alone in its box; raises for an invalid reference."""
    gold = _gold(answer, row)
    if not lenient and not is_plain(inside):
        return MALFORMED, GRAMMAR, 0.0
    reason, tier = _compared(inside, gold)
    return reason, tier, float(reason == OK)


def judge_unmarked(text: str, judged: batch.Judged, answer: object) -> batch.Judged:
    """The verdict in mode flexible on a completion that `judged`, the verdict of lenient mode, does not call right."""
    from verifiers.reading.last_value import last_value  # its patterns take 7 ms to compile

    span = last_value(text, formulas=False) if judged[0] in (NO_ANSWER, MALFORMED, HEDGE) else None
    if span is None:
        return judged
    reason, tier = _compared(text[slice(*span)], _gold(answer, None))
    return judged if reason == MALFORMED else (reason, tier, float(reason == OK), *span)


TASK = batch.text_task(
    "gsm8k",
    ("answer",),
    judge,
    flexible=judge_unmarked,
    kernel=batch.PLAIN_NUMBER,
    judge_located=judge_answer,
)
