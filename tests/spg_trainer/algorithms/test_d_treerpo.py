"""d-TreeRPO: trees by enumeration, self-distillation as a KL of whole distributions, and what is no tree."""

import itertools
import math

import pytest
import torch

from spg_trainer.algorithms.d_treerpo import DTreeRPO
from spg_trainer.architecture.pattern import Pattern
from spg_trainer.errors import ConfigError
from spg_trainer.settings.check import check_algorithm
from spg_trainer.training.credit import credit
from tests.common.algorithm_cases import make_batch, view_of
from tests.common.likelihood_cases import make_rollouts, seeded
from tests.common.process_cases import algorithm_config
from tests.common.trainer_cases import small_config, start


def tree(lengths: list[int], size: int, branches: int):
    """Completions that are the leaves of one tree."""
    rollouts, count = make_rollouts(lengths, size), len(lengths)
    branched = torch.arange(count) % branches > 0
    return rollouts.with_columns(branched=branched)


@pytest.mark.parametrize(("advantage", "kept"), [("leave_one_out", 1.0), ("mean", 0.5)])
def test_the_mean_gradient_is_that_of_the_reward_of_each_half(advantage, kept):
    """Two halves of one token of two words; all 64 trees of two nodes with two leaves, enumerated."""
    theta = torch.tensor([0.4, -0.3, 0.8], dtype=torch.float64, requires_grad=True)  # root; nodes 0 and 1
    reward = {(0, 0): 0.2, (0, 1): 1.0, (1, 0): 0.0, (1, 1): 0.6}
    algorithm = DTreeRPO(branches=2, beta=0.0, distil_weight=0.0, advantage=advantage)
    rollouts = tree([2, 2, 2, 2], 2, 2)
    masks = algorithm.make_masking().draw(rollouts, seeded())

    def logp(word, at):
        return torch.nn.functional.logsigmoid(theta[at] if word else -theta[at])

    mean = torch.zeros(3, dtype=torch.float64)
    for words in itertools.product((0, 1), repeat=6):
        first, second = [words[0], words[0], words[1], words[1]], words[2:]
        chance = logp(words[0], 0) + logp(words[1], 0)
        chance = chance + sum(logp(b, 1 + a) for a, b in zip(first, second, strict=True))
        worth = [[reward[pair] for pair in zip(first, second, strict=True)]]
        prepared = algorithm.prepare(view_of(torch.tensor(worth, dtype=torch.float64), rollouts))
        logps = torch.stack(
            [torch.stack([logp(a, 0), logp(b, 1 + a)]).diag() for a, b in zip(first, second, strict=True)]
        )
        logps = logps * masks.scored
        batch = make_batch(
            rollouts.completion_mask,
            prepared["advantages"].tolist(),
            4,
            prepared=prepared,
            old_logps=logps.detach(),
        )
        (gradient,) = torch.autograd.grad(algorithm.loss(logps, masks, batch).loss, theta, retain_graph=True)
        mean -= math.exp(float(chance.detach())) * gradient
    value = sum(r * (logp(a, 0) + logp(b, 1 + a)).exp() for (a, b), r in reward.items())
    (expected,) = torch.autograd.grad(value, theta)
    share = torch.tensor([2, 4, 4]).double() / 6  # of the six children, two are first halves
    assert torch.allclose(mean, expected * share * kept, rtol=1e-10, atol=1e-12)


def test_values_of_nodes_are_means_of_their_leaves_and_only_the_first_leaf_carries_its_node_s():
    rewards = torch.tensor(
        [[1.0, 0.0, 0.5, 0.5, 1.0, 1.0], [0.3, 0.1, 0.2, 0.1, 0.2, 0.3]], dtype=torch.float64
    )
    rollouts = tree([6] * 12, 6, 2)
    prepared = DTreeRPO(branches=2).prepare(view_of(rewards, rollouts))
    halves = prepared["half_advantages"]
    assert torch.allclose(halves[:6, 0], torch.tensor([-0.25, 0, -0.25, 0, 0.5, 0]).double())
    assert torch.allclose(halves[:6, 1], torch.tensor([1.0, -1, 0, 0, 0, 0]).double())
    assert torch.allclose(prepared["advantages"][:6], torch.tensor([1.0, -1, -0.25, 0, 0.5, 0]).double())
    equal = DTreeRPO(branches=3).prepare(view_of(rewards[1:], rollouts.select(torch.arange(6))))[
        "half_advantages"
    ]
    assert not equal[:, 0].any(), (
        "nodes with the same leaves in another order are worth the same, bit for bit"
    )
    alone = DTreeRPO(branches=6).prepare(view_of(rewards[:1], rollouts.select(torch.arange(6))))
    assert not alone["half_advantages"][:, 0].any() and alone["half_advantages"][:, 1].any()
    with pytest.raises(ConfigError, match=r"'branches': 4\}: should be a divisor of the group's 6"):
        DTreeRPO(branches=4).prepare(view_of(rewards[:1], rollouts.select(torch.arange(6))))


