"""The sizes of a step, from a model's shape and the settings: what goes through the model, and how much at once."""

import math
from typing import Any, NamedTuple

from spg_trainer.algorithms import Algorithm
from spg_trainer.architecture.lora_layers import lora_layers
from spg_trainer.architecture.shape import Shape, count_lora, shape_of
from spg_trainer.rollout.cache import POSITIONS_PER_THREAD
from spg_trainer.settings.fields import AUTO, Config

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
    """How many completions a GPU samples at once if `estimate.auto_batch` has not searched for a number.

    The number is four for each copy that may keep a graph in an update, or more if completions are short.
    """
    rows_of_tokens = TOKENS_OF_A_PASS // config.rollout.max_completion_length
    return max(4 * config.batch.per_device_batch_size, rows_of_tokens)


class StepSizes(NamedTuple):
    """The sizes and counts that all parts of an estimate start from. Weights are counted, not bytes."""

    shape: Shape
    adapters: int
    """Weights of LoRA's adapters; 0 where all weights are trained."""
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
    (`likelihood.block_replay`)."""
    masks_at_once: int
    """How many of these go through the model together."""
    copies_at_once: int
    """Masked copies of all completions of a micro-batch that go through the model together."""
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
        if self.pass_bytes < self.trained_bytes:
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
        adapted_layers=lora_layers(model, targets, experts=experts) if adapters else (),
        trained=adapters or shape.whole,
        own_experts=shape.experts / expert_parallel if expert_parallel > 1 else 0,
        in_four_bits=shape.linear if model_settings.load_4bit else 0,
        pass_bytes=pass_bytes,
        trained_bytes=max(4, pass_bytes),
        prompt_length=prompt_length,
        completion_length=length,
        copy_columns=shape.pattern.copy_width(prompt_length, length),
        text_columns=shape.pattern.text_width(prompt_length, length),
        column_bytes=2 * shape.layers * shape.keys * pass_bytes,
        masks=masks,
        masks_at_once=masks_at_once,
        copies_at_once=completions_at_once * masks_at_once,
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
