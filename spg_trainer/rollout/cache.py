"""Keys and values that are kept between passes, and which columns a pass computes anew (`--cache`).

A *refresh* computes all columns; with most caches it is the first pass of a block. All other passes compute a window of
columns, and attend to the rest as the last refresh left it. To add a cache, put it into `CACHES` (`settings/rules.py`).
E.g. `CACHES["mine"] = Cache(lambda sampling: (8, None))` computes the block, 8 columns before it and all after it.
`check_pattern` refuses settings of decoding that cannot work with a model's attention, before its weights are opened.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from spg_trainer.errors import ConfigError
from spg_trainer.settings.decoding import Sampling
from spg_trainer.settings.rules import CACHES

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

    from spg_trainer.architecture.pattern import Pattern
    from spg_trainer.models.policy import Policy

POSITIONS_PER_THREAD = 1024
"""How many positions (rows x columns) a forward pass on a CPU takes for each thread. Such a pass stays in the
processor's cache, and is 1.3 to 1.6 times faster than larger ones."""


def window_of_block(start: int, stop: int, columns: int, sampling: Sampling) -> tuple[int, int]:
    """(first column, end) of the window that a pass within a block computes.

    start, stop: first column and end of the block. columns: how many columns the row sees; the window ends there at
    most.
    """
    before, after = CACHES[sampling.cache].margins(sampling)
    end = columns if after is None else min(columns, stop + after)
    return max(0, start - before), end


def bytes_per_column(config: "PreTrainedConfig", itemsize: int) -> int:
    """Bytes of the keys and values of one column of one row in all layers: 512 KiB for LLaDA-8B in bfloat16."""
    keys = getattr(config, "keys_of_layers", None)  # where layers differ
    if keys is None:
        keys = config.num_hidden_layers * config.num_key_value_heads * config.head_dim
    return 2 * keys * itemsize


