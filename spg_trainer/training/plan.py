"""Settles a training: finds, checks and pins its settings before any model is opened. A dry run does the same.

Checks of names and files come first and import no torch. This file imports no transformers, so that a dry run can look
at the problems of a small model without a tokenizer (`are_surely_short`).
"""

import logging
import os
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spg_trainer import algorithms
from spg_trainer.distributed import decide_on_main, join, raising_on_all, rank
from spg_trainer.errors import CheckpointError, ConfigError, written
from spg_trainer.evaluation.habits import sft_command
from spg_trainer.rollout.problems import check_prompts, is_file, parts_measured_whole
from spg_trainer.runs.checkpoint import has_checkpoints, refuse_damaged, require_up_to, step_of
from spg_trainer.runs.files import damaged
from spg_trainer.runs.folder import SUMMARY, RunFolder, choose_folder
from spg_trainer.runs.inputs import Inputs, file_settings, find_inputs, read_inputs
from spg_trainer.runs.resume import (
    pin,
    refuse_another,
    refuse_changed_hub,
    task_code_differs,
    with_absolute_paths,
)
from spg_trainer.runs.tracking import check_trackers
from spg_trainer.settings.check import check, check_algorithm, check_machine, check_processes
from spg_trainer.settings.configs import Config, EvalConfig
from spg_trainer.settings.model import REFERENCE_FOLDER, ModelConfig, find_adapter, trains_adapters
from spg_trainer.settings.packages import envs
from spg_trainer.settings.recorded import CONFIG, read_config
from spg_trainer.settings.resolve import note_on_missing_recipe, resolve
from spg_trainer.settings.task import BAD_ROWS, make_env
from spg_trainer.settings.weights import knows_nothing, unseen
from spg_trainer.training.criteria import CRITERIA
from spg_trainer.training.schedule import DECAYS_LATE, own_share, steps_and_decay_start

if TYPE_CHECKING:
    from accelerate import Accelerator

    from spg_trainer.architecture.pattern import Pattern
    from spg_trainer.rollout.pairs import Pair


