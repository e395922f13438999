"""The table of rows: every kind of column is selected, moved and joined; what is not there, or taken, is told."""

import numpy as np
import pytest
import torch

from spg_trainer.algorithms.base import prepare_columns
from spg_trainer.algorithms.spg import SPG
from spg_trainer.checking.cases import draw_view
from spg_trainer.errors import ConfigError
from spg_trainer.likelihood import Masks
from spg_trainer.tensors import Rows


def table(prompt_tokens: int = 3) -> Rows:
    """Four rows in two groups, with a column of each kind."""
    scored = torch.arange(8).view(4, 1, 2) % 3 > 0
    return Rows.full_groups(2, 2).with_columns(
        prompt_ids=torch.arange(4 * prompt_tokens).view(4, -1),
        prompt_mask=torch.ones(4, prompt_tokens, dtype=torch.bool),
        completion_mask=torch.tensor([[True, False], [True, True]] * 2),
        completions=["a", "b", "c", "d"],
        rewards=np.array([0.0, 1.0, 2.0, 3.0]),
        components={"right": np.array([4.0, 5.0, 6.0, 7.0])},
        masks=Masks(scored, scored, scored.double(), torch.arange(4.0), scored[:, 0], measure="confidence"),
        batches=2,
    )


@pytest.mark.parametrize("index", [torch.tensor([3, 1]), torch.tensor([True, False, False, True])])
def test_every_kind_of_column_is_selected_and_facts_stay(index):
    rows = table().select(index)
    numbers = index.tolist() if index.dtype == torch.int64 else [0, 3]
    assert rows.episode.tolist() == numbers and rows.completions == ["abcd"[i] for i in numbers]
    assert rows.rewards.tolist() == numbers and rows.components["right"].tolist() == [4 + i for i in numbers]
    assert rows.masks.scale.tolist() == numbers and rows.masks.measure == "confidence"
    assert rows.batches == 2 and rows.chosen is None and len(rows) == 2


@pytest.mark.parametrize("index, is_view", [([1, 2], True), ([2], True), ([1, 3], False), ([2, 1], False)])
def test_neighbours_in_order_are_a_view(index, is_view):
    rows = table()
    some = rows.select(torch.tensor(index))
    assert some.episode.tolist() == index and some.rewards.tolist() == index
    assert (some.episode.untyped_storage().data_ptr() == rows.episode.untyped_storage().data_ptr()) == is_view
    assert not len(rows.select(torch.tensor([], dtype=torch.int64)))


def test_parts_are_joined_with_prompts_as_long_as_the_longest():
    rows = Rows.join([table(), table(prompt_tokens=5)])
    assert (
        rows.prompt_ids.shape == (8, 5) and not rows.prompt_mask[:4, :2].any() and rows.prompt_mask[4:].all()
    )
    assert rows.completions == [*"abcdabcd"] and rows.components["right"].tolist() == [4, 5, 6, 7] * 2
    assert rows.masks.scale.tolist() == [0, 1, 2, 3] * 2 and rows.batches == 2


def test_a_model_and_a_loss_get_tensors_and_facts_alone():
    rows = table().tensors()
    assert not {"completions", "rewards", "components"} & vars(rows).keys()
    assert rows.episode.tolist() == [0, 1, 2, 3] and rows.batches == 2


def test_what_is_not_there_is_told_with_what_is():
    assert "old_logps" not in table() and table().get("old_logps") is None
    with pytest.raises(
        AttributeError, match=r"these rows have no 'old_logps'\. They have: problem, .*rewards"
    ):
        table().old_logps  # noqa: B018
    lacking = table().without("rewards", "old_logps")
    assert "rewards" not in lacking and "rewards" in table()


def test_groups_are_cut_by_the_last_turn_of_each_episode():
    episode = torch.tensor([0, 0, 1, 2, 3, 3, 3])
    rows = Rows.full_groups(2, 2, max_turns=3).select(episode).with_turns()
    assert rows.turn.tolist() == [0, 1, 0, 0, 0, 1, 2]
    for values in (torch.arange(7), np.arange(7)):
        assert rows.cut_into_groups(values).tolist() == [[1, 2], [3, 6]]


@pytest.mark.parametrize(
    "name",
    [
        "turn",
        "old_logps",
        "select",
        "length",
        "coefficients",
        "totals_of_minibatches",
        "counts_of_minibatches",
    ],
)
def test_a_name_that_rows_have_cannot_be_prepared(name, monkeypatch):
    algorithm, prepare = SPG(), SPG.prepare
    monkeypatch.setattr(SPG, "prepare", lambda self, rows: {**prepare(self, rows), name: rows.turn})
    with pytest.raises(ConfigError, match=f"SPG.prepare returned '{name}', which rows have already"):
        prepare_columns(algorithm, draw_view(algorithm))


def test_numbers_and_columns_of_other_names_are_prepared(monkeypatch):
    algorithm, prepare = SPG(), SPG.prepare
    monkeypatch.setattr(
        SPG, "prepare", lambda self, rows: {**prepare(self, rows), "mine": rows.turn, "one": 1.5}
    )
    assert prepare_columns(algorithm, draw_view(algorithm)).keys() == {"advantages", "mine", "one"}


def test_a_tensor_without_axes_is_a_number_of_the_step_but_not_what_completions_are_worth(monkeypatch):
    algorithm, prepare = SPG(), SPG.prepare
    monkeypatch.setattr(SPG, "prepare", lambda self, rows: {**prepare(self, rows), "mean": torch.tensor(2.5)})
    mean = prepare_columns(algorithm, draw_view(algorithm))["mean"]
    assert mean == 2.5 and type(mean) is float
    monkeypatch.setattr(SPG, "prepare", lambda self, rows: {"advantages": torch.tensor(1.0)})
    with pytest.raises(
        ConfigError, match=r"one number as 'advantages' for \d+ completions. Return a row for each"
    ):
        prepare_columns(algorithm, draw_view(algorithm))
