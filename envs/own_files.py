"""Imports a user's Python file as a module, with its present content. (A file of rows is read by `files/rows.py`.)

A file that has changed since it was loaded is loaded again, e.g. if a notebook's user edits it between two runs. During
a run (`each_file_once`), each file keeps the content that the run first read.
"""

import ast
import hashlib
import importlib.util
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from envs.errors import EnvError
from verifiers.files import nearest_file
from verifiers.user_code import exit_is_error


class Loaded(NamedTuple):
    """A file as it was when it was loaded."""

    sha256: str
    module: ModuleType
    helpers: dict[Path, str]
    """{file of a neighbour that this file imports: sha256 of that neighbour}."""
    unused: dict[Path, str]
    """{file: sha256} of modules that only an earlier content imported. Python still has them loaded as they were, and a
    later content may import them again."""


_loaded: dict[Path, Loaded] = {}  # {resolved path of a file: its newest module}
_read_in_this_run: set[Path] | None = None  # None = no run goes on


@contextmanager
def each_file_once() -> Iterator[None]:
    """Inside, a file is loaded at most once, so that an edit during a run waits for the next run.

    SystemExit becomes an error inside, since it comes from the user's code, and would end a run without a word.
    """
    global _read_in_this_run
    outer = _read_in_this_run
    _read_in_this_run = set() if outer is None else outer
    try:
        with exit_is_error():
            yield
    finally:
        _read_in_this_run = outer


def import_file(file: str | Path) -> ModuleType:
    """The module of a Python file; the file is run once for each content that it has had.

    If a script has imported the file by its name, and the file defines an algorithm or registers an environment, that
    module is returned.
    Raises EnvError if there is no file, or if a file beside it that it imports has changed; and any error of the file.
    """
    path = Path(file)
    if not path.is_file():
        near = nearest_file(Path(path))
        advice = f"Did you mean {near}?" if near else "Give the path of a Python file."
        raise EnvError(f"There is no file {path} (looked in {Path.cwd()}). {advice}")
    path = path.resolve()
    known = _loaded.get(path)
    if known is not None and sys.modules.get(known.module.__name__) is not known.module:
        known = None  # the user, or a reload, has removed it
    was_read_in_this_run = _read_in_this_run is not None and path in _read_in_this_run
    if known is not None and was_read_in_this_run:
        return known.module
    content = path.read_bytes()
    sha256 = hashlib.sha256(content).hexdigest()
    if known is None or known.sha256 != sha256:
        loaded_before = known.helpers | known.unused if known else {}
        helpers = still_imported(path, content, loaded_before)
        _refuse_changed_helpers(path, helpers)
        known = _loaded[path] = _run(path, sha256, content, helpers, loaded_before)
    else:
        _refuse_changed_helpers(path, known.helpers)
    if _read_in_this_run is not None:
        _read_in_this_run.add(path)
    return known.module


def note_registration(cls: type) -> None:
    """Notes that the file of a class is loaded, which is being registered or is an algorithm: `import_file` need not
    run it again.
    """
    module = sys.modules.get(cls.__module__)
    path = file_of(cls)
    if module is None or path is None:  # e.g. a notebook defines the class
        return
    if path in _loaded and _loaded[path].module is module:  # noted already
        return
    sha256 = _sha256_of(path)
    _loaded[path] = Loaded(sha256, module, _helpers(path, module, new=set()), unused={})


def file_of(own: Any) -> Path | None:
    """The resolved path of the Python file that defines a class or a function; None if a notebook defines it."""
    return _file_of_module(sys.modules.get(own.__module__))


def name_in_file(own: Any, *, is_reward: bool = False) -> str:
    """The name by which a user's function or class is found again: "/home/ada/mine.py:brevity".

    In a module of a package it is "package.module:NAME", except for a reward function, which is always named by file.
    Raises EnvError if no name leads to `own`, e.g. for a lambda or a function of a notebook; and as `refuse_patched`.
    """
    name = getattr(own, "__qualname__", repr(own))
    path = file_of(own)
    if hasattr(own, "__wrapped__"):  # a decorated function has the name of the function that it wraps
        module = sys.modules.get(own.__module__)
        named_values = vars(module).items() if module is not None else ()
        # Without a name for `own`, `name` becomes words for the error below: they are no identifier.
        names_of_own = (own_name for own_name, value in named_values if value is own)
        name = next(names_of_own, f"{name}, as decorated,")
    if path is None or own.__module__ == "__main__" or not name.isidentifier():
        example = name if name.isidentifier() else "NAME"
        raise EnvError(
            f"{name} is found again by no name, which a run needs to record it and to go on. Write it at the top of a "
            f'file of its own, and give that name: "./FILE.py:{example}".'
        )
    refuse_patched(own)
    if "." in own.__module__ and not is_reward:
        return f"{own.__module__}:{name}"
    return f"{path}:{name}"


