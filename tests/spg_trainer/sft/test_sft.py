"""Base models from demonstrations: what is drawn, the loss, equal weights for equal seeds, what the folder holds."""

import json
import os
import re
import shutil
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch
from filelock import FileLock, Timeout
from transformers import AutoModel, AutoTokenizer

import envs
from envs.gymnasium_games import GymnasiumGame
from spg_trainer import cli, distributed, load_model
from spg_trainer.architecture.pattern import Pattern
from spg_trainer.distributed import make_accelerator
from spg_trainer.errors import CheckpointError, ConfigError, ModelError, ScoringFailed, TrainingError
from spg_trainer.evaluation.evaluate import evaluate
from spg_trainer.evaluation.habits import HabitCounts
from spg_trainer.models import Policy, new_policy
from spg_trainer.models.tiny import BLOCK
from spg_trainer.reporting.runs import read_run
from spg_trainer.rollout.tokens import encode_completions, length_warning
from spg_trainer.runs import checkpoint
from spg_trainer.runs.console import Console
from spg_trainer.runs.files import incomplete
from spg_trainer.runs.folder import METRICS, REPORT, SUMMARY, TIMINGS, RunFolder
from spg_trainer.runs.plan import plan_run
from spg_trainer.runs.tracking import Trackers
from spg_trainer.settings.decoding import Sampling
from spg_trainer.settings.fields import Config, SftCommand
from spg_trainer.settings.model import TrainedModelConfig
from spg_trainer.settings.plan import plan
from spg_trainer.settings.resolve import resolve
from spg_trainer.settings.results import SftEval
from spg_trainer.settings.updates import BaseOptimizerConfig
from spg_trainer.settings.values import plain, settings_of
from spg_trainer.settings.weights import resolve_model
from spg_trainer.sft import command as supervised
from spg_trainer.sft import off_mix
from spg_trainer.sft import publish as publishing
from spg_trainer.sft.command import sft
from spg_trainer.sft.demonstrations import draw_demonstrations, mix_shares
from spg_trainer.sft.fit import training_config
from spg_trainer.sft.prepare import base_policy, eval_sampling, prepare, without_other_blocks
from spg_trainer.training import evaluations, loop
from spg_trainer.training.loop import make_steps, train
from spg_trainer.training.optimize import learning_rate
from spg_trainer.training.progress import Progress
from spg_trainer.training.run import Run
from spg_trainer.training.update import loss_without_gradient
from tests.common.sft_cases import SMALL, Count, before_step, first_update
from tests.common.trainer_cases import change, rows, same_weights, small_config, weights

LONG = change(SMALL, steps=20, eval_steps=4, mix={"right": 1, "short": 1}, seed=3)
TWO_HABITS = change(SMALL, mix={"right": 1, "short": 3}, env_args={"offset": 1}, seed=5)


