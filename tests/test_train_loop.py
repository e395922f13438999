"""The loop: reproducible, stopped by nothing a stranger's task or a bad gradient does, and never at a cost."""

import importlib
import itertools
import json

import numpy as np
import pytest
import torch
import trainer_cases
from likelihood_cases import naive_logps
from trainer_cases import (
    ENV,
    EVALUATION,
    Letters,
    Probe,
    adam_state,
    rows,
    same_weights,
    small_config,
    tiny_folder,
    weights,
)

from spg_trainer import checkpoint
from spg_trainer.cli import parse
from spg_trainer.config import EvalCommand
from spg_trainer.errors import ConfigError, TrainingError
from spg_trainer.eval_command import evaluate_lengths
from spg_trainer.evaluate import evaluate
from spg_trainer.models import load_model
from spg_trainer.run import start
from spg_trainer.train import collect, train

loop = importlib.import_module("spg_trainer.train")  # the package's own `train` is the function
LORA = {"lora_r": 2, "lora_alpha": 4}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run of three steps that keeps all its checkpoints, and its summary; read only."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    return folder, train(small_config(folder, save_steps=1, keep=9, eval_steps=2), quiet=True)


@pytest.fixture(scope="module")
def adapted(tmp_path_factory):
    """The same with LoRA adapters and dropout."""
    folder = tmp_path_factory.mktemp("adapted") / "run"
    train(small_config(folder, **LORA, lora_dropout=0.3, save_steps=2), quiet=True)
    return folder


def step(folder, number):
    return folder / "checkpoints" / f"step-{number:06d}"


def saved_steps(folder):
    return sorted(int(path.name[5:]) for path in (folder / "checkpoints").glob("step-*"))


def steps_of(folder):
    return [row["step"] for row in rows(folder / "metrics.jsonl")]


# Reproducible.


def test_equal_seeds_give_equal_bytes_and_another_seed_does_not(tmp_path, finished):
    """Whatever the global generators hold; evaluating on the way and saving more often change nothing either."""
    torch.manual_seed(123)
    np.random.seed(5)
    train(small_config(tmp_path / "again"), quiet=True)
    train(small_config(tmp_path / "other", seed=1), quiet=True)
    metrics = [(folder / "metrics.jsonl").read_bytes() for folder in (finished[0], tmp_path / "again")]
    assert metrics[0] == metrics[1] and len(metrics[0].splitlines()) == 3
    assert same_weights(finished[0] / "model", tmp_path / "again" / "model")
    assert (finished[0] / "eval" / "after.jsonl").read_bytes() == (
        tmp_path / "again" / "eval" / "after.jsonl"
    ).read_bytes()
    assert not same_weights(finished[0] / "model", tmp_path / "other" / "model")
    assert rows(tmp_path / "other" / "metrics.jsonl")[0]["reward"] != json.loads(metrics[0].splitlines()[0])["reward"]


def test_the_global_generators_are_left_alone(tmp_path):
    states = torch.get_rng_state(), np.random.get_state()[1].copy()
    train(small_config(tmp_path / "run", **LORA, lora_dropout=0.3, max_steps=1), quiet=True)
    assert torch.equal(states[0], torch.get_rng_state())
    assert (states[1] == np.random.get_state()[1]).all()


# Groups without signal.


def test_completions_without_signal_are_not_scored_but_counted(tmp_path, monkeypatch):
    scored, original = [], trainer_cases.SPG.loss

    def counted(self, logps, masks, batch):
        scored.append(len(logps))
        assert batch.totals["completions"] == 16
        return original(self, logps, masks, batch)

    monkeypatch.setattr(trainer_cases.SPG, "loss", counted)
    config = small_config(
        tmp_path / "run", env_args={"dull": trainer_cases.half_dull()}, max_steps=1, per_device_batch_size=4
    )
    train(config, quiet=True)
    (row,) = rows(tmp_path / "run" / "metrics.jsonl")
    assert scored == [2, 2, 2, 2]
    assert row["bound/share"] == 0.5 and row["frac_reward_zero_std"] == 0.5
    found = rows(tmp_path / "run" / "samples" / "step-000001.jsonl")
    assert row["num_tokens"] == 16 * row["completions/mean_length"] > 16
    assert [sample["advantage"] for sample in found[8:]] == [0.0] * 8


