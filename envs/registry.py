"""Registers environments under names, and finds the class for every way of writing a name."""

import hashlib
import importlib
import importlib.util
import inspect
import re
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

from envs.combining import mixture
from envs.combining.divided import Divided
from envs.combining.infill import Infill
from envs.combining.own_rewards import Rewarded
from envs.combining.several_tries import Tries
from envs.combining.system_prompt import SystemPrompt
from envs.combining.wrapper import innermost
from envs.core import TextEnv, as_env
from envs.errors import EnvError, check_choice
from envs.files import rows
from envs.own_files import file_of, import_file, note_registration, refuse_patched
from envs.scoring import LARGEST, SCORING_METHODS, decide_scoring
from envs.task import Task, defines
from envs.vector import TextVectorEnv
from verifiers.errors import did_you_mean
from verifiers.files import nearest_file
from verifiers.user_code import exit_is_error

# An id, "spg/Sudoku-v0", or a short name, "sudoku", which lacks the namespace or the version.
_ID = re.compile(r"(?:(?P<space>[\w-]+)/)?(?P<name>[\w.-]+?)(?:-v(?P<version>\d+))?")
ALIASES = {"math": "math500"}
ADAPTERS = {
    "gymnasium": "envs.adapters.gymnasium_games",
    "openenv": "envs.adapters.openenv",
    "reasoning_gym": "envs.adapters.reasoning_gym",
    "verifiers": "envs.adapters.verifiers_package",
}
"""{part of a name before the colon: the module whose `class_of` makes the class from the part behind it}."""
AROUND: dict[str, tuple[Callable[[Task, Any], Task], Any]] = {
    "reward": (Rewarded, ""),
    "infill": (Infill, False),
    "tries": (Tries, 1),
    "split": (Divided, None),
    "system_prompt": (SystemPrompt, None),  # outermost, since a problem's split may be a hash of its prompt
}
"""{argument that every task takes: (the wrapper that is put around the task, the value that means no wrapper)}, from
the inside out. If a class's own `__init__` takes such an argument, the class gets it instead."""
_classes: dict[str, type[Task]] = {}  # {id: class} of all that is registered
_files: dict[str, Path | None] = {}  # {id: the file in which that class was written}


def _create(
    cls: type[Task],
    id: str,
    *,
    render_mode: str | None = None,
    reward_weights: Mapping[str, float] | None = None,
    **arguments: Any,
) -> TextEnv:
    """Makes an environment of `cls`, and sets `render_mode` and `reward_weights` on it.

    An argument of `AROUND` that the class's `__init__` does not take is for the wrapper around the task.
    """
    # Messages show the name of a file of rows, because its id has a hash of its path.
    shown_id = Path(cls.file).name if id.startswith("rows_") else id
    check_choice(shown_id, "render_mode", render_mode, [None, "ansi"])
    # A numpy scalar, e.g. np.int64(2), becomes a number of Python, since arguments are compared by type, too.
    arguments = {name: v.item() if isinstance(v, np.generic) else v for name, v in arguments.items()}
    signature = inspect.signature(cls)
    parameters = signature.parameters
    class_arguments = {
        name: value for name, value in arguments.items() if name in parameters or name not in AROUND
    }
    _check_arguments(signature, shown_id, class_arguments)
    try:
        with exit_is_error():
            task = cls(**class_arguments)
    except (ValueError, TypeError) as error:  # as an author, or Python, refuses an argument
        frames = traceback.extract_tb(error.__traceback__)
        own = [
            frame for frame in frames if frame.filename == str(file_of(cls))
        ]  # and not json's, for example
        where = f"{(own or frames)[-1].filename}, line {(own or frames)[-1].lineno}"
        raise EnvError(f"{shown_id}: opening it raised {type(error).__name__}: {error} ({where}).") from error
    task._env_id = id
    # `spec_name` shows all arguments that are not the default, also those of wrappers around the task.
    defaults = {name: default for name, (_, default) in AROUND.items()}
    defaults |= {name: parameter.default for name, parameter in parameters.items()}
    task._env_arguments = {
        name: _shown(value)
        for name, value in arguments.items()
        if name not in defaults or value != defaults[name]
    }
    combined, functions = task, []
    for name, (put_around, default) in AROUND.items():
        if name in class_arguments or name not in arguments:
            continue  # the class itself has got the argument, or it is not given
        value = arguments[name]
        # The type is compared, too, so that the wrapper can refuse tries=True, although True == 1.
        if value != default or type(value) is not type(default):
            combined = put_around(combined, value)
            functions += [combined.own] if isinstance(combined, Rewarded) else []
    weights = _merged_weights(shown_id, combined.reward_weights, reward_weights)
    if task.parts:  # each task of a mixture keeps its own weights, apart from those that are given
        changed = {name: weights[name] for name in reward_weights or {}}
        for part in [*task.parts.values(), *functions]:
            part.reward_weights = {name: changed.get(name, own) for name, own in part.reward_weights.items()}
    else:
        combined.reward_weights = weights
    env = as_env(combined)
    env.render_mode = render_mode
    return env