@pytest.fixture(scope="module", autouse=True)
def _few_validated() -> Iterator[None]:
    """The validation loss is that of fewer demonstrations, for most of the time would go there."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("spg_trainer.sft.prepare.VALIDATION", 8)
        yield


@pytest.fixture(scope="module")
def policy() -> Policy:
    return base_policy(SMALL)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model made from two habits of the task."""
    folder = tmp_path_factory.mktemp("sft") / "models" / "count"
    assert sft(change(TWO_HABITS, output_dir=str(folder)), quiet=True) == folder
    return folder


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Makes the model of `LONG`, with some settings changed, that nothing interrupts: each once, and read only."""
    folders: dict[str, Path] = {}

    def make(**changes: Any) -> Path:
        command = change(LONG, **changes)
        if repr(command) not in folders:
            folder = tmp_path_factory.mktemp("uninterrupted") / "model"
            folders[repr(command)] = sft(change(command, output_dir=str(folder)), quiet=True)
        return folders[repr(command)]

    return make


def opened(folder: Path) -> Policy:
    return load_model(str(folder), device="cpu")


# What is drawn.


def test_a_score_that_raises_is_told_before_anything_is_trained(tmp_path: Path, monkeypatch) -> None:
    def broken(self: Count, problem: envs.Problem, completion: str) -> envs.Score:
        return envs.Score({"correct": float(completion), "format": 0.0})

    monkeypatch.setattr(Count, "score", broken)
    said = r"count: score raised on problem 0, for '<answer>.*ValueError.*test_sft.py\", line \d+, in broken"
    with pytest.raises(envs.EnvError, match=said):
        sft(change(SMALL, output_dir=str(tmp_path / "base")), quiet=True)
    assert not (tmp_path / "base").exists()


@pytest.mark.parametrize("mix", [{"shy": 1}, {"short": -1}, {"short": "much"}, {"short": 0}], ids=str)
def test_a_mix_that_cannot_be_is_refused(mix) -> None:
    with pytest.raises(ConfigError, match=rf"--mix.*({next(iter(mix))}|right=1)"):
        mix_shares(mix, Count())


def test_a_habit_of_some_problems_only_is_no_part_of_a_mix(monkeypatch) -> None:
    habits = Count.habits
    monkeypatch.setattr(Count, "habits", lambda self, p: habits(self, p) if p.reference["number"] < 5 else {})
    with pytest.raises(ConfigError, match=r"--mix short: .* 'count [5-9]'"):
        draw_demonstrations(envs.make("count"), {"short": 1.0}, 0, 0, 40)


def test_a_demonstration_depends_on_seed_step_and_row_only() -> None:
    def drawn(seed: int, step: int, count: int) -> list[tuple[str, str]]:
        problems, texts = draw_demonstrations(Count(), {"right": 0.5, "short": 0.5}, seed, step, count)
        return [(problem.prompt, text) for problem, text in zip(problems, texts, strict=True)]

    first = drawn(0, 3, 40)
    drawn(9, 9, 5)
    torch.rand(3)
    assert drawn(0, 3, 40) == first and drawn(0, 3, 12) == first[:12]
    assert drawn(0, 4, 40) != first != drawn(1, 3, 40) and len(set(first)) > 10


def test_each_habit_gets_its_share_and_every_problem_its_turn() -> None:
    assert mix_shares({}, Count()) == {"right": 1.0}
    mix = mix_shares({"right": 1, "short": 2, "wordy": 0}, Count())
    assert mix == {"right": 1 / 3, "short": 2 / 3, "wordy": 0}
    problems, texts = draw_demonstrations(Count(), mix, 0, 0, 600)
    lengths = Counter(len(text) for text in texts)
    assert set(lengths) == {1, 3} and abs(lengths[3] / 600 - 1 / 3) < 0.07
    assert {problem.reference["number"] for problem in problems} == set(range(9))
    for problem, text in zip(problems, texts, strict=True):
        number = str(problem.reference["number"])
        assert text in (number, number * 3)


def test_too_little_room_for_any_demonstration_is_told(policy: Policy) -> None:
    assert length_warning(policy, Count(), 3) == "", "`000` fits, if without its end"
    text = length_warning(policy, Count(), 2)
    assert "--max-completion-length 2" in text and "have 3 tokens" in text and "Use 4" in text


def test_demonstrations_that_fail_say_nothing_of_the_length(policy: Policy, monkeypatch) -> None:
    def fails(self: Count, problem: Any) -> str:
        raise ValueError("the solver failed")

    monkeypatch.setattr(Count, "demonstration", fails)
    assert length_warning(policy, Count(), 2) == ""


def test_a_completion_ends_with_one_end_token_and_then_padding(policy: Policy) -> None:
    ids = encode_completions(policy, ["12", "", "1234567"], 8)
    end, pad = policy.end_token_ids[-1], policy.pad_id
    assert ids.shape == (3, 8) and ids.dtype == torch.int64 and end != pad
    one, two = policy.tokenizer.convert_tokens_to_ids(["1", "2"])
    assert ids[0].tolist() == [one, two, end, pad, pad, pad, pad, pad]
    assert ids[1].tolist() == [end] + [pad] * 7
    assert ids[2, -1] == end and policy.tokenizer.decode(ids[2, :-1]) == "1234567"
    assert policy.tokenizer.decode([end]) == "<|eot_id|>"
    with pytest.raises(ConfigError, match="--max-completion-length 9"):
        encode_completions(policy, ["1", "12345678"], 8)


# The loss.


def prepared(command: SftCommand, policy: Policy | None = None) -> Run:
    """The run of some settings before its first update. policy: in place of a new one, and in its number type."""
    with pytest.MonkeyPatch.context() as patch:
        if policy is not None:
            patch.setattr("spg_trainer.sft.prepare.base_policy", lambda *_: policy)
        accelerator = make_accelerator("cpu")
        return prepare(plan_run(command, 1), accelerator, Console(quiet=True)).run


def test_masked_counts_are_uniform_and_depend_on_seed_and_step() -> None:
    def drawn(seed: int, number: int, batch_size: int = 4000) -> torch.Tensor:
        run = prepared(change(SMALL, seed=seed, batch_size=batch_size, max_completion_length=4))
        (micro,) = first_update(run, number).micro_batches
        scored = micro.masks.scored[:, 0]
        assert torch.equal(micro.masks.weight[:, 0], scored * (4 / scored.double().sum(1, keepdim=True)))
        return scored

    masked = drawn(0, 0)
    counts = Counter(masked.sum(1).tolist())
    assert set(counts) == {1, 2, 3, 4} and all(abs(n / 4000 - 0.25) < 0.04 for n in counts.values())
    assert (masked[masked.sum(1) == 1].float().mean(0) - 0.25).abs().max() < 0.06
    few = drawn(0, 0, 40)
    assert torch.equal(drawn(0, 0, 40), few), "the same problem twice in a step is masked anew"
    assert len({str(row) for row in few.tolist()}) > 10
    for seed, step in ((0, 1), (1, 0)):
        assert not torch.equal(drawn(seed, step, 40), few)


def test_the_loss_of_a_row_is_the_mean_of_its_masked_tokens(policy: Policy) -> None:
    run = prepared(change(SMALL, batch_size=6, mix={"right": 1, "short": 1}))
    update, expected = first_update(run), 0.0
    (micro,) = update.micro_batches
    rollouts, masked = micro.rollouts, micro.masks.scored[:, 0]
    for row in range(6):
        real = rollouts.prompt_ids[row][rollouts.prompt_mask[row]]  # alone, and so without padding
        ids = rollouts.completion_ids[row]
        shown = torch.where(masked[row], run.policy.mask_id, ids)
        with torch.no_grad():
            logits = run.policy.model(input_ids=torch.cat([real, shown])[None]).logits[0, len(real) :]
        nats = -torch.log_softmax(logits.double(), -1)[torch.arange(8), ids]
        expected += float(nats[masked[row]].mean()) / 6
    found = loss_without_gradient(run.policy, run.algorithm, update)
    assert found == pytest.approx(expected, abs=1e-5)
    assert masked[:, 4:].any(), "padding behind the end is learned too"


def test_two_runs_of_a_seed_are_bit_equal_and_another_is_not(made: Path, tmp_path: Path) -> None:
    torch.manual_seed(123)  # the global stream decides nothing
    state = torch.get_rng_state()
    sft(change(TWO_HABITS, output_dir=str(tmp_path / "again")), quiet=True)
    assert torch.equal(torch.get_rng_state(), state)
    sft(change(TWO_HABITS, seed=6, output_dir=str(tmp_path / "other")), quiet=True)
    assert same_weights(made, tmp_path / "again") and not same_weights(made, tmp_path / "other")
    first, start = (policy.model.state_dict() for policy in (opened(made), base_policy(TWO_HABITS)))
    assert not any(torch.equal(first[name], start[name]) for name in first if "q_proj" in name)


def test_the_micro_batch_changes_memory_only(made: Path, tmp_path: Path) -> None:
    command = change(TWO_HABITS, per_device_batch_size=3, output_dir=str(tmp_path / "parts"))
    torch.testing.assert_close(weights(made), weights(sft(command, quiet=True)), rtol=0, atol=2e-3)


@pytest.mark.parametrize("validation", [False, True])
def test_a_loss_that_is_not_finite_ends_it(tmp_path: Path, monkeypatch, validation) -> None:
    if validation:
        monkeypatch.setattr(evaluations, "loss_without_gradient", lambda *_: float("nan"))
    else:
        gradient = loop.gradient
        monkeypatch.setattr(loop, "gradient", lambda *of: dict.fromkeys(gradient(*of), float("nan")))
    with pytest.raises(TrainingError, match=r"--learning-rate 0\.01"):
        sft(change(SMALL, output_dir=str(tmp_path / "model")), quiet=True)
    assert not (tmp_path / "model" / "config.json").exists()


# The folder.


def test_the_folder_opens_like_any_model(made: Path) -> None:
    model = AutoModel.from_pretrained(made)
    assert model.config.model_type == "llada" and model.config.hidden_size == 16
    assert AutoTokenizer.from_pretrained(made).mask_token == "<|mdm_mask|>"
    assert opened(made).model.config.model_type == "llada"
    card = (made / "README.md").read_text()
    result = evaluate(
        opened(made), envs.make("count", split="test", offset=1), eval_sampling(SMALL, Pattern())
    )
    assert result.n == 2 and f"| test | {result.correct:.3f} |" in card


@pytest.mark.parametrize("kind, family", [("block", "sdar"), ("shift", "dream")])
def test_a_new_model_of_another_kind_learns_and_its_card_names_its_family(tmp_path, kind, family) -> None:
    command = change(
        SMALL, model=TrainedModelConfig(f"new:{kind}", device="cpu"), output_dir=str(tmp_path / "model")
    )
    folder = sft(command, quiet=True)
    assert opened(folder).model.config.model_type.lower() == family
    head = (folder / "README.md").read_text().split("---")[1]
    assert f"- {family}\n" in head and "- llada\n" not in head


def test_a_model_with_blocks_is_decoded_by_them_and_others_are_refused_before_training(tmp_path) -> None:
    assert eval_sampling(change(SMALL, max_completion_length=20), Pattern(8)).block_length == 4
    assert eval_sampling(change(SMALL, max_completion_length=24), Pattern(8)).block_length == 8
    command = change(
        SMALL, model=TrainedModelConfig("new:block", device="cpu"), output_dir=str(tmp_path / "model")
    )
    command = change(command, max_completion_length=BLOCK + 1, block_length=BLOCK + 1)
    with pytest.raises(
        ConfigError, match=f"block_length={BLOCK + 1} does not divide .* block_length={BLOCK}"
    ):
        sft(command, quiet=True)
    assert not (tmp_path / "model").exists()


def test_a_block_length_that_was_asked_for_is_told_from_that_of_a_training() -> None:
    def decoded(*words: str) -> Sampling:
        asked = plan(resolve(SftCommand, ["--env", "countdown", *words]))
        return eval_sampling(without_other_blocks(asked.config, Pattern(), asked.origins), Pattern())

    assert (decoded().block_length, decoded().diffusion_steps) == (12, 12)
    llada = decoded("--model", "GSAI-ML/LLaDA-8B-Instruct")
    assert (llada.block_length, llada.tokens_per_step) == (32, 2), "as a training has them"
    longer = ["--max-completion-length", "30"]
    assert decoded(*longer).block_length == 30 and decoded(*longer, "--block-length", "15").block_length == 15
    with pytest.raises(ConfigError, match="block_length=12 does not divide max_completion_length=30"):
        decoded(*longer, "--block-length", "12")


def test_the_loss_of_a_model_with_blocks_is_that_of_a_pass_for_each_block() -> None:
    """Noisy copies of the prompt's blocks are not computed: what is asked for does not depend on them."""
    policy = new_policy("block", seed=1, hidden_size=16, layers=2, heads=2, ffn=24)
    policy.model.double()
    command = change(SMALL, batch_size=3, max_completion_length=24)
    run = prepared(command, policy)
    update = first_update(run)
    (micro,) = update.micro_batches
    rollouts, masked = micro.rollouts, micro.masks.scored[:, 0]
    assert rollouts.prompt_mask.all(), "prompts of one length"
    ids, length = torch.cat([rollouts.prompt_ids, rollouts.completion_ids], 1), rollouts.prompt_ids.shape[1]
    expected = torch.zeros((), dtype=torch.float64)
    block = policy.model.pattern.blocks(torch.ones_like(ids, dtype=torch.bool), length)[0, length:]
    for number in block.unique():
        scored = masked & (block == number)
        shown = ids.clone()
        shown[:, length:][scored] = policy.mask_id
        with torch.no_grad():
            logps = policy.model(shown).logits[:, length:].log_softmax(-1)
        nats = -logps.gather(-1, ids[:, length:].unsqueeze(-1)).squeeze(-1)
        expected += (nats * scored / masked.sum(1, keepdim=True)).sum() / 3
    found = loss_without_gradient(policy, run.algorithm, update)
    assert found == pytest.approx(float(expected), rel=1e-12)


