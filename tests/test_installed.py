"""`envs` and the trainer use our own packages, or say in one line which other package Python found."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

import envs
import spg_trainer
from spg_trainer.settings import packages

OURS = ("spg_trainer", "verifiers", "envs")
ROOTS = os.pathsep.join(dict.fromkeys(str(Path(find_spec(name).origin).parents[1]) for name in OURS))
VERSION = spg_trainer.__version__
FIX = "install spg-trainer again, in its checkout with: pip install -e ."
IMPORTS = {"envs": "import envs", "spg_trainer": "from spg_trainer.settings.packages import envs"}
CHECKS = {"envs": envs._check_verifiers, "spg_trainer": lambda: packages.own_package("verifiers")}
NEEDED = [("envs", "verifiers"), ("spg_trainer", "verifiers"), ("spg_trainer", "envs")]

BEHIND = "sys.path += os.environ['ROOTS'].split(os.pathsep)"
EDITABLE = """
from importlib.machinery import PathFinder

class Last:
    '''Finds our packages after everything else, as an editable installation does.'''

    @staticmethod
    def find_spec(name, path=None, target=None):
        ours = name in ("spg_trainer", "verifiers", "envs")
        return PathFinder.find_spec(name, os.environ["ROOTS"].split(os.pathsep)) if ours else None

sys.meta_path.append(Last)
"""


def run(folder: Path, text: str, *options: str, installed: str = BEHIND) -> str:
    """The last line that `python script.py` in `folder` writes, where our packages come last on the path."""
    script = folder / "script.py"
    script.write_text(f"import os, sys\n{installed}\n{text}\nprint(envs.__spg_trainer__)")
    done = subprocess.run(
        [sys.executable, *options, str(script)],
        capture_output=True,
        text=True,
        env={"ROOTS": ROOTS, "PYTHONPATH": str(folder / "site")},
        cwd=folder,
        timeout=60,
    )
    return (done.stdout + done.stderr).strip().splitlines()[-1]


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


@pytest.mark.parametrize("importer", IMPORTS)
def test_our_own_packages_are_accepted(tmp_path: Path, importer: str) -> None:
    assert run(tmp_path, IMPORTS[importer]) == VERSION
    assert packages.VERSION == VERSION == packages.verifiers.__spg_trainer__ == packages.envs.__spg_trainer__


@pytest.mark.parametrize(("importer", "name"), NEEDED)
@pytest.mark.parametrize(
    ("place", "content", "why"),
    [
        ("{}/__init__.py", "Rubric = object", "it is not part of spg-trainer"),
        pytest.param("{}.py", "", "it is not part of spg-trainer", marks=pytest.mark.slow),
        ("{}/__init__.py", "__spg_trainer__ = '0.0.1'", f"it is of spg-trainer 0.0.1, not {VERSION}"),
        ("site/{}/__init__.py", "__version__ = '9.9'", "it is not part of spg-trainer"),
    ],
)
def test_another_package_in_front_is_named_in_one_line(tmp_path, importer, name, place, content, why) -> None:
    found = write(tmp_path / place.format(name), content)
    line = run(tmp_path, f"import spg_trainer\n{IMPORTS[importer]}")
    assert line.startswith(
        f'ImportError: {importer} needs its own package "{name}", but Python found {found} ({why})'
    )
    assert "rename it or start elsewhere" in line and line.endswith(FIX)


@pytest.mark.parametrize(("importer", "name"), NEEDED)
def test_a_folder_of_that_name_beside_the_script_is_named(tmp_path: Path, importer: str, name: str) -> None:
    write(tmp_path / name / "notes.txt", "mine")
    # -S: nothing but the folder and the standard library is on the path, so Python settles for the bare folder.
    line = run(tmp_path, IMPORTS[importer], "-S", installed=EDITABLE)
    found = f"but Python found {tmp_path / name} (it is not part of spg-trainer)"
    assert line.startswith(f'ImportError: {importer} needs its own package "{name}", {found}')
    assert line.endswith(FIX)


def test_an_empty_folder_in_the_working_directory_is_passed_over(tmp_path: Path) -> None:
    for name in OURS:
        (tmp_path / name).mkdir()
    command = [sys.executable, "-c", "import envs; print(envs.__spg_trainer__)"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=60)
    assert done.stdout.strip() == VERSION, done.stderr


@pytest.mark.parametrize("importer", CHECKS)
def test_a_missing_package_is_named_and_a_broken_one_keeps_its_error(tmp_path, monkeypatch, importer) -> None:
    monkeypatch.setitem(sys.modules, "verifiers", None)
    with pytest.raises(ImportError) as caught:
        CHECKS[importer]()
    wanted = f'{importer} needs the package "verifiers", which Python does not find: {FIX}'
    assert str(caught.value) == wanted
    write(tmp_path / "verifiers.py", "import dependency_that_is_nowhere")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "verifiers")
    with pytest.raises(ModuleNotFoundError, match="dependency_that_is_nowhere"):
        CHECKS[importer]()
