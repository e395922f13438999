"""Completions that could not be scored: counted by reason, and too many of them end a run."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from spg_trainer.distributed import gather
from spg_trainer.errors import TrainingError

if TYPE_CHECKING:
    from envs import TextEnv
    from spg_trainer.rollout.scored import Scored

MAX_ERROR_SHARE = 0.05
"""A step or evaluation in which a larger share of the completions could not be scored stops the run."""


def is_failure(reason: str, traceback: str | None) -> bool:
    """Whether a completion could not be scored: the author's code raised, or the environment itself says "error"."""
    return traceback is not None or reason == "error"


def listed(count: Mapping[str, float]) -> str:
    """How often each reason came, as "3 error, 1 timeout"."""
    return ", ".join(f"{number:.0f} {reason}" for reason, number in sorted(count.items()))


@dataclass
class Failures:
    """Counts the completions of a step or evaluation, `expected` in all, that its environment could not score.

    shared: both numbers are those of all processes, and each calls `add` equally often.
    """

    expected: int
    shared: bool = True
    count: Counter[str] = field(default_factory=Counter)
    """Reason -> completions."""

    def add(self, env: "TextEnv", scored: "Scored | None") -> None:
        """Counts the failures among completions (None = there are none); raises TrainingError at too many."""
        judged = []
        if scored is not None:
            problem = scored.place.problem.tolist()
            judged = [(problem[b], scored.reason[b], scored.traceback[b]) for b in scored.episodes]
        self.note(env, judged)

    def note(self, env: "TextEnv", judged: list[tuple[int, str, str | None]]) -> None:
        """Counts the failures among (index of the problem, reason, traceback) of completions; raises as `add`."""
        failed = [one for one in judged if is_failure(*one[1:])]
        failed = gather(failed) if self.shared else failed
        self.count.update(reason for _, reason, _ in failed)
        if failed and self.count.total() > MAX_ERROR_SHARE * self.expected:
            index, reason, traceback = failed[0]
            raise TrainingError(
                f"The score of {env.spec_name} failed on {self.count.total()} of {self.expected} completions (more "
                f"than {MAX_ERROR_SHARE:.0%}; {listed(self.count)}), among them one of problem {index} (reason "
                f"{reason}). Fix the environment, then continue with --resume auto --accept-changed-code.\n"
                f"{traceback or ''}".rstrip()
            )
