"""Gymnasium spaces that hold what people really write: any text, in any script."""

from typing import Any

import gymnasium

_SAMPLES = "abcdefghijklmnopqrstuvwxyz 0123456789<>/\\{}=+-é±中"


class Unicode(gymnasium.Space[str]):
    """Every string. (`gymnasium.spaces.Text` knows only a fixed set of characters.)"""

    is_np_flattenable = False

    def sample(self, mask: None = None, probability: None = None) -> str:
        """A short random text; there are no masks or probabilities of texts."""
        if mask is not None or probability is not None:
            raise ValueError("The Unicode space has no masks or probabilities; leave both at None.")
        picks = self.np_random.integers(len(_SAMPLES), size=int(self.np_random.integers(40)))
        return "".join(_SAMPLES[i] for i in picks)

    def contains(self, x: Any) -> bool:
        return isinstance(x, str)

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self)

    def __hash__(self) -> int:
        return hash(type(self))

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


class PromptText(Unicode):
    """Every string, and every chat: a list of {"role": str, "content": str}."""

    def contains(self, x: Any) -> bool:
        return isinstance(x, str) or (isinstance(x, list) and all(map(_is_message, x)))


def _is_message(x: Any) -> bool:
    return isinstance(x, dict) and all(isinstance(x.get(key), str) for key in ("role", "content"))
