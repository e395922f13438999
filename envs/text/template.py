"""Text with holes, which a model fills in: a problem's `completion_template`, or a `canvas` of `spg_trainer.generate`.

`[MASK]` is the place of one token, `[MASK*8]` are eight places, and `[MASK*]`, which may occur once, is as many places
as a completion has room for. Places that touch are one hole. All other text is given: the model reads it and cannot
change it.
"""

import re
from collections.abc import Sequence

REST = 0
"""The size of the hole that takes all the remaining room."""
# This also matches texts that only look like a hole, e.g. "[MASK 8]", so that they can be refused.
_HOLE = re.compile(r"\[MASK([^\]\n]{0,20})\]?")
_SIZE = re.compile(r"(?:\*([0-9]*))?")  # "", "*8" or "*"


def read_holes(text: str) -> list[str | int]:
    """The parts of a text with holes, in order: given texts, and for each hole its size, `REST` for `[MASK*]`.

    E.g. "a[MASK*8]b[MASK][MASK]" -> ["a", 8, "b", 2]. Raises ValueError, whose text continues "the template ...", for a
    text without a hole, with more than one `[MASK*]`, or with anything else that begins with `[MASK`.
    """
    parts: list[str | int] = []
    end_before = 0  # where the last hole ended
    number_of_rests = 0
    for found in _HOLE.finditer(text):
        size = _SIZE.fullmatch(found[1])
        is_closed = found[0].endswith("]")
        if size is None or not is_closed or (size[1] and int(size[1]) == 0):  # the last is [MASK*0]
            raise ValueError(f"has {found[0]!r}; a hole is [MASK], or of 8 tokens [MASK*8], or [MASK*].")
        if found.start() > end_before:
            parts.append(text[end_before : found.start()])
        end_before = found.end()
        # size[1] is None for [MASK], "" for [MASK*], and "8" for [MASK*8].
        places = REST if size[1] == "" else int(size[1] or 1)
        if places == REST:
            number_of_rests += 1
        if parts and isinstance(parts[-1], int):  # it touches the hole before, so both are one
            places_before = parts.pop()
            places = REST if REST in (places, places_before) else places + places_before
        parts.append(places)
    if end_before < len(text):
        parts.append(text[end_before:])
    if not any(isinstance(part, int) for part in parts):
        raise ValueError(
            "has no hole; write [MASK] for each token that is to be filled in, or [MASK*8] for 8."
        )
    if number_of_rests > 1:
        raise ValueError(
            "has more than one [MASK*], which takes all the room; give the others a size: [MASK*8]."
        )
    return parts


def fill_holes(template: str, fills: Sequence[str]) -> str:
    """The template with the texts `fills` in its holes, in order; raises ValueError if there are not as many texts."""
    parts = read_holes(template)
    holes = sum(isinstance(part, int) for part in parts)
    if holes != len(fills):
        raise ValueError(f"has {holes} holes, and there are {len(fills)} texts to fill them.")
    texts = iter(fills)
    return "".join(part if isinstance(part, str) else next(texts) for part in parts)


def fits(template: str, text: str) -> bool:
    """Whether some filling of the template's holes makes this text; a hole may be filled with any text, also none."""
    parts = read_holes(template)
    texts = [part for part in parts if isinstance(part, str)]
    beginning = texts.pop(0) if isinstance(parts[0], str) else ""
    end = texts.pop() if texts and isinstance(parts[-1], str) else ""
    if not text.startswith(beginning) or not text[len(beginning) :].endswith(end):
        return False
    # The given texts in between are searched one after the other. Each is taken where it first occurs, which leaves
    # the longest rest of the text for the next ones.
    search_from, search_to = len(beginning), len(text) - len(end)
    for part in texts:
        found_at = text.find(part, search_from, search_to)
        if found_at < 0:
            return False
        search_from = found_at + len(part)
    return True
