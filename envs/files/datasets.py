"""Reads rows of data sets: from the Hugging Face hub, from a user's folder or file, or from our folder `data/`.

rows.py makes a task from a user's own file.
"""

import hashlib
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from envs.errors import DataUnavailable, EnvError
from envs.files.hub import from_cache_only, why_offline
from envs.splits import split_of_published
from envs.text.surrogates import half_character
from verifiers.errors import CommandError, LineError
from verifiers.files import FORMATS, numbered_rows, read_line

FOLDER_FORMATS = (".jsonl", ".jsonl.gz", ".parquet")  # the endings of files that are read from a folder
MAX_UNUSABLE = 0.01  # the largest share of unusable rows with which a split is not refused


@dataclass(frozen=True)
class HubDataset:
    """One split of a data set on the hub, e.g. HubDataset("openai/gsm8k", "main", "train", 7473).

    config: None if there is only one. num_rows: how many rows were published (another number is an error); None = not
    known. revision: branch, tag or commit; None = the main branch.
    """

    repo: str
    config: str | None
    split: str
    num_rows: int | None
    revision: str | None = None

    @property
    def name(self) -> str:
        """The split's name in messages: "openai/gsm8k (main, train) at revision 3f1a"."""
        config = f"{self.config}, " if self.config else ""
        at = f" at revision {self.revision}" if self.revision else ""
        return f"{self.repo} ({config}{self.split}){at}"


class Row(NamedTuple):
    """A row with at least the columns that were asked for. where: the row's place, "train.jsonl, line 3"."""

    where: str
    values: dict[str, Any]


def normalized(text: str) -> str:
    """A text with every run of white space as one space."""
    return " ".join(text.split())


@cache
def load_split(
    task: str,
    problem_module: ModuleType,
    source: str,
    split: str,
    revision: str | None,
    test_revision: str | None,
) -> tuple[tuple[Any, ...], dict[str, str], str]:
    """The problems of a split of a published set, in its order; {data set: its commit on the hub}; and a notice.

    The split `test` is the published test set. `validation` is a twentieth of the published train set, picked by a hash
    of the problem's text; `train` is the rest. A problem of the train set that is also in the test set (except for
    white space) is in neither `train` nor `validation`. Rows that cannot be used are left out: the notice counts them
    and names the first; it is "" if there are none.

    Raises EnvError for a set that cannot be loaded, that leaves no problem, or in which more than 1% of the rows cannot
    be used.

    Args:
        problem_module: the task's module of problems, e.g. `envs.gsm8k.problems`, with these names:

            - TRAIN, TEST: the data sets
            - COLUMNS: the columns that a row must have; the first is the problem's text
            - text_to_hash(text): the part of a problem's text that is hashed
            - read_row(row): the problem of a row; raises EnvError for a row that cannot be used
        source: as for `load_rows`.
        revision: of TRAIN.
        test_revision: of TEST, if that is another data set.
    """
    commits: dict[str, str] = {}
    text_column = problem_module.COLUMNS[0]
    same_data_set = problem_module.TEST.repo == problem_module.TRAIN.repo
    train_set = replace(problem_module.TRAIN, revision=revision)
    test_set = replace(problem_module.TEST, revision=revision if same_data_set else test_revision)

    def load(hub: HubDataset) -> list[tuple[str, Row]]:
        """All rows, each as (the problem's text, the row); the text is "" if the column has another type."""
        found, commit = load_rows(task, source, hub, problem_module.COLUMNS)
        if commit:
            commits[hub.repo] = commit
        cells = [row.values[text_column] for row in found]
        return [(cell if isinstance(cell, str) else "", row) for cell, row in zip(cells, found, strict=True)]

    rows = load(test_set if split == "test" else train_set)
    if split != "test":
        test_texts = {normalized(text) for text, _ in load(test_set)}
        rows = [
            (text, row)
            for text, row in rows
            if normalized(text) not in test_texts
            and split_of_published(problem_module.text_to_hash(text)) == split
        ]
    unusable, problems = [], []
    for text, row in rows:
        try:
            if not text.strip():
                raise EnvError(f"{task}: {row.where} has no text as its {text_column}.")
            problems.append(problem_module.read_row(row))
        except EnvError as error:
            unusable.append(str(error))
    notice = ""
    if unusable:
        first_and_count = f"{unusable[0]} {len(unusable):,} of {len(rows):,} rows cannot be used"
        if len(unusable) > len(rows) * MAX_UNUSABLE:
            raise EnvError(f"{first_and_count}; up to 1% are left out.")
        notice = f"{first_and_count} and are left out."
    if not problems:
        raise EnvError(f"{task}: source={source} leaves no problem for {split}.")
    return tuple(problems), commits, notice


def load_rows(
    task: str, source: str, hub: HubDataset, columns: Sequence[str]
) -> tuple[list[Row], str | None]:
    """All rows of a data set, from the hub or from a copy of its files, in order; and its commit (None for a copy).

    source: "hub"; or a folder, with the files as on the hub (`main/train-00000-of-00001.parquet`, ...) or as
    train/test.jsonl, .jsonl.gz or .parquet; or one such file, which is the test split. columns: the columns that every
    row must have, with any content. Raises EnvError for a set that cannot be loaded (the error says what would work),
    that has another number of rows than published, or that has a row without the columns.
    """
    if source == "hub":
        return _from_hub(task, hub, columns)
    path, split = Path(source), hub.split
    if path.is_file() and split == "test":
        return read_files(task, [path], columns), None
    # On the hub, the files stand at the top, in a folder named after the config, or in one called "data".
    folders = [path, path / hub.config, path / "data"] if hub.config else [path, path / "data"]
    for folder in folders:
        files = sorted(file for file in folder.glob(f"{split}[.-]*") if file.name.endswith(FOLDER_FORMATS))
        are_parts_of_one_split = all("-of-" in file.name for file in files)
        if len(files) > 1 and not are_parts_of_one_split:
            names = ", ".join(file.name for file in files)
            raise EnvError(
                f"{task}: {folder} has several {split} splits: {names}. Leave one, or name the file."
            )
        if files:
            return read_files(task, files, columns), None
    wanted = (
        f"a folder with {split}.jsonl, {split}.jsonl.gz or {split}.parquet, or, for test alone, one such file"
    )
    raise EnvError(f"{task}: source={source} has no {split} split; it must be {wanted}. {_advice(hub)}")


