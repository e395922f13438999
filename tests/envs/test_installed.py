"""`envs` uses its own `verifiers` or says in one line which other package Python found."""

import subprocess
import sys
from pathlib import Path

import pytest

import envs
import verifiers

ROOTS = [str(Path(package.__file__).parents[1]) for package in (envs, verifiers)]
FIX = f'pip install --force-reinstall --no-deps "spg-trainer=={envs.__spg_trainer__}"'


def run(folder: Path, *, flag: str = "-B") -> str:
    """The last line that `python script.py` in `folder` writes, where script.py imports envs."""
    script = folder / "script.py"
    script.write_text(
        "import os, sys\nsys.path += os.environ['ROOTS'].split(os.pathsep)\nimport envs\nprint('fine')\n"
    )
    roots = ROOTS if flag == "-B" else [str(folder / "only_envs")]
    paths = {"ROOTS": ":".join(dict.fromkeys(roots)), "PYTHONPATH": str(folder / "site")}
    done = subprocess.run(
        [sys.executable, flag, str(script)], capture_output=True, text=True, env=paths, cwd=folder
    )
    return (done.stdout + done.stderr).strip().splitlines()[-1]


def test_our_own_verifiers_is_accepted(tmp_path):
    assert run(tmp_path) == "fine"


@pytest.mark.parametrize(
    ("place", "content", "why"),
    [
        ("verifiers/__init__.py", "Rubric = object", "it is not part of spg-trainer"),
        ("verifiers/__init__.py", "__spg_trainer__ = '0.0.1'", "it is of spg-trainer 0.0.1, not "),
        ("verifiers.py", "", "it is not part of spg-trainer"),
        ("site/verifiers/__init__.py", "__version__ = '9.9'", "it is not part of spg-trainer"),
    ],
)
def test_another_package_in_front_is_named_in_one_line(tmp_path, place, content, why):
    found = tmp_path / place
    found.parent.mkdir(parents=True, exist_ok=True)
    found.write_text(content)
    line = run(tmp_path)
    assert line.startswith('ImportError: envs needs its own package "verifiers", but Python found ')
    assert str(found) in line and why in line and FIX in line


@pytest.mark.parametrize(
    ("place", "line"),
    [
        (None, f'ImportError: envs needs the package "verifiers", which Python does not find: {FIX}'),
        ("verifiers/", "verifiers (it is not part of spg-trainer). If that is a folder of yours"),
        ("verifiers.py", "ModuleNotFoundError: No module named 'dependency_that_is_nowhere'"),
    ],
    ids=["missing", "namespace folder", "broken"],
)
def test_verifiers_that_cannot_be_imported_are_named(tmp_path, place, line):
    (tmp_path / "only_envs").mkdir()
    (tmp_path / "only_envs" / "envs").symlink_to(Path(envs.__file__).parent)
    if place == "verifiers/":
        (tmp_path / "verifiers").mkdir()
    elif place:
        (tmp_path / place).write_text("import dependency_that_is_nowhere")
    assert line in run(tmp_path, flag="-S")  # without site-packages
