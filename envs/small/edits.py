"""Replace and delete letters of a word, wherever they stand, one instruction after the other."""

from typing import ClassVar

import numpy as np

from envs.answers import judge
from envs.core import Problem, Score, TextEnv
from envs.errors import check_choice
from envs.splits import draw_for


class Edits(TextEnv):
    """Edit a word (`spg/Edits-v0`): "a>b" makes every a a b, "-c" drops every c, in that order.

    Prompt: "edit cabbac: a>b -c". Answer: the word that is left.
    """

    reward_weights: ClassVar[dict[str, float]] = {"correct": 1.0, "format": 0.0}

    def __init__(self, split: str = "train", level: int = 1) -> None:
        """Opens one split. level: 1, 2 or 3: so many instructions, on words of 6, 8 or 10 letters."""
        check_choice("edits", "level", level, [1, 2, 3])
        self.split, self.level = split, level

    def __len__(self) -> int:
        """100,000 problems to train on, 256 in each other split."""
        return 100_000 if self.split == "train" else 256

    def problem(self, index: int) -> Problem:
        """A word of the letters a to d and its instructions."""
        word, edits = draw_for(self.split, index, self._draw)
        return Problem(f"edit {word}: {' '.join(edits)}", {"word": word, "edits": edits})

    def score(self, problem: Problem, completion: str) -> Score:
        """correct: the answer is the edited word, letter for letter."""
        truth = edited(**problem.reference, most=-1)
        return judge(completion, lambda answer: answer == truth)

    def demonstration(self, problem: Problem) -> str:
        """The edited word."""
        return f"<answer>{edited(**problem.reference, most=-1)}</answer>"

    def habits(self, problem: Problem) -> dict[str, str]:
        """One habit, "once": every instruction is done at the first place only."""
        return {"once": f"<answer>{edited(**problem.reference, most=1)}</answer>"}

    def _draw(self, rng: np.random.Generator) -> tuple[str, list[str]]:
        word = "".join(rng.choice(list("abcd"), 4 + 2 * self.level))
        pairs = [rng.choice(list("abcd"), 2, replace=False) for _ in range(self.level)]
        edits = [f"{old}>{new}" if rng.random() < 0.5 else f"-{old}" for old, new in pairs]
        return (word, edits) if edited(word, edits, most=-1) else self._draw(rng)  # something is left


def edited(word: str, edits: list[str], most: int) -> str:
    """The word after all instructions, each done at its first `most` places; -1 = at all."""
    for edit in edits:
        old, new = (edit[1], "") if edit[0] == "-" else (edit[0], edit[2])
        word = word.replace(old, new, most)
    return word
