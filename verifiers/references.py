"""How a verifier reads the references of a file, said in sentences before anything is judged by them.

`envs check`, the start of a run on a file of rows, and the summary of `python -m verifiers` say them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from verifiers import batch
from verifiers.limit import time_limit
from verifiers.registry import find, verify

ROWS_READ = 5_000
"""The most rows that are looked at."""
_EXAMPLES = 3
_PAIRS_TRIED = 2_000  # pairs of references that are judged by each other
_SECONDS = 10  # in which the computer algebra system is asked about them


class _Read(NamedTuple):
    """How one reference is read."""

    text: str
    """The reference as it is shown."""
    key: object
    """Equal for references that count as equal; for numbers and mathematics, for those that may."""
    ways: tuple[str, ...] = ()
    """Names in `_WAYS` of what should be known of it."""


_WAYS = {
    "list": "are read as lists ({}), in any order",
    "numbers": 'are read as lists ({}), in any order; decimal="," reads them as numbers with a decimal comma',
    "letters": "are read as products of letters ({}); labels and codes are for the task text",
    "text": "cannot be read as mathematics, only compared as text ({}): no other spelling is right",
    "unit": "name a unit ({}), and units are not compared; with unit=, another unit is wrong",
    "point": 'have three digits behind a point ({}), which are decimals; decimal="," reads them as thousands',
    "comma": 'have three digits behind a point ({}), which are thousands by decimal=","',
}
"""{way to read a reference: the end of a sentence that begins "3 of 10 references", with a place for examples}."""
_OF_ONE = {"are": "is", "have": "has", "name": "names"}


def how_read(task: str, references: Sequence[tuple[str, Mapping[str, Any]]]) -> list[str]:
    """Sentences on how the references of a file are read; [] if nothing about them needs to be known.

    They count references that are read as lists, as products of letters or as text, that have units which are not
    compared, and that end in a point and three digits; and they name different references that count as equal.

    Args:
        task: the verifier. Sentences are only known of `gsm8k`, `math500`, `text` and `json`.
        references: (where a row stands, such as "rows.jsonl, line 3", its reference: {field or setting: value}, valid)
            of each row. The first `ROWS_READ` rows are looked at.
    """
    reader = _READERS.get(find(task).name)
    if reader is None:
        return []
    rows = [row for _, row in references[:ROWS_READ]]
    read = [reader(row) for row in rows]
    of = f"the first {len(read):,}" if len(references) > len(read) else f"{len(read):,}"
    sentences = []
    for way, end in _WAYS.items():
        texts = [one.text for one in read if way in one.ways]
        if texts:
            verb, _, rest = end.partition(" ")
            verb = _OF_ONE.get(verb, verb) if len(texts) == 1 else verb
            sentences.append(f"{len(texts):,} of {of} references {verb} {rest.format(_shown(texts))}.")
    different: dict[object, dict[str, int]] = {}  # {key: {reference: its first row}}
    for row, one in enumerate(read):
        different.setdefault(one.key, {}).setdefault(one.text, row)
    equal = _equal_pairs(find(task).name, rows, different.values())
    if equal:
        shown = [
            f"{read[one].text!r:.40} ({references[one][0]}) and {read[other].text!r:.40} ({references[other][0]})"
            for one, other in equal[:_EXAMPLES]
        ]
        more = f"; {len(equal) - _EXAMPLES:,} more" if len(equal) > _EXAMPLES else ""
        count = (
            "2 different references count" if len(equal) == 1 else f"{len(equal):,} pairs of references count"
        )
        sentences.append(f"{count} as equal: {'; '.join(shown)}{more}.")
    return sentences


def _shown(texts: Iterable[str]) -> str:
    """The first different texts as examples: "`12,50`, `18,5`"."""
    return ", ".join(f"`{text:.40}`" for text in list(dict.fromkeys(texts))[:_EXAMPLES])


def _equal_pairs(
    task: str, rows: Sequence[Mapping[str, Any]], groups: Iterable[Mapping[str, int]]
) -> list[tuple[int, int]]:
    """(row, other row) of different references that count as equal. groups: {reference: its first row} of one key."""
    pairs = [
        (first, other) for first, *others in (list(group.values()) for group in groups) for other in others
    ]
    if task in ("text", "json"):
        return pairs
    answers = {row: f"<answer>{_final(rows[row]['answer'])}</answer>" for pair in pairs for row in pair}
    with time_limit(_SECONDS):
        return [
            (one, other)
            for one, other in pairs[:_PAIRS_TRIED]
            if verify(task, answers[other], **rows[one]).correct
            or verify(task, answers[one], **rows[other]).correct
        ]


_COMMA_IN_NUMBER = re.compile(r"\d,\d")
_POINT_AND_THREE = re.compile(r"(?<![\d.,])[1-9]\d{0,2}+(?:\.\d{3})++(?![\d.,])")


def _final(answer: Any) -> str:
    """The reference as text: of a solution, what stands behind its last ####."""
    from verifiers.reading.answer import last_hashes

    text = batch.as_reference(answer) or str(answer)
    marked = last_hashes(text, 0, len(text))
    return (text[slice(*marked)] if marked else text).strip()


