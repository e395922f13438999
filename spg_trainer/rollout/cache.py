"""Keys and values that are kept between passes, and which columns a pass computes anew (`--cache`).

A *refresh*, the first pass of a block, computes all columns. The other passes compute a window of them and attend to
the rest as the last refresh left it. A cache of one's own is a line: `CACHES["mine"] = lambda sampling: (8, None)`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from spg_trainer.errors import ConfigError
from spg_trainer.settings.decoding import Sampling

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

    from spg_trainer.models.policy import Policy

POSITIONS_PER_THREAD = 1024
"""Forward passes of so many positions stay in a CPU's cache: 1.3 to 1.6 times faster than larger ones."""
Beside = Callable[[Sampling], tuple[int, int | None]]
"""How many columns before and behind the block every pass computes anew; None = all that are behind it."""

CACHES: dict[str, Beside | None] = {
    "none": None,
    "prefix": lambda sampling: (0, None),
    "dual": lambda sampling: (0, 0),
    "window": lambda sampling: (sampling.window_tokens, sampling.window_tokens),
    "blocks": lambda sampling: (0, 0),
}
"""What `--cache NAME` chooses from. None: every pass is a refresh, and nothing is kept. `prefix` and `dual` are
Fast-dLLM's (arXiv 2505.22618), `window` is dInfer's vicinity (arXiv 2510.08666). `blocks` is for block-causal
attention, whose finished blocks never change: the block is one of attention's, and a row is refreshed once."""


def window(start: int, stop: int, columns: int, sampling: Sampling) -> tuple[int, int]:
    """First and end of the columns that a pass within a block computes. start, stop: the block's, among all columns."""
    before, behind = CACHES[sampling.cache](sampling)
    return max(0, start - before), columns if behind is None else min(columns, stop + behind)


def bytes_per_column(config: PreTrainedConfig, itemsize: int) -> int:
    """Keys and values of one column of one row in all layers: 512 KiB for LLaDA-8B in bfloat16."""
    return 2 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim * itemsize


def pass_bytes(config: PreTrainedConfig) -> int:
    """What a refresh has in memory at once for a column and row: three wide and three narrow tensors, in float32."""
    return 3 * 4 * (config.hidden_size + config.intermediate_size)


def rows_in_flight(rows: int, rows_per_forward: int | None, block_length: int, device: torch.device) -> int:
    """How many of `rows` have keys and values at once: as many as asked for, else enough to fill a pass."""
    on_cpu = max(1, POSITIONS_PER_THREAD * torch.get_num_threads() // block_length)
    return min(rows, rows_per_forward or (on_cpu if device.type == "cpu" else rows))


def rows_that_fit(row_bytes: int, device: torch.device) -> int | None:
    """How many rows have room on a GPU beside 2 GiB for logits; None where nobody counts, on a CPU."""
    if device.type != "cuda":
        return None
    free = torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device)
    return (free - torch.cuda.memory_allocated(device) - 2**31) // row_bytes


def budget(
    config: PreTrainedConfig,
    dtype: torch.dtype,
    device: torch.device,
    sampling: Sampling,
    rows: int,
    rows_per_forward: int | None,
) -> str:
    """One line: what the keys and values of a rollout of so many rows take on each process."""
    length = sampling.max_completion_length
    rows = rows_in_flight(rows, rows_per_forward, sampling.block_length, device)
    column = bytes_per_column(config, dtype.itemsize)
    return (
        f"Decoding keeps keys and values: {rows} rows at once x (prompt + {length}) columns x {column / 1024:.0f} KiB: "
        f"{rows * length * column / 2**30:.2f} GiB, and {rows * column / 2**20:.0f} MiB a token of the prompt."
    )


