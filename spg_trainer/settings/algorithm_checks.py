"""Refuses settings that do not go with the algorithm, before anything is loaded; each error names a value that would.

Settings that cannot work with any algorithm are refused in `plan.py`.
"""

from typing import Any

from spg_trainer.errors import ConfigError
from spg_trainer.settings.adapters import trains_adapters
from spg_trainer.settings.decoding import Sampling
from spg_trainer.settings.fields import Config
from spg_trainer.settings.model import ModelConfig


def check_algorithm(config: Config, algorithm: Any, num_processes: int = 1) -> None:
    """Raises ConfigError where decoding, updates, model or processes do not go with the algorithm.

    algorithm: an instance of a class of `algorithms/`, whose class attributes say what it needs.
    """
    r, flag = config.rollout, f"--algorithm {config.algorithm}"
    algorithm.make_masking().check(r.max_completion_length)
    check_unmasking(r, config.force)
    check_given(config, algorithm, flag)
    if algorithm.left_to_right:
        check_left_to_right(config, flag)
    if algorithm.branches > 1:
        check_trees(config.batch.num_generations, r, algorithm.branches, flag)
    if "order" in algorithm.needs:
        check_positions(r, algorithm, flag)
    check_reference(config.model, algorithm, flag)
    check_shares(config, algorithm, num_processes)


LEARNS_FROM = {"pairs": "vrpo", "demonstrations": "mle"}
"""{source of completions that are given: the algorithm that learns from it}, which has the source among its `needs`."""


def check_given(config: Config, algorithm: Any, flag: str) -> None:
    """Raises ConfigError for completions that are given with an algorithm or a batch that cannot learn from them.

    An algorithm that learns from demonstrations alone is refused for what the model samples.
    """
    b, source = config.batch, config.source
    if "demonstrations" in algorithm.needs and source != "demonstrations":
        raise ConfigError(f"{flag} learns from demonstrations: python -m spg_trainer sft.")
    if config.samples:
        return
    if source not in algorithm.needs:
        raise ConfigError(
            f"--source {source}: {flag} learns only from what the model samples. Use --algorithm "
            f"{LEARNS_FROM[source]}."
        )
    if b.max_rollout_batches > 1:
        raise ConfigError(
            f"--max-rollout-batches {b.max_rollout_batches}: with --source {source} nothing is sampled that could be "
            "set aside. Leave it at 1."
        )
    if source == "pairs" and b.num_generations != 2:
        raise ConfigError(f"--num-generations {b.num_generations}: a pair is two. Use --num-generations 2.")


def check_left_to_right(config: Config, flag: str) -> None:
    """Raises ConfigError for blocks or several updates with an algorithm that samples token by token."""
    b, r = config.batch, config.rollout
    if r.block_length != 1:
        steps = f"--block-length 1 --diffusion-steps {r.max_completion_length}"
        raise ConfigError(f"{flag} samples token by token, not in blocks of {r.block_length}. Use {steps}.")
    if b.num_iterations * b.num_minibatches > 1:
        updates = "--num-iterations 1 --num-minibatches 1"
        raise ConfigError(f"{flag} has no ratio for several updates of a rollout. Use {updates}.")


