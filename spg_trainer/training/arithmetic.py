"""A step of a training in numbers."""

from spg_trainer.algorithms import Algorithm
from spg_trainer.settings.fields import Config
from spg_trainer.training.micro_batches import micro_batch_size


def arithmetic(config: Config, algorithm: Algorithm, num_processes: int = 1, turns: int = 1) -> str:
    """One line that says what a step does, in numbers. turns: the most of an episode."""
    b, r = config.batch, config.rollout
    num_masks = algorithm.make_masking().count(r.max_completion_length)
    completions = b.prompts_per_step * b.num_generations
    rows, _ = micro_batch_size(b.per_device_batch_size, num_masks)
    groups = f"pairs of {config.pairs}" if config.pairs else f"prompts x {b.num_generations} generations"
    most = f"{'up to ' * (completions % num_processes > 0)}{-(-completions // num_processes)}"
    shared = f" ({num_processes} processes x {most})" if num_processes > 1 else ""
    what = f"episodes of up to {turns} turns (each one completion)" if turns > 1 else "completions"
    if b.max_rollout_batches > 1:
        shared += f", chosen from up to {b.max_rollout_batches} times as many"
    if b.explore:
        shared += f", of which each prompt gets {b.num_generations // 2} first"
    return (
        f"{b.prompts_per_step} {groups} = {completions} {what} a step{shared}; {r.max_completion_length} tokens "
        f"in blocks of {r.block_length}, {r.diffusion_steps} denoising steps; updates a step: "
        f"{b.num_iterations * b.num_minibatches}, masks a completion: {num_masks}, micro-batches of up to {rows} "
        f"completions; {config.max_steps} step{'s' * (config.max_steps != 1)}."
    )
