"""One pass through a model's body: the last hidden states at the columns that are asked for, and the output layer."""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from spg_trainer.errors import ModelError

if TYPE_CHECKING:
    from peft import PeftModel


def base_model(model: "PreTrainedModel | PeftModel") -> PreTrainedModel:
    """The model below its adapters."""
    return model if isinstance(model, PreTrainedModel) else model.get_base_model()


def hidden_states(
    model: "PreTrainedModel | PeftModel",
    input_ids: Tensor,
    attention_mask: Tensor | None = None,
    keep: Tensor | None = None,
    *,
    positions: Tensor | None = None,
    cache: Any = None,
) -> Tensor:
    """The last hidden states, final norm applied, of a bidirectional pass in which nobody sees padding.

    input_ids: (b, S) int64. attention_mask: (b, S) bool, false on padding; None if there is none. With a cache (b, K),
    of the columns that are attended to. keep: (b, n) int64, the columns that are asked for, None = all; the last layer
    then computes no others. positions: (b, S) int64; None = of the real tokens only, so that left padding changes
    nothing beyond rounding. cache: where keys and values are kept, as `spg_trainer.rollout.cache.Access`.
    Returns (b, S, D) or (b, n, D); padding's hold garbage.
    """
    if positions is None and attention_mask is not None:
        positions = (attention_mask.long().cumsum(-1) - 1).clamp_(min=0)
    if cache is not None and attention_mask is not None:
        attention_mask = attention_mask[:, None, None]
    body = base_model(model).base_model
    passed = {"past_key_values": cache, "use_cache": False, "keep": keep}
    return body(input_ids, attention_mask, positions, **passed).last_hidden_state


def head_weight(model: "PreTrainedModel | PeftModel") -> Tensor:
    """The output embedding (V, D): logits are `hidden_states @ head_weight.T`.

    Raises ModelError if the head is not a plain linear layer without bias, for instance under an adapter.
    """
    head = base_model(model).get_output_embeddings()
    if type(head) is not torch.nn.Linear or head.bias is not None:
        raise ModelError(f"{head} is no linear layer without bias; train without an adapter on lm_head")
    return head.weight
