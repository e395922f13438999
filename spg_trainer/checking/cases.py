"""A random step on which an algorithm is tried, with all that the trainer hands to its loss.

Axes: B completions, M masked copies of each, T completion tokens; P prompts, G generations of each.
"""

import sys
import traceback
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
    Need,
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
PROVIDED: dict[str, Need] = {
    "old_logps": "old",
    "ref_logps": "reference",
    "measured": "measured",
    "old_measured": "measured",
}
"""{column of a batch: the name in `needs` for which the trainer provides it}."""


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
        """The loss at some logps (B, M, T); None = those of this case. changes: columns of the batch to replace.

        Raises CheckFailed if the trainer cannot take what the loss returns, and if the loss raises any error but a
        RuntimeError: that may be about a size or a type of tensors that only this case has.
        """
        batch = self.batch.with_columns(**changes)
        logps = self.logps if logps is None else logps
        try:
            if isinstance(self.algorithm, CoupledAlgorithm):
                episodes = rows_with_bounds(self.algorithm, self.masks, batch, logps)
                loss = self.algorithm.coupled_loss(episodes.with_columns(totals=batch.totals))
            else:
                loss = loss_of_values(self.algorithm, self.masks, batch, logps)
        except RuntimeError:
            raise
        except (Exception, SystemExit) as error:
            raise CheckFailed(f"loss {described(error, self.algorithm)}") from error
        if fault := fault_of_loss(loss):
            raise CheckFailed(f"loss returned {fault}")
        return loss

    def gradient(self, logps: Tensor | None = None, **changes: object) -> Tensor:
        """(B, M, T) the gradient of the loss in `logps`; the arguments are those of `loss`."""
        logps = (self.logps if logps is None else logps).clone().requires_grad_()
        return torch.autograd.grad(self.loss(logps, **changes).loss, logps, materialize_grads=True)[0]

    def select(self, chosen: Tensor) -> "Case":
        """The case of some of the completions, whose batch keeps the totals of all. chosen: (B,) bool."""
        return Case(self.algorithm, self.logps[chosen], self.masks.select(chosen), self.batch.select(chosen))


def described(error: BaseException, algorithm: Algorithm) -> str:
    """What the author of a loss is told of an error that it raised, as the predicate of a sentence."""
    if isinstance(error, AttributeError) and error.name in PROVIDED:
        need = PROVIDED[error.name]
        return (
            f"reads batch.{error.name}, which is not there, since needs does not name {need!r}. "
            f'Write needs: ClassVar[frozenset[str]] = frozenset({{"{need}"}})'
        )
    file = getattr(sys.modules.get(type(algorithm).__module__), "__file__", None)
    frames = traceback.extract_tb(error.__traceback__)
    frame = [*frames[-1:], *(frame for frame in frames if frame.filename == file)][
        -1
    ]  # the author's own, if any
    return f"raised {type(error).__name__}: {error} ({frame.filename}, line {frame.lineno})"


def fault_of_loss(loss: object) -> str:
    """Why the trainer cannot take what a loss returned, as the object of a sentence; "" if it can."""
    if not isinstance(loss, Loss):
        return f"{type(loss).__name__}; it must return Loss(loss, metrics), with a scalar tensor"
    value, metrics = loss.loss, loss.metrics
    if not isinstance(value, Tensor) or value.shape:
        shown = f"Tensor of the shape {tuple(value.shape)}" if isinstance(value, Tensor) else f"{value!r:.80}"
        return f"Loss(loss, metrics) with the loss {shown}; it must be a scalar tensor"
    if not torch.isfinite(value):
        return f"the loss {value.item()}; it must be finite. Look for a division by 0 and a logarithm of 0"
    if not isinstance(metrics, Mapping):
        return f"Loss(loss, metrics) with metrics={metrics!r:.80}; it must be a dict"
    for name, metric in metrics.items():
        if fault := fault_of_name(str(name)):
            return fault
        is_metric = isinstance(metric, Metric) and isinstance(metric.total, Tensor)
        if not is_metric or metric.total.shape or metric.per not in get_args(Per):
            return (
                f"the metric {name!r} as {metric!r:.80}; it must be Metric(total, per), with a scalar tensor and one "
                f"of {', '.join(get_args(Per))}"
            )
    return ""