def test_a_step_in_which_nothing_has_a_signal_changes_no_weight(tmp_path):
    every = ",".join(str(i) for i in range(trainer_cases.PROBLEMS))
    config = small_config(tmp_path / "run", env_args={"dull": every}, weight_decay=0.5)
    summary = train(config, quiet=True)
    assert same_weights(tmp_path / "run" / "model", tiny_folder())
    assert adam_state(step(tmp_path / "run", 3)) == []
    assert summary["steps"] == 3 and summary["updates"] == 0
    assert [row["grad_norm"] for row in rows(tmp_path / "run" / "metrics.jsonl")] == [0.0] * 3


# Non-finite updates.


def poison(monkeypatch, when, what="gradient"):
    """Spoils the updates for which `when(number)` holds, counted from 0."""
    count, original = itertools.count(), loop.gradient

    def poisoned(update, iteration):
        sums = original(update, iteration)
        if when(next(count)):
            if what == "loss":
                return {**sums, "loss": float("nan")}
            next(update.policy.model.parameters()).grad.view(-1)[3] = float("inf")
        return sums

    monkeypatch.setattr(loop, "gradient", poisoned)


@pytest.mark.parametrize("what", ["gradient", "loss"])
def test_a_non_finite_update_leaves_weights_and_optimizer_as_they_were(tmp_path, monkeypatch, what):
    poison(monkeypatch, lambda number: number == 1, what)
    folder = tmp_path / "run"
    summary = train(small_config(folder, save_steps=1, keep=9, warmup_steps=10), quiet=True)
    assert same_weights(step(folder, 1), step(folder, 2))
    states = [adam_state(step(folder, number)) for number in (1, 2)]
    assert all(torch.equal(a, b) for a, b in zip(*states, strict=True)) and states[0]
    assert not same_weights(step(folder, 2), step(folder, 3))
    assert all(tensor.isfinite().all() for tensor in weights(folder / "model").values())
    assert summary["steps"] == 3 and summary["updates"] == 2
    assert rows(folder / "metrics.jsonl")[1]["grad_norm" if what == "gradient" else "loss"] is None
    rates = [row["learning_rate"] for row in rows(folder / "metrics.jsonl")]
    assert rates == pytest.approx([1e-3, 2e-3, 2e-3]), "the warm-up counts applied updates"


def test_three_in_a_row_stop_the_run_with_the_batch_and_keep_the_finished_steps(tmp_path, monkeypatch):
    poison(monkeypatch, lambda number: number > 0)
    folder = tmp_path / "run"
    with pytest.raises(TrainingError, match="3 times in a row") as caught:
        train(small_config(folder, max_steps=9, save_steps=0), quiet=True)
    (file,) = folder.glob("nonfinite-*.pt")
    assert str(file) in str(caught.value)
    batch = torch.load(file, weights_only=True)
    assert batch["step"] == 3 and len(batch["index"]) == len(batch["generation"]) == 16
    assert batch["index"] == np.repeat(trainer_cases.choose_problems(0, 3, 4, 8), 4).tolist()
    assert batch["rollouts"]["completion_ids"].shape == (16, 10)
    assert steps_of(folder) == [1, 2, 3] and saved_steps(folder) == [3]
    assert all(tensor.isfinite().all() for tensor in weights(step(folder, 3)).values())
    # The same stop again, rather than three more tries: the count is part of the run.
    with pytest.raises(TrainingError, match="3 times in a row"):
        train(small_config(folder, max_steps=9, save_steps=0, resume="auto"), quiet=True)


# Length of a run.


