"""Log-probabilities of the scored tokens of masked completions, a few rows of logits at a time.

Axes: B completions, M masks, L prompt tokens, T completion tokens; S masked copies of completions, n scored positions,
r positions of a chunk, D hidden size, V vocabulary.

The logits of at most `chunk_rows` positions exist at once. The gradient has a closed form: where the coefficient of a
log-probability is known while its logits are there, they are computed once, else again for the backward pass. Whatever
the model's dtype, probabilities are float32, or float64 when it is.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn

from spg_trainer.tensors import Masks, Rollouts

Copies = tuple[Tensor, Tensor]
"""Masked copies by the numbers of their rows (S,) and of their masks (S,)."""


@torch.no_grad()
def token_logps(
    model: nn.Module,
    rollouts: Rollouts,
    masks: Masks,
    mask_id: int,
    masks_at_once: int = 1,
    linear: Tensor | None = None,
) -> Tensor:
    """Log-probabilities (B, M, T) of the scored tokens, zero where nothing is scored; no graph.

    mask_id, masks_at_once, linear: as for `accumulate`, which with equal ones finds equal values, bit for bit; in
    bfloat16 another shape of the batch may move the log-probability of a sequence by half a nat.
    """
    scorer = Scorer(model, rollouts, masks, mask_id, linear)
    for copies in scorer.passes(masks_at_once):
        scorer.score(copies)
    return scorer.logps


class Forward(NamedTuple):
    """Some masked copies after a pass through the model's body."""

    scored: Tensor
    """(S, T) bool, the positions whose log-probability is asked for."""
    targets: Tensor
    """(n,) int64, the tokens at the scored positions, in the order of `scored`."""
    states: Tensor
    """(n, D) the last hidden states there."""
    places: tuple[Tensor, Tensor, Tensor]
    """(n,) int64 each: the positions' completions, masks and tokens."""


class Chunk(NamedTuple):
    """Scored positions of a pass whose logits exist together."""

    positions: Tensor
    """(r,) int64, numbers among the n of the pass."""
    holds: str
    """What is in it as a whole: all of the `pass`, some of its `completions` or `copies`, or only `tokens`."""
    linear: bool
    """Whether all of its completions are `linear`."""


