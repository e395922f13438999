"""The memory of each process and the seconds of a step, estimated from a model's shape and the settings alone.

`estimate` adds up the tensors that this trainer holds at the highest points of an update and of a rollout. The seconds
are a roofline: a pass takes as long as the slowest of its arithmetic, its reads from memory and the starting of its
kernels. `Device` says what is assumed of a card; all completions are taken to have full length. benchmarks/memory.py
compares the memory with measured peaks.
"""

from collections import Counter
from dataclasses import dataclass
from typing import Any, NamedTuple

from spg_trainer.algorithms import Algorithm
from spg_trainer.architecture.shape import Shape, count_lora, shape_of
from spg_trainer.likelihood.logps import chunks_to_keep, rows_per_chunk
from spg_trainer.rollout.cache import POSITIONS_PER_THREAD
from spg_trainer.rollout.draw import MAX_LOGITS
from spg_trainer.rollout.passes import passes
from spg_trainer.settings.adapters import find_adapter
from spg_trainer.settings.decoding import Sampling
from spg_trainer.settings.fields import Config
from spg_trainer.training.cards import CARDS, Device
from spg_trainer.training.micro_batches import micro_batch_size, rows_of_a_pass

PROMPT = 200
"""Tokens of a prompt where nobody says how many."""
BITS = 4.127
"""Bits of a weight under --load-4bit: 4 of its own, and a 64th of the 8-bit scale that 64 weights share (256 such
scales share one of 32 bits)."""
BYTES = {"bfloat16": 2, "float32": 4, "float64": 8}
START = 1.4e-3
"""Seconds in which Python starts the kernels of a layer in a pass without autograd, as measured beside an H100."""
START_ADAPTERS = 0.5e-3
"""Seconds by which that takes longer in a layer that has adapters."""
START_UPDATE = 4.7e-3
"""Seconds in which Python starts the kernels of a layer in a pass forward and backward."""


