"""Maskings of a path of decoding: copies show the states that a sampler went through, and score what it wrote next."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from spg_trainer.errors import ConfigError
from spg_trainer.likelihood.masking import Completion, Copies, Masking

if TYPE_CHECKING:
    from spg_trainer.architecture.pattern import Pattern


@dataclass(frozen=True)
class StepMergeMasking(Masking):
    """Replays the sampler's steps in segments: shows what it saw when one began, scores all it unmasked there.

    Segments are `steps_per_segment` denoising steps each, up to the last that unmasked a scored token; those that
    unmasked none are left out. segment_draw says which of them are shown, one a copy:

    all       all of them; where they would be more than num_masks, num_masks of nearly equal numbers of steps
    uniform   num_masks of them, different ones as far as there are as many
    entropy   num_masks with probability in proportion to the surprise of their tokens, spread evenly
    top       those of the greatest mean entropy in order, num_masks of them in each iteration of a rollout
    surprise  num_masks, without replacement as far as there are as many, with probability in proportion to exp(mean
              surprise of their tokens)

    A segment weighs 1 over its probability, but 1 with `top` and `surprise`. score_rest: whether all that was still
    masked is scored. Positions behind the first end token are shown as the sampler saw them, too, and never scored.
    Mean over all masks: the log-probability of writing the tokens of each segment at once; with segments of one step
    that of the path that the sampler took.
    """

    steps_per_segment: int = 1
    segment_draw: str = "all"
    score_rest: bool = False

    varies_context: ClassVar[bool] = False

    def count(self, size: int) -> int:
        return min(self.num_masks, size) if self.segment_draw == "all" else self.num_masks

    def copies(self, row: Completion) -> Copies:
        starts, stops, of_token = self.segments(row.unmask_step[: row.length])
        if not len(starts):
            raise ConfigError("this masking needs the sampler's steps (unmask_step); use masking=random")
        chosen, weights = self._choose(row, len(starts), of_token)
        # A copy for which no segment is left begins and ends at step 0, and scores nothing.
        start, stop, weight = np.zeros((3, self.count(row.size), 1))
        start[: len(chosen), 0], stop[: len(chosen), 0] = starts[chosen], stops[chosen]
        weight[: len(chosen), 0] = weights[chosen]
        if self.score_rest:
            stop = np.where(stop > start, np.inf, stop)
        step, is_token = row.unmask_step, np.arange(row.size) < row.length
        return Copies((step < 0) | (step >= start), (step >= start) & (step < stop) & is_token, weight)

    def _choose(self, row: Completion, count: int, of_token: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The numbers of the segments to show, at most one for each copy, and what each of all segments weighs.

        count: S, how many segments there are. of_token: the number of the segment of each unmasked token.
        """
        copies, unmasked = self.count(row.size), row.unmask_step[: row.length] >= 0
        if self.segment_draw == "uniform":
            order = row.streams.of_row().permutation(count)
            return np.resize(order, copies), np.full(count, count)
        if self.segment_draw == "entropy":
            surprise = np.bincount(of_token, row.surprise[: row.length][unmasked]) + 1e-8
            weights = surprise.sum() / surprise
            quantiles = (np.arange(copies) + row.streams.of_row().random(1)) / copies
            chosen = np.searchsorted((1 / weights).cumsum(), quantiles, side="right")
            return chosen.clip(max=count - 1), weights
        if self.segment_draw == "top":
            if row.entropy is None:
                raise ConfigError(
                    "segment_draw=top needs the sampler's entropies (an algorithm that needs `entropy`)"
                )
            order = self.by_entropy(row.unmask_step[: row.length], row.entropy[: row.length])[1]
            return order[row.iteration * copies :][:copies], np.ones(count)
        if self.segment_draw == "surprise":
            stream = row.streams.of_row()
            mean = np.bincount(of_token, row.surprise[: row.length][unmasked]) / np.bincount(of_token)
            without_replacement = np.argsort(-(mean + stream.gumbel(size=count)))[:copies]
            odds = np.exp(mean - mean.max())
            again = stream.choice(count, copies - len(without_replacement), p=odds / odds.sum())
            return np.concatenate([without_replacement, again]), np.ones(count)
        return np.arange(count), np.full(count, copies)

    def by_entropy(self, steps: np.ndarray, entropy: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """First steps of the S segments, that of the greatest mean entropy first, and in this order their numbers."""
        starts, _, of_token = self.segments(steps)
        mean = np.bincount(of_token, entropy[steps >= 0]) / np.bincount(of_token)
        order = np.argsort(-mean, kind="stable")
        return starts[order], order

    def segments(self, steps: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """First step and end of the S segments, (S,) each, and the number of the segment of each unmasked token.

        steps: (n,), -1 where a token was never unmasked. E.g. [0, 3, 1, -1] in segments of 2 steps: starts 0 and 2,
        ends 2 and 4, and the tokens are of segments 0, 1 and 0.
        """
        steps = steps[steps >= 0]
        total = int(steps.max(initial=-1)) + 1
        edges = np.arange(0, total + self.steps_per_segment, self.steps_per_segment)
        if self.segment_draw == "all" and len(edges) > self.num_masks + 1:
            edges = np.arange(self.num_masks + 1) * total // self.num_masks
        used, of_token = np.unique(np.searchsorted(edges, steps, side="right") - 1, return_inverse=True)
        return edges[used], edges[used + 1], of_token


@dataclass(frozen=True)
class HalvesMasking(Masking):
    """Masks everything, then the second half: what the sampler saw at the root and at the node of a tree of rollouts.

    The first copy scores the first half, the second copy the second half. A branch took its first half over from the
    first leaf of its node, so that its first copy scores nothing. Mean over both copies: the log-probability of writing
    each half at once.
    """

    varies_context: ClassVar[bool] = False

    def check_pattern(self, pattern: "Pattern") -> None:
        """Raises ConfigError for blocks of attention: one of them may lie across the middle."""
        if not pattern.is_full:
            raise ConfigError(
                "masking=halves: a tree branches in the middle of its completions, and in this model, which attends in "
                "blocks, that lies inside a block behind some prompts. Use --algorithm d2_stepmerge."
            )

    def count(self, size: int) -> int:
        return 2

    def copies(self, row: Completion) -> Copies:
        place = np.arange(row.size)
        in_second, is_token = place >= row.size // 2, place < row.length
        masked = np.stack([np.ones_like(in_second), in_second])
        scored = np.stack([~in_second & is_token & (not row.branched), in_second & is_token])
        return Copies(masked, scored, 2.0)


@dataclass(frozen=True)
class AutoregressiveMasking(Masking):
    """Masks everything from a token on and scores that token (JustGRPO).

    With num_masks >= T every token of a completion is scored, once: the exact log-likelihood of decoding left to right,
    one token at a time. With fewer masks, num_masks tokens are drawn without replacement, and each weighs n/num_masks:
    the same on average. Copies that score nothing cost nothing.
    """

    varies_context: ClassVar[bool] = False

    def count(self, size: int) -> int:
        return min(self.num_masks, size)

    def copies(self, row: Completion) -> Copies:
        tokens, copies = np.arange(row.length), self.count(row.size)
        if row.length > self.num_masks:
            tokens = np.sort(row.streams.of_row().permutation(row.length)[: self.num_masks])
        token = np.full((copies, 1), row.size)  # where none is left for a copy
        token[: len(tokens), 0] = tokens
        place = np.arange(row.size)
        return Copies(place >= token, place == token, copies * row.length / len(tokens))


@dataclass(frozen=True)
class PositionMasking(StepMergeMasking):
    """`StepMergeMasking` of the sampler's whole path, which measures how sure the model was of each position.

    Scored is every token that a segment unmasked, also behind the first end token: where the sampler wrote it was
    chosen, too. Measured is the confidence at each place that was still masked when the segment began, in the blocks
    that it wrote in. With segments of one step, these are all the probabilities that the path depends on.
    block_length: tokens, that of the rollout.
    """

    block_length: int = 32

    measure: ClassVar[str] = "confidence"

    def check_pattern(self, pattern: "Pattern") -> None:
        """Raises ConfigError where the rollout's first block may be shorter than the others."""
        if not pattern.is_full and pattern.origin == "sequence":
            raise ConfigError(
                "a rollout's choice of positions: this model attends in blocks that begin with the prompt, so that a "
                "completion's first block may be shorter, and is not scored here. Use --algorithm d2_stepmerge."
            )

    def copies(self, row: Completion) -> Copies:
        copies = super().copies(row._replace(length=row.size))
        return copies._replace(measured=copies.masked & blocks_of(copies.scored, self.block_length))


@dataclass(frozen=True)
class HintMasking(StepMergeMasking):
    """`StepMergeMasking` whose reference is shown some of what the sampler wrote later, as a hint.

    A hint is drawn anew for each copy, from the places that the copy masks and does not score. hint_share: the share of
    them that is shown, rounded down. hint: which of them may be shown: `blocks` = those behind the blocks that the
    segment wrote in, `steps` = all. A copy without a hint scores nothing.
    """

    hint_share: float = 0.25
    hint: str = "blocks"
    block_length: int = 32

    hints: ClassVar[bool] = True

    def check_pattern(self, pattern: "Pattern") -> None:
        """Raises ConfigError for hints that stand in blocks which no earlier one attends to."""
        if self.hint == "blocks" and not pattern.is_full:
            raise ConfigError(
                "hint=blocks: in this model a block does not attend to later ones, so that the teacher would not see "
                "its hint. Use --algorithm-args hint=steps."
            )

    def copies(self, row: Completion) -> Copies:
        copies = super().copies(row)
        place, shown = np.arange(row.size), np.zeros_like(copies.masked)
        for mask, (masked, scored) in enumerate(zip(copies.masked, copies.scored, strict=True)):
            later = masked & ~scored & (row.unmask_step >= 0)
            if self.hint == "blocks" and scored.any():
                end = (scored.nonzero()[0].max() // self.block_length + 1) * self.block_length
                later &= place >= end
            candidates = later.nonzero()[0] if scored.any() else np.zeros(0, dtype=int)
            count = int(self.hint_share * len(candidates) + 1e-9)
            shown[mask, row.streams.of_mask(mask).permutation(candidates)[:count]] = True
        scored_with_hint = copies.scored & shown.any(-1, keepdims=True)
        return copies._replace(scored=scored_with_hint, ref_masked=copies.masked & ~shown)


@dataclass(frozen=True)
class HorizonMasking(StepMergeMasking):
    """States of the path before some steps; scores near tokens, which the steps up to the horizon write, and far ones.

    Far tokens are written later, in the blocks of near ones; none is scored if far_weight is 0. The reference is shown
    the state at the horizon, which has the near tokens and not the far ones. At near tokens, the masking measures how
    undecided the model is where it is right, unless certainty_weight is 0. horizon: denoising steps. block_length:
    tokens, that of the rollout.
    """

    horizon: int = 4
    certainty_weight: float = 2.0
    far_weight: float = 1.0
    block_length: int = 32

    hints: ClassVar[bool] = True

    @property
    def measure(self) -> str:  # type: ignore[override]
        return "right_entropy" if self.certainty_weight > 0 else ""

    def copies(self, row: Completion) -> Copies:
        copies = super().copies(row)
        step, is_token = row.unmask_step, np.arange(row.size) < row.length
        first = np.where(copies.scored, step, step.max(initial=0) + 1).min(-1, keepdims=True)
        near = is_token & (step >= first) & (step < first + self.horizon)
        behind_horizon = step >= first + self.horizon
        far = is_token & behind_horizon & blocks_of(near, self.block_length) & (self.far_weight > 0)
        return copies._replace(scored=near | far, measured=near, ref_masked=(step < 0) | behind_horizon)


def blocks_of(chosen: np.ndarray, block_length: int) -> np.ndarray:
    """(M, T) bool, all places of the blocks in which any place is chosen, (M, T) bool."""
    block = np.arange(chosen.shape[1]) // block_length
    return (chosen[:, :, None] & (block[:, None] == block)).any(1)
