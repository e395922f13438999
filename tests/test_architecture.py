"""The arrows between the packages and what no file may do, read from the sources by `ast`."""

import ast
import functools
import re
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from importlib.util import find_spec
from pathlib import Path

import pytest

PACKAGES = ("verifiers", "envs", "spg_trainer")


@functools.cache
def sources(package: str) -> dict[str, ast.Module]:
    """Module name -> syntax tree of every file of a package, found as Python finds it."""
    root = Path(find_spec(package).origin).parent
    files = {path: path.relative_to(root.parent).with_suffix("") for path in sorted(root.rglob("*.py"))}
    return {
        ".".join(name.parts).removesuffix(".__init__"): ast.parse(path.read_text(encoding="utf-8"))
        for path, name in files.items()
    }


@functools.cache
def nodes(tree: ast.Module) -> list[ast.AST]:
    """What `ast.walk` yields of a file, which several tests look through."""
    return [*ast.walk(tree)]


def called(node: ast.Call) -> str:
    """The dotted name of what is called, "" where it is no name: to write out every call would take seconds."""
    return ast.unparse(node.func) if isinstance(node.func, ast.Name | ast.Attribute) else ""


@functools.cache
def imports(tree: ast.AST) -> list[str]:
    """Every module that is imported anywhere, lazily too; a relative import as it is written."""
    return list(_imports(tree))


