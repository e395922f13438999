"""Refuses settings that cannot work, before anything is loaded: tables of (condition, sentence), by what is known when.

`check` judges settings and files, and needs no torch. `check_processes` and `check_algorithm` judge settings once the
number of processes and the algorithm are known. `check_machine` looks for the devices, compilers and packages that
settings need; a dry run for other machines leaves it out. All raise ConfigError, except ModelError for a model or a
device that cannot be used, and EnvError for a task that cannot be found.

Four kinds of refusals stand elsewhere: of a value that its type does not allow, e.g. a number out of its range
(`types.py`); of lengths, steps and choices of decoding that do not go together, in `Sampling` (`decoding.py`); of a
cache that a model or its noise cannot use (`rollout/cache.py`); and of names of settings that do not exist, where they
are read, with the nearest known name: flags in `flags.py`, keywords in `resolve.py`, and keys of a file in `types.py`.
"""

import math
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from operator import attrgetter
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple

from spg_trainer.errors import ConfigError, ModelError, first_line
from spg_trainer.settings import packages  # `packages.envs` is ours, loaded on first use
from spg_trainer.settings.configs import (
    BatchConfig,
    Config,
    EvalCommand,
    MergeCommand,
    OptimizerConfig,
    TaskSettings,
)
from spg_trainer.settings.decoding import Sampling, check_steps
from spg_trainer.settings.model import LoadConfig, ModelConfig, trains_adapters
from spg_trainer.settings.recorded import model_environment, record_of, refuse_unregistered, run_holding
from spg_trainer.settings.task import BAD_ROWS, refuse_rows_arguments
from spg_trainer.settings.types import check_values, settings_of
from spg_trainer.settings.weights import is_embedded, resolve_model

if TYPE_CHECKING:
    import torch


class Refusal(NamedTuple):
    """A row of a table. In its functions, `f` has each setting under its own name, and what the checks add below."""

    holds: Callable[[Any], object]
    """Whether the settings are refused."""
    sentence: str
    """What is wrong and what would be right, with figures in braces."""
    error: type[ConfigError] | type[ModelError] = ConfigError


ALGORITHM_FOR = {"pairs": "vrpo", "demonstrations": "mle"}
"""{--source of completions that are given, not sampled: the algorithm that an error advises for it}. An algorithm can
learn from such a source if the source's name is among the algorithm's `needs`."""
NO_REVISION = r"""(?x)
    [\s\x00-\x20\x7f~^:?*\[\\]  # spaces, control characters, and those that git keeps for itself
    |\.\.|@\{|(^|/)[.-]|(\.|\.lock)(/|$)  # `..` and `@{`; parts that begin with `.` or `-`, or end with `.` or `.lock`
    |//|^/|/$|^$  # parts without a letter
"""
"""Matches what git allows in no name of a branch, tag or commit. Source: git-check-ref-format."""

