"""Generated word problems with exact whole answers, from private streams, in splits that share no calculation."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from envs.gsm8k.templates import NAMES, SIGNS, TEMPLATES, THINGS, LineTemplate, SentenceTemplate
from envs.splits import GSM8K as SPLIT_RULE
from envs.splits import STREAMS, distinct, pick

LEVELS = tuple(TEMPLATES)
_SEED = 8_000_008  # keeps these streams apart from those of any other task
Solution = tuple[tuple[str, ...], str]
"""Lines of working, ("12-5=7", "7+3=10"), and the answer, "10"."""


@dataclass(frozen=True)
class WordProblem:
    """A question, its solution, and what somebody in a hurry makes of it."""

    question: str
    gold: str
    """The answer as the data set writes it, thousands separators included."""
    right: Solution
    hasty: Solution


def split_of(steps: Sequence[str]) -> str:
    """The split that owns a calculation: a tenth is validation's, a tenth is test's."""
    return SPLIT_RULE(" ".join(steps))


def train_problem(level: int, index: int) -> WordProblem:
    """Problem number `index` of the training stream, a pure function of both."""
    return _draw(np.random.default_rng([_SEED, level, STREAMS["train"], index]), level, "train")


@cache
def fixed_set(level: int, split: str) -> tuple[WordProblem, ...]:
    """The 256 different problems of `validation` or `test`, in their fixed order."""
    rng = np.random.default_rng([_SEED, level, STREAMS[split]])
    return distinct(lambda turn: _draw(rng, level, split), key=lambda problem: problem.question)


def _draw(rng: np.random.Generator, level: int, split: str) -> WordProblem:
    """The template first, then numbers until they suit it and the split, so that no template is favoured."""
    sentences = pick(rng, TEMPLATES[level]) if level > 1 else None
    line, signs = pick(rng, TEMPLATES[1]), pick(rng, SIGNS)
    while True:
        problem = _fill_line(rng, line, signs) if sentences is None else _fill_sentences(rng, sentences)
        if problem is not None and split_of(problem.right[0]) == split:
            return problem


def _fill_line(rng: np.random.Generator, template: LineTemplate, signs: str) -> WordProblem | None:
    """A level 1 problem; None if a result has other than two digits."""
    a, b, c = (int(rng.integers(low, high + 1)) for low, high in ((12, 30), (2, 5), (2, 5)))
    first = a + b if signs[0] == "+" else a - b
    second = first + c if signs[1] == "+" else first - c
    if min(first, second) < 10:
        return None
    verbs = [pick(rng, (template.more if sign == "+" else template.less).split()) for sign in signs]
    opening, unit = template.opening.format(name=pick(rng, NAMES)), pick(rng, template.units.split())
    text = f"{opening} {a} {unit}, {verbs[0]} {b}, {verbs[1]} {c}. {unit.title()}?"
    return _word_problem(text, [f"{a}{signs[0]}{b}={first}", f"{first}{signs[1]}{c}={second}"], [a, b, c])


def _fill_sentences(rng: np.random.Generator, template: SentenceTemplate) -> WordProblem | None:
    """A problem of level 2 or 3; None if a step gives no whole number above zero."""
    values = {letter: pick(rng, choices) for letter, choices in template.numbers.items()}
    steps, known = [], dict(values)
    for number, (left, sign, right) in enumerate(template.steps, 1):
        a, b = (known[side] if side in known else int(side) for side in (left, right))
        if sign == "/" and a % b:
            return None
        value = {"+": a + b, "-": a - b, "*": a * b, "/": a // b}[sign]
        if value < 1:
            return None
        known[f"r{number}"] = value
        steps.append(f"{a}{sign}{b}={value}")
    name, other = (NAMES[i] for i in rng.permutation(len(NAMES))[:2])
    text = template.text.format(name=name, other=other, things=pick(rng, THINGS), **values)
    return _word_problem(text, steps, list(values.values()))


def _word_problem(question: str, steps: list[str], numbers: list[int]) -> WordProblem:
    """numbers: as they stand in the question; the hasty add all of them, one after another."""
    sums, total = [], numbers[0]
    for number in numbers[1:]:
        sums.append(f"{total}+{number}={total + number}")
        total += number
    answer = steps[-1].rpartition("=")[2]
    return WordProblem(question, answer, (tuple(steps), answer), (tuple(sums), str(total)))
