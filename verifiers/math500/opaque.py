r"""References that no grammar reads are compared as text: `\text{4:30 p.m.}`, `\langle 1, 2 \rangle`, a sentence."""

from __future__ import annotations

from functools import lru_cache

from verifiers.math500.lexer import WORD, Lexer, Malformed
from verifiers.math500.normal_text import key

Time = tuple[tuple[int, ...], str]


def same_text(answer: str, gold: str) -> bool:
    """True for one text in two layouts, and for one time of day or on a clock."""
    answer, gold = unlaid(answer), unlaid(gold)
    return answer == gold or (time_of(answer) == time_of(gold) is not None)


@lru_cache(8192)
def unlaid(text: str) -> str:
    """The values of the text's tokens, without braces around a single one; its normal text if it has none."""
    try:
        tokens = Lexer(text, None).run()
    except Malformed:
        return key(text)
    values: list[str] = []
    for kind, value, _ in tokens:
        values.append(value.lower() if kind == WORD and len(value) > 1 else value)
        if value == "}" and values[-3:-2] == ["{"]:
            values[-3:] = [values[-2]]
    return " ".join(values)


def time_of(text: str) -> Time | None:
    """((hours, minutes, ...), "am", "pm" or "") of 8:34 p.m., 05:00 and 9 a.m.; None for what is no time."""
    text = text.lower().replace(".", "").replace(" ", "")
    half = text[-2:] if text.endswith(("am", "pm")) else ""
    numbers = text.removesuffix(half).split(":")
    if not all(n.isascii() and n.isdigit() and len(n) <= 2 for n in numbers) or not (half or numbers[1:]):
        return None
    return (*map(int, numbers), *[0] * (2 - len(numbers))), half
