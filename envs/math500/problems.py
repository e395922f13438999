r"""MATH's problems: generated ones, whose splits share no numbers and signs, and the rows of the published sets.

The gold answer of a row is its column `answer` where there is one that is not empty (MATH-500), else what the last
\boxed{...} of its solution holds (ankner/math-500), as in the code of d1 and SPG.
"""

import re
from dataclasses import replace
from functools import cache

import numpy as np

from envs.datasets import Commits, HubDataset, Row, load_split
from envs.errors import EnvError
from envs.math500.rewards import last_box
from envs.math500.templates import TEMPLATES, MathProblem
from envs.splits import MATH500 as SPLIT_RULE
from envs.splits import STREAMS, distinct
from verifiers.batch import as_reference

TRAIN = HubDataset("ankner/math-500", None, "train", 12_000)
TEST = HubDataset("HuggingFaceH4/MATH-500", None, "test", 500)
LEVELS = tuple(TEMPLATES)
_SEED = 5_000_500  # keeps these streams apart from those of any other task


def split_of(problem: str) -> str:
    """The split a generated problem belongs to, by its text without letters: of five three are train.

    So the same problem with another unknown, or about other things, is in the same split.
    """
    return SPLIT_RULE(re.sub("[A-Za-z]", "", problem))


def train_problem(level: int, index: int) -> MathProblem:
    """Problem number `index` of the training stream, drawn freely: a problem may come again."""
    rng = np.random.default_rng([_SEED, level, STREAMS["train"], index])
    return _draw(rng, level, "train", int(rng.integers(len(TEMPLATES[level]))))


@cache
def fixed_set(level: int, split: str) -> tuple[MathProblem, ...]:
    """The 256 different problems of `validation` or `test` in their fixed order, the templates in turn."""
    rng, count = np.random.default_rng([_SEED, level, STREAMS[split]]), len(TEMPLATES[level])
    return distinct(lambda turn: _draw(rng, level, split, turn % count), key=lambda problem: problem.problem)


def _draw(rng: np.random.Generator, level: int, split: str, template: int) -> MathProblem:
    """A problem of the split, by one template of the level, in which the slip leads to another answer."""
    while True:
        problem = TEMPLATES[level][template](rng)
        if problem.slip[1] != problem.right[1] and split_of(problem.problem) == split:
            return problem


@cache
def load_problems(
    source: str, split: str, revision: str | None = None
) -> tuple[tuple[MathProblem, ...], Commits, str]:
    """The problems of a split, {data set: the hub's commit} and a notice, as `envs.datasets.load_split` gives them."""
    train = replace(TRAIN, revision=revision)
    return load_split("math500", source, split, train, TEST, columns=("problem",), read=read_row)


def read_row(row: Row) -> MathProblem:
    """One row as a problem without a slip; raises EnvError, naming file and line, if it has no answer."""
    solution, answer = _text(row, "solution"), _text(row, "answer")
    gold = answer.strip() or (last_box(solution) or "").strip()
    if not gold:
        seen = f"answer={answer!r:.80} and solution={solution!r:.80}"
        raise EnvError(
            f"math500: {row.where} has neither an answer nor a solution with \\boxed{{...}}, but {seen}."
        )
    subject = _text(row, "subject") or _text(row, "type")
    return MathProblem(subject, row.values["problem"], (solution.strip(), gold))


def _text(row: Row, column: str) -> str:
    """A column's text; "" where there is none."""
    value = row.values.get(column)
    if value is None:
        return ""
    text = as_reference(value)
    if text is None:
        raise EnvError(f"math500: {row.where} has the {column} {value!r:.80}; it must be a text.")
    return text
