"""Train, validation and test: for authors who draw problems, and for environments that know nothing of splits."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from envs.core import TextEnv, check_index, read_problem
from envs.errors import EnvError, nearest
from envs.records import Problem, Score, Scores

SPLITS = {"train": range(0, 8), "validation": range(8, 9), "test": range(9, 10)}
"""Which tenths of the problems belong to which split."""
MAX_PROBLEMS = 10**8
"""Largest environment that is divided; its indices take 8 bytes each."""
_CHUNK = 1 << 20
_DRAWS = 2000
_DOMAIN = 20_260_701
Drawn = TypeVar("Drawn")


def split_of(value: Any) -> str:
    """The split ("train", "validation" or "test") that a problem belongs to, by a hash of its content (80/10/10).

    value: what makes the problem, of strings, numbers, lists, tuples, dicts and numpy arrays.
    """
    text = json.dumps(value, sort_keys=True, default=_as_list)
    part = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest()) % 10
    return next(name for name, tenths in SPLITS.items() if part in tenths)


def _as_list(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    raise EnvError(
        f"A problem holds {value!r:.80} ({type(value).__name__}), which has no fixed text to divide by. Make it of "
        "strings, numbers, lists, tuples, dicts and numpy arrays."
    )


def draw_for(split: str, index: int, generate: Callable[[np.random.Generator], Drawn]) -> Drawn:
    """Problem number `index` of a split, drawn by `generate`; no two splits ever share a problem.

    generate: makes a random problem from a generator, of the types that `split_of` takes. It is called until what
    it makes belongs to `split`: once or twice for "train", about ten times for the others. The same split, index
    and generate give the same problem in every process. Raises EnvError for an unknown split, and if 2,000
    draws make nothing for it (then there are too few different problems).
    """
    if split not in SPLITS:
        raise EnvError(
            f'There is no split "{split}". {nearest(str(split), SPLITS)}Known: {", ".join(SPLITS)}.'
        )
    rng = np.random.default_rng([_DOMAIN, index])
    for _ in range(_DRAWS):
        drawn = generate(rng)
        if split_of(drawn) == split:
            return drawn
    raise EnvError(
        f"Of {_DRAWS} problems drawn for {split} {index} none belongs to {split}, e.g. {drawn!r:.80}. "
        "Let the generator make more different problems."
    )


def tenth(indices: np.ndarray) -> np.ndarray:
    """(n,) int64 indices -> (n,) int64 in 0..9, by a fixed hash (SplitMix64, Steele et al. 2014)."""
    x = indices.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return ((x ^ (x >> np.uint64(31))) % np.uint64(10)).astype(np.int64)


def indices_of(base: TextEnv, tenths: range) -> np.ndarray:
    """(n,) int64, the problems of `base` in the given tenths; raises EnvError if there are too many to list."""
    size = len(base)
    if size > MAX_PROBLEMS:
        raise EnvError(
            f"{base.spec_name} has {size} problems, more than the {MAX_PROBLEMS} that can be divided into splits by "
            "a hash of each. Return fewer from __len__, or take `split` in its __init__ and divide them there."
        )
    parts = (np.arange(start, min(start + _CHUNK, size)) for start in range(0, size, _CHUNK))
    kept = [part[np.isin(tenth(part), tenths)] for part in parts]
    return np.concatenate(kept) if kept else np.empty(0, np.int64)


class DividedEnv(TextEnv):
    """One split of `base`: its problems whose index hashes there (80% train, 10% validation, 10% test).

    Problem i here is problem `indices[i]` of `base`; everything else is asked of `base`.
    """

    def __init__(self, base: TextEnv, split: str) -> None:
        if split not in SPLITS:
            raise EnvError(f'{base.spec_name} has no split "{split}"; there are {", ".join(SPLITS)}.')
        self.base, self.split = base, split
        self.reward_weights, self._env_id, self._env_arguments = (
            base.reward_weights,
            base._env_id,
            base._env_arguments,
        )
        self.reward_ranges = base.reward_ranges
        self.observation_space, self.action_space = base.observation_space, base.action_space
        self.origin = base.origin
        self.indices = indices_of(base, SPLITS[split])
        if not len(self.indices):
            raise EnvError(
                f"{base.spec_name} has {len(base)} problems, of which none falls into {split}. "
                "Give it more, or take `split` in its __init__ and divide them there."
            )

        self.notice = (f"{base.notice} " if base.notice else "") + (
            f"{base.spec_name} takes no `split`: its {len(base)} problems are divided by a hash of their "
            f"index, 80/10/10; {split} has {len(self.indices)}."
        )

    @property
    def _batched(self) -> bool:
        return self.base._batched

    def __len__(self) -> int:
        """Problems of this split."""
        return len(self.indices)

    def problem(self, index: int) -> Problem:
        """Problem `indices[index]` of the whole."""
        return read_problem(self.base, int(self.indices[check_index(self, index)]))

    def score(self, problem: Problem, completion: str) -> Score | Mapping[str, float]:
        """As the whole environment scores it."""
        return self.base.score(problem, completion)

    def score_batch(self, problems: Sequence[Problem], completions: Sequence[str]) -> Scores:
        """As the whole environment scores them."""
        return self.base.score_batch(problems, completions)

    def demonstration(self, problem: Problem) -> str:
        """The whole environment's demonstration."""
        return self.base.demonstration(problem)

    def habits(self, problem: Problem) -> dict[str, str]:
        """The whole environment's habits."""
        return self.base.habits(problem)

    def picture(self, problem: Problem, completion: str | None) -> str:
        """The whole environment's picture."""
        return self.base.picture(problem, completion)
