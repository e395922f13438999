"""Refuses settings that cannot work, before anything is loaded; each error names a value that would.

`plan` makes the checks that need settings and files alone, and no torch. What does not go with the algorithm is refused
in `algorithm_checks.py`. All checks raise ConfigError, but ModelError for a model or a device that cannot be used, and
EnvError for a task that cannot be found.
"""

import re
import sys
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TypeVar

from spg_trainer.errors import ConfigError, ModelError
from spg_trainer.settings import packages  # `packages.envs` is ours, loaded on first use
from spg_trainer.settings.adapters import trains_adapters
from spg_trainer.settings.decoding import check_steps
from spg_trainer.settings.fields import Config, EvalCommand, MergeCommand, TaskSettings
from spg_trainer.settings.model import LoadConfig, ModelConfig
from spg_trainer.settings.ranges import check_ranges
from spg_trainer.settings.resolve import Resolved
from spg_trainer.settings.updates import OptimizerConfig
from spg_trainer.settings.weights import Weights, is_embedded, resolve_model

Settings = TypeVar("Settings")


class Plan(Resolved[Settings]):
    """The settings of a command after all checks of this file, and where each came from, if it is known."""


def plan(settings: Settings | Resolved[Settings]) -> Plan[Settings]:
    """Makes the checks of a command, and returns its settings as a plan; a plan is returned as it is.

    Raises SpgError or EnvError for numbers, choices, files, tasks and devices that cannot be. `training.plan` makes the
    further checks of a training, of its algorithm and its data.
    """
    if isinstance(settings, Plan):
        return settings
    config, origins = (
        (settings.config, settings.origins) if isinstance(settings, Resolved) else (settings, {})
    )
    for command, check in CHECKS:
        if isinstance(config, command):
            check(config)
    return Plan(config, origins)


def is_resumed(command: Any) -> bool:
    """Says whether a command resumes a training. What its `--model` names may be gone then, so it is not checked."""
    return isinstance(command, Config) and bool(command.output.resume)


def check_task(command: Any) -> None:
    """Refuses task arguments that have flags of their own, and a model, adapters or a device that cannot be used."""
    own_flags = {"split": "--split or --eval-split", "reward_weights": "--reward-weights"}
    for name in own_flags.keys() & command.env_args.keys():
        raise ConfigError(f"--env-args {name}={command.env_args[name]}: use {own_flags[name]} instead.")
    m = command.model
    if m.load_4bit and m.is_divided:
        raise ConfigError("--shard: weights in 4 bits are not divided. Leave out --shard or --load-4bit.")
    if isinstance(m, ModelConfig):
        if m.compile and m.is_divided:
            raise ConfigError(
                "--compile: layers that --shard gathers are not compiled. Leave out one of the two."
            )
        if not is_resumed(command):
            check_new_model(m)
            check_adapters(m)
    check_device(m.device)


def check_new_model(m: ModelConfig) -> None:
    """Refuses settings that a new model cannot have."""
    if not is_embedded(m.model, "new"):
        return
    width_unit = 2 * m.num_heads  # rotary positions need heads of even width
    if m.hidden_size % width_unit:
        next_multiple = m.hidden_size + -m.hidden_size % width_unit
        raise ConfigError(
            f"--hidden-size {m.hidden_size} cannot be shared by {m.num_heads} heads of even width. Use "
            f"--hidden-size {next_multiple}."
        )
    if m.lora_r or m.revision or m.dtype not in ("auto", "float32"):
        raise ConfigError(
            f"--model {m.model} takes no --lora-r, --revision or --dtype: they need --model PATH."
        )


def check_adapters(m: ModelConfig) -> None:
    """Refuses settings that need adapters where none are trained."""
    if m.load_4bit and not trains_adapters(m):
        raise ConfigError("--load-4bit stores a base that is not trained. Set --lora-r, e.g. 64.")
    if (m.lora_alpha is not None or m.lora_dropout) and not trains_adapters(m):
        raise ConfigError("--lora-alpha and --lora-dropout need adapters. Set --lora-r, e.g. 128.")


def check_revision(m: LoadConfig, weights: Weights) -> None:
    """Refuses a revision of a model that is not from the Hub, and one that git does not allow as a name.

    Source of what git allows: git-check-ref-format.
    """
    if m.revision is None:
        return
    if weights.is_local:
        raise ConfigError(
            f"--revision {m.revision}: --model {m.model} is no model of the Hub, and only these have revisions. Leave "
            "it out."
        )
    parts = m.revision.split("/")
    # Empty parts; spaces, control characters and ~^:?*[\; `..` and `@{`; parts that begin with `.` or `-`, or that end
    # with `.` or `.lock`.
    if not all(parts) or re.search(
        r"[\s\x00-\x20\x7f~^:?*\[\\]|\.\.|@\{|(^|/)[.-]|(\.|\.lock)(/|$)", m.revision
    ):
        raise ConfigError(
            f"--revision {m.revision!r}: no branch, tag or commit is called so. Use e.g. --revision main, or the "
            "commit that the model's page shows."
        )


