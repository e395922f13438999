r"""The task `json`: is the answer this JSON value? Numbers count by value, and keys may stand in any order.

Reference: `answer`, a value or its JSON text. Optional: `keys`, those of the object that are compared. See
docs/verifiers/json.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from verifiers import batch
from verifiers.errors import invalid_reference
from verifiers.reading.answer import ANSWER_LIMIT, find_answer, regions
from verifiers.reading.json_values import DEPTH_LIMIT, is_same, last_value, parsed
from verifiers.text import items_of
from verifiers.verdicts import GRAMMAR, MALFORMED, NO_ANSWER, OK, TEXT, TYPED, WRONG, Reason

_NO_JSON = "is no JSON value, such as {'total': 7} or '[1, 2]'; a text has quotation marks, '\"spam\"'"

_LONGEST_SCALAR = 64
"""The most characters of a completion that may be a bare number, true, false or null."""


def gold_of(answer: object, row: int | None) -> Any:
    """The value of a reference, as `parsed` gives it; raises if it is none."""
    try:
        return parsed(answer) if isinstance(answer, str) else _converted(answer, DEPTH_LIMIT)
    except ValueError as error:
        raise invalid_reference("answer", answer, f"{_NO_JSON} ({error})", row) from error


def _converted(value: Any, depth: int) -> Any:
    """A value of Python as `parsed` gives its JSON; raises ValueError for one that JSON has not.

    depth: how many lists and objects may still be inside it.
    """
    if value is None and depth == DEPTH_LIMIT:
        raise ValueError("it is empty")
    if value is None or type(value) in (str, bool):
        return value
    if hasattr(value, "tolist") and value.shape != ():  # an array of numpy
        value = value.tolist()
    if depth and isinstance(value, list | tuple):
        return [_converted(item, depth - 1) for item in value]
    if depth and isinstance(value, Mapping) and all(type(key) is str for key in value):
        return {key: _converted(item, depth - 1) for key, item in value.items()}
    number = batch.as_reference(value)
    if number is None:
        raise ValueError(f"it has a {type(value).__name__}" if depth else "it is too deep")
    return parsed(number)


def keys_of(keys: object, gold: Any, row: int | None) -> list[str]:
    """The keys that are compared; raises if they are no list, or if the reference has no such keys."""
    names = items_of(keys)
    if names is None:
        raise invalid_reference(
            "keys", keys, "is no list of keys, such as ['total', 'date'] or 'total,date'", row
        )
    if lacking := [name for name in names if type(gold) is not dict or name not in gold]:
        raise invalid_reference("keys", keys, f"has {lacking[0]!r}, a key that the reference has not", row)
    return names


def locate(text: str, lenient: bool) -> tuple[int, int, int]:
    """(OK or why there is no answer, start, end) of the JSON text of a completion.

    It is all of the completion, if that is one value. Else, in the last closed block, behind an unclosed one, or in
    the completion: the last fence, list or object, or the whole block; else what a box or `####` marks.
    """
    found = regions(text)
    has_block = found.block[0] >= 0
    if not lenient and not (has_block and found.single):
        return (MALFORMED if has_block else NO_ANSWER), -1, -1
    if found.unended >= 0 and found.block[0] < found.unended:
        return NO_ANSWER, -1, -1  # thinking that never ends
    whole = _stripped(text, found.begin, found.cut)
    may_be_value = text.startswith(("{", "[", '"'), whole[0]) or whole[1] - whole[0] <= _LONGEST_SCALAR
    if lenient and may_be_value and _value_of(text, *whole) is not None:
        return OK, *whole
    start, end = _stripped(text, *found.block) if has_block else whole
    if not has_block and found.unclosed[0] >= 0:
        start, end = _stripped(text, *found.unclosed)
    if has_block and (start == end or not lenient or _value_of(text, start, end) is not None):
        return (OK if start < end else NO_ANSWER), start, end
    if span := last_value(text, start, end):
        return OK, *_stripped(text, *span)
    if has_block:
        return OK, start, end
    marked = find_answer(text, marks_only=True)
    return marked.reason, marked.start, marked.end


def _stripped(text: str, start: int, end: int) -> tuple[int, int]:
    """The span without white space at its ends."""
    inside = text[start:end]
    start += len(inside) - len(inside.lstrip())
    return start, start + len(inside.strip())


def _value_of(text: str, start: int, end: int) -> tuple[Any] | None:
    """(the value of a JSON text,), or None if it is none, or longer than an answer may be."""
    try:
        return (parsed(text[start:end]),) if end - start <= ANSWER_LIMIT else None
    except ValueError:
        return None


def judge(text: str, lenient: bool, row: int | None, answer: object, keys: object) -> batch.Judged:
    """The verdict on one completion; raises for an invalid reference."""
    gold = gold_of(answer, row)
    names = None if keys is None else keys_of(keys, gold, row)
    reason, start, end = locate(text, lenient)
    if reason != OK:
        return reason, TEXT, 0.0, start, end
    value = _value_of(text, start, end)
    if value is None:
        return MALFORMED, GRAMMAR, 0.0, start, end
    said = value[0]
    if names is None:
        right = is_same(said, gold)
    else:
        right = type(said) is dict and all(name in said and is_same(said[name], gold[name]) for name in names)
    return (OK if right else WRONG), TYPED, float(right), start, end


def explain(extracted: str | None, reason: str, answer: object, keys: object = None) -> str:
    """Why an answer is no JSON; else ""."""
    if reason != Reason.MALFORMED or not extracted:
        return ""
    try:
        parsed(extracted[:ANSWER_LIMIT])
    except ValueError as error:
        return f"The answer {extracted[:60]!r} is no JSON: {error}."
    return f"The answer is longer than {ANSWER_LIMIT:,} characters."


TASK = batch.text_task(
    "json", ("answer",), judge, optional=("keys",), settings=("keys",), marks_only=True, explain=explain
)
