"""The arrows between the packages and what no file may do, read from the sources by `ast`."""

import ast
import functools
import re
import sys
import tomllib
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from importlib.util import find_spec
from pathlib import Path

import pytest

from spg_trainer.algorithms import ALGORITHMS

PACKAGES = ("verifiers", "envs", "spg_trainer")
LAZY_IMPORTS = ("import_module", "__import__")


@functools.cache
def sources(package: str) -> dict[str, ast.Module]:
    """Module name -> syntax tree of every file of a package, found as Python finds it."""
    root = Path(find_spec(package).origin).parent
    files = {path: path.relative_to(root.parent).with_suffix("") for path in sorted(root.rglob("*.py"))}
    return {
        ".".join(name.parts).removesuffix(".__init__"): ast.parse(path.read_text(encoding="utf-8"))
        for path, name in files.items()
    }


def imports(tree: ast.AST) -> Iterator[str]:
    """Every module that is imported anywhere, lazily too; a relative import as it is written."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and called(node).rpartition(".")[2] in LAZY_IMPORTS:
            yield from (a.value for a in node.args[:1] if isinstance(a, ast.Constant))


def called(node: ast.Call) -> str:
    """The name of what is called, e.g. `torch.manual_seed`."""
    return ast.unparse(node.func)


def is_within(name: str, modules: set[str]) -> bool:
    return any(name == module or name.startswith(f"{module}.") for module in modules)


def at_run_time(tree: ast.Module) -> ast.Module:
    """The tree without the imports that only a type checker sees."""
    kept = [
        node
        for node in tree.body
        if not (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test))
    ]
    return ast.Module(kept, [])


def test_the_packages_are_found_and_have_files() -> None:
    assert all(len(sources(package)) >= 8 for package in PACKAGES)
    assert "spg_trainer.algorithms.spg" in sources("spg_trainer")


@pytest.mark.parametrize(
    ("modules", "forbidden"),
    [
        ("verifiers", "envs spg_trainer gymnasium torch transformers accelerate datasets"),
        ("envs", "spg_trainer torch transformers accelerate"),
        ("spg_trainer", "tests benchmarks"),
        (
            "spg_trainer.likelihood",
            "transformers tokenizers accelerate gymnasium spg_trainer.settings.packages",
        ),
    ],
)
def test_dependencies_point_one_way(modules: str, forbidden: str) -> None:
    for module, tree in sources(modules.partition(".")[0]).items():
        if is_within(module, {modules}):
            wrong = [name for name in imports(tree) if is_within(name, set(forbidden.split()))]
            assert not wrong, f"{module} imports {wrong}"


def test_the_trainer_takes_the_environments_through_its_check() -> None:
    for module, tree in sources("spg_trainer").items():
        direct = [name for name in imports(at_run_time(tree)) if is_within(name, {"envs", "verifiers"})]
        assert not direct, (
            f"{module} imports {direct}; it should take envs from spg_trainer.settings.packages"
        )


def test_every_folder_of_code_is_a_package_of_the_wheel() -> None:
    project = Path(__file__).parents[1] / "pyproject.toml"
    if not project.is_file():
        pytest.skip("no pyproject.toml beside the tests")
    listed = tomllib.loads(project.read_text())["tool"]["setuptools"]["packages"]
    folders = {
        ".".join(path.parent.relative_to(project.parent).parts)
        for package in PACKAGES
        for path in (project.parent / package).rglob("__init__.py")
    }
    assert folders == set(listed) - {"spg_data"}


def test_algorithms_know_torch_and_their_siblings_only() -> None:
    siblings = ("algorithms", "likelihood", "batch", "errors", "settings.values")
    known = {"torch", *(f"spg_trainer.{name}" for name in siblings)}
    for module, tree in sources("spg_trainer").items():
        if is_within(module, {"spg_trainer.algorithms"}):
            names = {name for name in imports(tree) if name.split(".")[0] not in sys.stdlib_module_names}
            wrong = [name for name in names if not is_within(name, known)]
            assert not wrong, f"{module} imports {wrong}"


@pytest.mark.parametrize("module", sorted({where.partition(":")[0] for where in ALGORITHMS.values()}))
def test_an_algorithm_is_one_short_file(module: str) -> None:
    text = Path(find_spec(module).origin).read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 120


def module_of(name: str, modules: set[str]) -> str | None:
    """The module that an import name loads: itself, or the module that holds it."""
    while name and name not in modules:
        name = name.rpartition(".")[0]
    return name or None


def arrows(package: str) -> dict[str, set[str]]:
    """Module -> modules of its package that it imports at run time, at the top or inside a function."""
    modules = set(sources(package))
    found: dict[str, set[str]] = {}
    for module, tree in sources(package).items():
        targets = set()
        for node in ast.walk(at_run_time(tree)):
            if isinstance(node, ast.Import):
                targets |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                targets |= {f"{node.module}.{alias.name}" for alias in node.names}
        found[module] = {module_of(name, modules) for name in targets} - {None, module}
    return found


@pytest.mark.parametrize("package", PACKAGES)
def test_no_cycle_among_modules(package: str) -> None:
    try:
        TopologicalSorter(arrows(package)).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_a_cycle_would_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    trees = {"p.a": "def f():\n    from p.b import g", "p.b": "from p import a", "p": "from p.a import f"}
    monkeypatch.setitem(globals(), "sources", lambda package: {k: ast.parse(v) for k, v in trees.items()})
    with pytest.raises(CycleError):
        TopologicalSorter(arrows("p")).prepare()


def inside_fork_rng(tree: ast.AST) -> set[ast.AST]:
    """Every node that runs inside `with torch.random.fork_rng(...)`."""
    found: set[ast.AST] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.With) and any("fork_rng(" in ast.unparse(i) for i in node.items):
            found |= set(ast.walk(node))
    return found


SEEDS = {
    *("torch.manual_seed", "torch.random.manual_seed", "torch.default_generator.manual_seed"),
    *("torch.cuda.manual_seed", "torch.cuda.manual_seed_all"),
}
ALWAYS_WRONG = {
    *("print", "eval", "exec", "random.seed", "np.random.seed", "numpy.random.seed"),
    *("set_seed", "transformers.set_seed"),
}


def faults(tree: ast.AST) -> Iterator[str]:
    """What no file of the packages may do."""
    forked = inside_fork_rng(tree)
    for node in ast.walk(tree):
        where = f"line {getattr(node, 'lineno', '?')}: "
        if isinstance(node, ast.Call):
            name = called(node)
            if name in ALWAYS_WRONG or (name in SEEDS and node not in forked):
                yield f"{where}{name}(...)"
        elif isinstance(node, ast.ExceptHandler) and node.type is None:
            yield f"{where}a bare except"
        elif isinstance(node, ast.ImportFrom) and node.module == "random":
            yield f"{where}the global stream of `random`"
        elif isinstance(node, ast.Raise) and "NotImplementedError" in ast.unparse(node):
            yield f"{where}a stub"
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from (f"{where}{text}" for text in asserted_arguments(node))


def asserted_arguments(function: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[str]:
    """Asserts of a public function about its own arguments: what callers pass deserves a real error."""
    every = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
    arguments = {argument.arg for argument in every} - {"self", "cls"}
    for node in ast.walk(function):
        if isinstance(node, ast.Assert) and not function.name.startswith("_"):
            named = {n.id for n in ast.walk(node.test) if isinstance(n, ast.Name)}
            if named & arguments:
                yield f"assert {ast.unparse(node.test)}"


@pytest.mark.parametrize("package", PACKAGES)
def test_no_file_prints_evaluates_text_hides_errors_or_seeds_globally(package: str) -> None:
    found = {module: list(faults(tree)) for module, tree in sources(package).items()}
    assert not {module: lines for module, lines in found.items() if lines}


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("print('x')", "print"),
        ("eval('1')", "eval"),
        ("def f():\n    exec('1')", "exec"),
        ("try:\n    f()\nexcept:\n    pass", "bare except"),
        ("def f(n):\n    assert n > 0", "assert n > 0"),
        ("import torch\ntorch.manual_seed(0)", "torch.manual_seed"),
        ("import random\nrandom.seed(0)", "random.seed"),
        ("np.random.seed(0)", "np.random.seed"),
        ("raise NotImplementedError", "stub"),
    ],
)
def test_each_fault_would_be_seen(text: str, fault: str) -> None:
    assert fault in " ".join(faults(ast.parse(text)))


def test_seeding_a_forked_or_private_stream_is_fine() -> None:
    forked = (
        "with torch.random.fork_rng(devices=[]):\n    torch.manual_seed(0)\ng.manual_seed(1)\nmodel.eval()"
    )
    assert not list(faults(ast.parse(forked)))


def test_imports_are_seen_wherever_they_hide() -> None:
    text = (
        "def f():\n    from envs import make\n    import_module('torch.nn')\nimport a.b as c\nfrom . import d"
    )
    assert {"envs", "envs.make", "torch.nn", "a.b", "..d"} <= set(imports(ast.parse(text)))
    typed = ast.parse("if TYPE_CHECKING:\n    from envs import TextEnv\ndef f():\n    import envs.core")
    assert set(imports(at_run_time(typed))) == {"envs.core"}


def test_no_command_installs_what_is_on_no_index() -> None:
    """Messages name the package that is missing, pages the checkout (`pip install -e '.[track]'`)."""
    beside = Path(__file__).resolve().parents[1]
    files = [path for package in PACKAGES for path in Path(find_spec(package).origin).parent.rglob("*.py")]
    files += [*beside.glob("*.md"), *beside.glob("docs/**/*.md"), *beside.glob("Dockerfile")]
    wrong = re.compile(r"pip install[^\n`&]*spg[-_]trainer")
    assert [str(path) for path in files if wrong.search(path.read_text(encoding="utf-8"))] == []
