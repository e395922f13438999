"""RL for masked diffusion language models: any algorithm on any verifiable task.

    from spg_trainer import Config, train, evaluate, generate, load_model

Names are loaded on first use, so that importing the package costs nothing.
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from spg_trainer.config import Config, Sampling
    from spg_trainer.evaluate import Evaluation, evaluate
    from spg_trainer.models import Policy, load_model
    from spg_trainer.resolve import defaults
    from spg_trainer.sft import sft
    from spg_trainer.text import generate
    from spg_trainer.training import train

__version__ = "0.1.0"
__all__ = [
    "Config",
    "Evaluation",
    "Policy",
    "Sampling",
    "defaults",
    "evaluate",
    "generate",
    "load_model",
    "sft",
    "train",
]

_HOME = {
    "Config": "config",
    "Evaluation": "evaluate",
    "Policy": "models",
    "Sampling": "config",
    "defaults": "resolve",
    "evaluate": "evaluate",
    "generate": "text",
    "load_model": "models",
    "sft": "sft",
    "train": "training",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])


class _Package(ModuleType):
    """Keeps `train`, `evaluate` and `sft` the functions: importing the modules of these names would hide them."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in _HOME and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