def _shown(argument: Any) -> Any:
    """An argument for `spec_name`: a function by its name, several functions as `one+two`."""
    if isinstance(argument, list | tuple) and any(map(inspect.isroutine, argument)):
        return "+".join(str(_shown(one)) for one in argument)
    return argument.__name__ if inspect.isroutine(argument) else argument


def _create_vector(cls: type[Task], id: str, *, num_envs: int = 1, **arguments: Any) -> TextVectorEnv:
    return TextVectorEnv(_create(cls, id, **arguments), num_envs)


def register(id: str, cls: type[Task]) -> None:
    """Registers an environment under `id`, e.g. register("my/Countdown-v0", Countdown).

    id: "namespace/Name-vN"; raise N whenever prompts, splits or scores change. A class that is defined again, in a
    notebook or in a file that is loaded again, replaces its older self. Raises EnvError if the id is malformed or taken
    by another class, or if the class lacks a method.
    """
    match = _ID.fullmatch(id) if isinstance(id, str) else None
    if match is None or match["space"] is None or match["version"] is None:
        raise EnvError(f'"{id}" is not an environment id; it must read namespace/Name-vN, e.g. my/Task-v0.')
    _check_class(cls, id)
    decide_scoring(cls, id)
    taken = _classes.get(id)
    if taken is not None and not _is_again(id, taken, cls):
        new = _qualified_name(cls)
        raise EnvError(f'"{id}" is taken by {_qualified_name(taken)}; {new} needs another name or version.')
    if taken is None and id in gymnasium.registry:
        raise EnvError(f'"{id}" is taken by an environment of Gymnasium; choose another namespace or name.')
    gymnasium.registry.pop(id, None)  # a class that is defined again replaces its older self
    gymnasium.register(
        id,
        entry_point=partial(_create, cls, id),
        vector_entry_point=partial(_create_vector, cls, id),
        order_enforce=False,  # our own error for a `step` before `reset` says more
    )
    _classes[id], _files[id] = cls, file_of(cls)
    if not cls.__module__.startswith("envs."):
        note_registration(cls)


def make(name: str | type | Sequence[str | type], **arguments: Any) -> TextEnv:
    """Opens an environment, e.g. make("sudoku", split="test", reward_weights={"cells": 0.2}).

    name: whatever `resolve` takes, also a registered class. arguments: those of the environment's constructor, and

    - `split`: "train", "validation" or "test"; without it, a class that takes no `split` has the problems of all three
    - `reward_weights`: {component: weight}, merged over the class's
    - `render_mode`: None or "ansi"
    - `system_prompt`: a system message before each prompt, or @FILE
    - `reward`: reward functions of your own, "./mine.py:brevity", which are paid beside the task's own components
    - `tries`: the most answers that the model may give until one is right; for environments of one turn
    - `infill`: whether the model fills in the holes of a problem's `completion_template`; for environments with one

    Raises EnvError for an unknown name, argument or component.
    """
    return gymnasium.make(resolve(name), disable_env_checker=True, **arguments).unwrapped


