"""What a run leaves behind: samples, a summary, models that open, adapters."""

import json
import re

import numpy as np
import pytest
import torch
from peft import PeftModel
from transformers import AutoModel, AutoModelForMaskedLM

from spg_trainer.evaluation.command import run_eval
from spg_trainer.evaluation.evaluate import evaluate
from spg_trainer.models import load_model
from spg_trainer.settings.configs import EvalCommand
from spg_trainer.settings.recorded import to_yaml
from spg_trainer.settings.resolve import resolve
from spg_trainer.training.loop import train
from tests.common.process_cases import run_processes
from tests.common.trainer_cases import (
    ENV,
    EVALUATION,
    LORA,
    PROBLEMS,
    Letters,
    adam_state,
    finished_run,
    rows,
    same_weights,
    saved_steps,
    small_config,
    step,
    tiny_folder,
    weights,
)


@pytest.fixture
def finished():
    """A run of three steps that kept all its checkpoints, and its summary; read only."""
    return finished_run()


@pytest.fixture(scope="module")
def adapted(tmp_path_factory):
    """The same with LoRA adapters and dropout."""
    folder = tmp_path_factory.mktemp("adapted") / "run"
    train(small_config(folder, **LORA, lora_dropout=0.3, max_steps=2), quiet=True)
    return folder


def test_samples_hold_what_was_asked_written_and_earned(finished):
    samples, env = rows(finished[0] / "samples" / "step-000002.jsonl"), Letters("train")
    for sample in samples:
        problem = env.problem(sample["index"])
        score = env.score(problem, sample["completion"])
        assert sample == {
            **{"step": 2, "env": "letters", "task": "letters", "prompt": problem.prompt, "wanted": 0.3},
            **{"rewards": score.rewards, "reason": score.reason, "extracted": score.extracted},
            "reward": pytest.approx(0.5 * score.rewards["correct"] + score.rewards["letters"]),
            "correct": score.rewards["correct"] == 1,
            **{name: sample[name] for name in ("index", "generation", "completion")},
            **{name: sample[name] for name in ("advantage", "reveal_step", "tokens", "confidence")},
        }
        ends = [i for i, token in enumerate(sample["tokens"]) if token in ("<|endoftext|>", "<|eot_id|>")]
        said = [token for token in sample["tokens"][: min(ends, default=10)] if not token.startswith("<|")]
        # Bytes of one character may be several tokens.
        assert re.sub(r"[^ -~]", "", "".join(said)) == re.sub(r"[^ -~]", "", sample["completion"])
        unmasked = [step >= 0 for step in sample["reveal_step"]]
        assert [token != "" for token in sample["tokens"]] == unmasked
        assert [sure is not None and 0 <= sure <= 1 for sure in sample["confidence"]] == unmasked
        assert len(sample["reveal_step"]) == 10 and max(sample["reveal_step"]) < 6
    groups = np.array([sample["reward"] for sample in samples]).reshape(4, 4)
    advantages = np.array([sample["advantage"] for sample in samples]).reshape(4, 4)
    assert np.allclose(advantages, groups - groups.mean(1, keepdims=True))
    assert [sample["generation"] for sample in samples] == [0, 1, 2, 3] * 4
    row = rows(finished[0] / "metrics.jsonl")[1]
    assert (row["reward"], row["reward_std"]) == pytest.approx((groups.mean(), groups.std(1).mean()))
    assert row["correct"] == np.mean([sample["correct"] for sample in samples])


def test_the_summary_says_how_it_went(finished):
    folder, summary = finished
    assert summary == json.loads((folder / "summary.json").read_text())
    for moment in ("before", "after"):
        result = summary[f"eval_{moment}"]
        assert 0 <= result["low"] <= result["correct"] <= result["high"] <= 1 and result["n"] == 4
        assert result["settings"]["split"] == "test" and result["settings"]["temperature"] == 0
        assert len(rows(folder / "eval" / f"{moment}.jsonl")) == 4
    assert (summary["steps"], summary["updates"], summary["seed"], summary["env"]) == (3, 3, 0, "letters")
    assert summary["gain"] == summary["eval_after"]["correct"] - summary["eval_before"]["correct"]
    assert 0 < summary["seconds"] < 300
    on_the_way = json.loads((folder / "eval" / "step-000002.json").read_text())
    assert on_the_way["settings"]["split"] == "validation" and on_the_way["n"] == 4
    timings = rows(folder / "timings.jsonl")
    assert [row["step"] for row in timings] == [1, 2, 3] and all(row["rollout"] > 0 for row in timings)


def assert_opens(folder, expected_rows):
    """As Auto classes read it, as `load_model` reads it: the same logits, and it can be evaluated."""
    ids, policy = torch.arange(40, 60)[None], load_model(str(folder), device="cpu")
    with torch.no_grad():
        expected = policy.model(input_ids=ids).logits
        for auto in (AutoModel, AutoModelForMaskedLM):
            assert torch.equal(auto.from_pretrained(folder).eval()(input_ids=ids).logits, expected)
    assert evaluate(policy, ENV, EVALUATION).n == expected_rows


