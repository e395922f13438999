"""Maskings along the sampler's path: a copy shows a state that the sampler saw, and scores what it wrote next.

Axes: M masks (copies); T places of a completion, of which the first n are its tokens; S segments of the path.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from spg_trainer.architecture.pattern import Pattern
from spg_trainer.errors import ConfigError
from spg_trainer.likelihood.masking import Completion, Copies, Masking
from spg_trainer.tensors import NEVER, Record, Rows


@dataclass(frozen=True)
class StepMergeMasking(Masking):
    """Replays the sampler's steps in segments: a copy shows the state before a segment, and scores its tokens.

    Segments are `steps_per_segment` denoising steps each, up to the last step that unmasked a scored token; segments
    that unmasked no scored token are left out. segment_draw says which segments are shown, one in each copy:

    all       all segments; if they are more than num_masks, the path is cut into num_masks longer, nearly equal ones
    uniform   num_masks segments, drawn uniformly, and all different if there are as many
    entropy   num_masks segments, drawn in proportion to the sum of their tokens' surprise, by evenly spread quantiles
    fallback  the segments that `--unmasking threshold` wrote because it was sure of no token; if they are more than
              num_masks, num_masks random ones

    The surprise of a token is its negative log-probability when it was unmasked. A segment weighs 1 over the
    probability that a random copy shows it. With `fallback`, the segments not named here are never shown. Positions
    after the first end token are shown as the sampler saw them, too, and never scored. Mean over all masks: the
    log-probability of writing the tokens of each segment at once; with segments of one step, the log-probability of the
    sampler's path.
    """

    steps_per_segment: int = 1
    segment_draw: str = "all"

    varies_context: ClassVar[bool] = False
    follows_path: ClassVar[bool] = True

    @property
    def target(self) -> str:  # type: ignore[override]
        return "own" if self.segment_draw == "fallback" else "path"

    @property
    def records(self) -> frozenset[Record]:  # type: ignore[override]
        return frozenset({"fallback"} if self.segment_draw == "fallback" else ())

    def count(self, size: int) -> int:
        # These two show no segment twice, and there are at most as many segments as places.
        return min(self.num_masks, size) if self.segment_draw in ("all", "fallback") else self.num_masks

    def sequences(self, size: int, pattern: Pattern) -> int:
        return sequences_of_path(self.count(size), pattern)

    def copies(self, row: Completion) -> Copies:
        starts, stops, segment_of_token = self.segments(row.unmask_step[: row.length])
        if not len(starts):
            raise ConfigError("this masking needs the sampler's steps (unmask_step); use masking=random")
        chosen, weights = self._choose(row, len(starts), segment_of_token)
        # (M, 1) each: the first step of each copy's segment, the step after its last, and its weight. A copy for which
        # no segment is left begins and ends at step 0, and scores nothing.
        start, stop, weight = np.zeros((3, self.count(row.size), 1))
        start[: len(chosen), 0] = starts[chosen]
        stop[: len(chosen), 0] = stops[chosen]
        weight[: len(chosen), 0] = weights[chosen]
        step, is_token = row.unmask_step, np.arange(row.size) < row.length
        return Copies(
            masked=(step < 0) | (step >= start),
            scored=(step >= start) & (step < stop) & is_token,
            weight=weight,
        )

    def _choose(
        self, row: Completion, num_segments: int, segment_of_token: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """(chosen, weights): the numbers of the segments to show, one for each of the first copies; and what each of
        all S segments weighs, (S,).

        segment_of_token: as `segments` returns it.
        """
        num_copies, unmasked = self.count(row.size), row.unmask_step[: row.length] >= 0
        if self.segment_draw == "uniform":
            order = row.streams.of_row().permutation(num_segments)
            # If there are fewer segments than copies, they are taken again in the same order.
            return np.resize(order, num_copies), np.full(num_segments, num_segments)
        if self.segment_draw == "entropy":
            # A segment's probability is its share of the surprise. Copy i takes the segment at quantile (i + u) / M.
            surprise = np.bincount(segment_of_token, row.surprise[: row.length][unmasked]) + 1e-8
            weights = surprise.sum() / surprise
            quantiles = (np.arange(num_copies) + row.streams.of_row().random(1)) / num_copies
            chosen = np.searchsorted((1 / weights).cumsum(), quantiles, side="right")
            return chosen.clip(max=num_segments - 1), weights
        if self.segment_draw == "fallback":
            fell_back = row.recorded["fallback"][: row.length][unmasked]
            fallbacks = np.flatnonzero(np.bincount(segment_of_token, fell_back))
            chosen = fallbacks
            if len(fallbacks) > num_copies:
                chosen = np.sort(row.streams.of_row().permutation(fallbacks)[:num_copies])
            # A bound is the mean over copies, and the chosen segments stand for all fallbacks.
            return chosen, np.full(num_segments, num_copies * len(fallbacks) / max(1, len(chosen)))
        # With `all` every segment has a copy of its own. A bound is the mean over copies, so each weighs `num_copies`.
        return np.arange(num_segments), np.full(num_segments, num_copies)

    def num_segments(self, rows: Rows) -> int:
        """How many segments all rows have together."""
        steps = rows.unmask_step.where(rows.completion_mask, -1).cpu().numpy()
        return sum(len(self.segments(steps_of_row)[0]) for steps_of_row in steps)

    def segments(self, steps: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(starts, stops, segment_of_token): the first step of each segment, (S,); the step after its last one, (S,);
        and the number of the segment that unmasked each token.

        A token that was never unmasked has no entry in segment_of_token. steps: (n,), the step that unmasked each
        token, -1 = none did. E.g. steps [0, 3, 1, -1] in segments of 2 steps: starts 0 and 2, stops 2 and 4, and the
        first three tokens are of segments 0, 1 and 0.
        """
        steps = steps[steps >= 0]
        total = int(steps.max(initial=-1)) + 1
        # The first step of each segment, and the end of the last one.
        edges = np.arange(0, total + self.steps_per_segment, self.steps_per_segment)
        if self.segment_draw == "all" and len(edges) > self.num_masks + 1:
            edges = np.arange(self.num_masks + 1) * total // self.num_masks
        # The number of the interval between edges in which each token was unmasked.
        interval = np.searchsorted(edges, steps, side="right") - 1
        used, segment_of_token = np.unique(interval, return_inverse=True)
        return edges[used], edges[used + 1], segment_of_token


