"""`infill=true` for any task that writes `completion_template`: the model fills in the holes of the answer's text."""

from dataclasses import replace

from envs.combining.around import Around
from envs.errors import check_choice
from envs.problem import Problem, broken, read_problem
from envs.task import Task


class Infill(Around):
    """Gives with each problem of `task` the text with holes that `task.completion_template` writes for it."""

    def __init__(self, task: Task, infill: bool) -> None:
        """Raises EnvError unless `infill` is true, and if the first problem cannot be given so (see `problem`)."""
        super().__init__(task)
        check_choice(task.spec_name, "infill", infill, [True, False])
        self.infill = infill
        self.problem(0)

    def problem(self, index: int) -> Problem:
        """Raises EnvError for a task that writes no template, and for a problem with a completion prefix."""
        problem = read_problem(self.inner, index)
        if problem.completion_prefix:
            raise broken(
                self,
                index,
                "infill=true gives the whole completion but its holes, and the prompt says what it begins with, too: "
                f"{problem.completion_prefix!r:.80}. In a prompt of your own (prompt_style=FILE), take out what stands "
                "behind its line ---.",
            )
        return replace(problem, completion_template=self.inner.completion_template(problem))
