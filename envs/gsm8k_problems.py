"""Word problems with exact whole answers, drawn with private streams, in splits that share no calculation."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from string import Formatter
from typing import TypeVar

import numpy as np

from envs.gsm8k_templates import NAMES, SIGNS, STORIES, TALES, THINGS, Story, Tale

LEVELS = (1, 2, 3)
SPLIT_SIZES = {"train": 1_000_000, "validation": 256, "test": 256}
_STREAMS = {"train": 0, "validation": 1, "test": 2}
_DOMAIN = 8_000_008  # keeps these streams apart from those of any other task
T = TypeVar("T")


@dataclass(frozen=True)
class WordProblem:
    """A question, the steps to its answer, and what somebody in a hurry does with its numbers."""

    text: str
    steps: tuple[str, ...]
    """("12-5=7", "7+3=10"); the answer is the last number."""
    hasty: tuple[str, ...]
    """The same layout for who adds all numbers in the order in which they stand in the text."""

    @property
    def answer(self) -> int:
        """What the last step gives."""
        return result(self.steps)


def result(steps: tuple[str, ...]) -> int:
    """The number behind the last = sign."""
    return int(steps[-1].rpartition("=")[2])


def split_of(steps: tuple[str, ...]) -> str:
    """The split that owns a calculation, by a hash: a tenth is validation's, a tenth is test's."""
    digest = hashlib.sha256(" ".join(steps).encode("ascii")).digest()
    return {0: "validation", 1: "test"}.get(int.from_bytes(digest[:8], "big") % 10, "train")


def train_problem(level: int, index: int) -> WordProblem:
    """Problem number `index` of the training stream, a pure function of both."""
    return _draw_from(np.random.default_rng([_DOMAIN, level, _STREAMS["train"], index]), level, "train")


@cache
def fixed_set(level: int, split: str) -> tuple[WordProblem, ...]:
    """The 256 different problems of `validation` or `test`, in their fixed order."""
    rng = np.random.default_rng([_DOMAIN, level, _STREAMS[split]])
    found: dict[str, WordProblem] = {}
    while len(found) < SPLIT_SIZES[split]:
        problem = _draw_from(rng, level, split)
        found.setdefault(problem.text, problem)
    return tuple(found.values())


def _draw_from(rng: np.random.Generator, level: int, split: str) -> WordProblem:
    """The template first, then numbers until they suit it and the split, so that no template is favoured."""
    tale = _pick(rng, TALES[level]) if level > 1 else None
    story, signs = _pick(rng, STORIES), _pick(rng, SIGNS)
    while True:
        problem = _story(rng, story, signs) if tale is None else _tale(rng, tale)
        if problem is not None and split_of(problem.steps) == split:
            return problem


def _story(rng: np.random.Generator, story: Story, signs: str) -> WordProblem | None:
    """A level 1 problem; None if a result has other than two digits."""
    a, b, c = (int(rng.integers(low, high + 1)) for low, high in ((12, 30), (2, 5), (2, 5)))
    first = a + b if signs[0] == "+" else a - b
    second = first + c if signs[1] == "+" else first - c
    if min(first, second) < 10:
        return None
    does, then = (_pick(rng, story.more if sign == "+" else story.less) for sign in signs)
    opening, unit = story.opening.format(name=_pick(rng, NAMES)), _pick(rng, story.units)
    text = f"{opening} {a} {unit}, {does} {b}, {then} {c}. {unit.title()}?"
    steps = (f"{a}{signs[0]}{b}={first}", f"{first}{signs[1]}{c}={second}")
    return WordProblem(text, steps, added([a, b, c]))


def _tale(rng: np.random.Generator, tale: Tale) -> WordProblem | None:
    """A problem of level 2 or 3; None if a step gives no whole number above zero."""
    values = {letter: _pick(rng, choices) for letter, choices in tale.numbers.items()}
    steps, known = [], dict(values)
    for number, step in enumerate(tale.steps, 1):
        left, sign, right = step.split()
        a, b = (known[side] if side in known else int(side) for side in (left, right))
        if sign == "/" and a % b:
            return None
        value = {"+": a + b, "-": a - b, "*": a * b, "/": a // b}[sign]
        if value < 1:
            return None
        known[f"r{number}"] = value
        steps.append(f"{a}{sign}{b}={value}")
    name, other = (NAMES[i] for i in rng.permutation(len(NAMES))[:2])
    text = tale.text.format(name=name, other=other, things=_pick(rng, THINGS), **values)
    in_order = [letter for _, letter, _, _ in Formatter().parse(tale.text) if letter in values]
    return WordProblem(text, tuple(steps), added([values[letter] for letter in in_order]))


def added(numbers: Sequence[int]) -> tuple[str, ...]:
    """The steps of who adds everything up: [12, 5, 3] -> ("12+5=17", "17+3=20")."""
    steps, total = [], numbers[0]
    for number in numbers[1:]:
        steps.append(f"{total}+{number}={total + number}")
        total += number
    return tuple(steps)


def _pick(rng: np.random.Generator, options: Sequence[T]) -> T:
    return options[int(rng.integers(len(options)))]
