"""The code of the process in which reasoning-gym's scorers see an answer; it is killed if a scorer takes too long."""

import base64
import json
import pickle
from collections.abc import Callable
from typing import Any

from envs.adapters.reasoning_gym.env import open_dataset

MEMORY = 4 << 30
"""Bytes that the process may take; `verifiers.worker` reads it."""


def prepare() -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Imports the package; returns the function that answers a job. `verifiers.worker` calls it once in the process."""
    import reasoning_gym  # noqa: F401

    def score(job: dict[str, Any]) -> dict[str, Any]:
        """{"outcome": "", "value": the dataset's score}, or {"outcome": "malformed"} if the scorer raises.

        job: {"dataset", "settings", "entry", "answer"}. "retire" in a reply asks for a new process.
        """
        dataset, _ = open_dataset(job["dataset"], json.dumps(job["settings"], sort_keys=True))
        entry = pickle.loads(base64.b64decode(job["entry"]))  # from the environment, not from a model
        answer, right_answer = job["answer"], entry["answer"]
        # The model's answer has no white space around it. Some scorers want the white space of the right answer.
        if isinstance(right_answer, str) and answer == right_answer.strip():
            answer = right_answer
        try:
            return {"outcome": "", "value": float(dataset.score_answer(answer, entry))}
        except MemoryError:
            return {"outcome": "malformed", "retire": True}
        except Exception:  # many scorers raise on an answer of another form than they expect
            return {"outcome": "malformed"}

    return score
