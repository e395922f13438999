"""Records the files that a run reads, its *inputs*: the hashes of all, and copies of those that are code.

A file is identified by its hash, not by its path. A run that begins writes RUN/inputs.json: the absolute path and the
sha256 of each file and, for code, the place of the run's copy. When the run goes on, each file must have its hash, but
may lie elsewhere: the user names the new path of moved data, and code that is gone is read from its copy.
"""

import hashlib
import os
import re
import shutil
import sys
import sysconfig
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from functools import cache, partial
from importlib.util import find_spec
from itertools import zip_longest
from pathlib import Path
from shlex import quote
from types import ModuleType
from typing import Any, NamedTuple

from spg_trainer.errors import ConfigError
from spg_trainer.runs.files import read_json, write_text, writing
from spg_trainer.settings import packages  # `packages.envs` is ours, loaded on first use
from spg_trainer.settings.model import REFERENCE_FOLDER, find_adapter
from spg_trainer.settings.types import json_document
from spg_trainer.settings.weights import is_embedded, resolve_model

INPUTS = "inputs.json"
"""The file, in the folder of a run, that lists its inputs."""
TASK_COPIES, ALGORITHM_COPIES = "environment", "algorithm"
"""The folders of a run that hold its copies of code. The first has tasks and rewards, the second the algorithm and
the user's own rules of unmasking and of the learning rate."""
DATA = (".jsonl", ".json", ".csv", ".parquet", ".gz")
"""The endings of data files. In a folder of data, only files with these are hashed."""
NO_FOLDERS = ("generated", "hub")
"""Words for sources of problems; they name no folder, even if there is a folder of that name."""
MODEL, OWN_RULES = "model.model", ("rollout.remasking", "rollout.unmasking", "optimizer.lr_schedule")
"""The settings, by dotted name, that may name a model's folder, and files with functions of the user's own."""
LARGE = 2**26
"""Bytes of a file of weights above which not the whole file is hashed, but its size and 64 parts of 1 MB."""
INSTALLED = {"site-packages", "dist-packages"}
"""The folders of installed packages, whose code a run does not keep, nor that of Python's `STANDARD_LIBRARY`."""
STANDARD_LIBRARY = Path(sysconfig.get_path("stdlib")).resolve()


class Input(NamedTuple):
    """A file, or a folder of data or of a model, that a run reads."""

    path: str
    """The absolute path that it had when the run was last started."""
    sha256: str
    copy: str = ""
    """The place of the run's copy of it, within the run's folder; "" for data and models, which are not copied."""
    former: Sequence[str] = ()
    """The other paths that it had at earlier starts, which environment.json of the run and of its checkpoints name."""


Inputs = Mapping[str, Input]
"""{name: input}. A name is a setting, e.g. `env`, `env_args.source`, `pairs`; `env 2` is the second file in `env`, and
`env/helper.py` a module that is imported from the folder of the file `env`."""


def file_settings(command: Any) -> dict[str, str]:
    """{dotted name: text} of a command's settings that may name files, or a folder of data or of a model."""
    texts = {name: getattr(command, name, None) for name in ("env", "algorithm", "pairs", "data")}
    texts[MODEL] = command.model.model
    for setting in OWN_RULES:
        group, _, name = setting.partition(".")
        rule = getattr(getattr(command, group, None), name, "")
        if ":" in rule:
            texts[setting] = rule
    texts |= {f"env_args.{name}": value for name, value in command.env_args.items()}
    return {name: text for name, text in texts.items() if text and isinstance(text, str)}


