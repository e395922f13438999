"""Base models from demonstrations: what is drawn, how it is written as tokens, the loss, what the folder holds."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from transformers import AutoModel, AutoTokenizer

import envs
from spg_trainer import cli, load_model
from spg_trainer.config import ModelConfig, SftCommand
from spg_trainer.demonstrations import draw, encode_completions, shares
from spg_trainer.errors import ConfigError, TrainingError
from spg_trainer.evaluate import evaluate
from spg_trainer.model_card import command_line
from spg_trainer.models import LLaDAForMaskedLM, Policy
from spg_trainer.rollout import encode_prompts
from spg_trainer.sft import denoising_loss, hide, learning_rate, open_policy, sampling, sft


class Count(envs.TextEnv):
    """Write the number of the problem, three times over."""

    reward_weights: ClassVar[dict[str, float]] = {"correct": 1.0, "format": 0.0}

    def __init__(self, split: str = "train", offset: int = 0) -> None:
        self.split, self.offset = split, offset

    def __len__(self) -> int:
        return 9 if self.split == "train" else 2

    def problem(self, index: int) -> envs.Problem:
        return envs.Problem(f"count {index + self.offset}", {"number": index + self.offset})

    def score(self, problem: envs.Problem, completion: str) -> envs.Score:
        right = completion == self.demonstration(problem)
        return envs.Score({"correct": float(right), "format": float(completion.isdigit())})

    def demonstration(self, problem: envs.Problem) -> str:
        return str(problem.reference["number"]) * 3

    def habits(self, problem: envs.Problem) -> dict[str, str]:
        return {"short": str(problem.reference["number"]), "wordy": "a" * 7}


envs.register("test/Count-v0", Count)
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
    return open_policy(SMALL)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model made from two habits of the task."""
    folder = tmp_path_factory.mktemp("sft") / "models" / "count"
    command = replace(
        SMALL, mix={"right": 1, "short": 3}, env_args={"offset": 1}, seed=5, output_dir=str(folder)
    )
    assert sft(command, quiet=True) == folder
    return folder


# what is drawn


def test_a_row_depends_on_seed_step_and_row_only() -> None:
    env, mix = Count(), {"right": 0.5, "short": 0.5}

    def drawn(seed: int, step: int, count: int) -> list[tuple[str, str]]:
        problems, texts = draw(env, mix, seed, step, count)
        return [(problem.prompt, text) for problem, text in zip(problems, texts, strict=True)]

    first = drawn(0, 3, 40)
    drawn(9, 9, 5)
    torch.rand(3)
    assert drawn(0, 3, 40) == first
    assert drawn(0, 3, 12) == first[:12]
    assert drawn(0, 4, 40) != first != drawn(1, 3, 40)
    assert len(set(first)) > 10


def test_each_habit_gets_its_share_and_every_problem_its_turn() -> None:
    mix = shares({"right": 1, "short": 2, "wordy": 0}, Count())
    assert mix == {"right": 1 / 3, "short": 2 / 3, "wordy": 0}
    problems, texts = draw(Count(), mix, 0, 0, 600)
    lengths = Counter(len(text) for text in texts)
    assert set(lengths) == {1, 3}
    assert abs(lengths[3] / 600 - 1 / 3) < 0.07
    assert {problem.reference["number"] for problem in problems} == set(range(9))
    for problem, text in zip(problems, texts, strict=True):
        assert text in (str(problem.reference["number"]) * 3, str(problem.reference["number"]))


def test_without_a_mix_everything_is_right() -> None:
    assert shares({}, Count()) == {"right": 1.0}


