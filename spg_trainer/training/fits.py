"""Whether a training fits on a card, how long it takes and what else it needs, before any weights are downloaded."""

from collections.abc import Callable, Iterator
from itertools import product
from typing import Any

from spg_trainer.architecture.shape import Shape
from spg_trainer.evaluation.environment import make_env
from spg_trainer.runs.checkpoint import LARGE, newest_kept
from spg_trainer.settings.fields import Config
from spg_trainer.settings.flags import as_flag, settings_of
from spg_trainer.settings.packages import envs
from spg_trainer.settings.values import replace_nested
from spg_trainer.settings.weights import resolve_model
from spg_trainer.training.cards import USABLE, Device
from spg_trainer.training.roofline import Estimate

GIB = 2**30
HOST = 3 * GIB
"""Bytes of the host's memory that Python, torch and CUDA take."""
FILE = 5e9
"""Bytes of a published file of weights at most: a model is read into the host's memory file by file."""
LORA_R = 64
"""The rank of the adapters that are proposed where a training of all weights does not fit."""

PROCESSES = (2, 4, 8, 16, 32, 64)
"""The numbers of processes, each with a card, that are tried with --shard where a run does not fit on its cards."""

Predict = Callable[..., Estimate]
"""predict(settings, processes) is what each process needs; predict(settings), with as many processes as the run has."""


def card_lines(config: Config, shape: Shape, predict: Predict, card: Device, processes: int = 1) -> list[str]:
    """What the dry run of a training says of a card, line by line.

    The first line says whether the settings fit, and if not, by which flags they would; the next ones say how many
    hours the run takes, and how much disk, host memory and download.

    predict: the estimate of these or other settings of the same model on this card.
    """
    estimate = predict(config)
    most = f"{card.usable / GIB:.1f} ({card.memory / GIB:.0f} less {1 - USABLE:.0%} for CUDA and gaps between tensors)"
    need = f"it takes {estimate.peak / GIB:.1f} GiB, and tensors can take {most}"
    if estimate.peak <= card.usable:
        fit = f"{card.name}: the run fits: {need}."
    else:
        fit = f"{card.name}: the run does not fit: {need}. {remedy(config, predict, card.usable)}."
    return [
        fit,
        hours_in_all(config, estimate, processes),
        needed_elsewhere(config, shape, estimate, processes),
        *([card.note] if card.note else []),
        "These figures are computed from data sheets, not measured.",
    ]


def remedy(config: Config, predict: Predict, usable: float) -> str:
    """A sentence with the flags by which a run fits: the fastest of those that change the training least.

    If these need more cards, the sentence goes on with the first flags that fit on the cards that there are, such as
    adapters in place of a training of all weights. usable: bytes of a card that tensors can take.
    """
    sentence = ""
    for changes, processes in kinds(config):
        if sentence and processes:  # the sentence names flags for more cards already
            continue
        fitting = fastest_that_fits(config, changes, processes, predict, usable)
        if fitting is None:
            continue
        flags, seconds, peak = fitting
        on_more_cards = f" on {processes} such cards (torchrun --nproc-per-node)" if processes else ""
        fit = f"with {flags}{on_more_cards}: {peak / GIB:.1f} GiB each, {seconds:.0f} seconds a step"
        sentence = f"{sentence}; on the cards that there are, {fit}" if sentence else f"It would fit {fit}"
        if not processes:  # these flags fit on the cards that there are, and others change more
            break
    return sentence or "No flags make it fit: take a smaller model or a larger card"


def fastest_that_fits(
    config: Config, changes: dict[str, Any], processes: int, predict: Predict, usable: float
) -> tuple[str, float, float] | None:
    """(flags as they are typed, seconds of a step, bytes at its peak) of the fastest step; None where nothing fits.

    Tried are `changes` with the batch of `config` and smaller ones, each as it is and with gradient checkpointing.
    processes: how many, 0 = those of the run.
    """
    fitting = []
    for checkpointing, batch in product(
        {config.model.gradient_checkpointing, True}, halves(config.batch.per_device_batch_size)
    ):
        flags = changes | {"gradient_checkpointing": checkpointing, "per_device_batch_size": batch}
        changed = with_flags(config, flags)
        estimate = predict(changed, processes) if processes else predict(changed)
        if estimate.peak <= usable:
            seconds = sum(estimate.seconds.values())
            # In the order in which they count: of equally fast ones the largest batch, then none with checkpointing.
            fitting.append((seconds, -batch, checkpointing, estimate.peak, words(config, flags)))
    if not fitting:
        return None
    seconds, _, _, peak, typed = min(fitting)
    return typed, seconds, peak


