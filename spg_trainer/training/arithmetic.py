"""Describes a training step in one line of numbers: completions, tokens, denoising steps, updates and masks."""

import math

from spg_trainer.algorithms import Algorithm
from spg_trainer.estimate.sizes import micro_batch_size
from spg_trainer.settings.fields import Config
from spg_trainer.settings.updates import AUTO


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
