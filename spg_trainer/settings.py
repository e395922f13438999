"""Checks a run's settings, spells out their arithmetic, writes them as YAML, and compares two runs'."""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from spg_trainer.config import Config, EvalCommand, LoadConfig, ModelConfig, Sampling, SftCommand
from spg_trainer.errors import CheckpointError, ConfigError
from spg_trainer.files import flat, plain
from spg_trainer.resolve import is_adapter

FREE = frozenset(
    "max_steps max_minutes config dry_run eval.eval_steps output.output_dir "
    "output.resume output.save_steps output.keep output.sample_steps output.board_steps output.track "
    "batch.per_device_batch_size".split()
)
"""Settings that may change on resume: how long, what is shown and kept, and where it runs."""


def check(config: Config, algorithm: Any, num_processes: int = 1) -> None:
    """Raises ConfigError for sizes that cannot work, with the arithmetic and a value that would."""
    b = config.batch
    Sampling(**asdict(config.rollout)).check()
    algorithm.make_masking().check(config.rollout.max_completion_length)
    if num_processes > 1 and ":" in config.model.device:
        raise ConfigError(
            f"--device {config.model.device} would put {num_processes} processes on one GPU. Leave out --device."
        )
    if algorithm.needs_ref_logps and config.model.lora_r == 0:
        raise ConfigError(
            f"--algorithm {config.algorithm} compares with a reference model, the weights below LoRA adapters. "
            "Set --lora-r, e.g. 128."
        )
    if b.num_generations < 2:
        raise ConfigError(
            f"--num-generations {b.num_generations}: a completion is judged against the others of its group, "
            "so at least 2. Try 8."
        )
    check_ranges(config)
    if b.prompts_per_step % num_processes:
        below = b.prompts_per_step - b.prompts_per_step % num_processes
        fits = [str(n) for n in range(1, b.prompts_per_step + 1) if b.prompts_per_step % n == 0]
        raise ConfigError(
            f"--prompts-per-step {b.prompts_per_step} cannot be shared by {num_processes} processes (groups never "
            f"split across GPUs). Use {f'{below} or ' if below else ''}{below + num_processes}, or launch "
            f"{', '.join(fits)} processes."
        )


def check_ranges(config: Config) -> None:
    """Raises ConfigError for a number outside its range."""
    b, o, e, out = config.batch, config.optimizer, config.eval, config.output
    at_least_1(
        prompts_per_step=b.prompts_per_step,
        num_iterations=b.num_iterations,
        per_device_batch_size=b.per_device_batch_size,
        keep=out.keep,
    )
    below_1(adam_beta1=o.adam_beta1, adam_beta2=o.adam_beta2, weight_decay=o.weight_decay)
    above_0(learning_rate=o.learning_rate, max_grad_norm=o.max_grad_norm)
    not_negative(
        max_steps=config.max_steps,
        max_minutes=config.max_minutes,
        warmup_steps=o.warmup_steps,
        save_steps=out.save_steps,
        sample_steps=out.sample_steps,
        board_steps=out.board_steps,
        eval_steps=e.eval_steps,
        eval_problems=e.eval_problems,
        eval_temperature=e.eval_temperature,
    )
    check_shared(config.model, config.env_args)


def check_eval(command: EvalCommand) -> None:
    """Raises ConfigError for settings of `eval` that cannot work; sizes that do not divide are `Sampling`'s to find."""
    at_least_1(num_generations=command.num_generations, rows_per_forward=command.rows_per_forward)
    not_negative(num_problems=command.num_problems)
    above_0(tokens_per_step=command.tokens_per_step)
    if not command.max_completion_length:
        raise ConfigError("--max-completion-length needs at least one length, e.g. 256.")
    if command.num_generations > 1 and command.temperature == 0:
        raise ConfigError(
            f"--num-generations {command.num_generations} at --temperature 0 gives equal completions. "
            "Set a temperature above 0, e.g. --temperature 0.9."
        )
    check_shared(command.model, command.env_args)


def check_sft(command: SftCommand) -> None:
    """Raises ConfigError for settings of `sft` that cannot work."""
    at_least_1(
        steps=command.steps,
        batch_size=command.batch_size,
        max_completion_length=command.max_completion_length,
        hidden_size=command.hidden_size,
        num_layers=command.num_layers,
        num_heads=command.num_heads,
        intermediate_size=command.intermediate_size,
    )
    below_1(weight_decay=command.weight_decay)
    above_0(learning_rate=command.learning_rate, max_grad_norm=command.max_grad_norm)
    not_negative(per_device_batch_size=command.per_device_batch_size, warmup_steps=command.warmup_steps)
    if command.save_dtype != "auto" and (command.model.lora_r or is_adapter(command.model.model)):
        raise ConfigError(
            f"--save-dtype {command.save_dtype} is for whole models, and adapters are small. Use --save-dtype auto."
        )
    check_shared(command.model, command.env_args)


