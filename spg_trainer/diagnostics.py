"""Says in words what looks wrong with a run, and which flag to change."""

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

History = Sequence[Mapping[str, Any]]

REPEAT_AFTER = 10
"""A warning is repeated only if it did not hold in any of so many steps before."""


def diagnose(history: History) -> list[str]:
    """Warnings that the newest step gives rise to and the steps just before it did not.

    history: rows of metrics.jsonl, oldest first; from the start of the run, so that a fall from the best can
    be seen. Values that are missing or null are passed over. Returns sentences that name the flags to change.
    """
    warnings = []
    for check in (unscored, equal_rewards, clipped, format_lost, gradient_explodes):
        text = check(history)
        before = (history[:-back] for back in range(1, min(REPEAT_AFTER, len(history)) + 1))
        if text and not any(check(rows) for rows in before):
            warnings.append(text)
    return warnings


def unscored(history: History) -> str | None:
    """The environment raised on some completions of the newest step."""
    count = sum(_values(history[-1:], "env_errors"))
    if not count:
        return None
    return (
        f"the environment's score raised on {count:.0f} completions of this step, which earn 0; more than 5% "
        'stop the run. Look for the reason "error" in samples/ (--sample-steps 1 writes every step).'
    )


def equal_rewards(history: History) -> str | None:
    """No group has two different rewards, for three steps."""
    shares, solved = (_values(history[-3:], name) for name in ("frac_reward_zero_std", "correct"))
    if len(shares) < 3 or min(shares) < 0.99:
        return None
    if solved and min(solved) > 0.99:
        return (
            "every completion is right, so there is nothing left to learn here. Stop with a smaller "
            "--max-steps, or make the problems harder with --env-args."
        )
    return (
        "all completions of a problem get equal rewards (3 steps in a row), so nothing is learned. Raise --temperature "
        "or --num-generations; if the model never solves a problem, teach it first with `python -m spg_trainer sft`."
    )


def clipped(history: History) -> str | None:
    """More than half of the completions reach the length limit, for three steps."""
    shares = _values(history[-3:], "completions/clipped_ratio")
    if len(shares) < 3 or min(shares) <= 0.5:
        return None
    return (
        f"{shares[-1]:.0%} of the completions have no end token and are cut (3 steps in a row). "
        "Raise --max-completion-length."
    )


def format_lost(history: History) -> str | None:
    """The format was never met in five steps, or its mean of three steps fell by 0.2 from the best."""
    values = _values(history, "rewards/format/mean")
    if len(values) >= 5 and max(values) < 0.01:
        return (
            f"no completion has had the asked format in {len(values)} steps. Look at samples/; teach it "
            "first with `python -m spg_trainer sft`, or reward it with --reward-weights format=0.1."
        )
    means = [sum(values[i : i + 3]) / 3 for i in range(len(values) - 2)]
    if not means or means[-1] >= max(means) - 0.2:
        return None
    return (
        f"the asked format is met by {means[-1]:.2f} of the completions, down from {max(means):.2f}. Lower "
        "--learning-rate, or soften the push away from bad completions with --algorithm-args negatives=zero."
    )


def gradient_explodes(history: History) -> str | None:
    """The gradient norm is ten times what it was, over the last three steps against the twenty before."""
    norms = _values(history[-23:], "grad_norm")
    recent, usual = norms[-3:], norms[:-3]
    if len(usual) < 5 or median(recent) <= 10 * median(usual) or median(usual) == 0:
        return None
    return (
        f"the gradient norm is {median(recent):.3g}, it was {median(usual):.3g}. Lower --learning-rate; "
        "--max-grad-norm bounds each update."
    )


def _values(history: History, key: str) -> list[float]:
    values = (row.get(key) for row in history)
    return [float(value) for value in values if isinstance(value, int | float) and value == value]