def read_files(
    task: str,
    files: Sequence[Path],
    columns: Sequence[str],
    renamed: Callable[[dict[str, Any]], dict[str, Any]] = dict,
) -> list[Row]:
    """The rows of files of the `verifiers.files.FORMATS`; every value of a table (.csv, .tsv) is a text.

    renamed: turns a row, {column: value}, into the row with the task's own names of the columns; by default the names
    stay. Raises EnvError for a file that cannot be read or has no rows, and for a row that lacks one of `columns`.
    """
    rows: list[Row] = []
    for file in files:
        if not file.name.endswith(FORMATS):
            raise EnvError(f"{task}: {file} must end in {', '.join(FORMATS)}.")
        unit = "row" if file.suffix == ".parquet" else "line"
        try:
            for number, line in numbered_rows(str(file), fields=columns):
                where = f"{file.name}, {unit} {number}"
                rows.append(Row(where, renamed(read_line(line, columns))))
        except LineError as error:
            raise EnvError(f"{task}: {where} {error} Correct or remove the line.") from error
        except CommandError as error:
            raise EnvError(f"{task}: {error}") from error
    _check_columns(task, rows, columns)
    return rows


def data_folder() -> Path:
    """The folder of the files that tasks ship with: inside this package in a wheel, beside it in a checkout."""
    package = Path(__file__).parents[1]
    inside = package / "data"
    return inside if inside.is_dir() else package.parent / "data"


def read_packaged(file: str) -> list[dict[str, Any]]:
    """The rows of a .jsonl file that this project ships, e.g. "sudoku/test.jsonl"."""
    return [json.loads(line) for line in (data_folder() / file).read_text(encoding="utf-8").splitlines()]


def _advice(hub: HubDataset) -> str:
    """What an error adds if a data set cannot be loaded from the hub."""
    folder = hub.repo.rpartition("/")[2]
    return (
        "Use problems that need no data (--env-args source=generated, as in the recipes of tiny models), or, on a "
        f"machine with a network, `hf download {hub.repo} --repo-type dataset --local-dir {folder}`, bring the folder "
        f"here and pass --env-args source={folder}."
    )


def _from_hub(task: str, hub: HubDataset, columns: Sequence[str]) -> tuple[list[Row], str | None]:
    """What `load_rows` returns for source=hub."""
    if Path(hub.repo).exists():  # `datasets` would read this folder in place of the hub
        raise EnvError(
            f"{task}: the folder {hub.repo} lies here: pass --env-args source={hub.repo}, or move it."
        )
    rows, commit = hub_rows(task, hub, _advice(hub))
    if len(rows) != hub.num_rows:
        raise EnvError(
            f"{task}: {hub.name} has {len(rows):,} rows, but the published set has {hub.num_rows:,}. Pass a commit "
            "that has them (--env-args revision=COMMIT)."
        )
    _check_columns(task, rows, columns)
    return rows, commit


def hub_rows(task: str, hub: HubDataset, advice: str) -> tuple[list[Row], str | None]:
    """All rows of a data set on the hub, with any columns, and their commit (None = not known).

    Raises DataUnavailable, whose text ends with `advice`, if it is not in the cache and cannot be downloaded.
    """
    import datasets

    offline = why_offline()
    try:
        with from_cache_only(bool(offline)):
            builder = datasets.load_dataset_builder(hub.repo, hub.config, revision=hub.revision)
            # The library's check of the number of rows is left out: our own error names both numbers.
            builder.download_and_prepare(verification_mode="no_checks")
            table = builder.as_dataset(split=hub.split)
    except Exception as error:  # whatever a download, a cache and a file format can raise
        what = offline or f"{type(error).__name__}: {' '.join(str(error).split()):.300}"
        raise DataUnavailable(
            f"{task}: {hub.name} cannot be loaded from the Hugging Face hub ({what}). {advice}"
        ) from error
    rows = [Row(f"{hub.name}, row {i}", values) for i, values in enumerate(table, 1)]
    commit = builder.hash if re.fullmatch("[0-9a-f]{40}", str(builder.hash)) else hub.revision
    return rows, commit


def state_of(rows: Sequence[Row], commit: str | None) -> str:
    """A text that changes when a data set on the hub does: its commit or, if that is unknown, a hash of its rows."""
    if commit:
        return commit
    content = json.dumps([row.values for row in rows], sort_keys=True, default=str)
    return f"rows of sha256 {hashlib.sha256(content.encode(errors='surrogatepass')).hexdigest()}"


def _check_columns(task: str, rows: Sequence[Row], columns: Sequence[str]) -> None:
    """Raises EnvError for a row that lacks one of `columns`, or has half of a character (a lone surrogate) in one.

    columns: () = the row may have any columns, and none may have half of a character.
    """
    for where, values in rows:
        if any(column not in values for column in columns):
            wanted = f"an object with {', '.join(columns)}"
            raise EnvError(f"{task}: {where} is {values!r:.80}; it must be {wanted}.")
        if what_is_broken := half_character([values[column] for column in columns or values]):
            raise EnvError(f"{task}: {where} {what_is_broken}")