def check_shared(model: LoadConfig, env_args: Mapping[str, Any]) -> None:
    """Raises ConfigError for adapters' numbers out of range or without effect, and for env_args that have flags."""
    if isinstance(model, ModelConfig):
        not_negative(lora_r=model.lora_r)
        below_1(lora_dropout=model.lora_dropout)
        if model.lora_alpha is not None:
            at_least_1(lora_alpha=model.lora_alpha)
        if (
            model.lora_r == 0
            and not is_adapter(model.model)
            and (model.lora_alpha is not None or model.lora_dropout)
        ):
            raise ConfigError(
                "--lora-alpha and --lora-dropout do nothing without adapters. Set --lora-r, e.g. 128."
            )
        if model.model == "new" and (
            model.lora_r or model.revision or model.dtype not in ("auto", "float32")
        ):
            raise ConfigError(
                "--model new is a fresh float32 model: --lora-r, --revision and --dtype need an existing one "
                "(--model PATH)."
            )
    flags = {"split": "--split (eval) or --eval-split (train)", "reward_weights": "--reward-weights"}
    for name in flags.keys() & env_args.keys():
        raise ConfigError(f"--env-args {name}={env_args[name]}: use {flags[name]} instead.")


def _range(expected: str, fine: Callable[[float], bool]) -> Callable[..., None]:
    def check_range(**values: float) -> None:
        for name, value in values.items():
            if not fine(value):
                raise ConfigError(f"--{name.replace('_', '-')} {value}: should be {expected}.")

    return check_range


at_least_1 = _range("at least 1", lambda v: v >= 1)
below_1 = _range("from 0 up to, but not, 1", lambda v: 0 <= v < 1)
above_0 = _range("above 0", lambda v: 0 < v < float("inf"))
not_negative = _range("0 or more", lambda v: 0 <= v < float("inf"))


def algorithm_args(config: Config) -> dict[str, Any]:
    """The algorithm's hyper-parameters; masks take the rollout's blocks unless told otherwise."""
    return {"block_length": config.rollout.block_length, **config.algorithm_args}


def rows_and_live(per_device_batch_size: int, num_masks: int) -> tuple[int, int]:
    """Completions of a micro-batch, and how many of their masks hold a graph at once: all of them if they fit."""
    fit = per_device_batch_size >= num_masks
    return (per_device_batch_size // num_masks, num_masks) if fit else (per_device_batch_size, 1)


def arithmetic(config: Config, num_masks: int, num_processes: int = 1) -> str:
    """One line that says what a step does, in numbers."""
    b, r = config.batch, config.rollout
    completions, blocks = b.prompts_per_step * b.num_generations, r.max_completion_length // r.block_length
    mine = completions // num_processes
    rows, _ = rows_and_live(b.per_device_batch_size, num_masks)
    shared = f" ({num_processes} processes x {mine})" if num_processes > 1 else ""
    return (
        f"{b.prompts_per_step} prompts x {b.num_generations} generations = {completions} completions a step{shared}; "
        f"{r.max_completion_length} tokens in {blocks} block{'s' * (blocks > 1)} of {r.block_length}, "
        f"{r.diffusion_steps} denoising steps; {b.num_iterations} update{'s' * (b.num_iterations > 1)} a step, "
        f"{num_masks} mask{'s' * (num_masks > 1)} a completion, micro-batches of up to {rows} completions; "
        f"{config.max_steps} steps."
    )


def to_yaml(config: Any) -> str:
    """The settings, nested as the dataclasses are; what `--config` reads."""
    return yaml.safe_dump(plain(asdict(config)), sort_keys=False, allow_unicode=True)


def refuse_changes(recorded: Path, config: Config) -> None:
    """Raises ConfigError if a run's own settings differ from `config` where they may not."""
    try:
        held = yaml.safe_load(recorded.read_text())
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        held = " ".join(str(error).split())
    if not isinstance(held, Mapping):
        raise CheckpointError(
            f"{recorded} cannot be read as settings ({held}). Start a new run with another --output-dir."
        )
    before = flat(held, FREE)
    after = flat(plain(asdict(config)), FREE)
    changed = [k for k in sorted(before.keys() | after.keys()) if before.get(k) != after.get(k)]
    if changed:
        listed = "; ".join(f"{k} was {before.get(k)!r}, now {after.get(k)!r}" for k in changed)
        raise ConfigError(
            f"{recorded.parent} is a run of other settings: {listed}. Resume it with its own (only --max-steps, "
            "--max-minutes, what is logged or kept, and --per-device-batch-size may change), or start a new run "
            "with another --output-dir."
        )
