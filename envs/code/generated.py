"""Generated problems: small functions, made of one or two steps. Nothing has to be downloaded for them.

Each function is described by a sentence, such as "add 3, mul 2". A hash of the sentence decides the split, so no
sentence of validation or test is trained on, not even with other example calls. But two sentences may describe one
function: "add 3, mul 2" is in validation, and "mul 2, add 6" in train. Validation and test have 256 fixed
problems each. At level 1, 31 of the 61 sentences of validation, and 31 of the 64 of test, describe a function that
returns the same as a function of train, for all arguments 0 to 9.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from envs.splits import pick, split_of

SEED = 39_000_039  # keeps these random streams apart from those of any other environment
SHOWN, HIDDEN = 2, 6
"""How many calls of a problem the prompt shows, and how many more it is judged by."""
LETTERS = "abcdefgh"  # of random texts


class Step(NamedTuple):
    """One thing that is done to a value, maybe with a number or letters."""

    phrase: str
    """How a problem words the step, with {n} in place of the number or letters."""
    code: str
    """The step in Python, with {v} in place of the value, and {n} as in `phrase`."""
    run: Callable[[Any, Any], Any]
    """(value, number or letters) -> the new value; a step without a number or letters ignores the second argument."""
    is_operation: bool = False
    """Whether `code` is a sum, a difference or a product."""
    binds_tightly: bool = False
    """Whether something stands right behind {v} that binds more tightly than + and -: "*", "[" or "."."""


# Steps on numbers, on texts and on lists; steps that can end a chain on a list; conditions.
_NUMBERS = (
    Step("add {n}", "{v}+{n}", lambda v, n: v + n, is_operation=True),
    Step("sub {n}", "{v}-{n}", lambda v, n: v - n, is_operation=True),
    Step("mul {n}", "{v}*{n}", lambda v, n: v * n, is_operation=True, binds_tightly=True),
)
_TEXTS = (
    Step("reverse", "{v}[::-1]", lambda v, n: v[::-1], binds_tightly=True),
    Step("capitals", "{v}.upper()", lambda v, n: v.upper(), binds_tightly=True),
    Step("repeat {n} times", "{v}*{n}", lambda v, n: v * n, is_operation=True, binds_tightly=True),
    Step("drop the first {n}", "{v}[{n}:]", lambda v, n: v[n:], binds_tightly=True),
    Step("keep the first {n}", "{v}[:{n}]", lambda v, n: v[:n], binds_tightly=True),
    Step("add {n!r} behind", "{v}+{n!r}", lambda v, n: v + n, is_operation=True),
    Step("put {n!r} before", "{n!r}+{v}", lambda v, n: n + v, is_operation=True),
)
_LISTS = (
    Step("sort", "sorted({v})", lambda v, n: sorted(v)),
    Step("reverse", "{v}[::-1]", lambda v, n: v[::-1], binds_tightly=True),
    Step("times {n}", "[a*{n} for a in {v}]", lambda v, n: [a * n for a in v]),
    Step("only above {n}", "[a for a in {v} if a>{n}]", lambda v, n: [a for a in v if a > n]),
    Step("only below {n}", "[a for a in {v} if a<{n}]", lambda v, n: [a for a in v if a < n]),
)
_ENDS = (
    Step("sum", "sum({v})", lambda v, n: sum(v)),
    Step("count", "len({v})", lambda v, n: len(v)),
    Step("append {n}", "{v}+[{n}]", lambda v, n: [*v, n], is_operation=True),
)
_CONDITIONS = (
    Step("x is odd", "x%2", lambda v, n: v % 2),
    Step("x is even", "x%2==0", lambda v, n: v % 2 == 0),
    Step("x is above {n}", "x>{n}", lambda v, n: v > n),
)
LEVELS = (1, 2, 3, 4)
"""Levels 1 to 3: two steps follow each other, and the argument x is a number (1), a text (2) or a list of numbers (3).
Level 4: x is a number, and a condition chooses one of two steps."""


@dataclass(frozen=True)
class Function:
    """The function that a problem asks for."""

    sentence: str
    code: str
    """A Python expression of x that has the function's value, such as "(x+3)*2"."""
    run: Callable[[Any], Any]


def draw_function(rng: np.random.Generator, level: int) -> Function:
    """A random function of a level."""
    if level == 4:  # the other levels come below
        first, second = (_chain(rng, [pick(rng, _NUMBERS)], limit=10) for _ in range(2))
        condition = _chain(rng, [pick(rng, _CONDITIONS)], limit=10)
        return Function(
            f"{first.sentence} if {condition.sentence}, else {second.sentence}",
            f"{first.code} if {condition.code} else {second.code}",
            lambda x: first.run(x) if condition.run(x) else second.run(x),
        )
    # {level: the steps of which the first and the second are drawn, the limit of their numbers}
    choices = {1: (_NUMBERS, _NUMBERS, 10), 2: (_TEXTS, _TEXTS, 5), 3: (_LISTS, _ENDS, 9)}
    first_steps, second_steps, limit = choices[level]
    return _chain(rng, [pick(rng, first_steps), pick(rng, second_steps)], limit)


def _chain(rng: np.random.Generator, steps: list[Step], limit: int) -> Function:
    """The function that does the steps one after the other, each with letters or a number from 2 to limit - 1."""
    code = "x"
    is_operation = False  # whether `code` is a sum, a difference or a product
    phrases, calls = [], []
    for step in steps:
        n: Any = int(rng.integers(2, limit))
        if "{n!r}" in step.phrase:
            n = "".join(rng.choice(list(LETTERS), 2))
        # E.g. from "x+3", "{v}*{n}" with n = 2 makes "(x+3)*2".
        value = f"({code})" if is_operation and step.binds_tightly else code
        code = step.code.format(v=value, n=n)
        is_operation = step.is_operation
        phrases.append(step.phrase.format(n=n))
        calls.append((step.run, n))

    def run(x: Any) -> Any:
        for run_step, number in calls:
            x = run_step(x, number)
        return x

    return Function(", ".join(phrases), code, run)


def draw_input(rng: np.random.Generator, level: int) -> Any:
    """A random argument: a number, a text or a list."""
    if level in (1, 4):
        return int(rng.integers(0, 10))
    size = int(rng.integers(3, 6))
    return "".join(rng.choice(list(LETTERS), size)) if level == 2 else rng.integers(0, 10, size).tolist()


@dataclass(frozen=True)
class Exercise:
    """One problem: a function, and calls of it."""

    function: Function
    calls: tuple[tuple[Any, Any], ...]
    """(argument, value) of each call; the prompt shows the first `SHOWN` of them."""


def draw(rng: np.random.Generator, level: int, split: str, turn: int | None) -> Exercise:
    """A random problem of a split; the values of its calls are not all the same.

    turn: the number of the draw in a fixed set (see `envs.bases.generated.fixed_set`); it is not used here.
    """
    while True:
        function = draw_function(rng, level)
        inputs: list[Any] = []
        while len(inputs) < SHOWN + HIDDEN:
            if (x := draw_input(rng, level)) not in inputs:
                inputs.append(x)
        calls = tuple((x, function.run(x)) for x in inputs)
        first_value = calls[0][1]
        if split_of(function.sentence) == split and any(value != first_value for _, value in calls):
            return Exercise(function, calls)


def key(exercise: Exercise) -> str:
    """Sentence and calls together; problems with the same key are the same."""
    return f"{exercise.function.sentence} {exercise.calls}"
