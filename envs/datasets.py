"""Rows of data sets: from the Hugging Face hub, from a folder or file of the user, or from `data/`."""

import gzip
import json
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from envs.errors import EnvError
from envs.hub import from_cache_only, why_offline
from envs.splits import PUBLISHED

FORMATS = (".jsonl", ".jsonl.gz", ".parquet")
UNUSABLE = 0.01  # largest share of the rows of a split that is left out
Commits = dict[str, str]  # {repository: commit}
Item = TypeVar("Item")


@dataclass(frozen=True)
class HubDataset:
    """One split of a data set on the hub, e.g. HubDataset("openai/gsm8k", "main", "train", 7473).

    repo: its name, or a local folder of the same layout. config: None where there is only one. num_rows: as published;
    another number is an error. revision: branch, tag or commit on the hub; None = its main branch.
    """

    repo: str
    config: str | None
    split: str
    num_rows: int
    revision: str | None = None


class Row(NamedTuple):
    """One row, with at least the columns that were asked for; where: "train.jsonl.gz, line 3", for messages."""

    where: str
    values: dict[str, Any]


def normalized(text: str) -> str:
    """A text with every run of white space as one space."""
    return " ".join(text.split())


def load_split(
    task: str,
    source: str,
    split: str,
    train: HubDataset,
    test: HubDataset,
    columns: Sequence[str],
    read: Callable[[Row], Item],
    hashed: Callable[[str], str] = normalized,
) -> tuple[tuple[Item, ...], Commits, str]:
    """The problems of a split of a published data set, in its order, the commits of what the hub gave, and a notice.

    test is the published test set; validation is the twentieth of the train set that a hash of the first column
    picks; train is the rest. A problem that is also in test, white space aside, is in neither.

    task, source: see `load_rows`. columns: the first is the problem's text. read: makes a problem of a row, or raises
    EnvError for one that cannot be used; such rows are left out, and the notice counts them and names the first, or is
    "". hashed: what of the text is hashed. Raises EnvError for a set that cannot be loaded, that leaves no problem, or
    in which more than 1% of the rows cannot be used.
    """
    commits: Commits = {}
    unusable: list[str] = []

    def load(part: str, hub: HubDataset) -> list[tuple[str, Row]]:
        rows, commit = load_rows(task, source, part, hub, columns)
        if commit:
            commits[hub.repo] = commit
        usable = []
        for row in rows:
            text = row.values[columns[0]]
            if isinstance(text, str) and text.strip():
                usable.append((text, row))
            else:
                unusable.append(f"{task}: {row.where} has the {columns[0]} {text!r:.80}; it must be a text.")
        return usable

    rows = load(split if split == "test" else "train", test if split == "test" else train)
    held = len(rows)
    if split != "test":
        test_texts = {normalized(text) for text, _ in load("test", test)}
        rows = [
            (text, row)
            for text, row in rows
            if normalized(text) not in test_texts and PUBLISHED(hashed(text)) == split
        ]
    total, problems = len(rows) + len(unusable), []
    for _, row in rows:
        try:
            problems.append(read(row))
        except EnvError as error:
            unusable.append(str(error))
    notice = f"{unusable[0]} {len(unusable):,} of {total:,} rows cannot be used" if unusable else ""
    if len(unusable) > total * UNUSABLE:
        raise EnvError(f"{notice}; up to 1% are left out.")
    if not problems:
        raise EnvError(f"{task}: source={source} leaves no problem for {split}; it has {held} rows.")
    return tuple(problems), commits, f"{notice} and are left out." if notice else ""


def load_rows(
    task: str, source: str, split: str, hub: HubDataset, columns: Sequence[str]
) -> tuple[list[Row], str | None]:
    """All rows of the "train" or "test" split, in their order, and the hub's commit they are of (None for a path).

    source: "hub"; or a folder, with the files as on the hub (`main/train-00000-of-00001.parquet`, ...) or as
    train/test.jsonl, .jsonl.gz or .parquet; or one such file, which is the test split. hub: its configuration also
    names a subfolder of a downloaded copy. columns: what every row must have; values are not looked at. Raises EnvError
    for a set that cannot be loaded (with what would work), that has another number of rows than published, or a row
    without its columns.
    """
    if source == "hub":
        return _from_hub(task, hub, columns)
    path = Path(source)
    if path.is_dir():
        files = _split_files(task, path, split, hub)
    elif not path.is_file():
        raise EnvError(f"{task}: source={source} is no file or folder here. {_advice(hub)}")
    elif split != "test":
        raise EnvError(
            f"{task}: source={source} is one file and serves as the test split only; for the {split} split give "
            f"a folder that holds {split}.jsonl, or --env-args source=generated."
        )
    else:
        files = [path]
    return read_files(task, files, columns), None


def read_files(
    task: str,
    files: Sequence[Path],
    columns: Sequence[str],
    *,
    hint: str = "Check the file, or use --env-args source=generated.",
) -> list[Row]:
    """The rows of .jsonl, .jsonl.gz or .parquet files; raises EnvError for none, or one without its columns.

    hint: what to do about a file that cannot be read.
    """
    rows: list[Row] = []
    for file in files:
        if not file.name.endswith(FORMATS):
            raise EnvError(f"{task}: {file} must end in {', '.join(FORMATS)}.")
        try:
            rows += _parquet(file) if file.suffix == ".parquet" else _jsonl(file)
        except (OSError, EOFError, ValueError, RecursionError, zlib.error) as error:
            raise EnvError(f"{task}: {file} cannot be read ({error}). {hint}") from error
    if not rows:
        raise EnvError(f"{task}: {files[0]} holds no rows; each must have {', '.join(columns)}.")
    _check_columns(task, rows, columns)
    return rows


