"""The files that a run reads, its *inputs*: found in its settings, hashed, and copied into its folder if they are code.

A file is identified by its hash, not by its path. RUN/inputs.json has the absolute path and the sha256 of each file
and, for code, the place of the run's copy. When the run goes on, `resume.py` compares the hashes. A file may lie
elsewhere then: the user names the new path of moved data, and code that is gone is read from its copy.
"""

import ast
import hashlib
import os
import re
import sys
from collections.abc import Collection, Mapping
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from shlex import quote
from typing import Any, NamedTuple

from spg_trainer.errors import ConfigError
from spg_trainer.runs.files import read_json, write_bytes, write_text
from spg_trainer.settings import packages  # `packages.envs` is ours, loaded on first use
from spg_trainer.settings.model import REFERENCE_FOLDER
from spg_trainer.settings.types import json_document
from spg_trainer.settings.weights import is_embedded, resolve_model

INPUTS = "inputs.json"
"""The file, in the folder of a run, that lists its inputs."""
TASK_COPIES, ALGORITHM_COPIES = "environment", "algorithm"
"""The folders of a run that hold its copies of code. The first has tasks and rewards, the second the algorithm and
the user's own rules of unmasking and of the learning rate."""
DATA = (".jsonl", ".json", ".csv", ".parquet", ".gz")
"""The endings of data files. In a folder of data, only files with these are hashed."""
MODEL, OWN_RULES = "model.model", ("rollout.remasking", "rollout.unmasking", "optimizer.lr_schedule")
"""The settings, by dotted name, that may name a model's folder, and files with functions of the user's own."""
LARGE = 2**26
"""Bytes of a file of weights above which not the whole file is hashed, but its size and 64 parts of 1 MB."""
NOT_OF_THE_USER = sys.stdlib_module_names | {"verifiers", "envs", "spg_trainer"}
"""The packages whose code a run does not keep, nor that of installed ones."""


class Input(NamedTuple):
    """A file, or a folder of data or of a model, that a run reads."""

    path: str
    """The absolute path that it had when the run was last started."""
    sha256: str
    copy: str = ""
    """The place of the run's copy of it, within the run's folder; "" for data and models, which are not copied."""
    content: bytes | None = None
    """What the copy holds; None for an input that was read from inputs.json."""


Inputs = Mapping[str, Input]
"""{name: input}. A name is a setting, e.g. `env`, `env_args.source`, `pairs`; `env 2` is the second file in `env`, and
`env/helper.py` a module that is imported from the folder of the file `env`."""


def file_settings(command: Any) -> dict[str, str]:
    """{dotted name: text} of a command's settings that may name files, or a folder of data or of a model."""
    texts = {name: getattr(command, name, None) for name in ("env", "algorithm", "pairs", "data")}
    if not is_embedded(command.model.model, "tiny", "new"):
        texts[MODEL] = command.model.model
    for setting in OWN_RULES:
        group, _, name = setting.partition(".")
        rule = getattr(getattr(command, group, None), name, "")
        if ":" in rule:
            texts[setting] = rule
    texts |= {f"env_args.{name}": value for name, value in command.env_args.items()}
    return {name: text for name, text in texts.items() if text and isinstance(text, str)}


class Named(NamedTuple):
    """What settings name, from `name_files`."""

    texts: dict[str, str]
    """{setting: its text with absolute paths}; a text that names nothing stays as it is."""
    paths: dict[str, str]
    """{name of an input: the absolute path of its file or folder}."""


def name_files(settings: Mapping[str, str]) -> Named:
    """The files and folders that settings name, and the settings with absolute paths.

    A user's code that is named by its module or its id is then named by its file, so that any process finds it, and a
    copy can take its place: `task:my/Task-v0` and `my/Task-v0` become `/home/me/task.py:my/Task-v0`. settings: {dotted
    name: text}, as `file_settings` returns them, here and in the functions below.
    """
    named = Named({}, {})
    for setting, text in settings.items():
        # A text may name several files, joined by plus signs: `a.jsonl + b.jsonl`, `./a.py:x+./b.py:y`.
        plus = {"env": " + ", "env_args": "+"}.get(setting.partition(".")[0])
        if setting.endswith("system_prompt") or os.path.exists(os.path.expanduser(text)):
            plus = None  # it is part of a text or of a path
        pieces = text.split(plus) if plus else [text]
        found = [_path_in(setting, piece) or _own_code(setting, piece) or ("", piece) for piece in pieces]
        named.texts[setting] = (plus or "").join(by_path for _, by_path in found)
        for number, path in enumerate([path for path, _ in found if path], start=1):
            named.paths[setting if number == 1 else f"{setting} {number}"] = path
    return named


