"""Base models from demonstrations: what is drawn, the loss, equal weights for equal seeds, going on, what is said."""

import json
import math
import os
import re
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import pytest
import torch

import envs
from spg_trainer import cli, load_model
from spg_trainer.architecture.pattern import Pattern
from spg_trainer.errors import ConfigError, TrainingError, as_flag
from spg_trainer.evaluation.habits import HabitCounts
from spg_trainer.models import Policy, new_policy
from spg_trainer.models.load import without_weights
from spg_trainer.models.tiny import BLOCK
from spg_trainer.reporting.compare import plan_runs, refuse
from spg_trainer.reporting.runs import read_run
from spg_trainer.rollout.demonstrations import (
    draw_demonstrations,
    fitting_block,
    mix_shares,
    settled_decoding,
)
from spg_trainer.rollout.player import Player
from spg_trainer.rollout.tokens import encode_completions, length_warning
from spg_trainer.runs import checkpoint
from spg_trainer.runs.folder import METRICS, REPORT, SUMMARY, TIMINGS, find_unfinished
from spg_trainer.settings.configs import CompareCommand, Config
from spg_trainer.settings.decoding import Sampling
from spg_trainer.settings.model import ModelConfig
from spg_trainer.settings.resolve import defaults, resolve
from spg_trainer.training import advice, evaluations, finish, loop, setup
from spg_trainer.training import update as update_module
from spg_trainer.training.evaluations import loss_without_gradient
from spg_trainer.training.run import Run
from tests.common.sft_cases import SIZES, SMALL, Count, before_step, first_update, sft
from tests.common.trainer_cases import change, rows, same_weights, saved_steps, start, weights

LONG = change(SMALL, max_steps=20, eval_steps=4, mix={"right": 1, "short": 1}, seed=3)
TWO_HABITS = change(SMALL, mix={"right": 1, "short": 3}, env_args={"offset": 1}, seed=5)


