"""Half of a character, i.e. a lone surrogate such as "\\ud83d": JSON may hold one, but no tokenizer can encode it."""

from collections.abc import Mapping
from typing import Any


def half_character(value: Any) -> str:
    """What is wrong with a value in which half of a character stands; "" if there is none.

    value: a text, or lists and dicts with texts in them. The result goes on from a subject such as "the prompt": it
    begins with "has half of a character".
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
    if isinstance(value, Mapping):
        value = list(value.values())
    parts = value if isinstance(value, list | tuple) else ()
    return next(filter(None, map(half_character, parts)), "")
