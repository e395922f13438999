"""Block replay: masked copies that score different blocks of a completion go through the model as one sequence.

A masked copy is a completion with some tokens masked; it *scores* tokens, that is, the model computes their
log-probabilities. Under block-causal attention a token is predicted from what its own block shows, from the prompt, and
from earlier blocks without their masks (`logps.score`). What a copy shows in another block reaches none of the tokens
that it scores. So copies of one completion under the same masks of the prompt can share a sequence, as long as each
block is scored by only one of them: the block then stands there as that copy shows it. Log-probabilities and gradients
are the same as if each copy had a sequence of its own, up to rounding. E.g. a path of 128 steps in 8 blocks, with a
copy for each step, takes 16 sequences.

Axes: B completions, M masks, L prompt tokens, T completion tokens; S copies, Q sequences.
"""

from collections import defaultdict
from typing import NamedTuple

import torch
from torch import Tensor

from spg_trainer.architecture.pattern import Pattern
from spg_trainer.tensors import Masks, Rows


class CopyIndex(NamedTuple):
    """Some masked copies, and which of them go through the model as one sequence."""

    row: Tensor
    """(S,) int64, the completion of each copy."""
    mask: Tensor
    """(S,) int64, which of the M copies of its completion it is."""
    sequence: Tensor
    """(S,) int64, in ascending order: copies with the same number share a sequence."""

    def select(self, chosen: Tensor) -> "CopyIndex":
        """Some of the copies. chosen: (S,) bool."""
        return CopyIndex(*(column[chosen] for column in self))


def index_copies(pattern: Pattern, rollouts: Rows, masks: Masks) -> CopyIndex:
    """All copies that score anything, in the order of their sequences.

    Under full attention, each copy is a sequence, first copy 0 of all completions, then copy 1 and so on.
    """
    mask, row = masks.scored.any(-1).T.nonzero(as_tuple=True)
    if pattern.is_full or not len(row):
        return CopyIndex(row, mask, torch.arange(len(row), device=row.device))
    number_in_row = torch.tensor(
        _numbers_in_completion(pattern, rollouts, masks, row, mask), device=row.device
    )
    # Sequences are sorted by their number in their completion, then by completion, so that the sequences of a pass are
    # of different completions where possible.
    num_rows = len(masks.scored)
    _, sequence = torch.unique(number_in_row * num_rows + row, return_inverse=True)
    order = sequence.argsort(stable=True)
    return CopyIndex(row[order], mask[order], sequence[order])


def _numbers_in_completion(
    pattern: Pattern, rollouts: Rows, masks: Masks, row: Tensor, mask: Tensor
) -> list[int]:
    """For each of S copies, the number of its sequence among those of its completion, from 0.

    The copies are taken in the order of the first block that they score. Each copy goes into the first sequence in
    which all its blocks are free. If the blocks of each copy are neighbours, no other division needs fewer sequences.
    """
    blocks_taken, _ = _blocks_taken(pattern, rollouts, masks, row, mask)
    prompts = masks.masked[row, mask, : rollouts.prompt_mask.shape[1]].cpu().numpy()

    def as_bits(blocks: list[bool]) -> int:
        return sum(1 << block for block, is_taken in enumerate(blocks) if is_taken)

    blocks_as_bits = [as_bits(blocks) for blocks in blocks_taken.tolist()]
    first_block, rows = blocks_taken.int().argmax(-1).tolist(), row.tolist()
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
    pattern: Pattern, rollouts: Rows, masks: Masks, copies: CopyIndex
) -> tuple[Tensor, Tensor, Tensor, Tensor | None, Tensor]:
    """The sequences of some copies, e.g. those of a pass: under full attention, each copy; else several copies joined.

    Returns:
        row: (Q,) int64, the completion of each sequence.
        masked: (Q, L+T) bool, what the sequence shows as [MASK].
        scored: (Q, T) bool, which of its tokens are scored.
        measured: (Q, T) bool, where a figure is measured (`Masks.measured`); None if the masks measure nothing.
        mask_of_place: (Q, T) int64, which copy of the completion scores or measures each place.
    """
    row, mask, sequence = copies
    masked, scored = masks.masked[row, mask], masks.scored[row, mask]
    measured = None if masks.measured is None else masks.measured[row, mask]
    mask_of_place = mask[:, None].expand_as(scored)
    if pattern.is_full:
        return row, masked, scored, measured, mask_of_place
    numbers, sequence = torch.unique(sequence, return_inverse=True)
    _, is_own = _blocks_taken(pattern, rollouts, masks, row, mask)

    def joined(values: Tensor) -> Tensor:
        """(Q, T) int64, from values (S, T): at each place, that of the copy that takes its block; 0 if none does."""
        zeros = torch.zeros(len(numbers), values.shape[1], dtype=torch.int64, device=row.device)
        return zeros.index_add_(0, sequence, values.long() * is_own)

    # The copies of a sequence share the completion and the masks of the prompt, so any one of them stands for all.
    one_copy = torch.empty_like(numbers)
    one_copy[sequence] = torch.arange(len(row), device=row.device)
    width = rollouts.prompt_mask.shape[1]
    masked_of_sequence = torch.cat([masked[one_copy, :width], joined(masked[:, width:]).bool()], 1)
    measured_of_sequence = None if measured is None else joined(measured).bool()
    return (
        row[one_copy],
        masked_of_sequence,
        joined(scored).bool(),
        measured_of_sequence,
        joined(mask_of_place),
    )


def _blocks_taken(
    pattern: Pattern, rollouts: Rows, masks: Masks, row: Tensor, mask: Tensor
) -> tuple[Tensor, Tensor]:
    """(taken, is_own): which blocks of attention each copy takes, (S, blocks) bool, and which places they have, (S, T).

    A copy takes the blocks in which it scores or measures anything.
    """
    width = rollouts.prompt_mask.shape[1]
    real = torch.cat([rollouts.prompt_mask, torch.ones_like(rollouts.completion_mask)], 1)
    block = pattern.blocks(real, width)[row, width:]
    wanted = masks.scored[row, mask]
    if masks.measured is not None:
        wanted = wanted | masks.measured[row, mask]
    copy, place = wanted.nonzero(as_tuple=True)
    taken = torch.zeros(len(row), int(block.max()) + 1, dtype=torch.bool, device=row.device)
    taken[copy, block[copy, place]] = True
    is_own = taken.gather(1, block)
    return taken, is_own
