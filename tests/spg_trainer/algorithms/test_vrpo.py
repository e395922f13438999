"""VRPO: hand-computed numbers, the published formula through a real model, pairs of groups, settings."""

import math

import pytest
import torch

from spg_trainer.algorithms.vrpo import VRPO
from spg_trainer.likelihood import Masks
from spg_trainer.training.loop import train
from tests.common.algorithm_cases import MASK, alone, make_batch, split_error
from tests.common.likelihood_cases import make_rollouts, naive_logps, seeded, tiny_model
from tests.common.trainer_cases import rows, small_config

LENGTHS, SIZE = [9, 4, 1, 7, 5, 6], 9
SIGNS, GROUPS = [1.0, -1.0, -1.0, 1.0, 1.0, -1.0], [0, 0, 2, 2, 5, 5]
"""Two completions of each of three groups; the other groups have no pair, and another process has four more pairs."""


def batch_of_pairs(rollouts, ref_logps):
    mask, group = rollouts.completion_mask, torch.tensor(GROUPS)
    return make_batch(mask, SIGNS, completions=40, scored=14.0, group=group, ref_logps=ref_logps)


def test_a_pair_of_two_tokens_by_hand():
    """One mask, both tokens, weighing 3/2. ELBO: chosen 3/2 (-1 - 1) = -3, rejected 3/2 (-2 - 2) = -6.

    Under the reference -4.5 and -4.5, so the gains are 1.5 and -1.5, the margin 0.2 * 3 = 0.6.
    Preference: log(1 + e^-0.6) = 0.43749. Supervised: 0.05 * 3 / 2 = 0.075.
    """
    scored = torch.ones(2, 1, 2, dtype=torch.bool)
    masks = Masks(scored, scored, 1.5 * scored.double(), torch.ones(2), torch.ones(2, 2, dtype=torch.bool))
    logps = torch.tensor([[[-2.0, -2.0]], [[-1.0, -1.0]]], dtype=torch.float64)
    more = {"group": torch.tensor([0, 0]), "ref_logps": torch.full((2, 1, 2), -1.5).double()}
    batch = make_batch(masks.part, [-1.0, 1.0], scored=2.0, **more)
    loss = VRPO(num_masks=1).loss(logps, masks, batch)
    assert math.log1p(math.exp(-0.6)) == pytest.approx(0.43749, abs=1e-5)
    assert float(loss.loss) == pytest.approx(math.log1p(math.exp(-0.6)) + 0.075, abs=1e-12)
    found = {name: float(metric.total) for name, metric in loss.metrics.items()}
    assert found["loss/supervised"] == pytest.approx(0.075)
    assert found["bound/share"] == 2 and found["bound/elbo"] == pytest.approx(-1.5 - 3)
    # Over the two scored completions: the means over the pair.
    means = {name: value / 2 for name, value in found.items() if name.startswith("pairs/")}
    expected = {"accuracy": 1.0, "margin": 0.6, "chosen": 1.5, "rejected": -1.5}
    assert means == pytest.approx({f"pairs/{name}": value for name, value in expected.items()})
    assert all(loss.metrics[name].per == "scored_completions" for name in means)


def published(algorithm, model, reference, rollouts, masks, pairs):
    """DPO as the paper writes it, one unpadded completion at a time: whole softmax, plain sums, no log-sigmoid."""

    def bound(scorer, row):
        logps = naive_logps(scorer, *alone(rollouts, masks, row), MASK)[0]
        each = [(logps[m] * masks.weight[row, m] * masks.scored[row, m]).sum() for m in range(len(logps))]
        return sum(each) / len(each)

    total = 0.0
    for good, bad in pairs:
        inner = bound(model, good) - bound(model, bad)
        outer = (bound(reference, good) - bound(reference, bad)).detach()
        preference = (1 + (-algorithm.beta * (inner - outer)).exp()).log()
        total = total + preference - algorithm.sft_weight * bound(model, good) / LENGTHS[good]
    return total / 7


@pytest.mark.parametrize("masking", ["bernoulli", "coupled"])
def test_loss_and_gradient_are_those_of_the_published_formula(masking):
    """In one pass, in several, and in micro-batches of one pair and of two."""
    model, reference = tiny_model(), tiny_model(seed=7)
    rollouts = make_rollouts(LENGTHS, SIZE, [4, 4, 3, 3, 1, 1])
    algorithm = VRPO(masking, 4, beta=0.7, sft_weight=0.3)
    masks = algorithm.make_masking().draw(rollouts, seeded(3))
    ref_logps = naive_logps(reference, rollouts, masks, MASK).detach()
    batch = batch_of_pairs(rollouts, ref_logps)
    direct = published(algorithm, model, reference, rollouts, masks, [(0, 1), (3, 2), (4, 5)])
    assert split_error(algorithm, model, rollouts, masks, batch, direct, (2, 4, 6)) < 1e-10


def test_a_pair_is_the_best_against_the_worst_the_first_of_equals():
    rewards = torch.tensor([[0.5, 1.0, 0.0, 1.0], [0.1, 0.1, 0.1, 0.1], [2.0, -1.0, -1.0, 0.0]])
    algorithm = VRPO()
    advantages = algorithm.prepare(rewards.double(), None)["advantages"]
    assert advantages.tolist() == [0, 1, -1, 0, 0, 0, 0, 0, 1, -1, 0, 0]
    assert algorithm.active(advantages).tolist() == [bool(a) for a in advantages]


# In the trainer.


def config(folder, **changes):
    """Groups of four, of which each gives one pair or none."""
    settings = {"algorithm": "vrpo", "algorithm_args": {"num_masks": 2}, "ref_copy": True, "dtype": "float64"}
    return small_config(folder, **{**settings, "max_grad_norm": 1e9, **changes})


def test_only_pairs_are_scored_and_updates_widen_their_margin(tmp_path):
    train(config(tmp_path / "run", num_minibatches=2, num_iterations=3, max_steps=1), quiet=True)
    (first,) = rows(tmp_path / "run" / "metrics.jsonl")
    share = (1 - first["frac_reward_zero_std"]) / 2  # two of a group's four
    assert first["bound/share"] == pytest.approx(share) and share > 0
    written = [row["advantage"] for row in rows(tmp_path / "run" / "samples" / "step-000001.jsonl")]
    groups = [sorted(written[start : start + 4]) for start in range(0, 16, 4)]
    assert all(group in ([-1, 0, 0, 1], [0, 0, 0, 0]) for group in groups)
    assert first["bound/share"] * 16 == sum(map(abs, written))
    assert first["pairs/margin"] > 0
