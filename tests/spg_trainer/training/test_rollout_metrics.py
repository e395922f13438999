"""The figures of a rollout count what its groups are."""

from types import SimpleNamespace

import numpy as np
import torch

from spg_trainer.rollout.collect import gather_groups
from spg_trainer.tensors import Rows
from spg_trainer.training.metrics import rollout_metrics
from spg_trainer.training.run import TrainingState


def test_the_steps_that_another_code_has_judged_are_not_compared() -> None:
    state = TrainingState(history=[{"step": step} for step in range(1, 11)], judged_since=6)
    assert [row["step"] for row in state.comparable] == [7, 8, 9, 10]


def test_groups_are_counted_by_what_they_have_in_common():
    correct = [1, 1, 0, 0, 0, 0, 1, 1]
    scored = Rows.full_groups(4, 2).with_columns(
        problems=[SimpleNamespace(task="")] * 8,
        extracted=[None] * 8,
        traceback=[None] * 8,
        replies=[None] * 8,
        truncated=np.zeros(8, bool),
        rewards=np.array([1.0, 1.0, 0.2, 0.2, 0.0, 0.3, 0.5, 0.5]),
        correct=np.array(correct, bool),
        reason=["ok" if c else "wrong" for c in correct],
        completions=["a", "b", "c", "c", "d", "e", "a", "a"],
        completion_ids=torch.zeros(8, 3, dtype=torch.int64),
        completion_mask=torch.ones(8, 3, dtype=torch.bool),
        unmask_step=torch.tensor([[0, 1, -1]] * 8),  # the last was given, not written
        unmask_logps=torch.tensor([[-1.0, -2.0, 0.0]] * 4 + [[-3.0, -4.0, 0.0]] * 4),
        components={"correct": np.array(correct, float)},
    )
    metrics = rollout_metrics(scored, [True] * 8)
    (groups,) = gather_groups(scored, scored.rewards)
    assert groups.tolist() == [[1.0, 1.0], [0.2, 0.2], [0.0, 0.3], [0.5, 0.5]]
    assert metrics["completions/entropy"] == 2.5
    assert metrics["completions/tokens_per_pass"] == 1.0
    redrawn = scored.with_columns(passes=torch.full((8,), 4))  # the last two steps left the text as it was
    assert rollout_metrics(redrawn, [True] * 8)["completions/tokens_per_pass"] == 0.5
    shares = {name: value for name, value in metrics.items() if name.startswith("frac_")}
    assert shares == {
        "frac_reward_zero_std": 0.75,
        "frac_reward_zero_std_not_all_correct": 0.25,
        "frac_groups_all_correct": 0.5,
        "frac_groups_all_wrong": 0.5,
        "frac_groups_identical": 0.5,
        "frac_groups_wrong_identical": 0.25,
    }