def kinds(config: Config) -> list[tuple[dict[str, Any], int]]:
    """(flags, processes) to try, those that change the training least first; 0 processes = those of the run.

    The flags change how weights are stored or divided among processes (--shard), or which are trained. With ({}, 0)
    nothing of this changes, and only a smaller batch or checkpointing can help.
    """
    m = config.model
    unchanged = ({}, 0)
    adamw = {"optimizer": "adamw"}  # Muon works neither with divided weights nor with moments of 8 bits
    by_layer = [({"shard": "layer", **adamw}, processes) for processes in PROCESSES]
    if m.lora_r:
        in_four_bits = [] if m.is_divided else [({"load_4bit": True}, 0)]
        return [unchanged, *in_four_bits, *by_layer]
    divided = [
        ({"shard": shard, **adamw}, processes) for processes in PROCESSES for shard in ("phase", "layer")
    ]
    if m.is_divided:
        return [unchanged, *divided]
    adapters = {"lora_r": LORA_R}
    return [
        unchanged,
        ({"adam_moments": "8bit", **adamw}, 0),
        *divided,
        (adapters, 0),
        (adapters | {"load_4bit": True}, 0),
    ]


def halves(count: int) -> Iterator[int]:
    """`count`, half of it, and so on down to 1, rounded down: of 9 these are 9, 4, 2, 1."""
    while count:
        yield count
        count //= 2


def with_flags(config: Config, flags: dict[str, Any]) -> Config:
    """`config` with some settings changed. flags: e.g. {"lora_r": 64}, which sets `model.lora_r`."""
    settings = settings_of(Config)
    changes = {}
    for name, value in flags.items():
        dotted_name, _ = settings[name]
        changes[dotted_name] = value
    return replace_nested(config, changes)


def words(config: Config, flags: dict[str, Any]) -> str:
    """Those of the flags that change something, as they are typed: "--lora-r 64 --load-4bit"."""
    typed = []
    for name, value in flags.items():
        if with_flags(config, {name: value}) != config:
            typed.append(as_flag(name) if value is True else f"{as_flag(name)} {value}")
    return " ".join(typed)


def hours_in_all(config: Config, estimate: Estimate, processes: int) -> str:
    """A sentence with the hours of a run: of its steps, of the evaluations before and after, and of validations."""
    steps = config.max_steps
    # Rounded as they are shown, so that the parts add up to the whole.
    training = round(steps * sum(estimate.seconds.values()) / 3600, 1)
    in_steps = f"{steps} step{'s' * (steps != 1)}"
    try:
        problems = evaluated_problems(config)
    except envs.errors.DataUnavailable:
        return f"The run takes {training:.1f} hours for {in_steps}; evaluations are not counted without the data."
    evaluating = round(problems * estimate.per_completion / processes / 3600, 1)
    return (
        f"The run takes {training + evaluating:.1f} hours: {training:.1f} for {in_steps}, {evaluating:.1f} for "
        f"{problems} problems in evaluations and validations."
    )


def evaluated_problems(config: Config) -> int:
    """How many problems are asked in the evaluations before and after, and in all validations."""
    settings = config.eval
    evaluated = make_env(config, settings.eval_split)
    problems = 2 * len(envs.splits.distinct_problems(evaluated, settings.eval_problems))
    if settings.eval_steps:
        validated = make_env(config, "validation")
        # One before the first step, one every so many steps, and one after the last, if it is none of these.
        times = 1 + -(-config.max_steps // settings.eval_steps)
        problems += times * len(envs.splits.distinct_problems(validated, settings.validation_problems))
    return problems


def needed_elsewhere(config: Config, shape: Shape, estimate: Estimate, processes: int) -> str:
    """A sentence with what the run needs beside its card: download, disk and host memory, in GB and GiB."""
    published = 2.0 * shape.whole  # bytes of all weights in bfloat16
    is_local = resolve_model(config.model.model, config.env).is_local
    download = "nothing" if is_local else f"{published / 1e9:.1f} GB"
    checkpoint = checkpoint_bytes(config, estimate, processes)
    trained = trained_bytes(config, estimate, processes)  # model/ holds them, too
    newest = newest_kept(config.output.keep, checkpoint)
    count = newest + 1  # and the one that is being written
    # The run's folder holds one copy of the weights that it started from, where there is a reference.
    disk = count * checkpoint + trained + estimate.held.get("reference", 0)
    weights_alone = ""
    if config.eval.eval_steps:  # the best step by validation is kept, too
        count += 1
        if checkpoint > LARGE:
            disk += trained
            weights_alone = ", of the best step the weights alone"
        else:
            disk += checkpoint
    return (
        f"It downloads {download}, fills {disk / 1e9:.1f} GB of disk ({count} checkpoints of "
        f"{checkpoint / 1e9:.2f}{weights_alone}), "
        f"and takes {(HOST + min(FILE, published)) / GIB:.0f} GiB of host memory for each process."
    )


def checkpoint_bytes(config: Config, estimate: Estimate, processes: int) -> float:
    """Bytes of a checkpoint: the trained weights and the optimizer's state, of which a process may hold a part."""
    # `held` is what one process holds: under `--shard phase` a part of the optimizer's state and whole gradients, under
    # `layer` a part of both. Adapters are never divided.
    trains_parts = config.model.is_divided and not config.model.lora_r
    parts = processes if trains_parts else 1
    return trained_bytes(config, estimate, processes) + parts * estimate.held["optimizer"]


def trained_bytes(config: Config, estimate: Estimate, processes: int) -> float:
    """Bytes of the trained weights: as many as of their gradients, of which a process may hold a part."""
    holds_part = config.model.shard == "layer" and not config.model.lora_r
    return (processes if holds_part else 1) * estimate.held["gradients"]
