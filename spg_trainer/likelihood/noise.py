"""What stands at a hidden place. Maskings say which places of a copy are hidden, and this file says with what.

A model with [MASK] needs nothing of this: `Masks.shown` is None. A model that hides a token by a random one is shown a
token drawn uniformly from the vocabulary, which may be the right one. A model with [MASK] that is to learn to edit what
it wrote is shown [MASK] at hidden places, and a wrong token at some of the others.
"""

from typing import TYPE_CHECKING

import numpy as np
import torch

from spg_trainer.architecture.pattern import Pattern
from spg_trainer.errors import ConfigError
from spg_trainer.likelihood.masking import Masking, Streams
from spg_trainer.tensors import Masks, Rows

if TYPE_CHECKING:
    from spg_trainer.models import Policy


def check_masking(noise: str, masking: Masking, name: str) -> None:
    """Raises ConfigError for a masking, by its name, that does not go with what a model shows at a hidden place."""
    if masking.noise != noise:
        has_mask = noise == "mask"
        hides = "hides a token by [MASK]" if has_mask else "has no [MASK], but hides a token by a random one"
        use = "masking=step_merge" if name == "trace" else "masking=random"
        if not has_mask:
            use = "masking=trace" if name == "step_merge" else "masking=flat"
        raise ConfigError(f"$algorithm_args masking={name}: this model {hides}. Use $algorithm_args {use}.")
    if noise == "uniform" and masking.p_mask_prompt:
        raise ConfigError(
            f"$algorithm_args p_mask_prompt={masking.p_mask_prompt}: this model's prompt is read by its encoder, which "
            "has no noise. Use $algorithm_args p_mask_prompt=0."
        )


def check_edit_noise(noise: str, pattern: Pattern, edit_noise: float) -> None:
    """Raises ConfigError for `edit_noise` with a model that cannot replace a token which it wrote."""
    if edit_noise and (noise == "uniform" or pattern.has_causal_context):
        why = (
            "has no [MASK], and draws"
            if noise == "uniform"
            else "draws a block's first token without seeing it, and"
        )
        does = (
            " every token that it has not accepted anew by itself"
            if noise == "uniform"
            else " cannot replace it"
        )
        raise ConfigError(
            f"$algorithm_args edit_noise={edit_noise:g}: this model {why}{does}. Leave it out; it is for models that "
            "decode with --editing-threshold."
        )


def with_uniform_noise(masks: Masks, streams: Streams, vocabulary: int) -> Masks:
    """The same masks with the tokens that stand at hidden places, `shown`.

    They are drawn from streams of their own, one for each copy, so that they depend neither on the other rows nor on
    the model: passes of the old, the current and the reference weights see the same ones. vocabulary: V.
    """
    rows, copies, size = masks.scored.shape
    shown = np.empty((rows, copies, size), dtype=np.int64)
    for row in range(rows):
        for mask in range(copies):
            shown[row, mask] = streams.of_noise(row, mask).integers(vocabulary, size=size)
    return masks.with_columns(shown=torch.from_numpy(shown).to(masks.scored.device))


def with_wrong_tokens(
    masks: Masks, rows: Rows, streams: Streams, policy: "Policy", *, edit_noise: float, edit_weight: float
) -> Masks:
    """The same masks, where some tokens that were shown are wrong and are scored: the right ones are their targets.

    Each token that a copy shows, of the part that the masks are about, is replaced with the probability `edit_noise` by
    a token drawn uniformly from the `ordinary_tokens` without the right one. It weighs `edit_weight`. Draws are from a
    stream for each copy, as in `with_uniform_noise`.
    """
    _, copies, size = masks.scored.shape
    vocabulary, right = ordinary_tokens(policy), rows.completion_ids.cpu().numpy()
    # A token that is not in the vocabulary, such as an end token, has all of it to be replaced by.
    rank = np.searchsorted(vocabulary, right)
    is_ordinary = vocabulary[rank.clip(max=len(vocabulary) - 1)] == right
    chosen = np.zeros(masks.scored.shape, dtype=bool)
    token = np.zeros(masks.scored.shape, dtype=np.int64)
    for row in range(len(rows)):
        for mask in range(copies):
            stream = streams.of_noise(row, mask)
            chosen[row, mask] = stream.random(size) < edit_noise
            drawn = stream.integers(len(vocabulary) - is_ordinary[row])
            token[row, mask] = vocabulary[drawn + (is_ordinary[row] & (drawn >= rank[row]))]
    device, width = masks.scored.device, rows.prompt_ids.shape[1]
    is_wrong = torch.from_numpy(chosen).to(device) & masks.part[:, None] & ~masks.masked[:, :, width:]
    shown = torch.from_numpy(token).to(device).where(is_wrong, policy.mask_id)
    masked = masks.masked.clone()
    masked[:, :, width:] |= is_wrong
    return masks.with_columns(
        masked=masked,
        shown=shown,
        scored=masks.scored | is_wrong,
        weight=masks.weight.masked_fill(is_wrong, edit_weight),
    )


def ordinary_tokens(policy: "Policy") -> np.ndarray:
    """The ids of a policy's vocabulary in ascending order, without [MASK], padding, ends and other special tokens."""
    tokenizer = policy.tokenizer
    added = (number for number, token in tokenizer.added_tokens_decoder.items() if token.special)
    special = {*added, *tokenizer.all_special_ids, policy.mask_id, policy.pad_id, *policy.end_token_ids}
    return np.setdiff1d(np.arange(len(tokenizer)), list(special))
