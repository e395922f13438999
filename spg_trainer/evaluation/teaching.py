"""The `sft` command that is proposed where a model knows too little of a task for RL: it teaches by imitation.

A model imitates right answers and the task's habits, plausible ways to answer that are often wrong, because RL needs
several ways to choose from.
"""

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spg_trainer.rollout.lines import is_file
from spg_trainer.settings.packages import envs
from spg_trainer.settings.task import task_words
from spg_trainer.settings.weights import is_embedded

if TYPE_CHECKING:
    from envs import TextEnv

FEW = 16
"""How many problems of each task are looked at to find the habits that all of its problems have."""
RIGHT = 0.4
"""The share of right demonstrations in the proposed `--mix right=0.4 HABIT=...`. The habits share the rest."""


def sft_command(
    env: "TextEnv", name: str, env_args: Mapping[str, Any] | None = None, model: str = "tiny"
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


def possible_mix(env: "TextEnv") -> list[str]:
    """The words of `--mix` for everything that can be imitated; [] if a task has neither demonstrations nor habits."""
    all_demonstrated, names = True, dict[str, None]()  # an ordered set of habits
    for part in env.parts.values() or [env]:
        problems = [envs.problem.read_problem(part, i) for i in envs.checking.spread(len(part), FEW)]
        first, *others = map(part.habits, problems)
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
