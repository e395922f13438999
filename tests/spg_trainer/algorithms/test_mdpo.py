"""MDPO: what steps are worth by hand, which are chosen, and the gradient on policy."""

import numpy as np
import torch

from spg_trainer.algorithms.mdpo import MDPO
from tests.common.algorithm_cases import logps_gradient, make_batch, sampled, two_tokens, view_of

REWARDS = torch.tensor([[1.0, 0.0], [0.5, 0.5]], dtype=torch.float64)


def with_worth(worth: list[list[float]], known: list[list[bool]] | None = None):
    rho = torch.tensor(worth, dtype=torch.float64)
    steps = torch.arange(rho.shape[1]).expand_as(rho)
    if known is not None:
        steps = steps.where(torch.tensor(known), -1)
    return sampled().with_columns(probe_steps=steps, probe_rewards=rho)


def test_where_states_are_all_worth_the_reward_every_step_has_the_group_s_z_score():
    rollouts = with_worth([[r] * 4 for r in REWARDS.flatten().tolist()])
    prepared = MDPO(top_steps=4).prepare(view_of(REWARDS, rollouts))
    found = prepared["fill_advantages"]
    assert torch.allclose(found[0], torch.full((4,), 0.5**0.5, dtype=torch.float64), atol=2e-4)
    assert torch.allclose(found[1], -found[0])
    assert not found[2:].any() and not prepared["advantages"][2:].any()


def test_scores_by_hand_and_the_steps_of_the_greatest_are_chosen():
    """A state's worth less that of the one before, and the mean of those that come; the last counts itself."""
    rho = [[0.2, 0.8, 0.4], [0.6, 0.1, 0.9], [0.5] * 3, [0.5] * 3]
    first = [0.2 - 0 + 0.6, 0.8 - 0.2 + 0.4, 0.4 - 0.8 + 0.4]
    scores = np.array([first, [0.6 - 0 + 0.5, 0.1 - 0.6 + 0.9, 0.9 - 0.1 + 0.9]])
    expected = (scores - scores.mean(0)) / (scores.std(0, ddof=1) + 1e-4)
    every = MDPO(top_steps=3).prepare(view_of(REWARDS, with_worth(rho)))["fill_advantages"]
    assert np.allclose(every[:2], expected)
    prepared = MDPO(top_steps=1).prepare(view_of(REWARDS, with_worth(rho)))
    best = np.abs(expected).argmax(1)
    for row, step in enumerate(best):
        assert prepared["fill_advantages"][row].nonzero().flatten().tolist() == [step]
        assert np.isclose(prepared["advantages"][row], expected[row, step])


def test_a_completion_that_has_ended_stays_what_it_is_and_its_later_steps_are_not_chosen():
    """The second had one step less: the reward stands for it."""
    rho = [[0.2, 0.8, 0.4], [0.6, 0.1, 0.0], [0.5] * 3, [0.5] * 3]
    known = [[True] * 3, [True, True, False], [True] * 3, [True] * 3]
    found = MDPO(top_steps=3).prepare(view_of(REWARDS, with_worth(rho, known)))["fill_advantages"]
    filled_in = MDPO(top_steps=3).prepare(view_of(REWARDS, with_worth(rho)))["fill_advantages"]
    assert found[1, 2] == 0 and filled_in[1, 2] != 0
    assert torch.equal(found[0], filled_in[0])


def test_equal_steps_are_never_chosen():
    rollouts = with_worth([[0.3, 0.9, 0.3]] * 2 + [[1.0, 0.0, 1.0]] * 2)
    assert (
        not MDPO(top_steps=3)
        .prepare(view_of(torch.full((2, 2), 0.4).double(), rollouts))["fill_advantages"]
        .any()
    )


def test_a_state_is_asked_for_before_every_step_that_unmasked_a_token_that_counts():
    rollouts = sampled()
    steps = MDPO().probe_steps(rollouts, 1, None)
    for row, n in enumerate(rollouts.completion_mask.sum(-1).tolist()):
        last = int(rollouts.unmask_step[row, :n].max())
        assert steps[row].tolist() == [*range(last + 1), *[-1] * (steps.shape[1] - last - 1)]


def test_on_policy_the_gradient_is_that_of_the_probabilities():
    """- A n/k^2 sum of grad p."""
    masks = two_tokens()
    logps = torch.tensor([[[-0.3, -2.0]]], dtype=torch.float64)
    batch = make_batch(masks.part, [0.8], 1, fill_step=torch.zeros(1))
    _, gradient = logps_gradient(MDPO(beta=0.0), masks, batch, logps)
    assert torch.allclose(gradient, -0.8 * 2 / 4 * logps.exp())
