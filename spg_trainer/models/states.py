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
    blocks: Tensor | None = None,
) -> Tensor:
    """The last hidden states, final norm applied, from which logits of tokens are computed; nobody sees padding.

    Args:
        input_ids: (b, S) int64.
        attention_mask: (b, S) bool, false on padding; None if there is none. With a cache (b, K), false on the columns
            that nobody attends to, or (b, 1, S, K), who attends to which.
        keep: (b, n) int64, the columns of the tokens that are asked for, None = all. The last layer then computes no
            others.
        positions: (b, S) int64; None = counted over the real tokens only, so that left padding changes nothing beyond
            rounding.
        cache: where keys and values are kept, as `spg_trainer.rollout.cache.Access`.
        start: the completion's first column, for a pattern whose blocks begin there.
        clean: (b, S) int64, the tokens as later blocks see them: every block is then as in a pass of its own in which
            `input_ids` are masked in that block alone. Patterns without blocks have no use for it. In a causal context
            None = as in `input_ids`, unless a mask of pairs says who attends to which.
        blocks: (b, S) int64, the number of each column's block; only needed beside a mask of pairs in a causal context.

    Returns (b, S, D) or (b, n, D); those of padding hold garbage. Where logits are shifted, a token's state is that of
    the column before it; the first token of all has none and takes its own. In a causal context that goes for the first
    token of each block alone. As it is written before the others, these see it wherever they are: also in `input_ids`
    that mask it, where `clean` is given.
    """
    family = base_model(model)
    pattern = family.pattern
    is_of_pairs = attention_mask is not None and attention_mask.ndim == 4
    if clean is None and pattern.has_causal_context and not is_of_pairs:
        clean = input_ids
    shows_blocks_twice = clean is not None and not pattern.is_full
    if positions is None and attention_mask is not None:
        positions = (attention_mask.long().cumsum(-1) - 1).clamp_(min=0)
    if keep is None and (family.shift or shows_blocks_twice):
        keep = torch.arange(input_ids.shape[1], device=input_ids.device).expand(input_ids.shape)
    columns = _before(keep, positions) if family.shift else keep  # where the states asked for stand
    mask = attention_mask
    needs_mask = not pattern.is_full and not is_of_pairs
    if needs_mask:
        blocks = pattern.blocks(torch.ones_like(input_ids, dtype=torch.bool) if mask is None else mask, start)
    if pattern.has_causal_context:
        is_first = blocks.diff(dim=1, prepend=blocks[:, :1]) != 0
        columns = torch.where(is_first.gather(1, keep), _before(keep, positions), columns)
    if needs_mask:
        if pattern.has_causal_context:
            input_ids = torch.where(is_first, clean, input_ids)
        if shows_blocks_twice:
            input_ids, mask, positions, columns = _noisy_and_clean(
                input_ids, clean, positions, blocks, keep, columns, pattern.has_causal_context
            )
        else:
            mask = visible(blocks, blocks)
    elif cache is not None and mask is not None and mask.ndim == 2:
        mask = mask[:, None, None]
    passed = {"past_key_values": cache, "use_cache": False, "keep": columns}
    return family.base_model(input_ids, mask, positions, **passed).last_hidden_state


def _before(keep: Tensor, positions: Tensor | None) -> Tensor:
    """The columns (b, n) before those to keep, where a token stands there."""
    if positions is None:
        return (keep - 1).clamp(min=0)
    return keep - (positions.gather(1, keep) > 0).long()


def _noisy_and_clean(
    noisy: Tensor,
    clean: Tensor,
    positions: Tensor | None,
    blocks: Tensor,
    keep: Tensor,
    columns: Tensor,
    is_causal: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """One sequence of two copies: noisy blocks see themselves and what is clean before them, clean ones what is clean.

    Of the noisy copy only the blocks from the first to the last with columns to keep (b, n) are in it; of the clean one
    what stands before the last of these.

    blocks: (b, S), the number of each column's block, below 0 on padding. columns: (b, n), where the states asked for
    stand in the sequence. Where logits are shifted, that may be in the block before the token's own: then the state is
    the clean one, as it is when that token is sampled. is_causal: whether what is clean sees only what is before it.

    Returns ids, who sees whom, positions, and where the states asked for stand now. Source: BD3LM (arXiv 2503.09573),
    section 3.
    """
    if positions is None:
        positions = torch.arange(noisy.shape[1], device=noisy.device).expand_as(noisy)
    kept_blocks = blocks.gather(1, keep)
    first, last = kept_blocks.amin(1, keepdim=True), kept_blocks.amax(1, keepdim=True)
    noisy_columns = _columns((blocks >= first) & (blocks <= last))
    clean_columns = _columns((blocks >= 0) & (blocks < last))
    size = noisy_columns.shape[1]  # the clean copy begins behind so many columns
    ids = torch.cat([noisy.gather(1, noisy_columns), clean.gather(1, clean_columns)], 1)
    both_columns = torch.cat([noisy_columns, clean_columns], 1)
    block = blocks.gather(1, both_columns)
    is_clean = torch.arange(block.shape[1], device=ids.device) >= size
    of_query, of_key = block[:, :, None], block[:, None, :]
    # Padding sees itself: attention to nothing at all is no number.
    same_block = (of_query == of_key) & (is_clean == is_clean[:, None])
    if is_causal:
        same_block &= ~is_clean | (both_columns[:, None, :] <= both_columns[:, :, None])
    clean_before = (of_key >= 0) & (of_key < of_query) & is_clean
    mask = (same_block | clean_before).unsqueeze(1)
    in_noisy, in_clean = (_places(half, blocks) for half in (noisy_columns, clean_columns))
    is_earlier = blocks.gather(1, columns) < kept_blocks
    where = torch.where(is_earlier, size + in_clean.gather(1, columns), in_noisy.gather(1, columns))
    return ids, mask, positions.gather(1, both_columns), where


def _places(half: Tensor, blocks: Tensor) -> Tensor:
    """(b, S): where each column of the sequence stands in a copy that has the columns `half`; 0 for the others."""
    places = torch.arange(half.shape[1], device=half.device).expand_as(half)
    return torch.zeros_like(blocks).scatter_(1, half, places)


def _columns(wanted: Tensor) -> Tensor:
    """The numbers of the wanted columns (b, S) bool in their order, (b, n); where a row has fewer, others follow."""
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
