"""The table of completions that travels through a training step, and the masks under which they are scored.

Axes: B rows, M masks, L prompt tokens, T completion tokens; E episodes in the table, in P groups of G each.
"""

import math
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
"""Values of `unmask_step`: NEVER for a place that stayed masked, GIVEN for a place whose token a template gave."""

Record = Literal["confidence_change", "fallback", "canvases", "accepted"]
"""Columns of `Rows`, (B, ..., T) each, that the sampler records only on request."""


class Rows:
    """A table with a row for each completion and named columns; columns are added as a step goes on.

    Usually a row is a whole episode. In an environment of several turns, each turn of an episode is a row, and an
    episode's rows stand together in order.

    A column is a tensor, an array or a list with an entry for each of the B rows, a mapping of columns, or another
    table, such as `Masks`. Any other value is a fact, which holds for all rows. `in` tells whether a column or fact is
    there. Tables are never changed; their methods return new ones.
    """

    prompt_ids: Tensor
    """(B, L) int64, left-padded."""
    prompt_mask: Tensor
    """(B, L) bool, false on padding."""
    completion_ids: Tensor
    """(B, T) int64 as sampled, also behind the first end token; the mask id where nothing was unmasked."""
    completion_mask: Tensor
    """(B, T) bool, true up to and including the first end token. If a template was filled in, this holds within each of
    its holes, and tokens that the template gave are false."""
    unmask_step: Tensor
    """(B, T) int64, the denoising step (0, 1, ... over the whole completion) that unmasked the token; -1 = never, -2 =
    a template gave the token."""
    unmask_logps: Tensor
    """(B, T) float32 (float64 if the model is), log-probability of the token at that step, at temperature 1; 0 where
    never unmasked. With --top-p or --top-k, it is taken in the distribution drawn from: tempered, cut, and without the
    mask id. --eos-penalty and --min-completion-length change it too: they first lower the logits of end tokens."""
    engine_log_ratio: Tensor
    """(B, T), type as `unmask_logps`, only with `--rollout-engine`: log(p / p_engine), where the model itself and the
    engine draw the token with these probabilities, at --temperature. It is 0 behind the end of the completion, in a
    last block that its length cuts, which the engine decoded whole, and at temperature 0. `unmask_logps` are then the
    model's own."""
    confidence_change: Tensor
    """(B, T), type as `unmask_logps`, how much the model's highest probability at a masked place changed because tokens
    near it (up to 10 places away) were written: the sum of the absolute changes from pass to pass, within its block;
    only if the masking needs it."""
    fallback: Tensor
    """(B, T) bool, whether `--unmasking threshold` wrote the token only because no token was sure enough; only if the
    masking needs it."""
    canvases: Tensor
    """(B, S + 1, T) int32, only for models that hide a token by a random one: what each canvas held before the first to
    the last of its S steps, and behind the last. Where a step accepted a token, the next canvas holds it."""
    accepted: Tensor
    """(B, S / 8 rounded up, T) uint8: bit s of the numbers of a place is 1 if step s accepted its token."""
    temperatures: tuple[float, ...] = ()
    """The temperature of each of the S steps; it stands beside `canvases`."""
    passes: Tensor
    """(B,) int64, on the CPU, how many steps each row took; it stands beside `canvases`. The last steps of a canvas may
    leave its text as it is, so that `unmask_step` does not tell."""
    pilot: Tensor
    """(B, M, T), what a first pass found at each token of its M copies, minus infinity elsewhere; only while masks are
    drawn that depend on it (`Masking.pilot`)."""

    problem: Tensor
    """(B,) int64, index of the problem in its environment. This column and the next four say where in the step a row
    is; they are on the CPU until a micro-batch is made."""
    generation: Tensor
    """(B,) int64, number of the episode within its group."""
    turn: Tensor
    """(B,) int64, number of the completion in its episode, from 0 on."""
    episode: Tensor
    """(B,) int64, number of the episode among those of all processes, group by group; ascending."""
    group: Tensor
    """(B,) int64, number of the group among those of all processes."""
    max_turns: int = 1
    """How many turns an episode may have; 1 = every row is an episode."""

    problems: "list[Problem]"
    """The problems that were asked. From here on, what holds for an episode, e.g. its reward, stands at each turn."""
    completions: list[str]
    """The texts that were written."""
    rewards: np.ndarray
    """(B,) float64; if an environment scored, the weighted sum of `components`. A tensor in `Algorithm.prepare`."""
    components: dict[str, np.ndarray]
    """{name of a reward: (B,) float64}, NaN where the problem's task has no such reward."""
    correct: np.ndarray
    """(B,) bool, whether the episode is right. In `Algorithm.prepare` a tensor, and only if the algorithm needs it."""
    reason: list[str]
    """The verifier's verdict in a word."""
    extracted: list[str | None]
    """The answer that the verifier found in the completion; None if it found none."""
    traceback: list[str | None]
    """The traceback if the author's `score` or `reply` raised, else None."""
    replies: list[str | None]
    """The environment's reply to each completion; None at the end of an episode."""
    truncated: np.ndarray
    """(B,) bool, whether the episode was cut off."""
    no_room: int = 0
    """How many episodes ended because the next prompt was too long for the model."""
    skipped: int | None = None
    """How many problems of the step, on all processes, were skipped as too long; None = --overlong does not skip."""
    chosen: tuple[int, ...] | None = None
    """Ascending numbers of the groups (of all processes) that the step learns from; None = all that were sampled."""
    batches: int | None = None
    """How many batches of problems were sampled for the step; None = --max-rollout-batches is 1."""

    share_done: float = 0.0
    """The share of the run's steps that were done before this one, 0 to 1."""
    advantages: Tensor
    """(B,) float64, from `Algorithm.prepare`; every other value that it returns becomes a column of its name, too."""
    token_weights: Tensor
    """(B, T) float64, only with --importance-sampling-mode token_truncate or token_mask: by what the gradient of each
    token's log-probability is multiplied (`training/importance.py`)."""
    quantile: Tensor
    """(B,) float64, the number of the row's episode divided by the number of episodes of the step: 0 to below 1."""

    shared_by: int = 1
    """How many processes hold these same rows; in a pass of an update, each computes its part of their columns."""
    totals: Mapping[str, float]
    """Counts over the update's completions on all processes: `completions` and `tokens` of all, `scored_completions`
    that change the loss (`Algorithm.active`), `rewarded_completions` with an advantage other than 0. The turns of an
    episode count as one completion."""
    masks: "Masks"
    """In a micro-batch: the masked copies of its completions."""
    masks_at_once: int
    """In a micro-batch: how many masked copies of each completion go through the model together, at most."""
    old_logps: Tensor
    """(B, M, T) float32 at scored positions, under the model that sampled; only if the algorithm needs them."""
    ref_logps: Tensor
    """(B, M, T) float32 at scored positions, under the reference model; only if the algorithm needs them."""
    measured: Tensor
    """(B, M, T) float32 with a graph, the figure that `Masks.measure` names, zero elsewhere; only if the algorithm
    needs it."""
    old_measured: Tensor
    """(B, M, T) float32, the same under the model that sampled; only if the algorithm needs old logps, too."""
    coefficients: Tensor
    """(B,) the derivative of a coupled loss by the bound of each completion; only if the loss is coupled."""
    totals_of_minibatches: tuple[dict[str, float], ...]
    """In a step: the `totals` of the updates with each of its minibatches."""
    counts_of_minibatches: tuple[dict[str, float], ...]
    """In a step: the divisors of sums over the completions of each of its minibatches."""

    def __init__(self, **columns: Any) -> None:
        vars(self).update(columns)

    def __getattr__(self, name: str) -> Any:
        # Python calls this only for names that are not there.
        raise AttributeError(f"these rows have no {name!r}. They have: {', '.join(vars(self))}.", name=name)

    def __contains__(self, name: str) -> bool:
        return name in vars(self)

    def __len__(self) -> int:
        return next(len(value) for value in vars(self).values() if _has_rows(value))

    def get(self, name: str, otherwise: Any = None) -> Any:
        """A column or fact, or `otherwise` if it is not there."""
        return vars(self).get(name, otherwise)

    def with_columns(self, **columns: Any) -> Self:
        """The same rows with columns or facts added, or replaced if they have the same name."""
        return self._with_values({**vars(self), **columns})

    def without(self, *names: str) -> Self:
        """The same rows without some columns or facts, if they are there."""
        return self._with_values({name: value for name, value in vars(self).items() if name not in names})

    def tensors(self) -> Self:
        """The same rows without arrays, lists and mappings of columns, as a model and a loss get them."""

        def is_kept(name: str, value: Any) -> bool:
            # `components` is the only mapping of columns. Any other mapping, such as `totals`, is a fact.
            is_fact = not _has_rows(value) and name != "components"
            return is_fact or isinstance(value, Tensor)

        return self._with_values({name: value for name, value in vars(self).items() if is_kept(name, value)})

    def select(self, index: Tensor) -> Self:
        """Some of the rows, in the order of `index`: (n,) int64, or (B,) bool."""
        if index.dtype == torch.bool:
            index = index.nonzero()[:, 0]
        on_device = {index.device: index}
        run = _run_of(index)

        def pick(column: Any) -> Any:
            if run is not None and isinstance(column, Tensor | np.ndarray):
                return column[run]  # a view, for which a GPU copies nothing
            if isinstance(column, Tensor):
                if column.device not in on_device:
                    on_device[column.device] = index.to(column.device)
                return column[on_device[column.device]]
            if isinstance(column, np.ndarray):
                return column[index.cpu().numpy()]
            return [column[row] for row in index.tolist()]

        return _change(self, pick)

    def to(self, device: str | torch.device) -> Self:
        """The same rows, with all tensors on a device."""
        return _change(self, lambda column: column.to(device) if isinstance(column, Tensor) else column)

    @classmethod
    def join(cls, parts: Sequence[Self]) -> Self:
        """The rows of all parts, one part after the other, with all prompts padded to the longest.

        All parts must have the columns of the first; facts are taken from the first.
        """
        if len(parts) == 1:
            return parts[0]
        if "prompt_ids" in vars(parts[0]):
            width = max(part.prompt_ids.shape[1] for part in parts)
            parts = [part._padded(width) for part in parts]
        names = vars(parts[0])
        return parts[0]._with_values({name: _join([vars(part)[name] for part in parts]) for name in names})

    def _with_values(self, values: Mapping[str, Any]) -> Self:
        """A table of the same class with these columns and facts alone."""
        table = object.__new__(type(self))
        vars(table).update(values)
        return table

    # The text of a completion.

    @property
    def length(self) -> Tensor:
        """(B,) int64, how many tokens of each completion are scored, the end token included."""
        known = vars(self).get("length")
        return self.completion_mask.sum(-1) if known is None else known

    @property
    def given(self) -> Tensor:
        """(B, T) bool, places whose tokens a template gave; all others are its holes, masked or filled."""
        return self.unmask_step == GIVEN

    def canvas(self, mask_id: int) -> Tensor:
        """(B, T) int64, the completion as the sampler began: a template's tokens, and the mask id everywhere else."""
        return self.completion_ids.masked_fill(~self.given, mask_id)

    def trim(self) -> Self:
        """The same rows without prompt columns that are padding in all of them; `masks` are cut in the same way."""
        longest_prompt = int(self.prompt_mask.sum(-1).max()) if len(self) else 0
        cut = self.prompt_mask.shape[1] - longest_prompt
        trimmed = self.with_columns(
            prompt_ids=self.prompt_ids[:, cut:], prompt_mask=self.prompt_mask[:, cut:]
        )
        return trimmed.with_columns(masks=self.masks.without_columns(cut)) if "masks" in self else trimmed

    def _padded(self, width: int) -> Self:
        """The same rows with prompts padded to `width` columns."""
        missing = (width - self.prompt_ids.shape[1], 0)
        return self.with_columns(
            prompt_ids=pad(self.prompt_ids, missing), prompt_mask=pad(self.prompt_mask, missing)
        )

    def fill_tail(self, pad_id: int) -> Self:
        """The same rows with padding behind the first end token, which is not scored."""
        tail = ~self.completion_mask & ~self.given
        return self.with_columns(completion_ids=self.completion_ids.masked_fill(tail, pad_id))

    def count_tail(self, pad_id: int) -> Self:
        """The same rows with padding behind the first end token; this padding is scored and counts as unmasked last.

        Base models are trained on such padding.
        """
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

    # The place of a row in its step.

    @classmethod
    def full_groups(cls, groups: int, generations: int, **columns: Any) -> Self:
        """A table of groups * generations episodes of one turn, with these columns; group g has problem g."""
        episode = torch.arange(groups * generations)
        group, generation = episode // generations, episode % generations
        place = {"problem": group, "generation": generation, "turn": torch.zeros_like(episode)}
        return cls(**place, episode=episode, group=group, **columns)

    @property
    def has_turns(self) -> bool:
        """Whether an episode may have several rows."""
        return self.max_turns > 1

    def with_turns(self) -> Self:
        """The same rows with a column `turn`: the number of each row within its episode."""
        numbers = torch.arange(len(self), device=self.episode.device)
        return self.with_columns(turn=numbers - torch.searchsorted(self.episode, self.episode))

    def units(self, compares: str) -> Tensor:
        """(B,) int64, the number of each row's unit; the rows of a unit stay together in an update.

        compares: `Algorithm.compares`. A unit is a group for "group", an episode for "episode", else a single row.
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
        """(P, G) of the P groups, from values (B,) that are equal at all turns of an episode (tensor or array).

        All groups must be whole.
        """
        last = self.last_turns
        return cut_into_groups(values[last], self.generation[last])

    def noise_keys(self, *turn_word: str) -> list[tuple[int | str, ...]]:
        """The key of each row's random stream: its problem and generation, from the second turn on also the turn.

        turn_word: is put before the turn, to tell this key from one that continues with another number. E.g. with
        "turn", the keys of two turns are (7, 0) and (7, 0, "turn", 1).
        """
        places = zip(self.problem.tolist(), self.generation.tolist(), self.turn.tolist(), strict=True)
        keys = []
        for problem, generation, turn in places:
            turn_key = (*turn_word, turn) if turn > 0 else ()
            keys.append((problem, generation, *turn_key))
        return keys

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
        """The rows that the step learns from, with episodes and groups renumbered without gaps."""
        if self.chosen is None:
            return self
        rows = self.select(torch.from_numpy(self.is_learned))
        # The new number of a group is its place in the ascending `chosen`: of [2, 5, 6], group 5 becomes group 1.
        group = torch.searchsorted(torch.tensor(self.chosen), rows.group)
        return rows.with_columns(group=group, episode=group * num_generations + rows.generation, chosen=None)

    # Values of rows to values of episodes, and back.

    def total(self, values: Tensor) -> Tensor:
        """(E,) the sums of values (B,) over the turns of each episode; the table's episodes in ascending order."""
        if not self.has_turns:
            return values
        ranks, count = self._episodes_at_hand()
        return values.new_zeros(count).index_add(0, ranks, values)

    def first(self, values: Tensor) -> Tensor:
        """(E,) the value, out of values (B,), of each episode's first row in the table."""
        if not self.has_turns:
            return values
        ranks, count = self._episodes_at_hand()
        rows = torch.arange(len(ranks), device=ranks.device)
        above_all_rows = rows.new_full((count,), len(ranks))
        first_rows = above_all_rows.scatter_reduce(0, ranks, rows, "amin")  # each episode's lowest row
        return values[first_rows]

    def spread(self, values: Tensor) -> Tensor:
        """(B, ...) from values (E, ...) of the table's episodes: each turn gets its episode's value."""
        if not self.has_turns:
            return values
        ranks, _ = self._episodes_at_hand()
        return values[ranks]

    def _episodes_at_hand(self) -> tuple[Tensor, int]:
        """((B,) the rank of each row's episode among the episodes in the table, how many of these there are)."""
        distinct, ranks = self.episode.unique(return_inverse=True)
        return ranks, len(distinct)


