"""`--temperature auto`: the temperature of the next rollout, from what the last one showed."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

START = 1.0
"""The first step's: the model as it is."""
LOWEST, HIGHEST = 0.3, 3.0
MIXED = (0.4, 0.7)
"""Share of groups with unequal rewards that is left alone."""
MOST = 0.5
"""Share of groups that are wrong in many ways from which on completions are held to be too random."""


def next_temperature(history: Sequence[Mapping[str, Any]]) -> float:
    """The temperature of the step after those of `history`, LOWEST to HIGHEST.

    It rises while too few groups are mixed and falls while too many are, by a factor of exp(distance to the range
    MIXED), at most 1.5 a step. Where few are mixed because most are all wrong, each completion in another way, more
    randomness would not help: it falls. history: rows of metrics.jsonl, oldest first; the last decides.
    """
    if not history:
        return START
    row = history[-1]
    low, high = MIXED
    mixed = 1 - row["frac_reward_zero_std"]
    change = mixed - min(max(mixed, low), high)  # 0 inside the range
    # Rows of older runs have one figure for right and wrong ones.
    same = row.get("frac_groups_wrong_identical", row["frac_groups_identical"])
    if row["frac_groups_all_wrong"] - same > MOST:
        change = abs(change)
    return min(max(row["temperature"] * math.exp(-change), LOWEST), HIGHEST)
