"""Opens the source of a run's completions, and checks before the first step that its texts fit the model.

A run opens its source with its model, a dry run with the model's tokenizer alone; both refuse the same texts.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from spg_trainer.models import Policy
from spg_trainer.rollout.collect import EnvironmentSource
from spg_trainer.rollout.dealing import check_prompts
from spg_trainer.rollout.demonstrations import Demonstrations, check_lengths
from spg_trainer.rollout.engine import Engine
from spg_trainer.rollout.pairs import PairFile
from spg_trainer.rollout.room import SKIP, Room, TooLong
from spg_trainer.rollout.scored import Source
from spg_trainer.settings.fields import Config
from spg_trainer.training.plan import Plan
from spg_trainer.training.prompts_to_measure import asked_problems

if TYPE_CHECKING:
    from envs import TextEnv


def open_source(planned: Plan, policy: Policy, rows_per_forward: int | None) -> tuple[Source, str]:
    """(the source of completions, a note on the problems that are skipped as too long).

    policy: the model, whose weights are not needed. Raises ConfigError for texts that do not fit and are not skipped.
    """
    config, algorithm, splits = planned.config, planned.algorithm, planned.splits
    source: Source
    if config.source == "pairs":
        source = PairFile(config, policy, planned.pairs)
    elif config.source == "demonstrations":
        train, held_out = splits["train"], splits["held_out"]
        room = Room(policy, config.rollout.max_completion_length)
        skipped = check_lengths(room, [train, held_out], planned.mix, config)
        notice = f"{train.notice} {skipped}".strip()
        source = Demonstrations(train, held_out, policy, config, planned.mix, notice)
    else:
        # `Algorithm` in algorithms/base.py says what its four attributes mean.
        source = EnvironmentSource(
            splits["train"],
            policy,
            config,
            rows_per_forward,
            dealt_by=algorithm.dealt_by,
            records=algorithm.records,
            right_groups_teach=algorithm.right_groups_teach,
            engine=Engine(config, planned.folder) if config.rollout_engine else None,
        )
    return source, check_prompts_fit(config, policy, splits)


def check_prompts_fit(config: Config, policy: Policy, splits: "Mapping[str, TextEnv]") -> str:
    """A note on the problems that are skipped as too long for the model, "" if there are none.

    The problems of evaluations, validations and training are looked at. But if training has a stream of problems (more
    than 20,000 that come from no file, e.g. generated ones), each is looked at only when it is drawn. Raises
    ConfigError if a problem is too long and may not be skipped (--overlong), or if too few are left for a step.
    """
    too_long = TooLong(Room(policy, config.rollout.max_completion_length))
    if config.samples:
        too_long.add_split(splits["train"])
    # For a mixture, the number of problems that remain is not checked. A mixture repeats the problems of tasks that
    # have few, so this number is not len(train) minus the number of problems that are too long.
    if config.samples and config.overlong == SKIP and not splits["train"].parts:
        train = splits["train"]
        num_left = len(train) - len(too_long.named)
        check_prompts(config.batch.prompts_per_step, num_left, train.spec_name, too_long.text)
    for env, indices in asked_problems(config.eval, splits):
        too_long.add(env, indices)
    return too_long.note(config.overlong)