def test_its_environment_file_suffices_to_train_on_it(made: Path, capsys) -> None:
    lengths = {"max_completion_length": 8, "block_length": 8, "diffusion_steps": 8}
    rollout = {**lengths, "remasking": "low_confidence"}
    expected = {"env": "count", "env_args": {"offset": 1}, "preset": "tiny", "rollout": rollout}
    assert json.loads((made / "environment.json").read_text()) == expected
    assert cli.main(["--model", str(made), "--prompts-per-step", "4", "--dry-run"]) == 0
    shown = capsys.readouterr().out
    assert "env: count" in shown and "offset: 1" in shown
    assert "of 8, 8 denoising steps" in shown


@pytest.mark.parametrize("place", [".", "notes.txt", "notes.txt/model"])
def test_an_unusable_folder_is_told_before_the_training_and_left_alone(tmp_path, monkeypatch, place) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    monkeypatch.setattr(supervised, "make_steps", lambda *_: pytest.fail("trained first"))
    with pytest.raises((CheckpointError, ConfigError), match="folder"):
        sft(change(SMALL, output_dir=str(tmp_path / place)), quiet=True)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_two_of_them_never_write_into_one_folder(tmp_path: Path, monkeypatch) -> None:
    folder = tmp_path / "model"

    def train(*_) -> None:
        assert {path.name for path in folder.iterdir()} == {
            ".lock",
            "environment.json",
            "inputs.json",
            "sft.yaml",
        }
        with pytest.raises(Timeout):
            FileLock(folder / ".lock", blocking=False).acquire()
        raise KeyboardInterrupt

    monkeypatch.setattr(supervised, "make_steps", train)
    command = change(SMALL, output_dir=str(folder))
    with pytest.raises(KeyboardInterrupt):
        sft(command, quiet=True)
    assert not folder.exists()
    folder.mkdir()
    with (
        FileLock(folder / ".lock"),
        pytest.raises(ConfigError, match=f"{folder} .*another process"),
    ):
        sft(command, quiet=True)
    assert [path.name for path in folder.iterdir()] == [".lock"], "the folder of another is left to it"
    with pytest.raises(KeyboardInterrupt):  # after a kill, of which the file is left
        sft(command, quiet=True)


