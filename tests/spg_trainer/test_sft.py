"""Base models from demonstrations: the loss, the same weights for the same seed, what the folder holds."""

import json
import os
from collections import Counter
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import pytest
import torch
from transformers import AutoModel, AutoTokenizer

import envs
from spg_trainer import cli, defaults, load_model
from spg_trainer.config import ModelConfig, SftCommand
from spg_trainer.console import Console
from spg_trainer.errors import CheckpointError, ConfigError, TrainingError
from spg_trainer.evaluation import evaluate
from spg_trainer.model_card import command_line
from spg_trainer.models import LLaDAForMaskedLM, Policy
from spg_trainer.supervised import (
    base_policy,
    denoising_loss,
    draw_masked,
    encode_completions,
    eval_sampling,
    evaluate_split,
    sft,
)
from spg_trainer.text import encode_prompts
from tests.spg_trainer import test_demonstrations

SMALL = SftCommand(
    env="count",
    steps=3,
    batch_size=4,
    max_completion_length=8,
    warmup_steps=1,
    learning_rate=1e-2,
    hidden_size=16,
    num_layers=1,
    num_heads=2,
    intermediate_size=24,
    model=ModelConfig(model="new", device="cpu"),
)


@pytest.fixture(scope="module")
def policy() -> Policy:
    return base_policy(SMALL)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model made from two habits of the task."""
    folder = tmp_path_factory.mktemp("sft") / "models" / "count"
    command = replace(
        SMALL, mix={"right": 1, "short": 3}, env_args={"offset": 1}, seed=5, output_dir=str(folder)
    )
    assert sft(command, quiet=True) == folder
    return folder


# the loss


def test_hidden_counts_are_uniform_and_places_depend_on_the_step_only() -> None:
    hidden, weight = draw_masked(4000, 4, 0, 0)
    assert torch.equal(weight, 1 / hidden.sum(1).float())
    counts = Counter(hidden.sum(1).tolist())
    assert set(counts) == {1, 2, 3, 4} and all(abs(n / 4000 - 0.25) < 0.04 for n in counts.values())
    assert (hidden[hidden.sum(1) == 1].float().mean(0) - 0.25).abs().max() < 0.06
    assert torch.equal(draw_masked(4000, 4, 0, 0)[0], hidden)
    assert not torch.equal(draw_masked(4000, 4, 0, 1)[0], hidden) and not torch.equal(
        draw_masked(4000, 4, 1, 0)[0], hidden
    )


def test_the_loss_of_a_row_is_the_mean_of_its_hidden_tokens(policy: Policy) -> None:
    prompt = encode_prompts(policy, ["count 3", "count 12, a longer one"])
    ids = encode_completions(policy, ["333", "12"], 8)
    hidden, weight = draw_masked(2, 8, 1, 0)
    expected = 0.0
    with torch.no_grad():
        for row in range(2):
            real = prompt[0][row][prompt[1][row]]  # alone, and so without padding
            shown = torch.where(hidden[row], policy.mask_id, ids[row])
            logits = policy.model(input_ids=torch.cat([real, shown])[None]).logits[0, len(real) :]
            nats = -torch.log_softmax(logits.double(), -1)[torch.arange(8), ids[row]]
            expected += float(nats[hidden[row]].mean())
        found = denoising_loss(policy, prompt, ids, hidden, weight)
    assert float(found) == pytest.approx(expected, abs=1e-5)
    assert hidden[:, 4:].any(), "padding behind the end is learned too"


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_model(str(folder), device="cpu").model.state_dict()


def test_two_runs_of_a_seed_are_bit_equal_and_another_seed_is_not(made: Path, tmp_path: Path) -> None:
    command = replace(SMALL, mix={"right": 1, "short": 3}, env_args={"offset": 1}, seed=5)
    torch.manual_seed(123)  # the global stream decides nothing
    state = torch.get_rng_state()
    sft(replace(command, output_dir=str(tmp_path / "again")), quiet=True)
    assert torch.equal(torch.get_rng_state(), state)
    sft(replace(command, seed=6, output_dir=str(tmp_path / "other")), quiet=True)
    first, again, other = weights(made), weights(tmp_path / "again"), weights(tmp_path / "other")
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)
    start = base_policy(command).model.state_dict()
    assert not any(torch.equal(first[name], start[name]) for name in first if "q_proj" in name)


def test_the_micro_batch_changes_memory_only(made: Path, tmp_path: Path) -> None:
    command = replace(
        SMALL, mix={"right": 1, "short": 3}, env_args={"offset": 1}, seed=5, per_device_batch_size=3
    )
    sft(replace(command, output_dir=str(tmp_path / "parts")), quiet=True)
    first, parts = weights(made), weights(tmp_path / "parts")
    for name in first:
        torch.testing.assert_close(first[name], parts[name], rtol=0, atol=2e-3)


def test_the_loss_falls(tmp_path: Path) -> None:
    def last_loss(steps: int) -> float:
        folder = tmp_path / str(steps)
        sft(replace(SMALL, steps=steps, batch_size=8, output_dir=str(folder)), quiet=True)
        return float((folder / "README.md").read_text().partition("Last training loss ")[2].split()[0])

    assert last_loss(60) < last_loss(3) - 0.5


def test_a_loss_that_is_not_finite_writes_nothing(tmp_path: Path) -> None:
    command = replace(SMALL, learning_rate=1e30, output_dir=str(tmp_path / "model"))
    with pytest.raises(TrainingError, match=r"sft step \d is not finite. Lower --learning-rate 1e\+30"):
        sft(command, quiet=True)
    assert not (tmp_path / "model").exists()


# the folder


def test_the_folder_opens_like_any_model(made: Path) -> None:
    model = AutoModel.from_pretrained(made)
    assert model.config.model_type == "llada" and model.config.hidden_size == 16
    assert AutoTokenizer.from_pretrained(made).mask_token == "<|mdm_mask|>"
    opened = load_model(str(made), device="cpu")
    assert isinstance(opened.model, LLaDAForMaskedLM)
    found = evaluate(opened, envs.make("count", split="test", offset=1), eval_sampling(SMALL))
    assert found.n == 2 and f"| test | {found.correct:.3f} |" in (made / "README.md").read_text()


def test_bfloat16_on_disk_is_half_as_large_and_what_was_measured(made: Path, tmp_path: Path) -> None:
    folder = tmp_path / "half"
    command = replace(
        SMALL, mix={"right": 1, "short": 3}, env_args={"offset": 1}, seed=5, save_dtype="bfloat16"
    )
    sft(replace(command, output_dir=str(folder)), quiet=True)
    full, half = weights(made), weights(folder)
    assert all(half[name].dtype == torch.float32 for name in half), "opened as float32 on a CPU"
    assert all(torch.equal(half[name], full[name].bfloat16().float()) for name in full)
    sizes = [(f / "model.safetensors").stat().st_size for f in (made, folder)]
    assert sizes[1] < 0.7 * sizes[0]
    assert "--save-dtype bfloat16" in (folder / "README.md").read_text()
    with pytest.raises(ConfigError, match="--save-dtype bfloat16 is for whole models"):
        sft(replace(command, model=ModelConfig(model="tiny", lora_r=4)), quiet=True)


def test_the_folder_says_what_it_is_for(made: Path) -> None:
    said = json.loads((made / "environment.json").read_text())
    lengths = {
        "max_completion_length": 8,
        "block_length": 8,
        "diffusion_steps": 4,
        "remasking": "low_confidence",
    }
    assert said == {"env": "count", "env_args": {"offset": 1}, "preset": "tiny", "rollout": lengths}


def test_its_own_settings_suffice_to_train_on_it(made: Path, capsys) -> None:
    assert cli.main(["--model", str(made), "--dry-run"]) == 0
    shown = capsys.readouterr().out
    assert (
        "env: count" in shown
        and "offset: 1" in shown
        and "8 tokens in 1 block of 8, 4 denoising steps" in shown
    )


def test_the_card_tells_how_it_was_made_and_what_it_scores(made: Path) -> None:
    card = (made / "README.md").read_text()
    assert card.startswith("---\nlicense: apache-2.0\n")
    for words in (
        "# A base model for `count` (offset=1)",
        "right=0.25 short=0.75",
        "3 updates of 4",
        "seed 5",
    ):
        assert words in card
    assert "| test | 0.000 |" in card and "| validation | 0.000 |" in card


def test_the_cards_command_makes_the_same_model(made: Path) -> None:
    line = (
        (made / "README.md")
        .read_text()
        .partition("Make it again: `python -m spg_trainer sft ")[2]
        .partition("`")[0]
    )
    read = cli.parse(SftCommand, line.split(), "")
    wanted = replace(SMALL, mix={"right": 1, "short": 3}, env_args={"offset": 1}, seed=5)
    assert replace(read, model=wanted.model) == wanted
    assert "--env-args offset=1" in line and "output" not in line
    again = command_line(replace(wanted, mix={}, model=ModelConfig(model="tiny", lora_r=4)))
    assert "--mix right=1" in again and "--lora-r 4 --model tiny --seed 5" in again


def test_a_folder_that_holds_something_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    for place in (tmp_path, tmp_path / "notes.txt"):
        with pytest.raises(ConfigError, match=rf"--output-dir {place} is no empty folder"):
            sft(replace(SMALL, output_dir=str(place)), quiet=True)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
    (tmp_path / "empty").mkdir()
    sft(replace(SMALL, steps=1, output_dir=str(tmp_path / "empty")), quiet=True)
    assert (tmp_path / "empty" / "config.json").is_file()


@pytest.mark.parametrize("place", ["notes.txt/model", "."])
def test_a_folder_that_cannot_be_written_is_told_before_the_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    monkeypatch.chdir(tmp_path)
    if place != ".":
        (tmp_path / "notes.txt").write_text("mine")
    monkeypatch.setattr(
        import_module("spg_trainer.supervised"), "fit", lambda *_: pytest.fail("trained first")
    )
    words = r"Not a directory|is the folder you are in"
    with pytest.raises((CheckpointError, ConfigError), match=words) as caught:
        sft(replace(SMALL, output_dir=place), quiet=True)
    assert "--output-dir" in str(caught.value) and "--resume" not in str(caught.value)


def test_a_full_disk_at_the_end_does_not_speak_of_resuming(tmp_path: Path, monkeypatch) -> None:
    def full(*_) -> None:
        raise OSError(28, "No space left on device")

    def fit(*_) -> float:
        monkeypatch.setattr(os, "replace", full)
        return 0.0

    monkeypatch.setattr(import_module("spg_trainer.supervised"), "fit", fit)
    with pytest.raises(CheckpointError, match="No space left on device") as caught:
        sft(replace(SMALL, output_dir=str(tmp_path / "model")), quiet=True)
    assert "--resume" not in str(caught.value)


def test_at_most_256_problems_of_a_split_are_measured(policy: Policy, monkeypatch) -> None:
    seen = {}

    def watched(policy, env, how, *, num_problems, **more):
        seen[len(env)] = num_problems

    monkeypatch.setattr(import_module("spg_trainer.supervised"), "evaluate", watched)
    for size in (30, 10_000):
        monkeypatch.setattr(test_demonstrations.Count, "__len__", lambda self, size=size: size)
        evaluate_split(policy, SMALL, "test", Console(quiet=True))
    assert seen == {30: 30, 10_000: 256}


def test_the_default_folder_names_task_and_seed(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert (
        str(sft(replace(SMALL, env="test/Count-v0", steps=1, seed=2), quiet=True)) == "models/Count-v0-sft-s2"
    )


def test_an_existing_model_goes_on_and_keeps_its_kind(made: Path, tmp_path: Path) -> None:
    command = replace(
        SMALL, steps=1, model=ModelConfig(model=str(made), device="cpu"), output_dir=str(tmp_path / "b")
    )
    assert all(
        torch.equal(a, b)
        for a, b in zip(weights(made).values(), base_policy(command).model.state_dict().values(), strict=True)
    )
    sft(command, quiet=True)
    assert json.loads((tmp_path / "b" / "environment.json").read_text())["preset"] == "tiny"


@pytest.mark.parametrize(
    ("length", "block", "steps"), [(8, 8, 4), (32, 32, 16), (40, 40, 20), (64, 32, 32), (33, 33, 16)]
)
def test_what_is_made_is_measured_at_its_own_length(length: int, block: int, steps: int) -> None:
    found = eval_sampling(replace(SMALL, env="nobodys-task", max_completion_length=length))
    assert (found.max_completion_length, found.block_length, found.diffusion_steps) == (length, block, steps)
    assert found.temperature == 0
    found.check()


def test_the_scores_on_the_card_come_from_both_splits_at_that_length(tmp_path: Path, monkeypatch) -> None:
    seen = []

    def watched(policy, env, how, **more):
        seen.append((env.split, env.offset, how, more["split"]))
        return evaluate(policy, env, how, **more)

    monkeypatch.setattr(import_module("spg_trainer.supervised"), "evaluate", watched)
    command = replace(SMALL, steps=1, env_args={"offset": 3}, output_dir=str(tmp_path / "model"))
    sft(command, quiet=True)
    assert seen == [(split, 3, eval_sampling(command), split) for split in ("test", "validation")]


def test_sft_of_a_large_model_trains_adapters_at_a_rate_it_can_stand() -> None:
    command = defaults(SftCommand, env="sudoku", model="GSAI-ML/LLaDA-8B-Instruct")
    assert command.model.lora_r == 128 and command.model.model == "GSAI-ML/LLaDA-8B-Instruct"
    assert command.learning_rate <= 1e-4 and 0 < command.per_device_batch_size <= 8
