"""One pass through a model's body: the last hidden states at the columns that are asked for, and the output layer.

Two attributes of a model's class tell families apart: `pattern`, which columns attend to which, and `shift`. With a
shift of 1, the state of the column before a token predicts the token. A model whose pattern has an encoder computes its
states by itself (`canvas_states`).
"""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from spg_trainer.architecture.pattern import block_causal_mask
from spg_trainer.errors import ModelError
from spg_trainer.models.sequence_parallel import divided_states
from spg_trainer.models.shared_text import NoisyCopies, beside_own_text, same_texts, with_shared_text

if TYPE_CHECKING:
    from peft import PeftModel
    from torch.distributed import ProcessGroup


def base_model(model: "PreTrainedModel | PeftModel") -> PreTrainedModel:
    """The model below its adapters."""
    return model if isinstance(model, PreTrainedModel) else model.get_base_model()


def trainable_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """{name: parameter} of the trained parameters, in the order in which an optimizer numbers them."""
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
    from_context: Tensor | None = None,
    conditioned: Tensor | None = None,
    group: "ProcessGroup | None" = None,
) -> Tensor:
    """The last hidden states, final norm applied, from which logits of tokens are computed; padding is not seen.

    Args:
        input_ids: (b, S) int64.
        attention_mask: (b, S) bool, false on padding; None = no padding. With a cache it is (b, K), false on columns
            that no column attends to. It may also be a *mask of pairs*, (b, 1, S, K): which column attends to which.
        keep: (b, n) int64, the columns of the wanted tokens; the last layer computes no others. None = all columns; not
            allowed with a mask of pairs in a causal context.
        positions: (b, S) int64; None = counted over the real tokens only, so that left padding changes nothing beyond
            rounding.
        cache: where keys and values are kept, as `spg_trainer.rollout.cache.Access`.
        start: the completion's first column, for a pattern whose blocks begin there.
        clean: (b, S) int64, the tokens as later blocks see them; None = as in `input_ids`. One pass can then show masks
            in every block: the states of a block are those of a pass in which only this block is as in `input_ids`,
            and all others are clean. Rows with the same clean tokens share the work on these tokens. It has no effect
            in a pattern without blocks or with a mask of pairs.
        blocks: (b, S) int64, the number of each column's block; only needed with a mask of pairs in a causal context.
        from_context: (b, n) bool, which of the wanted tokens are predicted only from the clean text before them; only
            in a causal context or with an encoder, without a mask of pairs.
        conditioned: (b, n) bool, wanted tokens whose block is conditioned on its own prediction, which a first pass
            without a graph makes; only with an encoder. None = none is.
        group: processes that divide the columns of this pass among themselves; all of them call this with the same
            tensors. Needs `keep`, without a cache. None = this process computes all columns.

    Returns the states from which the wanted tokens are predicted, (b, n, D), or (b, S, D) without `keep`; states of
    padding are garbage. Where the state of a token stands:

    - Usually at the token's own column.
    - If logits are shifted, at the column before; only the state of a row's first token stands at its own.
    - In a causal context, the state of each block's first token stands at the column before. The sampler writes this
      token before the rest of its block, so the rest sees the clean token even where `input_ids` mask it.
    """
    base = base_model(model)
    pattern = base.pattern
    if pattern.has_encoder:
        return base.canvas_states(
            input_ids,
            input_ids if clean is None else clean,
            torch.ones_like(input_ids, dtype=torch.bool) if attention_mask is None else attention_mask.bool(),
            keep,
            start,
            from_context=from_context,
            conditioned=conditioned,
        )
    has_mask_of_pairs = attention_mask is not None and attention_mask.ndim == 4
    if clean is None and pattern.has_causal_context and not has_mask_of_pairs:
        clean = input_ids
    shows_blocks_twice = clean is not None and not pattern.is_full  # as in `input_ids`, and clean
    positions_are_counted = positions is None
    if positions is None and attention_mask is not None:
        positions = (attention_mask.long().cumsum(-1) - 1).clamp_(min=0)
    if positions is None and shows_blocks_twice:
        positions = torch.arange(input_ids.shape[1], device=input_ids.device).expand_as(input_ids)
    if keep is None and (base.shift or shows_blocks_twice):
        keep = torch.arange(input_ids.shape[1], device=input_ids.device).expand(input_ids.shape)
    columns = _before(keep, positions) if base.shift else keep  # where the wanted states stand
    mask = attention_mask
    needs_mask = not pattern.is_full and not has_mask_of_pairs
    if needs_mask:
        blocks = pattern.blocks(torch.ones_like(input_ids, dtype=torch.bool) if mask is None else mask, start)
    if pattern.has_causal_context:
        is_first = blocks.diff(dim=1, prepend=blocks[:, :1]) != 0
        is_before = is_first.gather(1, keep)
        if from_context is not None:
            is_before |= from_context
        columns = torch.where(is_before, _before(keep, positions), columns)
    cache_arguments = {"past_key_values": cache, "use_cache": False}  # transformers' names
    if needs_mask:
        if pattern.has_causal_context:
            input_ids = torch.where(is_first, clean, input_ids)
        if shows_blocks_twice:
            copies = NoisyCopies(
                input_ids,
                clean,
                positions,
                blocks,
                keep,
                columns,
                is_causal=pattern.has_causal_context,
                from_context=from_context,
            )
            return _states_of_copies(
                base, copies, cache_arguments, may_share=positions_are_counted, group=group
            )
        mask = block_causal_mask(blocks, blocks)
    elif cache is not None and mask is not None and mask.ndim == 2:
        mask = mask[:, None, None]
    arguments = {"input_ids": input_ids, "attention_mask": mask, "position_ids": positions, "keep": columns}
    return _states(base, group, **arguments, **cache_arguments)


