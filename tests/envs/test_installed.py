"""`envs` uses its own `verifiers` or says in one line which other package Python found."""

import subprocess
import sys
from pathlib import Path

import pytest

import envs
import verifiers
from envs.installed import require

ROOTS = [str(Path(package.__file__).parents[1]) for package in (envs, verifiers)]


def run(folder: Path) -> str:
    """The last line that `python script.py` in `folder` writes, where script.py imports envs."""
    script = folder / "script.py"
    script.write_text(
        "import os, sys\nsys.path += os.environ['ROOTS'].split(os.pathsep)\nimport envs\nprint('fine')\n"
    )
    paths = {"ROOTS": ":".join(dict.fromkeys(ROOTS)), "PYTHONPATH": str(folder / "site")}
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, env=paths, cwd=folder
    )
    return (done.stdout + done.stderr).strip().splitlines()[-1]


def test_our_own_verifiers_is_accepted(tmp_path):
    assert run(tmp_path) == "fine"
    require("verifiers", envs.__spg_trainer__, "envs")


@pytest.mark.parametrize(
    ("place", "content", "why"),
    [
        ("verifiers/__init__.py", "Rubric = object", "it is not part of spg-trainer"),
        ("verifiers/__init__.py", "__spg_trainer__ = '0.0.1'", "it is of spg-trainer 0.0.1, not "),
        ("verifiers.py", "", "it is not part of spg-trainer"),
        ("site/verifiers/__init__.py", "__version__ = '9.9'", "it is not part of spg-trainer"),
    ],
)
def test_another_package_in_front_is_told_in_one_line(tmp_path, place, content, why):
    found = tmp_path / place
    found.parent.mkdir(parents=True, exist_ok=True)
    found.write_text(content)
    line = run(tmp_path)
    assert line.startswith('ImportError: envs needs its own package "verifiers", but Python found ')
    assert str(found) in line and why in line
    assert 'pip install --force-reinstall --no-deps "spg-trainer==' in line


def test_a_namespace_folder_is_told_with_its_path(tmp_path, monkeypatch):
    (tmp_path / "folder_without_init").mkdir()
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(
        ImportError, match=r"but Python found .*folder_without_init .it is not part of spg-trainer"
    ):
        require("folder_without_init", "0.1.0", "envs")


def test_a_missing_package_is_told_and_a_broken_one_keeps_its_own_error(tmp_path, monkeypatch):
    with pytest.raises(ImportError, match='needs the package "package_that_is_nowhere"'):
        require("package_that_is_nowhere", "0.1.0", "envs")
    (tmp_path / "package_with_a_gap.py").write_text("import dependency_that_is_nowhere")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ModuleNotFoundError, match="dependency_that_is_nowhere"):
        require("package_with_a_gap", "0.1.0", "envs")
