"""What a run says at its end that its report does not show: two sentences on a model that is to be trained by RL next,
and one on a run that gained nothing. `docs/learned_nothing.md` says what helps.
"""

import math
from collections.abc import Mapping
from typing import Any

from spg_trainer.distributed import begin_phase, raising_on_all
from spg_trainer.evaluation.evaluate import evaluate_checked
from spg_trainer.evaluation.habits import HabitCounts, count_habits
from spg_trainer.models.shard import unsharded
from spg_trainer.rollout.demonstrations import shares_of
from spg_trainer.training.run import Run

HELP_IS_ON_PAGE = 'the page "My run learned nothing" says what helps.'
GROUPS, GENERATIONS = 32, 8
"""The most problems for which completions are sampled after a training on given completions, and how many for each."""
FAR = 2.0
"""If the odds of `right` in the completions differ by more than this factor from those in the mix, a line says so."""
FEWEST = 20
"""The fewest completions that follow one rule alone from which the share of `right` is judged."""
TRIED = 20
"""A run of fewer steps counts as a first try, and is not said to have gained nothing."""
MEANINGFUL = 0.1
"""A run is said to have gained nothing only if its interval excludes so large a gain in the solved rate."""


def say_what_rl_would_find(run: Run) -> None:
    """Samples groups from a model that has learned from given completions, as RL would, and says what they are like.

    A run whose completions are sampled has said so before its first step; without a task there is nothing to sample.
    """
    config, split = run.config, run.config.eval.eval_split
    if config.samples or split not in run.splits or not config.rollout.draws_noise:
        return
    begin_phase("the groups of completions that RL would find")
    env = run.splits[split]
    with unsharded(run.policy.model):
        samples = evaluate_checked(
            run.player,
            env,
            split=split,
            num_problems=min(GROUPS, config.eval.eval_problems or GROUPS),
            num_generations=GENERATIONS,
            overlong=config.overlong,
            accelerator=run.accelerator,
        ).rows
    with raising_on_all():
        counts = count_habits(env, samples)
    run.console.say(f"At temperature {config.rollout.temperature:g}: {counts.shares}; {counts.signal}.")
    if not counts.mixed:
        run.console.warn(
            f"no group is mixed, so RL has no right and wrong answers to compare; {HELP_IS_ON_PAGE}"
        )
    for task in env.parts or [""]:  # "" = the only task, of which all samples are
        sampled = count_habits(env, [row for row in samples if not task or row["task"] == task])
        mix = shares_of({name: share for name, share in run.source.mix.items() if name in sampled.follows})
        if is_far(mix, sampled):
            run.console.say(far_line(mix, sampled, task))


def is_far(mix: Mapping[str, float], counts: HabitCounts) -> bool:
    """Whether most completions follow no rule of the mix, or right ones are far rarer or more frequent than it asks.

    A mix (`--mix`) says which share each rule has by which demonstrations are written: `right`, or a habit, a plausible
    way to answer that is often wrong. If most groups are mixed, RL has what it needs, and right completions may be as
    frequent as they are.
    """
    if len(mix) < 2 or not 0 < mix.get("right", 0.0) < 1:
        return False
    if 2 * counts.neither > counts.completions:
        return True
    if sum(counts.alone.values()) < FEWEST:
        return False
    share, asked = share_of_right(counts), mix["right"]
    away = math.log(share / (1 - share)) - math.log(asked / (1 - asked))
    if away > 0 and 2 * counts.mixed > counts.groups:
        return False
    return abs(away) > math.log(FAR)


def far_line(mix: Mapping[str, float], sampled: HabitCounts, task: str) -> str:
    """A line that says how far the completions are from the mix. task: the task's name in a mixture of tasks, or ""."""
    the_mix = f"{task}: the mix" if task else "The mix"
    if 2 * sampled.neither > sampled.completions:
        found = f"{sampled.neither} of {sampled.completions} sampled completions follow none of its rules yet"
    else:
        found = f"{share_of_right(sampled):.0%} of the sampled completions are, where the rules differ"
    return f"{the_mix} asks for {mix['right']:.0%} right: {found}; {HELP_IS_ON_PAGE}"


def share_of_right(counts: HabitCounts) -> float:
    """The share of `right` among the completions that follow one rule alone.

    (If a habit also gives the right answer, a completion does not show which of the two it follows.) Half a completion
    is added to either side, so that the share is never 0 or 1.
    """
    return (counts.alone["right"] + 0.5) / (sum(counts.alone.values()) + 1)


def surely_gained_nothing(summary: Mapping[str, Any]) -> bool:
    """Whether a run of at least `TRIED` steps gained nothing, and its interval excludes a gain of `MEANINGFUL`.

    A run gained something if one of its validations solves more than that of the start; without validations, if the
    evaluation after the training solves more than the one before. summary: the content of summary.json.
    """
    validations = summary["validation"]
    if validations and validations["start"] is not None:
        # Not "best", the rate of the step in model/: that step may solve a little less than the highest (`best_step`).
        gained = validations["highest"] > validations["start"]
    else:
        gained = summary["gain"] > 0
    possible_gain = summary["eval_after"]["high"] - summary["eval_before"]["correct"]
    return not gained and summary["steps"] >= TRIED and possible_gain < MEANINGFUL


def nothing_gained_line(summary: Mapping[str, Any]) -> str:
    """A line that says that a run did not beat its start, and what its groups were like.

    summary: the content of summary.json.
    """
    groups, found = summary["groups"], ""
    if summary["solved_sampled"] == 0:
        found = ": not one sampled completion was right, so there was nothing to reinforce"
    elif groups:  # None = the model sampled none
        found = (
            f": {groups['equal']:.0%} of its groups had equal rewards ({groups['all_right']:.0%} of all groups were "
            f"all right, {groups['all_wrong']:.0%} all wrong, {groups['same_wrong_text']:.0%} the same wrong text)"
        )
    return f"The run did not beat its start{found}; {HELP_IS_ON_PAGE}"
