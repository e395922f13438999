"""The figures of a rollout count what its groups are."""

from types import SimpleNamespace

import numpy as np
import torch

from spg_trainer.training.metrics import rollout_metrics


def test_groups_are_counted_by_what_they_have_in_common():
    correct = [1, 1, 0, 0, 0, 0, 1, 1]
    scored = SimpleNamespace(
        rewards=np.array([1.0, 1.0, 0.2, 0.2, 0.0, 0.3, 0.5, 0.5]),
        correct=np.array(correct, bool),
        reason=["ok" if c else "wrong" for c in correct],
        completions=["a", "b", "c", "c", "d", "e", "a", "a"],
        rollouts=SimpleNamespace(
            completion_mask=torch.ones(8, 3, dtype=torch.bool),
            unmask_step=torch.tensor([[0, 1, -1]] * 8),  # the last was given, not written
            unmask_logps=torch.tensor([[-1.0, -2.0, 0.0]] * 4 + [[-3.0, -4.0, 0.0]] * 4),
        ),
        components={"correct": np.array(correct, float)},
    )
    groups, metrics = rollout_metrics(scored, [True] * 8, 2)
    assert groups.shape == (4, 2)
    assert metrics["completions/entropy"] == 2.5
    shares = {name: value for name, value in metrics.items() if name.startswith("frac_")}
    assert shares == {
        "frac_reward_zero_std": 0.75,
        "frac_groups_all_correct": 0.5,
        "frac_groups_all_wrong": 0.5,
        "frac_groups_identical": 0.5,
        "frac_groups_wrong_identical": 0.25,
    }
