"""The base class of maskings: a masking says which tokens the model is shown as [MASK], and which of them are scored.

This file has the class that all maskings share, and the random streams from which masks are drawn. The maskings
themselves and the table {name: masking} are in random_masks.py; those of what the sampler saw are in path_masks.py.

Axes: B completions, M masks, L prompt tokens, T places of a completion. The T places are its canvas; n <= T is the
number of its tokens, up to and including the first end token. All randomness comes from the streams that the caller
hands in, so a draw depends neither on the padded width of the prompt nor on the other rows.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from types import MappingProxyType
from typing import ClassVar, Literal, NamedTuple, Protocol, get_args

import numpy as np
import torch

from spg_trainer.architecture.pattern import Pattern
from spg_trainer.errors import ConfigError
from spg_trainer.likelihood.bounds import known_of
from spg_trainer.seeding import numpy_generator
from spg_trainer.tensors import GIVEN, HOST_COLUMNS, Masks, Record, Rows


class Streams(Protocol):
    """The streams of B rows. Each call returns a new generator, at the beginning of its stream."""

    def of_mask(self, row: int, mask: int) -> np.random.Generator:
        """For draws of one masked copy of a row alone."""

    def of_row(self, row: int) -> np.random.Generator:
        """For draws that all copies of a row share."""

    def of_iterations(self, row: int) -> np.random.Generator:
        """For draws that all copies of a row share in all iterations of a step."""

    def of_everyone(self, mask: int) -> np.random.Generator:
        """For draws that the copies of this number share in all rows of a step."""

    def of_noise(self, row: int, mask: int) -> np.random.Generator:
        """For the tokens that stand at hidden places of one copy of a row."""


@dataclass(frozen=True)
class KeyedStreams:
    """`Streams` that depend on a seed and on the key of a row, but not on the number of the row.

    So a completion has the same masks in any process and any place of the batch.
    """

    seed: int
    purpose: tuple[int | str, ...]
    """The part of the key that all masks of a step have, e.g. ("masks", step)."""
    row_keys: Sequence[tuple[int | str, ...]]
    """(B,) the part of the key that tells the rows apart, e.g. `Rows.noise_keys`."""
    update: tuple[int, ...] = ()
    """The part of the key that tells the iterations of a step apart: (iteration,), or () if there is only one."""

    # Masks are numbered from 0. The streams of a whole row have -1 and -2 in place of the number of a mask.

    def of_mask(self, row: int, mask: int) -> np.random.Generator:
        return numpy_generator(self.seed, *self.purpose, *self.row_keys[row], *self.update, mask)

    def of_row(self, row: int) -> np.random.Generator:
        return numpy_generator(self.seed, *self.purpose, *self.row_keys[row], *self.update, -1)

    def of_iterations(self, row: int) -> np.random.Generator:
        return numpy_generator(self.seed, *self.purpose, *self.row_keys[row], -2)

    def of_everyone(self, mask: int) -> np.random.Generator:
        return numpy_generator(self.seed, *self.purpose, "all", *self.update, mask)

    def of_noise(self, row: int, mask: int) -> np.random.Generator:
        return numpy_generator(self.seed, *self.purpose, *self.row_keys[row], *self.update, mask, "noise")


class RowStreams:
    """The streams of one row. A stream that is asked for again is the same generator, and goes on where it was.

    Only `of_everyone` returns a new generator each time, at the beginning of its stream.
    """

    def __init__(self, streams: Streams, row: int) -> None:
        self.of_mask = cache(partial(streams.of_mask, row))
        self.of_row = cache(partial(streams.of_row, row))
        self.of_iterations = cache(partial(streams.of_iterations, row))
        self.of_everyone = streams.of_everyone


TOKEN_COLUMNS = (*get_args(Record), "pilot")
"""The columns of `Rows` with values of each token that a masking may read: those of a rollout, which it names in
`records`, and what a first pass found (`Masking.pilot`)."""


class Completion(NamedTuple):
    """One completion as a masking sees it: its tokens, when the sampler wrote them, and where randomness comes from.

    Its arrays have T entries, of which the first n are the tokens that may be scored. Usually entry i stands at place i
    of the canvas. This changes if the environment gives some tokens (a *template*), so that the sampler writes only the
    gaps between them (*holes*). Then the entries are sorted:

    1. the n tokens that the sampler wrote in holes, up to and including the first end token of each hole;
    2. what stands after these end tokens;
    3. the given tokens, which are shown whatever a masking says.

    E.g. let the T = 5 places be `a7bE.`: "7" is given, "a" is the first hole and `bE.` the second, in which "E" is an
    end token. The entries stand at the places [0, 2, 3, 4, 1], and n = 3.
    """

    length: int
    """n, how many tokens it has."""
    size: int
    """T, how many places it has."""
    place: np.ndarray
    """(T,) int, the place on the canvas where each entry stands."""
    unmask_step: np.ndarray
    """(T,) int, the denoising step that wrote the entry, below 0 = no step did."""
    surprise: np.ndarray
    """(T,) the negative log-probability of each token when it was unmasked, in nats."""
    streams: RowStreams
    """Where a masking draws its random numbers; a stream that is asked for again goes on where it was."""
    progress: float
    """How far the iterations of the step have come: 0 in the first, 1 in the last."""
    quantile: float
    """The row's number among all rows, divided by the number of rows: 0 to below 1."""
    recorded: Mapping[str, np.ndarray] = MappingProxyType({})
    """{name: values} of the columns `TOKEN_COLUMNS` that the rows have, (..., T) each, in the order of entries."""
    temperatures: tuple[float, ...] = ()
    """As `Rows.temperatures`."""

    def blocks(self, block_length: int) -> tuple[np.ndarray, np.ndarray]:
        """(starts, stops) of the blocks that hold any of the n tokens, (blocks,) each: their first entries and ends.

        E.g. blocks of 4 and n = 9: starts 0, 4, 8 and stops 4, 8, 9.
        """
        block = self.place[: self.length] // block_length
        starts = np.flatnonzero(np.diff(block, prepend=-1))
        return starts, np.append(starts[1:], self.length)