@pytest.fixture(scope="module")
def policy() -> Policy:
    return new_policy(hidden_size=16, layers=1, heads=2, ffn=24, device="cpu")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on two habits of the task."""
    return sft(change(TWO_HABITS, output_dir=str(tmp_path_factory.mktemp("sft") / "count")))


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """The run of `LONG`, with some settings changed, that nothing interrupts: each once, and read only."""
    folders: dict[str, Path] = {}

    def make(**changes: Any) -> Path:
        config = change(LONG, **changes)
        if repr(config) not in folders:
            folder = tmp_path_factory.mktemp("uninterrupted") / "run"
            folders[repr(config)] = sft(change(config, output_dir=str(folder)))
        return folders[repr(config)]

    return make


def same_models(left: Path, right: Path) -> bool:
    """Whether two runs wrote bit-equal models and the same rows."""
    rows_are_same = (left / METRICS).read_bytes() == (right / METRICS).read_bytes()
    return rows_are_same and same_weights(left / "model", right / "model")


# What is drawn.


def test_a_score_that_raises_is_told_before_anything_is_trained(tmp_path: Path, monkeypatch) -> None:
    def broken(self: Count, problem: envs.Problem, completion: str) -> envs.Score:
        return envs.Score({"correct": float(completion), "format": 0.0})

    monkeypatch.setattr(Count, "score", broken)
    said = r"count: score raised on problem 0, for '<answer>.*ValueError.*test_sft.py\", line \d+, in broken"
    with pytest.raises(envs.EnvError, match=said):
        sft(change(SMALL, output_dir=str(tmp_path / "base")))
    assert not (tmp_path / "base").exists()


def demonstrated(folder: Path, right: int) -> list[str]:
    """The words for a file of 40 questions, of whose demonstrations every `right`-th is a bare number."""
    rows = [{"prompt": f"{i} + 1?", "answer": i + 1} for i in range(40)]
    rows = [{**row, "shown": f"<answer>{row['answer']}</answer>"} for row in rows]
    rows = [{**row, "shown": str(row["answer"])} if i % right == 0 else row for i, row in enumerate(rows)]
    (folder / "sums.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return f"--env {folder}/sums.jsonl --env-args verifier=gsm8k demonstration=shown".split()


def test_demonstrations_that_the_verifier_refuses_are_refused_before_anything_is_trained(tmp_path) -> None:
    words = demonstrated(tmp_path, right=1)
    said = r"none of \d\d demonstrations .* is right; problem 0 \(sums.jsonl, line 1\) is not solved by '1': no_answer"
    with pytest.raises(ConfigError, match=rf"{said}, .* '<answer>1</answer>' would be right.*--force"):
        plan_of(*words)
    assert "none of " in plan_of(*words, "--force").demonstrations


def test_some_demonstrations_that_the_verifier_refuses_are_named_before_training(tmp_path, capsys) -> None:
    words = demonstrated(tmp_path, right=10)
    note = plan_of(*words).demonstrations
    assert re.search(
        r"[1-4] of \d\d demonstrations .* are not right; .* line \d*1\) is not solved by '\d*1':", note
    )
    assert cli.main(["sft", *words, "--dry-run"]) == 0
    assert f"# demonstrations: {note}" in capsys.readouterr().out


def test_who_teaches_the_small_model_is_not_told_to_teach_it(tmp_path, capsys) -> None:
    words = demonstrated(tmp_path, right=41)
    more = [
        "--max-steps",
        "1",
        "--eval-problems",
        "2",
        "--validation-problems",
        "2",
        "--prompts-per-step",
        "2",
    ]
    more += ["--output-dir", str(tmp_path / "run")]
    assert cli.main(["sft", *words, "--model", "tiny", *more]) == 0
    assert "teach it" not in " ".join(capsys.readouterr().out.split())


def test_demonstrations_that_functions_alone_judge_are_refused_for_no_scale_of_theirs(
    tmp_path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = [word for word in demonstrated(tmp_path, right=1) if not word.startswith("verifier")]
    Path("pays.py").write_text(
        "def half(completions, **kwargs):\n    return [0.5] * len(completions)\n"
        "def nothing(completions, **kwargs):\n    return [0] * len(completions)\n"
    )
    assert plan_of(*words, "reward=./pays.py:half").demonstrations == ""
    assert "nothing pays 0" in plan_of(*words, "reward=./pays.py:nothing").demonstrations


@pytest.mark.parametrize("mix", [{"shy": 1}, {"short": -1}, {"short": "much"}, {"short": 0}], ids=str)
def test_a_mix_that_cannot_be_is_refused(mix) -> None:
    with pytest.raises(ConfigError, match=rf"mix.*({next(iter(mix))}|right=1)"):
        mix_shares(mix, Count())


def test_a_habit_of_some_problems_only_is_no_part_of_a_mix(monkeypatch) -> None:
    habits = Count.habits
    monkeypatch.setattr(Count, "habits", lambda self, p: habits(self, p) if p.reference["number"] < 5 else {})
    with pytest.raises(ConfigError, match=r"mix short: .* 'count [5-9]'"):
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
    assert "$max_completion_length=2" in text and "have 3 tokens" in text and "Use 4" in text


def test_demonstrations_of_a_rare_task_of_a_mixture_are_measured_too(capsys) -> None:
    words = "sft --env arithmetic:weight=900 sudoku:level=1 --model tiny --max-completion-length 14 --dry-run"
    assert cli.main(words.split()) == 2
    said = capsys.readouterr().err
    assert re.search(
        r"sudoku: the completion of train problem \d+ has 19 tokens with its end token, more than 14", said
    )


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


def prepared(config: Config, policy: Policy | None = None) -> Run:
    """The run of some settings before its first update. policy: in place of a new one, and in its number type."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(setup, "prepare_folder", lambda *_: None)
        if policy is not None:
            patch.setattr(setup, "open_policy", lambda *_, **__: policy)
        return start(config)


