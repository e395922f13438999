"""Six small tasks, one file each: the prompt, the check, a demonstration and a plausible wrong habit."""

from envs.small.arithmetic import Arithmetic
from envs.small.coloring import Coloring
from envs.small.edits import Edits
from envs.small.queens import Queens
from envs.small.satisfiability import Satisfiability
from envs.small.sorting import Sorting

TASKS = {cls.__name__: cls for cls in (Arithmetic, Sorting, Edits, Coloring, Queens, Satisfiability)}

__all__ = ["TASKS", *TASKS]
