"""Counts, by reason, the completions that could not be scored; too many of them end a run."""

import re
import sysconfig
from collections import Counter
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import spg_trainer
from spg_trainer.distributed import gather
from spg_trainer.errors import ScoringFailed
from spg_trainer.settings import packages  # `packages.envs` is ours, loaded on first use

if TYPE_CHECKING:
    from envs import TextEnv
    from spg_trainer.tensors import Rows

MAX_ERROR_SHARE = 0.05
"""A step or evaluation in which a larger share of the completions could not be scored stops the run."""


def is_failure(reason: str, traceback: str | None) -> bool:
    """Whether a completion could not be scored: the author's code raised, or the environment's reason is "error"."""
    return traceback is not None or reason == "error"


def counts_text(counts: Mapping[str, float]) -> str:
    """A text on how often each reason occurred: "3 error, 1 timeout"."""
    return ", ".join(f"{number:.0f} {reason}" for reason, number in sorted(counts.items()))


class Failures:
    """Counts the completions of a step or evaluation that its environment could not score.

    expected: how many completions the step or evaluation has. of_all_processes: whether the failures of all processes
    are counted together; each process then calls `add` equally often. `count` is {reason: how many completions}.
    """

    def __init__(self, expected: int, of_all_processes: bool = True) -> None:
        self.expected, self.of_all_processes = expected, of_all_processes
        self.count: Counter[str] = Counter()

    def add(self, env: "TextEnv", scored: "Rows | None") -> None:
        """Counts the failures among completions (None = there are none); raises ScoringFailed if they are too many."""
        outcomes = []
        if scored is not None:
            problem = scored.problem.tolist()
            last_turns = scored.last_turns  # an episode of several turns counts once
            outcomes = [(problem[b], scored.reason[b], scored.traceback[b]) for b in last_turns]
        self.note(env, outcomes)

    def note(self, env: "TextEnv", outcomes: list[tuple[int, str, str | None]]) -> None:
        """Counts the failures among outcomes (index of the problem, reason, traceback); raises as `add`."""
        failed = [
            (index, reason, traceback)
            for index, reason, traceback in outcomes
            if is_failure(reason, traceback)
        ]
        failed = gather(failed) if self.of_all_processes else failed
        self.count.update(reason for _, reason, _ in failed)
        if failed and self.count.total() > MAX_ERROR_SHARE * self.expected:
            index, reason, traceback = failed[0]
            problems = packages.envs.problem
            name = problems.name_of(index, problems.read_problem(env, index))
            raise ScoringFailed(
                f"The score of {env.spec_name} failed on {self.count.total()} of {self.expected} completions (more "
                f"than {MAX_ERROR_SHARE:.0%}; {counts_text(self.count)}), among them one of {name} "
                f"(reason {reason}).",
                own_frames(traceback or ""),
            )


def own_frames(trace: str) -> str:
    """A traceback without the frames of installed packages and of our packages.

    If no frame is left, an error of `envs` becomes its message, which is enough; any other traceback stays whole.
    trace: a text of `traceback.format_exception`.
    """
    kept: list[str] = []
    in_installed_frame = found_own_frame = False
    for line in trace.splitlines():
        if frame := re.match(r'  File "(.*?)", line ', line):
            in_installed_frame = any(Path(frame[1]).is_relative_to(folder) for folder in installed())
            found_own_frame |= not in_installed_frame
        elif not line.startswith("   "):
            # Lines that are indented further are the source of the frame above them; this line belongs to no frame.
            in_installed_frame = False
        if not in_installed_frame:
            kept.append(line)
    if not found_own_frame and (ours := re.search(r"^envs\.errors\.\w+: ", trace, re.MULTILINE)):
        return trace[ours.end() :]
    return "\n".join(kept) if found_own_frame else trace


@cache
def installed() -> tuple[str, ...]:
    """The folders of Python's own modules, of site-packages, and of our packages (elsewhere in a checkout)."""
    our_packages = (spg_trainer, packages.envs, packages.verifiers)
    ours = [str(Path(str(package.__file__)).parent) for package in our_packages]
    return (sysconfig.get_path("stdlib"), sysconfig.get_path("purelib"), *ours)
