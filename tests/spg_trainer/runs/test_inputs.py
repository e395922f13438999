"""A run notices when its own environment or algorithm has changed, and goes on without the original files."""

import contextlib
import json
import shutil
import sys
import zlib
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest
import yaml

import envs
from envs.files.datasets import Row, state_of
from spg_trainer.algorithms import get
from spg_trainer.cli import main
from spg_trainer.errors import ConfigError
from spg_trainer.evaluation.command import changed_code
from spg_trainer.runs.inputs import (
    Input,
    file_settings,
    find_inputs,
    hash_of,
    name_files,
    with_copies,
    write_inputs,
)
from spg_trainer.runs.resume import refuse_changed_files, refuse_changed_hub
from spg_trainer.settings.check import check
from spg_trainer.settings.configs import Config, EvalCommand, OutputConfig
from spg_trainer.settings.recorded import refuse_unregistered
from spg_trainer.settings.resolve import defaults
from spg_trainer.training.loop import train
from tests.common.own_cases import Mine, forget
from tests.common.sft_cases import SMALL, sft
from tests.common.task_file import task_text, write_task
from tests.common.trainer_cases import Letters, change, rows, small_config

ALGORITHM = """
from dataclasses import dataclass

from spg_trainer.algorithms import Algorithm, Loss
from spg_trainer.likelihood.bounds import elbo


@dataclass(frozen=True)
class Mine(Algorithm):
    masking: str = "random"
    strength: float = 0.5

    def loss(self, logps, masks, batch) -> Loss:
        terms = self.strength * batch.advantages.to(logps) * elbo(logps, masks)
        return Loss(-terms.sum() / batch.totals["completions"], {})
"""


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> dict[str, object]:
    """The settings of a run of one step, in tmp_path/run, with an environment and an algorithm of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    name = f"{zlib.crc32(request.node.name.encode()):x}"  # files of several tests register different tasks
    env = write_task("./task.py", Mine, id=f"test/Own{name}-v0")
    Path("mine.py").write_text(ALGORITHM)
    settings = {"env": env, "env_args": {}, "algorithm": "./mine.py:Mine"}
    settings |= {"algorithm_args": {"p_mask_prompt": 0.0}, "save_steps": 1}
    train(small_config(tmp_path / "run", max_steps=1, **settings), quiet=True)
    return settings


def command(*words: str, cwd: str = ".") -> None:
    """Trains to step 2 as a process does in which no file has been imported yet."""
    forget(Path.cwd())
    with contextlib.chdir(cwd):
        assert main([*words, "--max-steps", "2", "--device", "cpu"]) == 0


def resumed(settings: dict[str, object], steps: int = 2) -> None:
    train(small_config(None, max_steps=steps, resume="run", **settings), quiet=True)


def test_every_hyper_parameter_and_both_files_are_kept(run) -> None:
    written = yaml.safe_load(Path("run/config.yaml").read_text())["algorithm_args"]
    assert written["strength"] == 0.5 and written["p_mask_prompt"] == 0.0 and written["masking"] == "random"
    assert (
        Path("run/algorithm/mine.py").read_text() == ALGORITHM and Path("run/environment/task.py").is_file()
    )


def test_a_file_is_kept_where_its_task_is_not_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`--env ./task.py` is enough where a file has one task."""
    monkeypatch.chdir(tmp_path)
    write_task("task.py", Mine, id="test/OwnAlone-v0")
    config, run = small_config(None, env=str(tmp_path / "task.py"), env_args={}), tmp_path / "run"
    write_inputs(run, find_inputs(file_settings(config)))
    recorded = {"env": config.env, "algorithm": "spg"}
    assert with_copies(run, recorded) == recorded
    Path("task.py").unlink()
    assert with_copies(run, recorded) == {**recorded, "env": f"{run}/environment/task.py"}


@pytest.mark.parametrize(
    ("file", "old", "new", "copies"),
    [
        ("task.py", '"correct": float("e" in', '"correct": float("f" in', "environment"),
        ("mine.py", "strength: float = 0.5", "strength: float = 0.7", "algorithm"),
    ],
)
def test_a_changed_file_is_refused_with_both_ways_out(run, file, old, new, copies) -> None:
    text = Path(file).read_text()
    assert old in text
    Path(file).write_text(text.replace(old, new))
    with pytest.raises(ConfigError) as refused:
        resumed(run)
    said = str(refused.value)
    assert f"{Path(file).absolute()} has changed since run began" in said and "--accept-changed-code" in said
    assert f"of which run/{copies}/{file} is a copy, or name this copy" in said and "--output-dir" in said
    assert len(rows(Path("run/metrics.jsonl"))) == 1