# Of any command on a task.
OF_A_TASK = (
    Refusal(
        lambda f: "split" in f.env_args,
        "$env_args split={env_args[split]}: use $split or $eval_split instead.",
    ),
    Refusal(
        lambda f: "reward_weights" in f.env_args,
        "$env_args reward_weights={env_args[reward_weights]}: use $reward_weights instead.",
    ),
    Refusal(
        lambda f: f.load_4bit and f.shard != "none",
        "$shard: weights in 4 bits are not divided. Leave out $shard or $load_4bit.",
    ),
    Refusal(
        lambda f: f.expert_parallel > 1 and f.shard != "layer",
        "$expert_parallel={expert_parallel}: processes exchange tokens in every pass, and so must make their passes "
        "together. Use $shard=layer.",
    ),
    Refusal(
        lambda f: f.weights and f.revision is not None and f.weights.is_local,
        "$revision={revision}: $model={model} is no model of the Hub, and only these have revisions. Leave it out.",
    ),
    Refusal(
        lambda f: f.weights and f.revision is not None and re.search(NO_REVISION, f.revision),
        "$revision={revision!r}: no branch, tag or commit is called so. Use e.g. $revision=main, or the commit that "
        "the model's page shows.",
    ),
    Refusal(
        lambda f: not re.fullmatch(r"auto|cpu|mps|(cuda|xpu)(:\d+)?", f.device),
        "$device={device!r}: there is no such device. Use auto, cpu, cuda or cuda:0.",
        ModelError,
    ),
)
# Of adapters, where there are none.
OF_ADAPTERS = (
    Refusal(
        lambda f: (
            not f.has_adapters
            and (f.lora_alpha is not None or f.lora_dropout or f.lora_experts or [*f.lora_targets] != ["all"])
        ),
        "$lora_alpha, $lora_dropout, $lora_targets and $lora_experts need adapters, and without a rank there are none: "
        "all weights would be trained. Set $lora_r, e.g. 128, or leave them out.",
    ),
)
# Of the weights that a training begins with; a run that goes on has begun with them.
OF_A_START = (
    Refusal(
        lambda f: f.is_new and f.hidden_size % (2 * f.num_heads),  # rotary positions need heads of even width
        "$hidden_size={hidden_size} cannot be shared by {num_heads} heads of even width. Use "
        "$hidden_size={even_width}.",
    ),
    Refusal(
        lambda f: f.is_new and (f.lora_r or f.revision or f.dtype not in ("auto", "float32")),
        "$model={model} takes no $lora_r, $revision or $dtype: they need $model=PATH.",
    ),
    Refusal(
        lambda f: f.load_4bit and not f.has_adapters,
        "$load_4bit stores a base that is not trained. Set $lora_r, e.g. 64.",
    ),
)
OF_A_TRAINING = (
    Refusal(
        lambda f: (
            f.merge_for_rollouts
            and (
                not f.has_adapters
                or f.load_4bit
                or f.lora_experts
                or f.shard != "none"
                or f.rollout_engine
                or f.source in ("pairs", "demonstrations")
            )
        ),
        "$merge_for_rollouts multiplies adapters of linear layers into a whole base, from which this process samples: "
        "it needs $lora_r, and $load_4bit, $lora_experts, $shard, $rollout_engine and $source left out. Leave it or "
        "them out.",
    ),
    Refusal(
        lambda f: f.compile and f.shard != "none",
        "$compile: layers that $shard gathers are not compiled. Leave out one of the two.",
    ),
    Refusal(
        lambda f: f.compile and f.sequence_parallel > 1,
        "$compile: layers whose columns $sequence_parallel divides are not compiled. Leave out one of the two.",
    ),
    Refusal(
        lambda f: f.expert_parallel > 1 and f.lora_experts,
        "$expert_parallel={expert_parallel}: adapters of experts are not divided. Leave out $lora_experts, which "
        "leaves adapters on attention, or leave out $expert_parallel.",
    ),
    Refusal(
        lambda f: f.pairs and f.source != "pairs",
        "$pairs is for $source=pairs, not {source}. Leave one of them out.",
    ),
    Refusal(
        lambda f: f.data and f.source != "demonstrations",
        "$data is for $source=demonstrations, not {source}. Leave one of them out.",
    ),
    Refusal(
        lambda f: f.mix and f.source != "demonstrations",
        "$mix is for $source=demonstrations, not {source}. Leave one of them out.",
    ),
    Refusal(
        lambda f: f.source == "pairs" and not f.pairs,
        "$source=pairs learns from a file. Name it with $pairs.",
    ),
    Refusal(
        lambda f: f.data and not (Path(f.data).is_file() or packages.envs.files.sft_data.names_hub(f.data)),
        "$data={data}: there is no such file (looked in {here}). Give a file, or the name of a data set on the hub, "
        "ORG/NAME.",
    ),
    Refusal(
        lambda f: f.data and f.mix,
        "$mix gives shares to an environment's habits. With $data every row is learned: leave it out.",
    ),
    Refusal(
        lambda f: f.data and f.arguments and not f.env,
        "{arguments}: with $data there is no task that would take this. A file of $data has the columns `prompt` and "
        "`completion`, or chat `messages`: rename its columns, or teach it as a task, with $env=FILE $env_args "
        "prompt=COLUMN demonstration=COLUMN and $verifier or $reward.",
    ),
    Refusal(
        lambda f: f.source == "demonstrations" and f.num_generations != 1,
        "$num_generations={num_generations}: each demonstration is one completion. Use $num_generations=1.",
    ),
    Refusal(  # 8 fits every algorithm, also one that needs a multiple of some number
        lambda f: f.source != "demonstrations" and f.num_generations < 2,
        "$num_generations={num_generations}: should be at least 2, to judge each against the others. Try 8.",
    ),
    Refusal(
        lambda f: f.processes and not f.dry_run,
        "$processes is what $dry_run computes for. Add $dry_run, or leave it out.",
    ),
    Refusal(
        lambda f: f.gpu and not f.dry_run,
        "$gpu={gpu} is what $dry_run computes for. Add $dry_run, or leave it out.",
    ),
    Refusal(
        lambda f: f.gpu and f.device == "cpu",
        "$gpu={gpu} and $device=cpu say two things. Leave one of them out.",
    ),
    Refusal(
        lambda f: f.patience and not f.eval_steps,
        "$patience={patience} counts validations. Set $eval_steps, e.g. 20, or $patience=0.",
    ),
    Refusal(
        lambda f: f.all_right_weight != BatchConfig.all_right_weight and not f.pools,
        "$all_right_weight={all_right_weight} says nothing without $pools. Add $pools.",
    ),
    Refusal(
        lambda f: f.all_wrong_weight != BatchConfig.all_wrong_weight and not f.pools,
        "$all_wrong_weight={all_wrong_weight} says nothing without $pools. Add $pools.",
    ),
    Refusal(
        lambda f: f.pools and f.source != "environment",
        "$pools: nothing is sampled with $source={source}. Leave it out.",
    ),
    Refusal(
        lambda f: f.importance_sampling_mode != Config.importance_sampling_mode and not f.rollout_engine,
        "$importance_sampling_mode={importance_sampling_mode} is for what $rollout_engine samples. Leave it out.",
    ),
    Refusal(
        lambda f: f.importance_sampling_cap != Config.importance_sampling_cap and not f.rollout_engine,
        "$importance_sampling_cap={importance_sampling_cap} is for what $rollout_engine samples. Leave it out.",
    ),
    Refusal(
        lambda f: f.mask_truncated and f.source != "environment",
        "$mask_truncated: nothing is sampled with $source={source}, and so nothing is cut. Leave it out.",
    ),
    Refusal(
        lambda f: f.sample_rows and not f.sample_steps,
        "$sample_rows={sample_rows} says nothing with $sample_steps=0, which writes none. Leave one of them out.",
    ),
    Refusal(
        lambda f: f.num_minibatches > f.prompts_per_step,
        "$num_minibatches={num_minibatches}: a step has {prompts_per_step} groups. Use {prompts_per_step} or fewer.",
    ),
    Refusal(
        lambda f: (
            f.lr_decay_share != OptimizerConfig.lr_decay_share and f.lr_schedule != "warmup_stable_decay"
        ),
        "$lr_decay_share={lr_decay_share} says nothing with $lr_schedule={lr_schedule}. Leave it out, or use "
        "$lr_schedule=warmup_stable_decay.",
    ),
    Refusal(
        lambda f: f.optimizer == "muon" and f.adam_moments == "8bit",
        "$adam_moments=8bit with $optimizer=muon: only AdamW's moments are stored in 8 bits. Use "
        "$adam_moments=float32 or $optimizer=adamw.",
    ),
    Refusal(
        lambda f: f.shard != "none" and f.optimizer == "muon",
        "$shard: Muon needs whole matrices. Use $optimizer=adamw.",
    ),
    Refusal(
        lambda f: f.shard != "none" and f.adam_moments == "8bit",
        "$shard with $adam_moments=8bit: blocks of them share a scale, so that another number of processes could not "
        "resume. Use $adam_moments=float32.",
    ),
    Refusal(
        lambda f: f.shard != "none" and f.save_dtype != "auto",
        "$shard writes weights as they are trained, not in {save_dtype}. Use $save_dtype=auto.",
    ),
    Refusal(
        lambda f: f.save_dtype != "auto" and f.has_adapters,
        "$save_dtype={save_dtype} is for whole models, not adapters. Use auto.",
    ),
)
OF_AN_EVALUATION = (
    Refusal(
        lambda f: f.num_generations > 1 and f.temperature == 0,
        "$num_generations={num_generations} at $temperature=0 gives equal completions. Raise it, e.g. "
        "$temperature=0.9.",
    ),
    Refusal(
        lambda f: f.perplexity is None and f.num_masks != EvalCommand.num_masks,
        "$num_masks={num_masks} is for $perplexity=FILE. Name the file, or leave it out.",
    ),
    Refusal(
        lambda f: f.perplexity and f.num_masks % 8,
        "$num_masks={num_masks}: they are drawn in eight groups, whose differences show how far chance moves the "
        "result. Use {masks_by_8}.",
    ),
)
# With the number of processes.
OF_PROCESSES = (
    Refusal(
        lambda f: f.num_processes > 1 and ":" in f.device,
        "$device={device} is one GPU, not {num_processes}. Leave out $device.",
    ),
    Refusal(
        lambda f: f.shard != "none" and f.num_processes == 1,
        "$shard divides the weights among processes, and this is the only one. Start several, e.g. with `torchrun "
        "--nproc-per-node 8 -m spg_trainer`, or use this one alone: $shard=none $expert_parallel=1.",
    ),
    Refusal(
        lambda f: f.num_processes % f.sequence_parallel,
        "$sequence_parallel={sequence_parallel} makes groups of {sequence_parallel} processes, and there {are_here}. "
        "Start a multiple of {sequence_parallel}, e.g. with `torchrun --nproc-per-node {sequence_parallel} -m "
        "spg_trainer`, or leave it out.",
    ),
    Refusal(
        lambda f: f.num_processes % f.expert_parallel,
        "$expert_parallel={expert_parallel} does not divide the {num_processes} processes into equal groups. Use a "
        "divisor of their number.",
    ),
)
# With the algorithm: `f.built` is an instance of its class, whose attributes (algorithms/base.py) say what it needs.
OF_AN_ALGORITHM = (
    Refusal(
        lambda f: f.scores_fallbacks and ("fallback" not in f.unmasking_rule.reads or f.fallback == "surest"),
        "$unmasking={unmasking} $fallback={fallback}: $algorithm={algorithm} learns from steps at which no token "
        "reaches the threshold, and which then write the leftmost one. Use $unmasking=threshold $fallback=leftmost.",
    ),
    Refusal(
        lambda f: ":" in f.unmasking and not (f.unmasks_safely or f.force or f.scores_fallbacks),
        "$unmasking={unmasking}: training needs a limit to what your own rule unmasks in one step, since the tokens of "
        "a step have not seen each other. Use $max_tokens_per_step=4, or insist with $force.",
    ),
    Refusal(  # an algorithm that learns only from steps of low confidence does not raise the confidence of other tokens
        lambda f: not (f.unmasks_safely or f.force or f.scores_fallbacks),
        "{shortcuts}: unmasking by confidence feeds on what RL raises. Train with $unmasking=threshold, dynamic or "
        "budget, a $threshold of 0.95 or more, a $factor of 1 or less and $max_tokens_per_step=4, or insist with "
        "$force.",
    ),
    Refusal(
        lambda f: f.editing_threshold is not None and f.built.reads_path,
        "$editing_threshold={editing_threshold}: $algorithm={algorithm} with masking={built.masking} learns from the "
        "steps by which a completion was written, and a token that is replaced is in none of them. Leave it out, or "
        "use an algorithm that learns from the finished text alone, e.g. $algorithm=raft.",
    ),
    Refusal(
        lambda f: "demonstrations" in f.built.needs and f.source != "demonstrations",
        "$algorithm={algorithm} learns from demonstrations: python -m spg_trainer sft.",
    ),
    Refusal(
        lambda f: f.source in ALGORITHM_FOR and f.source not in f.built.needs,
        "$source={source}: $algorithm={algorithm} learns only from what the model samples. Use "
        "$algorithm={algorithm_for_source}.",
    ),
    Refusal(
        lambda f: f.source != "environment" and f.max_rollout_batches > 1,
        "$max_rollout_batches={max_rollout_batches}: with $source={source} nothing is sampled that could be set aside. "
        "Leave it at 1.",
    ),
    Refusal(
        lambda f: f.source == "pairs" and f.num_generations != 2,
        "$num_generations={num_generations}: a pair is two. Use $num_generations=2.",
    ),
    Refusal(
        lambda f: f.built.left_to_right and f.block_length != 1,
        "$algorithm={algorithm} samples token by token, not in blocks of {block_length}. Use $block_length=1 "
        "$diffusion_steps={max_completion_length}.",
    ),
    Refusal(
        lambda f: f.built.left_to_right and f.num_iterations * f.num_minibatches > 1,
        "$algorithm={algorithm} has no ratio for several updates of a rollout. Use $num_iterations=1 "
        "$num_minibatches=1.",
    ),
    Refusal(
        lambda f: f.score_temperature not in (1.0, f.temperature),
        "$algorithm_args score_temperature={score_temperature:g}: completions are sampled at "
        "$temperature={temperature:g}, so that this would be neither the distribution that they are drawn from nor the "
        "model's. Leave it out, or use the same temperature for both.",
    ),
    # The reference is the model that training started from: the weights without the adapters' changes, or a frozen copy
    # (--ref-copy). With `ref_model_sync_steps`, the frozen copy follows the policy.
    Refusal(
        lambda f: f.ref_copy and "reference" not in f.built.needs,
        "$ref_copy: $algorithm={algorithm} asks for no reference. Leave it out, or give a KL term its weight, e.g. "
        "$algorithm_args beta=0.04, where the algorithm has one.",
    ),
    Refusal(
        lambda f: "reference" in f.built.needs and not (f.ref_copy or f.has_adapters),
        "$algorithm={algorithm} needs a reference, and all weights are trained. Set $lora_r, e.g. 128, start from an "
        "adapter ($model=PATH), or keep a frozen copy of the weights ($ref_copy).",
    ),
    Refusal(
        lambda f: (
            "reference" in f.built.needs
            and (f.shard != "none" and not f.has_adapters and f.built.ref_model_sync_steps)
        ),
        "$shard: the reference of $algorithm={algorithm} takes in the policy every {built.ref_model_sync_steps} "
        "updates, and no such reference is kept of divided weights. Use $algorithm_args ref_model_sync_steps=0, or "
        "$lora_r=128.",
    ),
    Refusal(
        lambda f: f.prompts_per_step * f.num_generations < f.fewest_completions,
        "$prompts_per_step={prompts_per_step} leaves some of {num_processes} processes without a completion. Use "
        "{fewest_prompts} or more.",
    ),
    # An algorithm that also gives every completion the same bonus, whatever the completion earns (`elbo_bonus`), is
    # refused as well: it would learn from this bonus alone.
    Refusal(
        lambda f: f.source == "environment" and not (f.force or f.draws_noise or f.built.right_groups_teach),
        "$temperature={temperature:g}: decoding without chance writes {num_generations} times the same completion to a "
        "problem, whose equal rewards teach $algorithm={algorithm} nothing. Use $temperature=0.9, or an algorithm that "
        "imitates right completions ($algorithm=raft), or insist with $force.",
    ),
)


