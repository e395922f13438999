"""What --dry-run prints, without opening the weights: every setting with its origin, a step in numbers, an estimate."""

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

ONLY_DRY = ("dry_run", "gpu", "processes", "link", "config")
"""Settings of the dry run, not of the run that it is about. They are not printed, so that the run can read what is
printed by --config."""


def show(resolved: Resolved[Config]) -> str:
    """The settings of a training as YAML with the origin of each; below, a step in numbers and an estimate as comments.

    Without --processes, the processes are those of the launcher that started this one, such as torchrun.
    """
    requested = resolved.config
    processes = requested.processes or int(os.environ.get("WORLD_SIZE", "1"))
    planned = plan_training(resolved, processes)
    config, algorithm = planned.config, planned.algorithm
    samples_episodes = planned.splits and not config.pairs
    turns = planned.splits["train"].max_turns if samples_episodes else 1
    comments = []
    # What is known of the decoding of a published model may leave out its blocks and steps.
    decoding = decoding_layer(config.model.model)
    if decoding and "block_length" not in decoding.values.get("rollout", {}):
        comments.append(f"decoding: {decoding.origin} has no blocks and steps of its own; LLaDA's are taken")
    comments.append(arithmetic(config, algorithm, processes, turns))
    comments += memory_and_time(config, algorithm, processes, requested.gpu, requested.link)
    if planned.missing:
        comments.append(f"data: the run will need it, and it is not here yet. {planned.missing}")
    return "\n# ".join([with_origins(config, algorithm, planned.origins), *comments]) + "\n"


def with_origins(config: Config, algorithm: Any, origins: Mapping[str, str]) -> str:
    """The settings and all hyper-parameters as YAML, with the origin of each value in a comment behind it.

    Those of `ONLY_DRY` are left out.

    origins: by dotted names, e.g. {"rollout.block_length": "--block-length"}; what is not in it is a default.
    """
    # An algorithm takes the rollout's blocks, unless its arguments say others (`Config.hyper_parameters`).
    origins = {"algorithm_args.block_length": "rollout.block_length", **origins}
    config = replace(config, algorithm_args=asdict(algorithm))

    def lines(tree: Mapping[str, Any], path: str = "", indent: str = "") -> Iterator[str]:
        for key, value in tree.items():
            if value and isinstance(value, dict):
                yield f"{indent}{key}:"
                yield from lines(value, f"{path}{key}.", f"{indent}  ")
            else:
                # A list is written on one line, as `key: [a, b]`, which None stands for.
                flow_style = None if isinstance(value, list) else False
                text = yaml.safe_dump(
                    {key: value}, default_flow_style=flow_style, width=1e9, allow_unicode=True
                )
                yield f"{indent}{text.rstrip()}  # {origins.get(path + key, 'default')}"

    return "\n".join(lines({key: value for key, value in plain(config).items() if key not in ONLY_DRY}))


def memory_and_time(
    config: Config,
    algorithm: algorithms.Algorithm,
    processes: int,
    gpu: str | None = None,
    link: str | None = None,
) -> list[str]:
    """An estimate of a step's memory and seconds in a few lines, or one line that says why there is none.

    There is none where the model's shape cannot be known here. gpu: as --gpu, then further lines say whether the run
    fits on that card; None = the seconds are those of an H200. link: a name in `LINKS`, None = the card's own.
    """
    model_config = find_config(config.model, config.env)
    if model_config is None:
        name = config.model.model
        return [f"memory and time: the shape of {name} is unknown here. Download its config.json first."]
    shape = shape_of(model_config)
    on_cpu = config.model.device == "cpu"
    card = find_card(gpu or "H200")
    if link:
        card = replace(card, link=LINKS[link])

    def predict(changed: Config, processes: int = processes) -> Estimate:
        """The estimate of `config`, or of `config` with some changes."""
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
    if on_cpu:  # the seconds are those of a card
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
    """The type in which a pass of the model is computed.

    --dtype auto stands for bfloat16 on a GPU and float32 on a CPU (--device cpu). Where all weights are trained and
    each process has them whole, it is float32 on both: a pass is computed in the type that is trained.
    """
    if model.dtype != "auto":
        return model.dtype
    trains_whole = not (model.lora_r or model.is_divided)
    return "float32" if model.device == "cpu" or trains_whole else "bfloat16"


def shown_count(weights: float) -> str:
    """A number of weights, e.g. "8.02 billion"."""
    return f"{weights / 1e9:.2f} billion" if weights >= 1e8 else f"{weights / 1e6:.2f} million"


def estimate_lines(estimated: Estimate, shape: Shape, dtype: str, card: Device, processes: int) -> list[str]:
    """Lines that show an estimate: the model's weights, the memory of a process and, in the last one, seconds."""

    def in_gib(parts: dict[str, float]) -> str:
        return ", ".join(f"{name} {size / 2**30:.2f}" for name, size in parts.items())

    def with_limit(name: str, seconds: float) -> str:
        limit = f" ({estimated.bound[name]} binds)" if name in estimated.bound else ""
        return f"{name} {seconds:.1f}{limit}"

    seconds = ", ".join(with_limit(name, took) for name, took in estimated.seconds.items() if took)
    # A token is multiplied by the head and the weights of layers; its embedding is only looked up.
    weights_of_token = shape.active + shape.vocabulary * shape.width
    is_mixture = shape.active < shape.body
    used = f"{shown_count(weights_of_token)} of them for a token" if is_mixture else "all for every token"
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
