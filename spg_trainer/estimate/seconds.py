"""The seconds of a step on one card: the arithmetic of its rollout and its updates, at one measured rate.

The estimate leaves out communication between processes, reading of memory, and the time in which the host starts
kernels. After its first step, a run measures how long a step takes, and says how long all steps will take.
"""

from dataclasses import dataclass
from typing import Any

from spg_trainer.algorithms import Algorithm
from spg_trainer.estimate.cards import Card
from spg_trainer.estimate.sizes import StepSizes, step_sizes
from spg_trainer.rollout.passes import rollout_passes
from spg_trainer.settings.fields import Config

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
    flops_of_layers = passes_of_copy * layer_flops(sizes, sizes.columns_of_copy, sizes.seen_columns)
    return sizes.masks * config.batch.num_iterations * (flops_of_layers + head_flops)


def layer_flops(sizes: StepSizes, computed: float, seen: int) -> float:
    """Floating-point operations of the layers for `computed` columns of a row, each of which sees `seen` columns.

    A column takes two operations for each weight. In attention it takes, for each column seen and each number of a
    query, two for the score and two for the weighted sum of values.
    """
    weights = sizes.shape.active + sizes.adapters
    return computed * (2.0 * weights + 4 * sizes.shape.queries * sizes.shape.layers * seen)
