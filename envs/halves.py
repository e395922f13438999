"""Half of a character, a lone surrogate: JSON may hold one, and no text that a tokenizer reads does."""

from collections.abc import Mapping
from typing import Any


def half_character(value: Any) -> str:
    """Where a text, or one inside lists and dicts, has half of a character, as the end of a sentence; "" = nowhere."""
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
    parts = value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ()
    return next(filter(None, map(half_character, parts)), "")