def test_one_that_was_killed_before_its_first_checkpoint_begins_again_in_its_folder(
    tmp_path: Path, monkeypatch
) -> None:
    folder, command = tmp_path / "model", change(LONG, output_dir=str(tmp_path / "model"))
    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "discard", lambda _: None)  # as `kill -9` has it
        kill(command, 3)
    assert len(rows(folder / METRICS)) == 3
    with pytest.raises(
        ConfigError, match=rf"already holds a run of 3 steps.*--resume {folder} .*larger --steps"
    ):
        sft(command, quiet=True)
    with pytest.raises(ConfigError, match="holds no run that this command can continue"):
        train(small_config(folder), quiet=True)
    sft(change(command, resume="auto"), quiet=True)
    assert [row["step"] for row in rows(folder / METRICS)] == [*range(1, 21)]


def test_every_update_has_a_row_and_the_end_a_summary_and_a_report(tmp_path: Path, monkeypatch) -> None:
    sent: list[tuple[int, dict]] = []
    monkeypatch.setattr(Trackers, "log", lambda _, values, step: sent.append((step, dict(values))))
    command = change(TWO_HABITS, steps=6, eval_steps=2, patience=9, report=True)
    folder = sft(change(command, output_dir=str(tmp_path / "model")), quiet=True)
    metrics, timings = rows(folder / METRICS), rows(folder / TIMINGS)
    assert [row["step"] for row in metrics] == [row["step"] for row in timings] == [1, 2, 3, 4, 5, 6]
    assert [row["step"] for row in metrics if "validation/loss" in row] == [2, 4, 6]
    assert set(metrics[0]) == {"step", "loss", "grad_norm", "learning_rate"}
    config = prepared(command).config
    expected = [rate(Progress(), step, config) for step in range(6)]
    assert [row["learning_rate"] for row in metrics] == expected
    assert [step for step, values in sent if "loss" in values] == [1, 2, 3, 4, 5, 6]
    assert {name for _, values in sent for name in values} >= {"grad_norm", "update", "eval/test/correct"}
    summary, losses = (
        json.loads((folder / SUMMARY).read_text()),
        [row.get("validation/loss") for row in metrics],
    )
    best = min(losses[1::2])
    assert summary["validation_loss"] == {"best": best, "best_step": 1 + losses.index(best)}
    assert summary["kept_step"] == summary["validation_loss"]["best_step"]
    (after,) = read_run(folder).before_after
    assert after.rows[0]["completion"] == rows(folder / "eval" / "after.jsonl")[0]["completion"]
    assert after.step == summary["kept_step"] and len(after.rows) == summary["eval_after"]["n"] == 2
    said = " ".join((folder / REPORT).read_text().split())
    assert (
        f"6 of 6 steps. <b>Kept: step {summary['kept_step']}</b>; the lowest validation loss is {best:.4f}"
        in said
    )
    assert "<h1>count sft</h1>" in said and "tokens sampled" not in said and "not finished" not in said
    assert said.count('role="img" aria-label="Loss"') == 1, "both losses on one axis"
    assert cli.main(["report", str(folder), "-o", str(tmp_path / "again.html")]) == 0


def test_it_validates_a_loss_and_rl_solves_problems_which_nobody_sets() -> None:
    of_sft, of_rl = prepared(SMALL).config.eval, Config().eval
    assert (of_sft.criterion, of_rl.criterion) == ("loss", "solved")
    assert "criterion" not in settings_of(Config) and "criterion" not in plain(Config())["eval"]