def _path_in(setting: str, piece: str) -> tuple[str, str] | None:
    """(absolute path of an input, the piece of a setting with this path); None if the piece has no path of an input."""
    before, file, behind = "", piece, ""
    if setting.endswith("system_prompt"):  # a text, or @FILE
        before, file = ("@", piece[1:]) if piece.startswith("@") else ("", "")
    elif match := re.fullmatch(r"(.*\.py)(:.*)", piece, re.DOTALL):
        file, behind = match.groups()
    path = os.path.abspath(os.path.expanduser(file))
    if os.path.isfile(path):
        # A bare word is a name, such as `difficulty=easy`, also if a file of this name lies in the working folder.
        is_input = setting in ("pairs", "data") or bool(before) or "." in file or "/" in file
    else:  # only a model and arguments of the environment may be a folder
        is_data = setting.startswith("env_args.") and file not in ("", "generated", "hub")
        is_input = os.path.isdir(path) and (setting == MODEL or (is_data and bool(_data_below(path))))
    return (path, before + path + behind) if is_input else None


def _own_code(setting: str, piece: str) -> tuple[str, str] | None:
    """(file, name by it) of the user's code that a piece of a setting names by its module or, once registered, its id.

    The piece stays the name if a file alone does not do: a module of a package may import others of it by relative
    names, the script that Python runs would run again, and another module may register the class. None for any other
    name, and for code of this project, of an installed package or of a notebook.
    """
    envs, (module, _, name) = packages.envs, piece.rpartition(":")
    file, is_in_file = None, True
    if setting in ("algorithm", *OWN_RULES) and module:
        # `find_spec` imports a package, which can raise anything; whoever loads it reports it.
        with suppress(Exception, SystemExit):
            file = Path(str(getattr(find_spec(module), "origin", "")))
    elif (
        setting == "env" and piece.partition(":")[0] not in envs.registry.ADAPTERS
    ):  # a game of another package
        with suppress(envs.EnvError):
            name = envs.registry.resolve(piece)
            cls = envs.registry.known()[name]
            file, module = envs.own_files.file_of(cls), cls.__module__
            is_in_file = file is not None and says_id(file, name)
    elif setting.startswith("env_args.") and setting.endswith("verifier"):
        with suppress(packages.verifiers.VerifierError):
            verify = packages.verifiers.registry.find(piece).verify
            file, module, is_in_file = envs.own_files.file_of(verify), verify.__module__, False
    package, _, inside = module.partition(".")
    if file is None or file.suffix != ".py" or package in NOT_OF_THE_USER:
        return None
    if {"site-packages", "dist-packages"} & {*file.parts}:
        return None
    stands_alone = is_in_file and not inside and file.stem != "__init__" and module != "__main__"
    stands_alone &= " + " not in str(file)  # which joins several tasks
    return str(file.resolve()), f"{file.resolve()}:{name}" if stands_alone else piece


def says_id(file: str | Path, id: str) -> bool:
    """Whether the text of a file has an id, as it must to register a task under it, unless it computes the id."""
    return Path(file).is_file() and id.encode() in Path(file).read_bytes()


def find_inputs(settings: Mapping[str, str]) -> dict[str, Input]:
    """The inputs that settings name, as they are now: code, then data and the model."""
    found = find_code(settings)
    for name, path in name_files(settings).paths.items():
        if not path.endswith(".py"):
            found[name] = Input(path, hash_of_model(path) if name == MODEL else hash_of(path))
    return found


def find_code(settings: Mapping[str, str]) -> dict[str, Input]:
    """The files of code that settings name, and the modules beside these that they import."""
    found: dict[str, Input] = {}
    folders_of_kind: dict[str, list[Path]] = {TASK_COPIES: [], ALGORITHM_COPIES: []}
    for name, path in name_files(settings).paths.items():
        if not path.endswith(".py"):
            continue
        # Copies of files from one folder lie in one folder, so that they can import each other there: those from the
        # first folder in `environment`, those from the second in `environment/2`.
        kind = ALGORITHM_COPIES if name.startswith(("algorithm", *OWN_RULES)) else TASK_COPIES
        folders, folder = folders_of_kind[kind], Path(path).resolve().parent
        if folder not in folders:
            folders.append(folder)
        number = folders.index(folder) + 1
        place = Path(kind, str(number) if number > 1 else "")
        for file in (Path(path), *imported_beside(Path(path).resolve())):
            content = file.read_bytes()
            own_name = name if file == Path(path) else f"{name}/{file.name}"
            sha256 = hashlib.sha256(content).hexdigest()
            found[own_name] = Input(str(file), sha256, str(place / file.name), content)
    return found


def imported_beside(file: Path) -> list[Path]:
    """The modules in a file's folder that it imports, directly or through each other, by the text of its imports.

    In a package, `__init__.py` is one of them, since Python runs it first.
    """
    package = file.with_name("__init__.py")
    found = [file, *([package] if package != file and package.is_file() else [])]
    for importing in found:  # it grows
        try:
            nodes = [*ast.walk(ast.parse(importing.read_bytes()))]
        except (SyntaxError, ValueError):  # whoever loads the file reports it
            continue
        names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
        for node in nodes:
            if isinstance(node, ast.ImportFrom):  # `from . import a` and `from .a import b` import a
                names |= {f"{node.module or ''}.{alias.name}".lstrip(".") for alias in node.names}
        for name in sorted(names):
            first, _, _ = name.removeprefix(f"{file.parent.name}.").partition(".")
            beside = file.with_name(f"{first}.py")
            if beside not in found and beside.is_file():
                found.append(beside)
    return found[1:]


