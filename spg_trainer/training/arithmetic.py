"""A step of a training in numbers."""

from spg_trainer.algorithms import Algorithm
from spg_trainer.settings.fields import Config
from spg_trainer.training.micro_batches import micro_batch_size


def arithmetic(config: Config, algorithm: Algorithm, num_processes: int = 1, turns: int = 1) -> str:
    """One line that says what a step does, in numbers. turns: the most of an episode."""
    b, r = config.batch, config.rollout
    num_masks = algorithm.make_masking().count(r.max_completion_length)
    rows, _ = micro_batch_size(b.per_device_batch_size, num_masks)
    total = b.prompts_per_step * b.num_generations
    groups = f"pairs of {config.pairs}" if config.pairs else f"prompts x {b.num_generations} generations"
    completions = f"episodes of up to {turns} turns (each one completion)" if turns > 1 else "completions"
    notes = ""
    if num_processes > 1:
        up_to = "up to " if total % num_processes else ""
        notes += f" ({num_processes} processes x {up_to}{-(-total // num_processes)})"
    if b.max_rollout_batches > 1:
        notes += f", chosen from up to {b.max_rollout_batches} times as many"
    if b.explore:
        notes += f", of which each prompt gets {b.num_generations // 2} first"
    return (
        f"{b.prompts_per_step} {groups} = {total} {completions} a step{notes}; {r.max_completion_length} tokens "
        f"in blocks of {r.block_length}, {r.diffusion_steps} denoising steps; updates a step: "
        f"{b.num_iterations * b.num_minibatches}, masks a completion: {num_masks}, micro-batches of up to {rows} "
        f"completions; {config.max_steps} step{'s' * (config.max_steps != 1)}."
    )
