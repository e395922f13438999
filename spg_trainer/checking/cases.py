"""Random steps on which an algorithm is tried, with all that the trainer hands to its loss.

Axes: B completions, M masked copies of each, T completion tokens; P prompts, G generations of each.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import get_args

import torch
from torch import Tensor

from spg_trainer.algorithms.base import (
    Algorithm,
    CoupledAlgorithm,
    Loss,
    Metric,
    Per,
    fault_of_name,
    loss_of_values,
    prepare_columns,
    rows_with_bounds,
)
from spg_trainer.likelihood.masking import KeyedStreams
from spg_trainer.seeding import generator, numpy_generator
from spg_trainer.tensors import Masks, Record, Rows

PROMPTS, GENERATIONS = 3, 4
"""The problems of the random step that is checked, and the completions of each problem."""
PROMPT_TOKENS, TOKENS, BLOCK = 5, 8, 4
"""The tokens of a prompt, of a completion (at most) and of a block in this step."""
TEMPERATURES = (0.8, 0.6, 0.4)
"""Those of the steps of each canvas."""


class CheckFailed(Exception):
    """An algorithm did not pass a check; the text says what is wrong and what would be right."""


@dataclass(frozen=True)
class Case:
    """A whole update: the completions that change an algorithm's loss, with all that the trainer hands to the loss."""

    algorithm: Algorithm
    logps: Tensor
    """(B, M, T) float64, zero where not scored. If the masks also measure a figure of each token
    (`likelihood/logps.py`), (B, M, 2T): the figures are the last T columns."""
    masks: Masks
    batch: Rows

    def loss(self, logps: Tensor | None = None, **changes: object) -> Loss:
        """The loss at some logps (B, M, T); None = those of this case. changes: columns of the batch to replace."""
        batch = self.batch.with_columns(**changes)
        logps = self.logps if logps is None else logps
        if not isinstance(self.algorithm, CoupledAlgorithm):
            return checked_loss("loss", loss_of_values(self.algorithm, self.masks, batch, logps))
        episodes = rows_with_bounds(self.algorithm, self.masks, batch, logps).with_columns(
            totals=batch.totals
        )
        return checked_loss("coupled_loss", self.algorithm.coupled_loss(episodes))

    def gradient(self, logps: Tensor | None = None) -> Tensor:
        """(B, M, T) the gradient of the loss in `logps`, of the same shape; None = those of this case."""
        logps = (self.logps if logps is None else logps).clone().requires_grad_()
        loss = self.loss(logps).loss
        if not loss.requires_grad:
            return torch.zeros_like(logps)
        return torch.autograd.grad(loss, logps, allow_unused=True)[0]

    def select(self, chosen: Tensor) -> "Case":
        """The case of some of the completions, whose batch keeps the totals of all. chosen: (B,) bool."""
        return Case(self.algorithm, self.logps[chosen], self.masks.select(chosen), self.batch.select(chosen))


def checked_loss(method: str, loss: object) -> Loss:
    """Returns `loss` as it is; raises CheckFailed if the trainer cannot take it.

    method: the name of the algorithm's method that returned it, for the message.
    """
    if not isinstance(loss, Loss):
        raise CheckFailed(
            f"{method} returned {type(loss).__name__}; it must return Loss(loss, metrics), with a scalar tensor"
        )
    if not isinstance(loss.loss, Tensor) or loss.loss.shape:
        shape = tuple(getattr(loss.loss, "shape", ()))
        described = f"{type(loss.loss).__name__} of the shape {shape}" if shape else f"{loss.loss!r:.80}"
        raise CheckFailed(
            f"{method} returned Loss(loss, metrics) with the loss {described}; it must be a scalar tensor"
        )
    if not torch.isfinite(loss.loss):
        raise CheckFailed(
            f"{method} returned Loss(loss, metrics) with the loss {float(loss.loss)}; it must be finite. Look for a "
            "division by 0 and a logarithm of 0"
        )
    if not isinstance(loss.metrics, Mapping):
        raise CheckFailed(
            f"{method} returned Loss(loss, metrics) with metrics={loss.metrics!r:.80}; it must be a dict"
        )
    for name, metric in loss.metrics.items():
        if fault := fault_of_name(str(name)):
            raise CheckFailed(f"{method} returned {fault}")
        has_scalar_total = (
            isinstance(metric, Metric) and isinstance(metric.total, Tensor) and not metric.total.shape
        )
        if not has_scalar_total or metric.per not in get_args(Per):
            raise CheckFailed(
                f"{method} returned the metric {name!r} as {metric!r:.80}; it must be Metric(total, per), with a "
                f"scalar tensor and one of {', '.join(get_args(Per))}"
            )
    return loss


