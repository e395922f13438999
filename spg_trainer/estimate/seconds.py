"""The seconds of a step on one card: the arithmetic of its rollout and its updates, at one measured rate.

The estimate leaves out communication between processes, reading of memory, and the time in which the host starts
kernels. After its first step, a run measures how long a step takes, and says how long all steps will take. The cards
that --gpu names are by the data sheets of their maker.
"""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from spg_trainer.algorithms import Algorithm
from spg_trainer.architecture.pattern import Pattern
from spg_trainer.errors import ConfigError, did_you_mean
from spg_trainer.estimate.memory import StepSizes, step_sizes
from spg_trainer.rollout.cache import window_of_block
from spg_trainer.settings.configs import Config
from spg_trainer.settings.decoding import Sampling
from spg_trainer.settings.rules import CACHES

USABLE = 0.9
"""Share of a card's memory that tensors can take; CUDA, the driver, error correction and gaps between tensors take the
rest."""


@dataclass(frozen=True)
class Card:
    """An accelerator, by the data sheet of its maker."""

    name: str
    memory: float
    """Bytes."""
    flops: float
    """Operations a second of matrix products in bfloat16, summed in float32."""
    wide_flops: float
    """The same in float32 or float64, for which torch by default uses no tensor cores."""
    note: str = ""
    """What a user of this card should know."""

    @property
    def usable(self) -> float:
        """Bytes that tensors can take."""
        return USABLE * self.memory


def _card(name: str, gib: int, bf16: float, fp32: float, note: str = "") -> Card:
    """A card with the figures of its data sheet.

    gib: size of its memory in GiB. bf16, fp32: TFLOP/s of products of dense matrices, summed in float32. With 2:4
    sparsity, a data sheet may give twice as much.
    """
    return Card(name, gib * 2**30, 1e12 * bf16, 1e12 * fp32, note)


CARDS = {
    # NVIDIA Ampere GA102 GPU architecture, white paper V2, table of the GeForce RTX 3090.
    "3090": _card("RTX 3090", 24, 71.0, 35.6),
    # The same, scaled by cores and clock: data sheet of the GeForce RTX 3090 Ti.
    "3090Ti": _card("RTX 3090 Ti", 24, 80.0, 40.0),
    # NVIDIA Ada GPU architecture, white paper V2, table of the GeForce RTX 4090.
    "4090": _card("RTX 4090", 24, 165.2, 82.6),
    # NVIDIA RTX Blackwell GPU architecture, white paper, table of the GeForce RTX 5090.
    "5090": _card("RTX 5090", 32, 209.5, 104.8),
    # NVIDIA A10 data sheet.
    "A10": _card("A10", 24, 125, 31.2),
    # NVIDIA RTX A6000 data sheet; its 309.7 TFLOP/s are with sparsity.
    "A6000": _card("RTX A6000", 48, 154.8, 38.7),
    # NVIDIA L40S data sheet; its 733 TFLOP/s are with sparsity.
    "L40S": _card("L40S", 48, 362, 91.6),
    # NVIDIA V100 data sheet, SXM2 of 32 GB. It has no bfloat16 units: torch computes it at float32's rate at best.
    "V100": _card(
        "V100",
        32,
        15.7,
        15.7,
        note="A V100 needs torch for CUDA 12, as builds for CUDA 13 leave it out. It has no bfloat16 units, so "
        "--dtype float32 is as fast there.",
    ),
    # NVIDIA L4 data sheet; its 242 TFLOP/s are with sparsity.
    "L4": _card("L4", 24, 121, 30.3),
    # NVIDIA A100 data sheet: 40 GB as of 2020, 80 GB SXM as of 2021.
    "A100-40": _card("A100 40 GB", 40, 312, 19.5),
    "A100-80": _card("A100 80 GB", 80, 312, 19.5),
    # NVIDIA H100 data sheet, SXM; its 1,979 TFLOP/s are with sparsity.
    "H100": _card("H100", 80, 989.4, 67),
    # NVIDIA H200 data sheet, SXM.
    "H200": _card("H200", 141, 989.4, 67),
    # NVIDIA HGX B200 data sheet, an eighth of its 1.44 TB, 18 PFLOP/s and, in float32, 600 TFLOP/s.
    "B200": _card("B200", 180, 2250, 75),
}
"""{name for --gpu: card}."""


