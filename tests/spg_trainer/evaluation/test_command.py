"""The `eval` command measures what its flags say, and leaves each result in a file that no other one touches."""

import glob
import json
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

import envs
from spg_trainer import Sampling, cli, evaluate, load_model
from spg_trainer.errors import CheckpointError, ConfigError
from spg_trainer.evaluation import command as eval_command
from spg_trainer.evaluation import evaluate as evaluation
from spg_trainer.evaluation.command import run_eval
from spg_trainer.evaluation.evaluate import Evaluation
from spg_trainer.runs.folder import RunFolder
from spg_trainer.settings.fields import EvalCommand, ModelConfig
from spg_trainer.training.loop import train
from tests.common.process_cases import run_processes
from tests.common.trainer_cases import ENV, child_environment, rows, small_config, snapshot, tiny_folder


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> EvalCommand:
    """Three puzzles, two lengths."""
    monkeypatch.chdir(tmp_path)
    model = ModelConfig(model=str(tiny_folder()), device="cpu")
    return EvalCommand("sudoku", {}, {}, "test", 3, 1, (8, 24), 12, (), 4, model=model)


def test_every_length_is_evaluated_with_its_own_steps_and_leaves_no_files(command, tmp_path):
    before = snapshot(tiny_folder())
    results = run_eval(command, quiet=True)
    for result, (length, steps, block) in zip(results, ((8, 2, 8), (24, 6, 12)), strict=True):
        settings, rows = result.settings, result.rows
        sizes = [settings[name] for name in ("max_completion_length", "diffusion_steps", "block_length")]
        assert sizes == [length, steps, block]
        assert settings["split"] == "test" and settings["temperature"] == 0
        assert [row["index"] for row in rows] == [0, 1, 2]
        assert all(len(row["reveal_step"]) == length and row["length"] <= length for row in rows)
    assert list(tmp_path.iterdir()) == [] and snapshot(tiny_folder()) == before


def test_the_command_samples_as_the_function_does(command):
    def texts(**changes: object) -> list[str]:
        sampled = replace(command, max_completion_length=(12,), temperature=1.0, num_generations=2, **changes)
        return [row["completion"] for row in run_eval(sampled, quiet=True)[0].rows]

    first = texts()
    assert texts() == first != texts(seed=1)
    assert texts(num_problems=2) == first[:4], "the noise is keyed by problem and generation"
    env, sampling = envs.make("sudoku", split="test"), Sampling(12, 12, 3, 1.0)
    policy = load_model(command.model.model, device="cpu")
    one = evaluate(policy, env, sampling, num_generations=2, num_problems=3, rows_per_forward=1)
    assert [row["completion"] for row in one.rows] == first and first[0] != first[1]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"num_generations": 4}, r"--num-generations 4 at --temperature 0 .* e.g. --temperature 0.9"),
        ({"max_completion_length": (24, 25)}, "block_length=12 does not divide max_completion_length=25"),
        ({"max_completion_length": ()}, "--max-completion-length needs at least one length"),
        ({"env_args": {"split": "test"}}, r"--env-args split=test: use --split"),
        ({"block_length": 0}, "block_length=0 must be"),
        ({"diffusion_steps": (5,)}, "Use diffusion_steps=6"),
        ({"diffusion_steps": (4, 16)}, "diffusion_steps=16 .* Use diffusion_steps="),
        ({"env": "queens", "protocol": ("papers",)}, "the papers have countdown, .* not queens"),
        ({"protocol": ()}, "--protocol needs at least one"),
        ({"output_dir": "file"}, "choose another --output-dir"),
    ],
)
def test_what_cannot_work_is_told_before_the_model_is_opened(command, tmp_path, changes, words):
    (tmp_path / "file").write_text("a file where a folder should be")
    with pytest.raises((ConfigError, CheckpointError), match=words) as caught:
        run_eval(replace(command, model=ModelConfig(model="./nowhere"), **changes), quiet=True)
    assert "--resume" not in str(caught.value)


