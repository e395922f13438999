"""What a training needs of each device, and how long a step takes: from a model's shape and the settings alone.

`estimate` adds up the tensors that this trainer holds at the highest points of an update and of a rollout. The time is
a roofline (arithmetic, memory or the starting of kernels, whichever takes longest) under the assumptions of `Device`,
for completions of full length. benchmarks/memory.py compares the memory with measured peaks.
"""

from collections import Counter
from dataclasses import dataclass
from math import prod
from typing import Any, NamedTuple

from spg_trainer.algorithms import Algorithm
from spg_trainer.architecture.shape import Shape, count_lora, shape_of
from spg_trainer.likelihood.logps import rows_per_chunk
from spg_trainer.rollout.cache import POSITIONS_PER_THREAD
from spg_trainer.rollout.passes import passes
from spg_trainer.settings.adapters import find_adapter
from spg_trainer.settings.decoding import Sampling
from spg_trainer.settings.fields import Config
from spg_trainer.training.cards import CARDS, Device
from spg_trainer.training.micro_batches import micro_batch_size, rows_of_a_pass

PROMPT = 200
"""Tokens of a prompt where nobody says how many."""
BITS = 4.127
"""Bits of a weight under --load-4bit: 4, and its share in the scale of 64 weights, which is stored in 8 bits."""
BYTES = {"bfloat16": 2, "float32": 4, "float64": 8}
START, START_ADAPTERS, START_UPDATE = 1.4e-3, 0.5e-3, 4.7e-3
"""Seconds in which Python starts the kernels of a layer, measured beside an H100: in a pass without a graph, for its
adapters besides, and in a pass forward and backward."""


@dataclass(frozen=True)
class Estimate:
    """What each process needs: bytes by what holds them, seconds of a step by what takes them."""

    held: dict[str, float]
    """What is there from one step to the next, and the gradients, which only the updates hold."""
    update: dict[str, float]
    """On top of that, while gradients are computed."""
    rollout: dict[str, float]
    """On top of what is held except gradients, while completions are sampled."""
    optimizer_step: float
    """On top of what is held, while the optimizer steps."""
    seconds: dict[str, float]
    bound: dict[str, str]
    """What limits rollout and update most of the time: `arithmetic`, `memory` or `the host`, which starts kernels."""
    per_completion: float
    """Seconds of a rollout for each completion."""

    @property
    def peak(self) -> float:
        """Bytes at the highest point of a step."""
        return max(self.update_peak, self.rollout_peak)

    @property
    def update_peak(self) -> float:
        """Bytes at the highest point of an update."""
        return sum(self.held.values()) + max(sum(self.update.values()), self.optimizer_step)

    @property
    def rollout_peak(self) -> float:
        """Bytes at the highest point of a rollout."""
        return sum(self.held.values()) - self.held["gradients"] + sum(self.rollout.values())


class _Work(NamedTuple):
    """What is computed, in numbers."""

    shape: Shape
    adapters: int
    """Weights of LoRA's adapters; 0 where all weights are trained."""
    trained: int
    """Weights that are trained: the adapters, or the whole model."""
    in_four_bits: float
    """Weights that are stored in 4 bits, and made whole in each pass."""
    pass_bytes: int
    """Bytes of a number in a pass: 2 in bfloat16."""
    trained_bytes: int
    """Bytes of a number that is trained, and of a probability: at least 4."""
    prompt_length: int
    completion_length: int
    copy_columns: int
    """Columns of a masked copy at most: prompt and completion, or more where its blocks are shown twice."""
    column_bytes: int
    """Bytes of the keys and values of one column of a row: 512 KiB for LLaDA-8B in bfloat16."""
    masks: int
    """Masked copies of a completion, M."""
    updates: int
    """Optimizer steps of a step."""
    micro_batch: tuple[int, int]
    """Completions that go through the model together, and how many masks of them."""

    @property
    def columns(self) -> int:
        """Tokens of a prompt and its completion."""
        return self.prompt_length + self.completion_length

    @property
    def head(self) -> int:
        """Weights of the output layer."""
        return self.shape.vocabulary * self.shape.width

    @property
    def logit_bytes(self) -> int:
        """Bytes of a logit: as it is used, and beside that as the pass computed it where that is in another type."""
        return self.trained_bytes + self.pass_bytes * (self.pass_bytes < self.trained_bytes)


