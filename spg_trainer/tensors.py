"""The records that travel through a training step.

Axes: B completions, M masks, L prompt tokens, T completion tokens.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor
from torch.nn.functional import pad

_PROMPT = ("prompt_ids", "prompt_mask")
NEVER, GIVEN = -1, -2
"""Of `unmask_step`: a place that stayed masked, and one whose token was given, by a template, and not written."""


class Rows:
    """A dataclass of tensors, or mappings to tensors, with B rows; what is neither belongs to all of them."""

    def select(self, rows: Tensor) -> Self:
        """The given rows, in the given order. rows: (n,) int64, or (B,) bool."""
        return replace(self, **{f.name: _take(getattr(self, f.name), rows) for f in fields(self)})


def _take(value: Any, rows: Tensor) -> Any:
    if isinstance(value, Mapping):
        return {name: _take(item, rows) for name, item in value.items()}
    return value[rows] if isinstance(value, Tensor) else value


@dataclass(frozen=True)
class Rollouts(Rows):
    """What the sampler wrote, and when it wrote each token."""

    prompt_ids: Tensor
    """(B, L) int64, left-padded."""
    prompt_mask: Tensor
    """(B, L) bool, false on padding."""
    completion_ids: Tensor
    """(B, T) int64 as sampled, also behind the first end token; the mask id where nothing was unmasked."""
    completion_mask: Tensor
    """(B, T) bool, true up to and including the first end token; of a template, the same of each of its holes, and
    false where the token was given."""
    unmask_step: Tensor
    """(B, T) int64, the denoising step (0, 1, ... over the whole completion) that unmasked the token; -1 = never, -2 =
    its token was given."""
    unmask_logps: Tensor
    """(B, T) float32 (float64 if the model is), un-tempered log-probability at that step; 0 where never unmasked. With
    --top-p or --top-k, that of the law that drew: tempered, cut, and without the mask id."""
    unmask_entropy: Tensor | None = None
    """(B, T) as these, entropy of the un-tempered law at that step, nats; only if the algorithm asks."""
    unmask_order: Tensor | None = None
    """(B, T) int64, the place of the token among those of its step, in the order in which their positions were drawn; 0
    where never unmasked; only with --remasking plackett_luce."""
    probe_steps: Tensor | None = None
    """(B, K) int64, denoising steps whose states were probed, -1 = none; only if the algorithm asks."""
    probe_rewards: Tensor | None = None
    """(B, K) float64, what the episode earned that one pass made of these states; 0 where there is none."""
    fill_step: Tensor | None = None
    """(B,) int64, the denoising step before which one pass filled all masks of a row; -1 = the sampler wrote it."""
    branched: Tensor | None = None
    """(B,) bool, whether a completion took its first half over from the first one of its node; only of trees."""
    episode: Tensor | None = None
    """(B,) int64, ascending: whose turn a completion is, by the episode's number in the step; None where every
    completion is an episode of its own."""

    def __len__(self) -> int:
        return self.prompt_ids.shape[0]

    @property
    def given(self) -> Tensor:
        """(B, T) bool, places whose tokens were given; everything else is or was a hole."""
        return self.unmask_step == GIVEN

    def canvas(self, mask_id: int) -> Tensor:
        """(B, T) int64, what the sampler began with: the given tokens, and the mask id everywhere else."""
        return self.completion_ids.masked_fill(~self.given, mask_id)

    @property
    def turn(self) -> Tensor:
        """(B,) int64 on the CPU, the number of each completion in its episode, from 0 on; all turns are at hand."""
        if self.episode is None:
            return torch.zeros(len(self), dtype=torch.int64)
        episode = self.episode.cpu()
        return torch.arange(len(self)) - torch.searchsorted(episode, episode)

    def by_episode(self, values: Tensor, absent: Tensor) -> Tensor:
        """(E, turns * K) of values (B, K): those of an episode turn after turn, as one long completion has them.

        absent: (E,) stands for the turns that an episode does not have, up to those of the longest at hand.
        """
        turn, count = self.turn, values.shape[1]
        found = absent[:, None, None].repeat(1, int(turn.max()) + 1, count)
        found[self.owner, turn] = values
        return found.flatten(1)

    def by_turn(self, values: Tensor) -> Tensor:
        """(B, K) of values (E, turns * K), as `by_episode` gives them."""
        turn = self.turn
        return values.unflatten(1, (int(turn.max()) + 1, -1))[self.owner, turn]

    @property
    def owner(self) -> Tensor:
        """(B,) int64 on the CPU, the episode of each completion; all episodes are at hand."""
        return torch.arange(len(self)) if self.episode is None else self.episode.cpu()

    def trim(self) -> Self:
        """Without the prompt columns that are padding in all rows."""
        real = int(self.prompt_mask.sum(-1).max()) if len(self) else 0
        cut = self.prompt_mask.shape[1] - real
        return replace(self, prompt_ids=self.prompt_ids[:, cut:], prompt_mask=self.prompt_mask[:, cut:])

    @classmethod
    def join(cls, parts: "Sequence[Rollouts]") -> "Rollouts":
        """The rows of all parts, one part after the other."""
        if len(parts) == 1:
            return parts[0]
        width = max(part.prompt_ids.shape[1] for part in parts)
        parts = [
            replace(
                part, **{n: pad(getattr(part, n), (width - part.prompt_ids.shape[1], 0)) for n in _PROMPT}
            )
            for part in parts
        ]
        columns = {f.name: [getattr(part, f.name) for part in parts] for f in fields(cls)}
        return cls(**{name: None if of[0] is None else torch.cat(of) for name, of in columns.items()})

    def count_tail(self, pad_id: int) -> Self:
        """With padding behind the first end token, as base models are trained, that counts and was unmasked last."""
        tail = ~self.completion_mask & ~self.given
        return replace(
            self,
            completion_ids=self.completion_ids.masked_fill(tail, pad_id),
            completion_mask=~self.given,
            unmask_step=self.unmask_step.masked_fill(tail, int(self.unmask_step.max()) + 1),
        )


class StepView(NamedTuple):
    """What an algorithm's `prepare` sees of a step: the completions of all processes, and where the run is."""

    rewards: Tensor
    """(P, G) float64, of P groups."""
    rollouts: Rollouts
    """P*G rows, group after group; where episodes have turns, a row for each (`rollouts.episode`)."""
    share_done: float = 0.0
    """What share of the run's steps was done before this one, 0 to 1."""
    num_iterations: int = 1
    """Updates that are made with these completions."""
    correct: Tensor | None = None
    """(P, G) bool, which of them are right; only if the algorithm asks."""
    of_step: Tensor | None = None
    """(N,) float64, the rewards of all completions of the step, where `rewards` are those of the groups of one size
    (`--explore`); None = there are no others."""


