"""Seven small tasks, one file each, and their base class: three levels, splits by content, a right or wrong answer."""

import json
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, ClassVar

import numpy as np

from envs.answer_block import judge
from envs.bases.generated import GeneratedEnv
from envs.problem import Problem, Score
from envs.splits import DEFAULT, SplitRule, distinct, draw_for


class SmallEnv(GeneratedEnv):
    """The base class of the small tasks; a task writes the methods from `draw` on.

    split: "train" (100,000 problems), "validation" or "test" (256 different ones each, or all that a level has).
    level: 1, 2 or 3.
    """

    reward_weights: ClassVar[dict[str, float]] = {"correct": 1.0, "format": 0.0}
    habit: ClassVar[str]
    """The name of the only habit, a plausible way to answer that is often wrong. `mistake` writes its answers."""
    levels = (1, 2, 3)
    sizes: ClassVar[dict[str, int]] = {"train": 100_000}
    split_rule: ClassVar[SplitRule] = DEFAULT
    """The rule by which drawn content is assigned to a split."""

    def __init__(self, split: str = "train", level: int = 1) -> None:
        self.task = type(self).__name__.lower()
        super().__init__(split, level)

    @property
    def _items(self) -> Sequence[Any] | None:  # type: ignore[override]
        return None if self.split == "train" else fixed_set(type(self), self.split, self.level)

    def _draw(self, index: int) -> Any:
        return draw_for(self.split, index, self.draw, self.split_rule)

    def problem(self, index: int) -> Problem:
        return self.as_problem(self._item(index))

    def score(self, problem: Problem, completion: str) -> Score:
        return judge(completion, lambda answer: self.is_right(answer, **problem.reference))

    def feedback(self, problem: Problem, score: Score) -> str:
        flaw = "" if score.extracted is None else self.flaw(score.extracted, **problem.reference)
        return flaw or super().feedback(problem, score)

    def demonstration(self, problem: Problem) -> str | list[str]:
        return f"<answer>{self.solution(**problem.reference)}</answer>"

    def habits(self, problem: Problem) -> Mapping[str, str | list[str]]:
        return {self.habit: f"<answer>{self.mistake(**problem.reference)}</answer>"}

    @abstractmethod
    def draw(self, rng: np.random.Generator) -> Any:
        """The random content of a problem at `self.level`, made of types that `envs.split_of` takes."""

    @abstractmethod
    def as_problem(self, drawn: Any) -> Problem:
        """The problem with content from `draw`. Its `reference` is passed to the four methods below by keyword."""

    def is_right(self, answer: str, **reference: Any) -> bool:
        """Whether the text of the answer block is right. By default it must be the solution, to the letter."""
        return answer == self.solution(**reference)

    def flaw(self, answer: str, **reference: Any) -> str:
        """A sentence on the fault of an answer, for `feedback`; "" = `feedback` only says that the answer is wrong."""
        return ""

    @abstractmethod
    def solution(self, **reference: Any) -> str:
        """A right answer."""

    @abstractmethod
    def mistake(self, **reference: Any) -> str:
        """A plausible answer that is often wrong."""


@cache
def fixed_set(cls: type[SmallEnv], split: str, level: int) -> tuple[Any, ...]:
    """The contents of the different problems of a task's validation or test split, in their fixed order."""
    env = cls(split, level)
    return distinct(lambda index: draw_for(split, index, env.draw, cls.split_rule), key=json.dumps)