@pytest.mark.parametrize(
    ("mix", "words"),
    [
        ({"sort": 1}, "no habit 'sort'. Known: right, short, wordy"),
        ({"right": -0.1}, "a share is a number >= 0"),
        ({"right": "half"}, "a share is a number >= 0"),
        ({"right": True}, "a share is a number >= 0"),
        ({"right": float("inf")}, "a share is a number >= 0"),
        ({"right": 0, "short": 0}, "all shares are 0"),
    ],
)
def test_a_mix_that_cannot_be_meant_is_refused(mix: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        shares(mix, Count())


# how it is written


def test_a_completion_ends_with_one_end_token_and_then_padding(policy: Policy) -> None:
    ids = encode_completions(policy, ["12", "", "1234567"], 8)
    end, pad = policy.end_token_ids[-1], policy.pad_id
    assert ids.shape == (3, 8) and ids.dtype == torch.int64 and end != pad
    one, two = policy.tokenizer.convert_tokens_to_ids(["1", "2"])
    assert ids[0].tolist() == [one, two, end, pad, pad, pad, pad, pad]
    assert ids[1].tolist() == [end] + [pad] * 7
    assert ids[2, -1] == end and policy.tokenizer.decode(ids[2, :-1]) == "1234567"
    assert policy.tokenizer.decode([end]) == "<|eot_id|>"


def test_a_completion_that_is_too_long_names_the_length_that_fits(policy: Policy) -> None:
    with pytest.raises(
        ConfigError, match=r"9 tokens with its end token, .* Use --max-completion-length 9 or more"
    ):
        encode_completions(policy, ["1", "12345678"], 8)


# the loss


def test_hidden_counts_are_uniform_and_places_depend_on_the_step_only() -> None:
    hidden, weight = hide(4000, 4, 0, 0)
    assert torch.equal(weight, 1 / hidden.sum(1).float())
    counts = Counter(hidden.sum(1).tolist())
    assert set(counts) == {1, 2, 3, 4} and all(abs(n / 4000 - 0.25) < 0.04 for n in counts.values())
    assert (hidden[hidden.sum(1) == 1].float().mean(0) - 0.25).abs().max() < 0.06
    assert torch.equal(hide(4000, 4, 0, 0)[0], hidden)
    assert not torch.equal(hide(4000, 4, 0, 1)[0], hidden) and not torch.equal(hide(4000, 4, 1, 0)[0], hidden)


def test_the_loss_of_a_row_is_the_mean_of_its_hidden_tokens(policy: Policy) -> None:
    prompt = encode_prompts(policy, ["count 3", "count 12, a longer one"])
    ids = encode_completions(policy, ["333", "12"], 8)
    hidden, weight = hide(2, 8, 1, 0)
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


def test_the_rate_warms_up_and_falls_to_a_twentieth() -> None:
    command = replace(SMALL, steps=1000, warmup_steps=10, learning_rate=1.0)
    assert [learning_rate(step, command) for step in (0, 4, 9)] == [0.1, 0.5, 1.0]
    assert learning_rate(10, command) == 1.0
    assert learning_rate(505, command) == pytest.approx(0.525)
    assert learning_rate(999, command) == pytest.approx(0.05, abs=1e-4)


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
    start = open_policy(command).model.state_dict()
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
    found = evaluate(opened, envs.make("count", split="test", offset=1), sampling(SMALL))
    assert found.n == 2 and f"| test | {found.correct:.3f} |" in (made / "README.md").read_text()


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
        for a, b in zip(weights(made).values(), open_policy(command).model.state_dict().values(), strict=True)
    )
    sft(command, quiet=True)
    assert json.loads((tmp_path / "b" / "environment.json").read_text())["preset"] == "tiny"


@pytest.mark.parametrize(
    ("length", "block", "steps"), [(8, 8, 4), (32, 32, 16), (40, 40, 20), (64, 32, 32), (33, 33, 16)]
)
def test_what_is_made_is_measured_at_its_own_length(length: int, block: int, steps: int) -> None:
    found = sampling(replace(SMALL, env="nobodys-task", max_completion_length=length))
    assert (found.max_completion_length, found.block_length, found.diffusion_steps) == (length, block, steps)
    assert found.temperature == 0
    found.check()
