"""Opens the model that settings name, for every command that trains."""

from spg_trainer.config import ModelConfig
from spg_trainer.models import Policy, load_model


def open_policy(m: ModelConfig, *, env: str, seed: int, device: str | None = None) -> Policy:
    """The model with its adapters, on `device` or the one its settings name."""
    policy = load_model(
        m.model,
        env=env,
        dtype=m.dtype,
        device=device or m.device,
        lora_r=m.lora_r,
        lora_alpha=m.lora_alpha,
        lora_dropout=m.lora_dropout,
        seed=seed,
        revision=m.revision,
    )
    if m.gradient_checkpointing:
        policy.model.gradient_checkpointing_enable()
    return policy
