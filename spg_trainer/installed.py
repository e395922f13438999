"""The `envs` package, after making sure that Python found ours; the trainer imports it from here only.

Another project ships a package named `verifiers`, and a folder `envs/` beside a script would hide ours. This stands
here once more (as in `envs/installed.py`) because neither package may be trusted before it is checked.
"""

import importlib
from types import ModuleType

VERSION = "0.1.0"


def ours(name: str) -> ModuleType:
    """The package `name` of this distribution. Raises ImportError, in one line, if Python finds another or none."""
    fix = f'pip install --force-reinstall --no-deps "spg-trainer=={VERSION}"'
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        raise ImportError(
            f'spg_trainer needs the package "{name}", which Python does not find: {fix}'
        ) from None
    found = getattr(module, "__spg_trainer__", None)
    if found != VERSION:
        where = getattr(module, "__file__", None) or ", ".join(getattr(module, "__path__", ["?"]))
        why = (
            "it is not part of spg-trainer"
            if found is None
            else f"it is of spg-trainer {found}, not {VERSION}"
        )
        raise ImportError(
            f'spg_trainer needs its own package "{name}", but Python found {where} ({why}). If that is a folder of '
            f"yours, rename it or start elsewhere; if another distribution installed it: {fix}"
        )
    return module


verifiers = ours("verifiers")
envs = ours("envs")
