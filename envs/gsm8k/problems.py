"""GSM8K's problems: generated ones, whose splits share no calculation, and the rows of the published set."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from envs.datasets import HubDataset, Row
from envs.errors import EnvError
from envs.gsm8k.templates import NAMES, SIGNS, TEMPLATES, THINGS, LineTemplate, SentenceTemplate
from envs.splits import GSM8K as SPLIT_RULE
from envs.splits import pick
from verifiers.batch import as_reference

TRAIN = HubDataset("openai/gsm8k", "main", "train", 7473)
TEST = HubDataset("openai/gsm8k", "main", "test", 1319)
COLUMNS = ("question", "answer")
hashed = str.strip  # what of a question's text decides its split, see `envs.datasets.load_split`
LEVELS = tuple(TEMPLATES)
SEED = 8_000_008  # keeps these streams apart from those of any other task
_NUMBER = re.compile(r"-?(\d+|\d{1,3}(,\d{3})+)(\.\d+)?")
_CALCULATOR_MARK = re.compile(r"<<[^<>]*>>")  # as in 48/2=<<48/2=24>>24
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


def draw(rng: np.random.Generator, level: int, split: str, turn: int | None) -> WordProblem:
    """Draws the template, then numbers until they suit it and the split, so that no template is favoured.

    turn: of no use here, as all templates are drawn alike; see `envs.published.PublishedEnv.bank`.
    """
    sentences = pick(rng, TEMPLATES[level]) if level > 1 else None
    line, signs = (
        pick(rng, TEMPLATES[1]),
        pick(rng, SIGNS),
    )  # drawn at every level: released problems depend on it
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


def read_row(row: Row) -> WordProblem:
    """One row, its answer read from behind the last ####; raises EnvError, naming file and line, if it is no number."""
    solution = row.values["answer"]
    working, _, gold = (as_reference(solution) or "").rpartition("####")
    gold = gold.strip()
    if not _NUMBER.fullmatch(gold):
        wanted = 'a number such as 1,250 or -3, or a solution that ends in "#### 1,250"'
        raise EnvError(f"gsm8k: {row.where} has the answer {solution!r:.80}; it must be {wanted}.")
    number = gold.replace(",", "")
    lines = [line.rstrip() for line in working.strip().splitlines() if line.strip()]
    return WordProblem(row.values["question"], gold, _unmarked(lines, number), _one_step_early(lines, number))


def _one_step_early(lines: list[str], number: str) -> Solution:
    """A hasty solution: the lines up to the last but one calculation, and its result.

    Where there is no such calculation, all lines but the last, and 0, or 1 where that is the right `number`.
    """
    marks = [(i, mark) for i, line in enumerate(lines) for mark in _CALCULATOR_MARK.findall(line)]
    results = [(i, mark.strip("<>").rpartition("=")[2]) for i, mark in marks]
    if len(results) < 2 or not _NUMBER.fullmatch(results[-2][1]):
        return _unmarked(lines[:-1], "0" if number != "0" else "1")
    line, result = results[-2]
    return _unmarked(lines[: line + 1], result.replace(",", ""))


def _unmarked(lines: list[str], answer: str) -> Solution:
    """The lines without the marks of the calculator, and an answer."""
    return tuple(_CALCULATOR_MARK.sub("", line) for line in lines), answer
