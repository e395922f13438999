"""Imports the packages `verifiers` and `envs`, after a check that Python found ours.

The trainer imports them only from here. The check is needed because another project has a package `verifiers`, and a
folder `envs/` beside a script would hide ours.
"""

from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

from spg_trainer import __version__ as VERSION

if TYPE_CHECKING:  # annotations such as "envs.TextEnv"
    import envs as envs
    import verifiers as verifiers

_INSTALL_AGAIN = "install spg-trainer again, in its checkout with: pip install -e ."


def own_package(name: str) -> ModuleType:
    """The package `name` of this distribution. Raises ImportError if Python finds another of that name, or none."""
    try:
        package = import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:  # it was found, but a package that it imports was not
            raise
        raise ImportError(
            f'spg_trainer needs the package "{name}", which Python does not find: {_INSTALL_AGAIN}'
        ) from None
    version = getattr(package, "__spg_trainer__", None)
    if version != VERSION:
        where = getattr(package, "__file__", None) or ", ".join(getattr(package, "__path__", "?"))
        why = f"it is of spg-trainer {version}, not {VERSION}" if version else "it is not part of spg-trainer"
        raise ImportError(
            f'spg_trainer needs its own package "{name}", but Python found {where} ({why}). If that is a folder of '
            f"yours, rename it or start elsewhere. If another distribution installed it: pip uninstall {name}, then "
            f"{_INSTALL_AGAIN}"
        )
    return package


def __getattr__(name: str) -> ModuleType:
    """`verifiers` or `envs`, loaded on first use: together they take 0.4 s, and the message for a refused
    flag needs `verifiers` alone, for its "did you mean".
    """
    if name not in ("verifiers", "envs"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()["verifiers"] = own_package("verifiers")  # checked first, because `envs` imports it
    if name == "envs":
        globals()["envs"] = own_package("envs")
    return globals()[name]


def errors() -> tuple[type[Exception], ...]:
    """The base errors of the packages that have been loaded; others cannot have raised any."""
    known = (("verifiers", "VerifierError"), ("envs", "EnvError"))
    return tuple(getattr(globals()[package], error) for package, error in known if package in globals())
