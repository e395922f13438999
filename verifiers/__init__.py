"""Is this completion right? Strings in, verdicts out; needs numpy and numba only, and for one string neither.

What this does not do: it runs no code from a completion, calls no network, keeps no state, and never raises
because of a completion. `VerifierError` is raised for invalid references and calls alone.
"""

from verifiers import beside, statistics  # noqa: F401  (attributes of the package for those who import only that)
from verifiers.errors import ArgumentError, InvalidReferenceError, UnknownTaskError, VerifierError
from verifiers.limit import time_limit
from verifiers.registry import Task, register, tasks, verify, verify_batch
from verifiers.reward import reward_function
from verifiers.verdicts import Reason, Tier, Verdict, Verdicts

__version__ = "0.1.0"
__spg_trainer__ = __version__

__all__ = [
    "ArgumentError",
    "InvalidReferenceError",
    "Reason",
    "Task",
    "Tier",
    "UnknownTaskError",
    "Verdict",
    "Verdicts",
    "VerifierError",
    "register",
    "reward_function",
    "tasks",
    "time_limit",
    "verify",
    "verify_batch",
]
