"""Counts which habits of an environment a model follows, and proposes to teach them where it knows too few.

A habit is a plausible way to answer that is often wrong; right answers are counted under the name `right`. The counts
show what RL has to choose from: it can only strengthen what the model already writes. So the proposed `sft` command
imitates right answers and habits.
"""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from spg_trainer.rollout.problems import is_file
from spg_trainer.settings.packages import envs
from spg_trainer.settings.task import task_words
from spg_trainer.settings.weights import is_embedded


@dataclass(frozen=True)
class HabitCounts:
    """Which habits the completions of some problems follow, and from how many of these problems RL can learn."""

    completions: int
    follows: Mapping[str, int]
    """{habit: completions that follow it}, `right` first. A completion that fits several habits counts for each."""
    neither: int
    """Completions that are not right and follow no habit."""
    groups: int
    """How many problems; the completions of a problem are a group."""
    mixed: int
    """Problems with right and with wrong completions: RL learns from these."""
    alone: Mapping[str, int] = field(default_factory=dict)
    """Habit -> completions that follow it and no other."""
    all_right: int = 0
    """Problems with right completions only."""

    @property
    def shares(self) -> str:
        """The counts as a text: `right 33, additive 29, none of these 14 of 60`; without habits `right 33 of 60`."""
        return shares(self.counts or self.follows, self.completions)

    @property
    def counts(self) -> dict[str, int]:
        """`follows`, and `neither` as `none of these`; empty where there are no habits."""
        return {**self.follows, "none of these": self.neither} if len(self.follows) > 1 else {}

    @property
    def signal(self) -> str:
        """A text on what RL can learn from.

        E.g. `9 of 32 groups are mixed (right and wrong answers to one problem), 20 all right, 3 all wrong`.
        """
        all_wrong = self.groups - self.mixed - self.all_right
        return (
            f"{self.mixed} of {self.groups} groups are mixed (right and wrong answers to one problem), "
            f"{self.all_right} all right, {all_wrong} all wrong"
        )


def shares(counts: Mapping[str, int], completions: int) -> str:
    """The counts of an evaluation as a text.

    E.g. `right 33, additive 29, none of these 14 of 60 (one that fits two of these counts for both)`.
    """
    return change_of_shares([counts], completions)


def change_of_shares(each: Sequence[Mapping[str, int]], completions: int) -> str:
    """The counts of evaluations one after the other as a text.

    E.g. `right 3, additive 57 -> right 33, additive 29, none of these 14 of 60`.

    each: the counts of each evaluation. completions: how many each of them has. One note at the end says why the counts
    of an evaluation may add up to more than `completions`.
    """

    def listed(counts: Mapping[str, int]) -> str:
        return ", ".join(f"{name} {count}" for name, count in counts.items())

    some_count_twice = any(sum(counts.values()) > completions for counts in each)
    note = " (one that fits two of these counts for both)" if some_count_twice else ""
    return f"{' -> '.join(map(listed, each))} of {completions}{note}"


def count_habits(env: "envs.TextEnv", rows: Sequence[Mapping[str, Any]]) -> HabitCounts:
    """Counts how many completions are right (`right`), and how many give the answer of each habit.

    rows: as `sample_rows` makes them: `index`, `completion`, `extracted`, `correct`, of problems of `env`. The answers
    that the environment extracts are compared; where it extracts nothing, whole texts; in an episode, all turns.
    """
    correct: dict[int, list[bool]] = {}
    for row in rows:
        correct.setdefault(row["index"], []).append(row["correct"])
    answers = {index: habit_answers(env, index) for index in correct}
    follows = {"right": 0} | {name: 0 for habits in answers.values() for name in habits}
    alone, neither = dict.fromkeys(follows, 0), 0
    for row in rows:
        if "turns" in row:
            model_answer = "\n".join(turn["completion"].strip() for turn in row["turns"])
        else:
            model_answer = _answer(row["extracted"], row["completion"])
        names = [name for name, answer in answers[row["index"]].items() if answer == model_answer]
        if row["correct"]:
            names.append("right")
        if not names:
            neither += 1
        for name in names:
            follows[name] += 1
        if len(names) == 1:
            alone[names[0]] += 1
    mixed = sum(any(group) and not all(group) for group in correct.values())
    all_right = sum(map(all, correct.values()))
    return HabitCounts(
        completions=len(rows),
        follows=follows,
        neither=neither,
        groups=len(correct),
        mixed=mixed,
        alone=alone,
        all_right=all_right,
    )


