"""Whether a training fits on a card, how long it takes and what else it needs, before any weights are downloaded.

Where a setting is `auto`, `fitting_batch` says how many rows go through the model at once: as many as memory holds.
"""

import math
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from spg_trainer.algorithms import Algorithm
from spg_trainer.architecture.shape import Shape
from spg_trainer.errors import as_flag, plural
from spg_trainer.estimate.memory import Memory, step_memory
from spg_trainer.estimate.seconds import USABLE, Card, Seconds
from spg_trainer.runs.checkpoint import LARGE, newest_kept
from spg_trainer.settings.configs import AUTO, Config
from spg_trainer.settings.model import LoadConfig
from spg_trainer.settings.packages import envs
from spg_trainer.settings.task import make_env
from spg_trainer.settings.types import replace_nested, settings_of
from spg_trainer.settings.weights import resolve_model

GIB = 2**30
HOST = 3 * GIB
"""Bytes of the host's memory that Python, torch and CUDA take."""
LARGEST_FILE = 5e9
"""Bytes of the largest file in which weights are published. A model is read file by file, so that the host's memory
never holds more than one file."""
LORA_R = 64
"""The rank of the adapters that are proposed where a training of all weights does not fit."""
PROCESSES = (2, 4, 8, 16, 32, 64)
"""The numbers of processes, each with a card, that are tried with --shard where a run does not fit on its cards."""

MemoryOf = Callable[..., Memory]
"""memory_of(settings, processes) estimates what each process holds if there are so many; memory_of(settings) does the
same for as many processes as the run has."""


def card_lines(
    config: Config, shape: Shape, seconds: Seconds, memory_of: MemoryOf, card: Card, processes: int = 1
) -> list[str]:
    """What the dry run of a training says of a card, line by line.

    The first line says whether the settings fit, and if not, which flags would make them fit. The next lines say how
    many hours the run takes, and how much disk, host memory and download. memory_of: see `MemoryOf`; it is called with
    these and with other settings of the same model.
    """
    memory = memory_of(config)
    peak = memory.peak
    for_tensors = f"{card.usable / GIB:.1f} ({card.memory / GIB:.0f} less {1 - USABLE:.0%}"
    for_tensors += " for CUDA and gaps between tensors)"
    reason = f"it takes {peak / GIB:.1f} GiB, and tensors can take {for_tensors}"
    if peak <= card.usable:
        verdict = f"{card.name}: the run fits: {reason}."
    else:
        verdict = f"{card.name}: the run does not fit: {reason}. {remedy(config, memory_of, card.usable)}."
    return [
        verdict,
        hours_in_all(config, seconds, processes),
        needed_elsewhere(config, shape, memory),
        *([card.note] if card.note else []),
        "These figures are computed from data sheets, not measured.",
    ]


def remedy(config: Config, memory_of: MemoryOf, usable: float) -> str:
    """A sentence with the flags that make a run fit.

    The changes of `changes_to_try` are tried in their order, so the first that fits changes the training least. If this
    change needs no more cards than the run has, the sentence names it alone. Otherwise the sentence also names the
    first change that fits on the cards that there are: "It would fit with --shard phase on 2 such cards ...; on the
    cards that there are, with --lora-r 64 ...". usable: bytes of a card that tensors can take.
    """
    sentence = ""
    for changes, processes in changes_to_try(config):
        if sentence and processes:  # the sentence has a proposal for more cards already
            continue
        fitting = first_that_fits(config, changes, processes, memory_of, usable)
        if fitting is None:
            continue
        flags, memory = fitting
        on_more_cards = f" on {processes} such cards (torchrun --nproc-per-node)" if processes else ""
        fit = f"with {flags}{on_more_cards}: {memory.peak / GIB:.1f} GiB each"
        if config.batch.per_device_batch_size == AUTO:
            fit += f", {what_fits(memory.copies, memory.rows)} at once"
        sentence = f"{sentence}; on the cards that there are, {fit}" if sentence else f"It would fit {fit}"
        if not processes:  # the run fits on the cards that there are; later changes alter the training more
            break
    return sentence or "No flags make it fit: take a smaller model or a larger card"


