"""Checks a run's settings, spells out their arithmetic, writes them as YAML, and compares two runs'."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from spg_trainer.config import Config
from spg_trainer.errors import CheckpointError, ConfigError
from spg_trainer.rollout import Sampling

FREE = frozenset(
    "max_steps max_minutes config dry_run eval.eval_steps eval.eval_problems eval.eval_split output.output_dir "
    "output.resume output.save_steps output.keep output.sample_steps output.board_steps output.track "
    "batch.per_device_batch_size model.device".split()
)
"""Settings that may change on resume: how long, what is shown and kept, and where it runs."""


def check(config: Config, algorithm: Any, num_processes: int = 1) -> None:
    """Raises ConfigError for sizes that cannot work, with the arithmetic and a value that would."""
    b = config.batch
    Sampling(**asdict(config.rollout)).check()
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
    least_one = {
        "prompts_per_step": b.prompts_per_step,
        "num_iterations": b.num_iterations,
        "per_device_batch_size": b.per_device_batch_size,
        "keep": out.keep,
    }
    shares = {"adam_beta1": o.adam_beta1, "adam_beta2": o.adam_beta2, "weight_decay": o.weight_decay}
    positive = {"learning_rate": o.learning_rate, "max_grad_norm": o.max_grad_norm}
    not_negative = {
        "max_steps": config.max_steps,
        "max_minutes": config.max_minutes,
        "warmup_steps": o.warmup_steps,
        "lora_r": config.model.lora_r,
        "save_steps": out.save_steps,
        "sample_steps": out.sample_steps,
        "board_steps": out.board_steps,
        "eval_steps": e.eval_steps,
        "eval_problems": e.eval_problems,
        "eval_temperature": e.eval_temperature,
    }
    for values, fine, expected in (
        (least_one, lambda v: v >= 1, "at least 1"),
        (shares, lambda v: 0 <= v < 1, "from 0 up to, but not, 1"),
        (positive, lambda v: 0 < v < float("inf"), "above 0"),
        (not_negative, lambda v: 0 <= v < float("inf"), "0 or more"),
    ):
        for name, value in values.items():
            if not fine(value):
                raise ConfigError(f"--{name.replace('_', '-')} {value}: should be {expected}.")


def arithmetic(config: Config, num_masks: int, num_processes: int = 1) -> str:
    """One line that says what a step does, in numbers."""
    b, r = config.batch, config.rollout
    completions, blocks = b.prompts_per_step * b.num_generations, r.max_completion_length // r.block_length
    mine = completions // num_processes
    rows = (
        max(1, b.per_device_batch_size // num_masks)
        if b.per_device_batch_size >= num_masks
        else b.per_device_batch_size
    )
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


def plain(value: Any) -> Any:
    """Tuples as lists, so that YAML needs no tags."""
    if isinstance(value, Mapping):
        return {k: plain(v) for k, v in value.items()}
    return [plain(v) for v in value] if isinstance(value, list | tuple) else value


def flat(values: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    """`{"a": {"b": 1}}` -> `{"a.b": 1}`; settings that may change on resume are left out."""
    out: dict[str, Any] = {}
    for key, value in values.items():
        name = f"{path}{key}"
        if name in FREE:
            continue
        out.update(flat(value, f"{name}.") if isinstance(value, Mapping) else {name: value})
    return out


def refuse_changes(recorded: Path, config: Config) -> None:
    """Raises ConfigError if a run's own settings differ from `config` where they may not."""
    try:
        before = flat(yaml.safe_load(recorded.read_text()))
    except (OSError, yaml.YAMLError, AttributeError) as error:
        raise CheckpointError(
            f"{recorded} cannot be read ({error}). Start a new run with another --output-dir."
        ) from error
    after = flat(plain(asdict(config)))
    changed = [k for k in sorted(before.keys() | after.keys()) if before.get(k) != after.get(k)]
    if changed:
        listed = "; ".join(f"{k} was {before.get(k)!r}, now {after.get(k)!r}" for k in changed)
        raise ConfigError(
            f"{recorded.parent} is a run of other settings: {listed}. Resume it with its own (only --max-steps, "
            "--max-minutes, what is logged or kept, and --per-device-batch-size may change), or start a new run "
            "with another --output-dir."
        )