def find_card(name_or_size: str) -> Card:
    """The card that --gpu names; for a size, e.g. `32GiB`, a card with so much memory that is as fast as an RTX 4090.

    Raises ConfigError, with the list of cards, for what is neither a name nor a size.
    """
    for name, card in CARDS.items():
        if name.lower() == name_or_size.lower():
            return card
    if size := re.fullmatch(r"(\d+)\s*(?:GiB|GB)", name_or_size, re.IGNORECASE):
        name = f"card of {size[1]} GiB (as fast as an RTX 4090)"
        return replace(CARDS["4090"], name=name, memory=int(size[1]) * 2**30)
    # In a message, `$name` is a setting: it is shown as a flag or as a keyword (`errors.py`).
    raise ConfigError(
        f"$gpu={name_or_size} is unknown. {did_you_mean(name_or_size, CARDS)}Use one of {', '.join(CARDS)}, or a "
        "size, e.g. 32GiB."
    )


REACHED = 0.4
"""The share of a data sheet's rate that a step is assumed to reach. Rollouts of LLaDA-8B's shape reached 0.41 on an
H100 (docs/experiments/one_gpu.md); updates of few rows under adapters, and passes with a cache, reach less."""


@dataclass(frozen=True)
class Seconds:
    """How many seconds a process takes for the parts of a step."""

    rollout: float
    update: float
    """All updates of the step."""
    completion: float
    """The share of one completion in the rollout."""


def step_seconds(model: Any, config: Config, algorithm: Algorithm, card: Card, **more: Any) -> Seconds:
    """The seconds of a step of these settings; all arguments but `card` are those of `step_sizes`."""
    sizes = step_sizes(model, config, algorithm, **more)
    rate = REACHED * (card.flops if sizes.pass_bytes == 2 else card.wide_flops)
    completion = rollout_flops(config, sizes) / rate
    update = update_flops(config, algorithm, sizes) / rate
    sampled = sizes.completions if config.samples else 0  # given completions take no rollout
    return Seconds(rollout=sampled * completion, update=sizes.completions * update, completion=completion)


def rollout_flops(config: Config, sizes: StepSizes) -> float:
    """Floating-point operations of the rollout for each completion."""
    flops = 0.0
    # For each pass over a row: how many columns are computed and seen, and how many masked tokens get logits.
    for computed, seen, masked in rollout_passes(config.rollout, sizes.prompt_length, sizes.shape.pattern):
        flops += layer_flops(sizes, computed, seen) + 2 * masked * sizes.head
    return flops


def update_flops(config: Config, algorithm: Algorithm, sizes: StepSizes) -> float:
    """Floating-point operations of the updates of a step for each completion."""
    # How often the layers compute each masked copy; a backward pass counts once to the inputs, and once to the weights.
    passes_of_copy = 2.0  # forward, and backward to the inputs
    if not sizes.adapters:
        passes_of_copy += 1  # backward to the weights
    if config.model.gradient_checkpointing:
        passes_of_copy += 1  # forward again, for the activations that were not kept
    if "reference" in algorithm.needs:
        passes_of_copy += 1  # the reference's logps
    if algorithm.compares == "update":
        passes_of_copy += 1  # the logps of a coupled loss, before its gradient is known
    if "old" in algorithm.needs:
        passes_of_copy += (sizes.updates - 1) / sizes.updates  # old logps, in all updates but the first
    if algorithm.compares not in ("copy", "update"):
        # A loss that compares copies needs the logps of all at once. If not all copies fit, all but the last part are
        # scored twice. With "copy" nothing is compared, and the passes of "update" are counted above.
        passes_of_copy += 1 - sizes.masks_at_once / sizes.masks
    # The output layer makes at most four products, of two operations for each weight: the logits, the same again in the
    # backward pass (except for its last chunks), and the gradients of states and of weights. On average half of a
    # completion's tokens are scored.
    head_flops = 4 * sizes.completion_length * sizes.head
    flops_of_copy = layer_flops(sizes, sizes.columns_of_copy, sizes.seen_columns)
    flops = sizes.masks * (passes_of_copy * flops_of_copy + head_flops)
    if pilot := algorithm.make_masking().pilot:
        # A first pass without a graph, before the masks are drawn; at most all of a completion's tokens are scored.
        copies = pilot.sequences(sizes.completion_length, sizes.shape.pattern)
        flops += copies * (flops_of_copy + 2 * sizes.completion_length * sizes.head)
    return config.batch.num_iterations * flops


