"""The inside of the process in which reasoning-gym's scorers see an answer; it is killed when one takes too long."""

import base64
import json
import pickle
from collections.abc import Callable
from typing import Any

from envs.reasoning_gym.env import open_dataset

MEMORY = 4 << 30


def prepare() -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Imports the package; returns the function that answers a job."""
    import reasoning_gym  # noqa: F401

    def answer(job: dict[str, Any]) -> dict[str, Any]:
        """{"outcome", "value"}: the dataset's score, or "malformed", for {"dataset", "settings", "entry", "answer"}."""
        dataset, _ = open_dataset(job["dataset"], json.dumps(job["settings"], sort_keys=True))
        entry = pickle.loads(base64.b64decode(job["entry"]))  # from the environment, not from a model
        right = entry["answer"]
        # The white space around the job's answer has been cut off, but the right answer may have some, which counts.
        text = right if isinstance(right, str) and job["answer"] == right.strip() else job["answer"]
        try:
            return {"outcome": "", "value": float(dataset.score_answer(text, entry))}
        except MemoryError:
            return {"outcome": "malformed", "retire": True}
        except Exception:  # many of them raise on an answer of another form than they expect
            return {"outcome": "malformed"}

    return answer