_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A training whose settings were checked and pinned: where it writes, and what was opened to check them."""

    config: Config
    origins: Mapping[str, str]
    """{dotted name of a setting: the layer that set it}; {} for settings that were made in Python."""
    folder: Path
    """The folder of the run, an absolute path; it need not exist yet."""
    before: Config | None
    """The settings in config.yaml of the run that goes on; None if a run begins."""
    inputs: Inputs
    """The files that the run reads; if it goes on, they were compared with those that it began with."""
    checkpoint: Path | None
    """The checkpoint from which the run continues. None = the run begins at step 0; so does a run that goes on but was
    stopped before its first checkpoint."""
    own_copy: Path | None
    """The run's copy of the weights that it started from, which is opened in place of its model; None = there is
    none."""
    algorithm: algorithms.Algorithm
    model_config: Any
    """The configuration of the model, read without its weights; None if it is not here, or if a run goes on, whose
    model may be gone."""
    splits: "Mapping[str, envs.TextEnv]"
    """{split: the environment with its problems}: for `train`, for each split that is evaluated, and for `held_out` if
    validations measure a loss. Empty if data is missing."""
    mix: Mapping[str, float]
    """{name: share of the demonstrations that are written in this way}; the shares sum to 1. A name is `right`, or a
    habit: a plausible way to answer that is often wrong. {} if no demonstrations are learned."""
    pairs: "Mapping[str, Pair] | None"
    """{name of a line: its pair of a chosen and a rejected completion} of the file that --pairs names; None without
    --pairs."""
    notice: str
    """What the user should know of the settings; "" = nothing."""
    demonstrations: str
    """A note on demonstrations that the task itself finds wrong; "" = there are none, or none are learned."""
    missing: "envs.errors.DataUnavailable | None"
    """In a dry run, the error that says which data the run will need and which is not here yet."""
    num_processes: int
    accelerator: "Accelerator | None"
    """What joins the processes that a launcher has started; None for a single process, and in a dry run."""

    @property
    def model(self) -> ModelConfig:
        """The settings of the model to open: the run's own copy of the weights that it started from, if there is one.

        The original may have changed since.
        """
        model = self.config.model
        return replace(model, model=str(self.own_copy)) if self.own_copy else model


def settle(settings: Config | Sequence[str]) -> Plan:
    """Finds, checks and pins the settings of a training, and opens its data; once for a start, before any model.

    settings: a `Config`, or the words of a command line. The processes that a launcher has started join here, and plan
    together; the first one chooses the folder. A dry run (`config.dry_run`) joins none, and goes on if data is missing,
    since the figures that it prints need no problem; its plan says so in `missing`.

    Raises SpgError or EnvError, on all processes, for settings that cannot work.
    """
    origins: Mapping[str, str] = {}
    if isinstance(settings, Config):
        config = settings
        check(config)
    else:
        resolved = resolve(Config, settings)
        # The file of --config has been read: its values are in the settings now.
        config, origins = replace(resolved.config, config=None), resolved.origins
        check(config, origins)
    processes, accelerator = config.processes or int(os.environ.get("WORLD_SIZE", "1")), None
    if not config.dry_run:
        accelerator = join(config.model.device, config.timeout_minutes)
        processes = accelerator.num_processes if accelerator else 1
    with raising_on_all():
        check_processes(config.model, processes)
        check_trackers(config.output.track)
        algorithms.find_algorithm(config.algorithm)  # raises ConfigError for an unknown name
    folder, goes_on, checkpoint = decide_on_main(lambda: choose_folder(config))
    here = Path.cwd()
    with raising_on_all():
        before = read_config(folder / CONFIG) if goes_on else None
    if before and checkpoint is None:
        decide_on_main(lambda: refuse_lost_checkpoints(folder, before.output.save_steps))
    splits: Mapping[str, envs.TextEnv] = {}
    mix: Mapping[str, float] = {}
    with raising_on_all():
        # All settings get their values. A module that was loaded long ago may differ from its file, which is recorded.
        config = with_absolute_paths(config)
        if config.source == "demonstrations":
            config, splits = _with_decoding(config)
        algorithm = algorithms.build(config.algorithm, config.hyper_parameters)
        if ":" in config.algorithm:  # a class in a file or module of the user, e.g. `mine.py:Mine`
            import_module("spg_trainer.checking.checks").refuse_unsound(config.algorithm, algorithm)
        config = pin(config, algorithm, folder if goes_on else None)
        # The settings have to fit the run that goes on, each other and this machine.
        inputs = refuse_another(folder, before, config) if before else find_inputs(file_settings(config))
        if before:
            checkpoint = where_to_go_on(folder, checkpoint, before, config, inputs)
            if checkpoint is not None and (step := step_of(checkpoint)) > config.max_steps:
                raise ConfigError(
                    f"$max_steps={config.max_steps}: {checkpoint} is already at step {step}. To go on, raise "
                    "$max_steps, or name an earlier checkpoint of this run with $resume."
                )
        model_config = check_settled(config, algorithm, processes, goes_on)
        if not config.is_for_other_machines:
            check_machine(config.model, config.optimizer.adam_moments)
        pairs = open_pairs(config.pairs)
        splits, missing = (splits, None) if splits else _opened(config)
        if config.source == "demonstrations" and splits:
            mix = mix_of(config.mix, splits["train"])
        if missing is None:
            check_splits(config, splits, goes_on)
        if missing is None and goes_on:
            refuse_changed_hub(folder, splits["train"].origin)
    # Messages above name the folder as the user does. The user's code may change the working directory, so from here on
    # it has its whole path.
    folder, checkpoint = here / folder, checkpoint and here / checkpoint
    if checkpoint:
        decide_on_main(partial(refuse_damaged, checkpoint))
    demonstrations = ""
    imitates_right = bool(mix.get("right")) and not config.data  # nobody judges the texts of a file
    if imitates_right and missing is None and not goes_on:
        with envs.authoring.reward_functions.reports.during(step=0, max_steps=config.max_steps):
            # Once, and not in every process: a judge may be a service that is paid for each question.
            demonstrations = decide_on_main(lambda: check_demonstrations(splits["train"], config.force))
    # Settings made in Python may lack the task's recipe.
    notice = note_on_missing_recipe(settings) if isinstance(settings, Config) and not goes_on else ""
    if ":" in config.algorithm:
        tried = f"{config.algorithm} was first tried on made-up completions, so its prepare and loss ran on these, too."
        notice = f"{notice} {tried}".lstrip()
    own_copy = None
    if "reference" in algorithm.needs:
        own_copy = decide_on_main(lambda: kept_weights(config.model, folder, checkpoint))
    return Plan(
        config=config,
        origins=origins,
        folder=folder,
        before=before,
        inputs=inputs,
        checkpoint=checkpoint,
        own_copy=own_copy,
        algorithm=algorithm,
        model_config=model_config,
        splits=splits,
        mix=mix,
        pairs=pairs,
        notice=notice,
        demonstrations=demonstrations,
        missing=missing,
        num_processes=processes,
        accelerator=accelerator,
    )


def _opened(config: Config) -> "tuple[Mapping[str, envs.TextEnv], envs.errors.DataUnavailable | None]":
    """(the splits, None) or, in a dry run whose data is not here, ({}, the error that says so)."""
    try:
        return open_splits(config), None
    except envs.errors.DataUnavailable as error:
        if not config.dry_run:
            raise
        return {}, error


def _with_decoding(config: Config) -> "tuple[Config, Mapping[str, envs.TextEnv]]":
    """(the settings with those of decoding for demonstrations, the splits that were opened for it, usually none)."""
    from spg_trainer.models.load import without_weights
    from spg_trainer.rollout.demonstrations import settled_decoding

    splits: Mapping[str, envs.TextEnv] = {}
    mix: Mapping[str, float] = {}
    if not config.rollout.max_completion_length:  # the demonstrations decide how long completions are
        splits = open_splits(config)
        mix = mix_of(config.mix, splits["train"])
    policy = without_weights(config.model, config.env)
    return replace(config, rollout=settled_decoding(config, policy, splits.get("train"), mix)), splits


def mix_of(mix: Mapping[str, object], train: "envs.TextEnv") -> Mapping[str, float]:
    """{name: share of the demonstrations}, as `Plan.mix`, from the shares that --mix gives."""
    from spg_trainer.rollout.demonstrations import mix_shares  # it imports torch

    return mix_shares(mix, train)


def where_to_go_on(
    folder: Path, checkpoint: Path | None, before: Config, config: Config, inputs: Inputs
) -> Path | None:
    """The checkpoint from which a run goes on: usually `checkpoint`.

    With --lr-schedule warmup_stable_decay, the settings of now may let the learning rate fall from another step than
    before, e.g. because the run becomes longer. Then all updates since the earlier of these two steps are made again,
    and the run goes on from the newest checkpoint up to there. Raises CheckpointError if there is none.

    before, config: the settings of the run so far and of now. inputs: the files that it reads now.
    """
    validations = RunFolder(folder).validations()
    # If the task's code has changed, the validations so far are set aside, and the run counts as having none.
    judged_anew = config.output.accept_changed_code and task_code_differs(read_inputs(folder), inputs)
    start_before = decay_start(before, validations)
    start_now = decay_start(config, {} if judged_anew else validations)
    falls_elsewhere = start_before != start_now and config.optimizer.lr_schedule == DECAYS_LATE
    if checkpoint is None or not falls_elsewhere:
        return checkpoint
    last_equal = min(start_before, start_now)  # up to this step all rates are equal
    is_after_the_end = step_of(checkpoint) > config.max_steps  # `settle` refuses it
    if step_of(checkpoint) <= last_equal or is_after_the_end:
        return checkpoint
    goes_on_from = require_up_to(folder, last_equal)
    if rank() == 0:
        _log.warning(
            "With these settings the learning rate falls from step %d on, and it fell from step %d on before. The "
            "steps in between would differ, so the run goes on from step %d and makes the later ones again.",
            start_now,
            start_before,
            step_of(goes_on_from),
        )
    return goes_on_from


def decay_start(config: Config, validations: Mapping[int, object]) -> int:
    """The step from which the learning rate falls by these settings and validations (`steps_and_decay_start`)."""
    stalled = CRITERIA[config.validates].stalled_at(validations, config.eval.patience)
    optimizer = config.optimizer
    _, start = steps_and_decay_start(
        config.max_steps, optimizer.lr_schedule, optimizer.lr_decay_share, stalled
    )
    return start


def refuse_lost_checkpoints(folder: Path, every: int) -> None:
    """Raises CheckpointError for a run whose checkpoints are all gone: it would begin again, over its results.

    Checkpoints that are there but incomplete are not refused: their steps are made again, and come out the same.
    every: the run's --save-steps.
    """
    steps = len(RunFolder(folder).history())
    # A run that was killed may not have written the checkpoint of its last step.
    has_saved = (folder / SUMMARY).is_file() or 0 < every < steps
    if has_saved and not has_checkpoints(folder):
        raise CheckpointError(
            f"$resume={folder}: this run has made {steps} steps, but its checkpoints are gone, so it cannot go on. "
            f"Put them back, or begin a new run from its weights: $model={shlex.quote(str(folder))}."
        )


def kept_weights(model: ModelConfig, run: Path, checkpoint_folder: Path | None) -> Path | None:
    """The folder of the run's own copy of the weights that it started from.

    None if the run needs no copy, or has not written it yet. Call this for a run with a reference. Such a run needs a
    copy if it trains all weights, or the adapter that --model names; the reference of fresh adapters is the base model.
    checkpoint_folder: of the checkpoint that the run continues from; None = the run begins at step 0. Raises
    CheckpointError if a run with a checkpoint has lost its copy.
    """
    folder = run / REFERENCE_FOLDER
    names_adapter = find_adapter(model.model) is not None
    # The run needs a copy if any of these holds:
    # - it trains all weights (only then is `ref_copy` true here: see `settle_adapters` and `check_algorithm`);
    # - --model names an adapter;
    # - the folder of the copy is there (the adapter that --model named may have been deleted since).
    if not (model.ref_copy or names_adapter or folder.is_dir()):
        return None
    damage = damaged(folder)
    if damage and checkpoint_folder:
        text = f"{folder} {damage}: the reference of this run cannot be made again from trained weights"
        raise CheckpointError(f"{text}. Restore it, or start a new run with another $output_dir.")
    return None if damage else folder


def check_settled(config: Config, algorithm: algorithms.Algorithm, num_processes: int, goes_on: bool) -> Any:
    """Refuses settings that do not go with the algorithm, the number of processes or the model; returns the model's
    configuration, or None if it is not looked at.

    goes_on: whether a run continues. The model that it started from may be gone. Then nothing of the model is checked
    here, but `open_run` does it once the run's own copy is open.
    """
    # These modules import torch, which the checks before this one do without.
    from spg_trainer.architecture.layers import check_expert_parallel, check_lora, check_router
    from spg_trainer.architecture.shape import find_config, pattern_of
    from spg_trainer.rollout.unmasking import check_own_rules

    check_own_rules(config.rollout)
    if ":" in config.optimizer.lr_schedule:
        own_share(config.optimizer.lr_schedule, update=0, total=config.max_steps)
    model = None if goes_on else find_config(config.model, config.env)
    if model:  # first, because `check_algorithm` may advise a block length that the model cannot have
        check_attention(config, algorithm, model.model_type, pattern_of(model), model.noise)
        check_heads(model, config.model.sequence_parallel)
        if config.model.train_router:
            check_router(model, trains_adapters(config.model))
        if config.model.expert_parallel > 1:
            check_expert_parallel(model, config.model.expert_parallel)
        if config.model.lora_r and not find_adapter(config.model.model):
            check_lora(
                model,
                config.model.lora_targets,
                experts=config.model.lora_experts,
                dropout=config.model.lora_dropout or 0.0,
            )
    check_algorithm(config, algorithm, num_processes)
    return model


def check_attention(
    config: Config, algorithm: algorithms.Algorithm, model_type: str, pattern: "Pattern", noise: str
) -> None:
    """Refuses masks, decoding and an engine that do not go with the attention of the model, or with its `noise`."""
    from spg_trainer.algorithms.registry import check_algorithm_noise
    from spg_trainer.likelihood.noise import check_edit_noise, check_masking
    from spg_trainer.rollout.cache import check_noise, check_pattern

    if noise != "mask":
        refuse_with_random_tokens(config.model, model_type)
    check_algorithm_noise(config.algorithm, noise)
    check_edit_noise(noise, pattern, algorithm.edit_noise)
    check_masking(noise, algorithm.make_masking(), algorithm.masking)
    check_noise(noise, config.rollout)
    algorithm.make_masking().check_pattern(pattern)
    check_pattern(pattern, config.rollout)
    if config.rollout_engine:
        from spg_trainer.rollout.engine import check_engine

        check_engine(config, algorithm, model_type, pattern)


def refuse_with_random_tokens(model: ModelConfig, model_type: str) -> None:
    """Refuses settings of a model with an encoder and a decoder that this trainer has for one stack of layers alone."""
    for name in ("lora_experts", "compile", "load_4bit", "sequence_parallel"):
        value = getattr(model, name)
        if value != getattr(ModelConfig, name):
            raise ConfigError(
                f"${name}={value}: a {model_type} has an encoder and a decoder that share their weights, for which "
                f"${name} is not there yet. Leave it out."
            )


def check_heads(model: Any, sequence_parallel: int) -> None:
    """Refuses groups of processes among which the heads of the model's attention cannot be divided.

    model: the model's configuration.
    """
    heads = model.num_key_value_heads
    if heads % sequence_parallel:
        raise ConfigError(
            f"$sequence_parallel={sequence_parallel}: each process takes an equal part of the heads where attention is "
            f"computed, and the model has {heads} key-value head{'s' if heads > 1 else ''}. Use a divisor of {heads}."
        )


def open_pairs(file: str | None) -> "Mapping[str, Pair] | None":
    """The pairs of the file that --pairs names; None without --pairs.

    Raises ConfigError or EnvError if the file is missing or has no pairs.
    """
    if file is None:
        return None
    if not Path(file).is_file():
        raise ConfigError(f"$pairs={file}: No such file (looked in {Path.cwd()}). Give a file's path.")
    from spg_trainer.rollout.pairs import read_pairs  # it imports transformers

    return read_pairs(file)


def open_splits(config: Config) -> "dict[str, envs.TextEnv]":
    """{split: the environment with its problems}, with the splits of `Plan.splits`.

    Raises EnvError if an environment cannot be opened, and ConfigError if it has no split for validation.
    """
    open_split = partial(make_env, config.env, config.task_arguments, config.reward_weights)
    splits = {config.eval.eval_split: open_split(config.eval.eval_split)} if config.env else {}
    if config.data:
        split_of_file = {"train": "train", "held_out": "validation"}
        # The texts take `bad_rows`, or the last TASK.bad_rows of several tasks.
        names = [name for name in config.env_args if name == BAD_ROWS or name.endswith(f".{BAD_ROWS}")]
        args = {BAD_ROWS: config.env_args[names[-1]]} if names else {}
        return splits | {
            name: envs.Texts(config.data, split, **args) for name, split in split_of_file.items()
        }
    splits["train"] = open_split("train")
    if config.validates == "loss":
        splits["held_out"] = open_split("validation")
        for env in (splits["train"], splits["held_out"]):
            for part in env.parts.values() or [env]:  # the tasks of a mixture, or the single task
                task = envs.combining.wrapper.innermost(part)
                if isinstance(task, envs.files.rows.Rows):
                    task.keep_demonstrated()  # a file may have rows without a demonstration
    elif config.eval.eval_steps and "validation" not in splits:
        try:
            splits["validation"] = open_split("validation")
        except envs.EnvError as error:
            text = f"{written(error)} Validation needs this split: $eval_steps=0 trains without validation."
            raise ConfigError(text) from error
    return splits


def check_splits(config: Config, splits: "Mapping[str, envs.TextEnv]", goes_on: bool) -> None:
    """Raises SpgError for an environment that cannot score, has too few problems, or was never shown to the model.

    goes_on: whether a run continues; its model may have learned the task by now, so that it is not refused.
    """
    train = splits["train"]
    if not config.data:  # nobody scores the texts of a file
        with envs.authoring.reward_functions.reports.during(step=0, max_steps=config.max_steps):
            envs.checking.try_scoring(train)
    if not config.samples:
        return
    check_prompts(config.batch.prompts_per_step, len(train), train.spec_name)
    model = config.model.model
    # A model of this package that was taught none of the task could only solve none of it.
    if not (config.force or goes_on) and knows_nothing(model, config.env):
        # Behind a semicolon, the note advises sft in general. The error names the command for this task instead.
        what_is_unseen, _, _ = unseen(model, config.env).partition(";")
        raise ConfigError(
            f"{train.spec_name} with $model={model}: {what_is_unseen}. Teach it the task first with "
            f"`{sft_command(train, config.env, config.env_args)}`, and train with $model=base. To train all the same: "
            "$force."
        )


def check_demonstrations(train: "envs.TextEnv", force: bool) -> str:
    """A note on demonstrations that the task itself does not find right; "" if it finds all right that it looks at.

    Raises ConfigError, unless `force`, if it finds none right: a model that learned to write them would never be right.
    """
    notes = []
    for task in train.parts.values() or [train]:
        looked_at, num_wrong, example, teaches = envs.checking.judge_demonstrations(task)
        if not num_wrong:
            continue
        if num_wrong == looked_at:
            how_many_wrong = f"none of {looked_at:,} demonstrations that were judged is right"
        else:
            how_many_wrong = f"{num_wrong:,} of {looked_at:,} demonstrations that were judged are not right"
        note = f"{task.spec_name}: {how_many_wrong}; {example}"
        # `teaches` is true if any demonstration is right, or if only reward functions judge, on a scale of their own.
        if not (teaches or force):
            raise ConfigError(
                f"{note} Correct the demonstrations, or the verifier; to imitate them all the same: $force."
            )
        notes.append(note)
    return " ".join(notes)


ADORNED = 32
"""The most tokens that the chat format of a model of this package puts around a prompt."""


def asked_problems(
    eval_settings: EvalConfig, splits: "Mapping[str, envs.TextEnv]"
) -> "Iterator[tuple[envs.TextEnv, Sequence[int]]]":
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


def are_surely_short(config: Config, splits: "Mapping[str, envs.TextEnv]", positions: int) -> bool:
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