def habit_answers(env: "envs.TextEnv", index: int) -> dict[str, str]:
    """{habit: its answer to a problem}; empty without habits.

    An answer is what the environment extracts; in an episode of several turns, it is the texts of all turns.
    """
    problem = envs.problem.read_problem(env, index)
    habits = envs.checking.habits_of(env, problem)
    if env.max_turns > 1:
        answers = {}
        for name, text in habits.items():
            turns, _ = envs.episodes.play(env, index, problem, text)
            answers[name] = "\n".join(turn.strip() for turn in turns)
        return answers
    texts = [problem.completion_prefix + text for text in habits.values()]
    if not texts:
        return {}
    extracted = envs.scoring.score_all(env, [index] * len(texts), [problem] * len(texts), texts).extracted
    return {name: _answer(part, text) for name, part, text in zip(habits, extracted, texts, strict=True)}


def _answer(extracted: str | None, completion: str) -> str:
    """The part of a completion that is compared: its extracted answer, or the whole text if there is none."""
    return completion.strip() if extracted is None else extracted


FEW = 16
"""How many problems of each task are looked at to find the habits that all of its problems have."""
RIGHT = 0.4
"""The share of right demonstrations in the proposed `--mix right=0.4 HABIT=...`. The habits share the rest."""


def sft_command(
    env: "envs.TextEnv", name: str, env_args: Mapping[str, Any] | None = None, model: str = "tiny"
) -> str:
    """The `sft` command that teaches a task by its own demonstrations and habits, or by a file if it has neither.

    name, env_args, model: as in the user's command. If `model` is one that comes with the package, sft makes a new one.
    """
    mix = possible_mix(env)
    if mix:
        words = [*task_words(name, env_args), "--mix", *mix]
    elif not env.parts and is_file(env):  # the task is a file, whose rows may have a column to imitate
        words = task_words(name, {**(env_args or {}), "demonstration": "COLUMN"})
    else:
        words = ["--data", "FILE"]
    from_model = [] if is_embedded(model, "tiny") else ["--model", model]
    folder = "base2" if Path(model).name == "base" else "base"  # not the folder of the model itself
    return f"python -m spg_trainer sft {shlex.join([*words, *from_model, '--output-dir', folder])}"


def possible_mix(env: "envs.TextEnv") -> list[str]:
    """The words of `--mix` for everything that can be imitated; [] if a task has neither demonstrations nor habits."""
    all_demonstrated, names = True, dict[str, None]()  # an ordered set of habits
    for part in env.parts.values() or [env]:
        problems = [envs.problem.read_problem(part, i) for i in envs.checking.spread(len(part), FEW)]
        first, *others = [envs.checking.habits_of(part, problem) for problem in problems]
        shared_habits = [name for name in first if all(name in habits for habits in others)]
        is_demonstrated = envs.checking.demonstration_of(part, problems[0]) is not None
        if not (shared_habits or is_demonstrated):
            return []
        all_demonstrated &= is_demonstrated
        names |= dict.fromkeys(shared_habits)
    if not all_demonstrated:
        return [f"{name}=1" for name in names]
    if not names:
        return ["right=1"]
    share = (1 - RIGHT) / len(names)
    return [f"right={RIGHT:g}", *(f"{name}={share:.2g}" for name in names)]
