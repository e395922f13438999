"""Whether problems come from the lines of a file, or from a stream that makes each problem when it is asked for."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from spg_trainer.settings.packages import envs  # our `envs`, not another package of that name

if TYPE_CHECKING:
    from envs import Problem, TextEnv

MEASURED_WHOLE = 20_000
"""If a split has at most so many problems, all its prompts are counted in tokens before the first step."""


def place_of(problem: "Problem") -> str | None:
    """The file and the line that a problem comes from, e.g. "rows.jsonl, line 3"; None if it comes from none."""
    where = problem.metadata.get("where")
    return where if isinstance(where, str) else None


def is_file(env: "TextEnv") -> bool:
    """Whether the problems of a split come from the lines of a file, judged by the first problem."""
    try:
        return place_of(envs.problem.read_problem(env, 0)) is not None
    except envs.EnvError:  # it is raised again, and reported, where the problem is used
        return False


def is_measured_whole(env: "TextEnv") -> bool:
    """Whether all prompts of a split are counted in tokens before the first step: of a file, and of any small split."""
    return len(env) <= MEASURED_WHOLE or is_file(env)


def parts_measured_whole(env: "TextEnv") -> "Iterator[tuple[TextEnv, range]]":
    """Yields (a split, its problems) if the split is no stream; for a mixture of tasks, the split of each task."""
    for part in [*env.parts.values()] or [env]:
        if is_measured_whole(part):
            yield part, range(len(part))
