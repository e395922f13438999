"""Which passes a process makes when others have another kind, played by one process that is told their votes."""

import pytest
import torch

from spg_trainer import distributed
from spg_trainer.models.lora import add_lora
from spg_trainer.models.shard import Lockstep
from tests.common.model_cases import small, some_ids

WITHOUT, WITH = 0, 1
"""The kinds of one model: without a graph, and with one."""


@pytest.fixture
def votes(monkeypatch):
    """What all processes together want, round by round; what this one wanted is noted beside."""
    told, own = [], []

    def all_reduce(numbers, device):
        own.append(numbers)
        return told.pop(0)

    monkeypatch.setattr(distributed, "all_reduce_numbers", all_reduce)
    return told, own


@pytest.fixture
def model():
    """A model that seems divided."""
    model = small()
    model.unshard = model.reshard = lambda: None
    return model


def passes(model):
    """Of each pass of the body, how many tokens it has and whether it has a graph."""
    seen = []
    model.base_model.register_forward_hook(
        lambda body, given, out: seen.append(
            (out.last_hidden_state.shape[1], out.last_hidden_state.requires_grad)
        )
    )
    return seen


@pytest.mark.parametrize("own, others", [(WITHOUT, WITH), (WITH, WITHOUT)])
def test_a_pass_of_others_comes_first_and_adds_nothing(votes, model, own, others):
    """Also one with a graph, where this process is about to make one without."""
    lockstep, seen, (told, wanted) = Lockstep([model]), passes(model), votes
    told += [[3 * (kind == others) + (kind == own) for kind in (WITHOUT, WITH)]]
    told += [[int(kind == own) for kind in (WITHOUT, WITH)]]
    with torch.set_grad_enabled(own == WITH):
        model.base_model(some_ids(2, 7))
    assert seen == [(1, others == WITH), (7, own == WITH)] and lockstep.for_others == 1
    assert wanted == [[int(kind == own) for kind in (WITHOUT, WITH)]] * 2
    gradients = [weight.grad for weight in model.parameters()]
    if others == WITH:
        assert all(g is not None and not g.any() for g in gradients)
    else:
        assert all(g is None for g in gradients)


def test_a_pass_with_a_graph_is_made_for_others_also_without_adapters(votes, model):
    """They are off in a pass of the reference; the layers below them are gathered in the backward pass all the same."""
    adapted = add_lora(model, r=2, alpha=2, dropout=0.0, seed=0, base="some")
    lockstep, (told, _), back = Lockstep([model]), votes, []
    model.base_model.layers[0].register_full_backward_hook(lambda *call: back.append(call))
    told += [[1, 3], [1, 0]]
    with torch.no_grad(), adapted.disable_adapter():
        model.base_model(some_ids(2, 7))
    assert lockstep.for_others == 1 and len(back) == 1


def test_a_pass_without_a_backward_pass_has_one_before_the_next(votes, model):
    """The others have made theirs together, and wait in it."""
    lockstep, (told, _) = Lockstep([model]), votes
    told += [[0, 1], [0, 0]]
    model.base_model(some_ids(2, 7))
    assert all(weight.grad is None for weight in model.parameters())
    lockstep.drain()
    assert all(weight.grad is not None and not weight.grad.any() for weight in model.parameters())
    assert lockstep.for_others == 0


def test_a_backward_pass_that_was_made_is_not_made_again(votes, model):
    lockstep, (told, _) = Lockstep([model]), votes
    told += [[0, 1], [0, 2], [0, 0]]
    model(some_ids(2, 7)).logits.square().sum().backward()
    before = [weight.grad.clone() for weight in model.parameters()]
    lockstep.drain()  # with a pass for another process
    assert lockstep.for_others == 1
    assert all(torch.equal(a, weight.grad) for a, weight in zip(before, model.parameters(), strict=True))
