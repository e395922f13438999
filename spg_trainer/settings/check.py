"""Refuses settings that cannot work, before anything is loaded; each message names a value that would.

`check` judges settings and files, and needs no torch. `check_algorithm` and `check_chance` refuse settings that do not
fit the algorithm, `check_processes` those that do not fit the number of processes. Each function takes only the
settings that it judges. `check_machine` looks for the devices, compilers and packages that settings need; a dry run for
other machines leaves it out. All raise ConfigError, except ModelError for a model or a device that cannot be used, and
EnvError for a task that cannot be found.

Names of settings that do not exist never come here. They are refused where they are read, with the nearest known name
("Did you mean ..."): flags in `flags.py`, keywords in `resolve.py`, and keys of a file in `values.py`.
"""

import math
import os
import re
import shutil
import sys
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any

from spg_trainer.errors import ConfigError, ModelError, first_line
from spg_trainer.settings import packages  # `packages.envs` is ours, loaded on first use
from spg_trainer.settings.arguments import refuse_rows_arguments
from spg_trainer.settings.decoding import Sampling, check_steps
from spg_trainer.settings.fields import (
    BatchConfig,
    Config,
    EvalCommand,
    MergeCommand,
    OptimizerConfig,
    TaskSettings,
)
from spg_trainer.settings.model import LoadConfig, ModelConfig, trains_adapters
from spg_trainer.settings.recorded import model_environment
from spg_trainer.settings.values import check_ranges
from spg_trainer.settings.weights import Weights, is_embedded, resolve_model

if TYPE_CHECKING:
    import torch


def refuse(is_wrong: object, message: str) -> None:
    """Raises ConfigError if `is_wrong` counts as true. The `message` must name what would be right."""
    if is_wrong:
        raise ConfigError(message)


def round_up(number: int, unit: int) -> int:
    """The smallest multiple of `unit` that is not below `number`."""
    return math.ceil(number / unit) * unit


ALGORITHM_FOR = {"pairs": "vrpo", "demonstrations": "mle"}
"""{--source of completions that are given, not sampled: the algorithm that an error advises for it}. An algorithm can
learn from such a source if the source's name is among the algorithm's `needs`."""


def check(command: Any) -> None:
    """Refuses numbers and choices that are not allowed, and files, tasks and devices that do not exist."""
    check_ranges(command)
    if isinstance(command, MergeCommand) and command.source:
        resolve_model(command.source)
    if not isinstance(command, TaskSettings):
        return
    check_arguments(command.env_args)
    refuse_rows_arguments(command.env, command.env_args, getattr(command, "data", None))
    # A resumed training may have its own copy of a model that is gone.
    resumes = isinstance(command, Config) and bool(command.output.resume)
    check_load(command.model, command.env, resumes)
    # A dry run for other machines needs no device of this machine.
    if not (isinstance(command, Config) and command.is_for_other_machines):
        check_build(command.model.device)
    if isinstance(command, Config):
        check_training(command)
    elif isinstance(command, EvalCommand):
        check_eval(command)
    if command.env:  # comes last, because the package `envs` takes a while to load
        packages.envs.resolve(command.env)


def refuse_model_of_texts(command: TaskSettings, origins: Mapping[str, str]) -> None:
    """Raises ConfigError if the model was trained on texts, for no task, and nobody names one."""
    needs_task = not getattr(command, "perplexity", None)
    if not needs_task or "env" in origins:
        return
    record = model_environment(command.model.model)
    if record and "env" not in record:
        raise ConfigError(
            f"--model {command.model.model} was made from texts, for no task. Name one, e.g. --env countdown."
        )


def check_arguments(env_args: Mapping[str, object]) -> None:
    """Refuses arguments of a task that have flags of their own."""
    own_flags = {"split": "$split or $eval_split", "reward_weights": "$reward_weights"}
    for name in own_flags.keys() & env_args.keys():
        raise ConfigError(f"$env_args {name}={quote(str(env_args[name]))}: use {own_flags[name]} instead.")


