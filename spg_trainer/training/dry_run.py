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

ONLY_DRY = {"dry_run": False, "gpu": None, "processes": 0, "link": None, "config": None}
"""Settings of this dry run and not of the run, which are shown as unset: what is printed can be given to --config."""


def show(resolved: Resolved[Config]) -> str:
    """The settings of a training as YAML with the origin of each; a step in numbers as comments."""
    asked = resolved.config
    processes = asked.processes or int(os.environ.get("WORLD_SIZE", "1"))
    planned = plan_training(resolved, processes)
    config, algorithm = replace(planned.config, **ONLY_DRY), planned.algorithm
    turns = planned.splits["train"].max_turns if planned.splits and not config.pairs else 1
    comments = []
    decoding = decoding_layer(config.model.model)
    if decoding and "block_length" not in decoding.values.get("rollout", {}):
        comments.append(f"decoding: {decoding.origin} has no blocks and steps of its own; LLaDA's are taken")
    comments.append(arithmetic(config, algorithm, processes, turns))
    comments += memory_and_time(config, algorithm, processes, asked.gpu, asked.link)
    if planned.missing:
        comments.append(f"data: the run will need it, and it is not here yet. {planned.missing}")
    return "\n# ".join([with_origins(config, algorithm, planned.origins), *comments]) + "\n"


def with_origins(config: Config, algorithm: Any, origins: Mapping[str, str]) -> str:
    """`to_yaml` of settings and of all hyper-parameters, with where each value comes from behind it."""
    # An algorithm takes the rollout's blocks, unless its arguments say others (`Config.hyper_parameters`).
    origins = {"algorithm_args.block_length": "rollout.block_length", **origins}
    origins |= dict.fromkeys(ONLY_DRY, "default")
    config = replace(config, algorithm_args=asdict(algorithm))

    def lines(tree: Mapping[str, Any], path: str = "", indent: str = "") -> Iterator[str]:
        for key, value in tree.items():
            if value and isinstance(value, dict):
                yield f"{indent}{key}:"
                yield from lines(value, f"{path}{key}.", f"{indent}  ")
            else:
                style = None if isinstance(value, list) else False  # a list on one line
                text = yaml.safe_dump({key: value}, default_flow_style=style, width=1e9, allow_unicode=True)
                yield f"{indent}{text.rstrip()}  # {origins.get(path + key, 'default')}"

    return "\n".join(lines(plain(config)))


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
    model_config = find_config(config.model, config.env)
    if model_config is None:
        name = config.model.model
        return [f"memory and time: the shape of {name} is unknown here. Download its config.json first."]
    card, shape, on_cpu = find_card(gpu or "H200"), shape_of(model_config), config.model.device == "cpu"
    if link:
        card = replace(card, link=LINKS[link])

    def predict(changed: Config, processes: int = processes) -> Estimate:
        """The estimate of these settings, or of others that would fit better."""
        return estimate(
            model_config,
            changed,
            algorithm,
            dtype=dtype_of(changed.model),
            processes=processes,
            shard=changed.model.shard,
            cpu_threads=torch.get_num_threads() if on_cpu else 0,
            device=card,
        )

    *memory, seconds = estimate_lines(predict(config), shape, dtype_of(config.model), card, processes)
    if on_cpu:  # no card's rates are a CPU's
        return memory
    if algorithm.probes:
        seconds += "; completing half-written texts, to see what they earn, takes more, which is not counted"
    if (batches := config.batch.max_rollout_batches) > 1:
        seconds += f"; a rollout of {batches} batches takes {batches} times as long, which is not counted"
    if not gpu:
        seconds += "; another card is computed with --gpu, as in --gpu A100-80, and a CPU is not"
        return [*memory, seconds]
    return [*memory, seconds, *card_lines(config, shape, predict, card, processes)]


def dtype_of(model: ModelConfig) -> str:
    """The type of a pass that --dtype auto stands for on a GPU, or a CPU where --device says so.

    Where all weights are trained and each process has them whole, they are trained, and so computed, in float32.
    """
    if model.dtype != "auto":
        return model.dtype
    trains_whole = not (model.lora_r or model.is_divided)
    return "float32" if model.device == "cpu" or trains_whole else "bfloat16"


def shown_count(weights: float) -> str:
    """A number of weights in words."""
    return f"{weights / 1e9:.2f} billion" if weights >= 1e8 else f"{weights / 1e6:.2f} million"


def estimate_lines(estimated: Estimate, shape: Shape, dtype: str, card: Device, processes: int) -> list[str]:
    """Weights, memory and, in the last line, seconds."""

    def in_gib(parts: dict[str, float]) -> str:
        return ", ".join(f"{name} {size / 2**30:.2f}" for name, size in parts.items())

    seconds = ", ".join(
        f"{name} {took:.1f}" + (f" ({estimated.bound[name]} binds)" if name in estimated.bound else "")
        for name, took in estimated.seconds.items()
        if took
    )
    of_token = shape.active + shape.vocabulary * shape.width  # its embedding is looked up, not multiplied
    is_mixture = shape.active < shape.body
    used = f"{shown_count(of_token)} of them for a token" if is_mixture else "all for every token"
    update, rollout = in_gib(estimated.update), in_gib(estimated.rollout)
    return [
        f"weights: {shown_count(shape.whole)}, {used}",
        f"memory of a process (of {processes}) in GiB ({dtype}, prompts of {PROMPT} tokens): {in_gib(estimated.held)}",
        f"  an update adds {update}: {estimated.update_peak / 2**30:.2f} in all",
        f"  a rollout adds {rollout}: {estimated.rollout_peak / 2**30:.2f} in all, without gradients",
        f"seconds of a step at most: {seconds}, if the {card.name} reaches {card.rate(BYTES[dtype]) / 1e12:.0f} "
        f"TFLOP/s ({card.utilisation:.0%} of what one large matrix product reaches), {card.bandwidth / 1e12:.1f} TB/s "
        f"from its memory and {card.link / 1e9:.0f} GB/s from others",
    ]
