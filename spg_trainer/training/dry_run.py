"""What --dry-run prints, without opening the weights: every setting with its origin, a step in numbers, an estimate."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
import yaml

from spg_trainer import algorithms
from spg_trainer.architecture.shape import Shape, find_config, shape_of
from spg_trainer.errors import ModelError
from spg_trainer.estimate.fits import (
    card_lines,
    dtype_of,
    fitting_batch,
    memory_by_batch,
    usable_here,
    what_fits,
    with_masked_copies,
)
from spg_trainer.estimate.memory import PROMPT, Memory, arithmetic
from spg_trainer.estimate.seconds import REACHED, Card, find_card, step_seconds
from spg_trainer.settings.configs import AUTO, Config
from spg_trainer.settings.packages import envs
from spg_trainer.settings.recorded import other_lengths
from spg_trainer.settings.types import plain
from spg_trainer.settings.weights import Weights, family_layer, is_embedded, resolve_model
from spg_trainer.training.plan import Plan, are_surely_short

ONLY_DRY = ("dry_run", "gpu", "processes", "config")
"""Settings of the dry run, not of the run that it is about. They are not printed, so that the run can read the printed
text with --config."""


def show(planned: Plan) -> str:
    """The settings of a training as YAML with the origin of each; below, a step in numbers and an estimate as comments.

    Raises ConfigError or ModelError if the texts of the run do not fit its model.
    """
    config, algorithm = planned.config, planned.algorithm
    note_on_texts = check_texts(planned)
    samples_episodes = bool(planned.splits) and config.samples  # without splits, data is missing
    turns = planned.splits["train"].max_turns if samples_episodes else 1
    comments = []
    # What is known of the decoding of a published model may leave out its blocks and steps.
    of_family = family_layer(config.model.model)
    decoding = of_family.values.get("rollout") if of_family else None
    if decoding is not None and "block_length" not in decoding:
        comments.append(f"decoding: {of_family.origin} has no blocks and steps of its own; LLaDA's are taken")
    if note := other_lengths(config.rollout, config.model.model):
        comments.append(f"lengths: {note}")
    comments.append(arithmetic(config, algorithm, planned.num_processes, turns))
    if samples_episodes:
        comments += reward_lines(planned.splits["train"], planned.origins)
    if planned.splits and (notice := planned.splits["train"].notice):
        comments.append(f"data: {' '.join(notice.split())}")  # a reference in it may have several lines
    if planned.demonstrations:
        comments.append(f"demonstrations: {planned.demonstrations}")
    if note_on_texts:
        comments.append(f"texts: {note_on_texts}")
    comments += memory_and_time(planned)
    if planned.missing:
        comments.append(f"data: the run will need it, and it is not here yet. {planned.missing}")
    return "\n# ".join([with_origins(config, algorithm, planned.origins), *comments]) + "\n"


def check_texts(planned: Plan) -> str:
    """A note on texts that are skipped as too long for the model, or on why they were not measured; "" without either.

    Opens the source of completions as the run does, with the model's tokenizer in place of the model, and raises what
    the run would raise. Short prompts of a model of this package are not even tokenized.
    """
    config = planned.config
    if planned.missing:
        return ""
    model_settings = planned.model
    # With another chat template or mask, the texts of a prompt may be longer.
    is_as_packaged = model_settings.mask_token_id is None and not model_settings.chat_template_args
    if config.samples and is_as_packaged and is_embedded(model_settings.model, "tiny", "new"):
        positions = model_config_of(planned).max_position_embeddings
        if are_surely_short(config, planned.splits, positions):
            return ""
    from spg_trainer.models.load import without_weights
    from spg_trainer.rollout.player import Player
    from spg_trainer.training.setup import open_source

    try:
        policy = without_weights(model_settings, config.env, download=False)
    except ModelError:
        name = model_settings.model
        weights = None if is_embedded(name, "tiny", "new") else resolve_model(name, config.env)
        if weights is None or weights.is_local or has_tokenizer(weights):
            raise
        return "whether they are too long for the model was not looked at, as its tokenizer is not here"
    player = Player(policy.ending_with(planned.algorithm.end_tokens), planned.config.rollout)
    _, note = open_source(planned, player)
    return note


def has_tokenizer(weights: Weights) -> bool:
    """Whether a model lies in a folder, or is an adapter in one, with the files of a tokenizer."""
    folders = [Path(weights.base)] if weights.is_local else []
    folders += [weights.adapter] if weights.adapter else []
    return any(any(folder.glob("tokenizer*")) for folder in folders)


def reward_lines(env: "envs.TextEnv", origins: Mapping[str, str]) -> list[str]:
    """What each task pays, a line for each: its components with their weights, and where each weight comes from.

    E.g. "reward of sudoku: 1 x correct (the task), 0.25 x cells (flag), 0 x format (recipes/sudoku.yaml: tiny)".
    """
    lines = []
    for name, task in (env.parts or {env.spec_name: env}).items():
        preset = f"env_args.{name}.reward_preset" if env.parts else "env_args.reward_preset"
        own = f"its reward_preset ({origins[preset]})" if preset in origins else "the task"
        terms = [
            f"{weight:g} x {component} ({origins.get('reward_weights.' + component, own)})"
            for component, weight in task.reward_weights.items()
        ]
        lines.append(f"reward of {name}: {', '.join(terms)}")
    return lines


def with_origins(config: Config, algorithm: Any, origins: Mapping[str, str]) -> str:
    """The settings, except `ONLY_DRY`, and all hyper-parameters as YAML, each with its origin in a comment behind it.

    origins: by dotted names, e.g. {"rollout.block_length": "--block-length"}; a value that is not in it is a default.
    """
    # An algorithm's block_length is the rollout's, unless its arguments set another one (`Config.hyper_parameters`).
    origins = {"algorithm_args.block_length": "rollout.block_length", **origins}
    config = replace(config, algorithm_args=asdict(algorithm))

    def lines(tree: Mapping[str, Any], path: str = "", indent: str = "") -> Iterator[str]:
        """The lines of nested settings. path: the dotted name of the group that `tree` is, e.g. `rollout.`."""
        for key, value in tree.items():
            if value and isinstance(value, dict):
                yield f"{indent}{key}:"
                yield from lines(value, f"{path}{key}.", f"{indent}  ")
            else:
                # None writes a list on one line, as `key: [a, b]`.
                flow_style = None if isinstance(value, list) else False
                text = yaml.safe_dump(
                    {key: value}, default_flow_style=flow_style, width=1e9, allow_unicode=True
                )
                yield f"{indent}{text.rstrip()}  # {origins.get(path + key, 'default')}"

    return "\n".join(lines({key: value for key, value in plain(config).items() if key not in ONLY_DRY}))


def model_config_of(planned: Plan) -> Any:
    """The configuration of the model; None if it is not here. The plan of a run that goes on has not looked for it."""
    return find_config(planned.model, planned.config.env) if planned.before else planned.model_config


def memory_and_time(planned: Plan) -> list[str]:
    """An estimate of a step's memory and seconds in a few lines, or one line that says why there is none.

    There is none if the model's shape is not known here. With --gpu, further lines say whether the run fits on that
    card; else the seconds are for an H200.
    """
    config, algorithm, processes = planned.config, planned.algorithm, planned.num_processes
    gpu, model_config = config.gpu, model_config_of(planned)
    if model_config is None:
        name = config.model.model
        return [f"memory and time: the shape of {name} is unknown here. Download its config.json first."]
    shape = shape_of(model_config)
    card = find_card(gpu or "H200")

    def memory_of(changed: Config, num_processes: int = processes) -> Memory:
        """The memory of a process under changed settings, or under `config` itself."""
        usable = usable_bytes(changed, card, num_processes)
        return memory_of_process(model_config, changed, algorithm, num_processes, usable)

    memory = memory_of(config)
    dtype = dtype_of(config.model, on_cpu(config))
    lines = memory_lines(memory, shape, dtype, processes)
    if (sharing := config.model.sequence_parallel) > 1:
        length, pattern = config.rollout.max_completion_length, shape.pattern
        columns = pattern.copy_width(PROMPT, length) + pattern.text_width(PROMPT, length)
        lines.append(
            f"sequence_parallel: in an update each process computes {math.ceil(columns / sharing)} of the {columns} "
            "columns of a masked copy"
        )
    if config.batch.per_device_batch_size == AUTO:
        where = "this machine" if on_cpu(config) else f"the {card.name}"
        fits = what_fits(memory.copies, None if on_cpu(config) else memory.rows)
        usable = usable_bytes(config, card, processes)
        holds = "does not even hold" if memory.peak > usable else "holds"
        lines.insert(0, f"per_device_batch_size auto: by this estimate, {where} {holds} {fits} at once")
    if on_cpu(config):  # seconds are estimated for cards only
        return lines
    options = {"dtype": dtype, "processes": processes}
    with_batch = with_masked_copies(config, memory.copies)
    step_time = step_seconds(model_config, with_batch, algorithm, card, **options)
    rollout = f"rollout {step_time.rollout:.1f}, " if config.samples else ""
    seconds = (
        f"seconds of a step at least: {rollout}update {step_time.update:.1f}, if the {card.name} reaches "
        f"{REACHED:.0%} of its data sheet's rate; few rows, or a cache, reach less"
    )
    # A model that redraws keeps its encoder's keys and values anyway, and takes no other cache.
    may_cache = config.rollout.cache == "none" and not config.rollout.unmasking_rule.redraws
    if may_cache and step_time.rollout > step_time.update:

        def rollout_with(cache: str) -> str:
            changed = replace(with_batch, rollout=replace(config.rollout, cache=cache))
            return f"{step_seconds(model_config, changed, algorithm, card, **options).rollout:.1f}"

        if model_config.block_size:
            seconds += f"; --cache blocks, which is exact, makes it a rollout of {rollout_with('blocks')}"
        else:
            seconds += (
                f"; --cache dual, which is an approximation, makes it a rollout of {rollout_with('dual')}, and "
                f"--cache prefix, a closer one, of {rollout_with('prefix')}"
            )
    if (batches := config.batch.max_rollout_batches) > 1:
        seconds += f"; this is for one batch: a rollout of {batches} batches takes {batches} times as long"
    if not gpu:
        seconds += "; for another card give --gpu, e.g. --gpu A100-80; there is no such estimate for a CPU"
        return [*lines, seconds]
    return [*lines, seconds, *card_lines(config, shape, step_time, memory_of, card, processes)]


def on_cpu(config: Config) -> bool:
    """Whether --device is cpu; a dry run takes any other run for one on a GPU."""
    return config.model.device == "cpu"


def memory_of_process(
    model_config: Any, config: Config, algorithm: algorithms.Algorithm, processes: int, usable: float
) -> Memory:
    """The memory of each of `processes` in a step of these settings; for `auto`, with the largest batch that fits.

    model_config: the model's configuration. usable: bytes that the tensors of a process can take.
    """
    memory_with = memory_by_batch(config, algorithm, model_config, processes, on_cpu(config))
    options = {"processes": processes, "on_cuda": not on_cpu(config)}
    return memory_with(*fitting_batch(config, algorithm, memory_with, usable, **options))


def usable_bytes(config: Config, card: Card, processes: int) -> float:
    """Bytes that the tensors of a process can take, on a card or, with --device cpu, on this machine."""
    return usable_here(torch.device("cpu"), processes) if on_cpu(config) else card.usable


def shown_count(weights: float) -> str:
    """A number of weights, e.g. "8.02 billion"."""
    return f"{weights / 1e9:.2f} billion" if weights >= 1e8 else f"{weights / 1e6:.2f} million"


def memory_lines(memory: Memory, shape: Shape, dtype: str, processes: int) -> list[str]:
    """Lines that show the model's weights and the memory of a process."""

    def in_gib(parts: dict[str, float]) -> str:
        """The parts of a memory, {name: bytes}, as "weights 1.50, gradients 0.25"."""
        return ", ".join(f"{name} {size / 2**30:.2f}" for name, size in parts.items())

    # A token is multiplied by the head and the weights of layers; its embedding is only looked up.
    weights_of_token = shape.active + shape.vocabulary * shape.width
    is_mixture = shape.active < shape.body
    used = f"{shown_count(weights_of_token)} of them for a token" if is_mixture else "all for every token"
    return [
        f"weights: {shown_count(shape.whole)}, {used}",
        f"memory of a process (of {processes}) in GiB ({dtype}, if prompts have {PROMPT} tokens): "
        f"{in_gib(memory.held)}",
        f"  an update adds {in_gib(memory.update)}: {memory.update_peak / 2**30:.2f} in all",
        f"  a rollout adds {in_gib(memory.rollout)}: {memory.rollout_peak / 2**30:.2f} in all, without gradients",
    ]