@pytest.mark.parametrize("place", ["output_dir", "run"])
def test_results_go_where_output_dir_says_or_into_the_run(command, tmp_path, place):
    folder = tmp_path / "results"
    if place == "run":
        folder.mkdir()
        (folder / "config.yaml").write_text("env: sudoku\n")
        (folder / "model").symlink_to(tiny_folder())
        command = replace(command, model=ModelConfig(model=str(folder), device="cpu"))
    else:
        command = replace(command, output_dir="results")
    run_eval(command, quiet=True)
    assert len([*(folder / "eval").iterdir()]) == 4
    for length, steps in ((8, 2), (24, 6)):
        (file,) = (folder / "eval").glob(f"sudoku-test-{length}x{steps}-p3-*.json")
        content = json.loads(file.read_text())
        assert {"correct", "n", "low", "high", "rewards", "pass_at", "reasons"} <= content.keys()
        assert content["n"] == 3 and content["settings"]["max_completion_length"] == length
        assert "rows" not in content and (place == "run" or content["model"] == str(tiny_folder()))
        written = rows(file.with_suffix(".jsonl"))
        assert [row["index"] for row in written] == [0, 1, 2]
        assert {"task", "prompt", "completion", "rewards", "correct", "reason", "puzzle"} <= written[0].keys()


def test_every_length_is_measured_at_every_number_of_steps(command):
    results = run_eval(replace(command, diffusion_steps=(4, 8)), quiet=True)
    sizes = [(r.settings["max_completion_length"], r.settings["diffusion_steps"]) for r in results]
    assert sizes == [(8, 4), (8, 8), (24, 4), (24, 8)]
    assert results[1].rows[0]["reveal_step"] != results[0].rows[0]["reveal_step"]


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "eval").glob("*.json"))


def test_every_measurement_has_a_file_of_its_own(command, tmp_path):
    once = replace(command, max_completion_length=(8,), output_dir="results")
    sampled = {"temperature": 1.0, "num_generations": 2}
    changes = [
        {},
        {"num_problems": 2},
        {"diffusion_steps": (4,)},
        {"seed": 1},
        {"split": "validation"},
        sampled,
    ]
    changes += [{"env_args": {"blanks": "4-5"}}, {"reward_weights": {"cells": 1.0}}, {"block_length": 4}]
    for number, change in enumerate(changes, 1):
        before = snapshot(tmp_path / "results")
        (result,) = run_eval(replace(once, **change), quiet=True)
        assert len(names_in(tmp_path / "results")) == number, change
        assert before.items() <= snapshot(tmp_path / "results").items()
    assert result.rows[0]["reward"] >= result.rows[0]["rewards"]["correct"]
    shown = {name.rpartition("-")[0] for name in names_in(tmp_path / "results")}
    assert {
        "sudoku-test-8x2-p3",
        "sudoku-test-8x2-p2",
        "sudoku-test-8x4-p3",
        "sudoku-test-8x2-p3-s1",
    } <= shown
    assert {"sudoku-blanks=4-5-test-8x2-p3", "sudoku-test-8x2-p3-t1-g2", "sudoku-validation-8x2-p3"} <= shown


def test_names_need_no_quotes_and_mean_nothing_to_glob(command, tmp_path):
    env_args = {"blanks": "4-5", "size": 4, "prompt_style": "plain"}
    run_eval(replace(command, env_args=env_args, output_dir="results"), quiet=True)
    for path in map(str, (tmp_path / "results" / "eval").iterdir()):
        assert glob.glob(path) == [path] and shlex.quote(Path(path).name) in (
            Path(path).name,
            f"'{Path(path).name}'",
        )
        assert not set(Path(path).name) & set("[]{}()*?!$&|;<>'\"` ~#\\")


def test_the_same_measurement_is_read_again_without_the_work(command, tmp_path, monkeypatch):
    once = replace(command, output_dir="results")
    first, before = run_eval(once, quiet=True), snapshot(tmp_path)
    monkeypatch.setattr(eval_command, "evaluate", lambda *_, **__: pytest.fail("measured again"))
    again = run_eval(once, quiet=True)
    assert [r.summary() for r in again] == [r.summary() for r in first] and snapshot(tmp_path) == before
    with pytest.raises(pytest.fail.Exception, match="measured again"):  # other weights under the same name
        shutil.copytree(tiny_folder(), "model")
        policy = load_model("model", device="cpu")
        next(policy.model.parameters()).data[0].add_(1)
        monkeypatch.setattr(eval_command, "load_model", lambda *_, **__: policy)
        run_eval(once, quiet=True)


