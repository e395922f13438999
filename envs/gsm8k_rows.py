"""The rows of the published GSM8K set (columns question and answer), checked and taken apart."""

import hashlib
import re
from dataclasses import dataclass
from functools import cache
from typing import Any

from envs.datasets import HubDataset, Row, load_rows
from envs.errors import EnvError

HUB = {
    "train": HubDataset("openai/gsm8k", "main", "train", 7473),
    "test": HubDataset("openai/gsm8k", "main", "test", 1319),
}
_NUMBER = re.compile(r"-?(\d+|\d{1,3}(,\d{3})+)(\.\d+)?")
_MARK = re.compile(r"<<[^<>]*>>")  # the set's calculator marks: <<48/2=24>>


@dataclass(frozen=True)
class Worked:
    """A question with its solution, line by line, and the same of who goes wrong in a plausible way."""

    question: str
    lines: tuple[str, ...]
    answer: str
    """The gold answer without thousands separators."""
    gold: str
    """The gold answer as the set writes it."""
    hasty: tuple[str, ...]
    """Lines of the wrong way."""
    hasty_answer: str


@cache
def worked_rows(source: str, split: str, revision: str | None) -> tuple[tuple[Worked, ...], str | None]:
    """The problems of a split, in the order of the set, and the hub's commit they are of.

    source: "hub" or a path, as `envs.datasets.load_rows` takes it. validation is the twentieth of the train set
    that a hash of the question picks; train is the rest. Raises EnvError for a set that cannot be had and for
    a row that cannot be used, naming file and line.
    """
    part = "test" if split == "test" else "train"
    rows, commit = load_rows(
        "gsm8k", source, part, hub=HUB[part], columns=("question", "answer"), revision=revision
    )
    worked = [read_row(row) for row in rows]
    if split != "test":
        tests, _ = load_rows(
            "gsm8k", source, "test", hub=HUB["test"], columns=("question", "answer"), revision=revision
        )
        held_out = {_key(str(row.values["question"])) for row in tests}
        worked = [
            row
            for row in worked
            if _key(row.question) not in held_out and held_back(row.question) == (split == "validation")
        ]
    if not worked:
        raise EnvError(f"gsm8k: source={source} leaves no problem for {split}; it has {len(rows)} rows.")
    return tuple(worked), commit


def _key(question: str) -> str:
    """A question with every run of white space as one space."""
    return " ".join(question.split())


def held_back(question: str) -> bool:
    """Whether a question of the train set belongs to validation: sha256 of the stripped text, one in twenty."""
    return int.from_bytes(hashlib.sha256(question.strip().encode()).digest()[:8], "big") % 20 == 0


def read_row(row: Row) -> Worked:
    """One row, its answer read from behind the last ####, or the whole answer if it is just a number.

    Raises EnvError, naming file and line, if the question is empty or the answer is no number.
    """
    question, answer = row.values["question"], row.values["answer"]
    if not isinstance(question, str) or not question.strip():
        raise EnvError(f"gsm8k: {row.where} has the question {question!r:.80}; it must be a text.")
    solution, _, gold = _text(answer).rpartition("####")
    gold = gold.strip()
    if not _NUMBER.fullmatch(gold):
        raise EnvError(
            f"gsm8k: {row.where} has the answer {answer!r:.80}; it must be a number such as 1,250 or -3, or a "
            'solution that ends in "#### 1,250".'
        )
    number = gold.replace(",", "")
    lines = tuple(line.rstrip() for line in solution.strip().splitlines() if line.strip())
    hasty, hasty_answer = _one_step_early(lines, number)
    return Worked(question, _unmarked(lines), number, gold, _unmarked(hasty), hasty_answer)


def _text(answer: Any) -> str:
    plain = isinstance(answer, str) or (isinstance(answer, int) and not isinstance(answer, bool))
    return str(answer) if plain else ""


def _unmarked(lines: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(_MARK.sub("", line) for line in lines)


def _one_step_early(lines: tuple[str, ...], number: str) -> tuple[tuple[str, ...], str]:
    """(lines up to the last but one calculation, its result); all lines but the last, and 0, if there is none."""
    results = [
        (i, mark.strip("<>").rpartition("=")[2])
        for i, line in enumerate(lines)
        for mark in _MARK.findall(line)
    ]
    if len(results) < 2 or not _NUMBER.fullmatch(results[-2][1]):
        return lines[:-1], "0" if number != "0" else "1"
    line, value = results[-2]
    return lines[: line + 1], value.replace(",", "")