def check_load(model: LoadConfig, env: str, resumes: bool) -> None:
    """Refuses a model, a revision, adapters, --shard and a device that cannot be used.

    In a resumed run, only the device and what --shard excludes are checked.
    """
    is_training, is_new = isinstance(model, ModelConfig), is_embedded(model.model, "new")
    refuse(
        model.load_4bit and model.is_divided,
        "$shard: weights in 4 bits are not divided. Leave out $shard or $load_4bit.",
    )
    refuse(
        is_training and model.compile and model.is_divided,
        "$compile: layers that $shard gathers are not compiled. Leave out one of the two.",
    )
    refuse(
        is_training and model.compile and model.sequence_parallel > 1,
        "$compile: layers whose columns $sequence_parallel divides are not compiled. Leave out one of the two.",
    )
    refuse(
        model.expert_parallel > 1 and model.shard != "layer",
        f"$expert_parallel={model.expert_parallel}: processes exchange tokens in every pass, and so must make their "
        "passes together. Use $shard=layer.",
    )
    refuse(
        model.expert_parallel > 1 and is_training and model.lora_experts,
        f"$expert_parallel={model.expert_parallel}: adapters of experts are not divided. Leave out $lora_experts, "
        "which leaves adapters on attention, or leave out $expert_parallel.",
    )
    if not resumes and is_training:
        width, heads, trained = model.hidden_size, model.num_heads, trains_adapters(model)
        unit = 2 * heads  # rotary positions need heads of even width
        refuse(
            is_new and width % unit,
            f"$hidden_size={width} cannot be shared by {heads} heads of even width. Use "
            f"$hidden_size={round_up(width, unit)}.",
        )
        refuse(
            is_new and (model.lora_r or model.revision or model.dtype not in ("auto", "float32")),
            f"$model={model.model} takes no $lora_r, $revision or $dtype: they need $model=PATH.",
        )
        refuse(
            model.load_4bit and not trained,
            "$load_4bit stores a base that is not trained. Set $lora_r, e.g. 64.",
        )
        refuse(
            (model.lora_alpha is not None or model.lora_dropout) and not trained,
            "$lora_alpha and $lora_dropout need adapters. Set $lora_r, e.g. 128.",
        )
    if not resumes and not is_new:  # a new model has no weights to look for
        check_revision(model, resolve_model(model.model, env))
    if not re.fullmatch(r"auto|cpu|mps|(cuda|xpu)(:\d+)?", model.device):
        raise ModelError(f"$device={model.device!r}: there is no such device. Use auto, cpu, cuda or cuda:0.")


def check_revision(model: LoadConfig, weights: Weights) -> None:
    """Refuses a revision if the model is not from the Hub, or if git does not allow the name of the revision.

    Source of what git allows: git-check-ref-format.
    """
    if model.revision is None:
        return
    refuse(
        weights.is_local,
        f"$revision={model.revision}: $model={model.model} is no model of the Hub, and only these have revisions. "
        "Leave it out.",
    )
    has_empty_part = not all(model.revision.split("/"))
    # Spaces, control characters and ~^:?*[\; `..` and `@{`; parts that begin with `.` or `-`, or that end with `.` or
    # `.lock`.
    forbidden = r"[\s\x00-\x20\x7f~^:?*\[\\]|\.\.|@\{|(^|/)[.-]|(\.|\.lock)(/|$)"
    if has_empty_part or re.search(forbidden, model.revision):
        raise ConfigError(
            f"$revision={model.revision!r}: no branch, tag or commit is called so. Use e.g. $revision=main, or the "
            "commit that the model's page shows."
        )


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


