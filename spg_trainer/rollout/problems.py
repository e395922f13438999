"""The problems of a split: whether they come from a file, which of them a step takes, and which process samples what.

No torch is imported here, since a start looks at problems before it imports torch.
"""

from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np

from spg_trainer.distributed import rank, world_size
from spg_trainer.errors import ConfigError
from spg_trainer.seeding import numpy_generator
from spg_trainer.settings.packages import envs  # our `envs`, not another package of that name

MEASURED_WHOLE = 20_000
"""If a split has at most so many problems, all its prompts are counted in tokens before the first step."""
LONGEST_STREAK = 2
"""How many groups of a problem in a row must be all right, or all wrong, so that it is drawn less often."""


def place_of(problem: "envs.Problem") -> str | None:
    """The file and the line that a problem comes from, e.g. "rows.jsonl, line 3"; None if it comes from none."""
    where = problem.metadata.get("where")
    return where if isinstance(where, str) else None


def is_file(env: "envs.TextEnv") -> bool:
    """Whether the problems of a split come from the lines of a file, judged by the first problem."""
    try:
        return place_of(envs.problem.read_problem(env, 0)) is not None
    except envs.EnvError:  # it is raised again, and reported, where the problem is used
        return False


def is_measured_whole(env: "envs.TextEnv") -> bool:
    """Whether all prompts of a split are counted in tokens before the first step: of a file, and of any small split."""
    return len(env) <= MEASURED_WHOLE or is_file(env)


def parts_measured_whole(env: "envs.TextEnv") -> "Iterator[tuple[envs.TextEnv, range]]":
    """Yields (a split, its problems) if the split is no stream; for a mixture of tasks, the split of each task."""
    for part in [*env.parts.values()] or [env]:
        if is_measured_whole(part):
            yield part, range(len(part))


def choose_problems(seed: int, step: int, count: int, size: int) -> np.ndarray:
    """`count` distinct problem indices below `size` for a step, (count,) int64; the same for every process."""
    return numpy_generator(seed, "problems", step).choice(size, size=count, replace=False)


def choose_more(seed: int, step: int, batch: int, count: int, size: int, taken: Sequence[int]) -> np.ndarray:
    """`count` distinct problem indices for a further batch of a step, none of them `taken` by its earlier batches.

    Returns fewer than `count` if fewer are left.
    """
    draw = numpy_generator(seed, "problems", step, batch)
    # Even if all taken problems are among those drawn, `count` others are left. If `size` is smaller, all are drawn.
    index = draw.choice(size, size=min(size, count + len(taken)), replace=False)
    return index[~np.isin(index, taken)][:count]


def deal_groups(
    lengths: Sequence[int], num_generations: int, dealt_by: Literal["episode", "group"]
) -> np.ndarray:
    """The ascending numbers of the episodes of a rollout batch that this process samples.

    Episode k of group g has the number g * num_generations + k. All processes get about the same number of episodes,
    with prompts of about the same length. Dealt by "group", a group is never divided. Dealt by "episode", each process
    gets the same number of whole groups; of the groups left over, which have the shortest prompts, episodes are dealt
    singly. E.g. if 2 processes share 5 groups, each gets 2 groups, and half of the group with the shortest prompt.

    lengths: the length of each group's prompt.
    """
    longest_first = sorted(range(len(lengths)), key=lambda group: -lengths[group])
    num_whole = len(longest_first)
    if dealt_by == "episode":
        num_whole -= num_whole % world_size()
    kept_whole, left_over = longest_first[:num_whole], longest_first[num_whole:]
    groups = [kept_whole[i] for i in deal_rows([lengths[group] for group in kept_whole])]
    episodes = [group * num_generations + k for group in groups for k in range(num_generations)]
    single = [group * num_generations + k for group in left_over for k in range(num_generations)]
    episodes += [single[i] for i in deal_rows([0] * len(single))]  # 0 for all: they count as equally long
    return np.array(sorted(episodes), dtype=np.int64)


