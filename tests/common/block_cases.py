"""Tiny models of every attention pattern, and what they compute with each block in a pass of its own."""

import math
from dataclasses import replace

import torch
from torch import Tensor, nn

from spg_trainer.architecture.pattern import Pattern
from spg_trainer.likelihood import Masks
from spg_trainer.settings.decoding import Sampling
from spg_trainer.tensors import Rows
from tests.common.rollout_cases import Plain
from tests.common.stale_cases import how_many

PATTERNS = {
    "sequence": (Pattern(4), 0),
    "sequence, shifted": (Pattern(4), 1),
    "completion": (Pattern(4, "completion"), 0),
    "completion, shifted": (Pattern(4, "completion"), 1),
    "full, shifted": (Pattern(), 1),
}


def with_pattern(model: nn.Module, pattern: Pattern, shift: int) -> nn.Module:
    """The same body as another family's."""
    config = model.config
    config.block_size, config.context = pattern.block_size, pattern.context
    config.family = replace(config.family, origin=pattern.origin)
    model.shift = shift
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


def logps_by_blocks(model: nn.Module, rollouts: Rows, masks: Masks, mask_id: int) -> Tensor:
    """(B, M, T) at scored positions, one row, mask and block at a time: before the block all is clean.

    Where the masks measure the confidence, (B, M, 2T): behind them the log-probability of the best token.
    """
    result = masks.scored.new_zeros(masks.valued.shape, dtype=torch.float64)
    for row, mask, column in masks.valued.nonzero().tolist():
        token = column % masks.scored.shape[-1]
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
        logps = logits.double().log_softmax(-1)
        value = logps[ids[token]] if column == token else logps.max()
        result = result.index_put(tuple(torch.tensor([row, mask, column])), value)
    return result


@torch.no_grad()
def plain_block_sampler(
    model: nn.Module,
    prompt: list[int],
    s: Sampling,
    mask_id: int,
    noise: torch.Generator | None,
    canvas: list[int] | None = None,
) -> Plain:
    """Decoding spelled out for one row: all logits of all that is seen at every pass, nothing kept, float64.

    Blocks are cut where a token's number in the sequence (or the completion) is a multiple of the block's length.
    canvas: T tokens that stand there from the start, the mask id where one is to be written.
    """
    width, length = len(prompt), s.max_completion_length
    numbers = block_numbers(model.pattern, width, length)
    grid = block_numbers(Pattern(s.block_length, model.pattern.origin), width, length)
    if model.pattern.is_full:
        grid = [-1] * width + [i // s.block_length for i in range(length)]
    x = prompt + (canvas or [mask_id] * length)
    out = Plain(x[width:], [-1] * length, [0.0] * length, [])
    number = 0
    for block in sorted(set(grid[width:])):
        inside = [c for c in range(width, width + length) if grid[c] == block]
        seen, step = numbers.index(numbers[inside[0]] + 1) if numbers[inside[0]] + 1 in numbers else len(x), 0
        while masked := [c for c in inside if x[c] == mask_id]:
            logits = plain_logits(model, x[:seen], width)
            e = torch.empty(len(masked), logits.shape[-1])
            if s.temperature > 0:
                e.exponential_(generator=noise)
            picks = []
            for row, c in enumerate(masked):
                score = logits[c] - (s.temperature * e[row].log() if s.temperature > 0 else 0)
                score[mask_id] = float("-inf")
                token = int(score.argmax())
                picks.append((float(logits[c].log_softmax(-1)[token]), -c, token))
            if s.remasking == "random":
                any_of = torch.rand(len(masked), generator=noise).tolist()
                picks = [p for _, p in sorted(zip(any_of, picks, strict=True), reverse=True)]
            else:
                picks.sort(reverse=True)
            for logp, at, token in picks[: how_many([math.exp(p[0]) for p in picks], step, s)]:
                x[-at] = token
                out.tokens[-at - width], out.steps[-at - width] = token, number
                out.logps[-at - width] = logp
            number, step = number + 1, step + 1
    return out
