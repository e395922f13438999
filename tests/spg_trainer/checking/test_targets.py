"""Every masking of the package averages to the target that it states, and a masking that does not is found."""

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pytest

from spg_trainer.checking import targets
from spg_trainer.likelihood.masking import Completion, Copies, KeyedStreams, Masking, completions_of
from spg_trainer.likelihood.random_masks import MASKINGS, RandomMasking, likelihoods
from tests.common.marks import slow_if


def row_of_tiny_completion() -> Completion:
    rows = targets.tiny_completion()
    return next(completions_of(rows, KeyedStreams(0, (), [(0,)] * len(rows)), 0, 1))


def test_a_masking_that_is_a_likelihood_says_of_what() -> None:
    for name, masking in MASKINGS.items():
        assert bool(masking.target) == masking.is_likelihood, name
    stated = {masking.target for masking in likelihoods().values()}
    assert stated == targets.TARGETS.keys()


@pytest.mark.parametrize(
    "name",
    slow_if(
        likelihoods(),
        lambda name: name not in ("random", "block_active", "autoregressive", "gauss", "trajectory"),
    ),
)
def test_a_masking_averages_to_its_target(name: str) -> None:
    assert targets.difference_from_target(MASKINGS[name]) == ""


@pytest.mark.parametrize("name", [*targets.TARGETS])
def test_the_weights_of_a_target_are_those_of_a_likelihood(name: str) -> None:
    """Each token weighs 1 in all, and none in a context that shows it."""
    masking = next(m for m in likelihoods().values() if m.target == name)
    if hasattr(masking, "block_length"):
        masking = replace(masking, block_length=targets.BLOCK)
    _, weights_of = targets.TARGETS[name]
    weights = weights_of(masking, row_of_tiny_completion())
    assert weights.sum(-1) == pytest.approx(np.ones(targets.TOKENS))
    for token in range(targets.TOKENS):
        assert weights[token, [context for context in range(16) if context >> token & 1]].sum() == 0


def test_the_any_order_elbo_weighs_contexts_by_the_orders_that_pass_through_them() -> None:
    """Of 24 orders of four tokens, 6 begin with token 0, 2 have it behind token 1 alone, and 6 have it last."""
    _, weights_of = targets.TARGETS["any_order"]
    weights = weights_of(RandomMasking(), row_of_tiny_completion())
    assert 24 * weights[0, [0b0000, 0b0010, 0b0110, 0b1110]] == pytest.approx([6, 2, 2, 6])


@dataclass(frozen=True)
class LeansLate(RandomMasking):
    """In every second copy the first token is shown, whatever was drawn; another takes its place."""

    target: ClassVar[str] = "any_order"

    def copies(self, row: Completion) -> Copies:
        copies = super().copies(row)
        for mask in range(0, len(copies.scored), 2):
            if copies.scored[mask, 0] and not copies.scored[mask, 1]:
                copies.scored[mask, :2] = copies.masked[mask, :2] = [False, True]
                copies.weight[mask, :2] = copies.weight[mask, 1::-1]
        return copies


@dataclass(frozen=True)
class Heavy(RandomMasking):
    """Weighs every token a fifth more."""

    def copies(self, row: Completion) -> Copies:
        copies = super().copies(row)
        return copies._replace(weight=1.2 * copies.weight)


@pytest.mark.parametrize("masking", [LeansLate(), Heavy(), replace(MASKINGS["coupled"], num_masks=4)])
def test_what_is_off_is_found(masking: Masking) -> None:
    assert ("in the any-order ELBO" in targets.difference_from_target(masking)) == (
        type(masking) in (LeansLate, Heavy)
    )