def estimate(
    model: Any,
    config: Config,
    algorithm: Algorithm,
    *,
    dtype: str = "bfloat16",
    prompt_length: int = PROMPT,
    processes: int = 1,
    shard: str = "none",
    cpu_threads: int = 0,
    device: Device = CARDS["H200"],
) -> Estimate:
    """What each of `processes` needs for a step of these settings.

    model: its configuration; `llada_config()` is LLaDA-8B's. dtype: that of a pass; what is trained is float32 at
    least. shard: as --shard. cpu_threads: of a CPU, 0 = on an accelerator. device: for the seconds.
    """
    work = _work_of(model, config, algorithm, dtype, prompt_length)
    shape, batch = work.shape, config.batch
    completions = -(-batch.prompts_per_step * batch.num_generations // processes)
    width = work.columns if config.rollout.cache == "none" else config.rollout.block_length
    on_cpu = POSITIONS_PER_THREAD * cpu_threads // width
    rows = max(1, min(on_cpu if cpu_threads else rows_of_a_pass(config), completions))
    weight_parts = 1 if shard == "none" else processes
    trained_parts = 1 if work.adapters else weight_parts  # adapters are not divided
    # The roots of second moments: of two of the largest tensors at a time on a CPU, else of all that is trained.
    roots = 2 * (0 if work.adapters else shape.largest) if cpu_threads else work.trained / trained_parts
    rollout_passes = len(list(passes(config.rollout, prompt_length, shape.pattern))) * -(-completions // rows)
    graph_passes = -(-completions * work.masks // prod(work.micro_batch)) * batch.num_iterations
    update_memory = _update_memory(work, config) | _gathered(work, shard)
    rollout_seconds, rollout_bound = _row_seconds(work, config.rollout, rows, device)
    update_seconds, update_bound = _update_seconds(work, config, algorithm, device)
    received = _received(work, shard, rollout_passes, graph_passes)
    return Estimate(
        held=_held(work, config, algorithm, weight_parts, trained_parts, shard),
        update=update_memory | _gradients_of_a_layer(work, shard, update_memory),
        rollout=_rollout_memory(work, config.rollout, rows) | _gathered(work, shard, in_rollout=True),
        optimizer_step=work.trained_bytes * roots,
        seconds={
            "rollout": rollout_seconds * completions,
            "update": update_seconds * completions,
            "links": received * (1 - 1 / processes) / device.link,
        },
        bound={"rollout": rollout_bound, "update": update_bound},
        per_completion=rollout_seconds,
    )


def _work_of(model: Any, config: Config, algorithm: Algorithm, dtype: str, prompt_length: int) -> _Work:
    """What these settings compute with a model; arguments as for `estimate`."""
    batch, m, length = config.batch, config.model, config.rollout.max_completion_length
    masks, pass_bytes = algorithm.make_masking().count(length), BYTES[dtype]
    shape, adapters = shape_of(model), count_lora(model, m.lora_r, experts=m.lora_experts)
    return _Work(
        shape=shape,
        adapters=adapters,
        trained=adapters or shape.whole,
        in_four_bits=shape.linear if m.load_4bit else 0,
        pass_bytes=pass_bytes,
        trained_bytes=max(4, pass_bytes),
        prompt_length=prompt_length,
        completion_length=length,
        copy_columns=shape.pattern.copy_width(prompt_length, length),
        column_bytes=2 * shape.layers * shape.keys * pass_bytes,
        masks=masks,
        micro_batch=micro_batch_size(batch.per_device_batch_size, masks),
        updates=batch.num_iterations * batch.num_minibatches,
    )


def _gathered(work: _Work, shard: str, in_rollout: bool = False) -> dict[str, float]:
    """Bytes of the weights that are whole for a while; nothing where weights are not divided.

    With `phase` these are all weights; with `layer` they are two layers, or the head at the end of a pass, and a head
    that is the embedding stays beside them. What is gathered is there twice for a moment, as it came from the others
    and put together: in a rollout that counts for embedding and head; an update is at its highest between them.
    """
    if shard == "phase":
        return {"gathered weights": float(work.pass_bytes * work.shape.whole)}
    if shard == "layer":
        layer = work.shape.body / work.shape.layers
        stays = 0 if _is_head_apart(work) else work.head
        end = work.shape.ends if in_rollout else work.head - stays
        return {"gathered weights": work.pass_bytes * (stays + max(2 * layer, end))}
    return {}


def _is_head_apart(work: _Work) -> bool:
    return work.shape.ends > work.head


def _gradients_of_a_layer(work: _Work, shard: str, update_memory: dict[str, float]) -> dict[str, float]:
    """Bytes of the gradients of one backward pass that are not summed over the processes yet, with `layer`.

    They are added to what an update holds while the pass is in the layers, `update_memory`. The head's gradient comes
    first: it stands beside the logits, then beside its copy that is summed. A head that is the embedding is summed
    last, and so its gradient stands beside a layer's; at the end only its weights and gradients are left.
    """
    if shard != "layer" or work.adapters:
        return {}
    weights, trained, head = work.pass_bytes, work.trained_bytes, work.head
    in_layers = (weights + trained) * work.shape.body / work.shape.layers
    others, gathered = sum(update_memory.values()), update_memory["gathered weights"]
    if _is_head_apart(work):
        beside_the_copy = others - update_memory["activations"]
        at_the_head = max(2 * weights * head - gathered, (2 * weights + trained) * head - beside_the_copy)
        return {"gradients on their way": max(in_layers, at_the_head)}
    at_the_end = (2 * weights + trained) * head - others
    return {"gradients on their way": max(weights * head + in_layers, at_the_end)}


def _received(work: _Work, shard: str, rollout_passes: int, graph_passes: int) -> float:
    """Bytes that a process would get from others in a step if it held no part itself.

    graph_passes: those of the updates, forward and backward.
    """
    weights, gradients = work.pass_bytes * work.shape.whole, work.trained_bytes * work.trained
    if shard == "layer":
        summed = 2 * work.updates * gradients if work.adapters else graph_passes * gradients
        return rollout_passes * weights + graph_passes * 2 * weights + summed
    gathered = (work.updates + 1) * weights * (shard == "phase")
    return work.updates * gradients * (1 if shard == "phase" and not work.adapters else 2) + gathered


def _held(
    work: _Work, config: Config, algorithm: Algorithm, weight_parts: int, trained_parts: int, shard: str
) -> dict[str, float]:
    """Bytes of weights, gradients, the optimizer's moments (AdamW's two, Muon's one of a matrix) and a reference.

    A gradient is whole before it is summed, but with `layer`, where only a layer's is.
    """
    weights = work.trained_bytes * work.shape.whole / weight_parts
    if work.adapters:
        stored = work.pass_bytes * (work.shape.whole - work.in_four_bits) + BITS / 8 * work.in_four_bits
        weights = stored / weight_parts + work.trained_bytes * work.adapters
    gradient_parts = trained_parts if shard == "layer" else 1
    held = {"weights": weights, "gradients": work.trained_bytes * work.trained / gradient_parts}
    # torchao stores a moment in 8 bits, and for each 256 of them a scale.
    moment_bytes = work.trained_bytes if config.optimizer.adam_moments == "float32" else 1 + 4 / 256
    matrices = work.adapters or work.shape.linear
    moments = 2 * work.trained - matrices * (config.optimizer.optimizer == "muon")
    held["optimizer"] = moment_bytes * moments / trained_parts
    if "reference" in algorithm.needs and config.model.ref_copy:
        held["reference"] = work.trained_bytes * work.shape.whole / weight_parts
    elif "reference" in algorithm.needs and find_adapter(config.model.model):
        held["reference"] = float(work.trained_bytes * work.adapters)
    return held


def _update_memory(work: _Work, config: Config) -> dict[str, float]:
    """Bytes of activations, and of what comes behind them: logits of a chunk, then the embedding's own gradient."""
    shape, lora_r = work.shape, config.model.lora_r
    # What autograd keeps of a layer for each token: the inputs of two norms (never below float32), queries, keys and
    # values, the output of attention, three vectors of the feed-forward part, a row of the mask.
    layer = 2 * work.trained_bytes * shape.width
    layer += work.pass_bytes * (4 * shape.queries + 3 * shape.ffn + work.copy_columns)
    # To that come the inputs of the norms' and linear layers' weights, or with adapters only those of the adapters.
    if work.adapters:
        layer += work.pass_bytes * (2 * shape.width + shape.ffn + 7 * lora_r)
    else:
        layer += work.pass_bytes * (4 * shape.width + shape.ffn)
    # The last layer computes completions alone.
    of_token = layer * (shape.layers - 1 + work.completion_length / work.copy_columns)
    if config.model.gradient_checkpointing:  # the inputs of layers, one layer whole, and gradients inside it
        of_token = shape.layers * shape.width * work.pass_bytes + layer + 3 * shape.ffn * work.pass_bytes
    rows, masks_at_once = work.micro_batch
    activations = float(rows * masks_at_once * work.copy_columns * of_token)
    positions = min(rows_per_chunk(shape.vocabulary), rows * masks_at_once * work.completion_length)
    logits = float(positions * shape.vocabulary * work.logit_bytes)
    head = 0 if work.adapters else work.head
    if work.pass_bytes < work.trained_bytes:  # the head's gradient is summed up in float32, then rounded
        logits += head * (work.trained_bytes + 2 * work.pass_bytes)
    behind = max(logits, head * work.pass_bytes - activations)
    return {"activations": activations, "logits": behind, **_made_whole(work)}


def _made_whole(work: _Work) -> dict[str, float]:
    """Bytes of the linear layer at hand, which is stored in 4 bits and multiplied in the type of a pass."""
    return (
        {"a layer made whole": float(work.pass_bytes * work.shape.largest_linear)}
        if work.in_four_bits
        else {}
    )


def _rollout_memory(work: _Work, sampling: Sampling, rows: int) -> dict[str, float]:
    """Bytes of a rollout's pass of some rows, of the cache beside it, and of adapters in the type of a pass."""
    shape, block_logits = work.shape, sampling.block_length * work.shape.vocabulary
    copies = 2 if sampling.temperature > 0 else 0  # noise, and its difference from the logits
    logit_bytes = work.logit_bytes + copies * work.trained_bytes
    logits = min(rows, max(1, 2**26 // block_logits)) * block_logits * logit_bytes
    layer = rows * work.columns * 3 * (shape.width + shape.ffn) * work.pass_bytes
    memory = {"pass": float(max(logits, layer))}
    if sampling.cache != "none":
        memory["cache"] = float(rows * work.columns * work.column_bytes)
    if work.pass_bytes < work.trained_bytes and work.adapters:
        memory["adapters"] = float(work.pass_bytes * work.adapters)
    return memory | _made_whole(work)


def _flops(work: _Work, computed: int, seen: int) -> float:
    """Floating-point operations of the layers for `computed` columns of a row, each of which sees `seen` columns.

    For each column they are two for each weight, and four for each number of a query and each column seen.
    """
    weights = work.shape.active + work.adapters
    return computed * (2.0 * weights + 4 * work.shape.queries * work.shape.layers * seen)


def _row_seconds(work: _Work, sampling: Sampling, rows: int, device: Device) -> tuple[float, str]:
    """Seconds of a rollout for each completion, `rows` at a time, and what limits most of them."""
    shape, seconds = work.shape, Counter[str]()
    starts = shape.layers * (START + START_ADAPTERS * (work.adapters > 0)) * device.starts
    for computed, seen, masked in passes(sampling, work.prompt_length, shape.pattern):
        flops = rows * (_flops(work, computed, seen) + 2 * masked * work.head)
        moved = _weights_read(work) + rows * (seen - computed) * work.column_bytes
        seconds.update(_pass_seconds(work, flops, moved, starts, device))
    return seconds.total() / rows, seconds.most_common(1)[0][0]


def _weights_read(work: _Work) -> float:
    """Bytes of the weights that every pass reads, those that were stored in 4 bits once more."""
    return work.pass_bytes * (work.shape.whole - work.head) + work.trained_bytes * work.adapters


def _pass_seconds(work: _Work, flops: float, moved: float, starts: float, device: Device) -> Counter[str]:
    """Seconds of a pass, under the name of the limit that takes longest, for which the others wait.

    flops, moved, starts: operations, bytes, and seconds in which the host starts kernels. Weights in 4 bits are made
    whole by a kernel of its own, which computes next to nothing and whose seconds are memory's.
    """
    limits = {
        "arithmetic": flops / device.rate(work.pass_bytes),
        "memory": moved / device.bandwidth,
        "the host": starts,
    }
    longest = max(limits, key=limits.__getitem__)
    making_whole = (BITS / 8 + work.pass_bytes) * work.in_four_bits / device.bandwidth
    return Counter({"memory": making_whole}) + Counter({longest: limits[longest]})


def _update_seconds(work: _Work, config: Config, algorithm: Algorithm, device: Device) -> tuple[float, str]:
    """Seconds of the updates for each completion, and what limits most of them."""
    # Passes of a masked copy: forward one, backward two or, where weights are frozen, one, recomputing one; then those
    # of reference, coupled loss and old logps, and that of copies which a loss compares and which do not fit at once.
    count = 2.0 + (not work.adapters) + config.model.gradient_checkpointing
    count += ("reference" in algorithm.needs) + (algorithm.compares == "update")
    count += ("old" in algorithm.needs) * (work.updates - 1) / work.updates
    count += (algorithm.compares not in ("copy", "update")) * (1 - work.micro_batch[1] / work.masks)
    rows = prod(work.micro_batch)
    starts = work.shape.layers * START_UPDATE / 2 * device.starts  # forward and backward count as two passes
    flops = rows * _flops(work, work.copy_columns, work.copy_columns)
    of_pass = _pass_seconds(work, flops, _weights_read(work), starts, device)
    # Half of the tokens are scored, in four products.
    head = 4 * work.completion_length * work.head / device.rate(work.pass_bytes)
    of_copy = Counter({limit: count * seconds / rows for limit, seconds in of_pass.items()})
    of_copy.update({"arithmetic": head})
    return work.masks * config.batch.num_iterations * of_copy.total(), of_copy.most_common(1)[0][0]
