"""The records that travel through a training step.

Axes: B completions, M masks, L prompt tokens, T completion tokens.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal, NamedTuple, Self

import torch
from torch import Tensor
from torch.nn.functional import pad

_PROMPT = ("prompt_ids", "prompt_mask")
NEVER, GIVEN = -1, -2
"""Of `unmask_step`: a place that stayed masked, and one whose token was given, by a template, and not written."""

Record = Literal["entropy", "confidence_change"]
"""What a rollout records only if it is asked to: `Rollouts.unmask_entropy` and `Rollouts.confidence_change`."""


class Rows:
    """A dataclass of tensors with B rows, mappings to such tensors, or other `Rows`; anything else belongs to all."""

    def select(self, index: Tensor) -> Self:
        """Some of the rows, in the order of `index`: (n,) int64, or (B,) bool."""
        return self._changed(lambda column: column[index])

    def to(self, device: str | torch.device) -> Self:
        """The same rows on a device."""
        return self._changed(lambda column: column.to(device))

    @classmethod
    def join(cls, parts: Sequence[Self]) -> Self:
        """The rows of all parts, one part after the other."""
        columns = {f.name: [getattr(part, f.name) for part in parts] for f in fields(cls)}
        joined = {
            name: torch.cat(values) for name, values in columns.items() if isinstance(values[0], Tensor)
        }
        return replace(parts[0], **joined)

    def _changed(self, change: Callable[[Tensor], Tensor]) -> Self:
        return replace(self, **{f.name: _change(getattr(self, f.name), change) for f in fields(self)})


def _change(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    if isinstance(value, Mapping):
        return {name: _change(item, change) for name, item in value.items()}
    if isinstance(value, Rows):
        return value._changed(change)
    return change(value) if isinstance(value, Tensor) else value


@dataclass(frozen=True)
class Place(Rows):
    """The place of each of B completions in its step: made where completions are collected, and kept from then on.

    Where the environment answers back, each turn of an episode is a row, and the turns of an episode stand together, in
    their order; everywhere else a row is an episode.
    """

    problem: Tensor
    """(B,) int64, index of the problem in its environment."""
    generation: Tensor
    """(B,) int64, number of the episode in its group."""
    turn: Tensor
    """(B,) int64, number of the completion in its episode, from 0 on."""
    episode: Tensor
    """(B,) int64, number of the episode among those of all processes, group by group."""
    group: Tensor
    """(B,) int64, number of the group among those of all processes."""
    max_turns: int = 1
    """How many turns an episode may have; 1 = every row is an episode."""

    @classmethod
    def full_groups(cls, groups: int, generations: int) -> Self:
        """The place of groups * generations episodes of one turn: group g is of problem g."""
        episode = torch.arange(groups * generations)
        group = episode // generations
        return cls(group, episode % generations, torch.zeros_like(episode), episode, group)

    def __len__(self) -> int:
        return len(self.episode)

    @property
    def has_turns(self) -> bool:
        """Whether an episode may have several rows."""
        return self.max_turns > 1

    def at_turn(self, turn: int) -> Self:
        """The same episodes, each at one of its turns."""
        return replace(self, turn=torch.full_like(self.turn, turn))

    def with_turns(self) -> Self:
        """The same rows, each with its number among those of its episode."""
        order = torch.arange(len(self), device=self.episode.device)
        return replace(self, turn=order - torch.searchsorted(self.episode, self.episode))

    def units(self, compares: str) -> Tensor:
        """(B,) int64, the number of the unit that each row is in; the rows of a unit stay together in an update.

        compares: as of an algorithm. Units are groups for "group" and episodes for "episode"; else each row is one.
        """
        numbers = {"episode": self.episode, "group": self.group}
        if compares in numbers:
            return numbers[compares]
        return torch.arange(len(self), device=self.episode.device)

    @property
    def last(self) -> Tensor:
        """(B,) bool, the last turn of each episode."""
        ends = torch.ones_like(self.episode, dtype=torch.bool)
        ends[:-1] = self.episode[1:] != self.episode[:-1]
        return ends

    def keys(self, *turn_word: str) -> list[tuple[int | str, ...]]:
        """What keys the noise of each of the B rows: its problem and generation, from the second turn on also the turn.

        turn_word: stands before the turn, so that a stream whose key goes on with a number cannot be taken for it.
        """
        places = zip(self.problem.tolist(), self.generation.tolist(), self.turn.tolist(), strict=True)
        return [(i, g, *((*turn_word, turn) if turn else ())) for i, g, turn in places]

    def total(self, values: Tensor) -> Tensor:
        """(E,) the sums of values (B,) over the turns of each of the E episodes at hand, in ascending order."""
        if not self.has_turns:
            return values
        which, count = self._episodes_at_hand()
        return values.new_zeros(count).index_add(0, which, values)

    def first(self, values: Tensor) -> Tensor:
        """(E,) of values (B,) those of the first row at hand of each episode."""
        if not self.has_turns:
            return values
        which, count = self._episodes_at_hand()
        numbers = torch.arange(len(which), device=which.device)
        first_rows = numbers.new_full((count,), len(which)).scatter_reduce(0, which, numbers, "amin")
        return values[first_rows]

    def spread(self, values: Tensor) -> Tensor:
        """(B, ...) of values (E, ...) of the episodes at hand: each turn has that of its episode."""
        return values[self._episodes_at_hand()[0]] if self.has_turns else values

    def rows_to_episodes(self, values: Tensor, absent: Tensor) -> Tensor:
        """(E, turns * K) of values (B, K): those of an episode turn after turn, as one long completion has them.

        absent: (E,) stands for the turns that an episode does not have, up to those of the longest at hand.
        """
        turns = absent[:, None, None].repeat(1, int(self.turn.max()) + 1, values.shape[1])
        turns[self._episodes_at_hand()[0], self.turn] = values
        return turns.flatten(1)

    def episodes_to_rows(self, values: Tensor) -> Tensor:
        """(B, K) of values (E, turns * K), as `rows_to_episodes` gives them."""
        turns = values.unflatten(1, (int(self.turn.max()) + 1, -1))
        return turns[self._episodes_at_hand()[0], self.turn]

    def _episodes_at_hand(self) -> tuple[Tensor, int]:
        """(B,) which of the episodes at hand, in ascending order, each row is of; and how many these are."""
        distinct, which = self.episode.unique(return_inverse=True)
        return which, len(distinct)


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
    """(B, T) bool, true up to and including the first end token. Where a template was filled in, that holds for each of
    its holes, and it is false where the token was given."""
    unmask_step: Tensor
    """(B, T) int64, the denoising step (0, 1, ... over the whole completion) that unmasked the token; -1 = never, -2 =
    its token was given."""
    unmask_logps: Tensor
    """(B, T) float32 (float64 if the model is), un-tempered log-probability at that step; 0 where never unmasked. With
    --top-p or --top-k, that of the law that drew: tempered, cut, and without the mask id. --eos-penalty and
    --min-completion-length change it too, as they lower the logits of end tokens first."""
    unmask_entropy: Tensor | None = None
    """(B, T) as these, entropy of the un-tempered law at that step, nats; only if the algorithm asks."""
    unmask_order: Tensor | None = None
    """(B, T) int64, the place of the token among those of its step, in the order in which their positions were drawn; 0
    where never unmasked; only with --remasking plackett_luce."""
    confidence_change: Tensor | None = None
    """(B, T) as `unmask_logps`, how much the model's highest probability at a place changed by tokens that were written
    near it (up to 10 places away) while it was masked: the sum of the absolute changes from pass to pass, within its
    block; only if the masking asks."""
    probe_steps: Tensor | None = None
    """(B, K) int64, denoising steps whose states were probed, -1 = none; only if the algorithm asks."""
    probe_rewards: Tensor | None = None
    """(B, K) float64, what the episode earned that one pass made of these states; 0 where there is none."""
    fill_step: Tensor | None = None
    """(B,) int64, the denoising step before which one pass filled all masks of a row; -1 = the sampler wrote it."""
    branched: Tensor | None = None
    """(B,) bool, whether a completion took its first half over from the first one of its node; only of trees."""

    def __len__(self) -> int:
        return self.prompt_ids.shape[0]

    @property
    def given(self) -> Tensor:
        """(B, T) bool, places whose tokens were given; everything else is or was a hole."""
        return self.unmask_step == GIVEN

    def canvas(self, mask_id: int) -> Tensor:
        """(B, T) int64, what the sampler began with: the given tokens, and the mask id everywhere else."""
        return self.completion_ids.masked_fill(~self.given, mask_id)

    def trim(self) -> Self:
        """Without the prompt columns that are padding in all rows."""
        real = int(self.prompt_mask.sum(-1).max()) if len(self) else 0
        cut = self.prompt_mask.shape[1] - real
        return replace(self, prompt_ids=self.prompt_ids[:, cut:], prompt_mask=self.prompt_mask[:, cut:])

    @classmethod
    def join(cls, parts: Sequence[Self]) -> Self:
        """The rows of all parts, one part after the other, with prompts as long as the longest of all."""
        if len(parts) == 1:
            return parts[0]
        width = max(part.prompt_ids.shape[1] for part in parts)
        return super().join([part._padded(width) for part in parts])

    def _padded(self, width: int) -> Self:
        """With prompts of `width` columns."""
        missing = (width - self.prompt_ids.shape[1], 0)
        return replace(self, **{name: pad(getattr(self, name), missing) for name in _PROMPT})

    def count_tail(self, pad_id: int) -> Self:
        """With padding behind the first end token, as base models are trained, that counts and was unmasked last."""
        tail = ~self.completion_mask & ~self.given
        return replace(
            self,
            completion_ids=self.completion_ids.masked_fill(tail, pad_id),
            completion_mask=~self.given,
            unmask_step=self.unmask_step.masked_fill(tail, int(self.unmask_step.max()) + 1),
            confidence_change=None
            if self.confidence_change is None
            else self.confidence_change.masked_fill(tail, 0),
        )


class StepView(NamedTuple):
    """What an algorithm's `prepare` sees of a step: the completions of all processes, and where the run is."""

    rewards: Tensor
    """(P, G) float64, what each episode of P groups earned."""
    rollouts: Rollouts
    """B rows, group after group: P*G completions, or where episodes have turns, each turn of each of them."""
    place: Place
    """Which episode and which turn each row of `rollouts` is."""
    share_done: float = 0.0
    """What share of the run's steps was done before this one, 0 to 1."""
    num_iterations: int = 1
    """Updates that are made with these completions."""
    correct: Tensor | None = None
    """(P, G) bool, which of them are right; only if the algorithm asks."""


