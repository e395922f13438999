"""Settings that cannot work, refused before anything is loaded, each with a value that would.

`plan` refuses what files and settings tell, which takes no torch; `check_algorithm` what an algorithm asks.
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
from spg_trainer.settings.decoding import Sampling, check_steps
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
    """What every command on a task refuses: arguments that have flags, idle adapters, a device that is not there."""
    flags = {"split": "--split or --eval-split", "reward_weights": "--reward-weights"}
    for name in flags.keys() & command.env_args.keys():
        raise ConfigError(f"--env-args {name}={command.env_args[name]}: use {flags[name]} instead.")
    m = command.model
    if m.load_4bit and m.is_divided:
        raise ConfigError("--shard: weights in 4 bits are not divided. Leave out --shard or --load-4bit.")
    if isinstance(m, TrainedModelConfig) and not is_resumed(command):
        check_adapters(m)
    check_device(m.device)


def check_adapters(m: TrainedModelConfig) -> None:
    """Adapters where none are trained, and what a new model cannot have."""
    if m.load_4bit and not trains_adapters(m):
        raise ConfigError("--load-4bit stores a base that is not trained. Set --lora-r, e.g. 64.")
    if (m.lora_alpha is not None or m.lora_dropout) and not trains_adapters(m):
        raise ConfigError("--lora-alpha and --lora-dropout need adapters. Set --lora-r, e.g. 128.")
    if is_embedded(m.model, "new") and (m.lora_r or m.revision or m.dtype not in ("auto", "float32")):
        raise ConfigError(
            f"--model {m.model} takes no --lora-r, --revision or --dtype: they need --model PATH."
        )


def check_revision(m: LoadConfig, weights: Weights) -> None:
    """A revision of what is here already, and one that git would not take as a name.

    Source: git-check-ref-format.
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
    """A name of no device, and a CUDA device where torch has no CUDA; once torch is loaded, it says that itself."""
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
    """How a training decodes, divides a step and keeps its optimizer, whatever the algorithm."""
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
    for name in ("all_right_weight", "all_wrong_weight") if not b.pools else ():
        if (value := getattr(b, name)) != getattr(type(b), name):
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
    """What does not go with Muon or with a divided model, and a share of the run that no schedule reads."""
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
    """Muon where matrices are divided."""
    if m.is_divided and o.optimizer == "muon":
        raise ConfigError("--shard: Muon needs whole matrices. Use --optimizer adamw.")


def check_rounds(config: Config) -> None:
    """Rounds of a step, where a first one is too small to compare, or groups do not differ or are set aside instead."""
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


def check_unmasking(r: Sampling, force: bool) -> None:
    """Decoding that feeds on what it changes, and decoding that no bound describes."""
    by_threshold = r.unmasking in ("threshold", "dynamic")  # dynamic: those, or as many as the schedule
    safe = force or (by_threshold and r.threshold >= 0.95 and r.max_tokens_per_step)
    if r.unmasking != "schedule" and not safe:
        raise ConfigError(
            f"{', '.join(r.shortcuts)}: unmasking by confidence feeds on what RL raises. Train with --unmasking "
            "threshold or dynamic, a --threshold of 0.95 or more, and --max-tokens-per-step 4, or insist with --force."
        )
    if r.editing_threshold is not None:
        raise ConfigError(
            f"editing_threshold={r.editing_threshold}: a token that was replaced has stood beside others as another "
            "one, so no masked copy of the completion shows what they were drawn from, and no bound of a likelihood "
            "holds for what the sampler does. Leave it out of training: give Sampling, not EvalSampling."
        )


