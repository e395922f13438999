"""Rows of published data sets: from the Hugging Face hub, or from a folder or file that a person brings."""

import gzip
import json
import re
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from envs.errors import EnvError

FORMATS = (".jsonl", ".jsonl.gz", ".parquet")


@dataclass(frozen=True)
class HubSet:
    """One split of a data set on the hub."""

    repo: str
    """"openai/gsm8k"; a local folder of the same layout works too."""
    config: str | None
    """The configuration, "main", or None where there is only one."""
    split: str
    """The split's name on the hub, "train" or "test"."""
    count: int
    """How many rows it has; another number is an error."""


class Row(NamedTuple):
    """One row of a data set, and where it stands."""

    where: str
    """ "train.jsonl.gz, line 3", for messages."""
    values: dict[str, Any]
    """Its columns; at least those that were asked for."""


def load_rows(
    task: str,
    source: str,
    split: str,
    *,
    hub: HubSet,
    columns: Sequence[str],
    revision: str | None = None,
) -> tuple[list[Row], str | None]:
    """All rows of one split, in their order, and the hub's commit they are of (None for a path).

    Args:
        task: the environment's name, with which every message begins.
        source: "hub"; or a folder, with the files as on the hub (`main/train-00000-of-00001.parquet`, ...) or
            as train/test.jsonl, .jsonl.gz or .parquet; or one such file, which is the test split.
        split: "train" or "test".
        hub: where the split lies on the hub; its configuration also names a subfolder of a downloaded copy.
        columns: the columns that every row must have.
        revision: branch, tag or commit on the hub; None = its main branch.

    Raises:
        EnvError: the set cannot be had (with what would work), its rows are not as many as published, a line
            is no JSON object, a column is missing. Values are not looked at.
    """
    if source == "hub":
        return _from_hub(task, hub, columns, revision)
    path = Path(source)
    if path.is_dir():
        files = _split_files(task, path, split, hub)
    elif path.is_file() and split == "test":
        files = [path]
    elif path.is_file():
        raise EnvError(
            f"{task}: source={source} is one file and serves as the test split only; for the {split} split give "
            f"a folder that holds {split}.jsonl, or --env-args source=generated."
        )
    else:
        raise EnvError(f"{task}: source={source} is no file or folder here. {way_out(task, hub)}")
    rows = [row for file in files for row in _read(task, file, columns)]
    if not rows:
        raise EnvError(f"{task}: {files[0]} holds no rows; each must have {', '.join(columns)}.")
    return rows, None


def way_out(task: str, hub: HubSet) -> str:
    """What to do where a set cannot be had: two commands that work."""
    folder = hub.repo.rpartition("/")[2]
    return (
        "Use problems that need no data (--env-args source=generated), or, on a machine with a network, "
        f"`hf download {hub.repo} --repo-type dataset --local-dir {folder}`, bring the folder here and pass "
        f"--env-args source={folder}."
    )


def _from_hub(
    task: str, hub: HubSet, columns: Sequence[str], revision: str | None
) -> tuple[list[Row], str | None]:
    import datasets

    at = f" at revision {revision}" if revision else ""
    name = f"{hub.repo} ({hub.config + ', ' if hub.config else ''}{hub.split}){at}"
    if not Path(hub.repo).is_absolute() and Path(hub.repo).exists():
        raise EnvError(
            f"{task}: the folder {hub.repo} lies here and `datasets` would read it in place of the hub's. Pass "
            f"--env-args source={hub.repo} if you mean it, or work in another folder."
        )
    try:
        builder = datasets.load_dataset_builder(hub.repo, hub.config, revision=revision)
        # Their own count is not checked: the published one below says it in words.
        builder.download_and_prepare(verification_mode="no_checks")
        table = builder.as_dataset(split=hub.split)
    except Exception as error:  # whatever a download, a cache and a file format can raise
        raise EnvError(
            f"{task}: {name} cannot be had from the Hugging Face hub ({type(error).__name__}: "
            f"{' '.join(str(error).split()):.300}). {way_out(task, hub)}"
        ) from error
    if len(table) != hub.count:
        raise EnvError(
            f"{task}: {name} has {len(table):,} rows, but the published set has {hub.count:,}. Pass a commit that "
            "has them (--env-args revision=COMMIT)."
        )
    if missing := [column for column in columns if column not in table.column_names]:
        raise EnvError(
            f"{task}: {name} has the columns {', '.join(table.column_names)}, but lacks {', '.join(missing)}."
        )
    rows = [Row(f"{name}, row {i}", values) for i, values in enumerate(table, 1)]
    commit = builder.hash if re.fullmatch("[0-9a-f]{40}", str(builder.hash)) else revision
    return rows, commit