def refuse(rows: Iterable[Refusal], f: SimpleNamespace) -> None:
    """Raises the error of the first row that holds."""
    for row in rows:
        if row.holds(f):
            raise row.error(row.sentence.format(**vars(f)))


def by_own_names(settings: Any) -> dict[str, Any]:
    """{name of a setting, without its group: value}; no two settings of a command have the same name."""
    return {name: attrgetter(dotted)(settings) for name, (dotted, _) in settings_of(type(settings)).items()}


def round_up(number: int, unit: int) -> int:
    """The smallest multiple of `unit` that is not below `number`."""
    return math.ceil(number / unit) * unit


def check(command: Any, origins: Mapping[str, str] | None = None) -> None:
    """Refuses settings that cannot work, whatever the algorithm, and files, tasks and models that do not exist.

    origins: {dotted name: the layer that set it}, as in `Resolved`; None for settings that were made in Python.
    """
    check_values(command)
    if isinstance(command, MergeCommand) and command.source:
        resolve_model(command.source)
    if not isinstance(command, TaskSettings):
        return
    if origins is not None and "env" not in origins and not getattr(command, "perplexity", None):
        refuse_model_of_texts(command.model.model)
    refuse_rows_arguments(command.env, command.env_args, getattr(command, "data", None))
    model: LoadConfig = command.model
    is_new = is_embedded(model.model, "new")
    # A resumed training may have its own copy of a model that is gone.
    resumes = isinstance(command, Config) and bool(command.output.resume)
    weights = None if resumes or is_new else resolve_model(model.model, command.env)
    f = SimpleNamespace(**by_own_names(command), weights=weights, is_new=is_new)
    refuse(OF_A_TASK, f)
    if not (isinstance(command, Config) and command.is_for_other_machines):
        check_build(model.device)
    if isinstance(command, Config):
        f.has_adapters, f.even_width = (
            trains_adapters(model),
            round_up(model.hidden_size, 2 * model.num_heads),
        )
        refuse(() if resumes else (*OF_A_START, *OF_ADAPTERS), f)
        f.here, f.arguments = Path.cwd(), ", ".join(name for name in command.env_args if name != BAD_ROWS)
        refuse(OF_A_TRAINING, f)
        # Demonstrations may leave lengths open, which `settle` fills in later.
        if command.source != "demonstrations" or command.rollout.is_settled:
            command.rollout.check_together()
    elif isinstance(command, EvalCommand):
        f.masks_by_8 = round_up(f.num_masks, 8)
        refuse(OF_AN_EVALUATION, f)
        for steps in command.rollout.diffusion_steps:
            check_steps(steps)  # what does not fit is refused by `EvalRollout.samplings`
    if command.env:  # comes last, because the package `envs` takes a while to load
        run = run_holding((resumes and command.output.resume) or model.model)
        if run and command.env == record_of(run).get("env"):
            refuse_unregistered(run, command.env)
        packages.envs.resolve(command.env)


