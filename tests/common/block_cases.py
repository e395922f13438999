"""Tiny models of every attention pattern, and what they compute with each block in a pass of its own."""

import torch
from torch import Tensor, nn

from spg_trainer.batch import Rollouts
from spg_trainer.likelihood import Masks
from spg_trainer.models.pattern import Pattern

PATTERNS = {
    "sequence": (Pattern(4), 0),
    "sequence, shifted": (Pattern(4), 1),
    "completion": (Pattern(4, "completion"), 0),
    "completion, shifted": (Pattern(4, "completion"), 1),
    "full, shifted": (Pattern(), 1),
}


def with_pattern(model: nn.Module, pattern: Pattern, shift: int) -> nn.Module:
    """The same body as another family's."""
    model.pattern, model.shift = pattern, shift
    return model


def block_numbers(pattern: Pattern, prompt: int, length: int) -> list[int]:
    """Of every token of a sequence without padding; a full pattern has one block."""
    if pattern.is_full:
        return [0] * (prompt + length)
    origin = prompt if pattern.origin == "completion" else 0
    return [(i - origin) // pattern.block_size for i in range(prompt + length)]


def plain_logits(model: nn.Module, ids: list[int], prompt: int) -> Tensor:
    """Logits (S, V) that tell of each token, its own for the first, from a mask spelled out pair by pair."""
    numbers = block_numbers(model.pattern, prompt, len(ids) - prompt)
    mask = torch.tensor([[[[k <= q for k in numbers] for q in numbers]]])
    where = torch.arange(len(ids))[None]
    logits = model(input_ids=torch.tensor([ids]), attention_mask=mask, position_ids=where).logits[0]
    return torch.cat([logits[:1], logits[:-1]]) if model.shift else logits


def logps_by_blocks(model: nn.Module, rollouts: Rollouts, masks: Masks, mask_id: int) -> Tensor:
    """(B, M, T) at scored positions, one row, mask and block at a time: before the block all is clean."""
    result = masks.scored.new_zeros(masks.scored.shape, dtype=torch.float64)
    for row, mask, token in masks.scored.nonzero().tolist():
        real, width = rollouts.prompt_mask[row], rollouts.prompt_mask.shape[1]
        masked, ids = masks.masked[row, mask], rollouts.completion_ids[row].tolist()
        noisy_prompt = rollouts.prompt_ids[row].masked_fill(masked[:width], mask_id)[real].tolist()
        prompt, numbers = len(noisy_prompt), block_numbers(model.pattern, int(real.sum()), len(ids))
        own = numbers[prompt + token]
        shown = [
            mask_id if masked[width + i] and numbers[prompt + i] == own else ids[i]
            for i in range(len(ids))
            if numbers[prompt + i] <= own
        ]
        logits = plain_logits(model, noisy_prompt + shown, prompt)[prompt + token]
        result = result.index_put(
            tuple(torch.tensor([row, mask, token])), logits.log_softmax(-1)[ids[token]].double()
        )
    return result
