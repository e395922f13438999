"""Log-probabilities of the scored tokens of masked completions, a few rows of logits at a time.

Axes: B completions, M masks, L prompt tokens, T completion tokens; Q sequences of masked copies, n scored positions,
r positions of a chunk, D hidden size, V vocabulary; S copies.

*Block replay*: a masked copy is a completion with some tokens masked; it *scores* tokens, that is, the model computes
their log-probabilities. Under block-causal attention a token is predicted from what its own block shows, from the
prompt, and from earlier blocks without their masks (`score`). What a copy shows in another block reaches none of the
tokens that it scores. So copies of one completion under the same masks of the prompt can share a sequence, as long as
each block is scored by only one of them: the block then stands there as that copy shows it. Log-probabilities and
gradients are the same as if each copy had a sequence of its own, up to rounding. E.g. a path of 128 steps in 8 blocks,
with a copy for each step, takes 16 sequences.

The logits of at most `rows_per_chunk` positions exist at once. This holds in the backward pass, too, because the
gradient of the output layer (the head) is written out here in closed form. If the head's weight is trained, the logits
of `chunks_to_keep` times as many positions exist. Probabilities are float32, or float64 if the model is.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from spg_trainer.architecture.head import head_logits, result_dtype
from spg_trainer.architecture.pattern import Pattern
from spg_trainer.distributed import process_mesh
from spg_trainer.tensors import NEVER, Masks, Rows

if TYPE_CHECKING:
    from spg_trainer.models import Policy


class CopyIndex(NamedTuple):
    """Some masked copies, and which of them go through the model as one sequence; in the host's memory."""

    row: np.ndarray
    """(S,) int64, the completion of each copy."""
    mask: np.ndarray
    """(S,) int64, which of the M copies of its completion it is."""
    sequence: np.ndarray
    """(S,) int64, in ascending order: copies with the same number share a sequence."""

    def select(self, chosen: np.ndarray) -> "CopyIndex":
        """Some of the copies. chosen: (S,) bool."""
        return CopyIndex(*(column[chosen] for column in self))


def index_copies(pattern: Pattern, rollouts: Rows, masks: Masks) -> CopyIndex:
    """All copies that score anything, in the order of their sequences.

    Under full attention, each copy is a sequence, first copy 0 of all completions, then copy 1 and so on.
    """
    host = masks.on_host(rollouts.prompt_mask)
    mask, row = host["scored"].any(-1).T.nonzero()
    if pattern.is_full or not len(row):
        return CopyIndex(row, mask, np.arange(len(row)))
    number_in_row = np.array(_numbers_in_completion(pattern, host, row, mask))
    # Sequences are sorted by their number in their completion, then by completion, so that the sequences of a pass are
    # of different completions where possible.
    num_rows = len(host["scored"])
    _, sequence = np.unique(number_in_row * num_rows + row, return_inverse=True)
    order = sequence.argsort(kind="stable")
    return CopyIndex(row[order], mask[order], sequence[order])


def _numbers_in_completion(
    pattern: Pattern, host: dict[str, np.ndarray], row: np.ndarray, mask: np.ndarray
) -> list[int]:
    """For each of S copies, the number of its sequence among those of its completion, from 0.

    The copies are taken in the order of the first block that they score. Each copy goes into the first sequence in
    which all its blocks are free. If the blocks of each copy are neighbours, no other division needs fewer sequences.
    host: as from `Masks.on_host`.
    """
    blocks_taken, _ = _blocks_taken(pattern, host, row, mask)
    prompts = host["masked"][row, mask, : host["prompt_mask"].shape[1]]

    def as_bits(blocks: list[bool]) -> int:
        return sum(1 << block for block, is_taken in enumerate(blocks) if is_taken)

    blocks_as_bits = [as_bits(blocks) for blocks in blocks_taken.tolist()]
    first_block, rows = blocks_taken.argmax(-1).tolist(), row.tolist()
    # {completion: [(masks of the prompt, blocks that are taken) of each of its sequences]}
    sequences = defaultdict(list)
    numbers = [0] * len(rows)
    for copy in sorted(range(len(rows)), key=first_block.__getitem__):
        prompt, blocks = prompts[copy].tobytes(), blocks_as_bits[copy]
        sequences_here = sequences[rows[copy]]
        number = 0  # of the first sequence with the same prompt in which the copy's blocks are free
        for prompt_of_sequence, blocks_of_sequence in sequences_here:
            if prompt_of_sequence == prompt and not blocks_of_sequence & blocks:
                break
            number += 1
        if number == len(sequences_here):
            sequences_here.append((prompt, 0))
        _, taken_before = sequences_here[number]
        sequences_here[number] = (prompt, taken_before | blocks)
        numbers[copy] = number
    return numbers