@pytest.mark.parametrize("done", [0.0, 0.3, 0.999])
def test_self_distillation_has_the_gradient_of_the_divergence_of_whole_distributions(done):
    """Five words, logits of their own at each place of each state; of two nodes with three leaves one has ended."""
    rollouts = tree([6, 5, 6, 2, 2, 2], 6, 3)
    rollouts.completion_ids[:] = rollouts.completion_ids % 5
    # The two siblings that are worth something agree at their first place, and differ at the next.
    rollouts.completion_ids[1, 3] = rollouts.completion_ids[0, 3]
    rollouts.completion_ids[1, 4] = (rollouts.completion_ids[0, 4] + 1) % 5
    rewards = torch.tensor([[0.9, 1.0, 0.0, 0.4, 0.4, 0.4]], dtype=torch.float64)
    stream = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 6, 5, dtype=torch.float64, generator=stream).requires_grad_()
    law = logits.log_softmax(-1)  # of the root, then of both nodes
    found, algorithms = [], [DTreeRPO(branches=3, beta=0.0, distil_weight=w) for w in (0.2, 0.0)]
    for algorithm in algorithms:
        masks, prepared = (
            algorithm.make_masking().draw(rollouts, seeded()),
            algorithm.prepare(view_of(rewards, rollouts, share_done=done)),
        )
        seen = torch.stack([torch.stack([law[0], law[1 + row // 3]]) for row in range(6)])  # (B, M, T, V)
        chosen = seen.gather(-1, rollouts.completion_ids[:, None, :, None].expand(-1, 2, -1, 1))[..., 0]
        logps = chosen * masks.scored
        batch = make_batch(
            rollouts.completion_mask, [1.0] * 6, 6, prepared=prepared, old_logps=logps.detach()
        )
        found.append(
            torch.autograd.grad(algorithm.loss(logps, masks, batch).loss, logits, retain_graph=True)[0]
        )
    tau, rising = 2 * (1 - done) ** 0.7, 0.2 * (math.exp(2 * done) - 1) / (math.e**2 - 1)
    values = [1.9 / 3, 0.4]
    states = {0: [(0, values[0] - values[1]), (3, values[1] - values[0])]}
    states[1] = [(0, 0.9 - 0.5), (1, 1.0 - 0.45), (2, 0.0 - 0.95)]
    divergences = []
    for state, siblings in states.items():
        for i in range(3) if state == 0 else range(3, 6):
            q = torch.zeros(5, dtype=torch.float64)
            for row, worth in siblings:
                if worth > 0 and rollouts.completion_mask[row, i]:
                    q[rollouts.completion_ids[row, i]] += math.exp(worth / tau)
            if q.any():
                q = q / q.sum()
                divergences.append((torch.xlogy(q, q) - q * law[state, i]).sum())
    assert len(divergences) == 6
    (expected,) = torch.autograd.grad(rising * sum(divergences) / len(divergences), logits)
    assert expected.any() == (done > 0)
    assert torch.allclose(found[0] - found[1], expected, rtol=1e-10, atol=1e-14)


def test_in_a_run_the_term_rises_from_nothing(tmp_path):
    run = start(algorithm_config(tmp_path, "d_treerpo", max_steps=4), quiet=True)
    taught = []
    for step in (0, 2, 3):
        run.state.step = step
        scored = run.source.collect(step)
        taught.append(credit(run, scored)[1].distil.max(-1).values)
    run.folder.release()
    assert not taught[0].any() and taught[1].any() and taught[2].max() > taught[1].max()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"num_generations": 6}, "--num-generations 6: .* has 4 leaves .* Use --num-generations 8"),
        (
            {"block_length": 10, "diffusion_steps": 5},
            "--block-length 10: .* --block-length 5 --diffusion-steps 6",
        ),
        ({"max_completion_length": 9, "block_length": 3}, "--max-completion-length 9: .* 10"),
    ],
)
def test_what_is_no_tree_is_refused(changes, said):
    config = small_config(None, algorithm="d_treerpo", algorithm_args={}, lora_r=2, **changes)
    with pytest.raises(ConfigError, match=said):
        check_algorithm(config, DTreeRPO())


def test_blocks_of_attention_and_other_masks_are_refused():
    with pytest.raises(ConfigError, match=r"attends in blocks.*d2_stepmerge"):
        DTreeRPO().make_masking().check_pattern(Pattern(4))
    with pytest.raises(ConfigError, match=r"--algorithm-args num_masks=3: should be 2"):
        DTreeRPO(num_masks=3)
    with pytest.raises(ConfigError, match="score_tail"):
        DTreeRPO(score_tail=True)
    with pytest.raises(ConfigError, match=r"--algorithm-args branches=1: should be at least 2, .* Try 4\."):
        DTreeRPO(branches=1)