def check_training(config: Config) -> None:
    """Refuses decoding, batches, flags and optimizers that cannot work with any algorithm."""
    source, model, batch, optimizer = config.source, config.model, config.batch, config.optimizer
    count, gpu, patience, save_dtype = (
        batch.num_generations,
        config.gpu,
        config.eval.patience,
        config.output.save_dtype,
    )
    # Demonstrations may leave lengths open (`is_settled` is false): `settle_lengths` fills them in later. For any
    # other source, open lengths are refused below, after what is wrong with the source itself.
    if config.rollout.is_settled:
        config.rollout.check_together()
    for name, owner in (("pairs", "pairs"), ("data", "demonstrations"), ("mix", "demonstrations")):
        refuse(
            getattr(config, name) and source != owner,
            f"${name} is for $source={owner}, not {source}. Leave one of them out.",
        )
    refuse(source == "pairs" and not config.pairs, "$source=pairs learns from a file. Name it with $pairs.")
    if config.data:
        check_texts(config.data, config.mix, config.env, config.env_args)
    if source == "demonstrations":
        refuse(
            count != 1,
            f"$num_generations={count}: each demonstration is one completion. Use $num_generations=1.",
        )
    else:
        config.rollout.check_together()
        # The advice is 8 because it fits every algorithm, also one that needs a multiple of some number.
        refuse(
            count < 2,
            f"$num_generations={count}: should be at least 2, to judge each against the others. Try 8.",
        )
    for flag, value in (("$processes", config.processes), (f"$gpu={gpu}", gpu)):
        refuse(
            value and not config.dry_run,
            f"{flag} is what $dry_run computes for. Add $dry_run, or leave it out.",
        )
    refuse(
        gpu and model.device == "cpu",
        f"$gpu={gpu} and $device=cpu say two things. Leave one of them out.",
    )
    refuse(
        patience and not config.eval.eval_steps,
        f"$patience={patience} counts validations. Set $eval_steps, e.g. 20, or $patience=0.",
    )
    for name in ("all_right_weight", "all_wrong_weight"):
        value = getattr(batch, name)
        refuse(
            value != getattr(BatchConfig, name) and not batch.pools,
            f"${name}={value} says nothing without $pools. Add $pools.",
        )
    refuse(
        batch.pools and not config.samples, f"$pools: nothing is sampled with $source={source}. Leave it out."
    )
    refuse(
        batch.num_minibatches > batch.prompts_per_step,
        f"$num_minibatches={batch.num_minibatches}: a step has {batch.prompts_per_step} groups. Use "
        f"{batch.prompts_per_step} or fewer.",
    )
    refuse(
        optimizer.lr_decay_share != OptimizerConfig.lr_decay_share
        and optimizer.lr_schedule != "warmup_stable_decay",
        f"$lr_decay_share={optimizer.lr_decay_share} says nothing with $lr_schedule={optimizer.lr_schedule}. Leave it "
        "out, or use $lr_schedule=warmup_stable_decay.",
    )
    refuse(
        optimizer.optimizer == "muon" and optimizer.adam_moments == "8bit",
        "$adam_moments=8bit with $optimizer=muon: only AdamW's moments are stored in 8 bits. Use "
        "$adam_moments=float32 or $optimizer=adamw.",
    )
    refuse(
        model.is_divided and optimizer.optimizer == "muon",
        "$shard: Muon needs whole matrices. Use $optimizer=adamw.",
    )
    refuse(
        model.is_divided and optimizer.adam_moments == "8bit",
        "$shard with $adam_moments=8bit: blocks of them share a scale, so that another number of processes could not "
        "resume. Use $adam_moments=float32.",
    )
    refuse(
        model.is_divided and save_dtype != "auto",
        f"$shard writes weights as they are trained, not in {save_dtype}. Use $save_dtype=auto.",
    )
    refuse(
        save_dtype != "auto" and trains_adapters(model),
        f"$save_dtype={save_dtype} is for whole models, not adapters. Use auto.",
    )


def check_texts(data: str, mix: Mapping[str, object], env: str, env_args: Mapping[str, object]) -> None:
    """Refuses a file of texts (--data) that does not exist, and settings of a task or a mix besides it."""
    refuse(
        not (Path(data).is_file() or packages.envs.files.texts.names_hub(data)),
        f"$data={data}: there is no such file (looked in {Path.cwd()}). Give a file, or the name of a data set on the "
        "hub, ORG/NAME.",
    )
    refuse(
        mix, "$mix gives shares to an environment's habits. With $data every row is learned: leave it out."
    )
    others = [name for name in env_args if name != "bad_rows"]  # `bad_rows` is for the file of texts itself
    refuse(
        others and not env,
        f"{', '.join(others)}: with $data there is no task that would take this. A file of $data has the columns "
        "`prompt` and `completion`, or chat `messages`: rename its columns, or teach it as a task, with $env=FILE "
        "$env_args prompt=COLUMN demonstration=COLUMN and $verifier or $reward.",
    )


def check_eval(command: EvalCommand) -> None:
    """Refuses several completions of a problem that would be equal, and impossible numbers of steps and masks.

    Lengths, blocks and steps that do not fit together are refused later, by `EvalRollout.samplings`.
    """
    masks, count = command.num_masks, command.num_generations
    refuse(
        count > 1 and command.rollout.temperature == 0,
        f"$num_generations={count} at $temperature=0 gives equal completions. Raise it, e.g. $temperature=0.9.",
    )
    for steps in command.rollout.diffusion_steps:
        check_steps(steps)
    refuse(
        command.perplexity is None and masks != EvalCommand.num_masks,
        f"$num_masks={masks} is for $perplexity=FILE. Name the file, or leave it out.",
    )
    refuse(
        masks % 8,
        f"$num_masks={masks}: they are drawn in eight groups, whose differences show how far chance moves the result. "
        f"Use {round_up(masks, 8)}.",
    )