def sequences_of(
    pattern: Pattern, host: dict[str, np.ndarray], copies: CopyIndex
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray | None, np.ndarray]:
    """The sequences of some copies, e.g. those of a pass: under full attention, each copy; else several copies joined.

    host: as from `Masks.on_host`.

    Returns:
        row: (Q,) int64, the completion of each sequence.
        masked: (Q, L+T) bool, what the sequence shows as [MASK].
        scored: (Q, T) bool, which of its tokens are scored.
        measured: (Q, T) bool, where a figure is measured (`Masks.measured`); None if the masks measure nothing.
        mask_of_place: (Q, T) int64, which copy of the completion scores or measures each place.
    """
    row, mask, sequence = copies
    masked, scored = host["masked"][row, mask], host["scored"][row, mask]
    measured = host["measured"][row, mask] if "measured" in host else None
    mask_of_place = np.broadcast_to(mask[:, None], scored.shape)
    if pattern.is_full:
        return row, masked, scored, measured, mask_of_place
    numbers, sequence = np.unique(sequence, return_inverse=True)
    _, is_own = _blocks_taken(pattern, host, row, mask)

    def joined(values: np.ndarray) -> np.ndarray:
        """(Q, T) int64, from values (S, T): at each place, that of the copy that takes its block; 0 if none does."""
        sums = np.zeros((len(numbers), values.shape[1]), dtype=np.int64)
        np.add.at(sums, sequence, values * is_own)
        return sums

    # The copies of a sequence share the completion and the masks of the prompt, so any one of them stands for all.
    one_copy = np.empty_like(numbers)
    one_copy[sequence] = np.arange(len(row))
    width = host["prompt_mask"].shape[1]
    masked_of_sequence = np.concatenate(
        [masked[one_copy, :width], joined(masked[:, width:]).astype(bool)], axis=1
    )
    measured_of_sequence = None if measured is None else joined(measured).astype(bool)
    return (
        row[one_copy],
        masked_of_sequence,
        joined(scored).astype(bool),
        measured_of_sequence,
        joined(mask_of_place),
    )