def test_a_tracker_that_is_not_there_is_named_first(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("spg_trainer.runs.tracking.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="--track wandb: the package is not installed"):
        sft(change(SMALL, track=("wandb",), output_dir=str(tmp_path / "model")), quiet=True)
    assert not (tmp_path / "model").exists()


# The learning rate, and when it ends.


def schedule(patience: int, warmup_steps: int = 10, learning_rate: float = 1.0) -> Config:
    optimizer = BaseOptimizerConfig(warmup_steps=warmup_steps, learning_rate=learning_rate)
    validation = SftEval(eval_steps=10, patience=patience)
    return training_config(SftCommand(steps=1000, optimizer=optimizer, eval=validation), Sampling())


def rate(progress: Progress, step: int, config: Config) -> float:
    total, decay_start = progress.total(config), progress.decay_start(config)
    return learning_rate(config.optimizer, updates=step, step=step, total=total, decay_start=decay_start)


def rates(steps: list[int], patience: int) -> list[float]:
    return [rate(Progress(), step, schedule(patience)) for step in steps]


def test_both_rates_warm_up_and_end_at_a_twentieth() -> None:
    assert rates([0, 4, 9, 10], patience=0) == [0.1, 0.5, 1.0, 1.0]
    assert rates([505, 999], patience=0) == pytest.approx([0.525, 0.05], abs=1e-4)
    assert rates([0, 9, 10, 799], patience=2) == [0.1, 1.0, 1.0, 1.0]
    assert rates([899, 999], patience=2) == pytest.approx([0.525, 0.05])


def test_the_last_bit_of_a_rate_is_that_with_which_the_embedded_models_were_trained() -> None:
    cosine, stable = (schedule(patience, warmup_steps=50, learning_rate=2e-3) for patience in (0, 2))
    assert [rate(Progress(), step, cosine) for step in range(50)] == [2e-3 * n / 50 for n in range(1, 51)]
    assert [rate(Progress(), step, stable) for step in range(50)] == [2e-3 * (n / 50) for n in range(1, 51)]
    falling = [rate(Progress(), step, stable) for step in range(800, 1000)]
    assert falling == [2e-3 * (1 - 0.95 * n / 200) for n in range(1, 201)]


def test_it_ends_when_the_validation_loss_no_longer_falls() -> None:
    progress, config = Progress(), schedule(patience=2, warmup_steps=0)
    for step, loss in ((10, 2.0), (20, 1.0), (30, 0.995), (40, 1.2)):
        assert progress.total(config) == 1000 and progress.decay_start(config) == 800
        assert progress.note_validation(step, loss, config) == (step < 40)
    assert (progress.decay_start(config), progress.total(config)) == (40, 50)
    assert rate(progress, 40, config) == pytest.approx(0.905)
    assert (progress.best_step, progress.best_loss) == (30, 0.995), "any fall makes it the best"


# How long, and going on.


def fail(command: SftCommand, at: int) -> None:
    """Runs `sft` until so many updates are done, and ends it there by an error that only this process meets."""

    def stop() -> None:
        monkeypatch.setattr(distributed, "gather", lambda _: pytest.fail("waits for other processes"))
        raise RuntimeError("out of memory")

    with pytest.MonkeyPatch.context() as monkeypatch, before_step(at, stop):
        with pytest.raises(RuntimeError, match="out of memory"):
            sft(command, quiet=True)


def kill(command: SftCommand, at: int) -> None:
    """Runs `sft` until so many updates are done, and ends it there as `kill -9` does: nothing is saved any more."""
    with patch.object(supervised, "save_finished_steps", lambda *_: None):
        fail(command, at)


def told(folder: Path) -> str:
    """What the card says but the minutes."""
    return re.sub(r"[\d.]+ minutes", "", (folder / "README.md").read_text())


@pytest.mark.parametrize(
    ("changes", "at"),
    [
        pytest.param({}, (2, 5, 18), id="before the first checkpoint, then twice"),
        pytest.param(
            {"learning_rate": 1e-9, "patience": 2},
            (14,),
            id="while the rate decays early",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            {"patience": 0, "optimizer": "muon"}, (7, 19), id="muon under a cosine", marks=pytest.mark.slow
        ),
        pytest.param({"lora": True}, (6, 17), id="adapters with dropout", marks=pytest.mark.slow),
    ],
)
def test_one_that_was_killed_ends_like_one_never_interrupted(
    tmp_path, made, uninterrupted, changes, at
) -> None:
    changes = dict(changes)
    if changes.pop("lora", False):
        changes["model"] = TrainedModelConfig(model=str(made), device="cpu", lora_r=2, lora_dropout=0.5)
    command, whole = change(LONG, **changes), uninterrupted(**changes)
    folder = tmp_path / "cut"
    for step in at:
        kill(change(command, output_dir=str(folder), resume="auto"), step)
        torch.rand(7)
    sft(change(command, output_dir=str(folder), resume="auto"), quiet=True)
    assert same_weights(whole, folder) and told(whole) == told(folder)
    assert (whole / METRICS).read_bytes() == (folder / METRICS).read_bytes()
    assert incomplete(folder) is None and not (folder / ".model").exists()


@pytest.mark.parametrize(("at", "kept"), [(6, [6]), (18, [16, 18])], ids=["loss falls", "rate falls"])
def test_an_error_leaves_a_checkpoint_of_the_last_finished_update(
    tmp_path, uninterrupted, at: int, kept: list[int]
) -> None:
    """Neither 6 nor 18 is validated. From 16 it can be trained longer."""
    whole, folder = uninterrupted(), tmp_path / "model"
    fail(change(LONG, output_dir=str(folder)), at)
    assert kept_checkpoints(folder) == [f"step-{step:06d}" for step in kept]
    with before_step(at - 1, lambda: pytest.fail("an update is made again")):
        sft(change(LONG, resume=str(folder)), quiet=True)
    assert same_weights(whole, folder) and told(whole) == told(folder)
    assert (whole / METRICS).read_bytes() == (folder / METRICS).read_bytes()
    assert kept_checkpoints(folder) == kept_checkpoints(whole)


def test_an_error_of_the_evaluation_leaves_the_last_weights_not_the_best(tmp_path, monkeypatch) -> None:
    """The last update, 18, is validated but no multiple of --eval-steps, and the loss was lowest after another."""
    note, command = Progress.note_validation, change(LONG, steps=18)

    def scripted(self: Progress, step: int, loss: float, config: Config) -> bool:
        return note(self, step, {8: 1.0}.get(step, 2.0), config)

    monkeypatch.setattr(Progress, "note_validation", scripted)
    whole, folder = sft(change(command, output_dir=str(tmp_path / "whole")), quiet=True), tmp_path / "model"
    evaluate_model, save, last = publishing.measure, supervised.save_checkpoint, {}

    def raising(fit: Any) -> None:
        raise ScoringFailed("count: score raised.")

    def saving(run: Run) -> None:
        last.update(weights_of(run))
        save(run)

    monkeypatch.setattr(supervised, "save_checkpoint", saving)
    monkeypatch.setattr(publishing, "measure", raising)
    with pytest.raises(ScoringFailed, match=f"continue with sft --resume {folder} --accept-changed-code"):
        sft(change(command, output_dir=str(folder)))
    newest = checkpoint.latest_complete(folder)
    assert newest.name == "step-000018" and incomplete(folder)
    assert same_tensors(opened(newest), last) and not same_weights(newest, whole)
    monkeypatch.setattr(publishing, "measure", evaluate_model)
    with before_step(17, lambda: pytest.fail("an update is made again")):
        sft(change(command, resume=str(folder)), quiet=True)
    assert same_weights(whole, folder) and told(whole) == told(folder)
    assert json.loads((folder / SUMMARY).read_text())["kept_step"] == 8


@pytest.mark.parametrize(
    ("rate", "killed"),
    [
        pytest.param(LONG.optimizer.learning_rate, "before", id="loss falls"),
        pytest.param(1e-9, "after", id="loss stays", marks=pytest.mark.slow),
    ],
)
def test_a_finished_one_goes_on_as_if_it_had_never_ended(
    tmp_path, monkeypatch, uninterrupted, rate, killed
) -> None:
    command, save = change(LONG, learning_rate=rate), checkpoint.save

    def dying(*positional, **named) -> None:
        if killed == "after":
            save(*positional, **named)
        raise KeyboardInterrupt

    long = uninterrupted(learning_rate=rate, steps=40)
    folder = sft(change(command, output_dir=str(tmp_path / "short")), quiet=True)
    assert told(long) != told(folder)
    with pytest.raises(ConfigError, match=r"is finished.*--steps 40"):
        sft(change(command, resume=str(folder)), quiet=True)
    longer = change(command, steps=40, output_dir=str(folder), resume="auto")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(checkpoint, "save", dying)  # at its first checkpoint it is still a finished one
        sft(longer, quiet=True)
    assert sft(longer, quiet=True) == folder
    assert same_weights(long, folder) and told(long) == told(folder)
    assert (long / METRICS).read_bytes() == (folder / METRICS).read_bytes()


def test_a_finished_one_that_is_killed_before_its_next_checkpoint_still_knows_that_it_was_finished(
    tmp_path, uninterrupted
) -> None:
    """Its loss had stalled at update 12. To go on with more means to forget that, however often it is begun."""
    stalled = {"learning_rate": 1e-9, "patience": 2}
    first, second = tmp_path / "once", tmp_path / "twice"
    for folder in (first, second):
        shutil.copytree(uninterrupted(**stalled), folder)
    assert len(rows(first / METRICS)) == 15
    kill(change(LONG, **stalled, steps=40, resume=str(second)), 13)
    assert incomplete(second) is None, "until then the finished model is there"
    for folder in (first, second):
        sft(change(LONG, **stalled, steps=40, resume=str(folder)), quiet=True)
    assert len(rows(first / METRICS)) == 25
    assert (first / METRICS).read_bytes() == (second / METRICS).read_bytes()
    assert same_weights(first, second)


def test_an_error_leaves_a_finished_one_finished_until_an_update_more_is_made(
    tmp_path, uninterrupted
) -> None:
    folder, longer = tmp_path / "model", change(LONG, steps=40, resume=str(tmp_path / "model"))
    shutil.copytree(uninterrupted(), folder)

    def stopped_at_once(run):
        os.kill(os.getpid(), signal.SIGTERM)
        return make_steps(run)

    with patch("spg_trainer.sft.command.make_steps", stopped_at_once), pytest.raises(KeyboardInterrupt):
        sft(longer, quiet=True)  # a launcher ends it before it has made an update
    assert incomplete(folder) is None and (folder / SUMMARY).is_file()
    fail(longer, 16)  # from there it goes on
    assert incomplete(folder) is None and (folder / SUMMARY).is_file()
    with pytest.raises(ConfigError, match=r"is finished.*--steps 40"):
        sft(change(LONG, resume=str(folder)), quiet=True)
    fail(longer, 17)
    assert incomplete(folder) and not (folder / SUMMARY).exists()
    assert checkpoint.latest_complete(folder).name == "step-000017"
    sft(longer, quiet=True)
    assert same_weights(folder, uninterrupted(steps=40))
    assert (folder / METRICS).read_bytes() == (uninterrupted(steps=40) / METRICS).read_bytes()


def test_an_evaluation_of_a_model_lies_in_its_folder(made: Path) -> None:
    assert (
        cli.main(["eval", "--model", str(made), "--env", "count", "--num-problems", "1", "--device", "cpu"])
        == 0
    )
    assert {one.name for one in read_run(made).evaluations} > {"after"}


def test_it_goes_on_with_its_own_settings_from_the_command_line(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    kill(change(LONG, output_dir=str(folder)), 9)
    read = resolve(SftCommand, ["--resume", str(folder), "--steps", "24"]).config
    assert change(read, steps=20, resume=None, model=LONG.model) == LONG
    for wrong, words in (
        (change(LONG, seed=4, resume=str(folder)), rf"seed was 3, now 4.*--model {folder}"),
        (change(LONG, steps=7, resume=str(folder)), "--steps 7: .*step-000008 is already at step 8"),
        (change(LONG, output_dir=str(folder)), f"--resume {folder} "),
        (change(LONG, resume=str(tmp_path)), "holds no sft.yaml"),
    ):
        with pytest.raises(ConfigError, match=words):
            sft(wrong, quiet=True)


def test_however_early_the_rate_falls_it_can_go_on_from_there(tmp_path: Path) -> None:
    command = change(LONG, eval_steps=1, patience=1, learning_rate=1e-12, output_dir=str(tmp_path / "model"))
    folder = sft(command, quiet=True)
    assert "- 3 updates" in told(folder), "two evaluations, and a fall of one update"
    first, *others = [row["validation/loss"] for row in rows(folder / METRICS)]
    assert others == pytest.approx([first] * 2, rel=1e-6), "always under the same masks"
    sft(change(command, resume="auto"), quiet=True)
    assert "- 3 updates" not in told(folder)


def test_the_best_weights_by_validation_loss_are_kept(tmp_path: Path, monkeypatch) -> None:
    losses = {4: 3.0, 8: 1.0, 12: 2.0, 16: 2.0, 20: 1.5}
    kept, note = {}, Progress.note_validation

    def scripted(self: Progress, step: int, loss: float, config: Config) -> bool:
        return note(self, step, losses[step], config)

    save = loop.save_checkpoint
    monkeypatch.setattr(Progress, "note_validation", scripted)
    monkeypatch.setattr(
        loop,
        "save_checkpoint",
        lambda run: (kept.setdefault(run.state.step, weights_of(run)), save(run)),
    )
    command = change(LONG, output_dir=str(tmp_path / "model"))
    kill(command, 14)  # a checkpoint has them
    folder = sft(change(command, resume="auto"), quiet=True)
    assert same_tensors(opened(folder), kept[8]) and "1.0000 after" in (folder / "README.md").read_text()
    folder = sft(change(LONG, patience=0, output_dir=str(tmp_path / "cosine")), quiet=True)
    assert not any(same_tensors(opened(folder), weights) for weights in kept.values()), (
        "of a cosine the last are"
    )


def same_tensors(policy: Policy, kept: dict[str, torch.Tensor]) -> bool:
    found = policy.model.state_dict()
    return all(torch.equal(found[name], value) for name, value in kept.items())


def weights_of(run: Run) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in run.policy.model.state_dict().items()}


def test_the_first_ctrl_c_keeps_the_model_so_far_and_what_it_goes_on_from(
    tmp_path, capsys, uninterrupted
) -> None:
    folder = tmp_path / "model"
    in_the_sixth = before_step(5, lambda: os.kill(os.getpid(), signal.SIGINT))
    with in_the_sixth, pytest.raises(KeyboardInterrupt):
        sft(change(LONG, output_dir=str(folder)))
    assert "after update 6" in capsys.readouterr().out and not incomplete(folder)
    assert load_model(str(folder)).model.dtype == torch.float32
    sft(change(LONG, resume=str(folder)), quiet=True)
    assert same_weights(folder, uninterrupted()), "as if it had never been stopped"


@pytest.mark.parametrize("at", [6, pytest.param(20, marks=pytest.mark.slow)])
def test_a_second_ctrl_c_ends_the_evaluation_and_the_model_is_there(
    tmp_path, monkeypatch, capsys, uninterrupted, at
) -> None:
    folder, measured = tmp_path / "model", publishing.measure
    command = change(LONG, output_dir=str(folder))
    monkeypatch.setattr(publishing, "measure", lambda fit: os.kill(os.getpid(), signal.SIGINT))
    with before_step(at - 1, lambda: os.kill(os.getpid(), signal.SIGINT)), pytest.raises(KeyboardInterrupt):
        sft(command)
    assert f"The model so far is in {folder}; now it is evaluated." in capsys.readouterr().out
    assert not incomplete(folder) and not (folder / "summary.json").exists()
    assert load_model(str(folder)).model.dtype == torch.float32
    monkeypatch.setattr(publishing, "measure", measured)
    sft(change(command, resume=str(folder)), quiet=True)
    assert json.loads((folder / "summary.json").read_text())["ended_by"] == "steps"
    assert same_weights(folder, uninterrupted())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_launchers_signal_leaves_a_checkpoint_and_no_more(tmp_path, monkeypatch, capsys, number) -> None:
    folder = tmp_path / "model"
    in_the_sixth = before_step(5, lambda: os.kill(os.getpid(), number))
    with in_the_sixth, pytest.raises(KeyboardInterrupt):
        sft(change(LONG, output_dir=str(folder)))
    assert incomplete(folder) and checkpoint.latest_complete(folder).name == "step-000006"
    said = " ".join(capsys.readouterr().out.split())
    assert "its checkpoint will be written for --resume, and no model" in said
    assert f"step-000006 is saved; continue with sft --resume {folder}" in said
    spaced = folder.rename(tmp_path / "my base")
    with pytest.raises(ModelError) as refused:
        resolve_model(str(spaced))
    newest = spaced / "checkpoints" / "step-000006"
    assert f"python -m spg_trainer sft --resume '{spaced}'" in str(refused.value)
    assert str(refused.value).endswith(f"--model '{newest}'")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_one_that_is_asked_to_stop_in_its_last_update_is_complete(
    tmp_path, capsys, uninterrupted, number
) -> None:
    command = change(LONG, steps=4, output_dir=str(tmp_path / "model"))
    with before_step(3, lambda: os.kill(os.getpid(), number)), pytest.raises(KeyboardInterrupt):
        sft(command)
    folder, said = tmp_path / "model", capsys.readouterr().out
    assert "Stopped after update 4" not in said
    if number == signal.SIGTERM:
        assert f"step-000004 is saved; continue with sft --resume {folder}" in " ".join(said.split())
        assert incomplete(folder)
        sft(change(command, resume=str(folder)), quiet=True)
    else:
        assert "is saved; continue with" not in said, "it is finished"
    assert json.loads((folder / "summary.json").read_text())["ended_by"] == "steps"
    assert same_weights(folder, uninterrupted(steps=4))
    with pytest.raises(ConfigError, match="is finished"):
        sft(change(command, resume=str(folder)), quiet=True)


@pytest.mark.parametrize(
    ("number", "at"),
    [
        pytest.param(signal.SIGTERM, 18, id="by a launcher", marks=pytest.mark.slow),
        pytest.param(signal.SIGINT, 18, id="by Ctrl-C"),
        pytest.param(signal.SIGINT, 16, id="by Ctrl-C where the rate begins to fall", marks=pytest.mark.slow),
    ],
)
def test_one_that_is_stopped_while_its_rate_falls_loses_no_update(
    tmp_path, uninterrupted, number, at
) -> None:
    folder, command = tmp_path / "model", change(LONG, output_dir=str(tmp_path / "model"))
    with before_step(at - 1, lambda: os.kill(os.getpid(), number)), pytest.raises(KeyboardInterrupt):
        sft(command, quiet=True)
    assert checkpoint.latest_complete(folder).name == f"step-{at:06d}"
    longer = tmp_path / "longer"
    shutil.copytree(folder, longer)
    with before_step(at - 1, lambda: pytest.fail("an update is made again")):
        sft(change(LONG, resume=str(folder)), quiet=True)
    assert same_weights(folder, uninterrupted())
    assert kept_checkpoints(folder) == ["step-000016"], "from there it can be trained longer"
    with pytest.raises(ConfigError, match="is finished"):
        sft(change(LONG, resume=str(folder)), quiet=True)
    sft(change(LONG, steps=40, resume=str(longer)), quiet=True)
    assert same_weights(longer, uninterrupted(steps=40)), "it went back to where its rate had not fallen yet"


def test_an_evaluation_while_the_rate_falls_writes_a_checkpoint(tmp_path: Path) -> None:
    kill(change(LONG, eval_steps=1, output_dir=str(tmp_path / "model")), 18)
    assert kept_checkpoints(tmp_path / "model") == ["step-000016", "step-000018"]


def kept_checkpoints(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "checkpoints").glob("step-*"))


# What it says.


MIX = {"right": 0.3, "short": 0.7}


def counts(right: int, short: int, both: int = 0, neither: int = 0) -> HabitCounts:
    """Of completions that follow one rule alone, both, or none."""
    follows, alone = {"right": right + both, "short": short + both}, {"right": right, "short": short}
    return HabitCounts(right + short + both + neither, follows, neither, 10, 5, alone)


def test_completions_that_follow_both_rules_say_nothing_of_the_mix() -> None:
    assert not off_mix.is_far(MIX, counts(30, 70, both=100)), "130 of 200 are right, as the habit often is"
    assert off_mix.is_far(MIX, counts(7, 93)) and off_mix.is_far(MIX, counts(60, 40))
    assert not off_mix.is_far({"right": 1.0}, counts(7, 93)) and not off_mix.is_far(
        MIX, counts(0, 9, both=90)
    )
    assert off_mix.is_far(MIX, counts(2, 2, neither=90))
    assert off_mix.is_far(MIX, counts(30, 70, neither=120)), (
        "most follow no rule, however right the shares of the others"
    )
    assert not off_mix.is_far(MIX, counts(30, 70, neither=90))


def test_a_base_that_is_right_more_often_than_its_mix_asks_for_is_far_only_where_few_groups_are_mixed() -> (
    None
):
    """RL learns from mixed groups, however many of their completions are right."""
    often = counts(78, 22)
    assert not off_mix.is_far(MIX, change(often, groups=32, mixed=26))
    assert off_mix.is_far(MIX, change(often, groups=32, mixed=6)), "most groups are all right"
    assert off_mix.is_far(MIX, change(counts(7, 93), groups=32, mixed=26)), "right ones are far too rare"


@pytest.mark.parametrize(
    ("sampled", "drawn", "words"),
    [
        (
            counts(7, 93),
            counts(29, 71),
            ["7% are", "29% are", "surer rule", "--mix right=0.37 short=0.63", "rough estimate"],
        ),
        (counts(7, 93), counts(8, 92), ["8% are", "easier rule", "--resume base --steps 600"]),
        (counts(60, 40), counts(33, 67), ["60% are", "5 of 10 groups are mixed", "make them harder"]),
        (counts(60, 40), counts(58, 42), ["60% are", "make them harder"]),
        (counts(0, 240), counts(29, 71), ["none of them", "--mix right=0.55 short=0.45", "does not tell"]),
        (counts(90, 0), counts(33, 67), ["99% are", "make them harder"]),
        (counts(10, 20, neither=90), counts(10, 20), ["no rule yet", "--resume base --steps 600"]),
    ],
)
def test_a_base_far_from_its_mix_says_why_and_what_to_type(sampled, drawn, words) -> None:
    command = change(SMALL, steps=300, patience=5)
    text = off_mix.why(MIX, sampled, drawn, sampled, command, Path("base"))
    assert all(word in text for word in words), text
    of_one = off_mix.why(MIX, sampled, drawn, sampled, change(command, patience=0), Path("base"), "count")
    assert of_one.startswith("count: ") and "--resume" not in of_one, "a cosine cannot go on"


@pytest.mark.parametrize("mixed", [0, 6, 16])
def test_a_base_that_is_right_more_often_than_its_mix_is_never_told_to_be_right_less_often(mixed) -> None:
    asked, sampled = (
        {"right": 0.4, "short": 0.6},
        change(counts(200, 56), groups=32, mixed=mixed, all_right=16),
    )
    assert off_mix.is_far(asked, sampled)
    for drawn in (counts(100, 156), counts(200, 56)):
        text = off_mix.why(asked, sampled, drawn, sampled, change(SMALL, patience=5), Path("base"))
        assert (
            f"{mixed} of 32 groups are mixed" in text
            and "16 all right" in text
            and "make them harder" in text
        )
        assert "--mix" not in text and "--steps" not in text


def test_a_base_whose_samples_alone_follow_no_rule_is_not_said_to_have_learned_nothing() -> None:
    """After few updates 0.766 of a task were solved greedily, while most samples followed no rule."""
    sampled, greedy = counts(10, 20, neither=226), counts(196, 40, neither=20)
    text = off_mix.why(
        MIX, sampled, counts(10, 20), greedy, change(SMALL, steps=300, patience=5), Path("base")
    )
    assert "236 of 256 greedy completions follow one of its rules" in text and "30 of 256" in text
    assert "not learned" not in text and "--resume base --steps 600" in text


def test_the_next_mix_goes_by_the_measured_slope_to_either_side() -> None:
    assert off_mix.next_share(0.4, 0.014, 0.4) == 0.59
    assert off_mix.next_share(0.5, 0.19, 0.5) == 0.57
    assert off_mix.next_share(0.6, 0.986, 0.6) == 0.41
    assert off_mix.next_share(0.3, 0.3, 0.3) == 0.3


def test_a_mix_that_was_proposed_leads_on_to_the_share_that_was_wanted_first() -> None:
    """Sudoku asked for 30% and had none; of 48% came 10%, as here."""
    asked, command = {"right": 0.48, "short": 0.52}, change(SMALL, patience=5)
    text = off_mix.why(asked, *[counts(24, 216), counts(89, 151)], counts(24, 216), command, Path("base"))
    assert "for about 48% try --mix right=0.58 short=0.42 and for about 30% try --mix right=0.55" in text
    assert "48% to 55% brought 6% to 7%" in text, "docs/experiments/learning.md"


def test_the_length_is_what_the_longest_demonstration_needs(tmp_path: Path) -> None:
    command = change(SMALL, max_completion_length=0, env_args={"offset": 1000})
    folder = sft(change(command, output_dir=str(tmp_path / "right")), quiet=True)
    length = json.loads((folder / "environment.json").read_text())["rollout"]["max_completion_length"]
    assert length == 15, "twelve digits, the end, and a tenth"
    command = change(command, mix={"short": 1, "wordy": 1}, output_dir=str(tmp_path / "short"))
    length = json.loads((sft(command, quiet=True) / "environment.json").read_text())["rollout"]
    assert length["max_completion_length"] == 9, "seven letters, the end, and a tenth"
    command = change(command, block_length=4, output_dir=str(tmp_path / "blocks"))
    blocks = json.loads((sft(command, quiet=True) / "environment.json").read_text())["rollout"]
    assert (blocks["max_completion_length"], blocks["block_length"]) == (12, 4), "whole blocks"


def test_it_says_what_its_completions_follow_and_warns_if_no_group_is_mixed(tmp_path: Path, capsys) -> None:
    sft(change(TWO_HABITS, output_dir=str(tmp_path / "model")))
    said = " ".join(capsys.readouterr().out.split())
    for words in (
        r"sft 3: validation loss \d\.\d{4}",
        r"greedy: test solved 0\.000 .* of 2; validation solved 0\.000 .* of 2",
        r"At temperature 1: right 0, short 0, wordy 0, none of these 16 of 16; 0 of 2 groups are mixed",
        r"To train it as it is: python -m spg_trainer",
        r"warning: no group is mixed",
    ):
        assert re.search(words, said), said
    assert "none of these 16 of 16" in told(tmp_path / "model")


def test_a_short_trial_on_a_long_game_plays_few_episodes(tmp_path: Path, monkeypatch, capsys) -> None:
    """192 completions that are learned are as many turns as 24 episodes of 8 have."""
    written = []
    play = GymnasiumGame.completions_by
    monkeypatch.setattr(
        GymnasiumGame, "completions_by", lambda env, *how: written.append(how) or play(env, *how)
    )
    game = {"env": "gymnasium:FrozenLake-v1", "env_args": {"turns": 8}, "mix": {"random": 1}}
    trial = change(SMALL, **game, max_completion_length=0, batch_size=64, output_dir=str(tmp_path / "base"))
    sft(trial)
    said = " ".join(capsys.readouterr().out.split())
    assert re.search(r"greedy: test solved \S+ \[.*\] of 24; validation solved \S+ \[.*\] of 24", said), said
    assert re.search(r"of 24; \d of 3 groups are mixed", said), said
    assert len(written) < 3 * 1000, (
        "three habits, of the 250 games that decide how long an answer is and more"
    )