def check_processes(model: LoadConfig, num_processes: int) -> None:
    """Refuses a single GPU for several processes, --shard with a single one, and unequal groups of them."""
    refuse(
        num_processes > 1 and ":" in model.device,
        f"$device={model.device} is one GPU, not {num_processes}. Leave out $device.",
    )
    refuse(
        model.is_divided and num_processes == 1,
        "$shard divides the weights among processes, and this is the only one. Start several, e.g. with `torchrun "
        "--nproc-per-node 8 -m spg_trainer`, or leave it out.",
    )
    size = model.sequence_parallel if isinstance(model, ModelConfig) else 1
    refuse(
        num_processes % size,
        f"$sequence_parallel={size} makes groups of {size} processes, and there "
        f"{'is one process' if num_processes == 1 else f'are {num_processes} processes'}. Start a multiple of {size}, "
        f"e.g. with `torchrun --nproc-per-node {size} -m spg_trainer`, or leave it out.",
    )
    refuse(
        num_processes % model.expert_parallel,
        f"$expert_parallel={model.expert_parallel} does not divide the {num_processes} processes into equal groups. "
        "Use a divisor of their number.",
    )


def check_algorithm(config: Config, algorithm: Any, num_processes: int = 1) -> None:
    """Refuses decoding, updates, model or processes that do not fit the algorithm.

    algorithm: an instance of a class of `algorithms/`, whose class attributes say what it needs.
    """
    batch, rollout, source, flag = (
        config.batch,
        config.rollout,
        config.source,
        f"$algorithm={config.algorithm}",
    )
    size, prompts = batch.num_generations, batch.prompts_per_step
    algorithm.make_masking().check(rollout.max_completion_length)
    scores_fallbacks = "fallback" in algorithm.records
    refuse(
        scores_fallbacks and (rollout.unmasking != "threshold" or rollout.fallback == "surest"),
        f"$unmasking={rollout.unmasking} $fallback={rollout.fallback}: {flag} learns from steps at which no token "
        "reaches the threshold, and which then write the leftmost one. Use $unmasking=threshold $fallback=leftmost.",
    )
    check_unmasking(rollout, config.force, scores_fallbacks)
    refuse(
        "demonstrations" in algorithm.needs and source != "demonstrations",
        f"{flag} learns from demonstrations: python -m spg_trainer sft.",
    )
    refuse(
        source in ALGORITHM_FOR and source not in algorithm.needs,
        f"$source={source}: {flag} learns only from what the model samples. Use "
        f"$algorithm={ALGORITHM_FOR.get(source)}.",
    )
    refuse(
        not config.samples and batch.max_rollout_batches > 1,
        f"$max_rollout_batches={batch.max_rollout_batches}: with $source={source} nothing is sampled that could be set "
        "aside. Leave it at 1.",
    )
    refuse(
        source == "pairs" and size != 2,
        f"$num_generations={size}: a pair is two. Use $num_generations=2.",
    )
    refuse(
        algorithm.left_to_right and rollout.block_length != 1,
        f"{flag} samples token by token, not in blocks of {rollout.block_length}. Use $block_length=1 "
        f"$diffusion_steps={rollout.max_completion_length}.",
    )
    refuse(
        algorithm.left_to_right and batch.num_iterations * batch.num_minibatches > 1,
        f"{flag} has no ratio for several updates of a rollout. Use $num_iterations=1 $num_minibatches=1.",
    )
    temperature = getattr(algorithm, "score_temperature", 1.0)
    refuse(
        temperature not in (1.0, rollout.temperature),
        f"$algorithm_args score_temperature={temperature:g}: completions are sampled at "
        f"$temperature={rollout.temperature:g}, so that this would be neither the distribution that they are drawn "
        "from nor the model's. Leave it out, or use the same temperature for both.",
    )
    check_reference(config.model, algorithm, flag)
    # With pairs, or an algorithm that is dealt by groups, each process gets whole groups.
    needed = num_processes * (size if algorithm.dealt_by == "group" or source == "pairs" else 1)
    refuse(
        prompts * size < needed,
        f"$prompts_per_step={prompts} leaves some of {num_processes} processes without a completion. Use "
        f"{math.ceil(needed / size)} or more.",
    )


