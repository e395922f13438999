"""Passes over masked copies of completions beside their clean text, for models with block-causal attention.

A noisy (masked) block sees itself and the clean blocks before it. So one pass over noisy and clean columns gives each
block the states of a pass in which only that block is masked (BD3LM, arXiv 2503.09573, section 3).

The clean columns see no noisy ones, and so are the same for all copies of a text. `beside_own_text` gives each copy a
sequence [noisy | clean]. `with_shared_text` puts each text into the pass once, for all of its copies: one sequence
[text 1 | text 2 | ... | copy 1 | copy 2 | ...], in which the queries of a copy meet the keys of its text and its own.
There is no mask over the whole sequence.

Axes: S copies of r texts; W columns of a text with its prompt, of which n are asked for in each copy. The pass has C
clean columns for each text and N noisy columns for each copy.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from spg_trainer.models.sequence_parallel import DividedColumns
from spg_trainer.models.varlen import attend_by_length


@dataclass(frozen=True)
class NoisyCopies:
    """The masked copies of texts that a pass is to compute, with the clean text of each."""

    noisy: Tensor
    """(S, W) int64, tokens as their own block sees them."""
    clean: Tensor
    """(S, W) int64, tokens as later blocks see them."""
    positions: Tensor
    """(S, W) int64."""
    blocks: Tensor
    """(S, W) int64, the number of each column's block, below 0 on padding."""
    keep: Tensor
    """(S, n) int64, the columns of the tokens that are asked for."""
    columns: Tensor
    """(S, n) int64, where the states of these tokens stand. If logits are shifted, a state may stand in the block
    before the token's own. It is then the clean state, as it was when the token was sampled."""
    is_causal: bool
    """Whether a clean column sees only itself and the clean columns before it."""
    from_context: Tensor | None = None
    """(S, n) bool, tokens whose state is the clean one although it stands in their own block; None = none."""

    def are_clean(self, kept_blocks: Tensor) -> Tensor:
        """(S, n) bool, whether the state of each wanted token is a clean one. kept_blocks: (S, n), their blocks."""
        is_earlier = self.blocks.gather(1, self.columns) < kept_blocks
        return is_earlier if self.from_context is None else is_earlier | self.from_context

    def end_of_clean(self, last: Tensor) -> Tensor:
        """(S, 1), the first block whose clean columns are not needed.

        last: (S, 1), the last block with wanted tokens. Its own clean columns are needed only for `from_context`.
        """
        if self.from_context is None:
            return last
        needs_own_block = self.from_context.any(1, keepdim=True)
        return last + needs_own_block


@dataclass(frozen=True)
class SharedText:
    """The masks and places of attention, in a pass over one sequence of r texts and S copies of them."""

    text: Tensor
    """(S,) int64, the number of each copy's text."""
    clean_mask: Tensor
    """(r, 1, C, C) bool, which column of a text sees which."""
    place: Tensor
    """(S, n) int64, where the wanted queries stand among the C + N columns that a copy sees."""
    only_asked: bool = False
    """Whether the queries are only the wanted ones, n of each copy, instead of all columns."""

    @property
    def clean_columns(self) -> int:
        """How many columns the r texts take together, at the start of the sequence."""
        return len(self.clean_mask) * self.clean_mask.shape[-1]

    def seen(self, x: Tensor) -> Tensor:
        """Keys or values (1, heads, columns, head_dim) as the copies see them: (S, heads, C + N, head_dim)."""
        num_texts, _, columns_of_text, _ = self.clean_mask.shape
        x = x.squeeze(0).transpose(0, 1)  # (columns, heads, head_dim)
        clean = x[: self.clean_columns].unflatten(0, (num_texts, columns_of_text))
        noisy = x[self.clean_columns :].unflatten(0, (len(self.text), -1))
        return torch.cat([clean[self.text], noisy], 1).transpose(1, 2)

    def mask_of_asked(self, mask: Tensor) -> Tensor:
        """(S, 1, n, C + N) bool, what the wanted queries see. mask: (S, 1, N, C + N), what the noisy columns see."""
        clean_size = self.clean_mask.shape[-1]  # C
        rows = torch.arange(len(mask), device=mask.device)[:, None]
        if clean_size == 0:  # all queries are noisy
            return mask[rows, :, self.place].transpose(1, 2)
        # A query stands in the clean text (place < C) or in the noisy columns after it.
        is_clean = self.place < clean_size
        if_noisy = mask[rows, 0, (self.place - clean_size).clamp(min=0)]
        if_clean = torch.zeros_like(if_noisy)
        if_clean[..., :clean_size] = self.clean_mask[
            self.text[:, None], 0, self.place.clamp(max=clean_size - 1)
        ]
        return torch.where(is_clean[..., None], if_clean, if_noisy).unsqueeze(1)


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    shared: SharedText | None = None,
    columns: DividedColumns | None = None,
    key_ends: Tensor | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """transformers' attention by torch's kernels, also of copies that share their texts.

    query, key, value: (b, heads, columns, head_dim). Where texts are shared, b = 1 and attention_mask is the mask of
    the copies, see `with_shared_text`. columns: if given, the queries, keys and values are those of this process's
    columns, and masks are of all columns. key_ends: if given, padding is hidden by `attend_by_length`, not by a mask.
    Returns (the output (b, queries, heads, head_dim), None in place of weights).
    """
    if columns is not None:

        def of_all_columns(query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, None]:
            return attend(module, query, key, value, attention_mask, shared, key_ends=key_ends, **kwargs)

        return columns.attend(of_all_columns, query, key, value)
    if key_ends is not None:
        return attend_by_length(query, key, value, key_ends, **kwargs)
    if shared is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)
    # The queries of texts come first, if there are any; then those of copies.
    num_text_queries = 0 if shared.only_asked else shared.clean_columns
    mask = shared.mask_of_asked(attention_mask) if shared.only_asked else attention_mask
    outputs = []
    if num_text_queries:
        texts = (_as_rows(x[:, :, :num_text_queries], len(shared.clean_mask)) for x in (query, key, value))
        output, _ = sdpa_attention_forward(module, *texts, shared.clean_mask, **kwargs)
        outputs.append(output)
    copies = _as_rows(query[:, :, num_text_queries:], len(shared.text))
    output, _ = sdpa_attention_forward(module, copies, shared.seen(key), shared.seen(value), mask, **kwargs)
    outputs.append(output)
    return torch.cat([part.flatten(0, 1) for part in outputs]).unsqueeze(0), None