class AutoregressiveMasking(Masking):
    """Each copy masks everything from one token on, and scores that token (JustGRPO).

    With num_masks >= n there is a copy for every token: the exact log-likelihood of decoding left to right, one token
    at a time. With fewer masks, num_masks tokens are drawn without replacement, and each weighs n/num_masks: the same
    on average. Copies that score nothing cost nothing.
    """

    target: ClassVar[str] = "left_to_right"
    varies_context: ClassVar[bool] = False
    follows_path: ClassVar[bool] = True

    def count(self, size: int) -> int:
        return min(self.num_masks, size)

    def sequences(self, size: int, pattern: Pattern) -> int:
        return sequences_of_path(self.count(size), pattern)

    def copies(self, row: Completion) -> Copies:
        num_copies = self.count(row.size)
        tokens = np.arange(row.length)
        if row.length > self.num_masks:
            tokens = np.sort(row.streams.of_row().permutation(row.length)[: self.num_masks])
        # The token of each copy, (M, 1); a copy for which no token is left has the place T, after the last.
        token = np.full((num_copies, 1), row.size)
        token[: len(tokens), 0] = tokens
        place = np.arange(row.size)
        weight = num_copies * row.length / len(tokens)
        return Copies(masked=place >= token, scored=place == token, weight=weight)


