"""Every benchmark opens; the bases of the gauntlet can be made: their lengths hold every text they learn."""

import importlib
from pathlib import Path

import pytest

import envs
from spg_trainer.models import tiny_tokenizer
from spg_trainer.reporting.compare import read_word
from spg_trainer.sft.habits import Look

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"

if not (BENCHMARKS / "gauntlet.py").is_file():  # tests copied beside an installed wheel
    pytest.skip("the benchmarks are not here", allow_module_level=True)


NAMES = sorted({file.stem for file in BENCHMARKS.glob("*.py")} - {"roman"})
"""All but an environment, which the gauntlet opens by its path."""


@pytest.mark.parametrize("name", NAMES)
def test_a_benchmark_finds_what_it_imports_and_says_how_it_is_used(name: str, monkeypatch, capsys) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    module = importlib.import_module(name)
    if name != "estimator_errors":  # what two of them share
        monkeypatch.setattr("sys.argv", [f"{name}.py", "--help"])
        with pytest.raises(SystemExit) as end:
            module.main()
        assert end.value.code == 0 and "usage" in capsys.readouterr().out


def test_the_step_at_the_shape_of_an_8b_model_runs_at_a_small_one(monkeypatch, capsys) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    shape = "--layers 1 --hidden-size 128 --vocabulary 256 --prompt-length 8 --completion-length 16 --batch 2"
    more = "--lora-r 2 --device cpu --dtype float32 --rounds 1 --gradient-checkpointing"
    monkeypatch.setattr("sys.argv", ["llada_step.py", *shape.split(), *more.split()])
    importlib.import_module("llada_step").main()
    said = capsys.readouterr().out
    assert "tokens/s, peak" in said and "update " in said and "gradient norm 0.00" not in said


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


def test_a_weak_base_is_trained_twice_as_long_up_to_eight_times(gauntlet, tmp_path) -> None:
    task = next(task for task in gauntlet.TASKS if task.env == "arithmetic")
    folder = tmp_path / "arithmetic"
    weak = f"{gauntlet.NO_BASE}: {Look(256, {'right': 1, 'hasty': 0}, 255, 32, 1, 31).problem}"
    go_on = ("sft", "--resume", str(folder))
    assert task.job(tmp_path).words[-2:] == ("--resume", "auto")  # nothing there yet

    def after(steps: int, card: str, *, finished: bool = True) -> tuple[str, ...] | None:
        folder.mkdir(exist_ok=True)
        (folder / "COMPLETE").unlink(missing_ok=True)
        if finished:
            (folder / "COMPLETE").touch()
        (folder / "sft.yaml").write_text(f"env: arithmetic\nsteps: {steps}\n")
        (folder / "README.md").write_text(card)
        return (job := task.job(tmp_path)) and job.words

    assert after(800, weak) == (*go_on, "--steps", "1600")
    assert after(1600, weak, finished=False) == go_on  # killed on the way
    assert after(1600, weak) == (*go_on, "--steps", "3200")
    assert after(3200, weak) == (*go_on, "--steps", "6400")
    assert after(6400, weak) is None
    assert after(800, "a base") is None


def test_a_name_that_no_task_has_is_told(gauntlet, monkeypatch, capsys) -> None:
    monkeypatch.setattr("sys.argv", ["gauntlet.py", "folder", "--tasks", "chess"])
    with pytest.raises(SystemExit):
        gauntlet.main()
    assert "Roman-v0" in capsys.readouterr().err