def _imports(tree: ast.AST) -> Iterator[str]:
    for node in nodes(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            yield from (f"{base}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and called(node).endswith(("import_module", "__import__")):
            yield from (a.value for a in node.args[:1] if isinstance(a, ast.Constant))


@pytest.mark.parametrize("package", ["spg_trainer", "envs", "verifiers"])
def test_no_message_cites_a_page_by_its_path(package: str) -> None:
    """Who has the wheel alone has no pages: a message says what the page says."""
    for module, tree in sources(package).items():
        docstrings = {id(node.value) for node in nodes(tree) if isinstance(node, ast.Expr)}
        texts = [n for n in nodes(tree) if isinstance(n, ast.Constant) and isinstance(n.value, str)]
        assert not [n.value for n in texts if id(n) not in docstrings and re.search(r"docs/\w", n.value)], (
            module
        )


def is_within(name: str, modules: str) -> bool:
    return any(name == module or name.startswith(f"{module}.") for module in modules.split())


@functools.cache
def at_run_time(tree: ast.Module) -> ast.Module:
    """The tree without the imports that only a type checker sees."""
    kept = [n for n in tree.body if not (isinstance(n, ast.If) and "TYPE_CHECKING" in ast.unparse(n.test))]
    return ast.Module(kept, [])


@pytest.mark.parametrize(
    ("modules", "forbidden"),
    [
        ("verifiers", "envs spg_trainer gymnasium torch transformers accelerate datasets"),
        ("envs", "spg_trainer torch transformers accelerate"),
        ("spg_trainer", "tests benchmarks"),
        ("spg_trainer.likelihood", "transformers accelerate gymnasium spg_trainer.settings.packages"),
    ],
)
def test_dependencies_point_one_way(modules: str, forbidden: str) -> None:
    for module, tree in sources(modules.partition(".")[0]).items():
        wrong = [name for name in imports(tree) if is_within(name, forbidden)]
        assert not wrong or not is_within(module, modules), f"{module} imports {wrong}"


def test_the_trainer_takes_the_environments_through_its_check() -> None:
    for module, tree in sources("spg_trainer").items():
        direct = [name for name in imports(at_run_time(tree)) if is_within(name, "envs verifiers")]
        assert not direct, f"{module} imports {direct}, not from spg_trainer.settings.packages"


def test_algorithms_know_torch_and_their_siblings_only() -> None:
    allowed = "torch spg_trainer.algorithms spg_trainer.likelihood spg_trainer.tensors spg_trainer.errors"
    allowed += " spg_trainer.settings.types spg_trainer.settings.types spg_trainer.seeding"
    for module, tree in sources("spg_trainer").items():
        if is_within(module, "spg_trainer.algorithms"):
            # The registry loads files of the user's own where the environments do, so that all are loaded alike. The
            # base class notes there which of them Python has loaded.
            loads_own_files = module in ("spg_trainer.algorithms.registry", "spg_trainer.algorithms.base")
            own_files = " spg_trainer.settings.packages" if loads_own_files else ""
            wrong = [name for name in imports(tree) if not is_within(name, allowed + own_files)]
            wrong = [name for name in wrong if name.split(".")[0] not in sys.stdlib_module_names]
            assert not wrong, f"{module} imports {wrong}"


def test_the_top_of_the_trainer_is_short() -> None:
    top = [path.name for path in Path(find_spec("spg_trainer").origin).parent.glob("*.py")]
    assert len(top) <= 8, top


def arrows(package: str, types: bool = False) -> dict[str, set[str]]:
    """Module -> modules of its package that it imports, at the top or inside a function. types: for types, too."""
    modules = set(sources(package))

    def holder(name: str) -> str:
        """The module that an import name loads: itself, or the module that holds it."""
        while name and name not in modules:
            name = name.rpartition(".")[0]
        return name

    return {
        module: {holder(name) for name in imports(tree if types else at_run_time(tree))} - {"", module}
        for module, tree in sources(package).items()
    }


def is_ordered(found: dict[str, set[str]]) -> bool:
    """Whether the modules can stand in an order in which each comes behind all that it imports; CycleError if not."""
    order = [*TopologicalSorter(found).static_order()]
    return set(order) >= found.keys() and all(
        order.index(imported) < order.index(module) for module, names in found.items() for imported in names
    )


@pytest.mark.parametrize("package", PACKAGES)
def test_no_circle_among_modules(package: str) -> None:
    assert is_ordered(arrows(package))


def test_no_circle_in_envs_even_for_types() -> None:
    assert is_ordered(arrows("envs", types=True))


def test_tasks_and_episodes_know_no_gymnasium() -> None:
    """`envs.problem <- envs.task <- envs.scoring <- envs.episodes <- envs.core`; the last one alone adds Gymnasium."""
    found = arrows("envs", types=True)
    below: set[str] = set()
    todo = {
        "envs.episodes",
        "envs.splits",
        "envs.combining.divided",
        "envs.combining.infill",
        "envs.combining.several_tries",
        "envs.combining.system_prompt",
        "envs.combining.mixture",
    }
    while todo:
        below.add(module := todo.pop())
        todo |= found[module] - below
    assert {"envs.problem", "envs.task", "envs.scoring"} < below and "envs.core" not in below
    assert not [m for m in below if any(is_within(name, "gymnasium") for name in imports(sources("envs")[m]))]


def test_no_circle_inside_a_room_of_the_trainer_even_for_types() -> None:
    found = arrows("spg_trainer", types=True)
    inside = {a: {b for b in names if layer(a) == layer(b)} for a, names in found.items() if a != LAYERS[0]}
    assert is_ordered(inside)


LAYERS = (
    "spg_trainer",  # the version, and lazily what users import
    "spg_trainer.settings.packages",
    "spg_trainer.errors",
    "spg_trainer.seeding",
    "spg_trainer.tensors",
    "spg_trainer.settings",
    "spg_trainer.runs.files",  # a folder that is written whole, with checksums, also that of a model
    "spg_trainer.distributed",
    "spg_trainer.architecture",
    "spg_trainer.models",
    "spg_trainer.architecture.shape",  # counts what transformers builds
    "spg_trainer.likelihood",
    "spg_trainer.algorithms",
    "spg_trainer.checking",
    "spg_trainer.rollout",
    "spg_trainer.runs",
    "spg_trainer.evaluation",
    "spg_trainer.estimate",
    "spg_trainer.reporting",
    "spg_trainer.training",
    "spg_trainer.export",
    "spg_trainer.cli",  # finds its commands by name when they are asked for
    "spg_trainer.reporting.jobs",  # starts trainings
    "spg_trainer.reporting.compare",
    "spg_trainer.__main__",
)
"""The rooms of the trainer from the bottom up: each imports from those before it, and from itself."""
UPWARDS = {
    "spg_trainer.settings": "spg_trainer.runs.inputs",  # a run's copies stand in place of files that are gone
    "spg_trainer.settings.resolve": "spg_trainer.algorithms.registry",  # a class has the recipe of its ancestor
    "spg_trainer.settings.flags": "spg_trainer.algorithms.registry",  # a name that no setting has may be theirs
    "spg_trainer.likelihood.gradient": "spg_trainer.algorithms.base",  # a type
}
"""The arrows that run back up all the same."""


def layer(module: str) -> int:
    """The place of a module's room in `LAYERS`."""
    named = [name for name in LAYERS[1:] if is_within(module, name)]
    assert named or module == LAYERS[0], f"{module} stands in no layer: add its room to LAYERS"
    return LAYERS.index(max(named, key=len, default=LAYERS[0]))


def test_imports_inside_the_trainer_run_down_the_layers() -> None:
    """At the top of a file, inside functions, and for a type checker alone."""
    found = {(module, name) for module, names in arrows("spg_trainer", types=True).items() for name in names}
    up = {(module, name) for module, name in found if layer(name) > layer(module) > 0}
    told = {
        (a, b) for a, b in up for low, high in UPWARDS.items() if is_within(a, low) and is_within(b, high)
    }
    assert up == told and len(up) <= 5, up - told


def test_the_rooms_of_the_math_verifier_import_one_way() -> None:
    """An answer is read, compared, and held against what its problem asks for; what is above calls all three."""
    rooms = [f"verifiers.math500.{room}" for room in ("parser", "compare", "asked")]
    for module, names in arrows("verifiers").items():
        if is_within(module, "verifiers.math500"):
            place = next((k for k, room in enumerate(rooms) if is_within(module, room)), len(rooms))
            above = [*rooms[place + 1 :], "verifiers.math500.task", "verifiers.math500.reference"]
            up = [name for name in names if place < len(rooms) and is_within(name, " ".join(above))]
            assert not up, f"{module} imports {up}"


def test_tests_of_environments_and_verifiers_are_collected_without_torch() -> None:
    """Each process of the tests collects all of them; torch and what imports it take ten seconds of a processor."""
    heavy = {"torch", "transformers", "datasets", "accelerate", "peft", "spg_trainer"}

    def imported(file: Path) -> Iterator[str]:
        """The packages that a file of tests imports at its top, also through its helpers."""
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            for name in imports(node) if isinstance(node, ast.Import | ast.ImportFrom) else ():
                yield name.partition(".")[0]
                helper = Path(__file__).parents[1] / "/".join(name.split(".")[:3])
                if name.startswith("tests.") and helper.with_suffix(".py").is_file():
                    yield from imported(helper.with_suffix(".py"))

    for folder in ("envs", "verifiers"):
        for file in sorted((Path(__file__).parent / folder).glob("test_*.py")):
            assert not heavy & set(imported(file)), f"{file.name}: import it inside the tests that need it"


SEEDS = r"torch\.(random\.|default_generator\.|cuda\.)?manual_seed(_all)?"
IN_THE_GUEST = "verifiers.code.guest"  # is sent into a sealed interpreter, where programs are run
ALWAYS_WRONG = r"print|eval|exec|(random|np\.random|numpy\.random)\.seed|(transformers\.)?set_seed"


def faults(tree: ast.AST) -> Iterator[str]:
    """What no file of the packages may do."""
    forks = [n for n in nodes(tree) if isinstance(n, ast.With) and "fork_rng(" in ast.unparse(n.items[0])]
    forked = {node for fork in forks for node in ast.walk(fork)}
    for node in nodes(tree):
        where = f"line {getattr(node, 'lineno', '?')}: "
        if isinstance(node, ast.Call):
            name = called(node)
            if re.fullmatch(ALWAYS_WRONG, name) or (re.fullmatch(SEEDS, name) and node not in forked):
                yield f"{where}{name}(...)"
        elif isinstance(node, ast.ExceptHandler) and node.type is None:
            yield f"{where}a bare except"
        elif isinstance(node, ast.Raise) and "NotImplementedError" in ast.unparse(node):
            yield f"{where}a stub"
        elif isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            arguments = {a.arg for a in ast.walk(node.args) if isinstance(a, ast.arg)} - {"self", "cls"}
            for check in (n for n in ast.walk(node) if isinstance(n, ast.Assert)):
                if arguments & {n.id for n in ast.walk(check.test) if isinstance(n, ast.Name)}:
                    yield f"{where}assert {ast.unparse(check.test)}"  # what callers pass deserves a real error


@pytest.mark.parametrize("package", PACKAGES)
def test_no_file_prints_evaluates_text_hides_errors_or_seeds_globally(package: str) -> None:
    found = {
        module: list(faults(tree)) for module, tree in sources(package).items() if module != IN_THE_GUEST
    }
    assert not {module: lines for module, lines in found.items() if lines}


def test_what_runs_programs_is_imported_by_nothing() -> None:
    for package in PACKAGES:
        importing = [module for module, tree in sources(package).items() if IN_THE_GUEST in imports(tree)]
        assert importing == []


def test_the_page_of_a_training_step_names_what_is_there() -> None:
    """Every function, method and file in the first column of CONTRIBUTING.md's table of a step."""
    top = Path(__file__).resolve().parents[1]
    if not (top / "CONTRIBUTING.md").is_file():
        pytest.skip("no CONTRIBUTING.md beside the tests")
    page = (top / "CONTRIBUTING.md").read_text(encoding="utf-8").partition("## One training step")[2]
    cells = re.findall(r"^\| (`.*?) \|", page.partition("\n## ")[0], re.MULTILINE)
    for cell in cells:
        for part in re.findall(r"`(.+?)`", cell):
            name = part
            if ".py" in part:  # else it is in the file that was named before
                file, _, name = part.partition(": ")
                places = [place for base in (top / "spg_trainer", top) for place in base.glob(file)]
            nodes = [n for p in places for n in ast.walk(ast.parse(p.read_text(encoding="utf-8")))]
            defined = {n.name for n in nodes if isinstance(n, ast.FunctionDef | ast.ClassDef)}
            assert places and not set(filter(None, name.split("."))) - defined, part
    assert len(cells) >= 12


def test_no_command_installs_what_is_on_no_index() -> None:
    """Messages name the package that is missing, pages the checkout (`pip install -e '.[track]'`)."""
    beside = Path(__file__).resolve().parents[1]
    files = [path for package in PACKAGES for path in Path(find_spec(package).origin).parent.rglob("*.py")]
    files += [*beside.glob("*.md"), *beside.glob("docs/**/*.md"), *beside.glob("Dockerfile")]
    wrong = re.compile(r"pip install[^\n`&]*spg[-_]trainer")
    assert [str(path) for path in files if wrong.search(path.read_text(encoding="utf-8"))] == []
