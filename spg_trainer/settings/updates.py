"""The settings of a step and its updates: how many completions it takes, and how they change the weights.

Most runs do not have the defaults in this file: recipes (`settings/recipes/`, `algorithms/recipes.yaml`) set the
learning rate and most other values.
"""

from dataclasses import dataclass
from typing import Literal

from spg_trainer.settings.explained import explained
from spg_trainer.settings.ranges import (
    Below1,
    Count,
    CountOrZero,
    Positive,
    Probability,
    Rate,
    Weight,
)

AUTO = "auto"
"""The value of --per-device-batch-size for as many copies as fit into memory."""


@explained
@dataclass(frozen=True)
class BatchConfig:
    """The size of a step and its updates. The last setting changes memory alone; the others change what is learned."""

    prompts_per_step: Count = 16
    """The number of problems that a step samples, or of demonstrations that it learns, over all processes. More of them
    make the gradient less noisy and the step longer."""
    num_generations: Count = 6
    """The number of completions of each problem (the group, G), at least 2; with demonstrations 1. More of them make a
    group with right and wrong completions likelier, but in our measurements the same number of completions taught more
    when spread over more problems."""
    max_rollout_batches: Count = 1
    """The most batches of --prompts-per-step problems that a step samples. It stops when --prompts-per-step groups have
    unequal rewards, and learns from these; if there are too few such groups, others fill the step up (dynamic
    sampling). 1 learns from the first batch, whatever its rewards. Raise it, to 10, if most groups have equal rewards
    and an update takes longer than a rollout: a step then teaches more, but each sampled completion less."""
    pools: bool = False
    """Draws a problem less often once its last two groups were all right, or all wrong, until a group of it is mixed
    again. Set it if many groups are all right or all wrong and problems are drawn more than once."""
    all_right_weight: Weight = 0.2
    """How likely --pools draws a problem whose last two groups were all right, relative to one whose groups are mixed,
    from 0.01 to 1. Raise it if the model forgets what it solved."""
    all_wrong_weight: Weight = 0.2
    """How likely --pools draws a problem whose last two groups were all wrong, relative to one whose groups are mixed,
    from 0.01 to 1. Raise it to try hard problems more often."""
    num_iterations: Count = 1
    """How many updates are made with the completions of a step, each with fresh masks. Raise it if rollouts are slow,
    but only with an algorithm that has an importance ratio, or with raft."""
    num_minibatches: Count = 1
    """The number of parts that the groups of a step are divided into, with one update for each part. More than 1 is
    off-policy: raise it if rollouts are slow, but only with an algorithm that has an importance ratio."""
    per_device_batch_size: Count | Literal["auto"] = 8
    """How many masked copies of completions go through the model at once in an update; a rollout on a GPU decodes four
    times as many completions at once. auto fills a GPU by the estimate of --dry-run, in an update with copies and in a
    rollout with completions, but with no more of them than a step has. On a CPU, and with --shard, auto takes at most 8
    copies. If a GPU's memory runs out, the number is halved and the work is repeated. The result stays the same, except
    for rounding; set a number if it should be the same to the bit on another GPU."""


@explained
@dataclass(frozen=True)
class OptimizerConfig:
    """AdamW or Muon with linear warm-up, then a constant or falling rate."""

    optimizer: Literal["adamw", "muon"] = "adamw"
    """The optimizer. muon updates the matrices of layers by Muon, whose steps are as large as AdamW's but have nearly
    equal singular values, and all other weights by AdamW. Try it if AdamW needs too many updates; it does not work with
    --shard."""
    learning_rate: Rate = 3e-6
    """The highest learning rate, after the warm-up. Lower it if rewards collapse, the loss jumps or updates are
    skipped."""
    warmup_steps: CountOrZero = 0
    """The number of updates over which the rate rises linearly from 0. Raise it if the first updates make the model
    worse."""
    weight_decay: Below1 = 0.1
    """The decoupled weight decay, from 0 to below 1. Set it to 0 if weights without a gradient must not change. Raise
    it if a validation loss rises while the training loss falls."""
    max_grad_norm: Positive = 0.2
    """Gradient clipping: a gradient with a larger norm is scaled down to this norm. Raise it if nearly every step
    reports a larger `grad_norm` and the run learns too slowly. Lower it if the loss jumps."""
    lr_schedule: Literal["constant", "linear", "cosine", "warmup_stable_decay"] = "constant"
    """What the learning rate does after the warm-up: constant keeps it; linear and cosine let it fall from step to
    step, to --lr-floor at --max-steps; warmup_stable_decay keeps it, and lets it fall linearly over the last steps only
    (--lr-decay-share), or once --patience is used up. Let it fall if a rate that learns fast makes later steps worse.
    A run with warmup_stable_decay that is resumed with a larger --max-steps continues from where its rate began to
    fall."""
    lr_floor: Below1 = 0.0
    """The learning rate at the end of a falling --lr-schedule, as a share of --learning-rate, from 0 to below 1. Raise
    it if the reward still rises when the run ends."""
    lr_decay_share: Probability = 0.2
    """The share of the run, above 0 and up to 1, over which --lr-schedule warmup_stable_decay lets the rate fall, at
    its end. Lower it to train longer at the full rate."""
    adam_beta2: Below1 = 0.99
    """AdamW's second decay, from 0 to below 1; the first is 0.9. Raise it for steadier steps where the gradient is
    noisy."""
    adam_moments: Literal["float32", "8bit"] = "float32"
    """The number type of AdamW's moments. 8bit takes a quarter of the memory (pip install torchao) and does not work
    with --shard."""