def check_build(name: str) -> None:
    """Refuses a CUDA device if the installed torch is built for the CPU alone."""
    if "torch" in sys.modules:  # this check only saves the import of torch, which refuses the device itself
        return
    try:
        build = version("torch")
    except PackageNotFoundError:  # importing it will raise that it is missing
        return
    if name.startswith("cuda") and build.endswith("+cpu"):
        raise ModelError(
            f"device {name!r}: torch {build} is built without CUDA; use $device=cpu, or install torch for CUDA "
            "(pytorch.org)"
        )


def refuse_model_of_texts(model: str) -> None:
    """Raises ConfigError if the model was trained on texts, for no task, while nobody names one."""
    record = model_environment(model)
    if record and "env" not in record:
        raise ConfigError(
            f"--model {model} was made from texts, for no task. Name one, e.g. --env countdown."
        )


def check_processes(model: LoadConfig, num_processes: int) -> None:
    """Refuses a single GPU for several processes, --shard with a single one, and unequal groups of them."""
    are_here = "is one process" if num_processes == 1 else f"are {num_processes} processes"
    settings = {"sequence_parallel": 1, **by_own_names(model)}  # an evaluation has no such setting
    refuse(OF_PROCESSES, SimpleNamespace(**settings, num_processes=num_processes, are_here=are_here))