def test_the_learning_rate_warms_up_and_then_stays(tmp_path):
    folder, rate = tmp_path / "run", 1e-3
    config = small_config(folder, learning_rate=rate, warmup_steps=3, num_iterations=2, weight_decay=0.0)
    train(small_config(tmp_path / "one", learning_rate=rate, warmup_steps=3, weight_decay=0.0, max_steps=1), quiet=True)
    train(config, quiet=True)
    shown = [row["learning_rate"] for row in rows(folder / "metrics.jsonl")]
    assert shown == pytest.approx([rate * 1.5 / 3, rate, rate]), "the mean of a step's updates"
    # Adam's first update moves every weight with a gradient by the rate itself.
    before, after = weights(tiny_folder()), weights(tmp_path / "one" / "model")
    moved = max(float((after[name] - before[name]).abs().max()) for name in before)
    assert moved == pytest.approx(rate / 3, rel=1e-3)


class Clock:
    """Every look at it takes a second."""

    def __init__(self):
        self.now = 0.0

    def monotonic(self):
        self.now += 1.0
        return self.now


def test_the_time_limit_ends_evaluates_and_saves(tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "time", Clock())
    folder = tmp_path / "run"
    summary = train(small_config(folder, max_steps=500, max_minutes=0.2, save_steps=0), quiet=True)
    assert 1 <= summary["steps"] < 5
    assert steps_of(folder) == list(range(1, summary["steps"] + 1)) and saved_steps(folder) == [summary["steps"]]
    assert (folder / "eval" / "after.json").is_file() and (folder / "model" / "config.json").is_file()
    assert json.loads((folder / "summary.json").read_text())["steps"] == summary["steps"]


# A task that fails.


def break_score(monkeypatch, when, error=ValueError("no such letter")):
    """Makes `score` raise on the training completions for which `when(number)` holds, counted from 0."""
    count, original = itertools.count(), Letters.score

    def broken(self, problem, completion):
        if self.part == "train" and when(next(count)):
            raise error
        return original(self, problem, completion)

    monkeypatch.setattr(Letters, "score", broken)


def test_a_task_that_fails_too_often_stops_with_its_traceback_and_keeps_finished_steps(tmp_path, monkeypatch):
    break_score(monkeypatch, lambda number: number in (33, 40))
    folder = tmp_path / "run"
    with pytest.raises(TrainingError, match=r"letters failed on 2 of 16 completions.*Mend") as caught:
        train(small_config(folder, save_steps=0), quiet=True)
    assert "Traceback" in str(caught.value) and "ValueError: no such letter" in str(caught.value)
    assert steps_of(folder) == [1, 2] and saved_steps(folder) == [2]
    monkeypatch.undo()
    train(small_config(folder, save_steps=0, resume="auto"), quiet=True)
    assert steps_of(folder) == [1, 2, 3]


def test_a_task_that_fails_seldom_is_counted_and_told(tmp_path, monkeypatch, capsys):
    break_score(monkeypatch, lambda number: number == 30)
    folder = tmp_path / "run"
    config = small_config(folder, prompts_per_step=6)
    train(config)
    assert [row["env_errors"] for row in rows(folder / "metrics.jsonl")] == [0, 1, 0]
    found = rows(folder / "samples" / "step-000002.jsonl")
    assert [i for i, sample in enumerate(found) if sample["reason"] == "error"] == [6]
    assert found[6]["reward"] == 0 and not found[6]["correct"]
    assert "score raised on 1 completions" in capsys.readouterr().out


def test_the_share_of_failures_is_that_of_a_whole_evaluation(monkeypatch):
    """Thirteen failures of 260 are 5%, although the last of the chunks that are scored at once is small."""
    policy, env, original = load_model(str(tiny_folder()), device="cpu"), Letters("test", size=260), Letters.score
    bad = set(range(247, 260))

    def broken(self, problem, completion):
        if problem.metadata["index"] in bad:
            raise KeyError("gone")
        return original(self, problem, completion)

    monkeypatch.setattr(Letters, "score", broken)
    found = evaluate(policy, env, EVALUATION)
    assert found.n == 260 and found.reasons["error"] == 13
    bad.add(7)
    with pytest.raises(TrainingError, match=r"14 of 260.*problem 25\d(.|\n)*KeyError"):
        evaluate(policy, env, EVALUATION)


