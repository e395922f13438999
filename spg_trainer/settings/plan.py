"""Settings that cannot work, refused before anything is loaded, each with a value that would.

`plan` refuses what settings and files tell, which takes no torch. What an algorithm asks of them is refused in
`algorithm_checks.py`. All checks raise ConfigError, or ModelError where it is about a model or a device.
"""

import re
import sys
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TypeVar

from spg_trainer.errors import ConfigError, ModelError
from spg_trainer.settings import packages
from spg_trainer.settings.adapters import trains_adapters
from spg_trainer.settings.decoding import check_steps
from spg_trainer.settings.fields import Config, EvalCommand, MergeCommand, SftCommand, TaskSettings
from spg_trainer.settings.model import LoadConfig, ModelConfig, TrainedModelConfig
from spg_trainer.settings.ranges import check_ranges
from spg_trainer.settings.resolve import Resolved
from spg_trainer.settings.updates import BaseOptimizerConfig, OptimizerConfig
from spg_trainer.settings.weights import Weights, is_embedded, resolve_model

Settings = TypeVar("Settings")


class Plan(Resolved[Settings]):
    """The settings of a command that no check refuses, with their origins where these are known."""


def plan(asked: Settings | Resolved[Settings]) -> Plan[Settings]:
    """What a command starts from; a plan that has been made stays as it is.

    Raises SpgError or EnvError for numbers, choices, files, tasks and devices that cannot be. What a training refuses
    besides, for its algorithm or its data, is in `training.plan`.
    """
    if isinstance(asked, Plan):
        return asked
    config, origins = (asked.config, asked.origins) if isinstance(asked, Resolved) else (asked, {})
    for command, check in CHECKS:
        if isinstance(config, command):
            check(config)
    return Plan(config, origins)


def is_resumed(command: Any) -> bool:
    """Whether a run goes on, which may hold the only copy of what it started from."""
    return isinstance(command, Config) and bool(command.output.resume)


def check_task(command: Any) -> None:
    """Refuses task arguments that have flags of their own, and adapters, types and devices that cannot be."""
    own_flags = {"split": "--split or --eval-split", "reward_weights": "--reward-weights"}
    for name in own_flags.keys() & command.env_args.keys():
        raise ConfigError(f"--env-args {name}={command.env_args[name]}: use {own_flags[name]} instead.")
    m = command.model
    if m.load_4bit and m.is_divided:
        raise ConfigError("--shard: weights in 4 bits are not divided. Leave out --shard or --load-4bit.")
    if isinstance(m, TrainedModelConfig) and not is_resumed(command):
        check_adapters(m)
    check_device(m.device)


def check_adapters(m: TrainedModelConfig) -> None:
    """Refuses settings of adapters where none are trained, and what a new model cannot have."""
    if m.load_4bit and not trains_adapters(m):
        raise ConfigError("--load-4bit stores a base that is not trained. Set --lora-r, e.g. 64.")
    if (m.lora_alpha is not None or m.lora_dropout) and not trains_adapters(m):
        raise ConfigError("--lora-alpha and --lora-dropout need adapters. Set --lora-r, e.g. 128.")
    if is_embedded(m.model, "new") and (m.lora_r or m.revision or m.dtype not in ("auto", "float32")):
        raise ConfigError(
            f"--model {m.model} takes no --lora-r, --revision or --dtype: they need --model PATH."
        )


def check_revision(m: LoadConfig, weights: Weights) -> None:
    """Refuses a revision of a model that is no model of the Hub, and one that git would not take as a name.

    Source of the names: git-check-ref-format.
    """
    if m.revision is None:
        return
    if weights.is_local:
        raise ConfigError(
            f"--revision {m.revision}: --model {m.model} is no model of the Hub, and only these have revisions. Leave "
            "it out."
        )
    parts = m.revision.split("/")
    if not all(parts) or re.search(
        r"[\s\x00-\x20\x7f~^:?*\[\\]|\.\.|@\{|(^|/)[.-]|(\.|\.lock)(/|$)", m.revision
    ):
        raise ConfigError(
            f"--revision {m.revision!r}: no branch, tag or commit is called so. Use e.g. --revision main, or the "
            "commit that the model's page shows."
        )