def check_algorithm(config: Config, algorithm: Any, num_processes: int = 1) -> None:
    """Refuses decoding, updates, model or processes that do not fit the algorithm.

    algorithm: an instance of a class of `algorithms/`, whose class attributes say what it needs.
    """
    rollout, size = config.rollout, config.batch.num_generations
    algorithm.make_masking().check(rollout.max_completion_length)
    # With pairs, or an algorithm that is dealt by groups, each process gets whole groups.
    in_groups = algorithm.dealt_by == "group" or config.source == "pairs"
    fewest_completions = num_processes * (size if in_groups else 1)
    refuse(
        OF_AN_ALGORITHM,
        SimpleNamespace(
            **by_own_names(config),
            built=algorithm,
            scores_fallbacks="fallback" in algorithm.records,
            score_temperature=getattr(algorithm, "score_temperature", 1.0),
            shortcuts=", ".join(rollout.shortcuts),
            unmasks_safely=unmasks_safely(rollout),
            unmasking_rule=rollout.unmasking_rule,
            draws_noise=rollout.draws_noise,
            has_adapters=trains_adapters(config.model),
            algorithm_for_source=ALGORITHM_FOR.get(config.source),
            num_processes=num_processes,
            fewest_completions=fewest_completions,
            fewest_prompts=math.ceil(fewest_completions / size),
        ),
    )


