"""Opens the model that settings name, for every command that trains."""

from dataclasses import replace

import torch

from spg_trainer.config import ModelConfig
from spg_trainer.errors import ConfigError
from spg_trainer.models import Policy, load_model
from spg_trainer.models.resolve import resolve


def open_policy(m: ModelConfig, *, env: str, seed: int, device: str | None = None) -> Policy:
    """The model with its adapters, on `device` or the one its settings name.

    Where all weights are trained, `--dtype auto` is float32 on a GPU too: in bfloat16 most steps of a usual learning
    rate round to nothing. Raises ConfigError if bfloat16 is asked for all the same.
    """
    whole = m.lora_r == 0 and resolve(m.model, env).adapter is None
    policy = load_model(
        m.model,
        env=env,
        dtype="float32" if whole and m.dtype == "auto" else m.dtype,
        device=device or m.device,
        lora_r=m.lora_r,
        lora_alpha=m.lora_alpha,
        lora_dropout=m.lora_dropout,
        seed=seed,
        revision=m.revision,
    )
    if any(p.requires_grad and p.dtype == torch.bfloat16 for p in policy.model.parameters()):
        raise ConfigError(
            "--dtype bfloat16 trains all weights in bfloat16, where most steps round to nothing. Train adapters "
            "(--lora-r 128), or use --dtype float32."
        )
    if m.gradient_checkpointing:
        policy.model.gradient_checkpointing_enable()
    return policy


def ending_with(policy: Policy, ends: str) -> Policy:
    """The same model, whose completions end with `any` of its end tokens, or only with its tokenizer's `eos`."""
    eos = policy.tokenizer.eos_token_id
    return replace(policy, end_token_ids=(eos,)) if ends == "eos" and eos is not None else policy
