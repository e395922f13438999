"""What a masking is: it says which tokens of a completion the model is shown as [MASK], and which of them are scored.

Axes: B completions, M masks, L prompt tokens, T completion tokens; n is the number of tokens of a completion, up to and
including its first end token. All randomness comes from the streams that the caller hands in, so a draw depends neither
on the padded width of the prompt nor on the other rows.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, NamedTuple

import numpy as np
import torch

from spg_trainer.errors import ConfigError
from spg_trainer.likelihood.streams import RowStreams, Streams
from spg_trainer.tensors import GIVEN, Masks, Rollouts, Where

if TYPE_CHECKING:
    from spg_trainer.architecture.pattern import Pattern


class Completion(NamedTuple):
    """One completion as a masking sees it: its tokens, when the sampler wrote them, and where randomness comes from.

    Its first n entries are the tokens that may be scored. Without a template they are simply the first n places of the
    canvas, and `place` counts 0..T-1. With one, they are what was written up to the end of each hole, in order; behind
    them come what stands behind these ends, and last what was given, which is shown whatever a masking says. E.g. where
    the text "7" is given at place 1 of T = 4, and the hole behind it ends at place 2: `place` is [0, 2, 3, 1], n = 2.
    """

    length: int
    """n, its tokens."""
    size: int
    """T, all its places."""
    prompt_length: int
    """Tokens of its prompt, without padding."""
    place: np.ndarray
    """(T,) where each entry stands on the canvas."""
    unmask_step: np.ndarray
    """(T,) the denoising step that wrote it, below 0 = none."""
    surprise: np.ndarray
    """(T,) minus the log-probability of each token when it was unmasked, nats."""
    streams: RowStreams
    progress: float
    """The share of the step's iterations that is done, from 0 in the first to 1 in the last."""
    quantile: float
    """The row's number over that of all rows, from 0 to below 1."""
    iteration: int = 0
    """Of the rollout's updates, from 0."""
    entropy: np.ndarray | None = None
    """(T,) that of the law that each token was drawn from, nats, if known."""
    branched: bool = False
    """Whether its first half was written for another completion of the same node of a tree, and only taken over."""
    fill_step: int = -1
    """The denoising step before which one pass filled all masks; -1 = the sampler wrote all of it."""

    def blocks(self, block_length: int, before: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """First entry and end of each block of the canvas that holds any of the n tokens, (blocks,) each.

        before: how many tokens of the prompt the first block begins with. E.g. blocks of 4 behind 1 such token, n = 9:
        starts 0, 3, 7 and ends 3, 7, 9.
        """
        number = (self.place[: self.length] + before) // block_length
        starts = np.flatnonzero(np.diff(number, prepend=-1))
        return starts, np.append(starts[1:], self.length)


class Copies(NamedTuple):
    """All M masked copies of one completion, over the T entries of `Completion`."""

    masked: np.ndarray
    """(M, T) bool, shown as [MASK]."""
    scored: np.ndarray
    """(M, T) bool."""
    weight: np.ndarray | float
    """What a scored token weighs; anything that broadcasts to (M, T)."""
    part: slice = slice(None)
    """Which of the n tokens the masks are about."""
    scale: float = 1.0
    """1 / probability of that part."""
    measured: np.ndarray | None = None
    """(M, T) bool, as in `Masks`."""
    ref_masked: np.ndarray | None = None
    """(M, T) bool, as in `Masks`."""


@dataclass(frozen=True)
class Masking(ABC):
    """How completions are masked for scoring; its fields are set by the algorithm's fields of the same names.

    num_masks: M, >= 1. p_mask_prompt: the chance that a real prompt token is masked, 0 up to but not 1.
    """

    num_masks: int = 2
    p_mask_prompt: float = 0.0

    varies_context: ClassVar[bool] = True
    """Whether different masks show the same token in different contexts."""
    is_likelihood: ClassVar[bool] = True
    """Whether the mean of the ELBO over all masks is a log-likelihood or a bound on one. If a masking says False, the
    algorithms that compare the likelihoods of completions refuse it."""
    measure: ClassVar[str] = ""
    """The figure of `MEASURES` that `Copies.measured` asks for, "" = none."""
    hints: ClassVar[bool] = False
    """Whether the reference is shown more than the model: `Copies.ref_masked`."""

    @property
    def has_eubo(self) -> bool:
        """Whether an upper bound can be formed: it compares at least two contexts of one token."""
        return self.varies_context and self.num_masks > 1

    def check(self, size: int) -> None:
        """Raises ConfigError if completions of `size` tokens cannot be masked this way; by default all can."""
        return

    def check_pattern(self, pattern: "Pattern") -> None:
        """Raises ConfigError for a model whose attention this masking does not suit; by default it suits any."""
        return

    def count(self, size: int) -> int:
        """M for completions of `size` tokens."""
        return self.num_masks

    @abstractmethod
    def copies(self, row: Completion) -> Copies:
        """All masked copies of a completion, `count(T)` of them."""

    def draw(self, rollouts: Rollouts, streams: Streams, where: Where | None = None) -> Masks:
        """Masks M copies of every completion; the masks lie on the device of the rollouts.

        where: by default these rows are a whole step of one iteration. Raises ConfigError if a position would be scored
        that was never unmasked: training on it would raise the probability of [MASK] itself.
        """
        prompt_mask, unmask_step = (x.cpu().numpy() for x in (rollouts.prompt_mask, rollouts.unmask_step))
        (rows, width), size = prompt_mask.shape, unmask_step.shape[1]
        self.check(size)
        num_masks = self.count(size)
        masked = np.zeros((rows, num_masks, width + size), dtype=bool)
        scored = np.zeros((rows, num_masks, size), dtype=bool)
        weight = np.zeros((rows, num_masks, size))
        scale, part = np.ones(rows), np.zeros((rows, size), dtype=bool)
        measured = np.zeros_like(scored) if self.measure else None
        ref_masked = np.zeros_like(masked) if self.hints else None
        where = where or Where(0, 1, [row / rows for row in range(rows)])
        for row, completion in enumerate(completions_of(rollouts, streams, where)):
            place, was_sampled = completion.place, completion.fill_step < 0
            copies = self.copies(completion) if was_sampled else copies_of_fill(completion, num_masks)
            masked[row][:, width + place], scored[row][:, place] = copies.masked, copies.scored
            weight[row][:, place] = np.where(copies.scored, copies.weight, 0.0)
            scale[row] = copies.scale
            part[row, place[: completion.length][copies.part]] = True
            if self.p_mask_prompt > 0:
                real = np.flatnonzero(prompt_mask[row])
                for mask in range(num_masks):
                    noise = completion.streams.of_mask(mask).random(len(real))
                    masked[row, mask, real] = noise < self.p_mask_prompt
            if measured is not None:
                measured[row][:, place] = copies.measured
            if ref_masked is not None:
                ref_masked[row][:, :width] = masked[row][:, :width]
                ref_masked[row][:, width + place] = copies.ref_masked
        for shown_as_mask in (masked, ref_masked):
            if shown_as_mask is not None:
                shown_as_mask[:, :, width:] &= (unmask_step != GIVEN)[:, None]
        if (scored & (unmask_step < 0)[:, None]).any():
            raise ConfigError(
                f"{type(self).__name__} scores positions that were never unmasked, which would train the probability "
                "of [MASK]. Score up to the first end token (completion_mask), or set score_tail=true."
            )
        arrays = {"masked": masked, "scored": scored, "weight": weight, "scale": scale, "part": part}
        arrays |= {"measured": measured, "ref_masked": ref_masked}
        device = rollouts.completion_ids.device
        tensors = {name: torch.from_numpy(a).to(device) for name, a in arrays.items() if a is not None}
        return Masks(measure=self.measure, **tensors)


def completions_of(rollouts: Rollouts, streams: Streams, where: Where) -> Iterator[Completion]:
    """The rows of rollouts as maskings see them."""
    unmask_step, is_token = (x.cpu().numpy() for x in (rollouts.unmask_step, rollouts.completion_mask))
    lengths, prompt_lengths = is_token.sum(-1).tolist(), rollouts.prompt_mask.sum(-1).tolist()
    # First the n tokens, then what is behind the ends, then what was given; without a template nothing moves.
    places = np.argsort(np.where(unmask_step == GIVEN, 2, ~is_token), axis=-1, kind="stable")
    surprise, entropy = -rollouts.unmask_logps.double().cpu().numpy(), None
    if rollouts.unmask_entropy is not None:
        entropy = rollouts.unmask_entropy.double().cpu().numpy()
    fill_steps = None if rollouts.fill_step is None else rollouts.fill_step.tolist()
    branched = None if rollouts.branched is None else rollouts.branched.tolist()
    for row, place in enumerate(places):
        yield Completion(
            length=lengths[row],
            size=unmask_step.shape[1],
            prompt_length=prompt_lengths[row],
            place=place,
            unmask_step=unmask_step[row][place],
            surprise=surprise[row][place],
            streams=RowStreams(streams, row),
            progress=where.iteration / max(1, where.num_iterations - 1),
            quantile=where.quantile[row],
            iteration=where.iteration,
            entropy=None if entropy is None else entropy[row][place],
            branched=branched is not None and branched[row],
            fill_step=-1 if fill_steps is None else fill_steps[row],
        )


def copies_of_fill(row: Completion, num_masks: int) -> Copies:
    """The first copy shows the state that one pass filled, and scores what it wrote; the others score nothing."""
    unwritten = (row.unmask_step < 0) | (row.unmask_step >= row.fill_step)
    masked = np.broadcast_to(unwritten, (num_masks, row.size))
    scored = masked & (np.arange(row.size) < row.length)
    scored[1:] = False
    return Copies(masked, scored, 1.0)


def copies_of_scored(row: Completion, scored: np.ndarray, weight: np.ndarray | float) -> Copies:
    """Copies in which the scored tokens, (M, n) bool, and all that stands behind the end are masked, and nothing else.

    weight: broadcasts to (M, n).
    """
    tail = ((0, 0), (0, row.size - row.length))
    masked, weight = np.pad(scored, tail, constant_values=True), np.broadcast_to(weight, scored.shape)
    return Copies(masked, np.pad(scored, tail), np.pad(weight, tail))


def count_scored(scored: np.ndarray) -> np.ndarray:
    """(M, 1) how many tokens each copy scores, but at least 1, so that it can be divided by."""
    return scored.sum(-1, keepdims=True).clip(min=1)


def random_subset(stream: np.random.Generator, size: int, count: int | None = None) -> np.ndarray:
    """(size,) bool, true at `count` places that are drawn uniformly; None = the count is drawn, too, from 1..size."""
    count = stream.integers(1, size + 1) if count is None else count
    chosen = np.zeros(size, dtype=bool)
    chosen[stream.permutation(size)[:count]] = True
    return chosen