def first_that_fits(
    config: Config, changes: dict[str, Any], processes: int, memory_of: MemoryOf, usable: float
) -> tuple[str, Memory] | None:
    """(flags as they are typed, memory of a step) of the fastest step that fits; None where nothing fits.

    `changes` are tried with the batch of `config` and, where the batch is a number, with smaller ones. All these are
    tried first without gradient checkpointing, then with it, since checkpointing computes activations twice. processes:
    how many; 0 = as many as the run has.
    """
    # A run that has checkpointing already is not tried without it.
    with_checkpointing = [True] if config.model.gradient_checkpointing else [False, True]
    for checkpointing in with_checkpointing:
        for batch in halves(config.batch.per_device_batch_size):
            flags = changes | {"gradient_checkpointing": checkpointing, "per_device_batch_size": batch}
            changed = with_flags(config, flags)
            memory = memory_of(changed, processes) if processes else memory_of(changed)
            if memory.peak <= usable:
                return typed_flags(config, flags), memory
    return None


def changes_to_try(config: Config) -> list[tuple[dict[str, Any], int]]:
    """Changes by which a run may fit, as (flags, processes); those that change the training least come first.

    The flags change how weights are stored, how they are divided among processes (--shard), or which are trained. With
    the flags {}, only a smaller batch or checkpointing can help. processes: 0 = as many as the run has.
    """
    model = config.model
    unchanged = ({}, 0)
    # Muon works neither with divided weights nor with moments of 8 bits. If a run has AdamW already, `typed_flags`
    # leaves this flag out.
    adamw = {"optimizer": "adamw"}
    # Each group of processes that share the experts needs all of its processes.
    counts = [processes for processes in PROCESSES if processes % model.expert_parallel == 0]
    by_layer = [({"shard": "layer", **adamw}, processes) for processes in counts]
    if model.expert_parallel > 1:  # it needs `--shard layer`
        return [unchanged, *by_layer]
    if model.lora_r:
        # `--shard phase` is not tried: it saves nothing at the peak, as it gathers all weights for an update, and
        # adapters are never divided.
        in_four_bits = [] if model.is_divided else [({"load_4bit": True}, 0)]
        return [unchanged, *in_four_bits, *by_layer]
    divided = [
        ({"shard": shard, **adamw}, processes) for processes in PROCESSES for shard in ("phase", "layer")
    ]
    if model.is_divided:
        return [unchanged, *divided]
    adapters = {"lora_r": LORA_R}
    return [
        unchanged,
        ({"adam_moments": "8bit", **adamw}, 0),
        *divided,
        (adapters, 0),
        (adapters | {"load_4bit": True}, 0),
    ]


def what_fits(copies: int, rows: int | None) -> str:
    """A batch in words. rows: completions of a rollout, None = they are not shown."""
    text = f"{copies} masked cop{'y' if copies == 1 else 'ies'} of an update"
    return text if rows is None else f"{text} and {plural(rows, 'completion')} of a rollout"


def halves(count: int | str) -> Iterator[int | str]:
    """Yields `count`, half of it, and so on down to 1, rounded down: 9, 4, 2, 1 for 9. For `auto`, `auto` alone."""
    if count == AUTO:
        yield count
        return
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


def typed_flags(config: Config, flags: dict[str, Any]) -> str:
    """The flags that change something, as they are typed: "--lora-r 64 --load-4bit"."""
    typed = []
    for name, value in flags.items():
        if with_flags(config, {name: value}) != config:
            typed.append(as_flag(name) if value is True else f"{as_flag(name)} {value}")
    return " ".join(typed)


def hours_in_all(config: Config, seconds: Seconds, processes: int) -> str:
    """A sentence with the hours of a run: of its steps, of the evaluations before and after, and of validations."""
    steps = config.max_steps
    # Rounded as they are shown, so that the parts add up to the whole.
    training = round(steps * (seconds.rollout + seconds.update) / 3600, 1)
    in_steps = f"{steps} step" if steps == 1 else f"{steps} steps"
    try:
        problems = evaluated_problems(config)
    except envs.errors.DataUnavailable:
        unknown = "evaluations are not counted without the data"
        return f"The run takes at least {training:.1f} hours for {in_steps}; {unknown}."
    # The problems are divided among the processes.
    evaluating = round(problems * seconds.completion / processes / 3600, 1)
    return (
        f"The run takes at least {training + evaluating:.1f} hours: {training:.1f} for {in_steps}, "
        f"{evaluating:.1f} for {problems} problems in evaluations and validations."
    )