class Where(NamedTuple):
    """Where in their training step some rows are masked."""

    iteration: int
    """0 .. num_iterations - 1."""
    num_iterations: int
    quantile: Sequence[float]
    """(B,) from 0 to below 1, the number of each row's episode over that of all episodes of the step, of all processes.
    """


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
    temperature: float = 1.0
    """The temperature at which log-probabilities are taken; another than 1 is that of the sampler, and its law never
    draws [MASK]."""

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
    place: Place
    """Which episode and which group each row is of. Rows are turns: `advantages` and `prepared` have at each turn what
    its episode has. `place.total` and `first` go from turns to episodes, `spread` goes back."""
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
    step_means: Mapping[str, float] = field(default_factory=dict)
    """What `step_means` of the algorithm returned, numbers of the whole step."""

    @property
    def group(self) -> Tensor:
        """(B,) int64, number of the completion's group in the step."""
        return self.place.group

    @property
    def length(self) -> Tensor:
        """(B,) int64, scored tokens of each completion, the end token included."""
        return self.completion_mask.sum(-1)

    @property
    def fill(self) -> Tensor:
        """(B,) bool, whether a row is a fill of a state: its advantage is then what the fill is worth."""
        return self.prepared.get("fill", torch.zeros_like(self.completion_mask[:, 0]))


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
