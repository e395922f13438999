"""The files that `--env ./file.py:ID` and `--algorithm ./file.py:Class` name: a run keeps copies of them.

So it can be evaluated and resumed wherever it is moved, and it notices when a file is no longer what it began with. Of
data it keeps a hash.
"""

import hashlib
import os
import re
import shutil
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spg_trainer.errors import ConfigError
from spg_trainer.runs.files import writing
from spg_trainer.settings.places import absolute_name
from spg_trainer.settings.recorded import record_of
from spg_trainer.settings.task import Task, join_tasks, parse_tasks
from spg_trainer.settings.values import flatten

if TYPE_CHECKING:
    from spg_trainer.settings.fields import Config, SftCommand, TaskSettings

ENVIRONMENT, ALGORITHM = "environment", "algorithm"
"""Folders of a run."""
DATA = (".jsonl", ".json", ".csv", ".parquet", ".gz")
"""Of a folder that an argument names, the files that count as data."""
VERSION = "version "
"""How the state of a package of tasks begins."""
FIELDS = {"env": ENVIRONMENT, "algorithm": ALGORITHM}
"""{setting that may name a file: the folder of its copy}; the flag has the setting's name."""


def keep(run: Path, folder: str, name: str, *, again: bool = False) -> None:
    """Copies the file of an environment or an algorithm, and the loaded modules beside it, to RUN/FOLDER, once.

    Of several tasks each folder is kept apart, so that files of one name do not meet. again: over an earlier copy, too.
    Raises CheckpointError if the disk refuses.
    """
    for file, places in located(run, folder, name):
        if file is None or (places[0].is_file() and not again) or file.resolve() == places[0].resolve():
            continue
        beside = _loaded_from({file.resolve().parent})
        with writing(places[0]):
            places[0].parent.mkdir(parents=True, exist_ok=True)
            for place in (*beside, file):  # the file last: where it is, its modules are
                shutil.copyfile(place, places[0].with_name(place.name))


def located(run: Path, folder: str, name: str) -> list[tuple[Path | None, list[Path]]]:
    """Of each task in a text its file, and where the run's copy of it may be, where it is first written to first.

    name: tasks as settings hold them, or an algorithm, whose name has the form of one task. Files of the first folder
    are copied to RUN/FOLDER, those of the second to RUN/FOLDER/2. Once some of the files are such copies themselves,
    the others are found further down.
    """
    result, parents = list[tuple[Path | None, list[Path]]](), list[Path]()
    for task in parse_tasks(name):
        if task.file is None:
            result.append((None, []))
            continue
        file = Path(task.file)
        parent = file.resolve().parent
        parents += [parent] * (parent not in parents)
        numbers = range(parents.index(parent) + 1, 0, -1)
        result.append((file, [run / folder / (str(n) if n > 1 else "") / file.name for n in numbers]))
    return result


def copies(run: Path | None, folder: str, name: str) -> list[tuple[Task, Path | None, Path | None]]:
    """(task, its file, the run's copy of this) of each task in a text; None where there is none."""
    tasks = parse_tasks(name)
    if run is None:
        return [(task, Path(task.file) if task.file else None, None) for task in tasks]
    return [
        (task, file, next((place for place in places if place.is_file()), None))
        for task, (file, places) in zip(tasks, located(run, folder, name), strict=True)
    ]


def kept(run: Path | None, folder: str, name: str) -> str:
    """The name of an environment or algorithm by its run's copies, where there are some that its files do not equal."""
    found = []
    for task, file, copy in copies(run, folder, name):
        same = file is None or copy is None or (file.is_file() and file.read_bytes() == copy.read_bytes())
        found.append(task if same else replace(task, file=str(copy)))
    return join_tasks(found)


def with_copies(run: Path, values: Mapping[str, Any]) -> dict[str, Any]:
    """What config.yaml of a run holds, with the run's copies in place of own files that are not where they were."""

    def found(folder: str, name: str) -> str:
        each = [
            task if copy is None or file.is_file() else replace(task, file=str(copy))
            for task, file, copy in copies(run, folder, name)
        ]
        return join_tasks(each)

    named = {field: str(values[field]) for field in FIELDS if values.get(field)}
    return {**values, **{field: found(FIELDS[field], name) for field, name in named.items()}}