def check_device(name: str) -> None:
    """Refuses a name of no device, and a CUDA device where torch has no CUDA; once loaded, torch says that itself."""
    if not re.fullmatch(r"auto|cpu|mps|(cuda|xpu)(:\d+)?", name):
        raise ModelError(f"--device {name!r}: there is no such device. Use auto, cpu, cuda or cuda:0.")
    if "torch" in sys.modules:
        return
    try:
        build = version("torch")
    except PackageNotFoundError:  # its import will say so
        return
    if name.startswith("cuda") and build.endswith("+cpu"):
        raise ModelError(
            f"device {name!r}: torch {build} is built without CUDA; use --device cpu, or install torch for CUDA "
            "(pytorch.org)"
        )


def check_training(config: Config) -> None:
    """Refuses decoding, batches, flags and optimizers that cannot be, whatever the algorithm is."""
    b = config.batch
    config.rollout.check_together()
    if (config.processes or config.link) and not config.dry_run:
        flag = "--processes" if config.processes else "--link"
        raise ConfigError(f"{flag} is what --dry-run computes for. Add --dry-run, or leave it out.")
    if config.gpu and (not config.dry_run or config.model.device == "cpu"):
        raise ConfigError(
            f"--gpu {config.gpu} is what --dry-run computes for. Add --dry-run, without --device cpu."
        )
    if config.eval.patience and not config.eval.eval_steps:
        raise ConfigError(f"--patience {config.eval.patience} counts validations. Set --eval-steps, e.g. 20.")
    if config.pairs_sha256 and not config.pairs:
        raise ConfigError(f"--pairs-sha256 {config.pairs_sha256} is of a file. Name it with --pairs.")
    for name in ("all_right_weight", "all_wrong_weight"):
        value, default = getattr(b, name), getattr(type(b), name)
        if value != default and not b.pools:
            raise ConfigError(
                f"--{name.replace('_', '-')} {value} says nothing without --pools. Add --pools."
            )
    if b.pools and config.pairs:
        raise ConfigError("--pools: each of --pairs has a right and a wrong completion. Leave it out.")
    if b.explore:
        check_rounds(config)
    if b.num_minibatches > (groups := b.prompts_per_step):
        raise ConfigError(
            f"--num-minibatches {b.num_minibatches}: a step has {groups} groups. Use {groups} or fewer."
        )
    check_optimizer(config.optimizer, config.model)


def check_optimizer(o: OptimizerConfig, m: ModelConfig) -> None:
    """Refuses a share of the run that no schedule reads, and what goes neither with Muon nor with a divided model."""
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


def check_muon(o: BaseOptimizerConfig, m: LoadConfig) -> None:
    """Refuses Muon where matrices are divided."""
    if m.is_divided and o.optimizer == "muon":
        raise ConfigError("--shard: Muon needs whole matrices. Use --optimizer adamw.")


def check_rounds(config: Config) -> None:
    """Refuses --explore with pairs, with groups too small for two rounds, or with several batches of a rollout."""
    b = config.batch
    if config.pairs:
        raise ConfigError("--explore: each of --pairs has a right and a wrong completion. Leave it out.")
    if b.num_generations < 4:
        raise ConfigError(
            f"--num-generations {b.num_generations}: the first round of --explore samples half of them, at least two. "
            "Use --num-generations 4 or more."
        )
    if b.max_rollout_batches > 1:
        raise ConfigError(
            f"--explore with --max-rollout-batches {b.max_rollout_batches}: one samples more of the same problems, the "
            "other further problems. Use one of them."
        )


