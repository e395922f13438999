"""MAPG: its gradient is that of the expected reward over all paths of a small canvas, and rollouts it cannot score."""

import itertools
from dataclasses import replace

import pytest
import torch

from spg_trainer.algorithms.base import loss_of_values
from spg_trainer.algorithms.mapg import MAPG
from spg_trainer.architecture.pattern import Pattern
from spg_trainer.errors import ConfigError
from spg_trainer.settings.check import check_algorithm
from spg_trainer.tensors import Rows
from tests.common.algorithm_cases import make_batch, view_of
from tests.common.likelihood_cases import seeded
from tests.common.trainer_cases import small_config

END, MASK = 1, 2
"""The words are 0 and the end token."""


class Table:
    """A model without a model: logits of both words at each place, for every canvas."""

    def __init__(self, size: int) -> None:
        stream = torch.Generator().manual_seed(3)
        shape = (*[3] * size, size, 2)
        self.size = size
        self.logits = torch.randn(shape, generator=stream, dtype=torch.float64).requires_grad_()

    def law(self, canvas: tuple[int, ...]) -> torch.Tensor:
        """(T, 2) log-probabilities."""
        return self.logits[canvas].log_softmax(-1)


def paths(table: Table, blocks: list[tuple[int, int]], counts: list[int], tau: float):
    """(log-probability, canvas, step of each place, its order in the step) of every path of a rollout.

    counts: how many tokens the steps of a block unmask. A path ends where an end token has no masked place before it.
    """

    def go(chance, canvas, steps, orders, at, number):
        first = [i for i, token in enumerate(canvas) if token != 0]
        if at == len(blocks) * len(counts) or (first and canvas[first[0]] == END):
            yield chance, canvas, steps, orders
            return
        start, stop = blocks[at // len(counts)]
        masked = [i for i in range(start, stop) if canvas[i] == MASK]
        law = table.law(canvas)
        sure = law.exp().amax(-1) ** (1 / tau)
        count = min(counts[at % len(counts)], len(masked))
        for places in itertools.permutations(masked, count):
            for words in itertools.product((0, END), repeat=count):
                now, canvas_, steps_, orders_, left = (
                    chance,
                    list(canvas),
                    list(steps),
                    list(orders),
                    [*masked],
                )
                for order, (place, word) in enumerate(zip(places, words, strict=True)):
                    now = now + law[place, word] + (sure[place] / sum(sure[j] for j in left)).log()
                    left.remove(place)
                    canvas_[place], steps_[place], orders_[place] = word, number, order
                yield from go(now, tuple(canvas_), steps_, orders_, at + 1, number + 1)

    size = table.size
    yield from go(torch.zeros(()).double(), (MASK,) * size, [-1] * size, [0] * size, 0, 0)


def rollouts_of(canvas: tuple[int, ...], steps: list[int], orders: list[int]) -> Rows:
    ids = torch.tensor([canvas])
    end = canvas.index(END) if END in canvas else len(canvas)
    return Rows(
        prompt_ids=torch.zeros(1, 1, dtype=torch.int64),
        prompt_mask=torch.ones(1, 1, dtype=torch.bool),
        completion_ids=ids,
        completion_mask=torch.arange(len(canvas))[None] <= end,
        unmask_step=torch.tensor([steps]),
        unmask_logps=torch.zeros(1, len(canvas)),
        order=torch.tensor([orders]),
    )


def reward(canvas: tuple[int, ...]) -> float:
    """Of the text up to its end."""
    text = canvas[: canvas.index(END) + 1] if END in canvas else canvas
    return float(torch.tensor([hash(text) % 7 / 3.0]))


@pytest.mark.parametrize(
    ("blocks", "counts"),
    [
        ([(0, 2)], [1, 1]),
        ([(0, 2)], [2]),
        ([(0, 3)], [2, 1]),
        ([(0, 2), (2, 4)], [1, 1]),
    ],
)
def test_the_mean_gradient_over_all_paths_is_that_of_the_expected_reward(blocks, counts):
    """Ends make the tail a part of the path that the reward does not see, and that later tokens do."""
    size, width = blocks[-1][1], blocks[0][1]
    table = Table(size)
    algorithm = MAPG(num_masks=size, segment_draw="all", block_length=width)
    found = {"reward": torch.zeros_like(table.logits), "nothing": torch.zeros_like(table.logits)}
    value, total, behind = torch.zeros(()).double(), 0.0, 0
    for chance, canvas, steps, orders in paths(table, blocks, counts, algorithm.position_temperature):
        rollouts = rollouts_of(canvas, steps, orders)
        masks = algorithm.make_masking().draw(rollouts, seeded())
        values = torch.zeros(masks.valued.shape, dtype=torch.float64)
        for _, m, at in masks.valued.nonzero().tolist():
            seen = tuple(
                MASK if hidden else w for w, hidden in zip(canvas, masks.masked[0, m, 1:], strict=True)
            )
            law = table.law(seen)[at % size]
            values = values.index_put(
                (torch.tensor(0), torch.tensor(m), torch.tensor(at)),
                law[canvas[at]] if at < size else law.max(),
            )
        earned, n = reward(canvas), int(rollouts.completion_mask.sum())
        behind += n < size and min(steps[n:]) < max(steps[:n]) and max(steps[n:]) >= 0
        prepared = algorithm.prepare(view_of(torch.zeros(1, 2).double(), rollouts))
        for name, worth in (("reward", earned), ("nothing", 1.0)):
            batch = make_batch(rollouts.completion_mask, [worth], 1, path_place=prepared["path_place"])
            loss = loss_of_values(algorithm, masks, batch, values).loss
            (gradient,) = torch.autograd.grad(loss, table.logits, retain_graph=True)
            found[name] -= n * float(chance.detach().exp()) * gradient
        value, total = value + earned * chance.exp(), total + float(chance.detach().exp())
    assert total == pytest.approx(1, abs=1e-12)
    assert behind or size == 2, "some paths wrote behind their end before they wrote the end"
    (expected,) = torch.autograd.grad(value, table.logits)
    assert torch.allclose(found["reward"], expected, rtol=1e-10, atol=1e-13)
    assert float(expected.abs().max()) > 1e-2 and found["nothing"].abs().max() < 1e-13


@pytest.mark.parametrize(
    ("rollout", "own", "said"),
    [
        ({}, {}, "remasking=low_confidence: .* Use remasking=plackett_luce"),
        (
            {"position_temperature": 0.3},
            {},
            "position_temperature=0.5. Use algorithm_args={'position_temperature': 0.3}",
        ),
        (
            {"block_length": 10, "diffusion_steps": 5},
            {"block_length": 5},
            "Use algorithm_args={'block_length': 10}",
        ),
    ],
)
def test_a_rollout_that_draws_positions_by_another_law_is_refused(rollout, own, said):
    drawn = {"remasking": "plackett_luce"} if rollout else {}
    config = small_config(None, algorithm="mapg", algorithm_args={}, **drawn, **rollout)
    algorithm = replace(MAPG(block_length=config.rollout.block_length), **own)
    with pytest.raises(ConfigError, match=said):
        check_algorithm(config, algorithm)


def test_settings_that_mean_nothing_are_refused():
    with pytest.raises(
        ConfigError, match=r"algorithm_args=\{'position_temperature': 0\.0\}: should be above 0"
    ):
        MAPG(position_temperature=0.0)
    with pytest.raises(ConfigError, match=r"algorithm_args=\{'beta': 0\.1\}: should be 0"):
        MAPG(beta=0.1)
    with pytest.raises(ConfigError, match=r"first block may be shorter.*d2_stepmerge"):
        MAPG().make_masking().check_pattern(Pattern(4))
    MAPG().make_masking().check_pattern(Pattern(4, "completion"))
