"""Looks at the first rollout before anything is learned: RL picks among the behaviours that a model has already."""

from collections.abc import Mapping

from spg_trainer.distributed import gather, raising_on_all
from spg_trainer.errors import ConfigError, plural
from spg_trainer.evaluation.habits import count_habits, sft_command
from spg_trainer.rollout.collect import sample_rows
from spg_trainer.settings.weights import unseen
from spg_trainer.tensors import Rows
from spg_trainer.training.run import Run

ENOUGH_TO_JUDGE = 256
"""If none of so many completions is right, that is no chance; of fewer it may be."""


def check_first_rollout(run: Run, scored: Rows, metrics: Mapping[str, float]) -> None:
    """Says what the completions of step 1 are like, and refuses to train on rewards that teach nothing.

    Raises ConfigError, unless --force is given, if no completion is right and no group has unequal rewards. With fewer
    than `ENOUGH_TO_JUDGE` completions this may be chance and is no error, except for a model of this package that was
    not taught the task. metrics: the rollout's.
    """
    config, samples = run.config, gather(sample_rows(scored, policy=run.policy, env=run.source, step=0))
    # How many completions are right, and how many follow a habit: a plausible way to answer that is often wrong.
    with raising_on_all():
        counts = count_habits(run.source.env, samples)
    run.console.say(f"Before step 1: {counts.shares}; {counts.signal}.")
    cannot_be_chance = counts.completions >= ENOUGH_TO_JUDGE or unseen(config.model.model, config.env)
    teaches_nothing = counts.follows["right"] == 0 and metrics["frac_reward_zero_std"] == 1
    if teaches_nothing and cannot_be_chance and not config.force:
        command = sft_command(run.splits["train"], config.env, config.env_args, config.model.model)
        per_problem = f"{counts.completions // counts.groups} of each of {plural(counts.groups, 'problem')}"
        raise ConfigError(
            f"before step 1 the model wrote {counts.completions} completions, {per_problem}, and none of "
            f"{counts.completions} is right. All completions of a problem earn the same, and such rewards teach "
            f"nothing. Teach the model the task first with `{command}`. If it is right now and then, but less often "
            f"than that, train all the same: {run.folder.go_on} --force."
        )
