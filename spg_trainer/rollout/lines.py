"""Problems that are lines of a file, and which line each is."""

from typing import TYPE_CHECKING

from spg_trainer.settings.packages import envs

if TYPE_CHECKING:
    from envs import Problem, TextEnv


def place_of(problem: "Problem") -> str | None:
    """The file and the line of a problem that has one."""
    where = problem.metadata.get("where")
    return where if isinstance(where, str) else None


def is_file(env: "TextEnv") -> bool:
    """Whether the problems of a split are lines of a file, and say which."""
    try:
        return place_of(envs.problem.read_problem(env, 0)) is not None
    except envs.EnvError:  # whoever reads the problem next reports it
        return False