def cut_into_groups(values: Any, generation: Any) -> Any:
    """(P, G) from values (N,) of episodes, which stand group by group; tensors or arrays.

    generation: (N,) int64, the number of each episode in its group; a group begins where it is 0.
    """
    return values.reshape(int((generation == 0).sum()), -1)


def without_rounding(values: np.ndarray) -> np.ndarray:
    """The same values, but those that differ by rounding alone are equal: each is then the least of them.

    0.1 + 0.2 + 0.3 and 0.3 + 0.2 + 0.1 differ in float64. The tolerance of 1e-6 also covers sums of float32 numbers.
    """
    distinct, index = np.unique(values, return_inverse=True)
    for number, value in enumerate(distinct[1:], 1):
        if math.isclose(value, distinct[number - 1], rel_tol=1e-6, abs_tol=1e-9):
            distinct[number] = distinct[number - 1]
    return distinct[index].reshape(values.shape)


def _run_of(index: Tensor) -> slice | None:
    """The slice of the same rows if an index (n,) in the host's memory names neighbours in order; else None."""
    if index.device.type != "cpu" or not len(index):
        return None
    numbers = index.tolist()
    first, end = numbers[0], numbers[0] + len(numbers)
    return slice(first, end) if first >= 0 and numbers == list(range(first, end)) else None