def find_inputs(settings: Mapping[str, str], *, only_code: bool = False) -> dict[str, Input]:
    """The inputs that settings name, as they are now: code, then data and the model.

    Code is the files that settings name, and the loaded modules beside these that they import. Copies of files from one
    folder lie in one folder, so that they can import each other there. settings: {dotted name: text}, as
    `file_settings` returns them, here and in the functions below.
    """
    found: dict[str, Input] = {}
    paths = name_files(settings).paths
    named = {Path(path).resolve() for path in paths.values() if is_code(path)}
    folders_of_kind: dict[str, list[Path]] = {TASK_COPIES: [], ALGORITHM_COPIES: []}
    for name, path in paths.items():
        if not is_code(path):
            continue
        kind = ALGORITHM_COPIES if name.startswith(("algorithm", *OWN_RULES)) else TASK_COPIES
        folders, folder = folders_of_kind[kind], Path(path).resolve().parent
        if folder not in folders:
            folders.append(folder)
        # The copies from the first folder lie in `environment`, those from the second in `environment/2`.
        number = folders.index(folder) + 1
        copy_folder = Path(kind) / (str(number) if number > 1 else "")
        found[name] = Input(path, hash_of(path), str(copy_folder / Path(path).name))
        imported = {beside: hash_of(str(beside)) for beside in _loaded_from(folder)}
        with suppress(SyntaxError, ValueError):  # whoever loads the file reports it
            imported = packages.envs.own_files.still_imported(Path(path), Path(path).read_bytes(), imported)
        for beside in sorted(imported):
            if beside.resolve() not in named:
                copy = str(copy_folder / beside.name)
                found[f"{name}/{beside.name}"] = Input(str(beside), hash_of(str(beside)), copy)
    for name, path in paths.items():
        if not (only_code or is_code(path)):
            found[name] = Input(path, hash_of_model(path) if name == MODEL else hash_of(path))
    return found


class Named(NamedTuple):
    """What settings name, from `name_files`."""

    texts: dict[str, str]
    """{setting: its text with absolute paths}; a text that names nothing stays as it is."""
    paths: dict[str, str]
    """{name of an input: the absolute path of its file or folder}."""


def name_files(settings: Mapping[str, str]) -> Named:
    """The files and folders that settings name, and the settings with absolute paths.

    A user's code that is named by its module or its id is then named by its file, so that any process finds it, and a
    copy can take its place: `task:my/Task-v0` and `my/Task-v0` become `/home/me/task.py:my/Task-v0`.
    """
    named = Named({}, {})
    for setting, text in settings.items():
        pieces, count = list[str](), 0
        for piece in _pieces(setting, text):
            if own := _own_code(setting, piece):
                path, name = own
            else:
                before, path, behind = _split_at_path(setting, piece)
                name = before + path + behind
            pieces.append(name)
            if path:
                count += 1  # the second path of the setting `env` is the input `env 2`
                named.paths[setting if count == 1 else f"{setting} {count}"] = path
        named.texts[setting] = "".join(pieces)
    return named


def _own_code(setting: str, piece: str) -> tuple[str, str] | None:
    """(file, name by it) of the user's code that a piece of a setting names by its module or, once registered, its id.

    The piece stays the name if a file alone does not do: a module of a package may import others of it by relative
    names, the script that Python runs would run again, and another module may register the class. None for any other
    name, and for code of this project, of an installed package or of a notebook.
    """
    envs, (where, _, name) = packages.envs, piece.rpartition(":")
    file_of = envs.own_files.file_of
    file, module = None, where
    if is_code(piece) or is_code(where):  # it is named by its file
        return None
    if setting == "env":
        # `resolve` would open the game of another package, or a file of rows.
        may_be_own = re.fullmatch(r"([\w.]+:)?[\w./-]+", piece) and where not in envs.registry.ADAPTERS
        if may_be_own and not envs.files.rows.names_file(piece):
            with suppress(envs.EnvError):
                name = envs.registry.resolve(piece)
                cls = envs.registry.known()[name]
                file, module = file_of(cls), cls.__module__
    elif setting in ("algorithm", *OWN_RULES) and where:
        # `find_spec` imports a package, which can raise anything; whoever loads it reports it.
        with suppress(Exception, SystemExit):
            spec = find_spec(where)
            file = Path(spec.origin).resolve() if spec and spec.origin and is_code(spec.origin) else None
    elif setting.startswith("env_args.") and setting.endswith("verifier"):
        with suppress(packages.verifiers.VerifierError):
            verify = packages.verifiers.registry.find(piece).verify
            verify = verify.func if isinstance(verify, partial) else verify
            file, module = file_of(verify), verify.__module__
    package, _, inside = module.partition(".")
    if file is None or package in ("verifiers", "envs", "spg_trainer"):
        return None
    if INSTALLED & {*file.parts} or file.is_relative_to(STANDARD_LIBRARY):
        return None
    is_found_by_file = (
        not (inside or file.stem == "__init__" or module == "__main__")
        and not (setting.startswith("env_args.") or " + " in str(file))
        and (setting != "env" or says_id(file, name))
    )
    return str(file), f"{file}:{name}" if is_found_by_file else piece


