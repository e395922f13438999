"""Intervals and pass@k for counts of solved problems; plain Python, for any reader of a run folder."""

from collections.abc import Sequence
from math import comb, sqrt

from spg_trainer.errors import ConfigError


def wilson(successes: float, n: int, z: float = 1.959964) -> tuple[float, float]:
    """The range in which the true rate lies, given `successes` out of `n` independent trials.

    successes: may be a mean count that is not whole. z: normal quantile, 1.959964 for 95 %. With n = 0
    nothing is known and the answer is (0, 1).
    Raises ConfigError unless 0 <= successes <= n. Source: Wilson (1927), the score interval.
    """
    if not 0 <= successes <= n * (1 + 1e-9):
        raise ConfigError(f"wilson: {successes} successes out of {n} trials; needs 0 <= successes <= n.")
    if n == 0:
        return 0.0, 1.0
    rate = min(successes / n, 1.0)
    centre = rate + z * z / (2 * n)
    spread = z * sqrt(rate * (1 - rate) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    low = 0.0 if successes == 0 else (centre - spread) / scale
    high = 1.0 if rate == 1 else (centre + spread) / scale
    return low, high


def solved_rate(correct: Sequence[bool]) -> dict[str, float | int]:
    """The share of right answers with its 95 % interval: `correct`, `low`, `high` in [0, 1], and `n`."""
    n = len(correct)
    solved = sum(bool(value) for value in correct)
    low, high = wilson(solved, n)
    return {"correct": solved / n if n else 0.0, "n": n, "low": low, "high": high}


def pass_at_k(num_correct: int, n: int, k: int) -> float:
    """The chance that one of `k` completions is right, estimated without bias from `num_correct` of `n`.

    Raises ConfigError unless 1 <= k <= n and 0 <= num_correct <= n. Source: Chen et al. (2021), equation 1.
    """
    if not 1 <= k <= n or not 0 <= num_correct <= n:
        raise ConfigError(
            f"pass@{k} from {num_correct} right of {n} completions; needs 1 <= k <= n. "
            f"Sample at least {k} completions per problem (--num-generations {k})."
        )
    return 1.0 - comb(n - num_correct, k) / comb(n, k)