def check_prompts(count: int, size: int, source: str, note: str = "") -> None:
    """Raises ConfigError if a step takes more prompts (`count`) than `source` has (`size`).

    note: a sentence on the problems of `source` that were left out of `size`, if any; it ends the message.
    """
    if count > size:
        remedy = f"Use {size} or fewer."
        if not size:
            remedy = f"Give it {count} or more{' that can be used' if note else ''}."
        text = f"$prompts_per_step={count}: {source} has {size} to train on. {remedy} {note}"
        raise ConfigError(text.rstrip())


def deal_rows(lengths: Sequence[int]) -> list[int]:
    """The ascending numbers of the rows that this process gets.

    All processes get about the same number of rows, of about the same lengths. The longest rows are dealt first, in
    rounds that go up and down: for 3 processes 0 1 2, 2 1 0, 0 1 2 and so on. lengths: of each row; they must be the
    same on all processes.
    """
    longest_first = sorted(range(len(lengths)), key=lambda row: -lengths[row])
    processes = world_size()
    dealt = []
    for number, row in enumerate(longest_first):
        dealing_round, turn = divmod(number, processes)
        goes_up = dealing_round % 2 == 0
        receiver = turn if goes_up else processes - 1 - turn
        if rank() == receiver:
            dealt.append(row)
    return sorted(dealt)


def prompt_length(env: "envs.TextEnv", index: int) -> int:
    """How many characters a prompt has; 0 if the environment raises, which the rollout will report."""
    try:
        prompt = envs.problem.read_problem(env, index).prompt
    except envs.EnvError:
        return 0
    return len(prompt) if isinstance(prompt, str) else sum(len(message["content"]) for message in prompt)


class Pools:
    """Remembers how the latest groups of each problem ended, and draws the problems of a step.

    streaks: {problem: n}. n is how many of its latest groups in a row were all right, at most `LONGEST_STREAK`. If they
    were all wrong, n is that number below 0: with -2, the latest two groups were all wrong. A problem whose latest
    group was mixed is not in `streaks`.
    """

    def __init__(self, seed: int, size: int, all_right: float, all_wrong: float) -> None:
        """size: how many problems the training set has.

        all_right, all_wrong: the weight, 0.01 to 1, of a problem whose last two groups were all right, or all wrong.
        All other problems have weight 1.
        """
        self.seed, self.size = seed, size
        self.weights = {LONGEST_STREAK: all_right, -LONGEST_STREAK: all_wrong}
        self.streaks: dict[int, int] = {}

    def choose(self, step: int, batch: int, count: int, taken: Sequence[int] = ()) -> np.ndarray:
        """`count` distinct problems for a batch of a step, (count,) int64; the same for every process.

        Each draw is in proportion to the weights of the problems that are left. taken: the problems of the step's
        earlier batches. Returns fewer than `count` if fewer are left.
        """
        # Rejection sampling, since a training set may be too large to weigh each of its problems. A problem with the
        # least weight, 0.01, is rejected in 99 of 100 draws.
        generator = numpy_generator(self.seed, "pools", step, batch)
        chosen: list[int] = []
        excluded = {*taken}  # the taken problems, and those of `chosen`
        while len(chosen) < count and len(excluded) < self.size:
            index = int(generator.integers(self.size))
            weight = self.weights.get(self.streaks.get(index, 0), 1.0)
            if generator.random() < weight and index not in excluded:
                chosen.append(index)
                excluded.add(index)
        return np.array(chosen, dtype=np.int64)

    def note(self, index: np.ndarray, correct: np.ndarray) -> dict[str, int]:
        """Notes the groups of a finished step; returns, as metrics, how many problems are drawn less often.

        index: (P,) problems. correct: (P, G) bool.
        """
        for problem, right in zip(index.tolist(), correct, strict=True):
            streak = self.streaks.pop(problem, 0)
            if right.all():
                self.streaks[problem] = min(LONGEST_STREAK, max(0, streak) + 1)
            elif not right.any():
                self.streaks[problem] = max(-LONGEST_STREAK, min(0, streak) - 1)
        streaks = [*self.streaks.values()]
        return {
            "pools/all_right": streaks.count(LONGEST_STREAK),
            "pools/all_wrong": streaks.count(-LONGEST_STREAK),
        }
