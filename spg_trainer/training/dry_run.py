"""What of a training can be refused or shown without opening the weights."""

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import yaml

from spg_trainer import algorithms
from spg_trainer.errors import ConfigError
from spg_trainer.evaluation.evaluate import make_env
from spg_trainer.rollout.dealing import check_prompts
from spg_trainer.rollout.pairs import read_pairs, settle_pairs
from spg_trainer.rollout.sampler import check_names, check_pattern
from spg_trainer.runs.tracking import check_trackers
from spg_trainer.settings.adapters import settle
from spg_trainer.settings.checks import check
from spg_trainer.settings.fields import Config
from spg_trainer.settings.packages import envs
from spg_trainer.settings.published import decoding_layer
from spg_trainer.settings.recipes import Layer
from spg_trainer.settings.values import flatten, plain
from spg_trainer.settings.weights import resolve_model
from spg_trainer.training.micro_batches import micro_batch_size
from spg_trainer.training.roofline import find_shape, foretell, pattern_of

if TYPE_CHECKING:
    from envs import TextEnv
    from spg_trainer.models.pattern import Pattern


def show(config: Config, over: Iterable[Layer]) -> str:
    """The settings of a training, made of layers, as YAML with the origin of each; a step in numbers as comments."""
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    settled, algorithm = refuse_early(replace(config, dry_run=False, config=None), processes)
    comments = [arithmetic(settled, algorithm, processes), *foretell(settled, algorithm, processes)]
    decoding = decoding_layer(settled.model.model)
    if decoding and "block_length" not in decoding.values.get("rollout", {}):
        comments.insert(
            0, f"decoding: {decoding.origin} has no blocks and steps of its own; LLaDA's are taken"
        )
    return "\n# ".join([with_origins(settled, algorithm, over), *comments]) + "\n"


def refuse_early(config: Config, num_processes: int = 1) -> tuple[Config, algorithms.Algorithm]:
    """The settled settings of a training, and its algorithm; SpgError or EnvError for what cannot work."""
    algorithm = algorithms.build(config.algorithm, config.hyper_parameters)
    config = settle_pairs(replace(config, model=settle(config.model)))
    examine(config, algorithm, num_processes)
    resolve_model(config.model.model, config.env)
    if shape := find_shape(config):
        check_attention(config, algorithm, pattern_of(shape))
    if config.pairs:
        read_pairs(config.pairs)
    return config, algorithm


def examine(config: Config, algorithm: algorithms.Algorithm, num_processes: int) -> "dict[str, TextEnv]":
    """The splits that settled settings name; ConfigError for what cannot work."""
    check_names(config.rollout)
    check(config, algorithm, num_processes)
    check_trackers(config.output.track)
    splits = open_splits(config)
    if config.pairs is None:
        train = splits["train"]
        check_prompts(config.batch.prompts_per_step, len(train), train.spec_name)
    return splits


def check_attention(config: Config, algorithm: algorithms.Algorithm, pattern: "Pattern") -> None:
    """Raises ConfigError for decoding, or masks of an algorithm, that do not go with who attends to whom in a model."""
    check_pattern(pattern, config.rollout)
    algorithm.make_masking().check_pattern(pattern)


def open_splits(config: Config) -> "dict[str, TextEnv]":
    """The environment in `train` and the splits that are evaluated; ConfigError if it has no validation problems."""
    splits = {split: make_env(config, split) for split in ("train", config.eval.eval_split)}
    if config.eval.eval_steps and "validation" not in splits:
        try:
            splits["validation"] = make_env(config, "validation")
        except envs.EnvError as error:
            text = f"{error} Validation needs this split: --eval-steps 0 trains without."
            raise ConfigError(text) from error
    return splits


def with_origins(settled: Config, algorithm: Any, over: Iterable[Layer]) -> str:
    """`to_yaml` of settings made of layers, and of all hyper-parameters, with where each value comes from behind it."""
    origins = {"algorithm_args.block_length": "rollout.block_length"}
    origins |= {name: layer.origin for layer in over for name in flatten(layer.values)}
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


def arithmetic(config: Config, algorithm: algorithms.Algorithm, num_processes: int = 1) -> str:
    """One line that says what a step does, in numbers."""
    b, r = config.batch, config.rollout
    num_masks = algorithm.make_masking().count(r.max_completion_length)
    completions = b.prompts_per_step * b.num_generations
    rows, _ = micro_batch_size(b.per_device_batch_size, num_masks)
    groups = f"pairs of {config.pairs}" if config.pairs else f"prompts x {b.num_generations} generations"
    most = f"{'up to ' * (completions % num_processes > 0)}{-(-completions // num_processes)}"
    shared = f" ({num_processes} processes x {most})" if num_processes > 1 else ""
    return (
        f"{b.prompts_per_step} {groups} = {completions} completions a step{shared}; {r.max_completion_length} tokens "
        f"in blocks of {r.block_length}, {r.diffusion_steps} denoising steps; updates a step: "
        f"{b.num_iterations * b.num_minibatches}, masks a completion: {num_masks}, micro-batches of up to {rows} "
        f"completions; {config.max_steps} steps."
    )
