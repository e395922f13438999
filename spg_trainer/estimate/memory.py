"""The memory of each process in a step, estimated from a model's shape and the settings alone.

`step_sizes` says what goes through the model, and how much at once; `step_memory` adds up the tensors that this trainer
holds at the highest points of an update and of a rollout. All completions are taken to have full length.
benchmarks/memory.py compares the estimate with measured peaks.
"""

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

from spg_trainer.algorithms import Algorithm
from spg_trainer.architecture.layers import lora_layers
from spg_trainer.architecture.shape import Shape, adapted_matrices, count_lora, shape_of
from spg_trainer.estimate.canvases import canvas_activations
from spg_trainer.likelihood.logps import chunks_to_keep, rows_per_chunk
from spg_trainer.rollout.cache import POSITIONS_PER_THREAD
from spg_trainer.rollout.draw import MAX_LOGITS
from spg_trainer.settings.configs import AUTO, Config
from spg_trainer.settings.decoding import Sampling
from spg_trainer.settings.model import find_adapter

PROMPT = 200
"""Tokens of a prompt if nothing says how many it has."""
BYTES = {"bfloat16": 2, "float32": 4, "float64": 8}
"""{type of a pass: bytes of a number}."""
TOKENS_OF_A_PASS = 2048
"""A GPU samples at least this many tokens at once. A pass with a cache over few rows takes as long as its kernels take
to start: on an H100, a pass of LLaDA-8B over 8 rows of 32 columns takes as long as one over 24 rows."""


