"""TraceRL: the published formula through a real model, rows of merged steps, its KL to the model that sampled."""

import pytest
import torch

from spg_trainer.algorithms.tracerl import TraceRL
from tests.common.algorithm_cases import (
    LENGTHS,
    PROMPTS,
    SIZE,
    WITH_ZERO,
    k3,
    largest_error,
    logps_gradient,
    make_batch,
    surrogate,
    two_tokens,
    written,
)
from tests.common.likelihood_cases import make_rollouts

REWARDS = torch.tensor([[1.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
STEPS = written()


@pytest.mark.parametrize("off_policy", [0.0, 1.0])
@pytest.mark.parametrize("settings", [{"steps_per_segment": 2}, {"steps_per_segment": 3, "beta": 0.7}, {}])
def test_loss_and_gradient_are_those_of_the_published_formula(settings, off_policy):
    algorithm, held = TraceRL(**settings), []
    merged = {n: [step // algorithm.steps_per_segment for step in steps] for n, steps in STEPS.items()}
    rows = 2 * sum(len(set(of_one)) for of_one in merged.values())  # of 8 completions

    def formula(row):
        total, of_token = 0.0, merged[row.length]
        for m, segment in enumerate(sorted(set(of_token))):
            tokens = [i for i in range(row.length) if of_token[i] == segment]
            assert row.scored[m].nonzero().flatten().tolist() == tokens
            for i in tokens:
                term = surrogate(row.logps[m, i] - row.old[m, i], row.advantage, 0.2, 0.2, held)
                total = total - term / len(tokens) + algorithm.beta * k3(row, (m, i), row.old)
        return total / rows

    prepared = algorithm.prepare(REWARDS, make_rollouts(LENGTHS, SIZE, PROMPTS))
    options = {"off_policy": off_policy, "advantages": WITH_ZERO, "prepared": prepared}
    assert largest_error(algorithm, formula, **options) < 1e-10
    assert set(held) == ({True, False} if off_policy else {False})


def test_a_completion_weighs_by_its_rows():
    """Of two completions with two rows and one, A = 1 and logps 0, on policy: -1/k for each token over 3 rows."""
    rollouts = make_rollouts([2, 2], 2)
    rollouts.unmask_step[:] = torch.tensor([[0, 1], [0, 0]])
    algorithm = TraceRL(num_masks=2, steps_per_segment=1)
    prepared = algorithm.prepare(REWARDS[:1], rollouts)
    assert prepared["rows"].tolist() == [1.5, 1.5]
    masks = algorithm.make_masking().draw(rollouts, lambda row, mask: None)
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
    """Two tokens of ratio 2, A = 0: beta (1/2 - 1 + log 2) for each, over one row."""
    masks, old = two_tokens(), torch.full((1, 1, 2), -2.0, dtype=torch.float64)
    prepared = {"rows": torch.ones(1, dtype=torch.float64)}
    batch = make_batch(masks.part, [0.0], 1, old_logps=old, prepared=prepared)
    loss, _ = logps_gradient(TraceRL(beta=0.5), masks, batch, old + torch.tensor(2.0).double().log())
    assert float(loss.loss) == pytest.approx(0.5 * 2 * (0.6931471805599453 - 0.5))
    assert float(loss.metrics["kl"].total) == pytest.approx(2 * (0.6931471805599453 - 0.5))
