"""Gymnasium spaces that hold what people really write: any text, in any script."""

from typing import Any

import gymnasium
import numpy as np

_SAMPLES = "abcdefghijklmnopqrstuvwxyz 0123456789<>/\\{}=+-é±中"


class Unicode(gymnasium.Space[str]):
    """Every string. (`gymnasium.spaces.Text` knows only a fixed set of characters.)"""

    def __init__(self, seed: int | np.random.Generator | None = None) -> None:
        super().__init__(shape=None, dtype=None, seed=seed)

    def sample(self, mask: Any = None, probability: Any = None) -> str:
        """A short random text. mask, probability: of no use here, only None is taken."""
        if mask is not None or probability is not None:
            raise ValueError("The Unicode space has no masks or probabilities; leave both at None.")
        picks = self.np_random.integers(len(_SAMPLES), size=int(self.np_random.integers(40)))
        return "".join(_SAMPLES[i] for i in picks)

    def contains(self, x: Any) -> bool:
        """True for any string."""
        return isinstance(x, str)

    @property
    def is_np_flattenable(self) -> bool:
        """False: texts have no fixed length."""
        return False

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self)

    def __hash__(self) -> int:
        return hash(type(self))

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


class PromptText(Unicode):
    """Every string, and every chat: a list of {"role": str, "content": str}."""

    def contains(self, x: Any) -> bool:
        """True for any string and any list of messages."""
        return isinstance(x, str) or (isinstance(x, list) and all(map(_is_message, x)))


def _is_message(x: Any) -> bool:
    return (
        isinstance(x, dict)
        and {"role", "content"} <= x.keys()
        and isinstance(x["role"], str)
        and isinstance(x["content"], str)
    )