def unmasks_safely(rollout: Sampling) -> bool:
    """Whether training cannot make each step unmask more and more tokens: by the schedule, or surely and with a limit.

    Tokens of high confidence are unmasked together, and RL raises confidence. Without a high threshold and a limit,
    each step would then write more and more tokens at once, which have not seen each other.
    """
    rule, is_own = rollout.unmasking_rule, ":" in rollout.unmasking
    is_sure = is_own or rule.is_sure(rollout.threshold, rollout.factor)
    # In a canvas that is drawn anew, a token that was accepted is predicted again in each later step.
    return rule.is_planned or rule.redraws or (rollout.max_tokens_per_step > 0 and is_sure)


def check_machine(model: ModelConfig, adam_moments: str) -> None:
    """Raises ConfigError or ModelError if a device, a compiler or a package that the settings need is missing."""
    device = find_device(model.device)
    if model.load_4bit:
        check_bitsandbytes()
    if model.compile:
        check_compiler(device)
    if adam_moments == "8bit":
        check_torchao(device)


def find_device(name: str) -> "torch.device":
    """The device of --device; ModelError if it is not here."""
    import torch

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:  # unknown, not here, or torch is built without CUDA
        raise ModelError(f"device {name!r}: {first_line(error)}; use auto, cpu, cuda or cuda:0") from error