def in_split(env: TextEnv, split: str) -> TextEnv:
    """One split of an environment that has the problems of all splits, because `make` opened it without a split.

    Any other environment is returned as it is: one that has a split already, one whose class divides the problems
    itself, or one that was opened by calling its class.
    """
    task = innermost(env)
    # If the user called the class, they have the problems that they want.
    is_from_make = task._env_id is not None
    if is_from_make and not hasattr(env, "split") and not _takes_split(type(task)):
        return as_env(Divided(env, split))
    return env


def _takes_split(cls: type[Task]) -> bool:
    """Whether a class divides its problems itself: its `__init__` takes `split`."""
    return "split" in inspect.signature(cls).parameters


def make_vec(name: str | Sequence[str], num_envs: int, **arguments: Any) -> TextVectorEnv:
    """Opens the batched form: n prompts out, n completions in, judged in one call. Arguments: see `make`."""
    return gymnasium.make_vec(resolve(name), num_envs, **arguments)


def resolve(name: str | type | Sequence[str | type]) -> str:
    """The full id behind a name.

    Raises EnvError with the nearest known names. name: one of these forms, or several of them, as a list or as
    "countdown + gsm8k":

    - a full id, "spg/Sudoku-v0", or a short name in any case, "sudoku", for its newest version
    - "package.module:ID", or "./file.py:ID"; also "./file.py", if it registers one environment
    - the name of an entry point of the group `spg.envs`
    - "reasoning_gym:NAME", "gymnasium:NAME", "verifiers:NAME", "openenv:ADDRESS"
    - a file of rows, "rows.jsonl", with `verifier=`
    """
    name = name_as_text(name)
    if not isinstance(name, str):
        raise EnvError(
            f'{name!r:.80} is no name of an environment. Give one, such as "sudoku", or a list of them.'
        )
    if len(names := mixture.tasks_of(name)) > 1:
        for task_name in names.values():
            resolve(task_name)  # an unknown task raises here, before the mixture is opened
        hash_of_name = hashlib.sha256(name.encode()).hexdigest()[:8]
        cls = mixture.class_of(name, open_task=make)
        return _registered(f"mixture_{hash_of_name}/{'_'.join(names)}-v0", cls)
    where, _, id = name.rpartition(":")  # "./file.py:ID" -> "./file.py", "ID"; "sudoku" -> "", "sudoku"
    if id.endswith(".py"):  # "./file.py" without an ID
        where, id = name, ""
    # The path of a file may have "=" and ":", too, as in lr=1e-4/rows.jsonl.
    if re.search(r"(^|:)\w+=", name) and not Path(name).is_file() and not where.endswith(".py"):
        raise EnvError(
            f'"{id}" is an argument, not the name of an environment. Give it as --env-args {id.replace(",", " ")}.'
        )
    prefix, _, rest = name.partition(":")
    if rest and prefix in ADAPTERS:
        adapter = importlib.import_module(ADAPTERS[prefix])
        return _registered(f"{prefix}/{_as_id(rest)}-v0", adapter.class_of(rest))
    if rows.names_file(name):
        return _registered(rows.id_of(name), rows.class_of(name))
    if where:
        found = _find_in_module(where, id, name)
    else:
        found = _find(ALIASES.get(id.lower(), id), _classes) or _from_entry_points(id)
    if found is None:
        raise _unknown_name(name, id)
    refuse_patched(_classes[found])
    return found


