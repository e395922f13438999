"""The table of completions that travels through a training step, and the masks under which they are scored.

Axes: B rows, M masks, L prompt tokens, T completion tokens; E episodes at hand, in P groups of G each.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

if TYPE_CHECKING:
    from envs import Problem

NEVER, GIVEN = -1, -2
"""Of `unmask_step`: a place that stayed masked, and one whose token was given, by a template, and not written."""

Record = Literal["entropy", "order", "confidence_change", "fallback"]
"""The columns of `Rows` that the sampler records only if it is asked to, (B, T) each."""


class Rows:
    """Completions, a row for each, with named columns; a step's rows gain columns on their way.

    Where the environment answers back, each turn of an episode is a row, and the turns of an episode stand together, in
    their order; everywhere else a row is an episode. Where a state of a completion was filled and is learned, the fill
    is a row, too.

    A column is a tensor, an array or a list with an entry for each of the B rows, a mapping of columns, or another
    table, such as `Masks`. All else is a fact, which holds for all rows. What nobody has given is not there: `in` says
    so. Tables are not changed; their methods return new ones.
    """

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
    --top-p or --top-k, that in the distribution drawn from: tempered, cut, and without the mask id. --eos-penalty and
    --min-completion-length change it too, as they lower the logits of end tokens first."""
    entropy: Tensor
    """(B, T) as these, entropy of the un-tempered law at that step, nats; only if the algorithm or its masking asks."""
    order: Tensor
    """(B, T) int64, the place of the token among those of its step, in the order in which their positions were drawn; 0
    where never unmasked; only with --remasking plackett_luce."""
    confidence_change: Tensor
    """(B, T) as `unmask_logps`, how much the model's highest probability at a place changed by tokens that were written
    near it (up to 10 places away) while it was masked: the sum of the absolute changes from pass to pass, within its
    block; only if the masking asks."""
    fallback: Tensor
    """(B, T) bool, whether `--unmasking threshold` wrote the token because it was sure of none; only if the masking
    asks."""
    branched: Tensor
    """(B,) bool, whether a completion took its first half over from the first one of its node; only of trees."""

    problem: Tensor
    """(B,) int64, index of the problem in its environment. This and the next four say where in its step a row is; they
    are on the CPU until a micro-batch is made."""
    generation: Tensor
    """(B,) int64, number of the episode in its group."""
    turn: Tensor
    """(B,) int64, number of the completion in its episode, from 0 on."""
    episode: Tensor
    """(B,) int64, number of the episode among those of all processes, group by group; ascending."""
    group: Tensor
    """(B,) int64, number of the group among those of all processes."""
    max_turns: int = 1
    """How many turns an episode may have; 1 = every row is an episode."""

    problems: "list[Problem]"
    """What was asked. What an episode earned, from here on, stands at each of its turns."""
    completions: list[str]
    """The texts that were written."""
    rewards: np.ndarray
    """(B,) float64; where an environment scored, the weighted sum of `components`. A tensor in `Algorithm.prepare`."""
    components: dict[str, np.ndarray]
    """{name of a reward: (B,) float64}, NaN where the problem's task has no such reward."""
    correct: np.ndarray
    """(B,) bool, whether it is right. In `Algorithm.prepare` a tensor, and only if the algorithm asks."""
    reason: list[str]
    """The verifier's verdict in a word."""
    extracted: list[str | None]
    """The answer that the verifier found in the completion, None if it found none."""
    traceback: list[str | None]
    """The traceback where the author's `score` or `reply` raised, else None."""
    replies: list[str | None]
    """What the environment said to each completion, None at the end of an episode."""
    truncated: np.ndarray
    """(B,) bool, whether the episode was cut off."""
    no_room: int = 0
    """Episodes that ended because the next prompt was too long for the model."""
    skipped: int | None = None
    """How many problems of the step, on all processes, were skipped as too long; None = --overlong does not skip."""
    chosen: tuple[int, ...] | None = None
    """P numbers, ascending: the groups of all processes that the step learns from; None = all that were sampled."""
    batches: int | None = None
    """How many batches of problems were sampled for the step; None = --max-rollout-batches is 1."""

    probe_steps: Tensor
    """(B, K) int64, denoising steps whose states were probed, -1 = none; only if the algorithm asks."""
    probe_rewards: Tensor
    """(B, K) float64, what the episode earned that one pass made of these states; 0 where there is none."""
    fill_step: Tensor
    """(B,) int64, the denoising step before which one pass filled all masks of a row; -1 = the sampler wrote it."""
    share_done: float = 0.0
    """What share of the run's steps was done before this one, 0 to 1."""
    num_iterations: int = 1
    """Updates that are made with these completions."""
    advantages: Tensor
    """(B,) float64, from `Algorithm.prepare`; all else that it returns is a column of its name, too."""
    quantile: Tensor
    """(B,) float64 from 0 to below 1, the number of a row's episode over that of all episodes of the step."""

    totals: Mapping[str, float]
    """Sums over every completion of the update on all processes, skipped ones included: `completions`, `tokens`;
    without them, `scored_completions`; and `rewarded_completions`, those with an advantage other than 0. The turns of
    an episode count as one completion."""
    masks: "Masks"
    """Of a micro-batch: the masked copies of its completions."""
    masks_at_once: int
    """Of a micro-batch: up to B times so many masked copies go through the model together."""
    old_logps: Tensor
    """(B, M, T) float32 at scored positions, under the model that sampled; only if the algorithm asks."""
    ref_logps: Tensor
    """(B, M, T) float32 at scored positions, under the reference model; only if the algorithm asks."""
    measured: Tensor
    """(B, M, T) float32 with a graph, the figure that the masks measure, zero elsewhere; only if the algorithm asks."""
    old_measured: Tensor
    """(B, M, T) float32, the same under the model that sampled; only if the algorithm asks for old logps too."""
    coefficients: Tensor
    """(B,) the gradient of a coupled loss in the bound of each completion; only where the loss is coupled."""
    totals_of_minibatches: tuple[dict[str, float], ...]
    """Of a step: the `totals` of the updates with each of its minibatches."""
    counts_of_minibatches: tuple[dict[str, float], ...]
    """Of a step: what sums over the completions of each of its minibatches are divided by."""

    def __init__(self, **columns: Any) -> None:
        vars(self).update(columns)

    def __getattr__(self, name: str) -> Any:
        # Only for what is not there.
        raise AttributeError(f"these rows have no {name!r}. They have: {', '.join(vars(self))}.", name=name)

    def __contains__(self, name: str) -> bool:
        return name in vars(self)

    def __len__(self) -> int:
        return next(len(value) for value in vars(self).values() if _has_rows(value))

    def get(self, name: str, otherwise: Any = None) -> Any:
        """A column or fact, or `otherwise` where it is not there."""
        return vars(self).get(name, otherwise)

    def with_columns(self, **columns: Any) -> Self:
        """The same rows with more columns or facts, or with others in place of those of the same names."""
        return self._made({**vars(self), **columns})

    def without(self, *names: str) -> Self:
        """The same rows without some columns or facts, if they are there."""
        return self._made({name: value for name, value in vars(self).items() if name not in names})

    def tensors(self) -> Self:
        """The same rows without arrays, lists and mappings of columns: what a model and a loss are given."""
        return self._made(
            {
                name: value
                for name, value in vars(self).items()
                if isinstance(value, Tensor) or not (_has_rows(value) or name == "components")
            }
        )

    def select(self, index: Tensor) -> Self:
        """Some of the rows, in the order of `index`: (n,) int64, or (B,) bool."""
        if index.dtype == torch.bool:
            index = index.nonzero()[:, 0]
        on_device = {index.device: index}

        def some(column: Any) -> Any:
            if isinstance(column, Tensor):
                if column.device not in on_device:
                    on_device[column.device] = index.to(column.device)
                return column[on_device[column.device]]
            if isinstance(column, np.ndarray):
                return column[index.cpu().numpy()]
            return [column[row] for row in index.tolist()]

        return _change(self, some)

    def to(self, device: str | torch.device) -> Self:
        """The same rows, with all tensors on a device."""
        return _change(self, lambda column: column.to(device) if isinstance(column, Tensor) else column)

    @classmethod
    def join(cls, parts: Sequence[Self]) -> Self:
        """The rows of all parts, one part after the other, with prompts as long as the longest of all.

        All parts have the columns of the first; facts are those of the first.
        """
        if len(parts) == 1:
            return parts[0]
        if "prompt_ids" in vars(parts[0]):
            width = max(part.prompt_ids.shape[1] for part in parts)
            parts = [part._padded(width) for part in parts]
        names = vars(parts[0])
        return parts[0]._made({name: _join([vars(part)[name] for part in parts]) for name in names})

    def _made(self, values: Mapping[str, Any]) -> Self:
        made = object.__new__(type(self))
        vars(made).update(values)
        return made

    # What was written.

    @property
    def length(self) -> Tensor:
        """(B,) int64, scored tokens of each completion, the end token included."""
        known = vars(self).get("length")
        return self.completion_mask.sum(-1) if known is None else known

    @property
    def given(self) -> Tensor:
        """(B, T) bool, places whose tokens were given; everything else is or was a hole."""
        return self.unmask_step == GIVEN

    @property
    def is_fill(self) -> Tensor:
        """(B,) bool, whether a row is a fill of a state: its advantage is then what the fill is worth."""
        if "fill_step" in self:
            return self.fill_step >= 0
        return torch.zeros_like(self.completion_mask[:, 0])

    def canvas(self, mask_id: int) -> Tensor:
        """(B, T) int64, what the sampler began with: the given tokens, and the mask id everywhere else."""
        return self.completion_ids.masked_fill(~self.given, mask_id)

    def trim(self) -> Self:
        """Without the prompt columns that are padding in all rows; the columns of `masks` are cut as the prompt's."""
        real = int(self.prompt_mask.sum(-1).max()) if len(self) else 0
        cut = self.prompt_mask.shape[1] - real
        trimmed = self.with_columns(
            prompt_ids=self.prompt_ids[:, cut:], prompt_mask=self.prompt_mask[:, cut:]
        )
        return trimmed.with_columns(masks=self.masks.without_columns(cut)) if "masks" in self else trimmed

    def _padded(self, width: int) -> Self:
        """With prompts of `width` columns."""
        missing = (width - self.prompt_ids.shape[1], 0)
        return self.with_columns(
            prompt_ids=pad(self.prompt_ids, missing), prompt_mask=pad(self.prompt_mask, missing)
        )

    def count_tail(self, pad_id: int) -> Self:
        """With padding behind the first end token, as base models are trained, that counts and was unmasked last."""
        tail = ~self.completion_mask & ~self.given
        changed = {}
        if "confidence_change" in self:
            changed["confidence_change"] = self.confidence_change.masked_fill(tail, 0)
        return self.with_columns(
            completion_ids=self.completion_ids.masked_fill(tail, pad_id),
            completion_mask=~self.given,
            unmask_step=self.unmask_step.masked_fill(tail, int(self.unmask_step.max()) + 1),
            **changed,
        )

    # Where a row is in its step.

    @classmethod
    def full_groups(cls, groups: int, generations: int, **columns: Any) -> Self:
        """groups * generations episodes of one turn, with these columns: group g is of problem g."""
        episode = torch.arange(groups * generations)
        group, generation = episode // generations, episode % generations
        place = {"problem": group, "generation": generation, "turn": torch.zeros_like(episode)}
        return cls(**place, episode=episode, group=group, **columns)

    @property
    def has_turns(self) -> bool:
        """Whether an episode may have several rows."""
        return self.max_turns > 1

    def with_turns(self) -> Self:
        """The same rows, each with its number among those of its episode."""
        numbers = torch.arange(len(self), device=self.episode.device)
        return self.with_columns(turn=numbers - torch.searchsorted(self.episode, self.episode))

    def units(self, compares: str) -> Tensor:
        """(B,) int64, the number of the unit that each row is in; the rows of a unit stay together in an update.

        compares: an algorithm's. Units are groups for "group" and episodes for "episode"; else each row is one.
        """
        numbers = {"episode": self.episode, "group": self.group}
        if compares in numbers:
            return numbers[compares]
        return torch.arange(len(self), device=self.episode.device)

    @property
    def is_last_turn(self) -> Tensor:
        """(B,) bool, whether a row is the last turn of its episode."""
        ends = torch.ones_like(self.episode, dtype=torch.bool)
        ends[:-1] = self.episode[1:] != self.episode[:-1]
        return ends

    @property
    def last_turns(self) -> np.ndarray:
        """(E,) int64, the row of each episode's last turn; `rewards[last_turns]` are the rewards of the E episodes."""
        return self.is_last_turn.nonzero()[:, 0].numpy(force=True)

    def cut_into_groups(self, values: Any) -> Any:
        """(P, G) of values (B,), a tensor or an array, that stand at each turn of an episode; of whole groups."""
        last = self.last_turns
        return cut_into_groups(values[last], self.generation[last])

    def noise_keys(self, *turn_word: str) -> list[tuple[int | str, ...]]:
        """What keys the noise of each of the B rows: its problem and generation, from the second turn on also the turn.

        turn_word: stands before the turn, so that a stream whose key goes on with a number cannot be taken for it.
        """
        places = zip(self.problem.tolist(), self.generation.tolist(), self.turn.tolist(), strict=True)
        return [(i, g, *((*turn_word, turn) if turn else ())) for i, g, turn in places]

    def dialogue(self, b: int) -> tuple[list[str], list[str]]:
        """(completions, replies) of the whole episode to which row b belongs."""
        turns = (self.episode == self.episode[b]).nonzero()[:, 0].tolist()
        replies = [reply for turn in turns if (reply := self.replies[turn]) is not None]
        return [self.completions[turn] for turn in turns], replies

    @property
    def is_learned(self) -> np.ndarray:
        """(B,) bool, whether the step learns from each row."""
        if self.chosen is None:
            return np.ones(len(self), dtype=bool)
        return np.isin(self.group.numpy(), self.chosen)

    def learned(self, num_generations: int) -> Self:
        """The rows that the step learns from, with episodes and groups numbered anew, without gaps."""
        if self.chosen is None:
            return self
        rows = self.select(torch.from_numpy(self.is_learned))
        # The new number of a group is its place in the ascending `chosen`: of [2, 5, 6], group 5 becomes group 1.
        group = torch.searchsorted(torch.tensor(self.chosen), rows.group)
        return rows.with_columns(group=group, episode=group * num_generations + rows.generation, chosen=None)

    # From turns to episodes and back.

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


