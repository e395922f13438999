"""Warnings of a run: completions that could not be scored, groups with equal rewards, completions without an end."""

from collections.abc import Mapping, Sequence
from typing import Any, get_args, get_type_hints

from spg_trainer.algorithms import Algorithm
from spg_trainer.rollout.failures import counts_text
from spg_trainer.training.remedies import HELP_IS_ON_PAGE, remedy_for_equal_groups

History = Sequence[Mapping[str, Any]]
"""Rows of metrics.jsonl, oldest first."""

REPEAT_AFTER = 10
"""A warning is repeated only if it held at none of so many steps before."""
NO_SIGNAL_SHARE = 0.75
"""From this share of groups without a signal on, a run warns. A group has no signal if its rewards are equal, since
such rewards teach nothing; but if the algorithm's `right_groups_teach` is true, an all-right group has a signal."""
STUCK = 10
"""A run warns after so many steps in a row in which most groups have no signal and the reward does not rise. Fewer such
steps may be normal: if few completions are right at first, most groups are all wrong, and become mixed as the reward
rises."""
RISES = 1.25
"""The reward rises if its mean over the later half of the `STUCK` steps is more than this times that of the first."""
COMMON = 0.95
"""From this mean on, a component of the reward hardly tells the completions of a group apart: nearly all have it."""
ENOUGH_TO_FALL = 0.2
"""A component that began below this mean is not warned of, because its fall may be noise."""


def form_warning(
    algorithm: Algorithm, reward_weights: Mapping[str, float], metrics: Mapping[str, float]
) -> str:
    """A warning if advantages are divided by the group's deviation and the reward pays for form, too; else "".

    In a group of wrong answers only the form differs. Divided by the group's deviation, this difference becomes as
    large as one between right and wrong. So form is what is taught while most groups are all wrong. metrics: those of
    the first rollout; a component that nearly all of its completions have is no reason to warn.
    """
    paid = [
        name
        for name, weight in reward_weights.items()
        if weight and name != "correct" and metrics[f"rewards/{name}/mean"] < COMMON
    ]
    if not paid or algorithm.advantage not in ("mean_std", "z_score"):
        return ""
    remedies = ["--reward-weights correct=1 " + " ".join(f"{name}=0" for name in paid)]
    allowed = get_args(get_type_hints(type(algorithm))["advantage"])  # some algorithms allow no other
    if "mean" in allowed:
        remedies.insert(0, "--algorithm-args advantage=mean")
    return (
        f"advantage={algorithm.advantage} with a reward for {', '.join(paid)}: while few completions are right, wrong "
        f"ones in the right form are raised, too, and right ones may die out. Use {' or '.join(remedies)}."
    )


def new_warnings(history: History, right_groups_teach: bool = False) -> list[str]:
    """Warnings that hold at the newest step and at none of the `REPEAT_AFTER` before; each names the flags to change.

    right_groups_teach: the attribute of this name of the run's algorithm.
    """
    histories_before = (history[:-back] for back in range(1, min(REPEAT_AFTER, len(history)) + 1))
    held_before = {name for before in histories_before for name in all_warnings(before, right_groups_teach)}
    holding = all_warnings(history, right_groups_teach)
    return [text for name, text in holding.items() if name not in held_before]


def all_warnings(history: History, right_groups_teach: bool) -> dict[str, str]:
    """{name: text} of all warnings that hold at the newest step."""
    warnings: dict[str, str] = {}
    if not history:
        return warnings
    newest, recent = history[-1], history[-3:]
    if skipped := newest.get("updates_skipped"):
        warnings["skipped"] = (
            f"{skipped} of this step's updates had a loss or a gradient that is NaN or infinite, and left the weights "
            "as they were; three in a row stop the run. The metric updates_skipped counts them. If there are more, "
            "lower --learning-rate or --max-grad-norm."
        )
    if "env_errors" not in newest:  # the completions are those of a file, and no environment judges them
        return warnings
    if failures := newest["env_errors"]:
        prefix = "env_errors/"
        counts = {name: count for name, count in newest.items() if name.startswith(prefix)}
        reasons = {name.removeprefix(prefix): count for name, count in counts.items()}
        warnings["unscored"] = (
            f"the environment's score raised on {failures} completions of this step ({counts_text(reasons)}), which "
            "earn 0; more than 5% stop the run. Look for the traceback in samples/ (--sample-steps 1 writes every "
            "step)."
        )
    if no_room := newest.get("turns/no_room"):
        warnings["no room"] = (
            f"{no_room} episodes of this step ended because their next prompt, the chat so far, was too long for the "
            "model; they earn what they had reached. Lower --max-completion-length or the number of turns."
        )
    if len(recent) < 3:
        return warnings
    if len(history) >= STUCK:
        text = equal_rewards_warning(history[-STUCK:], right_groups_teach)
        if text and not has_learned(history):
            warnings["equal rewards"] = text
    # If most completions are right although they are cut, they need not be longer.
    if min(row["completions/clipped_ratio"] for row in recent) > 0.5 and mean(recent, "correct") < 0.5:
        warnings["no end"] = (
            f"{newest['completions/clipped_ratio']:.0%} of the completions have no end token and are cut (3 steps "
            "in a row). Raise --max-completion-length."
        )
    first = mean(history[:3], "completions/tokens_per_pass")
    now = mean(recent, "completions/tokens_per_pass")
    if now >= 1.5 * first:
        warnings["unmasking"] = (
            f"a pass unmasks {now:.1f} tokens, {first:.1f} in the first steps: the threshold lets more tokens through "
            "as the model grows surer, and it may have learned nothing else. Compare with `eval`, which is exact by "
            "default; lower --max-tokens-per-step, or train with --unmasking schedule."
        )
    return warnings | fallen_components(history)