def _as_rows(x: Tensor, rows: int) -> Tensor:
    """(1, heads, rows * columns, head_dim) as (rows, heads, columns, head_dim)."""
    return x.squeeze(0).unflatten(1, (rows, -1)).transpose(0, 1)


# Replaces transformers' kernel of this name for all models; without shared texts it does the same.
ALL_ATTENTION_FUNCTIONS.register("sdpa", attend)


def beside_own_text(copies: NoisyCopies) -> dict[str, Any]:
    """The arguments of the model's body (`body.py: Body.forward`) for each copy as one sequence [noisy | clean].

    `input_ids` and `position_ids` are (S, Q) int64. `attention_mask` is (S, 1, Q, Q) bool, which column sees which.
    `keep` is (S, n) int64, where the wanted states stand in the sequence.
    """
    blocks = copies.blocks
    kept_blocks = blocks.gather(1, copies.keep)
    noisy_columns, last = _noisy_columns(blocks, kept_blocks)
    clean_columns = _chosen_columns((blocks >= 0) & (blocks < copies.end_of_clean(last)))
    noisy_size = noisy_columns.shape[1]  # N: the clean columns begin after these
    ids = torch.cat([copies.noisy.gather(1, noisy_columns), copies.clean.gather(1, clean_columns)], 1)
    both_columns = torch.cat([noisy_columns, clean_columns], 1)
    block_of_column = blocks.gather(1, both_columns)
    is_clean = torch.arange(both_columns.shape[1], device=ids.device) >= noisy_size
    query_block, key_block = block_of_column[:, :, None], block_of_column[:, None, :]
    # Padding sees itself, because attention to nothing at all would give NaN.
    same_block = (query_block == key_block) & (is_clean == is_clean[:, None])
    if copies.is_causal:
        same_block &= ~is_clean | (both_columns[:, None, :] <= both_columns[:, :, None])
    clean_before = (key_block >= 0) & (key_block < query_block) & is_clean
    mask = (same_block | clean_before).unsqueeze(1)
    place_in_noisy, place_in_clean = _places(noisy_columns, blocks), _places(clean_columns, blocks)
    place_of_state = torch.where(
        copies.are_clean(kept_blocks),
        noisy_size + place_in_clean.gather(1, copies.columns),
        place_in_noisy.gather(1, copies.columns),
    )
    positions = copies.positions.gather(1, both_columns)
    return {"input_ids": ids, "attention_mask": mask, "position_ids": positions, "keep": place_of_state}


def same_texts(copies: NoisyCopies) -> tuple[Tensor, int]:
    """(S,) int64, the number of each copy's text, and how many texts there are.

    Two copies have the same text if their clean tokens and their padding are equal.
    """
    texts, text = torch.unique(copies.clean.masked_fill(copies.blocks < 0, -1), dim=0, return_inverse=True)
    return text, len(texts)