def _unknown_name(name: str, id: str) -> EnvError:
    """The error for a name that leads to no environment. id: the name without its module or file."""
    if Path(name).is_file():
        return EnvError(
            f"{name}: files of rows end in {', '.join(rows.FORMATS)}, tasks in .py. Rename or convert it."
        )
    named = [known_id for known_id in _classes if not known_id.startswith(("rows_", "mixture_"))]
    short_names = sorted(set(map(short_name, named)))
    hint = did_you_mean(id, [*short_names, *_classes])
    if len(several := re.split(r"[,\s]+", id.strip())) > 1:
        hint = f"Several are divided by spaces: {' '.join(several)}. In Python, they are a list: {several}. "
    near = nearest_file(Path(name)) if not hint and "." in Path(name).name else None
    if near and near.name.endswith((*rows.FORMATS, ".py")):
        hint = f"Did you mean {near}? "
    hub_hint = ""
    if re.fullmatch(r"[\w.-]+/[\w.-]+", name) and not re.search(r"-v\d+$", name):
        folder = name.rpartition("/")[2]
        hub_hint = (
            f" If it is a data set of the hub, download it (hf download {name} --repo-type dataset --local-dir "
            f"{folder}), and pass one of its files with the verifier that judges it: `--env {folder}/FILE "
            "--verifier NAME`."
        )
    return EnvError(
        f'No environment "{name}". {hint}Known: {", ".join(short_names)}. '
        "Your own is named by its module, my_package.my_module:my/MyTask-v0, or by its file, "
        f"./my_task.py:my/MyTask-v0.{hub_hint}"
    )


def name_as_text(name: str | Path | type | Sequence[str | Path | type]) -> str:
    """A name that `make` takes, as one text: ["countdown", MyTask] -> "countdown + ./my_task.py:my/Task-v0".

    What is no such name is returned as it is.
    """
    several = name if isinstance(name, list | tuple) else [name]
    texts = [name_of(one) if isinstance(one, type) else one for one in several]
    texts = [str(text) if isinstance(text, Path) else text for text in texts]
    if len(texts) == 1:
        return texts[0]
    return mixture.TOGETHER.join(texts) if all(isinstance(text, str) for text in texts) else name


def name_with_files(name: str) -> str:
    """A name that opens the same environments in a process that has not registered them.

    The id of a class that was registered here becomes the name that `name_of` gives the class; in a mixture, each id
    does. Any other name stays as it is.
    """
    if not isinstance(name, str):
        return name
    parts = name.split(mixture.TOGETHER)
    return mixture.TOGETHER.join(name_of(_classes[part]) if part in _classes else part for part in parts)


def is_of_script(cls: type[Task]) -> bool:
    """Whether a class stands in the script that runs, where no other process finds it."""
    return cls.__module__ == "__main__"


def _registered(id: str, cls: type[Task]) -> str:
    """Registers the class under the id, and returns the id."""
    register(id, cls)
    return id


def _as_id(name: str) -> str:
    """A name from another package, with "_" for each character that an id may not have."""
    return re.sub(r"[^-.a-zA-Z0-9_]", "_", name)


def _find_in_module(where: str, id: str, name: str) -> str:
    """The full id of an environment that a module or file registers; EnvError if it registers no such environment.

    where: the module or file. id: which of its environments; "" = its only one. name: the user's text, for messages.
    """
    module = _import(where, name)
    # A package "a" has the classes of "a" and of its modules such as "a.b", but not of a module "ab"; the added dots
    # tell these apart.
    inside = [known_id for known_id, cls in _classes.items() if f"{cls.__module__}.".startswith(f"{module}.")]
    if not inside:
        wanted = 'end it with envs.register("my/Task-v0", YourClass)'
        raise EnvError(f"{where} registers no environment; {wanted}.")
    if id:
        if found := _find(id, inside):
            return found
        near = did_you_mean(f"{where}:{id}", [f"{where}:{known_id}" for known_id in inside])
        raise EnvError(f'{where} registers no "{id}". {near}It registers {", ".join(inside)}.')
    if len(inside) > 1:
        raise EnvError(f"{where}: say which: {', '.join(f'{where}:{known_id}' for known_id in inside)}")
    return inside[0]


