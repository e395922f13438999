"""`--env countdown gsm8k:weight=2`: several tasks as one environment. Each problem has the name of its task."""

import math
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from functools import cache, partial
from typing import Any, ClassVar

from envs.combining.wrapper import Combined
from envs.errors import EnvError, check_choice
from envs.picklable_class import made_class
from envs.problem import Problem, Scores, check_index, read_problem
from envs.scoring import score_all
from envs.splits import SPLITS
from envs.task import Task

TOGETHER = " + "
"""The separator of tasks in the name of a mixture."""
MAX_ROUND = 10_000
"""The most problems of a round. In each round, every task occurs as often as its weight says."""


class Mixture(Combined):
    """Problems of several tasks in one order, in which each task has the share of its weight.

    A completion is scored by the task of its problem; reward components that only other tasks have are NaN.
    """

    parts: Mapping[str, Task] = {}
    names: ClassVar[Mapping[str, str]] = {}
    """{a task's name in this mixture: its name for `envs.make`}, e.g. {"sudoku": "spg/Sudoku-v0"}."""
    open_task: ClassVar[Callable[..., Task]]
    """`envs.make`; this module cannot import it, since `envs.registry` imports this module."""

    def __init__(self, split: str = "train", infill: Any = False, **arguments: Any) -> None:
        """Opens every task.

        Raises EnvError if a task cannot be opened, for an argument of no task, and for a weight not above 0.

        infill: refused; it must be given for single tasks, e.g. {"sudoku.infill": True}. arguments: of the tasks, e.g.
        {"gsm8k.weight": 2, "gsm8k.level": 3}; the default of a weight is 1.
        """
        if infill is not False:
            arguments["infill"] = infill  # it names no task, so that it is refused below
        check_choice("a mixture", "split", split, SPLITS)
        task_args: dict[str, dict[str, Any]] = {task: {} for task in self.names}
        for name, value in arguments.items():
            task, _, argument = name.partition(".")
            if task not in task_args or not argument:
                wanted = ", ".join(f"{known}.{argument or name}={value}" for known in task_args)
                raise EnvError(f"{name}={value!r:.80}: which task is it for? Give {wanted}.")
            task_args[task][argument] = value
        self.split = split
        shares = {task: _share(task, args.pop("weight", 1)) for task, args in task_args.items()}
        parts = {
            task: self.open_task(name, split=split, **task_args[task]) for task, name in self.names.items()
        }
        for task, part in parts.items():
            if len(part) < 1:
                raise EnvError(f"{task} has no {split} problems, so it cannot be mixed with others.")
        self.parts = parts
        self.counts = _counts(shares)  # {task: how many problems it has in a round}
        self.order = _order(self.counts)

    def inside(self, problem: Problem) -> Task:
        return self.parts[problem.task]

    @property
    def reward_weights(self) -> Mapping[str, float]:  # type: ignore[override]
        """The components of all tasks together, each with its weight in the last task that has it.

        Setting them sets, in each task, the weights of its components.
        """
        return self._union("reward_weights")

    @reward_weights.setter
    def reward_weights(self, weights: Mapping[str, float]) -> None:
        for part in self.parts.values():
            part.reward_weights = {name: weights[name] for name in part.reward_weights}

    @property
    def reward_ranges(self) -> Mapping[str, tuple[float, float]]:  # type: ignore[override]
        return self._union("reward_ranges")

    @property
    def origin(self) -> Mapping[str, str]:  # type: ignore[override]
        return self._union("origin")

    def _union(self, field: str) -> dict[str, Any]:
        """The union of a field that is a mapping, over all tasks."""
        union: dict[str, Any] = {}
        for part in self.parts.values():
            union.update(getattr(part, field))
        return union

    @property
    def max_turns(self) -> int:  # type: ignore[override]
        return max(part.max_turns for part in self.parts.values())

    @property
    def score_concurrency(self) -> int:  # type: ignore[override]
        """How many replies are awaited at once: the least of the tasks' limits. In scoring, each task keeps its own."""
        return min(part.score_concurrency for part in self.parts.values())

    @property
    def score_timeout(self) -> float:  # type: ignore[override]
        """The seconds that a reply may take."""
        return max(part.score_timeout for part in self.parts.values())

    @property
    def notice(self) -> str:  # type: ignore[override]
        return " ".join(part.notice for part in self.parts.values() if part.notice)

    @property
    def spec_name(self) -> str:
        """The tasks' own names, each with its number in a round, e.g. "countdown+2*gsm8k[generated]"."""
        names = [(self.counts[task], part.spec_name) for task, part in self.parts.items()]
        return "+".join(f"{count}*{name}" if count > 1 else name for count, name in names)

    def __len__(self) -> int:
        """The problems of as many whole rounds as the longest task needs; shorter tasks begin again meanwhile."""
        rounds = (math.ceil(len(part) / self.counts[task]) for task, part in self.parts.items())
        return len(self.order) * max(rounds)

    def problem(self, index: int) -> Problem:
        """The next problem of the task whose turn it is; its first one again after its last."""
        rounds_before, position = divmod(check_index(self, index), len(self.order))
        task, number_in_round = self.order[position]
        part = self.parts[task]
        number = rounds_before * self.counts[task] + number_in_round
        return replace(read_problem(part, number % len(part)), task=task)

    def reply(self, problem: Problem, turns: Sequence[str]) -> str | Awaitable[str | None] | None:
        """The reply of the problem's own task; None after its own `max_turns`, which may be less than the mixture's."""
        part = self.inside(problem)
        return part.reply(problem, turns) if len(turns) < part.max_turns else None

    def score_batch(self, problems: Sequence[Problem], completions: Sequence[str]) -> Scores:
        scored = score_all(self, range(len(problems)), problems, completions)
        return Scores(scored.rewards, scored.reason, scored.extracted)