def fallen_components(history: History) -> dict[str, str]:
    """{name: text}, a warning for each component that fell to less than half of what it was, while the reward rose.

    Components of weight 0 are looked at, too.
    """
    first, recent = history[:3], history[-3:]
    warnings = {}
    for key in recent[-1]:
        is_component = key.startswith("rewards/") and key.endswith("/mean")
        name = key.removeprefix("rewards/").removesuffix("/mean")
        if not is_component or name == "correct":
            continue
        before, now = mean(first, key), mean(recent, key)
        fell = before >= ENOUGH_TO_FALL and max(row[key] for row in recent) < before / 2
        if fell and mean(recent, "reward") >= mean(first, "reward"):
            warnings[f"{name} falls"] = (
                f"{name} has fallen from {before:.2f} to {now:.2f} while the reward rose: completions earn it without "
                f"{name}. Look at samples/; if {name} matters, {HELP_IS_ON_PAGE}"
            )
    return warnings


def mean(history: History, name: str) -> float:
    """The mean of a metric over some steps; a step that does not have it counts as 0."""
    return sum(row.get(name, 0.0) for row in history) / len(history)


def equal_rewards_warning(history: History, right_groups_teach: bool) -> str:
    """A warning if in each of these steps most groups have no signal and the reward does not rise; else ""."""
    if min(share_without_signal(row, right_groups_teach) for row in history) < NO_SIGNAL_SHARE:
        return ""
    half = len(history) // 2
    if mean(history[half:], "reward") > RISES * mean(history[:half], "reward"):
        return ""
    shares = shares_of_groups(history)
    return (
        f"{shares['equal']:.0%} of the groups have equal rewards ({len(history)} steps in a row), and such rewards "
        f"teach nothing: {what_equal_groups_are(shares)}. {remedy_for_equal_groups(shares)}"
    )


def has_learned(history: History) -> bool:
    """Whether groups have equal rewards because the run has learned its problems; that is no reason to warn."""
    shares = shares_of_groups(history[-STUCK:])
    at_first = mean(history[:3], "frac_groups_all_correct")
    most_are_right = shares["all_right"] > shares["equal"] / 2
    # Problems that the model solved from the start were not learned, so all-right groups must also have doubled.
    return most_are_right and shares["all_right"] > 2 * at_first


def share_without_signal(row: Mapping[str, Any], right_groups_teach: bool) -> float:
    """The share of a step's groups that have no signal (see `NO_SIGNAL_SHARE`)."""
    if right_groups_teach:
        return row["frac_reward_zero_std_not_all_correct"]
    return row["frac_reward_zero_std"]


def shares_of_groups(history: History) -> dict[str, float]:
    """The mean shares of groups with equal rewards, with right or wrong completions only, and with one wrong text."""
    names = {
        "equal": "frac_reward_zero_std",
        "all_right": "frac_groups_all_correct",
        "all_wrong": "frac_groups_all_wrong",
        "same_wrong_text": "frac_groups_wrong_identical",
    }
    return {name: mean(history, metric) for name, metric in names.items()}


def what_equal_groups_are(shares: Mapping[str, float]) -> str:
    """Part of a sentence: how many groups have right completions only, wrong ones only, or one wrong text.

    shares: what `shares_of_groups` returns.
    """
    return (
        f"{shares['all_right']:.0%} of all groups are all right, {shares['all_wrong']:.0%} all wrong, "
        f"{shares['same_wrong_text']:.0%} the same wrong text"
    )
