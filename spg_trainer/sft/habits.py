"""Which habits of its environment a model's completions follow, and what that says of it as a base for RL.

RL picks among behaviours that a model has. A base that answers with none of them gives it nothing to pick, and pushing
its wrong answers down then costs what it can do.
"""

import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from spg_trainer.settings.packages import envs

if TYPE_CHECKING:
    from envs import Problem, TextEnv

NO_BASE = "no base for RL yet"
"""What is said of a model whose `Look` has a problem."""

WEAK_UNKNOWN_SHARE = 0.25
"""A base is weak where more of its completions than this follow no habit, and in more groups none is right.

Of three such bases (0.27, 0.30, 0.35) RL made two better, by 0.11 and 0.13, and one worse, by 0.07; one of 1.00 stayed
where it was (docs/learning.md)."""
USELESS_UNKNOWN_SHARE = 0.5
"""A weak base is no use at all where more of its completions than this follow no habit, unless enough groups are
mixed. Two of 0.98 and 1.00 learned nothing."""
USELESS_MIXED_SHARE = 0.25
"""The share of mixed groups above which it may be of use: with 0.41 and 0.31, though 0.71 and 0.67 of the completions
followed no habit, two gained 0.30 and 0.27 in six runs of six (docs/learning.md)."""
WEAK_UNSOLVED_SHARE = 0.5
"""A base of an environment without habits is weak where more groups than this have no right completion: from two with
0.81 and 0.72 six runs of six learned nothing (docs/learning.md)."""

RARE_SOLVED_SHARE = 0.05
"""A base is weak where at most this share of groups has a right completion; that of Sudoku has 4 of 32, and learns."""

ENOUGH = 30
"""Groups that it takes, none of them mixed, to say that hardly any are: fewer than 3 / 30 at 95% (rule of three)."""


@dataclass(frozen=True)
class Look:
    """What a model's completions of some problems follow."""

    completions: int
    follows: Mapping[str, int]
    """Habit -> completions that follow it, `right` first; where habits agree, a completion counts for each."""
    neither: int
    """Completions that follow no habit."""
    groups: int
    """Problems."""
    mixed: int
    """Problems with right and with wrong completions: RL learns from these."""
    never: int
    """Problems without a right completion."""

    @property
    def shares(self) -> str:
        """`right 33, additive 29, neither 14 of 60`; without habits `right 33 of 60`."""
        known = ", ".join(f"{name} {count}" for name, count in self.follows.items())
        rest = f", {'neither' if len(self.follows) == 2 else 'none of these'} {self.neither}"
        return f"{known}{rest if len(self.follows) > 1 else ''} of {self.completions}"

    @property
    def signal(self) -> str:
        """`9 of 32 groups are mixed (right and wrong answers to one problem), 14 have no right one`."""
        mixed = f"{self.mixed} of {self.groups} groups are mixed (right and wrong answers to one problem)"
        return f"{mixed}, {self.never} have no right one"

    @property
    def problem(self) -> str:
        """Why RL may learn little from here, or hardly anything, a sentence; empty where it may learn."""
        known, enough = len(self.follows) > 1, self.groups >= ENOUGH
        unknown = known and self.neither > WEAK_UNKNOWN_SHARE * self.completions
        lost = unknown and self.never > WEAK_UNKNOWN_SHARE * self.groups
        seldom = not known and enough and self.never > WEAK_UNSOLVED_SHARE * self.groups
        same = enough and self.never > 0 and self.mixed == 0
        rare = enough and self.groups - self.never <= RARE_SOLVED_SHARE * self.groups
        if not (lost or seldom or same or rare):
            return ""
        few = self.mixed <= USELESS_MIXED_SHARE * self.groups
        useless = same or (lost and few and self.neither > USELESS_UNKNOWN_SHARE * self.completions)
        none = (
            f"{self.neither} of {self.completions} completions follow no known habit, and " if unknown else ""
        )
        outlook = "RL will hardly learn" if useless else "RL may learn little"
        return f"{none}{self.signal}: {outlook}, and may unlearn what is there"


def look(env: "TextEnv", rows: Sequence[Mapping[str, Any]]) -> Look:
    """Counts what completions follow; a right one follows `right`, others the habit whose answer they give.

    rows: as `sample_rows` has them: `index`, `completion`, `extracted`, `correct`, of problems of `env`. Answers are
    compared as the environment extracts them, whole texts where it extracts nothing.
    """
    correct: dict[int, list[bool]] = {}
    for row in rows:
        correct.setdefault(row["index"], []).append(row["correct"])
    answers = {index: habit_answers(env, index) for index in correct}
    follows = {"right": 0} | {name: 0 for of_problem in answers.values() for name in of_problem}
    neither = 0
    for row in rows:
        given = _answer(row["extracted"], row["completion"])
        found = [name for name, answer in answers[row["index"]].items() if answer == given]
        found += ["right"] * row["correct"]
        neither += not found
        for name in found:
            follows[name] += 1
    return Look(
        completions=len(rows),
        follows=follows,
        neither=neither,
        groups=len(correct),
        mixed=sum(any(group) and not all(group) for group in correct.values()),
        never=sum(not any(group) for group in correct.values()),
    )


def habit_names(env: "TextEnv") -> list[str]:
    """The habits that an environment has: those of its first problem."""
    return [*habits_of(env, envs.core.read_problem(env, 0))]


def habits_of(env: "TextEnv", problem: "Problem") -> dict[str, str]:
    """The habits of a problem; EnvError, naming the place, if the author's `habits` raises."""
    try:
        return env.habits(problem)
    except Exception as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        raise envs.EnvError(
            f"{env.spec_name}: habits() raised {type(error).__name__}: {error} for the problem "
            f"{problem.prompt!r:.80}\n{last.filename}:{last.lineno}, in {last.name}: {last.line}"
        ) from error


def habit_answers(env: "TextEnv", index: int) -> dict[str, str]:
    """Habit -> its answer to a problem, as the environment extracts it; empty where it has no habits."""
    problem = envs.core.read_problem(env, index)
    habits = habits_of(env, problem)
    texts = [problem.completion_prefix + text for text in habits.values()]
    scored = envs.core.score_all(env, [index] * len(texts), [problem] * len(texts), texts) if texts else None
    extracted = scored.extracted if scored else []
    return {name: _answer(found, text) for name, found, text in zip(habits, extracted, texts, strict=True)}


def _answer(extracted: str | None, completion: str) -> str:
    return completion.strip() if extracted is None else extracted