@pytest.mark.parametrize("by_id", [False, True])
def test_code_that_is_named_by_its_module_is_kept_as_a_file_is(tmp_path: Path, monkeypatch, by_id) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    task, algorithm, id = f"named_task{by_id:d}", f"named_mine{by_id:d}", f"test/Named{by_id:d}-v0"
    write_task(f"{task}.py", Mine, id=id)
    Path(f"{algorithm}.py").write_text(ALGORITHM)
    if by_id:
        import_module(task)
    settings = {"env": id if by_id else f"{task}:{id}", "env_args": {}, "algorithm": f"{algorithm}:Mine"}
    settings["algorithm_args"] = {"p_mask_prompt": 0.0}
    train(small_config(tmp_path / "run", max_steps=1, save_steps=1, **settings), quiet=True)
    for file, copies in ((f"{algorithm}.py", "algorithm"), (f"{task}.py", "environment")):
        assert (tmp_path / "run" / copies / file).is_file()
        text = Path(file).read_text()
        Path(file).write_text(f"{text}# edited")
        with pytest.raises(ConfigError, match=rf"{file} has changed.* run/{copies}/{file} is a copy"):
            resumed(settings)
        Path(file).write_text(text)
    command("--resume", "run")  # which has imported neither
    assert len(rows(Path("run/metrics.jsonl"))) == 2


