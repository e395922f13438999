"""Which problems a step takes, and which process completes which of them."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from spg_trainer.distributed import rank, world_size
from spg_trainer.errors import ConfigError
from spg_trainer.seeding import numpy_generator
from spg_trainer.settings.packages import envs

if TYPE_CHECKING:
    from envs import TextEnv


def choose_problems(seed: int, step: int, count: int, size: int) -> np.ndarray:
    """`count` distinct problem indices below `size` for a step, (count,) int64; the same for every process."""
    return numpy_generator(seed, "problems", step).choice(size, size=count, replace=False)


def choose_more(seed: int, step: int, batch: int, count: int, size: int, taken: Sequence[int]) -> np.ndarray:
    """As `choose_problems`, for a further batch of a step, without the problems that its earlier ones had.

    Fewer than `count` where not so many are left.
    """
    draw = numpy_generator(seed, "problems", step, batch)
    index = draw.choice(size, size=min(size, count + len(taken)), replace=False)
    return index[~np.isin(index, taken)][:count]


def deal_groups(lengths: Sequence[int], num_generations: int, whole_groups: bool) -> np.ndarray:
    """Numbers of this process's completions of a step, ascending: about as many and as long prompts for each process.

    lengths: of the prompts of all groups. Groups stay whole, but for those, the shortest, that are left where each
    process has equally many; with whole_groups these do too.
    """
    order = sorted(range(len(lengths)), key=lambda group: -lengths[group])
    whole = len(order) if whole_groups else len(order) - len(order) % world_size()
    groups = [order[place] for place in deal_rows([lengths[group] for group in order[:whole]])]
    rows = [group * num_generations + k for group in groups for k in range(num_generations)]
    rest = [group * num_generations + k for group in order[whole:] for k in range(num_generations)]
    return np.array(sorted(rows + [rest[place] for place in deal_rows([0] * len(rest))]), dtype=np.int64)


def check_prompts(count: int, size: int, source: str, note: str = "") -> None:
    """Raises ConfigError if a step takes more prompts than its source has."""
    if count > size:
        text = f"--prompts-per-step {count}: {source} has {size} to train on. Use {size} or fewer. {note}"
        raise ConfigError(text.rstrip())


def deal_rows(lengths: Sequence[int]) -> list[int]:
    """Which of some rows are this process's, ascending: about as many and as long ones for each.

    lengths: of all rows, equal on all processes.
    """
    order, count, mine = sorted(range(len(lengths)), key=lambda row: -lengths[row]), world_size(), []
    for number, row in enumerate(order):
        turn, place = divmod(number, count)
        if rank() == (place if turn % 2 == 0 else count - 1 - place):  # nobody is the first of every turn
            mine.append(row)
    return sorted(mine)


def prompt_length(env: "TextEnv", index: int) -> int:
    """Characters of a prompt; 0 if the environment cannot make it, which the process that it is dealt to will find."""
    try:
        prompt = envs.problem.read_problem(env, index).prompt
    except envs.EnvError:
        return 0
    return len(prompt) if isinstance(prompt, str) else sum(len(message["content"]) for message in prompt)
