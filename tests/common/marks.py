"""Which cases of a test run by default, and which only with --slow."""

from collections.abc import Callable, Iterable
from typing import Any

import pytest

REPRESENTATIVES = ("spg", "diffu_grpo", "wd1", "gdpo", "vrpo", "raft", "justgrpo", "d2_stepmerge")
REPRESENTATIVES += ("coupled_grpo", "egspo", "mdpo", "d_treerpo")
"""Of all that an algorithm may ask the trainer for, each has one that asks: bounds of two sides, ratios by token and by
completion, weights of a whole group, pairs, no reference, token by token, paths, complements, probes, states, trees."""


def slow_if(cases: Iterable[Any], slow: Callable[..., bool]) -> list[Any]:
    """The cases as parameters, of which some are only for --slow, as the others hold each of their values."""
    tuples = [case if isinstance(case, tuple) else (case,) for case in cases]
    return [pytest.param(*case, marks=[pytest.mark.slow] if slow(*case) else []) for case in tuples]


def few_algorithms(names: Iterable[str]) -> list[Any]:
    """Algorithms as parameters: by default the representatives, as the trainer is what is tried."""
    return slow_if(names, lambda name: name not in REPRESENTATIVES)
