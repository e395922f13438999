r"""MATH's problems: generated ones, whose splits share no numbers and signs, and the rows of the published sets.

The gold answer of a row is its column `answer` where there is one that is not empty (MATH-500), else what the last
\boxed{...} of its solution holds (ankner/math-500), as in the code of d1 and SPG.
"""

import re

import numpy as np

from envs.datasets import HubDataset, Row, normalized
from envs.errors import EnvError
from envs.math500.rewards import last_box
from envs.math500.templates import TEMPLATES, MathProblem
from envs.splits import MATH500 as SPLIT_RULE
from verifiers.batch import as_reference

TRAIN = HubDataset("ankner/math-500", None, "train", 12_000)
TEST = HubDataset("HuggingFaceH4/MATH-500", None, "test", 500)
COLUMNS = ("problem",)
hashed = normalized  # what of a problem's text decides its split, see `envs.datasets.load_split`
LEVELS = tuple(TEMPLATES)
SEED = 5_000_500  # keeps these streams apart from those of any other task


def split_of(problem: str) -> str:
    """The split a generated problem belongs to, by its text without letters: of five three are train.

    So the same problem with another unknown, or about other things, is in the same split.
    """
    return SPLIT_RULE(re.sub("[A-Za-z]", "", problem))


def draw(rng: np.random.Generator, level: int, split: str, turn: int | None) -> MathProblem:
    """A problem of the split in which the slip leads to another answer, by the template whose turn it is, or any."""
    count = len(TEMPLATES[level])
    template = TEMPLATES[level][int(rng.integers(count)) if turn is None else turn % count]
    while True:
        problem = template(rng)
        if problem.slip[1] != problem.right[1] and split_of(problem.problem) == split:
            return problem


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