def short_name(id: str) -> str:
    """The short name of an id: "spg/Sudoku-v0" -> "sudoku"."""
    match = _ID.fullmatch(id)
    return match["name"].lower() if match else id


def name_of(cls: type[Task]) -> str:
    """The name under which `resolve` finds a registered class: "/home/ada/my_tasks.py:my/Task-v0".

    For a class of the running script, or of this package, the name is only the id, "my/Task-v0", since its module need
    not be imported. For a class of another package, it begins with the module. If the class's file has been loaded
    again, the name is that of the newer class. Raises EnvError for a class that has not been registered.
    """
    ids = [known_id for known_id, known_class in _classes.items() if known_class is cls]
    ids += [
        known_id
        for known_id, known_class in _classes.items()
        if known_class.__qualname__ == cls.__qualname__ and _is_again(known_id, known_class, cls)
    ]
    id = next(iter(ids), None)
    if id is None:
        wanted = f'Call envs.register("my/{cls.__name__}-v0", {cls.__name__}) first.'
        raise EnvError(f"{cls.__name__} is not registered as an environment. {wanted}")
    is_imported_already = is_of_script(cls) or cls.__module__.startswith("envs.")
    if is_imported_already:
        return id
    # A file is named by its path if possible, so that its present content is run, and a training run keeps a copy of
    # it. But a path with " + " in it would read as the names of two tasks.
    file = file_of(cls)
    is_named_by_module = file is None or "." in cls.__module__ or mixture.TOGETHER in str(file)
    return f"{cls.__module__ if is_named_by_module else file}:{id}"


def known() -> dict[str, type[Task]]:
    """{id: class} of all environments registered so far, in the order of their registration."""
    return dict(_classes)


def offline_arguments(id: str) -> dict[str, str]:
    """{"source": "generated"} for an environment that would otherwise load its problems from the hub, else {}."""
    source = inspect.signature(_classes[id]).parameters.get("source")
    return {"source": "generated"} if source is not None and source.default == "hub" else {}


def _find(name: str, among: Iterable[str]) -> str | None:
    """The id that `name` means, in capital or small letters; None if no id fits.

    Without a version, the newest one is meant. Without a namespace, the namespace "spg" is meant or, if no id in it
    fits, the only namespace with an id that fits. Raises EnvError if several namespaces have one.
    """
    wanted = _ID.fullmatch(name.lower())
    if wanted is None:
        return None
    matches: list[tuple[str, int, str]] = []  # (namespace, version, id)
    for id in among:
        space, short, version = _ID.fullmatch(id).groups()
        # A part that `name` leaves out is None and fits any.
        fits_space = wanted["space"] in (None, space.lower())
        fits_version = wanted["version"] in (None, version)
        if wanted["name"] == short.lower() and fits_space and fits_version:
            matches.append((space, int(version), id))
    ours = [match for match in matches if match[0] == "spg"]
    if not ours and len({space for space, _, _ in matches}) > 1:
        full = ", ".join(sorted(id for _, _, id in matches))
        raise EnvError(f'"{name}" could be any of {full}. Give the full id.')
    if not matches:
        return None
    _, _, newest = max(ours or matches)  # all have one namespace, so the version decides
    return newest


def _from_entry_points(name: str) -> str | None:
    """The id of the class that another distribution offers as `name` in the entry-point group `spg.envs`, or None."""
    for point in entry_points(group="spg.envs"):
        if point.name.lower() == name.lower():
            try:
                with exit_is_error():
                    offered = point.load()
            except Exception as error:
                raise EnvError(
                    f'The entry point "{name}" ({point.value}) cannot be loaded: {error}'
                ) from error
            for id, cls in _classes.items():
                if cls is offered:
                    return id
            raise EnvError(
                f'The entry point "{name}" offers {point.value}, which its module does not register.'
            )
    return None


