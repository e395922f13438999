"""What the package never calls or imports, read from its source."""

import ast
import sys
from importlib.util import find_spec
from pathlib import Path

# What one file may import and no other may.
ITS_OWN = {"read.py": {"pyarrow"}, "worker.py": {"subprocess"}, "intervals.py": {"flint"}}
FORBIDDEN = {"eval", "exec", "parse_expr", "compile", "__import__", "pickle", "marshal", "shelve"}
SYMPY = {"sympy", "math_verify", "latex2sympy2_extended"}
IN_THE_WORKER = {"cas.py"}


def used(tree: ast.AST) -> set[str]:
    """Names that are imported or called, `shell` if that keyword is passed."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            found |= {part for alias in node.names for part in alias.name.split(".")}
            found |= set((getattr(node, "module", "") or "").split("."))
        elif isinstance(node, ast.Call):
            found.add(ast.unparse(node.func))
            found |= {keyword.arg for keyword in node.keywords if keyword.arg == "shell"}
        elif isinstance(node, ast.Name) and node.id in ("eval", "exec"):
            found.add(node.id)
    return found


def files() -> list[Path]:
    return sorted(Path(find_spec("verifiers").origin).parent.rglob("*.py"))


def test_the_package_neither_calls_nor_imports_what_runs_text():
    found = {
        path.name: sorted(used(ast.parse(path.read_text())) & (FORBIDDEN | {"shell"})) for path in files()
    }
    assert not {name: names for name, names in found.items() if names}


def test_sympy_is_imported_in_the_cas_worker_only():
    for path in files():
        names = used(ast.parse(path.read_text()))
        if path.name not in IN_THE_WORKER:
            assert not names & (SYMPY | {"cas"}), path.name


def test_nothing_heavy_is_imported_and_no_regular_expression():
    for path in files():
        nodes = list(ast.walk(ast.parse(path.read_text())))
        names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
        names += [node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)]
        tops = {name.partition(".")[0] for name in names} - ITS_OWN.get(path.name, set())
        tops -= SYMPY if path.name in IN_THE_WORKER else set()
        assert not tops & {"re", "ctypes", "subprocess"}, (path, tops)
        assert tops <= {*sys.stdlib_module_names, "verifiers", "numpy", "numba"}, (path, tops)
