"""EGSPO: ratios of whole steps by hand, all steps the path, the baseline of EGSPO-SA by enumeration."""

import itertools
import math

import pytest
import torch

from spg_trainer.algorithms.egspo import EGSPO, EGSPOSA
from spg_trainer.errors import ConfigError
from spg_trainer.likelihood import Masks
from tests.common.algorithm_cases import (
    ADVANTAGES,
    LENGTHS,
    PROMPTS,
    SIZE,
    logps_gradient,
    make_batch,
    path_error,
    probed,
    sampled,
    view_of,
)
from tests.common.likelihood_cases import make_rollouts, seeded

REWARDS = torch.tensor([[1.0, 0.0], [0.25, 1.0]], dtype=torch.float64)


@pytest.mark.parametrize(
    "steps, held",
    [([[0, 1]], True), ([[1, 0], [0, 1]], False)],
    ids=["one step of two tokens", "two steps of one"],
)
def test_the_clip_acts_on_the_product_of_a_step_s_tokens(steps, held):
    """Two tokens of ratio 1.3 each: 1.69 together is beyond 1.5, each alone is not."""
    scored = torch.ones(1, 1, 2, dtype=torch.bool) if held else torch.eye(2, dtype=torch.bool)[None]
    masks = Masks(scored, scored, scored.double(), torch.ones(1, dtype=torch.float64), scored.any(1))
    old = torch.full(scored.shape, -2.0, dtype=torch.float64) * scored
    batch = make_batch(masks.part, [1.0], 1, old_logps=old, step_tokens=2.0)
    loss, gradient = logps_gradient(EGSPO(beta=0.0), masks, batch, old + math.log(1.3) * scored)
    assert float(loss.loss) == pytest.approx(-1.5 / 2 if held else -1.3 / 2)
    assert gradient.any() != held


def test_with_all_steps_the_gradient_is_that_of_the_path_over_its_steps_and_their_tokens():
    rollouts = make_rollouts(LENGTHS, SIZE, PROMPTS)
    rollouts = rollouts.with_columns(entropy=torch.rand(rollouts.unmask_step.shape))
    tokens = rollouts.unmask_step.numel() / int((rollouts.unmask_step.amax(-1) + 1).sum())
    weights = [a / tokens / 4 / 5 for a in ADVANTAGES]
    assert path_error(EGSPO(num_masks=5, beta=0.0), weights, rollouts) < 1e-10


def test_the_updates_of_a_rollout_take_the_steps_in_the_order_of_their_mean_entropy():
    """Of one completion: steps 0 to 3 have mean entropies 1, 4, 2 and 3; what lies behind the end does not count."""
    rollouts = make_rollouts([6], 8)
    rollouts.unmask_step[0] = torch.tensor([3, 0, 1, 1, 0, 2, 4, -1])
    rollouts = rollouts.with_columns(entropy=torch.tensor([[3.0, 0.5, 6.0, 2.0, 1.5, 2.0, 9.0, 0.0]]))
    masking, found = EGSPO(num_masks=3).make_masking(), []
    for iteration in range(2):
        masks = masking.draw(rollouts, seeded(), iteration, 2)
        for scored, weight in zip(masks.scored[0], masks.weight[0], strict=True):
            found.append(rollouts.unmask_step[0][scored].unique().tolist())
            assert weight[scored].tolist() == [1.0] * int(scored.sum())
    assert found == [[1], [3], [2], [0], [], []]
    with pytest.raises(ConfigError, match="only a rollout records: entropy"):
        masking.draw(rollouts.without("entropy"), seeded())
    steps = EGSPOSA(num_masks=3).probe_steps(rollouts, 2, seeded)
    assert steps.tolist() == [[1, 3, 2, 0, -1, -1]], "what is judged is what is trained on"


def test_the_advantage_of_a_step_is_that_of_its_completion_less_what_its_state_was_worth():
    """A_k = (R - mean R) - lambda / (1 + lambda) (rho_k - mean rho_k), over the steps of a rank."""
    algorithm = EGSPOSA(num_masks=3, probe_weight=0.5)
    rollouts = probed(algorithm, sampled())
    worth = algorithm.prepare(view_of(REWARDS, rollouts))["step_advantages"]
    steps, rho = rollouts.probe_steps, rollouts.probe_rewards
    assert (steps >= 0).sum(1).tolist() == [3, 2, 1, 3]
    for row, rank in (steps >= 0).nonzero().tolist():
        group = [b for b in (row // 2 * 2, row // 2 * 2 + 1) if steps[b, rank] >= 0]
        reward = REWARDS.flatten()
        expected = reward[row] - reward[group].mean() - (rho[row, rank] - rho[group, rank].mean()) / 3
        at = rollouts.unmask_step[row] == steps[row, rank]
        assert torch.allclose(worth[row][at], expected)
    elsewhere = (rollouts.unmask_step[:, None] != steps[:, :, None]).all(1)
    assert (worth[elsewhere] == 0).all()


def test_equal_rewards_of_states_and_completions_teach_nothing():
    algorithm = EGSPOSA(num_masks=2)
    rollouts = probed(algorithm, sampled())
    rollouts = rollouts.with_columns(probe_rewards=torch.full_like(rollouts.probe_rewards, 0.3))
    prepared = algorithm.prepare(view_of(torch.full((2, 2), 0.1, dtype=torch.float64), rollouts))
    assert not prepared["advantages"].any() and not prepared["step_advantages"].any()


@pytest.mark.parametrize("weight", [0.0, 0.5, 3.0])
def test_what_a_state_was_worth_changes_no_mean_gradient(weight):
    """Two steps of two arms each, every path of a group of two enumerated; rho is a function of the state."""
    theta = torch.tensor(
        [0.3, -0.2, 0.5], dtype=torch.float64, requires_grad=True
    )  # step 1; step 2 after either

    def logp(path):
        first, second = path
        sign = lambda arm: 1 if arm else -1  # noqa: E731
        return [
            torch.nn.functional.logsigmoid(sign(first) * theta[0]),
            torch.nn.functional.logsigmoid(sign(second) * theta[1 + first]),
        ]

    reward = {(0, 0): 0.1, (0, 1): 1.0, (1, 0): 0.7, (1, 1): 0.0}
    rho = [lambda path: 0.4, lambda path: [0.9, 0.2][path[0]]]
    paths = list(itertools.product((0, 1), repeat=2))
    mean = torch.zeros(3, dtype=torch.float64)
    for group in itertools.product(paths, repeat=2):
        chance = math.exp(sum(float(x.detach()) for path in group for x in logp(path)))
        total = 0.0
        for k in range(2):
            returns = [(reward[p] + weight * (reward[p] - rho[k](p))) / (1 + weight) for p in group]
            for path, value in zip(group, returns, strict=True):
                total = total + (value - sum(returns) / 2) * logp(path)[k]
        mean += chance * torch.autograd.grad(total, theta)[0]
    value = sum(reward[p] * torch.exp(sum(logp(p))) for p in paths)
    (expected,) = torch.autograd.grad(value, theta)
    assert torch.allclose(mean, expected, rtol=1e-12, atol=1e-14), "two completions, each less half of itself"
