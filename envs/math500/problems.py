r"""MATH's problems: generated ones, whose splits share no problem, and the rows of the published sets.

The gold answer of a row is its column `answer`, if the row has one (MATH-500). Otherwise, it is the content of the last
\boxed{...} of the solution (ankner/math-500), as in the code of d1 and SPG.
"""

import re

import numpy as np

from envs.errors import EnvError
from envs.files.datasets import HubDataset, Row, normalized
from envs.math500.rewards import boxed_text
from envs.math500.templates import TEMPLATES, MathProblem
from envs.splits import MATH500 as SPLIT_RULE
from verifiers.batch import as_reference

TRAIN = HubDataset("ankner/math-500", config=None, split="train", num_rows=12_000)
TEST = HubDataset("HuggingFaceH4/MATH-500", config=None, split="test", num_rows=500)
COLUMNS = ("problem",)
# This text of a problem is hashed to divide published rows (`envs.files.datasets.load_split`); `split_of` divides
# generated problems.
text_to_hash = normalized
LEVELS = tuple(TEMPLATES)
SEED = 5_000_500  # keeps these streams apart from those of any other task


def split_of(problem: str) -> str:
    """The split of a generated problem, by a hash of its text without letters: three parts in five are train.

    Because letters are left out, the same problem with another unknown, or about other things, is in the same split.
    """
    return SPLIT_RULE(re.sub("[A-Za-z]", "", problem))


def key(problem: MathProblem) -> str:
    """The text by which problems are told apart."""
    return problem.problem


def draw(rng: np.random.Generator, level: int, split: str, turn: int | None) -> MathProblem:
    """A random problem of a split whose slip leads to another answer than the right way.

    turn: of a fixed set, whose problems take the templates in turn; None = any template (training).
    """
    count = len(TEMPLATES[level])
    number = int(rng.integers(count)) if turn is None else turn % count
    template = TEMPLATES[level][number]
    while True:
        problem = template(rng)
        (_, right_answer), (_, wrong_answer) = problem.right, problem.slip
        if wrong_answer != right_answer and split_of(problem.problem) == split:
            return problem


def read_row(row: Row) -> MathProblem:
    """The problem of a published row, without a slip; raises EnvError, naming file and line, if it has no answer."""
    solution, answer = _text(row, "solution"), _text(row, "answer")
    gold = answer.strip() or (boxed_text(solution) or "").strip()
    if not gold:
        seen = f"answer={answer!r:.80} and solution={solution!r:.80}"
        raise EnvError(
            f"math500: {row.where} has neither an answer nor a solution with \\boxed{{...}}, but {seen}."
        )
    subject = _text(row, "subject") or _text(row, "type")
    return MathProblem(subject, row.values["problem"], right=(solution.strip(), gold))


def _text(row: Row, column: str) -> str:
    """The text in a column; "" if there is no such column, or None in it. Raises EnvError for anything but a text."""
    value = row.values.get(column)
    if value is None:
        return ""
    text = as_reference(value)
    if text is None:
        raise EnvError(f"math500: {row.where} has the {column} {value!r:.80}; it must be a text.")
    return text
