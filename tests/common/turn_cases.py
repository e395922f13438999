"""A task of up to three turns for the trainer's tests; an untrained model plays episodes of one, two and three."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import envs
from spg_trainer.settings.configs import Config
from tests.common.process_cases import algorithm_config
from tests.common.trainer_cases import Letters, small_config

TALK = "tests.common.turn_cases:test/Talk-v0"


class Talk(Letters):
    """Write letters; where the first one comes early in the alphabet, the environment is content."""

    reward_weights: ClassVar[dict[str, float]] = {"correct": 0.5, "letters": 1.0}
    max_turns = 3

    def __init__(
        self, split: str = "train", dull: str = "", size: int = 8, turns: int = 3, word: str = "more"
    ) -> None:
        """word: what the environment says after the first turn; after the second it says something else."""
        super().__init__(split, dull, size)
        self.max_turns, self.word = turns, word

    def reply(self, problem: envs.Problem, turns: Sequence[str]) -> str | None:
        self.mark(f"reply{len(turns)}")
        if turns[-1][:1] < "i":
            return None
        return f"{self.word} {len(turns[-1]) * 'x'}" if len(turns) == 1 else "and again"

    def score_turns(self, problem: envs.Problem, turns: Sequence[str]) -> envs.Score:
        return self.score(problem, "".join(turns))


envs.register("test/Talk-v0", Talk)


def talk_config(output: Path | None, **changes: Any) -> Config:
    """`small_config` on this task."""
    return small_config(output, **{"env": TALK, **changes})


def talk_algorithm(output: Path, algorithm: str, **changes: Any) -> Config:
    """`algorithm_config` on this task."""
    return algorithm_config(output, algorithm, **{"env": TALK, **changes})