def says_id(file: str | Path, id: str) -> bool:
    """Whether the text of a file has an id, as it must to register a task under it, unless it computes the id."""
    return Path(file).is_file() and id.encode() in Path(file).read_bytes()


def _pieces(setting: str, text: str) -> list[str]:
    """The pieces of a text that names several files joined by plus signs: `a.jsonl + b.jsonl`, `./a.py:x+./b.py:y`.

    The plus signs are pieces, too, so that joining all pieces gives the text again.
    """
    plus = {"env": " + ", "env_args": "+"}.get(setting.partition(".")[0])
    is_existing_path = os.path.exists(os.path.expanduser(text))  # a plus sign is then part of its name
    if plus is None or setting.endswith("system_prompt") or is_existing_path:
        return [text]
    return re.split(f"({re.escape(plus)})", text)


def _split_at_path(setting: str, piece: str) -> tuple[str, str, str]:
    """(what stands before the path of an input, its absolute path, what stands behind it), of a piece of a setting.

    `a.py:Task` is split into ("", "/home/me/a.py", ":Task"), `@prompt.txt` into ("@", "/home/me/prompt.txt", ""). A
    piece that names no existing file or folder is (piece, "", "").
    """
    before, file, behind = "", piece, ""
    if setting.endswith("system_prompt"):  # a text, or @FILE
        before, file = ("@", piece[1:]) if piece.startswith("@") else ("", "")
    elif match := re.fullmatch(r"(.*\.py)(:.*)", piece, re.DOTALL):
        file, behind = match.groups()
    path = os.path.abspath(os.path.expanduser(file))
    if not file:
        is_input = False
    elif setting == MODEL:
        is_input = not is_embedded(file, "tiny", "new") and os.path.isdir(path)
    elif os.path.isdir(path):  # only arguments of the environment may name a folder, one of data
        may_be_data = setting.startswith("env_args.") and not before and file not in NO_FOLDERS
        is_input = may_be_data and bool(_data_below(path))
    else:
        if setting in ("algorithm", *OWN_RULES):  # a name, or a file of code
            may_be_file = is_code(file)
        elif setting == "env":  # an id, a file of code, or a file of rows
            may_be_file = is_code(file) or packages.envs.files.rows.names_file(file)
        else:
            # Pairs, data and a prompt are always in a file, also in one without an ending. Any other argument of the
            # environment may be any word: `difficulty=easy` names no file, even if a file `easy` lies in the working
            # folder; a name with an ending or a folder, `easy.jsonl` or `./easy`, does.
            may_be_file = setting in ("pairs", "data") or bool(before) or "." in file or "/" in file
        is_input = may_be_file and os.path.isfile(path)
    return (before, path, behind) if is_input else (piece, "", "")


def is_code(path: str) -> bool:
    """Whether an input is a Python file."""
    return path.endswith(".py")


def hash_of(path: str) -> str:
    """The sha256 of a file; for a folder, of its data files and their names, or "" if it has no data files."""
    if os.path.isfile(path):
        return _hash_of_file(path)
    return _hash_of_files(_data_below(path))


