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
from spg_trainer.settings.fields import Config, Sampling
from spg_trainer.training.cards import CARDS, Device
from spg_trainer.training.micro_batches import micro_batch_size, rows_of_a_pass

PROMPT = 200
"""Tokens of a prompt where nobody says how many."""
BITS = 4.127
"""Of a weight under --load-4bit: 4, and the scale of each 64 weights, which is stored in 8 bits."""
BYTES = {"bfloat16": 2, "float32": 4, "float64": 8}
START, START_ADAPTERS, START_UPDATE = 1.4e-3, 0.5e-3, 4.7e-3
"""Seconds in which Python starts the kernels of a layer, measured beside an H100: in a pass without a graph, for its
adapters besides, and in a pass forward and backward."""


@dataclass(frozen=True)
class Estimate:
    """What each process needs: bytes by what holds them, seconds of a step by what takes them."""

    held: dict[str, float]
    """From one step to the next, but gradients, which the updates alone hold."""
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
    """Weights of LoRA's, and all that are trained: these, or the whole."""
    trained: int
    linear: float
    """Weights that are stored in 4 bits, and made whole in each pass."""
    bytes: int
    """Of a number in a pass, and of one that is trained."""
    wide: int
    prompt: int
    length: int
    """Tokens of a prompt and of a completion."""
    copy: int
    """Columns of a masked copy at most."""
    column_bytes: int
    """Of the keys and values of one column of a row: 512 KiB for LLaDA-8B in bfloat16."""
    masks: int
    updates: int
    micro_batch: tuple[int, int]
    """Completions that go through the model together, and how many masks of them."""


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
    batch, m, length = config.batch, config.model, config.rollout.max_completion_length
    masks, bytes = algorithm.make_masking().count(length), BYTES[dtype]
    shape, adapters = shape_of(model), count_lora(model, m.lora_r, experts=m.lora_experts)
    n = _Work(
        shape=shape,
        adapters=adapters,
        trained=adapters or shape.whole,
        linear=shape.linear if m.load_4bit else 0,
        bytes=bytes,
        wide=max(4, bytes),
        prompt=prompt_length,
        length=length,
        copy=shape.pattern.copy_width(prompt_length, length),
        column_bytes=2 * shape.layers * shape.keys * bytes,
        masks=masks,
        micro_batch=micro_batch_size(batch.per_device_batch_size, masks),
        updates=batch.num_iterations * batch.num_minibatches,
    )
    completions = -(-batch.prompts_per_step * batch.num_generations // processes)
    width = (n.prompt + n.length) if config.rollout.cache == "none" else config.rollout.block_length
    on_cpu = POSITIONS_PER_THREAD * cpu_threads // width
    rows = max(1, min(on_cpu if cpu_threads else rows_of_a_pass(config), completions))
    divided = 1 if shard == "none" else processes
    parts = 1 if n.adapters else divided  # of what is trained: adapters are not divided
    stepped = 2 * (0 if n.adapters else shape.largest) if cpu_threads else n.trained / parts
    calls = len(list(passes(config.rollout, n.prompt, shape.pattern))) * -(-completions // rows)
    live = -(-completions * masks // prod(n.micro_batch)) * batch.num_iterations
    needed = _update_memory(n, config) | _gathered(n, shard)
    rollout, rollout_bound = _row_seconds(n, config.rollout, rows, device)
    update, update_bound = _update_seconds(n, config, algorithm, device)
    return Estimate(
        held=_held(n, config, algorithm, divided, parts, shard),
        update=needed | _gradients_of_a_layer(n, shard, sum(needed.values())),
        rollout=_rollout_memory(n, config.rollout, rows) | _gathered(n, shard, in_rollout=True),
        optimizer_step=n.wide * stepped,  # roots of second moments: of a tensor at a time, or of all
        seconds={
            "rollout": rollout * completions,
            "update": update * completions,
            "links": _received(n, shard, calls, live) * (1 - 1 / processes) / device.link,
        },
        bound={"rollout": rollout_bound, "update": update_bound},
        per_completion=rollout,
    )


def _gathered(n: _Work, shard: str, in_rollout: bool = False) -> dict[str, float]:
    """Weights that are whole for a while: all of them in a phase; in a pass the head and two layers.

    An embedding apart from the head is gathered before the layers: as it comes from the others, and put together.
    """
    layer, head = n.bytes * n.shape.body / n.shape.layers, float(n.bytes * n.shape.vocabulary * n.shape.width)
    first = n.bytes * n.shape.ends if in_rollout else 0  # an update is at its highest point when that is gone
    of = {"phase": float(n.bytes * n.shape.whole), "layer": head + max(2 * layer, first)}
    return {"gathered weights": of[shard]} if shard in of else {}


def _gradients_of_a_layer(n: _Work, shard: str, others: float) -> dict[str, float]:
    """Where each backward pass sums: the head's, which comes first and is summed last, and a layer's on its way.

    others: bytes beside them. At the end of the backward pass, the ends have weights and gradients alone.
    """
    if shard != "layer" or n.adapters:
        return {}
    layer, head = n.shape.body / n.shape.layers, n.shape.vocabulary * n.shape.width
    at_the_end = 2 * n.bytes * n.shape.ends + n.wide * head
    inside = n.bytes * head + (n.bytes + n.wide) * layer
    return {"gradients on their way": max(inside, at_the_end - others)}


def _received(n: _Work, shard: str, calls: int, live: int) -> float:
    """Bytes that a process gets from others in a step, were its own part among them.

    calls: of the model in a rollout. live: passes with a graph, forward and backward.
    """
    whole, trained = n.bytes * n.shape.whole, n.wide * n.trained
    if shard == "layer":
        summed = 2 * n.updates * trained if n.adapters else live * trained
        return calls * whole + live * 2 * whole + summed
    gathered = (n.updates + 1) * whole * (shard == "phase")
    return n.updates * trained * (1 if shard == "phase" and not n.adapters else 2) + gathered


def _held(
    n: _Work, config: Config, algorithm: Algorithm, share: int, parts: int, shard: str
) -> dict[str, float]:
    """Weights, their gradient and AdamW's two moments, or Muon's one of a matrix; a gradient is whole before it is
    summed, or only a layer's."""
    whole = n.shape.whole
    stored = n.bytes * (whole - n.linear) + BITS / 8 * n.linear
    weights = stored / share + n.wide * n.adapters if n.adapters else n.wide * whole / share
    moment = n.wide if config.optimizer.adam_moments == "float32" else 1 + 4 / 256  # torchao: a scale for 256
    kept = parts if shard == "layer" else 1
    held = {"weights": weights, "gradients": n.wide * n.trained / kept}
    matrices = n.adapters or n.shape.linear
    moments = 2 * n.trained - matrices * (config.optimizer.optimizer == "muon")
    held["optimizer"] = moment * moments / parts
    copied = config.model.ref_copy
    if "reference" in algorithm.needs and (copied or find_adapter(config.model.model)):
        held["reference"] = n.wide * whole / share if copied else float(n.wide * n.adapters)
    return held


def _update_memory(n: _Work, config: Config) -> dict[str, float]:
    """Activations; logits of a chunk, or the embedding's gradient of its own, which comes when they are gone."""
    s, r = n.shape, config.model.lora_r
    # What autograd keeps of a layer for each token: the inputs of two norms (never below float32), queries, keys and
    # values, the output of attention, three vectors of the feed-forward part, a row of the mask; besides,
    layer = 2 * n.wide * s.width + n.bytes * (4 * s.queries + 3 * s.ffn + n.copy)
    if not n.adapters:  # what norms and linear layers are multiplied with,
        layer += n.bytes * (4 * s.width + s.ffn)
    else:  # or only what adapters are.
        layer += n.bytes * (2 * s.width + s.ffn + 7 * r)
    live = layer * (s.layers - 1 + n.length / n.copy)  # the last layer computes completions alone
    if config.model.gradient_checkpointing:  # the inputs of layers, one layer whole, and gradients inside it
        live = s.layers * s.width * n.bytes + layer + 3 * s.ffn * n.bytes
    rows, masks_at_once = n.micro_batch
    activations = float(rows * masks_at_once * n.copy * live)
    chunk = min(rows_per_chunk(s.vocabulary), rows * masks_at_once * n.length) * s.vocabulary
    logits = float(chunk * (n.wide + n.bytes * (n.bytes < n.wide)))
    ends = 0 if n.adapters else s.width * s.vocabulary
    # Below float32 the head's gradient is summed up in float32, then rounded.
    logits += (n.bytes < n.wide) * ends * (n.wide + 2 * n.bytes)
    needed = {"activations": activations, "logits": max(logits, ends * n.bytes - activations)}
    return needed | _made_whole(n)


def _made_whole(n: _Work) -> dict[str, float]:
    """The linear layer at hand, which is stored in 4 bits and multiplied in the type of a pass."""
    return {"a layer made whole": float(n.bytes * n.shape.largest_linear)} if n.linear else {}


def _rollout_memory(n: _Work, sampling: Sampling, rows: int) -> dict[str, float]:
    s, of_row = n.shape, sampling.block_length * n.shape.vocabulary
    copies = 3 if sampling.temperature > 0 else 1  # noise, and its difference from the logits
    logits = min(rows, max(1, 2**26 // of_row)) * of_row * (copies * n.wide + n.bytes * (n.bytes < n.wide))
    memory = float(max(logits, rows * (n.prompt + n.length) * 3 * (s.width + s.ffn) * n.bytes))
    kept = {} if sampling.cache == "none" else {"cache": float(rows * (n.prompt + n.length) * n.column_bytes)}
    if n.bytes < n.wide and n.adapters:  # in the type of the layers beside them
        kept["adapters"] = float(n.bytes * n.adapters)
    return {"pass": memory, **kept, **_made_whole(n)}


def _flops(n: _Work, computed: int, seen: int) -> float:
    """Of a row in the layers: two for each weight and column, four for each number of a query and each column seen."""
    return computed * (2.0 * (n.shape.active + n.adapters) + 4 * n.shape.queries * n.shape.layers * seen)


def _row_seconds(n: _Work, sampling: Sampling, rows: int, device: Device) -> tuple[float, str]:
    """Of a completion, `rows` at a time, and what limits most of them."""
    s, seconds = n.shape, Counter[str]()
    starts = s.layers * (START + START_ADAPTERS * (n.adapters > 0)) * device.starts
    for computed, seen, masked in passes(sampling, n.prompt, s.pattern):
        flops = rows * (_flops(n, computed, seen) + 2 * masked * s.vocabulary * s.width)
        moved = _weights_read(n) + rows * (seen - computed) * n.column_bytes
        seconds.update(_pass_seconds(n, flops, moved, starts, device))
    return seconds.total() / rows, seconds.most_common(1)[0][0]


def _weights_read(n: _Work) -> float:
    """Bytes of the weights that every pass reads, those that were stored in 4 bits once more."""
    return n.bytes * (n.shape.whole - n.shape.width * n.shape.vocabulary) + n.wide * n.adapters


def _pass_seconds(n: _Work, flops: float, moved: float, starts: float, device: Device) -> Counter[str]:
    """Of a pass, by what takes longest, for which the others wait.

    Weights in 4 bits are made whole by a kernel of its own, which computes next to nothing.
    """
    limits = {
        "arithmetic": flops / device.rate(n.bytes),
        "memory": moved / device.bandwidth,
        "the host": starts,
    }
    longest = max(limits, key=limits.__getitem__)
    whole = (BITS / 8 + n.bytes) * n.linear / device.bandwidth
    return Counter({"memory": whole}) + Counter({longest: limits[longest]})


def _update_seconds(n: _Work, config: Config, algorithm: Algorithm, device: Device) -> tuple[float, str]:
    """Of a completion, and what limits most of them.

    A backward pass is two passes, one where weights are frozen; to recompute is one more.
    """
    count = 2.0 + (not n.adapters) + config.model.gradient_checkpointing
    count += ("reference" in algorithm.needs) + (algorithm.compares == "update")
    count += ("old" in algorithm.needs) * (n.updates - 1) / n.updates
    count += (algorithm.compares not in ("copy", "update")) * (1 - n.micro_batch[1] / n.masks)
    rows = n.micro_batch[0] * n.micro_batch[1]
    starts = n.shape.layers * START_UPDATE / 2 * device.starts  # forward and backward count as two passes
    seconds = _pass_seconds(n, rows * _flops(n, n.copy, n.copy), _weights_read(n), starts, device)
    # Half of the tokens are scored, in four products.
    head = 4 * n.length * n.shape.vocabulary * n.shape.width / device.rate(n.bytes)
    each = Counter({name: count * took / rows for name, took in seconds.items()})
    each.update({"arithmetic": head})
    return n.masks * config.batch.num_iterations * each.total(), each.most_common(1)[0][0]