def micro_batch_size(per_device_batch_size: int, num_masks: int) -> tuple[int, int]:
    """(completions of a micro-batch, masks of each that keep a graph for the backward pass at once).

    per_device_batch_size: how many masked copies may keep a graph at once. E.g. with 4 masks, 12 copies are all masks
    of 3 completions, (3, 4); 2 copies are two masks of 1 completion, (1, 2). Taking all masks of a completion together
    scores the fewest copies twice (`likelihood.gradient.accumulate`), and under block-causal attention lets the most
    copies share a clean text.
    """
    return max(1, per_device_batch_size // num_masks), min(per_device_batch_size, num_masks)


def rows_of_a_pass(config: Config) -> int:
    """How many completions a GPU samples at once if `fitting_batch` has not searched for a number.

    The number is four for each copy that may keep a graph in an update, or more if completions are short.
    """
    rows_of_tokens = TOKENS_OF_A_PASS // config.rollout.max_completion_length
    return max(4 * config.batch.per_device_batch_size, rows_of_tokens)


class StepSizes(NamedTuple):
    """The sizes and counts that all parts of an estimate start from. Weights are counted, not bytes."""

    shape: Shape
    adapters: int
    """Weights of LoRA's adapters; 0 where all weights are trained."""
    merged: int
    """Weights below adapters that a rollout multiplies into the base, and keeps a copy of; 0 = it multiplies none."""
    adapted_layers: tuple[str, ...]
    """The linear layers of a transformer layer that have adapters, as `lora_layers` names them."""
    trained: int
    """Weights that are trained: the adapters, or the whole model."""
    own_experts: float
    """Weights of experts that a process keeps with --expert-parallel; 0 without."""
    in_four_bits: float
    """Weights that are stored in 4 bits, and that each pass converts to its own type, a layer at a time."""
    pass_bytes: int
    """Bytes of a number in a pass: 2 in bfloat16."""
    trained_bytes: int
    """Bytes of a number where bfloat16 is too coarse, such as a trained weight or a probability: 4, in float64 8."""
    float32_logits: bool
    """Whether logits are in float32 from the beginning (--float32-logits)."""
    prompt_length: int
    completion_length: int
    copy_columns: int
    """The most columns of a masked copy: prompt and completion. Where attention has blocks, only the blocks that the
    completion touches."""
    text_columns: int
    """Columns of the clean text that copies also see; 0 where attention has no blocks."""
    column_bytes: int
    """Bytes of the keys and values of one column of a row: 512 KiB for LLaDA-8B in bfloat16."""
    masks: int
    """Sequences that carry the masked copies of a completion: M, or fewer where several copies are one sequence
    (block replay, likelihood/logps.py)."""
    masks_at_once: int
    """How many of these go through the model together."""
    copies_at_once: int
    """Masked copies of all completions of a micro-batch that go through the model together."""
    sequence_parallel: int
    """How many processes share the columns of a pass of an update."""
    copies_of_text: int
    """How many of these share a clean text: those of one completion; 1 where each has its own prompt noise."""
    updates: int
    """Optimizer steps of a training step."""
    completions: int
    """Completions of a process in a step, rounded up."""
    rows_at_once: int
    """How many of these the rollout samples together."""

    @property
    def columns(self) -> int:
        """Tokens of a prompt and its completion."""
        return self.prompt_length + self.completion_length

    @property
    def seen_columns(self) -> int:
        """Columns that a masked copy attends to at most."""
        return self.copy_columns + self.text_columns

    @property
    def columns_of_copy(self) -> float:
        """Columns that go through the model for each masked copy: its own, and its share of the text."""
        return self.copy_columns + self.text_columns / self.copies_of_text

    @property
    def own_columns_of_copy(self) -> float:
        """Those of them that a process computes in an update."""
        return self.columns_of_copy / self.sequence_parallel

    @property
    def head(self) -> int:
        """Weights of the output layer; the embedding has as many."""
        return self.shape.vocabulary * self.shape.width

    @property
    def has_own_head(self) -> bool:
        """Whether head and embedding are two tensors, not one and the same."""
        return self.shape.embedding_and_head > self.head

    @property
    def gathered(self) -> int:
        """Weights that --shard divides: all but the experts that --expert-parallel divides."""
        return self.shape.whole - (self.shape.experts if self.own_experts else 0)

    @property
    def layer(self) -> float:
        """Weights of one layer that --shard divides."""
        return (self.gathered - self.shape.embedding_and_head) / self.shape.layers

    @property
    def logit_bytes(self) -> int:
        """Bytes of a logit: if it is converted from a narrower type, it is there in both."""
        if self.pass_bytes < self.trained_bytes and not self.float32_logits:
            return self.pass_bytes + self.trained_bytes
        return self.trained_bytes


def step_sizes(
    model: Any,
    config: Config,
    algorithm: Algorithm,
    *,
    dtype: str = "bfloat16",
    prompt_length: int = PROMPT,
    processes: int = 1,
    cpu_threads: int = 0,
    rows_per_forward: int | None = None,
) -> StepSizes:
    """The sizes of a step of these settings.

    model: the model's configuration; `llada_config()` is LLaDA-8B's. dtype: the type of a pass; trained weights have
    float32 or more. processes: how many share the step. cpu_threads: the threads of the CPU; 0 = the run is on an
    accelerator. rows_per_forward: completions that an accelerator samples at once; None = `rows_of_a_pass` decides.
    """
    batch, model_settings, length = config.batch, config.model, config.rollout.max_completion_length
    pass_bytes, expert_parallel = BYTES[dtype], model_settings.expert_parallel
    shape = shape_of(model)
    targets, experts = model_settings.lora_targets, model_settings.lora_experts
    adapters = count_lora(model, model_settings.lora_r, targets, experts=experts)
    masking = algorithm.make_masking()
    completions_at_once, masks_at_once = micro_batch_size(batch.per_device_batch_size, masking.count(length))
    masks = masking.sequences(length, shape.pattern)
    masks_at_once = min(masks_at_once, masks)
    completions = math.ceil(batch.prompts_per_step * batch.num_generations / processes)
    if cpu_threads:
        # Without a cache a pass computes all columns, with one most passes compute a block.
        columns = prompt_length + length if config.rollout.cache == "none" else config.rollout.block_length
        rows_at_once = max(1, POSITIONS_PER_THREAD * cpu_threads // columns)
    else:
        rows_at_once = rows_per_forward or rows_of_a_pass(config)
    return StepSizes(
        shape=shape,
        adapters=adapters,
        merged=sum(math.prod(matrix) for _, matrix in adapted_matrices(model, targets))
        if model_settings.merge_for_rollouts
        else 0,
        adapted_layers=lora_layers(model, targets, experts=experts) if adapters else (),
        trained=adapters or shape.whole,
        own_experts=shape.experts / expert_parallel if expert_parallel > 1 else 0,
        in_four_bits=shape.linear if model_settings.load_4bit else 0,
        pass_bytes=pass_bytes,
        trained_bytes=max(4, pass_bytes),
        float32_logits=model_settings.float32_logits,
        prompt_length=prompt_length,
        completion_length=length,
        copy_columns=shape.pattern.copy_width(prompt_length, length),
        text_columns=shape.pattern.text_width(prompt_length, length),
        column_bytes=2 * getattr(model, "keys_of_layers", shape.layers * shape.keys) * pass_bytes,
        masks=masks,
        masks_at_once=masks_at_once,
        copies_at_once=completions_at_once * masks_at_once,
        sequence_parallel=model_settings.sequence_parallel,
        copies_of_text=1 if masking.p_mask_prompt else masks_at_once,
        updates=batch.num_iterations * batch.num_minibatches,
        completions=completions,
        rows_at_once=min(completions, rows_at_once),
    )


def arithmetic(config: Config, algorithm: Algorithm, num_processes: int = 1, turns: int = 1) -> str:
    """One line that says what a step does, in numbers. turns: how many an episode has at most.

    E.g. "16 prompts x 6 generations = 96 completions a step; 256 tokens in blocks of 32, 128 denoising steps; ...".
    """
    batch, rollout = config.batch, config.rollout
    num_masks = algorithm.make_masking().count(rollout.max_completion_length)
    micro_batches = "micro-batches of as many completions as fit"
    if batch.per_device_batch_size != AUTO:
        size, _ = micro_batch_size(batch.per_device_batch_size, num_masks)
        micro_batches = f"micro-batches of up to {size} completion{'' if size == 1 else 's'}"
    total = batch.prompts_per_step * batch.num_generations
    from_file = f" from {config.data}" if config.data else ""
    groups = {
        "environment": f"prompts x {batch.num_generations} generations",
        "pairs": f"pairs of {config.pairs}",  # the name of the file
        "demonstrations": f"demonstrations drawn{from_file}",
    }[config.source]
    completions = f"episodes of up to {turns} turns (each one completion)" if turns > 1 else "completions"
    notes = ""
    if num_processes > 1:
        up_to = "up to " if total % num_processes else ""
        most_of_a_process = math.ceil(total / num_processes)
        notes += f" ({num_processes} processes x {up_to}{most_of_a_process})"
    if batch.max_rollout_batches > 1:
        notes += f", chosen from up to {batch.max_rollout_batches} times as many"
    return (
        f"{batch.prompts_per_step} {groups} = {total} {completions} a step{notes}; "
        f"{rollout.max_completion_length} tokens in blocks of {rollout.block_length}, "
        f"{rollout.diffusion_steps} denoising steps; updates a step: "
        f"{batch.num_iterations * batch.num_minibatches}, masks a completion: {num_masks}, {micro_batches}; "
        f"{config.max_steps} step{'' if config.max_steps == 1 else 's'}."
    )


BITS = 4.127
"""Bits of a weight under --load-4bit: 4 of its own, a 64th of the 8-bit scale that 64 weights share, and its part of
the 32-bit scale that 256 of these scales share."""


@dataclass(frozen=True)
class Memory:
    """What each process holds: {tensors: bytes that they take}."""

    held: dict[str, float]
    """Bytes of what stays from one step to the next. Its entry `gradients` is held by updates only."""
    update: dict[str, float]
    """Bytes that are added to `held` while gradients are computed."""
    rollout: dict[str, float]
    """Bytes that are added to `held`, less its gradients, while completions are sampled."""
    optimizer_step: float
    """Bytes that are added to `held` while the optimizer steps."""
    copies: int
    """Masked copies of an update that go through the model at once: --per-device-batch-size."""
    rows: int
    """Completions of a rollout that go through the model at once."""
    weight_parts: float
    """All weights of the model, divided by those that a process keeps."""

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


def step_memory(
    model: Any,
    config: Config,
    algorithm: Algorithm,
    *,
    shard: str = "none",
    processes: int = 1,
    cpu_threads: int = 0,
    **more: Any,
) -> Memory:
    """What each of `processes` holds in a step of these settings.

    shard: as --shard. All other arguments are those of `step_sizes`.
    """
    sizes = step_sizes(model, config, algorithm, processes=processes, cpu_threads=cpu_threads, **more)
    weight_parts = 1 if shard == "none" else processes
    if sizes.own_experts:
        weight_parts = sizes.shape.whole / (sizes.gathered / processes + sizes.own_experts)
    trained_parts = 1 if sizes.adapters else weight_parts  # each process has all adapters
    recomputes = config.model.gradient_checkpointing
    update = _update_memory(model, sizes, config) | _gathered(sizes, shard, recomputes)
    return Memory(
        held=_held(sizes, config, algorithm, weight_parts, trained_parts, shard),
        update=update | _gradients_not_yet_summed(sizes, shard, update),
        rollout=_rollout_memory(sizes, config.rollout) | _gathered(sizes, shard, recomputes, in_rollout=True),
        optimizer_step=_optimizer_memory(sizes, trained_parts, on_cpu=cpu_threads > 0),
        copies=config.batch.per_device_batch_size,
        rows=sizes.rows_at_once,
        weight_parts=weight_parts,
    )


def _gathered(sizes: StepSizes, shard: str, recomputes: bool, in_rollout: bool = False) -> dict[str, float]:
    """Bytes of weights that a process has for a while in addition to those that it keeps, in the type of a pass.

    Without sharding, this is a copy of the weights if they are kept in a wider type. With `phase`, all weights are
    gathered from all processes. With `layer`, two layers are gathered, and at the end of a pass the head in place of
    the layers. If the head is the embedding too, it is there from the beginning of a pass, beside the layers.

    recomputes: whether activations are computed again in a backward pass.
    """
    if shard == "phase":
        return {"gathered weights": float(sizes.pass_bytes * sizes.shape.whole)}
    if shard == "layer":
        in_layers = 2 * sizes.layer
        if not sizes.has_own_head:
            in_layers += sizes.head
        # A head that is being gathered is there twice: in the parts that come in, and put together. In an update, this
        # is not the highest point.
        at_the_head = 2 * sizes.head if in_rollout else sizes.head
        gathered = {"gathered weights": sizes.pass_bytes * max(in_layers, at_the_head)}
        if sizes.own_experts and not sizes.adapters and sizes.pass_bytes < sizes.trained_bytes:
            # The backward pass needs the experts in the type of the pass again: it keeps them, or makes them again a
            # layer at a time.
            layers = sizes.shape.layers if in_rollout or recomputes else 1
            gathered["working copy"] = sizes.pass_bytes * sizes.own_experts / layers
        return gathered
    if not sizes.adapters and sizes.pass_bytes < sizes.trained_bytes:
        return {"working copy": float(sizes.pass_bytes * sizes.shape.whole)}
    return {}


def _gradients_not_yet_summed(
    sizes: StepSizes, shard: str, update_memory: dict[str, float]
) -> dict[str, float]:
    """With `layer`: bytes of the gradients that a backward pass has not summed over the processes yet.

    update_memory: what an update also holds while the pass is in the layers. When the head's gradient is computed, an
    update holds less than that. So the head's gradient counts only by how much that moment exceeds `update_memory`.
    """
    if shard != "layer" or sizes.adapters:
        return {}
    head_weights = head_gradient = sizes.pass_bytes * sizes.head
    summed_copy_of_head_gradient = sizes.trained_bytes * sizes.head
    # A layer's gradients as the pass has computed them, and their float32 copy, in which they are summed.
    in_layers = (sizes.pass_bytes + sizes.trained_bytes) * (
        sizes.layer + sizes.own_experts / sizes.shape.layers
    )
    if sizes.shape.pattern.has_encoder:
        # A gradient is summed once the encoder's backward pass has added its part, after all of the decoder's.
        in_layers += sizes.pass_bytes * (sizes.gathered - sizes.shape.embedding_and_head)
    in_update = sum(update_memory.values())
    head_while_summed = head_weights + head_gradient + summed_copy_of_head_gradient
    if sizes.has_own_head:
        # First the head's gradient stands beside the logits; no layer is gathered then.
        excess_beside_logits = head_weights + head_gradient - update_memory["gathered weights"]
        # Then the logits are gone, and the head's gradient is summed beside the activations.
        excess_beside_activations = head_while_summed - (in_update - update_memory["activations"])
        return {"gradients on their way": max(in_layers, excess_beside_logits, excess_beside_activations)}
    # If the head is the embedding too, its gradient stays beside the gradients of the layers, and is summed last, when
    # nothing else is left.
    return {"gradients on their way": max(head_gradient + in_layers, head_while_summed - in_update)}


def _held(
    sizes: StepSizes,
    config: Config,
    algorithm: Algorithm,
    weight_parts: float,
    trained_parts: float,
    shard: str,
) -> dict[str, float]:
    """Bytes of weights, gradients, the optimizer's moments and a reference.

    weight_parts, trained_parts: all weights, and all trained ones, divided by those that a process keeps.
    """
    held = {}
    if sizes.adapters:
        in_pass_type = sizes.pass_bytes * (sizes.shape.whole - sizes.in_four_bits)
        stored = in_pass_type + BITS / 8 * sizes.in_four_bits
        held["weights"] = stored / weight_parts + sizes.trained_bytes * sizes.adapters
    else:
        held["weights"] = sizes.trained_bytes * sizes.shape.whole / weight_parts
    # Gradients are whole until they are summed. With `layer` each layer's are summed at once, and only a part stays.
    gradient_parts = trained_parts if shard == "layer" else 1
    held["gradients"] = sizes.trained_bytes * sizes.trained / gradient_parts
    moments = 2 * sizes.trained  # AdamW has two moments for each weight
    if config.optimizer.optimizer == "muon":
        matrices = sizes.adapters or sizes.shape.linear  # where there are adapters, only these are trained
        moments -= matrices  # Muon has one moment for each weight of a matrix
    # torchao stores a moment in 8 bits, and for each 256 of them a scale of 4 bytes.
    moment_bytes = sizes.trained_bytes if config.optimizer.adam_moments == "float32" else 1 + 4 / 256
    held["optimizer"] = moment_bytes * moments / trained_parts
    if "reference" in algorithm.needs and config.model.ref_copy:
        held["reference"] = sizes.trained_bytes * sizes.shape.whole / weight_parts
    elif "reference" in algorithm.needs and find_adapter(config.model.model):
        # The run goes on with adapters that were trained before: a copy of them is kept as the reference. New adapters
        # need no copy, since the model without them is the reference.
        held["reference"] = float(sizes.trained_bytes * sizes.adapters)
    return held


def _optimizer_memory(sizes: StepSizes, trained_parts: float, on_cpu: bool) -> float:
    """Bytes of the square roots of second moments, by which AdamW divides.

    An accelerator computes the roots of all weights at once. A CPU computes one tensor after the other, so it has at
    most two of the largest at once; for adapters these are too small to count.
    """
    if not on_cpu:
        roots = sizes.trained / trained_parts
    elif sizes.adapters:
        roots = 0
    else:
        roots = 2 * sizes.shape.largest
    return sizes.trained_bytes * roots


def _update_memory(model: Any, sizes: StepSizes, config: Config) -> dict[str, float]:
    """Bytes of a pass forward and backward: `activations`, which autograd keeps, and `logits`, the rest.

    `logits` is the larger of two moments: the logits of a chunk with the head's gradient, and the embedding's gradient.
    With --load-4bit there is also `a layer made whole`, as in `_unpacked_layer`.
    """
    shape, lora_r = sizes.shape, config.model.lora_r
    # What autograd keeps of one layer, in bytes for each column:
    layer = sizes.trained_bytes * 2 * shape.width  # the inputs of two norms, never below float32
    layer += sizes.pass_bytes * 4 * shape.queries  # queries, keys, values and the output of attention
    layer += sizes.pass_bytes * 3 * shape.ffn  # the gate, the activated gate and the up projection
    # The column's row of the attention mask: one for each layer, but where attention has blocks, one for all layers,
    # unless copies share a text. Each process of --sequence-parallel has the mask of all columns.
    mask = sizes.pass_bytes * sizes.seen_columns * sizes.sequence_parallel
    shares_text = sizes.text_columns and sizes.copies_of_text > 1
    has_one_mask = not (shape.pattern.is_full or shares_text)
    layer += 0 if has_one_mask else mask
    if sizes.sequence_parallel > 1:
        # The output of attention is there before and after the exchange of heads for columns.
        layer += sizes.pass_bytes * shape.queries
    if sizes.adapters:
        # The inputs of adapters: one for queries, keys and values, one for the gate and the up projection, and one for
        # the down projection (that of the output projection is counted above); and for each adapter, the r values
        # between its two matrices.
        adapted = {*sizes.adapted_layers}
        inputs = shape.width * bool(adapted & {"q_proj", "k_proj", "v_proj"})
        inputs += shape.width * bool(adapted & {"gate_proj", "up_proj"}) + shape.ffn * (
            "down_proj" in adapted
        )
        layer += sizes.pass_bytes * (inputs + len(adapted) * lora_r)
    else:
        # The inputs of weights, in a pass's type: of two norms (by now normalised, so not those above), of the linear
        # layers after these, and of the last linear layer.
        layer += sizes.pass_bytes * (4 * shape.width + shape.ffn)
    if shares_text:
        # The keys and values that each copy sees, shared out over the columns that it computes, and the outputs of
        # texts and copies put together.
        keys_and_values = 2 * sizes.seen_columns / sizes.columns_of_copy
        layer += sizes.pass_bytes * shape.queries * (keys_and_values + 1)
    if config.model.gradient_checkpointing:
        column = sizes.pass_bytes * shape.layers * shape.width  # the inputs of all layers
        column += layer  # one layer whole
        column += sizes.pass_bytes * 3 * shape.ffn  # gradients inside it
    else:
        share_of_last_layer = sizes.completion_length / sizes.columns_of_copy  # it computes completions alone
        column = layer * (shape.layers - 1 + share_of_last_layer)
    column += mask if has_one_mask else 0
    activations = float(sizes.copies_at_once * sizes.own_columns_of_copy * column)
    if shape.pattern.has_encoder:
        recomputes = config.model.gradient_checkpointing
        activations = canvas_activations(model, sizes, lora_r, recomputes)
    trained_head = 0 if sizes.adapters else sizes.head
    rows_of_logits = rows_per_chunk(shape.vocabulary)
    if trained_head:  # its backward pass needs the probabilities again, so those of several chunks are kept
        rows_of_logits *= chunks_to_keep(trained_head * sizes.pass_bytes, shape.vocabulary, sizes.logit_bytes)
    own_tokens = math.ceil(sizes.copies_at_once * sizes.completion_length / sizes.sequence_parallel)
    positions = min(rows_of_logits, own_tokens)
    logits = float(positions * shape.vocabulary * sizes.logit_bytes)
    if sizes.pass_bytes < sizes.trained_bytes:
        # The head's gradient: its sum over chunks in float32; in a pass's type, a chunk's gradient and the rounded sum.
        logits += trained_head * (sizes.trained_bytes + 2 * sizes.pass_bytes)
    # When the embedding's gradient is made, last of all, the activations are gone. But they stay in the sum of all
    # entries, so this gradient counts only by how much it exceeds them.
    embedding_gradient = trained_head * sizes.pass_bytes - activations
    return {"activations": activations, "logits": max(logits, embedding_gradient), **_unpacked_layer(sizes)}


def _unpacked_layer(sizes: StepSizes) -> dict[str, float]:
    """Bytes of the linear layer that is being multiplied: it is stored in 4 bits, and multiplied in a pass's type."""
    if not sizes.in_four_bits:
        return {}
    return {"a layer made whole": float(sizes.pass_bytes * sizes.shape.largest_linear)}


def _rollout_memory(sizes: StepSizes, sampling: Sampling) -> dict[str, float]:
    """Bytes of a rollout's pass, of its cache, and of adapters in the type of a pass."""
    shape, rows_at_once = sizes.shape, sizes.rows_at_once
    logits_of_a_row = sampling.block_length * shape.vocabulary
    rows_of_logits = min(rows_at_once, max(1, MAX_LOGITS // logits_of_a_row))
    # With a temperature there are the noise, and the logits from which it is subtracted.
    noise_bytes = 2 * sizes.trained_bytes if sampling.temperature > 0 else 0
    logits = rows_of_logits * logits_of_a_row * (sizes.logit_bytes + noise_bytes)
    # In a layer, three tensors are as wide as the model, and three as its feed-forward part.
    layer = rows_at_once * sizes.columns * 3 * (shape.width + shape.ffn) * sizes.pass_bytes
    memory = {"pass": float(max(logits, layer))}
    if sampling.cache != "none" or sizes.shape.pattern.has_encoder:  # an encoder's keys are always kept
        memory["cache"] = float(rows_at_once * sizes.columns * sizes.column_bytes)
    if sizes.pass_bytes < sizes.trained_bytes and sizes.adapters:
        memory["adapters"] = float(sizes.pass_bytes * sizes.adapters)
    if sizes.merged:
        memory["the base below adapters"] = float(sizes.pass_bytes * sizes.merged)
    return memory | _unpacked_layer(sizes)