def hash_of_model(folder: str) -> str:
    """The sha256 of the weights in the folder of a model or a run, with the config and tokenizer beside them."""
    weights = resolve_model(folder)
    endings = (".safetensors", ".bin", ".model", "config.json", "tokenizer.json", "vocab.json", "merges.txt")
    files = Path(weights.adapter or weights.base).iterdir()
    files_of_model = sorted(file for file in files if file.is_file() and file.name.endswith(endings))
    return _hash_of_files(files_of_model, whole_up_to=LARGE)


PARTS_OF_MODEL = {
    "weights": (".safetensors", ".bin"),
    "chat template": ("chat_template.jinja", "chat_template.json"),
    "tokenizer": (
        *(".model", "vocab.json", "merges.txt", "tokenizer.json"),
        *("tokenizer_config.json", "added_tokens.json", "special_tokens_map.json"),
    ),
    "config": ("config.json", ".py"),
}
"""{part of a model: the endings of its files}; a file belongs to the first part that has its ending."""


def parts_of_model(model: str) -> dict[str, str]:
    """{part of a model in a folder, as in `PARTS_OF_MODEL`: the sha256 of its files, "" if it has none}.

    The files of an adapter and of its base count together. Those of a model of the Hub are not looked at.
    """
    weights, files_of_part = resolve_model(model), {part: list[Path]() for part in PARTS_OF_MODEL}
    folders = [folder for folder in (weights.adapter, Path(weights.base)) if folder and folder.is_dir()]
    for file in (file for folder in folders for file in sorted(folder.iterdir()) if file.is_file()):
        parts = (part for part, ends in PARTS_OF_MODEL.items() if file.name.endswith(ends))
        if part := next(parts, None):
            files_of_part[part].append(file)
    return {
        f"the {part} of the model": _hash_of_files(files, whole_up_to=LARGE)
        for part, files in files_of_part.items()
    }


def _data_below(folder: str) -> list[Path]:
    """The data files in a folder and its subfolders."""
    return sorted(file for ending in DATA for file in Path(folder).rglob(f"*{ending}"))


def _hash_of_files(files: list[Path], whole_up_to: float = float("inf")) -> str:
    """The sha256 of the names and hashes of files; "" if there are none. whole_up_to: as for `_hash_of_file`."""
    text = "\n".join(f"{file.name} {_hash_of_file(str(file), whole_up_to)}" for file in files)
    return hashlib.sha256(text.encode()).hexdigest() if files else ""


def _hash_of_file(path: str, whole_up_to: float = float("inf")) -> str:
    """The sha256 of a whole file; of a file of more than `whole_up_to` bytes, that of its size and 64 of its parts."""
    state = os.stat(path)
    return _hash_of_state(
        os.path.abspath(path), state.st_size, state.st_mtime_ns, state.st_size > whole_up_to
    )