def test_masked_counts_are_uniform_and_depend_on_seed_and_step() -> None:
    def drawn(seed: int, number: int, batch_size: int = 2000) -> torch.Tensor:
        run = prepared(
            change(
                SMALL,
                seed=seed,
                prompts_per_step=batch_size,
                max_completion_length=4,
                per_device_batch_size=2000,
            )
        )
        (micro,) = first_update(run, number).micro_batches
        scored = micro.masks.scored[:, 0]
        assert torch.equal(micro.masks.weight[:, 0], scored * (4 / scored.double().sum(1, keepdim=True)))
        return scored

    masked = drawn(0, 0)
    counts = Counter(masked.sum(1).tolist())
    assert set(counts) == {1, 2, 3, 4} and all(abs(n / 2000 - 0.25) < 0.04 for n in counts.values())
    assert (masked[masked.sum(1) == 1].float().mean(0) - 0.25).abs().max() < 0.06
    few = drawn(0, 0, 40)
    assert torch.equal(drawn(0, 0, 40), few), "the same problem twice in a step is masked anew"
    assert len({str(row) for row in few.tolist()}) > 10
    for seed, step in ((0, 1), (1, 0)):
        assert not torch.equal(drawn(seed, step, 40), few)


def test_a_completion_stays_with_its_problem_where_prompts_are_sorted_by_length(policy: Policy) -> None:
    run = prepared(change(SMALL, env_args={"offset": 5}, prompts_per_step=24), policy)
    rows = run.source.collect(0)
    numbers = [str(problem.reference["number"]) for problem in rows.problems]
    lengths = [len(number) for number in numbers]
    assert lengths == sorted(lengths) and set(lengths) == {1, 2}
    assert rows.completions == [number * 3 for number in numbers]
    assert policy.tokenizer.batch_decode(rows.completion_ids, skip_special_tokens=True) == rows.completions


def test_the_loss_of_a_row_is_the_mean_of_its_masked_tokens(policy: Policy) -> None:
    run = prepared(change(SMALL, prompts_per_step=6, mix={"right": 1, "short": 1}))
    update, expected = first_update(run), 0.0
    (micro,) = update.micro_batches
    rollouts, masked = micro, micro.masks.scored[:, 0]
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
    again = sft(change(TWO_HABITS, output_dir=str(tmp_path / "again")))
    assert torch.equal(torch.get_rng_state(), state)
    other = sft(change(TWO_HABITS, seed=6, output_dir=str(tmp_path / "other")))
    assert same_models(made, again) and not same_models(made, other)
    start = new_policy(seed=5, hidden_size=16, layers=1, heads=2, ffn=24).model.state_dict()
    first = load_model(str(made), device="cpu").model.state_dict()
    assert not any(torch.equal(first[name], start[name]) for name in first if "q_proj" in name)


def test_the_micro_batch_changes_memory_only(made: Path, tmp_path: Path) -> None:
    parts = sft(change(TWO_HABITS, per_device_batch_size=3, output_dir=str(tmp_path / "parts")))
    torch.testing.assert_close(weights(made / "model"), weights(parts / "model"), rtol=0, atol=2e-3)


@pytest.mark.parametrize("validation", [False, True])
def test_a_loss_that_is_not_finite_ends_it(tmp_path: Path, monkeypatch, validation) -> None:
    if validation:
        monkeypatch.setattr(evaluations, "loss_without_gradient", lambda *_: float("nan"))
    else:
        gradient = update_module.gradient
        monkeypatch.setattr(update_module, "gradient", lambda *of: dict.fromkeys(gradient(*of), float("nan")))
    with pytest.raises(TrainingError, match=r"--learning-rate 0\.01"):
        sft(change(SMALL, max_steps=4, output_dir=str(tmp_path / "run")))
    assert not (tmp_path / "run" / "model").exists()


# Lengths, and the folder.


@pytest.mark.parametrize("kind, family", [("block", "sdar"), ("shift", "dream")])
def test_a_new_model_of_another_kind_learns(tmp_path, kind, family) -> None:
    model = ModelConfig(f"new:{kind}", device="cpu", **SIZES)
    folder = sft(change(SMALL, model=model, output_dir=str(tmp_path / "run")))
    opened = load_model(str(folder), device="cpu").model
    assert opened.config.model_type.lower() == family and opened.config.hidden_size == 16


