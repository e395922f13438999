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
    """As `choose_problems`, for a further batch of a step, without the problems `taken` that its earlier ones had.

    Returns fewer than `count` where not so many are left.
    """
    draw = numpy_generator(seed, "problems", step, batch)
    index = draw.choice(size, size=min(size, count + len(taken)), replace=False)
    return index[~np.isin(index, taken)][:count]


def deal_groups(lengths: Sequence[int], num_generations: int, whole_groups: bool) -> np.ndarray:
    """Numbers of this process's completions of a step, ascending: about as many and as long prompts for each process.

    Groups stay whole as far as each process gets equally many. The shortest groups may be left over; their completions
    are dealt one by one, unless whole_groups keeps these groups whole, too. E.g. 5 groups on 2 processes: each process
    gets 2 groups and half of the shortest. lengths: of the prompts of all groups.
    """
    longest_first = sorted(range(len(lengths)), key=lambda group: -lengths[group])
    count = len(longest_first) if whole_groups else len(longest_first) - len(longest_first) % world_size()
    kept_whole, left_over = longest_first[:count], longest_first[count:]
    groups = [kept_whole[i] for i in deal_rows([lengths[group] for group in kept_whole])]
    rows = [group * num_generations + k for group in groups for k in range(num_generations)]
    single = [group * num_generations + k for group in left_over for k in range(num_generations)]
    rows += [single[i] for i in deal_rows([0] * len(single))]
    return np.array(sorted(rows), dtype=np.int64)


def check_prompts(count: int, size: int, source: str, note: str = "") -> None:
    """Raises ConfigError if a step takes more prompts than its source has."""
    if count > size:
        text = f"--prompts-per-step {count}: {source} has {size} to train on. Use {size} or fewer. {note}"
        raise ConfigError(text.rstrip())


def deal_rows(lengths: Sequence[int]) -> list[int]:
    """Which of some rows are this process's, ascending: about as many and as long ones for each process.

    The longest rows are dealt first, in rounds that go up and down: of 3 processes, 0 1 2, 2 1 0, 0 1 2 and so on.
    lengths: of all rows, equal on all processes.
    """
    longest_first, processes = sorted(range(len(lengths)), key=lambda row: -lengths[row]), world_size()
    rows = []
    for number, row in enumerate(longest_first):
        dealt_round, place = divmod(number, processes)
        if rank() == (place if dealt_round % 2 == 0 else processes - 1 - place):
            rows.append(row)
    return sorted(rows)


def prompt_length(env: "TextEnv", index: int) -> int:
    """Characters of a prompt; 0 if the environment raises: the process that gets the problem will raise it again."""
    try:
        prompt = envs.problem.read_problem(env, index).prompt
    except envs.EnvError:
        return 0
    return len(prompt) if isinstance(prompt, str) else sum(len(message["content"]) for message in prompt)