@cache  # a run that goes on needs a hash twice
def _hash_of_state(path: str, size: int, _time: int, in_parts: bool) -> str:
    with open(path, "rb") as content:
        if not in_parts:
            return hashlib.file_digest(content, "sha256").hexdigest()
        digest = hashlib.sha256(str(size).encode())
        for part in range(64):  # from the first 1 MB to the last, at equal distances
            content.seek((size - 2**20) * part // 63)
            digest.update(content.read(2**20))
    return digest.hexdigest()


def _loaded_from(folder: Path) -> list[Path]:
    """The files of all loaded modules that lie in a folder, except the script that Python runs."""
    files_of_folder: dict[str, set[str]] = {}
    for name, module in [*sys.modules.items()]:
        file = vars(module).get("__file__") if isinstance(module, ModuleType) else None
        if file and name not in ("__main__", "__mp_main__"):
            files_of_folder.setdefault(os.path.dirname(file), set()).add(file)
    # Some 3,000 modules are loaded, and every start calls this: folders are compared, not files, and none is resolved.
    # torch has modules whose file is a bare name, without a folder; others lie in archives.
    here, found = folder.stat(), set()
    for place, files in files_of_folder.items():
        with suppress(OSError):
            if place and os.path.samestat(os.stat(place), here):
                found |= files
    return sorted(Path(file) for file in found if is_code(file))


def write_inputs(run: Path, inputs: Inputs, *, again: bool = False) -> None:
    """Copies the code among the inputs into a run's folder, and writes the list of all inputs there.

    again: whether existing copies are overwritten. Raises CheckpointError if the disk refuses.
    """
    for entry in inputs.values():
        if not entry.copy:
            continue
        copy = run / entry.copy
        is_wanted = again or not copy.is_file()
        runs_from_copy = copy.resolve() == Path(entry.path).resolve()
        if is_wanted and not runs_from_copy:
            with writing(copy):
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(entry.path, copy)
    # Most runs stay where they began, so most inputs have no former paths.
    recorded = {
        name: {field: value for field, value in entry._asdict().items() if value or field != "former"}
        for name, entry in inputs.items()
    }
    write_text(run / INPUTS, json_document(recorded))


def read_inputs(run: Path) -> dict[str, Input]:
    """The inputs that a run has recorded; {} if it has no such file."""
    return {name: Input(**entry) for name, entry in (read_json(run / INPUTS) or {}).items()}


def with_copies(run: Path, values: Any, *, changed: bool = False) -> Any:
    """Nested settings of a run, with paths of code that is gone replaced by those of the run's copies, and with paths
    of earlier starts replaced by those of the last one.

    changed: whether code that has changed since is replaced, too.
    """

    def replaced(value: Any, old: str, new: str) -> Any:
        if isinstance(value, Mapping):
            return {name: replaced(inner, old, new) for name, inner in value.items()}
        # A whole path, and not the beginning or the end of another one.
        path = rf"(?<![^\s+@=,]){re.escape(old)}(?![^\s+:,])"
        return re.sub(path, lambda _: new, value) if isinstance(value, str) else value

    result: Any = values
    for entry in read_inputs(run).values():
        for path in entry.former:
            result = replaced(result, path, entry.path)
        if not entry.copy or not (place := (run / entry.copy).absolute()).is_file():
            continue
        if not os.path.isfile(entry.path) or (changed and changed_file(entry) == entry.path):
            result = replaced(result, entry.path, str(place))
    return result


def changed_file(entry: Input) -> str:
    """The path at which a file of an input exists, with another content than when the run began; "" if none does."""
    paths = filter(os.path.isfile, (entry.path, *entry.former))
    return next((path for path in paths if hash_of(path) != entry.sha256), "")


def setting_naming(name: str, value: str) -> str:
    """The setting that names an input, as a message writes it (`errors.py`): `$env_args source=mine.jsonl`."""
    # The further files of a setting, `env 2`, and the modules beside its file, `env/helper.py`, belong to that setting.
    dotted_name, *_ = re.split(r"[ /]", name, maxsplit=1)
    group, _, key = dotted_name.partition(".")
    if group == "env_args":
        return f"$env_args {key}={quote(value)}"
    # A message writes a setting without its group: `rollout.remasking` is `$remasking`.
    return f"${key or group}={value}"


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


def refuse_changed_inputs(
    run: Path, settings: Mapping[str, str], accept_changed_code: bool
) -> dict[str, Input]:
    """The inputs of a run that goes on with these settings; ConfigError for one that has changed since the run began.

    accept_changed_code: whether inputs that are code may have changed.
    """
    before, now = read_inputs(run), find_inputs(settings)
    for name, at_start in before.items():
        main, _, module = name.partition("/")  # `env/helper.py` is a module beside the file that `env` names
        is_module_not_loaded = bool(module) and name not in now
        if is_module_not_loaded and main in now:
            # `find_inputs` finds loaded modules alone. This one was loaded when the run began, and is not loaded now.
            beside = Path(now[main].path).with_name(module)
            # Runs of older versions list the script that started them, too, which is no code of a run.
            script = getattr(sys.modules["__main__"], "__file__", None)
            is_script = bool(script) and Path(script).resolve() == beside.resolve()
            if beside.is_file() and not is_script:
                now[name] = Input(str(beside), hash_of(str(beside)), at_start.copy)
        if name not in now or now[name].sha256 == at_start.sha256:
            continue
        if at_start.copy and not accept_changed_code:
            setting, _, _ = main.partition(" ")
            place = str(run / before[main].copy)
            value = settings[setting].replace(now[main].path, place)
            differs = first_difference(run / at_start.copy, Path(now[name].path))
            # A task of the script that Python runs is named by its id. Then the setting holds no path that the copy's
            # could replace.
            can_use_copy = place in value
            own_copy = ""
            if can_use_copy:
                own_copy = f" To go on with the run's own copy: {setting_naming(name, value)}."
            raise ConfigError(
                f"{now[name].path} has changed since {run} began: {differs}.{own_copy} To go on with the file as it is "
                "now, such as one that you repaired: $accept_changed_code. Else start a new run with another "
                "$output_dir."
            )
        if name == MODEL and (run / REFERENCE_FOLDER).is_dir():
            now[name] = at_start  # the run opens its own copy of the weights, not the changed folder
        elif not at_start.copy:
            raise ConfigError(
                f"{setting_naming(name, now[name].path)} has changed since {run} began: its sha256 was "
                f"{at_start.sha256}, now it is {now[name].sha256}. To go on, put the old one back. To train on the new "
                "one, start a new run with another $output_dir."
            )
    for name in before.keys() & now.keys():
        paths = dict.fromkeys([*before[name].former, before[name].path])
        now[name] = now[name]._replace(former=[path for path in paths if path != now[name].path])
    return {**before, **now}


def refuse_changed_base(model: str, run: Path | None) -> None:
    """Raises ConfigError if `model` is an adapter, and the weights that it was trained on have changed.

    run: that of the model, None if it is of none. Nothing is known of a run that began from another adapter, whose hash
    is recorded in place of its base's.
    """
    trained_on = read_inputs(run).get(MODEL) if run else None
    if trained_on is None or not Path(trained_on.path).is_dir() or find_adapter(trained_on.path):
        return
    weights = resolve_model(model)
    if weights.adapter and weights.is_local and (now := hash_of_model(weights.base)) != trained_on.sha256:
        raise ConfigError(
            f"{model} holds an adapter, and its base {weights.base} has changed since the adapter was trained: its "
            f"sha256 was {trained_on.sha256}, now it is {now}. Put the old weights back, or name a copy of them in "
            f"{weights.adapter / 'adapter_config.json'}, at base_model_name_or_path."
        )


def task_code_differs(before: Inputs, now: Inputs) -> bool:
    """Whether code of a task or of a reward has changed, so that a completion may now earn another reward."""
    task_code = [name for name, entry in before.items() if entry.copy.startswith(TASK_COPIES)]
    return any(name in now and now[name].sha256 != before[name].sha256 for name in task_code)


def first_difference(before: Path, now: Path) -> str:
    """The first line in which two files differ, e.g. "line 3 was 'a = 1', now 'a = 2'"."""
    if not before.is_file():
        return "its hash is another"
    texts = (file.read_text(encoding="utf-8", errors="replace").splitlines() for file in (before, now))
    for number, (old, new) in enumerate(zip_longest(*texts, fillvalue=""), start=1):
        if old != new:
            pairs = enumerate(zip_longest(old, new))
            num_equal = next(place for place, (old_sign, new_sign) in pairs if old_sign != new_sign)
            # Of a long line, only the part that differs is shown, and 20 characters before it.
            begin = num_equal - 20 if num_equal > 40 else 0
            was, now_is = (f"...{line[begin:]}" if begin else line.strip() for line in (old, new))
            return f"line {number} was {was!r:.80}, now {now_is!r:.80}"
    return "its line ends"
