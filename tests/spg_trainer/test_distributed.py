"""Processes agree: an error in one ends all of them alike."""

import pickle
import re
from types import SimpleNamespace

import pytest
import torch

from spg_trainer import distributed
from spg_trainer.distributed import _pickled, make_accelerator, naming_the_lost
from spg_trainer.errors import ProcessLost
from tests.common.trainer_cases import saved_steps, step
from tests.common.two_processes import outcomes, two_processes


@pytest.mark.parametrize(
    ("name", "rank", "error"),
    [
        # Evaluations, whose batches the processes have unequally many of.
        ("a_problem_of_a_batch_that_the_second_lacks", 0, "EnvError: no problem 8"),
        ("the_file_of_an_evaluation", 0, "CheckpointError: disk full"),
        # Steps.
        ("scores_of_rows_that_are_finished_early", 1, "EnvError: no judge"),
        ("the_problems_of_a_step", 1, "ConfigError: no problems"),
        ("the_gradient_of_a_sharded_step", 1, "ValueError: out of memory"),
        # Starts.
        ("the_choice_of_a_folder", 0, "PermissionError: not yours"),
        ("the_model_of_a_start", 1, "ModelError: no such model"),
    ],
)
def test_an_error_in_one_process_is_raised_in_both(name: str, rank: int, error: str) -> None:
    said = outcomes(name)
    assert said[rank] == error
    assert said[1 - rank] == f"TrainingError: Process {rank} failed with {error}"


def test_an_evaluation_without_an_accelerator_calls_no_other_process() -> None:
    assert outcomes("an_evaluation_by_the_first_alone") == (3, False)


def test_a_stop_asked_of_one_process_in_the_last_step_stops_both() -> None:
    assert outcomes("a_stop_in_the_last_step") == ("KeyboardInterrupt: ", "KeyboardInterrupt: ")


def test_a_launcher_s_signal_to_one_process_of_sft_ends_both_without_a_model() -> None:
    assert outcomes("a_launcher_s_signal_to_sft") == ("KeyboardInterrupt: ", "KeyboardInterrupt: ")
    folder = two_processes() / "errors" / "a_launcher_s_signal_to_sft"
    assert saved_steps(folder)[-1] == 3 and not (folder / "model").exists()


def test_what_cannot_be_written_of_a_sharded_model_ends_both_and_leaves_no_half() -> None:
    said = outcomes("the_disk_of_a_sharded_checkpoint")
    place = two_processes() / "errors" / "the_disk_of_a_sharded_checkpoint"
    full = f"CheckpointError: Cannot write {step(place.resolve(), 1)}: disk full. "
    assert said[0].startswith(full) and said[1].startswith(f"TrainingError: Process 0 failed with {full}")
    said = outcomes("a_part_of_a_sharded_checkpoint")
    assert said[0] == said[1]
    assert re.match(r"CheckpointError: Process 1 cannot write \S+optimizer: .*No space left", said[0])
    for name in ("the_disk_of_a_sharded_checkpoint", "a_part_of_a_sharded_checkpoint"):
        assert [*(two_processes() / "errors" / name / "checkpoints").iterdir()] == []


def test_a_sharded_run_that_fails_saves_its_finished_steps() -> None:
    outcomes("the_gradient_of_a_sharded_step")
    assert saved_steps(two_processes() / "errors" / "the_gradient_of_a_sharded_step") == [1]


def test_a_session_that_has_trained_on_a_gpu_can_train_on_the_cpu(monkeypatch) -> None:
    """As in a notebook; accelerate alone raises ValueError."""
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState, PartialState

    make_accelerator("cpu")
    for state in (AcceleratorState, PartialState):
        monkeypatch.setitem(state._shared_state, "device", torch.device("cuda"))
    with pytest.raises(ValueError, match="already been initialized"):
        Accelerator(cpu=True)
    assert make_accelerator("cpu").device.type == "cpu"


@pytest.mark.parametrize("text", ["the judge had a timeout", "Timed out waiting for the judge"])
def test_a_timeout_of_an_environment_is_no_lost_process(text: str) -> None:
    """One process has nobody to wait for."""
    with pytest.raises(RuntimeError, match=text), naming_the_lost(30):
        raise RuntimeError(text)


def test_a_lost_process_is_named_with_what_it_was_doing(monkeypatch) -> None:
    phases = {"phase of 0": b"the updates", "phase of 1": b"the rollout", "phase of 2": b"an evaluation"}
    store = SimpleNamespace(get=phases.get, set=lambda name, phase: None)
    of_torch = SimpleNamespace(_get_default_store=lambda: store)
    group = SimpleNamespace(get_rank=lambda: 1, get_world_size=lambda: 3, distributed_c10d=of_torch)
    monkeypatch.setattr(distributed, "_distributed", lambda: group)
    said = "Process 1 has waited for 7 minutes in the rollout: process 0 was in the updates, process 2 was in an eval"
    with pytest.raises(ProcessLost, match=said), naming_the_lost(7):
        raise RuntimeError("Application timeout caused pair closure")


def test_tensors_are_sent_with_their_types_and_can_be_changed_afterwards() -> None:
    """numpy knows no bfloat16."""
    sent = [
        torch.arange(6).view(2, 3).T,
        torch.zeros(0, 4, dtype=torch.bool),
        torch.tensor(0.5, requires_grad=True),
        torch.tensor([1.5, 2.5], dtype=torch.bfloat16),
    ]
    found = pickle.loads(_pickled([{"of one": sent}, "a word"]))
    assert found[1] == "a word"
    for value, tensor in zip(found[0]["of one"], sent, strict=True):
        assert value.dtype == tensor.dtype and torch.equal(value, tensor)
        value.data.fill_(1)
