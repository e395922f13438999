"""Warns of what looks wrong with a run, and which flag to change."""

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
    warnings = troubles(history)
    for back in range(1, min(REPEAT_AFTER, len(history)) + 1):
        before = troubles(history[:-back]) if warnings else {}
        warnings = {name: text for name, text in warnings.items() if name not in before}
    return list(warnings.values())


def troubles(history: History) -> dict[str, str]:
    """All that looks wrong at the newest step, by name."""
    problems = {}

    failures = sum(_values(history[-1:], "env_errors"))
    if failures:
        problems["unscored"] = (
            f"the environment's score raised on {failures:.0f} completions of this step, which earn 0; more than 5% "
            'stop the run. Look for the reason "error" in samples/ (--sample-steps 1 writes every step).'
        )

    equal, solved = (_values(history[-3:], name) for name in ("frac_reward_zero_std", "correct"))
    if len(equal) == 3 and min(equal) >= 0.99:
        problems["equal rewards"] = (
            "all completions of a problem get equal rewards (3 steps in a row), so nothing is learned. Raise "
            "--temperature or --num-generations; if the model never solves a problem, teach it the task first "
            "with `python -m spg_trainer sft`."
        )
        if solved and min(solved) > 0.99:
            problems["equal rewards"] = (
                "every completion is right, so there is nothing left to learn here. Stop with a smaller "
                "--max-steps, or make the problems harder with --env-args."
            )

    clipped = _values(history[-3:], "completions/clipped_ratio")
    if len(clipped) == 3 and min(clipped) > 0.5:
        problems["clipped"] = (
            f"{clipped[-1]:.0%} of the completions have no end token and are cut (3 steps in a row). "
            "Raise --max-completion-length."
        )

    formats = _values(history, "rewards/format/mean")
    means = [sum(formats[i : i + 3]) / 3 for i in range(len(formats) - 2)]
    if len(formats) >= 5 and max(formats) < 0.01:
        problems["format"] = (
            f"no completion has had the asked format in {len(formats)} steps. Look at samples/; teach it "
            "first with `python -m spg_trainer sft`, or reward it with --reward-weights format=0.1."
        )
    elif means and means[-1] < max(means) - 0.2:
        problems["format"] = (
            f"the asked format is met by {means[-1]:.2f} of the completions, down from {max(means):.2f}. Lower "
            "--learning-rate, or soften the push away from bad completions with --algorithm-args negatives=zero."
        )

    norms = _values(history[-23:], "grad_norm")
    recent, usual = norms[-3:], norms[:-3]
    if len(usual) >= 5 and median(recent) > 10 * median(usual) > 0:
        problems["gradient"] = (
            f"the gradient norm is {median(recent):.3g}, it was {median(usual):.3g}. Lower --learning-rate; "
            "--max-grad-norm bounds each update."
        )
    return problems


def _values(history: History, key: str) -> list[float]:
    values = (row.get(key) for row in history)
    return [float(value) for value in values if isinstance(value, int | float) and value == value]
