"""Finds the problems whose prompts are measured before the first step, and tells whether all surely fit.

This file imports no transformers, so that a dry run can look at the problems of a small model without a tokenizer.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from spg_trainer.rollout.lines import is_file, parts_measured_whole
from spg_trainer.settings.fields import Config, EvalConfig
from spg_trainer.settings.packages import envs

if TYPE_CHECKING:
    from envs import TextEnv

ADORNED = 32
"""The most tokens that the chat format of a model of this package puts around a prompt."""


def asked_problems(
    eval_settings: EvalConfig, splits: "Mapping[str, TextEnv]"
) -> "Iterator[tuple[TextEnv, Sequence[int]]]":
    """Yields (a split, the problems of it that evaluations and validations ask).

    For a user's file, these are all its lines, so that an error names all that are too long.
    """
    split = eval_settings.eval_split
    # {split: the number of problems of each evaluation or validation on it}, where 0 stands for all of the split.
    asked = {split: [eval_settings.eval_problems]} if split in splits else {}
    # With the split `held_out`, validations measure a loss and ask no problems.
    if eval_settings.eval_steps and "held_out" not in splits:
        asked.setdefault("validation", []).append(eval_settings.validation_problems)
    for split, counts in asked.items():
        env = splits[split]
        if is_file(env):
            yield env, range(len(env))
            continue
        count = 0 if 0 in counts else max(counts)
        yield env, envs.splits.distinct_problems(env, count)


def are_surely_short(config: Config, splits: "Mapping[str, TextEnv]", positions: int) -> bool:
    """Whether each measured prompt is so short that it surely leaves room, for a model of this package.

    An ASCII text has at most as many tokens as characters. positions: how many the model has.
    """
    room = positions - config.rollout.max_completion_length - ADORNED
    trained = parts_measured_whole(splits["train"]) if config.samples else ()
    for env, indices in (*trained, *asked_problems(config.eval, splits)):
        for index in indices:
            try:
                problem = envs.problem.read_problem(env, int(index))
            except envs.EnvError:  # it is raised again when the problem is used
                continue
            prompt, prefix = problem.prompt, problem.completion_prefix
            if not isinstance(prompt, str) or problem.completion_template:
                return False
            surely_fits = len(prompt) + len(prefix) <= room and prompt.isascii() and prefix.isascii()
            if not surely_fits:
                return False
    return True
