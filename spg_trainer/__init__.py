"""RL for masked diffusion language models: any algorithm on any verifiable task.

    from spg_trainer import Config, train, evaluate, generate, load_model, log_likelihood

Names are loaded on first use, so importing the package costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from spg_trainer.evaluation.diff import Difference, diff
    from spg_trainer.evaluation.evaluate import Evaluation, evaluate
    from spg_trainer.evaluation.log_likelihood import LogLikelihood, log_likelihood
    from spg_trainer.models import Policy, load_model, save_model
    from spg_trainer.reporting.compare import compare
    from spg_trainer.reporting.page import report
    from spg_trainer.reporting.runs import Recorded, read_run
    from spg_trainer.rollout.player import generate
    from spg_trainer.rollout.sampler import sample_completions
    from spg_trainer.settings.configs import CompareCommand, Config
    from spg_trainer.settings.decoding import EvalSampling, Sampling
    from spg_trainer.settings.resolve import defaults
    from spg_trainer.training.loop import train

__all__ = [
    "CompareCommand",
    "Config",
    "Difference",
    "EvalSampling",
    "Evaluation",
    "LogLikelihood",
    "Policy",
    "Recorded",
    "Sampling",
    "compare",
    "defaults",
    "diff",
    "evaluate",
    "generate",
    "load_model",
    "log_likelihood",
    "read_run",
    "report",
    "sample_completions",
    "save_model",
    "train",
]
_MODULES = {
    "CompareCommand": "settings.configs",
    "Difference": "evaluation.diff",
    "Recorded": "reporting.runs",
    "compare": "reporting.compare",
    "diff": "evaluation.diff",
    "read_run": "reporting.runs",
    "Config": "settings.configs",
    "Evaluation": "evaluation.evaluate",
    "Policy": "models",
    "EvalSampling": "settings.decoding",
    "Sampling": "settings.decoding",
    "defaults": "settings.resolve",
    "evaluate": "evaluation.evaluate",
    "generate": "rollout.player",
    "LogLikelihood": "evaluation.log_likelihood",
    "load_model": "models",
    "log_likelihood": "evaluation.log_likelihood",
    "report": "reporting.page",
    "sample_completions": "rollout.sampler",
    "save_model": "models",
    "train": "training.loop",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