def draw_rollouts(seed: int = 0) -> Rows:
    """Completions of a sampler that unmasked one position a step, in random order.

    The lengths are random, except those of the first three: the longest, the shortest, and a short one whose first
    steps unmasked the positions after its end. The canvases are those of another sampler, which redraws.
    """
    stream = numpy_generator(seed, "check")
    count = PROMPTS * GENERATIONS
    lengths = torch.from_numpy(stream.integers(1, TOKENS + 1, count))
    lengths[:3] = torch.tensor([TOKENS, 1, 3])
    unmask_step = torch.stack([torch.from_numpy(stream.permutation(TOKENS)) for _ in range(count)])
    unmask_step[2] = torch.arange(TOKENS).flip(0)
    ids = torch.from_numpy(stream.integers(0, 50, (count, PROMPT_TOKENS + TOKENS)))
    logps = -torch.from_numpy(stream.random((count, TOKENS))) - 0.05
    confidence_change = torch.from_numpy(stream.random((count, TOKENS)))
    fallback = torch.from_numpy(stream.random((count, TOKENS)) < 0.7)
    is_accepted = torch.from_numpy(stream.random((count, len(TEMPERATURES), TOKENS)) < 0.5)
    is_accepted[:, :, ::BLOCK] = True  # a step accepts a token of each canvas at least
    bit = 1 << torch.arange(len(TEMPERATURES))
    return Rows(
        prompt_ids=ids[:, :PROMPT_TOKENS],
        prompt_mask=torch.ones(count, PROMPT_TOKENS, dtype=torch.bool),
        completion_ids=ids[:, PROMPT_TOKENS:],
        completion_mask=torch.arange(TOKENS) < lengths[:, None],
        unmask_step=unmask_step,
        unmask_logps=logps,
        order=torch.zeros_like(unmask_step),  # each token is the only one of its step
        confidence_change=confidence_change,
        fallback=fallback,
        canvases=torch.from_numpy(stream.integers(0, 50, (count, len(TEMPERATURES) + 1, TOKENS))).int(),
        accepted=(is_accepted * bit[:, None]).sum(1, keepdim=True).to(torch.uint8),
        temperatures=TEMPERATURES,
    )


def draw_view(
    algorithm: Algorithm,
    rewards: Tensor | None = None,
    seed: int = 0,
    correct: Tensor | None = None,
    turns: int = 1,
) -> Rows:
    """A view: the rows of a step in the middle of a run, with the columns that `algorithm.prepare` may read.

    rewards: (P, G); by default 0 and 1 at random. correct: (P, G) bool; by default true where the reward is 1. turns:
    how many turns each episode has; all turns of an episode are equal.
    """
    stream = numpy_generator(seed, "check rewards")
    if rewards is None:
        rewards = torch.from_numpy(stream.integers(0, 2, (PROMPTS, GENERATIONS)).astype(float))
        rewards[:, 0], rewards[:, 1] = 1.0, 0.0  # every group is mixed
    episode = torch.arange(rewards.numel()).repeat_interleave(turns)
    groups = Rows.full_groups(*rewards.shape, max_turns=turns, rewards=rewards.reshape(-1), share_done=0.5)
    rows = groups.with_columns(**vars(draw_rollouts(seed))).select(episode).with_turns()
    not_recorded = set(get_args(Record)) - algorithm.records
    rows = rows.without(*not_recorded)
    if algorithm.score_tail:
        rows = rows.count_tail(pad_id=0)
    if pilot := algorithm.make_masking().pilot:
        seen = pilot.draw(rows, KeyedStreams(seed, ("check pilot",), rows.noise_keys())).scored
        figures = torch.from_numpy(numpy_generator(seed, "check figures").random(seen.shape))
        rows = rows.with_columns(pilot=figures.masked_fill(~seen, float("-inf")))
    if "correct" in algorithm.needs:
        is_right = rewards == 1 if correct is None else correct
        rows = rows.with_columns(correct=rows.spread(is_right.reshape(-1)))
    return rows


def draw_case(
    algorithm: Algorithm, rewards: Tensor | None = None, seed: int = 0, correct: Tensor | None = None
) -> Case:
    """The update that `case_of` makes of the rows that `draw_view` draws, which takes rewards and correct (P, G)."""
    view = draw_view(algorithm, rewards=rewards, seed=seed, correct=correct)
    return case_of(algorithm, view, seed)


def case_of(algorithm: Algorithm, view: Rows, seed: int = 0) -> Case:
    """An update with the rows of `view` (`draw_view`). Old and reference log-probabilities differ from current ones."""
    batch = view.with_columns(**prepare_columns(algorithm, view))
    streams = KeyedStreams(seed, ("check masks",), batch.noise_keys())
    masks, advantages = algorithm.make_masking().draw(batch, streams), batch.advantages
    if not torch.isfinite(advantages).all():
        raise CheckFailed(
            f"advantages of the rewards {view.rewards.tolist()} are {advantages.tolist()}; they must be finite. Look "
            "for a division by the spread of equal rewards"
        )
    active = algorithm.active(advantages)
    totals = {
        "completions": float(len(batch)),
        "tokens": float(batch.completion_mask.sum()),
        "scored_completions": float(active.sum()),
        "rewarded_completions": float((advantages != 0).sum()),
    }

    def random_values(key: str, highest: float) -> Tensor:
        """Uniform numbers from 0 to `highest` where a value is scored or measured, 0 elsewhere."""
        uniform = torch.rand(masks.valued.shape, generator=generator(seed, key), dtype=torch.float64)
        return highest * uniform * masks.valued

    logps = -random_values("check logps", 2.0) - 0.1 * masks.valued
    batch = batch.with_columns(totals=totals)
    if "old" in algorithm.needs:
        old, measured = masks.split(logps + random_values("check old", min(0.02, algorithm.trust_region)))
        batch = batch.with_columns(old_logps=old)
        if "measured" in algorithm.needs:
            batch = batch.with_columns(old_measured=measured)
    if "reference" in algorithm.needs:
        ref_logps, _ = masks.split(logps + random_values("check ref", 0.1))
        batch = batch.with_columns(ref_logps=ref_logps)
    return Case(algorithm, logps, masks, batch).select(active)
