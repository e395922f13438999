"""Says whether problems come from the lines of a file, and which line a problem is."""

from typing import TYPE_CHECKING

from spg_trainer.settings.packages import envs  # our `envs`, not another package of that name

if TYPE_CHECKING:
    from envs import Problem, TextEnv


def place_of(problem: "Problem") -> str | None:
    """The file and the line that a problem comes from, e.g. "rows.jsonl, line 3"; None if it comes from none."""
    where = problem.metadata.get("where")
    return where if isinstance(where, str) else None


def is_file(env: "TextEnv") -> bool:
    """Whether the problems of a split come from the lines of a file; the first one stands for all."""
    try:
        return place_of(envs.problem.read_problem(env, 0)) is not None
    except envs.EnvError:  # it is raised again, and reported, where the problem is used
        return False