def with_shared_text(copies: NoisyCopies, text: Tensor, num_texts: int) -> dict[str, Any]:
    """The arguments of the model's body, as in `beside_own_text`, for all copies and their texts in one sequence.

    `attention_mask` is for the copies' queries alone; `shared` says which columns attend to which. text: (S,) int64,
    the number of each copy's text, 0 to num_texts - 1.
    """
    blocks, num_copies = copies.blocks, len(text)
    kept_blocks = blocks.gather(1, copies.keep)
    noisy_columns, last = _noisy_columns(blocks, kept_blocks)
    # Clean columns are read from the first copy of each text, up to the last block that any of its copies needs.
    numbers = torch.arange(num_copies, device=text.device)
    first_copy = numbers.new_full((num_texts,), num_copies).scatter_reduce(0, text, numbers, "amin")
    end = copies.end_of_clean(last).squeeze(1)
    end_of_text = end.new_full((num_texts,), -1).scatter_reduce(0, text, end, "amax")
    blocks_of_text = blocks[first_copy]
    clean_columns = _chosen_columns((blocks_of_text >= 0) & (blocks_of_text < end_of_text[:, None]))
    clean_block, noisy_block = blocks_of_text.gather(1, clean_columns), blocks.gather(1, noisy_columns)
    query_block, key_block = clean_block[:, :, None], clean_block[:, None, :]
    # Padding sees itself, because attention to nothing at all would give NaN.
    clean_mask = query_block == key_block
    if copies.is_causal:
        clean_mask &= clean_columns[:, None, :] <= clean_columns[:, :, None]
    clean_mask |= (key_block >= 0) & (key_block < query_block)
    # A noisy column sees the clean columns of earlier blocks of its text, and the noisy columns of its own block.
    noisy_query_block, clean_key_block = noisy_block[:, :, None], clean_block[text][:, None, :]
    sees_clean = (clean_key_block >= 0) & (clean_key_block < noisy_query_block)
    sees_noisy = noisy_query_block == noisy_block[:, None, :]
    mask = torch.cat([sees_clean, sees_noisy], 2).unsqueeze(1)

    clean_size, noisy_size = clean_columns.shape[1], noisy_columns.shape[1]  # C and N
    place_in_noisy = _places(noisy_columns, blocks).gather(1, copies.columns)
    place_in_clean = _places(clean_columns, blocks_of_text)[text].gather(1, copies.columns)
    is_clean = copies.are_clean(kept_blocks)
    # Where each text and each copy begins in the sequence.
    start_of_text = text[:, None] * clean_size
    start_of_copy = num_texts * clean_size + numbers[:, None] * noisy_size
    place_of_state = torch.where(is_clean, start_of_text + place_in_clean, start_of_copy + place_in_noisy)

    def in_sequence(clean: Tensor, noisy: Tensor) -> Tensor:
        """The values of all texts and then of all copies, as one row."""
        of_texts, of_copies = clean[first_copy].gather(1, clean_columns), noisy.gather(1, noisy_columns)
        return torch.cat([of_texts.flatten(), of_copies.flatten()]).unsqueeze(0)

    place = torch.where(is_clean, place_in_clean, clean_size + place_in_noisy)
    return {
        "input_ids": in_sequence(copies.clean, copies.noisy),
        "attention_mask": mask,
        "position_ids": in_sequence(copies.positions, copies.positions),
        "keep": place_of_state.view(1, -1),
        "shared": SharedText(text, clean_mask.unsqueeze(1), place),
    }


def _noisy_columns(blocks: Tensor, kept_blocks: Tensor) -> tuple[Tensor, Tensor]:
    """((S, N) the columns of the first to the last block with columns to keep, (S, 1) the number of the last block)."""
    first, last = kept_blocks.amin(1, keepdim=True), kept_blocks.amax(1, keepdim=True)
    return _chosen_columns((blocks >= first) & (blocks <= last)), last


def _places(chosen: Tensor, blocks: Tensor) -> Tensor:
    """(b, W), the place of each of a row's W columns among its chosen columns (b, n); 0 for columns not chosen.

    blocks: (b, W) int64; only its shape and device are used.
    """
    places = torch.arange(chosen.shape[1], device=chosen.device).expand_as(chosen)
    return torch.zeros_like(blocks).scatter_(1, chosen, places)


def _chosen_columns(wanted: Tensor) -> Tensor:
    """(b, n), the numbers of the wanted columns in order; a row with fewer is filled up with others.

    wanted: (b, W) bool.
    """
    count = int(wanted.sum(-1).max())
    return (~wanted).to(torch.int8).argsort(dim=-1, stable=True)[:, :count]
