"""What --dry-run shows, without opening the weights: every setting with its origin, a step in numbers, an estimate."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from typing import Any

import yaml

from spg_trainer import algorithms
from spg_trainer.evaluation.evaluate import make_env
from spg_trainer.models.shape import find_config, pattern_of, shape_of
from spg_trainer.rollout.pairs import read_pairs, settle_pairs
from spg_trainer.settings.adapters import settle
from spg_trainer.settings.fields import Config
from spg_trainer.settings.published import decoding_layer
from spg_trainer.settings.resolve import Resolved
from spg_trainer.settings.validate import Validated, validate
from spg_trainer.settings.values import plain
from spg_trainer.training.roofline import BYTES, PROMPT, Device, estimate
from spg_trainer.training.setup import arithmetic, check_attention, open_splits


def show(resolved: Resolved[Config]) -> str:
    """The settings of a training as YAML with the origin of each; a step in numbers as comments."""
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    settled, algorithm = refuse_unopened(replace(resolved.config, dry_run=False, config=None), processes)
    turns = 1 if settled.pairs else make_env(settled, "train").max_turns
    step = arithmetic(settled, algorithm, processes, turns)
    comments = [step, *memory_and_time(settled, algorithm, processes)]
    decoding = decoding_layer(settled.model.model)
    if decoding and "block_length" not in decoding.values.get("rollout", {}):
        comments.insert(
            0, f"decoding: {decoding.origin} has no blocks and steps of its own; LLaDA's are taken"
        )
    return "\n# ".join([with_origins(settled, algorithm, resolved.origins), *comments]) + "\n"


def refuse_unopened(
    asked: Config | Validated[Config], num_processes: int = 1
) -> tuple[Config, algorithms.Algorithm]:
    """The settled settings of a training, and its algorithm; SpgError or EnvError for what a start would refuse."""
    config = validate(asked).settings
    algorithm = algorithms.build(config.algorithm, config.hyper_parameters)
    config = settle_pairs(replace(config, model=settle(config.model)))
    open_splits(config, algorithm, num_processes)
    if model := find_config(config.model, config.env):
        check_attention(config, algorithm, pattern_of(model))
    if config.pairs:
        read_pairs(config.pairs)
    return config, algorithm


def with_origins(settled: Config, algorithm: Any, origins: Mapping[str, str]) -> str:
    """`to_yaml` of settings and of all hyper-parameters, with where each value comes from behind it."""
    origins = {"algorithm_args.block_length": "rollout.block_length", **origins}
    origins |= {"dry_run": "default", "config": "default"}
    settled = replace(settled, algorithm_args=asdict(algorithm))

    def lines(tree: Mapping[str, Any], path: str = "", indent: str = "") -> Iterator[str]:
        for key, value in tree.items():
            if value and isinstance(value, dict):
                yield f"{indent}{key}:"
                yield from lines(value, f"{path}{key}.", f"{indent}  ")
            else:
                style = None if isinstance(value, list) else False  # a list on one line
                text = yaml.safe_dump({key: value}, default_flow_style=style, width=1e9, allow_unicode=True)
                yield f"{indent}{text.rstrip()}  # {origins.get(path + key, 'default')}"

    return "\n".join(lines(plain(settled)))


def memory_and_time(config: Config, algorithm: algorithms.Algorithm, processes: int) -> list[str]:
    """An estimate of settings in a few lines; one that says why not, where the model's shape cannot be known here."""
    import torch

    m, model, device = config.model, find_config(config.model, config.env), Device()
    if model is None:
        return [f"memory and time: the shape of {m.model} is unknown here. Download its config.json first."]
    on_cpu, all_weights = m.device == "cpu", not m.lora_r and not m.shard
    dtype = m.dtype if m.dtype != "auto" else "float32" if on_cpu or all_weights else "bfloat16"
    threads = torch.get_num_threads() if on_cpu else 0
    how = {"dtype": dtype, "processes": processes, "shard": m.shard, "cpu_threads": threads}
    e, s = estimate(model, config, algorithm, **how), shape_of(model)

    def shown(parts: dict[str, float]) -> str:
        return ", ".join(f"{name} {size / 2**30:.2f}" for name, size in parts.items())

    took = ", ".join(f"{name} {seconds:.1f}" for name, seconds in e.seconds.items() if seconds)
    met = s.active + s.vocabulary * s.width  # a token's embedding is looked up
    shared = f"{met / 1e9:.2f} billion of them for a token" if s.active < s.body else "all for every token"
    lines = [
        f"weights: {s.whole / 1e9:.2f} billion, {shared}",
        f"memory of a process (of {processes}) in GiB ({dtype}, prompts of {PROMPT} tokens): {shown(e.held)}",
        f"  an update adds {shown(e.update)}: {e.update_peak / 2**30:.2f} in all",
        f"  a rollout adds {shown(e.rollout)}: {e.rollout_peak / 2**30:.2f} in all, without gradients",
        f"seconds of a step at most: {took}, if an {device.name} reaches {device.rate(BYTES[dtype]) / 1e12:.0f} "
        f"TFLOP/s ({device.utilisation:.0%} of a large product's), {device.bandwidth / 1e12:.1f} TB/s from its memory "
        f"and {device.link / 1e9:.0f} GB/s from others",
    ]
    return lines[:4] if on_cpu else lines