def draw_rollouts() -> Rows:
    """Completions of a sampler that unmasked one position a step, in random order.

    The lengths are random, except those of the first three: the longest, the shortest, and a short one whose first
    steps unmasked the positions after its end. The canvases are those of another sampler, which redraws.
    """
    stream = numpy_generator(0, "check")
    count = PROMPTS * GENERATIONS
    lengths = torch.from_numpy(stream.integers(1, TOKENS + 1, count))
    lengths[:3] = torch.tensor([TOKENS, 1, 3])
    unmask_step = torch.stack([torch.from_numpy(stream.permutation(TOKENS)) for _ in range(count)])
    unmask_step[2] = torch.arange(TOKENS).flip(0)
    ids = torch.from_numpy(stream.integers(0, 50, (count, PROMPT_TOKENS + TOKENS)))
    accepted = torch.from_numpy(
        stream.integers(0, 0b1000, (count, 1, TOKENS))
    )  # a bit for each of three steps
    accepted[..., ::BLOCK] = 0b111  # a step accepts a token of each canvas at least
    return Rows(
        prompt_ids=ids[:, :PROMPT_TOKENS],
        prompt_mask=torch.ones(count, PROMPT_TOKENS, dtype=torch.bool),
        completion_ids=ids[:, PROMPT_TOKENS:],
        completion_mask=torch.arange(TOKENS) < lengths[:, None],
        unmask_step=unmask_step,
        unmask_logps=-torch.from_numpy(stream.random((count, TOKENS))) - 0.05,
        confidence_change=torch.from_numpy(stream.random((count, TOKENS))),
        fallback=torch.from_numpy(stream.random((count, TOKENS)) < 0.7),
        canvases=torch.from_numpy(stream.integers(0, 50, (count, 4, TOKENS))).int(),
        accepted=accepted.to(torch.uint8),
        temperatures=(0.8, 0.6, 0.4),
    )


def draw_view(algorithm: Algorithm, rewards: Tensor | None = None, turns: int = 1) -> Rows:
    """A view: the rows of a step in the middle of a run, with the columns that `algorithm.prepare` may read.

    rewards: (P, G), of which 1 is that of a right completion; by default 0 and 1 at random. turns: how many turns each
    episode has; all turns of an episode are equal.
    """
    if rewards is None:
        drawn = numpy_generator(0, "check rewards").integers(0, 2, (PROMPTS, GENERATIONS))
        rewards = torch.from_numpy(drawn.astype(float))
        rewards[:, 0], rewards[:, 1] = 1.0, 0.0  # every group is mixed
    episode = torch.arange(rewards.numel()).repeat_interleave(turns)
    groups = Rows.full_groups(*rewards.shape, max_turns=turns, rewards=rewards.reshape(-1), share_done=0.5)
    rows = groups.with_columns(**vars(draw_rollouts())).select(episode).with_turns()
    rows = rows.without(*(set(get_args(Record)) - algorithm.records))
    if algorithm.score_tail:
        rows = rows.count_tail(pad_id=0)
    if pilot := algorithm.make_masking().pilot:
        seen = pilot.draw(rows, KeyedStreams(0, ("check pilot",), rows.noise_keys())).scored
        figures = torch.from_numpy(numpy_generator(0, "check figures").random(seen.shape))
        rows = rows.with_columns(pilot=figures.masked_fill(~seen, float("-inf")))
    if "correct" in algorithm.needs:
        rows = rows.with_columns(correct=rows.spread((rewards == 1).reshape(-1)))
    return rows


def draw_case(algorithm: Algorithm, view: Rows | None = None) -> Case:
    """An update with the rows of a view; by default those of `draw_view`.

    Old and reference log-probabilities differ from current ones. Raises CheckFailed if advantages are not finite.
    """
    view = draw_view(algorithm) if view is None else view
    batch = view.with_columns(**prepare_columns(algorithm, view))
    masks = algorithm.make_masking().draw(batch, KeyedStreams(0, ("check masks",), batch.noise_keys()))
    advantages, active = batch.advantages, algorithm.active(batch.advantages)
    if not torch.isfinite(advantages).all():
        raise CheckFailed(
            f"advantages of the rewards {view.rewards.tolist()} are {advantages.tolist()}; they must be finite. Look "
            "for a division by the spread of equal rewards"
        )
    totals = {
        "completions": float(len(batch)),
        "tokens": float(batch.completion_mask.sum()),
        "scored_completions": float(active.sum()),
        "rewarded_completions": float((advantages != 0).sum()),
    }

    def random_values(key: str, highest: float) -> Tensor:
        """Uniform numbers from 0 to `highest` where a value is scored or measured, 0 elsewhere."""
        uniform = torch.rand(masks.valued.shape, generator=generator(0, key), dtype=torch.float64)
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
