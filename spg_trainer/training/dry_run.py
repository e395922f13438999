"""What --dry-run shows, without opening the weights: every setting with its origin, a step in numbers, an estimate."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from typing import Any

import torch
import yaml

from spg_trainer import algorithms
from spg_trainer.architecture.shape import Shape, find_config, shape_of
from spg_trainer.settings.fields import Config
from spg_trainer.settings.model import ModelConfig
from spg_trainer.settings.published import decoding_layer
from spg_trainer.settings.resolve import Resolved
from spg_trainer.settings.values import plain
from spg_trainer.training.arithmetic import arithmetic
from spg_trainer.training.cards import LINKS, Device, find_card
from spg_trainer.training.fits import card_lines
from spg_trainer.training.plan import plan_training
from spg_trainer.training.roofline import BYTES, PROMPT, Estimate, estimate


def show(resolved: Resolved[Config]) -> str:
    """The settings of a training as YAML with the origin of each; a step in numbers as comments."""
    processes = resolved.config.processes or int(os.environ.get("WORLD_SIZE", "1"))
    gpu, link = resolved.config.gpu, resolved.config.link
    planned = plan_training(resolved, processes)
    settled = replace(planned.config, dry_run=False, gpu=None, processes=0, link=None, config=None)
    algorithm = planned.algorithm
    has_turns = bool(planned.splits) and not settled.pairs
    turns = planned.splits["train"].max_turns if has_turns else 1
    step = arithmetic(settled, algorithm, processes, turns)
    comments = [step, *memory_and_time(settled, algorithm, processes, gpu, link)]
    decoding = decoding_layer(settled.model.model)
    if decoding and "block_length" not in decoding.values.get("rollout", {}):
        comments.insert(
            0, f"decoding: {decoding.origin} has no blocks and steps of its own; LLaDA's are taken"
        )
    if planned.missing:
        comments.append(f"data: the run will need it, and it is not here yet. {planned.missing}")
    return "\n# ".join([with_origins(settled, algorithm, planned.origins), *comments]) + "\n"


def with_origins(settled: Config, algorithm: Any, origins: Mapping[str, str]) -> str:
    """`to_yaml` of settings and of all hyper-parameters, with where each value comes from behind it."""
    origins = {"algorithm_args.block_length": "rollout.block_length", **origins}
    origins |= dict.fromkeys(("dry_run", "gpu", "processes", "link", "config"), "default")
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


def memory_and_time(
    config: Config,
    algorithm: algorithms.Algorithm,
    processes: int,
    gpu: str | None = None,
    link: str | None = None,
) -> list[str]:
    """An estimate of settings in a few lines; one that says why not, where the model's shape cannot be known here.

    gpu: a name in `CARDS`, for what that card makes of them. link: one in `LINKS`.
    """
    m, model = config.model, find_config(config.model, config.env)
    if model is None:
        return [f"memory and time: the shape of {m.model} is unknown here. Download its config.json first."]
    card, shape, on_cpu = find_card(gpu or "H200"), shape_of(model), m.device == "cpu"
    if link:
        card = replace(card, link=LINKS[link])

    def predict(changed: Config, processes: int = processes) -> Estimate:
        threads = torch.get_num_threads() if on_cpu else 0
        how = {"processes": processes, "shard": changed.model.shard, "cpu_threads": threads, "device": card}
        return estimate(model, changed, algorithm, dtype=dtype_of(changed.model), **how)

    lines = estimate_lines(predict(config), shape, dtype_of(m), card, processes)
    if algorithm.probes:
        lines[-1] += (
            "; completing half-written texts, to see what they earn, takes more, which is not counted"
        )
    if (batches := config.batch.max_rollout_batches) > 1:
        lines[-1] += f"; a rollout of {batches} batches takes {batches} times as long, which is not counted"
    if on_cpu:
        return lines[:-1]
    if not gpu:
        lines[-1] += "; another card is computed with --gpu, as in --gpu A100-80, and a CPU is not"
    return [*lines, *(card_lines(config, shape, predict, card, processes) if gpu else ())]


def dtype_of(m: ModelConfig) -> str:
    """The type of a pass that --dtype auto stands for on a GPU, or a CPU where --device says so."""
    if m.dtype != "auto":
        return m.dtype
    return "float32" if m.device == "cpu" or not (m.lora_r or m.is_divided) else "bfloat16"


def shown_count(weights: float) -> str:
    """A number of weights in words."""
    return f"{weights / 1e9:.2f} billion" if weights >= 1e8 else f"{weights / 1e6:.2f} million"


def estimate_lines(e: Estimate, s: Shape, dtype: str, card: Device, processes: int) -> list[str]:
    """Weights, memory and, in the last line, seconds."""

    def shown(parts: dict[str, float]) -> str:
        return ", ".join(f"{name} {size / 2**30:.2f}" for name, size in parts.items())

    took = ", ".join(
        f"{name} {seconds:.1f}" + (f" ({e.bound[name]} binds)" if name in e.bound else "")
        for name, seconds in e.seconds.items()
        if seconds
    )
    met = s.active + s.vocabulary * s.width  # a token's embedding is looked up
    shared = f"{shown_count(met)} of them for a token" if s.active < s.body else "all for every token"
    return [
        f"weights: {shown_count(s.whole)}, {shared}",
        f"memory of a process (of {processes}) in GiB ({dtype}, prompts of {PROMPT} tokens): {shown(e.held)}",
        f"  an update adds {shown(e.update)}: {e.update_peak / 2**30:.2f} in all",
        f"  a rollout adds {shown(e.rollout)}: {e.rollout_peak / 2**30:.2f} in all, without gradients",
        f"seconds of a step at most: {took}, if the {card.name} reaches {card.rate(BYTES[dtype]) / 1e12:.0f} "
        f"TFLOP/s ({card.utilisation:.0%} of what one large matrix product reaches), {card.bandwidth / 1e12:.1f} TB/s "
        f"from its memory and {card.link / 1e9:.0f} GB/s from others",
    ]