def _has_rows(value: Any) -> bool:
    """Whether a value of a table is a column or another table, rather than a fact or a mapping."""
    return isinstance(value, Tensor | np.ndarray | list | Rows)


def _change(value: Any, change: Callable[[Any], Any]) -> Any:
    """A table, mapping or column with `change` applied to each column; a fact is returned as it is."""
    if isinstance(value, Mapping):
        return {name: _change(item, change) for name, item in value.items()}
    if isinstance(value, Rows):
        return value._with_values(_change(vars(value), change))
    return change(value) if _has_rows(value) else value


def _join(values: Sequence[Any]) -> Any:
    """The column or fact of the joined table, from those of its parts; mappings keep the names of the first part."""
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
    """The masked copies of some completions, and the weight of each scored token."""

    masked: Tensor
    """(B, M, L+T) bool, tokens shown as [MASK]: prompt noise, masked tokens, and all behind the end token."""
    scored: Tensor
    """(B, M, T) bool, the masked completion tokens whose log-probability counts."""
    weight: Tensor
    """(B, M, T) float64, importance weight of a token inside the drawn part; 0 where not scored."""
    scale: Tensor
    """(B,) float64, 1 / probability of the part of a completion that was drawn once for all M masks; 1 if the part is
    the whole completion."""
    part: Tensor
    """(B, T) bool, the tokens of that part."""
    shown: Tensor | None = None
    """(B, M, T) int64, the tokens that stand at masked places of the completion, which may be wrong ones that the model
    is to correct, or [MASK]; None = [MASK] stands at all of them."""
    targets: Tensor | None = None
    """(B, M, T) int64, the tokens that are scored; None = those of the completion."""
    temperatures: Tensor | None = None
    """(B, M) float64, the temperature at which the log-probabilities of a copy are taken; None = `temperature`."""
    from_context: Tensor | None = None
    """(B, M) bool, copies whose tokens are predicted from the clean text before them alone; None = those are the tokens
    that are scored and not masked."""
    conditioned: Tensor | None = None
    """(B, M) bool, copies that are conditioned on their own prediction, made by a first pass without a graph; None = no
    copy is."""
    rated: Tensor | None = None
    """(B, M) bool, copies whose scored tokens have the value `likelihood.logps.rate` in place of a log-probability;
    None = none have."""
    measured: Tensor | None = None
    """(B, M, T) bool, where another figure besides log-probabilities is computed, in copies that score something; None
    = nowhere."""
    measure: str = ""
    """The name of that figure in `spg_trainer.likelihood.logps.MEASURES`."""
    temperature: float = 1.0
    """The temperature at which log-probabilities are taken. Other than 1, it is the sampler's, and [MASK] has
    probability 0 as in sampling."""
    host: Mapping[str, np.ndarray] | None = None
    """{name: array} of what plans passes, in the host's memory, where masks are drawn: columns of `HOST_COLUMNS`, and
    "prompt_mask" of the same rows. A constructor leaves it out, as its columns may be others: it is read then
    (`on_host`)."""

    of_bounds: Mapping[str, Tensor] | None = None
    """What bounds need to know of the masks alone (`likelihood.bounds.known_of`), where masks are drawn, so that it is
    computed once for all parts of a step. A constructor leaves it out, as for `host`."""

    def __post_init__(self) -> None:
        vars(self)["host"] = vars(self)["of_bounds"] = None

    def with_columns(self, **columns: Any) -> Self:
        """As for `Rows`; of a column that is replaced, `host` has no copy any more, and `of_bounds` is left out."""
        changed = super().with_columns(**columns)
        values = dict(vars(changed))
        if self.host is not None and "host" not in columns:
            values["host"] = {name: array for name, array in self.host.items() if name not in columns}
        if {"scored", "weight", "scale", "part"} & columns.keys():
            values["of_bounds"] = None
        return changed._with_values(values)

    def on_host(self, prompt_mask: Tensor) -> dict[str, np.ndarray]:
        """`host` with all columns that there are; what it lacks is read from the device, which waits for it.

        prompt_mask: (B, L) bool, that of the rows.
        """
        known = dict(self.host or {})
        columns = {name: getattr(self, name) for name in HOST_COLUMNS} | {"prompt_mask": prompt_mask}
        return {
            name: known[name] if name in known else column.numpy(force=True)
            for name, column in columns.items()
            if column is not None
        }

    @property
    def valued(self) -> Tensor:
        """(B, M, T) bool, or (B, M, 2T) if a figure is measured: which values of a pass are computed, not left 0."""
        return self.scored if self.measured is None else torch.cat([self.scored, self.measured], -1)

    def split(self, values: Tensor) -> tuple[Tensor, Tensor | None]:
        """(log-probabilities (B, M, T), the measured figure (B, M, T) or None), from a pass's values as `valued`."""
        return (values, None) if self.measured is None else values.tensor_split(2, -1)

    def without_columns(self, cut: int) -> Self:
        """The same masks without the first `cut` columns of the prompt."""
        columns: dict[str, Any] = {"masked": self.masked[:, :, cut:]}
        if self.host is not None:
            cut_on_host = {
                name: array[..., cut:] if name in ("masked", "prompt_mask") else array
                for name, array in self.host.items()
            }
            columns["host"] = cut_on_host
        return self.with_columns(**columns)


HOST_COLUMNS = ("masked", "scored", "measured", "rated")
"""The columns of `Masks` that say what a pass computes, and in which shapes."""
