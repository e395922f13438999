"""RL for masked diffusion language models: any algorithm on any verifiable task.

    from spg_trainer import Config, train, evaluate, generate, load_model

Names are loaded on first use, so that importing the package costs nothing. It also lets `AutoModel.from_pretrained` of
transformers open what a run leaves in model/.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from spg_trainer.auto_classes import teach_transformers

if TYPE_CHECKING:
    from spg_trainer.config import Config, Sampling
    from spg_trainer.evaluation import Evaluation, evaluate
    from spg_trainer.models import Policy, load_model
    from spg_trainer.reporting.page import report
    from spg_trainer.settings import defaults
    from spg_trainer.supervised import sft
    from spg_trainer.text import generate
    from spg_trainer.training import train

__version__ = "0.1.0"
__all__ = ["Config", "Evaluation", "Policy", "Sampling", "defaults", "evaluate", "generate", "load_model"]
__all__ += ["report", "sft", "train"]
_MODULES = {"Config": "config", "Evaluation": "evaluation", "Policy": "models", "Sampling": "config"}
_MODULES |= {"defaults": "settings", "evaluate": "evaluation", "generate": "text", "load_model": "models"}
_MODULES |= {"report": "reporting.page", "sft": "supervised", "train": "training"}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


teach_transformers()