def _blocks_taken(
    pattern: Pattern, host: dict[str, np.ndarray], row: np.ndarray, mask: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(taken, is_own): which blocks of attention each copy takes, (S, blocks) bool, and which places they have, (S, T).

    A copy takes the blocks in which it scores or measures anything. host: as from `Masks.on_host`.
    """
    prompt_mask, scored = host["prompt_mask"], host["scored"]
    width = prompt_mask.shape[1]
    real = np.concatenate([prompt_mask, np.ones((len(prompt_mask), scored.shape[-1]), bool)], axis=1)
    block = pattern.blocks(torch.from_numpy(real), width).numpy()[row, width:]
    wanted = scored[row, mask]
    if "measured" in host:
        wanted = wanted | host["measured"][row, mask]
    copy, place = wanted.nonzero()
    taken = np.zeros((len(row), block.max() + 1), dtype=bool)
    taken[copy, block[copy, place]] = True
    return taken, np.take_along_axis(taken, block, axis=1)


@torch.no_grad()
def token_logps(policy: "Policy", rollouts: Rows, masks: Masks, masks_at_once: int = 1) -> Tensor:
    """Log-probabilities (B, M, T) of the scored tokens of all copies, without a graph; zero where not scored.

    If the masks name a measure (`likelihood/logps.py`), the result is (B, M, 2T), as in `score`. masks_at_once:
    as for `gradient.accumulate`. With the same arguments both functions make the same passes, so that their values are
    equal, bit for bit. (In bfloat16 a pass of another shape may move the log-probability of a sequence by half a nat.)
    """
    logps = zero_logps(policy, masks)
    for copies in divide_into_passes(policy, rollouts, masks, masks_at_once):
        logps = logps + score(policy, rollouts, masks, copies)
    return logps


def path_logps(policy: "Policy", rollouts: Rows, temperature: float = 1.0) -> Tensor:
    """(B, T) log-probability of each token given all that had been unmasked before its step, computed without a cache.

    temperature: as in `score`; other than 1, the log-probabilities are those with which tokens are drawn.

    There is one masked copy of a completion for each of S denoising steps: it shows what the sampler saw before that
    step, and scores the tokens which that step unmasked, up to the end of the completion.
    """
    unmask_step = rollouts.unmask_step[:, None]  # (B, 1, T)
    step = torch.arange(int(unmask_step.max()) + 1, device=unmask_step.device)[:, None]  # (S, 1)
    scored = (unmask_step == step) & rollouts.completion_mask[:, None]  # (B, S, T)
    masked = (unmask_step >= step) | (unmask_step == NEVER)
    no_prompt_token = masked.new_zeros(*masked.shape[:2], rollouts.prompt_ids.shape[1])
    # `token_logps` reads only `masked` and `scored`. The other fields say that each scored token counts once.
    masks = Masks(
        masked=torch.cat([no_prompt_token, masked], -1),
        scored=scored,
        weight=scored.double(),
        scale=torch.ones(len(rollouts), dtype=torch.float64, device=step.device),
        part=rollouts.completion_mask,
        temperature=temperature,
    )
    return token_logps(policy, rollouts, masks).sum(1)


def divide_into_passes(policy: "Policy", rollouts: Rows, masks: Masks, masks_at_once: int) -> list[CopyIndex]:
    """Divides the copies that score anything into passes, mask by mask; a pass has up to masks_at_once * B sequences.

    A sequence is a copy or, under block-causal attention, several copies that score different blocks (block replay).
    Only the first pass may be smaller than the others: 7 sequences, 3 at a time, are passes of 1, 3 and 3.
    `gradient.accumulate` may send all but the last through the model twice, so the last one should be full.
    """
    from spg_trainer.models.forward import base_model

    copies = index_copies(base_model(policy.model).pattern, rollouts, masks)
    if not len(copies.row):
        return []
    limit = masks_at_once * len(masks.scored)
    # The first pass has what is left over. `missing` is how many sequences it lacks: 2 for 7 sequences, 3 at a time
    # (-7 % 3). The sequences are numbered as if it were full, so that the quotient by `limit` numbers the passes.
    num_sequences = int(copies.sequence[-1]) + 1
    missing = -num_sequences % limit
    numbers = (copies.sequence + missing) // limit
    return [copies.select(numbers == number) for number in range(int(numbers[-1]) + 1)]


def zero_logps(policy: "Policy", masks: Masks) -> Tensor:
    """Zeros of the shape that `score` returns, in the dtype of log-probabilities."""
    from spg_trainer.models.forward import head_weight

    # `valued` is (B, M, T) bool, or (B, M, 2T) if the masks name a measure.
    return torch.zeros_like(masks.valued, dtype=result_dtype(head_weight(policy.model)))


def score(policy: "Policy", rollouts: Rows, masks: Masks, copies: CopyIndex) -> Tensor:
    """Log-probabilities (B, M, T) of the scored tokens of some masked copies, zero elsewhere; with a graph.

    If the masks measure something, the result is (B, M, 2T): log-probabilities, then the measured figures
    (`masks.split` separates them). The model's last layer computes only the scored and measured positions. If
    `masks.temperature` is not 1, log-probabilities are taken in the distribution from which the sampler draws at this
    temperature: logits are divided by it, and the mask id is left out.

    Under block-causal attention a token sees its own block as the mask shows it, and earlier blocks with every
    completion token unmasked; masked prompt tokens stay masked. So the token is predicted from the same hidden state
    from which the sampler drew it. If logits are shifted, the first token of a block is predicted from the last state
    of the block before, which is unmasked here as it was then. In a causal context, a token that is scored but not
    masked is predicted from the clean text before it alone.
    """
    from spg_trainer.models.forward import base_model, head_weight, hidden_states
    from spg_trainer.models.sequence_parallel import computed_in_shares

    model, mask_id = policy.model, policy.mask_id
    pattern, device = base_model(model).pattern, rollouts.completion_ids.device
    # What follows is known on the host, which never waits for a card here: `sent` only queues a copy.
    sent = partial(_sent, device=device)
    host = masks.on_host(rollouts.prompt_mask)
    row, masked, scored, measured, mask_of_place = sequences_of(pattern, host, copies)
    wanted = scored if measured is None else scored | measured
    num_masks, size = host["scored"].shape[1:]
    prompt_width = host["prompt_mask"].shape[1]
    # The model returns equally many positions of each sequence, as many as any sequence has wanted ones: first the
    # wanted positions, then others to fill up.
    num_wanted = wanted.sum(-1)
    places = (~wanted).argsort(-1, kind="stable")[:, : num_wanted.max()]
    is_wanted = np.arange(places.shape[1]) < num_wanted[:, None]
    real = host["prompt_mask"][row]

    row_on_device, masked_on_device = sent(row), sent(masked)
    # Later blocks see these ids: the prompt with its masks, and the completion without masks.
    clean = torch.cat([rollouts.prompt_ids, rollouts.completion_ids], dim=1)[row_on_device]
    prompt_ids, completion_ids = clean.tensor_split([prompt_width], dim=1)
    if mask_id is not None and not (pattern.is_full and masks.shown is None):  # else `ids` mask it
        prompt_ids = prompt_ids.masked_fill(masked_on_device[:, :prompt_width], mask_id)
        clean = torch.cat([prompt_ids, completion_ids], dim=1)

    def of_places(values: Tensor) -> Tensor:
        """(Q, T, ...) from values (B, M, ...) of copies: those of the copy that scores each place."""
        return values[row_on_device[:, None], sent(mask_of_place)]

    def of_scored(values: Tensor) -> Tensor:
        """(n,) from values (Q, T): those at scored places, in order."""
        return values.take(sent(np.flatnonzero(scored)))

    def at_places(values: Tensor) -> Tensor:
        """(Q, T) from values (B, M, T)."""
        return values[row_on_device[:, None], sent(mask_of_place), torch.arange(size, device=device)]

    if masks.shown is None:
        ids = clean.masked_fill(masked_on_device, mask_id)
    else:
        shown = at_places(masks.shown)
        ids = torch.cat(
            [prompt_ids, torch.where(masked_on_device[:, prompt_width:], shown, completion_ids)], 1
        )
    causal_argument = {}
    if pattern.has_causal_context:
        scored_unmasked = scored & ~masked[:, prompt_width:]
        if scored_unmasked.any():
            causal_argument = {"from_context": sent(np.take_along_axis(scored_unmasked, places, 1))}
    if pattern.has_encoder:
        mask_of_wanted = sent(np.take_along_axis(mask_of_place, places, 1))
        of_copies = {"from_context": masks.from_context, "conditioned": masks.conditioned}
        causal_argument = {
            name: values[row_on_device[:, None], mask_of_wanted]
            for name, values in of_copies.items()
            if values is not None
        }
    # `keep` names the columns of the tokens: where logits are shifted, `hidden_states` takes the column before.
    group = None
    if rollouts.shared_by > 1:
        group = process_mesh(rollouts.shared_by, device.type).get_group("group")
    states = hidden_states(
        model,
        ids,
        keep=sent(places + prompt_width),
        start=prompt_width,
        clean=clean,
        group=group,
        **_padding_hidden(base_model(model), real, size, sent),
        **causal_argument,
    )
    states = states.flatten(0, 1)
    if not is_wanted.all():  # without the states at places that only fill up
        states = states.index_select(0, sent(np.flatnonzero(is_wanted)))
    head = head_weight(model)
    # `states` has one row for each wanted position, and `scored[wanted]` says which of these rows are scored.
    states_of_scored = states
    if measured is not None:
        states_of_scored = states.index_select(0, sent(np.flatnonzero(scored[wanted])))
    kept_chunks = 1  # the fewest; more save time in a backward pass through a trained head
    if head.requires_grad and torch.is_grad_enabled():
        kept_chunks = chunks_to_keep(head.nbytes, len(head), result_dtype(head).itemsize)
    never_drawn = None
    if masks.temperature != 1:  # as the sampler draws, and it never draws [MASK]
        states_of_scored, never_drawn = states_of_scored / masks.temperature, mask_id
    targets = of_scored(completion_ids if masks.targets is None else at_places(masks.targets))
    heat = None if masks.temperatures is None else of_scored(of_places(masks.temperatures))

    softcap, in_float32 = base_model(model).softcap, base_model(model).float32_logits

    is_rated = None  # (n,), which of the scored tokens have a rate in place of a log-probability
    if "rated" in host:
        is_rated = host["rated"][row[:, None], mask_of_place][scored]
        pairs = torch.stack([targets, of_scored(ids[:, prompt_width:])], -1)

    def logps_of(part: slice) -> Tensor:
        states_of_part, targets_of_part = states_of_scored, targets
        if part != slice(None):  # which a backward pass would copy
            states_of_part, targets_of_part = states_of_scored[part], targets[part]
        arguments = (kept_chunks, never_drawn, softcap)
        if is_rated is None:
            heat_of_part = None if heat is None else heat[part]
            return HeadLogps.apply(
                states_of_part, head, targets_of_part, *arguments, heat_of_part, in_float32
            )
        rated, others = (sent(np.flatnonzero(chosen[part])) for chosen in (is_rated, ~is_rated))
        plain = HeadLogps.apply(
            states_of_part[others], head, targets_of_part[others], *arguments, None, in_float32
        )
        chunk_rows = rows_per_chunk(len(head))
        rates = Measured.apply(
            states_of_part[rated], head, pairs[part][rated], "rate", chunk_rows, softcap, in_float32
        )
        zeros = plain.new_zeros(len(targets_of_part))
        return zeros.index_put((others,), plain).index_put((rated,), rates)

    values = computed_in_shares(logps_of, len(targets), group)
    sequence, place = scored.nonzero()
    column = place  # in the last axis of the result, which holds T log-probabilities and then T figures
    if measured is not None:
        states_of_measured = states.index_select(0, sent(np.flatnonzero(measured[wanted])))
        of_measured = completion_ids.masked_fill(sent(~scored), -1)
        targets_of_measured = of_measured.flatten().take(sent(np.flatnonzero(measured)))
        chunk_rows = rows_per_chunk(len(head))

        def figures_of(part: slice) -> Tensor:
            return Measured.apply(
                states_of_measured[part],
                head,
                targets_of_measured[part],
                masks.measure,
                chunk_rows,
                None,
                in_float32,
            )

        figures = computed_in_shares(figures_of, len(targets_of_measured), group)
        measured_sequence, measured_place = measured.nonzero()
        values = torch.cat([values, figures])
        sequence, place = (
            np.concatenate([sequence, measured_sequence]),
            np.concatenate([place, measured_place]),
        )
        column = np.concatenate([column, size + measured_place])
    zeros = zero_logps(policy, masks)
    copy = row[sequence] * num_masks + mask_of_place[sequence, place]
    index = sent(copy * zeros.shape[-1] + column)
    return zeros.flatten().index_put((index,), values).view_as(zeros)


def _sent(array: np.ndarray, device: torch.device) -> Tensor:
    """The array as a tensor on the device; the host does not wait until it is there."""
    return torch.from_numpy(np.ascontiguousarray(array)).to(device, non_blocking=True)


def _padding_hidden(
    base: Any, real: np.ndarray, size: int, sent: Callable[[np.ndarray], Tensor]
) -> dict[str, Tensor]:
    """The arguments of `hidden_states` that hide padding; none where there is none, so that no kernel gets a mask.

    Under full attention transformers would ask the card whether a mask of columns hides anything, and wait; it takes a
    mask of pairs as it is. base: the model below its adapters. real: (Q, L) bool, false where a prompt is padding.
    size: T. sent: puts an array on the device.
    """
    if real.all():
        return {}
    columns = np.concatenate([real, np.ones((len(real), size), bool)], axis=1)
    if not base.pattern.is_full or base.config._attn_implementation not in ("sdpa", "eager"):
        return {"attention_mask": sent(columns)}
    positions = (columns.cumsum(-1) - 1).clip(min=0)
    return {"attention_mask": sent(columns[:, None, None]), "positions": sent(positions)}


class HeadLogps(torch.autograd.Function):
    """Log-probabilities (n,) of targets (n,) from hidden states (n, D) and the output layer's weight (V, D).

    If the weight is trained, the backward pass needs the probabilities again. Those of the last `keep` chunks are kept
    for it, and those of earlier chunks are computed once more. If the weight is frozen, the forward pass computes the
    gradient of each log-probability in its state while it has the logits; the backward pass scales it. never_drawn: a
    token that has probability 0, None = there is none. softcap: c, if logits are c * tanh(product / c); None = they are
    the products. heat: (n,), the temperature of each position, by which its logits are divided; None = 1.
    in_float32: as for `head_logits`.
    """

    @staticmethod
    def forward(
        ctx: Any,
        states: Tensor,
        weight: Tensor,
        targets: Tensor,
        keep: int,
        never_drawn: int | None = None,
        softcap: float | None = None,
        heat: Tensor | None = None,
        in_float32: bool = False,
    ) -> Tensor:
        ctx.never_drawn, ctx.softcap, ctx.heat = never_drawn, softcap, heat
        ctx.in_float32 = in_float32
        size = rows_per_chunk(len(weight))
        states_need_gradient, weight_needs_gradient = ctx.needs_input_grad[:2]
        if states_need_gradient and not weight_needs_gradient:
            logps, gradient = head_logps_and_gradient(
                states, weight, targets, size, never_drawn, softcap, heat, in_float32
            )
            ctx.save_for_backward(gradient)
            return logps
        # The weight is trained, or nothing needs a gradient.
        ctx.save_for_backward(states, weight, targets)
        logps, ctx.kept = head_logps_and_last_chunks(
            states, weight, targets, size, keep, never_drawn, softcap, heat, in_float32
        )
        return logps

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, coefficients: Tensor) -> tuple[Tensor | None, ...]:
        """Takes coefficients (n,); returns a gradient for each input of `forward`, or None."""
        of_others = (None,) * 6
        if len(ctx.saved_tensors) == 1:  # the weight is frozen
            (gradient,) = ctx.saved_tensors
            return gradient * coefficients[:, None].to(gradient.dtype), None, *of_others
        states, weight, targets = ctx.saved_tensors
        # The gradients of all chunks are added to one tensor (V, D), in float32 or float64. If the weight is a
        # leaf of such a dtype, this is its own `.grad`, which saves a second tensor of its size.
        adds_to_grad = weight.is_leaf and weight.dtype in (torch.float32, torch.float64)
        # That of a single chunk is no sum.
        is_new = not adds_to_grad and 0 < len(states) <= rows_per_chunk(len(weight))
        if adds_to_grad:
            if weight.grad is None:
                weight.grad = torch.zeros_like(weight)
            weight_gradient = weight.grad
        elif is_new:
            weight_gradient = torch.empty_like(weight)
        else:
            weight_gradient = torch.zeros_like(weight, dtype=result_dtype(weight))
        states_gradient = head_gradient(
            states,
            weight,
            targets,
            coefficients,
            rows_per_chunk(len(weight)),
            weight_gradient=weight_gradient,
            kept=ctx.kept,
            never_drawn=ctx.never_drawn,
            softcap=ctx.softcap,
            heat=ctx.heat,
            in_float32=ctx.in_float32,
            is_new=is_new,
        )
        if adds_to_grad:  # autograd must not add it once more
            return states_gradient, None, *of_others
        return states_gradient, weight_gradient.to(weight.dtype), *of_others


Softmax = tuple[Tensor, Tensor, Tensor, Tensor | None]
"""(powers, total, logps, slope) of the output layer at r positions: the probability of a token is powers / total.

powers: (r, V), exp(logit - the row's largest logit). total: (r,), the sum of each row's powers. logps: (r,), the
log-probabilities of the targets. slope: (r, V) or (r, 1), the derivative of each logit by the product of state and
weight; None = it is 1, as logits are neither capped nor divided by a temperature.
"""


@torch.no_grad()
def softmax(
    hidden_states: Tensor,
    weight: Tensor,
    targets: Tensor,
    never_drawn: int | None = None,
    softcap: float | None = None,
    heat: Tensor | None = None,
    in_float32: bool = False,
) -> Softmax:
    """The `Softmax` at hidden states (r, D), from the output layer's weight (V, D) and the targets (r,).

    never_drawn, softcap, heat, in_float32: as in `HeadLogps`.
    """
    logits = head_logits(hidden_states, weight, in_float32)
    slope = None
    if softcap is not None:
        bent = logits.div_(softcap).tanh_()  # in place: `logits` are the same tensor
        slope = 1 - bent.square()
        logits = bent.mul_(softcap)
    if heat is not None:
        cooling = heat[:, None].to(logits.dtype).reciprocal()
        logits = logits.mul_(cooling)
        slope = cooling if slope is None else slope.mul_(cooling)
    if never_drawn is not None:
        logits[:, never_drawn] = float("-inf")
    chosen = logits.gather(-1, targets[:, None]).squeeze(-1)
    top = logits.amax(-1, keepdim=True)
    parts = logits.split(columns_at_once(weight), -1)
    # In place, so that `logits` become the powers: a second copy would double the peak.
    totals = [part.sub_(top).exp_().sum(-1) for part in parts]
    total = totals[0] if len(totals) == 1 else torch.stack(totals).sum(0)
    powers = logits
    return powers, total, chosen - total.log().add_(top.squeeze(-1)), slope


@torch.no_grad()
def head_logps(hidden_states: Tensor, weight: Tensor, targets: Tensor, chunk_rows: int) -> Tensor:
    """Log-probabilities (n,) of the targets (n,), from hidden states (n, D) and weight (V, D)."""
    logps, _ = head_logps_and_last_chunks(hidden_states, weight, targets, chunk_rows, keep=1)
    return logps


@torch.no_grad()
def head_logps_and_last_chunks(
    hidden_states: Tensor,
    weight: Tensor,
    targets: Tensor,
    chunk_rows: int,
    keep: int,
    never_drawn: int | None = None,
    softcap: float | None = None,
    heat: Tensor | None = None,
    in_float32: bool = False,
) -> tuple[Tensor, list[Softmax]]:
    """(the (n,) of `head_logps`, the last `keep` chunks for `head_gradient`). keep: >= 1; the others: as there."""
    logps: list[Tensor] = []
    kept: list[Softmax] = []
    for chunk in _chunks(len(hidden_states), chunk_rows):
        if len(kept) == keep:
            del kept[0]  # before the next chunk is made, so that never more than `keep` are alive
        heat_of_chunk = None if heat is None else heat[chunk]
        kept.append(
            softmax(
                hidden_states[chunk], weight, targets[chunk], never_drawn, softcap, heat_of_chunk, in_float32
            )
        )
        logps.append(kept[-1][2])
    if not logps:
        return hidden_states.new_empty(0, dtype=result_dtype(weight)), kept
    return joined(logps), kept


@torch.no_grad()
def head_gradient(
    hidden_states: Tensor,
    weight: Tensor,
    targets: Tensor,
    coefficients: Tensor,
    chunk_rows: int,
    weight_gradient: Tensor | None = None,
    kept: list[Softmax] | None = None,
    never_drawn: int | None = None,
    softcap: float | None = None,
    heat: Tensor | None = None,
    in_float32: bool = False,
    is_new: bool = False,
) -> Tensor:
    """Gradient (n, D) of `sum(coefficients * logps)` with respect to the hidden states.

    coefficients: (n,). weight_gradient: a tensor (V, D), float32 or float64, to which the gradient with respect to the
    weight is added; None = that gradient is not computed. kept: the last chunks as `head_logps_and_last_chunks` gives
    them. They are taken out of the list and overwritten before the other chunks are computed, one at a time. is_new: as
    in `softmax_gradient`, for a single chunk.
    """
    gradients: list[Tensor] = []  # of the last chunk first
    for chunk in reversed([*_chunks(len(hidden_states), chunk_rows)]):
        states, tokens = hidden_states[chunk], targets[chunk]
        heat_of_chunk = None if heat is None else heat[chunk]
        powers, total, _, slope = (
            kept.pop()
            if kept
            else softmax(states, weight, tokens, never_drawn, softcap, heat_of_chunk, in_float32)
        )
        gradients.append(
            softmax_gradient(
                powers, total, states, weight, tokens, coefficients[chunk], weight_gradient, slope, is_new
            )
        )
        del powers  # else they would be in memory beside those of the next chunk
    return joined(gradients[::-1]) if gradients else torch.empty_like(hidden_states)


@torch.no_grad()
def head_logps_and_gradient(
    hidden_states: Tensor,
    weight: Tensor,
    targets: Tensor,
    chunk_rows: int,
    never_drawn: int | None = None,
    softcap: float | None = None,
    heat: Tensor | None = None,
    in_float32: bool = False,
) -> tuple[Tensor, Tensor]:
    """(the same as `head_logps`, the gradient (n, D) of each log-probability in its hidden state), from one softmax."""
    logps, gradient = [], []
    for chunk in _chunks(len(hidden_states), chunk_rows):
        states, tokens = hidden_states[chunk], targets[chunk]
        heat_of_chunk = None if heat is None else heat[chunk]
        powers, total, logps_of_chunk, slope = softmax(
            states, weight, tokens, never_drawn, softcap, heat_of_chunk, in_float32
        )
        logps.append(logps_of_chunk)
        gradient.append(softmax_gradient(powers, total, states, weight, tokens, slope=slope))
        del powers  # else they would be in memory beside those of the next chunk
    if not logps:
        return hidden_states.new_empty(0, dtype=result_dtype(weight)), torch.empty_like(hidden_states)
    return joined(logps), joined(gradient)


def joined(pieces: Sequence[Tensor]) -> Tensor:
    """The pieces, one after the other; a single one is not copied."""
    return pieces[0] if len(pieces) == 1 else torch.cat(list(pieces))


@torch.no_grad()
def softmax_gradient(
    powers: Tensor,
    total: Tensor,
    hidden_states: Tensor,
    weight: Tensor,
    targets: Tensor,
    coefficients: Tensor | None = None,
    weight_gradient: Tensor | None = None,
    slope: Tensor | None = None,
    is_new: bool = False,
) -> Tensor:
    """The part (r, D) of `head_gradient` at the r positions of a chunk.

    powers, total, slope: those of the chunk's `Softmax`; powers are overwritten. coefficients: None = they are 1.
    is_new: whether weight_gradient, then of the weight's dtype, holds nothing yet and is overwritten.
    """
    # The gradient in the logits is coefficient * (onehot(target) - powers / total), computed as scale * difference with
    # difference = powers - total * onehot(target) and scale = -coefficient / total. So the difference is rounded only
    # once, and at each position D numbers are scaled and not V.
    less = -total
    difference = powers.scatter_add_(-1, targets[:, None], less[:, None])
    if slope is not None:
        difference = difference.mul_(slope)
    difference = difference.to(weight.dtype)
    scale = less.reciprocal() if coefficients is None else coefficients.to(powers.dtype) / less
    scale = scale.unsqueeze(-1)
    if weight_gradient is not None:
        # Rounded where it is written, which is one kernel.
        states = torch.mul(scale, hidden_states, out=torch.empty_like(hidden_states, dtype=weight.dtype))
        if weight_gradient.dtype == weight.dtype:
            weight_gradient.addmm_(difference.T, states, beta=0 if is_new else 1)
        else:
            weight_gradient.add_(difference.T @ states)
    return torch.mul(scale, difference @ weight, out=torch.empty_like(hidden_states))


def rows_per_chunk(vocabulary: int) -> int:
    """How many positions a chunk has: as many as have 128 MB of float32 logits, but at least 16."""
    return max(16, 2**25 // vocabulary)


def chunks_to_keep(bytes_of_weight: int, vocabulary: int, bytes_of_logit: int = 4) -> int:
    """How many chunks are kept for the backward pass of a trained head: as many as fit into a fifth of its weight.

    At least the last chunk is kept. It costs no memory at the peak, as the backward pass begins with it. Earlier chunks
    cost little beside the weight and its gradient.
    """
    bytes_of_chunk = bytes_of_logit * rows_per_chunk(vocabulary) * vocabulary
    return max(1, bytes_of_weight // 5 // bytes_of_chunk)


CPU_COLUMNS = 2048
"""How many tokens of the vocabulary a CPU works on at once; float32 logits of 256 positions are then 2 MB."""


def columns_at_once(head: Tensor) -> int:
    """Tokens of a head (V, D) to work on at once: on a CPU, as many as stay in a core's cache; else all."""
    return CPU_COLUMNS if head.device.type == "cpu" else head.shape[0]


def _chunks(count: int, size: int) -> Iterator[slice]:
    """Slices of up to `size` that cover 0..count-1 in order."""
    return (slice(start, start + size) for start in range(0, count, size))


def raw_logit(logits: Tensor, targets: Tensor) -> Tensor:
    """(n,) the logit (n, V) of each target (n,), or the highest one where there is no target, which is negative."""
    of_target = logits.gather(-1, targets.clamp(min=0)[:, None]).squeeze(-1)
    return torch.where(targets < 0, logits.amax(-1), of_target)


def entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """(n,) the entropy of the model's distribution in nats, from logits (n, V); the targets are not used."""
    logps = logits.log_softmax(-1)
    return -(logps.exp() * logps).sum(-1)


def rate(logits: Tensor, pairs: Tensor) -> Tensor:
    """(n,) log p(x) + p(z) where z is not x, and p(z) - 1 where it is, from logits (n, V).

    pairs: (n, 2) int64, the token x and the token z that stands in its place. Source: `ElboEpsMasking`.
    """
    of_token, of_shown = logits.log_softmax(-1).gather(-1, pairs).unbind(-1)
    is_same = pairs[:, 0] == pairs[:, 1]
    return of_shown.exp() + torch.where(is_same, -1.0, of_token)


MEASURES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "entropy": entropy,
    "raw_logit": raw_logit,
    "rate": rate,
}
"""{name, as in `Masking.measure`: the measure}."""


class Measured(torch.autograd.Function):
    """The values (n,) of a measure at hidden states (n, D), from the head's weight (V, D) and targets (n,), in chunks.

    If the weight is frozen, the forward pass also computes the gradient of each value with respect to its hidden state,
    as in `HeadLogps` (logps.py). name: a name of `MEASURES`. chunk_rows: how many positions a chunk has. softcap,
    in_float32: as there.
    """

    @staticmethod
    def forward(
        ctx: Any,
        states: Tensor,
        weight: Tensor,
        targets: Tensor,
        name: str,
        chunk_rows: int,
        softcap: float | None = None,
        in_float32: bool = False,
    ) -> Tensor:
        ctx.name, ctx.chunk_rows, ctx.softcap, ctx.in_float32 = name, chunk_rows, softcap, in_float32
        ones = torch.ones(len(states), device=states.device)
        states_need_gradient, weight_needs_gradient = ctx.needs_input_grad[:2]
        if states_need_gradient and not weight_needs_gradient:
            values, gradient, _ = _values_and_gradients(
                states,
                weight,
                targets,
                name,
                chunk_rows,
                coefficients=ones,
                needed=(True, False),
                softcap=softcap,
                in_float32=in_float32,
            )
            ctx.save_for_backward(gradient)
            return values
        ctx.save_for_backward(states, weight, targets)
        values, _, _ = _values_and_gradients(
            states,
            weight,
            targets,
            name,
            chunk_rows,
            coefficients=ones,
            needed=(False, False),
            softcap=softcap,
            in_float32=in_float32,
        )
        return values

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, coefficients: Tensor) -> tuple[Tensor | None, ...]:
        """Takes coefficients (n,); returns a gradient for each input of `forward`, or None."""
        of_others = (None,) * 5
        if len(ctx.saved_tensors) == 1:  # the weight is frozen
            (gradient,) = ctx.saved_tensors
            return gradient * coefficients[:, None].to(gradient.dtype), None, *of_others
        states, weight, targets = ctx.saved_tensors
        needed = ctx.needs_input_grad[:2]
        _, states_gradient, weight_gradient = _values_and_gradients(
            states,
            weight,
            targets,
            ctx.name,
            ctx.chunk_rows,
            coefficients=coefficients,
            needed=needed,
            softcap=ctx.softcap,
            in_float32=ctx.in_float32,
        )
        return states_gradient, weight_gradient, *of_others


