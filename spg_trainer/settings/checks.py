"""Settings that cannot work, refused before anything is loaded, each with a value that would."""

from dataclasses import fields, is_dataclass
from typing import Any, get_args, get_type_hints

from spg_trainer.errors import ConfigError
from spg_trainer.settings.fields import Config, EvalCommand, ModelConfig, Range, SftCommand


def check(config: Config, algorithm: Any, num_processes: int = 1) -> None:
    """Raises ConfigError for settings of a training that cannot work."""
    b, m, name = config.batch, config.model, f"--algorithm {config.algorithm}"
    config.rollout.check()
    algorithm.make_masking().check(config.rollout.max_completion_length)
    check_common(config)
    check_pairs(config, algorithm)
    updates = b.num_iterations * b.num_minibatches
    if algorithm.left_to_right and config.rollout.block_length != 1:
        raise ConfigError(
            f"{name} samples token by token, not in blocks of {config.rollout.block_length}. Use --block-length 1 "
            f"--diffusion-steps {config.rollout.max_completion_length}."
        )
    if algorithm.left_to_right and updates > 1:
        raise ConfigError(
            f"{name} has no ratio that would correct for {updates} updates per rollout. Use --num-iterations 1 "
            "--num-minibatches 1."
        )
    if b.num_minibatches > b.prompts_per_step:
        raise ConfigError(
            f"--num-minibatches {b.num_minibatches} is more than the groups of a step. Use --prompts-per-step = "
            f"{b.prompts_per_step} or fewer."
        )
    if m.ref_copy and not algorithm.needs_ref_logps:
        raise ConfigError(
            f"--ref-copy: {name} asks for no reference. Leave it out, or give a KL term its weight, e.g. "
            "--algorithm-args beta=0.04, where the algorithm has one."
        )
    if algorithm.needs_ref_logps and not (m.lora_r or m.is_adapter or m.ref_copy):
        raise ConfigError(
            f"{name} needs a reference, and all weights are trained. Set --lora-r, e.g. 128, start from an adapter "
            "(--model PATH), or keep a frozen copy of the weights (--ref-copy)."
        )
    if num_processes > 1 and ":" in m.device:
        raise ConfigError(f"--device {m.device} is one GPU, not {num_processes}. Leave out --device.")
    if b.prompts_per_step % num_processes:
        below = b.prompts_per_step // num_processes * num_processes
        counts = " or ".join(str(n) for n in (below, below + num_processes) if n)
        raise ConfigError(
            f"--prompts-per-step {b.prompts_per_step} cannot be shared by {num_processes} processes. Use {counts}."
        )


def check_pairs(config: Config, algorithm: Any) -> None:
    """Raises ConfigError where --pairs does not go with the algorithm or the size of a group."""
    if config.pairs is None:
        if config.pairs_sha256 is not None:
            raise ConfigError("--pairs-sha256 is that of the file of --pairs, which is not given. Add it.")
    elif not algorithm.learns_from_pairs:
        raise ConfigError(
            f"--pairs {config.pairs}: --algorithm {config.algorithm} learns only from what the model has just "
            "sampled. Use --algorithm vrpo, or leave out --pairs."
        )
    elif config.batch.num_generations != 2:
        raise ConfigError(
            f"--num-generations {config.batch.num_generations}: a pair is two. Use --num-generations 2."
        )


def check_eval(command: EvalCommand) -> None:
    """Raises ConfigError for settings of `eval` that cannot work; sizes that do not divide are `Sampling`'s to find."""
    check_common(command)
    if not command.protocol:
        raise ConfigError("--protocol needs at least one of ours, papers.")
    if not command.max_completion_length:
        raise ConfigError("--max-completion-length needs at least one length, e.g. 256.")
    if command.num_generations > 1 and command.temperature == 0:
        text = f"--num-generations {command.num_generations} at --temperature 0 gives equal completions"
        raise ConfigError(f"{text}. Raise it, e.g. --temperature 0.9.")


def check_sft(command: SftCommand) -> None:
    """Raises ConfigError for settings of `sft` that cannot work."""
    check_common(command)
    if command.model.ref_copy:
        raise ConfigError("--ref-copy: sft compares with no reference. Leave it out.")
    if command.save_dtype != "auto" and (command.model.lora_r or command.model.is_adapter):
        raise ConfigError(f"--save-dtype {command.save_dtype} is for whole models, not adapters. Use auto.")


def check_common(command: Config | EvalCommand | SftCommand) -> None:
    """Raises ConfigError for what is wrong in every command: ranges, adapters, arguments that have flags."""
    check_ranges(command)
    m, flags = command.model, {"split": "--split or --eval-split", "reward_weights": "--reward-weights"}
    for name in flags.keys() & command.env_args.keys():
        raise ConfigError(f"--env-args {name}={command.env_args[name]}: use {flags[name]} instead.")
    if not isinstance(m, ModelConfig):
        return
    if m.lora_r == 0 and not m.is_adapter and (m.lora_alpha is not None or m.lora_dropout):
        raise ConfigError("--lora-alpha and --lora-dropout need adapters. Set --lora-r, e.g. 128.")
    if m.model == "new" and (m.lora_r or m.revision or m.dtype not in ("auto", "float32")):
        raise ConfigError("--model new takes no --lora-r, --revision or --dtype: they need --model PATH.")


def check_ranges(settings: Any) -> None:
    """Raises ConfigError for a number outside the `Range` of its annotation, nested settings included."""
    hints = get_type_hints(type(settings), include_extras=True)
    for name in (f.name for f in fields(settings)):
        value = getattr(settings, name)
        if is_dataclass(value):
            check_ranges(value)
        for hint in (hints[name], *get_args(hints[name])):  # in `Count | None` it is on the first part
            for allowed in getattr(hint, "__metadata__", ()):
                if isinstance(allowed, Range) and value is not None and not allowed.holds(value):
                    raise ConfigError(f"--{name.replace('_', '-')} {value}: should be {allowed.expected}.")
