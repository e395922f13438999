"""LoRA on every linear layer of a LLaDA body, and adapters from disk. peft is slow to import: lazy."""

from pathlib import Path
from typing import TYPE_CHECKING

import torch

from spg_trainer.errors import ModelError
from spg_trainer.models.source import first_line
from spg_trainer.seeding import derive

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel

TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def add_lora(
    model: "PreTrainedModel", *, r: int, alpha: int | None, dropout: float, seed: int, base: str
) -> "PeftModel":
    """Freezes the model and puts fresh adapters of rank `r` on its seven kinds of linear layers.

    alpha defaults to r / 2 (rounded up), the proportion of d1 and SPG (128 and 64). base: what an adapter
    folder names as its base model. Equal seeds give equal adapters on any device, and the global random state
    is left as it was. Raises ModelError unless r >= 1, alpha >= 1 and 0 <= dropout < 1.
    """
    alpha = (r + 1) // 2 if alpha is None else alpha
    if r < 1 or alpha < 1 or not 0 <= dropout < 1:
        raise ModelError(
            f"lora_r {r}, lora_alpha {alpha}, lora_dropout {dropout}: rank and alpha must be at least 1 and "
            "dropout in [0, 1); leave out --lora-r to train every weight"
        )
    from peft import LoraConfig, get_peft_model

    settings = LoraConfig(
        r=r, lora_alpha=alpha, lora_dropout=dropout, target_modules=list(TARGETS), bias="none"
    )
    # One stream for all layers, drawn on the CPU and copied, so that the device does not change the adapters.
    stream = torch.Generator().manual_seed(derive(seed, "lora"))
    with torch.random.fork_rng(devices=_devices(model)):
        adapted = get_peft_model(model, settings)
    with torch.no_grad():
        for name, weight in adapted.named_parameters():
            if ".lora_A." in name:
                fresh = torch.empty(weight.shape, dtype=torch.float32)
                torch.nn.init.kaiming_uniform_(fresh, a=5**0.5, generator=stream)
                weight.copy_(fresh)
    adapted.peft_config["default"].base_model_name_or_path = base
    return adapted


def load_adapter(model: "PreTrainedModel", folder: Path) -> "PeftModel":
    """Puts the adapter in `folder` on its base model, trainable.

    Adapters trained on LLaDA's own tensor names (by the code of d1 or SPG) are understood too: what they lack
    of their target modules starts at zero effect. Raises ModelError if the adapter does not fit.
    """
    from peft import PeftConfig, PeftModel

    try:
        settings = PeftConfig.from_pretrained(str(folder))
        settings.inference_mode = False
        with torch.random.fork_rng(devices=_devices(model)):
            adapted = PeftModel(model, settings)
            report = adapted.load_adapter(str(folder), "default", is_trainable=True)
    except (ValueError, RuntimeError, OSError, KeyError, TypeError) as error:
        raise ModelError(
            f"the adapter in {folder} cannot be put on its base model: {first_line(error)}. Its "
            "adapter_config.json names the base as base_model_name_or_path; correct it, or train the "
            "adapter again"
        ) from error
    own = [name for name, _ in adapted.named_parameters() if ".lora_" in name]
    if report.unexpected_keys or set(own) <= set(report.missing_keys):
        problem = min(report.unexpected_keys, default="none of its weights is there")
        raise ModelError(f"the adapter in {folder} does not fit its base model: {problem}; train it again")
    return adapted


def _devices(model: "PreTrainedModel") -> list[torch.device]:
    return [model.device] if model.device.type == "cuda" else []