def _decimal_of(row: Mapping[str, Any]) -> Any:
    """The sign before the decimals of a reference: that of a number itself, which is no text, is the point."""
    return row.get("decimal") if isinstance(row["answer"], str) else None


def _read_number(row: Mapping[str, Any]) -> _Read:
    from verifiers.gsm8k import value_of

    text, decimal = _final(row["answer"]), _decimal_of(row)
    value, unit = value_of(text, decimal)
    ways = ["unit"] if unit and row.get("unit") is None else []
    if _POINT_AND_THREE.search(text):
        ways.append("comma" if decimal == "," else "point")
    return _Read(text, value, tuple(ways))


def _read_mathematics(row: Mapping[str, Any]) -> _Read:
    from verifiers.gsm8k import value_of
    from verifiers.math500.task import gold_of
    from verifiers.math500.values import Several

    text, decimal = _final(row["answer"]), _decimal_of(row)
    reference, _ = gold_of(row["answer"], decimal, None)
    ways = []
    if type(reference.meaning) is Several:
        ways.append("numbers" if _COMMA_IN_NUMBER.search(text) else "list")
    elif text.isalpha() and len(text) > 1 and (reference.variables or _is_product(text)):
        ways.append("letters")
    elif reference.is_text:
        ways.append("text")
    if _POINT_AND_THREE.search(text):
        ways.append("comma" if decimal == "," else "point")
    value, _ = value_of(text, decimal)
    signs = "".join(sorted(sign for sign in text.casefold() if sign.isalnum()))
    return _Read(text, signs if value is None else value, tuple(ways))


def _is_product(text: str) -> bool:
    """Whether the letters of a word count in any order: `is`, for which `si` is right."""
    return text != text[::-1] and verify("math500", f"<answer>{text[::-1]}</answer>", answer=text).correct


def _read_text(row: Mapping[str, Any]) -> _Read:
    from verifiers.text import gold_of, keeps_case, normal

    text = gold_of(row["answer"], None)
    return _Read(text, normal(text, keeps_case(row.get("case"), None)))


def _read_json(row: Mapping[str, Any]) -> _Read:
    from verifiers.json_value import gold_of, keys_of

    gold = gold_of(row["answer"], None)
    if row.get("keys") is not None:
        gold = {name: gold[name] for name in keys_of(row["keys"], gold, None)}
    answer = row["answer"]
    text = answer.strip() if isinstance(answer, str) else json.dumps(answer, default=str, sort_keys=True)
    return _Read(text, _frozen(gold))


def _frozen(value: Any) -> object:
    """A JSON value as a key that is equal for equal values, in which true is not 1."""
    if isinstance(value, dict):
        return "object", frozenset((name, _frozen(inside)) for name, inside in value.items())
    if isinstance(value, list):
        return "list", tuple(map(_frozen, value))
    return type(value).__name__, value


_READERS: dict[str, Callable[[Mapping[str, Any]], _Read]] = {
    "gsm8k": _read_number,
    "math500": _read_mathematics,
    "text": _read_text,
    "json": _read_json,
}
