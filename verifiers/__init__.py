"""Is this completion right? Strings in, verdicts out. Batches need numpy; numba only makes large ones faster.

What this does not do: it runs no code from a completion (the task "code" runs it in a sealed interpreter), calls no
network, keeps no state, and never raises because of a completion. `VerifierError` is raised for invalid references and
calls alone.
"""

from verifiers import rule_comparison, statistics  # noqa: F401  (attributes of the package for those who import only that)
from verifiers.errors import ArgumentError, InvalidReferenceError, UnknownTaskError, VerifierError
from verifiers.limit import time_limit
from verifiers.registry import Task, register, tasks, verify, verify_batch
from verifiers.reward import reward_function
from verifiers.score import compute_score
from verifiers.verdicts import RULES, Reason, Tier, Verdict, Verdicts

__version__ = "0.1.0"
__spg_trainer__ = __version__

_OTHERS = frozenset(
    "Environment MultiTurnEnv Parser Rubric SingleTurnEnv StatefulToolEnv ThinkParser ToolEnv XMLParser "
    "load_environment".split()
)
"""What code for another distribution named `verifiers`, of environments for left-to-right models, imports first."""


def __getattr__(name: str) -> object:
    # This is an ImportError because `from verifiers import` loses the text of an AttributeError.
    if name in _OTHERS:
        raise ImportError(
            f"verifiers.{name} is of another distribution named verifiers, and this is spg-trainer's ({__file__}). "
            "Both cannot be in one environment: make another one for code that needs theirs, and `pip install "
            "verifiers` there."
        )
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = [
    "RULES",
    "ArgumentError",
    "InvalidReferenceError",
    "Reason",
    "Task",
    "Tier",
    "UnknownTaskError",
    "Verdict",
    "Verdicts",
    "VerifierError",
    "compute_score",
    "register",
    "reward_function",
    "tasks",
    "time_limit",
    "verify",
    "verify_batch",
]
