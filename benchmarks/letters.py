"""A task that random weights score on: `--env benchmarks/letters.py:bench/Letters-v0`."""

from typing import ClassVar

import envs


class Letters(envs.TextEnv):
    """Prompt: "write 7". Reward: the share of letters in what is written."""

    reward_weights: ClassVar[dict[str, float]] = {"correct": 0.0, "letters": 1.0}

    def __init__(self, split: str = "train") -> None:
        self.split = split

    def __len__(self) -> int:
        return 1000

    def problem(self, index: int) -> envs.Problem:
        return envs.Problem(f"write {self.split} {index}", {})

    def score(self, problem: envs.Problem, completion: str) -> envs.Score:
        share = sum(c.isascii() and c.isalpha() for c in completion) / max(1, len(completion))
        return envs.Score({"correct": 0.0, "letters": share}, "wrong", completion[:1] or None)


envs.register("bench/Letters-v0", Letters)
