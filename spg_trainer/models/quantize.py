"""The frozen base in 4 bits under adapters (QLoRA, arXiv 2305.14314); bitsandbytes stores and multiplies it."""

import logging
from typing import TYPE_CHECKING, Any

import torch

from spg_trainer.architecture.experts import expert_layers
from spg_trainer.settings.machine import check_bitsandbytes

if TYPE_CHECKING:
    from transformers import BitsAndBytesConfig


def four_bits(dtype: torch.dtype) -> "BitsAndBytesConfig":
    """transformers' settings to store linear layers in 4 bits: NF4 with quantised scales, multiplied in `dtype`.

    Embeddings, norms, the head and experts keep `dtype`. Raises ModelError if bitsandbytes is not installed.
    """
    check_bitsandbytes()
    from transformers import BitsAndBytesConfig

    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it would complain of missing kernels
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
    )


def keep_as_stored(model: torch.nn.Module) -> None:
    """Keeps bitsandbytes from repacking weights on a CPU.

    Its first pass in eval mode would otherwise round their scales to bfloat16. A rollout would then sample from another
    model than the update trains.
    """
    for layer in model.modules():
        if hasattr(layer, "support_avx512bf16_for_cpu"):
            layer.support_avx512bf16_for_cpu = False


def what_stays_whole(config: Any) -> str:
    """A line for the user about the weights that are not stored in 4 bits, where these are most of the model."""
    if not expert_layers(config):
        return ""
    return "$load_4bit: the experts of this model are no linear layers, and keep their type."
