"""Which cases of a test run by default, and which only with --slow."""

from collections.abc import Callable, Iterable
from typing import Any

import pytest

REPRESENTATIVES = ("spg", "diffu_grpo", "gdpo", "vrpo", "raft", "justgrpo", "justgrpo_repro", "rspo")
REPRESENTATIVES += ("mapg",)
"""Of what an algorithm may ask the trainer for, each has one that asks: bounds of two sides (spg), ratios of tokens
(diffu_grpo) and of completions (gdpo), pairs (vrpo), neither ratios nor a reference, and equal completions as one
(raft), tokens one by one (justgrpo), up to another end and with the tail behind it (justgrpo_repro), a loss that
couples completions (rspo), and drawn positions with a figure beside log-probabilities (mapg)."""


def slow_if(cases: Iterable[Any], slow: Callable[..., bool]) -> list[Any]:
    """The cases as parameters, of which some are only for --slow, as the others hold each of their values."""
    tuples = [case if isinstance(case, tuple) else (case,) for case in cases]
    return [pytest.param(*case, marks=[pytest.mark.slow] if slow(*case) else []) for case in tuples]


def few_algorithms(names: Iterable[str]) -> list[Any]:
    """Algorithms as parameters: by default those representatives that are among them."""
    return slow_if(names, lambda name: name not in REPRESENTATIVES)