def hash_of(path: str) -> str:
    """The sha256 of a file; for a folder, of its data files and their names, or "" if it has no data files."""
    if os.path.isfile(path):
        return _hash_of_file(Path(path))
    return _hash_of_files(_data_below(path))


def _data_below(folder: str) -> list[Path]:
    """The data files in a folder and its subfolders."""
    files = (file for ending in DATA for file in Path(folder).rglob(f"*{ending}"))
    return sorted(file for file in files if file.is_file())


def hash_of_model(model: str, *, with_prompts: bool = False) -> str:
    """The sha256 of the weights, config and tokenizer in the folder of a model, a run or an adapter; "" without folder.

    with_prompts: whether all counts that decides what the model writes: chat template, code, and the base of an
    adapter.
    """
    weights = resolve_model(model)
    folders = [Path(weights.adapter or weights.base)]
    endings = (".safetensors", ".bin", ".model", "config.json", "tokenizer.json", "vocab.json", "merges.txt")
    if with_prompts:
        folders.append(Path(weights.base))
        endings += ("template.jinja", "template.json", "added_tokens.json", "special_tokens_map.json", ".py")
    files = [file for folder in folders if folder.is_dir() for file in sorted(folder.iterdir())]
    return _hash_of_files([file for file in files if file.is_file() and file.name.endswith(endings)], LARGE)


def _hash_of_files(files: list[Path], whole_up_to: float = float("inf")) -> str:
    """The sha256 of the names and hashes of files; "" if there are none. whole_up_to: as for `_hash_of_file`."""
    text = "\n".join(f"{file.name} {_hash_of_file(file, whole_up_to)}" for file in files)
    return hashlib.sha256(text.encode()).hexdigest() if files else ""


def _hash_of_file(path: Path, whole_up_to: float = float("inf")) -> str:
    """The sha256 of a whole file; of a file of more than `whole_up_to` bytes, that of its size and 64 of its parts."""
    size = path.stat().st_size
    with open(path, "rb") as content:
        if size <= whole_up_to:
            return hashlib.file_digest(content, "sha256").hexdigest()
        digest = hashlib.sha256(str(size).encode())
        for part in range(64):  # from the first 1 MB to the last, at equal distances
            content.seek((size - 2**20) * part // 63)
            digest.update(content.read(2**20))
    return digest.hexdigest()


def write_inputs(run: Path, inputs: Inputs) -> None:
    """Copies the code among the inputs into a run's folder, and writes the list of all inputs there.

    Raises CheckpointError if the disk refuses.
    """
    for entry in inputs.values():
        if entry.content is not None:
            write_bytes(run / entry.copy, entry.content)
    recorded = {
        name: {"path": entry.path, "sha256": entry.sha256, "copy": entry.copy}
        for name, entry in inputs.items()
    }
    write_text(run / INPUTS, json_document(recorded))


def read_inputs(run: Path) -> dict[str, Input]:
    """The inputs that a run has recorded; {} if it has no such file."""
    recorded = read_json(run / INPUTS) or {}
    return {name: Input(entry["path"], entry["sha256"], entry["copy"]) for name, entry in recorded.items()}


def with_copies(run: Path, values: Any, *, changed: bool = False) -> Any:
    """Nested settings of a run, with paths of code that is gone replaced by those of the run's copies.

    changed: whether code that has changed since is replaced, too.
    """
    copies = {
        entry.path: str((run / entry.copy).absolute())
        for entry in read_inputs(run).values()
        if entry.copy and (run / entry.copy).is_file()
        if not os.path.isfile(entry.path) or (changed and hash_of(entry.path) != entry.sha256)
    }

    def replaced(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {name: replaced(inner) for name, inner in value.items()}
        for path, copy in copies.items():
            value = value.replace(path, copy) if isinstance(value, str) else value
        return value

    return replaced(values)


def setting_naming(name: str, value: str) -> str:
    """The setting that names an input, as a message writes it (`errors.py`): `$env_args source=mine.jsonl`."""
    setting, _, _ = name.partition(" ")  # `env 2` is the second file in `env`
    group, _, key = setting.partition(".")
    # A message writes a setting without its group: `rollout.remasking` is `$remasking`.
    return f"$env_args {key}={quote(value)}" if group == "env_args" else f"${key or group}={value}"


def refuse_gone(run: Path, typed: Collection[str]) -> None:
    """Raises ConfigError if data or the model of a run is gone, unless the user names its new place.

    typed: dotted names of the settings that the user gives. A run with its own copy of the weights does not need the
    folder of the model.
    """
    for name, entry in read_inputs(run).items():
        setting, _, _ = name.partition(" ")
        has_copy = entry.copy or (name == MODEL and (run / REFERENCE_FOLDER).is_dir())
        if not has_copy and setting not in typed and not os.path.exists(entry.path):
            raise ConfigError(
                f"{entry.path} is gone since {run} began. Put it back, or say where it is now, and it is accepted by "
                f"its hash: {setting_naming(name, 'PATH')}."
            )