def test_an_evaluation_that_was_killed_goes_on_where_it_was(command, tmp_path, monkeypatch):
    """Killed in its third batch of two problems; a torn line and another process's share are there too."""
    monkeypatch.setattr(evaluation, "BATCH", 4)
    sampled = {"temperature": 1.0, "num_generations": 2, "num_problems": 7, "max_completion_length": (8,)}
    once = replace(command, output_dir="results", **sampled)
    (whole,) = run_eval(replace(once, output_dir="whole"), quiet=True)
    original, asked = evaluation.sample_and_score, []

    def killed(policy, env, index, *rest, **more):
        asked.append(index.tolist())
        if len(asked) == 3:
            raise KeyboardInterrupt
        return original(policy, env, index, *rest, **more)

    monkeypatch.setattr(evaluation, "sample_and_score", killed)
    with pytest.raises(KeyboardInterrupt):
        run_eval(once, quiet=True)
    (part,) = (tmp_path / "results" / "eval").glob(".*.part-0")
    assert len(part.read_text().split()) > 4 and names_in(tmp_path / "results") == []
    lines = part.read_text().splitlines(keepends=True)
    part.with_name(part.name[:-1] + "3").write_text(lines[-1])
    part.write_text("".join(lines)[:-9])
    (resumed,) = run_eval(once, quiet=True)
    assert asked == [[0, 0, 1, 1], [2, 2, 3, 3], [4, 4, 5, 5], [4, 4, 5, 5], [6, 6]]
    assert resumed.summary() == whole.summary()
    files = [snapshot(tmp_path / place / "eval") for place in ("results", "whole")]
    assert [*files[0].values()] == [*files[1].values()] and len(files[0]) == 2, (
        "byte for byte, and nothing else"
    )


@pytest.mark.slow
def test_two_processes_share_an_evaluation_and_write_it_once(command, tmp_path):
    words = (
        f"eval --env sudoku --num-problems 5 --device cpu --max-completion-length 8 --model {tiny_folder()}"
    )
    said = run_processes("spg_trainer", *words.split(), "--output-dir", str(tmp_path / "two"))
    assert cli.main([*words.split(), "--output-dir", str(tmp_path / "one")]) == 0
    files = [snapshot(tmp_path / place / "eval") for place in ("two", "one")]
    assert [*files[0].values()] == [*files[1].values()] and len(files[0]) == 2
    assert said[0].count("solved 0.") == 1 and said[1].strip() == ""


def test_the_papers_protocol_beside_ours(command, monkeypatch, capsys):
    """The tiny model has too few positions, so the lengths are those of a smaller paper."""
    given = replace(command, protocol=("papers",), num_generations=4, temperature=1.0, diffusion_steps=(8,))
    sizes = [(s.max_completion_length, s.diffusion_steps, s.block_length) for s in planned(given)]
    assert sizes == [(128, 64, 32), (256, 128, 32), (512, 256, 32)]
    assert all((s.temperature, s.remasking) == (0, "low_confidence") for s in planned(given))
    asked = []

    def answered(policy, env, sampling, **more):
        asked.append((env.problem(0).prompt, sampling.max_completion_length, more["num_generations"]))
        right = [
            dict(puzzle=p, rewards={"paper_cells": r}) for p, r in (("1000", 1.0), ("1234", 0), ("1230", 0.0))
        ]
        return Evaluation(
            0.5, 3, 0, 1, {"paper_cells": 0.5}, 9, 0, {}, {1: 0.5}, None, {"num_generations": 1}, right
        )

    monkeypatch.setattr(eval_command, "evaluate", answered)
    run_eval(replace(command, protocol=("ours", "papers"), max_completion_length=(8,)))
    assert [length for _, length, _ in asked] == [8, 128, 256, 512]
    assert asked[0][0].startswith("sudoku ") and "Sudoku as 16 digits" in asked[1][0]
    assert "; cell accuracy 0.750" in capsys.readouterr().out, (
        "3 of the 4 blanks, whichever puzzle they are of"
    )


