"""A stranger's task by file, module and entry point: each way works, and each mistake is one clear line."""

import subprocess
import sys
from pathlib import Path

import pytest

import envs
from envs.__main__ import main
from envs.errors import EnvError
from envs.template import write_task


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that modules can be imported from."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def distribution(folder: Path, points: str) -> None:
    """What pip leaves of an installed package with entry points."""
    info = folder / "a_stranger-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: a-stranger\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[spg.envs]\n{points}\n")


def test_a_file_a_module_and_an_entry_point_reach_the_same_task(here: Path) -> None:
    package = here / "stranger_pack"
    package.mkdir()
    (package / "__init__.py").write_text("")
    write_task(str(package / "parrot_one.py"))
    distribution(here, "polly = stranger_pack.parrot_one:ParrotOne")
    names = (
        "polly",
        "stranger_pack.parrot_one:my/ParrotOne-v0",
        "stranger_pack.parrot_one:parrotone",
        "my/ParrotOne-v0",
    )
    assert {envs.resolve(name) for name in names} == {"my/ParrotOne-v0"}
    env = envs.make("polly", split="test")
    assert len(env) == 256 and env.score(env.problem(3), env.demonstration(env.problem(3))).reason == "ok"
    write_task("parrot_two.py")
    assert envs.make("./parrot_two.py:my/ParrotTwo-v0").problem(0).prompt.startswith("largest of ")


def test_the_same_names_work_in_a_fresh_process_and_in_the_trainer(here: Path, capsys) -> None:
    from spg_trainer.cli import main as trainer

    write_task("parrot_four.py")
    distribution(here, "polly4 = parrot_four:ParrotFour")
    line = [sys.executable, "-m", "envs", "show", "polly4", "-n", "1"]
    done = subprocess.run(line, capture_output=True, text=True, cwd=here, timeout=60)
    assert done.returncode == 0 and "== parrotfour, train, problem 0 ==" in done.stdout, done.stderr
    write_task("parrot_five.py")
    for name in ("./parrot_five.py:my/ParrotFive-v0", "parrot_four:my/ParrotFour-v0", "polly4"):
        assert trainer(["--env", name, "--dry-run"]) == 0
        assert f"env: {name}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("./nowhere.py:my/X-v0", "There is no file nowhere.py"),
        ("no_such_package.mod:my/X-v0", "importing no_such_package.mod raised ModuleNotFoundError"),
        (
            "./silent.py:my/Silent-v0",
            r'silent.py registers no environment. End it with envs.register\("my/Silent-v0"',
        ),
        ("silent:my/Silent-v0", "silent registers no environment"),
        ("./parrot_three.py:my/ParotThree-v0", r'in ./parrot_three.py. Did you mean "my/ParrotThree-v0"'),
        ("./parrot_three.py", "is a file; say which environment in it"),
        ("./wrong.py:my/Wrong-v0", "importing ./wrong.py raised ZeroDivisionError: division by zero"),
        ("./lacking.py:my/Lacking-v0", "my/Lacking-v0: Lacking lacks problem, score"),
        ("./badid.py:Bad", '"Bad" is not an environment id; it must read namespace/Name-vN'),
        (
            "quiet",
            'The entry point "quiet" of spg.envs offers silent:Silent, which its module does not register',
        ),
        ("gone", "entry points of spg.envs that cannot be loaded: gone"),
    ],
)
def test_each_mistake_is_told_in_one_line(here: Path, name: str, message: str, capsys) -> None:
    base = "import envs\nclass {0}(envs.TextEnv):\n    reward_weights = {{'correct': 1.0}}\n"
    (here / "silent.py").write_text(base.format("Silent"))
    (here / "wrong.py").write_text("1 / 0\n")
    (here / "lacking.py").write_text(
        base.format("Lacking") + "    def __len__(self): return 1\nenvs.register('my/Lacking-v0', Lacking)\n"
    )
    (here / "badid.py").write_text(base.format("Bad") + "envs.register('Bad', Bad)\n")
    write_task("parrot_three.py")
    distribution(here, "quiet = silent:Silent\ngone = not_there:Gone")
    sys.modules.pop("silent", None)
    with pytest.raises(EnvError, match=message):
        envs.make(name)
    assert main(["check", name]) == 2
    assert capsys.readouterr().err.count("\n") == 1
