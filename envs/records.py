"""What passes between an environment and the people who use it: problems and scores."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

Prompt = str | list[dict[str, str]]
"""A user's text, or a chat: [{"role": "user", "content": "..."}, ...]."""


@dataclass(frozen=True)
class Problem:
    """One task: what the model is shown, and what its answer is judged by."""

    prompt: Prompt
    """What the model reads."""
    reference: dict[str, Any]
    """The keyword fields that `verifiers.verify` takes for this task, e.g. {"puzzle": "0310..."}."""
    completion_prefix: str = ""
    """Text with which every completion begins, written for the model."""
    metadata: dict[str, Any] = field(default_factory=dict)
    """Whatever else is worth knowing: a solution, a level; never shown to the model."""


@dataclass(frozen=True)
class Score:
    """The verdict on one completion, component by component."""

    rewards: dict[str, float]
    """One finite number for each name in the environment's `reward_weights`; "correct" is 0 or 1."""
    reason: str = ""
    """The outcome in a word: "ok", "wrong", "no_answer", ..."""
    extracted: str | None = None
    """The part of the completion that was judged."""


@dataclass(frozen=True)
class Scores:
    """The verdicts on n completions at once."""

    rewards: dict[str, np.ndarray]
    """{component: (n,) float}, one for each name in `reward_weights`."""
    reason: Sequence[str]
    """n words, as in `Score.reason`."""
    extracted: Sequence[str | None]
    """n texts, as in `Score.extracted`."""

    def __len__(self) -> int:
        return len(self.reason)
