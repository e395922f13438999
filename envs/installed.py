"""Is the package that Python found really ours? Another project ships a package of the same name."""

import importlib


def require(name: str, version: str, asker: str) -> None:
    """Raises ImportError, in one line, unless `import name` finds the part of spg-trainer of this version.

    name: an import name ("verifiers"); version: what its `__spg_trainer__` must be; asker: who needs it.
    """
    fix = f'pip install --force-reinstall --no-deps "spg-trainer=={version}"'
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        raise ImportError(f'{asker} needs the package "{name}", which Python does not find: {fix}') from None
    found = getattr(module, "__spg_trainer__", None)
    if found == version:
        return
    where = getattr(module, "__file__", None) or ", ".join(getattr(module, "__path__", ["?"]))
    why = "it is not part of spg-trainer" if found is None else f"it is of spg-trainer {found}, not {version}"
    raise ImportError(
        f'{asker} needs its own package "{name}", but Python found {where} ({why}). If that is a folder of '
        f"yours, rename it or start elsewhere; if another distribution installed it: {fix}"
    )
