"""Learning rates, and the finite guard: what counts as finite, when a run stops, and what it leaves behind."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch

from spg_trainer.errors import TrainingError
from spg_trainer.training.optimizer import (
    Guard,
    all_finite,
    linear_decay,
    linear_warmup,
)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_one_bad_value_anywhere_is_found(bad, dtype):
    tensors = [torch.ones(3, dtype=dtype), None, torch.ones(2, 2, dtype=dtype)]
    assert all_finite(tensors)
    tensors[2][1, 0] = bad
    assert not all_finite(tensors)
    assert all_finite([]) and all_finite([torch.full((4,), 3e38), torch.tensor([1, 2])]), "no norm overflows"


def test_only_updates_in_a_row_count(tmp_path):
    guard = Guard(limit=3)
    verdicts = [False, False, True, False, False]
    assert [guard.check(ok, dict, tmp_path) for ok in verdicts] == verdicts
    assert guard.skipped == 2
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(TrainingError):
        Guard(limit=3, skipped=guard.skipped).check(False, lambda: {"step": 1}, tmp_path)


@dataclass
class Record:
    completion_ids: torch.Tensor
    weight: np.ndarray


def test_the_run_stops_with_a_dump_that_opens_safely(tmp_path):
    guard = Guard(limit=2)
    ids = torch.arange(6).view(2, 3)
    content = {
        "step": 7,
        "rollouts": Record(ids, np.array([0.5, 1.0])),
        "advantages": torch.tensor([1.0, float("nan")], requires_grad=True),
        "totals": {"tokens": np.float64(6)},
        "prompts": ("a", "b"),
    }
    assert guard.check(False, lambda: content, tmp_path) is False
    with pytest.raises(TrainingError) as caught:
        guard.check(False, lambda: content, tmp_path)
    file = tmp_path / "nonfinite-step-7.pt"
    for part in (str(file), "--learning-rate", "--max-grad-norm", "2 times in a row"):
        assert part in str(caught.value)
    opened = torch.load(file, weights_only=True)
    assert torch.equal(opened["rollouts"]["completion_ids"], ids)
    assert opened["rollouts"]["weight"] == [0.5, 1.0]
    assert opened["advantages"].isnan().tolist() == [False, True]
    assert opened["totals"] == {"tokens": 6.0} and opened["prompts"] == ["a", "b"]


def test_a_dump_that_cannot_be_written_does_not_hide_the_reason(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(TrainingError, match=r"NaN or infinite.*could not be written.*--learning-rate"):
        Guard(limit=1).check(False, lambda: {"step": 1}, blocked)


def test_rates_warm_up_and_then_stay_or_fall_to_a_twentieth():
    assert [linear_warmup(1.0, 10, step) for step in (0, 4, 9, 10, 500)] == [0.1, 0.5, 1.0, 1.0, 1.0]
    assert linear_warmup(1.0, 0, 0) == 1.0
    assert [linear_decay(step, 4) for step in range(4)] == [1.0, 0.75, 0.5, 0.25]
