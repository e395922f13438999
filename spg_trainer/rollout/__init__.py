"""Semi-autoregressive block denoising, as LLaDA decodes, computed only where it matters.

`generate` turns prompts into texts, `rollout` is its tensor form. The names
are loaded on first use, so that importing one does not import all of torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from spg_trainer.rollout.denoise import rollout
    from spg_trainer.rollout.schedule import reveal_counts
    from spg_trainer.rollout.text import decode_completions, encode_prompts, generate

__all__ = ["decode_completions", "encode_prompts", "generate", "reveal_counts", "rollout"]

_HOME = {
    "reveal_counts": "schedule",
    "rollout": "denoise",
    "decode_completions": "text",
    "encode_prompts": "text",
    "generate": "text",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
