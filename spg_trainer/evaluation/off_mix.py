"""Why a finished base follows its rules in other shares than its mix asks for, and which mix to try next."""

import math
import shlex
from collections.abc import Mapping
from pathlib import Path

from spg_trainer.evaluation.habits import HabitCounts
from spg_trainer.settings.fields import Config

FAR = 2.0
"""Factor between the odds of `right` that are asked for and those that come out, from which on it is told."""
SLOPE = 5.0
"""A rough estimate: on Sudoku it was about 3 from 40% to 55% asked for (docs/experiments/learning.md)."""
AIMED = 0.3
"""Share of right completions with which nearly all groups of eight are mixed."""
FEWEST = 20
"""Completions that follow one rule alone, without which nothing is told."""


def is_far(mix: Mapping[str, float], counts: HabitCounts) -> bool:
    """Whether most completions follow no rule, or right ones are far rarer or more frequent than the mix asks for.

    That they are more frequent is no fault where most groups are mixed: RL has what it needs.
    """
    if len(mix) < 2 or not 0 < mix.get("right", 0.0) < 1:
        return False
    if 2 * counts.neither > counts.completions:
        return True
    if sum(counts.alone.values()) < FEWEST:
        return False
    away = log_odds(share_of_right(counts)) - log_odds(mix["right"])
    if away > 0 and 2 * counts.mixed > counts.groups:
        return False
    return abs(away) > math.log(FAR)


def share_of_right(counts: HabitCounts) -> float:
    """The share of `right` among the completions that follow one rule alone.

    Where a habit gives the right answer, a completion says nothing of which rule it follows. Half a completion is added
    to either side, so that the share is never 0 or 1.
    """
    alone = sum(counts.alone.values())
    return (counts.alone["right"] + 0.5) / (alone + 1)


def log_odds(share: float) -> float:
    """log(share / (1 - share))."""
    return math.log(share / (1 - share))


def next_share(mix_share: float, came_out: float, wanted: float) -> float:
    """The share to ask for so that about `wanted` comes out, estimated from what came out of asking for `mix_share`.

    The surest token is unmasked first and the others follow its rule, so that what comes out changes `SLOPE` times as
    much as what is asked for, both in log-odds.
    """
    moved = log_odds(mix_share) + (log_odds(wanted) - log_odds(came_out)) / SLOPE
    return min(0.99, max(0.01, round(1 / (1 + math.exp(-moved)), 2)))


def with_share(mix: Mapping[str, float], share: float) -> str:
    """The words of a mix with another share of `right`, and the habits as they are to each other."""
    rest = (1 - share) / (1 - mix["right"])
    moved = {name: share if name == "right" else rest * old for name, old in mix.items()}
    return "--mix " + " ".join(f"{name}={value:.3g}" for name, value in moved.items())


def why_far(
    mix: Mapping[str, float],
    sampled: HabitCounts,
    drawn: HabitCounts,
    greedy: HabitCounts,
    config: Config,
    folder: Path,
    task: str = "",
) -> str:
    """What to tell of shares that are far from the mix, and what to type.

    sampled: at the temperature of RL, unmasked as RL does. drawn: in random order at temperature 1, which is what the
    model has learned of the mix. greedy: as the solved rate beside it is measured. task: of several.
    """
    mix_share, came_out, learned = mix["right"], share_of_right(sampled), share_of_right(drawn)
    the_mix = f"{task}: the mix" if task else "The mix"
    longer = train_longer(config, folder)
    if 2 * sampled.neither > sampled.completions:
        if 2 * greedy.neither > greedy.completions:
            return f"{the_mix} is not learned: most completions follow no rule yet. Train longer: {longer}"
        follow = [f"{one.completions - one.neither} of {one.completions}" for one in (greedy, sampled)]
        return (
            f"{the_mix} is learned in part: {follow[0]} greedy completions follow one of its rules, but of "
            f"those sampled at temperature {config.rollout.temperature:g}, which RL compares, {follow[1]}. Train "
            f"longer: {longer}"
        )
    text = f"{the_mix} asks for {mix_share:.0%} right where the rules differ, and {came_out:.0%} are"
    if came_out > mix_share:
        return (
            f"{text}; {sampled.signal}. That is no fault of the mix: these problems are easy for the model, so make "
            "them harder (--env-args)."
        )
    far, far_in_random_order = (abs(log_odds(share) - log_odds(mix_share)) for share in (came_out, learned))
    if far_in_random_order >= far / 2:
        return (
            f"{text}. Unmasked in random order {learned:.0%} are, so the model has not learned the mix: the easier "
            f"rule comes first. More updates bring the shares nearer to it: {longer}"
        )
    return (
        f"{text}. Unmasked in random order {learned:.0%} are, so the model knows the mix, but unmasking by confidence "
        f"settles on the surer rule. {which_mix(mix, sampled)}"
    )


def train_longer(config: Config, folder: Path) -> str:
    """What to type to train for twice as many steps."""
    steps = f"--max-steps {2 * config.max_steps}"
    if config.optimizer.lr_schedule == "cosine":  # which is of one length only
        return f"this command with {steps} and another --output-dir"
    return f"python -m spg_trainer --resume {shlex.quote(str(folder))} {steps} --patience 0"


def which_mix(mix: Mapping[str, float], sampled: HabitCounts) -> str:
    """Which mix to try next where too few are right: for as many as were asked for, or as RL learns best from."""
    mix_share, came_out = mix["right"], share_of_right(sampled)
    shares = {wanted: next_share(mix_share, came_out, wanted) for wanted in (mix_share, AIMED)}
    if not sampled.alone["right"]:
        half = max(0.5, shares[mix_share])
        return (
            "That is none of them, which does not tell how far the mix has to go. Try "
            f"{with_share(mix, half)} with another --output-dir: what comes of that tells."
        )
    tried = [f"for about {wanted:.0%} try {with_share(mix, share)}" for wanted, share in shares.items()]
    return (
        f"By a rough estimate, {' and '.join(tried)}, with another --output-dir. On Sudoku, 48% to 55% brought "
        "6% to 7% where 30% was wanted; what the next model says goes on from there."
    )