def check_unmasking(rollout: Sampling, force: bool, scores_fallbacks: bool = False) -> None:
    """Refuses unsafe unmasking by confidence, and editing of written tokens.

    Tokens of high confidence are unmasked together, and RL raises confidence. Without a high threshold and a limit,
    each step would then write more and more tokens at once, which have not seen each other. scores_fallbacks: whether
    the algorithm learns only from steps of low confidence, and so does not raise the confidence of other tokens.
    """
    by_threshold = rollout.unmasking in ("threshold", "dynamic")
    by_small_budget = rollout.unmasking == "budget" and rollout.factor <= 1
    is_limited = rollout.threshold >= 0.95 and rollout.max_tokens_per_step > 0
    is_own_and_limited = ":" in rollout.unmasking and rollout.max_tokens_per_step > 0
    is_by_schedule = rollout.unmasking == "schedule"
    is_safe = is_by_schedule or is_own_and_limited or ((by_threshold or by_small_budget) and is_limited)
    refuse(
        ":" in rollout.unmasking and not (is_safe or force or scores_fallbacks),
        f"$unmasking={rollout.unmasking}: training needs a limit to what your own rule unmasks in one step, since the "
        "tokens of a step have not seen each other. Use $max_tokens_per_step=4, or insist with $force.",
    )
    refuse(
        not (is_safe or force or scores_fallbacks),
        f"{', '.join(rollout.shortcuts)}: unmasking by confidence feeds on what RL raises. Train with "
        "$unmasking=threshold, dynamic or budget, a $threshold of 0.95 or more, a $factor of 1 or less and "
        "$max_tokens_per_step=4, or insist with $force.",
    )
    refuse(
        rollout.editing_threshold is not None,
        f"editing_threshold={rollout.editing_threshold}: when a token is replaced, other tokens have been drawn beside "
        "the one that it replaces. No masked copy of the completion shows this, so no bound of a likelihood holds for "
        "what the sampler does. Leave it out of training: give Sampling, not EvalSampling.",
    )


def check_chance(rollout: Sampling, count: int, algorithm: Any, name: str) -> None:
    """Refuses decoding without chance if the algorithm learns nothing from equal completions with equal rewards.

    An algorithm that also gives every completion the same bonus, whatever the completion earns (`elbo_bonus`), is
    refused as well: it would learn from this bonus alone. --force skips this check.

    count: how many completions a problem has. name: the algorithm's.
    """
    refuse(
        not (rollout.draws_noise or algorithm.right_groups_teach),
        f"$temperature={rollout.temperature:g}: decoding without chance writes {count} times the same completion to a "
        f"problem, whose equal rewards teach $algorithm={name} nothing. Use $temperature=0.9, or an "
        "algorithm that imitates right completions ($algorithm=raft), or insist with $force.",
    )


def check_reference(model: ModelConfig, algorithm: Any, flag: str) -> None:
    """Refuses a reference model that the algorithm does not use, or that the run cannot have.

    The reference is the model that training started from: the weights without the adapters' changes, or a frozen copy.
    With `ref_model_sync_steps`, the frozen copy follows the policy; then its weights cannot be divided among processes.
    """
    if "reference" not in algorithm.needs:
        if model.ref_copy:
            raise ConfigError(
                f"$ref_copy: {flag} asks for no reference. Leave it out, or give a KL term its weight, e.g. "
                "$algorithm_args beta=0.04, where the algorithm has one."
            )
        return
    with_adapters = trains_adapters(model)
    if not (model.ref_copy or with_adapters):
        raise ConfigError(
            f"{flag} needs a reference, and all weights are trained. Set $lora_r, e.g. 128, start from an adapter "
            "($model=PATH), or keep a frozen copy of the weights ($ref_copy)."
        )
    if model.is_divided and not with_adapters and algorithm.ref_model_sync_steps:
        raise ConfigError(
            f"$shard: the reference of {flag} takes in the policy every {algorithm.ref_model_sync_steps} updates, and "
            "no such reference is kept of divided weights. Use $algorithm_args ref_model_sync_steps=0, or "
            "$lora_r=128."
        )


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
