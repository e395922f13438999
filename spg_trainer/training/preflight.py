"""What a training refuses before a model is opened, and its step in numbers; `--dry-run` needs no more.

Imports no transformers, which takes longer than all of this.
"""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from spg_trainer import algorithms
from spg_trainer.architecture.shape import find_config, pattern_of
from spg_trainer.errors import ConfigError
from spg_trainer.evaluation.environment import make_env
from spg_trainer.evaluation.teaching import sft_command
from spg_trainer.rollout.checks import check_names, check_pattern
from spg_trainer.rollout.dealing import check_prompts
from spg_trainer.runs.identity import refuse_changes
from spg_trainer.runs.own_code import refuse_changed_data, refuse_changed_files
from spg_trainer.runs.tracking import check_trackers
from spg_trainer.settings.adapters import settle
from spg_trainer.settings.fields import Config
from spg_trainer.settings.packages import envs
from spg_trainer.settings.pairs import settle_pairs
from spg_trainer.settings.recipes import task_words
from spg_trainer.settings.recorded import CONFIG, ENVIRONMENT
from spg_trainer.settings.validate import Validated, check_chance, validate, validate_algorithm
from spg_trainer.settings.weights import knows_nothing, unseen
from spg_trainer.training.micro_batches import micro_batch_size

if TYPE_CHECKING:
    from envs import TextEnv
    from spg_trainer.architecture.pattern import Pattern


def refuse_unopened(
    asked: Config | Validated[Config], num_processes: int = 1
) -> "tuple[Config, algorithms.Algorithm, dict[str, TextEnv]]":
    """The settled settings of a training, its algorithm and its task as `open_splits` has it.

    Raises SpgError or EnvError for what a start would refuse.
    """
    config, algorithm = settle_all(asked)
    splits = open_splits(config, algorithm, num_processes)
    check_known_attention(config, algorithm)
    if config.pairs:
        from spg_trainer.rollout.pairs import read_pairs

        read_pairs(config.pairs)
    return config, algorithm, splits


def settle_all(asked: Config | Validated[Config]) -> tuple[Config, algorithms.Algorithm]:
    """Settings with what their files decide, and the algorithm that they name."""
    config = validate(asked).config
    algorithm = algorithms.build(config.algorithm, config.hyper_parameters)
    return settle_pairs(replace(config, model=settle(config.model))), algorithm


def check_known_attention(config: Config, algorithm: algorithms.Algorithm) -> None:
    """`check_attention`, where the configuration of the model is known here."""
    if model := find_config(config.model, config.env):
        check_attention(config, algorithm, pattern_of(model))


def refuse_another(run: Path, config: Config) -> None:
    """Raises SpgError where a run shall go on with other settings, code or data than those that it began with."""
    if config.output.resume and (run / CONFIG).is_file():
        refuse_changes(run / CONFIG, config)
        refuse_changed_files(run, config)
        refuse_changed_data(run / ENVIRONMENT, config)


def open_splits(
    config: Config, algorithm: algorithms.Algorithm, num_processes: int = 1
) -> "dict[str, TextEnv]":
    """The environment in `train` and in the splits that are evaluated, of settled settings.

    Raises ConfigError for what does not go with the algorithm, the processes, the environment or an installed package.
    """
    check_names(config.rollout)
    # Before a block length is advised for trees that the model cannot have; what a run resumes from may be gone.
    if (
        algorithm.branches > 1
        and not config.output.resume
        and (model := find_config(config.model, config.env))
    ):
        algorithm.make_masking().check_pattern(pattern_of(model))
    validate_algorithm(config, algorithm, num_processes)
    check_chance(config, algorithm)
    check_trackers(config.output.track)
    splits = {split: make_env(config, split) for split in ("train", config.eval.eval_split)}
    if config.eval.eval_steps and "validation" not in splits:
        try:
            splits["validation"] = make_env(config, "validation")
        except envs.EnvError as error:
            text = f"{error} Validation needs this split: --eval-steps 0 trains without."
            raise ConfigError(text) from error
    train = splits["train"]
    envs.checking.try_scoring(train)
    if config.pairs is None:
        check_prompts(config.batch.prompts_per_step, len(train), train.spec_name)
    if not (config.force or config.output.resume or config.pairs):
        refuse_unseen(config, train)
    return splits


def refuse_unseen(config: Config, env: "TextEnv") -> None:
    """Raises ConfigError where an embedded model has seen none of the tasks; an evaluation would only find zeros."""
    if knows_nothing(config.model.model, config.env):
        task = " ".join(task_words(config.env, config.env_args))
        raise ConfigError(
            f"{task}: no model is named, and {unseen(config.model.model, config.env).partition(';')[0]}. Teach it the "
            f"task first with `{sft_command(env, config.env, config.env_args)}`, and train with --model base. To train "
            "all the same: --force."
        )


def check_attention(config: Config, algorithm: algorithms.Algorithm, pattern: "Pattern") -> None:
    """Raises ConfigError for decoding, or masks of an algorithm, that do not go with who attends to whom in a model."""
    algorithm.make_masking().check_pattern(pattern)
    check_pattern(pattern, config.rollout)


def arithmetic(
    config: Config, algorithm: algorithms.Algorithm, num_processes: int = 1, turns: int = 1
) -> str:
    """One line that says what a step does, in numbers. turns: the most of an episode."""
    b, r = config.batch, config.rollout
    num_masks = algorithm.make_masking().count(r.max_completion_length)
    completions = b.prompts_per_step * b.num_generations
    rows, _ = micro_batch_size(b.per_device_batch_size, num_masks)
    groups = f"pairs of {config.pairs}" if config.pairs else f"prompts x {b.num_generations} generations"
    most = f"{'up to ' * (completions % num_processes > 0)}{-(-completions // num_processes)}"
    shared = f" ({num_processes} processes x {most})" if num_processes > 1 else ""
    what = f"episodes of up to {turns} turns (each one completion)" if turns > 1 else "completions"
    if b.max_rollout_batches > 1:
        shared += f", chosen from up to {b.max_rollout_batches} times as many"
    return (
        f"{b.prompts_per_step} {groups} = {completions} {what} a step{shared}; {r.max_completion_length} tokens "
        f"in blocks of {r.block_length}, {r.diffusion_steps} denoising steps; updates a step: "
        f"{b.num_iterations * b.num_minibatches}, masks a completion: {num_masks}, micro-batches of up to {rows} "
        f"completions; {config.max_steps} step{'s' * (config.max_steps != 1)}."
    )