@dataclass(frozen=True)
class BlockStepsMasking(StepMergeMasking):
    """Shows the state before one step of each block, drawn among those that wrote there, and scores what it wrote.

    There is a copy for each block, whatever num_masks says; a block's step weighs the number of its steps. Under
    block-causal attention all copies of a completion are one sequence (block replay). A completion that is given has
    no steps: then each block is written in a random order, one token a step, after the earlier blocks. Mean over all
    masks: the log-probability of the sampler's path, or of a given completion the block ELBO. block_length: tokens.

    Source: dTRPO (arXiv 2603.18806), whose code could not be read.
    """

    segment_draw: str = "uniform"
    block_length: int = 32

    def count(self, size: int) -> int:
        return math.ceil(size / self.block_length)

    def copies(self, row: Completion) -> Copies:
        stream, step = row.streams.of_row(), row.unmask_step.copy()
        starts, stops = row.blocks(self.block_length)
        if (step[: row.length] == 0).all():  # given, or written in a single step
            step[row.length :] = NEVER
            for start, stop in zip(starts, stops, strict=True):
                step[start:stop] = start + stream.permutation(stop - start)
        place, num_copies = np.arange(row.size), self.count(row.size)
        masked = np.ones((num_copies, row.size), bool)
        scored, weight = np.zeros_like(masked), np.zeros((num_copies, 1))
        for copy, (start, stop) in enumerate(zip(starts, stops, strict=True)):
            steps = np.unique(step[start:stop])
            drawn = steps[stream.integers(len(steps))]
            masked[copy] = (step < 0) | (step >= drawn)
            scored[copy] = (step == drawn) & (place >= start) & (place < stop)
            weight[copy] = num_copies * len(steps)
        return Copies(masked, scored, weight)