def test_a_block_length_gives_way_unless_it_was_asked_for() -> None:
    full, blocks = Pattern(), Pattern(8)
    assert fitting_block(20, 12, blocks) == 4, "the largest part of 8 that divides 20"
    assert fitting_block(24, 12, blocks) == 8, "the model has blocks of its own"
    assert fitting_block(30, 12, full) == 30, "it does not divide"
    assert fitting_block(24, 12, full) == 12


def test_a_block_length_that_does_not_fit_is_refused_before_training(tmp_path) -> None:
    model = ModelConfig("new:block", device="cpu", **SIZES)
    config = change(SMALL, model=model, output_dir=str(tmp_path / "run"), max_completion_length=BLOCK + 1)
    with pytest.raises(
        ConfigError, match=f"--block-length {BLOCK + 1} does not divide .* --block-length {BLOCK}"
    ):
        sft(change(config, block_length=BLOCK + 1))
    assert not (tmp_path / "run").exists()


def test_a_block_length_that_was_asked_for_is_told_from_that_of_a_training() -> None:
    def decoded(*words: str) -> Sampling:
        asked = resolve(Config, ["--source", "demonstrations", "--env", "countdown", *words])
        policy = without_weights(change(asked.config.model, model="new"), "countdown")
        return settled_decoding(asked.config, policy, None, {})

    assert (decoded().block_length, decoded().diffusion_steps) == (12, 12)
    llada = decoded("--model", "GSAI-ML/LLaDA-8B-Instruct")
    assert (llada.block_length, llada.tokens_per_step) == (32, 2), "as a training has them"
    longer = ["--max-completion-length", "30"]
    assert decoded(*longer).block_length == 30 and decoded(*longer, "--block-length", "15").block_length == 15
    with pytest.raises(ConfigError, match="--block-length 12 does not divide --max-completion-length 30"):
        decoded(*longer, "--block-length", "12")


@pytest.mark.parametrize("more", [{}, {"max_completion_length": 20}, {"block_length": 4}])
@pytest.mark.parametrize("model", ["new", "new:block", "converted"])
def test_blocks_are_chosen_in_python_as_on_the_command_line(tmp_path, model, more) -> None:
    if model == "converted":  # SDAR decodes in blocks of 4; the attention of this one has blocks of 8
        converted = new_policy("block", hidden_size=16, layers=1, heads=2, ffn=24)
        converted.model.save_pretrained(str(tmp_path / "converted"))
        converted.tokenizer.save_pretrained(str(tmp_path / "converted"))
        model = str(tmp_path / "converted")
    settings = {"source": "demonstrations", "env": "countdown", "model": model, **more}
    words = [word for name, value in settings.items() for word in (as_flag(name), str(value))]
    asked, in_python = resolve(Config, words).config, defaults(Config, **settings)
    policy = without_weights(asked.model, "countdown")
    chosen = settled_decoding(asked, policy, None, {})
    assert settled_decoding(in_python, policy, None, {}) == chosen
    if "block" in model and not more:
        assert chosen.block_length == math.gcd(chosen.max_completion_length, BLOCK)