def _split_files(task: str, folder: Path, split: str, hub: HubSet) -> list[Path]:
    """The one file of a split, or its numbered parts as the hub writes them."""
    places = [folder, *(folder / name for name in (hub.config, "data") if name)]
    found = [place / f"{split}{ending}" for place in places for ending in FORMATS]
    choices = [[file] for file in found if file.is_file()]
    choices += [parts for place in places if (parts := sorted(place.glob(f"{split}-*-of-*.parquet")))]
    if not choices:
        held = ", ".join(sorted(file.name for file in folder.iterdir())[:8]) or "nothing"
        raise EnvError(
            f"{task}: source={folder} has no {split} split; it needs {split}.jsonl, {split}.jsonl.gz or "
            f"{split}.parquet, or a folder as on the hub. It holds {held}."
        )
    if len(choices) > 1:
        raise EnvError(
            f"{task}: source={folder} has several {split} splits, {choices[0][0]} and {choices[1][0]}; leave one, "
            "or name the file itself."
        )
    _check_parts(task, choices[0])
    return choices[0]


def _check_parts(task: str, parts: list[Path]) -> None:
    """Raises EnvError if a numbered part is missing, as after a download that was broken off."""
    whole = re.fullmatch(r".*-\d+-of-(\d+)\.parquet", parts[0].name)
    if whole is not None and len(parts) != int(whole[1]):
        raise EnvError(
            f"{task}: {parts[0].parent} holds {len(parts)} of the {int(whole[1])} parts of {parts[0].name}; "
            "download the set again."
        )


def _read(task: str, file: Path, columns: Sequence[str]) -> Iterator[Row]:
    if not file.name.endswith(FORMATS):
        raise EnvError(f"{task}: {file} must end in {', '.join(FORMATS)}.")
    try:
        yield from _parquet(task, file, columns) if file.suffix == ".parquet" else _jsonl(task, file, columns)
    except (OSError, EOFError, UnicodeDecodeError, zlib.error) as error:
        raise EnvError(
            f"{task}: {file} cannot be read ({error}). Check the file, or use --env-args source=generated."
        ) from error


def _jsonl(task: str, file: Path, columns: Sequence[str]) -> Iterator[Row]:
    opened = gzip.open if file.suffix == ".gz" else open
    with opened(file, "rt", encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            where = f"{file.name}, line {number}"
            try:
                values = json.loads(line)
            except ValueError as error:
                raise EnvError(f"{task}: {where} is not JSON ({error}).") from error
            if not isinstance(values, dict) or any(column not in values for column in columns):
                raise EnvError(
                    f"{task}: {where} is {line.strip()!r:.80}; it must be an object with the keys "
                    f"{', '.join(columns)}."
                )
            yield Row(where, values)


def _parquet(task: str, file: Path, columns: Sequence[str]) -> Iterator[Row]:
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.read_table(file)
    except pyarrow.ArrowInvalid as error:
        raise EnvError(f"{task}: {file} is no parquet file ({error}).") from error
    if missing := [column for column in columns if column not in table.column_names]:
        raise EnvError(
            f"{task}: {file} has the columns {', '.join(table.column_names)}, but lacks {', '.join(missing)}."
        )
    for number, values in enumerate(table.to_pylist(), 1):
        yield Row(f"{file.name}, row {number}", values)