def planned(command):
    (part,) = [eval_command.by_protocol(command, protocol) for protocol in command.protocol]
    assert part.num_generations == 1
    return eval_command.samplings(part)


TASK = """
import envs
from wanted import letter

class Mine(envs.TextEnv):
    reward_weights = {"correct": 1.0}
    task = "mine"

    def __init__(self, split="train"):
        self.part = split

    def __len__(self):
        return 8

    def problem(self, index):
        return envs.Problem(f"{self.part} {index}", {}, metadata={"index": index})

    def score(self, problem, completion):
        return envs.Score({"correct": float(letter in completion)}, "ok")

envs.register("test/Mine-v0", Mine)
"""


def test_a_moved_run_is_evaluated_with_its_own_environment_file(tmp_path, monkeypatch):
    start = tmp_path / "start"
    start.mkdir()
    monkeypatch.chdir(start)
    monkeypatch.setattr(sys, "path", [*sys.path])
    Path("mine.py").write_text(TASK)
    Path("wanted.py").write_text("letter = 'e'\n")
    summary = train(small_config("run", env="./mine.py:test/Mine-v0", env_args={}, max_steps=1), quiet=True)
    shutil.move("run", tmp_path / "moved")
    shutil.rmtree(start)
    start.mkdir()
    words = ["eval", "--device", "cpu", "--num-problems", "4", "--model"]
    models = [str(tmp_path / place) for place in ("moved", "moved/model", "moved/checkpoints/step-000001")]
    code = f"from spg_trainer.cli import main\nprint([main({words} + [m]) for m in {models}])"
    done = subprocess.run(
        [sys.executable, "-c", code], env=child_environment(), cwd=start, capture_output=True, text=True
    )
    assert "[0, 0, 0]" in done.stdout, done.stderr
    (file,) = (tmp_path / "moved" / "eval").glob("mine-test-10x6-p4-step1-*.json")
    assert json.loads(file.read_text())["correct"] == summary["eval_after"]["correct"]
    assert json.loads(file.read_text())["step"] == 1 and not [*start.iterdir()]
    assert done.stdout.count("Measured before") == 2, "one model, wherever it lies"


def test_a_resumed_training_leaves_evaluations_of_later_steps(tmp_path):
    folder = tmp_path / "run"
    train(small_config(folder, max_steps=2, save_steps=1, keep=9), quiet=True)
    command = EvalCommand(ENV, max_completion_length=(10,), model=ModelConfig(str(folder), device="cpu"))
    run_eval(command, quiet=True)
    (name,) = [name for name in names_in(folder) if name.startswith("letters-test-10x")]
    assert "-step2-" in name
    RunFolder(folder).truncate_after(1)
    assert name in names_in(folder)


@pytest.mark.parametrize(("rate", "steps"), [(7, 4), (3, 8), (5, 4), (100, 2), (1, 24)])
def test_steps_are_a_multiple_of_the_blocks(rate, steps):
    sampling = Sampling.at_rate(24, 12, rate)
    assert (sampling.diffusion_steps, sampling.num_blocks) == (steps, 2)


def test_the_command_line_shows_a_line_per_length(command, capsys, monkeypatch):
    monkeypatch.setattr(cli, "quiet_libraries", lambda: None)
    words = "eval --env sudoku --env-args prompt_style=plain --num-problems=2 --max-completion-length 8 24"
    words += f" --block-length 8 --device cpu --output-dir out --model {tiny_folder()}"
    assert cli.main(words.split()) == 0
    out = capsys.readouterr().out
    for length in (8, 24):
        assert re.search(
            rf"sudoku test, {length} tokens in \d+ steps: solved 0.000 \[0.000, 0.658\] of 2;", out
        )
        assert f"Written: out/eval/sudoku-test-{length}x" in out
    assert "format 0.000" in out and "no end " in out
