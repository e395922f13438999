"""Where a worker process begins: `python _worker_main.py MODULE PATHS` imports MODULE and calls its `main`.

This package is loaded from the folder of this file, whatever else is named `verifiers` on the path; what the
starting process could import (PATHS, a JSON list) can be imported here too.
"""

import importlib
import importlib.util
import json
import sys
from pathlib import Path


def start(module: str, paths: list[str]) -> None:
    """Import `module` beside the package that this file belongs to, and run it."""
    folder = Path(__file__).resolve().parent
    spec = importlib.util.spec_from_file_location(
        "verifiers", folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    package = importlib.util.module_from_spec(spec)
    sys.modules["verifiers"] = package
    sys.path.extend(path for path in paths if path and path not in sys.path)
    spec.loader.exec_module(package)
    importlib.import_module(module).main()


if __name__ == "__main__":
    start(sys.argv[1], json.loads(sys.argv[2]))
