"""`--remasking ./mine.py:parity`, `--unmasking ./mine.py:one_then_three`: own rules are tried, decode as they say, and
stay with their run."""

import dataclasses
from pathlib import Path

import pytest
import torch

from spg_trainer.errors import ConfigError
from spg_trainer.models import load_model
from spg_trainer.rollout.sampler import sample_completions
from spg_trainer.rollout.unmasking import check_own_rules, own_order
from spg_trainer.runs.inputs import file_settings, find_inputs, setting_naming, with_copies, write_inputs
from spg_trainer.settings.configs import Config, EvalCommand
from spg_trainer.settings.decoding import Sampling
from spg_trainer.settings.resolve import defaults
from spg_trainer.training.loop import train
from tests.common.trainer_cases import small_config

PARITY = """
def parity(logps, places, generators):
    return logps - 1e6 * (places % 2)

def one_then_three(this_pass, sampling):
    return [1 if number == 0 else 3 for number in this_pass.number]
"""


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    file = tmp_path / "mine.py"
    file.write_text(PARITY)
    return file


def test_even_places_are_written_before_odd_ones(mine: Path) -> None:
    policy = load_model("tiny", device="cpu")
    sampling = Sampling(8, 8, 8, 0.0, remasking=f"{mine}:parity")
    check_own_rules(sampling)
    ids = torch.full((2, 3), 7)
    generators = [torch.Generator().manual_seed(row) for row in range(2)]
    rollouts = sample_completions(policy, ids, torch.ones_like(ids).bool(), sampling, generators)
    steps = rollouts.unmask_step
    written = (steps >= 0).all(-1)  # a row that ends early leaves places masked
    assert written.any()
    for row in steps[written]:
        assert row[::2].max() < row[1::2].min()


def test_a_count_of_ones_own_says_how_many_tokens_a_step_writes(mine: Path) -> None:
    policy = load_model("tiny", device="cpu")
    sampling = Sampling(8, 8, 8, 0.0, unmasking=f"{mine}:one_then_three", max_tokens_per_step=4)
    sampling.check()
    check_own_rules(sampling)
    assert sampling.unusual == ["unmasking mine.py:one_then_three", "max_tokens_per_step 4"]
    ids = torch.full((2, 3), 7)
    rollouts = sample_completions(policy, ids, torch.ones_like(ids).bool(), sampling, [])
    written = [row for row in rollouts.unmask_step.tolist() if min(row) >= 0]
    assert written, "a row that ends early leaves places masked"
    for row in written:
        assert [row.count(step) for step in sorted(set(row))] == [1, 3, 3, 1]


def test_a_count_gets_the_log_probabilities_of_the_first_to_be_unmasked_first(tmp_path: Path) -> None:
    """When it is tried, too: a count may add them up until there are enough."""
    file = tmp_path / "mine.py"
    file.write_text(
        "def count(this_pass, sampling):\n"
        "    assert (this_pass.logps[:, :-1] >= this_pass.logps[:, 1:]).all()\n"
        "    return [1] * len(this_pass.masked)\n"
    )
    sampling = Sampling(8, 8, 8, 0.0, unmasking=f"{file}:count", max_tokens_per_step=4)
    check_own_rules(sampling)
    ids = torch.full((2, 3), 7)
    sample_completions(load_model("tiny", device="cpu"), ids, torch.ones_like(ids).bool(), sampling, [])


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("return 2", "for 3 rows it returned 2"),
        ("return [2.0] * len(this_pass.masked)", r"it returned \[2.0"),
        ("return [len(this_pass.masked)] * len(this_pass.masked)", "depends on the other rows"),
        ("b = len(this_pass.masked); return [1 + (b > 8)] * b", "depends on the other rows"),
        ("this_pass.logps.zero_(); return this_pass.masked", "changed the log-probabilities"),
        ("import random; return [random.getrandbits(60) for _ in this_pass.masked]", "the second time"),
        ("raise SystemExit", "raised SystemExit"),
    ],
)
def test_a_count_that_breaks_its_contract_is_refused(tmp_path: Path, body: str, words: str) -> None:
    file = tmp_path / "wrong.py"
    file.write_text(f"def count(this_pass, sampling):\n    {body}\n")
    with pytest.raises(ConfigError, match=words):
        check_own_rules(Sampling(8, 8, 8, unmasking=f"{file}:count"))


