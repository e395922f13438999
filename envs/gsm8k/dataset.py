"""The rows of the published GSM8K set (columns question and answer), checked and taken apart."""

import re
from functools import cache

from envs.datasets import Commits, HubDataset, Row, load_split
from envs.errors import EnvError
from envs.gsm8k.generator import Solution, WordProblem

HUB = {
    "train": HubDataset("openai/gsm8k", "main", "train", 7473),
    "test": HubDataset("openai/gsm8k", "main", "test", 1319),
}
_NUMBER = re.compile(r"-?(\d+|\d{1,3}(,\d{3})+)(\.\d+)?")
_CALCULATOR_MARK = re.compile(r"<<[^<>]*>>")  # as in 48/2=<<48/2=24>>24


@cache
def load_problems(source: str, split: str, revision: str | None) -> tuple[tuple[WordProblem, ...], Commits]:
    """The problems of a split and {data set: the hub's commit}, as `envs.datasets.load_split` gives the rows."""
    columns, revisions = ("question", "answer"), {"revision": revision, "test_revision": revision}
    rows, commits = load_split("gsm8k", source, split, **HUB, columns=columns, hashed=str.strip, **revisions)
    return tuple(map(read_row, rows)), commits


def read_row(row: Row) -> WordProblem:
    """One row, its answer read from behind the last ####; raises EnvError, naming file and line, if it is no number."""
    answer = row.values["answer"]
    text = str(answer) if type(answer) in (str, int) else ""
    working, _, gold = text.rpartition("####")
    gold = gold.strip()
    if not _NUMBER.fullmatch(gold):
        wanted = 'a number such as 1,250 or -3, or a solution that ends in "#### 1,250"'
        raise EnvError(f"gsm8k: {row.where} has the answer {answer!r:.80}; it must be {wanted}.")
    number = gold.replace(",", "")
    lines = [line.rstrip() for line in working.strip().splitlines() if line.strip()]
    return WordProblem(row.values["question"], gold, _unmarked(lines, number), _one_step_early(lines, number))


def _one_step_early(lines: list[str], number: str) -> Solution:
    """The lines up to the last but one calculation, and its result; if there is none, all but the last, and 0."""
    marks = [(i, mark) for i, line in enumerate(lines) for mark in _CALCULATOR_MARK.findall(line)]
    results = [(i, mark.strip("<>").rpartition("=")[2]) for i, mark in marks]
    if len(results) < 2 or not _NUMBER.fullmatch(results[-2][1]):
        return _unmarked(lines[:-1], "0" if number != "0" else "1")
    line, value = results[-2]
    return _unmarked(lines[: line + 1], value.replace(",", ""))


def _unmarked(lines: list[str], answer: str) -> Solution:
    return tuple(_CALCULATOR_MARK.sub("", line) for line in lines), answer