class Copies(NamedTuple):
    """All M masked copies of one completion; T is the axis of its entries, in the order of `Completion`."""

    masked: np.ndarray
    """(M, T) bool, which entries are shown as [MASK]."""
    scored: np.ndarray
    """(M, T) bool, the entries whose log-probability counts: masked ones, except in a clean copy (`ContextMasking`)."""
    weight: np.ndarray | float
    """What a scored token weighs in the bound; anything that broadcasts to (M, T)."""
    part: slice = slice(None)
    """Which of the n tokens the masks are about: all, or only a part that was drawn, such as one block."""
    scale: float = 1.0
    """1 / the probability with which `part` is drawn."""
    conditioned: np.ndarray | None = None
    """(M,) bool, copies that are conditioned on their own prediction (`Masks.conditioned`); None = none."""
    from_context: np.ndarray | None = None
    """(M,) bool, copies whose tokens are predicted from the clean text before them alone; None = none."""
    rated: np.ndarray | None = None
    """(M,) bool, copies whose scored tokens have the value `likelihood.logps.rate`; None = none."""
    shown: np.ndarray | None = None
    """(M, T) int, what stands at hidden places (`Masks.shown`); None = [MASK], or tokens that are drawn later."""
    targets: np.ndarray | None = None
    """(M, T) int, the tokens that are scored (`Masks.targets`); None = those of the completion."""
    temperatures: np.ndarray | None = None
    """(M,) float, at which the log-probabilities of each copy are taken; None = `Masking.score_temperature`."""
    measured: np.ndarray | None = None
    """(M, T) bool, where another figure besides log-probabilities is computed (`Masks.measured`); None = nowhere."""