def buffers_for(
    policy: Policy, rows: int, columns: int, sampling: Sampling, rows_per_forward: int | None
) -> KeyValues | None:
    """Room for as many of the rows at once as are asked for and fit; None where nothing is kept.

    Raises ConfigError where the model cannot leave out columns, or the device has no room for one row.
    """
    from spg_trainer.models.states import head_weight

    if CACHES[sampling.cache] is None:
        return None
    config, device = policy.model.config, policy.model.device
    if config._attn_implementation != "sdpa":
        raise ConfigError(
            f"cache={sampling.cache}: the model attends by {config._attn_implementation!r}, which cannot leave out "
            'columns. Use cache=none, or model.set_attn_implementation("sdpa").'
        )
    slots = rows_in_flight(rows, rows_per_forward, sampling.block_length, device)
    row_bytes = columns * bytes_per_column(config, head_weight(policy.model).element_size())
    fit = rows_that_fit(row_bytes + columns * pass_bytes(config), device)
    if fit is not None and fit < 1:
        raise ConfigError(
            f"cache={sampling.cache}: keys and values of {columns} columns take {row_bytes / 2**30:.1f} GiB, and "
            f"{device} has no room for one row. Use cache=none, or a shorter completion."
        )
    return KeyValues(slots if fit is None else min(slots, fit), columns)


class KeyValues:
    """Rotated keys and values of the rows in flight: for each layer one buffer, written in place.

    slots: rows that it holds. columns: of each. Buffers are made with the first keys and so have their type.
    """

    def __init__(self, slots: int, columns: int) -> None:
        self.slots, self.columns = slots, columns
        self.layers: dict[int, Tensor] = {}

    def buffer(self, layer: int, like: Tensor) -> Tensor:
        """(2, slots, columns, heads, head_dim); `like` is (b, heads, s, head_dim)."""
        if layer not in self.layers:
            # Zeros, because attention multiplies what its mask hides by 0, and memory may hold NaN.
            shape = (2, self.slots, self.columns, like.shape[1], like.shape[3])
            self.layers[layer] = torch.zeros(shape, dtype=like.dtype, device=like.device)
        return self.layers[layer]

    def move(self, slots: Tensor, columns: int) -> None:
        """Brings the first columns of some slots (b,) to the slots 0..b-1."""
        for buffer in self.layers.values():
            buffer[:, : len(slots), :columns] = buffer[:, slots, :columns]


@dataclass
class Access:
    """What attention does with the buffers in one forward pass, called as transformers' `Cache` is.

    It writes the fresh columns, then attends to the columns `lowest`..`end` of its slots, or in a refresh to what is
    fresh alone.
    """

    store: KeyValues
    slots: Tensor | slice
    """Of the rows: (b,) int64, or a slice."""
    columns: Tensor | slice
    """Those that are computed: a slice where all rows have the same, else (b, s) int64, and slots is a tensor."""
    lowest: int = 0
    end: int = 0
    """0 in a refresh."""
    source: Tensor | None = None
    """(b,) int64, in a refresh: the computed row that each slot takes; None = each its own."""

    def update(self, key: Tensor, value: Tensor, layer: int, *args: object) -> tuple[Tensor, Tensor]:
        """key, value (b, heads, s, head_dim), fresh. Returns those that are attended to, (b, heads, n, head_dim)."""
        buffer = self.store.buffer(layer, key)
        rows = self.slots if isinstance(self.columns, slice) else self.slots.unsqueeze(-1)
        for part, fresh in zip(buffer, (key, value), strict=True):
            fresh = fresh.transpose(1, 2)
            part[rows, self.columns] = fresh if self.source is None else fresh[self.source]
        if not self.end:
            return key, value
        key, value = buffer[:, self.slots, self.lowest : self.end].transpose(2, 3)
        return key, value

    def get_seq_length(self, layer: int = 0) -> int:
        return 0

    def get_query_offset(self, layer: int = 0) -> int:
        return 0

    def get_mask_sizes(self, queries: int, layer: int = 0) -> tuple[int, int]:
        return (self.end - self.lowest if self.end else queries), 0
