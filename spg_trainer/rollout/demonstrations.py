"""Draws demonstrations: which text of which problem is learned. Tasks write the texts: `envs/task.py: demonstration`.

RL can only strengthen what a base model already writes now and then. So a base model can be taught habits (typical
wrong solutions), too: `mix` gives each habit of the environment, and `right` (`Task.demonstration`), a share of the
demonstrations.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from spg_trainer.errors import ConfigError
from spg_trainer.models import Policy
from spg_trainer.rollout.tokens import count_tokens
from spg_trainer.seeding import numpy_generator
from spg_trainer.settings.packages import envs

if TYPE_CHECKING:
    from envs import Problem, TextEnv

MEASURED = 2000
"""How many turns of demonstrations are measured to choose the length of a completion: 2,000 problems of one turn, 200
of ten turns."""


def mix_shares(mix: Mapping[str, float], env: "TextEnv") -> dict[str, float]:
    """The mix as shares that sum to 1; ConfigError for habits and shares that the environment cannot have."""
    mix = mix or {"right": 1.0}  # without a mix, all demonstrations are right
    known = known_rules(env)
    names = list(dict.fromkeys(name for rules in known.values() for name in rules))
    for name, share in mix.items():
        if name not in names:
            raise ConfigError(
                f"$mix {name}={share}: {env.spec_name} has no such habit. Use: {', '.join(names)}."
            )
        if not isinstance(share, int | float) or not 0 <= share < float("inf"):
            raise ConfigError(f"$mix {name}={share}: a share is a number >= 0, e.g. {name}=0.4.")
    if sum(mix.values()) == 0:
        raise ConfigError("$mix: all shares are 0. Give one habit a share, e.g. $mix right=1.")
    for task, rules in known.items():
        if not any(mix.get(name) for name in rules):
            raise ConfigError(f"$mix has nothing for {task}. Give a share to one of: {', '.join(rules)}.")
    return normalised(mix)


def known_rules(env: "TextEnv") -> dict[str, list[str]]:
    """{name of a task: its rules, by which completions are written}: `right`, and the habits of its first problem.

    E.g. {"sudoku": ["right", "careless"]}; a mixture of tasks has an entry for each of them.
    """
    parts = env.parts or {env.spec_name: env}
    return {
        task: ["right", *envs.checking.habits_of(part, envs.problem.read_problem(part, 0))]
        for task, part in parts.items()
    }


def normalised(mix: Mapping[str, float]) -> dict[str, float]:
    """Shares that sum to 1."""
    total = sum(mix.values())
    return {name: share / total for name, share in mix.items()}


def shares_for(env: "TextEnv", problem: "Problem", mix: Mapping[str, float]) -> Mapping[str, float]:
    """The part of the mix that a problem can follow: all of it, or in a mixture of tasks `right` and its own habits."""
    if not env.parts:
        return mix
    return {name: share for name, share in mix.items() if name in ("right", *env.habits(problem.copy()))}


def draw_demonstrations(
    env: "TextEnv", mix: Mapping[str, float], seed: int, step: int | str, count: int
) -> "tuple[list[Problem], list[str]]":
    """`count` problems of the environment, and a completion of each; row r is a pure function of (seed, step, r).

    In an environment of several turns, a row is one turn of an episode, and its problem's prompt is the chat so far.
    """
    drawn = [draw_demonstration(env, mix, seed, step, row) for row in range(count)]
    return [problem for _, problem, _ in drawn], [text for *_, text in drawn]


def draw_demonstration(
    env: "TextEnv", mix: Mapping[str, float], seed: int, step: int | str, row: int, past: int = 0
) -> "tuple[int, Problem, str]":
    """(index, problem, completion) of a row of `draw_demonstrations`.

    past: how far after the drawn problem the row's problem stands in the split. It is 0, unless the problems before are
    too long for the model.
    """
    rng = numpy_generator(seed, "sft", step, row)
    index = (int(rng.integers(len(env))) + past) % len(env)
    problem = envs.problem.read_problem(env, index)
    shares = shares_for(env, problem, mix)
    text = write_habit(env, problem, draw_habit(shares, rng))
    if env.max_turns > 1:
        problem, text = draw_turn(env, index, problem, text, partial(draw_habit, shares, rng), rng)
    return index, problem, text


def draw_habit(shares: Mapping[str, float], rng: np.random.Generator) -> str:
    """Draws the name of a rule, `right` or a habit, in proportion to its share; the shares need not sum to 1."""
    edges = np.cumsum(list(shares.values()))
    place = int(np.searchsorted(edges, rng.random() * edges[-1], side="right"))
    last = len(shares) - 1  # a product that is rounded up to the last edge would be past it
    return list(shares)[min(place, last)]


def draw_turn(
    env: "TextEnv",
    index: int,
    problem: "Problem",
    text: str | list[str],
    draw: Callable[[], str],
    rng: np.random.Generator,
) -> "tuple[Problem, str]":
    """Plays an episode and draws one of its turns: (problem, completion); the problem's prompt is the chat so far.

    text: a list of all completions of the episode, or a text for its first turn. After a text, every later turn follows
    a rule (`right` or a habit) whose name `draw` draws anew.
    """
    prefix = problem.completion_prefix
    # The completions of the episode so far, without the prefix; `write` adds turns.
    written = [text] if isinstance(text, str) else list(text)

    def write(turn: int) -> str:
        """The completion of a turn, with the prefix; a turn that is not written yet follows a newly drawn rule."""
        if turn == len(written):
            episode = envs.scoring.as_turns(write_habit(env, problem, draw()))
            # A habit that writes fewer turns repeats its last one.
            written.append(episode[min(turn, len(episode) - 1)])
        return prefix + written[turn]

    # `play` takes a list of all turns, or a function that writes one turn after the other.
    completions = write if isinstance(text, str) else [prefix + completion for completion in written]
    turns, replies = envs.episodes.play(env, index, problem, completions)
    turn = int(rng.integers(len(turns)))
    chat = envs.episodes.chat(problem, turns[:turn], replies[:turn])
    return replace(problem, prompt=chat), written[turn]


def write_habit(env: "TextEnv", problem: "Problem", name: str) -> str | list[str]:
    """The completion of a problem by the habit `name`, or for `right` its demonstration; a list has one for each turn.

    Raises ConfigError if the problem has no such habit.
    """
    if name == "right":
        return env.demonstration(problem.copy())
    habits = envs.checking.habits_of(env, problem)
    if name not in habits:
        text = f"$mix {name}: {env.spec_name} has no habit of this name for {problem.prompt!r:.80}"
        raise ConfigError(f"{text}. Leave it out, or name it in habits() for every problem.")
    return habits[name]


def completion_length(policy: Policy, env: "TextEnv", mix: Mapping[str, float]) -> int:
    """How many tokens a completion gets: as many as the longest of `MEASURED` demonstrations, and a tenth more.

    The end token is counted. The tenth is for longer demonstrations among those that are not measured.
    """
    written = []
    # Each task is sampled by itself, since a stride through a mixture may meet one task only.
    for part in [*env.parts.values()] or [env]:
        stride = max(1, len(part) // max(1, MEASURED // part.max_turns))
        for index in range(0, len(part), stride):
            problem = envs.problem.read_problem(part, index)
            # In a mixture of tasks, only some names of the mix are those of this task's habits.
            names = mix if part is env else {"right", *part.habits(problem.copy())} & mix.keys()
            written += [write_habit(part, problem, name) for name in names]
    texts = [text for turns in written for text in envs.scoring.as_turns(turns)]
    longest = max(count_tokens(policy, texts)) + 1  # with the end token
    return longest + math.ceil(longest / 10)
