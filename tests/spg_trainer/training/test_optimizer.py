"""Learning rates, and the finite guard: what counts as finite, when a run stops, and what it leaves behind."""

import json

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


def test_only_updates_in_a_row_count_and_the_last_names_its_batch(tmp_path):
    guard = Guard(limit=3)
    verdicts = [False, False, True, False, False]
    assert [guard.check(ok, dict, tmp_path) for ok in verdicts] == verdicts
    assert guard.skipped == 2 and list(tmp_path.iterdir()) == []
    with pytest.raises(TrainingError, match=r"3 times in a row.* --learning-rate") as caught:
        Guard(limit=3, skipped=guard.skipped).check(False, lambda: {"step": 7, "update": 1}, tmp_path)
    file = tmp_path / "nonfinite-step-7.json"
    assert str(file) in str(caught.value) and json.loads(file.read_text()) == {"step": 7, "update": 1}


def test_rates_warm_up_and_then_stay_or_fall_to_a_twentieth():
    assert [linear_warmup(1.0, 10, step) for step in (0, 4, 9, 10, 500)] == [0.1, 0.5, 1.0, 1.0, 1.0]
    assert linear_warmup(1.0, 0, 0) == 1.0
    assert [linear_decay(step, 4) for step in range(4)] == [1.0, 0.75, 0.5, 0.25]