def test_an_algorithm_that_a_script_has_imported_is_not_loaded_again(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    Path("imported_mine.py").write_text(ALGORITHM)
    (pinned,) = name_files({"algorithm": "imported_mine:Mine"}).texts.values()
    assert pinned == f"{tmp_path}/imported_mine.py:Mine"
    module = import_module("imported_mine")
    assert get(pinned) is module.Mine
    Path("imported_mine.py").write_text(ALGORITHM.replace("0.5", "0.7"))
    assert get(pinned).strength == 0.7


def test_code_of_a_package_and_a_registered_verifier_are_kept_under_their_names(
    tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    package = tmp_path / "named_package"
    package.mkdir()
    (package / "__init__.py").touch()
    write_task(package / "tasks.py", Mine, id="test/Packaged-v0")
    (package / "judge.py").write_text(
        "import verifiers\n"
        "def judge(completion, *, mode, answer): return verifiers.Verdict(True, 1.0, None, 'ok', 'text')\n"
        "verifiers.register('packaged', fields=['answer'], verify=judge)\n"
    )
    (package / "rules.py").touch()
    import_module("named_package.judge")
    settings = {"env": "named_package.tasks:test/Packaged-v0", "env_args.verifier": "packaged"}
    settings |= {"rollout.remasking": "named_package.rules:order", "algorithm": "spg"}
    found = find_inputs(settings)
    for name, file in (("env", "tasks"), ("env_args.verifier", "judge"), ("rollout.remasking", "rules")):
        assert found[name].path == str(package / f"{file}.py") and found[name].copy.endswith(f"/{file}.py")
    assert name_files(settings).texts == settings
    for installed in ("numpy:zeros", "json:loads"):
        assert find_inputs({"env": "sudoku", "env_args.verifier": "gsm8k", "algorithm": installed}) == {}


def test_a_package_that_cannot_be_imported_is_left_to_those_who_load_it(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    for package, raises in (
        ("raising_package", "raise OSError('no data')"),
        ("ending_package", "raise SystemExit"),
    ):
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").write_text(raises)
        settings = {"rollout.remasking": f"{package}.rules:order", "algorithm": f"{package}.mine:Mine"}
        assert name_files(settings).texts == settings and find_inputs(settings) == {}


def test_a_task_that_another_module_registers_keeps_its_name(tmp_path: Path, monkeypatch) -> None:
    """Its own file registers nothing, so that no other process would find it there."""
    name = "test/Elsewhere-v0"
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "defining.py").write_text(task_text(Mine))
    register = f'import envs\nfrom defining import Mine\nenvs.register("{name}", Mine)\n'
    (tmp_path / "registering.py").write_text(register)
    import_module("registering")
    assert name_files({"env": name}).texts == {"env": name}
    inputs = find_inputs({"env": name})
    assert inputs["env"].path == str(tmp_path / "defining.py")
    write_inputs(tmp_path / "run", inputs)
    forget(tmp_path)
    with pytest.raises(
        ConfigError, match=r"by another module.*a file that registers the task.* --env \./FILE\.py:"
    ):
        refuse_unregistered(tmp_path / "run", name)


def test_of_the_modules_beside_a_file_those_that_it_imports_count(tmp_path: Path) -> None:
    """By the text of the imports, so also before they are loaded; the script that starts a run changes each time."""
    imports = "import helper.part, json\nfrom .near import a\nfrom . import next_to_it\nfrom mine import b"
    texts = {
        "mine": imports,
        "helper": "from deeper import x",
        "deeper": "import mine",
        "drive": "import mine",
    }
    for name in ("near", "next_to_it", "a", "b", "x", "part", *texts):
        (tmp_path / f"{name}.py").write_text(texts.get(name, ""))
    settings, run = {"algorithm": f"{tmp_path}/mine.py:Mine"}, tmp_path / "run"
    write_inputs(run, found := find_inputs(settings))
    names = {"mine", "helper", "deeper", "near", "next_to_it"}
    assert {Path(one.path).stem for one in found.values()} == names
    assert {file.stem for file in (run / "algorithm").iterdir()} == names
    (tmp_path / "drive.py").write_text("max_steps = 9")
    refuse_changed_files(run, find_inputs(settings), accept_code=False)
    (tmp_path / "deeper.py").write_text("changed = True")
    with pytest.raises(ConfigError, match=rf"{tmp_path}/deeper\.py has changed"):
        refuse_changed_files(run, find_inputs(settings), accept_code=False)
    refuse_changed_files(run, find_inputs(settings), accept_code=True)
    (tmp_path / "mine.py").write_text("import helper (")  # Python says so when it loads the file
    with pytest.raises(ConfigError, match=r"mine\.py has changed"):
        refuse_changed_files(run, find_inputs(settings), accept_code=False)


def test_the_first_file_of_a_package_is_code_of_its_modules(tmp_path: Path) -> None:
    package, run = tmp_path / "mine", tmp_path / "run"
    package.mkdir()
    (package / "__init__.py").write_text("LEVEL = 1")
    (package / "task.py").write_text("from mine import LEVEL")
    settings = {"env": f"{package}/task.py:my/Task-v0"}
    write_inputs(run, find_inputs(settings))
    (package / "__init__.py").write_text("LEVEL = 0")
    with pytest.raises(ConfigError, match=r"__init__\.py has changed.* is a copy\. To go on"):
        refuse_changed_files(run, find_inputs(settings), accept_code=False)


def test_a_folder_of_data_may_hold_a_broken_link(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text("{}")
    (tmp_path / "gone.json").symlink_to("/nowhere")
    settings = {"env_args.source": str(tmp_path)}
    assert [one.path for one in find_inputs(settings).values()] == [str(tmp_path)]


def test_the_script_that_defines_the_task_is_code_of_its_run(tmp_path: Path, monkeypatch) -> None:
    script, run = tmp_path / "drive.py", tmp_path / "run"
    script.write_text("pays = 2")
    loaded = ModuleType("__main__")
    loaded.__file__ = str(script)
    monkeypatch.setitem(sys.modules, "__main__", loaded)

    class InScript(Letters):
        __module__ = "__main__"

    envs.register("test/InScript-v0", InScript)
    for name in ("test/InScript-v0", "inscript", "sudoku + inscript"):
        assert [one.path for one in find_inputs({"env": name}).values()] == [str(script)]
    assert find_inputs({"env": "sudoku"}) == {}
    settings = {"env": "test/InScript-v0"}
    write_inputs(run, find_inputs(settings))
    assert (run / "environment" / "drive.py").is_file()
    refuse_changed_files(run, find_inputs(settings), accept_code=False)
    script.write_text("pays = 3")
    with pytest.raises(ConfigError, match=r"drive\.py has changed"):
        refuse_changed_files(run, find_inputs(settings), accept_code=False)


@pytest.mark.parametrize("is_in_file", [True, False])
def test_a_task_of_a_script_that_does_not_run_is_refused_with_the_script(tmp_path: Path, is_in_file) -> None:
    run, script, id = tmp_path / "run", tmp_path / "drive.py", "test/NotHere-v0"
    script.write_text(f"envs.register({id!r}, Mine)")
    entry = Input(str(script), hash_of(str(script)), "environment/drive.py", script.read_bytes())
    write_inputs(run, {"env": entry} if is_in_file else {})
    (run / "environment.json").write_text(json.dumps({"env": f"{id} + sudoku"}))
    (run / "config.yaml").write_text(f"env: {id} + sudoku")
    by_file = f"{script if is_in_file else './FILE.py'}:{id}"
    said = (
        f"is registered by .* this process does not run.*under `if __name__ == .__main__.:`, --env {by_file}"
    )
    with pytest.raises(ConfigError, match=said):
        check(Config(env=f"{id} + sudoku", output=OutputConfig(resume=str(run))))
    script.unlink()
    if is_in_file:
        with pytest.raises(ConfigError, match=f"--env {run}/environment/drive.py:{id}"):
            refuse_unregistered(run, id)
    refuse_unregistered(run, "sudoku + ./mine.py:test/NotHere-v0")


def test_the_runs_own_copy_goes_on(run) -> None:
    shutil.copytree("run", "unchanged")
    command("--resume", "unchanged")
    # A task that pays nothing now, so that the second step shows which of the two files was loaded.
    Path("task.py").write_text(Path("task.py").read_text().replace('"e" in', '"no such text" in'))
    name = str(run["env"]).rpartition(":")[2]
    command("--resume", "run", "--env", f"run/environment/task.py:{name}")
    assert rows(Path("run/metrics.jsonl")) == rows(Path("unchanged/metrics.jsonl"))
    assert rows(Path("run/metrics.jsonl"))[1]["reward"] > 0


@pytest.mark.parametrize("is_gone", [True, False])
def test_a_run_that_went_on_with_its_own_copy_is_evaluated_with_it(run, is_gone) -> None:
    """Though the file of its own environment is there again, or still, with another content."""
    file, (_, _, id) = Path("task.py"), run["env"].rpartition(":")
    edited = file.read_text().replace('"e" in', '"" in')
    if is_gone:
        file.unlink()
        command("--resume", "run")
    file.write_text(edited)
    if not is_gone:
        command("--resume", "run", "--env", f"run/environment/task.py:{id}")
    for model in ("run", "run/model", "run/checkpoints/step-000001"):
        asked = defaults(EvalCommand, model=model)
        assert Path(asked.env) == Path(f"run/environment/task.py:{id}").absolute()
        assert changed_code(asked) == []


def test_a_repaired_file_goes_on_where_that_is_asked_for(run) -> None:
    """A reward that raised stops a run; what was repaired is then the run's own code."""
    repaired = Path("task.py").read_text().replace('"e" in', '"no such text" in')
    Path("task.py").write_text(repaired)
    with pytest.raises(ConfigError, match="--accept-changed-code"):
        resumed(run)
    command("--resume", "run", "--accept-changed-code")
    assert rows(Path("run/metrics.jsonl"))[1]["reward"] == 0
    assert Path("run/environment/task.py").read_text() == repaired
    assert "accept_changed_code: false" in Path("run/config.yaml").read_text()


def test_a_moved_run_resumes_without_the_original_files(run, tmp_path: Path) -> None:
    shutil.copytree("run", "kept")
    resumed(run)
    Path("elsewhere").mkdir()
    shutil.move("kept", "elsewhere/moved")
    for file in ("task.py", "mine.py"):
        Path(file).unlink()
    command("--resume", "moved", cwd="elsewhere")
    assert rows(Path("elsewhere/moved/metrics.jsonl")) == rows(Path("run/metrics.jsonl"))


def test_changed_data_is_refused_with_what_differs_and_both_ways_out(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    problems = [{"question": f"What is 1 + {n}?", "solution": f"#### {n + 1}"} for n in range(60)]
    file.write_text("".join(json.dumps(problem) + "\n" for problem in problems))
    columns = {"verifier": "gsm8k", "prompt": "question", "answer": "solution"}
    settings = {"env": str(file), "env_args": columns}
    train(small_config(tmp_path / "run", max_steps=1, **settings), quiet=True)
    train(small_config(None, max_steps=2, resume=str(tmp_path / "run"), **settings), quiet=True)
    before = hash_of(str(file))
    file.write_text(file.read_text().replace("#### 5", "#### 6"))
    with pytest.raises(ConfigError) as refused:
        train(small_config(None, max_steps=3, resume=str(tmp_path / "run"), **settings), quiet=True)
    said = str(refused.value)
    assert f"{file} has changed" in said and before in said and hash_of(str(file)) in said
    assert "put the old one back" in said and "--output-dir" in said
    file.write_text(file.read_text().replace("#### 6", "#### 5", 1))
    assert len(rows(tmp_path / "run" / "metrics.jsonl")) == 2


def test_a_data_set_of_the_hub_that_has_changed_is_refused_unless_its_commit_is_pinned(tmp_path):
    old, new = "a" * 40, "b" * 40
    now = [old]

    class Revised(Letters):
        def __init__(self, split: str = "train", revision: str | None = None) -> None:
            super().__init__(split)
            self.origin = {"someone/letters": revision or now[-1]}

    envs.register("test/Revised-v0", Revised)
    settings = {"env": "revised"}
    train(small_config(tmp_path / "run", max_steps=1, **settings), quiet=True)
    train(small_config(None, max_steps=2, resume=str(tmp_path / "run"), **settings), quiet=True)
    now.append(new)
    with pytest.raises(ConfigError) as refused:
        train(small_config(None, max_steps=3, resume=str(tmp_path / "run"), **settings), quiet=True)
    said = str(refused.value)
    assert f"someone/letters has changed since {tmp_path / 'run'} began" in said
    assert f"--env-args revision={old}" in said and "--output-dir" in said
    wrong = small_config(
        None, max_steps=3, resume=str(tmp_path / "run"), **settings, env_args={"revision": new}
    )
    with pytest.raises(ConfigError, match=r"a run of other settings: env_args\.revision"):
        train(wrong, quiet=True)
    again = small_config(
        None, max_steps=3, resume=str(tmp_path / "run"), **settings, env_args={"revision": old}
    )
    train(again, quiet=True)
    assert len(rows(tmp_path / "run" / "metrics.jsonl")) == 3


def test_a_change_of_rows_without_a_commit_is_refused_too(tmp_path):
    before = {"a/b": state_of([Row("1", {"x": 1})], None), "mine.jsonl": "sha256 0"}
    (tmp_path / "environment.json").write_text(json.dumps({"origin": before}))
    refuse_changed_hub(tmp_path, {**before, "mine.jsonl": "sha256 1"})  # a file has a check of its own
    refuse_changed_hub(tmp_path, before)
    now = {"a/b": state_of([Row("1", {"x": 2})], None)}
    with pytest.raises(
        ConfigError,
        match=r"a/b has changed.*rows of sha256 \w{64}, now .* put the old one back.*--output-dir",
    ):
        refuse_changed_hub(tmp_path, now)


def test_arguments_that_name_files_and_folders_are_hash_of(tmp_path: Path) -> None:
    (tmp_path / "set" / "main").mkdir(parents=True)
    for name in ("train.jsonl", "main/test.parquet", "README.md"):
        (tmp_path / "set" / name).write_text(name)
    arguments = {"gsm8k.source": str(tmp_path / "set"), "countdown.level": 2, "note": "x" * 5000}
    config = small_config(None, env="countdown + gsm8k", env_args=arguments, model="tiny")
    ((name, first),) = find_inputs(file_settings(config)).items()
    assert (name, first.path) == ("env_args.gsm8k.source", str(tmp_path / "set"))
    (tmp_path / "set" / "README.md").write_text("else")
    assert find_inputs(file_settings(config))[name] == first
    (tmp_path / "set" / "main" / "test.parquet").write_text("something else")
    assert find_inputs(file_settings(config))[name] != first


def test_a_folder_that_is_called_like_the_task_is_no_data_of_it(tmp_path: Path, monkeypatch) -> None:
    """`--env sudoku --output-dir sudoku` could not be resumed: the run's own files counted, and these grow."""
    monkeypatch.chdir(tmp_path)
    Path("sudoku").mkdir()
    Path("sudoku/metrics.jsonl").write_text("{}")
    assert find_inputs(file_settings(small_config(None, env="sudoku", env_args={}, model="tiny"))) == {}


def test_a_run_on_demonstrations_notices_that_its_task_has_changed(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)

    class Taught(Mine):
        def demonstration(self, problem):
            return DEMONSTRATION  # noqa: F821

    def write(demonstration: str) -> str:
        return write_task("./own.py", Mine, Taught, id="test/OwnTaught-v0", DEMONSTRATION=demonstration)

    config = change(SMALL, env=write("e"), output_dir="base")
    sft(config)
    write("ee")
    with pytest.raises(ConfigError, match=r"own\.py has changed since base began.*base/environment/own\.py"):
        sft(change(config, resume="base", max_steps=4))
    assert sft(change(config, resume="base", max_steps=4, accept_changed_code=True))