def layer_flops(sizes: StepSizes, computed: float, seen: int) -> float:
    """Floating-point operations of the layers for `computed` columns of a row, each of which sees `seen` columns.

    A column takes two operations for each weight. In attention it takes, for each column seen and each number of a
    query, two for the score and two for the weighted sum of values.
    """
    weights = sizes.shape.active + sizes.adapters
    return computed * (2.0 * weights + 4 * sizes.shape.queries * sizes.shape.layers * seen)


def rollout_passes(
    sampling: Sampling, prompt_length: int, pattern: Pattern
) -> Iterator[tuple[int, int, int]]:
    """Yields (columns computed, columns seen, tokens drawn) for each pass over a row.

    A pass draws a token for each masked place of its block. `passes.py` computes these columns. Without `--unmasking
    schedule`, each pass counts here as unmasking a single token, so a row may need fewer passes than this.
    """
    cache = CACHES[sampling.cache]
    columns = prompt_length + sampling.max_completion_length
    is_planned = sampling.unmasking_rule.is_planned
    steps_of_full_block = sampling.steps_per_block if is_planned else sampling.block_length
    passes_before = 0
    prompt_computed = 0  # the number of the pass that last computed the prompt
    for first, end in pattern.spans(prompt_length, sampling.max_completion_length, sampling.block_length):
        start, stop, size = prompt_length + first, prompt_length + end, end - first
        steps = math.ceil(size * steps_of_full_block / sampling.block_length)  # its share of the steps
        attention_start, seen = start, columns
        if not pattern.is_full:  # columns after the block of attention are not seen
            edges = pattern.block_of(first, prompt_length)
            attention_start, seen = (min(columns, prompt_length + edge) for edge in edges)
        # With a causal context, a pass of its own writes the first token of a block of attention.
        first_has_own_pass = pattern.has_causal_context and start == attention_start
        if first_has_own_pass:
            steps = 1 + math.ceil((size - 1) * steps_of_full_block / sampling.block_length)
        for step in range(steps):
            is_refresh = step == 0 or cache.margins is None
            if passes_before == 0:  # the first pass of a row is a refresh with every cache
                computed = seen
            elif cache.keeps_blocks:
                computed = seen - attention_start
                if step == 0 and start == attention_start:
                    # The last tokens of the block before were written after its keys: they are computed again.
                    computed += pattern.block_size
            elif not is_refresh:
                first_column, end_column = window_of_block(start, stop, seen, sampling)
                computed = end_column - first_column
            elif passes_before - prompt_computed < sampling.prompt_refresh_steps:
                computed = seen - prompt_length  # the prompt is kept
            else:
                computed, prompt_computed = seen, passes_before
            # How many places of the block are still masked.
            if not first_has_own_pass:
                drawn = size * (steps - step) // steps
            elif step == 0:
                drawn = 1
            else:
                drawn = (size - 1) * (steps - step) // (steps - 1)
            yield computed, seen, drawn
            passes_before += 1
