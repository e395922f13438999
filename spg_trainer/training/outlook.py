"""What RL would find in a model that has learned from given completions: groups of right and wrong answers."""

from collections.abc import Mapping, Sequence
from typing import Any

from spg_trainer.distributed import begin, raising_on_all
from spg_trainer.evaluation.evaluate import evaluate_checked
from spg_trainer.evaluation.habits import HabitCounts, count_habits
from spg_trainer.evaluation.off_mix import is_far, why_far
from spg_trainer.models.shard import unsharded
from spg_trainer.rollout.demonstrations import normalised
from spg_trainer.settings.decoding import Sampling
from spg_trainer.training.run import Run

GROUPS = 32
"""Problems, at most, of which completions are sampled."""
GENERATIONS = 8
"""Completions of each of these problems."""


def look_at_groups(run: Run) -> None:
    """Samples groups as RL would, and says which habits they follow and how many of them RL could learn from.

    Where the model itself has sampled, its first step has shown that; without a task there is nothing to sample.
    """
    config, split = run.config, run.config.eval.eval_split
    if config.samples or split not in run.splits or not config.rollout.draws_noise:
        return
    begin("the look at groups of completions")
    env = run.splits[split]
    count = min(GROUPS, config.eval.eval_problems or GROUPS)

    def sample(sampling: Sampling) -> Sequence[Mapping[str, Any]]:
        """The completions of `count` problems."""
        with unsharded(run.policy.model):
            return evaluate_checked(
                run.policy,
                env,
                sampling,
                split=split,
                num_problems=count,
                num_generations=GENERATIONS,
                seed=config.seed,
                overlong=config.overlong,
                rows_per_forward=run.rows_per_forward,
                accelerator=run.accelerator,
            ).rows

    samples, r = sample(config.rollout), config.rollout
    with raising_on_all():
        found = count_habits(env, samples)
    run.console.say(f"At temperature {config.rollout.temperature:g}: {found.shares}; {found.signal}.")
    if not found.mixed:
        run.console.warn(
            "no group is mixed, so RL has no right and wrong answers to compare. Train longer (--max-steps), or try "
            "another --mix or easier problems (--env-args)."
        )
    in_random_order = None
    for task in env.parts or [""]:

        def counts(rows: Sequence[Mapping[str, Any]], task: str = task) -> HabitCounts:
            return count_habits(env, [row for row in rows if not task or row["task"] == task])

        sampled = counts(samples)
        mix = normalised({name: share for name, share in run.source.mix.items() if name in sampled.follows})
        if not is_far(mix, sampled):
            continue
        if in_random_order is None:  # once for all tasks
            lengths = r.max_completion_length, r.block_length, r.diffusion_steps
            in_random_order = sample(Sampling.of(*lengths, temperature=1.0, remasking="random"))
        greedy = counts(run.folder.completions("after"))
        run.console.say(why_far(mix, sampled, counts(in_random_order), greedy, config, run.folder.path, task))