def test_places_that_are_not_drawn_have_log_probability_minus_infinity(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        "def order(logps, places, generators):\n"
        "    assert (logps < 0).all() and (logps == float('-inf')).any(-1).sum() in (0, 1)\n"
        "    return logps\n"
    )
    policy = load_model("tiny", device="cpu")
    sampling = Sampling(8, 8, 8, 0.0, remasking=f"{file}:order")
    ids = torch.full((2, 3), 7)
    template_ids = torch.full((2, 8), policy.mask_id)
    template_ids[0, :5] = 7  # the first row has fewer masked places than the second
    generators = [torch.Generator().manual_seed(row) for row in range(2)]
    rollouts = sample_completions(
        policy, ids, torch.ones_like(ids).bool(), sampling, generators, canvas=template_ids
    )
    assert (rollouts.unmask_step[0, 5:] >= 0).any()


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("return logps[:, :2]", r"returned \(3, 2\) torch.float32, not floating-point"),
        ("return places", r"returned \(3, 8\) torch.int64"),
        ("return logps / 0", "not finite"),
        ("return logps.mul_(2)", "changed the tensors"),
        ("import torch; return torch.rand(logps.shape)", "Draw from the generators"),
        ("return logps - logps.mean()", "depend on the other rows"),
        ("return logps if len(logps) < 100 else -logps", "depend on the other rows"),
        ("return logps.nothing", r"order\(logps \(3, 8\), .* raised AttributeError"),
        (
            "return logps + 1 // (len(logps) < 64)",
            r"order\(logps \(600, 8\), .* 600 generators\) raised ZeroDiv",
        ),
    ],
)
def test_an_order_that_breaks_its_contract_is_refused(tmp_path: Path, body: str, words: str) -> None:
    file = tmp_path / "wrong.py"
    file.write_text(f"def order(logps, places, generators):\n    {body}\n")
    with pytest.raises(ConfigError, match=words):
        check_own_rules(Sampling(8, 8, 8, remasking=f"{file}:order"))


def test_what_is_not_there_is_told(mine: Path) -> None:
    for name, words in (
        (f"{mine}:partiy", "no function partiy. Did you mean 'parity'"),
        (f"{mine.parent}/none.py:parity", "there is no file"),
        ("parity", r"--remasking 'parity' is unknown\. Use one of: low_confidence, .* ./mine.py:order"),
    ):
        with pytest.raises(ConfigError, match=words):
            Sampling(8, 8, 8, remasking=name).check()
            check_own_rules(Sampling(8, 8, 8, remasking=name))
    with pytest.raises(ConfigError, match="--remasking "):
        Sampling(8, 8, 8, remasking=f"{mine}:parity", unmasking="threshold").check()


def test_a_run_keeps_the_file_and_what_it_recorded_finds_it(mine: Path, tmp_path: Path) -> None:
    rules = {"remasking": f"{mine}:parity", "unmasking": f"{mine}:one_then_three"}
    rollout = dataclasses.replace(Config().rollout, **rules)
    inputs = find_inputs(file_settings(dataclasses.replace(Config(), rollout=rollout)))
    assert inputs["rollout.unmasking"].copy == "algorithm/mine.py"
    assert inputs["rollout.remasking"].copy == "algorithm/mine.py"
    run = tmp_path / "run"
    run.mkdir()
    write_inputs(run, inputs)
    mine.unlink()
    record = with_copies(run, {"rollout": {"remasking": f"{mine}:parity"}})
    assert record["rollout"]["remasking"] == f"{run}/algorithm/mine.py:parity"
    assert (run / "algorithm/mine.py").read_text() == PARITY
    assert setting_naming("rollout.remasking", "x.py:parity") == "$remasking=x.py:parity"


def test_a_model_is_evaluated_with_the_copy_of_the_run_that_trained_it(mine: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    settings = {"remasking": f"{mine}:parity", "max_steps": 1, "eval_problems": 0, "validation_problems": 0}
    train(small_config(run, **settings), quiet=True)
    mine.unlink()
    for model in (run, run / "model"):
        command = defaults(EvalCommand, model=str(model))
        assert command.rollout.remasking == f"{run}/algorithm/mine.py:parity"
        check_own_rules(command.rollout.samplings()[0])


def test_an_order_that_was_edited_is_loaded_anew(mine: Path) -> None:
    logps, places = torch.zeros(1, 2), torch.tensor([[0, 1]])
    assert own_order(f"{mine}:parity")(logps, places, []).tolist() == [[0.0, -1e6]]
    mine.write_text(PARITY.replace("- 1e6", "+ 1e6"))
    assert own_order(f"{mine}:parity")(logps, places, []).tolist() == [[0.0, 1e6]]
    mine.write_text(PARITY.replace("logps - 1e6", "places / 0"))
    with pytest.raises(ConfigError, match="not finite"):
        own_order(f"{mine}:parity")
