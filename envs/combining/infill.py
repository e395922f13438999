"""`infill=true` for any task that writes `completion_template`: the model fills in the holes of the answer's text."""

from dataclasses import replace

from envs.combining.wrapper import TaskWrapper
from envs.errors import check_choice
from envs.problem import Problem, broken, call_author, read_problem
from envs.task import Task


class Infill(TaskWrapper):
    """Adds to each problem of `task` the text with holes that `task.completion_template` writes for it."""

    def __init__(self, task: Task, infill: bool) -> None:
        """Raises EnvError unless `infill` is true, and if it does not work for the first problem (see `problem`)."""
        super().__init__(task)
        check_choice(task.spec_name, "infill", infill, [True, False])
        self.infill = infill
        read_problem(self, 0)

    def problem(self, index: int) -> Problem:
        """Raises EnvError if the task writes no template or fails to, and if the problem has a completion prefix."""
        problem = read_problem(self.inner, index)
        if problem.completion_prefix:
            raise broken(
                self,
                index,
                "with infill=true the template gives the beginning of the completion, but the prompt gives one, too: "
                f"{problem.completion_prefix!r:.80}. In a prompt of your own (prompt_style=FILE), take out what stands "
                "behind its line ---.",
            )
        template = call_author(self.inner, index, lambda: self.inner.completion_template(problem.copy()))
        if not isinstance(template, str) or not template:
            raise broken(
                self,
                index,
                f"completion_template() returned {template!r:.80}. It must return the completion as a text, with "
                "[MASK] in place of each token that the model fills in.",
            )
        return replace(problem, completion_template=template)