def _values_and_gradients(
    states: Tensor,
    weight: Tensor,
    targets: Tensor,
    name: str,
    chunk_rows: int,
    coefficients: Tensor,
    needed: tuple[bool, bool],
    softcap: float | None = None,
    in_float32: bool = False,
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """(values (n,), gradient with respect to the states (n, D), gradient with respect to the weight (V, D)).

    Both are gradients of sum(coefficients * values). chunk_rows: how many positions a chunk has. coefficients: (n,).
    needed: whether the gradients with respect to (states, weight) are needed; one that is not is returned as None.
    """
    states_needed, weight_needed = needed
    dtype = torch.promote_types(weight.dtype, torch.float32)
    values = torch.empty(len(states), dtype=dtype, device=states.device)
    states_gradient = torch.empty_like(states) if states_needed else None
    weight_gradient = torch.zeros_like(weight, dtype=dtype) if weight_needed else None
    for start in range(0, len(states), chunk_rows):
        chunk = slice(start, start + chunk_rows)
        with torch.set_grad_enabled(any(needed)):
            chunk_states = states[chunk].detach().requires_grad_(states_needed)
            head = weight.detach().requires_grad_(weight_needed)
            logits = head_logits(chunk_states, head, in_float32)
            if softcap is not None:
                logits = softcap * torch.tanh(logits / softcap)
            measured = MEASURES[name](logits, targets[chunk])
            weighted_sum = (measured * coefficients[chunk]).sum()
        values[chunk] = measured.detach()
        if any(needed):
            inputs = [tensor for tensor in (chunk_states, head) if tensor.requires_grad]
            gradients = iter(torch.autograd.grad(weighted_sum, inputs))
            if states_needed:
                states_gradient[chunk] = next(gradients)
            if weight_needed:
                weight_gradient += next(gradients)
    if weight_needed:
        weight_gradient = weight_gradient.to(weight.dtype)
    return values, states_gradient, weight_gradient