@dataclass(frozen=True)
class Masking(ABC):
    """How completions are masked for scoring; its fields are set by the algorithm's fields of the same names.

    num_masks: M, >= 1. p_mask_prompt: the chance that a prompt token (not padding) is masked; in [0, 1).
    score_temperature: as `Masks.temperature`.
    """

    num_masks: int = 2
    p_mask_prompt: float = 0.0
    score_temperature: float = field(default=1.0, kw_only=True)

    varies_context: ClassVar[bool] = True
    """Whether different masks show the same token in different contexts."""
    is_likelihood: ClassVar[bool] = True
    """Whether the mean of the ELBO over all masks that can be drawn is a log-likelihood or a bound on one. Where it
    is False, the algorithms that compare the likelihoods of completions refuse the masking."""
    follows_path: ClassVar[bool] = False
    """Whether copies show, or scored tokens are drawn by, how the sampler wrote the completion: its steps or order."""
    noise: ClassVar[Literal["mask", "uniform"]] = "mask"
    """For which models the masking is: those that hide a token by [MASK], or by a token drawn uniformly."""
    target: ClassVar[str] = ""
    """What the mean of the ELBO over all masks is: a name of `TARGETS` in checking/targets.py (`algorithms check` tries
    whether this holds), "own" if the docstring states another target, or "" if there is none because `is_likelihood` is
    False."""
    figures: ClassVar[Mapping[str, str]] = {}
    """{name of a metric in a loss, such as `bound/elbo`: its name in metrics.jsonl}, where it means something else."""
    meaning: ClassVar[str] = ""
    """What the mean of the ELBO over all masks is, in words, where `target` does not say it."""
    measure: ClassVar[str] = ""
    """The name in `logps.MEASURES` of what is measured where `Copies.measured` is true; "" = nothing."""
    records: ClassVar[frozenset[Record]] = frozenset()
    """What a rollout must record for this masking, in addition to what the algorithm itself needs."""
    pilot: ClassVar["Masking | None"] = None
    """A masking whose copies the model scores first, without a graph; None = no such pass. `Completion.recorded` then
    has "pilot", (its M, T): what it measures, or else log-probabilities; minus infinity elsewhere."""

    @property
    def has_eubo(self) -> bool:
        """Whether an upper bound (`bounds.eubo`) can be formed: it compares at least two contexts of one token."""
        return self.varies_context and self.num_masks > 1

    def check(self, size: int) -> None:
        """Raises ConfigError if completions of `size` places cannot be masked this way; by default all can."""
        return

    def check_pattern(self, pattern: Pattern) -> None:
        """Raises ConfigError if this masking does not suit the attention of a model; by default it suits any."""
        return

    def count(self, size: int) -> int:
        """M for completions of `size` places."""
        return self.num_masks

    def sequences(self, size: int, pattern: Pattern) -> int:
        """How many sequences the model reads, at most, for all M copies of a completion of `size` places.

        By default M, since each copy is a sequence of its own; block replay (logps.py) puts several copies into one
        sequence. pattern: the attention of the model.
        """
        return self.count(size)

    @abstractmethod
    def copies(self, row: Completion) -> Copies:
        """All masked copies of a completion, `count(T)` of them."""

    def draw(self, rows: Rows, streams: Streams, iteration: int = 0, num_iterations: int = 1) -> Masks:
        """Masks M copies of every completion; returns their `Masks`, on the device of the rows.

        If the rows have no column `quantile`, they are taken to be all rows of a step. iteration: the number of the
        step's iteration, from 0 to below num_iterations. Raises ConfigError if a position that was never unmasked would
        be scored: training on it would raise the probability of [MASK] itself.
        """
        prompt_mask, unmask_step = rows.prompt_mask.cpu().numpy(), rows.unmask_step.cpu().numpy()
        batch_size, width = prompt_mask.shape  # B, L
        size = unmask_step.shape[1]  # T
        self.check(size)
        num_masks = self.count(size)
        masked = np.zeros((batch_size, num_masks, width + size), dtype=bool)
        scored = np.zeros((batch_size, num_masks, size), dtype=bool)
        weight = np.zeros((batch_size, num_masks, size))
        scale = np.ones(batch_size)
        part = np.zeros((batch_size, size), dtype=bool)
        measured = np.zeros_like(scored) if self.measure else None
        of_copies: dict[str, list[np.ndarray]] = {
            "conditioned": [],
            "from_context": [],
            "rated": [],
            "temperatures": [],
        }  # (M,) of each row
        of_tokens: dict[str, np.ndarray] = {}  # (B, M, T)
        if self.pilot is not None and "pilot" not in rows:
            raise ConfigError(
                f"{type(self).__name__} needs a pass of the model before its masks are drawn, which only a training "
                "makes. Use $algorithm_args masking=random."
            )
        if missing := sorted(name for name in self.records if name not in rows):
            raise ConfigError(
                f"{type(self).__name__} needs what only a rollout records: {', '.join(missing)}. Use $algorithm_args "
                "masking=random for completions that are given."
            )
        for row, completion in enumerate(completions_of(rows, streams, iteration, num_iterations)):
            copies = self.copies(completion)
            place = completion.place  # copies are indexed by entries, these arrays by places
            masked[row][:, width + place] = copies.masked
            scored[row][:, place] = copies.scored
            weight[row][:, place] = np.where(copies.scored, copies.weight, 0.0)
            scale[row] = copies.scale
            for name, values in of_copies.items():
                if (value := getattr(copies, name)) is not None:
                    values.append(value)
            for name in ("shown", "targets"):
                if (value := getattr(copies, name)) is not None:
                    of_tokens.setdefault(name, np.zeros(scored.shape, np.int64))[row][:, place] = value
            places_of_tokens = place[: completion.length]
            part[row, places_of_tokens[copies.part]] = True
            if self.p_mask_prompt > 0:
                prompt_tokens = np.flatnonzero(prompt_mask[row])  # the columns that are not padding
                for mask in range(num_masks):
                    # The stream goes on after the draws of `copies`.
                    noise = completion.streams.of_mask(mask).random(len(prompt_tokens))
                    masked[row, mask, prompt_tokens] = noise < self.p_mask_prompt
            if measured is not None:
                measured[row][:, place] = copies.measured
        was_given = (unmask_step == GIVEN)[:, None]  # tokens of a template, which are always shown
        masked[:, :, width:] &= ~was_given
        if (scored & (unmask_step < 0)[:, None]).any():
            raise ConfigError(
                f"{type(self).__name__} scores positions that were never unmasked, which would train the probability "
                "of [MASK]. Score up to the first end token (completion_mask), or set score_tail=true."
            )
        arrays = {"masked": masked, "scored": scored, "weight": weight, "scale": scale, "part": part}
        arrays["measured"] = measured
        arrays |= {name: np.stack(values) for name, values in of_copies.items() if values} | of_tokens
        device = rows.completion_ids.device
        tensors = {
            name: torch.from_numpy(array).to(device) for name, array in arrays.items() if array is not None
        }
        masks = Masks(measure=self.measure, temperature=self.score_temperature, **tensors)
        # Passes are planned from these arrays: nothing waits for a card to say what was sent to it.
        planning = {
            name: array for name, array in arrays.items() if name in HOST_COLUMNS and array is not None
        }
        of_bounds = known_of(masks, torch.float32) if self.has_eubo else None
        return masks.with_columns(host=planning | {"prompt_mask": prompt_mask}, of_bounds=of_bounds)


