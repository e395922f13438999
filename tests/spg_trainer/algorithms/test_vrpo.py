"""VRPO: hand-computed numbers, pairs of groups, and dTRPO's masking by enumeration."""

import itertools
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from spg_trainer.algorithms.vrpo import VRPO
from spg_trainer.checking import targets
from spg_trainer.likelihood import Masks
from spg_trainer.likelihood.masking import Completion
from spg_trainer.likelihood.path_masks import BlockStepsMasking
from spg_trainer.tensors import Rows
from spg_trainer.training.loop import train
from tests.common.algorithm_cases import make_batch, view_of
from tests.common.trainer_cases import rows, small_config


def test_a_pair_of_two_tokens_by_hand():
    """One mask, both tokens, weighing 3/2. ELBO: chosen 3/2 (-1 - 1) = -3, rejected 3/2 (-2 - 2) = -6.

    Under the reference -4.5 and -4.5, so the gains are 1.5 and -1.5, the margin 0.2 * 3 = 0.6.
    Preference: log(1 + e^-0.6) = 0.43749. Supervised: 0.05 * 3 / 2 = 0.075.
    """
    scored = torch.ones(2, 1, 2, dtype=torch.bool)
    masks = Masks(scored, scored, 1.5 * scored.double(), torch.ones(2), torch.ones(2, 2, dtype=torch.bool))
    logps = torch.tensor([[[-2.0, -2.0]], [[-1.0, -1.0]]], dtype=torch.float64)
    refs = torch.full((2, 1, 2), -1.5).double()
    batch = make_batch(masks.part, [-1.0, 1.0], scored=2.0, place=Rows.full_groups(1, 2), ref_logps=refs)
    loss = VRPO(num_masks=1).loss(logps, masks, batch)
    assert math.log1p(math.exp(-0.6)) == pytest.approx(0.43749, abs=1e-5)
    assert float(loss.loss) == pytest.approx(math.log1p(math.exp(-0.6)) + 0.075, abs=1e-12)
    found = {name: float(metric.total) for name, metric in loss.metrics.items()}
    assert found["loss/supervised"] == pytest.approx(0.075)
    assert found["bound/share"] == 2 and found["bound/elbo"] == pytest.approx(-1.5 - 3)
    means = {name: value for name, value in found.items() if name.startswith("pairs/")}  # of one pair
    expected = {"accuracy": 1.0, "margin": 0.6, "chosen": 1.5, "rejected": -1.5}
    assert means == pytest.approx({f"pairs/{name}": value for name, value in expected.items()})
    assert all(loss.metrics[name].per == "update" for name in means)


def test_a_pair_is_the_best_against_the_worst_the_first_of_equals():
    rewards = torch.tensor([[0.5, 1.0, 0.0, 1.0], [0.1, 0.1, 0.1, 0.1], [2.0, -1.0, -1.0, 0.0]])
    algorithm = VRPO()
    advantages = algorithm.prepare(view_of(rewards.double(), None))["advantages"]
    assert advantages.tolist() == [0, 1, -1, 0, 0, 0, 0, 0, 1, -1, 0, 0]
    assert algorithm.active(advantages).tolist() == [bool(a) for a in advantages]


class Script:
    """Stands for a stream, and answers by a list of choices; past its end with the first one."""

    def __init__(self, choices: list[int]) -> None:
        self.choices, self.counts = choices, []

    def choose(self, options: list) -> object:
        self.counts.append(len(options))
        return options[([*self.choices, *[0] * len(self.counts)])[len(self.counts) - 1]]

    def integers(self, count: int) -> object:
        return self.choose([*range(count)])

    def permutation(self, count: int) -> np.ndarray:
        return np.array(self.choose([*itertools.permutations(range(count))]))


def mean_over_every_draw(masking, row: Completion) -> np.ndarray:
    """What each token weighs in each context, (n, 2**n), by enumeration of what a masking may draw."""
    total, waiting = np.zeros((row.length, 2**row.length)), [[]]
    while waiting:
        script = Script(waiting.pop())
        copies = masking.copies(row._replace(streams=SimpleNamespace(of_row=lambda script=script: script)))
        if len(script.counts) > len(script.choices):  # the next choice is open
            waiting += [[*script.choices, i] for i in range(script.counts[len(script.choices)])]
            continue
        context = ~copies.masked[:, : row.length] @ (1 << np.arange(row.length))
        for m, i in zip(*copies.scored.nonzero(), strict=True):
            total[i, context[m]] += copies.weight[m, 0] / len(copies.scored) / math.prod(script.counts)
    return total


@pytest.mark.parametrize(
    ("steps", "block_length", "target"),
    [
        ([0, 0, 0, 0, 0], 2, targets.blocks),  # given
        ([0, 0, 0, 0, 0], 4, targets.blocks),
        ([1, 0, 3, 2, 4], 2, targets.path),
        ([0, 0, 1, 2, 2], 2, targets.path),
        ([1, 2, 0, 0, 3], 8, targets.path),
    ],
)
def test_a_step_of_each_block_is_in_the_mean_the_path_or_the_block_bound(steps, block_length, target):
    masking = BlockStepsMasking(block_length=block_length)
    row = Completion(
        length=4,
        size=5,
        place=np.arange(5),
        unmask_step=np.array(steps),
        surprise=np.zeros(5),
        streams=None,
        progress=0.0,
        quantile=0.0,
    )
    difference = mean_over_every_draw(masking, row) - target(masking, row)
    assert np.abs(difference).max() < 1e-12


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