@dataclass(frozen=True)
class Estimate:
    """What each process needs: {tensors: bytes that they take}, and {what is done in a step: seconds that it takes}."""

    held: dict[str, float]
    """Bytes of what stays from one step to the next, and under `gradients` of those that only the updates hold."""
    update: dict[str, float]
    """Bytes that are added to `held` while gradients are computed."""
    rollout: dict[str, float]
    """Bytes that are added to `held`, less its gradients, while completions are sampled."""
    optimizer_step: float
    """Bytes that are added to `held` while the optimizer steps."""
    seconds: dict[str, float]
    """Seconds of a step: of its `rollout`, of all its updates (`update`), and of waiting for other processes (`links`).
    """
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
    """The sizes and counts that all parts of an estimate start from. Weights are counted, not bytes."""

    shape: Shape
    adapters: int
    """Weights of LoRA's adapters; 0 where all weights are trained."""
    trained: int
    """Weights that are trained: the adapters, or the whole model."""
    in_four_bits: float
    """Weights that are stored in 4 bits, and that each pass converts to its own type, a layer at a time."""
    pass_bytes: int
    """Bytes of a number in a pass: 2 in bfloat16."""
    trained_bytes: int
    """Bytes of a number where bfloat16 is too coarse, such as a trained weight or a probability: 4, in float64 8."""
    prompt_length: int
    completion_length: int
    copy_columns: int
    """Columns of a masked copy at most: prompt and completion, or more where its blocks are shown twice."""
    column_bytes: int
    """Bytes of the keys and values of one column of a row: 512 KiB for LLaDA-8B in bfloat16."""
    masks: int
    """Masked copies of a completion, M."""
    masks_at_once: int
    """How many of these go through the model together."""
    copies_at_once: int
    """Masked copies of all completions of a micro-batch that go through the model together."""
    updates: int
    """Optimizer steps of a training step."""

    @property
    def columns(self) -> int:
        """Tokens of a prompt and its completion."""
        return self.prompt_length + self.completion_length

    @property
    def head(self) -> int:
        """Weights of the output layer; the embedding has as many."""
        return self.shape.vocabulary * self.shape.width

    @property
    def is_head_apart(self) -> bool:
        """Whether head and embedding are two tensors, not one and the same."""
        return self.shape.ends > self.head

    @property
    def layer(self) -> float:
        """Weights of one layer."""
        return self.shape.body / self.shape.layers

    @property
    def logit_bytes(self) -> int:
        """Bytes of a logit: if it is converted from a narrower type, it is there in both."""
        if self.pass_bytes < self.trained_bytes:
            return self.pass_bytes + self.trained_bytes
        return self.trained_bytes


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
    least. shard: as --shard. cpu_threads: those of a CPU, 0 = the run is on an accelerator. device: the card whose
    speed the seconds assume.
    """
    work = _work_of(model, config, algorithm, dtype, prompt_length)
    batch, sampling = config.batch, config.rollout
    # Those of one process, rounded up.
    completions = -(-batch.prompts_per_step * batch.num_generations // processes)
    rows_at_once = min(completions, _rows_at_once(work, config, cpu_threads))
    weight_parts = 1 if shard == "none" else processes
    trained_parts = 1 if work.adapters else weight_parts  # each process has all adapters
    passes_of_a_row = sum(1 for _ in passes(sampling, prompt_length, work.shape.pattern))
    rollout_passes = passes_of_a_row * -(-completions // rows_at_once)
    passes_of_an_iteration = -(-completions * work.masks // work.copies_at_once)
    graph_passes = passes_of_an_iteration * batch.num_iterations  # forward and backward
    update_memory = _update_memory(work, config) | _gathered(work, shard)
    rollout_seconds, rollout_bound = _row_seconds(work, sampling, rows_at_once, device)
    update_seconds, update_bound = _update_seconds(work, config, algorithm, device)
    # Of everything that is exchanged, a process has one part in `processes` itself.
    received = _exchanged(work, shard, rollout_passes, graph_passes) * (1 - 1 / processes)
    return Estimate(
        held=_held(work, config, algorithm, weight_parts, trained_parts, shard),
        update=update_memory | _gradients_of_a_layer(work, shard, update_memory),
        rollout=_rollout_memory(work, sampling, rows_at_once) | _gathered(work, shard, in_rollout=True),
        optimizer_step=_optimizer_memory(work, trained_parts, on_cpu=cpu_threads > 0),
        seconds={
            "rollout": rollout_seconds * completions,
            "update": update_seconds * completions,
            "links": received / device.link,
        },
        bound={"rollout": rollout_bound, "update": update_bound},
        per_completion=rollout_seconds,
    )


def _work_of(model: Any, config: Config, algorithm: Algorithm, dtype: str, prompt_length: int) -> _Work:
    """What these settings compute with a model; arguments as for `estimate`."""
    batch, m, length = config.batch, config.model, config.rollout.max_completion_length
    pass_bytes = BYTES[dtype]
    shape = shape_of(model)
    adapters = count_lora(model, m.lora_r, experts=m.lora_experts)
    masks = algorithm.make_masking().count(length)
    completions_at_once, masks_at_once = micro_batch_size(batch.per_device_batch_size, masks)
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
        masks_at_once=masks_at_once,
        copies_at_once=completions_at_once * masks_at_once,
        updates=batch.num_iterations * batch.num_minibatches,
    )


def _rows_at_once(work: _Work, config: Config, cpu_threads: int) -> int:
    """How many completions a rollout samples together, if there are as many."""
    if not cpu_threads:
        return rows_of_a_pass(config)
    # With a cache most passes compute a block, without one all columns.
    columns = work.columns if config.rollout.cache == "none" else config.rollout.block_length
    return max(1, POSITIONS_PER_THREAD * cpu_threads // columns)


def _gathered(work: _Work, shard: str, in_rollout: bool = False) -> dict[str, float]:
    """Bytes of the weights that a process gathers from all others for a while; nothing where they are not divided.

    With `phase` these are all weights. With `layer` they are two layers, or in their place the head, at the end of a
    pass. A head that is the embedding too is there from the beginning of a pass, beside the layers.
    """
    if shard == "phase":
        return {"gathered weights": float(work.pass_bytes * work.shape.whole)}
    if shard == "layer":
        in_layers = 2 * work.layer if work.is_head_apart else work.head + 2 * work.layer
        # A head that is being gathered is there twice: as its parts come in, and put together. In an update, that is
        # not the highest point.
        at_the_head = 2 * work.head if in_rollout else work.head
        return {"gathered weights": work.pass_bytes * max(in_layers, at_the_head)}
    return {}


def _gradients_of_a_layer(work: _Work, shard: str, update_memory: dict[str, float]) -> dict[str, float]:
    """Bytes of the gradients that a backward pass has not summed over the processes yet, with `layer`.

    update_memory: what an update holds besides, while the pass is in the layers. The head's gradient comes when some of
    that is gone, so it counts by how much that moment exceeds `update_memory`.
    """
    if shard != "layer" or work.adapters:
        return {}
    head_weights = head_gradient = work.pass_bytes * work.head
    summed_copy_of_head_gradient = work.trained_bytes * work.head
    # A layer's gradients as the pass has computed them, and their float32 copy, in which they are summed.
    in_layers = (work.pass_bytes + work.trained_bytes) * work.shape.body / work.shape.layers
    all_besides = sum(update_memory.values())
    head_alone = head_weights + head_gradient + summed_copy_of_head_gradient
    if work.is_head_apart:
        # First the head's gradient stands beside the logits; no layer is gathered then.
        beside_logits = head_weights + head_gradient - update_memory["gathered weights"]
        # Then the logits are gone, and it is summed beside the activations.
        beside_activations = head_alone - (all_besides - update_memory["activations"])
        return {"gradients on their way": max(in_layers, beside_logits, beside_activations)}
    # The gradient of a head that is the embedding too stays beside those of layers, and is summed last, when nothing
    # else is left.
    return {"gradients on their way": max(head_gradient + in_layers, head_alone - all_besides)}


def _exchanged(work: _Work, shard: str, rollout_passes: int, graph_passes: int) -> float:
    """Bytes that the processes exchange in a step: what one of them would get if it had no part of its own.

    graph_passes: those of the updates, forward and backward.
    """
    weights = work.pass_bytes * work.shape.whole
    gradients = work.trained_bytes * work.trained
    # Where each process needs the whole sum of the gradients, its parts are summed first, and then sent to all.
    all_reduced = 2 * work.updates * gradients
    if shard == "layer":
        # Each pass gathers the weights of every layer; with a graph, once forward and once backward, and then each
        # backward pass sums the gradients of the parts.
        gathered = (rollout_passes + 2 * graph_passes) * weights
        return gathered + (all_reduced if work.adapters else graph_passes * gradients)
    if shard == "phase":
        gathered = (1 + work.updates) * weights  # once for the rollout, and once for each update
        return gathered + (all_reduced if work.adapters else work.updates * gradients)
    return all_reduced


def _held(
    work: _Work, config: Config, algorithm: Algorithm, weight_parts: int, trained_parts: int, shard: str
) -> dict[str, float]:
    """Bytes of weights, gradients, the optimizer's moments and a reference.

    weight_parts, trained_parts: among how many processes all weights, and those that are trained, are divided.
    """
    held = {}
    if work.adapters:
        in_pass_type = work.pass_bytes * (work.shape.whole - work.in_four_bits)
        stored = in_pass_type + BITS / 8 * work.in_four_bits
        held["weights"] = stored / weight_parts + work.trained_bytes * work.adapters
    else:
        held["weights"] = work.trained_bytes * work.shape.whole / weight_parts
    # Gradients are whole until they are summed. With `layer` each layer's are summed at once, and only a part stays.
    gradient_parts = trained_parts if shard == "layer" else 1
    held["gradients"] = work.trained_bytes * work.trained / gradient_parts
    moments = 2 * work.trained  # AdamW has two of each weight
    if config.optimizer.optimizer == "muon":
        matrices = work.adapters or work.shape.linear
        moments -= matrices  # Muon has one of each weight of a matrix
    # torchao stores a moment in 8 bits, and for each 256 of them a scale of 4 bytes.
    moment_bytes = work.trained_bytes if config.optimizer.adam_moments == "float32" else 1 + 4 / 256
    held["optimizer"] = moment_bytes * moments / trained_parts
    if "reference" in algorithm.needs and config.model.ref_copy:
        held["reference"] = work.trained_bytes * work.shape.whole / weight_parts
    elif "reference" in algorithm.needs and find_adapter(config.model.model):
        # The model is an adapter that was trained before: as the reference, a copy of it stays. Fresh adapters need no
        # copy, since the model without them is the reference.
        held["reference"] = float(work.trained_bytes * work.adapters)
    return held


def _optimizer_memory(work: _Work, trained_parts: int, on_cpu: bool) -> float:
    """Bytes of the square roots of second moments, by which AdamW divides.

    An accelerator computes those of all weights at once, a CPU those of one tensor after the other: two of the largest
    are there at once at most. Adapters are so small that a CPU's are not counted.
    """
    if not on_cpu:
        roots = work.trained / trained_parts
    elif work.adapters:
        roots = 0
    else:
        roots = 2 * work.shape.largest
    return work.trained_bytes * roots


def _update_memory(work: _Work, config: Config) -> dict[str, float]:
    """Bytes of a pass forward and backward: `activations`, which autograd keeps, and what comes at its ends, `logits`.

    The ends are the logits of a chunk with the head's gradient, and the embedding's gradient.
    """
    shape, lora_r = work.shape, config.model.lora_r
    # What autograd keeps of one layer, in bytes for each column:
    layer = work.trained_bytes * 2 * shape.width  # the inputs of two norms, never below float32
    layer += work.pass_bytes * 4 * shape.queries  # queries, keys, values and the output of attention
    layer += work.pass_bytes * 3 * shape.ffn  # the gate, the activated gate and the up projection
    layer += work.pass_bytes * work.copy_columns  # the column's row of the attention mask
    if work.adapters:
        # The inputs of adapters: of attention's and of the feed-forward part's, of its last layer's, and seven of rank
        # r between the two matrices of each.
        layer += work.pass_bytes * (2 * shape.width + shape.ffn + 7 * lora_r)
    else:
        # The inputs of weights: of two norms' and of the linear layers behind them, and of the last linear layer.
        layer += work.pass_bytes * (4 * shape.width + shape.ffn)
    if config.model.gradient_checkpointing:
        column = work.pass_bytes * shape.layers * shape.width  # the inputs of all layers
        column += layer  # one layer whole
        column += work.pass_bytes * 3 * shape.ffn  # gradients inside it
    else:
        share_of_last_layer = work.completion_length / work.copy_columns  # it computes completions alone
        column = layer * (shape.layers - 1 + share_of_last_layer)
    activations = float(work.copies_at_once * work.copy_columns * column)
    trained_head = 0 if work.adapters else work.head
    rows_of_logits = rows_per_chunk(shape.vocabulary)
    if trained_head:
        rows_of_logits *= chunks_to_keep(trained_head * work.pass_bytes, shape.vocabulary, work.logit_bytes)
    positions = min(rows_of_logits, work.copies_at_once * work.completion_length)
    logits = float(positions * shape.vocabulary * work.logit_bytes)
    if work.pass_bytes < work.trained_bytes:
        # The head's gradient: the sum over chunks in float32, and in a pass's type that of a chunk and the rounded sum.
        logits += trained_head * (work.trained_bytes + 2 * work.pass_bytes)
    # When the embedding's gradient is made, last of all, the activations are gone.
    embedding_gradient = trained_head * work.pass_bytes - activations
    return {"activations": activations, "logits": max(logits, embedding_gradient), **_unpacked_layer(work)}


def _unpacked_layer(work: _Work) -> dict[str, float]:
    """Bytes of the linear layer at hand, which is stored in 4 bits and multiplied in the type of a pass."""
    if not work.in_four_bits:
        return {}
    return {"a layer made whole": float(work.pass_bytes * work.shape.largest_linear)}


def _rollout_memory(work: _Work, sampling: Sampling, rows_at_once: int) -> dict[str, float]:
    """Bytes of a rollout's pass over so many completions, of its cache, and of adapters in the type of a pass."""
    shape = work.shape
    logits_of_a_row = sampling.block_length * shape.vocabulary
    rows_of_logits = min(rows_at_once, max(1, MAX_LOGITS // logits_of_a_row))
    # With a temperature there are the noise, and the logits from which it is subtracted.
    noise_bytes = 2 * work.trained_bytes if sampling.temperature > 0 else 0
    logits = rows_of_logits * logits_of_a_row * (work.logit_bytes + noise_bytes)
    # In a layer, three tensors are as wide as the model, and three as its feed-forward part.
    layer = rows_at_once * work.columns * 3 * (shape.width + shape.ffn) * work.pass_bytes
    memory = {"pass": float(max(logits, layer))}
    if sampling.cache != "none":
        memory["cache"] = float(rows_at_once * work.columns * work.column_bytes)
    if work.pass_bytes < work.trained_bytes and work.adapters:
        memory["adapters"] = float(work.pass_bytes * work.adapters)
    return memory | _unpacked_layer(work)


def _flops(work: _Work, computed: int, seen: int) -> float:
    """Floating-point operations of the layers for `computed` columns of a row, each of which sees `seen` columns.

    For each column they are two for each weight that it meets; and in attention, for each column seen and each number
    of a query, two for the score and two for the weighted sum of values.
    """
    weights = work.shape.active + work.adapters
    return computed * (2.0 * weights + 4 * work.shape.queries * work.shape.layers * seen)


def _row_seconds(work: _Work, sampling: Sampling, rows_at_once: int, device: Device) -> tuple[float, str]:
    """Seconds of a rollout for each completion, `rows_at_once` at a time, and what limits most of them."""
    shape, seconds = work.shape, Counter[str]()
    start = START + START_ADAPTERS if work.adapters else START
    host_seconds = shape.layers * start * device.starts
    # Of each pass over a row: the columns computed, those seen, and the masked tokens that get logits.
    for computed, seen, masked in passes(sampling, work.prompt_length, shape.pattern):
        logit_flops = 2 * masked * work.head
        flops = rows_at_once * (_flops(work, computed, seen) + logit_flops)
        cached = seen - computed  # columns whose keys and values are read from the cache
        bytes_read = _weights_read(work) + rows_at_once * cached * work.column_bytes
        seconds.update(_pass_seconds(work, flops, bytes_read, host_seconds, device))
    return seconds.total() / rows_at_once, seconds.most_common(1)[0][0]


def _weights_read(work: _Work) -> float:
    """Bytes of the weights that a pass reads: layers, head and adapters; of the embedding it only looks up rows."""
    return work.pass_bytes * (work.shape.body + work.head) + work.trained_bytes * work.adapters


def _pass_seconds(
    work: _Work, flops: float, bytes_read: float, host_seconds: float, device: Device
) -> Counter[str]:
    """Seconds of a pass, under the names of what limits them: the slowest of three, for which the others wait.

    host_seconds: those in which the host starts kernels.
    """
    seconds = {
        "arithmetic": flops / device.rate(work.pass_bytes),
        "memory": bytes_read / device.bandwidth,
        "the host": host_seconds,
    }
    slowest = max(seconds, key=seconds.__getitem__)
    # Before that, kernels of their own read weights in 4 bits and write them in the type of a pass.
    unpacking = (BITS / 8 + work.pass_bytes) * work.in_four_bits / device.bandwidth
    return Counter({"memory": unpacking}) + Counter({slowest: seconds[slowest]})


def _update_seconds(work: _Work, config: Config, algorithm: Algorithm, device: Device) -> tuple[float, str]:
    """Seconds of the updates for each completion, and what limits most of them."""
    # So many times the layers compute each masked copy, where a backward pass to inputs or to weights counts as once:
    passes_of_copy = 2.0  # forward, and backward to the inputs
    if not work.adapters:
        passes_of_copy += 1  # backward to the weights
    if config.model.gradient_checkpointing:
        passes_of_copy += 1  # forward again, for the activations that were not kept
    if "reference" in algorithm.needs:
        passes_of_copy += 1  # the reference's logps
    if algorithm.compares == "update":
        passes_of_copy += 1  # the logps of a coupled loss, before its gradient is known
    if "old" in algorithm.needs:
        passes_of_copy += (work.updates - 1) / work.updates  # old logps, in all updates but the first
    if algorithm.compares not in ("copy", "update"):
        # Of copies that a loss compares and that do not fit at once, all but the last part are scored before.
        passes_of_copy += 1 - work.masks_at_once / work.masks
    # Of a pass forward and backward one half, because `passes_of_copy` counts it as two.
    host_seconds = work.shape.layers * START_UPDATE / 2 * device.starts
    flops = work.copies_at_once * _flops(work, work.copy_columns, work.copy_columns)
    of_pass = _pass_seconds(work, flops, _weights_read(work), host_seconds, device)
    of_copy = Counter(
        {limit: passes_of_copy * seconds / work.copies_at_once for limit, seconds in of_pass.items()}
    )
    # The output layer makes at most four products, each of two operations for a weight: logits, these again in the
    # backward pass but for its last chunks, and the gradients of states and of weights. On average half of a
    # completion's tokens are scored.
    head_flops = 4 * work.completion_length * work.head
    of_copy.update({"arithmetic": head_flops / device.rate(work.pass_bytes)})
    return work.masks * config.batch.num_iterations * of_copy.total(), of_copy.most_common(1)[0][0]