def _import(where: str, name: str) -> str:
    """Imports a module ("a.b") or a file ("./a.py"), which registers its environments; returns its name."""
    if "/" in where and not where.endswith(".py"):
        raise EnvError(f'"{name}": {where} is no name of a module, and a file with a task ends in .py.')
    try:
        with exit_is_error():
            module = import_file(where) if where.endswith(".py") else importlib.import_module(where)
        return module.__name__
    except EnvError:
        raise
    except Exception as error:
        hint = "" if where.endswith(".py") else f"; for a file write ./{where.replace('.', '/')}.py:ID"
        raise EnvError(f'"{name}": importing {where} raised {type(error).__name__}: {error}{hint}') from error


def _qualified_name(cls: type) -> str:
    """Module and name of a class; they stay the same if a notebook defines the class again."""
    return f"{cls.__module__}.{cls.__qualname__}"


def _is_again(id: str, taken: type, cls: type) -> bool:
    """Whether `taken`, the class registered under `id`, and `cls` are one class, of which one has been defined again.

    They are if one module defines both under the same name, or if one file has been loaded as two modules.
    """
    if taken.__module__ == cls.__module__:
        return taken.__qualname__ == cls.__qualname__
    return file_of(cls) is not None and _files[id] == file_of(cls)


def _check_arguments(signature: inspect.Signature, name: str, arguments: Mapping[str, Any]) -> None:
    """Raises EnvError if `__init__` does not take one of the arguments, or needs one that is not given."""
    try:
        signature.bind(**arguments)
    except TypeError as error:
        takes = [*dict.fromkeys([*signature.parameters, "reward_weights", "render_mode", *AROUND])]
        why = f"{error}."
        if unknown := [argument for argument in arguments if argument not in takes]:
            why = f'it takes no argument "{unknown[0]}". {did_you_mean(unknown[0], takes)}'.rstrip()
        raise EnvError(f"{name}: {why} It takes: {', '.join(takes)}.") from error


def _merged_weights(
    name: str, weights: Mapping[str, float], changes: Mapping[str, float] | None
) -> dict[str, float]:
    """`weights` updated by `changes`; raises EnvError for an unknown component or a bad weight."""
    if "correct" not in weights:
        raise EnvError(f'{name}: reward_weights has {sorted(weights)}, but "correct" is required.')
    for component in changes or {}:
        check_choice(name, "reward_weights", component, weights)
    merged = {**weights, **(changes or {})}
    for component, weight in merged.items():
        is_number = isinstance(weight, int | float | np.integer | np.floating)
        if not is_number or not abs(weight) <= LARGEST:
            raise EnvError(
                f"{name}: the weight of {component} is {weight!r:.80}; it must be a finite number, not above "
                f"{LARGEST:g} in size."
            )
    return {component: float(weight) for component, weight in merged.items()}


def _check_class(cls: Any, id: str) -> None:
    """Raises EnvError unless `cls` is a TextEnv class with all that an environment needs."""
    if not (inspect.isclass(cls) and issubclass(cls, Task)):
        raise EnvError(f"{id}: {cls!r:.80} is not a class derived from envs.TextEnv.")
    missing = [name for name in ("__len__", "problem") if getattr(cls, name) is getattr(Task, name)]
    # One of score, score_batch and score_turns is enough.
    if not any(defines(cls, method) for method in SCORING_METHODS):
        missing.append("score")
    if missing:
        raise EnvError(f"{id}: {cls.__name__} lacks {', '.join(missing)}; an environment must define it.")
    # If `reward_weights` is a property, only an instance has a value, which `make` checks.
    if not isinstance(cls.reward_weights, property):
        _merged_weights(id, cls.reward_weights, changes=None)
