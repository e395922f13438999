"""Passes are planned on the host: an update asks a card nothing, and hides padding only where there is some."""

from dataclasses import replace
from functools import partial

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from spg_trainer.algorithms.base import loss_of_values
from spg_trainer.algorithms.spg import SPG
from spg_trainer.likelihood import accumulate, token_logps
from spg_trainer.models.forward import hidden_states
from spg_trainer.tensors import HOST_COLUMNS, Rows
from tests.common.algorithm_cases import make_batch, prepare
from tests.common.block_cases import PATTERNS, with_pattern
from tests.common.likelihood_cases import make_masking, make_rollouts, policy_of, seeded, tiny_model

MASK = 257


class Calls(TorchDispatchMode):
    """Notes the names of ATen calls, and of those for which a card's host waits."""

    def __init__(self):
        super().__init__()
        self.names, self.waits = set(), []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function._schema.name.split("::")[1]
        self.names.add(name)
        by_bool = name in ("index", "index_put_") and any(
            index is not None and index.dtype == torch.bool for index in args[1]
        )
        if by_bool or name in ("_local_scalar_dense", "nonzero", "equal", "is_nonzero"):
            self.waits.append(name)
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("prompts", [[4, 4], [4, 2]], ids=["no padding", "padding"])
@pytest.mark.parametrize("masks_at_once", [1, 9])
def test_scores_and_their_gradients_are_computed_without_a_wait(prompts, masks_at_once):
    rollouts, model, algorithm = make_rollouts([9, 4] * 2, 9, prompts * 2), tiny_model(), SPG(num_masks=3)
    masks = algorithm.make_masking().draw(rollouts, seeded())
    rewards = torch.tensor([[1.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
    rollouts = prepare(algorithm, rewards, rollouts)
    batch = make_batch(rollouts.completion_mask, place=rollouts, scored=13.0)
    loss_fn = partial(loss_of_values, algorithm, masks, batch)
    with Calls() as calls:
        accumulate(policy_of(model, MASK), rollouts, masks, loss_fn, masks_at_once=masks_at_once)
    assert not calls.waits and "embedding" in calls.names


def is_copy(masks, prompt_mask) -> bool:
    """Whether the host's copies are those of the columns."""
    columns = {name: getattr(masks, name) for name in HOST_COLUMNS} | {"prompt_mask": prompt_mask}
    there = {name: column.tolist() for name, column in columns.items() if column is not None}
    return there == {name: array.tolist() for name, array in masks.host.items()}


def test_the_host_s_copy_goes_with_the_masks():
    rollouts = make_rollouts([9, 4, 3], 9, [6, 2, 3])
    masks = make_masking("random", 3, 0.2).draw(rollouts, seeded())
    assert is_copy(masks, rollouts.prompt_mask)
    rows = rollouts.with_columns(masks=masks)
    for index in (torch.tensor([2, 1]), torch.tensor([False, True, True])):
        some = rows.select(index).trim()
        assert some.prompt_mask.shape[1] == 3 and is_copy(some.masks, some.prompt_mask)
    joined = Rows.join([rows, rows])
    assert is_copy(joined.masks, joined.prompt_mask)


def test_a_column_that_is_replaced_is_read_again():
    rollouts = make_rollouts([9, 4], 9, [4, 4])
    masks = make_masking("random", 3, 0.2).draw(rollouts, seeded())
    nothing = torch.zeros_like(masks.scored)
    for changed in (masks.with_columns(scored=nothing), replace(masks, scored=nothing)):
        assert not changed.on_host(rollouts.prompt_mask)["scored"].any()
    measured = masks.with_columns(measured=masks.scored).on_host(rollouts.prompt_mask)["measured"]
    assert measured.any() and measured.tolist() == masks.scored.tolist()
    assert "measured" not in masks.with_columns(measured=None).on_host(rollouts.prompt_mask)


@pytest.mark.parametrize("name", [None, *PATTERNS])
@pytest.mark.parametrize("prompts", [[4, 4], [4, 2]], ids=["no padding", "padding"])
def test_padding_alone_is_hidden_and_states_are_those_of_a_mask_of_columns(monkeypatch, name, prompts):
    model = tiny_model() if name is None else with_pattern(tiny_model(), *PATTERNS[name])
    rollouts, seen = make_rollouts([9, 9], 9, prompts), []
    masks = make_masking("random", 2, 0.0).draw(rollouts, seeded())

    def with_columns(model, ids, attention_mask=None, *, positions=None, **arguments):
        seen.append(attention_mask)
        width = rollouts.prompt_mask.shape[1]
        columns = torch.ones_like(ids, dtype=torch.bool)
        if attention_mask is not None:
            columns = attention_mask.flatten(1)
        assert columns[:, :width].sum() == rollouts.prompt_mask.sum()
        return hidden_states(model, ids, columns, **arguments)

    found = token_logps(policy_of(model, MASK), rollouts, masks)
    monkeypatch.setattr("spg_trainer.models.forward.hidden_states", with_columns)
    expected = token_logps(policy_of(model, MASK), rollouts, masks)
    assert torch.equal(found, expected) and found.any()
    assert seen and all((mask is None) == (prompts == [4, 4]) for mask in seen)


@pytest.mark.gpu
def test_the_flash_kernel_computes_a_pass_without_padding():
    model = tiny_model(torch.bfloat16).cuda()
    rollouts = make_rollouts([9, 4], 9, [4, 4]).to("cuda")
    masks = make_masking("random", 2, 0.0).draw(rollouts, seeded())
    with Calls() as calls:
        token_logps(policy_of(model, MASK), rollouts, masks)
    attention = {name for name in calls.names if name.startswith("_scaled_dot_product")}
    assert attention == {"_scaled_dot_product_flash_attention"}
