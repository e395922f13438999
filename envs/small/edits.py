"""Replace and delete all occurrences of letters in a word, one instruction after the other."""

import numpy as np

from envs.problem import Problem
from envs.small import SmallEnv


class Edits(SmallEnv):
    """Edit a word (`spg/Edits-v0`): "a>b" makes every a a b, "-c" drops every c, in that order.

    Prompt: "edit cabbac: a>b -c", a word of the letters a to d. Answer: the word that is left. level: 1, 2 or 3
    instructions, on words of 6, 8 or 10 letters. Habit "once", a way to answer that is often wrong: each instruction
    changes only the first such letter.
    """

    habit = "once"

    def draw(self, rng: np.random.Generator) -> tuple[str, list[str]]:
        word = "".join(rng.choice(list("abcd"), 4 + 2 * self.level))
        pairs = [rng.choice(list("abcd"), 2, replace=False) for _ in range(self.level)]
        edits = [f"{old}>{new}" if rng.random() < 0.5 else f"-{old}" for old, new in pairs]
        if not edited(word, edits):  # nothing would be left: draw again
            return self.draw(rng)
        return word, edits

    def as_problem(self, drawn: tuple[str, list[str]]) -> Problem:
        word, edits = drawn
        return Problem(f"edit {word}: {' '.join(edits)}", {"word": word, "edits": edits})

    def solution(self, word: str, edits: list[str]) -> str:
        return edited(word, edits)

    def mistake(self, word: str, edits: list[str]) -> str:
        return edited(word, edits, most=1)


def edited(word: str, edits: list[str], most: int = -1) -> str:
    """The word after all instructions. most: how many letters each of them changes, from the left; -1 = all."""
    for edit in edits:
        if edit[0] == "-":  # "-c"
            old, new = edit[1], ""
        else:  # "a>b"
            old, new = edit[0], edit[2]
        word = word.replace(old, new, most)
    return word
