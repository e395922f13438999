"""Everything that a training on demonstrations needs before its first update: tasks, model, lengths, optimizer."""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from spg_trainer.algorithms.mle import MLE
from spg_trainer.architecture.pattern import Pattern
from spg_trainer.distributed import own_device, raising_on_all
from spg_trainer.evaluation.environment import make_env
from spg_trainer.models import Policy, divide_policy, new_policy, open_policy
from spg_trainer.models.compiled import compile_layers
from spg_trainer.models.states import base_model, trainable_parameters
from spg_trainer.rollout.checks import check_names, check_pattern
from spg_trainer.runs.console import Console
from spg_trainer.runs.folder import RunFolder
from spg_trainer.runs.pin import pin
from spg_trainer.runs.plan import RunPlan
from spg_trainer.runs.tracking import Trackers
from spg_trainer.settings.decoding import Sampling
from spg_trainer.settings.fields import SftCommand
from spg_trainer.settings.packages import envs
from spg_trainer.settings.recorded import SFT, task_record, to_recorded_yaml
from spg_trainer.settings.resolve import FLAG, TRAINING
from spg_trainer.settings.weights import is_embedded
from spg_trainer.sft.demonstrations import completion_length, mix_shares
from spg_trainer.sft.fit import Fit, training_config
from spg_trainer.sft.fitting import check_lengths
from spg_trainer.sft.source import Demonstrations
from spg_trainer.training.optimize import make_optimizer
from spg_trainer.training.run import Run, TrainingState

if TYPE_CHECKING:
    from accelerate import Accelerator

    from envs import TextEnv


VALIDATION = 512
"""Validation demonstrations of which the loss is measured, always under the same masks."""


BLOCK_LENGTH = "rollout.block_length"
"""The setting, by its dotted name, whose origin decides whether it gives way where it does not fit."""


def prepare(planned: RunPlan[SftCommand], accelerator: "Accelerator", console: Console) -> Fit:
    """Everything that training needs, before its first update or the checkpoint from which it goes on."""
    command, folder = planned.config, planned.folder
    device = own_device(command.model.device, accelerator)
    with raising_on_all():
        command = pin(command)
        # Where the model will be evaluated: without problems there, nothing is begun.
        evaluated = {split: make_env(command, split) for split in ("test", "validation") if command.env}
        if command.data:
            train, validation = (envs.Texts(command.data, split) for split in ("train", "validation"))
        else:
            train, validation = make_env(command, "train"), evaluated["validation"]
            envs.checking.try_scoring(train)
        mix = mix_shares(command.mix, train)
        policy = base_policy(command, device)
        if not command.rollout.max_completion_length:
            length = fitting_length(policy, train, mix, command, planned.origins)
            command = replace(command, rollout=replace(command.rollout, max_completion_length=length))
        skipped = check_lengths(policy, [train, validation], mix, command)
        pattern = base_model(policy.model).pattern
        command = without_other_blocks(command, pattern, planned.origins)
        sampling = eval_sampling(command, pattern)
    if command.model.is_divided:
        divide_policy(policy, command.model, device)
    config = training_config(command, sampling)
    with raising_on_all():
        optimizer = make_optimizer(config.optimizer, trainable_parameters(policy.model))
    run = Run(
        config=config,
        state=TrainingState(),
        policy=policy,
        algorithm=MLE(),
        optimizer=optimizer,
        source=Demonstrations(train, policy, config, mix, command.batch.batch_size),
        splits={"train": train, **evaluated},
        folder=RunFolder(folder, SFT),
        console=console,
        trackers=Trackers(),
        accelerator=accelerator,
        rows_per_forward=None,
        held_out=Demonstrations(validation, policy, config, mix, VALIDATION),
        settings=to_recorded_yaml(command),
        record=task_record(command, sampling, **({"origin": dict(train.origin)} if train.origin else {})),
    )
    return Fit(run, command, mix, skipped)


def fitting_length(
    policy: Policy,
    train: "TextEnv",
    mix: Mapping[str, float],
    command: SftCommand,
    origins: Mapping[str, str],
) -> int:
    """As many tokens as the demonstrations need, in whole blocks if somebody has said how long a block is.

    A block length that comes from a training on the task gives way to the texts instead.
    """
    length = completion_length(policy, train, mix)
    if origins.get(BLOCK_LENGTH, FLAG).startswith(TRAINING):
        return length
    return length + -length % max(1, command.rollout.block_length)


def base_policy(command: SftCommand, device: str | None = None) -> Policy:
    """The model to train: a new one of the embedded kind, or an existing one. device: None = that of the settings."""
    m, device = command.model, device or command.model.device
    if not is_embedded(m.model, "new"):
        return open_policy(m, env=command.env, seed=command.seed, device=device)
    policy = new_policy(
        m.model.partition(":")[2],
        device="cpu" if m.is_divided else device,
        seed=command.seed,
        hidden_size=command.hidden_size,
        layers=command.num_layers,
        heads=command.num_heads,
        ffn=command.intermediate_size,
    )
    if m.gradient_checkpointing:
        policy.model.gradient_checkpointing_enable()
    if m.compile:
        compile_layers(policy.model)
    return policy


def without_other_blocks(command: SftCommand, pattern: Pattern, origins: Mapping[str, str]) -> SftCommand:
    """The command with block length 0, which leaves it open, where the block length does not fit and nobody set it.

    A block length of a training on the task does not fit a model whose attention has blocks of its own. No block length
    fits a completion length that it does not divide. One that the user set stays, and `eval_sampling` refuses it.
    """
    length, block = command.rollout.max_completion_length, command.rollout.block_length
    origin = origins.get(BLOCK_LENGTH, FLAG)  # without origins, as from Python, all is asked for
    is_asked_for = origin in (FLAG, command.config)
    does_not_divide = block > 0 and length % block > 0
    is_of_other_attention = origin.startswith(TRAINING) and not pattern.is_full
    if is_of_other_attention or (does_not_divide and not is_asked_for):
        return replace(command, rollout=replace(command.rollout, block_length=0))
    return command


def eval_sampling(command: SftCommand, pattern: Pattern) -> Sampling:
    """Greedy decoding at the command's length and in its blocks.

    Without a block length, blocks are those of the model's attention, or the largest parts of these that divide the
    completion, or the whole completion. Raises ConfigError for what cannot be decoded, before anything is trained.
    """
    r, length = command.rollout, command.rollout.max_completion_length
    block = r.block_length or (length if pattern.is_full else math.gcd(length, pattern.block_size))
    sampling = Sampling.of(length, block, r.diffusion_steps, remasking=r.remasking)
    check_names(sampling)
    check_pattern(pattern, sampling)
    return sampling
