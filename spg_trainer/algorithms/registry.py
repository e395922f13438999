"""Algorithms by name, and their hyper-parameters from the text that people type."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import math
import sys
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import fields
from pathlib import Path

from spg_trainer.algorithms.base import Algorithm
from spg_trainer.errors import ConfigError, did_you_mean

ALGORITHMS = {
    "spg": "spg_trainer.algorithms.spg:SPG",
    "spg_repro": "spg_trainer.algorithms.spg_repro:SPGRepro",
    "diffu_grpo": "spg_trainer.algorithms.diffu_grpo:DiffuGRPO",
    "diffu_grpo_repro": "spg_trainer.algorithms.diffu_grpo:DiffuGRPORepro",
    "wd1": "spg_trainer.algorithms.wd1:WD1",
    "wd1_repro": "spg_trainer.algorithms.wd1:WD1Repro",
    "unigrpo": "spg_trainer.algorithms.unigrpo:UniGRPO",
    "unigrpo_repro": "spg_trainer.algorithms.unigrpo_repro:UniGRPORepro",
    "gdpo": "spg_trainer.algorithms.gdpo:GDPO",
    "gdpo_repro": "spg_trainer.algorithms.gdpo:GDPORepro",
    "bgpo": "spg_trainer.algorithms.bgpo:BGPO",
    "espo": "spg_trainer.algorithms.espo:ESPO",
    "espo_repro": "spg_trainer.algorithms.espo:ESPORepro",
    "justgrpo": "spg_trainer.algorithms.justgrpo:JustGRPO",
    "justgrpo_repro": "spg_trainer.algorithms.justgrpo:JustGRPORepro",
    "vrpo": "spg_trainer.algorithms.vrpo:VRPO",
}
"""Name -> where its class is; imported only when asked for, so that names and help cost nothing."""


def get(name: str) -> type[Algorithm]:
    """The class of an algorithm: a name of `ALGORITHMS`, `./file.py:MyClass`, or `package.module:MyClass`.

    Raises ConfigError with the nearest name, or why the class cannot be loaded.
    """
    where, _, class_name = ALGORITHMS.get(name, name).rpartition(":")
    if not where:
        raise ConfigError(
            f"--algorithm {name}: no such algorithm. {_known(name, ALGORITHMS)} To use your own: --algorithm "
            "./my_algorithm.py:MyClass or --algorithm my_package.my_module:MyClass."
        )
    module = _import(where, name)
    cls = getattr(module, class_name, None)
    if not _is_algorithm(cls):
        own = [key for key, value in vars(module).items() if _is_algorithm(value) and value is not Algorithm]
        raise ConfigError(
            f"--algorithm {name}: {class_name} is no class derived from spg_trainer.algorithms.Algorithm. "
            f"{_known(class_name, own)}"
        )
    if inspect.isabstract(cls):
        raise ConfigError(f"--algorithm {name}: {class_name} lacks {', '.join(cls.__abstractmethods__)}.")
    return cls


def build(name: str, args: Mapping[str, object] | None = None) -> Algorithm:
    """An algorithm from its name and the values of `--algorithm-args`, text or typed.

    Raises ConfigError for an unknown name, key or value, naming what would be right.
    """
    cls = get(name)
    hints = typing.get_type_hints(cls)
    known = [f.name for f in fields(cls)]
    values = {}
    for key, value in (args or {}).items():
        if key not in known:
            raise ConfigError(
                f"--algorithm-args {key}={value}: {name} has no such setting. {_known(key, known)}"
            )
        values[key] = _convert(key, value, hints[key])
    return cls(**values)


def _import(where: str, name: str) -> types.ModuleType:
    """A module by its name ("a.b") or its file ("./a.py")."""
    path = Path(where)
    is_file = path.suffix == ".py"
    if is_file and not path.is_file():
        raise ConfigError(f"--algorithm {name}: there is no file {path} (looked in {Path.cwd()}).")
    try:
        return _import_file(path.resolve()) if is_file else importlib.import_module(where)
    except Exception as error:
        hint = "" if is_file else f"; for a file write ./{where.replace('.', '/')}.py:MyClass"
        raise ConfigError(
            f"--algorithm {name}: importing {where} raised {type(error).__name__}: {error}{hint}"
        ) from error


def _import_file(path: Path) -> types.ModuleType:
    # The name depends on the path, so that two files of one name in two folders do not meet.
    name = f"{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))  # so that the file can import its neighbours
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _is_algorithm(value: object) -> bool:
    return inspect.isclass(value) and issubclass(value, Algorithm)


def _convert(key: str, value: object, kind: object) -> object:
    """`value` as the field's type: a word, which the algorithm checks, a bool, a finite int or float, none, a tuple."""
    origin, kinds = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):  # `... | None`
        empty = value is None or str(value).lower() == "none"
        return None if empty else _convert(key, value, kinds[0])
    if origin is tuple:
        items = value.split(",") if isinstance(value, str) else value
        items = items if isinstance(items, list | tuple) else [items]
        return tuple(_convert(key, item, kinds[0]) for item in items)
    if kind is bool:
        words = {"true": True, "false": False}
        if str(value).lower() not in words:
            raise ConfigError(f"--algorithm-args {key}={value}: {key} is true or false, e.g. {key}=true")
        return words[str(value).lower()]
    if kind not in (int, float):
        return value
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number) or (kind is int and number != int(number)):
        what, example = ("a whole number", 2) if kind is int else ("a number", 0.5)
        raise ConfigError(f"--algorithm-args {key}={value}: {key} is {what}, e.g. {key}={example}")
    return kind(number)


def _known(word: str, words: Iterable[str]) -> str:
    """`Did you mean 'x'? Known: x, y, z.`"""
    words = list(words)
    return f"{did_you_mean(word, words)}Known: {', '.join(words) or 'none'}."