def completions_of(rows: Rows, streams: Streams, iteration: int, num_iterations: int) -> Iterator[Completion]:
    """Yields the `Completion` of each row, in order."""
    unmask_step, is_token = rows.unmask_step.cpu().numpy(), rows.completion_mask.cpu().numpy()
    lengths = is_token.sum(-1).tolist()
    if "quantile" in rows:
        quantiles = rows.quantile.tolist()
    else:
        quantiles = (torch.arange(len(rows)).double() / len(rows)).tolist()
    # Entries are ordered by kind: the n tokens (0), what is after the ends (1), what was given (2). Without a
    # template, this is the order of places.
    kind = np.where(is_token, 0, 1)
    kind[unmask_step == GIVEN] = 2
    places = np.argsort(kind, axis=-1, kind="stable")
    surprise = -rows.unmask_logps.double().cpu().numpy()
    recorded = {
        name: (column.double() if column.is_floating_point() else column).cpu().numpy()
        for name in TOKEN_COLUMNS
        if (column := rows.get(name)) is not None
    }
    for row, place in enumerate(places):
        yield Completion(
            length=lengths[row],
            size=unmask_step.shape[1],
            place=place,
            unmask_step=unmask_step[row][place],
            surprise=surprise[row][place],
            streams=RowStreams(streams, row),
            progress=iteration / max(1, num_iterations - 1),
            quantile=quantiles[row],
            recorded={name: column[row][..., place] for name, column in recorded.items()},
            temperatures=rows.temperatures,
        )


def copies_of_scored(row: Completion, scored: np.ndarray, weight: np.ndarray | float) -> Copies:
    """Copies that mask the scored tokens and everything after the end, and show all other tokens.

    scored: (M, n) bool. weight: broadcasts to (M, n).
    """
    shape = len(scored), row.size  # (M, T), of which the first n columns are the tokens
    all_masked, all_scored, all_weight = np.ones(shape, bool), np.zeros(shape, bool), np.zeros(shape)
    all_masked[:, : row.length] = scored
    all_scored[:, : row.length] = scored
    all_weight[:, : row.length] = weight
    return Copies(all_masked, all_scored, all_weight)


def count_scored(scored: np.ndarray) -> np.ndarray:
    """(M, 1) how many tokens each copy scores; 1 for a copy that scores none, as this is a divisor."""
    return scored.sum(-1, keepdims=True).clip(min=1)


def random_subset(stream: np.random.Generator, size: int, count: int | None = None) -> np.ndarray:
    """(size,) bool, true at `count` places that are drawn uniformly; None = the count is drawn, too, from 1..size."""
    if count is None:
        count = stream.integers(1, size + 1)
    chosen = np.zeros(size, dtype=bool)
    chosen[stream.permutation(size)[:count]] = True
    return chosen
