"""Finds half of a character, i.e. a lone surrogate such as "\\ud83d", which JSON allows but no tokenizer can encode."""

from collections.abc import Mapping
from typing import Any


def half_character(value: Any) -> str:
    """A clause on a value with half of a character in it; "" if it has none.

    value: a text, or lists and dicts with texts in them. The clause follows a subject such as "the prompt": it begins
    with "has half of a character".
    """
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError as error:
            half, near = value[error.start], value[max(0, error.start - 20) : error.start + 20]
            return (
                f"has half of a character, {half!a}, in {near!a}: a text that was cut inside an emoji or a "
                "rare sign. Write the whole character, or leave it out."
            )
        return ""
    parts = list(value.values()) if isinstance(value, Mapping) else value
    if not isinstance(parts, list | tuple):
        return ""
    return next(filter(None, map(half_character, parts)), "")
