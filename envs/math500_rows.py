r"""The rows of the published MATH sets (columns problem, and solution or answer), checked and divided.

The gold answer of a row is its column `answer` where there is one that is not empty (MATH-500), else what the last
\boxed{...} of its solution holds (ankner/math-500), as in the code of d1 and SPG.
"""

import hashlib
from functools import cache

from envs.datasets import HubDataset, Row, load_rows
from envs.errors import EnvError
from envs.math500_item import Item
from envs.math500_rewards import last_box

TRAIN = HubDataset("ankner/math-500", None, "train", 12_000)
TEST = HubDataset("HuggingFaceH4/MATH-500", None, "test", 500)


@cache
def published(
    source: str, split: str, revision: str | None = None, test_revision: str | None = None
) -> tuple[tuple[Item, ...], dict[str, str]]:
    """The problems of a split, in the order of the set, and the hub's commits, {data set: commit}.

    source: "hub" or a path, as `envs.datasets.load_rows` takes it. validation is the twentieth of the train set
    that a hash of the problem picks; train is the rest; a problem that is also in test is in neither. Raises
    EnvError for a set that cannot be had and for a row that cannot be used, naming file and line.
    """
    commits: dict[str, str] = {}

    def load(part: str, hub: HubDataset, at: str | None) -> list[Row]:
        rows, commit = load_rows("math500", source, part, hub=hub, columns=("problem",), revision=at)
        if commit:
            commits[hub.repo] = commit
        return rows

    if split == "test":
        return tuple(map(read_row, load("test", TEST, test_revision))), commits
    rows = load("train", TRAIN, revision)
    held_out = {_key(_problem_of(row)) for row in load("test", TEST, test_revision)}
    chosen = [
        row
        for row in rows
        if (key := _key(_problem_of(row))) not in held_out and held_back(key) == (split == "validation")
    ]
    if not chosen:
        raise EnvError(f"math500: source={source} leaves no problem for {split}; it has {len(rows)} rows.")
    return tuple(map(read_row, chosen)), commits


def held_back(key: str) -> bool:
    """Whether a problem of the train set belongs to validation: sha256 of its text, one in twenty.

    key: the problem with every run of white space as one space.
    """
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") % 20 == 0


def _key(problem: str) -> str:
    return " ".join(problem.split())


def _problem_of(row: Row) -> str:
    problem = row.values["problem"]
    if not isinstance(problem, str) or not problem.strip():
        raise EnvError(f"math500: {row.where} has the problem {problem!r:.80}; it must be a text.")
    return problem


def read_row(row: Row) -> Item:
    """One row as an item without a slip; raises EnvError, naming file and line, if its answer cannot be read."""
    from verifiers import VerifierError, verify

    problem = _problem_of(row)
    solution, answer, subject = (_text(row, name) for name in ("solution", "answer", "subject"))
    gold = answer.strip() or (last_box(solution) or "").strip()
    if not gold:
        raise EnvError(
            f"math500: {row.where} has neither an answer nor a solution with \\boxed{{...}}, but answer="
            f"{answer!r:.80} and solution={solution!r:.80}."
        )
    try:
        verify("math500", "", answer=gold)
    except VerifierError as error:
        raise EnvError(f"math500: {row.where} cannot be verified: {error}") from error
    return Item(subject or _text(row, "type"), problem, solution.strip(), gold, "", "")


def _text(row: Row, column: str) -> str:
    """A column's text; "" where there is none."""
    value = row.values.get(column)
    if value is None:
        return ""
    if isinstance(value, str) or (isinstance(value, int) and not isinstance(value, bool)):
        return str(value)
    raise EnvError(f"math500: {row.where} has the {column} {value!r:.80}; it must be a text.")