def check_bitsandbytes() -> None:
    """Raises ModelError if bitsandbytes is missing, with which --load-4bit stores weights."""
    if find_spec("bitsandbytes") is None:
        raise ModelError('$load_4bit needs the package bitsandbytes: pip install "bitsandbytes>=0.49"')


def check_compiler(device: "torch.device") -> None:
    """Raises ConfigError if there is no compiler for --compile."""
    if missing := missing_compiler(device):
        raise ConfigError(f"$compile needs {missing}, and there is none. Install it, or leave out $compile.")


def check_torchao(device: "torch.device") -> None:
    """Raises ConfigError if torchao, whose AdamW has moments of 8 bits, is missing or cannot run."""
    try:
        import torchao.optim  # noqa: F401
    except ImportError as error:
        text = f"$adam_moments=8bit is torchao's, which cannot be imported here ({error})"
        raise ConfigError(f"{text}. `pip install torchao`, or use $adam_moments=float32.") from error
    if missing := missing_compiler(device):
        text = f"$adam_moments=8bit: torchao compiles its step, which needs {missing}"
        raise ConfigError(f"{text}, and there is none. Install it, or use $adam_moments=float32.")


def missing_compiler(device: "torch.device") -> str:
    """The name of the program that torch needs to compile for a device, if it is missing; "" if it is installed."""
    if device.type == "cpu":
        has_compiler = any(map(shutil.which, ("c++", "g++", "clang++")))
        return "" if has_compiler else "a C++ compiler on a CPU"
    return "" if find_spec("triton") else "triton on a GPU"


def crowded_cores(device: "torch.device") -> str:
    """A warning if other work leaves fewer free cores than PyTorch has threads; "" if not, and on a GPU.

    A thread that waits for a core makes all the others wait at each operation.
    """
    import torch

    threads, cores = torch.get_num_threads(), os.cpu_count() or 1
    free = max(1, cores - others_running())
    if device.type != "cpu" or free >= threads:
        return ""
    return (
        f"PyTorch has {threads} threads, but other work leaves about {free} of {cores} cores free: steps may take "
        f"many times as long. Set OMP_NUM_THREADS={free}, or wait until the machine is idle."
    )


def others_running() -> int:
    """How many cores other processes keep busy, both now and over the last minute; 0 if the system does not say."""
    try:
        minute, _, _, now, _ = Path("/proc/loadavg").read_text(encoding="ascii").split()
    except OSError:
        return 0
    others_now = int(now.partition("/")[0]) - 1  # without this process
    return min(round(float(minute)), others_now)