@dataclass(frozen=True)
class TraceMasking(Masking):
    """Replays the steps of a sampler that redraws (`--unmasking entropy_bound`), for models that hide a token by a
    random one: a copy shows a canvas as a step saw it, and scores the tokens that the step accepted.

    They are scored at the temperature at which they were drawn. num_masks steps of all canvases are drawn, uniformly
    and all different, among those that accepted anything, which are all; if they are not more, each is shown. Mean over
    all masks: the log-probability of all accepted tokens, each given the canvas that its step saw. This is exact for
    what was drawn. Tokens that are redrawn do not depend on the model, and which are accepted follows from the same
    prediction. The text itself is the most probable token of each place in the last step, which nobody draws, so this
    is the probability of how it came about, and no bound on that of the text. block_length: tokens of a canvas.
    """

    steps_per_segment: int = 1
    block_length: int = 32

    varies_context: ClassVar[bool] = False
    is_likelihood: ClassVar[bool] = False
    noise: ClassVar[Literal["mask", "uniform"]] = "uniform"
    records: ClassVar[frozenset[Record]] = frozenset({"canvases", "accepted"})
    figures: ClassVar[Mapping[str, str]] = {"logps": "trace/logps"}
    meaning: ClassVar[str] = (
        "trace: the log-probability of what the steps of the rollout drew, exactly; the text is not drawn, but the "
        "most probable tokens of the last step"
    )

    def __post_init__(self) -> None:
        if self.steps_per_segment != 1:
            raise ConfigError(
                f"$algorithm_args steps_per_segment={self.steps_per_segment}: masking=trace scores what one step "
                "accepted, and the next step sees another canvas; set steps_per_segment=1"
            )
        if self.score_temperature != 1:
            raise ConfigError(
                f"$algorithm_args score_temperature={self.score_temperature:g}: masking=trace takes each step's own "
                "temperature; leave it out"
            )

    def copies(self, row: Completion) -> Copies:
        steps, canvases = self.steps(row.recorded["accepted"], len(row.recorded["canvases"]) - 1)
        num_copies = min(self.num_masks, len(steps))
        chosen = np.sort(row.streams.of_row().permutation(len(steps))[:num_copies])
        # A copy for which no step is left shows the first one, and scores nothing.
        of_copy = np.zeros(self.num_masks, np.int64)
        of_copy[:num_copies] = steps[chosen]
        in_canvas = np.zeros((self.num_masks, row.size), bool)
        in_canvas[:num_copies] = row.place // self.block_length == canvases[chosen, None]
        bits = row.recorded["accepted"][of_copy // 8] >> (of_copy % 8).astype(np.uint8)[:, None]
        return Copies(
            masked=in_canvas,
            scored=in_canvas & (bits & 1 == 1),
            weight=self.num_masks * len(steps) / max(1, num_copies),
            shown=row.recorded["canvases"][of_copy],
            targets=row.recorded["canvases"][of_copy + 1],
            temperatures=np.array(row.temperatures)[of_copy],
        )

    def steps(self, accepted: np.ndarray, steps: int) -> tuple[np.ndarray, np.ndarray]:
        """(step, canvas) of all steps that were made, (n,) each. accepted: (steps / 8, T) uint8."""
        bits = np.unpackbits(accepted, axis=0, count=steps, bitorder="little")
        step, canvas = bits.reshape(steps, -1, self.block_length).any(-1).nonzero()
        return step, canvas

    def num_segments(self, rows: Rows) -> int:
        """How many steps the copies of all rows show."""
        accepted, steps = rows.accepted.cpu().numpy(), rows.canvases.shape[1] - 1
        return sum(min(self.num_masks, len(self.steps(of_row, steps)[0])) for of_row in accepted)


@dataclass(frozen=True)
class PositionMasking(StepMergeMasking):
    """Segments of the sampler's path, in which the raw logits are measured by which later places compete (MAPG).

    num_masks segments are drawn anew for each update, uniformly and all different, among those that wrote a token up
    to the end of the completion; if there are fewer, all are shown once. Raw logits are measured at the scored tokens
    and at all places that were written later, or never. Segments begin with the path's second step: the published code
    takes what the first step wrote as given, so no copy masks it.
    """

    steps_per_segment: int = 4
    segment_draw: str = "uniform"

    target: ClassVar[str] = "own"
    measure: ClassVar[str] = "raw_logit"

    def check_pattern(self, pattern: Pattern) -> None:
        """Raises ConfigError for block-causal attention, in which no later block is seen as it was masked."""
        if not pattern.is_full:
            raise ConfigError(
                "the choice of positions competes with those of later blocks. This model attends in blocks, and has "
                "computed no later one when it writes in a block. Use $algorithm=d2_stepmerge."
            )

    def copies(self, row: Completion) -> Copies:
        starts, stops, _ = self.segments(row.unmask_step[: row.length] - 1)
        # (M, 1) each; a copy for which no segment is left begins behind all steps, and scores nothing.
        start, stop = np.full((2, self.num_masks, 1), row.unmask_step.max() + 1)
        chosen = np.sort(row.streams.of_row().permutation(len(starts))[: self.num_masks])
        start[: len(chosen), 0], stop[: len(chosen), 0] = starts[chosen] + 1, stops[chosen] + 1
        step, is_token = row.unmask_step, np.arange(row.size) < row.length
        masked = (step < 0) | (step >= start)
        scored = (step >= start) & (step < stop) & is_token
        # A place that was written after the last token, behind the end, counts as one that no step wrote: how long the
        # sampler goes on there depends on the cache.
        after_last = step[: row.length].max(initial=-1) + 1
        later = ((step == NEVER) | (step >= np.minimum(stop, after_last))) & scored.any(-1, keepdims=True)
        return Copies(masked, scored, weight=1.0, measured=scored | later)


def sequences_of_path(num_copies: int, pattern: Pattern) -> int:
    """The most sequences that the copies need, if no two copies score the same token.

    In a full pattern, each copy needs one. Else copies that score different blocks share a sequence (block replay),
    and at most as many copies score the same block as it has tokens.
    """
    return num_copies if pattern.is_full else min(num_copies, pattern.block_size)


def blocks_of(chosen: np.ndarray, block_length: int) -> np.ndarray:
    """(M, T) bool, true at all places of the blocks in which any place is chosen. chosen: (M, T) bool."""
    block = np.arange(chosen.shape[1]) // block_length
    in_same_block = block[:, None] == block  # (T, T)
    return (chosen[:, :, None] & in_same_block).any(1)
