r"""The rows of the published MATH sets (columns problem, and solution or answer), checked.

The gold answer of a row is its column `answer` where there is one that is not empty (MATH-500), else what the last
\boxed{...} of its solution holds (ankner/math-500), as in the code of d1 and SPG.
"""

from functools import cache

from envs.datasets import Commits, HubDataset, Row, load_split
from envs.errors import EnvError
from envs.math500.rewards import last_box
from envs.math500.templates import MathProblem

HUB = {
    "train": HubDataset("ankner/math-500", None, "train", 12_000),
    "test": HubDataset("HuggingFaceH4/MATH-500", None, "test", 500),
}


@cache
def load_problems(
    source: str, split: str, revision: str | None = None, test_revision: str | None = None
) -> tuple[tuple[MathProblem, ...], Commits]:
    """The problems of a split and {data set: the hub's commit}, as `envs.datasets.load_split` gives the rows."""
    revisions = {"revision": revision, "test_revision": test_revision}
    rows, commits = load_split("math500", source, split, **HUB, columns=("problem",), **revisions)
    return tuple(map(read_row, rows)), commits


def read_row(row: Row) -> MathProblem:
    """One row as a problem without a slip; raises EnvError, naming file and line, if its answer cannot be read."""
    from verifiers import VerifierError, verify

    solution, answer = _text(row, "solution"), _text(row, "answer")
    gold = answer.strip() or (last_box(solution) or "").strip()
    if not gold:
        seen = f"answer={answer!r:.80} and solution={solution!r:.80}"
        raise EnvError(
            f"math500: {row.where} has neither an answer nor a solution with \\boxed{{...}}, but {seen}."
        )
    try:
        verify("math500", "", answer=gold)
    except VerifierError as error:
        raise EnvError(f"math500: {row.where} cannot be verified: {error}") from error
    subject = _text(row, "subject") or _text(row, "type")
    return MathProblem(subject, row.values["problem"], (solution.strip(), gold))


def _text(row: Row, column: str) -> str:
    """A column's text; "" where there is none."""
    value = row.values.get(column)
    if value is None:
        return ""
    if type(value) in (str, int):
        return str(value)
    raise EnvError(f"math500: {row.where} has the {column} {value!r:.80}; it must be a text.")