def interrupt(monkeypatch, where, name, call, error=KeyboardInterrupt):
    """Raises at the `call`-th call of `where.name`."""
    count, original = itertools.count(1), getattr(where, name)

    def interrupted(*args, **kwargs):
        if next(count) == call:
            raise error
        return original(*args, **kwargs)

    monkeypatch.setattr(where, name, interrupted)


@pytest.mark.parametrize(
    "where, name, call, saved",
    [
        (loop, "collect", 3, [2]),
        (loop, "gradient", 5, [2]),
        (loop, "gradient", 6, []),  # one of the two updates of step 3 is in the weights
        (Letters, "picture", 3, [3]),
    ],
)
def test_whatever_ends_a_run_finished_steps_are_saved_or_done_again(tmp_path, monkeypatch, where, name, call, saved):
    """No checkpoint ever holds weights of a half step, and the run that goes on is the one never interrupted."""
    settings = {"num_iterations": 2, "save_steps": 0, "board_steps": 1, "max_steps": 4}
    interrupt(monkeypatch, where, name, call)
    folder = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        train(small_config(folder, **settings), quiet=True)
    assert saved_steps(folder) == saved
    monkeypatch.undo()
    train(small_config(folder, **settings, resume="auto"), quiet=True)
    train(small_config(tmp_path / "whole", **settings), quiet=True)
    assert (folder / "metrics.jsonl").read_bytes() == (tmp_path / "whole" / "metrics.jsonl").read_bytes()
    assert same_weights(folder / "model", tmp_path / "whole" / "model")


# Masks, old and reference logps.


@pytest.fixture
def seen():
    """What the probing algorithm was shown, call by call."""
    Probe.seen.clear()
    yield Probe.seen
    Probe.seen.clear()


def active_rollouts(config):
    """The first step's completions with a signal, and the model that wrote them."""
    run = start(config, quiet=True)
    scored = collect(run, 0)
    run.folder.release()
    signal = run.algorithm.prepare(torch.from_numpy(scored.rewards).view(4, 4))
    return run.policy, scored.rollouts.select(run.algorithm.active(signal))


def probing(folder, **changes):
    """All completions in one micro-batch, three updates a step, in float64."""
    settings = {"algorithm": "probe", "algorithm_args": {}, "dtype": "float64", "per_device_batch_size": 64}
    return small_config(folder, **{**settings, "num_iterations": 3, "max_steps": 1, **changes})


def test_old_logps_are_those_of_the_sampling_model_on_each_iterations_own_masks(tmp_path, seen):
    train(probing(tmp_path / "run"), quiet=True)
    assert len(seen) == 3
    policy, rollouts = active_rollouts(probing(tmp_path / "fresh"))
    for iteration, shown in enumerate(seen):
        with torch.no_grad():
            expected = naive_logps(policy.model, rollouts, shown["masks"], policy.mask_id)
        old = shown["batch"].old_logps
        assert torch.allclose(old, expected, atol=1e-10) and (old[~shown["masks"].scored] == 0).all()
        moved = float((shown["logps"] - old).abs().max())
        assert moved < 1e-10 if iteration == 0 else moved > 1e-3
        assert shown["batch"].ref_logps is None


def test_every_iteration_and_every_step_has_masks_of_its_own(tmp_path, seen):
    train(probing(tmp_path / "run", max_steps=2), quiet=True)
    drawn = [shown["masks"].scored.flatten(1).int().tolist() for shown in seen]
    assert len(drawn) == 6
    for one, other in itertools.combinations(drawn, 2):
        assert one != other
    noise = [shown["masks"].input_hidden[:, :, :-10].any().item() for shown in seen]
    assert all(noise), "p_mask_prompt of the paper"


