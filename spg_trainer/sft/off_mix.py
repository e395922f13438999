"""Why a finished base follows its rules in other shares than its mix asks for, and which mix to try next."""

import math
from collections.abc import Mapping
from pathlib import Path

from spg_trainer.evaluation.habits import HabitCounts
from spg_trainer.settings.fields import SftCommand

FAR = 2.0
"""Factor between the odds of `right` that are asked for and those that come out, from which on it is told."""
SLOPE = 7.0
"""Measured on Sudoku, where 40% asked for come out as 1.4%, and 50% as 19% (docs/experiments/learning.md)."""
FEWEST = 20
"""Completions that follow one rule alone, without which nothing is told."""


def is_far(mix: Mapping[str, float], counts: HabitCounts) -> bool:
    """Whether right completions are far rarer or more frequent than the mix asks for."""
    if len(mix) < 2 or not 0 < mix.get("right", 0.0) < 1:
        return False
    if sum(counts.alone.values()) < FEWEST:
        return 2 * counts.neither > counts.completions
    return abs(log_odds(share_of_right(counts)) - log_odds(mix["right"])) > math.log(FAR)


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


def next_share(asked: float, came_out: float) -> float:
    """The share to ask for so that about `asked` comes out, estimated from what came out of asking for `asked`.

    The surest token is unmasked first and the others follow its rule, so that what comes out changes `SLOPE` times as
    much as what is asked for, both in log-odds.
    """
    moved = log_odds(asked) + (log_odds(asked) - log_odds(came_out)) / SLOPE
    return 1 / (1 + math.exp(-moved))


def why(
    mix: Mapping[str, float],
    sampled: HabitCounts,
    drawn: HabitCounts,
    command: SftCommand,
    folder: Path,
    task: str = "",
) -> str:
    """What to tell of shares that are far from the mix, and what to type.

    sampled: at the temperature of RL, unmasked as RL does. drawn: in random order at temperature 1, which is what the
    model has learned of the mix. task: of several.
    """
    asked, came_out, learned = mix["right"], share_of_right(sampled), share_of_right(drawn)
    of_task, the = (f"{task}: ", "the") if task else ("", "The")
    steps = f"--steps {2 * command.steps}"
    more = f"python -m spg_trainer sft --resume {folder} {steps}"
    if not command.patience:  # a cosine is of one length only
        more = f"this command with {steps} and another --output-dir"
    if 2 * sampled.neither > sampled.completions:
        return f"{of_task}{the} mix is not learned: most completions follow no rule yet. Train longer: {more}"
    text = f"{of_task}{the} mix asks for {asked:.0%} right where the rules differ, and {came_out:.0%} are"
    if abs(log_odds(learned) - log_odds(asked)) >= abs(log_odds(came_out) - log_odds(asked)) / 2:
        return (
            f"{text}. Unmasked in random order {learned:.0%} are, so the model has not learned the mix: the easier "
            f"rule comes first. More updates bring the shares nearer to it: {more}"
        )
    share = min(0.99, max(0.01, round(next_share(asked, came_out), 2)))
    rest = (1 - share) / (1 - asked)
    proposed = {name: share if name == "right" else rest * old for name, old in mix.items()}
    shown = " ".join(f"{name}={value:.3g}" for name, value in proposed.items())
    return (
        f"{text}. Unmasked in random order {learned:.0%} are, so the model knows the mix, but unmasking by confidence "
        f"settles on the surer rule. For about {asked:.0%} try --mix {shown} with another --output-dir. This is an "
        "estimate from one measurement; the next model says what came of it."
    )