class Scorer:
    """One model and the masked copies it scores; linear: (B,) bool on the CPU, as for `accumulate`."""

    def __init__(
        self, model: nn.Module, rollouts: Rollouts, masks: Masks, mask_id: int, linear: Tensor | None = None
    ) -> None:
        from spg_trainer.models.states import head_weight

        self.model, self.rollouts, self.masks, self.mask_id = model, rollouts, masks, mask_id
        self.linear = torch.zeros(len(rollouts), dtype=torch.bool) if linear is None else linear
        self.weight = head_weight(model)
        self.chunk_rows = rows_per_chunk(self.weight.shape[0])
        self.logps = torch.zeros_like(masks.scored, dtype=result_dtype(self.weight))
        """(B, M, T), zero until scored."""
        self.written = 0
        """How many chunks of them."""

    def copies(self, start: int, stop: int) -> Copies:
        """Those of masks start..stop-1 that score anything, mask by mask."""
        masks, rows = self.masks.scored[:, start:stop].any(-1).T.nonzero(as_tuple=True)
        return rows, start + masks

    def passes(self, masks_at_once: int) -> list[Copies]:
        """All copies that score anything, mask by mask, up to `masks_at_once` times B of them at a time.

        Where several passes are needed, those of linear completions come first, and apart from the others.
        """
        rows, masks = self.copies(0, self.masks.scored.shape[1])
        limit = masks_at_once * len(self.rollouts)
        if len(rows) <= limit:
            return [(rows, masks)] if len(rows) else []
        linear, found = self.linear.to(rows.device)[rows], []
        for chosen in (linear, ~linear):
            copies = rows[chosen], masks[chosen]
            # The last pass is the full one: of a loss that waits for all logps, only that needs no second pass.
            parts = [len(copies[0]) % limit, *[limit] * (len(copies[0]) // limit)]
            parts = parts[parts[0] == 0 :]
            found += zip(*(numbers.split(parts) for numbers in copies), strict=True) if parts else []
        return found

    def forward(self, copies: Copies) -> Forward:
        """Sends copies through the model's body, whose last layer computes nothing but scored positions.

        Under block-causal attention a token sees its block as the mask shows it and earlier blocks clean, prompt noise
        apart; its state is the one that the sampler has, also where logits are shifted over a block's edge.
        """
        from spg_trainer.models.states import hidden_states

        rows, rollouts, scored = copies[0], self.rollouts, self.masks.scored[copies]
        completion_ids = rollouts.completion_ids[rows]
        masked, width = self.masks.masked[copies], rollouts.prompt_mask.shape[1]
        prompt_ids = rollouts.prompt_ids[rows].masked_fill(masked[:, :width], self.mask_id)
        clean = torch.cat([prompt_ids, completion_ids], dim=1)
        ids = clean.masked_fill(masked, self.mask_id)
        attention = torch.cat([rollouts.prompt_mask[rows], torch.ones_like(scored)], dim=1)
        copy, token = scored.nonzero(as_tuple=True)
        count = scored.sum(-1)
        # Each copy's scored columns first, then others up to the longest.
        keep = (~scored).to(torch.int8).argsort(dim=-1, stable=True)[:, : int(count.max())]
        asked = torch.arange(keep.shape[1], device=ids.device) < count[:, None]
        states = hidden_states(self.model, ids, attention, keep=keep + width, start=width, clean=clean)[asked]
        places = rows[copy], copies[1][copy], token
        return Forward(scored, completion_ids[scored], states, places)

    def are_linear(self, copies: Copies) -> bool:
        """Whether all of them are of linear completions."""
        return bool(self.linear[copies[0].cpu()].all())

    def chunks(self, out: Forward) -> list[Chunk]:
        """The positions of a pass in parts of up to `chunk_rows`.

        Completions stay together where they fit, else their copies: what a coefficient waits for is then known early.
        Those of linear completions wait for nothing and are cut evenly.
        """
        count, size = len(out.targets), self.chunk_rows
        positions = torch.arange(count, device=out.targets.device)
        rows, masks = (column.cpu() for column in out.places[:2])
        linear = self.linear[rows]
        if count <= size:
            return [Chunk(positions, "pass", bool(linear.all()))]
        free, bound = (chosen.nonzero().squeeze(-1) for chosen in (linear, ~linear))
        parts = [("tokens", True, part) for part in _evenly(free, size)]
        parts += [(holds, False, part) for holds, part in _by_units(bound, rows[bound], masks[bound], size)]
        return [Chunk(part.to(positions.device), holds, linear) for holds, linear, part in parts]

    def score(self, copies: Copies) -> None:
        """Writes the copies' `logps`."""
        out = self.forward(copies)
        for chunk in self.chunks(out):
            self.write(out, chunk, self.softmax(out, chunk)[2])

    def softmax(self, out: Forward, chunk: Chunk) -> tuple[Tensor, Tensor, "Softmax"]:
        """States (r, D), detached, and targets (r,) of a chunk, and the output layer there."""
        states, targets = out.states[chunk.positions].detach(), out.targets[chunk.positions]
        return states, targets, softmax(states, self.weight, targets)

    def write(self, out: Forward, chunk: Chunk, part: "Softmax") -> None:
        """Writes the `logps` of a chunk."""
        self.logps[at(out, chunk)] = part.logps
        self.written += 1


def at(out: Forward, chunk: Chunk) -> tuple[Tensor, ...]:
    """Where the positions of a chunk are among (B, M, T)."""
    return tuple(numbers[chunk.positions] for numbers in out.places)


class Softmax(NamedTuple):
    """The output layer at r positions."""

    powers: Tensor
    """(r, V) probabilities times `total`."""
    total: Tensor
    """(r,)."""
    logps: Tensor
    """(r,) log-probabilities of the targets."""
    normalisers: Tensor
    """(r,) log of the sum of all exponentials."""


@torch.no_grad()
def softmax(hidden_states: Tensor, weight: Tensor, targets: Tensor) -> Softmax:
    """From hidden states (r, D), weight (V, D) and targets (r,)."""
    logits = _logits(hidden_states, weight)
    chosen = logits.gather(-1, targets[:, None]).squeeze(-1)
    top = logits.amax(-1, keepdim=True)  # logsumexp in place: a second copy would double the peak
    parts = logits.split(columns_at_once(weight), -1)
    total = torch.stack([part.sub_(top).exp_().sum(-1) for part in parts]).sum(0)
    normalisers = total.log().add_(top.squeeze(-1))
    return Softmax(logits, total, chosen - normalisers, normalisers)


@torch.no_grad()
def head_logps(
    hidden_states: Tensor, weight: Tensor, targets: Tensor, chunk_rows: int
) -> tuple[Tensor, Tensor]:
    """Log-probabilities (n,) of the targets (n,) and log-normalisers (n,), from hidden states (n, D), weight (V, D)."""
    logps = torch.empty(len(hidden_states), dtype=result_dtype(weight), device=hidden_states.device)
    normalisers = torch.empty_like(logps)
    for rows in _chunks(len(hidden_states), chunk_rows):
        part = softmax(hidden_states[rows], weight, targets[rows])
        logps[rows], normalisers[rows] = part.logps, part.normalisers
    return logps, normalisers


@torch.no_grad()
def head_gradient(
    hidden_states: Tensor,
    weight: Tensor,
    targets: Tensor,
    coefficients: Tensor,
    chunk_rows: int,
    normalisers: Tensor | None = None,
    weight_gradient: Tensor | None = None,
) -> Tensor:
    """Gradient (n, D) of `sum(coefficients * logps)` with respect to the hidden states.

    coefficients: (n,). normalisers: (n,) from `head_logps`, else computed here, from the same logits. weight_gradient:
    (V, D), float32 or float64, to which the gradient with respect to the weight is added; None = not computed.
    """
    result = torch.empty_like(hidden_states)
    for rows in _chunks(len(hidden_states), chunk_rows):
        if normalisers is None:
            powers, total, *_ = softmax(hidden_states[rows], weight, targets[rows])
        else:
            powers, total = _logits(hidden_states[rows], weight), torch.ones_like(normalisers[rows])
            for part in powers.split(columns_at_once(weight), -1):
                part.sub_(normalisers[rows, None]).exp_()
        result[rows] = softmax_gradient(
            powers, total, hidden_states[rows], weight, targets[rows], coefficients[rows], weight_gradient
        )
    return result


@torch.no_grad()
def softmax_gradient(
    powers: Tensor,
    total: Tensor,
    hidden_states: Tensor,
    weight: Tensor,
    targets: Tensor,
    coefficients: Tensor,
    weight_gradient: Tensor | None,
) -> Tensor:
    """`head_gradient` (r, D) from what is left of a softmax: probabilities are powers / total.

    powers: (r, V), overwritten. total: (r,).
    """
    # Rounded after the difference from the target's 1, and scaled where there are D numbers for V.
    score = powers.scatter_add_(-1, targets[:, None], -total[:, None]).to(weight.dtype)
    scale = (-coefficients.to(powers.dtype) / total).unsqueeze(-1)
    if weight_gradient is not None:
        states = (scale * hidden_states).to(weight.dtype)
        if weight_gradient.dtype == weight.dtype:
            weight_gradient.addmm_(score.T, states)
        else:
            weight_gradient.add_(score.T @ states)
    return (scale * (score @ weight)).to(hidden_states.dtype)


def rows_per_chunk(vocabulary: int) -> int:
    """How many positions are scored at once: 128 MB of float32 logits."""
    return max(16, 2**25 // vocabulary)


CPU_COLUMNS = 2048
"""Of the vocabulary at once: logits of 256 positions are then 2 MB."""


def columns_at_once(head: Tensor) -> int:
    """How much of the vocabulary to work on at a time: what stays in a core's cache on a CPU, else all of it."""
    return CPU_COLUMNS if head.device.type == "cpu" else head.shape[0]


def result_dtype(weight: Tensor) -> torch.dtype:
    """The dtype of probabilities: float32, or float64 when the model is."""
    return torch.promote_types(weight.dtype, torch.float32)


def _logits(hidden_states: Tensor, weight: Tensor) -> Tensor:
    """(r, V) logits, float32 or float64; the product itself is in the weight's dtype, as in the model."""
    return (hidden_states.to(weight.dtype) @ weight.T).to(result_dtype(weight))


def _chunks(count: int, size: int) -> Iterator[slice]:
    return (slice(start, start + size) for start in range(0, count, size))


def _evenly(numbers: Tensor, size: int) -> list[Tensor]:
    """Parts of nearly equal length, up to `size`; none of nothing."""
    return list(numbers.tensor_split(-(-len(numbers) // size))) if len(numbers) else []


def _by_units(positions: Tensor, rows: Tensor, masks: Tensor, size: int) -> list[tuple[str, Tensor]]:
    """Positions in parts of up to `size`, each of whole completions, of whole copies of longer ones, or of tokens."""
    units: dict[str, list[Tensor]] = {"completions": [], "copies": [], "tokens": []}
    for row in rows.unique().tolist():
        its = rows == row
        if int(its.sum()) <= size:
            units["completions"].append(positions[its])
            continue
        for mask in masks[its].unique().tolist():
            copy = positions[its & (masks == mask)]
            if len(copy) <= size:
                units["copies"].append(copy)
            else:
                units["tokens"] += _evenly(copy, size)
    return [(holds, part) for holds, some in units.items() for part in _pack(some, size)]


def _pack(units: list[Tensor], size: int) -> list[Tensor]:
    """Units joined in their order to parts of up to `size`."""
    parts: list[list[Tensor]] = []
    for unit in units:
        if parts and sum(map(len, parts[-1])) + len(unit) <= size:
            parts[-1].append(unit)
        else:
            parts.append([unit])
    return [torch.cat(part) for part in parts]