def refuse_patched(own: Any) -> None:
    """Raises EnvError if the running script or notebook has put something of its own into a class, its bases or its
    module.

    own: a class or a function of an imported module. A run records the file, so a resumed run would not have the patch.
    Plain values are not looked at: many classes keep some, such as rows that they have read.
    """
    places = [(cls.__qualname__, cls) for cls in own.__mro__] if isinstance(own, type) else []
    if (module := sys.modules.get(own.__module__)) is not None and own.__module__ != "__main__":
        for place, patched in [*places, (module.__name__, module)]:
            for name, value in vars(patched).items():
                # The function of a property, and of a `functools.partial` or `cached_property`.
                wrapped = value.fget if isinstance(value, property) else getattr(value, "func", None)
                if "__main__" in (getattr(value, "__module__", None), getattr(wrapped, "__module__", None)):
                    raise EnvError(
                        f"{place}.{name} comes from this script or notebook: {value!r:.80}. A run takes {own.__name__} "
                        f"from the file of {module.__name__}, where a resumed run would not find that. Write it there."
                    )


def _file_of_module(module: Any) -> Path | None:
    file = getattr(module, "__file__", None)
    return Path(file).resolve() if file and file.endswith(".py") and os.path.isfile(file) else None


def _run(
    path: Path, sha256: str, content: bytes, helpers: dict[Path, str], loaded_before: dict[Path, str]
) -> Loaded:
    """Runs a file as a module of its own, and finds the modules that it imported from its folder.

    loaded_before: {file: sha256} of the modules that an earlier content has loaded; helpers: those among them that this
    content imports.
    """
    # The name depends on the path, so that files task.py in two folders are two modules; and on the content, to tell
    # what the file registers now from what it registered before.
    path_and_content = hashlib.sha256(str(path).encode() + content).hexdigest()[:8]
    name = f"{path.stem}_{path_and_content}"
    # Compiled from `content`: after an edit within the same second that keeps the size, Python would take the old
    # compiled file.
    loader = _Content(name, str(path), content)
    spec = importlib.util.spec_from_file_location(name, path, loader=loader)
    assert spec is not None, path  # with a loader, a spec is always made
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))  # so that the file can import its neighbours
    modules_before = set(sys.modules)
    try:
        with exit_is_error():
            loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        _loaded.pop(path, None)
        raise
    helpers = helpers | _helpers(path, module, set(sys.modules) - modules_before)
    unused = {file: hash_then for file, hash_then in loaded_before.items() if file not in helpers}
    return Loaded(sha256, module, helpers, unused)


class _Content(SourceFileLoader):
    """Loads a file from content that has been read; it neither reads nor writes a compiled file."""

    def __init__(self, name: str, path: str, content: bytes) -> None:
        super().__init__(name, path)
        self.content = content

    def get_code(self, fullname: str) -> Any:
        return self.source_to_code(self.content, self.path)


def _helpers(path: Path, module: ModuleType, new: set[str]) -> dict[Path, str]:
    """{file: sha256} of the modules in a file's folder that the file imported, or has names from.

    new: the names of all modules that Python has loaded since the file began to run, as far as they are known.
    """
    candidates: set[Any] = {getattr(value, "__module__", None) for value in vars(module).values()}
    candidates |= {value.__name__ for value in vars(module).values() if isinstance(value, ModuleType)}
    names = {name for name in candidates | new if isinstance(name, str)} - {module.__name__, "__main__"}
    files = {_file_of_module(sys.modules.get(name)) for name in names}
    return {
        file: _sha256_of(file)
        for file in files
        if file is not None and file != path and file.is_relative_to(path.parent)
    }


def _sha256_of(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def still_imported(path: Path, content: bytes, loaded_before: dict[Path, str]) -> dict[Path, str]:
    """The modules in `loaded_before` that a new content of a file imports, directly or through each other.

    loaded_before and the result are {file: sha256}. If the content, or one of these modules, imports by a computed name
    (`importlib`), all of `loaded_before` is returned. The imports are read from the text, since Python does not run a
    loaded module again.
    """
    found: dict[Path, str] = {}
    texts = [content]
    while texts and len(found) < len(loaded_before):
        names = _imported_names(texts.pop(), path)
        if names & {"importlib", "__import__"}:
            return loaded_before
        for file, sha256 in loaded_before.items():
            name = file.parent.name if file.stem == "__init__" else file.stem
            if name in names and file not in found:
                found[file] = sha256
                # A file that has changed is refused later, by _refuse_changed_helpers.
                if file.is_file() and _sha256_of(file) == sha256:
                    texts.append(file.read_bytes())
    return found


@cache  # a process that starts and resumes several runs asks for the same texts
def _imported_names(text: bytes, path: Path) -> set[str]:
    """All parts of all names in the import statements of a text, and `__import__` if the text calls it; read only."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(text, str(path))):
        if isinstance(node, ast.Import | ast.ImportFrom):
            dotted = [alias.name for alias in node.names] + [getattr(node, "module", None) or ""]
            names |= {part for name in dotted for part in name.split(".")}
        elif isinstance(node, ast.Name) and node.id == "__import__":
            names.add(node.id)
    return names


def _refuse_changed_helpers(path: Path, helpers: dict[Path, str]) -> None:
    """Raises EnvError if a module that a file imports from its folder has changed since Python loaded it."""
    for helper, sha256 in helpers.items():
        if helper.is_file() and _sha256_of(helper) != sha256:
            raise EnvError(
                f"{helper}, which {path.name} imports, has changed, and this Python still runs what it held before. "
                "Restart Python (in a notebook, the kernel)."
            )