def check_shares(config: Config, algorithm: Any, num_processes: int) -> None:
    """Raises ConfigError where a step has too few completions for every process to get one.

    The processes share out whole groups where the algorithm says so (`dealt_by`), and of the pairs of a file.
    """
    b = config.batch
    group_size = b.num_generations
    smallest_share = group_size if algorithm.dealt_by == "group" or config.source == "pairs" else 1
    if b.prompts_per_step * group_size < num_processes * smallest_share:
        fewest_prompts = -(-num_processes * smallest_share // group_size)  # rounded up
        raise ConfigError(
            f"--prompts-per-step {b.prompts_per_step} leaves some of {num_processes} processes without a completion. "
            f"Use {fewest_prompts} or more."
        )


def check_unmasking(r: Sampling, force: bool) -> None:
    """Raises ConfigError for unmasking by confidence that is not safe, and for editing of written tokens.

    Tokens of high confidence are unmasked together, and RL raises confidence: without a high threshold and a limit,
    more and more tokens are written without having seen one another.
    """
    by_threshold = r.unmasking in ("threshold", "dynamic")
    is_safe = r.unmasking == "schedule" or (by_threshold and r.threshold >= 0.95 and r.max_tokens_per_step)
    if not (is_safe or force):
        raise ConfigError(
            f"{', '.join(r.shortcuts)}: unmasking by confidence feeds on what RL raises. Train with --unmasking "
            "threshold or dynamic, a --threshold of 0.95 or more, and --max-tokens-per-step 4, or insist with --force."
        )
    if r.editing_threshold is not None:
        raise ConfigError(
            f"editing_threshold={r.editing_threshold}: when a token is replaced, other tokens have been drawn beside "
            "the one that it replaces. No masked copy of the completion shows this, so no bound of a likelihood holds "
            "for what the sampler does. Leave it out of training: give Sampling, not EvalSampling."
        )


def check_chance(config: Config, algorithm: Any) -> None:
    """Raises ConfigError where decoding is without chance and the algorithm learns nothing from equal completions."""
    r, count = config.rollout, config.batch.num_generations
    completions_differ = r.draws_noise or not config.samples
    if not (completions_differ or algorithm.right_groups_teach or config.force):
        raise ConfigError(
            f"--temperature {r.temperature:g}: decoding without chance writes {count} times the same completion to a "
            f"problem, and --algorithm {config.algorithm} learns from how they differ. Use --temperature 0.9, or an "
            "algorithm that imitates right completions (--algorithm raft), or insist with --force."
        )


def check_positions(r: Sampling, algorithm: Any, flag: str) -> None:
    """Raises ConfigError for a rollout that draws no positions, or draws them otherwise than the algorithm scores them.

    Only an algorithm that needs "order" has the attributes `position_temperature` and `block_length`.
    """
    if r.remasking != "plackett_luce":
        raise ConfigError(
            f"--remasking {r.remasking}: {flag} learns where to write, so positions have to be drawn. Use --remasking "
            "plackett_luce."
        )
    for name in ("position_temperature", "block_length"):
        sampled, scored = getattr(r, name), getattr(algorithm, name)
        if sampled != scored:
            raise ConfigError(
                f"--{name.replace('_', '-')} {sampled}: {flag} scores the choice of positions with {name}={scored}. "
                f"Use --algorithm-args {name}={sampled}."
            )


def check_trees(num_generations: int, r: Sampling, branches: int, flag: str) -> None:
    """Raises ConfigError for groups that are no whole trees, and for completions that cannot fork in the middle.

    Each first half is shared by `branches` completions of a group. The middle has to be the end of a block.
    """
    if num_generations % branches:
        next_multiple = num_generations + -num_generations % branches
        raise ConfigError(
            f"--num-generations {num_generations}: a tree of {flag} has {branches} leaves from each of its nodes. Use "
            f"--num-generations {next_multiple}."
        )
    length, block = r.max_completion_length, r.block_length
    if length % 2:
        raise ConfigError(
            f"--max-completion-length {length}: trees of {flag} branch in the middle, which an odd number of tokens "
            f"does not have. Use --max-completion-length {length + 1}."
        )
    half = length // 2
    if half % block:
        fitting_block = max(n for n in range(1, min(block, half) + 1) if half % n == 0)
        blocks, steps = length // fitting_block, r.diffusion_steps
        fitting_steps = f" --diffusion-steps {steps + -steps % blocks}" if steps % blocks else ""
        raise ConfigError(
            f"--block-length {block}: trees of {flag} branch in the middle of {length} tokens, where a block has to "
            f"end. Use --block-length {fitting_block}{fitting_steps}."
        )


def check_reference(m: ModelConfig, algorithm: Any, flag: str) -> None:
    """Raises ConfigError for a reference model that the algorithm does not use, or that the run cannot have.

    The reference is the model that training started from: the weights without the adapters' changes, or a frozen copy.
    With `ref_model_sync_steps`, a frozen copy follows the policy, and then no process may hold a part of it alone.
    """
    if "reference" not in algorithm.needs:
        if m.ref_copy:
            raise ConfigError(
                f"--ref-copy: {flag} asks for no reference. Leave it out, or give a KL term its weight, e.g. "
                "--algorithm-args beta=0.04, where the algorithm has one."
            )
        return
    with_adapters = trains_adapters(m)
    if not (m.ref_copy or with_adapters):
        raise ConfigError(
            f"{flag} needs a reference, and all weights are trained. Set --lora-r, e.g. 128, start from an adapter "
            "(--model PATH), or keep a frozen copy of the weights (--ref-copy)."
        )
    if m.is_divided and not with_adapters and algorithm.ref_model_sync_steps:
        raise ConfigError(
            f"--shard: the reference of {flag} takes in the policy every {algorithm.ref_model_sync_steps} updates, and "
            "of divided weights no such reference is kept. Use --algorithm-args ref_model_sync_steps=0, or --lora-r "
            "128."
        )
