"""The rules by which problems are divided into training, validation and test, for all tasks of this package.

A task draws problems with a private generator, `default_rng([number of the task, STREAMS[split], ...])`, until one
belongs to the split that is asked for. A `SplitRule` says to which split a problem belongs. The rule of an environment
never changes, so that its splits stay as they are.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import numpy as np

from envs.errors import EnvError, check_choice
from envs.problem import HasProblems, Problem, Prompt, read_problem

SPLITS = ("train", "validation", "test")
SPLIT_SIZES = {"train": 1_000_000, "validation": 256, "test": 256}
"""How many problems the generated splits have."""
STREAMS = {"train": 0, "validation": 1, "test": 2}
"""{split: the number that a task adds to its seed}, so that splits draw from separate streams."""
SEARCHED = 20
"""To find n different problems for an evaluation, the first SEARCHED * n problems are searched."""
_MAX_DRAWS = 2000  # of `draw_for`
_SEED = 20_260_701  # keeps the streams of `draw_for` apart from all others
Drawn = TypeVar("Drawn")


@dataclass(frozen=True)
class SplitRule:
    """Assigns a text to a split by its hash, which is a number from 0 to parts - 1.

    hash: a constructor of `hashlib`; the first 8 bytes of its digest, as a big-endian number, are taken modulo `parts`.
    validation, test: the numbers of these splits; all other numbers mean train. test=None: no text is in the test
    split. salt: is put before every text.
    """

    hash: Callable[[bytes], Any]
    parts: int
    validation: int
    test: int | None
    salt: str = ""

    def __call__(self, text: str) -> str:
        part = int.from_bytes(self.hash((self.salt + text).encode()).digest()[:8], "big") % self.parts
        if part == self.validation:
            return "validation"
        return "test" if part == self.test else "train"


# The text below each rule says which text of a problem the rule hashes.
DEFAULT = SplitRule(partial(hashlib.blake2b, digest_size=8), parts=10, validation=8, test=9)
"""Hashes the problem's content, written as JSON. This rule is the default of `split_of` and `draw_for`, which the small
tasks use."""
COUNTDOWN = DEFAULT
"""Hashes the sorted numbers and the target."""
SUDOKU_9X9 = DEFAULT
"""Hashes the solved grid, with digits renamed so that the first row reads 123456789. So grids that differ only in the
names of their digits are in one split. The 288 grids of 4x4 are divided by a list in `envs.sudoku.problems` instead."""
GUESS = SplitRule(DEFAULT.hash, parts=6, validation=0, test=1)
"""Hashes the range and the number in it. Validation and test have a sixth each, as level 1 has only 372 problems."""
GSM8K = SplitRule(hashlib.sha256, parts=10, validation=0, test=1)
"""Hashes the steps of a generated problem."""
MATH500 = SplitRule(hashlib.sha256, parts=5, validation=0, test=1, salt="1 ")
"""Hashes the text of a generated problem without its letters, so that the same problem with another name of its unknown
is in the same split. Several salts were tried in turn; this is the first one that puts at least an eighth of the
problems of every template into each split."""
split_of_published = SplitRule(hashlib.sha256, parts=20, validation=0, test=None)
"""Hashes the text of a problem of a published train set. The published test set is the test split."""


def split_of(value: Any, rule: SplitRule = DEFAULT) -> str:
    """The split ("train", "validation" or "test") that a problem belongs to, by a hash of its content (80/10/10).

    value: the content, made of strings, numbers, lists, tuples, dicts and numpy arrays. rule: may have other shares.
    """
    return rule(json.dumps(value, sort_keys=True, default=_as_list))


def _as_list(value: Any) -> Any:
    """An array or number of numpy as a type that JSON has; raises EnvError for a value of any other type."""
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    types = "strings, numbers, lists, tuples, dicts and numpy arrays"
    raise EnvError(f"A problem holds {value!r:.80} ({type(value).__name__}); it must be made of {types}.")


def draw_for(
    split: str, index: int, generate: Callable[[np.random.Generator], Drawn], rule: SplitRule = DEFAULT
) -> Drawn:
    """Problem number `index` of a split, drawn by `generate`; no two splits ever share a problem.

    generate: makes a random problem, of types that `split_of` takes, from a generator. It is called until a problem
    belongs to `split`: once or twice for "train", about ten times for the others. rule: as for `split_of`.

    The same split, index and generate give the same problem in every process. Raises EnvError for an unknown split, and
    if 2,000 draws give no problem of the split, because there are too few different problems.
    """
    check_choice("draw_for", "split", split, SPLITS)
    # All splits draw from the same stream here. They share no problem, since each keeps only problems of its own.
    rng = np.random.default_rng([_SEED, index])
    for _ in range(_MAX_DRAWS):
        drawn = generate(rng)
        if split_of(drawn, rule) == split:
            return drawn
    none = f"Of {_MAX_DRAWS} problems drawn for {split} {index} none belongs to {split}, e.g. {drawn!r:.80}"
    raise EnvError(f"{none}. Let the generator make more different problems.")


def distinct(
    draw: Callable[[int], Drawn], key: Callable[[Drawn], Any], count: int = 256
) -> tuple[Drawn, ...]:
    """The first `count` of draw(0), draw(1), ... whose keys differ, in their order: a fixed evaluation set.

    There are fewer if the first SEARCHED * count draws have fewer different keys.
    """
    first_of_key: dict[Any, Drawn] = {}
    for number in range(SEARCHED * count):
        if len(first_of_key) == count:
            break
        drawn = draw(number)
        first_of_key.setdefault(key(drawn), drawn)
    return tuple(first_of_key.values())


def distinct_problems(env: HasProblems, count: int = 0) -> list[int]:
    """The ascending indices of the first `count` different problems of a split; count 0 = of all different problems.

    There are fewer than `count` if the split, or its first SEARCHED * count problems, has fewer different problems. A
    problem that occurs twice is evaluated once, since a second evaluation would add no evidence.
    """
    wanted = min(count or len(env), len(env))
    first_of_key: dict[str, int] = {}
    for index in range(min(len(env), SEARCHED * wanted)):
        if len(first_of_key) == wanted:
            break
        try:
            problem = read_problem(env, index)
            key = f"{problem.task} {content(problem)}"  # two tasks may judge the same question differently
        except EnvError:
            # A broken problem counts as different; its error is raised when the problem is used.
            key = f"broken {index}"
        first_of_key.setdefault(key, index)
    return list(first_of_key.values())


def content(problem: Problem) -> str:
    """A text that is equal for equal problems: all that the model reads, and the reference."""
    parts = [problem.prompt, problem.completion_prefix, problem.completion_template, problem.reference]
    return json.dumps(parts, sort_keys=True, default=_as_json)


def question(prompt: Prompt, capitals: bool = False) -> str:
    """The text of a prompt, for comparisons: white space becomes single spaces, and capitals become small letters.

    capitals: if true, capitals stay as they are.
    """
    text = prompt if isinstance(prompt, str) else "\n".join(message["content"] for message in prompt)
    text = " ".join(text.split())
    return text if capitals else text.casefold()


def _as_json(value: Any) -> Any:
    """What `content` writes for a value that is not a JSON type."""
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    return sorted(map(str, value)) if isinstance(value, set | frozenset) else str(value)


def pick(rng: np.random.Generator, options: Sequence[Drawn]) -> Drawn:
    """One of the options, each equally likely."""
    return options[int(rng.integers(len(options)))]
