"""LIFT and GIFT: what they mask after a first pass, the bound of GIFT by enumeration, and a step of `sft` with each."""

import itertools
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from spg_trainer.algorithms.mle import MLE
from spg_trainer.errors import ConfigError
from spg_trainer.likelihood import KeyedStreams
from spg_trainer.likelihood.masking import Completion
from spg_trainer.likelihood.random_masks import GiftMasking, LiftMasking, LiftPilot, lift_counts
from spg_trainer.tensors import Rows
from spg_trainer.training.update import with_pilot
from tests.common.likelihood_cases import make_rollouts, naive_logps, policy_of, tiny_model

MASK = 257


class Stream:
    """Gives what it is told to give."""

    def __init__(self, **given) -> None:
        self.given = given

    def integers(self, *ends: int) -> int:
        return self.given["integers"]

    def random(self) -> float:
        return self.given["random"]

    def exponential(self, size: int) -> np.ndarray:
        return self.given["exponential"]

    def permutation(self, count: int) -> np.ndarray:
        return np.arange(count)[:: self.given.get("step", 1)]


def completion(length: int, pilot: np.ndarray, **given) -> Completion:
    stream = Stream(**given)
    return Completion(
        length=length,
        size=length + 1,
        place=np.arange(length + 1),
        unmask_step=np.zeros(length + 1, int),
        surprise=np.zeros(length + 1),
        streams=SimpleNamespace(of_mask=lambda mask: stream),
        progress=0.0,
        quantile=0.0,
        recorded={"pilot": np.concatenate([pilot, [[-np.inf]]], 1)},
    )


def test_the_mean_of_gift_is_the_bound_of_a_random_order_by_enumeration():
    """All sets, pivots and times (by a quadrature that is exact here) against all orders of four tokens."""
    b, n = np.array([0.5, 0.75, 1.25, 1.5]), 4
    found = np.zeros((n, 2**n))
    nodes, node_weights = np.polynomial.legendre.leggauss(60)
    for x, node_weight in zip((1 + nodes) / 2, node_weights / 2, strict=True):
        now = -4 * math.log(x)  # 1 - t = x^4, so that the integrand is a polynomial in x
        masked_by_now, jacobian = 1 - np.exp(-now * b), 4 * x**3
        density = b * x ** (4 * (b - 1))  # of the time at which a token is masked
        for first in range(n):
            others = [i for i in range(n) if i != first]
            for drawn in itertools.product((True, False), repeat=n - 1):
                scored = np.zeros(n, bool)
                scored[first], scored[others] = True, drawn
                times = np.where(scored, now / 2, now * 2)
                times[first] = now
                row = completion(n, b[None] ** 2, integers=first, exponential=times * b)
                chosen, weight = GiftMasking(num_masks=1).subsets(row)
                assert chosen[0].tolist() == scored.tolist()
                chance = density[first] / n
                for i in others:
                    chance *= masked_by_now[i] if scored[i] else 1 - masked_by_now[i]
                context = int((~scored) @ (1 << np.arange(n)))
                found[scored, context] += node_weight * jacobian * chance * weight[0, scored]
    expected = np.zeros((n, 2**n))
    for order in itertools.permutations(range(n)):  # the order of masking
        chance = math.prod(b[order[k]] / sum(b[i] for i in order[k:]) for k in range(n))
        for k, token in enumerate(order):
            expected[token, sum(1 << i for i in order[k + 1 :])] += chance
    assert np.abs(found - expected).max() < 1e-10
    assert found.sum(1) == pytest.approx([1] * n)


def test_gift_bears_a_model_that_is_sure_of_tokens():
    for entropy in ([0.0, 0.0, 0.0], [0.0, 1e-12, 2.0]):
        row = completion(3, np.array([entropy]), integers=0, exponential=np.array([0.7, 1.0, 2.0]))
        scored, weight = GiftMasking(num_masks=2).subsets(row)
        assert scored[:, 0].all() and np.isfinite(weight[scored]).all()
        assert (weight * scored).sum(1) == pytest.approx([3, 3])


@pytest.mark.parametrize("count", range(1, 10))
def test_lift_masks_hard_tokens_where_few_are_masked_and_easy_ones_where_many_are(count):
    n, logps = 9, -np.array([3.0, 1.0, 4.0, 1.5, 9.0, 2.0, 6.0, 5.0, 3.5])
    for u in (0.0, 0.5, 0.99):
        draws = {"integers": count, "random": u, "step": -1}
        least = 0.1 if 1 - count / n > 0.1 else 0.0
        size = min(n, count + round((least + (1 - count / n - least) * u) * n))
        assert lift_counts(Stream(**draws), n) == (count, size)
        (seen,), _ = LiftPilot(1).subsets(completion(n, logps[None], **draws))
        assert int(seen.sum()) == (0 if 3 <= count <= 6 else size)
        pilot = np.where(seen, logps, -np.inf)[None]
        (scored,), weight = LiftMasking(1).subsets(completion(n, pilot, **draws))
        expected = [*range(n)][: -count - 1 : -1]
        if count not in range(3, 7):
            candidates = sorted(np.flatnonzero(seen), key=lambda i: logps[i])
            expected = candidates[:count] if count < 3 else candidates[-count:]
        assert sorted(np.flatnonzero(scored)) == sorted(expected) and float(weight[0, 0]) == n / count


@pytest.mark.parametrize("masking", ["lift", "gift"])
def test_a_step_looks_first_and_masks_what_it_saw(masking):
    """The figures are those of a plain pass, in micro-batches of two rows with ragged prompts."""
    model = tiny_model(layers=1)
    rows = Rows.full_groups(3, 1, **vars(make_rollouts([9, 7, 9], 9, [4, 2, 3])))
    policy = policy_of(model, MASK)
    algorithm = MLE(masking=masking, num_masks=2, score_tail=False)
    streams = KeyedStreams(0, ("masks", 5), row_keys=rows.noise_keys("turn"), update=(0,))
    masking = algorithm.make_masking()
    with pytest.raises(ConfigError, match="a pass of the model before its masks"):
        masking.draw(rows, streams, 0, 1)
    seen = with_pilot(policy, algorithm, rows, streams, batch_size=2)
    masks = masking.pilot.draw(rows, streams)
    values, where = naive_logps(model, rows, masks, MASK), masks.scored
    if algorithm.masking == "gift":
        values = values[..., 9:]
        assert where.sum() == rows.completion_mask.sum()
    assert torch.equal(torch.isfinite(seen.pilot), where)
    torch.testing.assert_close(seen.pilot[where], values[where], rtol=0, atol=1e-10)
    drawn = masking.draw(seen, streams, 0, 1)
    totals = drawn.weight.sum(-1)
    assert torch.allclose(totals, rows.completion_mask.sum(-1)[:, None].expand_as(totals).double())