def test_a_run_whose_lengths_were_chosen_is_found_and_compared(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    of_all = {
        "source": "demonstrations",
        "max_steps": 1,
        "device": "cpu",
        "eval_problems": 0,
        "eval_steps": 0,
    }
    words = [
        word
        for name, value in {**of_all, **SIZES, "patience": 0}.items()
        for word in (as_flag(name), str(value))
    ]
    command = CompareCommand(
        env=("count",), model=("new:block",), algorithms=("mle",), seeds=(1,), output_dir="runs"
    )
    runs = plan_runs(command, words)
    (run,) = runs
    assert cli.main([*run.words, "--output-dir", str(run.folder)]) == 0
    refuse(runs)
    (run.folder / SUMMARY).unlink()
    assert find_unfinished(Path("runs"), run.config) == run.folder
    assert find_unfinished(Path("runs"), change(run.config, max_completion_length=16)) is None


def test_the_loss_of_a_model_with_blocks_is_that_of_a_pass_for_each_block() -> None:
    """Noisy copies of the prompt's blocks are not computed: what is asked for does not depend on them."""
    policy = new_policy("block", seed=1, hidden_size=16, layers=2, heads=2, ffn=24)
    policy.model.double()
    model = ModelConfig("new:block", device="cpu", **SIZES)
    command = change(SMALL, prompts_per_step=3, max_completion_length=24, model=model)
    run = prepared(command, policy)
    update = first_update(run)
    (micro,) = update.micro_batches
    rollouts, masked = micro, micro.masks.scored[:, 0]
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
    record = json.loads((made / "model" / "environment.json").read_text())
    assert {name: record[name] for name in expected} == expected and record["base_model"] == "new"
    assert cli.main(["--model", str(made), "--prompts-per-step", "4", "--dry-run"]) == 0
    shown = capsys.readouterr().out
    assert "env: count" in shown and "offset: 1" in shown
    assert "of 8, 8 denoising steps" in shown


def test_a_dry_run_says_what_will_be_learned_and_writes_nothing(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    words = (
        "sft --env arithmetic --hidden-size 16 --num-heads 2 --mix right=1 --prompts-per-step 24 --dry-run"
    )
    assert cli.main(words.split()) == 0
    shown = capsys.readouterr().out
    assert "source: demonstrations  # flag" in shown
    length = re.search(r"max_completion_length: (\d+)", shown)[1]
    assert int(length) > 0 and f"{length} tokens in blocks of {length}, {length} denoising steps" in shown
    assert "# 24 demonstrations drawn = 24 completions a step" in shown and "weights: 0." in shown
    assert "rollout" not in shown.partition("seconds of a step")[2], "nothing is sampled"
    assert not list(tmp_path.iterdir())
    with pytest.raises(ConfigError, match="no such habit"):
        plan_of("--mix", "shy=1")


def plan_of(*words: str) -> Any:
    """The plan of a training on demonstrations of `count`."""
    from spg_trainer.training.plan import settle

    task = [] if "--env" in words else ["--env", "count"]
    return settle(["--source", "demonstrations", *task, *words])


def test_every_step_has_a_row_and_the_end_a_summary_and_a_report(tmp_path: Path) -> None:
    config = change(TWO_HABITS, max_steps=6, eval_steps=2, patience=9, report=True)
    folder = sft(change(config, output_dir=str(tmp_path / "run")))
    metrics, timings = rows(folder / METRICS), rows(folder / TIMINGS)
    assert [row["step"] for row in metrics] == [row["step"] for row in timings] == [1, 2, 3, 4, 5, 6]
    losses = {row["step"]: row["validation/loss"] for row in metrics if "validation/loss" in row}
    assert list(losses) == [2, 4, 6]
    assert set(metrics[0]) == {
        "step",
        "loss",
        "grad_norm",
        "grad_norm_max",
        "updates_skipped",
        "learning_rate",
    }
    found = json.loads((folder / SUMMARY).read_text())["validation"]
    assert found["start"] == json.loads((folder / "eval" / "step-000000.json").read_text())["loss"]
    assert found["last"] == losses[6] and found["lowest"] == min(losses.values())
    assert found["best"] <= 1.01 * found["lowest"]
    (after,) = read_run(folder).before_after
    assert after.step == found["best_step"] and len(after.rows) == 2
    said = " ".join((folder / REPORT).read_text().split())
    assert f"6 of 6 steps. model/ is {found['chosen']}." in said
    assert "<h1>count mle</h1>" in said and "tokens sampled" not in said and "not finished" not in said
    assert said.count('role="img" aria-label="Loss"') == 1, "both losses on one axis"


# How long, and going on.


def kill(config: Config, at: int) -> None:
    """Trains until so many steps are done, and ends there as `kill -9` does: nothing is saved any more."""

    def stop() -> None:
        raise RuntimeError("killed")

    with before_step(at, stop), patch.object(finish, "save_finished_steps", lambda *_: None):
        with pytest.raises(RuntimeError, match="killed"):
            sft(config)


@pytest.mark.parametrize(
    ("changes", "at"),
    [
        pytest.param({}, (2, 5, 18), id="before the first checkpoint, then twice"),
        pytest.param(
            {"learning_rate": 1e-9, "patience": 2},
            (9,),
            id="while the rate falls early",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            {"lr_schedule": "cosine", "optimizer": "muon"},
            (7, 19),
            id="muon under a cosine",
            marks=pytest.mark.slow,
        ),
        pytest.param({"lora": True}, (6, 17), id="adapters with dropout", marks=pytest.mark.slow),
    ],
)
def test_one_that_was_killed_ends_like_one_never_interrupted(
    tmp_path, made, uninterrupted, changes, at
) -> None:
    changes = dict(changes)
    if changes.pop("lora", False):
        changes["model"] = ModelConfig(model=str(made), device="cpu", lora_r=2, lora_dropout=0.5)
    config, whole = change(LONG, **changes), uninterrupted(**changes)
    config = change(config, output_dir=str(tmp_path / "cut"), resume="auto")
    for step in at:
        kill(config, step)
        torch.rand(7)
    assert same_models(whole, sft(config))


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_one_that_is_stopped_goes_on_as_if_it_had_never_been(
    tmp_path, capsys, uninterrupted, number: int
) -> None:
    """Stopped in step 18, where its rate falls: no step is made again."""
    folder = tmp_path / "run"
    with before_step(17, lambda: os.kill(os.getpid(), number)), pytest.raises(KeyboardInterrupt):
        loop.train(change(LONG, output_dir=str(folder)))
    assert f"step-000018 is saved; continue with --resume {folder}" in " ".join(
        capsys.readouterr().out.split()
    )
    assert saved_steps(folder) == [16, 18] and not (folder / "model").exists(), (
        "16 is where its rate began to fall"
    )
    whole = uninterrupted()
    with before_step(17, lambda: pytest.fail("a step is made again")):
        assert same_models(whole, sft(change(LONG, resume=str(folder))))


@pytest.mark.parametrize(
    "rate",
    [
        pytest.param(LONG.optimizer.learning_rate, id="loss falls", marks=pytest.mark.slow),
        pytest.param(1e-9, id="loss stays", marks=pytest.mark.slow),
    ],
)
def test_a_finished_one_becomes_longer_as_if_its_rate_had_never_fallen(tmp_path, uninterrupted, rate) -> None:
    """Where its loss had stalled, it is told to go on with --patience 0."""
    changes = {"learning_rate": rate, "patience": 2}
    folder = sft(change(LONG, **changes, output_dir=str(tmp_path / "run")))
    first, longer = steps_until_fall(folder), {**changes, "max_steps": 40, "patience": 0}
    assert first == (16 if rate > 1e-9 else 8)
    with before_step(first - 1, lambda: pytest.fail("a step before the fall is made again")):
        sft(change(LONG, **longer, output_dir=str(folder), resume="auto"))
    assert same_models(uninterrupted(**longer), folder)
    assert saved_steps(folder) == [32, 40]


def steps_until_fall(folder: Path) -> int:
    """How many steps of a run were made at the full rate."""
    rates = [row["learning_rate"] for row in rows(folder / METRICS)]
    return sum(rate == max(rates) for rate in rates)


def test_where_its_checkpoint_before_the_fall_is_gone_it_says_so(tmp_path, uninterrupted) -> None:
    folder = sft(change(LONG, output_dir=str(tmp_path / "run")))
    (folder / "checkpoints" / "step-000016" / "COMPLETE").unlink()
    with pytest.raises(
        Exception, match="no checkpoint up to step 16, and with these settings its learning rate falls"
    ):
        sft(change(LONG, max_steps=40, resume=str(folder)))


def test_it_goes_on_with_its_own_settings_from_the_command_line(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    kill(change(LONG, output_dir=str(folder)), 9)
    read = resolve(Config, ["--resume", str(folder), "--max-steps", "24"]).config
    settled = {"algorithm_args": read.algorithm_args, "block_length": 8, "diffusion_steps": 8}
    assert change(read, max_steps=20, resume=None, model=LONG.model) == change(LONG, **settled)
    for wrong, words in (
        (change(LONG, seed=4, resume=str(folder)), rf"seed was 3, now 4.*model {folder}"),
        (change(LONG, max_steps=7, resume=str(folder)), "--max-steps 7: .*step-000008 is already at step 8"),
        (change(LONG, output_dir=str(folder)), f"--resume {folder} "),
    ):
        with pytest.raises(ConfigError, match=words):
            sft(wrong)


def test_the_weights_of_the_best_validation_become_the_model(tmp_path: Path, monkeypatch) -> None:
    """Of losses within 1% of the lowest, the latest counts; those of later steps that are higher do not."""
    losses = {0: 9.0, 4: 3.0, 8: 1.0, 12: 1.005, 16: 2.0, 20: 1.5}
    kept: dict[int, Any] = {}

    def scripted(run: Run) -> float:
        kept[run.state.step] = {name: value.clone() for name, value in run.policy.model.state_dict().items()}
        return losses[run.state.step]

    monkeypatch.setattr(evaluations, "held_out_loss", scripted)
    folder = sft(change(LONG, output_dir=str(tmp_path / "run")))
    found = load_model(str(folder), device="cpu").model.state_dict()
    assert all(torch.equal(found[name], kept[12][name]) for name in found)
    assert json.loads((folder / SUMMARY).read_text())["validation"]["best_step"] == 12
    assert saved_steps(folder) == [12, 16, 20], "the best, where the rate fell, and the last"


def test_rounded_weights_are_written_and_measured_if_they_are_asked_for(tmp_path: Path, made: Path) -> None:
    folder = sft(change(TWO_HABITS, save_dtype="bfloat16", output_dir=str(tmp_path / "run")))
    rounded, whole = weights(folder / "model"), weights(made / "model")
    assert {tensor.dtype for tensor in rounded.values()} == {torch.bfloat16}
    assert all(torch.equal(rounded[name], whole[name].bfloat16()) for name in whole)
    last = checkpoint.latest_complete(folder)
    assert {tensor.dtype for tensor in weights(last).values()} == {torch.float32}


# What it says.


MIX = {"right": 0.3, "short": 0.7}


def counts(right: int, short: int, both: int = 0, neither: int = 0) -> HabitCounts:
    """Of completions that follow one rule alone, both, or none."""
    follows, alone = {"right": right + both, "short": short + both}, {"right": right, "short": short}
    return HabitCounts(right + short + both + neither, follows, neither, 10, 5, alone)


def test_completions_that_follow_both_rules_say_nothing_of_the_mix() -> None:
    assert not advice.is_far(MIX, counts(30, 70, both=100)), "130 of 200 are right, as the habit often is"
    assert advice.is_far(MIX, counts(7, 93)) and advice.is_far(MIX, counts(60, 40))
    assert not advice.is_far({"right": 1.0}, counts(7, 93)) and not advice.is_far(MIX, counts(0, 9, both=90))
    assert advice.is_far(MIX, counts(2, 2, neither=90))
    assert advice.is_far(MIX, counts(30, 70, neither=120)), (
        "most follow no rule, however right the shares of the others"
    )
    assert not advice.is_far(MIX, counts(30, 70, neither=90))


def test_a_base_that_is_right_more_often_than_its_mix_asks_for_is_far_only_where_few_groups_are_mixed() -> (
    None
):
    """RL learns from mixed groups, however many of their completions are right."""
    often = counts(78, 22)
    assert not advice.is_far(MIX, change(often, groups=32, mixed=26))
    assert advice.is_far(MIX, change(often, groups=32, mixed=6)), "most groups are all right"
    assert advice.is_far(MIX, change(counts(7, 93), groups=32, mixed=26)), "right ones are far too rare"


@pytest.mark.parametrize(
    ("sampled", "words"),
    [
        (counts(7, 93), "The mix asks for 30% right: 7% of the sampled completions are"),
        (counts(90, 0), "99% of the sampled completions are"),
        (counts(10, 20, neither=90), "90 of 120 sampled completions follow none of its rules yet"),
    ],
)
def test_a_base_far_from_its_mix_says_how_far(sampled, words) -> None:
    assert words in advice.far_line(MIX, sampled, "")
    assert advice.far_line(MIX, sampled, "count").startswith("count: the mix asks for")


def test_the_length_is_what_the_longest_demonstration_needs() -> None:
    def lengths(**changes: Any) -> tuple[int, int]:
        from spg_trainer.training.plan import settle

        r = settle(change(SMALL, max_completion_length=0, **changes)).config.rollout
        return r.max_completion_length, r.block_length

    assert lengths(env_args={"offset": 1000}) == (15, 15), "twelve digits, the end, and a tenth"
    shorter = {"env_args": {"offset": 1000}, "mix": {"short": 1, "wordy": 1}}
    assert lengths(**shorter) == (9, 9), "seven letters, the end, and a tenth"
    assert lengths(**shorter, block_length=4) == (12, 4), "whole blocks"


def test_it_says_what_its_completions_follow_and_warns_if_no_group_is_mixed(tmp_path: Path, capsys) -> None:
    folder = tmp_path / "run"
    loop.train(change(TWO_HABITS, output_dir=str(folder)))
    said = " ".join(capsys.readouterr().out.split())
    for words in (
        r"step 3: validation loss \d\.\d{4}",
        r"At temperature 1: right 0, short 0, wordy 0, none of these 16 of 16; 0 of 2 groups are mixed",
        r"warning: no group is mixed",
        r"model/ is step 3, with a validation loss of \d",
        r"count\[offset=1\]: solved rate on 2 test problems that this run did not train on: 0\.000 \[",
        rf"Next: python -m spg_trainer --env count --env-args offset=1 --model {folder}",
    ):
        assert re.search(words, said), (words, said)


def test_as_many_groups_are_looked_at_as_an_evaluation_has_problems_up_to_a_limit(
    policy, monkeypatch
) -> None:
    monkeypatch.setattr(advice, "GROUPS", 4)
    for eval_problems, looked_at in ((3, 3), (9, 4), (0, 4)):
        said: list[str] = []
        config = change(TWO_HABITS, block_length=8, eval_problems=eval_problems)
        run = SimpleNamespace(
            config=config,
            splits={"test": Count("train")},
            policy=policy,
            player=Player(policy, config.rollout, config.seed),
            source=SimpleNamespace(mix=TWO_HABITS.mix),
            console=SimpleNamespace(say=said.append, warn=said.append),
            accelerator=None,
        )
        advice.say_what_rl_would_find(run)
        assert f"of {8 * looked_at}; 0 of {looked_at} groups are mixed" in said[0]
        assert "no group is mixed" in said[1]


def test_the_origins_of_a_dry_run_without_a_task_are_whole(tmp_path, capsys) -> None:
    texts = [json.dumps({"prompt": f"{i}+1", "completion": str(i + 1)}) for i in range(40)]
    (tmp_path / "rows.jsonl").write_text("\n".join(texts))
    words = ["sft", "--data", str(tmp_path / "rows.jsonl"), "--model", "new", "--dry-run"]
    status = cli.main(words)
    said = capsys.readouterr()
    assert status == 0, said.err
    origins = re.findall(r"#(.*)$", said.out, flags=re.M)
    assert " training on any task" in origins
    assert not [origin for origin in origins if origin.endswith(" ") or not origin.strip()]


@pytest.mark.parametrize("masking", ["lift", pytest.param("gift", marks=pytest.mark.slow)])
def test_a_masking_that_looks_first_learns_the_same_in_small_passes(tmp_path: Path, masking: str) -> None:
    losses = []
    for size in (192, 3):
        settings = {"algorithm_args": {"masking": masking, "num_masks": 2}, "per_device_batch_size": size}
        run = sft(change(SMALL, **settings, output_dir=str(tmp_path / str(size))))
        losses.append([row["loss"] for row in rows(run / METRICS)])
    assert losses[0] == pytest.approx(losses[1], rel=1e-4) and losses[0][-1] < losses[0][0]
