"""Shows what RL would find in a model that has learned from given completions: groups of right and wrong answers.

Demonstrations are written by one of several rules: `right`, or a habit, a plausible way to answer that is often wrong.
The mix (`--mix`) says which share each rule has.
"""

import math
from collections.abc import Mapping

from spg_trainer.distributed import begin_phase, raising_on_all
from spg_trainer.evaluation.evaluate import evaluate_checked
from spg_trainer.evaluation.habits import HabitCounts, count_habits
from spg_trainer.models.shard import unsharded
from spg_trainer.rollout.demonstrations import normalised
from spg_trainer.training.loss_validation import has_risen
from spg_trainer.training.remedies import remedy_for_mix, remedy_for_no_mixed_group
from spg_trainer.training.run import Run

GROUPS = 32
"""The most problems for which completions are sampled."""
GENERATIONS = 8
"""Completions of each of these problems."""
FAR = 2.0
"""If the odds of `right` in the completions differ by more than this factor from those in the mix, a line says so."""
FEWEST = 20
"""The fewest completions that follow one rule alone from which the share of `right` is judged."""


def look_at_groups(run: Run) -> None:
    """Samples groups as RL would, and says which habits they follow and how many of them RL could learn from.

    A run whose completions are sampled has said so before its first step; without a task there is nothing to sample.
    """
    config, split = run.config, run.config.eval.eval_split
    if config.samples or split not in run.splits or not config.rollout.draws_noise:
        return
    begin_phase("the look at groups of completions")
    env = run.splits[split]
    count = min(GROUPS, config.eval.eval_problems or GROUPS)
    with unsharded(run.policy.model):
        samples = evaluate_checked(
            run.policy,
            env,
            config.rollout,
            split=split,
            num_problems=count,
            num_generations=GENERATIONS,
            seed=config.seed,
            overlong=config.overlong,
            rows_per_forward=run.rows_per_forward,
            accelerator=run.accelerator,
        ).rows
    with raising_on_all():
        counts = count_habits(env, samples)
    run.console.say(f"At temperature {config.rollout.temperature:g}: {counts.shares}; {counts.signal}.")
    if not counts.mixed:
        run.console.warn(
            "no group is mixed, so RL has no right and wrong answers to compare. "
            + remedy_for_no_mixed_group(config.validates == "loss" and has_risen(run.state.validations))
        )
    for task in env.parts or [""]:  # "" = the only task, of which all samples are
        sampled = count_habits(env, [row for row in samples if not task or row["task"] == task])
        mix = normalised({name: share for name, share in run.source.mix.items() if name in sampled.follows})
        if is_far(mix, sampled):
            run.console.say(far_line(mix, sampled, task))


def is_far(mix: Mapping[str, float], counts: HabitCounts) -> bool:
    """Whether most completions follow no rule, or right ones are far rarer or more frequent than the mix asks for.

    If most groups are mixed, RL has what it needs, and right completions may be as frequent as they are.
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


def far_line(mix: Mapping[str, float], sampled: HabitCounts, task: str) -> str:
    """A line that says how far the completions are from the mix. task: the task's name in a mixture of tasks, or ""."""
    the_mix = f"{task}: the mix" if task else "The mix"
    follows_none = 2 * sampled.neither > sampled.completions
    if follows_none:
        observed = (
            f"{sampled.neither} of {sampled.completions} sampled completions follow none of its rules yet"
        )
    else:
        observed = f"{share_of_right(sampled):.0%} of the sampled completions are, where the rules differ"
    remedy = remedy_for_mix(follows_none, more_right=share_of_right(sampled) > mix["right"])
    return f"{the_mix} asks for {mix['right']:.0%} right: {observed}. {remedy}"


def share_of_right(counts: HabitCounts) -> float:
    """The share of `right` among the completions that follow one rule alone.

    (If a habit also gives the right answer, a completion does not show which of the two it follows.) Half a completion
    is added to either side, so that the share is never 0 or 1.
    """
    alone = sum(counts.alone.values())
    return (counts.alone["right"] + 0.5) / (alone + 1)


def log_odds(share: float) -> float:
    """The log-odds of a share, log(share / (1 - share))."""
    return math.log(share / (1 - share))
