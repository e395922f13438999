"""What a card makes of a training, computed before any weights are downloaded: does it fit, how long, what else."""

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
"""Of Python, torch and CUDA in the host's memory."""
FILE = 5e9
"""Bytes of a published file of weights, through which a model is read, at most."""
LORA_R = 64
"""The rank that is tried where all weights do not fit."""

PROCESSES = (2, 4, 8, 16, 32, 64)
"""The numbers of processes that are tried with --shard, where all weights do not fit in one."""

Predict = Callable[..., Estimate]
"""(settings, processes=those of this run) -> what a process needs."""


def card_lines(config: Config, shape: Shape, predict: Predict, card: Device, processes: int = 1) -> list[str]:
    """Whether settings fit on a card and by which flags they would, hours in all, disk, host memory and download.

    predict: the estimate of other settings of the same model on this card.
    """
    e = predict(config)
    fits = e.peak <= card.usable
    most = f"{card.usable / GIB:.1f} ({card.memory / GIB:.0f} less {1 - USABLE:.0%} for CUDA and gaps between tensors)"
    need = f"it takes {e.peak / GIB:.1f} GiB, and tensors can take {most}"
    return [
        f"{card.name}: the run {'fits' if fits else 'does not fit'}: {need}."
        + ("" if fits else f" {remedy(config, predict, card.usable)}."),
        hours_in_all(config, e, processes),
        needed_elsewhere(config, shape, e, processes),
        *([card.note] if card.note else []),
        "These figures are computed from data sheets, not measured.",
    ]


def remedy(config: Config, predict: Predict, usable: float) -> str:
    """The flags by which settings fit: the fastest of those that change the training least.

    Where all weights are trained, flags that keep that, with more processes, come before adapters, which are named too
    where they fit without more.
    """
    found = ""
    for changes, processes in kinds(config):
        if found and processes:
            continue
        fitting = []
        for checkpointing, batch in product(
            {config.model.gradient_checkpointing, True}, halves(config.batch.per_device_batch_size)
        ):
            flags = changes | {"gradient_checkpointing": checkpointing, "per_device_batch_size": batch}
            changed = with_flags(config, flags)
            e = predict(changed, processes) if processes else predict(changed)
            if e.peak <= usable:
                fitting.append((sum(e.seconds.values()), -batch, checkpointing, e.peak, words(config, flags)))
        if fitting:
            seconds, _, _, peak, text = min(fitting)
            on = f" on {processes} such cards (torchrun --nproc-per-node)" if processes else ""
            fit = f"with {text}{on}: {peak / GIB:.1f} GiB each, {seconds:.0f} seconds a step"
            found = f"{found}; on the cards that there are, {fit}" if found else f"It would fit {fit}"
            if not processes:
                break
    return found or "No flags make it fit: take a smaller model or a larger card"


def kinds(config: Config) -> list[tuple[dict[str, Any], int]]:
    """Flags that change what is trained or how exactly, those that change least first, and how many processes they
    need; 0 = those that there are."""
    m = config.model
    adamw = {"optimizer": "adamw"}  # Muon takes neither
    layers = [({"shard": "layer", **adamw}, processes) for processes in PROCESSES]
    if m.lora_r:
        alone = [] if m.is_divided else [({"load_4bit": True}, 0)]
        return [({}, 0), *alone, *layers]
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
    """8, 4, 2, 1."""
    while count:
        yield count
        count //= 2


def with_flags(config: Config, flags: dict[str, Any]) -> Config:
    """`config` with some settings changed, which are named as their flags are."""
    return replace_nested(config, {settings_of(Config)[name][0]: value for name, value in flags.items()})


def words(config: Config, flags: dict[str, Any]) -> str:
    """Those flags that change something, as they are typed."""
    changed = {key: value for key, value in flags.items() if with_flags(config, {key: value}) != config}
    return " ".join(as_flag(key) + f" {value}" * (value is not True) for key, value in changed.items())


def hours_in_all(config: Config, e: Estimate, processes: int) -> str:
    """Hours of steps, of evaluations before and after, and of validations."""
    steps = config.max_steps
    training = steps * sum(e.seconds.values()) / 3600
    in_steps = f"{steps} step{'s' * (steps != 1)}"
    try:
        problems = evaluated_problems(config)
    except envs.errors.DataUnavailable:
        return f"The run takes {training:.1f} hours for {in_steps}; evaluations are not counted without the data."
    evaluating = problems * e.per_completion / processes / 3600
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


def needed_elsewhere(config: Config, shape: Shape, e: Estimate, processes: int) -> str:
    """Download, disk and host memory, in GB and GiB."""
    weights = 2.0 * shape.whole  # published in bfloat16
    local = resolve_model(config.model.model, config.env).is_local
    checkpoint = checkpoint_bytes(config, e, processes)
    kept = newest_kept(config.output.keep, checkpoint) + 1  # one is being written
    best = 0.0  # one more may be the best
    if config.eval.eval_steps:
        best = e.held["gradients"] if checkpoint > LARGE else checkpoint
    count, apart = kept + (best > 0), ", of the best step the weights alone" * (0 < best < checkpoint)
    run = kept * checkpoint + best + e.held["gradients"] + e.held.get("reference", 0)
    download = "nothing" if local else f"{weights / 1e9:.1f} GB"
    return (
        f"It downloads {download}, fills {run / 1e9:.1f} GB of disk ({count} checkpoints of "
        f"{checkpoint / 1e9:.2f}{apart}), "
        f"and takes {(HOST + min(FILE, weights)) / GIB:.0f} GiB of host memory for each process."
    )


def checkpoint_bytes(config: Config, e: Estimate, processes: int) -> float:
    """What is trained, which is as large as its gradient, and the optimizer's state of all processes."""
    parts = processes if config.model.is_divided and not config.model.lora_r else 1
    return e.held["gradients"] + parts * e.held["optimizer"]