def tasks_of(name: str) -> dict[str, str]:
    """The tasks in the name of a mixture, as in `Mixture.names`; a name without " + " is a single task.

    E.g. "countdown + spg/GSM8K-v0" -> {"countdown": "countdown", "gsm8k": "spg/GSM8K-v0"}.
    """
    tasks = [task.strip() for task in name.split(TOGETHER)]
    return dict(zip(names_of(tasks), tasks, strict=True))


def names_of(tasks: Sequence[str]) -> list[str]:
    """The names of tasks in arguments and metrics, from their names for `envs.make`.

    E.g. "spg/Sudoku-v0" is sudoku, "data/rows.jsonl" is rows; a second sudoku is sudoku-2.
    """
    names: list[str] = []
    for task in tasks:
        name = re.split(r"[:/]", task)[-1]
        name = re.sub(r"-v\d+$", "", name).lower()
        name = re.sub(r"\.(py|jsonl?|[ct]sv|parquet)(\.gz)?$", "", name)
        name = re.sub(r"[^\w-]+", "_", name)
        count_before = sum(re.sub(r"-\d+$", "", earlier) == name for earlier in names)
        names.append(f"{name}-{count_before + 1}" if count_before else name)
    return names


@cache
def class_of(name: str, open_task: Callable[..., Task]) -> type[Mixture]:
    """The class of a mixture, a subclass that knows its tasks. name: "countdown + gsm8k". open_task: `envs.make`."""
    attributes = {"names": tasks_of(name), "open_task": staticmethod(open_task)}
    attributes |= {"__doc__": f"Problems of {name}."}
    return made_class(partial(class_of, open_task=open_task), name, Mixture, attributes)


def _share(task: str, weight: Any) -> Fraction:
    """A task's weight as a fraction; raises EnvError unless it is a number above 0."""
    is_number = isinstance(weight, int | float) and not isinstance(weight, bool)
    if not is_number or not 0 < weight < math.inf:
        raise EnvError(f"{task}.weight={weight!r:.80} must be a number above 0, e.g. {task}.weight=2.")
    return Fraction(weight).limit_denominator(100)


def _counts(shares: Mapping[str, Fraction]) -> dict[str, int]:
    """How many problems each task has in a round: the smallest whole numbers in the proportion of the shares."""
    common_denominator = math.lcm(*(share.denominator for share in shares.values()))
    counts = {task: int(share * common_denominator) for task, share in shares.items()}
    divisor = math.gcd(*counts.values())
    # A count is 0 if the weight is so small that `_share` rounds it to 0.
    if min(counts.values()) < 1 or sum(counts.values()) // divisor > MAX_ROUND:
        weights = ", ".join(f"{task}.weight={float(share):g}" for task, share in shares.items())
        raise EnvError(f"{weights}: the weights lie too far apart. Give small whole numbers, e.g. 1 and 3.")
    return {task: count // divisor for task, count in counts.items()}


def _order(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    """The problems of a round, each as (task, k) with k = 0, 1, ... within the task; each task is spread evenly.

    Problem k of a task with n problems stands at (k + 0.5) / n of the round; of two that stand at the same point, that
    of the task which is named first comes first. E.g. {"a": 1, "b": 3}: b0 (1/6), a0 (1/2), b1 (1/2), b2 (5/6).
    """
    placed = [
        ((k + 0.5) / n, number_of_task, task, k)
        for number_of_task, (task, n) in enumerate(counts.items())
        for k in range(n)
    ]
    return [(task, k) for _, _, task, k in sorted(placed)]
