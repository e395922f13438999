"""Text with holes, which a model fills in: a problem's `completion_template`, and the canvas of `spg_trainer.generate`.

`[MASK]` is the place of one token, `[MASK*8]` are eight such places, and `[MASK*]`, at most once, is as many as a
completion has room for. Places that touch make one hole. Everything else is given: the model reads it and leaves it.
"""

import re
from collections.abc import Sequence

REST = 0
"""The size of the hole that takes all the room that is left."""
_HOLE = re.compile(r"\[MASK([^\]\n]{0,20})\]?")
_SIZE = re.compile(r"(?:\*([0-9]*))?")


def read_holes(text: str) -> list[str | int]:
    """What a text with holes is made of, in order: given texts, and the sizes of holes, `REST` for `[MASK*]`.

    Raises ValueError, whose sentence goes on from "the template", where there is no hole, more than one `[MASK*]`, or
    something else that begins with `[MASK`.
    """
    parts: list[str | int] = []
    at = 0
    for found in _HOLE.finditer(text):
        size = _SIZE.fullmatch(found[1])
        if size is None or not found[0].endswith("]") or (size[1] and int(size[1]) == 0):
            raise ValueError(f"has {found[0]!r}; a hole is [MASK], or of 8 tokens [MASK*8], or [MASK*].")
        if found.start() > at:
            parts.append(text[at : found.start()])
        places = REST if size[1] == "" else int(size[1] or 1)
        if parts and isinstance(parts[-1], int):  # it touches the hole before: both are one
            before = parts.pop()
            if places == before == REST:
                parts.append(REST)  # is refused below
            places = REST if REST in (places, before) else places + before
        parts.append(places)
        at = found.end()
    if at < len(text):
        parts.append(text[at:])
    sizes = [part for part in parts if isinstance(part, int)]
    if not sizes:
        raise ValueError(
            "has no hole; write [MASK] for each token that is to be filled in, or [MASK*8] for 8."
        )
    if sizes.count(REST) > 1:
        raise ValueError(
            "has more than one [MASK*], which takes all the room; give the others a size: [MASK*8]."
        )
    return parts


def fill_holes(template: str, fills: Sequence[str]) -> str:
    """The template with a text for each of its holes, in order; raises ValueError for another number of texts."""
    parts = read_holes(template)
    if (holes := sum(isinstance(part, int) for part in parts)) != len(fills):
        raise ValueError(f"has {holes} holes, and there are {len(fills)} texts to fill them.")
    texts = iter(fills)
    return "".join(part if isinstance(part, str) else next(texts) for part in parts)


def fits(template: str, text: str) -> bool:
    """Whether a text is what the template can become, whatever its holes are filled with."""
    parts = read_holes(template)
    given = [part for part in parts if isinstance(part, str)]
    beginning = given.pop(0) if isinstance(parts[0], str) else ""
    end = given.pop() if given and isinstance(parts[-1], str) else ""
    if not (text.startswith(beginning) and text[len(beginning) :].endswith(end)):
        return False
    at, stop = len(beginning), len(text) - len(end)
    for part in given:  # each as early as it can stand: what follows then has the most room
        place = text.find(part, at, stop)
        if place < 0:
            return False
        at = place + len(part)
    return True