def evaluated_problems(config: Config) -> int:
    """How many problems are asked in the evaluations before and after, and in all validations."""
    settings = config.eval
    open_split = partial(make_env, config.env, config.task_arguments, config.reward_weights)
    evaluated = open_split(settings.eval_split)
    problems = 2 * len(envs.splits.distinct_problems(evaluated, settings.eval_problems))
    if settings.eval_steps:
        validated = open_split("validation")
        # A run is validated before its first step, after every `eval_steps` steps, and after its last step. E.g. 10
        # steps with `eval_steps` 4 are validated before step 1 and after steps 4, 8 and 10.
        after_steps = math.ceil(config.max_steps / settings.eval_steps)
        problems += (1 + after_steps) * len(
            envs.splits.distinct_problems(validated, settings.validation_problems)
        )
    return problems


def needed_elsewhere(config: Config, shape: Shape, memory: Memory) -> str:
    """A sentence with what the run needs besides its card: download, disk and host memory, in GB and GiB."""
    published = 2.0 * shape.whole  # bytes of all weights in bfloat16
    is_local = resolve_model(config.model.model, config.env).is_local
    download = "nothing" if is_local else f"{published / 1e9:.1f} GB"
    checkpoint = checkpoint_bytes(config, memory)
    trained = trained_bytes(config, memory)
    # The disk holds the newest checkpoints, which are kept, and the one that is being written.
    num_checkpoints = newest_kept(config.output.keep, checkpoint) + 1
    disk = num_checkpoints * checkpoint
    disk += trained  # the folder model/ of the run holds the trained weights once more
    disk += memory.held.get("reference", 0)  # the run's folder holds a reference's weights once
    weights_alone = ""
    if config.eval.eval_steps:  # the checkpoint of the best step by validation is kept, too
        num_checkpoints += 1
        if checkpoint > LARGE:  # `runs.checkpoint.delete_old` deletes its optimizer's state
            disk += trained
            weights_alone = ", of the best step the weights alone"
        else:
            disk += checkpoint
    return (
        f"It downloads {download}, fills {disk / 1e9:.1f} GB of disk ({num_checkpoints} checkpoints of "
        f"{checkpoint / 1e9:.2f}{weights_alone}), "
        f"and takes {(HOST + min(LARGEST_FILE, published)) / GIB:.0f} GiB of host memory for each process."
    )


def checkpoint_bytes(config: Config, memory: Memory) -> float:
    """Bytes of a checkpoint, which holds all trained weights and the whole state of the optimizer."""
    # `held` is what one process holds. With `--shard phase` or `layer` that is a part of the optimizer's state, unless
    # adapters are trained, whose state is never divided.
    is_part = config.model.is_divided and not config.model.lora_r
    parts = memory.weight_parts if is_part else 1
    return trained_bytes(config, memory) + parts * memory.held["optimizer"]


def trained_bytes(config: Config, memory: Memory) -> float:
    """Bytes of all trained weights, read off the estimate of their gradients, which take as many bytes."""
    # With `--shard layer` a process holds a part of each gradient; with `phase` it holds whole gradients until they are
    # summed. Gradients of adapters are never divided.
    is_part = config.model.shard == "layer" and not config.model.lora_r
    parts = memory.weight_parts if is_part else 1
    return parts * memory.held["gradients"]


CAREFUL_COPIES = 8
"""The most masked copies at once that `auto` takes on a CPU, and with divided weights or columns.

Elsewhere, on CUDA with undivided weights and columns, it fills the memory. On a CPU more copies gain nothing, and free
memory is not always known. With divided weights or columns, running out of memory would end the run, since its update
is not repeated with half as many copies."""
CGROUP = Path("/sys/fs/cgroup")
"""The folder in which Linux says how much memory the container of this process may take."""


def with_masked_copies(config: Config, copies: int) -> Config:
    """The settings with `copies` masked copies at once in an update."""
    return replace(config, batch=replace(config.batch, per_device_batch_size=copies))


def dtype_of(model: LoadConfig, on_cpu: bool) -> str:
    """The dtype in which a pass is computed; --dtype auto is bfloat16 on a GPU and float32 on a CPU."""
    if model.dtype != "auto":
        return model.dtype
    return "float32" if on_cpu else "bfloat16"


def memory_by_batch(
    config: Config, algorithm: Algorithm, model_config: Any, processes: int, on_cpu: bool
) -> Callable[[int, int | None], Memory]:
    """(copies, rows) -> the memory of a process with so many at once; copies, rows: as `fitting_batch` returns them."""
    cpu_threads = torch.get_num_threads() if on_cpu else 0
    return lambda copies, rows: step_memory(
        model_config,
        with_masked_copies(config, copies),
        algorithm,
        dtype=dtype_of(config.model, on_cpu),
        shard=config.model.shard,
        processes=processes,
        cpu_threads=cpu_threads,
        rows_per_forward=rows,
    )


