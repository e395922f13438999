"""Attention of rows that begin with padding by torch's kernel for variable lengths, which takes no mask.

A mask keeps attention off a GPU's flash kernel. Here the keys of all rows of a pass stand in one line, in which the
padding of a row and the rest of it are two sequences; the queries of a row belong to the rest. So nothing is copied,
and where sequences begin is computed on the GPU, without a wait.

Axes: b rows, Q query columns and K key columns of a row, h heads.
"""

from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from spg_trainer.architecture.pattern import Pattern
from spg_trainer.errors import ConfigError

VARLEN_DTYPES = frozenset({torch.bfloat16, torch.float16})
"""The types that torch's kernel takes."""


def check_varlen(pattern: Pattern, device: torch.device, dtype: torch.dtype) -> None:
    """Raises ConfigError for --varlen-attention where torch's kernel cannot compute a model's attention.

    dtype: the type in which the model computes.
    """
    if find_spec("torch.nn.attention.varlen") is None:
        raise ConfigError(
            f"$varlen_attention: torch {torch.__version__} has no variable-length attention. Install torch 2.13, or "
            "leave it out."
        )
    if not pattern.is_full:
        raise ConfigError(
            "$varlen_attention: the model's attention is in blocks, which need a mask of pairs. Leave it out."
        )
    if device.type != "cuda":
        raise ConfigError(
            f"$varlen_attention: torch has this kernel for a GPU, not for {device}. Leave it out."
        )
    if dtype not in VARLEN_DTYPES:
        raise ConfigError(
            f"$varlen_attention: the model computes in {str(dtype).removeprefix('torch.')}, and torch's kernel in 16 "
            "bits. Use $dtype=bfloat16, or leave it out."
        )


def sequence_ends(mask: Tensor) -> Tensor:
    """(2b + 1,) int32: 0, then where each row's padding ends among b * K keys in one line, and where its rest does.

    mask: (b, 1, 1, K), bool or numbers that are added to scores; it hides the first keys of a row.
    """
    seen = mask.flatten(1) if mask.dtype == torch.bool else mask.flatten(1) == 0
    num_rows, num_keys = seen.shape
    row_ends = torch.arange(1, num_rows + 1, device=mask.device) * num_keys
    ends = torch.stack([row_ends - seen.sum(1), row_ends], 1).flatten()
    return torch.cat([ends.new_zeros(1), ends]).int()


def attend_by_length(
    query: Tensor, key: Tensor, value: Tensor, key_ends: Tensor, scaling: float | None, **kwargs: Any
) -> tuple[Tensor, None]:
    """Attention of all queries to the keys that are no padding: (the output (b, Q, h, head_dim), None).

    query: (b, h, Q, head_dim). key, value: (b, heads of keys, K, head_dim), in 16 bits. key_ends: as from
    `sequence_ends`. scaling: what scores are multiplied by; None = 1 / sqrt(head_dim). kwargs: what transformers gives
    to its kernels beyond these, for which the families have no other use (dropout is 0).

    Where Q = K, the queries of padding attend to padding, and nothing reads their outputs. Elsewhere no query belongs
    to padding, so a backward pass could leave the gradients of its keys undefined; only rollouts have such passes.
    """
    from torch.nn.attention.varlen import varlen_attn  # which older torch does not have

    num_rows, num_heads, num_queries, _ = query.shape
    num_keys = key.shape[2]
    query_ends = key_ends
    if num_queries != num_keys:
        row_ends = torch.arange(num_rows + 1, device=query.device, dtype=torch.int32) * num_queries
        query_ends = row_ends.repeat_interleave(2)[:-1]
    in_line = (x.transpose(1, 2).flatten(0, 1) for x in (query, key, value))
    output = varlen_attn(
        *in_line,
        query_ends,
        key_ends,
        num_queries,
        num_keys,
        scale=scaling,
        enable_gqa=key.shape[1] != num_heads,
    )
    return output.unflatten(0, (num_rows, num_queries)), None
