"""What `python -m envs list` and `show` print."""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from envs import registry
from envs.core import Problem, TextEnv, check_index, read_problem, score_all
from envs.errors import EnvError
from envs.splits import SPLITS

if TYPE_CHECKING:
    from rich.console import Console


def listing() -> None:
    """A table of the registered environments; it opens nothing that needs a network."""
    from rich.table import Table

    table = Table(box=None, header_style="bold")
    for column in ("--env", "id", "train / validation / test"):
        table.add_column(column, no_wrap=True)
    table.add_column("what it is")
    for id, cls in registry.known().items():
        sizes = " / ".join(f"{len(registry.make(id, split=split, **offline(id))):,}" for split in SPLITS)
        short = registry.short_name(id) + ("*" if offline(id) else "")
        first = (cls.__doc__ or "").strip().partition("\n\n")[0].partition("(`")
        table.add_row(short, id, sizes, f"{first[0].strip()}{first[2].partition('`)')[2]}")
    table.add_row("reasoning_gym:NAME", "", "", "a dataset of the reasoning-gym package (an optional extra)")
    screen = console()
    screen.print(table)
    screen.print("* with --env-args source=generated; its default source is a hub.")


def console() -> "Console":
    """Where tables go: as wide as the terminal, or wide enough to be read in a file."""
    from rich.console import Console

    found = Console(highlight=False, markup=False)
    if not found.is_terminal:
        found.width = 140
    return found


def offline(id: str) -> dict[str, str]:
    """{"source": "generated"} for an environment that would otherwise ask a hub for its problems, else {}."""
    return {"source": "generated"} if registry.default_of(id, "source") == "hub" else {}


def show(
    name: str,
    split: str,
    count: int,
    indices: Sequence[int] | None,
    seed: int | None,
    arguments: dict[str, Any],
) -> None:
    """Prints problems as a person reads them, and what the demonstration and each habit earn.

    The problems: `indices`, or `count` of them, drawn with `seed`, or from the first on.
    """
    env = registry.make(name, split=split, **arguments)
    if indices is None and seed is not None:
        from numpy.random import default_rng

        indices = default_rng(seed).integers(len(env), size=count).tolist()
    chosen = range(min(count, len(env))) if indices is None else indices
    for index in chosen:
        problem = read_problem(env, check_index(env, index))
        sys.stdout.write(
            f"== {env.spec_name}, {split}, problem {index} ==\n{env.render_text(problem, None)}\n"
        )
        for habit, completion in completions(env, problem).items():
            sys.stdout.write(_shown(env, index, problem, habit, completion))
        sys.stdout.write("\n")


def completions(env: TextEnv, problem: Problem) -> dict[str, str]:
    """What the author can write for a problem: {"right": demonstration, if there is one, and the habits}."""
    try:
        right = {"right": env.demonstration(problem)}
    except EnvError:  # none was given
        right = {}
    return {**right, **env.habits(problem)}


def _shown(env: TextEnv, index: int, problem: Problem, habit: str, completion: str) -> str:
    drawn = env.render_text.__func__ is not TextEnv.render_text
    text = env.render_text(problem, completion) if drawn else problem.completion_prefix + completion
    judged = score_all(env, [index], [problem], [completion], one_by_one=True)
    parts = ", ".join(f"{component} {values[0]:g}" for component, values in judged.rewards.items())
    read = "" if judged.extracted[0] is None else f", read as {judged.extracted[0]!r:.80}"
    head = f"-- {habit}: reward {judged.total[0]:g} ({parts}), {judged.reason[0] or 'no reason given'}{read}"
    return f"{head}\n{completion if drawn else text}\n" + (f"{text}\n" if drawn else "")