def check_eval(command: EvalCommand) -> None:
    """Refuses equal completions, steps that cannot be, and masks that do not come in eight groups.

    Lengths and steps that do not divide are refused where each pair of them is decoded (`EvalRollout.samplings`).
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


def check_sft(command: SftCommand) -> None:
    """Refuses data and settings that do not go together, and what a new, a divided or an adapted model cannot have."""
    m, save_dtype, width_unit = command.model, command.save_dtype, 2 * command.num_heads
    if command.data and not (Path(command.data).is_file() or packages.envs.texts.names_hub(command.data)):
        raise ConfigError(
            f"--data {command.data}: there is no such file (looked in {Path.cwd()}). Give a file, or the name of a "
            "data set on the hub, ORG/NAME."
        )
    if is_embedded(m.model, "new") and command.hidden_size % width_unit:
        raise ConfigError(
            f"--hidden-size {command.hidden_size} cannot be shared by {command.num_heads} heads of even width. Use "
            f"--hidden-size {command.hidden_size + -command.hidden_size % width_unit}."
        )
    if command.data and command.mix:
        raise ConfigError(
            "--mix is of an environment's habits. With --data every row is learned: leave it out."
        )
    if command.data and not command.env and command.env_args:
        raise ConfigError(
            f"{', '.join(command.env_args)}: with --data there is no task that would take this. Its columns are "
            "`prompt` and `completion`, or chat `messages`: rename those of the file, or teach it as a task, with "
            "--env FILE --env-args prompt=COLUMN demonstration=COLUMN and --verifier or --reward."
        )
    if isinstance(m, ModelConfig) and m.ref_copy:  # from Python: the flags of sft have none
        raise ConfigError("ref_copy: sft compares with no reference. Leave it out.")
    check_steps(command.rollout.diffusion_steps)
    if m.is_divided and command.eval.patience:
        raise ConfigError(
            f"--shard with --patience {command.eval.patience}: of a divided model the best weights are not kept apart. "
            "Use --patience 0, a cosine of --steps."
        )
    check_muon(command.optimizer, m)
    if m.is_divided and save_dtype != "auto":
        raise ConfigError(
            f"--shard writes weights as they are trained, not in {save_dtype}. Use --save-dtype auto."
        )
    if save_dtype != "auto" and trains_adapters(m):
        raise ConfigError(f"--save-dtype {save_dtype} is for whole models, not adapters. Use auto.")


def check_processes(m: LoadConfig, num_processes: int) -> None:
    """Refuses weights that are divided in one process, and one GPU for several processes."""
    if num_processes > 1 and ":" in m.device:
        raise ConfigError(f"--device {m.device} is one GPU, not {num_processes}. Leave out --device.")
    if m.is_divided and num_processes == 1:
        raise ConfigError(
            "--shard divides the weights among processes, and this is the only one. Start several, e.g. with `torchrun "
            "--nproc-per-node 8 -m spg_trainer`, or leave it out."
        )


def check_source(command: MergeCommand) -> None:
    """Refuses a run or an adapter that is not there."""
    if command.source:
        resolve_model(command.source)


def check_weights(command: TaskSettings) -> None:
    """Refuses a model that is not there, and a revision that it cannot have; a run that goes on has its own copy."""
    if not (is_embedded(command.model.model, "new") or is_resumed(command)):
        check_revision(command.model, resolve_model(command.model.model, command.env))


def check_environment(command: TaskSettings) -> None:
    """Refuses a task that nobody knows."""
    if command.env:
        packages.envs.resolve(command.env)


CHECKS: tuple[tuple[type, Callable[[Any], None]], ...] = (
    (object, check_ranges),
    (MergeCommand, check_source),
    (TaskSettings, check_task),
    (Config, check_training),
    (EvalCommand, check_eval),
    (SftCommand, check_sft),
    (TaskSettings, check_weights),
    (TaskSettings, check_environment),  # the last, because the package takes a while to load
)
"""(the commands that it is for, a check), in the order in which they are made."""
