"""TraceRL: segments of merged steps, its KL to the model that sampled."""

import pytest
import torch

from spg_trainer.algorithms.tracerl import TraceRL
from tests.common.algorithm_cases import (
    logps_gradient,
    make_batch,
    two_tokens,
    view_of,
)
from tests.common.likelihood_cases import make_rollouts, one_stream

REWARDS = torch.tensor([[1.0, 0.0], [0.0, 1.0]], dtype=torch.float64)


def test_a_completion_weighs_by_its_segments():
    """Of completions with two segments and one, A = 1 and logps 0, on policy: -1/k for each token over 3 segments."""
    rollouts = make_rollouts([2, 2], 2)
    rollouts.unmask_step[:] = torch.tensor([[0, 1], [0, 0]])
    algorithm = TraceRL(num_masks=2, steps_per_segment=1)
    prepared = algorithm.prepare(view_of(REWARDS[:1], rollouts))
    assert prepared["segments"] == 1.5
    masks = algorithm.make_masking().draw(rollouts, one_stream(None))
    batch = make_batch(rollouts.completion_mask, [1.0, 1.0], 2, prepared=prepared)
    _, gradient = logps_gradient(algorithm, masks, batch, torch.zeros(2, 2, 2, dtype=torch.float64))
    third, sixth = -1 / 3, -1 / 6
    expected = [[[third, 0], [0, third]], [[sixth, sixth], [0, 0]]]
    assert torch.allclose(gradient, torch.tensor(expected, dtype=torch.float64))


def test_advantages_are_z_scores_of_the_population():
    rewards = torch.tensor([[1.0, 0.0, 0.0, 0.0], [0.3, 0.3, 0.3, 0.3]], dtype=torch.float64)
    found = TraceRL().compute_advantages(rewards).view(2, 4)
    root = 3**0.5
    assert found[0].tolist() == pytest.approx([root, -1 / root, -1 / root, -1 / root])
    assert (found[1] == 0).all()


def test_the_kl_is_a_sum_and_from_the_model_that_sampled():
    """Two tokens of ratio 2, A = 0: beta (1/2 - 1 + log 2) for each, over one segment."""
    masks, old = two_tokens(), torch.full((1, 1, 2), -2.0, dtype=torch.float64)
    batch = make_batch(masks.part, [0.0], 1, old_logps=old, segments=1.0)
    loss, _ = logps_gradient(TraceRL(beta=0.5), masks, batch, old + torch.tensor(2.0).double().log())
    assert float(loss.loss) == pytest.approx(0.5 * 2 * (0.6931471805599453 - 0.5))
    assert float(loss.metrics["kl"].total) == pytest.approx(2 * (0.6931471805599453 - 0.5))