def cut_into_groups(values: Any, generation: Any) -> Any:
    """(P, G) of values (N,) of episodes, which stand group by group; tensors or arrays.

    generation: (N,) int64, the number of each episode in its group; a group begins where it is 0.
    """
    return values.reshape(int((generation == 0).sum()), -1)


def _has_rows(value: Any) -> bool:
    """Whether a value of a table is a column or a table, and no fact or mapping."""
    return isinstance(value, Tensor | np.ndarray | list | Rows)


def _change(value: Any, change: Callable[[Any], Any]) -> Any:
    """A table, a mapping or a column with `change` in place of each column; a fact stays as it is."""
    if isinstance(value, Mapping):
        return {name: _change(item, change) for name, item in value.items()}
    if isinstance(value, Rows):
        return value._made(_change(vars(value), change))
    return change(value) if _has_rows(value) else value


def _join(values: Sequence[Any]) -> Any:
    """One column or fact of several parts as that of their join; mappings have the names of the first."""
    first = values[0]
    if isinstance(first, Mapping):
        return {name: _join([value[name] for value in values]) for name in first}
    if isinstance(first, Rows):
        return first.join(values)
    if isinstance(first, Tensor):
        return torch.cat(list(values))
    if isinstance(first, np.ndarray):
        return np.concatenate(values)
    return [item for value in values for item in value] if isinstance(first, list) else first


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

    def without_columns(self, cut: int) -> Self:
        """Without the first `cut` columns of the prompt."""
        columns = {"masked": self.masked[:, :, cut:]}
        if self.ref_masked is not None:
            columns["ref_masked"] = self.ref_masked[:, :, cut:]
        return self.with_columns(**columns)

    def as_shown_to_reference(self) -> Self:
        """The masks under which the reference scores the same tokens."""
        masked = self.masked if self.ref_masked is None else self.ref_masked
        return self.with_columns(masked=masked, measured=None, ref_masked=None)
