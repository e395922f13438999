"""Warns of what looks wrong with a run, and which flag to change."""

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

History = Sequence[Mapping[str, Any]]

REPEAT_AFTER = 10
"""A warning is repeated only if it did not hold in any of so many steps before."""
ALL_RIGHT = 0.95
"""Share of groups that are all right above which there is little left to learn."""
MOST = 0.75
"""Share of groups that teach nothing, for their rewards are equal, from which on a run says why."""


def diagnose(history: History, *, negatives: bool, right_teach: bool) -> list[str]:
    """Warnings that the newest step gives rise to and the steps just before it did not.

    history: rows of metrics.jsonl, oldest first; from the start of the run, so that a fall from the best can
    be seen. Values that are missing or null are passed over. negatives: whether bad completions are pushed down.
    right_teach: whether groups that are all right teach, too. Returns sentences that name the flags to change.
    """
    warnings = troubles(history, negatives, right_teach)
    for back in range(1, min(REPEAT_AFTER, len(history)) + 1):
        before = troubles(history[:-back], negatives, right_teach) if warnings else {}
        warnings = {name: text for name, text in warnings.items() if name not in before}
    return list(warnings.values())


def troubles(history: History, negatives: bool, right_teach: bool) -> dict[str, str]:
    """All that looks wrong at the newest step, by name."""
    problems = {}

    failures = sum(_values(history[-1:], "env_errors"))
    if failures:
        problems["unscored"] = (
            f"the environment's score raised on {failures:.0f} completions of this step, which earn 0; more than 5% "
            'stop the run. Look for the reason "error" in samples/ (--sample-steps 1 writes every step).'
        )

    names = ("reward_zero_std", "groups_all_correct", "groups_all_wrong", "groups_identical")
    equal, right, wrong, same = (_values(history[-3:], f"frac_{name}") for name in names)
    idle = equal
    if right_teach:  # as long as there are others
        idle = [e if r > ALL_RIGHT else e - r for e, r in zip(equal, right, strict=False)]
        same = _values(history[-3:], "frac_groups_wrong_identical") or same  # older runs have one figure
    if len(equal) == len(right) == 3 and min(idle) >= MOST:
        problems["equal rewards"] = equal_rewards(
            *(sum(shares) / 3 for shares in (equal, right, wrong, same, idle))
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
            "--learning-rate"
            + (", or leave out negatives: --algorithm-args negatives=zero." if negatives else ".")
        )

    norms = _values(history[-23:], "grad_norm")
    recent, usual = norms[-3:], norms[:-3]
    if len(usual) >= 5 and median(recent) > 10 * median(usual) > 0:
        problems["gradient"] = (
            f"the gradient norm is {median(recent):.3g}, it was {median(usual):.3g}. Lower --learning-rate."
        )
    return problems


def equal_rewards(equal: float, right: float, wrong: float, same: float, idle: float) -> str:
    """Why groups earn equal rewards, and what to change.

    equal, right, wrong, same: shares of all groups in which every completion earns the same, is right, is wrong, is the
    same text. idle: share of the groups that teach nothing; where right ones teach, `same` are those of wrong texts.
    """
    alike = max(0.0, equal - right - wrong)
    what = (
        f"{equal:.0%} of the groups have equal rewards, right beside wrong in none of them (3 steps in a row): "
        f"{right:.0%} of all groups are all right, {wrong:.0%} all wrong"
    )
    what += f", {alike:.0%} mixed but paid alike" if alike > 0.005 else ""
    if right > ALL_RIGHT:
        return (
            f"{what}. There is little left to learn here: make the problems harder (--env-args), or stop with a "
            "smaller --max-steps."
        )
    if alike > equal / 2:
        return f"{what}. Make the reward tell right from wrong, e.g. --reward-weights correct=1."
    if same > idle / 2:
        text = "the same text" if idle == equal else "the same wrong text"
        return (
            f"{what}; in {same:.0%} all completions are {text}, so there is no variety to learn from. Raise "
            "--temperature."
        )
    if wrong > 0.8 * equal:
        return (
            f"{what}. The problems are too hard for this model: make them easier (--env-args), raise "
            "--num-generations, or teach it the task first with `python -m spg_trainer sft`."
        )
    if right > 0.8 * equal:
        return f"{what}. Most problems are solved already: make them harder (--env-args), or raise --prompts-per-step."
    return (
        f"{what}. The model solves a problem always or never: raise --temperature or --num-generations for variety, or "
        "--prompts-per-step for more groups that do differ."
    )


def _values(history: History, key: str) -> list[float]:
    values = (row.get(key) for row in history)
    return [float(value) for value in values if isinstance(value, int | float) and value == value]
