"""Every benchmark opens; the bases of the gauntlet can be made: their lengths hold every text they learn."""

import importlib
from pathlib import Path

import pytest

import envs
from spg_trainer.compare import read_word
from spg_trainer.models import tiny_tokenizer

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"

if not (BENCHMARKS / "gauntlet.py").is_file():  # tests copied beside an installed wheel
    pytest.skip("the benchmarks are not here", allow_module_level=True)


NAMES = sorted({file.stem for file in BENCHMARKS.glob("*.py")} - {"roman"})
"""All but an environment, which the gauntlet opens by its path."""


@pytest.mark.parametrize("name", NAMES)
def test_a_benchmark_finds_what_it_imports_and_says_how_it_is_used(name: str, monkeypatch, capsys) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    module = importlib.import_module(name)
    if hasattr(module, "main"):
        monkeypatch.setattr("sys.argv", [f"{name}.py", "--help"])
        with pytest.raises(SystemExit) as end:
            module.main()
        assert end.value.code == 0 and "usage" in capsys.readouterr().out


@pytest.fixture
def gauntlet(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("gauntlet")


def test_every_base_has_room_for_what_it_learns(gauntlet) -> None:
    tokenizer = tiny_tokenizer()
    made = [task for task in gauntlet.TASKS if task.base[0] == "sft"]
    assert len(made) == 9
    for task in made:
        if "reasoning_gym" in task.env:
            pytest.importorskip("reasoning_gym")
        name, arguments = read_word("--env", task.env)
        length = int(task.base[task.base.index("--max-completion-length") + 1])
        mixed = {word.partition("=")[0] for word in task.base if "=0." in word} - {"right"}
        env = envs.make(name, **arguments)
        problems = [env.problem(index) for index in range(800)]
        written = [{"right": env.demonstration(problem), **env.habits(problem)} for problem in problems]
        assert mixed <= set.intersection(*map(set, written)), task.name
        texts = [text for some in written for text in some.values()]
        longest = max(map(len, tokenizer(texts, add_special_tokens=False)["input_ids"])) + 1
        assert longest <= length, task.name


def test_a_base_of_no_use_is_trained_twice_as_long_and_once_more(gauntlet, tmp_path) -> None:
    task = next(task for task in gauntlet.TASKS if task.env == "arithmetic")
    folder, log = tmp_path / "arithmetic", tmp_path / "arithmetic.log"
    assert task.job(tmp_path).words[-2:] == ("--resume", "auto")  # nothing there yet

    def made(steps: int, said: str) -> None:
        folder.mkdir(exist_ok=True)
        (folder / "COMPLETE").touch()
        (folder / "sft.yaml").write_text(f"env: arithmetic\nsteps: {steps}\n")
        with log.open("a") as text:
            text.write(f"The model is in {folder}. Train it: ...\n{said}\nsft 8/{2 * steps}  loss 0.5\n")

    for steps in (800, 1600):
        made(steps, "warning: no base for RL yet: ...: RL will hardly learn, and may unlearn what is there.")
        assert task.job(tmp_path).words == ("sft", "--resume", str(folder), "--steps", str(2 * steps))
    made(3200, "warning: no base for RL yet: ...: RL will hardly learn, and may unlearn what is there.")
    assert task.job(tmp_path) is None
    made(800, "warning: no base for RL yet: ...: RL may learn little, and may unlearn what is there.")
    assert task.job(tmp_path) is None


def test_a_name_that_no_task_has_is_told(gauntlet, monkeypatch, capsys) -> None:
    monkeypatch.setattr("sys.argv", ["gauntlet.py", "folder", "--tasks", "chess"])
    with pytest.raises(SystemExit):
        gauntlet.main()
    assert "Roman-v0" in capsys.readouterr().err