def fitting_batch(
    config: Config,
    algorithm: Algorithm,
    memory_of: Callable[[int, int | None], Memory],
    usable: float,
    *,
    processes: int = 1,
    on_cuda: bool = True,
) -> tuple[int, int | None]:
    """(copies, rows) that go through the model at once; where settings say `auto`, the most that fit by estimate.

    copies: masked copies of an update, as --per-device-batch-size has them. rows: completions of a rollout;
    None = decided later, on a GPU by `estimate/memory.py: rows_of_a_pass` and on a CPU by the sampler.

    Neither number is above what a process has in a step (in an update with --sequence-parallel: its group), nor below
    1, even if 1 does not fit. Copies and completions are searched for separately, since an update and a rollout are
    never in memory together. A run on anything but CUDA, and one whose weights or columns are divided, takes at most
    `CAREFUL_COPIES` copies, and leaves the rows open.

    memory_of: as `memory_by_batch` returns it. usable: bytes that tensors of a process can take.
    """
    if config.batch.per_device_batch_size != AUTO:
        return config.batch.per_device_batch_size, None
    batch = config.batch
    completions = math.ceil(batch.prompts_per_step * batch.num_generations / processes)
    masks = algorithm.make_masking().count(config.rollout.max_completion_length)
    sharing = config.model.sequence_parallel
    most_copies = sharing * completions * masks
    is_careful = not on_cuda or config.model.is_divided or sharing > 1
    if is_careful:
        most_copies = min(most_copies, CAREFUL_COPIES)
    any_rows = 1  # the peak of an update does not depend on them
    copies = _most_that_fit(lambda n: memory_of(n, any_rows).update_peak <= usable, most_copies)
    if is_careful:
        return copies, None
    rows = _most_that_fit(lambda n: memory_of(copies, n).rollout_peak <= usable, completions)
    return copies, rows


def _most_that_fit(fits: Callable[[int], bool], most: int) -> int:
    """The largest number up to `most` that fits, or 1 if none does. If a number fits, all smaller ones must fit too."""
    # Bisection: `fitting` fits (or is 1), and `too_many` does not fit or is above `most`.
    fitting, too_many = 1, most + 1
    while too_many - fitting > 1:
        middle = (fitting + too_many) // 2
        if fits(middle):
            fitting = middle
        else:
            too_many = middle
    return fitting


def usable_here(device: torch.device, processes: int) -> float:
    """Bytes that tensors of this process can take on a device, including those that they take already.

    processes: how many the run has. The processes on this machine share its memory: as many as a launcher's
    LOCAL_WORLD_SIZE says; without this variable, all of them.
    """
    if device.type == "cuda":
        free_of_card, _ = torch.cuda.mem_get_info(device)
        return USABLE * (free_of_card + torch.cuda.memory_reserved(device))
    on_this_machine = int(os.environ.get("LOCAL_WORLD_SIZE", processes))
    available = 1024 * _number_in("/proc/meminfo", "MemAvailable:")
    if not available:  # a system without /proc does not say how much is free
        available = math.inf
    free = min(available, _free_in_container())
    # This process's share of the free memory, and what it takes already.
    return USABLE * (free / on_this_machine + 1024 * _number_in("/proc/self/status", "VmRSS:"))


def _free_in_container() -> float:
    """Bytes that the container's limit leaves (cgroup v2); infinite where no limit is set.

    Files that Linux keeps in memory and gives up when it is needed count as free, as in MemAvailable.
    """
    try:
        limit, taken = (
            (CGROUP / name).read_text(encoding="ascii").strip() for name in ("memory.max", "memory.current")
        )
    except OSError:
        return math.inf
    if limit == "max":
        return math.inf
    return max(0.0, float(limit) - float(taken) + _number_in(CGROUP / "memory.stat", "inactive_file"))


def _number_in(file: str | Path, name: str) -> float:
    """The number after a name in a file of Linux, e.g. 123 in the line `MemAvailable: 123 kB`; 0 if there is none."""
    try:
        lines = Path(file).read_text(encoding="ascii").splitlines()
    except OSError:
        return 0.0
    for line in lines:
        words = line.split()
        if words and words[0] == name:
            return float(words[1])
    return 0.0
