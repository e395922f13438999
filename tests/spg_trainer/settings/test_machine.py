"""A run on a busy machine says so, and what to type."""

import pytest
import torch

from spg_trainer.settings import check

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("loadavg", "free"),
    [("0.10 1.9 1.9 1/200 77", 2), ("1.93 0 0 1/200 77", 2), ("1.93 0 0 3/200 77", 1), ("9 9 9 8/200 7", 1)],
)
def test_busy_now_and_for_a_while_is_crowded(monkeypatch, loadavg, free):
    monkeypatch.setattr(check.Path, "read_text", lambda *_, **__: loadavg)
    monkeypatch.setattr(check.os, "cpu_count", lambda: 2)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    told = check.crowded_cores(CPU)
    assert ("OMP_NUM_THREADS=1" in told) == (free < 2)
    assert check.crowded_cores(torch.device("meta")) == "", "its threads are not ours"
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    assert check.crowded_cores(CPU) == ""
