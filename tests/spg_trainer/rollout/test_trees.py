"""Trees of rollouts: leaves share their first half, and each half is what the sampler makes of its state."""

from dataclasses import replace

import pytest
import torch

from spg_trainer.algorithms.d_treerpo import DTreeRPO
from spg_trainer.likelihood import token_logps
from spg_trainer.models import load_model
from spg_trainer.rollout import trees
from spg_trainer.rollout.tokens import encode_prompts, sample
from spg_trainer.rollout.trees import sample_trees
from spg_trainer.settings.decoding import Sampling
from tests.common.likelihood_cases import seeded
from tests.common.trainer_cases import save_tiny, tiny_folder

SAMPLING = Sampling(10, 5, 6, 1.0)
COLUMNS = (
    "completion_ids",
    "completion_mask",
    "unmask_step",
    "unmask_logps",
    "entropy",
    "confidence_change",
)
RECORDS = frozenset({"entropy", "confidence_change"})


def columns(rollouts):
    """{name: (B, T)} of what is written or recorded of each token."""
    return {name: rollouts.get(name) for name in COLUMNS}


@pytest.fixture(scope="module")
def policy():
    policy = load_model(str(tiny_folder()), device="cpu")
    policy.model.double()
    return policy


def grown(policy, sampling=SAMPLING, seed=0, branches=3, keys=None, nodes=4):
    prompts = [f"write {'many ' * (node % 2)}letters" for node in range(nodes) for _ in range(branches)]
    keys = [("tree", row) for row in range(len(prompts))] if keys is None else keys
    encoded = encode_prompts(policy, prompts)
    return (
        sample_trees(policy, encoded, sampling, seed, keys, None, RECORDS, branches=branches),
        encoded,
        keys,
    )


def test_leaves_of_a_node_share_its_first_half_and_the_first_is_a_plain_completion(policy):
    rollouts, (ids, mask), keys = grown(policy, nodes=12)
    first = torch.arange(0, 36, 3)
    plain = sample(
        policy, (ids[first], mask[first]), SAMPLING, 0, [keys[row] for row in first], None, RECORDS
    )
    for name, column in columns(rollouts).items():
        assert torch.equal(column[first], columns(plain)[name]), name
        assert torch.equal(column[:, :5], column[first, :5].repeat_interleave(3, 0)), name
    assert rollouts.branched.tolist() == [False, True, True] * 12
    ended = plain.completion_mask.sum(-1) <= 5
    assert ended.any() and not ended.all()
    for node in range(12):
        second = {tuple(row) for row in rollouts.completion_ids[3 * node : 3 * node + 3, 5:].tolist()}
        assert len(second) == 1 if ended[node] else len(second) > 1


def test_what_is_sampled_greedily_behind_a_node_is_the_node_s_own_second_half(policy):
    """So the state is the same: its ids, its places and how many steps are left."""
    rollouts, _, _ = grown(policy, replace(SAMPLING, temperature=0.0))
    for name, column in columns(rollouts).items():
        for leaf in (1, 2):
            assert (
                torch.equal(column[leaf::3], column[::3])
                if name != "unmask_logps"
                else torch.allclose(column[leaf::3], column[::3], rtol=1e-6)
            ), name


def test_with_a_step_for_each_half_the_sampler_s_probabilities_are_those_that_are_scored(policy):
    rollouts, _, _ = grown(policy, replace(SAMPLING, diffusion_steps=2))
    masks = DTreeRPO(branches=3).make_masking().draw(rollouts, seeded())
    logps = token_logps(policy.model, rollouts, masks, policy.mask_id, 2)
    found = torch.where(masks.scored, logps, 0).sum(1)
    expected = rollouts.unmask_logps * masks.scored.any(1)
    assert masks.scored[:, 1].any() and torch.allclose(found, expected, rtol=1e-6, atol=1e-9)
    theirs = rollouts.branched[:, None] & (torch.arange(10) < 5)  # the first leaf has them
    assert torch.equal(masks.scored.sum(1) == 1, rollouts.completion_mask & ~theirs)
    branched = rollouts.branched
    assert not masks.scored[branched, 0].any() and masks.scored[~branched, 0].any()


def test_steps_go_on_counting_and_a_leaf_s_noise_is_its_own(policy):
    rollouts, _, keys = grown(policy)
    steps, alive = rollouts.unmask_step, rollouts.completion_mask.sum(-1) > 5
    assert (steps[alive, :5].amax(-1) == 2).all() and (steps[alive, 5:].amax(-1) <= 5).all()
    later = steps[alive, 5:]
    assert ((later >= 3) | (later == -1)).all() and (later >= 3).any()
    other, _, _ = grown(policy, keys=[*keys[:-1], ("tree", 99)])
    same = (other.completion_ids == rollouts.completion_ids).all(-1)
    assert same[:-1].all() and (not alive[-1] or not same[-1])


def test_a_tree_costs_its_nodes_whole_and_half_of_every_other_leaf(policy, monkeypatch):
    asked = []

    def counted(policy, encoded, sampling, *more):
        asked.append((len(encoded[0]), sampling.max_completion_length, sampling.diffusion_steps))
        return sample(policy, encoded, sampling, *more)

    monkeypatch.setattr(trees, "sample", counted)
    rollouts, _, _ = grown(policy, nodes=4)
    going = int((rollouts.completion_mask.sum(-1)[::3] > 5).sum())
    assert asked == [(4, 10, 6), (2 * going, 5, 3)]


def test_where_all_nodes_have_ended_nothing_branches(tmp_path):
    policy = load_model(str(save_tiny(tmp_path / "model", end=50.0)), device="cpu")
    rollouts, _, _ = grown(policy)
    assert rollouts.completion_mask.sum(-1).tolist() == [1] * 12
    assert torch.equal(rollouts.completion_ids, rollouts.completion_ids[::3].repeat_interleave(3, 0))
