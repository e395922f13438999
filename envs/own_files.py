"""A Python file of the user's as a module."""

import hashlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from envs.errors import EnvError


def import_file(file: str | Path) -> ModuleType:
    """The module of a Python file, which runs once however often it is imported.

    Raises EnvError where there is no file, and whatever the file itself raises.
    """
    path = Path(file)
    if not path.is_file():
        raise EnvError(f"There is no file {path} (looked in {Path.cwd()}). Give the path of a Python file.")
    path = path.resolve()
    # The module's name depends on the path, so that files task.py in two folders are two modules.
    module_name = f"{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    if module_name in sys.modules:
        return sys.modules[module_name]
    spec = importlib.util.spec_from_file_location(module_name, path)
    assert spec is not None and spec.loader is not None, path  # a .py file always has a loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))  # so that the file can import its neighbours
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[module_name]
        raise
    return module