def check_device(name: str) -> None:
    """Refuses an unknown device, and a CUDA device where the installed torch is one for the CPU."""
    if not re.fullmatch(r"auto|cpu|mps|(cuda|xpu)(:\d+)?", name):
        raise ModelError(f"--device {name!r}: there is no such device. Use auto, cpu, cuda or cuda:0.")
    if "torch" in sys.modules:  # then nothing is saved by refusing the device before torch does
        return
    try:
        build = version("torch")
    except PackageNotFoundError:  # importing it will raise that it is missing
        return
    if name.startswith("cuda") and build.endswith("+cpu"):
        raise ModelError(
            f"device {name!r}: torch {build} is built without CUDA; use --device cpu, or install torch for CUDA "
            "(pytorch.org)"
        )


def check_training(config: Config) -> None:
    """Refuses decoding, batches, flags and optimizers of a training that cannot work with any algorithm."""
    b = config.batch
    if config.rollout.is_settled:
        config.rollout.check_together()
    check_source(config)
    if config.processes and not config.dry_run:
        raise ConfigError("--processes is what --dry-run computes for. Add --dry-run, or leave it out.")
    if config.gpu and not config.dry_run:
        raise ConfigError(
            f"--gpu {config.gpu} is what --dry-run computes for. Add --dry-run, or leave it out."
        )
    if config.gpu and config.model.device == "cpu":
        raise ConfigError(f"--gpu {config.gpu} and --device cpu say two things. Leave one of them out.")
    if config.eval.patience and not config.eval.eval_steps:
        raise ConfigError(f"--patience {config.eval.patience} counts validations. Set --eval-steps, e.g. 20.")
    for name in ("all_right_weight", "all_wrong_weight"):
        value, default = getattr(b, name), getattr(type(b), name)
        if value != default and not b.pools:
            raise ConfigError(
                f"--{name.replace('_', '-')} {value} says nothing without --pools. Add --pools."
            )
    if b.pools and not config.samples:
        raise ConfigError(f"--pools: nothing is sampled with --source {config.source}. Leave it out.")
    groups = b.prompts_per_step
    if b.num_minibatches > groups:
        raise ConfigError(
            f"--num-minibatches {b.num_minibatches}: a step has {groups} groups. Use {groups} or fewer."
        )
    check_optimizer(config.optimizer, config.model)
    check_save_dtype(config)


def check_source(config: Config) -> None:
    """Refuses files, shares and groups that belong to another --source than the one that the run learns from."""
    source, count = config.source, config.batch.num_generations
    for name, owner in (("pairs", "pairs"), ("data", "demonstrations"), ("mix", "demonstrations")):
        if getattr(config, name) and source != owner:
            raise ConfigError(f"--{name} is for --source {owner}, not {source}. Leave one of them out.")
    if source == "pairs" and not config.pairs:
        raise ConfigError("--source pairs learns from a file. Name it with --pairs.")
    if source == "demonstrations":
        check_demonstrations(config)
        return
    config.rollout.check_together()  # only demonstrations leave lengths open
    if count < 2:
        # The advice is 8, because every algorithm takes it: trees of rollouts need a multiple of their 2 or 4 branches.
        raise ConfigError(
            f"--num-generations {count}: should be at least 2, to judge each against the others. Try 8."
        )


def check_demonstrations(config: Config) -> None:
    """Refuses a file of texts that is not there, and settings of a task or a mix beside it; and groups."""
    if config.data and not (Path(config.data).is_file() or packages.envs.texts.names_hub(config.data)):
        raise ConfigError(
            f"--data {config.data}: there is no such file (looked in {Path.cwd()}). Give a file, or the name of a "
            "data set on the hub, ORG/NAME."
        )
    if config.data and config.mix:
        raise ConfigError(
            "--mix is of an environment's habits. With --data every row is learned: leave it out."
        )
    if config.data and not config.env and config.env_args:
        raise ConfigError(
            f"{', '.join(config.env_args)}: with --data there is no task that would take this. Its columns are "
            "`prompt` and `completion`, or chat `messages`: rename those of the file, or teach it as a task, with "
            "--env FILE --env-args prompt=COLUMN demonstration=COLUMN and --verifier or --reward."
        )
    if config.batch.num_generations != 1:
        raise ConfigError(
            f"--num-generations {config.batch.num_generations}: each demonstration is one completion. Use "
            "--num-generations 1."
        )