def test_reference_logps_are_those_below_the_adapters(tmp_path, seen):
    config = probing(tmp_path / "run", algorithm="reference_probe", num_iterations=2, max_steps=2, **LORA)
    train(config, quiet=True)
    assert len(seen) == 4
    for shown in seen[:2]:
        assert torch.allclose(shown["batch"].ref_logps, shown["batch"].old_logps, atol=1e-10)
    base = load_model(str(tiny_folder()), dtype="float64", device="cpu")
    _, rollouts = active_rollouts(probing(tmp_path / "fresh", algorithm="reference_probe", **LORA))
    with torch.no_grad():
        expected = naive_logps(base.model, rollouts, seen[1]["masks"], base.mask_id)
    assert torch.allclose(seen[1]["batch"].ref_logps, expected, atol=1e-10)
    later = seen[2]["batch"]
    assert float((later.ref_logps - later.old_logps).abs().max()) > 1e-4
    assert torch.allclose(later.old_logps, seen[2]["logps"], atol=1e-10)


def test_a_reference_without_adapters_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="--lora-r"):
        train(probing(tmp_path / "run", algorithm="reference_probe"), quiet=True)
    assert not (tmp_path / "run").exists()


# What a run leaves behind.


def test_samples_hold_what_was_asked_written_and_earned(finished):
    found = rows(finished[0] / "samples" / "step-000002.jsonl")
    assert len(found) == 16
    env = Letters("train")
    for sample in found:
        assert set(sample) == {
            *("step", "env", "task", "index", "generation", "prompt", "completion", "rewards", "reward"),
            *("advantage", "correct", "reason", "extracted", "reveal_step", "wanted"),
        }
        problem = env.problem(sample["index"])
        score = env.score(problem, sample["completion"])
        assert sample["prompt"] == problem.prompt and sample["wanted"] == 0.3
        assert sample["rewards"] == score.rewards and sample["reason"] == score.reason
        assert sample["reward"] == pytest.approx(0.5 * score.rewards["correct"] + score.rewards["letters"])
        assert sample["correct"] is (score.rewards["correct"] == 1) and sample["extracted"] == score.extracted
        assert (sample["step"], sample["env"], sample["task"]) == (2, "letters", "letters")
        assert len(sample["reveal_step"]) == 10 and max(sample["reveal_step"]) < 6
    groups = np.array([sample["reward"] for sample in found]).reshape(4, 4)
    advantages = np.array([sample["advantage"] for sample in found]).reshape(4, 4)
    assert np.allclose(advantages, groups - groups.mean(1, keepdims=True))
    assert [sample["generation"] for sample in found] == [0, 1, 2, 3] * 4
    row = rows(finished[0] / "metrics.jsonl")[1]
    assert row["reward"] == pytest.approx(groups.mean()) and row["reward_std"] == pytest.approx(groups.std(1).mean())
    assert row["correct"] == np.mean([sample["correct"] for sample in found])


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
    assert {"python", "torch", "transformers", "spg-trainer", "numpy"} <= summary["versions"].keys()
    on_the_way = json.loads((folder / "eval" / "step-000002.json").read_text())
    assert on_the_way["settings"]["split"] == "validation" and on_the_way["n"] == 4
    timings = rows(folder / "timings.jsonl")
    assert [row["step"] for row in timings] == [1, 2, 3] and all(row["rollout"] > 0 for row in timings)


def test_the_last_lines_say_what_was_gained_and_what_to_type(tmp_path, capsys):
    folder = tmp_path / "run"
    train(small_config(folder, max_steps=1, board_steps=1))
    said = capsys.readouterr().out
    board = Letters("train").problem(rows(folder / "samples" / "step-000001.jsonl")[0]["index"]).prompt
    assert "train letters" in said and board
    last = said.strip().splitlines()[-4:]
    assert "Solved rate on 4 test problems" in last[0] and "after 1 steps" in last[0]
    assert str(folder) in last[1] and f"--model {folder}" in last[2] and f"--resume {folder}" in last[3]