def kept_if_gone(run: Path, config: "Config") -> "Config":
    """The settings of a run, with its copies in place of own files that are not where they were."""
    return replace(config, **with_copies(run, {field: getattr(config, field) for field in FIELDS}))


def refuse_changed_files(run: Path, config: "Config") -> None:
    """Raises ConfigError if a file of the environment or algorithm is no longer the one that the run began with."""
    code_files = [
        (field, *one) for field in FIELDS for one in copies(run, FIELDS[field], getattr(config, field))
    ]
    named = {file.name for _, _, file, _ in code_files if file is not None}
    for field, _, file, copy in code_files:
        if file is None or copy is None or file.resolve() == copy.resolve():
            continue
        for before in sorted(copy.parent.glob("*.py")):
            now = file.parent / before.name
            if now.name != file.name and now.name in named:  # of environment and algorithm in one folder
                continue
            if now.is_file() and now.read_bytes() != before.read_bytes():
                raise ConfigError(
                    f"{now} has changed since {run} began: {first_difference(before, now)}. To go on with the run's "
                    f"own copy: --{field} {kept(run, FIELDS[field], getattr(config, field))}. To go on with the file "
                    "as it is now, such as one that you repaired: --accept-changed-code. Else start a new run with "
                    "another --output-dir."
                )


def data_of(command: "TaskSettings") -> dict[str, str]:
    """{what names a file: its sha256}, of a task (own code or data), of its arguments and of what `sft` learns."""
    files = {f"--env {task.env}": task.file or task.env for task in parse_tasks(command.env)}
    named = {name: file for name, file in files.items() if os.path.isfile(file)}  # a task is never a folder
    named |= {
        f"{name}={value}": re.sub(r"(\.py):.*", r"\1", str(value)) for name, value in command.env_args.items()
    }
    if file := getattr(command, "data", None):
        named[f"--data {file}"] = file
    return {name: digest for name, place in named.items() if (digest := hashed(place))}


def code_of(command: "TaskSettings") -> dict[str, str]:
    """{name of a file: its sha256}, of own tasks and reward functions, and of the loaded modules beside them."""
    named = [task.file for task in parse_tasks(command.env) if task.file]
    arguments = map(str, flatten(command.env_args).values())
    named += [match[0] for value in arguments for match in re.finditer(r"[^+]*?\.py(?=:|$)", value)]
    files = [file for name in named if (file := Path(name).expanduser()).suffix == ".py" and file.is_file()]
    beside = _loaded_from({file.resolve().parent for file in files})
    return {file.name: hashed(str(file)) for file in (*beside, *files)}


def _loaded_from(folders: set[Path]) -> list[Path]:
    """The files of all loaded modules that lie in one of these folders."""
    files = [file for m in [*sys.modules.values()] if (file := getattr(m, "__file__", None))]
    # Of some 3,000 modules: a path is made of each folder, not of each file, since every start asks this.
    names = {name for name in set(map(os.path.dirname, files)) if Path(name) in folders}
    return [Path(file) for file in files if os.path.dirname(file) in names]


def hashed(place: str) -> str:
    """The sha256 of a file, or of the files of data in a folder with their names; "" where there is neither."""
    if os.path.isfile(place):
        with open(place, "rb") as content:
            return hashlib.file_digest(content, "sha256").hexdigest()
    files = (
        sorted(file for suffix in DATA for file in Path(place).rglob(f"*{suffix}"))
        if os.path.isdir(place)
        else []
    )
    names = "\n".join(f"{file.relative_to(place)} {hashed(str(file))}" for file in files)
    return hashlib.sha256(names.encode()).hexdigest() if files else ""