def _states(base: PreTrainedModel, group: "ProcessGroup | None", **arguments: Any) -> Tensor:
    """The last hidden states of a pass of the body. group: as for `hidden_states`."""
    if group is not None:
        return divided_states(base.base_model, group, **arguments)
    return base.base_model(**arguments).last_hidden_state


def _states_of_copies(
    base: PreTrainedModel,
    copies: NoisyCopies,
    cache_arguments: dict[str, Any],
    may_share: bool,
    group: "ProcessGroup | None",
) -> Tensor:
    """The wanted last hidden states (b, n, D) of b copies; a text that copies share goes through the model only once.

    may_share: whether equal texts have equal positions, too. group: as for `hidden_states`.
    """
    text, num_texts = None, len(copies.clean)
    # Only our "sdpa" kernel (`shared_text.attend`) handles shared texts.
    if may_share and num_texts > 1 and base.config._attn_implementation == "sdpa":
        text, num_texts = same_texts(copies)
    shares = text is not None and num_texts < len(text)
    arguments = with_shared_text(copies, text, num_texts) if shares else beside_own_text(copies)
    states = _states(base, group, **arguments, **cache_arguments)
    return states.view(*copies.keep.shape, -1)


def _before(keep: Tensor, positions: Tensor | None) -> Tensor:
    """The columns (b, n) before those to keep; the first token of a row keeps its own column."""
    if positions is None:
        return (keep - 1).clamp(min=0)
    return keep - (positions.gather(1, keep) > 0).long()


def head_weight(model: "PreTrainedModel | PeftModel") -> Tensor:
    """The output embedding (V, D): logits are `hidden_states @ head_weight.T`.

    Raises ModelError if the head is not a plain linear layer without bias, for instance under an adapter.
    """
    head = base_model(model).get_output_embeddings()
    kinds = (type(head), *type(head).__bases__)  # FSDP makes the class of a divided head from nn.Linear
    if torch.nn.Linear not in kinds or head.bias is not None:
        raise ModelError(f"{head} is no linear layer without bias; train without an adapter on lm_head")
    return head.weight