class Where(NamedTuple):
    """The place of some rows in their training step."""

    iteration: int
    """0 .. num_iterations - 1."""
    num_iterations: int
    rows: Sequence[int]
    """(B,) number of each row among all completions of the step, on all processes."""
    total: int
    """How many completions the step has."""


@dataclass(frozen=True)
class Masks(Rows):
    """The masked copies of some completions, and what each scored token weighs."""

    masked: Tensor
    """(B, M, L+T) bool, shown as [MASK]: prompt noise, masked tokens, what lies behind the end."""
    scored: Tensor
    """(B, M, T) bool, the masked completion tokens whose log-probability counts."""
    weight: Tensor
    """(B, M, T) float64, importance weight of a token inside the drawn part; 0 where not scored."""
    scale: Tensor
    """(B,) float64, 1 / probability of the part drawn once for all M masks; 1 if that is everything."""
    part: Tensor
    """(B, T) bool, the tokens of that part."""
    measured: Tensor | None = None
    """(B, M, T) bool, where a figure beside log-probabilities is computed, in copies that score something; None =
    nowhere."""
    measure: str = ""
    """Which figure that is: a name of `spg_trainer.likelihood.measures.MEASURES`."""
    ref_masked: Tensor | None = None
    """(B, M, L+T) bool, what the reference is shown as [MASK] in place of `masked`; None = the same."""

    @property
    def valued(self) -> Tensor:
        """(B, M, T) bool, or (B, M, 2T) where something is measured: which values of a pass are not just zero."""
        return self.scored if self.measured is None else torch.cat([self.scored, self.measured], -1)

    def split(self, values: Tensor) -> tuple[Tensor, Tensor | None]:
        """Log-probabilities (B, M, T) and what is measured (B, M, T), from the values of a pass, shaped as `valued`."""
        return (values, None) if self.measured is None else values.tensor_split(2, -1)

    def as_shown_to_reference(self) -> "Masks":
        """The masks under which the reference scores the same tokens."""
        masked = self.masked if self.ref_masked is None else self.ref_masked
        return replace(self, masked=masked, measured=None, ref_masked=None)