def refuse_changed_data(run: Path, command: "Config | SftCommand") -> None:
    """Raises ConfigError if data is no longer what it was when a run began, as its environment.json has it.

    With `accept_changed_code` the code of tasks and reward functions may be another.
    """
    recorded = record_of(run)
    began, now = (
        {absolute_name(name, recorded): (name, digest) for name, digest in data.items()}
        for data in (recorded.get("data", {}), data_of(command))
    )
    for place in began.keys() & now.keys():
        (name, before), (_, after) = began[place], now[place]
        if before == after or (command.output.accept_changed_code and is_code(name)):
            continue
        text = f"{name} has changed since {run} began: its sha256 was {before}, now it is {after}. Put back "
        text += "what it was to go on. To train on the new data, start a new run with another --output-dir."
        if is_code(name):
            text += " To go on with the code as it is now, such as a reward that you repaired: --accept-changed-code."
        raise ConfigError(text)


def is_code(name: str) -> bool:
    """Whether an entry of `data_of`, such as reward=./mine.py:brevity, is of a file of Python."""
    return name.rpartition("=")[2].partition(":")[0].endswith(".py")


def refuse_changed_hub(run: Path, origin: Mapping[str, str]) -> None:
    """Raises ConfigError if a data set on the hub, or a package of tasks, is not what it was when a run began.

    origin: {data set: its commit, or a hash of its rows; package: its version} of the environment as it is now; hashes
    of files have a check of their own.
    """
    before = record_of(run).get("origin") or {}
    for name in before.keys() & origin.keys():
        old, now = before[name], origin[name]
        if old == now or old.startswith("sha256"):
            continue
        what, back = f"The data set {name} on the hub", f"Put back what it was to go on: {old} is no commit."
        if old.startswith(VERSION):
            what, back = f"The package {name}", "Install that version again to go on."
        elif re.fullmatch("[0-9a-f]{40}", old):
            back = (
                f"To go on with what it was: --env-args revision={old} (of the test set of math500 test_revision, of "
                f"several tasks TASK.revision), or with sft --data {name}@{old}."
            )
        raise ConfigError(
            f"{what} has changed since {run} began: it was {old}, now it is {now}. {back} To train on it as "
            "it is now, start a new run with another --output-dir."
        )


def without_pins(run: Path, recorded: Mapping[str, Any], current: Mapping[str, Any]) -> dict[str, Any]:
    """The `current` settings of a run that goes on, but as `recorded` those that only pin a data set to its commit.

    E.g. a revision that now names the commit which the hub's main branch had when the run began.
    """
    origin = record_of(run).get("origin") or {}
    pins = {
        name: recorded.get(name)
        for name, value in current.items()
        if (name.endswith("revision") and recorded.get(name) is None and value in origin.values())
        or (name == "data" and value in [f"{recorded.get(name)}@{commit}" for commit in origin.values()])
    }
    return {
        name: value for name, value in {**current, **pins}.items() if name not in pins or name in recorded
    }


def canonical(run: Path, config: "Config") -> "Config":
    """The settings with the files that the run has copies of by their names alone, wherever they lie."""

    def alone(folder: str, name: str) -> str:
        each = [
            task if copy is None else replace(task, file=str(copy.relative_to(run / folder)))
            for task, _, copy in copies(run, folder, name)
        ]
        return join_tasks(each)

    return replace(config, **{f: alone(folder, getattr(config, f)) for f, folder in FIELDS.items()})


def first_difference(before: Path, now: Path) -> str:
    """The first line in which two texts differ, e.g. "line 3 was 'a = 1', now 'a = 2'"."""
    old, new = (file.read_text(encoding="utf-8", errors="replace").splitlines() for file in (before, now))
    longest = max(len(old), len(new))
    old, new = (lines + [""] * (longest - len(lines)) for lines in (old, new))
    number = next((i for i, pair in enumerate(zip(old, new, strict=True)) if pair[0] != pair[1]), None)
    if number is None:
        return "its line ends"
    return f"line {number + 1} was {old[number].strip()!r:.80}, now {new[number].strip()!r:.80}"