def check_save_dtype(config: Config) -> None:
    """Refuses --save-dtype where only a part of the weights is at hand, or adapters are written."""
    m, dtype = config.model, config.output.save_dtype
    if m.is_divided and dtype != "auto":
        raise ConfigError(
            f"--shard writes weights as they are trained, not in {dtype}. Use --save-dtype auto."
        )
    if dtype != "auto" and trains_adapters(m):
        raise ConfigError(f"--save-dtype {dtype} is for whole models, not adapters. Use auto.")


def check_optimizer(o: OptimizerConfig, m: ModelConfig) -> None:
    """Refuses --lr-decay-share if no schedule reads it, 8-bit moments with Muon or --shard, and Muon with --shard."""
    if o.lr_decay_share != OptimizerConfig.lr_decay_share and o.lr_schedule != "warmup_stable_decay":
        raise ConfigError(
            f"--lr-decay-share {o.lr_decay_share} says nothing with --lr-schedule {o.lr_schedule}. Leave it out, or "
            "use --lr-schedule warmup_stable_decay."
        )
    if o.optimizer == "muon" and o.adam_moments == "8bit":
        raise ConfigError(
            "--adam-moments 8bit with --optimizer muon: only AdamW's moments are stored in 8 bits. Use --adam-moments "
            "float32 or --optimizer adamw."
        )
    check_muon(o, m)
    if m.is_divided and o.adam_moments == "8bit":
        raise ConfigError(
            "--shard with --adam-moments 8bit: blocks of them share a scale, so that another number of processes could "
            "not resume. Use --adam-moments float32."
        )


def check_muon(o: OptimizerConfig, m: LoadConfig) -> None:
    """Refuses Muon, which needs whole matrices, with --shard, which divides them."""
    if m.is_divided and o.optimizer == "muon":
        raise ConfigError("--shard: Muon needs whole matrices. Use --optimizer adamw.")


def check_eval(command: EvalCommand) -> None:
    """Refuses several completions of a problem that would be equal, and numbers of steps and masks that cannot be.

    Lengths and steps that do not divide are refused later, by `EvalRollout.samplings`.
    """
    if command.num_generations > 1 and command.rollout.temperature == 0:
        count = f"--num-generations {command.num_generations}"
        raise ConfigError(
            f"{count} at --temperature 0 gives equal completions. Raise it, e.g. --temperature 0.9."
        )
    for steps in command.rollout.diffusion_steps:
        check_steps(steps)
    masks = command.num_masks
    if command.perplexity is None and masks != EvalCommand.num_masks:
        raise ConfigError(f"--num-masks {masks} is for --perplexity FILE. Name the file, or leave it out.")
    if masks % 8:
        raise ConfigError(
            f"--num-masks {masks}: they are drawn in eight groups, whose differences show how far chance moves the "
            f"result. Use {masks + -masks % 8}."
        )


def check_processes(m: LoadConfig, num_processes: int) -> None:
    """Refuses --shard with a single process, and a single GPU for several processes."""
    if num_processes > 1 and ":" in m.device:
        raise ConfigError(f"--device {m.device} is one GPU, not {num_processes}. Leave out --device.")
    if m.is_divided and num_processes == 1:
        raise ConfigError(
            "--shard divides the weights among processes, and this is the only one. Start several, e.g. with `torchrun "
            "--nproc-per-node 8 -m spg_trainer`, or leave it out."
        )


def check_merged(command: MergeCommand) -> None:
    """Refuses to merge a run or an adapter that does not exist."""
    if command.source:
        resolve_model(command.source)


def check_weights(command: TaskSettings) -> None:
    """Refuses a model that does not exist, and a revision that it cannot have; a run that goes on has its own copy."""
    if not (is_embedded(command.model.model, "new") or is_resumed(command)):
        check_revision(command.model, resolve_model(command.model.model, command.env))


def check_environment(command: TaskSettings) -> None:
    """Refuses a task that nobody knows."""
    if command.env:
        packages.envs.resolve(command.env)


CHECKS: tuple[tuple[type, Callable[[Any], None]], ...] = (
    (object, check_ranges),
    (MergeCommand, check_merged),
    (TaskSettings, check_task),
    (Config, check_training),
    (EvalCommand, check_eval),
    (TaskSettings, check_weights),
    (TaskSettings, check_environment),  # the last, because the package `envs` takes a while to load
)
"""(the class of commands that a check is for, the check), in the order in which they are made."""
