"""What the tasks' constructions give: right answers, and answers one edit away from them."""

from collections.abc import Callable
from typing import NamedTuple


class Case(NamedTuple):
    """A completion that is right, and one that may not be."""

    right: str
    edited: str
    reference: dict
    oracle: Callable[[str], bool]
    """A slow and independent judge of both; what it calls wrong is wrong."""