def rows_in_flight(
    num_rows: int, rows_per_forward: int | None, block_length: int, device: torch.device
) -> int:
    """How many of `num_rows` are decoded, and have keys and values, at once.

    The number is `rows_per_forward` if it is set. Else it is all rows on a GPU, and on a CPU as many rows as fill a
    forward pass (`POSITIONS_PER_THREAD` for each thread) with one block each.
    """
    at_once = num_rows
    if rows_per_forward:
        at_once = rows_per_forward
    elif device.type == "cpu":
        at_once = max(1, POSITIONS_PER_THREAD * torch.get_num_threads() // block_length)
    return min(num_rows, at_once)


def rows_that_fit(row_bytes: int, device: torch.device) -> int | None:
    """How many rows of `row_bytes` have room on a GPU beside 2 GiB for logits; None = no limit is known, on a CPU."""
    if device.type != "cuda":
        return None
    free, _ = torch.cuda.mem_get_info(device)
    # Memory that torch has reserved and does not use at present is free for us, too.
    unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return (free + unused - 2**31) // row_bytes


def buffers_for(
    policy: "Policy", num_rows: int, columns: int, sampling: Sampling, rows_per_forward: int | None
) -> "KeyValues | None":
    """Buffers for the rows that are decoded at once: `rows_in_flight`, or fewer where the device has no room for them.

    columns: how many each row has. Returns None if the cache keeps nothing. Raises ConfigError if the model's attention
    cannot compute a part of the columns, or if the device has no room for a single row.
    """
    from spg_trainer.models.forward import head_weight

    if CACHES[sampling.cache].margins is None:
        return None
    config, device = policy.model.config, policy.model.device
    if config._attn_implementation != "sdpa":
        raise ConfigError(
            f"cache={sampling.cache}: the model attends by {config._attn_implementation!r}, which cannot leave out "
            'columns. Use cache=none, or model.set_attn_implementation("sdpa").'
        )
    slots = rows_in_flight(num_rows, rows_per_forward, sampling.block_length, device)
    kept_bytes = columns * bytes_per_column(config, head_weight(policy.model).element_size())  # of one row
    # An estimate of what a refresh holds in memory at once for one column: three tensors as wide as the model and three
    # as wide as its feed-forward layer, in float32.
    pass_bytes_per_column = 4 * 3 * (config.hidden_size + config.intermediate_size)
    most_rows = rows_that_fit(kept_bytes + columns * pass_bytes_per_column, device)
    if most_rows is not None and most_rows < 1:
        raise ConfigError(
            f"cache={sampling.cache}: keys and values of {columns} columns take {kept_bytes / 2**30:.1f} GiB, and "
            f"{device} has no room for one row. Use cache=none, or a shorter completion."
        )
    return KeyValues(slots if most_rows is None else min(slots, most_rows), columns)


class KeyValues:
    """Keys (with their rotary positions) and values of the rows in flight: a buffer for each layer, written in place.

    slots: how many rows a buffer has room for; a row has the same slot in all layers. columns: how many columns a slot
    has. A buffer is made when its layer's first keys come, with their number type.
    """

    def __init__(self, slots: int, columns: int) -> None:
        self.slots, self.columns = slots, columns
        self.layers: dict[int, Tensor] = {}

    def buffer(self, layer: int, like: Tensor) -> Tensor:
        """The keys and values of a layer, (2, slots, columns, heads, head_dim).

        like: keys of that layer, (b, heads, s, head_dim), from which a new buffer takes its shape and type.
        """
        if layer not in self.layers:
            # Not `torch.empty`: attention multiplies the values of masked columns by 0, and 0 * NaN is NaN.
            shape = (2, self.slots, self.columns, like.shape[1], like.shape[3])
            self.layers[layer] = torch.zeros(shape, dtype=like.dtype, device=like.device)
        return self.layers[layer]

    def move(self, slots: Tensor, columns: int) -> None:
        """Copies the first `columns` columns of `slots`, (b,) int64, to the slots 0..b-1."""
        for buffer in self.layers.values():
            buffer[:, : len(slots), :columns] = buffer[:, slots, :columns]


@dataclass
class Access:
    """Reads and writes the buffers for attention in one forward pass of b rows, in place of transformers' `Cache`.

    Attention first writes the keys and values that the pass computes into the rows' slots. In a refresh it then attends
    to these alone. In other passes it attends to the columns first .. end - 1 of the slots, some of which earlier
    passes computed.
    """

    store: KeyValues
    slots: Tensor | slice
    """The slots that are written: (b,) int64, or a slice if they are neighbours."""
    columns: Tensor | slice
    """The columns that the pass computes: a slice or (s,) int64 if all rows compute the same ones; else (b, s) int64,
    and `slots` is a tensor, too."""
    first: int = 0
    """The first of the columns that are attended to; not used in a refresh."""
    end: int = 0
    """The end of these columns; 0 in a refresh, which attends to the columns that it computes."""
    computed_row: Tensor | None = None
    """(b,) int64, which of the c computed rows goes into each of the b slots. A refresh computes equal rows once, so c
    may be less than b. None = every slot has a computed row of its own, in the same order."""

    def update(self, key: Tensor, value: Tensor, layer: int, *args: object) -> tuple[Tensor, Tensor]:
        """Takes the keys and values (c, heads, s, head_dim) that a layer has computed; returns those to attend to."""
        buffer = self.store.buffer(layer, key)
        slots = self.slots
        if not isinstance(self.columns, slice) and self.columns.ndim == 2:
            slots = slots.unsqueeze(-1)  # (b, 1), beside the columns (b, s)
        for kept, computed in zip(buffer, (key, value), strict=True):
            computed = computed.transpose(1, 2)  # (b, s, heads, head_dim), as the buffer has them
            kept[slots, self.columns] = computed if self.computed_row is None else computed[self.computed_row]
        is_refresh = self.end == 0
        if is_refresh:
            return key, value
        key, value = buffer[:, self.slots, self.first : self.end].transpose(2, 3)
        return key, value

    def indices(self) -> dict[str, Tensor | slice | None]:
        """Where keys and values go; a replayed pass (`models/cuda_graphs.py`) takes other tensors in place of these."""
        return {"slots": self.slots, "columns": self.columns, "computed_row": self.computed_row}

    # transformers asks a cache for its length, to make attention masks and positions. Here `models.forward` makes them.
    # So the first two methods return 0, as if no column had come before, and the third counts keys from 0.

    def get_seq_length(self, layer: int = 0) -> int:
        return 0

    def get_query_offset(self, layer: int = 0) -> int:
        return 0

    def get_mask_sizes(self, queries: int, layer: int = 0) -> tuple[int, int]:
        """How many keys are attended to, and the number of the first of them, which is 0."""
        return (self.end - self.first if self.end else queries), 0


NOT_WITH_REDRAWING = "remasking top_p top_k eos_penalty min_completion_length cache editing_threshold".split()
"""The settings of decoding that say nothing where a whole canvas is drawn anew in each step."""


def check_noise(noise: str, sampling: Sampling) -> None:
    """Raises ConfigError for decoding that does not go with what a model shows at a hidden place (`Policy.noise`)."""
    redraws = sampling.unmasking_rule.redraws
    if noise != "uniform":
        if redraws:
            raise ConfigError(
                f"$unmasking={sampling.unmasking} draws random tokens again, and this model hides a token by [MASK]. "
                "Use $unmasking=schedule or threshold."
            )
        return
    if not redraws:
        raise ConfigError(
            f"$unmasking={sampling.unmasking}: this model has no [MASK], but hides a token by a random one. Use "
            "$unmasking=entropy_bound."
        )
    for name in NOT_WITH_REDRAWING:
        value = getattr(sampling, name)
        if value != getattr(Sampling, name):
            raise ConfigError(
                f"${name}={value} says nothing with $unmasking={sampling.unmasking}, which decodes as the model's "
                "generation_config.json says. Leave it out."
            )


def check_pattern(pattern: "Pattern", sampling: Sampling) -> None:
    """Raises ConfigError for a cache or a block length that does not go with `pattern`: which tokens see which."""
    block_length, cache = sampling.block_length, sampling.cache
    if pattern.has_encoder:
        size, length = pattern.block_size, sampling.max_completion_length
        if block_length != size:
            whole = -(-length // size) * size
            raise ConfigError(
                f"$block_length={block_length}: this model writes canvases of {size} tokens. Use $block_length={size} "
                f"$max_completion_length={whole}."
            )
        return
    if pattern.is_full:
        if CACHES[cache].keeps_blocks:
            raise ConfigError(
                "$cache=blocks keeps the keys of finished blocks, which change in this model: every token attends to "
                "every other. Use $cache=none, or $cache=dual, which is an approximation."
            )
        return
    if pattern.has_causal_context and sampling.editing_threshold is not None:
        raise ConfigError(
            f"editing_threshold={sampling.editing_threshold}: in this model a block's first token is drawn before the "
            "others, which it does not see, so that it cannot be drawn again beside them. Leave out editing_threshold."
        )
    attention_block = pattern.block_size
    if attention_block % block_length:
        up_to = min(block_length, attention_block)
        largest_divisor = max(n for n in range(1, up_to + 1) if attention_block % n == 0)
        fitting = sorted({largest_divisor, attention_block})
        raise ConfigError(
            f"$block_length={block_length} does not divide the {attention_block} tokens of a block of the model's "
            f"attention. Use {' or '.join(f'$block_length={n}' for n in fitting)}."
        )
    if CACHES[cache].margins is not None and not CACHES[cache].keeps_blocks:
        raise ConfigError(
            f"$cache={cache} approximates a model whose tokens all attend to each other; in this one finished blocks "
            "never change. Use $cache=blocks, which is exact."
        )