def snapshot(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_folder_with_a_run_is_refused_and_left_as_it_is(finished):
    before = snapshot(finished[0])
    with pytest.raises(ConfigError, match=r"already holds a run \(3 steps, finished\).*--resume auto"):
        train(small_config(finished[0], seed=4), quiet=True)
    assert snapshot(finished[0]) == before


def assert_opens(folder, expected_rows):
    """As Auto classes read it, as `load_model` reads it: the same logits, and it can be evaluated."""
    from transformers import AutoModel, AutoModelForMaskedLM

    ids = torch.arange(40, 60)[None]
    policy = load_model(str(folder), device="cpu")
    with torch.no_grad():
        expected = policy.model(input_ids=ids).logits
        for auto in (AutoModel, AutoModelForMaskedLM):
            assert torch.equal(auto.from_pretrained(folder).eval()(input_ids=ids).logits, expected)
    assert evaluate(policy, ENV, EVALUATION).n == expected_rows


def test_every_checkpoint_and_the_model_open_as_models(finished):
    folder, _ = finished
    assert saved_steps(folder) == [1, 2, 3]
    for place in (step(folder, 1), step(folder, 3), folder / "model"):
        assert_opens(place, trainer_cases.PROBLEMS)
        recorded = json.loads((place / "environment.json").read_text())
        assert recorded["env"] == ENV and recorded["preset"] == "tiny"
        assert recorded["rollout"]["max_completion_length"] == 10
    assert same_weights(step(folder, 3), folder / "model") and not same_weights(step(folder, 1), folder / "model")


def test_the_eval_command_reads_a_run_folder_and_agrees_with_its_evaluation(finished):
    folder, summary = finished
    command = parse(EvalCommand, ["--model", str(folder), "--device", "cpu", "--num-problems", "4"], "eval")
    assert command.env == ENV and command.max_completion_length == (10,)
    found = evaluate_lengths(command, quiet=True)[10]
    assert found.settings == summary["eval_after"]["settings"] and found.correct == summary["eval_after"]["correct"]
    assert [row["completion"] for row in found.rows] == [
        row["completion"] for row in rows(folder / "eval" / "after.jsonl")
    ]
    assert (folder / "eval" / "letters-test-10.json").is_file()


# Adapters.


def test_a_lora_run_trains_its_adapters_only(adapted):
    from peft import PeftModel
    from transformers import AutoModelForMaskedLM

    base = AutoModelForMaskedLM.from_pretrained(tiny_folder())
    ids = torch.arange(40, 60)[None]
    with torch.no_grad():
        before = base.eval()(input_ids=ids).logits
        for place in (step(adapted, 2), step(adapted, 3), adapted / "model"):
            opened = PeftModel.from_pretrained(AutoModelForMaskedLM.from_pretrained(tiny_folder()), place).eval()
            policy = load_model(str(place), device="cpu")
            assert torch.equal(opened(input_ids=ids).logits, policy.model(input_ids=ids).logits)
            assert not torch.equal(opened(input_ids=ids).logits, before)
            with opened.disable_adapter():
                assert torch.equal(opened(input_ids=ids).logits, before)
            assert all(".lora_" in name for name in weights(place))
    names = weights(adapted / "model")
    assert len(adam_state(step(adapted, 3))) == 3 * len(names)
    assert evaluate(load_model(str(adapted), device="cpu"), ENV, EVALUATION).n == trainer_cases.PROBLEMS


def test_dropout_is_drawn_from_the_seed(tmp_path, adapted):
    torch.manual_seed(77)
    train(small_config(tmp_path / "again", **LORA, lora_dropout=0.3), quiet=True)
    train(small_config(tmp_path / "none", **LORA), quiet=True)
    metrics = [(folder / "metrics.jsonl").read_bytes() for folder in (adapted, tmp_path / "again", tmp_path / "none")]
    assert metrics[0] == metrics[1] != metrics[2]
    assert same_weights(adapted / "model", tmp_path / "again" / "model")
    first = [json.loads(text.splitlines()[0]) for text in (metrics[0], metrics[2])]
    assert first[0]["reward"] == first[1]["reward"], "completions are sampled without dropout"
    assert first[0]["grad_norm"] != first[1]["grad_norm"]


def test_a_run_can_go_on_from_the_adapter_of_another(tmp_path, adapted):
    train(small_config(tmp_path / "run", max_steps=1, model=adapted / "model"), quiet=True)
    assert not same_weights(adapted / "model", tmp_path / "run" / "model")
    assert checkpoint.latest_complete(tmp_path / "run") == step(tmp_path / "run", 1)
