"""The forms of SPG's negative half in benchmarks/negative_half.py, against plain formulas of one token at a time."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from spg_trainer.algorithms import build
from spg_trainer.checking.cases import draw_view
from spg_trainer.checking.checks import check_algorithm
from spg_trainer.likelihood.masking import KeyedStreams
from spg_trainer.seeding import generator

FILE = Path(__file__).resolve().parents[1] / "benchmarks" / "negative_half.py"
if not FILE.is_file():  # tests copied beside an installed wheel
    pytest.skip("the benchmarks are not here", allow_module_level=True)
REWARDS = [[1.0, 0.0, 0.0, 0.2], [1.0, 0.2, 1.0, 0.0], [0.2, 0.0, 0.0, 0.2]]
"""Only 1.0 is right: one of the first group, two of the second, none of the third."""
MIX = {"elbo": 0.0, "mix": 0.5, "eubo": 1.0}
NEGATIVES = pytest.mark.parametrize("negatives", MIX)


class Drawn:
    """A step of a form: completions of two kinds of tokens, its masks, log-probabilities and batch."""

    def __init__(self, form: str, share_done: float = 0.5, **args: object) -> None:
        self.algorithm = build(f"{FILE}:{form}", args)
        rewards = torch.tensor(REWARDS, dtype=torch.float64)
        view = draw_view(self.algorithm, rewards).with_columns(share_done=share_done)
        mask = view.completion_mask.clone()
        mask[4:6], mask[6] = True, torch.arange(8) < 3  # a right one that ends long before a wrong one
        tokens = view.completion_ids % 2
        self.rollouts = view.with_columns(completion_ids=tokens, completion_mask=mask)
        streams = KeyedStreams(0, ("masks",), view.noise_keys())
        self.masks = self.algorithm.make_masking().draw(self.rollouts, streams)
        self.advantages = (rewards - rewards.mean(1, keepdim=True)).flatten().tolist()
        self.lengths = self.rollouts.completion_mask.sum(1).tolist()
        noise = torch.rand(self.masks.scored.shape, generator=generator(0, "logps"), dtype=torch.float64)
        self.logps = (-0.05 - 2 * noise) * self.masks.scored
        self.logps[7] *= 0.01  # a wrong one of the second group that the model would write again
        prepared = self.algorithm.prepare(self.rollouts)
        self.batch = self.rollouts.with_columns(totals={"completions": 12.0}, **prepared)

    def check(self, plain_loss) -> None:
        """The loss and its gradient are those of plain_loss(logps), of which autograd makes the gradient."""
        found, expected = (self.logps.clone().requires_grad_() for _ in range(2))
        loss = self.algorithm.loss(found, self.masks, self.batch).loss
        plain = plain_loss(expected)
        loss.backward()
        plain.backward()
        assert loss.item() == pytest.approx(plain.item(), rel=1e-12, abs=1e-14)
        assert expected.grad.any() and torch.allclose(found.grad, expected.grad, rtol=1e-11, atol=1e-14)

    def elbo(self, logps: Tensor, row: int, tokens: list[int]) -> Tensor:
        """Of some tokens, from the first two copies: a copy that masks k of n tokens weighs each by n / k."""
        total = 0.0 * logps.sum()
        for copy in range(2):
            scored = self.masks.scored[row, copy].nonzero().flatten().tolist()
            total = total + sum(
                logps[row, copy, t] * self.lengths[row] / len(scored) for t in scored if t in tokens
            )
        return total / 2

    def eubo(self, logps: Tensor, row: int, tokens: list[int]) -> Tensor:
        """With beta 1: the sum over tokens of log(mean of n / k * p over both copies), times tokens over seen ones."""
        total, seen = 0.0 * logps.sum(), 0
        counts = self.masks.scored[row].sum(-1).tolist()
        for t in tokens:
            copies = [copy for copy in range(2) if self.masks.scored[row, copy, t]]
            if copies:
                seen += 1
                powers = [self.lengths[row] / counts[copy] * logps[row, copy, t].exp() for copy in copies]
                total = total + (sum(powers) / 2).log()
        return total * len(tokens) / max(1, seen)

    def negative(self, logps: Tensor, row: int, tokens: list[int], negatives: str) -> Tensor:
        share = MIX[negatives]
        return share * self.eubo(logps, row, tokens) + (1 - share) * self.elbo(logps, row, tokens)

    def tokens(self, row: int) -> list[int]:
        return list(range(self.lengths[row]))


@NEGATIVES
def test_a_wrong_completion_falls_only_where_no_right_one_of_its_group_has_its_token(negatives: str) -> None:
    drawn = Drawn("Contrast", negatives=negatives)
    rights, taught = {0: [0], 1: [4, 6], 2: []}, {}
    for row in range(12):
        texts = [
            drawn.rollouts.completion_ids[one, : drawn.lengths[one]].tolist()
            for one in (row, *rights[row // 4])
        ]
        taught[row] = [
            t
            for t, token in enumerate(texts[0])
            if len(texts) > 1 and all(right[t : t + 1] != [token] for right in texts[1:])
        ]

    def plain(logps: Tensor) -> Tensor:
        loss = 0.0
        for row, advantage in enumerate(drawn.advantages):
            if advantage >= 0:
                loss = loss - advantage * drawn.elbo(logps, row, drawn.tokens(row)) / 12
            else:
                loss = loss - advantage * drawn.negative(logps, row, taught[row], negatives) / 12
        return loss

    falling = [row for row in range(8) if drawn.advantages[row] < 0]
    assert any(0 < len(taught[row]) < drawn.lengths[row] for row in falling)  # or nothing was tried
    assert not any(taught[row] for row in (0, 4, 6, 8, 9, 10, 11))
    drawn.check(plain)


def test_on_the_path_each_token_falls_in_the_state_that_the_sampler_saw() -> None:
    drawn = Drawn("Path")
    steps = drawn.rollouts.unmask_step.tolist()  # one token each
    for row in range(12):
        for copy, step in enumerate(sorted(steps[row][: drawn.lengths[row]])):
            shown_as_mask = drawn.masks.masked[row, 2 + copy, -8:].tolist()
            assert shown_as_mask == [other >= step for other in steps[row]]

    def plain(logps: Tensor) -> Tensor:
        loss = 0.0
        for row, advantage in enumerate(drawn.advantages):
            order = sorted(drawn.tokens(row), key=steps[row].__getitem__)
            path = sum(logps[row, 2 + copy, t] for copy, t in enumerate(order))
            bound = drawn.elbo(logps, row, drawn.tokens(row)) if advantage >= 0 else path
            loss = loss - advantage * bound / 12
        return loss

    drawn.check(plain)


@NEGATIVES
def test_scaled_the_negative_half_of_a_group_is_at_most_as_large_as_its_positive_half(negatives: str) -> None:
    """A token of probability p whose log-probability has the slope s adds |s| (1 - p)."""
    drawn, shares = Drawn("Scaled", negatives=negatives), []

    def term(logps: Tensor, row: int) -> Tensor:
        falls = drawn.advantages[row] < 0
        tokens = drawn.tokens(row)
        bound = drawn.negative(logps, row, tokens, negatives) if falls else drawn.elbo(logps, row, tokens)
        return -drawn.advantages[row] * bound / 12

    def size(row: int) -> float:
        at = drawn.logps.clone().requires_grad_()
        (slope,) = torch.autograd.grad(term(at, row), at)
        return float((slope.abs() * (1 - drawn.logps.exp())).sum())

    def plain(logps: Tensor) -> Tensor:
        loss = 0.0
        for group in range(3):
            rows = range(4 * group, 4 * group + 4)
            sizes = {
                sign: sum(size(row) for row in rows if (drawn.advantages[row] < 0) == sign)
                for sign in (False, True)
            }
            shares.append(min(1.0, sizes[False] / sizes[True]))
            for row in rows:
                loss = loss + term(logps, row) * (shares[-1] if drawn.advantages[row] < 0 else 1.0)
        return loss

    drawn.check(plain)
    assert min(shares) < 1 and max(shares) == 1  # or nothing was tried


@NEGATIVES
def test_the_decaying_half_weighs_what_is_left_of_the_run(negatives: str) -> None:
    drawn = Drawn("Decay", share_done=0.7, negatives=negatives)

    def plain(logps: Tensor) -> Tensor:
        loss = 0.0
        for row, advantage in enumerate(drawn.advantages):
            tokens = drawn.tokens(row)
            up, down = drawn.elbo(logps, row, tokens), drawn.negative(logps, row, tokens, negatives)
            loss = loss - advantage * (up if advantage >= 0 else 0.3 * down) / 12
        return loss

    drawn.check(plain)


@NEGATIVES
def test_the_bonus_of_a_group_raises_the_elbo_of_all_as_a_higher_advantage_does(negatives: str) -> None:
    """Of the third group, of which none is right, it raises nothing."""
    drawn = Drawn("GroupBonus", negatives=negatives, masking="random")
    assert drawn.algorithm.active(torch.zeros(3)).all()

    def plain(logps: Tensor) -> Tensor:
        loss = 0.0
        for row, advantage in enumerate(drawn.advantages):
            tokens, bonus = drawn.tokens(row), (0.25, 0.5, 0.0)[row // 4]
            up, down = drawn.elbo(logps, row, tokens), drawn.negative(logps, row, tokens, negatives)
            loss = loss - (bonus * up + advantage * (up if advantage >= 0 else down)) / 12
        return loss

    drawn.check(plain)


@pytest.mark.slow
@pytest.mark.parametrize("form", ["Contrast", "Path", "Scaled", "Decay", "GroupBonus"])
def test_each_form_keeps_the_contract_of_algorithms(form: str) -> None:
    assert not [finding for finding in check_algorithm(f"{FILE}:{form}") if not finding.ok]