def data_folder() -> Path:
    """The files that the tasks ship with: in the wheel inside this package, in a checkout beside it."""
    package = Path(__file__).parent
    inside = package / "data"
    return inside if inside.is_dir() else package.parent / "data"


def read_packaged(file: str) -> list[dict[str, Any]]:
    """The rows of a .jsonl file that this project ships, e.g. "sudoku/test.jsonl"."""
    return [row.values for row in _jsonl(data_folder() / file)]


def to_jsonl(rows: Iterable[Mapping[str, Any]]) -> str:
    """The rows as lines of JSON."""
    return "".join(json.dumps(row) + "\n" for row in rows)


def _advice(hub: HubDataset) -> str:
    folder = hub.repo.rpartition("/")[2]
    return (
        "Use problems that need no data (--env-args source=generated, as the presets of tiny models have it), or, on a "
        f"machine with a network, `hf download {hub.repo} --repo-type dataset --local-dir {folder}`, bring the folder "
        f"here and pass --env-args source={folder}."
    )


def _from_hub(task: str, hub: HubDataset, columns: Sequence[str]) -> tuple[list[Row], str | None]:
    import datasets

    at = f" at revision {hub.revision}" if hub.revision else ""
    name = f"{hub.repo} ({hub.config + ', ' if hub.config else ''}{hub.split}){at}"
    local = Path(hub.repo).is_absolute()
    if not local and Path(hub.repo).exists():  # which `datasets` would read in place of the hub's
        raise EnvError(
            f"{task}: the folder {hub.repo} lies here; pass --env-args source={hub.repo} if you mean it, or work in "
            "another folder."
        )
    offline = "" if local else why_offline()
    try:
        with from_cache_only(bool(offline)):
            builder = datasets.load_dataset_builder(hub.repo, hub.config, revision=hub.revision)
            # Their own count is not checked: the published one below says it in words.
            builder.download_and_prepare(verification_mode="no_checks")
            table = builder.as_dataset(split=hub.split)
    except Exception as error:  # whatever a download, a cache and a file format can raise
        what = offline or f"{type(error).__name__}: {' '.join(str(error).split()):.300}"
        raise EnvError(
            f"{task}: {name} cannot be loaded from the Hugging Face hub ({what}). {_advice(hub)}"
        ) from error
    if len(table) != hub.num_rows:
        raise EnvError(
            f"{task}: {name} has {len(table):,} rows, but the published set has {hub.num_rows:,}. Pass a commit that "
            "has them (--env-args revision=COMMIT)."
        )
    rows = [Row(f"{name}, row {i}", values) for i, values in enumerate(table, 1)]
    _check_columns(task, rows, columns)
    commit = builder.hash if re.fullmatch("[0-9a-f]{40}", str(builder.hash)) else hub.revision
    return rows, commit


def _split_files(task: str, folder: Path, split: str, hub: HubDataset) -> list[Path]:
    """The one file of a split, or its numbered parts as the hub writes them."""
    for place in [folder, *(folder / name for name in (hub.config, "data") if name)]:
        parts = sorted(place.glob(f"{split}-*-of-*.parquet"))
        choices = [[file] for ending in FORMATS if (file := place / f"{split}{ending}").is_file()]
        choices += [parts] if parts else []
        if len(choices) > 1:
            raise EnvError(f"{task}: {place} has several {split} splits; leave one, or name the file.")
        if parts and len(parts) != int(
            parts[0].stem.rpartition("-")[2]
        ):  # as after a download that was broken off
            raise EnvError(
                f"{task}: {place} holds {len(parts)} of the parts of {parts[0].name}; download it again."
            )
        if choices:
            return choices[0]
    names = ", ".join(sorted(file.name for file in folder.iterdir())[:8]) or "nothing"
    raise EnvError(
        f"{task}: source={folder} has no {split} split; it needs {split}.jsonl, {split}.jsonl.gz or "
        f"{split}.parquet, or a folder as on the hub. It holds {names}."
    )


def _jsonl(file: Path) -> Iterator[Row]:
    opened = gzip.open if file.suffix == ".gz" else open
    with opened(file, "rt", encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            if line.strip():
                where = f"{file.name}, line {number}"
                try:
                    yield Row(where, json.loads(line))
                except (ValueError, RecursionError) as error:
                    raise ValueError(f"{where} is not JSON: {error}") from error


def _parquet(file: Path) -> Iterator[Row]:
    import pyarrow.parquet

    for number, values in enumerate(pyarrow.parquet.read_table(file).to_pylist(), 1):
        yield Row(f"{file.name}, row {number}", values)


def _check_columns(task: str, rows: Sequence[Row], columns: Sequence[str]) -> None:
    for where, values in rows:
        if not isinstance(values, dict) or any(column not in values for column in columns):
            wanted = f"an object with {', '.join(columns)}"
            raise EnvError(f"{task}: {where} is {values!r:.80}; it must be {wanted}.")
