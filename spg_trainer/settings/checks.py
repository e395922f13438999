"""Settings that cannot work, refused before anything is loaded, each with a value that would."""

from typing import Any

from spg_trainer.errors import ConfigError
from spg_trainer.settings.fields import Config, EvalCommand, ModelConfig, SftCommand
from spg_trainer.settings.ranges import check_ranges


def refuse(wrong: object, text: str) -> None:
    if wrong:
        raise ConfigError(text)


def check(config: Config, algorithm: Any, num_processes: int = 1) -> None:
    """Raises ConfigError for settings of a training that cannot work."""
    b, m, r, name = config.batch, config.model, config.rollout, f"--algorithm {config.algorithm}"
    check_common(config)
    r.check()
    algorithm.make_masking().check(r.max_completion_length)
    unfit = config.pairs and not algorithm.learns_from_pairs
    refuse(
        unfit,
        f"--pairs {config.pairs}: {name} learns only from what the model samples. Use --algorithm vrpo.",
    )
    refuse(
        config.pairs and b.num_generations != 2,
        f"--num-generations {b.num_generations}: a pair is two. Use --num-generations 2.",
    )
    refuse(
        algorithm.left_to_right and r.block_length != 1,
        f"{name} samples token by token, not in blocks of {r.block_length}. Use --block-length 1 --diffusion-steps "
        f"{r.max_completion_length}.",
    )
    refuse(
        algorithm.left_to_right and b.num_iterations * b.num_minibatches > 1,
        f"{name} has no ratio for several updates of a rollout. Use --num-iterations 1 --num-minibatches 1.",
    )
    refuse(
        b.num_minibatches > b.prompts_per_step,
        f"--num-minibatches {b.num_minibatches}: a step has --prompts-per-step {b.prompts_per_step} groups. Use "
        f"{b.prompts_per_step} or fewer.",
    )
    refuse(
        m.ref_copy and not algorithm.needs_ref_logps,
        f"--ref-copy: {name} asks for no reference. Leave it out, or give a KL term its weight, e.g. "
        "--algorithm-args beta=0.04, where the algorithm has one.",
    )
    refuse(
        algorithm.needs_ref_logps and not (m.lora_r or m.is_adapter or m.ref_copy),
        f"{name} needs a reference, and all weights are trained. Set --lora-r, e.g. 128, start from an adapter "
        "(--model PATH), or keep a frozen copy of the weights (--ref-copy).",
    )
    one_gpu = num_processes > 1 and ":" in m.device
    refuse(one_gpu, f"--device {m.device} is one GPU, not {num_processes}. Leave out --device.")
    check_shard(m, num_processes)
    below = b.prompts_per_step // num_processes * num_processes
    counts = " or ".join(str(n) for n in (below, below + num_processes) if n)
    refuse(
        b.prompts_per_step % num_processes,
        f"--prompts-per-step {b.prompts_per_step} cannot be shared by {num_processes} processes. Use {counts}.",
    )


def check_shard(m: ModelConfig, num_processes: int) -> None:
    """Raises ConfigError where weights shall be divided and there is nobody to share them with."""
    refuse(
        m.shard and num_processes == 1,
        "--shard divides the weights among processes, and this is the only one. Start several, e.g. with `torchrun "
        "--nproc-per-node 8 -m spg_trainer`, or leave it out.",
    )


def check_eval(command: EvalCommand) -> None:
    """Raises ConfigError for settings of `eval` that cannot work; sizes that do not divide are `Sampling`'s to find."""
    check_common(command)
    refuse(
        command.num_generations > 1 and command.temperature == 0,
        f"--num-generations {command.num_generations} at --temperature 0 gives equal completions. Raise it, e.g. "
        "--temperature 0.9.",
    )


def check_sft(command: SftCommand, num_processes: int = 1) -> None:
    """Raises ConfigError for settings of `sft` that cannot work."""
    check_common(command)
    m = command.model
    refuse(m.ref_copy, "--ref-copy: sft compares with no reference. Leave it out.")
    check_shard(m, num_processes)
    refuse(
        m.shard and command.patience,
        f"--shard with --patience {command.patience}: of a divided model the best weights are not kept apart. "
        "Use --patience 0, a cosine of --steps.",
    )
    refuse(
        m.shard and command.optimizer == "muon",
        "--shard: Muon needs whole matrices. Use --optimizer adamw.",
    )
    refuse(
        m.shard and command.save_dtype != "auto",
        f"--shard writes the weights as they are trained, not in {command.save_dtype}. Use --save-dtype auto.",
    )
    whole_only = command.save_dtype != "auto" and (m.lora_r or m.is_adapter)
    refuse(whole_only, f"--save-dtype {command.save_dtype} is for whole models, not adapters. Use auto.")


def check_common(command: Config | EvalCommand | SftCommand) -> None:
    """Raises ConfigError for what is wrong in every command: ranges, adapters, arguments that have flags."""
    check_ranges(command)
    m, flags = command.model, {"split": "--split or --eval-split", "reward_weights": "--reward-weights"}
    for name, flag in flags.items():
        refuse(
            name in command.env_args, f"--env-args {name}={command.env_args.get(name)}: use {flag} instead."
        )
    if not isinstance(m, ModelConfig):
        return
    unused = m.lora_r == 0 and not m.is_adapter and (m.lora_alpha is not None or m.lora_dropout)
    refuse(unused, "--lora-alpha and --lora-dropout need adapters. Set --lora-r, e.g. 128.")
    refuse(
        m.model == "new" and (m.lora_r or m.revision or m.dtype not in ("auto", "float32")),
        "--model new takes no --lora-r, --revision or --dtype: they need --model PATH.",
    )
