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
"""The rank that is tried where all weights do not fit."""

PROCESSES = (2, 4, 8, 16, 32, 64)
"""The numbers of processes that are tried with --shard, where all weights do not fit in one."""

Predict = Callable[..., Estimate]
"""predict(settings, processes) is what a process needs; without a number of processes, that of this run."""


def card_lines(config: Config, shape: Shape, predict: Predict, card: Device, processes: int = 1) -> list[str]:
    """Whether settings fit on a card and by which flags they would, hours in all, disk, host memory and download.

    predict: the estimate of other settings of the same model on this card.
    """
    estimate = predict(config)
    fits = estimate.peak <= card.usable
    most = f"{card.usable / GIB:.1f} ({card.memory / GIB:.0f} less {1 - USABLE:.0%} for CUDA and gaps between tensors)"
    need = f"it takes {estimate.peak / GIB:.1f} GiB, and tensors can take {most}"
    return [
        f"{card.name}: the run {'fits' if fits else 'does not fit'}: {need}."
        + ("" if fits else f" {remedy(config, predict, card.usable)}."),
        hours_in_all(config, estimate, processes),
        needed_elsewhere(config, shape, estimate, processes),
        *([card.note] if card.note else []),
        "These figures are computed from data sheets, not measured.",
    ]


def remedy(config: Config, predict: Predict, usable: float) -> str:
    """The flags by which settings fit, as a sentence: the fastest of those that change the training least.

    If these need more cards, the sentence goes on with the first flags that fit on the cards that there are, such as
    adapters in place of a training of all weights.
    """
    sentence = ""
    for changes, processes in kinds(config):
        if sentence and processes:  # more cards have been named already
            continue
        fitting = fastest_that_fits(config, changes, processes, predict, usable)
        if fitting is None:
            continue
        flags, seconds, peak = fitting
        on_more_cards = f" on {processes} such cards (torchrun --nproc-per-node)" if processes else ""
        fit = f"with {flags}{on_more_cards}: {peak / GIB:.1f} GiB each, {seconds:.0f} seconds a step"
        sentence = f"{sentence}; on the cards that there are, {fit}" if sentence else f"It would fit {fit}"
        if not processes:
            break
    return sentence or "No flags make it fit: take a smaller model or a larger card"


def fastest_that_fits(
    config: Config, changes: dict[str, Any], processes: int, predict: Predict, usable: float
) -> tuple[str, float, float] | None:
    """The flags as they are typed, seconds of a step and bytes at its peak; None where nothing fits.

    Tried are `changes` with every smaller batch, and with gradient checkpointing. processes: 0 = those that there are.
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
            fitting.append((seconds, -batch, checkpointing, estimate.peak, words(config, flags)))
    if not fitting:
        return None
    seconds, _, _, peak, typed = min(fitting)
    return typed, seconds, peak


def kinds(config: Config) -> list[tuple[dict[str, Any], int]]:
    """(flags, processes) to try, those that change the training least first; 0 processes = those that there are.

    The flags change how weights are stored or divided, or which are trained.
    """
    m = config.model
    adamw = {"optimizer": "adamw"}  # Muon works neither with divided weights nor with moments of 8 bits
    layers = [({"shard": "layer", **adamw}, processes) for processes in PROCESSES]
    if m.lora_r:
        in_four_bits = [] if m.is_divided else [({"load_4bit": True}, 0)]
        return [({}, 0), *in_four_bits, *layers]
    divided = [
        ({"shard": shard, **adamw}, processes) for processes in PROCESSES for shard in ("phase", "layer")
    ]
    if m.is_divided:
        return [({}, 0), *divided]
    adapters = {"lora_r": LORA_R}
    return [
        ({}, 0),
        ({"adam_moments": "8bit", **adamw}, 0),
        *divided,
        (adapters, 0),
        (adapters | {"load_4bit": True}, 0),
    ]


def halves(count: int) -> Iterator[int]:
    """`count`, and its halves down to 1: of 8 these are 8, 4, 2, 1."""
    while count:
        yield count
        count //= 2


def with_flags(config: Config, flags: dict[str, Any]) -> Config:
    """`config` with some settings changed, which are named as their flags are."""
    return replace_nested(config, {settings_of(Config)[name][0]: value for name, value in flags.items()})


def words(config: Config, flags: dict[str, Any]) -> str:
    """Those of the flags that change something, as they are typed: "--lora-r 64 --load-4bit"."""
    changed = {key: value for key, value in flags.items() if with_flags(config, {key: value}) != config}
    return " ".join(as_flag(key) + f" {value}" * (value is not True) for key, value in changed.items())


def hours_in_all(config: Config, estimate: Estimate, processes: int) -> str:
    """Hours of steps, of evaluations before and after, and of validations."""
    steps = config.max_steps
    training = steps * sum(estimate.seconds.values()) / 3600
    in_steps = f"{steps} step{'s' * (steps != 1)}"
    try:
        problems = evaluated_problems(config)
    except envs.errors.DataUnavailable:
        return f"The run takes {training:.1f} hours for {in_steps}; evaluations are not counted without the data."
    evaluating = problems * estimate.per_completion / processes / 3600
    return (
        f"The run takes {training + evaluating:.1f} hours: {training:.1f} for {in_steps}, {evaluating:.1f} for "
        f"{problems} problems in evaluations and validations."
    )


def evaluated_problems(config: Config) -> int:
    """Problems in the evaluations before and after, and in all validations."""
    v = config.eval
    problems = 2 * len(envs.splits.distinct_problems(make_env(config, v.eval_split), v.eval_problems))
    if v.eval_steps:
        split = make_env(config, "validation")
        times = 1 + -(-config.max_steps // v.eval_steps)
        problems += times * len(envs.splits.distinct_problems(split, v.validation_problems))
    return problems


def needed_elsewhere(config: Config, shape: Shape, estimate: Estimate, processes: int) -> str:
    """Download, disk and host memory, in GB and GiB."""
    weights = 2.0 * shape.whole  # published in bfloat16
    local = resolve_model(config.model.model, config.env).is_local
    checkpoint, trained = checkpoint_bytes(config, estimate, processes), estimate.held["gradients"]
    newest = newest_kept(config.output.keep, checkpoint) + 1  # and the one that is being written
    best = 0.0  # with validations, the best step is kept too: if it is large, its weights alone
    if config.eval.eval_steps:
        best = trained if checkpoint > LARGE else checkpoint
    count = newest + (best > 0)
    weights_alone = ", of the best step the weights alone" if 0 < best < checkpoint else ""
    disk = (
        newest * checkpoint + best + trained + estimate.held.get("reference", 0)
    )  # with model/ and reference/
    download = "nothing" if local else f"{weights / 1e9:.1f} GB"
    return (
        f"It downloads {download}, fills {disk / 1e9:.1f} GB of disk ({count} checkpoints of "
        f"{checkpoint / 1e9:.2f}{weights_alone}), "
        f"and takes {(HOST + min(FILE, weights)) / GIB:.0f} GiB of host memory for each process."
    )


def checkpoint_bytes(config: Config, estimate: Estimate, processes: int) -> float:
    """Bytes of a checkpoint: the trained weights, as large as their gradients, and the whole optimizer's state."""
    parts = processes if config.model.is_divided and not config.model.lora_r else 1
    return estimate.held["gradients"] + parts * estimate.held["optimizer"]