@dataclass(frozen=True)
class Batch(Rows):
    """What an algorithm's `loss` sees of some completions besides their logps and masks."""

    completion_mask: Tensor
    """(B, T) bool."""
    advantages: Tensor
    """(B,) float64."""
    totals: Mapping[str, float]
    """Sums over every completion of the update on all processes, skipped ones included: `completions`, `tokens`;
    without them, `scored_completions`; and `rewarded_completions`, those with an advantage other than 0. The turns of
    an episode count as one completion."""
    group: Tensor | None = None
    """(B,) int64, number of the completion's group in the step."""
    prepared: Mapping[str, Tensor] = field(default_factory=dict)
    """What `prepare` returned, (B, ...) each."""
    old_logps: Tensor | None = None
    """(B, M, T) float32 at scored positions, under the model that sampled; only if the algorithm asks."""
    ref_logps: Tensor | None = None
    """(B, M, T) float32 at scored positions, under the reference model; only if the algorithm asks."""
    measured: Tensor | None = None
    """(B, M, T) float32 with a graph, the figure that the masks measure, zero elsewhere; only if the algorithm asks."""
    old_measured: Tensor | None = None
    """(B, M, T) float32, the same under the model that sampled; only if the algorithm asks for old logps too."""

    episode: Tensor | None = None
    """As in `Rollouts`; `advantages`, `group` and what `prepare` returned of an episode are those of each of its turns.
    """

    @property
    def length(self) -> Tensor:
        """(B,) int64, scored tokens of each completion, the end token included."""
        return self.completion_mask.sum(-1)

    @property
    def fill(self) -> Tensor:
        """(B,) bool, whether a row is a fill of a state: its advantage is then what the fill is worth."""
        return self.prepared.get("fill", torch.zeros_like(self.completion_mask[:, 0]))

    def sum_turns(self, values: Tensor) -> Tensor:
        """(E,) the sums of values (B,) over the turns of each episode, for losses that compare them."""
        if self.episode is None:
            return values
        which = self._which()
        return values.new_zeros(int(which[-1]) + 1 if len(which) else 0).index_add(0, which, values)

    def once(self, values: Tensor) -> Tensor:
        """(E,) of values (B,) that are the same for all turns of an episode."""
        if self.episode is None:
            return values
        return values[torch.searchsorted(self._which(), self._which().unique())]

    def each_turn(self, values: Tensor) -> Tensor:
        """(B,) of values (E,) of the episodes."""
        return values if self.episode is None else values[self._which()]

    def _which(self) -> Tensor:
        """(B,) the place of each row's episode among those at hand."""
        return self.episode.unique(return_inverse=True)[1]


@dataclass(frozen=True)
class Sequences(Rows):
    """The scored completions of a whole update, of all processes: what a loss that couples them sees (N rows)."""

    bounds: Tensor
    """(N,) `bound` of each completion under the current weights."""
    old_bounds: Tensor
    """(N,) under the model that sampled, if the algorithm asks for old logps; else the current ones."""
    advantages: Tensor
    """(N,)."""
    group: Tensor
    """(N,) int64, number of the completion's group."""
    length: Tensor
    """(N,) int64, scored tokens."""
    totals: Mapping[str, float]
    """As in `Batch`."""
    ref_bounds: Tensor | None = None
    """(N,) under the reference model, if the algorithm asks for reference logps."""