def test_every_checkpoint_and_the_model_open_as_models(finished):
    folder, _ = finished
    assert saved_steps(folder) == [0, 1, 2, 3]
    for place in (step(folder, 1), step(folder, 3), folder / "model"):
        assert_opens(place, PROBLEMS)
        recorded = json.loads((place / "environment.json").read_text())
        assert recorded["env"] == ENV and recorded["preset"] == "tiny"
        assert recorded["rollout"]["max_completion_length"] == 10
    assert same_weights(step(folder, 3), folder / "model")
    assert not same_weights(step(folder, 1), folder / "model")


def test_the_eval_command_reads_a_run_folder_and_agrees_with_its_evaluation(finished):
    folder, summary = finished
    command = resolve(EvalCommand, ["--model", str(folder), "--device", "cpu", "--num-problems", "4"]).config
    assert command.env == ENV and command.rollout.max_completion_length == (10,)
    (result,) = run_eval(command, quiet=True)
    after = summary["eval_after"]
    assert (result.settings, result.correct) == (after["settings"], after["correct"])
    expected = rows(folder / "eval" / "after.jsonl")
    assert [row["completion"] for row in result.rows] == [row["completion"] for row in expected]
    assert (folder / "eval" / "letters-test-10x6-b5-p4-step3.json").is_file()


@pytest.mark.slow
def test_two_processes_leave_one_folder_and_print_once(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "settings.yaml"
    file.write_text(to_yaml(small_config(None)))
    said = run_processes("spg_trainer", "--config", str(file))
    (folder,) = (tmp_path / "runs").iterdir()
    assert json.loads((folder / "summary.json").read_text())["processes"] == 2
    assert "letters: solved rate on 4 test problems" in said[0] and said[1].strip() == ""
    assert "2 processes on cpu; run folder" in said[0]


# Adapters.


def test_a_lora_run_trains_its_adapters_only(adapted):
    base = AutoModelForMaskedLM.from_pretrained(tiny_folder())
    ids = torch.arange(40, 60)[None]
    with torch.no_grad():
        before = base.eval()(input_ids=ids).logits
        for place in (step(adapted, 2), adapted / "model"):
            fresh = AutoModelForMaskedLM.from_pretrained(tiny_folder())
            opened = PeftModel.from_pretrained(fresh, place).eval()
            policy = load_model(str(place), device="cpu")
            by_auto = AutoModelForMaskedLM.from_pretrained(place).eval()
            torch.testing.assert_close(by_auto(input_ids=ids).logits, policy.model(input_ids=ids).logits)
            readme = (place / "README.md").read_text()
            assert (
                f'AutoModelForMaskedLM.from_pretrained("{tiny_folder()}")' in readme and "PeftModel" in readme
            )
            assert torch.equal(opened(input_ids=ids).logits, policy.model(input_ids=ids).logits)
            assert not torch.equal(opened(input_ids=ids).logits, before)
            with opened.disable_adapter():
                assert torch.equal(opened(input_ids=ids).logits, before)
            assert all(".lora_" in name for name in weights(place))
    assert len(adam_state(step(adapted, 2))) == 3 * len(weights(adapted / "model"))
    assert evaluate(load_model(str(adapted), device="cpu"), ENV, EVALUATION).n == PROBLEMS


def test_dropout_is_drawn_from_the_seed(tmp_path, adapted):
    torch.manual_seed(77)
    states = torch.get_rng_state(), np.random.get_state()[1].copy()
    again, none = tmp_path / "again", tmp_path / "none"
    train(small_config(again, **LORA, lora_dropout=0.3, max_steps=2), quiet=True)
    assert torch.equal(states[0], torch.get_rng_state()) and (states[1] == np.random.get_state()[1]).all()
    train(small_config(none, **LORA, max_steps=2), quiet=True)
    metrics = [(folder / "metrics.jsonl").read_bytes() for folder in (adapted, again, none)]
    assert metrics[0] == metrics[1] != metrics[2]
    assert same_weights(adapted / "model", again / "model")
    first = [json.loads(text.splitlines()[0]) for text in (metrics[0], metrics[2])]
    assert first[0]["reward"] == first[1]["reward"], "completions are sampled without dropout"
    assert first[0]["grad_norm"] != first[1]["grad_norm"]


def test_a_prompt_whose_form_earns_nothing_is_told_before_step_1(tmp_path, capsys) -> None:
    file = tmp_path / "prompt.txt"
    file.write_text("<answer>\n\\boxed{...}\n</answer>\n{question}")
    arguments = {"source": "generated", "reward_preset": "paper", "prompt_style": str(file)}
    train(small_config(tmp_path / "run", env="gsm8k", env_args=arguments, max_steps=1))
    said = capsys.readouterr()
    assert "no more than a wrong one" in said.out + said.err
