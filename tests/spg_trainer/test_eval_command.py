"""The `eval` command: several lengths, pass@k, settings that cannot work, and the files that are left."""

import json
from dataclasses import replace
from importlib import import_module
from math import comb
from pathlib import Path

import pytest
import torch

import envs
from spg_trainer import Sampling, cli, evaluate, load_model
from spg_trainer.config import EvalCommand, ModelConfig
from spg_trainer.errors import CheckpointError, ConfigError
from spg_trainer.evaluation import evaluate_lengths, figures, length_sampling, result_name
from spg_trainer.models import Policy, new_tiny, save_model, tiny_tokenizer


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained model in a folder."""
    folder = tmp_path_factory.mktemp("eval") / "model"
    tokenizer = tiny_tokenizer()
    ends = (tokenizer.eos_token_id, tokenizer.convert_tokens_to_ids("<|eot_id|>"))
    network = new_tiny(hidden_size=16, layers=1, heads=2, ffn=24)
    save_model(Policy(network, tokenizer, tokenizer.mask_token_id, tokenizer.pad_token_id, ends, ""), folder)
    return folder


@pytest.fixture
def command(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> EvalCommand:
    """Three puzzles, two lengths."""
    monkeypatch.chdir(tmp_path)
    return EvalCommand(
        num_problems=3,
        max_completion_length=(8, 24),
        block_length=12,
        tokens_per_step=4,
        model=ModelConfig(model=str(model), device="cpu"),
    )


def test_every_length_is_evaluated_with_its_own_steps(command: EvalCommand) -> None:
    found = evaluate_lengths(command, quiet=True)
    assert list(found) == [8, 24]
    for length, steps, block in ((8, 2, 8), (24, 6, 12)):
        result = found[length]
        said = result.settings
        assert (said["max_completion_length"], said["diffusion_steps"], said["block_length"]) == (
            length,
            steps,
            block,
        )
        assert said["split"] == "test" and said["temperature"] == 0 and said["num_generations"] == 1
        assert result.n == 3 and [row["index"] for row in result.rows] == [0, 1, 2]
        assert result.pass_at == {1: result.correct}
        assert all(len(row["reveal_step"]) == length and row["length"] <= length for row in result.rows)
        assert 0 == result.low <= result.correct <= result.high < 1
        assert sum(result.reasons.values()) == 3
    assert found[8].rows[0]["completion"] != found[24].rows[0]["completion"]


def test_the_same_command_gives_the_same_completions(command: EvalCommand) -> None:
    def texts(**changes: object) -> list[str]:
        sampled = replace(command, max_completion_length=(12,), temperature=1.0, num_generations=2, **changes)
        return [row["completion"] for row in evaluate_lengths(sampled, quiet=True)[12].rows]

    first = texts()
    torch.rand(3)
    assert texts() == first != texts(seed=1)
    assert texts(num_problems=2) == first[:4], "the noise is keyed by problem and generation"
    policy = load_model(command.model.model, device="cpu")
    one = evaluate(
        policy,
        envs.make("sudoku", split="test"),
        Sampling(12, 12, 3, 1.0),
        num_generations=2,
        num_problems=3,
        rows_per_forward=1,
    )
    assert [row["completion"] for row in one.rows] == first
    assert len(first) == 6 and first[0] != first[1]


def test_several_completions_give_pass_at_k(command: EvalCommand, monkeypatch: pytest.MonkeyPatch) -> None:
    module = import_module("spg_trainer.evaluation")  # the package shows the function of that name
    solved = {(0, 0), (0, 1), (0, 2), (2, 3)}
    sample = module.sample_and_score

    def judged(policy, env, index, generation, *args, **options):
        scored = sample(policy, env, index, generation, *args, **options)
        pairs = zip(index.tolist(), generation.tolist(), strict=True)
        scored.correct[:] = [pair in solved for pair in pairs]
        return scored

    monkeypatch.setattr(module, "sample_and_score", judged)
    several = replace(
        command, num_generations=5, temperature=0.9, max_completion_length=(12,), rows_per_forward=2
    )
    result = evaluate_lengths(several, quiet=True)[12]
    assert result.n == 15 and result.correct == pytest.approx(4 / 15)
    expected = {k: sum(1 - comb(5 - c, k) / comb(5, k) for c in (3, 0, 1)) / 3 for k in (1, 2, 4)}
    assert result.pass_at == pytest.approx(expected)
    assert result.low < 4 / 15 < result.high and result.high - result.low > 0.5, (
        "3 problems, not 15, are the sample"
    )
    shown = figures(result)
    assert "solved 0.267" in shown and f"pass@4 {expected[4]:.3f}" in shown and "pass@1" not in shown


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"num_generations": 4}, r"--num-generations 4 at --temperature 0 .* e.g. --temperature 0.9"),
        ({"num_generations": 0}, "--num-generations 0: should be at least 1"),
        ({"num_problems": -2}, "--num-problems -2: should be 0 or more"),
        ({"tokens_per_step": -1.0}, "--tokens-per-step -1.0: should be above 0"),
        ({"max_completion_length": (24, 25)}, "block_length=12 does not divide max_completion_length=25"),
        ({"max_completion_length": ()}, "--max-completion-length needs at least one length"),
        ({"env_args": {"split": "test"}}, r"--env-args split=test: use --split"),
    ],
)
def test_settings_that_cannot_work_are_told_before_the_model_is_opened(command, changes, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        evaluate_lengths(replace(command, model=ModelConfig(model="./nowhere"), **changes), quiet=True)


def test_without_a_place_for_them_no_files_are_written(
    command: EvalCommand, model: Path, tmp_path: Path
) -> None:
    before = sorted(model.rglob("*"))
    evaluate_lengths(command, quiet=True)
    assert list(tmp_path.iterdir()) == [] and sorted(model.rglob("*")) == before


def check_files(folder: Path, command: EvalCommand) -> None:
    """A JSON of figures and a JSONL of completions per length."""
    assert sorted(path.name for path in folder.iterdir()) == [
        "sudoku-test-24.json",
        "sudoku-test-24.jsonl",
        "sudoku-test-8.json",
        "sudoku-test-8.jsonl",
    ]
    for length in (8, 24):
        said = json.loads((folder / f"sudoku-test-{length}.json").read_text())
        assert {
            "correct",
            "n",
            "low",
            "high",
            "rewards",
            "pass_at",
            "reasons",
            "settings",
            "model",
        } <= said.keys()
        assert said["n"] == 3 and said["settings"]["max_completion_length"] == length
        assert "rows" not in said
        rows = [
            json.loads(text) for text in (folder / f"sudoku-test-{length}.jsonl").read_text().splitlines()
        ]
        assert [row["index"] for row in rows] == [0, 1, 2]
        assert {"task", "prompt", "completion", "rewards", "correct", "reason", "puzzle"} <= rows[0].keys()


def test_results_go_where_output_dir_says(command: EvalCommand, tmp_path: Path) -> None:
    evaluate_lengths(replace(command, output_dir="results"), quiet=True)
    check_files(tmp_path / "results" / "eval", command)
    said = json.loads((tmp_path / "results" / "eval" / "sudoku-test-8.json").read_text())
    assert said["model"] == command.model.model


def test_results_of_a_run_go_into_the_run(command: EvalCommand, model: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.yaml").write_text("env: sudoku\n")
    (run / "model").symlink_to(model)
    evaluate_lengths(replace(command, model=ModelConfig(model=str(run), device="cpu")), quiet=True)
    check_files(run / "eval", command)


def test_arguments_of_the_environment_are_part_of_a_results_name(
    command: EvalCommand, tmp_path: Path
) -> None:
    other = replace(
        command,
        split="validation",
        env_args={"blanks": "4-5"},
        reward_weights={"cells": 1.0},
        max_completion_length=(8,),
        output_dir="results",
    )
    result = evaluate_lengths(other, quiet=True)[8]
    assert result.settings["split"] == "validation" and "4-5" in result.settings["env"]
    names = {path.name for path in (tmp_path / "results" / "eval").iterdir()}
    assert names == {
        f"{result.settings['env']}-validation-8.json",
        f"{result.settings['env']}-validation-8.jsonl",
    }
    row = result.rows[0]
    assert row["reward"] == row["rewards"]["correct"] + row["rewards"]["cells"]


def test_unusual_settings_are_part_of_a_results_name(command: EvalCommand) -> None:
    def name(**changes: object) -> str:
        return result_name(replace(command, **changes), "sudoku", 8)

    assert name() == "sudoku-test-8"
    assert name(temperature=0.9) == "sudoku-test-8-t0.9"
    assert name(temperature=1.0, num_generations=4, seed=3) == "sudoku-test-8-t1-g4-s3"


def test_a_result_of_other_settings_or_another_model_is_not_overwritten(
    command: EvalCommand, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    once = replace(command, max_completion_length=(8,), output_dir="results")
    evaluate_lengths(once, quiet=True)
    file = tmp_path / "results" / "eval" / "sudoku-test-8.json"
    before = file.read_text()
    evaluate_lengths(once, quiet=True)  # the same again may be written again
    assert file.read_text() == before
    module = import_module("spg_trainer.evaluation")
    monkeypatch.setattr(module, "evaluate", lambda *_, **__: pytest.fail("told only after the work"))
    with pytest.raises(
        ConfigError, match=r"sudoku-test-8.json holds another result: diffusion_steps was 2, now 4"
    ):
        evaluate_lengths(replace(once, tokens_per_step=2), quiet=True)
    with pytest.raises(ConfigError, match="num_problems was 3, now 2"):
        evaluate_lengths(replace(once, num_problems=2), quiet=True)
    file.write_text(before.replace(command.model.model, "GSAI-ML/LLaDA-8B-Base"))
    with pytest.raises(ConfigError, match="model was 'GSAI-ML/LLaDA-8B-Base', now"):
        evaluate_lengths(once, quiet=True)
    file.write_text("{")
    with pytest.raises(ConfigError, match="is in the way and holds no result"):
        evaluate_lengths(once, quiet=True)


def test_steps_are_a_multiple_of_the_blocks(command: EvalCommand) -> None:
    for rate, steps in ((7, 4), (3, 8), (5, 4), (100, 2), (1, 24)):
        found = length_sampling(replace(command, tokens_per_step=rate), 24)
        assert (found.diffusion_steps, found.num_blocks) == (steps, 2), rate
    with pytest.raises(ConfigError, match="block_length=0 must be"):
        length_sampling(replace(command, block_length=0), 24)


def test_a_folder_that_cannot_be_written_is_told_first_and_not_with_resume(
    command: EvalCommand, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = import_module("spg_trainer.evaluation")
    monkeypatch.setattr(module, "load_model", lambda *_, **__: pytest.fail("told only after the work"))
    (tmp_path / "results").write_text("a file where a folder should be")
    with pytest.raises(CheckpointError, match="choose another --output-dir") as caught:
        evaluate_lengths(replace(command, output_dir="results"), quiet=True)
    assert "--resume" not in str(caught.value)


def test_the_command_line_shows_a_line_per_length(command, model: Path, capsys, monkeypatch) -> None:
    monkeypatch.setattr(cli, "quiet_libraries", lambda: None)
    words = [
        "eval",
        "--env",
        "sudoku",
        "--env-args",
        "prompt_style=plain",
        "--model",
        str(model),
        "--num-problems=2",
    ]
    words += [
        "--max-completion-length",
        "8",
        "24",
        "--block-length",
        "8",
        "--device",
        "cpu",
        "--output-dir",
        "out",
    ]
    assert cli.main(words) == 0
    out = capsys.readouterr().out
    for length in (8, 24):
        assert f"sudoku test, {length} tokens: solved 0.000 [0.000, 0.658] of 2;" in out
        assert f"Written: out/eval/sudoku-test-{length}.json" in out
    assert "format 0.000" in out and "no end " in out
