"""One pass through a model's body: the last hidden states at the columns that are asked for, and the output layer.

What a family is beyond its body stands in `pattern`, who attends to whom, and `shift`: with 1, the state of the column
before a token tells what the token is.
"""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from spg_trainer.architecture.pattern import visible
from spg_trainer.errors import ModelError

if TYPE_CHECKING:
    from peft import PeftModel


def base_model(model: "PreTrainedModel | PeftModel") -> PreTrainedModel:
    """The model below its adapters."""
    return model if isinstance(model, PreTrainedModel) else model.get_base_model()


def trainable_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """What of a model is trained, by name, in the order in which an optimizer numbers it."""
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def hidden_states(
    model: "PreTrainedModel | PeftModel",
    input_ids: Tensor,
    attention_mask: Tensor | None = None,
    keep: Tensor | None = None,
    *,
    positions: Tensor | None = None,
    cache: Any = None,
    start: int | None = None,
    clean: Tensor | None = None,
) -> Tensor:
    """The last hidden states, final norm applied, that tell of the tokens asked for; nobody sees padding.

    input_ids: (b, S) int64. attention_mask: (b, S) bool, false on padding; None if there is none. With a cache (b, K),
    of the columns that are attended to, or (b, 1, S, K), who attends to which. keep: (b, n) int64, the columns of the
    tokens that are asked for, None = all; the last layer then computes no others. positions: (b, S) int64; None = of
    the real tokens only, so that left padding changes nothing beyond rounding. cache: where keys and values are kept,
    as `spg_trainer.rollout.cache.Access`. start: the completion's first column, for a pattern whose blocks begin there.
    clean: (b, S) int64, the tokens as later blocks see them: every block is then as in a pass of its own in which
    `input_ids` are masked in that block alone. Patterns without blocks have no use for it.

    Where logits are shifted, a token's state is that of the column before; the first token of all has none and takes
    its own. Returns (b, S, D) or (b, n, D); padding's hold garbage.
    """
    family = base_model(model)
    pattern = family.pattern
    if positions is None and attention_mask is not None:
        positions = (attention_mask.long().cumsum(-1) - 1).clamp_(min=0)
    if keep is None and (family.shift or (clean is not None and not pattern.is_full)):
        keep = torch.arange(input_ids.shape[1], device=input_ids.device).expand(input_ids.shape)
    told = keep if keep is None or not family.shift else _before(keep, positions)
    mask = attention_mask
    if not pattern.is_full and (mask is None or mask.ndim == 2):
        blocks = pattern.blocks(torch.ones_like(input_ids, dtype=torch.bool) if mask is None else mask, start)
        if clean is None:
            mask = visible(blocks, blocks)
        else:
            both = _noisy_and_clean(input_ids, clean, positions, blocks, keep, told)
            input_ids, mask, positions, told = both
    elif cache is not None and mask is not None and mask.ndim == 2:
        mask = mask[:, None, None]
    passed = {"past_key_values": cache, "use_cache": False, "keep": told}
    return family.base_model(input_ids, mask, positions, **passed).last_hidden_state


def _before(keep: Tensor, positions: Tensor | None) -> Tensor:
    """The columns (b, n) before those to keep, where a token stands there."""
    if positions is None:
        return (keep - 1).clamp(min=0)
    return keep - (positions.gather(1, keep) > 0).long()


def _noisy_and_clean(
    noisy: Tensor, clean: Tensor, positions: Tensor | None, blocks: Tensor, keep: Tensor, told: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """One sequence of two copies: noisy blocks see themselves and what is clean before them, clean ones what is clean.

    Of the noisy copy only the blocks that hold columns to keep (b, n) are in it, and those between them; of the clean
    one what stands before the last of these. told: (b, n), the columns whose states are asked for; one in an earlier
    block than the token that it tells of is clean, as it is when that token is sampled. Returns ids, who sees whom,
    positions, and where the states asked for stand. Source: BD3LM (arXiv 2503.09573), section 3.
    """
    if positions is None:
        positions = torch.arange(noisy.shape[1], device=noisy.device).expand_as(noisy)
    wanted = blocks.gather(1, keep)
    first, last = wanted.amin(1, keepdim=True), wanted.amax(1, keepdim=True)
    halves = [_columns((blocks >= first) & (blocks <= last)), _columns((blocks >= 0) & (blocks < last))]
    columns, size = torch.cat(halves, 1), halves[0].shape[1]
    ids = torch.cat([noisy.gather(1, halves[0]), clean.gather(1, halves[1])], 1)
    number, is_clean = blocks.gather(1, columns), torch.arange(columns.shape[1], device=ids.device) >= size
    asking, asked = number[:, :, None], number[:, None, :]
    # Padding sees itself: attention to nothing at all is no number.
    same = (asked == asking) & (is_clean == is_clean[:, None])
    mask = (same | ((asked >= 0) & (asked < asking) & is_clean)).unsqueeze(1)
    places = [
        torch.zeros_like(blocks).scatter_(
            1, half, torch.arange(half.shape[1], device=ids.device).expand_as(half)
        )
        for half in halves
    ]
    earlier = blocks.gather(1, told) < wanted
    where = torch.where(earlier, size + places[1].gather(1, told), places[0].gather(1, told))
    return ids, mask, positions.gather(1, columns), where


def _columns(wanted: Tensor) -> Tensor:
    """The wanted columns of (b, S) in their order, (b, n); where a row has fewer, others follow."""
    count = int(wanted.sum(-1).max())
    return (~wanted).to(torch.int8).argsort(dim=-1, stable=True)[:, :count]


def head_weight(model: "PreTrainedModel | PeftModel") -> Tensor:
    """The output embedding (V, D): logits are `hidden_states @ head_weight.T`.

    Raises ModelError if the head is not a plain linear layer without bias, for instance under an adapter.
    """
    head = base_model(model).get_output_embeddings()
    kinds = (type(head), *type(head).__bases__)  # that of a divided head is one of torch's, made of nn.Linear
    if torch.nn.Linear not in kinds or head.bias is not None:
        raise ModelError(f"{head} is no linear layer without bias; train without an adapter on lm_head")
    return head.weight
