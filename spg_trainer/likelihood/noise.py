"""What stands at a hidden place. Maskings say which places of a copy are hidden, and this file says with what.

A model with [MASK] needs nothing of this: `Masks.shown` is None. A model that hides a token by a random one is shown a
token drawn uniformly from the vocabulary, which may be the right one.
"""

import numpy as np
import torch

from spg_trainer.errors import ConfigError
from spg_trainer.likelihood.masking import Masking, Streams
from spg_trainer.tensors import Masks


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
