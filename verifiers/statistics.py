"""The confidence interval of a rate. `verifiers.command.report.pass_at` computes pass@k."""

from math import sqrt

from verifiers.errors import ArgumentError


def wilson_interval(successes: float, n: int, z: float = 1.959964) -> tuple[float, float]:
    """The range in which the true rate lies, given `successes` out of `n` independent trials.

    `successes` may be a mean count that is not whole; `z` is the normal quantile, 1.959964 for 95 %. (0, 1) for
    n = 0. Raises `ArgumentError` unless 0 <= successes <= n. Source: Wilson (1927), the score interval.
    """
    if not 0 <= successes <= n * (1 + 1e-9):
        message = f"wilson_interval: {successes} successes out of {n} trials; needs 0 <= successes <= n."
        raise ArgumentError(message, argument="successes", value=successes)
    if n == 0:
        return 0.0, 1.0
    rate = min(successes / n, 1.0)
    centre = rate + z * z / (2 * n)
    spread = z * sqrt(rate * (1 - rate) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    low = 0.0 if successes == 0 else (centre - spread) / scale
    high = 1.0 if rate == 1 else (centre + spread) / scale
    return low, high