def check_eval(command: EvalCommand) -> None:
    """Equal completions; sizes that do not divide are found once for each length and number of steps."""
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
    """What only a training by RL has, and what a divided model or an adapter cannot have."""
    m, save, pairs = command.model, command.save_dtype, 2 * command.num_heads
    if command.data and not (Path(command.data).is_file() or packages.envs.texts.names_hub(command.data)):
        raise ConfigError(
            f"--data {command.data}: there is no such file (looked in {Path.cwd()}). Give a file, or the name of a "
            "data set on the hub, ORG/NAME."
        )
    if is_embedded(m.model, "new") and command.hidden_size % pairs:
        raise ConfigError(
            f"--hidden-size {command.hidden_size} cannot be shared by {command.num_heads} heads of even width. Use "
            f"--hidden-size {command.hidden_size + -command.hidden_size % pairs}."
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
    if isinstance(m, ModelConfig) and m.ref_copy:
        raise ConfigError("ref_copy: sft compares with no reference. Leave it out.")
    check_steps(command.rollout.diffusion_steps)
    if m.is_divided and command.eval.patience:
        raise ConfigError(
            f"--shard with --patience {command.eval.patience}: of a divided model the best weights are not kept apart. "
            "Use --patience 0, a cosine of --steps."
        )
    check_muon(command.optimizer, m)
    if m.is_divided and save != "auto":
        raise ConfigError(
            f"--shard writes weights as they are trained, not in {save}. Use --save-dtype auto."
        )
    if save != "auto" and trains_adapters(m):
        raise ConfigError(f"--save-dtype {save} is for whole models, not adapters. Use auto.")


def check_processes(m: LoadConfig, num_processes: int) -> None:
    """Weights that shall be divided where there is nobody to share them with; one GPU for several processes."""
    if num_processes > 1 and ":" in m.device:
        raise ConfigError(f"--device {m.device} is one GPU, not {num_processes}. Leave out --device.")
    if m.is_divided and num_processes == 1:
        raise ConfigError(
            "--shard divides the weights among processes, and this is the only one. Start several, e.g. with `torchrun "
            "--nproc-per-node 8 -m spg_trainer`, or leave it out."
        )


def check_algorithm(config: Config, algorithm: Any, num_processes: int = 1) -> None:
    """What goes with an algorithm: its decoding, its updates, its reference, and whole groups in each process."""
    b, r, name = config.batch, config.rollout, f"--algorithm {config.algorithm}"
    algorithm.make_masking().check(r.max_completion_length)
    check_unmasking(r, config.force)
    if config.pairs and "pairs" not in algorithm.needs:
        raise ConfigError(f"--pairs: {name} learns only from what the model samples. Use --algorithm vrpo.")
    if config.pairs and b.max_rollout_batches > 1:
        raise ConfigError(
            f"--max-rollout-batches {b.max_rollout_batches}: each of --pairs has unequal rewards, so that no group "
            "would be set aside. Leave it at 1."
        )
    if config.pairs and b.num_generations != 2:
        raise ConfigError(f"--num-generations {b.num_generations}: a pair is two. Use --num-generations 2.")
    if algorithm.left_to_right and r.block_length != 1:
        steps = f"--block-length 1 --diffusion-steps {r.max_completion_length}"
        raise ConfigError(f"{name} samples token by token, not in blocks of {r.block_length}. Use {steps}.")
    if algorithm.left_to_right and b.num_iterations * b.num_minibatches > 1:
        updates = "--num-iterations 1 --num-minibatches 1"
        raise ConfigError(f"{name} has no ratio for several updates of a rollout. Use {updates}.")
    if algorithm.branches > 1:
        check_trees(b.num_generations, r, algorithm.branches, name)
    if "order" in algorithm.needs:
        check_positions(r, algorithm, name)
    check_reference(config.model, algorithm, name)
    check_processes(config.model, num_processes)
    if b.explore and (algorithm.whole_step or algorithm.branches > 1):
        raise ConfigError(
            f"--explore gives groups unequal sizes, which {name} does not compare. Leave it out, or use --algorithm "
            "spg or raft."
        )
    whole = algorithm.compares == "group" or algorithm.branches > 1 or config.pairs
    at_once = b.num_generations // 2 if b.explore else b.num_generations  # of a group, in the first round
    together = at_once if whole else 1
    if b.prompts_per_step * at_once < num_processes * together:
        raise ConfigError(
            f"--prompts-per-step {b.prompts_per_step} leaves some of {num_processes} processes without a completion. "
            f"Use {-(-num_processes * together // at_once)} or more."
        )


def check_chance(config: Config, algorithm: Any) -> None:
    """Greedy rollouts, whose groups are of equal completions, where an algorithm compares them."""
    r, count = config.rollout, config.batch.num_generations
    if not (r.draws_noise or config.pairs or config.force or algorithm.right_groups_teach):
        raise ConfigError(
            f"--temperature {r.temperature:g}: decoding without chance writes {count} times the same completion to a "
            f"problem, and --algorithm {config.algorithm} learns from how they differ. Use --temperature 0.9, or an "
            "algorithm that imitates right completions (--algorithm raft), or insist with --force."
        )


def check_positions(r: Sampling, algorithm: Any, name: str) -> None:
    """A rollout that draws no positions, or draws them by another law than the one that is scored."""
    if r.remasking != "plackett_luce":
        raise ConfigError(
            f"--remasking {r.remasking}: {name} learns where to write, so positions have to be drawn. Use --remasking "
            "plackett_luce."
        )
    for flag in ("position_temperature", "block_length"):
        sampled, scored = getattr(r, flag), getattr(algorithm, flag)
        if sampled != scored:
            raise ConfigError(
                f"--{flag.replace('_', '-')} {sampled}: {name} scores the choice of positions with {flag}={scored}. "
                f"Use --algorithm-args {flag}={sampled}."
            )


def check_trees(num_generations: int, r: Sampling, branches: int, name: str) -> None:
    """Groups that are no trees, and completions without a block's end in the middle."""
    if num_generations % branches:
        raise ConfigError(
            f"--num-generations {num_generations}: a tree of {name} has {branches} leaves from each of its nodes. Use "
            f"--num-generations {num_generations + -num_generations % branches}."
        )
    length, block = r.max_completion_length, r.block_length
    if length % 2:
        raise ConfigError(
            f"--max-completion-length {length}: trees of {name} branch in the middle, and so many tokens have none. "
            f"Use --max-completion-length {length + 1}."
        )
    half = length // 2
    if half % block:
        fits = max(n for n in range(1, min(block, half) + 1) if half % n == 0)
        blocks, steps = length // fits, r.diffusion_steps
        more = f" --diffusion-steps {steps + -steps % blocks}" if steps % blocks else ""
        raise ConfigError(
            f"--block-length {block}: trees of {name} branch in the middle of {length} tokens, where a block has to "
            f"end. Use --block-length {fits}{more}."
        )


def check_reference(m: ModelConfig, algorithm: Any, name: str) -> None:
    """A reference that nobody asks for, one that nothing keeps, and one that moves where no process has all weights."""
    if m.ref_copy and "reference" not in algorithm.needs:
        raise ConfigError(
            f"--ref-copy: {name} asks for no reference. Leave it out, or give a KL term its weight, e.g. "
            "--algorithm-args beta=0.04, where the algorithm has one."
        )
    if "reference" not in algorithm.needs:
        return
    if not (m.ref_copy or trains_adapters(m)):
        raise ConfigError(
            f"{name} needs a reference, and all weights are trained. Set --lora-r, e.g. 128, start from an adapter "
            "(--model PATH), or keep a frozen copy of the weights (--ref-copy)."
        )
    if m.is_divided and not m.lora_r and algorithm.ref_model_sync_steps:
        raise ConfigError(
            f"--shard: the reference of {name} takes in the policy every {algorithm.ref_model_sync_steps} updates, and "
            "of divided weights no such reference is kept. Use --algorithm-args ref_model_sync_steps=0, or --lora-r "
            "128."
        )


def check_source(command: MergeCommand) -> None:
    """A run or an adapter that is not there."""
    if command.source:
        resolve_model(command.source)


def check_weights(command: TaskSettings) -> None:
    """A model that is not there, and a revision that it cannot have; a run that goes on has its own copy."""
    if not (is_embedded(command.model.model, "new") or is_resumed(command)):
        check_revision(command.model, resolve_model(command.model.model, command.env))


def check_environment(command: TaskSettings) -> None:
    """A task that nobody knows."""
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
