"""The trainer uses its own `verifiers` and `envs`, or says in one line which other package Python found."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

import spg_trainer
from spg_trainer import packages

OURS = ("spg_trainer", "verifiers", "envs")
ROOTS = [str(Path(find_spec(name).origin).parents[1]) for name in OURS]
VERSION = spg_trainer.__version__
FIX = f'pip install --force-reinstall --no-deps "spg-trainer=={VERSION}"'


def run(folder: Path, text: str, *options: str, **more: str) -> str:
    """The last line that `python script.py` in `folder` writes, where our packages come last on the path."""
    script = folder / "script.py"
    script.write_text(f"import os, sys\nsys.path += os.environ['ROOTS'].split(os.pathsep)\n{text}\n")
    env = {"ROOTS": os.pathsep.join(dict.fromkeys(ROOTS)), "PYTHONPATH": str(folder / "site"), **more}
    done = subprocess.run(
        [sys.executable, *options, str(script)],
        capture_output=True,
        text=True,
        env=env,
        cwd=folder,
        timeout=60,
    )
    return (done.stdout + done.stderr).strip().splitlines()[-1]


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_our_own_packages_are_accepted(tmp_path: Path) -> None:
    assert run(tmp_path, "from spg_trainer.packages import envs\nprint(envs.__spg_trainer__)") == VERSION
    assert packages.VERSION == VERSION == packages.verifiers.__spg_trainer__ == packages.envs.__spg_trainer__


@pytest.mark.parametrize("name", ["verifiers", "envs"])
@pytest.mark.parametrize(
    ("place", "content", "why"),
    [
        ("{}/__init__.py", "Rubric = object", "it is not part of spg-trainer"),
        ("{}.py", "", "it is not part of spg-trainer"),
        ("{}/__init__.py", "__spg_trainer__ = '0.0.1'", f"it is of spg-trainer 0.0.1, not {VERSION}"),
        ("site/{}/__init__.py", "__version__ = '9.9'", "it is not part of spg-trainer"),
    ],
)
def test_another_package_in_front_is_told_in_one_line(tmp_path, name, place, content, why) -> None:
    found = write(tmp_path / place.format(name), content)
    line = run(tmp_path, "from spg_trainer.packages import envs\nprint('fine')")
    assert line.startswith(
        f'ImportError: spg_trainer needs its own package "{name}", but Python found {found} ({why})'
    )
    assert "rename it or start elsewhere" in line and line.endswith(FIX)


EDITABLE = """
from importlib.machinery import PathFinder

class Last:
    '''Finds our packages after everything else, as an editable installation does.'''

    @staticmethod
    def find_spec(name, path=None, target=None):
        ours = name in ("spg_trainer", "verifiers", "envs")
        return PathFinder.find_spec(name, os.environ["ROOTS"].split(os.pathsep)) if ours else None

sys.path[:] = [p for p in sys.path if p not in os.environ["ROOTS"].split(os.pathsep)]
sys.meta_path.append(Last)
"""


@pytest.mark.parametrize("name", ["verifiers", "envs"])
def test_a_folder_of_that_name_beside_the_script_is_told_with_its_path(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    (tmp_path / name / "notes.txt").write_text("mine")
    # -S: nothing but the folder and the standard library is on the path, so Python settles for the bare folder.
    line = run(tmp_path, f"{EDITABLE}\nfrom spg_trainer.packages import envs\nprint('fine')", "-S")
    found = f"but Python found {tmp_path / name} (it is not part of spg-trainer)"
    assert line.startswith(f'ImportError: spg_trainer needs its own package "{name}", {found}')
    assert line.endswith(FIX)


def test_the_python_surface_checks_before_anything_heavy_is_used(tmp_path: Path) -> None:
    found = write(tmp_path / "envs" / "__init__.py", "")
    text = "import spg_trainer\nprint(spg_trainer.__version__)\nfrom spg_trainer.packages import envs"
    assert f"but Python found {found}" in run(tmp_path, text)


def test_the_command_line_ends_with_that_line_and_status_2(monkeypatch, capsys) -> None:
    from spg_trainer import cli

    def shadowed() -> None:
        sys.modules.pop("spg_trainer.packages")
        from spg_trainer.packages import envs  # noqa: F401

    monkeypatch.setitem(sys.modules, "spg_trainer.packages", packages)
    monkeypatch.setitem(sys.modules, "verifiers", type(sys)("verifiers"))
    monkeypatch.setattr(cli, "quiet_libraries", shadowed)
    assert cli.main(["eval"]) == 2
    message = capsys.readouterr().err
    assert message.startswith('error: spg_trainer needs its own package "verifiers", but Python found')
    assert message.endswith(f"{FIX}\n") and message.count("\n") == 1


def test_a_missing_package_is_told_and_a_broken_one_keeps_its_own_error(tmp_path, monkeypatch) -> None:
    with pytest.raises(ImportError) as caught:
        packages.own_package("package_that_is_nowhere")
    assert (
        str(caught.value)
        == f'spg_trainer needs the package "package_that_is_nowhere", which Python does not find: {FIX}'
    )
    write(tmp_path / "package_with_a_gap.py", "import dependency_that_is_nowhere")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ModuleNotFoundError, match="dependency_that_is_nowhere"):
        packages.own_package("package_with_a_gap")
